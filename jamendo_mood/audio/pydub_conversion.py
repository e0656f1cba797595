"""pydub, made to resample while it decodes, within the bounds of `ffmpeg.run`, and not to ask ffprobe.

Its own resampler, `set_frame_rate`, aliases, and what `from_file` is given as `parameters` never reaches the decoder.
So by itself it decodes at the full rate, into memory, writes that to a temporary file and has ffmpeg read it again:
half as much work again, and five times the memory.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jamendo_mood.audio import ffmpeg


@dataclass
class Decoding:
    """What `decoding_to` was asked for, and what ffmpeg gave, or raised."""

    options: tuple[str, ...]
    most_bytes: int
    done: ffmpeg.Done | None = None
    error: Exception | None = None


_decoding: ContextVar[Decoding | None] = ContextVar("_decoding", default=None)


@contextlib.contextmanager
def decoding_to(options: tuple[str, ...], most_bytes: int) -> Iterator[Decoding]:
    """Inside, `AudioSegment.from_file` gives what ffmpeg makes with these options of its output.

    That is for this thread alone: for others in the process, pydub is as it was.

    Raises
    ------
    TooMuchError
        It makes more than `most_bytes`, which pydub would keep in memory.
    AudioError, CancelledError, UsageError
        See `ffmpeg.run`.
    """
    decoding = Decoding(options, most_bytes)
    token = _decoding.set(decoding)
    try:
        yield decoding
    except Exception:
        if decoding.error is not None:
            raise decoding.error from None
        raise
    finally:
        _decoding.reset(token)


@functools.cache
def audio_segment(program: str) -> Any:
    """pydub's AudioSegment, told where ffmpeg is."""
    with warnings.catch_warnings():
        # It looks for ffmpeg, ffprobe and ffplay on the PATH and complains; it is told below.
        warnings.simplefilter("ignore")
        import pydub.audio_segment as module

    ask_ffprobe = getattr(module.mediainfo_json, "asks", module.mediainfo_json)

    def mediainfo_json(*args: Any, **kwargs: Any) -> Any:
        # ffprobe may not be there, its answer only makes pydub take more than 16 bits, and it has no bounds.
        return None if _decoding.get() else ask_ffprobe(*args, **kwargs)

    mediainfo_json.asks = ask_ffprobe  # type: ignore[attr-defined]
    module.subprocess = _Subprocess
    module.mediainfo_json = mediainfo_json
    module.AudioSegment.converter = program
    return module.AudioSegment


class _Subprocess:
    """Stands for `subprocess` in pydub's module."""

    PIPE = subprocess.PIPE

    @staticmethod
    def Popen(command: list[str], **streams: Any) -> Any:  # noqa: N802 (subprocess's name)
        decoding = _decoding.get()
        return subprocess.Popen(command, **streams) if decoding is None else _Run(command, decoding)


class _Run:
    """Stands for a process of pydub's: `ffmpeg.run`."""

    def __init__(self, command: list[str], decoding: Decoding) -> None:
        self.returncode = 1
        self._command, self._decoding = command, decoding

    def communicate(self, **_: object) -> tuple[bytes, bytes]:
        reading, output = self._command[1:-1], self._command[-1]
        decoding = self._decoding
        try:
            decoding.done = ffmpeg.run(
                "-v", "error", *reading, *decoding.options, output, most_bytes=decoding.most_bytes
            )
        except Exception as error:  # raised again by `decoding_to`: through pydub, it would leave the file open
            decoding.error = error
            return b"", b""
        self.returncode = decoding.done.status
        return decoding.done.output, decoding.done.report.encode()
