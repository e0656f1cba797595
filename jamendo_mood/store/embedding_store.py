"""The store: one ``.npy`` a track, and a manifest that says what made them.

``DIR/48/948.npy`` is the truth: float32 (frames, dim), complete as soon as its name exists. After the array, where
numpy does not look, come two lines: JSON with the track's key, the embedder's spec and what else is to be known of the
track (a remark, such as "6 of 12 s could be decoded"; most have none), and the SHA-256 of all before.
``store.json`` holds the embedder's spec, ``failures.tsv`` the tracks that could not be embedded. ``frames.npy`` and
``index.tsv`` are copies of the embeddings packed for fast reading; they may be deleted.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.registry import MIXED, EmbedderSpec
from jamendo_mood.store import hub
from jamendo_mood.util import files, plaintext
from jamendo_mood.util.errors import DataError, StoreError, UsageError

FORMAT = 1
MANIFEST_NAME = "store.json"
FAILURES_NAME = "failures.tsv"
PACKED_NAME, INDEX_NAME = "frames.npy", "index.tsv"
NAMES = (MANIFEST_NAME, FAILURES_NAME, PACKED_NAME, INDEX_NAME)
NOT_FOUND = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

MAX_FAILURES_BYTES = 256_000_000  # some two million tracks
MAX_INDEX_BYTES = 1_000_000_000  # some twelve million tracks
_INDEX_LINE_BYTES = 200  # hardly ever more: a key, a number and a checksum
_MAX_ABOUT_BYTES = 1_000_000  # of what follows the array

HEADER_BYTES = 192
SEAL_BYTES = 65  # the last line
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d{1,18}), (\d{1,18})\), \} *\n",
    re.DOTALL,
)
_FAILURES_HEADING = b"key\terror\n"

# Windows' separator, what would break a line of a table, and what is left of file names that are not Unicode.
_UNFIT_FOR_KEYS = re.compile(r"[\\\x00-\x1f\ud800-\udfff]")

Array = npt.NDArray[np.float32]
Bytes = bytes | bytearray | memoryview


class EmbeddingStore(Mapping[str, Array]):
    """Embeddings on disk, by track key.

    Several processes and machines may write to one store: an entry is written under another name and renamed when it
    is complete, so nobody sees half of one.

    Parameters
    ----------
    root : Path or str
        The store's folder, or where it is on the Hugging Face Hub: ``hf://datasets/user/name`` (see `hub.locate`).
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
        self.root = root if isinstance(root, Path) else hub.locate(root)
        try:
            found = read_manifest(self.root / MANIFEST_NAME)
        except NOT_FOUND:
            if spec is None:
                raise UsageError(f"{self.root}: no embedding store there (no {MANIFEST_NAME})") from None
            if self.root.exists() and (not self.root.is_dir() or any(self.root.rglob("*.npy"))):
                raise UsageError(
                    f"{self.root}: not an embedding store, and not an empty folder to make one in "
                    f"(`jamendo-mood verify {self.root} --repair` restores a lost {MANIFEST_NAME})"
                ) from None
            files.write_atomically(self.root / MANIFEST_NAME, format_manifest(spec))
            found = spec
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.root / MANIFEST_NAME}: not the manifest of a store ({error})") from error
        self.spec = found
        if spec is not None and replace(spec, engine=found.engine) == found != spec and found.engine != MIXED:
            raise UsageError(
                f"{self.root} is a store of rows by {found.engine}, not by {spec.engine}: give "
                f"--engine {found.engine}, or --mix-engines to put both into it"
            )
        if spec is not None and not found.holds(spec):
            raise UsageError(f"{self.root} is a store of {found}, not of {spec}: use another folder for these")

    def __repr__(self) -> str:
        return plaintext.show(f"<EmbeddingStore {self.root}: {len(self):,} tracks of {self.spec}>")

    def _repr_html_(self) -> str:
        sizes = [self.stat(key).st_size for key in self]
        size = f"{sum(sizes) / 1e6:,.1f} MB" if sum(sizes) >= 1e6 else f"{sum(sizes) / 1e3:,.1f} kB"
        rows = [("embedder", self.spec), ("tracks", f"{len(sizes):,}"), ("size on disk", size)]
        return plaintext.to_html(f"Embedding store {self.root}", rows)

    def __getitem__(self, key: str) -> Array:
        return self.read(key).frames

    def read(self, key: str) -> Entry:
        """An embedding with its checksum, which is compared if there is one; `KeyError` if there is no embedding.

        Raises `StoreError` if it is damaged, another track's or another embedder's, or cannot be read.
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
        """What the file system says about an embedding's file; StoreError if there is none, or a link leads nowhere."""
        path = self._path(key)
        try:
            return path.stat()
        except OSError as error:
            what = "a link that leads nowhere" if path.is_symlink() else error.strerror
            raise StoreError(f"{path}: cannot be read ({what}); see `jamendo-mood verify {self.root}`") from error

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and os.path.isfile(self._path(key))  # noqa: PTH113 (a name may be too long)

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

    def add(self, key: str, frames: Array, remark: str = "") -> None:
        """Write the embedding of a track, float32 (frames, dim), durably; what was there is replaced.

        The key is such as ``48/948``; not an absolute path, no ``..``. The remark is what whoever uses the embedding
        should know of its sound; see `remarks`. Raises `StoreError` if the key or the array is not what the store
        holds, or it cannot be written; `DiskFullError` if the disk is full.
        """
        path = self._path(key)
        files.write_atomically(path, encode_entry(key, check_frames(frames, self.spec.dim, path), self.spec, remark))

    def remarks(self, keys: Iterable[str]) -> dict[str, str]:
        """What was remarked on those of these tracks that are there: no more than the end of an entry is read."""
        found = {}
        for key in keys:
            with contextlib.suppress(OSError, ValueError, OverflowError):
                if remark := read_remark(self._path(key)):
                    found[key] = remark
        return found

    def times(self, key: str) -> Array:
        """Start of each frame of a track in seconds, float32 (frames,)."""
        return self.spec.times_s(len(self[key]))

    def failures(self) -> dict[str, str]:
        """The tracks that could not be embedded, and why."""
        path = self.root / FAILURES_NAME
        try:
            listed, _ = read_failures(path)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
        return {key: error for key, error in listed.items() if key not in self}

    def record_failure(self, key: str, error: str) -> None:
        """Add a failed track to ``failures.tsv``, by one appended line, which several processes may do at once."""
        path = self.root / FAILURES_NAME
        line = f"{key}\t{' '.join(error.split())}\n".encode(errors="backslashreplace")
        with files.disk_errors(path):
            files.append(path, line, heading=_FAILURES_HEADING)

    def forget_failures(self, keys: set[str]) -> None:
        """Take tracks out of ``failures.tsv``, because they were done or are to be tried again."""
        path = self.root / FAILURES_NAME
        if not path.is_file():
            return
        with files.disk_errors(path), files.locked(path):
            write_failures(path, {key: error for key, error in self.failures().items() if key not in keys})

    def pack(self) -> PackedEmbeddings:
        """Write all embeddings into one file to be memory-mapped, and open it."""
        # Its last line is the SHA-256 of the index, which lists those of the entries: so what does not fit can be seen.
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
                remark = f"\t{entry.remark}" if entry.remark else ""
                index.append(f"{key}\t{len(entry.frames)}\t{entry.sha256}{remark}\n")
                # Not by numpy, whose error on a full disk does not say that the disk is full.
                file.write(np.ascontiguousarray(entry.frames, "<f4").data)
            file.write(b"\n" + seal("".join(index).encode()))
            file.seek(0)
            file.write(encode_header(rows, self.spec.dim))

        files.write_together(
            {
                self.root / PACKED_NAME: write_frames,
                self.root / INDEX_NAME: lambda file: file.write("".join(index).encode()),
            }
        )
        return PackedEmbeddings(self.root)

    def mix_engines(self) -> None:
        """From now on take rows by any engine; ``store.json`` says so."""
        self.spec = replace(self.spec, engine=MIXED)
        files.write_atomically(self.root / MANIFEST_NAME, format_manifest(self.spec))

    def _path(self, key: str) -> Path:
        """Where an embedding is, or would be: macOS spells accented letters otherwise than tables do (NFD, NFC)."""
        path = self.root / f"{check_key(key)}.npy"
        others = (self.root / f"{form}.npy" for form in spellings(key))
        return next((other for other in others if os.path.isfile(other)), path)  # noqa: PTH113 (a name may be too long)


