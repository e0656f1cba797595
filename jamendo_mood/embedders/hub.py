"""Weights of networks that Google published on TF-Hub: found, read without running their code, and identified."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import WeightsError
from jamendo_mood.util.tf_logging import import_quietly
from jamendo_mood.util.untrusted import DAMAGES, brief

_MOST_GRAPH_BYTES = 10_000_000  # of names; VGGish's takes some kilobytes

Array = npt.NDArray[np.float32]


def find(path: Path | None, name: str, variable: str, handle: str, *, download: bool = True) -> tuple[Path | None, str]:
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
    download : bool
        Whether TF-Hub may fetch the module when its cache (``TFHUB_CACHE_DIR``) does not have it.

    Returns
    -------
    Path or None
        None: they are nowhere.
    str
        Why not.

    Raises
    ------
    WeightsError
        What was named is not there.
    """
    given = path or (Path(os.environ[variable]) if os.environ.get(variable) else None)
    if given is not None:
        if not given.exists():
            raise WeightsError(f"{given}: no such file or folder of {name} weights")
        return given, ""
    cached = cache_folder(handle)
    if (cached / "saved_model.pb").is_file():
        return cached, ""
    if not download:
        return None, "not in TF-Hub's cache"
    tensorflow_hub = import_quietly("tensorflow_hub")

    try:
        return Path(tensorflow_hub.resolve(handle)), ""
    except Exception as error:  # TF-Hub lets URL, HTTP, tar and file system errors through
        return None, f"downloading {handle} failed: {error}"


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
                raise WeightsError(f"{path}: not {name}, {variable!r} is not of floating-point numbers")
        return {variable: np.asarray(reader.get_tensor(keys[variable]), np.float32) for variable in shapes}
    except (
        tf.errors.OpError,
        DecodeError,
        RuntimeError,
        IndexError,
        *DAMAGES,
    ) as error:  # IndexError: cut short
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
    if len(content) > _MOST_GRAPH_BYTES:
        raise ValueError(f"a graph of more than {_MOST_GRAPH_BYTES:,} bytes")
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(content)
    attributes = [attribute for node in graph.nodes for attribute in node.attributes]
    return {attribute.full_name.partition(":")[0]: attribute.checkpoint_key for attribute in attributes}
