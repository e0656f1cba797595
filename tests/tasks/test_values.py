import numpy as np
import pytest
from scipy.stats import kendalltau
from toy_evaluations import make_value_evaluation

from jamendo_mood.tasks import values
from jamendo_mood.util.errors import DataError

RNG = np.random.default_rng(4)
TRUTH = RNG.uniform(1, 9, (200, 3)).astype(np.float32)
PREDICTIONS = (0.6 * TRUTH + RNG.standard_normal((200, 3)) + 2).astype(np.float32)
CONSTANT = np.full((200, 3), 4, np.float32)


def test_a_constant_prediction_has_no_correlation_and_a_constant_truth_no_figure():
    figures = values.score_values(TRUTH, CONSTANT)
    assert (figures["Pearson"], figures["CCC"]) == (0, 0)
    half = np.concatenate([TRUTH[:, :1], CONSTANT[:, 1:]], axis=1)
    rows = values.value_rows(half, PREDICTIONS)
    for name in ("R2", "Pearson", "CCC"):
        assert np.isfinite(rows[name]).tolist() == [True, False, False]
    alone = values.score_values(TRUTH[:, :1], PREDICTIONS[:, :1])
    assert values.score_values(half, PREDICTIONS)["R2"] == pytest.approx(alone["R2"])  # the mean leaves them out
    assert values.grade_values(half, PREDICTIONS)[1:] == ("unknown", "unknown")


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
        values.score_values(truth, predictions)


def test_kendalls_tau_is_of_each_song_by_itself_in_whatever_order_songs_come():
    songs = np.array(["a"] * 10 + ["b"] * 15 + ["a"] * 5)
    truth, predictions = TRUTH[:30, :1], PREDICTIONS[:30, :1]
    expected = [kendalltau(truth[songs == song, 0], predictions[songs == song, 0])[0] for song in "ab"]
    figures = values.score_curves(truth, predictions, songs.tolist())
    assert figures["Kendall"] == pytest.approx(np.mean(expected))
    assert figures["Kendall-sd"] == pytest.approx(np.std(expected))
    assert figures["constant-curves"] == 0


def test_songs_with_a_constant_curve_are_defined():
    songs = ["a"] * 10 + ["b"] * 10
    truth = np.concatenate([np.full((10, 1), 5), np.arange(10)[:, None]]).astype(float)
    figures = values.score_curves(truth, np.tile(np.arange(10.0), 2)[:, None], songs)
    assert figures == {"Kendall": pytest.approx(1), "Kendall-sd": 0, "constant-curves": 1}
    assert values.score_curves(truth, np.zeros((20, 1)), songs)["Kendall"] == 0  # follows no course
    assert values.score_curves(np.ones((20, 1)), truth, songs) == {"constant-curves": 2}


def test_values_are_graded_by_their_concordance():
    noisy = TRUTH + RNG.standard_normal(TRUTH.shape) * [0.5, 3.5, 30]
    assert values.grade_values(TRUTH, noisy) == ("good", "fair", "weak")
    assert values.grade_values(TRUTH[:4], noisy[:4]) == ("unknown",) * 3


pytestmark = pytest.mark.usefixtures("no_pyplot")


@pytest.fixture(scope="module")
def tracks():
    return make_value_evaluation()


@pytest.fixture(scope="module")
def songs():
    return make_value_evaluation(rows=400, songs=10)


def dots(axes):
    (line,) = [line for line in axes.lines if line.get_marker() == "o" and line.get_linestyle() == "None"]
    return line.get_data()


def test_true_values_lie_across_and_predicted_ones_up_with_the_line_where_both_are_equal(tracks):
    for column, axes in enumerate(values.plot_scatter(tracks).axes):
        across, up = dots(axes)
        np.testing.assert_array_equal(across, tracks.truth[:, column])
        np.testing.assert_array_equal(up, tracks.predictions[:, column])
        line = axes.lines[0]
        np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
        assert axes.get_xlim() == axes.get_ylim()
        row = tracks.per_target[column]
        assert axes.get_title() == f"{row['value']}: CCC {row['CCC']:.2f}, R² {row['R2']:.2f}"
        assert axes.get_xlim()[0] < min(across.min(), up.min()) < max(across.max(), up.max()) < axes.get_xlim()[1]


def test_errors_are_predicted_less_true_with_their_mean_in_groups(tracks):
    axes = values.plot_residuals(tracks).axes[0]
    truth, predicted = tracks.truth[:, 0], tracks.predictions[:, 0]
    across, errors = dots(axes)
    np.testing.assert_array_equal(across, truth)
    np.testing.assert_array_equal(errors, predicted - truth)
    (means,) = [line for line in axes.lines if line.get_label().startswith("mean")]
    lowest = np.argsort(truth, kind="stable")[:25]
    assert len(means.get_xdata()) == 8
    assert means.get_ydata()[0] == pytest.approx((predicted - truth)[lowest].mean())
    assert means.get_ydata()[0] > 0 > means.get_ydata()[-1]  # as the toy was made: it keeps to the middle


def test_songs_are_chosen_from_the_best_to_the_worst_without_those_that_never_change(songs):
    taus = values.rank_correlations(songs.truth, songs.predictions, songs.songs)
    ranked = sorted((song for song in taus if song != songs.songs[0]), key=lambda song: -taus[song].mean())
    assert len(ranked) == 9
    assert values.choose_songs(songs, 9) == values.choose_songs(songs, 50) == ranked
    assert values.choose_songs(songs, 3) == [ranked[0], ranked[4], ranked[8]]


def test_a_song_is_drawn_as_it_was_rated_and_as_it_is_predicted(songs):
    song, count = values.choose_songs(songs)[0], len(songs.per_target)
    rows = np.array(songs.songs) == song
    for column, axes in enumerate(values.plot_courses(songs).axes[:count]):
        true, predicted = axes.lines
        np.testing.assert_array_equal(true.get_xdata(), songs.times_s[rows])
        np.testing.assert_array_equal(true.get_ydata(), songs.truth[rows, column])
        np.testing.assert_array_equal(predicted.get_ydata(), songs.predictions[rows, column])
        tau = kendalltau(songs.truth[rows, column], songs.predictions[rows, column]).statistic
        assert axes.get_title(loc="left") == f"{song}: tau {tau:.2f}"


def test_songs_are_counted_by_their_tau(songs):
    for axes in values.plot_taus(songs).axes:
        assert sum(bar.get_height() for bar in axes.patches) == 9
