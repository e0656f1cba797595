"""MTG-Jamendo's audio straight from the web, for `streaming`: downloaded, checked by SHA-256, decoded, deleted.

A few threads download, each over one connection, while others decode. A connection that breaks is resumed where it
broke; urllib3's `Retry` counts attempts and says how long to wait. The bytes on disk, downloads and the decoders' WAVs
together, are counted: when there is no room, downloads wait.

MTG publishes the audio as single files (``48/948.low.mp3``) and as 100 tars of a folder each; a tar is read as it
arrives and never stored. Of what a server sends, only the expected names and the bytes with the right hash are taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import re
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NewConnectionError

from jamendo_mood import __version__
from jamendo_mood.extraction.streaming import Source, Take
from jamendo_mood.util.errors import DiskFullError, DownloadError, NetworkError, UsageError
from jamendo_mood.util.files import Scratch, is_disk_full, scratch_full

USER_AGENT = f"jamendo-mood/{__version__} (reads https://github.com/MTG/mtg-jamendo-dataset)"
TIMEOUTS_S = (10.0, 60.0)  # to connect, and between two blocks
RETRIED = {408, 425, 429, 500, 502, 503, 504}
ATTEMPTS = 6  # of a request
PROGRESS_BYTES = 1 << 20  # after so many more, the attempts of a broken connection are counted from zero
MAX_WAIT_S = 3600.0  # that a server may ask for
TRIES = 3  # of a file whose bytes are wrong
MAX_CONNECTIONS = 16  # more would be rude
GIVE_UP_AFTER = 10  # files, or tars, that fail in a row
DECODING_BYTES = 240 * 10**6
"""The most that decoding one of these tracks puts on disk: pydub's WAV of 15 minutes at 48 kHz stereo and two at 16 kHz
mono, or the 16 kHz mono WAV of up to 2 hours."""

_BLOCK_BYTES, _TAR_BLOCK_BYTES = 1 << 15, 512
_TAR_FILES, _TAR_LINKS = (tarfile.REGTYPE, tarfile.AREGTYPE), (tarfile.LNKTYPE, tarfile.SYMTYPE)
_POLL_S, _PATIENCE_S = 0.1, 2.0

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The run ends: a thread must drop what it is doing."""


class _WrongBytesError(Exception):
    """The server's file is not the one of MTG's list."""


@dataclass(frozen=True)
class DownloadConfig:
    """What to download from where."""

    base_url: str  # the folder that holds ``48/948.low.mp3`` and the others, or the tars
    checksums: Mapping[str, str] = field(repr=False)  # SHA-256 by key
    tar_name: str = ""  # with ``{}`` for the folder of tracks in a tar, such as ``48``; empty for single files
    connections: int = 3  # at the same time, from 1 to 16
    max_scratch_bytes: int = 2 * 10**9  # for downloads and WAVs on disk together
    decoding_bytes: int = DECODING_BYTES  # of them, for decoding one track
    sleep: Callable[[float], object] | None = None  # waits so many seconds, for tests

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise UsageError(f"{self.base_url!r} is not the address of a web server (http:// or https://)")
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise UsageError(f"connections must be from 1 to {MAX_CONNECTIONS}, not {self.connections}")
        if self.max_scratch_bytes <= self.decoding_bytes:
            raise UsageError(
                f"{self.max_scratch_bytes / 1e9:g} GB of scratch is too little: "
                f"decoding alone may take {self.decoding_bytes / 1e9:g} GB, and the downloads come on top"
            )


@dataclass(frozen=True)
class _Job:
    """An address, and the keys that are still wanted from it, by name of the file or of the tar's member."""

    url: str
    wanted: dict[str, str]


