import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score
from toy_evaluations import labels, make_class_evaluation

from jamendo_mood.tasks import classes
from jamendo_mood.util.errors import DataError

RNG = np.random.default_rng(3)
LABELS = RNG.choice(5, 300, p=[0.4, 0.3, 0.15, 0.1, 0.05])
TRUTH = np.eye(5, dtype=bool)[LABELS]
SCORES = RNG.dirichlet(np.ones(5), 300) * 0.7 + 0.3 * TRUTH
CHOSEN = SCORES.argmax(axis=1)


def test_rows_are_scikit_learns_and_nan_is_refused():
    rows = classes.class_rows(TRUTH, SCORES, None, None)
    np.testing.assert_array_equal(rows["positives"], np.bincount(LABELS))
    np.testing.assert_array_equal(rows["decided"], np.bincount(CHOSEN, minlength=5))
    np.testing.assert_allclose(rows["F-score"], f1_score(LABELS, CHOSEN, average=None))
    with pytest.raises(DataError, match="NaN"):
        classes.score_classes(TRUTH, np.where(TRUTH, np.nan, SCORES))


def test_of_equal_scores_the_first_is_chosen_and_there_is_always_one():
    chosen = classes.choose_highest(np.array([[0.2, 0.4, 0.4], [0.3, 0.3, 0.3]]))
    np.testing.assert_array_equal(chosen, [[False, True, False], [True, False, False]])
    np.testing.assert_array_equal(classes.choose_highest(np.array([0.1, 0.9])), [False, True])


pytestmark = pytest.mark.usefixtures("no_pyplot")


@pytest.fixture(scope="module")
def four():
    return make_class_evaluation(4)


def test_the_confusion_matrix_has_the_truth_in_its_rows(four):
    (axes,) = classes.plot_confusion(four).axes
    expected = confusion_matrix(four.truth.argmax(axis=1), four.decisions.argmax(axis=1), labels=range(4))
    with np.errstate(invalid="ignore"):
        percent = 100 * expected / expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), percent)
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[1, 0] == f"{expected[0, 1]}\n{percent[0, 1]:.0f} %"
    assert len(cells) == 12  # no example is of the last class: its row is empty
    assert labels(axes.yaxis) == [f"class {number} ({expected[number].sum()})" for number in range(4)]
    assert labels(axes.xaxis) == [f"class {number}" for number in range(4)]


def test_each_class_has_its_figures_the_best_at_the_top(four):
    picture = classes.plot_classes(four)
    (axes,) = picture.axes
    rows = sorted(four.per_target, key=lambda row: row["F-score"], reverse=True)
    assert labels(axes.yaxis) == [f"{row['class']} ({row['positives']})" for row in rows]
    low, high = axes.get_ylim()
    assert low > high
    drawn = {line.get_label(): line for line in axes.lines}
    for name in ("precision", "recall", "prior"):
        assert drawn[name].get_xdata().tolist() == [row[name] for row in rows]
    dots = {}
    for grade in {row["grade"] for row in rows}:
        dots |= {y: (x, grade) for x, y in zip(drawn[grade].get_xdata(), drawn[grade].get_ydata(), strict=True)}
    assert [dots[place] for place in sorted(dots)] == [(row["F-score"], row["grade"]) for row in rows]
