"""A tagger's ONNX files, run by ONNX Runtime, give what the tagger gives."""

import json
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import CLASSES, CURVES, DIM, SPEC, TASK, VALUES, label_anew, make_examples, make_tagger

from jamendo_mood.embedders import engines
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.training.data import POOLINGS
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.training.onnx_files import export_onnx
from jamendo_mood.util.errors import UsageError

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, which is in the extra `dev`")

RNG = np.random.default_rng(3)
KERNEL = RNG.standard_normal((4 * 6, DIM), dtype=np.float32)
NETWORK = engines.Network(
    "toy", (4, 6), lambda ops, x: ops.relu(x), lambda ops, x: ops.dense(x, KERNEL, np.ones(DIM, np.float32))
)


@pytest.fixture(scope="module")
def embedder():
    return Embedder(SPEC, lambda wave: wave.reshape(-1, 4, 6), engines.build(NETWORK), 24, 24, lambda: NETWORK)


def run(path, given):
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": given})[0], session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ["linear", "mlp", "attention"])
def test_tags_have_the_same_scores(embedder, name, pooling, tmp_path):
    wide, clip = (5 if name == "attention" else 0), (2.0 if name == "mlp" else 0.0)
    config = HeadConfig(name, pooling=pooling, hidden=8, layers=2, wide=wide, clip=clip)
    first, second = (make_tagger(TASK, config=config, seed=seed) for seed in (0, 1))
    tagger = replace(
        first,
        weights=first.weights + second.weights,
        calibration=np.array([[1.5, -0.5], [0.75, 0.25], [40.0, 0.1]]),  # the last one nears 0 and 1
        thresholds=np.array([0.25, np.inf, 0.75]),
    )
    export_onnx(tagger, embedder, tmp_path / "new" / "folder")
    for frames in (1, 2, 37):
        given = RNG.standard_normal((frames, DIM), dtype=np.float32)
        scores, notes = run(tmp_path / "new" / "folder" / "tagger.onnx", given)
        np.testing.assert_allclose(scores, tagger.score_track(given), atol=1e-6)
    assert json.loads(notes["targets"]) == list(TASK.targets)
    assert json.loads(notes["thresholds"]) == [0.25, None, 0.75]
    assert json.loads(notes["embedder"])["dim"] == DIM


@pytest.mark.parametrize("task", [TASK, CLASSES, VALUES])
def test_support_vector_machines_too(embedder, task, tmp_path):
    parts = [make_examples(count, seed) for seed, count in enumerate((60, 20))]
    parts = parts if task is TASK else [label_anew(examples, task) for examples in parts]
    tagger = fit(*parts, task, SPEC, TrainConfig.for_head("svm"))
    export_onnx(tagger, embedder, tmp_path)
    given = RNG.standard_normal((7, DIM), dtype=np.float32)
    np.testing.assert_allclose(run(tmp_path / "tagger.onnx", given)[0], tagger.score_track(given), atol=1e-5)


@pytest.mark.parametrize("task", [CLASSES, VALUES])
def test_classes_and_values_too_and_pictures_have_the_same_embeddings(embedder, task, tmp_path):
    tagger = make_tagger(task, config=HeadConfig("mlp", hidden=8, layers=1))
    export_onnx(tagger, embedder, tmp_path)
    given = RNG.standard_normal((5, DIM), dtype=np.float32)
    np.testing.assert_allclose(run(tmp_path / "tagger.onnx", given)[0], tagger.score_track(given), atol=1e-6)
    given = RNG.standard_normal((7, 4, 6), dtype=np.float32)
    found, notes = run(tmp_path / "embedder.onnx", given)
    np.testing.assert_allclose(found, embedder.network(given), rtol=1e-5, atol=1e-5)
    assert json.loads(notes["embedder"])["name"] == SPEC.name


def test_what_is_no_such_file_is_told(embedder, tmp_path):
    attention = HeadConfig("attention", hidden=8, layers=1)
    for tagger, own, message in [
        (make_tagger(TASK, config=HeadConfig("linear")), replace(embedder, define=None), "not one network"),
        (make_tagger(TASK, config=replace(attention, name="gru")), embedder, "a head 'gru' cannot be written"),
        (make_tagger(CURVES, config=attention), embedder, "a dynamic task cannot be written"),
    ]:
        with pytest.raises(UsageError, match=message):
            export_onnx(tagger, own, tmp_path / "out")
    assert not (tmp_path / "out").exists()
