"""What a tagger is judged by: pure functions on ``(n, k)`` arrays, n examples and k tags.

PR-AUC is average precision (no interpolation), as in the MediaEval "Emotion and Theme Recognition in Music" task, whose
official names are used throughout. A tag without a positive, or without a negative, has no PR-AUC or ROC-AUC: it is NaN
in the table of tags and left out of the macro averages.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import DataError

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
PerTag = npt.NDArray[np.float64]

HIT_COUNTS = (1, 3, 5)
BINS = 15  # of a calibration error
LOOKED_AT = 0.1  # scores above it are those that a user looks at
LOWER_IS_BETTER = frozenset({"ECE", "RMSE"})

GRADES = ("unknown", "weak", "fair", "good")
"""How far a tag can be relied on."""

FEWEST_POSITIVES, GOOD_PRECISION = 5, 0.25


def average_precision(truth: Truth, scores: Array) -> PerTag:
    """PR-AUC of each tag.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)
        Higher means more likely; any scale.

    Returns
    -------
    float64 array (k,)
        In [0, 1]; NaN for a tag that all examples have, or none.

    References
    ----------
    scikit-learn's ``average_precision_score``: the sum of precision times the step in recall.
    """
    return _per_tag(_sklearn().average_precision_score, truth, scores)


def mean_average_precision(truth: Truth, scores: Array) -> float:
    """PR-AUC-macro: the mean of `average_precision` over the tags that have one; NaN if none has."""
    return _mean(average_precision(truth, scores))


def roc_auc(truth: Truth, scores: Array) -> PerTag:
    """ROC-AUC of each tag: the chance that a random positive scores above a random negative.

    Parameters, Returns: as `average_precision`.
    """
    return _per_tag(_sklearn().roc_auc_score, truth, scores)


def score_tags(truth: Truth, scores: Array, decisions: Truth | None = None) -> dict[str, float]:
    """The headline figures of a multi-label tagger, by their official names.

    Parameters
    ----------
    truth, decisions : bool array (n, k)
    scores : float array (n, k)

    Returns
    -------
    dict of float
        ``PR-AUC-macro``, ``ROC-AUC-macro``, ``PR-AUC-micro``, ``ROC-AUC-micro``, ``prior-macro`` (the mean share of
        positives: the PR-AUC of chance), ``hit@1``, ``hit@3``, ``hit@5`` (of the examples that have a tag, the share
        with a right one among so many highest), and with `decisions` precision, recall and F-score, macro and micro.

    Raises
    ------
    DataError
        Shapes differ, a score is not a number, or no tag has both positives and negatives.
    """
    check(truth, scores, decisions)
    usable = is_defined(truth)
    figures = {
        "PR-AUC-macro": mean_average_precision(truth, scores),
        "ROC-AUC-macro": float(np.nanmean(roc_auc(truth, scores))),
        "PR-AUC-micro": float(_sklearn().average_precision_score(truth.ravel(), scores.ravel())),
        "ROC-AUC-micro": float(_sklearn().roc_auc_score(truth.ravel(), scores.ravel())),
        "prior-macro": float(truth.mean(axis=0)[usable].mean()),
    }
    tagged = truth.any(axis=1)
    figures |= {f"hit@{count}": float(hits_at(truth, scores, count)[tagged].mean()) for count in HIT_COUNTS}
    if decisions is not None:
        macro = decision_figures(truth, decisions)
        micro = decision_figures(truth.reshape(-1, 1), decisions.reshape(-1, 1))
        for average, values in (("macro", macro), ("micro", micro)):
            for name, value in zip(("precision", "recall", "F-score"), values, strict=True):
                figures[f"{name}-{average}"] = float(value.mean())
    return figures


def tag_rows(truth: Truth, scores: Array, decisions: Truth | None, thresholds: PerTag | None) -> dict[str, Any]:
    """Columns of the table of tags, each (k,); those of decisions and thresholds where these are known."""
    columns: dict[str, Any] = {
        "positives": truth.sum(axis=0),
        "prior": truth.mean(axis=0),
        "PR-AUC": average_precision(truth, scores),
        "ROC-AUC": roc_auc(truth, scores),
    }
    if decisions is not None:
        names = ("precision", "recall", "F-score")
        columns |= dict(zip(names, decision_figures(truth, decisions), strict=True))
    return columns if thresholds is None else {**columns, "threshold": thresholds}


def decision_figures(truth: Truth, decisions: Truth) -> tuple[PerTag, PerTag, PerTag]:
    """Precision, recall and F-score of each tag; 0 where a tag is never decided or never true."""
    # By hand: scikit-learn takes a table of one tag for a choice between two classes, and gives figures of both.
    hits, decided, true = (table.sum(axis=0) for table in (truth & decisions, decisions, truth))
    return _ratio(hits, decided), _ratio(hits, true), _ratio(2 * hits, decided + true)


def best_thresholds(truth: Truth, scores: Array) -> PerTag:
    """The threshold of each tag with the highest F-score on these examples, to be applied as ``score >= threshold``.

    It lies half-way between the lowest score that is to be decided and the next below, which decides the same here and
    leaves room on both sides elsewhere. A tag without positives can't be tuned: its threshold is infinite, so that it
    is never decided.
    """
    thresholds = np.full(truth.shape[1], np.inf)
    for tag in np.flatnonzero(truth.any(axis=0)):
        precision, recall, candidates = _sklearn().precision_recall_curve(truth[:, tag], scores[:, tag])
        total = precision + recall
        f_score = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        best = int(np.argmax(f_score[:-1]))
        lowest, below = candidates[best], candidates[max(best - 1, 0)]
        halfway = below + (lowest - below) / 2  # in the precision of the scores, where it may not exist
        thresholds[tag] = halfway if halfway > below else lowest
    return thresholds


def score_calibration(truth: Truth, scores: Array) -> dict[str, float]:
    """How far scores can be taken at their word.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)
        Range [0, 1].

    Returns
    -------
    dict of float
        ``ECE``, the `calibration_error` of all scores above 0.1 (lower is better), and ``Brier-skill-macro``, the mean
        of `brier_skill`. A figure that is not defined is left out.
    """
    figures = {
        "ECE": calibration_error(truth, scores, LOOKED_AT),
        "Brier-skill-macro": _mean(brier_skill(truth, scores)),
    }
    return {name: figure for name, figure in figures.items() if np.isfinite(figure)}


def calibration_error(truth: Truth, scores: Array, above: float = 0.0) -> float:
    """Expected calibration error: how far scores lie from the share of positives among equal ones, on average.

    All tags are pooled, and the scores above `above` are put into at most 15 bins of equal counts.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)
        Range [0, 1].
    above : float
        Most scores of rare tags are near 0 and right; those above 0.1, say, are the ones that a user looks at.

    Returns
    -------
    float
        In [0, 1]; NaN if there is no such score.

    References
    ----------
    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    mean_score, share, count = reliability_curve(truth, scores, above)
    return float(np.average(np.abs(mean_score - share), weights=count)) if len(count) else np.nan


