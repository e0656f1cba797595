"""Visitors of the web page without a browser: what its scripts say, said by asyncio; and the server they visit."""

import asyncio
import contextlib
import functools
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import uvicorn
import websockets.sync.client
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from jamendo_mood.app.server import uvicorn_config

PIECE_BYTES, PIECES_AHEAD = 512 * 1024, 4
WAIT_S = 600.0
TOKEN = "sesame-" + "0123456789abcdef" * 2
LIMIT_MB = 2


def make_song(number, seconds=3.0):
    """A WAV whose sound no other number has: a chord, and noise from a seed."""
    time_s = np.arange(round(seconds * 16_000)) / 16_000
    rng = np.random.default_rng(number)
    wanted = sum(np.sin(2 * np.pi * hz * time_s) for hz in rng.uniform(100, 4_000, 3)) / 8
    samples = wanted + rng.uniform(0.001, 0.1) * rng.standard_normal(len(time_s))
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes())
    return content.getvalue()


@dataclass
class Served:
    """A page that the real command serves; `peaks` are the most MB it ever had, and its file descriptors."""

    process: subprocess.Popen
    temporary: Path
    url: str
    log: Path
    peak_mb: float = 0.0
    app: object = None
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def host(self):
        return f"127.0.0.1:{re.search(r':([0-9]+)/', self.url)[1]}"

    @property
    def token(self):
        found = re.search(r"token=(\S+)", self.url)
        return found and found[1]

    def server_mb(self):
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def files(self):
        """What is on disk for visitors: uploads, and sound being decoded."""
        walked = os.walk(self.temporary)  # which minds nothing that goes meanwhile
        return [Path(folder, name) for folder, _, names in walked for name in names if name != "owner.lock"]

    def watch(self):
        while self.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                self.peak_mb = max(self.peak_mb, self.server_mb())
            time.sleep(0.5)

    def ask(self, path, method="GET", body=None, cookies=True, **headers):
        """An answer; whatever its status. Cookies are kept."""
        connection = http.client.HTTPConnection(self.host, timeout=WAIT_S)
        jar = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if cookies else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused while it was sent
                connection.request(method, path, body, {**jar, **named})
            answer = connection.getresponse()
            content = answer.read()
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        return SimpleNamespace(
            status=answer.status, headers=answer.headers, body=content, text=content.decode(errors="replace")
        )

    def open(self, page="tag", **headers):
        """A websocket of a page, to speak by hand."""
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        named = {"Cookie": jar, **headers}
        return websockets.sync.client.connect(
            f"ws://{self.host}/{page}/messages", additional_headers=named, max_size=None
        )

    def tag(self, content, name="song.wav", query=""):
        """What the API says of a song: the answer, and its document."""
        answer = self.ask(f"/api/v1/tag?name={name}{query}", "POST", content)
        return answer, json.loads(answer.body)


@contextlib.contextmanager
def serve(folder: Path, *options: object, end=signal.SIGTERM, cwd=None, **environment: str) -> Iterator[Served]:
    """Run `jamendo-mood web`; it has to end well, and to leave nothing but its log."""
    log, temporary = folder / "log", folder / "t"
    temporary.mkdir()
    command = [sys.executable, "-m", "jamendo_mood", "web", "--port", "0", "--no-browser", *map(str, options)]
    env = {**os.environ, "TMPDIR": str(temporary), **environment}
    # Started in the background, a process would ignore Ctrl-C, and so would what it starts.
    hearing = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with (
        log.open("w") as file,
        subprocess.Popen(command, env=env, stdout=file, stderr=file, cwd=cwd, preexec_fn=hearing) as process,
    ):
        watcher = None
        try:
            give_up_s = time.monotonic() + WAIT_S
            while not (found := re.search(r"serving on (\S+)", log.read_text())):
                if process.poll() is not None or time.monotonic() > give_up_s:
                    raise AssertionError(log.read_text())
                time.sleep(0.02)
            served = Served(process, temporary, found[1], log)
            watcher = threading.Thread(target=served.watch)
            watcher.start()
            yield served
        finally:
            process.send_signal(end)
            try:
                process.wait(60)
            finally:
                process.kill()  # one that does not end must not keep the others waiting
            if watcher is not None:
                watcher.join()
    left = list(temporary.iterdir())
    assert (process.returncode, left) == (0, []), f"{process.returncode}, {left}: {log.read_text()}"


