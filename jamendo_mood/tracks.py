"""`Track` and `Dataset`, and the readers of tables."""

from __future__ import annotations

import csv
import hashlib
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import untrusted
from jamendo_mood.audio import key_of
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.tasks import Task

MOST_TABLE_BYTES = 64_000_000
"""Of a table; the largest of the data sets here has 2.7 million."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Track:
    """One recording.

    Attributes
    ----------
    id : str
        The data set's own name for it.
    audio : str
        Path below the audio root, ``48/948.mp3``.
    duration_s : float or None
    artist : str
        Whoever made it: what the parts of a split must not share.
    content : str
        The same for recordings that are equal to the bit, such as a SHA-256; empty where it is not known.
    """

    id: str
    audio: str
    duration_s: float | None
    artist: str
    content: str = ""

    def __post_init__(self) -> None:
        # Whatever a table says, no path leads out of the folder that it is to be found in.
        if self.audio.startswith("/") or ".." in self.audio.split("/") or "\0" in self.audio:
            raise DataError(f"{self.audio!r} must be a path below the audio folder")

    @property
    def key(self) -> str:
        """The track's key in a store: `audio` without its suffix."""
        return key_of(self.audio)


@dataclass(frozen=True, eq=False)
class Curve:
    """What is known of a track at moments of it.

    Attributes
    ----------
    times_s : float32 array (n,)
        From the start of the audio file, rising.
    values : float32 array (n, targets)
    """

    times_s: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Dataset:
    """Tracks with what is known of them, divided into parts.

    Attributes
    ----------
    task : Task
    tracks : tuple of Track
    targets : float32 array (tracks, targets)
        For tags and classes 1 where a track has it, else 0; values on the task's scale, of a dynamic task the means
        over each track's curve.
    parts : mapping of str to int array
        Rows of each part; no track and no artist is in two of them.
    train, validation, test : str
        The part that each role falls to.
    licence, citation : str
        Of the annotations.
    embeddings : mapping of str to float32 array (frames, dim), or None
        Embeddings released with the data, by track key, with the attribute ``spec``.
    broader : Dataset or None
        The same parts with more tracks and more targets, this task's among them: a head that learns all of it knows
        this task better.
    curves : tuple of Curve, or None
        Of a dynamic task: one a track.
    remarks : tuple of str
        What a user should know of the files that were read, one line each: rows that were left out, and how many.
    """

    task: Task
    tracks: tuple[Track, ...]
    targets: Array
    parts: Mapping[str, npt.NDArray[np.intp]]
    licence: str
    citation: str
    train: str = "train"
    validation: str = "validation"
    test: str = "test"
    embeddings: Mapping[str, Any] | None = None
    broader: Dataset | None = None
    curves: tuple[Curve, ...] | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.targets.shape != (len(self.tracks), len(self.task.targets)):
            raise DataError(
                f"data set {self.task.name!r}: targets {self.targets.shape} do not fit {len(self.tracks)} tracks and "
                f"{len(self.task.targets)} names"
            )

    def rows(self, part: str) -> npt.NDArray[np.intp]:
        """The rows of a part, in the order of the data set's files.

        Raises
        ------
        UsageError
            There is no such part.
        """
        if part not in self.parts:
            known = ", ".join(self.parts)
            raise UsageError(f"the data of task {self.task.name!r} has no part {part!r} (it has: {known})")
        return self.parts[part]

    def fingerprint_parts(self) -> str:
        """A SHA-256 of which track is in which part."""
        lines = sorted(f"{part}\t{self.tracks[row].key}\n" for part, rows in self.parts.items() for row in rows)
        return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class DataSource:
    """A data set that can be loaded: one entry of `datasets.DATASETS`.

    Attributes
    ----------
    load : callable (root, split, part or None) -> Dataset
        See `datasets.load_dataset`.
    predicts : str
        What a tagger learns from it, in a few words.
    files : tuple of str
        What must lie below the root, as the authors publish it.
    annotations, audio : str
        Where to get these files, and the audio.
    licence, citation : str
    splits : int
        How many divisions into parts there are.
    official : bool
        Whether the divisions are the authors' own; else they are folds grouped by artist.
    single_file : bool
        Whether the root may be a file instead of a folder.
    """

    load: Callable[[Path, int, str | None], Dataset]
    predicts: str
    files: tuple[str, ...]
    annotations: str
    audio: str
    licence: str
    citation: str
    splits: int = 1
    official: bool = True
    single_file: bool = False


