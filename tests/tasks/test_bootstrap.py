import numpy as np
import pytest

from jamendo_mood.tasks import bootstrap, calibration, metrics, tags
from jamendo_mood.tasks.bootstrap import centred_interval, draw_figures


@pytest.fixture(scope="module", params=[1000, 6], ids=["distinct scores", "many ties"])
def example(request):
    generator = np.random.default_rng(8)
    truth = generator.random((300, 4)) < [0.3, 0.1, 0.05, 0.5]
    levels = request.param
    scores = np.round((generator.random((300, 4)) * 0.7 + 0.3 * truth) * levels) / levels
    return truth, scores.astype(np.float32), [f"artist {number}" for number in generator.integers(60, size=300)]


def repeat(array, weights):
    return np.repeat(array, weights.astype(int), axis=0)


def test_a_weight_counts_as_so_many_copies(example):
    truth, scores, _ = example
    weights = np.random.default_rng(1).integers(0, 4, (5, len(truth))).astype(np.float32)
    for tag in range(truth.shape[1]):
        sorting = (truth[:, tag], *bootstrap._sort(truth[:, tag], scores[:, tag]))
        for row, found in enumerate(zip(*bootstrap._weighted_figures(*sorting, weights), strict=True)):
            copies = repeat(truth[:, [tag]], weights[row]), repeat(scores[:, [tag]], weights[row])
            assert found[0] == pytest.approx(metrics.average_precision(*copies)[0], abs=1e-9)
            assert found[1] == pytest.approx(metrics.roc_auc(*copies)[0], abs=1e-9)


def test_a_draw_without_positives_of_a_tag_leaves_it_out():
    truth = np.array([[True, True], [False, True], [False, False]])
    sorting = (truth[:, 0], *bootstrap._sort(truth[:, 0], np.array([0.9, 0.5, 0.1])))
    precision, area = bootstrap._weighted_figures(*sorting, np.array([[0, 1, 2], [3, 0, 0]], np.float32))
    assert np.isnan(precision).all()
    assert np.isnan(area).all()


def test_draws_in_which_nothing_can_be_measured_are_left_out():
    truth = np.array([[True], [False], [False]])
    draws = draw_figures(truth, np.array([[0.9], [0.5], [0.1]]), ["a", "b", "c"], rounds=100)
    assert 10 < np.isfinite(draws.figures["PR-AUC-macro"]).sum() < 100
    figures = {"PR-AUC-macro": 1.0, "ROC-AUC-macro": 1.0}
    assert draws.intervals(figures) == dict.fromkeys(figures, (1.0, 1.0))
    assert draw_figures(truth, np.array([[0.9], [0.5], [0.1]]), ["a"] * 3, rounds=5).intervals(figures)


def test_the_interval_holds_the_figure_and_the_seed_decides(example):
    truth, scores, artists = example
    draws = draw_figures(truth, scores, artists, rounds=300)
    figures = tags.score_tags(truth, scores)
    intervals = draws.intervals(figures)
    for name in figures.keys() - {"prior-macro"}:
        assert intervals[name][0] < figures[name] < intervals[name][1] or name.startswith("hit@")
    assert np.array_equal(
        draws.figures["PR-AUC-macro"], draw_figures(truth, scores, artists, rounds=300).figures["PR-AUC-macro"]
    )
    other = draw_figures(truth, scores, artists, rounds=300, seed=1)
    assert not np.array_equal(draws.figures["PR-AUC-macro"], other.figures["PR-AUC-macro"])


def test_artists_are_drawn_whole(example):
    """Where each artist's tracks are copies of one, intervals are as wide as for one track an artist."""
    truth, scores, _ = example
    one = draw_figures(truth, scores, list(map(str, range(len(truth)))), rounds=400)
    artists = [str(number) for number in range(len(truth)) for _ in range(5)]
    copies = draw_figures(repeat(truth, np.full(300, 5)), repeat(scores, np.full(300, 5)), artists, rounds=400)
    tracks = draw_figures(
        repeat(truth, np.full(300, 5)), repeat(scores, np.full(300, 5)), list(map(str, range(1500))), rounds=400
    )
    deviation = {name: draws.figures["ROC-AUC-macro"].std() for name, draws in
                 {"one": one, "copies": copies, "tracks": tracks}.items()}  # fmt: skip
    assert deviation["copies"] == pytest.approx(deviation["one"], rel=0.25)
    assert deviation["tracks"] < 0.7 * deviation["copies"]


def test_the_interval_leaves_out_a_fortieth_on_either_side():
    assert centred_interval(np.linspace(0, 1, 1001), 0.9) == pytest.approx((0.425, 1.375))
    draws = bootstrap.Draws({"a": np.linspace(0, 1, 1001), "b": np.linspace(0, 2, 1001)}, np.linspace(0, 1, 1001)[None])
    assert draws.intervals({"a": 0.9, "b": 1.9}) == {
        "a": pytest.approx((0.425, 1.0)),
        "b": pytest.approx((0.95, 2.85)),
    }
    assert draws.tag_intervals(np.array([0.9])) == [pytest.approx((0.425, 1.0))]
    values = np.append(np.arange(1001.0), np.nan)
    assert centred_interval(values, 500.0) == pytest.approx((25.0, 975.0))
    assert centred_interval(values, 490.0) == pytest.approx((15.0, 965.0))


