"""Set-up for tests in a real browser: Debian's Chromium, a page served by the real command, and JupyterLab.

``JAMENDO_MOOD_SCREENSHOTS=docs/img`` keeps a picture of each state.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from webclient import serve

from jamendo_mood.audio.ffmpeg import find_ffmpeg

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# A browser that starts in a container, and asks nothing of hosts elsewhere.
OPTIONS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
OPTIONS += "--disable-sync --disable-quic --autoplay-policy=no-user-gesture-required"
WAIT_MS = 60_000
LAB_SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # else only cells in sight are in the page
    "apputils-extension/notification": {"fetchNews": "false"},
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for one file's tests: with it goes Playwright's event loop, which would be in the way of others."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS.split())
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Makes pages of new visitors, each with cookies of its own; an error in a script fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def come(**options: object) -> Page:
        contexts.append(chromium.new_context(**{"viewport": {"width": 1100, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield come
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="session")
def long_song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP3 of more than 10 MB, which notebooks refuse as one message: of real songs if they are at hand."""
    path = tmp_path_factory.mktemp("songs") / "long song.mp3"
    folder = Path(__file__).resolve().parents[3] / "shared" / "music"
    source = ["-f", "lavfi", "-i", "sine=440:duration=290,tremolo=2"]
    if songs := sorted(folder.glob("*/*.mp3"))[:2]:
        inputs = [option for song in songs for option in ("-i", str(song))]
        source = [*inputs, "-filter_complex", f"concat=n={len(songs)}:v=0:a=1"]
    quick = ["-c:a", "libmp3lame", "-b:a", "320k", "-compression_level", "9"]
    command = [find_ffmpeg(), "-nostdin", "-v", "error", *source, *quick, "-metadata", "title=A long song", str(path)]
    subprocess.run(command, check=True)
    assert path.stat().st_size > 10_000_000
    return path


@pytest.fixture(scope="session")
def keep() -> Callable[[Page, str], None]:
    """Keeps a picture of a page, if pictures are wanted."""
    folder = os.environ.get("JAMENDO_MOOD_SCREENSHOTS")

    def take(page: Page, name: str) -> None:
        if folder:
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
            # A third of the size, and no difference to be seen.
            picture.convert("RGB").quantize(128).save(Path(folder) / f"{name}.png", optimize=True)

    return take


@pytest.fixture(scope="session")
def web(corpus, corpus_store, tagger_folder, tmp_path_factory) -> Iterator[str]:
    """The address of a page that the real command serves, with a library."""
    options = ["--tagger", tagger_folder, "--store", corpus_store.root, "--audio", corpus.audio]
    options += ["--examples", *(corpus.path(number) for number in range(3))]
    with serve(tmp_path_factory.mktemp("web"), *options) as served:
        yield served.url


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """JupyterLab: its address, and the folder that it shows."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder.parent / "lab.log"
    settings = tmp_path_factory.mktemp("settings")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--ServerApp.token="]
    command += [f"--LabApp.user_settings_dir={settings}"]
    for name, values in LAB_SETTINGS.items():
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    address = f"http://127.0.0.1:{port}"
    # What a widget remembers goes into the tests' own folder.
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path_factory.mktemp("data"))}
    with log.open("w") as file, subprocess.Popen(command, stderr=file, stdout=file, env=environment) as server:
        try:
            while server.poll() is None:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api", timeout=5):
                    break
                time.sleep(0.2)
            assert server.poll() is None, log.read_text()
            yield address, folder
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
