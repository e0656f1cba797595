import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.tasks import calibration, metrics, tags
from jamendo_mood.tasks.task import KINDS
from jamendo_mood.util.errors import DataError

HERE = Path(__file__).parents[1]
CASES = json.loads((HERE / "golden" / "metrics.json").read_text())
RANKING = ("PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro")


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_macro_figures_are_the_means_of_the_tags(case):
    truth, scores, decisions = (np.array(case[name]) for name in ("truth", "scores", "decisions"))
    truth, decisions = truth > 0, decisions > 0
    per_target = dict(zip(("precision", "recall", "F-score"), metrics.decision_figures(truth, decisions), strict=True))
    per_target |= {"PR-AUC": metrics.average_precision(truth, scores), "ROC-AUC": metrics.roc_auc(truth, scores)}
    for name, values in per_target.items():
        assert values.shape == truth.shape[1:]
        assert np.nanmean(values) == pytest.approx(case["figures"][f"{name}-macro"], abs=1e-9)


def test_reversed_scores_turn_the_roc_auc_round(example):
    truth, scores = example
    assert metrics.roc_auc(truth, -scores) == pytest.approx(1 - metrics.roc_auc(truth, scores))


def test_perfect_scores_are_worth_one(example):
    truth, _ = example
    figures = tags.score_tags(truth, truth.astype(np.float32), truth)
    assert {name: figure for name, figure in figures.items() if name != "prior-macro"} == pytest.approx(
        {name: 1.0 for name in figures if name != "prior-macro"}
    )


def test_the_order_of_examples_does_not_matter(example):
    truth, scores = example
    order = np.random.default_rng(0).permutation(len(truth))
    assert tags.score_tags(truth[order], scores[order]) == pytest.approx(tags.score_tags(truth, scores))


def test_only_the_ranking_of_scores_matters(example):
    truth, scores = example
    plain, bent = tags.score_tags(truth, scores), tags.score_tags(truth, np.exp(3 * scores.astype(float)) - 7)
    assert {name: bent[name] for name in RANKING} == pytest.approx({name: plain[name] for name in RANKING})


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
        (np.ones((3, 2)), np.zeros((3, 2)), None, "must be a boolean table"),
        (np.eye(3, dtype=bool), np.full((3, 3), [[0], [np.nan], [0]]), None, "1 of 3 rows .* first row 1"),
        (np.eye(3, dtype=bool), np.full((3, 3), [[0], [1], [np.inf]]), None, "1 of 3 rows .* first row 2"),
        (np.ones(3, bool), np.zeros(3), None, "must be a boolean table"),
        (np.zeros((3, 2), bool), np.zeros((3, 2)), None, "no tag among 2 has both positives and negatives"),
        (np.zeros((0, 2), bool), np.zeros((0, 2)), None, "no tag among 2 has both positives and negatives"),
    ],
)
def test_what_cannot_be_scored_is_a_data_error(truth, scores, decisions, message):
    with pytest.raises(DataError, match=message):
        tags.score_tags(truth, scores, decisions)


def test_the_threshold_has_the_best_f_score_there_is(example):
    truth, scores = example
    thresholds = tags.best_thresholds(truth, scores)
    reached = metrics.decision_figures(truth, scores >= thresholds)[2]
    candidates = [metrics.decision_figures(truth, scores >= value)[2] for value in np.unique(scores)]
    assert reached == pytest.approx(np.max(candidates, axis=0))


def test_the_threshold_lies_half_way_to_the_next_lower_score():
    scores = np.array([[0.9], [0.8], [0.2], [0.1]])
    truth = np.array([[True], [True], [False], [False]])
    assert tags.best_thresholds(truth, scores) == pytest.approx([0.5])


def test_the_threshold_decides_the_same_in_the_precision_of_the_scores():
    low = np.linspace(0.1, 0.999, 500, dtype=np.float32)
    neighbours = np.stack([low, np.nextafter(low, np.float32(1))])  # nothing lies half-way between them
    truth = np.array([[False], [True]]) & np.ones(500, bool)
    thresholds = tags.best_thresholds(truth, neighbours)
    np.testing.assert_array_equal(KINDS["tags"].decide(neighbours, thresholds), truth)


def test_a_tag_without_positives_is_never_decided(example):
    truth, scores = example[0].copy(), example[1]
    truth[:, 2] = False
    assert not (scores >= tags.best_thresholds(truth, scores))[:, 2].any()


