import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jamendo_mood.cli import demo, synthesis
from jamendo_mood.cli.main import build_parser
from jamendo_mood.embedders.registry import EmbedderOptions
from jamendo_mood.embedders.vggish import WEIGHTS_VARIABLE


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "empty cache"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The demo, as a user starts it, twice in one folder: its folder, and what each run printed.

    For `make test-slow`: `make demo` and `make wheel` run it once each.
    """
    folder = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if name != WEIGHTS_VARIABLE}
    environment["TFHUB_CACHE_DIR"] = str(folder / "empty cache")
    printed, files = [], []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "jamendo_mood", "demo", "--out", str(folder / "out")],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
        files.append({path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.npy")})
    return folder / "out", printed, files


@pytest.mark.slow
def test_the_first_line_says_which_embedder_and_why(runs):
    for printed in runs[1]:
        assert printed.splitlines()[0].startswith("Demo with the embedder logmel: VGGish's weights are not on this")


@pytest.mark.slow
def test_it_really_learns(runs):
    folder, printed, _ = runs
    figures = json.loads((folder / "report-logmel" / "scores.json").read_text())
    assert figures["PR-AUC-macro"] >= 2 * figures["prior-macro"] > 0
    assert figures["examples"] == synthesis.ARTISTS["test"] * synthesis.SONGS_PER_ARTIST
    for text in printed:
        assert f"Test PR-AUC {figures['PR-AUC-macro']:.3f}, " in text


@pytest.mark.slow
def test_it_says_what_each_step_did_and_where_its_files_are(runs):
    folder, (printed, _), _ = runs
    assert [line[:5] for line in printed.splitlines() if line.startswith("[")] == [f"[{n}/5]" for n in range(1, 6)]
    for path in ("audio", "embeddings-logmel", "tagger-logmel", "report-logmel"):
        assert str(folder / path) in printed
        assert (folder / path).is_dir()
    songs = synthesis.plan_songs(0)
    assert f"{len(songs)} tracks embedded, 0 were there already, 0 failed" in printed


@pytest.mark.slow
def test_the_tagged_song_is_none_it_trained_on(runs):
    (command,) = (line for line in runs[1][0].splitlines() if line.startswith("$ jamendo-mood tag "))
    song = next(song for song in synthesis.plan_songs(0) if song.path in command)
    assert song.part == "test"
    (title,) = (line for line in runs[1][0].splitlines() if line.startswith("[5/5]"))
    assert title.endswith(", ".join(song.moods))


@pytest.mark.slow
def test_a_second_run_embeds_nothing_again(runs):
    _, (_, again), (first, second) = runs
    assert first == second
    assert len(first) == len(synthesis.plan_songs(0))
    assert f"0 tracks embedded, {len(first)} were there already" in again


@pytest.mark.slow
def test_no_wav_is_left(runs):
    assert list(runs[0].parent.rglob("*.wav")) == []


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
    monkeypatch.setattr(synthesis, "make_corpus", lambda _, seed: synthesis.plan_songs(seed))

    def start(commands, embedder=None, options=None, seed=0):
        return demo.run_demo(tmp_path, embedder, options or EmbedderOptions(), seed, commands)

    return start


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(("pr_auc", "status"), [(0.51, 0), (0.49, 1)])
def test_less_than_twice_the_prior_is_a_failure(run, pr_auc, status, capsys):
    assert run(Commands(pr_auc)) == status
    assert ("Next, a song of your own" in capsys.readouterr().out) == (status == 0)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("failing", ["extract", "train", "evaluate", "tag"])
def test_it_stops_at_the_first_step_that_fails(run, failing):
    commands = Commands(failing=failing)
    assert run(commands) == 3
    assert commands.told[-1][0] == failing


def test_vggish_is_taken_where_its_weights_are(run, no_weights, monkeypatch, tmp_path, capsys):
    weights = tmp_path / "vggish_model.ckpt"
    weights.touch()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(weights))
    commands = Commands()
    assert run(commands) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"Demo with the embedder vggish, weights from {weights}."
    extract = commands.told[0]
    assert extract[extract.index("--embedder") + 1] == "vggish"


def test_options_reach_the_steps_that_embed(run, tmp_path, capsys):
    options = EmbedderOptions(tmp_path, tmp_path / "pca.npz", allow_untrained=True)
    commands = Commands()
    assert run(commands, "vggish-pca", options, seed=5) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Demo with the embedder vggish-pca, as asked."
    given = ["--weights", str(tmp_path), "--pca", str(tmp_path / "pca.npz"), "--allow-untrained"]
    extract, train, evaluate, tag = commands.told
    assert extract[-len(given) :] == tag[-len(given) :] == given
    assert not {*given[::2]} & {*train, *evaluate}
    assert train[-2:] == ["--seed", "5"]
    assert {arguments[arguments.index("--store") + 1] for arguments in (extract, train, evaluate)} == {
        str(tmp_path / "embeddings-vggish-pca")
    }


@pytest.mark.usefixtures("no_weights")
def test_at_its_end_it_says_what_to_do_with_a_song_of_one_s_own(run, tmp_path, capsys):
    assert run(Commands()) == 0
    *_, last = capsys.readouterr().out.partition("Next, a song of your own")
    asked = [shlex.split(line)[1:] for line in last.splitlines() if line.startswith("  ") and line[2] != " "]
    parsed = [build_parser().parse_args(arguments) for arguments in asked]
    assert [arguments.command for arguments in parsed] == ["tag", "tag", "web"]
    assert [arguments.tagger for arguments in parsed] == [None, *[tmp_path / "tagger-logmel"] * 2]
    assert "275 MB" in last


@pytest.mark.parametrize(
    ("started_by", "found", "typed"),
    [
        (".venv/bin/jamendo-mood", None, ".venv/bin/jamendo-mood"),
        (".venv/bin/jamendo-mood", "/usr/bin/jamendo-mood", "jamendo-mood"),
        ("jamendo_mood/__main__.py", None, "jamendo-mood"),
    ],
)
def test_its_commands_can_be_typed_as_they_are(monkeypatch, started_by, found, typed):
    monkeypatch.setattr("shutil.which", lambda _: found)
    monkeypatch.setattr("sys.argv", [started_by])
    assert demo._find_program() == typed
