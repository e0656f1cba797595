"""Taggers and stores on the Hugging Face Hub: its real client, and a server on this machine that plays the Hub."""

import base64
import json
import os
import re
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from toy_examples import SPEC
from toy_moods import make_tagger

from jamendo_mood.datasets import DATASETS
from jamendo_mood.store import hub
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import UsageError

pytest.importorskip("huggingface_hub", reason="needs the extra `hub`")
pytest_plugins = ["toy_commands"]

TOKEN, COMMIT = "hf_TheTokenThatNobodyMaySee", "5ca1ab1e" * 5
LICENCES = {name: source.licence for name, source in DATASETS.items()}


class Handler(BaseHTTPRequestHandler):
    def answer(self, content, status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    def do_GET(self):
        played, path = self.server, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        played.asked.append(path)
        known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if "telltale" in path:
            self.answer({"error": f"what is this: {self.headers}"}, 400)
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            repository = f"{wanted.get('type', 'model')}s/{wanted['organization']}/{wanted['name']}"
            there = repository in played.files
            if known and not there:
                played.files[repository], played.private[repository] = {}, wanted["visibility"] == "private"
            url = f"{played.url}/{repository.removeprefix('models/')}"
            self.answer({"url": url}, 409 if there else 200 if known else 401)
        elif found := re.fullmatch(r"/(datasets/)?(ada/\w+)/resolve/\w+/(.+)", path):
            content = played.files[f"{found[1] or 'models/'}{found[2]}"][found[3]]
            self.answer(content, ETag=f'"{abs(hash(content))}"', X_Repo_Commit=COMMIT)
        elif found := re.fullmatch(r"/api/(\w+/ada/\w+)(?:/(revision|tree|preupload|commit)/([^/]+))?", path):
            self.serve(found[1], found[2] or "revision", found[3] or "main", body, known)
        else:
            self.answer({}, 404)

    do_HEAD = do_POST = do_GET  # noqa: N815 (http.server's names)
    log_message = staticmethod(lambda *_: None)

    def serve(self, repository, what, revision, body, known):
        files, private = self.server.files.get(repository), self.server.private.get(repository, False)
        if files is None or (private and not known):
            self.answer({"error": "Repository not found"}, 404 if known else 401, X_Error_Code="RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.answer({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        elif what == "revision":
            self.answer({"id": repository.partition("/")[2], "sha": COMMIT, "private": private, "siblings": []})
        elif what == "tree":
            sizes = {name: 10**10 if repository.endswith("huge") else len(files[name]) for name in files}
            self.answer([{"type": "file", "path": name, "size": sizes[name], "oid": "0"} for name in files])
        elif what == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in asked]})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            self.answer({"commitUrl": f"{self.server.url}/{repository}/commit/{COMMIT}", "commitOid": COMMIT})


