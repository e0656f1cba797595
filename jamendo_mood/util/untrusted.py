"""JSON, arrays and tables out of a stranger's files: no code runs, and memory stays within what the file is worth.

Readers raise `ValueError` (or `OSError`) with a message for the user if the content is wrong; the caller adds the name
of the file. Readers of tables name the file and the line themselves.

References
----------
NumPy's file format, "Format Version 1.0" (`numpy.lib.format`).
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import stat
import textwrap
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import DataError

MAX_JSON_BYTES = 8_000_000
"""Of a manifest; parsed, the worst of them takes 220 MB."""

MAX_INDEX_BYTES = 1_000_000
"""Of the table of contents of an ``.npz``: some 15,000 arrays."""

DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged or hostile file raises; `zipfile` raises a bare RuntimeError, too."""

_KINDS = "biufSU"  # numbers and texts: no objects, which would be unpickled, no records
_LARGEST_CODE_POINT = 0x10FFFF
_MAX_REASON_LENGTH = 300

Array = npt.NDArray[Any]


@contextlib.contextmanager
def open_file(path: Path, buffering: int = -1) -> Iterator[IO[bytes]]:
    """Open a file for reading; what is not a file is refused, such as a pipe, through which nothing may ever come."""
    with open(path, "rb", buffering, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a file")
        yield file


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a file of at most `max_bytes` bytes."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if size <= max_bytes else b""
    if max(size, len(content)) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes")
    return content


def read_up_to(file: IO[bytes], size: int) -> memoryview:
    """The next bytes of a file, `size` or as many as there are; arrays that are views of them can be written to.

    Raises
    ------
    OSError
        There is no memory for as many.
    """
    try:
        content = np.empty(size, np.uint8).data
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
    read = 0
    while count := file.readinto(content[read:]):  # type: ignore[attr-defined]
        read += count
    return content[:read]


def parse_json(content: bytes) -> Any:
    """Parse JSON; NaN and infinity, which JSON does not have, and what is nested too deep are refused."""
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"JSON of more than {MAX_JSON_BYTES:,} bytes")
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def read_array(path: Path) -> Array:
    """Read a ``.npy`` file."""
    with open_file(path) as file:
        return read_npy(file, os.fstat(file.fileno()).st_size)


