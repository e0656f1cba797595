"""Examples -> batches to train on, drawn anew in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jamendo_mood.training.data import thin
from jamendo_mood.util.errors import UsageError

Array = npt.NDArray[np.float32]
Batch = tuple[tuple[Array, Array], Array]


@dataclass(frozen=True)
class Augmentation:
    """What is done to examples before a head learns from them.

    Attributes
    ----------
    crop : int
        Rows taken of a track, each drawn at random from one of as many stretches of equal length.
    mixup : float
        Examples are mixed in pairs, inputs and targets alike, with a share drawn from Beta(mixup, mixup); 0 mixes none.
        [Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018]
    frame_dropout : float
        Share of rows that are masked, in [0, 1); one row of a track always stays.
    smoothing : float
        Targets 0 and 1 of tags become s / 2 and 1 - s / 2, s in [0, 1); of k classes, s / k and 1 - s + s / k. It is
        done before batches are drawn, see `tasks.kinds.Kind.smooth`.
    """

    crop: int = 5
    mixup: float = 1.0
    frame_dropout: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if (
            self.crop < 1
            or not 0 <= self.mixup < np.inf
            or not 0 <= self.frame_dropout < 1
            or not 0 <= self.smoothing < 1
        ):
            raise UsageError("crop must be from 1 up, mixup from 0 up, frame dropout and smoothing in [0, 1)")


def draw_batches(
    tracks: Sequence[Array], Y: Array, size: int, augment: Augmentation, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches for ever; every so many are a pass over all tracks in a new order.

    Parameters
    ----------
    tracks : n float32 arrays (rows, width)
    Y : float32 array (n, targets)
    size : int
        Examples a batch; the last of a pass may be smaller.
    augment : Augmentation
    rng : Generator

    Yields
    ------
    (rows, mask), targets
        float32 (b, r, width), (b, r) and (b, targets), with r the crop, or the longest track if that is shorter.
    """
    count = min(augment.crop, max(map(len, tracks)))
    while True:
        order = rng.permutation(len(tracks))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            rows, mixed = thin([tracks[row] for row in chosen], count, rng), Y[chosen]
            if augment.mixup:
                rows, mixed = _mix(rows, mixed, augment.mixup, rng)
            yield (rows, _draw_mask(rows.shape[:2], augment.frame_dropout, rng)), mixed


def _mix(rows: Array, targets: Array, alpha: float, rng: np.random.Generator) -> tuple[Array, Array]:
    share = rng.beta(alpha, alpha, (len(rows), 1)).astype(np.float32)
    other = rng.permutation(len(rows))
    return (
        share[..., None] * rows + (1 - share[..., None]) * rows[other],
        share * targets + (1 - share) * targets[other],
    )


def _draw_mask(shape: tuple[int, int], dropped: float, rng: np.random.Generator) -> Array:
    mask = np.ones(shape, np.float32)
    if dropped:
        mask[rng.random(shape) < dropped] = 0
        mask[np.arange(len(mask)), rng.integers(0, shape[1], len(mask))] = 1
    return mask
