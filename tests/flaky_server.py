"""A pytest plugin: a real web server on this machine that fails as it is told.

A test file that uses it says ``pytest_plugins = ["flaky_server"]``.
"""

import re
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Answer:
    """One way to answer: the first `cut` bytes only, another `status`, with one byte `spoiled`, ..."""

    cut: int | None = None
    status: int = 200
    headers: dict = field(default_factory=dict)
    spoiled: int | None = None
    stall: threading.Event | None = None  # after `cut` bytes, instead of hanging up
    content: bytes | None = None
    length_told: bool = True


@dataclass
class Server:
    """What it serves, how it will answer, and what it was asked."""

    folder: Path
    url: str = ""
    ranges: bool = True
    plans: dict[str, list[dict]] = field(default_factory=lambda: defaultdict(list))  # fields of Answer, used up in turn
    always: dict[str, dict] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    sent: int = 0
    busy: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str) -> Answer:
        with self.lock:
            return Answer(**(self.plans[path].pop(0) if self.plans[path] else self.always.get(path, {})))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        served, path = self.server.served, self.path.lstrip("/")
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        with served.lock:
            served.asked.append(path)
            served.starts.append(int(match[1]) if match else 0)
            served.agents.add(self.headers["User-Agent"])
            served.busy += 1
            served.busiest = max(served.busiest, served.busy)
        try:
            self.send(served.answer(path), path, int(match[1]) if match and served.ranges else 0)
        except ConnectionError:
            self.close_connection = True
        finally:
            with served.lock:
                served.busy -= 1

    def head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, answer, path, start):
        file = self.server.served.folder / path
        if answer.status >= 300 or not (answer.content is not None or file.is_file()):
            self.head(answer.status if answer.status >= 300 else 404, {"Content-Length": "0", **answer.headers})
            return
        whole = bytearray(file.read_bytes() if answer.content is None else answer.content)
        if answer.spoiled is not None:
            whole[answer.spoiled] ^= 1
        body = bytes(whole[start:])
        headers = {"Content-Length": str(len(body))} if answer.length_told else {"Connection": "close"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        self.head(206 if start else answer.status, {**headers, **answer.headers})
        part = body[: answer.cut]
        with self.server.served.lock:
            self.server.served.sent += len(part)
        self.wfile.write(part)
        self.wfile.flush()
        if answer.stall is not None:
            answer.stall.wait(30)
        if len(part) < len(body) or not answer.length_told:
            self.close_connection = True


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    served = Server(folder)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.served = served
    http.handle_error = lambda *_: None  # a client that hangs up is what is tested here
    http.daemon_threads = True
    http.block_on_close = False
    served.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def sleeper():
    """Waits for nothing, and remembers in `waits_s` how long it should have."""

    def sleep(seconds):
        sleep.waits_s.append(seconds)

    sleep.waits_s = []
    return sleep
