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
import time
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

_MAX_MODULE_BYTES = 600_000_000  # VGGish's has 288 million
_PLACES_NAME = "weights.json"
_MAX_GRAPH_BYTES = 10_000_000  # of names; VGGish's takes some kilobytes

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """The weights of a network on this machine: found, fetched, and told from others."""

    name: str  #: ``VGGish``, ``YAMNet``, ``musicnn``
    variable: str  #: of the environment, which may name them
    size: str  #: of the download
    #: where they are looked for; what `sources` download is kept in some of these.
    places: Callable[[], Sequence[Path]]
    #: by address, in the order in which they are asked: downloads, checks
    #: and keeps them, and returns where
    sources: Mapping[str, Callable[[str], Path]]
    #: reads the file or folder as this network's; WeightsError if that is what it is not
    read: Callable[[Path], object]
    #: what they are, in a line; WeightsError if they are not the released ones
    check: Callable[[Path], str]
    remedy: str  #: what to do where they are not there and no address answers

    def find(self, path: Path | None = None, *, download: bool = True) -> Path:
        """Find them: `path`, else what the environment names, else what is kept here, else (`download`) by `fetch`.

        Raises `WeightsError` if they are nowhere; the message says how to get them.
        """
        given = path or (Path(os.environ[self.variable]) if os.environ.get(self.variable) else None)
        if given is not None:
            if not given.exists():
                raise WeightsError(f"{given}: no such file or folder of {self.name} weights")
            return given
        if found := self.kept():
            return found[0]
        if not download:
            raise WeightsError(f"{self.name}'s weights are not here. {self.remedy}")
        return self.fetch()

    def kept(self) -> list[Path]:
        """Where they are on this machine without being named."""
        last = recall(self.name)
        return [place for place in (*([last] if last else []), *self.places()) if not _missing_in(place)]

    def fetch(self) -> Path:
        """Download them from the first address that has them, with a note of each that does not.

        Raises `WeightsError` if none has.
        """
        for place in self.places():
            if (lock := place.with_name(f"{place.name}.lock")).exists():
                minutes = (time.time() - lock.stat().st_mtime) / 60
                note(
                    f"{lock}: TensorFlow Hub began a download {minutes:.0f} min ago and has not ended it; we do not "
                    "wait for it, but other programs do: delete it unless one is downloading"
                )
        own = files.cache_folder() / f"{self.name}.lock"
        with files.disk_errors(own, WeightsError):
            own.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(own):  # of processes that start together one downloads; one that is killed lets go
            try:
                return next(iter(self.kept()), None) or self._ask()
            finally:
                own.unlink(missing_ok=True)

    def _ask(self) -> Path:
        for address, get in self.sources.items():
            note(f"asking {address} for {self.name}'s weights ({self.size})")
            try:
                return get(address)
            except (WeightsError, DownloadError) as error:
                note(f"  {error}")
        raise WeightsError(f"{self.name}'s weights are not here, and no address has them. {self.remedy}")

    def remove(self) -> list[Path]:
        """Delete what is kept in the caches, broken downloads too, but nothing that the user named; returns what."""
        found = [
            path
            for place in self.places()
            for path in (place, *place.parent.glob(f"{place.name}*.part"))
            if path.exists()
        ]
        made = [files.cache_folder().glob(f"{self.name.lower()}-*{suffix}") for suffix in (".safetensors", ".mnn")]
        found += itertools.chain.from_iterable(made)
        for path in found:
            with files.disk_errors(path, WeightsError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return found


def hub_places(name: str, *handles: str) -> list[Path]:
    """Where a network's TF-Hub module is kept: by us, or by TensorFlow Hub under its addresses."""
    return [files.cache_folder() / name, *(cache_folder(handle) for handle in handles)]


def module_folder(name: str, handle: str) -> Path:
    """Where a downloaded module is put: in TF-Hub's own cache, if TFHUB_CACHE_DIR says where, else in this user's."""
    return cache_folder(handle) if os.environ.get("TFHUB_CACHE_DIR") else files.cache_folder() / name


def cache_folder(handle: str) -> Path:
    """Where TF-Hub keeps a module: a folder named by the SHA-1 of the handle."""
    base = os.environ.get("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    return Path(base) / hashlib.sha1(handle.encode()).hexdigest()


def fetch_module(url: str, folder: Path, read: Callable[[Path], object]) -> Path:
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


def describe_remedy(name: str, handle: str, variable: str, file: str) -> str:
    """The ways to get the weights of a network on TF-Hub; `file` names another form, and where it is."""
    return (
        f"Three ways to get them: (1) with network access, `jamendo-mood weights {name.lower()} --get` downloads them, "
        f"from {handle} or a mirror (kept in this user's cache, or in TFHUB_CACHE_DIR if that is set); "
        f"(2) give a copy of that module, a folder or .tar.gz, with --weights FOLDER or {variable}=FOLDER; "
        f"(3) give {file}. Without them, --embedder logmel needs no weights."
    )


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
            with path.open("rb") as file:
                is_page = file.read(100).lstrip().startswith(b"<")
            why = "a web page, and" if is_page else "damaged, cut short, or"
            raise WeightsError(f"{path}: {why} not a .tar.gz of a module ({brief(error)})") from error
        yield folder


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Write the files of an archive into a folder, and nothing else."""
    left = _MAX_MODULE_BYTES
    for member in archive:
        names = [name for name in member.name.split("/") if name not in ("", ".")]
        left -= member.size
        if ".." in names or member.name.startswith("/") or left < 0:
            raise ValueError(f"{member.name!r} has no place in a module, or no end")
        if member.isreg() and (content := archive.extractfile(member)) is not None:
            target = folder.joinpath(*names)
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
        places = files.parse_json(files.read_bytes(files.cache_folder() / _PLACES_NAME, files.MAX_JSON_BYTES))
    except (OSError, ValueError):
        return {}
    return {key: place for key, place in places.items() if isinstance(place, str)} if isinstance(places, dict) else {}


def recall(key: str) -> Path | None:
    """Where weights of this SHA-256, or of this network, were when they were last named; None if they have gone."""
    place = Path(_read_places().get(key, ""))
    return place if place.is_absolute() and place.exists() else None


def remember(place: Path, *keys: str) -> None:
    """Note in this user's cache where weights are, for `recall`; where that cannot be written, nothing is noted."""
    known = _read_places()
    new = known | dict.fromkeys(filter(None, keys), str(place.absolute()))
    if new != known:
        content = json.dumps(new, indent=1).encode()
        with contextlib.suppress(MoodError):
            files.write_atomically(files.cache_folder() / _PLACES_NAME, lambda file: file.write(content))


def keep(path: Path, name: str, read: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
    """What `read` makes of weights; kept in the user's cache, so that they are read without TensorFlow from then on."""
    try:
        digest = _digest_of(path)
    except OSError:
        return dict(read())

    def make() -> bytes:
        return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in read().items()})

    content, _ = files.kept(f"{name.lower()}-{digest}", ".safetensors", make)
    return safetensors.numpy.load(content)


def _digest_of(path: Path) -> str:
    """16 hexadecimal digits over the files of a module's folder, or of a checkpoint."""
    if path.is_dir():
        parts = [path / "variables" / name for name in ("variables.index", "variables.data-00000-of-00001")]
    else:  # a checkpoint may have several files, whose names begin alike
        parts = sorted(path.parent.glob(f"{glob.escape(path.name.removesuffix('.index'))}*"))
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def read_variables(path: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Read the variables of `shapes`, by their names in Google's code, from a TF-Hub module or a checkpoint.

    The module may be a folder, or the archive as which it is downloaded. Errors call the network `name`. WeightsError
    if the file cannot be read, or a variable is missing or has another shape.
    """
    with unpacked(path) as place:
        return _read_variables(place, path, name, shapes)


def _read_variables(place: Path, path: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(8)[4:] == b"TFL3":
            raise WeightsError(f"{path}: not {name}: this is YAMNet as a TFLite file, which `--embedder yamnet` takes")
    tf = import_quietly("tensorflow")
    from google.protobuf.message import DecodeError

    prefix = place / "variables" / "variables" if place.is_dir() else place.with_name(place.name.removesuffix(".index"))
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
        lacks = _missing_in(place)
        reason = f"it has no {lacks}; was its download cut short?" if lacks else brief(error)
        raise WeightsError(f"{path}: no {name} module or checkpoint can be read there ({reason})") from error


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
    """A tensor that the file holds."""

    name: str
    values: npt.NDArray[Any]  #: as they are stored: floats, or integers that stand for ``(value - zero) * scale``
    #: of one length; empty where nothing was rounded
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.int64]
    axis: int  #: that of the channels

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
