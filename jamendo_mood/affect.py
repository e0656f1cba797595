"""Valence and arousal: where mood tags and emotions lie between unpleasant and pleasant, between calm and excited.

The positions in this module are our own judgement, and no measurement. Each word was placed by hand, in steps of 0.1,
on Russell's circumplex: what it says of the music of a track that is so tagged, not what it means in a text. Words that
name a use rather than a mood (``film``, ``space``) lie near the middle, for they say little.

References
----------
Russell, "A circumplex model of affect", Journal of Personality and Social Psychology 39 (6), 1980: the plane.
Plutchik, "A general psychoevolutionary theory of emotion", 1980, and "The nature of emotions", American Scientist 89
(4), 2001: the wheel of eight emotions in three intensities.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jamendo_mood.errors import UsageError

Array = npt.NDArray[np.float32]

MOST_OF_THRESHOLD = 2.0
"""Scores count up to twice their threshold in `va_of_scores`, so that no one tag drowns all others."""

# fmt: off
PLACES: dict[str, tuple[float, float]] = {
    # MTG-Jamendo's 59 mood/theme tags
    "action": (0.3, 0.8), "adventure": (0.5, 0.6), "advertising": (0.4, 0.3), "ambiental": (0.2, -0.6),
    "background": (0.1, -0.4), "ballad": (0.0, -0.4), "calm": (0.5, -0.7), "children": (0.6, 0.3),
    "christmas": (0.6, 0.1), "commercial": (0.4, 0.3), "cool": (0.4, 0.0), "corporate": (0.4, 0.2),
    "dark": (-0.6, 0.0), "deep": (-0.1, -0.3), "documentary": (0.0, -0.2), "drama": (-0.4, 0.3),
    "dramatic": (-0.3, 0.6), "dream": (0.4, -0.5), "emotional": (-0.1, 0.1), "energetic": (0.5, 0.9),
    "epic": (0.3, 0.8), "fast": (0.2, 0.8), "film": (0.1, 0.0), "fun": (0.8, 0.6), "funny": (0.7, 0.4),
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
    "Exciting music": (0.6, 0.8), "Angry music": (-0.7, 0.7), "Scary music": (-0.8, 0.6),
}
"""Valence and arousal of tags, each in [-1, 1]."""

_WHEEL: dict[str, tuple[tuple[str, float, float], ...]] = {
    "joy": (("serenity", 0.6, -0.4), ("joy", 0.8, 0.5), ("ecstasy", 0.9, 0.8)),
    "trust": (("acceptance", 0.4, -0.3), ("trust", 0.6, 0.0), ("admiration", 0.7, 0.4)),
    "fear": (("apprehension", -0.4, 0.4), ("fear", -0.7, 0.7), ("terror", -0.9, 0.9)),
    "surprise": (("distraction", -0.1, 0.3), ("surprise", 0.2, 0.7), ("amazement", 0.4, 0.9)),
    "sadness": (("pensiveness", -0.3, -0.5), ("sadness", -0.8, -0.4), ("grief", -0.9, -0.2)),
    "disgust": (("boredom", -0.4, -0.7), ("disgust", -0.7, 0.3), ("loathing", -0.9, 0.5)),
    "anger": (("annoyance", -0.5, 0.4), ("anger", -0.6, 0.7), ("rage", -0.8, 0.9)),
    "anticipation": (("interest", 0.4, 0.3), ("anticipation", 0.3, 0.5), ("vigilance", 0.2, 0.8)),
}
# fmt: on


@dataclass(frozen=True)
class Emotion:
    """One of the 24 emotions of Plutchik's wheel.

    Attributes
    ----------
    name : str
    family : str
        The name of the petal it lies on: that of its emotion of middle intensity.
    intensity : int
        1 (mild, at the petal's tip), 2 or 3 (strong, at the centre).
    angle_deg : float
        Of the petal, clockwise from the top, where joy is; opposite emotions are 180 apart.
    valence, arousal : float
        Range [-1, 1]. Neighbours on the plane need not be alike: fear and anger differ in what this plane leaves out.
    """

    name: str
    family: str
    intensity: int
    angle_deg: float
    valence: float
    arousal: float


EMOTIONS: dict[str, Emotion] = {
    name: Emotion(name, family, intensity, petal * 360 / len(_WHEEL), valence, arousal)
    for petal, (family, emotions) in enumerate(_WHEEL.items())
    for intensity, (name, valence, arousal) in enumerate(emotions, start=1)
}
"""Plutchik's wheel by name, petal after petal clockwise, each from mild to strong."""


def find_emotion(name: str) -> Emotion:
    """The emotion of a name, in upper or lower case.

    Raises
    ------
    UsageError
        The wheel has none of that name; the message names the nearest, or else all.
    """
    emotion = EMOTIONS.get(name.strip().lower())
    if emotion is None:
        near = difflib.get_close_matches(name.strip().lower(), EMOTIONS)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(EMOTIONS)}"
        raise UsageError(f"no emotion {name!r} on Plutchik's wheel: {hint}")
    return emotion


def va_of_scores(scores: Array, thresholds: npt.NDArray[np.float64], targets: Sequence[str]) -> Array | None:
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

    Returns
    -------
    float32 array (..., 2) or None
        Range [-1, 1]; (0, 0) for a track of which no tag is heard at all. None if not one of the tags has a place and
        a finite threshold: such tags say nothing of valence and arousal.
    """
    known = [tag for tag, name in enumerate(targets) if name in PLACES and np.isfinite(thresholds[tag])]
    if not known:
        return None
    least = np.maximum(np.asarray(thresholds)[known], 1e-9)
    reached = np.nan_to_num(np.asarray(scores, np.float64)[..., known]) / least
    weights = np.clip(reached, 0, MOST_OF_THRESHOLD) ** 2
    total = weights.sum(axis=-1, keepdims=True)
    places = np.array([PLACES[targets[tag]] for tag in known])
    sums = weights @ places
    return np.asarray(np.divide(sums, total, out=np.zeros_like(sums), where=total > 0), np.float32)
