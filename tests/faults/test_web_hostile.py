"""Visitors who mean harm. Of each attack nothing is left but trouble for the attacker: the witness is served on."""

import asyncio
import contextlib
import json
import socket
import time
import uuid
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from webclient import LIMIT_MB, TOKEN, Visitor, make_song, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jamendo_mood.app.server import MAX_CONNECTIONS, MESSAGE_BYTES
from jamendo_mood.app.session import MAX_UNFINISHED

pytest_plugins = ["webplugin"]

pytestmark = pytest.mark.thorough

SONG = make_song(1)
GROWTH_MB = 150  # of the server, by any attack


@pytest.fixture(scope="module")
def two(served, finish):
    """An attacker with a page of its own, and a witness, who is there meanwhile."""
    both = [Visitor(served), Visitor(served)]
    for one in both:
        assert finish(one.come())
    yield both
    for one in both:
        finish(one.leave())


@pytest.fixture(scope="module")
def witness(two):
    return two[1]


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
def again(two, finish):
    """The attacker, connected again if its socket was closed."""

    def connect():
        if two[0].reader.done():
            assert finish(two[0].come())
        return two[0]

    return connect


@pytest.fixture
def visitor(again):
    return again()


def garbage(seed):
    rng = np.random.default_rng(seed)
    content = rng.bytes(int(rng.integers(0, 400)))
    return content if seed % 2 else content.decode("latin-1")


async def is_closed(visitor):
    await asyncio.wait_for(visitor.reader, 20)
    return visitor.socket.close_code


