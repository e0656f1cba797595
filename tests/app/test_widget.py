"""The widget that tags songs, its fallback, and what it shares with the other widget."""

import base64
import csv
import io
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import types
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from toy_examples import OTHER_SPEC
from toy_page import ToyPage

from jamendo_mood.app import session, songs
from jamendo_mood.app.session import PIECE_BYTES, Session, Sounds, encode_excerpt, read_static
from jamendo_mood.app.widget import Fallback, ScriptWidget, TagWidget
from jamendo_mood.audio import decoding
from jamendo_mood.library.similarity import open_library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tagging.prediction import predict
from jamendo_mood.util.errors import AudioError, LimitError, MoodError, UsageError

SCRIPTS = {"tagging": session.TAG_SCRIPTS, "finding": session.FIND_SCRIPTS}


@pytest.fixture
def sent():
    return []


@pytest.fixture
def script(sent):
    return Session(lambda content, buffers: sent.append((content, buffers)))


def test_messages_go_both_ways(monkeypatch, sent):
    heard = []

    class Greeted(Session):
        def _on_hello(self, message, buffers):
            heard.append((message, buffers))

    widget = ScriptWidget(("dom.js",), "draw")
    widget.session = Greeted(widget.carry)
    widget._handle_custom_msg({"type": "hello"}, [b"x"])
    assert heard == [({"type": "hello"}, [b"x"])]
    assert widget._esm == read_static("dom.js") + "export default { render: draw };"
    assert widget._css == read_static("style.css")
    monkeypatch.setattr(widget, "send", lambda content, buffers: sent.append((content, buffers)))
    widget.session.tell("tags", (b"x",), id="1")
    assert sent == [({"type": "tags", "id": "1"}, [b"x"])]


