"""Progress bars on stderr, where results do not go; in a log file they are a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from jamendo_mood.util import plaintext


class TrackProgress:
    """A progress bar: tracks, x real time, failures, time left; with a `verb` there is a line at the end, too."""

    def __init__(self, total: int, verb: str = "") -> None:
        self._total, self._verb, self._audio_s, self._failed = total, verb, 0.0, 0

    def __enter__(self) -> TrackProgress:
        from tqdm import tqdm

        # A log file gets a line now and then, a terminal a bar that moves.
        interval_s = 0.1 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=self._total,
            unit="track",
            file=sys.stderr,
            mininterval=interval_s,
            dynamic_ncols=True,
            disable=self._total == 0,
        )
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.leave = self._bar.n > 0  # a run that could not start leaves its error alone on the screen
        self._bar.close()
        if self._verb and kind is None:
            wall_s = time.perf_counter() - self._started
            speed = self._audio_s / wall_s
            plaintext.note(f"{self._audio_s:.0f} s of sound {self._verb} in {wall_s:.2f} s ({speed:.0f}x real time)")

    def advance(self, duration_s: float, error: str = "") -> None:
        """Count one more track; a failure is told at once."""
        self._audio_s += duration_s
        if error:
            self._failed += 1
            self._bar.write(plaintext.show(f"failed: {error}"), file=sys.stderr)
        speed = self._audio_s / (time.perf_counter() - self._started)
        self._bar.set_postfix_str(f"{speed:.0f}x real time, {self._failed} failed", refresh=False)
        self._bar.update()


class CountProgress:
    """A progress bar of tracks scored, exported or the like; none appears where there is nothing to do."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Say how many tracks are done, of how many."""
        from tqdm import tqdm

        if self._bar is None:
            interval_s = 0.1 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(
                total=total, desc=self._doing, unit="track", file=sys.stderr, mininterval=interval_s, leave=False
            )
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
