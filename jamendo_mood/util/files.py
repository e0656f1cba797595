"""Files: written whole or not at all, read within bounds whoever made them, and the scratch folder for WAVs.

JSON, arrays and tables out of a stranger's files run no code, and take no more memory than the file is worth. Readers
raise `ValueError` (or `OSError`) with a message for the user if the content is wrong; the caller adds the name of the
file. Readers of tables are in `plaintext`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import logging
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import DiskFullError, MoodError, StoreError, UsageError

Write = bytes | Callable[[IO[bytes]], object]  #: what a file is to hold, or a function that writes it

_MAX_KEPT_BYTES = 600_000_000  # VGGish's weights are 288 million

_DRAFT = re.compile(r"\..+-[0-9a-f]{16}\.tmp", re.DOTALL)

log = logging.getLogger(__name__)


def write_atomically(path: Path, write: Write) -> None:
    """Write a file under another name in its folder, flush it to disk, and rename it: the file is whole or not there.

    Raises `StoreError` or `DiskFullError` if the file cannot be written; nothing is left behind.
    """
    write_together({path: write})


def write_together(writes: Mapping[Path, Write]) -> None:
    """Write several files like `write_atomically`; none is replaced before all of them are on the disk.

    Raises `StoreError` or `DiskFullError` if one cannot be written; the files are as they were, and nothing is left
    behind.
    """
    with contextlib.ExitStack() as stack:
        drafts = {path: _write_draft(path, write, stack) for path, write in writes.items()}
        for path, draft in drafts.items():
            with disk_errors(path):
                draft.replace(path)


def write_output(path: Path, write: Write) -> None:
    """Write what a user names as the output: as `write_atomically`, if that is a file.

    A link is followed: the file it leads to is replaced, and the link stays. A file that is replaced keeps its
    permissions, and one that may not be written to stays as it is. What is no file, such as a pipe or ``/dev/stdout``,
    is written to. StoreError if it is a folder, or cannot be written.
    """
    with disk_errors(path):
        try:
            there = path.stat()
        except FileNotFoundError:  # a new file, or a link that leads to one
            there = None
        mode = stat.S_IFREG if there is None else there.st_mode
        if stat.S_ISDIR(mode):
            raise StoreError(f"{path}: a folder is there: name a file")
        # What the shell opened for us is written to, even if it is a file: with `>>` after what is in it.
        if not stat.S_ISREG(mode) or os.path.realpath(path.parent).startswith(("/dev", "/proc")):
            with path.open("ab", buffering=0) as raw, io.BufferedWriter(raw) as file:
                _fill(file, write)
            return
        if there is not None and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def write_as_before(file: IO[bytes]) -> None:
        if there is not None:
            with contextlib.suppress(OSError):  # only root may give a file away
                os.fchown(file.fileno(), there.st_uid, there.st_gid)
            os.fchmod(file.fileno(), mode & 0o777)
        _fill(file, write)

    write_atomically(Path(os.path.realpath(path)), write_as_before)


def _write_draft(path: Path, write: Write, stack: contextlib.ExitStack) -> Path:
    """Write a file's content into a draft; the stack deletes that in the end, unless it was renamed."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            draft = path.with_name(f".{path.name[:50]}-{secrets.token_hex(8)}.tmp")  # names may have 255 bytes
            stack.callback(_try, draft.unlink)  # before it is there: a signal may come while it is being opened
            file = draft.open("xb")
            stack.callback(_try, file.close)
            _lock(file.fileno())
            if draft.exists():
                break  # else another process removed it before it was locked
        _fill(file, write)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _fill(file: IO[bytes], write: Write) -> None:
    file.write(write) if isinstance(write, bytes) else write(file)


def _try(action: Callable[[], None]) -> None:
    # An earlier error is the one to report, and after the flush closing cannot fail.
    with contextlib.suppress(OSError):
        action()


