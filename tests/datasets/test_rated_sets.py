"""DEAM, PMEmo and emoMusic in their authors' formats, small and real, and what reads their tables."""

from collections import Counter

import numpy as np
import pytest
from test_loaders import parts_by_id, replace_in
from toy_affect_sets import (
    CLIPS,
    FEATURES,
    POP,
    SONGS_2013,
    SONGS_2014,
    SONGS_2015,
    TIMES_MS,
    UNANNOTATED,
    UNLISTED,
    WRITERS,
    curve_values,
    make_values,
    pop_moments,
    write_deam,
    write_emomusic,
    write_pmemo,
)

from jamendo_mood.datasets import load_dataset
from jamendo_mood.datasets.dataset import ANY
from jamendo_mood.datasets.rated_sets import (
    DEAM_NAMES,
    DEAM_SONGS_NAMES,
    find_file,
    join_recordings,
    read_artists,
    read_clips,
    read_header,
    read_moments,
    read_ratings,
)
from jamendo_mood.embedders.registry import RELEASED
from jamendo_mood.util.errors import DataError, UsageError

SONGS = [song for song, _ in SONGS_2013 + SONGS_2014 + SONGS_2015]
STATIC, LATER = DEAM_NAMES
LAYOUTS = (
    "annotations/annotations averaged per song/song_level",
    "DEAM_Annotations/annotations/annotations_averaged_per_song/song_level",
)

SONGS_PMEMO = [song for song, _, _ in POP if song not in UNANNOTATED] + [UNLISTED]
SONGS_EMOMUSIC = [song for song, _, _ in CLIPS if song not in ("2", "631")]
"""Of those two, the artist or the recording is in the evaluation part."""
PMEMO, EMOMUSIC = ("pmemo", "pmemo-dynamic"), ("emomusic", "emomusic-dynamic")


@pytest.fixture
def annotations(shared):
    return shared / "data/annotations"


@pytest.mark.parametrize(
    ("task", "songs", "scale"),
    [("deam", SONGS, (1, 9)), ("pmemo", SONGS_PMEMO, (0, 1)), ("emomusic", SONGS_EMOMUSIC, (1, 9))],
)
def test_static_values_are_those_of_the_tables_by_name_valence_first(task, songs, scale, tmp_path):
    dataset = load_dataset(task, WRITERS[task](tmp_path))
    assert (dataset.task.targets, dataset.task.scale, dataset.task.rate_hz) == (("valence", "arousal"), scale, None)
    assert [track.id for track in dataset.tracks] == songs
    np.testing.assert_array_equal(dataset.targets, np.float32([make_values(song, *scale) for song in songs]))
    assert dataset.curves is None


ARTISTS = {
    "deam": {
        "adam run": ["16", "17"],
        "player 5": ["5", "1000", "1001"],
        "rope & river": ["1002"],
        "amar, l.": ["2002"],
    },
    "pmemo": {"21 lines": ["4", "5"], "방탄소년단": ["6"], "unknown:12": ["12"], "unknown:99": [UNLISTED]},
    "emomusic": {"the both sides": ["3"], "testée": ["4"], "adam run": ["16", "17"], "re-stoned": ["18"]},
}
LENGTHS_S = {"deam": {"2": 45, "2001": None}, "pmemo": {"1": 32.1, UNLISTED: None}, "emomusic": {"1000": 45}}


@pytest.mark.parametrize("task", ARTISTS)
def test_tracks_are_known_by_their_clip_and_have_their_tables_artists(task, tmp_path):
    tracks = {track.id: track for track in load_dataset(task, WRITERS[task](tmp_path)).tracks}
    assert {(track.audio, track.key) for track in tracks.values()} == {(f"{song}.mp3", song) for song in tracks}
    for artist, songs in ARTISTS[task].items():
        assert {tracks[song].artist for song in songs} == {artist}
    for song, length_s in LENGTHS_S[task].items():
        assert tracks[song].duration_s == length_s


