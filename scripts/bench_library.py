"""How long a query of a library takes, and how much memory, at the size of MTG-Jamendo.

    python scripts/bench_library.py [--tracks 18486] [--dim 128] [--tags 56] [--rounds 100]

Scores and embeddings are random numbers, which cost as much as real ones; the target is 100 ms a query. Prints the
median and the worst time of each query in milliseconds, the time to prepare the library, and the peak of the process's
memory.
"""

import argparse
import resource
import sys
import time

import numpy as np

from jamendo_mood.library.similarity import Library


def make_library(tracks, dim, tags, rng):
    """Rare tags, many of whose scores are equal: ranks must tell ties."""
    scores = np.round(rng.beta(0.3, 10, (tracks, tags)), 4).astype(np.float32)
    means = rng.standard_normal((tracks, dim), dtype=np.float32)
    va = np.tanh(rng.standard_normal((tracks, 2)) / 3).astype(np.float32)
    keys = tuple(f"{n % 100:02d}/{n}" for n in range(tracks))
    return Library(keys, tuple(f"tag {n}" for n in range(tags)), scores, means, va, ("fair",) * tags)


def queries(library, count, rng):
    """Each kind of query, with something else asked for each time."""

    def point():
        return tuple(rng.uniform(-1, 1, 2))

    return {
        "similar to a track": lambda: library.similar(library.keys[rng.integers(len(library))], count),
        "similar to a new song": lambda: library.similar(rng.standard_normal(library.means.shape[1]), count),
        "by 3 moods": lambda: library.by_moods({f"tag {n}": rng.random() for n in (0, 5, 9)}, count),
        "by all moods": lambda: library.by_moods({name: rng.random() for name in library.targets}, count),
        "near a point": lambda: library.near(*point(), count),
        "along a path": lambda: library.along([point(), point(), point()], count),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=18_486, metavar="N")
    parser.add_argument("--dim", type=int, default=128, metavar="N")
    parser.add_argument("--tags", type=int, default=56, metavar="N")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="tracks asked for")
    parser.add_argument("--rounds", type=int, default=100, metavar="N")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    library = make_library(arguments.tracks, arguments.dim, arguments.tags, rng)
    started = time.perf_counter()
    library.prepare()
    print(f"{len(library)} tracks, prepared in {(time.perf_counter() - started) * 1000:.0f} ms")
    for name, ask in queries(library, arguments.count, rng).items():
        times_ms = []
        for _ in range(arguments.rounds):
            started = time.perf_counter()
            assert len(ask()) == arguments.count
            times_ms.append((time.perf_counter() - started) * 1000)
        print(f"{name:22} median {np.median(times_ms):6.2f} ms, worst {max(times_ms):6.2f} ms")
    arrays = (library.scores, library.means, library.va, library.levels, library.plane, library.directions)
    # Linux counts in kilobytes, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1 / 1024)
    print(f"{sum(array.nbytes for array in arrays) / 2**20:.0f} MB of arrays, {peak / 2**20:.0f} MB in all at the peak")


if __name__ == "__main__":
    main()
