"""Evaluations of made-up scores, for tests of figures and pages."""

from html.parser import HTMLParser

import numpy as np

from jamendo_mood.datasets.dataset import Track
from jamendo_mood.evaluation.evaluate import evaluate_predictions
from jamendo_mood.tasks import Task
from jamendo_mood.training.data import Examples

NO_POSITIVES, NEVER_GIVEN = 2, 1


def make_evaluation(count, *, names=None, rounds=20):
    """Tags of falling frequency, told apart more or less well; of three or more, one is true of no example.

    One tag, where there are several, is never given: its threshold is infinite.
    """
    rng, rows = np.random.default_rng(0), 200
    odds = rng.normal(-1, 1.5, (rows, count)) - np.linspace(0, 1, count)
    truth = rng.random((rows, count)) < 1 / (1 + np.exp(-odds))
    truth[:, NO_POSITIVES : NO_POSITIVES + 1] = False
    scores = 1 / (1 + np.exp(-odds - rng.normal(0, rng.uniform(0.2, 3, count), odds.shape)))
    thresholds = np.full(count, 0.4)
    thresholds[NEVER_GIVEN : NEVER_GIVEN + 1] = np.inf
    task = Task("toy", "tags", tuple(names or (f"tag {number}" for number in range(count))))
    return _evaluate(task, truth, scores, make_artists(rows, 3), rounds, thresholds)


def make_class_evaluation(count, *, names=None, rounds=20):
    """Classes of falling frequency, told apart more or less well; of four or more, no example is of the last."""
    rng, rows = np.random.default_rng(0), 200
    shares = np.linspace(2, 1, count)
    shares[-1] *= count < 4
    Y = np.eye(count)[rng.choice(count, rows, p=shares / shares.sum())]
    odds = 2 * Y + rng.normal(0, 1, Y.shape)
    scores = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    task = Task("toy", "classes", tuple(names or (f"class {number}" for number in range(count))))
    return _evaluate(task, Y, scores, make_artists(rows, 3), rounds)


def make_value_evaluation(count=2, *, rows=200, names=None, songs=0, rounds=20):
    """Values from 1 to 9, the first predicted best; `rows` moments of `songs`, the first of which never changes."""
    rng = np.random.default_rng(0)
    names = tuple(names or ("valence", "arousal", *(f"value {number}" for number in range(2, count)))[:count])
    length = rows // songs if songs else 1
    owners = np.repeat(np.arange(songs or rows), length)
    levels = rng.normal(5, 1.2, (songs or rows, count))[owners]
    course = np.sin(np.arange(len(owners)) / 6)[:, None] * np.linspace(0.6, 0.3, count) * (owners > 0)[:, None]
    Y = np.clip(levels + course * bool(songs), 1, 9)
    scores = np.clip(5 + 0.7 * (Y - 5) + rng.normal(0, np.linspace(0.3, 1.5, count), Y.shape), 1, 9)
    times_s = np.tile(np.arange(length) / 2 + 15, songs).astype(np.float32) if songs else None
    task = Task("toy", "values", names, (1.0, 9.0), 2.0 if songs else None)
    tracks = make_artists(songs or rows, 2)
    return _evaluate(task, Y, scores, tuple(tracks[owner] for owner in owners), rounds, times_s=times_s)


def _evaluate(task, Y, scores, tracks, rounds, thresholds=None, times_s=None):
    examples = Examples((), Y.astype(np.float32), tracks, task.targets, times_s)
    scores = scores.astype(np.float32)
    decisions = task.rules.decide(scores, np.zeros(len(task.targets)) if thresholds is None else thresholds)
    return evaluate_predictions(task, examples, scores, decisions, thresholds=thresholds, rounds=rounds)


def make_artists(count, each):
    return tuple(Track(f"{n}", f"{n:02d}/{n}.mp3", 30.0, f"artist {n // each}") for n in range(count))


def labels(axis):
    """The texts beside an axis of a picture."""
    return [label.get_text() for label in axis.get_ticklabels()]


VOID = {"meta", "img"}


class Page(HTMLParser):
    """What is in a page: its elements, images, tables as rows of text, and attributes that run something.

    Every element must be closed.
    """

    def __init__(self, text):
        super().__init__()
        self.names, self.images, self.tables, self.open, self.texts, self.handlers = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        self.handlers += [key for key, value in attributes if key.startswith("on") or "javascript:" in (value or "")]
        if name == "img":
            self.images.append(dict(attributes))
        if name not in VOID:
            self.open.append(name)
        if name == "table":
            self.tables.append([])
        elif name == "tr":
            self.tables[-1].append([])
        elif name in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        self.texts.append(text)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += text
