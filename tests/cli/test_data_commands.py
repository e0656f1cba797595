import json

import numpy as np
import pytest
from toy_class_sets import WRITERS

from jamendo_mood.datasets import DATASETS

pytest_plugins = ["toy_commands"]


def write_turkish(root):
    root.mkdir(parents=True, exist_ok=True)
    return WRITERS["turkish"](root)


def test_tasks_lists_every_data_set_and_what_is_missing(run, tmp_path):
    write_turkish(tmp_path / "data" / "turkish")
    done = run("tasks", "--data", tmp_path / "data")
    assert done.status == 0
    lines = {line.split()[0]: line for line in done.out.splitlines() if line and line[0].isalpha()}
    names = {"jamendo", "audioset", "pmemo", "emomusic", "deam", "mirex", "quadrant", "turkish", "own"}
    assert lines.keys() == DATASETS.keys() >= names
    assert lines["turkish"].endswith("all tables here")
    assert "missing: clusters.txt" in lines["mirex"]
    assert "5 official splits" in lines["jamendo"]
    assert "10 folds" in lines["mirex"]


def test_tasks_tells_all_of_one(run, tmp_path):
    done = run("tasks", "mirex", "--data", tmp_path)
    for name in ("predicts", "annotations", "audio", "licence", "citation", "missing"):
        assert any(line.startswith(name) and len(line.split()) > 1 for line in done.out.splitlines()), name
    values = json.loads(run("tasks", "--data", tmp_path, "--format", "json").out)
    assert values.keys() == DATASETS.keys()
    assert all(facts["licence"] and facts["citation"] and facts["audio"] for facts in values.values())
    assert values["turkish"]["missing"] == values["turkish"]["files"]
    done = run("tasks", "nosuch")
    assert done.status == 2
    assert "unknown task 'nosuch' (known: jamendo" in done.err


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
    done = run("cross-validate", "--data", tmp_path, *arguments, *FAST)
    assert done.status == 2
    assert message in done.err


@pytest.mark.thorough
def test_embeddings_without_a_label_are_told(run, tmp_path):
    from jamendo_mood.embedders.registry import EmbedderSpec
    from jamendo_mood.store.embedding_store import EmbeddingStore

    root = tmp_path / "mirex"
    root.mkdir()
    WRITERS["mirex"](root)
    store = EmbeddingStore(tmp_path / "store", EmbedderSpec("toy", "", 16_000, 0.96, 0.96, 4))
    rng = np.random.default_rng(0)
    for key in (*(f"{clip:03d}" for clip in range(1, 25)), "stranger", "other"):
        store.add(key, rng.standard_normal((2, 4), dtype=np.float32))
    done = run("cross-validate", "--task", "mirex", "--data", root, "--store", store.root, *FAST, "--folds", "2")
    assert "2 tracks of the store without a label for mirex: not used" in done.err
