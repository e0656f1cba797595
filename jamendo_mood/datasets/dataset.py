"""What a data set is: tracks, what is known of them, and parts that share no artist.

Also what the loaders have in common: numbers in cells, classes as targets, folds, artists behind several spellings; and
the search for leaks between parts. A head that has met a test track in training, or another song of its artist, looks
better than it is; equal recordings under different names are found by `Track.content`.

References
----------
Flexer and Schnitzer, "Effects of Album and Artist Filters in Audio Similarity Computed for Very Large Music
Databases", Computer Music Journal 34(3), 2010.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter, UserDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import key_of
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks import Task
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import DataError, UsageError

Array = npt.NDArray[np.float32]
Scale = tuple[float, float]  #: the lowest and the highest number

TARGETS = ("valence", "arousal")
ANY = (-math.inf, math.inf)
FOLDS = 10
PARTS = ("train", "validation", "test")
MAX_LISTED = 3
MAX_SHOWN_PARTS = 12
NAMELESS = "tracks have no artist: each counts as an artist of its own"


@dataclass(frozen=True)
class Track:
    """One recording."""

    id: str  #: the data set's own name for it
    audio: str  #: path below the audio root, ``48/948.mp3``
    duration_s: float | None
    artist: str  #: parts of a split must not share one
    content: str = ""  #: equal for recordings that are identical bit by bit, such as a SHA-256; empty if not known

    def __post_init__(self) -> None:
        # Whatever a table says, no path may lead out of the audio folder.
        if self.audio.startswith("/") or ".." in self.audio.split("/") or "\0" in self.audio:
            raise DataError(f"{self.audio!r} must be a path below the audio folder")
        # However a table spells accented letters: an artist in two spellings would be in two parts.
        object.__setattr__(self, "artist", unicodedata.normalize("NFC", self.artist))

    @property
    def key(self) -> str:
        """The track's key in a store: `audio` without its suffix."""
        return key_of(self.audio)


@dataclass(frozen=True, eq=False)
class Curve:
    """Targets of one track over time."""

    times_s: Array  #: float32 (n,): from the start of the audio file, increasing
    values: Array  #: float32 (n, targets)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Tracks and their targets, divided into parts."""

    task: Task
    tracks: tuple[Track, ...]
    #: float32 (tracks, targets). Tags and classes: 1 if the track has it, else 0. Values: on the task's scale; for a
    #: dynamic task the mean of each track's curve.
    targets: Array
    parts: Mapping[str, npt.NDArray[np.intp]]  #: rows of each part; no track and no artist is in two of them
    #: of the annotations; `load_dataset` fills them in
    licence: str = ""
    citation: str = ""
    #: the name of the part with this role
    train: str = "train"
    validation: str = "validation"
    test: str = "test"
    #: embeddings released with the data, float32 (frames, dim) by track key, with the attribute ``spec``
    embeddings: Mapping[str, Any] | None = None
    #: the same parts with more tracks and more targets, including this task's: a head that learns all of it does better
    #: at this task
    broader: Dataset | None = None
    curves: tuple[Curve, ...] | None = None  #: for a dynamic task: one per track
    #: what a user should know about the files, one line each: how many rows were left out and why, for example
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

    def _repr_html_(self) -> str:
        artists = [track.artist for track in self.tracks]
        parts = [
            (name, f"{len(rows):,}", f"{len({artists[row] for row in rows}):,}") for name, rows in self.parts.items()
        ]
        caption = f"Data set {self.task.name}: {len(self.task.targets)} {self.task.rules.plural}"
        return plaintext.to_html(caption, parts[:MAX_SHOWN_PARTS], ("part", "tracks", "artists"))

    def rows(self, part: str) -> npt.NDArray[np.intp]:
        """The rows of a part, in the order of the data set's files; `UsageError` if there is no such part."""
        if part not in self.parts:
            known = ", ".join(self.parts)
            raise UsageError(f"the data of task {self.task.name!r} has no part {part!r} (it has: {known})")
        return self.parts[part]

    def fingerprint_parts(self) -> str:
        """A SHA-256 over which track is in which part."""
        lines = sorted(f"{part}\t{self.tracks[row].key}\n" for part, rows in self.parts.items() for row in rows)
        return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class DataSource:
    """A data set that can be loaded: one entry of `datasets.DATASETS`."""

    #: (root, split, part) -> Dataset, what `load_dataset` calls once it knows that the root is there. Raises
    #: `UsageError` if there is no such split or part, and `DataError`, naming file and line, if a file is missing or
    #: damaged.
    load: Callable[[Path, int, str | None], Dataset]
    predicts: str  #: what a tagger learns from it, in a few words
    files: tuple[str, ...]  #: what must lie below the root, as the authors publish it
    #: where to get these files, and the audio
    annotations: str
    audio: str
    #: of the annotations
    licence: str
    citation: str
    splits: int = FOLDS  #: how many ways there are to divide the tracks into parts
    official: bool = False  #: whether the authors made these divisions; otherwise they are folds grouped by artist
    single_file: bool = False  #: whether the root may be a file instead of a folder


