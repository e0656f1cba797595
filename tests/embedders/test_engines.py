"""Engines agree, whatever is left of the files that one of them keeps."""

import gc
import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import seeded_musicnn
import seeded_vggish
import seeded_yamnet

from jamendo_mood.embedders import engines, musicnn, vggish, yamnet
from jamendo_mood.util import files
from jamendo_mood.util.errors import UsageError, WeightsError

OTHERS = ["mnn", "openvino"]


def tiny(factor=1.0, seed=0):
    """Two layers, or with a large factor weights that no released network has."""
    rng = np.random.default_rng(seed)
    kernel, bias, dense = (
        (factor * rng.standard_normal(shape)).astype(np.float32) for shape in ((3, 3, 1, 8), (8,), (8 * 8, 5))
    )

    def trunk(ops, x):
        return ops.halve(ops.relu(ops.convolve(x, kernel, bias)))

    return engines.Network("tiny", (8, 4), trunk, lambda ops, x: ops.dense(x, dense, np.ones(5, np.float32)))


NETWORKS = {
    "vggish": lambda: vggish.define(seeded_vggish.draw_variables(0)),
    "yamnet": lambda: yamnet.define(yamnet._fold(seeded_yamnet.draw_variables(0))),
    "yamnet-scores": lambda: yamnet.define(yamnet._fold(seeded_yamnet.draw_variables(0)), scores=True),
    "musicnn": lambda: musicnn.define(seeded_musicnn.draw_variables(3)),
    "tiny": tiny,
    "tiny with large weights": lambda: tiny(1_000.0),
}

THOROUGH = [pytest.param(name, marks=pytest.mark.thorough) for name in ("vggish", "yamnet", "yamnet-scores")]


def pictures(network, count, seed=0):
    return np.random.default_rng(seed).normal(-2, 1.5, (count, *network.shape)).astype(np.float32)


@pytest.mark.parametrize("name", [*THOROUGH, "musicnn", "tiny", "tiny with large weights"])
def test_engines_agree_with_tensorflow(name):
    network = NETWORKS[name]()
    given = pictures(network, 40 if name.startswith("tiny") else 6)
    expected = engines.build(network, "tensorflow")(given)
    for engine in OTHERS:
        found = engines.build(network, engine)(given)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-3 * expected.std()
        cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosines.min() >= 0.99999


@pytest.mark.parametrize("engine", ["mnn", "openvino", "tensorflow"])
def test_a_row_is_the_same_in_any_batch_and_thread(engine):
    network = tiny()
    run, given = engines.build(network, engine), pictures(network, 70)
    whole = run(given)
    for size in (1, 3, 5, 31, 33):
        parts = np.concatenate([run(given[start : start + size]) for start in range(0, len(given), size)])
        assert np.abs(parts - whole).max() <= 1e-5 * whole.std()
    with ThreadPoolExecutor() as pool:
        for own in pool.map(run, [given] * 4):
            np.testing.assert_array_equal(own, whole)


def test_what_is_no_number_of_its_own_does_not_reach_its_neighbours():
    """A patch of NaN is refused later; the song beside it in the batch must not suffer."""
    network = tiny()
    given = pictures(network, 5)
    clean = engines.build(network, "mnn")(given)[[0, 1, 3, 4]]
    given[2] = np.nan
    np.testing.assert_array_equal(engines.build(network, "mnn")(given)[[0, 1, 3, 4]], clean)


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("harm", [damage, lambda path: os.truncate(path, 1000), lambda path: os.truncate(path, 0)])
def test_a_kept_network_that_is_damaged_is_made_anew_in_a_line(empty_cache, harm, caplog):
    network = tiny()
    given = pictures(network, 4)
    expected = engines.build(network, "mnn")(given)
    (kept,) = empty_cache.iterdir()
    harm(kept)
    for messages in ([f"{kept}: damaged, so it is made anew"], []):
        caplog.clear()
        np.testing.assert_array_equal(engines.build(network, "mnn")(given), expected)
        assert caplog.messages == messages
    assert len(list(empty_cache.iterdir())) == 1


def test_a_kept_network_serves_its_own_weights_alone(empty_cache, monkeypatch):
    first, second = tiny(seed=1), tiny(seed=2)
    given = pictures(first, 4)
    results = [engines.build(network, "mnn")(given) for network in (first, second)]
    assert not np.allclose(*results)
    assert len(list(empty_cache.iterdir())) == 2
    monkeypatch.setattr(engines, "_convert", lambda _: pytest.fail("it was kept"))
    for network, result in zip((first, second), results, strict=True):
        np.testing.assert_array_equal(engines.build(network, "mnn")(given), result)


