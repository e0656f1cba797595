"""`tasks` and `cross-validate`, and what `evaluate` says of data that are no longer what a tagger learned from."""

import json

import numpy as np
import pytest
from toy_class_sets import WRITERS

from jamendo_mood.datasets import DATASETS

pytest_plugins = ["demo_corpus", "toy_commands"]


def write_turkish(root):
    root.mkdir(parents=True, exist_ok=True)
    return WRITERS["turkish"](root)


def test_tasks_lists_every_data_set_what_is_missing_and_all_of_one(run, tmp_path):
    write_turkish(tmp_path / "data" / "turkish")
    done = run("tasks", "--data", tmp_path / "data")
    lines = {line.split()[0]: line for line in done.out.splitlines() if line and line[0].isalpha()}
    names = {"jamendo", "audioset", "pmemo", "emomusic", "deam", "mirex", "quadrant", "turkish", "own"}
    assert lines.keys() == DATASETS.keys() >= names
    assert lines["turkish"].endswith("all tables here")
    for name, said in (("mirex", "missing: clusters.txt"), ("jamendo", "5 official splits"), ("mirex", "10 folds")):
        assert said in lines[name]
    done = run("tasks", "mirex", "--data", tmp_path)
    for name in ("predicts", "annotations", "audio", "licence", "citation", "missing"):
        assert any(line.startswith(name) and len(line.split()) > 1 for line in done.out.splitlines()), name
    values = json.loads(run("tasks", "--data", tmp_path / "none", "--format", "json").out)
    assert values.keys() == DATASETS.keys()
    assert all(facts["licence"] and facts["citation"] and facts["audio"] for facts in values.values())
    assert values["turkish"]["missing"] == values["turkish"]["files"]
    run("tasks", "nosuch").check_error("tasks", r"unknown task 'nosuch' \(known: jamendo")


FAST = ("--head", "linear", "--epochs", "3", "--set", "batch=16", "--rounds", "10")


def test_cross_validation_prints_folds_and_writes_scores(run, tmp_path):
    root = write_turkish(tmp_path / "turkish")
    usual = ("--task", "turkish", "--data", root, *FAST, "--folds", "2")
    done = run("cross-validate", *usual, "--out", tmp_path / "out", "--format", "json")
    assert done.status == 0, done.err
    assert done.err.count("fold ") == 2
    values = json.loads(done.out)
    saved = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert saved["accuracy"] == values["accuracy"]
    assert 0 <= values["accuracy"] <= 1
    assert np.mean([fold["accuracy"] for fold in values["folds"]]) == pytest.approx(
        values["over_folds"]["accuracy"]["mean"]
    )
    done = run("cross-validate", *usual, "--group", "song")  # folds may share artists if that is asked for
    assert done.status == 0, done.err
    assert "over 2 folds" in done.out
    assert done.err.count("fold ") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "emomusic"), "official parts and no folds"),
        (("--task", "jamendo"), "official splits and no folds"),
        (("--task", "nosuch"), "unknown task 'nosuch'"),
        (("--task", "turkish", "--folds", "1"), "two folds at least"),
    ],
)
def test_what_has_no_folds_is_wrong_usage(run, tmp_path, arguments, message):
    write_turkish(tmp_path)
    run("cross-validate", "--data", tmp_path, *arguments, *FAST).check_error("cross-validate", message)


def test_parts_that_changed_since_the_training_are_told(run, corpus, corpus_store, tmp_path, caplog):
    table = tmp_path / "own.csv"
    rows = [f"{song.path},artist {song.artist},{';'.join(song.moods)}\n" for song in corpus.songs]
    table.write_text("path,artist,tags\n" + "".join(rows))
    where, tagger = ["--data", table, "--store", corpus_store.root], tmp_path / "tagger"
    settings = ["--head", "linear", "--epochs", 2]
    assert run("train", "--task", "own", *where, "--out", tagger, *settings).status == 0
    for added, options, count in (("", (), 0), ("another.mp3,a new artist,happy\n", (), 1), ("", ("--split", 1), 1)):
        table.write_text("path,artist,tags\n" + "".join(rows) + added)
        assert run("evaluate", tagger, *where, "--rounds", 0, *options).status == 0
        assert caplog.text.count("has changed since") == count
