import csv
import functools
import hashlib

import numpy as np
import pytest
import seeded_yamnet

from jamendo_mood.audio import spectrograms
from jamendo_mood.embedders import engines, yamnet
from jamendo_mood.embedders.checkpoints import read_constants
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.util.errors import WeightsError


@pytest.fixture(scope="module")
def write_tflite(tmp_path_factory):
    """Write the stand-in as a TFLite file: its weights as they are, or rounded to 8 bits."""

    def write(name, **options):
        path = tmp_path_factory.mktemp("tflite") / name
        seeded_yamnet.write_tflite(path, **options)
        if not any("conv" in constant.name for constant in read_constants(path.read_bytes())):
            pytest.skip("TensorFlow 2.16's converter loses the names of layers, which Google's file has")
        return path

    return write


@pytest.fixture(scope="module")
def googles(shared):
    return shared / "data" / "yamnet" / "yamnet.tflite"


@pytest.fixture(scope="module")
def load(seeded_yamnet_module):
    return functools.cache(
        lambda name: load_embedder(name, EmbedderOptions(seeded_yamnet_module, allow_untrained=True))
    )


def test_the_network_has_the_published_size():
    kernels = sum(int(np.prod(shape)) for shape, _ in yamnet.CONVOLUTIONS.values())
    assert len(yamnet.CONVOLUTIONS) == 27
    assert kernels == 3_184_512
    assert 3.7e6 < kernels + 1024 * 521 < 3.8e6


def test_a_whole_file_is_embedded_and_scored_as_by_the_module_itself(seeded_yamnet_module, load, noise):
    import tensorflow as tf

    wave = noise(10.3)
    scores, embeddings, log_mel = map(np.asarray, tf.saved_model.load(str(seeded_yamnet_module))(tf.constant(wave)))
    ours = load("yamnet").embed(wave)
    assert str(load("yamnet").spec).startswith("yamnet (1024 numbers every 0.48 s, weights ")
    assert ours.shape == embeddings.shape == (20, 1024)
    assert np.abs(ours - embeddings).max() <= 1e-4 * embeddings.std()
    np.testing.assert_allclose(load("yamnet-scores").embed(wave), scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(spectrograms.log_mel(wave, yamnet.LOG_OFFSET), log_mel, rtol=0, atol=1e-4)


@pytest.mark.thorough
def test_a_tflite_file_is_the_same_network_as_the_module(write_tflite, load, noise):
    path = write_tflite("exact.tflite")
    patches = yamnet.patches(noise(3))
    weights, sha256, rounded = yamnet.read_weights(path)
    expected = load("yamnet").network(patches)
    assert np.abs(engines.build(yamnet.define(weights))(patches) - expected).max() <= 1e-4 * expected.std()
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not rounded


@pytest.mark.thorough
def test_weights_of_8_bits_are_nearly_the_same_and_a_variant(write_tflite, load, noise):
    path = write_tflite("rounded.tflite", rounded=True)
    rounded = load_embedder("yamnet", EmbedderOptions(path, allow_untrained=True))
    exact = load("yamnet")
    found, expected = (each.embed(noise(5)) for each in (rounded, exact))
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0.98 < cosines.min() < 0.99999
    assert (rounded.spec.variant, exact.spec.variant) == ("int8, untrained", "untrained")
    assert not rounded.spec.accepts(exact.spec)


def test_weights_that_fail_googles_tests_are_refused_unless_meant(seeded_yamnet_module):
    with pytest.raises(WeightsError, match=r"not Google's YAMNet weights.*--allow-untrained"):
        load_embedder("yamnet", EmbedderOptions(seeded_yamnet_module))


def test_weights_are_trained_that_know_silence_noise_and_a_sine():
    def answer(*classes):
        """A network that finds the classes in the order that the tests come in."""
        given = iter(classes)
        return lambda patches: np.eye(521, dtype=np.float32)[[next(given)] * len(patches)]

    assert yamnet.is_trained(answer(494, 514, 495))
    assert not yamnet.is_trained(answer(494, 514, 514))
    assert not yamnet.is_trained(answer(495, 514, 495))


def test_a_file_that_is_no_network_is_refused_naming_it(tmp_path):
    (tmp_path / "letter.tflite").write_text("Dear Google, where are the weights?")
    with pytest.raises(WeightsError, match=r"letter.tflite: neither a TF-Hub module nor YAMNet as a TFLite file"):
        yamnet.read_weights(tmp_path / "letter.tflite")
    with pytest.raises(WeightsError, match=f"{tmp_path}: no YAMNet module"):
        yamnet.read_weights(tmp_path)


def test_another_network_is_refused_naming_what_it_lacks(tmp_path):
    import tensorflow as tf

    double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([1, 4])])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([double.get_concrete_function()])
    (tmp_path / "double.tflite").write_bytes(converter.convert())
    with pytest.raises(WeightsError, match=r"double.tflite: neither .* \('dense/' has no constant"):
        yamnet.read_weights(tmp_path / "double.tflite")


@pytest.mark.shared
def test_googles_file_passes_googles_tests_and_hears_what_is_there(googles):
    table = (googles.parent / "yamnet_class_map.csv").read_text(encoding="utf-8").splitlines()
    names = [row["display_name"] for row in csv.DictReader(table)]
    assert [names[index] for index in yamnet._TESTS.values()] == ["Silence", "White noise", "Sine wave"]
    embedder = load_embedder("yamnet-scores", EmbedderOptions(googles))
    assert embedder.spec.variant == "int8"
    assert embedder.spec.weights_sha256 == hashlib.sha256(googles.read_bytes()).hexdigest()
    loud_noise = np.random.default_rng(1).uniform(-1, 1, 48_000).astype(np.float32)
    time_s = np.arange(48_000) / 16_000
    dial_tone = 0.3 * sum(np.sin(2 * np.pi * hz * time_s) for hz in (350, 440))  # of American telephones

    def top(wave):
        return [names[index] for index in np.argsort(-embedder.embed(wave).mean(axis=0))[:3]]

    assert top(np.zeros(48_000, np.float32))[0] == "Silence"
    assert "White noise" in top(loud_noise)
    assert {"Telephone", "Dial tone"} <= set(top(dial_tone.astype(np.float32)))
