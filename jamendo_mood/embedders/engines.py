"""What runs a network: TensorFlow, MNN or OpenVINO. The network itself is said once, by `Network`, for all of them.

TensorFlow is the reference, and what GPUs have. MNN multiplies by Winograd's method, which makes it the fastest in
float32 on processors, and OpenVINO is that in bfloat16: see docs/benchmarks.md. These two import no TensorFlow.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util import files
from jamendo_mood.util.errors import UsageError, WeightsError
from jamendo_mood.util.process import count_cores, import_quietly

ENGINES = ("auto", "mnn", "openvino", "tensorflow")
PRECISIONS = ("auto", "float32", "bfloat16")

_BATCHES = (4, 8, 16, 32)
"""What MNN is given at once: of the same network it computes fewer than 4 pictures in another way, 1.5e-4 apart."""

Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]


@dataclass(frozen=True)
class Network:
    """A network, float32 (n, frames, bands) -> (n, dim): two functions of an engine's `Ops` and what it computes on."""

    name: str
    shape: tuple[int, int]  #: frames and bands of a picture
    trunk: Callable[[Any, Any], Any]  #: sees a picture with one channel, gives one
    #: sees the numbers of the trunk's picture row by row: frames, of them bands, of them channels. Of the `Ops` it has
    #: `scale`, `relu`, `sigmoid` and `dense`.
    tail: Callable[[Any, Any], Any]
    at_once: int = 0  #: how many pictures at most are run at once, whatever is given: they take memory; 0: all of them


def choose(engine: str = "auto", precision: str = "auto", fastest: str = "mnn") -> tuple[str, str]:
    """Which engine, and in which precision: ``auto`` is what is fastest on this machine.

    On a GPU that is TensorFlow. Else it is bfloat16 by OpenVINO where the processor multiplies that natively
    (AVX512-BF16 or AMX, as Linux says), and elsewhere, or where float32 is asked for, `fastest`: what is for that
    network. Where OpenVINO is not installed, as there is none for every platform, it is TensorFlow. Raises `UsageError`
    if there is no such engine or precision, they do not go together, or the engine is not installed.
    """
    for what, value, known in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise UsageError(f"unknown {what} {value!r} (known: {', '.join(known)})")
    native, has_openvino = _multiplies_bfloat16(), importlib.util.find_spec("openvino") is not None
    if engine == "openvino" and not has_openvino:
        raise UsageError("OpenVINO is not installed: pip install openvino, or give --engine mnn")
    if engine == "auto":
        short = precision == "bfloat16" or (precision == "auto" and native)
        engine = "tensorflow" if has_gpu() else "openvino" if short else fastest
        engine = "tensorflow" if engine == "openvino" and not has_openvino else engine
    if engine == "mnn" and precision == "bfloat16":
        raise UsageError("MNN computes in float32: for bfloat16 give --engine openvino or tensorflow")
    if precision == "auto":
        capable = _gpu_multiplies_bfloat16() if engine == "tensorflow" and has_gpu() else native
        precision = "bfloat16" if capable and engine != "mnn" else "float32"
    return engine, precision


def build(network: Network, engine: str = "tensorflow", precision: str = "float32") -> Run:
    """Make a network ready to run: float32 (n, frames, bands) -> (n, dim), in any thread, one batch after the other."""
    run = {"mnn": _build_mnn, "openvino": _build_openvino, "tensorflow": _build_tensorflow}[engine](network, precision)
    alone, at_once = threading.Lock(), network.at_once  # the network itself need not stay in memory

    def locked(pictures: Array) -> Array:
        pictures = np.ascontiguousarray(pictures, np.float32)
        size = at_once or len(pictures)
        with alone:
            return np.concatenate([run(pictures[start : start + size]) for start in range(0, len(pictures), size)])

    return locked


def preload() -> None:
    """Import what runs networks here, in the main thread, where what it prints as it is imported can be kept back."""
    if not has_gpu():  # which asked TensorFlow, if there may be one
        import_quietly("MNN")


def has_gpu() -> bool:
    """Whether TensorFlow has a GPU here; it is asked only if NVIDIA's driver is."""
    if not Path("/proc/driver/nvidia/version").exists() and shutil.which("nvidia-smi") is None:
        return False
    return bool(import_quietly("tensorflow").config.list_physical_devices("GPU"))


