"""What people write and see: tables and lists in whatever encoding, text made safe for where it goes, bars, pictures.

Text from outside (names of files, titles, tags of a stranger's tagger) may hold anything. For HTML there is
`html.escape`, and for the browser `static/dom.js`, which sets text and never HTML.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import html
import io
import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from jamendo_mood.util import files
from jamendo_mood.util.errors import DataError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  #: how cells begin that a spreadsheet takes for formulas

# What moves a terminal's cursor or colours it, changes the direction of writing, or is not Unicode: both blocks of
# control characters, separators of lines and paragraphs, marks of direction, and surrogates, which Python makes of file
# names that are not UTF-8.
_CONTROLS = "\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNFIT = re.compile(rf"[\x00-\x1f{_CONTROLS}]")
_UNFIT_FOR_CELLS = re.compile(rf"[\x00-\x08\x0b-\x1f{_CONTROLS}]")  # tabs and line feeds are quoted there, returns not
_UNFIT_FOR_JSON = re.compile(rf"[{_CONTROLS}]")  # the first block is escaped by JSON itself
_MARKDOWN = re.compile(r"[\\`*\[\]<>|]|:(?=//)|(?<=www)\.", re.IGNORECASE)  # GitHub makes links of bare addresses

_MARKS = (  # UTF-32's before UTF-16's, with which it begins
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_KINDS = (  # what files of other kinds begin with; the first that fits counts
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"\x89PNG\r\n", "a PNG picture"),
    (rb"GIF8[79]a", "a GIF picture"),
    (rb"RIFF.{4}WEBP", "a WebP picture"),
    (rb"BM.{4}\0{4}", "a BMP picture"),
    (rb"II\*\0|MM\0\*", "a TIFF picture"),
    (rb"8BPS\0", "a Photoshop picture"),
    (rb".{4}ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC picture"),
    (rb".{4}ftypavi[fs]", "an AVIF picture"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg\b", "an SVG picture"),
    (rb"%PDF-", "a PDF document"),
    (rb"\{\\rtf", "an RTF document"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1", "an Office document (.doc, .xls or .ppt)"),
    (rb"PK\x03\x04.*?\bxl/", "an Excel workbook"),
    (rb"PK\x03\x04.*?\bword/", "a Word document"),
    (rb"PK\x03\x04.*?\bppt/", "a PowerPoint document"),
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis\.opendocument", "an OpenDocument file"),
    (rb"PK\x03\x04.{26}mimetypeapplication/epub", "an EPUB book"),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (rb"\x1f\x8b|BZh\d1AY|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", "a packed archive"),
    (rb"\x7fELF|MZ.\0.\0|\xcf\xfa\xed\xfe|\xca\xfe\xba\xbe", "a program"),
    (rb"MThd\0\0\0\x06", "a MIDI file (notes, no sound)"),
    (rb"SQLite format 3\0", "a database"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)\b", "a web page"),
    (rb"(\xef\xbb\xbf)?(#EXTM3U|\[playlist\])", "a playlist (names of songs, no sound)"),
)
_TEXT = "a text file"
_BINARY = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")
HEAD_BYTES = 4096  #: of a file, by which `kind_of` knows what it is


def kind_of(head: bytes) -> str:
    """What a file is that is neither sound nor a table, by its first `HEAD_BYTES`: ``a JPEG picture``; else empty."""
    for pattern, kind in _KINDS:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return kind
    # In whatever encoding, and cut anywhere: the decoder waits for the rest of a character.
    encoding = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), "latin-1")
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    return _TEXT if text.strip() and not _BINARY.search(text) else ""


def decode(content: bytes, path: Path) -> str:
    """The text of a file that is to be a table or a list: UTF-8, or what its byte order mark says.

    Raises `DataError` if it is something else; the message says where, what it seems to be, and what to do.
    """

    def error(what: str, line: int | None = None) -> DataError:
        where = path if line is None else f"{path}, line {line}"
        return DataError(f"{where}: cannot be read as a table ({what})")

    head = content[:HEAD_BYTES]
    if (kind := kind_of(head)) not in ("", _TEXT):
        raise error(f"it is {kind}: save it as plain text or CSV, in UTF-8")
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "utf-8")
    nuls = head[::2].count(0), head[1::2].count(0)
    if encoding == "utf-8" and min(nuls) == 0 and max(nuls) > len(head) // 8:  # every other byte of English
        raise error("it seems to be UTF-16 without a byte order mark: save it as UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as wrong:
        if not encoding.startswith("utf-8"):
            raise error(f"it begins as {encoding.upper()} and is not: save it as UTF-8") from None
        if _BINARY.search(head.decode("latin-1")):
            raise error("it is not text") from None
        line = wrong.object.count(b"\n", 0, wrong.start) + 1
        raise error("not UTF-8 but, it seems, Windows-1252 or Latin-1: save it as UTF-8", line) from None
    if "\0" in text:
        raise error("it holds a NUL", text[: text.index("\0")].count("\n") + 1)
    return text


MAX_TABLE_BYTES = 64_000_000  #: of a table; the largest of the data sets here has 2.7 million
_TABS = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}


def read_text(path: Path, max_bytes: int = MAX_TABLE_BYTES) -> str:
    """Read the text of a table or a list, in UTF-8 or what its byte order mark says; line ends stay as they are.

    Raises `DataError` if the file is missing, is not such text (and what it seems to be), or has more than `max_bytes`
    bytes.
    """
    try:
        return decode(files.read_bytes(path, max_bytes), path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def read_lines(path: Path) -> list[str]:
    """Read a list: its lines without the spaces around them, and without blank lines at the end; raises `DataError`."""
    return [line.strip() for line in io.StringIO(read_text(path).rstrip(), newline=None)]


def read_table(path: Path, columns: tuple[str, ...], max_bytes: int = MAX_TABLE_BYTES) -> list[list[str]]:
    """Read a table whose header starts with `columns` (none: it has no header); a row may have more cells than that.

    A ``.csv`` file has commas and quotes, any other has tabs and takes quotes as they are. Blank lines at its end are
    left out. Raises `DataError` if the file is missing, is not text, has more than `max_bytes` bytes or another header,
    or a row has too few cells; with the line's number.
    """
    rows = _read_rows(path, max_bytes, **({} if path.suffix == ".csv" else _TABS))
    if not rows or tuple(rows[0][: len(columns)]) != columns:
        raise DataError(f"{path}: not the expected table, its first line must begin with {' | '.join(columns)}")
    return _check_rows(path, rows, len(columns)) if columns else rows


def read_columns(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read named columns of a table with commas, wherever they stand; the header's names may have spaces around them.

    Each cell is as it is written, but for its quotes; the first row is line 2, and only blank lines at the end are left
    out. Raises `DataError` if the file is missing, is not text, lacks a column or has it twice, or a row has too few
    cells; with the line's number.
    """
    rows = _read_rows(path)
    header = [cell.strip() for cell in rows[0]] if rows else []
    for column in columns:
        if header.count(column) != 1:
            # On one line: a quote that is not closed makes a cell of many.
            found = textwrap.shorten(" | ".join(cell for cell in header if cell) or "none", 300, placeholder=" ...")
            times = "no column" if column not in header else f"{header.count(column)} columns"
            raise DataError(f"{path}: {times} {column!r} (those that are there: {found})")
    places = {column: header.index(column) for column in columns}
    rows = _check_rows(path, rows, max(places.values(), default=-1) + 1)
    return [{column: row[place] for column, place in places.items()} for row in rows]


