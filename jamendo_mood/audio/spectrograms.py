"""Log-mel spectrograms: the input of VGGish and YAMNet, and pictures to look at."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import decoding
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.audio.ffmpeg import AudioInfo
from jamendo_mood.util.errors import TooShortError, UsageError
from jamendo_mood.util.files import Scratch
from jamendo_mood.util.plaintext import Picture, empty_axes

WINDOW_S = 0.025
HOP_S = 0.010
MEL_BANDS = 64
LOWEST_HZ = 125.0
HIGHEST_HZ = 7_500.0
LOG_OFFSET = 0.01
PATCH_FRAMES = 96

WINDOW_SAMPLES = round(WINDOW_S * SAMPLE_RATE_HZ)  # 400
HOP_SAMPLES = round(HOP_S * SAMPLE_RATE_HZ)  # 160
FFT_LENGTH = 2 ** int(np.ceil(np.log2(WINDOW_SAMPLES)))  # 512
PATCH_HOP_SAMPLES = PATCH_FRAMES * HOP_SAMPLES  # 15,360: 0.96 s
PATCH_SAMPLES = (PATCH_FRAMES - 1) * HOP_SAMPLES + WINDOW_SAMPLES  # 15,600: what one patch needs

_STRETCH = 512  # frames whose spectra stay in a core's cache: half as fast again as all at once

Array = npt.NDArray[np.float32]


def log_mel(wave: Wave, offset: float = LOG_OFFSET) -> Array:
    """Log-mel spectrogram of a 16 kHz wave in [-1, 1]: float32 (samples,) -> (frames, 64), ``log(magnitude + offset)``.

    A frame each 10 ms, ``frames = 1 + (samples - 400) // 160``; none if shorter. With the offset silence has a
    logarithm.
    """
    return log_bands(wave, mel_matrix(), offset)


def log_bands(wave: Wave, weights: Any, offset: float = LOG_OFFSET) -> Array:
    """Log magnitudes of a 16 kHz wave in bands of the spectrum, (frames, bands); see `log_mel` and `band_sums`."""
    bands = band_sums(wave, weights, hann_window(), HOP_SAMPLES)
    bands += np.float32(offset)
    return np.log(bands, out=bands)


def band_sums(wave: Wave, weights: Any, window: Array, hop_samples: int, power: int = 1) -> Array:
    """Sum the spectrum of each frame of a wave in bands: float32 (samples,) -> (frames, bands).

    The sparse `weights` (257, bands) are those of each bin in each band, the window has up to 512 samples, and `power`
    is 1 for magnitudes, 2 for energies. ``frames = 1 + (samples - len(window)) // hop_samples``; none if the wave is
    shorter than the window.
    """
    if len(wave) < len(window):
        return np.zeros((0, weights.shape[1]), np.float32)
    import scipy.fft  # here: it takes as long to import as all the rest, and most commands need none of it

    frames = np.lib.stride_tricks.sliding_window_view(wave, len(window))[::hop_samples]
    bands = np.empty((len(frames), weights.shape[1]), np.float32)
    for start in range(0, len(frames), _STRETCH):
        stretch = slice(start, start + _STRETCH)
        spectrum = np.abs(scipy.fft.rfft(frames[stretch] * window, FFT_LENGTH))
        bands[stretch] = (spectrum if power == 1 else spectrum**power) @ weights
    return bands


def patches(wave: Wave, hop_frames: int = PATCH_FRAMES) -> Array:
    """Cut the `log_mel` of a wave into patches of 0.96 s, float32 (patches, 96, 64); by default they do not overlap.

    One begins every `hop_frames` frames of 10 ms. ``patches = 1 + (samples - 15600) // (160 hop_frames)``: the rest at
    the end is dropped, as in the reference.
    """
    return cut_patches(log_mel(wave), hop_frames)


def cut_patches(bands: Array, hop_frames: int = PATCH_FRAMES) -> Array:
    """Cut float32 (frames, bands) into patches (patches, 96, bands); the rest at the end is dropped."""
    if len(bands) < PATCH_FRAMES:
        return np.zeros((0, PATCH_FRAMES, bands.shape[1]), np.float32)
    every = np.lib.stride_tricks.sliding_window_view(bands, PATCH_FRAMES, axis=0)[::hop_frames]
    return np.ascontiguousarray(every.swapaxes(1, 2))


@functools.cache
def hann_window(samples: int = WINDOW_SAMPLES) -> Array:
    """Periodic Hann window, float32 (samples,)."""
    phase = 2 * np.pi * np.arange(samples) / samples
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


@functools.cache
def mel_matrix() -> Any:
    """Weights that turn a magnitude spectrum into mel bands, a sparse float32 (257, 64).

    Triangles with equal width on the mel scale, linear *in mel*, peak 1.
    """
    import scipy.sparse

    bins_mel = hz_to_mel(np.linspace(0, SAMPLE_RATE_HZ / 2, FFT_LENGTH // 2 + 1))
    edges_mel = np.linspace(hz_to_mel(np.float64(LOWEST_HZ)), hz_to_mel(np.float64(HIGHEST_HZ)), MEL_BANDS + 2)
    lower, centre, upper = edges_mel[:-2], edges_mel[1:-1], edges_mel[2:]
    rising = (bins_mel[:, None] - lower) / (centre - lower)
    falling = (upper - bins_mel[:, None]) / (upper - centre)
    # A bin lies in two bands at most. The whole matrix would go to a BLAS, whose threads wait for each other on cores
    # that the network could have: a seventh of an extraction on two cores.
    return scipy.sparse.csc_array(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


def hz_to_mel(hz: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
    """HTK's mel scale."""
    return np.asarray(1127.0 * np.log1p(hz / 700.0))