class PackedEmbeddings(Mapping[str, Array]):
    """A store's packed file, memory-mapped; StoreError if there is none, or its two files do not belong together."""

    def __init__(self, root: Path | str) -> None:
        root = Path(root)
        self.spec = EmbeddingStore(root).spec
        try:
            with files.open_file(root / PACKED_NAME) as file:
                begins = file.read(HEADER_BYTES)
                start, end, shape = _parse_header(begins) or (0, 0, (0, 0))
                file.seek(end)
                ends = file.read(SEAL_BYTES + 2)
            self.frames: Array = np.memmap(root / PACKED_NAME, np.dtype("<f4"), "r", start, shape)
            # No track is without a frame: so no more is read of an index than there are frames for.
            most = min(max(_INDEX_LINE_BYTES * shape[0], plaintext.MAX_TABLE_BYTES), MAX_INDEX_BYTES)
            rows = plaintext.read_table(root / INDEX_NAME, ("key", "frames"), most)
            lengths = [int(row[1]) for row in rows]
            index = files.read_bytes(root / INDEX_NAME, most)
        except (OSError, ValueError, OverflowError, DataError) as error:
            raise StoreError(f"{root}: not packed, or damaged; pack the store again ({error})") from error
        says = index.startswith(b"key\tframes\tsha256")  # those of earlier versions do not say what belongs together
        fits = (ends == b"\n" + seal(index) and begins == encode_header(*shape)) if says else not ends
        if shape != (sum(lengths), self.spec.dim) or not fits:
            raise StoreError(f"{root / INDEX_NAME}: does not belong to {PACKED_NAME}; pack the store again")
        self.sha256 = {row[0]: row[2] for row in rows if len(row) > 2}
        self._remarks = {row[0]: row[3] for row in rows if len(row) > 3}
        spans = pairwise(accumulate(lengths, initial=0))
        self._spans = {row[0]: slice(*span) for row, span in zip(rows, spans, strict=True)}

    def __getitem__(self, key: str) -> Array:
        return self.frames[self._spans[next((form for form in (key, *spellings(key)) if form in self._spans), key)]]

    def remarks(self, keys: Iterable[str]) -> dict[str, str]:
        """What was remarked on those of these tracks that are there."""
        return {key: self._remarks[key] for key in keys if key in self._remarks}

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


