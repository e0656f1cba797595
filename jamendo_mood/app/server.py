"""The web page and the API: one process, one network, one queue of songs for all visitors.

A page's scripts are those of the widget; their messages come by a websocket, to a session of the visitor's own that
ends with it. Who gets in is decided before anything else, by `Gate`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import os
import resource
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from uvicorn.protocols.http.h11_impl import H11Protocol

from jamendo_mood import __version__
from jamendo_mood.app.api import PREFIX, add_api, describe_api
from jamendo_mood.app.session import FIND_SCRIPTS, TAG_SCRIPTS, FindSession, Session, TagSession, read_static
from jamendo_mood.app.songs import MAX_AT_ONCE, SongQueue, Uploads
from jamendo_mood.embedders import engines
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import Scratch
from jamendo_mood.util.process import end_now, handled

TOKEN_VARIABLE, COOKIE = "JAMENDO_MOOD_TOKEN", "jamendo-mood-token"
PAGES = {
    "tag": ("Tag a song", "/", TAG_SCRIPTS, "renderTagging"),
    "find": ("Find music", "/find", FIND_SCRIPTS, "renderFinding"),
}
"""Of each page: title, address, scripts, and which function of theirs draws it. The second one needs a library."""
ADDRESSES = {"/api", *(page[1] for page in PAGES.values())}

STOPPED = "stopped; nothing of any visitor is left"
STOP_S = 3.0  #: how long requests, and the song that is being analysed, may take to end
FIRST_PAGE_S = 0.5  #: for the first page; then TensorFlow is imported, which holds up all else for seconds

MAX_WAITING = 100  #: songs in the queue; whoever comes with another is told to wait
MAX_CONNECTIONS = 512  #: open at once, besides websockets; a browser opens six
HEADER_S = 30.0  #: how long a request's headers may take to come, and a connection to be silent between two requests
MESSAGE_BYTES = 1_000_000  # of a frame of a websocket: a piece of an upload has half of it
JSON_BYTES = 32_768  # of a message without its buffers: a page takes hundreds
MAX_BUFFERS = 4
UNREAD_BYTES = 16_000_000  # of what is written to one browser: who asks on and on, and reads nothing, is left
CLOSE_S = 1.0  # for a last word to one who may not read it
HERE = "here"  #: a page's message that its visitor looks, listens or moves: one who does not gives the place back
POLICY_VIOLATION, TRY_AGAIN = 1008, 1013  # of RFC 6455 and of its registry
IDLE = 4000
# What ends a talk: the browser has gone, or has said something that is not a message.
EXPECTED = (WebSocketDisconnect, RuntimeError, ValueError, KeyError, RecursionError)

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Headers of every answer: nothing comes from another host, and no script or style stands in a page."""

NO_ACCESS = "<h1>No access</h1><p>Open the address that was printed at the start, with its token if it has one.</p>"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WebConfig:
    """How a page is served."""

    host: str = "127.0.0.1"  #: any other than the loopback's needs a token
    port: int = 8866  #: 0 takes a free one
    visitors: int = 200  #: at the same time, from 1 up
    idle_s: float = 20 * 60.0  #: until the place of a visitor who does nothing is given to others
    limits: Limits = field(default_factory=Limits)
    browser: bool = True  #: whether to open the page in a browser; only without a token
    examples: tuple[Path, ...] = ()  #: songs that a visitor may try by a click


def run_web(tagger: Tagger, load: Callable[[], Embedder], library: Library | None, config: WebConfig) -> None:
    """Serve the page until Ctrl-C or SIGTERM; nothing is left behind.

    `load` makes the tagger's embedder. That takes seconds, in which the page answers already: songs wait for it. Raises
    `UsageError` if the port is taken, or the host is not this machine's, and what `load` raises.
    """
    token = os.environ.pop(TOKEN_VARIABLE, "") or ("" if _is_loopback(config.host) else secrets.token_urlsafe(24))
    tabs = tuple(page[:2] for name, page in PAGES.items() if name == "tag" or library is not None)
    loaded: Future[Embedder] = Future()
    allow_files(config.visitors)
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(_bound(config))
        scratch = stack.enter_context(Scratch(config.limits.scratch))  # of all visitors: it goes, however they went
        limits = replace(config.limits, page=tabs, scratch=scratch.path)
        uploads = Uploads(limits, 4 * MAX_AT_ONCE * limits.size_bytes)
        queue = SongQueue(tagger, loaded.result, library, limits, MAX_WAITING, uploads)
        server = uvicorn.Server(uvicorn_config(make_app(queue, config, token)))
        serving = threading.Thread(target=server.run, args=([bound],), name="jamendo-mood-web")
        serving.start()

        def stop(*_: object) -> None:
            """Also while a large module is imported, which cannot be broken off and may take seconds."""
            server.should_exit = True
            if not loaded.done():
                serving.join(STOP_S)
                stack.close()
                end_now(STOPPED)

        with handled(stop):
            _announce(config, bound, token)
            time.sleep(FIRST_PAGE_S)
            # In this thread, where what it prints as it is imported can be kept from the terminal.
            engines.preload()
            try:
                embedder = load()
                tagger.check_spec(embedder.spec)
                loaded.set_result(embedder)
            except Exception as error:
                loaded.set_exception(error)
                server.should_exit = True
            queue.warm_up()
            serving.join()
            queue.close(wait_s=STOP_S)
    loaded.result()  # raises what went wrong
    plaintext.note(STOPPED)


