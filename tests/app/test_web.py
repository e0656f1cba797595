"""The web page: what is served, to whom, and what becomes of a visitor."""

import asyncio
import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import psutil
import pytest

from jamendo_mood.app import web
from jamendo_mood.app.http_security import SECURITY, NothingHandler
from jamendo_mood.app.network_sharing import SETTINGS_VARIABLE
from jamendo_mood.app.web import TOKEN_VARIABLE, Kernels, OwnPython
from jamendo_mood.cli import main
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus"]

NAMESPACES = ("http://www.w3.org/", "http://creativecommons.org/", "http://purl.org/")  # names of things, not fetched


@dataclass
class Served:
    """A page that the real command serves, and a visitor's side of it: a cookie jar of one."""

    process: subprocess.Popen
    temporary: Path
    url: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.url)[1])

    def ask(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Cookie": jar, **named})
            answer = connection.getresponse()
            text = "" if answer.status == 101 else answer.read().decode(errors="replace")
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        return SimpleNamespace(status=answer.status, headers=answer.headers, text=text)

    def visit(self, path="/"):
        """Open the page; returns the kernel's id and the HTML."""
        page = self.ask(path)
        assert page.status == 200
        config = json.loads(re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page.text, re.DOTALL)[1])
        return config["kernelId"], page.text

    def leave(self, kernel_id):
        body = urlencode({"_xsrf": self.cookies["_xsrf"]})
        return self.ask(f"/leave/{kernel_id}", "POST", body, Content_Type="application/x-www-form-urlencoded").status

    def kernel_folders(self):
        return sorted(self.temporary.glob("*/visitors/*"))


@pytest.fixture(scope="module")
def serve(tagger_folder, tmp_path_factory):
    """Start `jamendo-mood web` and wait until it serves; it has to end well, and leave nothing."""
    started = []

    def start(*options):
        temporary = tmp_path_factory.mktemp("w")
        command = [sys.executable, "-m", "jamendo_mood", "web", "--tagger", tagger_folder, "--port", "0", *options]
        process = subprocess.Popen(
            [*command, "--no-browser"],
            env={**os.environ, "TMPDIR": str(temporary)},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append((process, temporary))
        for line in process.stderr:
            if found := re.fullmatch(r"serving on (\S+) \(Ctrl-C stops it\)\n", line):
                return Served(process, temporary, found[1])
        raise AssertionError("it ended before it served")

    yield start
    for process, _ in started:
        wait_until_idle(process)
        process.terminate()
    ends = [process.communicate(timeout=30)[1] for process, _ in started]
    for (process, temporary), rest in zip(started, ends, strict=True):
        assert (process.returncode, rest, list(temporary.iterdir())) == (0, "", [])


def wait_until_idle(process):
    """The next kernel is warm then; the end of one that still starts would be told of."""
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended before
        kernels = psutil.Process(process.pid).children()
        used, before = 1.0, sum(sum(kernel.cpu_times()[:2]) for kernel in kernels)
        while used > 0.02:
            time.sleep(0.5)
            now = sum(sum(kernel.cpu_times()[:2]) for kernel in kernels)
            used, before = now - before, now


@pytest.fixture(scope="module")
def page(serve):
    """One for two visitors, with a warm kernel."""
    return serve("--kernels", "2")


@pytest.fixture(scope="module")
def guarded(serve):
    """One for others than this machine's users."""
    return serve("--host", "0.0.0.0", "--warm", "0", "--kernels", "1")


def test_a_visitor_gets_the_widget_and_a_place_which_its_own_page_alone_gives_back(page):
    kernel_id, text = page.visit()
    assert "<title>jamendo-mood</title>" in text
    assert "application/vnd.jupyter.widget-view+json" in text
    assert "There was an error" not in text
    assert "from jamendo_mood" not in text  # no source
    assert page.ask(f"/present/{kernel_id}?active=1").status == 204
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in page.kernel_folders())
    assert page.ask(f"/leave/{kernel_id}", "POST", "").status == 403  # without what the page knows from its cookie
    assert page.ask(f"/present/{kernel_id}").status == 204
    assert page.leave(kernel_id) == 204
    assert page.ask(f"/present/{kernel_id}").status == 404
    # Nothing comes from another host.
    assert [url for url in re.findall(r"https?://[^\s\"'<)]+", text) if not url.startswith(NAMESPACES)] == []
    assert re.findall(r"(?:src|href)=[\"']?//", text) == []


def test_what_the_page_says_of_itself_keeps_others_out(page):
    answer = page.ask("/nothing")
    assert answer.status == 404
    assert {name: answer.headers[name] for name in SECURITY} == SECURITY
    files = ("/voila/static/voila.js", "/voila/templates/lab/static/index.css")
    for file in (*files, "/voila/labextensions/anywidget/package.json"):
        answer = page.ask(file)
        assert answer.status == 200
        assert {name: answer.headers[name] for name in SECURITY} == SECURITY