def _read_rows(path: Path, max_bytes: int = MAX_TABLE_BYTES, **form: Any) -> list[list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, max_bytes), newline=""), **form))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    while rows and not any(map(str.strip, rows[-1])):
        rows.pop()
    return rows


def _check_rows(path: Path, rows: list[list[str]], least: int) -> list[list[str]]:
    """The rows below the header, if each has so many cells."""
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < least:
            raise DataError(f"{path}, line {number}: {len(row)} cells, at least {least} are needed")
    return rows[1:]


def decode_line(line: bytes) -> str:
    """A line in an encoding it does not name, such as a tag's: UTF-8 if it makes sense as that, else Windows-1252."""
    with contextlib.suppress(UnicodeError):
        text = codecs.getincrementaldecoder("utf-8")().decode(line)
        if not text.isascii() or len(text) == len(line):  # ID3v1 cuts after 30 bytes, even within a letter
            return text
    with contextlib.suppress(UnicodeError):
        return line.decode("cp1252")
    return line.decode("latin-1")


def restore(title: str) -> str:
    """A title as it was meant, if its bytes were taken for Latin-1 or Windows-1252: ``BjÃ¶rk``; else as it is."""
    for encoding in ("latin-1", "cp1252"):
        with contextlib.suppress(UnicodeError):
            return decode_line(title.encode(encoding))
    return title


