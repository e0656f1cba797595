"""Many visitors, all at once: each is served or told to wait, and hears of nobody's song but its own."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from webclient import TOKEN, Visitor, make_song, serve

from jamendo_mood.tagging.prediction import predict

pytest_plugins = ["webplugin"]

pytestmark = pytest.mark.thorough

PLACES = 190  # and ten visitors more
VISITOR_MB = 5.0
RETRY_S = 1.0  # sooner than a browser would


@pytest.fixture(scope="module")
def places(amount):
    return amount(8, PLACES)


@pytest.fixture(scope="module")
def crowded(listener_folder, places, tmp_path_factory):
    """A page of its own, whose memory nobody else has touched."""
    options = ("--tagger", listener_folder, "--visitors", places)
    with serve(tmp_path_factory.mktemp("web"), *options, JAMENDO_MOOD_TOKEN=TOKEN) as page:
        assert page.ask(f"/?token={TOKEN}").status == 303
        yield page


async def visit(served, name, content, started):
    """Come until there is a place and room for a song, upload it, and go; returns what was seen."""
    visitor, told_to_wait = Visitor(served), 0
    while True:
        if await visitor.come():
            result = await visitor.upload(name, content)
            if result["type"] == "tags":
                break
            assert "wait" in result["sentence"] or "too many" in result["sentence"].lower(), result
        else:
            assert visitor.socket.close_code == 1013
        told_to_wait += 1
        await visitor.leave()
        await asyncio.sleep(RETRY_S)
    done_s = time.monotonic() - started
    await visitor.leave()
    return SimpleNamespace(**locals())


@pytest.fixture(scope="module")
def crowd(amount, crowded, listener, tmp_path_factory, finish):
    """What all visitors saw; and of each song the scores that `jamendo-mood tag` gives it."""
    songs = {f"song {n:03d}.wav": make_song(n) for n in range(amount(12, 200))}

    async def come():
        first = Visitor(crowded)  # the network is loaded, and has worked
        assert await first.come()
        assert (await first.upload("first.wav", make_song(1_000)))["type"] == "tags"
        await first.leave()
        before_mb, started = crowded.server_mb(), time.monotonic()
        seen = await asyncio.gather(*(visit(crowded, name, content, started) for name, content in songs.items()))
        return before_mb, seen

    before_mb, seen = finish(come())
    folder, scores = tmp_path_factory.mktemp("songs"), {}
    for name, content in songs.items():
        (folder / name).write_bytes(content)
        found = predict(folder / name, *listener)
        scores[name] = dict(zip(found.targets, found.track_scores.tolist(), strict=True))
    return SimpleNamespace(seen=seen, scores=scores, before_mb=before_mb, after_mb=crowded.server_mb())


def test_all_have_the_moods_of_their_own_songs(crowd, places, figure):
    assert len({tuple(own.values()) for own in crowd.scores.values()}) == len(crowd.scores)  # or nothing is shown here
    for one in crowd.seen:
        assert one.result["name"] == one.name
        scores = {tag["tag"]: tag["score"] for tag in one.result["tags"]}
        assert scores == pytest.approx(crowd.scores[one.name], abs=1e-5)
    times = sorted(one.done_s for one in crowd.seen)
    waited = sum(one.told_to_wait > 0 for one in crowd.seen)
    assert waited > 0
    figure(
        f"visitors at once on a page of {places} places, each with a song of its own",
        f"{len(crowd.seen)} visitors",
        f"all songs tagged as `tag` does; {waited} visitors told to wait; "
        f"first done after {times[0]:.1f} s, last after {times[-1]:.1f} s",
    )


def test_nobody_hears_of_another(crowd):
    for one in crowd.seen:
        heard = json.dumps(one.visitor.heard)
        assert one.name in heard
        assert [name for name in crowd.scores if name in heard and name != one.name] == []


def test_memory_is_flat(crowd, crowded, places, figure):
    assert crowded.peak_mb < crowd.before_mb + max(100, VISITOR_MB * places)
    assert crowd.after_mb < crowd.before_mb + 100
    assert crowded.files() == []
    figure(
        "the same: memory",
        f"{len(crowd.seen)} visitors",
        f"{crowd.before_mb:.0f} MB before, {crowded.peak_mb:.0f} at most, {crowd.after_mb:.0f} after",
    )
