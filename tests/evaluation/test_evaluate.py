import base64
import json
import os
import re
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from toy_evaluations import (
    NEVER_GIVEN,
    NO_POSITIVES,
    Page,
    make_class_evaluation,
    make_evaluation,
    make_value_evaluation,
)
from toy_examples import SPEC, TASK, make_examples

from jamendo_mood.cli.shared import SHOWN
from jamendo_mood.evaluation import evaluate
from jamendo_mood.tasks import KINDS, kind, metrics, tags
from jamendo_mood.tasks.tags import reaches_threshold
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.util.errors import DataError, StoreError

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
        truth, predictions, TAGS, decisions=reaches_threshold(predictions, thresholds), thresholds=thresholds
    )


def test_official_names_are_at_the_top_of_the_json(scores, truth, predictions):
    values = scores.to_json()
    assert set(values) == OFFICIAL | DECIDED | {"prior-macro", "examples", "per_target"}
    assert values["examples"] == 40
    expected = tags.score_tags(truth, predictions, None)
    assert {name: values[name] for name in expected} == expected
    undecided = evaluate.score_predictions(truth, predictions, TAGS).to_json()
    assert set(undecided) == OFFICIAL | {"prior-macro", "examples", "per_target"}


def test_the_json_is_unrounded_and_knows_no_nan_and_is_saved_beside_a_table(scores, tmp_path):
    scores.save(tmp_path / "new" / "report")
    text = (tmp_path / "new" / "report" / "scores.json").read_text()
    values = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert values == scores.to_json()
    json.dumps(values, allow_nan=False)
    assert values["PR-AUC-macro"] != round(values["PR-AUC-macro"], 6)
    rows = {row["tag"]: row for row in values["per_target"]}
    assert list(rows) == list(TAGS)
    for tag in ("never", "always"):
        assert rows[tag]["PR-AUC"] is None
        assert rows[tag]["ROC-AUC"] is None
    assert rows["never"]["threshold"] is None
    lines = (tmp_path / "new" / "report" / "per_target.csv").read_text().splitlines()
    assert lines[0] == "tag,positives,prior,PR-AUC,ROC-AUC,precision,recall,F-score,threshold"
    assert isinstance(rows["calm"]["positives"], int)
    table = scores.table()
    assert [line.split(",")[0] for line in lines[1:]] == table["tag"].tolist()
    assert table["PR-AUC"].isna().tolist() == [False, False, True, True]
    assert table["PR-AUC"][0] >= table["PR-AUC"][1]


def test_as_many_names_as_columns_are_needed(truth, predictions):
    with pytest.raises(DataError, match="3 names of tags for 4 columns"):
        evaluate.score_predictions(truth, predictions, TAGS[:3])


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


@pytest.fixture(scope="module")
def evaluated(tagger, test_part):
    return evaluate.evaluate(tagger, test_part, rounds=200)


def test_a_tagger_is_judged_by_its_own_scores_and_thresholds(tagger, test_part, evaluated):
    truth, predictions = test_part.Y > 0, tagger.score(test_part.frames)
    decided = tagger.decide(predictions)
    expected = {**tags.score_tags(truth, predictions, decided), **kind.score_calibration(truth, predictions)}
    assert evaluated.metrics == expected
    assert {"ECE", "ECE-luck", "Brier-skill-macro"} < evaluated.metrics.keys()
    rows = tags.tag_rows(truth, predictions, decided, tagger.thresholds)
    for name, values in {"tag": np.array(TASK.targets), **rows}.items():
        assert [row[name] for row in evaluated.per_target] == values.tolist()
    assert evaluated.examples == 50
    arrays = {"predictions": predictions, "truth": truth, "decisions": decided}
    assert all(np.array_equal(getattr(evaluated, name), array) for name, array in arrays.items())
    json.dumps(evaluated.to_json(), allow_nan=False)


def test_a_row_of_a_tagger_says_how_far_to_trust_its_tag(test_part, evaluated):
    truth, scores = test_part.Y > 0, evaluated.predictions
    grades, skills = metrics.grade_tags(truth, scores), metrics.brier_skill(truth, scores)
    for column, row in enumerate(evaluated.per_target):
        artists = {track.artist for track, has in zip(test_part.tracks, truth[:, column], strict=True) if has}
        assert row["artists"] == len(artists) <= 10
        assert (row["grade"], row["Brier-skill"]) == (grades[column], skills[column])
        assert row["PR-AUC-low"] < row["PR-AUC"] <= row["PR-AUC-high"]
        assert row["ECE-all"] == kind.bin_scores(truth[:, [column]], scores[:, [column]]).error


def test_every_headline_figure_but_the_prior_and_luck_has_an_interval(tagger, test_part, evaluated):
    assert evaluated.intervals.keys() == evaluated.metrics.keys() - {"prior-macro", "ECE-luck"}
    for name, (low, high) in evaluated.intervals.items():
        assert low <= evaluated.metrics[name] <= high, name
    assert evaluate.evaluate(tagger, test_part, rounds=0).intervals == {}


