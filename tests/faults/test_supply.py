"""What comes from elsewhere: packages within tried bounds, downloads known by their SHA-256, https throughout."""

import ast
import configparser
import functools
import importlib.metadata
import io
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

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
    "notebook": {"figures", "prediction", "shared", "spectrograms", "tags", "widget"},
    "web": {"api", "figures", "prediction", "server", "shared", "spectrograms", "tags"},
    "plots": {"overview"},
    "beets": {"jamendomood"},
    "files": {"file_tags"},
    "completion": {"main"},
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
    (
        "remote",
        "get",
    ): "MTG's lists of SHA-256, PCA_SHA256, CHECKPOINT_MD5; modules: see SECURITY.md",
    ("jamendo", "urlopen"): "datasets/jamendo.sha256",
}
"""Every call that fetches something, and what tells that it is the right thing."""


def read_requirements() -> dict[str, list[str]]:
    """The lines of setup.cfg by extra; those that everybody gets have none."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    texts = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    lines = {extra: [line for line in text.splitlines() if line.strip()] for extra, text in texts.items()}
    return {extra: [line for line in found if line[0] not in "#%"] for extra, found in lines.items()}


def name_of(requirement: str) -> str:
    """In one spelling: jupyter_client is jupyter-client."""
    match = re.match(r"[\w-]+", requirement)
    assert match is not None
    return match[0].lower().replace("_", "-")


@functools.cache
def read_nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def read_calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in read_nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield getattr(node.func, "id", getattr(node.func, "attr", "")), node


def read_imports(path: Path) -> set[str]:
    """The modules that a file imports, also by `import_quietly` and `importorskip`."""
    found = set()
    for node in read_nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    for name, call in read_calls(path):
        if name in ("import_quietly", "importorskip"):
            (argument, *_) = call.args
            assert isinstance(argument, ast.Constant)
            found.add(argument.value)
    return found


distributions_of_modules = functools.cache(importlib.metadata.packages_distributions)  # it reads all of them


def read_distributions(*folders: Path) -> dict[str, set[str]]:
    """Packages of others by file that imports them: ``{"metrics": {"numpy", "scikit-learn"}}``."""
    names = distributions_of_modules()
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    ours = set(sys.stdlib_module_names) | {"jamendo_mood"} | {path.stem for path in paths}
    found: dict[str, set[str]] = {}
    for path in paths:
        for module in read_imports(path):
            top = module.partition(".")[0]
            known = module in NOT_DECLARED or top in ours
            if not known and top in names:
                (distribution, *_) = ("protobuf",) if module.startswith("google.protobuf") else names[top]
                found.setdefault(path.stem, set()).add(name_of(distribution))
            elif not known:
                found.setdefault(path.stem, set()).add(f"{top} (not installed)")
    return found


def test_every_requirement_has_a_lowest_and_a_newest_version():
    bounds = re.compile(r"[\w-]+>=\d[\d.]*,<\d[\d.]*(; .*)?")  # `make test-versions` reads the lowest from this form
    lines = [line for found in read_requirements().values() for line in found]
    assert len(lines) > 40
    assert [line for line in lines if not bounds.fullmatch(line)] == []


@pytest.mark.thorough
def test_what_a_module_imports_is_declared_for_it():
    required = {extra: {name_of(line) for line in lines} for extra, lines in read_requirements().items()}
    importing: dict[str, set[str]] = {extra: set() for extra in MODULES_OF_EXTRAS}
    undeclared = {}
    for module, names in read_distributions(PACKAGE).items():
        for extra in importing:
            if names & required[extra]:
                importing[extra].add(module)
        others = names - required[""] - set().union(*(required[extra] for extra in importing))
        undeclared |= {module: others} if others else {}
    assert undeclared == {}
    assert importing == MODULES_OF_EXTRAS


@pytest.mark.thorough
def test_what_tests_and_scripts_import_is_declared():
    required = {name_of(line) for lines in read_requirements().values() for line in lines}
    of_others = {"torch", "torchvggish", "not_there"}  # measured against; there to be missing
    found = read_distributions(ROOT / "tests", ROOT / "scripts")
    names = {name.removesuffix(" (not installed)") for names in found.values() for name in names}
    ours = {"jamendo-mood"}  # whose plugin lies in beets' namespace
    assert names - required - of_others - ours == set()


@pytest.mark.thorough
def test_no_requirement_is_dead():
    lines_of = read_requirements()
    dev = {name_of(line) for line in lines_of.pop("dev")}
    users = {name_of(line) for lines in lines_of.values() for line in lines if "python_version >=" not in line}
    package = set().union(*read_distributions(PACKAGE).values())
    tests = set().union(*read_distributions(ROOT / "tests", ROOT / "scripts").values())
    assert (users - package) | (dev - tests) == set(RUN_OR_NEEDED)


def test_every_call_that_fetches_is_known():
    fetching = {"get_file", "urlopen", "urlretrieve", "resolve", "request", "post"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for name, call in read_calls(path):
            owner = ast.unparse(call.func).rpartition(".")[0]
            fetches = name in fetching - {"resolve"} or (name, owner) == ("resolve", "tensorflow_hub")
            fetches = fetches and owner != "app"  # which gives an address to a function of ours
            if fetches or (name == "get" and owner.endswith(("session", "requests"))):
                found.add((path.stem, name))
    assert found == set(NETWORK)


def test_requests_have_a_timeout_and_check_certificates():
    for path in [*PACKAGE.rglob("*.py"), *ROOT.glob("scripts/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"verify\s*=|CERT_NONE|_create_unverified_context|check_hostname", text), path
        for name, call in read_calls(path):
            if name == "urlopen" or ast.unparse(call.func).endswith(("session.get", "requests.get")):
                assert "timeout" in {keyword.arg for keyword in call.keywords}, f"{path}:{call.lineno}"


def test_what_is_fetched_has_an_address_of_https():
    of_weights = [*vggish.WEIGHTS.sources, *yamnet.WEIGHTS.sources]
    addresses = [jamendo.BASE_URL, jamendo.CDN, vggish.PCA_URL, *of_weights]
    assert all(address.startswith("https://") for address in addresses)
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in jamendo.read_published_checksums().values())
    assert re.fullmatch("[0-9a-f]{40}", jamendo.COMMIT)


class Redirecting(requests.adapters.HTTPAdapter):
    """Sends whoever asks for https://there to http://elsewhere, which answers."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def send(self, request, **_):
        self.asked.append(request.url)
        response = requests.Response()
        response.url, response.request, response.raw = request.url, request, io.BytesIO()
        response._content = b""
        response.status_code = 302 if "there" in request.url else 200
        if response.status_code == 302:
            response.headers["Location"] = "http://elsewhere/48/948.mp3"
        return response


