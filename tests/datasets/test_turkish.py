"""Turkish Music Emotion, on a small table in its format and on the real one."""

import numpy as np
import pytest
from test_loaders import check_conformance, spoil
from toy_class_sets import TURKISH_CLIPS, TURKISH_DOUBLES, turkish_class, turkish_numbers, write_turkish

from jamendo_mood.datasets import load_dataset, turkish
from jamendo_mood.training.data import choose_embeddings, load_part
from jamendo_mood.util.errors import DataError


def test_features_stand_in_for_embeddings(tmp_path):
    dataset = load_dataset("turkish", write_turkish(tmp_path))
    assert (dataset.task.kind, dataset.task.targets) == ("classes", turkish.CLASSES)
    assert dataset.embeddings.spec.dim == len(turkish.FEATURES) == 50
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
    lines = (write_turkish(tmp_path) / turkish.TABLE_NAME).read_text().splitlines(keepends=True)
    lines[6] = lines[6].replace('"relax"', '"angry"')
    (tmp_path / turkish.TABLE_NAME).write_text("".join(lines))
    assert len(load_dataset("turkish", tmp_path).tracks) == TURKISH_CLIPS - 1


FIRST = str(turkish_numbers()[0, 3]).encode()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"happy"', b'"merry"', r"Features\.csv, line 3: 'merry' is not one of the classes relax, happy, sad, angry"),
        (FIRST, b"fast", r"Features\.csv, line 2, _Tempo_Mean: 'fast' is not a finite number"),
        (FIRST, b"nan", r"Features\.csv, line 2, _Tempo_Mean: 'nan' is not a finite number"),
        (FIRST, b"", r"Features\.csv, line 2, _Tempo_Mean: '' is not a finite number"),
        (b"_Tempo_Mean", b"Tempo", r"Features\.csv: no column '_Tempo_Mean'"),
    ],
    ids=["class", "word", "nan", "empty", "column"],
)
def test_damage_is_named_with_its_line_and_column(tmp_path, old, new, message):
    spoil(write_turkish(tmp_path) / turkish.TABLE_NAME, old, new)
    with pytest.raises(DataError, match=message):
        load_dataset("turkish", tmp_path)


@pytest.mark.shared
@pytest.mark.parametrize("split", [0, 9])
def test_the_original_conforms(shared, split):
    dataset = load_dataset("turkish", shared / "data" / "annotations" / "Turkish", split=split)
    check_conformance(dataset)
    assert dataset.targets.sum(axis=0).tolist() == [97, 96, 98, 97]
    assert len(dataset.tracks) == 388
    assert dataset.remarks[0] == "12 rows are equal to an earlier one and left out"
    assert dataset.embeddings["001"][0, :4].tolist() == np.array([0.052, 0.591, 9.136, 130.043], np.float32).tolist()
    assert set(dataset.targets[dataset.rows("test")].sum(axis=0)) <= {9, 10}


@pytest.mark.shared
def test_no_clip_of_the_original_is_in_two_parts(shared):
    dataset = load_dataset("turkish", shared / "data" / "annotations" / "Turkish")
    assert len({dataset.embeddings[track.key].tobytes() for track in dataset.tracks}) == 388
