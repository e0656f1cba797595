"""Can the moods' scores be taken at their word? On three times the segments of `eval_public`: 25 minutes.

    python scripts/check_calibration.py AUDIOSET_DIR

Four taggers, as `train --task audioset-moods` makes them, learn three quarters of `bal_train` each and are tested on
the fourth; one learns all of it and is tested on `eval_public`. The table of docs/commands/evaluate.md.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from jamendo_mood.datasets.audioset import LABELS_NAME, TEST, TRAIN
from jamendo_mood.evaluation.experiment import evaluate, train
from jamendo_mood.tasks.kind import bin_scores, score_calibration
from jamendo_mood.tasks.metrics import LOOKED_AT, bootstrap_tags
from jamendo_mood.util.errors import MoodError

QUARTERS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audioset", type=Path, help=f"folder with {TRAIN}.npz, {TEST}.npz and {LABELS_NAME}")
    folder = parser.parse_args().audioset
    public = test(folder)
    print("| tested on | segments | scores above 0.1 | ECE | ECE-luck |\n|---|---|---|---|---|")
    print(row(f"`{TEST}`", [public]), flush=True)
    quarters = [test(quarter) for quarter in make_quarters(folder)]
    print(row(f"four quarters of `{TRAIN}`", quarters))
    print(row("all of these", [public, *quarters]))


def make_quarters(folder):
    """Folders with one quarter of the training part after the other to test on; the same sound is in one quarter."""
    arrays = dict(np.load(folder / f"{TRAIN}.npz"))
    sounds = [hashlib.sha256(segment.tobytes()).digest() for segment in arrays["embeddings"]]
    quarter = np.array([sound[0] % QUARTERS for sound in sounds])
    for number in range(QUARTERS):
        with TemporaryDirectory() as made:
            shutil.copy(folder / LABELS_NAME, made)
            for part, rows in ((TRAIN, quarter != number), (TEST, quarter == number)):
                np.savez(Path(made) / f"{part}.npz", **{name: array[rows] for name, array in arrays.items()})
            yield Path(made)


def test(folder):
    found = evaluate(train("audioset-moods", folder), folder, rounds=0)
    return found.truth, found.predictions


def row(name, tested):
    truth, scores = map(np.concatenate, zip(*tested, strict=True))
    figures, count = score_calibration(truth, scores), int(bin_scores(truth, scores, LOOKED_AT).count.sum())
    low, high = bootstrap_tags(truth, scores, np.arange(len(truth))).intervals(figures)["ECE"]
    error = f"{figures['ECE']:.3f} [{low:.3f}, {high:.3f}]"
    return f"| {name} | {len(truth):,} | {count:,} | {error} | {figures['ECE-luck']:.3f} |"


if __name__ == "__main__":
    try:
        main()
    except MoodError as error:
        sys.exit(str(error))
