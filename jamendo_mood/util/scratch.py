"""The scratch folder: where WAVs live for the few moments they exist.

A run owns one folder and holds a lock on it. The kernel drops the lock when the process ends, however it ends, so the
next run can tell a stale folder from one in use without guessing from process numbers, and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from jamendo_mood.util.errors import UsageError

PREFIX = "jamendo-mood-scratch-"
_LOCK_NAME = "owner.lock"


class Scratch:
    """A private folder for temporary WAVs, removed on exit; stale ones of killed runs are removed on entry.

    Parameters
    ----------
    base : Path or None
        The folder to work in, made if needed. None means the system's folder for temporary files.

    Raises
    ------
    UsageError
        `base` cannot be made or written to.
    """

    def __init__(self, base: Path | None = None) -> None:
        self.base = Path(tempfile.gettempdir()) if base is None else Path(base)
        self._counter = 0
        self._counter_lock = threading.Lock()

    def __enter__(self) -> Scratch:
        try:
            self.base.mkdir(parents=True, exist_ok=True)
            remove_stale(self.base)
            self.path, self._lock = _make_locked(self.base)
        except OSError as error:
            raise UsageError(f"cannot use {self.base} as a scratch folder: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Give a fresh folder for one track and remove it, with all that is in it, however the block ends."""
        with self._counter_lock:
            self._counter += 1
            path = self.path / f"{self._counter:06d}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _make_locked(base: Path) -> tuple[Path, int]:
    """Make a folder whose first content is a lock that this process holds; the folder, and the lock to be closed."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        try:
            lock = os.open(path / _LOCK_NAME, os.O_CREAT | os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (path / _LOCK_NAME).exists():
                return path, lock
            os.close(lock)
        except FileNotFoundError:
            pass  # another run that starts took it, not locked yet, for a dead one's: here and above
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise


def remove_stale(base: Path) -> list[Path]:
    """Remove the scratch folders below `base` whose owner is gone, and return their paths.

    An owner that has made its folder but not locked it yet finds out, and makes another.
    """
    removed = []
    for folder in sorted(base.glob(PREFIX + "*")):
        with contextlib.suppress(OSError):
            folder.rmdir()  # its owner died before there was a lock in it
            removed.append(folder)
            continue
        try:
            lock = os.open(folder / _LOCK_NAME, os.O_RDWR)
        except FileNotFoundError:  # the lock comes first, so this one was being removed when its owner died
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
            continue
        except OSError:  # another user's folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        finally:
            os.close(lock)
    return removed
