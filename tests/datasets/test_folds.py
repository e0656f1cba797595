"""Folds and shares: even, of whole groups, with all classes in each, and the same whatever the order of the rows."""

from collections import Counter

import numpy as np
import pytest

from jamendo_mood.datasets.dataset import PARTS, assign_folds, make_parts
from jamendo_mood.util.errors import DataError, UsageError

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


def test_singles_make_folds_that_differ_by_one():
    folds = assign_folds([str(number) for number in range(103)])
    assert sorted(np.bincount(folds)) == [10] * 7 + [11] * 3


def test_one_large_group_is_a_fold_of_its_own():
    groups = ["choir"] * 50 + [f"singer {number}" for number in range(100)]
    folds = assign_folds(groups, count=5)
    assert sorted(np.bincount(folds)) == [25, 25, 25, 25, 50]


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


def test_same_seed_same_folds_whatever_the_order_of_the_rows():
    groups = make_groups(largest=3)
    labels = make_labels(groups)
    folds = assign_folds(groups, labels)
    order = np.random.default_rng(5).permutation(len(groups))
    shuffled = assign_folds([groups[row] for row in order], [labels[row] for row in order])
    np.testing.assert_array_equal(shuffled, folds[order])
    np.testing.assert_array_equal(assign_folds(groups, labels), folds)


def test_another_seed_makes_other_folds():
    groups = make_groups(largest=3)
    assert (assign_folds(groups, seed=1) != assign_folds(groups, seed=2)).mean() > 0.5


def test_folds_are_what_they_were():
    """A tagger's test part must not change with a version of this package or of a library: golden values."""
    groups = ["ann", "bob", "ann", "cid", "dee", "eve", "fay", "bob", "ann", "gus"]
    assert assign_folds(groups, count=3).tolist() == GOLDEN
    assert assign_folds(groups, list("xyxyxyxyxy"), count=3).tolist() == GOLDEN_LABELLED


def test_names_beyond_ascii_are_fine():
    assert len(assign_folds([f"Bj\u00f6rk {number} \udc80" for number in range(10)])) == COUNT


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match=r"10 folds need 10 artists at least, and there are 3$"):
        assign_folds(["a", "b", "c"] * 20)
    assert len({*assign_folds(["a", "b", "c"] * 20, count=3)}) == 3


def test_labels_must_be_as_many_as_groups():
    with pytest.raises(ValueError, match="shorter"):
        assign_folds(["a", "b"], ["x"], count=2)


@pytest.mark.parametrize("split", range(4))
def test_a_fold_is_the_test_part_and_the_next_the_validation_part(split):
    folds = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    parts = make_parts(folds, split)
    assert tuple(parts) == PARTS == ("train", "validation", "test")
    assert {*folds[parts["test"]]} == {split}
    assert {*folds[parts["validation"]]} == {(split + 1) % 4}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(8))


@pytest.mark.parametrize("split", [-1, 4])
def test_no_such_fold_is_wrong_usage(split):
    with pytest.raises(UsageError, match=rf"split {split}: these data have 4 folds, 0 to 3"):
        make_parts(np.arange(4), split)
