"""Two hundred visitors at once: each song is right or its visitor is told to wait, and nobody hears of another's."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from webclient import Visitor, make_song, serve

from jamendo_mood.tagging.prediction import predict

pytest_plugins = ["webplugin"]

pytestmark = pytest.mark.thorough

RETRY_S = 0.5  # sooner than a browser would
VISITOR_MB = 5
PLACES = 150


async def visit(served, name, content, started):
    """Come until there is a place, upload a song until it is taken, and go; returns what was seen."""
    told_to_wait = 0
    while True:
        visitor = Visitor(served)
        if await visitor.come():
            break
        assert visitor.socket.close_code == 1013
        await visitor.leave()
        told_to_wait += 1
        await asyncio.sleep(RETRY_S)
    while (result := await visitor.upload(name, content))["type"] == "failed":
        assert "too many songs" in result["sentence"]
        told_to_wait += 1
        await asyncio.sleep(RETRY_S)
    done_s = time.monotonic() - started
    await visitor.leave()
    return SimpleNamespace(**locals())


@pytest.fixture(scope="module")
def crowd(amount, listener, listener_folder, tmp_path_factory, finish):
    """What all visitors saw; and of each song the scores that `jamendo-mood tag` gives it."""
    count = 200
    songs = {f"song {number:03d}.wav": make_song(number, 2.0) for number in range(count)}
    with serve(tmp_path_factory.mktemp("crowd"), "--tagger", listener_folder, "--visitors", PLACES) as served:
        assert served.tag(make_song(999))[0].status == 200  # all is loaded
        before_mb = served.server_mb()

        async def come():
            started = time.monotonic()
            return await asyncio.gather(*(visit(served, name, song, started) for name, song in songs.items()))

        seen = finish(come())
        after_mb, peak_mb = served.server_mb(), served.peak_mb()
        for _ in range(100):
            if not served.files():
                break
            time.sleep(0.1)
        left = served.files()
        answers = ask_all(served, dict(list(songs.items())[: amount(50, 200)]))
    folder, scores = tmp_path_factory.mktemp("songs"), {}
    for name, content in songs.items():
        (folder / name).write_bytes(content)
        found = predict(folder / name, *listener)
        scores[name] = dict(zip(found.targets, found.track_scores.tolist(), strict=True))
    return SimpleNamespace(**locals())


def ask_all(served, songs):
    """The API's answers to as many callers at once; who is told to wait comes again."""

    def ask(content):
        while (answer := served.tag(content))[0].status == 503:
            assert answer[0].headers["Retry-After"] == "60"
            time.sleep(RETRY_S)
        return answer[1]

    with ThreadPoolExecutor(len(songs)) as callers:
        return dict(zip(songs, callers.map(ask, songs.values()), strict=True))


def test_all_are_served_or_told_to_wait_with_the_moods_of_their_own_songs(crowd, figure):
    assert len({tuple(own.values()) for own in crowd.scores.values()}) == len(crowd.scores)  # or nothing is shown here
    for one in crowd.seen:
        assert one.result["type"] == "tags", one.result
        scores = {target["name"]: target["score"] for target in one.result["targets"]}
        assert scores == pytest.approx(crowd.scores[one.name], abs=1e-5)
        heard = json.dumps(one.visitor.heard)  # of no other
        assert [name for name in crowd.scores if name in heard] == [one.name]
    times = sorted(one.done_s for one in crowd.seen)
    waited = sum(one.told_to_wait > 0 for one in crowd.seen)
    assert waited > 0
    figure(
        f"visitors at once on a page of {PLACES} places, each with a song of its own",
        f"{len(crowd.seen)} visitors",
        f"{len(crowd.seen)} songs tagged as `tag` does; {waited} told to wait; "
        f"first done after {times[0]:.1f} s, last after {times[-1]:.1f} s",
    )


def test_callers_of_the_api_get_their_own_songs_too(crowd):
    for name, document in crowd.answers.items():
        scores = {target["name"]: target["score"] for target in document["results"][0]["targets"]}
        assert scores == pytest.approx(crowd.scores[name], abs=1e-5)


def test_memory_stays_flat_and_nothing_is_left(crowd, figure):
    assert crowd.left == []
    assert crowd.peak_mb < crowd.before_mb + VISITOR_MB * PLACES
    assert crowd.after_mb < crowd.before_mb + 200
    figure(
        "the same: memory",
        f"{len(crowd.seen)} visitors",
        f"{crowd.before_mb:.0f} MB before, {crowd.peak_mb:.0f} at most, {crowd.after_mb:.0f} after",
    )
