"""A pytest plugin: one web page, with a token and for few visitors, for all tests that load or attack it; and sites of
this process, whose limits a test may choose.
"""

import asyncio
import contextlib
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import make_tagger
from webclient import LIMIT_MB, TOKEN, Visitor, make_song, serve, serve_here

from jamendo_mood.app.api import Service
from jamendo_mood.app.server import WebConfig, make_app
from jamendo_mood.app.songs import Room, SongQueue
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.kind import IDENTITY

TASK = Task("moods", "tags", ("calm", "dark", "happy", "sad"))


@pytest.fixture(scope="session")
def listener():
    """An embedder, and an untrained tagger for it."""
    embedder = load_embedder("logmel")
    count = len(TASK.targets)
    made = make_tagger(TASK, embedder.spec, seed=3)
    return replace(made, calibration=np.tile(IDENTITY, (count, 1)), thresholds=np.full(count, 0.5)), embedder


@pytest.fixture(scope="session")
def listener_folder(listener, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web") / "tagger"
    listener[0].save(folder)
    return folder


@pytest.fixture(scope="session")
def places():
    return 4


@pytest.fixture(scope="session")
def served(listener_folder, places, tmp_path_factory):
    """The page, of which its log and its files never tell the token."""
    options = ("--tagger", listener_folder, "--visitors", places, "--max-mb", LIMIT_MB)
    with serve(tmp_path_factory.mktemp("web"), *options, JAMENDO_MOOD_TOKEN=TOKEN) as page:
        assert page.ask(f"/?token={TOKEN}").status == 303
        assert page.tag(make_song(999))[0].status == 200  # all is loaded
        yield page


@pytest.fixture
def make_site(corpus_tagger, logmel, library, tmp_path):
    """Serves applications of this process, with a library; uploads go to the test's own folder."""
    with contextlib.ExitStack() as stack:

        def make(token="", visitors=2, library=library, tagger=corpus_tagger, max_waiting=10, **limits):
            chosen = Limits(**{"size_bytes": LIMIT_MB * 1_000_000, "paths": False, "scratch": tmp_path, **limits})
            queue = SongQueue(tagger, logmel, library, chosen, max_waiting=max_waiting)
            stack.callback(queue.close)
            service = Service(tagger, queue, library, chosen, Room(10_000_000, max_files=10))
            return stack.enter_context(serve_here(make_app(service, WebConfig(visitors=visitors), token)))

        yield make


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.fixture(scope="session")
def finish():
    """Runs coroutines, one after the other, in a loop that lasts."""
    loop = asyncio.new_event_loop()
    yield lambda coroutine: loop.run_until_complete(asyncio.wait_for(coroutine, 500))
    loop.close()


@pytest.fixture
def visitor(served, finish):
    """Makes visitors who know the token; those who are still there leave at the end."""
    there = []

    def make():
        there.append(Visitor(served))
        assert finish(there[-1].come())
        return there[-1]

    yield make
    for one in there:
        finish(one.leave())


@pytest.fixture(scope="module")
def witness(served, finish):
    """One who is there while others attack."""
    one = Visitor(served)
    assert finish(one.come())
    yield one
    finish(one.leave())
