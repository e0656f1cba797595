"""What goes out: lists of tracks, a playlist for each mood, and moods into people's own files, with the way back.

A changed file is written beside the old one, read back, compared, and renamed: whenever a run ends, each file is the
old one or the new. Before the first, a journal of the run is on the disk, from which `plan_undo` knows how fields were.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import file_tags
from jamendo_mood.audio.file_tags import ELSEWHERE, MOOD, SEPARATOR, Fields, Mark
from jamendo_mood.library.similarity import Array, Found, name_of
from jamendo_mood.tagging.emotions import place_of
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import files, plaintext
from jamendo_mood.util.errors import AudioError, StoreError, UsageError

VALENCE, AROUSAL = "JAMENDO_VALENCE", "JAMENDO_AROUSAL"  #: fields of our own, with two decimals
TYPICAL, MOST_RANKED = 0.5, 3  #: the score of a typical song where a tagger only ranks, and how many are written there
RECENT_S, PAUSE_S = 60.0, 2.0
"""A file that changed in the last minute is replaced after a pause, if it is still the same: it may be being copied."""

_HEADING = {"journal": "jamendo-mood write", "format": 1}

_MARK = b"#jamendo-mood playlist --all, SHA-256 of what follows: "
_MAX_BYTES = 1 << 26
_MAX_NAME = 60  # characters, of 4 bytes each at most: file systems take 255 bytes
#: what some file system refuses in a name, and where one gets a letter more: before a device of Windows, say
_UNFIT = re.compile(r'[<>:"/\\|?*]|^(?=[-~]|$|(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))', re.IGNORECASE)

COLUMNS = ("key", "fit", "title", "artist", "duration_s", "file", "tags")  #: of a list of tracks

Locate = Callable[[Found], str]


@dataclass(frozen=True)
class Rules:
    """Which moods are written, and where."""

    words: Mapping[str, str]  #: by tag, what to call it; tags that are not there are not written
    most: int | None = None  #: of a song, the highest
    field: str = MOOD
    separator: str = ""  #: between moods in one value; empty: a value each, where the format has several
    place: bool = False  #: valence and arousal, too


@dataclass(frozen=True)
class Change:
    """What would change in a file: the fields that differ, before and after."""

    path: Path
    before: Fields
    after: Fields
    stamp: tuple[int, ...]  #: of the file when it was read
    seen_s: float  #: when that was


def choose_moods(tagger: Tagger, scores: Array, rules: Rules) -> dict[str, str]:
    """The moods to write for a song, the highest first, each with the grade of its tag.

    They are those that reach their thresholds, or the class chosen; of a tagger that only ranks the highest.
    """
    moods: dict[str, str] = {}
    decided = scores > TYPICAL if tagger.ranks else tagger.decide(scores)
    for number in np.argsort(-scores, kind="stable").tolist():
        if decided[number] and (word := rules.words.get(tagger.task.targets[number])):
            moods.setdefault(word, tagger.grades[number])
    return dict(list(moods.items())[: rules.most or (MOST_RANKED if tagger.ranks else None)])


def decide_moods(tagger: Tagger, scores: Array) -> npt.NDArray[np.bool_]:
    """Which songs are in the playlist of which mood: scores (n, k) -> bool (n, k).

    Those that the tagger decides; where it only ranks, a song is of the mood that it has most of. Raises `UsageError`
    for a tagger of values.
    """
    if tagger.task.rules.on_scale:
        raise UsageError(f"this tagger predicts numbers ({', '.join(tagger.task.targets)}), and decides on no moods")
    return np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)] if tagger.ranks else tagger.decide(scores)


def plan(path: Path, moods: Sequence[str], tagger: Tagger, scores: Array, rules: Rules) -> Change:
    """What would change in a file for it to name these moods as ours.

    What a person wrote stays, and is not ours. What we wrote and a person has removed is not written again. Raises
    `AudioError` if its tags cannot be read, or it may not be replaced; `UsageError` where mutagen is missing.
    """
    stamp, seen_s, marked = _stamp(path), time.time(), file_tags.mark_of(rules.field)
    fields, one_value = file_tags.read_fields(path, [rules.field, marked, ELSEWHERE, VALENCE, AROUSAL])
    mark = Mark.read(fields[marked])
    theirs, removed = file_tags.take_out(fields[rules.field], mark)
    others = theirs + (fields[ELSEWHERE] if rules.field == MOOD else [])
    known = {_fold(mood) for value in others for mood in file_tags.split(value, mark.separator)}
    ours = [mood for mood in moods if _fold(mood) not in known | {*map(_fold, removed)}]
    values, separator = theirs + ours, rules.separator or (SEPARATOR if one_value else "")
    if sorted(values) == sorted(fields[rules.field]):
        values = fields[rules.field]  # another order is no change
    elif separator and values:
        values = [separator.join(values)]
    said = Mark(tagger.task.name, tuple(sorted([*ours, *removed])), separator or SEPARATOR)
    after = {rules.field: values, marked: [json.dumps(said._asdict(), ensure_ascii=False)] if said.moods else []}
    if rules.place and (va := place_of(tagger.task, tagger.thresholds, scores)) is not None:
        after |= {name: [f"{value:.2f}"] for name, value in zip((VALENCE, AROUSAL), va.tolist(), strict=True)}
    changed = {name: new for name, new in after.items() if new != fields[name]}
    if changed:
        _check(path, stamp)
    return Change(path, {name: fields[name] for name in changed}, changed, stamp, seen_s)


def _fold(name: str) -> str:
    """What is the same for two moods that read alike, and for two names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def apply(changes: Sequence[Change], *, keep_times: bool = False) -> Iterator[str]:
    """Change files, one by one; gives of each why it was left as it is, or nothing.

    Raises `DiskFullError` if there is no room for a copy.
    """
    for folder in sorted({Path(os.path.realpath(change.path)).parent for change in changes}):
        files.remove_drafts(folder, below=False)  # of runs that were killed
    for change in changes:
        try:
            _apply(change, Path(os.path.realpath(change.path)), keep_times)
        except (AudioError, StoreError) as error:
            yield str(error)
        else:
            yield ""


