"""What training and test parts must not share: tracks, artists, and recordings that are the same to the bit.

A head that has heard a test track, or another song of its artist, is judged too kindly. Equal recordings under
different names are found by `Track.content`.

References
----------
Flexer and Schnitzer, "Effects of Album and Artist Filters in Audio Similarity Computed for Very Large Music
Databases", Computer Music Journal 34(3), 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.tracks import Track
from jamendo_mood.util.errors import DataError

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
