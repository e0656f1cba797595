"""The widget that tags songs, its fallback, and what it shares with the other widget."""

import base64
import csv
import io
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from toy_examples import OTHER_SPEC
from toy_page import ToyPage

from jamendo_mood.app import session, songs
from jamendo_mood.app.session import Session, read_static
from jamendo_mood.app.widget import Fallback, ScriptWidget, TagWidget
from jamendo_mood.audio import decoding
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tagging.prediction import predict
from jamendo_mood.util.errors import AudioError, LimitError, UsageError

pytest_plugins = ["demo_corpus"]

SCRIPTS = {"tagging": session.TAG_SCRIPTS, "finding": session.FIND_SCRIPTS}


def test_messages_go_both_ways(monkeypatch):
    heard, sent = [], []

    class Greeted(Session):
        def _on_hello(self, message, buffers):
            heard.append((message, buffers))

    monkeypatch.setattr(ScriptWidget, "send", lambda _, content, buffers: sent.append((content, buffers)))
    widget = ScriptWidget(("dom.js",), "draw")
    widget.session = Greeted(widget.send, Limits(), {})
    widget._handle_custom_msg({"type": "hello"}, [b"x"])
    assert heard == [({"type": "hello"}, [b"x"])]
    assert widget._esm == read_static("dom.js") + "export default { render: draw };"
    assert widget._css == read_static("style.css")
    widget.session.tell("tags", (b"x",), id="1")
    assert sent == [({"type": "tags", "id": "1"}, [b"x"])]


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


@pytest.fixture
def sounds(song, tmp_path, monkeypatch):
    """A page that plays tracks of a library, by their keys."""
    broken = tmp_path / "broken.mp3"
    broken.write_text("text")
    files = {"48/948": song, "broken": broken, "gone": tmp_path / "gone.mp3"}
    page = ToyPage(SimpleNamespace(session=Session(None, Limits(), files)), monkeypatch)
    yield page
    page.session.close()


