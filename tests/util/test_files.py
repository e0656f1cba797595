"""Files written whole or not at all, and the scratch folder of a run."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from jamendo_mood.util import files
from jamendo_mood.util.errors import DiskFullError, StoreError, UsageError
from jamendo_mood.util.files import (
    Scratch,
    abandoned,
    append,
    disk_errors,
    is_disk_full,
    is_draft,
    locked,
    remove_drafts,
    scratch_full,
    write_atomically,
    write_together,
)

HANGING_WRITER = """
import sys, time
from pathlib import Path
from jamendo_mood.util.files import write_atomically

def write(file):
    file.write(b"half of it")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()

write_atomically(Path(sys.argv[1]), write)
"""


@pytest.fixture
def hang(tmp_path):
    """Start a process that is in the middle of writing a file; a line to it lets it go on."""
    running = []

    def start():
        program = [sys.executable, "-c", HANGING_WRITER, str(tmp_path / "deep" / "file")]
        process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def drafts_in(folder):
    return [path for path in folder.rglob("*") if is_draft(path.name)]


def test_a_file_is_written_with_its_folder_and_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second"):
        write_atomically(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert [*path.parent.iterdir()] == [path]


def test_files_written_together_are_all_replaced_or_none(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    write_together({path: lambda file: file.write(b"old") for path in paths})

    def fail(file):
        file.write(b"new")
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(DiskFullError, match=r"/b: no space left"):
        write_together({paths[0]: lambda file: file.write(b"new"), paths[1]: fail, paths[2]: lambda _: None})
    assert sorted(tmp_path.iterdir()) == paths
    assert {path.read_bytes() for path in paths} == {b"old"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_error_wherever_it_is_noticed(code, tmp_path):
    error = OSError(code, os.strerror(code))
    with pytest.raises(DiskFullError, match="no space left") as raised, disk_errors(tmp_path, UsageError):
        raise error
    assert all(map(is_disk_full, (error, raised.value, scratch_full(tmp_path))))
    with pytest.raises(UsageError, match="cannot be written"), disk_errors(tmp_path, UsageError):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    assert not any(map(is_disk_full, (OSError(errno.EIO, ""), StoreError("no space left"), OSError())))


def test_what_is_in_the_way_is_a_store_error(tmp_path):
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"/folder: cannot be written \(Is a directory\)"):
        write_atomically(tmp_path / "folder", lambda file: file.write(b""))
    assert drafts_in(tmp_path) == []


def test_the_draft_of_a_live_writer_stays_and_that_of_a_dead_one_goes(hang, tmp_path):
    live, dead = hang(), hang()
    assert len(drafts_in(tmp_path)) == 2
    assert remove_drafts(tmp_path) == []
    dead.kill()
    dead.wait(timeout=60)
    (gone,) = remove_drafts(tmp_path)
    (draft,) = drafts_in(tmp_path)
    assert gone != draft
    with abandoned(draft) as dead:
        assert not dead
    live.communicate("\n", timeout=60)
    assert live.returncode == 0
    assert (tmp_path / "deep" / "file").read_bytes() == b"half of it"
    assert drafts_in(tmp_path) == []


def test_where_there_are_no_locks_nothing_is_taken_for_dead(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    write_atomically(tmp_path / "file", lambda file: file.write(b"content"))
    append(tmp_path / "list", b"a\n")
    (tmp_path / f".file-{16 * 'a'}.tmp").touch()
    assert remove_drafts(tmp_path) == []
    assert len(drafts_in(tmp_path)) == 1


def test_a_draft_that_is_taken_before_it_is_locked_is_begun_again(tmp_path, monkeypatch):
    import fcntl

    real, swept = fcntl.flock, []

    def sweep_first(file, how):
        if not swept:
            swept.extend(drafts_in(tmp_path))
            swept[0].unlink()
        real(file, how)

    monkeypatch.setattr("fcntl.flock", sweep_first)
    write_atomically(tmp_path / "file", lambda file: file.write(b"content"))
    assert len(swept) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_drafts_are_drafts(tmp_path):
    others = [".file.tmp", f"file-{16 * 'a'}.tmp", f".file-{16 * 'x'}.tmp", f".-{16 * 'a'}.tmp", f".a-{16 * 'a'}.tmp2"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".folder-{16 * 'a'}.tmp").mkdir()
    assert remove_drafts(tmp_path) == []
    assert len([*tmp_path.iterdir()]) == 6


def test_lines_are_appended_whole_and_a_torn_one_is_closed(tmp_path):
    path = tmp_path / "list"
    append(path, b"a\n", heading=b"heading\n")
    append(path, b"b\n", heading=b"heading\n")
    assert path.read_bytes() == b"heading\na\nb\n"
    path.write_bytes(b"heading\na\nhalf")
    append(path, b"c\n")
    assert path.read_bytes() == b"heading\na\nhalf\nc\n"


@pytest.mark.parametrize("before", [None, b"a\n"])
def test_a_line_that_does_not_fit_leaves_the_list_as_it_was(before, tmp_path, monkeypatch):
    path, real = tmp_path / "list", os.write
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(os, "write", lambda file, content: real(file, content[:3]))  # as a disk that gets full
    with pytest.raises(OSError, match="No space left"):
        append(path, b"a long line\n", heading=b"heading\n")
    assert (path.read_bytes() if path.exists() else None) == before


def test_who_waits_for_a_list_that_is_replaced_writes_to_the_new_one(tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"old\n")
    with locked(path):
        waiting = threading.Thread(target=append, args=(path, b"late\n"))
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive()
        write_atomically(path, lambda file: file.write(b"new\n"))
    waiting.join(timeout=60)
    assert path.read_bytes() == b"new\nlate\n"


OWNER = """
import pathlib, sys
from jamendo_mood.util.files import Scratch

