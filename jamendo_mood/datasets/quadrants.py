"""4Q: 900 clips of 30 seconds in the four quadrants of Russell's plane of valence and arousal, 225 in each.

Q1 is high in both (happy), Q2 low in valence and high in arousal (angry), Q3 low in both (sad), Q4 high in valence and
low in arousal (calm). The audio is published in four folders, ``Q1/`` to ``Q4/``, so a clip is ``Q3/MT0000004637.mp3``.

References
----------
Panda, Malheiro, Paiva, "Novel audio features for music emotion recognition", IEEE Transactions on Affective Computing
11(4), 2020, https://doi.org/10.1109/TAFFC.2018.2820691.
"""

from __future__ import annotations

from pathlib import Path

from jamendo_mood.datasets.dataset import (
    Dataset,
    DataSource,
    Track,
    assign_folds,
    describe_artists,
    join_artists,
    make_parts,
    to_one_hot,
)
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.files import read_columns

QUADRANTS = ("Q1", "Q2", "Q3", "Q4")
ANNOTATIONS_NAME = "panda_dataset_taffc_annotations.csv"
METADATA_NAME = "panda_dataset_taffc_metadata.csv"


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their quadrants, in ten folds that share no artist."""
    annotations = read_columns(root / ANNOTATIONS_NAME, ("Song", "Quadrant"))
    quadrants = [row["Quadrant"] for row in annotations]
    targets = to_one_hot(quadrants, QUADRANTS, root / ANNOTATIONS_NAME)
    artist_of = _read_artists(root / METADATA_NAME, {row["Song"]: row["Quadrant"] for row in annotations})
    songs = [row["Song"] for row in annotations]
    for line, song in enumerate(songs, start=2):
        if song not in artist_of:
            raise DataError(f"{root / ANNOTATIONS_NAME}, line {line}: {song!r} is not in {METADATA_NAME}")
    if len(artist_of) < len(songs):
        twice = next(song for song in songs if songs.count(song) > 1)
        raise DataError(f"{root / ANNOTATIONS_NAME}: {twice!r} is there twice")
    spelled = [artist_of[song] for song in songs]
    artists = join_artists(spelled)
    tracks = tuple(
        Track(song, f"{quadrant}/{song}.mp3", None, artist or song)
        for song, quadrant, artist in zip(songs, quadrants, artists, strict=True)
    )
    return Dataset(
        task=Task("quadrant", "classes", QUADRANTS),
        tracks=tracks,
        targets=targets,
        parts=make_parts(assign_folds([track.artist for track in tracks], quadrants), split),
        remarks=describe_artists(spelled, artists),
    )


def _read_artists(path: Path, quadrant_of: dict[str, str]) -> dict[str, str]:
    """The artist of each song, from the table that also says its quadrant."""
    artists = {}
    for line, row in enumerate(read_columns(path, ("Song", "Artist", "Quadrant")), start=2):
        song, quadrant = row["Song"], row["Quadrant"]
        if quadrant_of.get(song) != quadrant:
            annotated = f"is {quadrant_of[song]!r}" if song in quadrant_of else "is not"
            raise DataError(
                f"{path}, line {line}: {song!r} is {quadrant!r} here, and {annotated} in {ANNOTATIONS_NAME}"
            )
        if song in artists:
            raise DataError(f"{path}, line {line}: {song!r} is there twice")
        artists[song] = row["Artist"]
    return artists


SOURCES = {
    "quadrant": DataSource(
        load,
        predicts="4 quadrants of valence and arousal",
        files=(ANNOTATIONS_NAME, METADATA_NAME),
        annotations="http://mir.dei.uc.pt/downloads.html (4Q audio emotion dataset)",
        audio="in the same download: 900 clips of 30 s; extract from the folder that holds their folders Q1 to Q4",
        licence="for research; not to be passed on",
        citation=(
            "R. Panda, R. Malheiro, R. P. Paiva: Novel audio features for music emotion recognition. IEEE Transactions "
            "on Affective Computing 11(4), 2020"
        ),
    )
}
