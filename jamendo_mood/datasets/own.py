"""Your own music: a table of files with their tags, their class, or their valence and arousal.

The table is a CSV file in UTF-8, with commas, semicolons or tabs between its cells, whichever its first line has. It
has a column ``path`` (below the audio folder, with the suffix: ``rock/song.flac``), optionally ``artist`` (spelled the
same in all rows, ignoring case), and one of these:

- ``tags``: the tags of each file, with semicolons between them;
- ``class``: the one class of each file;
- ``valence`` and ``arousal``: numbers, in both columns on the first of the scales 0 ... 1, -1 ... 1 and 1 ... 9 that
  holds them all;
- none of these, but one column for each tag, with 1 if a file has the tag and 0 if it has not.

A file that has several rows counts once if they say the same; if not, the table is refused.

No artist is in two parts. The artists are divided into seven folds, of which one is the test part, one the validation
part and five the training part: about 14, 14 and 72 % of the files. Splits 0 to 6 test one fold each, 7 to 13 those of
another seed, and so on. A table that has changed has other folds: train again before you evaluate.

Instead of a table, the files' own tags may name their moods: see `load_files`.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import AUDIO_SUFFIXES, find_audio, key_of
from jamendo_mood.audio.file_tags import read_artist, read_moods
from jamendo_mood.datasets.dataset import (
    ANY,
    NAMELESS,
    PARTS,
    TARGETS,
    Array,
    Dataset,
    DataSource,
    Track,
    assign_folds,
    count_remarks,
    join_artists,
    make_parts,
    read_number,
    to_one_hot,
)
from jamendo_mood.tasks import Task
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import AudioError, DataError, UsageError
from jamendo_mood.util.plaintext import read_text

TABLE_NAME = "own.csv"
FOLDS = 7  # or as many as there are artists, if there are fewer
DELIMITERS = (",", ";", "\t")
SCALES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 9.0))
IN_FILES = "; `jamendo-mood artists` reads them from the files' tags"
MAX_LISTED = 10  # names in a message
MAX_LABELS = 50_000_000  # tracks times tags or classes


@dataclass(frozen=True)
class Table:
    """A table as it was read: cells by column, without the spaces around them, and the line each row ends on."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]

    def error(self, row: int, what: str) -> DataError:
        """An error in a row, counted from 0."""
        return DataError(f"{self.path}, line {self.lines[row]}: {what}")


Labels = tuple[Task, Array, tuple[str, ...]]  #: a task, the targets (tracks, targets), and remarks


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load a table, or the ``own.csv`` in a folder; `split` may be any number from 0."""
    table = read_table(root / TABLE_NAME if root.is_dir() else root)
    tracks = _read_tracks(table)
    task, targets, remarks = _choose_labels(table)(table)
    kept = _find_first_rows(table, tracks, targets)
    tracks, targets = tuple(tracks[row] for row in kept), targets[kept]
    remarks = (
        *count_remarks({"rows are equal to an earlier one and left out": len(table.rows) - len(kept)}),
        *_describe_nameless([table.rows[row].get("artist", "") for row in kept], IN_FILES),
        *(() if task.scale else _find_rare(task.targets, targets)),
        *remarks,
    )
    return Dataset(task, tracks, targets, _divide(table.path, tracks, split), remarks=remarks)


def load_files(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the audio files below a folder whose own tags name moods that a person wrote: these are their labels.

    What `jamendo-mood write` wrote is no label. Spellings that differ in capitals alone are one tag, called as most
    files have it. Artists, of the files' tags too, are one artist if they share a performer, see `join_artists`.

    Raises `DataError` if no file has such moods; `UsageError` if mutagen is missing, or several files have one key.
    """
    files = find_audio(root)
    moods, unreadable = _read_each(files, read_moods)
    fit = {
        key: [unicodedata.normalize("NFC", mood) for mood in own.theirs if plaintext.show(mood) == mood]
        for key, own in moods.items()
    }
    moods_of = {key: theirs for key, theirs in fit.items() if theirs}
    artist_of, without = _read_each({key: files[key] for key in moods_of}, read_artist)
    artists = [artist_of.get(key, "") for key in moods_of]
    machines = sum(bool(own.ours) for key, own in moods.items() if key not in moods_of)
    ours = "files have no moods but those that jamendo-mood wrote: not learned from"
    remarks = (*count_remarks({ours: machines}), *unreadable, *without)
    if not moods_of:
        found = "; ".join((f"{plaintext.count(len(files), 'audio file')} there", *remarks))
        raise DataError(f"{root}: no file whose tags name a mood that a person wrote ({found})")
    counts = Counter(mood for theirs in moods_of.values() for mood in theirs)
    called = {mood.casefold(): mood for mood, _ in reversed(counts.most_common())}
    tags = tuple(sorted(called.values()))
    _check_count(root, len(moods_of), tags)
    tags_of = [{called[mood.casefold()] for mood in theirs} for theirs in moods_of.values()]
    targets = np.array([[tag in own for tag in tags] for own in tags_of], np.float32)
    named = zip(moods_of, join_artists(artists), strict=True)
    tracks = tuple(Track(key, files[key].relative_to(root).as_posix(), None, artist or key) for key, artist in named)
    remarks = (*_describe_nameless(artists), *_find_rare(tags, targets), *remarks)
    return Dataset(Task("own-files", "tags", tags), tracks, targets, _divide(root, tracks, split), remarks=remarks)


