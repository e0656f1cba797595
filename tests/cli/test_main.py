"""The command line as its users meet it: what it prints where, what it leaves behind, how it ends."""

import argparse
import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from toy_examples import OTHER_SPEC

from jamendo_mood.audio import decoding
from jamendo_mood.audio.ffmpeg import find_ffmpeg
from jamendo_mood.cli import main as cli_main
from jamendo_mood.cli.main import COMMANDS, main
from jamendo_mood.datasets import audioset, jamendo
from jamendo_mood.embedders import vggish
from jamendo_mood.embedders.vggish import WEIGHTS_VARIABLE
from jamendo_mood.evaluation.evaluate import QUIRKS
from jamendo_mood.library import mood_log
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import Place
from jamendo_mood.training.fit import TrainConfig
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import remote
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus", "toy_commands"]

ROOT = Path(__file__).resolve().parents[2]


def check_one_line(outcome, command, message, status=2):
    assert outcome.status == status
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    line = outcome.err.rpartition("\r")[2]  # a progress bar that was wiped out again may stand before it
    assert re.match(rf"jamendo-mood( {command})?: .*{message}", line)


@pytest.fixture
def songs(corpus, tmp_path):
    """A folder of four songs to add to, to spoil, to take from."""
    folder = tmp_path / "songs"
    for number in range(4):
        target = folder / corpus.songs[number].path
        target.parent.mkdir(parents=True)
        shutil.copy(corpus.path(number), target)
    return folder


def keys_of(folder):
    return set(decoding.find_audio(folder))


def contents(store):
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def extract(run, folder, store, *options):
    return run("extract", folder, "--store", store, "--embedder", "logmel", *options)


# ---- Help.


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(run, name):
    assert re.search(rf"^ +{name}( |$)", run("--help").out, re.MULTILINE)
    outcome = run(name, "--help")
    assert outcome.status == 0
    assert COMMANDS[name].summary
    assert " ".join(COMMANDS[name].summary.split()) in " ".join(outcome.out.split())
    parser = argparse.ArgumentParser(add_help=False)
    COMMANDS[name].add_options(parser)
    for action in parser._actions:
        assert action.help, action.dest


# ---- Wrong use: one clear line, exit status 2.


@dataclass(frozen=True)
class Places:
    """What wrong uses are made of."""

    tmp: Path
    songs: Path
    corpus: Path
    store: Path
    tagger: Path

    @property
    def song(self):
        return self.songs / "00" / "1000.mp3"

    def write(self, name, content=""):
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def other_store(self):
        EmbeddingStore(self.tmp / "other", OTHER_SPEC)
        return self.tmp / "other"

    def array(self, name, values):
        np.save(self.tmp / name, values)
        return self.tmp / name

    def scores(self):
        """Options of `score` with arrays that fit each other: four tracks, two tags."""
        truth = self.array("truth.npy", np.array([[0, 1], [1, 0], [1, 1], [0, 0]]))
        predictions = self.array("predictions.npy", np.random.default_rng(0).random((4, 2)))
        return ("--truth", truth, "--predictions", predictions)


@pytest.fixture
def places(tmp_path, songs, corpus, corpus_store, tagger_folder):
    return Places(tmp_path, songs, corpus.root, corpus_store.root, tagger_folder)


Arguments = Callable[[Places], tuple]
HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"

WRONG_EXTRACT: dict[str, tuple[Arguments, str]] = {
    "no folder": (lambda p: (p.tmp / "none",), "none: no such folder of audio files"),
    "no audio": (lambda p: (p.write("e/notes.txt").parent,), r"e: no audio files there \(\.3gp, "),
    "another embedder's store": (lambda p: (p.songs, "--store", p.other_store()), "a store of other .*not of logmel"),
    "no table": (lambda p: (p.songs, "--tracks", p.write("t.tsv", "a\tb\n")), r"t\.tsv: not the expected table"),
    "missing table": (lambda p: (p.songs, "--tracks", p.tmp / "t.tsv"), r"t\.tsv: no such file"),
    "empty table": (lambda p: (p.songs, "--tracks", p.write("t.tsv", HEADER)), r"t\.tsv: the table has no tracks"),
    "other tracks": (
        lambda p: (p.songs, "--tracks", p.write("t.tsv", HEADER + "t\ta\tb\t99/9.mp3\t1.0\tx\n")),
        r"none of the 1 tracks of .*t\.tsv is in .*songs: it names such as '.*', and there are such as '00/1000'",
    ),
    "two of one key": (
        lambda p: (p.write("songs/00/1000.wav").parents[1],),
        r"1 tracks have several files each, keep one of them: .*1000\.mp3 and .*1000\.wav",
    ),
    "unknown embedder": (lambda p: (p.songs, "--embedder", "ear"), r"unknown embedder 'ear' \(known: vggish, "),
    "shard beyond": (lambda p: (p.songs, "--shard", "5/4"), r"argument --shard: '5/4' is not of the form I/N"),
    "no limit": (lambda p: (p.songs, "--limit", "0"), "argument --limit: '0' is not a whole number from 1 up"),
    "no batch": (lambda p: (p.songs, "--batch", "-1"), "argument --batch"),
    "scratch": (lambda p: (p.songs, "--scratch", p.write("file")), "cannot use .*file as a scratch folder"),
    "store": (lambda p: (p.songs, "--store", p.write("file")), "file: not an embedding store"),
    "unknown option": (lambda p: (p.songs, "--colour"), "unrecognized arguments: --colour"),
}


WRONG_TRAIN: dict[str, tuple[Arguments, str]] = {
    "unknown task": (lambda p: ("--task", "jazz"), r"unknown task 'jazz' \(known: jamendo, "),
    "no folder": (lambda p: ("--data", p.tmp / "none"), "none: no such folder of data"),
    "no data": (lambda p: ("--data", p.songs), r"moodtheme_split\.txt: no such file"),
    "unknown split": (lambda p: ("--split", "7"), r"split-7: no such split; `jamendo-mood splits"),
    "unknown head": (lambda p: ("--head", "hydra"), r"unknown head 'hydra' \(known: linear, .*cnn; import"),
    "unknown pooling": (lambda p: ("--pooling", "max"), r"unknown pooling 'max' \(known: frames, mean, mean\+std\)"),
    "unknown setting": (lambda p: ("--set", "dropuot=0.1"), "there is no setting 'dropuot'; there are: .*dropout"),
    "setting of a type": (lambda p: ("--set", "dropout=much"), "dropout needs a float, not 'much'"),
    "no setting": (lambda p: ("--set", "dropout"), "'dropout' is not of the form NAME=VALUE"),
    "no store": (lambda p: ("--store", p.tmp / "none"), r"none: no embedding store there \(no store.json\)"),
    "empty store": (lambda p: ("--store", p.other_store()), "none of the 24 tracks of part 'train' is in the store"),
    "folder in use": (lambda p: ("--out", p.songs), "songs: holds something other than a tagger"),
}


