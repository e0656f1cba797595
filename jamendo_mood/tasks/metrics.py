"""Metrics of tags and classes on ``(n, k)`` arrays, n examples and k targets, and the intervals of any metric.

PR-AUC is average precision (no interpolation), as in the MediaEval "Emotion and Theme Recognition in Music" task, whose
official names are used throughout. A tag without a positive, or without a negative, has no PR-AUC or ROC-AUC: it is NaN
in the table of tags and left out of the macro averages.

Intervals are a bootstrap over artists, paired where two taggers are compared. Tracks of one artist are alike, so
artists are sampled, with replacement, and their tracks come along: a bootstrap over tracks would promise intervals
three times too narrow on MTG-Jamendo. A sample is a weight for each track. It has some positives twice, which lifts
average precision, for rare tags so far that the figure of all tracks would fall out of its own interval: intervals are
moved back by that much.

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

from jamendo_mood.util.errors import DataError

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[Any]  #: of tags and classes booleans, of values the values
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

HIT_COUNTS = (1, 3, 5)
BINS = 15  # of a calibration error
LOOKED_AT = 0.1  # scores above it are those that a user looks at
LOWER_IS_BETTER = frozenset({"ECE", "RMSE"})

GRADES = {
    "good": "what it ranks highest is often right",
    "fair": "clearly better than guessing",
    "weak": "hardly better than guessing",
    "unknown": "too few examples to say",
}
"""How far a tag or class can be relied on, and what that means."""

FEWEST_POSITIVES, FAIR_SKILL, GOOD_SKILL = 5, 0.1, 0.25


def average_precision(truth: Truth, scores: Array) -> Floats:
    """PR-AUC of each tag, scikit-learn's ``average_precision_score``: the sum of precision times the step in recall.

    From bool and float arrays (n, k), scores on any scale, to (k,); NaN for a tag that all examples have, or none.
    """
    return _per_tag(sklearn_metrics().average_precision_score, truth, scores)


def mean_average_precision(truth: Truth, scores: Array) -> float:
    """PR-AUC-macro: the mean of `average_precision` over the tags that have one; NaN if none has."""
    return mean_of_defined(average_precision(truth, scores))


def quick_mean_average_precision(truth: Truth, scores: Array) -> float:
    """The same but for rounding, in a fifth of the time: what epochs are compared by."""
    once = np.ones((1, len(truth)), np.float32)
    return mean_of_defined(_per_tag(lambda tag, own: _areas(tag, own, once)[0][0], truth, scores))


def roc_auc(truth: Truth, scores: Array) -> Floats:
    """ROC-AUC of each tag, as `average_precision`: the chance that a random positive scores above a random negative."""
    return _per_tag(sklearn_metrics().roc_auc_score, truth, scores)


def decision_figures(truth: Truth, decisions: Truth) -> dict[str, Floats]:
    """Precision, recall and F-score of each tag; 0 where a tag is never decided or never true."""
    # By hand: scikit-learn takes a table of one tag for a choice between two classes, and gives figures of both.
    return _ratios(*(table.sum(axis=0) for table in (truth & decisions, decisions, truth)))


def _ratios(hits: Floats, decided: Floats, true: Floats) -> dict[str, Floats]:
    parts = {"precision": (hits, decided), "recall": (hits, true), "F-score": (2 * hits, decided + true)}
    return {name: ratio(*part, 0.0) for name, part in parts.items()}


def grade_tags(truth: Truth, scores: Array) -> tuple[str, ...]:
    """How far each tag can be relied on, one of `GRADES`, by its skill: how far from the prior (0) to perfect (1).

    That is (average precision - prior) / (1 - prior), where the average precision is first lowered by one standard
    error. ``good`` is a skill from 0.25, ``weak`` one below 0.1, of tags that are rarer than that one below the prior
    (which is an average precision of twice the prior), ``unknown`` a tag with fewer than 5 positives.

    References
    ----------
    Boyd et al., "Area under the Precision-Recall Curve: Point Estimates and Confidence Intervals", ECML 2013: the
    binomial standard error.
    """
    positives, prior = truth.sum(axis=0), truth.mean(axis=0)
    precision = np.nan_to_num(average_precision(truth, scores))
    variance = np.maximum(precision * (1 - precision), 0) / np.maximum(positives, 1)
    skill = ratio(precision - np.sqrt(variance) - prior, 1 - prior)
    unknown = ~is_defined(truth) | (positives < FEWEST_POSITIVES)
    weak = skill < np.minimum(prior, FAIR_SKILL)
    return tuple(np.select([unknown, weak, skill < GOOD_SKILL], ["unknown", "weak", "fair"], "good").tolist())


def score_bins(scores: Array, above: float) -> npt.NDArray[np.intp]:
    """The bin of each score, 0 ... 14, of the same shape as `scores`; -1 for one that is not above `above`."""
    used = scores > above
    values = scores[used]
    bins = np.full(scores.shape, -1)
    if len(values):
        bins[used] = np.searchsorted(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]), values)
    return bins


def brier_skill(truth: Truth, scores: Array) -> Floats:
    """Brier skill of each tag (k,): how much better its scores in [0, 1] are than its prior, in squared error.

    1 for perfect scores, 0 for the constant prior, less for worse; NaN where all examples have the tag, or none.
    """
    prior = truth.mean(axis=0)
    error = np.square(scores - truth).mean(axis=0, dtype=np.float64)
    return np.where(is_defined(truth), 1 - error / np.maximum(prior * (1 - prior), 1e-12), np.nan)


def hits_at(truth: Truth, scores: Array, count: int) -> npt.NDArray[np.bool_]:
    """For each example, whether one of its `count` highest tags is right; bool (n,). Ties count against it."""
    best_right = np.where(truth, scores, -np.inf).max(axis=1, keepdims=True)
    wrong_before = (~truth & (scores >= best_right)).sum(axis=1)
    return np.asarray(truth.any(axis=1) & (wrong_before < count))


def rank_targets(evaluation: Any, ranked_by: str) -> list[int]:
    """The columns of the targets for which this figure is defined, best first; equals stay in the order of the task."""
    figures = [row[ranked_by] for row in evaluation.per_target]
    return sorted((column for column, figure in enumerate(figures) if figure is not None), key=lambda n: -figures[n])


def is_defined(truth: Truth) -> Bools:
    """Which targets are not the same in all examples, so that there is something to measure; bool (k,)."""
    return np.asarray((truth != truth[:1]).any(axis=0))


def cooccurrence(Y: npt.NDArray[Any]) -> Floats:
    """Of the examples that have one tag (the row), the share that also have another (the column): (n, k) -> (k, k).

    A row of NaN for a tag that no example has. Not symmetric: most holiday music is for Christmas, most Christmas music
    is for no other holiday.
    """
    together = _together(Y)
    return ratio(together, np.broadcast_to(np.diag(together)[:, None], together.shape))


def similar_order(Y: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The tags in an order that puts those next to each other that go together: `Y` as for `cooccurrence` -> int (k,).

    References
    ----------
    Bar-Joseph, Gifford, Jaakkola, "Fast optimal leaf ordering for hierarchical clustering", Bioinformatics 17, 2001;
    the clusters are average linkage's on the cosine between columns.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    together = _together(Y)
    if len(together) < 3:
        return np.arange(len(together))
    lengths = np.sqrt(np.diag(together).clip(1))  # no track, no length: as far as can be from all others
    distances = squareform((1 - together / np.outer(lengths, lengths)).clip(0), checks=False)
    tree = hierarchy.linkage(distances, "average", optimal_ordering=True)
    return np.asarray(hierarchy.leaves_list(tree), np.intp)


def _together(Y: npt.NDArray[Any]) -> Floats:
    """How many examples have both tags; (k, k)."""
    flags = Y.astype(np.float64)
    return np.asarray(flags.T @ flags)


def check(truth: Truth, scores: Array, decisions: Truth | None = None) -> None:
    """Raise `DataError` unless the arrays can be compared: of one shape, finite scores, something to measure."""
    for name, array in (("predictions", scores), ("decisions", decisions)):
        if array is not None and array.shape != truth.shape:
            raise DataError(f"{name} have the shape {array.shape}, the truth has {truth.shape}")
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise DataError(f"{len(bad)} of {len(truth)} rows of the predictions hold NaN or infinity, first row {bad[0]}")
    if not is_defined(truth).any():
        what = "tag among {} has both positives and negatives" if truth.dtype == np.bool_ else "target among {} varies"
        raise DataError(f"no {what.format(truth.shape[1])} in {len(truth)} examples")


def sklearn_metrics() -> Any:
    """scikit-learn's metrics, imported when needed: it brings pandas along, 3 s that `extract` can do without."""
    from sklearn import metrics

    return metrics


