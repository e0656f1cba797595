"""Three data sets of valence and arousal: DEAM, emoMusic and PMEmo, of whole songs and twice a second.

DEAM (task ``deam``): 1,802 songs from MediaEval's tasks of 2013 to 2015. The root is the folder of the unpacked
archives, or one with all the tables side by side. Audio is ``MEMD_audio/NUMBER.mp3``: clips of 45 s, from number 2001
on whole songs. With ``opensmile_means.csv`` (a line a song: its number, then the mean of each openSMILE feature) beside
the tables no audio is needed.

The 744 songs numbered 2 to 1000 are emoMusic's, under the same numbers: never train on one and test on the other. Of
these the published table has valence under ``arousal_mean`` and arousal under ``valence_mean``: so says emoMusic's own
table (738 of 744 songs are the same within 0.05), so do its curves (correlation 0.95), and the loudness goes with
``valence_mean`` there (0.68) and with ``arousal_mean`` in the songs of 2014 (0.70). The task ``deam`` is what is
published, ``deam-corrected`` has these columns corrected.

emoMusic (tasks ``emomusic`` and ``emomusic-dynamic``): 744 clips of 45 s, those of MediaEval's task of 2013. The root
is the folder with ``annotations/``, or that folder itself. Curves begin at 15 s of the clip, whose file is
``clips_45seconds/NUMBER.mp3``. The test part is the authors' own (``evaluation``). Its artists have songs in their
development part too, and one of its recordings is there: those are left out here, and the rest is divided into training
and validation.

PMEmo (tasks ``pmemo`` and ``pmemo-dynamic``): the choruses of 794 pop songs, 767 of them rated. The root is the folder
``PMEmo2019`` or the one it lies in. Curves begin at 15.5 s of the chorus clip, whose file is ``chorus/NUMBER.mp3``.

All functions that read raise `DataError`, naming file, line and value, if a file is missing or damaged.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import (
    ANY,
    NAMELESS,
    PARTS,
    TARGETS,
    Curve,
    Dataset,
    DataSource,
    Features,
    Scale,
    Track,
    assign_folds,
    count_remarks,
    join_artists,
    make_parts,
    read_number,
)
from jamendo_mood.embedders.registry import RELEASED, EmbedderSpec
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.plaintext import read_columns, read_table

SCALE = (1.0, 9.0)
CURVE_SCALE = (-1.0, 1.0)
RATE_HZ = 2.0
CLIP_S = 45.0
SONG = "song_id"
NO_NAMES = ("", "n/a", "unknown", "unknown artist")
# Songs of DEAM whose openSMILE features are equal to the last digit, whatever their names; they are emoMusic's, too.
SAME_RECORDINGS = (("175", "536"), ("296", "706"), ("390", "758"), ("631", "893"))

DEAM_NAMES = ("static_annotations_averaged_songs_1_2000.csv", "static_annotations_averaged_songs_2000_2058.csv")
DEAM_SONGS_NAMES = ("metadata_2013.csv", "metadata_2014.csv", "metadata_2015.csv")
FEATURES_NAME = "opensmile_means.csv"
_BELOW = "annotations/annotations averaged per song/song_level"  # as it is unpacked, some put underscores
DEAM_FOLDERS = (".", *(top + own for top in ("", "DEAM_Annotations/") for own in (_BELOW, _BELOW.replace(" ", "_"))))
LAST_OF_2013 = 1000
LAST_CLIP = 2000
FEATURES_RATE_HZ = 44_100

STATIC_NAME, CLIPS_NAME = "static_annotations.csv", "songs_info.csv"
CURVE_NAMES = tuple(f"{target}_cont_average.csv" for target in TARGETS)
EMOMUSIC_FOLDERS = ("annotations", ".")
PART, DEVELOPMENT, EVALUATION = "Mediaeval 2013 set", "development", "evaluation"
VALIDATION_FOLDS = 8  # of the development part; one of them is the validation part

PMEMO_SCALE = (0.0, 1.0)
PMEMO_SONG = "musicId"
PMEMO_VALUES = {"Valence(mean)": PMEMO_SCALE, "Arousal(mean)": PMEMO_SCALE}
MOMENTS_NAME, POP_NAME = "dynamic_annotations.csv", "metadata.csv"
PMEMO_FOLDERS = ("annotations", "PMEmo2019/annotations")

Ratings = dict[str, npt.NDArray[np.float64]]  #: numbers by song


def load_deam(root: Path, split: int = 0, _: str | None = None, *, corrected: bool = False) -> Dataset:
    """Load valence and arousal of each song, 1 ... 9, in 10 folds grouped by artist; `corrected` is told above."""
    tables = [find_file(root, name, DEAM_FOLDERS) for name in DEAM_NAMES]
    ratings = read_ratings(SONG, {f"{target}_mean": SCALE for target in TARGETS}, *tables)
    songs = [find_file(root, name, (".", "metadata")) for name in DEAM_SONGS_NAMES]
    artists, features = read_artists(SONG, "artist", *songs, run_on=True), read_features(root)
    tracks = tuple(
        Track(song, f"{song}.mp3", CLIP_S if int(song) <= LAST_CLIP else None, artists.get(song, f"unknown:{song}"))
        for song in ratings
    )
    targets = np.array([*ratings.values()], np.float32)
    of_emomusic = np.array([int(song) <= LAST_OF_2013 for song in ratings])
    if corrected:
        targets = np.where(of_emomusic[:, None], targets[:, ::-1], targets)
    exchanged = f"songs, those up to {LAST_OF_2013}, have valence and arousal exchanged"
    remarks = {
        "songs of the metadata have no annotation and are left out": len(artists.keys() - ratings.keys()),
        NAMELESS: _count_nameless(tracks),
        f"songs are not in {FEATURES_NAME}": len(ratings.keys() - features.keys()) if features else 0,
        "songs are emoMusic's, under the same numbers: never train on one and test on the other": of_emomusic.sum(),
        f"{exchanged} against the table" if corrected else f"{exchanged}: see deam-corrected": of_emomusic.sum(),
    }
    task = Task("deam-corrected" if corrected else "deam", "values", TARGETS, SCALE)
    groups = join_recordings({track.id: track.artist for track in tracks})
    parts = make_parts(assign_folds(list(groups.values())), split)
    return Dataset(task, tracks, targets, parts, embeddings=features, remarks=count_remarks(remarks))


def read_features(root: Path) -> Features | None:
    """The features of ``opensmile_means.csv``, one row for the whole song; None if the file is not there.

    Their spec has the length of the clips as that of a row, which for the 58 whole songs is too short, and the sample
    rate of the audio that is published.
    """
    path = root / FEATURES_NAME
    if not path.is_file():
        return None
    names = [name for name in read_header(path) if name != SONG]
    rows = read_ratings(SONG, dict.fromkeys(names, ANY), path)
    spec = EmbedderSpec("opensmile", RELEASED, FEATURES_RATE_HZ, CLIP_S, CLIP_S, len(names))
    return Features(spec, ((song, row[None]) for song, row in rows.items()))


def load_emomusic(root: Path, split: int = 0, _: str | None = None, *, dynamic: bool = False) -> Dataset:
    """Load valence and arousal of each clip, 1 ... 9; if `dynamic` their curves, -1 ... 1, twice a second."""
    if split:
        raise UsageError(f"split {split}: these data have one division, the authors' own; its number is 0")
    curves, single = read_curves(root) if dynamic else (dict[str, Curve](), 0)
    if dynamic:
        task, ratings = Task("emomusic-dynamic", "values", TARGETS, CURVE_SCALE, RATE_HZ), average_curves(curves)
    else:
        path, columns = find_file(root, STATIC_NAME, EMOMUSIC_FOLDERS), {f"mean_{target}": SCALE for target in TARGETS}
        task, ratings = Task("emomusic", "values", TARGETS, SCALE), read_ratings(SONG, columns, path)
    artists, official = read_clips(root)
    groups = join_recordings(artists)
    tested = {song for song, part in official.items() if part == EVALUATION}
    taken = {groups[song] for song in tested}  # artists and recordings, which may not be in another part
    free = [song for song in official if groups[song] not in taken]
    folds = assign_folds([groups[song] for song in free], count=VALIDATION_FOLDS)
    train, validation, test = PARTS
    part_of = {song: train if fold else validation for song, fold in zip(free, folds, strict=True)}
    part_of |= dict.fromkeys(tested, test)
    tracks = tuple(Track(song, f"{song}.mp3", CLIP_S, artists[song]) for song in ratings if song in part_of)
    rated, known, left_out = ratings.keys(), official.keys(), official.keys() - part_of.keys()
    why = f"their artist or recording is in the {EVALUATION} part"
    remarks = {
        f"songs of the {DEVELOPMENT} part are left out: {why}": len(rated & left_out),
        f"songs of {CLIPS_NAME} have no such annotation and are left out": len(known - rated),
        f"songs are not in {CLIPS_NAME}, so in no part, and are left out": len(rated - known),
        NAMELESS: _count_nameless(tracks),
        "songs are in DEAM too, under the same numbers: never train on one and test on the other": len(tracks),
        f"songs are in only one of {' and '.join(CURVE_NAMES)} and are left out": single,
    }
    targets = np.array([ratings[track.id] for track in tracks], np.float32)
    chosen = np.array([part_of[track.id] for track in tracks])
    parts = {part: np.flatnonzero(chosen == part) for part in PARTS}
    courses = tuple(curves[track.id] for track in tracks) if dynamic else None
    return Dataset(task, tracks, targets, parts, curves=courses, remarks=count_remarks(remarks))


def read_clips(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Artist and official part (``development`` or ``evaluation``) of emoMusic's songs, from ``songs_info.csv``."""
    path = find_file(root, CLIPS_NAME, EMOMUSIC_FOLDERS)
    official = {song: part.strip() for song, part in read_texts(SONG, PART, path).items()}
    for line, part in enumerate(official.values(), start=2):
        if part not in (DEVELOPMENT, EVALUATION):
            raise DataError(f"{path}, line {line}: {part!r} is neither {DEVELOPMENT!r} nor {EVALUATION!r}")
    return read_artists(SONG, "Artist", path, run_on=True), official


