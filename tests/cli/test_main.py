"""The command line as its users meet it: what it prints where, what it leaves behind, how it ends."""

import argparse
import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from jamendo_mood.audio import decoding
from jamendo_mood.cli.main import COMMANDS, main
from jamendo_mood.datasets import audioset, jamendo
from jamendo_mood.embedders import vggish
from jamendo_mood.evaluation.evaluate import QUIRKS
from jamendo_mood.library import mood_log
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import Place
from jamendo_mood.tasks.metrics import LOWER_IS_BETTER
from jamendo_mood.training.fit import TrainConfig
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import remote
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus", "toy_commands"]

ROOT = Path(__file__).resolve().parents[2]


def keys_of(folder):
    return set(decoding.find_audio(folder))


def contents(store):
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def extract(run, folder, store, *options):
    return run("extract", folder, "--store", store, "--embedder", "logmel", *options)


# ---- Help.


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(run, name):
    assert re.search(rf"^ +{name}( |$)", run("--help").out, re.MULTILINE)
    outcome = run(name, "--help")
    assert outcome.status == 0
    assert " ".join(COMMANDS[name].run.__doc__.split()) in " ".join(outcome.out.split())
    parser = argparse.ArgumentParser(add_help=False)
    COMMANDS[name].add_options(parser)
    for action in parser._actions:
        assert action.help, action.dest


# ---- What every command does.


def test_a_task_without_embeddings_of_its_own_needs_a_store(run, corpus, tmp_path):
    outcome = run("train", "--task", "jamendo", "--data", corpus.root, "--out", tmp_path / "tagger")
    outcome.check_error("train", "comes without embeddings: extract them and give --store")


