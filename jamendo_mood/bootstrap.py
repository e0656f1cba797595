"""How far to trust a figure: a bootstrap over artists, paired where two taggers are compared.

Tracks of one artist are alike, so it is artists that are drawn, with replacement, and their tracks come along: a
bootstrap over tracks would promise intervals three times too narrow on MTG-Jamendo. A draw is a weight for each track,
and the figures are computed for all draws of a tag at once.

References
----------
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jamendo_mood.metrics import is_defined

ROUNDS = 1000
COVERAGE = 0.95
_DRAWS_AT_ONCE = 100  # weights of 100 draws of 10,000 tracks: 4 MB

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Draws:
    """Macro figures of each draw, by their official names, float64 (rounds,) each; the order of draws is the seed's."""

    figures: dict[str, Floats]

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval that holds 95 % of the draws, for each figure."""
        return {name: percentile_interval(values) for name, values in self.figures.items()}


def draw_figures(
    truth: Truth, scores: npt.NDArray[np.floating], artists: Sequence[str], *, rounds: int = ROUNDS, seed: int = 0
) -> Draws:
    """Macro PR-AUC and ROC-AUC in each of many draws of artists.

    Same artists, `rounds` and `seed`: same draws, so that the figures of two taggers can be compared draw by draw. In a
    draw, the mean is over the tags that have positives and negatives in it.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)
    artists : n names
    rounds, seed : int

    Returns
    -------
    Draws
        With ``PR-AUC-macro`` and ``ROC-AUC-macro``.
    """
    _, group = np.unique(np.asarray(artists), return_inverse=True)
    rng = np.random.default_rng(seed)
    tags = np.flatnonzero(is_defined(truth))
    sortings = [_sort(truth[:, tag], scores[:, tag]) for tag in tags]
    precision, area = [], []
    for start in range(0, rounds, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, rounds - start)
        shape = (count, group.max() + 1)
        drawn = rng.multinomial(shape[1], np.full(shape[1], 1 / shape[1]), size=count).astype(np.float32)
        weights = drawn[:, group]
        pairs = [_weighted_figures(*sorting, weights) for sorting in sortings]
        precision.append(np.nanmean([pair[0] for pair in pairs], axis=0))
        area.append(np.nanmean([pair[1] for pair in pairs], axis=0))
    return Draws({"PR-AUC-macro": np.concatenate(precision), "ROC-AUC-macro": np.concatenate(area)})


def percentile_interval(values: Floats) -> tuple[float, float]:
    """The range that leaves out 2.5 % of the values on either side."""
    low, high = np.quantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _sort(truth: Truth, scores: npt.NDArray[np.floating]) -> tuple[Places, Places, Places, Places]:
    """Order of falling scores, places of the positives in it, and for each the first and last place of its ties."""
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    positives = np.flatnonzero(truth[order])
    first = np.searchsorted(falling, falling[positives], "left")
    last = np.searchsorted(falling, falling[positives], "right") - 1
    return order, positives, first, last


def _weighted_figures(
    order: Places, positives: Places, first: Places, last: Places, weights: npt.NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """Average precision and ROC-AUC of one tag under each row of `weights` (draws, n); NaN where it is not defined."""
    sorted_weights = weights[:, order]
    everything = np.cumsum(sorted_weights, axis=1, dtype=np.float64)
    hits = np.zeros_like(everything)
    hits[:, positives] = sorted_weights[:, positives]
    hits = np.cumsum(hits, axis=1)
    weight = sorted_weights[:, positives].astype(np.float64)
    n_hits, n_others = hits[:, -1], everything[:, -1] - hits[:, -1]
    others = everything - hits
    before = np.where(first > 0, others[:, first - 1], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits[:, last] / everything[:, last])
        average_precision = (weight * precision).sum(axis=1) / n_hits
        # A positive wins against the negatives below it, and half against those of the same score.
        beaten = n_others[:, None] - (before + others[:, last]) / 2
        area = (weight * beaten).sum(axis=1) / (n_hits * n_others)
    defined = (n_hits > 0) & (n_others > 0)
    return np.where(defined, average_precision, np.nan), np.where(defined, area, np.nan)
