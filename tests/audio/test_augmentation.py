from dataclasses import replace

import numpy as np
import pytest

from jamendo_mood.audio import ffmpeg
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ
from jamendo_mood.training.augmentation import (
    Alteration,
    WaveAugmentation,
    add_noise,
    alter,
    change_gain,
    shift_pitch,
    start_later,
)
from jamendo_mood.util.errors import AudioError, UsageError


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


def test_gain_is_in_decibels(sine):
    assert level(change_gain(sine, 6.0)) / level(sine) == pytest.approx(1.9953, rel=1e-4)
    assert level(change_gain(sine, -20.0)) / level(sine) == pytest.approx(0.1, rel=1e-4)
    assert change_gain(sine, 0.0).dtype == np.float32


def test_a_later_start_leaves_out_the_beginning_and_never_more_than_half(noise):
    wave = noise(4)
    assert np.array_equal(start_later(wave, 1.5), wave[24_000:])
    assert np.array_equal(start_later(wave, 3.0), wave[32_000:])
    assert np.array_equal(start_later(wave, 0.0), wave)
    assert len(start_later(wave[:1], 3.0)) == 1


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


def test_what_is_drawn_depends_on_seed_key_and_number_alone():
    some = WaveAugmentation(copies=3)
    drawn = {
        (seed, key, number): replace(some, seed=seed).draw(key, number)[0]
        for seed in (0, 1)
        for key in ("00/1", "00/2", "héhé")
        for number in (1, 2, 3)
    }
    assert len(set(drawn.values())) == len(drawn)
    # From another seed and order, and with another number of copies.
    for (seed, key, number), alteration in reversed(drawn.items()):
        assert WaveAugmentation(copies=7, seed=seed).draw(key, number)[0] == alteration


def test_what_is_drawn_is_the_same_on_every_machine():
    alteration, rng = WaveAugmentation().draw("48/948", 1)
    assert alteration.snr_db == pytest.approx(15.431563701058, abs=1e-9)
    assert rng.standard_normal(dtype=np.float32) == pytest.approx(-0.4927668, abs=1e-6)


def test_numbers_lie_in_their_ranges_and_fill_them():
    some = WaveAugmentation()
    drawn = [some.draw(str(track), 1)[0] for track in range(300)]
    for name, ends in some.ranges().items():
        values = np.array([getattr(alteration, name) for alteration in drawn])
        assert ends[0] <= values.min() < values.max() <= ends[1]
        assert np.ptp(values) > 0.95 * (ends[1] - ends[0])


def test_what_is_left_alone_does_not_move_the_rest():
    whole, part = WaveAugmentation(), WaveAugmentation(shift_s=None, gain_db=None)
    ours, theirs = whole.draw("a", 1)[0], part.draw("a", 1)[0]
    assert theirs == replace(ours, shift_s=0.0, gain_db=0.0)
    assert WaveAugmentation(1, None, None, None, None).draw("a", 1)[0] == Alteration()


def test_a_track_is_altered_as_it_comes(noise):
    stretches = [noise(3, seed) for seed in range(3)]
    same = list(alter(iter(stretches), Alteration(), np.random.default_rng(0)))
    assert all(np.array_equal(found, given) for found, given in zip(same, stretches, strict=True))
    alteration = Alteration(snr_db=20.0, shift_s=1.0, gain_db=-6.0, pitch_semitones=1.0)
    first, second, third = alter(iter(stretches), alteration, np.random.default_rng(0))
    assert [len(first), len(second), len(third)] == [32_000, 48_000, 48_000]
    assert level(second) == pytest.approx(level(stretches[1]) / 2, rel=0.1)
    # The noise goes on, it does not begin again.
    silence = [np.full(100, 0.1, np.float32)] * 2
    one, other = alter(silence, Alteration(snr_db=0.0), np.random.default_rng(0))
    assert np.corrcoef(one, other)[0, 1] < 0.5


def test_what_gets_too_loud_is_clipped(sine):
    (loud,) = alter([sine], Alteration(gain_db=20.0), np.random.default_rng(0))
    assert (loud.min(), loud.max()) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"copies": 0}, "copies must be from 1 up"),
        ({"seed": -1}, "seed from 0 up"),
        ({"snr_db": (40.0, 15.0)}, r"snr_db needs a least and a greatest number, not \(40.0, 15.0\)"),
        ({"gain_db": (0.0, float("nan"))}, "gain_db needs"),
        ({"shift_s": (-1.0, 1.0)}, "a copy starts later, not earlier"),
        ({"pitch_semitones": (-13.0, 1.0)}, "from -12 to 12"),
    ],
)
def test_copies_that_make_no_sense_are_wrong_usage(values, message):
    with pytest.raises(UsageError, match=message):
        WaveAugmentation(**values)


def test_it_says_what_it_does():
    assert str(WaveAugmentation(gain_db=None, seed=3)) == (
        "snr_db 15 to 40, shift_s 0 to 5, pitch_semitones -2 to 2, seed 3"
    )