@pytest.mark.parametrize("columns", [72, 90])
def test_the_name_alone_shows_the_help_which_fits_the_terminal(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    outcome = run()
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome == run("--help")
    assert "\nLearn and evaluate:\n  train " in outcome.out
    assert max(map(len, outcome.out.partition("The usual way")[0].splitlines())) <= columns


def test_bash_completes_commands_options_and_choices(run):
    pytest.importorskip("shtab", reason="needs the extra `completion`")
    script = run("completion", "bash").out

    def complete(*words):
        ask = f'COMP_WORDS=(jamendo-mood {" ".join(words)}); COMP_CWORD={len(words)}; COMP_LINE="${{COMP_WORDS[*]}}"'
        ask += "; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; _shtab_jamendo_mood; printf '%s\\n' \"${COMPREPLY[@]}\""
        command = ["bash", "--norc", "-c", f"{script}\n{ask}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert complete("pl") == ["playlist"]
    assert complete("tag", "--pl") == ["--places"]
    assert set(complete("weights", "")) >= {"vggish", "yamnet", "musicnn"}
    for shell in ("zsh", "fish"):
        assert "playlist" in run("completion", shell).out


def test_wrong_use_is_one_line_in_a_process_of_its_own(tmp_path, tagger_folder, run_apart):
    """Nothing that TensorFlow or the interpreter says at its end comes along."""
    outcome = run_apart("train", "--task", "jazz", "--data", tmp_path, "--out", tmp_path / "tagger")
    outcome.check_error("train", "unknown task 'jazz'")


def test_output_that_cannot_be_written_is_one_line():
    command = [sys.executable, "-m", "jamendo_mood", "tasks"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "jamendo-mood tasks: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("verify store", "the same command starts again from the beginning"),
        (
            "extract songs --store s",
            "what was finished is kept, the tracks in hand are not, and the same command continues",
        ),
    ],
)
def test_what_a_library_makes_of_a_signal_is_told_as_the_signal_with_what_is_kept(run, monkeypatch, words, kept):
    def fail(_):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise AssertionError("contexts were not left in order") from None

    command, *rest = words.split()
    monkeypatch.setitem(COMMANDS, command, COMMANDS[command]._replace(run=fail))
    outcome = run(command, *rest)
    assert (outcome.status, outcome.err.count("\n")) == (143, 1)
    assert outcome.err.startswith(f"terminated; {kept}")


# ---- extract.


def test_extract_writes_an_embedding_for_each_track_and_then_skips_it(run, songs, tmp_path, logmel):
    store, scratch = tmp_path / "s", ("--scratch", tmp_path / "scratch")
    outcome = extract(run, songs, store, *scratch)
    assert (outcome.status, outcome.out.count("\n")) == (0, 1)
    assert outcome.out.startswith(f"{store}: 4 tracks embedded, 0 were there already, 0 failed; 0.8 min of")
    assert EmbeddingStore(store).spec == logmel.spec
    shapes = {key: frames.shape for key, frames in EmbeddingStore(store).items()}
    assert shapes == dict.fromkeys(keys_of(songs), (12, 128))
    assert list((tmp_path / "scratch").iterdir()) == []
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.npy")}
    again = extract(run, songs, store, *scratch)
    assert (again.status, again.err) == (0, "")
    assert "0 tracks embedded, 4 were there already, 0 failed" in again.out
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.npy")} == before


def test_a_file_of_noise_fails_and_the_others_are_done(run, songs, tmp_path):
    bad, store = songs / "00" / "1000.mp3", tmp_path / "s"
    good = bad.read_bytes()
    bad.write_bytes(np.random.default_rng(0).bytes(50_000))
    outcome = extract(run, songs, store)
    assert outcome.status == 1
    assert "3 tracks embedded, 0 were there already, 1 failed" in outcome.out
    assert re.search(r"^failed, see .*failures\.tsv; --retry-failed.*\n  00/1000: .*1000\.mp3: ", outcome.err, re.M)
    assert set(EmbeddingStore(store)) == keys_of(songs) - {"00/1000"}
    bad.write_bytes(good)
    assert extract(run, songs, store).status == 1  # what failed once is not tried again, and not forgotten
    assert extract(run, songs, store, "--retry-failed").status == 0
    assert set(EmbeddingStore(store)) == keys_of(songs)


def test_a_limit_takes_the_first_and_shards_are_together_everything(run, songs, tmp_path):
    assert extract(run, songs, tmp_path / "s", "--limit", "3").status == 0
    assert set(EmbeddingStore(tmp_path / "s")) == set(sorted(keys_of(songs))[:3])
    counts = []
    for index in ("1/2", "2/2"):
        assert extract(run, songs, tmp_path / "shards", "--shard", index).status == 0
        counts.append(len(EmbeddingStore(tmp_path / "shards")))
    assert 0 < counts[0] < counts[1] == 4
    for key in keys_of(songs) - {"00/1000"}:
        (songs / f"{key}.mp3").unlink()
    outcomes = [extract(run, songs, tmp_path / "one", "--shard", f"{index}/2") for index in (1, 2)]
    assert sorted(outcome.status for outcome in outcomes) == [0, 2]
    max(outcomes, key=lambda outcome: outcome.status).check_error("extract", "no tracks are left to embed")


def test_only_the_tracks_of_the_table_are_taken_and_those_without_a_file_are_listed(run, songs, tmp_path):
    table = tmp_path / "t.tsv"
    rows = (f"t\ta\tb\t{key}.mp3\t12.0\tmood/theme---sad\n" for key in ("02/1002", "77/77", "00/1000"))
    header = "\t".join(jamendo.COLUMNS) + "\n"
    table.write_text(header + "".join(rows), newline="\r\n")  # as MTG's own
    assert extract(run, songs, tmp_path / "s", "--tracks", table, "--limit", "1").status == 0
    assert set(EmbeddingStore(tmp_path / "s")) == {"02/1002"}  # the first of the table
    outcome = extract(run, songs, tmp_path / "s", "--tracks", table)
    assert set(EmbeddingStore(tmp_path / "s")) == {"02/1002", "00/1000"}
    assert outcome.status == 1
    assert "1 tracks embedded, 1 were there already, 0 failed" in outcome.out
    assert "1 tracks of the table have no audio file:\n  77/77\n" in outcome.err


def test_the_script_is_the_command(run, songs, tmp_path):
    arguments = ("--embedder", "logmel", "--limit", "2")
    script = [sys.executable, str(ROOT / "scripts" / "extract_embeddings.py"), str(songs)]
    subprocess.run([*script, "--store", str(tmp_path / "script"), *arguments], capture_output=True, check=True)
    assert run("extract", songs, "--store", tmp_path / "command", *arguments).status == 0
    assert contents(tmp_path / "script") == contents(tmp_path / "command")


def test_without_vggish_weights_it_stops_and_names_the_ways_to_get_them(run, songs, tmp_path, monkeypatch, empty_cache):
    command = ("extract", songs, "--store", tmp_path / "s")
    offline = run(*command, "--offline")
    offline.check_error("extract", "VGGish's weights are not here")
    nowhere = {"http://127.0.0.1:9/vggish": next(iter(vggish.WEIGHTS.sources.values()))}
    monkeypatch.setattr(vggish, "WEIGHTS", replace(vggish.WEIGHTS, sources=nowhere))
    monkeypatch.setattr(remote, "Link", partial(remote.Link, sleep=lambda _: None))
    online = run(*command)
    assert online.status == 2
    assert "  http://127.0.0.1:9/vggish: Connection refused" in online.err
    ways = ("https://tfhub.dev/google/vggish/1", "TFHUB_CACHE_DIR", vggish.WEIGHTS.variable, "--weights FOLDER")
    for way in (*ways, "--weights vggish_model.ckpt", "--embedder logmel"):
        assert way in offline.err.splitlines()[-1]
        assert way in online.err.splitlines()[-1]
    assert not (tmp_path / "s").exists()


# ---- train, evaluate.


@pytest.fixture
def where(corpus, corpus_store):
    """The options that name the corpus and its embeddings."""
    return ("--data", corpus.root, "--store", corpus_store.root)


@pytest.fixture
def tables(corpus, tmp_path):
    """The corpus's tables, to be changed."""
    return shutil.copytree(corpus.root, tmp_path / "data", ignore=shutil.ignore_patterns("audio"))


@pytest.fixture
def lacking(corpus, corpus_store, tmp_path):
    """A store without two tracks of the test part."""
    store = EmbeddingStore(tmp_path / "lacking", corpus_store.spec)
    missing = {corpus.dataset.tracks[row].key for row in corpus.dataset.rows("test")[:2]}
    for key in set(corpus_store) - missing:
        store.add(key, corpus_store[key])
    return store.root


@pytest.fixture(scope="module")
def training(corpus, corpus_store, tmp_path_factory):
    """A tagger's folder, which the command trained in two epochs, its exit status, and what it printed where."""
    folder = tmp_path_factory.mktemp("cli") / "tagger"
    data = ["--data", str(corpus.root), "--store", str(corpus_store.root)]
    out, err = io.StringIO(), io.StringIO()
    options = ["--head", "attention", "--epochs", "2", "--seed", "3", "--ensemble", "2"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["train", "--task", "jamendo", *data, "--out", str(folder), *options])
    return folder, status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained(training):
    folder, status, *_ = training
    assert status == 0
    return folder


def test_train_reports_its_epochs_and_writes_a_tagger(training):
    folder, status, out, err = training
    assert status == 0
    summary = rf"{folder}: 2 attention heads for 5 tags, on frames of logmel .*; best epoch \d, \d, validation "
    assert re.match(summary, out)
    assert out.count("\n") == 1
    assert re.findall(r"^head ./2, epoch +(\d+)/2  loss [\d.]+  validation PR-AUC-macro", err, re.M) == list("1212")
    record = Tagger.load(folder).record
    assert record["split"] == 0
    assert record["config"]["seed"] == 3
    assert "CC BY-NC-SA" in record["licence"]


def test_evaluate_prints_one_json_object_with_the_official_names(run, corpus, where, trained, tmp_path):
    outcome = run("evaluate", trained, *where, "--format", "json", "--out", tmp_path / "report")
    assert (outcome.status, outcome.err) == (0, f"{tmp_path / 'report' / 'report.html'} written\n")
    values = json.loads(outcome.out)
    assert {"PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro", "F-score-macro"} < set(values)
    for name in ("PR-AUC-macro", "ROC-AUC-macro"):
        low, high = values["intervals"][name]
        assert 0 <= low <= values[name] <= high <= 1
    assert values["examples"] == len(corpus.dataset.rows("test"))
    assert [row["tag"] for row in values["per_target"]] == list(corpus.dataset.task.targets)
    assert json.loads((tmp_path / "report" / "scores.json").read_text()) == values
    assert (tmp_path / "report" / "per_target.csv").is_file()
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"{values['PR-AUC-macro']:.4f}" in page
    assert str(trained) in page
    table = run("evaluate", trained, *where)
    assert f"PR-AUC-macro     {values['PR-AUC-macro']:.6f}  [" in table.out
    for tag in corpus.dataset.task.targets:
        assert re.search(rf"^ *{tag} ", table.out, re.M)


def test_another_part_or_split_can_be_evaluated(run, corpus, corpus_store, where, trained, tables, caplog):
    values = json.loads(run("evaluate", trained, *where, "--format", "json", "--part", "validation").out)
    assert values["examples"] == len(corpus.dataset.rows("validation"))
    assert values["PR-AUC-macro"] == pytest.approx(Tagger.load(trained).scores["PR-AUC-macro"], abs=1e-9)
    assert caplog.messages == []
    shutil.copytree(tables / "splits" / "split-0", tables / "splits" / "split-1")
    assert run("evaluate", trained, "--data", tables, "--store", corpus_store.root, "--split", "1").status == 0
    assert caplog.messages == ["trained on split 0, whose training tracks may be in split 1"]


@pytest.mark.thorough
def test_tracks_that_are_not_embedded_are_warned_of(corpus, lacking, trained, run_apart):
    outcome = run_apart("evaluate", trained, "--data", corpus.root, "--store", lacking, "--format", "json")
    assert outcome.status == 0
    count = len(corpus.dataset.rows("test"))
    assert json.loads(outcome.out)["examples"] == count - 2
    assert outcome.err == f"warning: part test: 2 of {count} tracks are not in the store and are left out\n"


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    ("task", "options", "least"),
    [
        # about as well as a logistic regression on the same features, 0.209 and 0.854
        ("audioset-moods", ("--head", "linear", "--single-task"), {"PR-AUC-macro": 0.195, "ROC-AUC-macro": 0.86}),
        ("audioset-moods", ("--seed", "0"), {"PR-AUC-macro": 0.235, "ROC-AUC-macro": 0.885}),
        ("audioset", ("--seed", "0"), {"PR-AUC-macro": 0.29, "Brier-skill-macro": 0.166}),
    ],
)
def test_the_defaults_reach_what_frozen_vggish_allows(run, shared, tmp_path, task, options, least):
    data = ("--data", shared / "data" / "audioset")
    assert run("train", "--task", task, *data, "--out", tmp_path / "t", *options).status == 0
    given = ("--part", "eval_public", "--format", "json", "--rounds", "0")
    values = json.loads(run("evaluate", tmp_path / "t", *data, *given).out)
    assert all(values[name] >= figure for name, figure in least.items())
    if task == "audioset":
        assert values["ECE"] < 0.015
    else:
        assert values["examples"] == 2_932


