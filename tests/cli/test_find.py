"""`library` and `history`, and what `playlist` and `tag` do with emotions, as their users meet them."""

import importlib.util
import json
import re
import shutil
import stat

import numpy as np
import PIL.Image
import pytest

from jamendo_mood.library import mood_log
from jamendo_mood.tagging.emotions import PLACES, describe_place, find_emotion, mood_in_words

pytest_plugins = ["demo_corpus", "toy_commands"]


@pytest.fixture(autouse=True)
def log(monkeypatch, tmp_path):
    """The user's data folder is the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "jamendo-mood" / "emotions.jsonl"


@pytest.fixture
def playlist(ask):
    """Run `playlist` on the corpus."""

    def start(*arguments):
        return ask("playlist", *arguments, "--format", "json")

    return start


def keys(found):
    return [track.key for track in found]


def write_places(path, places):
    rows = (f"{tag},{4 * valence + 5},{4 * arousal + 5}" for tag, (valence, arousal) in places.items())
    path.write_text("\n".join(["MoodTag,Valence,Arousal", *rows]), encoding="utf-8")
    return path


# ---- playlist, tag


def test_the_emotion_of_a_track_finds_others(playlist, library):
    key, place = library.keys[5], library.plane[5].tolist()
    found = playlist("--emotion-of", key, "--count", 5).keys
    assert found == keys(library.near(*place, 5, {key}))
    assert key not in found
    path = [place, find_emotion("joy").place]
    found = playlist("--emotion-of", key, "--to-emotion", "joy", "--count", 5).keys
    assert found == keys(library.along(path, 5, {key}))


def test_a_tagged_track_has_a_place_and_its_names(run, corpus, tagger_folder):
    outcome = run("tag", corpus.path(0), "--tagger", tagger_folder, "--format", "json")
    (track,) = json.loads(outcome.out)["results"]
    place = track["place"]
    names = describe_place(place["valence"], place["arousal"])
    assert place == {name: getattr(names, name) for name in place}
    assert set(place) == {"valence", "arousal", "quadrant", "cluster", "emotion", "family", "face"}
    outcome = run("tag", corpus.path(0), "--tagger", tagger_folder)
    assert f"\n  {mood_in_words(names.valence, names.arousal)}\n" in outcome.out


def test_another_table_of_tags_leads_elsewhere(playlist, run, corpus, tagger_folder, library, tmp_path):
    mirrored = {tag: (-valence, -arousal) for tag, (valence, arousal) in PLACES.items() if tag in library.targets}
    table = write_places(tmp_path / "places.csv", mirrored)
    there = playlist("--at", "0.8,0.5", "--places", table, "--count", 4).keys
    assert there == keys(library.near(-0.8, -0.5, 4))
    assert there != playlist("--at", "0.8,0.5", "--count", 4).keys
    tag = ("tag", corpus.path(0), "--tagger", tagger_folder, "--places", table)
    write_places(table, dict.fromkeys(library.targets, (0.5, -0.25)))
    (track,) = json.loads(run(*tag, "--format", "json").out)["results"]
    assert (track["place"]["valence"], track["place"]["arousal"], track["place"]["quadrant"]) == (0.5, -0.25, "Q4")
    write_places(table, {"guitar": (0, 0)})
    for outcome in (playlist("--emotion", "sad", "--places", table), run(*tag)):
        assert outcome.status == 2
        assert f"{table}: places none of the tagger's tags, which are dark, energetic" in outcome.err


# ---- a library at a glance


@pytest.fixture
def survey(run, corpus_store, tagger_folder, tmp_path):
    """Run `library` on a copy of the corpus's store, beside which it may write."""
    store = shutil.copytree(corpus_store.root, tmp_path / "store")

    def start(*arguments):
        return run("library", store, "--tagger", tagger_folder, *arguments)

    return start


def test_a_library_at_a_glance(survey, library, corpus_tagger, tmp_path):
    outcome = survey()
    page = tmp_path / "store-library.html"
    counts = dict(zip(library.targets, corpus_tagger.decide(library.scores).sum(axis=0).tolist(), strict=True))
    lines = outcome.out.splitlines()
    told = [line.split()[:3] for line in lines[: len(counts)]]
    assert {mood: int(number) for mood, number, _ in told} == counts
    shares = [round(100 * number / len(library), 1) for number in counts.values()]
    assert [float(share.rstrip("%")) for _, _, share in told] == sorted(shares, reverse=True)
    assert lines[-2].endswith(f"of {len(library)} songs. The same sound more than once: none.")
    assert lines[-1] == f"{page}: all songs on a page"
    assert page.read_text(encoding="utf-8").endswith("</html>\n")
    document = json.loads(survey("--format", "json", "--out", tmp_path / "mine.html").out)
    assert {row["mood"]: row["songs"] for row in document["moods"]} == counts
    assert (document["songs"], document["duplicates"]) == (len(library), [])
    assert {*document["least_sure"]} <= {*library.keys}
    assert document["page"] == str(tmp_path / "mine.html")
    assert (tmp_path / "mine.html").stat().st_size == page.stat().st_size


