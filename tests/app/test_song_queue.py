import subprocess
import threading

import pytest

from jamendo_mood.app import song_queue
from jamendo_mood.app.song_queue import Song, SongQueue, fail
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.util.errors import AudioError, CancelledError

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def told():
    return []


@pytest.fixture
def songs(corpus_tagger, logmel, told, tmp_path):
    def tell(song, kind, buffers=(), **content):
        told.append((song.id, kind, content, threading.current_thread().name))

    songs = SongQueue(corpus_tagger, logmel, None, Limits(scratch=tmp_path), tell)
    yield songs
    songs.close()


def test_a_song_goes_from_queue_to_details(songs, told, corpus):
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False)
    songs.put(song)
    prediction = songs.wait(song)
    songs.close()
    kinds = [kind for _, kind, _, _ in told]
    assert kinds[0] == "progress"
    assert kinds[-2:] == ["tags", "details"]
    assert song.prediction is prediction
    assert {thread for _, kind, _, thread in told if kind in ("tags", "details")} == {"jamendo-mood-songs"}


def test_a_song_takes_two_processes_from_queue_to_details(songs, told, corpus, monkeypatch):
    """One looks at the header, one decodes; the spectrogram of the details needs no other."""
    popen, commands = subprocess.Popen, []
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **given: commands.append(command) or popen(command, **given)
    )
    songs.put(Song("1", "a.mp3", corpus.path(0), uploaded=True))
    songs.close()
    assert [kind for _, kind, _, _ in told][-1] == "details"
    assert len(commands) == 2


def test_what_came_in_the_way_is_raised_to_who_waits(songs, told, tmp_path):
    song = Song("1", "nothing.mp3", tmp_path / "nothing.mp3", uploaded=False)
    songs.put(song)
    with pytest.raises(AudioError, match="no such file"):
        songs.wait(song)
    assert told[-1][1] == "failed"
    assert isinstance(song.error, AudioError)


def test_the_thread_lives_on_though_nobody_can_be_told(corpus_tagger, logmel, tmp_path, corpus, caplog):
    def tell(song, kind, buffers=(), **content):
        if song.id == "1" and kind != "progress":
            raise RuntimeError("the page has gone")

    songs = SongQueue(corpus_tagger, logmel, None, Limits(scratch=tmp_path), tell)
    first = Song("1", "nothing.mp3", tmp_path / "nothing.mp3", uploaded=False)
    second = Song("2", "a.mp3", corpus.path(0), uploaded=False)
    for song in (first, second):
        songs.put(song)
    assert second.done.wait(60)
    songs.close()
    assert second.prediction is not None
    assert isinstance(first.error, AudioError)
    assert "the page has gone" in caplog.text


def test_a_song_cancelled_in_the_queue_is_not_begun(songs, told, corpus):
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False)
    song.cancelled.set()
    songs.put(song)
    with pytest.raises(CancelledError):
        songs.wait(song)
    assert [kind for _, kind, _, _ in told] == ["progress", "cancelled"]


def test_ctrl_c_cancels_the_song_that_is_waited_for(songs, corpus, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def held(*_, is_cancelled, **__):
        begun.set()
        go_on.wait(60)
        assert is_cancelled()
        raise CancelledError

    monkeypatch.setattr(song_queue, "analyse", held)
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False)
    songs.put(song)
    assert begun.wait(60)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(song.done, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        songs.wait(song)
    assert song.cancelled.is_set()
    go_on.set()


def test_moods_stay_though_the_details_fail(songs, told, corpus, monkeypatch, caplog):
    def broken(*_):
        raise OSError("no picture")

    monkeypatch.setattr(song_queue.song_view, "describe_details", broken)
    song = Song("1", "a.mp3", corpus.path(0), uploaded=False)
    songs.put(song)
    songs.wait(song)
    songs.close()
    assert [kind for _, kind, _, _ in told][-2:] == ["tags", "details"]
    assert told[-1][2] == {"why": {}, "similar": []}
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


def test_closing_waits_for_the_songs_that_are_there(songs, told, corpus):
    for number in range(2):
        songs.put(Song(str(number), "a.mp3", corpus.path(number), uploaded=False))
    songs.close()
    assert [identity for identity, kind, _, _ in told if kind == "details"] == ["0", "1"]
    songs.close()


def test_progress_is_told_ten_times_a_second_and_at_each_stage(monkeypatch):
    times = iter([0.0, 0.05, 0.11, 0.12])
    monkeypatch.setattr(song_queue.time, "perf_counter", lambda: next(times))
    told = []
    throttled = song_queue._Throttled(told.append)
    for stage, done_s in (("embed", 1.0), ("embed", 2.0), ("embed", 3.0), ("score", 4.0)):
        throttled(song_queue.Progress(stage, done_s))
    assert [progress.done_s for progress in told] == [1.0, 3.0, 4.0]


def test_only_errors_of_ours_are_logged(caplog, tmp_path):
    song, told = Song("1", "a.mp3", tmp_path, uploaded=False), []
    fail(song, AudioError("x"), Limits(), lambda *_, **content: told.append(content))
    assert caplog.text == ""
    fail(song, RuntimeError("out of order"), Limits(), lambda *_, **content: told.append(content))
    assert "out of order" in caplog.text
    assert [set(content) for content in told] == [{"sentence", "advice"}] * 2
