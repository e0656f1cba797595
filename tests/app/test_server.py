"""The server: what is served, to whom, what a visitor may say, and how it ends."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from webclient import Visitor, make_song, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jamendo_mood.app import server
from jamendo_mood.app.api import Service
from jamendo_mood.app.server import SECURITY, TOKEN_VARIABLE, WebConfig, make_app
from jamendo_mood.app.songs import Room, SongQueue
from jamendo_mood.cli import main
from jamendo_mood.tagging.analysis import Limits

pytest_plugins = ["demo_corpus", "webplugin"]

TOKEN = "open-sesame-0123456789"


PAGES = ("/", "/find", "/tag.js", "/find.js", "/page.css", "/api", "/api/v1/openapi.json", "/api/v1/health")


@pytest.mark.parametrize("path", PAGES)
def test_what_is_served_needs_no_other_host_and_has_all_headers(site, path):
    answer = site.ask(path)
    assert answer.status == 200
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    known = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?://[^\s\"'<)]+", known) == []
    assert re.findall(r"(?:src|href)=[\"']?//", known) == []


def test_a_page_runs_no_scripts_but_its_own():
    policy = dict(part.strip().split(" ", 1) for part in SECURITY["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert "*" not in str(policy)
    assert "http" not in str(policy)


def test_pages_have_no_scripts_or_styles_in_them(site):
    for path in ("/", "/find", "/api"):
        text = site.ask(path).text
        assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", text) == []


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/redoc", "/openapi.json", "/nothing", "/static/style.css", "/page.css/", "/..%2fpage.css"),
        *("/%2e%2e/etc/passwd", "/api/v1", "/api/v1/../../etc/passwd", "/tag/messages", "/style.css", "/.env"),
    ],
)
def test_there_is_nothing_else(site, path):
    answer = site.ask(path)
    assert answer.status in (404, 307, 426)
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY


def test_there_are_no_other_addresses(corpus_tagger, library):
    """Whatever FastAPI adds one day is not answered."""
    limits = Limits()
    service = Service(corpus_tagger, SongQueue(corpus_tagger, None, library, limits), library, limits, Room(1))
    routes = {route.path for route in make_app(service, WebConfig())._app.routes}
    api = {f"/api/v1/{name}" for name in ("tag", "tagger", "health", "similar", "playlist", "openapi.json")}
    pages = {"/", "/find", "/tag.js", "/find.js", "/tag/messages", "/find/messages", "/page.css", "/api"}
    assert {path for path in routes if path} == api | pages


def test_without_a_library_there_is_nothing_to_find(make_site):
    site = make_site(library=None)
    assert site.ask("/").status == 200
    for path in ("/find", "/find.js", "/api/v1/similar", "/api/v1/playlist"):
        assert site.ask(path).status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8866", "10.0.0.1", "localhost.evil.example", "", "[x"])
def test_only_this_machine_is_served_by_its_own_names(site, host):
    assert site.ask("/", Host=host).status == 403
    assert site.ask("/nothing", Host=host).status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8866", "[::1]:8866"])
def test_this_machine_has_several_names(site, host):
    assert site.ask("/", Host=host).status == 200


def test_others_need_the_token_which_goes_into_a_cookie(make_site):
    site = make_site(TOKEN)
    for path in (*PAGES, f"/?token={TOKEN[:-1]}", "/?token=", "/?token=%00", "/?token=%ff"):
        refused = site.ask(path)
        assert refused.status == 403
        assert "with its token" in refused.text
        assert {name: refused.headers.get(name) for name in SECURITY} == SECURITY
    admitted = site.ask(f"/find?token={TOKEN}")
    assert (admitted.status, admitted.headers["Location"]) == (303, "/find")
    assert all(word in admitted.headers["Set-Cookie"] for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert TOKEN not in site.ask("/").text
    assert site.ask("/").status == 200
    site.cookies.clear()
    assert site.ask("/", Authorization=f"Bearer {TOKEN}").status == 200
    for wrong in (f"Bearer {TOKEN}x", "Bearer ", "Bearer \xff"):
        assert site.ask("/", Authorization=wrong).status == 403


def test_a_token_in_an_address_opens_the_page_alone(make_site):
    """Nobody is sent to another place with the token, and nothing is changed by following a link."""
    site = make_site(TOKEN)
    assert site.ask(f"/api/v1/tag?token={TOKEN}", "POST", b"x").status == 403
    for path in ("//evil.example", "/\\evil.example", "/%0d%0aX-Evil: 1", "/\N{SNOWMAN}".encode().decode("latin-1")):
        admitted = site.ask(f"{quote(path, safe='/%')}?token={TOKEN}")
        assert (admitted.status, admitted.headers["Location"]) == (303, "/")


def test_other_sites_may_send_nothing(site):
    own = f"http://{site.host}"
    for origin, status in (("http://evil.example", 403), ("null", 403), (own, 422)):
        assert site.ask("/api/v1/tag", "POST", b"x", Origin=origin).status == status
    for origin in ("http://evil.example", "null", "http://localhost:8867"):
        with pytest.raises(InvalidStatus, match="403"), site.open(Origin=origin):
            pass
    with site.open(Origin=own) as page:
        say(page, type="hello", view="v")
        setup = hear(page)
        assert (setup["type"], setup["buffers"], setup["paths"]) == ("setup", 0, False)


def test_who_comes_beyond_the_limit_is_told_to_wait_and_gets_the_next_place(site):
    with site.open() as first, site.open("find"):
        with site.open() as third, pytest.raises(ConnectionClosed) as refused:
            hear(third)
        assert refused.value.rcvd.code == 1013
        first.close()
        for _ in range(100):
            with site.open() as next_one, contextlib.suppress(ConnectionClosed):
                say(next_one, type="hello")
                assert hear(next_one)["type"] == "setup"
                break
            time.sleep(0.05)
        else:
            pytest.fail("the place was not given back")


def say(page, **content):
    page.send(json.dumps(content))


def hear(page):
    return json.loads(page.recv(timeout=60))


NONSENSE = {
    "no JSON": "{",
    "no object": "[]",
    "deep": "[" * 10_000,
    "much": json.dumps({"type": "hello", "view": "x" * server.JSON_BYTES}),
    "buffers without end": json.dumps({"type": "chunk", "buffers": 10**9}),
    "fewer than none": json.dumps({"type": "chunk", "buffers": -1}),
    "no number": json.dumps({"type": "chunk", "buffers": "4"}),
    "a big number": '{"type": "hello", "view": ' + "9" * 5_000 + "}",
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_closes_the_socket_it_comes_by(site, what):
    with site.open() as page:
        page.send(NONSENSE[what])
        with pytest.raises(ConnectionClosed) as closed:
            hear(page)
        assert closed.value.rcvd.code == 1008


def test_bytes_without_a_message_close_it_too(site):
    for send in (lambda page: page.send(b"x"), lambda page: page.send('{"type": "chunk", "buffers": 1}{}')):
        with site.open() as page:
            send(page)
            with pytest.raises(ConnectionClosed):
                hear(page)


def test_messages_that_mean_nothing_are_dropped(site):
    with site.open() as page:
        for content in ({}, {"type": "nothing"}, {"type": ["hello"]}, {"type": "path", "path": "/etc/passwd"}):
            say(page, **content)
        say(page, type="hello", view={})
        assert hear(page)["type"] == "setup"


def test_a_song_goes_through_the_page_and_nothing_of_it_is_left(site, tmp_path):
    song = make_song(1)
    with site.open() as page:
        say(page, type="begin", id="x", name="a.wav", size=len(song))
        say(page, type="chunk", id="x", offset=0, buffers=1)
        page.send(song)
        kinds = []
        while not kinds or kinds[-1] != "details":
            message = hear(page)
            buffers = [page.recv() for _ in range(message["buffers"])]
            kinds.append(message["type"])
            assert len(buffers) == (message["type"] in ("tags", "details"))
        assert kinds.count("tags") == 1
        assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size] == []


@pytest.mark.parametrize(
    ("soft", "hard", "visitors", "allowed"),
    [
        (2048, 4096, 8, None),
        (1024, 8192, 1000, (5512, 8192)),
        (1024, 2048, 1000, (2048, 2048)),
        (1024, server.resource.RLIM_INFINITY, 1000, (5512, server.resource.RLIM_INFINITY)),
    ],
)
def test_many_visitors_may_have_as_many_files(monkeypatch, soft, hard, visitors, allowed):
    limits = []
    monkeypatch.setattr(server.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(server.resource, "setrlimit", lambda _, pair: limits.append(pair))
    server.allow_files(visitors)
    assert limits == ([allowed] if allowed else [])


# ---- The command.


@pytest.fixture(scope="module")
def page(corpus, corpus_store, tagger_folder, tmp_path_factory):
    """The real command, given its folders relative to where it is started."""
    where = corpus.root.parent
    options = ("--tagger", tagger_folder, "--store", os.path.relpath(corpus_store.root, where), "--visitors", "3")
    audio = os.path.relpath(corpus.audio, where)
    with serve(tmp_path_factory.mktemp("w"), *options, "--audio", audio, cwd=where) as served:
        yield served


def test_relative_folders_have_titles_and_sound(page, finish, library):
    async def visit():
        visitor = Visitor(page)
        assert await visitor.come("find")
        await visitor.tell("query", mode="moods", wanted={"sad": 1.0}, count=3)
        named = await visitor.wait(lambda told: told["type"] == "results" and told["tracks"][0]["title"])
        assert named["tracks"][0]["title"].startswith("Study in")
        await visitor.tell("piece", key=named["tracks"][0]["key"], index=0)
        piece = await visitor.wait(lambda told: told["type"] == "piece")
        assert piece["buffers"][0] > 50_000
        await visitor.leave()

    finish(visit())


def test_a_song_dropped_at_once_waits_for_the_network_and_two_songs_get_their_own_moods(page, finish):
    async def visit(number):
        visitor = Visitor(page)
        assert await visitor.come()
        result = await visitor.upload(f"{number}.wav", make_song(number))
        await visitor.leave()
        return result

    async def both():
        return await asyncio.gather(visit(1), visit(2))

    first, second = finish(both())
    assert (first["type"], second["type"]) == ("tags", "tags")
    assert [tag["score"] for tag in first["tags"]] != [tag["score"] for tag in second["tags"]]


def test_a_visitor_that_goes_is_forgotten_with_its_uploads(page, finish):
    async def visit():
        visitor = Visitor(page)
        assert await visitor.come()
        await visitor.tell("begin", id="x", name="a.wav", size=2_000)
        await visitor.tell("chunk", [bytes(1_000)], id="x", offset=0)
        await visitor.wait(lambda told: told.get("received") == 1_000)
        assert [path.stat().st_size for path in page.files() if path.stat().st_size] == [1_000]
        visitor.socket.transport.abort()  # as if the cable had been pulled
        for _ in range(100):
            if not page.files():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(page.files())

    finish(visit())


def test_only_its_own_pages_connect(page, finish):
    async def connect():
        with pytest.raises(InvalidStatus) as refused:
            await Visitor(page).connect(Origin="http://evil.example")
        return refused.value.response.status_code

    assert finish(connect()) == 403


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.0, pytest.param(10.0, marks=pytest.mark.thorough)])
def test_a_signal_ends_it_in_one_line_even_while_it_loads(listener_folder, tmp_path, number, after_s):
    with serve(tmp_path, "--tagger", listener_folder, end=number) as served:
        time.sleep(after_s)
        started = time.monotonic()
        served.process.send_signal(number)
        assert served.process.wait(20) == 0
    assert time.monotonic() - started < 5
    first, last = served.log.read_text().splitlines()
    assert first == f"serving on {served.url} (Ctrl-C stops it)"
    assert last == "stopped; nothing of any visitor is left"


def test_what_a_killed_server_leaves_goes_with_the_next(listener_folder, tmp_path, finish):
    command = [sys.executable, "-m", "jamendo_mood", "web", "--tagger", listener_folder, "--port", "0", "--no-browser"]
    env = {**os.environ, "TMPDIR": str(tmp_path / "first" / "t")}
    (tmp_path / "first" / "t").mkdir(parents=True)
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("serving on")
        process.kill()
    assert list((tmp_path / "first" / "t").iterdir()) != []
    (tmp_path / "second").mkdir()
    with serve(tmp_path / "second", "--tagger", listener_folder, TMPDIR=env["TMPDIR"]):
        assert len(list((tmp_path / "first" / "t").iterdir())) == 1
    assert list((tmp_path / "first" / "t").iterdir()) == []


def test_what_cannot_be_served_is_told_in_one_line(tagger_folder, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main.main(["web", "--tagger", str(tagger_folder), "--port", port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"port {port} of 127.0.0.1 (Address already in use" in line
    for options, message in (
        (["--port", "99999"], "port 99999: ports go from 0 to 65535"),
        (["--audio", str(tmp_path)], "give its embeddings with --store DIR"),
        (["--examples", str(tmp_path / "x.mp3")], "x.mp3: no such file, to be an example"),
        (["--host", "no.such.host.invalid"], "cannot serve on port 8866 of no.such.host.invalid"),
    ):
        assert main.main(["web", "--tagger", str(tagger_folder), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


@pytest.mark.thorough
def test_weights_that_cannot_be_loaded_end_it_in_one_line(tmp_path):
    command = [sys.executable, "-m", "jamendo_mood", "web", "--weights", tmp_path / "none", "--no-browser"]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "no such file or folder of VGGish weights" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_without_fastapi_it_says_what_to_install(monkeypatch, capsys):
    for name in ("server", "api"):
        monkeypatch.delitem(sys.modules, f"jamendo_mood.app.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main.main(["web"]) == 2
    assert capsys.readouterr().err == (
        "jamendo-mood web: the web page needs fastapi: `pip install jamendo-mood[web]` brings it\n"
    )


def test_the_token_is_taken_out_of_the_environment(listener_folder, tmp_path):
    with serve(tmp_path, "--tagger", listener_folder, **{TOKEN_VARIABLE: TOKEN}) as served:
        assert served.token == TOKEN
        assert served.ask("/").status == 403
        assert served.ask(f"/?token={TOKEN}").status == 303
        assert served.ask("/").status == 200
    assert TOKEN not in Path(served.log).read_text().replace(served.url, "")
