"""kill -9 at any moment loses the work in hand and nothing else; Ctrl-C and SIGTERM leave no mess."""

import itertools
import os
import shutil
import signal
import statistics
import time

import numpy as np
import pytest
from killing import Extraction, children_of, contents, finish, kill, left_behind, listens, outlived, start, wait_for

from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.model import Tagger

pytest_plugins = ["demo_corpus"]

SONG_S = 4
KILLS_A_STORE = 5
SHARED_KILLS = 10


@pytest.fixture(scope="module")
def library(amount, make_audio, noise, tmp_path_factory):
    """A folder of short MP3s, no two alike, and one file that cannot be decoded."""
    folder = tmp_path_factory.mktemp("library")
    cut = ("-f", "segment", "-segment_time", str(SONG_S), "-b:a", "48k")
    make_audio(folder / "%03d.mp3", noise(SONG_S * amount(12, 48), seed=5), rate_hz=16_000, options=cut)
    (folder / "broken.mp3").write_bytes(bytes(range(256)) * 20)
    return folder


@pytest.fixture(scope="module")
def extraction(library, tmp_path_factory):
    """What extracts the library, after it was done once without interruption."""
    return _extraction_of(library, tmp_path_factory)


def _extraction_of(audio, tmp_path_factory):
    whole = Extraction(audio, {}, tmp_path_factory.mktemp("whole"))
    finish(*whole.commands()[0], statuses=(0, 1))
    assert len(whole.embeddings()) == len(list(audio.rglob("[!b]*.mp3"))) > 5
    return lambda folder, processes, in_shards: Extraction(audio, whole.embeddings(), folder, processes, in_shards)


def _kill(running, rng, how):
    """Kill all processes with their children (how 0) or without (1), or one of them without (2); the rest go on.

    Gives whether any of those to be killed was alive, and for how long children outlived their parents.
    """
    victims = running if how < 2 else [running[int(rng.integers(len(running)))]]
    children = [child for process in victims for child in children_of(process)]
    killed = [kill(process, whole_group=how == 0) for process in victims]
    outlived_s = outlived(children)
    for process in running:
        process.communicate()
    return any(killed), outlived_s