class Downloads:
    """A feed for `streaming`: entering it starts the downloads and returns the function that hands out the files.

    The paths of `tracks` are relative to the base URL, such as ``48/948.low.mp3``.
    """

    def __init__(self, config: DownloadConfig, tracks: Mapping[str, Path], scratch: Scratch) -> None:
        self._config, self._scratch = config, scratch
        self._stack = contextlib.ExitStack()
        self._room = _Room(config.max_scratch_bytes)
        self._stop = threading.Event()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        for job in _plan(config, tracks):
            self._jobs.put(job)
        self._ready: queue.SimpleQueue[Source | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = min(config.connections, self._jobs.qsize())
        self._any_fetched, self._failed_in_a_row = False, 0
        self._held_back: list[Source] = []  # failures since the last success
        self._links = [Link(self._stop, config.sleep) for _ in range(self._running)]

    def __enter__(self) -> Take:
        self._folder = self._stack.enter_context(self._scratch.folder())
        self._threads = [
            threading.Thread(target=self._work, args=(link,), name=f"download-{number}", daemon=True)
            for number, link in enumerate(self._links)
        ]
        for thread in self._threads:
            thread.start()
        if not self._threads:
            self._ready.put(None)
        return self._take

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for link in self._links:
            link.interrupt()
        for thread in self._threads:  # a thread that waits for a server's first byte cannot be woken: it is left behind
            thread.join(_PATIENCE_S)
        self._stack.close()

    def _take(self, stopped: threading.Event) -> Source | None:
        while not stopped.is_set():
            try:
                source = self._ready.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if source is None:
                self._ready.put(None)  # for the other decoders
            elif source.error is None and not self._room.take(self._config.decoding_bytes, stopped):
                break
            return source
        return None

    def _work(self, link: Link) -> None:
        try:
            with closing(link):
                while True:
                    self._run(link, self._jobs.get_nowait())
        except StoppedError:
            return
        except queue.Empty:
            pass
        with self._lock:
            self._running -= 1
            if self._running == 0:
                if self._held_back and not self._any_fetched and all(map(_is_unreachable, self._held_back)):
                    self._give_up()
                else:
                    self._report_failures()
                self._ready.put(None)

    def _run(self, link: Link, job: _Job) -> None:
        """Download what a job wants, and record what could not be had."""
        errors: Mapping[str, Exception] = {}
        reason: Exception | None = None
        try:
            if self._config.tar_name:
                errors = self._fetch_tar(link, job)
            else:
                self._fetch_file(link, job)
        except StoppedError:
            raise
        except Exception as error:  # the others go on; `streaming` ends the run if it has to
            reason = error
        if job.wanted:
            missing = {name: reason or DownloadError(f"{job.url}: {name} is not in it") for name in job.wanted}
            self._fail([Source(key, error=errors.get(name, missing[name])) for name, key in job.wanted.items()])

    def _fetch_file(self, link: Link, job: _Job) -> None:
        (name,) = job.wanted
        retry = _new_retry(TRIES)
        while job.wanted:
            try:
                with closing(RemoteFile(link, job.url)) as remote:
                    self._save(remote, remote.open(), job, name)
            except _WrongBytesError as error:
                retry = link.wait_after(error, retry, job.url)

    def _fetch_tar(self, link: Link, job: _Job) -> Mapping[str, Exception]:
        """Take the wanted members out of a tar while it arrives; returns what was wrong with the missing ones."""
        start = 0
        wrong: dict[str, tuple[int, Exception]] = {}
        retry = _new_retry(TRIES)
        for attempt in range(TRIES):
            if attempt:
                retry = link.wait_after(next(iter(wrong.values()))[1], retry, job.url)
            try:
                with closing(RemoteFile(link, job.url, start)) as remote:
                    wrong = self._take_members(remote, job)
            except tarfile.TarError as error:
                broken = DownloadError(f"{job.url}: not a readable tar ({error})")
                wrong = dict.fromkeys(job.wanted, (0, broken))
            if not wrong:
                break
            start = min(offset for offset, _ in wrong.values())
        return {name: DownloadError(f"{error}; tried {TRIES} times") for name, (_, error) in wrong.items()}

    def _take_members(self, remote: RemoteFile, job: _Job) -> dict[str, tuple[int, Exception]]:
        wrong: dict[str, tuple[int, Exception]] = {}
        for offset, member in read_members(remote):
            if member.name in job.wanted and member.name not in wrong and member.type in _TAR_FILES:
                try:
                    self._save(remote, member.size, job, member.name)
                except _WrongBytesError as error:
                    wrong[member.name] = (offset, error)
                if len(wrong) == len(job.wanted):
                    break  # the rest of the tar is not needed
        return wrong

    def _save(self, remote: RemoteFile, size: int, job: _Job, name: str) -> None:
        """Write the next bytes into a file, and hand it to the decoders if they are right."""
        limit = self._config.max_scratch_bytes - self._config.decoding_bytes
        if size > limit:
            error = DownloadError(f"{job.url}: {name} has {size} bytes, more than the scratch allows ({limit})")
            self._fail([Source(job.wanted.pop(name), error=error)])
            return
        if not self._room.take(size, self._stop, spare=self._config.decoding_bytes):
            raise StoppedError
        key = job.wanted[name]
        path = self._folder / name.replace("/", "-")
        try:
            got = _write(path, remote.read_blocks(size))
            expected = self._config.checksums[key]
            if got != expected:
                raise _WrongBytesError(f"{job.url}: {name} is not MTG's (SHA-256 {got}, expected {expected})")
        except BaseException:
            path.unlink(missing_ok=True)
            self._room.give_back(size)
            raise
        del job.wanted[name]
        with self._lock:
            self._any_fetched = True
            self._report_failures()
            self._ready.put(Source(key, path, release=lambda: self._remove(path, size)))

    def _remove(self, path: Path, size: int) -> None:
        path.unlink(missing_ok=True)
        self._room.give_back(size + self._config.decoding_bytes)

    def _fail(self, sources: list[Source]) -> None:
        """Hold failures back until a success: a server that is down is not a track's fault."""
        with self._lock:
            self._failed_in_a_row += 1
            self._held_back += sources
            if isinstance(sources[-1].error, DiskFullError | UsageError):
                self._ready.put(sources[-1])
            elif self._failed_in_a_row >= GIVE_UP_AFTER:
                self._give_up()

    def _give_up(self) -> None:
        last = self._held_back[-1]
        text = f"{self._config.base_url}: all of the last {self._failed_in_a_row} downloads failed"
        hint = "what was done is kept, and the same command continues"
        self._ready.put(Source(last.key, error=NetworkError(f"{text}, such as {last.error} ({hint})")))

    def _report_failures(self) -> None:
        """Report the failures held back: the server works, so they are the tracks' own."""
        for source in self._held_back:
            self._ready.put(source)
        self._failed_in_a_row, self._held_back = 0, []


class _Room:
    """Bytes on disk: how many are taken, and who waits for more."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = threading.Condition()

    def take(self, size: int, stopped: threading.Event, spare: int = 0) -> bool:
        """Wait until so many bytes are free, and `spare` more, and take them; False if stopped before."""
        with self._changed:
            while self._used + size + spare > self._limit:
                if stopped.is_set():
                    return False
                self._changed.wait(_POLL_S)
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()


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

        Raises
        ------
        DownloadError
            It was the last attempt, or the server asks for more than an hour.
        StoppedError
            The run ends.
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
            raise DownloadError(f"{url}: {reason}, and asks to be left alone for {asked_s:.0f} s")
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

    def __init__(self, link: Link, url: str, start: int = 0) -> None:
        self._link, self._url, self.offset = link, url, start
        self._size: int | None = None
        self._response: requests.Response | None = None
        self._retry, self._last_failure = _new_retry(ATTEMPTS), start

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
                response = self._response = self._link.get(self._url, self.offset)
                if response.status_code in RETRIED:
                    raise HTTPError(f"HTTP {response.status_code} {response.reason}")
                self._accept(response)
            data = self._receive(count)
            self.offset += count
            return data
        except (OSError, HTTPError) as error:
            self.close()
            if self.offset - self._last_failure >= PROGRESS_BYTES:
                self._retry = _new_retry(ATTEMPTS)
            self._last_failure = self.offset
            self._retry = self._link.wait_after(error, self._retry, self._url, response)
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
            raise DownloadError(f"{self._url}: HTTP {response.status_code} {response.reason}")
        if size is None or start > self.offset or self._size not in (None, size):
            raise DownloadError(f"{self._url}: its length is unknown, or has changed")
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


def _new_retry(attempts: int) -> urllib3.Retry:
    return urllib3.Retry(total=attempts - 1, backoff_factor=1.0, backoff_jitter=0.5)


def _is_unreachable(source: Source) -> bool:
    """Whether a download failed because there was no server, rather than by its answer."""
    return source.error is not None and isinstance(source.error.__cause__, OSError | HTTPError)


def _plan(config: DownloadConfig, tracks: Mapping[str, Path]) -> list[_Job]:
    base_url = config.base_url.rstrip("/")
    if not config.tar_name:
        return [_Job(f"{base_url}/{path.as_posix()}", {path.as_posix(): key}) for key, path in tracks.items()]
    folders: dict[str, dict[str, str]] = {}
    for key, path in tracks.items():
        folders.setdefault(path.parent.as_posix(), {})[path.as_posix()] = key
    return [_Job(f"{base_url}/{config.tar_name.format(name)}", wanted) for name, wanted in folders.items()]


def _write(path: Path, blocks: Iterable[bytes]) -> str:
    """Write a file, and return its SHA-256."""
    digest = hashlib.sha256()
    try:
        with path.open("wb") as file:
            for block in blocks:
                file.write(block)
                digest.update(block)
    except OSError as error:
        if is_disk_full(error):
            raise scratch_full(path) from error
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error
    return digest.hexdigest()


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
