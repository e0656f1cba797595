"""Bounds on what another process may take."""

from __future__ import annotations

import contextlib
import sys


def bound(pid: int, memory_bytes: int, cpu_s: float) -> None:
    """Bound the memory and the processor's time of a process, and let it leave no core; Linux alone can."""
    if sys.platform != "linux":
        return
    import resource

    limits = {resource.RLIMIT_DATA: memory_bytes, resource.RLIMIT_CPU: round(cpu_s), resource.RLIMIT_CORE: 0}
    for kind, most in limits.items():
        with contextlib.suppress(OSError, ValueError):  # it has ended, or has a lower limit already
            resource.prlimit(pid, kind, (most, most))
