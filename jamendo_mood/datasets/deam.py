"""DEAM: 1,802 songs with valence and arousal, from MediaEval's tasks of 2013 to 2015.

The root is the folder of the unpacked archives, or one with all the tables side by side. Audio is
``MEMD_audio/NUMBER.mp3``: clips of 45 s, from number 2001 on whole songs. With ``opensmile_means.csv`` (a line a song:
its number, then the mean of each openSMILE feature) beside the tables no audio is needed.

The 744 songs numbered 2 to 1000 are emoMusic's, under the same numbers (`in_emomusic`): never train on one and test on
the other. Of these the published table has valence under ``arousal_mean`` and arousal under ``valence_mean``: so says
emoMusic's own table (738 of 744 songs are the same within 0.05), so do its curves (correlation 0.95), and the loudness
goes with ``valence_mean`` there (0.68) and with ``arousal_mean`` in the songs of 2014 (0.70). The task ``deam`` is what
is published, ``deam-corrected`` has these columns corrected.

References
----------
Aljanaki, Yang, Soleymani, "Developing a benchmark for emotional analysis of music", PLOS ONE 12(3), 2017;
http://cvml.unige.ch/databases/DEAM/.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from jamendo_mood.datasets import ratings
from jamendo_mood.datasets.dataset import Dataset, DataSource, Features, Track, assign_folds, count_remarks, make_parts
from jamendo_mood.datasets.emomusic import SAME_RECORDINGS
from jamendo_mood.embedders.registry import RELEASED, EmbedderSpec
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError

SCALE = (1.0, 9.0)
SONG = "song_id"
STATIC_NAMES = ("static_annotations_averaged_songs_1_2000.csv", "static_annotations_averaged_songs_2000_2058.csv")
SONGS_NAMES = ("metadata_2013.csv", "metadata_2014.csv", "metadata_2015.csv")
FEATURES_NAME = "opensmile_means.csv"
_BELOW = "annotations/annotations averaged per song/song_level"  # as it is unpacked, some put underscores
FOLDERS = (".", *(top + own for top in ("", "DEAM_Annotations/") for own in (_BELOW, _BELOW.replace(" ", "_"))))
SONGS_FOLDERS = (".", "metadata")
LAST_OF_2013 = 1000
LAST_CLIP = 2000
CLIP_S = 45.0
FEATURES_RATE_HZ = 44_100


def in_emomusic(song: str) -> bool:
    """Whether a song of DEAM, by its number, is one of emoMusic's, which has the same number there."""
    return int(song) <= LAST_OF_2013


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load valence and arousal of each song, 1 ... 9, as they are published, in 10 folds grouped by artist."""
    dataset = _assemble("deam", root, split)
    swapped = sum(in_emomusic(track.id) for track in dataset.tracks)
    what = f"songs, those up to {LAST_OF_2013}, have valence and arousal exchanged: see deam-corrected"
    return replace(dataset, remarks=(*dataset.remarks, *count_remarks({what: swapped})))


def load_corrected(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the same with valence and arousal of emoMusic's songs corrected."""
    dataset = _assemble("deam-corrected", root, split)
    swapped = np.array([in_emomusic(track.id) for track in dataset.tracks])
    targets = np.where(swapped[:, None], dataset.targets[:, ::-1], dataset.targets)
    what = f"songs, those up to {LAST_OF_2013}, have valence and arousal exchanged against the table"
    return replace(dataset, targets=targets, remarks=(*dataset.remarks, *count_remarks({what: int(swapped.sum())})))


def read_values(root: Path) -> ratings.Ratings:
    """Valence and arousal from the two tables, whose other columns differ."""
    columns = {f"{target}_mean": SCALE for target in ratings.TARGETS}
    paths = [ratings.find_file(root, name, FOLDERS) for name in STATIC_NAMES]
    first, second = (ratings.read_ratings(path, SONG, columns) for path in paths)
    known = set(first.songs)
    for line, song in enumerate(second.songs, start=2):
        if song in known:
            raise DataError(f"{paths[1]}, line {line}: song {song} again, it was in {paths[0].name}")
    return ratings.Ratings(first.songs + second.songs, np.concatenate([first.values, second.values]))


