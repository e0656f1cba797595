"""Three small data sets of clips in classes of mood: MIREX-like, 4Q, and Turkish Music Emotion.

MIREX-like (task ``mirex``): 903 clips of 30 seconds in the five mood clusters of the MIREX classification task. The
clips ``001.mp3`` ... ``903.mp3`` have neither ids nor labels in one table: line i of ``clusters.txt`` is about clip i,
and so is row i of ``dataset info.csv``.

4Q (task ``quadrant``): 900 clips of 30 seconds in the four quadrants of Russell's plane of valence and arousal, 225 in
each. Q1 is high in both (happy), Q2 low in valence and high in arousal (angry), Q3 low in both (sad), Q4 high in
valence and low in arousal (calm). The audio is published in four folders, ``Q1/`` to ``Q4/``, so a clip is
``Q3/MT0000004637.mp3``.

Turkish Music Emotion (task ``turkish``): 400 clips of Turkish music as 50 acoustic features each, in four classes; no
audio. The features, made with MIRtoolbox, serve as embeddings: one row of 50 numbers a clip. Twelve rows are there
twice, to the last digit and with the same class: only the first of each pair is kept, or a clip could be in two parts.

References
----------
Panda, Malheiro, Rocha, Oliveira, Paiva, "Multi-Modal Music Emotion Recognition: A New Dataset, Methodology and
Comparative Analysis", CMMR 2013; the clusters: Hu, Downie, "Exploring Mood Metadata", ISMIR 2007.
Panda, Malheiro, Paiva, "Novel audio features for music emotion recognition", IEEE Transactions on Affective Computing
11(4), 2020, https://doi.org/10.1109/TAFFC.2018.2820691.
Er, Aydilek, "Music emotion recognition by using chroma spectrogram and deep visual features", International Journal of
Computational Intelligence Systems 12(2), 2019; https://archive.ics.uci.edu/dataset/862/turkish+music+emotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jamendo_mood.datasets.dataset import (
    Array,
    Dataset,
    DataSource,
    Features,
    Track,
    assign_folds,
    count_remarks,
    describe_artists,
    join_artists,
    make_parts,
    to_one_hot,
)
from jamendo_mood.datasets.ratings import ANY, read_number
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.files import read_columns, read_lines

CLUSTERS = tuple(f"Cluster {number}" for number in range(1, 6))
CLUSTERS_NAME = "clusters.txt"
INFO_NAME = "dataset info.csv"
INFO_HEADER = "Title;Artist;Album;Track;Year;Length;Size;Last Modified;Filename;"

QUADRANTS = ("Q1", "Q2", "Q3", "Q4")
ANNOTATIONS_NAME = "panda_dataset_taffc_annotations.csv"
METADATA_NAME = "panda_dataset_taffc_metadata.csv"

TURKISH_CLASSES = ("relax", "happy", "sad", "angry")
FEATURES_NAME = "Acoustic Features.csv"
_HARMONY = "HarmonicChangeDetectionFunction"
FEATURES = (
    *("_RMSenergy_Mean", "_Lowenergy_Mean", "_Fluctuation_Mean", "_Tempo_Mean"),
    *(f"_MFCC_Mean_{number}" for number in range(1, 14)),
    *("_Roughness_Mean", "_Roughness_Slope", "_Zero-crossingrate_Mean", "_AttackTime_Mean", "_AttackTime_Slope"),
    *("_Rolloff_Mean", "_Eventdensity_Mean", "_Pulseclarity_Mean", "_Brightness_Mean"),
    *(f"_Spectral{shape}_Mean" for shape in ("centroid", "spread", "skewness", "kurtosis", "flatness")),
    "_EntropyofSpectrum_Mean",
    *(f"_Chromagram_Mean_{number}" for number in range(1, 13)),
    *(f"_{_HARMONY}_{statistic}" for statistic in ("Mean", "Std", "Slope", "PeriodFreq", "PeriodAmp", "PeriodEntropy")),
)
CLIP_S = 30.0
SPEC = EmbedderSpec("mirtoolbox", "", 0, CLIP_S, CLIP_S, len(FEATURES))  # the sampling rate is not published


def load_mirex(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their clusters, in ten folds that share no artist."""
    path = root / CLUSTERS_NAME
    clusters = read_lines(path)
    clips = read_info(root / INFO_NAME)
    if len(clips) != len(clusters):
        raise DataError(f"{path}: {len(clusters)} lines for the {len(clips)} clips of {INFO_NAME}")
    tracks = [Track(audio.removesuffix(".mp3"), audio, length_s, audio) for audio, _, length_s in clips]
    targets = to_one_hot(clusters, CLUSTERS, path, first_line=1)
    spelled = [artist for _, artist, _ in clips]
    return _assemble(Task("mirex", "classes", CLUSTERS), tracks, spelled, clusters, targets, split)


def read_info(path: Path) -> list[tuple[str, str, float]]:
    """File name, artist as it is spelled, and length in seconds of each clip.

    Cells are counted from the right: titles may have semicolons in them, and no cell is quoted.
    """
    lines = read_lines(path)
    if not lines or lines[0] != INFO_HEADER:
        raise DataError(f"{path}: not the expected table, its first line must be {INFO_HEADER}")
    cells_needed, clips = INFO_HEADER.count(";") + 1, []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(";")
        if len(cells) < cells_needed:
            raise DataError(f"{path}, line {number}: {len(cells)} cells, at least {cells_needed} are needed")
        artist, _album, _track, _year, length, _size, _date, audio, _ = cells[1 - cells_needed :]
        if audio != f"{number - 1:03d}.mp3":
            raise DataError(f"{path}, line {number}: {audio!r} where {number - 1:03d}.mp3 was expected")
        try:
            clips.append((audio, artist, float(length)))
        except ValueError:
            raise DataError(f"{path}, line {number}: {length!r} is not a length in seconds") from None
    return clips