def read_curves(root: Path) -> tuple[dict[str, Curve], int]:
    """The curves of emoMusic's songs that have both, by their number, and how many songs have only one."""
    paths = [find_file(root, name, EMOMUSIC_FOLDERS) for name in CURVE_NAMES]
    times, others = (_read_times(path) for path in paths)
    if times.keys() != others.keys():
        raise DataError(f"{paths[0]} and {paths[1]}: their columns are not for the same times")
    valence, arousal = (read_ratings(SONG, dict.fromkeys(times.values(), CURVE_SCALE), path) for path in paths)
    times_s = np.array([*times], np.float32)
    curves = {
        song: Curve(times_s, np.stack([row, arousal[song]], axis=1).astype(np.float32))
        for song, row in valence.items()
        if song in arousal
    }
    return curves, len(valence.keys() ^ arousal.keys())


def _read_times(path: Path) -> dict[float, str]:
    """Columns by their time in seconds, ``sample_15500ms`` by 15.5, in increasing order."""
    found = (re.fullmatch(r"sample_(\d+)ms", name) for name in read_header(path))
    times = {int(match[1]) / 1000: match[0] for match in found if match}
    if not times:
        raise DataError(f"{path}: no column 'sample_15000ms' or for any other time")
    return dict(sorted(times.items()))


