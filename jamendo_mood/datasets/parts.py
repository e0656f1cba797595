"""Who is in which part: folds that no artist crosses, artists behind several spellings, leaks between parts.

Folds depend on the names of the groups, how much there is of each, and the seed; not on the order of the rows, and not
on the version of a library, so that a tagger's test part stays what it was.

A head that has met a test track in training, or another song of its artist, looks better than it is. Equal recordings
under different names are found by `Track.content`.

References
----------
Flexer and Schnitzer, "Effects of Album and Artist Filters in Audio Similarity Computed for Very Large Music
Databases", Computer Music Journal 34(3), 2010.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import Track
from jamendo_mood.util.errors import DataError, UsageError

FOLDS = 10
SEED = 0
PARTS = ("train", "validation", "test")


def assign_folds(
    groups: Sequence[str], labels: Sequence[str] | None = None, *, count: int = FOLDS, seed: int = SEED
) -> npt.NDArray[np.intp]:
    """Deal examples out to folds of about equal size; what is of one group stays together.

    The groups are dealt from the largest to the smallest, each to the fold that has least of what the group consists
    of; the seed shuffles groups of equal size.

    Parameters
    ----------
    groups : sequence of str (n,)
        The artist of each example, say.
    labels : sequence of str (n,), or None
        The class of each example: every fold then has about as many of each.
    count : int
    seed : int
        Same seed, same folds.

    Returns
    -------
    int array (n,)
        From 0 to `count` - 1.

    Raises
    ------
    DataError
        There are fewer groups than folds.
    """
    order = _shuffle_by_size(groups, seed)
    if len(order) < count:
        raise DataError(f"{count} folds need {count} artists at least, and there are {len(order)}")
    classes = [""] * len(groups) if labels is None else labels
    column = {label: number for number, label in enumerate(sorted(set(classes)))}
    of_group = {group: np.zeros(len(column), np.int64) for group in order}
    for group, label in zip(groups, classes, strict=True):
        of_group[group][column[label]] += 1
    # A class counts by its share in a fold, squared. Whole numbers: no rounding decides between folds.
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

    Raises
    ------
    UsageError
        There is no such fold.
    """
    count = int(folds.max()) + 1
    if not 0 <= split < count:
        raise UsageError(f"split {split}: these data have {count} folds, 0 to {count - 1}")
    test, validation = folds == split, folds == (split + 1) % count
    chosen = (~test & ~validation, validation, test)
    return {part: np.flatnonzero(rows) for part, rows in zip(PARTS, chosen, strict=True)}


def _shuffle_by_size(groups: Sequence[str], seed: int) -> list[str]:
    """The groups, the largest first, those of equal size in an order that is the seed's."""
    sizes = Counter(groups)
    hashes = {group: hashlib.sha256(f"{seed} {group}".encode(errors="surrogatepass")).digest() for group in sizes}
    return sorted(sizes, key=lambda group: (-sizes[group], hashes[group]))


LISTED = 3

KINDS_OF_LEAK: dict[str, Callable[[Track], str]] = {
    "track": lambda track: track.key,
    "artist": lambda track: track.artist,
    "bit-identical audio": lambda track: track.content,
}
"""What two parts may share, and what it is recognised by; an empty string is not known and matches nothing."""


@dataclass(frozen=True)
class Leak:
    """A track of one part that has its match in another."""

    kind: str
    parts: tuple[str, str]
    track: Track
    other: Track

    def __str__(self) -> str:
        names = (
            f"{self.track.key!r} and {self.other.key!r}" if self.track.key != self.other.key else repr(self.track.key)
        )
        artist = f" by {self.track.artist!r}" if self.kind == "artist" else ""
        return f"{self.kind} in {self.parts[0]} and {self.parts[1]}: {names}{artist}"


def find_leaks(parts: Mapping[str, Sequence[Track]]) -> list[Leak]:
    """Everything that a part shares with a later one, one leak for each track of the earlier part and kind."""
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
        listed = "; ".join(map(str, leaks[:LISTED]))
        more = f"; and {len(leaks) - LISTED} more" if len(leaks) > LISTED else ""
        raise DataError(
            f"the parts are not apart: {listed}{more}. Scores would be too good: leave such tracks out of training "
            "(--leaks drop), or keep them all the same (--leaks keep)"
        )


def drop_leaks(part: str, tracks: Sequence[Track], leaks: Sequence[Leak]) -> npt.NDArray[np.bool_]:
    """Which tracks of a part have no match in a later one; bool (n,)."""
    leaking = {leak.track.key for leak in leaks if leak.parts[0] == part}
    return np.array([track.key not in leaking for track in tracks])


_REMARKS = re.compile(r"\[.*?\]|\(.*?\)")
_JOINTS = re.compile(r"/|&|\band\b")
_WORDS = re.compile(r"[^\W_]+")
_FILLERS = frozenset({"the", "and", "his", "her", "their", "orchestra"})

Performer = frozenset[str]


def join_credits(names: Sequence[str]) -> tuple[str, ...]:
    """Give credits that share a performer the same name, so that no artist is in two parts of a data set.

    ``Costello, Elvis`` is in ``Elvis Costello & the Attractions``: what counts is the words of a performer, in any
    order, without their case, ``the`` and what is in brackets. Performers are told apart by ``/``, ``&`` and ``and``.
    To join too much does no harm but that the parts can be less even; a misspelt name is not found.

    Parameters
    ----------
    names : sequence of str (n,)
        A credit a track, empty where it is not known.

    Returns
    -------
    tuple of str (n,)
        The credit that comes first in the alphabet of those that were joined, stripped and in small letters; empty
        where it was.
    """
    spelled = sorted({folded for name in names if (folded := name.strip().casefold())})
    leader: dict[Performer | str, Performer | str] = {}

    def find(node: Performer | str) -> Performer | str:
        while (above := leader.setdefault(node, node)) != node:
            node = above
        return node

    for credit in spelled:
        for performer in _performers(credit):
            leader[find(performer)] = find(credit)
    named: dict[Performer | str, str] = {}
    for credit in spelled:
        named.setdefault(find(credit), credit)
    return tuple(named[find(folded)] if (folded := name.strip().casefold()) else "" for name in names)


def describe_credits(names: Sequence[str], joined: Sequence[str]) -> tuple[str, ...]:
    """What a user should know of credits and what `join_credits` made of them: lines for `Dataset.remarks`."""
    remarks = []
    if nameless := sum(not name for name in joined):
        remarks.append(f"{nameless} tracks come without an artist: each counts as one of its own")
    before, after = len({name.strip().casefold() for name in names} - {""}), len({*joined} - {""})
    if after < before:
        remarks.append(f"{before} names are taken for {after} artists, as some share a performer")
    return tuple(remarks)


def _performers(credit: str) -> set[Performer]:
    """The words of each performer of a credit, and those of the whole credit: ``AC/DC`` is ``AC-DC``."""
    plain = _REMARKS.sub(" ", credit).replace("'", "")
    words = (frozenset(_WORDS.findall(piece)) - _FILLERS for piece in (plain, *_JOINTS.split(plain)))
    return {performer for performer in words if performer}
