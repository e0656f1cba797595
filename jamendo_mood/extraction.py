"""Audio files -> embeddings in a store: streaming, overlapped, resumable.

Threads convert, read and run the embedder's front end; the calling thread runs the network on full batches, which
cross the borders of blocks and tracks, and writes each track when its last frame is there. Bounded queues keep memory
flat however long a track is, and each decoding thread has at most one WAV on disk.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jamendo_mood import audio
from jamendo_mood.embedders import Embedder, EmbedderSpec, pad_to_window
from jamendo_mood.errors import DiskFullError, UsageError
from jamendo_mood.scratch import Scratch

BLOCK_FRAMES = 64  # windows a block: about a minute of sound, 4 MB

Array = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractConfig:
    """How to run an extraction.

    Attributes
    ----------
    batch : int
        Windows the network takes at once.
    prefetch : int
        Threads that decode ahead of the network: each holds at most one WAV.
    scratch : Path or None
        Where WAVs live for the moments they exist; None is the system's folder for temporary files.
    """

    batch: int = 64
    prefetch: int = 2
    scratch: Path | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or self.prefetch < 1:
            raise UsageError(f"batch and prefetch must be at least 1, not {self.batch} and {self.prefetch}")


@dataclass(frozen=True)
class TrackResult:
    """What became of one track: `frames` (frames, dim), or None and an `error`."""

    key: str
    frames: Array | None
    duration_s: float
    error: str = ""


@dataclass
class ExtractReport:
    """What became of a run.

    Attributes
    ----------
    done : int
        Tracks embedded in this run.
    skipped : int
        Tracks that were in the store already.
    failed : dict
        Error by key, of this run's tracks and of earlier failures that were not tried again.
    audio_s, wall_s : float
        Seconds of sound embedded, and seconds it took.
    """

    done: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    audio_s: float = 0.0
    wall_s: float = 0.0


class Store(Protocol):
    """Where embeddings go; `EmbeddingStore` is the one on disk, and says what each of these does."""

    spec: EmbedderSpec

    def __contains__(self, key: object) -> bool: ...
    def add(self, key: str, frames: Array) -> None: ...  # noqa: D102
    def failures(self) -> dict[str, str]: ...  # noqa: D102
    def record_failure(self, key: str, error: str) -> None: ...  # noqa: D102
    def forget_failures(self, keys: set[str]) -> None: ...  # noqa: D102


def extract(
    tracks: Mapping[str, Path],
    embedder: Embedder,
    store: Store,
    config: ExtractConfig | None = None,
    *,
    retry_failed: bool = False,
    on_track: Callable[[TrackResult], None] = lambda _: None,
) -> ExtractReport:
    """Embed the tracks that the store does not have yet.

    Parameters
    ----------
    tracks : mapping of key to audio file
        As `audio.find_audio` gives it.
    embedder : Embedder
    store : EmbeddingStore
    config : ExtractConfig or None
    retry_failed : bool
        Try tracks again that are in the store's list of failures.
    on_track : callable
        Called after each track that this run tried.

    Returns
    -------
    ExtractReport

    Raises
    ------
    UsageError
        The store holds another embedder's embeddings.
    DiskFullError
        There is no room left; what was done is kept.
    """
    if store.spec != embedder.spec:
        raise UsageError(f"the store is of {store.spec}, the embedder is {embedder.spec}")
    started = time.perf_counter()
    pending = {key: path for key, path in tracks.items() if key not in store}
    report = ExtractReport(skipped=len(tracks) - len(pending))
    earlier = {key: error for key, error in store.failures().items() if key in pending}
    if retry_failed and earlier:
        store.forget_failures(set(earlier))
    elif earlier:
        report.failed.update(earlier)
        pending = {key: path for key, path in pending.items() if key not in earlier}
    with contextlib.closing(embed_files(pending, embedder, config)) as results:
        for result in results:
            if result.frames is None:
                report.failed[result.key] = result.error
                store.record_failure(result.key, result.error)
            else:
                store.add(result.key, result.frames)
                report.done += 1
                report.audio_s += result.duration_s
            on_track(result)
    report.wall_s = time.perf_counter() - started
    return report


def embed_files(
    tracks: Mapping[str, Path], embedder: Embedder, config: ExtractConfig | None = None
) -> Generator[TrackResult, None, None]:
    """Embed audio files, each in its turn but overlapped; yields each track once, roughly in order.

    A track that fails is yielded with its error. Close the generator to stop: threads end and the scratch folder goes.

    Raises
    ------
    DiskFullError
        The scratch folder is full: no one track's fault.
    """
    config = config or ExtractConfig()
    with Scratch(config.scratch) as scratch, _Decoders(tracks, embedder, scratch, config) as chunks:
        yield from embed_chunks(chunks, embedder, config.batch)


def select_shard(keys: Iterable[str], index: int, count: int) -> list[str]:
    """The keys of shard `index` (from 1) of `count`: decided by each key alone, so the same on every machine.

    Raises
    ------
    UsageError
        Not ``1 <= index <= count``.
    """
    if not 1 <= index <= count:
        raise UsageError(f"shard {index}/{count}: it must be between 1/{count} and {count}/{count}")
    return [key for key in keys if zlib.crc32(key.encode()) % count == index - 1]


@dataclass(frozen=True)
class Chunk:
    """A stretch of one track on its way to the network; the last of a track says so, or carries its error."""

    key: str
    inputs: Array | None = None
    duration_s: float = 0.0
    last: bool = False
    error: Exception | None = None


def decode(key: str, path: Path, embedder: Embedder, scratch: Scratch) -> Iterator[Chunk]:
    """Turn one audio file into inputs of the network, block by block; the WAV is gone when the last is out.

    Raises
    ------
    AudioError
        It cannot be decoded.
    """
    window, hop = embedder.window_samples, embedder.hop_samples
    with audio.converted(path, scratch) as wav:
        samples = audio.count_samples(wav)
        if samples < window:
            log.warning("%s: shorter than %.2f s, padded with silence", path, window / audio.SAMPLE_RATE_HZ)
        block = (BLOCK_FRAMES - 1) * hop + window
        for number, wave in enumerate(audio.read_blocks(wav, block, overlap=window - hop)):
            if number == 0 or len(wave) >= window:
                yield Chunk(key, embedder.frontend(pad_to_window(wave, window)))
    yield Chunk(key, last=True, duration_s=samples / audio.SAMPLE_RATE_HZ)


def embed_chunks(chunks: Iterable[Chunk], embedder: Embedder, batch: int) -> Iterator[TrackResult]:
    """Run the network on full batches of whatever comes, and yield each track when its last frame is there.

    A chunk with an error ends its track. Every batch has `batch` rows, the very last being filled up, so that an
    embedding does not depend on what it was computed with.
    """
    assembly = _Assembly(embedder.network, batch)
    for chunk in chunks:
        if chunk.error is not None:
            assembly.drop(chunk.key)
            yield TrackResult(chunk.key, None, 0.0, str(chunk.error))
        else:
            assembly.add(chunk)
            yield from assembly.finished()
    assembly.flush()
    yield from assembly.finished()


class _Assembly:
    """Inputs waiting for the network, and the outputs of tracks that are not complete."""

    def __init__(self, network: Callable[[Array], Array], batch: int) -> None:
        self._network, self._batch = network, batch
        self._waiting: list[tuple[str, Array]] = []
        self._outputs: dict[str, list[Array]] = {}
        self._durations_s: dict[str, float] = {}  # of the tracks whose last chunk has come

    def add(self, chunk: Chunk) -> None:
        if chunk.inputs is not None:
            self._outputs.setdefault(chunk.key, [])
            self._waiting.append((chunk.key, chunk.inputs))
        if chunk.last:
            self._durations_s[chunk.key] = chunk.duration_s
        while sum(len(inputs) for _, inputs in self._waiting) >= self._batch:
            self._run()

    def drop(self, key: str) -> None:
        self._waiting = [(owner, inputs) for owner, inputs in self._waiting if owner != key]
        self._outputs.pop(key, None)

    def flush(self) -> None:
        if self._waiting:
            self._run()

    def finished(self) -> Iterator[TrackResult]:
        busy = {key for key, _ in self._waiting}
        for key in [key for key in self._durations_s if key not in busy]:
            yield TrackResult(key, np.concatenate(self._outputs.pop(key)), self._durations_s.pop(key))

    def _run(self) -> None:
        """One batch: take rows from the front, pad if they are too few, hand the results to their tracks."""
        room = self._batch
        taken: list[tuple[str, Array]] = []
        while room and self._waiting:
            key, inputs = self._waiting.pop(0)
            taken.append((key, inputs[:room]))
            if len(inputs) > room:
                self._waiting.insert(0, (key, inputs[room:]))
            room -= len(taken[-1][1])
        batch = np.concatenate([inputs for _, inputs in taken])
        results = self._network(np.pad(batch, [(0, room)] + [(0, 0)] * (batch.ndim - 1)))
        start = 0
        for key, inputs in taken:
            self._outputs[key].append(results[start : start + len(inputs)])
            start += len(inputs)


class _StopError(Exception):
    """The run ends: a decoding thread must drop what it has in hand."""


class _Decoders:
    """Threads that decode tracks into a bounded queue; entering gives the chunks of all tracks, mixed."""

    _END = Chunk("")

    def __init__(self, tracks: Mapping[str, Path], embedder: Embedder, scratch: Scratch, config: ExtractConfig) -> None:
        self._todo: queue.SimpleQueue[tuple[str, Path]] = queue.SimpleQueue()
        for item in tracks.items():
            self._todo.put(item)
        self._embedder, self._scratch = embedder, scratch
        self._chunks: queue.Queue[Chunk] = queue.Queue(maxsize=2 * config.prefetch)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{number}", daemon=True)
            for number in range(config.prefetch)
        ]

    def __enter__(self) -> Iterator[Chunk]:
        for thread in self._threads:
            thread.start()
        return self._take()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _take(self) -> Iterator[Chunk]:
        running = len(self._threads)
        while running:
            chunk = self._chunks.get()
            if chunk is self._END:
                running -= 1
            elif isinstance(chunk.error, DiskFullError):
                raise chunk.error
            else:
                yield chunk

    def _work(self) -> None:
        try:
            while True:
                try:
                    key, path = self._todo.get_nowait()
                except queue.Empty:
                    break
                self._decode(key, path)
            self._put(self._END)
        except _StopError:
            pass

    def _decode(self, key: str, path: Path) -> None:
        try:
            for chunk in decode(key, path, self._embedder, self._scratch):
                self._put(chunk)
        except _StopError:
            raise
        except Exception as error:  # the one place that records a failed track: whatever it is, the others go on
            self._put(Chunk(key, error=error))

    def _put(self, chunk: Chunk) -> None:
        while not self._stop.is_set():
            try:
                return self._chunks.put(chunk, timeout=0.1)
            except queue.Full:
                continue
        raise _StopError
