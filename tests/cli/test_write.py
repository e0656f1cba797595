"""`write` as its users meet it: the diff, the change, the way back, and what is left alone."""

import os
import re
import sys

import numpy as np
import pytest
import toy_moods
from mutagen.id3 import ID3
from toy_examples import VALUES
from toy_moods import make_library, put

from jamendo_mood.audio.file_tags import read_fields, read_moods
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.library import writing
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tasks import Task

pytest_plugins = ["toy_commands"]

MOODS = {"a": {"happy", "Sad music"}, "b/c": {"calm"}, "d": {"Sad music", "dark"}}


@pytest.fixture(scope="module")
def made(make_audio, tone, tmp_path_factory):
    return make_audio(tmp_path_factory.mktemp("made") / "made.mp3", tone(seconds=1.0))


@pytest.fixture(scope="module")
def taggers(tmp_path_factory):
    """Folders of taggers: one that decides, one that ranks, one that nobody graded, one for values."""
    root = tmp_path_factory.mktemp("taggers")
    toy_moods.make_tagger().save(root / "decides")
    toy_moods.make_tagger(thresholds=np.inf).save(root / "ranks")
    toy_moods.make_tagger(grades=("unknown", "weak", "weak", "unknown")).save(root / "ungraded")
    toy_moods.make_tagger(VALUES).save(root / "values")
    toy_moods.make_tagger(Task("colours", "tags", ("red", "green"))).save(root / "colours")
    return root


@pytest.fixture
def music(made, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "PAUSE_S", 0.0)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    make_library(tmp_path / "music", made, MOODS)
    return tmp_path / "music"


@pytest.fixture
def write(run, music, taggers):
    """Run `write` on the library."""

    def start(*options, tagger="decides", folder=music):
        return run("write", folder, "--store", music.parent / "store", "--tagger", taggers / tagger, *options)

    return start


def state_of(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_without_apply_a_diff_is_shown_and_nothing_written(write, music):
    before = state_of(music)
    outcome = write()
    assert outcome.status == 0
    assert outcome.out.splitlines() == [
        f"{music}/a.mp3",
        "  + happy",
        "  + Sad",
        f"{music}/d.mp3",
        "  + Sad",
        "2 files would change, 1 needs no change; nothing is written without --apply",
    ]
    assert state_of(music) == before
    assert not (music.parent / "data").exists()


def test_moods_are_written_once_and_put_back(write, run, music):
    first = write("--apply")
    assert (first.status, first.out.splitlines()[-1]) == (0, "2 files changed, 1 needs no change")
    (journal,) = (music.parent / "data/jamendo-mood/written").iterdir()
    assert f"to undo it: jamendo-mood write --undo {journal}" in first.err
    assert ID3(music / "a.mp3")["TMOO"].text == ["happy", "Sad"]
    written = state_of(music)
    again = write("--apply")
    assert (again.status, again.out) == (0, "0 files changed, 3 need no change\n")
    assert state_of(music) == written
    assert list(journal.parent.iterdir()) == [journal]
    back = run("write", "--undo")
    assert (back.status, back.out.splitlines()[-1]) == (0, "2 files put back, 0 need no change")
    assert "  - happy" in back.out.splitlines()
    assert [read_moods(path) for path in sorted(music.rglob("*.mp3"))] == [((), ())] * 3
    assert run("write", "--undo", journal).out == "0 files put back, 2 need no change\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--unmeasured",), {"a": ["happy", "Sad"], "c": ["calm"], "d": ["Sad", "dark"]}),
        (("--unmeasured", "--most", 1), {"a": ["happy"], "c": ["calm"], "d": ["Sad"]}),
        (("--only", "HAPPY"), {"a": ["happy"], "c": [], "d": []}),
        (("--exclude", "sad", "--exclude", "calm"), {"a": ["happy"], "c": [], "d": []}),
        (("--separator", ", "), {"a": ["happy, Sad"], "c": [], "d": ["Sad"]}),
        (("--rename", "words.csv"), {"a": ["froh"], "c": [], "d": []}),
    ],
)
def test_options_say_which_moods(write, music, monkeypatch, options, expected):
    monkeypatch.chdir(music.parent)
    (music.parent / "words.csv").write_text("tag,word\nhappy,froh\nsad,\nof another tagger,x\n")
    assert write(*options, "--apply").status == 0
    assert {path.stem: read_fields(path, ["MOOD"])[0]["MOOD"] for path in music.rglob("*.mp3")} == expected


def test_what_was_not_measured_is_marked(write):
    for tagger, happy in (("decides", "  + happy"), ("ranks", "  + happy  (only ranked)")):
        lines = write("--unmeasured", tagger=tagger).out.splitlines()
        assert {happy, "  + calm  (weak)", "  + dark  (unknown)"} <= set(lines)


def test_other_fields(write, music):
    outcome = write("--valence-arousal", "--field", "my_moods", "--apply", "--keep-times")
    assert outcome.status == 0
    assert re.search(r"^  \+ JAMENDO_VALENCE -?[01]\.\d\d$", outcome.out, re.MULTILINE)
    tags = ID3(music / "a.mp3")
    assert tags["TXXX:MY_MOODS"].text == ["happy", "Sad"]
    assert {"TXXX:JAMENDO_VALENCE", "TXXX:JAMENDO_AROUSAL", "TXXX:JAMENDO_MOOD_MY_MOODS"} <= tags.keys()
    assert (music / "a.mp3").stat().st_mtime == toy_moods.LONG_AGO_S


