"""Visitors of the web page without a browser: what its scripts say, said by asyncio; and the server they visit."""

import asyncio
import contextlib
import functools
import io
import itertools
import json
import os
import re
import struct
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
from urllib.parse import urlencode

import numpy as np
import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

PROTOCOL = "v1.kernel.websocket.jupyter.org"
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


def pack(channel, header, content, buffers=(), metadata=None):
    """A message as a browser's script sends it."""
    parts = [channel.encode()]
    parts += [json.dumps(part).encode() for part in (header, {}, metadata or {}, content)]
    parts += [bytes(each) for each in buffers]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


def unpack(message):
    """Its channel, header, parent's header, metadata, content, and buffers."""
    (count,) = struct.unpack_from("<Q", message)
    offsets = struct.unpack_from(f"<{count}Q", message, 8)
    return [message[start:end] for start, end in itertools.pairwise(offsets)]


@dataclass
class Served:
    """A page that the real command serves; `peaks` are the most MB that the server, and all its kernels, ever had."""

    process: subprocess.Popen
    temporary: Path
    url: str
    log: Path
    peaks: dict[str, float] = field(default_factory=lambda: {"server": 0.0, "kernels": 0.0})

    @property
    def host(self):
        return re.search(r"127\.0\.0\.1:\d+|(?<=//)[^/]+", self.url)[0]

    @property
    def token(self):
        found = re.search(r"token=(\S+)", self.url)
        return found and found[1]

    def kernels(self):
        """Processes of kernels, visitors' and warm ones."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            return [child for child in children if "ipykernel" in str(cmdline(child))]
        return []

    def folders(self):
        return sorted(self.temporary.glob("*/visitors/*"))

    def memory_mb(self):
        """Of the server (RSS), and of all that it has started: of those what is theirs alone (USS)."""
        server = psutil.Process(self.process.pid)
        return self.server_mb(), sum(map(own_mb, server.children(recursive=True)))

    def server_mb(self):
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def watch(self):
        while self.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for name, size in zip(self.peaks, self.memory_mb(), strict=True):
                    self.peaks[name] = max(self.peaks[name], size)
            time.sleep(1)


def is_received(identity, least, told):
    """Whether a message says that so much of an upload is there, or that no more is wanted."""
    return told.get("id") == identity and (told["type"] != "ack" or told["received"] >= least)


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def own_mb(process):
    try:
        return process.memory_full_info().uss / 1e6
    except psutil.Error:
        return 0.0


@contextlib.contextmanager
def serve(folder: Path, *options: object, **environment: str) -> Iterator[Served]:
    """Run `jamendo-mood web`; it has to end well, and to leave nothing but its log."""
    log, temporary = folder / "log", folder / "t"
    temporary.mkdir()
    command = [sys.executable, "-m", "jamendo_mood", "web", "--port", "0", "--no-browser", *map(str, options)]
    env = {**os.environ, "TMPDIR": str(temporary), **environment}
    with log.open("w") as file, subprocess.Popen(command, env=env, stdout=file, stderr=file) as process:
        try:
            end = time.monotonic() + WAIT_S
            while not (found := re.search(r"serving on (\S+)", log.read_text())):
                if process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(log.read_text())
                time.sleep(0.1)
            served = Served(process, temporary, found[1], log)
            watcher = threading.Thread(target=served.watch)
            watcher.start()
            yield served
        finally:
            process.terminate()
            process.wait(30)
    watcher.join()
    assert (process.returncode, list(temporary.iterdir())) == (0, [])


class Visitor:
    """One who comes, uploads songs, and leaves; `heard` is all that the page was told."""

    def __init__(self, served):
        self.served, self.cookies, self.heard, self.songs = served, {}, [], set()
        self.session, self.kernel, self.socket, self.page, self.reader = uuid.uuid4().hex, None, None, None, None
        self._news = asyncio.Condition()
        self._http = AsyncHTTPClient(force_instance=True)

    async def ask(self, path, method="GET", body=None, **headers):
        """An answer; whatever its status."""
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        named = {"Cookie": jar, **{name.replace("_", "-"): value for name, value in headers.items()}}
        options = {"request_timeout": WAIT_S, "follow_redirects": False, "allow_nonstandard_methods": True}
        url = f"http://{self.served.host}{path}"
        answer = await self._http.fetch(
            HTTPRequest(url, method, headers=named, body=body, **options), raise_error=False
        )
        for cookie in answer.headers.get_list("Set-Cookie"):
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        return SimpleNamespace(status=answer.code, headers=answer.headers, text=(answer.body or b"").decode())

    async def come(self, path="/"):
        """Open the page; returns the answer."""
        answer = await self.ask(path)
        if answer.status == 200:
            config = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', answer.text, re.DOTALL)
            self.kernel = json.loads(config[1])["kernelId"]
        return answer

    def channels(self, kernel=None, session=None, protocol=PROTOCOL, **headers):
        """Connect to a kernel, by default one's own."""
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        query = f"session_id={session or self.session}"
        named = {"Cookie": jar, "Origin": f"http://{self.served.host}", **headers}
        url = f"ws://{self.served.host}/api/kernels/{kernel or self.kernel}/channels?{query}"
        return websocket_connect(HTTPRequest(url, headers=named), subprotocols=[protocol] if protocol else None)

    async def connect(self):
        """Connect, and find the widget, as its scripts do."""
        self.socket = await self.channels()
        self.reader = asyncio.ensure_future(self._listen())
        control = uuid.uuid4().hex
        version = {"version": "1.0.0"}
        self.send("comm_open", comm_id=control, target_name="jupyter.widget.control", data={}, metadata=version)
        self.send("comm_msg", comm_id=control, data={"method": "request_states"})
        states = (await self.wait(lambda told: told.get("method") == "update_states"))["states"]
        (self.page,) = (name for name, state in states.items() if state["model_name"] == "AnyModel")
        self.tell("hello", view="view")
        await self.wait(lambda told: told.get("type") == "setup")

    async def _listen(self):
        while (message := await self.socket.read_message()) is not None:
            _, header, _, _, content, *buffers = unpack(message)
            if json.loads(header)["msg_type"] == "comm_msg":
                data = json.loads(content)["data"]
                told = data if data.get("method") != "custom" else data["content"]
                async with self._news:
                    self.heard.append({**told, "buffers": [len(each) for each in buffers]})
                    self._news.notify_all()
        self.socket.close()
        async with self._news:
            self._news.notify_all()

    async def wait(self, wanted, seconds=120.0):
        """The first message that is wanted."""
        found, seen = [], 0

        def look():
            nonlocal seen
            found[:] = [told for told in self.heard[seen:] if wanted(told)][:1]
            seen = len(self.heard)
            return found or self.reader.done()

        async with self._news:
            await asyncio.wait_for(self._news.wait_for(look), seconds)
        assert found, "the connection was closed"
        return found[0]

    def pack(self, kind, buffers=(), metadata=None, channel="shell", **content):
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": self.session}
        header |= {"username": "", "version": "5.2", "date": "2026-11-21T00:00:00Z"}
        return pack(channel, header, content, buffers, metadata)

    def send(self, kind, buffers=(), **content):
        return self.socket.write_message(self.pack(kind, buffers, **content), binary=True)

    def tell(self, kind, buffers=(), **content):
        """Send a message to the widget."""
        data = {"method": "custom", "content": {"type": kind, **content}}
        return self.send("comm_msg", buffers, comm_id=self.page, data=data)

    async def upload(self, name, content):
        """Send a file as the page does; returns what came of it."""
        identity = uuid.uuid4().hex
        self.songs.add(identity)
        self.tell("begin", id=identity, name=name, size=len(content))
        for start in range(0, len(content), PIECE_BYTES):
            least = start - (PIECES_AHEAD - 1) * PIECE_BYTES
            await self.wait(functools.partial(is_received, identity, least))
            self.tell("chunk", [content[start : start + PIECE_BYTES]], id=identity, offset=start)
        return await self.result(identity)

    async def result(self, identity):
        """What became of a song: its tags, or why there are none."""
        return await self.wait(
            lambda told: told.get("id") == identity and told.get("type") in ("tags", "failed", "cancelled")
        )

    async def leave(self):
        """Give the place back."""
        if self.socket is not None:
            self.socket.close()
        if self.reader is not None:
            await self.reader
        body = urlencode({"_xsrf": self.cookies["_xsrf"]})
        kind = "application/x-www-form-urlencoded"
        return (await self.ask(f"/leave/{self.kernel}", "POST", body, Content_Type=kind)).status