def test_https_is_not_left_for_http():
    link, adapter = remote.Link(threading.Event()), Redirecting()
    link._session.mount("https://", adapter)
    link._session.mount("http://", adapter)
    with pytest.raises(DownloadError, match=r"https://there/a: redirects to http://elsewhere.* without https"):
        link.get("https://there/a", 0)
    assert link.get("http://there/a", 0).status_code == 200  # a mirror that the user named


def test_the_tables_are_not_read_from_a_redirect_to_http(monkeypatch, tmp_path):
    monkeypatch.setattr(jamendo.urllib.request, "urlopen", lambda *_, **__: Endless("http://elsewhere/a"))
    with pytest.raises(DataError, match="leads to http://elsewhere/a, which is not https"):
        jamendo.get_splits(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_read_of_a_table_than_it_can_have(monkeypatch, tmp_path):
    monkeypatch.setattr(jamendo.urllib.request, "urlopen", lambda *_, **__: Endless("https://there/a"))
    with pytest.raises(DataError, match="not the official file"):
        jamendo.get_splits(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Endless:
    """An answer that never ends."""

    def __init__(self, url):
        self.url = url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, count=None):
        assert count is not None, "without a limit"
        return bytes(count)


@pytest.fixture
def pca_url(monkeypatch, server, tmp_path):
    """Where PCA parameters are fetched from: a server on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(vggish, "PCA_URL", f"{server.url}/{vggish.PCA_NAME}")
    return server.folder / vggish.PCA_NAME


def test_other_pca_parameters_are_not_kept(pca_url, tmp_path):
    pca_url.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"another file than expected \(sha256 "):
        vggish.read_pca(None, make_weights(tmp_path))
    assert list((tmp_path / "cache" / "jamendo-mood").iterdir()) == []


@pytest.mark.shared
def test_googles_pca_parameters_are(shared, pca_url, tmp_path):
    pca_url.symlink_to(shared / "data" / "vggish" / vggish.PCA_NAME)
    means, eigenvectors = vggish.read_pca(None, make_weights(tmp_path))
    assert means.shape == (128,)
    assert eigenvectors.shape == (128, 128)


def make_weights(folder):
    """A folder that is taken for a module's, without PCA parameters in or beside it."""
    (folder / "module" / "vggish").mkdir(parents=True)
    return folder / "module" / "vggish"
