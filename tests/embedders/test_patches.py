import numpy as np
import pytest
import scipy.fft

from jamendo_mood.audio import spectrograms
from jamendo_mood.embedders import registry
from jamendo_mood.embedders.registry import load_embedder

BAND_HZ = 125.0


def test_linear_bands_lie_where_a_tone_is(tone):
    for frequency_hz in (200.0, 1_000.0, 5_300.0):
        found = registry.linear_patches(tone(frequency_hz, 3.0, rate_hz=16_000))
        assert found.shape == (3, 96, 64)
        assert found.dtype == np.float32
        # Bin 1, at 31.25 Hz, is the first of the first band.
        assert abs(found[1].mean(axis=0).argmax() - (frequency_hz / BAND_HZ - 0.125)) < 1


def test_a_linear_band_is_the_mean_of_four_magnitudes(noise):
    wave = noise(1)
    spectrum = np.abs(scipy.fft.rfft(wave[:400] * spectrograms.hann_window(), 512))
    expected = np.log(spectrum[1:].reshape(64, 4).mean(axis=1) + 0.01)
    np.testing.assert_allclose(registry.linear_patches(wave)[0, 0], expected, rtol=1e-4)


def test_a_wave_too_short_for_a_patch_has_none(noise):
    assert registry.linear_patches(noise(0.9)).shape == (0, 96, 64)
    assert registry.linear_patches(noise(0.01)).shape == (0, 96, 64)


def test_mfcc_are_the_first_coefficients_of_the_cosine_transform(noise):
    mel = spectrograms.patches(noise(2))
    found = registry.mfcc(mel)
    assert found.shape == (2, 96 * 20)
    assert found.dtype == np.float32
    frame = mel[1, 7].astype(float)
    bands = np.arange(64)
    by_hand = [np.sqrt(2 / 64) * (frame * np.cos(np.pi * k * (bands + 0.5) / 64)).sum() for k in range(20)]
    by_hand[0] /= np.sqrt(2)
    np.testing.assert_allclose(found.reshape(2, 96, 20)[1, 7], by_hand, rtol=1e-4, atol=1e-4)


def test_louder_sound_moves_the_first_coefficient_alone(noise):
    """A gain adds the same to all log-mel bands, but for the offset."""
    wave = noise(1) * 3
    soft, loud = (registry.mfcc(spectrograms.patches(gain * wave)).reshape(96, 20).mean(axis=0) for gain in (1, 2))
    assert loud[0] - soft[0] == pytest.approx(np.log(2) * np.sqrt(64), rel=0.05)
    assert np.abs(loud[1:] - soft[1:]).max() < 0.1


@pytest.mark.parametrize(("name", "bands"), [("mel-patches", 64), ("spectrogram-patches", 64), ("mfcc-patches", 20)])
def test_a_row_is_a_patch_frame_after_frame(name, bands, noise):
    embedder = load_embedder(name)
    wave = noise(2)
    rows = embedder.embed(wave)
    assert rows.shape == (2, 96 * bands)
    # Frames are 10 ms apart: the same sound 10 frames earlier is the same picture, moved.
    earlier = embedder.embed(wave[1_600:])
    np.testing.assert_allclose(earlier[0][: 80 * bands], rows[0][10 * bands : 90 * bands], atol=1e-4)


def test_rows_of_mel_patches_are_what_vggish_hears(noise):
    wave = noise(2)
    assert np.array_equal(load_embedder("mel-patches").embed(wave).reshape(2, 96, 64), spectrograms.patches(wave))
