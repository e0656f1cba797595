import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from toy_evaluations import NEVER_GIVEN, labels, make_evaluation

from jamendo_mood.tasks import kind, metrics, tags
from jamendo_mood.util import plaintext

pytestmark = pytest.mark.usefixtures("no_pyplot")


@pytest.fixture(scope="module")
def seven():
    return make_evaluation(7)


def best_first(evaluation):
    """The rows that have a PR-AUC, sorted by pandas."""
    table = evaluation.table().dropna(subset=["PR-AUC"])
    return [row for _, row in table.iterrows()]


def lines(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def test_each_tag_is_a_dot_on_its_interval_beside_its_prior(seven):
    (axes,) = tags.plot_tag_precision(seven).axes
    rows = best_first(seven)
    assert labels(axes.yaxis) == [f"{row['tag']} ({row['positives']})" for row in rows]
    low, high = axes.get_ylim()
    assert low > high  # the first at the top
    dots = {}
    for grade, (colour, marker) in plaintext.GRADE_STYLES.items():
        for line in lines(axes, marker):
            assert (colors.to_hex(line.get_color()), line.get_label()) == (colour, grade)
            dots |= {y: (x, grade) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert [dots[place] for place in sorted(dots)] == [(row["PR-AUC"], row["grade"]) for row in rows]
    whiskers = {y: (x0, x1) for whisker in axes.collections for (x0, y), (x1, _) in whisker.get_segments()}
    expected = [(row["PR-AUC-low"], row["PR-AUC-high"]) for row in rows]
    assert [whiskers[place] for place in sorted(whiskers)] == expected
    (prior,) = lines(axes, "|")
    assert prior.get_xdata().tolist() == [row["prior"] for row in rows]
    assert axes.get_xlim()[1] >= min(1, max(high for _, high in expected))
    (axes,) = tags.plot_tag_precision(make_evaluation(7, rounds=0)).axes  # without a bootstrap: no whiskers
    assert sum(len(whisker.get_segments()) for whisker in axes.collections) == 0


def test_of_very_many_tags_the_best_and_the_worst_are_drawn_and_the_figure_says_so():
    evaluation = make_evaluation(70)
    names = [row["tag"] for row in best_first(evaluation)]
    (axes,) = tags.plot_tag_precision(evaluation, 5).axes
    assert [label.rpartition(" (")[0] for label in labels(axes.yaxis)] == names[:3] + names[-2:]
    assert axes.get_title() == f"the 3 best and 2 worst of {len(names)} tags"
    assert len(labels(tags.plot_tag_precision(evaluation).axes[0].yaxis)) == 60


def test_a_curve_holds_the_pr_auc_below_it_and_a_dot_at_its_threshold(seven):
    picture = tags.plot_curves(seven)
    (axes,) = picture.axes
    rows = best_first(seven)
    curves = lines(axes, "None")
    legend = [text.get_text() for text in picture.legends[0].get_texts()]
    assert len(curves) == len(rows) == len(legend) == 6
    for curve, row, entry in zip(curves, rows, legend, strict=True):
        recall, precision = curve.get_data()
        assert curve.get_drawstyle() == "steps-post"
        assert np.sum(-np.diff(recall) * precision[:-1]) == pytest.approx(row["PR-AUC"])
        assert entry == f"{row['PR-AUC']:.3f} (prior {row['prior']:.3f})  {row['tag']}"
    dots = [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in lines(axes, "o")]
    never = f"tag {NEVER_GIVEN}"
    expected = [(row["recall"], row["precision"]) for row in rows if row["tag"] != never]
    np.testing.assert_allclose(dots, expected)
    assert len(dots) == 5


def test_reliability_is_drawn_of_all_scores_and_of_the_high_ones(seven):
    axes = kind.plot_reliability(seven).axes
    diagrams, histograms = axes[:2], axes[2:]
    for above, diagram, histogram in zip((0.0, 0.1), diagrams, histograms, strict=True):
        used = seven.predictions > above
        table = pd.DataFrame({"score": seven.predictions[used].astype(float), "true": seven.truth[used]})
        groups = table.groupby(pd.qcut(table["score"], 15), observed=True).mean()
        diagonal, curve = diagram.lines
        np.testing.assert_allclose(curve.get_data(), groups.to_numpy().T, rtol=1e-5)
        np.testing.assert_array_equal(*diagonal.get_data())
        error = (groups["score"] - groups["true"]).abs().mean()  # the groups are equal, but for one score
        named = re.search(r"ECE (\S+), by luck (\S+)$", diagram.get_title())
        bins = kind.bin_scores(seven.truth, seven.predictions, above)
        assert [*map(float, named.groups())] == pytest.approx([error, bins.luck], abs=2e-4)
        (band,) = diagram.collections
        ends = [end(bins.score + sign * 1.96 * bins.spread) for sign, end in ((-1, np.min), (1, np.max))]
        np.testing.assert_allclose(band.get_datalim(diagram.transData).intervaly, np.clip(ends, 0, 1))
        assert sum(bar.get_height() for bar in histogram.patches) == used.sum()
    low = replace(seven, predictions=seven.predictions / 20)
    diagram, histogram = kind.plot_reliability(low).axes
    assert diagram.get_title().startswith("all scores (none above 0.1)\nECE ")
    assert diagram.get_xlim()[1] >= low.predictions.max()
    assert sum(bar.get_height() for bar in histogram.patches) == low.predictions.size


def test_histograms_count_scores_of_positives_and_negatives(seven):
    panels = tags.plot_score_histograms(seven).axes
    assert [axes.get_title() for axes in panels] == [row["tag"] for row in best_first(seven)]
    for axes in panels:
        column = int(axes.get_title().removeprefix("tag "))
        positives = seven.truth[:, column].sum()
        counts = {bars[0].get_label(): sum(bar.get_height() for bar in bars) for bars in axes.containers}
        assert counts == {"have the tag": positives, "do not have the tag": 200 - positives}
        assert axes.get_yscale() == "log"
        assert [line.get_xdata()[0] for line in axes.lines] == ([] if column == NEVER_GIVEN else [0.4])


def test_truth_and_decisions_go_together_in_one_order_and_on_one_scale(seven):
    pictures = tags.plot_cooccurrences(seven)
    seen = set()
    for picture, Y in zip(pictures, (seven.truth, seven.decisions), strict=True):
        axes = picture.axes[0]
        (image,) = axes.get_images()
        names = labels(axes.yaxis)
        assert labels(axes.xaxis) == names
        ordered = Y[:, [int(name.removeprefix("tag ")) for name in names]]
        expected = 100 * metrics.cooccurrence(ordered)
        np.fill_diagonal(expected, np.nan)
        np.testing.assert_allclose(np.ma.filled(image.get_array().astype(float), np.nan), expected)
        seen.add((*names, image.norm.vmin, image.norm.vmax))
    assert len(seen) == 1
    assert [picture.axes[0].get_title(loc="left") for picture in pictures] == ["in truth", "as decided by the tagger"]


def test_of_very_many_tags_the_most_frequent_go_together():
    evaluation = make_evaluation(20)
    first, second = tags.plot_cooccurrences(evaluation, 16)
    most = sorted(evaluation.per_target, key=lambda row: row["positives"])[-16:]
    assert set(labels(first.axes[0].yaxis)) == {row["tag"] for row in most}
    assert labels(first.axes[0].yaxis) == labels(second.axes[0].yaxis)


def test_the_heat_map_of_few_tags_has_numbers():
    names = ["calm", "loud", "never", "so $^_{$"]  # dollars are no formula
    shares = np.array([[1, 2 / 3, 0, 1 / 3], [2 / 5, 1, 0, 1 / 5], [np.nan] * 4, [1, 1, 0, 1]])
    figure = tags.draw_cooccurrence(shares, names)
    (axes,) = figure.axes  # numbers, in place of a colour bar
    assert labels(axes.yaxis) == labels(axes.xaxis) == names
    assert axes.get_images()[0].get_clim() == (0, 100)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written[1, 0] == "67"  # x is the column: of the calm, two thirds are loud
    assert written[0, 1] == "40"
    assert len(written) == 9  # no diagonal, no row of the tag that nothing has
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_names_beside_a_heat_map_have_room():
    figure = tags.draw_cooccurrence(np.eye(7), [f"music for the {n}th hour of the day" for n in range(7)])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    boxes = [text.get_window_extent() for text in texts]
    assert all(figure.bbox.contains(*box.min) and figure.bbox.contains(*box.max) for box in boxes)
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_a_tagger_that_gives_no_tag_goes_together_with_nothing(seven, tmp_path):
    silent = replace(seven, decisions=np.zeros_like(seven.decisions))
    for picture in tags.plot_cooccurrences(silent):
        picture.savefig(tmp_path / "picture.png")
    (image,) = picture.axes[0].get_images()
    assert np.ma.getmaskarray(image.get_array()).all()


def test_long_names_are_cut():
    assert plaintext.shorten("a" * 30) == "a" * 30
    assert plaintext.shorten("Male speech, man", 13) == "Male speech,…"


def test_a_tag_in_capitals_lies_where_the_small_one_does_unless_it_has_a_place_itself():
    scores, thresholds = np.array([0.9, 0.0], np.float32), np.array([0.5, 0.5])
    places = {"happy": (0.9, 0.4), "sad": (-0.8, -0.4)}
    plain = tags.place_tags(("happy", "sad"), thresholds, scores, places)
    np.testing.assert_array_equal(tags.place_tags(("Happy", "SAD"), thresholds, scores, places), plain)
    own = tags.place_tags(("Happy", "SAD"), thresholds, scores, {**places, "Happy": (0.0, 1.0)})
    np.testing.assert_allclose(own, (0.0, 1.0), atol=1e-6)
