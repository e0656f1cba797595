"""Taggers and weights from a stranger: one line of error, no code, and no more memory than the file is worth."""

import hashlib
import io
import json
import shutil
import struct
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
from jamendo_mood.util import files
from jamendo_mood.util.process import import_quietly

pytest_plugins = ["toy_commands"]

MOST_BYTES = 300_000_000  # of memory for what a stranger made of a few kilobytes
MOST_S = 30.0  # on a busy machine; a second on a quiet one


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest") / "tagger"
    two = [make_tagger(TASK, config=HeadConfig("mlp", hidden=6, layers=1), seed=seed) for seed in (0, 1)]
    replace(two[0], weights=(*two[0].weights, *two[1].weights)).save(folder)
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


def members_of(folder):
    """The arrays of a tagger as members of a zip of numpy's, in which weights once were."""
    arrays = safetensors.numpy.load_file(weights_of(folder))
    return [(f"{name}.npy", npy(a.shape, "<f4", a.astype("<f4").tobytes())) for name, a in arrays.items()]


def replace_weights(folder, content):
    """Other weights under a right checksum: what somebody would do who means harm."""
    weights_of(folder).unlink()
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / f"weights-{sha256[:12]}.npz").write_bytes(content)
    edit(folder, "weights_sha256", to=sha256)


def edit(folder, *place, to):
    """Another value at a place in the manifest, or none there."""
    values = json.loads((folder / "tagger.json").read_text())
    inside = values
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = to
    if to is None:
        del inside[place[-1]]
    (folder / "tagger.json").write_text(json.dumps(values))