@pytest.mark.shared
def test_the_official_figures_of_the_mediaeval_baseline(shared):
    folder = shared / "data" / "jamendo" / "mediaeval"
    truth = np.load(folder / "groundtruth.npy")
    predictions = np.load(folder / "baseline_vggish_predictions.npy")
    lines = (folder / "baseline_vggish_thresholds.txt").read_text().splitlines()
    thresholds = np.array([float(line.split("\t")[1]) for line in lines])
    published = dict(line.split("\t") for line in (folder / "baseline_vggish_results.tsv").read_text().splitlines())
    above = tags.score_tags(truth, predictions, predictions > thresholds)
    assert {name: f"{above[name]:.6f}" for name in published} == published
    # Its script decides above its thresholds, though it found them as lowest scores to be decided.
    at_least = tags.score_tags(truth, predictions, predictions >= thresholds)
    other = {name for name in published if f"{at_least[name]:.6f}" != published[name]}
    assert other == {f"{name}-{kind}" for name in ("precision", "recall", "F-score") for kind in ("macro", "micro")}


def test_calibration_error_is_that_of_a_plain_loop(example):
    truth, scores = example
    values = sorted(zip(scores[scores > 0.1].tolist(), truth[scores > 0.1].tolist(), strict=True))
    size, total = len(values) / calibration.BINS, 0.0
    for number in range(calibration.BINS):
        inside = values[round(number * size) : round((number + 1) * size)]
        total += abs(sum(score for score, _ in inside) - sum(true for _, true in inside))
    assert calibration.calibration_error(truth, scores, 0.1) == pytest.approx(total / len(values), abs=0.01)
    assert calibration.calibration_error(truth, scores, 0.1) > 0.1


def test_scores_that_are_shares_have_no_calibration_error():
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 3))
    truth = rng.random(scores.shape) < scores
    assert calibration.calibration_error(truth, scores) < 0.01
    assert calibration.calibration_error(truth, scores**2) > 0.1
    mean, share, count = calibration.reliability_curve(truth, scores, 0.1)
    assert len(mean) == calibration.BINS
    assert count.sum() == (scores > 0.1).sum()
    assert mean.tolist() == sorted(mean)
    np.testing.assert_allclose(mean, share, atol=0.03)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_scores_are_one_bin(value):
    truth = np.array([[True], [False], [False], [False]])
    assert calibration.calibration_error(truth, np.full((4, 1), value)) == pytest.approx(
        abs(value - 0.25) if value else np.nan, nan_ok=True
    )


def test_brier_skill_is_against_the_prior():
    truth = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], bool)
    scores = np.array([[0.25, 1.0, 0.1]] * 4)
    scores[:, 1] = truth[:, 1]
    skill = calibration.brier_skill(truth, scores)
    assert skill[:2] == pytest.approx([0.0, 1.0])
    assert np.isnan(skill[2])
    assert calibration.brier_skill(truth, 1 - scores)[1] == pytest.approx(-3.0)


def test_figures_of_calibration_that_are_not_defined_are_left_out(example):
    truth, scores = example
    assert calibration.score_calibration(truth, scores).keys() == {"ECE", "Brier-skill-macro"}
    assert calibration.score_calibration(truth, scores * 0.1).keys() == {"Brier-skill-macro"}


def graded(positives, count, share):
    """The grade of one tag, whose positives score above all but a share of the negatives."""
    truth = np.zeros((count, 1), bool)
    truth[:positives] = True
    scores = np.linspace(0, 1, count)[:, None].copy()
    scores[:positives, 0] = 1 - share
    return metrics.grade_tags(truth, scores)[0]


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
        (500, 1000, 0.9, "weak"),
    ],
)
def test_grades_go_by_precision_against_the_prior_and_by_number(positives, count, share, grade):
    assert graded(positives, count, share) == grade


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_hits_among_the_highest(count):
    truth = np.array([[True, False, False], [False, False, True], [False, False, False], [False, True, False]])
    scores = np.array([[0.9, 0.1, 0.5], [0.9, 0.8, 0.1], [0.9, 0.8, 0.1], [0.5, 0.5, 0.5]])
    ranks = np.array([1, 3, 99, 3])  # of the best right tag, behind those that score alike
    assert metrics.hits_at(truth, scores, count).tolist() == (ranks <= count).tolist()
