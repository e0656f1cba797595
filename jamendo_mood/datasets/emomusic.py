"""emoMusic: 744 clips of 45 s with valence and arousal, of the whole and twice a second; MediaEval's task of 2013.

The root is the folder with ``annotations/``, or that folder itself. Curves begin at 15 s of the clip, whose file is
``clips_45seconds/NUMBER.mp3``. The test part is the authors' own (``evaluation``). Its artists have songs in their
development part too, and one of its recordings is there: those are left out here, and the rest is cut into training and
validation.

All these songs are in DEAM under the same numbers: never train on one and test on the other.

References
----------
Soleymani et al., "1000 Songs for Emotional Analysis of Music", CrowdMM 2013;
http://cvml.unige.ch/databases/emoMusic/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jamendo_mood.datasets.dataset import PARTS, Curve, Dataset, DataSource, Track, assign_folds
from jamendo_mood.datasets.ratings import (
    TARGETS,
    Ratings,
    average_curves,
    count_nameless,
    find_file,
    join_recordings,
    name_artists,
    read_header,
    read_ratings,
)
from jamendo_mood.tasks.kinds import Task
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.untrusted import read_columns

SCALE = (1.0, 9.0)
DYNAMIC_SCALE = (-1.0, 1.0)
RATE_HZ = 2.0
CLIP_S = 45.0
VALIDATION_SHARE = 8  # about one in so many songs of the development part
SONG, PART = "song_id", "Mediaeval 2013 set"
DEVELOPMENT, EVALUATION = "development", "evaluation"
STATIC_NAME, SONGS_NAME = "static_annotations.csv", "songs_info.csv"
CURVE_NAMES = {target: f"{target}_cont_average.csv" for target in TARGETS}
FOLDERS = ("annotations", ".")
# Songs whose openSMILE features in DEAM are equal to the last digit, under whatever names.
SAME_RECORDINGS = (("175", "536"), ("296", "706"), ("390", "758"), ("631", "893"))
LICENCE = "for research only; audio: Creative Commons licences of the Free Music Archive's songs"
CITATION = (
    "M. Soleymani, M. N. Caro, E. M. Schmidt, C.-Y. Sha, Y.-H. Yang: 1000 Songs for Emotional Analysis of Music. ACM "
    "International Workshop on Crowdsourcing for Multimedia (CrowdMM) 2013"
)


@dataclass(frozen=True)
class Song:
    """A line of ``songs_info.csv``; `official` is ``development`` or ``evaluation``."""

    artist: str
    official: str


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load valence and arousal of each clip, 1 ... 9.

    Raises
    ------
    UsageError
        A split beyond the only one.
    DataError
        A file is missing or damaged.
    """
    path = find_file(root, STATIC_NAME, FOLDERS)
    ratings = read_ratings(path, SONG, {f"mean_{target}": SCALE for target in TARGETS})
    return _assemble(Task("emomusic", "values", TARGETS, SCALE), root, split, ratings)


