"""Visitors who mean harm. Of each attack nothing is left but trouble for the attacker: the witness is served on."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import time
import uuid
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from webclient import LIMIT_MB, TOKEN, Visitor, make_song
from websockets.exceptions import ConnectionClosed

from jamendo_mood.app.server import JSON_BYTES, MAX_CONNECTIONS, MESSAGE_BYTES, SECURITY

pytest_plugins = ["webplugin"]

pytestmark = pytest.mark.thorough

SONG = make_song(1)
GROWTH_MB = 150  # of the server, by any attack


@pytest.fixture(scope="module")
def attacker(served, finish):
    """A visitor with a page of its own, for the attacks that need one."""
    one = Visitor(served)
    assert finish(one.come())
    yield one
    finish(one.leave())


@pytest.fixture(autouse=True)
def unharmed(served, witness, finish):
    """After an attack: the server has not grown, and another visitor's song has its moods as soon as ever."""
    before = served.server_mb()
    yield
    result = finish(asyncio.wait_for(witness.upload("witness.wav", SONG), 30))
    assert result["type"] == "tags"
    assert {told["id"] for told in witness.heard if "id" in told} <= witness.songs
    assert served.server_mb() < before + GROWTH_MB


@pytest.fixture
def again(attacker, finish):
    """Connects an attacker whose socket was closed."""

    def connect():
        if attacker.reader.done():
            assert finish(attacker.come())
        return attacker

    return connect


NONSENSE = {
    "nothing": "",
    "bytes": b"\xff" * 8,
    "no object": "7",
    "no JSON": "{'type': 'hello'}",
    "deep JSON": '{"type":' * 5_000,
    "a hundred buffers": '{"type": "chunk", "buffers": 100}',
    "much JSON": json.dumps({"type": "hello", "view": "x" * JSON_BYTES}),
    "a message over the limit": bytes(MESSAGE_BYTES + 1),
    "a text over the limit": "x" * (MESSAGE_BYTES + 1),
}


async def is_closed(visitor):
    await asyncio.wait_for(visitor.reader, 20)
    return visitor.socket.close_code


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_closes_the_socket_it_comes_by(what, again, finish):
    visitor = again()
    finish(visitor.socket.send(NONSENSE[what]))
    assert finish(is_closed(visitor)) in (1008, 1009, 1006)  # 1006: cut off


def test_random_frames_close_it_too(again, finish, amount, figure):
    count, rng = amount(10, 500), np.random.default_rng(0)
    for _ in range(count):
        visitor = again()
        finish(visitor.socket.send(rng.bytes(int(rng.integers(0, 400)))))
        assert finish(is_closed(visitor)) == 1008
    figure("frames of random bytes to the page's websocket", count, f"{count} sockets closed, others served")


def test_a_message_about_the_song_of_another_reaches_nobody(again, witness, finish):
    finish(witness.upload("witness.wav", SONG))
    visitor, song = again(), sorted(witness.songs)[-1]
    for kind in ("remove", "cancel"):
        finish(visitor.tell(kind, id=song))
    finish(visitor.tell("piece", key=song, index=0))
    finish(visitor.tell("save", id=song, format="json"))
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"
    assert "witness" not in json.dumps(visitor.heard)
    assert not any(told["type"] == "removed" for told in witness.heard)


def upload(*pieces, name="a.wav", size=1000):
    return SimpleNamespace(pieces=pieces, name=name, size=size)


UPLOADS = {
    "too large, as it says": (upload(size=LIMIT_MB * 1_000_000 + 1), "the limit here is 2 MB"),
    "no size": (upload(size=-1), "can't be analysed"),
    "endless": (upload(size=10**30), "the limit here"),
    "out of order": (upload((500, 500), (0, 500)), "can't be analysed"),
    "twice": (upload((0, 500), (0, 500)), "can't be analysed"),
    "overlapping": (upload((0, 500), (499, 500)), "can't be analysed"),
    "before the start": (upload((-1, 500)), "can't be analysed"),
    "more than it says": (upload((0, 1001)), "can't be analysed"),
    "empty pieces": (upload((0, 0)), "can't be analysed"),
    "no music": (upload((0, 1000)), "can't be read as music"),
    "up the tree": (upload((0, 1000), name="../../../../tmp/owned.wav"), "can't be read as music"),
    "NUL": (upload((0, 1000), name="a\0.wav"), "can't be read as music"),
    "half a character": (upload((0, 1000), name="\ud800.wav"), "can't be read as music"),
    "a long name": (upload((0, 1000), name="x" * 10_000 + ".wav"), "can't be read as music"),
    "HTML": (upload((0, 1000), name="<img src=x onerror=alert(1)>.mp3"), "can't be read as music"),
    "a playlist": (upload((0, 1000), name="a.m3u8"), "can't be read as music"),
}


