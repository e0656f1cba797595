"""The notebooks as a web page, served by Voila: a kernel for each visitor, the network once for all.

Voila's own pages (the list of files, the files, the contents) are left out: there are the tabs, what they need, and
nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
import webbrowser
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import KERNEL_NAME
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Float, Integer, Unicode
from traitlets.config import Config
from voila.app import Voila
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.utils import ENV_VARIABLE

from jamendo_mood.app.http_security import (
    MESSAGE_BYTES,
    TEMPLATES,
    ChannelsHandler,
    ExtensionFiles,
    MessageHandler,
    NothingHandler,
    ScriptFiles,
    Server,
    TemplateFiles,
    TokenIdentity,
    Waiting,
    allow_files,
    page_policy,
)
from jamendo_mood.app.network_sharing import SETTINGS_VARIABLE, Offer, serve
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import Scratch

TOKEN_VARIABLE = "JAMENDO_MOOD_TOKEN"
PATIENCE_S = 3.0
"""How long a visitor waits for a place before hearing that there is none: who reloads gives one up a moment later."""


_SCRIPT = re.compile(r"<script\b")


class OwnPython(KernelSpecManager):
    """Kernels of this very Python, whatever kernels the user has installed."""

    def _kernel_dirs_default(self) -> list[str]:
        return []


class Kernels(AsyncMappingKernelManager):  # type: ignore[misc]
    """Kernels of visitors, and warm ones that wait for visitors.

    Attributes
    ----------
    places : int
        Visitors at the same time.
    grace_s : float
        How long a kernel outlives its last connection. One that is connected, but idle, is shut down after
        `cull_idle_timeout` seconds.
    folder : str
        Where each kernel gets a folder of its own for all that is temporary.
    settings : str
        The file that tells kernels where the network is.
    """

    places = Integer(8).tag(config=True)
    grace_s = Float(120.0).tag(config=True)
    folder = Unicode().tag(config=True)
    settings = Unicode().tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coming = 0  # visitors whose kernel is not known yet
        self._left: dict[str, float | None] = {}  # of each visitor's kernel: when its last connection ended, if so
        self._folders: dict[str, str] = {}
        self._sockets: dict[str, set[Any]] = {}

    @property
    def full(self) -> bool:
        """Whether all places are taken."""
        return bool(self.coming + len(self._left) >= self.places)

    def admit(self, kernel_id: str) -> None:
        """A kernel has got its visitor, who is not connected yet."""
        self.coming -= 1
        self._left[kernel_id] = time.monotonic()
        self._sockets[kernel_id] = set()

    def has_visitor(self, kernel_id: str) -> bool:
        """Whether it is a visitor's kernel, and alive."""
        return kernel_id in self._left

    def sockets(self, kernel_id: str) -> set[Any]:
        """The websockets between a visitor and the kernel; they are closed with it."""
        return self._sockets.get(kernel_id, set())

    async def wait_until_warm(self) -> None:
        """Return when the kernels that wait for the first visitors have run their notebooks."""
        for pool in getattr(self, "_pools", {}).values():  # of Voila's subclass of this class
            for start in pool:
                await (await start)["task"]

    def touch(self, kernel_id: str) -> None:
        """Its visitor looks, listens or moves, which no message of the kernel says."""
        self.get_kernel(kernel_id).last_activity = datetime.now(timezone.utc)

    async def start_kernel(self, **kwargs: Any) -> str:
        """Start a kernel with a folder of its own, without the token in its environment."""
        folder = tempfile.mkdtemp(prefix="visitor-", dir=self.folder)
        own = {SETTINGS_VARIABLE: self.settings, "TMPDIR": folder, "IPYTHONDIR": folder}
        env = {**kwargs.pop("env", os.environ), **own}
        env.pop(TOKEN_VARIABLE, None)
        warm = env.get(ENV_VARIABLE.VOILA_PREHEAT) == "True"
        try:
            kernel_id: str = await super().start_kernel(env=env, **kwargs)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._folders[kernel_id] = folder
        if not warm:
            self.admit(kernel_id)
        return kernel_id

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel that has ended, and delete what it leaves."""
        self._left.pop(kernel_id, None)
        shutil.rmtree(self._folders.pop(kernel_id, ""), ignore_errors=True)
        for handler in self._sockets.pop(kernel_id, ()):
            handler.close()
        return super().remove_kernel(kernel_id)

    def start_buffering(self, kernel_id: str, session_key: str, channels: Any) -> None:
        """Keep what a kernel says while its visitor's connection is lost, as far as there is room."""
        super().start_buffering(kernel_id, session_key, channels)
        self._kernel_buffers[kernel_id]["buffer"] = Waiting()

    def notify_connect(self, kernel_id: str) -> None:
        """A browser has connected."""
        super().notify_connect(kernel_id)
        if kernel_id in self._left:
            self._left[kernel_id] = None

    def notify_disconnect(self, kernel_id: str) -> None:
        """A browser has gone, or lost its connection."""
        super().notify_disconnect(kernel_id)
        if kernel_id in self._left and not self._kernel_connections.get(kernel_id):
            self._left[kernel_id] = time.monotonic()

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Shut down a visitor's kernel that is dead, alone for too long, or idle for too long."""
        if kernel_id not in self._left:
            return
        kernel, left = self.get_kernel(kernel_id), self._left[kernel_id]
        idle_s = (datetime.now(timezone.utc) - kernel.last_activity).total_seconds()
        alone = left is not None and min(idle_s, time.monotonic() - left) > self.grace_s
        if alone or idle_s > self.cull_idle_timeout or not await kernel.is_alive():
            await self.shutdown_kernel(kernel_id, now=True)


