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
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import KERNEL_NAME
from jupyter_server.base.handlers import FileFindHandler
from tornado.web import HTTPError
from traitlets.config import Config
from voila.app import Voila
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler

from jamendo_mood.app.http_security import (
    MESSAGE_BYTES,
    TEMPLATES,
    ChannelsHandler,
    ExtensionFiles,
    NothingHandler,
    ScriptFiles,
    Server,
    TemplateFiles,
    TokenIdentity,
    allow_files,
)
from jamendo_mood.app.network_sharing import Offer, serve
from jamendo_mood.app.visitors import (
    TOKEN_VARIABLE,
    KernelHandler,
    Kernels,
    LeaveHandler,
    OwnPython,
    PageHandler,
    PresenceHandler,
    StayHandler,
)
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import Scratch

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
    raise UsageError(f"{name} came neither with a checkout nor with the installed package: install jamendo-mood anew")


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
