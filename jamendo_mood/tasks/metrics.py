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
    return _per_tag(sklearn_metrics().average_precision_score, truth, scores)


def mean_average_precision(truth: Truth, scores: Array) -> float:
    """PR-AUC-macro: the mean of `average_precision` over the tags that have one; NaN if none has."""
    return mean_of_defined(average_precision(truth, scores))


def roc_auc(truth: Truth, scores: Array) -> PerTag:
    """ROC-AUC of each tag: the chance that a random positive scores above a random negative.

    Parameters, Returns: as `average_precision`.
    """
    return _per_tag(sklearn_metrics().roc_auc_score, truth, scores)


def decision_figures(truth: Truth, decisions: Truth) -> tuple[PerTag, PerTag, PerTag]:
    """Precision, recall and F-score of each tag; 0 where a tag is never decided or never true."""
    # By hand: scikit-learn takes a table of one tag for a choice between two classes, and gives figures of both.
    hits, decided, true = (table.sum(axis=0) for table in (truth & decisions, decisions, truth))
    return _ratio(hits, decided), _ratio(hits, true), _ratio(2 * hits, decided + true)


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


def cooccurrence(Y: npt.NDArray[Any]) -> PerTag:
    """Of the examples that have one tag, the share that also have another.

    Parameters
    ----------
    Y : bool or float array (n, k)
        Which example has which tag: True or 1, False or 0.

    Returns
    -------
    float64 array (k, k)
        Row: the tag they have; column: the other one; in [0, 1]. 1 on the diagonal; a row of NaN for a tag that no
        example has. Not symmetric: most holiday music is for Christmas, most Christmas music is for no other holiday.

    Raises
    ------
    DataError
        `Y` is no table of 0 and 1: scores, say, that were not decided.
    """
    together = _together(Y)
    counts = np.diag(together)[:, None]
    return np.asarray(np.divide(together, counts, out=np.full(together.shape, np.nan), where=counts > 0))


def similar_order(Y: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The tags in an order that puts those next to each other that go together; int (k,).

    Parameters, Raises: as `cooccurrence`.

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
    tree = hierarchy.linkage(distances, "average")
    return np.asarray(hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(tree, distances)), np.intp)


def _together(Y: npt.NDArray[Any]) -> PerTag:
    """How many examples have both tags; (k, k)."""
    flags = to_flags(Y).astype(np.float64)
    return np.asarray(flags.T @ flags)


def to_flags(Y: npt.NDArray[Any]) -> Truth:
    """A table of 0 and 1 as booleans; `DataError` if it is none."""
    if Y.ndim != 2 or not np.isin(Y, (0, 1)).all():
        raise DataError(f"not a table of 0 and 1, example by tag: an array {Y.shape} of {Y.dtype}")
    return Y.astype(bool)


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


def sklearn_metrics() -> Any:
    """scikit-learn's metrics, imported when needed: it brings pandas along, 3 s that `extract` can do without."""
    from sklearn import metrics

    return metrics


def _ratio(part: npt.NDArray[np.intp], whole: npt.NDArray[np.intp]) -> PerTag:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def mean_of_defined(figures: PerTag) -> float:
    """The mean without NaN and infinity; NaN where nothing is left."""
    known = figures[np.isfinite(figures)]
    return float(known.mean()) if len(known) else np.nan


def _per_tag(metric: object, truth: Truth, scores: Array) -> PerTag:
    values = np.full(truth.shape[1], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in np.flatnonzero(is_defined(truth)):
            values[tag] = metric(truth[:, tag], scores[:, tag])  # type: ignore[operator]
    return values