def load_pmemo(root: Path, split: int = 0, _: str | None = None, *, dynamic: bool = False) -> Dataset:
    """Load valence and arousal of each song, 0 ... 1, in 10 folds grouped by artist; if `dynamic` their curves."""
    table = find_file(root, MOMENTS_NAME if dynamic else STATIC_NAME, PMEMO_FOLDERS)
    curves = read_moments(table) if dynamic else {}
    ratings = average_curves(curves) if dynamic else read_ratings(PMEMO_SONG, PMEMO_VALUES, table)
    name, rate_hz = ("pmemo-dynamic", RATE_HZ) if dynamic else ("pmemo", None)
    task, targets = Task(name, "values", TARGETS, PMEMO_SCALE, rate_hz), np.array([*ratings.values()], np.float32)
    path = find_file(root, POP_NAME, (".", "PMEmo2019"))
    durations = read_ratings(PMEMO_SONG, {"duration": (0.0, math.inf)}, path)
    artists = read_artists(PMEMO_SONG, "artist", path)
    lengths_s = {song: float(row[0]) for song, row in durations.items()}
    artists |= {song: f"unknown:{song}" for song in ratings if song not in artists}
    # Folds of all songs, annotated or not, so that both tasks have the same.
    fold_of = dict(zip(artists, assign_folds([*artists.values()]), strict=True))
    tracks = tuple(Track(song, f"{song}.mp3", lengths_s.get(song), artists[song]) for song in ratings)
    unused = f"of {len(durations)} songs in {POP_NAME} have no such annotation and are left out"
    remarks = count_remarks({unused: len(durations.keys() - ratings.keys()), NAMELESS: _count_nameless(tracks)})
    parts = make_parts(np.array([fold_of[song] for song in ratings]), split)
    return Dataset(task, tracks, targets, parts, curves=tuple(curves.values()) or None, remarks=remarks)


