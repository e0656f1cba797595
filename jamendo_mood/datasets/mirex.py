"""MIREX-like: 903 clips of 30 seconds in the five mood clusters of the MIREX classification task.

The clips ``001.mp3`` ... ``903.mp3`` have neither ids nor labels in one table: line i of ``clusters.txt`` and of
``categories.txt`` (the adjective a clip was found by) is clip i, and so is row i of ``dataset info.csv``.

References
----------
Panda, Malheiro, Rocha, Oliveira, Paiva, "Multi-Modal Music Emotion Recognition: A New Dataset, Methodology and
Comparative Analysis", CMMR 2013; the clusters: Hu, Downie, "Exploring Mood Metadata", ISMIR 2007.
"""

from __future__ import annotations

from pathlib import Path

from jamendo_mood.datasets.dataset import (
    FOLDS,
    Dataset,
    DataSource,
    Track,
    assign_folds,
    describe_credits,
    join_credits,
    make_parts,
    to_one_hot,
)
from jamendo_mood.tasks.kinds import Task
from jamendo_mood.util.errors import DataError

CLUSTERS = tuple(f"Cluster {number}" for number in range(1, 6))
CLUSTERS_NAME = "clusters.txt"
ADJECTIVES_NAME = "categories.txt"
INFO_NAME = "dataset info.csv"
INFO_HEADER = "Title;Artist;Album;Track;Year;Length;Size;Last Modified;Filename;"
LICENCE = "for research; not to be passed on"
CITATION = (
    "R. Panda, R. Malheiro, B. Rocha, A. Oliveira, R. P. Paiva: Multi-Modal Music Emotion Recognition: A New Dataset, "
    "Methodology and Comparative Analysis. CMMR 2013"
)


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their clusters, in ten folds that share no artist.

    Raises
    ------
    UsageError
        There is no fold `split`.
    DataError
        A file is missing or damaged, or two of them are of different lengths.
    """
    clusters = read_lines(root / CLUSTERS_NAME)
    clips = read_info(root / INFO_NAME)
    if len(clips) != len(clusters):
        raise DataError(f"{root / CLUSTERS_NAME}: {len(clusters)} lines for the {len(clips)} clips of {INFO_NAME}")
    spelled = [artist for _, artist, _ in clips]
    artists = join_credits(spelled)
    tracks = tuple(
        Track(audio.removesuffix(".mp3"), audio, length_s, artist or audio)
        for (audio, _, length_s), artist in zip(clips, artists, strict=True)
    )
    return Dataset(
        task=Task("mirex", "classes", CLUSTERS),
        tracks=tracks,
        targets=to_one_hot(clusters, CLUSTERS, root / CLUSTERS_NAME, first_line=1),
        parts=make_parts(assign_folds([track.artist for track in tracks], clusters), split),
        licence=LICENCE,
        citation=CITATION,
        remarks=describe_credits(spelled, artists),
    )


def read_adjectives(root: Path) -> tuple[str, ...]:
    """The adjective that each clip was found by, one of 28, as it is spelled in the file.

    Raises
    ------
    DataError
        The file is missing or damaged.
    """
    return tuple(read_lines(root / ADJECTIVES_NAME))


def read_lines(path: Path) -> list[str]:
    """The lines of a list that has one a clip."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def read_info(path: Path) -> list[tuple[str, str, float]]:
    """File name, artist as it is spelled, and length in seconds of each clip.

    Cells are counted from the right: titles may have semicolons in them, and no cell is quoted.

    Raises
    ------
    DataError
        The file is missing, is not the table, or its rows are not those of 001.mp3, 002.mp3 and so on.
    """
    try:
        with path.open(encoding="utf-16") as file:
            lines = [line.rstrip("\n") for line in file]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-16 ({error})") from error
    if not lines or lines[0] != INFO_HEADER:
        raise DataError(f"{path}: not the expected table, its first line must be {INFO_HEADER}")
    least, clips = INFO_HEADER.count(";") + 1, []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(";")
        if len(cells) < least:
            raise DataError(f"{path}, line {number}: {len(cells)} cells, at least {least} are needed")
        artist, _album, _track, _year, length, _size, _date, audio, _ = cells[1 - least :]
        if audio != f"{number - 1:03d}.mp3":
            raise DataError(f"{path}, line {number}: {audio!r} where {number - 1:03d}.mp3 was expected")
        try:
            clips.append((audio, artist, float(length)))
        except ValueError:
            raise DataError(f"{path}, line {number}: {length!r} is no length in seconds") from None
    return clips


SOURCES = {
    "mirex": DataSource(
        load,
        "5 mood clusters",
        (CLUSTERS_NAME, ADJECTIVES_NAME, INFO_NAME),
        "http://mir.dei.uc.pt/downloads.html (MIREX-like mood dataset)",
        "in the same download: 903 clips of 30 s, 001.mp3 to 903.mp3",
        LICENCE,
        CITATION,
        splits=FOLDS,
        official=False,
    )
}
