"""Weights of networks: found, and read as data from TF-Hub modules, checkpoints and TFLite files; nothing is run."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import math
import os
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from jamendo_mood.util import files, remote
from jamendo_mood.util.errors import DownloadError, MoodError, WeightsError
from jamendo_mood.util.files import DAMAGES, brief
from jamendo_mood.util.plaintext import note
from jamendo_mood.util.process import import_quietly

HUB = "https://tfhub.dev/google/{}/1"
KAGGLE = "https://www.kaggle.com/models/google/{0}/TensorFlow2/{0}/1"
KAGGLE_DOWNLOAD = "https://www.kaggle.com/api/v1/models/google/{0}/tensorFlow2/{0}/1/download"

_MAX_MODULE_BYTES = 600_000_000  # VGGish's has 288 million
_PLACES_NAME = "weights.json"
_MAX_GRAPH_BYTES = 10_000_000  # of names; VGGish's takes some kilobytes

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """The weights of a network on this machine: found, fetched, and told from others."""

    name: str  #: ``VGGish``, ``YAMNet``, ``musicnn``
    size: str  #: of the download
    places: Callable[[], Sequence[Path]]  #: where they are looked for, and what `sources` download is kept
    #: by address, in the order in which they are asked: downloads, checks and keeps them, and returns where
    sources: Mapping[str, Callable[[str], Path]]
    read: Callable[[Path], object]  #: reads a file or folder as this network's; WeightsError if it is not
    remedy: str  #: what to do where they are not there and no address answers

    @property
    def variable(self) -> str:
        """The variable of the environment that may name them, such as ``JAMENDO_MOOD_VGGISH``."""
        return f"JAMENDO_MOOD_{self.name.upper()}"

    def find(self, path: Path | None = None, *, download: bool = True) -> Path:
        """`path`, else what the environment names, else what is kept, else (`download`) by `fetch`; or WeightsError."""
        if given := path or os.environ.get(self.variable):
            if not Path(given).exists():
                raise WeightsError(f"{given}: no such file or folder of {self.name} weights")
            return Path(given)
        if found := self.kept():
            return found
        if not download:
            raise WeightsError(f"{self.name}'s weights are not here. {self.remedy}")
        return self.fetch()

    def kept(self) -> Path | None:
        """Where they are on this machine without being named; None if they are not."""
        return next((place for place in (recall(self.name), *self.places()) if place and not _missing_in(place)), None)

    def fetch(self) -> Path:
        """Download them from the first address that has them, with a note of each that does not, or WeightsError."""
        own = files.cache_folder() / f"{self.name}.lock"
        with files.disk_errors(own, WeightsError):
            own.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(own), contextlib.ExitStack() as stack:  # of processes that start together one downloads
            stack.callback(own.unlink, missing_ok=True)
            if found := self.kept():
                return found
            for address, get in self.sources.items():
                note(f"asking {address} for {self.name}'s weights ({self.size})")
                try:
                    return get(address)
                except (WeightsError, DownloadError) as error:
                    note(f"  {error}")
        raise WeightsError(f"{self.name}'s weights are not here, and no address has them. {self.remedy}")

    def remove(self) -> list[Path]:
        """Delete what is kept in the caches, broken downloads too, but nothing that the user named; returns what."""
        own, cache = self.name.lower(), files.cache_folder()
        found = [path for place in self.places() for path in (place, *place.parent.glob(f"{place.name}*.part"))]
        found = [path for path in found if path.exists()]
        found += [*cache.glob(f"{own}-*.safetensors"), *cache.glob(f"{own}-*.mnn")]
        for path in found:
            with files.disk_errors(path, WeightsError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return found


def hub_weights(name: str, size: str, read: Callable[[Path], object], file: str) -> Weights:
    """The weights of a network of Google's on TF-Hub; `file` says what other form `read` takes, and where that is."""
    own = name.lower()
    handle = HUB.format(own)

    def get(address: str) -> Path:
        named = os.environ.get("TFHUB_CACHE_DIR")  # then it is put where TF-Hub itself would put it
        return _fetch_module(address, cache_folder(handle) if named else files.cache_folder() / own, read)

    return Weights(
        name,
        size,
        places=lambda: [files.cache_folder() / own, cache_folder(handle), cache_folder(KAGGLE.format(own))],
        sources=dict.fromkeys([f"{handle}?tf-hub-format=compressed", KAGGLE_DOWNLOAD.format(own)], get),
        read=read,
        remedy=f"Three ways to get them: (1) with network access, `jamendo-mood weights {own} --get` downloads them, "
        f"from {handle} or a mirror (kept in this user's cache, or in TFHUB_CACHE_DIR if that is set); "
        "(2) give a copy of that module, a folder or .tar.gz, with --weights FOLDER or "
        f"JAMENDO_MOOD_{name.upper()}=FOLDER; "
        f"(3) give {file}. Without them, --embedder logmel needs no weights.",
    )