def test_a_task_without_embeddings_of_its_own_needs_a_store(run, corpus, tmp_path):
    outcome = run("train", "--task", "jamendo", "--data", corpus.root, "--out", tmp_path / "tagger")
    check_one_line(outcome, "train", "comes without embeddings: extract them and give --store")


WRONG_EVALUATE: dict[str, tuple[Arguments, str]] = {
    "no tagger": (lambda p: (p.songs,), r"songs: no tagger there \(no tagger.json\)"),
    "unknown part": (lambda p: (p.tagger, "--part", "noon"), r"no part 'noon' \(it has: train, validation, test\)"),
    "another embedder's store": (lambda p: (p.tagger, "--store", p.other_store()), "needs embeddings of logmel"),
    "no store": (lambda p: (p.tagger, "--store", p.tmp / "none"), "none: no embedding store there"),
    "no data": (lambda p: (p.tagger, "--data", p.tmp / "none"), "none: no such folder of data"),
}


WRONG_SCORE: dict[str, tuple[Arguments, str]] = {
    "missing": (lambda p: ("--truth", p.tmp / "none.npy"), r"none\.npy: cannot be read as a \.npy file"),
    "no booleans": (lambda p: ("--truth", p.array("x.npy", np.full((4, 2), 7))), "only zeros and ones"),
    "shape": (lambda p: ("--truth", p.array("x.npy", np.eye(2))), r"predictions have the shape \(4, 2\), the truth"),
    "nan": (lambda p: ("--predictions", p.array("x.npy", np.full((4, 2), np.nan))), "4 of 4 rows .* hold NaN"),
    "names": (lambda p: ("--tags", p.write("tags.txt", "a\n")), "1 names of tags for 2 columns"),
    "thresholds": (lambda p: ("--thresholds", p.write("t.txt", "a\t1\n")), r"t\.txt: 1 thresholds for 2 tags"),
    "order": (
        lambda p: ("--thresholds", p.write("t.txt", "a\t1\nb\t1\n"), "--tags", p.write("tags.txt", "b\na\n")),
        "name different tags, or in another order",
    ),
    "both": (lambda p: ("--thresholds", p.tmp, "--decisions", p.tmp), "not allowed with argument"),
    "no positives": (lambda p: ("--truth", p.array("x.npy", np.zeros((4, 2)))), "no tag among 2 has both"),
}


WRONG_TAG: dict[str, tuple[Arguments, str]] = {
    "no tagger": (lambda p: (p.songs, "--tagger", p.songs), "songs: no tagger there"),
    "no file": (lambda p: (p.tmp / "none.mp3",), r"none\.mp3: no such file, folder or store"),
    "no audio": (lambda p: (p.write("e/notes.txt").parent,), "no audio files in .*e"),
    "another embedder's store": (lambda p: (p.other_store(),), "this tagger needs embeddings of logmel"),
    "no files": (lambda p: (), "the following arguments are required: FILE"),
    "top": (lambda p: (p.songs, "--top", "0"), "argument --top"),
}


WRONG_SPECTROGRAM: dict[str, tuple[Arguments, str]] = {
    "no file": (lambda p: (p.tmp / "none.mp3", "a.png"), r"none\.mp3: no such file or folder"),
    "no PNG": (lambda p: (p.song, p.tmp / "a.jpg"), r"a\.jpg: spectrograms are written as PNG"),
    "a file for a folder": (lambda p: (p.songs, p.write("file")), "file: .*songs is a folder, so name a folder"),
    "a picture for a folder": (lambda p: (p.songs, p.tmp / "a.png"), r"a\.png: .*songs is a folder, so name a folder"),
    "no audio": (lambda p: (p.write("e/notes.txt").parent, p.tmp / "out"), "no audio files in .*e"),
    "past the end": (lambda p: (p.song, p.tmp / "a.png", "--start", "61"), r"\.mp3: it ends before 61 s"),
    "before the start": (lambda p: (p.songs, p.tmp / "out", "--start", "-1"), "0 s or later, not at -1 s"),
    "no duration": (lambda p: (p.song, p.tmp / "a.png", "--duration", "0"), "longer than 0 s, not 0 s"),
    "a word": (lambda p: (p.song, p.tmp / "a.png", "--start", "here"), "argument --start"),
}


WRONG = {
    "extract": WRONG_EXTRACT,
    "train": WRONG_TRAIN,
    "evaluate": WRONG_EVALUATE,
    "score": WRONG_SCORE,
    "tag": WRONG_TAG,
    "spectrogram": WRONG_SPECTROGRAM,
}


@pytest.mark.parametrize(("command", "case"), [(command, case) for command, cases in WRONG.items() for case in cases])
def test_wrong_use_is_one_line_and_leaves_nothing(run, places, command, case):
    data = ("--data", places.corpus, "--store", places.store)
    right = {
        "extract": ("--store", places.tmp / "new store", "--embedder", "logmel"),
        "train": ("--task", "jamendo", *data, "--out", places.tmp / "tagger"),
        "evaluate": data,
        "score": places.scores(),
        "tag": ("--tagger", places.tagger),
        "spectrogram": (),
    }
    make, message = WRONG[command][case]
    check_one_line(run(command, *right[command], *make(places)), command, message)
    assert not list(places.tmp.glob("*/**/*.npy"))
    assert not (places.tmp / "tagger").exists()
    assert not (places.tmp / "a.png").exists()


def test_the_name_alone_shows_the_help_and_every_command_is_in_a_group(run):
    outcome = run()
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == run("--help").out
    assert "\nLearn and evaluate:\n  train " in outcome.out
    assert COMMANDS.keys() == cli_main._ALL.keys()


