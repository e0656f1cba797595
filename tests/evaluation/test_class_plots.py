import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from toy_evaluations import make_class_evaluation

from jamendo_mood.evaluation import class_plots

pytestmark = pytest.mark.usefixtures("no_pyplot")


@pytest.fixture(scope="module")
def four():
    return make_class_evaluation(4)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("count", [2, 5, 40])
@pytest.mark.parametrize("plot", [class_plots.plot_confusion, class_plots.plot_classes])
def test_few_classes_and_many_are_drawn(plot, count, tmp_path):
    names = ["Cash $^_{$", "a" * 200, *(f"class {number}" for number in range(2, count))]
    picture = plot(make_class_evaluation(count, names=names, rounds=0))
    assert hasattr(picture, "to_png")
    picture.savefig(tmp_path / "picture.png", bbox_inches="tight")  # a warning would be an error


def test_the_confusion_matrix_has_the_truth_in_its_rows(four):
    (axes,) = class_plots.plot_confusion(four).axes
    expected = confusion_matrix(four.truth.argmax(axis=1), four.decisions.argmax(axis=1), labels=range(4))
    with np.errstate(invalid="ignore"):
        shares = expected / expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), shares)
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[1, 0] == f"{expected[0, 1]}\n{100 * shares[0, 1]:.0f} %"
    assert len(cells) == 12  # no example is of the last class: its row is empty
    assert labels(axes.yaxis) == [f"class {number} ({expected[number].sum()})" for number in range(4)]
    assert labels(axes.xaxis) == [f"class {number}" for number in range(4)]


def test_each_class_has_its_figures_the_best_at_the_top(four):
    picture = class_plots.plot_classes(four)
    (axes,) = picture.axes
    rows = sorted(four.per_target, key=lambda row: row["F-score"], reverse=True)
    assert labels(axes.yaxis) == [f"{row['class']} ({row['positives']})" for row in rows]
    low, high = axes.get_ylim()
    assert low > high
    drawn = {line.get_label(): line for line in axes.lines}
    for name, label in (("precision", "precision"), ("recall", "recall"), ("prior", "prior")):
        assert drawn[label].get_xdata().tolist() == [row[name] for row in rows]
    dots = {}
    for label, line in drawn.items():
        if label.startswith("F-score"):
            grade = label.partition("(")[2].rstrip(")")
            dots |= {y: (x, grade) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert [dots[place] for place in sorted(dots)] == [(row["F-score"], row["grade"]) for row in rows]
