"""Tracks and targets; folds, artists' names, and leaks between parts."""

from collections import Counter

import numpy as np
import pytest
from toy_examples import make_tracks

from jamendo_mood.datasets import load_dataset
from jamendo_mood.datasets.dataset import (
    PARTS,
    Dataset,
    Track,
    assign_folds,
    check_leaks,
    drop_leaks,
    find_leaks,
    join_artists,
    make_parts,
)
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError


def test_targets_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"\(2, 3\) do not fit 2 tracks and 2 names"):
        Dataset(Task("any", "tags", ("a", "b")), make_tracks(2), np.zeros((2, 3), np.float32), {})


COUNT = 10
GOLDEN = [0, 1, 0, 0, 2, 2, 1, 1, 0, 2]
GOLDEN_LABELLED = [0, 1, 0, 2, 1, 2, 2, 1, 0, 0]


def make_groups(seed=0, groups=150, largest=9):
    """Names of groups of 1 to `largest` examples, the examples of a group apart from each other."""
    rng = np.random.default_rng(seed)
    names = [f"group {number}" for number in range(groups) for _ in range(rng.integers(1, largest + 1))]
    return [names[row] for row in rng.permutation(len(names))]


def make_labels(groups, shares=(0.5, 0.3, 0.2), seed=1):
    return np.random.default_rng(seed).choice(["a", "b", "c"], len(groups), p=shares).tolist()


def test_groups_stay_together_and_folds_are_even():
    groups = make_groups()
    folds = assign_folds(groups)
    assert folds.dtype == np.intp
    assert all(len({*folds[np.array(groups) == group]}) == 1 for group in set(groups))
    sizes = np.bincount(folds, minlength=COUNT)
    assert sizes.sum() == len(groups)
    assert np.ptp(sizes) <= 2


@pytest.mark.parametrize(
    ("groups", "count", "sizes"),
    [
        ([str(number) for number in range(103)], 10, [10] * 7 + [11] * 3),
        (["choir"] * 50 + [f"singer {number}" for number in range(100)], 5, [25, 25, 25, 25, 50]),
        ([f"Bj\u00f6rk {number} \udc80" for number in range(10)], 10, [1] * 10),
        (["a", "b", "c"] * 20, 3, [20, 20, 20]),
    ],
    ids=["singles", "a large one", "letters", "as many as folds"],
)
def test_folds_are_as_even_as_groups_allow(groups, count, sizes):
    assert sorted(np.bincount(assign_folds(groups, count=count))) == sizes


def test_each_fold_has_its_share_of_each_class():
    groups = make_groups(largest=4)
    labels = make_labels(groups)
    folds = assign_folds(groups, labels)
    for label, count in Counter(labels).items():
        shares = np.bincount(folds[np.array(labels) == label], minlength=COUNT)
        assert np.ptp(shares) <= 2, (label, count, shares)
    assert np.ptp(np.bincount(folds)) <= 5
    blind = assign_folds(groups)
    assert np.ptp(np.bincount(blind[np.array(labels) == "c"], minlength=COUNT)) > 2  # labels made the difference


def test_a_class_rarer_than_the_folds_is_spread_over_some_of_them():
    labels = ["common"] * 97 + ["rare"] * 3
    folds = assign_folds([str(number) for number in range(100)], labels)
    assert len({*folds[97:]}) == 3
    assert np.ptp(np.bincount(folds)) <= 1


def test_a_rare_class_counts_as_much_as_a_common_one():
    """Groups of both classes: the few of the rare one must not gather where the common one is thin."""
    groups = [f"group {number // 10}" for number in range(400)]
    labels = ["rare" if number % 10 == 0 and number < 200 else "common" for number in range(400)]
    folds = assign_folds(groups, labels)
    assert [*np.bincount(folds[np.array(labels) == "rare"], minlength=COUNT)] == [2] * COUNT


def test_another_seed_makes_other_folds():
    groups = make_groups(largest=3)
    assert (assign_folds(groups, seed=1) != assign_folds(groups, seed=2)).mean() > 0.5


def test_folds_are_what_they_were():
    """A tagger's test part must not change with a version of this package or of a library: golden values."""
    groups = ["ann", "bob", "ann", "cid", "dee", "eve", "fay", "bob", "ann", "gus"]
    assert assign_folds(groups, count=3).tolist() == GOLDEN
    assert assign_folds(groups, list("xyxyxyxyxy"), count=3).tolist() == GOLDEN_LABELLED


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match=r"10 folds need at least 10 artists, and there are 3$"):
        assign_folds(["a", "b", "c"] * 20)


