"""Lines for a terminal: results on stdout, what is no result on stderr; any text is one line, and safe to show."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jamendo_mood.util import plaintext


def say(result: str) -> None:
    """Print a result, on one line."""
    print(plaintext.show(result))


def note(message: str) -> None:
    """Say something that is no result, on one line."""
    print(plaintext.show(message), file=sys.stderr)


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
