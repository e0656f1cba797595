"""How other programs save tables and lists: marks at the beginning, blank lines at the end, other encodings."""

import codecs
import io
import zipfile

import numpy as np
import pytest
from test_loaders import WRITERS

from jamendo_mood.datasets import jamendo, load_dataset
from jamendo_mood.datasets.dataset import find_leaks
from jamendo_mood.evaluation.evaluate import read_tags, read_thresholds
from jamendo_mood.store.embedding_store import read_failures
from jamendo_mood.tagging.emotions import read_places
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.plaintext import read_columns, read_lines, read_table

SAVED = {
    "a mark": lambda text: text.encode("utf-8-sig"),
    "blank lines": lambda text: f"{text}\n  \n\n".encode(),
    "Windows' line ends": lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, the other way round": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "all of it": lambda text: f"{text}\r\n\t\r\n".encode("utf-8-sig"),
}
TEXTS = (".csv", ".tsv", ".txt")


def save_again(path, saved):
    path.write_bytes(SAVED[saved](plaintext.decode(path.read_bytes(), path)))


@pytest.mark.parametrize("saved", SAVED)
@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("audioset", "jamendo-59", "own-files")])
def test_a_data_set_is_the_same_however_its_tables_were_saved(name, saved, tmp_path):
    root = WRITERS[name](tmp_path)
    before = load_dataset(name, root)
    tables = [path for path in tmp_path.rglob("*") if path.suffix in TEXTS]
    assert tables
    for path in tables:
        save_again(path, saved)
    after = load_dataset(name, root)
    assert (after.tracks, after.task) == (before.tracks, before.task)
    np.testing.assert_array_equal(after.targets, before.targets)


@pytest.mark.parametrize("saved", SAVED)
def test_recordings_that_are_the_same_are_found_however_the_list_was_saved(saved, tmp_path):
    root = WRITERS["jamendo"](tmp_path)
    one, *others = load_dataset("jamendo", root).tracks
    other = next(track for track in others if track.artist != one.artist)
    path = root / jamendo.CHECKSUMS_NAME
    path.write_text(f"{'Ab' * 32} {one.audio}\n{'aB' * 32}  {other.audio}\n")
    save_again(path, saved)
    assert jamendo.read_checksums(root) == {one.key: "ab" * 32, other.key: "ab" * 32}
    one, *others = load_dataset("jamendo", root).tracks
    leaks = find_leaks({"one": [one], "other": others})
    assert [leak.other.key for leak in leaks if leak.kind == "bit-identical audio"] == [other.key]


@pytest.mark.parametrize(
    "line",
    ["ab" * 32 + "c 1/2.mp3", "ab" * 31 + " 1/2.mp3", "ab" * 32, "xy" * 32 + " 1/2.mp3", "\ufeff" + "ab" * 32 + " a"],
)
def test_what_is_not_a_checksum_is_told_with_its_line(line, tmp_path):
    (tmp_path / jamendo.CHECKSUMS_NAME).write_text(f"{'0' * 64} 1/1.mp3\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"sha256_tracks\.txt, line 2: not a list of checksums"):
        jamendo.read_checksums(tmp_path)


@pytest.mark.parametrize("saved", SAVED)
def test_other_lists_are_the_same_however_they_were_saved(saved, tmp_path):
    lists = {
        "tags.txt": ("calm\nBjörk\n", read_tags, ("calm", "Björk")),
        "thresholds.tsv": ("calm\t0.5\ndark\t1\n", lambda path: read_thresholds(path)[0], ("calm", "dark")),
        "places.csv": ("MoodTag,Valence,Arousal\ncalm,5,1\n", read_places, {"calm": (0, -1)}),
        "names.txt": ("a\n\n b \n", read_lines, ["a", "", "b"]),
    }
    for name, (text, read, expected) in lists.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        save_again(tmp_path / name, saved)
        assert read(tmp_path / name) == expected


@pytest.mark.parametrize(("mark", "end"), [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_failures_that_were_edited_are_still_known(mark, end, tmp_path):
    lines = (f"{mark}key\terror", "1/2\tcannot be decoded", "Björk/3\ttoo short")
    (tmp_path / "failures.tsv").write_bytes("".join(line + end for line in lines).encode())
    assert read_failures(tmp_path / "failures.tsv") == ({"1/2": "cannot be decoded", "Björk/3": "too short"}, 0)


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 2000)
    return content.getvalue()


TEXT = "path,artist\na.mp3,Ann\nb.mp3,Björk\n"
STRANGE = {
    "a quote": (TEXT.replace("ö", "’").encode("cp1252"), r", line 3: .*not UTF-8 but, it seems, Windows-1252 or L"),
    "a mark": (codecs.BOM_UTF8 + TEXT.encode("latin-1"), r", line 3: .*Windows-1252 or Latin-1: save it as UTF-8"),
    "UTF-16": (TEXT.encode("utf-16-le"), r": .*it seems to be UTF-16 without a byte order mark: save it as UTF-8"),
    "UTF-16-BE": (TEXT.encode("utf-16-be"), r": .*it seems to be UTF-16 without a byte order mark: save it as UTF-8"),
    "half of it": (TEXT.encode("utf-16")[:-1], r": .*it begins as UTF-16 and is not: save it as UTF-8"),
    "Excel": (zipped("[Content_Types].xml", "xl/workbook.xml"), r": .*it is an Excel workbook: save it as plain text"),
    "a page": (b"\n<!DOCTYPE html>\n<html>404", r": .*it is a web page: save it as plain text or CSV, in UTF-8"),
    "sound": (b"ID3\x04\0\0\xff\xfb\x90\x64" * 20, r": .*it is not text"),
}


@pytest.mark.parametrize("saved", STRANGE)
@pytest.mark.parametrize("read", [lambda path: read_columns(path, ("path",)), lambda path: read_table(path, ("path",))])
def test_what_cannot_be_read_is_told_in_a_line_that_says_what_it_seems_to_be(saved, read, tmp_path):
    content, message = STRANGE[saved]
    (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"own\.csv" + message) as caught:
        read(tmp_path / "own.csv")
    assert "\n" not in str(caught.value)
