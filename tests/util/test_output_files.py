"""What is there under the name of an output: a link, a pipe, a device, a folder."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jamendo_mood.util.errors import StoreError
from jamendo_mood.util.files import write_output


def write(path, content=b"new"):
    write_output(path, lambda file: file.write(content))


@pytest.mark.parametrize("relative", [True, False])
def test_a_link_stays_and_its_file_is_replaced(tmp_path, relative):
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real.json"
    real.write_bytes(b"old")
    link = tmp_path / "link.json"
    link.symlink_to(os.path.relpath(real, tmp_path) if relative else real)
    write(link)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert [path.name for path in real.parent.iterdir()] == ["real.json"]


def test_a_link_that_leads_nowhere_yet_makes_its_file(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"new"


def test_a_link_to_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "a").symlink_to("real")
    (tmp_path / "b").symlink_to("a")
    write(tmp_path / "b")
    assert (tmp_path / "b").readlink().name == "a"
    assert (tmp_path / "real").read_bytes() == b"new"


def test_links_in_a_circle_are_an_error_and_stay(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StoreError, match=r"(?i)symbolic links|loop"):
        write(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_a_pipe_is_written_to(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(10)
    assert got == [b"new"]
    assert pipe.is_fifo()


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder"):
        write(tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


WRITE = "import sys; from pathlib import Path; from jamendo_mood.util.files import write_output; "
WRITE += "write_output(Path(sys.argv[1]), lambda file: file.write(b'new'))"


@pytest.mark.parametrize("device", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to(device, tmp_path):
    done = subprocess.run([sys.executable, "-c", WRITE, device], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"new"
    target = tmp_path / "shell.txt"
    with target.open("wb") as file:  # as `--out /dev/stdout > shell.txt`
        subprocess.run([sys.executable, "-c", WRITE, device], stdout=file, check=True)
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["shell.txt"]


def test_standard_output_goes_after_what_is_there(tmp_path):
    target = tmp_path / "shell.txt"
    target.write_bytes(b"old, ")
    with target.open("ab") as file:  # as `--out /dev/stdout >> shell.txt`
        subprocess.run([sys.executable, "-c", WRITE, "/dev/stdout"], stdout=file, check=True)
    assert target.read_bytes() == b"old, new"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, tmp_path):
    target = tmp_path / "private.json"
    target.write_bytes(b"old")
    target.chmod(mode)
    before = target.stat()
    write(target)
    after = target.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert target.read_bytes() == b"new"


def test_a_file_that_may_not_be_written_to_stays(tmp_path, monkeypatch):
    target = tmp_path / "protected.json"
    target.write_bytes(b"old")
    target.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).stat().st_mode & 0o200 != 0)  # root may do anything
    with pytest.raises(StoreError, match="Permission denied"):
        write(target)
    assert target.read_bytes() == b"old"


def test_dev_null_stays_what_it_is(tmp_path):
    before = Path("/dev/null").stat()
    write(tmp_path / "x")  # so that a failure of the next line is not one of writing at all
    subprocess.run([sys.executable, "-c", WRITE, "/dev/null"], check=True)
    assert Path("/dev/null").stat().st_mode == before.st_mode
