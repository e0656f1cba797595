"""What `test_hostile_audio.py` starts: commands in a process of their own, that tells what they cost.

``hostile_runs.py OUTCOME COMMANDS``: a file to write, and one of a JSON list of lists of arguments.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from jamendo_mood.audio import ffmpeg
from jamendo_mood.cli.main import main
from jamendo_mood.extraction import streaming

times_s, ffmpeg_mb = [0.0], [0.0]
decode, communicate = streaming.decode, subprocess.Popen.communicate


def peak_mb(pid: int | str) -> float:
    """The most memory that a process has had; none of one that has ended.

    `getrusage` would tell of its parent's too, which it shares until it becomes another program.
    """
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else "")
    return int(found[1]) / 1024 if found else 0.0


def timed_decode(*arguments: object) -> Iterator[streaming.Chunk]:
    """Note how long each track takes to decode."""
    started = time.perf_counter()
    try:
        yield from decode(*arguments)
    finally:
        times_s.append(time.perf_counter() - started)


def watched_communicate(child: subprocess.Popen, *arguments: object, **options: object) -> tuple[bytes, bytes]:
    """Note the most memory that each run of ffmpeg has had, as often as it is looked after."""
    ffmpeg_mb.append(peak_mb(child.pid))
    return communicate(child, *arguments, **options)


if __name__ == "__main__":
    outcome, commands = map(Path, sys.argv[1:])
    streaming.decode, subprocess.Popen.communicate, ffmpeg._POLL_S = timed_decode, watched_communicate, 0.01
    before_mb = peak_mb("self")
    statuses = [main(command) for command in json.loads(commands.read_text())]
    more_mb = peak_mb("self") - before_mb
    cost = {"statuses": statuses, "longest_s": max(times_s), "more_mb": more_mb, "ffmpeg_mb": max(ffmpeg_mb)}
    outcome.write_text(json.dumps(cost))
