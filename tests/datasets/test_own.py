"""One's own music: what a table may say, and what is said of a wrong one."""

import numpy as np
import pytest
from test_loaders import check_conformance, parts_by_id, tags_by_id
from toy_class_sets import OWN_FILES, write_own

from jamendo_mood.datasets import DATASETS, load_dataset
from jamendo_mood.datasets.own import IN_FILES
from jamendo_mood.util.errors import DataError, UsageError

ARTISTS = ("Ann", "Bob", "Cid", "Dee")


def write(tmp_path, *lines):
    path = tmp_path / "my music.csv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def load(tmp_path, *lines):
    return load_dataset("own", write(tmp_path, *lines))


def rows_of(*labels):
    """Rows of a table with the columns path and artist and some more."""
    return [f"{number}.mp3,{ARTISTS[number % 4]},{label}" for number, label in enumerate(labels)]


def test_tags_are_read_and_sorted(tmp_path):
    dataset = load_dataset("own", write_own(tmp_path))
    assert (dataset.task.name, dataset.task.kind) == ("own", "tags")
    assert dataset.task.targets == ("calm", "dark", "fast", "happy")
    expected = [{"dark", "fast"}, {"dark"}, {"calm", "happy"}, {"happy"}, {"fast", "happy"}, set()]
    assert [*tags_by_id(dataset).values()] == expected
    assert [track.audio for track in dataset.tracks] == [path for path, _, _ in OWN_FILES]
    assert [track.key for track in dataset.tracks][:2] == ["rock/one", "rock/two"]
    assert [track.artist for track in dataset.tracks] == ["ann", "ann", "bob", "cid", "bob", "dee"]
    assert dataset.remarks == ("too rare to learn, with fewer than 2 tracks each: calm", "1 tracks have no tag")


def test_the_file_may_be_named_or_the_folder_it_is_in(tmp_path):
    folder = load_dataset("own", write_own(tmp_path))
    for root in (tmp_path / "own.csv", str(tmp_path / "own.csv")):
        assert load_dataset("own", root).tracks == folder.tracks
    with pytest.raises(UsageError, match=r"nowhere\.csv: no such folder of data, nor file, for task 'own'"):
        load_dataset("own", tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match=r"own\.csv: no such file"):
        load_dataset("own", tmp_path.parent)


@pytest.mark.parametrize("task", [task for task, source in DATASETS.items() if not source.single_file])
def test_other_tasks_want_a_folder(tmp_path, task):
    with pytest.raises(UsageError, match=rf"own\.csv: no such folder of data for task '{task}'"):
        load_dataset(task, write_own(tmp_path) / "own.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_are_apart_by_what_the_first_line_shows(tmp_path, delimiter):
    cells = [["Path", "Tags", "ARTIST"], *([f"{name}.mp3", ' "x;y, z"', name] for name in "abc")]
    dataset = load(tmp_path, *(delimiter.join(row) for row in cells))
    assert dataset.task.targets == ("x", "y, z")
    assert dataset.targets.tolist() == [[1, 1]] * 3
    assert [track.artist for track in dataset.tracks] == ["a", "b", "c"]


def test_a_column_a_tag(tmp_path):
    dataset = load(tmp_path, "sad,path,artist, Happy ", "0,a.mp3,A,1", "1,b.mp3,B,1", "1,c.mp3,C, 0 ", "0,d.mp3,D,0")
    assert dataset.task.targets == ("Happy", "sad")
    assert dataset.targets.tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]
    assert dataset.remarks == ("1 tracks have no tag",)


def test_a_class_a_track(tmp_path):
    dataset = load(tmp_path, "path,artist,class", *rows_of("calm", "wild", "wild", "odd", "calm"))
    assert (dataset.task.kind, dataset.task.targets) == ("classes", ("calm", "odd", "wild"))
    assert dataset.targets.argmax(axis=1).tolist() == [0, 2, 2, 1, 0]
    check_conformance(dataset)
    assert dataset.remarks == ("too rare to learn, with fewer than 2 tracks each: odd",)


@pytest.mark.parametrize(
    ("cells", "scale"),
    [
        (("0,1", "0.25,1e-1", "1,0"), (0, 1)),
        (("0,1", "-0.25,1", "1,0.5"), (-1, 1)),
        (("1,1", "1,1", "1,1"), (0, 1)),
        (("1,9", "4.5,1", "1,2"), (1, 9)),
    ],
)
def test_valence_and_arousal_are_on_the_first_scale_that_holds_them(tmp_path, cells, scale):
    dataset = load(tmp_path, "path,artist,arousal,valence", *rows_of(*cells))
    assert (dataset.task.kind, dataset.task.targets, dataset.task.scale) == ("values", ("valence", "arousal"), scale)
    expected = [[float(number) for number in cell.split(",")[::-1]] for cell in cells]
    np.testing.assert_allclose(dataset.targets, expected)
    assert dataset.targets.dtype == np.float32
    assert dataset.remarks == (f"valence and arousal are assumed to be on the scale {scale[0]} to {scale[1]}",)


