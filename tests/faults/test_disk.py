"""Disks that are full, broken or read-only: nothing torn, nothing lost, one line says why."""

import builtins
import contextlib
import errno
import functools
import hashlib
import io
import os
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from damaged_stores import KEYS, SPEC, frames_of, make_store, state_of

from jamendo_mood.audio import ffmpeg
from jamendo_mood.datasets import jamendo
from jamendo_mood.evaluation import evaluate
from jamendo_mood.library import mood_log, writing
from jamendo_mood.library.similarity import score_store
from jamendo_mood.store import parquet
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.store.parquet import export_parquet, import_parquet
from jamendo_mood.store.verification import repair_store
from jamendo_mood.training.model import Tagger, load_builtin
from jamendo_mood.util.errors import DiskFullError, MoodError, StoreError
from jamendo_mood.util.files import is_draft

pytest_plugins = ["toy_commands"]

STEPS = ("open", "write", "fsync", "replace", "rename", "mkdir", "ftruncate")


class FailingDisk:
    """A layer around all that writes: it fails at the n-th call that would change something below a folder.

    Counted are files opened for writing and written to, flushed, renamed and cut, and folders made; not what takes
    away, which needs no room and is how a writer cleans up.
    """

    def __init__(self, monkeypatch, folder):
        self.folder, self.count, self.at = folder, 0, 0
        for name in STEPS:
            monkeypatch.setattr(os, name, self.wrap(name))
        self.open_file = io.open
        monkeypatch.setattr(io, "open", self.open)
        monkeypatch.setattr(builtins, "open", self.open)

    def fail(self, code, at, *, lasts):
        """From now on, once, or at all later calls too if it `lasts`."""
        self.count, self.code, self.at, self.lasts = 0, code, at, lasts

    def mend(self):
        """Fail no more; whether it did."""
        failed = 0 < self.at <= self.count
        self.at = 0
        return failed

    def step(self, place):
        if self.at and self.is_below(place):
            self.count += 1
            if self.count == self.at or (self.lasts and self.count > self.at):
                raise OSError(self.code, os.strerror(self.code))

    def is_below(self, place):
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else Path(os.fsdecode(place))
        return path.absolute().is_relative_to(self.folder)

    def wrap(self, name):
        real = getattr(os, name)

        def call(place, *rest, **named):
            reads = name == "open" and not rest[0] & (os.O_WRONLY | os.O_RDWR)
            if not reads and not (name == "mkdir" and Path(place).is_dir()):
                self.step(place)
            return real(place, *rest, **named)

        return call

    def open(self, file, mode="r", buffering=-1, *rest, **named):
        if isinstance(file, int) or not {*"wxa+"} & {*mode} or not self.is_below(file):
            return self.open_file(file, mode, buffering, *rest, **named)
        assert "b" in mode, "write bytes: text is encoded before"
        self.step(file)
        raw = RawFile(file, mode.replace("b", ""))
        raw.disk = self
        return raw if buffering == 0 else io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class RawFile(io.FileIO):
    disk: FailingDisk

    def write(self, content):
        self.disk.step(self.name)
        return super().write(content)


CODES = {code: errno.errorcode[code] for code in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS)}
FULL = {errno.ENOSPC, errno.EDQUOT}
ONES = np.ones((2, SPEC.dim), np.float32)
TIME = datetime(2026, 1, 1, tzinfo=timezone.utc)


def nothing(folder):
    pass


def on_store(act):
    return lambda folder: act(EmbeddingStore(folder / "store"))


def fill_store(folder):
    return make_store(folder / "store")


def damage(folder):
    store = fill_store(folder)
    os.truncate(store.root / "14/2.npy", 100)
    (store.root / "store.json").unlink()
    (store.root / "failures.tsv").write_bytes(b"torn")


def fail_two(folder):
    store = fill_store(folder)
    store.record_failure("one", "bad")
    store.record_failure("two", "bad")


def pack_and_add(folder):
    store = fill_store(folder)
    store.pack()
    store.add("new", ONES)


def export_store(folder):
    source = folder.parent / "source"
    export_parquet(EmbeddingStore(source) if source.exists() else make_store(source), folder / "parquet", shard_rows=2)


ANSWERS = {}


def ask_once(*question, ask=parquet._ask):
    """What the reader of Parquet files says; it is a process of its own, takes its time, and writes nothing."""
    if repr(question) not in ANSWERS:
        ANSWERS[repr(question)] = list(ask(*question))
    return iter(ANSWERS[repr(question)])


