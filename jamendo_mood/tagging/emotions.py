"""One table of emotions: places on the plane -> quadrant, cluster, Plutchik's eight, and the seven emotions of a face.

A place is valence (unpleasant to pleasant) and arousal (calm to excited), each in [-1, 1]. Tags come to the plane by
`place_of`, faces by `from_face`; from there `mood_in_words` says how music there feels, and `describe_place` what the
vocabularies of the field call the place. Every mapping here is defined at every place, and ties go to what stands first
in the table. Which emotions, faces and adjectives there are is taken from the sources below. Where they lie, and which
face an emotion wears, is our own judgement, made by hand in steps of 0.1, and no measurement. `docs/emotions.md` shows
the whole table, with its limits.

References
----------
Russell, "A circumplex model of affect", Journal of Personality and Social Psychology 39 (6), 1980: plane and quadrants.
Plutchik, "A general psychoevolutionary theory of emotion", 1980, and "The nature of emotions", American Scientist 89
(4), 2001: the wheel of eight emotions in three intensities.
Hu and Downie, "Exploring mood metadata: relationships with genre, artist and usage metadata", ISMIR 2007: the five
clusters of adjectives, as MIREX's task of mood classification has used them since.
Ekman, "An argument for basic emotions", Cognition and Emotion 6, 1992: six emotions that faces show. Goodfellow et al.,
"Challenges in representation learning", ICONIP 2013 (FER-2013): the same six and neutral, which models of faces tell.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jamendo_mood.datasets.dataset import read_number
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.metrics import Array, Floats
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.plaintext import read_columns

NEUTRAL_RADIUS = 0.25
"""A face is neutral so near to the centre. No emotion of the wheel lies there (the nearest, distraction, is 0.32 away)
and of the tags only those that name a use: film, movie, documentary, and ``emotional``, which takes no side."""

DIRECTIONS = ("warm", "joyful", "energetic", "tense", "dark", "sad", "calm", "tender")
"""How music feels in eight directions from the centre, 45 degrees apart, from pleasant through excited."""

QUADRANTS = {(True, True): "Q1", (False, True): "Q2", (False, False): "Q3", (True, False): "Q4"}
"""Russell's quadrants, by whether valence and arousal are 0 or more."""

# fmt: off
_WHEEL: dict[str, tuple[tuple[str, float, float, str], ...]] = {
    # petal: name, valence, arousal, face; from mild to strong
    "joy": (("serenity", 0.6, -0.4, "happy"), ("joy", 0.8, 0.5, "happy"), ("ecstasy", 0.9, 0.8, "happy")),
    "trust": (("acceptance", 0.4, -0.3, "happy"), ("trust", 0.6, 0.0, "happy"), ("admiration", 0.7, 0.4, "happy")),
    "fear": (("apprehension", -0.4, 0.4, "fear"), ("fear", -0.7, 0.7, "fear"), ("terror", -0.9, 0.9, "fear")),
    "surprise": (
        ("distraction", -0.1, 0.3, "surprise"), ("surprise", 0.2, 0.7, "surprise"), ("amazement", 0.4, 0.9, "surprise")
    ),
    "sadness": (("pensiveness", -0.3, -0.5, "sad"), ("sadness", -0.8, -0.4, "sad"), ("grief", -0.9, -0.2, "sad")),
    "disgust": (("boredom", -0.4, -0.7, "sad"), ("disgust", -0.7, 0.3, "disgust"), ("loathing", -0.9, 0.5, "disgust")),
    "anger": (("annoyance", -0.5, 0.4, "angry"), ("anger", -0.6, 0.7, "angry"), ("rage", -0.8, 0.9, "angry")),
    "anticipation": (
        ("interest", 0.4, 0.3, "happy"), ("anticipation", 0.3, 0.5, "surprise"), ("vigilance", 0.2, 0.8, "surprise")
    ),
}
ADJECTIVES: dict[int, dict[str, tuple[float, float]]] = {
    # MIREX's cluster: its adjectives, with valence and arousal
    1: {"rowdy": (0.2, 0.9), "rousing": (0.5, 0.8), "confident": (0.5, 0.4), "boisterous": (0.4, 0.9),
        "passionate": (0.4, 0.6)},
    2: {"rollicking": (0.7, 0.7), "cheerful": (0.8, 0.4), "fun": (0.8, 0.6), "sweet": (0.7, -0.2),
        "amiable/good-natured": (0.7, -0.1)},
    3: {"literate": (0.1, -0.3), "poignant": (-0.3, -0.2), "wistful": (-0.2, -0.4), "bittersweet": (-0.2, -0.3),
        "autumnal": (-0.1, -0.5), "brooding": (-0.6, -0.2)},
    4: {"humorous": (0.7, 0.4), "silly": (0.6, 0.5), "campy": (0.4, 0.4), "quirky": (0.3, 0.3),
        "whimsical": (0.5, 0.2), "witty": (0.5, 0.2), "wry": (0.1, 0.0)},
    5: {"aggressive": (-0.6, 0.8), "fiery": (-0.2, 0.9), "tense/anxious": (-0.6, 0.6), "intense": (-0.2, 0.8),
        "volatile": (-0.5, 0.8), "visceral": (-0.3, 0.7)},
}
"""The adjectives of MIREX's five clusters, and where they lie."""

