"""`Track` and `Dataset`, and the one reader of tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import key_of
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.tasks import Task

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

    @property
    def key(self) -> str:
        """The track's key in a store: `audio` without its suffix."""
        return key_of(self.audio)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Tracks with what is known of them, divided into parts.

    Attributes
    ----------
    task : Task
    tracks : tuple of Track
    targets : float32 array (tracks, targets)
        For tags 1 where a track has the tag, else 0.
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


class _PlainTabs(csv.Dialect):
    delimiter, quoting, lineterminator = "\t", csv.QUOTE_NONE, "\n"


def read_table(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """Read a table whose header starts with `columns` (none: it has no header); a row may have more cells than that.

    A ``.csv`` file has commas and quotes, any other has tabs and takes quotes as they are.

    Raises
    ------
    DataError
        The file is missing, is no text, has another header, or a row has too few cells; with the line's number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, "excel") if path.suffix == ".csv" else csv.reader(file, _PlainTabs))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    if not rows or tuple(rows[0][: len(columns)]) != columns:
        raise DataError(f"{path}: not the expected table, its first line must begin with {' | '.join(columns)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < len(columns):
            raise DataError(f"{path}, line {number}: {len(row)} cells, at least {len(columns)} are needed")
    return rows[1:] if columns else rows