MINUTE_S = 60.0  #: start and length of the default stretch of a song: past the intro, and the same length for all songs

_BLOCK_SAMPLES = 3_000 * HOP_SAMPLES  # half a minute of sound at a time: 20 MB on the way to its bands

LOWEST_VALUE = math.log(LOG_OFFSET)  #: digital silence: black
#: a sine at full scale, whose peak has a magnitude of 100 in a Hann window of 400 samples, and all above: the brightest
HIGHEST_VALUE = math.log(WINDOW_SAMPLES / 4)
MARKED_HZ = (250, 500, 1000, 2000, 4000, 7000)  # on the axis of a plot
COLOURS = "magma"  # evenly brighter from black up, and readable without colour vision, as viridis is

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """The log-mel spectrogram of a song, or of a stretch of it."""

    values: Array  #: float32 (columns, 64): ``log(magnitude + 0.01)`` by mel band, the lowest first; -4.6 is silence
    start_s: float  #: where in the song it starts, in seconds
    duration_s: float  #: length of the sound it shows, in seconds: less than was asked for if the song ends earlier
    frame_s: float  #: seconds from one column to the next: 0.01, or more where neighbouring frames were averaged


def compute(
    path: Path,
    scratch: Scratch,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    columns: int | None = None,
    info: AudioInfo | None = None,
) -> Spectrogram:
    """Compute the log-mel spectrogram of a file, or of a stretch of it, in memory that does not grow with the file.

    The start is rounded to 10 ms, so that the frames of a stretch, which are those that lie wholly within it, are
    frames of the whole. Of at most `columns` columns, each has the mean of as many neighbouring frames; None is a
    column for each frame. `info` is what `ffmpeg.probe` says of the file; None asks it.

    Raises `AudioError` if it cannot be decoded, `TooShortError` if there are less than 25 ms of sound, and `UsageError`
    if the stretch is out of range, or the file ends before it.
    """
    check_stretch(start_s, duration_s)
    start_s = round(start_s, 2)
    with decoding.converted(path, scratch, start_s=start_s, duration_s=duration_s, info=info) as wav:
        samples = decoding.count_samples(wav)
        if samples < WINDOW_SAMPLES:
            milliseconds = 1000 * samples / SAMPLE_RATE_HZ
            raise TooShortError(f"{path}: {milliseconds:.1f} ms of sound; a spectrogram needs {WINDOW_S} s")
        drawing = Drawing(samples, columns)
        for wave in decoding.read_blocks(wav, _BLOCK_SAMPLES):
            drawing.add(wave)
    return drawing.spectrogram(start_s)


