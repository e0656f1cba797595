"""A `Prediction` -> a figure. Needs matplotlib, which comes with the extra ``notebook``."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

from jamendo_mood.prediction import Prediction

DECIDED, UNDECIDED, PRIOR = "#2a7f62", "#a9b8b2", "#f2a33a"
ROW_HEIGHT = 0.32  # inches a bar


class Picture(Figure):
    """A figure that notebooks show, though pyplot, which would keep it for ever, knows nothing of it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def plot_tags(prediction: Prediction, count: int = 10) -> Picture:
    """The highest tags of a track as bars; those that reach their threshold are dark.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    top = prediction.top(count)[::-1]
    figure, axes = bar_axes(len(top))
    names = [f"{tag} (weak)" if prediction.grade(tag) == "weak" else tag for tag, _, _ in top]
    axes.barh(names, [score for _, score, _ in top], color=[_colour(row[2]) for row in top])
    for row, (_, score, _) in enumerate(top):
        axes.text(score + 0.01, row, f"{score:.2f}", va="center", fontsize=9)
    axes.set(xlim=(0, 1.08), xlabel="score (dark: reaches the tag's threshold)")
    axes.set_title(prediction.title or "", parse_math=False)  # a dollar sign in it is no formula
    return figure


def plot_timeline(prediction: Prediction, count: int = 8) -> Picture:
    """The highest tags of a track over time, as a heat map.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    columns = [prediction.targets.index(tag) for tag, _, _ in prediction.top(count)]
    figure, axes = bar_axes(len(columns))
    extent = (0.0, prediction.duration_s, len(columns) - 0.5, -0.5)
    scores = prediction.frame_scores[:, columns].T
    image = axes.imshow(scores, aspect="auto", extent=extent, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axes.set_yticks(range(len(columns)), [prediction.targets[column] for column in columns])
    axes.set_xlabel("seconds")
    figure.colorbar(image, ax=axes, label="score")
    return figure


def bar_axes(rows: int, row_height: float = ROW_HEIGHT) -> tuple[Picture, Any]:
    """An empty picture high enough for that many horizontal bars, of `row_height` inches each, and its axes."""
    return empty_axes(7, 1.2 + row_height * rows)


def empty_axes(width: float, height: float) -> tuple[Picture, Any]:
    """An empty picture of a size in inches, and its axes."""
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(decided: bool) -> str:
    return DECIDED if decided else UNDECIDED
