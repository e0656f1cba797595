"""A file on a web server, read as if its connection never broke.

A connection that breaks is resumed where it broke; urllib3's `Retry` counts attempts and says how long to wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NewConnectionError

from jamendo_mood import __version__
from jamendo_mood.util.errors import DownloadError
from jamendo_mood.util.files import disk_errors, locked

USER_AGENT = f"jamendo-mood/{__version__} (reads https://github.com/MTG/mtg-jamendo-dataset)"
TIMEOUTS_S = (10.0, 60.0)  # to connect, and between two blocks
RETRIED = {408, 425, 429, 500, 502, 503, 504}
ATTEMPTS = 6  # of a request
ATTEMPTS_OF_MANY = 2  # where there are other addresses to ask
PROGRESS_BYTES = 1 << 20  # after so many more, the attempts of a broken connection are counted from zero
MAX_WAIT_S = 3600.0  # that a server may ask for

_BLOCK_BYTES, _TAR_BLOCK_BYTES = 1 << 15, 512
_TAR_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The run ends: a thread must drop what it is doing."""


class Link:
    """One thread's connection, for one request at a time; once `stop` is set, waits and reads end in `StoppedError`."""

    def __init__(self, stop: threading.Event, sleep: Callable[[float], object] | None = None) -> None:
        self._stop, self._sleep = stop, sleep or stop.wait
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        self._response: requests.Response | None = None

    def get(self, url: str, start: int) -> requests.Response:
        """Ask for a file from byte `start` on; the response may have any status."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._session.get(url, headers=headers, stream=True, timeout=TIMEOUTS_S)
        self._response = response
        steps = (*response.history, response)
        if url.startswith("https:") and not all(step.url.startswith("https:") for step in steps):
            response.close()
            raise DownloadError(f"{url}: redirects to {response.url} over a connection without https")
        return response

    def wait_after(
        self, error: Exception, retry: urllib3.Retry, url: str, response: requests.Response | None = None
    ) -> urllib3.Retry:
        """Wait 1, 2, 4, ... seconds or as long as the server asks, and return what is left of the attempts.

        Raises `DownloadError` if it was the last attempt, or the server asks for more than an hour; `StoppedError` if
        the run ends.
        """
        self.check()
        reason = _describe(error).removeprefix(f"{url}: ")
        try:
            left = retry.increment("GET", url, error=error)
        except MaxRetryError:
            raise DownloadError(f"{url}: {reason}; tried {len(retry.history) + 1} times") from error
        asked_s = 0.0
        with contextlib.suppress(InvalidHeader):
            asked_s = left.get_retry_after(response.raw) or 0.0 if response is not None else 0.0
        if asked_s > MAX_WAIT_S:
            raise DownloadError(f"{url}: {reason}, and asks to wait {asked_s:.0f} s")
        wait_s = max(1.0, left.get_backoff_time(), asked_s)
        log.warning("%s: %s; again in %.0f s", url, reason, wait_s)
        self._sleep(wait_s)
        self.check()
        return left

    def check(self) -> None:
        """End the thread if the run has ended."""
        if self._stop.is_set():
            raise StoppedError

    def interrupt(self) -> None:
        """Wake the thread that reads, from another one."""
        with contextlib.suppress(Exception):  # the response may be closed already
            assert self._response is not None
            self._response.raw.shutdown()

    def close(self) -> None:
        """Hang up."""
        self._session.close()


class RemoteFile:
    """A file on a web server, a tar too, read from byte `start` on as if the connection never broke.

    What fails for a while (no connection, a broken one, status 429 or 5xx) is asked for again from where it stopped.
    The next byte to be read is at `offset`.
    """

    def __init__(self, link: Link, url: str, start: int = 0, attempts: int = ATTEMPTS) -> None:
        self._link, self.url, self.offset = link, url, start
        self._attempts = attempts
        self._size: int | None = None
        self._response: requests.Response | None = None
        self._retry, self._last_failure = new_retry(attempts), start

    def open(self) -> int:
        """Connect, and return the size of the whole file in bytes; raises as `read_blocks` does."""
        while self._size is None or self._response is None:
            self._attempt(0)
        return self._size

    def read_blocks(self, count: int) -> Iterator[bytes]:
        """Read `count` bytes, or up to the end of the file, in blocks; DownloadError if they cannot be had."""
        end = min(self.offset + count, self.open())
        while self.offset < end:
            if data := self._attempt(min(_BLOCK_BYTES, end - self.offset)):
                yield data

    def close(self) -> None:
        """Hang up."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _attempt(self, count: int) -> bytes:
        """Read so many bytes, connecting first if need be; nothing after a failure, and a wait."""
        self._link.check()
        response: requests.Response | None = None
        try:
            if self._response is None:
                response = self._response = self._link.get(self.url, self.offset)
                if response.status_code in RETRIED:
                    raise HTTPError(f"HTTP {response.status_code} {response.reason}")
                self._accept(response)
            data = self._receive(count)
            self.offset += count
            return data
        except (OSError, HTTPError) as error:
            self.close()
            if self.offset - self._last_failure >= PROGRESS_BYTES:
                self._retry = new_retry(self._attempts)
            self._last_failure = self.offset
            self._retry = self._link.wait_after(error, self._retry, self.url, response)
            return b""

    def _accept(self, response: requests.Response) -> None:
        """Begin to read a response, at the right byte."""
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            start, size = (int(found[1]), int(found[2])) if found else (0, None)
        elif response.status_code == HTTPStatus.OK:
            length = response.headers.get("Content-Length", "")
            start, size = 0, int(length) if length.isdecimal() else None
        else:
            raise DownloadError(f"{self.url}: HTTP {response.status_code} {response.reason}")
        if size is None or start > self.offset or self._size not in (None, size):
            raise DownloadError(f"{self.url}: its length is unknown, or has changed")
        self._size = size
        for done in range(start, self.offset, _BLOCK_BYTES):  # the server sends the file from its beginning
            self._receive(min(_BLOCK_BYTES, self.offset - done))

    def _receive(self, count: int) -> bytes:
        """So many bytes, not fewer."""
        assert self._response is not None
        data: bytes = self._response.raw.read(count) if count else b""
        if len(data) != count:
            raise HTTPError("the connection broke off")
        return data


