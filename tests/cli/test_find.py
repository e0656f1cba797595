"""`history`, and what `playlist` and `tag` do with emotions, as their users meet them."""

import importlib.util
import json
import re
import shutil
import stat

import numpy as np
import PIL.Image
import pytest

from jamendo_mood.library import mood_log
from jamendo_mood.tagging.emotions import FACES, PLACES, SYNONYMS, describe_place, find_emotion, mood_in_words

pytest_plugins = ["demo_corpus", "toy_commands"]


@pytest.fixture(autouse=True)
def log(monkeypatch, tmp_path):
    """The user's data folder is the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "jamendo-mood" / "emotions.jsonl"


@pytest.fixture
def ask(run, corpus, corpus_store, tagger_folder):
    """Run `playlist` on the corpus."""

    def start(*arguments):
        return run("playlist", *arguments, "--store", corpus_store.root, "--tagger", tagger_folder, "--format", "json")

    return start


def keys_of(outcome):
    assert outcome.status == 0, outcome.err
    return [track["key"] for track in json.loads(outcome.out)]


def keys(found):
    return [track.key for track in found]


def write_places(path, places):
    rows = (f"{tag},{4 * valence + 5},{4 * arousal + 5}" for tag, (valence, arousal) in places.items())
    path.write_text("\n".join(["MoodTag,Valence,Arousal", *rows]), encoding="utf-8")
    return path


# ---- playlist


@pytest.mark.parametrize("name", [*FACES, "Happiness", "SAD"])
def test_the_emotions_of_a_face_find_music(ask, library, name):
    place = find_emotion(SYNONYMS[name.lower()]).place
    assert keys_of(ask("--emotion", name, "--count", 5)) == keys(library.near(*place, 5))


def test_the_emotion_of_a_track_finds_others(ask, library):
    key = library.keys[5]
    place = library.plane[5].tolist()
    found = keys_of(ask("--emotion-of", key, "--count", 5))
    assert found == keys(library.near(*place, 5, {key}))
    assert key not in found
    path = [place, find_emotion("joy").place]
    found = keys_of(ask("--emotion-of", key, "--to-emotion", "joy", "--count", 5))
    assert found == keys(library.along(path, 5, {key}))


def test_another_table_of_tags_leads_elsewhere(ask, library, tmp_path):
    mirrored = {tag: (-valence, -arousal) for tag, (valence, arousal) in PLACES.items() if tag in library.targets}
    table = write_places(tmp_path / "places.csv", mirrored)
    there = keys_of(ask("--at", "0.8,0.5", "--places", table, "--count", 4))
    assert there == keys(library.near(-0.8, -0.5, 4))
    assert there != keys_of(ask("--at", "0.8,0.5", "--count", 4))
    outcome = ask("--emotion", "sad", "--places", write_places(table, {"guitar": (0, 0)}))
    assert outcome.status == 2
    assert f"{table}: places none of the tagger's tags, which are dark, energetic" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--emotion-of", "no/such"], "no/such: no such track among the"),
        (["--emotion", "happyy"], "did you mean happy"),
        (["--emotion", "sad", "--emotion-of", "a"], "not allowed with argument --emotion"),
        (["--mood", "sad=1", "--remember"], "--remember keeps emotions: ask with --emotion, --emotion-of or --at"),
        (["--emotion", "sad", "--places", "nosuch.csv"], "nosuch.csv"),
    ],
)
def test_wrong_use_is_told_in_a_line_and_not_remembered(ask, log, options, message):
    outcome = ask(*options)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not log.exists()


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
    assert [float(share.rstrip("%")) for _, _, share in told] == sorted(
        (round(100 * number / len(library), 1) for number in counts.values()), reverse=True
    )
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


def test_what_a_library_needs_is_told_in_a_line(survey, tmp_path, monkeypatch):
    outcome = survey("--titles")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "give the folder that was extracted with --audio DIR" in outcome.err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    outcome = survey()
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "`pip install jamendo-mood[plots]` brings it" in outcome.err
    assert not list(tmp_path.glob("*.html"))


# ---- remembering


def test_what_is_asked_for_is_kept_and_nothing_else(ask, log, library):
    assert ask("--emotion", "sad", "--count", 2).status == 0
    assert not log.exists()
    for options in (["--emotion", "Sad"], ["--at", "0.05,0"], ["--emotion", "grief", "--to-emotion", "happy"]):
        outcome = ask(*options, "--count", 2, "--remember")
        assert outcome.status == 0
        assert f"{log}: remembered" in outcome.err
    key = library.keys[5]
    ask("--emotion-of", key, "--to", "0.8,0.5", "--count", 2, "--remember")
    wishes = mood_log.read()[0]
    assert [(wish.emotion, wish.asked_by) for wish in wishes[:4]] == [
        ("sadness", "emotion"),
        ("neutral", "at"),
        ("grief", "emotion"),
        ("joy", "to-emotion"),
    ]
    assert [wish.asked_by for wish in wishes[4:]] == ["emotion-of", "to"]
    np.testing.assert_allclose((wishes[4].valence, wishes[4].arousal), library.plane[5], atol=0.0006)
    assert wishes[2].time == wishes[3].time
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert key not in log.read_text(encoding="utf-8")


def test_a_history_is_shown_drawn_and_deleted(run, ask, log, tmp_path):
    outcome = run("history")
    assert (outcome.status, outcome.out) == (0, "")
    assert f"{log}: nothing is kept" in outcome.err
    assert run("history", "--format", "json").out == "[]\n"
    outcome = run("history", "--plot", tmp_path / "curve.png")
    assert outcome.status == 2
    assert outcome.err == "jamendo-mood history: nothing is kept, so there is nothing to draw\n"
    assert not (tmp_path / "curve.png").exists()
    for name in ("sad", "neutral", "happy"):
        ask("--emotion", name, "--count", 1, "--remember")
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


def test_a_history_with_wrong_lines_names_them(run, ask, log):
    ask("--emotion", "sad", "--count", 1, "--remember")
    with log.open("a", encoding="utf-8") as file:
        file.write('hello\n{"time": "2026')
    outcome = run("history")
    assert outcome.status == 0
    assert outcome.out.count("\n") == 1
    assert f"warning: {log}, line 2 is skipped: it is not an emotion" in outcome.err
    assert f"warning: {log}, line 3 is skipped: it was cut short" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "curve.jpg"], "its name must end in .png"),
        (["--forget", "--plot", "curve.png"], "not allowed with argument"),
        (["--forget", "--format", "json"], "not allowed with argument"),
    ],
)
def test_wrong_use_of_history(run, ask, options, message, log):
    ask("--emotion", "sad", "--count", 1, "--remember")
    outcome = run("history", *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert log.exists()


# ---- tag


def test_a_tagged_track_has_a_place_and_its_names(run, corpus, tagger_folder):
    outcome = run("tag", corpus.path(0), "--tagger", tagger_folder, "--format", "json")
    (track,) = json.loads(outcome.out)["results"]
    place = track["place"]
    names = describe_place(place["valence"], place["arousal"])
    assert place == {name: getattr(names, name) for name in place}
    assert set(place) == {"valence", "arousal", "quadrant", "cluster", "emotion", "family", "face"}
    outcome = run("tag", corpus.path(0), "--tagger", tagger_folder)
    assert f"\n  {mood_in_words(names.valence, names.arousal)}\n" in outcome.out


def test_a_tagged_track_lies_where_another_table_says(run, corpus, tagger_folder, tmp_path):
    table = write_places(
        tmp_path / "places.csv", dict.fromkeys(("dark", "energetic", "happy", "relaxing", "sad"), (0.5, -0.25))
    )
    options = ("--tagger", tagger_folder, "--places", table)
    (track,) = json.loads(run("tag", corpus.path(0), *options, "--format", "json").out)["results"]
    assert (track["place"]["valence"], track["place"]["arousal"], track["place"]["quadrant"]) == (0.5, -0.25, "Q4")
    outcome = run("tag", corpus.path(0), "--tagger", tagger_folder, "--places", write_places(table, {"guitar": (0, 0)}))
    assert outcome.status == 2
    assert "places none of the tagger's tags" in outcome.err