def import_exported(folder):
    with mock.patch.object(parquet, "_ask", ask_once):
        import_parquet([folder.parent / "exported/parquet"], folder / "store")


@functools.cache
def make_song():
    noise = np.random.default_rng(1).integers(-9000, 9000, 16_000, np.int16)
    samples = ("-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-")
    return ffmpeg.run(*samples, "-f", "mp3", "-", fed=noise.tobytes()).output


def put_song(folder):
    """An MP3 of noise, which nobody has written to for long."""
    (folder / "song.mp3").write_bytes(make_song())
    os.utime(folder / "song.mp3", (1e9, 1e9))


def write_moods(folder):
    fields = {"MOOD": ["calm"], "JAMENDO_MOOD": []}
    song = folder / "song.mp3"
    change = writing.Change(song, {name: [] for name in fields}, fields, writing._stamp(song), time.time())
    for problem in writing.apply([change]):
        if problem:
            raise StoreError(problem)


def save_first(folder):
    load_builtin().save(folder / "tagger")


def save_second(folder):
    replace(load_builtin(), record={**load_builtin().record, "split": 3}).save(folder / "tagger")


def remember(folder):
    with mock.patch.object(mood_log, "default_path", return_value=folder / "emotions.jsonl"):
        mood_log.remember([mood_log.Wish(TIME, "joy", 0.5, 0.5, "emotion")])


def save_mediaeval(folder):
    evaluate.save_mediaeval(folder / "m", {"predictions": ONES, "decisions": ONES > 0}, ("a",) * 4, ONES[0])


def get_tables(folder):
    mirror, name = folder.parent / "mirror/table.tsv", "table.tsv"
    mirror.parent.mkdir(exist_ok=True)
    mirror.write_bytes(b"official")
    checksums = {name: hashlib.sha256(b"official").hexdigest()}
    with mock.patch.object(jamendo, "read_published_checksums", return_value=checksums):
        jamendo.get_splits(folder / "splits", mirror.parent.as_uri())


# What writes -> how the folder is before, and the call. It is done whole or not at all, but for PARTS.
WRITERS = {
    "a store made": (nothing, lambda folder: EmbeddingStore(folder / "store", SPEC)),
    "a track added": (fill_store, on_store(lambda store: store.add("new/1", ONES))),
    "a track replaced": (fill_store, on_store(lambda store: store.add("14/2", ONES))),
    "the first failure": (fill_store, on_store(lambda store: store.record_failure("a", "b"))),
    "another failure": (fail_two, on_store(lambda store: store.record_failure("a", "b"))),
    "failures forgotten": (fail_two, on_store(lambda store: store.forget_failures({"one"}))),
    "pack": (fill_store, on_store(EmbeddingStore.pack)),
    "pack again": (pack_and_add, on_store(EmbeddingStore.pack)),
    "export": (lambda folder: make_store(folder.parent / "source"), export_store),
    "import": (lambda folder: export_store(folder.parent / "exported"), import_exported),
    "a tagger saved": (nothing, save_first),
    "a tagger replaced": (save_first, save_second),
    "an official table": (nothing, get_tables),
    "scores kept": (fill_store, on_store(lambda store: score_store(store, None))),
    "MediaEval's files": (nothing, save_mediaeval),
    "the first wish": (nothing, remember),
    "another wish": (remember, remember),
    "repair": (damage, lambda folder: repair_store(folder / "store")),
    "moods in a song": (put_song, write_moods),
}
PARTS = {"pack", "pack again", "export", "import", "a tagger saved", "a tagger replaced", "MediaEval's files", "repair"}
"""What is done file by file: those that are done stay, each of them whole. Halves of two packs are known for that."""
THOROUGH = {"export", "import", "moods in a song"}
SILENT = {"scores kept"}  # a warning is logged: the scores are there all the same


FIGURES = [
    (
        f"Each call of a writer that changes a disk fails with {', '.join(CODES.values())}, once or from then on",
        "{faults:,} faults in {writers} writers",
        "{told:,} told in one line that names the file, {logged} logged as a warning; no file torn, no draft left, no "
        "other file changed; all went well when called again",
    )
]


