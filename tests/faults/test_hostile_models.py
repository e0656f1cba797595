"""Taggers and weights from a stranger: one line of error, no code, and no more memory than the file is worth."""

import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from toy_examples import SPEC, TASK, make_tagger
from trying import memory_below, refusing

from jamendo_mood.embedders import checkpoints, vggish
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.heads import HeadConfig
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import WeightsError
from jamendo_mood.util.process import import_quietly

pytest_plugins = ["toy_commands"]

MOST_BYTES = 300_000_000  # of memory for what a stranger made of a few kilobytes
MOST_S = 30.0  # on a busy machine; a second on a quiet one


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest") / "tagger"
    two = [make_tagger(TASK, config=HeadConfig("mlp", hidden=6, layers=1), seed=seed) for seed in (0, 1)]
    calibration = np.tile([1.0, 0.0], (3, 1))
    replace(two[0], weights=(*two[0].weights, *two[1].weights), calibration=calibration).save(folder)
    return folder


@pytest.fixture
def tagger(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "tagger")


def load_hostile(tagger, most_bytes=MOST_BYTES):
    """Load what is none: what is said of it, and how much memory that took at the peak."""
    started = time.perf_counter()
    with memory_below(most_bytes) as peak, refusing() as said:
        Tagger.load(tagger)
    assert time.perf_counter() - started < MOST_S
    (message,) = said
    assert len(message) < 1000 + len(str(tagger))
    return message, peak[0]


def weights_of(folder):
    (path,) = folder.glob("weights*.safetensors")
    return path


def arrays_of(folder):
    return safetensors.numpy.load_file(weights_of(folder))


def replace_weights(folder, content):
    """Other weights under a right checksum: what somebody would do who means harm."""
    weights_of(folder).unlink()
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / f"weights-{sha256[:12]}.npz").write_bytes(content)
    edit(folder, lambda values: values.update(weights_sha256=sha256))


def edit(folder, change):
    values = json.loads((folder / "tagger.json").read_text())
    change(values)
    (folder / "tagger.json").write_text(json.dumps(values))