FACES: dict[str, str] = {
    "happy": "joy", "sad": "sadness", "angry": "anger", "fear": "fear", "surprise": "surprise", "disgust": "disgust",
    "neutral": "neutral",
}
"""The seven emotions of a face, and the emotion that each is: of the wheel, or `NEUTRAL`."""

SYNONYMS: dict[str, str] = {
    **FACES, "happiness": "joy", "joyful": "joy", "angriness": "anger", "fearful": "fear", "afraid": "fear",
    "scared": "fear", "surprised": "surprise", "disgusted": "disgust", "neutrality": "neutral",
}
"""Other names of emotions: those of faces, as models of faces spell them, and their other parts of speech."""
# fmt: on


class Place(NamedTuple):
    """A place on the plane: valence and arousal, each in [-1, 1]."""

    valence: float
    arousal: float


@dataclass(frozen=True)
class Emotion:
    """One of the 24 emotions of Plutchik's wheel, or `NEUTRAL`."""

    name: str
    family: str  #: the name of the petal it lies on: that of its emotion of middle intensity
    intensity: int  #: 1 (mild, at the petal's tip), 2 or 3 (strong, at the centre); 0 of what is neutral
    angle_deg: float  #: of the petal, clockwise from the top, where joy is; opposite emotions are 180 apart
    #: range [-1, 1]. Neighbours on the plane need not be alike: fear and anger differ in what this plane leaves out.
    valence: float
    arousal: float
    #: what a face shows of it, a key of `FACES`: that of its petal, where the petal has one. Trust and anticipation
    #: have none, and boredom turns up no nose: they wear the face that lies nearest.
    face: str

    @property
    def place(self) -> Place:
        """Where it lies on the plane."""
        return Place(self.valence, self.arousal)


EMOTIONS: dict[str, Emotion] = {
    name: Emotion(name, family, intensity, petal * 360 / len(_WHEEL), valence, arousal, face)
    for petal, (family, emotions) in enumerate(_WHEEL.items())
    for intensity, (name, valence, arousal, face) in enumerate(emotions, start=1)
}
"""Plutchik's wheel by name, petal after petal clockwise, each from mild to strong."""

NEUTRAL = Emotion("neutral", "neutral", 0, 0.0, 0.0, 0.0, "neutral")
"""No emotion at all: the centre of the plane. It is not on the wheel."""

_ALL = {**EMOTIONS, NEUTRAL.name: NEUTRAL}

CLUSTERS: dict[int, Place] = {
    cluster: Place(*(round(math.fsum(axis) / len(words), 3) for axis in zip(*words.values(), strict=True)))
    for cluster, words in ADJECTIVES.items()
}
"""Where MIREX's clusters lie: each at the mean of its adjectives."""


@dataclass(frozen=True)
class PlaceDescription:
    """A place by valence (-1 unpleasant, 1 pleasant) and arousal (-1 calm, 1 excited), and what it is called."""

    valence: float
    arousal: float
    quadrant: str  #: Russell's, ``Q1`` to ``Q4``: 0 counts as pleasant and as excited, so the centre is in Q1
    #: of MIREX, 1 to 5: the one whose place, the mean of its adjectives', is nearest. None of the five is calm and
    #: pleasant: such places belong to cluster 2, 3 or 4.
    cluster: int
    #: the nearest of Plutchik's 24, and its petal
    emotion: str
    family: str
    #: a key of `FACES`: neutral up to `NEUTRAL_RADIUS` from the centre, else the nearest emotion's, so that emotion and
    #: face never contradict each other. No face is calm and pleasant: there it is happy.
    face: str

    def __str__(self) -> str:
        return (
            f"valence {self.valence:+.2f}, arousal {self.arousal:+.2f}: {self.quadrant}, MIREX cluster {self.cluster}, "
            f"{self.emotion} ({self.family}), face {self.face}"
        )


def describe_place(valence: float, arousal: float) -> PlaceDescription:
    """All that this table says of a place.

    Raises `UsageError` if a number is not from -1 to 1; so too for the functions below.
    """
    place = _checked(valence, arousal)
    quadrant = QUADRANTS[place.valence >= 0, place.arousal >= 0]
    cluster = min(CLUSTERS, key=lambda number: _distance(place, CLUSTERS[number]))
    nearest = min(EMOTIONS.values(), key=lambda emotion: _distance(place, emotion.place))
    face = NEUTRAL.face if round(math.hypot(*place), 9) <= NEUTRAL_RADIUS else nearest.face
    return PlaceDescription(valence, arousal, quadrant, cluster, nearest.name, nearest.family, face)


def mood_in_words(valence: float, arousal: float) -> str:
    """How music at a place feels, in words and numbers: ``tense and energetic (valence -0.4, arousal 0.6)``."""
    words = mood_words(valence, arousal)
    return f"{words} (valence {round(valence, 1) + 0.0:.1f}, arousal {round(arousal, 1) + 0.0:.1f})"  # no "-0.0"


def mood_words(valence: float, arousal: float) -> str:
    """How music at a place feels: ``tense and energetic``.

    The words are those of the two nearest `DIRECTIONS`, the nearer first; of one alone, if it is within 10 degrees.
    Less than 0.5 from the centre they are ``slightly`` so, and up to `NEUTRAL_RADIUS` it is ``neutral``.
    """
    place = _checked(valence, arousal)
    distance = round(math.hypot(*place), 9)
    if distance <= NEUTRAL_RADIUS:
        return "neutral"
    step = math.degrees(math.atan2(place.arousal, place.valence)) / 45
    nearest = round(step)
    second = nearest + (1 if step > nearest else -1)
    directions = [nearest] if abs(step - nearest) < 10 / 45 else [nearest, second]
    words = " and ".join(DIRECTIONS[number % len(DIRECTIONS)] for number in directions)
    return words if distance >= 0.5 else f"slightly {words}"


def find_emotion(name: str) -> Emotion:
    """The emotion of a name in upper or lower case: one of the wheel, of a face, or a synonym.

    Raises `UsageError` if there is none of that name; the message names the nearest, or else all.
    """
    plain = name.strip().lower()
    emotion = _ALL.get(SYNONYMS.get(plain, plain))
    if emotion is None:
        near = " or ".join(difflib.get_close_matches(plain, [*_ALL, *SYNONYMS]))
        hint = f"did you mean {near}?" if near else f"it has {', '.join(EMOTIONS)}; faces show {', '.join(FACES)}"
        raise UsageError(f"no emotion {name!r} on Plutchik's wheel: {hint}")
    return emotion


