import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from jamendo_mood.tasks import class_metrics
from jamendo_mood.util.errors import DataError

RNG = np.random.default_rng(3)
LABELS = RNG.choice(5, 300, p=[0.4, 0.3, 0.15, 0.1, 0.05])
TRUTH = np.eye(5, dtype=bool)[LABELS]
SCORES = RNG.dirichlet(np.ones(5), 300) * 0.7 + 0.3 * TRUTH
CHOSEN = SCORES.argmax(axis=1)


def test_figures_are_scikit_learns():
    figures = class_metrics.score_classes(TRUTH, SCORES)
    assert figures["accuracy"] == pytest.approx(accuracy_score(LABELS, CHOSEN))
    assert figures["F-score-macro"] == pytest.approx(f1_score(LABELS, CHOSEN, average="macro"))
    assert figures["log-likelihood"] == pytest.approx(-log_loss(LABELS, SCORES))
    assert figures["accuracy-prior"] == pytest.approx(np.bincount(LABELS).max() / 300)


def test_the_confusion_is_scikit_learns():
    decisions = class_metrics.choose_highest(SCORES)
    np.testing.assert_array_equal(class_metrics.confusion(TRUTH, decisions), confusion_matrix(LABELS, CHOSEN))


def test_perfect_and_useless_choices():
    perfect = class_metrics.score_classes(TRUTH, TRUTH.astype(np.float32))
    assert (perfect["accuracy"], perfect["F-score-macro"]) == (1, 1)
    assert perfect["log-likelihood"] == pytest.approx(0)
    always = np.tile(np.eye(5, dtype=np.float32)[0], (300, 1))
    assert class_metrics.score_classes(TRUTH, always)["accuracy"] == perfect["accuracy-prior"]
    assert np.isfinite(class_metrics.score_classes(TRUTH, always)["log-likelihood"])


def test_of_equal_scores_the_first_is_chosen_and_there_is_always_one():
    chosen = class_metrics.choose_highest(np.array([[0.2, 0.4, 0.4], [0.3, 0.3, 0.3]]))
    np.testing.assert_array_equal(chosen, [[False, True, False], [True, False, False]])
    np.testing.assert_array_equal(class_metrics.choose_highest(np.array([0.1, 0.9])), [False, True])


def test_rows_tell_what_was_decided():
    rows = class_metrics.class_rows(TRUTH, SCORES, None, None)
    np.testing.assert_array_equal(rows["positives"], np.bincount(LABELS))
    np.testing.assert_array_equal(rows["decided"], np.bincount(CHOSEN, minlength=5))
    np.testing.assert_allclose(rows["F-score"], f1_score(LABELS, CHOSEN, average=None))


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="NaN"):
        class_metrics.score_classes(TRUTH, np.where(TRUTH, np.nan, SCORES))
