"""What `test_hostile_audio.py` starts: commands in a process of their own, that tells what they cost.

``hostile_runs.py OUTCOME TAGGER COMMANDS``: a file of a JSON list of lists of arguments; the tagger is made.
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np

from jamendo_mood.audio import ffmpeg
from jamendo_mood.cli.main import main
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.extraction import streaming
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.metrics import GRADES
from jamendo_mood.training.heads import HeadConfig, build_head
from jamendo_mood.training.model import Tagger


def make_tagger(folder: Path) -> None:
    """A tagger for `logmel` that has learned nothing, and is small: its memory is not what is looked at."""
    targets = ("calm", "loud")
    spec, config = load_embedder("logmel").spec, HeadConfig(hidden=16, layers=1)
    head = build_head(config, spec.dim, len(targets), "sigmoid")
    weights = tuple(np.asarray(array) for array in head.get_weights())
    task = Task("toy", "tags", targets)
    calibration = np.tile([1.0, 0.0], (len(targets), 1))
    thresholds, grades = np.full(len(targets), 0.5), (next(iter(GRADES)),) * len(targets)
    Tagger(task, spec, config, (weights,), calibration, thresholds, grades).save(folder)


def time_tracks() -> list[float]:
    """Note how long each track takes to decode."""
    decode, times_s = streaming._Decoders._decode, []

    def timed(*arguments: object) -> None:
        started = time.perf_counter()
        decode(*arguments)
        times_s.append(time.perf_counter() - started)

    streaming._Decoders._decode = timed
    return times_s


def peak_mb(pid: int | str) -> float:
    """The most memory that a process has had.

    `getrusage` would tell of its parent's too, which it shares until it becomes another program.
    """
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0  # none of a process that has ended


def watch_memory() -> list[float]:
    """Note the most memory that each run of ffmpeg has had, as often as it is looked after."""
    check, most_mb = ffmpeg._check, [0.0]

    def watched(talk: ffmpeg._Talk, *arguments: object) -> None:
        most_mb.append(peak_mb(talk._child.pid))
        check(talk, *arguments)

    ffmpeg._check = watched
    return most_mb


if __name__ == "__main__":
    outcome, tagger, commands = sys.argv[1:]
    if tagger != "none":
        make_tagger(Path(tagger))
    before_mb = peak_mb("self")
    times_s, ffmpeg_mb = time_tracks(), watch_memory()
    statuses = [main(command) for command in json.loads(Path(commands).read_text())]
    cost = {
        "statuses": statuses,
        "longest_s": max(times_s, default=0.0),
        "before_mb": before_mb,
        "own_mb": peak_mb("self"),
        "ffmpeg_mb": max(ffmpeg_mb),
    }
    Path(outcome).write_text(json.dumps(cost))
