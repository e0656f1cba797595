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
def widget(library):
    widget = FindWidget(library)
    yield widget
    widget.close()


@pytest.fixture
def page(widget, monkeypatch):
    return ToyPage(widget, monkeypatch)


def keys(message):
    return [track["key"] for track in message["tracks"]]


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
    page.say("query", mode="moods", wanted={"sad": 1.0, "happy": 0}, count=5)
    page.wait_for_two("results")
    (early, _), (late, _) = page.all("results")
    assert early["number"] == late["number"]
    assert keys(early) == keys(late) == [found.key for found in library.by_moods({"sad": 1.0, "happy": 0}, 5)]
    assert early["title"] == "sad 1, happy 0"
    assert 0 < early["ms"] < 1000
    assert early["tracks"][0]["title"] is None  # names follow when the files were read
    songs = {song.path: song for song in corpus.songs}
    found = [songs[f"{key}.mp3"] for key in keys(late)]
    assert sum("sad" in song.moods for song in found) >= 3
    assert [track["title"] for track in late["tracks"]] == [
        f"Study in {' and '.join(song.moods)} no. {song.id}" for song in found
    ]


def test_a_point_and_a_path_on_the_plane(page, library):
    page.say("query", mode="plane", points=[[0.5, 0.5]], count=3)
    assert keys(page.all("results")[-1][0]) == [found.key for found in library.near(0.5, 0.5, 3)]
    page.say("query", mode="plane", points=[[-0.8, -0.4], [0.8, 0.5]], count=4)
    assert keys(page.all("results")[-1][0]) == [found.key for found in library.along([(-0.8, -0.4), (0.8, 0.5)], 4)]


def test_more_like_a_track(page, library):
    key = library.keys[3]
    page.say("query", mode="similar", key=key, count=4)
    message, _ = page.wait_for_two("results")[-1]
    assert keys(message) == [found.key for found in library.similar(key, 4)]
    assert message["title"].startswith("More like Synthetic artist")


def test_a_playlist_can_be_taken_away(page, library):
    page.say("query", mode="moods", wanted={"sad": 1.0}, count=3)
    page.wait_for_two("results")
    page.say("save", format="m3u8", view="v")
    content, (file,) = page.wait_for("file")
    assert content["view"] == "v"
    assert content["name"] == "playlist.m3u8"
    assert file.decode().startswith("#EXTM3U\n#EXTINF:12,Synthetic artist")
    assert str(library.files[keys(page.all("results")[0][0])[0]]) in file.decode()


def test_a_page_for_others_tells_no_path(library, monkeypatch, corpus):
    page = ToyPage(FindWidget(library, limits=Limits(paths=False)), monkeypatch)
    page.say("query", mode="moods", wanted={"sad": 1.0}, count=3)
    assert page.wait_for_two("results")[0][0]["formats"] == ["csv"]
    for form in ("csv", "m3u8"):
        page.say("save", format=form)
    files = [file.decode() for _, (file,) in page.all("file")]
    assert len(files) == 2
    assert not any(str(corpus.root) in file for file in files)
    assert not any(str(corpus.root) in str(message) for message, _ in page.told)


def test_excerpts_of_the_library_can_be_played_and_nothing_else(page, library, corpus):
    page.say("piece", key=library.keys[0], index=0)
    assert len(page.wait_for("piece")[1][0]) > 50_000
    page.say("piece", key=str(corpus.path(0)), index=0)
    content, buffers = page.wait_for("piece", key=str(corpus.path(0)))
    assert (buffers, content["last"]) == ([], True)


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


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "query"},
        {"type": "query", "mode": "moods", "wanted": 3, "count": 5},
        {"type": "query", "mode": "moods", "wanted": {"sad": "x"}, "count": 5},
        {"type": "query", "mode": "plane", "points": [[1]], "count": 1},
        {"type": "save", "format": "exe"},
    ],
    ids=str,
)
def test_a_message_that_makes_no_sense_does_no_harm(widget, page, message):
    widget.session.receive(message, [])
    page.say("hello")
    assert page.wait_for("setup")


