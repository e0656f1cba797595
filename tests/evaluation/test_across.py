"""Trained on one data set, tested on another; on made sound."""

import json
import runpy

import numpy as np
import pytest
from test_docs import ROOT
from toy_affect_sets import write_deam, write_emomusic, write_pmemo
from toy_class_sets import write_mirex
from toy_examples import DIM, OTHER_SPEC, SPEC, make_tagger

from jamendo_mood.datasets import load_dataset
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.values import r2
from jamendo_mood.training.model import Tagger

pytest_plugins = ["toy_commands"]


@pytest.fixture(scope="module")
def songs(make_audio, noise, tmp_path_factory):
    """PMEmo's clips, as made sound whose loudness goes with the arousal that PMEmo knows; and a table of one's own."""
    root = tmp_path_factory.mktemp("across")
    pmemo = write_pmemo(root / "pmemo")
    dataset = load_dataset("pmemo", pmemo)
    for seed, (track, (_, arousal)) in enumerate(zip(dataset.tracks, dataset.targets, strict=True)):
        path = root / "audio" / track.audio.replace(".mp3", ".wav")
        make_audio(path, noise(3.0, seed=seed) * (0.02 + arousal / 2), 16_000)
    lines = ["path,artist,valence,arousal"]
    for number in range(40):
        wave = noise(3.0, seed=100 + number) * (0.02 + number / 80)
        make_audio(root / "audio" / "mine" / f"{number}.wav", wave, 16_000)
        lines.append(f"mine/{number}.wav,artist {number},{number % 3 - 1},{number / 20 - 1}")
    (root / "own.csv").write_text("\n".join(lines) + "\n")
    return root, pmemo


@pytest.mark.thorough
def test_values_are_taken_from_one_scale_to_the_other(songs, run, tmp_path):
    (root, pmemo), store, tagger = songs, tmp_path / "store", tmp_path / "tagger"
    assert run("extract", root / "audio", "--store", store, "--embedder", "logmel").status == 0
    own = ("--task", "own", "--data", root / "own.csv", "--store", store)
    assert run("train", *own, "--out", tagger).status == 0
    usual = ("--data", pmemo, "--store", store)
    done = run("across", tagger, "--task", "pmemo", *usual, "--format", "json")
    assert done.status == 0, done.err
    assert "2 of 2 values compared: valence, arousal" in done.err
    rows = {row["value"]: row for row in json.loads(done.out)["per_target"]}
    assert rows["arousal"]["R2"] > 0.5  # a loudness that both know, from [-1, 1] to [0, 1]
    dataset, embeddings = load_dataset("pmemo", pmemo), EmbeddingStore(store)
    scores = Tagger.load(tagger).score([embeddings[track.key] for track in dataset.tracks])
    assert rows["arousal"]["R2"] == pytest.approx(r2(dataset.targets, (scores + 1) / 2)[1], abs=1e-6)


DEAM = Task("deam", "values", ("valence", "arousal"), (1.0, 9.0))
CASES = [
    (DEAM, "deam", "trained on songs of deam, and deam has the same: use `evaluate`"),
    (DEAM, "emomusic", "trained on songs of deam, and emomusic has the same"),
    (DEAM, "pmemo-dynamic", r"the tagger knows 2 values .*; pmemo-dynamic has 2 values .*, each moment"),
    (DEAM, "mirex", r"the tagger knows 2 values .*; mirex has 5 classes"),
    (Task("four", "classes", ("Q1", "Q2")), "mirex", "mirex has other classes than the tagger, which knows Q1, Q2"),
]


@pytest.mark.parametrize(("trained", "task", "message"), CASES)
def test_what_cannot_be_compared_is_wrong_usage(run, tmp_path, trained, task, message):
    write = {"deam": write_deam, "emomusic": write_emomusic, "mirex": write_mirex}.get(task, write_pmemo)
    make_tagger(trained).save(tmp_path / "tagger")
    (tmp_path / "data").mkdir()
    usual = ("--data", write(tmp_path / "data"), "--store", tmp_path)
    run("across", tmp_path / "tagger", "--task", task, *usual).check_error("across", message)


def test_the_script_that_compares_embedders_prints_its_table(tmp_path, monkeypatch, capsys):
    (tmp_path / "mirex").mkdir()
    root = write_mirex(tmp_path / "mirex")
    dataset, rng = load_dataset("mirex", root), np.random.default_rng(0)
    for name, spec in (("one", SPEC), ("two", OTHER_SPEC)):
        store = EmbeddingStore(tmp_path / name, spec)
        for track in dataset.tracks:
            store.add(track.key, rng.standard_normal((3, DIM), dtype=np.float32))
    script = ROOT / "scripts" / "compare_embedders.py"
    given = ["mirex", *map(str, (root, tmp_path / "one", tmp_path / "two")), "--heads", "svm,sklearn", "--pairs"]
    monkeypatch.setattr("sys.argv", [str(script), *given])
    runpy.run_path(str(script), run_name="__main__")
    rows = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows] == ["embedder", "---", "`toy`", "`other`", "`toy+other`"]
    theirs, _, ahead, _ = rows[2][3].split(", ")
    ours, theirs, ahead = (float(text.split()[0]) for text in (rows[2][2], theirs, ahead))
    assert ahead == pytest.approx(ours - theirs, abs=0.0011)