@pytest.mark.thorough
def test_titles_and_files_come_with_the_audio(survey, corpus, library, tmp_path):
    assert survey("--audio", corpus.audio).status == 0
    page = (tmp_path / "store-library.html").read_text(encoding="utf-8")
    assert str(library.files[library.keys[0]]) in page
    assert "Synthetic artist" not in page
    assert survey("--audio", corpus.audio, "--titles").status == 0
    assert "Synthetic artist" in (tmp_path / "store-library.html").read_text(encoding="utf-8")


def test_without_bokeh_it_says_what_to_install(survey, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    survey().check_error("library", r"`pip install jamendo-mood\[plots\]` brings it")
    assert not list(tmp_path.glob("*.html"))


# ---- remembering


def test_what_is_asked_for_is_kept_and_nothing_else(playlist, log, library):
    assert playlist("--emotion", "sad", "--count", 2).status == 0
    assert not log.exists()
    key = library.keys[5]
    for options in (
        ["--emotion", "Sad"],
        ["--at", "0.05,0"],
        ["--emotion", "grief", "--to-emotion", "happy"],
        ["--emotion-of", key, "--to", "0.8,0.5"],
    ):
        outcome = playlist(*options, "--count", 2, "--remember")
        assert outcome.status == 0
        assert f"{log}: remembered" in outcome.err
    wishes = mood_log.read()[0]
    assert [wish.emotion for wish in wishes[:4]] == ["sadness", "neutral", "grief", "joy"]
    assert [wish.asked_by for wish in wishes] == ["emotion", "at", "emotion", "to-emotion", "emotion-of", "to"]
    np.testing.assert_allclose((wishes[4].valence, wishes[4].arousal), library.plane[5], atol=0.0006)
    assert wishes[2].time == wishes[3].time
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert key not in log.read_text(encoding="utf-8")


def test_a_history_is_shown_drawn_and_deleted(run, playlist, log, tmp_path):
    outcome = run("history")
    assert (outcome.status, outcome.out) == (0, "")
    assert f"{log}: nothing is kept" in outcome.err
    assert run("history", "--format", "json").out == "[]\n"
    outcome = run("history", "--plot", tmp_path / "curve.png")
    said = "jamendo-mood history: nothing is kept, so there is nothing to draw\n"
    assert (outcome.status, outcome.err) == (2, said)
    assert not (tmp_path / "curve.png").exists()
    for name in ("sad", "neutral", "happy"):
        playlist("--emotion", name, "--count", 1, "--remember")
    lines = run("history").out.splitlines()
    assert [line.split()[2] for line in lines] == ["sadness", "neutral", "joy"]
    rows = json.loads(run("history", "--format", "json").out)
    assert [row["emotion"] for row in rows] == ["sadness", "neutral", "joy"]
    assert run("history", "--format", "csv").out.count("\n") == 4
    outcome = run("history", "--plot", tmp_path / "curve.png")
    assert outcome.status == 0
    assert re.match(r".*curve\.png: 3 emotions from \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d\n", outcome.out)
    with PIL.Image.open(tmp_path / "curve.png") as picture:
        assert picture.size[0] > 1000
    outcome = run("history", "--forget")
    assert (outcome.status, outcome.out) == (0, f"{log}: deleted\n")
    assert not log.exists()
    assert run("history", "--forget").out == f"{log}: there was nothing to delete\n"


def test_wrong_lines_of_a_history_are_told(run, playlist, log):
    playlist("--emotion", "sad", "--count", 1, "--remember")
    with log.open("a", encoding="utf-8") as file:
        file.write('hello\n{"time": "2026')
    outcome = run("history")
    assert (outcome.status, outcome.out.count("\n")) == (0, 1)
    assert f"warning: {log}, line 2 is skipped: it is not an emotion that was asked for" in outcome.err
    assert f"warning: {log}, line 3 is skipped: it was cut short" in outcome.err
