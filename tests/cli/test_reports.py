"""What commands print of extractions, trainings, scores and predictions."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_examples import make_class_prediction, make_prediction, make_value_prediction

from jamendo_mood.cli import extract, shared, tag, train
from jamendo_mood.evaluation.evaluate import Scores
from jamendo_mood.extraction.streaming import ExtractReport
from jamendo_mood.tagging.emotions import Place
from jamendo_mood.tagging.prediction import to_document
from jamendo_mood.training.fit import Epoch, TrainConfig
from jamendo_mood.util import plaintext
from jamendo_mood.util.plaintext import TrackProgress

SCORES = Scores(
    {"PR-AUC-macro": 1 / 3, "prior-macro": 0.25},
    (
        {"tag": "poor", "positives": 3, "prior": 0.03, "PR-AUC": 0.25, "ROC-AUC": 0.5},
        {"tag": "none", "positives": 0, "prior": 0.0, "PR-AUC": None, "ROC-AUC": None},
        {"tag": "good", "positives": 5, "prior": 0.05, "PR-AUC": 0.98765, "ROC-AUC": 0.9},
    ),
    100,
)


@pytest.fixture
def show(capsys):
    """What is printed of predictions."""

    def start(*predictions, form="table", top=10, timeline=False):
        tag.print_predictions(predictions, form, top, timeline=timeline)
        return capsys.readouterr().out

    return start


def words_of(lines, count=3):
    return [line.split()[:count] for line in lines]


def test_progress_goes_to_stderr_with_each_failure_and_is_wiped_out_where_nothing_was_done(capsys):
    with TrackProgress(3) as progress:
        for error in ("", "bad.mp3: no music", ""):
            progress.advance(30.0, error)
    out, err = capsys.readouterr()
    assert out == ""
    for said in ("failed: bad.mp3: no music", "3/3", "1 failed", "x real time"):
        assert said in err
    with pytest.raises(OSError, match="no scratch"), TrackProgress(3):
        raise OSError("no scratch")
    err = capsys.readouterr().err
    assert "0/3" in err
    assert "\n" not in err
    assert err.endswith("\r")
    with TrackProgress(0):
        pass
    assert capsys.readouterr() == ("", "")


def test_an_extraction_is_summed_up_on_stdout_and_the_first_ten_failures_on_stderr(capsys):
    extract.print_extraction(ExtractReport(done=2, skipped=5, audio_s=120.0, wall_s=4.0), [], Path("s"))
    summary = "s: 2 tracks embedded, 5 were there already, 0 failed; 2.0 min of sound in 4.0 s (30x real time)\n"
    assert capsys.readouterr() == (summary, "")
    failed = {f"00/{number}": f"{number}.mp3: broken" for number in range(12)}
    report = ExtractReport(failed={**failed, "a": "gone"}, wall_s=1.0, unrecorded={"a"})
    extract.print_extraction(report, ["77/77"], Path("s"))
    out, err = capsys.readouterr()
    assert out.startswith("s: 0 tracks embedded, 0 were there already, 13 failed")
    assert err.splitlines() == [
        "failed, see s/failures.tsv; --retry-failed tries them again:",
        *[f"  {key}: {error}" for key, error in list(failed.items())[:10]],
        "  and 2 more",
        "failed for now; the same command tries them again:",
        "  a: gone",
        "1 tracks of the table have no audio file:",
        "  77/77",
    ]


def test_an_epoch_is_one_line_on_stderr_that_names_its_head_and_counts_those_to_come(capsys, monkeypatch):
    clock = iter([0.0, 7.0, 100.0, 110.0, 160.0])
    monkeypatch.setattr(train.time, "perf_counter", lambda: next(clock))
    train.epoch_lines()(Epoch(0, 7, 0.25, "PR-AUC-macro", 0.5, False, TrainConfig(ensemble=1, epochs=20)))
    lines, config = train.epoch_lines(), TrainConfig(ensemble=3, epochs=2)
    lines(Epoch(0, 1, 0.25, "F", 0.5, True, config))
    lines(Epoch(2, 1, 0.25, "F", 0.5, True, config))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch  7/20  loss 0.2500  validation PR-AUC-macro 0.5000  13 s left",
        "head 1/3, epoch  1/2  loss 0.2500  validation F 0.5000  50 s left  best so far",
        "head 3/3, epoch  1/2  loss 0.2500  validation F 0.5000  12 s left  best so far",
    ]


def test_scores_as_a_table_and_as_one_unrounded_object(capsys):
    def show(scores, form="table"):
        shared.print_scores(scores, form)
        return capsys.readouterr().out

    lines = show(SCORES).splitlines()
    assert lines[:3] == ["100 examples, 3 tags", "PR-AUC-macro     0.333333", "prior-macro      0.250000"]
    assert words_of(lines[4:], 5) == [
        ["tag", "positives", "prior", "PR-AUC", "ROC-AUC"],
        ["good", "5", "0.0500", "0.9877", "0.9000"],
        ["poor", "3", "0.0300", "0.2500", "0.5000"],
        ["none", "0", "0.0000", "-", "-"],
    ]
    assert json.loads(show(SCORES, "json")) == SCORES.to_json()
    counted = show(replace(SCORES, metrics={"Kendall": 0.25, "constant-curves": 3})).splitlines()
    assert counted[1:3] == ["Kendall          0.250000", "constant-curves  3"]
    row = {"tag": "calm", "PR-AUC": 0.5, "grade": "good", "PR-AUC-low": 0.1, "Brier-skill": 0.1, "ECE-all": 0.01}
    wide = show(replace(SCORES, per_target=(row,))).splitlines()  # what fits on a screen
    assert wide[4].split() == ["tag", "grade", "PR-AUC", "ECE-all"]


def test_tags_as_a_table_have_a_star_where_the_threshold_is_reached_and_doubt_is_explained(show):
    lines = show(make_prediction()).splitlines()
    assert lines[0] == "songs/toy.mp3  The Toys - Blue & Green <live>  (1:02)"
    assert words_of(lines[1:4]) == [["green", "0.750", "*"], ["red", "0.450", "*"], ["blue", "0.300", "██████"]]
    assert lines[3].endswith("(weak)")
    assert "(weak)" not in lines[1] + lines[2]
    assert lines[4:6] == ["", "(* reaches the tag's threshold)"]
    assert lines[6].startswith("(weak: hardly told from chance")
    assert show(make_prediction(None, None)).startswith("songs/toy.mp3  (1:02)\n")
    undecided = show(replace(make_prediction(), decided=np.zeros(3, bool)), top=2)
    assert "no tag reaches its threshold" in undecided
    assert "*" not in undecided
    assert "weak" not in undecided
    unknown = show(replace(make_prediction(), grades=("unknown",) * 3))
    assert "(unknown: never measured, or with too few examples to say)" in unknown


def test_classes_as_a_table_have_a_star_at_the_one_that_is_chosen(show):
    lines = show(make_class_prediction()).splitlines()
    assert words_of(lines[1:4]) == [["Q3", "0.600", "*"], ["Q4", "0.200", "████"], ["Q1", "0.100", "██"]]
    assert lines[6] == "(* the class with the highest probability)"
    assert "threshold" not in " ".join(lines)


def test_values_as_a_table_lie_on_their_scale_in_the_order_of_the_task(show):
    lines = show(make_value_prediction()).splitlines()
    assert words_of(lines[1:3]) == [["valence", "3.000", "█████"], ["arousal", "7.000", "█" * 15]]
    assert lines[1].endswith("(weak)")
    assert lines[3:5] == ["", "(on a scale from 1 to 9)"]
    for unsaid in ("--places", "*", "threshold"):  # no table of places knows values
        assert unsaid not in " ".join(lines)


def test_a_timeline_has_a_line_for_each_frame(show):
    lines = show(make_prediction(), top=2, timeline=True).splitlines()
    start = lines.index("  seconds  green    red")
    assert words_of(lines[start + 1 : start + 5]) == [
        ["0.00", "0.90", "0.10"],
        ["0.96", "0.80", "0.20"],
        ["1.92", "0.70", "0.90"],
        ["2.88", "0.60", "0.60"],
    ]
    lines = show(make_value_prediction(), timeline=True).splitlines()
    start = lines.index("  seconds  valence  arousal")
    assert lines[start + 1 : start + 3] == ["     0.00     2.00     6.00", "     0.96     4.00     8.00"]


def test_what_is_said_of_all_songs_is_said_once(show):
    undecided = replace(make_prediction(), decided=np.zeros(3, bool))
    out = show(make_prediction(), undecided, make_prediction(), top=3)
    for text in ("(* reaches the tag's threshold)", "(weak: ", "--places CSV", "(no tag reaches its threshold"):
        assert out.count(text) == 1
    assert out.index("(no tag reaches") < out.rindex("songs/toy.mp3") < out.index("(* reaches")
    ranked = replace(make_prediction(), thresholds=(None,) * 3)
    assert show(ranked, ranked).count("(not calibrated: ") == 1
    assert "--places" not in show(ranked)
    placed = show(replace(make_prediction(), place=Place(-0.4, 0.6)))
    assert "  tense and energetic (valence -0.4, arousal 0.6)" in placed.splitlines()
    assert "--places" not in placed


@pytest.mark.parametrize("columns", [30, 40, 80])
def test_lines_fit_the_terminal(show, monkeypatch, columns):
    monkeypatch.setattr(plaintext.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    out = show(replace(make_prediction(), place=Place(-0.4, 0.6)))
    assert max(map(len, out.splitlines())) <= max(columns, len("  green                0.750 *  (weak)"))
    assert "The Toys - Blue & Green <live>" in " ".join(out.split())


@pytest.mark.parametrize(
    ("variables", "terminal", "coloured"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),  # as no-color.org has it
    ],
)
def test_a_terminal_gets_bold_headings_unless_it_cannot_or_must_not(show, monkeypatch, variables, terminal, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(plaintext.sys.stdout, "isatty", lambda: terminal, raising=False)
    out = show(make_prediction("Blue \x1b[31m"))
    assert out.startswith("\x1b[1msongs/toy.mp3" if coloured else "songs/toy.mp3")
    assert ("\x1b" in out) == coloured
    assert "\x1b[31m" not in out, "a title colours nothing"


@pytest.mark.parametrize("timeline", [False, True])
def test_tags_as_json_are_a_document(show, timeline):
    predictions = [make_prediction(), replace(make_prediction(), source="ü.mp3")]
    out = show(*predictions, form="json", top=2, timeline=timeline)
    assert json.loads(out) == to_document(predictions, count=2, timeline=timeline)
    assert "ü.mp3" in out
    assert json.loads(show(form="json", timeline=timeline)) == to_document([])


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_for_each_tag_and_frame(show):
    awkward = 'A "quoted", title'
    rows = read_csv(show(make_prediction(awkward), make_prediction(None, None), form="csv", top=2))
    assert [row["tag"] for row in rows] == ["green", "red"] * 2
    assert [row["title"] for row in rows] == [awkward, awkward, "", ""]
    assert {(row["duration_s"], row["above_threshold"]) for row in rows} == {("61.5", "1")}
    assert np.float32(rows[1]["score"]) == np.float32(0.45)
    prediction = make_prediction()
    rows = read_csv(show(prediction, form="csv", top=2, timeline=True))
    assert [(row["tag"], row["time_s"]) for row in rows] == [
        (tag, time_s) for tag in ("green", "red") for time_s in ("0.00", "0.96", "1.92", "2.88")
    ]
    assert [float(row["score"]) for row in rows] == prediction.frame_scores[:, [1, 0]].T.ravel().tolist()


def test_classes_and_values_as_csv_have_columns_of_their_own(show):
    rows = read_csv(show(make_class_prediction(), form="csv", top=2))
    assert [(row["class"], float(row["probability"]), row["chosen"], row["reliability"]) for row in rows] == [
        ("Q3", pytest.approx(0.6), "1", "good"),
        ("Q4", pytest.approx(0.2), "0", "unknown"),
    ]
    rows = read_csv(show(make_value_prediction(), form="csv", top=2))
    assert [(row["name"], row["value"], row["scale_low"], row["scale_high"]) for row in rows] == [
        ("valence", "3.0", "1.0", "9.0"),
        ("arousal", "7.0", "1.0", "9.0"),
    ]
    assert not {"chosen", "above_threshold"} & rows[0].keys()
    for prediction, header in ((make_class_prediction(), "class,probability"), (make_value_prediction(), "name,value")):
        lines = show(prediction, form="csv", top=1, timeline=True).splitlines()
        assert (lines[0], len(lines)) == (f"file,time_s,{header}", 3)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe_and_no_other(start):
    assert plaintext.cell(f"{start}1+1").replace("\\r", "\r") == f"'{start}1+1"
    assert plaintext.cell(f"1{start}1").replace("\\r", "\r") == f"1{start}1"