@pytest.mark.parametrize(
    "path",
    [
        *("/voila/tree", "/voila/tree/", "/voila/render/tag.ipynb", "/voila/files/tag.ipynb", "/tag.ipynb", "/find"),
        *("/voila/files/..%2fsettings.json", "/voila/static/../../settings.json", "/voila/api/contents/", "/login"),
        *("/voila/query/" + "-".join("a" * length for length in (8, 4, 4, 4, 12)), "/api/kernels", "/api/contents"),
    ],
)
def test_no_file_and_no_other_page_of_voilas_is_served(page, path):
    assert page.ask(path).status in (403, 404)


def test_a_page_runs_no_scripts_but_its_own(page):
    policies = []
    for _ in range(2):
        answer = page.ask("/")
        policies.append(answer.headers["Content-Security-Policy"])
        (nonce,) = re.findall(r"'nonce-([\w-]{20,})'", policies[-1])
        assert all(f' nonce="{nonce}"' in tag for tag in re.findall(r"<script[^>]*>", answer.text))
        assert re.findall(r"<[^>]*\son\w+=", answer.text.partition("<script")[0]) == []
        page.leave(re.search(r'"kernelId": "([\w-]+)"', answer.text)[1])
    assert policies[0] != policies[1]
    script = re.search(r"script-src ([^;]*)", policies[0])[1]
    assert "unsafe" not in script
    assert "*" not in script


def test_there_are_no_other_addresses(tmp_path):
    """All that is answered: whatever Voila and Tornado add one day is not."""
    made = web.Page(config=web._voila_config(web.WebConfig(), tmp_path / "settings", tmp_path))
    made.root_dir, made.connection_dir_root, made.token = str(tmp_path), str(tmp_path), ""
    made.tabs = web.TABS

    async def list_addresses():
        made.initialize([])
        made.listen = lambda: None
        made.start()
        await made.kernel_manager.shutdown_all(now=True)
        rules = [getattr(group.target, "rules", [group]) for group in made.app.default_router.rules]
        return [rule.matcher.regex.pattern for group in rules for rule in group]

    found = asyncio.run(list_addresses())
    allowed = [*web.KERNELS, *(address for address, _ in web.FILES.values()), *(tab[1] for tab in web.TABS.values())]
    assert sorted(found) == sorted(f"{address}$" for address in allowed)
    assert len(allowed) == 10
    assert made.app.settings["default_handler_class"] is NothingHandler


@pytest.mark.thorough
def test_who_comes_beyond_the_limit_is_told_to_wait_and_gets_the_next_place(page):
    first, _ = page.visit()
    second, _ = page.visit()
    refused = page.ask("/")
    assert refused.status == 503
    assert "All 2 places are taken" in refused.text
    assert f'http-equiv="refresh" content="{refused.headers["Retry-After"]}"' in refused.text
    page.leave(first)
    third, _ = page.visit()
    assert third not in (first, second)
    for kernel_id in (second, third):
        page.leave(kernel_id)


def test_a_picture_or_a_prefetch_takes_no_place(page):
    assert page.ask("/", Sec_Fetch_Dest="image").status == 403
    assert page.ask("/", Sec_Fetch_Dest="document", Sec_Purpose="prefetch").status == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8866", "10.0.0.1", "localhost.evil.example"])
def test_only_this_machine_is_served_by_its_own_names(page, host):
    assert page.ask("/", Host=host).status == 403
    assert page.ask("/nothing", Host=f"localhost:{page.port}").status == 404


def test_only_the_page_itself_talks_to_its_kernel(page):
    kernel_id, _ = page.visit()
    for origin, status in (("http://evil.example", 403), (f"http://127.0.0.1:{page.port}", 101)):
        answer = page.ask(
            f"/api/kernels/{kernel_id}/channels?session_id=1",
            Origin=origin,
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Protocol="v1.kernel.websocket.jupyter.org",
            Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
        )
        assert answer.status == status
    page.leave(kernel_id)


@pytest.mark.thorough
def test_others_need_the_token_which_goes_into_a_cookie(guarded):
    path, token = re.search(r":\d+(/)\?token=(\S+)$", guarded.url).groups()
    assert len(token) >= 32
    assert guarded.ask(path).status == 403
    refused = guarded.ask(f"{path}?token={token[:-1]}")
    assert refused.status == 403
    assert "including its token" in refused.text
    assert guarded.ask(f"/present/{'-'.join('a' * n for n in (8, 4, 4, 4, 12))}").status == 403
    guarded.cookies.clear()
    for host in ("music.example", f"127.0.0.1:{guarded.port}"):
        admitted = guarded.ask(f"{path}?token={token}", Host=host)
        assert (admitted.status, admitted.headers["Location"]) == (302, "/")
    kernel_id, text = guarded.visit()
    assert token not in text
    assert "application/vnd.jupyter.widget-view+json" in text
    assert guarded.ask("/").status == 503  # with no warm kernel, too
    environment = psutil.Process(guarded.process.pid).children()[0].environ()
    assert token not in str(environment)
    assert guarded.leave(kernel_id) == 204


