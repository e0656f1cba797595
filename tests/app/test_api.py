"""The API: its description, its answers, what it refuses, and the clients that the documentation shows."""

import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from urllib.parse import quote

import jsonschema
import pytest
from openapi_spec_validator import validate
from test_docs import ROOT
from toy_examples import make_prediction
from webclient import make_song

from jamendo_mood.app.songs import export
from jamendo_mood.tagging.prediction import predict, to_document

pytest_plugins = ["demo_corpus", "toy_commands", "webplugin"]

PAGE = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")


@pytest.fixture
def described(site):
    return json.loads(site.ask("/api/v1/openapi.json").body)


@pytest.fixture
def check(described):
    """Holds a document to the shape that OpenAPI tells: every key that is told, and none else."""
    schemas = described["components"]["schemas"]
    schema = {"$ref": "#/components/schemas/Document", "components": described["components"]}

    def look(document):
        jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
        assert document.keys() == schemas["Document"]["properties"].keys()
        for result in document["results"]:
            assert result.keys() == schemas["Result"]["properties"].keys()
            for target in result["targets"]:
                assert target.keys() == schemas["Target"]["properties"].keys()

    return look


def left(folder):
    """Bytes that uploads still have on disk."""
    return sum(path.stat().st_size for path in folder.rglob("upload*") if path.is_file())


def test_what_is_served_is_described_and_valid(described):
    validate(described)
    assert set(described["paths"]) == {f"/api/v1/{name}" for name in ("tag", "tagger", "health", "similar", "playlist")}
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            assert all(each.get("description") or each["name"] == "format" for each in operation.get("parameters", ()))


def test_one_shape_for_command_api_and_download(site, check, corpus, tagger_folder, corpus_tagger, logmel, run):
    song = corpus.path(0)
    answer, told = site.tag(song.read_bytes(), "song.mp3", "&timeline=true")
    assert answer.status == 200
    outcome = run("tag", song, "--tagger", tagger_folder, "--format", "json", "--top", 100, "--timeline")
    printed = json.loads(outcome.out)
    _, media, content = export(predict(song, corpus_tagger, logmel), "json", "song.mp3")
    downloaded = json.loads(content)
    assert media == "application/json"
    for document in (told, printed, downloaded):
        check(document)
        (result,) = document["results"]
        result["file"] = "song.mp3"
        for target in result["targets"]:
            target["score"] = pytest.approx(target["score"], abs=1e-5)
        result["duration_s"] = pytest.approx(result["duration_s"])
        times, scores = result["timeline"]["times_s"], result["timeline"]["scores"]
        assert {len(times)} == {len(each) for each in scores.values()}
        assert scores.keys() == {target["name"] for target in result["targets"]}
        del result["timeline"]
    names = [
        [target["name"] for target in document["results"][0]["targets"]] for document in (told, printed, downloaded)
    ]
    assert names[0] == names[1] == names[2]
    assert told["results"][0]["title"] == printed["results"][0]["title"] == downloaded["results"][0]["title"]


def test_failed_files_are_in_it(check, corpus, tagger_folder, tmp_path, run):
    (tmp_path / "no.mp3").write_text("no music")
    command = ("tag", corpus.path(0), tmp_path / "no.mp3", "--tagger", tagger_folder, "--format", "json")
    document = json.loads(run(*command).out)
    check(document)
    assert len(document["results"]) == 1
    assert [error["file"] for error in document["errors"]] == [str(tmp_path / "no.mp3")]


@pytest.mark.parametrize(
    ("kind", "more"),
    [("tags", {}), ("classes", {"thresholds": ()}), ("values", {"thresholds": (), "scale": (0.0, 1.0)})],
)
def test_every_kind_has_the_same_keys(check, kind, more):
    document = to_document([replace(make_prediction(), kind=kind, **more)], timeline=True)
    check(document)
    targets = document["results"][0]["targets"]
    assert all((target["threshold"] is None) == (kind != "tags") for target in targets)
    assert all((target["decided"] is None) == (kind == "values") for target in targets)


def test_top_and_name(site, corpus):
    _, told = site.tag(corpus.path(0).read_bytes(), quote("a/../<b>.mp3"), "&top=2")
    (result,) = told["results"]
    assert (result["file"], len(result["targets"]), result["timeline"]) == ("a/../<b>.mp3", 2, None)