def download(url: str, path: Path, max_bytes: int, check: Callable[[Path], object] = Path.stat) -> None:
    """Download a file, with a progress bar; what an earlier run has left of it is continued.

    Of several processes that download to one path, one does and the others wait. While the file is not whole, or
    `check` has not returned, it is called ``NAME.part``; if `check` raises, it is deleted. Raises `DownloadError` if it
    cannot be had, written, or has too many bytes, and `DiskFullError`.
    """
    from tqdm import tqdm

    part = path.with_name(f"{path.name}.part")
    with disk_errors(part, DownloadError):
        part.parent.mkdir(parents=True, exist_ok=True)
    with locked(part) as file, contextlib.closing(Link(threading.Event())) as link:
        if path.exists():
            part.unlink()
            return
        try:
            with contextlib.closing(RemoteFile(link, url, os.fstat(file).st_size, ATTEMPTS_OF_MANY)) as remote:
                if (size := remote.open()) > max_bytes:
                    raise DownloadError(f"{url}: it has {size:,} bytes, and {max_bytes:,} are the most expected")
                with tqdm(total=size, initial=remote.offset, unit="B", unit_scale=True, leave=False) as bar:
                    for block in remote.read_blocks(size):
                        with disk_errors(part, DownloadError):
                            os.write(file, block)
                        bar.update(len(block))
        except DownloadError as error:
            if os.fstat(file).st_size == 0 or "HTTP 416" in str(error):  # 416: it is not that file's beginning
                part.unlink()
            raise
        try:
            check(part)
        except Exception:
            part.unlink()
            raise
        part.replace(path)


def read_members(remote: RemoteFile) -> Iterator[tuple[int, tarfile.TarInfo]]:
    """The members of a tar and the offsets of their headers; what the caller leaves unread is skipped.

    Not by `tarfile.open`, which trusts the sizes of names and comments, takes a damaged header for the end of the tar,
    and cannot begin in the middle. Raises `tarfile.TarError` if a header is damaged, else as `RemoteFile.read_blocks`.
    """
    while True:
        offset = remote.offset
        header = b"".join(remote.read_blocks(_TAR_BLOCK_BYTES))
        if not header.strip(b"\0"):  # the end of the tar, or of the file
            return
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if member.size < 0:
            raise tarfile.ReadError("a member of negative size")
        # The size of a link may be that of the file it leads to: nothing follows it.
        blocks = 0 if member.type in _TAR_LINKS else -(-member.size // _TAR_BLOCK_BYTES)
        yield offset, member
        for _ in remote.read_blocks(offset + (1 + blocks) * _TAR_BLOCK_BYTES - remote.offset):
            pass


def new_retry(attempts: int) -> urllib3.Retry:
    """So many attempts, with waits of 1, 2, 4, ... seconds between them."""
    return urllib3.Retry(total=attempts - 1, backoff_factor=1.0, backoff_jitter=0.5)


def _describe(error: BaseException) -> str:
    """The reason of a failed connection in a few words; the libraries wrap their errors in one another."""
    inner: BaseException | None = error
    while inner is not None:
        timed_out = isinstance(inner, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError)
        if timed_out and not isinstance(inner, NewConnectionError):  # which urllib3 calls a timeout, too
            return "no answer in time"
        if isinstance(inner, urllib3.exceptions.IncompleteRead):
            return "the connection broke off"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return " ".join(str(error).split())
