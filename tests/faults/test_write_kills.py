"""kill -9 of `write` at any moment: each song is the old one or the new one, and --undo puts back the new ones."""

import shutil
import time

import numpy as np
import pytest
import toy_moods
from killing import contents, kill, left_behind, start, wait_for
from toy_moods import make_library

from jamendo_mood.audio.file_tags import MARK, MOOD, read_fields
from jamendo_mood.util.files import is_draft

pytest_plugins = ["toy_commands"]

SONGS = 6
KINDS = ("flac", "ogg", "opus", "m4a", "wma", "wv", "wav", "aiff")


def count_new(music):
    return sum(path.stat().st_mtime != toy_moods.LONG_AGO_S for path in music.iterdir() if not is_draft(path.name))


@pytest.mark.parametrize("kind", ["mp3", *(pytest.param(each, marks=pytest.mark.slow) for each in KINDS)])
def test_kills_lose_no_song(kind, run, make_audio, tone, amount, figure, tmp_path):
    kills, music, rng = amount(1, 100), tmp_path / "music", np.random.default_rng(1)
    song = make_audio(tmp_path / f"song.{kind}", tone(seconds=1.0))
    toy_moods.make_tagger().save(tmp_path / "tagger")
    moods = {f"{number:02}": {"happy"} for number in range(SONGS)}
    store = make_library(music, song, moods, song.suffix)
    before = contents(music)
    command = ("write", music, "--store", store, "--tagger", tmp_path / "tagger", "--apply", "--journal")
    assert run(*command, tmp_path / "whole.jsonl").status == 0
    after = contents(music)
    assert all(after[name] != content for name, content in before.items())
    killed, amid, written = 0, 0, []
    for number in range(10 * kills):
        shutil.rmtree(music)
        make_library(music, song, moods, song.suffix)
        journal = tmp_path / f"{number}.jsonl"
        process = start(*command, journal)
        if number % 4 < 3:  # the others are killed before there is a journal
            songs = rng.integers(SONGS)
            wait_for(lambda journal=journal, songs=songs: journal.exists() and count_new(music) >= songs, process)
            time.sleep(rng.uniform(0, 0.1))
        else:
            time.sleep(rng.uniform(0, 1.5))
        amid += bool(left_behind(music))
        killed += kill(process)
        found = contents(music)
        assert found.keys() == before.keys()
        assert all(content in (before[name], after[name]) for name, content in found.items())
        written.append(count_new(music))
        assert written[-1] == sum(content == after[name] for name, content in found.items())
        assert journal.exists() or not written[-1]
        if written[-1]:
            assert run("write", "--undo", journal).status == 0
            fields = [read_fields(path, [MOOD, MARK])[0] for path in sorted(music.glob(f"*.{kind}"))]
            assert fields == [{MOOD: [], MARK: []}] * SONGS
            assert left_behind(music) == []
        if killed >= kills:
            break
    assert killed == kills
    figure(
        f"`kill -9` of `write` on {SONGS} songs, {kind}",
        kills,
        f"each song the old one or the new one, byte by byte, and put back by --undo; {min(written)} to {max(written)} "
        f"songs written, {amid} kills amid a copy",
    )