def test_a_diff_is_in_colour_on_a_terminal(write, monkeypatch):
    write("--apply", "--only", "sad")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert {"\x1b[2m    Sad\x1b[0m", "\x1b[32m  + happy\x1b[0m"} <= {*write().out.splitlines()}
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in write().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("music --tagger {taggers}/ranks", "nothing would be written by toy: it only ranks moods: nobody has measured"),
        ("music --tagger {taggers}/ungraded", "toy: no tag that you allow was graded fair or better; see --unmeasured"),
        ("music --only calm", "toy: no tag that you allow was graded fair or better; see --unmeasured"),
        ("music --tagger {taggers}/values --unmeasured", "toy values: it says numbers and no moods; --valence-arousal"),
        ("music --tagger {taggers}/colours --valence-arousal", "colours: its tags say nothing of valence and arousal"),
        ("none", "none: no such file, folder or store"),
        ("", "name songs, or folders of them"),
        ("music/a.mp3 --store store", "--store holds the embeddings of a folder: name that folder"),
        ("music --store store --only grumpy", "no mood 'grumpy'; there are happy, Sad music, calm, dark"),
        ("music --store store --rename words.csv", "words.csv: renames none of the tagger's tags"),
        ("music --store store --journal words.csv", "words.csv: there is such a file"),
        ("music --field JAMENDO_MOOD", "'JAMENDO_MOOD' is not a name of a field"),
        ("--undo music", "music: cannot be read (Is a directory)"),
        ("--undo words.csv", "words.csv: not a journal of `jamendo-mood write`"),
        ("--undo --apply", "--undo goes by a journal alone"),
        ("--undo", "no journal of a run is there"),
    ],
)
def test_wrong_use_is_told_in_a_line_and_changes_nothing(run, music, taggers, monkeypatch, words, says):
    monkeypatch.chdir(music.parent)
    (music.parent / "words.csv").write_text("tag,word\nother,x\n")
    before = state_of(music)
    usual = () if words.startswith("--undo") else ("--tagger", taggers / "decides", "--apply")
    outcome = run("write", *usual, *words.format(taggers=taggers).split())
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert says in outcome.err
    assert state_of(music) == before


def test_what_cannot_be_changed_is_named_and_the_rest_is_written(write, music, made):
    store = EmbeddingStore(music.parent / "store")
    happy = np.array([[1, -1, -1, -1]], np.float32)
    for name in ("broken", "read-only", "linked", "half"):
        put(made, music / f"{name}.mp3")
        store.add(name, happy, "1 of 2 s could be decoded" if name == "half" else "")
    (music / "broken.mp3").write_bytes(b"ID3\x04\0\0\x7f\x7f\x7f\x7f")
    (music / "read-only.mp3").chmod(0o444)
    os.link(music / "linked.mp3", music.parent / "elsewhere.mp3")
    (music / "new.mp3").write_bytes(made.read_bytes())
    before = state_of(music)
    outcome = write("--apply")
    assert outcome.status == 1
    assert outcome.out.splitlines()[-1] == "2 files changed, 1 needs no change, 4 failed"
    failed = [line for line in outcome.err.splitlines() if line.startswith("failed: ")]
    for name, why in {
        "broken": "its tags cannot be read or written (they end too soon)",
        "half": "left as it is: only 1 of 2 s could be decoded; perhaps it is still being copied",
        "linked": "left as it is: it has other names (hard links), which would keep the old tags",
        "read-only": "left as it is: it is read-only",
    }.items():
        assert f"failed: {music / name}.mp3: {why}" in failed
        assert state_of(music)[f"{name}.mp3"] == before[f"{name}.mp3"]
    assert f"1 file of {music} not in {store.root}: `extract` adds them" in outcome.err


def test_songs_are_tagged_where_there_is_no_store(run, music, made, make_audio, tone, tmp_path):
    logmel = load_embedder("logmel")
    toy_moods.make_tagger(spec=logmel.spec, bias=500.0).save(tmp_path / "logmel")
    link = music / "again.mp3"
    link.symlink_to(music / "a.mp3")
    whole = make_audio(tmp_path / "whole.wav", tone(seconds=4.0))
    (music / "half.wav").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    make_audio(music / "silent.wav", tone(seconds=2.0, amplitude=0.0))
    outcome = run("write", music, music / "a.mp3", link, "--tagger", tmp_path / "logmel", "--apply")
    assert outcome.status == 1
    assert outcome.out.splitlines()[-1] == "3 files changed, 0 need no change, 2 failed"
    assert "half.wav: left as it is: only 2 of 4 s could be decoded" in outcome.err
    assert "silent.wav: silent from beginning to end" in outcome.err
    assert link.is_symlink()
    assert read_moods(music / "a.mp3") == ((), ("Sad", "happy"))


def test_without_mutagen_nothing_is_begun(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "mutagen", None)
    write("--apply").check_error("write", r"`pip install jamendo-mood\[files\]` brings it")