class Features(UserDict[str, npt.NDArray[Any]]):
    """Published features that serve as embeddings: float32 (rows, dim) by the track's key; kept as they are given."""

    def __init__(self, spec: EmbedderSpec, rows: Iterable[tuple[str, npt.NDArray[Any]]]) -> None:
        super().__init__(rows)
        self.spec = spec

    def __getitem__(self, key: str) -> Array:
        return np.asarray(super().__getitem__(key), np.float32)


def read_number(cell: str, scale: Scale, where: str) -> float:
    """A number on a scale from a cell; `DataError` if it is none, which begins with `where` (file, line and column)."""
    low, high = scale
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        bounds = "finite number" if scale == ANY else f"number from {low:g} to {high:g}"
        raise DataError(f"{where}: {cell!r} is not a {bounds}")
    return value


def to_one_hot(labels: Sequence[str], classes: Sequence[str], path: Path, *, first_line: int = 2) -> Array:
    """Targets of n labels of k classes, float32 (n, k): 1 for the class of each example, else 0.

    Raises `DataError` if a label is not one of the classes; it names `path`, the file with the labels, and the line,
    the first label being in `first_line`.
    """
    for line, label in enumerate(labels, start=first_line):
        if label not in classes:
            raise DataError(f"{path}, line {line}: {label!r} is not one of the classes {', '.join(classes)}")
    return np.asarray(np.array(labels, object)[:, None] == np.array(classes, object), np.float32)


