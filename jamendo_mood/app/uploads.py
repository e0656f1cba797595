"""Files that arrive from a browser in pieces: limits, and a private folder that is gone when its owner is."""

from __future__ import annotations

import contextlib
import errno
import logging
import weakref
from dataclasses import dataclass
from pathlib import Path

from jamendo_mood.audio.conversion import AUDIO_SUFFIXES
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.util.errors import DiskFullError, LimitError, UsageError
from jamendo_mood.util.scratch import Scratch

MOST_AT_ONCE = 5
"""Times the largest file: what all uploads that are there at the same time may have together."""
MOST_FILES = 100

log = logging.getLogger(__name__)


@dataclass
class _Upload:
    path: Path
    name: str
    size_bytes: int
    folder: contextlib.ExitStack  # closing it removes the file and its folder
    received: int = 0


class Uploads:
    """Files on their way from the browser to a private folder, of which nothing is left when this object is.

    Each arrives in pieces, in order. The folder is made with the first file, and of a process that was killed it is
    removed by the next one that makes its own (see `Scratch`).

    Parameters
    ----------
    limits : Limits
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stack = contextlib.ExitStack()
        self._scratch: Scratch | None = None
        self._files: dict[str, _Upload] = {}
        self.close = weakref.finalize(self, self._stack.close)

    def begin(self, identity: str, name: str, size_bytes: int) -> None:
        """Expect a file.

        Parameters
        ----------
        identity : str
            The browser's name for this upload; never a part of a path.
        name : str
            What its owner calls it. Only a known ending is used: it comes from outside.
        size_bytes : int

        Raises
        ------
        LimitError
            It is too large, or too much is there already.
        UsageError
            It has no size, or this upload has begun already; or there is no place for it, of which the log says more.
        """
        self._limits.check_size(name, size_bytes)
        if size_bytes < 0 or identity in self._files:
            raise UsageError(f"{name}: an upload of {size_bytes} bytes that cannot begin")
        held = sum(upload.size_bytes for upload in list(self._files.values()))
        if held + size_bytes > MOST_AT_ONCE * self._limits.size_bytes or len(self._files) >= MOST_FILES:
            raise LimitError(f"{name} has to wait: too many songs are here already; drop it again when some are done")
        try:
            self._files[identity] = self._make(name, size_bytes)
        except (OSError, UsageError) as error:
            log.error("no place for uploads: %s", error)
            raise UsageError("there is no place for uploads") from error

    def _make(self, name: str, size_bytes: int) -> _Upload:
        if self._scratch is None:
            self._scratch = self._stack.enter_context(Scratch(self._limits.scratch))
        folder = contextlib.ExitStack()
        suffix = Path(name.replace("\0", "")).suffix.lower()
        file_name = "upload" + (suffix if suffix in AUDIO_SUFFIXES else "")
        path = folder.enter_context(self._scratch.folder()) / file_name
        path.touch()
        return _Upload(path, name, size_bytes, folder)

    def add(self, identity: str, offset: int, piece: bytes | memoryview) -> int:
        """Append a piece; returns how many bytes are there now.

        Raises
        ------
        UsageError
            There is no such upload, or the piece is not the next one of it.
        DiskFullError
            There is no room.
        """
        upload = self._files.get(identity)
        fits = upload is not None and offset == upload.received and offset + len(piece) <= upload.size_bytes
        if upload is None or not fits or not len(piece):
            raise UsageError("a piece of an upload came out of turn; try the upload again")
        try:
            with upload.path.open("ab") as file:
                file.write(piece)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(f"no room left for {upload.name} in {upload.path.parent.parent}") from error
            log.error("%s: %s", upload.path, error)
            raise UsageError("there is no place for uploads") from error
        upload.received += len(piece)
        return upload.received

    def is_complete(self, identity: str) -> bool:
        """Whether all of a file has come."""
        upload = self._files[identity]
        return upload.received == upload.size_bytes

    def path(self, identity: str) -> Path:
        """Where a file is."""
        return self._files[identity].path

    def drop(self, identity: str) -> None:
        """Delete a file, complete or not; nothing happens if there is none."""
        upload = self._files.pop(identity, None)
        if upload is not None:
            upload.folder.close()

    def __contains__(self, identity: object) -> bool:
        return identity in self._files
