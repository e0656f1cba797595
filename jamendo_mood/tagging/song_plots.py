"""A `Prediction` or a `Spectrogram` -> a figure. Needs matplotlib, which comes with the extra ``notebook``."""

from __future__ import annotations

from typing import Any

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.spectrograms import LOG_OFFSET, Spectrogram
from jamendo_mood.tagging.prediction import Prediction
from jamendo_mood.tasks.task import KINDS
from jamendo_mood.util.figures import DECIDED, ROW_HEIGHT, UNDECIDED, Picture, bar_axes, empty_axes, make_picture
from jamendo_mood.util.plaintext import show

MARKED_HZ = (250, 500, 1000, 2000, 4000, 7000)  # on the axis of a spectrogram


def plot_tags(prediction: Prediction, count: int = 10) -> Picture:
    """The highest tags of a track as bars; those that reach their threshold are dark. Classes and values likewise.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    figure, axes = bar_axes(min(count, len(prediction.targets)))
    _draw_tags(axes, prediction, count)
    axes.set_title(show(prediction.title or ""), parse_math=False)  # a dollar sign in it is no formula
    return figure


def _draw_tags(axes: Any, prediction: Prediction, count: int) -> None:
    top = prediction.top(count)[::-1]
    names = [f"{tag} (weak)" if prediction.grade(tag) == "weak" else tag for tag, _, _ in top]
    low, high = scale = prediction.scale or (0.0, 1.0)
    places = range(len(names))
    axes.barh(places, [score - low for _, score, _ in top], left=low, color=[_colour(row[2]) for row in top])
    axes.set_yticks(places, names, parse_math=False)
    for row, (_, score, _) in enumerate(top):
        axes.text(score + 0.01 * (high - low), row, f"{score:.2f}", va="center", fontsize=9)
    axes.set(xlim=(low, high + 0.08 * (high - low)), xlabel=KINDS[prediction.kind].score_axis.format(*scale))


def plot_timeline(prediction: Prediction, count: int = 8) -> Picture:
    """The highest tags of a track over time, as a heat map.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    figure, axes = bar_axes(min(count, len(prediction.targets)))
    _draw_timeline(figure, axes, prediction, count)
    return figure


def _draw_timeline(figure: Picture, axes: Any, prediction: Prediction, count: int) -> None:
    columns = [prediction.targets.index(tag) for tag, _, _ in prediction.top(count)]
    extent = (0.0, prediction.duration_s, len(columns) - 0.5, -0.5)
    scores = prediction.frame_scores[:, columns].T
    low, high = prediction.scale or (0.0, 1.0)
    ends = {"vmin": low, "vmax": high}
    image = axes.imshow(scores, aspect="auto", extent=extent, cmap="viridis", interpolation="nearest", **ends)
    axes.set_yticks(range(len(columns)), [prediction.targets[column] for column in columns], parse_math=False)
    axes.set_xlabel("seconds")
    figure.colorbar(image, ax=axes, label=KINDS[prediction.kind].score_name)


def plot_song(prediction: Prediction, count: int = 10) -> Picture:
    """A song on one picture to take away: its highest tags as bars, and below them over time.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    count = min(count, len(prediction.targets))
    figure = make_picture(8, 2.2 + 2 * ROW_HEIGHT * count)
    upper, lower = figure.subplots(2, 1)
    upper.spines[["top", "right"]].set_visible(False)
    _draw_tags(upper, prediction, count)
    _draw_timeline(figure, lower, prediction, count)
    named = " - ".join(text for text in (prediction.artist, prediction.title) if text)
    upper.set_title(show(named or prediction.source), parse_math=False, loc="left")
    return figure


def plot_spectrogram(spectrogram: Spectrogram, colour: bool = True) -> Picture:
    """The log-mel spectrogram of a song over time, low notes at the bottom; the scale is that of `to_image`.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    figure, axes = empty_axes(11, 3.4)
    start_s, (columns, bands) = spectrogram.start_s, spectrogram.values.shape
    image = axes.imshow(
        spectrogram.values.T,
        aspect="auto",
        origin="lower",
        extent=(start_s, start_s + columns * spectrogram.frame_s, -0.5, bands - 0.5),
        vmin=spectrograms.LOWEST_VALUE,
        vmax=spectrograms.HIGHEST_VALUE,
        cmap=spectrograms.COLOURS if colour else "gray",
    )
    axes.set_yticks([spectrograms.band_of(hz) for hz in MARKED_HZ], [f"{hz:,}" for hz in MARKED_HZ])
    axes.set(xlabel="seconds", ylabel="Hz (mel scale)", xlim=(start_s, start_s + spectrogram.duration_s))
    figure.colorbar(image, ax=axes, label=f"log(magnitude + {LOG_OFFSET})")
    return figure


def _colour(decided: bool) -> str:
    return DECIDED if decided else UNDECIDED