@pytest.mark.parametrize(
    "writer",
    [pytest.param(writer, marks=pytest.mark.thorough if writer in THOROUGH else ()) for writer in WRITERS],
)
def test_a_writer_whose_disk_fails_says_so_and_tears_nothing(writer, tried, amount, tmp_path, monkeypatch, caplog):
    prepare, act = WRITERS[writer]
    if writer in ("export", "import"):
        pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    folder = tmp_path / "disk"
    folder.mkdir()
    (tmp_path / "exported").mkdir()
    prepare(folder)
    before, expected = state_of(folder), tmp_path / "before"
    shutil.copytree(folder, expected)
    act(folder)
    after = state_of(folder)
    disk = FailingDisk(monkeypatch, folder)
    tried["writers"] += 1
    for code in list(CODES)[:: amount(4, 1)]:
        for lasts in (False, True)[: amount(1, 2)]:
            for at in range(1, 1_000):
                shutil.rmtree(folder)
                shutil.copytree(expected, folder)
                caplog.clear()
                disk.fail(code, at, lasts=lasts)
                problem = attempt(act, folder)
                if not disk.mend():
                    assert problem is None
                    break
                tried["faults"] += 1
                tried["told" if problem else "logged"] += 1
                check_told(problem, code, folder, writer, caplog)
                check_whole(state_of(folder), before, after, writer)
                if writer == "a tagger replaced":
                    Tagger.load(folder / "tagger")  # the old one or the new one, and not a mixture
                act(folder)
                assert state_of(folder) == after
            assert at > 1, "nothing was written?"


def attempt(act, folder):
    try:
        act(folder)
    except MoodError as error:
        return error
    return None


def check_told(problem, code, folder, writer, caplog):
    if problem is None:
        assert writer in SILENT, "an error that nobody was told"
        assert "cannot be kept" in caplog.text
        return
    assert isinstance(problem, DiskFullError) == (code in FULL), repr(problem)
    assert str(folder) in str(problem)
    assert "\n" not in str(problem)


def check_whole(found, before, after, writer):
    assert [name for name, content in found.items() if content not in (before.get(name), after.get(name))] == []
    assert [name for name in found if is_draft(name.rpartition("/")[2])] == []
    assert before.keys() - after.keys() <= {"store/14/2.npy", *found}
    assert writer in PARTS or found == before


# ---- Real disks of 1 MB.


def fill(folder):
    """Take all the room."""
    with (folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))


def test_a_full_disk_stops_each_writing_command_in_a_line(run, small_disk):
    store = make_store(small_disk / "store")
    store.add("large", np.ones((9_000, SPEC.dim), np.float32))
    fill(small_disk)
    before = state_of(store.root)
    for command in (("pack", store.root), ("export", store.root, small_disk / "parquet")):
        outcome = run(*command)
        assert outcome.status == 1
        assert outcome.err.count("no space left on the disk") == 1
        assert state_of(store.root) == before
        assert not [path for path in small_disk.rglob("*") if is_draft(path.name)]
    with pytest.raises(DiskFullError, match="no space left"):
        store.record_failure("a", "b" * 5_000)
    assert state_of(store.root) == before
    assert run("verify", store.root).status == 0
    (small_disk / "ballast").unlink()
    store.record_failure("a", "b")
    assert store.failures() == {"a": "b"}


def test_a_repair_needs_no_room_but_for_what_it_writes(run, small_disk):
    store = make_store(small_disk / "store")
    os.truncate(store.root / "14/2.npy", 100)
    (store.root / "48/948.npy").rename(store.root / "elsewhere.npy")
    fill(small_disk)
    outcome = run("verify", store.root, "--repair")
    assert outcome.status == 1
    assert "\tset aside as 2.npy.bad" in outcome.out
    assert "\tmoved to '48/948'" in outcome.out
    assert run("verify", store.root).status == 0


def test_on_a_read_only_disk_what_reads_works_and_what_writes_says_so(run, small_disk):
    store = make_store(small_disk / "store")
    os.truncate(store.root / "14/2.npy", 100)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert set(EmbeddingStore(store.root)) == {*KEYS}
    np.testing.assert_array_equal(store["48/948"], frames_of("48/948"))
    assert run("verify", store.root).out.startswith("14/2\t")
    for command in (("pack", store.root), ("verify", store.root, "--repair")):
        outcome = run(*command)
        assert outcome.status == 2
        line = outcome.err.splitlines()[-1]
        assert line.startswith(f"jamendo-mood {command[0]}: {store.root}")
        assert "damaged" in line or "Read-only file system" in line
