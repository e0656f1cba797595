"""A layer around all that writes, which fails at a call of one's choice as a disk does."""

import builtins
import io
import os
from pathlib import Path

STEPS = ("open", "write", "fsync", "replace", "rename", "mkdir", "ftruncate")
_WRITING = set("wxa+")


class FailingDisk:
    """Fails at the n-th call that would change something below a folder, and if it `lasts` at all after it.

    Counted are files opened for writing and written to, flushed, renamed and cut, and folders made; not what takes
    away, which needs no room and is how a writer cleans up.
    """

    def __init__(self, monkeypatch, folder: Path) -> None:
        self._folder = folder
        self.calls: list[str] = []
        self._code = self._at = 0
        self._lasts = False
        for name in STEPS:
            monkeypatch.setattr(os, name, self._wrap(name))
        self._open_file = io.open
        monkeypatch.setattr(io, "open", self._open)
        monkeypatch.setattr(builtins, "open", self._open)

    def fail(self, code: int, at: int, *, lasts: bool) -> None:
        """From now on."""
        self.calls.clear()
        self._code, self._at, self._lasts = code, at, lasts

    def mend(self) -> bool:
        """Fail no more; whether it did."""
        failed = 0 < self._at <= len(self.calls)
        self._at = 0
        return failed

    def step(self, name: str, place: object) -> None:
        if self._at and self._is_below(place):
            self.calls.append(name)
            if len(self.calls) == self._at or (self._lasts and len(self.calls) > self._at):
                raise OSError(self._code, os.strerror(self._code))

    def _is_below(self, place) -> bool:
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else Path(os.fsdecode(place))
        return path.absolute().is_relative_to(self._folder)

    def _wrap(self, name: str):
        real = getattr(os, name)

        def call(place, *rest, **named):
            reading = name == "open" and not rest[0] & (os.O_WRONLY | os.O_RDWR)
            there = name == "mkdir" and Path(place).is_dir()
            if not reading and not there:
                self.step(name, place)
            return real(place, *rest, **named)

        return call

    def _open(self, file, mode="r", buffering=-1, *rest, **named):
        if isinstance(file, int) or not _WRITING & set(mode) or not self._is_below(file):
            return self._open_file(file, mode, buffering, *rest, **named)
        assert "b" in mode, "write bytes: text is encoded before"
        self.step("open", file)
        raw = _Raw(file, mode.replace("b", ""))
        raw.disk = self
        return raw if buffering == 0 else io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class _Raw(io.FileIO):
    disk: FailingDisk

    def write(self, content):
        self.disk.step("write", self.name)
        return super().write(content)
