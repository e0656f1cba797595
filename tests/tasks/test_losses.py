import numpy as np
import pytest

from jamendo_mood.tasks.classes import make_class_loss
from jamendo_mood.tasks.tags import TAG_LOSSES, make_tag_loss
from jamendo_mood.tasks.values import ccc, make_value_loss
from jamendo_mood.util.errors import UsageError

Y = np.array([[1, 0], [0, 0], [0, 1], [0, 0]], np.float32)
P = np.array([[0.8, 0.3], [0.1, 0.02], [0.6, 0.4], [0.5, 0.9]], np.float32)


def by_hand(cost, weight=1):
    """The mean over examples and tags, one by one."""
    pairs = zip(Y.ravel(), P.ravel(), strict=True)
    return np.mean([weight * cost(1, score) if truth else cost(0, score) for truth, score in pairs])


def cross_entropy(truth, p):
    return -np.log(p if truth else 1 - p)


def focal(truth, p):
    return -np.log(p) * (1 - p) ** 2 if truth else -np.log(1 - p) * p**2


def asymmetric(truth, p):
    shifted = max(p - 0.05, 0)
    return -np.log(p) if truth else -np.log(1 - shifted) * shifted**4


@pytest.mark.parametrize(("name", "cost"), [("bce", cross_entropy), ("focal", focal), ("asymmetric", asymmetric)])
def test_losses_are_those_of_the_papers_and_finite(name, cost):
    assert {"bce", "focal", "asymmetric"} == set(TAG_LOSSES)
    loss = make_tag_loss(name, Y, 0.0)
    assert float(loss(Y, P)) == pytest.approx(by_hand(cost), rel=1e-5)
    assert np.isfinite(float(loss(Y, np.array([[0, 1], [1, 0], [0, 0], [1, 1]], np.float32))))


def test_positives_of_rare_tags_weigh_more():
    """One positive in four: as if seen once more each, (3 + 1) to (1 + 1); half the power, its square root."""
    assert float(make_tag_loss("bce", Y, 1.0)(Y, P)) == pytest.approx(by_hand(cross_entropy, 2), rel=1e-5)
    half = by_hand(cross_entropy, 2**0.5)
    assert float(make_tag_loss("bce", Y, 0.5)(Y, P)) == pytest.approx(half, rel=1e-5)


def test_no_name_is_the_cross_entropy_and_an_unknown_one_is_refused():
    assert float(make_tag_loss("", Y, 0.0)(Y, P)) == float(make_tag_loss("bce", Y, 0.0)(Y, P))
    with pytest.raises(UsageError, match=r"unknown loss 'hinge' for tags \(known: bce, focal, asymmetric\)"):
        make_tag_loss("hinge", Y, 0.0)


def test_the_loss_of_classes_is_cross_entropy():
    truth = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    scores = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]], np.float32)
    expected = -(np.log(0.7) + np.log(0.4)) / 6
    assert float(make_class_loss("", truth, 0.0)(truth, scores)) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(float(make_class_loss("", truth, 0.0)(truth, 1 - truth)))


def test_examples_of_rare_classes_weigh_more():
    """Sizes 4, 2 and 1, each as if one more: 5, 3 and 2, whose mean is 10 / 3."""
    truth = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 1, 2]]
    loss = make_class_loss("cross-entropy", truth, 1.0)
    for row, size in ((0, 5), (4, 3), (6, 2)):
        scores = np.full((1, 3), 1 / 3, np.float32)
        assert float(loss(truth[row : row + 1], scores)) == pytest.approx(10 / 3 / size * np.log(3) / 3, rel=1e-5)


def test_the_concordance_loss_is_one_minus_the_metric_and_the_squared_error_a_mean():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((50, 2)).astype(np.float32)
    scores = (truth + rng.standard_normal((50, 2)) / 2 + 0.3).astype(np.float32)
    found = float(make_value_loss("ccc", truth, 0.0)(truth, scores))
    assert found == pytest.approx(1 - ccc(truth, scores).mean(), abs=1e-4)
    assert np.isfinite(float(make_value_loss("ccc", truth, 0.0)(truth, truth * 0)))
    squared = make_value_loss("", truth, 0.0)(truth, truth + np.array([[1, 3]], np.float32))
    assert float(squared) == pytest.approx(5)
