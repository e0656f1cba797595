"""Playlists that travel: songs named from where the playlist lies, and a folder with a playlist for each mood."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.library.similarity import Array, Found, as_line, location_of, to_m3u8
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import files
from jamendo_mood.util.errors import UsageError

Locate = Callable[[Found], str]
_MARK = b"#jamendo-mood playlist --all, SHA-256 of what follows: "
_MAX_BYTES = 1 << 26
_MAX_NAME = 60  # characters, of 4 bytes each at most: file systems take 255 bytes
#: what some file system refuses in a name, and where one gets a letter more: before a device of Windows, say
_UNFIT = re.compile(r'[<>:"/\\|?*]|^(?=[-~]|$|(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))', re.IGNORECASE)


def decide_moods(tagger: Tagger, scores: Array) -> npt.NDArray[np.bool_]:
    """Which songs are of which mood: scores (n, k) -> bool (n, k).

    Those that the tagger decides; where it only ranks, a song is of the mood that it has most of. Raises `UsageError`
    for a tagger of values.
    """
    if tagger.task.rules.on_scale:
        raise UsageError(f"this tagger predicts numbers ({', '.join(tagger.task.targets)}), and decides on no moods")
    return np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)] if tagger.ranks else tagger.decide(scores)


def relative_to(folder: Path) -> Locate:
    """Names the files of tracks from a folder on; by an absolute URI where a line of text can't hold the path."""

    def locate(track: Found) -> str:
        file, start = Path(track.file or "").absolute(), folder.absolute()
        if not file.is_relative_to(start):  # `..` leads to the folder above the one that a link leads to
            file, start = file.parent.resolve() / file.name, start.resolve()
        path = os.path.relpath(file, start)
        return as_line(path) if path.isprintable() else location_of(file)

    return locate


def write_playlists(folder: Path, playlists: Mapping[str, Sequence[Found]], locate: Locate | None) -> int:
    """Write a playlist for each mood into a folder, in place of those of an earlier call; returns how many went.

    They are known by a checksum in their second line. Raises `UsageError`, and writes nothing, if another file has a
    playlist's name, or one was changed since; `StoreError` or `DiskFullError` if the folder cannot be written.
    """
    there = {_fold(path.name): path for path in folder.glob("*.m3u8")}
    ours = {name for name, path in there.items() if _is_ours(path)}
    writes: dict[str, bytes] = {}
    for mood, tracks in playlists.items():
        plain = "".join(letter if letter.isprintable() else "_" for letter in mood)[:_MAX_NAME].strip(" .")
        name = plain = _UNFIT.sub("_", plain)
        while _fold(f"{name}.m3u8") in map(_fold, writes):
            name += "_"
        start, content = to_m3u8(tracks, locate).encode().split(b"\n", 1)
        writes[f"{name}.m3u8"] = b"\n".join((start, _mark(content), content))
    names = {_fold(name) for name in writes}
    for name in names & there.keys() - ours:
        raise UsageError(
            f"{there[name]}: not written by `playlist --all`, or changed since: move it, or name another folder"
        )
    files.write_together({folder / name: content for name, content in writes.items()})
    for name in ours - names:
        with files.disk_errors(there[name]):
            there[name].unlink()
    return len(ours - names)


def _fold(name: str) -> str:
    """What is the same for two names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _mark(content: bytes) -> bytes:
    return _MARK + hashlib.sha256(content).hexdigest().encode()


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return False
    _, mark, content = [*path.read_bytes().split(b"\n", 2), b"", b""][:3]
    return mark == _mark(content)
