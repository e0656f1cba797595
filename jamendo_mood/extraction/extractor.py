"""Audio files -> embeddings in a store: resumable, in shards, with every failure on record."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.registry import Embedder, EmbedderSpec
from jamendo_mood.extraction.streaming import StreamConfig, TrackResult, embed_files
from jamendo_mood.util.errors import UsageError

Array = npt.NDArray[np.float32]
T = TypeVar("T")


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
    config: StreamConfig | None = None,
    *,
    retry_failed: bool = False,
    on_track: Callable[[TrackResult], None] = lambda _: None,
) -> ExtractReport:
    """Embed the tracks that the store does not have yet.

    Parameters
    ----------
    tracks : mapping of key to audio file
        As `audio.conversion.find_audio` gives it.
    embedder : Embedder
    store : EmbeddingStore
    config : StreamConfig or None
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
    pending, report = select_pending(tracks, store, store, retry_failed=retry_failed)
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


def select_pending(
    tracks: Mapping[str, T], store: Store, there: Container[str], *, retry_failed: bool
) -> tuple[dict[str, T], ExtractReport]:
    """The tracks that a run is to embed, and the report that it begins with.

    Parameters
    ----------
    tracks : mapping of key to file
    store : Store
        Whose failures count; `retry_failed` takes those of `tracks` out of its list.
    there : container of str
        The keys that are done: the store itself, or a list of what it has where looking up each would be slow.
    retry_failed : bool
    """
    pending = {key: place for key, place in tracks.items() if key not in there}
    report = ExtractReport(skipped=len(tracks) - len(pending))
    earlier = {key: error for key, error in store.failures().items() if key in pending}
    if retry_failed and earlier:
        store.forget_failures(set(earlier))
    elif earlier:
        report.failed.update(earlier)
        pending = {key: place for key, place in pending.items() if key not in earlier}
    return pending, report


def select_shard(keys: Iterable[str], index: int, count: int) -> list[str]:
    """The keys of shard `index` (from 1) of `count`: decided by each key alone, so the same on every machine.

    Raises
    ------
    UsageError
        Not ``1 <= index <= count``.
    """
    if not 1 <= index <= count:
        raise UsageError(f"shard {index}/{count}: it must be between 1/{count} and {count}/{count}")
    return [key for key in keys if zlib.crc32(key.encode(errors="surrogateescape")) % count == index - 1]
