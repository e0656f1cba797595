"""Pictures drawn with matplotlib (of the extra ``notebook``): their class, colours and empty axes."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

from jamendo_mood.util.plaintext import show

DECIDED, UNDECIDED, PRIOR = "#2a7f62", "#a9b8b2", "#f2a33a"
ROW_HEIGHT = 0.32  # inches a bar
WIDTH = 5.6  # inches of a figure of an evaluation; no more, or a phone shrinks the text until it can't be read
LONGEST_NAME = 30
CONTRAST = "#c2553f"
GRADE_STYLES = {"good": (DECIDED, "o"), "fair": ("#3f8fc4", "s"), "weak": (CONTRAST, "v"), "unknown": ("#7d8984", "X")}


class Picture(Figure):
    """A figure that notebooks show, though pyplot, which would keep it for ever, knows nothing of it."""

    def _repr_png_(self) -> bytes:
        return self.to_png()

    def to_png(self, dpi: float | str = "figure") -> bytes:
        """A PNG file as bytes; `dpi` are the dots an inch."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()


def bar_axes(rows: int, row_height: float = ROW_HEIGHT) -> tuple[Picture, Any]:
    """An empty picture high enough for that many horizontal bars, of `row_height` inches each, and its axes."""
    return empty_axes(7, 1.2 + row_height * rows)


def empty_axes(width: float, height: float) -> tuple[Picture, Any]:
    """An empty picture of a size in inches, and its axes."""
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def shorten(name: str, length: int = LONGEST_NAME) -> str:
    """A name of at most `length` characters."""
    name = show(name)
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"
