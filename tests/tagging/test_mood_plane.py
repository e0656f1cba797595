"""Places of mood tags on the plane, and of tracks from their tags."""

import numpy as np
import pytest

from jamendo_mood.datasets import class_sets
from jamendo_mood.tagging.emotions import CLASS_PLACES, PLACES, describe_place, place_of, read_places
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.tags import place_tags
from jamendo_mood.training.model import load_builtin
from jamendo_mood.util.errors import DataError

THRESHOLDS = np.array([0.5, 0.2, 0.1])
TAGS = ("happy", "sad", "calm")


def va(scores, thresholds=THRESHOLDS, targets=TAGS):
    return place_tags(targets, np.asarray(thresholds, float), np.array(scores, np.float32), PLACES)


@pytest.mark.shared
def test_every_tag_of_the_data_sets_has_a_place(shared):
    lines = (shared / "data" / "jamendo" / "moodtheme.txt").read_text(encoding="utf-8").split()
    tags = {line.removeprefix("mood/theme---") for line in lines}
    assert len(tags) == 59
    assert PLACES.keys() == tags | set(load_builtin().task.targets)


@pytest.fixture
def theirs(shared):
    """Music2Emotion's table (AMAAI Lab, MIT licence)."""
    return read_places(shared / "data" / "jamendo" / "moodtag_va_scores.csv")


def correlations(one, other):
    """Pearson's, of valence and of arousal."""
    return [np.corrcoef(*pair)[0, 1] for pair in zip(np.array([*one]).T, np.array([*other]).T, strict=True)]


@pytest.mark.shared
def test_our_places_agree_with_those_of_others_as_docs_emotions_says(theirs):
    assert len(theirs) == 56
    assert theirs.keys() < PLACES.keys()
    ours = np.array([PLACES[tag] for tag in theirs])
    np.testing.assert_allclose(correlations(ours, theirs.values()), [0.776, 0.661], atol=0.0006)
    differences = np.abs(ours - np.array([*theirs.values()])).mean(axis=0)
    np.testing.assert_allclose(differences, [0.196, 0.321], atol=0.0006)


@pytest.mark.shared
def test_our_places_agree_better_with_the_tags_of_the_same_tracks_as_docs_emotions_says(shared, theirs):
    """A judge of both tables: a tag should lie where the other tags of its tracks lie, by either table's places."""
    beside = {tag: [] for tag in theirs}
    for line in (shared / "data" / "jamendo" / "autotagging_moodtheme.tsv").read_text().splitlines()[1:]:
        tags = [tag for cell in line.split("\t")[5:] if (tag := cell.strip().removeprefix("mood/theme---")) in theirs]
        for tag in tags:
            beside[tag] += [other for other in tags if other != tag]
    by_ours, by_theirs = (
        [np.mean([places[tag] for tag in own], axis=0) for own in beside.values()] for places in (PLACES, theirs)
    )
    ours = [PLACES[tag] for tag in theirs]
    np.testing.assert_allclose(correlations(ours, by_theirs), [0.673, 0.784], atol=0.0006)
    np.testing.assert_allclose(correlations(theirs.values(), by_ours), [0.479, 0.554], atol=0.0006)
    np.testing.assert_allclose(correlations(theirs.values(), by_theirs), [0.419, 0.507], atol=0.0006)


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


def test_tags_without_a_place_or_a_threshold_do_not_count_and_alone_they_give_none():
    targets = ("happy", "sad", "guitar")
    np.testing.assert_allclose(va([0.5, 0.9, 0.9], [0.5, np.inf, 0.1], targets), PLACES["happy"], atol=1e-6)
    np.testing.assert_allclose(va([0.1, 0.0, 0.0], [0.0, 0.2, 0.1]), PLACES["happy"], atol=1e-6)  # any score reaches 0
    assert va([0.5, 0.5], [0.5, 0.5], ("guitar", "piano")) is None
    assert va([0.5, 0.5], [np.inf, 0.5], ("happy", "piano")) is None


def test_many_tracks_are_placed_as_each_alone():
    scores = np.random.default_rng(0).random((4, 5, 3))
    together = va(scores)
    assert together.shape == (4, 5, 2)
    assert np.abs(together).max() <= 1
    np.testing.assert_allclose(together[2, 3], va(scores[2, 3]))


# ---- Tables of others.


