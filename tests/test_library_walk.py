"""The library owner's tutorial: its walk over 50 songs, and the line that keeps a folder up to date by itself."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_docs import ROOT, read_commands

from jamendo_mood.audio.ffmpeg import find_ffmpeg
from jamendo_mood.audio.file_tags import read_moods

pytest_plugins = ["demo_corpus", "toy_commands"]

PAGE = (ROOT / "docs" / "tutorials" / "library.md").read_text(encoding="utf-8")
LONG_AGO_S = 1_000_000_000


@pytest.fixture
def home(corpus, corpus_tagger, tmp_path, monkeypatch):
    """A folder with what the page names: old songs, and a tagger whose tags are good, as those of the demo are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for folder in ("build/demo/tagger-logmel", "taggers/mine"):
        replace(corpus_tagger, grades=("good",) * len(corpus_tagger.grades)).save(folder)
    shutil.copytree(corpus.audio, "music")
    for number in (0, 1):
        shutil.copy(corpus.path(number), f"music/another {number}.mp3")
    for path in songs():
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return tmp_path


def songs():
    return sorted(Path("music").rglob("*.mp3"))


def moods():
    return [read_moods(path) for path in songs()]


@pytest.mark.thorough
def test_the_walk_does_what_the_page_says(home, run):
    Path("words.csv").write_text(re.search(r"```text\n(tag,word\n.*?)```", PAGE, re.DOTALL)[1])
    none = [((), ())] * len(songs())
    assert len(none) == 50
    ran = []
    for command in map(shlex.split, read_commands(PAGE)):
        outcome = run(*command)
        assert outcome.status == 0, (command, outcome.err)
        ran.append(command[0])
        if "--apply" in command:
            assert all(found.ours and not found.theirs for found in moods() if found.ours)
            assert sum(bool(found.ours) for found in moods()) > 25
            assert outcome.out.count("\n  + ") >= sum(len(found.ours) for found in moods())
        elif "--rename" in command:
            assert "  + Zum Tanzen\n" in outcome.out
            assert "dark" not in outcome.out
        elif command[0] == "write":
            assert moods() == none
    assert ran == ["extract", *["write"] * 6, "playlist", "playlist", "library"]
    for playlist in Path("playlists").iterdir():
        paths = [line for line in playlist.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
        assert all(line.startswith("../music/") and Path("playlists", line).is_file() for line in paths)
    assert Path("embeddings/music-library.html").stat().st_size > 1_000_000
    assert Path("sad.m3u8").read_text().count("#EXTINF") == 20


@pytest.mark.thorough
def test_the_line_for_cron_keeps_a_growing_folder_up_to_date(home, corpus, run):
    (line,) = re.findall(r"^15 3 \* \* \*  (.+)$", PAGE, re.MULTILINE)
    program = home / "bin" / "jamendo-mood"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m jamendo_mood "$@"\n')
    program.chmod(0o755)
    assert run("extract", "music", "--store", "embeddings/music", "--embedder", "logmel").status == 0

    def at_night():
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        return subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, check=False)

    first = at_night()
    assert first.returncode == 0, first.stderr
    written = {path: path.stat().st_mtime_ns for path in songs()}
    decode = [find_ffmpeg(), "-v", "error", "-i", str(corpus.path(3)), "-y", "whole.wav"]
    subprocess.run(decode, check=True)
    whole = Path("whole.wav").read_bytes()
    shutil.copy(corpus.path(2), "music/new.mp3")
    half = Path("music/half.wav")
    half.write_bytes(whole[: len(whole) // 2])
    second = at_night()
    assert second.returncode == 1
    assert f"failed: {half}: left as it is: only 6 of 12 s could be decoded; perhaps it is still" in second.stderr
    assert half.read_bytes() == whole[: len(whole) // 2]
    assert read_moods(Path("music/new.mp3")) == read_moods(Path("music") / corpus.songs[2].path)
    half.write_bytes(whole)
    third = at_night()
    assert third.returncode == 0, third.stderr
    assert read_moods(half) == read_moods(Path("music") / corpus.songs[3].path)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert third.stdout.splitlines()[-1].startswith("1 file changed, ")