@dataclass(frozen=True, eq=False)
class Entry:
    """What the file of a track holds; in those of earlier versions, float32 frames (frames, dim) alone."""

    frames: Array
    key: str | None = None
    spec: EmbedderSpec | None = None
    sha256: str = ""
    remark: str = ""


def spellings(key: str) -> tuple[str, ...]:
    """How else a key may be spelled: with accented letters as one character, or as letter and accent."""
    return () if key.isascii() else tuple(unicodedata.normalize(form, key) for form in ("NFC", "NFD"))


def is_key(key: str) -> bool:
    """Whether a text can be the key of a track."""
    parts = f"{key}.npy".split("/")
    plain = all(part and part[0] != "." for part in parts)
    return plain and parts[0] not in NAMES and not _UNFIT_FOR_KEYS.search(key)


def check_key(key: str) -> str:
    """Return a key if it can be one; StoreError if not."""
    if not is_key(key):
        raise StoreError(f"{key!r} cannot be the key of a track: it must be a plain path, such as 48/948")
    return key


def check_frames(frames: npt.NDArray[Any], dim: int, where: Path | str) -> Array:
    """Return an array if it is the embedding of a track; StoreError that names the file `where` if not."""
    if frames.dtype != np.float32 or frames.ndim != 2 or frames.shape[1] != dim or not len(frames):
        raise StoreError(
            f"{where}: an embedding here is float32 (frames, {dim}) with at least one frame, "
            f"not {frames.dtype} {frames.shape}"
        )
    return frames


