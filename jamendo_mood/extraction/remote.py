"""A file on a web server, a tar too, read as if its connection never broke.

What fails for a while (no connection, a cut, status 429 or 5xx) is asked for again, ever later, from where it stopped;
a ``Retry-After`` is honoured. What fails for good (404, say) is not.
"""

from __future__ import annotations

import contextlib
import email.utils
import logging
import random
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus

import requests
import urllib3

from jamendo_mood import __version__
from jamendo_mood.util.errors import DownloadError

USER_AGENT = f"jamendo-mood/{__version__} (reads https://github.com/MTG/mtg-jamendo-dataset)"
TIMEOUTS_S = (10.0, 60.0)  # to connect, and between two pieces
ATTEMPTS = 6
FIRST_WAIT_S = 1.0  # doubled each time
LONGEST_WAIT_S = 3600.0  # that a server may ask for
PROGRESS_BYTES = 1 << 20
"""After so many more, a connection that breaks has broken for the first time."""
RETRIED = {408, 425, 429, 500, 502, 503, 504}

_PIECE = 1 << 15
_BLOCK = 512  # of a tar
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)  # whose size may be that of another file

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The run ends: a thread must drop what it has in hand."""


class TryLaterError(Exception):
    """It did not work now. `after_s` is how long the server wants to be left alone."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Link:
    """One thread's connection: one request at a time.

    Parameters
    ----------
    stop : Event
        Once it is set, waits and reads end with `StoppedError`.
    seed : int
        Of the jitter of the waits.
    sleep : callable or None
        Waits that many seconds instead of `stop`, for tests.
    """

    def __init__(self, stop: threading.Event, seed: int = 0, sleep: Callable[[float], object] | None = None) -> None:
        self.stop, self._seed, self._sleep = stop, seed, sleep
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        self._response: requests.Response | None = None

    def get(self, url: str, start: int) -> requests.Response:
        """Ask for a file from byte `start` on; gives a response of status 200 or 206."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._session.get(url, headers=headers, stream=True, timeout=TIMEOUTS_S)
        self._response = response
        steps = (*response.history, response)
        if url.startswith("https:") and not all(step.url.startswith("https:") for step in steps):
            response.close()
            raise DownloadError(f"{url}: leads to {response.url} by way of an address without https")
        if response.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return response
        response.close()
        reason = f"HTTP {response.status_code} {response.reason}"
        after_s = _parse_retry_after(response.headers.get("Retry-After", ""))
        if response.status_code not in RETRIED:
            raise DownloadError(f"{url}: {reason}")
        if after_s > LONGEST_WAIT_S:
            raise DownloadError(f"{url}: {reason}, and to be left alone for {after_s:.0f} s")
        raise TryLaterError(reason, after_s)

    def shut(self) -> None:
        """Wake the thread that reads, from another one."""
        with contextlib.suppress(Exception):  # urllib3 before 2.3 cannot; the response may be closed already
            assert self._response is not None
            self._response.raw.shutdown()

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def sleep(self, seconds: float) -> None:
        """Wait, unless the run ends."""
        if self._sleep is None:
            self.stop.wait(seconds)
        else:
            self._sleep(seconds)
        self.check()

    def check(self) -> None:
        """End the thread if the run has ended."""
        if self.stop.is_set():
            raise StoppedError

    def retries(self, url: str, attempts: int = ATTEMPTS) -> Retries:
        """Count the failures of an address."""
        return Retries(self, url, attempts, random.Random(f"{self._seed} {url}"))


class Retries:
    """Counts failures, and waits after each: 1, 2, 4, ... seconds, give or take a half, or what the server asks for."""

    def __init__(self, link: Link, url: str, attempts: int, jitter: random.Random) -> None:
        self._link, self._url, self._attempts, self._jitter = link, url, attempts, jitter
        self._failures, self._offset = 0, 0

    def wait_after(self, error: Exception, offset: int = 0) -> None:
        """Wait before the next attempt; `offset` is how far this one came.

        Raises
        ------
        DownloadError
            It was the last attempt.
        """
        self._link.check()
        if offset - self._offset >= PROGRESS_BYTES:
            self._failures = 0
        self._offset = max(self._offset, offset)
        self._failures += 1
        reason = str(error).removeprefix(f"{self._url}: ")
        if self._failures == self._attempts:
            raise DownloadError(f"{self._url}: {reason}; tried {self._attempts} times") from error
        wait_s = FIRST_WAIT_S * 2 ** (self._failures - 1) * self._jitter.uniform(0.5, 1.5)
        wait_s = max(wait_s, getattr(error, "after_s", 0.0))
        log.warning("%s: %s; again in %.0f s", self._url, reason, wait_s)
        self._link.sleep(wait_s)


class RemoteFile:
    """A file at an address, read from byte `start` on.

    Attributes
    ----------
    offset : int
        The next byte to be read.
    """

    def __init__(self, link: Link, url: str, start: int = 0) -> None:
        self._link, self._url, self.offset = link, url, start
        self._size: int | None = None
        self._response: requests.Response | None = None
        self._retries = link.retries(url)

    def open(self) -> int:
        """Connect, and give the size of the whole file in bytes.

        Raises: as `read_blocks`.
        """
        while self._size is None or self._response is None:
            self._attempt(self._connect)
        return self._size

    def read_blocks(self, count: int) -> Iterator[bytes]:
        """Read `count` bytes, less at the end of the file, in pieces.

        Raises
        ------
        DownloadError
            The server has no such file, or breaks off again and again.
        StoppedError
            The run ends.
        """
        end = min(self.offset + count, self.open())
        while self.offset < end:
            if data := self._attempt(partial(self._read, min(_PIECE, end - self.offset))):
                yield data

    def close(self) -> None:
        """Hang up."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _attempt(self, action: Callable[[], bytes]) -> bytes:
        self._link.check()
        try:
            return action()
        except (OSError, urllib3.exceptions.HTTPError, TryLaterError) as error:
            self.close()
            later = error if isinstance(error, TryLaterError) else TryLaterError(_tell(error))
            self._retries.wait_after(later, self.offset)
            return b""

    def _connect(self) -> bytes:
        response = self._link.get(self._url, self.offset)
        self._response = response
        size, start = _parse_extent(response)
        if size is None or start > self.offset or self._size not in (None, size):
            raise DownloadError(f"{self._url}: its length is not told, or has changed")
        self._size = size
        for done in range(start, self.offset, _PIECE):  # the server gives the file from its beginning
            self._receive(min(_PIECE, self.offset - done))
        return b""

    def _read(self, count: int) -> bytes:
        if self._response is None:
            self._connect()
        data = self._receive(count)
        self.offset += len(data)
        return data

    def _receive(self, count: int) -> bytes:
        """So many bytes, no less."""
        assert self._response is not None
        data: bytes = self._response.raw.read(count)
        if len(data) != count:
            raise TryLaterError("the connection broke off")
        return data