@pytest.mark.thorough
def test_ctrl_c_ends_it_and_its_kernels(serve):
    served = serve("--warm", "1")
    kernels = psutil.Process(served.process.pid).children(recursive=True)
    assert kernels
    served.visit()
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(timeout=30) == 0
    assert psutil.wait_procs(kernels, timeout=10)[1] == []
    assert list(served.temporary.iterdir()) == []


def test_what_cannot_be_served_is_told_in_one_line(tagger_folder, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main.main(["web", "--tagger", str(tagger_folder), "--port", port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"port {port} of 127.0.0.1 (Address already in use" in line
    for options, message in (
        (["--port", "99999"], "port 99999: ports go from 0 to 65535"),
        (["--audio", str(tmp_path)], "give its embeddings with --store DIR"),
        (["--host", "no.such.host.invalid"], "cannot serve on port 8866 of no.such.host.invalid"),
    ):
        assert main.main(["web", "--tagger", str(tagger_folder), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert main.main(["web", "--weights", str(tmp_path / "none")]) == 2
    assert "no such file or folder of VGGish weights" in capsys.readouterr().err.splitlines()[-1]


def test_without_voila_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "jamendo_mood.app.web")
    monkeypatch.setitem(sys.modules, "voila.app", None)
    assert main.main(["web"]) == 2
    assert capsys.readouterr().err == (
        "jamendo-mood web: the web page needs voila: `pip install jamendo-mood[web]` brings it\n"
    )


def cell(source, *tags, kind="code"):
    return {"cell_type": kind, "metadata": {"tags": list(tags)}, "source": source, "outputs": []}


def test_a_page_is_the_notebook_without_what_is_for_people_with_a_notebook():
    cells = [
        cell(["# A title"], "notebook", kind="markdown"),
        cell(["import sys\n", 'if "google.colab" in sys.modules:\n', "    %pip install it"]),
        cell("tagger = 1", "setup"),
        cell("embedder = 2", "setup"),
        cell("TagWidget(tagger, embedder)"),
        cell("print('by hand')", "notebook"),
    ]
    notebook = json.dumps({"cells": cells, "metadata": {"kernelspec": {"name": "mine"}}, "nbformat": 4})
    made = json.loads(web.make_page(notebook))
    assert [one["source"] for one in made["cells"]] == [
        "from jamendo_mood.app.network_sharing import connect\n\ntagger, embedder, library, limits = connect()",
        "TagWidget(tagger, embedder)",
    ]
    assert made["metadata"]["title"] == "jamendo-mood"
    assert made["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("page", web.TABS)
def test_the_real_notebooks_become_two_cells(page):
    *_, name = web.TABS[page]
    made = json.loads(web.make_page(web.find_notebook(name).read_text(encoding="utf-8")))
    connect, widget = ("".join(one["source"]) for one in made["cells"])
    assert connect == web.CONNECT
    assert {"tag": "TagWidget(", "find": "FindWidget("}[page] in widget


def test_notebooks_are_found_beside_the_package_or_where_the_wheel_put_them(tmp_path, monkeypatch):
    assert web.find_notebook("04_tag_a_track.ipynb").parent.name == "notebooks"
    monkeypatch.setattr(web, "__file__", str(tmp_path / "site-packages" / "jamendo_mood" / "app" / "web.py"))
    installed = tmp_path / "share" / "04_tag_a_track.ipynb"
    file = SimpleNamespace(name=installed.name, locate=lambda: installed)
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [file])
    with pytest.raises(UsageError, match="install jamendo-mood again"):
        web.find_notebook("04_tag_a_track.ipynb")
    installed.parent.mkdir()
    installed.write_text("{}")
    assert web.find_notebook("04_tag_a_track.ipynb") == installed


PRINT_ENVIRONMENT = (
    "import json, os, sys, tempfile; print(json.dumps([dict(os.environ), tempfile.gettempdir(), sys.executable]))"
)


@pytest.fixture
def make_kernels(tmp_path):
    """A manager of real kernels, for as long as a coroutine runs."""

    def run(coroutine, **options):
        async def whole():
            kernels = Kernels(
                folder=str(tmp_path),
                settings="/private/settings.json",
                connection_dir=str(tmp_path),
                kernel_spec_manager=OwnPython(),
                **options,
            )
            try:
                return await coroutine(kernels)
            finally:
                await kernels.shutdown_all(now=True)

        return asyncio.run(whole())

    return run


async def come(kernels, **env):
    """What the page does for a visitor who finds no warm kernel."""
    kernels.coming += 1
    return await kernels.start_kernel(kernel_name="python3", env={**os.environ, "VOILA_PREHEAT": "False", **env})


async def execute(kernels, kernel_id, source):
    """Run a line in a kernel, and return what it prints."""
    client = kernels.get_kernel(kernel_id).client()
    client.start_channels()
    try:
        printed = []

        def keep(message):
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                printed.append(message["content"]["text"])

        await client.wait_for_ready(timeout=30)
        await client.execute_interactive(source, output_hook=keep, timeout=30)
        return "".join(printed)
    finally:
        client.stop_channels()


def folders(tmp_path):
    return [path for path in tmp_path.iterdir() if path.name.startswith("visitor-")]


def test_a_kernel_has_a_folder_of_its_own_that_goes_with_it_and_no_token(make_kernels, tmp_path):
    async def visit(kernels):
        first = await come(kernels, **{TOKEN_VARIABLE: "sesame"})
        seen, temporary, python = json.loads(await execute(kernels, first, PRINT_ENVIRONMENT))
        (folder,) = folders(tmp_path)
        assert Path(temporary) == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        assert seen[SETTINGS_VARIABLE] == "/private/settings.json"
        assert Path(seen["IPYTHONDIR"]) == folder
        assert "sesame" not in str(seen)
        assert python == sys.executable
        (folder / "upload.mp3").write_bytes(b"a song")
        await kernels.shutdown_kernel(first, now=True)
        assert folders(tmp_path) == []

    make_kernels(visit)


def test_a_place_is_taken_from_the_first_moment_to_the_end_of_the_kernel(make_kernels):
    async def visit(kernels):
        assert not kernels.full
        kernels.coming += 1  # on the way to the second place
        kernel_id = await come(kernels)
        assert kernels.full
        assert kernels.has_visitor(kernel_id)
        kernels.coming -= 1
        assert not kernels.full
        await kernels.shutdown_kernel(kernel_id, now=True)
        assert not kernels.has_visitor(kernel_id)

    make_kernels(visit, places=2)


def test_a_warm_kernel_takes_no_place_until_its_visitor_comes(make_kernels):
    async def visit(kernels):
        warm = await kernels.start_kernel(kernel_name="python3", env={**os.environ, "VOILA_PREHEAT": "True"})
        assert not kernels.has_visitor(warm)
        await kernels.cull_kernel_if_idle(warm)
        assert warm in kernels
        kernels.coming += 1
        kernels.admit(warm)
        assert kernels.has_visitor(warm)
        assert kernels.full

    make_kernels(visit, places=1, cull_idle_timeout=0, grace_s=0.0)


def test_a_kernel_outlives_its_visitor_by_a_moment_of_grace_only(make_kernels):
    async def visit(kernels):
        kernel_id = await come(kernels)
        kernels.notify_connect(kernel_id)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernels.notify_connect(kernel_id)  # in a second window
        kernels.notify_disconnect(kernel_id)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernels.notify_disconnect(kernel_id)
        kernels.grace_s = 60.0
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernels.grace_s = 0.0
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id not in kernels

    make_kernels(visit, cull_idle_timeout=3600, grace_s=0.0)


def test_a_visitor_who_listens_keeps_the_place_and_an_idle_one_loses_it(make_kernels):
    async def visit(kernels):
        kernel_id = await come(kernels)
        kernels.notify_connect(kernel_id)
        kernel = kernels.get_kernel(kernel_id)
        kernel.last_activity = kernel.last_activity.replace(year=2001)
        kernels.touch(kernel_id)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernel.last_activity = kernel.last_activity.replace(year=2001)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id not in kernels

    make_kernels(visit, cull_idle_timeout=3600)


def test_a_kernel_that_died_leaves_its_place_and_one_that_cannot_start_leaves_nothing(make_kernels, tmp_path):
    async def visit(kernels):
        kernel_id = await come(kernels)
        kernels.notify_connect(kernel_id)
        process = kernels.get_kernel(kernel_id).provisioner.process
        process.kill()
        process.wait()
        await kernels.cull_kernel_if_idle(kernel_id)
        assert not kernels.has_visitor(kernel_id)
        assert folders(tmp_path) == []
        with pytest.raises(Exception, match="No such kernel named nonsense"):
            await kernels.start_kernel(kernel_name="nonsense", env={})
        kernels._pending_kernels.clear()  # it is kept as one that is still starting
        assert folders(tmp_path) == []

    make_kernels(visit, cull_idle_timeout=3600)
