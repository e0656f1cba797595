"""The store: one ``.npy`` a track, and a manifest that says what made them.

``DIR/48/948.npy`` is the truth: float32 (frames, dim) and a checksum (see `entries`), complete as soon as its name
exists. ``store.json`` holds the embedder's spec, ``failures.tsv`` the tracks that could not be embedded. ``frames.npy``
and ``index.tsv`` are the same embeddings packed for fast reading, derived, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.file_format import (
    FAILURES_HEADING,
    FAILURES_NAME,
    INDEX_NAME,
    MANIFEST_NAME,
    NOT_FOUND,
    PACKED_NAME,
    SEAL_BYTES,
    Entry,
    check_key,
    describe_damage,
    encode_entry,
    encode_header,
    format_manifest,
    is_key,
    map_array,
    read_entry,
    read_failures,
    read_manifest,
    seal,
    write_failures,
)
from jamendo_mood.util import plaintext, untrusted
from jamendo_mood.util.errors import DataError, StoreError, UsageError
from jamendo_mood.util.files import append, disk_errors, locked, write_atomically, write_together
from jamendo_mood.util.untrusted import MAX_TABLE_BYTES, read_table

MOST_INDEX_BYTES = 1_000_000_000
"""Of ``index.tsv``: some twelve million tracks."""

_INDEX_LINE_BYTES = 200  # as good as always less: a key, a number and a checksum

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

    def __repr__(self) -> str:
        return plaintext.show(f"<EmbeddingStore {self.root}: {len(self):,} tracks of {self.spec}>")

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
            entry = read_entry(path)
        except NOT_FOUND:
            raise KeyError(key) from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise describe_damage(error, path) from error
        return check_entry(entry, key, self.spec, path)

    def stat(self, key: str) -> os.stat_result:
        """What the file system says of an embedding's file.

        Raises
        ------
        StoreError
            There is none, or no longer, or a link leads nowhere.
        """
        path = self._path(key)
        try:
            return path.stat()
        except OSError as error:
            what = "a link that leads nowhere" if path.is_symlink() else error.strerror
            raise StoreError(
                f"{path}: cannot be read ({what}); `jamendo-mood verify {self.root}` tells more"
            ) from error

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
            listed, _ = read_failures(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise StoreError(f"{path}: cannot be read ({error})") from error
        return {key: error for key, error in listed.items() if key not in self}

    def record_failure(self, key: str, error: str) -> None:
        """Note a failed track in ``failures.tsv``, by one appended line, which several processes may do at once."""
        path = self.root / FAILURES_NAME
        on_one_line = " ".join(error.split())
        with disk_errors(path):
            line = f"{key}\t{on_one_line}\n".encode(errors="backslashreplace")
            append(path, line, heading=FAILURES_HEADING.encode())

    def forget_failures(self, keys: set[str]) -> None:
        """Take tracks out of ``failures.tsv``, because they were done or are to be tried again."""
        path = self.root / FAILURES_NAME
        if not path.is_file():
            return
        with disk_errors(path), locked(path):
            write_failures(path, {key: error for key, error in self.failures().items() if key not in keys})

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
            # No track is without a frame: so no more is read of an index than there is frames for.
            most = min(max(_INDEX_LINE_BYTES * len(self.frames), MAX_TABLE_BYTES), MOST_INDEX_BYTES)
            rows = read_table(root / INDEX_NAME, ("key", "frames"), most)
            self._lengths = {key: int(length) for key, length, *_ in rows}
            sealed = _is_sealed(root / PACKED_NAME, untrusted.read_bytes(root / INDEX_NAME, most), self.frames)
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


def _seal_index(index: bytes) -> bytes:
    return b"\n" + seal(hashlib.sha256(index).hexdigest())


def _is_sealed(packed: Path, index: bytes, frames: npt.NDArray[Any]) -> bool:
    """Whether two packed files belong together; those of earlier versions do not say."""
    with packed.open("rb") as file:
        file.seek(-SEAL_BYTES - 1, os.SEEK_END)
        last = file.read()
        bare = file.tell() == frames.offset + frames.nbytes  # type: ignore[attr-defined]
    return not index.startswith(b"key\tframes\tsha256") if bare else last == _seal_index(index)


def _refuse(error: OSError) -> None:
    raise StoreError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def _read_manifest(root: Path) -> EmbedderSpec | None:
    path = root / MANIFEST_NAME
    try:
        return read_manifest(path, path)
    except NOT_FOUND:
        return None
    except OSError as error:
        raise StoreError(f"{path}: not the manifest of a store ({error})") from error
