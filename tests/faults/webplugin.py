"""A pytest plugin: one web page, with a token and for few visitors, for all tests that load or attack it."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import make_tagger
from webclient import LIMIT_MB, TOKEN, Visitor, serve

from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.tasks import Task
from jamendo_mood.tasks.calibration import IDENTITY

TASK = Task("moods", "tags", ("calm", "dark", "happy", "sad"))


@pytest.fixture(scope="session")
def listener():
    """An embedder, and an untrained tagger for it."""
    embedder = load_embedder("logmel")
    count = len(TASK.targets)
    made = make_tagger(TASK, embedder.spec, seed=3)
    return replace(made, calibration=np.tile(IDENTITY, (count, 1)), thresholds=np.full(count, 0.5)), embedder


@pytest.fixture(scope="session")
def places(amount):
    return amount(3, 8)


@pytest.fixture(scope="session")
def served(listener, places, tmp_path_factory):
    """The page, of which its log, its files and its kernels never tell the token."""
    folder = tmp_path_factory.mktemp("web")
    listener[0].save(folder / "tagger")
    options = ("--tagger", folder / "tagger", "--kernels", places, "--max-mb", LIMIT_MB, "--warm", 1)
    with serve(folder, *options, JAMENDO_MOOD_TOKEN=TOKEN) as page:
        yield page


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
        finish(there[-1].ask(f"/?token={TOKEN}"))
        return there[-1]

    yield make
    for one in there:
        finish(one.leave())


@pytest.fixture(scope="module")
def witness(served, finish):
    """One who is there while others attack; `check` uploads a song, and expects its moods within seconds."""
    one = Visitor(served)

    async def come():
        await one.ask(f"/?token={TOKEN}")
        assert (await one.come()).status == 200
        await one.connect()

    finish(come())
    yield one
    finish(one.leave())