class PageHandler(MessageHandler, TornadoVoilaHandler):  # type: ignore[misc]
    """One notebook as a page, for as many visitors as there are places."""

    async def get(self) -> None:
        """Give the visitor a place and a kernel, or the page that says that there is none."""
        if self.request.query:  # the token is in a cookie now, and is neither logged, nor kept in the browser's history
            self.redirect(self.request.path)
            return
        # A picture, a frame or a prefetch of another site asks for a place that nobody would use.
        headers = self.request.headers
        if headers.get("Sec-Fetch-Dest", "document") != "document" or "Sec-Purpose" in headers:
            raise HTTPError(403)
        kernels = self.kernel_manager
        if not await _find_place(kernels):
            raise HTTPError(503)
        self._waits = True
        kernels.coming += 1
        nonce = secrets.token_urlsafe(16)
        self.set_header("Content-Security-Policy", page_policy(nonce))
        try:
            self.xsrf_token  # noqa: B018 - reading it sets the cookie that the page needs to say that it leaves
            async for html in self._content(kernels):
                # Nothing of a visitor's is in here: the page is made before anybody comes, or before anybody speaks.
                self.write(_SCRIPT.sub(f'<script nonce="{nonce}"', html))
                self.flush()
        finally:
            if self._waits:
                kernels.coming -= 1

    async def _content(self, kernels: Any) -> AsyncIterator[str]:
        """The page, from a warm kernel if there is one."""
        self.set_header("Cache-Control", "no-store")
        if kernels.get_pool_size(self.notebook_path) == 0:
            async for html in self.get_generator():
                self._waits = False  # `Kernels.start_kernel` has admitted the visitor
                yield html
            return
        task, _, kernel_id = await kernels.get_rendered_notebook(self.notebook_path)
        self._waits = False
        kernels.admit(kernel_id)
        rendered, rest = await task
        yield "".join(rendered)
        async for html, _ in rest:
            yield html


