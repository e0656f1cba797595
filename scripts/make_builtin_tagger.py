"""Train the tagger that comes with the package: AudioSet's 7 music moods, small enough to ship.

    python scripts/make_builtin_tagger.py AUDIOSET_DIR

It is a narrower head than `jamendo-mood train --task audioset-moods` makes, with weights in half precision; its scores
on the test part are written into it. Same data, same machine: same files.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from jamendo_mood import evaluate, load_dataset, load_part
from jamendo_mood.cli.train import EpochLines
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.model import BUILTIN

CONFIG = TrainConfig().updated({"hidden": "256", "ensemble": "1"})


def main(root: Path) -> None:
    dataset = load_dataset("audioset-moods", root)
    train, watched = (
        load_part(dataset.broader, part, dataset.broader.embeddings) for part in (dataset.train, dataset.validation)
    )
    validation, test = (load_part(dataset, part, dataset.embeddings) for part in (dataset.validation, dataset.test))
    record = {"citation": dataset.citation, "licence": dataset.licence, "split": 0}
    whole = fit(
        *(train, validation, dataset.task, dataset.embeddings.spec, CONFIG),
        watched=watched,
        record=record,
        on_epoch=EpochLines(CONFIG),
    )
    halves = tuple(tuple(array.astype(np.float16) for array in weights) for weights in whole.weights)
    tagger = replace(whole, weights=halves)
    scores = evaluate(tagger, test)
    tested = {"part": dataset.test, "figures": scores.figures, "intervals": scores.intervals}
    replace(
        tagger,
        # 24 to 32 positives a mood, where validation has 3 to 9
        grades=tuple(row["grade"] for row in scores.per_target),
        record={**tagger.record, "tested": tested, "graded_on": dataset.test},
    ).save(BUILTIN)
    for name, figure in scores.figures.items():
        print(f"{name:18} {figure:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
