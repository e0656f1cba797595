import contextlib
import csv
import io
import json

import pytest

from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.plaintext import read_columns, read_table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ça va, 東京 👩‍👧", "Ça va, 東京 👩‍👧"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b\u2028\u202e\u061c", r"\x9b\u2028\u202e\u061c"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_text_for_a_terminal(text, shown):
    assert plaintext.show(text) == shown


def test_cells_for_a_spreadsheet():
    row = ["=1", "+1", "-1", "@a", "a=1", -1.5, None, True, "a\nb", "a\x1bb"]
    _, cells = csv.reader(io.StringIO(plaintext.to_csv(["a"], [row]), newline=""))
    assert cells == ["'=1", "'+1", "'-1", "'@a", "a=1", "-1.5", "", "True", "a\nb", r"a\x1bb"]


def test_json_says_the_same_and_shows_no_controls():
    values = {"name": "Ça\x1b\x9b\u202e\udce9\n"}
    text = plaintext.to_json(values)
    assert json.loads(text) == values
    assert text.split("\n")[1] == r'  "name": "Ça\u001b\u009b\u202e\udce9\n"'


def test_markdown_stays_text():
    assert plaintext.markdown("R&B <b>|x| [a](b)\n`c`") == r"R&B \<b\>\|x\| \[a\](b)\\n\`c\`"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("https://evil.example", r"https\://evil.example"),
        ("HTTP://evil.example, ftp://a.b", r"HTTP\://evil.example, ftp\://a.b"),
        ("see www.evil.example", r"see www\.evil.example"),
        ("Vol. 2: a/b", "Vol. 2: a/b"),
    ],
)
def test_addresses_are_no_links_in_markdown(text, written):
    assert plaintext.markdown(text) == written


@pytest.mark.parametrize("title", ["Zoé", "Ã la carte", "5 € – “so”", "Привет", "夜", "Â", "naïve ©", "¿Qué?"])
def test_a_title_taken_for_another_encoding_is_restored_and_a_sound_one_stays(title):
    assert plaintext.restore(title) == title
    assert plaintext.restore(title.encode().decode("latin-1")) == title
    with contextlib.suppress(UnicodeDecodeError):  # which not all bytes are
        assert plaintext.restore(title.encode().decode("cp1252")) == title


COLUMNS = ("id", "name")


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("lf.tsv", b"id\tname\n1\tone\n", [["1", "one"]]),
        ("crlf.tsv", b"id\tname\r\n1\tone\r\n2\ttwo\r\n", [["1", "one"], ["2", "two"]]),
        ("bom.tsv", b"\xef\xbb\xbfid\tname\n1\tone\n", [["1", "one"]]),
        ("ragged.tsv", b"id\tname\n1\tone\tmore\tand more\n", [["1", "one", "more", "and more"]]),
        ("quotes.tsv", b'id\tname\n1\tthe "one\n', [["1", 'the "one']]),
        ("quotes.csv", b'id,name\n1,"one, quoted"\n', [["1", "one, quoted"]]),
    ],
)
def test_tables_are_read_as_their_authors_wrote_them(name, content, rows, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert read_table(tmp_path / name, COLUMNS) == rows
    assert read_table(tmp_path / name, ()) == [[*COLUMNS], *rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_columns_are_found_by_name_in_any_encoding(encoding, tmp_path):
    lines = ["id, artist , mean,,", '1,"Björk\t",0.5', '2,"a ""b"", c", 1,more', ""]
    (tmp_path / "any.txt").write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))
    rows = read_columns(tmp_path / "any.txt", ("mean", "artist"))
    assert rows == [{"mean": "0.5", "artist": "Björk\t"}, {"mean": " 1", "artist": 'a "b", c'}]


@pytest.mark.parametrize("read", [read_table, read_columns])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", r"first line must begin with id \| name|no column 'id' \(those that are there: none\)"),
        (b"id, value ,\n1,2,3\n", r"must begin with id|no column 'name' \(those that are there: id \| value\)"),
        (b"id,name\n1,one\n\n2\n", "line 3: 0 cells, at least 2 are needed"),
    ],
    ids=["missing", "empty", "column", "short"],
)
def test_what_is_no_such_table_is_a_data_error_that_names_file_and_line(read, content, message, tmp_path):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"table.csv.*({message})"):
        read(path, COLUMNS)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("id,name, name\n1,2,3\n")
    with pytest.raises(DataError, match=r"table\.csv: 2 columns 'name'"):
        read_columns(tmp_path / "table.csv", COLUMNS)
