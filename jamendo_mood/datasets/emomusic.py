"""emoMusic: 744 clips of 45 s with valence and arousal, of the whole and twice a second; MediaEval's task of 2013.

The root is the folder with ``annotations/``, or that folder itself. Curves begin at 15 s of the clip, whose file is
``clips_45seconds/NUMBER.mp3``. The test part is the authors' own (``evaluation``). Its artists have songs in their
development part too, and one of its recordings is there: those are left out here, and the rest is divided into training
and validation.

All these songs are in DEAM under the same numbers: never train on one and test on the other.

References
----------
Soleymani et al., "1000 Songs for Emotional Analysis of Music", CrowdMM 2013;
http://cvml.unige.ch/databases/emoMusic/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from jamendo_mood.datasets import ratings
from jamendo_mood.datasets.dataset import PARTS, Curve, Dataset, DataSource, Track, assign_folds, count_remarks
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError, UsageError

SCALE = (1.0, 9.0)
DYNAMIC_SCALE = (-1.0, 1.0)
RATE_HZ = 2.0
CLIP_S = 45.0
VALIDATION_FOLDS = 8  # of the development part; one of them is the validation part
SONG, PART = "song_id", "Mediaeval 2013 set"
DEVELOPMENT, EVALUATION = "development", "evaluation"
STATIC_NAME, SONGS_NAME = "static_annotations.csv", "songs_info.csv"
CURVE_NAMES = {target: f"{target}_cont_average.csv" for target in ratings.TARGETS}
FOLDERS = ("annotations", ".")
# Songs whose openSMILE features in DEAM are equal to the last digit, whatever their names.
SAME_RECORDINGS = (("175", "536"), ("296", "706"), ("390", "758"), ("631", "893"))


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load valence and arousal of each clip, 1 ... 9."""
    path = ratings.find_file(root, STATIC_NAME, FOLDERS)
    table = ratings.read_ratings(path, SONG, {f"mean_{target}": SCALE for target in ratings.TARGETS})
    return _assemble(Task("emomusic", "values", ratings.TARGETS, SCALE), root, split, table)


