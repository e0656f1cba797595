from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau
from toy_evaluations import make_value_evaluation

from jamendo_mood.evaluation import value_plots
from jamendo_mood.util.errors import UsageError

pytestmark = pytest.mark.usefixtures("no_pyplot")

FIGURES = (value_plots.plot_scatter, value_plots.plot_residuals)
OF_SONGS = (value_plots.plot_courses, value_plots.plot_taus)


@pytest.fixture(scope="module")
def tracks():
    return make_value_evaluation()


@pytest.fixture(scope="module")
def songs():
    return make_value_evaluation(rows=400, songs=10)


def dots(axes):
    (line,) = [line for line in axes.lines if line.get_marker() == "o" and line.get_linestyle() == "None"]
    return line.get_data()


@pytest.mark.parametrize("plot", FIGURES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_value_and_several_are_drawn(plot, count, tmp_path):
    names = ("Cash $^_{$", "a" * 200, "_hidden")[:count]
    picture = plot(make_value_evaluation(count, names=names, rounds=0))
    assert hasattr(picture, "to_png")
    assert len(picture.axes) == count
    picture.savefig(tmp_path / "picture.png", bbox_inches="tight")  # a warning would be an error


@pytest.mark.parametrize("plot", OF_SONGS)
def test_songs_are_drawn(plot, songs, tmp_path):
    plot(songs).savefig(tmp_path / "picture.png", bbox_inches="tight")


def test_true_values_lie_across_and_predicted_ones_up_with_the_line_where_both_are_equal(tracks):
    for column, axes in enumerate(value_plots.plot_scatter(tracks).axes):
        across, up = dots(axes)
        np.testing.assert_array_equal(across, tracks.truth[:, column])
        np.testing.assert_array_equal(up, tracks.predictions[:, column])
        line = axes.lines[0]
        np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
        assert axes.get_xlim() == axes.get_ylim()
        row = tracks.per_target[column]
        assert axes.get_title() == f"{row['value']}: CCC {row['CCC']:.2f}, R² {row['R2']:.2f}"
        assert axes.get_xlim()[0] < min(across.min(), up.min()) < max(across.max(), up.max()) < axes.get_xlim()[1]


def test_a_value_that_does_not_vary_is_said_to(tracks):
    rows = ({**tracks.per_target[0], "CCC": None, "R2": None}, tracks.per_target[1])
    first, _ = value_plots.plot_scatter(replace(tracks, per_target=rows)).axes
    assert first.get_title() == "valence: it does not vary"


def test_errors_are_predicted_less_true_with_their_mean_in_groups(tracks):
    axes = value_plots.plot_residuals(tracks).axes[0]
    truth, predicted = tracks.truth[:, 0], tracks.predictions[:, 0]
    across, errors = dots(axes)
    np.testing.assert_array_equal(across, truth)
    np.testing.assert_array_equal(errors, predicted - truth)
    (means,) = [line for line in axes.lines if line.get_label().startswith("mean")]
    lowest = np.argsort(truth, kind="stable")[:25]
    assert len(means.get_xdata()) == 8
    assert means.get_ydata()[0] == pytest.approx((predicted - truth)[lowest].mean())
    assert means.get_ydata()[0] > 0 > means.get_ydata()[-1]  # as the toy was made: it keeps to the middle


def tau_of(evaluation, song):
    rows = np.array(evaluation.songs) == song
    pairs = zip(evaluation.truth[rows].T, evaluation.predictions[rows].T, strict=True)
    return np.mean([kendalltau(*pair).statistic for pair in pairs])


def test_songs_are_chosen_from_the_best_to_the_worst_without_those_that_never_change(songs):
    changing = [song for song in dict.fromkeys(songs.songs) if song != songs.songs[0]]
    ranked = sorted(changing, key=lambda song: tau_of(songs, song), reverse=True)
    assert len(ranked) == 9
    assert value_plots.choose_songs(songs, 9) == tuple(ranked)
    assert value_plots.choose_songs(songs, 3) == (ranked[0], ranked[4], ranked[8])
    assert value_plots.choose_songs(songs, 50) == tuple(ranked)


def test_a_song_is_drawn_as_it_was_rated_and_as_it_is_predicted_in_the_order_of_time(songs):
    order = np.random.default_rng(0).permutation(len(songs.songs))  # moments may come in any order
    mixed = replace(
        songs,
        truth=songs.truth[order],
        predictions=songs.predictions[order],
        times_s=songs.times_s[order],
        songs=tuple(songs.songs[row] for row in order),
    )
    song = value_plots.choose_songs(songs)[0]
    rows = np.array(songs.songs) == song
    picture = value_plots.plot_courses(mixed, [song])
    for column, axes in enumerate(picture.axes):
        true, predicted = axes.lines
        np.testing.assert_array_equal(true.get_xdata(), songs.times_s[rows])
        np.testing.assert_array_equal(true.get_ydata(), songs.truth[rows, column])
        np.testing.assert_array_equal(predicted.get_ydata(), songs.predictions[rows, column])
        assert songs.per_target[column]["value"] in axes.get_xlabel()
        tau = kendalltau(songs.truth[rows, column], songs.predictions[rows, column]).statistic
        assert axes.get_title(loc="left") == f"{song}: tau {tau:.2f}"


def test_what_has_no_course_is_refused(tracks, songs):
    with pytest.raises(UsageError, match="no courses to draw"):
        value_plots.plot_courses(tracks)
    with pytest.raises(UsageError, match="no song 'nosuch'"):
        value_plots.plot_courses(songs, ["nosuch"])


def test_the_histogram_counts_each_song_that_changes(songs):
    for axes in value_plots.plot_taus(songs).axes:
        assert sum(bar.get_height() for bar in axes.patches) == 9