@pytest.mark.parametrize("what", UPLOADS)
def test_an_upload_that_is_wrong_is_told_so(what, again, finish, served):
    visitor, (wrong, sentence) = again(), UPLOADS[what]
    identity = uuid.uuid4().hex
    finish(visitor.tell("begin", id=identity, name=wrong.name, size=wrong.size))
    for offset, size in wrong.pieces:
        piece = b"#EXTM3U\n/etc/passwd\n".ljust(size)[:size]
        finish(visitor.tell("chunk", [piece], id=identity, offset=offset))
    result = finish(asyncio.wait_for(visitor.result(identity), 30))
    assert result["type"] == "failed"
    assert sentence in result["sentence"]
    assert str(served.temporary) not in json.dumps(result)
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"


ODD = [
    *({"type": "chunk"}, {"type": "nothing"}, {}, {"type": "begin", "id": [], "name": {}, "size": "NaN"}),
    *({"type": "save", "id": "x", "format": "../x"}, {"type": "piece", "key": "../../x", "index": 1e300}),
    *({"type": "path", "path": "/etc/passwd"}, {"type": "cancel"}, {"type": ["hello"]}, {"type": "hello", "view": {}}),
]


def test_messages_that_make_no_sense_are_dropped(again, finish):
    visitor = again()
    for content in ODD:
        finish(visitor.socket.send(json.dumps(content)))
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"
    assert "passwd" not in json.dumps(visitor.heard)


def test_ten_thousand_tiny_pieces_are_a_song(again, finish, amount, figure):
    visitor = again()
    content, identity = SONG, uuid.uuid4().hex
    pieces = amount(300, 10_000)
    step = -(-len(content) // pieces)
    started = time.monotonic()

    async def send():
        await visitor.tell("begin", id=identity, name="tiny.wav", size=len(content))
        for start in range(0, len(content), step):
            await visitor.tell("chunk", [content[start : start + step]], id=identity, offset=start)
        return await visitor.result(identity)

    assert finish(send())["type"] == "tags"
    figure("a song in tiny pieces, sent without waiting", pieces, f"tagged after {time.monotonic() - started:.1f} s")


def test_many_uploads_that_never_end_are_told_to_wait(again, finish, served, amount, figure):
    visitor, count = again(), amount(120, 1_000)
    names = [uuid.uuid4().hex for _ in range(count)]

    async def send():
        for identity in names:
            await visitor.tell("begin", id=identity, name="never.wav", size=50_000)
        await visitor.wait(lambda told: told.get("id") == names[-1])
        for identity in names:
            await visitor.tell("remove", id=identity)
        return [told for told in visitor.heard if told.get("id") in names and told["type"] == "failed"]

    refused = finish(send())
    assert len(refused) >= count - 100
    figure("uploads begun by one visitor, never ended", count, f"{count - len(refused)} taken, {len(refused)} refused")
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"


def test_one_who_asks_and_does_not_read_is_left(served, again, finish, amount, figure):
    """The answers must not pile up in the server."""
    visitor, count = again(), amount(5_000, 50_000)
    visitor.reader.cancel()
    before, most = served.server_mb(), 0.0

    async def ask():
        nonlocal most
        with contextlib.suppress(ConnectionClosed, TimeoutError, asyncio.TimeoutError):
            for number in range(count):
                await asyncio.wait_for(visitor.tell("hello", view="v" * 20_000), 5)
                if number % 100 == 0:
                    most = max(most, served.server_mb())
        visitor.socket.transport.abort()
        return number

    taken = finish(ask())
    most = max(most, served.server_mb())
    assert most < before + GROWTH_MB
    figure("questions of 20 kB by a visitor who reads no answer", taken, f"the server grew by {most - before:.0f} MB")
    again()


def test_a_slow_loris_keeps_nobody_out(served, finish, amount, figure):
    host, port = served.host.split(":")
    count = amount(MAX_CONNECTIONS + 50, MAX_CONNECTIONS + 500)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)]
        for one in crowd:
            with contextlib.suppress(OSError):
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A")
        started = time.monotonic()
        with socket.create_connection((host, int(port)), timeout=10) as other:
            other.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 403")
        answered_s = time.monotonic() - started
        open_there = len(psutil.Process(served.process.pid).net_connections("tcp"))
        assert answered_s < 5
        assert sum(map(is_cut_off, crowd)) >= count - MAX_CONNECTIONS
    figure(
        "half-open requests to the page (slow loris)",
        count,
        f"{MAX_CONNECTIONS} kept at most ({open_there} sockets in all); another is answered in {answered_s:.2f} s",
    )


