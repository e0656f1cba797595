import numpy as np
import pytest

from jamendo_mood import tasks
from jamendo_mood.errors import UsageError
from jamendo_mood.tasks import KINDS, Task


@pytest.fixture(scope="module")
def tagged():
    generator = np.random.default_rng(5)
    targets = (generator.random((80, 4)) < [0.5, 0.2, 0.1, 0.3]).astype(np.float32)
    return targets, (generator.random((80, 4)) * 0.5 + 0.5 * targets).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_and_loss_of_a_kind_are_there(kind, tagged):
    import keras

    assert callable(keras.activations.get(KINDS[kind].activation))
    targets, scores = tagged
    assert float(KINDS[kind].make_loss("", targets, 0.0)(targets, scores)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_tunes_decides_and_scores_what_it_monitors(kind, tagged):
    targets, scores = tagged
    rules = Task("any", kind, ("a", "b", "c", "d")).rules
    calibrated = rules.calibrated(scores, rules.calibrate(targets > 0, scores))
    assert calibrated.shape == scores.shape
    assert len(rules.grade(targets > 0, calibrated)) == targets.shape[1]
    tuned = rules.tune(targets > 0, scores)
    decisions = rules.decide(scores, tuned)
    assert decisions.shape == scores.shape
    figures = rules.score(targets > 0, scores, decisions)
    assert figures[rules.monitor] == rules.watch(targets > 0, scores)
    assert all(isinstance(figure, float) and np.isfinite(figure) for figure in figures.values())


def test_a_score_at_its_threshold_is_decided_whatever_its_precision():
    decimals = np.array([0.1, 0.7])  # the one is less in float64 than in float32, the other more
    scores = decimals.astype(np.float32)
    assert tasks.reaches_threshold(scores, scores.astype(np.float64)).all()
    assert tasks.reaches_threshold(scores, decimals).all()
    assert not tasks.reaches_threshold(scores, decimals + 1e-4).any()


def test_biases_start_at_the_log_odds_of_the_prior(tagged):
    targets, _ = tagged
    prior = 1 / (1 + np.exp(-tasks.prior_log_odds(targets)))
    assert prior == pytest.approx((targets.sum(axis=0) + 1) / (len(targets) + 2))
    assert np.isfinite(tasks.prior_log_odds(np.zeros((5, 2), np.float32))).all()


@pytest.mark.parametrize(
    ("kind", "targets", "message"),
    [
        ("nosuch", ("a",), "unknown kind 'nosuch'.*tags"),
        ("tags", (), "at least one"),
        ("tags", ("a", "a"), "different"),
    ],
)
def test_a_task_that_makes_no_sense_is_a_usage_error(kind, targets, message):
    with pytest.raises(UsageError, match=message):
        Task("any", kind, targets)
