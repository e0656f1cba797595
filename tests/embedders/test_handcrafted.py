import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import TASK, make_tagger

from jamendo_mood.app.songs import describe, export
from jamendo_mood.audio import decoding
from jamendo_mood.embedders import handcrafted
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files, extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.analysis import Limits, analyse, explain
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["toy_commands"]


def named(wave):
    return dict(zip(handcrafted.NAMES, handcrafted.measure(wave)[0], strict=True))


def chords(*roots, minor=False, seconds=1.0):
    """Triads in close position, one after the other, four times over."""
    time_s = np.arange(round(seconds * 16_000)) / 16_000
    steps = (0, 3, 7) if minor else (0, 4, 7)
    waves = [
        sum(np.sin(2 * np.pi * 440 * 2 ** ((root + step - 69) / 12) * time_s) for step in steps) * np.exp(-time_s)
        for root in roots
    ]
    return (0.1 * np.tile(np.concatenate(waves), 4)).astype(np.float32)


@pytest.mark.thorough
@pytest.mark.parametrize(("root", "key"), [(60, 0), (67, 7), (70, 10)])
def test_the_key_of_a_cadence_is_found(root, key):
    major = named(chords(root, root + 5, root + 7, root))
    minor = named(chords(root, root + 5, root + 7, root, minor=True))
    assert (major["key"], major["scale"]) == (key, 1)
    assert (minor["key"], minor["scale"]) == (key, 0)