def is_cut_off(connection):
    connection.settimeout(0.0)
    with contextlib.suppress(BlockingIOError):
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True
    return False


@pytest.mark.slow
def test_a_header_that_does_not_end_is_not_waited_for(served):
    host, port = served.host.split(":")
    started = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=60) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(50):
            time.sleep(1)
            with contextlib.suppress(OSError):
                slow.sendall(b"X")
            if is_cut_off(slow):
                break
        assert 25 < time.monotonic() - started < 45


REQUESTS = {
    "DELETE": ("DELETE", "/api/v1/tag", 405),
    "PUT": ("PUT", "/", 405),
    "TRACE": ("TRACE", "/", 405),
    "a socket without a handshake": ("GET", "/tag/messages", 404),
    "the old page's": ("GET", "/api/kernels", 404),
    "passwd": ("GET", "/../../../../../../../../etc/passwd", 404),
    "passwd, encoded": ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
    "passwd, twice encoded": ("GET", "/..%252f..%252fetc/passwd", 404),
    "a hidden file": ("GET", "/.htaccess", 404),
    "NUL": ("GET", "/tag.js%00", 404),
    "files": ("GET", "/static/style.css", 404),
    "FastAPI's own pages": ("GET", "/docs", 404),
    "a large body": ("POST", "/", 405),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_what_is_no_page_is_refused_with_all_headers(what, served):
    method, path, status = REQUESTS[what]
    answer = served.ask(path, method, "x" * 70_000 if what == "a large body" else None)
    assert answer.status == status
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert "Server" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "raw", [b"\0" * 10_000, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, b"\x16\x03\x01"]
)
def test_what_is_no_http_is_cut_off(served, raw):
    host, port = served.host.split(":")
    with socket.create_connection((host, int(port)), timeout=40) as other, contextlib.suppress(ConnectionError):
        other.sendall(raw)
        other.shutdown(socket.SHUT_WR)
        assert other.recv(100).startswith((b"HTTP/1.1 400", b"")[:2])


def test_no_room_is_told_and_the_next_song_is_taken(visitor, finish, served, figure):
    one, (folder,) = visitor(), served.temporary.glob("jamendo-mood-scratch-*")
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs (root on Linux)")
    try:
        result = finish(one.upload("large.wav", make_song(2, seconds=30)))
        answer, document = served.tag(make_song(2, seconds=30), "large.wav")
        assert finish(one.upload("small.wav", SONG))["type"] == "tags"
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
    assert result["type"] == "failed"
    assert "no room left" in result["sentence"]
    assert answer.status == 503
    assert "no room left" in document["errors"][0]["error"]
    figure("an upload to a disk that is full", 1, result["sentence"])


def test_the_token_is_told_nowhere(served):
    """After all that: not in the log, in no file, in no process's arguments or environment."""
    for path in ("/nothing?token={}", "/%ff?token={}", "/tag/messages?token={}", "/?token={}&x=%zz"):
        path = path.format(TOKEN)
        served.ask(path)
        served.ask(path, Host="x y")
    log = served.log.read_text()
    assert TOKEN in served.url
    assert TOKEN not in log.replace(served.url, "")
    files = [path for path in served.temporary.rglob("*") if path.is_file()]
    assert files
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # of a visitor that has just gone
            assert TOKEN.encode() not in path.read_bytes()
    for process in psutil.Process(served.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
            assert TOKEN not in str(process.cmdline())
            assert TOKEN not in str(process.environ())
    assert "Traceback" not in log, log[-3000:]
    assert len(log) < 100_000
