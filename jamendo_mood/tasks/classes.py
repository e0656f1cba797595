"""Classes: one of several for each track, with the probability of each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jamendo_mood.tasks import kind, metrics
from jamendo_mood.tasks.kind import BAR_LEGEND, Evaluated, Kind, Section
from jamendo_mood.tasks.metrics import Array, Bools, Floats, Truth, decision_figures, ratio
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import Picture, shorten
from jamendo_mood.util.process import import_quietly

_LEAST = 1e-7  # a probability of 0 would cost infinitely much


def make_class_loss(name: str, Y: Array, balance: float) -> Callable[[Any, Any], Any]:
    """The loss of a batch of a choice between classes, cross-entropy: the mean over its examples and classes.

    `UsageError` if `name` is neither ``cross-entropy`` nor empty. An example of a class weighs (mean size of a class /
    size of this class) in `Y`, the training targets (n, k), to the power of `balance`.
    """
    if name not in ("", "cross-entropy"):
        raise UsageError(f"unknown loss {name!r} for classes (known: cross-entropy)")
    ops = import_quietly("keras").ops
    sizes = Y.sum(axis=0) + 1
    weights = (sizes.mean() / sizes) ** np.float32(balance)

    def loss(truth: Any, scores: Any) -> Any:
        return ops.mean(truth * weights * -ops.log(ops.clip(scores, _LEAST, 1.0)))

    return loss


def log_likelihood(truth: Truth, scores: Array) -> float:
    """The mean logarithm of the probability of the right class, at most 0."""
    return float(np.log(np.maximum((scores * truth).sum(axis=1, dtype=np.float64), _LEAST)).mean())


def score_classes(truth: Truth, scores: Array, decisions: Truth | None = None) -> dict[str, float]:
    """The headline metrics of a choice between classes; all arrays are (n, k).

    Without `decisions` the highest scores count. ``F-score-macro`` is the mean over classes, as scikit-learn's
    ``f1_score`` with ``macro``; ``accuracy-prior`` is what always naming the most frequent class would reach. Raises
    `DataError` if shapes differ, or a score is not a number.
    """
    decisions = choose_highest(scores) if decisions is None else decisions
    metrics.check(truth, scores, decisions)
    return {
        "accuracy": float((truth & decisions).any(axis=1).mean()),
        "F-score-macro": float(decision_figures(truth, decisions)["F-score"].mean()),
        "accuracy-prior": float(truth.mean(axis=0).max()),
        "log-likelihood": log_likelihood(truth, scores),
    }


def class_rows(truth: Truth, scores: Array, decisions: Bools | None, _: Floats | None) -> dict[str, Any]:
    """Columns of the table of classes: ``positives``, ``prior``, ``decided``, precision, recall and F-score."""
    decisions = choose_highest(scores) if decisions is None else decisions
    return {
        "positives": truth.sum(axis=0),
        "prior": truth.mean(axis=0),
        "decided": decisions.sum(axis=0),
        **decision_figures(truth, decisions),
    }


def choose_highest(scores: Array, _: Floats | None = None) -> Truth:
    """The class with the highest score, the first of equals: (..., k) -> bool of the same shape."""
    return np.asarray(np.arange(scores.shape[-1]) == np.argmax(scores, axis=-1)[..., None])


def decide_by_plurality(decisions: Truth, scores: Array) -> Truth:
    """The class that most taggers decide, of equals the one with the highest mean score: bool (m, n, k) -> (n, k)."""
    votes = decisions.sum(axis=0)
    leading = votes == votes.max(axis=-1, keepdims=True)
    return choose_highest(np.where(leading, scores, -np.inf))


def place_classes(targets: Sequence[str], scores: Array, places: Mapping[str, tuple[float, float]]) -> Array | None:
    """Valence and arousal of tracks: the mean of the classes' places by their probabilities, (..., k) -> (..., 2).

    None if a class has no place: the mean of some would pull all tracks towards these.
    """
    if not places.keys() >= {*targets}:
        return None
    return np.asarray(scores @ np.array([places[name] for name in targets], np.float32), np.float32)


def plot_confusion(evaluation: Evaluated) -> Picture:
    """Rows: the truth, columns: what was decided; coloured by the share of the row, with how many examples it is.

    A class that no example is of has an empty row.
    """
    counts = evaluation.truth.astype(np.intp).T @ evaluation.decisions.astype(np.intp)
    totals = counts.sum(axis=1, keepdims=True)
    percent = 100 * ratio(counts, np.broadcast_to(totals, counts.shape))
    names = [shorten(row["class"]) for row in evaluation.per_target]
    labels = [f"{name} ({total})" for name, total in zip(names, totals.ravel(), strict=True)]
    picture, axes = kind.plot_shares(percent, names, labels, counts)
    axes.set(ylabel="true class (examples)", xlabel="decided class")
    return picture


def plot_classes(evaluation: Evaluated) -> Picture:
    """Precision, recall and F-score of each class, the best F-score at the top, beside its prior; coloured by grade."""
    rows = sorted(evaluation.per_target, key=lambda row: -row["F-score"])
    picture, _ = kind.plot_targets(rows, "class", "F-score", {"precision": ">", "recall": "<"}, "F-score, by its grade")
    return picture


def show(evaluation: Evaluated) -> Iterator[Section]:
    """The sections of a report on classes."""
    caption = [
        "Go along a row: of the examples that are of its class (how many is in brackets), so many, and so many %, "
        "were decided to be of the column's. On the diagonal they are right; a dark cell beside it is a class that "
        "is often taken for another, a column that is dark from top to bottom one that is named too often.",
        "Grey: no example is of the class.",
    ]
    yield "Which classes are taken for which", [plot_confusion(evaluation)], caption
    caption = [
        "The further right a dot, the better the class is recognised. Precision is how many of those named are "
        "right, recall how many of those that are right are named: a class with little precision is named too "
        "often, one with little recall too seldom. The orange mark is the share of the class.",
    ]
    yield "Which classes does it recognise?", [plot_classes(evaluation)], caption
    yield kind.describe_reliability(evaluation, "classes")


KIND = Kind(
    target="class",
    plural="classes",
    columns=("class", "probability", "chosen"),
    activation="softmax",
    make_loss=make_class_loss,
    monitor="log-likelihood",
    watch=log_likelihood,
    # that share of the certainty goes to all classes alike
    smooth=lambda targets, share: np.asarray(targets * (1 - share) + share / targets.shape[1], np.float32),
    start=lambda targets: np.asarray(np.log((targets.sum(axis=0) + 1) / (len(targets) + 1)), np.float32),
    calibrate=lambda _truth, scores, _scale: np.zeros((scores.shape[1], 0)),
    calibrated=lambda scores, _: scores,
    decide=choose_highest,
    score=score_classes,
    rows=class_rows,
    ranked_by="F-score",
    bootstrap=functools.partial(metrics.bootstrap_any, score_classes),
    vote=decide_by_plurality,
    place=lambda task, _, scores, places, of_classes: place_classes(task.targets, scores, {**of_classes, **places}),
    meanings={
        "accuracy": "The share of tracks whose class is named right. Always naming the most frequent class reaches "
        "accuracy-prior.",
        "F-score-macro": "Precision and recall in one, their harmonic mean for each class; the mean over classes, rare "
        "or frequent. 1 is perfect.",
        "accuracy-prior": "The share of the most frequent class: the accuracy of naming it every time.",
        "log-likelihood": "The mean natural logarithm of the probability that the right class is given. 0 is perfect, "
        "lower is worse: -0.69 is one half, on average, and -1.39 a quarter.",
        **kind.CALIBRATION_MEANINGS,
    },
    column_meanings={"class": "its name", **kind.COLUMN_MEANINGS},
    sections=show,
    says="It names the one class with the highest probability.",
    card_metrics=("accuracy", "accuracy-prior", "F-score-macro", "log-likelihood", "ECE", "ECE-luck"),
    choose="Choose a class to see the seconds that carried it.",
    legend=BAR_LEGEND.format("probability", "") + " ★ the highest, which is the class that is chosen.",
    states=("chosen", "", ""),
    footnotes=("* the class with the highest probability", ""),
)
