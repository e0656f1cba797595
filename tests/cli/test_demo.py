import collections
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.cli import demo
from jamendo_mood.cli.main import build_parser
from jamendo_mood.embedders import musicnn
from jamendo_mood.embedders.vggish import WEIGHTS
from jamendo_mood.util.errors import UsageError


@pytest.mark.slow
def test_the_demo_as_a_user_starts_it_really_learns_and_embeds_nothing_twice(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != WEIGHTS.variable}
    environment["TFHUB_CACHE_DIR"] = str(tmp_path / "empty cache")
    command = [sys.executable, "-m", "jamendo_mood", "demo", "--out", str(tmp_path / "out")]
    count = len(demo.plan_songs(0))
    for said in (f"{count} tracks embedded, 0 were there already", f"0 tracks embedded, {count} were there already"):
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].startswith("Demo with the embedder logmel: VGGish's weights are not on this")
        assert [line[:5] for line in lines if line.startswith("[")] == [f"[{n}/6]" for n in range(1, 7)]
        assert said in done.stdout
        figures = json.loads((tmp_path / "out" / "report-logmel" / "scores.json").read_text())
        assert f"Test PR-AUC {figures['PR-AUC-macro']:.3f}, " in done.stdout
    assert figures["PR-AUC-macro"] >= 2 * figures["prior-macro"] > 0
    assert figures["examples"] == demo.ARTISTS["test"] * demo.SONGS_PER_ARTIST
    assert list(tmp_path.rglob("*.wav")) == []


class Commands:
    """A command line that does nothing but write down what it was told to do, and the scores."""

    def __init__(self, pr_auc=0.9, failing=None):
        self.told = []
        self._pr_auc, self._failing = pr_auc, failing

    def __call__(self, arguments):
        self.told.append(arguments)
        if arguments[0] == "evaluate":
            report = Path(arguments[arguments.index("--out") + 1])
            report.mkdir()
            (report / "scores.json").write_text(json.dumps({"PR-AUC-macro": self._pr_auc, "prior-macro": 0.25}))
        return 3 if arguments[0] == self._failing else 0


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the demo without making the music."""
    monkeypatch.setattr(demo, "make_corpus", lambda _, seed: demo.plan_songs(seed))

    def start(commands, *options):
        arguments = build_parser().parse_args(["demo", "--out", str(tmp_path), *map(str, options)])
        arguments.main = commands
        return demo.demo(arguments)

    return start


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    ("pr_auc", "failing", "status"),
    [(0.51, None, 0), (0.49, None, 1), *((0.9, step, 3) for step in ("extract", "train", "evaluate", "tag"))],
)
def test_it_fails_with_its_first_step_that_fails_or_below_twice_the_prior(run, pr_auc, failing, status, capsys):
    commands = Commands(pr_auc, failing)
    assert run(commands) == status
    assert ("Next, a song of your own" in capsys.readouterr().out) == (status == 0)
    assert failing in (None, commands.told[-1][0])


def test_vggish_is_taken_where_its_weights_are(run, empty_cache, monkeypatch, tmp_path, capsys):
    weights = tmp_path / "vggish_model.ckpt"
    weights.touch()
    monkeypatch.setenv(WEIGHTS.variable, str(weights))
    commands = Commands()
    assert run(commands) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"Demo with the embedder vggish, weights from {weights}."
    extract = commands.told[0]
    assert extract[extract.index("--embedder") + 1] == "vggish"


def test_options_reach_the_steps_that_embed(run, tmp_path, capsys):
    given = [f"--weights={tmp_path}", f"--pca={tmp_path}/pca.npz", "--allow-untrained", "--offline", "--engine=mnn"]
    commands = Commands()
    assert run(commands, "--embedder", "vggish-pca", *given, "--seed", 5) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Demo with the embedder vggish-pca, as asked."
    extract, train, evaluate, tag, *_ = commands.told
    assert extract[-len(given) :] == tag[-len(given) :] == given
    assert not {*given} & {*train, *evaluate}
    assert train[-2:] == ["--seed", "5"]
    assert {arguments[arguments.index("--store") + 1] for arguments in (extract, train, evaluate)} == {
        str(tmp_path / "embeddings-vggish-pca")
    }


def test_the_last_step_is_by_musicnn_where_its_weights_are(run, empty_cache, seeded_musicnn_wheel, monkeypatch, capsys):
    monkeypatch.setenv(musicnn.WEIGHTS.variable, str(seeded_musicnn_wheel))
    commands = Commands()
    assert run(commands) == 0
    assert commands.told[-1][0] == "tag"
    assert commands.told[-1][-2:] == ["--tagger", "musicnn"]
    assert commands.told[-1][1] == commands.told[-2][1], "the same song"
    assert "29 MB" not in capsys.readouterr().out


@pytest.mark.usefixtures("empty_cache")
def test_the_last_step_is_left_out_where_pip_cannot_fetch(run, tmp_path, capsys):
    """And at its end it says what to do with a song of one's own."""
    commands = Commands()
    assert run(commands) == 0
    assert [arguments[0] for arguments in commands.told] == ["extract", "train", "evaluate", "tag"]
    printed = capsys.readouterr()
    assert "left out: musicnn's weights are not here, and no address has them" in printed.out
    assert "  pip could not fetch musicnn-0.1.0-py3-none-any.whl" in printed.err
    song = next(song for song in demo.plan_songs(0) if commands.told[-1][1].endswith(song.path))
    assert song.part == "test", "it was trained on"
    assert f"whose moods are: {', '.join(song.moods)}\n" in printed.out
    *_, last = printed.out.partition("Next, a song of your own")
    asked = [shlex.split(line)[1:] for line in last.splitlines() if line.startswith("  ") and line[2] != " "]
    parsed = [build_parser().parse_args(arguments) for arguments in asked]
    assert [arguments.command for arguments in parsed] == ["tag", "tag", "web"]
    assert [arguments.tagger for arguments in parsed] == [None, *[tmp_path / "tagger-logmel"] * 2]
    assert "29 MB" in last


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    ("started_by", "found", "typed"),
    [
        (".venv/bin/jamendo-mood", None, ".venv/bin/jamendo-mood"),
        (".venv/bin/jamendo-mood", "/usr/bin/jamendo-mood", "jamendo-mood"),
        ("jamendo_mood/__main__.py", None, "jamendo-mood"),
    ],
)
def test_its_commands_can_be_typed_as_they_are(run, monkeypatch, capsys, started_by, found, typed):
    monkeypatch.setattr("shutil.which", lambda _: found)
    monkeypatch.setattr("sys.argv", [started_by])
    assert run(Commands()) == 0
    assert f"\n  {typed} tag SONG.mp3\n" in capsys.readouterr().out