def show(text: str) -> str:
    r"""Text that is safe on a terminal, on one line: a control character is written as in Python, ``\x1b``."""
    return _UNFIT.sub(_as_in_python, text)


def shorten(name: str, length: int = 30) -> str:
    """A name of at most `length` characters, safe on a terminal."""
    name = show(name)
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def cell(text: str) -> str:
    """Text that is safe in a cell of a CSV file: an apostrophe before what a spreadsheet would take for a formula."""
    return ("'" if text.startswith(FORMULA_STARTS) else "") + _UNFIT_FOR_CELLS.sub(_as_in_python, text)


def to_csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table for spreadsheets, its texts made safe by `cell`."""
    buffer = io.StringIO()
    safe = ([cell(value) if isinstance(value, str) else value for value in row] for row in rows)
    csv.writer(buffer, lineterminator="\n").writerows([columns, *safe])
    return buffer.getvalue()


def to_json(values: Any, indent: int = 2) -> str:
    """JSON that people can read, too: letters as they are, control characters escaped."""
    text = json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False)
    return _UNFIT_FOR_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def markdown(text: str) -> str:
    """Text that is safe in Markdown, on one line, without becoming a table, HTML or a link.

    Except for mail addresses: GitHub makes them links however they are escaped.
    """
    return _MARKDOWN.sub(r"\\\g<0>", show(text))


def to_html(caption: str, rows: Iterable[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """A small table for a notebook; the first cell of each row is its heading, and all text is escaped."""

    def line(cells: Sequence[object], headings: int) -> str:
        tags = ["th" if number < headings else "td" for number in range(len(cells))]
        texts = [html.escape(show(str(cell))) for cell in cells]
        return "".join(f'<{tag} style="text-align:left">{text}</{tag}>' for tag, text in zip(tags, texts, strict=True))

    lines = [*([line(columns, len(columns))] if columns else []), *(line(row, 1) for row in rows)]
    heading = f'<caption style="text-align:left">{html.escape(show(caption))}</caption>'
    return f"<table>{heading}{''.join(f'<tr>{cells}</tr>' for cells in lines)}</table>"


def _as_in_python(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def say(result: str) -> None:
    """Print a result, on one line."""
    print(show(result))


def width() -> int:
    """Columns of the terminal that stdout is; where it is none, lines may have any length: 1000."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000


def block() -> str:
    """What bars are made of: a block, where stdout can show it."""
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#"
    return "█"


BOLD, FAINT, RED, GREEN = 1, 2, 31, 32