def _lock(file: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks: files are still written whole
        fcntl.flock(file, fcntl.LOCK_EX)


def is_draft(name: str) -> bool:
    """Whether a file's name is that of a draft."""
    return _DRAFT.fullmatch(name) is not None


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether a file's writer has ended, as far as its lock shows; nobody else gets the lock while the block runs."""
    with contextlib.ExitStack() as stack:
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            stack.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dead = True
        except OSError:  # locked; or renamed meanwhile, another user's, or on a read-only disk
            dead = False
        yield dead


def remove_drafts(folder: Path, *, below: bool = True) -> list[Path]:
    """Remove the drafts in a folder and those `below` it whose writers have ended, and return their paths."""
    removed = []
    for parent, folders, names in os.walk(folder):
        folders[:] = folders if below else []
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
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
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
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # reading or writing there will say what is wrong
            file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def _is_at(path: Path, file: int) -> bool:
    # Another process may have replaced or deleted the file while this one waited for the lock.
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def append(path: Path, lines: bytes, heading: bytes = b"", mode: int = 0o666) -> None:
    """Add whole lines to a file, all or none; several processes may do so.

    A new file begins with `heading`, and has the permissions `mode` before the umask. Raises `OSError` if the lines
    cannot be written; the file is as it was.
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

    It is made in `base`, or in the system's folder for temporary files; `UsageError` if that cannot be written to.
    """

    def __init__(self, base: Path | None = None) -> None:
        self.base = Path(tempfile.gettempdir()) if base is None else Path(base)

    def __enter__(self) -> Scratch:
        try:
            self.base.mkdir(parents=True, exist_ok=True)
            remove_stale(self.base)
            while True:
                self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.base))
                with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
                    stack.callback(shutil.rmtree, self.path, ignore_errors=True)
                    stack.enter_context(locked(self.path / _LOCK_NAME))
                    self._stack = stack.pop_all()
                    return self
                # Another run that starts removed it before it was locked.
        except OSError as error:
            raise UsageError(f"cannot use {self.base} as a scratch folder: {error.strerror}") from error

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder for one track, removed with its content however the block ends."""
        path = Path(tempfile.mkdtemp(prefix="track-", dir=self.path))
        try:
            yield path
        finally:  # also where the owner is only forgotten, of which a TemporaryDirectory would warn
            shutil.rmtree(path, ignore_errors=True)


def data_folder() -> Path:
    """Where this user's data are kept: ``jamendo-mood`` in XDG_DATA_HOME, or in ~/.local/share."""
    return _home("XDG_DATA_HOME", ".local/share")


def cache_folder() -> Path:
    """Where this user's downloads are kept: ``jamendo-mood`` in XDG_CACHE_HOME, or in ~/.cache."""
    return _home("XDG_CACHE_HOME", ".cache")


def _home(variable: str, usual: str) -> Path:
    home = Path(os.environ.get(variable) or "")
    # The specification says to ignore a relative path.
    return (home if home.is_absolute() else Path.home() / usual) / "jamendo-mood"


def kept(name: str, suffix: str, make: Callable[[], bytes]) -> bytes:
    """The content of a file that can be made again, and is kept in the user's cache if that can be written to.

    Its name ends in a digest of what is in it; where it is damaged it is made anew, and a line says so.
    """
    folder = cache_folder()
    for path in folder.glob(f"{name}-*{suffix}"):
        with contextlib.suppress(OSError, ValueError):
            content = read_bytes(path, _MAX_KEPT_BYTES)
            if path.name == f"{name}-{_digest(content)}{suffix}":
                return content
        log.warning("%s: damaged, so it is made anew", path)
        with contextlib.suppress(OSError):
            path.unlink()
    content = make()
    with contextlib.suppress(MoodError):
        write_atomically(folder / f"{name}-{_digest(content)}{suffix}", content)
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


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


