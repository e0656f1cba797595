import hashlib
import os
import shutil

import numpy as np
import pytest

from jamendo_mood.audio import spectrograms
from jamendo_mood.embedders import checkpoints, engines, vggish
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.util.errors import WeightsError


@pytest.fixture(scope="module")
def variables(seeded_module):
    return vggish.read_variables(seeded_module)


@pytest.fixture(scope="module")
def embedder(seeded_module):
    return load_embedder("vggish", EmbedderOptions(seeded_module, allow_untrained=True, precision="float32"))


def test_the_network_has_the_published_size():
    assert len(vggish.SHAPES) == 18
    assert sum(int(np.prod(shape)) for shape in vggish.SHAPES.values()) == 72_141_184


def test_a_whole_file_is_embedded_as_by_the_module_itself(seeded_module, embedder, noise):
    import tensorflow as tf

    wave = noise(20.3)
    module = np.asarray(tf.saved_model.load(str(seeded_module))(tf.constant(wave)))
    ours = embedder.embed(wave)
    assert ours.shape == module.shape == (21, vggish.DIM)
    assert np.abs(ours - module).max() <= 1e-3 * module.std()


@pytest.fixture
def write_checkpoint(tmp_path):
    """Write variables as a program of TensorFlow 1 does, with a step counter among them; up to 288 MB, removed."""
    import tensorflow as tf

    folder = tmp_path / "checkpoint"

    def write(values, version="V2"):
        tf1 = tf.compat.v1
        values = {**values, "global_step": np.int64(3)}
        with tf.Graph().as_default(), tf1.Session() as session:
            # Loaded and not initialised: initial values would become part of the graph.
            stored = [
                tf1.get_variable(name, np.shape(value), np.asarray(value).dtype) for name, value in values.items()
            ]
            for variable, value in zip(stored, values.values(), strict=True):
                variable.load(value, session)
            saver = tf1.train.Saver(stored, write_version=getattr(tf1.train.SaverDef, version))
            saver.save(session, str(folder / "vggish_model.ckpt"), write_meta_graph=False)
        return folder / {"V1": "vggish_model.ckpt", "V2": "vggish_model.ckpt.index"}[version]

    folder.mkdir()
    yield write
    shutil.rmtree(folder)


@pytest.mark.parametrize("version", ["V1", "V2"])  # Google's file is a V1
def test_module_and_checkpoint_are_the_same_embedder(version, write_checkpoint, variables):
    read = vggish.read_variables(write_checkpoint(dict(reversed(variables.items())), version))
    assert checkpoints.fingerprint(read) == checkpoints.fingerprint(variables)
    for name, value in variables.items():
        np.testing.assert_array_equal(read[name], value)


def test_the_fingerprint_is_the_hash_of_the_numbers_in_order_of_the_names(variables):
    digest = hashlib.sha256()
    for name in sorted(variables):
        digest.update(variables[name].astype("<f4").tobytes())
    for same in (variables, dict(reversed(variables.items()))):
        assert checkpoints.fingerprint(same) == digest.hexdigest()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [("vggish/conv4/conv4_2/biases", None, "is missing"), ("vggish/fc2/biases", np.zeros(64, np.float32), r"\(64,\)")],
)
def test_a_variable_that_is_missing_or_of_another_shape_is_named(write_checkpoint, name, value, problem):
    values = {name: np.zeros(shape, np.float32) for name, shape in vggish.SHAPES.items()} | {name: value}
    path = write_checkpoint({name: value for name, value in values.items() if value is not None})
    with pytest.raises(WeightsError, match=f"{path}: .*'{name}' .*{problem}"):
        vggish.read_variables(path)


def test_what_is_no_model_or_was_cut_short_is_refused_naming_it(seeded_module, tmp_path):
    (tmp_path / "letter.ckpt").write_text("Dear Google, where are the weights?")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut" / "variables").mkdir(parents=True)
    for path in (seeded_module / "variables").iterdir():
        (tmp_path / "cut" / "variables" / path.name).write_bytes(path.read_bytes()[: 10 << 20])
    for path in (tmp_path / "empty", tmp_path / "letter.ckpt", tmp_path / "cut"):
        with pytest.raises(WeightsError, match=f"{path}: no VGGish module or checkpoint"):
            vggish.read_variables(path)


def test_weights_that_fail_the_smoke_test_are_refused_unless_meant(seeded_module, embedder):
    with pytest.raises(WeightsError, match=r"not Google's VGGish weights.*--allow-untrained"):
        load_embedder("vggish", EmbedderOptions(weights=seeded_module))
    assert embedder.spec.variant == "untrained"


def test_the_smoke_test_passes_for_googles_statistics_only():
    generator = np.random.default_rng(0)
    drawn = generator.standard_normal((3, vggish.DIM))
    published = (drawn - drawn.mean()) / drawn.std() * 0.343 + 0.000657
    assert vggish.is_trained(lambda patches: published[: len(patches)])
    assert not vggish.is_trained(lambda patches: published[: len(patches)] * 1.2)
    assert not vggish.is_trained(lambda patches: published[: len(patches)] + 0.001)


def test_the_cache_is_where_tensorflow_hub_itself_looks(seeded_module, monkeypatch, tmp_path):
    import tensorflow_hub

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(vggish.WEIGHTS.variable, raising=False)
    handle = checkpoints.HUB.format("vggish")
    checkpoints.cache_folder(handle).symlink_to(seeded_module)
    assert vggish.WEIGHTS.find().samefile(tensorflow_hub.resolve(handle))


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="needs oneDNN's own choice: unset ONEDNN_MAX_CPU_ISA")
@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_bfloat16_hardly_changes_an_embedding(embedder, variables, noise, engine):
    """Random weights are the hard case: nothing they compute is large against the rest."""
    patches = spectrograms.patches(noise(10.0))
    exact, rounded = embedder.network(patches), engines.build(vggish.define(variables), engine, "bfloat16")(patches)
    assert rounded.dtype == np.float32
    cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.9998
    assert not np.array_equal(exact, rounded)


@pytest.mark.weights
def test_googles_weights_pass_the_smoke_test(true_weights):
    assert load_embedder("vggish", EmbedderOptions(weights=true_weights)).spec.variant == ""