def read_members(remote: RemoteFile) -> Iterator[tuple[int, tarfile.TarInfo]]:
    """The members of a tar and where their headers are; what the caller leaves unread of one is passed over.

    Not by `tarfile.open`, which takes the sizes of names and comments on trust, and a damaged header for the end of the
    tar, and which cannot begin in the middle.

    Raises
    ------
    tarfile.TarError
        A header is damaged.
    DownloadError, StoppedError
        As `RemoteFile.read_blocks`.
    """
    while True:
        offset = remote.offset
        header = b"".join(remote.read_blocks(_BLOCK))
        if not header.strip(b"\0"):  # the end of the tar, or of the file
            return
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if member.size < 0:
            raise tarfile.ReadError("a member of negative size")
        size = 0 if member.type in _LINKS else -(-member.size // _BLOCK) * _BLOCK
        yield offset, member
        for _ in remote.read_blocks(offset + _BLOCK + size - remote.offset):
            pass


def _parse_extent(response: requests.Response) -> tuple[int | None, int]:
    """The size of the whole file, and where the response begins in it."""
    if response.status_code == HTTPStatus.OK:
        length = response.headers.get("Content-Length", "")
        return (int(length) if length.isdecimal() else None), 0
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    return (int(match[2]), int(match[1])) if match else (None, 0)


def _parse_retry_after(text: str) -> float:
    """Seconds from now, of a number of seconds or a date; 0 if it is neither."""
    if text.isdecimal():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, date.timestamp() - time.time())


def _tell(error: BaseException) -> str:
    """The reason of a failed connection in a few words: the libraries' own are wrapped in one another."""
    inner: BaseException | None = error
    while inner is not None:
        refused = isinstance(inner, urllib3.exceptions.NewConnectionError)  # which urllib3 calls a timeout, too
        if isinstance(inner, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError) and not refused:
            return "no answer in time"
        if isinstance(inner, urllib3.exceptions.IncompleteRead):
            return "the connection broke off"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return " ".join(str(error).split())
