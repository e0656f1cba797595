"""Disks that are full, broken or read-only: nothing torn, nothing lost, one line says why."""

import errno
import hashlib
import os
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from unittest import mock

import numpy as np
import pytest
from damaged_stores import KEYS, SPEC, frames_of, make_store, state_of
from failing_disk import FailingDisk

from jamendo_mood.audio import ffmpeg
from jamendo_mood.datasets import jamendo
from jamendo_mood.evaluation import evaluate
from jamendo_mood.library import mood_log, writing
from jamendo_mood.library.scoring import score_store
from jamendo_mood.store import parquet
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.store.parquet import export_parquet, import_parquet
from jamendo_mood.store.verification import repair_store
from jamendo_mood.training.model import Tagger, load_builtin
from jamendo_mood.util.errors import DiskFullError, MoodError, StoreError
from jamendo_mood.util.files import is_draft

pytest_plugins = ["toy_commands"]

CODES = {code: errno.errorcode[code] for code in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS)}
FULL = {errno.ENOSPC, errno.EDQUOT}
ONES = np.ones((2, SPEC.dim), np.float32)
TIME = datetime(2026, 1, 1, tzinfo=timezone.utc)


def damage(folder):
    store = make_store(folder / "store")
    os.truncate(store.root / "14/2.npy", 100)
    (store.root / "store.json").unlink()
    (store.root / "failures.tsv").write_bytes(b"torn")


def fail_two(folder):
    store = make_store(folder / "store")
    store.record_failure("one", "bad")
    store.record_failure("two", "bad")


def pack_and_add(folder):
    store = make_store(folder / "store")
    store.pack()
    store.add("new", ONES)


def export_store(folder):
    source = folder.parent / "source"
    export_parquet(EmbeddingStore(source) if source.exists() else make_store(source), folder / "parquet", shard_rows=2)


def import_exported(folder):
    with mock.patch.object(parquet, "_ask", ask_once):
        import_parquet([folder.parent / "exported/parquet"], folder / "store")


def put_song(folder):
    """An MP3 of noise, which nobody has written to for long."""
    path = folder / "song.mp3"
    noise = np.random.default_rng(1).integers(-9000, 9000, 16_000, np.int16)
    if not SONGS:
        done = ffmpeg.run("-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-", "-f", "mp3", "-", fed=noise.tobytes())
        SONGS.append(done.output)
    path.write_bytes(SONGS[0])
    os.utime(path, (1e9, 1e9))


def write_moods(folder):
    fields = {"MOOD": ["calm"], "JAMENDO_MOOD": []}
    song = folder / "song.mp3"
    change = writing.Change(song, {name: [] for name in fields}, fields, writing._stamp(song), time.time())
    for problem in writing.apply([change]):
        if problem:
            raise StoreError(problem)


SONGS = []
TOLD = {}


def ask_once(*question, ask=parquet._ask):
    """What the reader of Parquet files says; it is a process of its own, takes its time, and writes nothing."""
    if repr(question) not in TOLD:
        TOLD[repr(question)] = list(ask(*question))
    return iter(TOLD[repr(question)])


def save_first(folder):
    load_builtin().save(folder / "tagger")


def save_second(folder):
    replace(load_builtin(), record={**load_builtin().record, "split": 3}).save(folder / "tagger")


def remember(folder):
    with mock.patch.object(mood_log, "default_path", return_value=folder / "emotions.jsonl"):
        mood_log.remember([mood_log.Wish(TIME, "joy", 0.5, 0.5, "emotion")])


def get_tables(folder):
    mirror, name = folder.parent / "mirror/table.tsv", "table.tsv"
    mirror.parent.mkdir(exist_ok=True)
    mirror.write_bytes(b"official")
    checksums = {name: hashlib.sha256(b"official").hexdigest()}
    with mock.patch.object(jamendo, "read_published_checksums", return_value=checksums):
        jamendo.get_splits(folder / "splits", mirror.parent.as_uri())


# What writes -> how the folder is before, and the call. It is done whole or not at all, but for PARTS.
WRITERS = {
    "a store made": (lambda folder: None, lambda folder: EmbeddingStore(folder / "store", SPEC)),
    "a track added": (lambda f: make_store(f / "store"), lambda f: EmbeddingStore(f / "store").add("new/1", ONES)),
    "a track replaced": (lambda f: make_store(f / "store"), lambda f: EmbeddingStore(f / "store").add("14/2", ONES)),
    "the first failure": (
        lambda f: make_store(f / "store"), lambda f: EmbeddingStore(f / "store").record_failure("a", "b")),
    "another failure": (fail_two, lambda f: EmbeddingStore(f / "store").record_failure("a", "b")),
    "failures forgotten": (fail_two, lambda f: EmbeddingStore(f / "store").forget_failures({"one"})),
    "pack": (lambda f: make_store(f / "store"), lambda f: EmbeddingStore(f / "store").pack()),
    "pack again": (pack_and_add, lambda f: EmbeddingStore(f / "store").pack()),
    "export": (lambda f: make_store(f.parent / "source"), export_store),
    "import": (lambda f: export_store(f.parent / "exported"), import_exported),
    "a tagger saved": (lambda f: None, save_first),
    "a tagger replaced": (save_first, save_second),
    "an official table": (lambda f: None, get_tables),
    "scores kept": (lambda f: make_store(f / "store"), lambda f: score_store(EmbeddingStore(f / "store"), None)),
    "MediaEval's files": (
        lambda f: None,
        lambda f: evaluate.save_mediaeval(f / "m", {"predictions": ONES, "decisions": ONES > 0}, ("a",) * 4, ONES[0])),
    "the first wish": (lambda f: None, remember),
    "another wish": (remember, remember),
    "repair": (damage, lambda f: repair_store(f / "store")),
    "moods in a song": (put_song, write_moods),
}  # fmt: skip
PARTS = {"pack", "pack again", "export", "import", "a tagger saved", "a tagger replaced", "MediaEval's files", "repair"}
"""What is done file by file: those that are done stay, each of them whole. Halves of two packs are known for that."""
THOROUGH = {"export", "import", "moods in a song"}
SILENT = {"scores kept"}  # a warning is logged: the scores are there all the same


