"""emoMusic in its authors' format, small and real."""

from collections import Counter

import numpy as np
import pytest
from test_loaders import parts_by_id, replace_in
from toy_affect_sets import CLIPS, TIMES_MS, curve_values, make_values, write_emomusic

from jamendo_mood.datasets import emomusic, load_dataset
from jamendo_mood.util.errors import DataError, UsageError

TASKS = ("emomusic", "emomusic-dynamic")
SONGS = [
    song for song, _, _ in CLIPS if song not in ("2", "631")
]  # their artist or recording is in the evaluation part


def test_static_values_are_those_of_the_table_valence_first(tmp_path):
    dataset = load_dataset("emomusic", write_emomusic(tmp_path))
    assert (dataset.task.targets, dataset.task.scale, dataset.task.rate_hz) == (("valence", "arousal"), (1, 9), None)
    assert [track.id for track in dataset.tracks] == SONGS
    np.testing.assert_array_equal(dataset.targets, np.float32([make_values(song, 1, 9) for song in SONGS]))


def test_curves_begin_at_15_s_and_targets_are_their_means(tmp_path):
    dataset = load_dataset("emomusic-dynamic", write_emomusic(tmp_path))
    assert (dataset.task.scale, dataset.task.rate_hz) == ((-1, 1), 2)
    assert [track.id for track in dataset.tracks] == SONGS
    for song, curve, targets in zip(SONGS, dataset.curves, dataset.targets, strict=True):
        expected = curve_values(song, -1, 1, len(TIMES_MS))
        np.testing.assert_array_equal(curve.times_s, np.array(TIMES_MS) / 1000)
        np.testing.assert_array_equal(curve.values, expected.astype(np.float32))
        np.testing.assert_allclose(targets, expected.mean(axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("target", ["valence", "arousal"])
def test_curves_are_joined_by_number_and_columns_by_time(target, tmp_path):
    before = load_dataset("emomusic-dynamic", write_emomusic(tmp_path))
    path = tmp_path / f"annotations/{target}_cont_average.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    reversed_lines = [lines[0], *lines[:0:-1]]
    path.write_text("".join(",".join([cells[0], *cells[:0:-1]]) + "\n" for cells in reversed_lines))
    after = load_dataset("emomusic-dynamic", tmp_path)
    curves = {track.id: curve for track, curve in zip(after.tracks, after.curves, strict=True)}
    assert len(curves) == len(before.curves)
    for track, curve in zip(before.tracks, before.curves, strict=True):
        np.testing.assert_array_equal(curves[track.id].times_s, curve.times_s)
        np.testing.assert_array_equal(curves[track.id].values, curve.values)


def test_tracks_are_known_by_their_clip(tmp_path):
    tracks = {track.id: track for track in load_dataset("emomusic", write_emomusic(tmp_path)).tracks}
    assert (tracks["1000"].audio, tracks["1000"].key, tracks["1000"].duration_s) == ("1000.mp3", "1000", 45)
    assert (tracks["3"].artist, tracks["4"].artist) == ("the both sides", "testée")
    assert tracks["16"].artist == tracks["17"].artist == "adam run"
    assert tracks["18"].artist == "re-stoned"


def test_the_test_part_is_the_authors_and_none_of_its_artists_is_in_another(tmp_path):
    write_emomusic(tmp_path)
    parts, dynamic = (parts_by_id(load_dataset(task, tmp_path)) for task in TASKS)
    assert parts == dynamic
    assert {song for song, part in parts.items() if part == "test"} == {"3", "4", "893"}
    assert Counter(parts.values())["validation"] in (1, 2, 3)
    assert parts.keys() == {*SONGS}
    with pytest.raises(UsageError, match="split 1"):
        load_dataset("emomusic", tmp_path, split=1)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_left_out_is_told(task, tmp_path):
    remarks = load_dataset(task, write_emomusic(tmp_path)).remarks
    assert remarks[0].startswith("2 songs of the development part are left out")
    assert remarks[-1].startswith("18 songs are in DEAM too")
    assert len(remarks) == 2


def test_songs_that_one_file_lacks_are_told(tmp_path):
    write_emomusic(tmp_path)
    folder = tmp_path / "annotations"
    replace_in(folder / "static_annotations.csv", "\n5,", "\n1234,")
    replace_in(folder / "songs_info.csv", "Player 6\t", "\t")
    replace_in(folder / "valence_cont_average.csv", "\n7,", "\n1234,")
    remarks = " | ".join(load_dataset("emomusic", tmp_path).remarks)
    assert "1 songs of songs_info.csv have no such annotation" in remarks
    assert "1 songs are not in songs_info.csv" in remarks
    assert "1 songs have no artist" in remarks
    dynamic = load_dataset("emomusic-dynamic", tmp_path)
    assert any("2 songs are in only one of valence_cont" in remark for remark in dynamic.remarks)
    assert {track.id for track in dynamic.tracks} == {*SONGS} - {"7"}


def test_the_annotations_folder_itself_will_do(tmp_path):
    assert len(load_dataset("emomusic", write_emomusic(tmp_path) / "annotations").tracks) == len(SONGS)


@pytest.mark.parametrize(
    ("task", "name", "old", "new", "message"),
    [
        ("emomusic", "static_annotations.csv", "mean_valence", "valence", "no column 'mean_valence'"),
        ("emomusic", "static_annotations.csv", "\n4,", "\n3,", "line 4: song 3 again"),
        ("emomusic", "static_annotations.csv", "\n4,", "\n4,-", "line 4, mean_arousal: '-.*from 1 to 9"),
        ("emomusic", "songs_info.csv", '"evaluation"', '"test"', "line 3: 'test' is neither 'development' nor"),
        ("emomusic-dynamic", "arousal_cont_average.csv", "\n4,", "\n4,1", "line 4, sample_15000ms.*from -1 to 1"),
        ("emomusic-dynamic", "arousal_cont_average.csv", "_17000ms", "_18000ms", "not for the same times"),
        ("emomusic-dynamic", "valence_cont_average.csv", "song_id", "id", "no column 'song_id'"),
    ],
)
def test_a_damaged_file_is_refused_with_name_and_place(task, name, old, new, message, tmp_path):
    replace_in(write_emomusic(tmp_path) / "annotations" / name, old, new)
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        load_dataset(task, tmp_path)


def test_curves_without_times_are_refused(tmp_path):
    (write_emomusic(tmp_path) / "annotations/valence_cont_average.csv").write_text("song_id,a\n2,0.5\n")
    with pytest.raises(DataError, match=r"valence_cont_average\.csv: no column 'sample_15000ms'"):
        load_dataset("emomusic-dynamic", tmp_path)


@pytest.mark.shared
def test_the_real_emomusic_has_619_and_125_clips_of_which_233_are_left_out(shared):
    root = shared / "data/annotations/emoMusic"
    artists, parts = emomusic.read_songs(root)
    assert Counter(parts.values()) == {"development": 619, "evaluation": 125}
    assert len({*artists.values()}) == 389
    static, dynamic = (load_dataset(task, root) for task in TASKS)
    assert len(static.tracks) == 744 - 233
    assert static.tracks == dynamic.tracks
    assert parts_by_id(static) == parts_by_id(dynamic)
    assert static.remarks[0].startswith("233 songs of the development part")
    for song, part in parts_by_id(static).items():
        assert (part == "test") == (parts[song] == "evaluation")
    share = len(static.rows("validation")) / len(static.rows("train"))
    assert share == pytest.approx(1 / 7, abs=0.02)
    assert {len(curve.times_s) for curve in dynamic.curves} == {61}
    assert (dynamic.curves[0].times_s[0], dynamic.curves[0].times_s[-1]) == (15, 45)


@pytest.mark.shared
def test_the_real_curves_go_with_the_real_static_values_of_the_same_name(shared):
    root = shared / "data/annotations/emoMusic"
    static, dynamic = (load_dataset(task, root).targets for task in TASKS)
    for column in range(2):
        same, crossed = (np.corrcoef(static[:, column], dynamic[:, other])[0, 1] for other in (column, 1 - column))
        assert same > 0.9 > 0.7 > crossed