def assign_folds(
    groups: Sequence[str], labels: Sequence[str] | None = None, *, count: int = FOLDS, seed: int = 0
) -> npt.NDArray[np.intp]:
    """Divide examples into folds of about equal size, without dividing a group.

    Groups are assigned from the largest to the smallest, each to the fold that has the fewest examples of the group's
    classes; the seed shuffles groups of equal size. scikit-learn's `StratifiedGroupKFold` would not do: its folds
    depend on the order of the rows and on its version, while taggers record a fingerprint of their parts, and the
    published figures are those of these folds.

    The groups are, for example, the artists of n examples, the labels their classes: every fold then has about the same
    number of each. Returns folds (n,) from 0 to `count` - 1; `DataError` if there are fewer groups than folds.
    """
    sizes = Counter(groups)
    hashes = {group: hashlib.sha256(f"{seed} {group}".encode(errors="surrogatepass")).digest() for group in sizes}
    order = sorted(sizes, key=lambda group: (-sizes[group], hashes[group]))
    if len(order) < count:
        raise DataError(f"{count} folds need at least {count} artists, and there are {len(order)}")
    classes = [""] * len(groups) if labels is None else labels
    column = {label: number for number, label in enumerate(sorted(set(classes)))}
    of_group = {group: np.zeros(len(column), np.int64) for group in order}
    for group, label in zip(groups, classes, strict=True):
        of_group[group][column[label]] += 1
    # A class counts by its share in a fold, squared. In whole numbers, so that no rounding decides between folds.
    weights = (100 * len(groups) // sum(of_group.values())) ** 2
    folds = np.zeros((count, len(column)), np.int64)
    fold_of = {}
    for group in order:
        burdens = (folds * (weights * of_group[group])).sum(axis=1)
        fold_of[group] = fold = int(np.lexsort((folds.sum(axis=1), burdens))[0])
        folds[fold] += of_group[group]
    return np.array([fold_of[group] for group in groups], np.intp)


def make_parts(folds: npt.NDArray[np.intp], split: int) -> Mapping[str, npt.NDArray[np.intp]]:
    """Rows of each part: fold `split` is the test part, the next one the validation part, the others train.

    Raises `UsageError` if there is no such fold.
    """
    count = int(folds.max()) + 1
    if not 0 <= split < count:
        raise UsageError(f"split {split}: these data have {count} folds, 0 to {count - 1}")
    test, validation = folds == split, folds == (split + 1) % count
    chosen = (~test & ~validation, validation, test)
    return {part: np.flatnonzero(rows) for part, rows in zip(PARTS, chosen, strict=True)}


def consecutive_parts(sizes: Mapping[str, int]) -> dict[str, npt.NDArray[np.intp]]:
    """Rows of each part, where the tracks of one part follow those of another."""
    ends = np.cumsum([*sizes.values()])
    return {part: np.arange(end - size, end) for (part, size), end in zip(sizes.items(), ends, strict=True)}


KINDS_OF_LEAK: dict[str, Callable[[Track], str]] = {
    "track": lambda track: track.key,
    "artist": lambda track: track.artist,
    "bit-identical audio": lambda track: track.content,
}
"""What two parts may share, and how it is recognised; an empty string means not known and matches nothing."""


@dataclass(frozen=True)
class Leak:
    """A track of one part that has a match in another."""

    kind: str
    parts: tuple[str, str]
    track: Track
    other: Track

    def __str__(self) -> str:
        names = " and ".join(map(repr, dict.fromkeys((self.track.key, self.other.key))))
        artist = f" by {self.track.artist!r}" if self.kind == "artist" else ""
        return f"{self.kind} in {self.parts[0]} and {self.parts[1]}: {names}{artist}"


def find_leaks(parts: Mapping[str, Sequence[Track]]) -> list[Leak]:
    """Everything that a part shares with a later one: one leak per kind and track of the earlier part."""
    leaks = []
    for (first, tracks), (second, others) in combinations(parts.items(), 2):
        for kind, mark in KINDS_OF_LEAK.items():
            known = {mark(other): other for other in others if mark(other)}
            leaks += [
                # A dynamic task has a track once for each moment.
                Leak(kind, (first, second), track, known[mark(track)])
                for track in dict.fromkeys(tracks)
                if mark(track) in known
            ]
    return leaks


def check_leaks(leaks: Sequence[Leak]) -> None:
    """Raise `DataError` if there are leaks, naming the first few."""
    if leaks:
        listed = "; ".join(map(str, leaks[:MAX_LISTED]))
        more = f"; and {len(leaks) - MAX_LISTED} more" if len(leaks) > MAX_LISTED else ""
        raise DataError(
            f"the parts overlap: {listed}{more}. Scores would be too good: leave such tracks out of training "
            "(--leaks drop), or keep them anyway (--leaks keep)"
        )


def drop_leaks(part: str, tracks: Sequence[Track], leaks: Sequence[Leak]) -> npt.NDArray[np.bool_]:
    """Which tracks of a part have no match in a later one; bool (n,)."""
    leaking = {leak.track.key for leak in leaks if leak.parts[0] == part}
    return np.array([track.key not in leaking for track in tracks])


_BRACKETS = re.compile(r"\[.*?\]|\(.*?\)")
_JOINTS = re.compile(r"/|&|\band\b")
_WORDS = re.compile(r"[^\W_]+")
_FILLERS = frozenset({"the", "and", "his", "her", "their", "orchestra"})


def join_artists(names: Sequence[str]) -> tuple[str, ...]:
    """Give artists that share a performer one name, so that nobody is in two parts of a data set.

    ``Costello, Elvis`` is in ``Elvis Costello & the Attractions``: performers are separated by ``/``, ``&`` and
    ``and``, and compared by their words in any order, ignoring case, ``the`` and what is in brackets. Joining too much
    does no harm, except that parts may be less even; a misspelt name is not found. The name for all is the
    alphabetically first of them, stripped and in lower case; one that is empty, not being known, stays so.
    """
    folded = [unicodedata.normalize("NFC", name.strip().casefold()) for name in names]
    leader = {artist: artist for artist in sorted({*folded} - {""})}
    first_with: dict[frozenset[str], str] = {}

    def find(artist: str) -> str:
        while leader[artist] != artist:
            artist = leader[artist]
        return artist

    for artist in leader:
        for performer in _performers(artist):
            first, later = sorted((find(artist), find(first_with.setdefault(performer, artist))))
            leader[later] = first
    return tuple(name and find(name) for name in folded)


def count_remarks(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Lines for `Dataset.remarks`, from how often something was found; what was never found is left out."""
    return tuple(f"{count} {what}" for what, count in counts.items() if count)


def _performers(artist: str) -> set[frozenset[str]]:
    """The words of each performer, and those of the whole name: ``AC/DC`` is ``AC-DC``."""
    plain = _BRACKETS.sub(" ", artist).replace("'", "")
    words = (frozenset(_WORDS.findall(piece)) - _FILLERS for piece in (plain, *_JOINTS.split(plain)))
    return {performer for performer in words if performer}