@contextlib.contextmanager
def serve_here(app) -> Iterator[Served]:
    """Serve an application of this process, as the command does."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        running = uvicorn.Server(uvicorn_config(app))
        thread = threading.Thread(target=running.run, args=([bound],))
        thread.start()
        yield Served(None, None, f"http://127.0.0.1:{bound.getsockname()[1]}/", None, app=app)
        running.should_exit = True
        thread.join()


def is_received(identity, least, told):
    """Whether a message says that so much of an upload is there, or that no more is wanted."""
    return told.get("id") == identity and (told["type"] != "ack" or told["received"] >= least)


class Visitor:
    """One who comes, uploads songs, and leaves; `heard` is all that the page was told."""

    def __init__(self, served):
        self.served, self.heard, self.songs = served, [], set()
        self.socket, self.reader = None, None
        self._news = asyncio.Condition()

    def connect(self, page="tag", **headers):
        """Connect to the server."""
        jar = "; ".join(f"{name}={value}" for name, value in self.served.cookies.items())
        named = {"Cookie": jar, "Origin": f"http://{self.served.host}", **headers}
        url = f"ws://{self.served.host}/{page}/messages"
        return connect(url, additional_headers=named, max_size=None, open_timeout=WAIT_S, ping_interval=None)

    async def come(self, page="tag"):
        """Open the page; returns whether there is a place."""
        self.socket = await self.connect(page)
        self.reader = asyncio.ensure_future(self._listen())
        with contextlib.suppress(ConnectionClosed):
            await self.tell("hello", view="view")
        return await self.wait(lambda told: told.get("type") == "setup", or_closed=True) is not None

    async def _listen(self):
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = json.loads(await self.socket.recv())
                message["buffers"] = [len(await self.socket.recv()) for _ in range(message["buffers"])]
                async with self._news:
                    self.heard.append(message)
                    self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def wait(self, wanted, seconds=300.0, or_closed=False):
        """The first message that is wanted."""
        found, seen = [], 0

        def look():
            nonlocal seen
            found[:] = [told for told in self.heard[seen:] if wanted(told)][:1]
            seen = len(self.heard)
            return found or self.socket.close_code is not None

        async with self._news:
            await asyncio.wait_for(self._news.wait_for(look), seconds)
        assert found or or_closed, f"the connection was closed ({self.socket.close_code})"
        return found[0] if found else None

    async def tell(self, kind, buffers=(), **content):
        """Send a message to the session."""
        await self.socket.send(json.dumps({"type": kind, **content, "buffers": len(buffers)}))
        for each in buffers:
            await self.socket.send(bytes(each))

    async def upload(self, name, content):
        """Send a file as the page does; returns what came of it."""
        identity = uuid.uuid4().hex
        self.songs.add(identity)
        await self.tell("begin", id=identity, name=name, size=len(content))
        for start in range(0, len(content), PIECE_BYTES):
            least = start - (PIECES_AHEAD - 1) * PIECE_BYTES
            await self.wait(functools.partial(is_received, identity, least))
            await self.tell("chunk", [content[start : start + PIECE_BYTES]], id=identity, offset=start)
        return await self.result(identity)

    async def result(self, identity):
        """What became of a song: its tags, or why there are none."""
        return await self.wait(
            lambda told: told.get("id") == identity and told.get("type") in ("tags", "failed", "cancelled")
        )

    async def leave(self):
        """Close the page."""
        if self.socket is not None:
            await self.socket.close()
        if self.reader is not None:
            await self.reader
