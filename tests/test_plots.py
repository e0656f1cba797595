import sys

import numpy as np
import pytest
from matplotlib import colors
from toy_examples import make_prediction

from jamendo_mood import plots
from jamendo_mood.evaluation import score_predictions


@pytest.fixture(autouse=True)
def no_state():
    """Whatever is drawn, pyplot's list of open figures, and pyplot itself, stay out of it."""
    before = "matplotlib.pyplot" in sys.modules
    yield
    assert ("matplotlib.pyplot" in sys.modules) == before
    if before:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


@pytest.fixture
def scores():
    truth = np.zeros((10, 3), bool)
    truth[:4, 0] = truth[::2, 1] = True  # the third tag is never there
    ranked = np.stack([-np.arange(10.0), np.arange(10.0) % 3, np.zeros(10)], axis=1)
    return score_predictions(truth, ranked, ("first", "second", "none"))


def bars(axes):
    """Length and colour of each bar, the topmost first, by its label."""
    labels = [label.get_text() for label in axes.get_yticklabels()]
    found = dict(zip(labels, axes.patches, strict=True))
    return {label: (bar.get_width(), colors.to_hex(bar.get_facecolor())) for label, bar in reversed(found.items())}


def test_tags_are_bars_dark_where_the_threshold_is_reached():
    figure = plots.plot_tags(make_prediction(), 3)
    (axes,) = figure.axes
    assert list(bars(axes)) == ["green", "red", "blue"]
    assert bars(axes) == {
        "green": (0.75, plots.DECIDED),
        "red": (pytest.approx(0.45), plots.DECIDED),
        "blue": (pytest.approx(0.3), plots.UNDECIDED),
    }
    assert [text.get_text() for text in axes.texts] == ["0.30", "0.45", "0.75"]
    assert axes.get_title() == "Blue & Green <live>"
    assert "score" in axes.get_xlabel()


def test_only_the_wanted_number_of_tags_is_drawn():
    assert list(bars(plots.plot_tags(make_prediction(), 1).axes[0])) == ["green"]


def test_a_track_without_a_title_is_drawn_too(tmp_path):
    figure = plots.plot_tags(make_prediction(title=None, artist=None))
    assert figure.axes[0].get_title() == ""
    figure.savefig(tmp_path / "tags.png")


def test_a_title_in_dollars_is_no_formula(tmp_path):
    figure = plots.plot_tags(make_prediction(title="Cash $^_{$"))
    figure.savefig(tmp_path / "tags.png")
    assert figure.axes[0].get_title() == "Cash $^_{$"


def test_the_timeline_is_a_heat_map_of_the_highest_tags():
    prediction = make_prediction()
    axes, colour_bar = plots.plot_timeline(prediction, 2).axes
    (image,) = axes.get_images()
    np.testing.assert_array_equal(image.get_array(), prediction.frame_scores[:, [1, 0]].T)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["green", "red"]
    assert image.get_extent()[:2] == [0.0, 61.5] or image.get_extent()[:2] == (0.0, 61.5)
    assert image.get_clim() == (0, 1)
    assert axes.get_xlabel() == "seconds"
    assert colour_bar.get_ylabel() == "score"


def test_scores_are_bars_with_the_prior_beside_them(scores):
    (axes,) = plots.plot_scores(scores).axes
    rows = {row["tag"]: row for row in scores.per_tag}
    drawn = bars(axes)
    assert list(drawn) == ["first", "second"]  # the best first; the tag that has no PR-AUC is left out
    assert {tag: length for tag, (length, _) in drawn.items()} == {tag: rows[tag]["PR-AUC"] for tag in drawn}
    (prior,) = axes.lines
    assert prior.get_xdata().tolist() == [rows["second"]["prior"], rows["first"]["prior"]]
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    assert {"PR-AUC", prior.get_label()} == legend
    assert prior.get_label().startswith("prior")


def test_only_the_best_tags_are_drawn_where_there_are_many(scores):
    assert list(bars(plots.plot_scores(scores, 1).axes[0])) == ["first"]


def test_a_figure_grows_with_its_rows(scores):
    low, high = (plots.plot_tags(make_prediction(), count).get_size_inches()[1] for count in (1, 3))
    assert high - low == pytest.approx(2 * plots.ROW_HEIGHT)


def test_a_notebook_shows_a_picture_by_itself():
    assert plots.plot_tags(make_prediction(), 3)._repr_png_().startswith(b"\x89PNG")