class PresenceHandler(MessageHandler):
    """A page asks whether its kernel is alive, and tells whether somebody looks at it or listens."""

    def get(self, kernel_id: str) -> None:
        """204, or 404 if there is no such kernel."""
        if not self.kernel_manager.has_visitor(kernel_id):
            raise HTTPError(404)
        if self.get_query_argument("active", "0") == "1":
            self.kernel_manager.touch(kernel_id)
        self.set_status(204)


class KernelHandler(MessageHandler):
    """JupyterLab's scripts ask for a kernel's state before they connect to it."""

    def get(self, kernel_id: str) -> None:
        """Jupyter's model of a kernel."""
        if not self.kernel_manager.has_visitor(kernel_id):
            raise HTTPError(404)
        self.finish(self.kernel_manager.kernel_model(kernel_id))


class LeaveHandler(MessageHandler):
    """A page is left."""

    async def post(self, kernel_id: str) -> None:
        """Shut its kernel down."""
        if self.kernel_manager.has_visitor(kernel_id):
            await self.kernel_manager.shutdown_kernel(kernel_id, now=True)
        self.set_status(204)


class StayHandler(MessageHandler):
    """Voila's script says that a page may be left, which is also so when its visitor then stays."""

    def post(self, kernel_id: str) -> None:  # noqa: ARG002
        """Nothing happens before the page is left indeed."""
        self.set_status(204)


async def _find_place(kernels: Any) -> bool:
    """Whether there is a place, or is one soon."""
    end = time.monotonic() + PATIENCE_S
    while kernels.full and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return not kernels.full


TABS = {
    "tag": ("Tag a song", "/", "04_tag_a_track.ipynb"),
    "find": ("Find music", "/find", "05_find_music.ipynb"),
}
"""Of each page: its title, its address, and the notebook it is made from. The second one needs a library."""

CONNECT = "from jamendo_mood.app.network_sharing import connect\n\ntagger, embedder, library, limits = connect()"
HIGHEST_PORT = 65_535
EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]
"""Of JupyterLab's extensions those that show widgets; whatever else is installed stays away."""

_KERNEL_ID = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_FILE = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"  # neither hidden, nor a folder above, nor in any other code
KERNELS = {
    rf"/api/kernels/{_KERNEL_ID}": KernelHandler,
    rf"/api/kernels/{_KERNEL_ID}/channels": ChannelsHandler,
    rf"/present/{_KERNEL_ID}": PresenceHandler,
    rf"/leave/{_KERNEL_ID}": LeaveHandler,
    rf"/voila/api/shutdown/{_KERNEL_ID}": StayHandler,
}
FILES = {
    TemplateStaticFileHandler: (rf"/voila/templates/({_FILE}/static/{_FILE})", TemplateFiles),
    MultiStaticFileHandler: (rf"/voila/static/({_FILE})", ScriptFiles),
    FileFindHandler: (rf"/voila/labextensions/((?:@?{_FILE}/)+{_FILE})", ExtensionFiles),
}
"""For each of Voila's handlers of files: the addresses that the pages need, and who answers there."""


