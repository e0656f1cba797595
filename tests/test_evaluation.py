import json
import math

import numpy as np
import pytest
from toy_examples import SPEC, TASK, make_examples

from jamendo_mood import evaluation, metrics
from jamendo_mood.errors import DataError
from jamendo_mood.model import HeadConfig
from jamendo_mood.tasks import reaches_threshold
from jamendo_mood.training import TrainConfig, fit

OFFICIAL = {"PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"}
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
    return evaluation.score_predictions(
        truth, predictions, TAGS, decisions=reaches_threshold(predictions, thresholds), thresholds=thresholds
    )


def refuse_constant(name):
    pytest.fail(f"{name} is no JSON")


def test_official_names_are_at_the_top_of_the_json(scores, truth, predictions):
    values = scores.to_json()
    assert set(values) == OFFICIAL | DECIDED | {"prior-macro", "examples", "per_tag"}
    assert values["examples"] == 40
    expected = metrics.score_tags(truth, predictions, None)
    assert {name: values[name] for name in expected} == expected
    undecided = evaluation.score_predictions(truth, predictions, TAGS).to_json()
    assert set(undecided) == OFFICIAL | {"prior-macro", "examples", "per_tag"}


def test_the_json_is_unrounded_and_knows_no_nan(scores):
    text = json.dumps(scores.to_json(), allow_nan=False)
    values = json.loads(text, parse_constant=refuse_constant)
    assert values == scores.to_json()
    assert values["PR-AUC-macro"] != round(values["PR-AUC-macro"], 6)
    rows = {row["tag"]: row for row in values["per_tag"]}
    assert list(rows) == list(TAGS)
    for tag in ("never", "always"):
        assert rows[tag]["PR-AUC"] is None
        assert rows[tag]["ROC-AUC"] is None
    assert rows["never"]["threshold"] is None


def test_a_row_says_of_its_tag_what_the_metrics_say(scores, truth, predictions):
    for column, row in enumerate(scores.per_tag[:2]):
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
    lines = (tmp_path / "new" / "report" / "per_tag.csv").read_text().splitlines()
    assert lines[0] == "tag,positives,prior,PR-AUC,ROC-AUC,precision,recall,F-score,threshold"
    assert [line.split(",")[0] for line in lines[1:]] == scores.table()["tag"].tolist()


def test_a_tagger_is_judged_by_its_own_scores_and_thresholds():
    tagger = fit(make_examples(60), make_examples(40, seed=1), TASK, SPEC, TrainConfig(HeadConfig("linear"), epochs=2))
    test = make_examples(50, seed=2)
    scores = evaluation.evaluate(tagger, test)
    expected = metrics.score_tags(test.Y > 0, tagger.score(test.X), tagger.decide(tagger.score(test.X)))
    assert scores.figures == expected
    assert [row["threshold"] for row in scores.per_tag] == tagger.tuned.tolist()
    assert [row["tag"] for row in scores.per_tag] == list(TASK.targets)
    assert scores.examples == 50


def test_as_many_names_as_columns_are_needed(truth, predictions):
    with pytest.raises(DataError, match="3 names of tags for 4 columns"):
        evaluation.score_predictions(truth, predictions, TAGS[:3])


def test_predictions_of_another_shape_are_refused(truth, predictions):
    with pytest.raises(DataError, match=r"predictions have the shape \(39, 4\), the truth has \(40, 4\)"):
        evaluation.score_predictions(truth, predictions[1:], TAGS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"a table of numbers \(tracks, tags\) is needed, not float64 \(3,\)"),
        (np.zeros((2, 2, 2)), "a table of numbers"),
        (np.array([["a", "b"]]), "a table of numbers"),
        (np.array([[None]], dtype=object), "cannot be read as a .npy file"),
    ],
)
def test_an_array_that_is_no_table_of_numbers_is_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=rf"x\.npy: {message}"):
        evaluation.read_array(tmp_path / "x.npy")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00\x10"])
def test_a_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npy: cannot be read as a .npy file"):
        evaluation.read_array(tmp_path / "x.npy")


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.npy: cannot be read as a .npy file .*No such file"):
        evaluation.read_array(tmp_path / "x.npy")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_zeros_and_ones_of_any_type_are_booleans(tmp_path, dtype):
    values = np.array([[0, 1, 1], [1, 0, 0]])
    np.save(tmp_path / "x.npy", values.astype(dtype))
    read = evaluation.read_bools(tmp_path / "x.npy")
    assert read.dtype == np.bool_
    assert read.tolist() == (values == 1).tolist()


@pytest.mark.parametrize("value", [2, -1, 0.5, math.nan])
def test_other_values_are_no_booleans(tmp_path, value):
    np.save(tmp_path / "x.npy", np.array([[0, value]]))
    with pytest.raises(DataError, match=r"x\.npy: only zeros and ones"):
        evaluation.read_bools(tmp_path / "x.npy")


def test_tags_are_read_one_a_line(tmp_path):
    (tmp_path / "tags.txt").write_bytes("mood/theme---happy\r\nsad song\r\n\r\né\r\n".encode())
    assert evaluation.read_tags(tmp_path / "tags.txt") == ("mood/theme---happy", "sad song", "é")


def test_thresholds_are_read_with_their_tags(tmp_path):
    (tmp_path / "t.txt").write_text("happy\t0.25\nsad\t1e-3\n")
    tags, thresholds = evaluation.read_thresholds(tmp_path / "t.txt")
    assert tags == ("happy", "sad")
    assert thresholds.tolist() == [0.25, 0.001]


@pytest.mark.parametrize("content", ["happy\thigh\n", "happy\n", "happy\t0.5\t0.6\n"])
def test_other_thresholds_are_refused(tmp_path, content):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(DataError, match=r"t\.txt: each line must be a tag, a tab and a number"):
        evaluation.read_thresholds(tmp_path / "t.txt")