def _divide(source: Path, tracks: Sequence[Track], split: int) -> Mapping[str, npt.NDArray[np.intp]]:
    if split < 0:
        raise UsageError(f"split {split}: splits are numbered from 0")
    artists = [track.artist for track in tracks]
    count = max(min(FOLDS, len(set(artists))), len(PARTS))
    seed, fold = divmod(split, count)
    try:
        return make_parts(assign_folds(artists, count=count, seed=seed), fold)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def read_table(path: Path) -> Table:
    """Read the cells of a table; empty lines are skipped."""
    # In one Unicode form: a tag in two spellings would be two tags.
    text = unicodedata.normalize("NFC", read_text(path)).replace("\r\n", "\n").replace("\r", "\n")
    first, _, _ = text.partition("\n")
    heads = {sign: [name.strip(' "').lower() for name in first.split(sign)] for sign in DELIMITERS}
    delimiter = next((sign for sign, names in heads.items() if "path" in names), ",")
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: cannot be read as cells ({error})") from error
    if len(cells) < 2:
        raise DataError(f"{path}: there are no tracks; it needs a line of column names and a line for each track")
    known = {"path", "artist", *_READERS}  # which may be in capitals, too
    columns = [name.lower() if name.lower() in known else name for name in cells[0][1]]
    if "path" not in columns:
        found = plaintext.show(", ".join(filter(None, columns)))
        raise DataError(f"{path}: no column 'path' (its first line has: {found})")
    if twice := [name for name, times in Counter(filter(None, columns)).items() if times > 1]:
        raise DataError(f"{path}: several columns are called {twice[0]!r}")
    for line, row in cells[1:]:
        if len(row) != len(columns):
            raise DataError(f"{path}, line {line}: {len(row)} cells where the first line has {len(columns)}")
        if stray := [cell for name, cell in zip(columns, row, strict=True) if cell and not name]:
            raise DataError(f"{path}, line {line}: {stray[0]!r} is in a column without a name")
    rows = tuple({name: cell for name, cell in zip(columns, row, strict=True) if name} for _, row in cells[1:])
    return Table(path, tuple(name for name in columns if name), rows, tuple(line for line, _ in cells[1:]))


def _read_tracks(table: Table) -> tuple[Track, ...]:
    """A track for each row; one without an artist counts as an artist of its own."""
    tracks = []
    for row, cells in enumerate(table.rows):
        written = cells["path"]
        path = PurePosixPath(written.replace("\\", "/"))  # as Windows writes it
        if path.is_absolute() or ".." in path.parts or PureWindowsPath(written).is_absolute():
            raise table.error(row, f"{written!r} must be a path below the audio folder")
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            known = ", ".join(sorted(AUDIO_SUFFIXES))
            raise table.error(row, f"{written!r} in column 'path' does not have the suffix of an audio file ({known})")
        key = key_of(str(path))
        tracks.append(Track(key, str(path), None, cells.get("artist", "").casefold() or key))
    return tuple(tracks)