class Drawing:
    """Computes a spectrogram of sound that comes piece by piece, `samples` in all; `columns` as for `compute`."""

    def __init__(self, samples: int, columns: int | None) -> None:
        self._samples = samples
        self._frames = max(0, 1 + (samples - WINDOW_SAMPLES) // HOP_SAMPLES)
        self._width = 1 if columns is None else max(1, math.ceil(self._frames / columns))
        self._sums = np.zeros((math.ceil(self._frames / self._width), MEL_BANDS), np.float32)
        self._drawn = 0  # frames
        self._rest = np.zeros(0, np.float32)  # sound that begins the next frame

    def add(self, wave: Wave) -> None:
        """Add the next piece of the sound, of any length."""
        wave = np.concatenate([self._rest, wave])
        values = log_mel(wave)
        self._rest = wave[len(values) * HOP_SAMPLES :]
        self.add_bands(values)

    def add_bands(self, values: Array) -> None:
        """Add the `log_mel` of the next frames, where it is known, (frames, 64); beyond the sound's end is nothing."""
        values = values[: self._frames - self._drawn]
        if len(values):
            column = np.arange(self._drawn, self._drawn + len(values)) // self._width
            starts = np.flatnonzero(np.diff(column, prepend=-1))
            self._sums[column[starts]] += np.add.reduceat(values, starts, axis=0)
            self._drawn += len(values)

    def spectrogram(self, start_s: float = 0.0) -> Spectrogram:
        """The spectrogram of all the sound, which starts at `start_s` of its song."""
        counts = np.minimum(self._width, self._frames - self._width * np.arange(len(self._sums)))
        values = np.asarray(self._sums / counts[:, None], np.float32)
        return Spectrogram(values, start_s, self._samples / SAMPLE_RATE_HZ, self._width * HOP_S)


def check_stretch(start_s: float, duration_s: float | None) -> None:
    """Raise `UsageError` unless a stretch starts at 0 s or later and is longer than 0 s, or open (None)."""
    if not 0 <= start_s < math.inf:
        raise UsageError(f"a stretch of a song starts at 0 s or later, not at {start_s:g} s")
    if duration_s is not None and not 0 < duration_s < math.inf:
        raise UsageError(f"a stretch of a song is longer than 0 s, not {duration_s:g} s")


def default_stretch(duration_s: float | None) -> tuple[float, float | None]:
    """Start and length of what is shown of a file of that length: the minute from 1:00, if it lasts until 2:00.

    Otherwise, and for a file of unknown length (None), it is the whole, ``(0.0, None)``.
    """
    whole = duration_s is None or duration_s < 2 * MINUTE_S
    return (0.0, None) if whole else (MINUTE_S, MINUTE_S)


def band_of(hz: float) -> float:
    """The mel band with this centre frequency, as a fraction of a band; 0 is the centre of the lowest."""
    lowest, highest, wanted = (float(hz_to_mel(np.float64(edge))) for edge in (LOWEST_HZ, HIGHEST_HZ, hz))
    return (wanted - lowest) / (highest - lowest) * (MEL_BANDS + 1) - 1


def to_image(spectrogram: Spectrogram, colour: bool = True) -> Image:
    """Draw a spectrogram as pixels, one for each column and band, low frequencies at the bottom.

    The scale is the same for all songs, from silence to a sine at full scale (80 dB), so that pictures can be compared
    and show how loud a song is. uint8 (64, columns, 3) in matplotlib's ``magma``; or (64, columns, 1) in greys, black
    being silence.
    """
    share = (spectrogram.values - LOWEST_VALUE) / (HIGHEST_VALUE - LOWEST_VALUE)
    levels: Image = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8).T[::-1]
    if not colour:
        return levels[:, :, None]
    from matplotlib import colormaps

    table = (255 * colormaps[COLOURS](np.arange(256))[:, :3]).round().astype(np.uint8)
    return np.asarray(table[levels])


def png_bytes(spectrogram: Spectrogram, colour: bool = True) -> bytes:
    """Encode what `to_image` samples as PNG. Needs Pillow, which comes with matplotlib, of the extra ``notebook``."""
    import PIL.Image

    pixels = to_image(spectrogram, colour)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels if colour else pixels[:, :, 0]).save(buffer, format="PNG")
    return buffer.getvalue()


def plot_spectrogram(spectrogram: Spectrogram, colour: bool = True) -> Picture:
    """The log-mel spectrogram of a song over time, low notes at the bottom; the scale is that of `to_image`."""
    figure, axes = empty_axes(11, 3.4)
    start_s, (columns, bands) = spectrogram.start_s, spectrogram.values.shape
    extent = (start_s, start_s + columns * spectrogram.frame_s, -0.5, bands - 0.5)
    style = {"aspect": "auto", "origin": "lower", "extent": extent, "vmin": LOWEST_VALUE, "vmax": HIGHEST_VALUE}
    image = axes.imshow(spectrogram.values.T, cmap=COLOURS if colour else "gray", **style)
    axes.set_yticks([band_of(hz) for hz in MARKED_HZ], [f"{hz:,}" for hz in MARKED_HZ])
    axes.set(xlabel="seconds", ylabel="Hz (mel scale)", xlim=(start_s, start_s + spectrogram.duration_s))
    figure.colorbar(image, ax=axes, label=f"log(magnitude + {LOG_OFFSET})")
    return figure