def test_recordings_under_two_names_are_refused_dropped_or_kept(run, corpus, corpus_store, tables, tmp_path, caplog):
    """MTG's list of checksums says that a training track is a test track under another name."""
    keys = [corpus.dataset.tracks[corpus.dataset.rows(part)[0]].key for part in ("train", "test")]
    (tables / jamendo.CHECKSUMS_NAME).write_text("".join(f"{'f00d' * 16} {key}.low.mp3\n" for key in keys))
    usual = ("train", "--task", "jamendo", "--data", tables, "--store", corpus_store.root, "--epochs", "1")
    usual += ("--head", "linear")
    outcome = run(*usual, "--out", tmp_path / "refused")
    outcome.check_error("train", f"bit-identical audio in training and test: '{keys[0]}' and '{keys[1]}'")
    assert not (tmp_path / "refused").exists()
    for policy, left_out in (("drop", 1), ("keep", 0)):
        assert run(*usual, "--out", tmp_path / policy, "--leaks", policy).status == 0
        count = Tagger.load(tmp_path / policy).record["tracks"]["train"]
        assert count == len(corpus.dataset.rows("train")) - left_out
    assert caplog.messages.count("left out, as a later part has them too: 1 track") == 1


def test_mediaevals_files_score_as_the_evaluation_did(run, corpus, where, trained, tmp_path):
    folder = tmp_path / "m"
    outcome = run("evaluate", trained, *where, "--format", "json", "--mediaeval", folder, "--rounds", "0")
    values = json.loads(outcome.out)
    assert "intervals" not in values  # for --rounds 0
    files = ("--truth", folder / "groundtruth.npy", "--predictions", folder / "predictions.npy", "--format", "json")
    for option, file in (("--thresholds", "thresholds.txt"), ("--decisions", "decisions.npy")):
        again = json.loads(run("score", *files, option, folder / file).out)
        del again["per_target"]
        assert again.items() <= values.items()
    lines = (folder / "thresholds.txt").read_text().splitlines()
    official = (corpus.root / "moodtheme_split.txt").read_text().split()
    assert [line.split("\t")[0] for line in lines] == official
    truth = np.load(folder / "groundtruth.npy")
    np.testing.assert_array_equal(truth, corpus.dataset.targets[corpus.dataset.rows("test")] > 0)