def check_entry(entry: Entry, key: str, spec: EmbedderSpec, where: Path | str) -> Entry:
    """Return an entry if it is of this track and embedder; StoreError that names the file `where` if not."""
    if entry.key not in (None, key, *spellings(key)) or not (entry.spec is None or spec.holds(entry.spec)):
        raise StoreError(
            f"{where}: holds the embedding of {entry.key!r} by {entry.spec}, which does not belong there; "
            "`jamendo-mood verify STORE --repair` moves it to its own place, or aside"
        )
    check_frames(entry.frames, spec.dim, where)
    return entry


def format_manifest(spec: EmbedderSpec) -> bytes:
    """The content of ``store.json``."""
    return (json.dumps({"format": FORMAT, "embedder": asdict(spec)}, indent=2) + "\n").encode()


def parse_manifest(content: bytes, where: Path | str) -> EmbedderSpec:
    """Parse a ``store.json``; StoreError that names the file `where` if it is damaged."""
    try:
        manifest = files.parse_json(content)
        if manifest["format"] != FORMAT:
            raise ValueError(f"of format {repr(manifest['format'])[:20]}, this version reads format {FORMAT}")
        return EmbedderSpec.from_json(manifest["embedder"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{where}: not the manifest of a store ({error})") from error


def read_manifest(path: Path) -> EmbedderSpec:
    """Read a ``store.json`` as `parse_manifest` does; OSError or ValueError if the file cannot be read."""
    return parse_manifest(files.read_bytes(path, files.MAX_JSON_BYTES), path)


def read_failures(path: Path) -> tuple[dict[str, str], int]:
    """Read a ``failures.tsv``, if there is one: errors by key, and how many lines are damaged.

    A line that was cut short, by a full disk or a crash, is skipped: its track will be tried again. OSError or
    ValueError if the file cannot be read.
    """
    listed: dict[str, str] = {}
    damaged = 0
    try:
        content = files.read_bytes(path, MAX_FAILURES_BYTES)
    except NOT_FOUND:
        return {}, 0
    content = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")  # as an editor may have saved it
    for number, line in enumerate(io.BytesIO(content)):
        if line == _FAILURES_HEADING:
            continue  # more than once where processes of earlier versions began the list at the same moment
        try:
            key, tab, error = line.decode().removesuffix("\n").partition("\t")
        except UnicodeDecodeError:
            key = tab = error = ""
        whole = bool(tab) and is_key(key)
        if whole:
            listed[key] = error
        damaged += not (whole and number and line.endswith(b"\n"))
    return listed, damaged


def write_failures(path: Path, listed: Mapping[str, str]) -> None:
    """Write a ``failures.tsv``; the caller holds a lock on it."""
    text = "".join(f"{key}\t{error}\n" for key, error in listed.items())
    files.write_atomically(path, _FAILURES_HEADING + text.encode())


def encode_header(rows: int, dim: int) -> bytes:
    """The header of an array of float32 that a checksum follows."""
    # 64 bytes longer than numpy's: so an entry that lost its end is not taken for one of an earlier version.
    size = (HEADER_BYTES - 10).to_bytes(2, "little")
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    return b"\x93NUMPY\x01\x00" + size + text.ljust(HEADER_BYTES - 11).encode() + b"\n"


def encode_entry(key: str, frames: Array, spec: EmbedderSpec, remark: str = "") -> bytes:
    """An entry of float32 `frames` (frames, dim)."""
    about = {"key": key, "embedder": asdict(spec), **({"remark": remark} if remark else {})}
    numbers = np.ascontiguousarray(frames, "<f4").tobytes()
    content = b"".join([encode_header(*frames.shape), numbers, f"\n{json.dumps(about)}\n".encode()])
    return content + seal(content)


def seal(content: Bytes) -> bytes:
    """The last line of an entry: the SHA-256 of what is before it."""
    return f"{hashlib.sha256(content).hexdigest()}\n".encode()


def describe_damage(error: ValueError, where: Path | str) -> StoreError:
    """What to tell the user if `parse_entry` or `read_entry` failed."""
    return StoreError(f"{where}: damaged, delete it and extract the track again ({files.brief(error)})")


def parse_entry(content: Bytes) -> Entry:
    """Parse an entry; its frames are a view of `content`. ValueError if it is cut short or otherwise damaged."""
    header = _parse_header(content)
    if header is None:
        return Entry(files.read_npy(io.BytesIO(content), len(content)))  # an array that others wrote
    start, end, shape = header
    if end > len(content):
        raise ValueError(f"cut short: {len(content)} bytes of at least {end}")
    frames = np.frombuffer(content, "<f4", shape[0] * shape[1], start).reshape(shape)
    if end == len(content):
        if start == HEADER_BYTES:
            raise ValueError("cut short: its checksum is gone")
        return Entry(frames)
    sealed = seal(content[:-SEAL_BYTES])
    if content[-SEAL_BYTES:] != sealed or end > len(content) - SEAL_BYTES:
        raise ValueError("its checksum does not fit")
    try:
        about, sha256 = files.parse_json(bytes(content[end:-SEAL_BYTES])), sealed.decode().strip()
        return Entry(frames, str(about["key"]), EmbedderSpec.from_json(about["embedder"]), sha256, _remark_of(about))
    except (KeyError, TypeError) as error:
        raise ValueError(files.brief(error)) from error


def read_entry(path: Path) -> Entry:
    """Read an entry from its file as `parse_entry` does; OSError if it cannot be read.

    No more memory is taken than its header asks for and the file has.
    """
    with files.open_file(path, buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        header = _parse_header(file.read(HEADER_BYTES))
        file.seek(0)
        if header is None:
            return Entry(files.read_npy(file, size))  # an array that others wrote
        if size > (most := header[1] + _MAX_ABOUT_BYTES):
            raise ValueError(f"too long: {size:,} bytes of at most {most:,}")
        return parse_entry(files.read_up_to(file, size))


def read_remark(path: Path) -> str:
    """The remark of an entry; ValueError, OverflowError or OSError if its end cannot be read."""
    with files.open_file(path, buffering=0) as file:
        header = _parse_header(file.read(HEADER_BYTES))
        if header is None:
            return ""  # an array that others wrote
        file.seek(header[1])
        about = file.read(_MAX_ABOUT_BYTES)[:-SEAL_BYTES]
    return _remark_of(files.parse_json(about)) if about else ""


def _remark_of(about: Mapping[str, Any]) -> str:
    return " ".join(str(about.get("remark", "")).split())


def _parse_header(content: Bytes) -> tuple[int, int, tuple[int, int]] | None:
    """Where an array of float32 begins and ends, and its shape; None if it is another array, or not an array."""
    header = _HEADER.match(content)
    if header is None or header.end() != 10 + int.from_bytes(header[1], "little"):
        return None
    shape = int(header[2]), int(header[3])
    return header.end(), header.end() + 4 * shape[0] * shape[1], shape


def _refuse(error: OSError) -> None:
    raise StoreError(f"{error.filename}: cannot be listed ({error.strerror})") from error
