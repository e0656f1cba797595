"""Names, titles and tags of strangers on a terminal, in spreadsheets, playlists, Markdown, HTML and figures."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_evaluations import Page, make_evaluation
from toy_examples import SPEC, make_prediction, make_tagger

from jamendo_mood.app import songs
from jamendo_mood.cli import main, shared, tag
from jamendo_mood.datasets.dataset import Dataset, Track
from jamendo_mood.library import writing
from jamendo_mood.library.mood_log import Wish, now, to_csv, to_table
from jamendo_mood.library.overview import survey, write_page
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging import prediction
from jamendo_mood.tasks import Task
from jamendo_mood.training import model
from jamendo_mood.util import plaintext

UGLY = {
    "an escape": "a\x1b[2J\x1b]0;pwned\x07b",
    "an escape of the second block": "a\x9b2Jb",
    "a carriage return": "good\rbad",
    "lines": "a\n#EXTINF:1,x\nhttp://evil/",
    "other line ends": "a\x85b\u2028c\u2029d\x0b\x0ce",
    "text turned around": "a\u202egpj.exe\u2066",
    "no Unicode": b"caf\xe9".decode("utf-8", "surrogateescape"),
    "NUL": "a\0b",
    "a formula": "=HYPERLINK(\"http://evil/\")",
    "another formula": "@SUM(A1)",
    "a formula behind a tab": "\t=1+1",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "quotes of HTML": "\" onmouseover='alert(1)' x=\"",
    "Markdown": "[click](javascript:alert(1)) | `code` | **x**",
    "mathematics": "$\\frac{1}{$ and $x_{$",
    "half of mathematics": "\\$5 $",
}  # fmt: skip
CONTROLS = [chr(code) for code in (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E, 0x2066)]


@pytest.fixture(params=UGLY.values(), ids=UGLY.keys())
def ugly(request):
    return request.param


def unfit(text, but="\n"):
    """What of a text a terminal must not get."""
    return {letter for letter in text if (letter in CONTROLS and letter not in but) or "\ud800" <= letter <= "\udfff"}


def ugly_prediction(ugly):
    kept = make_prediction(title=ugly, artist=ugly)
    return replace(kept, source=f"songs/{ugly}.mp3", targets=(ugly, f"{ugly}2", "blue"))


def ugly_track(ugly, file=None):
    return Found(ugly, 0.5, file, ((ugly, 0.25),), ugly, ugly, 61.0)


def test_a_terminal_gets_no_control_characters(ugly):
    shown = plaintext.show(ugly)
    assert not unfit(shown, but="")
    assert plaintext.show(shown) == shown
    shown.encode()
    assert plaintext.show("Café del Mar - 東京 👩‍👧 (R&B) <3") == "Café del Mar - 東京 👩‍👧 (R&B) <3"


@pytest.mark.parametrize("form", ["table", "json", "csv"])
@pytest.mark.parametrize("timeline", [False, True])
def test_what_is_printed_of_a_song(ugly, capsys, form, timeline):
    tag.print_predictions([ugly_prediction(ugly)], form, 3, timeline=timeline)
    out = capsys.readouterr().out
    assert not unfit(out, but="\n\r\t" if form == "csv" else "\n")
    if form == "json":
        (told,) = json.loads(out)["results"]
        assert told["title"] == ugly  # escaped for the eye, the same for a program
    if form == "csv":
        check_cells(out, ugly)


def check_cells(text, ugly):
    """That no cell is a formula, that numbers are numbers, and that a text is there that says what it said."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    texts = [text for row in rows[1:] for text in row]
    for text in texts:
        try:
            float(text)
        except ValueError:
            assert not text.startswith(plaintext.FORMULA_STARTS)
    assert len({len(row) for row in rows}) == 1
    assert unfit(ugly) or any(text.removeprefix("'") == ugly for text in texts)
    return rows


@pytest.mark.parametrize("form", list(writing.FORMATS))
def test_playlists(ugly, form):
    file = Path("/music") / f"{ugly}.mp3".replace("\0", "").replace("/", "-")
    text = writing.FORMATS[form]([ugly_track(ugly, file)])
    assert not unfit(text, but="\n\r\t" if form == "csv" else "\n")
    text.encode()
    if form == "csv":
        check_cells(text, ugly)
    if form == "m3u8":
        _, title, path = text.splitlines()
        assert title.startswith("#EXTINF:61,")
        assert path.startswith(("/", "file:///"))
    if form == "table":
        assert text.count("\n") == 1


def test_remembered_wishes(ugly):
    wish = Wish(now(), "joy", -0.5, 0.5, ugly)
    assert not unfit(to_table([wish]))
    rows = check_cells(to_csv([wish]), ugly)
    assert rows[1][2] == "-0.5"  # a number stays one