@pytest.mark.parametrize("length", [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_sound_comes_in_pieces(script, sent, length):
    sound = bytes(range(256)) * (length // 256 + 1)
    index, together = 0, b""
    while True:
        script.send_piece("k", index, sound[:length])
        content, (piece,) = sent[-1]
        together += piece
        index += 1
        if content["last"]:
            break
    assert together == sound[:length]
    assert index == -(-length // PIECE_BYTES)


def test_no_sound_and_a_piece_past_the_end_are_empty(script, sent):
    script.send_piece("k", 0, "its file is gone")
    script.send_piece("k", 99, b"abc")
    assert [(content["index"], content["last"], content.get("why"), buffers) for content, buffers in sent] == [
        (0, True, "its file is gone", []),
        (99, True, None, []),
    ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_one_module_that_needs_no_other(name, tmp_path):
    script = ScriptWidget(SCRIPTS[name], "draw")._esm
    assert "innerHTML" not in script  # text from outside must stay text
    assert "http://" not in script.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in script + read_static("style.css")
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to check the syntax")
    path = tmp_path / "script.mjs"
    path.write_text(script)
    subprocess.run([node, "--check", path], check=True)


@pytest.fixture
def song(make_audio, tone, tmp_path):
    """40 s: 300 Hz, then 20 s of 3,000 Hz in its middle, then 300 Hz."""
    parts = [tone(300.0, 10.0), tone(3000.0, 20.0), tone(300.0, 10.0)]
    return make_audio(tmp_path / "song.flac", np.concatenate(parts))


def pitch_and_length(mp3, tmp_path, read_wav):
    path, wav = tmp_path / "excerpt.mp3", tmp_path / "excerpt.wav"
    path.write_bytes(mp3)
    decoding.convert_to_wav(path, wav)
    wave = read_wav(wav)
    spectrum = np.abs(np.fft.rfft(wave))
    return np.argmax(spectrum) * decoding.SAMPLE_RATE_HZ / len(wave), len(wave) / decoding.SAMPLE_RATE_HZ


def test_an_excerpt_is_the_middle_of_a_song_and_none_is_the_whole(song, tmp_path, read_wav):
    mp3 = encode_excerpt(song, 12.0)
    hz, seconds = pitch_and_length(mp3, tmp_path, read_wav)
    assert hz == pytest.approx(3000, abs=5)
    assert seconds == pytest.approx(12, abs=0.2)
    assert len(mp3) < 12 * 64_000 / 8 * 1.1
    assert pitch_and_length(encode_excerpt(song, None), tmp_path, read_wav)[1] == pytest.approx(40, abs=0.2)
    (tmp_path / "x.mp3").write_text("text")
    with pytest.raises(AudioError, match="not a readable audio file"):
        encode_excerpt(tmp_path / "x.mp3")


def test_sounds_come_by_key_and_nothing_else_does(song, tmp_path):
    sent, all_there = [], threading.Event()

    def send(key, index, sound):
        sent.append((key, index, sound))
        if len(sent) == 6:
            all_there.set()

    broken = tmp_path / "broken.mp3"
    broken.write_text("text")
    sounds = Sounds(send, {"48/948": song, "broken": broken, "gone": tmp_path / "gone.mp3"})
    sounds.own["mine"] = song
    for key in ("48/948", "48/948", "mine", str(song), "broken", "gone"):
        sounds.send(key, 2)
    assert all_there.wait(60)
    keys, indices, content = zip(*sent, strict=True)
    assert keys == ("48/948", "48/948", "mine", str(song), "broken", "gone")
    assert set(indices) == {2}
    assert content[0] is content[1]  # encoded once
    assert len(content[2]) > len(content[0]) * 1.2  # one's own song is heard whole: 40 s, not 30
    # No path opens anything, and none is told.
    assert content[3:] == ("its audio is not here", "no MP3 can be made of it here", "its file is gone")


pytest_plugins = ["demo_corpus"]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, where no song may be left when the test is done."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def make_widget(corpus_tagger, logmel, temporary):
    """Makes widgets, and closes them when the test is done."""
    made = []

    def make(tagger=corpus_tagger, embedder=logmel, **options):
        made.append(TagWidget(tagger, embedder, **options))
        return made[-1]

    yield make
    for widget in made:
        widget.close()


@pytest.fixture
def widget(make_widget):
    return make_widget()


@pytest.fixture
def page(widget, monkeypatch):
    return ToyPage(widget, monkeypatch)


def test_an_uploaded_song_is_tagged(widget, page, corpus, logmel, corpus_tagger):
    page.say("hello")
    page.upload("my song.MP3", corpus.path(-1).read_bytes(), piece=30_000)
    content, (timeline,) = page.wait_for("tags")
    expected = predict(corpus.path(-1), corpus_tagger, logmel)
    assert (content["name"], content["title"]) == ("my song.MP3", expected.title)
    assert [(tag["tag"], tag["score"]) for tag in content["tags"][:3]] == [row[:2] for row in expected.top(3)]
    assert len(timeline) == content["frames"] * content["columns"] == expected.frame_scores.size
    levels = np.frombuffer(timeline, np.uint8).reshape(content["frames"], content["columns"]) / 255
    for tag in content["tags"]:
        own = expected.frame_scores[:, expected.targets.index(tag["tag"])]
        assert levels[:, tag["column"]] == pytest.approx(own, abs=0.5 / 255 + 1e-6)
        assert tag["spread"] == pytest.approx(np.percentile(own, [10, 90]), abs=1e-6)
    details, (picture,) = page.wait_for("details")
    assert details["why"].keys() == set(expected.targets)
    assert picture.startswith(b"\x89PNG")
    assert [prediction.title for prediction in widget.predictions] == [expected.title]
    received = [message["received"] for message, _ in page.all("ack")]
    assert received == sorted(received)
    assert received[0] == 0
    assert [message["complete"] for message, _ in page.all("ack")].count(True) == 1
    stages = [message["stage"] for message, _ in page.all("progress")]
    assert stages[0] == "queue"
    assert stages[-1] == "score"
    saved = {**widget.get_state(), **widget.browser.get_state()}  # with the notebook
    assert not any(isinstance(value, bytes | memoryview) for value in saved.values())
    assert "my song" not in str(saved)


@pytest.mark.parametrize("own", [True, False])
def test_similar_tracks_become_a_playlist(make_widget, monkeypatch, corpus, corpus_store, corpus_tagger, own):
    library = open_library(corpus_store, corpus_tagger, corpus.audio)
    page = ToyPage(make_widget(library=library, limits=Limits(paths=own)), monkeypatch)
    page.say("hello")
    assert page.wait_for("setup")[0]["formats"] == (["csv", "m3u8"] if own else ["csv"])
    page.upload("my song.mp3", corpus.path(0).read_bytes())
    details = page.wait_for("details")[0]
    itself = corpus.songs[0].path.removesuffix(".mp3")
    assert details["left_out"] == f"{itself} is left out: it is the song itself (the same sound)"
    shown = [track["key"] for track in details["similar"]]
    assert itself not in shown
    for form in ("csv", "m3u8"):
        page.say("playlist", id="up", format=form, view="v")
    (table, (rows,)), (playlist, (lines,)) = page.wait_for_two("file")
    assert (table["name"], table["view"], playlist["name"]) == ("like my song.csv", "v", "like my song.m3u8")
    tracks = list(csv.DictReader(io.StringIO(rows.decode())))
    assert [track["key"] for track in tracks[: len(shown)]] == shown
    assert len(tracks) == min(len(library) - 1, 25)
    assert tracks[0]["title"].startswith("Study in")
    assert (str(corpus.audio) in rows.decode()) == own  # no path of another's machine
    assert (str(corpus.audio) in lines.decode()) == own


def test_a_picture_of_the_last_song_is_saved_with_the_notebook(make_widget, corpus, monkeypatch):
    outputs = {}

    def publish(data, metadata=None, *, transient=None, update=False, **_):
        identity = (transient or {}).get("display_id", "widget")
        assert update == (identity in outputs)  # replaced, not piled up
        outputs[identity] = data

    publisher = SimpleNamespace(publish=publish)
    monkeypatch.setattr(InteractiveShell, "initialized", lambda: True)
    monkeypatch.setattr(InteractiveShell, "instance", lambda: SimpleNamespace(display_pub=publisher))
    widget = make_widget()
    widget._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in outputs.pop("widget")
    (identity,) = outputs
    assert outputs[identity] == {"text/plain": ""}
    pictures = []
    for number in range(2):
        widget.tag_file(corpus.path(number), f"song {number}.mp3")
        pictures.append(outputs[identity]["image/png"])
        assert f"song {number}.mp3" in outputs[identity]["text/plain"]
    assert pictures[0] != pictures[1]
    assert base64.b64decode(pictures[1]).startswith(b"\x89PNG")
    assert len(outputs) == 1


def test_songs_wait_for_their_turn_and_those_that_fail_stop_nobody(page, widget, corpus):
    page.upload("one.mp3", corpus.path(0).read_bytes(), "1")
    page.upload("notes.mp3", b"just some text", "2")
    page.upload("empty.mp3", b"", "3")
    page.upload("two.mp3", corpus.path(1).read_bytes(), "4")
    page.wait_for("details", id="4")
    content, _ = page.wait_for("failed", id="2")
    assert content["sentence"] == "It can't be read as music: it is a text file."
    assert "upload" not in content["sentence"] + content["advice"]
    assert page.wait_for("failed", id="3")[0]["sentence"] == "It can't be read as music."
    assert len(widget.predictions) == 2


def test_limits_are_told_and_kept(make_widget, monkeypatch):
    page = ToyPage(make_widget(limits=Limits(size_bytes=2_000_000, paths=False)), monkeypatch)
    page.say("hello")
    setup, _ = page.wait_for("setup")
    assert "up to 2 MB and 120 minutes" in setup["hint"]
    assert setup["hint"].endswith("Tagger: jamendo, 5 tags.")
    assert setup["paths"] is False
    page.say("begin", id="x", name="big.wav", size=2_000_001)
    assert page.wait_for("failed")[0]["sentence"] == "It has 2 MB; the limit here is 2 MB."
    assert page.all("ack") == []
    page.say("chunk", b"data", id="x", offset=0)  # a browser that sends all the same
    assert page.all("ack") == []
    page.say("remove", id="x")
    page.told.clear()
    page.say("hello")
    assert [message["type"] for message, _ in page.told] == ["setup"]


def test_where_paths_are_not_allowed_none_is_opened(make_widget, monkeypatch, corpus):
    page = ToyPage(make_widget(limits=Limits(paths=False)), monkeypatch)
    page.say("path", path=str(corpus.path(0)))
    page.say("piece", key=str(corpus.path(0)), index=0)
    content, buffers = page.wait_for("piece")
    assert (content["last"], buffers) == (True, [])
    assert page.all("progress") == []


def test_a_path_is_tagged_and_its_song_can_be_played(page, corpus, tmp_path):
    page.say("path", path=f"{corpus.path(2)}")
    content, _ = page.wait_for("tags")
    assert content["playable"] is True
    page.say("piece", key=content["id"], index=0)
    piece, (sound,) = page.wait_for("piece")
    assert len(sound) > 50_000
    assert piece["last"] is True
    page.say("path", path=str(tmp_path / "nothing.mp3"))
    assert page.wait_for("failed")[0]["sentence"] == "There is no such file at this place."
    page.say("path", path="~nobodyofthisname/x.mp3")
    page.wait_for("failed", name="x.mp3")


def test_an_upload_can_be_cancelled_while_it_comes(page, corpus):
    content = corpus.path(0).read_bytes()
    page.say("begin", id="x", name="a.mp3", size=len(content))
    page.say("chunk", content[:100], id="x", offset=0)
    page.say("cancel", id="x")
    page.wait_for("cancelled", id="x")
    page.say("chunk", content[100:], id="x", offset=100)  # it was on its way
    assert len(page.all("ack")) == 2
    assert page.all("failed") == []


def test_a_song_can_be_cancelled_while_it_is_heard(widget, page, corpus, monkeypatch):
    def until_cancelled(*_, is_cancelled, on_progress, **__):
        page.say("cancel", id="x")
        assert is_cancelled()
        raise songs.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(songs, "analyse", until_cancelled)
        page.upload("a.mp3", corpus.path(0).read_bytes(), "x")
        page.wait_for("cancelled", id="x")
    page.upload("a.mp3", corpus.path(0).read_bytes(), "y")
    page.wait_for("tags", id="y")
    assert len(widget.predictions) == 1


@pytest.mark.thorough
def test_a_view_that_comes_later_is_told_all(page, corpus):
    page.upload("a.mp3", corpus.path(0).read_bytes(), "1")
    page.upload("notes.mp3", b"text", "2")
    page.wait_for("details")
    page.wait_for("failed")
    page.told.clear()
    page.say("hello")
    assert [(message["type"], message.get("id")) for message, _ in page.told] == [
        ("setup", None),
        ("tags", "1"),
        ("details", "1"),
        ("failed", "2"),
    ]
    page.say("remove", id="1")
    page.told.clear()
    page.say("hello")
    assert [message["type"] for message, _ in page.told] == ["setup", "failed"]


def test_results_can_be_taken_away(page, corpus):
    page.upload("my song.mp3", corpus.path(0).read_bytes(), "1")
    page.wait_for("tags")
    for form, mark in (("csv", b"my song.mp3"), ("json", b'"timeline"'), ("png", b"\x89PNG")):
        page.say("save", id="1", format=form)
        _, (file,) = page.wait_for("file", name=f"my song moods.{form}")
        assert mark in file
    page.wait_for("details")


def test_similar_tracks_of_a_library(corpus, library, make_widget, monkeypatch):
    page = ToyPage(make_widget(library=library), monkeypatch)
    page.say("path", path=str(corpus.path(0)))
    details, _ = page.wait_for("details")
    key = corpus.songs[0].path.removesuffix(".mp3")
    assert details["left_out"] == f"{key} is left out: it is the song itself (the same file)"
    assert [track["key"] for track in details["similar"]] == [one.key for one in library.similar(key, 6)]
    first = details["similar"][0]
    (song,) = (song for song in corpus.songs if song.path.removesuffix(".mp3") == first["key"])
    assert first["title"] == f"Study in {' and '.join(song.moods)} no. {song.id}"
    page.say("piece", key=first["key"], index=0)
    assert page.wait_for("piece")[1][0][:3] in (b"ID3", b"\xff\xfb\x50")


def test_messages_that_make_no_sense_do_no_harm(widget, page, corpus):
    for message in (
        {},
        {"type": "nosuch"},
        {"type": "begin"},
        {"type": "begin", "id": "x", "name": "a.mp3", "size": "many"},
        {"type": "chunk", "id": "up", "offset": 0},
        {"type": "save", "id": "nobody", "format": "csv"},
        {"type": "cancel", "id": ["x"]},
        {"type": "remove"},
        {"type": "piece", "key": "x", "index": None},
        {"type": "piece", "key": "x", "index": float("inf")},
        {"type": "begin", "id": "x", "name": "a.mp3", "size": float("inf")},
    ):
        page.told.clear()
        page.say("begin", id="up", name="a.mp3", size=10)
        widget.session.receive(message, [])
        page.say("cancel", id="up")
        assert page.wait_for("cancelled", id="up"), message
    assert widget.tag_file(corpus.path(0)).title


@pytest.mark.thorough
def test_an_upload_begun_twice_goes_on_as_it_was(page, corpus):
    content = corpus.path(0).read_bytes()
    page.say("begin", id="x", name="a.mp3", size=len(content))
    page.say("begin", id="x", name="b.mp3", size=10)
    page.say("chunk", content, id="x", offset=0)
    for _ in range(3):
        page.say("chunk", b"", id="x", offset=len(content))  # it is complete, and not to be heard again
    assert page.wait_for("details")[0]["name"] == "a.mp3"
    assert len(page.all("ack")) == 2
    assert len(page.all("progress", stage="queue")) == 1


@pytest.mark.thorough
def test_a_song_removed_before_its_details_is_heard_of_no_more(page, corpus, monkeypatch, widget):
    def remove_meanwhile(*arguments):
        page.say("remove", id="up")
        return describe_details(*arguments)  # its file is still there

    describe_details = songs.describe_details
    monkeypatch.setattr(songs, "describe_details", remove_meanwhile)
    page.upload("a.mp3", corpus.path(0).read_bytes())
    page.wait_for("removed", id="up")
    page.upload("b.mp3", corpus.path(1).read_bytes(), "next")
    page.wait_for("details", id="next")
    assert page.all("details", id="up") == []
    assert page.all("failed") == []
    page.told.clear()
    page.say("hello")
    assert [message.get("id") for message, _ in page.told] == [None, "next", "next"]
    assert len(widget.predictions) == 2


@pytest.mark.thorough
def test_what_a_view_asks_for_comes_to_it_alone(page, corpus):
    page.upload("a.mp3", corpus.path(0).read_bytes())
    page.wait_for("details")
    page.told.clear()
    page.say("hello", view="second")
    page.say("save", id="up", format="csv", view="second")
    assert {message["view"] for message, _ in page.told} == {"second"}


def test_a_widget_can_be_closed(make_widget, corpus, temporary):
    widget = make_widget()
    widget.tag_bytes("a.mp3", corpus.path(0).read_bytes())
    widget.session.receive({"type": "begin", "id": "x", "name": "half.mp3", "size": 10}, [])
    assert list(temporary.iterdir()) != []
    widget.close()
    assert list(temporary.iterdir()) == []
    widget.close()  # a second time does no harm


def test_code_can_wait_for_a_song(widget, corpus, tmp_path):
    prediction = widget.tag_bytes("my song.mp3", corpus.path(0).read_bytes())
    assert prediction.title == widget.predictions[0].title
    with pytest.raises(AudioError, match="no such file"):
        widget.tag_file(tmp_path / "nothing.mp3")
    with pytest.raises(AudioError, match="not a readable audio file"):
        widget.tag_bytes("notes.mp3", b"text")


@pytest.mark.thorough
def test_an_error_of_ours_is_told_and_logged(widget, page, corpus, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("out of order")

    with monkeypatch.context() as patch:
        patch.setattr(songs, "analyse", broken)
        page.upload("a.mp3", corpus.path(0).read_bytes(), "1")
        assert "Something broke" in page.wait_for("failed")[0]["sentence"]
    assert "out of order" in caplog.text
    page.upload("a.mp3", corpus.path(0).read_bytes(), "2")
    page.wait_for("details", id="2")


def test_the_embedder_is_loaded_when_the_first_song_comes(corpus, logmel, make_widget, monkeypatch):
    loaded = []
    monkeypatch.setattr(songs, "load_embedder", lambda spec: loaded.append(spec) or logmel)
    widget = make_widget(embedder=None)
    assert loaded == []
    page = ToyPage(widget, monkeypatch)
    page.upload("a.mp3", corpus.path(0).read_bytes(), "1")
    page.upload("b.mp3", corpus.path(1).read_bytes(), "2")
    page.wait_for("details", id="2")
    assert loaded == [logmel.spec]
    assert page.all("progress", stage="load", id="1")
    assert not page.all("progress", stage="load", id="2")


def test_without_weights_a_song_fails_with_advice(corpus, make_widget, monkeypatch):
    monkeypatch.setenv("JAMENDO_MOOD_VGGISH", "/nowhere")
    page = ToyPage(make_widget(None, None), monkeypatch)  # the tagger that comes with the package
    page.say("hello")
    page.upload("a.mp3", corpus.path(0).read_bytes())
    content, _ = page.wait_for("failed")
    assert content["sentence"].startswith("The network that analyses songs is not on this machine")
    assert "README" in content["advice"]


def test_an_embedder_that_does_not_fit_is_refused_at_once(corpus_tagger, logmel):
    with pytest.raises(UsageError, match="this tagger needs embeddings of logmel"):
        TagWidget(corpus_tagger, replace(logmel, spec=OTHER_SPEC))


@pytest.mark.thorough
def test_colabs_own_dialog(widget, corpus, monkeypatch):
    """With a stand-in for ``google.colab``, whose dialog gives the bytes of what was chosen, by name."""
    files = types.SimpleNamespace(upload=lambda: {"mine.mp3": corpus.path(0).read_bytes()})
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(files=files))
    (prediction,) = widget.ask_colab()
    assert prediction.title == widget.predictions[0].title
    monkeypatch.setattr(files, "upload", lambda: {"notes.txt": b"text"})
    with pytest.raises(MoodError):
        widget.ask_colab()


def test_the_fallback_is_there_until_the_page_is(widget, page, corpus):
    assert widget.fallback.in_use
    widget.tag_file(corpus.path(0))
    page.wait_for("details")
    assert len(widget.fallback.results.children) == 1
    widget.fallback.path.value = str(corpus.path(1).parent / "nothing.mp3")
    page.wait_for("failed")
    assert widget.fallback.status.value.startswith("nothing.mp3: There is no such file")
    page.say("hello")
    assert not widget.fallback.in_use


@pytest.mark.thorough
def test_hostile_names_and_metadata_stay_text(page, make_audio, tone, tmp_path):
    hostile = "<script>alert('$_{$')</script>"
    path = make_audio(tmp_path / "song.mp3", tone(), options=("-metadata", f"title={hostile}"))
    page.upload(hostile, path.read_bytes())
    content, _ = page.wait_for("tags")
    assert (content["title"], content["name"]) == (hostile, hostile)  # as they are: the page never takes text for HTML
    page.wait_for("details")


@pytest.fixture
def added():
    return []


@pytest.fixture
def fallback(added):
    return Fallback(lambda name, content: added.append((name, content)), added.append)


def upload(fallback, *files):
    """What the browser's side of FileUpload sends: for each file a dict with its bytes in a memoryview."""
    now = time.time() * 1000
    described = [
        {"name": name, "type": "audio/mpeg", "size": len(content), "content": memoryview(content), "last_modified": now}
        for name, content in files
    ]
    fallback.upload.set_state({"value": described})


def test_uploaded_bytes_are_handed_on_and_dropped(fallback, added):
    upload(fallback, ("a.mp3", b"one"), ("b.mp3", b"two"))
    assert added == [("a.mp3", b"one"), ("b.mp3", b"two")]
    assert fallback.upload.value == ()
    upload(fallback, ("a.mp3", b"one"))  # the very same file again is another upload
    assert len(added) == 3
    assert fallback.status.value == "Analysing a.mp3 ..."


def test_a_path_is_handed_on(fallback, added):
    fallback.path.value = "  /music/a.mp3 "
    fallback.path.value = ""
    assert added == ["/music/a.mp3"]


def test_without_paths_there_is_no_box_for_them():
    fallback = Fallback(lambda *_: None)
    assert fallback.path not in fallback.children[1].children
    fallback.path.value = "/etc/passwd"  # a browser that sends it all the same
    assert fallback.status.value == ""


def test_a_refusal_is_shown_as_text():
    def refuse(name, _):
        raise LimitError(f"{name} has 312 MB")

    fallback = Fallback(refuse)
    upload(fallback, ("<b>.mp3", b"one"))
    assert fallback.status.value == "&lt;b&gt;.mp3 has 312 MB"
    assert fallback.upload.value == ()


def test_songs_are_shown_as_pictures_the_newest_on_top_until_they_are_put_away(
    fallback, corpus, corpus_tagger, logmel, no_pyplot
):
    prediction = predict(corpus.path(0), corpus_tagger, logmel)
    for name in ("one.mp3", "<two>.mp3"):
        fallback.show(name, prediction)
    headings = [box.children[0].value for box in fallback.results.children]
    assert headings == ["<h3>&lt;two&gt;.mp3</h3>", "<h3>one.mp3</h3>"]
    assert all(bytes(box.children[1].value).startswith(b"\x89PNG") for box in fallback.results.children)
    assert fallback.in_use
    fallback.put_away()
    assert not fallback.in_use
    assert fallback.results.children == ()  # pictures would be saved with the notebook