def test_what_says_nothing_here_is_told_and_not_all_of_what_is_rare(tmp_path):
    dataset = load(tmp_path, "path,artist,class,album,year", *rows_of("x,A,1990", "y,B,1991", "x,C,1992", "y,D,1993"))
    assert dataset.remarks == ("unused columns: album, year",)
    dataset = load(tmp_path, "path,artist,tags", *rows_of(*(f"tag {number:02d}" for number in range(13))))
    assert dataset.remarks[0].endswith("tag 08, tag 09 and 3 more")


def test_without_artists_each_track_stands_for_itself_and_a_user_is_told(tmp_path):
    dataset = load(tmp_path, "path,tags", *(f"{number}.mp3,x" for number in range(20)))
    assert len({track.artist for track in dataset.tracks}) == 20
    assert dataset.remarks == (f"no artists are given: songs of one artist may be in several parts{IN_FILES}",)
    some = load(tmp_path, "path,artist,tags", "a.mp3,Ann,x", "b.mp3,,x", "c.mp3,Ann,x", "d.mp3,,x")
    assert [track.artist for track in some.tracks] == ["ann", "b", "ann", "d"]
    assert some.remarks == (f"2 tracks have no artist: each counts as an artist of its own{IN_FILES}",)


MANY = tuple(f"{number}.mp3,Artist {number % 40},x;{number % 2}" for number in range(200))
TAGS = "path,artist,tags"


@pytest.mark.parametrize("split", [0, 6, 12345])
def test_no_artist_is_in_two_parts_and_these_have_their_shares(tmp_path, split):
    dataset = load_dataset("own", write(tmp_path, TAGS, *MANY), split=split)
    check_conformance(dataset)
    sizes = {part: len(rows) for part, rows in dataset.parts.items()}
    assert sizes["test"] in (25, 30)
    assert sizes["validation"] in (25, 30)


def test_seven_splits_test_every_track_once_and_the_next_seven_otherwise(tmp_path):
    path = write(tmp_path, TAGS, *MANY)
    tested = [tuple(load_dataset("own", path, split=split).rows("test")) for split in range(14)]
    assert DATASETS["own"].splits == 7
    assert sorted(sum(tested[:7], ())) == sorted(sum(tested[7:], ())) == list(range(200))
    assert len({*tested}) == 14


@pytest.mark.parametrize("artists", [3, 4, 6])
def test_with_few_artists_each_is_a_fold(tmp_path, artists):
    rows = [f"{number}.mp3,Artist {number % artists},{'xy'[number % 2]}" for number in range(20)]
    for split in range(7):
        dataset = load_dataset("own", write(tmp_path, TAGS, *rows), split=split)
        check_conformance(dataset)
        assert len({dataset.tracks[row].artist for row in dataset.rows("test")}) == 1


def test_parts_outlive_rows_in_another_order(tmp_path):
    rows = [f"{number}.mp3,Artist {number % 9},x" for number in range(60)]
    first, turned = (load(tmp_path, TAGS, *lines) for lines in (rows, rows[::-1]))
    assert parts_by_id(first) == parts_by_id(turned)


def test_a_path_as_windows_writes_it(tmp_path):
    dataset = load(tmp_path, "path,tags", "rock\\a.mp3,x", "./b.MP3,x", "Å/c.low.flac,x")
    assert [track.key for track in dataset.tracks] == ["rock/a", "b", "Å/c"]