def read_npy(file: IO[bytes], size: int) -> Array:
    """Read an array of numbers or texts, if the file has as many bytes as its header says.

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
        raise ValueError(f"the header of an array says {wanted} bytes of numbers, where there are {there}")
    content = read_up_to(file, wanted)
    if len(content) < wanted:
        raise ValueError("an array that ends too soon")
    if dtype.kind == "U" and np.frombuffer(content, dtype.byteorder + "u4").max(initial=0) > _LARGEST_CODE_POINT:
        raise ValueError("an array of texts with characters that do not exist")  # numpy would raise a SystemError
    return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")


class _LimitedReads:
    """A file that refuses to read more than `max_bytes` at once; None is no limit.

    `zipfile` reads the whole table of contents at once, as long as the file says it is, and takes some ten times as
    much memory for it.
    """

    def __init__(self, file: IO[bytes], max_bytes: int | None) -> None:
        self._file, self.max_bytes = file, max_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if self.max_bytes is not None and size > self.max_bytes:
            raise ValueError("a table of contents that is too long")
        return self._file.read(size)


def read_npz(file: IO[bytes], max_bytes: int) -> dict[str, Array]:
    """Read the arrays of an ``.npz`` file by name, if they have at most `max_bytes` bytes in all, inflated."""
    arrays = {}
    limited = _LimitedReads(file, MAX_INDEX_BYTES)
    with zipfile.ZipFile(limited) as archive:
        limited.max_bytes = None
        members = archive.infolist()
        if (size := sum(member.file_size for member in members)) > max_bytes:
            raise ValueError(f"arrays of {size:,} bytes, where {max_bytes:,} are the most")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays or member.flag_bits & 1:
                raise ValueError(f"the array {name!r} is there twice, or encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # all that numpy writes
                raise ValueError(f"the array {name!r} is compressed as method {member.compress_type}")
            with archive.open(member) as stream:
                arrays[name] = read_npy(stream, member.file_size)
    return arrays


def brief(error: BaseException) -> str:
    """What an error says, in its first line, cut where it repeats too much of a file."""
    text = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    line = " ".join(text.split("\n")[0].split()).rstrip(".")
    return line if len(line) <= _MAX_REASON_LENGTH else f"{line[:_MAX_REASON_LENGTH]} ..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


MAX_TABLE_BYTES = 64_000_000
"""Of a table; the largest of the data sets here has 2.7 million."""


class _PlainTabs(csv.Dialect):
    delimiter, quoting, lineterminator = "\t", csv.QUOTE_NONE, "\n"


def read_table(path: Path, columns: tuple[str, ...], max_bytes: int = MAX_TABLE_BYTES) -> list[list[str]]:
    """Read a table whose header starts with `columns` (none: it has no header); a row may have more cells than that.

    A ``.csv`` file has commas and quotes, any other has tabs and takes quotes as they are. It may have
    `max_bytes` bytes.

    Raises
    ------
    DataError
        The file is missing, is not text, has another header, or a row has too few cells; with the line's number.
    """
    dialect = (csv.excel, ",") if path.suffix == ".csv" else (_PlainTabs, "\t")
    rows = _read_rows(read_text(path, max_bytes=max_bytes), path, *dialect)
    if not rows or tuple(rows[0][: len(columns)]) != columns:
        raise DataError(f"{path}: not the expected table, its first line must begin with {' | '.join(columns)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < len(columns):
            raise DataError(f"{path}, line {number}: {len(row)} cells, at least {len(columns)} are needed")
    return rows[1:] if columns else rows


def read_columns(
    path: Path, columns: Sequence[str], *, encoding: str = "utf-8-sig", delimiter: str = ","
) -> list[dict[str, str]]:
    """Read named columns of a table, wherever they stand; cells may have quotes, the header's names spaces around them.

    Parameters
    ----------
    path : Path
    columns : sequence of str
    encoding : str
        ``utf-8-sig`` reads UTF-8 with and without a byte order mark, ``utf-16`` needs one.
    delimiter : str

    Returns
    -------
    list of dict of str
        By column, each cell as it is written. The first row is line 2; only empty lines at the end are left out.

    Raises
    ------
    DataError
        The file is missing, is not text, lacks a column or has it twice, or a row has too few cells; with the line's
        number.
    """
    rows = _read_rows(read_text(path, encoding), path, csv.excel, delimiter)
    header = [cell.strip() for cell in rows[0]] if rows else []
    for column in columns:
        if header.count(column) != 1:
            # On one line: a quote that is not closed makes a cell of many.
            found = textwrap.shorten(" | ".join(cell for cell in header if cell) or "none", 300, placeholder=" ...")
            times = "no column" if column not in header else f"{header.count(column)} columns"
            raise DataError(f"{path}: {times} {column!r} (those that are there: {found})")
    while len(rows) > 1 and not any(rows[-1]):
        rows.pop()
    places = {column: header.index(column) for column in columns}
    least = max(places.values(), default=-1) + 1
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < least:
            raise DataError(f"{path}, line {number}: {len(row)} cells, at least {least} are needed")
    return [{column: row[place] for column, place in places.items()} for row in rows[1:]]


def _read_rows(text: str, path: Path, dialect: type[csv.Dialect], delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), dialect, delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def read_text(path: Path, encoding: str = "utf-8-sig", max_bytes: int = MAX_TABLE_BYTES) -> str:
    """Read the text of a table.

    Raises
    ------
    DataError
        The file is missing, is not text, or has more than `max_bytes` bytes.
    """
    try:
        content = io.BytesIO(read_bytes(path, max_bytes))
        text = io.TextIOWrapper(content, encoding, newline="").read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: cannot be read as a table (it holds a NUL)")
    return text
