"""An audio file -> blocks of 16 kHz mono, and `DECODERS`, the ways to get them.

``pydub`` is the usual one: ffmpeg decodes, in a process of its own, to a WAV in the scratch folder. ``libsndfile``
decodes and resamples in one pass in this process, without a file: two thirds of the work, so that a run gains where
decoding weighs most, in short clips. What it does not read, and surround sound, goes the other way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.audio import conversion, ffmpeg
from jamendo_mood.audio.conversion import SAMPLE_RATE_HZ, Wave
from jamendo_mood.util.errors import AudioError, LimitError, NoSoundError, UsageError
from jamendo_mood.util.files import Scratch

DEFAULT = "pydub"
_FRAMES_AT_ONCE = 1 << 18  # 6 s of CD sound, 2 MB
_MOST_CHANNELS = 2  # how more of them are mixed is ffmpeg's knowledge
_RATES_HZ = range(1_000, 1_000_000)  # from a header that says 1 Hz, 262,144 samples would become 17 GB

Blocks = Generator[Wave, None, None]
Decode = Callable[[Path, Scratch, int, int, float | None], Blocks]


def decode_with_pydub(
    path: Path, scratch: Scratch, block: int, overlap: int = 0, longest_s: float | None = None
) -> Blocks:
    """Yield a file as blocks that overlap; the WAV they are read from is gone after the last.

    Parameters
    ----------
    path : Path
    scratch : Scratch
    block, overlap : int
        See `conversion.read_blocks`, which tells what the blocks are, too.
    longest_s : float or None
        Seconds that are decoded at most.

    Raises
    ------
    AudioError
        The file is missing or cannot be decoded.
    LimitError
        It is longer than `longest_s`.
    DiskFullError
        The scratch folder has no room for it.
    """
    with conversion.converted(path, scratch, duration_s=None if longest_s is None else longest_s + 1) as wav:
        if longest_s is not None and conversion.count_samples(wav) > longest_s * SAMPLE_RATE_HZ:
            raise _too_long(path, longest_s)
        yield from conversion.read_blocks(wav, block, overlap)


def decode_with_libsndfile(
    path: Path, scratch: Scratch, block: int, overlap: int = 0, longest_s: float | None = None
) -> Blocks:
    """Yield a file as blocks that overlap, decoded as they are asked for; see `decode_with_pydub`.

    It runs in this process: a decoder's flaw would be this process's. For files from strangers take the other.

    Raises
    ------
    UsageError
        The extra ``fast`` is not installed.
    """
    soundfile, soxr = _libraries()
    if not path.is_file() or path.stat().st_size == 0:
        conversion.probe(path)  # says so
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(soundfile.SoundFile(os.fsencode(path)))
        except soundfile.LibsndfileError:
            file = None  # a format that it does not read, or no audio: the other decoder reads it, or says what it is
        if file is not None and file.channels <= _MOST_CHANNELS and file.samplerate in _RATES_HZ:
            try:
                yield from cut(_resample(file, soxr), path, block, overlap, longest_s or ffmpeg.LONGEST_S)
            except soundfile.LibsndfileError as error:
                raise AudioError(f"{path}: cannot be decoded ({error.error_string.strip('. ')})") from error
            return
    yield from decode_with_pydub(path, scratch, block, overlap, longest_s)


DECODERS: dict[str, Decode] = {DEFAULT: decode_with_pydub, "libsndfile": decode_with_libsndfile}


def check_decoder(name: str) -> None:
    """Say early what is in the way of a decoder.

    Raises
    ------
    UsageError
        It is not one of `DECODERS`, or what it needs is not installed.
    """
    if name not in DECODERS:
        raise UsageError(f"unknown decoder {name!r} (known: {', '.join(DECODERS)})")
    if DECODERS[name] is decode_with_libsndfile:
        _libraries()


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the decoder libsndfile needs the package {error.name}: pip install 'jamendo-mood[fast]'"
        ) from error
    return soundfile, soxr


def _resample(file: Any, soxr: Any) -> Iterator[Wave]:
    """The whole file at 16 kHz in one channel, as it comes."""
    resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE_HZ, 1, "float32", "HQ")
    last = False
    while not last:
        sound = file.read(_FRAMES_AT_ONCE, dtype="float32", always_2d=True)
        last = len(sound) < _FRAMES_AT_ONCE
        mono = sound[:, 0] if sound.shape[1] == 1 else sound.sum(axis=1) * np.float32(1 / sound.shape[1])
        # A decoder of 16 bits, such as pydub's, clips what is louder than full scale; samples that are no numbers
        # would spread.
        yield np.clip(np.nan_to_num(resampler.resample_chunk(np.ascontiguousarray(mono), last=last)), -1, 1)


def cut(
    waves: Iterable[Wave], path: Path, block: int, overlap: int = 0, longest_s: float | None = None
) -> Iterator[Wave]:
    """Waves of any length as blocks that overlap; see `decode_with_pydub`, `path` being what errors name."""
    kept, fresh = np.zeros(0, np.float32), 0
    for wave in waves:
        kept = np.concatenate([kept, wave])
        fresh += len(wave)
        if longest_s is not None and fresh > longest_s * SAMPLE_RATE_HZ:
            raise _too_long(path, longest_s)
        while len(kept) >= block:
            yield kept[:block]
            kept = kept[block - overlap :]
    if not fresh:
        raise NoSoundError(f"{path}: there is no sound in it (0 samples after decoding)")
    if len(kept) > (overlap if fresh >= block else 0):
        yield kept


def _too_long(path: Path, longest_s: float) -> LimitError:
    return LimitError(f"{path.name} goes on after {longest_s / 60:g} minutes, which is the limit here")
