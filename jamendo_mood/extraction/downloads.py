"""MTG-Jamendo's audio straight from the web, for `streaming`: downloaded, checked by SHA-256, decoded, deleted.

A few threads download, each over one connection that is resumed where it breaks, while others decode. The bytes on
disk, downloads and the decoders' WAVs together, are counted: when there is no room, downloads wait.

MTG publishes the audio as single files (``48/948.low.mp3``) and as 100 tars of a folder each; a tar is read as it
arrives and never stored. Of what a server sends, only the expected names and the bytes with the right hash are taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from urllib3.exceptions import HTTPError

from jamendo_mood.extraction.streaming import Source, Take
from jamendo_mood.util.errors import DiskFullError, DownloadError, NetworkError, UsageError
from jamendo_mood.util.files import Scratch, is_disk_full, scratch_full
from jamendo_mood.util.remote import Link, RemoteFile, StoppedError, new_retry, read_members

TRIES = 3  # of a file whose bytes are wrong
MAX_CONNECTIONS = 16  # more would be rude
GIVE_UP_AFTER = 10  # files, or tars, that fail in a row
DECODING_BYTES = 240 * 10**6
"""The most that decoding one of these tracks puts on disk: pydub's WAV of 15 minutes at 48 kHz stereo and two at 16 kHz
mono, or the 16 kHz mono WAV of up to 2 hours."""

_TAR_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_POLL_S, _PATIENCE_S = 0.1, 2.0

log = logging.getLogger(__name__)


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


class Downloads:
    """A feed for `streaming`: entering it starts the downloads and returns the function that hands out the files.

    The paths of `tracks` are relative to the base URL, such as ``48/948.low.mp3``.
    """

    def __init__(self, config: DownloadConfig, tracks: Mapping[str, Path], scratch: Scratch) -> None:
        self._config, self._scratch = config, scratch
        self._stack = contextlib.ExitStack()
        self._room = _Room(config.max_scratch_bytes)
        self._stop = threading.Event()
        jobs = _plan(config, tracks)
        self._jobs = iter(jobs.items())  # for all threads
        self._ready: queue.SimpleQueue[Source | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = min(config.connections, len(jobs))
        self._any_fetched, self._failed_in_a_row = False, 0
        self._held_back: dict[str, Exception] = {}  # failures since the last success, by key
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
        with contextlib.suppress(StoppedError), closing(link):
            for url, wanted in self._jobs:
                self._run(link, url, wanted)
        with self._lock:
            self._running -= 1
            if self._running == 0:
                # Without a server, rather than by its answer.
                away = all(isinstance(error.__cause__, OSError | HTTPError) for error in self._held_back.values())
                if self._held_back and not self._any_fetched and away:
                    self._give_up()
                else:
                    self._report_failures()
                self._ready.put(None)

    def _run(self, link: Link, url: str, wanted: dict[str, str]) -> None:
        """Download what is wanted from an address, and record what could not be had."""
        try:
            errors = self._fetch(link, url, wanted)
        except StoppedError:
            raise
        except Exception as error:  # the others go on; `streaming` ends the run if it has to
            errors = dict.fromkeys(wanted, error)
        if wanted:
            reasons = {name: DownloadError(f"{url}: {name} is not in it") for name in wanted} | errors
            self._fail({key: reasons[name] for name, key in wanted.items()})

    def _fetch(self, link: Link, url: str, wanted: dict[str, str]) -> dict[str, Exception]:
        """Take what is wanted from an address as it arrives; returns what was wrong with what is missing then."""
        start, retry = 0, new_retry(TRIES)
        wrong: dict[str, tuple[int, Exception]] = {}
        for attempt in range(TRIES):
            if attempt:
                retry = link.wait_after(next(iter(wrong.values()))[1], retry, url)
            try:
                with closing(RemoteFile(link, url, start)) as remote:
                    wrong = self._take_wanted(remote, wanted)
            except tarfile.TarError as error:
                broken = DownloadError(f"{url}: not a readable tar ({error})")
                wrong = dict.fromkeys(wanted, (0, broken))
            if not wrong:
                break
            start = min(offset for offset, _ in wrong.values())
        return {name: DownloadError(f"{error}; tried {TRIES} times") for name, (_, error) in wrong.items()}

    def _take_wanted(self, remote: RemoteFile, wanted: dict[str, str]) -> dict[str, tuple[int, Exception]]:
        """Save what is wanted; returns what had the wrong bytes, and where in the file or tar it begins."""
        wrong: dict[str, tuple[int, Exception]] = {}
        for offset, name, size in self._members(remote, wanted):
            if name in wanted and name not in wrong:
                try:
                    self._save(remote, size, wanted, name)
                except _WrongBytesError as error:
                    wrong[name] = (offset, error)
                if len(wrong) == len(wanted):
                    break  # the rest of the tar is not needed
        return wrong

    def _members(self, remote: RemoteFile, wanted: Iterable[str]) -> Iterator[tuple[int, str, int]]:
        """Where each file begins, its name and its size: those in a tar, or the one that the address is."""
        if not self._config.tar_name:
            (name,) = wanted
            yield 0, name, remote.open()
            return
        for offset, member in read_members(remote):
            if member.type in _TAR_FILES:
                yield offset, member.name, member.size

    def _save(self, remote: RemoteFile, size: int, wanted: dict[str, str], name: str) -> None:
        """Write the next bytes into a file, and hand it to the decoders if they are right."""
        limit = self._config.max_scratch_bytes - self._config.decoding_bytes
        if size > limit:
            error = DownloadError(f"{remote.url}: {name} has {size} bytes, more than the scratch allows ({limit})")
            self._fail({wanted.pop(name): error})
            return
        if not self._room.take(size, self._stop, spare=self._config.decoding_bytes):
            raise StoppedError
        key = wanted[name]
        path = self._folder / name.replace("/", "-")
        try:
            got = _write(path, remote.read_blocks(size))
            expected = self._config.checksums[key]
            if got != expected:
                raise _WrongBytesError(f"{remote.url}: {name} is not MTG's (SHA-256 {got}, expected {expected})")
        except BaseException:
            self._remove(path, size)
            raise
        del wanted[name]
        with self._lock:
            self._any_fetched = True
            self._report_failures()
            self._ready.put(Source(key, path, release=lambda: self._remove(path, size + self._config.decoding_bytes)))

    def _remove(self, path: Path, size: int) -> None:
        path.unlink(missing_ok=True)
        self._room.give_back(size)

    def _fail(self, errors: dict[str, Exception]) -> None:
        """Hold failures, by key, back until a success: a server that is down is not a track's fault."""
        with self._lock:
            self._failed_in_a_row += 1
            self._held_back |= errors
            key, last = list(errors.items())[-1]
            if isinstance(last, DiskFullError | UsageError):
                self._ready.put(Source(key, error=last))
            elif self._failed_in_a_row >= GIVE_UP_AFTER:
                self._give_up()

    def _give_up(self) -> None:
        key, last = list(self._held_back.items())[-1]
        text = f"{self._config.base_url}: all of the last {self._failed_in_a_row} downloads failed"
        hint = "what was done is kept, and the same command continues"
        self._ready.put(Source(key, error=NetworkError(f"{text}, such as {last} ({hint})")))

    def _report_failures(self) -> None:
        """Report the failures held back: the server works, so they are the tracks' own."""
        for key, error in self._held_back.items():
            self._ready.put(Source(key, error=error))
        self._failed_in_a_row, self._held_back = 0, {}


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


def _plan(config: DownloadConfig, tracks: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """By address, the keys that are wanted from it by name of the file or of the tar's member."""
    wanted: dict[str, dict[str, str]] = {}
    for key, path in tracks.items():
        name = path.as_posix()
        where = config.tar_name.format(path.parent.as_posix()) if config.tar_name else name
        wanted.setdefault(f"{config.base_url.rstrip('/')}/{where}", {})[name] = key
    return wanted


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
