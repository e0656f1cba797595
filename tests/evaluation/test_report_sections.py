from dataclasses import replace

import pytest
from toy_evaluations import make_class_evaluation, make_evaluation, make_value_evaluation

from jamendo_mood.evaluation import report
from jamendo_mood.tasks.kinds import KINDS

MADE = {
    "tags": lambda: make_evaluation(3),
    "classes": lambda: make_class_evaluation(3),
    "values": lambda: make_value_evaluation(rows=120, songs=6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_of_each_kind_has_sections_with_pictures_and_captions(kind):
    sections = list(report.make_sections(MADE[kind]()))
    headings = [section.heading for section in sections]
    assert len(headings) == len(set(headings)) > 2
    for section in sections:
        assert all(hasattr(picture, "to_png") for picture in section.pictures)
        assert section.pictures
        assert all(len(text) > 20 for text in section.caption)


def test_only_moments_have_songs_over_time():
    songs = make_value_evaluation(rows=120, songs=6)
    assert "Songs over time" in [section.heading for section in report.make_sections(songs)]
    tracks = replace(songs, songs=(), times_s=None)
    assert "Songs over time" not in [section.heading for section in report.make_sections(tracks)]
    assert "is a track" in next(report.make_sections(tracks)).caption[0]
    assert "is a moment of a song" in next(report.make_sections(songs)).caption[0]
