"""Figures drawn with matplotlib (of the extra ``notebook``): their colours, sizes and PNG files.

matplotlib is imported with the first figure, so that modules with plots can be imported without it.
"""

from __future__ import annotations

import functools
import io
from typing import Any, Protocol

from jamendo_mood.util.plaintext import show

DECIDED, UNDECIDED, PRIOR = "#2a7f62", "#a9b8b2", "#f2a33a"
TEXT, SOFT, LINE, RAISED = "#16211d", "#55655e", "#d5deda", "#f2f6f4"
PALE, ACCENT, WARM = "#9fb5ac", "#0a7d6c", "#a84e06"
"""The colours of the page, as ``app/static/style.css`` has them where it is light."""
ROW_HEIGHT = 0.32  # inches a bar
WIDTH = 5.6  # inches, of an evaluation's figure; if wider, text is too small on a phone
MAX_NAME_LENGTH = 30
CONTRAST = "#c2553f"
GRADE_STYLES = {"good": (DECIDED, "o"), "fair": ("#3f8fc4", "s"), "weak": (CONTRAST, "v"), "unknown": ("#7d8984", "X")}


class Picture(Protocol):
    """A matplotlib figure that notebooks show. It is not made with pyplot, which would keep it in memory for ever."""

    def to_png(self, dpi: float | str = "figure") -> bytes:
        """A PNG file as bytes; `dpi` is in dots per inch."""

    def __getattr__(self, name: str) -> Any: ...


@functools.cache
def _picture_type() -> Any:
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            return self.to_png()

        def to_png(self, dpi: float | str = "figure") -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=dpi)
            return buffer.getvalue()

    return ShownFigure


def make_picture(width: float, height: float) -> Picture:
    """An empty figure; size in inches."""
    made: Picture = _picture_type()(figsize=(width, height), layout="constrained")
    return made


def empty_axes(width: float, height: float) -> tuple[Picture, Any]:
    """An empty figure, size in inches, and its axes."""
    figure = make_picture(width, height)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def make_panels(count: int, height: float) -> tuple[Picture, list[Any]]:
    """A figure of so many axes, two beside each other, each `height` inches high."""
    across = min(count, 2)
    down = -(-count // across)
    figure = make_picture(WIDTH if across > 1 else 3.6, 0.7 + height * down)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count]:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, [*grid[:count]]


def add_legend(figure: Picture) -> None:
    """One legend for all panels, with each label once."""
    pairs = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {label: handle for pair in pairs for handle, label in zip(*pair, strict=True)}
    figure.legend(by_label.values(), by_label.keys(), loc="outside upper left", ncols=3, frameon=False, fontsize=9)


def shorten(name: str, length: int = MAX_NAME_LENGTH) -> str:
    """A name of at most `length` characters."""
    name = show(name)
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"
