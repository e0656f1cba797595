"""Uploads, and the queue of songs."""

import subprocess
import threading
from dataclasses import replace

import pytest

from jamendo_mood.app.songs import Progress, Song, SongQueue, Uploads, _Throttled, fail
from jamendo_mood.tagging.analysis import Limits, clock
from jamendo_mood.util.errors import AudioError, BusyError, CancelledError, DiskFullError, LimitError, UsageError

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def told():
    return []


@pytest.fixture
def tell(told):
    return lambda song, kind, buffers=(), **content: told.append(
        (song.id, kind, content, threading.current_thread().name)
    )


@pytest.fixture
def songs(corpus_tagger, logmel, tmp_path):
    songs = SongQueue(corpus_tagger, logmel, None, Limits(scratch=tmp_path))
    yield songs
    songs.close()


def test_a_song_goes_from_queue_to_details(tell, songs, told, corpus):
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False, tell=tell)
    songs.put(song)
    prediction = songs.wait(song)
    songs.close()
    kinds = [kind for _, kind, _, _ in told]
    assert kinds[0] == "progress"
    assert kinds[-2:] == ["tags", "details"]
    assert song.prediction is prediction
    assert {thread for _, kind, _, thread in told if kind in ("tags", "details")} == {"jamendo-mood-songs"}


def test_a_song_takes_two_processes_from_queue_to_details(tell, songs, told, corpus, monkeypatch):
    """One looks at the header, one decodes; the spectrogram of the details needs no other."""
    popen, commands = subprocess.Popen, []
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **given: commands.append(command) or popen(command, **given)
    )
    songs.put(Song("1", "a.mp3", corpus.path(0), uploaded=True, tell=tell))
    songs.close()
    assert [kind for _, kind, _, _ in told][-1] == "details"
    assert len(commands) == 2


def test_what_came_in_the_way_is_raised_to_who_waits(tell, songs, told, tmp_path):
    song = Song("1", "nothing.mp3", tmp_path / "nothing.mp3", uploaded=False, tell=tell)
    songs.put(song)
    with pytest.raises(AudioError, match="no such file"):
        songs.wait(song)
    assert told[-1][1] == "failed"
    assert isinstance(song.error, AudioError)


def test_the_thread_lives_on_though_nobody_can_be_told(corpus_tagger, logmel, tmp_path, corpus, caplog):
    def tell(song, kind, buffers=(), **content):
        if song.id == "1" and kind != "progress":
            raise RuntimeError("the page has gone")

    songs = SongQueue(corpus_tagger, logmel, None, Limits(scratch=tmp_path))
    first = Song("1", "nothing.mp3", tmp_path / "nothing.mp3", uploaded=False, tell=tell)
    second = Song("2", "a.mp3", corpus.path(0), uploaded=False, tell=tell)
    for song in (first, second):
        songs.put(song)
    assert second.done.wait(60)
    songs.close()
    assert second.prediction is not None
    assert isinstance(first.error, AudioError)
    assert "the page has gone" in caplog.text


def test_a_song_cancelled_in_the_queue_is_not_begun(tell, songs, told, corpus):
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False, tell=tell)
    song.cancelled.set()
    songs.put(song)
    with pytest.raises(CancelledError):
        songs.wait(song)
    assert [kind for _, kind, _, _ in told] == ["progress", "cancelled"]


def test_ctrl_c_cancels_the_song_that_is_waited_for(tell, songs, corpus, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def held(*_, is_cancelled, **__):
        begun.set()
        go_on.wait(60)
        assert is_cancelled()
        raise CancelledError

    monkeypatch.setattr("jamendo_mood.app.songs.analyse", held)
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False, tell=tell)
    songs.put(song)
    assert begun.wait(60)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(song.done, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        songs.wait(song)
    assert song.cancelled.is_set()
    go_on.set()


def test_moods_stay_though_the_details_fail(tell, songs, told, corpus, monkeypatch, caplog):
    def broken(*_):
        raise OSError("no picture")

    monkeypatch.setattr("jamendo_mood.app.songs.describe_details", broken)
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False, tell=tell)
    songs.put(song)
    songs.wait(song)
    songs.close()
    assert [kind for _, kind, _, _ in told][-2:] == ["tags", "details"]
    assert told[-1][2] == {"why": {}, "similar": [], "left_out": ""}
    assert song.error is None
    assert "no picture" in caplog.text