@pytest.fixture(scope="module")
def tried(figure):
    counts = Counter()
    yield counts
    kinds = ", ".join(CODES.values())
    figure(
        f"Each call of a writer that changes a disk fails with {kinds}, once or from then on",
        f"{counts['faults']:,} faults in {counts['writers']} writers",
        f"{counts['told']:,} told in one line that names the file, {counts['logged']} logged as a warning; "
        f"{counts['torn']} files torn, {counts['left']} drafts left, {counts['changed']} other files changed; "
        f"{counts['again']:,} of {counts['faults']:,} went well when called again",
    )


def make_again(before, folder):
    """Back to how it was."""
    shutil.rmtree(folder)
    shutil.copytree(before, folder)


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
    for code in list(CODES)[: amount(2, len(CODES))]:
        for lasts in (False, True)[: amount(1, 2)]:
            for at in range(1, 1_000):
                make_again(expected, folder)
                caplog.clear()
                disk.fail(code, at, lasts=lasts)
                problem = attempt(act, folder)
                if not disk.mend():
                    assert problem is None
                    break
                tried["faults"] += 1
                check_told(problem, code, folder, writer, caplog, tried)
                check_whole(state_of(folder), before, after, writer, tried)
                act(folder)
                assert state_of(folder) == after
                tried["again"] += 1
            assert at > 1, "nothing was written?"


def attempt(act, folder):
    try:
        act(folder)
    except MoodError as error:
        return error
    return None


def check_told(problem, code, folder, writer, caplog, tried):
    if problem is None:
        assert writer in SILENT, "an error that nobody was told"
        assert "cannot be kept" in caplog.text
        tried["logged"] += 1
        return
    assert isinstance(problem, DiskFullError) == (code in FULL), repr(problem)
    assert str(folder) in str(problem)
    assert "\n" not in str(problem)
    tried["told"] += 1


def check_whole(found, before, after, writer, tried):
    tried["left"] += sum(is_draft(name.rpartition("/")[2]) for name in found)
    torn = [name for name, content in found.items() if content not in (before.get(name), after.get(name))]
    tried["torn"] += len(torn)
    if writer not in PARTS:
        tried["changed"] += len(dict(found.items() ^ before.items()))
        assert found == before
    assert torn == []
    assert not [name for name in found if is_draft(name.rpartition("/")[2])]
    assert before.keys() - after.keys() <= {"store/14/2.npy", *found}


def test_a_tagger_that_cannot_be_replaced_is_the_old_one(tmp_path, monkeypatch):
    save_first(tmp_path / "old")
    disk = FailingDisk(monkeypatch, tmp_path / "new")
    for at in range(1, 100):
        shutil.copytree(tmp_path / "old", tmp_path / "new")
        disk.fail(errno.ENOSPC, at, lasts=True)
        problem = attempt(save_second, tmp_path / "new")
        failed = disk.mend()
        assert Tagger.load(tmp_path / "new/tagger").record.get("split", 0) in ((0, 3) if failed else (3,))
        shutil.rmtree(tmp_path / "new")
        if not failed:
            break
        assert isinstance(problem, DiskFullError)


# ---- Real disks of 1 MB.


def fill(folder, left=0):
    """Take all the room, but for some bytes."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            size = file.tell()
    os.truncate(folder / "ballast", max(0, size - left))


def test_a_full_disk_stops_each_writing_command_in_a_line(run, small_disk, tmp_path):
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
    cut, moved = outcome.out.splitlines()
    assert cut.startswith("14/2\t")
    assert cut.endswith("\tset aside as 2.npy.bad")
    assert moved == "elsewhere\tthe embedding of '48/948'\tmoved to '48/948'"
    assert run("verify", store.root).status == 0


def test_on_a_read_only_disk_what_reads_works_and_what_writes_says_so(run, small_disk, tmp_path):
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
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


def test_moods_on_a_full_or_a_read_only_disk_leave_the_song(small_disk):
    put_song(small_disk)
    before = state_of(small_disk)
    fill(small_disk, left=4096)
    with pytest.raises(DiskFullError, match=r"song\.mp3: no space left on the disk"):
        write_moods(small_disk)
    (small_disk / "ballast").unlink()
    assert state_of(small_disk) == before
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r"song\.mp3: cannot be written"):
        write_moods(small_disk)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert state_of(small_disk) == before
    write_moods(small_disk)
    assert state_of(small_disk) != before