def read_moments(path: Path) -> dict[str, Curve]:
    """PMEmo's curves by song, from a table with a line per moment, wherever a song's lines are."""
    moments: dict[str, list[list[float]]] = {}
    for line, song, row in _read_rows(path, PMEMO_SONG, {"frameTime": (0.0, math.inf), **PMEMO_VALUES}):
        earlier = moments.setdefault(song, [])
        if earlier and np.float32(row[0]) <= np.float32(earlier[-1][0]):
            raise DataError(f"{path}, line {line}: {row[0]:g} s of song {song} comes after {earlier[-1][0]:g} s")
        earlier.append(row)
    tables = {song: np.array(rows, np.float32) for song, rows in moments.items()}
    return {song: Curve(table[:, 0], table[:, 1:]) for song, table in tables.items()}


def find_file(root: Path, name: str, folders: Sequence[str]) -> Path:
    """Find a file in the first of `folders` below `root` that has it; `DataError` if none has."""
    for folder in folders:
        if (path := root / folder / name).is_file():
            return path
    tried = ", ".join(str(root / folder) for folder in folders)
    raise DataError(f"{name}: no such file (looked in {tried})")


def read_header(path: Path) -> list[str]:
    """The names of a table's columns, without the spaces around them."""
    return [cell.strip() for cell in read_table(path, ())[0]]


def read_ratings(song: str, columns: Mapping[str, Scale], *paths: Path) -> Ratings:
    """Read numbers of songs from one or more tables, in their order; no song may be there twice.

    `song` is the column with the song's number, `columns` are those to read, each with the lowest and highest number
    allowed in it.
    """
    ratings, places = Ratings(), dict[str, str]()
    for path in paths:
        for line, name, row in _read_rows(path, song, columns):
            if name in places:
                raise DataError(f"{path}, line {line}: song {name} again, it was in {places[name]}")
            ratings[name], places[name] = np.array(row), f"{path.name}, line {line}"
    return ratings


def _read_rows(path: Path, song: str, columns: Mapping[str, Scale]) -> Iterator[tuple[int, str, list[float]]]:
    """Line, song and numbers of each row."""
    rows = read_columns(path, (song, *columns))
    if not rows:
        raise DataError(f"{path}: the table has no songs")
    for line, row in enumerate(rows, start=2):
        name, where = row[song].strip(), f"{path}, line {line}, "
        if not name.isdecimal():
            raise DataError(f"{where}{song}: {row[song]!r} is not a song's number")
        yield line, name, [read_number(row[column], scale, where + column) for column, scale in columns.items()]


def read_texts(song: str, column: str, *paths: Path) -> dict[str, str]:
    """Read the cells of a column as they are written, by the song's number."""
    rows = (row for path in paths for row in read_columns(path, (column,)))
    return {name: row[column] for name, row in zip(read_ratings(song, {}, *paths), rows, strict=True)}


def read_artists(song: str, column: str, *paths: Path, run_on: bool = False) -> dict[str, str]:
    """Artists by song, from a column: one name for those that share a performer, ``unknown:SONG`` for none.

    With `run_on` a title may follow the name after a hyphen, as in the tables of MediaEval's songs: ``kevin
    macleod-night on the docks`` is by ``kevin macleod``. A name stays whole if no other shares what comes before its
    hyphen.
    """
    written = read_texts(song, column, *paths)
    names = [" ".join(html.unescape(name).split()).casefold() for name in written.values()]
    if run_on:
        heads = {name: name.partition("-")[0].strip() for name in names}
        shared = Counter(heads.values())
        names = [heads[name] if shared[heads[name]] > 1 else name for name in names]
    joined = join_artists(["" if name in NO_NAMES else name for name in names])
    return {number: name or f"unknown:{number}" for number, name in zip(written, joined, strict=True)}