def test_a_profile_is_its_own_key():
    for key in range(12):
        assert handcrafted.find_key(np.roll(handcrafted.MAJOR, key)) == (key, 1)
        assert handcrafted.find_key(np.roll(handcrafted.MINOR, key)) == (key, 0)
    assert handcrafted.find_key(np.zeros(12)) == (0, 1)
    assert handcrafted.find_key(np.full(12, 0.1, np.float32)) == (0, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("beats_a_minute", [90, 120])
def test_the_tempo_of_clicks_is_found(beats_a_minute, noise):
    wave = np.zeros(30 * 16_000, np.float32)
    for start in range(0, len(wave) - 400, 16_000 * 60 // beats_a_minute):
        wave[start : start + 400] = noise(0.025)
    assert named(wave)["tempo"] == pytest.approx(beats_a_minute, rel=0.05)


@pytest.mark.thorough
def test_what_is_measured_is_what_it_says(tone):
    sine, louder = (named(tone(500, seconds=3, amplitude=level, rate_hz=16_000)) for level in (0.5, 1.0))
    assert sine["centroid_mean"] == pytest.approx(500, rel=0.15)
    assert sine["zero_crossings_mean"] == pytest.approx(2 * 500 / 16_000, rel=0.05)
    assert sine["rms_mean"] == pytest.approx(0.5 / np.sqrt(2), rel=0.08)
    assert louder["rms_mean"] == pytest.approx(2 * sine["rms_mean"], rel=1e-3)


@pytest.mark.thorough
def test_the_spectra_are_librosas(noise):
    import librosa

    wave = noise(40)  # longer than a stretch
    found = named(wave)
    settings = {"y": wave, "sr": 16_000, "n_fft": 2048, "hop_length": 512}
    mel = librosa.feature.melspectrogram(**settings)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20)
    chroma = librosa.feature.chroma_stft(**settings, tuning=0.0)
    for name, values in {
        "mel": mel,
        "mfcc1": mfcc[0],
        "mfcc20": mfcc[19],
        "chroma": chroma,
        "tonnetz": librosa.feature.tonnetz(chroma=chroma),
        "centroid": librosa.feature.spectral_centroid(**settings),
        "rolloff": librosa.feature.spectral_rolloff(**settings),
    }.items():
        assert found[f"{name}_mean"] == pytest.approx(values.mean(), rel=1e-3, abs=1e-6), name
        assert found[f"{name}_variance"] == pytest.approx(values.var(), rel=1e-3, abs=1e-9), name


@pytest.mark.thorough
@pytest.mark.parametrize("samples", [0, 1, 700, 16_000, 50_000])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_very_short_waves_give_finite_numbers(samples, level):
    numbers = handcrafted.measure(np.full(samples, level, np.float32))
    assert numbers.shape == (1, len(set(handcrafted.NAMES))) == (1, 57)
    assert numbers.dtype == np.float32
    assert np.isfinite(numbers).all()


@pytest.mark.thorough
def test_of_a_long_track_the_first_minutes_count(noise, monkeypatch):
    monkeypatch.setattr(handcrafted, "MAX_SAMPLES", 3 * 16_000)
    wave = noise(5)
    assert np.array_equal(handcrafted.measure(wave), handcrafted.measure(wave[: 3 * 16_000]))


@pytest.mark.thorough
def test_a_file_is_measured_whole_at_once_and_no_further_than_counts(make_audio, noise, read_wav, tmp_path):
    embedder, heard, shapes = load_embedder("handcrafted"), [], []
    watched = replace(embedder, network=lambda rows: shapes.append(rows.shape) or rows)
    songs = {str(number): make_audio(tmp_path / f"{number}.wav", noise(7), rate_hz=16_000) for number in range(2)}
    config = StreamConfig(batch=64, scratch=tmp_path / "scratch")
    for whole in embed_files(songs, watched, config):
        assert np.array_equal(whole.frames, embedder.embed(read_wav(songs["0"])))
    assert shapes == [(1, 57)] * 2, "a track does not wait for a batch of tracks"
    frontend = lambda wave: heard.append(len(wave)) or wave[None, :57]  # noqa: E731
    (cut, _) = embed_files(songs, replace(embedder, hop_samples=3 * 16_000, frontend=frontend), config)
    assert heard == [3 * 16_000] * 2
    assert (cut.frames.shape, cut.duration_s) == ((1, 57), 7.0)


def test_without_librosa_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(UsageError, match=r"needs librosa: `pip install jamendo-mood\[classical\]` brings it"):
        load_embedder("handcrafted")


@pytest.fixture(scope="module")
def tagger():
    """A tagger that has learned nothing."""
    return make_tagger(TASK, load_embedder("handcrafted").spec)


@pytest.mark.thorough
def test_a_tagger_of_whole_tracks_tags_files_and_stores(tagger, run, make_audio, noise, tmp_path):
    song = make_audio(tmp_path / "music" / "song.mp3", noise(4), rate_hz=16_000)
    tagger.save(tmp_path / "tagger")
    assert Tagger.load(tmp_path / "tagger").spec == tagger.spec
    assert "57 numbers a track" in (tmp_path / "tagger" / "README.md").read_text()
    store = EmbeddingStore(tmp_path / "store", tagger.spec)
    assert extract(decoding.find_audio(tmp_path / "music"), load_embedder("handcrafted"), store).done == 1
    assert store.times("song").tolist() == [0]
    for source, form in itertools.product((song, tmp_path / "store"), ("table", "json", "csv")):
        done = run("tag", source, "--tagger", tmp_path / "tagger", "--timeline", "--format", form)
        assert done.status == 0
        assert "green" in done.out


@pytest.mark.thorough
def test_a_song_on_the_page_is_one_moment(tagger, make_audio, noise, tmp_path):
    song = make_audio(tmp_path / "song.mp3", noise(4), rate_hz=16_000)
    told = []
    tell = lambda **step: told.append(step["stage"])  # noqa: E731
    analysis = analyse(song, tagger, load_embedder("handcrafted"), Limits(scratch=tmp_path), on_progress=tell)
    assert told[-1] == "score"
    assert analysis.prediction.frame_scores.shape == (1, 3)
    assert describe(analysis, tagger)[0]["frames"] == 1
    assert len(explain(tagger, analysis.frames).starts_s) == 0
    pytest.importorskip("matplotlib")
    for form in ("csv", "json", "png"):
        assert export(analysis.prediction, form, "song.mp3")[1]
