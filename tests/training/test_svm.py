"""Support vector machines: as good as scikit-learn's, calibrated by folds, saved as arrays."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.svm import SVC, SVR
from toy_examples import CLASSES, SPEC, TASK, VALUES, label_anew, make_examples

from jamendo_mood.training import svm
from jamendo_mood.training.data import POOLINGS
from jamendo_mood.training.fit import SMALL, TrainConfig, choose, fit
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError

CONFIG = TrainConfig.for_head("svm").updated({"clip": "0"})


def parts_for(task, counts=(200, 60, 100)):
    made = [make_examples(count, seed) for seed, count in enumerate(counts)]
    return made if task is TASK else [label_anew(examples, task) for examples in made]


def rows_of(*parts):
    return np.stack([POOLINGS["mean+std"](frames)[0] for part in parts for frames in part.frames])


@pytest.mark.parametrize(
    ("task", "figure", "least"), [(TASK, "PR-AUC-macro", 0.9), (CLASSES, "accuracy", 0.85), (VALUES, "CCC", 0.9)]
)
def test_every_kind_of_task_is_learned_and_saved_as_arrays(task, figure, least, tmp_path):
    train, validation, test = parts_for(task)
    tagger = fit(train, validation, task, SPEC, CONFIG)
    scores = tagger.score(test.frames)
    truth = task.rules.to_truth(test.Y)
    assert task.rules.score(truth, scores, tagger.decide(scores))[figure] > least
    assert tagger.scores[figure] == pytest.approx(
        task.rules.score(truth, scores, tagger.decide(scores))[figure], abs=0.1
    )
    tagger.save(tmp_path / "tagger")
    assert {path.suffix for path in (tmp_path / "tagger").iterdir()} == {".safetensors", ".json", ".md"}
    assert "Learned from 260 tracks, validated by folds of them" in (tmp_path / "tagger" / "README.md").read_text()
    np.testing.assert_array_equal(Tagger.load(tmp_path / "tagger").score(test.frames), scores)


@pytest.mark.parametrize("task", [TASK, CLASSES, VALUES])
def test_the_machines_are_scikit_learns(task):
    train, validation, test = parts_for(task)
    tagger = fit(train, validation, task, SPEC, CONFIG.updated({"l2": "0.25", "pooling": "mean+std"}))  # C = 2
    X, Y = rows_of(train, validation), np.concatenate([train.Y, validation.Y])
    mean, spread = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-7)
    known, asked = ((rows - mean) / spread for rows in (X, rows_of(test)))

    def kernel(one, other):
        distances = np.abs(one[:, None] - other).mean(axis=-1)
        return np.exp(-distances) + 0.25 * one @ other.T / one.shape[1]

    if task is CLASSES:  # calibration shifts a class against another: a few songs lie between
        expected = SVC(C=2.0, kernel=kernel).fit(known, Y.argmax(axis=1)).predict(asked)
        assert (tagger.score(test.frames).argmax(axis=1) == expected).mean() > 0.9
        return
    plain = tagger if task is VALUES else replace(tagger, calibration=np.tile([1.0, 0.0], (3, 1)))
    raw = plain.score(test.frames)
    for column, truth in enumerate(Y.T):
        if task is VALUES:
            machine = SVR(C=2.0, epsilon=svm.EPSILON, kernel=kernel)
            expected = machine.fit(known, (truth - truth.mean()) / truth.std()).predict(asked)
            expected = expected * truth.std() + truth.mean()
        else:
            expected = expit(SVC(C=2.0, kernel=kernel).fit(known, truth).decision_function(asked))
        np.testing.assert_allclose(raw[:, column], expected, atol=0.01)


def test_what_it_is_judged_by_is_scored_by_machines_that_have_not_seen_the_artist():
    """Random targets: scores of what was learned would be far too good."""
    rng = np.random.default_rng(0)
    rows, Y = rng.standard_normal((200, 8), dtype=np.float32), (rng.random((200, 1)) < 0.5).astype(np.float32)
    twice = [np.concatenate([one, one]) for one in (rows, Y)]
    artists = [f"artist {n}" for n in range(200)] * 2
    *_, raw = svm.solve(*twice, artists, HeadConfig("svm", "mean"), TASK.rules)
    right = ((raw > 0.5) == (twice[1] > 0)).mean()
    assert 0.35 < right < 0.65


def in_order(examples, seed):
    """The same tracks, but of a track with the first tag frames are in order of their numbers: only changes tell it."""
    rng, Y = np.random.default_rng(seed), np.zeros_like(examples.Y)
    Y[::2, 0] = 1
    noise = rng.standard_normal((len(examples), 20, 4), dtype=np.float32)
    frames = tuple(np.sort(x, axis=0) if y[0] else x for x, y in zip(noise, Y, strict=True))
    return replace(examples, Y=Y, frames=frames)


def test_it_takes_the_way_to_one_row_that_its_folds_find_best_unless_that_is_told():
    train, validation, test = (in_order(part, seed) for seed, part in enumerate(parts_for(TASK)))
    tagger = fit(train, validation, TASK, SPEC, CONFIG)
    assert tagger.head.pooling == "mean+change"
    assert ((tagger.score(test.frames)[:, 0] > 0.5) == test.Y[:, 0]).mean() > 0.95
    assert fit(train, validation, TASK, SPEC, CONFIG.updated({"pooling": "mean"})).head.pooling == "mean"
    single = [replace(part, frames=tuple(frames[:1] for frames in part.frames)) for part in (train, validation)]
    assert fit(*single, TASK, SPEC, CONFIG).head.pooling == "mean"


def test_a_target_that_nothing_has_is_never_decided():
    train, validation, test = parts_for(TASK)
    for part in (train, validation):
        part.Y[:, 2] = 0
    tagger = fit(train, validation, TASK, SPEC, CONFIG)
    assert not tagger.decide(tagger.score(test.frames))[:, 2].any()


def test_the_head_depends_on_how_much_there_is_unless_it_is_named():
    assert choose(None, SMALL).head.name == "svm"
    assert choose(None, SMALL + 1).head.name == "attention"
    assert choose(CONFIG, SMALL + 1) is CONFIG


def test_what_it_cannot_learn_from_is_wrong_usage(monkeypatch):
    train, validation, _ = parts_for(TASK, (20, 10, 1))
    one = replace(train, tracks=tuple(replace(track, artist="one") for track in train.tracks))
    rows = rows_of(one)
    with pytest.raises(UsageError, match="needs two artists at least"):
        svm.solve(rows, one.Y, [track.artist for track in one.tracks], CONFIG.head, TASK.rules)
    monkeypatch.setattr(svm, "MAX_EXAMPLES", 29)
    with pytest.raises(UsageError, match="learns from 29 examples at most, and these are 30"):
        fit(train, validation, TASK, SPEC, CONFIG)


def test_it_is_trained_and_used_without_tensorflow():
    code = (
        "import sys\nfor name in ('tensorflow', 'keras'): sys.modules[name] = None\n"
        "from toy_examples import *\nfrom jamendo_mood.training.fit import fit\n"
        "tagger = fit(make_examples(60), make_examples(20, 1), TASK, SPEC)\n"
        "print(tagger.score_track(make_examples(1, 2).frames[0]).shape)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "(3,)\n", done.stderr