def _find_first_rows(table: Table, tracks: Sequence[Track], targets: Array) -> list[int]:
    """The rows without those that repeat an earlier one; `DataError` if two rows contradict each other."""
    first_row: dict[str, int] = {}
    for row, track in enumerate(tracks):
        first = first_row.setdefault(track.key, row)
        earlier, line = tracks[first], table.lines[first]
        if PurePosixPath(track.audio).suffix != PurePosixPath(earlier.audio).suffix:
            raise table.error(row, f"{track.audio!r} is already on line {line} (suffixes do not count)")
        if track.artist != earlier.artist or (targets[row] != targets[first]).any():
            other = "another artist" if track.artist != earlier.artist else "other labels"
            raise table.error(row, f"{track.audio!r} is already on line {line}, with {other}: keep one of the lines")
    return list(first_row.values())


def _describe_nameless(artists: Sequence[str], hint: str = "") -> tuple[str, ...]:
    nameless = sum(not artist for artist in artists)
    if nameless == len(artists):
        return (f"no artists are given: songs of one artist may be in several parts{hint}",)
    return count_remarks({NAMELESS + hint: nameless})


def add_artists(path: Path, audio: Path) -> tuple[str, tuple[str, ...]]:
    """A table as text with artists, where it names none those in the tags of its files below `audio`; and remarks.

    Artists who share a performer get one name, see `join_artists`; all else stays as it is. Raises `DataError` if the
    table is damaged; `UsageError` if mutagen is missing, there is no such folder, or several files have one key.
    """
    table, files = read_table(path), find_audio(audio)
    tracks = _read_tracks(table)
    nameless = [track for cells, track in zip(table.rows, tracks, strict=True) if not cells.get("artist")]
    found, unreadable = _read_each({own.key: files.get(own.key, audio / own.audio) for own in nameless}, read_artist)
    names = [cells.get("artist") or found.get(track.key, "") for cells, track in zip(table.rows, tracks, strict=True)]
    artists, text = [plaintext.cell(artist) for artist in join_artists(names)], io.StringIO()
    writer = csv.DictWriter(text, tuple(dict.fromkeys((*table.columns, "artist"))), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**cells, "artist": artist} for cells, artist in zip(table.rows, artists, strict=True))
    return text.getvalue(), (*unreadable, *_describe_nameless(artists))