def _apply(change: Change, path: Path, keep_times: bool) -> None:
    def write_copy(file: IO[bytes]) -> None:
        copy = Path(file.name)
        with path.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        if change.seen_s - change.stamp[-1] / 1e9 < RECENT_S:
            time.sleep(max(0.0, change.seen_s + PAUSE_S - time.time()))
        _check(path, change.stamp)
        file_tags.change(path, copy, change.after)
        shutil.copystat(path, copy)
        if not keep_times:
            os.utime(copy)
        _check(path, change.stamp)

    with files.locked_folder(path.parent):  # another run waits, and then sees that the file has changed
        _check(path, change.stamp)
        files.write_output(path, write_copy)


def _check(path: Path, stamp: tuple[int, ...]) -> None:
    """`AudioError` if a file is not as it was, or may not be replaced."""
    if _stamp(path) != stamp:
        raise AudioError(f"{path}: left as it is: another program has changed it meanwhile; run this again")
    if not path.stat().st_mode & 0o222:
        raise AudioError(f"{path}: left as it is: it is read-only")
    if path.stat().st_nlink > 1:
        raise AudioError(f"{path}: left as it is: it has other names (hard links), which would keep the old tags")


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path}: not a file")
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def new_journal() -> Path:
    """Where the journal of a run is kept, unless told otherwise: in the user's data folder, named by the time."""
    return files.data_folder() / "written" / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S-%f}.jsonl"


def last_journal() -> Path:
    """The journal of the last run. Raises `UsageError` if there is none."""
    folder = new_journal().parent
    if not (journals := sorted(folder.glob("*.jsonl"))):
        raise UsageError(f"{folder}: no journal of a run is there; name one that lies elsewhere")
    return journals[-1]


