"""The notebooks call the package, define nothing, and are kept without outputs. `make notebooks` runs them."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[str]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def test_the_five_notebooks_are_there():
    assert {"00_data", "01_extract", "02_train", "03_evaluate", "04_tag_a_track"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing(notebook):
    others = cells(notebook, "code")[1:]
    nodes = [node for source in others for node in ast.walk(ast.parse(source))]
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_and_installs_there(notebook):
    assert (
        f"colab.research.google.com/github/jamendo-mood/jamendo-mood/blob/main/notebooks/{notebook.name}"
        in (cells(notebook, "markdown")[0])
    )
    first = cells(notebook, "code")[0]
    assert '"google.colab" in sys.modules' in first
    assert "%pip install" in first


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook):
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
