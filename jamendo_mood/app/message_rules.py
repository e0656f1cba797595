"""What a visitor's browser may say to its kernel, how much of it at once, and how much may wait for it to be read.

The browser's half of the widgets sends comm messages and nothing else. A message that would run code, ask for what was
typed, or make another widget gets no further than here.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import struct
from typing import Any

from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from tornado.iostream import StreamBufferFullError
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError

from jamendo_mood.app.http_security import UNREAD_BYTES, MessageHandler, set_headers

PROTOCOL = "v1.kernel.websocket.jupyter.org"
MESSAGE_BYTES = 4_000_000  # of a browser's message to a kernel: four pieces of an upload
BYTES_AHEAD = MESSAGE_BYTES
MESSAGES_AHEAD = 16
"""What a kernel has got, and has not done with: while it is more, no more is read from its visitor."""
MOST_PARTS = 16
JSON_BYTES = 32_768  # of a message without its buffers: a page takes hundreds
MOST_SOCKETS = 3
"""Of one kernel: a page has one, and another for a moment when it has lost the first."""
TYPES = {"kernel_info_request", "comm_info_request", "comm_open", "comm_msg", "comm_close"}
METHODS = ("custom", "request_state", "request_states")
"""Of comm messages; not `update`: nothing of the page is told by traits."""
TARGETS = ("jupyter.widget.control",)
"""What a browser may open: where it asks which widgets there are."""
POLICY_VIOLATION, TRY_AGAIN = 1008, 1013  # of RFC 6455 and of its registry
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


class NonsenseError(ValueError):
    """What came from a browser is no message to a kernel."""


def split_message(message: bytes | str) -> list[bytes]:
    """The parts of a message: channel, header, parent's header, metadata, content, and buffers.

    Raises
    ------
    NonsenseError
        It is none of Jupyter's protocol v1.

    References
    ----------
    https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
    """
    if isinstance(message, str) or len(message) < 8:
        raise NonsenseError("too short, or text")
    (count,) = struct.unpack_from("<Q", message)
    if not 6 <= count <= MOST_PARTS or len(message) < 8 * (count + 1):  # before anything is made of that size
        raise NonsenseError(f"{count} offsets")
    offsets = struct.unpack_from(f"<{count}Q", message, 8)
    if offsets[0] != 8 * (count + 1) or offsets[-1] != len(message) or list(offsets) != sorted(offsets):
        raise NonsenseError("offsets out of order")
    return [message[start:end] for start, end in itertools.pairwise(offsets)]


def read_request(message: bytes | str) -> tuple[str, bool]:
    """Of a message from a browser: its name, and whether the kernel may have it.

    Raises
    ------
    NonsenseError
        It is no message.
    """
    channel, *parts = split_message(message)
    if sum(map(len, parts[:4])) > JSON_BYTES:
        raise NonsenseError("too much but no buffer")
    try:
        header, parent, metadata, content = (json.loads(part.decode()) for part in parts[:4])
    except (ValueError, RecursionError) as error:
        raise NonsenseError(str(error)) from error
    kinds = {type(part) for part in (header, parent, metadata, content)}
    name, kind = (header.get("msg_id"), header.get("msg_type")) if kinds == {dict} else (None, None)
    if not (isinstance(name, str) and isinstance(kind, str)):
        raise NonsenseError("no header")
    return name, channel == b"shell" and kind in TYPES and _makes_sense(kind, content)


def _makes_sense(kind: str, content: dict[str, Any]) -> bool:
    data = content.get("data")
    if kind == "comm_msg":
        return isinstance(data, dict) and data.get("method") in METHODS
    return kind != "comm_open" or content.get("target_name") in TARGETS


class ChannelsHandler(KernelWebsocketHandler):  # type: ignore[misc]
    """The websocket between a page and its kernel."""

    write_error = MessageHandler.write_error
    set_cors_headers = MessageHandler.set_cors_headers

    def set_default_headers(self) -> None:
        """Those of every answer, for the browser that is refused."""
        set_headers(self)

    async def pre_get(self) -> None:
        """Refuse what is no page of a visitor, before anything is made for it."""
        self._ahead: dict[str, int] = {}  # of each message that the kernel has not done with: its bytes
        self._moved = asyncio.Event()
        self._connected = False
        if not self.kernel_manager.has_visitor(self.kernel_id):
            raise HTTPError(404)
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        if PROTOCOL not in map(str.strip, offered.split(",")):
            raise HTTPError(400)
        if not _SESSION.fullmatch(self.get_query_argument("session_id", "")):
            raise HTTPError(400)
        await super().pre_get()

    async def open(self, kernel_id: str) -> None:
        """Connect to the kernel, if it is still there, and not too many others are connected to it."""
        kernels = self.kernel_manager
        if not kernels.has_visitor(kernel_id) or len(kernels.sockets(kernel_id)) >= MOST_SOCKETS:
            self.close(TRY_AGAIN)
            return
        kernels.sockets(kernel_id).add(self)
        self._connected = True
        await super().open(kernel_id)

    def on_close(self) -> None:
        """The browser has gone."""
        self._moved.set()
        if self._connected:
            self.kernel_manager.sockets(self.kernel_id).discard(self)
            super().on_close()
        self.connection = None

    async def on_message(self, message: bytes | str) -> None:
        """Pass on what a page says, once the kernel has done with most of what it was told before."""
        self.on_pong(b"")  # as good a sign of life: the answer to a ping may stand behind many messages
        try:
            name, allowed = read_request(message)
        except NonsenseError:
            self.close(POLICY_VIOLATION)
            return
        if not allowed or name in self._ahead:
            return
        while self.connection is not None and (
            len(self._ahead) >= MESSAGES_AHEAD or sum(self._ahead.values()) + len(message) > BYTES_AHEAD
        ):
            self._moved.clear()
            await self._moved.wait()
        shell = self.connection and self.connection.channels.get("shell")
        if shell:
            # Not by `handle_incoming_message`, which falls back to the old protocol when the browser has gone, and then
            # makes 4 GB of the first bytes of a message.
            self._ahead[name] = len(message)
            self.connection.session.send_raw(shell, split_message(message)[1:])

    def write_message(self, message: Any, binary: bool = False) -> None:
        """Pass on what the kernel says but for its code, and note what it has done with.

        To a browser that has gone nothing is passed on: Jupyter falls back to its old protocol then, and what Voila
        makes of such a message takes all memory and never ends.
        """
        if self.ws_connection is None or not isinstance(message, bytes) or self._note(message) == "execute_input":
            return
        try:
            written = super().write_message(message, binary)
        except StreamBufferFullError:  # the browser takes nothing, and asks on
            self.ws_connection.stream.close()
        except WebSocketClosedError:  # it has gone, which is no news for the log
            pass
        else:
            written.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _note(self, message: bytes) -> str:
        _, header, parent, _, content, *_ = split_message(message)
        kind = str(json.loads(header)["msg_type"])
        if kind == "status" and json.loads(content).get("execution_state") == "idle":
            self._ahead.pop(json.loads(parent).get("msg_id"), None)
            self._moved.set()
        return kind


class Waiting(list[Any]):
    """Messages to a browser that has lost its connection: no more than `UNREAD_BYTES` of them, the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self._size_bytes = 0

    def append(self, message: Any) -> None:
        """Keep a message, (channel, parts), if there is room."""
        _, parts = message
        self._size_bytes += sum(len(part) for part in parts)
        if self._size_bytes <= UNREAD_BYTES:
            super().append(message)