def test_a_tag_that_the_part_lacks_has_no_figures(tagger, test_part):
    truth = test_part.Y.copy()
    truth[:, 1] = 0
    row = evaluate.evaluate(tagger, replace(test_part, Y=truth), rounds=20).per_target[1]
    assert (row["PR-AUC"], row["PR-AUC-low"], row["Brier-skill"], row["artists"]) == (None, None, None, 0)
    assert row["grade"] == "unknown"
    with pytest.raises(DataError, match="no tag among 3 has both positives and negatives in 50 examples"):
        evaluate.evaluate(tagger, replace(test_part, Y=truth * 0))


def test_an_evaluation_of_moments_knows_their_songs_and_times():
    found, still = make_value_evaluation(rows=12, songs=4, rounds=0), make_value_evaluation(rows=12, rounds=0)
    assert found.songs == tuple(f"{song:02d}/{song}" for song in range(4) for _ in range(3))
    assert found.times_s.tolist() == [15, 15.5, 16] * 4
    assert "Kendall" in found.metrics
    assert not {"songs", "times_s"} & found.to_json().keys()
    assert (still.songs, still.times_s) == ((), None)
    assert "Kendall" not in still.metrics


FACTS = {"task": "toy", "data": "/data/a & b"}


@pytest.fixture
def page_of(monkeypatch, tmp_path):
    """The page of an evaluation without its pictures, which take a second to be drawn: what is said is the same."""
    monkeypatch.setattr(evaluate, "_image", lambda picture, text: f'<img alt="{escape(text)}">')

    def make(evaluation, title="Toys", facts=FACTS):
        return Page(evaluate.save_report(evaluation, tmp_path, title=title, facts=facts).read_text(encoding="utf-8"))

    return make


@pytest.fixture(scope="module")
def seven():
    return make_evaluation(7)


@pytest.fixture(scope="module")
def one():
    return make_evaluation(1)


