import fcntl
import os
import signal
import stat
import subprocess
import sys

import pytest

from jamendo_mood.util import files
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import Scratch

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
