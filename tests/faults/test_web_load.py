"""More visitors than places, all at once: each is served or told to wait, and hears of nobody's song but its own."""

import asyncio
import json
import time
from types import SimpleNamespace

import psutil
import pytest
from webclient import TOKEN, Visitor, make_song, own_mb

from jamendo_mood.tagging.prediction import predict

pytest_plugins = ["webplugin"]

pytestmark = pytest.mark.thorough

RETRY_S = 0.5  # sooner than a browser would


async def visit(served, songs, started, refused):
    """Come until there is a place, upload all songs, and go; returns what was seen."""
    visitor, told_to_wait, results = Visitor(served), 0, []
    await visitor.ask(f"/?token={TOKEN}")
    while (answer := await visitor.come()).status != 200:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "15")
        assert "places are taken" in answer.text
        told_to_wait += 1
        refused.set()
        await asyncio.sleep(RETRY_S)
    await visitor.connect()
    for name, content in songs.items():
        results.append(await visitor.upload(name, content))
    done_s = time.monotonic() - started
    await refused.wait()  # nobody goes before somebody had to wait
    assert await visitor.leave() == 204
    return SimpleNamespace(**locals())


async def wait_until(look, seconds=30):
    end = time.monotonic() + seconds
    while not look() and time.monotonic() < end:
        await asyncio.sleep(0.2)
    assert look()


@pytest.fixture(scope="module")
def crowd(amount, served, listener, tmp_path_factory, finish):
    """What all visitors saw; and of each song the scores that `jamendo-mood tag` gives it."""
    count, each = amount(5, 20), amount(1, 3)
    songs = [{f"song {n:02d}-{k}.wav": make_song(10 * n + k) for k in range(each)} for n in range(count)]
    before = SimpleNamespace(kernels=len(served.kernels()), memory_mb=served.memory_mb())

    async def come():
        started, refused = time.monotonic(), asyncio.Event()
        return await asyncio.gather(*(visit(served, own, started, refused) for own in songs))

    seen = finish(come())
    finish(wait_until(lambda: len(served.kernels()) == len(served.folders()) == 1))
    folder, scores = tmp_path_factory.mktemp("songs"), {}
    for name, content in (pair for own in songs for pair in own.items()):
        (folder / name).write_bytes(content)
        found = predict(folder / name, *listener)
        scores[name] = dict(zip(found.targets, found.track_scores.tolist(), strict=True))
    return SimpleNamespace(seen=seen, scores=scores, before=before, after=served.memory_mb())


def test_all_are_served_or_told_to_wait_with_the_moods_of_their_own_songs(crowd, places, served, figure):
    assert len({tuple(own.values()) for own in crowd.scores.values()}) == len(crowd.scores)  # or nothing is shown here
    for one in crowd.seen:
        assert [result["name"] for result in one.results] == list(one.songs)
        for result in one.results:
            assert result["type"] == "tags", result
            scores = {tag["tag"]: tag["score"] for tag in result["tags"]}
            assert scores == pytest.approx(crowd.scores[result["name"]], abs=1e-5)
    times = sorted(one.done_s for one in crowd.seen)
    waited = sum(one.told_to_wait > 0 for one in crowd.seen)
    assert waited > 0
    songs = len(crowd.scores)
    figure(
        f"visitors at once on a page of {places} places, each with songs of its own",
        f"{len(crowd.seen)} visitors, {songs} songs",
        f"{sum(len(one.results) for one in crowd.seen)} of {songs} tagged as `tag` does; {waited} told to wait; "
        f"first done after {times[0]:.1f} s, last after {times[-1]:.1f} s",
    )


def test_nobody_hears_of_another(crowd):
    for one in crowd.seen:
        heard = json.dumps(one.visitor.heard)
        assert all(name in heard for name in one.songs)
        assert [name for name in crowd.scores if name in heard and name not in one.songs] == []
    kernels = [one.visitor.kernel for one in crowd.seen]
    assert len({*kernels}) == len(kernels)


def test_memory_is_bounded_and_kernels_are_gone(crowd, places, served, figure, finish):
    (kernel,) = left = served.kernels()  # the next one, warm
    one_kernel_mb = own_mb(kernel)
    server_before, _ = crowd.before.memory_mb
    server_after, kernels_after = crowd.after
    assert served.peaks["server"] < server_before + 200
    assert served.peaks["kernels"] < (places + 2) * 2 * one_kernel_mb
    assert server_after < server_before + 100
    assert not psutil.Process(served.process.pid).children(recursive=True)[1:]

    async def again():
        visitor = Visitor(served)
        await visitor.ask(f"/?token={TOKEN}")
        assert (await visitor.come()).status == 200
        assert await visitor.leave() == 204

    finish(again())
    figure(
        "the same: memory and processes",
        f"{len(crowd.seen)} visitors",
        f"server {server_before:.0f} MB before, {served.peaks['server']:.0f} at most, {server_after:.0f} after; all "
        f"kernels {served.peaks['kernels']:.0f} MB at most, {kernels_after:.0f} after; "
        f"{crowd.before.kernels} kernel before, {len(left)} after",
    )