def load_dynamic(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load curves of valence and arousal, -1 ... 1, twice a second of each clip; the parts are those of `load`."""
    curves, single = read_curves(root)
    task = Task("emomusic-dynamic", "values", ratings.TARGETS, DYNAMIC_SCALE, RATE_HZ)
    dataset = _assemble(task, root, split, ratings.average_curves(curves))
    more = count_remarks({f"songs are in only one of {' and '.join(CURVE_NAMES.values())} and are left out": single})
    own = tuple(curves[track.id] for track in dataset.tracks)
    return replace(dataset, curves=own, remarks=(*dataset.remarks, *more))


def read_songs(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Artist and official part (``development`` or ``evaluation``) of the songs in ``songs_info.csv``."""
    path = ratings.find_file(root, SONGS_NAME, FOLDERS)
    songs = ratings.read_texts(path, SONG, ("Artist", PART))
    official = {song: row[PART].strip() for song, row in songs.items()}
    for line, part in enumerate(official.values(), start=2):
        if part not in (DEVELOPMENT, EVALUATION):
            raise DataError(f"{path}, line {line}: {part!r} is neither {DEVELOPMENT!r} nor {EVALUATION!r}")
    return ratings.name_artists({song: row["Artist"] for song, row in songs.items()}, run_on=True), official


def read_curves(root: Path) -> tuple[dict[str, Curve], int]:
    """The curves of the songs that have both, by their number, and how many songs have only one."""
    paths = [ratings.find_file(root, CURVE_NAMES[target], FOLDERS) for target in ratings.TARGETS]
    times = [_read_times(path) for path in paths]
    if times[0].keys() != times[1].keys():
        raise DataError(f"{paths[0]} and {paths[1]}: their columns are not for the same times")
    tables = [ratings.read_ratings(path, SONG, dict.fromkeys(times[0].values(), DYNAMIC_SCALE)) for path in paths]
    by_song = [dict(zip(table.songs, table.values.astype(np.float32), strict=True)) for table in tables]
    both = [song for song in tables[0].songs if song in by_song[1]]
    times_s = np.array(list(times[0]), np.float32)
    curves = {song: Curve(times_s, np.stack([values[song] for values in by_song], axis=1)) for song in both}
    return curves, len(by_song[0].keys() ^ by_song[1].keys())


def choose_parts(artists: Mapping[str, str], official: Mapping[str, str]) -> dict[str, str]:
    """The part of each song, except those of the development part whose artist or sound is in the evaluation part."""
    groups = ratings.join_recordings(artists, SAME_RECORDINGS)
    tested = {groups[song] for song, part in official.items() if part == EVALUATION}
    free = [song for song in official if groups[song] not in tested]
    folds = assign_folds([groups[song] for song in free], count=VALIDATION_FOLDS)
    train, validation, test = PARTS
    parts = {song: train if fold else validation for song, fold in zip(free, folds, strict=True)}
    return parts | {song: test for song, part in official.items() if part == EVALUATION}


def _read_times(path: Path) -> dict[float, str]:
    """Columns by their time in seconds, ``sample_15500ms`` by 15.5, in increasing order."""
    found = (re.fullmatch(r"sample_(\d+)ms", name) for name in ratings.read_header(path))
    times = {int(match[1]) / 1000: match[0] for match in found if match}
    if not times:
        raise DataError(f"{path}: no column 'sample_15000ms' or for any other time")
    return dict(sorted(times.items()))


def _assemble(task: Task, root: Path, split: int, table: ratings.Ratings) -> Dataset:
    if split:
        raise UsageError(f"split {split}: these data have one division, the authors' own; its number is 0")
    artists, official = read_songs(root)
    part_of = choose_parts(artists, official)
    kept = [row for row, song in enumerate(table.songs) if song in part_of]
    tracks = tuple(Track(song, f"{song}.mp3", CLIP_S, artists[song]) for song in table.songs if song in part_of)
    parts = np.array([part_of[track.id] for track in tracks])
    rated = {*table.songs}
    remarks = {
        f"songs of the {DEVELOPMENT} part are left out: their artist or recording is in the {EVALUATION} part": len(
            rated & (official.keys() - part_of.keys())
        ),
        f"songs of {SONGS_NAME} have no such annotation and are left out": len(official.keys() - rated),
        f"songs are not in {SONGS_NAME}, so in no part, and are left out": len(rated - official.keys()),
        f"songs have no artist in {SONGS_NAME}: each counts as an artist of its own": ratings.count_nameless(tracks),
        "songs are in DEAM too, under the same numbers: never train on one and test on the other": len(tracks),
    }
    rows = {part: np.flatnonzero(parts == part) for part in PARTS}
    return Dataset(task, tracks, table.values[kept].astype(np.float32), rows, remarks=count_remarks(remarks))


_EMOMUSIC = DataSource(
    load,
    predicts="valence and arousal of clips",
    files=(f"annotations/{STATIC_NAME}", f"annotations/{SONGS_NAME}"),
    annotations="http://cvml.unige.ch/databases/emoMusic/ (annotations.tar.gz)",
    audio="`clips_45seconds/` of the same page: `jamendo-mood extract clips_45seconds`",
    licence="for research only; audio: Creative Commons licences of the Free Music Archive's songs",
    citation="M. Soleymani, M. N. Caro, E. M. Schmidt, C.-Y. Sha, Y.-H. Yang: 1000 Songs for Emotional Analysis of "
    "Music. ACM International Workshop on Crowdsourcing for Multimedia (CrowdMM) 2013",
    splits=1,
    official=True,
)
_FILES = tuple(f"annotations/{name}" for name in (*CURVE_NAMES.values(), SONGS_NAME))
_DYNAMIC = replace(_EMOMUSIC, load=load_dynamic, predicts=f"{_EMOMUSIC.predicts}, twice a second", files=_FILES)
SOURCES = {"emomusic": _EMOMUSIC, "emomusic-dynamic": _DYNAMIC}
