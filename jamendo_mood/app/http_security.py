"""Who gets into the web page, and what every answer says: token, host, headers, how many connections."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import re
import resource
import struct
from pathlib import Path
from typing import Any

import jinja2
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.base.handlers import FileFindHandler, JupyterHandler
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamBufferFullError
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler

TEMPLATES = Path(__file__).parent / "page"
RETRY_S = 15
_templates = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer. A page itself has a looser policy, see `page_policy`."""

MESSAGES = {
    403: (
        "No access",
        "Open the address that was printed when the page was started, including its token if it has one.",
    ),
    404: ("Not found", "There is no such page."),
    503: ("All places are taken", "All {places} places are taken. This page tries again in {retry} seconds."),
}
"""Of a status: title and text of its page."""

MAX_CONNECTIONS = 256
"""Open at once, besides visitors' websockets; a browser opens six."""
FILES_PER_KERNEL = 32  # of this process: three websockets, eight sockets to the kernel behind each, and pipes
OTHER_FILES = 512
IDLE_S = 30.0
"""How long a request's headers may take to come, and a connection to be silent between two requests."""
BODY_S = 10.0
REQUEST_BYTES = 65_536  # of the headers, and of the body: of a browser that has many cookies for this host
UNREAD_BYTES = 16_000_000
"""Of what is written to one browser and not yet taken: one that asks on and on, and reads nothing, is left."""


def page_policy(nonce: str) -> str:
    """The Content-Security-Policy of a page: nothing comes from another host, and of scripts in the page only its own.

    JupyterLab puts styles into the page as it runs, and anywidget loads a widget's script from a blob.

    Parameters
    ----------
    nonce : str
        The word that the page's own scripts know: another one for each answer.
    """
    return (
        f"default-src 'self'; script-src 'self' 'nonce-{nonce}' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
        "connect-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def set_headers(handler: Any) -> None:
    """Give an answer the headers of `SECURITY`, and do not tell what serves it."""
    handler.clear_header("Server")
    for name, value in SECURITY.items():
        handler.set_header(name, value)


def allow_files(kernels: int) -> None:
    """Let this process have as many files open as its connections and so many kernels take, if the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OTHER_FILES + MAX_CONNECTIONS + FILES_PER_KERNEL * kernels
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Server(HTTPServer):  # type: ignore[misc]
    """An HTTP server that keeps few connections, and none for long; of too many the oldest has to go.

    Websockets are none of them: `visitors` and `message_rules` bound their number.
    """

    _order: dict[Any, None]

    def initialize(self, app: Any) -> None:
        """Serve an application; the name is Tornado's for what others call `__init__`."""
        self._order = {}
        super().initialize(
            app,
            max_header_size=REQUEST_BYTES,
            max_body_size=REQUEST_BYTES,
            idle_connection_timeout=IDLE_S,
            body_timeout=BODY_S,
        )

    def handle_stream(self, stream: Any, address: Any) -> None:
        """Take a connection."""
        if len(self._order) >= MAX_CONNECTIONS:
            oldest = next(iter(self._order))
            self._order.pop(oldest)
            oldest.close()
        self._order[stream] = None
        stream.max_write_buffer_size = UNREAD_BYTES
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """A connection has ended, or has become a websocket."""
        self._order.pop(server_conn.stream, None)
        super().on_close(server_conn)


class TokenIdentity(IdentityProvider):  # type: ignore[misc]
    """Who knows the token may come in; there is no form, no password and nothing to change."""

    login_available = logout_available = False

    @property
    def auth_enabled(self) -> bool:
        """Whether there is a token."""
        return bool(self.token)

    def get_token(self, handler: Any) -> str | None:
        """The token, if the request knows it; compared in a time that tells nothing."""
        given = super().get_token(handler) or ""
        return str(self.token) if hmac.compare_digest(given.encode(), str(self.token).encode()) else None


class MessageHandler(JupyterHandler):  # type: ignore[misc]
    """Says what is wrong in a page of its own, and sends nobody to a login form."""

    def set_default_headers(self) -> None:
        """Those of every answer."""
        set_headers(self)

    def set_cors_headers(self) -> None:
        """Allow no other site to read anything, token or not."""

    async def prepare(self) -> None:
        """Check host and token: without them no method is called."""
        await super().prepare(_redirect_to_login=False)

    def write_error(self, status_code: int, **_: Any) -> None:
        """Write the page for a status."""
        title, text = MESSAGES.get(status_code, ("Something went wrong", "Please reload the page."))
        retry_s = RETRY_S if status_code == 503 else None
        if retry_s is not None:
            self.set_header("Retry-After", str(retry_s))
        text = text.format(places=self.kernel_manager.places, retry=RETRY_S)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_templates.get_template("message.html.j2").render(title=title, text=text, retry_s=retry_s))


class NothingHandler(MessageHandler):
    """Everything that is no page."""

    def get(self) -> None:
        """There is none."""
        raise HTTPError(404)


class TemplateFiles(MessageHandler, TemplateStaticFileHandler):  # type: ignore[misc]
    """Styles and scripts of Voila's templates."""


class ScriptFiles(MessageHandler, MultiStaticFileHandler):  # type: ignore[misc]
    """Voila's own scripts."""


class ExtensionFiles(MessageHandler, FileFindHandler):  # type: ignore[misc]
    """Scripts of JupyterLab's extensions that show widgets."""


PROTOCOL = "v1.kernel.websocket.jupyter.org"
MESSAGE_BYTES = 4_000_000  # of a browser's message to a kernel: four pieces of an upload
BYTES_AHEAD = MESSAGE_BYTES
MESSAGES_AHEAD = 16
"""What a kernel has got, and has not done with: while it is more, no more is read from its visitor."""
MAX_PARTS = 16
JSON_BYTES = 32_768  # of a message without its buffers: a page takes hundreds
MAX_SOCKETS = 3
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
    if not 6 <= count <= MAX_PARTS or len(message) < 8 * (count + 1):  # before anything is made of that size
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
        if not kernels.has_visitor(kernel_id) or len(kernels.sockets(kernel_id)) >= MAX_SOCKETS:
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
