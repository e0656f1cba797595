"""An `Evaluation` of values -> figures of how near they come, and how songs are followed. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.evaluation.evaluate import Evaluation
from jamendo_mood.tasks.value_metrics import rank_correlations
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.figures import CONTRAST, DECIDED, PRIOR, WIDTH, Picture, make_picture, shorten

ACROSS = 2  # panels beside each other
PANEL_HEIGHT = 2.6  # inches
GROUPS = 8  # of the truth, whose mean error is drawn
SOLID_POINTS = 150  # so many points are drawn as they are; of more, each is paler
MOST_SONGS = 5
TAU_BINS = np.linspace(-1, 1, 21)

Floats = npt.NDArray[np.floating[Any]]


def plot_scatter(evaluation: Evaluation) -> Picture:
    """Predicted against true values, a panel a target; where they are equal is a line."""
    figure, panels = _make_panels(evaluation)
    for axes, row, true, predicted in panels:
        low, high = _extremes(true, predicted)
        axes.plot([low, high], [low, high], color=PRIOR, linewidth=2, label="where both are equal")
        _draw_points(axes, true, predicted)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="true", ylabel="predicted", aspect="equal")
        axes.set_title(f"{shorten(row['value'])}: {_describe(row)}", fontsize=9, parse_math=False)
    _add_legend(figure)
    return figure


def plot_residuals(evaluation: Evaluation) -> Picture:
    """Errors, predicted less true, against the truth, with their mean in groups of equal number; a panel a target."""
    figure, panels = _make_panels(evaluation)
    for axes, row, true, predicted in panels:
        errors = predicted - true
        _draw_points(axes, true, errors)
        axes.axhline(0, color=PRIOR, linewidth=2, label="no error")
        order = np.array_split(np.argsort(true, kind="stable"), min(GROUPS, len(true)))
        means = [[values[group].mean() for group in order] for values in (true, errors)]
        axes.plot(*means, "o-", color=CONTRAST, markersize=4, label="mean error of a group")
        most = 1.05 * max(float(np.abs(errors).max()), 1e-6)
        axes.set(ylim=(-most, most), xlabel="true", ylabel="predicted - true")
        axes.set_title(f"{shorten(row['value'])}: RMSE {row['RMSE']:.3f}", fontsize=9, parse_math=False)
    _add_legend(figure)
    return figure


def choose_songs(evaluation: Evaluation, count: int = MOST_SONGS) -> tuple[str, ...]:
    """The song that is followed best, the worst, and some between at equal steps of rank, at most `count`; best first.

    By the mean of Kendall's tau over the targets; songs whose curves never change are left out. Of a task that is no
    dynamic one there are none.
    """
    if not evaluation.songs:
        return ()
    taus = rank_correlations(evaluation.truth, evaluation.predictions, evaluation.songs)
    means = {song: own[np.isfinite(own)].mean() for song, own in taus.items() if np.isfinite(own).any()}
    ranked = sorted(means, key=lambda song: -means[song])
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return tuple(ranked[place] for place in places)


def plot_courses(evaluation: Evaluation, songs: Sequence[str] = ()) -> Picture:
    """The truth and the prediction over time, a row a song and a column a target.

    Parameters
    ----------
    evaluation : Evaluation
        Of a dynamic task.
    songs : sequence of str
        Keys of tracks; those of `choose_songs` if there are none.

    Raises
    ------
    UsageError
        The task is no dynamic one, no song's curve changes, or a song is not there.
    """
    chosen = tuple(songs) or choose_songs(evaluation)
    if evaluation.times_s is None or not chosen:
        raise UsageError("no courses to draw: these are no moments of songs, or no song's curve changes")
    missing = [song for song in chosen if song not in evaluation.songs]
    if missing:
        raise UsageError(f"no song {missing[0]!r} in this evaluation")
    taus = rank_correlations(evaluation.truth, evaluation.predictions, evaluation.songs)
    names = np.array(evaluation.songs)
    figure = make_picture(WIDTH, 0.7 + 1.25 * len(chosen))
    grid = figure.subplots(len(chosen), len(evaluation.per_target), sharey="col", squeeze=False)
    for song, line in zip(chosen, grid, strict=True):
        rows = np.flatnonzero(names == song)
        rows = rows[np.argsort(evaluation.times_s[rows], kind="stable")]
        for column, axes in enumerate(line):
            times_s = evaluation.times_s[rows]
            axes.plot(times_s, evaluation.truth[rows, column], color="#1d2623", linewidth=1.3, label="true")
            predicted = evaluation.predictions[rows, column]
            axes.plot(times_s, predicted, color=DECIDED, linewidth=1.6, linestyle="--", label="predicted")
            tau = taus[song][column]
            says = f"tau {tau:.2f}" if np.isfinite(tau) else "never changes"
            axes.set_title(f"{shorten(song, 16)}: {says}", fontsize=8, loc="left", parse_math=False)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, row in zip(grid[-1], evaluation.per_target, strict=True):
        axes.set_xlabel(f"seconds  ({shorten(row['value'])})", fontsize=9, parse_math=False)
    _add_legend(figure)
    return figure


def plot_taus(evaluation: Evaluation) -> Picture:
    """How many songs are followed how well: a histogram of Kendall's tau, a panel a target."""
    taus = np.array(list(rank_correlations(evaluation.truth, evaluation.predictions, evaluation.songs).values()))
    figure, panels = _make_panels(evaluation, 2.0)
    for (axes, row, _, _), own in zip(panels, taus.T, strict=True):
        known = own[np.isfinite(own)]
        axes.hist(known, TAU_BINS, color=DECIDED)
        axes.axvline(0, color=PRIOR, linewidth=2, label="guessing")
        if len(known):
            axes.axvline(known.mean(), color=CONTRAST, linewidth=2, linestyle="--", label="mean")
        axes.set(xlim=(-1, 1), xlabel="Kendall's tau of a song", ylabel="songs")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_title(shorten(row["value"]), fontsize=9, parse_math=False)
    _add_legend(figure)
    return figure


def _make_panels(
    evaluation: Evaluation, height: float = PANEL_HEIGHT
) -> tuple[Picture, list[tuple[Any, Any, Floats, Floats]]]:
    """A picture, and for each target its axes, its row, and its true and predicted values."""
    count = len(evaluation.per_target)
    across = min(count, ACROSS)
    down = -(-count // across)
    figure = make_picture(WIDTH if across > 1 else 3.6, 0.5 + height * down)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count]:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(
        zip(grid[:count], evaluation.per_target, evaluation.truth.T, evaluation.predictions.T, strict=True)
    )


def _draw_points(axes: Any, across: Floats, up: Floats) -> None:
    alpha = float(np.clip(0.8 * np.sqrt(SOLID_POINTS / len(across)), 0.06, 0.8))
    axes.plot(across, up, "o", color=DECIDED, markersize=3.5, alpha=alpha, markeredgewidth=0)


def _add_legend(figure: Picture) -> None:
    """One legend for all panels."""
    pairs = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {label: handle for pair in pairs for handle, label in zip(*pair, strict=True)}
    figure.legend(by_label.values(), by_label.keys(), loc="outside upper left", ncols=3, frameon=False, fontsize=9)


def _extremes(*values: Floats) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _describe(row: Any) -> str:
    return f"CCC {row['CCC']:.2f}, R² {row['R2']:.2f}" if row["CCC"] is not None else "it does not vary"