def style(text: str, code: int) -> str:
    """Text in one of these if stdout is a terminal that has them, and NO_COLOR (no-color.org) is not set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def note(message: str) -> None:
    """Print something other than a result to stderr, on one line."""
    print(show(message), file=sys.stderr)


def warn(message: str) -> None:
    """`note` a warning."""
    note(f"warning: {message}")


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


class TrackProgress:
    """A progress bar: tracks, x real time, failures, time left; with a `verb` a line at the end of several, too."""

    def __init__(self, total: int, verb: str = "") -> None:
        self._total, self._verb, self._audio_s, self._failed = total, verb, 0.0, 0

    def __enter__(self) -> TrackProgress:
        self._bar = _make_bar(self._total, dynamic_ncols=True, disable=self._total == 0)
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A run that could not start leaves its error alone on the screen, and one track its result.
        self._bar.leave = self._bar.n > 0 and self._total > 1
        self._bar.close()
        if self._verb and kind is None and self._total > 1:
            wall_s = time.perf_counter() - self._started
            speed = self._audio_s / wall_s
            note(f"{self._audio_s:.0f} s of sound {self._verb} in {wall_s:.2f} s ({speed:.0f}x real time)")

    def advance(self, duration_s: float, error: str = "") -> None:
        """Count one more track; a failure is reported at once."""
        self._audio_s += duration_s
        if error:
            self._failed += 1
            self._bar.write(show(f"failed: {error}"), file=sys.stderr)
        speed = self._audio_s / (time.perf_counter() - self._started)
        self._bar.set_postfix_str(f"{speed:.0f}x real time, {self._failed} failed", refresh=False)
        self._bar.update()


class CountProgress:
    """A progress bar of tracks scored, exported or the like; none appears where there is nothing to do."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Say how many tracks are done, of how many."""
        if self._bar is None:
            self._bar = _make_bar(total, desc=self._doing, leave=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def _make_bar(total: int, **options: Any) -> Any:
    from tqdm import tqdm

    # A log file gets a line now and then, a terminal a bar that moves.
    interval_s = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, unit="track", file=sys.stderr, mininterval=interval_s, **options)


# ---- Pictures, drawn with matplotlib (of the extra ``notebook``), which is imported with the first of them.

DECIDED, UNDECIDED, PRIOR, CONTRAST = "#2a7f62", "#a9b8b2", "#f2a33a", "#c2553f"
TEXT, SOFT, LINE, RAISED = "#16211d", "#55655e", "#d5deda", "#f2f6f4"
PALE, ACCENT, WARM = "#9fb5ac", "#0a7d6c", "#a84e06"
"""The colours of the page, as ``app/static/style.css`` has them where it is light."""
GRADE_STYLES = {"good": (DECIDED, "o"), "fair": ("#3f8fc4", "s"), "weak": (CONTRAST, "v"), "unknown": ("#7d8984", "X")}
ROW_HEIGHT = 0.32  # inches a bar
WIDTH = 5.6  # inches, of an evaluation's figure; if wider, text is too small on a phone


class Picture(Protocol):
    """A matplotlib figure that notebooks show. It is not made with pyplot, which would keep it in memory for ever."""

    def to_png(self, dpi: float | str = "figure") -> bytes:
        """A PNG file as bytes; `dpi` is in dots per inch."""

    def __getattr__(self, name: str) -> Any: ...


def make_picture(width: float, height: float) -> Picture:
    """An empty figure; size in inches."""
    from matplotlib.figure import Figure

    def to_png(dpi: float | str = "figure") -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()

    figure: Any = Figure(figsize=(width, height), layout="constrained")
    figure.to_png = figure._repr_png_ = to_png
    return cast(Picture, figure)


def empty_axes(width: float, height: float) -> tuple[Picture, Any]:
    """An empty figure, size in inches, and its axes."""
    figure = make_picture(width, height)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def make_panels(count: int, height: float) -> tuple[Picture, list[Any]]:
    """A figure of so many axes, two beside each other, each `height` inches high."""
    across = min(count, 2)
    down = -(-count // across)
    figure = make_picture(WIDTH if across > 1 else 3.6, 0.7 + height * down)
    panels = [figure.add_subplot(down, across, number + 1) for number in range(count)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def add_legend(figure: Picture) -> None:
    """One legend for all panels, with each label once."""
    pairs = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {label: handle for pair in pairs for handle, label in zip(*pair, strict=True)}
    figure.legend(by_label.values(), by_label.keys(), loc="outside upper left", ncols=3, frameon=False, fontsize=9)
