"""What comes from elsewhere: packages within tried bounds, downloads known by their SHA-256, https throughout."""

import ast
import configparser
import contextlib
import functools
import hashlib
import importlib.metadata
import io
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import requests

from jamendo_mood.datasets import jamendo
from jamendo_mood.embedders import vggish, yamnet
from jamendo_mood.util import remote
from jamendo_mood.util.errors import DataError, DownloadError, WeightsError

pytest_plugins = ["flaky_server"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "jamendo_mood"

MODULES_OF_EXTRAS = {
    "notebook": {"kind", "plaintext", "prediction", "spectrograms", "widget"},
    "web": {"api", "kind", "plaintext", "prediction", "server", "spectrograms"},
    "plots": {"overview"},
    "beets": {"jamendomood"},
    "files": {"file_tags"},
    "completion": {"main"},
    "hub": {"hub"},
    "classical": {"handcrafted"},
    "fast": {"decoding"},
    "parquet": {"parquet"},
    "ray": {"cluster"},
}
"""Who may import what comes with an extra."""

NOT_DECLARED = {"google.colab"}  # there on Colab alone
RUN_OR_NEEDED = {
    "build": "python -m build",
    "furo": "make docs",
    "h11": "uvicorn reads requests with it, and older ones can be fooled",
    "jupyter": "what notebooks are opened with",
    "mypy": "make types",
    "myst-parser": "make docs",
    "nbmake": "pytest --nbmake",
    "pandas-stubs": "make types",
    "pytest-xdist": "make test",
    "ruff": "make lint",
    "setuptools": "tensorflow-hub imports its pkg_resources",
    "tensorflow-hub": "a module in its cache is found there",
    "sphinx": "make docs",
    "sphinx-argparse": "make docs",
    "types-tqdm": "make types",
    "websockets": "uvicorn talks to pages with it",
}
"""Requirements that nothing imports, and what they are for."""

NETWORK = {
    ("cluster", "get_file"): "the user's own places",
    ("hub", "snapshot_download"): "the SHA-256 in a tagger and in each embedding, by whoever the user names",
    ("remote", "get"): "MTG's lists of SHA-256, PCA_SHA256, CHECKPOINT_MD5; modules: see SECURITY.md",
    ("jamendo", "urlopen"): "datasets/jamendo.sha256",
}
"""Every call that fetches something, and what tells that it is the right thing."""


def read_requirements():
    """The lines of setup.cfg by extra; those that everybody gets have none."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    texts = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    lines = {extra: [line for line in text.splitlines() if line.strip()] for extra, text in texts.items()}
    return {extra: [line for line in found if line[0] not in "#%"] for extra, found in lines.items()}


def name_of(requirement):
    """In one spelling: jupyter_client is jupyter-client."""
    return re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")


@functools.cache
def read_nodes(path):
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def read_calls(path):
    """The calls in a file, by the last name of what is called."""
    for node in read_nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield getattr(node.func, "id", getattr(node.func, "attr", "")), node


def read_imports(path):
    """The modules that a file imports, also by `import_quietly` and `importorskip`."""
    found = set()
    for node in read_nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    for name, call in read_calls(path):
        if name in ("import_quietly", "importorskip"):
            found.add(call.args[0].value)
    return found


@functools.cache
def read_distributions(*folders):
    """Packages of others by file that imports them: ``{"metrics": {"numpy", "scikit-learn"}}``."""
    names = importlib.metadata.packages_distributions()
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    ours = {*sys.stdlib_module_names, "jamendo_mood", *(path.stem for path in paths)}
    found = {}
    for path in paths:
        for module in read_imports(path) - NOT_DECLARED:
            top = module.partition(".")[0]
            distribution = "protobuf" if module.startswith("google.protobuf") else names.get(top, [top])[0]
            if top not in ours:
                found.setdefault(path.stem, set()).add(name_of(distribution))
    return found


def test_every_requirement_has_a_lowest_and_a_newest_version():
    bounds = re.compile(r"[\w-]+>=\d[\d.]*,<\d[\d.]*(; .*)?")  # `make test-versions` reads the lowest from this form
    lines = [line for found in read_requirements().values() for line in found]
    assert len(lines) > 40
    assert [line for line in lines if not bounds.fullmatch(line)] == []


@pytest.mark.thorough
def test_what_a_module_imports_is_declared_for_it():
    required = {extra: {name_of(line) for line in lines} for extra, lines in read_requirements().items()}
    importing = read_distributions(PACKAGE)
    declared = required[""].union(*(required[extra] for extra in MODULES_OF_EXTRAS))
    assert {module: names - declared for module, names in importing.items() if names - declared} == {}
    for extra, modules in MODULES_OF_EXTRAS.items():
        assert {module for module, names in importing.items() if names & required[extra]} == modules, extra


@pytest.mark.thorough
def test_what_tests_and_scripts_import_is_declared_and_no_requirement_is_dead():
    lines_of = read_requirements()
    dev = {name_of(line) for line in lines_of.pop("dev")}
    users = {name_of(line) for lines in lines_of.values() for line in lines if "python_version >=" not in line}
    package = set().union(*read_distributions(PACKAGE).values())
    tests = set().union(*read_distributions(ROOT / "tests", ROOT / "scripts").values())
    of_others = {"torch", "torchvggish", "not-there"}  # measured against; there to be missing
    ours = {"jamendo-mood"}  # whose plugin lies in beets' namespace
    assert tests - dev - users - of_others - ours == set()
    assert (users - package) | (dev - tests) == set(RUN_OR_NEEDED)


def test_every_call_that_fetches_is_known():
    fetching = {"get_file", "snapshot_download", "urlopen", "urlretrieve", "resolve", "request", "post"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for name, call in read_calls(path):
            owner = ast.unparse(call.func).rpartition(".")[0]
            fetches = name in fetching - {"resolve"} or (name, owner) == ("resolve", "tensorflow_hub")
            fetches = fetches and owner != "app"  # which gives an address to a function of ours
            if fetches or (name == "get" and owner.endswith(("session", "requests"))):
                found.add((path.stem, name))
    assert found == set(NETWORK)


def test_certificates_are_checked():
    for path in [*PACKAGE.rglob("*.py"), *ROOT.glob("scripts/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"verify\s*=|CERT_NONE|_create_unverified_context|check_hostname", text), path


def test_what_is_fetched_has_an_address_of_https():
    of_weights = [*vggish.WEIGHTS.sources, *yamnet.WEIGHTS.sources]
    addresses = [jamendo.BASE_URL, jamendo.CDN, vggish.PCA_URL, *of_weights]
    assert all(address.startswith("https://") for address in addresses)
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in jamendo.read_published_checksums().values())
    assert re.fullmatch("[0-9a-f]{40}", jamendo.COMMIT)


def answer(_, request, **__):
    """Sends whoever asks for https://there to http://elsewhere, which answers."""
    response = requests.Response()
    response.url, response.request, response.raw, response._content = request.url, request, io.BytesIO(), b""
    response.status_code = 302 if request.url.startswith("https://there") else 200
    response.headers["Location"] = "http://elsewhere/48/948.mp3"
    return response


def test_https_is_not_left_for_http(monkeypatch):
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answer)
    link = remote.Link(threading.Event())
    with pytest.raises(DownloadError, match=r"https://there/a: redirects to http://elsewhere.* without https"):
        link.get("https://there/a", 0)
    assert link.get("http://there/a", 0).status_code == 200  # a mirror that the user named


