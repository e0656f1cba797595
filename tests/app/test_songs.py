"""Uploads, and the queue of songs."""

import gc
import subprocess
import threading

import pytest

from jamendo_mood.app.songs import Song, SongQueue, Uploads
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tagging.prediction import clock
from jamendo_mood.util.errors import AudioError, BusyError, CancelledError, UsageError

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def told():
    """What songs told: which one, what kind, its content, and in which thread."""
    return []


@pytest.fixture
def make_song(told, corpus):
    def tell(song, kind, buffers=(), **content):
        told.append((song.id, kind, content, threading.current_thread().name))

    def make(identity="1", path=None, tell=tell):
        return Song(identity, "a.mp3", path or corpus.path(0), tell)

    return make


@pytest.fixture
def make_queue(corpus_tagger, logmel, tmp_path):
    made = []

    def make(load=lambda: logmel, **options):
        made.append(SongQueue(corpus_tagger, load, None, Limits(scratch=tmp_path), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def songs(make_queue):
    return make_queue()


def test_a_song_goes_from_queue_to_details_with_two_processes(make_song, songs, told, monkeypatch):
    """One looks at the header, one decodes; the spectrogram of the details needs no other."""
    popen, commands = subprocess.Popen, []
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **given: commands.append(command) or popen(command, **given)
    )
    song = make_song()
    songs.put(song)
    assert songs.wait(song) is song.prediction
    songs.close()
    kinds = [kind for _, kind, _, _ in told]
    assert (kinds[0], kinds[-2:]) == ("progress", ["tags", "details"])
    assert {thread for _, kind, _, thread in told if kind in ("tags", "details")} == {"jamendo-mood-songs"}
    assert len(commands) == 2


def test_the_thread_lives_on_though_nobody_can_be_told(make_song, songs, tmp_path, caplog):
    def tell(song, kind, buffers=(), **content):
        if song.id == "1" and kind != "progress":
            raise RuntimeError("the page has gone")

    first, second = make_song(path=tmp_path / "nothing.mp3", tell=tell), make_song("2")
    for song in (first, second):
        songs.put(song)
    assert songs.wait(second)
    with pytest.raises(AudioError, match="no such file"):
        songs.wait(first)
    assert "the page has gone" in caplog.text


def test_a_song_cancelled_in_the_queue_is_not_begun(make_song, songs, told):
    song = make_song()
    song.cancelled.set()
    songs.put(song)
    with pytest.raises(CancelledError):
        songs.wait(song)
    assert [kind for _, kind, _, _ in told] == ["progress", "cancelled"]


def test_ctrl_c_cancels_the_song_that_is_waited_for(make_song, songs, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def held(*_, is_cancelled, **__):
        begun.set()
        go_on.wait(60)
        assert is_cancelled()
        raise CancelledError

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("jamendo_mood.app.songs.analyse", held)
    song = make_song()
    songs.put(song)
    assert begun.wait(60)
    monkeypatch.setattr(song.done, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        songs.wait(song)
    assert song.cancelled.is_set()
    go_on.set()


def test_moods_stay_though_the_details_fail(make_song, songs, told, monkeypatch, caplog):
    def broken(*_):
        raise OSError("no picture")

    monkeypatch.setattr("jamendo_mood.app.songs.describe_details", broken)
    song = make_song()
    songs.put(song)
    songs.close()
    assert [kind for _, kind, _, _ in told][-2:] == ["tags", "details"]
    assert told[-1][2] == {"why": {}, "similar": [], "left_out": ""}
    assert (song.result(), song.error) == (song.prediction, None)
    assert "no picture" in caplog.text


def test_warming_up_tells_nobody_even_if_it_fails_and_the_first_song_tells(make_queue, make_song, told):
    loads = []

    def broken():
        loads.append(len(loads))
        raise RuntimeError("out of order")

    songs = make_queue(broken)
    songs.warm_up()
    songs.warm_up()
    songs.close()
    assert (told, loads) == ([], [0])
    songs.put(make_song())
    songs.close()
    assert [kind for _, kind, _, _ in told] == ["progress", "failed"]


def test_closing_waits_for_the_songs_that_are_there(make_song, songs, told, corpus):
    for number in range(2):
        songs.put(make_song(str(number), corpus.path(number)))
    songs.close()
    assert [identity for identity, kind, _, _ in told if kind == "details"] == ["0", "1"]
    songs.close()


def test_only_errors_of_ours_are_logged(make_song, songs, told, caplog):
    songs.fail(make_song(), AudioError("x"))
    assert caplog.text == ""
    songs.fail(make_song(), RuntimeError("out of order"))
    assert "out of order" in caplog.text
    assert [set(content) for _, _, content, _ in told] == [{"sentence", "advice"}] * 2


@pytest.fixture
def limits(tmp_path):
    return Limits(size_bytes=1_000_000, length_s=60.0, scratch=tmp_path)


@pytest.fixture
def uploads(limits):
    uploads = Uploads(limits)
    yield uploads
    uploads.close()


def test_a_file_comes_in_pieces_and_goes(uploads, tmp_path):
    upload = uploads.begin("my song.MP3", 7)
    upload.add(0, b"abc")
    assert (upload.received, upload.is_complete) == (3, False)
    upload.add(3, memoryview(b"defg"))
    assert upload.is_complete
    path = upload.path
    assert (path.read_bytes(), path.suffix) == (b"abcdefg", ".mp3")
    assert tmp_path in path.parents
    assert path.parent.parent.stat().st_mode & 0o077 == 0  # nobody else may look
    upload.close()
    assert not path.parent.exists()
    upload.close()  # a second time does no harm


@pytest.mark.parametrize("name", ["../../etc/passwd.mp3", "a/b.mp3", "nul\0.mp3", "x" * 400 + ".mp3", "", ".."])
def test_of_the_name_only_a_known_ending_is_used(uploads, tmp_path, name):
    path = uploads.begin(name, 1).path
    assert path.name in {"upload.mp3", "upload"}
    assert tmp_path in path.parents


@pytest.mark.parametrize(("offset", "piece"), [(1, b"a"), (0, b"too much"), (-1, b"a"), (0, b"")])
def test_a_piece_out_of_turn_is_refused(uploads, offset, piece):
    upload = uploads.begin("song.mp3", 3)
    with pytest.raises(UsageError, match="out of order"):
        upload.add(offset, piece)
    upload.add(0, b"abc")
    assert upload.is_complete


def test_all_uploads_together_have_a_bound_on_what_has_come(uploads):
    made = [uploads.begin("song.mp3", 1_000_000) for _ in range(7)]  # what is only announced takes no room
    for upload in made[:5]:
        upload.add(0, bytes(1_000_000))
    with pytest.raises(BusyError, match=r"song.mp3 has to wait: there are too many songs"):
        made[5].add(0, b"x")
    made[0].close()
    made[6].add(0, b"x")


def test_no_place_for_uploads_is_told_without_its_path(uploads, tmp_path, caplog):
    upload = uploads.begin("song.mp3", 1)
    upload.path.unlink()
    upload.path.mkdir()
    with pytest.raises(UsageError) as caught:
        upload.add(0, b"x")
    assert str(tmp_path) not in str(caught.value)
    assert str(tmp_path) in caplog.text


@pytest.mark.parametrize(("length_s", "text"), [(0.4, "0:00"), (59.6, "1:00"), (185, "3:05"), (9060, "2:31:00")])
def test_lengths_are_read_like_a_clock(length_s, text):
    assert clock(length_s) == text


def test_nothing_is_left_when_the_owner_goes(limits, tmp_path):
    uploads = Uploads(limits)
    uploads.begin("song.mp3", 3).add(0, b"ab")
    del uploads
    gc.collect()
    assert list(tmp_path.iterdir()) == []