@pytest.mark.thorough
def test_a_figure_of_rare_tags_lies_in_its_own_interval():
    """Each draw repeats positives, which lifts their average precision."""
    rng = np.random.default_rng(0)
    truth = rng.random((1000, 300)) < 0.004
    scores = rng.random(truth.shape, np.float32)
    draws = draw_figures(truth, scores, list(map(str, range(1000))), rounds=50)
    figures = tags.score_tags(truth, scores)
    assert np.mean(draws.figures["PR-AUC-macro"] > figures["PR-AUC-macro"]) > 0.9
    low, high = draws.intervals(figures)["PR-AUC-macro"]
    assert low < figures["PR-AUC-macro"] < high


def test_a_comparison_is_paired(example):
    """Two taggers that hardly differ: each interval is wide, that of their difference is narrow."""
    truth, scores, artists = example
    better = scores + 0.02 * truth
    draws, other = (draw_figures(truth, array, artists, rounds=300) for array in (better, scores))
    figures, others = (
        {**tags.score_tags(truth, array), **calibration.score_calibration(truth, array)} for array in (better, scores)
    )
    compared = {row.figure: row for row in draws.compare(other, figures, others)}
    for comparison in (compared["PR-AUC-macro"], compared["ROC-AUC-macro"]):
        low, high = comparison.interval
        assert low <= comparison.difference <= high
        assert comparison.difference > 0
        assert comparison.ahead > 0.95
        wide = draws.intervals(figures)[comparison.figure]
        assert high - low < 0.75 * (wide[1] - wide[0])
    same = draws.compare(draws, figures, figures)
    assert {(row.difference, row.interval, row.ahead) for row in same} == {(0.0, (0.0, 0.0), 0.0)}


@pytest.mark.parametrize("bins", [10_000, 64])
def test_every_figure_of_a_draw_is_that_of_so_many_copies(example, monkeypatch, bins):
    """Each artist is drawn as often as the generator says; the figures of the copies are computed by the metrics."""
    truth, scores, artists = example
    scores = (scores * 0.9 + 0.05).astype(np.float32)
    decisions = scores > 0.5
    monkeypatch.setattr(bootstrap, "_MICRO_BINS", bins)
    draws = draw_figures(truth, scores, artists, decisions=decisions, rounds=4, seed=5)
    names, group = np.unique(artists, return_inverse=True)
    drawn = np.random.default_rng(5).multinomial(len(names), np.full(len(names), 1 / len(names)), size=4)
    for row, weights in enumerate(drawn[:, group]):
        copies = [repeat(array, weights) for array in (truth, scores, decisions)]
        expected = tags.score_tags(*copies)
        expected["Brier-skill-macro"] = float(np.nanmean(calibration.brier_skill(*copies[:2])))
        del expected["prior-macro"]
        assert expected.keys() == draws.figures.keys() - {"ECE"}
        for name, figure in expected.items():
            tolerance = 0.01 if name.endswith("AUC-micro") else 1e-5
            assert draws.figures[name][row] == pytest.approx(figure, abs=tolerance), name
        for tag, precision in enumerate(metrics.average_precision(*copies[:2])):
            assert draws.precision[tag, row] == pytest.approx(precision, abs=1e-9)


def test_the_calibration_error_of_an_even_draw_is_that_of_the_tracks(example):
    """With one artist every draw is the whole."""
    truth, scores, _ = example
    draws = draw_figures(truth, scores * np.float32(0.9), ["one"] * len(truth), rounds=2)
    expected = calibration.score_calibration(truth, scores * np.float32(0.9))
    for name, figure in expected.items():
        assert draws.figures[name].tolist() == pytest.approx([figure] * 2, rel=1e-5)


def test_each_tag_has_an_interval_unless_it_is_in_no_draw(example):
    truth, scores, artists = example
    truth = np.column_stack([truth, np.zeros(len(truth), bool)])
    scores = np.column_stack([scores, scores[:, 0]])
    figures = metrics.average_precision(truth, scores)
    intervals = draw_figures(truth, scores, artists, rounds=200).tag_intervals(figures)
    assert intervals[4] is None
    for (low, high), figure in zip(intervals[:4], figures[:4], strict=True):
        assert 0 <= low < figure < high <= 1


def test_a_comparison_the_other_way_round_is_its_mirror_image(example):
    truth, scores, artists = example
    both = [draw_figures(truth, array, artists, rounds=100) for array in (scores + 0.2 * truth, scores)]
    figures = [tags.score_tags(truth, array) for array in (scores + 0.2 * truth, scores)]
    forth, back = both[0].compare(both[1], *figures), both[1].compare(both[0], *figures[::-1])
    for there, here in zip(forth, back, strict=True):
        assert (there.difference, *there.interval) == pytest.approx(
            (-here.difference, *(-end for end in here.interval[::-1]))
        )


def test_resampling_finds_the_same_intervals_as_the_quick_way():
    rng = np.random.default_rng(2)
    truth = rng.random((300, 2)) < 0.3
    scores = rng.random((300, 2)) * 0.7 + 0.3 * truth
    artists = [str(row // 3) for row in range(300)]
    quick = bootstrap.draw_figures(truth, scores, artists, rounds=60)
    slow = bootstrap.resample_figures(tags.score_tags, truth, scores, artists, rounds=60)
    for name in ("PR-AUC-macro", "ROC-AUC-macro", "hit@1"):
        np.testing.assert_allclose(slow.figures[name], quick.figures[name], rtol=1e-5)


def test_draws_that_show_no_difference_are_left_out():
    truth = np.array([[1.0], [1.0], [5.0]])
    draws = bootstrap.resample_figures(lambda *_: {"x": 1.0}, truth, truth, ["a", "b", "c"], rounds=200)
    assert 100 < len(draws.figures["x"]) < 200