def mean_of_defined(figures: Floats) -> float:
    """The mean without NaN and infinity; NaN where nothing is left."""
    return float(mean_over(figures[np.isfinite(figures)]))


def mean_over(values: Floats, otherwise: float = np.nan) -> Floats:
    """The mean over the first axis without NaN and infinity; `otherwise` where nothing is left."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0), otherwise)


def _per_tag(metric: Any, truth: Truth, scores: Array) -> Floats:
    values = np.full(truth.shape[1], np.nan)
    for tag in np.flatnonzero(is_defined(truth)):
        values[tag] = metric(truth[:, tag], scores[:, tag])
    return values


ROUNDS = 300
COVERAGE = 0.95
_SAMPLES_AT_ONCE = 100  # of 10,000 tracks: 4 MB for each step
_MICRO_BINS = 1024

Weights = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Comparison:
    """One metric of A and B: the difference, its 95 % interval, and in what share of the samples A's is higher."""

    figure: str
    difference: float
    interval: tuple[float, float]
    ahead: float


@dataclass(frozen=True, eq=False)
class Samples:
    """Metrics in each bootstrap sample; the order of samples depends on the seed alone."""

    #: the headline metrics (rounds,) by their official names; NaN in a sample in which one is not defined
    metrics: dict[str, Floats]
    #: (k, rounds): PR-AUC of each tag; NaN in a sample without its positives, and for classes and values
    precision: Floats

    def intervals(self, figures: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each metric, given those of all tracks."""
        pairs = {name: (values, figures[name]) for name, values in self.metrics.items() if name in figures}
        return {name: _interval(*pair) for name, pair in pairs.items() if np.isfinite(pair[0]).any()}

    def tag_intervals(self, precision: Floats) -> list[tuple[float, float] | None]:
        """The same for the PR-AUC of each tag (k,); None for a tag that is in no draw."""
        pairs = zip(self.precision, precision.tolist(), strict=True)
        return [_interval(*pair) if np.isfinite(pair[0]).any() else None for pair in pairs]

    def compare(self, other: Samples, figures: Mapping[str, float], others: Mapping[str, float]) -> list[Comparison]:
        """Compare with `other`, of the same artists, sample by sample; `figures` and `others` are of all tracks."""
        compared = []
        for name in (name for name in self.metrics if name in figures and name in others):
            difference = figures[name] - others[name]
            samples = self.metrics[name] - other.metrics[name]
            if np.isfinite(samples).any():
                ahead = float(np.nanmean(samples - np.nanmean(samples) + difference > 0))
                compared.append(Comparison(name, difference, centred_interval(samples, difference), ahead))
        return compared


def bootstrap_tags(
    truth: Truth,
    scores: npt.NDArray[np.floating],
    artists: Sequence[str],
    *,
    decisions: Truth | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Samples:
    """The headline metrics in each of many bootstrap samples of artists: truth and scores (n, k), and n artists.

    Same artists, `rounds` and `seed`: same samples, so that the metrics of two taggers can be compared one by one. In
    each, the macro mean is over the tags that have positives and negatives in it. The metrics are those of
    `tags.score_tags` and `calibration.score_calibration`, but for the prior; the micro PR-AUC and ROC-AUC are of scores
    put into 1,024 bins.
    """
    weights = _sample_artists(artists, rounds, seed).astype(np.float32)
    tags = np.flatnonzero(is_defined(truth))
    micro = _count_by_bin(truth, scores)
    parts: list[dict[str, Floats]] = []
    precision = np.full((truth.shape[1], rounds), np.nan)
    for start in range(0, rounds, _SAMPLES_AT_ONCE):
        some = weights[start : start + _SAMPLES_AT_ONCE]
        pairs = np.array([_areas(truth[:, tag], scores[:, tag], some) for tag in tags])
        precision[tags, start : start + len(some)] = pairs[:, 0]
        figures = {"PR-AUC-macro": mean_over(pairs[:, 0]), "ROC-AUC-macro": mean_over(pairs[:, 1])}
        tagged, hits = some @ truth.any(axis=1), {count: hits_at(truth, scores, count) for count in HIT_COUNTS}
        figures |= {f"hit@{count}": ratio(some @ hit, tagged) for count, hit in hits.items()}
        figures |= _micro_figures(*micro, some)
        if decisions is not None:
            figures |= _decision_figures(truth, decisions, some)
        parts.append(figures | _calibration_figures(truth, scores, some))
    return Samples({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, precision)


def bootstrap_any(
    score: Callable[[Any, Any, Any], Mapping[str, float]],
    truth: npt.NDArray[Any],
    scores: npt.NDArray[np.floating],
    artists: Sequence[str],
    *,
    decisions: Truth | None = None,
    rounds: int = ROUNDS,
) -> Samples:
    """The same for all metrics that `score` gives, but for the prior: the examples of each sample are scored.

    Slower than `bootstrap_tags` by far for tags, and quick enough for the few classes or values of the small data sets.
    """
    found: list[Mapping[str, float]] = []
    for weights in _sample_artists(artists, rounds, 0):
        rows = np.repeat(np.arange(len(truth)), weights)
        if (truth[rows] != truth[rows[0]]).any():  # else there is nothing to tell apart
            found.append(score(truth[rows], scores[rows], None if decisions is None else decisions[rows]))
    names = [name for name in (found[0] if found else ()) if "prior" not in name]
    figures = {name: np.array([figures[name] for figures in found]) for name in names}
    return Samples(figures, np.full((truth.shape[1], rounds), np.nan))


def _sample_artists(artists: Sequence[str], count: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each of n examples is in each of `count` samples: (count, n)."""
    names, group = np.unique(np.asarray(artists), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return np.asarray(drawn[:, group])


def centred_interval(values: Floats, figure: float) -> tuple[float, float]:
    """The range that leaves out 2.5 % of the values on either side, moved as far as their mean is from `figure`.

    Values that are NaN do not count.
    """
    low, high = np.nanquantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]) - np.nanmean(values) + figure
    return float(low), float(high)


