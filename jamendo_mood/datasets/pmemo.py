"""PMEmo: the choruses of 794 pop songs, 767 of them with valence and arousal, of the whole and twice a second.

The root is the folder ``PMEmo2019`` or the one it lies in. Curves begin at 15.5 s of the chorus clip, whose file is
``chorus/NUMBER.mp3``.

References
----------
Zhang et al., "The PMEmo Dataset for Music Emotion Recognition", ICMR 2018; https://github.com/HuiZhangDB/PMEmo.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from jamendo_mood.datasets import ratings
from jamendo_mood.datasets.dataset import Curve, Dataset, DataSource, Track, assign_folds, count_remarks, make_parts
from jamendo_mood.tasks import Task

SCALE = (0.0, 1.0)
RATE_HZ = 2.0
SONG = "musicId"
VALUES = {"Valence(mean)": SCALE, "Arousal(mean)": SCALE}
STATIC_NAME, DYNAMIC_NAME, SONGS_NAME = "static_annotations.csv", "dynamic_annotations.csv", "metadata.csv"
FOLDERS = ("annotations", "PMEmo2019/annotations")
SONGS_FOLDERS = (".", "PMEmo2019")


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load valence and arousal of each song, 0 ... 1, in 10 folds grouped by artist."""
    table = ratings.read_ratings(ratings.find_file(root, STATIC_NAME, FOLDERS), SONG, VALUES)
    return _assemble(Task("pmemo", "values", ratings.TARGETS, SCALE), root, split, table)


def load_dynamic(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load curves of valence and arousal, twice a second of each chorus; the folds are those of `load`."""
    path = ratings.find_file(root, DYNAMIC_NAME, FOLDERS)
    moments = ratings.read_ratings(path, SONG, {"frameTime": (0.0, math.inf), **VALUES}, repeated=True)
    curves = ratings.gather_curves(path, moments)
    task = Task("pmemo-dynamic", "values", ratings.TARGETS, SCALE, RATE_HZ)
    return _assemble(task, root, split, ratings.average_curves(curves), tuple(curves.values()))


def read_songs(root: Path) -> dict[str, Track]:
    """The songs of ``metadata.csv`` by their number, with and without annotations."""
    path = ratings.find_file(root, SONGS_NAME, SONGS_FOLDERS)
    durations = ratings.read_ratings(path, SONG, {"duration": (0.0, math.inf)})
    texts = ratings.read_texts(path, SONG, ("artist",))
    artists = ratings.name_artists({song: row["artist"] for song, row in texts.items()})
    return {
        song: Track(song, f"{song}.mp3", float(duration_s), artists[song])
        for song, (duration_s,) in zip(durations.songs, durations.values, strict=True)
    }


def _assemble(
    task: Task, root: Path, split: int, table: ratings.Ratings, curves: tuple[Curve, ...] | None = None
) -> Dataset:
    known = read_songs(root)
    others = {*table.songs} - {*known}
    songs = known | {song: Track(song, f"{song}.mp3", None, ratings.name_unknown(song)) for song in others}
    # Folds of all songs, annotated or not, so that both tasks have the same.
    fold_of = dict(zip(songs, assign_folds([track.artist for track in songs.values()]), strict=True))
    tracks = tuple(songs[song] for song in table.songs)
    unused = f"of {len(known)} songs in {SONGS_NAME} have no such annotation and are left out"
    nameless = f"of {len(tracks)} songs have no artist in {SONGS_NAME}: each counts as an artist of its own"
    remarks = {unused: len(known.keys() - {*table.songs}), nameless: ratings.count_nameless(tracks)}
    parts = make_parts(np.array([fold_of[song] for song in table.songs]), split)
    targets = table.values.astype(np.float32)
    return Dataset(task, tracks, targets, parts, curves=curves, remarks=count_remarks(remarks))


_PMEMO = DataSource(
    load,
    predicts="valence and arousal of pop songs",
    files=(f"annotations/{STATIC_NAME}", SONGS_NAME),
    annotations="https://github.com/HuiZhangDB/PMEmo (dataset/PMEmo2019)",
    audio="`chorus/` of the authors' archive: `jamendo-mood extract PMEmo2019/chorus`",
    licence="for research only; the songs are under their owners' copyright",
    citation="K. Zhang, H. Zhang, S. Li, C. Yang, L. Sun: The PMEmo Dataset for Music Emotion Recognition. "
    "International Conference on Multimedia Retrieval (ICMR) 2018",
)
_FILES = (f"annotations/{DYNAMIC_NAME}", SONGS_NAME)
_DYNAMIC = replace(_PMEMO, load=load_dynamic, predicts=f"{_PMEMO.predicts}, twice a second", files=_FILES)
SOURCES = {"pmemo": _PMEMO, "pmemo-dynamic": _DYNAMIC}
