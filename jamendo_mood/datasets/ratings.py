"""Ratings of songs, read from tables and checked: what the data sets of valence and arousal have in common."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import Curve, Track, join_credits
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.untrusted import read_columns, read_table

TARGETS = ("valence", "arousal")
ANY = (-math.inf, math.inf)
NAMELESS = ("", "n/a", "unknown", "unknown artist")

Scale = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Ratings:
    """Numbers about songs.

    Attributes
    ----------
    songs : tuple of str (n,)
    values : float64 array (n, columns)
    """

    songs: tuple[str, ...]
    values: npt.NDArray[np.float64]

    def to_float32(self) -> npt.NDArray[np.float32]:
        """The values in the precision of targets and features."""
        return self.values.astype(np.float32)


def find_file(root: Path, name: str, folders: Sequence[str]) -> Path:
    """Find a file in the first of `folders` below `root` that has it.

    Raises
    ------
    DataError
        None has it.
    """
    for folder in folders:
        if (path := root / folder / name).is_file():
            return path
    tried = ", ".join(str(root / folder) for folder in folders)
    raise DataError(f"{name}: no such file (looked in {tried})")


def read_header(path: Path) -> list[str]:
    """The names of a table's columns, without spaces around.

    Raises
    ------
    DataError
        The file is missing or is no table.
    """
    rows = read_table(path, ())
    return [cell.strip() for cell in rows[0]]


def read_ratings(path: Path, song: str, columns: Mapping[str, Scale], *, repeated: bool = False) -> Ratings:
    """Read numbers of songs from a table, in its order.

    Parameters
    ----------
    path : Path
    song : str
        The column with a song's number.
    columns : mapping of str to (float, float)
        The columns that are wanted, with the least and greatest number that may be in them.
    repeated : bool
        Whether a song may have more than one line.

    Raises
    ------
    DataError
        The table is missing or damaged, or it holds what is not a number on its scale, what is no song's number, or a
        song twice; with line and value.
    """
    rows = read_columns(path, (song, *columns))
    if not rows:
        raise DataError(f"{path}: the table has no songs")
    values = np.empty((len(rows), len(columns)))
    lines: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        name = _read_song(row[song], f"{path}, line {line}, {song}")
        if lines.setdefault(name, line) != line and not repeated:
            raise DataError(f"{path}, line {line}: song {name} again, it was in line {lines[name]}")
        values[line - 2] = [
            _read_number(row[column], scale, f"{path}, line {line}, {column}") for column, scale in columns.items()
        ]
    return Ratings(tuple(row[song].strip() for row in rows), values)


def gather_curves(path: Path, moments: Ratings) -> dict[str, Curve]:
    """Curves of songs from a table with a line for each moment: times in its first column, values in the others.

    Raises
    ------
    DataError
        The times of a song do not rise.
    """
    lines: dict[str, list[int]] = {}
    for row, song in enumerate(moments.songs):
        lines.setdefault(song, []).append(row)
    curves = {}
    for song, rows in lines.items():
        times, values = np.split(moments.values[rows].astype(np.float32), [1], axis=1)
        curves[song] = Curve(times[:, 0], values)
        for place in np.flatnonzero(np.diff(times[:, 0]) <= 0):
            line, now, before = rows[place + 1] + 2, times[place + 1, 0], times[place, 0]
            raise DataError(f"{path}, line {line}: {now:g} s of song {song} comes after {before:g} s")
    return curves


def average_curves(curves: Mapping[str, Curve]) -> Ratings:
    """One line a song: the means over its curve."""
    return Ratings(tuple(curves), np.array([curve.values.mean(axis=0, dtype=np.float64) for curve in curves.values()]))


def name_artists(written: Mapping[str, str], *, run_on: bool = False) -> dict[str, str]:
    """Artists by song, those that share a performer by one name, those without a name ``unknown:SONG``.

    Parameters
    ----------
    written : mapping of str to str
        Names by song, as a table has them.
    run_on : bool
        Whether names may run on after a hyphen, as in the tables of MediaEval's songs: ``kevin macleod-night on the
        docks`` is by ``kevin macleod``. A name is left as it is where no other shares what comes before its hyphen.
    """
    names = {song: " ".join(html.unescape(name).split()).casefold() for song, name in written.items()}
    if run_on:
        names = _cut_run_on(names)
    joined = join_credits(["" if name in NAMELESS else name for name in names.values()])
    return {song: name or name_unknown(song) for song, name in zip(names, joined, strict=True)}


def join_recordings(artists: Mapping[str, str], same: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Groups by song that no two parts may share: artists, joined where they have one recording between them.

    Parameters
    ----------
    artists : mapping of str to str
        By song.
    same : sequence of (str, str)
        Pairs of songs that are one recording; those that `artists` lacks do not count.
    """
    groups = dict(artists)
    for one, other in same:
        if one in groups and other in groups:
            joined, old = groups[one], groups[other]
            groups = {song: joined if group == old else group for song, group in groups.items()}
    return groups


def name_unknown(song: str) -> str:
    """The artist of a song whose artist is not known: one of its own."""
    return f"unknown:{song}"


def count_nameless(tracks: Sequence[Track]) -> int:
    """How many tracks have no artist's name."""
    return sum(track.artist == name_unknown(track.id) for track in tracks)


def _cut_run_on(names: Mapping[str, str]) -> dict[str, str]:
    heads = {name: name.partition("-")[0].strip() for name in names.values()}
    shared = Counter(heads.values())
    return {song: heads[name] if shared[heads[name]] > 1 else name for song, name in names.items()}


def _read_song(cell: str, where: str) -> str:
    if not cell.strip().isdecimal():
        raise DataError(f"{where}: {cell!r} is no song's number")
    return cell.strip()


def _read_number(cell: str, scale: Scale, where: str) -> float:
    low, high = scale
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        bounds = "finite number" if scale == ANY else f"number from {low:g} to {high:g}"
        raise DataError(f"{where}: {cell!r} is no {bounds}")
    return value