@pytest.mark.parametrize("columns", ["72", "90"])
def test_the_help_fits_the_terminal(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    lines = run("--help").out.partition("The usual way")[0].splitlines()
    assert max(map(len, lines)) <= int(columns)


def test_bash_completes_commands_options_and_choices(run):
    pytest.importorskip("shtab", reason="needs the extra `completion`")
    script = run("completion", "bash").out

    def complete(*words):
        ask = f'COMP_WORDS=(jamendo-mood {" ".join(words)}); COMP_CWORD={len(words)}; COMP_LINE="${{COMP_WORDS[*]}}"'
        ask += "; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; _shtab_jamendo_mood; printf '%s\\n' \"${COMPREPLY[@]}\""
        command = ["bash", "--norc", "-c", f"{script}\n{ask}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert complete("pl") == ["playlist"]
    assert complete("tag", "--pl") == ["--places"]
    assert set(complete("weights", "")) >= {"vggish", "yamnet", "musicnn"}
    for shell in ("zsh", "fish"):
        assert "playlist" in run("completion", shell).out


def test_completion_says_what_it_needs(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    check_one_line(run("completion", "bash"), "completion", r"pip install jamendo-mood\[completion\]")


@pytest.mark.parametrize("arguments", [("sing",), ("demo", "--embedder", "ear", "--out")])
def test_wrong_use_of_the_whole(run, arguments):
    outcome = run(*arguments)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)


def test_wrong_use_is_one_line_in_a_process_of_its_own(tmp_path, tagger_folder, run_apart):
    """Nothing that TensorFlow or the interpreter says at its end comes along."""
    outcome = run_apart("train", "--task", "jazz", "--data", tmp_path, "--out", tmp_path / "tagger")
    check_one_line(outcome, "train", "unknown task 'jazz'")


@pytest.mark.parametrize(
    "arguments",
    [("verify", "a" * 300), ("extract", "a" * 300, "--store", "s"), ("tag", __file__, "--tagger", "a" * 300)],
)
def test_what_the_system_says_of_a_file_is_one_line(run, arguments):
    check_one_line(run(*arguments), arguments[0], "aaa.*: File name too long")


def test_output_that_cannot_be_written_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jamendo_mood", "tasks"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "jamendo-mood tasks: No space left on device\n")


def test_what_a_library_makes_of_a_signal_is_told_as_the_signal(run, monkeypatch, tmp_path):
    def fail(_):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise AssertionError("contexts were not left in order") from None

    monkeypatch.setitem(COMMANDS, "verify", COMMANDS["verify"]._replace(run=fail))
    outcome = run("verify", tmp_path)
    assert (outcome.status, outcome.err) == (143, "terminated; the same command starts again from the beginning\n")


# ---- extract.


def test_extract_writes_an_embedding_for_each_track_and_then_skips_it(run, songs, tmp_path, logmel):
    outcome = extract(run, songs, tmp_path / "s", "--scratch", tmp_path / "scratch")
    assert outcome.status == 0
    assert outcome.out.startswith(f"{tmp_path / 's'}: 4 tracks embedded, 0 were there already, 0 failed; 0.8 min of")
    assert outcome.out.count("\n") == 1
    store = EmbeddingStore(tmp_path / "s")
    assert store.spec == logmel.spec
    assert set(store) == keys_of(songs)
    assert {frames.shape for frames in store.values()} == {(12, 128)}
    assert list((tmp_path / "scratch").iterdir()) == []
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.npy")}
    again = extract(run, songs, tmp_path / "s", "--scratch", tmp_path / "scratch")
    assert again.status == 0
    assert "0 tracks embedded, 4 were there already, 0 failed" in again.out
    assert again.err == ""
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.npy")} == before


def test_a_file_of_noise_fails_and_the_others_are_done(run, songs, tmp_path):
    bad = songs / "00" / "1000.mp3"
    good = bad.read_bytes()
    bad.write_bytes(np.random.default_rng(0).bytes(50_000))
    outcome = extract(run, songs, tmp_path / "s", "--scratch", tmp_path / "scratch")
    assert outcome.status == 1
    assert "3 tracks embedded, 0 were there already, 1 failed" in outcome.out
    assert re.search(r"^failed, see .*failures\.tsv; --retry-failed.*\n  00/1000: .*1000\.mp3: ", outcome.err, re.M)
    store = EmbeddingStore(tmp_path / "s")
    assert set(store) == keys_of(songs) - {"00/1000"}
    assert set(store.failures()) == {"00/1000"}
    assert (tmp_path / "s" / "failures.tsv").read_text().startswith("key\terror\n00/1000\t")
    assert list((tmp_path / "scratch").iterdir()) == []
    bad.write_bytes(good)
    again = extract(run, songs, tmp_path / "s")  # what failed once is not tried again, and not forgotten
    assert (again.status, set(store)) == (1, keys_of(songs) - {"00/1000"})
    assert extract(run, songs, tmp_path / "s", "--retry-failed").status == 0
    assert set(store) == keys_of(songs)
    assert store.failures() == {}


def test_a_limit_takes_the_first_and_shards_are_disjoint_and_together_everything(run, songs, tmp_path):
    assert extract(run, songs, tmp_path / "s", "--limit", "3").status == 0
    assert set(EmbeddingStore(tmp_path / "s")) == set(sorted(keys_of(songs))[:3])
    parts = []
    for index in (1, 2):
        assert extract(run, songs, tmp_path / str(index), "--shard", f"{index}/2").status == 0
        parts.append(set(EmbeddingStore(tmp_path / str(index))))
    assert parts[0] | parts[1] == keys_of(songs)
    assert not parts[0] & parts[1]
    assert all(parts)


def test_an_empty_shard_says_so(run, songs, tmp_path):
    only = keys_of(songs) - {"00/1000"}
    for key in only:
        (songs / f"{key}.mp3").unlink()
    outcomes = [extract(run, songs, tmp_path / "s", "--shard", f"{index}/2") for index in (1, 2)]
    assert sorted(outcome.status for outcome in outcomes) == [0, 2]
    check_one_line(max(outcomes, key=lambda outcome: outcome.status), "extract", "no tracks are left to embed")


def write_table(path, keys):
    """One of MTG's tables, by the keys of its tracks."""
    rows = [f"track_{n}\tartist_1\talbum_1\t{key}.mp3\t12.0\tmood/theme---sad\r\n" for n, key in enumerate(keys)]
    path.write_bytes((HEADER.replace("\n", "\r\n") + "".join(rows)).encode())
    return path


def test_only_the_tracks_of_the_table_are_taken_and_those_without_a_file_are_listed(run, songs, tmp_path):
    table = write_table(tmp_path / "t.tsv", ["02/1002", "00/1000"])
    assert extract(run, songs, tmp_path / "s", "--tracks", table).status == 0
    assert set(EmbeddingStore(tmp_path / "s")) == {"02/1002", "00/1000"}
    assert extract(run, songs, tmp_path / "limited", "--tracks", table, "--limit", "1").status == 0
    assert set(EmbeddingStore(tmp_path / "limited")) == {"02/1002"}  # the first of the table
    table = write_table(tmp_path / "t.tsv", ["02/1002", "77/77"])
    outcome = extract(run, songs, tmp_path / "lacking", "--tracks", table)
    assert outcome.status == 1
    assert "1 tracks embedded, 0 were there already, 0 failed" in outcome.out
    assert "1 tracks of the table have no audio file:\n  77/77\n" in outcome.err


def test_the_script_is_the_command(run, songs, tmp_path):
    arguments = ("--embedder", "logmel", "--limit", "2")
    script = [sys.executable, str(ROOT / "scripts" / "extract_embeddings.py"), str(songs)]
    done = subprocess.run(
        [*script, "--store", str(tmp_path / "script"), *arguments], capture_output=True, text=True, check=False
    )
    outcome = run("extract", songs, "--store", tmp_path / "command", *arguments)
    assert done.returncode == outcome.status == 0
    assert contents(tmp_path / "script") == contents(tmp_path / "command")
    pattern = r": 2 tracks embedded, 0 were there already, 0 failed; 0\.4 min of sound"
    assert re.search(pattern, done.stdout)
    assert re.search(pattern, outcome.out)


def test_without_vggish_weights_it_stops_and_names_the_ways_to_get_them(run, songs, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "empty cache"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    offline = run("extract", songs, "--store", tmp_path / "s", "--offline")
    check_one_line(offline, "extract", "VGGish's weights are not here")
    nowhere = {"http://127.0.0.1:9/vggish": vggish.WEIGHTS.sources[vggish.KAGGLE_URL]}
    monkeypatch.setattr(vggish, "WEIGHTS", replace(vggish.WEIGHTS, sources=nowhere))
    monkeypatch.setattr(remote, "Link", partial(remote.Link, sleep=lambda _: None))
    online = run("extract", songs, "--store", tmp_path / "s")
    assert online.status == 2
    assert "  http://127.0.0.1:9/vggish: Connection refused" in online.err
    ways = ("https://tfhub.dev/google/vggish/1", "TFHUB_CACHE_DIR", WEIGHTS_VARIABLE)
    options = ("--weights FOLDER", "--weights vggish_model.ckpt", "--embedder logmel")
    for outcome in (offline, online):
        for way in (*ways, *options):
            assert way in outcome.err.splitlines()[-1]
    assert not (tmp_path / "s").exists()


@pytest.mark.thorough
def test_a_seeded_module_is_embedded_as_by_itself(run, seeded_module, make_audio, noise, read_wav, tmp_path):
    import tensorflow as tf

    path = make_audio(tmp_path / "songs" / "00" / "1.flac", noise(3), rate_hz=16_000)
    arguments = ("extract", tmp_path / "songs", "--store", tmp_path / "s", "--weights", seeded_module, "--batch", "4")
    arguments += ("--precision", "float32")
    check_one_line(run(*arguments), "extract", "not Google's VGGish weights .* use --allow-untrained")
    assert run(*arguments, "--allow-untrained").status == 0
    decoding.convert_to_wav(path, tmp_path / "1.wav")
    expected = tf.saved_model.load(str(seeded_module))(read_wav(tmp_path / "1.wav")).numpy()
    store = EmbeddingStore(tmp_path / "s")
    assert store.spec.variant == "untrained"
    assert store["00/1"].shape == expected.shape == (3, 128)
    assert np.abs(store["00/1"] - expected).max() <= 1e-3 * expected.std()


def test_a_full_disk_ends_the_run_and_keeps_what_was_done(run, songs, small_disk):
    free = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(free.f_bavail * free.f_bsize - 6 * free.f_bsize))
    outcome = extract(run, songs, small_disk / "s")
    assert outcome.status == 1
    assert outcome.out == ""
    assert "no space left on the disk; what was written before is kept" in outcome.err.splitlines()[-1]
    done = set(EmbeddingStore(small_disk / "s"))
    assert done < keys_of(songs)
    filler.unlink()
    assert f"{4 - len(done)} tracks embedded, {len(done)} were there" in extract(run, songs, small_disk / "s").out


# ---- Interruption.

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts jobs in the background ignores it
from jamendo_mood.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def slow_ffmpeg(tmp_path):
    """A folder for the PATH with an ffmpeg that does not come back from files named `slow`, until `go` is there."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    wait = f"case \"$*\" in *slow.mp3*) while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done;; esac"
    program.write_text(f"#!/bin/sh\n{wait}\nexec '{find_ffmpeg()}' \"$@\"\n")
    program.chmod(0o755)
    return program.parent


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted; what was"), (signal.SIGTERM, 143, "terminated; what was")],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_stopped_run_leaves_nothing_half_done_and_goes_on(run, songs, slow_ffmpeg, tmp_path, number, status, word):
    shutil.copy(songs / "00" / "1000.mp3", songs / "99-slow.mp3")
    scratch, store = tmp_path / "scratch", tmp_path / "s"
    options = ("--scratch", scratch, "--batch", "4")
    arguments = ("extract", songs, "--store", store, "--embedder", "logmel", *options)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**os.environ, "PATH": f"{slow_ffmpeg}{os.pathsep}{os.environ['PATH']}"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(store.rglob("[!.]*.npy"))) == 4 and any(scratch.rglob("0*")), process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to ffmpeg too
    else:
        process.send_signal(number)
        (tmp_path / "go").touch()
    out, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert out == ""
    assert "Traceback" not in err
    assert f"{word} finished is kept, the tracks in hand are not, and the same command continues" in err
    assert list(scratch.iterdir()) == []
    assert not list(store.rglob("*.tmp"))
    assert set(EmbeddingStore(store)) == keys_of(songs) - {"99-slow"}
    assert EmbeddingStore(store).failures() == {}
    again = extract(run, songs, store, *options)
    assert again.status == 0
    assert "1 tracks embedded, 4 were there already" in again.out
    assert list(scratch.iterdir()) == []


# ---- train, evaluate.


@pytest.fixture(scope="module")
def training(corpus, corpus_store, tmp_path_factory):
    """A tagger's folder, which the command trained in two epochs, its exit status, and what it printed where."""
    folder = tmp_path_factory.mktemp("cli") / "tagger"
    data = ["--data", str(corpus.root), "--store", str(corpus_store.root)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["train", "--task", "jamendo", *data, "--out", str(folder), "--epochs", "2", "--seed", "3"])
    return folder, status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained(training):
    folder, status, *_ = training
    assert status == 0
    return folder


def test_train_reports_its_epochs_and_writes_a_tagger(training):
    folder, status, out, err = training
    assert status == 0
    summary = rf"{folder}: 2 attention heads for 5 tags on logmel .*; best epoch \d, \d, validation "
    assert re.match(summary, out)
    assert out.count("\n") == 1
    assert re.findall(r"^head ./2, epoch +(\d+)/2  loss [\d.]+  validation PR-AUC-macro", err, re.M) == list("1212")
    record = Tagger.load(folder).record
    assert record["split"] == 0
    assert record["config"]["seed"] == 3
    assert "CC BY-NC-SA" in record["licence"]


@pytest.mark.thorough
def test_train_writes_the_same_tagger_for_the_same_seed(run, corpus, corpus_store, trained, tmp_path):
    data = ("--data", corpus.root, "--store", corpus_store.root)
    run("train", "--task", "jamendo", *data, "--out", tmp_path / "t", "--epochs", "2", "--seed", "3")
    assert contents(tmp_path / "t") == contents(trained)


def test_evaluate_prints_one_json_object_with_the_official_names(run, corpus, corpus_store, trained, tmp_path):
    arguments = ("evaluate", trained, "--data", corpus.root, "--store", corpus_store.root)
    outcome = run(*arguments, "--format", "json", "--out", tmp_path / "report")
    assert (outcome.status, outcome.err) == (0, f"{tmp_path / 'report' / 'report.html'} written\n")
    values = json.loads(outcome.out)
    assert {"PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro", "F-score-macro"} < set(values)
    for name in ("PR-AUC-macro", "ROC-AUC-macro"):
        low, high = values["intervals"][name]
        assert 0 <= low <= values[name] <= high <= 1
    assert values["examples"] == len(corpus.dataset.rows("test"))
    assert [row["tag"] for row in values["per_target"]] == list(corpus.dataset.task.targets)
    assert json.loads((tmp_path / "report" / "scores.json").read_text()) == values
    assert (tmp_path / "report" / "per_target.csv").is_file()
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"{values['PR-AUC-macro']:.4f}" in page
    assert str(trained) in page
    table = run(*arguments)
    assert f"PR-AUC-macro     {values['PR-AUC-macro']:.6f}  [" in table.out
    for tag in corpus.dataset.task.targets:
        assert re.search(rf"^ *{tag} ", table.out, re.M)


def test_another_part_can_be_judged(run, corpus, corpus_store, trained):
    arguments = ("evaluate", trained, "--data", corpus.root, "--store", corpus_store.root, "--format", "json")
    values = json.loads(run(*arguments, "--part", "validation").out)
    assert values["examples"] == len(corpus.dataset.rows("validation"))
    assert values["PR-AUC-macro"] == pytest.approx(Tagger.load(trained).scores["PR-AUC-macro"], abs=1e-9)


def test_a_split_it_was_not_trained_on_is_warned_of(run, corpus, corpus_store, trained, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(corpus.root, data, ignore=shutil.ignore_patterns("audio"))
    shutil.copytree(data / "splits" / "split-0", data / "splits" / "split-1")
    outcome = run("evaluate", trained, "--data", data, "--store", corpus_store.root, "--split", "1")
    assert outcome.status == 0
    assert caplog.messages == ["trained on split 0, whose training tracks may be in split 1"]


def test_data_with_other_tags_are_refused(run, corpus, corpus_store, trained, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(corpus.root, data, ignore=shutil.ignore_patterns("audio"))
    (data / "moodtheme_split.txt").write_text((data / "moodtheme_split.txt").read_text() + "mood/theme---epic\n")
    outcome = run("evaluate", trained, "--data", data, "--store", corpus_store.root)
    check_one_line(outcome, "evaluate", "its tags are not those that .* was trained for")


@pytest.mark.thorough
def test_tracks_that_are_not_embedded_are_warned_of(corpus, corpus_store, trained, tmp_path, run_apart):
    store = EmbeddingStore(tmp_path / "s", corpus_store.spec)
    keys = [corpus.dataset.tracks[row].key for row in corpus.dataset.rows("test")]
    for key in keys[:-2]:
        store.add(key, corpus_store[key])
    outcome = run_apart("evaluate", trained, "--data", corpus.root, "--store", store.root, "--format", "json")
    assert outcome.status == 0
    assert json.loads(outcome.out)["examples"] == len(keys) - 2
    assert outcome.err == f"warning: part test: 2 of {len(keys)} tracks are not in the store and are left out\n"


@pytest.mark.slow
@pytest.mark.shared
def test_music_moods_of_audioset_are_learned(run, shared, tmp_path):
    """By a linear head, about as well as by a logistic regression on the same features (0.209 and 0.854)."""
    data = ("--data", shared / "data" / "audioset")
    few = ("--head", "linear", "--single-task")
    assert run("train", "--task", "audioset-moods", *data, "--out", tmp_path / "t", *few).status == 0
    values = json.loads(run("evaluate", tmp_path / "t", *data, "--part", "eval_public", "--format", "json").out)
    assert values["examples"] == 2_932
    assert values["PR-AUC-macro"] >= 0.195
    assert values["ROC-AUC-macro"] >= 0.86


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    ("task", "least"),
    [
        ("audioset-moods", {"PR-AUC-macro": 0.25, "ROC-AUC-macro": 0.885}),
        ("audioset", {"PR-AUC-macro": 0.285, "Brier-skill-macro": 0.0}),
    ],
)
def test_the_defaults_reach_what_frozen_vggish_allows(run, shared, tmp_path, task, least):
    data = ("--data", shared / "data" / "audioset")
    assert run("train", "--task", task, *data, "--out", tmp_path / "t", "--seed", "0").status == 0
    given = ("--part", "eval_public", "--format", "json", "--rounds", "0")
    values = json.loads(run("evaluate", tmp_path / "t", *data, *given).out)
    for name, figure in least.items():
        assert values[name] >= figure
    if task == "audioset":
        assert values["ECE"] < 0.03


def test_recordings_under_two_names_are_refused_dropped_or_kept(run, corpus, corpus_store, tmp_path, caplog):
    """MTG's list of checksums says that a training track is a test track under another name."""
    data = tmp_path / "data"
    shutil.copytree(corpus.root, data, ignore=shutil.ignore_patterns("audio"))
    keys = [corpus.dataset.tracks[corpus.dataset.rows(part)[0]].key for part in ("train", "test")]
    (data / jamendo.CHECKSUMS_NAME).write_text("".join(f"{'f00d' * 16} {key}.low.mp3\n" for key in keys))
    usual = ("train", "--task", "jamendo", "--data", data, "--store", corpus_store.root, "--epochs", "1")
    usual += ("--head", "linear")
    outcome = run(*usual, "--out", tmp_path / "refused")
    check_one_line(outcome, "train", f"bit-identical audio in training and test: '{keys[0]}' and '{keys[1]}'")
    assert not (tmp_path / "refused").exists()
    outcome = run(*usual, "--out", tmp_path / "dropped", "--leaks", "drop")
    assert outcome.status == 0
    assert "left out, as a later part has them too: 1 track" in caplog.messages
    assert run(*usual, "--out", tmp_path / "kept", "--leaks", "keep").status == 0
    counts = [Tagger.load(tmp_path / name).record["tracks"]["train"] for name in ("dropped", "kept")]
    assert counts == [len(corpus.dataset.rows("train")) - 1, len(corpus.dataset.rows("train"))]


def test_mediaevals_files_score_as_the_evaluation_did(run, corpus, corpus_store, trained, tmp_path):
    arguments = ("evaluate", trained, "--data", corpus.root, "--store", corpus_store.root, "--format", "json")
    outcome = run(*arguments, "--mediaeval", tmp_path / "m", "--rounds", "0")
    assert outcome.status == 0
    values = json.loads(outcome.out)
    assert "intervals" not in values  # for --rounds 0
    files = ("--truth", tmp_path / "m" / "groundtruth.npy", "--predictions", tmp_path / "m" / "predictions.npy")
    for option, file in (("--thresholds", "thresholds.txt"), ("--decisions", "decisions.npy")):
        again = json.loads(run("score", *files, option, tmp_path / "m" / file, "--format", "json").out)
        for name in again.keys() - {"per_target"}:
            assert again[name] == values[name], name
    lines = (tmp_path / "m" / "thresholds.txt").read_text().splitlines()
    official = (corpus.root / "moodtheme_split.txt").read_text().split()
    assert [line.split("\t")[0] for line in lines] == official
    truth = np.load(tmp_path / "m" / "groundtruth.npy")
    np.testing.assert_array_equal(truth, corpus.dataset.targets[corpus.dataset.rows("test")] > 0)


def test_mediaevals_files_need_every_track_and_the_task(run, corpus, corpus_store, trained, tmp_path):
    store = EmbeddingStore(tmp_path / "s", corpus_store.spec)
    for row in corpus.dataset.rows("test")[1:]:
        store.add(corpus.dataset.tracks[row].key, corpus_store[corpus.dataset.tracks[row].key])
    usual = ("--data", corpus.root, "--store", store.root, "--mediaeval", tmp_path / "m")
    outcome = run("evaluate", trained, *usual)
    assert outcome.status == 2
    assert "MediaEval's files need every track of part 'test'" in outcome.err
    shutil.copytree(trained, tmp_path / "other")
    manifest = tmp_path / "other" / "tagger.json"
    manifest.write_text(manifest.read_text().replace('"name": "jamendo"', '"name": "jamendo-59"'))
    check_one_line(
        run("evaluate", tmp_path / "other", *usual), "evaluate", "MediaEval's files are those of task jamendo"
    )
    assert not (tmp_path / "m").exists()


def test_an_ensemble_and_settings_reach_the_training(run, corpus, corpus_store, tmp_path):
    data = ("--data", corpus.root, "--store", corpus_store.root, "--out", tmp_path / "t", "--epochs", "1")
    options = ("--ensemble", "1", "--head", "mlp", "--pooling", "mean", "--set", "hidden=16", "--set", "mixup=0")
    outcome = run("train", "--task", "jamendo", *data, *options)
    assert outcome.status == 0
    assert "epoch  1/1" in outcome.err
    tagger = Tagger.load(tmp_path / "t")
    assert len(tagger.weights) == 1 < TrainConfig.for_head("mlp").ensemble
    assert (tagger.head.pooling, tagger.head.hidden) == ("mean", 16)
    assert tagger.record["config"]["augment"]["mixup"] == 0
    assert "Mood tagger: jamendo" in (tmp_path / "t" / "README.md").read_text()


def test_without_a_tagger_the_built_in_one_is_used(run, tmp_path):
    """On embeddings like AudioSet's, which need no weights."""
    store = EmbeddingStore(tmp_path / "s", audioset.SPEC)
    store.add("a/b", np.random.default_rng(0).integers(0, 256, (20, 128)).astype(np.float32))
    outcome = run("tag", tmp_path / "s", "--format", "json")
    assert outcome.status == 0
    assert "the tagger audioset that comes with jamendo-mood: AudioSet's 7 music moods" in outcome.err
    (song,) = json.loads(outcome.out)["results"]
    assert len(song["targets"]) == 7
    assert {tag["reliability"] for tag in song["targets"]} <= {"good", "fair", "weak", "unknown"}


def test_the_built_in_tagger_says_what_a_song_needs(run, places, monkeypatch):
    monkeypatch.setenv("JAMENDO_MOOD_VGGISH", str(places.tmp / "none"))
    outcome = run("tag", places.songs)
    assert outcome.status == 2
    assert "none" in outcome.err.splitlines()[-1]


# ---- score.


def test_score_by_decisions_and_by_thresholds(run, places):
    predictions = np.array([[0.2, 0.5], [0.5, 0.1], [0.9, 0.6], [0.1, 0.4]])
    usual = (*places.scores(), "--predictions", places.array("p.npy", predictions), "--format", "json")
    thresholds = places.write("t.txt", "calm\t0.5\ndark\t0.6\n")
    for option, reached in ((), predictions >= [0.5, 0.6]), (("--official",), predictions > [0.5, 0.6]):
        outcome = run("score", *usual, "--thresholds", thresholds, *option)
        assert outcome.err.count("as published: ") == (len(QUIRKS) if option else 0)
        by_thresholds = json.loads(outcome.out)
        by_decisions = json.loads(run("score", *usual, "--decisions", places.array("d.npy", reached)).out)
        assert {name: by_thresholds[name] for name in by_decisions if name != "per_target"} == {
            name: value for name, value in by_decisions.items() if name != "per_target"
        }
        assert [(row["tag"], row["threshold"]) for row in by_thresholds["per_target"]] == [("calm", 0.5), ("dark", 0.6)]
        assert [row["tag"] for row in by_decisions["per_target"]] == ["tag 0", "tag 1"]
        recall = (reached[[1, 2], 0].mean() + reached[[0, 2], 1].mean()) / 2
        assert by_decisions["recall-macro"] == pytest.approx(recall)


@pytest.mark.shared
def test_score_gives_the_official_figures_of_the_baseline(run, shared):
    folder = shared / "data" / "jamendo" / "mediaeval"
    given = ("--truth", folder / "groundtruth.npy", "--predictions", folder / "baseline_vggish_predictions.npy")
    outcome = run("score", *given, "--format", "json")
    assert (outcome.status, outcome.err) == (0, "")
    values = json.loads(outcome.out)
    assert {name: f"{values[name]:.6f}" for name in values if name.endswith(("macro", "micro")) and "AUC" in name} == {
        "ROC-AUC-macro": "0.725821",
        "PR-AUC-macro": "0.107734",
        "ROC-AUC-micro": "0.775029",
        "PR-AUC-micro": "0.140913",
    }
    published = dict(line.split("\t") for line in (folder / "baseline_vggish_results.tsv").read_text().splitlines())
    assert len(published) == 10
    given += ("--thresholds", folder / "baseline_vggish_thresholds.txt", "--format", "json")
    outcome = run("score", *given, "--official")
    assert outcome.err.count("as published: ") == 3
    decided = json.loads(outcome.out)
    assert {name: f"{decided[name]:.6f}" for name in published} == published
    # Its script decides above its thresholds, though it found them as lowest scores to be decided.
    at_least = json.loads(run("score", *given).out)
    other = {name for name in published if f"{at_least[name]:.6f}" != published[name]}
    assert other == {f"{name}-{kind}" for name in ("precision", "recall", "F-score") for kind in ("macro", "micro")}


@pytest.mark.thorough
def test_a_reader_that_goes_away_is_no_error(places):
    process = subprocess.Popen(
        [sys.executable, "-m", "jamendo_mood", "score", *map(str, places.scores())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=120) == 0


# ---- tag.


def test_a_file_a_folder_and_a_store_give_the_same_tags(run, songs, corpus, corpus_store, tagger_folder, tmp_path):
    store = EmbeddingStore(tmp_path / "s", corpus_store.spec)
    for song in corpus.songs[:5]:  # of which the folder has four
        key = song.path.removesuffix(".mp3")
        store.add(key, corpus_store[key])

    def tags(*arguments):
        outcome = run("tag", *arguments, "--tagger", tagger_folder, "--format", "json", "--top", "3", "--timeline")
        assert outcome.status == 0
        described = {Path(song["file"]).with_suffix("").name: song for song in json.loads(outcome.out)["results"]}
        return {name: (song["targets"], song["timeline"]) for name, song in described.items()}

    of_store = tags(store.root)
    of_folder = tags(songs)
    assert len(of_folder) == 4
    assert of_folder.items() < of_store.items()
    assert tags(songs / "00" / "1000.mp3") == {"1000": of_folder["1000"]}
    assert len(of_folder["1000"][0]) == 3
    assert len(of_folder["1000"][1]["times_s"]) == 12


def test_tags_come_in_the_order_of_the_files_given(run, songs, tagger_folder):
    files = [songs / "03" / "1003.mp3", songs / "01" / "1001.mp3", songs / "03" / "1003.mp3"]
    outcome = run("tag", *files, "--tagger", tagger_folder, "--format", "json")
    assert [song["file"] for song in json.loads(outcome.out)["results"]] == [str(files[0]), str(files[1])]


def test_tag_prints_a_table_with_title_and_artist(run, corpus, songs, tagger_folder):
    outcome = run("tag", songs / "00" / "1000.mp3", "--tagger", tagger_folder, "--top", "2", "--timeline")
    lines = outcome.out.splitlines()
    song = corpus.songs[0]
    assert lines[0].endswith(f"1000.mp3  Synthetic artist 0 - Study in {' and '.join(song.moods)} no. 1000  (0:12)")
    (start,) = (number for number, line in enumerate(lines) if line.startswith("  seconds"))
    assert [re.match(r"  (\w+) +0\.\d{3}", line)[1] for line in lines[1:3]] == lines[start].split()[1:]
    assert len([line for line in lines[start + 1 :] if line.startswith("  ")]) == 12
    assert "sound decoded" not in outcome.err
    several = run("tag", songs, "--tagger", tagger_folder)
    assert "4/4" in several.err
    assert re.search(r"48 s of sound decoded, embedded and scored in [\d.]+ s", several.err)


def test_tag_prints_csv(run, songs, tagger_folder):
    for options, lines in (((), 1), (("--timeline",), 12)):
        outcome = run("tag", songs, "--tagger", tagger_folder, "--format", "csv", "--top", "2", *options)
        rows = list(csv.DictReader(io.StringIO(outcome.out)))
        assert len(rows) == 4 * 2 * lines
        assert all(0 <= float(row["score"]) <= 1 for row in rows)


@pytest.mark.thorough
def test_a_bad_file_among_good_ones_is_told_on_stderr_alone(songs, tagger_folder, tmp_path, run_apart):
    """In a process of its own, so that everything TensorFlow might say would be seen."""
    bad = tmp_path / "bad.mp3"
    bad.write_text("no music")
    good = songs / "00" / "1000.mp3"
    outcome = run_apart("tag", good, bad, "--tagger", tagger_folder, "--format", "json")
    assert outcome.status == 1
    assert [song["file"] for song in json.loads(outcome.out)["results"]] == [str(good)]
    lines = [line for line in re.split(r"[\r\n]+", outcome.err) if line.strip() and "track" not in line]
    assert len(lines) == 2
    assert lines[0].startswith(f"failed: {bad}: not a readable audio file")
    assert re.fullmatch(r"12 s of sound decoded, embedded and scored in [\d.]+ s \(\d+x real time\)", lines[1])


# ---- compare.


def test_compare_tells_the_better_of_two_taggers(run, corpus, corpus_store, trained, tagger_folder):
    arguments = ("compare", tagger_folder, trained, "--data", corpus.root, "--store", corpus_store.root)
    found = json.loads(run(*arguments, "--rounds", 50, "--format", "json").out)
    difference = found["PR-AUC-macro"]
    assert difference["interval"][0] <= difference["difference"] <= difference["interval"][1]
    outcome = run(*arguments, "--rounds", 50)
    assert outcome.status == 0
    assert f"PR-AUC-macro     {difference['difference']:+.6f}" in outcome.out
    assert ("A is better" in outcome.out) == any(row["interval"][0] > 0 for row in found.values())


def test_a_tagger_is_no_better_than_itself_nor_compared_on_other_tracks(run, corpus, corpus_store, trained, tmp_path):
    arguments = ("compare", trained, trained, "--data", corpus.root, "--store", corpus_store.root, "--rounds", 20)
    outcome = run(*arguments, "--second-store", corpus_store.root)
    lines = outcome.out.splitlines()[1:]
    assert {line.split()[0] for line in lines} > {"PR-AUC-macro", "ROC-AUC-micro", "F-score-macro", "hit@3", "ECE"}
    for line in lines:
        assert line.endswith("+0.000000  [0.0000, 0.0000]  A higher in 0%: no clear difference")
    lacking = EmbeddingStore(tmp_path / "lacking", corpus_store.spec)
    for key in list(corpus_store)[:-1]:
        lacking.add(key, corpus_store[key])
    outcome = run(*arguments, "--second-store", lacking.root)
    assert outcome.status == 2
    assert "do not hold the same tracks" in outcome.err


# ---- spectrogram.


def read_picture(path):
    with PIL.Image.open(path) as picture:
        return picture.mode, picture.size, np.asarray(picture).copy()


@pytest.mark.parametrize(
    ("seconds", "options", "shown"),
    [
        (119.0, (), "119.0 s of {} from 0 s on, 11898 columns"),
        (130.0, (), "60.0 s of {} from 60 s on, 5998 columns"),
        (130.0, ("--start", 125), "5.0 s of {} from 125 s on, 498 columns"),
        (130.0, ("--duration", 4), "4.0 s of {} from 0 s on, 398 columns"),
    ],
)
def test_a_minute_the_whole_of_shorter_files_or_a_stretch_is_drawn(
    run, make_audio, noise, tmp_path, seconds, options, shown
):
    source = make_audio(tmp_path / "noise.wav", noise(seconds), rate_hz=16_000)
    outcome = run("spectrogram", source, tmp_path / "noise.png", "--bare", "--grey", *options)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"{tmp_path / 'noise.png'}: {shown.format(source)} of 0.01 s\n"
    assert read_picture(tmp_path / "noise.png")[:2] == ("L", (int(shown.split()[-2]), 64))


def test_a_spectrogram_has_axes_unless_bare_and_colours_unless_grey(run, corpus, tmp_path):
    pictures = {}
    for options in ((), ("--grey",), ("--bare",), ("--bare", "--grey")):
        path = tmp_path / "new folder" / f"picture{''.join(options)}.PNG"
        assert run("spectrogram", corpus.path(0), path, *options).status == 0
        pictures[options] = read_picture(path)
    assert pictures["--bare",][:2] == ("RGB", (1205, 64))
    for options in ((), ("--grey",)):
        mode, (width, height), pixels = pictures[options]
        assert mode == "RGBA"
        assert width > 1000
        assert height > 400
        assert (np.ptp(pixels[:, :, :3].astype(int), axis=2).max() == 0) == bool(options)


def test_spectrograms_of_a_folder_go_on_where_they_stopped(run, songs, tmp_path):
    (songs / "01" / "noise.mp3").write_bytes(b"no sound")
    out = tmp_path / "pictures"
    outcome = run("spectrogram", songs, out, "--bare")
    assert outcome.status == 1
    assert outcome.out == f"{out}: 4 pictures drawn, 0 were there already, 1 failed\n"
    assert "noise.mp3: not a readable audio file" in outcome.err
    drawn = contents(out)
    assert drawn.keys() == {f"{key}.png" for key in keys_of(songs)} - {"01/noise.png"}
    (songs / "01" / "noise.mp3").unlink()
    (out / "00" / "1000.png").unlink()
    outcome = run("spectrogram", songs, out, "--bare")
    assert (outcome.status, outcome.out) == (0, f"{out}: 1 pictures drawn, 3 were there already, 0 failed\n")
    assert contents(out) == drawn


def test_songs_that_end_before_the_stretch_are_listed_and_of_no_song_nothing_is_drawn(run, songs, tmp_path):
    outcome = run("spectrogram", songs, tmp_path / "pictures", "--start", 60)
    assert outcome.status == 1
    assert outcome.err.count("it ends before 60 s") == 4
    (tmp_path / "text.mp3").write_text("no sound")
    outcome = run("spectrogram", tmp_path / "text.mp3", tmp_path / "text.png")
    assert (outcome.status, outcome.out) == (1, "")
    assert "failed: " in outcome.err
    assert not (tmp_path / "text.png").exists()


def test_without_matplotlib_history_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    mood_log.remember([mood_log.wish_for(Place(0.5, 0.5), "at", mood_log.now())])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = run("history", "--plot", tmp_path / "history.png")
    check_one_line(outcome, "history", r"matplotlib.*pip install jamendo-mood\[notebook\]")


def test_without_matplotlib_spectrogram_says_what_to_install(run, places, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = run("spectrogram", places.song, places.tmp / "a.png")
    check_one_line(outcome, "spectrogram", r"matplotlib.*pip install jamendo-mood\[notebook\]")


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_store_is_gone_on_with_in_its_precision(run, songs, stub_embedder, tmp_path, monkeypatch, precision):
    asked = []

    def load(options):
        asked.append(options.precision)
        raise UsageError("far enough")

    monkeypatch.setattr(vggish, "load_vggish", load)
    store = tmp_path / "store"
    for extra in ((), ("--precision", "float32")):
        run("extract", songs, "--store", store, *extra)
        EmbeddingStore(store, replace(stub_embedder.spec, name="vggish", precision=precision))
        run("extract", songs, "--store", store, *extra)
    assert asked == ["auto", precision, "float32", "float32"]