def _gpu_multiplies_bfloat16() -> bool:
    """Whether all GPUs do: from compute capability 8 (Ampere) on."""
    config = import_quietly("tensorflow").config
    details = map(config.experimental.get_device_details, config.list_physical_devices("GPU"))
    return all(own.get("compute_capability", (0, 0)) >= (8, 0) for own in details)


def _multiplies_bfloat16() -> bool:
    """Whether the processor does, and oneDNN, which both engines use for that, may ask it to."""
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        return False
    try:
        return bool({"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))
    except OSError:  # macOS
        return False


class Ops:
    """What networks are made of, on TensorFlow's tensors; `_Recorder` and `_NumpyOps` have the same for other engines.

    A trunk works on pictures (n, frames, bands, channels), a tail on numbers (n, width). Kernels are (frames, bands,
    channels in, channels out).
    """

    def __init__(self, precision: str) -> None:
        self._tf, self._precision = import_quietly("tensorflow"), precision

    def _constant(self, array: Array) -> Any:
        with self._tf.init_scope():  # not in the graph, which would be copied with its constants
            return self._tf.cast(self._tf.constant(array), self._precision)

    def convolve(
        self, x: Any, kernel: Array, bias: Array | None = None, stride: int = 1, *, pad_bands: bool = True
    ) -> Any:
        """Padded with zeros so that frames, and bands if `pad_bands`, become as few as the stride makes them."""
        if pad_bands:
            x = self._tf.nn.conv2d(x, self._constant(kernel), stride, "SAME")
        else:
            x = self._tf.pad(x, ((0, 0), _pads(len(kernel), stride), (0, 0), (0, 0)))
            x = self._tf.nn.conv2d(x, self._constant(kernel), stride, "VALID")
        return x if bias is None else self._tf.nn.bias_add(x, self._constant(bias))

    def convolve_each(self, x: Any, kernel: Array, bias: Array, stride: int = 1) -> Any:
        """Each channel by itself: kernel (frames, bands, channels, 1)."""
        x = self._tf.nn.depthwise_conv2d(x, self._constant(kernel), (1, stride, stride, 1), "SAME")
        return self._tf.nn.bias_add(x, self._constant(bias))

    def halve(self, x: Any) -> Any:
        """The maximum of each 2 x 2 frames and bands."""
        return self._tf.nn.max_pool2d(x, 2, 2, "SAME")

    def highest(self, x: Any, axis: int) -> Any:
        """The maximum over frames (1) or bands (2), of which one is left."""
        return self._tf.reduce_max(x, axis=axis, keepdims=True)

    def mean(self, x: Any, *axes: int) -> Any:
        """The mean over frames (1), bands (2), or both."""
        return self._tf.reduce_mean(x, axis=axes, keepdims=True)

    def concatenate(self, pictures: list[Any]) -> Any:
        """Channels of all of them."""
        return self._tf.concat(pictures, axis=3)

    def add(self, x: Any, y: Any) -> Any:
        """The sum of two pictures."""
        return x + y

    def scale(self, x: Any, factor: Array, offset: Array) -> Any:
        """Each number (in a picture: each channel) times its factor, plus its offset."""
        return x * self._constant(factor) + self._constant(offset)

    def relu(self, x: Any) -> Any:
        """What is below 0 becomes 0."""
        return self._tf.nn.relu(x)

    def sigmoid(self, x: Any) -> Any:
        """Numbers to (0, 1)."""
        return self._tf.sigmoid(x)

    def dense(self, x: Any, kernel: Array, bias: Array) -> Any:
        """Times a kernel (in, out), plus a bias."""
        return self._tf.nn.bias_add(x @ self._constant(kernel), self._constant(bias))


def _build_tensorflow(network: Network, precision: str) -> Run:
    tf, ops = import_quietly("tensorflow"), Ops(precision)

    def compute(pictures: Any) -> Any:
        x = network.trunk(ops, tf.cast(pictures[..., tf.newaxis], precision))
        x = tf.reshape(x, (-1, np.prod(x.shape[1:])))
        return tf.cast(network.tail(ops, x), tf.float32)

    # AutoGraph would look for loops over tensors, of which there are none, and leave files in the temporary folder.
    graph = tf.function(compute, autograph=False, input_signature=[tf.TensorSpec((None, *network.shape))])
    return lambda pictures: np.asarray(graph(tf.constant(pictures)))


class _NumpyOps:
    """The `Ops` of a tail, on arrays."""

    def scale(self, x: Any, factor: Array, offset: Array) -> Any:
        return x * factor + offset

    def relu(self, x: Any) -> Any:
        return np.maximum(x, 0)

    def sigmoid(self, x: Any) -> Any:
        from scipy.special import expit

        return expit(x)

    def dense(self, x: Any, kernel: Array, bias: Array) -> Any:
        return x @ kernel + bias


@dataclass
class Graph:
    """An ONNX graph as it is written down, of float32 ``x`` to ``y``, what its last node gives."""

    #: the output of node 3 is called ``3``
    nodes: list[tuple[str, tuple[str, ...], dict[str, Any]]] = field(default_factory=list)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)  #: the constants by name

    def add_node(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        """Write down a node; inputs are names, or arrays. Returns its output's name."""
        names = []
        for own in inputs:
            names.append(own if isinstance(own, str) else f"a{len(self.arrays)}")
            if not isinstance(own, str):
                self.arrays[names[-1]] = np.asarray(own, order="C")
        self.nodes.append((operation, tuple(names), attributes))
        return str(len(self.nodes) - 1)

    def digest(self) -> str:
        """16 hexadecimal digits that tell this graph from others."""
        digest = hashlib.sha256(repr(self.nodes).encode())
        for name, array in self.arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(array.data)
        return digest.hexdigest()[:16]

    def to_bytes(self, name: str, shape: tuple[str | int, ...], **notes: str) -> bytes:
        """The file, of this name: `shape` is that of ``x``, with words for what may be any, `notes` are kept in it."""
        from onnx import TensorProto, helper, numpy_helper

        last = len(self.nodes) - 1
        nodes = [
            helper.make_node(operation, inputs, ["y" if number == last else str(number)], **attributes)
            for number, (operation, inputs, attributes) in enumerate(self.nodes)
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        arrays = [numpy_helper.from_array(array, own) for own, array in self.arrays.items()]
        graph = helper.make_graph(nodes, name, inputs, outputs, arrays)
        opsets = [helper.make_opsetid("", 13)]  # since 2020
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="jamendo-mood")
        helper.set_model_props(model, notes)
        return bytes(model.SerializeToString())


class _Recorder(Graph):
    """`Ops` that write down what is asked of them, where pictures have channels first."""

    channels: tuple[int, ...] = (-1, 1, 1)  # the shape of a factor for each: until `flatten` a picture's channels

    def convolve(
        self, x: Any, kernel: Array, bias: Any = None, stride: int = 1, *, pad_bands: bool = True, group: int = 1
    ) -> Any:
        frames, bands = _pads(kernel.shape[0], stride), _pads(kernel.shape[1], stride) if pad_bands else (0, 0)
        pads = [frames[0], bands[0], frames[1], bands[1]]
        inputs = (x, kernel.transpose(3, 2, 0, 1), *(() if bias is None else (bias,)))
        shape = list(kernel.shape[:2])
        return self.add_node("Conv", *inputs, kernel_shape=shape, strides=[stride] * 2, group=group, pads=pads)

    def convolve_each(self, x: Any, kernel: Array, bias: Array, stride: int = 1) -> Any:
        return self.convolve(x, kernel.swapaxes(2, 3), bias, stride, group=kernel.shape[2])

    halve = functools.partialmethod(Graph.add_node, "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    add = functools.partialmethod(Graph.add_node, "Add")
    relu = functools.partialmethod(Graph.add_node, "Relu")
    sigmoid = functools.partialmethod(Graph.add_node, "Sigmoid")
    dense = functools.partialmethod(Graph.add_node, "Gemm")

    def highest(self, x: Any, axis: int) -> Any:
        return self.add_node("ReduceMax", x, axes=[axis + 1], keepdims=1)

    def mean(self, x: Any, *axes: int) -> Any:
        return self.add_node("ReduceMean", x, axes=[axis + 1 for axis in axes], keepdims=1)

    def concatenate(self, pictures: list[Any]) -> Any:
        return self.add_node("Concat", *pictures, axis=1)

    def scale(self, x: Any, factor: Array, offset: Array) -> Any:
        factor, offset = factor.reshape(self.channels), offset.reshape(self.channels)
        return self.add_node("Add", self.add_node("Mul", x, factor), offset)

    def flatten(self, x: Any) -> Any:
        """A picture's numbers, row by row; what comes after it is a tail."""
        self.channels = (-1,)
        return self.add_node("Reshape", self.add_node("Transpose", x, perm=[0, 2, 3, 1]), np.array([0, -1]))


def _record(network: Network, *, whole: bool = True) -> _Recorder:
    """Write a network, or its trunk alone, down."""
    recorder = _Recorder()
    x = network.trunk(recorder, recorder.add_node("Unsqueeze", "x", np.array([1])))
    if whole:
        network.tail(recorder, recorder.flatten(x))
    return recorder


def to_onnx(network: Network, **notes: str) -> bytes:
    """An ONNX file of a network: ``x``, float32 (n, frames, bands), to ``y``, float32 (n, dim)."""
    return _record(network).to_bytes(network.name, ("n", *network.shape), **notes)


@functools.cache
def _openvino_core() -> Any:
    """OpenVINO itself, one for the whole process.

    On processors with AMX each of them gives its thread another stack for signals. When the first has gone and then the
    second goes, the thread is left with the first one's, which is no more: the next Ctrl-C is a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _build_openvino(network: Network, precision: str) -> Run:
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    setup = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": count_cores()}
    core = _openvino_core()
    whole = core.compile_model(core.read_model(to_onnx(network)), "CPU", setup)
    return lambda pictures: np.array(whole(pictures)[0], np.float32)


def _build_mnn(network: Network, _: str) -> Run:
    """The trunk by MNN, and the tail by NumPy.

    A tail's layers are matrix products, which take NumPy no longer than MNN in float32, and are most of VGGish's
    288 MB, which need not be converted then.
    """
    mnn = import_quietly("MNN")
    expr = mnn.expr
    manager = mnn.nn.create_runtime_manager(({"backend": "CPU", "precision": "normal", "numThread": count_cores()},))
    recorder = _record(network, whole=False)
    name = f"{network.name}-{recorder.digest()}"
    content = files.kept(name, ".mnn", lambda: _convert(recorder.to_bytes(network.name, ("n", *network.shape))))
    with tempfile.TemporaryDirectory(prefix="jamendo-mood-") as folder:
        path = Path(folder, "network.mnn")
        path.write_bytes(content)
        trunk = mnn.nn.load_module_from_file(str(path), ["x"], ["y"], runtime_manager=manager)

    def run(pictures: Array) -> Array:
        done = []
        for start in range(0, len(pictures), _BATCHES[-1]):
            batch = pictures[start : start + _BATCHES[-1]]
            size = next(size for size in _BATCHES if size >= len(batch))
            given = expr.placeholder([size, *network.shape], expr.NCHW)
            given.write(np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0))))
            found = expr.convert(trunk.forward([given])[0], expr.NCHW).read()  # overwritten by the next batch
            done.append(np.array(found[: len(batch)], np.float32))
        picture = np.concatenate(done).transpose(0, 2, 3, 1)  # channels come last in a tail
        rows = np.array(picture, order="C").reshape(len(picture), -1)
        return np.asarray(network.tail(_NumpyOps(), rows))

    return run


# The module that is kept out would install a package, and report the conversion to the makers of MNN.
_CONVERT = """
import sys
sys.modules["MNN.tools.utils.log"] = None
from MNN.tools.mnnconvert import convert
convert(["mnnconvert", "-f", "ONNX", "--modelFile", sys.argv[1], "--MNNModel", sys.argv[2], "--bizCode", "-"])
"""


def _convert(onnx: bytes) -> bytes:
    """An ONNX file as MNN's, by its converter, in a process of its own: it writes much to stdout."""
    with tempfile.TemporaryDirectory(prefix="jamendo-mood-") as folder:
        given, made = Path(folder, "network.onnx"), Path(folder, "network.mnn")
        given.write_bytes(onnx)
        command = [sys.executable, "-c", _CONVERT, str(given), str(made)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if not made.is_file():
            reason = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no reason given"]
            raise WeightsError(f"MNN could not convert the network ({reason[0]}): give --engine tensorflow")
        return made.read_bytes()


def _pads(length: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow pads what the stride divides."""
    both = max(length - stride, 0)
    return both // 2, both - both // 2
