"""Tables with numbers about songs, read and checked: what the data sets of valence and arousal share.

All functions that read raise `DataError`, naming file, line and value, if a file is missing or damaged.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import Curve, Track, join_artists
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.files import read_columns, read_table

TARGETS = ("valence", "arousal")
ANY = (-math.inf, math.inf)
NAMELESS = ("", "n/a", "unknown", "unknown artist")

Scale = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Ratings:
    """Numbers about songs."""

    songs: tuple[str, ...]
    values: npt.NDArray[np.float64]  #: (songs, columns)


def find_file(root: Path, name: str, folders: Sequence[str]) -> Path:
    """Find a file in the first of `folders` below `root` that has it; `DataError` if none has."""
    for folder in folders:
        if (path := root / folder / name).is_file():
            return path
    tried = ", ".join(str(root / folder) for folder in folders)
    raise DataError(f"{name}: no such file (looked in {tried})")


def read_header(path: Path) -> list[str]:
    """The names of a table's columns, without the spaces around them."""
    return [cell.strip() for cell in read_table(path, ())[0]]


def read_ratings(path: Path, song: str, columns: Mapping[str, Scale], *, repeated: bool = False) -> Ratings:
    """Read numbers of songs from a table, in its order; with `repeated`, a song may have more than one line.

    `song` is the column with the song's number, `columns` are those to read, each with the lowest and highest number
    allowed in it.
    """
    rows = read_columns(path, (song, *columns))
    if not rows:
        raise DataError(f"{path}: the table has no songs")
    values = np.empty((len(rows), len(columns)))
    lines: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        name = row[song].strip()
        if not name.isdecimal():
            raise DataError(f"{path}, line {line}, {song}: {row[song]!r} is not a song's number")
        if lines.setdefault(name, line) != line and not repeated:
            raise DataError(f"{path}, line {line}: song {name} again, it was in line {lines[name]}")
        values[line - 2] = [
            read_number(row[column], scale, f"{path}, line {line}, {column}") for column, scale in columns.items()
        ]
    return Ratings(tuple(row[song].strip() for row in rows), values)


def read_number(cell: str, scale: Scale, where: str) -> float:
    """A number on a scale from a cell; `where` (file, line and column) begins the message if it is none."""
    low, high = scale
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        bounds = "finite number" if scale == ANY else f"number from {low:g} to {high:g}"
        raise DataError(f"{where}: {cell!r} is not a {bounds}")
    return value


def read_texts(path: Path, song: str, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read cells as they are written: by the song's number, then by column."""
    return dict(zip(read_ratings(path, song, {}).songs, read_columns(path, columns), strict=True))


def gather_curves(path: Path, moments: Ratings) -> dict[str, Curve]:
    """Curves by song, from a table with a line per moment: times in its first column, targets in the others.

    Raises `DataError` if the times of a song do not increase.
    """
    lines: dict[str, list[int]] = {}
    for row, song in enumerate(moments.songs):
        lines.setdefault(song, []).append(row)
    curves = {}
    for song, rows in lines.items():
        times, values = np.split(moments.values[rows].astype(np.float32), [1], axis=1)
        curves[song] = Curve(times[:, 0], values)
        for earlier in np.flatnonzero(np.diff(times[:, 0]) <= 0):
            line, now, before = rows[earlier + 1] + 2, times[earlier + 1, 0], times[earlier, 0]
            raise DataError(f"{path}, line {line}: {now:g} s of song {song} comes after {before:g} s")
    return curves


def average_curves(curves: Mapping[str, Curve]) -> Ratings:
    """The mean of each song's curve."""
    return Ratings(tuple(curves), np.array([curve.values.mean(axis=0, dtype=np.float64) for curve in curves.values()]))


def name_artists(written: Mapping[str, str], *, run_on: bool = False) -> dict[str, str]:
    """Artists by song, from what the table says: one name for those that share a performer, ``unknown:SONG`` for none.

    With `run_on` a title may follow the name after a hyphen, as in the tables of MediaEval's songs: ``kevin
    macleod-night on the docks`` is by ``kevin macleod``. A name stays whole if no other shares what comes before its
    hyphen.
    """
    names = {song: " ".join(html.unescape(name).split()).casefold() for song, name in written.items()}
    if run_on:
        heads = {name: name.partition("-")[0].strip() for name in names.values()}
        shared = Counter(heads.values())
        names = {song: heads[name] if shared[heads[name]] > 1 else name for song, name in names.items()}
    joined = join_artists(["" if name in NAMELESS else name for name in names.values()])
    return {song: name or name_unknown(song) for song, name in zip(names, joined, strict=True)}


def join_recordings(artists: Mapping[str, str], same: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Groups by song that no two parts may share: artists, joined if they share a recording.

    `same` are pairs of songs that are one recording; songs that are not in `artists` are ignored.
    """
    groups = dict(artists)
    for one, other in same:
        if one in groups and other in groups:
            joined, old = groups[one], groups[other]
            groups = {song: joined if group == old else group for song, group in groups.items()}
    return groups


def name_unknown(song: str) -> str:
    """The artist of a song whose artist is not known: an artist of its own."""
    return f"unknown:{song}"


def count_nameless(tracks: Sequence[Track]) -> int:
    """How many tracks have no artist's name."""
    return sum(track.artist == name_unknown(track.id) for track in tracks)
