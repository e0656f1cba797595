"""Text for people: made safe for where it goes, and lines on a terminal.

Text from outside (names of files, titles, tags of a stranger's tagger) may hold anything. For HTML there is
`html.escape`, and for the browser `static/dom.js`, which sets text and never HTML.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet take a cell for a formula."""

# What moves a terminal's cursor or colours it, turns the direction of writing, or is no Unicode: controls of both
# blocks, separators of lines and paragraphs, marks of direction, what is left of file names that are no UTF-8.
_CONTROLS = "\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNFIT = re.compile(rf"[\x00-\x1f{_CONTROLS}]")
_UNFIT_FOR_CELLS = re.compile(rf"[\x00-\x08\x0b-\x1f{_CONTROLS}]")  # tabs and line feeds are quoted there, returns not
_UNFIT_FOR_JSON = re.compile(rf"[{_CONTROLS}]")  # the first block is escaped by JSON itself
_MARKDOWN = re.compile(r"[\\`*\[\]<>|]|:(?=//)|(?<=www)\.", re.IGNORECASE)  # GitHub makes links of bare addresses


def show(text: str) -> str:
    r"""Text as it may go to a terminal, on one line: a control character is written as in Python, ``\x1b``."""
    return _UNFIT.sub(_as_in_python, text)


def show_lines(text: str) -> str:
    """Lines as they may go to a terminal."""
    return "\n".join(map(show, text.split("\n")))


def cell(text: str) -> str:
    """The text of a cell of a CSV file: an apostrophe stands before what a spreadsheet would take for a formula."""
    return ("'" if text.startswith(FORMULA_STARTS) else "") + _UNFIT_FOR_CELLS.sub(_as_in_python, text)


def cells(row: Any) -> list[Any]:
    """A row of a CSV file, its texts made safe by `cell`; numbers stay numbers."""
    return [cell(value) if isinstance(value, str) else value for value in row]


def to_json(values: Any, indent: int = 2) -> str:
    """JSON to be read by people too: letters as they are, control characters escaped."""
    text = json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False)
    return _UNFIT_FOR_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def markdown(text: str) -> str:
    """Text as it may stand in Markdown, on one line, without becoming a table, HTML or a link.

    But for addresses of mail: of these GitHub makes links however their letters are escaped.
    """
    return _MARKDOWN.sub(r"\\\g<0>", show(text))


def _as_in_python(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def say(result: str) -> None:
    """Print a result, on one line."""
    print(show(result))


def note(message: str) -> None:
    """Say something that is no result, on one line."""
    print(show(message), file=sys.stderr)


def note_all(messages: Sequence[str]) -> None:
    """Say several things that are no result, a line each."""
    for message in messages:
        note(message)


def warn(message: str) -> None:
    """Print a warning."""
    note(f"warning: {message}")


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
