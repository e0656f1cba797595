"""Tracks that a query found, as a table, JSON, CSV, or a playlist that players open."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from jamendo_mood.audio import conversion
from jamendo_mood.library.similarity import Found
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import MoodError

THREADS = 8
COLUMNS = ("key", "fit", "title", "artist", "duration_s", "file", "tags")


def describe(tracks: Sequence[Found]) -> list[Found]:
    """Add title, artist and length from the tracks' own files; what can't be read is left as it is."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(_describe, tracks))


def _describe(track: Found) -> Found:
    if track.file is None:
        return track
    try:
        info = conversion.probe(track.file)
    except (MoodError, OSError):  # a file that has gone is no reason to show none of the others
        return track
    return replace(track, title=info.title, artist=info.artist, duration_s=info.duration_s)


def name_of(track: Found) -> str:
    """Artist and title on one line, or else the key."""
    names = (_on_one_line(text) for text in (track.artist, track.title) if text)
    return " - ".join(name for name in names if name) or track.key


def to_table(tracks: Sequence[Found]) -> str:
    """A line a track, best first."""
    rows = []
    for number, track in enumerate(tracks, start=1):
        tags = ", ".join(f"{tag} {score:.2f}" for tag, score in track.tags)
        rows.append((f"{number:>{len(str(len(tracks)))}}", f"{track.fit:.3f}", track.key, _named(track), tags))
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True))
    return "".join(f"{plaintext.show(line)}\n" for line in lines)


def _named(track: Found) -> str:
    """What the key does not say: name and length, as far as they are known."""
    minutes, seconds = divmod(round(track.duration_s or 0), 60)
    length = "" if track.duration_s is None else f"({minutes}:{seconds:02d})"
    return f"{'' if name_of(track) == track.key else name_of(track)}  {length}".strip()


def to_json(tracks: Sequence[Found]) -> str:
    """A list with an object for each track."""
    values = [
        {
            **{name: getattr(track, name) for name in ("key", "fit", "title", "artist", "duration_s")},
            "file": _path_of(track),
            "tags": [{"tag": tag, "score": score} for tag, score in track.tags],
        }
        for track in tracks
    ]
    return plaintext.to_json(values) + "\n"


def to_csv(tracks: Sequence[Found]) -> str:
    """A table for spreadsheets; an apostrophe before a cell keeps them from running it as a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for track in tracks:
        tags = "; ".join(f"{tag} {score:.3f}" for tag, score in track.tags)
        cells = [track.key, f"{track.fit:.4f}", track.title, track.artist, track.duration_s, _path_of(track), tags]
        writer.writerow(plaintext.cells(cells))
    return buffer.getvalue()


def to_m3u8(tracks: Sequence[Found]) -> str:
    """An extended M3U playlist, to be saved as UTF-8; tracks without a file are left out.

    References
    ----------
    RFC 8216 ("HTTP Live Streaming"), sections 4.1 and 4.3.2.1: UTF-8 and ``EXTINF``; -1 for an unknown length is what
    players expect.
    """
    lines = ["#EXTM3U"]
    for track in tracks:
        if track.file is not None:
            seconds = -1 if track.duration_s is None else round(track.duration_s)
            lines += [f"#EXTINF:{seconds},{name_of(track)}", _location(track.file)]
    return "".join(f"{line}\n" for line in lines)


FORMATS: dict[str, Callable[[Sequence[Found]], str]] = {
    "table": to_table,
    "json": to_json,
    "csv": to_csv,
    "m3u8": to_m3u8,
}
"""All ways to write tracks down."""


def _location(path: Path) -> str:
    """An absolute path; as a URI where a line of text can't hold it."""
    absolute = path.absolute()
    return str(absolute) if str(absolute).isprintable() else absolute.as_uri()


def _path_of(track: Found) -> str | None:
    # A file's name may be no Unicode; text must be.
    return None if track.file is None else os.fsencode(track.file).decode("utf-8", "replace")


def _on_one_line(text: str) -> str:
    # Line breaks of all kinds, and what would move a terminal's cursor.
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
