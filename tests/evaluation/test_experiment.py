import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from toy_class_sets import write_turkish
from toy_examples import CLASSES, CURVES, DIM, ToyStore, label_anew, make_dataset, make_examples, make_tagger

from jamendo_mood.datasets.dataset import Curve, Dataset, assign_folds, make_parts
from jamendo_mood.evaluation import experiment
from jamendo_mood.evaluation.experiment import forget_artists
from jamendo_mood.training.data import load_part
from jamendo_mood.training.fit import TrainConfig
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus"]

EXAMPLES = label_anew(make_examples(120), CLASSES)
STORE = ToyStore({track.key: frames for track, frames in zip(EXAMPLES.tracks, EXAMPLES.frames, strict=True)})
FOLDS = assign_folds([track.artist for track in EXAMPLES.tracks], count=4)
CONFIG = TrainConfig(HeadConfig("linear", "mean"), ensemble=1, epochs=8, batch=16, learning_rate=0.05)


def load(split):
    return Dataset(CLASSES, EXAMPLES.tracks, EXAMPLES.Y, make_parts(FOLDS, split % 4), "none", "none")


@pytest.fixture
def offer(monkeypatch):
    """Makes a task of four folds of a function that loads one of them."""

    def make(load):
        monkeypatch.setattr(experiment, "find_source", lambda _: Mock(official=False, splits=4))
        monkeypatch.setattr(experiment, "load_dataset", lambda *_, split=0: load(split))

    return make


@pytest.fixture
def cross_validate(offer):
    """`cross_validate` of four folds, given a function that loads one of them."""

    def run(load, store=STORE, **options):
        offer(load)
        return experiment.cross_validate("toy", "", store, CONFIG, **{"rounds": 0, **options})

    return run


@pytest.fixture
def learned(monkeypatch):
    """What each fold's tagger is given to learn from and to be watched on; it learns nothing, which takes no time."""
    parts = []

    def note(train, validation, task, spec, config, **_):
        parts.append(tuple({track.key for track in part.tracks} for part in (train, validation)))
        seed = sum(int(key.partition("/")[2]) for key in parts[-1][1])
        return make_tagger(task, spec, config.head, seed)

    monkeypatch.setattr(experiment, "fit", note)
    return parts


def test_every_track_is_tested_once_by_a_tagger_that_did_not_know_it(cross_validate):
    seen = []
    found = cross_validate(load, rounds=20, on_fold=lambda *fold: seen.append(fold))
    assert [split for split, _ in seen] == [0, 1, 2, 3]
    assert found.folds == tuple(figures for _, figures in seen)
    assert found.pooled.examples == 120
    order = np.concatenate([load(split).rows("test") for split in range(4)])
    np.testing.assert_array_equal(found.pooled.truth, EXAMPLES.Y[order] > 0)
    assert found.pooled.metrics["accuracy"] > 0.8
    accuracy = np.average([figures["accuracy"] for figures in found.folds], weights=np.bincount(FOLDS))
    assert found.pooled.metrics["accuracy"] == pytest.approx(accuracy)
    low, high = found.pooled.intervals["accuracy"]
    assert low < found.pooled.metrics["accuracy"] < high
    mean, sd = found.spread()["accuracy"]
    assert mean == pytest.approx(np.mean([figures["accuracy"] for figures in found.folds]))
    assert sd == pytest.approx(np.std([figures["accuracy"] for figures in found.folds], ddof=1))
    values = found.to_json()
    assert values["accuracy"] == found.pooled.metrics["accuracy"]
    assert values["over_folds"]["accuracy"] == {"mean": mean, "sd": sd}
    assert len(values["folds"]) == 4


def test_a_report_says_what_the_heads_made_of_frames(monkeypatch, cross_validate, tmp_path):
    poolings = iter(("mean", "mean+std", "mean", "mean"))  # as the folds of `svm` choose

    def learn_nothing(train, validation, task, spec, config, **_):
        return make_tagger(task, spec, replace(config.head, pooling=next(poolings)), 0)

    monkeypatch.setattr(experiment, "fit", learn_nothing)
    cross_validate(load, out=tmp_path)
    assert "linear, trained on mean (3 of 4), mean+std (1 of 4)" in (tmp_path / "report.html").read_text()


def test_a_recording_that_is_there_twice_is_not_learned_where_it_is_tested(learned, cross_validate):
    twice = {**STORE, EXAMPLES.tracks[1].key: STORE[EXAMPLES.tracks[0].key]}
    rows = [int(FOLDS[row]) for row in (0, 1)]
    assert rows[0] != rows[1]
    cross_validate(load, ToyStore(twice))
    for split, other in zip(rows, (1, 0), strict=True):
        assert EXAMPLES.tracks[other].key not in set.union(*learned[split])
        assert len(set.union(*learned[split])) == 120 - len(load(split).rows("test")) - 1


def test_folds_for_scikit_learn_test_all_once_and_learn_no_recording_that_they_test(offer):
    offer(load)
    twice = {**STORE, EXAMPLES.tracks[1].key: STORE[EXAMPLES.tracks[0].key]}
    examples, folds = experiment.load_folds("toy", "", ToyStore(twice))
    assert [track.key for track in examples.tracks] == [track.key for track in EXAMPLES.tracks]
    for split, (learned, tested) in enumerate(folds):
        np.testing.assert_array_equal(tested, load(split).rows("test"))
        same = {0, 1} if {0, 1} & {*tested} else set()
        assert {*learned} == {*range(120)} - {*tested} - same
    X, y, groups = examples.to_arrays()
    assert groups.tolist() == [track.artist for track in EXAMPLES.tracks]
    assert cross_val_score(LogisticRegression(), X, y, cv=folds).mean() > 0.8


