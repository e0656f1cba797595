import numpy as np
import pytest
from matplotlib import colors
from toy_examples import make_prediction

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.spectrograms import Spectrogram
from jamendo_mood.tagging import song_plots
from jamendo_mood.util import figures

pytestmark = pytest.mark.usefixtures("no_pyplot")


def bars(axes):
    """Length and colour of each bar, the topmost first, by its label."""
    labels = [label.get_text() for label in axes.get_yticklabels()]
    found = dict(zip(labels, axes.patches, strict=True))
    return {label: (bar.get_width(), colors.to_hex(bar.get_facecolor())) for label, bar in reversed(found.items())}


def test_tags_are_bars_dark_where_the_threshold_is_reached():
    figure = song_plots.plot_tags(make_prediction(), 3)
    (axes,) = figure.axes
    assert list(bars(axes)) == ["green", "red", "blue (weak)"]
    assert bars(axes) == {
        "green": (0.75, figures.DECIDED),
        "red": (pytest.approx(0.45), figures.DECIDED),
        "blue (weak)": (pytest.approx(0.3), figures.UNDECIDED),
    }
    assert [text.get_text() for text in axes.texts] == ["0.30", "0.45", "0.75"]
    assert axes.get_title() == "Blue & Green <live>"
    assert "score" in axes.get_xlabel()


def test_only_the_wanted_number_of_tags_is_drawn():
    assert list(bars(song_plots.plot_tags(make_prediction(), 1).axes[0])) == ["green"]


def test_a_track_without_a_title_is_drawn_too(tmp_path):
    figure = song_plots.plot_tags(make_prediction(title=None, artist=None))
    assert figure.axes[0].get_title() == ""
    figure.savefig(tmp_path / "tags.png")


def test_a_title_in_dollars_is_no_formula(tmp_path):
    figure = song_plots.plot_tags(make_prediction(title="Cash $^_{$"))
    figure.savefig(tmp_path / "tags.png")
    assert figure.axes[0].get_title() == "Cash $^_{$"


def test_the_timeline_is_a_heat_map_of_the_highest_tags():
    prediction = make_prediction()
    axes, colour_bar = song_plots.plot_timeline(prediction, 2).axes
    (image,) = axes.get_images()
    np.testing.assert_array_equal(image.get_array(), prediction.frame_scores[:, [1, 0]].T)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["green", "red"]
    assert image.get_extent()[:2] == [0.0, 61.5] or image.get_extent()[:2] == (0.0, 61.5)
    assert image.get_clim() == (0, 1)
    assert axes.get_xlabel() == "seconds"
    assert colour_bar.get_ylabel() == "score"


@pytest.mark.parametrize(("colour", "colours"), [(True, "magma"), (False, "gray")])
def test_a_spectrogram_has_seconds_and_hertz_and_low_notes_at_the_bottom(colour, colours, tmp_path):
    values = np.tile(np.linspace(-4, 4, 64, dtype=np.float32), (100, 1))  # the higher the louder
    figure = song_plots.plot_spectrogram(Spectrogram(values, 60.0, 2.98, 0.03), colour)
    axes, colour_bar = figure.axes
    (image,) = axes.get_images()
    np.testing.assert_array_equal(image.get_array(), values.T)
    assert image.origin == "lower"
    assert axes.get_ylim() == (-0.5, 63.5)
    assert tuple(image.get_extent())[:2] == (60.0, 63.0)
    assert axes.get_xlim() == (60.0, 62.98)  # the last column stands for less than 0.03 s
    assert image.get_cmap().name == colours
    assert image.get_clim() == (spectrograms.LOWEST_VALUE, spectrograms.HIGHEST_VALUE)
    marks = dict(zip((label.get_text() for label in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    assert marks["1,000"] == pytest.approx(spectrograms.band_of(1000))
    assert all(-0.5 < mark < 63.5 for mark in marks.values())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds", "Hz (mel scale)")
    assert colour_bar.get_ylabel() == "log(magnitude + 0.01)"
    figure.savefig(tmp_path / "spectrogram.png")


def test_a_figure_grows_with_its_rows():
    low, high = (song_plots.plot_tags(make_prediction(), count).get_size_inches()[1] for count in (1, 3))
    assert high - low == pytest.approx(2 * figures.ROW_HEIGHT)


def test_a_notebook_shows_a_picture_by_itself():
    assert song_plots.plot_tags(make_prediction(), 3)._repr_png_().startswith(b"\x89PNG")
