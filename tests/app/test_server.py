"""The server: what is served, to whom, what a visitor may say, and how it ends."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import quote

import pytest
from toy_moods import make_tagger
from webclient import Served, make_song, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jamendo_mood.app import server
from jamendo_mood.app.server import SECURITY, WebConfig, make_app
from jamendo_mood.cli import main

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
    if path in ("/", "/find", "/api"):  # nor are there scripts or styles in a page
        assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", answer.text) == []


def test_a_page_runs_no_scripts_but_its_own():
    policy = dict(part.strip().split(" ", 1) for part in SECURITY["Content-Security-Policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert not re.search(r"unsafe|\*|http", str(policy))


NOTHING = [
    *("/docs", "/redoc", "/openapi.json", "/nothing", "/static/style.css", "/page.css/", "/tag.js%00", "/.env"),
    *("/%2e%2e/etc/passwd", "/page.css/../../../etc/passwd", "/..%252f..%252fetc/passwd", "/api/v1", "/style.css"),
    *("/api/v1/../../etc/passwd", "/api/kernels", "/tag/messages", "/files/etc/passwd"),
]
OTHERWISE = [("DELETE", "/"), ("POST", "/"), ("TRACE", "/"), ("PUT", "/api/v1/tag"), ("OPTIONS", "/api/v1/tag")]


@pytest.mark.parametrize(("method", "path"), [*(("GET", path) for path in NOTHING), *OTHERWISE])
def test_there_is_nothing_else(site, method, path):
    answer = site.ask(path, method, None if method == "GET" else "x" * 70_000)
    assert answer.status in ((404, 307, 426) if method == "GET" else (405,))
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY


def test_there_are_no_other_addresses(site):
    """Whatever FastAPI adds one day is not answered."""
    routes = {route.path for route in make_app(site.queue, WebConfig())._app.routes}
    api = {f"/api/v1/{name}" for name in ("tag", "tagger", "health", "similar", "playlist", "openapi.json")}
    pages = {"/", "/find", "/tag.js", "/find.js", "/tag/messages", "/find/messages", "/page.css", "/api"}
    assert {path for path in routes if path} == api | pages


def test_without_a_library_there_is_nothing_to_find(make_site):
    site = make_site(library=None)
    assert site.ask("/").status == 200
    for path in ("/find", "/find.js", "/api/v1/similar", "/api/v1/playlist"):
        assert site.ask(path).status == 404


def test_only_this_machine_is_served_by_its_own_names(site):
    for host in ("evil.example", "evil.example:8866", "10.0.0.1", "localhost.evil.example", "", "[x"):
        assert {site.ask(path, Host=host).status for path in ("/", "/nothing")} == {403}
    for host in ("localhost", "localhost:1", "127.0.0.1:8866", "[::1]:8866"):
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


def hear_until(page, wanted):
    """The messages up to one that is wanted, with their buffers."""
    heard = []
    while not heard or not wanted(heard[-1]):
        message = hear(page)
        heard.append({**message, "buffers": [page.recv() for _ in range(message["buffers"])]})
    return heard


def upload(page, content, size=None):
    say(page, type="begin", id=f"{size}", name="a.wav", size=size or len(content))
    say(page, type="chunk", id=f"{size}", offset=0, buffers=1)
    page.send(content)


NONSENSE = {
    "no JSON": "{",
    "no object": "[]",
    "deep": "[" * 10_000,
    "much": json.dumps({"type": "hello", "view": "x" * server.JSON_BYTES}),
    "buffers without end": json.dumps({"type": "chunk", "buffers": 10**9}),
    "fewer than none": json.dumps({"type": "chunk", "buffers": -1}),
    "no number": json.dumps({"type": "chunk", "buffers": "4"}),
    "a big number": '{"type": "hello", "view": ' + "9" * 5_000 + "}",
    "bytes without a message": b"x",
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_closes_the_socket_it_comes_by(site, what):
    with site.open() as page:
        page.send(NONSENSE[what])
        with pytest.raises(ConnectionClosed) as closed:
            hear(page)
        assert closed.value.rcvd.code == 1008


def test_a_song_goes_through_the_page_and_half_of_one_and_nothing_is_left(site):
    with site.open() as page:
        upload(page, make_song(1))
        heard = hear_until(page, lambda told: told["type"] == "details")
        assert {told["type"]: len(told["buffers"]) for told in heard if told["buffers"]} == {"tags": 1, "details": 1}
        upload(page, bytes(1_000), size=2_000)
        assert [hear(page)["received"] for _ in range(2)] == [0, 1_000]
        page.socket.shutdown(socket.SHUT_RDWR)  # as if the cable had been pulled


@pytest.mark.parametrize(
    ("soft", "hard", "visitors", "allowed"),
    [
        (2048, 4096, 8, []),
        (1024, 8192, 1000, [(5512, 8192)]),
        (1024, 2048, 1000, [(2048, 2048)]),
        (1024, server.resource.RLIM_INFINITY, 1000, [(5512, server.resource.RLIM_INFINITY)]),
    ],
)
def test_many_visitors_may_have_as_many_files(monkeypatch, soft, hard, visitors, allowed):
    limits = []
    monkeypatch.setattr(server.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(server.resource, "setrlimit", lambda _, pair: limits.append(pair))
    server.allow_files(visitors)
    assert limits == allowed


# ---- The command.


def test_a_song_dropped_at_once_waits_for_the_network_and_two_songs_get_their_own_moods(listener_folder, tmp_path):
    with serve(tmp_path, "--tagger", listener_folder) as page, page.open() as one, page.open() as other:
        for number, visitor in enumerate((one, other)):
            upload(visitor, make_song(number))
        first, second = (hear_until(visitor, lambda told: told["type"] == "tags")[-1] for visitor in (one, other))
    assert [target["score"] for target in first["targets"]] != [target["score"] for target in second["targets"]]


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


def test_what_a_killed_server_leaves_goes_with_the_next(listener_folder, tmp_path, monkeypatch):
    command = [sys.executable, "-m", "jamendo_mood", "web", "--tagger", listener_folder, "--port", "0", "--no-browser"]
    folder = tmp_path / "first"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("serving on")
        process.kill()
    (left,) = folder.iterdir()
    with serve(tmp_path, "--tagger", listener_folder, TMPDIR=str(folder)):
        (there,) = folder.iterdir()
        assert there != left
    assert list(folder.iterdir()) == []


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
def test_an_embedder_that_cannot_be_loaded_ends_it_in_one_line_though_somebody_is_there(tmp_path):
    make_tagger().save(tmp_path / "tagger")
    command = [sys.executable, "-m", "jamendo_mood", "web", "--tagger", tmp_path / "tagger", "--no-browser"]
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        url = re.search(r"http://\S+", process.stderr.readline())[0]
        with Served(url).open() as page, contextlib.suppress(ConnectionClosed):
            say(page, type="hello")
            while True:
                hear(page)
        lines = process.stderr.read().splitlines()
    assert process.returncode == 2
    assert len(lines) == 1
    assert "toy" in lines[0]


def test_without_fastapi_it_says_what_to_install(monkeypatch, capsys):
    for name in ("server", "api"):
        monkeypatch.delitem(sys.modules, f"jamendo_mood.app.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main.main(["web"]) == 2
    assert capsys.readouterr().err == (
        "jamendo-mood web: the web page needs fastapi: `pip install jamendo-mood[web]` brings it\n"
    )