def reliability_curve(truth: Truth, scores: Array, above: float = 0.0) -> tuple[PerTag, PerTag, PerTag]:
    """Mean score, share of positives and count of each bin of `calibration_error`, from low scores to high."""
    bins = score_bins(scores, above)
    used = bins >= 0
    count = np.bincount(bins[used], minlength=1).astype(float)
    filled = count > 0
    total, positive = (np.bincount(bins[used], values[used], minlength=1) for values in (scores, truth))
    return total[filled] / count[filled], positive[filled] / count[filled], count[filled]


def score_bins(scores: Array, above: float) -> npt.NDArray[np.intp]:
    """The bin of each score, 0 ... 14, of the same shape as `scores`; -1 for one that is not above `above`."""
    used = scores > above
    values = scores[used]
    bins = np.full(scores.shape, -1)
    if len(values):
        bins[used] = np.searchsorted(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]), values)
    return bins


def brier_skill(truth: Truth, scores: Array) -> PerTag:
    """Brier skill of each tag: how much better its scores are than its prior, in squared error.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)
        Range [0, 1].

    Returns
    -------
    float64 array (k,)
        1 for perfect scores, 0 for the constant prior, less for worse; NaN where all examples have the tag, or none.
    """
    prior = truth.mean(axis=0)
    error = np.square(scores - truth).mean(axis=0, dtype=np.float64)
    return np.where(is_defined(truth), 1 - error / np.maximum(prior * (1 - prior), 1e-12), np.nan)