def _torment(extractions, kills, rng):
    """Kill runs at random moments, most of them while they decode; the next extraction's store every few kills.

    Gives the tracks done at each kill, how many kills hit a run that was decoding, and for how long, at most,
    children outlived their parents.
    """
    done, amid, longest_s = [], 0, 0.0
    while len(done) < kills:
        extraction = next(extractions)
        for _ in range(min(KILLS_A_STORE, kills - len(done))):
            running = extraction.start()
            left = len(extraction.whole) - extraction.count()
            if len(done) % 10 != 9:  # every tenth is killed while it starts
                extraction.wait_for_tracks(int(rng.integers(max(1, left // 4))), running)
            time.sleep(rng.uniform(0, 0.2))
            count, decoding = extraction.count(), extraction.decodes()
            alive, outlived_s = _kill(running, rng, len(done) % 3)
            longest_s = max(longest_s, outlived_s)
            if alive:
                done.append(count)
                amid += decoding and count < len(extraction.whole)
            extraction.check_nothing_torn()
        extraction.finish()
        assert set(EmbeddingStore(extraction.store).failures()) <= {"broken"}
        extraction.remove()
    return done, amid, longest_s


@pytest.mark.parametrize("processes", [1, *(pytest.param(each, marks=pytest.mark.thorough) for each in (2, 4))])
def test_killed_extractions_lose_the_tracks_in_hand_and_nothing_else(extraction, amount, figure, tmp_path, processes):
    kills = amount(1 if processes == 4 else 2, 50)
    places = (extraction(tmp_path / str(n), processes, bool((n + processes // 4) % 2)) for n in itertools.count())
    done, amid, longest_s = _torment(places, kills, np.random.default_rng(processes))
    assert amid >= kills / 2
    figure(
        f"`kill -9` of an extraction, {processes} process{'es' if processes > 1 else ''} on one store",
        kills,
        f"all {len(next(places).whole)} embeddings bit-identical after the next runs, no torn file, draft or WAV left; "
        f"{amid} of the kills amid decoding, {min(done)} to {max(done)} tracks (median {statistics.median(done):g}) "
        f"done; ffmpeg outlived its parent by {longest_s:.2f} s at most",
    )


@pytest.mark.slow
@pytest.mark.shared
def test_real_music_is_extracted_the_same_after_kills(shared, figure, tmp_path, tmp_path_factory):
    extraction = _extraction_of(shared / "music", tmp_path_factory)(tmp_path / "two", 2, False)
    done, amid, longest_s = _torment(itertools.repeat(extraction), SHARED_KILLS, np.random.default_rng(11))
    figure(
        "the same with real songs, 2 processes",
        SHARED_KILLS,
        f"all {len(extraction.whole)} embeddings bit-identical; {amid} kills amid decoding, {min(done)} to {max(done)} "
        f"tracks done; ffmpeg outlived its parent by {longest_s:.2f} s at most",
    )


@pytest.mark.slow
def test_an_orphaned_ffmpeg_brings_nothing_back(make_audio, noise, figure, tmp_path):
    """A long file goes through an ffmpeg that writes a WAV by itself, and that a killed parent does not end."""
    audio, minutes = tmp_path / "audio", 60
    loop = ("-af", f"aloop=loop=-1:size=160000,atrim=duration={minutes * 60}", "-b:a", "16k")
    make_audio(audio / "long.mp3", noise(10.0), rate_hz=16_000, options=loop)
    whole = Extraction(audio, {}, tmp_path / "whole")
    finish(*whole.commands()[0])
    extraction = Extraction(audio, whole.embeddings(), tmp_path / "killed")
    (process,) = extraction.start()
    assert wait_for(lambda: extraction.has_in_scratch("*/*/track.wav"), process)
    children = children_of(process)
    assert [child.name() for child in children if "ffmpeg" in child.name()]
    kill(process, whole_group=False)
    (again,) = extraction.start()
    wait_for(extraction.decodes, again)
    assert len(list(extraction.scratch.iterdir())) == 1  # the orphan's folder went first of all
    orphan_s = outlived(children)
    kill(again)
    extraction.finish()
    figure("`kill -9` while ffmpeg writes the WAV of an hour", 1, f"it ended {orphan_s:.1f} s after its parent")


def test_a_list_of_failures_that_was_cut_anywhere_goes_on(logmel, figure, tmp_path):
    """Whatever of the last line was written when the process died, the next record is whole."""
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    for key in ("00/1", "00/2"):
        store.record_failure(key, "it is broken")
    listed = store.root / "failures.tsv"
    whole = listed.read_bytes()
    for size in range(len(whole) + 1):
        listed.write_bytes(whole[:size])
        store.record_failure("00/3", "so is this")
        failures = store.failures()
        assert failures["00/3"] == "so is this", size
        if size >= whole.rindex(b"00/2"):
            assert failures["00/1"] == "it is broken"
        store.forget_failures({"00/3"})
    figure("`failures.tsv` cut at every byte, then a record added", len(whole) + 1, "the record read back every time")


# ---- Ctrl-C and SIGTERM.

SIGNALS = {signal.SIGINT: "interrupted; ", signal.SIGTERM: "terminated; "}


def _signal(process, number, to_group, repeated, pause_s):
    """Send a signal once, or again and again until the process has ended; seconds it took, and what it said."""
    began = time.monotonic()
    children = children_of(process)
    while process.poll() is None:
        (os.killpg if to_group else os.kill)(process.pid, number)
        if not repeated:
            break
        time.sleep(pause_s)
    out, err = process.communicate(timeout=60)
    took_s = time.monotonic() - began
    assert "Traceback" not in err, err
    assert outlived(children) < 5
    return took_s, out, err


@pytest.mark.thorough
def test_signals_at_any_moment_end_a_run_soon_and_leave_nothing(extraction, amount, figure, tmp_path):
    count, rng = amount(4, 100), np.random.default_rng(3)
    taken_s, stopped, amid, many = [], 0, 0, extraction(tmp_path / "signals", 1, False)
    for number in range(count):
        kind = list(SIGNALS)[number % 2]
        (process,) = many.start()
        wait_for(lambda process=process: listens(process), process)
        if number % 4:  # the others come at the very start
            left = len(many.whole) - many.count()
            many.wait_for_tracks(int(rng.integers(max(1, left // 2))), [process])
        time.sleep(rng.uniform(0, 0.3))
        amid += many.decodes()
        took_s, out, err = _signal(process, kind, number % 4 > 1, number % 5 == 4, rng.uniform(0, 0.01))
        if process.returncode not in (0, 1):  # it was done before the signal came
            assert process.returncode == 128 + kind, err
            assert out == ""
            assert err.splitlines()[-1].startswith(SIGNALS[kind])
            stopped += 1
            taken_s.append(took_s)
        assert left_behind(many.folder) == []
        many.check_nothing_torn()
        if many.count() == len(many.whole) or number == count - 1:
            many.finish()
            many.remove()
    assert stopped >= count / 2
    assert max(taken_s) < 10
    figure(
        "SIGINT or SIGTERM to an extraction, from its first moment on, some of them repeated",
        count,
        f"{stopped} runs stopped, {amid} of them amid decoding, all with one line and no traceback, and nothing left; "
        f"after {statistics.median(taken_s):.1f} s (median; {max(taken_s):.1f} s at most) the process was gone",
    )


# ---- Training, packing, and what else is written.


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_training_ends_soon_and_without_a_traceback(corpus, corpus_store, figure, tmp_path, number):
    data = ("--task", "jamendo", "--data", corpus.root, "--store", corpus_store.root, "--out", tmp_path / "tagger")
    rng, taken_s = np.random.default_rng(int(number)), []
    while len(taken_s) < 10:
        process = start("train", *data, "--epochs", 2000, "--set", "patience=2000")
        wait_for(lambda process=process: listens(process), process)
        time.sleep(rng.uniform(0, 12))
        took_s, _, err = _signal(process, number, False, len(taken_s) % 2, 0.01)
        assert process.returncode == 128 + number, err
        assert err.splitlines()[-1].startswith(SIGNALS[number])
        assert not (tmp_path / "tagger").exists()
        taken_s.append(took_s)
    figure(
        f"{number.name} to a training, TensorFlow's import included",
        len(taken_s),
        f"all with one line and no traceback; {max(taken_s):.1f} s at most until the process was gone",
    )


@pytest.mark.slow
def test_a_killed_training_leaves_the_older_tagger_or_the_new_one(corpus, corpus_store, figure, tmp_path):
    def command(out, seed):
        data = ("--data", corpus.root, "--store", corpus_store.root, "--out", out, "--seed", seed)
        return ("train", "--task", "jamendo", *data, "--head", "linear", "--epochs", 5)

    for seed in (0, 1):
        finish(*command(tmp_path / f"{seed}", seed))
    older, newer = (contents(tmp_path / f"{seed}") for seed in (0, 1))
    out, rng = tmp_path / "out", np.random.default_rng(5)
    after = {"older": 0, "newer": 0}
    kills = 8
    for number in range(kills):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tmp_path / "0", out)
        before = set(out.iterdir())
        process = start(*command(out, 1))
        if number % 4:  # most of them while it is saved, which takes milliseconds
            wait_for(lambda before=before: set(out.iterdir()) != before, process)
            time.sleep(rng.uniform(0, 0.02))
        else:
            time.sleep(rng.uniform(0.5, 10))
        kill(process)
        Tagger.load(out)
        found = contents(out)
        after["newer" if found["tagger.json"] == newer["tagger.json"] else "older"] += 1
        assert found["tagger.json"] in (older["tagger.json"], newer["tagger.json"])
        finish(*command(out, 1))
        assert contents(out) == newer
        assert left_behind(out) == []
    figure(
        "`kill -9` of a training that replaces a tagger, most while it is saved",
        kills,
        f"the older tagger whole {after['older']} times, the newer {after['newer']}; the same command gave the same "
        "bytes as an uninterrupted one",
    )


@pytest.fixture(scope="module")
def large_store(logmel, tmp_path_factory):
    """60 MB of embeddings: the folder, and all that is in it."""
    store = EmbeddingStore(tmp_path_factory.mktemp("large") / "store", logmel.spec)
    rng = np.random.default_rng(8)
    for number in range(120):
        store.add(f"{number % 10:02d}/{number}", rng.standard_normal((1000, store.spec.dim), dtype=np.float32))
    return store.root, set(store.root.rglob("*"))


DERIVED = {
    "pack": lambda store, _: ("pack", store),
    "export": lambda store, out: ("export", store, out, "--shard-rows", 20),
    "similar": lambda store, _: ("similar", "00/0", "--store", store),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DERIVED)
def test_what_is_derived_from_a_store_survives_kills(large_store, figure, tmp_path, name):
    """Killed while it is packed, exported or scored, a store gives the same as ever by the same command."""
    large_store, given = large_store
    folders = (large_store, tmp_path / "out")
    for path in set(large_store.rglob("*")) - given:  # of another command
        path.unlink()
    command = DERIVED[name](*folders)
    began = time.monotonic()
    printed = finish(*command)
    whole_s = time.monotonic() - began
    whole = [contents(folder) for folder in folders]
    rng, kills, amid = np.random.default_rng(2), 10, 0
    while kills:
        for path in set(large_store.rglob("*")) - given:
            path.unlink()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        process = start(*command)
        time.sleep(rng.uniform(0.3 * whole_s, whole_s))
        if process.poll() is None:
            kills -= 1
            amid += bool(left_behind(*folders))
        kill(process)
        again = finish(*command)
        assert name != "similar" or again == printed
        assert [contents(folder) for folder in folders] == whole
        assert left_behind(*folders) == []
    figure(
        f"`kill -9` of `{name}`", 10, f"the next run wrote the same bytes; {amid} kills left a draft, which it removed"
    )
