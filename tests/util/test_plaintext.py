import contextlib
import json

import pytest

from jamendo_mood.util import plaintext


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
    assert plaintext.show_lines(f"{text}\nb") == f"{plaintext.show_lines(text)}\nb"


def test_cells_for_a_spreadsheet():
    row = ["=1", "+1", "-1", "@a", "a=1", -1.5, None, True, "a\nb", "a\x1bb"]
    assert plaintext.cells(row) == ["'=1", "'+1", "'-1", "'@a", "a=1", -1.5, None, True, "a\nb", r"a\x1bb"]


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
