import json
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.fft

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import convert_to_wav
from jamendo_mood.embedders import registry, vggish
from jamendo_mood.embedders.registry import EMBEDDERS, EmbedderOptions, EmbedderSpec, load_embedder
from jamendo_mood.extraction import streaming
from jamendo_mood.extraction.streaming import StreamConfig, embed_files
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util import remote
from jamendo_mood.util.errors import UsageError, WeightsError

pytest_plugins = ["demo_corpus", "toy_commands"]

USUAL = {"vggish", "logmel", "yamnet", "mel-patches"}
"""One of each kind that gives rows over time. The others differ from one of them in their last step only;
`handcrafted`, which gives one row a track, has tests of its own besides."""


@pytest.fixture(scope="session")
def options(seeded_module, seeded_pca):
    return EmbedderOptions(seeded_module, seeded_pca, allow_untrained=True, precision="float32")


@pytest.fixture(scope="session")
def options_of(options, seeded_yamnet_module, seeded_musicnn_wheel):
    """The options of an embedder by its name: their weights differ."""
    others = {"yamnet": seeded_yamnet_module, "yamnet-scores": seeded_yamnet_module, "musicnn": seeded_musicnn_wheel}
    return lambda name: replace(options, weights=others.get(name, options.weights))


@pytest.fixture(scope="module")
def vggish_embedder(options):
    """VGGish, opened once: it reads 288 MB."""
    return load_embedder("vggish", options)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in USUAL else pytest.mark.thorough) for name in EMBEDDERS],
)
def embedder(request, options_of):
    """Each of the registry in turn, opened."""
    if request.param == "vggish":
        opened = request.getfixturevalue("vggish_embedder")
    else:
        opened = load_embedder(request.param, options_of(request.param))
    assert opened.spec.name == request.param
    return opened


@pytest.fixture
def block_frames(monkeypatch):
    """Blocks of so few windows that some seconds of sound are more than one."""
    monkeypatch.setattr(streaming, "BLOCK_FRAMES", 18)
    return 18


@pytest.fixture
def stream(make_audio, read_wav, tmp_path):
    """Embed a file in blocks; returns its rows, and the wave that is decoded from it."""

    def run(embedder, wave, name="song.wav", rate_hz=16_000):
        source = make_audio(tmp_path / name, wave, rate_hz=rate_hz)
        (result,) = embed_files({"song": source}, embedder, StreamConfig(batch=16, scratch=tmp_path / "scratch"))
        convert_to_wav(source, tmp_path / "whole.wav")
        return result.frames, read_wav(tmp_path / "whole.wav")

    return run


@pytest.fixture
def assert_alike(embedder):
    """Two ways to the same embedding: a quantised value may step by one where a rounding error crosses a border."""
    step = {"vggish-pca": 1}

    def check(found, expected):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= step.get(embedder.spec.name, 1e-5 * expected.std())
        assert (found != expected).mean() < 0.01 or embedder.spec.name not in step

    return check


def test_rows_are_as_many_and_as_long_as_stated(embedder, noise):
    wave = noise(5)
    frames = embedder.embed(wave)
    assert frames.dtype == np.float32
    count = 1 + (len(wave) - embedder.window_samples) // embedder.hop_samples
    assert frames.shape == (count, embedder.spec.dim)
    assert embedder.spec.rate in str(embedder.spec)
    assert np.isfinite(embedder.embed(np.zeros(32_000, np.float32))).all()
    if embedder.spec.hop_s is not None:
        assert embedder.spec.window_s * embedder.spec.sample_rate_hz <= embedder.window_samples
        assert embedder.spec.hop_s * embedder.spec.sample_rate_hz == pytest.approx(embedder.hop_samples)


def test_a_wave_shorter_than_a_window_is_padded_with_silence(embedder, noise):
    short = noise(0.3)
    padded = np.concatenate([short, np.zeros(embedder.window_samples - len(short), np.float32)])
    assert np.array_equal(embedder.embed(short), embedder.embed(padded))


def test_a_batch_is_its_rows(embedder, assert_alike, noise):
    inputs = embedder.frontend(noise(8))
    together = embedder.network(inputs)
    alone = np.concatenate([embedder.network(inputs[row : row + 1]) for row in range(len(inputs))])
    assert_alike(alone, together)


def test_a_stereo_file_at_44100_hz_goes_through_in_blocks_as_it_does_whole(
    embedder, block_frames, assert_alike, noise, stream
):
    seconds = (block_frames + 1.5) * (embedder.spec.hop_s or 0.96) + (embedder.spec.window_s or 0.96)
    frames, wave = stream(embedder, noise(seconds, channels=2, rate_hz=44_100), "stereo.mp3", 44_100)
    assert len(frames) > block_frames or embedder.spec.hop_s is None
    assert_alike(frames, embedder.embed(wave))