REFUSED = {
    "no music": (b"no music", 422, "can't be read as music"),
    "nothing": (b"", 422, "can't be read as music"),
    "a playlist": (b"#EXTM3U\n/etc/passwd\n", 422, "can't be read as music"),
    "too short": (make_song(1, 0.4), 422, "it takes"),
    "too large": (bytes(2_000_001), 413, "the limit here is 2 MB"),
    "too long": (make_song(1, 40), 413, "the limit here"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_tagged_is_told(make_site, check, tmp_path, what):
    content, status, sentence = REFUSED[what]
    answer, told = make_site(length_s=30.0).tag(content, "a.wav")
    check(told)
    assert answer.status == status
    ((file, error),) = [tuple(error.values()) for error in told["errors"]]
    assert file == "a.wav"
    assert sentence in error
    assert str(tmp_path) not in error
    assert left(tmp_path) == 0


def test_a_body_without_a_length_is_cut_off_at_the_limit_while_it_arrives(site, tmp_path):
    sent = 0
    connection = http.client.HTTPConnection(site.host, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/api/v1/tag")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                connection.send(b"10000\r\n" + bytes(65_536) + b"\r\n")
                sent += 65_536
                assert left(tmp_path) <= 2_000_000
        with contextlib.suppress(ConnectionError):
            assert connection.getresponse().status == 413
    assert sent < 50_000_000
    assert left(tmp_path) == 0


def test_who_goes_in_the_middle_leaves_nothing(site, tmp_path):
    host, port = site.host.split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"POST /api/v1/tag HTTP/1.1\r\nHost: {site.host}\r\nContent-Length: 1000000\r\n\r\n"
        caller.sendall(head.encode() + bytes(300_000))
        wait_for(lambda: left(tmp_path) > 0)
    wait_for(lambda: left(tmp_path) == 0)
    assert site.tag(make_song(1))[0].status == 200


def wait_for(look):
    for _ in range(200):
        if look():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that")


def test_with_too_many_songs_it_says_when_to_come_back(make_site, check, tmp_path):
    answer, told = make_site(max_waiting=0).tag(make_song(1))
    check(told)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    assert left(tmp_path) == 0


def test_what_the_tagger_knows(site, corpus_tagger):
    told = json.loads(site.ask("/api/v1/tagger").body)
    assert [target["name"] for target in told["targets"]] == list(corpus_tagger.task.targets)
    assert [target["threshold"] for target in told["targets"]] == pytest.approx(corpus_tagger.thresholds.tolist())
    assert told["embedder"].startswith("logmel")


def test_health(site):
    assert json.loads(site.ask("/api/v1/health").body)["status"] == "ok"


def test_similar_tracks_and_playlists(site, library, corpus):
    key = library.keys[0]
    similar = json.loads(site.ask(f"/api/v1/similar?key={quote(key)}&count=3").body)["tracks"]
    assert [track["key"] for track in similar] == [track.key for track in library.similar(key, 3)]
    assert similar[0]["title"].startswith("Study in")
    sad = json.loads(site.ask("/api/v1/playlist?mood=sad=1&count=4").body)["tracks"]
    assert [track["key"] for track in sad] == [track.key for track in library.by_moods({"sad": 1.0}, 4)]
    for query in ("emotion=joy", "at=0.5,0.5", "at=-0.5,-0.5&to=0.5,0.5", "emotion=sadness&to=0.5,0.5"):
        assert len(json.loads(site.ask(f"/api/v1/playlist?{query}&count=5").body)["tracks"]) == 5


def test_a_playlist_as_m3u8_names_files_from_the_library_on(site, corpus):
    answer = site.ask("/api/v1/playlist?mood=sad=1&count=4&format=m3u8")
    assert answer.headers["Content-Type"].startswith("audio/x-mpegurl")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert len(lines) == 4
    assert all((corpus.audio / line).is_file() for line in lines)
    assert str(corpus.root) not in answer.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("similar?key=nobody", 404),
        ("similar?key=..%2F..%2Fetc%2Fpasswd", 404),
        ("similar", 422),
        ("playlist", 400),
        ("playlist?mood=sad=1&emotion=joy", 400),
        ("playlist?mood=nothing=1", 404),
        ("playlist?mood=sad", 400),
        ("playlist?emotion=nothing", 404),
        ("playlist?at=1", 400),
        ("playlist?at=nan,0", 400),
        ("playlist?at=0,0&count=0", 422),
        ("playlist?at=0,0&count=201", 422),
        ("playlist?at=0,0&format=exe", 422),
    ],
)
def test_questions_that_make_no_sense_are_told_so(site, query, status):
    answer = site.ask(f"/api/v1/{query}")
    assert answer.status == status
    assert json.loads(answer.body)["detail"]


def code(language):
    """The example of a client in the documentation."""
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.mark.parametrize(("language", "program"), [("python", sys.executable), ("javascript", "node"), ("sh", "sh")])
def test_the_clients_of_the_documentation_work(site, corpus, tmp_path, language, program):
    for needed in (program, "curl" if language == "sh" else program):
        if shutil.which(needed) is None:
            pytest.skip(f"needs {needed}")
    text = code(language)
    assert len(text.splitlines()) <= 12
    folder = tmp_path / "client"
    folder.mkdir()
    shutil.copy(corpus.path(0), folder / "song.mp3")
    script = folder / ("client.mjs" if language == "javascript" else "client")
    script.write_text(text.replace("127.0.0.1:8866", site.host))
    done = subprocess.run([program, script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if language == "sh":
        assert json.loads(done.stdout)["results"][0]["targets"]
    else:
        assert len(re.findall(r"^\w+ 0\.\d+$", done.stdout, re.MULTILINE)) >= 4, done.stdout
