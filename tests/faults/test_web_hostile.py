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
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClosedError
from webclient import LIMIT_MB, TOKEN, Visitor, make_song, pack

from jamendo_mood.app.http_security import MAX_CONNECTIONS, MESSAGE_BYTES, SECURITY

pytest_plugins = ["webplugin"]

pytestmark = pytest.mark.thorough

SONG = make_song(1)
GROWTH_MB = 150  # of the server, by any attack


@pytest.fixture(scope="module")
def attacker(served, finish):
    """A visitor with a page of its own, for the attacks that need one."""
    one = Visitor(served)
    finish(one.ask(f"/?token={TOKEN}"))
    assert finish(one.come()).status == 200
    finish(one.connect())
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
            finish(attacker.connect())
        return attacker

    return connect


def garbage(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(0, 400))
    start = int(rng.integers(0, 14)).to_bytes(8, "little") if seed % 2 else b""
    return start + rng.bytes(size)


HEADER = {"msg_id": "1", "msg_type": "comm_msg"}
NONSENSE = {
    "offsets without end": b"\xff" * 8,
    "nothing": b"",
    "text": "hello",
    "the old protocol": json.dumps({"header": HEADER, "channel": "shell", "content": {}}),
    "no objects": pack("shell", [], []),
    "a header that is none": pack("shell", {"msg_type": 7}, {}),
    "no JSON": pack("shell", HEADER, {}).replace(b'"msg_id"', b"'msg_id'"),
    "deep JSON": pack("shell", HEADER, {}).replace(b"{}{}{}", b"[[[[[["),
    "a hundred buffers": pack("shell", HEADER, {}, [b""] * 100),
    "much JSON": pack("shell", HEADER, {"data": "x" * 100_000}),
    "a message over the limit": pack("shell", HEADER, {}, [bytes(MESSAGE_BYTES)]),
}


async def is_closed(visitor):
    await asyncio.wait_for(visitor.reader, 20)
    return visitor.socket.close_code


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_closes_the_socket_it_comes_by(what, again, finish):
    visitor = again()
    visitor.socket.write_message(NONSENSE[what], binary=isinstance(NONSENSE[what], bytes))
    assert finish(is_closed(visitor)) in (1008, 1009, None)  # None: cut off


def test_random_frames_close_it_too(again, finish, amount, figure):
    count = amount(10, 500)
    for seed in range(count):
        visitor = again()
        visitor.socket.write_message(garbage(seed), binary=True)
        assert finish(is_closed(visitor)) == 1008
    figure("frames of random bytes to the page's websocket", count, f"{count} sockets closed, others served")


