"""A pytest plugin: one web page, with a token and for few visitors, for all tests that load or attack it; and sites of
this process, whose limits a test may choose.
"""

import asyncio
import contextlib
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import make_tagger
from webclient import LIMIT_MB, ROOM_BYTES, TOKEN, make_song, serve, serve_here

from jamendo_mood.app.server import WebConfig
from jamendo_mood.app.songs import SongQueue, Uploads
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tasks import Task

TASK = Task("moods", "tags", ("calm", "dark", "happy", "sad"))


@pytest.fixture(scope="session")
def listener():
    """An untrained tagger, and its embedder."""
    embedder = load_embedder("logmel")
    made = make_tagger(TASK, embedder.spec, seed=3)
    return replace(made, thresholds=np.full(len(TASK.targets), 0.5)), embedder


@pytest.fixture(scope="session")
def listener_folder(listener, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web") / "tagger"
    listener[0].save(folder)
    return folder


@pytest.fixture(scope="session")
def served(listener_folder, tmp_path_factory):
    """The page, of which its log and its files never tell the token."""
    options = ("--tagger", listener_folder, "--visitors", 4, "--max-mb", LIMIT_MB)
    with serve(tmp_path_factory.mktemp("web"), *options, JAMENDO_MOOD_TOKEN=TOKEN) as page:
        assert page.ask(f"/?token={TOKEN}").status == 303
        assert page.tag(make_song(999))[0].status == 200  # all is loaded
        yield page


@pytest.fixture
def make_site(corpus_tagger, logmel, library, tmp_path):
    """Serves applications of this process, with a library; in the end nothing of any upload is left."""
    with contextlib.ExitStack() as stack:

        def make(token="", library=library, max_waiting=10, **limits):
            folder = tmp_path / "scratch"
            chosen = Limits(LIMIT_MB * 1_000_000, paths=False, scratch=folder, **limits)
            uploads = Uploads(chosen, ROOM_BYTES)
            queue = SongQueue(corpus_tagger, lambda: logmel, library, chosen, max_waiting, uploads)
            stack.callback(queue.close)
            site = stack.enter_context(serve_here(queue, WebConfig(visitors=2), token))
            stack.callback(check_empty, folder, uploads)
            return site

        yield make


def check_empty(folder, uploads):
    for _ in range(200):
        left = [path for path in folder.rglob("*") if path.is_file() and path.name != "owner.lock"]
        if not left:
            break
        time.sleep(0.1)
    assert left == []
    assert uploads.take(ROOM_BYTES)  # all of it was given back


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.fixture(scope="session")
def finish():
    """Runs coroutines, one after the other, in a loop that goes on meanwhile: sockets have pings to answer."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, 500), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
