import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.tasks import KINDS, kind, metrics, tags
from jamendo_mood.tasks.metrics import bootstrap_tags, centred_interval
from jamendo_mood.util.errors import DataError

HERE = Path(__file__).parents[1]
CASES = json.loads((HERE / "golden" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def example():
    generator = np.random.default_rng(3)
    truth = generator.random((200, 6)) < 0.2
    return truth, (generator.random((200, 6)) * 0.7 + 0.3 * truth).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_figures_are_those_of_the_definitions(case):
    truth, decisions = np.array(case["truth"], bool), np.array(case["decisions"], bool)
    found = tags.score_tags(truth, np.array(case["scores"]), decisions)
    assert found == pytest.approx(case["figures"], abs=1e-9)


def test_the_golden_file_is_what_its_script_makes():
    script = runpy.run_path(str(HERE.parent / "scripts" / "make_golden_metrics.py"))
    assert script["make_golden"]() == CASES


def test_a_tag_that_all_or_none_have_is_nan_and_left_out(example):
    truth, scores = (array.copy() for array in example)
    truth[:, 0], truth[:, 1] = False, True
    for metric, macro in ((metrics.average_precision, "PR-AUC-macro"), (metrics.roc_auc, "ROC-AUC-macro")):
        per_target = metric(truth, scores)
        assert np.isnan(per_target[:2]).all()
        assert tags.score_tags(truth, scores)[macro] == pytest.approx(per_target[2:].mean())


@pytest.mark.parametrize(
    ("truth", "scores", "decisions", "message"),
    [
        (np.ones((3, 2), bool), np.zeros((2, 2)), None, r"predictions have the shape \(2, 2\), the truth has \(3, 2\)"),
        (np.ones((3, 2), bool), np.zeros((3, 2)), np.ones((3, 1), bool), r"decisions have the shape \(3, 1\)"),
        (np.eye(3, dtype=bool), np.full((3, 3), [[0], [np.nan], [0]]), None, "1 of 3 rows .* first row 1"),
        (np.eye(3, dtype=bool), np.full((3, 3), [[0], [1], [np.inf]]), None, "1 of 3 rows .* first row 2"),
        (np.zeros((0, 2), bool), np.zeros((0, 2)), None, "no tag among 2 has both positives and negatives"),
    ],
)
def test_what_cannot_be_scored_is_a_data_error(truth, scores, decisions, message):
    with pytest.raises(DataError, match=message):
        tags.score_tags(truth, scores, decisions)


def test_the_threshold_has_the_best_f_score_and_lies_half_way_to_the_next_lower_score(example):
    truth, scores = example
    thresholds = tags.best_thresholds(truth, scores)
    reached = metrics.decision_figures(truth, scores >= thresholds)["F-score"]
    candidates = [metrics.decision_figures(truth, scores >= value)["F-score"] for value in np.unique(scores)]
    assert reached == pytest.approx(np.max(candidates, axis=0))
    assert np.isinf(tags.best_thresholds(truth & False, scores)).all()  # without positives nothing is decided
    few = np.array([[0.9], [0.8], [0.2], [0.1]])
    assert tags.best_thresholds(few > 0.5, few) == pytest.approx([0.5])


def test_the_threshold_decides_the_same_in_the_precision_of_the_scores():
    low = np.linspace(0.1, 0.999, 500, dtype=np.float32)
    neighbours = np.stack([low, np.nextafter(low, np.float32(1))])  # nothing lies half-way between them
    truth = np.array([[False], [True]]) & np.ones(500, bool)
    thresholds = tags.best_thresholds(truth, neighbours)
    np.testing.assert_array_equal(KINDS["tags"].decide(neighbours, thresholds), truth)


def test_scores_that_are_shares_have_no_calibration_error():
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 3))
    truth = rng.random(scores.shape) < scores
    assert kind.bin_scores(truth, scores).error < 0.01
    assert kind.bin_scores(truth, scores**2).error > 0.1


def test_luck_is_the_error_of_scores_that_are_exactly_the_chances():
    rng = np.random.default_rng(0)
    for tracks in (100, 1_000):
        scores = rng.beta(0.3, 6, (tracks, 7))
        draws = [kind.bin_scores(rng.random(scores.shape) < scores, scores, 0.1) for _ in range(300)]
        assert draws[0].luck == pytest.approx(np.mean([each.error for each in draws]), rel=0.05)
        spread = np.std([each.share for each in draws], axis=0)
        np.testing.assert_allclose(draws[0].spread, spread, rtol=0.2)


