import numpy as np
import pytest

from jamendo_mood import bootstrap, metrics
from jamendo_mood.bootstrap import draw_figures, percentile_interval


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
    assert 10 < len(draws.figures["PR-AUC-macro"]) < 100
    assert draws.intervals() == {"PR-AUC-macro": (1.0, 1.0), "ROC-AUC-macro": (1.0, 1.0)}
    assert draw_figures(truth, np.array([[0.9], [0.5], [0.1]]), ["a", "a", "a"], rounds=5).intervals()


def test_the_interval_holds_the_figure_and_the_seed_decides(example):
    truth, scores, artists = example
    draws = draw_figures(truth, scores, artists, rounds=300)
    figures = metrics.score_tags(truth, scores)
    for name, (low, high) in draws.intervals().items():
        assert low < figures[name] < high
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
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))


def test_a_comparison_is_paired(example):
    """Two taggers that hardly differ: each interval is wide, that of their difference is narrow."""
    truth, scores, artists = example
    better = scores + 0.02 * truth
    draws, other = (draw_figures(truth, array, artists, rounds=300) for array in (better, scores))
    figures, others = (metrics.score_tags(truth, array) for array in (better, scores))
    for comparison in draws.compare(other, figures, others):
        low, high = comparison.interval
        assert low <= comparison.difference <= high
        assert comparison.difference > 0
        assert comparison.ahead > 0.95
        wide = draws.intervals()[comparison.figure]
        assert high - low < 0.75 * (wide[1] - wide[0])
    same = draws.compare(draws, figures, figures)
    assert [(row.difference, row.interval, row.ahead) for row in same] == [(0.0, (0.0, 0.0), 0.0)] * 2
