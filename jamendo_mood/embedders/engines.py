"""What runs a network: TF-Hub modules, and TFLite files read as data, without the interpreter."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import WeightsError
from jamendo_mood.util.process import import_quietly
from jamendo_mood.util.untrusted import DAMAGES, brief

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
    """Read variables, by their names in Google's code, from a TF-Hub module's folder or a checkpoint.

    Parameters
    ----------
    path : Path
    name : str
        What errors call the network.
    shapes : mapping
        The variables wanted.

    Raises
    ------
    WeightsError
        The file cannot be read, or a variable is missing or of another shape.
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


IDENTIFIER = b"TFL3"
_TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 7: "<i2", 9: "i1", 10: "<f8"}
_SUBGRAPHS, _BUFFERS = 2, 4  # of a model
_TENSORS = 0  # of a subgraph
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTIZATION = range(5)  # of a tensor
_SCALES, _ZEROS, _DIMENSION = 2, 3, 6  # of a quantization
_DATA = 0  # of a buffer
_MAX_TENSORS = 10_000  # of all subgraphs together, for many offsets may lead to one place
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
    """Read the constants of a TFLite file.

    Raises
    ------
    ValueError
        It is none, or damaged.
    """
    if content[4:8] != IDENTIFIER:
        raise ValueError("it does not begin as one")
    try:
        model = _Table(content, _read(content, "<I", 0))
        buffers = list(model.tables(_BUFFERS))
        tensors = (tensor for graph in model.tables(_SUBGRAPHS) for tensor in graph.tables(_TENSORS))
        constants = [_read_constant(tensor, buffers) for tensor in itertools.islice(tensors, _MAX_TENSORS)]
        if next(tensors, None) is not None:
            raise ValueError(f"damaged: more than {_MAX_TENSORS} tensors")
        return [constant for constant in constants if constant is not None]
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"damaged: {error}") from error


def _read_constant(tensor: _Table, buffers: list[_Table]) -> Constant | None:
    """A tensor with its numbers; None if it has none, for it is computed, or they are of no type of numbers."""
    data = buffers[tensor.number("<I", _BUFFER)].array("u1", _DATA)
    kind = _TYPES.get(tensor.number("<b", _TYPE))
    if kind is None or not len(data):
        return None
    lengths, letters = tensor.array("<i4", _SHAPE), tensor.array("u1", _NAME)
    if len(letters) > _MAX_NAME_LENGTH or len(lengths) > _MAX_DIMENSIONS:
        raise ValueError(f"damaged: a name of {len(letters)} bytes, {len(lengths)} dimensions")
    shape = tuple(lengths.tolist())
    if any(length < 0 for length in shape) or math.prod(shape) * np.dtype(kind).itemsize != len(data):
        raise ValueError(f"damaged: {len(data)} bytes for the shape {shape}")
    rounding = next(tensor.inner(_QUANTIZATION), None)
    scales = np.zeros(0, np.float32) if rounding is None else rounding.array("<f4", _SCALES)
    zeros = np.zeros(0, np.int64) if rounding is None else rounding.array("<i8", _ZEROS)
    axis = 0 if rounding is None else rounding.number("<i", _DIMENSION)
    if len(zeros) != len(scales) or (len(scales) > 1 and (not 0 <= axis < len(shape) or shape[axis] != len(scales))):
        raise ValueError(f"damaged: {len(scales)} scales and {len(zeros)} zeros for the shape {shape}")
    return Constant(letters.tobytes().decode(), data.view(kind).reshape(shape), scales, zeros, axis)


class _Table:
    """A table of FlatBuffers: fields by number, each of which may be missing."""

    def __init__(self, content: bytes, start: int) -> None:
        self._content, self._start = content, start
        self._index = start - _read(content, "<i", start)
        self._index_size = _read(content, "<H", self._index)

    def number(self, kind: str, field: int) -> int:
        """A whole number; 0 where it is missing."""
        place = self._place(field)
        return 0 if place is None else _read(self._content, kind, place)

    def array(self, kind: str, field: int) -> npt.NDArray[Any]:
        """A vector of numbers; an empty one where it is missing."""
        place = self._place(field)
        if place is None:
            return np.zeros(0, kind)
        start = place + _read(self._content, "<I", place)
        count = _read(self._content, "<I", start)
        if start + 4 + count * np.dtype(kind).itemsize > len(self._content):
            raise IndexError(f"{count} numbers from byte {start} on")
        return np.frombuffer(self._content, kind, count, start + 4)

    def tables(self, field: int) -> Iterator[_Table]:
        """The tables of a vector of them."""
        place = self._place(field)
        offsets = self.array("<u4", field)
        if place is None or len(offsets) > _MAX_TENSORS:
            raise ValueError(f"damaged: {len(offsets)} parts where there are 1 to {_MAX_TENSORS}")
        start = place + _read(self._content, "<I", place) + 4
        for number, offset in enumerate(offsets.tolist()):
            yield _Table(self._content, start + 4 * number + offset)

    def inner(self, field: int) -> Iterator[_Table]:
        """The table that a field is; nothing where it is missing."""
        place = self._place(field)
        if place is not None:
            yield _Table(self._content, place + _read(self._content, "<I", place))

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = _read(self._content, "<H", self._index + slot) if slot < self._index_size else 0
        return self._start + offset if offset else None


def _read(content: bytes, kind: str, place: int) -> int:
    """A whole number that stands somewhere; `struct.error` or IndexError if the file ends before."""
    if place < 0:
        raise IndexError(f"byte {place}")
    number: int = struct.unpack_from(kind, content, place)[0]
    return number