def test_where_nothing_can_be_kept_the_network_runs_all_the_same(empty_cache):
    empty_cache.parent.mkdir()
    empty_cache.write_text("a file, where the folder should be")
    network = tiny()
    assert engines.build(network, "mnn")(pictures(network, 2)).shape == (2, 5)


def test_a_network_that_mnn_cannot_convert_is_told_with_the_remedy():
    with pytest.raises(WeightsError, match=r"MNN could not convert the network \(.*give --engine tensorflow"):
        engines._convert(b"this is not ONNX")


BUILD = """
import gc, signal
import numpy as np
from jamendo_mood.embedders import engines
engines.preload()
network = engines.Network("n", (4, 4), lambda ops, x: ops.relu(x), lambda ops, x: x)
made = [engines.build(network, {engine!r}) for _ in range(2)]
for run in made:
    run(np.ones((3, 4, 4), np.float32))
del made[0], run; gc.collect(); del made; gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.parametrize("engine", OTHERS)
def test_nothing_is_printed_and_ctrl_c_is_told_after_networks_came_and_went(engine):
    """MNN writes what the processor has to stdout, and OpenVINO moves the stack on which signals are handled."""
    command = [sys.executable, "-c", BUILD.format(engine=engine)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_weights_that_openvino_has_copied_do_not_stay_twice():
    network = tiny()
    gone = weakref.ref(network)
    given, run = pictures(network, 2), engines.build(network, "openvino")
    del network
    gc.collect()
    assert gone() is None
    assert run(given).shape == (2, 5)


@pytest.fixture
def machine(monkeypatch):
    """A processor with these instructions, with or without OpenVINO and a GPU."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)

    def make(flags="avx2", openvino=True, gpu=False):
        monkeypatch.setattr(engines.Path, "read_text", lambda *_, **__: f"flags : {flags}\n")
        monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: name if openvino else None)
        monkeypatch.setattr(engines, "has_gpu", lambda: gpu)
        monkeypatch.setattr(engines, "_gpu_multiplies_bfloat16", lambda: gpu)

    return make


AMX = "avx2 avx512f amx_bf16"


@pytest.mark.parametrize(
    ("here", "asked", "chosen"),
    [
        ({}, ("auto", "auto"), ("mnn", "float32")),
        ({"flags": AMX}, ("auto", "auto"), ("openvino", "bfloat16")),
        ({"flags": "avx512_bf16"}, ("auto", "auto"), ("openvino", "bfloat16")),
        ({"flags": AMX, "openvino": False}, ("auto", "auto"), ("tensorflow", "bfloat16")),
        ({"flags": AMX}, ("auto", "float32"), ("mnn", "float32")),
        ({"flags": AMX}, ("mnn", "auto"), ("mnn", "float32")),
        ({"flags": AMX}, ("tensorflow", "auto"), ("tensorflow", "bfloat16")),
        ({}, ("openvino", "auto"), ("openvino", "float32")),
        ({}, ("auto", "bfloat16"), ("openvino", "bfloat16")),
        ({"gpu": True}, ("auto", "auto"), ("tensorflow", "bfloat16")),
        ({"gpu": True}, ("auto", "float32"), ("tensorflow", "float32")),
        ({"gpu": True}, ("mnn", "auto"), ("mnn", "float32")),
    ],
)
def test_auto_is_what_is_fastest_here(machine, here, asked, chosen):
    machine(**here)
    assert engines.choose(*asked) == chosen


def test_where_onednn_is_limited_or_nobody_tells_what_the_processor_has_it_is_float32(machine, monkeypatch):
    machine(AMX)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert engines.choose() == ("mnn", "float32")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(engines.Path, "read_text", Mock(side_effect=FileNotFoundError))
    assert engines.choose() == ("mnn", "float32")


def test_a_network_says_what_is_fastest_for_it(machine):
    for has, engine in ((True, "openvino"), (False, "tensorflow")):
        machine(openvino=has)
        assert engines.choose("auto", "float32", fastest="openvino") == (engine, "float32")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("onnx", "auto"), "unknown engine 'onnx'"),
        (("auto", "float16"), "unknown precision 'float16'"),
        (("mnn", "bfloat16"), "MNN computes in float32"),
        (("openvino", "auto"), "OpenVINO is not installed"),
    ],
)
def test_what_does_not_go_together_is_told(machine, asked, message):
    machine(openvino=False)
    with pytest.raises(UsageError, match=message):
        engines.choose(*asked)


def test_networks_are_forgotten_with_their_weights(empty_cache):
    network = engines.Network("yamnet", (4, 4), lambda ops, x: ops.relu(x), lambda ops, x: x)
    engines.build(network, "mnn")
    (kept,) = files.cache_folder().iterdir()
    assert yamnet.WEIGHTS.remove() == [kept]
    assert not kept.exists()
