"""Audio files -> embeddings in a store: streaming, resumable, in shards, with a list of what failed.

Decoding overlaps with the network: threads convert, read and run the embedder's front end; the calling thread runs the
network on full batches, which cross the borders of blocks and tracks. Bounded queues keep memory flat however long a
track is, and each decoding thread has at most one WAV on disk.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import queue
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.embedders.registry import Array, Embedder, EmbedderSpec, pad_to_window
from jamendo_mood.util import errors
from jamendo_mood.util.files import Scratch

BLOCK_FRAMES = 64  # windows a block: about a minute of sound, 4 MB
STRETCH_SAMPLES = 60 * SAMPLE_RATE_HZ  # what `StreamConfig.alter` is given at a time, whatever the embedder
MAX_UNEXPECTED = 3  #: tracks in a row that may fail by something else than their files
_NOT_FINITE = "its embedding holds NaN or infinity, which no sound causes: check the weights and the precision"

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file to be decoded, or the error that is the reason why there is none."""

    key: str
    path: Path = Path()
    error: Exception | None = None
    release: Callable[[], object] = lambda: None  # called when its decoding has ended, well or badly


Take = Callable[[threading.Event], Source | None]
"""Returns the next file, waiting for it if need be; None after the last, or once the event is set. For many threads."""

Feed = Callable[[Mapping[str, Path], Scratch], contextlib.AbstractContextManager[Take]]
"""Starts to get the files of tracks, into a scratch folder if need be."""

Alter = Callable[[str, Iterator[Wave]], Iterator[Wave]]
"""Changes the sound of a track, by its key: from stretches of a minute to stretches of any length."""


@contextlib.contextmanager
def local_files(tracks: Mapping[str, Path], _: Scratch) -> Iterator[Take]:
    """The feed for files that are there already; the others are `downloads.Downloads` and `cluster.fetched`."""
    sources = iter([Source(key, path) for key, path in tracks.items()])
    yield lambda _: next(sources, None)


@dataclass(frozen=True)
class StreamConfig:
    """How to stream audio through an embedder."""

    batch: int = 64  # windows that the network takes at once
    prefetch: int = 2  # threads that decode ahead of the network; each holds at most one WAV
    scratch: Path | None = None  # where WAVs live for a moment; None is the system's folder for temporary files
    decoder: str = decoding.DEFAULT_DECODER  # one of `decoding.DECODERS`
    feed: Feed = local_files  # where the decoders get the files from
    alter: Alter | None = None  # changes the sound between decoder and embedder

    def __post_init__(self) -> None:
        if self.batch < 1 or self.prefetch < 1:
            raise errors.UsageError(f"batch and prefetch must be at least 1, not {self.batch} and {self.prefetch}")
        decoding.check_decoder(self.decoder)


@dataclass(frozen=True)
class TrackResult:
    """The result of one track: float32 `frames` (frames, dim), or None, an `error` message and the exception.

    `remark` says what is wrong with its sound all the same: it is silent, a part of it is missing, or a channel.
    """

    key: str
    frames: Array | None
    duration_s: float
    error: str = ""
    cause: Exception | None = None
    remark: str = ""


def embed_files(
    tracks: Mapping[str, Path], embedder: Embedder, config: StreamConfig | None = None
) -> Generator[TrackResult, None, None]:
    """Embed audio files; yields each track once, with its frames or its error, roughly in order.

    Close the generator to stop: the threads end and the scratch folder is removed. Raises `DiskFullError` if the
    scratch folder is full; `UsageError` if there is no ffmpeg, or the scratch folder cannot be made; `NetworkError` if
    nothing can be downloaded.
    """
    config = config or StreamConfig()
    with (
        Scratch(config.scratch) as scratch,
        config.feed(tracks, scratch) as take,
        contextlib.closing(_decode_all(take, embedder, scratch, config)) as chunks,
    ):
        yield from embed_chunks(chunks, embedder, config.batch)


@dataclass(frozen=True)
class Chunk:
    """A stretch of one track on its way to the network; the last of a track has no inputs, or an error."""

    key: str
    inputs: Array | None = None
    duration_s: float = 0.0
    remark: str = ""
    error: Exception | None = None


def decode(
    key: str, path: Path, embedder: Embedder, scratch: Scratch, config: StreamConfig | None = None
) -> Iterator[Chunk]:
    """Turn one audio file into inputs of the network, block by block; a WAV is deleted before the last.

    AudioError if it cannot be decoded. Of `config` only the decoder and what alters the sound count.
    """
    config, block, remarks = config or StreamConfig(), blocks_of(embedder), list[str]()
    with contextlib.closing(decoding.DECODERS[config.decoder](path, scratch, remarks.append)) as sound:
        waves: Iterator[Wave] = sound
        if config.alter is not None:
            waves = config.alter(key, decoding.cut(sound, path, STRETCH_SAMPLES))
        yield from apply_frontend(key, decoding.cut(waves, path, *block), embedder, remarks)


