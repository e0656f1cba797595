"""How far to trust a figure: a bootstrap over artists, paired where two taggers are compared.

Tracks of one artist are alike, so it is artists that are drawn, with replacement, and their tracks come along: a
bootstrap over tracks would promise intervals three times too narrow on MTG-Jamendo. A draw is a weight for each track,
and a figure is computed for all draws at once.

A draw meets some positives twice, which lifts average precision: the mean of the draws lies above the figure of all
tracks, for rare tags so far that this figure would fall out of its own interval. Intervals are therefore those of the
draws moved back by that much.

References
----------
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 10 (bias) and 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks import calibration, metrics

ROUNDS = 300
COVERAGE = 0.95
_DRAWS_AT_ONCE = 100  # weights of 100 draws of 10,000 tracks: 4 MB
_MICRO_BINS = 1024

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Comparison:
    """One figure of A and B: the difference, its 95 % interval, and in what share of the draws A's is higher."""

    figure: str
    difference: float
    interval: tuple[float, float]
    ahead: float


@dataclass(frozen=True, eq=False)
class Draws:
    """Figures of each draw; the order of draws is the seed's.

    Attributes
    ----------
    figures : dict of float64 array (rounds,)
        The headline figures, by their official names; NaN in a draw in which a figure is not defined.
    precision : float64 array (k, rounds)
        PR-AUC of each tag; NaN in a draw without its positives, and for what are no tags.
    """

    figures: dict[str, Floats]
    precision: Floats

    def intervals(self, figures: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each figure, given those of all tracks."""
        return {
            name: _within(values, centred_interval(values, figures[name]))
            for name, values in self.figures.items()
            if name in figures and _any(values)
        }

    def tag_intervals(self, precision: Floats) -> list[tuple[float, float] | None]:
        """The same for the PR-AUC of each tag (k,); None for a tag that is in no draw."""
        pairs = zip(self.precision, precision.tolist(), strict=True)
        return [_within(values, centred_interval(values, figure)) if _any(values) else None for values, figure in pairs]

    def compare(self, other: Draws, figures: Mapping[str, float], others: Mapping[str, float]) -> list[Comparison]:
        """Compare with `other`, of the same artists, draw by draw; `figures` and `others` are those of all tracks."""
        compared = []
        for name in self.figures.keys() & figures.keys() & others.keys():
            difference = figures[name] - others[name]
            draws = self.figures[name] - other.figures[name]
            if _any(draws):
                centred = draws - np.nanmean(draws) + difference
                interval = centred_interval(draws, difference)
                compared.append(Comparison(name, difference, interval, float(np.nanmean(centred > 0))))
        return sorted(compared, key=lambda row: list(self.figures).index(row.figure))


def draw_figures(
    truth: Truth,
    scores: npt.NDArray[np.floating],
    artists: Sequence[str],
    *,
    decisions: Truth | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Draws:
    """The headline figures in each of many draws of artists.

    Same artists, `rounds` and `seed`: same draws, so that the figures of two taggers can be compared draw by draw. In a
    draw, the macro mean is over the tags that have positives and negatives in it.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)
        Range [0, 1].
    artists : n names
    decisions : bool array (n, k) or None
    rounds, seed : int

    Returns
    -------
    Draws
        With the figures of `tags.score_tags` and `calibration.score_calibration`, but for the prior. The micro PR-AUC
        and ROC-AUC are of scores put into 1,024 bins.
    """
    _, group = np.unique(np.asarray(artists), return_inverse=True)
    rng = np.random.default_rng(seed)
    tags = np.flatnonzero(metrics.is_defined(truth))
    sortings = [(truth[:, tag], *_sort(truth[:, tag], scores[:, tag])) for tag in tags]
    micro = _count_by_bin(truth, scores)
    parts: list[dict[str, Floats]] = []
    precision = np.full((truth.shape[1], rounds), np.nan)
    for start in range(0, rounds, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, rounds - start)
        weights = _draw_artists(group, count, rng).astype(np.float32)
        pairs = np.array([_weighted_figures(*sorting, weights) for sorting in sortings])
        precision[tags, start : start + count] = pairs[:, 0]
        figures = {"PR-AUC-macro": _mean_of_defined(pairs[:, 0]), "ROC-AUC-macro": _mean_of_defined(pairs[:, 1])}
        figures |= _micro_figures(*micro, weights) | _hit_figures(truth, scores, weights)
        if decisions is not None:
            figures |= _decision_figures(truth, decisions, weights)
        parts.append(figures | _calibration_figures(truth, scores, weights))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}
    return Draws(joined, precision)


def resample_figures(
    score: Callable[[Any, Any, Any], Mapping[str, float]],
    truth: npt.NDArray[Any],
    scores: npt.NDArray[np.floating],
    artists: Sequence[str],
    *,
    decisions: Truth | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Draws:
    """The same for any figures: the examples of each draw are put together and scored.

    Slower than `draw_figures` by far for tags, and quick enough for the few classes or values of the small data sets.

    Parameters
    ----------
    score : callable (truth, scores, decisions) -> dict of float
        Its figures, but for the prior.
    truth : array (n, k)
    scores, artists, decisions, rounds, seed
        As for `draw_figures`.
    """
    _, group = np.unique(np.asarray(artists), return_inverse=True)
    drawn = _draw_artists(group, rounds, np.random.default_rng(seed))
    found: list[Mapping[str, float]] = []
    for weights in drawn:
        rows = np.repeat(np.arange(len(truth)), weights)
        if (truth[rows] != truth[rows[0]]).any():  # else there is nothing to tell apart
            found.append(score(truth[rows], scores[rows], None if decisions is None else decisions[rows]))
    names = [name for name in (found[0] if found else ()) if "prior" not in name]
    figures = {name: np.array([figures[name] for figures in found]) for name in names}
    return Draws(figures, np.full((truth.shape[1], rounds), np.nan))


def _draw_artists(group: npt.NDArray[np.intp], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How often each example is in each of `count` draws: (count, n)."""
    artists = int(group.max()) + 1
    return np.asarray(rng.multinomial(artists, np.full(artists, 1 / artists), size=count)[:, group])


