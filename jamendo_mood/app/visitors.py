"""Visitors of the web page: a place and a kernel for each, and what becomes of both when a visitor goes.

Everything a kernel writes goes into a folder of its own, which is deleted with the kernel.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Float, Integer, Unicode
from voila.tornado.handler import TornadoVoilaHandler
from voila.utils import ENV_VARIABLE

from jamendo_mood.app.http_security import MessageHandler, Waiting, page_policy
from jamendo_mood.app.network_sharing import SETTINGS_VARIABLE

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
