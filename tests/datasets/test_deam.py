"""DEAM in its authors' format, small and real."""

import numpy as np
import pytest
from test_loaders import replace_in
from toy_affect_sets import FEATURES, SONGS_2013, SONGS_2014, SONGS_2015, make_values, write_deam

from jamendo_mood.datasets import deam, load_dataset
from jamendo_mood.embedders.registry import RELEASED
from jamendo_mood.util.errors import DataError

SONGS = [song for song, _ in SONGS_2013 + SONGS_2014 + SONGS_2015]
STATIC, LATER = deam.STATIC_NAMES
LAYOUTS = (
    "annotations/annotations averaged per song/song_level",
    "DEAM_Annotations/annotations/annotations_averaged_per_song/song_level",
)


def test_values_are_those_of_both_tables_by_name(tmp_path):
    dataset = load_dataset("deam", write_deam(tmp_path))
    assert (dataset.task.targets, dataset.task.scale, dataset.task.rate_hz) == (("valence", "arousal"), (1, 9), None)
    assert [track.id for track in dataset.tracks] == SONGS
    np.testing.assert_array_equal(dataset.targets, np.float32([make_values(song, 1, 9) for song in SONGS]))


def test_corrected_values_of_emomusics_songs_are_exchanged_and_no_others(tmp_path):
    published, corrected = (load_dataset(task, write_deam(tmp_path)) for task in ("deam", "deam-corrected"))
    assert corrected.tracks == published.tracks
    swapped = np.array([int(song) <= 1000 for song in SONGS])
    assert [deam.in_emomusic(song) for song in SONGS] == swapped.tolist()
    np.testing.assert_array_equal(corrected.targets[swapped], published.targets[swapped][:, ::-1])
    np.testing.assert_array_equal(corrected.targets[~swapped], published.targets[~swapped])
    assert "20 songs, those up to 1000, have valence and arousal exchanged: see deam-corrected" in published.remarks
    assert any("20 songs" in remark and "against the table" in remark for remark in corrected.remarks)


def test_artists_come_from_the_three_years_tables(tmp_path):
    tracks = {track.id: track for track in load_dataset("deam", write_deam(tmp_path)).tracks}
    assert tracks["5"].artist == tracks["1000"].artist == tracks["1001"].artist == "player 5"
    assert tracks["16"].artist == tracks["17"].artist == "adam run"
    assert (tracks["1002"].artist, tracks["2002"].artist) == ("rope & river", "amar, l.")
    assert (tracks["2"].audio, tracks["2"].key, tracks["2"].duration_s) == ("2.mp3", "2", 45)
    assert tracks["2001"].duration_s is None


def test_features_are_the_embeddings_one_row_a_song(tmp_path):
    embeddings = load_dataset("deam", write_deam(tmp_path)).embeddings
    assert set(embeddings) == set(SONGS)
    assert len(embeddings) == len(SONGS)
    expected = np.float32([make_values("1001", -5000, 5000, len(FEATURES))])
    np.testing.assert_array_equal(embeddings["1001"], expected)
    assert (embeddings.spec.name, embeddings.spec.weights_sha256) == ("opensmile", RELEASED)
    assert embeddings.spec.dim == len(FEATURES)


def test_without_features_there_are_no_embeddings_and_the_same_folds(tmp_path):
    before = load_dataset("deam", write_deam(tmp_path), split=3)
    (tmp_path / "opensmile_means.csv").unlink()
    after = load_dataset("deam", tmp_path, split=3)
    assert after.embeddings is None
    np.testing.assert_array_equal(after.rows("test"), before.rows("test"))


