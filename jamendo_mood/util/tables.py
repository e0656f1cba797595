"""Tables of text, read within bounds; whatever is wrong with one is told with its file and line."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from jamendo_mood.util import untrusted
from jamendo_mood.util.errors import DataError

MOST_TABLE_BYTES = 64_000_000
"""Of a table; the largest of the data sets here has 2.7 million."""


class _PlainTabs(csv.Dialect):
    delimiter, quoting, lineterminator = "\t", csv.QUOTE_NONE, "\n"


def read_table(path: Path, columns: tuple[str, ...], most: int = MOST_TABLE_BYTES) -> list[list[str]]:
    """Read a table whose header starts with `columns` (none: it has no header); a row may have more cells than that.

    A ``.csv`` file has commas and quotes, any other has tabs and takes quotes as they are. It may have `most` bytes.

    Raises
    ------
    DataError
        The file is missing, is no text, has another header, or a row has too few cells; with the line's number.
    """
    dialect = (csv.excel, ",") if path.suffix == ".csv" else (_PlainTabs, "\t")
    rows = _read_rows(read_text(path, most=most), path, *dialect)
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
        The file is missing, is no text, lacks a column or has it twice, or a row has too few cells; with the line's
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


def read_text(path: Path, encoding: str = "utf-8-sig", most: int = MOST_TABLE_BYTES) -> str:
    """Read the text of a table.

    Raises
    ------
    DataError
        The file is missing, is no text, or has more than `most` bytes.
    """
    try:
        content = io.BytesIO(untrusted.read_bytes(path, most))
        text = io.TextIOWrapper(content, encoding, newline="").read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: cannot be read as a table (it holds a NUL)")
    return text
