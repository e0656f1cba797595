import errno
import os
import subprocess
import sys
import threading

import pytest

from jamendo_mood.util.errors import DiskFullError, StoreError, UsageError
from jamendo_mood.util.files import (
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
