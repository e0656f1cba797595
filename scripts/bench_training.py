"""How long training takes, and how much memory, at the size of MTG-Jamendo's split-0.

    python scripts/bench_training.py [--tracks 9949] [--frames 220] [--tags 56] [--head attention]

Embeddings of random numbers: nothing can be learned from them, but they cost as much as real ones. The validation part
has the size of split-0's, in proportion. Prints seconds, also of the processor (in the program, in the kernel), and
the peak of the process's memory.
"""

import argparse
import resource
import sys
import time

import numpy as np

from jamendo_mood.cli.train import epoch_lines
from jamendo_mood.datasets.dataset import Track
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks import Task
from jamendo_mood.training.data import Examples
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.util.process import keep_memory

DIM, PRIOR = 128, 0.03
VALIDATION_SHARE = 3802 / 9949


def make_part(name, tracks, frames, tags, rng):
    """Tracks of about that many frames, from a tenth of it to twice as many."""
    lengths = np.clip(rng.normal(frames, frames / 4, tracks), frames / 10, frames * 2).astype(int)
    arrays = tuple(rng.standard_normal((length, DIM), dtype=np.float32) for length in lengths)
    Y = (rng.random((tracks, tags)) < PRIOR).astype(np.float32)
    described = tuple(Track(f"{name} {n}", f"{name}/{n}.mp3", None, f"{name} {n}") for n in range(tracks))
    return Examples(arrays, Y, described, tuple(f"tag {n}" for n in range(tags)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=9949, metavar="N")
    parser.add_argument("--frames", type=int, default=220, metavar="N", help="a track, on average")
    parser.add_argument("--tags", type=int, default=56, metavar="N")
    parser.add_argument("--head", default="attention")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    train = make_part("train", arguments.tracks, arguments.frames, arguments.tags, rng)
    validation = make_part(
        "validation", round(arguments.tracks * VALIDATION_SHARE), arguments.frames, arguments.tags, rng
    )
    config = TrainConfig.for_head(arguments.head)
    keep_memory()  # as the command does
    started = time.perf_counter()
    fit(
        train,
        validation,
        Task("bench", "tags", train.targets),
        EmbedderSpec("bench", "", 16_000, 0.96, 0.96, DIM),
        config,
        on_epoch=epoch_lines(),
    )
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Linux counts in kilobytes, macOS in bytes.
    peak = used.ru_maxrss / (1 if sys.platform == "darwin" else 1 / 1024)
    print(
        f"{arguments.head}: {len(train)} tracks of {arguments.frames} frames: {seconds:.0f} s, "
        f"processor {used.ru_utime:.0f} + {used.ru_stime:.0f} s, {peak / 2**30:.2f} GB"
    )


if __name__ == "__main__":
    main()
