"""What is done to a process: signals reported as one line, TensorFlow imported quietly, limits on children."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from jamendo_mood.util.errors import UsageError

CLEAN_UP_S = 10.0
"""For so long after a signal others are ignored, so that nothing interrupts the clean-up. After that they count."""

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt, by malloc.h
_IMPORTING = "<frozen importlib._bootstrap>"  # the file name of the code that imports


class _Watch:
    """Handles the signals; `kept` says what is left of what was done, `received` is the last signal or None."""

    def __init__(self) -> None:
        self.kept = "nothing was begun"
        self.received: int | None = None
        self.stderr = os.dup(2)  # stderr itself may be turned away, see `import_quietly`
        self._ignore_until_s = 0.0

    def handle(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() < self._ignore_until_s:
            return
        self._ignore_until_s = time.monotonic() + CLEAN_UP_S
        while frame is not None:
            # Within an import an exception might be lost: the process ends as if it were killed.
            if frame.f_code.co_filename == _IMPORTING:
                with contextlib.suppress(OSError):
                    os.write(self.stderr, (_describe(number, self.kept) + "\n").encode())
                os._exit(128 + number)
            frame = frame.f_back
        self.received = number
        sys.unraisablehook = lambda _: None  # such as what generators of TensorFlow say that it broke off
        raise KeyboardInterrupt


_watches: list[_Watch] = []  # one, while signals are caught


def catch() -> None:
    """From now on SIGINT and SIGTERM raise KeyboardInterrupt; within an import they end it, with 128 + number."""
    _watches.append(_Watch())
    _handle(_watches[0].handle)


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals, but for one that the process was started to ignore, as shells start what runs behind them."""
    for number in _WORDS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `handler`, and nothing else, while the block runs."""
    before = {number: signal.getsignal(number) for number in _WORDS}
    try:
        _handle(handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """`catch` the signals inside; where they are caught already, it changes nothing."""
    if _watches:
        yield
        return
    hook, watch = sys.unraisablehook, _Watch()
    _watches.append(watch)
    try:
        with handled(watch.handle):
            yield
    finally:
        sys.unraisablehook = hook
        os.close(_watches.pop().stderr)


def announce(kept: str) -> None:
    """Set what the line that reports a signal says of what was done."""
    _watches[0].kept = kept


def is_meant(error: BaseException) -> bool:
    """Whether an error comes from a signal; libraries turn a KeyboardInterrupt into errors of their own."""
    return isinstance(error, KeyboardInterrupt) or _watches[0].received is not None


def describe() -> tuple[str, int]:
    """The line that reports the signal, and the exit status."""
    watch = _watches[0]
    number = signal.SIGINT if watch.received is None else watch.received
    return _describe(number, watch.kept), 128 + number


def ignore() -> None:
    """Ignore signals from now on: the program is done, and only Python has to end."""
    for number in _WORDS:
        signal.signal(number, signal.SIG_IGN)


def end_now(line: str) -> NoReturn:
    """Say a line, and end the process with status 0, even from within an import; nothing else is cleaned up."""
    os.write(_watches[0].stderr if _watches else 2, (line + "\n").encode())
    os._exit(0)


def _describe(number: int, kept: str) -> str:
    return f"{_WORDS[signal.Signals(number)]}; {kept}"


def import_quietly(name: str) -> Any:
    """Import ``tensorflow``, ``keras``, ``tensorflow_hub`` or ``MNN``, silently where that is safe.

    A log level that the user has set (``TF_CPP_MIN_LOG_LEVEL``) stays; else only fatal errors are logged. The lines
    that TensorFlow writes to stderr before it looks at that level, and MNN to stdout, go nowhere if the main thread
    imports it. In another thread they are shown: these streams are the whole process's, and what the main thread writes
    meanwhile must not be lost.
    """
    if name in sys.modules:
        if name == "keras" and (backend := sys.modules[name].backend.backend()) != "tensorflow":
            raise UsageError(
                f"Keras computes by {backend} in this process, and here it must be TensorFlow: set "
                "KERAS_BACKEND=tensorflow before it is imported"
            )
        return sys.modules[name]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    quiet = threading.current_thread() is threading.main_thread()
    with _on_tensorflow(), _without_output() if quiet else contextlib.nullcontext():
        return importlib.import_module(name)


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Inside, what Python and C write to stdout and stderr goes nowhere."""
    streams = {number: os.dup(number) for number in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        _flush()
        for number in streams:
            os.dup2(nowhere, number)
        yield
    finally:
        _flush()
        for number, stream in streams.items():
            os.dup2(stream, number)
            os.close(stream)
        os.close(nowhere)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def _on_tensorflow() -> Iterator[None]:
    """Inside, Keras is imported to compute by TensorFlow, whatever the environment or ``keras.json`` say."""
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        yield
    finally:
        del os.environ["KERAS_BACKEND"]
        if before is not None:
            os.environ["KERAS_BACKEND"] = before


def count_cores() -> int:
    """How many cores this process may use: what the environment says, as a Ray actor's does, or what there are."""
    if (given := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        return max(1, int(given))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where C's library is GNU's: for commands that train.

    TensorFlow frees and asks for large tensors at each step, which otherwise go back to the kernel each time: up to
    half of the processor time of a training went into mapping them anew.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_MMAP_MAX, 0)  # nothing is mapped by itself
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def open_streams() -> None:
    """Make stdin, stdout and stderr usable however the program was started.

    One that is closed, as daemons and job schedulers may have them, leads nowhere; and a terminal that has no letter
    for something (Latin-1, ASCII) is shown its number instead, after all the work that led to it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def bound(pid: int, memory_bytes: int, cpu_s: float) -> None:
    """Bound the memory and the processor's time of a process, and let it leave no core; Linux alone can."""
    if sys.platform != "linux":
        return
    import resource

    limits = ((resource.RLIMIT_DATA, memory_bytes), (resource.RLIMIT_CPU, round(cpu_s)), (resource.RLIMIT_CORE, 0))
    for kind, most in limits:
        with contextlib.suppress(OSError, ValueError):  # it has ended, or has a lower limit already
            resource.prlimit(pid, kind, (most, most))
