"""Wave -> log-mel patches, as VGGish hears them.

References
----------
Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP 2017, section 3.1; the constants are
those of the VGGish release (tensorflow/models, research/audioset/vggish).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.conversion import SAMPLE_RATE_HZ, Wave

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
    """Log-mel spectrogram of a 16 kHz wave.

    Parameters
    ----------
    wave : float32 array (samples,)
        Range [-1, 1].
    offset : float
        What is added to a magnitude, so that silence has a logarithm.

    Returns
    -------
    float32 array (frames, 64)
        ``log(magnitude + offset)``, one frame each 10 ms, ``frames = 1 + (samples - 400) // 160``; none if shorter.
    """
    return log_bands(wave, _sparse_mel_matrix(), offset)


def log_bands(wave: Wave, weights: Any, offset: float = LOG_OFFSET) -> Array:
    """Log magnitudes of a 16 kHz wave in bands of the spectrum; see `log_mel`.

    Parameters
    ----------
    wave : float32 array (samples,)
    weights : sparse float32 array (257, bands)
        What each bin of the spectrum adds to each band.
    offset : float

    Returns
    -------
    float32 array (frames, bands)
    """
    if len(wave) < WINDOW_SAMPLES:
        return np.zeros((0, weights.shape[1]), np.float32)
    import scipy.fft  # here, for it takes as long to import as all the rest, and most commands make no embedding

    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW_SAMPLES)[::HOP_SAMPLES]
    bands = np.empty((len(frames), weights.shape[1]), np.float32)
    for start in range(0, len(frames), _STRETCH):
        stretch = slice(start, start + _STRETCH)
        spectrum = np.abs(scipy.fft.rfft(frames[stretch] * hann_window(), FFT_LENGTH))
        bands[stretch] = spectrum @ weights
    bands += np.float32(offset)
    return np.log(bands, out=bands)


def patches(wave: Wave, hop_frames: int = PATCH_FRAMES) -> Array:
    """Cut the log-mel spectrogram of a wave into patches of 0.96 s; by default they do not overlap.

    Parameters
    ----------
    wave : float32 array (samples,)
        16 kHz, range [-1, 1].
    hop_frames : int
        Frames of 10 ms from the start of a patch to the start of the next.

    Returns
    -------
    float32 array (patches, 96, 64)
        ``patches = 1 + (samples - 15600) // (160 hop_frames)``: what is left at the end is dropped, as in the
        reference.
    """
    return cut_patches(log_mel(wave), hop_frames)


def cut_patches(bands: Array, hop_frames: int = PATCH_FRAMES) -> Array:
    """Cut float32 (frames, bands) into patches (patches, 96, bands); what is left at the end is dropped."""
    if len(bands) < PATCH_FRAMES:
        return np.zeros((0, PATCH_FRAMES, bands.shape[1]), np.float32)
    every = np.lib.stride_tricks.sliding_window_view(bands, PATCH_FRAMES, axis=0)[::hop_frames]
    return np.ascontiguousarray(every.swapaxes(1, 2))


@functools.cache
def hann_window() -> Array:
    """Periodic Hann window, float32 (400,)."""
    phase = 2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


@functools.cache
def mel_matrix() -> Array:
    """Weights that turn a magnitude spectrum into mel bands, float32 (257, 64).

    Triangles with equal width on the mel scale, linear *in mel*, peak 1.
    """
    bins_mel = hz_to_mel(np.linspace(0, SAMPLE_RATE_HZ / 2, FFT_LENGTH // 2 + 1))
    edges_mel = np.linspace(hz_to_mel(np.float64(LOWEST_HZ)), hz_to_mel(np.float64(HIGHEST_HZ)), MEL_BANDS + 2)
    lower, centre, upper = edges_mel[:-2], edges_mel[1:-1], edges_mel[2:]
    rising = (bins_mel[:, None] - lower) / (centre - lower)
    falling = (upper - bins_mel[:, None]) / (upper - centre)
    weights = np.maximum(0, np.minimum(rising, falling))
    return weights.astype(np.float32)


@functools.cache
def _sparse_mel_matrix() -> Any:
    # A bin lies in two bands at most. The whole matrix would go to a BLAS, whose threads wait for each other on cores
    # that the network could have: a seventh of an extraction on two cores.
    import scipy.sparse

    return scipy.sparse.csc_array(mel_matrix())


def hz_to_mel(hz: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
    """HTK's mel scale."""
    return np.asarray(1127.0 * np.log1p(hz / 700.0))