def test_what_is_left_out_or_not_known_is_told(tmp_path):
    write_deam(tmp_path)
    replace_in(tmp_path / "metadata_2014.csv", "\n2000,", "\n1999,")
    replace_in(tmp_path / "metadata_2015.csv", '"Amar, L."', "n/a")
    replace_in(tmp_path / "opensmile_means.csv", "\n2001,", "\n1999,")
    assert load_dataset("deam", tmp_path).remarks[:4] == (
        "1 songs of the metadata have no annotation and are left out",
        "2 songs have no artist in the metadata: each counts as an artist of its own",
        "1 songs are not in opensmile_means.csv",
        "20 songs are emoMusic's, under the same numbers: never train on one and test on the other",
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_archives_folders_will_do(layout, tmp_path):
    flat = write_deam(tmp_path / "flat")
    for folder, names in ((layout, deam.STATIC_NAMES), ("metadata", deam.SONGS_NAMES)):
        (tmp_path / "real" / folder).mkdir(parents=True)
        for name in names:
            (flat / name).rename(tmp_path / "real" / folder / name)
    assert len(load_dataset("deam", tmp_path / "real").tracks) == len(SONGS)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (STATIC, " valence_mean", " valence", "no column 'valence_mean'"),
        (STATIC, "\n4,", "\n3,", "line 4: song 3 again, it was in line 3"),
        (STATIC, "\n4,", "\n4,9", "line 4, valence_mean: '9.*from 1 to 9"),
        (LATER, "\n2002,", "\n2000,", f"line 3: song 2000 again, it was in {STATIC}"),
        (LATER, "\n2002,", "\n2002,x", "line 3, valence_mean: 'x"),
        ("metadata_2015.csv", "\n2001,", "\n2000,", "line 2: song 2000 again, it was in another year's table"),
        ("metadata_2014.csv", ",artist,", ",by,", "no column 'artist'"),
        ("opensmile_means.csv", "\n4,", "\n4,inf,", "line 4, F0final_sma_amean: 'inf' is not a finite number"),
    ],
)
def test_a_damaged_file_is_refused_with_name_and_place(name, old, new, message, tmp_path):
    replace_in(write_deam(tmp_path) / name, old, new)
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        load_dataset("deam", tmp_path)


def test_no_recording_is_in_two_parts(tmp_path):
    write_deam(tmp_path)
    for split in range(10):
        parts = load_dataset("deam", tmp_path, split=split).parts
        assert any({SONGS.index("631"), SONGS.index("893")} <= set(rows.tolist()) for rows in parts.values())


@pytest.mark.thorough
@pytest.mark.shared
def test_the_same_features_are_in_one_fold_of_the_real_deam(shared):
    for split in range(10):
        dataset = load_dataset("deam", shared / "data/annotations/DEAM", split=split)
        sounds = [
            {dataset.embeddings[dataset.tracks[row].key].tobytes() for row in rows} for rows in dataset.parts.values()
        ]
        assert sum(map(len, sounds)) == len(set.union(*sounds)) == 1802 - 4


@pytest.mark.shared
def test_the_real_deam_has_1802_songs_with_130_features(shared):
    dataset = load_dataset("deam", shared / "data/annotations/DEAM")
    assert len(dataset.tracks) == 1744 + 58
    assert len({track.artist for track in dataset.tracks}) == 911
    assert dataset.embeddings.spec.dim == 130
    assert {track.key for track in dataset.tracks} == set(dataset.embeddings)
    np.testing.assert_allclose(dataset.targets[0], [3.1, 3.0])
    np.testing.assert_allclose(dataset.targets[-1], [3.8, 5.8])
    assert len(dataset.remarks) == 2


@pytest.mark.shared
def test_the_real_emomusic_is_in_the_real_deam_with_columns_exchanged(shared):
    annotations = shared / "data/annotations"
    tables = {task: load_dataset(task, annotations / "DEAM") for task in ("deam", "deam-corrected")}
    emomusic = load_dataset("emomusic", annotations / "emoMusic")
    ids = [track.id for track in tables["deam"].tracks]
    assert sum(map(deam.in_emomusic, ids)) == 744
    rows = [ids.index(track.id) for track in emomusic.tracks]
    apart = {task: np.abs(table.targets[rows] - emomusic.targets) for task, table in tables.items()}
    assert (apart["deam-corrected"] < 0.06).mean() > 0.99
    assert (apart["deam"] < 0.06).mean() < 0.1


@pytest.mark.shared
def test_loudness_goes_with_arousal_in_the_corrected_table_of_either_year(shared):
    dataset = load_dataset("deam-corrected", shared / "data/annotations/DEAM")
    # The seventh feature is the loudness of openSMILE's auditory spectrum.
    loudness = np.log([dataset.embeddings[track.key][0, 6] for track in dataset.tracks])
    early = np.array([deam.in_emomusic(track.id) for track in dataset.tracks])
    for chosen in (early, ~early):
        valence, arousal = (np.corrcoef(loudness[chosen], dataset.targets[chosen, column])[0, 1] for column in (0, 1))
        assert arousal > valence + 0.2