def blocks_of(embedder: Embedder) -> tuple[int, int]:
    """The samples of a block that an embedder's front end is given, and how many of them are of the block before."""
    window, hop = embedder.window_samples, embedder.hop_samples
    if embedder.spec.hop_s is None:  # a row describes as much of the track as its first block has
        return hop, 0
    return (BLOCK_FRAMES - 1) * hop + max(window, hop), max(0, window - hop)


def apply_frontend(key: str, waves: Iterable[Wave], embedder: Embedder, remarks: Sequence[str] = ()) -> Iterator[Chunk]:
    """Turn the sound of a track, in blocks as `blocks_of` says, into inputs of the network.

    The last chunk says what was remarked on until then, and whether all was silence.
    """
    window, (_, overlap) = embedder.window_samples, blocks_of(embedder)
    samples, lowest, highest = 0, math.inf, -math.inf
    for wave in waves:
        first = samples == 0
        lowest = min(lowest, float(wave.min(initial=math.inf)))
        highest = max(highest, float(wave.max(initial=-math.inf)))
        samples += len(wave) - (0 if first else overlap)
        if first and len(wave) < window:
            log.warning("%s: shorter than %.2f s, padded with silence", key, window / SAMPLE_RATE_HZ)
        if first or (len(wave) >= window and embedder.spec.hop_s is not None):
            yield Chunk(key, embedder.frontend(pad_to_window(wave, window)))
    # A constant is not heard either.
    remark = "; ".join([*remarks, *([decoding.SILENT] if (highest - lowest) / 2 < decoding.SILENCE else [])])
    yield Chunk(key, duration_s=samples / SAMPLE_RATE_HZ, remark=remark)


def embed_chunks(chunks: Iterable[Chunk], embedder: Embedder, batch: int = StreamConfig.batch) -> Iterator[TrackResult]:
    """Run the network on full batches of chunks, and yield each track when its last frame is computed.

    A chunk with an error ends its track. The last batch is filled up: so an embedding does not depend on what else was
    embedded. Where a row describes a whole track, it does not wait for a batch of tracks.
    """
    size = 1 if embedder.spec.hop_s is None else batch
    waiting: list[tuple[str, Array]] = []  # rows for the network, each with its track
    outputs: dict[str, list[Array]] = defaultdict(list)  # rows of the tracks that are not complete
    ended: dict[str, Chunk] = {}  # the last chunk of each of them that has come

    def run(at_least: int) -> Iterator[TrackResult]:
        """Embed batches while so many rows wait; gives the tracks that are complete then."""
        while len(waiting) >= at_least:
            taken = waiting[:size]
            del waiting[:size]
            rows = np.stack([row for _, row in taken])
            results = embedder.network(np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1)))
            for (key, _), result in zip(taken, results, strict=False):
                outputs[key].append(result)
        busy = {key for key, _ in waiting}
        for key in [key for key in ended if key not in busy]:
            frames, last = np.stack(outputs.pop(key)), ended.pop(key)
            error = None if np.isfinite(frames).all() else errors.DataError(_NOT_FINITE)
            yield TrackResult(key, None if error else frames, last.duration_s, str(error or ""), error, last.remark)

    for chunk in chunks:
        if chunk.error is not None:
            waiting[:] = [(key, row) for key, row in waiting if key != chunk.key]
            outputs.pop(chunk.key, None)
            yield TrackResult(chunk.key, None, 0.0, str(chunk.error) or type(chunk.error).__name__, chunk.error)
            continue
        if chunk.inputs is None:
            ended[chunk.key] = chunk
        else:
            waiting += ((chunk.key, row) for row in chunk.inputs)
        yield from run(size)
    yield from run(1)