with Scratch(pathlib.Path(sys.argv[1])) as scratch, scratch.folder() as folder:
    (folder / "track.wav").touch()
    print(scratch.path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start_owner(tmp_path):
    """Start a process that owns a scratch folder with a WAV in it; give the process and the folder."""
    running = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        folder = tmp_path / process.stdout.readline().strip()
        assert (folder / "000001" / "track.wav").is_file()
        return process, folder

    yield start
    for process in running:
        process.communicate(timeout=60)


def test_the_folder_of_a_killed_run_is_removed_by_the_next(start_owner, tmp_path):
    process, folder = start_owner()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert folder.is_dir()
    with Scratch(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine.path]


def test_the_folder_of_a_living_run_is_left_alone(start_owner, tmp_path):
    _, folder = start_owner()
    with Scratch(tmp_path) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([mine.path, folder])
        assert (folder / "000001" / "track.wav").is_file()


def test_a_run_that_ends_leaves_nothing(start_owner, tmp_path):
    process, _ = start_owner()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_remove_stale_tells_what_it_removed_and_touches_nothing_else(tmp_path):
    stale = tmp_path / f"{files.PREFIX}abc"
    half_removed = tmp_path / f"{files.PREFIX}def"
    for folder in (stale, half_removed, tmp_path / "holiday photos"):
        (folder / "inside").mkdir(parents=True)
    (stale / "owner.lock").touch()
    assert files.remove_stale(tmp_path) == [stale, half_removed]
    assert [path.name for path in tmp_path.iterdir()] == ["holiday photos"]


def test_the_folder_is_locked_while_it_is_in_use_and_not_after(tmp_path):
    with Scratch(tmp_path) as mine:
        lock = os.open(mine.path / "owner.lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def test_others_cannot_look_in(tmp_path):
    with Scratch(tmp_path) as mine:
        assert stat.S_IMODE(mine.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_tracks_folder_is_gone_however_its_block_ends(error, tmp_path):
    def fail(mine):
        with mine.folder() as folder:
            (folder / "track.wav").touch()
            raise error

    with Scratch(tmp_path) as mine:
        with pytest.raises(error):
            fail(mine)
        assert [path.name for path in mine.path.iterdir()] == ["owner.lock"]
        with mine.folder() as second, mine.folder() as third:
            assert second != third
            assert second.is_dir()
            assert third.is_dir()
        assert [path.name for path in mine.path.iterdir()] == ["owner.lock"]


def test_a_base_that_is_not_there_is_made(tmp_path):
    with Scratch(tmp_path / "a" / "b") as mine:
        assert mine.path.parent == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_without_a_base_it_is_the_systems_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Scratch() as mine:
        assert mine.path.parent == tmp_path


def test_a_base_that_cannot_be_used_is_a_usage_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file"), Scratch(tmp_path / "file"):
        pytest.fail("a file is no folder")


def test_a_run_killed_before_it_had_its_lock_leaves_nothing_for_good(tmp_path, monkeypatch):
    # With all that is in it: its owner might be alive, and just now take the lock and make a WAV.
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: pytest.fail("it must go only if it is empty"))
    (tmp_path / f"{files.PREFIX}abc").mkdir()
    assert files.remove_stale(tmp_path) == [tmp_path / f"{files.PREFIX}abc"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["mkdtemp", "open", "flock"])
def test_a_folder_that_another_run_took_for_stale_is_made_anew(monkeypatch, tmp_path, moment):
    module = {"mkdtemp": files.tempfile, "open": files.os, "flock": files.fcntl}[moment]
    real, swept = getattr(module, moment), []

    def act(*arguments, **options):
        done = real(*arguments, **options) if moment != "flock" else None
        if not swept:
            monkeypatch.setattr(module, moment, real)
            swept.extend(files.remove_stale(tmp_path))  # another run starts in this very moment
            assert len(swept) == 1
        return real(*arguments, **options) if moment == "flock" else done

    monkeypatch.setattr(module, moment, act)
    with Scratch(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine.path]
        assert mine.path not in swept
        assert files.remove_stale(tmp_path) == []


def test_a_start_that_is_interrupted_leaves_nothing(monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.fcntl, "flock", interrupt)
    with pytest.raises(KeyboardInterrupt), Scratch(tmp_path):
        pytest.fail("it has no lock")
    assert list(tmp_path.iterdir()) == []


STARTS = """
import pathlib, sys
from jamendo_mood.util.files import Scratch

for number in range(100):
    with Scratch(pathlib.Path(sys.argv[1])) as scratch, scratch.folder() as folder:
        (folder / "track.wav").touch()
        assert (folder / "track.wav").exists()
"""


def test_runs_that_start_at_once_leave_each_other_alone(tmp_path):
    starting = [subprocess.Popen([sys.executable, "-c", STARTS, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in starting] == [0] * 4
    assert list(tmp_path.iterdir()) == []
