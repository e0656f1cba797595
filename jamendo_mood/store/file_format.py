"""What a store has beside its embeddings: the names in it, ``store.json``, and ``failures.tsv``."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.util import untrusted
from jamendo_mood.util.errors import StoreError
from jamendo_mood.util.files import write_atomically

FORMAT = 1
MANIFEST_NAME = "store.json"
FAILURES_NAME = "failures.tsv"
FAILURES_HEADING = "key\terror\n"
PACKED_NAME, INDEX_NAME = "frames.npy", "index.tsv"

MOST_FAILURES_BYTES = 256_000_000
"""Of ``failures.tsv``: some two million tracks."""

NOT_FOUND = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_RESERVED = {MANIFEST_NAME, FAILURES_NAME, PACKED_NAME, INDEX_NAME}
_MOST_DAMAGED_LINES = 100  # that are told

# Windows' separator, what would break a line of a table, and what is left of file names that are no Unicode.
_UNFIT_FOR_KEYS = re.compile(r"[\\\x00-\x1f\ud800-\udfff]")


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
        raise _describe_damage(error, place) from error


def read_manifest(path: Path, place: Path | str) -> EmbedderSpec:
    """Read a ``store.json`` from its file, as `parse_manifest` does; OSError if the file cannot be read."""
    try:
        content = untrusted.read_bytes(path, untrusted.MAX_JSON_BYTES)
    except ValueError as error:
        raise _describe_damage(error, place) from error
    return parse_manifest(content, place)


def parse_failures(content: bytes) -> tuple[dict[str, str], list[int]]:
    """Read a ``failures.tsv``: errors by key, and the numbers of lines that are damaged, the first few of them.

    A line that was cut short, by a full disk or a crash, is passed over: its track will be tried again.
    """
    listed: dict[str, str] = {}
    damaged: list[int] = []
    for number, line in enumerate(io.BytesIO(content), start=1):
        if line == FAILURES_HEADING.encode():
            continue  # more than once where processes of earlier versions began the list at the same moment
        try:
            key, tab, error = line.decode().removesuffix("\n").partition("\t")
        except UnicodeDecodeError:
            key = tab = error = ""
        if tab and is_key(key):
            listed[key] = error
        wrong = not tab or not is_key(key) or number == 1 or not line.endswith(b"\n")
        if wrong and len(damaged) < _MOST_DAMAGED_LINES:
            damaged.append(number)
    return listed, damaged


def read_failures(path: Path) -> tuple[dict[str, str], list[int]]:
    """Read a ``failures.tsv`` from its file, if there is one; OSError or ValueError if it cannot be read."""
    try:
        return parse_failures(untrusted.read_bytes(path, MOST_FAILURES_BYTES))
    except NOT_FOUND:
        return {}, []


def write_failures(path: Path, listed: Mapping[str, str]) -> None:
    """Write a ``failures.tsv``; whoever does holds a lock on it."""
    text = "".join(f"{key}\t{error}\n" for key, error in listed.items())
    write_atomically(path, lambda file: file.write((FAILURES_HEADING + text).encode()))


def _describe_damage(error: Exception, place: Path | str) -> StoreError:
    return StoreError(f"{place}: not the manifest of a store ({error})")


HEADER_BYTES = 192
SEAL_BYTES = 65  # the last line
_MOST_ABOUT_BYTES = 1_000_000  # of what follows the array

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d{1,18}), (\d{1,18})\), \} *\n",
    re.DOTALL,
)

Array = npt.NDArray[np.float32]
Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, eq=False)
class Entry:
    """What a file of a store holds, whole and, if it has a checksum, as it was written.

    Attributes
    ----------
    frames : float32 array (frames, dim)
    key : str or None
        The track it is the embedding of; None in entries of earlier versions, which do not say.
    spec : EmbedderSpec or None
        What made it; None likewise.
    sha256 : str
        The checksum; empty likewise.
    """

    frames: Array
    key: str | None = None
    spec: EmbedderSpec | None = None
    sha256: str = ""


def encode_header(rows: int, dim: int) -> bytes:
    """The header of an array of float32 that a checksum follows."""
    size = (HEADER_BYTES - 10).to_bytes(2, "little")
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    return b"\x93NUMPY\x01\x00" + size + text.ljust(HEADER_BYTES - 11).encode() + b"\n"


def encode_entry(key: str, frames: Array, spec: EmbedderSpec) -> list[bytes | memoryview]:
    """The parts of an entry, one after the other; the last is its checksum.

    Parameters
    ----------
    key : str
    frames : float32 array (frames, dim)
    spec : EmbedderSpec
    """
    about = f'{{"key": {json.dumps(key)}, "embedder": {_describe(spec)}}}'
    numbers = np.ascontiguousarray(frames, "<f4").reshape(-1).view(np.uint8).data
    parts: list[bytes | memoryview] = [encode_header(*frames.shape), numbers, f"\n{about}\n".encode()]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return [*parts, seal(digest.hexdigest())]


@functools.cache
def _describe(spec: EmbedderSpec) -> str:
    return json.dumps(asdict(spec))


def seal(sha256: str) -> bytes:
    """The last line."""
    return f"{sha256}\n".encode()


def decode_entry(content: Bytes, place: Path | str) -> Entry:
    """Read an entry as `parse_entry` does; StoreError that names `place` if it is none."""
    try:
        return parse_entry(content)
    except ValueError as error:
        raise describe_damage(error, place) from error


def describe_damage(error: ValueError, place: Path | str) -> StoreError:
    """What to tell the user where `parse_entry` or `read_entry` found no entry."""
    return StoreError(f"{place}: damaged, delete it and extract the track again ({error})")


def parse_entry(content: Bytes) -> Entry:
    """Read an entry; its frames are a view of `content`.

    Raises
    ------
    ValueError
        It is not an array, cut short, or other than it was written.
    """
    try:
        frames, start, end = _read_array(content)
        rest = bytes(content[end:])
        if rest:
            return _read_about(content, frames, rest)
    except (ValueError, KeyError, TypeError) as error:
        raise _on_one_line(error) from error
    if start == HEADER_BYTES:
        raise ValueError("cut short: its checksum is gone")
    return Entry(frames)


def read_entry(path: Path) -> Entry:
    """Read an entry from its file as `parse_entry` does; no more memory is taken than its header tells of.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        As of `parse_entry`.
    """
    try:
        with untrusted.open_file(path, buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            header = _parse_header(file.read(HEADER_BYTES))
            file.seek(0)
            if header is None:
                return Entry(untrusted.read_npy(file, size))  # an array of others, which ends with its numbers
            if size > (most := header[0] + header[1] * header[2] * 4 + _MOST_ABOUT_BYTES):
                raise ValueError(f"too long: {size:,} bytes of at most {most:,}")
            return parse_entry(untrusted.read_up_to(file, size))
    except (ValueError, TypeError) as error:
        raise _on_one_line(error) from error


def _parse_header(content: Bytes) -> tuple[int, int, int] | None:
    """Where an array of float32 begins, its rows and columns; None if it is another array or none."""
    header = _HEADER.match(content)
    if header is None or header.end() != 10 + int.from_bytes(header[1], "little"):
        return None
    return header.end(), int(header[2]), int(header[3])


def _read_array(content: Bytes) -> tuple[npt.NDArray[Any], int, int]:
    """The array, and where it begins and ends."""
    header = _parse_header(content)
    if header is None:
        return untrusted.read_npy(io.BytesIO(content), len(content)), 0, len(content)  # an array of others
    start, rows, dim = header
    end = start + rows * dim * 4
    if end > len(content):
        raise ValueError(f"cut short: {len(content)} bytes of at least {end}")
    return np.frombuffer(content, "<f4", rows * dim, start).reshape(rows, dim), start, end


def map_array(path: Path) -> Array:
    """Map an array of float32 (rows, columns) into memory; ValueError if that is not what the file begins with."""
    with untrusted.open_file(path) as file:
        header = _parse_header(file.read(HEADER_BYTES))
    if header is None:
        raise ValueError("not an array of float32, or its header is damaged")
    return np.memmap(path, np.dtype("<f4"), "r", header[0], header[1:])


def _on_one_line(error: Exception) -> ValueError:
    return ValueError(" ".join(untrusted.brief(error).split()))


def _read_about(content: Bytes, frames: Array, rest: bytes) -> Entry:
    sha256 = hashlib.sha256(content[:-SEAL_BYTES]).hexdigest()
    if rest[-SEAL_BYTES:] != seal(sha256):
        raise ValueError("its checksum does not fit")
    about = untrusted.parse_json(rest[:-SEAL_BYTES])
    return Entry(frames, str(about["key"]), EmbedderSpec.from_json(about["embedder"]), sha256)