def cache_folder(handle: str) -> Path:
    """Where TF-Hub keeps a module: a folder named by the SHA-1 of the handle."""
    base = os.environ.get("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    return Path(base) / hashlib.sha1(handle.encode()).hexdigest()


def _fetch_module(url: str, folder: Path, read: Callable[[Path], object]) -> Path:
    """Download a module's archive, and unpack it to a folder if `read` can read it; returns the folder."""
    archive = folder.with_name(f"{folder.name}-{hashlib.sha1(url.encode()).hexdigest()[:8]}.tar.gz")
    remote.download(url, archive, _MAX_MODULE_BYTES)
    try:
        with unpacked(archive, folder.parent) as module, files.disk_errors(folder, WeightsError):
            read(module)
            if folder.exists():  # what is left of a module that was not whole
                shutil.rmtree(folder)
            module.rename(folder)
    except WeightsError as error:
        raise WeightsError(f"{url}: {str(error).partition(': ')[2]}") from error
    finally:
        archive.unlink(missing_ok=True)
    for part in folder.parent.glob(f"{folder.name}-*.tar.gz.part"):  # of addresses that broke off
        part.unlink(missing_ok=True)
    return folder


def fetch_file(url: str, path: Path, digest: str) -> Path:
    """Download a file of this SHA-256 or, if its makers gave no other, MD5; returns its path."""
    algorithm = "sha256" if len(digest) == 64 else "md5"

    def check(draft: Path) -> None:
        content = files.read_bytes(draft, _MAX_MODULE_BYTES)
        found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
        if found != digest:
            raise WeightsError(f"{url}: another file than expected ({algorithm} {found}, not {digest})")

    remote.download(url, path, _MAX_MODULE_BYTES, check)
    return path


def is_archive(path: Path) -> bool:
    """Whether a file is named as the archive of a module."""
    return path.is_file() and path.name.endswith((".tar.gz", ".tgz"))


@contextlib.contextmanager
def unpacked(path: Path, base: Path | None = None) -> Iterator[Path]:
    """A module's folder: `path` itself, or if that is an archive, what is in it, for as long as the block runs."""
    if not is_archive(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="jamendo-mood-", dir=base, ignore_cleanup_errors=True) as outer:
        folder = Path(outer, "module")
        folder.mkdir()
        try:
            with tarfile.open(path, "r:gz") as archive:
                _unpack(archive, folder)
        except (tarfile.TarError, *files.DAMAGES) as error:
            raise WeightsError(f"{path}: damaged, cut short, or not a .tar.gz of a module ({brief(error)})") from error
        yield folder


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Write the files of an archive into a folder, and nothing else."""
    left = _MAX_MODULE_BYTES
    for member in archive:
        left -= member.size
        target = Path(os.path.normpath(folder / member.name))
        if not target.is_relative_to(folder) or left < 0:
            raise ValueError(f"{member.name!r} has no place in a module, or no end")
        if member.isreg() and (content := archive.extractfile(member)) is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(content, file)


def _missing_in(place: Path) -> str:
    """What a module's folder lacks; nothing if it is whole, or a file."""
    if place.is_file():
        return ""
    wanted = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
    return next((name for name in wanted if not (place / name).is_file()), "")


def _read_places() -> dict[str, str]:
    try:
        return dict(files.parse_json(files.read_bytes(files.cache_folder() / _PLACES_NAME, files.MAX_JSON_BYTES)))
    except (OSError, ValueError, TypeError):
        return {}


def recall(key: str) -> Path | None:
    """Where weights of this SHA-256, or of this network, were when they were last named; None if they have gone."""
    place = Path(_read_places().get(key, ""))
    return place if place.is_absolute() and place.exists() else None


def remember(place: Path, *keys: str) -> None:
    """Note in this user's cache where weights are, for `recall`; where that cannot be written, nothing is noted."""
    known = _read_places()
    new = known | dict.fromkeys(filter(None, keys), str(place.absolute()))
    if new != known:
        with contextlib.suppress(MoodError):
            files.write_atomically(files.cache_folder() / _PLACES_NAME, json.dumps(new, indent=1).encode())


def keep(path: Path, name: str, read: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
    """What `read` makes of weights; kept in the user's cache, so that they are read without TensorFlow from then on."""

    def make() -> bytes:
        return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in read().items()})

    prefix, digest = _prefix_of(path), hashlib.sha256()
    try:
        for part in sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}*"), reverse=True):  # the index comes first
            digest.update(np.memmap(part, np.uint8, "r").data)
    except (OSError, ValueError):  # it cannot be read, or is empty: `read` says so
        return dict(read())
    content = files.kept(f"{name.lower()}-{digest.hexdigest()[:16]}", ".safetensors", make)
    return safetensors.numpy.load(content)


