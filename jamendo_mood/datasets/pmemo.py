"""PMEmo: the choruses of 794 pop songs, 767 of them with valence and arousal, of the whole and twice a second.

The root is the folder ``PMEmo2019`` or the one it lies in. Curves begin at 15.5 s of the chorus clip, whose file is
``chorus/NUMBER.mp3``.

References
----------
Zhang et al., "The PMEmo Dataset for Music Emotion Recognition", ICMR 2018; https://github.com/HuiZhangDB/PMEmo.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from jamendo_mood.datasets.dataset import FOLDS, Curve, Dataset, DataSource, Track, assign_folds, make_parts
from jamendo_mood.datasets.ratings import (
    TARGETS,
    Ratings,
    average_curves,
    count_nameless,
    find_file,
    gather_curves,
    name_artists,
    name_unknown,
    read_ratings,
)
from jamendo_mood.tasks.kinds import Task
from jamendo_mood.util.untrusted import read_columns

SCALE = (0.0, 1.0)
RATE_HZ = 2.0
SONG = "musicId"
VALUES = {"Valence(mean)": SCALE, "Arousal(mean)": SCALE}
STATIC_NAME, DYNAMIC_NAME, SONGS_NAME = "static_annotations.csv", "dynamic_annotations.csv", "metadata.csv"
FOLDERS = ("annotations", "PMEmo2019/annotations")
SONGS_FOLDERS = (".", "PMEmo2019")
LICENCE = "for research only; the songs are under their owners' copyright"
CITATION = (
    "K. Zhang, H. Zhang, S. Li, C. Yang, L. Sun: The PMEmo Dataset for Music Emotion Recognition. International "
    "Conference on Multimedia Retrieval (ICMR) 2018"
)


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load valence and arousal of each song, 0 ... 1, in 10 folds grouped by artist.

    Raises
    ------
    UsageError
        There is no such fold.
    DataError
        A file is missing or damaged.
    """
    ratings = read_ratings(find_file(root, STATIC_NAME, FOLDERS), SONG, VALUES)
    return _assemble(Task("pmemo", "values", TARGETS, SCALE), root, split, ratings)


def load_dynamic(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load curves of valence and arousal, twice a second of each chorus; the folds are those of `load`.

    Raises: as `load`.
    """
    path = find_file(root, DYNAMIC_NAME, FOLDERS)
    moments = read_ratings(path, SONG, {"frameTime": (0.0, math.inf), **VALUES}, repeated=True)
    curves = gather_curves(path, moments)
    task = Task("pmemo-dynamic", "values", TARGETS, SCALE, RATE_HZ)
    return _assemble(task, root, split, average_curves(curves), tuple(curves.values()))


def read_songs(root: Path) -> dict[str, Track]:
    """The songs of ``metadata.csv`` by their number, with and without annotations.

    Raises
    ------
    DataError
        The file is missing or damaged.
    """
    path = find_file(root, SONGS_NAME, SONGS_FOLDERS)
    durations = read_ratings(path, SONG, {"duration": (0.0, math.inf)})
    rows = read_columns(path, ("artist",))
    artists = name_artists({song: row["artist"] for song, row in zip(durations.songs, rows, strict=True)})
    return {
        song: Track(song, f"{song}.mp3", float(duration_s), artists[song])
        for song, (duration_s,) in zip(durations.songs, durations.values, strict=True)
    }


def _assemble(task: Task, root: Path, split: int, ratings: Ratings, curves: tuple[Curve, ...] | None = None) -> Dataset:
    known = read_songs(root)
    unknown = {song: Track(song, f"{song}.mp3", None, name_unknown(song)) for song in ratings.songs}
    songs = {**known, **{song: track for song, track in unknown.items() if song not in known}}
    # Folds of all songs, annotated or not: so both tasks have the same.
    dealt = assign_folds([track.artist for track in songs.values()])
    fold_of = dict(zip(songs, dealt, strict=True))
    tracks = tuple(songs[song] for song in ratings.songs)
    return Dataset(
        task=task,
        tracks=tracks,
        targets=ratings.to_float32(),
        parts=make_parts(np.array([fold_of[song] for song in ratings.songs]), split),
        licence=LICENCE,
        citation=CITATION,
        curves=curves,
        remarks=_remark(known, tracks),
    )


def _remark(known: dict[str, Track], tracks: tuple[Track, ...]) -> tuple[str, ...]:
    without = len(known.keys() - {track.id for track in tracks})
    nameless = count_nameless(tracks)
    remarks = []
    if without:
        remarks.append(f"{without} of {len(known)} songs in {SONGS_NAME} have no such annotation and are left out")
    if nameless:
        remarks.append(
            f"{nameless} of {len(tracks)} songs have no artist in {SONGS_NAME}: each counts as one of its own"
        )
    return tuple(remarks)


_GET = "https://github.com/HuiZhangDB/PMEmo (dataset/PMEmo2019)"
_AUDIO = "`chorus/` of the authors' archive: `jamendo-mood extract PMEmo2019/chorus`"

SOURCES = {
    "pmemo": DataSource(
        load,
        "valence and arousal of pop songs",
        (f"annotations/{STATIC_NAME}", SONGS_NAME),
        _GET,
        _AUDIO,
        LICENCE,
        CITATION,
        splits=FOLDS,
        official=False,
    ),
    "pmemo-dynamic": DataSource(
        load_dynamic,
        "valence and arousal of pop songs, twice a second",
        (f"annotations/{DYNAMIC_NAME}", SONGS_NAME),
        _GET,
        _AUDIO,
        LICENCE,
        CITATION,
        splits=FOLDS,
        official=False,
    ),
}