def npy(shape, dtype="<f4", content=b"", fortran=False):
    """A header that says what it likes, and what follows it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": fortran, "shape": shape})
    return file.getvalue() + content


def raw_npy(header):
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def nested(depth):
    return "[" * depth + "]" * depth


def setting(*path, to):
    def change(values):
        for name in path[:-1]:
            values = values[name]
        values[path[-1]] = to

    return change


def dropping(name):
    return lambda values: values.pop(name)


MANIFESTS = {
    "head of 10**9 units": setting("head", "hidden", to=10**9),
    "head of 10**9 layers": setting("head", "layers", to=10**9),
    "head of 10**30 units": setting("head", "hidden", to=10**30),
    "units that are no whole number": setting("head", "hidden", to=6.0),
    "units that are true": setting("head", "hidden", to=True),
    "head that is a list": setting("head", to=[]),
    "unknown head": setting("head", "name", to="__import__('os').system('true')"),
    "head whose name is a list": setting("head", "name", to=[]),
    "infinite penalty": setting("head", "l2", to=1e999),
    "10**6 targets": setting("task", "targets", to=[f"t{n}" for n in range(300_000)]),
    "targets that are numbers": setting("task", "targets", to=[1, 2, 3]),
    "targets that are a text": setting("task", "targets", to="abc"),
    "a target with an escape": setting("task", "targets", to=["a\x1b[2J", "b", "c"]),
    "a target of two lines": setting("task", "targets", to=["a\nb", "b", "c"]),
    "a target that turns the text around": setting("task", "targets", to=["a\u202eb", "b", "c"]),
    "a target without a name": setting("task", "targets", to=["", "b", "c"]),
    "a target of 10**6 letters": setting("task", "targets", to=["a" * 10**6, "b", "c"]),
    "a target twice": setting("task", "targets", to=["a", "a", "c"]),
    "a task without a name": setting("task", "name", to=None),
    "a task of another kind": setting("task", "kind", to="a" * 10**6),
    "a scale of three": setting("task", "scale", to=[1, 2, 3]),
    "a scale without an end": setting("task", "scale", to=[0, 1e999]),
    "a rate that is text": setting("task", "rate_hz", to="2"),
    "dim of 10**9": setting("embedder", "dim", to=10**9),
    "dim that is text": setting("embedder", "dim", to="4"),
    "a hop of 0": setting("embedder", "hop_s", to=0),
    "an endless hop": setting("embedder", "hop_s", to=1e999),
    "an embedder named by a path": setting("embedder", "name", to="../../\x1b[2J\n"),
    "an embedder that is more": setting("embedder", "code", to="import os"),
    "weights elsewhere": setting("weights_sha256", to="../../../../etc/passwd"),
    "a checksum that is a list": setting("weights_sha256", to=["a"]),
    "NaN as calibration": setting("calibration", to=[[float("nan"), 0]] * 3),
    "infinite calibration": setting("calibration", to=[[1e999, 0]] * 3),
    "calibration of one column": setting("calibration", to=[[1], [1], [1]]),
    "calibration of three columns": setting("calibration", to=[[1, 2], [3]]),
    "calibration nested deep": setting("calibration", to=json.loads(nested(200))),
    "thresholds that are objects": setting("thresholds", to=[{}, {}, {}]),
    "grades that are unknown": setting("grades", to=["<b>", "good", "good"]),
    "grades of others": setting("grades", to=["good"]),
    "a record that is a list": setting("record", to=[1]),
    "a record without a number of tracks": setting("record", "tracks", to="many"),
    "a record that counts in objects": setting("record", "positives", to={"red": {}}),
    "a record of a test that is none": setting("record", "tested", to=7),
    "a split that is text": setting("record", "split", to="0; rm"),
    "scores that are text": setting("scores", to={"PR-AUC-macro": "high"}),
    "scores that are endless": setting("scores", to={"PR-AUC-macro": 1e999}),
    "intervals of three": setting("intervals", to={"PR-AUC-macro": [1, 2, 3]}),
    "another format": setting("format", to="x" * 10**6),
    **{f"no {name}": dropping(name) for name in ("task", "head", "embedder", "calibration", "grades", "record")},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_makes_no_sense_is_one_line(tagger, name):
    edit(tagger, MANIFESTS[name])
    assert str(tagger) in load_hostile(tagger)[0]


CONTENTS = {
    "nested deep": nested(100_000).encode(),
    "nested deep in objects": b'{"a":' * 100_000,
    "more than 8 MB": b" " * 9_000_000,
    "a number of 10**6 digits": b'{"format": ' + b"9" * 10**6 + b"}",
    "no UTF-8": b"\xff\xff\xff",
    "nothing": b"",
    "NaN": b'{"format": NaN}',
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_manifest_of_any_bytes_is_one_line(tagger, name):
    (tagger / "tagger.json").write_bytes(CONTENTS[name])
    load_hostile(tagger)


PARSE = r"""
import re
from pathlib import Path
from jamendo_mood.util import files
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
files.parse_json(b"[" + b"[]," * 2_660_000 + b"[]]")
print(peak() - before)
"""


@pytest.mark.thorough
def test_the_worst_json_takes_some_memory_and_no_more(figure):
    done = subprocess.run([sys.executable, "-c", PARSE], capture_output=True, text=True, check=True)
    took = 1024 * int(done.stdout)
    assert took < MOST_BYTES
    figure("JSON of 8 MB that is all empty lists", 1, f"{took / 1e6:.0f} MB of memory")


def hostile_weights(arrays):
    """By name: what makes weights that a loader could fall for."""
    first, *others = ((f"{name}.npy", npy(a.shape, "<f4", a.astype("<f4").tobytes())) for name, a in arrays.items())
    rest = list(others)

    def instead(content):
        return npz([(first[0], content), *rest])

    return {
        "a bomb": lambda: npz(
            [(first[0], npy((50_000_000,), content=bytes(200_000_000))), *rest], zipfile.ZIP_DEFLATED
        ),
        "weights that were deflated": lambda: npz(
            [("0.0.npy", npy((10_000,), content=bytes(40_000)))], zipfile.ZIP_DEFLATED
        ),
        "a header of 512 GB": lambda: instead(npy((10**9, 128))),
        "a header beyond 64 bits": lambda: instead(npy((10**15, 10**15))),
        "a negative shape": lambda: instead(npy((-1, 4), content=bytes(16))),
        "a shape of texts": lambda: instead(raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': ('a',), }\n")),
        "a header that is code": lambda: instead(raw_npy("__import__('os').system('true')\n")),
        "a header nested deep": lambda: instead(raw_npy("-" * 9_000 + "1\n")),
        "a header in brackets": lambda: instead(raw_npy("(" * 9_000 + "\n")),
        "a header of 60,000 bytes": lambda: instead(raw_npy("{'descr': '<f4'," + " " * 60_000 + "}\n")),
        "10**12 things of no size": lambda: instead(npy((10**12,), "<U0")),
        "records": lambda: instead(npy((1,), [("a", "<f4"), ("b", "<f4")], bytes(8))),
        "an array in an array": lambda: instead(npy((1,), [("a", "<f4", (10**9,))])),
        "objects": lambda: instead(npy((1,), "|O", b"cos\nsystem\n(S'true'\ntR.")),
        "texts": lambda: instead(npy((1,), "<U4", bytes(16))),
        "dates": lambda: instead(npy((4,), "<M8[s]", bytes(32))),
        "NaN": lambda: instead(npy((4,), content=np.full(4, np.nan, "<f4").tobytes())),
        "an array that was cut": lambda: instead(npy((100,), content=bytes(8))),
        "an array with more behind it": lambda: instead(npy((1,), content=bytes(8))),
        "an odd name": lambda: npz([("../../etc/passwd.npy", first[1]), *rest]),
        "a name of 60,000 letters": lambda: npz([("a" * 60_000, first[1]), *rest]),
        "a member more": lambda: npz([first, *rest, ("7.0.npy", first[1])]),
        "a member less": lambda: npz(rest),
        "a number that is no ASCII": lambda: npz([("٠.0.npy", first[1]), *rest]),
        "300 members": lambda: npz([(f"{n}.0.npy", npy((0,))) for n in range(300)]),
        "60,000 members": lambda: npz([(f"{n}.npy", b"") for n in range(60_000)]),
        "nothing in it": lambda: npz([]),
        "no zip": lambda: b"PK\x03\x04 not really",
        "no bytes": lambda: b"",
    }


@pytest.fixture(scope="module")
def weights(honest):
    return hostile_weights(arrays_of(honest))


NAMES = list(hostile_weights({"0.0": np.zeros(4, np.float32)}))


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_make_no_sense_are_one_line(tagger, weights, name, figure):
    content = weights[name]()
    replace_weights(tagger, content)
    message, took = load_hostile(tagger, 50_000_000)
    assert ".npz: " in message
    if name == "a bomb":
        size = f"{len(content) / 1e3:.0f} kB"
        figure(f"weights of {size} that are a zip of 200 MB are refused", 1, f"{took / 1e6:.1f} MB at the peak")


def test_weights_twice_under_one_name_are_one_line(tagger):
    arrays = [(f"{name}.npy", npy(a.shape, "<f4", a.astype("<f4").tobytes())) for name, a in arrays_of(tagger).items()]
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = npz([*arrays, arrays[0]])
    replace_weights(tagger, content)
    with refusing() as said:
        Tagger.load(tagger)
    assert "twice" in said[0]


def test_a_folder_that_is_no_file_is_one_line(tagger):
    (tagger / "tagger.json").unlink()
    (tagger / "tagger.json").mkdir()
    with refusing() as said:
        Tagger.load(tagger)
    assert said
    weights_of(shutil.copytree(tagger, tagger.with_name("other"))).unlink()


def test_honest_weights_pass_through_the_same_gate(tagger):
    arrays = [(f"{name}.npy", npy(a.shape, "<f4", a.astype("<f4").tobytes())) for name, a in arrays_of(tagger).items()]
    replace_weights(tagger, npz(arrays))
    assert np.isfinite(Tagger.load(tagger).score_track(np.zeros((2, 4), np.float32))).all()


@pytest.mark.parametrize(
    "command", [("tag", "{0}", "--tagger", "{1}"), ("playlist", "{0}", "--mood", "red=1", "--tagger", "{1}")]
)
def test_commands_say_one_line_and_nothing_of_the_file(run, tagger, tmp_path, command):
    store = EmbeddingStore(tmp_path / "store", SPEC)
    store.add("a", np.zeros((2, 4), np.float32))
    edit(tagger, setting("task", "name", to="\x1b[2J\n\u202e"))
    found = run(*(part.format(store.root, tagger) for part in command))
    assert found.status == 2
    assert "\x1b" not in found.err
    assert "\u202e" not in found.err
    assert found.err.count("\n") == 1


# ---- what is no tagger


def pca(**changes):
    arrays = {"pca_means": np.zeros((128, 1)), "pca_eigen_vectors": np.eye(128)}
    file = io.BytesIO()
    np.savez(file, **{**arrays, **changes})
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pca(pca_means=np.zeros(3)),
        pca(pca_means=np.array([None])),
        npz([("pca_means.npy", npy((10**9, 128)))]),
        npz([("pca_means.npy", npy((50_000_000,), content=bytes(200_000_000)))], zipfile.ZIP_DEFLATED),
        bytes(20_000_000),
    ],
)
def test_parameters_of_the_pca_are_one_line(tmp_path, content):
    (tmp_path / "pca.npz").write_bytes(content)
    with memory_below(50_000_000), refusing() as said:
        vggish.read_pca(tmp_path / "pca.npz", allow_untrained=True)
    assert len(said) == 1


def test_other_parameters_of_the_pca_are_told_by_their_sum(tmp_path):
    (tmp_path / "pca.npz").write_bytes(pca())
    with pytest.raises(WeightsError, match="not Google's PCA parameters, whose"):
        vggish.read_pca(tmp_path / "pca.npz")
    means, vectors = vggish.read_pca(tmp_path / "pca.npz", allow_untrained=True)
    assert (means.shape, vectors.shape) == ((128,), (128, 128))


GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def graph_of(name, key):
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.nodes.add().attributes.add(full_name=name, checkpoint_key=key)
    return graph.SerializeToString()


CHECKPOINTS = {
    "a graph that is a number": lambda: {GRAPH: np.float32(1)},
    "a graph of numbers": lambda: {GRAPH: np.zeros(10**6, np.float32)},
    "a graph of no sense": lambda: {GRAPH: b"\xff" * 1000},
    "a graph of 20 MB": lambda: {GRAPH: bytes(20_000_000)},
    "a graph of what is not there": lambda: {GRAPH: graph_of("a", "nowhere")},
    "a variable of texts": lambda: {"a": np.array([b"x"] * 3)},
    "a variable of another shape": lambda: {"a": np.zeros((10, 10), np.float32)},
    "a variable of whole numbers": lambda: {"a": np.zeros(3, np.int64)},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_that_make_no_sense_are_one_line(tmp_path, name):
    tf = import_quietly("tensorflow")
    tensors = CHECKPOINTS[name]()
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
    with refusing() as said:
        checkpoints.read_variables(tmp_path / "model.ckpt", "toy", {"a": (3,)})
    assert "model.ckpt: " in said[0]