def _interval(values: Floats, figure: float) -> tuple[float, float]:
    """The same, kept in [0, 1] if all values are."""
    low, high = centred_interval(values, figure)
    bounded = np.nanmin(values) >= 0 and np.nanmax(values) <= 1
    return (min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)) if bounded else (low, high)


def ratio(part: npt.NDArray[np.number], whole: npt.NDArray[np.number], otherwise: float = np.nan) -> Floats:
    """Element by element `part` / `whole`, and `otherwise` where the whole is 0; both have one shape."""
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
    precision = ratio(hits_so_far, hits_so_far + misses_so_far, 0.0)
    beaten = misses_so_far[:, -1:] - misses_so_far + misses / 2
    n_hits, n_misses = hits_so_far[:, -1], misses_so_far[:, -1]
    area = ratio((hits * beaten).sum(axis=1), n_hits * n_misses)
    return {"PR-AUC-micro": ratio((hits * precision).sum(axis=1), n_hits), "ROC-AUC-micro": area}


def _decision_figures(truth: Truth, decisions: Truth, weights: Weights) -> dict[str, Floats]:
    counts = [weights @ table.astype(np.float32) for table in (truth & decisions, decisions, truth)]
    averages = {"macro": counts, "micro": [table.sum(axis=1, keepdims=True) for table in counts]}
    return {
        f"{name}-{average}": values.mean(axis=1)
        for average, tables in averages.items()
        for name, values in _ratios(*tables).items()
    }


