"""Small arrays and records for tests that need no sound."""

from dataclasses import replace

import numpy as np

from jamendo_mood.datasets.dataset import Dataset, Track
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tagging.prediction import Prediction
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.kind import IDENTITY
from jamendo_mood.training.data import Examples
from jamendo_mood.training.heads import HEADS, HeadConfig, build_head
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.process import import_quietly

DIM = 4
NETWORKS = [name for name, head in HEADS.items() if head.build]  # not svm, which has tests of its own
TASK = Task("toy", "tags", ("red", "green", "blue"))
SPEC = EmbedderSpec("toy", "", 16_000, 0.96, 0.96, DIM)
OTHER_SPEC = EmbedderSpec("other", "", 16_000, 0.96, 0.96, DIM)


class ToyStore(dict):
    """Embeddings in memory: a dict with a spec."""

    spec = SPEC


def make_tracks(count: int, first: int = 0) -> tuple[Track, ...]:
    return tuple(Track(f"track_{n}", f"{n:02d}/{n}.mp3", 1.0, f"artist_{n}") for n in range(first, first + count))


def make_examples(count: int, seed: int = 0) -> Examples:
    """An easy problem: each tag is decided by the mean of one column, with a share of positives near three in ten.

    Tracks have from 1 to 5 frames; those of one seed share no track, artist or recording with those of another.
    """
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((count, DIM), dtype=np.float32)
    spreads = [rng.standard_normal((1 + row % 5, DIM), dtype=np.float32) / 4 for row in range(count)]
    frames = tuple(mean + spread - spread.mean(axis=0) for mean, spread in zip(means, spreads, strict=True))
    Y = (means[:, : len(TASK.targets)] > 0.5).astype(np.float32)
    return Examples(frames, Y, make_tracks(count, first=1000 * seed), TASK.targets)


def make_dataset(store: ToyStore, *, parts: dict[str, list[int]]) -> Dataset:
    """A data set of as many tracks as the store and the parts name; targets from a seed."""
    count = 1 + max(row for rows in parts.values() for row in rows)
    targets = np.random.default_rng(0).integers(0, 2, (count, len(TASK.targets))).astype(np.float32)
    rows = {part: np.array(numbers) for part, numbers in parts.items()}
    return Dataset(TASK, make_tracks(count), targets, rows, "none", "none")


def _predict(task: Task, frames: list[list[float]], grades: tuple[str, ...], decided: list[bool]) -> Prediction:
    scores = np.array(frames, np.float32)
    return Prediction(
        *("a.mp3", None, None, 10.0, task.targets),
        track_scores=scores.mean(axis=0),
        decided=np.array(decided),
        grades=grades,
        times_s=(np.arange(len(scores)) * 0.96).astype(np.float32),
        frame_scores=scores,
        kind=task.kind,
        scale=task.scale,
    )


def make_prediction(title: str | None = "Blue & Green <live>", artist: str | None = "The Toys") -> Prediction:
    """Three tags over four frames: green and red reach their thresholds, blue does not."""
    frames = [[0.1, 0.9, 0.3], [0.2, 0.8, 0.3], [0.9, 0.7, 0.3], [0.6, 0.6, 0.3]]
    made = _predict(TASK, frames, ("good", "fair", "weak"), [True, True, False])
    made = replace(made, track_scores=np.array([0.45, 0.75, 0.3], np.float32), thresholds=(0.4, 0.5, 0.6))
    return replace(made, source="songs/toy.mp3", title=title, artist=artist, duration_s=61.5)


CLASSES = Task("toy classes", "classes", ("north", "east", "south"))
VALUES = Task("toy values", "values", ("valence", "arousal"), (1.0, 9.0))
CURVES = Task("toy curves", "values", ("valence", "arousal"), (-1.0, 1.0), 2.0)


def label_anew(examples: Examples, task: Task) -> Examples:
    """The same sounds for another kind of task: what their means say, in classes or in values."""
    means = np.stack([frames.mean(axis=0) for frames in examples.frames])
    if task is CLASSES:
        Y = np.eye(3, dtype=np.float32)[means[:, :3].argmax(axis=1)]
    else:
        low, high = task.scale
        Y = np.clip((low + high) / 2 + (high - low) / 5 * means[:, :2], low, high).astype(np.float32)
    return replace(examples, Y=Y, targets=task.targets, kind=task.kind)


QUADRANTS = Task("toy", "classes", ("Q1", "Q2", "Q3", "Q4"))
COURSES = Task("toy", "values", ("arousal", "valence"), (-1.0, 1.0), 2.0)


def make_class_prediction() -> Prediction:
    """Four classes over two frames: the third is chosen."""
    frames = [[0.1, 0.2, 0.4, 0.3], [0.1, 0.0, 0.8, 0.1]]
    return _predict(QUADRANTS, frames, ("good", "fair", "good", "unknown"), [False, False, True, False])


def make_value_prediction() -> Prediction:
    """Valence 3 and arousal 7, from 1 to 9, over two frames."""
    return _predict(VALUES, [[2.0, 6.0], [4.0, 8.0]], ("weak", "good"), [True, True])


def make_tagger(task: Task, spec: EmbedderSpec = SPEC, config: HeadConfig | None = None, seed: int = 0) -> Tagger:
    """An untrained tagger with weights from a seed, whose values are all over their scale."""
    config, count = config or HeadConfig("linear", "mean"), len(task.targets)
    import_quietly("keras").utils.set_random_seed(seed)
    *weights, bias = build_head(config, spec.dim, count, task.rules.activation).get_weights()
    bias = bias + np.float32(0 if task.scale is None else sum(task.scale) / 2)
    none, identity = np.zeros((1, count), np.float32), np.tile(IDENTITY, (count, 1))
    calibration = identity if task.kind == "tags" else task.rules.calibrate(none, none, task.scale)
    return Tagger(task, spec, config, ((*weights, bias),), calibration, np.zeros(count), ("good",) * count)
