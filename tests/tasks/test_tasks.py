import numpy as np
import pytest

from jamendo_mood.tasks import KINDS, Task, tags
from jamendo_mood.tasks.metrics import GRADES, is_defined
from jamendo_mood.util.errors import UsageError

SCALES = {"values": (-1.0, 1.0)}


def make(kind):
    """Targets and scores of a kind."""
    rng = np.random.default_rng(5)
    if kind == "tags":
        targets = rng.random((80, 4)) < [0.5, 0.2, 0.1, 0.3]
        scores = rng.random((80, 4)) * 0.7 + 0.3 * targets
    elif kind == "classes":
        targets = np.eye(4)[rng.choice(4, 80, p=[0.4, 0.3, 0.2, 0.1])]
        scores = rng.random((80, 4)) + targets
        scores /= scores.sum(axis=1, keepdims=True)
    else:
        targets = rng.uniform(-1, 1, (80, 4))
        scores = targets + rng.standard_normal((80, 4)) / 2
    return targets.astype(np.float32), scores.astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_and_loss_of_a_kind_are_there(kind):
    import keras

    assert callable(keras.activations.get(KINDS[kind].activation))
    targets, scores = make(kind)
    loss = KINDS[kind].make_loss("", targets, 0.0)
    assert float(loss(targets, scores)) > float(loss(targets, targets)) >= 0
    with pytest.raises(UsageError, match="unknown loss 'nosuch'"):
        KINDS[kind].make_loss("nosuch", targets, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_tunes_decides_and_scores_what_it_monitors(kind):
    targets, scores = make(kind)
    rules = Task("any", kind, ("a", "b", "c", "d"), SCALES.get(kind)).rules
    truth = rules.to_truth(targets)
    assert is_defined(truth).all()
    assert not is_defined(truth[:1]).any()
    assert not is_defined(truth[:0]).any()
    calibrated = rules.calibrated(scores, rules.calibrate(truth, scores, SCALES.get(kind)))
    assert calibrated.shape == scores.shape
    assert calibrated.dtype == np.float32
    assert set(rules.grade(truth, calibrated)) <= set(GRADES)
    assert len(rules.grade(truth, calibrated)) == targets.shape[1]
    assert rules.start(targets).shape == (targets.shape[1],)
    thresholds = rules.choose_thresholds(truth, scores)
    decisions = rules.decide(scores, thresholds)
    assert decisions.shape == scores.shape
    figures = rules.score(truth, scores, decisions)
    assert figures[rules.monitor] == pytest.approx(rules.watch(truth, scores), rel=1e-12)
    assert all(isinstance(figure, float) and np.isfinite(figure) for figure in figures.values())
    better = rules.score(truth, (scores + 3 * targets) / 4, rules.decide((scores + 3 * targets) / 4, thresholds))
    assert better[rules.monitor] > figures[rules.monitor]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_fills_a_table_and_draws_intervals(kind):
    targets, scores = make(kind)
    rules = KINDS[kind]
    truth, decisions = rules.to_truth(targets), rules.decide(scores, np.full(4, 0.5))
    rows = rules.rows(truth, scores, decisions, np.full(4, 0.5))
    assert rules.ranked_by in rows
    assert all(len(column) == 4 for column in rows.values())
    samples = rules.bootstrap(truth, scores, [str(row // 4) for row in range(80)], decisions=decisions, rounds=50)
    figures = rules.score(truth, scores, decisions)
    low, high = samples.intervals(figures)[rules.monitor]
    assert low < figures[rules.monitor] < high


def test_values_are_kept_to_their_scale_and_to_no_other():
    task = Task("any", "values", ("valence", "arousal"), (1.0, 9.0))
    ends = task.rules.calibrate(np.zeros((1, 2)), np.zeros((1, 2), np.float32), task.scale)
    np.testing.assert_array_equal(task.rules.calibrated(np.array([[0.5, 9.5], [2.0, 8.0]]), ends), [[1, 9], [2, 8]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("values", ("a", "b")), "values, and they alone"),
        (("values", ("a", "b"), (1.0, 1.0)), "values, and they alone"),
        (("tags", ("a", "b"), (0.0, 1.0)), "values, and they alone"),
        (("classes", ("a", "b"), None, 2.0), "values, and they alone"),
        (("nosuch", ("a",)), "unknown kind 'nosuch'.*tags"),
        (("tags", ()), "at least one"),
        (("tags", ("a", "a")), "different"),
    ],
)
def test_a_task_that_makes_no_sense_is_a_usage_error(arguments, message):
    with pytest.raises(UsageError, match=message):
        Task("any", *arguments)


def test_a_score_at_its_threshold_is_decided_whatever_its_precision():
    decimals = np.array([0.1, 0.7])  # the one is less in float64 than in float32, the other more
    scores = decimals.astype(np.float32)
    assert tags.reaches_threshold(scores, scores.astype(np.float64)).all()
    assert tags.reaches_threshold(scores, decimals).all()
    assert not tags.reaches_threshold(scores, decimals + 1e-4).any()


def test_biases_start_at_the_log_odds_of_the_prior():
    targets, _ = make("tags")
    prior = 1 / (1 + np.exp(-tags.prior_log_odds(targets)))
    assert prior == pytest.approx((targets.sum(axis=0) + 1) / (len(targets) + 2))
    assert np.isfinite(tags.prior_log_odds(np.zeros((5, 2), np.float32))).all()


def test_smoothing_takes_certainty_from_tags_and_classes_and_is_refused_for_values():
    targets = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(KINDS["tags"].smooth(targets, 0.2), 0.1 + 0.8 * targets)
    smooth = KINDS["classes"].smooth(targets, 0.2)
    np.testing.assert_allclose(smooth, 0.05 + 0.8 * targets)
    np.testing.assert_allclose(smooth.sum(axis=1), 1)
    np.testing.assert_array_equal(KINDS["values"].smooth(targets, 0.0), targets)
    with pytest.raises(UsageError, match="smoothing is for tags and classes"):
        KINDS["values"].smooth(targets, 0.2)