def _read_each(files: Mapping[str, Path], read: Callable[[Path], Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What is read from the tags of each file, by its key, and a remark on those that cannot be read."""
    found, errors = dict[str, Any](), list[str]()
    for key, path in files.items():
        try:
            found[key] = read(path)
        except (AudioError, OSError) as error:
            errors.append(plaintext.show(str(error)))
    return found, count_remarks({f"files have tags that cannot be read, such as {''.join(errors[:1])}": len(errors)})


def _choose_labels(table: Table) -> Callable[[Table], Labels]:
    """The function that reads the labels of this table; `DataError` if it has several kinds of labels, or none."""
    found = [name for name in _READERS if name in table.columns]
    readers = {_READERS[name] for name in found}
    if len(readers) > 1:
        raise DataError(f"{table.path}: the columns {', '.join(found)} are labels of different kinds; keep one kind")
    if not readers and not {*table.columns} - {"path", "artist"}:
        raise DataError(
            f"{table.path}: there are no labels; it needs a column tags, or class, or valence and arousal, or a column "
            "of 0 and 1 for each tag"
        )
    return readers.pop() if readers else _read_indicators


def _read_tags(table: Table) -> Labels:
    tags_of = [{tag for name in row["tags"].split(";") if (tag := name.strip())} for row in table.rows]
    tags = tuple(sorted(set[str]().union(*tags_of)))
    if not tags:
        raise DataError(f"{table.path}: there is no tag in column 'tags'")
    _check_count(table.path, len(table.rows), tags)
    targets = np.array([[tag in found for tag in tags] for found in tags_of], np.float32)
    return Task("own", "tags", tags), targets, _unused(table, "tags")


def _read_indicators(table: Table) -> Labels:
    tags = tuple(sorted({*table.columns} - {"path", "artist"}))
    for number, cells in enumerate(table.rows):
        for tag in tags:
            if cells[tag] not in ("0", "1"):
                what = f"{cells[tag]!r} in column {tag!r} is neither 0 nor 1"
                raise table.error(number, f"{what} (every column but path and artist is a tag)")
    targets = np.array([[float(row[tag]) for tag in tags] for row in table.rows], np.float32)
    return Task("own", "tags", tags), targets, ()


def _read_classes(table: Table) -> Labels:
    named = [row["class"] for row in table.rows]
    if "" in named:
        raise table.error(named.index(""), "no class")
    classes = tuple(sorted(set(named)))
    if len(classes) < 2:
        raise DataError(f"{table.path}: all tracks have the class {classes[0]!r}; at least two classes are needed")
    _check_count(table.path, len(table.rows), classes)
    targets = to_one_hot(named, classes, table.path)
    return Task("own", "classes", classes), targets, _unused(table, "class")


def _read_values(table: Table) -> Labels:
    if missing := {*TARGETS} - {*table.columns}:
        raise DataError(f"{table.path}: no column {missing.pop()!r}; it needs both valence and arousal")
    values = np.array(
        [
            [read_number(row[name], ANY, f"{table.path}, line {line}, {name}") for name in TARGETS]
            for line, row in zip(table.lines, table.rows, strict=True)
        ]
    )
    lowest, highest = values.min(), values.max()
    scale = next((scale for scale in SCALES if scale[0] <= lowest and highest <= scale[1]), None)
    if scale is None:
        least, most = (table.lines[cell // len(TARGETS)] for cell in (values.argmin(), values.argmax()))
        known = ", ".join(f"{low:g} to {high:g}" for low, high in SCALES)
        raise DataError(
            f"{table.path}: values from {lowest:g} (line {least}) to {highest:g} (line {most}) do not fit any of the "
            f"scales {known}"
        )
    remark = f"valence and arousal are assumed to be on the scale {scale[0]:g} to {scale[1]:g}"
    return Task("own", "values", TARGETS, scale=scale), values.astype(np.float32), (remark, *_unused(table, *TARGETS))


def _check_count(source: Path, tracks: int, names: Sequence[str]) -> None:
    if tracks * len(names) > MAX_LABELS:
        raise DataError(f"{source}: {len(names):,} different labels for {tracks:,} tracks are too many")


def _find_rare(names: Sequence[str], targets: Array) -> tuple[str, ...]:
    rare = [name for name, count in zip(names, targets.sum(axis=0), strict=True) if count < 2]
    more = f" and {len(rare) - MAX_LISTED} more" if len(rare) > MAX_LISTED else ""
    listed = f"too rare to learn, with fewer than 2 tracks each: {', '.join(rare[:MAX_LISTED])}{more}"
    bare = int((targets.sum(axis=1) == 0).sum())
    return (*((listed,) if rare else ()), *count_remarks({"tracks have no tag": bare}))


def _unused(table: Table, *used: str) -> tuple[str, ...]:
    unused = [name for name in table.columns if name not in {"path", "artist", *used}]
    return (f"unused columns: {', '.join(unused)}",) if unused else ()


_READERS = {"tags": _read_tags, "class": _read_classes, "valence": _read_values, "arousal": _read_values}
"""The function that reads the labels, by the columns they are in."""

_OWN = DataSource(
    load,
    predicts="your own tags, classes, or valence and arousal",
    files=(TABLE_NAME,),
    annotations="a table you write: the columns path, artist and tags (or class, or valence and arousal)",
    audio="your own files, in any usual format of sound",
    licence="as you decide: these are your own annotations",
    citation="your own annotations",
    splits=FOLDS,
    single_file=True,
)
SOURCES = {
    "own": _OWN,
    "own-files": replace(
        _OWN,
        load=load_files,
        predicts="your own tags, by the moods in your files' tags",
        files=(),
        annotations="the moods you write into your files (TMOO, MOOD, WM/Mood) by any program for tags",
        audio="these files",
        single_file=False,
    ),
}