def grade_tags(truth: Truth, scores: Array) -> tuple[str, ...]:
    """How far each tag can be relied on, one of `GRADES`, by average precision against the prior and the positives.

    The average precision is lowered by one standard error first. ``weak`` is what then stays below twice the prior,
    ``good`` what reaches 0.25, ``unknown`` a tag with fewer than 5 positives.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)

    References
    ----------
    Boyd et al., "Area under the Precision-Recall Curve: Point Estimates and Confidence Intervals", ECML 2013: the
    binomial standard error.
    """
    positives, prior = truth.sum(axis=0), truth.mean(axis=0)
    precision = np.nan_to_num(average_precision(truth, scores))
    variance = np.maximum(precision * (1 - precision), 0) / np.maximum(positives, 1)
    low = precision - np.sqrt(variance)
    floor = np.minimum(2 * prior, (1 + prior) / 2)  # for a common tag, half of what is left above the prior
    known = is_defined(truth) & (positives >= FEWEST_POSITIVES)
    chosen = [~known, low < floor, low < GOOD_PRECISION, known]
    return tuple(np.select(chosen, GRADES, "").tolist())


def hits_at(truth: Truth, scores: Array, count: int) -> npt.NDArray[np.bool_]:
    """For each example, whether one of its `count` highest tags is right; bool (n,). Ties count against it."""
    best_right = np.where(truth, scores, -np.inf).max(axis=1, keepdims=True)
    wrong_before = (~truth & (scores >= best_right)).sum(axis=1)
    return np.asarray(truth.any(axis=1) & (wrong_before < count))


def is_defined(truth: Truth) -> npt.NDArray[np.bool_]:
    """For each tag, whether it has both positives and negatives; bool (k,)."""
    return np.asarray(truth.any(axis=0) & ~truth.all(axis=0))


def check(truth: Truth, scores: Array, decisions: Truth | None = None) -> None:
    """Raise `DataError` unless the arrays can be compared: same 2-D shape, finite scores, something to measure."""
    for name, array in (("predictions", scores), ("decisions", decisions)):
        if array is not None and array.shape != truth.shape:
            raise DataError(f"{name} have the shape {array.shape}, the truth has {truth.shape}")
    if truth.ndim != 2 or truth.dtype != np.bool_:
        raise DataError(f"the truth must be a boolean table (examples, tags), not {truth.dtype} {truth.shape}")
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise DataError(f"{len(bad)} of {len(truth)} rows of the predictions hold NaN or infinity, first row {bad[0]}")
    if not is_defined(truth).any():
        raise DataError(f"no tag among {truth.shape[1]} has both positives and negatives in {len(truth)} examples")


def _sklearn() -> Any:
    """scikit-learn's metrics, imported when needed: it brings pandas along, 3 s that `extract` can do without."""
    from sklearn import metrics

    return metrics


def _ratio(part: npt.NDArray[np.intp], whole: npt.NDArray[np.intp]) -> PerTag:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _mean(figures: PerTag) -> float:
    known = figures[np.isfinite(figures)]
    return float(known.mean()) if len(known) else np.nan


def _per_tag(metric: object, truth: Truth, scores: Array) -> PerTag:
    values = np.full(truth.shape[1], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in np.flatnonzero(is_defined(truth)):
            values[tag] = metric(truth[:, tag], scores[:, tag])  # type: ignore[operator]
    return values