def test_two_runs_over_a_file_give_the_same_bits(embedder, noise, stream):
    (first, _), (second, _) = (stream(embedder, noise(5), "song.mp3") for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("hop_s", [0.5, pytest.param(1.3, marks=pytest.mark.thorough)])
def test_at_another_hop_blocks_are_still_the_whole(
    hop_s, embedder, block_frames, options_of, assert_alike, noise, stream
):
    name = embedder.spec.name
    if name in {"musicnn", "handcrafted"}:
        with pytest.raises(UsageError, match=f"{name} gives {embedder.spec.rate}: its hop cannot be set"):
            load_embedder(name, replace(options_of(name), hop_s=hop_s))
        return
    stepping = load_embedder(name, replace(options_of(name), hop_s=hop_s))
    assert stepping.spec == replace(embedder.spec, hop_s=hop_s)
    assert stepping.hop_samples == hop_s * 16_000
    frames, wave = stream(stepping, noise((block_frames + 2.7) * hop_s))
    assert_alike(frames, stepping.embed(wave))
    third = round(2 * hop_s * 16_000)
    assert_alike(frames[2:3], embedder.embed(wave[third : third + embedder.window_samples]))


def test_an_embedder_of_a_spec_steps_as_the_spec_does(noise):
    half = load_embedder("logmel", EmbedderOptions(hop_s=0.57))
    again = load_embedder(half.spec)
    assert again.spec == half.spec
    assert again.spec.hop_s == 0.57
    assert str(again.spec) == "logmel (128 numbers every 0.57 s)"
    assert len(again.embed(noise(5))) == 1 + (80_000 - 15_600) // 9_120
    assert load_embedder("logmel", EmbedderOptions(hop_s=0.96)).spec == load_embedder("logmel").spec


@pytest.mark.parametrize("hop_s", [0.0, -0.5, 0.505, 1e-9, float("nan"), float("inf")])
def test_a_hop_that_no_spectrogram_has_is_refused(hop_s):
    with pytest.raises(UsageError, match=r"a hop of .* s: logmel steps by multiples of 0.01 s"):
        load_embedder("logmel", EmbedderOptions(hop_s=hop_s))


def test_a_spec_tells_times_and_lengths():
    every = EmbedderSpec("logmel", "", 16_000, 0.96, 0.5, 128)
    track = EmbedderSpec("handcrafted", "", 16_000, None, None, 57)
    assert every.times_s(3).tolist() == [0, 0.5, 1]
    assert every.duration_s(4) == 2
    assert track.times_s(1).tolist() == [0]
    assert track.duration_s(1) == 0
    assert str(track) == "handcrafted (57 numbers a track)"


def test_logmel_is_mean_and_deviation_of_the_bands(noise):
    wave = noise(2.5)
    patches = spectrograms.patches(wave)
    expected = np.concatenate([patches.mean(axis=1), patches.std(axis=1)], axis=1)
    assert np.array_equal(load_embedder("logmel").embed(wave), expected)


def test_vggish_pca_is_audiosets_post_processing(vggish_embedder, options, seeded_pca, noise):
    plain, quantised = (each.embed(noise(6)) for each in (vggish_embedder, load_embedder("vggish-pca", options)))
    parameters = np.load(seeded_pca)
    whitened = np.array([parameters["pca_eigen_vectors"] @ (row - parameters["pca_means"]) for row in plain])
    expected = np.floor((np.clip(whitened, -2, 2) + 2) * (255 / 4))
    assert quantised.dtype == np.float32
    assert set(np.unique(quantised)) <= set(range(256))
    assert len(np.unique(quantised)) > 50
    assert (np.abs(quantised - expected) <= 1).all()
    assert (quantised == expected).mean() > 0.99


def test_pca_parameters_beside_the_weights_are_found(seeded_pca, tmp_path):
    folder, checkpoint = tmp_path / "module", tmp_path / "vggish_model.ckpt"
    folder.mkdir()
    checkpoint.touch()
    (tmp_path / vggish.PCA_NAME).write_bytes(seeded_pca.read_bytes())
    for weights in (folder, checkpoint):
        means, _ = vggish.read_pca(None, weights, allow_untrained=True)
        assert means.shape == (128,)


def test_without_pca_parameters_the_message_says_how_to_give_them(monkeypatch, tmp_path):
    with pytest.raises(WeightsError, match=rf"no host was asked.*{vggish.PCA_URL}, with --pca"):
        vggish.read_pca(None, tmp_path, download=False)
    monkeypatch.setattr(vggish, "PCA_URL", "http://127.0.0.1:9/pca.npz")
    monkeypatch.setattr(remote, "Link", partial(remote.Link, sleep=lambda _: None))
    with pytest.raises(WeightsError, match=rf"Connection refused.*{vggish.PCA_URL}, with --pca"):
        vggish.read_pca(None, tmp_path)


@pytest.mark.shared
@pytest.mark.weights
def test_googles_weights_and_pca_give_the_published_statistics(shared, true_weights):
    pca = shared / "data" / "vggish" / vggish.PCA_NAME
    embedder = load_embedder("vggish-pca", EmbedderOptions(true_weights, pca))
    sine = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 16_000).astype(np.float32)
    embedding = embedder.embed(sine)
    assert [embedding.mean(), embedding.std()] == pytest.approx([126.0, 89.3], rel=0.1)


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ({}, True),
        ({"weights_sha256": registry.RELEASED}, True),
        ({"weights_sha256": "b" * 64}, False),
        ({"weights_sha256": registry.RELEASED, "variant": registry.UNTRAINED}, False),
        ({"weights_sha256": registry.RELEASED, "name": "vggish"}, False),
        ({"hop_s": 0.5}, False),
        ({"dim": 64}, False),
    ],
)
def test_a_spec_accepts_its_own_kind_and_what_google_released(change, accepted):
    spec = EmbedderSpec("vggish-pca", "a" * 64, 16_000, 0.96, 0.96, 128)
    other = replace(spec, **change)
    assert spec.accepts(other) is accepted
    assert other.accepts(spec) is accepted


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="needs oneDNN's own choice: unset ONEDNN_MAX_CPU_ISA")
def test_the_precision_is_in_the_spec_and_a_tagger_takes_both(vggish_embedder, options):
    exact = vggish_embedder.spec
    rounded = load_embedder("vggish", replace(options, precision="bfloat16")).spec
    assert (exact.precision, rounded.precision) == ("float32", "bfloat16")  # one store has one precision
    assert EmbedderOptions().precision == "auto"  # as on the command line
    assert rounded.accepts(exact)
    assert exact.accepts(rounded)
    assert ", in bfloat16" in str(rounded)
    assert not rounded.accepts(replace(exact, weights_sha256="0" * 64))