MAX_JSON_BYTES = 8_000_000  #: of a manifest; parsed, the worst of them takes 220 MB
MAX_INDEX_BYTES = 1_000_000  #: of the table of contents of an ``.npz``: some 15,000 arrays
DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged or hostile file raises; `zipfile` raises a bare RuntimeError, too."""

_KINDS = "biufSU"  # numbers and texts: no objects, which would be unpickled, no records
_LARGEST_CODE_POINT = 0x10FFFF
_MAX_REASON_LENGTH = 300

Array = npt.NDArray[Any]


@contextlib.contextmanager
def open_file(path: Path, buffering: int = -1) -> Iterator[IO[bytes]]:
    """Open a file for reading; what is not a file is refused, such as a pipe, through which nothing may ever come."""
    with open(path, "rb", buffering, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a file")
        yield file


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a file of at most `max_bytes` bytes."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if size <= max_bytes else b""
    if max(size, len(content)) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes")
    return content


def read_up_to(file: IO[bytes], size: int) -> memoryview:
    """The next bytes of a file, `size` or as many as there are; arrays that are views of them can be written to.

    Raises `OSError` if there is no memory for as many.
    """
    try:
        content = np.empty(size, np.uint8).data
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
    read = 0
    while count := file.readinto(content[read:]):  # type: ignore[attr-defined]
        read += count
    return content[:read]


def parse_json(content: bytes) -> Any:
    """Parse JSON; NaN and infinity, which JSON does not have, and what is nested too deep are refused."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number in JSON")

    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"JSON of more than {MAX_JSON_BYTES:,} bytes")
    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def read_array(path: Path) -> Array:
    """Read a ``.npy`` file."""
    with open_file(path) as file:
        return read_npy(file, os.fstat(file.fileno()).st_size)


def read_npy(file: IO[bytes], size: int) -> Array:
    """Read an array of numbers or texts from the start of a file of `size` bytes, if these are what its header says.

    The format is 1.0 of `numpy.lib.format`. numpy itself takes the memory that a header asks for before it looks
    whether there is as much in the file.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"an array in format {version[0]}.{version[1]}, not 1.0")
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except (SyntaxError, TokenError, RecursionError, MemoryError, TypeError, AttributeError, IndexError, OverflowError):
        raise ValueError("the header of an array makes no sense") from None
    if dtype.hasobject:
        raise ValueError("an array of Python objects, for which allow_pickle would be needed")
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise ValueError(f"an array of {dtype}, not of numbers or texts")
    wanted, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if any(length < 0 for length in shape) or wanted != there:
        raise ValueError(f"the header of an array says {wanted} bytes of numbers, where there are {there}")
    content = read_up_to(file, wanted)
    if len(content) < wanted:
        raise ValueError("an array that ends too soon")
    if dtype.kind == "U" and np.frombuffer(content, dtype.byteorder + "u4").max(initial=0) > _LARGEST_CODE_POINT:
        raise ValueError("an array of texts with characters that do not exist")  # numpy would raise a SystemError
    return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")


class _LimitedReads:
    """A file that refuses to read more than `max_bytes` at once; None is no limit.

    `zipfile` reads the whole table of contents at once, as long as the file says it is, and takes some ten times as
    much memory for it.
    """

    def __init__(self, file: IO[bytes], max_bytes: int | None) -> None:
        self._file, self.max_bytes = file, max_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if self.max_bytes is not None and size > self.max_bytes:
            raise ValueError("a table of contents that is too long")
        return self._file.read(size)


def read_npz(file: IO[bytes], max_bytes: int) -> dict[str, Array]:
    """Read the arrays of an ``.npz`` file by name, if they have at most `max_bytes` bytes in all, inflated."""
    arrays = {}
    limited = _LimitedReads(file, MAX_INDEX_BYTES)
    with zipfile.ZipFile(limited) as archive:
        limited.max_bytes = None
        members = archive.infolist()
        if (size := sum(member.file_size for member in members)) > max_bytes:
            raise ValueError(f"arrays of {size:,} bytes, where {max_bytes:,} are the most")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays or member.flag_bits & 1:
                raise ValueError(f"the array {name!r} is there twice, or encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # all that numpy writes
                raise ValueError(f"the array {name!r} is compressed as method {member.compress_type}")
            with archive.open(member) as stream:
                arrays[name] = read_npy(stream, member.file_size)
    return arrays


def brief(error: BaseException) -> str:
    """What an error says, in its first line, cut where it repeats too much of a file."""
    text = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    line = " ".join(text.split("\n")[0].split()).rstrip(".")
    return line if len(line) <= _MAX_REASON_LENGTH else f"{line[:_MAX_REASON_LENGTH]} ..."