def test_warming_up_tells_nobody_even_if_it_fails(songs, told, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of order")

    monkeypatch.setattr(songs, "_load_embedder", broken)
    songs.warm_up()
    songs.warm_up()
    songs.close()
    assert told == []


def test_closing_waits_for_the_songs_that_are_there(tell, songs, told, corpus):
    for number in range(2):
        songs.put(Song(str(number), "a.mp3", corpus.path(number), uploaded=False, tell=tell))
    songs.close()
    assert [identity for identity, kind, _, _ in told if kind == "details"] == ["0", "1"]
    songs.close()


def test_progress_is_told_ten_times_a_second_and_at_each_stage(monkeypatch):
    times = iter([0.0, 0.05, 0.11, 0.12])
    monkeypatch.setattr("jamendo_mood.app.songs.time.perf_counter", lambda: next(times))
    told = []
    throttled = _Throttled(told.append)
    for stage, done_s in (("embed", 1.0), ("embed", 2.0), ("embed", 3.0), ("score", 4.0)):
        throttled(Progress(stage, done_s))
    assert [progress.done_s for progress in told] == [1.0, 3.0, 4.0]


def test_only_errors_of_ours_are_logged(caplog, tmp_path):
    told = []
    song = Song("1", "a.mp3", tmp_path, uploaded=False, tell=lambda *_, **content: told.append(content))
    fail(song, AudioError("x"), Limits())
    assert caplog.text == ""
    fail(song, RuntimeError("out of order"), Limits())
    assert "out of order" in caplog.text
    assert [set(content) for content in told] == [{"sentence", "advice"}] * 2


@pytest.fixture
def limits(tmp_path):
    return Limits(size_bytes=1_000_000, length_s=60.0, scratch=tmp_path)


@pytest.fixture
def uploads(limits):
    uploads = Uploads(limits)
    yield uploads
    uploads.close()


def test_a_file_comes_in_pieces_and_goes(uploads, tmp_path):
    uploads.begin("one", "my song.MP3", 7)
    assert not uploads.is_complete("one")
    assert uploads.add("one", 0, b"abc") == 3
    assert uploads.add("one", 3, memoryview(b"defg")) == 7
    assert uploads.is_complete("one")
    path = uploads.path("one")
    assert path.read_bytes() == b"abcdefg"
    assert path.suffix == ".mp3"
    assert tmp_path in path.parents
    assert path.parent.parent.stat().st_mode & 0o077 == 0  # nobody else may look
    uploads.drop("one")
    assert "one" not in uploads
    assert not path.parent.exists()
    uploads.drop("one")  # a second time does no harm


def test_two_uploads_do_not_mix(uploads):
    for identity, content in (("a", b"first"), ("b", b"other")):
        uploads.begin(identity, "song.mp3", 5)
        uploads.add(identity, 0, content)
    assert [uploads.path(identity).read_bytes() for identity in "ab"] == [b"first", b"other"]


@pytest.mark.parametrize("name", ["../../etc/passwd.mp3", "a/b.mp3", "nul\0.mp3", "x" * 400 + ".mp3", "", ".."])
def test_of_the_name_only_a_known_ending_is_used(uploads, tmp_path, name):
    uploads.begin("../../up", name, 1)
    path = uploads.path("../../up")
    assert path.name in {"upload.mp3", "upload"}
    assert tmp_path in path.parents


@pytest.mark.parametrize(("offset", "piece"), [(1, b"a"), (0, b"too much"), (-1, b"a"), (0, b"")])
def test_a_piece_out_of_turn_is_refused(uploads, offset, piece):
    uploads.begin("one", "song.mp3", 3)
    with pytest.raises(UsageError, match="out of order"):
        uploads.add("one", offset, piece)
    assert uploads.add("one", 0, b"abc") == 3
    with pytest.raises(UsageError, match="out of order"):
        uploads.add("nobody", 0, b"abc")


def test_an_upload_cannot_begin_twice_or_with_no_size(uploads):
    uploads.begin("one", "song.mp3", 3)
    with pytest.raises(UsageError, match="cannot begin"):
        uploads.begin("one", "song.mp3", 3)
    with pytest.raises(UsageError, match="cannot begin"):
        uploads.begin("two", "song.mp3", -1)


def test_a_file_too_large_is_refused_before_it_comes(uploads, tmp_path):
    with pytest.raises(LimitError, match=r"big.wav has 312 MB; the limit here is 1 MB"):
        uploads.begin("one", "big.wav", 312_000_000)
    with pytest.raises(LimitError, match="the limit here is 1 MB"):
        uploads.begin("one", "big.wav", 10**400)  # which is beyond all floats
    assert "one" not in uploads
    assert list(tmp_path.iterdir()) == []


def test_so_many_files_are_taken_at_once(uploads):
    for number in range(100):
        uploads.begin(f"{number}", "song.mp3", 0)
    with pytest.raises(BusyError, match=r"song.mp3 has to wait: there are too many songs"):
        uploads.begin("more", "song.mp3", 0)
    uploads.drop("0")
    uploads.begin("more", "song.mp3", 0)


def test_all_uploads_together_have_a_bound_on_what_has_come(uploads):
    for number in range(7):  # what is only announced takes no room
        uploads.begin(f"{number}", "song.mp3", 1_000_000)
    for number in range(5):
        uploads.add(f"{number}", 0, bytes(1_000_000))
    with pytest.raises(BusyError, match=r"song.mp3 has to wait: there are too many songs"):
        uploads.add("5", 0, b"x")
    uploads.drop("0")
    uploads.add("6", 0, b"x")


def test_no_place_for_uploads_is_told_without_its_path(tmp_path, caplog):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    uploads = Uploads(Limits(scratch=in_the_way))
    with pytest.raises(UsageError) as caught:
        uploads.begin("one", "song.mp3", 1)
    assert str(tmp_path) not in str(caught.value)
    assert str(in_the_way) in caplog.text
    uploads.close()


@pytest.mark.parametrize(("length_s", "text"), [(0.4, "0:00"), (59.6, "1:00"), (185, "3:05"), (9060, "2:31:00")])
def test_lengths_are_read_like_a_clock(length_s, text):
    assert clock(length_s) == text


def test_nothing_is_left_when_the_owner_goes(limits, tmp_path):
    uploads = Uploads(limits)
    uploads.begin("one", "song.mp3", 3)
    uploads.add("one", 0, b"ab")
    assert list(tmp_path.iterdir())
    del uploads
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(limits, small_disk):
    uploads = Uploads(replace(limits, scratch=small_disk, size_bytes=10**9))
    uploads.begin("one", "song.mp3", 10**8)
    with pytest.raises(DiskFullError, match="no space left in the scratch folder"):
        uploads.add("one", 0, bytes(10**8))
    uploads.close()
