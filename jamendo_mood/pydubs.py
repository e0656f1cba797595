"""pydub, made to resample while it decodes, and not to ask ffprobe.

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
from typing import Any

_options: ContextVar[tuple[str, ...]] = ContextVar("_options", default=())


@contextlib.contextmanager
def decoding_to(options: tuple[str, ...]) -> Iterator[None]:
    """Inside, `AudioSegment.from_file` gives what ffmpeg makes with these options of its output.

    That is for this thread alone: for others in the process, pydub is as it was.
    """
    token = _options.set(options)
    try:
        yield
    finally:
        _options.reset(token)


@functools.cache
def audio_segment(ffmpeg: str) -> Any:
    """pydub's AudioSegment, told where ffmpeg is."""
    with warnings.catch_warnings():
        # It looks for ffmpeg, ffprobe and ffplay on the PATH and complains; it is told below.
        warnings.simplefilter("ignore")
        import pydub.audio_segment as module

    ask_ffprobe = getattr(module.mediainfo_json, "asks", module.mediainfo_json)

    def mediainfo_json(*args: Any, **kwargs: Any) -> Any:
        # ffprobe may not be there, and its answer only makes pydub take more than 16 bits.
        return None if _options.get() else ask_ffprobe(*args, **kwargs)

    mediainfo_json.asks = ask_ffprobe  # type: ignore[attr-defined]
    module.subprocess = _Subprocess
    module.mediainfo_json = mediainfo_json
    module.AudioSegment.converter = ffmpeg
    return module.AudioSegment


class _Subprocess:
    """Stands for `subprocess` in pydub's module."""

    PIPE = subprocess.PIPE

    @staticmethod
    def Popen(command: list[str], **streams: Any) -> subprocess.Popen[bytes]:  # noqa: N802 (subprocess's name)
        if _options.get():
            *decode, output = command
            command, streams["stdin"] = [*decode, "-nostdin", *_options.get(), output], subprocess.DEVNULL
        return subprocess.Popen(command, **streams)
