"""Commands in processes of their own, to be ended at any moment, and what they must not leave."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from jamendo_mood.util.files import PREFIX, is_draft

PATIENCE_S = 300.0


def start(*arguments: object) -> subprocess.Popen:
    """Start a command as a shell does: in a process group of its own, and not deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "jamendo_mood", *map(str, arguments)],
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def finish(*arguments: object) -> str:
    """Run a command to its end; what it printed."""
    process = start(*arguments)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def wait_for(happens: Callable[[], object], *processes: subprocess.Popen) -> bool:
    """Wait until something happens or all processes have ended; whether one lives."""
    deadline = time.monotonic() + PATIENCE_S
    while any(process.poll() is None for process in processes) and not happens():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return any(process.poll() is None for process in processes)


def listens(process: subprocess.Popen) -> bool:
    """Whether it has a handler for SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) & 1 << signal.SIGTERM - 1)


def kill(process: subprocess.Popen, *, whole_group: bool = True) -> bool:
    """End it with SIGKILL, with its children or without; whether that was what ended it."""
    if whole_group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def children_of(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def outlived(children: list[psutil.Process]) -> float:
    """Seconds until none of them lives; one that only nobody has asked for yet does not."""
    began = time.monotonic()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < began + PATIENCE_S
                time.sleep(0.01)
    return time.monotonic() - began


def left_behind(*folders: Path) -> list[str]:
    """Drafts, scratch folders and WAVs below some folders."""
    paths = [path for folder in folders if folder.is_dir() for path in folder.rglob("*")]
    return [str(path) for path in paths if is_draft(path.name) or path.name.startswith(PREFIX) or path.suffix == ".wav"]


def contents(folder: Path) -> dict[str, bytes]:
    """What is in a folder's files, drafts apart."""
    files = [path for path in folder.rglob("*") if path.is_file() and not is_draft(path.name)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@dataclass
class Extraction:
    """The commands that extract one library into one store, by several processes at once."""

    audio: Path
    whole: dict[str, bytes]  # every embedding, by the name of its file
    folder: Path
    processes: int = 1
    in_shards: bool = False

    def __post_init__(self) -> None:
        self.store, self.scratch = self.folder / "store", self.folder / "scratch"

    def start(self) -> list[subprocess.Popen]:
        command = ["extract", self.audio, "--store", self.store, "--scratch", self.scratch, "--embedder", "logmel"]
        shards = [("--shard", f"{n}/{self.processes}") if self.in_shards else () for n in range(1, self.processes + 1)]
        return [start(*command, "--batch", "8", *shard) for shard in shards]

    def embeddings(self) -> dict[str, bytes]:
        return {name: content for name, content in contents(self.store).items() if name.endswith(".npy")}

    def count(self) -> int:
        return sum(1 for path in self.store.rglob("[!.]*.npy"))

    def check_nothing_torn(self) -> None:
        for name, content in self.embeddings().items():
            assert content == self.whole[name], f"{name} is torn, or of another track"

    def decodes(self, pattern: str = f"{PREFIX}*/track-*") -> bool:
        """Whether there is something of that pattern in the scratch folder."""
        with contextlib.suppress(FileNotFoundError):  # a folder that went while this looked into it
            return any(self.scratch.glob(pattern))
        return False

    def wait_for_tracks(self, more: int, running: list[subprocess.Popen]) -> None:
        """Wait until they decode and so many more tracks are done, by all of them together."""
        before = self.count()
        wait_for(lambda: self.decodes() and self.count() >= before + more, *running)

    def run(self) -> None:
        """The commands, to their end."""
        for process in self.start():
            _, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode in (0, 1), err  # one track cannot be decoded
            assert "Traceback" not in err

    def finish(self) -> None:
        """The same commands once more."""
        self.run()
        assert self.embeddings() == self.whole
        assert not left_behind(self.folder), left_behind(self.folder)
        assert list(self.scratch.iterdir()) == []

    def remove(self) -> None:
        shutil.rmtree(self.folder)
