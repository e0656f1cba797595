"""Classes: one of several for each track, with the probability of each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks import metrics
from jamendo_mood.tasks.calibration import describe_reliability, score_calibration
from jamendo_mood.tasks.kind import BAR_LEGEND, Array, CardWords, Evaluated, Kind, PageWords, ReportWords, Section
from jamendo_mood.tasks.metrics import Truth, check, decision_figures
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import DECIDED, GRADE_STYLES, PRIOR, ROW_HEIGHT, WIDTH, Picture, empty_axes, shorten
from jamendo_mood.util.process import import_quietly

PerClass = npt.NDArray[np.float64]
_LEAST = 1e-7  # a probability of 0 would cost infinitely much
CELL = 0.62  # inches a class, high enough for a count and a share below it
MOST_LABELLED = 12  # classes whose cells have numbers
DARK = 0.55  # share from which a cell's text is white


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


def smooth_classes(targets: Array, share: float) -> Array:
    """That share of the certainty goes to all classes alike."""
    return np.asarray(targets * (1 - share) + share / targets.shape[1], np.float32)


def log_likelihood(truth: Truth, scores: Array) -> float:
    """The mean logarithm of the probability of the right class, at most 0."""
    return float(np.log(np.maximum((scores * truth).sum(axis=1, dtype=np.float64), _LEAST)).mean())


def confusion(truth: Truth, decisions: Truth) -> npt.NDArray[np.intp]:
    """How many examples of each class (rows) were decided to be of each (columns): (k, k)."""
    return np.asarray(truth.astype(np.intp).T @ decisions.astype(np.intp))


def score_classes(truth: Truth, scores: Array, decisions: Truth | None = None) -> dict[str, float]:
    """The headline metrics of a choice between classes; all arrays are (n, k).

    Without `decisions` the highest scores count. ``F-score-macro`` is the mean over classes, as scikit-learn's
    ``f1_score`` with ``macro``; ``accuracy-prior`` is what always naming the most frequent class would reach. Raises
    `DataError` if shapes differ, or a score is not a number.
    """
    decisions = choose_highest(scores) if decisions is None else decisions
    check(truth, scores, decisions)
    return {
        "accuracy": float((truth & decisions).any(axis=1).mean()),
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
    counts = confusion(evaluation.truth, evaluation.decisions)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    names = [shorten(row["class"]) for row in evaluation.per_target]
    side = max(2.4, CELL * len(names) if len(names) <= MOST_LABELLED else 0.2 * len(names))
    margin = 0.7 + 0.075 * max(map(len, names))
    figure, axes = empty_axes(side + margin, side + margin + 0.3)
    axes.imshow(shares, vmin=0, vmax=1, cmap="YlGnBu", interpolation="nearest")
    axes.set_facecolor("#cccccc")
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 4 else 0, parse_math=False)
    labels = [f"{name} ({total})" for name, total in zip(names, totals.ravel(), strict=True)]
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    axes.tick_params(labelsize=9, length=0)
    axes.set(ylabel="true class (examples)", xlabel="decided class")
    if len(names) <= MOST_LABELLED:
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                text, colour = f"{counts[row, column]}\n{100 * share:.0f} %", "white" if share > DARK else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    else:
        figure.colorbar(axes.images[0], ax=axes, shrink=0.6, label="share of the true class")
    return figure


def plot_classes(evaluation: Evaluated) -> Picture:
    """Precision, recall and F-score of each class, the best F-score at the top, beside its prior; coloured by grade."""
    rows = sorted(evaluation.per_target, key=lambda row: -row["F-score"])
    places = np.arange(len(rows))
    figure, axes = empty_axes(WIDTH, 1.5 + ROW_HEIGHT * len(rows))
    ends = np.array([[row["precision"], row["recall"]] for row in rows])
    axes.hlines(places, ends.min(axis=1), ends.max(axis=1), color="#c9d4cf", linewidth=1.5)
    for name, marker in (("precision", ">"), ("recall", "<")):
        values = [row[name] for row in rows]
        axes.plot(values, places, marker, color="#7d8984", markersize=6, clip_on=False, label=name)
    for grade, (colour, marker) in GRADE_STYLES.items():
        of = [number for number, row in enumerate(rows) if row.get("grade") == grade]
        if of:
            label = f"F-score ({grade})"
            axes.plot([rows[number]["F-score"] for number in of], of, marker, color=colour, clip_on=False, label=label)
    if not any("grade" in row for row in rows):
        axes.plot([row["F-score"] for row in rows], places, "o", color=DECIDED, clip_on=False, label="F-score")
    style = {"color": PRIOR, "markersize": 10, "markeredgewidth": 2.5, "clip_on": False, "label": "prior"}
    axes.plot([row["prior"] for row in rows], places, "|", **style)
    axes.set_yticks(places, [f"{shorten(row['class'])} ({row['positives']})" for row in rows], parse_math=False)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.3, -0.7), axisbelow=True)
    axes.grid(axis="x", color="#e4e9e7")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, columnspacing=1.2, handletextpad=0.3)
    return figure


def show(evaluation: Evaluated) -> Iterator[Section]:
    """The sections of a report on classes."""
    caption = [
        "Go along a row: of the examples that are of its class (how many is in brackets), so many, and so many %, "
        "were decided to be of the column's. On the diagonal they are right; a dark cell beside it is a class that "
        "is often taken for another, a column that is dark from top to bottom one that is named too often.",
        "Grey: no example is of the class.",
    ]
    yield Section("Which classes are taken for which", [plot_confusion(evaluation)], caption)
    caption = [
        "The further right a dot, the better the class is recognised. Precision is how many of those named are "
        "right, recall how many of those that are right are named: a class with little precision is named too "
        "often, one with little recall too seldom. The orange mark is the share of the class.",
    ]
    yield Section("Which classes does it recognise?", [plot_classes(evaluation)], caption)
    looked_at = "On the right are those above 0.1 alone: of classes that come into question."
    yield describe_reliability(evaluation, "classes", looked_at)


CARD = CardWords(
    title="Mood classifier",
    says="It names the one class with the highest probability.",
    chosen="Epochs were",
    validated="its best epoch chosen on",
    metrics={
        "accuracy": "share of tracks whose class is named right",
        "accuracy-prior": "what always naming the most frequent class would reach",
        "F-score-macro": "precision and recall in one, mean over the classes",
        "log-likelihood": "mean logarithm of the right class's probability; 0 is perfect",
        "ECE": "how far probabilities above 0.1 are from the share that is right; lower is better",
    },
    counted="In brackets: how many training tracks are of the class.",
)

PAGE = PageWords(
    choose="Choose a class to see the seconds that carried it.",
    carried="was carried most by",
    nothing="lies over the whole song, or hardly in it",
    legend=BAR_LEGEND.format("probability", "") + " ★ the highest, which is the class that is chosen.",
    states=("chosen", "", ""),
)

FIGURES = {
    "accuracy": "The share of tracks whose class is named right. Always naming the most frequent class reaches "
    "accuracy-prior.",
    "F-score-macro": "Precision and recall in one, their harmonic mean for each class; the mean over classes, rare "
    "or frequent. 1 is perfect.",
    "accuracy-prior": "The share of the most frequent class: the accuracy of naming it every time.",
    "log-likelihood": "The mean natural logarithm of the probability that the right class is given. 0 is perfect, "
    "lower is worse: -0.69 is one half, on average, and -1.39 a quarter.",
    "ECE": "How far probabilities above 0.1 are, on average, from the share of them that is right. 0 is perfect, "
    "lower is better.",
    "Brier-skill-macro": "How much closer probabilities come to the truth, in squared error, than the share of "
    "each class for every track; the mean over classes. 1 is perfect, 0 is no better than that, below 0 is worse.",
}
"""The headline metrics, each in a sentence or two."""

COLUMNS = {
    "class": "its name",
    "grade": "how far it can be relied on by these tracks, as explained at the top",
    "positives": "tracks that are of it",
    "artists": "how many artists these are by",
    "prior": "the share of all tracks that are of it",
    "decided": "tracks that it is named for",
    "precision": "of the tracks that it is named for, the share that is of it",
    "recall": "of the tracks that are of it, the share that it is named for",
    "F-score": "the harmonic mean of precision and recall",
    "ECE-all": "how far its probabilities, all of them, are from the share that is right; lower is better",
    "Brier-skill": "how much better its probabilities are, in squared error, than its prior for every track; 0 is "
    "no better",
}
"""The columns of the table of targets, in order, each in a few words."""

KIND = Kind(
    target="class",
    plural="classes",
    columns=("class", "probability", "chosen"),
    on_scale=False,
    activation="softmax",
    make_loss=make_class_loss,
    to_truth=metrics.is_positive,
    is_defined=metrics.is_defined,
    monitor="log-likelihood",
    watch=log_likelihood,
    smooth=smooth_classes,
    start=lambda targets: np.asarray(np.log((targets.sum(axis=0) + 1) / (len(targets) + 1)), np.float32),
    calibrate=lambda _truth, scores, _scale: np.zeros((scores.shape[1], 0)),
    calibrated=lambda scores, _: scores,
    choose_thresholds=lambda _, scores: np.zeros(scores.shape[1]),
    decide=choose_highest,
    grade=metrics.grade_tags,
    score=score_classes,
    check_calibration=score_calibration,
    rows=class_rows,
    ranked_by="F-score",
    bootstrap=functools.partial(metrics.bootstrap_any, score_classes),
    vote=decide_by_plurality,
    place=lambda task, _, scores, places, of_classes: place_classes(task.targets, scores, {**of_classes, **places}),
    place_source="from the classes",
    card=CARD,
    page=PAGE,
    report=ReportWords(FIGURES, COLUMNS, show),
    score_name="probability",
    footnotes=("* the class with the highest probability", ""),
)