@pytest.fixture(scope="module")
def text(seven, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "new" / "folder"
    path = evaluate.save_report(seven, folder, title="Toys & <Tags>", facts=FACTS)
    assert path == folder / "report.html"
    assert [entry.name for entry in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_a_page_is_whole_and_needs_no_network_and_no_script(text):
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object"} & set(page.names)
    markup = re.sub(r'src="data:image/png;base64,[^"]*"', "", text)
    assert not re.search(r"https?:|url\(|@import|src=|href=|\son\w+=", markup)
    assert all(part in text for part in ("prefers-color-scheme: dark", "@media print", 'name="viewport"'))
    assert page.texts.count("Toys & <Tags>") == 2  # in the head, and at the top
    assert {"task", "toy", "data", "/data/a & b"} <= {*page.texts}


def test_every_figure_is_in_the_page(text):
    images = Page(text).images
    assert len(images) == 6
    for image in images:
        kind, _, data = image["src"].partition(",")
        png = base64.b64decode(data, validate=True)
        assert kind == "data:image/png;base64"
        assert png.startswith(b"\x89PNG")
        assert b"Software" not in png  # nothing that changes with a version of matplotlib's
        assert image["alt"]
        across, down = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
        assert int(image["width"]) / int(image["height"]) == pytest.approx(across / down, rel=0.02)
        assert 300 < int(image["width"]) < 1200


LEFT_OUT = ("1 without a PR-AUC", "the worst, and some between", "Of 61 tags, the 60 most frequent")


@pytest.mark.parametrize(
    ("count", "said"), [(1, ()), (7, LEFT_OUT[:2]), pytest.param(61, LEFT_OUT, marks=pytest.mark.thorough)]
)
def test_what_a_page_leaves_out_is_said(count, said, page_of):
    page = page_of(make_evaluation(count))
    assert tuple(part for part in LEFT_OUT if part in " ".join(page.texts)) == said
    assert len(page.images) == (6 if count > 1 else 4)


def test_nothing_that_is_said_of_a_tag_is_taken_for_html(page_of):
    evil = '<script>alert("&amp;")</script><img src=x onerror=alert(2)>" onmouseover=\'alert(1)\' x="'
    page = page_of(make_evaluation(3, names=(evil, "b", "c")), evil, {evil: evil})
    assert "script" not in page.names
    assert page.handlers == []
    assert evil in [row[0] for row in page.tables[1]]
    assert page.texts.count(evil) == 5


def test_headline_figures_with_their_intervals_and_what_they_are(seven, text):
    header, *rows = Page(text).tables[0]
    assert header == ["metric", "value", "what it is"]
    assert [row[0] for row in rows] == [*seven.metrics]
    by_name = {row[0]: row[1:] for row in rows}
    low, high = seven.intervals["PR-AUC-macro"]
    assert by_name["PR-AUC-macro"][0] == f"{seven.metrics['PR-AUC-macro']:.4f} [{low:.4f}, {high:.4f}]"
    assert by_name["prior-macro"][0] == f"{seven.metrics['prior-macro']:.4f}"
    assert {name: meaning for name, (_, meaning) in by_name.items()} == KINDS["tags"].meanings


def test_a_figure_that_nobody_explained_is_shown_and_a_column_that_nobody_knows_comes_last(one, page_of):
    odd = replace(one, metrics={"<odd>": 0.5}, per_target=tuple({"<new>": 1, **row} for row in one.per_target))
    (_, row), (header, first, *_) = page_of(odd).tables
    assert row == ["<odd>", "0.5000", ""]
    assert header[-1] == "<new>"
    assert first[-1] == "1"


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
    assert (undefined["PR-AUC"], undefined["positives"]) == ("-", "0")
    by_tag = {row[0]: row for row in rows}
    assert by_tag[f"tag {NEVER_GIVEN}"][header.index("threshold")] == "-"  # infinite


def test_without_intervals_nothing_is_in_brackets(page_of):
    page = page_of(make_evaluation(3, rounds=0))
    assert not any("[" in row[1] for row in page.tables[0])
    assert "PR-AUC-low" not in page.tables[1][0]
    assert "other artists" not in " ".join(page.texts)


@pytest.mark.thorough
def test_the_same_evaluation_gives_the_same_file(seven, text, tmp_path):
    again = evaluate.save_report(seven, tmp_path, title="Toys & <Tags>", facts=FACTS)
    assert again.read_bytes() == text.encode()


def test_names_that_are_no_unicode_are_written_as_far_as_they_can_be_and_a_folder_in_the_way_is_named(
    one, page_of, tmp_path
):
    assert "m?ods" in page_of(one, facts={"tagger": os.fsdecode(b"m\xffods")}).texts
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        evaluate.save_report(one, tmp_path / "file", title="t", facts={})


def make_songs():
    return make_value_evaluation(rows=240, songs=8)


def make_classes():
    return make_class_evaluation(4, names=("Q1", "<b>Q2</b>", "Q3", "Q4"))


SECTIONS = {
    make_classes: ["Which classes are taken for which", "Which classes does it recognise?", "Are scores calibrated?"],
    make_value_evaluation: ["Predicted against true", "Where it errs"],
    make_songs: ["Predicted against true", "Where it errs", "Songs over time", "How many songs are followed how well"],
}


@pytest.mark.parametrize("make", SECTIONS)
def test_a_page_of_classes_and_values_has_its_own_pictures_and_table(make, page_of):
    evaluation = make()
    rules, page = KINDS[evaluation.kind], page_of(evaluation)
    words = " ".join(page.texts)
    assert [image["alt"] for image in page.images] == SECTIONS[make]
    assert f"how far can its {rules.plural} be relied on" in words
    assert f"The best {rules.ranked_by} first" in words
    assert ("240 moments of 8 songs" if make is make_songs else "200 tracks") in words
    assert not re.search(r"\btags?\b|threshold", words.lower())
    header, *rows = page.tables[1]
    assert header[0] == rules.target
    figures = [float(row[header.index(rules.ranked_by)]) for row in rows]
    assert figures == sorted(figures, reverse=True)
    assert {row[0] for row in rows} == {row[rules.target] for row in evaluation.per_target}
    for figure, value, meaning in page.tables[0][1:]:
        assert float(value.partition(" ")[0]) == pytest.approx(evaluation.metrics[figure], abs=5e-5)
        assert meaning
    for grade, meaning in rules.grades.items():
        assert f"{sum(row['grade'] == grade for row in evaluation.per_target)} {grade}" in words
        assert meaning in words


@pytest.mark.parametrize("make", [lambda: make_evaluation(7), make_classes, make_songs], ids=KINDS)
def test_an_evaluation_of_each_kind_has_sections_and_words_for_every_figure_and_column(make):
    evaluation = make()
    rules = KINDS[evaluation.kind]
    for _, pictures, caption in rules.sections(evaluation):
        assert pictures
        assert all(hasattr(picture, "to_png") for picture in pictures)
        assert all(len(text) > 20 for text in caption)
    assert evaluation.metrics.keys() == rules.meanings.keys()
    assert {name for row in evaluation.per_target for name in row} <= rules.column_meanings.keys()
    assert all(len(text) > 20 for text in rules.meanings.values())
    assert list(rules.column_meanings)[:2] == [rules.target, "grade"]  # a table begins with names and grades
    assert {rules.target, rules.ranked_by} <= {*SHOWN}


def test_only_moments_of_songs_that_change_have_a_course():
    songs = make_songs()
    still = replace(songs, truth=songs.truth.mean(axis=0, keepdims=True).repeat(len(songs.truth), axis=0))
    tracks = replace(songs, songs=(), times_s=None)
    for evaluation, what in ((still, "is a moment of a song"), (tracks, "is a track")):
        (_, _, caption), *others = KINDS["values"].sections(evaluation)
        assert what in caption[0]
        assert [heading for heading, _, _ in others] == ["Where it errs"]
