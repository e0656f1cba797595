import json

import numpy as np
import pytest
from toy_page import ToyPage

from jamendo_mood.app import session
from jamendo_mood.app.widget import FindWidget
from jamendo_mood.library import mood_log
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tagging.emotions import EMOTIONS

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def make_page(library, monkeypatch):
    """Makes pages of a library, and closes them when the test is done."""
    made = []

    def make(library=library, **limits):
        made.append(FindWidget(library, limits=Limits(**limits)))
        return ToyPage(made[-1], monkeypatch)

    yield make
    for widget in made:
        widget.close()


@pytest.fixture
def page(make_page):
    return make_page()


def ask(page, **query):
    """Ask for three sad tracks, if for nothing else; returns the answer, whose names may not be read yet."""
    page.say("query", **{"mode": "moods", "wanted": {"sad": 1.0}, "count": 3, **query})
    return page.all("results")[-1][0]


def keys(found):
    return [track["key"] if isinstance(track, dict) else track.key for track in found]


def test_a_view_is_told_what_there_is(page, library):
    page.say("hello")
    setup, _ = page.wait_for("setup")
    assert [mood["tag"] for mood in setup["moods"]] == sorted(library.targets)
    assert {mood["reliability"] for mood in setup["moods"]} <= {"good", "fair", "weak", "unknown"}
    assert len(setup["emotions"]) == len(EMOTIONS) == 24
    assert setup["plane"] is True
    assert len(setup["points"]) == setup["tracks"] == len(library)
    json.dumps(setup)


def test_moods_are_asked_for(page, library, corpus):
    wanted = {"sad": 1.0, "happy": 0}
    ask(page, wanted=wanted, count=5)
    (early, _), (late, _) = page.wait_for_two("results")
    assert early["number"] == late["number"]
    assert keys(early["tracks"]) == keys(late["tracks"]) == keys(library.by_moods(wanted, 5))
    assert early["title"] == "sad 1, happy 0"
    assert 0 < early["ms"] < 1000
    assert early["tracks"][0]["title"] is None  # names follow when the files were read
    songs = {song.path: song for song in corpus.songs}
    found = [songs[f"{key}.mp3"] for key in keys(late["tracks"])]
    assert sum("sad" in song.moods for song in found) >= 3
    titles = [f"Study in {' and '.join(song.moods)} no. {song.id}" for song in found]
    assert [track["title"] for track in late["tracks"]] == titles


def test_a_point_a_path_and_a_track_are_asked_for(page, library):
    assert keys(ask(page, mode="plane", points=[[0.5, 0.5]])["tracks"]) == keys(library.near(0.5, 0.5, 3))
    path = [(-0.8, -0.4), (0.8, 0.5)]
    assert keys(ask(page, mode="plane", points=path, count=4)["tracks"]) == keys(library.along(path, 4))
    message = ask(page, mode="similar", key=library.keys[3])
    assert keys(message["tracks"]) == keys(library.similar(library.keys[3], 3))
    assert message["title"].startswith("More like Synthetic artist")


