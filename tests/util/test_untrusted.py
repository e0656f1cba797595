"""Files of strangers: JSON, arrays and tables."""

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from jamendo_mood.util import untrusted
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.untrusted import read_columns, read_table


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        np.array(["a", "bc"]),
        np.array([b"a", b"bc"]),
        np.array(7),
        np.zeros((0, 3), np.float16),
        np.array([True, False]),
    ],
)
def test_arrays_are_read_as_numpy_wrote_them(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    for compressed in (np.savez, np.savez_compressed):
        compressed(tmp_path / "a.npz", first=array, second=array)
        with (tmp_path / "a.npz").open("rb") as file:
            arrays = untrusted.read_npz(file, 10_000)
        for found in (untrusted.read_array(tmp_path / "a.npy"), arrays["first"], arrays["second"]):
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype
            assert found.flags.writeable


def test_an_array_with_another_size_than_its_file_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    content = (tmp_path / "a.npy").read_bytes()
    for other in (content[:-1], content + b"\0", content[:60], b"", b"\x93NUMPY"):
        with pytest.raises(ValueError, match=r"array|magic|EOF|header"):
            untrusted.read_npy(io.BytesIO(other), len(other))


def test_what_an_npz_would_become_is_told_before_it_is_inflated():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(100_000))
    with pytest.raises(ValueError, match=r"arrays of 800,128 bytes, where 1,000 are the most"):
        untrusted.read_npz(file, 1_000)


def make_index(members):
    """An archive of empty members, whose table of contents is 55 bytes a member or more."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(members):
            archive.writestr(f"{number:09d}.npy", b"")
    return bytearray(file.getvalue())


@pytest.mark.parametrize("members", [20_000, 66_000], ids=["", "zip64"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_long_table_of_contents_takes_no_memory(members, on_disk, tmp_path):
    content = make_index(members)
    if on_disk:  # a buffered file takes as much memory as it is asked to read, whatever there is
        (tmp_path / "a.npz").write_bytes(content)
    file = (tmp_path / "a.npz").open("rb") if on_disk else io.BytesIO(content)
    tracemalloc.start()
    with file, pytest.raises(ValueError, match="a table of contents that is too long"):
        untrusted.read_npz(file, 10**9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_table_of_contents_that_says_it_is_long_is_refused():
    content = make_index(3)
    content[-10:-6] = (4_000_000_000).to_bytes(4, "little")
    with pytest.raises(untrusted.DAMAGES):  # by `zipfile` itself, where that is new enough
        untrusted.read_npz(io.BytesIO(content), 10**9)


def test_files_up_to_a_size_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert untrusted.read_bytes(tmp_path / "a", 3) == b"abc"
    with pytest.raises(ValueError, match="it has more than 2 bytes"):
        untrusted.read_bytes(tmp_path / "a", 2)


def test_a_file_that_is_too_large_takes_no_memory(tmp_path):
    (tmp_path / "a").touch()
    os.truncate(tmp_path / "a", 1 << 40)
    tracemalloc.start()
    with pytest.raises(ValueError, match="it has more than 100,000,000 bytes"):
        untrusted.read_bytes(tmp_path / "a", 100_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_an_array_for_which_there_is_no_memory_is_an_error_of_reading(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': True, 'shape': (%d, 1), }" % (1 << 40)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00\x75\x00" + header.ljust(0x74) + b"\n")
    os.truncate(tmp_path / "a.npy", 10 + 0x75 + (4 << 40))
    with pytest.raises(OSError, match="Cannot allocate memory"):
        untrusted.read_array(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "read", [lambda path: untrusted.read_bytes(path, 9), untrusted.read_array], ids=["bytes", "array"]
)
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_use_are_refused(method):
    array, file = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a.npy", array.getvalue())
    with pytest.raises(ValueError, match=f"the array 'a' is compressed as method {method}"):
        untrusted.read_npz(file, 10_000)


@pytest.mark.parametrize("order", "<>")
def test_texts_with_letters_that_there_are_not_are_refused(order):
    file = io.BytesIO()
    np.save(file, np.array([0x41, 0x10FFFF], f"{order}u4").view(f"{order}U1"))
    assert untrusted.read_npy(io.BytesIO(file.getvalue()), file.tell()).tolist() == ["A", "\U0010ffff"]
    for letter in (0x110000, 0xFFFFFFFF):
        file = io.BytesIO()
        np.save(file, np.array([0x41, letter], f"{order}u4").view(f"{order}U1"))
        with pytest.raises(ValueError, match="characters that do not exist"):
            untrusted.read_npy(io.BytesIO(file.getvalue()), file.tell())


def test_json_is_json():
    assert untrusted.parse_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    for content, message in ((b"[NaN]", "NaN is not a number"), (b"[" * 10**5, "nested too deep"), (b"[", "Expecting")):
        with pytest.raises(ValueError, match=message):
            untrusted.parse_json(content)


def test_reasons_are_short_and_of_one_line():
    assert untrusted.brief(ValueError("a\nb")) == "a"
    assert untrusted.brief(KeyError("name")) == "no 'name'"
    assert untrusted.brief(EOFError()) == "EOFError"
    assert len(untrusted.brief(ValueError("a" * 10**6))) < 400


@pytest.mark.parametrize("asked", [0, 1, 128_000, 200_000])
def test_what_is_read_can_be_written_to(asked):
    whole = bytes(range(256)) * 500
    content = untrusted.read_up_to(io.BytesIO(whole), asked)
    assert bytes(content) == whole[:asked]
    assert not content.readonly


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