def _decode_all(take: Take, embedder: Embedder, scratch: Scratch, config: StreamConfig) -> Generator[Chunk, None, None]:
    """Yield the chunks of all tracks, mixed, from threads that decode into a bounded queue."""
    chunks: queue.Queue[Chunk | None] = queue.Queue(maxsize=2 * config.prefetch)  # None is the end of a thread
    stop = threading.Event()

    def work() -> None:
        sources = iter(lambda: take(stop), None)
        decoded = (chunk for source in sources for chunk in _decode_source(source, embedder, scratch, config))
        for chunk in itertools.chain(decoded, [None]):
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    chunks.put(chunk, timeout=0.1)
                    break
            else:
                return

    threads = [
        threading.Thread(target=ffmpeg.stoppable(work, stop.is_set), name=f"decode-{number}", daemon=True)
        for number in range(config.prefetch)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            for chunk in iter(chunks.get, None):
                if isinstance(chunk.error, errors.DiskFullError | errors.NetworkError | errors.UsageError):
                    raise chunk.error
                yield chunk
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _decode_source(source: Source, embedder: Embedder, scratch: Scratch, config: StreamConfig) -> Iterator[Chunk]:
    """The chunks of one file; what goes wrong with it is in the last, and the others go on."""
    try:
        if source.error is not None:
            raise source.error
        yield from decode(source.key, source.path, embedder, scratch, config)
    except Exception as error:
        yield Chunk(source.key, error=error)
    finally:
        source.release()


@dataclass
class ExtractReport:
    """The result of a run."""

    done: int = 0  # tracks embedded in this run
    skipped: int = 0  # tracks that were in the store already
    failed: dict[str, str] = field(default_factory=dict)  # errors by key, also of failed tracks that were not retried
    audio_s: float = 0.0  # seconds of sound embedded
    wall_s: float = 0.0  # seconds it took
    unexpected: int = 0  # errors in a row that are no fault of a file
    remarks: dict[str, str] = field(default_factory=dict)  # on tracks that are embedded, also on those skipped
    unrecorded: set[str] = field(default_factory=set)  # failed tracks that the next run tries again

    def count(self, result: TrackResult, store: Store) -> None:
        """Count one more track; a failure goes into the store's list too, if it is the file's own.

        What is no fault of the file (a bug, a broken installation, too little memory) is tried again by the next run,
        and so is a file that is gone or may not be read. Raises `UsageError` if it was the third of those in a row.
        """
        own = isinstance(result.cause, errors.MoodError | None) and not isinstance(result.cause, errors.MachineError)
        self.unexpected = 0 if own else self.unexpected + 1
        if not result.error:
            self.done += 1
            self.audio_s += result.duration_s
            if result.remark:
                self.remarks[result.key] = result.remark
            return
        self.failed[result.key] = result.error
        if own and not isinstance(result.cause, errors.NoFileError):
            store.record_failure(result.key, result.error)
            return
        self.unrecorded.add(result.key)
        if self.unexpected >= MAX_UNEXPECTED:
            what = "" if isinstance(result.cause, errors.MoodError) else f"{type(result.cause).__name__}: "
            raise errors.UsageError(
                f"{self.unexpected} tracks in a row failed, for reasons that are not in their files, the last "
                f"{result.key} ({what}{result.error}); none of these is recorded as failed"
            ) from result.cause


class Store(Protocol):
    """Where embeddings go; see `EmbeddingStore`, the one on disk."""

    spec: EmbedderSpec

    def __contains__(self, key: object) -> bool: ...
    def add(self, key: str, frames: Array, remark: str = "") -> None: ...  # noqa: D102
    def remarks(self, keys: Iterable[str]) -> dict[str, str]: ...  # noqa: D102
    def failures(self) -> dict[str, str]: ...  # noqa: D102
    def record_failure(self, key: str, error: str) -> None: ...  # noqa: D102
    def forget_failures(self, keys: set[str]) -> None: ...  # noqa: D102


def extract(
    tracks: Mapping[str, Path],
    embedder: Embedder,
    store: Store,
    config: StreamConfig | None = None,
    *,
    retry_failed: bool = False,
    on_track: Callable[[TrackResult], None] = lambda _: None,
) -> ExtractReport:
    """Embed the tracks that the store does not have yet.

    Parameters
    ----------
    tracks : mapping of key to audio file
        As `audio.decoding.find_audio` gives it.
    embedder : Embedder
    store : EmbeddingStore
    config : StreamConfig or None
    retry_failed : bool
        Try tracks again that are in the store's list of failures, or of which only a part could be decoded.
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
        The disk is full; what was done is kept.
    """
    if not store.spec.holds(embedder.spec):
        raise errors.UsageError(f"the store is of {store.spec}, the embedder is {embedder.spec}")
    started = time.perf_counter()
    pending, report = select_pending(tracks, store, store, retry_failed=retry_failed)
    with contextlib.closing(embed_files(pending, embedder, config)) as results:
        for result in results:
            if result.frames is not None:
                store.add(result.key, result.frames, result.remark)
            report.count(result, store)
            on_track(result)
    report.wall_s = time.perf_counter() - started
    return report


def select_pending(
    tracks: Mapping[str, T], store: Store, there: Container[str], *, retry_failed: bool
) -> tuple[dict[str, T], ExtractReport]:
    """The tracks that a run is to embed, and the report that it begins with.

    `there` has the keys that are done: it is the store itself, or a set where looking up each key would be slow.
    `retry_failed` takes the tracks out of the store's list of failures, and does those again that are there in part.
    """
    remarks = store.remarks(key for key in tracks if key in there)
    again = {key for key, remark in remarks.items() if retry_failed and decoding.IN_PART in remark}
    pending = {key: file for key, file in tracks.items() if key not in there or key in again}
    remarks = {key: remark for key, remark in remarks.items() if key not in again}
    report = ExtractReport(skipped=len(tracks) - len(pending), remarks=remarks)
    earlier = {key: error for key, error in store.failures().items() if key in pending}
    if retry_failed and earlier:
        store.forget_failures(set(earlier))
    elif earlier:
        report.failed.update(earlier)
        pending = {key: file for key, file in pending.items() if key not in earlier}
    return pending, report


def select_shard(keys: Iterable[str], index: int, count: int) -> list[str]:
    """The keys of shard `index` (from 1) of `count`: each key alone decides, so they are the same on every machine."""
    if not 1 <= index <= count:
        raise errors.UsageError(f"shard {index}/{count}: it must be between 1/{count} and {count}/{count}")
    return [key for key in keys if zlib.crc32(key.encode(errors="surrogateescape")) % count == index - 1]
