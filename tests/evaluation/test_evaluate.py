import json
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import CURVES, SPEC, TASK, VALUES, make_examples

from jamendo_mood.evaluation import evaluate
from jamendo_mood.tasks import calibration, metrics, tags
from jamendo_mood.tasks.tags import reaches_threshold
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.util.errors import DataError, UsageError

OFFICIAL = {"PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro", "hit@1", "hit@3", "hit@5"}
DECIDED = {f"{name}-{average}" for name in ("precision", "recall", "F-score") for average in ("macro", "micro")}
TAGS = ("calm", "dark", "never", "always")


@pytest.fixture
def truth():
    """Forty examples of four tags; of the third there is none, of the fourth there is nothing else."""
    values = np.random.default_rng(0).random((40, 4)) < [0.5, 0.2, 0.0, 1.0]
    assert values[:, :2].any(axis=0).all()
    return values


@pytest.fixture
def predictions(truth):
    """Scores that know something."""
    return (np.random.default_rng(1).random(truth.shape) + 0.4 * truth).astype(np.float32)


@pytest.fixture
def scores(truth, predictions):
    thresholds = np.array([0.7, 0.6, np.inf, 0.5])
    return evaluate.score_predictions(
        truth, predictions, TAGS, decisions=reaches_threshold(predictions, thresholds), tuned=thresholds
    )


def refuse_constant(name):
    pytest.fail(f"{name} is no JSON")


def test_official_names_are_at_the_top_of_the_json(scores, truth, predictions):
    values = scores.to_json()
    assert set(values) == OFFICIAL | DECIDED | {"prior-macro", "examples", "per_target"}
    assert values["examples"] == 40
    expected = tags.score_tags(truth, predictions, None)
    assert {name: values[name] for name in expected} == expected
    undecided = evaluate.score_predictions(truth, predictions, TAGS).to_json()
    assert set(undecided) == OFFICIAL | {"prior-macro", "examples", "per_target"}


def test_the_json_is_unrounded_and_knows_no_nan(scores):
    text = json.dumps(scores.to_json(), allow_nan=False)
    values = json.loads(text, parse_constant=refuse_constant)
    assert values == scores.to_json()
    assert values["PR-AUC-macro"] != round(values["PR-AUC-macro"], 6)
    rows = {row["tag"]: row for row in values["per_target"]}
    assert list(rows) == list(TAGS)
    for tag in ("never", "always"):
        assert rows[tag]["PR-AUC"] is None
        assert rows[tag]["ROC-AUC"] is None
    assert rows["never"]["threshold"] is None


def test_a_row_says_of_its_tag_what_the_metrics_say(scores, truth, predictions):
    for column, row in enumerate(scores.per_target[:2]):
        assert row["positives"] == truth[:, column].sum()
        assert isinstance(row["positives"], int)
        assert row["prior"] == pytest.approx(truth[:, column].mean())
        assert row["PR-AUC"] == metrics.average_precision(truth, predictions)[column]
        assert row["ROC-AUC"] == metrics.roc_auc(truth, predictions)[column]
        decided = predictions[:, column] >= np.float32(row["threshold"])
        right = (decided & truth[:, column]).sum()
        assert row["precision"] == pytest.approx(right / decided.sum())
        assert row["recall"] == pytest.approx(right / truth[:, column].sum())


def test_the_table_has_the_best_tag_first_and_undefined_ones_last(scores):
    table = scores.table()
    defined = table["PR-AUC"].dropna().tolist()
    assert defined == sorted(defined, reverse=True)
    assert table["PR-AUC"].isna().tolist() == [False, False, True, True]
    assert set(table["tag"]) == set(TAGS)


def test_scores_are_saved_as_json_and_csv(scores, tmp_path):
    scores.save(tmp_path / "new" / "report")
    text = (tmp_path / "new" / "report" / "scores.json").read_text()
    assert json.loads(text, parse_constant=refuse_constant) == scores.to_json()
    lines = (tmp_path / "new" / "report" / "per_target.csv").read_text().splitlines()
    assert lines[0] == "tag,positives,prior,PR-AUC,ROC-AUC,precision,recall,F-score,threshold"
    assert [line.split(",")[0] for line in lines[1:]] == scores.table()["tag"].tolist()


@pytest.fixture(scope="module")
def tagger():
    config = TrainConfig(HeadConfig("linear"), epochs=3, batch=16)
    return fit(make_examples(60), make_examples(40, seed=1), TASK, SPEC, config)


@pytest.fixture(scope="module")
def test_part():
    """Fifty tracks by ten artists."""
    examples = make_examples(50, seed=2)
    tracks = tuple(replace(track, artist=f"artist {row % 10}") for row, track in enumerate(examples.tracks))
    return replace(examples, tracks=tracks)


