"""Files written whole or not at all, and the scratch folder for temporary WAVs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from jamendo_mood.util.errors import DiskFullError, MoodError, StoreError, UsageError

Write = Callable[[IO[bytes]], object]

_DRAFT = re.compile(r"\..+-[0-9a-f]{16}\.tmp", re.DOTALL)


def write_atomically(path: Path, write: Write) -> None:
    """Write a file under another name in its folder, flush it to disk, and rename it: the file is whole or not there.

    Raises
    ------
    StoreError, DiskFullError
        The file cannot be written; nothing is left behind.
    """
    write_together({path: write})


def write_together(writes: Mapping[Path, Write]) -> None:
    """Write several files like `write_atomically`; none is replaced before all of them are on the disk.

    Raises
    ------
    StoreError, DiskFullError
        One cannot be written; the files are as they were, and nothing is left behind.
    """
    with contextlib.ExitStack() as stack:
        drafts = {path: stack.enter_context(_written(path, write)) for path, write in writes.items()}
        for path, draft in drafts.items():
            with disk_errors(path):
                draft.replace(path)


@contextlib.contextmanager
def _written(path: Path, write: Write) -> Iterator[Path]:
    """A draft with a file's content; it is deleted at the end unless it was renamed."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft, file = _open_draft(path)
    try:
        with disk_errors(path):
            write(file)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        # An earlier error is the one to report, and after the flush closing cannot fail.
        with contextlib.suppress(OSError):
            draft.unlink()
        with contextlib.suppress(OSError):
            file.close()


def _open_draft(path: Path) -> tuple[Path, IO[bytes]]:
    while True:
        draft = path.with_name(f".{path.name[:50]}-{secrets.token_hex(8)}.tmp")  # names may have 255 bytes
        file = draft.open("xb")
        try:
            _lock(file.fileno())
            if draft.exists():
                return draft, file
            file.close()  # another process removed it before it was locked
        except BaseException:
            draft.unlink(missing_ok=True)
            file.close()
            raise


def _lock(file: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks: files are still written whole
        fcntl.flock(file, fcntl.LOCK_EX)


def is_draft(name: str) -> bool:
    """Whether a file's name is that of a draft."""
    return _DRAFT.fullmatch(name) is not None


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether a file's writer has ended, as far as its lock shows; nobody else gets the lock while the block runs."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # renamed meanwhile, another user's, or on a read-only disk
        yield False
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def remove_drafts(folder: Path) -> list[Path]:
    """Remove the drafts below a folder whose writers have ended, and return their paths."""
    removed = []
    for parent, _, names in os.walk(folder):
        for draft in (Path(parent, name) for name in names if is_draft(name)):
            with abandoned(draft) as dead, contextlib.suppress(OSError):
                if dead:
                    draft.unlink()
                    removed.append(draft)
    return removed


@contextlib.contextmanager
def locked(path: Path, mode: int = 0o666) -> Iterator[int]:
    """Open a file for appending, or make it; other processes that do the same wait, even if the file is replaced."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
        try:
            _lock(file)
            if _is_at(path, file):
                yield file
                return
        finally:
            os.close(file)


@contextlib.contextmanager
def locked_folder(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder; several that share may be in it together.

    Readers share. If a folder cannot be locked, nobody waits.
    """
    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # reading or writing there will say what is wrong
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _is_at(path: Path, file: int) -> bool:
    # Another process may have replaced or deleted the file while this one waited for the lock.
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def append(path: Path, lines: bytes, heading: bytes = b"", mode: int = 0o666) -> None:
    """Add whole lines to a file, all or none; several processes may do so.

    Parameters
    ----------
    path : Path
    lines : bytes
    heading : bytes
        The first line of a new file.
    mode : int
        Permissions of a new file, before the umask.

    Raises
    ------
    OSError
        The lines cannot be written; the file is as it was.
    """
    with locked(path, mode) as file:
        size = os.fstat(file).st_size
        if not size:
            lines = heading + lines
        elif os.pread(file, 1, size - 1) != b"\n":
            lines = b"\n" + lines  # closes a line that was cut short
        try:
            if os.write(file, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size) if size else path.unlink()
            raise


@contextlib.contextmanager
def disk_errors(path: Path, kind: type[MoodError] = StoreError) -> Iterator[None]:
    """Raise what goes wrong in writing a file as a `DiskFullError`, or as an error of another kind, that names it."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"{path}: no space left on the disk; what was written before is kept") from error
        raise kind(f"{path}: cannot be written ({error.strerror})") from error


def is_disk_full(error: Exception) -> bool:
    """Whether an error says that a disk is full, or the user's share of it."""
    return isinstance(error, DiskFullError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def scratch_full(file: Path) -> DiskFullError:
    """The error for a file in a `Scratch.folder` for which there is no room."""
    return DiskFullError(f"no space left in the scratch folder {file.parent.parent}: free some, or name another")


PREFIX = "jamendo-mood-scratch-"
_LOCK_NAME = "owner.lock"


class Scratch:
    """A private folder for temporary WAVs, removed on exit; on entry the folders of killed runs are removed.

    Parameters
    ----------
    base : Path or None
        The folder to make it in. None means the system's folder for temporary files.

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
        """A new folder for one track, removed with its content however the block ends."""
        with self._counter_lock:
            self._counter += 1
            path = self.path / f"{self._counter:06d}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _make_locked(base: Path) -> tuple[Path, int]:
    """Make a folder whose first file is a lock that this process holds; returns the folder and the open lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        try:
            lock = os.open(path / _LOCK_NAME, os.O_CREAT | os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (path / _LOCK_NAME).exists():
                return path, lock
            os.close(lock)
        except FileNotFoundError:
            pass  # another run that starts removed it before it was locked: here and above
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise


def remove_stale(base: Path) -> list[Path]:
    """Remove the scratch folders below `base` whose owner has ended, and return their paths.

    An owner that has made its folder but not locked it yet notices, and makes another.
    """
    removed = []
    for folder in sorted(base.glob(PREFIX + "*")):
        with contextlib.suppress(OSError):
            folder.rmdir()  # its owner died before there was a lock in it
            removed.append(folder)
            continue
        lock = folder / _LOCK_NAME
        with contextlib.suppress(OSError), abandoned(lock) as dead:  # OSError: another user's folder
            if dead or not lock.exists():  # the lock comes first: without it, a removal was interrupted
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed
