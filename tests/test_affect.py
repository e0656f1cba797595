"""Places of moods and emotions on the plane, and of tracks from their tags."""

import csv

import numpy as np
import pytest

from jamendo_mood.affect import EMOTIONS, PLACES, find_emotion, va_of_scores
from jamendo_mood.errors import UsageError
from jamendo_mood.model import load_builtin

THRESHOLDS = np.array([0.5, 0.2, 0.1])
TAGS = ("happy", "sad", "calm")


def va(scores, thresholds=THRESHOLDS, targets=TAGS):
    return va_of_scores(np.array(scores, np.float32), np.asarray(thresholds, float), targets)


@pytest.mark.shared
def test_every_tag_of_the_data_sets_has_a_place(shared):
    lines = (shared / "data" / "jamendo" / "moodtheme.txt").read_text(encoding="utf-8").split()
    tags = {line.removeprefix("mood/theme---") for line in lines}
    assert len(tags) == 59
    assert PLACES.keys() == tags | set(load_builtin().task.targets)


def test_places_are_tenths_within_the_plane():
    positions = np.array([*PLACES.values(), *((one.valence, one.arousal) for one in EMOTIONS.values())])
    assert np.abs(positions).max() <= 1
    assert np.allclose(positions * 10, np.round(positions * 10))


@pytest.mark.shared
def test_our_places_agree_with_those_of_others(shared):
    # Measured: 0.789 for valence, 0.659 for arousal, over 56 tags of Music2Emotion's table (1 to 9).
    with (shared / "data" / "jamendo" / "moodtag_va_scores.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["MoodTag"] in PLACES]
    assert len(rows) == 56
    ours = np.array([PLACES[row["MoodTag"]] for row in rows])
    theirs = np.array([[float(row["Valence"]), float(row["Arousal"])] for row in rows])
    valence, arousal = (np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1] for axis in (0, 1))
    assert valence > 0.7
    assert arousal > 0.6


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5, 0.0, 0.0], PLACES["happy"]),
        ([0.0, 0.01, 0.0], PLACES["sad"]),  # what is heard counts, however faint
        ([0.0, 0.2, 0.1], np.mean([PLACES["sad"], PLACES["calm"]], axis=0)),  # both at their thresholds
        ([0.25, 0.2, 0.0], np.average([PLACES["happy"], PLACES["sad"]], axis=0, weights=[0.25, 1])),
        ([0.0, 1.0, 0.2], np.mean([PLACES["sad"], PLACES["calm"]], axis=0)),  # capped at twice the threshold
        ([0.0, np.nan, 0.1], PLACES["calm"]),
        ([0.0, 0.0, 0.0], (0, 0)),
        ([np.nan] * 3, (0, 0)),
    ],
)
def test_a_track_lies_where_its_tags_do(scores, expected):
    position = va(scores)
    assert position.shape == (2,)
    assert position.dtype == np.float32
    np.testing.assert_allclose(position, expected, atol=1e-6)


def test_tags_without_a_place_or_a_threshold_do_not_count():
    targets = ("happy", "sad", "guitar")
    np.testing.assert_allclose(va([0.5, 0.9, 0.9], [0.5, np.inf, 0.1], targets), PLACES["happy"], atol=1e-6)


def test_a_tagger_that_says_nothing_of_moods_gives_none():
    assert va([0.5, 0.5], [0.5, 0.5], ("guitar", "piano")) is None
    assert va([0.5, 0.5], [np.inf, 0.5], ("happy", "piano")) is None


def test_many_tracks_are_placed_as_each_alone():
    scores = np.random.default_rng(0).random((4, 5, 3))
    together = va(scores)
    assert together.shape == (4, 5, 2)
    assert np.abs(together).max() <= 1
    np.testing.assert_allclose(together[2, 3], va(scores[2, 3]))


def test_a_threshold_of_nought_is_reached_by_any_score():
    np.testing.assert_allclose(va([0.1, 0.0, 0.0], [0.0, 0.2, 0.1]), PLACES["happy"], atol=1e-6)


def test_the_wheel_has_eight_petals_of_three():
    assert len(EMOTIONS) == 24
    families = list(dict.fromkeys(emotion.family for emotion in EMOTIONS.values()))
    assert families == ["joy", "trust", "fear", "surprise", "sadness", "disgust", "anger", "anticipation"]
    for family in families:
        petal = [emotion for emotion in EMOTIONS.values() if emotion.family == family]
        assert [emotion.intensity for emotion in petal] == [1, 2, 3]
        assert petal[1].name == family
        assert len({emotion.angle_deg for emotion in petal}) == 1
        assert petal[0].arousal < petal[1].arousal < petal[2].arousal


@pytest.mark.parametrize(
    ("one", "other"), [("joy", "sadness"), ("trust", "disgust"), ("fear", "anger"), ("surprise", "anticipation")]
)
def test_opposites_face_each_other_on_the_wheel(one, other):
    assert abs(find_emotion(one).angle_deg - find_emotion(other).angle_deg) == 180


def test_emotions_are_found_by_name():
    assert find_emotion(" Rage") == EMOTIONS["rage"]
    with pytest.raises(UsageError, match="no emotion 'serenety' on Plutchik's wheel: did you mean serenity"):
        find_emotion("serenety")
    with pytest.raises(UsageError, match="it has serenity, joy, ecstasy, acceptance"):
        find_emotion("xyzzy")