@pytest.mark.parametrize(
    ("task", "songs", "scale", "start_s", "moments"),
    [
        ("pmemo-dynamic", SONGS_PMEMO, (0, 1), 15.5, pop_moments),
        ("emomusic-dynamic", SONGS_EMOMUSIC, (-1, 1), 15.0, lambda _: len(TIMES_MS)),
    ],
)
def test_curves_begin_where_the_table_says_and_targets_are_their_means(task, songs, scale, start_s, moments, tmp_path):
    dataset = load_dataset(task, WRITERS[task](tmp_path))
    assert (dataset.task.scale, dataset.task.rate_hz) == (scale, 2)
    assert [track.id for track in dataset.tracks] == songs
    for song, curve, targets in zip(songs, dataset.curves, dataset.targets, strict=True):
        expected = curve_values(song, *scale, moments(song))
        np.testing.assert_array_equal(curve.times_s, start_s + np.arange(len(expected)) / 2)
        np.testing.assert_array_equal(curve.values, expected.astype(np.float32))
        np.testing.assert_allclose(targets, expected.mean(axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("task", "written", "read"),
    [("pmemo", "PMEmo2019", ""), ("pmemo-dynamic", "PMEmo2019", ""), ("emomusic", "", "annotations")],
)
def test_the_folder_above_or_that_of_the_annotations_will_do(task, written, read, tmp_path):
    WRITERS[task](tmp_path / written)
    assert len(load_dataset(task, tmp_path / read).tracks) == len(SONGS_EMOMUSIC if task == "emomusic" else SONGS_PMEMO)


@pytest.mark.parametrize(
    ("task", "name", "old", "new", "message"),
    [
        ("deam", STATIC, " valence_mean", " valence", "no column 'valence_mean'"),
        ("deam", STATIC, "\n4,", "\n3,", rf"line 4: song 3 again, it was in {STATIC}, line 3"),
        ("deam", STATIC, "\n4,", "\n4,9", "line 4, valence_mean: '9.*from 1 to 9"),
        *(("deam", STATIC, "\n4,", f"\n{no},", f"line 4, song_id: '{no}' is not") for no in ("five", "", "-5")),
        ("deam", LATER, "\n2002,", "\n2000,", f"line 3: song 2000 again, it was in {STATIC}"),
        ("deam", LATER, "\n2002,", "\n2002,x", "line 3, valence_mean: 'x"),
        ("deam", "metadata_2015.csv", "\n2001,", "\n2000,", r"line 2: song 2000 again, it was in metadata_2014\.csv"),
        ("deam", "opensmile_means.csv", "\n4,", "\n4,inf,", "line 4, F0final_sma_amean: 'inf' is not a finite number"),
        ("pmemo", "static_annotations.csv", "Valence(mean)", "Valence", r"no column 'Valence\(mean\)'"),
        ("pmemo", "static_annotations.csv", "\n4,0", "\n4,1", r"line 3, Arousal\(mean\): '1.*from 0 to 1"),
        ("pmemo-dynamic", "dynamic_annotations.csv", ",16.0,", ",15.0,", "line 3: 15 s of song 1 comes after 15.5"),
        ("pmemo-dynamic", "dynamic_annotations.csv", ",16.0,", ",15.5,", "line 3: 15.5 s of song 1 comes after 15.5"),
        ("pmemo-dynamic", "dynamic_annotations.csv", ",16.0,0", ",16.0,nan0", r"line 3, Arousal.*'nan0"),
        ("pmemo", "metadata.csv", ",32.1,", ",long,", "line 2, duration: 'long'"),
        ("pmemo", "metadata.csv", ",artist,", ",by,", "no column 'artist'"),
        ("emomusic", "static_annotations.csv", "\n4,", "\n4,-", "line 4, mean_arousal: '-.*from 1 to 9"),
        ("emomusic", "songs_info.csv", '"evaluation"', '"test"', "line 3: 'test' is neither 'development' nor"),
        ("emomusic-dynamic", "arousal_cont_average.csv", "\n4,", "\n4,1", "line 4, sample_15000ms.*from -1 to 1"),
        ("emomusic-dynamic", "arousal_cont_average.csv", "_17000ms", "_18000ms", "not for the same times"),
    ],
)
def test_a_damaged_file_is_refused_with_name_and_place(task, name, old, new, message, tmp_path):
    (path,) = WRITERS[task](tmp_path).rglob(name)
    replace_in(path, old, new)
    with pytest.raises(DataError, match=rf"{path.name}.*{message}"):
        load_dataset(task, tmp_path)


# ---- DEAM.


def test_corrected_values_of_emomusics_songs_are_exchanged_and_no_others(tmp_path):
    published, corrected = (load_dataset(task, write_deam(tmp_path)) for task in ("deam", "deam-corrected"))
    assert corrected.tracks == published.tracks
    swapped = np.array([int(song) <= 1000 for song in SONGS])
    np.testing.assert_array_equal(corrected.targets[swapped], published.targets[swapped][:, ::-1])
    np.testing.assert_array_equal(corrected.targets[~swapped], published.targets[~swapped])
    assert "20 songs, those up to 1000, have valence and arousal exchanged: see deam-corrected" in published.remarks
    assert any("20 songs" in remark and "against the table" in remark for remark in corrected.remarks)


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
    assert (after.embeddings, parts_by_id(after)) == (None, parts_by_id(before))


def test_what_is_left_out_or_not_known_is_told(tmp_path):
    write_deam(tmp_path)
    replace_in(tmp_path / "metadata_2014.csv", "\n2000,", "\n1999,")
    replace_in(tmp_path / "metadata_2015.csv", '"Amar, L."', "n/a")
    replace_in(tmp_path / "opensmile_means.csv", "\n2001,", "\n1999,")
    assert load_dataset("deam", tmp_path).remarks[:4] == (
        "1 songs of the metadata have no annotation and are left out",
        "2 tracks have no artist: each counts as an artist of its own",
        "1 songs are not in opensmile_means.csv",
        "20 songs are emoMusic's, under the same numbers: never train on one and test on the other",
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_archives_folders_will_do(layout, tmp_path):
    flat = write_deam(tmp_path / "flat")
    for folder, names in ((layout, DEAM_NAMES), ("metadata", DEAM_SONGS_NAMES)):
        (tmp_path / "real" / folder).mkdir(parents=True)
        for name in names:
            (flat / name).rename(tmp_path / "real" / folder / name)
    assert len(load_dataset("deam", tmp_path / "real").tracks) == len(SONGS)


def test_no_recording_is_in_two_parts(tmp_path):
    write_deam(tmp_path)
    for split in range(10):
        parts = load_dataset("deam", tmp_path, split=split).parts
        assert any({SONGS.index("631"), SONGS.index("893")} <= set(rows.tolist()) for rows in parts.values())


@pytest.mark.thorough
@pytest.mark.shared
def test_the_same_features_are_in_one_fold_of_the_real_deam(annotations):
    for split in range(10):
        dataset = load_dataset("deam", annotations / "DEAM", split=split)
        sounds = [
            {dataset.embeddings[dataset.tracks[row].key].tobytes() for row in rows} for rows in dataset.parts.values()
        ]
        assert sum(map(len, sounds)) == len(set.union(*sounds)) == 1802 - 4


@pytest.mark.shared
def test_the_real_deam_has_1802_songs_with_130_features(annotations):
    dataset = load_dataset("deam", annotations / "DEAM")
    assert len(dataset.tracks) == 1744 + 58
    assert len({track.artist for track in dataset.tracks}) == 911
    assert dataset.embeddings.spec.dim == 130
    assert {track.key for track in dataset.tracks} == set(dataset.embeddings)
    np.testing.assert_allclose(dataset.targets[0], [3.1, 3.0])
    np.testing.assert_allclose(dataset.targets[-1], [3.8, 5.8])
    assert len(dataset.remarks) == 2


@pytest.mark.shared
def test_the_real_emomusic_is_in_the_real_deam_with_columns_exchanged(annotations):
    tables = {task: load_dataset(task, annotations / "DEAM") for task in ("deam", "deam-corrected")}
    emomusic = load_dataset("emomusic", annotations / "emoMusic")
    ids = [track.id for track in tables["deam"].tracks]
    assert any(remark.startswith("744 songs are emoMusic's") for remark in tables["deam"].remarks)
    rows = [ids.index(track.id) for track in emomusic.tracks]
    apart = {task: np.abs(table.targets[rows] - emomusic.targets) for task, table in tables.items()}
    assert (apart["deam-corrected"] < 0.06).mean() > 0.99
    assert (apart["deam"] < 0.06).mean() < 0.1


# ---- PMEmo.


@pytest.mark.parametrize("task", PMEMO)
def test_what_pmemo_leaves_out_or_does_not_know_is_told(task, tmp_path):
    assert load_dataset(task, write_pmemo(tmp_path)).remarks == (
        "2 of 15 songs in metadata.csv have no such annotation and are left out",
        "2 tracks have no artist: each counts as an artist of its own",
    )


def test_both_tasks_have_the_same_parts(tmp_path):
    write_pmemo(tmp_path)
    for split in range(10):
        static, dynamic = (load_dataset(task, tmp_path, split=split) for task in PMEMO)
        assert parts_by_id(static) == parts_by_id(dynamic)


def test_folds_do_not_depend_on_which_songs_are_annotated(tmp_path):
    before = parts_by_id(load_dataset("pmemo", write_pmemo(tmp_path)))
    path = tmp_path / "annotations/static_annotations.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("8,")) + "\n")
    after = parts_by_id(load_dataset("pmemo", tmp_path))
    assert after == {song: part for song, part in before.items() if song != "8"}


@pytest.mark.shared
def test_the_real_pmemo_has_767_songs_by_393_artists(annotations):
    root = annotations / "PMEmo2019"
    static, dynamic = (load_dataset(task, root) for task in PMEMO)
    assert len(static.tracks) == len(dynamic.tracks) == len(dynamic.curves) == 767
    assert len({track.artist for track in static.tracks}) == 393
    assert parts_by_id(static) == parts_by_id(dynamic)
    assert static.remarks == ("27 of 794 songs in metadata.csv have no such annotation and are left out",)
    first = static.tracks.index(next(track for track in static.tracks if track.id == "1"))
    np.testing.assert_allclose(static.targets[first], [0.575, 0.4])
    assert {float(curve.times_s[0]) for curve in dynamic.curves} == {15.5}
    assert {float(step) for curve in dynamic.curves for step in np.diff(curve.times_s)} == {0.5}


# ---- emoMusic.


def test_curves_without_times_are_refused(tmp_path):
    (write_emomusic(tmp_path) / "annotations/valence_cont_average.csv").write_text("song_id,a\n2,0.5\n")
    with pytest.raises(DataError, match=r"valence_cont_average\.csv: no column 'sample_15000ms'"):
        load_dataset("emomusic-dynamic", tmp_path)


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


def test_the_test_part_is_the_authors_and_none_of_its_artists_is_in_another(tmp_path):
    write_emomusic(tmp_path)
    parts, dynamic = (parts_by_id(load_dataset(task, tmp_path)) for task in EMOMUSIC)
    assert parts == dynamic
    assert {song for song, part in parts.items() if part == "test"} == {"3", "4", "893"}
    assert Counter(parts.values())["validation"] in (1, 2, 3)
    assert parts.keys() == {*SONGS_EMOMUSIC}
    with pytest.raises(UsageError, match="split 1"):
        load_dataset("emomusic", tmp_path, split=1)


@pytest.mark.parametrize("task", EMOMUSIC)
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
    assert "1 tracks have no artist" in remarks
    dynamic = load_dataset("emomusic-dynamic", tmp_path)
    assert any("2 songs are in only one of valence_cont" in remark for remark in dynamic.remarks)
    assert {track.id for track in dynamic.tracks} == {*SONGS_EMOMUSIC} - {"7"}


@pytest.mark.shared
def test_the_real_emomusic_has_619_and_125_clips_of_which_233_are_left_out(annotations):
    root = annotations / "emoMusic"
    artists, parts = read_clips(root)
    assert Counter(parts.values()) == {"development": 619, "evaluation": 125}
    assert len({*artists.values()}) == 389
    static, dynamic = (load_dataset(task, root) for task in EMOMUSIC)
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


# ---- What reads their tables.

SCALES = {"mean": (1.0, 9.0), "free": ANY}


@pytest.fixture
def table(tmp_path):
    def write(*lines):
        path = tmp_path / "table.csv"
        path.write_text("\r\n".join(("id, free, other, mean", *lines)) + "\r\n", newline="")
        return path

    return write


def test_numbers_come_in_the_order_they_are_asked_for_and_the_songs_in_the_tables(table):
    ratings = read_ratings("id", SCALES, table("30,-1e9,x,9", " 7 , 0.5,,1"))
    assert [*ratings] == ["30", "7"]
    np.testing.assert_array_equal([*ratings.values()], [[9, -1e9], [1, 0.5]])


def test_a_table_without_songs_or_lines_is_refused(table, tmp_path):
    with pytest.raises(DataError, match=r"table\.csv: the table has no songs"):
        read_ratings("id", SCALES, table())
    (tmp_path / "none.csv").touch()
    with pytest.raises(DataError, match=r"none\.csv: not the expected table"):
        read_header(tmp_path / "none.csv")


def test_curves_are_gathered_by_song_wherever_its_lines_are(tmp_path):
    lines = ("musicId,frameTime,Arousal(mean),Valence(mean)", "3,1.5,0.4,0", "7,1,0.2,0", "3,2.0,0.6,1")
    (tmp_path / "moments.csv").write_text("\n".join(lines))
    curves = read_moments(tmp_path / "moments.csv")
    assert list(curves) == ["3", "7"]
    np.testing.assert_array_equal(curves["3"].times_s, [1.5, 2])
    np.testing.assert_array_equal(curves["3"].values, np.float32([[0, 0.4], [1, 0.6]]))


def test_the_first_folder_that_has_the_file_is_taken(tmp_path):
    for folder in ("a b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").touch()
    assert find_file(tmp_path, "x.csv", (".", "c", "a b")) == tmp_path / "c" / "x.csv"
    with pytest.raises(DataError, match=r"y\.csv: no such file \(looked in .*c, .*a b\)"):
        find_file(tmp_path, "y.csv", ("c", "a b"))


@pytest.mark.parametrize(
    ("written", "names", "run_on"),
    [
        (["\t 21  Savage ", "Zoe\u0301", "Zoé", "Rex &amp; Boys"], ["21 savage", "zoé", "zoé", "rex & boys"], False),
        (["Rex &amp; Boys", " rex\t", "n/a", "N/A", "Boys", "\t"], ["boys", "boys", None, None, "boys", None], False),
        (
            ["MacLeod", "MacLeod-Night on", "choir-dvorak", "choir-x - y"],
            ["macleod", "macleod", "choir", "choir"],
            True,
        ),
        (["m-pex", "m-pex", "MacLeod"], ["m-pex", "m-pex", "macleod"], True),
        (["MacLeod", "MacLeod-Night on"], ["macleod", "macleod-night on"], False),
    ],
)
def test_an_artist_has_one_name_and_the_unknown_are_many(written, names, run_on, tmp_path):
    """Spellings, performers that are shared, and a title that runs on after the name; other hyphens stay."""
    lines = [f"{song},{name}\n" for song, name in enumerate(written)]
    (tmp_path / "songs.csv").write_text("".join(["id,by\n", *lines]))
    expected = {str(song): name or f"unknown:{song}" for song, name in enumerate(names)}
    assert read_artists("id", "by", tmp_path / "songs.csv", run_on=run_on) == expected


def test_artists_of_one_recording_are_one_group():
    artists = {"175": "a", "296": "b", "536": "b", "706": "c", "390": "d"}
    assert join_recordings(artists) == {"175": "a", "296": "a", "536": "a", "706": "a", "390": "d"}