@pytest.fixture
def write(tmp_path):
    """Write a table of lines."""

    def write(*lines):
        (tmp_path / "t.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return tmp_path / "t.csv"

    return write


def test_another_table_is_read_in_its_scale(write):
    places = read_places(write("\ufeffArousal,MoodTag,Valence,note", "1,calm,5,x", "9.0,happy,8,", "5,odd one,1,"))
    assert places == {"calm": (0, -1), "happy": (0.75, 1), "odd one": (-1, 0)}
    # A tag that the table does not have has no place in it.
    assert place_tags(("sad",), np.array([0.5]), np.array([0.9], np.float32), places) is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["MoodTag,Valence", "calm,5"], "no column 'Arousal'"),
        (["MoodTag,Valence,Arousal"], "a table without rows"),
        (["MoodTag,Valence,Arousal", "calm,5,3", "calm,5,3"], "line 3: 'calm' stands here a second time"),
        (["MoodTag,Valence,Arousal", ",5,3"], "line 2: no tag"),
        (["MoodTag,Valence,Arousal", "calm,5,nan"], "line 2, Arousal: 'nan' is not a number from 1 to 9"),
        (["MoodTag,Valence,Arousal", "calm,0.5,3"], "line 2, Valence: '0.5' is not a number from 1 to 9"),
        (["MoodTag,Valence,Arousal", "calm,five,3"], "line 2, Valence: 'five'"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(write, lines, message):
    with pytest.raises(DataError, match=f"t.csv.*{message}"):
        read_places(write(*lines))


def test_tags_are_placed_by_their_scores():
    task, scores = Task("toy", "tags", TAGS), np.array([0.9, 0.1, 0.05], np.float32)
    np.testing.assert_array_equal(place_of(task, THRESHOLDS, scores), va(scores))
    np.testing.assert_allclose(place_of(task, THRESHOLDS, scores, {"happy": (-1.0, -1.0)}), [-1, -1])


@pytest.mark.parametrize("targets", [("valence", "arousal"), ("tension", "arousal", "valence")])
def test_values_of_valence_and_arousal_are_places_themselves(targets):
    task = Task("toy", "values", targets, (1.0, 9.0))
    scores = np.full((2, len(targets)), 2.0, np.float32)
    scores[:, targets.index("valence")] = [1, 9]
    scores[:, targets.index("arousal")] = [5, 7]
    np.testing.assert_allclose(place_of(task, np.zeros(len(targets)), scores), [[-1, 0], [1, 0.5]])
    task = Task("toy", "values", ("valence", "arousal"), (0.1, 0.7))
    ends = np.array([[0.1, 0.7]], np.float32)
    assert np.abs(place_of(task, np.zeros(2), ends)).max() <= 1  # rounding must not leave the plane


@pytest.mark.parametrize(
    ("kind", "targets", "scale"),
    [
        ("values", ("valence", "tension"), (0.0, 1.0)),
        ("values", ("happy", "sad"), (0.0, 1.0)),
        ("classes", ("happy", "whatever"), None),
    ],
)
def test_other_values_and_unknown_classes_say_nothing_of_a_place(kind, targets, scale):
    assert place_of(Task("toy", kind, targets, scale), np.zeros(2), np.full(2, 0.5, np.float32)) is None


def test_classes_lie_at_the_mean_of_their_places_by_their_probabilities():
    task, sure = Task("toy", "classes", class_sets.QUADRANTS), np.eye(4, dtype=np.float32)
    places = place_of(task, np.zeros(4), sure)
    assert [describe_place(*place).quadrant for place in places.tolist()] == [*class_sets.QUADRANTS]
    np.testing.assert_allclose(place_of(task, np.zeros(4), sure.mean(axis=0)), [0, 0], atol=1e-6)
    mixed = np.array([0.75, 0.25, 0, 0], np.float32)
    np.testing.assert_allclose(place_of(task, np.zeros(4), mixed), 0.75 * places[0] + 0.25 * places[1])


def test_the_classes_of_the_data_sets_all_have_places():
    for classes in (class_sets.CLUSTERS, class_sets.QUADRANTS, class_sets.TURKISH_CLASSES):
        assert {*classes} <= {*PLACES, *CLASS_PLACES}
    sure = place_of(Task("toy", "classes", class_sets.CLUSTERS), np.zeros(5), np.eye(5, dtype=np.float32))
    assert [f"Cluster {describe_place(*place).cluster}" for place in sure.astype(float).round(3).tolist()] == [
        *class_sets.CLUSTERS
    ]