def make_app(queue: SongQueue, config: WebConfig, token: str = "") -> Any:
    """The application: the pages, their websockets and the API, behind a `Gate`."""
    schema = f"{PREFIX}/openapi.json"
    app = FastAPI(title="jamendo-mood", version=__version__, openapi_url=schema, docs_url=None, redoc_url=None)
    places = threading.Semaphore(config.visitors)

    def add_page(name: str, make: Callable[[Any], Session]) -> None:
        title, address, files, render = PAGES[name]

        async def meet(websocket: WebSocket) -> None:
            await websocket.accept()
            if not places.acquire(blocking=False):
                await websocket.close(TRY_AGAIN)
                return
            try:
                await _Talk(websocket, config.idle_s).run(make)
            finally:
                places.release()

        script = f"{read_static(*files, 'page.js')}\nopenPage({json.dumps(f'/{name}/messages')}, {render});\n"
        _serve(app, address, make_page(title, script=f'<script type="module" src="/{name}.js"></script>'), "text/html")
        _serve(app, f"/{name}.js", script, "text/javascript")
        app.add_api_websocket_route(f"/{name}/messages", meet)

    add_page("tag", lambda send: TagSession(send, queue, config.examples))
    if (library := queue.library) is not None:
        add_page("find", lambda send: FindSession(send, library, queue.limits))
    _serve(app, "/page.css", read_static("style.css"), "text/css")
    add_api(app, queue)
    _serve(app, "/api", make_page("API", describe_api(app.openapi())), "text/html")
    return Gate(app, token)


def _serve(app: FastAPI, address: str, content: str, media: str) -> None:
    async def answer() -> Response:
        return Response(content, media_type=media)

    app.add_api_route(address, answer, include_in_schema=False, response_class=Response)


def make_page(title: str, text: str = "", script: str = "") -> str:
    """A page of HTML: with a text of its own, or drawn by a script."""
    body = f'<main class="jm jm-text">{text}</main>' if text else ""
    return f"""\
<!DOCTYPE html>
<html lang="en" class="jm-page">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - jamendo-mood</title>
<link rel="icon" href="data:;base64,=">
<link rel="stylesheet" href="/page.css">
{script}
</head>
<body>{body}</body>
</html>
"""


class Gate:
    """Lets in who may come, and gives every answer its headers.

    Without a token only this very machine is served, by its own names: so no other site can reach it by a name that
    leads here. With one, who knows it is served: it comes once in the address, and then in a cookie, or with each
    request as ``Authorization: Bearer TOKEN``. Other sites' pages may send nothing.
    """

    def __init__(self, app: Any, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI's interface."""

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY)
            await send(message)

        headers, query = Headers(scope=scope), QueryParams(scope.get("query_string", b""))
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        if is_get and self._token and self._is_token(query.get("token", "")):
            # Out of the address, where it would be read over a shoulder and kept in a history.
            cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            where = scope["path"] if scope["path"] in ADDRESSES else "/"  # to no other host, whatever the path says
            welcome = Response(status_code=303, headers={"Location": where, "Set-Cookie": cookie})
            await welcome(scope, receive, send_with_headers)
        elif self._may_come(headers) and not _is_from_elsewhere(scope, headers):
            await self._app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})  # before it is accepted: HTTP 403
        else:
            await HTMLResponse(make_page("No access", NO_ACCESS), 403)(scope, receive, send_with_headers)

    def _may_come(self, headers: Headers) -> bool:
        if not self._token:
            with contextlib.suppress(ValueError):  # it may say anything
                return _is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")
            return False
        given = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return self._is_token(given) or self._is_token(headers.get("authorization", "").removeprefix("Bearer "))

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _is_from_elsewhere(scope: Any, headers: Headers) -> bool:
    """Whether another site's page sends this, or only looks whether there is something."""
    origin = headers.get("origin")
    reads = scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}
    return not reads and origin is not None and urlsplit(origin).netloc != headers.get("host")


