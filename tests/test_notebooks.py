"""The notebooks call the package, define nothing, and are kept without outputs. `make notebooks` runs them."""

import ast
import json
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from jamendo_mood.cli.main import build_parser

pytest_plugins = ["demo_corpus"]

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[str]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def test_the_notebooks_are_there():
    wanted = ("data", "extract", "train", "evaluate", "tag_a_track", "find_music", "valence_arousal")
    assert {f"{number:02d}_{name}" for number, name in enumerate(wanted)} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing_opens_anywhere_and_is_kept_without_outputs(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["metadata"]["kernelspec"]["name"] == "python3"  # it asks for no kernel
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in content["cells"])
    first, *others = cells(notebook, "code")
    nodes = [node for source in others for node in ast.walk(ast.parse(source))]
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    colab = f"colab.research.google.com/github/jamendo-mood/jamendo-mood/blob/main/notebooks/{notebook.name}"
    assert colab in cells(notebook, "markdown")[0]
    assert '"google.colab" in sys.modules' in first
    assert "%pip install" in first


STAND_IN = """
import os, sys, types
from pathlib import Path

calls = []
corpus, store, tagger, song = map(Path, {places!r})

def run(command):
    calls.append(command)
    Path("demo").mkdir()
    for name, folder in (("audio", corpus / "audio"), ("embeddings-logmel", store), ("tagger-logmel", tagger)):
        os.symlink(folder, Path("demo") / name)

get_ipython().system = run
get_ipython().register_magic_function(lambda line: calls.append(f"pip {{line}}"), "line", "pip")
colab = types.ModuleType("google.colab")
widgets = types.SimpleNamespace(_installed_url=None)
enable = lambda: calls.append("custom widgets")
colab.output = types.SimpleNamespace(enable_custom_widget_manager=enable, _widgets=widgets)
colab.files = types.SimpleNamespace(upload=lambda: {{"mine.mp3": song.read_bytes()}})
sys.modules["google.colab"] = colab
sys.modules["google.colab.output"] = colab.output
"""


def test_the_widget_runs_in_colab(tmp_path, corpus, corpus_store, tagger_folder):
    """The notebook's own cells, in a kernel with a stand-in for ``google.colab``: what it installs, its paths, and its
    own upload dialog, which is asked for."""
    notebook = nbformat.read(NOTEBOOKS[0].parent / "04_tag_a_track.ipynb", as_version=4)
    (asking,) = (cell for cell in notebook.cells if cell.source.startswith("ask = False"))
    asking.source = asking.source.replace("ask = False", "ask = True")
    places = [str(place) for place in (corpus.root, corpus_store.root, tagger_folder, corpus.path(0))]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STAND_IN.format(places=places)))
    told = "print(calls, [Path(p.source).name for p in widget.predictions], in_colab, sep='\\n')"
    notebook.cells.append(nbformat.v4.new_code_cell(told))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    calls, songs, in_colab = "".join(output.text for output in notebook.cells[-1].outputs).splitlines()
    installed, demo, custom = ast.literal_eval(calls)
    assert installed.startswith('pip install --quiet "jamendo-mood[notebook] @ git+https://')
    name, *arguments = shlex.split(demo)
    assert name == "jamendo-mood"
    assert str(build_parser().parse_args(arguments).out) == "demo"
    assert custom == "custom widgets"
    assert ast.literal_eval(songs) == ["upload.mp3", max((corpus.root / "audio").glob("*/*.mp3")).name]
    assert in_colab == "True"