def test_a_tagger_on_another_hop_listens_at_that_hop(corpus, corpus_tagger, run, tmp_path):
    store = tmp_path / "store"
    song = corpus.path(0)
    done = run("extract", song.parent, "--store", store, "--embedder", "logmel", "--hop", "0.5")
    assert done.status == 0
    replace(corpus_tagger, spec=EmbeddingStore(store).spec).save(tmp_path / "tagger")
    for source in (song, store):
        done = run("tag", source, "--tagger", tmp_path / "tagger", "--timeline", "--format", "json")
        assert done.status == 0, done.err
        times_s = json.loads(done.out)["results"][0]["timeline"]["times_s"]
        assert times_s == [0.5 * row for row in range(len(times_s))]
    done = run("extract", song.parent, "--store", store, "--embedder", "logmel")
    assert (done.status, "1 were there already" in done.out) == (0, True), "the store knows its hop"
    done = run("extract", song.parent, "--store", store, "--embedder", "logmel", "--hop", "0.96")
    assert done.status == 2
    assert "every 0.5 s), not of logmel (128 numbers every 0.96 s)" in done.err


def test_linear_bands_lie_where_a_tone_is(tone):
    for frequency_hz in (200.0, 1_000.0, 5_300.0):
        found = registry.linear_patches(tone(frequency_hz, 3.0, rate_hz=16_000))
        assert (found.shape, found.dtype) == ((3, 96, 64), np.float32)
        # Bin 1, at 31.25 Hz, is the first of the first band, which is 125 Hz wide.
        assert abs(found[1].mean(axis=0).argmax() - (frequency_hz / 125 - 0.125)) < 1
    assert registry.linear_patches(np.zeros(100, np.float32)).shape == (0, 96, 64)


def test_a_linear_band_is_the_mean_of_four_magnitudes(noise):
    wave = noise(1)
    spectrum = np.abs(scipy.fft.rfft(wave[:400] * spectrograms.hann_window(), 512))
    expected = np.log(spectrum[1:].reshape(64, 4).mean(axis=1) + 0.01)
    np.testing.assert_allclose(registry.linear_patches(wave)[0, 0], expected, rtol=1e-4)


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


@pytest.mark.parametrize(("name", "bands"), [("mel-patches", 64), ("spectrogram-patches", 64), ("mfcc-patches", 20)])
def test_a_row_is_a_patch_frame_after_frame(name, bands, noise):
    embedder, wave = load_embedder(name), noise(2)
    rows = embedder.embed(wave)
    assert rows.shape == (2, 96 * bands)
    # Frames are 10 ms apart: the same sound 10 frames earlier is the same picture, moved.
    earlier = embedder.embed(wave[1_600:])
    np.testing.assert_allclose(earlier[0][: 80 * bands], rows[0][10 * bands : 90 * bands], atol=1e-4)
    assert name != "mel-patches" or np.array_equal(rows.reshape(2, 96, 64), spectrograms.patches(wave))