@dataclass(frozen=True)
class WebConfig:
    """How a page is served.

    Attributes
    ----------
    host : str
        Any other than the loopback's needs a token.
    port : int
        0 takes a free one.
    kernels : int
        Visitors at the same time, from 1 up.
    warm : int
        Kernels kept ready for visitors to come, of each page.
    idle_s : float
        Until an idle visitor's kernel is shut down.
    limits : Limits
    browser : bool
        Whether to open the page in a browser; only without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8866
    kernels: int = 8
    warm: int = 1
    idle_s: float = 20 * 60.0
    limits: Limits = field(default_factory=Limits)
    browser: bool = True


def run_web(tagger: Tagger, embedder: Embedder, library: Library | None, config: WebConfig) -> None:
    """Serve the page until Ctrl-C or SIGTERM; nothing is left behind.

    Raises
    ------
    UsageError
        The port is taken, the host is not this machine's, or a notebook is missing.
    """
    tabs = {name: tab for name, tab in TABS.items() if name == "tag" or library is not None}
    notebooks = {name: find_notebook(notebook) for name, (_, _, notebook) in tabs.items()}
    token = os.environ.pop(TOKEN_VARIABLE, "") or ("" if _is_loopback(config.host) else secrets.token_urlsafe(24))
    tagger.warm_up()  # before anything is written, for a signal ends an import at once
    offer = Offer(config.limits, tuple(tab[:2] for tab in tabs.values()), library)
    allow_files(config.kernels)
    with _bound(config) as bound, Scratch() as scratch, serve(tagger, embedder, scratch.path, offer) as settings:
        served, visitors = scratch.path / "notebooks", scratch.path / "visitors"
        served.mkdir()
        visitors.mkdir()
        for name, path in notebooks.items():
            (served / f"{name}.ipynb").write_text(make_page(path.read_text(encoding="utf-8")), encoding="utf-8")
        page = Page(config=_voila_config(config, settings, visitors))
        page.root_dir, page.connection_dir_root, page.token = str(served), str(scratch.path), token
        page.tabs, page.bound = tabs, bound
        asyncio.run(_run(page, config))


def find_notebook(name: str) -> Path:
    """A notebook of this repository: beside the package in a checkout, else where the wheel put it.

    Raises
    ------
    UsageError
        It is in neither place.
    """
    beside = Path(__file__).resolve().parents[2] / "notebooks" / name
    if beside.is_file():
        return beside
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("jamendo-mood") or ():
            if file.name == name and Path(str(file.locate())).is_file():
                return Path(str(file.locate()))
    raise UsageError(f"{name} came neither with a checkout nor with the installed package: install jamendo-mood again")


def make_page(notebook: str) -> str:
    """Turn a notebook into what is served.

    Cells tagged ``setup`` become one that connects to the server; those tagged ``notebook`` and the one that installs
    the package in Colab are for people with a notebook, and are left out.

    Parameters
    ----------
    notebook : str
        JSON.
    """
    content = json.loads(notebook)
    cells: list[dict[str, Any]] = []
    for cell in content["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "setup" in tags:
            if not any("setup" in kept["metadata"].get("tags", []) for kept in cells):
                cells.append({**cell, "source": CONNECT})
        elif "notebook" not in tags and "google.colab" not in "".join(cell["source"]):
            cells.append(cell)
    kernel = {"name": KERNEL_NAME, "display_name": "Python 3", "language": "python"}
    metadata = {**content["metadata"], "title": "jamendo-mood", "kernelspec": kernel}
    return json.dumps({**content, "cells": cells, "metadata": metadata})


class Page(Voila):  # type: ignore[misc]
    """Voila, with the tabs as its only pages, on a socket that is bound already."""

    name = "voila"
    tabs: dict[str, tuple[str, str, str]]
    bound: socket.socket

    def setup_template_dirs(self) -> None:
        """Look for templates in this package first."""
        super().setup_template_dirs()
        self.template_paths.insert(0, str(TEMPLATES))

    def init_handlers(self) -> list[Any]:
        """The pages and what they need: of Voila's own handlers none, but what it would tell those of its files."""
        settings = {handler[1]: handler[2:] for handler in super().init_handlers()}
        shared = {
            "template_paths": self.template_paths,
            "config": self.config,
            "voila_configuration": self.voila_configuration,
        }
        pages = [
            (address, PageHandler, {"notebook_path": f"{name}.ipynb", **shared})
            for name, (_, address, _) in self.tabs.items()
        ]
        files = [(address, handler, *settings[voilas]) for voilas, (address, handler) in FILES.items()]
        return [*KERNELS.items(), *files, *pages]

    def listen(self) -> None:
        """Answer requests; the loop is run by whoever started this."""
        self.server = Server(self.app)
        self.server.add_socket(self.bound)

    async def shut_down(self) -> None:
        """Take no more requests, and end all kernels."""
        self.server.stop()
        with contextlib.suppress(HTTPError):  # of one that could not start
            await self.kernel_manager.shutdown_all(now=True)
        await self.server.close_all_connections()