def read_artists(root: Path) -> dict[str, str]:
    """The artist of each song, from the tables of the three years, whose columns differ."""
    written: dict[str, str] = {}
    for name in SONGS_NAMES:
        path = ratings.find_file(root, name, SONGS_FOLDERS)
        for line, (song, row) in enumerate(ratings.read_texts(path, SONG, ("artist",)).items(), start=2):
            if song in written:
                raise DataError(f"{path}, line {line}: song {song} again, it was in another year's table")
            written[song] = row["artist"]
    return ratings.name_artists(written, run_on=True)


def read_features(root: Path) -> Features | None:
    """The features of ``opensmile_means.csv``, one row for the whole song; None if the file is not there.

    Their spec has the length of the clips as that of a row, which for the 58 whole songs is too short, and the sample
    rate of the audio that is published.
    """
    path = root / FEATURES_NAME
    if not path.is_file():
        return None
    names = [name for name in ratings.read_header(path) if name != SONG]
    table = ratings.read_ratings(path, SONG, dict.fromkeys(names, ratings.ANY))
    spec = EmbedderSpec("opensmile", RELEASED, FEATURES_RATE_HZ, CLIP_S, CLIP_S, len(names))
    return Features(spec, zip(table.songs, table.values.astype(np.float32), strict=True))


def _assemble(name: str, root: Path, split: int) -> Dataset:
    table, artists, features = read_values(root), read_artists(root), read_features(root)
    artist_of = {song: artists.get(song, ratings.name_unknown(song)) for song in table.songs}
    tracks = tuple(
        Track(song, f"{song}.mp3", CLIP_S if int(song) <= LAST_CLIP else None, artist)
        for song, artist in artist_of.items()
    )
    groups = ratings.join_recordings({track.id: track.artist for track in tracks}, SAME_RECORDINGS)
    songs, shared = groups.keys(), sum(map(in_emomusic, groups))
    remarks = {
        "songs of the metadata have no annotation and are left out": len(artists.keys() - songs),
        "songs have no artist in the metadata: each counts as an artist of its own": ratings.count_nameless(tracks),
        f"songs are not in {FEATURES_NAME}": len(songs - features.keys()) if features else 0,
        "songs are emoMusic's, under the same numbers: never train on one and test on the other": shared,
    }
    task, targets = Task(name, "values", ratings.TARGETS, SCALE), table.values.astype(np.float32)
    parts = make_parts(assign_folds(list(groups.values())), split)
    return Dataset(task, tracks, targets, parts, embeddings=features, remarks=count_remarks(remarks))


_DEAM = DataSource(
    load,
    predicts="valence and arousal of songs",
    files=(*STATIC_NAMES, *SONGS_NAMES),
    annotations="http://cvml.unige.ch/databases/DEAM/ (DEAM_Annotations.zip, metadata.zip)",
    audio="DEAM_audio.zip: `jamendo-mood extract MEMD_audio`; none needed with "
    f"{FEATURES_NAME} ({SONG}, then the mean of each feature)",
    licence="for research only; audio: each song's own Creative Commons licence",
    citation="A. Aljanaki, Y.-H. Yang, M. Soleymani: Developing a benchmark for emotional analysis of music. PLOS ONE "
    "12(3), 2017; songs 2 to 1000 are those of M. Soleymani et al.: 1000 Songs for Emotional Analysis of Music. "
    "CrowdMM 2013",
)
_CORRECTED = replace(_DEAM, load=load_corrected, predicts=f"{_DEAM.predicts}, with two columns corrected")
SOURCES = {"deam": _DEAM, "deam-corrected": _CORRECTED}
