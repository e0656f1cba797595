"""MIREX-like: 903 clips of 30 seconds in the five mood clusters of the MIREX classification task.

The clips ``001.mp3`` ... ``903.mp3`` have neither ids nor labels in one table: line i of ``clusters.txt`` is about clip
i, and so is row i of ``dataset info.csv``.

References
----------
Panda, Malheiro, Rocha, Oliveira, Paiva, "Multi-Modal Music Emotion Recognition: A New Dataset, Methodology and
Comparative Analysis", CMMR 2013; the clusters: Hu, Downie, "Exploring Mood Metadata", ISMIR 2007.
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
from jamendo_mood.util.files import read_lines

CLUSTERS = tuple(f"Cluster {number}" for number in range(1, 6))
CLUSTERS_NAME = "clusters.txt"
INFO_NAME = "dataset info.csv"
INFO_HEADER = "Title;Artist;Album;Track;Year;Length;Size;Last Modified;Filename;"


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their clusters, in ten folds that share no artist."""
    path = root / CLUSTERS_NAME
    clusters = read_lines(path)
    clips = read_info(root / INFO_NAME)
    if len(clips) != len(clusters):
        raise DataError(f"{path}: {len(clusters)} lines for the {len(clips)} clips of {INFO_NAME}")
    spelled = [artist for _, artist, _ in clips]
    artists = join_artists(spelled)
    tracks = tuple(
        Track(audio.removesuffix(".mp3"), audio, length_s, artist or audio)
        for (audio, _, length_s), artist in zip(clips, artists, strict=True)
    )
    return Dataset(
        task=Task("mirex", "classes", CLUSTERS),
        tracks=tracks,
        targets=to_one_hot(clusters, CLUSTERS, path, first_line=1),
        parts=make_parts(assign_folds([track.artist for track in tracks], clusters), split),
        remarks=describe_artists(spelled, artists),
    )


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


SOURCES = {
    "mirex": DataSource(
        load,
        predicts="5 mood clusters",
        files=(CLUSTERS_NAME, INFO_NAME),
        annotations="http://mir.dei.uc.pt/downloads.html (MIREX-like mood dataset)",
        audio="in the same download: 903 clips of 30 s, 001.mp3 to 903.mp3",
        licence="for research; not to be passed on",
        citation=(
            "R. Panda, R. Malheiro, B. Rocha, A. Oliveira, R. P. Paiva: Multi-Modal Music Emotion Recognition: A New "
            "Dataset, Methodology and Comparative Analysis. CMMR 2013"
        ),
    )
}
