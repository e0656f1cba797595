"""The API: what it answers, that OpenAPI describes it, and that one JSON schema holds for all that says moods."""

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import validate
from toy_examples import make_class_prediction, make_prediction, make_value_prediction
from webclient import LIMIT_MB, ROOM_BYTES, make_song

from jamendo_mood.app import api
from jamendo_mood.app.songs import export
from jamendo_mood.cli import main
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.prediction import predict, to_document

pytest_plugins = ["demo_corpus", "webplugin"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "http-api.md"
LIMIT_BYTES = LIMIT_MB * 1_000_000


@pytest.fixture
def site(make_site):
    return make_site(length_s=60.0)


@pytest.fixture
def openapi(site):
    return json.loads(site.ask("/api/v1/openapi.json").body)


@pytest.fixture
def shape(openapi):
    """The JSON schema of a document, as the API describes it; here no other keys are allowed."""
    schemas = json.loads(json.dumps(openapi["components"]["schemas"]))
    for schema in schemas.values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    return {"$ref": "#/components/schemas/Document", "components": {"schemas": schemas}}


def test_openapi_and_a_page_describe_it(site, openapi):
    validate(openapi)
    assert openapi["openapi"].startswith("3.1")
    answers = openapi["paths"]["/api/v1/tag"]["post"]["responses"]
    assert set(answers) >= {"200", "413", "422", "503"}
    document = openapi["components"]["schemas"]["Document"]
    assert set(document["required"]) == {"schema", "results", "errors"}
    text = site.ask("/api").text
    assert all(f"{method.upper()} {path}" in text for path, methods in openapi["paths"].items() for method in methods)


def test_one_schema_holds_for_command_api_and_download(site, shape, corpus, tagger_folder, tmp_path, capsys):
    broken = tmp_path / "broken.mp3"
    broken.write_text("no music")
    song = corpus.path(0)
    assert main.main(["tag", str(song), str(broken), "--tagger", str(tagger_folder), "--format", "json"]) == 1
    command = json.loads(capsys.readouterr().out)
    assert [error["file"] for error in command["errors"]] == [str(broken)]
    _, answer = site.tag(song.read_bytes(), "song.mp3", "&timeline=true")
    _, refused = site.tag(b"no music", "broken.mp3")
    download = json.loads(export(make_prediction(), "json", "a.mp3")[1])
    others = to_document([make_class_prediction(), make_value_prediction()], timeline=True)
    for document in (command, answer, refused, download, others):
        jsonschema.validate(document, shape)
    of_command, of_api = command["results"][0]["targets"], answer["results"][0]["targets"]
    assert of_command == of_api
    assert answer["results"][0]["timeline"]["times_s"][0] == 0
    for wrong in ({**command, "schema": 2}, {**command, "results": [{**command["results"][0], "tags": []}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, shape)


def test_a_song_gets_the_moods_that_python_gets(site, corpus, corpus_tagger, logmel):
    answer, document = site.tag(corpus.path(1).read_bytes(), "a%20song.mp3", "&top=2")
    expected = predict(corpus.path(1), corpus_tagger, logmel)
    (result,) = document["results"]
    assert (answer.status, document["schema"], document["errors"]) == (200, 1, [])
    assert (result["file"], result["title"], result["kind"]) == ("a song.mp3", expected.title, "tags")
    assert [(target["name"], target["score"]) for target in result["targets"]] == [row[:2] for row in expected.top(2)]


@pytest.mark.parametrize(
    ("name", "content", "status", "error"),
    [
        ("notes.mp3", b"just text", 422, "It can't be read as music: it is a text file."),
        ("empty.mp3", b"", 422, "It can't be read as music."),
        ("../../../etc/passwd", b"x", 422, "It can't be read as music: it is a text file."),
        ("list.m3u8", b"#EXTM3U\n/etc/passwd\n", 422, "It can't be read as music: it is a playlist"),
        ("big.wav", bytes(LIMIT_BYTES + 1), 413, "It has 2 MB; the limit here is 2 MB."),
        ("blip.wav", make_song(1, 0.2), 422, "It lasts 0.20 s; it takes 0.96 s at least."),
    ],
)
def test_what_cannot_be_tagged_is_told(site, shape, name, content, status, error):
    answer, document = site.tag(content, name)
    (failed,) = document["errors"]
    assert (answer.status, document["results"], failed["file"]) == (status, [], name)
    assert failed["error"].startswith(error)
    jsonschema.validate(document, shape)


def test_a_body_without_end_is_cut_off_at_the_limit(site, monkeypatch):
    monkeypatch.setattr(api, "DRAIN_S", 0.1)
    sent = []
    with contextlib.suppress(ConnectionResetError):  # cut off before the answer was read
        endless = (sent.append(1) or bytes(100_000) for _ in range(20_000))
        assert site.ask("/api/v1/tag", "POST", endless).status == 413
    assert len(sent) < 20_000
    assert site.ask("/api/v1/tag", "POST", iter([bytes(LIMIT_BYTES), b"x"])).status == 413


def begin_to_send(site, body, length):
    connection = http.client.HTTPConnection(site.host, timeout=30)
    connection.putrequest("POST", "/api/v1/tag")
    connection.putheader("Content-Length", str(length))
    connection.endheaders(body)
    return connection


def test_a_body_that_does_not_arrive_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr(api, "PATIENCE_S", 0.5)
    with contextlib.closing(begin_to_send(site, b"x", 1000)) as connection:
        assert connection.getresponse().status == 422


def test_a_caller_that_goes_is_no_news_for_the_log(site, caplog):
    for body in (b"x", make_song(2)):  # while it sends, and while its song waits
        connection = begin_to_send(site, body, max(2, len(body)))
        time.sleep(0.2)
        connection.close()
    answer, _ = site.tag(make_song(3))
    assert answer.status == 200
    assert caplog.text == ""


def test_too_many_songs_are_told_to_wait(site, make_site):
    uploads = site.queue.uploads
    assert uploads.take(ROOM_BYTES - 10_000)
    for full in (site, make_site(max_waiting=0)):  # of bytes, and of songs in the queue
        answer, document = full.tag(make_song(4))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
        assert "has to wait" in document["errors"][0]["error"]
    uploads.take(10_000 - ROOM_BYTES)


def test_the_tagger_tells_what_it_knows(site, corpus_tagger):
    told = json.loads(site.ask("/api/v1/tagger").body)
    assert [target["name"] for target in told["targets"]] == list(corpus_tagger.task.targets)
    assert [target["threshold"] for target in told["targets"]] == pytest.approx(list(corpus_tagger.thresholds))
    assert (told["kind"], told["task"]) == ("tags", corpus_tagger.task.name)
    assert json.loads(site.ask("/api/v1/health").body)["status"] == "ok"


def keys(answer):
    assert answer.status == 200, answer.text
    return [track["key"] for track in json.loads(answer.body)["tracks"]]


def test_tracks_of_the_library(site, library: Library, corpus):
    key = library.keys[2]
    assert keys(site.ask(f"/api/v1/similar?key={key}&count=3")) == [one.key for one in library.similar(key, 3)]
    by_moods = [one.key for one in library.by_moods({"sad": 1.0, "happy": 0.0}, 4)]
    assert keys(site.ask("/api/v1/playlist?mood=sad=1&mood=happy=0&count=4")) == by_moods
    near = [one.key for one in library.near(0.5, -0.5, 3)]
    assert keys(site.ask("/api/v1/playlist?at=0.5,-0.5&count=3")) == near
    along = [one.key for one in library.along([(-0.5, 0.0), (0.5, 0.5)], 3)]
    assert keys(site.ask("/api/v1/playlist?at=-0.5,0&to=0.5,0.5&count=3")) == along
    assert len(keys(site.ask("/api/v1/playlist?emotion=serenity"))) == 20
    track = json.loads(site.ask(f"/api/v1/similar?key={key}&count=1").body)["tracks"][0]
    assert track["title"].startswith("Study in")
    assert str(corpus.root) not in json.dumps(track)


def test_a_playlist_as_m3u8_names_files_from_the_library_on(site, corpus):
    answer = site.ask("/api/v1/playlist?mood=sad=1&count=3&format=m3u8")
    assert answer.headers["Content-Type"].startswith("audio/x-mpegurl")
    first, *lines = answer.text.splitlines()
    assert first == "#EXTM3U"
    assert [line for line in lines[1::2] if (corpus.audio / line).is_file()] == lines[1::2]
    assert len(lines) == 6
    assert str(corpus.root) not in answer.text


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("similar?key=../../etc/passwd", 404, "no such track"),
        ("similar", 422, "key"),
        ("similar?key=x&count=0", 422, "count"),
        ("similar?key=x&count=999999999", 422, "count"),
        ("playlist?mood=nosuch=1", 404, "no mood 'nosuch'"),
        ("playlist?mood=sad=7", 404, "a level is from 0"),
        ("playlist?mood=sad", 400, "sad"),
        ("playlist", 400, "give one of mood, emotion and at"),
        ("playlist?emotion=xyzzy", 404, "no emotion"),
        ("playlist?at=9,9", 404, "from -1 to 1"),
        ("playlist?at=nan,0", 404, "from -1 to 1"),
        ("playlist?at=1", 400, "valence"),
        ("playlist?mood=sad=1&to=0,0", 400, "to"),
        ("playlist?mood=sad=1&format=exe", 422, "format"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told(site, path, status, text):
    answer = site.ask(f"/api/v1/{path}")
    assert (answer.status, text in answer.text) == (status, True), answer.text


@pytest.mark.parametrize("language", ["python", "javascript", "bash"])
def test_the_clients_of_the_docs_run(site, language, corpus, tmp_path):
    name, ending = {"python": (sys.executable, "py"), "javascript": ("node", "mjs"), "bash": ("bash", "sh")}[language]
    program = shutil.which(name)
    if program is None or (language == "bash" and shutil.which("curl") is None):
        pytest.skip("needs node, or curl")
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "127.0.0.1:8866" in text
    script = tmp_path / f"client.{ending}"
    script.write_text(text.replace("127.0.0.1:8866", site.host))
    shutil.copy(corpus.path(0), tmp_path / "song.mp3")
    done = subprocess.run([program, script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert all(mood in done.stdout for mood in corpus.songs[0].moods)


def test_the_example_of_the_docs_has_the_shape(shape):
    (text,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    jsonschema.validate(json.loads(text), shape)