TWO = ("a.mp3,A,x", "b.mp3,B,x")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), r"music\.csv: there are no tracks"),
        (("file,tags", "a.mp3,x"), r"music\.csv: no column 'path' \(its first line has: file, tags\)"),
        (("path,artist", "a.mp3,A"), r"music\.csv: there are no labels; it needs a column tags, or class"),
        (("path,tags,class", "a.mp3,x,y"), r"music\.csv: the columns tags, class are labels of different kinds"),
        (("path,valence", "a.mp3,1"), r"music\.csv: no column 'arousal'; it needs both valence and arousal"),
        (("path,tags,tags", "a.mp3,x,y"), r"music\.csv: several columns are called 'tags'"),
        ((TAGS, *TWO, "", "c.wav,C"), r"music\.csv, line 5: 2 cells where the first line has 3"),
        ((TAGS, *TWO, "c.wav,C,x,y"), r"music\.csv, line 4: 4 cells where the first line has 3"),
        ((TAGS + ",", "a.mp3,A,x,", "b.mp3,B,x,y"), r"music\.csv, line 3: 'y' is in a column without a name"),
        ((TAGS, *TWO, 'c.wav,C,"x"y'), r"music\.csv, line 4: cannot be read as cells"),
        ((TAGS, *TWO, "a.wav,C,x"), r"music\.csv, line 4: 'a\.wav' is already on line 2"),
        ((TAGS, *TWO, "a.mp3,C,x"), r"music\.csv, line 4: 'a\.mp3' is already on line 2, with another artist: keep"),
        ((TAGS, *TWO, "", "a.mp3,A,y;x"), r"music\.csv, line 5: 'a\.mp3' is already on line 2, with other labels: k"),
        (
            (TAGS, "a.mp3,Ann,x", *TWO[1:], "a.mp3,,x"),
            r"music\.csv, line 4: 'a\.mp3' is already on line 2, with another artist",
        ),
        (
            ("path,valence,arousal", "a.mp3,.1,.2", "a.mp3,.1,.3"),
            r"line 3: 'a\.mp3' is already on line 2, with other labels",
        ),
        ((TAGS, *TWO, "a,C,x"), r"music\.csv, line 4: 'a' in column 'path' does not have the suffix of .* \(\.3gp, "),
        ((TAGS, *TWO, ",C,x"), r"music\.csv, line 4: '' in column 'path' does not have the suffix"),
        ((TAGS, *TWO, "../c.mp3,C,x"), r"music\.csv, line 4: '\.\./c\.mp3' must be a path below the audio folder"),
        ((TAGS, *TWO, "/m/c.mp3,C,x"), r"music\.csv, line 4: '/m/c\.mp3' must be a path below the audio folder"),
        ((TAGS, *TWO, "C:\\c.mp3,C,x"), r"music\.csv, line 4: 'C:\\\\c\.mp3' must be a path below the audio folder"),
        ((TAGS, "a.mp3,A,", "b.mp3,B, ; "), r"music\.csv: there is no tag in column 'tags'"),
        (("path,x", "a.mp3,1", "b.mp3,2"), r"music\.csv, line 3: '2' in column 'x' is neither 0 nor 1 \(every col"),
        (("path,class", "a.mp3,x", "b.mp3, "), r"music\.csv, line 3: no class"),
        (("path,class", "a.mp3,x", "b.mp3,x"), r"music\.csv: all tracks have the class 'x'"),
        (("path,valence,arousal", "a.mp3,1,2", "b.mp3,3,high"), r"line 3, arousal: 'high' is not a finite number"),
        (("path,valence,arousal", "a.mp3,1,2", "b.mp3,nan,2"), r"line 3, valence: 'nan' is not a finite number"),
        (
            ("path,valence,arousal", "a.mp3,1,2", "b.mp3,3,-0.5", "c.mp3,5,1"),
            r"values from -0\.5 \(line 3\) to 5 \(line 4\) do not fit any of the scales 0 to 1, -1 to 1, 1 to 9",
        ),
        (("path;tags", "a.mp3;happy;dark"), r"music\.csv, line 2: 3 cells where the first line has 2"),
        ((TAGS, *TWO), r"music\.csv: 3 folds need at least 3 artists, and there are 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, lines, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, *lines)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "rows", "again"),
    [
        (
            TAGS,
            ["a.mp3,Ann,x;y", "b.mp3,Bob,y", "c.mp3,Cid,x"],
            ["a.mp3,Ann,x;y", "a.mp3,Ann,x;y", r".\a.mp3,ANN, y ; x"],
        ),
        ("path,artist,class", ["a/é.mp3,Zoé,x", "b.mp3,Bob,y", "c.mp3,Cid,x"], ["a/e\u0301.mp3,Zoe\u0301,x"]),
        ("path,x,y", ["a.mp3,1,0", "b.mp3,0,1", "c.mp3,1,1"], ["c.mp3,1,1", "b.mp3, 0 ,1"]),
        ("path,valence,arousal,mine", ["a.mp3,0.5,1,", "b.mp3,1,0,", "c.mp3,0,0,"], ["a.mp3,.50,1.0,another remark"]),
    ],
)
def test_rows_that_say_the_same_count_once_and_are_told(head, rows, again, tmp_path):
    once, more = load(tmp_path, head, *rows), load(tmp_path, head, *rows, *again)
    assert (more.tracks, more.task) == (once.tracks, once.task)
    np.testing.assert_array_equal(more.targets, once.targets)
    assert parts_by_id(more) == parts_by_id(once)
    assert set(more.remarks) - set(once.remarks) == {f"{len(again)} rows are equal to an earlier one and left out"}
    assert set(once.remarks) < set(more.remarks)


def test_a_negative_split_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="split -1"):
        load_dataset("own", write_own(tmp_path), split=-1)