@pytest.mark.parametrize("content", ["x" * (MESSAGE_BYTES + 1), bytes(MESSAGE_BYTES + 1), None], ids=type)
def test_a_frame_over_the_limit_and_what_is_none_close_the_socket(content, visitor, finish):
    if content is None:
        visitor.socket.transport.write(b"\x8f\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    else:
        with contextlib.suppress(ConnectionClosed):
            finish(visitor.socket.send(content))
    assert finish(is_closed(visitor)) in (1002, 1006, 1009)  # 1006: cut off


def test_random_frames_close_it_too(again, finish, amount, figure):
    count = amount(10, 500)
    for seed in range(count):
        visitor = again()
        finish(visitor.socket.send(garbage(seed)))
        assert finish(is_closed(visitor)) == 1008
    figure("frames of random bytes to the page's websocket", count, f"{count} sockets closed, others served")


FORBIDDEN = [
    *({"type": "path", "path": "/etc/passwd"}, {"type": "example", "number": 0}, {"type": "example", "number": -1}),
    *({"type": "piece", "key": "/etc/passwd", "index": 0}, {"type": "_forget", "id": "x"}, {"type": "close"}),
    *({"type": "execute_request", "code": "1"}, {"type": "update", "state": {"_esm": "x"}}, {"type": "__init__"}),
    *({"type": "chunk"}, {"type": "nothing"}, {}, {"type": "begin", "id": [], "name": {}, "size": "NaN"}),
    *({"type": "save", "id": "x", "format": "../x"}, {"type": "piece", "key": "../../x", "index": 1e300}),
    *({"type": None}, {"type": {}}, {"type": ["hello"]}, {"type": "hello", "view": {}}),
    {"type": "begin", "id": "y", "name": "a", "size": 10**400},
]


def test_no_message_opens_a_file_or_runs_anything(visitor, finish):
    async def say():
        for content in FORBIDDEN:
            await visitor.socket.send(json.dumps(content))
        return await visitor.upload("mine.wav", SONG)  # the socket is as good as before

    assert finish(say())["type"] == "tags"
    pieces = [told for told in visitor.heard if told["type"] == "piece"]
    assert [(told["last"], told["buffers"]) for told in pieces] == [(True, [])] * len(pieces)
    assert "passwd" not in json.dumps([told for told in visitor.heard if told["type"] != "piece"])


def test_a_message_reaches_nobody_else(visitor, witness, finish):
    (song,) = list(witness.songs)[:1] or ("x",)

    async def say():
        for kind in ("remove", "cancel", "save", "piece"):
            await visitor.tell(kind, id=song, key=song, index=0, format="csv", view="spy")
        await visitor.tell("hello", view="spy")
        return await visitor.upload("mine.wav", SONG)

    assert finish(say())["type"] == "tags"
    assert "spy" not in json.dumps(witness.heard)
    assert "witness" not in json.dumps(visitor.heard)


@pytest.mark.parametrize(
    "how",
    [
        *({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Cookie": ""}),
        *({"Cookie": "jamendo-mood-token=guess"}, {"page": "nothing"}, {"page": "../tag"}),
    ],
    ids=str,
)
def test_who_may_not_connect_is_refused(how, served):
    with pytest.raises(InvalidStatus) as refused, served.open(**{"Origin": f"http://{served.host}", **how}):
        pass
    assert refused.value.response.status_code in (403, 404)


def upload(*pieces, name="a.wav", size=1000):
    return SimpleNamespace(pieces=pieces, name=name, size=size)


UPLOADS = {
    "too large, as it says": (upload(size=LIMIT_MB * 1_000_000 + 1), "the limit here is 2 MB"),
    "endless": (upload(size=10**30), "the limit here"),
    "out of order": (upload((500, 500), (0, 500)), "can't be analysed"),
    "more than it says": (upload((0, 1001)), "can't be analysed"),
    "no music": (upload((0, 1000)), "can't be read as music"),
    "up the tree": (upload((0, 1000), name="../../../../tmp/owned.wav"), "can't be read as music"),
    "NUL": (upload((0, 1000), name="a\0.wav"), "can't be read as music"),
    "half a character": (upload((0, 1000), name="\ud800.wav"), "can't be read as music"),
    "a long name": (upload((0, 1000), name="x" * 10_000 + ".wav"), "can't be read as music"),
    "HTML": (upload((0, 1000), name="<img src=x onerror=alert(1)>.mp3"), "can't be read as music"),
    "a playlist": (upload((0, 1000), name="a.m3u8"), "can't be read as music"),
}


@pytest.mark.parametrize("what", UPLOADS)
def test_an_upload_that_is_wrong_is_told_so(what, visitor, finish, served):
    (wrong, sentence), identity = UPLOADS[what], uuid.uuid4().hex

    async def send():
        await visitor.tell("begin", id=identity, name=wrong.name, size=wrong.size)
        for offset, size in wrong.pieces:
            piece = b"#EXTM3U\n/etc/passwd\n".ljust(size)[:size]
            await visitor.tell("chunk", [piece], id=identity, offset=offset)
        return await asyncio.wait_for(visitor.result(identity), 30)

    result = finish(send())
    assert result["type"] == "failed"
    assert sentence in result["sentence"]
    assert str(served.temporary) not in json.dumps(result)
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"


def test_ten_thousand_tiny_pieces_are_a_song(visitor, finish, amount, figure):
    identity, pieces, started = uuid.uuid4().hex, amount(300, 10_000), time.monotonic()
    step = -(-len(SONG) // pieces)

    async def send():
        await visitor.tell("begin", id=identity, name="tiny.wav", size=len(SONG))
        for start in range(0, len(SONG), step):
            await visitor.tell("chunk", [SONG[start : start + step]], id=identity, offset=start)
        return await visitor.result(identity)

    assert finish(send())["type"] == "tags"
    figure("a song in tiny pieces, sent without waiting", pieces, f"tagged after {time.monotonic() - started:.1f} s")


def test_many_uploads_that_never_end_are_told_to_wait(visitor, finish, amount, figure):
    count = amount(120, 1_000)
    names = [uuid.uuid4().hex for _ in range(count)]

    async def send():
        for identity in names:
            await visitor.tell("begin", id=identity, name="never.wav", size=50_000)
        await visitor.wait(lambda told: told.get("id") == names[-1])
        for identity in names:
            await visitor.tell("remove", id=identity)
        await visitor.wait(lambda told: told.get("id") == names[0] and told["type"] == "removed")
        return [told for told in visitor.heard if told.get("id") in names and told["type"] == "failed"]

    refused = finish(send())
    assert len(refused) >= count - MAX_UNFINISHED
    figure("uploads begun by one visitor, never ended", count, f"{count - len(refused)} taken, {len(refused)} refused")
    assert finish(visitor.upload("mine.wav", SONG))["type"] == "tags"


def test_one_who_asks_and_does_not_read_is_left(served, visitor, again, finish, amount, figure):
    """Answers must not pile up in the server."""
    count, before, most = amount(20_000, 30_000), served.server_mb(), 0.0  # 400 MB of answers

    async def ask():
        nonlocal most
        visitor.reader.cancel()
        taken = 0
        with contextlib.suppress(ConnectionClosed, asyncio.TimeoutError, OSError):
            for number in range(count):
                await asyncio.wait_for(visitor.tell("hello", view="v" * 20_000), 5)
                taken = number + 1
                if number % 100 == 0:
                    most = max(most, served.server_mb())
        visitor.socket.transport.abort()
        return taken

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


def test_no_room_is_told_and_the_next_song_is_taken(listener_folder, tmp_path, small_disk, finish, figure):
    song = make_song(2, seconds=40)
    with serve(tmp_path, "--tagger", listener_folder, TMPDIR=str(small_disk)) as served:

        async def visit():
            one = Visitor(served)
            assert await one.come()
            results = [await one.upload("large.wav", song), await one.upload("a.wav", SONG)]
            await one.leave()
            return results

        large, small = finish(visit())
        answer, document = served.tag(song)
        assert (answer.status, document["results"]) == (503, [])
        assert served.tag(SONG)[0].status == 200
    assert list(small_disk.iterdir()) == []
    assert small["type"] == "tags"
    assert large["type"] == "failed"
    assert "no room left" in large["sentence"]
    figure("an upload to a disk that is full", 1, large["sentence"])


def test_the_token_is_told_nowhere(served):
    """After all that: not in the log, in no file, in no process's arguments or environment."""
    for path in ("/nothing?token={}", "/%ff?token={}", "/find/x?token={}", "/?token={}&x=%zz"):
        served.ask(path.format(TOKEN))
        served.ask(path.format(TOKEN), Cookie="", Host="x y")
    log = served.log.read_text()
    assert TOKEN in served.url
    assert TOKEN not in log.replace(served.url, "")
    for path in served.temporary.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            assert TOKEN.encode() not in path.read_bytes()
    for process in psutil.Process(served.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
            assert TOKEN not in str(process.cmdline())
            assert TOKEN not in str(process.environ())
    assert "Traceback" not in log, log[-3000:]
    assert len(log) < 100_000
