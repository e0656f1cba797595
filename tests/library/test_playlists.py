"""Tracks written down: for eyes, programs, spreadsheets and players."""

import csv
import io
import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlparse

import pytest

from jamendo_mood.library.similarity import FORMATS, Found, describe, name_of, to_csv, to_json, to_m3u8, to_table

TAGS = (("calm", 0.75), ("dark", 0.125))


def found(key="48/948", file="music/48/948.mp3", **facts):
    return Found(key, 0.98765, None if file is None else Path(file), TAGS, **facts)


NAMED = found(title="Gymnopédie", artist="Satie", duration_s=185.4)
NAMELESS = found("1/1", None)


def test_files_tell_their_names_and_lengths(make_audio, tone, tmp_path):
    facts = ("-metadata", "title=A study", "-metadata", "artist=The Toys")
    named = make_audio(tmp_path / "named.mp3", tone(seconds=2.0), options=facts)
    (tmp_path / "broken.mp3").write_bytes(b"no sound")
    files = [named, tmp_path / "broken.mp3", tmp_path / "gone.mp3", None]
    described = describe([found(str(number), file) for number, file in enumerate(files)])
    assert [track.key for track in described] == ["0", "1", "2", "3"]
    assert [track.file for track in described] == files
    assert [track.title for track in described] == ["A study", None, None, None]
    assert described[0].artist == "The Toys"
    assert described[0].duration_s == pytest.approx(2, abs=0.1)
    assert describe([]) == []


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({}, "48/948"),
        ({"title": "T"}, "T"),
        ({"artist": "A", "title": "T"}, "A - T"),
        ({"artist": " \n", "title": "one\r\ntwo\u2028three\x1b[2J\tfour\xa0five"}, "one two three [2J four five"),
    ],
)
def test_names_are_one_line(facts, name):
    assert name_of(found(**facts)) == name


def test_a_table_is_for_eyes():
    lines = to_table([NAMED, *[NAMELESS] * 9]).splitlines()
    assert lines[0] == " 1  0.988  48/948  Satie - Gymnopédie  (3:05)  calm 0.75, dark 0.12"
    assert lines[9] == "10  0.988  1/1                                 calm 0.75, dark 0.12"
    assert to_table([NAMELESS]) == "1  0.988  1/1  calm 0.75, dark 0.12\n"
    assert to_table([]) == ""


def test_json_is_for_programs():
    one, other = json.loads(to_json([NAMED, NAMELESS]))
    assert one == {
        "key": "48/948",
        "fit": 0.98765,
        "title": "Gymnopédie",
        "artist": "Satie",
        "duration_s": 185.4,
        "file": "music/48/948.mp3",
        "tags": [{"tag": "calm", "score": 0.75}, {"tag": "dark", "score": 0.125}],
    }
    assert (other["file"], other["title"], other["duration_s"]) == (None, None, None)


def test_csv_is_for_spreadsheets_and_runs_nothing_in_them():
    evil = found("-1/1", "=1.mp3", title='=HYPERLINK("http://x","y")', artist="@sum, of it\nall")
    one, other, third = csv.DictReader(io.StringIO(to_csv([NAMED, NAMELESS, evil])))
    assert one == {
        "key": "48/948",
        "fit": "0.9877",
        "title": "Gymnopédie",
        "artist": "Satie",
        "duration_s": "185.4",
        "file": "music/48/948.mp3",
        "tags": "calm 0.750; dark 0.125",
    }
    assert (other["file"], other["title"], other["duration_s"]) == ("", "", "")
    assert third["key"] == "'-1/1"
    assert third["title"] == '\'=HYPERLINK("http://x","y")'
    assert third["artist"] == "'@sum, of it\nall"
    assert third["file"] == "'=1.mp3"


def test_m3u8_is_for_players():
    assert to_m3u8([NAMED, NAMELESS, found("2/2", "/music/2.mp3", title="a\n#EXTINF:1,b")]) == (
        f"#EXTM3U\n#EXTINF:185,Satie - Gymnopédie\n{Path('music/48/948.mp3').absolute()}\n"
        "#EXTINF:-1,a #EXTINF:1,b\n/music/2.mp3\n"
    )
    assert to_m3u8([]) == "#EXTM3U\n"


@pytest.mark.parametrize("name", [b"/music/a\nb.mp3", b"/music/caf\xe9.mp3", "/music/a\u2028b.mp3".encode()])
def test_a_path_that_no_line_holds_becomes_a_uri(name):
    text = to_m3u8([found(file=os.fsdecode(name))])
    *_, line = text.splitlines()
    assert text.count("\n") == 3
    assert text.encode()
    assert line.startswith("file:///music/")
    assert unquote_to_bytes(urlparse(line).path) == name


@pytest.mark.parametrize("form", FORMATS)
def test_names_of_files_that_are_no_unicode_can_be_written(form):
    assert FORMATS[form]([found(file=os.fsdecode(b"/music/caf\xe9.mp3"))]).encode()