class Endless(contextlib.nullcontext):
    """An answer that never ends."""

    def __init__(self, url):
        super().__init__(self)
        self.url = url

    def read(self, count=None):
        assert count is not None, "without a limit"
        return bytes(count)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://elsewhere/a", "leads to http://elsewhere/a, which is not https"),
        ("https://there/a", "not the official"),
    ],
)
def test_tables_are_not_read_over_http_nor_further_than_they_can_be_long(url, message, monkeypatch, tmp_path):
    monkeypatch.setattr(jamendo.urllib.request, "urlopen", lambda *_, **__: Endless(url))
    with pytest.raises(DataError, match=message):
        jamendo.get_splits(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pca_parameters_are_fetched_and_others_are_not_kept(monkeypatch, server, tmp_path):
    cache, weights = tmp_path / "cache" / "jamendo-mood", tmp_path / "module" / "vggish"
    weights.mkdir(parents=True)  # a folder that is taken for a module's, without parameters in or beside it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(vggish, "PCA_URL", f"{server.url}/{vggish.PCA_NAME}")
    np.savez(server.folder / vggish.PCA_NAME, pca_means=np.zeros((128, 1)), pca_eigen_vectors=np.eye(128))
    content = (server.folder / vggish.PCA_NAME).read_bytes()
    with pytest.raises(WeightsError, match=r"another file than expected \(sha256 "):
        vggish.read_pca(None, weights)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(vggish, "PCA_SHA256", hashlib.sha256(content).hexdigest())
    means, eigenvectors = vggish.read_pca(None, weights)
    assert (means.shape, eigenvectors.shape) == ((128,), (128, 128))