@pytest.mark.parametrize("split", range(4))
def test_a_fold_is_the_test_part_and_the_next_the_validation_part(split):
    folds = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    parts = make_parts(folds, split)
    assert tuple(parts) == PARTS == ("train", "validation", "test")
    assert {*folds[parts["test"]]} == {split}
    assert {*folds[parts["validation"]]} == {(split + 1) % 4}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(8))


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("Blue, Anna", "Anna Blue", True),
        ("Anna Blue", "ANNA BLUE & The Greens", True),
        ("The Greens [2]", "Greens", True),
        ("Ocker/Umbra", "Ocker-Umbra", True),
        ("Rot (DE) and Ocker", "Ocker/Weiss", True),
        ("Tan, Lee & His Orchestra", "lee tan", True),
        ("O'Grau", "OGrau", True),
        ("Björk Ünal ", "björk ünal", True),
        ("Orchestra & Grau", "Grau", True),
        ("Anna Blue", "Anna Green", False),
        ("Blue", "Anna Blue", False),  # one word may be another's second name
        ("The Band", "The Bend", False),  # misspelt, or not
        ("Duke & his Orchestra", "Count and his Orchestra", False),
        ("Rolands", "Roland's Sand & Co", False),
        ("The [1]", "And", False),  # no words are left of them
    ],
)
def test_credits_that_share_a_performer_are_joined_and_others_not(first, second, joined):
    names = join_artists([first, "Somebody Else", second])
    assert (names[0] == names[2]) == joined
    assert names[1] not in (names[0], names[2])


def test_a_chain_of_credits_is_one_artist():
    names = join_artists(["Rot", "Rot/Blau", "Gelb/Blau", "Gelb", "Lila"])
    assert names == ("gelb", "gelb", "gelb", "gelb", "lila")


def test_the_order_of_the_rows_does_not_matter():
    names = ["Zed & Anna Blue", "Blue, Anna", "Zed", "Yam"]
    assert join_artists(names[::-1]) == join_artists(names)[::-1]


def test_no_credit_stays_none_and_they_are_not_one_artist():
    assert join_artists(["", "  ", "Anna"]) == ("", "", "anna")
    assert join_artists([]) == ()


def track(number, artist=None, content=""):
    return Track(f"t{number}", f"00/{number}.mp3", None, artist or f"artist {number}", content)


def test_tracks_artists_and_recordings_are_found_between_any_two_parts():
    parts = {
        "training": [track(1, "Ann"), track(2, content="f00d"), track(3)],
        "validation": [track(4, "Ann"), track(5)],
        "test": [track(3), track(6, content="f00d"), track(7, "Ann")],
    }
    found = {(leak.kind, leak.parts, leak.track.key, leak.other.key) for leak in find_leaks(parts)}
    assert found == {
        ("artist", ("training", "validation"), "00/1", "00/4"),
        ("artist", ("training", "test"), "00/1", "00/7"),
        ("artist", ("validation", "test"), "00/4", "00/7"),
        ("track", ("training", "test"), "00/3", "00/3"),
        ("artist", ("training", "test"), "00/3", "00/3"),
        ("bit-identical audio", ("training", "test"), "00/2", "00/6"),
    }


def test_what_is_shared_is_named_and_the_way_out():
    parts = {"training": [track(n, "Ann", "f00d") for n in range(5)], "test": [track(9, content="f00d")]}
    named = "; ".join(f"bit-identical audio in training and test: '00/{n}' and '00/9'" for n in range(3))
    with pytest.raises(DataError, match=rf"^the parts overlap: {named}; and 2 more\. .*--leaks drop\), .*--leaks keep"):
        check_leaks(find_leaks(parts))


def test_dropping_leaves_clean_parts():
    train = [track(1, "Ann"), track(2, content="f00d"), track(3)]
    validation = [track(4, "Ann"), track(5, "Bob")]
    test = [track(6, content="f00d"), track(7, "Bob")]
    leaks = find_leaks({"training": train, "validation": validation, "test": test})
    assert drop_leaks("training", train, leaks).tolist() == [False, False, True]
    assert drop_leaks("validation", validation, leaks).tolist() == [True, False]
    assert drop_leaks("test", test, leaks).all()
    assert find_leaks({"training": [train[2]], "validation": [validation[0]], "test": test}) == []


@pytest.mark.shared
@pytest.mark.parametrize(("split", "count"), [(0, 4), (1, 1), (2, 10), (3, 10), (4, 6)])
def test_jamendos_official_splits_share_recordings_under_other_names(shared, split, count):
    dataset = load_dataset("jamendo", shared / "data" / "jamendo", split=split)
    leaks = find_leaks({part: [dataset.tracks[row] for row in rows] for part, rows in dataset.parts.items()})
    assert {leak.kind for leak in leaks} == {"bit-identical audio"}
    assert len({frozenset([leak.track.key, leak.other.key]) for leak in leaks}) == count


def test_a_track_that_comes_once_for_each_moment_leaks_once_a_kind():
    track = make_tracks(1)[0]
    assert [leak.kind for leak in find_leaks({"training": [track] * 60, "test": [track] * 30})] == ["track", "artist"]
