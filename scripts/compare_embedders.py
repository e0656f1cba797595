"""Which embedder for a task: heads x stores, and pairs of stores, on the same folds; the table of docs/embedders.md.

    python scripts/compare_embedders.py mirex MIREX-like/ embeddings/mirex-*
    python scripts/compare_embedders.py mirex MIREX-like/ embeddings/mirex-* --heads svm,linear,mlp,attention

Each cell is `experiment.cross_validate` with a head as it is by default: the first metric of the task, and its 95 %
interval by a bootstrap over artists. Of a pair of stores, mean and standard deviation of both are put one after the
other, and the head is the first of those named. Sizes are kilobytes a minute of sound.
"""

import argparse
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from jamendo_mood.evaluation.experiment import cross_validate
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.data import POOLINGS
from jamendo_mood.training.fit import TrainConfig


class Pair:
    """Two stores as one: a track is one row, its mean and standard deviation in both."""

    def __init__(self, first, second):
        self.stores = (first, second)
        name, dim = (f"{first.spec.name}+{second.spec.name}", 2 * (first.spec.dim + second.spec.dim))
        self.spec = replace(first.spec, name=name, window_s=None, hop_s=None, dim=dim)

    def __contains__(self, key):
        return all(key in store for store in self.stores)

    def __getitem__(self, key):
        return np.concatenate([POOLINGS["mean+std"](store[key]) for store in self.stores], axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("data", type=Path)
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--heads", default="svm,linear,mlp,attention", help="(default: %(default)s)")
    parser.add_argument("--folds", type=int, help="only so many of the folds: for a look")
    arguments = parser.parse_args()
    heads, stores = arguments.heads.split(","), [EmbeddingStore(path) for path in arguments.stores]
    print(f"| embedder | {' | '.join(f'`{head}`' for head in heads)} | kB a minute |")
    print("|---" * (len(heads) + 2) + "|")
    for store in stores:
        cells = [cell(arguments, store, TrainConfig.for_head(head)) for head in heads]
        print(f"| `{store.spec.name}` | {' | '.join(cells)} | {kilobytes_a_minute(store)} |", flush=True)
    for pair in (Pair(*two) for two in combinations(stores, 2)):
        config = TrainConfig.for_head(heads[0]).updated({"pooling": "mean"})
        empty = " | " * (len(heads) - 1)
        print(f"| `{pair.spec.name}` | {cell(arguments, pair, config)}{empty} | |", flush=True)


def cell(arguments, embeddings, config):
    found = cross_validate(
        *(arguments.task, arguments.data, embeddings, config), folds=arguments.folds, note=lambda _: None
    ).pooled
    metric, figure = next(iter(found.metrics.items()))
    low, high = found.intervals[metric]
    return f"{figure:.3f} [{low:.3f}, {high:.3f}]"


def kilobytes_a_minute(store):
    size = store.spec.dim * 4 / 1000
    return f"{60 / store.spec.hop_s * size:.0f}" if store.spec.hop_s else f"{size:.1f} a track"


if __name__ == "__main__":
    main()