def test_mediaevals_files_need_every_track_and_the_task(run, corpus, lacking, trained, tmp_path):
    usual = ("--data", corpus.root, "--store", lacking, "--mediaeval", tmp_path / "m")
    outcome = run("evaluate", trained, *usual)
    assert outcome.status == 2
    assert "MediaEval's files need every track of part 'test'" in outcome.err
    manifest = shutil.copytree(trained, tmp_path / "other") / "tagger.json"
    manifest.write_text(manifest.read_text().replace('"name": "jamendo"', '"name": "jamendo-59"'))
    run("evaluate", tmp_path / "other", *usual).check_error("evaluate", "MediaEval's files are those of task jamendo")
    assert not (tmp_path / "m").exists()


def test_an_ensemble_and_settings_reach_the_training(run, where, tmp_path):
    options = ("--ensemble", "1", "--head", "mlp", "--pooling", "mean", "--set", "hidden=16", "--set", "mixup=0")
    outcome = run("train", "--task", "jamendo", *where, "--out", tmp_path / "t", "--epochs", "1", *options)
    assert outcome.status == 0
    assert outcome.out.startswith(f"{tmp_path / 't'}: mlp head for 5 tags")
    assert "epoch  1/1" in outcome.err
    tagger = Tagger.load(tmp_path / "t")
    assert len(tagger.weights) == 1 < TrainConfig.for_head("mlp").ensemble
    assert (tagger.head.pooling, tagger.head.hidden) == ("mean", 16)
    assert tagger.record["config"]["augment"]["mixup"] == 0
    assert "Mood tagger: jamendo" in (tmp_path / "t" / "README.md").read_text()


