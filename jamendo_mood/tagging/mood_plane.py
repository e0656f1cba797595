"""Valence and arousal: where mood tags lie between unpleasant and pleasant, between calm and excited.

The positions in this module are our own judgement, and no measurement. Each word was placed by hand, in steps of 0.1,
on Russell's circumplex: what it says of the music of a track that is so tagged, not what it means in a text. Words that
name a use rather than a mood (``film``, ``space``) lie near the middle, for they say little. `docs/emotions.md` sets
them beside a published table, which `read_places` reads for those who would rather have that. What a place is called,
from its quadrant to its emotion, is told by `emotions`.

References
----------
Russell, "A circumplex model of affect", Journal of Personality and Social Psychology 39 (6), 1980: the plane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.tagging.emotions import CLUSTERS, QUADRANTS
from jamendo_mood.tasks.kinds import Task
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.tables import read_columns

Array = npt.NDArray[np.float32]

MOST_OF_THRESHOLD = 2.0
"""Scores count up to twice their threshold in `va_of_scores`, so that no one tag drowns all others."""

AXES = ("valence", "arousal")
"""What values are called that are places themselves."""

FILE_COLUMNS = ("MoodTag", "Valence", "Arousal")
FILE_SCALE = (1.0, 9.0)
"""Of a table that `read_places` reads, as Music2Emotion (AMAAI Lab) has them."""

# fmt: off
PLACES: dict[str, tuple[float, float]] = {
    # MTG-Jamendo's 59 mood/theme tags
    "action": (0.3, 0.8), "adventure": (0.5, 0.6), "advertising": (0.4, 0.3), "ambiental": (0.2, -0.6),
    "background": (0.1, -0.4), "ballad": (0.0, -0.4), "calm": (0.5, -0.7), "children": (0.6, 0.3),
    "christmas": (0.6, 0.1), "commercial": (0.4, 0.3), "cool": (0.4, 0.0), "corporate": (0.4, 0.2),
    "dark": (-0.6, -0.1), "deep": (-0.1, -0.3), "documentary": (0.0, -0.2), "drama": (-0.4, 0.3),
    "dramatic": (-0.3, 0.6), "dream": (0.4, -0.5), "emotional": (-0.1, 0.1), "energetic": (0.5, 0.9),
    "epic": (0.3, 0.8), "fast": (0.4, 0.8), "film": (0.1, 0.0), "fun": (0.8, 0.6), "funny": (0.7, 0.4),
    "game": (0.4, 0.5), "groovy": (0.6, 0.4), "happy": (0.9, 0.4), "heavy": (-0.4, 0.7), "holiday": (0.7, 0.1),
    "hopeful": (0.6, 0.1), "horror": (-0.8, 0.7), "inspiring": (0.7, 0.4), "love": (0.8, 0.0),
    "meditative": (0.4, -0.8), "melancholic": (-0.6, -0.5), "mellow": (0.4, -0.5), "melodic": (0.4, -0.1),
    "motivational": (0.6, 0.6), "movie": (0.1, 0.0), "nature": (0.5, -0.5), "party": (0.7, 0.8),
    "positive": (0.8, 0.3), "powerful": (0.3, 0.8), "relaxing": (0.6, -0.7), "retro": (0.3, 0.1),
    "romantic": (0.6, -0.2), "sad": (-0.8, -0.4), "sexy": (0.5, 0.3), "slow": (-0.1, -0.7), "soft": (0.4, -0.6),
    "soundscape": (0.0, -0.6), "space": (0.0, -0.3), "sport": (0.4, 0.8), "summer": (0.7, 0.3),
    "trailer": (0.1, 0.7), "travel": (0.5, 0.2), "upbeat": (0.7, 0.7), "uplifting": (0.8, 0.5),
    # AudioSet's 7 music moods
    "Happy music": (0.9, 0.4), "Funny music": (0.7, 0.4), "Sad music": (-0.8, -0.4), "Tender music": (0.5, -0.5),
    "Exciting music": (0.6, 0.8), "Angry music": (-0.6, 0.7), "Scary music": (-0.8, 0.6),
}
"""Valence and arousal of tags, each in [-1, 1]."""
# fmt: on

CLASS_PLACES: dict[str, tuple[float, float]] = {
    **{name: (0.5 if pleasant else -0.5, 0.5 if excited else -0.5) for (pleasant, excited), name in QUADRANTS.items()},
    **{f"Cluster {number}": (place.valence, place.arousal) for number, place in CLUSTERS.items()},
    "relax": PLACES["relaxing"],
    "angry": PLACES["Angry music"],
}
"""Of classes that are no words of `PLACES`: the middles of Russell's quadrants, MIREX's clusters, and other names."""


def read_places(path: Path) -> dict[str, tuple[float, float]]:
    """Read another table of tags: CSV with columns MoodTag, Valence and Arousal, each from 1 to 9, in any order.

    Returns
    -------
    dict of str to (float, float)
        As `PLACES`: 1 has become -1, 5 has become 0, 9 has become 1.

    Raises
    ------
    DataError
        The file is missing or no such table, a number is none or out of range, or a tag stands twice; with the line.
    """
    low, high = FILE_SCALE
    places: dict[str, tuple[float, float]] = {}
    for line, row in enumerate(read_columns(path, FILE_COLUMNS), start=2):
        tag, *texts = (row[column].strip() for column in FILE_COLUMNS)
        if not tag or tag in places:
            raise DataError(f"{path}, line {line}: " + (f"{tag!r} stands here a second time" if tag else "no tag"))
        for column, text in zip(FILE_COLUMNS[1:], texts, strict=True):
            if not _is_on_scale(text):
                raise DataError(f"{path}, line {line}: {column} {text!r} is not a number from {low:g} to {high:g}")
        valence, arousal = (2 * (float(text) - low) / (high - low) - 1 for text in texts)
        places[tag] = (valence, arousal)
    if not places:
        raise DataError(f"{path}: a table without rows")
    return places


def _is_on_scale(text: str) -> bool:
    try:
        return FILE_SCALE[0] <= float(text) <= FILE_SCALE[1]
    except ValueError:
        return False


def va_of_scores(
    scores: Array,
    thresholds: npt.NDArray[np.float64],
    targets: Sequence[str],
    places: Mapping[str, tuple[float, float]] = PLACES,
) -> Array | None:
    """Valence and arousal of tracks: the mean of their tags' places, weighted by how far the tags are reached.

    A tag's weight is the square of its score divided by its threshold, at most `MOST_OF_THRESHOLD` squared. A tag that
    has no place, or an infinite threshold, has none; nor has a score that is NaN.

    Parameters
    ----------
    scores : float32 array (..., targets)
        Range [0, 1].
    thresholds : float64 array (targets,)
        Where each tag is decided; infinite for a tag that never is.
    targets : sequence of str
        The tags' names.
    places : mapping of str to (float, float)
        Valence and arousal of tags.

    Returns
    -------
    float32 array (..., 2) or None
        Range [-1, 1]; (0, 0) for a track of which no tag is heard at all. None if not one of the tags has a place and
        a finite threshold: such tags say nothing of valence and arousal.
    """
    known = [tag for tag, name in enumerate(targets) if name in places and np.isfinite(thresholds[tag])]
    if not known:
        return None
    least = np.maximum(np.asarray(thresholds)[known], 1e-9)
    reached = np.nan_to_num(np.asarray(scores, np.float64)[..., known]) / least
    weights = np.clip(reached, 0, MOST_OF_THRESHOLD) ** 2
    total = weights.sum(axis=-1, keepdims=True)
    sums = weights @ np.array([places[targets[tag]] for tag in known])
    return np.asarray(np.divide(sums, total, out=np.zeros_like(sums), where=total > 0), np.float32)


def place_of(
    task: Task,
    tuned: npt.NDArray[np.float64],
    scores: Array,
    places: Mapping[str, tuple[float, float]] = PLACES,
) -> Array | None:
    """Valence and arousal of tracks, by whatever a tagger predicts.

    A tagger for the values ``valence`` and ``arousal`` says them itself: they are moved from their scale to [-1, 1].
    Tags are asked by `va_of_scores`; classes by the mean of their places, weighted by their probabilities.

    Parameters
    ----------
    task : Task
    tuned : float64 array (targets,)
        Of tags their thresholds.
    scores : float32 array (..., targets)
    places : mapping of str to (float, float)
        Valence and arousal of tags and classes; values need none.

    Returns
    -------
    float32 array (..., 2) or None
        Range [-1, 1]. None where the targets say nothing of valence and arousal: not one tag has a place, or a class
        has none, or the values are others.
    """
    return _PLACINGS[task.kind](task, tuned, scores, places)


def _place_tags(
    task: Task, tuned: npt.NDArray[np.float64], scores: Array, places: Mapping[str, tuple[float, float]]
) -> Array | None:
    return va_of_scores(scores, tuned, task.targets, places)


def _place_classes(
    task: Task, _: npt.NDArray[np.float64], scores: Array, places: Mapping[str, tuple[float, float]]
) -> Array | None:
    known = {**CLASS_PLACES, **places}
    if not known.keys() >= {*task.targets}:
        return None  # the mean of some classes would pull all tracks towards these
    return np.asarray(scores @ np.array([known[name] for name in task.targets], np.float32), np.float32)


def _place_values(
    task: Task, _tuned: npt.NDArray[np.float64], scores: Array, _places: Mapping[str, tuple[float, float]]
) -> Array | None:
    if task.scale is None or not {*AXES} <= {*task.targets}:
        return None
    low, high = task.scale
    values = np.asarray(scores)[..., [task.targets.index(axis) for axis in AXES]]
    return np.asarray(np.clip(2 * (values - low) / (high - low) - 1, -1, 1), np.float32)


_PLACINGS: dict[str, Callable[..., Array | None]] = {
    "tags": _place_tags,
    "classes": _place_classes,
    "values": _place_values,
}

PLACE_SOURCES = {"tags": "from the tags", "classes": "from the classes", "values": "predicted"}
"""By the kind of task: where `place_of` has a place from, in words."""
