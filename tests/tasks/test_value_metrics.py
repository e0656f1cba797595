import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr
from sklearn.metrics import r2_score, root_mean_squared_error

from jamendo_mood.tasks import value_metrics
from jamendo_mood.util.errors import DataError

RNG = np.random.default_rng(4)
TRUTH = RNG.uniform(1, 9, (200, 3)).astype(np.float32)
PREDICTIONS = (0.6 * TRUTH + RNG.standard_normal((200, 3)) + 2).astype(np.float32)
CONSTANT = np.full((200, 3), 4, np.float32)


def test_figures_are_those_of_scikit_learn_and_scipy():
    pairs = list(zip(TRUTH.T.astype(float), PREDICTIONS.T.astype(float), strict=True))
    np.testing.assert_allclose(value_metrics.r2(TRUTH, PREDICTIONS), [r2_score(*pair) for pair in pairs], rtol=1e-5)
    expected = [root_mean_squared_error(*pair) for pair in pairs]
    np.testing.assert_allclose(value_metrics.rmse(TRUTH, PREDICTIONS), expected, rtol=1e-5)
    np.testing.assert_allclose(value_metrics.pearson(TRUTH, PREDICTIONS), [pearsonr(*pair)[0] for pair in pairs])


def test_concordance_by_its_definition():
    for true, predicted, found in zip(TRUTH.T, PREDICTIONS.T, value_metrics.ccc(TRUTH, PREDICTIONS), strict=True):
        covariance = np.cov(true, predicted, bias=True)
        apart = (true.mean(dtype=float) - predicted.mean(dtype=float)) ** 2
        assert found == pytest.approx(2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + apart), rel=1e-5)


def test_a_perfect_prediction_scores_one_and_no_other_has_full_concordance():
    figures = value_metrics.score_values(TRUTH, TRUTH)
    assert figures == pytest.approx({"CCC": 1, "Pearson": 1, "R2": 1, "RMSE": 0})
    assert value_metrics.ccc(TRUTH, TRUTH + 1).max() < 1  # Pearson's does not see this
    assert value_metrics.score_values(TRUTH, TRUTH + 1)["Pearson"] == pytest.approx(1)


def test_a_constant_prediction_has_no_correlation_and_a_constant_truth_no_figure():
    figures = value_metrics.score_values(TRUTH, CONSTANT)
    assert (figures["Pearson"], figures["CCC"]) == (0, 0)
    half = np.concatenate([TRUTH[:, :1], CONSTANT[:, 1:]], axis=1)
    rows = value_metrics.value_rows(half, PREDICTIONS)
    for name in ("R2", "Pearson", "CCC"):
        assert np.isfinite(rows[name]).tolist() == [True, False, False]
    alone = value_metrics.score_values(TRUTH[:, :1], PREDICTIONS[:, :1])
    assert value_metrics.score_values(half, PREDICTIONS)["R2"] == pytest.approx(alone["R2"])  # the mean leaves them out
    assert value_metrics.grade_values(half, PREDICTIONS)[1:] == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("truth", "predictions", "message"),
    [
        (TRUTH, PREDICTIONS[:, :2], "the shape"),
        (TRUTH, PREDICTIONS * np.nan, "200 of 200 rows of the predictions hold NaN"),
        (CONSTANT, PREDICTIONS, "no target among 3 varies in 200 examples"),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, predictions, message):
    with pytest.raises(DataError, match=message):
        value_metrics.score_values(truth, predictions)


def test_kendalls_tau_is_of_each_song_by_itself_in_whatever_order_songs_come():
    songs = np.array(["a"] * 10 + ["b"] * 15 + ["a"] * 5)
    truth, predictions = TRUTH[:30, :1], PREDICTIONS[:30, :1]
    expected = [kendalltau(truth[songs == song, 0], predictions[songs == song, 0])[0] for song in "ab"]
    figures = value_metrics.score_curves(truth, predictions, songs.tolist())
    assert figures["Kendall"] == pytest.approx(np.mean(expected))
    assert figures["Kendall-sd"] == pytest.approx(np.std(expected))
    assert figures["constant-curves"] == 0


def test_songs_with_a_constant_curve_are_defined():
    songs = ["a"] * 10 + ["b"] * 10
    truth = np.concatenate([np.full((10, 1), 5), np.arange(10)[:, None]]).astype(float)
    figures = value_metrics.score_curves(truth, np.tile(np.arange(10.0), 2)[:, None], songs)
    assert figures == {"Kendall": pytest.approx(1), "Kendall-sd": 0, "constant-curves": 1}
    assert value_metrics.score_curves(truth, np.zeros((20, 1)), songs)["Kendall"] == 0  # follows no course
    assert value_metrics.score_curves(np.ones((20, 1)), truth, songs) == {"constant-curves": 2}


def test_values_are_graded_by_their_concordance():
    noisy = TRUTH + RNG.standard_normal(TRUTH.shape) * [0.5, 3.5, 30]
    assert value_metrics.grade_values(TRUTH, noisy) == ("good", "fair", "weak")
    assert value_metrics.grade_values(TRUTH[:4], noisy[:4]) == ("unknown",) * 3
