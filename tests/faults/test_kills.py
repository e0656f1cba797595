"""kill -9 at any moment loses the work in hand and nothing else; Ctrl-C and SIGTERM leave no mess."""

import itertools
import os
import shutil
import signal
import statistics
import time

import numpy as np
import pytest
import toy_moods
from killing import Extraction, children_of, contents, finish, kill, left_behind, listens, outlived, start, wait_for

from jamendo_mood.audio.file_tags import MARK, MOOD, read_fields
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.files import is_draft

pytest_plugins = ["demo_corpus", "toy_commands"]

SONG_S = 4
KILLS_A_STORE = 5


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
    whole.run()
    assert len(whole.embeddings()) == len(list(audio.rglob("[!b]*.mp3")))
    return lambda folder, processes, in_shards: Extraction(audio, whole.embeddings(), folder, processes, in_shards)


def _torment(extractions, kills, seed, figure, name):
    """Kill runs at random moments, most while they decode, each store a few times; how many of them were decoding."""
    rng, done, amid, longest_s = np.random.default_rng(seed), [], 0, 0.0
    while len(done) < kills:
        extraction = next(extractions)
        for _ in range(min(KILLS_A_STORE, kills - len(done))):
            running = extraction.start()
            left = len(extraction.whole) - extraction.count()
            if len(done) % 10 != 9:  # every tenth is killed while it starts
                extraction.wait_for_tracks(int(rng.integers(max(1, left // 4))), running)
            time.sleep(rng.uniform(0, 0.2))
            count, decoding = extraction.count(), extraction.decodes()
            how = len(done) % 3  # all with their children, all without, or one without; the others go on
            victims = running if how < 2 else [rng.choice(running)]
            children = [child for process in victims for child in children_of(process)]
            killed = [kill(process, whole_group=how == 0) for process in victims]
            longest_s = max(longest_s, outlived(children))
            for process in running:
                process.communicate()
            if any(killed):
                done.append(count)
                amid += decoding and count < len(extraction.whole)
            extraction.check_nothing_torn()
        extraction.finish()
        assert set(EmbeddingStore(extraction.store).failures()) <= {"broken"}
        extraction.remove()
    figure(
        name,
        kills,
        f"all {len(extraction.whole)} embeddings bit-identical after the next runs, no torn file, draft or WAV left; "
        f"{amid} of the kills amid decoding, {min(done)} to {max(done)} tracks (median {statistics.median(done):g}) "
        f"done; ffmpeg outlived its parent by {longest_s:.2f} s at most",
    )
    return amid


@pytest.mark.parametrize("processes", [1, *(pytest.param(each, marks=pytest.mark.thorough) for each in (2, 4))])
def test_killed_extractions_lose_the_tracks_in_hand_and_nothing_else(extraction, amount, figure, tmp_path, processes):
    kills = amount(1 if processes == 4 else 2, 50)
    places = (extraction(tmp_path / str(n), processes, bool((n + processes // 4) % 2)) for n in itertools.count())
    name = f"`kill -9` of an extraction, {processes} process{'es' if processes > 1 else ''} on one store"
    assert _torment(places, kills, processes, figure, name) >= kills // 2


@pytest.mark.slow
@pytest.mark.shared
def test_real_music_is_extracted_the_same_after_kills(shared, figure, tmp_path, tmp_path_factory):
    extraction = _extraction_of(shared / "music", tmp_path_factory)(tmp_path / "two", 2, False)
    _torment(itertools.repeat(extraction), 10, 11, figure, "the same with real songs, 2 processes")


@pytest.mark.slow
def test_an_orphaned_ffmpeg_brings_nothing_back(make_audio, noise, figure, tmp_path, tmp_path_factory):
    """A long file goes through an ffmpeg that writes a WAV by itself, and that a killed parent does not end."""
    audio, minutes = tmp_path / "audio", 60
    loop = ("-af", f"aloop=loop=-1:size=160000,atrim=duration={minutes * 60}", "-b:a", "16k")
    make_audio(audio / "long.mp3", noise(10.0), rate_hz=16_000, options=loop)
    extraction = _extraction_of(audio, tmp_path_factory)(tmp_path / "killed", 1, False)
    (process,) = extraction.start()
    assert wait_for(lambda: extraction.decodes("*/*/track.wav"), process)
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
        assert size < whole.rindex(b"00/2") or failures["00/1"] == "it is broken"
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
        process = start("train", *data, "--head", "attention", "--epochs", 2000, "--set", "patience=2000")
        wait_for(lambda process=process: listens(process), process)
        time.sleep(rng.uniform(0, 12))
        took_s, _, err = _signal(process, number, False, len(taken_s) % 2, 0.01)
        assert process.returncode == 128 + number, err
        assert err.splitlines()[-1].startswith(SIGNALS[number])
        assert not (tmp_path / "tagger").exists()
        taken_s.append(took_s)
    result = f"all with one line and no traceback; {max(taken_s):.1f} s at most until the process was gone"
    figure(f"{number.name} to a training, TensorFlow's import included", len(taken_s), result)


@pytest.mark.slow
def test_a_killed_training_leaves_the_older_tagger_or_the_new_one(corpus, corpus_store, figure, tmp_path):
    def command(out, seed):
        data = ("--data", corpus.root, "--store", corpus_store.root, "--out", out, "--seed", seed)
        return ("train", "--task", "jamendo", *data, "--head", "linear", "--epochs", 5)

    for seed in (0, 1):
        finish(*command(tmp_path / f"{seed}", seed))
    older, newer = (contents(tmp_path / f"{seed}") for seed in (0, 1))
    out, rng, kills, new = tmp_path / "out", np.random.default_rng(5), 8, 0
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
        new += found["tagger.json"] == newer["tagger.json"]
        assert found["tagger.json"] in (older["tagger.json"], newer["tagger.json"])
        finish(*command(out, 1))
        assert contents(out) == newer
        assert left_behind(out) == []
    figure(
        "`kill -9` of a training that replaces a tagger, most while it is saved",
        kills,
        f"the older tagger whole {kills - new} times, the newer {new}; the same command gave the same bytes as an "
        "uninterrupted one",
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
    store, given = large_store
    folders = (store, tmp_path / "out")

    def clear():
        for path in set(store.rglob("*")) - given:
            path.unlink()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)

    clear()  # what another command made
    command = DERIVED[name](*folders)
    began = time.monotonic()
    printed = finish(*command)
    whole_s = time.monotonic() - began
    whole = [contents(folder) for folder in folders]
    rng, kills, amid = np.random.default_rng(2), 10, 0
    while kills:
        clear()
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
    result = f"the next run wrote the same bytes; {amid} kills left a draft, which it removed"
    figure(f"`kill -9` of `{name}`", 10, result)


# ---- Moods in songs.

SONGS = 6
KINDS = ("flac", "ogg", "opus", "m4a", "wma", "wv", "wav", "aiff")


def drafts(music):
    return [path for path in music.iterdir() if is_draft(path.name)]


def count_new(music):
    return sum(path.stat().st_mtime != toy_moods.LONG_AGO_S for path in music.iterdir() if not is_draft(path.name))


@pytest.mark.parametrize("kind", ["mp3", *(pytest.param(each, marks=pytest.mark.slow) for each in KINDS)])
def test_kills_of_write_lose_no_song(kind, run, make_audio, tone, amount, figure, tmp_path):
    kills, music, rng = amount(1, 100), tmp_path / "music", np.random.default_rng(1)
    song = make_audio(tmp_path / f"song.{kind}", tone(seconds=1.0))
    toy_moods.make_tagger().save(tmp_path / "tagger")
    moods = {f"{number:02}": {"happy"} for number in range(SONGS)}
    store = toy_moods.make_library(music, song, moods, song.suffix)
    before = contents(music)
    command = ("write", music, "--store", store, "--tagger", tmp_path / "tagger", "--apply", "--journal")
    assert run(*command, tmp_path / "whole.jsonl").status == 0
    after = contents(music)
    assert all(after[name] != content for name, content in before.items())
    killed, amid, written = 0, 0, []
    for number in range(10 * kills):
        shutil.rmtree(music)
        toy_moods.make_library(music, song, moods, song.suffix)
        journal = tmp_path / f"{number}.jsonl"
        process = start(*command, journal)
        if number % 4 < 3:  # the others are killed before there is a journal
            songs = rng.integers(SONGS)
            wait_for(lambda journal=journal, songs=songs: journal.exists() and count_new(music) >= songs, process)
            time.sleep(rng.uniform(0, 0.1))
        else:
            time.sleep(rng.uniform(0, 1.5))
        amid += bool(drafts(music))
        killed += kill(process)
        found = contents(music)
        assert found.keys() == before.keys()
        assert all(content in (before[name], after[name]) for name, content in found.items())
        written.append(count_new(music))
        assert written[-1] == sum(content == after[name] for name, content in found.items())
        assert journal.exists() or not written[-1]
        if written[-1]:
            assert run("write", "--undo", journal).status == 0
            fields = [read_fields(path, [MOOD, MARK])[0] for path in sorted(music.glob(f"*.{kind}"))]
            assert fields == [{MOOD: [], MARK: []}] * SONGS
            assert drafts(music) == []
        if killed >= kills:
            break
    assert killed == kills
    result = f"{min(written)} to {max(written)} songs written, {amid} kills amid a copy"
    name = f"`kill -9` of `write` on {SONGS} songs, {kind}"
    figure(name, kills, f"each song the old one or the new one, byte by byte, and put back by --undo; {result}")
