from itertools import islice

import numpy as np
import pytest

from jamendo_mood.training.augmentation import Augmentation, draw_batches
from jamendo_mood.util.errors import UsageError

PLAIN = Augmentation(crop=4, mixup=0.0)
LENGTHS = [4, 9, 2, 4, 30, 1, 4]
TRACKS = [np.full((length, 2), number, np.float32) for number, length in enumerate(LENGTHS)]
Y = np.eye(len(TRACKS), 5, dtype=np.float32)


def draw(augment, count=3, size=3, seed=0):
    return list(islice(draw_batches(TRACKS, Y, size, augment, np.random.default_rng(seed)), count))


def test_each_pass_meets_every_track_once_in_a_new_order():
    batches = draw(PLAIN, count=7)  # three passes over seven tracks, three at a time
    assert {(rows.shape, mask.shape, len(targets)) for (rows, mask), targets in batches} == {((3, 4, 2), (3, 4), 3)}
    numbers = np.concatenate([rows[:, 0, 0] for (rows, _), _ in batches]).astype(int)
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in batches]), Y[numbers])
    passes = numbers.reshape(3, 7)
    assert all(sorted(order) == list(range(7)) for order in passes.tolist())
    assert len({tuple(order) for order in passes.tolist()}) == 3
    assert all((mask == 1).all() for (_, mask), _ in batches)
    (rows, _), targets = draw(Augmentation(crop=100), count=1, size=8)[0]
    assert rows.shape[1] == max(LENGTHS)  # a crop is never longer than the longest track
    assert len(targets) == 8  # more than there are tracks


def test_the_same_generator_gives_the_same_batches():
    first, second, other = (draw(Augmentation(), seed=seed) for seed in (0, 0, 1))
    np.testing.assert_equal(first, second)
    assert not np.array_equal(first[0][0][0], other[0][0][0])


def test_mixing_is_of_inputs_and_targets_alike():
    """Each track is a number, so what was mixed can be read off the targets."""
    tracks = [np.full((3, 1), number, np.float32) for number in range(5)]
    batches = draw_batches(tracks, np.eye(5, dtype=np.float32), 5, Augmentation(mixup=1.0), np.random.default_rng(0))
    (rows, _), targets = next(batches)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(rows[:, 0, 0], targets @ np.arange(5), rtol=1e-5)
    assert (targets.max(axis=1) < 0.99).any()


def test_dropped_frames_are_masked_and_one_always_stays():
    masks = np.concatenate([mask for (_, mask), _ in draw(Augmentation(crop=30, frame_dropout=0.5), count=60)])
    assert 0.45 < masks.mean() < 0.6
    alone = np.concatenate([mask for (_, mask), _ in draw(Augmentation(crop=2, frame_dropout=0.99), count=60)])
    assert (alone.sum(axis=1) >= 1).all()
    assert alone.mean() < 0.6


@pytest.mark.parametrize("values", [{"crop": 0}, {"mixup": -0.1}, {"frame_dropout": 1.0}, {"smoothing": -1.0}])
def test_an_augmentation_that_makes_no_sense_is_wrong_usage(values):
    with pytest.raises(UsageError, match="crop must be from 1 up"):
        Augmentation(**values)