FORBIDDEN = {
    "code": ("execute_request", "shell", {"code": "open({path!r}, 'w')", "silent": False, "store_history": False}),
    "code, by the other channel": ("execute_request", "control", {"code": "open({path!r}, 'w')", "silent": True}),
    "the end": ("shutdown_request", "control", {"restart": False}),
    "an answer to what nobody asked": ("input_reply", "stdin", {"value": "x"}),
    "a look inside": ("inspect_request", "shell", {"code": "connect", "cursor_pos": 3}),
    "a thread": ("create_subshell_request", "control", {}),
    "another widget": ("comm_open", "shell", {"comm_id": "c", "target_name": "jupyter.widget", "data": {"state": {}}}),
    "a trait": ("comm_msg", "shell", {"comm_id": "PAGE", "data": {"method": "update", "state": {"_esm": "x"}}}),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_message_runs_code_or_makes_anything(what, again, finish, tmp_path):
    visitor, (kind, channel, content) = again(), FORBIDDEN[what]
    content = json.loads(json.dumps(content).replace("PAGE", visitor.page))
    if "code" in content:
        content["code"] = content["code"].format(path=str(tmp_path / "owned"))
    before = len(visitor.heard)
    visitor.socket.write_message(visitor.pack(kind, channel=channel, **content), binary=True)
    result = finish(visitor.upload("mine.wav", SONG))  # the socket is as good as before
    assert result["type"] == "tags"
    assert not any(told.get("method") in ("update", "echo_update") for told in visitor.heard[before:])
    assert list(tmp_path.iterdir()) == []


def test_a_message_to_the_widget_of_another_reaches_nobody(again, witness, finish):
    visitor = again()
    data = {"method": "custom", "content": {"type": "hello", "view": "spy"}}
    visitor.send("comm_msg", comm_id=witness.page, data=data)
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"
    assert "spy" not in json.dumps(witness.heard)
    assert "witness" not in json.dumps(visitor.heard)


REFUSED = {
    "another site": (403, {"Origin": "http://evil.example"}),
    "no token": (403, {"Cookie": ""}),
    "no such kernel": (404, {"kernel": str(uuid.UUID(int=7))}),
    "no kernel at all": (404, {"kernel": "../../kernels"}),
    "the old protocol": (400, {"protocol": None}),
    "a session that is none": (400, {"session": "x" * 65}),
}


@pytest.mark.parametrize("who", REFUSED)
def test_who_may_not_connect_is_refused_with_all_headers(who, again, finish):
    visitor, (status, how) = again(), REFUSED[who]

    async def connect():
        with pytest.raises(HTTPClientError) as refused:
            await visitor.channels(**how)
        return refused.value

    error = finish(connect())
    assert error.code == status
    assert {name: error.response.headers.get(name) for name in SECURITY} == SECURITY


def test_a_kernel_has_few_sockets(visitor, finish):
    one = visitor()  # of whom no socket is left that is still being closed
    assert finish(one.come()).status == 200
    finish(one.connect())

    async def connect():
        sockets = [await one.channels(session=uuid.uuid4().hex) for _ in range(6)]
        closed = 0
        for each in sockets:
            with contextlib.suppress(asyncio.TimeoutError):
                while await asyncio.wait_for(each.read_message(), 1) is not None:
                    pass
                closed += 1
            each.close()
        return closed

    assert finish(connect()) == 4  # two beside one's own are allowed


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
    visitor.tell("begin", id=identity, name=wrong.name, size=wrong.size)
    for offset, size in wrong.pieces:
        visitor.tell("chunk", [b"#EXTM3U\n/etc/passwd\n".ljust(size)[:size]], id=identity, offset=offset)
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
        visitor.send("comm_msg", comm_id=visitor.page, data={"method": "custom", "content": content})
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"
    assert "passwd" not in json.dumps(visitor.heard)


def test_ten_thousand_tiny_pieces_are_a_song(again, finish, amount, figure):
    visitor = again()
    content, identity = SONG, uuid.uuid4().hex
    pieces = amount(300, 10_000)
    step = -(-len(content) // pieces)
    started = time.monotonic()

    async def send():
        visitor.tell("begin", id=identity, name="tiny.wav", size=len(content))
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
    assert served.kernels()


def test_one_who_asks_and_does_not_read_is_left(served, again, finish, amount, figure):
    """The answers of the kernel must not pile up in the server."""
    visitor, count = again(), amount(2_000, 30_000)
    visitor.reader.cancel()
    before, most = served.server_mb(), 0.0

    async def ask():
        nonlocal most
        asked = []
        with contextlib.suppress(WebSocketClosedError):
            for number in range(count):
                asked.append(asyncio.ensure_future(visitor.tell("hello", view="v" * 20_000)))
                _, late = await asyncio.wait(asked[-1:], timeout=2)
                if late:  # the server reads no more
                    break
                if number % 100 == 0:
                    most = max(most, served.server_mb())
        visitor.socket.close()
        await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
        return len(asked)

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
    "DELETE": ("DELETE", "/api/kernels/{kernel}", 403),
    "POST without the cookie's word": ("POST", "/leave/{kernel}", 403),
    "PUT": ("PUT", "/", 403),
    "TRACE": ("TRACE", "/", 405),
    "a list of kernels": ("GET", "/api/kernels", 404),
    "a session": ("GET", "/api/sessions", 404),
    "a terminal": ("GET", "/api/terminals", 404),
    "contents": ("GET", "/api/contents", 404),
    "the settings": ("GET", "/voila/static/../../settings.json", 404),
    "the settings, encoded": ("GET", "/voila/static/%2e%2e/%2e%2e/settings.json", 404),
    "the settings, twice encoded": ("GET", "/voila/static/..%252f..%252fsettings.json", 404),
    "passwd": ("GET", "/voila/templates/lab/static/../../../../../../../../etc/passwd", 404),
    "a template of that name": ("GET", "/voila/templates/../static/x.js", 404),
    "no template": ("GET", "/voila/templates/x", 404),
    "an extension": ("GET", "/voila/labextensions/..%2f..%2fsettings.json", 404),
    "a hidden file": ("GET", "/voila/static/.htaccess", 404),
    "NUL": ("GET", "/voila/static/voila.js%00", 404),
    "files": ("GET", "/files/etc/passwd", 404),
    "Jupyter's own files": ("GET", "/static/favicon.ico", 404),
    "a large body": ("POST", "/leave/{kernel}", 400),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_what_is_no_page_is_refused_with_all_headers(what, attacker, finish, again):
    again()
    method, path, status = REQUESTS[what]
    body = "x" * 70_000 if what == "a large body" else "" if method in ("POST", "PUT") else None
    answer = finish(attacker.ask(path.format(kernel=attacker.kernel), method, body))
    assert answer.status == status
    if what != "a large body":  # which Tornado refuses before there is a request
        assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
        assert "Server" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert finish(attacker.ask(f"/present/{attacker.kernel}")).status == 204


def test_no_room_is_told_and_the_next_song_is_taken(visitor, finish, served, figure):
    one = visitor()
    assert finish(one.come()).status == 200
    finish(one.connect())
    folder = kernel_folder(served, one.kernel)
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs (root on Linux)")
    try:
        result = finish(one.upload("large.wav", make_song(2, seconds=30)))
        assert finish(one.upload("small.wav", SONG))["type"] == "tags"
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
    assert result["type"] == "failed"
    assert "no room left" in result["sentence"]
    figure("an upload to a disk that is full", 1, result["sentence"])


def kernel_folder(served, kernel):
    for process in served.kernels():
        if kernel in str(process.cmdline()):
            return process.environ()["TMPDIR"]
    raise AssertionError("no such kernel")


def test_the_token_is_told_nowhere(served, attacker, finish, again):
    """After all that: not in the log, in no file, in no process's arguments or environment."""
    again()
    for path in ("/nothing?token={}", "/%ff?token={}", "/present/x?token={}", "/?token={}&x=%zz"):
        path = path.format(TOKEN)
        finish(attacker.ask(path))
        finish(attacker.ask(path, Host="x\x00y"))
    log = served.log.read_text()
    assert TOKEN in served.url
    assert TOKEN not in log.replace(served.url, "")
    secret = TOKEN.encode()
    files = [path for path in served.temporary.rglob("*") if path.is_file()]
    assert files
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # of a kernel that has just gone
            assert secret not in path.read_bytes()
    for process in psutil.Process(served.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
            assert TOKEN not in str(process.cmdline())
            assert TOKEN not in str(process.environ())
    assert "Traceback" not in log, log[-3000:]
    assert len(log) < 100_000
