from dataclasses import replace

import numpy as np
import pytest
from toy_evaluations import make_class_evaluation, make_evaluation, make_value_evaluation

from jamendo_mood.tasks import classes, kind, tags, values
from jamendo_mood.tasks.kind import IDENTITY, apply_platt, fit_platt, log_odds


def sample(count, slopes, offsets, seed=0):
    """Scores whose true log-odds are a line on theirs: truth (count, k), scores (count, k)."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.5, 1.2, (count, len(slopes)))
    truth = rng.random(odds.shape) < 1 / (1 + np.exp(-(odds * slopes + offsets)))
    return truth, (1 / (1 + np.exp(-odds))).astype(np.float32)


def test_with_many_examples_each_tag_gets_its_own_line():
    slopes, offsets = np.array([0.6, 1.0, 1.5]), np.array([-0.5, 0.0, 0.8])
    params = fit_platt(*sample(200_000, slopes, offsets))
    np.testing.assert_allclose(params[:, 0], slopes, atol=0.05)
    np.testing.assert_allclose(params[:, 1], offsets, atol=0.08)


def test_a_tag_with_few_examples_follows_the_others():
    truth, scores = sample(4_000, np.full(20, 0.7), np.full(20, -0.4))
    truth[:, 3] = False
    truth[:4, 3] = True
    alone = fit_platt(truth[:, [3]], scores[:, [3]])
    params = fit_platt(truth, scores)
    assert abs(params[3, 0] - 0.7) < 0.3
    assert params[3, 1] < params[:3, 1].min()  # it is rarer than they are
    assert np.isfinite(alone).all()


@pytest.mark.parametrize("value", [False, True])
def test_a_tag_without_positives_or_negatives_gets_finite_values(value):
    truth, scores = sample(300, np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    truth[:, 1] = value
    params = fit_platt(truth, scores)
    assert np.isfinite(params).all()
    assert (params[:, 0] > 0).all()
    mean = apply_platt(scores, params)[:, 1].mean()
    assert mean > 0.5 if value else mean < scores[:, 1].mean()


def test_certain_scores_are_taken_and_identity_changes_nothing():
    scores = np.array([[0.0], [1.0], [0.25]], np.float32)
    assert np.isfinite(log_odds(scores)).all()
    assert np.isfinite(fit_platt(scores > 0.5, scores)).all()
    same = apply_platt(scores, np.array([IDENTITY]))
    np.testing.assert_allclose(same, scores, atol=2e-6)
    assert same.dtype == np.float32
    params = np.array([[2.0, 0.0], [1.0, 1.0]])
    assert apply_platt(np.full((5, 3, 2), 0.5, np.float32), params).shape == (5, 3, 2)  # any leading shape
    np.testing.assert_allclose(apply_platt(np.array([0.5, 0.5]), params), [0.5, 1 / (1 + np.exp(-1))], rtol=1e-6)


def test_scores_that_separate_everything_do_not_become_certain():
    """Thirty tracks that a head tells apart without a mistake are no reason to be sure of the next one."""
    truth = np.random.default_rng(0).random((30, 5)) < 0.3
    scores = np.where(truth, 0.8, 0.2).astype(np.float32)
    calibrated = apply_platt(scores, fit_platt(truth, scores))
    assert 0.9 < calibrated[truth].min() <= calibrated[truth].max() < 0.995
    assert 0.005 < calibrated[~truth].min() <= calibrated[~truth].max() < 0.1


def test_scores_worse_than_chance_become_the_share_of_positives():
    slopes = np.array([1, 1, -1.5, 1, 1])
    truth, scores = sample(3_000, slopes, np.full(5, -1.0))
    params = fit_platt(truth, scores)
    np.testing.assert_allclose(params[2, 0], 0.05)
    np.testing.assert_allclose(apply_platt(scores, params)[:, 2].mean(), truth[:, 2].mean(), rtol=0.1)


def test_some_between_the_first_and_the_last_are_at_equal_steps():
    assert kind.spread_out("abcdef", 6) == kind.spread_out("abcdef", 9) == [*"abcdef"]
    assert [kind.spread_out("abcdef", count) for count in (2, 3)] == [[*"af"], [*"acf"]]
    assert (kind.spread_out("a", 6), kind.spread_out("", 6)) == (["a"], [])


def make_songs(count, **options):
    return make_value_evaluation(count, rows=60, songs=6, **options)


TAG_PLOTS = (tags.plot_tag_precision, tags.plot_curves, tags.plot_score_histograms, kind.plot_reliability)
PLOTS = [
    *((plot, make_evaluation, n) for plot in TAG_PLOTS for n in (1, 60)),
    *((plot, make_class_evaluation, n) for plot in (classes.plot_confusion, classes.plot_classes) for n in (2, 40)),
    *((plot, make_value_evaluation, n) for plot in (values.plot_scatter, values.plot_residuals) for n in (1, 3)),
    *((plot, make_songs, 2) for plot in (values.plot_courses, values.plot_taus)),
]


@pytest.mark.thorough
@pytest.mark.usefixtures("no_pyplot")
@pytest.mark.parametrize(("plot", "make", "count"), PLOTS)
def test_few_targets_and_many_are_drawn(plot, make, count, tmp_path):
    """Names are names and no formulas, and hide nothing."""
    names = ("Cash $^_{$", "a" * 200, "_hidden", *(f"target {number}" for number in range(3, count)))[:count]
    picture = plot(make(count, names=names))
    assert hasattr(picture, "to_png")
    picture.savefig(tmp_path / "picture.png", bbox_inches="tight")  # a warning would be an error


@pytest.mark.thorough
@pytest.mark.parametrize("score", [0.0, 0.5])
@pytest.mark.parametrize("plot", TAG_PLOTS)
def test_a_tagger_that_always_says_the_same_is_drawn_too(plot, score, tmp_path):
    evaluation = make_evaluation(7)
    constant = replace(evaluation, predictions=np.full_like(evaluation.predictions, score))
    plot(constant).savefig(tmp_path / "picture.png")
