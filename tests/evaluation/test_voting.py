import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from toy_examples import make_tagger, make_tracks

from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.evaluation.evaluate import evaluate, vote
from jamendo_mood.extraction.streaming import extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tasks import Task
from jamendo_mood.training.data import Examples
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus", "toy_commands"]

TAGS = Task("toy", "tags", ("red", "green"))
CLASSES = Task("toy-classes", "classes", ("a", "b", "c"))


@dataclass(frozen=True)
class Oracle:
    """A tagger whose scores are the embeddings."""

    task: Task
    thresholds: np.ndarray

    def score(self, frames):
        return np.stack([track[0] for track in frames])

    def decide(self, scores):
        return self.task.rules.decide(scores, self.thresholds)


def make_member(task, scores, Y):
    frames = tuple(np.array([row], np.float32) for row in scores)
    examples = Examples(frames, np.array(Y, np.float32), make_tracks(len(frames)), task.targets)
    return Oracle(task, np.full(len(task.targets), 0.5)), examples


def test_a_tag_is_decided_by_more_than_half():
    Y = [[1, 0], [0, 1], [1, 1], [0, 0]]
    scores = (
        [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.1, 0.6]],
        [[0.6, 0.6], [0.1, 0.6], [0.6, 0.4], [0.6, 0.1]],
        [[0.1, 0.1], [0.9, 0.1], [0.9, 0.4], [0.1, 0.1]],
    )
    members = {name: make_member(TAGS, own, Y) for name, own in zip("xyz", scores, strict=True)}
    found = vote(members, rounds=0)
    assert list(found) == ["x", "y", "z", "vote"]
    assert found["vote"].decisions.tolist() == [[True, False], [False, True], [True, False], [False, False]]
    np.testing.assert_allclose(found["vote"].predictions, np.mean(scores, axis=0), rtol=1e-6)
    half = vote({name: members[name] for name in "xy"}, rounds=0)
    assert half["vote"].decisions.tolist() == [[True, False], [False, True], [True, False], [False, False]]
    for name, (tagger, examples) in members.items():
        assert found[name].metrics == evaluate(tagger, examples, rounds=0).metrics


def test_the_class_that_most_choose_wins_though_another_scores_higher():
    scores = (
        [[0.4, 0.3, 0.3], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]],
        [[0.4, 0.3, 0.3], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.1, 0.7, 0.2]],
        [[0.0, 0.9, 0.1], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7]],
    )
    Y = np.eye(3)[[0, 1, 2, 0]]
    members = {name: make_member(CLASSES, own, Y) for name, own in zip("xyz", scores, strict=True)}
    found = vote(members, rounds=0)
    chosen = found["vote"].decisions.argmax(axis=1)
    # Row 0: a has two votes, and b the higher mean. Rows 1 and 3: a vote each, so the highest mean of all.
    assert chosen.tolist() == [0, 1, 2, 1]
    assert (found["vote"].decisions.sum(axis=1) == 1).all()
    assert found["vote"].metrics["accuracy"] == pytest.approx(0.75)
    assert found["x"].metrics["accuracy"] == pytest.approx(1.0)


def test_a_vote_needs_two_for_one_task_and_the_same_tracks():
    one = make_member(TAGS, [[0.9, 0.1], [0.1, 0.9]], [[1, 0], [0, 1]])
    for members, message in (
        ({"x": one}, "needs two taggers or more"),
        ({"x": one, "vote": one}, "no tagger can be called 'vote'"),
        ({"x": one, "y": make_member(CLASSES, np.eye(3), np.eye(3))}, "x and y are for different tasks"),
        ({"x": one, "y": make_member(TAGS, [[0.9, 0.1]], [[1, 0]])}, "x and y are not evaluated on the same tracks"),
    ):
        with pytest.raises(UsageError, match=message):
            vote(members)


def test_the_command_tells_the_figures_of_each_and_of_the_vote(run, corpus, corpus_store, tagger_folder, tmp_path):
    """The members have stores of different embedders: the second sees patches."""
    embedder = load_embedder("mfcc-patches")
    store = EmbeddingStore(tmp_path / "mfcc", embedder.spec)
    tested = {corpus.dataset.tracks[row].key for row in corpus.dataset.rows("test")}
    extract({key: path for key, path in find_audio(corpus.audio).items() if key in tested}, embedder, store)
    other = tmp_path / "other"
    tagger = make_tagger(corpus.dataset.task, embedder.spec, HeadConfig("cnn", hidden=8))
    replace(tagger, thresholds=np.full(5, 0.5)).save(other)
    members = (f"{tagger_folder}={corpus_store.root}", f"{other}={store.root}")
    outcome = run("vote", *members, "--data", corpus.root, "--rounds", 0, "--format", "json")
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    assert list(found) == [str(tagger_folder), str(other), "vote"]
    alone = run("evaluate", other, "--data", corpus.root, "--store", store.root, "--rounds", 0, "--format", "json")
    assert found[str(other)]["PR-AUC-macro"] == json.loads(alone.out)["PR-AUC-macro"]
    table = run("vote", *members, "--data", corpus.root, "--rounds", 0)
    assert f"A = {tagger_folder}\nB = {other}\n" in table.out
    (line,) = (line.split() for line in table.out.splitlines() if line.startswith("PR-AUC-macro"))
    assert [float(cell) for cell in line[1:]] == pytest.approx(
        [own["PR-AUC-macro"] for own in found.values()], abs=1e-4
    )


def test_wrong_use_of_the_command(run, corpus, corpus_store, tagger_folder, tmp_path):
    member = f"{tagger_folder}={corpus_store.root}"
    again = shutil.copytree(tagger_folder, tmp_path / "again")
    for members, message in (
        ((member,), "a vote needs two taggers or more"),
        ((member, member), "given twice: each tagger has one vote"),
        ((member, str(again)), "is not of the form NAME=VALUE"),
        ((member, f"{again}={tmp_path / 'nowhere'}"), "no embedding store there"),
    ):
        run("vote", *members, "--data", corpus.root).check_error("vote", message)
