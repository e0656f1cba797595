"""Altered copies of sound: noise, a later start, another gain, another pitch.

What is done to a copy is drawn from the seed, the track's key and the copy's number alone: the same on every machine,
in any order. Sound is altered in stretches of a minute, so that memory does not grow with length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from jamendo_mood.audio import ffmpeg
from jamendo_mood.audio.conversion import SAMPLE_RATE_HZ, Wave
from jamendo_mood.util.errors import AudioError, UsageError

MOST_SEMITONES = 12.0
_LEAD_SAMPLES = 512  # by which ffmpeg's atempo is early at 16 kHz: half its window
_TAIL_SAMPLES = 4_096  # more than what it keeps back at the end

Range = tuple[float, float]


@dataclass(frozen=True)
class Alteration:
    """What is done to one copy; of the sound, what is None or 0 stays as it was.

    Attributes
    ----------
    snr_db : float or None
        White noise, that much below the sound; of each minute by itself.
    shift_s : float
        Seconds that are left out at the start, at most half of what there is in the first minute.
    gain_db : float
    pitch_semitones : float
        Up or down, at the same tempo.
    """

    snr_db: float | None = None
    shift_s: float = 0.0
    gain_db: float = 0.0
    pitch_semitones: float = 0.0


@dataclass(frozen=True)
class WaveAugmentation:
    """What copies are made, each altered in its own way: the range that each number of an `Alteration` is drawn from.

    Attributes
    ----------
    copies : int
        Of each track.
    snr_db, shift_s, gain_db, pitch_semitones : (float, float) or None
        Least and greatest; None leaves the sound alone.
    seed : int
    """

    copies: int = 1
    snr_db: Range | None = (15.0, 40.0)
    shift_s: Range | None = (0.0, 5.0)
    gain_db: Range | None = (-9.0, 3.0)
    pitch_semitones: Range | None = (-2.0, 2.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1 or self.seed < 0:
            raise UsageError("copies must be from 1 up and the seed from 0 up")
        for name, ends in self.ranges().items():
            if ends is not None and not -np.inf < ends[0] <= ends[1] < np.inf:
                raise UsageError(f"{name} needs a least and a greatest number, not {ends}")
        if self.shift_s is not None and self.shift_s[0] < 0:
            raise UsageError("shift_s must be from 0 up: a copy starts later, not earlier")
        if self.pitch_semitones is not None and max(map(abs, self.pitch_semitones)) > MOST_SEMITONES:
            raise UsageError(f"pitch_semitones must be from -{MOST_SEMITONES:g} to {MOST_SEMITONES:g}")

    def ranges(self) -> dict[str, Range | None]:
        """The ranges, by the names of what is drawn from them."""
        return {field.name: getattr(self, field.name) for field in fields(Alteration)}

    def draw(self, key: str, number: int) -> tuple[Alteration, np.random.Generator]:
        """How copy `number` (from 1) of a track is altered, and the generator that its noise is to come from."""
        digest = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")
        # PCG64 by its name: numpy's default generator may become another.
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number, digest])))
        shares = rng.random(len(self.ranges()))  # all are drawn, so that one range does not move the others
        drawn = {
            name: ends[0] + share * (ends[1] - ends[0])
            for (name, ends), share in zip(self.ranges().items(), shares.tolist(), strict=True)
            if ends is not None
        }
        return Alteration(**drawn), rng

    def __str__(self) -> str:
        drawn = [f"{name} {ends[0]:g} to {ends[1]:g}" for name, ends in self.ranges().items() if ends is not None]
        return ", ".join([*drawn, f"seed {self.seed}"])


def alter(waves: Iterable[Wave], alteration: Alteration, rng: np.random.Generator) -> Iterator[Wave]:
    """Alter a track, stretch by stretch; the pitch first, noise last, so that the noise is as far below as is said.

    Parameters
    ----------
    waves : float32 arrays (samples,)
        Consecutive stretches at 16 kHz, range [-1, 1]; a minute each, whatever is to follow.
    alteration : Alteration
    rng : Generator
        The noise is drawn from it.

    Yields
    ------
    float32 array (samples,)
        Range [-1, 1]: what gain makes louder than full scale is clipped.
    """
    for number, wave in enumerate(waves):
        altered = start_later(wave, alteration.shift_s) if number == 0 else wave
        altered = change_gain(shift_pitch(altered, alteration.pitch_semitones), alteration.gain_db)
        if alteration.snr_db is not None:
            altered = add_noise(altered, alteration.snr_db, rng)
        yield np.clip(altered, -1, 1)


def start_later(wave: Wave, shift_s: float) -> Wave:
    """Leave out the first seconds, at most half of the wave: what an embedder sees as a window begins elsewhere."""
    return wave[min(round(shift_s * SAMPLE_RATE_HZ), len(wave) // 2) :]


def change_gain(wave: Wave, gain_db: float) -> Wave:
    """Make a wave louder or softer; it may leave [-1, 1]."""
    return np.asarray(wave * np.float32(10 ** (gain_db / 20)))


def add_noise(wave: Wave, snr_db: float, rng: np.random.Generator) -> Wave:
    """Add white noise whose power is `snr_db` below the wave's; silence stays silent."""
    if not len(wave):
        return wave
    level = np.sqrt(np.mean(np.square(wave), dtype=np.float64)) * 10 ** (-snr_db / 20)
    return np.asarray(wave + np.float32(level) * rng.standard_normal(len(wave), dtype=np.float32))


def shift_pitch(wave: Wave, semitones: float) -> Wave:
    """Move the pitch of a wave at the same tempo and length, by ffmpeg: faster sound, slowed down again.

    Parameters
    ----------
    wave : float32 array (samples,)
        At 16 kHz.
    semitones : float
        From -12 to 12. Upwards, the highest octaves go beyond 8 kHz and are lost; downwards, the top stays empty.

    Returns
    -------
    float32 array (samples,)
        Sounds lie where they were but for some 20 ms: ffmpeg looks for places where the wave fits itself (WSOLA).

    Raises
    ------
    AudioError
        ffmpeg failed.

    References
    ----------
    Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
    modification of speech", ICASSP 1993.
    """
    faster_hz = round(SAMPLE_RATE_HZ * 2 ** (semitones / 12))
    if faster_hz == SAMPLE_RATE_HZ or not len(wave):
        return wave
    filters = f"asetrate={faster_hz},aresample={SAMPLE_RATE_HZ},atempo={SAMPLE_RATE_HZ / faster_hz:.9f}"
    raw = ("-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1")
    padded = np.pad(wave, (_LEAD_SAMPLES, _TAIL_SAMPLES)).astype("<f4").tobytes()
    done = ffmpeg.run("-v", "error", *raw, "-i", "-", "-af", filters, *raw, "-", fed=padded)
    if done.status != 0:
        raise AudioError(f"ffmpeg cannot shift the pitch ({done.report.strip()})")
    shifted = np.frombuffer(done.output, "<f4")[: len(wave)].astype(np.float32)
    return np.pad(shifted, (0, len(wave) - len(shifted)))
