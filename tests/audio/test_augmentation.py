import numpy as np
import pytest

from jamendo_mood.audio import ffmpeg
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ
from jamendo_mood.training import augmentation
from jamendo_mood.training.augmentation import RANGES, add_noise, alter, draw, shift_pitch
from jamendo_mood.util.errors import AudioError


def level(wave):
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def loudest_hz(wave):
    middle = wave[len(wave) // 4 : 3 * len(wave) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return spectrum.argmax() * SAMPLE_RATE_HZ / len(middle)


@pytest.fixture
def sine(tone):
    return tone(440.0, 6.0, rate_hz=SAMPLE_RATE_HZ)


@pytest.mark.parametrize("snr_db", [0.0, 12.0, 40.0])
def test_noise_is_as_far_below_the_sound_as_is_said(sine, snr_db):
    added = add_noise(sine, snr_db, np.random.default_rng(1)) - sine
    assert added.dtype == np.float32
    assert 20 * np.log10(level(sine) / level(added)) == pytest.approx(snr_db, abs=0.2)
    spectrum = np.abs(np.fft.rfft(added))
    low, high = np.array_split(spectrum[1:], 2)
    assert level(low) == pytest.approx(level(high), rel=0.05)  # white


def test_silence_stays_silent():
    silence = np.zeros(1_000, np.float32)
    assert not add_noise(silence, 10.0, np.random.default_rng(1)).any()
    assert not add_noise(silence[:0], 10.0, np.random.default_rng(1)).any()


@pytest.mark.parametrize(("shift_s", "left"), [(1.5, 40_000), (3.0, 32_000), (0.0, 64_000)])
def test_a_later_start_leaves_out_the_beginning_and_never_more_than_half(noise, monkeypatch, shift_s, left):
    wave, ranges = noise(4), dict.fromkeys(("gain_db", "pitch_semitones"), (0.0, 0.0))
    ranges |= {"snr_db": (200.0, 200.0), "shift_s": (shift_s, shift_s)}
    monkeypatch.setattr(augmentation, "RANGES", ranges)
    np.testing.assert_allclose(next(alter("a~1", iter([wave]))), wave[-left:], atol=1e-6)


@pytest.mark.parametrize("semitones", [-12.0, -2.0, -0.3, 0.7, 2.0, 12.0])
def test_pitch_moves_by_semitones_and_nothing_else_does(sine, semitones):
    shifted = shift_pitch(sine, semitones)
    assert shifted.dtype == np.float32
    assert len(shifted) == len(sine)
    assert loudest_hz(shifted) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.002)
    assert level(shifted) == pytest.approx(level(sine), rel=0.05)


def test_the_tempo_stays_when_the_pitch_moves():
    clicks = np.zeros(8 * SAMPLE_RATE_HZ, np.float32)
    moments = np.arange(1, 8) * SAMPLE_RATE_HZ
    for moment in moments:
        clicks[moment : moment + 200] = np.hanning(200)
    shifted = shift_pitch(clicks, 2.0)
    found = [moment - 2_000 + np.abs(shifted[moment - 2_000 : moment + 2_200]).argmax() - 100 for moment in moments]
    assert np.abs(np.array(found) - moments).max() < 0.03 * SAMPLE_RATE_HZ


def test_no_shift_of_pitch_is_no_change_and_starts_nothing(sine, monkeypatch):
    monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: "no such program")
    assert shift_pitch(sine, 0.0) is sine


def test_ffmpegs_failure_is_the_tracks(sine, monkeypatch):
    monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: "false")
    with pytest.raises(AudioError, match="cannot shift the pitch"):
        shift_pitch(sine, 1.0)


def test_the_sound_of_a_few_samples_keeps_its_length(sine):
    for count in (0, 1, 7, 400):
        assert len(shift_pitch(sine[:count], 2.0)) == count


def test_what_is_drawn_is_of_its_own_for_each_copy_and_the_same_on_every_machine():
    drawn = [draw(key, number)[0] for key in ("00/1", "00/2", "héhé") for number in (1, 2, 3)]
    assert len({tuple(each.values()) for each in drawn}) == len(drawn)
    altered, rng = draw("48/948", 1)
    assert altered["snr_db"] == pytest.approx(15.431563701058, abs=1e-9)
    assert rng.standard_normal(dtype=np.float32) == pytest.approx(-0.4927668, abs=1e-6)


def test_numbers_lie_in_their_ranges_and_fill_them():
    drawn = [draw(str(track), 1)[0] for track in range(300)]
    for name, (low, high) in RANGES.items():
        values = np.array([altered[name] for altered in drawn])
        assert low <= values.min() < values.max() <= high
        assert np.ptp(values) > 0.95 * (high - low)


def test_a_track_is_altered_as_it_comes(noise, monkeypatch):
    stretches = [noise(3, seed) for seed in range(3)]
    ranges = {"snr_db": (20.0, 20.0), "shift_s": (1.0, 1.0), "gain_db": (-6.0, -6.0), "pitch_semitones": (1.0, 1.0)}
    monkeypatch.setattr(augmentation, "RANGES", ranges)
    first, second, third = alter("a~1", iter(stretches))
    assert [len(first), len(second), len(third)] == [32_000, 48_000, 48_000]
    assert level(second) == pytest.approx(level(stretches[1]) / 2, rel=0.1)  # by 6 dB
    # The noise goes on, it does not begin again.
    ranges |= {"snr_db": (0.0, 0.0), "shift_s": (0.0, 0.0), "pitch_semitones": (0.0, 0.0)}
    one, other = alter("a~1", iter([np.full(100, 0.1, np.float32)] * 2))
    assert np.corrcoef(one, other)[0, 1] < 0.5


def test_what_gets_too_loud_is_clipped(sine, monkeypatch):
    monkeypatch.setitem(RANGES, "gain_db", (20.0, 20.0))
    (loud,) = alter("a~1", iter([sine]))
    assert (loud.min(), loud.max()) == (-1.0, 1.0)