class _PlainTabs(csv.Dialect):
    delimiter, quoting, lineterminator = "\t", csv.QUOTE_NONE, "\n"


def read_table(path: Path, columns: tuple[str, ...], most: int = MOST_TABLE_BYTES) -> list[list[str]]:
    """Read a table whose header starts with `columns` (none: it has no header); a row may have more cells than that.

    A ``.csv`` file has commas and quotes, any other has tabs and takes quotes as they are. It may have `most` bytes.

    Raises
    ------
    DataError
        The file is missing, is no text, has another header, or a row has too few cells; with the line's number.
    """
    dialect = (csv.excel, ",") if path.suffix == ".csv" else (_PlainTabs, "\t")
    rows = _read_rows(read_text(path, most=most), path, *dialect)
    if not rows or tuple(rows[0][: len(columns)]) != columns:
        raise DataError(f"{path}: not the expected table, its first line must begin with {' | '.join(columns)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < len(columns):
            raise DataError(f"{path}, line {number}: {len(row)} cells, at least {len(columns)} are needed")
    return rows[1:] if columns else rows


def read_columns(
    path: Path, columns: Sequence[str], *, encoding: str = "utf-8-sig", delimiter: str = ","
) -> list[dict[str, str]]:
    """Read named columns of a table, wherever they stand; cells may have quotes, the header's names spaces around them.

    Parameters
    ----------
    path : Path
    columns : sequence of str
    encoding : str
        ``utf-8-sig`` reads UTF-8 with and without a byte order mark, ``utf-16`` needs one.
    delimiter : str

    Returns
    -------
    list of dict of str
        By column, each cell as it is written. The first row is line 2; only empty lines at the end are left out.

    Raises
    ------
    DataError
        The file is missing, is no text, lacks a column or has it twice, or a row has too few cells; with the line's
        number.
    """
    rows = _read_rows(read_text(path, encoding), path, csv.excel, delimiter)
    header = [cell.strip() for cell in rows[0]] if rows else []
    for column in columns:
        if header.count(column) != 1:
            # On one line: a quote that is not closed makes a cell of many.
            found = textwrap.shorten(" | ".join(cell for cell in header if cell) or "none", 300, placeholder=" ...")
            times = "no column" if column not in header else f"{header.count(column)} columns"
            raise DataError(f"{path}: {times} {column!r} (those that are there: {found})")
    while len(rows) > 1 and not any(rows[-1]):
        rows.pop()
    places = {column: header.index(column) for column in columns}
    least = max(places.values(), default=-1) + 1
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < least:
            raise DataError(f"{path}, line {number}: {len(row)} cells, at least {least} are needed")
    return [{column: row[place] for column, place in places.items()} for row in rows[1:]]


def _read_rows(text: str, path: Path, dialect: type[csv.Dialect], delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), dialect, delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def read_text(path: Path, encoding: str = "utf-8-sig", most: int = MOST_TABLE_BYTES) -> str:
    """Read the text of a table.

    Raises
    ------
    DataError
        The file is missing, is no text, or has more than `most` bytes.
    """
    try:
        content = io.BytesIO(untrusted.read_bytes(path, most))
        text = io.TextIOWrapper(content, encoding, newline="").read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: cannot be read as a table (it holds a NUL)")
    return text
