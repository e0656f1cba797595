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


@pytest.mark.parametrize("target", ["elsewhere/real", "{}/elsewhere/real", "another", "new"])
def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced_or_made(target, tmp_path):
    real, link, another = (tmp_path / name for name in ("elsewhere/real", "link", "another"))
    real.parent.mkdir()
    real.write_bytes(b"old")
    another.symlink_to("elsewhere/real")
    link.symlink_to(target.format(tmp_path))
    write(link)
    assert link.is_symlink()
    assert another.is_symlink()
    assert link.read_bytes() == b"new"
    assert real.read_bytes() == (b"old" if target == "new" else b"new")
    assert [*real.parent.iterdir()] == [real]


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
def test_standard_output_is_written_to_after_what_is_there(device, tmp_path):
    done = subprocess.run([sys.executable, "-c", WRITE, device], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"new"
    target = tmp_path / "shell.txt"
    target.write_bytes(b"old, ")
    with target.open("ab") as file:  # as `--out /dev/stdout >> shell.txt`
        subprocess.run([sys.executable, "-c", WRITE, device], stdout=file, check=True)
    assert target.read_bytes() == b"old, new"
    assert [*tmp_path.iterdir()] == [target]


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
