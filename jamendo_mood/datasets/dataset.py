"""`Track` and `Dataset`, and the readers of tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import key_of
from jamendo_mood.tasks.task import Task
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import DataError, UsageError

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

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {len(rows):,}" for name, rows in self.parts.items())
        what = f"{len(self.tracks):,} tracks, {len(self.task.targets)} {self.task.rules.plural}"
        return plaintext.show(f"<Dataset {self.task.name}: {what}; {parts}>")

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
    """A data set that can be loaded: one entry of `registry.DATASETS`.

    Attributes
    ----------
    load : callable (root, split, part or None) -> Dataset
        See `registry.load_dataset`.
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


def to_one_hot(
    labels: Sequence[str], classes: Sequence[str], path: Path, *, first_line: int = 2
) -> npt.NDArray[np.float32]:
    """Targets of a choice between classes: a 1 for the class of each example, else 0.

    Parameters
    ----------
    labels : sequence of str (n,)
    classes : sequence of str (k,)
    path : Path
        The file that the labels are of, one a line.
    first_line : int
        The number of the line that the first of them stands on.

    Returns
    -------
    float32 array (n, k)

    Raises
    ------
    DataError
        A label is none of the classes; with the file and the line.
    """
    column = {name: number for number, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), np.float32)
    for row, label in enumerate(labels):
        if label not in column:
            raise DataError(f"{path}, line {first_line + row}: {label!r} is none of the classes {', '.join(classes)}")
        targets[row, column[label]] = 1
    return targets
