"""What a choice between classes is judged by: pure functions on ``(n, k)`` arrays, n examples and k classes.

The truth and the decisions are booleans with one True a row, the scores probabilities that sum to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks.metrics import check, decision_figures

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
PerClass = npt.NDArray[np.float64]

_LEAST = 1e-7  # a probability of 0 would cost infinitely much


def log_likelihood(truth: Truth, scores: Array) -> float:
    """The mean logarithm of the probability of the right class, at most 0."""
    return float(np.log(np.maximum((scores * truth).sum(axis=1, dtype=np.float64), _LEAST)).mean())


def accuracy(truth: Truth, decisions: Truth) -> float:
    """The share of examples whose decision is right."""
    return float((truth & decisions).any(axis=1).mean())


def confusion(truth: Truth, decisions: Truth) -> npt.NDArray[np.intp]:
    """How many examples of each class (rows) were decided to be of each (columns): (k, k)."""
    return np.asarray(truth.astype(np.intp).T @ decisions.astype(np.intp))


def score_classes(truth: Truth, scores: Array, decisions: Truth | None = None) -> dict[str, float]:
    """The headline figures of a choice between classes.

    Parameters
    ----------
    truth, decisions : bool array (n, k)
        `decisions` None takes the class with the highest score.
    scores : float array (n, k)

    Returns
    -------
    dict of float
        ``accuracy``, ``F-score-macro`` (the mean over classes, as scikit-learn's ``f1_score`` with ``macro``),
        ``accuracy-prior`` (what always naming the most frequent class would reach) and ``log-likelihood``.

    Raises
    ------
    DataError
        Shapes differ, or a score is not a number.
    """
    decisions = choose_highest(scores) if decisions is None else decisions
    check(truth, scores, decisions)
    return {
        "accuracy": accuracy(truth, decisions),
        "F-score-macro": float(decision_figures(truth, decisions)[2].mean()),
        "accuracy-prior": float(truth.mean(axis=0).max()),
        "log-likelihood": log_likelihood(truth, scores),
    }


def class_rows(truth: Truth, scores: Array, decisions: Truth | None, _: PerClass | None) -> dict[str, npt.NDArray[Any]]:
    """Columns of the table of classes: ``positives``, ``prior``, ``decided``, precision, recall and F-score."""
    decisions = choose_highest(scores) if decisions is None else decisions
    names = ("precision", "recall", "F-score")
    return {
        "positives": truth.sum(axis=0),
        "prior": truth.mean(axis=0),
        "decided": decisions.sum(axis=0),
        **dict(zip(names, decision_figures(truth, decisions), strict=True)),
    }


def choose_highest(scores: Array, _: PerClass | None = None) -> Truth:
    """The class with the highest score, the first of equals: (..., k) -> bool of the same shape."""
    highest = np.argmax(scores, axis=-1)
    return np.asarray(np.arange(scores.shape[-1]) == highest[..., None])