def test_constant_scores_are_one_bin_and_figures_that_are_not_defined_are_left_out(example):
    truth = np.array([[True], [False], [False], [False]])
    for value, error in ((0.0, np.nan), (0.3, 0.05), (1.0, 0.75)):
        assert kind.bin_scores(truth, np.full((4, 1), value)).error == pytest.approx(error, nan_ok=True)
    truth, scores = example
    assert kind.score_calibration(truth, scores).keys() == {"ECE", "ECE-luck", "Brier-skill-macro"}
    assert kind.score_calibration(truth, scores * 0.1).keys() == {"Brier-skill-macro"}


def test_brier_skill_is_against_the_prior():
    truth = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], bool)
    scores = np.array([[0.25, 1.0, 0.1]] * 4)
    scores[:, 1] = truth[:, 1]
    skill = metrics.brier_skill(truth, scores)
    assert skill[:2] == pytest.approx([0.0, 1.0])
    assert np.isnan(skill[2])
    assert metrics.brier_skill(truth, 1 - scores)[1] == pytest.approx(-3.0)


@pytest.mark.parametrize(
    ("positives", "count", "share", "grade"),
    [
        (4, 1000, 0.0, "unknown"),  # too few, however good
        (0, 100, 0.0, "unknown"),
        (100, 100, 0.0, "unknown"),  # nothing to tell it from
        (30, 1000, 0.0, "good"),
        (30, 1000, 0.15, "fair"),
        (30, 1000, 0.5, "weak"),
        (6, 1000, 0.5, "weak"),
        (500, 1000, 0.0, "good"),  # a common tag can't reach twice its prior
        (500, 1000, 0.2, "good"),
        (500, 1000, 0.3, "fair"),
        (500, 1000, 0.9, "weak"),
        (800, 1000, 0.1, "good"),
        (800, 1000, 0.15, "fair"),
        (800, 1000, 0.2, "weak"),
    ],
)
def test_grades_go_by_precision_against_the_prior_and_by_number(positives, count, share, grade):
    """Of one tag, whose positives score above all but a share of the negatives."""
    truth = np.arange(count)[:, None] < positives
    scores = np.linspace(0, 1, count)[:, None].copy()
    scores[:positives, 0] = 1 - share
    assert metrics.grade_tags(truth, scores) == (grade,)


def test_a_mean_is_of_what_is_finite():
    values = np.array([[0.3, np.inf, np.nan], [np.inf, np.inf, 0.0], [0.5, np.inf, 1.0]])
    np.testing.assert_allclose(metrics.mean_over(values, np.inf), [0.4, np.inf, 0.5])


@pytest.fixture(scope="module", params=[1000, 6], ids=["distinct scores", "many ties"])
def example_bootstrap(request):
    generator = np.random.default_rng(8)
    truth = generator.random((300, 4)) < [0.3, 0.1, 0.05, 0.5]
    levels = request.param
    scores = np.round((generator.random((300, 4)) * 0.7 + 0.3 * truth) * levels) / levels
    return truth, scores.astype(np.float32), [f"artist {number}" for number in generator.integers(60, size=300)]


def test_what_epochs_are_compared_by_is_mean_average_precision(example_bootstrap):
    truth, scores, _ = example_bootstrap
    truth = np.concatenate([truth, truth & False], axis=1)  # and a tag without positives
    scores = np.concatenate([scores, scores], axis=1)
    expected = metrics.mean_average_precision(truth, scores)
    assert metrics.quick_mean_average_precision(truth, scores) == pytest.approx(expected)


def repeat(array, weights):
    return np.repeat(array, weights.astype(int), axis=0)


def test_draws_in_which_nothing_can_be_measured_are_left_out():
    truth = np.array([[True], [False], [False]])
    samples = bootstrap_tags(truth, np.array([[0.9], [0.5], [0.1]]), ["a", "b", "c"], rounds=100)
    assert 10 < np.isfinite(samples.metrics["PR-AUC-macro"]).sum() < 100
    figures = {"PR-AUC-macro": 1.0, "ROC-AUC-macro": 1.0}
    assert samples.intervals(figures) == dict.fromkeys(figures, (1.0, 1.0))
    assert bootstrap_tags(truth, np.array([[0.9], [0.5], [0.1]]), ["a"] * 3, rounds=5).intervals(figures)


