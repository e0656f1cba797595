"""An `Evaluation` of classes -> figures of which are told apart, and which taken for each other. Needs matplotlib."""

from __future__ import annotations

import numpy as np

from jamendo_mood.evaluation.evaluate import Evaluation
from jamendo_mood.tasks import class_metrics
from jamendo_mood.util.figures import DECIDED, GRADE_STYLES, PRIOR, ROW_HEIGHT, WIDTH, Picture, empty_axes, shorten

CELL = 0.62  # inches a class, high enough for a count and a share below it
MOST_LABELLED = 12  # classes whose cells have numbers
DARK = 0.55  # share from which a cell's text is white


def plot_confusion(evaluation: Evaluation) -> Picture:
    """Rows: the truth, columns: what was decided; coloured by the share of the row, with how many examples it is.

    A class that no example is of has an empty row.
    """
    counts = class_metrics.confusion(evaluation.truth, evaluation.decisions)
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


def plot_classes(evaluation: Evaluation) -> Picture:
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
    axes.set_ylim(len(rows) - 0.3, -0.7)
    axes.set_xlim(0, 1)
    axes.grid(axis="x", color="#e4e9e7")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, columnspacing=1.2, handletextpad=0.3)
    return figure
