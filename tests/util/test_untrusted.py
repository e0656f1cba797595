import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from jamendo_mood.util import untrusted


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
        with pytest.raises(ValueError, match="letters that there are not"):
            untrusted.read_npy(io.BytesIO(file.getvalue()), file.tell())


def test_json_is_json():
    assert untrusted.parse_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    for content, message in ((b"[NaN]", "NaN is no number"), (b"[" * 10**5, "nested too deep"), (b"[", "Expecting")):
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
