"""PMEmo in its authors' format, small and real."""

import numpy as np
import pytest
from test_loaders import parts_by_id
from toy_affect_sets import POP, UNANNOTATED, UNLISTED, curve_values, make_values, pop_moments, write_pmemo

from jamendo_mood.datasets import load_dataset, pmemo
from jamendo_mood.util.errors import DataError

SONGS = [song for song, _, _ in POP if song not in UNANNOTATED] + [UNLISTED]
TASKS = ("pmemo", "pmemo-dynamic")


def test_static_values_are_those_of_the_table_valence_first(tmp_path):
    dataset = load_dataset("pmemo", write_pmemo(tmp_path))
    assert (dataset.task.targets, dataset.task.scale, dataset.task.rate_hz) == (("valence", "arousal"), (0, 1), None)
    assert [track.id for track in dataset.tracks] == SONGS
    np.testing.assert_array_equal(dataset.targets, np.float32([make_values(song, 0, 1) for song in SONGS]))
    assert dataset.curves is None


def test_curves_begin_where_the_table_says_and_targets_are_their_means(tmp_path):
    dataset = load_dataset("pmemo-dynamic", write_pmemo(tmp_path))
    assert dataset.task.rate_hz == 2
    assert len(dataset.curves) == len(SONGS)
    for song, curve, targets in zip(SONGS, dataset.curves, dataset.targets, strict=True):
        expected = curve_values(song, 0, 1, pop_moments(song))
        np.testing.assert_array_equal(curve.times_s, 15.5 + np.arange(len(expected)) / 2)
        np.testing.assert_array_equal(curve.values, expected.astype(np.float32))
        np.testing.assert_allclose(targets, expected.mean(axis=0), rtol=1e-6)


def test_tracks_are_known_by_their_clip(tmp_path):
    tracks = {track.id: track for track in load_dataset("pmemo", write_pmemo(tmp_path)).tracks}
    assert (tracks["1"].audio, tracks["1"].key, tracks["1"].duration_s) == ("1.mp3", "1", 32.1)
    assert tracks["4"].artist == tracks["5"].artist == "21 lines"
    assert tracks["6"].artist == "방탄소년단"
    assert (tracks["12"].artist, tracks[UNLISTED].artist) == ("unknown:12", "unknown:99")
    assert tracks[UNLISTED].duration_s is None


@pytest.mark.parametrize("task", TASKS)
def test_what_is_left_out_or_not_known_is_told(task, tmp_path):
    assert load_dataset(task, write_pmemo(tmp_path)).remarks == (
        "2 of 15 songs in metadata.csv have no such annotation and are left out",
        "2 of 14 songs have no artist in metadata.csv: each counts as an artist of its own",
    )


def test_both_tasks_have_the_same_parts(tmp_path):
    write_pmemo(tmp_path)
    for split in range(10):
        static, dynamic = (load_dataset(task, tmp_path, split=split) for task in TASKS)
        assert parts_by_id(static) == parts_by_id(dynamic)


def test_folds_do_not_depend_on_which_songs_are_annotated(tmp_path):
    before = parts_by_id(load_dataset("pmemo", write_pmemo(tmp_path)))
    path = tmp_path / "annotations/static_annotations.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("8,")) + "\n")
    after = parts_by_id(load_dataset("pmemo", tmp_path))
    assert after == {song: part for song, part in before.items() if song != "8"}


@pytest.mark.parametrize("task", TASKS)
def test_the_folder_above_will_do(task, tmp_path):
    write_pmemo(tmp_path / "PMEmo2019")
    assert len(load_dataset(task, tmp_path).tracks) == len(SONGS)


@pytest.mark.parametrize(
    ("task", "name", "old", "new", "message"),
    [
        ("pmemo", "annotations/static_annotations.csv", "Valence(mean)", "Valence", r"no column 'Valence\(mean\)'"),
        ("pmemo", "annotations/static_annotations.csv", "\n4,", "\n1,", "line 3: song 1 again"),
        ("pmemo", "annotations/static_annotations.csv", "\n4,0", "\n4,1", r"line 3, Arousal\(mean\): '1.*from 0 to 1"),
        ("pmemo-dynamic", "annotations/dynamic_annotations.csv", ",16.0,", ",15.0,", "15 s of song 1 comes after 15.5"),
        ("pmemo-dynamic", "annotations/dynamic_annotations.csv", ",16.0,0", ",16.0,nan0", r"line 3, Arousal.*'nan0"),
        ("pmemo", "metadata.csv", ",32.1,", ",long,", "line 2, duration: 'long'"),
        ("pmemo", "metadata.csv", ",artist,", ",by,", "no column 'artist'"),
    ],
)
def test_a_damaged_file_is_refused_with_name_and_place(task, name, old, new, message, tmp_path):
    path = write_pmemo(tmp_path) / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=rf"{path.name}.*{message}"):
        load_dataset(task, tmp_path)


@pytest.mark.shared
def test_the_real_pmemo_has_767_songs_by_393_artists(shared):
    root = shared / "data/annotations/PMEmo2019"
    assert len(pmemo.read_songs(root)) == 794
    static, dynamic = (load_dataset(task, root) for task in TASKS)
    assert len(static.tracks) == len(dynamic.tracks) == len(dynamic.curves) == 767
    assert len({track.artist for track in static.tracks}) == 393
    assert parts_by_id(static) == parts_by_id(dynamic)
    assert static.remarks == ("27 of 794 songs in metadata.csv have no such annotation and are left out",)
    first = static.tracks.index(next(track for track in static.tracks if track.id == "1"))
    np.testing.assert_allclose(static.targets[first], [0.575, 0.4])
    assert {float(curve.times_s[0]) for curve in dynamic.curves} == {15.5}
    assert {float(step) for curve in dynamic.curves for step in np.diff(curve.times_s)} == {0.5}
