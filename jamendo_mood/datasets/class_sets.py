"""Three small data sets of clips in classes of mood: MIREX-like, 4Q, and Turkish Music Emotion.

MIREX-like (task ``mirex``): 903 clips of 30 seconds in the five mood clusters of the MIREX classification task (Hu,
Downie, "Exploring Mood Metadata", ISMIR 2007). The clips ``001.mp3`` ... ``903.mp3`` have neither ids nor labels in one
table: line i of ``clusters.txt`` is about clip i, and so is row i of ``dataset info.csv``.

4Q (task ``quadrant``): 900 clips of 30 seconds in the four quadrants of Russell's plane of valence and arousal, 225 in
each. Q1 is high in both (happy), Q2 low in valence and high in arousal (angry), Q3 low in both (sad), Q4 high in
valence and low in arousal (calm). The audio is published in four folders, ``Q1/`` to ``Q4/``, so a clip is
``Q3/MT0000004637.mp3``.

Turkish Music Emotion (task ``turkish``): 400 clips of Turkish music as 50 acoustic features each, in four classes; no
audio. The features, made with MIRtoolbox, serve as embeddings: one row of 50 numbers a clip. Twelve rows are there
twice, to the last digit and with the same class: only the first of each pair is kept, or a clip could be in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jamendo_mood.datasets.dataset import (
    ANY,
    NAMELESS,
    Array,
    Dataset,
    DataSource,
    Features,
    Track,
    assign_folds,
    count_remarks,
    join_artists,
    make_parts,
    read_number,
    to_one_hot,
)
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.plaintext import read_columns, read_lines

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
    return _assemble(Task("mirex", "classes", CLUSTERS), tracks, [artist for _, artist, _ in clips], targets, split)


def read_info(path: Path) -> list[tuple[str, str, float]]:
    """File name, artist as it is spelled, and length in seconds of each clip.

    Cells are counted from the right: titles may have semicolons in them, and no cell is quoted.
    """
    lines = read_lines(path)
    if not lines or lines[0] != INFO_HEADER:
        raise DataError(f"{path}: not the expected table, its first line must be {INFO_HEADER}")
    clips = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.rsplit(";", 9)
        if len(cells) < 10:
            raise DataError(f"{path}, line {number}: {len(cells)} cells, at least 10 are needed")
        _title, artist, _album, _track, _year, length, _size, _date, audio, _ = cells
        if audio != f"{number - 1:03d}.mp3":
            raise DataError(f"{path}, line {number}: {audio!r} where {number - 1:03d}.mp3 was expected")
        clips.append((audio, artist, read_number(length, ANY, f"{path}, line {number}, Length")))
    return clips


def load_quadrants(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their quadrants, in ten folds that share no artist."""
    path, other = root / ANNOTATIONS_NAME, root / METADATA_NAME
    annotations, metadata = read_songs(path, ("Quadrant",)), read_songs(other, ("Artist", "Quadrant"))
    quadrants = [row["Quadrant"] for row in annotations.values()]
    targets = to_one_hot(quadrants, QUADRANTS, path)
    for song in annotations | metadata:
        here, there = (table[song]["Quadrant"] if song in table else "missing" for table in (annotations, metadata))
        if here != there:
            raise DataError(f"{path} and {other}: {song!r} is {here} in the first and {there} in the second")
    tracks = [Track(song, f"{row['Quadrant']}/{song}.mp3", None, song) for song, row in annotations.items()]
    spelled = [metadata[song]["Artist"] for song in annotations]
    return _assemble(Task("quadrant", "classes", QUADRANTS), tracks, spelled, targets, split)


def read_songs(path: Path, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Cells of a table by song and column; no song may be there twice."""
    songs: dict[str, dict[str, str]] = {}
    for line, row in enumerate(read_columns(path, ("Song", *columns)), start=2):
        if row["Song"] in songs:
            raise DataError(f"{path}, line {line}: {row['Song']!r} is there twice")
        songs[row["Song"]] = row
    return songs


def _assemble(task: Task, tracks: Sequence[Track], spelled: Sequence[str], targets: Array, split: int) -> Dataset:
    """Tracks by the artists that tables spell; one without a name counts as an artist of its own."""
    artists = join_artists(spelled)
    tracks = tuple(replace(own, artist=name or own.artist) for own, name in zip(tracks, artists, strict=True))
    labels = [task.targets[column] for column in targets.argmax(axis=1)]
    parts = make_parts(assign_folds([track.artist for track in tracks], labels), split)
    before, after = len({name.strip().casefold() for name in spelled} - {""}), len({*artists} - {""})
    joined = f"names stand for {after} artists, as some share a performer"
    remarks = count_remarks({NAMELESS: artists.count(""), joined: before if after < before else 0})
    return Dataset(task, tracks, targets, parts, remarks=remarks)


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
        embeddings=Features(SPEC, zip(names, np.array(features, np.float32)[:, None], strict=True)),
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
