"""From a place on the plane to its names, and from names and faces to places."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.tagging.emotions import (
    ADJECTIVES,
    CLUSTERS,
    EMOTIONS,
    FACES,
    NEUTRAL,
    NEUTRAL_RADIUS,
    PLACES,
    SYNONYMS,
    describe_place,
    find_emotion,
    from_face,
    mood_in_words,
)
from jamendo_mood.util.errors import UsageError

GRID = list(itertools.product(np.linspace(-1, 1, 41).round(2).tolist(), repeat=2))
PAGE = Path(__file__).resolve().parents[2] / "docs" / "emotions.md"


# ---- The table.


def test_the_wheel_has_eight_petals_of_three():
    assert len(EMOTIONS) == 24
    families = list(dict.fromkeys(emotion.family for emotion in EMOTIONS.values()))
    assert families == ["joy", "trust", "fear", "surprise", "sadness", "disgust", "anger", "anticipation"]
    for family in families:
        petal = [emotion for emotion in EMOTIONS.values() if emotion.family == family]
        assert [emotion.intensity for emotion in petal] == [1, 2, 3]
        assert petal[1].name == family
        assert petal[0].arousal < petal[1].arousal < petal[2].arousal
    for one, other in zip(families[:4], families[4:], strict=True):  # opposites face each other
        assert abs(find_emotion(one).angle_deg - find_emotion(other).angle_deg) == 180
    assert len({emotion.place for emotion in EMOTIONS.values()} | {NEUTRAL.place}) == 25


def test_all_that_is_placed_lies_on_tenths_within_the_plane():
    words = [place for adjectives in ADJECTIVES.values() for place in adjectives.values()]
    positions = np.array([*words, *(emotion.place for emotion in EMOTIONS.values()), *PLACES.values()])
    assert np.abs(positions).max() <= 1
    assert np.allclose(positions * 10, np.round(positions * 10))


def test_each_of_five_clusters_lies_at_the_mean_of_its_adjectives_few_of_which_are_nearer_to_another():
    assert list(ADJECTIVES) == list(CLUSTERS) == [1, 2, 3, 4, 5]
    words = [word for adjectives in ADJECTIVES.values() for word in adjectives]
    assert len(words) == len(set(words)) == 29
    for cluster, place in CLUSTERS.items():
        np.testing.assert_allclose(place, np.mean([*ADJECTIVES[cluster].values()], axis=0), atol=0.0005)
        assert describe_place(*place).cluster == cluster
    assert [describe_place(*place).quadrant for place in CLUSTERS.values()] == ["Q1", "Q1", "Q3", "Q1", "Q2"]
    strays = {
        word
        for own, words in ADJECTIVES.items()
        for word, place in words.items()
        if describe_place(*place).cluster != own
    }
    assert strays == {"confident", "rollicking", "humorous", "silly"}
    assert all(f"`{word}`" in PAGE.read_text(encoding="utf-8") for word in strays)


# ---- Places to names.


def test_an_emotion_wears_the_face_of_its_petal_where_there_is_one():
    faces = {emotion: face for face, emotion in FACES.items()}
    odd = {name for name, one in EMOTIONS.items() if one.family in faces and one.face != faces[one.family]}
    assert odd == {"boredom"}


def test_every_place_has_every_name():
    seen = set()
    for valence, arousal in GRID:
        described = describe_place(valence, arousal)
        expected = {(1, 1): "Q1", (0, 1): "Q2", (0, 0): "Q3", (1, 0): "Q4"}[valence >= 0, arousal >= 0]
        assert described.quadrant == expected
        assert described.cluster in CLUSTERS
        assert EMOTIONS[described.emotion].family == described.family
        assert described.face in FACES
        inside = valence**2 + arousal**2 <= NEUTRAL_RADIUS**2 + 1e-9
        assert (described.face == "neutral") == inside
        assert inside or described.face == EMOTIONS[described.emotion].face
        seen |= {described.quadrant, described.cluster, described.emotion, described.face}
    assert seen == {"Q1", "Q2", "Q3", "Q4", *CLUSTERS, *EMOTIONS, *FACES}


def test_nearest_is_nearest():
    for place in GRID:
        least = min(math.dist(place, emotion.place) for emotion in EMOTIONS.values())
        assert math.dist(place, EMOTIONS[describe_place(*place).emotion].place) == pytest.approx(least, abs=1e-8)
        least = min(math.dist(place, centre) for centre in CLUSTERS.values())
        assert math.dist(place, CLUSTERS[describe_place(*place).cluster]) == pytest.approx(least, abs=1e-8)


def test_ties_go_to_what_stands_first():
    # Halfway between fear (-0.7, 0.7) and anger (-0.6, 0.7): fear stands first.
    assert describe_place(-0.65, 0.7).emotion == "fear"
    assert describe_place(-0.65 + 1e-6, 0.7).emotion == "anger"
    assert describe_place(0, 0).quadrant == describe_place(-0.0, -0.0).quadrant == "Q1"
    assert describe_place(-0.1, 0).quadrant == "Q2"
    assert describe_place(0, -0.1).quadrant == "Q4"


def test_the_disc_of_neutral_has_an_edge_that_belongs_to_it():
    assert (
        describe_place(0, 0).face
        == describe_place(NEUTRAL_RADIUS, 0).face
        == describe_place(0.15, -0.2).face
        == "neutral"
    )
    assert describe_place(NEUTRAL_RADIUS + 1e-6, 0).face != "neutral"
    assert min(math.hypot(*emotion.place) for emotion in EMOTIONS.values()) > NEUTRAL_RADIUS
    neutral = {tag for tag, place in PLACES.items() if describe_place(*place).face == "neutral"}
    assert neutral == {"documentary", "emotional", "film", "movie"}


@pytest.mark.parametrize("place", [(1.01, 0), (0, -2), (math.nan, 0), (0, math.inf)])
@pytest.mark.parametrize("name", [describe_place, mood_in_words])
def test_what_is_not_on_the_plane_has_no_name(name, place):
    with pytest.raises(UsageError, match="valence and arousal are from -1 to 1"):
        name(*place)


def test_a_description_fits_a_line():
    described = "valence -0.80, arousal -0.40: Q3, MIREX cluster 3, sadness (sadness), face sad"
    assert str(describe_place(-0.8, -0.4)) == described


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((-0.4, 0.6), "tense and energetic (valence -0.4, arousal 0.6)"),
        (PLACES["Happy music"], "joyful and warm (valence 0.9, arousal 0.4)"),
        (PLACES["relaxing"], "tender (valence 0.6, arousal -0.7)"),
        ((-1.0, 0.0), "dark (valence -1.0, arousal 0.0)"),
        ((-0.1, -0.3), "slightly calm and sad (valence -0.1, arousal -0.3)"),
        ((0.15, -0.2), "neutral (valence 0.1, arousal -0.2)"),
        ((-0.001, 0.0), "neutral (valence 0.0, arousal 0.0)"),
    ],
)
def test_a_mood_is_said_in_words(place, words):
    assert mood_in_words(*place) == words


def test_words_never_contradict_the_quadrant():
    sides = {"Q1": "warm joyful energetic", "Q2": "energetic tense dark", "Q3": "dark sad calm"}
    sides["Q4"] = "calm tender warm"
    for valence, arousal in np.random.default_rng(0).uniform(-1, 1, (500, 2)).tolist():
        words = re.findall("[a-z]+", mood_in_words(valence, arousal).partition(" (")[0])
        assert set(words) <= {"slightly", "and", "neutral", *sides[describe_place(valence, arousal).quadrant].split()}


# ---- Names to places.


def test_emotions_are_found_by_name():
    assert find_emotion(" Rage") is EMOTIONS["rage"]
    assert find_emotion("HAPPY") is find_emotion("happiness") is EMOTIONS["joy"]
    assert find_emotion("neutral") is NEUTRAL
    for name, emotion in SYNONYMS.items():
        assert find_emotion(name).name == emotion
    with pytest.raises(UsageError, match="no emotion 'serenety' on Plutchik's wheel: did you mean serenity"):
        find_emotion("serenety")
    with pytest.raises(UsageError, match=r"it has serenity, joy, ecstasy, acceptance.*; faces show happy, sad, angry"):
        find_emotion("xyzzy")


def test_a_face_lies_at_the_weighted_mean_which_is_on_the_plane():
    scores = {"Happy": 0.5, "SURPRISE": 0.25, "neutral": 0.25, "sad": 0.0}
    expected = 0.5 * np.array(EMOTIONS["joy"].place) + 0.25 * np.array(EMOTIONS["surprise"].place)
    np.testing.assert_allclose(from_face(scores), expected)
    np.testing.assert_allclose(from_face({name: 40 * score for name, score in scores.items()}), expected)
    np.testing.assert_allclose(from_face({"happiness": np.float32(2), "Joy": 1.0}), EMOTIONS["joy"].place)
    assert describe_place(*from_face(scores)).quadrant == "Q1"
    for face, emotion in FACES.items():
        assert from_face({face: 0.3}) == find_emotion(emotion).place
        assert from_face({other: float(other == face) for other in FACES}) == find_emotion(emotion).place
    assert np.abs(from_face(dict.fromkeys(FACES, 1.7e308))).max() <= 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"contempt": 0.5}, "no emotion 'contempt' of a face; there are happy, sad, angry, fear, surprise"),
        ({"serenity": 0.5}, "no emotion 'serenity' of a face"),
        ({"happy": -0.1}, "happy=-0.1: a face's score is a number from 0 up"),
        ({"happy": math.nan}, "happy=nan"),
        ({"happy": 0.0, "sad": 0}, "no emotion of this face has a score above 0"),
        ({}, "no emotion of this face has a score above 0"),
    ],
)
def test_scores_that_are_of_no_face(scores, message):
    with pytest.raises(UsageError) as caught:
        from_face(scores)
    assert message in str(caught.value)


# ---- The page.


def row(name, place):
    """A row of the page's tables: a name and all that its place is called."""
    described = describe_place(*place)
    chain = f"{described.quadrant} | {described.cluster} | {described.emotion} | {described.face}"
    return f"| {name} | {place[0]:.1f} | {place[1]:.1f} | {chain} |"


def test_the_page_shows_the_table_as_it_is():
    lines = set(PAGE.read_text(encoding="utf-8").splitlines())
    words = {name: emotion.place for name, emotion in EMOTIONS.items()} | {"neutral": NEUTRAL.place} | PLACES
    missing = [row(name, place) for name, place in words.items() if row(name, place) not in lines]
    assert missing == []
    for cluster, place in CLUSTERS.items():
        adjectives = ", ".join(ADJECTIVES[cluster])
        assert f"| {cluster} | {adjectives} | {place.valence:.2f} | {place.arousal:.2f} |" in lines
    assert f"{NEUTRAL_RADIUS:g} from the centre" in PAGE.read_text(encoding="utf-8")
