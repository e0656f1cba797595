"""Paths in playlists that travel, and the folder with a playlist for each mood."""

import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_examples import make_tagger

from jamendo_mood.library.similarity import Found
from jamendo_mood.library.writing import decide_moods, relative_to, to_m3u8, write_playlists
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import UsageError

NAMES = ("a b.mp3", "#1 hit.mp3", "Über ä.mp3", "-dash.mp3", " lead.mp3", "co:lon.mp3", "50% off?.mp3", "sub/x.mp3")


def found(file):
    return Found("key", 1.0, Path(file), (), title="A title", artist="Änne", duration_s=61.4)


def lines_of(text):
    """What a player takes from a playlist: it drops comments, and spaces at both ends of a line."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["music", ".", "lists", "music/lists"])
def test_a_relative_path_leads_from_the_playlist_to_the_file_wherever_both_are_moved(tmp_path, name, where):
    old, new = tmp_path / "here", tmp_path / "there"
    file = old / "music" / name
    file.parent.mkdir(parents=True)
    file.touch()
    (old / where).mkdir(exist_ok=True)
    (line,) = lines_of(to_m3u8([found(file)], relative_to(old / where)))
    assert not line.startswith("#")
    assert "//" not in line
    old.rename(new)
    assert (new / where / line).is_file()


def test_only_a_path_that_a_player_would_misread_begins_with_a_dot(tmp_path):
    locate = relative_to(tmp_path)
    told = {name: locate(found(tmp_path / name)) for name in NAMES}
    assert {name for name in NAMES if told[name] != name} == {"#1 hit.mp3", " lead.mp3", "co:lon.mp3"}
    assert told["#1 hit.mp3"] == "./#1 hit.mp3"
    for name in (b"a\nb.mp3", b"caf\xe9.mp3"):  # which no line holds
        assert locate(found(tmp_path / os.fsdecode(name))).startswith("file:///")


def test_paths_through_links_lead_to_the_file(tmp_path, monkeypatch):
    for folder in ("disk/deep/music", "home"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "disk/deep/music/x.mp3").touch()
    (tmp_path / "home/music").symlink_to(tmp_path / "disk/deep/music")
    inside = relative_to(tmp_path / "home")(found(tmp_path / "home/music/x.mp3"))
    assert inside == "music/x.mp3"  # as its folder shows it
    monkeypatch.chdir(tmp_path / "home/music")
    for folder in (tmp_path / "home/music", Path(), tmp_path / "home/../disk"):
        line = relative_to(folder)(found(tmp_path / "disk/deep/music/x.mp3"))
        assert (folder / line).is_file()


def test_a_second_run_replaces_its_own_files_and_no_others(tmp_path):
    song, theirs = found("/music/x.mp3"), {"mine.m3u8": "#EXTM3U\nx.mp3\n", "note.txt": "sad", "empty.m3u8": ""}
    for name, text in theirs.items():
        (tmp_path / name).write_text(text)
    assert write_playlists(tmp_path, {"sad": [song], "happy": [song]}, None) == 0
    before = (tmp_path / "sad.m3u8").read_text(encoding="utf-8")
    assert before.startswith("#EXTM3U\n#jamendo-mood playlist --all, ")
    assert before.endswith("\n#EXTINF:61,Änne - A title\n/music/x.mp3\n")
    assert write_playlists(tmp_path, {"sad": [song, song], "calm": [song]}, None) == 1
    assert {path.name for path in tmp_path.iterdir()} == {*theirs, "sad.m3u8", "calm.m3u8"}
    assert (tmp_path / "sad.m3u8").read_text(encoding="utf-8").count("x.mp3") == 2
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs


CHANGES = {
    "somebody's": lambda path: path.write_text("#EXTM3U\n"),
    "edited": lambda path: path.write_text(path.read_text(encoding="utf-8") + "/music/my own.mp3\n", encoding="utf-8"),
    "a link": lambda path: path.rename(path.with_name("real")) and path.symlink_to("real"),
    "a folder": lambda path: path.unlink() or path.mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_ours_is_not_replaced_and_nothing_is_written(tmp_path, change):
    song, path = found("/music/x.mp3"), tmp_path / "sad.m3u8"
    write_playlists(tmp_path, {"sad": [song]}, None)
    CHANGES[change](path)
    with pytest.raises(UsageError, match=r"sad\.m3u8: not written by `playlist --all`, or changed since"):
        write_playlists(tmp_path, {"calm": [song], "sad": [song]}, None)
    assert not (tmp_path / "calm.m3u8").exists()
    assert write_playlists(tmp_path, {"calm": [song]}, None) == 0  # nor is it deleted
    assert path.exists()


def test_names_are_safe_on_any_file_system_and_differ_on_each(tmp_path):
    moods = ["con", "AUX.1", "a/b\\c", 'x:"<>|?*', "..", " . ", "", "-rf", "a\nb", "\ud800", "é", "e\u0301", "É"]
    moods += ["Calm", "calm", "CALM", "😀" * 300, "😀" * 301, "ends. ", "#1", "$(id)", "drum & bass"]
    write_playlists(tmp_path / "new", {mood: [found("/music/x.mp3")] for mood in moods}, None)
    names = [path.name for path in (tmp_path / "new").iterdir()]
    assert len(names) == len(moods)
    assert len({unicodedata.normalize("NFD", name).casefold() for name in names}) == len(moods)
    for name in names:
        assert len(name.encode()) <= 255
        assert not set(name) & {*'<>:"/\\|?*', *map(chr, range(32))}
        assert name[0] not in "-. "
        assert name.removesuffix(".m3u8")[-1] not in ". "
        assert name.split(".")[0].upper() not in {"CON", "AUX"}
    assert {"#1.m3u8", "drum & bass.m3u8", "_con.m3u8", "_-rf.m3u8"} <= {*names}
    assert write_playlists(tmp_path / "new", {"calm": [found("/music/x.mp3")]}, None) == len(moods) - 1


def test_which_songs_are_of_a_mood():
    tagger = replace(make_tagger(Task("moods", "tags", ("a", "b"))), thresholds=np.array([0.5, 0.2]))
    scores = np.array([[0.5, 0.1], [0.6, 0.2], [0.4, 0.1]], np.float32)
    assert decide_moods(tagger, scores).tolist() == [[True, False], [True, True], [False, False]]
    ranks = replace(tagger, thresholds=np.full(2, np.inf))
    assert decide_moods(ranks, scores).tolist() == [[True, False]] * 3
    with pytest.raises(UsageError, match="predicts numbers"):
        decide_moods(make_tagger(Task("va", "values", ("valence", "arousal"), (0.0, 1.0))), scores)
