import math

import numpy as np
import pytest

from jamendo_mood.evaluation import evaluate
from jamendo_mood.util.errors import DataError


def test_what_is_written_is_read_back(tmp_path):
    arrays = {
        "predictions": np.random.default_rng(0).random((5, 2), np.float32),
        "decisions": np.array([[True, False]] * 5),
    }
    tags, thresholds = ("mood/theme---calm", "mood/theme---sad"), np.array([0.1 + 0.2, np.inf])
    paths = evaluate.save_mediaeval(tmp_path / "new", arrays, tags, thresholds)
    assert [path.name for path in paths] == ["predictions.npy", "decisions.npy", "thresholds.txt"]
    np.testing.assert_array_equal(evaluate.read_array(paths[0]), arrays["predictions"])
    np.testing.assert_array_equal(evaluate.read_bools(paths[1]), arrays["decisions"])
    names, values = evaluate.read_thresholds(paths[2])
    assert names == tags
    assert values.tolist() == thresholds.tolist()
    assert paths[2].read_text() == "mood/theme---calm\t0.30000000000000004\nmood/theme---sad\tinf\n"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"a table of numbers \(tracks, tags\) is needed, not float64 \(3,\)"),
        (np.array([["a", "b"]]), "a table of numbers"),
        (np.array([[None]], dtype=object), "cannot be read as a .npy file"),
        (np.array([[0, 2]]), "only zeros and ones"),
        (np.array([[0, math.nan]]), "only zeros and ones"),
    ],
)
def test_an_array_that_is_no_table_of_numbers_or_of_booleans_is_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=rf"x\.npy: {message}"):
        evaluate.read_bools(tmp_path / "x.npy")


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_zeros_and_ones_of_any_type_are_booleans(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.array([[0, 1, 1], [1, 0, 0]], dtype))
    read = evaluate.read_bools(tmp_path / "x.npy")
    assert read.dtype == np.bool_
    assert read.tolist() == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize("content", ["happy\thigh\n", "happy\n", "happy\t0.5\t0.6\n"])
def test_other_thresholds_are_refused(tmp_path, content):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(DataError, match=r"t\.txt: each line must be a tag, a tab and a number"):
        evaluate.read_thresholds(tmp_path / "t.txt")
