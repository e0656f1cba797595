"""4Q, on a small folder in its format and on the real files."""

import pytest
from test_loaders import check_conformance, spoil
from toy_class_sets import CLIPS, quadrant_song, write_quadrants

from jamendo_mood.datasets import load_dataset, quadrants
from jamendo_mood.util.errors import DataError

ANNOTATIONS, METADATA = quadrants.ANNOTATIONS_NAME, quadrants.METADATA_NAME


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


SONG = quadrant_song(1).encode()
LAST = quadrant_song(CLIPS - 1).encode()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (ANNOTATIONS, SONG + b",Q4", SONG + b",Q5", r"annotations\.csv, line 3: 'Q5' is not one of the classes Q1, Q2"),
        (ANNOTATIONS, SONG + b",Q4", SONG + b",Q1", r"metadata\.csv, line 3: 'MT0000007919' is 'Q4' here, and is 'Q1'"),
        (
            ANNOTATIONS,
            SONG,
            b"MT01",
            r"metadata\.csv, line 3: 'MT0000007919' is 'Q4' here, and is not in .*annotations",
        ),
        (
            ANNOTATIONS,
            SONG + b",Q4",
            SONG + b",Q4\r\n" + SONG + b",Q4",
            r"annotations\.csv: 'MT0000007919' is there twice",
        ),
        (METADATA, b'"%b"' % LAST, b'"%b"' % SONG, r"metadata\.csv, line 25: 'MT0000007919' is 'Q2' here, and is 'Q4'"),
        (METADATA, b'"Artist"', b'"Band"', r"metadata\.csv: no column 'Artist'"),
        (ANNOTATIONS, b"Quadrant", b"Class", r"annotations\.csv: no column 'Quadrant'"),
    ],
    ids=["class", "disagreement", "unknown", "twice", "wrong song", "no artists", "no quadrants"],
)
def test_damage_is_named_with_its_file_and_line(tmp_path, name, old, new, message):
    spoil(write_quadrants(tmp_path) / name, old, new)
    with pytest.raises(DataError, match=message):
        load_dataset("quadrant", tmp_path)


def test_a_song_must_be_in_both_tables_once(tmp_path):
    header, *rows = (write_quadrants(tmp_path) / METADATA).read_bytes().splitlines(keepends=True)
    (tmp_path / METADATA).write_bytes(b"".join([header, *rows[:-1]]))
    with pytest.raises(DataError, match=rf"annotations\.csv, line 25: '{LAST.decode()}' is not in panda_.*metadata"):
        load_dataset("quadrant", tmp_path)
    (tmp_path / METADATA).write_bytes(b"".join([header, *rows, rows[4]]))
    with pytest.raises(DataError, match=rf"metadata\.csv, line 26: '{quadrant_song(4)}' is there twice"):
        load_dataset("quadrant", tmp_path)


@pytest.mark.shared
@pytest.mark.parametrize("split", [0, 9])
def test_the_original_conforms(shared, split):
    dataset = load_dataset("quadrant", shared / "data" / "annotations" / "4Q", split=split)
    check_conformance(dataset)
    assert dataset.targets.sum(axis=0).tolist() == [225] * 4
    assert dataset.tracks[0].audio == "Q3/MT0000004637.mp3"
    assert len({track.artist for track in dataset.tracks}) == 656 + 3  # three clips come without one
    test = dataset.targets[dataset.rows("test")]
    assert len(test) in (89, 90, 91)
    assert set(test.sum(axis=0)) <= {22, 23}
