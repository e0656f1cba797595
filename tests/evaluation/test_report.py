import base64
import os
import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import pytest
from toy_evaluations import (
    NEVER_GIVEN,
    NO_POSITIVES,
    make_class_evaluation,
    make_evaluation,
    make_value_evaluation,
)

from jamendo_mood.cli.shared import SHOWN
from jamendo_mood.evaluation import report
from jamendo_mood.tasks import kind
from jamendo_mood.tasks.task import KINDS
from jamendo_mood.util.errors import StoreError

VOID = {"meta", "img"}
FACTS = {"task": "toy", "data": "/data/a & b"}


class Page(HTMLParser):
    """What is in a page: its elements, its images, its tables as rows of text; every element must be closed."""

    def __init__(self, text):
        super().__init__()
        self.names, self.images, self.tables, self.open, self.texts = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        if name == "img":
            self.images.append(dict(attributes))
        if name not in VOID:
            self.open.append(name)
        if name == "table":
            self.tables.append([])
        elif name == "tr":
            self.tables[-1].append([])
        elif name in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        self.texts.append(text)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += text


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures take a second a page to be drawn; what is said beside them is the same without."""
    monkeypatch.setattr(report, "_image", lambda picture, text: f'<img alt="{escape(text)}">')


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def seven():
    return make_evaluation(7)


@pytest.fixture(scope="module")
def one():
    return make_evaluation(1)


@pytest.fixture(scope="module")
def text(seven, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "new" / "folder"
    path = report.save_report(seven, folder, title="Toys & <Tags>", facts=FACTS)
    assert path == folder / "report.html"
    assert [entry.name for entry in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_a_page_is_whole_and_needs_no_network_and_no_script(text):
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object"} & set(page.names)
    markup = re.sub(r'src="data:image/png;base64,[^"]*"', "", text)
    assert not re.search(r"https?:|url\(|@import|src=|href=|\son\w+=", markup)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


LEFT_OUT = ("1 without a PR-AUC", "the worst, and some between", "Of 61 tags, the 60 most frequent")


@pytest.mark.parametrize(
    ("count", "images", "said"),
    [
        pytest.param(1, 4, (), marks=pytest.mark.thorough),
        (7, 6, LEFT_OUT[:2]),
        pytest.param(61, 6, LEFT_OUT, marks=pytest.mark.thorough),
    ],
)
def test_every_figure_is_in_the_page_and_what_it_leaves_out_is_said(count, images, said, text, tmp_path):
    if count != 7:  # which `text` is of
        text = report.save_report(make_evaluation(count), tmp_path, title="Toys", facts={}).read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.texts)
    assert tuple(part for part in LEFT_OUT if part in words) == said
    assert len(page.images) == images
    for image in page.images:
        kind, _, data = image["src"].partition(",")
        png = base64.b64decode(data, validate=True)
        assert kind == "data:image/png;base64"
        assert png.startswith(b"\x89PNG")
        assert b"Software" not in png  # nothing that changes with a version of matplotlib's
        assert image["alt"]
        across, down = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
        assert int(image["width"]) / int(image["height"]) == pytest.approx(across / down, rel=0.02)
        assert 300 < int(image["width"]) < 1200


def test_title_and_facts_are_there_as_text(text):
    page = Page(text)
    assert page.texts.count("Toys & <Tags>") == 2  # in the head, and at the top
    for fact in ("task", "toy", "data", "/data/a & b"):
        assert fact in page.texts
    assert "200 tracks" in " ".join(page.texts)


def test_nothing_that_is_said_of_a_tag_is_taken_for_html(undrawn, tmp_path):
    evil = '<script>alert("&amp;")</script>'
    evaluation = make_evaluation(3, names=(evil, "b", "c"))
    path = report.save_report(evaluation, tmp_path, title=evil, facts={evil: evil})
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.names
    assert "<script" not in text
    assert evil in [row[0] for row in page.tables[1]]
    assert page.texts.count(evil) == 5


def test_headline_figures_with_their_intervals_and_what_they_are(seven, text):
    header, *rows = Page(text).tables[0]
    assert header == ["figure", "value", "what it is"]
    assert [row[0] for row in rows] == [*seven.figures]
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["PR-AUC-macro"][0] == f"{seven.figures['PR-AUC-macro']:.4f} [0.2500, 0.7500]"
    assert by_name["hit@3"][0] == f"{seven.figures['hit@3']:.4f}"
    for name, (_, meaning) in by_name.items():
        assert meaning == KINDS["tags"].report.figures[name]
        assert len(meaning) > 20


def test_a_figure_that_nobody_explained_is_shown_without(one, undrawn, tmp_path):
    odd = replace(one, figures={"<odd>": 0.5})
    (_, row) = read(report.save_report(odd, tmp_path, title="", facts={})).tables[0]
    assert row == ["<odd>", "0.5000", ""]


def test_the_table_has_every_tag_and_every_column_best_first(seven, text):
    header, *rows = Page(text).tables[1]
    assert set(header) == {name for row in seven.per_target for name in row}
    assert header[:2] == ["tag", "grade"]
    last = seven.per_target[NO_POSITIVES]
    ranked = sorted((row for row in seven.per_target if row is not last), key=lambda row: row["PR-AUC"], reverse=True)
    assert [row[0] for row in rows] == [row["tag"] for row in [*ranked, last]]
    for cells, row in zip(rows, [*ranked, last], strict=True):
        for name, cell in zip(header, cells, strict=True):
            value = row[name]
            assert cell == ("-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value))
    undefined = dict(zip(header, rows[-1], strict=True))
    assert undefined["PR-AUC"] == undefined["PR-AUC-low"] == undefined["ROC-AUC"] == "-"
    assert undefined["positives"] == "0"
    by_tag = {row[0]: row for row in rows}
    assert by_tag[f"tag {NEVER_GIVEN}"][header.index("threshold")] == "-"  # infinite


def test_a_column_that_nobody_knows_comes_last(one, undrawn, tmp_path):
    more = replace(one, per_target=tuple({"<new>": 1, **row} for row in one.per_target))
    header, first, *_ = read(report.save_report(more, tmp_path, title="", facts={})).tables[1]
    assert header[-1] == "<new>"
    assert first[-1] == "1"


def test_grades_are_counted_and_explained(seven, text):
    words = " ".join(Page(text).texts)
    for grade in kind.GRADES:
        count = sum(row["grade"] == grade for row in seven.per_target)
        assert f"{count} {grade}" in words
        assert KINDS["tags"].card.grades[grade] in words


def test_without_intervals_nothing_is_in_brackets(undrawn, tmp_path):
    evaluation = make_evaluation(3, intervals=False)
    page = read(report.save_report(evaluation, tmp_path, title="", facts={}))
    assert not any("[" in row[1] for row in page.tables[0])
    assert "PR-AUC-low" not in page.tables[1][0]
    assert "other artists" not in " ".join(page.texts)


@pytest.mark.thorough
def test_the_same_evaluation_gives_the_same_file(seven, text, tmp_path):
    again = report.save_report(seven, tmp_path, title="Toys & <Tags>", facts=FACTS)
    assert again.read_bytes() == text.encode()


def test_names_of_files_that_are_no_unicode_are_written_as_far_as_they_can_be(one, undrawn, tmp_path):
    path = report.save_report(one, tmp_path, title="t", facts={"tagger": os.fsdecode(b"m\xffods")})
    assert "m?ods" in read(path).texts


def test_a_folder_that_cannot_be_made_is_named(one, undrawn, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        report.save_report(one, tmp_path / "file", title="t", facts={})


def make_songs():
    return make_value_evaluation(rows=240, songs=8)


def make_classes():
    return make_class_evaluation(4, names=("Q1", "<b>Q2</b>", "Q3", "Q4"))


@pytest.mark.parametrize(
    ("make", "headings"),
    [
        (
            make_classes,
            ["Which classes are taken for which", "Which classes can it tell?", "Can a score be taken at its word?"],
        ),
        (make_value_evaluation, ["Predicted against true", "Where it errs"]),
        (
            make_songs,
            ["Predicted against true", "Where it errs", "Songs over time", "How many songs are followed how well"],
        ),
    ],
)
def test_a_page_of_classes_and_values_has_its_own_pictures_and_table(make, headings, tmp_path):
    evaluation = make()
    rules = KINDS[evaluation.kind]
    page = read(report.save_report(evaluation, tmp_path, title="Toys", facts={}))
    words = " ".join(page.texts)
    assert [image["alt"] for image in page.images] == headings
    assert f"how far can its {rules.plural} be relied on" in words
    assert f"All {rules.plural}" in words
    assert f"The best {rules.ranked_by} first" in words
    assert not re.search(r"\btags?\b|threshold", words.lower())
    header, *rows = page.tables[1]
    assert header[0] == rules.target
    figures = [float(row[header.index(rules.ranked_by)]) for row in rows]
    assert figures == sorted(figures, reverse=True)
    assert {row[0] for row in rows} == {row[rules.target] for row in evaluation.per_target}
    for figure, value, meaning in page.tables[0][1:]:
        assert float(value.partition(" ")[0]) == pytest.approx(evaluation.figures[figure], abs=5e-5)
        assert meaning
    for grade, meaning in KINDS[evaluation.kind].card.grades.items():
        assert f"{sum(row['grade'] == grade for row in evaluation.per_target)} {grade}" in words
        assert meaning in words


def test_moments_are_told_from_tracks(undrawn, tmp_path):
    words = " ".join(read(report.save_report(make_songs(), tmp_path, title="", facts={})).texts)
    assert "240 moments of 8 songs" in words
    words = " ".join(read(report.save_report(make_value_evaluation(rows=50), tmp_path, title="", facts={})).texts)
    assert "50 tracks" in words


def test_songs_that_never_change_have_no_course(tmp_path):
    evaluation = make_songs()
    level = replace(
        evaluation, truth=evaluation.truth.mean(axis=0, keepdims=True).repeat(len(evaluation.truth), axis=0)
    )
    page = read(report.save_report(level, tmp_path, title="", facts={}))
    assert [image["alt"] for image in page.images] == ["Predicted against true", "Where it errs"]


MADE = {
    "tags": lambda: make_evaluation(3),
    "classes": lambda: make_class_evaluation(3),
    "values": lambda: make_value_evaluation(rows=120, songs=6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_of_each_kind_has_sections_with_pictures_and_captions(kind):
    sections = list(KINDS[kind].report.sections(MADE[kind]()))
    headings = [section.heading for section in sections]
    assert len(headings) == len(set(headings)) > 2
    for section in sections:
        assert all(hasattr(picture, "to_png") for picture in section.pictures)
        assert section.pictures
        assert all(len(text) > 20 for text in section.caption)


def test_only_moments_have_songs_over_time():
    songs = make_value_evaluation(rows=120, songs=6)
    assert "Songs over time" in [section.heading for section in KINDS["values"].report.sections(songs)]
    tracks = replace(songs, songs=(), times_s=None)
    assert "Songs over time" not in [section.heading for section in KINDS["values"].report.sections(tracks)]
    assert "is a track" in next(KINDS["values"].report.sections(tracks)).caption[0]
    assert "is a moment of a song" in next(KINDS["values"].report.sections(songs)).caption[0]


MADE_REPORT_WORDS = {
    "tags": lambda: make_evaluation(7),
    "classes": lambda: make_class_evaluation(4),
    "values": lambda: make_value_evaluation(rows=120, songs=8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_and_column_is_explained(kind):
    evaluation = MADE_REPORT_WORDS[kind]()
    assert evaluation.figures.keys() == KINDS[kind].report.figures.keys()
    assert {name for row in evaluation.per_target for name in row} <= KINDS[kind].report.columns.keys()
    assert all(len(text) > 20 for text in KINDS[kind].report.figures.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_begins_with_names_and_grades(kind):
    assert list(KINDS[kind].report.columns)[:2] == [KINDS[kind].target, "grade"]
    assert {KINDS[kind].target, KINDS[kind].ranked_by} <= {*SHOWN}