def test_a_view_that_comes_later_is_told_the_playlist(page):
    page.say("query", mode="moods", wanted={"sad": 1.0}, count=3)
    last, _ = page.wait_for_two("results")[-1]
    page.told.clear()
    page.say("hello", view="late")
    setup, again = (message for message, _ in page.told)
    assert (setup["type"], setup["view"]) == ("setup", "late")
    assert again == {**last, "view": "late"}


def test_a_widget_that_cannot_be_made_says_so_once():
    with pytest.raises(AttributeError):
        FindWidget(None)


def test_a_library_without_a_plane_offers_none(monkeypatch):
    rng = np.random.default_rng(0)
    library = Library(("a", "b"), ("x",), rng.random((2, 1), np.float32), rng.random((2, 4), np.float32))
    page = ToyPage(FindWidget(library), monkeypatch)
    page.say("hello")
    setup, _ = page.wait_for("setup")
    assert (setup["plane"], setup["points"]) == (False, [])
    page.say("query", mode="plane", points=[[0, 0]], count=1)
    assert "say nothing about valence and arousal" in page.wait_for("failed")[0]["sentence"]


def test_no_more_tracks_than_there_are_or_than_is_sensible(page, library):
    page.say("query", mode="moods", wanted={"sad": 1.0}, count=10**9)
    assert len(page.all("results")[0][0]["tracks"]) == len(library)
    page.say("query", mode="moods", wanted={"sad": 1.0}, count=-3)
    assert len(page.all("results")[-1][0]["tracks"]) == 1


# ---- Remembering.


@pytest.fixture
def log(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return mood_log.default_path()


def test_an_emotion_is_remembered_only_if_that_is_wanted(page, log):
    joy = {"mode": "plane", "points": [[0.8, 0.5]], "count": 3, "emotion": "joy"}
    for unwanted in ({}, {"remember": False}, {"remember": "yes"}):
        page.say("query", **joy, **unwanted)
    assert not log.exists()
    page.say("query", **joy, remember=True)
    page.say("query", mode="plane", points=[[0.8, 0.5], [-0.8, -0.4]], count=3, emotion="sadness", remember=True)
    remembered = [(wish.emotion, wish.asked_by) for wish in mood_log.read()[0]]
    assert remembered == [("joy", "widget"), ("sadness", "widget")]
    (first, _), (second, _) = page.all("history")
    assert [wish["emotion"] for wish in second["wishes"]] == ["joy", "sadness"]
    assert len(first["wishes"]) == 1
    json.dumps(second)
    page.say("forget")
    assert page.all("history")[-1][0]["wishes"] == []
    assert not log.exists()


def test_a_page_for_others_remembers_nothing(library, monkeypatch, log):
    mood_log.remember([mood_log.wish_for(EMOTIONS["joy"].place, "emotion", mood_log.now())])
    page = ToyPage(FindWidget(library, limits=Limits(paths=False)), monkeypatch)
    page.say("hello")
    assert page.wait_for("setup")[0]["remembers"] is False
    page.say("query", mode="plane", points=[[0.8, 0.5]], count=3, emotion="joy", remember=True)
    page.say("forget")
    assert page.all("history") == []
    assert len(mood_log.read()[0]) == 1


def test_the_curve_is_of_the_latest_and_what_is_no_emotion_is_not_remembered(page, log, monkeypatch):
    asked = {"mode": "plane", "points": [[0.8, 0.5]], "count": 1, "remember": True}
    page.say("query", emotion="xyzzy", **asked)
    assert "no emotion 'xyzzy'" in page.wait_for("failed")[0]["sentence"]
    page.say("query", **asked)  # makes no sense, and is dropped
    assert not log.exists()
    monkeypatch.setattr(session, "MAX_WISHES", 2)
    for _ in range(3):
        page.say("query", emotion="joy", **asked)
    assert [len(message["wishes"]) for message, _ in page.all("history")] == [1, 2, 2]