def npy(shape, dtype="<f4", content=b""):
    """A header that says what it likes, and what follows it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
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


MANIFESTS = {
    "head of 10**9 units": ("head", "hidden", 10**9),
    "head of 10**9 layers": ("head", "layers", 10**9),
    "units that are no whole number": ("head", "hidden", 6.0),
    "unknown head": ("head", "name", "__import__('os').system('true')"),
    "infinite penalty": ("head", "l2", 1e999),
    "10**6 targets": ("task", "targets", [f"t{n}" for n in range(300_000)]),
    "targets that are a text": ("task", "targets", "abc"),
    "a target with an escape": ("task", "targets", ["a\x1b[2J", "b", "c"]),
    "a target of two lines": ("task", "targets", ["a\nb", "b", "c"]),
    "a target that turns the text around": ("task", "targets", ["a\u202eb", "b", "c"]),
    "a target without a name": ("task", "targets", ["", "b", "c"]),
    "a target of 10**6 letters": ("task", "targets", ["a" * 10**6, "b", "c"]),
    "a target twice": ("task", "targets", ["a", "a", "c"]),
    "a task of another kind": ("task", "kind", "a" * 10**6),
    "a scale of three": ("task", "scale", [1, 2, 3]),
    "a scale without an end": ("task", "scale", [0, 1e999]),
    "dim of 10**9": ("embedder", "dim", 10**9),
    "a hop of 0": ("embedder", "hop_s", 0),
    "an endless hop": ("embedder", "hop_s", 1e999),
    "an embedder named by a path": ("embedder", "name", "../../\x1b[2J\n"),
    "an embedder that is more": ("embedder", "code", "import os"),
    "weights elsewhere": ("weights_sha256", "../../../../etc/passwd"),
    "NaN as calibration": ("calibration", [[float("nan"), 0]] * 3),
    "infinite calibration": ("calibration", [[1e999, 0]] * 3),
    "calibration of one column": ("calibration", [[1], [1], [1]]),
    "calibration of three columns": ("calibration", [[1, 2], [3]]),
    "calibration nested deep": ("calibration", json.loads("[" * 200 + "]" * 200)),
    "grades that are unknown": ("grades", ["<b>", "good", "good"]),
    "grades of others": ("grades", ["good"]),
    "a record without a number of tracks": ("record", "tracks", "many"),
    "a record that counts in objects": ("record", "positives", {"red": {}}),
    "a split that is text": ("record", "split", "0; rm"),
    "scores that are text": ("scores", {"PR-AUC-macro": "high"}),
    "scores that are endless": ("scores", {"PR-AUC-macro": 1e999}),
    "intervals of three": ("intervals", {"PR-AUC-macro": [1, 2, 3]}),
    "another format": ("format", "x" * 10**6),
    **{f"no {name}": (name, None) for name in ("task", "head", "embedder", "calibration", "grades", "record")},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_makes_no_sense_is_one_line(tagger, name):
    *place, value = MANIFESTS[name]
    edit(tagger, *place, to=value)
    assert str(tagger) in load_hostile(tagger)[0]


CONTENTS = {
    "nested deep": b"[" * 100_000 + b"]" * 100_000,
    "nested deep in objects": b'{"a":' * 100_000,
    "more than 8 MB": b" " * 9_000_000,
    "a number of 10**6 digits": b'{"format": ' + b"9" * 10**6 + b"}",
    "no UTF-8": b"\xff\xff\xff",
    "NaN": b'{"format": NaN}',
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_manifest_of_any_bytes_is_one_line(tagger, content):
    (tagger / "tagger.json").write_bytes(content)
    load_hostile(tagger)


@pytest.mark.thorough
def test_the_worst_json_takes_some_memory_and_no_more(figure):
    with memory_below(MOST_BYTES) as peak:
        files.parse_json(b"[" + b"[]," * 2_660_000 + b"[]]")
    figure("JSON of 8 MB that is all empty lists", 1, f"{peak[0] / 1e6:.0f} MB of memory")


def instead(content):
    """Weights of which the first array is another."""
    return lambda first, rest: npz([(first[0], content), *rest])


# What makes weights that a loader could fall for, of the members of honest ones.
WEIGHTS = {
    "a bomb": lambda first, rest: npz(
        [(first[0], npy((50_000_000,), content=bytes(200_000_000))), *rest], zipfile.ZIP_DEFLATED
    ),
    "weights that were deflated": lambda first, rest: npz(
        [("0.0.npy", npy((10_000,), content=bytes(40_000)))], zipfile.ZIP_DEFLATED
    ),
    "a header of 512 GB": instead(npy((10**9, 128))),
    "a header beyond 64 bits": instead(npy((10**15, 10**15))),
    "a negative shape": instead(npy((-1, 4), content=bytes(16))),
    "a shape of texts": instead(raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': ('a',), }\n")),
    "a header that is code": instead(raw_npy("__import__('os').system('true')\n")),
    "a header nested deep": instead(raw_npy("-" * 9_000 + "1\n")),
    "a header in brackets": instead(raw_npy("(" * 9_000 + "\n")),
    "a header of 60,000 bytes": instead(raw_npy("{'descr': '<f4'," + " " * 60_000 + "}\n")),
    "10**12 things of no size": instead(npy((10**12,), "<U0")),
    "records": instead(npy((1,), [("a", "<f4"), ("b", "<f4")], bytes(8))),
    "an array in an array": instead(npy((1,), [("a", "<f4", (10**9,))])),
    "objects": instead(npy((1,), "|O", b"cos\nsystem\n(S'true'\ntR.")),
    "texts": instead(npy((1,), "<U4", bytes(16))),
    "dates": instead(npy((4,), "<M8[s]", bytes(32))),
    "NaN": instead(npy((4,), content=np.full(4, np.nan, "<f4").tobytes())),
    "an array that was cut": instead(npy((100,), content=bytes(8))),
    "an array with more behind it": instead(npy((1,), content=bytes(8))),
    "an odd name": lambda first, rest: npz([("../../etc/passwd.npy", first[1]), *rest]),
    "a name of 60,000 letters": lambda first, rest: npz([("a" * 60_000, first[1]), *rest]),
    "a member more": lambda first, rest: npz([first, *rest, ("7.0.npy", first[1])]),
    "a member twice": lambda first, rest: npz([first, *rest, first]),
    "a member less": lambda first, rest: npz(rest),
    "a number that is no ASCII": lambda first, rest: npz([("٠.0.npy", first[1]), *rest]),
    "300 members": lambda first, rest: npz([(f"{n}.0.npy", npy((0,))) for n in range(300)]),
    "60,000 members": lambda first, rest: npz([(f"{n}.npy", b"") for n in range(60_000)]),
    "nothing in it": lambda first, rest: npz([]),
    "no zip": lambda first, rest: b"PK\x03\x04 not really",
    "no bytes": lambda first, rest: b"",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_make_no_sense_are_one_line(tagger, name, figure):
    first, *rest = members_of(tagger)
    content = WEIGHTS[name](first, rest)
    replace_weights(tagger, content)
    message, took = load_hostile(tagger, 50_000_000)
    assert ".npz: " in message
    if name == "a bomb":
        size = f"{len(content) / 1e3:.0f} kB"
        figure(f"weights of {size} that are a zip of 200 MB are refused", 1, f"{took / 1e6:.1f} MB at the peak")


def test_honest_weights_pass_through_the_same_gate(tagger):
    replace_weights(tagger, npz(members_of(tagger)))
    assert np.isfinite(Tagger.load(tagger).score_track(np.zeros((2, 4), np.float32))).all()


@pytest.mark.parametrize(
    "command", [("tag", "{0}", "--tagger", "{1}"), ("playlist", "{0}", "--mood", "red=1", "--tagger", "{1}")]
)
def test_commands_say_one_line_and_nothing_of_the_file(run, tagger, tmp_path, command):
    store = EmbeddingStore(tmp_path / "store", SPEC)
    store.add("a", np.zeros((2, 4), np.float32))
    edit(tagger, "task", "name", to="\x1b[2J\n\u202e")
    found = run(*(part.format(store.root, tagger) for part in command))
    assert found.status == 2
    assert "\x1b" not in found.err
    assert "\u202e" not in found.err
    assert found.err.count("\n") == 1


# ---- what is no tagger


def pca(means):
    file = io.BytesIO()
    np.savez(file, pca_means=means, pca_eigen_vectors=np.eye(128))
    return file.getvalue()


def test_parameters_of_the_pca_are_one_line(tmp_path):
    bomb = npz([("pca_means.npy", npy((50_000_000,), content=bytes(200_000_000)))], zipfile.ZIP_DEFLATED)
    large = npz([("pca_means.npy", npy((10**9, 128)))])
    for content in (b"", pca(np.zeros(3)), pca(np.array([None])), large, bomb, bytes(20_000_000)):
        (tmp_path / "pca.npz").write_bytes(content)
        with memory_below(50_000_000), refusing() as said:
            vggish.read_pca(tmp_path / "pca.npz", allow_untrained=True)
        assert said


GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def graph_of_what_is_not_there():
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.nodes.add().attributes.add(full_name="a", checkpoint_key="nowhere")
    return graph.SerializeToString()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (GRAPH, lambda: np.float32(1)),
        (GRAPH, lambda: np.zeros(10**6, np.float32)),
        (GRAPH, lambda: b"\xff" * 1000),  # of no sense
        (GRAPH, lambda: bytes(20_000_000)),
        (GRAPH, graph_of_what_is_not_there),
        ("a", lambda: np.array([b"x"] * 3)),
        ("a", lambda: np.zeros((10, 10), np.float32)),  # of another shape
        ("a", lambda: np.zeros(3, np.int64)),
    ],
)
def test_checkpoints_that_make_no_sense_are_one_line(tmp_path, name, make):
    tf = import_quietly("tensorflow")
    prefix, tensors = str(tmp_path / "model.ckpt"), [tf.constant(make())]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=[name], shape_and_slices=[""], tensors=tensors)
    with refusing() as said:
        checkpoints.read_variables(tmp_path / "model.ckpt", "toy", {"a": (3,)})
    assert "model.ckpt: " in said[0]
