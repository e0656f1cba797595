"""The house itself: who imports whom, what is public, what is installed."""

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jamendo_mood

ROOT = Path(jamendo_mood.__file__).parent
ROOMS = (
    *("util", "audio", "embedders", "store", "extraction", "tasks", "datasets", "training"),
    *("evaluation", "tagging", "library", "app", "cli"),
)
"""In import order: a room imports only from those before it."""
PLUGINS = "cli.beetsplug"
"""A folder whose modules are installed into a namespace of beets'."""
HEAVY = {
    *("tensorflow", "keras", "tensorflow_hub", "pandas", "sklearn", "scipy", "librosa", "matplotlib", "mutagen"),
    *("ipywidgets", "pydub", "pyarrow", "ray", "fsspec", "bokeh", "huggingface_hub"),
}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path):
    """The modules of this package that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name.removeprefix("jamendo_mood.") in MODULES else node.module for name in names}
    below = {name.removeprefix("jamendo_mood").removeprefix(".") for name in found if name.startswith("jamendo_mood")}
    return below - {""}  # the package itself: its __init__ imports nothing


def room_of(name):
    return name.partition(".")[0]


def test_a_room_imports_only_from_rooms_before_it():
    assert {room_of(name) for name in MODULES} == {*ROOMS, "", "__main__"}
    assert imports(MODULES[""]) == set()
    assert imports(MODULES["__main__"]) == {"util.process", "cli.main"}
    pairs = {(room_of(name), room_of(used)) for name in MODULES if "." in name for used in imports(MODULES[name])}
    assert {(room, used) for room, used in pairs if ROOMS.index(used) > ROOMS.index(room)} == set()


def test_one_module_imports_what_is_under_the_gpl():
    users = {name for name, path in MODULES.items() if re.search(r"\b(import|from) mutagen\b", path.read_text("utf-8"))}
    assert users == {"audio.file_tags"}


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({name: imports(path) for name, path in MODULES.items()}).prepare()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_happens_there_and_holds_nothing_else(room):
    if room in {"datasets", "tasks"}:  # also the list that a new data set or kind of task is added to
        assert ast.get_docstring(ast.parse(MODULES[room].read_text(encoding="utf-8")))
        return
    text = MODULES[room].read_text(encoding="utf-8")
    assert text.strip() == f'"""{ast.get_docstring(ast.parse(text), clean=False)}"""'


def test_the_public_names_are_few_sorted_and_there():
    names = jamendo_mood.__all__
    assert names == sorted(names)
    assert 0 < len(names) <= 15
    for name in names:
        public = getattr(jamendo_mood, name)
        assert public.__name__ == name
        assert public.__doc__
        assert name in dir(jamendo_mood)
    namespace = {}
    exec("from jamendo_mood import *", namespace)
    assert {*names} <= namespace.keys()
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = jamendo_mood.nosuch


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (None, set()),  # the package alone
        (["--help"], set()),
        (["extract", "--help"], set()),
        (["verify", "."], set()),
        (["import", "nosuch.parquet", "--store", "store"], {"pyarrow"}),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(words, needed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = "import jamendo_mood" if words is None else "from jamendo_mood.cli.main import main"
    run = "" if words is None else f"with contextlib.suppress(SystemExit):\n    main({words})"
    program = f"import contextlib, sys\n{start}\n{run}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "jamendo_mood" in loaded
    assert loaded & HEAVY <= needed


def test_what_is_installed_says_what_setup_cfg_meant():
    metadata = importlib.metadata.metadata("jamendo-mood")
    assert metadata["Version"] == jamendo_mood.__version__
    assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.15"}
    needed = {re.match(r"[\w-]+", line)[0]: line for line in importlib.metadata.requires("jamendo-mood")}
    for name in ("tensorflow", "tensorflow-hub", "pydub", "numpy", "pandas", "scikit-learn", "imageio-ffmpeg"):
        assert "<" in needed[name]  # bounded
        assert "extra ==" not in needed[name]
    assert 'extra == "notebook"' in needed["ipywidgets"] or 'extra == "dev"' in needed["ipywidgets"]
    assert 'extra == "dev"' in needed["pytest"]
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="jamendo-mood")
    assert entry.value == "jamendo_mood.__main__:main"
    assert entry.load() is importlib.import_module("jamendo_mood.__main__").main


def test_every_module_can_be_imported():
    names = {module.name for module in pkgutil.walk_packages([str(ROOT)], "jamendo_mood.")}
    plugins = {name for name in MODULES if name.startswith(f"{PLUGINS}.")}
    assert names == {f"jamendo_mood.{name}" for name in MODULES.keys() - plugins} - {"jamendo_mood."}
    for name in names:
        importlib.import_module(name)
    for name in plugins:  # by the name that beets knows, in an editable installation too
        assert Path(importlib.import_module(name.removeprefix("cli.")).__file__).samefile(MODULES[name])


def test_plugins_do_not_hide_those_of_beets():
    assert PLUGINS not in MODULES  # no __init__.py: it would make our folder the whole of the namespace
    assert importlib.import_module("beetsplug.replaygain")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_documented_and_small(name):
    text = MODULES[name].read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert text.count("\n") <= 650
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 100, node.name


def test_what_is_no_code_is_installed_too():
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    assert {"py.typed", "datasets/jamendo.sha256", "evaluation/report.css"} <= files
    assert {f"training/taggers/moods/{name}" for name in ("tagger.json", "README.md")} <= files
    (weights,) = (ROOT / "training" / "taggers" / "moods").glob("weights-*.safetensors")
    assert weights.stat().st_size < 2_000_000