def centred_interval(values: Floats, figure: float) -> tuple[float, float]:
    """The range that leaves out 2.5 % of the values on either side, moved as far as their mean is from `figure`.

    Values that are NaN do not count.
    """
    low, high = np.nanquantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]) - np.nanmean(values) + figure
    return float(low), float(high)


def _within(values: Floats, interval: tuple[float, float]) -> tuple[float, float]:
    """Keep the interval of a figure in [0, 1] if all its draws are."""
    bounded = np.nanmin(values) >= 0 and np.nanmax(values) <= 1
    low, high = interval
    return (min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)) if bounded else interval


def _any(values: Floats) -> bool:
    return not bool(np.isnan(values).all())


def _mean_of_defined(values: Floats) -> Floats:
    """Mean over tags, (k, draws) -> (draws,), without NaN; NaN for a draw in which nothing is defined."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def _ratio(part: npt.NDArray[np.number], whole: npt.NDArray[np.number], otherwise: float = np.nan) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, otherwise), where=whole > 0, dtype=np.float64))


def _count_by_bin(truth: Truth, scores: npt.NDArray[np.floating]) -> tuple[Weights, Weights]:
    """How many positives and how many negatives each track has in each bin of scores, highest first: (n, bins) each."""
    edges = np.unique(scores[truth])
    # What scores just above a positive is not its equal: without bins of their own, negatives would tie with it.
    edges = np.unique([edges, np.nextafter(edges, np.inf)])
    edges = edges[np.unique(np.linspace(0, len(edges) - 1, _MICRO_BINS - 1).astype(int))]
    bins = len(edges) - np.searchsorted(edges, scores, "right")
    cells = np.arange(len(truth))[:, None] * (len(edges) + 1) + bins
    shape = (len(truth), len(edges) + 1)
    positive, negative = (np.bincount(cells[chosen], minlength=shape[0] * shape[1]) for chosen in (truth, ~truth))
    return positive.reshape(shape).astype(np.float32), negative.reshape(shape).astype(np.float32)


def _micro_figures(positive: Weights, negative: Weights, weights: Weights) -> dict[str, Floats]:
    hits, misses = ((weights @ counts).astype(np.float64) for counts in (positive, negative))
    hits_so_far, misses_so_far = hits.cumsum(axis=1), misses.cumsum(axis=1)
    precision = _ratio(hits_so_far, hits_so_far + misses_so_far, 0.0)
    beaten = misses_so_far[:, -1:] - misses_so_far + misses / 2
    n_hits, n_misses = hits_so_far[:, -1], misses_so_far[:, -1]
    return {
        "PR-AUC-micro": _ratio((hits * precision).sum(axis=1), n_hits),
        "ROC-AUC-micro": _ratio((hits * beaten).sum(axis=1), n_hits * n_misses),
    }


def _hit_figures(truth: Truth, scores: npt.NDArray[np.floating], weights: Weights) -> dict[str, Floats]:
    tagged = weights @ truth.any(axis=1)
    return {
        f"hit@{count}": _ratio(weights @ metrics.hits_at(truth, scores, count), tagged) for count in metrics.HIT_COUNTS
    }


def _decision_figures(truth: Truth, decisions: Truth, weights: Weights) -> dict[str, Floats]:
    hits, decided, true = (weights @ table.astype(np.float32) for table in (truth & decisions, decisions, truth))
    figures: dict[str, Floats] = {}
    for average in ("macro", "micro"):
        if average == "micro":
            hits, decided, true = (table.sum(axis=1, keepdims=True) for table in (hits, decided, true))
        pairs = {"precision": (hits, decided), "recall": (hits, true), "F-score": (2 * hits, decided + true)}
        figures |= {f"{name}-{average}": _ratio(*pair, 0.0).mean(axis=1) for name, pair in pairs.items()}
    return figures


def _calibration_figures(truth: Truth, scores: npt.NDArray[np.floating], weights: Weights) -> dict[str, Floats]:
    bins = calibration.score_bins(scores, calibration.LOOKED_AT)
    gaps, counts = [], []
    for number in range(calibration.BINS):
        inside = bins == number
        gaps.append(weights @ np.where(inside, scores - truth, 0).sum(axis=1, dtype=np.float32))
        counts.append(weights @ inside.sum(axis=1, dtype=np.float32))
    total = weights.sum(axis=1, keepdims=True)
    prior = (weights @ truth.astype(np.float32)) / total
    error = (weights @ np.square(scores - truth, dtype=np.float32)) / total
    skill = 1 - _ratio(error, prior * (1 - prior))
    return {
        "ECE": _ratio(np.abs(gaps).sum(axis=0), np.sum(counts, axis=0)),
        "Brier-skill-macro": _mean_of_defined(skill.T),
    }


def _sort(truth: Truth, scores: npt.NDArray[np.floating]) -> tuple[Places, Places, Places]:
    """Order of falling scores; for each positive, how many score above it, and how many at least as high."""
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    of_positives = falling[truth[order]]
    return order, np.searchsorted(falling, of_positives, "left"), np.searchsorted(falling, of_positives, "right")


def _weighted_figures(
    truth: Truth, order: Places, above: Places, reached: Places, weights: Weights
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


def _sums(weights: Weights, *lengths: Places) -> list[Floats]:
    """Sums of the first so many weights of each row, for each of `lengths`."""
    # Whole numbers, so float32 is exact as far as 16 million.
    sums = np.zeros((len(weights), weights.shape[1] + 1), np.float32)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return [sums[:, length].astype(np.float64) for length in lengths]
