"""Which embedder, and which head, for a task: heads x stores on the same folds; the tables of docs/embedders.md.

    python scripts/compare_embedders.py mirex MIREX-like/ embeddings/mirex-* --pairs
    python scripts/compare_embedders.py deam DEAM/ --heads svm,sklearn --metric R2

Each cell is `experiment.cross_validate` with a head as it is by default: a metric of the task, and its 95 % interval by
a bootstrap over artists. `sklearn` is scikit-learn's `SVC()` or `SVR()` as it is, on standardised means and
standard deviations; in its cells is also by how much the first head is ahead, paired. Without stores, the features that
come with the data are taken. `--pairs` puts the means of two stores one after the other, for the first head. Sizes are
kilobytes a minute of sound.
"""

import argparse
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from jamendo_mood import load_dataset
from jamendo_mood.evaluation.evaluate import evaluate_predictions
from jamendo_mood.evaluation.experiment import cross_validate, load_folds
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.data import POOLINGS
from jamendo_mood.training.fit import TrainConfig
from jamendo_mood.util.errors import MoodError


class Pair:
    """Two stores as one: a track is one row, its means in both."""

    def __init__(self, first, second):
        self.stores = (first, second)
        name, dim = (f"{first.spec.name}+{second.spec.name}", first.spec.dim + second.spec.dim)
        self.spec = replace(first.spec, name=name, window_s=None, hop_s=None, dim=dim)

    def __contains__(self, key):
        return all(key in store for store in self.stores)

    def __getitem__(self, key):
        return np.concatenate([POOLINGS["mean"](store[key]) for store in self.stores], axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("data", type=Path)
    parser.add_argument("stores", type=Path, nargs="*")
    parser.add_argument("--heads", default="svm,linear,mlp,attention", help="(default: %(default)s)")
    parser.add_argument("--metric", help="(default: the task's first)")
    parser.add_argument("--pairs", action="store_true", help="also two stores together")
    parser.add_argument("--folds", type=int, help="only so many of the folds: for a look")
    arguments = parser.parse_args()
    heads = arguments.heads.split(",")
    own = load_dataset(arguments.task, arguments.data).embeddings
    stores = [EmbeddingStore(path) for path in arguments.stores] or [own]
    print(f"| embedder | {' | '.join(f'`{head}`' for head in heads)} | kB a minute |")
    print("|---" * (len(heads) + 2) + "|")
    for store in stores:
        print(row(arguments, store, heads), flush=True)
    for pair in (Pair(*two) for two in combinations(stores, 2) if arguments.pairs):
        print(row(arguments, pair, heads[:1]), flush=True)


def row(arguments, embeddings, heads):
    found, cells = [], []
    for head in heads:
        found.append((by_sklearn if head == "sklearn" else by_us)(arguments, embeddings, head))
        figures, samples = found[-1]
        metric = arguments.metric or next(iter(figures))
        cells.append(figure(figures[metric], samples.intervals(figures)[metric]))
        if head == "sklearn" and len(found) > 1:
            ahead = next(one for one in found[0][1].compare(samples, found[0][0], figures) if one.figure == metric)
            cells[-1] += f", {figure(ahead.difference, ahead.interval, '+')}"
    return f"| `{embeddings.spec.name}` | {' | '.join(cells)} | {kilobytes_a_minute(embeddings)} |"


def figure(value, interval, sign=""):
    return f"{value:{sign}.3f} [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"


def by_us(arguments, embeddings, head):
    """What a head of ours reaches: the metrics, and those of bootstrap samples."""
    config = TrainConfig.for_head(head)
    if isinstance(embeddings, Pair):
        config = config.updated({"pooling": "mean"})
    pooled = cross_validate(
        *(arguments.task, arguments.data, embeddings, config), folds=arguments.folds, rounds=0, note=lambda _: None
    ).pooled
    return measure(arguments, *open_folds(arguments, embeddings), pooled.predictions, pooled.decisions)


def by_sklearn(arguments, embeddings, _):
    examples, folds = open_folds(arguments, embeddings)
    pooled = all(len(frames) == 1 for frames in examples.frames)
    X, y, _ = examples.to_arrays("mean" if pooled else "mean+std")
    model = make_pipeline(StandardScaler(), SVC() if y.ndim == 1 else MultiOutputRegressor(SVR()))
    guessed = np.concatenate([model.fit(X[learned], y[learned]).predict(X[tested]) for learned, tested in folds])
    if y.ndim == 1:
        guessed = np.eye(examples.Y.shape[1])[guessed]
    return measure(arguments, examples, folds, np.asarray(guessed, np.float32), guessed > 0)


def open_folds(arguments, embeddings):
    examples, folds = load_folds(arguments.task, arguments.data, embeddings, note=lambda _: None)
    return examples, folds[: arguments.folds]


def measure(arguments, examples, folds, predictions, decisions):
    """Metrics of what was predicted fold after fold, and those of bootstrap samples."""
    task, rows = load_dataset(arguments.task, arguments.data).task, np.concatenate([tested for _, tested in folds])
    predictions, decisions = (array[np.argsort(rows)] for array in (predictions, decisions))
    tested = examples.select(np.isin(np.arange(len(examples)), rows))
    artists, truth = [track.artist for track in tested.tracks], task.rules.to_truth(tested.Y)
    metrics = evaluate_predictions(task, tested, predictions, decisions, rounds=0).metrics
    return metrics, task.rules.bootstrap(truth, predictions, artists, decisions=decisions)


def kilobytes_a_minute(store):
    size = store.spec.dim * 4 / 1000
    return f"{60 / store.spec.hop_s * size:.3g}" if store.spec.hop_s else f"{size:.1f} a track"


if __name__ == "__main__":
    try:
        main()
    except MoodError as error:
        sys.exit(str(error))
