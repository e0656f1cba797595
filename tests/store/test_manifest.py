import pytest
from damaged_stores import SPEC

from jamendo_mood.store import embedding_store
from jamendo_mood.store.embedding_store import (
    format_manifest,
    read_failures,
    read_manifest,
    write_failures,
)


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "store.json"
    path.write_bytes(format_manifest(SPEC))
    assert read_manifest(path) == SPEC
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "none")


def test_a_list_of_failures_is_read_as_it_was_written(tmp_path):
    path, listed = tmp_path / "failures.tsv", {"a": "no sound", "b ü": "a\u2028b\x85c\rd"}
    assert read_failures(path) == ({}, [])
    write_failures(path, listed)
    assert read_failures(path) == (listed, [])


@pytest.mark.parametrize(
    ("content", "listed", "damaged"),
    [
        (b"", {}, []),
        (b"key\terror\n", {}, []),
        (b"key\terror\na\tb\nc\td", {"a": "b", "c": "d"}, [3]),
        (b"key\terror\na\tb\n\nc\td\n", {"a": "b", "c": "d"}, [3]),
        (b"a\tb\n", {"a": "b"}, [1]),
        (b"key\terror", {"key": "error"}, [1]),
        (b"key\terror\n\xff\tb\n../a\tb\n", {}, [2, 3]),
    ],
)
def test_damaged_lines_are_reported(content, listed, damaged, tmp_path):
    (tmp_path / "failures.tsv").write_bytes(content)
    assert read_failures(tmp_path / "failures.tsv") == (listed, damaged)


def test_of_damaged_lines_only_the_first_are_reported(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"\n" * 1000)
    assert read_failures(tmp_path / "a") == ({}, [*range(1, 101)])
    monkeypatch.setattr(embedding_store, "MAX_FAILURES_BYTES", 20)
    (tmp_path / "a").write_bytes(bytes(21))
    with pytest.raises(ValueError, match="more than 20 bytes"):
        read_failures(tmp_path / "a")