class _Talk:
    """Carries messages between a websocket and a session: JSON, then as many frames of bytes as it says."""

    def __init__(self, websocket: WebSocket, idle_s: float) -> None:
        self._websocket, self._idle_s = websocket, idle_s
        self._loop = asyncio.get_running_loop()
        self._outgoing: asyncio.Queue[list[str | bytes]] = asyncio.Queue()
        self._unread = 0
        self._lock = threading.Lock()
        self._left = asyncio.Event()  # one who asks on, and reads nothing

    async def run(self, make: Callable[[Any], Session]) -> None:
        """Until the browser goes, says nonsense, does not read, or is idle for too long."""
        session = make(self._send)
        tasks = [asyncio.create_task(each) for each in (self._read(session), self._write(), self._left.wait())]
        code = POLICY_VIOLATION
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(end, asyncio.TimeoutError):
                    code = IDLE
                elif isinstance(end, Exception) and not isinstance(end, EXPECTED):
                    log.error("a page's message could not be answered: %s", end, exc_info=end)
            await asyncio.to_thread(session.close)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, asyncio.TimeoutError):  # closed already
                await asyncio.wait_for(self._websocket.close(code), CLOSE_S)

    def _send(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        """Called from any thread."""
        frames: list[str | bytes] = [json.dumps({**message, "buffers": len(buffers)}), *buffers]
        with self._lock:
            self._unread += sum(map(len, frames))
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if self._unread > UNREAD_BYTES:
                self._loop.call_soon_threadsafe(self._left.set)
            else:
                self._loop.call_soon_threadsafe(self._outgoing.put_nowait, frames)

    async def _write(self) -> None:
        while True:
            for frame in await self._outgoing.get():
                send: Any = self._websocket.send_text if isinstance(frame, str) else self._websocket.send_bytes
                await send(frame)
                with self._lock:
                    self._unread -= len(frame)

    async def _read(self, session: Session) -> None:
        while True:
            text = await asyncio.wait_for(self._websocket.receive_text(), self._idle_s)
            message = json.loads(text) if len(text) <= JSON_BYTES else None
            if not isinstance(message, dict):
                return
            count = message.pop("buffers", 0)
            if not (type(count) is int and 0 <= count <= MAX_BUFFERS):
                return
            buffers = [await asyncio.wait_for(self._websocket.receive_bytes(), self._idle_s) for _ in range(count)]
            if message.get("type") != HERE:
                # In a thread, for it may write to the disk; the next message is read when it is done.
                await asyncio.to_thread(session.receive, message, buffers)


class _Connection(H11Protocol):
    """uvicorn's connection, for none that is silent: of too many the oldest that waits has to go."""

    open: ClassVar[dict[_Connection, None]] = {}

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.open) >= MAX_CONNECTIONS:
            oldest = next((each for each in self.open if each.is_waiting()), self)
            self.open.pop(oldest, None)
            oldest.transport.abort()
        self.open[self] = None
        self._watch(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.pop(self, None)
        super().connection_lost(exc)

    def is_waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self, since: float | None) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # it is a websocket now
            self.open.pop(self, None)
            return
        now = time.monotonic()
        since = (now if since is None else since) if self.is_waiting() else None
        if since is not None and now - since >= HEADER_S:
            self.transport.close()
            return
        self.loop.call_later(HEADER_S / 6, self._watch, since)


def uvicorn_config(app: Any) -> uvicorn.Config:
    """How uvicorn serves an application: quietly, and bounded."""
    return uvicorn.Config(
        app,
        http=_Connection,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # music does not get smaller, and it takes memory for each visitor
        lifespan="off",
        proxy_headers=False,
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


def allow_files(visitors: int) -> None:
    """Let this process have as many files open as its connections and so many visitors take, if the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_000 + MAX_CONNECTIONS + 4 * visitors
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _announce(config: WebConfig, bound: socket.socket, token: str) -> None:
    """Say where the page is, which is the one place where the token is told, and open it."""
    host = socket.gethostname() if config.host in ("", "0.0.0.0", "::") else config.host
    query = f"?token={token}" if token else ""
    address = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/{query}"
    plaintext.note(f"serving on {address} (Ctrl-C stops it)")
    # Without a screen a browser would take over the terminal.
    has_screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if config.browser and not token and has_screen:
        webbrowser.open(address)


def _bound(config: WebConfig) -> socket.socket:
    """A socket on host and port."""
    if config.port > 65_535:  # the system would take 99999 for 34463
        raise UsageError(f"port {config.port}: ports go from 0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        server = socket.create_server(address[:2], family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        what = f"port {config.port} of {config.host} ({error.strerror})"
        raise UsageError(f"cannot serve on {what}: choose another with --port") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a closed socket does not wait for one who takes no answer
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * HEADER_S))
    return server


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