pytest_plugins = ["demo_corpus"]


@pytest.fixture(scope="module")
def songs():
    return demo.plan_songs(0)


def test_the_same_seed_gives_the_same_songs_no_two_alike_and_another_seed_others(songs):
    assert demo.plan_songs(0) == songs
    other = demo.plan_songs(1)
    assert [song.moods for song in other] != [song.moods for song in songs]
    for number in (0, 40, -1):
        sound = demo.render(songs[number])
        assert demo.render(songs[number]).tobytes() == sound.tobytes()
        assert demo.render(other[number]).tobytes() != sound.tobytes()
    same_mood = [song for song in songs if song.moods == ("happy",)][:4]
    assert len({demo.render(song).tobytes() for song in same_mood}) == 4


@pytest.mark.parametrize("mood", demo.MOODS)
def test_each_mood_sounds(songs, mood):
    wave = demo.render(next(song for song in songs if song.moods == (mood,)))
    assert wave.shape == (round(demo.SONG_S * demo.RATE_HZ),)
    assert 0.4 <= np.abs(wave).max() <= 0.95
    seconds = wave.reshape(round(demo.SONG_S), -1)
    assert (seconds.std(axis=1) > 1e-3).all()  # no second of silence


@pytest.mark.parametrize("seed", range(5))
def test_each_mood_is_there_and_missing_in_each_part_and_an_artist_is_of_one(seed):
    songs = demo.plan_songs(seed)
    for part in ("train", "validation", "test"):
        count = collections.Counter(mood for song in songs if song.part == part for mood in song.moods)
        size = sum(song.part == part for song in songs)
        assert set(count) == set(demo.MOODS)
        assert all(0 < number < size for number in count.values())
    assert len({(song.artist, song.part) for song in songs}) == len({song.artist for song in songs})
    assert len({song.id for song in songs}) == len({song.path for song in songs}) == len(songs)


def test_a_corpus_is_a_jamendo_of_its_own(corpus):
    assert {part: len(rows) for part, rows in corpus.dataset.parts.items()} == {
        part: artists * demo.SONGS_PER_ARTIST for part, artists in corpus.artists.items()
    }
    assert corpus.dataset.task.targets == demo.MOODS
    by_path = {song.path: song for song in corpus.songs}
    for part, rows in corpus.dataset.parts.items():
        for row in rows:
            track, song = corpus.dataset.tracks[row], by_path[corpus.dataset.tracks[row].audio]
            assert song.part == part
            assert {demo.MOODS[tag] for tag in np.flatnonzero(corpus.dataset.targets[row])} == {*song.moods}
            assert track.duration_s == demo.SONG_S
    assert set(decoding.find_audio(corpus.audio)) == {track.key for track in corpus.dataset.tracks}


def test_the_tables_are_in_mtgs_own_format(corpus):
    lines = (corpus.root / "autotagging_moodtheme.tsv").read_bytes().split(b"\r\n")
    assert lines[0] == b"TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    assert lines[1].startswith(b"track_0001000\tartist_000000\talbum_000000\t00/1000.mp3\t12.0\tmood/theme---")
    assert lines[-1] == b""
    assert {line.count(b"\t") for line in lines[1:-1]} == {5, 6}  # as many columns as tags


def small_corpus(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "ARTISTS", {"train": 1, "validation": 1, "test": 1})
        return demo.make_corpus(root)


def test_songs_that_are_there_stay(tmp_path):
    songs = small_corpus(tmp_path)
    marked, lost = (tmp_path / "audio" / song.path for song in songs[:2])
    content = lost.read_bytes()
    marked.write_bytes(b"listened to")
    lost.unlink()
    assert small_corpus(tmp_path) == songs
    assert marked.read_bytes() == b"listened to"
    assert lost.read_bytes() == content


def test_an_ffmpeg_that_cannot_write_mp3_is_wrong_usage(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho 'Unknown encoder libmp3lame' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: str(program))
    with pytest.raises(UsageError, match="ffmpeg cannot write MP3 files: Unknown encoder libmp3lame"):
        small_corpus(tmp_path / "corpus")
    assert [path for path in (tmp_path / "corpus").rglob("*") if path.is_file()] == []