def test_without_a_tagger_the_built_in_one_is_used(run, tmp_path):
    """On embeddings like AudioSet's, which need no weights."""
    store = EmbeddingStore(tmp_path / "s", audioset.SPEC)
    store.add("a/b", np.random.default_rng(0).integers(0, 256, (20, 128)).astype(np.float32))
    outcome = run("tag", tmp_path / "s", "--format", "json")
    assert outcome.status == 0
    assert "the tagger audioset that comes with jamendo-mood: AudioSet's 7 music moods" in outcome.err
    (song,) = json.loads(outcome.out)["results"]
    assert len(song["targets"]) == 7
    assert {tag["reliability"] for tag in song["targets"]} <= {"good", "fair", "weak", "unknown"}


def test_the_built_in_tagger_says_what_a_song_needs(run, songs, monkeypatch):
    monkeypatch.setenv("JAMENDO_MOOD_VGGISH", "/none")
    outcome = run("tag", songs)
    assert outcome.status == 2
    assert "/none" in outcome.err.splitlines()[-1]


# ---- score.


def test_score_by_decisions_and_by_thresholds(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictions = np.array([[0.2, 0.5], [0.5, 0.1], [0.9, 0.6], [0.1, 0.4]])
    np.save("p.npy", predictions)
    np.save("truth.npy", np.array([[0, 1], [1, 0], [1, 1], [0, 0]]))
    Path("t.txt").write_text("calm\t0.5\ndark\t0.6\n")
    usual = ("--truth", "truth.npy", "--predictions", "p.npy", "--format", "json")
    for option, reached in ((), predictions >= [0.5, 0.6]), (("--official",), predictions > [0.5, 0.6]):
        np.save("d.npy", reached)
        outcome = run("score", *usual, "--thresholds", "t.txt", *option)
        assert outcome.err.count("as published: ") == (len(QUIRKS) if option else 0)
        by_thresholds = json.loads(outcome.out)
        by_decisions = json.loads(run("score", *usual, "--decisions", "d.npy").out)
        rows, others = by_thresholds.pop("per_target"), by_decisions.pop("per_target")
        assert by_decisions.items() <= by_thresholds.items()
        assert [(row["tag"], row["threshold"]) for row in rows] == [("calm", 0.5), ("dark", 0.6)]
        assert [row["tag"] for row in others] == ["tag 0", "tag 1"]
        recall = (reached[[1, 2], 0].mean() + reached[[0, 2], 1].mean()) / 2
        assert by_decisions["recall-macro"] == pytest.approx(recall)


@pytest.mark.shared
def test_score_gives_the_official_figures_of_the_baseline(run, shared):
    folder = shared / "data" / "jamendo" / "mediaeval"
    given = ("--truth", folder / "groundtruth.npy", "--predictions", folder / "baseline_vggish_predictions.npy")
    outcome = run("score", *given, "--format", "json")
    assert (outcome.status, outcome.err) == (0, "")
    values = json.loads(outcome.out)
    figures = {"ROC-AUC-macro": 0.725821, "PR-AUC-macro": 0.107734, "ROC-AUC-micro": 0.775029, "PR-AUC-micro": 0.140913}
    assert {name: round(values[name], 6) for name in figures} == figures
    published = dict(line.split("\t") for line in (folder / "baseline_vggish_results.tsv").read_text().splitlines())
    assert len(published) == 10
    given += ("--thresholds", folder / "baseline_vggish_thresholds.txt", "--format", "json")
    outcome = run("score", *given, "--official")
    assert outcome.err.count("as published: ") == 3
    decided = json.loads(outcome.out)
    assert {name: f"{decided[name]:.6f}" for name in published} == published
    # Its script decides above its thresholds, though it found them as lowest scores to be decided.
    at_least = json.loads(run("score", *given).out)
    other = {name for name in published if f"{at_least[name]:.6f}" != published[name]}
    assert other == {f"{name}-{kind}" for name in ("precision", "recall", "F-score") for kind in ("macro", "micro")}


@pytest.mark.thorough
def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-m", "jamendo_mood", "tasks"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=120) == 0


# ---- tag.


def test_a_file_a_folder_and_a_store_give_the_same_tags(run, songs, corpus, corpus_store, tagger_folder, tmp_path):
    store = EmbeddingStore(tmp_path / "s", corpus_store.spec)
    for song in corpus.songs[:5]:  # of which the folder has four
        key = song.path.removesuffix(".mp3")
        store.add(key, corpus_store[key])

    def tags(*arguments):
        outcome = run("tag", *arguments, "--tagger", tagger_folder, "--format", "json", "--top", "3", "--timeline")
        assert outcome.status == 0
        described = {Path(song["file"]).with_suffix("").name: song for song in json.loads(outcome.out)["results"]}
        return {name: (song["targets"], song["timeline"]) for name, song in described.items()}

    of_store = tags(store.root)
    of_folder = tags(songs)
    assert len(of_folder) == 4
    assert of_folder.items() < of_store.items()
    assert tags(songs / "00" / "1000.mp3") == {"1000": of_folder["1000"]}
    assert len(of_folder["1000"][0]) == 3
    assert len(of_folder["1000"][1]["times_s"]) == 12


def test_tags_come_in_the_order_of_the_files_given_with_title_and_artist(run, corpus, songs, tagger_folder):
    files = [songs / "03" / "1003.mp3", songs / "01" / "1001.mp3", songs / "03" / "1003.mp3"]
    outcome = run("tag", *files, "--tagger", tagger_folder, "--format", "json")
    songs = json.loads(outcome.out)["results"]
    assert [song["file"] for song in songs] == [str(files[0]), str(files[1])]
    title = f"Study in {' and '.join(corpus.songs[3].moods)} no. 1003"
    assert (songs[0]["title"], songs[0]["artist"]) == (title, "Synthetic artist 1")
    assert re.search(r"24 s of sound decoded, embedded and scored in [\d.]+ s", outcome.err)


@pytest.mark.thorough
def test_a_bad_file_among_good_ones_is_told_on_stderr_alone(songs, tagger_folder, tmp_path, run_apart):
    """In a process of its own, so that everything TensorFlow might say would be seen."""
    bad = tmp_path / "bad.mp3"
    bad.write_text("no music")
    good = songs / "00" / "1000.mp3"
    outcome = run_apart("tag", good, bad, "--tagger", tagger_folder, "--format", "json")
    assert outcome.status == 1
    assert [song["file"] for song in json.loads(outcome.out)["results"]] == [str(good)]
    lines = [line for line in re.split(r"[\r\n]+", outcome.err) if line.strip() and "track" not in line]
    assert len(lines) == 2
    assert lines[0].startswith(f"failed: {bad}: not a readable audio file")
    assert re.fullmatch(r"12 s of sound decoded, embedded and scored in [\d.]+ s \(\d+x real time\)", lines[1])


# ---- compare.


def test_compare_tells_the_better_of_two_taggers(run, where, lacking, trained, tagger_folder):
    arguments = ("compare", tagger_folder, trained, *where, "--rounds", 50)
    found = json.loads(run(*arguments, "--format", "json").out)
    outcome = run(*arguments)
    assert outcome.status == 0
    lines = {line.split()[0]: line for line in outcome.out.splitlines()[1:]}
    assert lines.keys() == found.keys() > {"PR-AUC-macro", "ROC-AUC-micro", "F-score-macro", "hit@3", "ECE"}
    for name, row in found.items():
        low, high = sorted(end * (-1 if name in LOWER_IS_BETTER else 1) for end in row["interval"])
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
        assert f" {row['difference']:+.6f}  [" in lines[name]
        verdict = "A is better" if low > 0 else "B is better" if high < 0 else "no clear difference"
        assert lines[name].endswith(f": {verdict}")
    for line in run("compare", trained, trained, *where, "--rounds", 20).out.splitlines()[1:]:
        assert line.endswith("+0.000000  [0.0000, 0.0000]  A higher in 0%: no clear difference")
    outcome = run(*arguments, "--second-store", lacking)
    assert outcome.status == 2
    assert "do not hold the same tracks" in outcome.err


# ---- spectrogram.


def read_picture(path):
    with PIL.Image.open(path) as picture:
        return picture.mode, picture.size, np.asarray(picture).copy()


@pytest.mark.parametrize(
    ("seconds", "options", "shown"),
    [
        (119.0, (), "119.0 s of {} from 0 s on, 11898 columns"),
        (130.0, (), "60.0 s of {} from 60 s on, 5998 columns"),
        (130.0, ("--start", 125), "5.0 s of {} from 125 s on, 498 columns"),
        (130.0, ("--duration", 4), "4.0 s of {} from 0 s on, 398 columns"),
    ],
)
def test_a_minute_a_whole_file_or_a_stretch_is_drawn(run, make_audio, noise, tmp_path, seconds, options, shown):
    source = make_audio(tmp_path / "noise.wav", noise(seconds), rate_hz=16_000)
    outcome = run("spectrogram", source, tmp_path / "noise.png", "--bare", "--grey", *options)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"{tmp_path / 'noise.png'}: {shown.format(source)} of 0.01 s\n"
    assert read_picture(tmp_path / "noise.png")[:2] == ("L", (int(shown.split()[-2]), 64))


@pytest.mark.parametrize("grey", [False, True])
def test_a_spectrogram_has_axes_unless_bare_and_colours_unless_grey(run, corpus, tmp_path, grey):
    for kind, options in (("plot", ()), ("bare", ("--bare",))):
        path = tmp_path / "new folder" / f"{kind}.PNG"
        assert run("spectrogram", corpus.path(0), path, *options, *["--grey"] * grey).status == 0
        mode, (width, height), pixels = read_picture(path)
        assert mode == ("RGBA" if kind == "plot" else "L" if grey else "RGB")
        assert (width > 1000 and height > 400) if kind == "plot" else (width, height) == (1205, 64)
        assert mode == "L" or (np.ptp(pixels[:, :, :3].astype(int), axis=2).max() == 0) == grey


def test_spectrograms_of_a_folder_go_on_where_they_stopped(run, songs, tmp_path):
    noise, out = songs / "01" / "noise.mp3", tmp_path / "pictures"
    noise.write_bytes(b"no sound")
    outcome = run("spectrogram", songs, out, "--bare")
    assert (outcome.status, outcome.out) == (1, f"{out}: 4 pictures drawn, 0 were there already, 1 failed\n")
    assert "noise.mp3: not a readable audio file" in outcome.err
    drawn = contents(out)
    assert drawn.keys() == {f"{key}.png" for key in keys_of(songs)} - {"01/noise.png"}
    outcome = run("spectrogram", noise, tmp_path / "noise.png")
    assert (outcome.status, outcome.out) == (1, "")
    assert "noise.mp3: not a readable audio file" in outcome.err
    assert not (tmp_path / "noise.png").exists()
    noise.unlink()
    (out / "00" / "1000.png").unlink()
    outcome = run("spectrogram", songs, out, "--bare")
    assert (outcome.status, outcome.out) == (0, f"{out}: 1 pictures drawn, 3 were there already, 0 failed\n")
    assert contents(out) == drawn
    outcome = run("spectrogram", songs, tmp_path / "late", "--start", 60)
    assert (outcome.status, outcome.err.count("it ends before 60 s")) == (1, 4)


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (("history", "--plot", "a.png"), "matplotlib", "notebook"),
        (("spectrogram", __file__, "a.png"), "matplotlib", "notebook"),
        (("completion", "bash"), "shtab", "completion"),
    ],
)
def test_what_a_command_needs_is_told_with_how_to_install_it(run, monkeypatch, tmp_path, words, package, extra):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    mood_log.remember([mood_log.wish_for(Place(0.5, 0.5), "at", mood_log.now())])
    monkeypatch.setitem(sys.modules, package, None)
    run(*words).check_error(words[0], rf"{package}.*pip install jamendo-mood\[{extra}\]")


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_store_is_gone_on_with_in_its_precision(run, songs, stub_embedder, tmp_path, monkeypatch, precision):
    asked = []

    def load(options):
        asked.append(options.precision)
        raise UsageError("far enough")

    monkeypatch.setattr(vggish, "load_vggish", load)
    store = tmp_path / "store"
    for extra in ((), ("--precision", "float32")):
        run("extract", songs, "--store", store, *extra)
        EmbeddingStore(store, replace(stub_embedder.spec, name="vggish", precision=precision))
        run("extract", songs, "--store", store, *extra)
    assert asked == ["auto", precision, "float32", "float32"]