def test_notes_errors_and_warnings_are_one_line(ugly, capsys, monkeypatch):
    plaintext.note(ugly)
    plaintext.warn(ugly)
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert not unfit(err)
    status = main.main(["pack", f"/nowhere/{ugly.replace(chr(0), '')}"])
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1)
    assert not unfit(err)


def test_scores_of_targets_of_any_name(ugly, capsys, tmp_path):
    if ugly == UGLY["no Unicode"]:
        return  # no table and no tagger has such a name: the readers refuse it
    evaluation = make_evaluation(3, names=[ugly, f"{ugly}2", "blue"])
    shared.print_scores(evaluation, "table")
    assert not unfit(capsys.readouterr().out)
    evaluation.save(tmp_path)
    check_cells((tmp_path / "per_target.csv").read_bytes().decode(), ugly)


def test_the_page_of_a_library_is_as_many_elements_whatever_the_titles_are(ugly):
    def make_outline(text):
        tagger = make_tagger(Task("moods", "tags", (text, "blue")))
        means = np.random.default_rng(0).standard_normal((3, 4), np.float32)
        songs = [ugly_track(text, Path("/music") / text.replace("\0", "")) for _ in range(3)]
        library = Library(("1", "2", "3"), tagger.task.targets, np.eye(3, 2, dtype=np.float32), means).prepare()
        return Page(write_page(survey(library, tagger), songs, text))

    plain, found = make_outline("a"), make_outline(ugly)
    assert found.names == plain.names
    assert not found.handlers


def test_the_tables_of_a_notebook_are_text_whatever_the_names_are(ugly, tmp_path):
    store = EmbeddingStore(tmp_path / re.sub("[/\0]", "_", ugly), SPEC)
    task = Task(ugly, "tags", (ugly, "b"))
    tracks = (Track("1", "1.mp3", None, ugly),)
    dataset = Dataset(task, tracks, np.zeros((1, 2), np.float32), {ugly: np.array([0])})
    tagger = replace(make_tagger(task), grades=(ugly, "good"))
    for shown in (ugly_prediction(ugly), store, dataset, tagger):
        text = shown._repr_html_()
        outline = Page(text)
        assert {*outline.names} <= {"table", "caption", "tr", "th", "td"}
        assert not outline.handlers
        assert not unfit(text)


def test_a_card_is_text_whatever_the_names_are(ugly):
    described = model.describe(manifest(ugly))
    assert not unfit(described)
    lines = [line.count("|") - line.count("\\|") for line in described.splitlines() if line.startswith("|")]
    assert len(set(lines)) == 1
    assert "<script" not in described.replace("\\<", "")
    assert "](" not in described.replace("\\]", "")


def manifest(ugly):
    return {
        "task": {"name": ugly, "kind": "tags", "targets": [ugly, "b"]},
        "embedder": {"name": ugly, "hop_s": 1.0, "dim": 4},
        "head": {"name": "mlp", "pooling": "mean"},
        "grades": ["good", "weak"],
        "record": {
            "citation": ugly, "licence": ugly, "version": ugly, "graded_on": ugly, "positives": {ugly: 3},
            "tested": {"part": ugly, "figures": {"PR-AUC-macro": 0.5}, "intervals": {}},
        },
        "scores": {"PR-AUC-macro": 0.5},
        "intervals": {},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["mathematics", "half of mathematics", "an escape", "lines"])
def test_figures_of_songs_typeset_nothing(name):
    targets = ugly_prediction(UGLY[name].replace("\x1b", "").replace("\x07", ""))
    figure = prediction.plot_song(replace(targets, title=UGLY[name], artist="\x9b"))
    figure.savefig(io.BytesIO(), format="png")
    labels = [text for axes in figure.axes for text in (*axes.get_yticklabels(), *axes.get_xticklabels())]
    texts = [*figure.texts, *labels]
    assert not any(text.get_parse_math() for text in texts if "frac" in text.get_text())


def test_a_download_is_named_without_a_path(ugly):
    for form in ("csv", "json"):
        name, content = songs.export(make_prediction(), form, ugly)
        assert "/" not in name
        assert content.decode()


def test_a_tagger_keeps_its_targets_through_its_files(tmp_path):
    targets = tuple(text for text in UGLY.values() if plaintext.show(text) == text)
    assert len(targets) > 5
    tagger = make_tagger(Task("values <b>", "values", targets, (0.0, 1.0)))
    tagger.save(tmp_path)
    assert type(tagger).load(tmp_path).task.targets == targets
