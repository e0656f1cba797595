import hashlib
import io
import itertools
import json
import random
import subprocess
from dataclasses import asdict

import numpy as np
import pytest

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import (
    HEADER_BYTES,
    SEAL_BYTES,
    encode_entry,
    encode_header,
    parse_entry,
    read_failures,
    seal,
    write_failures,
)

SPEC = EmbedderSpec("toy", "ab" * 32, 16_000, 0.96, 0.5, 3, "thresholds")
FRAMES = np.arange(15, dtype=np.float32).reshape(5, 3)
CONTENT = encode_entry("48/9 ü", FRAMES, SPEC)


def npy(array, **how):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **how)
    return file.getvalue()


def test_an_entry_says_what_it_is():
    entry = parse_entry(CONTENT)
    np.testing.assert_array_equal(entry.frames, FRAMES)
    parse_entry(bytearray(CONTENT)).frames[0, 0] = 1  # what was read can be written to
    assert (entry.key, entry.spec) == ("48/9 ü", SPEC)
    assert entry.sha256 == hashlib.sha256(CONTENT[:-SEAL_BYTES]).hexdigest()


def test_an_entry_carries_a_remark_and_one_without_has_the_bytes_it_ever_had():
    remark = '6 of 12 s, über "zwölf"'
    remarked = encode_entry("48/9 ü", FRAMES, SPEC, remark)
    assert parse_entry(remarked).remark == remark
    assert parse_entry(CONTENT).remark == ""
    assert b"remark" not in CONTENT


def test_an_entry_can_be_read_by_numpy_and_its_checksum_compared_by_hand(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(CONTENT)
    np.testing.assert_array_equal(np.load(path), FRAMES)
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), FRAMES)
    told = subprocess.run(["tail", "-n", "2", path], capture_output=True, check=True).stdout.decode().split("\n")
    assert json.loads(told[0]) == {"key": "48/9 ü", "embedder": asdict(SPEC)}
    computed = subprocess.run(f"head -c -65 {path} | sha256sum", shell=True, capture_output=True, check=True)
    assert computed.stdout.decode().split()[0] == told[1]


def test_the_same_track_gives_the_same_bytes():
    assert encode_entry("48/9 ü", FRAMES[::-1][::-1].copy(order="F"), SPEC) == CONTENT


@pytest.mark.parametrize("rows", [1, 10**17])
def test_the_header_is_one_of_npy_files_and_longer_than_numpys(rows):
    header = encode_header(rows, 3)
    file = io.BytesIO(header)
    assert np.lib.format.read_magic(file) == (1, 0)
    assert np.lib.format.read_array_header_1_0(file) == ((rows, 3), False, np.dtype("<f4"))
    assert file.tell() == len(header) == HEADER_BYTES > len(npy(FRAMES)) - FRAMES.nbytes
    assert len(header) % 64 == 0


def test_no_end_of_an_entry_may_be_lost():
    for length in range(len(CONTENT)):
        with pytest.raises(ValueError, match=r"cut short|checksum|EOF|header|magic|tells of|^an array"):
            parse_entry(CONTENT[:length])


def test_no_bit_of_an_entry_may_flip_and_nothing_may_follow():
    for place, bit in itertools.product(range(len(CONTENT)), range(8)):
        flipped = bytearray(CONTENT)
        flipped[place] ^= 1 << bit
        with pytest.raises(ValueError, match=r"\w"):
            parse_entry(flipped)
    with pytest.raises(ValueError, match="checksum does not fit"):
        parse_entry(CONTENT + b"\0")


@pytest.mark.parametrize("about", [b"", b"[]", b"{}", b'{"key": "a", "embedder": {}}', b'{"key": "a", "embedder": 1}'])
def test_a_checksum_of_nonsense_is_none(about):
    content = CONTENT[: HEADER_BYTES + FRAMES.nbytes] + b"\n" + about + b"\n"
    with pytest.raises(ValueError, match=r"\w"):
        parse_entry(content + seal(content))


@pytest.mark.parametrize("array", [FRAMES, FRAMES.copy(order="F"), FRAMES.astype(">f4"), FRAMES.astype(np.int16)])
def test_arrays_of_earlier_versions_and_of_others_are_read_without_a_checksum(array):
    entry = parse_entry(npy(array, version=(1, 0)))
    np.testing.assert_array_equal(entry.frames, array)
    assert (entry.key, entry.spec, entry.sha256) == (None, None, "")


def test_random_bytes_are_no_entry():
    draw = random.Random(0)
    with pytest.raises(ValueError, match="cut short"):
        parse_entry(encode_header(10**12, 128) + bytes(100))  # takes no memory for what it promises
    for length in range(300):
        with pytest.raises(ValueError, match=r"\w"):
            parse_entry(draw.randbytes(length))


def test_a_list_of_failures_is_read_as_it_was_written(tmp_path):
    path, listed = tmp_path / "failures.tsv", {"a": "no sound", "b ü": "a\u2028b\x85c\rd"}
    assert read_failures(path) == ({}, 0)
    write_failures(path, listed)
    assert read_failures(path) == (listed, 0)


@pytest.mark.parametrize(
    ("content", "listed", "damaged"),
    [
        (b"", {}, 0),
        (b"key\terror\n", {}, 0),
        (b"key\terror\na\tb\nkey\terror\nc\td\n", {"a": "b", "c": "d"}, 0),  # two processes began it at once
        (b"key\terror\na\tb\nc\td", {"a": "b", "c": "d"}, 1),
        (b"key\terror\na\tb\n\nc\td\n", {"a": "b", "c": "d"}, 1),
        (b"a\tb\n", {"a": "b"}, 1),
        (b"key\terror", {"key": "error"}, 1),
        (b"key\terror\n\xff\tb\n../a\tb\n", {}, 2),
    ],
)
def test_damaged_lines_are_reported(content, listed, damaged, tmp_path):
    (tmp_path / "failures.tsv").write_bytes(content)
    assert read_failures(tmp_path / "failures.tsv") == (listed, damaged)
