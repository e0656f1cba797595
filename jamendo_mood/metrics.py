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

from jamendo_mood.errors import DataError

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
PerTag = npt.NDArray[np.float64]


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
        positives: the PR-AUC of chance), and with `decisions` precision, recall and F-score, macro and micro.

    Raises
    ------
    DataError
        Shapes differ, a score is not a number, or no tag has both positives and negatives.
    """
    check(truth, scores, decisions)
    usable = is_defined(truth)
    figures = {
        "PR-AUC-macro": float(np.nanmean(average_precision(truth, scores))),
        "ROC-AUC-macro": float(np.nanmean(roc_auc(truth, scores))),
        "PR-AUC-micro": float(_sklearn().average_precision_score(truth.ravel(), scores.ravel())),
        "ROC-AUC-micro": float(_sklearn().roc_auc_score(truth.ravel(), scores.ravel())),
        "prior-macro": float(truth.mean(axis=0)[usable].mean()),
    }
    if decisions is not None:
        macro = decision_figures(truth, decisions)
        micro = decision_figures(truth.reshape(-1, 1), decisions.reshape(-1, 1))
        for average, values in (("macro", macro), ("micro", micro)):
            for name, value in zip(("precision", "recall", "F-score"), values, strict=True):
                figures[f"{name}-{average}"] = float(value.mean())
    return figures


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


def _per_tag(metric: object, truth: Truth, scores: Array) -> PerTag:
    values = np.full(truth.shape[1], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in np.flatnonzero(is_defined(truth)):
            values[tag] = metric(truth[:, tag], scores[:, tag])  # type: ignore[operator]
    return values