def test_the_lines_for_scikit_learn_run_as_they_stand_in_the_tutorial(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "tutorials" / "research.md").read_text(encoding="utf-8")
    (tmp_path / "Turkish").mkdir()
    write_turkish(tmp_path / "Turkish")
    monkeypatch.chdir(tmp_path)
    exec(re.search("```python\n(.*?)```", page, re.DOTALL)[1], {})
    assert 0 <= float(capsys.readouterr().out) <= 1


def test_several_validation_folds_leave_no_track_unheard_but_those_that_are_tested(learned, cross_validate):
    one = cross_validate(load, folds=2)
    first = learned[:]
    learned.clear()
    found = cross_validate(load, folds=2, validations=3)
    assert learned[::3] == first
    everything = {track.key for track in EXAMPLES.tracks}
    for split in range(2):
        tested = {EXAMPLES.tracks[row].key for row in load(split).rows("test")}
        own = learned[3 * split : 3 * split + 3]
        assert set.union(*(train for train, _ in own)) == everything - tested
        assert all(train | validation == everything - tested for train, validation in own)
        assert len({frozenset(validation) for _, validation in own}) == 3
    assert np.abs(found.pooled.predictions - one.pooled.predictions).max() > 1e-3
    with pytest.raises(UsageError, match="4 validations need more folds than that, and there are 4"):
        cross_validate(load, validations=4)


def test_folds_of_songs_share_artists_but_no_recording():
    few = [replace(track, artist=f"artist {row % 20}") for row, track in enumerate(EXAMPLES.tracks)]
    tracks = (*(replace(track, content="same") for track in few[:2]), *few[2:])
    dataset = Dataset(CLASSES, tracks, EXAMPLES.Y, make_parts(FOLDS, 0), "none", "none")
    tests = [forget_artists(dataset, split).rows("test") for split in range(10)]
    assert sorted(np.concatenate(tests)) == list(range(120))
    assert {len(rows) for rows in tests} <= {11, 12, 13}
    fold_of = {row: fold for fold, rows in enumerate(tests) for row in rows}
    assert fold_of[0] == fold_of[1]
    artists = [{tracks[row].artist for row in rows} for rows in tests]
    assert any(one & other for one in artists for other in artists if one is not other)
    assert len({track.artist for track in forget_artists(dataset, 0).tracks}) == 119


def test_one_fold_is_none_and_so_are_parts_that_are_always_the_same(cross_validate):
    for load_any, folds in ((load, 1), (lambda _: load(0), None)):
        with pytest.raises(UsageError, match="two folds at least"):
            cross_validate(load_any, folds=folds)


def test_moments_of_all_folds_keep_their_songs_and_times(learned, cross_validate):
    labelled = label_anew(EXAMPLES, CURVES)
    rng = np.random.default_rng(0)
    curves = tuple(
        Curve(np.array([0.5, 1.0], np.float32), np.clip(own + rng.normal(0, 0.1, (2, 2)), -1, 1).astype(np.float32))
        for own in labelled.Y
    )

    def load_curves(split):
        parts = make_parts(FOLDS, split)
        return Dataset(CURVES, EXAMPLES.tracks, labelled.Y, parts, "none", "none", curves=curves)

    found = cross_validate(load_curves).pooled
    rows = np.concatenate([load_curves(split).rows("test") for split in range(4)])
    assert found.songs == tuple(EXAMPLES.tracks[row].key for row in rows for _ in range(2))
    assert found.times_s.tolist() == [0.5, 1.0] * 120
    np.testing.assert_array_equal(found.truth, np.concatenate([curves[row].values for row in rows]))


def test_a_training_part_knows_the_tracks_that_it_is_tested_on():
    store = ToyStore({f"{row:02d}/{row}": np.ones((2, DIM), np.float32) * row for row in range(5)})
    dataset = make_dataset(store, parts={"train": [0, 1], "validation": [2], "test": [3, 4]})
    train, validation = (load_part(dataset, part, store) for part in ("train", "validation"))
    assert [track.key for track in train.held_out] == [dataset.tracks[row].key for row in (3, 4)]
    assert validation.held_out == ()


def test_an_unknown_policy_for_leaks_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match=r"unknown policy for leaks 'ignore' \(known: refuse, drop, keep\)"):
        experiment.train("own", tmp_path, leaks="ignore")


def test_a_training_and_its_evaluation_are_one_call_each(corpus, corpus_store, tmp_path):
    config = TrainConfig.for_head("linear").updated({"epochs": "3"})
    notes = []
    trained = experiment.train("jamendo", corpus.root, corpus_store.root, config, out=tmp_path / "t", note=notes.append)
    found = experiment.evaluate(
        tmp_path / "t", corpus.root, corpus_store, rounds=0, out=tmp_path / "r", note=notes.append
    )
    assert found.metrics == experiment.evaluate(trained, corpus.root, corpus_store, rounds=0).metrics
    assert notes == [f"{tmp_path / 'r' / 'report.html'} written"]
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"scores.json", "per_target.csv", "report.html"}