def test_the_interval_holds_the_figure_and_the_seed_decides(example_bootstrap):
    truth, scores, artists = example_bootstrap
    samples = bootstrap_tags(truth, scores, artists, rounds=300)
    figures = tags.score_tags(truth, scores)
    intervals = samples.intervals(figures)
    for name in figures.keys() - {"prior-macro"}:
        assert intervals[name][0] < figures[name] < intervals[name][1] or name.startswith("hit@")
    same, other = (bootstrap_tags(truth, scores, artists, rounds=300, seed=seed) for seed in (0, 1))
    assert np.array_equal(samples.metrics["PR-AUC-macro"], same.metrics["PR-AUC-macro"])
    assert not np.array_equal(samples.metrics["PR-AUC-macro"], other.metrics["PR-AUC-macro"])


def test_artists_are_drawn_whole(example_bootstrap):
    """Where each artist's tracks are copies of one, intervals are as wide as for one track an artist."""
    truth, scores, _ = example_bootstrap
    five = repeat(truth, np.full(300, 5)), repeat(scores, np.full(300, 5))
    artists = [str(number // 5) for number in range(1500)]
    one, copies, tracks = (
        bootstrap_tags(*arrays, names, rounds=400).metrics["ROC-AUC-macro"].std()
        for arrays, names in (((truth, scores), artists[::5]), (five, artists), (five, list(map(str, range(1500)))))
    )
    assert copies == pytest.approx(one, rel=0.25)
    assert tracks < 0.7 * copies


def test_the_interval_leaves_out_a_fortieth_on_either_side():
    assert centred_interval(np.linspace(0, 1, 1001), 0.9) == pytest.approx((0.425, 1.375))
    shares = np.linspace(0, 1, 1001)
    samples = metrics.Samples({"a": shares, "b": 2 * shares}, shares[None])
    bounded, free = pytest.approx((0.425, 1.0)), pytest.approx((0.95, 2.85))
    assert samples.intervals({"a": 0.9, "b": 1.9}) == {"a": bounded, "b": free}
    assert samples.tag_intervals(np.array([0.9])) == [bounded]
    values = np.append(np.arange(1001.0), np.nan)
    assert centred_interval(values, 500.0) == pytest.approx((25.0, 975.0))
    assert centred_interval(values, 490.0) == pytest.approx((15.0, 965.0))


@pytest.mark.thorough
def test_a_figure_of_rare_tags_lies_in_its_own_interval():
    """Each draw repeats positives, which lifts their average precision."""
    rng = np.random.default_rng(0)
    truth = rng.random((1000, 300)) < 0.004
    scores = rng.random(truth.shape, np.float32)
    samples = bootstrap_tags(truth, scores, list(map(str, range(1000))), rounds=50)
    figures = tags.score_tags(truth, scores)
    assert np.mean(samples.metrics["PR-AUC-macro"] > figures["PR-AUC-macro"]) > 0.9
    low, high = samples.intervals(figures)["PR-AUC-macro"]
    assert low < figures["PR-AUC-macro"] < high


def test_a_comparison_is_paired(example_bootstrap):
    """Two taggers that hardly differ: each interval is wide, that of their difference is narrow."""
    truth, scores, artists = example_bootstrap
    better = scores + 0.02 * truth
    samples, other = (bootstrap_tags(truth, array, artists, rounds=300) for array in (better, scores))
    figures, others = (tags.score_tags(truth, array) for array in (better, scores))
    compared = {row.figure: row for row in samples.compare(other, figures, others)}
    for comparison in (compared["PR-AUC-macro"], compared["ROC-AUC-macro"]):
        low, high = comparison.interval
        assert low <= comparison.difference <= high
        assert comparison.difference > 0
        assert comparison.ahead > 0.95
        wide = samples.intervals(figures)[comparison.figure]
        assert high - low < 0.75 * (wide[1] - wide[0])
    same = samples.compare(samples, figures, figures)
    assert {(row.difference, row.interval, row.ahead) for row in same} == {(0.0, (0.0, 0.0), 0.0)}


@pytest.mark.parametrize("bins", [10_000, 64])
def test_every_figure_of_a_draw_is_that_of_so_many_copies(example_bootstrap, monkeypatch, bins):
    """Each artist is drawn as often as the generator says; the figures of the copies are computed by the metrics."""
    truth, scores, artists = example_bootstrap
    scores = (scores * 0.9 + 0.05).astype(np.float32)
    decisions = scores > 0.5
    monkeypatch.setattr(metrics, "_MICRO_BINS", bins)
    samples = bootstrap_tags(truth, scores, artists, decisions=decisions, rounds=4, seed=5)
    names, group = np.unique(artists, return_inverse=True)
    drawn = np.random.default_rng(5).multinomial(len(names), np.full(len(names), 1 / len(names)), size=4)
    for row, weights in enumerate(drawn[:, group]):
        copies = [repeat(array, weights) for array in (truth, scores, decisions)]
        expected = tags.score_tags(*copies)
        expected["Brier-skill-macro"] = float(np.nanmean(metrics.brier_skill(*copies[:2])))
        del expected["prior-macro"]
        assert expected.keys() == samples.metrics.keys() - {"ECE"}
        for name, figure in expected.items():
            tolerance = 0.01 if name.endswith("AUC-micro") else 1e-5
            assert samples.metrics[name][row] == pytest.approx(figure, abs=tolerance), name
        for tag, precision in enumerate(metrics.average_precision(*copies[:2])):
            assert samples.precision[tag, row] == pytest.approx(precision, abs=1e-9)


def test_the_calibration_error_of_an_even_draw_is_that_of_the_tracks(example_bootstrap):
    """With one artist every draw is the whole."""
    truth, scores, _ = example_bootstrap
    samples = bootstrap_tags(truth, scores * np.float32(0.9), ["one"] * len(truth), rounds=2)
    expected = kind.score_calibration(truth, scores * np.float32(0.9))
    del expected["ECE-luck"]  # which is no property of a tagger
    for name, figure in expected.items():
        assert samples.metrics[name].tolist() == pytest.approx([figure] * 2, rel=1e-5)


def test_each_tag_has_an_interval_unless_it_is_in_no_draw(example_bootstrap):
    truth, scores, artists = example_bootstrap
    truth = np.column_stack([truth, np.zeros(len(truth), bool)])
    scores = np.column_stack([scores, scores[:, 0]])
    figures = metrics.average_precision(truth, scores)
    intervals = bootstrap_tags(truth, scores, artists, rounds=200).tag_intervals(figures)
    assert intervals[4] is None
    for (low, high), figure in zip(intervals[:4], figures[:4], strict=True):
        assert 0 <= low < figure < high <= 1


def test_resampling_finds_the_same_intervals_as_the_quick_way(example_bootstrap):
    truth, scores, artists = example_bootstrap
    quick = metrics.bootstrap_tags(truth, scores, artists, rounds=20)
    slow = metrics.bootstrap_any(tags.score_tags, truth, scores, artists, rounds=20)
    for name in ("PR-AUC-macro", "ROC-AUC-macro", "hit@1"):
        np.testing.assert_allclose(slow.metrics[name], quick.metrics[name], rtol=1e-5)


def test_draws_that_show_no_difference_are_left_out():
    truth = np.array([[1.0], [1.0], [5.0]])
    samples = metrics.bootstrap_any(lambda *_: {"x": 1.0}, truth, truth, ["a", "b", "c"], rounds=200)
    assert 100 < len(samples.metrics["x"]) < 200


FOUR_TAGS = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0], *[[0, 1, 0, 0]] * 3, [0, 0, 0, 0]], np.float32)


def test_cooccurrence_is_the_share_of_the_row_that_has_the_column_too():
    shares = metrics.cooccurrence(FOUR_TAGS)
    expected = [[1, 2 / 3, 0, 1 / 3], [2 / 5, 1, 0, 1 / 5], [np.nan] * 4, [1, 1, 0, 1]]
    np.testing.assert_allclose(shares, expected)
    np.testing.assert_array_equal(shares, metrics.cooccurrence(FOUR_TAGS > 0))


def test_tags_that_go_together_become_neighbours():
    """Four families of three tags, dealt out so that no two of a family are next to each other."""
    rng = np.random.default_rng(1)
    family = np.arange(12) % 4
    chosen = rng.integers(0, 4, 2000)
    Y = (family == chosen[:, None]) & (rng.random((2000, 12)) < 0.7)
    order = metrics.similar_order(Y).tolist()
    assert sorted(order) == [*range(12)]
    assert np.count_nonzero(np.diff(family[order])) == 3


@pytest.mark.parametrize("k", [1, 2])
def test_one_tag_or_two_keep_their_order(k):
    Y = np.eye(3, k, dtype=bool)
    assert metrics.similar_order(Y).tolist() == [*range(k)]
