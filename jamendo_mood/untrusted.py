"""JSON and arrays out of a stranger's files: no code runs, and no more memory is taken than the file is worth.

What is read raises `ValueError` (or `OSError`) if it is not what it must be, with words for the user; whoever reads
names the file.

References
----------
NumPy's file format, "Format Version 1.0" (`numpy.lib.format`).
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

MOST_JSON_BYTES = 8_000_000
"""Of a manifest; parsed, the worst of them takes 220 MB."""

MOST_INDEX_BYTES = 1_000_000
"""Of the table of contents of an ``.npz``: some 15,000 arrays."""

DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged or hostile file raises."""

_KINDS = "biufSU"  # numbers and texts: no objects, which would be unpickled, no records
_LONGEST_REASON = 300

Array = npt.NDArray[Any]


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes."""
    with path.open("rb") as file:
        # Not `most + 1`: so much memory would be taken before anything is read.
        content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def parse_json(content: bytes) -> Any:
    """Parse JSON; NaN and infinity, which JSON does not have, and what is nested too deep are refused."""
    if len(content) > MOST_JSON_BYTES:
        raise ValueError(f"JSON of more than {MOST_JSON_BYTES:,} bytes")
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def read_array(path: Path) -> Array:
    """Read a ``.npy`` file."""
    with path.open("rb") as file:
        return read_npy(file, os.fstat(file.fileno()).st_size)


def read_npy(file: IO[bytes], size: int) -> Array:
    """Read an array of numbers or texts, if the file has as many bytes as its header tells.

    numpy itself takes the memory that a header asks for before it looks whether there is as much in the file.

    Parameters
    ----------
    file : binary file
        At its start.
    size : int
        Bytes in it.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"an array in format {version[0]}.{version[1]}, not 1.0")
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except (SyntaxError, TokenError, RecursionError, MemoryError, TypeError, AttributeError, IndexError, OverflowError):
        raise ValueError("the header of an array makes no sense") from None
    if dtype.hasobject:
        raise ValueError("an array of Python objects, for which allow_pickle would be needed")
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise ValueError(f"an array of {dtype}, not of numbers or texts")
    wanted, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if any(length < 0 for length in shape) or wanted != there:
        raise ValueError(f"the header of an array tells of {wanted} bytes of numbers, where {there} are")
    content = bytearray(wanted)
    view, read = memoryview(content), 0
    while read < wanted:
        count = file.readinto(view[read:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError("an array that ends too soon")
        read += count
    return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")


def read_npz(file: IO[bytes], most: int) -> dict[str, Array]:
    """Read the arrays of an ``.npz`` file by name, if they have at most `most` bytes in all, inflated."""
    ends = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if ends is None or not 0 <= ends[zipfile._ECD_SIZE] <= MOST_INDEX_BYTES:  # type: ignore[attr-defined]
        raise ValueError("no .npz file, or its table of contents is too long")
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if (size := sum(member.file_size for member in members)) > most:
            raise ValueError(f"arrays of {size:,} bytes, where {most:,} are the most")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays or member.flag_bits & 1:
                raise ValueError(f"the array {name!r} is there twice, or encrypted")
            with archive.open(member) as stream:
                arrays[name] = read_npy(stream, member.file_size)
    return arrays


def brief(error: BaseException) -> str:
    """What an error says, in its first line, cut where it repeats too much of a file."""
    text = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    line = " ".join(text.split("\n")[0].split()).rstrip(".")
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
