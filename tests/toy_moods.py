"""Songs with an embedding each and a tagger that decides them, for tests that write moods: no network, no training."""

import os
import shutil

import numpy as np
from toy_examples import DIM, SPEC

from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.kind import IDENTITY
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.training.model import Tagger

TASK = Task("toy", "tags", ("happy", "Sad music", "calm", "dark"))
GRADES = ("good", "fair", "weak", "unknown")
LONG_AGO_S = 1_000_000_000


def make_tagger(task=TASK, thresholds=0.5, grades=GRADES, spec=SPEC, bias=0.0):
    """A linear tagger: target i is decided where number i of an embedding is above 0, or the bias says so."""
    count = len(task.targets)
    layer = (np.zeros(spec.dim, np.float32), np.ones(spec.dim, np.float32), np.zeros((), np.int64))
    weights = (*layer, 4 * np.eye(spec.dim, count, dtype=np.float32), np.full(count, bias, np.float32))
    calibration, thresholds = np.tile(IDENTITY, (count, 1)), np.full(count, thresholds)
    return Tagger(task, spec, HeadConfig("linear", "mean"), (weights,), calibration, thresholds, grades[:count])


def make_library(folder, song, moods, suffix=".mp3"):
    """A folder of copies of a song, written to long ago, and a store of embeddings that are these moods; its root."""
    store = EmbeddingStore(folder.parent / "store", SPEC)
    for name, wanted in moods.items():
        put(song, folder / f"{name}{suffix}")
        row = [1 if target in wanted else -1 for target in TASK.targets] * np.linspace(0.5, 0.4, DIM)
        store.add(name, row[None].astype(np.float32))
    return store.root


def put(song, path):
    """Copy a song, as if that were long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(song, path)
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path
