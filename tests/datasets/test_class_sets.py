"""The data sets of classes, on small folders in their formats and on the real files."""

from collections import Counter

import numpy as np
import pytest
from test_loaders import check_conformance, spoil
from toy_class_sets import (
    CLIPS,
    TURKISH_CLIPS,
    TURKISH_DOUBLES,
    WRITERS,
    quadrant_song,
    turkish_class,
    turkish_numbers,
    write_mirex,
    write_quadrants,
    write_turkish,
)

from jamendo_mood.datasets import class_sets, load_dataset
from jamendo_mood.training.data import choose_embeddings, load_part
from jamendo_mood.util.errors import DataError

METADATA = class_sets.METADATA_NAME
LIST, INFO = ("mirex", "clusters.txt"), ("mirex", "dataset info.csv")
FIRST, SECOND = ("quadrant", class_sets.ANNOTATIONS_NAME), ("quadrant", METADATA)
FEATURES = ("turkish", class_sets.FEATURES_NAME)
SONG, LAST = quadrant_song(1).encode(), quadrant_song(CLIPS - 1).encode()
TEMPO = str(turkish_numbers()[0, 3]).encode()
FOLDERS = {"mirex": "MIREX-like", "quadrant": "4Q", "turkish": "Turkish"}


def utf16(text):
    return text.encode("utf-16-le")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (LIST, b"Cluster 4", b"Cluster 6", r"clusters\.txt, line 4: 'Cluster 6' is not one of the classes"),
        (LIST, b"Cluster 4\n", b"", rf"clusters\.txt: {CLIPS - 1} lines for the {CLIPS} clips of dataset"),
        (LIST, b"Cluster 4", b"Cluster \xff", r"clusters\.txt, line 4: cannot be read.*not UTF-8"),
        (INFO, utf16("005.mp3"), utf16("006.mp3"), r"csv, line 6: '006\.mp3' where 005\.mp3 was exp"),
        (INFO, utf16(";30;"), utf16(";0:3;"), r"csv, line 2, Length: '0:3' is not a finite number"),
        (INFO, utf16("Song 2;"), utf16("Song 2"), r"csv, line 3: 9 cells, at least 10 are needed"),
        (INFO, utf16("Title;"), utf16("Song;"), r"csv: not the expected table, its first line must be T"),
        (INFO, b"\xff\xfe", b"", r"csv: cannot be read as a table"),
        (FIRST, SONG + b",Q4", SONG + b",Q5", r"annotations\.csv, line 3: 'Q5' is not one of the classes Q1, Q2"),
        (FIRST, SONG + b",Q4", SONG + b",Q1", r"metadata\.csv: 'MT0000007919' is Q1 in the first and Q4 in the second"),
        (FIRST, SONG, b"MT01", r"metadata\.csv: 'MT01' is Q4 in the first and missing in the second"),
        (FIRST, SONG, SONG + b",Q4\r\n" + SONG, r"annotations\.csv, line 4: 'MT0000007919' is there twice"),
        (SECOND, b'"%b"' % LAST, b'"%b"' % SONG, r"metadata\.csv, line 25: 'MT0000007919' is there twice"),
        (SECOND, SONG, b"MT01", r"metadata\.csv: 'MT0000007919' is Q4 in the first and missing in the second"),
        (SECOND, b'"Artist"', b'"Band"', r"metadata\.csv: no column 'Artist'"),
        (FIRST, b"Quadrant", b"Class", r"annotations\.csv: no column 'Quadrant'"),
        (FEATURES, b'"happy"', b'"merry"', r"Features\.csv, line 3: 'merry' is not one of the classes relax, happy"),
        (FEATURES, TEMPO, b"fast", r"Features\.csv, line 2, _Tempo_Mean: 'fast' is not a finite number"),
        (FEATURES, TEMPO, b"nan", r"Features\.csv, line 2, _Tempo_Mean: 'nan' is not a finite number"),
        (FEATURES, b"_Tempo_Mean", b"Tempo", r"Features\.csv: no column '_Tempo_Mean'"),
    ],
)
def test_damage_is_named_with_its_file_and_place(tmp_path, file, old, new, message):
    task, name = file
    spoil(WRITERS[task](tmp_path) / name, old, new)
    with pytest.raises(DataError, match=message):
        load_dataset(task, tmp_path)


@pytest.fixture
def original(shared):
    """Load a split of the real data."""
    return lambda task, split=0: load_dataset(task, shared / "data/annotations" / FOLDERS[task], split=split)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("task", "counts", "sizes"),
    [
        ("mirex", [170, 164, 215, 191, 163], (90, 91)),
        ("quadrant", [225] * 4, (89, 90, 91)),
        ("turkish", [97, 96, 98, 97], (36, 37, 38, 39, 40)),
    ],
)
@pytest.mark.parametrize("split", [0, 9])
def test_the_originals_conform(original, task, split, counts, sizes):
    dataset = original(task, split)
    check_conformance(dataset)
    assert dataset.targets.sum(axis=0).tolist() == counts
    of_test = dataset.targets[dataset.rows("test")].sum(axis=0)
    assert of_test.sum() in sizes
    assert (abs(of_test - np.array(counts) / 10) <= 1).all()


