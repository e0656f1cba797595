"""The emotions that the user asked for, remembered on this machine if the user wants that.

A file with a line of JSON for each wish: when, which emotion, its valence and arousal, and which option asked. Neither
tracks nor libraries are recorded. Nothing is written unless the user said so (`playlist --remember`, a box in the
widget), nothing leaves the machine, and `forget` deletes all of it. Several processes may write at a time.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from jamendo_mood.tagging.emotions import EMOTIONS, NEUTRAL, Place, describe_place
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import append, data_folder, disk_errors
from jamendo_mood.util.plaintext import DECIDED, PRIOR, Picture, empty_axes

_KNOWN = {*EMOTIONS, NEUTRAL.name}


@dataclass(frozen=True)
class Wish:
    """An emotion that was asked for."""

    time: datetime.datetime  #: in UTC, to the second
    emotion: str  #: of Plutchik's wheel, or ``neutral``
    #: range [-1, 1]
    valence: float
    arousal: float
    asked_by: str  #: the option's name without its dashes, or ``widget``


def default_path() -> Path:
    """``jamendo-mood/emotions.jsonl`` in the user's data folder: XDG_DATA_HOME, or ~/.local/share."""
    return data_folder() / "emotions.jsonl"


def now() -> datetime.datetime:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def wish_for(place: Place, asked_by: str, time: datetime.datetime, emotion: str | None = None) -> Wish:
    """The wish for a valence and arousal; `emotion` is the name that was asked for, or None to look one up."""
    if emotion is None:
        described = describe_place(*place)
        emotion = NEUTRAL.name if described.face == NEUTRAL.face else described.emotion
    return Wish(time, emotion, round(place.valence, 3), round(place.arousal, 3), asked_by)


def remember(wishes: Sequence[Wish]) -> Path:
    """Add wishes to the file, which only its owner can read; returns its path.

    Raises `DiskFullError` or `UsageError` if the file cannot be written; none of these wishes was.
    """
    path, text = default_path(), "".join(json.dumps(row) + "\n" for row in as_rows(wishes))
    with disk_errors(path, UsageError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        append(path, text.encode(), mode=0o600)
    return path


def read() -> tuple[list[Wish], list[str]]:
    """What was remembered, in the order in which it was written, and a line of text for each line that is not a wish.

    Raises `UsageError` if the file cannot be read; where there is none, nothing was remembered.
    """
    path, wishes, problems = default_path(), [], []
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                wishes.append(_parse(line))
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            what = "it was cut short" if number == len(lines) else "it is not an emotion that was asked for"
            problems.append(f"{path}, line {number} is skipped: {what}")
    return wishes, problems


def _parse(line: bytes) -> Wish:
    row = json.loads(line)
    wish = Wish(**{**row, "time": datetime.datetime.fromisoformat(row["time"])})
    in_range = -1 <= wish.valence <= 1 and -1 <= wish.arousal <= 1
    if wish.emotion not in _KNOWN or not in_range or wish.time.tzinfo is None or not isinstance(wish.asked_by, str):
        raise ValueError
    return replace(wish, time=wish.time.astimezone(datetime.timezone.utc))


def forget() -> bool:
    """Delete all that was remembered; returns whether there was anything.

    Raises `UsageError` if it cannot be deleted.
    """
    path, there = default_path(), default_path().exists()
    try:
        Path(os.path.realpath(path)).unlink(missing_ok=True)  # if it is a link, what was remembered is where it leads
    except OSError as error:
        raise UsageError(f"{path}: cannot be deleted ({error.strerror})") from error
    return there


def to_table(wishes: Sequence[Wish]) -> str:
    """A line per wish, oldest first, in local time."""
    return "".join(
        f"{wish.time.astimezone():%Y-%m-%d %H:%M}  {wish.emotion:14} "
        f"valence {wish.valence:+.2f}  arousal {wish.arousal:+.2f}  {plaintext.show(wish.asked_by)}\n"
        for wish in wishes
    )


def to_json(wishes: Sequence[Wish]) -> str:
    """A list with an object per wish, times in UTC."""
    return plaintext.to_json(as_rows(wishes)) + "\n"


def to_csv(wishes: Sequence[Wish]) -> str:
    """A table for spreadsheets, times in UTC."""
    return plaintext.to_csv([field.name for field in fields(Wish)], [row.values() for row in as_rows(wishes)])


def as_rows(wishes: Sequence[Wish]) -> list[dict[str, Any]]:
    """Wishes as plain values, times as ISO 8601 in UTC."""
    return [{**asdict(wish), "time": wish.time.isoformat()} for wish in wishes]


FORMATS: dict[str, Callable[[Sequence[Wish]], str]] = {"table": to_table, "json": to_json, "csv": to_csv}
"""Formats for a history."""


MAX_NAMES = 24  #: about so many names of emotions fit on a figure; others are left out


def plot_history(wishes: Sequence[Wish]) -> Picture:
    """Valence and arousal of what was asked for over time, oldest first, with the names of the emotions above."""
    wishes = sorted(wishes, key=lambda wish: wish.time)
    times = [wish.time.astimezone() for wish in wishes]
    figure, axes = empty_axes(9, 4.2)
    axes.axhline(0, color="#d5dcd8", linewidth=1, zorder=0)
    for name, colour, line in (("valence", DECIDED, "-"), ("arousal", PRIOR, "--")):
        values = [getattr(wish, name) for wish in wishes]
        axes.plot(times, values, line, marker="o", markersize=4, color=colour, label=name)
    for time, name in _names(wishes).items():
        axes.annotate(name, (time.astimezone(), 1.05), rotation=60, fontsize=8, annotation_clip=False)
    axes.set(ylim=(-1.05, 1.05), ylabel="-1 unpleasant, calm; 1 pleasant, excited")
    axes.tick_params(axis="x", rotation=30)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _names(wishes: Sequence[Wish]) -> dict[datetime.datetime, str]:
    """Names by time: emotions asked for at the same time, as a path, are one name."""
    names: dict[datetime.datetime, str] = {}
    least = (wishes[-1].time - wishes[0].time) / MAX_NAMES
    for wish in wishes:
        if wish.time in names:
            names[wish.time] += f" → {wish.emotion}"
        elif not names or wish.time - max(names) >= least:
            names[wish.time] = wish.emotion
    return names
