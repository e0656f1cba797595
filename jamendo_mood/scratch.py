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

from jamendo_mood.errors import UsageError

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
            # Locked under another name first: a folder with the final name is locked from its first moment on.
            draft = Path(tempfile.mkdtemp(prefix=".new-", dir=self.base))
        except OSError as error:
            raise UsageError(f"cannot use {self.base} as a scratch folder: {error.strerror}") from error
        self._lock = os.open(draft / _LOCK_NAME, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = draft.rename(self.base / (PREFIX + draft.name.removeprefix(".new-")))
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


def remove_stale(base: Path) -> list[Path]:
    """Remove the scratch folders below `base` whose owner is gone, and return their paths."""
    removed = []
    for folder in sorted(base.glob(PREFIX + "*")):
        try:
            lock = os.open(folder / _LOCK_NAME, os.O_RDWR)
        except FileNotFoundError:  # a live folder always has its lock: this one was being removed when its owner died
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
