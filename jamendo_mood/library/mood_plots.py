"""The emotions that were asked for, as curves over time. Needs matplotlib, which comes with the extra ``notebook``."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from jamendo_mood.library.mood_log import Wish
from jamendo_mood.util.figures import Picture

VALENCE, AROUSAL = "#2a7f62", "#f2a33a"
NAMED = 24
"""About the most names of emotions on a picture: those that would lie on each other are left out."""


def plot_history(wishes: Sequence[Wish]) -> Picture:
    """Valence and arousal of what was asked for over time, oldest first, with the names of the emotions above.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    wishes = sorted(wishes, key=lambda wish: wish.time)
    times = [wish.time.astimezone() for wish in wishes]
    figure = Picture(figsize=(9, 4.2), layout="constrained")
    axes: Any = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color="#d5dcd8", linewidth=1, zorder=0)
    for name, colour, line in (("valence", VALENCE, "-"), ("arousal", AROUSAL, "--")):
        values = [getattr(wish, name) for wish in wishes]
        axes.plot(times, values, line, marker="o", markersize=4, color=colour, label=name)
    for time, name in _names(wishes).items():
        axes.annotate(name, (time.astimezone(), 1.05), rotation=60, fontsize=8, annotation_clip=False)
    axes.set(ylim=(-1.05, 1.05), ylabel="-1 unpleasant, calm; 1 pleasant, excited")
    axes.tick_params(axis="x", rotation=30)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _names(wishes: Sequence[Wish]) -> dict[datetime.datetime, str]:
    """What to write at which times: the emotions of a path, which were asked for at one time, in one."""
    names: dict[datetime.datetime, str] = {}
    least = (wishes[-1].time - wishes[0].time) / NAMED
    last = wishes[0].time
    for wish in wishes:
        if wish.time in names:
            names[wish.time] += f" → {wish.emotion}"
        elif not names or wish.time - last >= least:
            names[wish.time], last = wish.emotion, wish.time
    return names