def _calibration_figures(truth: Truth, scores: npt.NDArray[np.floating], weights: Weights) -> dict[str, Floats]:
    bins = score_bins(scores, LOOKED_AT)
    gaps, counts = [], []
    for number in range(BINS):
        inside = bins == number
        gaps.append(weights @ np.where(inside, scores - truth, 0).sum(axis=1, dtype=np.float32))
        counts.append(weights @ inside.sum(axis=1, dtype=np.float32))
    total = weights.sum(axis=1, keepdims=True)
    prior = (weights @ truth.astype(np.float32)) / total
    error = (weights @ np.square(scores - truth, dtype=np.float32)) / total
    skill = 1 - ratio(error, prior * (1 - prior))
    error = ratio(np.abs(gaps).sum(axis=0), np.sum(counts, axis=0))
    return {"ECE": error, "Brier-skill-macro": mean_over(skill.T)}


def _areas(truth: Truth, scores: npt.NDArray[np.floating], weights: Weights) -> tuple[Floats, Floats]:
    """Average precision and ROC-AUC of one tag under each row of `weights` (samples, n); NaN where undefined."""
    order = np.argsort(-scores, kind="stable")
    falling, positive, sorted_weights = -scores[order], truth[order], weights[:, order]
    # For each positive, how many score above it, and how many at least as high.
    above, reached = (np.searchsorted(falling, falling[positive], side) for side in ("left", "right"))
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