def _voila_config(config: WebConfig, settings: Path, visitors: Path) -> Config:
    return Config(
        {
            "Voila": {
                "log_level": logging.ERROR,  # it warns of notebooks that are not signed, of old cookies, and the like
                "config_file_paths": [],  # neither of the user nor of the folder that this happens to be started in
                "open_browser": False,
                "identity_provider_class": TokenIdentity,
                "tornado_settings": {
                    "default_handler_class": NothingHandler,
                    "log_function": _log_request,
                    "websocket_max_message_size": MESSAGE_BYTES,
                    "xsrf_cookie_kwargs": {"samesite": "Strict"},
                },
            },
            "VoilaConfiguration": {
                "multi_kernel_manager_class": Kernels,
                "kernel_spec_manager_class": OwnPython,
                "preheat_kernel": config.warm > 0,
                "default_pool_size": config.warm,
                "allow_template_override": "NO",
                "allow_theme_override": "NO",
                "strip_sources": True,
                "show_tracebacks": False,
                "file_allowlist": [],
                "extension_allowlist": EXTENSIONS,
            },
            "VoilaExecutor": {"cell_error_instruction": "Reload the page; if that does not help, tell who runs it."},
            "Kernels": {
                "places": config.kernels,
                "folder": str(visitors),
                "settings": str(settings),
                "cull_idle_timeout": round(config.idle_s),
                "cull_interval": 10,
                "allow_tracebacks": False,
                "transport_encryption": "auto",
            },
            "KernelManager": {"autorestart": False},  # a new kernel would know nothing of the page
            "TokenIdentity": {"cookie_options": {"samesite": "Lax"}},
        }
    )


async def _run(page: Page, config: WebConfig) -> None:
    for name in ("tornado.general", "tornado.application"):
        # Their warnings are of who is refused, and quote whole addresses; the token is in one.
        logging.getLogger(name).setLevel(logging.ERROR)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    page.initialize([])
    page.tornado_settings["allow_remote_access"] = bool(page.token)  # else requests must name this very machine
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        page.start()
        ready, stopped = loop.create_task(page.kernel_manager.wait_until_warm()), loop.create_task(stop.wait())
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            _announce(page, config)
            await stopped
    finally:
        await page.shut_down()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _announce(page: Page, config: WebConfig) -> None:
    """Say where the page is, which is the one place where the token is told, and open it."""
    address = _address(page, config)
    plaintext.note(f"serving on {address} (Ctrl-C stops it)")
    if config.browser and not page.token and _has_screen():
        webbrowser.open(address)


def _address(page: Page, config: WebConfig) -> str:
    host = socket.gethostname() if config.host in ("", "0.0.0.0", "::") else config.host
    port = page.bound.getsockname()[1]
    query = f"?token={page.token}" if page.token else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{query}"


@contextlib.contextmanager
def _bound(config: WebConfig) -> Iterator[socket.socket]:
    """A socket on host and port."""
    if config.port > HIGHEST_PORT:  # the system would take 99999 for 34463
        raise UsageError(f"port {config.port}: ports go from 0 to {HIGHEST_PORT}")
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        server = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageError(
            f"cannot serve on port {config.port} of {config.host} ({error.strerror}): choose another with --port"
        ) from error
    with server:
        server.setblocking(False)
        yield server


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _has_screen() -> bool:
    """Whether a browser would open a window, not take over the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _log_request(handler: Any) -> None:
    """Tell of failures that are ours, without the query, where the token is."""
    status = handler.get_status()
    if status >= 500 and status != 503:
        logging.getLogger(__name__).warning("%s %s: %d", handler.request.method, handler.request.path, status)
