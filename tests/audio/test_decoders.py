import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from test_decoding import BROKEN

from jamendo_mood.audio import decoding, spectrograms
from jamendo_mood.audio.decoding import DECODERS
from jamendo_mood.extraction.streaming import StreamConfig, embed_files
from jamendo_mood.util.errors import AudioError, LimitError, UsageError
from jamendo_mood.util.files import Scratch

BLOCK, OVERLAP = 20_000, 240


@pytest.fixture
def decode(empty_scratch):
    """The blocks of a file, by a decoder's name."""

    def run(name, path, block=BLOCK, overlap=OVERLAP):
        with Scratch(empty_scratch) as scratch:
            return list(decoding.cut(DECODERS[name](path, scratch), path, block, overlap))

    return run


def join(blocks, overlap=OVERLAP):
    return np.concatenate([blocks[0], *(block[overlap:] for block in blocks[1:])])


@pytest.fixture
def song(make_audio, tone, noise, tmp_path):
    """Tones over noise in two unlike channels, as an MP3 of CD quality."""
    wave = 0.3 * noise(8.0, channels=2, rate_hz=44_100)
    for channel, pitches_hz in enumerate([(220, 277, 3_300), (330, 440, 5_100)]):
        wave[:, channel] += sum(tone(pitch_hz, 8.0, 0.1) for pitch_hz in pitches_hz)
    return make_audio(tmp_path / "song.mp3", wave, options=("-b:a", "192k"))


def cosines(first, second):
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def test_both_decoders_give_the_same_sound(decode, song):
    pydub, libsndfile = (join(decode(name, song)) for name in ("pydub", "libsndfile"))
    assert pydub.shape == libsndfile.shape
    # The resamplers differ in how they fall off next to 8 kHz, which is above the highest mel band.
    difference = np.abs(spectrograms.log_mel(pydub) - spectrograms.log_mel(libsndfile))
    assert difference.mean() < 0.01
    assert np.quantile(difference[:, :-4], 0.99) < 0.05
    assert np.quantile(difference, 0.99) < 0.2


@pytest.mark.thorough
def test_vggish_hears_no_difference(decode, song, seeded_module):
    from jamendo_mood.embedders import engines, vggish

    network = engines.build(vggish.define(vggish.read_variables(seeded_module)))
    pydub, libsndfile = (network(spectrograms.patches(join(decode(name, song)))) for name in ("pydub", "libsndfile"))
    assert len(pydub) == 8
    assert cosines(pydub, libsndfile).min() > 0.9999


@pytest.mark.shared
@pytest.mark.thorough
def test_on_real_songs_the_decoders_agree_in_length_and_sound(decode, shared):
    for path in sorted((shared / "music").rglob("*.mp3"))[:4]:
        pydub, libsndfile = (join(decode(name, path, block=1 << 20)) for name in ("pydub", "libsndfile"))
        assert pydub.shape == libsndfile.shape, path
        assert np.abs(spectrograms.log_mel(pydub) - spectrograms.log_mel(libsndfile)).mean() < 0.02, path


@pytest.mark.parametrize(("suffix", "channels", "rate_hz"), [("m4a", 2, 44_100), ("flac", 6, 48_000)])
def test_what_libsndfile_does_not_read_or_mix_goes_to_pydub(
    suffix, channels, rate_hz, decode, make_audio, noise, tmp_path
):
    source = make_audio(tmp_path / f"a.{suffix}", noise(2.0, channels=channels, rate_hz=rate_hz), rate_hz=rate_hz)
    np.testing.assert_array_equal(join(decode("libsndfile", source)), join(decode("pydub", source)))


@pytest.mark.parametrize(("suffix", "rate_hz"), [("wav", 8_000), ("flac", 96_000), ("ogg", 48_000), ("mp3", 22_050)])
def test_any_rate_comes_out_at_16_khz_and_in_length(suffix, rate_hz, decode, make_audio, tone, tmp_path):
    source = make_audio(tmp_path / f"a.{suffix}", tone(1_000, 3.0, 0.5, rate_hz), rate_hz=rate_hz)
    wave = join(decode("libsndfile", source))
    assert len(wave) == pytest.approx(48_000, abs=2_500)  # an MP3 may say nothing of what its encoder added
    spectrum = np.abs(np.fft.rfft(wave[8_000:40_000]))
    assert spectrum.argmax() == 2_000
    assert np.sqrt(2 * np.mean(wave[8_000:40_000] ** 2)) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("name", DECODERS)
def test_blocks_without_their_overlap_are_the_whole(name, decode, song):
    blocks = decode(name, song)
    assert {len(block) for block in blocks[:-1]} == {BLOCK}
    assert len(blocks[-1]) > OVERLAP
    for before, after in itertools.pairwise(blocks):
        np.testing.assert_array_equal(before[-OVERLAP:], after[:OVERLAP])
    (whole,) = decode(name, song, block=1 << 20)
    np.testing.assert_allclose(join(blocks), whole, rtol=0, atol=1e-6)
    assert whole.dtype == np.float32


def test_libsndfile_decodes_a_day_of_sound_at_most(decode, song, monkeypatch):
    default = decoding.cut.__defaults__
    assert default == (0, 24 * 3600.0)
    monkeypatch.setattr(decoding.cut, "__defaults__", (0, 6.0))
    with pytest.raises(LimitError, match=r"song\.mp3 is longer than 0\.1 minutes"):
        decode("libsndfile", song)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_file_without_sound_is_an_error_that_names_it(decoder, name, decode, tmp_path):
    BROKEN[name](tmp_path / name)
    with pytest.raises(AudioError, match=name):
        decode(decoder, tmp_path / name)


def test_a_header_of_1_hz_does_not_fill_memory(decode, noise, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "slow.wav", noise(0.002), 1)  # 32 samples: half a minute of them
    monkeypatch.setattr(decoding, "_resample", lambda *_: pytest.fail("resampled in this process"))
    assert len(join(decode("libsndfile", tmp_path / "slow.wav"))) > 16_000


def test_libsndfile_writes_no_wav(song, stub_embedder, empty_scratch):
    seen = []

    def frontend(wave):
        seen.extend(empty_scratch.rglob("*.wav"))
        return stub_embedder.frontend(wave)

    config = StreamConfig(batch=16, scratch=empty_scratch, decoder="libsndfile")
    (result,) = embed_files({"song": song}, replace(stub_embedder, frontend=frontend), config)
    assert result.duration_s == pytest.approx(8.0, abs=0.1)
    assert result.frames is not None
    assert seen == []


def test_an_unknown_decoder_is_a_usage_error():
    with pytest.raises(UsageError, match=r"unknown decoder 'sox' \(known: pydub, libsndfile\)"):
        StreamConfig(decoder="sox")


def test_without_its_extra_libsndfile_is_a_usage_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    decoding.check_decoder("pydub")
    with pytest.raises(UsageError, match=r"needs soxr: `pip install jamendo-mood\[fast\]` brings it"):
        decoding.check_decoder("libsndfile")
