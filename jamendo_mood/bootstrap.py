"""How far to trust a figure: a bootstrap over artists, paired where two taggers are compared.

Tracks of one artist are alike, so it is artists that are drawn, with replacement, and their tracks come along: a
bootstrap over tracks would promise intervals three times too narrow on MTG-Jamendo. A draw is a weight for each track,
and the figures are computed for all draws of a tag at once.

References
----------
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROUNDS = 300
COVERAGE = 0.95
_DRAWS_AT_ONCE = 100  # weights of 100 draws of 10,000 tracks: 4 MB

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Comparison:
    """One figure of A and B: the difference, its 95 % interval, and in what share of the draws A is ahead."""

    figure: str
    difference: float
    interval: tuple[float, float]
    ahead: float


@dataclass(frozen=True, eq=False)
class Draws:
    """Macro figures of each draw, by their official names, float64 (rounds,) each; the order of draws is the seed's.

    Draws in which no tag has positives and negatives are left out.
    """

    figures: dict[str, Floats]

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval that holds 95 % of the draws, for each figure."""
        return {name: percentile_interval(values) for name, values in self.figures.items() if len(values)}

    def compare(self, other: Draws, figures: Mapping[str, float], others: Mapping[str, float]) -> list[Comparison]:
        """Compare with `other`, of the same artists, draw by draw; `figures` and `others` are those of all tracks."""
        return [
            Comparison(
                name,
                figures[name] - others[name],
                percentile_interval(values - other.figures[name]),
                float(np.mean(values > other.figures[name])),
            )
            for name, values in self.figures.items()
        ]


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
    from jamendo_mood.metrics import is_defined

    _, group = np.unique(np.asarray(artists), return_inverse=True)
    rng = np.random.default_rng(seed)
    tags = np.flatnonzero(is_defined(truth))
    sortings = [(truth[:, tag], *_sort(truth[:, tag], scores[:, tag])) for tag in tags]
    precision, area = [], []
    for start in range(0, rounds, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, rounds - start)
        shape = (count, group.max() + 1)
        drawn = rng.multinomial(shape[1], np.full(shape[1], 1 / shape[1]), size=count).astype(np.float32)
        weights = drawn[:, group]
        pairs = [_weighted_figures(*sorting, weights) for sorting in sortings]
        precision.append(_mean_of_defined([pair[0] for pair in pairs]))
        area.append(_mean_of_defined([pair[1] for pair in pairs]))
    return Draws({"PR-AUC-macro": np.concatenate(precision), "ROC-AUC-macro": np.concatenate(area)})


def percentile_interval(values: Floats) -> tuple[float, float]:
    """The range that leaves out 2.5 % of the values on either side."""
    low, high = np.quantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _mean_of_defined(per_tag: list[Floats]) -> Floats:
    """Mean over tags, (k, draws) -> (draws,), without NaN; draws in which nothing is defined are dropped."""
    values = np.stack(per_tag)
    defined = ~np.isnan(values)
    counts = defined.sum(axis=0)
    sums = np.where(defined, values, 0).sum(axis=0)
    return np.asarray(sums[counts > 0] / counts[counts > 0])


def _sort(truth: Truth, scores: npt.NDArray[np.floating]) -> tuple[Places, Places, Places]:
    """Order of falling scores; for each positive, how many score above it, and how many at least as high."""
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    of_positives = falling[truth[order]]
    return order, np.searchsorted(falling, of_positives, "left"), np.searchsorted(falling, of_positives, "right")


def _weighted_figures(
    truth: Truth, order: Places, above: Places, reached: Places, weights: npt.NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """Average precision and ROC-AUC of one tag under each row of `weights` (draws, n); NaN where it is not defined."""
    positive = truth[order]
    sorted_weights = weights[:, order]
    weight = sorted_weights[:, positive]
    all_above, all_reached = _sums(sorted_weights, above, reached)
    # The same among positives alone, which are few: the i-th place of all is the n-th of the positives.
    n_positives = np.concatenate([[0], np.cumsum(positive)])
    hits_above, hits_reached = _sums(weight, n_positives[above], n_positives[reached])
    n_hits = weight.sum(axis=1)
    n_others = weights.sum(axis=1) - n_hits
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits_reached / all_reached)
        average_precision = (weight * precision).sum(axis=1, dtype=np.float64) / n_hits
        # A positive wins against the negatives below it, and half against those of the same score.
        beaten = n_others[:, None] - (all_above - hits_above + all_reached - hits_reached) / 2
        area = (weight * beaten).sum(axis=1, dtype=np.float64) / (n_hits * n_others)
    defined = (n_hits > 0) & (n_others > 0)
    return np.where(defined, average_precision, np.nan), np.where(defined, area, np.nan)


def _sums(weights: npt.NDArray[np.float32], *lengths: Places) -> list[Floats]:
    """Sums of the first so many weights of each row, for each of `lengths`."""
    # Whole numbers, so float32 is exact as far as 16 million.
    sums = np.zeros((len(weights), weights.shape[1] + 1), np.float32)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return [sums[:, length].astype(np.float64) for length in lengths]