def from_face(scores: Mapping[str, float]) -> Place:
    """The place of what a model sees in a face: the mean of the faces' places, weighted by their scores.

    Nothing is read, kept or sent here: the model, and the picture of the face, are the caller's own. The scores, from 0
    up, are of the seven emotions in `FACES`, or of some, by name in upper or lower case, or by a synonym; they need not
    sum to 1. ``library.near(*place, count)`` finds music for the place. Raises `UsageError` if a name is none of a
    face's emotions a score is negative or not finite, or all are 0.
    """
    weights: dict[str, float] = {}
    for name, score in scores.items():
        plain = str(name).strip().lower()
        emotion = SYNONYMS.get(plain, plain)
        if emotion not in FACES.values():
            raise UsageError(f"no emotion {name!r} of a face; there are {', '.join(FACES)}")
        if not (math.isfinite(score) and score >= 0):
            raise UsageError(f"{name}={score}: a face's score is a number from 0 up")
        weights[emotion] = weights.get(emotion, 0.0) + float(score)
    if not any(weights.values()):
        raise UsageError("no emotion of this face has a score above 0")
    shares = np.array([*weights.values()]) / max(weights.values())  # whose sum is finite, whatever the scores are
    return Place(*np.average([_ALL[name].place for name in weights], axis=0, weights=shares).tolist())


def _distance(place: Place, other: Place) -> float:
    # Rounded, so that what is as near in tenths is so in binary too; of equals, `min` takes the first.
    return round(math.dist(place, other), 9)


def _checked(valence: float, arousal: float) -> Place:
    if not (-1 <= valence <= 1 and -1 <= arousal <= 1):  # so NaN is refused, too
        raise UsageError(f"({valence:g}, {arousal:g}): valence and arousal are from -1 to 1")
    return Place(float(valence), float(arousal))


FILE_COLUMNS = ("MoodTag", "Valence", "Arousal")
FILE_SCALE = (1.0, 9.0)  #: of a table that `read_places` reads, as Music2Emotion (AMAAI Lab) has them

# fmt: off
PLACES: dict[str, Place] = {tag: Place(*axes) for tag, axes in {
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
}.items()}
"""Where tags lie."""
# fmt: on

CLASS_PLACES: dict[str, Place] = {
    **{n: Place(0.5 if pleasant else -0.5, 0.5 if excited else -0.5) for (pleasant, excited), n in QUADRANTS.items()},
    **{f"Cluster {number}": place for number, place in CLUSTERS.items()},
    "relax": PLACES["relaxing"],
    "angry": PLACES["Angry music"],
}
"""Of classes that are no words of `PLACES`: the middles of Russell's quadrants, MIREX's clusters, and other names."""


def read_places(path: Path) -> dict[str, Place]:
    """Read another table of tags, as `PLACES`: CSV with columns MoodTag, Valence and Arousal, in any order.

    Numbers are from 1, which becomes -1, to 9, which becomes 1. Raises `DataError` if the file is missing or no such
    table, a number is none or out of range, or a tag stands twice; with the line.
    """
    low, high = FILE_SCALE
    places: dict[str, Place] = {}
    for line, row in enumerate(read_columns(path, FILE_COLUMNS), start=2):
        tag, where = unicodedata.normalize("NFC", row[FILE_COLUMNS[0]].strip()), f"{path}, line {line}"
        if not tag or tag in places:
            raise DataError(f"{where}: " + (f"{tag!r} stands here a second time" if tag else "no tag"))
        numbers = [read_number(row[axis].strip(), FILE_SCALE, f"{where}, {axis}") for axis in FILE_COLUMNS[1:]]
        places[tag] = Place(*(2 * (number - low) / (high - low) - 1 for number in numbers))
    if not places:
        raise DataError(f"{path}: a table without rows")
    return places


def place_of(task: Task, thresholds: Floats, scores: Array, places: Mapping[str, Place] = PLACES) -> Array | None:
    """Valence and arousal of tracks, by whatever a tagger predicts.

    A tagger for the values ``valence`` and ``arousal`` says them itself: they are moved from their scale to [-1, 1].
    Tags are asked by `tags.place_tags`; classes by the mean of their places, weighted by their probabilities. From
    scores (..., targets) to float32 (..., 2) in [-1, 1]; None where the targets say nothing of valence and arousal: not
    one tag has a place, or a class has none, or the values are others.
    """
    return task.rules.place(task, thresholds, scores, places, CLASS_PLACES)
