import errno
import fcntl
import gc
import io
import itertools
import os
import stat
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from trying import memory_below

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
import sys
from pathlib import Path
from jamendo_mood.util.files import write_atomically

def write(file):
    file.write(b"half of it")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()

write_atomically(Path(sys.argv[1], "deep", "file"), write)
"""


@pytest.fixture
def start(tmp_path):
    """Start a program that says a line and waits for one; give the process and the line."""
    running = []

    def start(program):
        command = [sys.executable, "-c", program, str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process, process.stdout.readline().strip()

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


def test_the_draft_of_a_live_writer_stays_and_that_of_a_dead_one_goes(start, tmp_path):
    (live, _), (dead, _) = start(HANGING_WRITER), start(HANGING_WRITER)
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


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Python itself closes one just being opened
def test_a_signal_at_any_moment_leaves_no_draft(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def write(moment):
        """Write two files, and raise before the bytecode of this number; whether there was one."""
        left = itertools.count(moment, -1)

        def trace(frame, event, _):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if event == "opcode" and next(left) == 0:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            write_together(dict.fromkeys((tmp_path / "a", tmp_path / "b"), b"content"))
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    left = []
    # In a thread of its own: a handler that is interrupted may leave its thread an exception that others would meet.
    moments = itertools.takewhile(write, itertools.count())
    worker = threading.Thread(target=lambda: left.extend(drafts_in(tmp_path) for _ in moments))
    gc.disable()  # whoever has a callback there would be interrupted in it
    worker.start()
    worker.join()
    gc.enable()
    assert len(left) > 100
    assert not any(left)


def test_only_drafts_are_drafts(tmp_path):
    others = [".file.tmp", f"file-{16 * 'a'}.tmp", f".file-{16 * 'x'}.tmp", f".-{16 * 'a'}.tmp", f".a-{16 * 'a'}.tmp2"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".folder-{16 * 'a'}.tmp").mkdir()
    assert remove_drafts(tmp_path) == []
    assert len([*tmp_path.iterdir()]) == 6


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


def test_remove_stale_tells_what_it_removed_and_touches_nothing_else(tmp_path):
    stale = tmp_path / f"{files.PREFIX}abc"
    half_removed = tmp_path / f"{files.PREFIX}def"
    for folder in (stale, half_removed, tmp_path / "holiday photos"):
        (folder / "inside").mkdir(parents=True)
    (stale / "owner.lock").touch()
    assert files.remove_stale(tmp_path) == [stale, half_removed]
    assert [path.name for path in tmp_path.iterdir()] == ["holiday photos"]


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


@pytest.mark.parametrize("base", ["a/b", None])
def test_a_base_that_is_not_there_is_made_and_others_cannot_look_in(base, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Scratch(tmp_path / base if base else None) as mine:
        assert mine.path.parent == tmp_path / (base or "")
        assert stat.S_IMODE(mine.path.stat().st_mode) == 0o700
    assert list(mine.path.parent.iterdir()) == []


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


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        np.array(["a", "bc"]),
        np.array([b"a", b"bc"]),
        np.array(7),
        np.zeros((0, 3), np.float16),
        np.array([True, False]),
    ],
)
def test_arrays_are_read_as_numpy_wrote_them(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    for compressed in (np.savez, np.savez_compressed):
        compressed(tmp_path / "a.npz", first=array, second=array)
        with (tmp_path / "a.npz").open("rb") as file:
            arrays = files.read_npz(file, 10_000)
        for found in (files.read_array(tmp_path / "a.npy"), arrays["first"], arrays["second"]):
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype
            assert found.flags.writeable


def make_index(members):
    """An archive of empty members, whose table of contents is 55 bytes a member or more."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(members):
            archive.writestr(f"{number:09d}.npy", b"")
    return bytearray(file.getvalue())


@pytest.mark.parametrize("members", [20_000, 66_000], ids=["", "zip64"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_long_table_of_contents_takes_no_memory(members, on_disk, tmp_path):
    content = make_index(members)
    if on_disk:  # a buffered file takes as much memory as it is asked to read, whatever there is
        (tmp_path / "a.npz").write_bytes(content)
    file = (tmp_path / "a.npz").open("rb") if on_disk else io.BytesIO(content)
    with file, memory_below(1_000_000), pytest.raises(ValueError, match="a table of contents that is too long"):
        files.read_npz(file, 10**9)


def test_a_table_of_contents_that_says_it_is_long_is_refused():
    content = make_index(3)
    content[-10:-6] = (4_000_000_000).to_bytes(4, "little")
    with pytest.raises(files.DAMAGES):  # by `zipfile` itself, where that is new enough
        files.read_npz(io.BytesIO(content), 10**9)


def test_files_up_to_a_size_are_read_and_a_larger_one_takes_no_memory(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.read_bytes(tmp_path / "a", 3) == b"abc"
    with pytest.raises(ValueError, match="it has more than 2 bytes"):
        files.read_bytes(tmp_path / "a", 2)
    os.truncate(tmp_path / "a", 1 << 40)
    with memory_below(1_000_000), pytest.raises(ValueError, match="it has more than 100,000,000 bytes"):
        files.read_bytes(tmp_path / "a", 100_000_000)


def test_an_array_for_which_there_is_no_memory_is_an_error_of_reading(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': True, 'shape': (%d, 1), }" % (1 << 40)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00\x75\x00" + header.ljust(0x74) + b"\n")
    os.truncate(tmp_path / "a.npy", 10 + 0x75 + (4 << 40))
    with pytest.raises(OSError, match="Cannot allocate memory"):
        files.read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_use_are_refused(method):
    array, file = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a.npy", array.getvalue())
    with pytest.raises(ValueError, match=f"the array 'a' is compressed as method {method}"):
        files.read_npz(file, 10_000)


@pytest.mark.parametrize("order", "<>")
def test_texts_with_letters_that_there_are_not_are_refused(order):
    file = io.BytesIO()
    np.save(file, np.array([0x41, 0x10FFFF], f"{order}u4").view(f"{order}U1"))
    assert files.read_npy(io.BytesIO(file.getvalue()), file.tell()).tolist() == ["A", "\U0010ffff"]
    for letter in (0x110000, 0xFFFFFFFF):
        file = io.BytesIO()
        np.save(file, np.array([0x41, letter], f"{order}u4").view(f"{order}U1"))
        with pytest.raises(ValueError, match="characters that do not exist"):
            files.read_npy(io.BytesIO(file.getvalue()), file.tell())


def test_json_is_json():
    assert files.parse_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    for content, message in ((b"[NaN]", "NaN is not a number"), (b"[" * 10**5, "nested too deep"), (b"[", "Expecting")):
        with pytest.raises(ValueError, match=message):
            files.parse_json(content)


def test_reasons_are_short_and_of_one_line():
    assert files.brief(ValueError("a\nb")) == "a"
    assert files.brief(KeyError("name")) == "no 'name'"
    assert files.brief(EOFError()) == "EOFError"
    assert len(files.brief(ValueError("a" * 10**6))) < 400


@pytest.mark.parametrize("asked", [0, 1, 128_000, 200_000])
def test_what_is_read_can_be_written_to(asked):
    whole = bytes(range(256)) * 500
    content = files.read_up_to(io.BytesIO(whole), asked)
    assert bytes(content) == whole[:asked]
    assert not content.readonly
