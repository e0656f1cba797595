"""Weights of networks: found, and read as data from TF-Hub modules, checkpoints and TFLite files; nothing is run."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import WeightsError
from jamendo_mood.util.files import DAMAGES, brief
from jamendo_mood.util.process import import_quietly

_MAX_GRAPH_BYTES = 10_000_000  # of names; VGGish's takes some kilobytes

Array = npt.NDArray[np.float32]


def find_weights(path: Path | None, name: str, variable: str, handle: str, file: str, *, download: bool = True) -> Path:
    """Find a network's weights: `path`, else the environment `variable`, else TF-Hub's cache, else a download.

    Parameters
    ----------
    path : Path or None
        What the user named.
    name : str
        What errors call the network.
    variable : str
        Of the environment.
    handle : str
        TF-Hub's address of the module.
    file : str
        For the error: the other file that may be given, how, and where it is.
    download : bool
        Whether TF-Hub may download the module if its cache (``TFHUB_CACHE_DIR``) does not have it.

    Raises
    ------
    WeightsError
        There are none; the message gives the three ways to get them.
    """
    given = path or (Path(os.environ[variable]) if os.environ.get(variable) else None)
    if given is not None:
        if not given.exists():
            raise WeightsError(f"{given}: no such file or folder of {name} weights")
        return given
    cached = cache_folder(handle)
    if (cached / "saved_model.pb").is_file():
        return cached
    reason = "not in TF-Hub's cache"
    if download:
        try:
            tensorflow_hub = import_quietly("tensorflow_hub")
            return Path(tensorflow_hub.resolve(handle))
        except Exception as error:  # TF-Hub lets URL, HTTP, tar and file system errors through
            reason = f"downloading {handle} failed: {error}"
    raise WeightsError(
        f"{name}'s weights are not here ({reason}). Three ways to get them: "
        f"(1) with network access they are downloaded from {handle} (kept in TFHUB_CACHE_DIR); "
        f"(2) give a copy of that module with --weights FOLDER or {variable}=FOLDER; "
        f"(3) give {file}. "
        "Without them, --embedder logmel needs no weights."
    )


def cache_folder(handle: str) -> Path:
    """Where TF-Hub keeps a module: a folder named by the SHA-1 of the handle."""
    base = os.environ.get("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    return Path(base) / hashlib.sha1(handle.encode()).hexdigest()


def read_variables(path: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Read the variables of `shapes`, by their names in Google's code, from a TF-Hub module's folder or a checkpoint.

    Errors call the network `name`. WeightsError if the file cannot be read, or a variable is missing or has another
    shape.
    """
    tf = import_quietly("tensorflow")
    from google.protobuf.message import DecodeError

    prefix = path / "variables" / "variables" if path.is_dir() else path.with_name(path.name.removesuffix(".index"))
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        stored = reader.get_variable_to_shape_map()
        keys = _keys_by_name(reader, list(stored))
        missing = sorted(shapes.keys() - keys.keys())
        if missing:
            raise WeightsError(f"{path}: not {name}, the variable {missing[0]!r} is missing")
        for variable, shape in shapes.items():
            found = tuple(stored[keys[variable]])
            if found != shape:
                raise WeightsError(f"{path}: not {name}, {variable!r} has the shape {found} instead of {shape}")
            if not reader.get_variable_to_dtype_map()[keys[variable]].is_floating:
                raise WeightsError(f"{path}: not {name}, {variable!r} does not hold floating-point numbers")
        return {variable: np.asarray(reader.get_tensor(keys[variable]), np.float32) for variable in shapes}
    except (tf.errors.OpError, DecodeError, IndexError, *DAMAGES) as error:  # IndexError: cut short
        raise WeightsError(f"{path}: no {name} module or checkpoint can be read there ({brief(error)})") from error


def fingerprint(variables: Mapping[str, Array]) -> str:
    """One SHA-256 over variables, sorted by name, as little-endian float32: the same for module and checkpoint."""
    digest = hashlib.sha256()
    for name in sorted(variables):
        digest.update(np.ascontiguousarray(variables[name], "<f4").data)
    return digest.hexdigest()


def _keys_by_name(reader: Any, stored: list[str]) -> dict[str, str]:
    """Map names of variables to keys of the checkpoint.

    In a checkpoint of TensorFlow 1 the keys are the names. A SavedModel has keys by place in its object graph, and
    that graph, itself a tensor of the checkpoint, holds the names.
    """
    graph_key = "_CHECKPOINTABLE_OBJECT_GRAPH"
    if graph_key not in stored:
        return {name: name for name in stored}
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    content = reader.get_tensor(graph_key)
    if len(content) > _MAX_GRAPH_BYTES:
        raise ValueError(f"a graph of more than {_MAX_GRAPH_BYTES:,} bytes")
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(content)
    attributes = [attribute for node in graph.nodes for attribute in node.attributes]
    return {attribute.full_name.partition(":")[0]: attribute.checkpoint_key for attribute in attributes}


_TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 7: "<i2", 9: "i1", 10: "<f8"}  # by their number in TFLite
_MAX_TENSORS = 10_000  # of all subgraphs together, for many offsets may lead to the same tensor
_MAX_NAME_LENGTH, _MAX_DIMENSIONS = 10_000, 8


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that the file holds.

    Attributes
    ----------
    name : str
    values : array
        As they are stored: floats, or integers that stand for ``(value - zero) * scale``.
    scales, zeros : arrays (channels,)
        Of one length; empty where nothing was rounded.
    axis : int
        That of the channels.
    """

    name: str
    values: npt.NDArray[Any]
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.int64]
    axis: int

    def dequantised(self) -> npt.NDArray[np.float32]:
        """The numbers that the values stand for; ValueError if one of them is not finite."""
        with np.errstate(all="ignore"):
            numbers = self.values.astype(np.float64)
            if len(self.scales):
                shape = [1] * self.values.ndim
                if len(self.scales) > 1:
                    shape[self.axis] = len(self.scales)
                numbers = (numbers - self.zeros.reshape(shape)) * self.scales.reshape(shape)
        if not (np.abs(numbers) <= np.finfo(np.float32).max).all():
            raise ValueError(f"{self.name!r} has numbers that are not finite")
        return np.asarray(numbers, np.float32)


def read_constants(content: bytes) -> list[Constant]:
    """Read the constants of a TFLite file; ValueError if it is damaged or another file."""
    if content[4:8] != b"TFL3":
        raise ValueError("it does not begin as one")
    schema = import_quietly("tensorflow.lite.python.schema_py_generated")
    try:
        model = schema.Model.GetRootAs(content)
        graphs = [model.Subgraphs(number) for number in range(_count(model, "Subgraphs"))]
        buffers = [model.Buffers(number) for number in range(_count(model, "Buffers"))]
        if sum(_count(graph, "Tensors") for graph in graphs) > _MAX_TENSORS:
            raise ValueError(f"damaged: more than {_MAX_TENSORS} tensors")
        tensors = [graph.Tensors(number) for graph in graphs for number in range(graph.TensorsLength())]
        constants = [_read_constant(tensor, buffers[tensor.Buffer()]) for tensor in tensors]
        return [constant for constant in constants if constant is not None]
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, TypeError) as error:
        raise ValueError(f"damaged: {error}") from error


def _read_constant(tensor: Any, buffer: Any) -> Constant | None:
    """A tensor with its numbers; None if they are computed, or not of a type of numbers."""
    data, kind = _vector(buffer, "Data", "u1"), _TYPES.get(tensor.Type())
    if kind is None or not len(data):
        return None
    letters, shape = tensor.Name() or b"", tuple(_vector(tensor, "Shape", "<i4").tolist())
    if len(letters) > _MAX_NAME_LENGTH or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"damaged: a name of {len(letters)} bytes, {len(shape)} dimensions")
    if any(length < 0 for length in shape) or math.prod(shape) * np.dtype(kind).itemsize != len(data):
        raise ValueError(f"damaged: {len(data)} bytes for the shape {shape}")
    rounding = tensor.Quantization()
    scales, zeros, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if rounding is not None:
        scales, zeros = _vector(rounding, "Scale", "<f4"), _vector(rounding, "ZeroPoint", "<i8")
        axis = rounding.QuantizedDimension()
    if len(zeros) != len(scales) or (len(scales) > 1 and (not 0 <= axis < len(shape) or shape[axis] != len(scales))):
        raise ValueError(f"damaged: {len(scales)} scales and {len(zeros)} zeros for the shape {shape}")
    return Constant(letters.decode(), data.view(kind).reshape(shape), scales, zeros, axis)


def _count(table: Any, name: str) -> int:
    """How many parts of that name a table of the file says it has."""
    count: int = getattr(table, f"{name}Length")()
    if not 0 < count <= _MAX_TENSORS:
        raise ValueError(f"damaged: {count} {name.lower()} instead of 1 to {_MAX_TENSORS}")
    return count


def _vector(table: Any, name: str, kind: str) -> npt.NDArray[Any]:
    """The numbers of that name; an empty array where they are missing."""
    numbers: npt.NDArray[Any] = getattr(table, f"{name}AsNumpy")() if getattr(table, f"{name}Length")() else np.zeros(0)
    return numbers.astype(kind, copy=False)
