"""The browser's half of the widgets: one script and one style sheet each, and the messages between the two halves.

Everything goes by messages and nothing by traits, so that no upload and no result is saved with a notebook.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import anywidget

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.util.errors import AudioError, CancelledError

Buffers = Sequence[bytes | memoryview]
PIECE_BYTES = 200_000
"""Of a sound, what is sent at once: between two pieces other messages get through."""


def read_static(*names: str) -> str:
    """Join files of ``static/`` into one text."""
    folder = resources.files("jamendo_mood.app") / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


class Page(anywidget.AnyWidget):  # type: ignore[misc]
    """A widget that shows what it is told, and tells what its user does.

    Parameters
    ----------
    script : str
        An ES module that exports what anywidget expects.
    style : str
    answer : callable
        Called with each message and its buffers.
    """

    def __init__(self, script: str, style: str, answer: Callable[[Mapping[str, Any], Buffers], None]) -> None:
        self._esm, self._css = script, style
        super().__init__()
        self.on_msg(lambda _, message, buffers: answer(message, buffers))

    def tell(self, kind: str, buffers: Buffers = (), **content: Any) -> None:
        """Send a message of a kind to every view; one with a `view` is for the view of that name alone."""
        self.send({"type": kind, **content}, buffers=list(buffers))

    def send_piece(self, key: str, index: int, sound: bytes | None) -> None:
        """Send a part of a sound; the browser asks for one after the other. None: there is no sound."""
        start = index * PIECE_BYTES
        piece = (sound or b"")[start : start + PIECE_BYTES]
        last = sound is None or start + PIECE_BYTES >= len(sound)
        self.tell("piece", [piece] if piece else [], key=key, index=index, last=last)


EXCERPT_S = 30.0
KBPS = 64
"""Of an excerpt, in mono: 240 kB for 30 s, good enough to recognise a song by."""
MAX_BYTES = 10 * 3600 * KBPS * 1000 // 8  # ten hours: it is kept in memory
MAX_ASKED = 64  # pieces that wait for the encoder: a page asks for one at a time
KEPT = 4  # sounds that were asked for last: each is asked for in pieces

log = logging.getLogger(__name__)


def encode_excerpt(path: Path, length_s: float | None = EXCERPT_S) -> bytes:
    """Encode the middle of an audio file, or all of it, as a mono MP3 of 64 kb/s.

    Parameters
    ----------
    path : Path
    length_s : float or None
        Seconds; None is the whole file.

    Raises
    ------
    AudioError
        It cannot be decoded, or this ffmpeg cannot write MP3.
    """
    duration_s = decoding.probe(path).duration_s
    span: tuple[str, ...] = ()
    if length_s is not None:
        start_s = 0.0 if duration_s is None else max(0.0, (duration_s - length_s) / 2)
        span = ("-ss", f"{start_s:.2f}", "-t", f"{length_s:.2f}")
    done = ffmpeg.run(
        *("-v", "error", *span, "-i", str(path.absolute()), "-vn", "-sn", "-dn"),
        *("-map_metadata", "-1", "-ac", "1", "-c:a", "libmp3lame", "-b:a", f"{KBPS}k", "-f", "mp3", "-"),
        max_bytes=MAX_BYTES,
    )
    if done.status != 0 or not done.output:
        raise AudioError(f"{path}: no excerpt can be made of it ({done.reason(path) if done.report else 'no sound'})")
    return done.output


class Sounds:
    """Hands out sounds by their key, in pieces, from a thread of its own; nothing else can be asked for.

    Parameters
    ----------
    send_piece : callable (key, index, sound or None)
        Sends one piece of a sound.
    library : mapping of str to Path
        Tracks of which an excerpt may be heard.

    Attributes
    ----------
    own : dict of str to Path
        Songs that may be heard whole.
    """

    def __init__(self, send_piece: Callable[[str, int, bytes | None], None], library: Mapping[str, Path]) -> None:
        self.own: dict[str, Path] = {}
        self._send_piece, self._library = send_piece, library
        self._encoder = ThreadPoolExecutor(1, "jamendo-mood-sounds")
        self._closed = threading.Event()
        self._room = threading.Semaphore(MAX_ASKED)
        self._encoded: dict[str, bytes | None] = {}

    def send(self, key: str, index: int) -> None:
        """Send a piece of a sound, or word that there is none; returns at once. Of too many requests some are lost."""
        if self._room.acquire(blocking=False):
            self._encoder.submit(self._answer, key, index)

    def close(self) -> None:
        """End the thread, and what it is encoding."""
        self._closed.set()
        self._encoder.shutdown(cancel_futures=True)

    def _answer(self, key: str, index: int) -> None:
        try:
            self._send_piece(key, index, self._encode(key))
        finally:
            self._room.release()

    def _encode(self, key: str) -> bytes | None:
        if key not in self._encoded:
            path = self.own.get(key) or self._library.get(key)
            try:
                with ffmpeg.stopped_by(self._closed.is_set):
                    sound = None if path is None else encode_excerpt(path, None if key in self.own else EXCERPT_S)
            except CancelledError:
                return None
            except (AudioError, OSError) as error:
                log.warning("%s", error)
                sound = None
            self._encoded = dict([*self._encoded.items(), (key, sound)][-KEPT:])
        return self._encoded[key]