def _prefix_of(place: Path) -> Path:
    """What the names of a checkpoint's files begin with: in a module's folder, or beside an index."""
    return place / "variables" / "variables" if place.is_dir() else place.with_name(place.name.removesuffix(".index"))


def read_variables(path: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Read the variables of `shapes`, by their names in Google's code, from a TF-Hub module or a checkpoint.

    The module may be a folder, or the archive as which it is downloaded. Errors call the network `name`. WeightsError
    if the file cannot be read, or a variable is missing or has another shape.
    """
    tf = import_quietly("tensorflow")
    from google.protobuf.message import DecodeError

    with unpacked(path) as place:
        try:
            reader = tf.train.load_checkpoint(str(_prefix_of(place)))
            stored, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
            keys, variables = _keys_by_name(reader, list(stored)), {}
            for variable, shape in sorted(shapes.items()):
                if (key := keys.get(variable)) is None:
                    raise WeightsError(f"{path}: not {name}, the variable {variable!r} is missing")
                if (found := tuple(stored[key])) != shape or not types[key].is_floating:
                    what = f"has the shape {found} instead of {shape}, or other numbers than floating-point ones"
                    raise WeightsError(f"{path}: not {name}, {variable!r} {what}")
                variables[variable] = np.asarray(reader.get_tensor(key), np.float32)
        except (tf.errors.OpError, DecodeError, IndexError, *DAMAGES) as error:  # IndexError: cut short
            lacks = _missing_in(place)
            reason = f"it has no {lacks}; was its download cut short?" if lacks else brief(error)
            raise WeightsError(f"{path}: no {name} module or checkpoint can be read there ({reason})") from error
    return variables


def fingerprint(variables: Mapping[str, Array]) -> str:
    """One SHA-256 over variables, sorted by name, as little-endian float32: the same for module and checkpoint."""
    digest = hashlib.sha256()
    for name in sorted(variables):
        digest.update(np.ascontiguousarray(variables[name], "<f4").data)
    return digest.hexdigest()


def _keys_by_name(reader: Any, stored: list[str]) -> dict[str, str]:
    """Map names of variables to keys of the checkpoint: in one of TensorFlow 1 they are the same."""
    # A SavedModel has keys by place in its object graph, and that graph, itself a tensor, holds the names.
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
    """A tensor that the file holds."""

    name: str
    values: npt.NDArray[Any]  #: as they are stored: floats, or integers that stand for ``(value - zeros) * scales``
    scales: npt.NDArray[np.float32]  #: of the whole, or of each channel: to be broadcast
    zeros: npt.NDArray[np.int64]

    def dequantised(self) -> npt.NDArray[np.float32]:
        """The numbers that the values stand for; ValueError if one of them is not finite."""
        with np.errstate(all="ignore"):
            numbers = (self.values.astype(np.float64) - self.zeros) * self.scales
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
        buffers = _parts(model, "Buffers")
        every = itertools.chain.from_iterable(_parts(graph, "Tensors") for graph in _parts(model, "Subgraphs"))
        tensors = [*itertools.islice(every, _MAX_TENSORS + 1)]
        if len(tensors) > _MAX_TENSORS:
            raise ValueError(f"damaged: more than {_MAX_TENSORS} tensors")
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
    if rounding is None or not rounding.ScaleLength():  # nothing was rounded
        return Constant(letters.decode(), data.view(kind).reshape(shape), np.ones((), np.float32), np.zeros((), int))
    along = [1] * len(shape)
    if rounding.ScaleLength() > 1:  # each channel for itself
        axis = rounding.QuantizedDimension()
        along[axis] = shape[axis]
    scales, zeros = (_vector(rounding, *own).reshape(along) for own in (("Scale", "<f4"), ("ZeroPoint", "<i8")))
    return Constant(letters.decode(), data.view(kind).reshape(shape), scales, zeros)


def _parts(table: Any, name: str) -> list[Any]:
    """The tables of that name in a table of the file."""
    count = getattr(table, f"{name}Length")()
    if not 0 < count <= _MAX_TENSORS:
        raise ValueError(f"damaged: {count} {name.lower()} instead of 1 to {_MAX_TENSORS}")
    return [getattr(table, name)(number) for number in range(count)]


def _vector(table: Any, name: str, kind: str) -> npt.NDArray[Any]:
    """The numbers of that name; an empty array where they are missing."""
    numbers: npt.NDArray[Any] = getattr(table, f"{name}AsNumpy")() if getattr(table, f"{name}Length")() else np.zeros(0)
    return numbers.astype(kind, copy=False)
