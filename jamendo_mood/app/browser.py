"""The browser's half of the widgets: one script and one style sheet each, and the messages between the two halves.

Everything goes by messages and nothing by traits, so that no upload and no result is saved with a notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import anywidget

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