def load_quadrants(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their quadrants, in ten folds that share no artist."""
    path = root / ANNOTATIONS_NAME
    annotations = read_columns(path, ("Song", "Quadrant"))
    songs, quadrants = ([row[name] for row in annotations] for name in ("Song", "Quadrant"))
    targets = to_one_hot(quadrants, QUADRANTS, path)
    artist_of = _read_artists(root / METADATA_NAME, dict(zip(songs, quadrants, strict=True)))
    for line, song in enumerate(songs, start=2):
        if song not in artist_of:
            raise DataError(f"{path}, line {line}: {song!r} is not in {METADATA_NAME}")
    if len(artist_of) < len(songs):
        twice = next(song for song in songs if songs.count(song) > 1)
        raise DataError(f"{path}: {twice!r} is there twice")
    tracks = [Track(own, f"{quadrant}/{own}.mp3", None, own) for own, quadrant in zip(songs, quadrants, strict=True)]
    spelled = [artist_of[song] for song in songs]
    return _assemble(Task("quadrant", "classes", QUADRANTS), tracks, spelled, quadrants, targets, split)


def _read_artists(path: Path, quadrant_of: dict[str, str]) -> dict[str, str]:
    """The artist of each song, from the table that also says its quadrant."""
    artists = {}
    for line, row in enumerate(read_columns(path, ("Song", "Artist", "Quadrant")), start=2):
        song, quadrant = row["Song"], row["Quadrant"]
        if quadrant_of.get(song) != quadrant:
            annotated = f"is {quadrant_of[song]!r}" if song in quadrant_of else "is not"
            raise DataError(f"{path}, line {line}: {song!r} is {quadrant!r} here, {annotated} in {ANNOTATIONS_NAME}")
        if song in artists:
            raise DataError(f"{path}, line {line}: {song!r} is there twice")
        artists[song] = row["Artist"]
    return artists


def _assemble(
    task: Task, tracks: Sequence[Track], spelled: Sequence[str], labels: Sequence[str], targets: Array, split: int
) -> Dataset:
    """Tracks by the artists that tables spell; one without a name stays by an artist of its own."""
    artists = join_artists(spelled)
    tracks = tuple(replace(own, artist=name or own.artist) for own, name in zip(tracks, artists, strict=True))
    parts = make_parts(assign_folds([track.artist for track in tracks], labels), split)
    return Dataset(task, tracks, targets, parts, remarks=describe_artists(spelled, artists))


def load_turkish(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their classes, in ten folds.

    A clip is named by its row in the file, from 001. Since no artists are known, each clip counts as an artist of its
    own.
    """
    path = root / FEATURES_NAME
    rows = read_columns(path, ("Class", *FEATURES))
    first_row: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(rows):
        first_row.setdefault(tuple(row.values()), number)
    kept = list(first_row.values())
    names = [f"{number + 1:03d}" for number in kept]
    features = [
        [read_number(rows[number][name], ANY, f"{path}, line {number + 2}, {name}") for name in FEATURES]
        for number in kept
    ]
    return Dataset(
        task=Task("turkish", "classes", TURKISH_CLASSES),
        tracks=tuple(Track(name, name, None, name) for name in names),
        targets=to_one_hot([row["Class"] for row in rows], TURKISH_CLASSES, path)[kept],
        parts=make_parts(assign_folds(names, [rows[number]["Class"] for number in kept]), split),
        embeddings=Features(SPEC, zip(names, np.array(features, np.float32), strict=True)),
        remarks=(
            *count_remarks({"rows are equal to an earlier one and left out": len(rows) - len(kept)}),
            "no artists are known: clips of one artist may be in several parts",
        ),
    )


SOURCES = {
    "mirex": DataSource(
        load_mirex,
        predicts="5 mood clusters",
        files=(CLUSTERS_NAME, INFO_NAME),
        annotations="http://mir.dei.uc.pt/downloads.html (MIREX-like mood dataset)",
        audio="in the same download: 903 clips of 30 s, 001.mp3 to 903.mp3",
        licence="for research; not to be passed on",
        citation="R. Panda, R. Malheiro, B. Rocha, A. Oliveira, R. P. Paiva: Multi-Modal Music Emotion Recognition: A "
        "New Dataset, Methodology and Comparative Analysis. CMMR 2013",
    ),
    "quadrant": DataSource(
        load_quadrants,
        predicts="4 quadrants of valence and arousal",
        files=(ANNOTATIONS_NAME, METADATA_NAME),
        annotations="http://mir.dei.uc.pt/downloads.html (4Q audio emotion dataset)",
        audio="in the same download: 900 clips of 30 s; extract from the folder that holds their folders Q1 to Q4",
        licence="for research; not to be passed on",
        citation="R. Panda, R. Malheiro, R. P. Paiva: Novel audio features for music emotion recognition. IEEE "
        "Transactions on Affective Computing 11(4), 2020",
    ),
    "turkish": DataSource(
        load_turkish,
        predicts="4 classes of Turkish music",
        files=(FEATURES_NAME,),
        annotations="https://archive.ics.uci.edu/dataset/862/turkish+music+emotion",
        audio="none is published: the 50 acoustic features serve as embeddings",
        licence="for research; not to be passed on",
        citation="M. B. Er, I. B. Aydilek: Music emotion recognition by using chroma spectrogram and deep visual "
        "features. International Journal of Computational Intelligence Systems 12(2), 2019",
    ),
}