@pytest.mark.parametrize("own", [True, False])
def test_a_playlist_can_be_taken_away_and_on_a_page_for_others_tells_no_path(make_page, library, corpus, own):
    page = make_page(paths=own)
    ask(page)
    first, _ = page.wait_for_two("results")[0]
    assert first["formats"] == (["csv", "m3u8"] if own else ["csv"])
    for form in ("csv", "m3u8"):
        page.say("save", format=form, view="v")
    (_, (table,)), (content, (playlist,)) = page.all("file")
    assert (content["view"], content["name"]) == ("v", "playlist.m3u8")
    if own:
        assert playlist.decode().startswith("#EXTM3U\n#EXTINF:12,Synthetic artist")
        assert str(library.files[keys(first["tracks"])[0]]) in playlist.decode()
    else:
        assert str(corpus.root) not in f"{table.decode()}{playlist.decode()}{[message for message, _ in page.told]}"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"mode": "moods", "wanted": {"nosuch": 1}}, "no mood 'nosuch'"),
        ({"mode": "moods", "wanted": {"sad": 7}}, "sad=7: a level is from 0"),
        ({"mode": "plane", "points": [[5, 0]]}, "(5, 0): valence and arousal"),
        ({"mode": "similar", "key": "../../etc/passwd"}, "../../etc/passwd: no such track"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_query_that_cannot_be_answered_is_told(page, query, sentence):
    page.say("query", count=5, **query)
    assert page.wait_for("failed")[0]["sentence"].startswith(sentence)


def test_messages_that_make_no_sense_do_no_harm(page):
    for message in (
        {},
        {"type": "query"},
        {"type": "query", "mode": "moods", "wanted": 3, "count": 5},
        {"type": "query", "mode": "moods", "wanted": {"sad": "x"}, "count": 5},
        {"type": "query", "mode": "plane", "points": [[1]], "count": 1},
        {"type": "save", "format": "exe"},
    ):
        page.session.receive(message, [])
    page.say("hello")
    assert [message["type"] for message, _ in page.told] == ["setup"]


def test_a_view_that_comes_later_is_told_the_playlist(page):
    ask(page)
    last, _ = page.wait_for_two("results")[-1]
    page.told.clear()
    page.say("hello", view="late")
    setup, again = (message for message, _ in page.told)
    assert (setup["type"], setup["view"]) == ("setup", "late")
    assert again == {**last, "view": "late"}


def test_a_widget_that_cannot_be_made_says_so_once():
    with pytest.raises(AttributeError):
        FindWidget(None)


def test_a_library_without_a_plane_offers_none(make_page):
    rng = np.random.default_rng(0)
    page = make_page(Library(("a", "b"), ("x",), rng.random((2, 1), np.float32), rng.random((2, 4), np.float32)))
    page.say("hello")
    setup, _ = page.wait_for("setup")
    assert (setup["plane"], setup["points"]) == (False, [])
    page.say("query", mode="plane", points=[[0, 0]], count=1)
    assert "say nothing about valence and arousal" in page.wait_for("failed")[0]["sentence"]


def test_no_more_tracks_than_there_are_or_than_is_sensible(page, library):
    assert len(ask(page, count=10**9)["tracks"]) == len(library)
    assert len(ask(page, count=-3)["tracks"]) == 1


# ---- Remembering.


@pytest.fixture
def log(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return mood_log.default_path()


JOY = {"mode": "plane", "points": [[0.8, 0.5]], "emotion": "joy", "remember": True}


def test_an_emotion_is_remembered_only_if_that_is_wanted(page, log, monkeypatch):
    for unwanted in (None, False, "yes"):
        ask(page, **{**JOY, "remember": unwanted})
    ask(page, **{**JOY, "emotion": "xyzzy"})
    assert "no emotion 'xyzzy'" in page.wait_for("failed")[0]["sentence"]
    assert not log.exists()
    monkeypatch.setattr(session, "MAX_WISHES", 2)
    for emotion in ("trust", "joy", "sadness"):
        ask(page, **{**JOY, "emotion": emotion})
    remembered = [(wish.emotion, wish.asked_by) for wish in mood_log.read()[0]]
    assert remembered == [("trust", "widget"), ("joy", "widget"), ("sadness", "widget")]
    told = [[wish["emotion"] for wish in message["wishes"]] for message, _ in page.all("history")]
    assert told == [["trust"], ["trust", "joy"], ["joy", "sadness"]]  # the curve is of the latest
    json.dumps(page.told[-1][0])
    page.say("forget")
    assert page.all("history")[-1][0]["wishes"] == []
    assert not log.exists()


def test_a_page_for_others_remembers_nothing(make_page, log):
    mood_log.remember([mood_log.wish_for(EMOTIONS["joy"].place, "emotion", mood_log.now())])
    page = make_page(paths=False)
    page.say("hello")
    assert page.wait_for("setup")[0]["remembers"] is False
    ask(page, **JOY)
    page.say("forget")
    assert page.all("history") == []
    assert len(mood_log.read()[0]) == 1
