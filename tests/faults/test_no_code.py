"""No module of the package can run what a file says: told by its source, so it holds for whatever is added, too."""

import ast
from pathlib import Path

import pytest

import jamendo_mood

ROOT = Path(jamendo_mood.__file__).parent

MODULES = {
    **dict.fromkeys(("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"), "unpickles"),
    "yaml": "its loader may build objects",
    "torch": "its loader unpickles",
    "h5py": "Keras' old files",
}
"""What is imported nowhere, and why."""

CALLS = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "execfile"), "runs text"),
    **dict.fromkeys(("load_model", "load_weights", "model_from_json", "model_from_config"), "Keras builds objects"),
    **dict.fromkeys(("from_config", "deserialize", "deserialize_keras_object"), "Keras builds objects"),
    **dict.fromkeys(("Lambda", "TFSMLayer"), "Keras builds objects"),
    **dict.fromkeys(("enable_unsafe_deserialization", "load_pickle", "read_pickle", "to_pickle"), "unpickles"),
    **dict.fromkeys(("mktemp", "system", "popen", "spawnl", "startfile"), "a race, or a shell"),
    **dict.fromkeys(("extractall", "extract_all", "unpack_archive"), "members go where they like"),
    **dict.fromkeys(("Interpreter", "load_op_library", "load_delegate"), "trusts the file"),
}
"""What is called nowhere, by whatever name it is reached, and why."""

OF_MODULES = {
    ("saved_model", "load"): "runs the module's graph",
    ("hub", "load"): "runs the module's graph",
    ("tarfile", "open"): "trusts sizes, see `remote.read_members`",
    ("np", "load"): "takes memory by the header, see `untrusted`",
    ("numpy", "load"): "takes memory by the header, see `untrusted`",
    ("connection", "recv"): "unpickles",
    ("connection", "send"): "pickles",
}
ALLOWED = {
    ("embedders/checkpoints", "tarfile.open"),  # of which regular files are written, one by one and bounded
    ("embedders/checkpoints", "safetensors.numpy.load"),
    ("embedders/musicnn", "safetensors.numpy.load"),
    ("training/model", "safetensors.numpy.load"),
}
"""What is checked otherwise, or is no file of numpy's."""


def sources():
    return {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.py"))}


def dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def offences(text, module=""):
    """What a source does that none may, with the lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            bad = [name for name in names if name.partition(".")[0] in MODULES]
            yield from (f"line {node.lineno}: imports {name}" for name in bad)
        if isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {what}" for what in wrong_call(node, module))


def wrong_call(node, module):
    name = dotted(node.func)
    *before, last = name.split(".")
    owner = before[-1] if before else ""
    keywords = {keyword.arg: getattr(keyword.value, "value", ...) for keyword in node.keywords}
    if last in CALLS and (last != "compile" or owner in ("", "builtins")):  # regular expressions have one, too
        yield f"calls {name}: {CALLS[last]}"
    if (owner, last) in OF_MODULES and (module, name) not in ALLOWED:
        yield f"calls {name}: {OF_MODULES[owner, last]}"
    if name in ("np.save", "np.lib.format.read_array") and keywords.get("allow_pickle") is not False:
        yield f"calls {name} without allow_pickle=False"
    if keywords.get("allow_pickle") not in (None, False) or keywords.get("shell") not in (None, False):
        yield f"calls {name} with a pickle or a shell"
    asks = owner.endswith(("requests", "session")) and last in ("get", "post", "head", "request")
    if (asks or last == "urlopen") and "timeout" not in keywords:
        yield f"calls {name} without a timeout"
    if last == "extract" and owner in ("archive", "tar", "zip", "member", "tarfile", "zipfile"):
        yield f"calls {name}: members go where they like"


@pytest.mark.parametrize("name", sources())
def test_a_module_runs_nothing_that_a_file_says(name):
    assert list(offences(sources()[name].read_text(encoding="utf-8"), name)) == []


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "from joblib import load", "import yaml.loader", "eval(text)"),
        *("builtins.exec(text)", "np.load(path)", "np.load(path, allow_pickle=True)"),
        *("np.lib.format.read_array(file)", "numpy.load(path, allow_pickle=flag)"),
        *("keras.models.load_model(path)", "keras.layers.Lambda(f)", "layers.Dense.from_config(config)"),
        *("tf.saved_model.load(path)", "tf.lite.Interpreter(path)", "subprocess.run(command, shell=True)"),
        *("tempfile.mktemp()", "tarfile.open(path)", "archive.extractall(folder)"),
        *("archive.extract(member)", "urllib.request.urlopen(url)", "requests.get(url)", "self._session.get(url)"),
        *("connection.recv()",),
    ],
)
def test_the_test_finds_what_it_looks_for(text):
    assert list(offences(text))


def test_scripts_of_the_page_set_text_and_never_html():
    bad = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "new Function", "srcdoc", "javascript:"]
    paths = sorted(ROOT.rglob("*.js"))
    assert paths
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert [word for word in [*bad, "eval("] if word in text] == [], path.name