def keep_journal(path: Path, changes: Sequence[Change]) -> None:
    """Write what a run is about to change, and wait until it is on the disk.

    Raises `UsageError` if there is such a file; `StoreError` or `DiskFullError` if it cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path}: there is such a file; name a new one for the journal of this run")
    rows = [{"file": os.path.realpath(each.path), "before": each.before, "after": each.after} for each in changes]
    files.write_atomically(path, "".join(json.dumps(row) + "\n" for row in (_HEADING, *rows)).encode())
    with contextlib.suppress(OSError):  # a network disk, on which folders cannot be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def plan_undo(journal: Path) -> tuple[list[Change], list[str], int]:
    """What would change to undo a run; why other files are left; and how many are as they were before it.

    A file is left that holds something else now than what that run wrote. Raises `UsageError` if it is not a journal.
    """
    changes, problems, same = [], [], 0
    for path, before, after in _read_journal(journal):
        try:
            stamp, seen_s = _stamp(path), time.time()
            fields, _ = file_tags.read_fields(path, [*before])
        except AudioError as error:
            problems.append(str(error))
            continue
        if fields == after:
            changes.append(Change(path, after, before, stamp, seen_s))
        elif fields == before:
            same += 1
        else:
            problems.append(f"{path}: left as it is: its moods were changed after we wrote them")
    return changes, problems, same


def _read_journal(path: Path) -> list[tuple[Path, Fields, Fields]]:
    try:
        heading, *rows = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
        if heading != _HEADING:
            raise ValueError
        return [(Path(row["file"]), dict(row["before"]), dict(row["after"])) for row in rows]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(f"{path}: not a journal of `jamendo-mood write`") from None


def to_table(tracks: Sequence[Found]) -> str:
    """A line per track."""
    rows = []
    for number, track in enumerate(tracks, start=1):
        minutes, seconds = divmod(round(track.duration_s or 0), 60)
        length = "" if track.duration_s is None else f"({minutes}:{seconds:02d})"
        named = f"{'' if name_of(track) == track.key else name_of(track)}  {length}".strip()
        tags = ", ".join(f"{tag} {score:.2f}" for tag, score in track.tags)
        rows.append((f"{number:>{len(str(len(tracks)))}}", f"{track.fit:.3f}", track.key, named, tags))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width] for row in rows]
    return "".join(plaintext.show("  ".join(row).rstrip()) + "\n" for row in shown)


def to_json(tracks: Sequence[Found]) -> str:
    """A list with an object per track."""
    rows = [_row(track, track.fit, [{"tag": tag, "score": score} for tag, score in track.tags]) for track in tracks]
    return plaintext.to_json([dict(zip(COLUMNS, row, strict=True)) for row in rows]) + "\n"


def to_csv(tracks: Sequence[Found]) -> str:
    """A table for spreadsheets."""
    tags = ["; ".join(f"{tag} {score:.3f}" for tag, score in track.tags) for track in tracks]
    rows = (_row(track, f"{track.fit:.4f}", own) for track, own in zip(tracks, tags, strict=True))
    return plaintext.to_csv(COLUMNS, rows)


def _row(track: Found, fit: float | str, tags: object) -> tuple[object, ...]:
    """The values of `COLUMNS`."""
    # A file's name need not be Unicode; text must.
    file = None if track.file is None else os.fsencode(track.file).decode("utf-8", "replace")
    return track.key, fit, track.title, track.artist, track.duration_s, file, tags


def to_m3u8(tracks: Sequence[Found], locate: Locate | None = None) -> str:
    """An extended M3U playlist, to be saved in UTF-8; tracks without a file are left out.

    `locate` says where a track is; by default it is the absolute path of its file.

    References
    ----------
    RFC 8216 ("HTTP Live Streaming"), sections 4.1 and 4.3.2.1: UTF-8 and ``EXTINF``; -1 for an unknown length is what
    players expect.
    """
    lines = ["#EXTM3U"]
    for track in tracks:
        if track.file is not None:
            seconds = -1 if track.duration_s is None else round(track.duration_s)
            lines += [f"#EXTINF:{seconds},{name_of(track)}", locate(track) if locate else location_of(track.file)]
    return "".join(f"{line}\n" for line in lines)


Format = Callable[[Sequence[Found]], str]
FORMATS: dict[str, Format] = {"table": to_table, "json": to_json, "csv": to_csv, "m3u8": to_m3u8}
"""Formats for lists of tracks."""


def location_of(path: Path) -> str:
    """An absolute path; as a URI if no line of text can hold it, or VLC would take it for an encoded one."""
    absolute = path.absolute()
    plain = str(absolute).isprintable() and not re.search(r"\?|%[0-9a-fA-F]{2}", str(absolute))
    return str(absolute) if plain else absolute.as_uri()


def as_line(path: str) -> str:
    """A relative path as players take it: at its start `#` is a comment, a space is lost, and `a:` is a protocol."""
    return f"./{path}" if re.match(r"[#\s]|[^/]*:", path) else path


def relative_to(folder: Path) -> Locate:
    """Names the files of tracks from a folder on; by an absolute URI where a line of text can't hold the path."""

    def locate(track: Found) -> str:
        file, start = Path(track.file or "").absolute(), folder.absolute()
        if not file.is_relative_to(start):  # `..` leads to the folder above the one that a link leads to
            file, start = file.parent.resolve() / file.name, start.resolve()
        path = os.path.relpath(file, start)
        return as_line(path) if path.isprintable() else location_of(file)

    return locate


def write_playlists(folder: Path, playlists: Mapping[str, Sequence[Found]], locate: Locate | None) -> int:
    """Write a playlist for each mood into a folder, in place of those of an earlier call; returns how many went.

    They are known by a checksum in their second line. Raises `UsageError`, and writes nothing, if another file has a
    playlist's name, or one was changed since; `StoreError` or `DiskFullError` if the folder cannot be written.
    """
    there = {_fold(path.name): path for path in folder.glob("*.m3u8")}
    ours = {name for name, path in there.items() if _is_ours(path)}
    writes: dict[str, bytes] = {}
    for mood, tracks in playlists.items():
        plain = "".join(letter if letter.isprintable() else "_" for letter in mood)[:_MAX_NAME].strip(" .")
        name = _UNFIT.sub("_", plain)
        while _fold(f"{name}.m3u8") in map(_fold, writes):
            name += "_"
        start, content = to_m3u8(tracks, locate).encode().split(b"\n", 1)
        writes[f"{name}.m3u8"] = b"\n".join((start, _mark(content), content))
    names = {_fold(name) for name in writes}
    for name in names & there.keys() - ours:
        raise UsageError(
            f"{there[name]}: not written by `playlist --all`, or changed since: move it, or name another folder"
        )
    files.write_together({folder / name: content for name, content in writes.items()})
    for name in ours - names:
        with files.disk_errors(there[name]):
            there[name].unlink()
    return len(ours - names)


def _mark(content: bytes) -> bytes:
    return _MARK + hashlib.sha256(content).hexdigest().encode()


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return False
    _, mark, content = [*path.read_bytes().split(b"\n", 2), b"", b""][:3]
    return mark == _mark(content)
