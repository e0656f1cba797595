import numpy as np
import pytest

from jamendo_mood.datasets.dataset import Dataset, Track
from jamendo_mood.tasks.task import Task
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.untrusted import read_columns, read_table


def make_dataset(targets):
    tracks = (Track("track_1", "01/1.mp3", 10.0, "artist_1"), Track("track_2", "02/2.low.mp3", None, "artist_2"))
    parts = {"train": np.array([0]), "test": np.array([1])}
    return Dataset(Task("any", "tags", ("a", "b")), tracks, targets, parts, "licence", "citation")


def test_a_tracks_key_has_neither_suffix_nor_low():
    assert [track.key for track in make_dataset(np.zeros((2, 2), np.float32)).tracks] == ["01/1", "02/2"]


def test_targets_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"\(2, 3\) do not fit 2 tracks and 2 names"):
        make_dataset(np.zeros((2, 3), np.float32))


def test_a_part_that_is_not_there_is_a_usage_error_that_lists_those_that_are():
    dataset = make_dataset(np.zeros((2, 2), np.float32))
    assert dataset.rows("test").tolist() == [1]
    with pytest.raises(UsageError, match=r"no part 'dev' \(it has: train, test\)"):
        dataset.rows("dev")


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("lf.tsv", b"id\tname\n1\tone\n", [["1", "one"]]),
        ("crlf.tsv", b"id\tname\r\n1\tone\r\n2\ttwo\r\n", [["1", "one"], ["2", "two"]]),
        ("bom.tsv", b"\xef\xbb\xbfid\tname\n1\tone\n", [["1", "one"]]),
        ("ragged.tsv", b"id\tname\n1\tone\tmore\tand more\n", [["1", "one", "more", "and more"]]),
        ("quotes.tsv", b'id\tname\n1\tthe "one\n', [["1", 'the "one']]),
        ("quotes.csv", b'id,name\n1,"one, quoted"\n', [["1", "one, quoted"]]),
        ("utf8.tsv", "id\tname\n1\tVeränderung\n".encode(), [["1", "Veränderung"]]),
    ],
)
def test_tables_are_read_as_their_authors_wrote_them(name, content, rows, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert read_table(tmp_path / name, ("id", "name")) == rows


def test_a_table_without_header_is_read_whole(tmp_path):
    (tmp_path / "tags.txt").write_text("happy\t0.5\nsad\t0.25\n")
    assert read_table(tmp_path / "tags.txt", ()) == [["happy", "0.5"], ["sad", "0.25"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "its first line must begin with id | name"),
        (b"other\tname\n", "its first line must begin with id | name"),
        (b"id\tname\n1\tone\n2\n", "line 3: 1 cells, at least 2 are needed"),
        (b"\xff\xfe\x00\x01", "cannot be read as a table"),
    ],
)
def test_what_is_no_such_table_is_a_data_error_that_names_file_and_line(content, message, tmp_path):
    path = tmp_path / "table.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"table.tsv.*{message}"):
        read_table(path, ("id", "name"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_are_found_by_name_in_any_encoding(encoding, delimiter, tmp_path):
    lines = ["id, artist , mean", '1,"Björk\t",0.5', '2,"a ""b""\tc", 1,more', ""]
    text = "\r\n".join(line.replace(",", delimiter) for line in lines) + "\r\n"
    (tmp_path / "any.txt").write_bytes(text.encode(encoding))
    read = "utf-8-sig" if encoding == "utf-8" else encoding
    rows = read_columns(tmp_path / "any.txt", ("mean", "artist"), encoding=read, delimiter=delimiter)
    assert rows == [{"mean": "0.5", "artist": "Björk\t"}, {"mean": " 1", "artist": 'a "b"\tc'}]


def test_a_cell_may_have_the_delimiter_and_a_header_may_have_empty_names(tmp_path):
    (tmp_path / "tags.csv").write_text('id,genre,,,\n1,"rock, metal",a,b,c\n2,pop\n')
    assert read_columns(tmp_path / "tags.csv", ["genre"]) == [{"genre": "rock, metal"}, {"genre": "pop"}]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (None, "utf-8-sig", "no such file"),
        (b"", "utf-8-sig", r"no column 'id' \(those that are there: none\)"),
        (b"id, value ,\n1,2,3\n", "utf-8-sig", r"no column 'name' \(those that are there: id \| value\)"),
        (b"id,name, name\n1,2,3\n", "utf-8-sig", r"2 columns 'name'"),
        (b"id,x,name\n1,x,one\n2,x\n", "utf-8-sig", "line 3: 2 cells, at least 3 are needed"),
        (b"id,name\n1,one\n\n2,two\n", "utf-8-sig", "line 3: 0 cells, at least 2 are needed"),
        (b"id,name\n1,\xff\n", "utf-8-sig", "cannot be read as a table"),
        (b"id,name\n1,one\n", "utf-16", "cannot be read as a table"),
    ],
    ids=["missing", "empty", "column", "twice", "short", "gap", "text", "utf-16"],
)
def test_a_table_without_the_columns_is_a_data_error_that_names_them(content, encoding, message, tmp_path):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"table.csv.*{message}"):
        read_columns(path, ("id", "name"), encoding=encoding)
