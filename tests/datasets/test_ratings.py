import numpy as np
import pytest

from jamendo_mood.datasets.dataset import Track
from jamendo_mood.datasets.ratings import (
    ANY,
    average_curves,
    count_nameless,
    find_file,
    gather_curves,
    join_recordings,
    name_artists,
    name_unknown,
    read_header,
    read_ratings,
)
from jamendo_mood.util.errors import DataError

SCALES = {"mean": (1.0, 9.0), "free": ANY}


@pytest.fixture
def table(tmp_path):
    def write(*lines):
        path = tmp_path / "table.csv"
        path.write_text("\r\n".join(("id, free, other, mean", *lines)) + "\r\n", newline="")
        return path

    return write


def test_numbers_come_in_the_order_they_are_asked_for_and_the_songs_in_the_tables(table):
    ratings = read_ratings(table("30,-1e9,x,9", " 7 , 0.5,,1"), "id", SCALES)
    assert ratings.songs == ("30", "7")
    np.testing.assert_array_equal(ratings.values, [[9, -1e9], [1, 0.5]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5,0,x,9.01", r"line 3, mean: '9\.01' is not a number from 1 to 9"),
        ("5,0,x,0.99", r"line 3, mean: '0\.99' is not a number from 1 to 9"),
        ("5,0,x,nan", r"line 3, mean: 'nan' is not a number from 1 to 9"),
        ("5,0,x,", r"line 3, mean: '' is not a number from 1 to 9"),
        ("5,inf,x,5", r"line 3, free: 'inf' is not a finite number"),
        ("five,0,x,5", r"line 3, id: 'five' is not a song's number"),
        (",0,x,5", r"line 3, id: '' is not a song's number"),
        ("-5,0,x,5", r"line 3, id: '-5' is not a song's number"),
        (" 3,0,x,5", r"line 3: song 3 again, it was in line 2"),
        ("5,0,x", r"line 3: 3 cells, at least 4"),
    ],
)
def test_what_is_no_rating_is_refused_with_line_and_value(table, line, message):
    with pytest.raises(DataError, match=rf"table\.csv, {message}"):
        read_ratings(table("3,0,x,5", line), "id", SCALES)


def test_a_song_may_have_more_lines_where_that_is_expected(table):
    assert read_ratings(table("3,0,x,5", "3,1,x,5"), "id", SCALES, repeated=True).songs == ("3", "3")


def test_a_table_without_songs_is_refused(table):
    with pytest.raises(DataError, match=r"table\.csv: the table has no songs"):
        read_ratings(table(), "id", SCALES)


def test_the_header_is_read_without_spaces(table):
    assert read_header(table()) == ["id", "free", "other", "mean"]


def test_an_empty_file_has_no_header(tmp_path):
    (tmp_path / "none.csv").write_text("")
    with pytest.raises(DataError, match=r"none\.csv"):
        read_header(tmp_path / "none.csv")


def test_curves_are_gathered_by_song_wherever_its_lines_are(table):
    path = table("3,1.5,x,4", "7,1,x,2", "3,2.0,x,6")
    curves = gather_curves(path, read_ratings(path, "id", {"free": ANY, "mean": (1, 9)}, repeated=True))
    assert list(curves) == ["3", "7"]
    np.testing.assert_array_equal(curves["3"].times_s, [1.5, 2])
    np.testing.assert_array_equal(curves["3"].values, [[4], [6]])
    assert curves["3"].times_s.dtype == curves["3"].values.dtype == np.float32
    means = average_curves(curves)
    assert means.songs == ("3", "7")
    np.testing.assert_array_equal(means.values, [[5], [2]])


@pytest.mark.parametrize("time", ["2.0", "1.0"])
def test_times_that_do_not_rise_are_refused_with_their_line(table, time):
    path = table("3,1.5,x,4", "3,2.0,x,2", "7,0,x,5", f"3,{time},x,6")
    moments = read_ratings(path, "id", {"free": ANY, "mean": (1, 9)}, repeated=True)
    with pytest.raises(DataError, match=rf"table\.csv, line 5: {float(time):g} s of song 3 comes after 2 s"):
        gather_curves(path, moments)


def test_the_first_folder_that_has_the_file_is_taken(tmp_path):
    for folder in ("a b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").touch()
    assert find_file(tmp_path, "x.csv", (".", "c", "a b")) == tmp_path / "c" / "x.csv"
    with pytest.raises(DataError, match=r"y\.csv: no such file \(looked in .*c, .*a b\)"):
        find_file(tmp_path, "y.csv", ("c", "a b"))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Kevin MacLeod\t", "kevin macleod"),
        ("\t 21  Savage ", "21 savage"),
        ("Rex &amp; Boys", "rex & boys"),
        ("방탄소년단", "방탄소년단"),
        ("n/a", "unknown:7"),
        ("\t", "unknown:7"),
    ],
)
def test_an_artist_has_one_name(written, name):
    assert name_artists({"7": written}) == {"7": name}


def test_artists_that_share_a_performer_have_one_name_and_the_unknown_do_not():
    names = {"1": "Hobart &amp; Boys", "2": " hobart\t", "3": "n/a", "4": "N/A", "5": "Boys"}
    merged = {"1": "boys", "2": "boys", "3": "unknown:3", "4": "unknown:4", "5": "boys"}
    assert name_artists(names) == merged


def test_those_without_a_name_are_counted():
    names = name_artists({"1": "N/A", "2": "Somebody", "3": ""})
    tracks = [Track(song, f"{song}.mp3", None, name) for song, name in names.items()]
    assert count_nameless(tracks) == 2
    assert name_unknown("3") == names["3"]


def test_a_name_that_runs_on_is_that_of_its_artist_and_other_hyphens_stay():
    names = {
        "1": "MacLeod",
        "2": "MacLeod-Night on",
        "3": "m-pex",
        "4": "m-pex",
        "5": "choir-dvorak",
        "6": "choir-x - y",
    }
    merged = {"1": "macleod", "2": "macleod", "3": "m-pex", "4": "m-pex", "5": "choir", "6": "choir"}
    assert name_artists(names, run_on=True) == merged
    assert len({*name_artists(names).values()}) == 5


def test_artists_of_one_recording_are_one_group():
    artists = {"1": "a", "2": "b", "3": "b", "4": "c", "5": "d"}
    groups = join_recordings(artists, [("1", "3"), ("4", "2"), ("5", "9")])
    assert groups == {"1": "c", "2": "c", "3": "c", "4": "c", "5": "d"}