@pytest.mark.shared
def test_artists_and_clips_of_the_originals_are_counted(original):
    dataset = original("mirex")
    assert [track.audio for track in dataset.tracks] == [f"{number:03d}.mp3" for number in range(1, 904)]
    artists = Counter(track.artist for track in dataset.tracks)
    assert len(artists) == 632 + 6
    assert artists.most_common(1)[0][1] == 8
    assert dataset.tracks[781].artist == "x [1]"
    assert dataset.tracks[41].artist == dataset.tracks[3].artist  # a slash and a hyphen
    assert dataset.remarks[0].startswith("6 tracks have no artist")
    dataset = original("quadrant")
    assert dataset.tracks[0].audio == "Q3/MT0000004637.mp3"
    assert len({track.artist for track in dataset.tracks}) == 656 + 3  # three clips come without one
    dataset = original("turkish")
    assert dataset.remarks[0] == "12 rows are equal to an earlier one and left out"
    assert dataset.embeddings["001"][0, :4].tolist() == np.array([0.052, 0.591, 9.136, 130.043], np.float32).tolist()
    assert len({dataset.embeddings[track.key].tobytes() for track in dataset.tracks}) == len(dataset.tracks) == 388


def test_line_i_is_clip_i(tmp_path):
    clusters = [class_sets.CLUSTERS[number] for number in np.random.default_rng(0).integers(0, 5, 40)]
    dataset = load_dataset("mirex", write_mirex(tmp_path, clusters))
    assert (dataset.task.kind, dataset.task.targets) == ("classes", class_sets.CLUSTERS)
    assert [track.audio for track in dataset.tracks] == [f"{number:03d}.mp3" for number in range(1, 41)]
    assert dataset.tracks[8].key == dataset.tracks[8].id == "009"
    assert {track.duration_s for track in dataset.tracks} == {30.0}
    assert [class_sets.CLUSTERS[number] for number in dataset.targets.argmax(axis=1)] == clusters


def test_artists_are_known_by_any_spelling_and_behind_any_title(tmp_path):
    dataset = load_dataset("mirex", write_mirex(tmp_path))
    artist = {track.id: track.artist for track in dataset.tracks}
    assert artist["004"] == artist["005"] == "anna blue & the greens"
    assert artist["006"] == artist["008"] == "reds"
    assert artist["010"] == artist["011"]
    assert artist["007"] == "artist 07"  # a semicolon is in its title
    assert artist["009"] == "009.mp3"  # none is given
    assert artist["012"] == "björk ünal"
    assert dataset.remarks == (
        "1 tracks have no artist: each counts as an artist of its own",
        "23 names stand for 20 artists, as some share a performer",
    )


def test_clips_have_their_quadrant_and_the_place_where_they_are_published(tmp_path):
    dataset = load_dataset("quadrant", write_quadrants(tmp_path))
    assert (dataset.task.kind, dataset.task.targets) == ("classes", ("Q1", "Q2", "Q3", "Q4"))
    for clip, (track, row) in enumerate(zip(dataset.tracks, dataset.targets, strict=True)):
        quadrant = f"Q{clip * 3 % 4 + 1}"
        assert track.id == quadrant_song(clip)
        assert track.audio == f"{quadrant}/{track.id}.mp3"
        assert dataset.task.targets[row.argmax()] == quadrant


def test_artists_come_from_the_other_table(tmp_path):
    dataset = load_dataset("quadrant", write_quadrants(tmp_path))
    artists = [track.artist for track in dataset.tracks]
    assert artists[1] == "artist 01"
    assert artists[2] == quadrant_song(2)  # none is given
    assert artists[3] == artists[4] == "lee tan"
    assert dataset.remarks == (
        "1 tracks have no artist: each counts as an artist of its own",
        f"{CLIPS - 1} names stand for {CLIPS - 2} artists, as some share a performer",
    )


def test_rows_may_be_in_another_order_in_the_other_table(tmp_path):
    expected = load_dataset("quadrant", write_quadrants(tmp_path))
    header, *rows = (tmp_path / METADATA).read_bytes().splitlines(keepends=True)
    (tmp_path / METADATA).write_bytes(b"".join([header, *rows[::-1]]))
    assert load_dataset("quadrant", tmp_path).tracks == expected.tracks


def test_features_stand_in_for_embeddings(tmp_path):
    dataset = load_dataset("turkish", write_turkish(tmp_path))
    assert (dataset.task.kind, dataset.task.targets) == ("classes", class_sets.TURKISH_CLASSES)
    assert dataset.embeddings.spec.dim == len(class_sets.FEATURES) == 50
    numbers = turkish_numbers().astype(np.float32)
    for track, row in zip(dataset.tracks, dataset.targets, strict=True):
        line = int(track.key) - 1
        np.testing.assert_array_equal(dataset.embeddings[track.key], numbers[[line]])
        assert dataset.task.targets[row.argmax()] == turkish_class(line)
    assert len(dataset.embeddings) == len(dataset.tracks) == len({*dataset.embeddings})
    assert "006" not in dataset.embeddings
    examples = load_part(dataset, "test", choose_embeddings(dataset, None))
    assert len(examples) == len(dataset.rows("test"))


def test_of_equal_rows_the_first_is_kept_and_a_user_is_told(tmp_path):
    dataset = load_dataset("turkish", write_turkish(tmp_path))
    left = [row for row in range(TURKISH_CLIPS) if row not in TURKISH_DOUBLES]
    assert [track.id for track in dataset.tracks] == [f"{row + 1:03d}" for row in left]
    assert dataset.remarks[0] == "2 rows are equal to an earlier one and left out"


def test_equal_features_of_two_classes_are_two_clips(tmp_path):
    """Only a row that is equal in all its cells says nothing new."""
    lines = (write_turkish(tmp_path) / class_sets.FEATURES_NAME).read_text().splitlines(keepends=True)
    lines[6] = lines[6].replace('"relax"', '"angry"')
    (tmp_path / class_sets.FEATURES_NAME).write_text("".join(lines))
    assert len(load_dataset("turkish", tmp_path).tracks) == TURKISH_CLIPS - 1
