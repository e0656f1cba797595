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
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import uvicorn
import websockets.sync.client
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from jamendo_mood.app.server import make_app, uvicorn_config

PIECE_BYTES = 512 * 1024
WAIT_S = 600.0
TOKEN = "sesame-" + "0123456789abcdef" * 2
LIMIT_MB, ROOM_BYTES = 2, 5_000_000  # of one upload, and of all


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


class Served:
    """A page that is served, by the real command or in this process."""

    def __init__(self, url, process=None, temporary=None, log=None, queue=None):
        self.url, self.process, self.temporary, self.log, self.queue = url, process, temporary, log, queue
        self.host = f"127.0.0.1:{re.search(r':([0-9]+)/', url)[1]}"
        self.cookies = {}

    @property
    def headers(self):
        """What a browser says of itself."""
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def server_mb(self):
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def files(self):
        """What is on disk for visitors: uploads, and sound being decoded."""
        walked = os.walk(self.temporary)  # which minds nothing that goes meanwhile
        return [Path(folder, name) for folder, _, names in walked for name in names if name != "owner.lock"]

    def peak_mb(self):
        """The most that the server ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e3

    def ask(self, path, method="GET", body=None, **headers):
        """An answer, whatever its status. Cookies are kept."""
        connection = http.client.HTTPConnection(self.host, timeout=WAIT_S)
        with contextlib.closing(connection):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused while it was sent
                connection.request(method, path, body, {**self.headers, **headers})
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
        url, named = f"ws://{self.host}/{page}/messages", {**self.headers, **headers}
        return websockets.sync.client.connect(url, additional_headers=named, max_size=None)

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
        try:
            give_up_s = time.monotonic() + WAIT_S
            while not (found := re.search(r"serving on (\S+)", log.read_text())):
                if process.poll() is not None or time.monotonic() > give_up_s:
                    raise AssertionError(log.read_text())
                time.sleep(0.02)
            yield Served(found[1], process, temporary, log)
        finally:
            process.send_signal(end)
            try:
                process.wait(60)
            finally:
                process.kill()  # one that does not end must not keep the others waiting
    left = list(temporary.iterdir())
    assert (process.returncode, left) == (0, []), f"{process.returncode}, {left}: {log.read_text()}"


@contextlib.contextmanager
def serve_here(queue, config, token="") -> Iterator[Served]:
    """Serve an application of this process, as the command does."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        running = uvicorn.Server(uvicorn_config(make_app(queue, config, token)))
        thread = threading.Thread(target=running.run, args=([bound],))
        thread.start()
        yield Served(f"http://127.0.0.1:{bound.getsockname()[1]}/", queue=queue)
        running.should_exit = True
        thread.join()


class Visitor:
    """One who comes, uploads songs, and leaves; `heard` is all that the page was told."""

    def __init__(self, served):
        self.served, self.heard, self.songs = served, [], set()
        self.socket, self.reader = None, None
        self._news = asyncio.Condition()

    def connect(self, page="tag", **headers):
        """Connect to the server."""
        url = f"ws://{self.served.host}/{page}/messages"
        named = {**self.served.headers, "Origin": f"http://{self.served.host}", **headers}
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
            await self.tell("chunk", [content[start : start + PIECE_BYTES]], id=identity, offset=start)
        return await self.result(identity)

    async def result(self, identity):
        """What became of a song: its tags, or why there are none."""
        ends = ("tags", "failed", "cancelled")
        return await self.wait(lambda told: told.get("id") == identity and told["type"] in ends)

    async def leave(self):
        """Close the page."""
        await self.socket.close()
        await self.reader
