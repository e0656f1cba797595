"""Evaluations made by hand, for tests of figures and pages."""

import numpy as np

from jamendo_mood.datasets.dataset import Track
from jamendo_mood.evaluation.evaluate import Evaluation, evaluate_predictions, score_predictions
from jamendo_mood.tasks import Task, kind, metrics
from jamendo_mood.training.data import Examples

NO_POSITIVES, NEVER_GIVEN = 2, 1


def make_evaluation(count, *, rows=200, seed=0, names=None, intervals=True):
    """Tags of falling frequency, told apart more or less well; of three or more, one is true of no example.

    One tag, where there are several, is never given: its threshold is infinite, as one that could not be thresholds.
    """
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1, 1.5, (rows, count)) - np.linspace(0, 1, count)
    truth = rng.random((rows, count)) < 1 / (1 + np.exp(-odds))
    if count > NO_POSITIVES:
        truth[:, NO_POSITIVES] = False
    predictions = (1 / (1 + np.exp(-odds - rng.normal(0, rng.uniform(0.2, 3, count), odds.shape)))).astype(np.float32)
    thresholds = np.full(count, 0.4)
    if count > NEVER_GIVEN:
        thresholds[NEVER_GIVEN] = np.inf
    decisions = predictions >= thresholds
    tags = tuple(names or (f"tag {number}" for number in range(count)))
    scores = score_predictions(truth, predictions, tags, decisions=decisions, thresholds=thresholds)
    grades = metrics.grade_tags(truth, predictions)
    per_target = [
        {**row, "grade": grade, "artists": row["positives"]}
        for row, grade in zip(scores.per_target, grades, strict=True)
    ]
    if intervals:
        per_target = [{**row, **make_interval(row["PR-AUC"])} for row in per_target]
    figures = {**scores.metrics, **kind.score_calibration(truth, predictions)}
    ends = {"PR-AUC-macro": (0.25, 0.75)} if intervals else {}
    arrays = {"truth": truth, "predictions": predictions, "decisions": decisions}
    return Evaluation(figures, tuple(per_target), rows, ends, **arrays)


def make_interval(figure):
    low, high = (None, None) if figure is None else (0.8 * figure, 0.1 + 0.9 * figure)
    return {"PR-AUC-low": low, "PR-AUC-high": high}


def make_class_evaluation(count, *, rows=200, seed=0, names=None, rounds=20):
    """Classes of falling frequency, told apart more or less well; of four or more, no example is of the last."""
    rng = np.random.default_rng(seed)
    shares = np.linspace(2, 1, count)
    shares[-1] *= count < 4
    labels = rng.choice(count, rows, p=shares / shares.sum())
    Y = np.eye(count, dtype=np.float32)[labels]
    odds = 2 * Y + rng.normal(0, 1, Y.shape)
    scores = (np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)).astype(np.float32)
    task = Task("toy", "classes", tuple(names or (f"class {number}" for number in range(count))))
    examples = Examples(_none(rows), Y, make_artists(rows, 3), task.targets)
    return evaluate_predictions(task, examples, scores, task.rules.decide(scores, np.zeros(count)), rounds=rounds)


def make_value_evaluation(count=2, *, rows=200, seed=0, names=None, songs=0, rounds=20):
    """Values from 1 to 9, the first predicted best; `rows` moments of `songs`, the first of which never changes."""
    rng = np.random.default_rng(seed)
    names = tuple(names or ("valence", "arousal", *(f"value {number}" for number in range(2, count)))[:count])
    length = rows // songs if songs else 1
    tracks = make_artists(songs or rows, 2)
    owners = np.repeat(np.arange(songs or rows), length)
    levels = np.repeat(rng.normal(5, 1.2, (songs or rows, count)), length, axis=0)
    course = np.sin(np.arange(len(owners)) / 6)[:, None] * np.linspace(0.6, 0.3, count) * (owners > 0)[:, None]
    Y = np.clip(levels + course * bool(songs), 1, 9).astype(np.float32)
    noise = rng.normal(0, np.linspace(0.3, 1.5, count), Y.shape)
    scores = np.clip(5 + 0.7 * (Y - 5) + noise, 1, 9).astype(np.float32)
    times_s = np.tile(np.arange(length) / 2 + 15, songs).astype(np.float32) if songs else None
    task = Task("toy", "values", names, (1.0, 9.0), 2.0 if songs else None)
    examples = Examples(_none(len(Y)), Y, tuple(tracks[owner] for owner in owners), names, times_s)
    return evaluate_predictions(task, examples, scores, task.rules.decide(scores, np.zeros(count)), rounds=rounds)


def make_artists(count, each):
    return tuple(Track(f"{n}", f"{n:02d}/{n}.mp3", 30.0, f"artist {n // each}") for n in range(count))


def _none(count):
    return (np.zeros((1, 1), np.float32),) * count


def labels(axis):
    """The texts beside an axis of a picture."""
    return [label.get_text() for label in axis.get_ticklabels()]
