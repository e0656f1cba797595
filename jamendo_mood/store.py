"""The store: one ``.npy`` a track, and a manifest that says what made them.

``DIR/48/948.npy`` is the truth: float32 (frames, dim) and a checksum (see `entries`), complete as soon as its name
exists. ``store.json`` holds the embedder's spec, ``failures.tsv`` the tracks that could not be embedded. ``frames.npy``
and ``index.tsv`` are the same embeddings packed for fast reading, derived, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import untrusted
from jamendo_mood.embedders import EmbedderSpec
from jamendo_mood.entries import SEAL_BYTES, Entry, decode_entry, encode_entry, encode_header, map_array, seal
from jamendo_mood.errors import DataError, StoreError, UsageError
from jamendo_mood.files import append, disk_errors, locked, read_bytes, write_atomically, write_together
from jamendo_mood.tracks import read_table

FORMAT = 1
MANIFEST_NAME = "store.json"
FAILURES_NAME = "failures.tsv"
PACKED_NAME, INDEX_NAME = "frames.npy", "index.tsv"

_FAILURES_HEADING = "key\terror\n"
_RESERVED = {MANIFEST_NAME, FAILURES_NAME, PACKED_NAME, INDEX_NAME}
_NOT_FOUND = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

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
        found = _read_manifest(self.root)
        if found is None and spec is None:
            raise UsageError(f"{self.root}: no embedding store there (no {MANIFEST_NAME})")
        self.spec = found or self._create(spec)  # type: ignore[arg-type]
        if spec is not None and spec != self.spec:
            raise UsageError(
                f"{self.root} is a store of {self.spec}, not of {spec}: use another folder for these embeddings"
            )

    def __getitem__(self, key: str) -> Array:
        return self.read(key).frames

    def read(self, key: str) -> Entry:
        """An embedding with its checksum, which is compared if there is one.

        Raises
        ------
        KeyError
            There is none.
        StoreError
            It is damaged, another track's or another embedder's, or cannot be read.
        """
        path = self._path(key)
        try:
            entry = decode_entry(read_bytes(path), path)
        except _NOT_FOUND:
            raise KeyError(key) from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        return check_entry(entry, key, self.spec, path)

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str) and self._path(key).is_file()
        except OSError as error:
            raise StoreError(f"{self._path(str(key))}: cannot be looked for ({error.strerror})") from error

    def __iter__(self) -> Iterator[str]:
        found = []
        for parent, folders, names in os.walk(self.root, onerror=_refuse):
            below = Path(parent).relative_to(self.root).parts
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [(*below, name) for name in names if name.endswith(".npy")]
        keys = ("/".join(parts).removesuffix(".npy") for parts in sorted(found))
        return iter([key for key in keys if is_key(key)])

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
        parts = encode_entry(key, check_frames(frames, self.spec.dim, path), self.spec)
        write_atomically(path, lambda file: file.writelines(parts))

    def times(self, key: str) -> Array:
        """Start of each frame of a track in seconds, float32 (frames,)."""
        return self.spec.times_s(len(self[key]))

    def failures(self) -> dict[str, str]:
        """The tracks that could not be embedded, and why."""
        path = self.root / FAILURES_NAME
        try:
            listed, _ = parse_failures(path.read_bytes())
        except _NOT_FOUND:
            return {}
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        return {key: error for key, error in listed.items() if key not in self}

    def record_failure(self, key: str, error: str) -> None:
        """Note a failed track in ``failures.tsv``, by one appended line, which several processes may do at once."""
        path = self.root / FAILURES_NAME
        on_one_line = " ".join(error.split())
        with disk_errors(path):
            line = f"{key}\t{on_one_line}\n".encode(errors="backslashreplace")
            append(path, line, heading=_FAILURES_HEADING.encode())

    def forget_failures(self, keys: set[str]) -> None:
        """Take tracks out of ``failures.tsv``, because they were done or are to be tried again."""
        path = self.root / FAILURES_NAME
        if not path.is_file():
            return
        with disk_errors(path), locked(path):
            remaining = {key: error for key, error in self.failures().items() if key not in keys}
            text = "".join(f"{key}\t{error}\n" for key, error in remaining.items())
            write_atomically(path, lambda file: file.write((_FAILURES_HEADING + text).encode()))

    def pack(self) -> PackedEmbeddings:
        """Write all embeddings into one file to be memory-mapped, and open it.

        Its last line is the SHA-256 of the index, which lists those of the entries: so the two files are known to
        belong together, and the packed frames of a track to be those of its entry.
        """
        index = ["key\tframes\tsha256\n"]

        def write_frames(file: IO[bytes]) -> None:
            file.write(encode_header(0, self.spec.dim))
            rows = 0
            for key in self:
                try:
                    entry = self.read(key)
                except KeyError:
                    raise StoreError(f"{self._path(key)}: went away while the store was being packed") from None
                rows += len(entry.frames)
                index.append(f"{key}\t{len(entry.frames)}\t{entry.sha256}\n")
                # Not by numpy, whose error on a full disk does not say that the disk is full.
                file.write(np.ascontiguousarray(entry.frames, "<f4").data)
            file.write(_seal_index("".join(index).encode()))
            file.seek(0)
            file.write(encode_header(rows, self.spec.dim))

        write_together(
            {
                self.root / PACKED_NAME: write_frames,
                self.root / INDEX_NAME: lambda file: file.write("".join(index).encode()),
            }
        )
        return PackedEmbeddings(self.root)

    def _create(self, spec: EmbedderSpec) -> EmbedderSpec:
        if self.root.exists() and (not self.root.is_dir() or any(self.root.rglob("*.npy"))):
            raise UsageError(
                f"{self.root}: not an embedding store, and not an empty place to make one "
                f"(`jamendo-mood verify {self.root} --repair` finds a lost {MANIFEST_NAME} again)"
            )
        write_atomically(self.root / MANIFEST_NAME, lambda file: file.write(format_manifest(spec)))
        return spec

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
        root = Path(root)
        self.spec = EmbeddingStore(root).spec
        try:
            self.frames: Array = map_array(root / PACKED_NAME)
            rows = read_table(root / INDEX_NAME, ("key", "frames"))
            self._lengths = {key: int(length) for key, length, *_ in rows}
            sealed = _is_sealed(root / PACKED_NAME, root / INDEX_NAME, self.frames)
        except (OSError, ValueError, OverflowError, DataError) as error:
            raise StoreError(f"{root}: not packed, or damaged; pack the store again ({error})") from error
        shape = (sum(self._lengths.values()), self.spec.dim)
        if self.frames.shape != shape or self.frames.dtype != np.float32 or not sealed:
            raise StoreError(f"{root / INDEX_NAME}: does not fit {PACKED_NAME}; pack the store again")
        self.sha256 = {row[0]: row[2] for row in rows if len(row) > 2}
        self._ends = dict(zip(self._lengths, accumulate(self._lengths.values()), strict=True))

    def __getitem__(self, key: str) -> Array:
        end = self._ends[key]
        return self.frames[end - self._lengths[key] : end]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ends)

    def __len__(self) -> int:
        return len(self._ends)


def is_key(key: str) -> bool:
    """Whether a text can be the key of a track."""
    parts = f"{key}.npy".split("/")
    plain = all(part and part[0] != "." for part in parts)
    return plain and parts[0] not in _RESERVED and not _UNFIT_FOR_KEYS.search(key)


def check_key(key: str) -> str:
    """Give a key back if it can be one; StoreError if not."""
    if not is_key(key):
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


def check_entry(entry: Entry, key: str, spec: EmbedderSpec, place: Path | str) -> Entry:
    """Give an entry back if it is the embedding of a track by an embedder; StoreError that names `place` if not."""
    if entry.key not in (None, key) or entry.spec not in (None, spec):
        raise StoreError(
            f"{place}: holds the embedding of {entry.key!r} by {entry.spec}, which does not belong there; "
            "`jamendo-mood verify STORE --repair` puts it where it does, or aside"
        )
    check_frames(entry.frames, spec.dim, place)
    return entry


def format_manifest(spec: EmbedderSpec) -> bytes:
    """What ``store.json`` holds."""
    return (json.dumps({"format": FORMAT, "embedder": asdict(spec)}, indent=2) + "\n").encode()


def parse_manifest(content: bytes, place: Path | str) -> EmbedderSpec:
    """Read a ``store.json``; StoreError that names `place` if it is none."""
    try:
        manifest = untrusted.parse_json(content)
        if manifest["format"] != FORMAT:
            found = repr(manifest["format"])[:20]
            raise StoreError(f"{place}: a store of format {found}, this version reads format {FORMAT}")
        return EmbedderSpec.from_json(manifest["embedder"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{place}: not the manifest of a store ({error})") from error


def parse_failures(content: bytes) -> tuple[dict[str, str], list[int]]:
    """Read a ``failures.tsv``: errors by key, and the numbers of lines that are damaged.

    A line that was cut short, by a full disk or a crash, is passed over: its track will be tried again.
    """
    listed, damaged = {}, []
    *lines, last = content.split(b"\n")
    for number, line in enumerate([*lines, last] if last else lines, start=1):
        if line + b"\n" == _FAILURES_HEADING.encode():
            continue  # more than once where processes of earlier versions began the list at the same moment
        try:
            key, tab, error = line.decode().partition("\t")
        except UnicodeDecodeError:
            key = tab = error = ""
        if tab and is_key(key):
            listed[key] = error
        if not tab or not is_key(key) or number == 1 or number > len(lines):
            damaged.append(number)
    return listed, damaged


def _seal_index(index: bytes) -> bytes:
    return b"\n" + seal(hashlib.sha256(index).hexdigest())


def _is_sealed(packed: Path, index: Path, frames: npt.NDArray[Any]) -> bool:
    """Whether two packed files belong together; those of earlier versions do not say."""
    content = index.read_bytes()
    with packed.open("rb") as file:
        file.seek(-SEAL_BYTES - 1, os.SEEK_END)
        last = file.read()
        bare = file.tell() == frames.offset + frames.nbytes  # type: ignore[attr-defined]
    return not content.startswith(b"key\tframes\tsha256") if bare else last == _seal_index(content)


def _refuse(error: OSError) -> None:
    raise StoreError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def _read_manifest(root: Path) -> EmbedderSpec | None:
    path = root / MANIFEST_NAME
    try:
        return parse_manifest(path.read_bytes(), path)
    except _NOT_FOUND:
        return None
    except OSError as error:
        raise StoreError(f"{path}: not the manifest of a store ({error})") from error