def test_an_excerpt_is_the_middle_of_a_song_in_pieces(sounds, monkeypatch, tmp_path, read_wav):
    monkeypatch.setattr(session, "EXCERPT_S", 12.0)
    monkeypatch.setattr(session, "PIECE_BYTES", 10_000)
    pieces = []
    while not pieces or not pieces[-1][0]["last"]:
        sounds.say("piece", key="48/948", index=len(pieces))
        pieces.append(sounds.wait_for("piece", index=len(pieces)))
    mp3 = b"".join(piece for _, (piece,) in pieces)
    assert len(pieces) == -(-len(mp3) // 10_000)
    assert len(mp3) < 12 * 64_000 / 8 * 1.1
    hz, seconds = pitch_and_length(mp3, tmp_path, read_wav)
    assert hz == pytest.approx(3000, abs=5)
    assert seconds == pytest.approx(12, abs=0.2)
    sounds.say("piece", key="48/948", index=99)  # past the end
    content, buffers = sounds.wait_for("piece", index=99)
    assert (content["last"], buffers) == (True, [])


def test_sounds_come_by_key_and_nothing_else_does(sounds, song):
    # No path opens anything, and none is told.
    why = {str(song): "its audio is not here", "broken": "no MP3 can be made of it here", "gone": "its file is gone"}
    for key in ["48/948", "48/948", *why]:
        sounds.say("piece", key=key, index=0)
        sounds.wait_for("piece", key=key)
    (_, first), (_, second) = sounds.wait_for_two("piece")[:2]
    assert len(first[0]) == len(second[0]) == session.PIECE_BYTES
    assert sounds.session._sound_of.cache_info().hits == 1  # encoded once
    assert {key: sounds.wait_for("piece", key=key)[0]["why"] for key in why} == why


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

    def make(tagger=corpus_tagger, embedder=logmel, library=None, **limits):
        made.append(TagWidget(tagger, embedder, library=library, limits=Limits(**limits)))
        return made[-1]

    yield make
    for widget in made:
        widget.close()


@pytest.fixture
def make_page(make_widget, monkeypatch):
    return lambda *given, **options: ToyPage(make_widget(*given, **options), monkeypatch)


@pytest.fixture
def page(make_page):
    return make_page()


def test_an_uploaded_song_is_tagged(page, corpus, logmel, corpus_tagger):
    page.say("hello")
    page.upload("my song.MP3", corpus.path(-1).read_bytes(), piece=30_000)
    content, (timeline,) = page.wait_for("tags")
    expected = predict(corpus.path(-1), corpus_tagger, logmel)
    assert (content["name"], content["title"]) == ("my song.MP3", expected.title)
    assert [(tag["name"], tag["score"]) for tag in content["targets"][:3]] == [row[:2] for row in expected.top(3)]
    assert len(timeline) == content["frames"] * len(content["targets"]) == expected.frame_scores.size
    details, (picture,) = page.wait_for("details")
    assert details["why"].keys() == set(expected.targets)
    assert picture.startswith(b"\x89PNG")
    assert [prediction.title for prediction in page.widget.predictions] == [expected.title]
    received = [(message["received"], message["complete"]) for message, _ in page.all("ack")]
    assert received == sorted(received)
    assert (received[0], [complete for _, complete in received].count(True)) == ((0, False), 1)
    assert page.all("progress")[-1][0]["stage"] == "score"
    for form, mark in (("csv", b"my song.MP3"), ("json", b'"timeline"'), ("png", b"\x89PNG")):
        page.say("save", id="up", format=form)
        assert mark in page.wait_for("file", name=f"my song moods.{form}")[1][0]
    saved = {**page.widget.get_state(), **page.widget.browser.get_state()}  # with the notebook
    assert not any(isinstance(value, bytes | memoryview) for value in saved.values())
    assert "my song" not in str(saved)


@pytest.mark.parametrize("own", [True, False])
def test_similar_tracks_become_a_playlist(make_page, corpus, library, own):
    page = make_page(library=library, paths=own)
    page.say("hello")
    assert page.wait_for("setup")[0]["formats"] == (["csv", "m3u8"] if own else ["csv"])
    song = corpus.path(0)
    page.say("path", path=str(song)) if own else page.upload(song.name, song.read_bytes())
    details, _ = page.wait_for("details")
    itself = corpus.songs[0].path.removesuffix(".mp3")
    how = "file" if own else "sound"
    assert details["left_out"] == f"{itself} is left out: it is the song itself (the same {how})"
    shown = [track["key"] for track in details["similar"]]
    assert shown == [one.key for one in library.similar(itself, 6)]
    for form in ("csv", "m3u8"):
        page.say("playlist", id=details["id"], format=form, view="v")
    (table, (rows,)), (playlist, (lines,)) = page.wait_for_two("file")
    assert (table["name"], table["view"]) == (f"like {song.stem}.csv", "v")
    assert playlist["name"] == f"like {song.stem}.m3u8"
    tracks = list(csv.DictReader(io.StringIO(rows.decode())))
    assert [track["key"] for track in tracks[: len(shown)]] == shown
    assert len(tracks) == min(len(library) - 1, 25)
    assert tracks[0]["title"] == details["similar"][0]["title"]
    assert tracks[0]["title"].startswith("Study in")
    assert (str(corpus.audio) in rows.decode()) == own  # no path of another's machine
    assert (str(corpus.audio) in lines.decode()) == own
    page.say("piece", key=shown[0], index=0)
    assert page.wait_for("piece")[1][0][:3] in (b"ID3", b"\xff\xfb\x50")


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


def test_songs_wait_for_their_turn_and_those_that_fail_stop_nobody(page, corpus):
    page.upload("one.mp3", corpus.path(0).read_bytes(), "1")
    page.upload("notes.mp3", b"just some text", "2")
    page.upload("empty.mp3", b"", "3")
    page.upload("two.mp3", corpus.path(1).read_bytes(), "4")
    page.wait_for("details", id="4")
    content, _ = page.wait_for("failed", id="2")
    assert content["sentence"] == "It can't be read as music: it is a text file."
    assert "upload" not in content["sentence"] + content["advice"]
    assert page.wait_for("failed", id="3")[0]["sentence"] == "It can't be read as music."
    assert len(page.widget.predictions) == 2


def test_limits_are_told_and_kept(make_page, corpus):
    page = make_page(size_bytes=2_000_000, paths=False)
    page.say("hello")
    setup, _ = page.wait_for("setup")
    assert "up to 2 MB and 120 minutes" in setup["hint"]
    assert setup["hint"].endswith("Tagger: jamendo, 5 tags.")
    assert setup["paths"] is False
    page.say("path", path=str(corpus.path(0)))
    page.say("piece", key=str(corpus.path(0)), index=0)
    content, buffers = page.wait_for("piece")
    assert (content["last"], buffers, page.all("progress")) == (True, [], [])
    page.say("begin", id="x", name="big.wav", size=2_000_001)
    assert page.wait_for("failed")[0]["sentence"] == "It has 2 MB; the limit here is 2 MB."
    assert page.all("ack") == []
    page.say("chunk", b"data", id="x", offset=0)  # a browser that sends all the same
    assert page.all("ack") == []
    page.say("remove", id="x")
    page.told.clear()
    page.say("hello")
    assert [message["type"] for message, _ in page.told] == ["setup"]


def test_a_path_is_tagged_and_its_song_can_be_played(page, song, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "PIECE_BYTES", 10**6)
    page.say("path", path=str(song))
    content, _ = page.wait_for("tags")
    assert content["playable"] is True
    page.say("piece", key=content["id"], index=0)
    piece, (sound,) = page.wait_for("piece")
    assert len(sound) > 35 * 64_000 / 8  # one's own song is heard whole: 40 s, not 30
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


def test_a_song_can_be_cancelled_while_it_is_heard(page, corpus, monkeypatch):
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
    assert len(page.widget.predictions) == 1


@pytest.mark.thorough
def test_a_view_that_comes_later_is_told_all_alone(page, corpus):
    page.upload("a.mp3", corpus.path(0).read_bytes(), "1")
    page.upload("notes.mp3", b"text", "2")
    page.wait_for("details")
    page.wait_for("failed")
    page.told.clear()
    page.say("hello", view="second")
    page.say("save", id="1", format="csv", view="second")
    told = [(message["type"], message.get("id")) for message, _ in page.told]
    assert told == [("setup", None), ("tags", "1"), ("details", "1"), ("failed", "2"), ("file", None)]
    assert {message["view"] for message, _ in page.told} == {"second"}
    page.say("remove", id="1")
    page.told.clear()
    page.say("hello")
    assert [message["type"] for message, _ in page.told] == ["setup", "failed"]


def test_messages_that_make_no_sense_do_no_harm(page, corpus):
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
        page.session.receive(message, [])
        page.say("cancel", id="up")
        assert page.wait_for("cancelled", id="up"), message
    assert page.widget.tag_file(corpus.path(0)).title


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
    assert len(page.all("progress", stage="decode")) == 1


@pytest.mark.thorough
def test_a_song_removed_before_its_details_is_heard_of_no_more(page, corpus, monkeypatch):
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
    assert len(page.widget.predictions) == 2


def test_code_can_wait_for_a_song_and_a_widget_can_be_closed(make_widget, corpus, tmp_path, temporary):
    widget = make_widget()
    prediction = widget.tag_bytes("my song.mp3", corpus.path(0).read_bytes())
    assert prediction.title == widget.predictions[0].title
    with pytest.raises(AudioError, match="no such file"):
        widget.tag_file(tmp_path / "nothing.mp3")
    with pytest.raises(AudioError, match="not a readable audio file"):
        widget.tag_bytes("notes.mp3", b"text")
    widget.session.receive({"type": "begin", "id": "x", "name": "half.mp3", "size": 10}, [])
    assert list(temporary.iterdir()) != []
    widget.close()
    assert list(temporary.iterdir()) == []
    widget.close()  # a second time does no harm


def test_the_embedder_is_loaded_when_the_first_song_comes(corpus, logmel, make_page, monkeypatch):
    loaded = []
    monkeypatch.setattr("jamendo_mood.app.widget.load_embedder", lambda spec: loaded.append(spec) or logmel)
    page = make_page(embedder=None)
    assert loaded == []
    page.upload("a.mp3", corpus.path(0).read_bytes(), "1")
    page.wait_for("details", id="1")
    page.upload("b.mp3", corpus.path(1).read_bytes(), "2")
    page.wait_for("details", id="2")
    assert loaded == [logmel.spec]
    assert page.all("progress", stage="load", id="1")
    assert not page.all("progress", stage="load", id="2")


def test_without_weights_a_song_fails_with_advice(corpus, make_page, monkeypatch):
    monkeypatch.setenv("JAMENDO_MOOD_VGGISH", "/nowhere")
    page = make_page(None, None)  # the tagger that comes with the package
    page.say("hello")
    page.upload("a.mp3", corpus.path(0).read_bytes())
    content, _ = page.wait_for("failed")
    assert content["sentence"].startswith("The network that analyses songs is not on this machine")
    assert "README" in content["advice"]


def test_an_embedder_that_does_not_fit_is_refused_at_once(corpus_tagger, logmel):
    with pytest.raises(UsageError, match="this tagger needs embeddings of logmel"):
        TagWidget(corpus_tagger, replace(logmel, spec=OTHER_SPEC))


def test_the_fallback_shows_songs_the_newest_on_top_until_the_page_is_there(page, corpus, no_pyplot):
    fallback = page.widget.fallback
    for name in ("one.mp3", "<two>.mp3"):
        page.widget.tag_file(corpus.path(0), name)
        page.wait_for("details", name=name)
    headings, pictures = zip(*(box.children for box in fallback.results.children), strict=True)
    assert [heading.value for heading in headings] == ["<h3>&lt;two&gt;.mp3</h3>", "<h3>one.mp3</h3>"]
    assert all(bytes(picture.value).startswith(b"\x89PNG") for picture in pictures)
    fallback.path.value = str(corpus.path(1).parent / "nothing.mp3")
    page.wait_for("failed")
    assert fallback.status.value.startswith("nothing.mp3: There is no such file")
    page.say("hello")
    page.widget.tag_file(corpus.path(0), "three.mp3")  # its picture would be saved with the notebook
    assert (fallback.in_use, fallback.layout.display, fallback.results.children) == (False, "none", ())


@pytest.fixture
def added():
    return []


@pytest.fixture
def fallback(added):
    def add(name, content):
        if name == "<b>.mp3":
            raise LimitError(f"{name} has 312 MB")
        added.append((name, content))

    return Fallback(add, added.append)


def upload(fallback, *files):
    """What the browser's side of FileUpload sends: for each file a dict with its bytes in a memoryview."""
    about = {"type": "audio/mpeg", "last_modified": time.time() * 1000}
    described = [{"name": name, "size": len(file), "content": memoryview(file), **about} for name, file in files]
    fallback.upload.set_state({"value": described})
    assert fallback.upload.value == ()


def test_uploads_and_paths_are_handed_on_and_dropped(fallback, added):
    upload(fallback, ("a.mp3", b"one"), ("b.mp3", b"two"))
    upload(fallback, ("a.mp3", b"one"))  # the very same file again is another upload
    assert fallback.status.value == "Analysing a.mp3 ..."
    fallback.path.value = "  /music/a.mp3 "
    fallback.path.value = ""
    assert added == [("a.mp3", b"one"), ("b.mp3", b"two"), ("a.mp3", b"one"), "/music/a.mp3"]
    upload(fallback, ("<b>.mp3", b"one"))  # a refusal is shown as text
    assert fallback.status.value == "&lt;b&gt;.mp3 has 312 MB"


def test_without_paths_there_is_no_box_for_them():
    fallback = Fallback(lambda *_: None)
    assert fallback.path not in fallback.children[1].children
    fallback.path.value = "/etc/passwd"  # a browser that sends it all the same
    assert fallback.status.value == ""
