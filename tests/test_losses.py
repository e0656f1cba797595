import numpy as np
import pytest

from jamendo_mood.errors import UsageError
from jamendo_mood.losses import TAG_LOSSES, make_tag_loss

Y = np.array([[1, 0], [0, 0], [0, 1], [0, 0]], np.float32)
P = np.array([[0.8, 0.3], [0.1, 0.02], [0.6, 0.4], [0.5, 0.9]], np.float32)


def by_hand(cost, weights=(1, 1)):
    """The mean over examples and tags, in plain loops."""
    total = 0.0
    for truths, scores in zip(Y.tolist(), P.tolist(), strict=True):
        for truth, score, weight in zip(truths, scores, weights, strict=True):
            total += weight * cost(1, score) if truth else cost(0, score)
    return total / Y.size


def cross_entropy(truth, p):
    return -np.log(p if truth else 1 - p)


def focal(truth, p):
    return -np.log(p) * (1 - p) ** 2 if truth else -np.log(1 - p) * p**2


def asymmetric(truth, p):
    shifted = max(p - 0.05, 0)
    return -np.log(p) if truth else -np.log(1 - shifted) * shifted**4


@pytest.mark.parametrize(("name", "cost"), [("bce", cross_entropy), ("focal", focal), ("asymmetric", asymmetric)])
def test_losses_are_those_of_the_papers(name, cost):
    assert {"bce", "focal", "asymmetric"} == set(TAG_LOSSES)
    assert float(make_tag_loss(name, Y, 0.0)(Y, P)) == pytest.approx(by_hand(cost), rel=1e-5)


def test_positives_of_rare_tags_weigh_more():
    """One positive in four: as if seen once more each, (3 + 1) to (1 + 1); half the power, its square root."""
    assert float(make_tag_loss("bce", Y, 1.0)(Y, P)) == pytest.approx(by_hand(cross_entropy, (2, 2)), rel=1e-5)
    half = by_hand(cross_entropy, (2**0.5, 2**0.5))
    assert float(make_tag_loss("bce", Y, 0.5)(Y, P)) == pytest.approx(half, rel=1e-5)


@pytest.mark.parametrize("name", TAG_LOSSES)
def test_scores_of_zero_and_one_cost_a_finite_number(name):
    certain = np.array([[0, 1], [1, 0], [0, 0], [1, 1]], np.float32)
    assert np.isfinite(float(make_tag_loss(name, Y, 0.0)(Y, certain)))


def test_no_name_is_the_cross_entropy_and_an_unknown_one_is_refused():
    assert float(make_tag_loss("", Y, 0.0)(Y, P)) == float(make_tag_loss("bce", Y, 0.0)(Y, P))
    with pytest.raises(UsageError, match=r"unknown loss 'hinge' for tags \(known: bce, focal, asymmetric\)"):
        make_tag_loss("hinge", Y, 0.0)
