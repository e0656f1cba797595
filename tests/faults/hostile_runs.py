"""What `test_hostile_audio.py` starts: commands in a process of their own, that tells what they cost.

``hostile_runs.py OUTCOME COMMANDS``: a file to write, and one of a JSON list of lists of arguments.
"""

import json
import re
import sys
import time
from pathlib import Path

from jamendo_mood.audio import ffmpeg
from jamendo_mood.cli.main import main
from jamendo_mood.extraction import streaming

times_s, ffmpeg_mb = [0.0], [0.0]
decode, check = streaming._Decoders._decode, ffmpeg._check


def peak_mb(pid: int | str) -> float:
    """The most memory that a process has had; none of one that has ended.

    `getrusage` would tell of its parent's too, which it shares until it becomes another program.
    """
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else "")
    return int(found[1]) / 1024 if found else 0.0


def timed_decode(*arguments: object) -> None:
    started = time.perf_counter()
    decode(*arguments)
    times_s.append(time.perf_counter() - started)


def watched_check(talk: ffmpeg._Talk, *arguments: object) -> None:
    ffmpeg_mb.append(peak_mb(talk._child.pid))
    check(talk, *arguments)


if __name__ == "__main__":
    outcome, commands = map(Path, sys.argv[1:])
    streaming._Decoders._decode, ffmpeg._check = timed_decode, watched_check
    before_mb = peak_mb("self")
    statuses = [main(command) for command in json.loads(commands.read_text())]
    more_mb = peak_mb("self") - before_mb
    cost = {"statuses": statuses, "longest_s": max(times_s), "more_mb": more_mb, "ffmpeg_mb": max(ffmpeg_mb)}
    outcome.write_text(json.dumps(cost))
