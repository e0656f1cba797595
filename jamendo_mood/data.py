"""Store + data set + part -> arrays to train and evaluate on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders import EmbedderSpec
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.tracks import Dataset, Track

Array = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


class Embeddings(Protocol):
    """Embeddings by track key, float32 (frames, dim): a store, a packed store, released embeddings."""

    spec: EmbedderSpec

    def __getitem__(self, key: str, /) -> Array: ...
    def __contains__(self, key: object, /) -> bool: ...


@dataclass(frozen=True, eq=False)
class Examples:
    """What a head trains on and is judged by.

    Attributes
    ----------
    X : float32 array (n, 2 * dim)
        Pooled embeddings.
    Y : float32 array (n, targets)
    tracks : tuple of Track
        The n tracks.
    """

    X: Array
    Y: Array
    tracks: tuple[Track, ...]


def pool(frames: Array) -> Array:
    """Mean and standard deviation over time.

    Parameters
    ----------
    frames : float32 array (..., frames, dim)

    Returns
    -------
    float32 array (..., 2 * dim)
    """
    return np.concatenate([frames.mean(axis=-2), frames.std(axis=-2)], axis=-1)


def pool_windows(frames: Array, width: int) -> Array:
    """Pool a window of `width` frames around each frame; at the ends the nearest whole window is taken.

    Parameters
    ----------
    frames : float32 array (frames, dim)
    width : int
        A track with fewer frames is one window.

    Returns
    -------
    float32 array (frames, 2 * dim)
    """
    width = min(width, len(frames))
    windows = np.lib.stride_tricks.sliding_window_view(frames, width, axis=0).swapaxes(1, 2)
    nearest = np.clip(np.arange(len(frames)) - width // 2, 0, len(windows) - 1)
    return pool(windows)[nearest]


def check_finite(key: str, frames: Array) -> None:
    """Raise `DataError` if a stored embedding holds NaN or infinity, of which a head would make plausible scores."""
    if not np.isfinite(frames).all():
        raise DataError(f"the embedding of track {key!r} holds NaN or infinity: delete it and extract the track again")


def choose_embeddings(dataset: Dataset, store: Embeddings | None) -> Embeddings:
    """The store, or else the embeddings released with the data.

    Raises
    ------
    UsageError
        There are neither.
    """
    chosen = store if store is not None else dataset.embeddings
    if chosen is None:
        raise UsageError(f"task {dataset.task.name!r} comes without embeddings: extract them and give --store")
    return chosen  # type: ignore[return-value]


def load_part(dataset: Dataset, part: str, embeddings: Embeddings) -> Examples:
    """Pool the embeddings of a part. Tracks that are not embedded are left out, and their number is logged.

    Raises
    ------
    UsageError
        There is no such part, or none of its tracks is embedded.
    DataError
        An embedding holds NaN or infinity.
    """
    rows = [row for row in dataset.rows(part) if dataset.tracks[row].key in embeddings]
    missing = len(dataset.rows(part)) - len(rows)
    if not rows:
        raise UsageError(f"none of the {missing} tracks of part {part!r} is in the store")
    if missing:
        log.warning(
            "part %s: %d of %d tracks are not in the store and are left out", part, missing, missing + len(rows)
        )
    tracks = tuple(dataset.tracks[row] for row in rows)
    X = np.stack([_pooled(embeddings, track.key) for track in tracks])
    return Examples(X, dataset.targets[rows], tracks)


def _pooled(embeddings: Mapping[str, Array] | Embeddings, key: str) -> Array:
    frames = embeddings[key]
    check_finite(key, frames)
    return pool(frames)