@pytest.fixture
def played():
    """The server, its repositories by their paths, such as ``models/ada/moods``, and what was asked."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.url, http.files, http.private, http.asked = f"http://127.0.0.1:{http.server_port}", {}, {}, []
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def run(played, run_apart, tmp_path):
    """Run a command in a process that knows the Hub and a token, which is in no output and in no file in the end."""
    homes = dict.fromkeys(("HOME", "HF_HOME", "XDG_CACHE_HOME"), str(tmp_path / "home"))
    known = {"HF_ENDPOINT": played.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "no_proxy": "*", **homes}

    def start(*arguments, **settings):
        outcome = run_apart(*arguments, env={**os.environ, **known, **settings})
        assert TOKEN not in outcome.out + outcome.err
        return outcome

    yield start
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.fixture
def save(tmp_path):
    """Save a tagger that learned from data of this licence."""

    def save_tagger(licence=LICENCES["jamendo"], bias=0.0):
        replace(make_tagger(bias=bias), record={"licence": licence} if licence else {}).save(tmp_path / "tagger")
        return tmp_path / "tagger"

    return save_tagger


@pytest.fixture
def store(tmp_path):
    made = EmbeddingStore(tmp_path / "store", SPEC)
    for number, key in enumerate(("14/2", "48/a [live]", "48/949")):
        made.add(key, np.random.default_rng(number).standard_normal((5, SPEC.dim), np.float32))
    return made


def test_a_tagger_goes_there_and_comes_back(run, played, save, store, tmp_path):
    outcome, ours = run("push", save(), "ada/moods"), sorted(path.name for path in save().iterdir())
    assert outcome.status == 0, outcome.err
    assert outcome.out.endswith(f"{played.url}/ada/moods: jamendo-mood tag song.mp3 --tagger hf://ada/moods\n")
    assert all(f"  {name}\n" in outcome.out for name in ours)
    files = played.files["models/ada/moods"]
    assert (sorted(files), played.private) == (ours, {"models/ada/moods": True})
    assert files["README.md"].startswith(b'---\nlicense: "cc-by-nc-sa-4.0"\n')
    assert LICENCES["jamendo"].encode() in files["README.md"]
    files |= dict.fromkeys(("run.py", "weights.pkl", "weights-0.npz", "below/tagger.json"), b"not to be fetched")
    tag = ("tag", store.root, "--format", "json", "--tagger")
    wanted, found = run(*tag, save()), run(*tag, "hf://ada/moods@main")
    assert (found.status, found.out) == (0, wanted.out)
    assert sorted(path.name for path in (tmp_path / "home").rglob("snapshots/*/*")) == ours
    asked = [*played.asked]
    assert run(*tag, "hf://ada/moods", "--offline").out == wanted.out
    assert run(*tag, "hf://ada/none", "--offline").err.endswith("never fetched on this machine, and no host is asked\n")
    assert played.asked == asked
    assert run("push", save(bias=1.0), "ada/moods").status == 0
    assert [name for name in files if name.endswith("tensors")] == [path.name for path in save(bias=1.0).glob("*.s*")]


@pytest.mark.thorough
def test_a_store_goes_there_and_comes_back(run, played, save, store):
    push = ("push", store.root, "ada/songs", "--public", "--licence")
    outcome = run(*push, "for research only")
    assert outcome.status == 0, outcome.err
    files = played.files["datasets/ada/songs"]
    assert files.keys() == {"README.md", "store.json", *(f"{key}.npy" for key in store)}
    assert files["README.md"].startswith(b'---\nlicense: "other"\nlicense_name: "for-research-only"\n')
    assert played.private == {"datasets/ada/songs": False}
    similar = ("similar", "14/2", "--tagger", save(), "--format", "json", "--store")
    wanted, found = run(*similar, store.root), run(*similar, "hf://datasets/ada/songs")
    assert (found.status, found.out) == (0, wanted.out)
    (store.root / "14/2.npy").unlink()
    assert run(*push, "CC BY 4.0").status == 0
    assert files.keys() == {"README.md", "store.json", "48/a [live].npy", "48/949.npy"}
    (store.root / "48/949.npy").write_bytes(b"")
    assert "1 thing wrong in this store: `jamendo-mood verify" in run(*push, "CC BY 4.0").err


@pytest.mark.parametrize(
    ("licence", "options", "message"),
    [
        (None, (), "the licence of what it comes from is unknown: give it with --licence"),
        (LICENCES["own"], (), "the licence of what it comes from is unknown"),
        (LICENCES["audioset"], ("--licence", "MIT"), r"its data are under 'CC BY 4.0 \(Google\)', so --licence cannot"),
        (LICENCES["mirex"], ("--public",), "so it can be shared without --public only"),
    ],
)
def test_what_may_not_be_shared_is_not(run, played, save, licence, options, message):
    run("push", save(licence), "ada/moods", *options).check_error("push", message)
    assert played.asked == []


@pytest.mark.thorough
def test_a_repository_is_not_made_public_or_written_to_by_mistake(run, played, save):
    played.files["models/ada/moods"] = {}
    for private, options, message in [(True, ["--public"], "private already: leave"), (False, [], "public already")]:
        played.private["models/ada/moods"] = private
        assert f"ada/moods: is {message}" in run("push", save(), "ada/moods", *options).err
    assert played.files["models/ada/moods"] == {}


@pytest.mark.parametrize(
    "licence", ["MIT", "Apache 2.0", "CC0 1.0", "CC BY-NC-ND 4.0", "cc-by-sa-3.0", LICENCES["audioset"]]
)
def test_a_licence_is_said_by_its_identifier(licence):
    name = licence.partition(" (")[0].lower().replace(" ", "-")
    assert f'license: "{name}"' in hub.add_metadata("", licence)


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"hf://ada/moods needs huggingface_hub: `pip install jamendo-mood\[hub\]`"):
        EmbeddingStore("hf://ada/moods")


@pytest.mark.thorough
def test_what_cannot_be_fetched_is_one_line_each(run, played, tmp_path):
    played.files |= {f"models/ada/{name}": {"tagger.json": b"{}"} for name in ("mine", "huge", "damaged")}
    played.files["models/ada/other"], played.private["models/ada/mine"] = {"store.json": b"{}"}, True
    nobody = r"no such repository or revision, or not for you \(`hf auth login`, or HF_TOKEN"
    for address, message, settings in [
        ("hf://ada", "hf://ada: not of the form hf://user/name@revision", {}),
        ("hf://ada/none", nobody, {}),
        ("hf://ada/mine", nobody, {"HF_TOKEN": ""}),
        ("hf://ada/damaged@none", nobody, {}),
        ("hf://ada/damaged", "tagger.json: not a tagger, or damaged", {}),
        ("hf://ada/other", r"there is no tagger.json in it \(the address of a store begins with hf://datasets/\)", {}),
        ("hf://ada/huge", "hf://ada/huge: it has 10,000,000,000 bytes, and 2,000,000,000 are the most expected", {}),
        ("hf://ada/telltale", r"hf://ada/telltale: .*what is this: .*Bearer \(your token\)", {}),
        ("hf://ada/mine", "hf://ada/mine: .*Connection refused", {"HF_ENDPOINT": "http://127.0.0.1:9"}),
    ]:
        outcome = run("evaluate", address, "--data", tmp_path, **settings)
        assert (outcome.status, bool(re.search(message, outcome.err))) == (2, True), outcome.err
