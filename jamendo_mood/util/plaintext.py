"""Text from people and for people: read in whatever encoding, made safe for where it goes, lines on a terminal, bars.

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
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

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


def show_lines(text: str) -> str:
    """Lines that are safe on a terminal."""
    return "\n".join(map(show, text.split("\n")))


def cell(text: str) -> str:
    """Text that is safe in a cell of a CSV file: an apostrophe before what a spreadsheet would take for a formula."""
    return ("'" if text.startswith(FORMULA_STARTS) else "") + _UNFIT_FOR_CELLS.sub(_as_in_python, text)


def cells(row: Iterable[Any]) -> list[Any]:
    """A row of a CSV file, its texts made safe by `cell`; numbers stay numbers."""
    return [cell(value) if isinstance(value, str) else value for value in row]


def to_csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table for spreadsheets, its texts made safe by `cell`."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *map(cells, rows)])
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


def note_all(messages: Sequence[str]) -> None:
    """`note` several things, one per line."""
    for message in messages:
        note(message)


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
        from tqdm import tqdm

        # A log file gets a line now and then, a terminal a bar that moves.
        interval_s = 0.1 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=self._total,
            unit="track",
            file=sys.stderr,
            mininterval=interval_s,
            dynamic_ncols=True,
            disable=self._total == 0,
        )
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        from tqdm import tqdm

        if self._bar is None:
            interval_s = 0.1 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(
                total=total, desc=self._doing, unit="track", file=sys.stderr, mininterval=interval_s, leave=False
            )
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