def load_dynamic(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load curves of valence and arousal, -1 ... 1, twice a second of each clip; the parts are those of `load`.

    Raises: as `load`.
    """
    curves, single = read_curves(root)
    task = Task("emomusic-dynamic", "values", TARGETS, DYNAMIC_SCALE, RATE_HZ)
    dataset = _assemble(task, root, split, average_curves(curves))
    names = " and ".join(CURVE_NAMES.values())
    more = (f"{single} songs are in only one of {names} and are left out",) if single else ()
    return replace(
        dataset, curves=tuple(curves[track.id] for track in dataset.tracks), remarks=(*dataset.remarks, *more)
    )


def read_songs(root: Path) -> dict[str, Song]:
    """The songs of ``songs_info.csv`` by their number.

    Raises
    ------
    DataError
        The file is missing or damaged.
    """
    path = find_file(root, SONGS_NAME, FOLDERS)
    songs = read_ratings(path, SONG, {}).songs
    rows = read_columns(path, ("Artist", PART))
    for line, row in enumerate(rows, start=2):
        if row[PART].strip() not in (DEVELOPMENT, EVALUATION):
            raise DataError(f"{path}, line {line}: {row[PART]!r} is neither {DEVELOPMENT!r} nor {EVALUATION!r}")
    artists = name_artists({song: row["Artist"] for song, row in zip(songs, rows, strict=True)}, run_on=True)
    return {song: Song(artists[song], row[PART].strip()) for song, row in zip(songs, rows, strict=True)}


def read_curves(root: Path) -> tuple[dict[str, Curve], int]:
    """The curves of the songs that have both, by their number, and how many songs have only one.

    Raises
    ------
    DataError
        A file is missing or damaged, or the files are of different times.
    """
    paths = [find_file(root, CURVE_NAMES[target], FOLDERS) for target in TARGETS]
    times = [_read_times(path) for path in paths]
    if times[0].keys() != times[1].keys():
        raise DataError(f"{paths[0]} and {paths[1]}: their columns are not of the same times")
    tables = [read_ratings(path, SONG, dict.fromkeys(times[0].values(), DYNAMIC_SCALE)) for path in paths]
    by_song = [dict(zip(table.songs, table.values.astype(np.float32), strict=True)) for table in tables]
    both = [song for song in tables[0].songs if song in by_song[1]]
    times_s = np.array(list(times[0]), np.float32)
    curves = {song: Curve(times_s, np.stack([values[song] for values in by_song], axis=1)) for song in both}
    return curves, len(by_song[0].keys() ^ by_song[1].keys())


def deal(songs: dict[str, Song]) -> dict[str, str]:
    """The part of each song, but those of the development part whose artist or sound is in the evaluation part too."""
    groups = join_recordings({name: song.artist for name, song in songs.items()}, SAME_RECORDINGS)
    tested = {groups[name] for name, song in songs.items() if song.official == EVALUATION}
    free = [name for name in songs if groups[name] not in tested]
    folds = assign_folds([groups[name] for name in free], count=VALIDATION_SHARE)
    train, validation, test = PARTS
    parts = {name: train if fold else validation for name, fold in zip(free, folds, strict=True)}
    return parts | {name: test for name, song in songs.items() if song.official == EVALUATION}


def _read_times(path: Path) -> dict[float, str]:
    """Columns by their time in seconds, ``sample_15500ms`` by 15.5, in rising order."""
    found = (re.fullmatch(r"sample_(\d+)ms", name) for name in read_header(path))
    times = {int(match[1]) / 1000: match[0] for match in found if match}
    if not times:
        raise DataError(f"{path}: no column 'sample_15000ms' or of another time")
    return dict(sorted(times.items()))


def _assemble(task: Task, root: Path, split: int, ratings: Ratings) -> Dataset:
    if split:
        raise UsageError(f"split {split}: these data have one division, the authors' own; its number is 0")
    songs = read_songs(root)
    part_of = deal(songs)
    kept = [row for row, song in enumerate(ratings.songs) if song in part_of]
    tracks = tuple(
        Track(song, f"{song}.mp3", CLIP_S, songs[song].artist) for song in (ratings.songs[row] for row in kept)
    )
    where = np.array([PARTS.index(part_of[track.id]) for track in tracks], np.intp)
    return Dataset(
        task=task,
        tracks=tracks,
        targets=ratings.to_float32()[kept],
        parts={part: np.flatnonzero(where == number) for number, part in enumerate(PARTS)},
        licence=LICENCE,
        citation=CITATION,
        remarks=_remark(songs, part_of, ratings, tracks),
    )


def _remark(
    songs: dict[str, Song], part_of: dict[str, str], ratings: Ratings, tracks: tuple[Track, ...]
) -> tuple[str, ...]:
    rated = set(ratings.songs)
    counts = {
        f"songs of the {DEVELOPMENT} part are left out: their artist or recording is in the {EVALUATION} part": len(
            rated & (songs.keys() - part_of.keys())
        ),
        f"songs of {SONGS_NAME} have no such annotation and are left out": len(songs.keys() - rated),
        f"songs are not in {SONGS_NAME}, so in no part, and are left out": len(rated - songs.keys()),
        f"songs have no artist in {SONGS_NAME}: each counts as one of its own": count_nameless(tracks),
        "songs are in DEAM too, under the same numbers: never train on one and test on the other": len(tracks),
    }
    return tuple(f"{count} {what}" for what, count in counts.items() if count)


_GET = "http://cvml.unige.ch/databases/emoMusic/ (annotations.tar.gz)"
_AUDIO = "`clips_45seconds/` of the same page: `jamendo-mood extract clips_45seconds`"

SOURCES = {
    "emomusic": DataSource(
        load,
        "valence and arousal of clips",
        (f"annotations/{STATIC_NAME}", f"annotations/{SONGS_NAME}"),
        _GET,
        _AUDIO,
        LICENCE,
        CITATION,
    ),
    "emomusic-dynamic": DataSource(
        load_dynamic,
        "valence and arousal of clips, twice a second",
        (*(f"annotations/{name}" for name in CURVE_NAMES.values()), f"annotations/{SONGS_NAME}"),
        _GET,
        _AUDIO,
        LICENCE,
        CITATION,
    ),
}
