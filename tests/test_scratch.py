import fcntl
import os
import signal
import stat
import subprocess
import sys

import pytest

from jamendo_mood import scratch
from jamendo_mood.errors import UsageError
from jamendo_mood.scratch import Scratch

OWNER = """
import pathlib, sys
from jamendo_mood.scratch import Scratch

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
    stale = tmp_path / f"{scratch.PREFIX}abc"
    half_removed = tmp_path / f"{scratch.PREFIX}def"
    for folder in (stale, half_removed, tmp_path / "holiday photos"):
        (folder / "inside").mkdir(parents=True)
    (stale / "owner.lock").touch()
    assert scratch.remove_stale(tmp_path) == [stale, half_removed]
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
