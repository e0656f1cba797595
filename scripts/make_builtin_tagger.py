"""Train the tagger that comes with the package: AudioSet's 7 music moods, small enough to ship.

    python scripts/make_builtin_tagger.py AUDIOSET_DIR

It is a narrower head than `jamendo-mood train --task audioset-moods` makes, with weights in half precision; its scores
on the test part are written into it. Same data, same machine: same files.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from jamendo_mood.cli.train import epoch_lines
from jamendo_mood.evaluation import experiment
from jamendo_mood.training.fit import TrainConfig
from jamendo_mood.training.model import BUILTIN

TEST_PART = "eval_public"
CONFIG = TrainConfig().updated({"hidden": "256", "wide": "512"})


def main(root: Path) -> None:
    whole = experiment.train("audioset-moods", root, config=CONFIG, on_epoch=epoch_lines())
    halves = tuple(tuple(array.astype(np.float16) for array in weights) for weights in whole.weights)
    tagger = replace(whole, weights=halves)
    scores = experiment.evaluate(tagger, root)
    tested = {"part": TEST_PART, "figures": scores.metrics, "intervals": scores.intervals}
    replace(
        tagger,
        # 24 to 32 positives a mood, where validation has 3 to 9
        grades=tuple(row["grade"] for row in scores.per_target),
        record={**tagger.record, "tested": tested, "graded_on": TEST_PART},
    ).save(BUILTIN)
    for name, figure in scores.metrics.items():
        print(f"{name:18} {figure:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
