import json
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Client

import numpy as np
import pytest
from toy_examples import OTHER_SPEC

from jamendo_mood.app.network_sharing import SETTINGS_VARIABLE, Offer, ServerGoneError, connect, serve
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tagging.prediction import predict
from jamendo_mood.util.errors import MoodError, UsageError
from jamendo_mood.util.files import Scratch

pytest_plugins = ["demo_corpus"]

PREDICT = """
import hashlib, sys
from jamendo_mood.tagging.prediction import predict
from jamendo_mood.app.network_sharing import connect

tagger, embedder, library, limits = connect()
prediction = predict(sys.argv[1], tagger, embedder)
print(hashlib.sha256(prediction.frame_scores.tobytes() + prediction.track_scores.tobytes()).hexdigest())
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""


@pytest.fixture
def folder():
    """A private folder with a path short enough for a socket."""
    with Scratch() as scratch:
        yield scratch.path


@pytest.fixture
def use(monkeypatch):
    """Make this process one of those that the settings are for."""
    return lambda settings: monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))


@pytest.fixture
def served(corpus_tagger, logmel, folder, use):
    with serve(corpus_tagger, logmel, folder) as settings:
        use(settings)
        yield settings


def test_a_song_and_tracks_get_the_very_scores_they_get_without_a_server(
    corpus, corpus_tagger, corpus_store, logmel, served
):
    tagger, embedder, library, _ = connect()
    here, there = (predict(corpus.path(3), *pair) for pair in ((corpus_tagger, logmel), (tagger, embedder)))
    np.testing.assert_array_equal(here.frame_scores, there.frame_scores)
    np.testing.assert_array_equal(here.track_scores, there.track_scores)
    np.testing.assert_array_equal(here.decided, there.decided)
    assert (embedder.spec, tagger.grades, library) == (logmel.spec, corpus_tagger.grades, None)
    tracks = [corpus_store[key][: 3 + number] for number, key in enumerate(list(corpus_store)[:5])]
    np.testing.assert_array_equal(tagger.score(tracks), corpus_tagger.score(tracks))


def test_two_processes_at_once_get_the_same_without_tensorflow(corpus, corpus_tagger, logmel, served, tmp_path):
    from hashlib import sha256

    songs = [str(corpus.path(0)), str(corpus.path(1))]
    processes = [
        subprocess.Popen([sys.executable, "-c", PREDICT, song], stdout=subprocess.PIPE, text=True) for song in songs
    ]
    printed = [process.communicate()[0].splitlines() for process in processes]
    expected = [predict(song, corpus_tagger, logmel) for song in songs]
    hashes = [sha256(one.frame_scores.tobytes() + one.track_scores.tobytes()).hexdigest() for one in expected]
    assert printed == [[hashes[0], "[]"], [hashes[1], "[]"]]


def test_one_batch_at_a_time(corpus_tagger, logmel, folder, use):
    both_inside = threading.Barrier(2)

    def network(patches):
        if len(patches) == 2:  # not the one run before anything is served
            try:
                both_inside.wait(timeout=0.5)
            except threading.BrokenBarrierError:
                return logmel.network(patches)
            raise ValueError("two at once")
        return logmel.network(patches)

    patches = np.ones((2, 96, 64), np.float32)
    with serve(corpus_tagger, replace(logmel, network=network), folder) as settings, ThreadPoolExecutor() as pool:
        use(settings)
        _, embedder, *_ = connect()
        for answer in pool.map(embedder.network, [patches, patches]):
            np.testing.assert_array_equal(answer, logmel.network(patches))


def test_a_caller_that_says_nothing_keeps_nobody_waiting(logmel, served):
    patches = np.ones((3, 96, 64), np.float32)
    with Client(str(served.parent / "network.sock")):
        _, embedder, *_ = connect()
        np.testing.assert_array_equal(embedder.network(patches), logmel.network(patches))


def test_a_wrong_key_is_refused_and_the_others_are_served_on(served):
    _, good, *_ = connect()
    settings = json.loads(served.read_text())
    served.write_text(json.dumps({**settings, "key": "00" * 32}))
    _, bad, *_ = connect()
    patches = np.ones((1, 96, 64), np.float32)
    with pytest.raises(ServerGoneError, match="restarted; reload the page"):
        bad.network(patches)
    assert good.network(patches).shape == (1, 128)


def test_a_server_that_is_gone_says_so(corpus_tagger, logmel, folder, use):
    with serve(corpus_tagger, logmel, folder) as settings:
        use(settings)
        tagger, embedder, *_ = connect()
    with pytest.raises(ServerGoneError, match="has stopped; start it again"):
        embedder.network(np.ones((1, 96, 64), np.float32))
    with pytest.raises(ServerGoneError, match="has stopped; start it again"):
        tagger.score([np.ones((4, 128), np.float32)])


def test_a_folder_that_is_gone_says_so_too(tmp_path, use, monkeypatch):
    use(tmp_path / "gone" / "settings.json")
    with pytest.raises(ServerGoneError, match="has stopped"):
        connect()
    monkeypatch.delenv(SETTINGS_VARIABLE)
    with pytest.raises(ServerGoneError, match="jamendo-mood web"):
        connect()


def test_an_error_in_the_server_is_told_and_is_not_its_end(corpus_tagger, logmel, folder, use):
    def network(patches):
        if len(patches) == 2:
            raise MemoryError("too much")
        return logmel.network(patches)

    with serve(corpus_tagger, replace(logmel, network=network), folder) as settings:
        use(settings)
        _, embedder, *_ = connect()
        with pytest.raises(MoodError, match="MemoryError: too much"):
            embedder.network(np.ones((2, 96, 64), np.float32))
        assert embedder.network(np.ones((1, 96, 64), np.float32)).shape == (1, 128)


def test_only_their_owner_reads_the_settings_and_they_hold_what_is_offered(corpus_tagger, library, logmel, folder, use):
    tabs = (("Tag a song", "/"), ("Find music", "/find"))
    offer = Offer(Limits(size_bytes=5, length_s=60.0), tabs, library)
    with serve(corpus_tagger, logmel, folder, offer) as settings:
        use(settings)
        *_, there, limits = connect()
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600
        assert stat.S_IMODE(settings.parent.stat().st_mode) == 0o700
    assert (limits.size_bytes, limits.length_s, limits.paths, limits.scratch) == (5, 60.0, False, None)
    assert limits.page == tabs
    assert there.keys == library.keys
    np.testing.assert_array_equal(there.scores, library.scores)


def test_another_hop_goes_with_the_front_end(corpus, corpus_tagger, folder, use):
    half = load_embedder("logmel", EmbedderOptions(hop_s=0.5))
    tagger = replace(corpus_tagger, spec=half.spec)
    with serve(tagger, half, folder) as settings:
        use(settings)
        shared_tagger, embedder, *_ = connect()
        there = predict(corpus.path(2), shared_tagger, embedder)
    here = predict(corpus.path(2), tagger, half)
    assert here.times_s[1] == 0.5
    np.testing.assert_array_equal(there.frame_scores, here.frame_scores)


def test_what_cannot_be_served_is_refused(corpus_tagger, logmel, stub_embedder, folder, tmp_path):
    unlike, stub = (replace(corpus_tagger, spec=spec) for spec in (OTHER_SPEC, stub_embedder.spec))
    for arguments, message in (
        ((unlike, logmel, folder), "this tagger needs embeddings of"),
        ((stub, stub_embedder, folder), r"front end .* is not a function of a module"),
        ((corpus_tagger, logmel, tmp_path / ("long" * 30)), "too long a path for a socket; set TMPDIR"),
    ):
        with pytest.raises(UsageError, match=message), serve(*arguments):
            pass
