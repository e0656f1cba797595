"""The store: one ``.npy`` a track, and a manifest that says what made them.

``DIR/48/948.npy`` is the truth: float32 (frames, dim), complete as soon as its name exists. ``store.json`` holds the
embedder's spec, ``failures.tsv`` the tracks that could not be embedded. ``frames.npy`` and ``index.tsv`` are the same
embeddings packed for fast reading, derived, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders import EmbedderSpec
from jamendo_mood.errors import DataError, DiskFullError, StoreError, UsageError
from jamendo_mood.tracks import read_table

FORMAT = 1
MANIFEST_NAME = "store.json"
FAILURES_NAME = "failures.tsv"
PACKED_NAME, INDEX_NAME = "frames.npy", "index.tsv"

_FAILURES_HEADER = ("key", "error")
_FAILURES_HEADING = "\t".join(_FAILURES_HEADER) + "\n"

# Windows' separator, what would break a line of a table, and what is left of file names that are no Unicode.
_UNFIT_FOR_KEYS = re.compile(r"[\\\x00-\x1f\ud800-\udfff]")

Array = npt.NDArray[np.float32]


class EmbeddingStore(Mapping[str, Array]):
    """Embeddings on disk, by track key.

    Several processes and machines may write to one store: an entry is written under another name and renamed when it
    is complete, so none is ever torn.

    Parameters
    ----------
    root : Path
        The store's folder.
    spec : EmbedderSpec or None
        What the embeddings are made with. A new store is made with it; one that exists must have the same. None opens
        a store that exists.

    Raises
    ------
    UsageError
        There is no store at `root` and no spec to make it with, or it is one of another embedder.
    StoreError
        The manifest is damaged.
    """

    def __init__(self, root: Path | str, spec: EmbedderSpec | None = None) -> None:
        self.root = Path(root)
        manifest = self.root / MANIFEST_NAME
        if manifest.is_file():
            self.spec = _read_manifest(manifest)
        elif spec is None:
            raise UsageError(f"{self.root}: no embedding store there (no {MANIFEST_NAME})")
        else:
            self._create(spec)
        if spec is not None and spec != self.spec:
            raise UsageError(
                f"{self.root} is a store of {self.spec}, not of {spec}: use another folder for these embeddings"
            )

    def __getitem__(self, key: str) -> Array:
        path = self._path(key)
        try:
            frames: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise KeyError(key) from None
        except (ValueError, EOFError, OSError) as error:
            raise StoreError(f"{path}: damaged, delete it and extract the track again ({error})") from error
        return check_frames(frames, self.spec.dim, path)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._path(key).is_file()

    def __iter__(self) -> Iterator[str]:
        reserved = {self.root / PACKED_NAME}
        for path in sorted(self.root.rglob("*.npy")):
            if path not in reserved and not path.name.startswith("."):
                yield path.relative_to(self.root).as_posix().removesuffix(".npy")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, key: str, frames: Array) -> None:
        """Write the embedding of a track, durably; what was there is replaced.

        Parameters
        ----------
        key : str
            Such as ``48/948``; no absolute path, no ``..``.
        frames : float32 array (frames, dim)

        Raises
        ------
        StoreError
            The key or the array is not what the store holds, or it cannot be written.
        DiskFullError
            There is no room.
        """
        path = self._path(key)
        array = check_frames(frames, self.spec.dim, path)

        def write(file: IO[bytes]) -> None:
            _write_header(file, array.shape)
            _write_frames(file, array)

        write_atomically(path, write)

    def times(self, key: str) -> Array:
        """Start of each frame of a track in seconds, float32 (frames,)."""
        return self.spec.times_s(len(self[key]))

    def failures(self) -> dict[str, str]:
        """The tracks that could not be embedded, and why."""
        path = self.root / FAILURES_NAME
        rows = read_table(path, _FAILURES_HEADER) if path.is_file() else []
        # Two processes that begin the list at the same moment both write its header.
        return {key: error for key, error, *_ in rows if (key, error) != _FAILURES_HEADER and key not in self}

    def record_failure(self, key: str, error: str) -> None:
        """Note a failed track in ``failures.tsv``, by one appended line, which several processes may do at once."""
        path = self.root / FAILURES_NAME
        on_one_line = " ".join(error.split())
        with _disk_errors(path), path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            header = _FAILURES_HEADING if file.tell() == 0 else ""
            file.write(f"{header}{key}\t{on_one_line}\n")

    def forget_failures(self, keys: set[str]) -> None:
        """Take tracks out of ``failures.tsv``, because they were done or are to be tried again."""
        remaining = {key: error for key, error in self.failures().items() if key not in keys}
        text = "".join(f"{key}\t{error}\n" for key, error in remaining.items())
        write_atomically(self.root / FAILURES_NAME, lambda file: file.write((_FAILURES_HEADING + text).encode()))

    def pack(self) -> PackedEmbeddings:
        """Write all embeddings into one file to be memory-mapped, and open it."""
        lengths = {key: len(self[key]) for key in self}
        # Without an index there is no packed file: readers never meet an old index beside new frames.
        (self.root / INDEX_NAME).unlink(missing_ok=True)

        def write_frames(file: IO[bytes]) -> None:
            _write_header(file, (sum(lengths.values()), self.spec.dim))
            for key, length in lengths.items():
                frames = self[key]
                if len(frames) != length:
                    raise StoreError(f"{self._path(key)}: changed while the store was being packed; pack it again")
                _write_frames(file, frames)

        write_atomically(self.root / PACKED_NAME, write_frames)
        index = "".join(f"{key}\t{length}\n" for key, length in lengths.items())
        write_atomically(self.root / INDEX_NAME, lambda file: file.write(f"key\tframes\n{index}".encode()))
        return PackedEmbeddings(self.root)

    def _create(self, spec: EmbedderSpec) -> None:
        if self.root.exists() and (not self.root.is_dir() or any(self.root.rglob("*.npy"))):
            raise UsageError(f"{self.root}: not an embedding store, and not an empty place to make one")
        write_atomically(self.root / MANIFEST_NAME, lambda file: file.write(format_manifest(spec)))
        self.spec = _read_manifest(self.root / MANIFEST_NAME)

    def _path(self, key: str) -> Path:
        return self.root / f"{check_key(key)}.npy"


class PackedEmbeddings(Mapping[str, Array]):
    """A store's packed file, memory-mapped: the embeddings of any track without opening another file.

    Raises
    ------
    StoreError
        The store is not packed, or the packed files do not fit each other.
    """

    def __init__(self, root: Path | str) -> None:
        self.spec = _read_manifest(Path(root) / MANIFEST_NAME)
        try:
            self.frames: Array = np.load(Path(root) / PACKED_NAME, mmap_mode="r", allow_pickle=False)
            rows = read_table(Path(root) / INDEX_NAME, ("key", "frames"))
            self._lengths = {key: int(length) for key, length in rows}
        except (OSError, ValueError, DataError) as error:
            raise StoreError(f"{root}: not packed, or damaged; pack the store again ({error})") from error
        if self.frames.shape != (sum(self._lengths.values()), self.spec.dim) or self.frames.dtype != np.float32:
            raise StoreError(f"{Path(root) / INDEX_NAME}: does not fit {PACKED_NAME}; pack the store again")
        self._ends = dict(zip(self._lengths, accumulate(self._lengths.values()), strict=True))

    def __getitem__(self, key: str) -> Array:
        end = self._ends[key]
        return self.frames[end - self._lengths[key] : end]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ends)

    def __len__(self) -> int:
        return len(self._ends)


def check_key(key: str) -> str:
    """Give a key back if it can be one; StoreError if not."""
    plain = all(part and part[0] != "." for part in key.split("/")) and not _UNFIT_FOR_KEYS.search(key)
    if not plain or f"{key}.npy" == PACKED_NAME:
        raise StoreError(f"{key!r} cannot be the key of a track: it must be a plain path, such as 48/948")
    return key


def check_frames(frames: npt.NDArray[Any], dim: int, place: Path | str) -> Array:
    """Give an array back if it is the embedding of a track; StoreError that names `place` if not."""
    if frames.dtype != np.float32 or frames.ndim != 2 or frames.shape[1] != dim or not len(frames):
        raise StoreError(
            f"{place}: an embedding here is float32 (frames, {dim}) with at least one frame, "
            f"not {frames.dtype} {frames.shape}"
        )
    return frames


def format_manifest(spec: EmbedderSpec) -> bytes:
    """What ``store.json`` holds."""
    return (json.dumps({"format": FORMAT, "embedder": asdict(spec)}, indent=2) + "\n").encode()


def parse_manifest(content: bytes, place: Path | str) -> EmbedderSpec:
    """Read a ``store.json``; StoreError that names `place` if it is none."""
    try:
        manifest = json.loads(content)
        if manifest["format"] != FORMAT:
            raise StoreError(f"{place}: a store of format {manifest['format']}, this version reads format {FORMAT}")
        return EmbedderSpec.from_json(manifest["embedder"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{place}: not the manifest of a store ({error})") from error


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under another name in its folder, flush it to disk, and rename it: it is whole or not there.

    Raises
    ------
    StoreError, DiskFullError
        It cannot be written; nothing is left behind.
    """
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}.tmp")
        try:
            with draft.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _write_frames(file: IO[bytes], frames: Array) -> None:
    # Not by numpy, whose error on a full disk does not say that the disk is full.
    file.write(np.ascontiguousarray(frames, "<f4").data)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{path}: no space left on the disk; what was written before is kept") from error
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from error


def _read_manifest(path: Path) -> EmbedderSpec:
    try:
        return parse_manifest(path.read_bytes(), path)
    except OSError as error:
        raise StoreError(f"{path}: not the manifest of a store ({error})") from error
