import numpy as np
import pytest

from jamendo_mood.audio import spectrograms


@pytest.fixture
def reference():
    """The same spectrogram by TensorFlow's own functions, with the figures of the VGGish release."""
    import tensorflow as tf

    def log_mel(wave):
        magnitude = tf.abs(tf.signal.stft(wave, frame_length=400, frame_step=160, fft_length=512))
        to_mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7_500.0)
        return tf.math.log(magnitude @ to_mel + 0.01).numpy()

    return log_mel


@pytest.mark.parametrize("samples", [400, 16_000, 50_123])
def test_the_spectrogram_is_tensorflows(samples, noise, reference):
    wave = noise(samples / 16_000)
    mel = spectrograms.log_mel(wave)
    assert mel.dtype == np.float32
    assert mel.shape == (1 + (samples - 400) // 160, 64)
    np.testing.assert_allclose(mel, reference(wave), rtol=0, atol=1e-4)


def test_silence_is_the_logarithm_of_the_offset():
    np.testing.assert_allclose(spectrograms.log_mel(np.zeros(1_000, np.float32)), np.log(0.01), rtol=1e-6)


def test_the_band_of_a_tone_is_the_one_around_its_frequency(tone):
    edges_mel = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7_500 / 700), 66)
    centres_hz = 700 * np.expm1(edges_mel[1:-1] / 1127)
    for band in (5, 20, 40, 63):
        mel = spectrograms.log_mel(tone(centres_hz[band], rate_hz=16_000))
        assert mel[len(mel) // 2].argmax() == band


def test_magnitude_not_power_is_taken(tone):
    loud, quiet = (spectrograms.log_mel(tone(1_000, amplitude=amplitude, rate_hz=16_000)) for amplitude in (1.0, 0.1))
    frame = len(loud) // 2
    assert loud[frame].max() - quiet[frame].max() == pytest.approx(np.log(10), abs=0.01)


def test_the_constants_are_those_of_the_release():
    assert (spectrograms.WINDOW_SAMPLES, spectrograms.HOP_SAMPLES, spectrograms.FFT_LENGTH) == (400, 160, 512)
    assert (spectrograms.MEL_BANDS, spectrograms.LOWEST_HZ, spectrograms.HIGHEST_HZ, spectrograms.LOG_OFFSET) == (
        64,
        125,
        7_500,
        0.01,
    )
    assert (spectrograms.PATCH_FRAMES, spectrograms.PATCH_HOP_SAMPLES, spectrograms.PATCH_SAMPLES) == (
        96,
        15_360,
        15_600,
    )


def test_the_mel_matrix_ignores_0_hz_and_what_lies_outside_its_range():
    weights = spectrograms.mel_matrix()
    frequency_hz = np.arange(257) * 16_000 / 512
    assert not weights[(frequency_hz <= 125) | (frequency_hz >= 7_500)].any()
    assert weights.min() >= 0
    assert weights.max() <= 1


@pytest.mark.parametrize(
    ("samples", "count"),
    [(0, 0), (399, 0), (400, 0), (15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2), (16_000 * 60, 62)],
)
def test_the_number_of_patches(samples, count):
    patches = spectrograms.patches(np.zeros(samples, np.float32))
    assert patches.shape == (count, 96, 64)
    assert patches.dtype == np.float32
    assert count == max(0, (samples - 240) // 15_360)


def test_patches_are_the_spectrogram_cut_in_stretches_of_96_frames(noise):
    wave = noise(3.0)
    mel = spectrograms.log_mel(wave)
    np.testing.assert_array_equal(spectrograms.patches(wave), [mel[:96], mel[96:192], mel[192:288]])


@pytest.mark.parametrize("hop_frames", [1, 48, 50, 130])
def test_patches_may_overlap_or_leave_gaps(hop_frames, noise):
    wave = noise(4.0)
    mel = spectrograms.log_mel(wave)
    patches = spectrograms.patches(wave, hop_frames)
    assert len(patches) == 1 + (len(wave) - 15_600) // (160 * hop_frames)
    for number, patch in enumerate(patches):
        np.testing.assert_array_equal(patch, mel[number * hop_frames :][:96])


def test_another_offset_changes_what_silence_is():
    np.testing.assert_allclose(spectrograms.log_mel(np.zeros(1_000, np.float32), 0.001), np.log(0.001), rtol=1e-6)


def test_blocks_that_overlap_by_240_samples_give_the_patches_of_the_whole(noise):
    wave = noise(10 * 0.96 + 0.1)
    starts = range(0, 9 * 15_360, 3 * 15_360)
    parts = [spectrograms.patches(wave[start : start + 3 * 15_360 + 240]) for start in starts]
    np.testing.assert_allclose(np.concatenate(parts), spectrograms.patches(wave)[:9], rtol=0, atol=1e-5)