def test_a_tagger_is_judged_by_its_own_scores_and_thresholds(tagger, test_part):
    scores = evaluate.evaluate(tagger, test_part)
    truth, predictions = test_part.Y > 0, tagger.score(test_part.frames)
    expected = tags.score_tags(truth, predictions, tagger.decide(predictions))
    assert scores.figures == {**expected, **calibration.score_calibration(truth, predictions)}
    assert {"ECE", "Brier-skill-macro"} < scores.figures.keys()
    assert [row["threshold"] for row in scores.per_target] == tagger.tuned.tolist()
    assert [row["tag"] for row in scores.per_target] == list(TASK.targets)
    assert scores.examples == 50
    np.testing.assert_array_equal(scores.predictions, predictions)
    np.testing.assert_array_equal(scores.truth, truth)
    np.testing.assert_array_equal(scores.decisions, tagger.decide(predictions))


def test_a_row_of_a_tagger_says_how_far_to_trust_its_tag(tagger, test_part):
    scores = evaluate.evaluate(tagger, test_part, rounds=50)
    truth = test_part.Y > 0
    grades = metrics.grade_tags(truth, scores.predictions)
    for column, row in enumerate(scores.per_target):
        artists = {track.artist for track, has in zip(test_part.tracks, truth[:, column], strict=True) if has}
        assert row["artists"] == len(artists) <= 10
        assert row["grade"] == grades[column]
        assert row["PR-AUC-low"] < row["PR-AUC"] <= row["PR-AUC-high"]
        assert row["ECE-all"] == calibration.calibration_error(truth[:, [column]], scores.predictions[:, [column]])
        assert row["Brier-skill"] == calibration.brier_skill(truth, scores.predictions)[column]
    json.dumps(scores.to_json(), allow_nan=False)


def test_every_headline_figure_but_the_prior_has_an_interval(tagger, test_part):
    scores = evaluate.evaluate(tagger, test_part, rounds=200)
    assert scores.intervals.keys() == scores.figures.keys() - {"prior-macro"}
    for name, (low, high) in scores.intervals.items():
        assert low <= high
        assert low <= scores.figures[name] <= high, name
    assert evaluate.evaluate(tagger, test_part, rounds=0).intervals == {}


def test_a_tag_that_the_part_lacks_has_no_figures(tagger, test_part):
    truth = test_part.Y.copy()
    truth[:, 1] = 0
    row = evaluate.evaluate(tagger, replace(test_part, Y=truth), rounds=20).per_target[1]
    assert (row["PR-AUC"], row["PR-AUC-low"], row["Brier-skill"], row["artists"]) == (None, None, None, 0)
    assert row["grade"] == "unknown"
    with pytest.raises(DataError, match="no tag among 3 has both positives and negatives in 50 examples"):
        evaluate.evaluate(tagger, replace(test_part, Y=truth * 0))


def test_taggers_are_compared_on_every_figure(tagger, test_part):
    rows = {row.figure: row for row in evaluate.compare(tagger, tagger, (test_part, test_part), rounds=20)}
    assert rows.keys() == evaluate.evaluate(tagger, test_part, rounds=20).intervals.keys()
    assert {(row.difference, row.interval, row.ahead) for row in rows.values()} == {(0.0, (0.0, 0.0), 0.0)}
    with pytest.raises(UsageError, match="do not hold the same tracks"):
        evaluate.compare(tagger, tagger, (test_part, make_examples(50, seed=3)))


def test_as_many_names_as_columns_are_needed(truth, predictions):
    with pytest.raises(DataError, match="3 names of tags for 4 columns"):
        evaluate.score_predictions(truth, predictions, TAGS[:3])


def test_predictions_of_another_shape_are_refused(truth, predictions):
    with pytest.raises(DataError, match=r"predictions have the shape \(39, 4\), the truth has \(40, 4\)"):
        evaluate.score_predictions(truth, predictions[1:], TAGS)


def test_an_evaluation_of_moments_knows_their_songs_and_times():
    examples = make_examples(12)
    owners = np.repeat(np.arange(4), 3)
    times_s = np.tile(np.array([15, 15.5, 16], np.float32), 4)
    Y = np.random.default_rng(0).uniform(-1, 1, (12, 2)).astype(np.float32)
    tracks = tuple(examples.tracks[owner] for owner in owners)
    moments = replace(examples, Y=Y, tracks=tracks, targets=CURVES.targets, times_s=times_s)
    found = evaluate.judge(CURVES, moments, Y, np.ones(Y.shape, bool), rounds=0)
    assert found.songs == tuple(track.key for track in tracks)
    np.testing.assert_array_equal(found.times_s, times_s)
    assert found.figures["Kendall"] == pytest.approx(1)
    assert not {"songs", "times_s"} & found.to_json().keys()
    still = evaluate.judge(VALUES, replace(moments, times_s=None), Y, np.ones(Y.shape, bool), rounds=0)
    assert (still.songs, still.times_s) == ((), None)
    assert "Kendall" not in still.figures
