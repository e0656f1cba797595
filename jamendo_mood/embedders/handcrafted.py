"""The embedder ``handcrafted``: 57 numbers a track that have names (tempo, key, timbre), by librosa."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.embedders.registry import COEFFICIENTS, Array, Embedder, EmbedderOptions, EmbedderSpec
from jamendo_mood.util import files
from jamendo_mood.util.errors import UsageError, need

_MEASURED = ("rms", "mel", "tonnetz", "chroma", "zero_crossings", "rolloff", "centroid")
NAMES = (
    *("tempo", "key", "scale"),
    *(f"mfcc{number}_{what}" for number in range(1, COEFFICIENTS + 1) for what in ("mean", "variance")),
    *(f"{name}_{what}" for name in _MEASURED for what in ("mean", "variance")),
)
"""The numbers in order: tempo in beats a minute; the key's pitch class, 0 (C) to 11 (B); its scale, 1 major, 0 minor;
of the spectrum in hertz ``rolloff`` and ``centroid``, a rate in [0, 1] of ``zero_crossings``."""

MIN_SAMPLES = SAMPLE_RATE_HZ
MAX_SAMPLES = 10 * 60 * SAMPLE_RATE_HZ  # of a longer track the first ten minutes count

FFT_LENGTH, HOP_SAMPLES = 2048, 512  # 128 ms, every 32 ms
_STRETCH = 1024  # frames whose spectra are in memory at a time

MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def load_handcrafted(_: EmbedderOptions) -> Embedder:
    """57 numbers a track that have names: `NAMES`."""
    _librosa()  # now rather than at the first track
    spec = EmbedderSpec("handcrafted", "", SAMPLE_RATE_HZ, None, None, len(NAMES))
    return Embedder(spec, frontend=measure, network=np.asarray, window_samples=MIN_SAMPLES, hop_samples=MAX_SAMPLES)


def measure(wave: Wave) -> Array:
    """Measure a track: float32 (samples,) at 16 kHz, range [-1, 1] -> float32 (1, 57), finite, as `NAMES` says.

    Only the first ten minutes count; less than a second is padded with silence. UsageError if librosa is missing.
    """
    librosa = _librosa()
    wave = wave[:MAX_SAMPLES]
    wave = np.pad(wave, (0, max(0, MIN_SAMPLES - len(wave))))
    # Each stretch has all samples of its frames; the first frame's middle is the first sample.
    padded, frames = np.pad(wave, FFT_LENGTH // 2), 1 + len(wave) // HOP_SAMPLES
    spans = ((start, min(start + _STRETCH, frames)) for start in range(0, frames, _STRETCH))
    stretches = [
        _measure_stretch(librosa, padded[start * HOP_SAMPLES : (end - 1) * HOP_SAMPLES + FFT_LENGTH])
        for start, end in spans
    ]
    measured = {name: np.concatenate([each[name] for each in stretches], axis=-1) for name in stretches[0]}
    mel_db = librosa.power_to_db(measured["mel"])
    mfcc = librosa.feature.mfcc(S=mel_db, n_mfcc=COEFFICIENTS)
    onsets = librosa.onset.onset_strength(S=mel_db, sr=SAMPLE_RATE_HZ, hop_length=HOP_SAMPLES)
    (tempo,) = librosa.feature.tempo(onset_envelope=onsets, sr=SAMPLE_RATE_HZ, hop_length=HOP_SAMPLES)
    numbers = [float(tempo), *find_key(measured["chroma"].mean(axis=1))]
    numbers += np.stack([mfcc.mean(axis=1), mfcc.var(axis=1)], axis=1).ravel().tolist()
    for name in _MEASURED:
        values = measured[name].astype(np.float64)
        numbers += [values.mean(), values.var()]
    return np.array([numbers], np.float32)


def find_key(chroma: npt.NDArray[np.floating[Any]]) -> tuple[int, int]:
    """The key whose profile correlates best with the strength of each pitch class, from C on: float (12,).

    Returns the pitch class of the tonic, 0 (C) to 11 (B), and the scale, 1 major or 0 minor; C major if no key fits
    better than another, as in silence.
    """
    profiles = np.array([np.roll(profile, key) for profile in (MAJOR, MINOR) for key in range(12)])
    profiles -= profiles.mean(axis=1, keepdims=True)
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    best = int(np.argmax(np.round(profiles @ (chroma - chroma.mean()), 6)))
    return best % 12, 1 - best // 12


def _measure_stretch(librosa: Any, wave: Wave) -> dict[str, Array]:
    """What is measured of each frame: arrays (numbers, frames)."""
    feature = librosa.feature
    framing = {"frame_length": FFT_LENGTH, "hop_length": HOP_SAMPLES, "center": False}
    magnitude = np.abs(librosa.stft(wave, n_fft=FFT_LENGTH, hop_length=HOP_SAMPLES, center=False))
    spectrum = {"sr": SAMPLE_RATE_HZ, "n_fft": FFT_LENGTH}
    # A spectrum's tuning would be that of its stretch: pitch classes are those of A = 440 Hz.
    chroma = feature.chroma_stft(S=magnitude**2, tuning=0.0, **spectrum)
    return {
        "rms": feature.rms(y=wave, **framing),
        "mel": feature.melspectrogram(S=magnitude**2, **spectrum),
        "tonnetz": feature.tonnetz(chroma=chroma),
        "chroma": chroma,
        "zero_crossings": feature.zero_crossing_rate(wave, **framing),
        "rolloff": feature.spectral_rolloff(S=magnitude, **spectrum),
        "centroid": feature.spectral_centroid(S=magnitude, **spectrum),
    }


def _librosa() -> Any:
    need("the embedder handcrafted", "classical", "librosa")
    try:
        import librosa
        import librosa.feature
        import librosa.onset
    except (RuntimeError, OSError) as error:  # numba, which compiles for it, finds no folder to write to
        raise UsageError(
            f"librosa cannot be loaded ({files.brief(error)}): set NUMBA_CACHE_DIR to a folder that can be written to"
        ) from error
    return librosa
