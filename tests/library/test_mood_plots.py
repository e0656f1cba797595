"""Curves of what was asked for."""

import datetime

import pytest

from jamendo_mood.library.mood_log import MAX_NAMES, Wish, plot_history

TIME = datetime.datetime(2026, 11, 21, 8, 30, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize("count", [1, 2, 60])
def test_curves_are_drawn(count, no_pyplot):
    wishes = [
        Wish(TIME + datetime.timedelta(hours=n), "joy", (n % 5) / 5, -(n % 7) / 7, "emotion") for n in range(count)
    ]
    figure = plot_history(wishes[::-1])
    (axes,) = figure.axes
    valence, arousal = (line for line in axes.lines if line.get_label() in ("valence", "arousal"))
    assert valence.get_ydata().tolist() == [wish.valence for wish in wishes]  # in the order of time
    assert arousal.get_ydata().tolist() == [wish.arousal for wish in wishes]
    assert 0 < len(axes.texts) <= min(count, MAX_NAMES + 1)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_ends_of_a_path_are_named_together():
    wishes = [Wish(TIME, "sadness", -0.8, -0.4, "emotion"), Wish(TIME, "joy", 0.8, 0.5, "to-emotion")]
    later = Wish(TIME + datetime.timedelta(days=1), "neutral", 0.0, 0.0, "emotion")
    (axes,) = plot_history([*wishes, later]).axes
    assert [text.get_text() for text in axes.texts] == ["sadness → joy", "neutral"]
