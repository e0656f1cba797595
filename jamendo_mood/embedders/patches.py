"""Pictures of sound for a network that learns from nothing else: patches of 0.96 s, each as one row of numbers.

Three pictures of the same spectra, 96 frames high: mel bands as VGGish hears them, bands of equal width in hertz, and
MFCC, which tell the shape of the spectrum apart from its fine structure.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from jamendo_mood.audio import melspec
from jamendo_mood.audio.conversion import Wave
from jamendo_mood.audio.melspec import FFT_LENGTH, PATCH_FRAMES, Array

LINEAR_BANDS = 64
BAND_BINS = FFT_LENGTH // 2 // LINEAR_BANDS  # 4: a band is 125 Hz wide
COEFFICIENTS = 20

MEL_DIM = PATCH_FRAMES * melspec.MEL_BANDS  # 6,144
LINEAR_DIM = PATCH_FRAMES * LINEAR_BANDS  # 6,144
MFCC_DIM = PATCH_FRAMES * COEFFICIENTS  # 1,920


def linear_patches(wave: Wave, hop_frames: int = PATCH_FRAMES) -> Array:
    """Patches of the log-magnitude spectrogram in bands of equal width.

    Parameters
    ----------
    wave : float32 array (samples,)
        16 kHz, range [-1, 1].
    hop_frames : int
        See `melspec.patches`.

    Returns
    -------
    float32 array (patches, 96, 64)
        ``log(magnitude + 0.01)``, the magnitude being the mean of four bins; the bin at 0 Hz is left out. Frames and
        patches are those of `melspec.patches`.
    """
    return melspec.cut_patches(melspec.log_bands(wave, _linear_matrix()), hop_frames)


def flatten(patches: Array) -> Array:
    """Each patch as one row, frame after frame: (patches, 96, bands) -> (patches, 96 * bands)."""
    return patches.reshape(len(patches), -1)


def mfcc(patches: Array) -> Array:
    """Mel-frequency cepstral coefficients of each frame: float32 (patches, 96, 64) -> (patches, 96 * 20).

    The first 20 of an orthonormal DCT-II over the log-mel bands.

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition in continuously
    spoken sentences", IEEE TASSP 28(4), 1980.
    """
    import scipy.fft

    coefficients = scipy.fft.dct(patches, type=2, norm="ortho", axis=-1)[..., :COEFFICIENTS]
    return flatten(np.asarray(coefficients, np.float32))


@functools.cache
def _linear_matrix() -> Any:
    matrix = np.zeros((FFT_LENGTH // 2 + 1, LINEAR_BANDS), np.float32)
    bins = np.arange(1, LINEAR_BANDS * BAND_BINS + 1)
    matrix[bins, (bins - 1) // BAND_BINS] = 1 / BAND_BINS
    import scipy.sparse

    return scipy.sparse.csc_array(matrix)