def _count_nameless(tracks: Sequence[Track]) -> int:
    return sum(track.artist == f"unknown:{track.id}" for track in tracks)


def average_curves(curves: Mapping[str, Curve]) -> Ratings:
    """The mean of each song's curve."""
    return {song: curve.values.mean(axis=0, dtype=np.float64) for song, curve in curves.items()}


def join_recordings(artists: Mapping[str, str]) -> dict[str, str]:
    """Groups by song that no two parts may share: artists, joined if they share a recording."""
    groups = dict(artists)
    for one, other in SAME_RECORDINGS:
        if one in groups and other in groups:
            joined, old = groups[one], groups[other]
            groups = {song: joined if group == old else group for song, group in groups.items()}
    return groups


_DEAM = DataSource(
    load_deam,
    predicts="valence and arousal of songs",
    files=(*DEAM_NAMES, *DEAM_SONGS_NAMES),
    annotations="http://cvml.unige.ch/databases/DEAM/ (DEAM_Annotations.zip, metadata.zip)",
    audio="DEAM_audio.zip: `jamendo-mood extract MEMD_audio`; none needed with "
    f"{FEATURES_NAME} ({SONG}, then the mean of each feature)",
    licence="for research only; audio: each song's own Creative Commons licence",
    citation="A. Aljanaki, Y.-H. Yang, M. Soleymani: Developing a benchmark for emotional analysis of music. PLOS ONE "
    "12(3), 2017; songs 2 to 1000 are those of M. Soleymani et al.: 1000 Songs for Emotional Analysis of Music. "
    "CrowdMM 2013",
)
_EMOMUSIC = DataSource(
    load_emomusic,
    predicts="valence and arousal of clips",
    files=(f"annotations/{STATIC_NAME}", f"annotations/{CLIPS_NAME}"),
    annotations="http://cvml.unige.ch/databases/emoMusic/ (annotations.tar.gz)",
    audio="`clips_45seconds/` of the same page: `jamendo-mood extract clips_45seconds`",
    licence="for research only; audio: Creative Commons licences of the Free Music Archive's songs",
    citation="M. Soleymani, M. N. Caro, E. M. Schmidt, C.-Y. Sha, Y.-H. Yang: 1000 Songs for Emotional Analysis of "
    "Music. ACM International Workshop on Crowdsourcing for Multimedia (CrowdMM) 2013",
    splits=1,
    official=True,
)
_PMEMO = DataSource(
    load_pmemo,
    predicts="valence and arousal of pop songs",
    files=(f"annotations/{STATIC_NAME}", POP_NAME),
    annotations="https://github.com/HuiZhangDB/PMEmo (dataset/PMEmo2019)",
    audio="`chorus/` of the authors' archive: `jamendo-mood extract PMEmo2019/chorus`",
    licence="for research only; the songs are under their owners' copyright",
    citation="K. Zhang, H. Zhang, S. Li, C. Yang, L. Sun: The PMEmo Dataset for Music Emotion Recognition. "
    "International Conference on Multimedia Retrieval (ICMR) 2018",
)
SOURCES = {
    "pmemo": _PMEMO,
    "pmemo-dynamic": replace(
        _PMEMO,
        load=partial(load_pmemo, dynamic=True),
        predicts=f"{_PMEMO.predicts}, twice a second",
        files=(f"annotations/{MOMENTS_NAME}", POP_NAME),
    ),
    "emomusic": _EMOMUSIC,
    "emomusic-dynamic": replace(
        _EMOMUSIC,
        load=partial(load_emomusic, dynamic=True),
        predicts=f"{_EMOMUSIC.predicts}, twice a second",
        files=tuple(f"annotations/{name}" for name in (*CURVE_NAMES, CLIPS_NAME)),
    ),
    "deam": _DEAM,
    "deam-corrected": replace(
        _DEAM,
        load=partial(load_deam, corrected=True),
        predicts=f"{_DEAM.predicts}, with two columns corrected",
    ),
}
