"""`similar` and `playlist` as their users meet them, and `tag` where no tagger is named; more of it in test_main.py."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.embedders import musicnn
from jamendo_mood.library.similarity import open_library
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import find_emotion
from jamendo_mood.training import model

pytest_plugins = ["demo_corpus", "toy_commands"]


def keys(found):
    return [track.key for track in found]


# ---- similar


def test_similar_finds_what_the_library_finds(ask, corpus, library):
    key = library.keys[0]
    outcome = ask("similar", key, "--count", 5, "--audio", corpus.audio)
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert [line.split()[2] for line in lines] == keys(library.similar(key, 5))
    row = re.compile(r"\d  [01]\.\d{3}  \d\d/\d+  Synthetic artist .*\(0:\d\d\)  +\w+ [01]\.\d\d, ")
    assert all(map(row.match, lines))


def test_an_audio_file_is_found_by_its_sound(ask, corpus, library, tmp_path):
    song = corpus.songs[3]
    copy = shutil.copy(corpus.path(3), tmp_path / "new.mp3")
    key = song.path.removesuffix(".mp3")
    for path, audio, why in (
        (copy, (), "the same sound"),
        (copy, ("--audio", corpus.audio), "the same sound"),
        (corpus.path(3), ("--audio", corpus.audio), "the same file"),
        (corpus.path(3), (), "the same sound"),
    ):
        outcome = ask("similar", path, "--count", 5, "--format", "json", *audio)
        assert outcome.keys == keys(library.similar(key, 5))  # without itself, as by its key
        assert f"{key} is left out: it is the song itself ({why})" in outcome.err
    assert "left out" not in ask("similar", key, "--count", 5).err


def test_similar_needs_no_tagger_but_embeddings_of_its_kind(run, corpus, corpus_store, library, tmp_path):
    key = library.keys[0]
    outcome = run("similar", key, "--store", corpus_store.root, "--format", "json", "--count", 3)
    assert outcome.keys == keys(library.similar(key, 3))
    assert "without tags" in outcome.err
    assert all(track["tags"] == [] for track in json.loads(outcome.out))
    store = EmbeddingStore(tmp_path / "store", replace(corpus_store.spec, variant="thresholds lower"))
    store.add("a", np.ones((2, store.spec.dim), np.float32))
    outcome = run("similar", corpus.path(0), "--store", store.root)
    assert outcome.status == 2
    assert "thresholds lower), which cannot be compared to logmel (128 numbers every 0.96 s)" in outcome.err


def test_songs_that_two_stores_have_are_listed(run, corpus_store, tmp_path):
    first, second, *_ = sorted(corpus_store)
    other = EmbeddingStore(tmp_path / "other", corpus_store.spec)
    other.add("mine", corpus_store[first])
    other.add("near", corpus_store[second] + 0.01)
    stores = ("--store", corpus_store.root, "--across", other.root)
    outcome = run("similar", *stores)
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == ["0.000", first, "mine"]
    assert lines[1][1:] == [second, "near"]
    assert re.search(rf"{len(lines)} pairs of {len(corpus_store)} x 2 tracks, \d+ of them the same sound", outcome.err)
    as_json = json.loads(run("similar", *stores, "--format", "json").out)
    assert [(pair["track"], pair["other"]) for pair in as_json] == [(mine, theirs) for _, mine, theirs in lines]
    assert len(run("similar", *stores, "--count", 1).out.splitlines()) == 1
    table = tmp_path / "pairs.csv"
    assert run("similar", *stores, "--out", table).out == ""
    assert table.read_text().splitlines()[:2] == ["track,other,apart", f"{first},mine,0.0000"]
    unlike = EmbeddingStore(tmp_path / "unlike", replace(corpus_store.spec, variant="thresholds lower"))
    run("similar", *stores[:2], "--across", unlike.root).check_error("similar", "thresholds lower")
    run("similar", *stores, "--format", "m3u8", "--audio", tmp_path).check_error("similar", "--across lists pairs")
    run("similar", first, *stores).check_error("similar", "not allowed with argument")
    run("similar", *stores[:2]).check_error("similar", "one of the arguments TRACK --across is required")


# ---- playlist

SERENITY, GRIEF, JOY = (find_emotion(name).place for name in ("serenity", "grief", "joy"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--mood", "sad=1", "--mood", "DARK=0.2"], lambda library: library.by_moods({"sad": 1, "dark": 0.2}, 6)),
        (["--at", "-0.6,-0.4"], lambda library: library.near(-0.6, -0.4, 6)),
        (["--at", "-0.6,-0.4", "--to", "-.1,0.5"], lambda library: library.along([(-0.6, -0.4), (-0.1, 0.5)], 6)),
        (["--emotion", "serenity"], lambda library: library.near(*SERENITY, 6)),
        (["--emotion", "Grief", "--to-emotion", "happy"], lambda library: library.along([GRIEF, JOY], 6)),
        (["--at", "0,0", "--to-emotion", "joy"], lambda library: library.along([(0, 0), JOY], 6)),
    ],
)
def test_a_playlist_by_moods_and_by_places(ask, library, options, expected):
    assert ask("playlist", *options, "--count", 6, "--format", "json").keys == keys(expected(library))


def test_a_playlist_is_written_in_the_format_of_its_name(ask, corpus, tmp_path):
    for form in ("m3u8", "csv", "json", "txt"):
        out = tmp_path / f"list.{form}"
        outcome = ask("playlist", "--mood", "sad=1", "--count", 3, "--audio", corpus.audio, "--out", out)
        assert (outcome.status, outcome.out) == (0, "")
        assert f"{out}: 3 tracks written" in outcome.err
    lines = (tmp_path / "list.m3u8").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U"
    assert all(re.match(r"#EXTINF:\d+,Synthetic artist \d+ - Study in .*sad", line) for line in lines[1::2])
    assert all(Path(line).is_file() for line in lines[2::2])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "list.csv").read_text(encoding="utf-8"))))
    assert [row["file"] for row in rows] == lines[2::2]
    assert len(json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))) == 3
    assert (tmp_path / "list.txt").read_text(encoding="utf-8").startswith("1  ")


def test_a_playlist_among_the_audio_names_files_from_its_folder_on(ask, corpus, tmp_path):
    shutil.copytree(corpus.audio, tmp_path / "music")
    options = ["playlist", "--mood", "sad=1", "--count", 3, "--audio", tmp_path / "music"]
    for where, extra, relative in (
        ("list.m3u8", (), True),
        ("music/list.m3u8", (), True),
        ("music/list.m3u8", ("--no-relative",), False),
        ("lists/list.m3u8", (), False),
        ("lists/list.m3u8", ("--relative",), True),
    ):
        out = tmp_path / where
        assert ask(*options, "--out", out, *extra).status == 0
        lines = out.read_text(encoding="utf-8").splitlines()[2::2]
        assert [line.startswith("/") for line in lines] == [not relative] * 3
        assert all((out.parent / line).is_file() for line in lines)


def test_a_playlist_for_each_mood(ask, corpus, library, corpus_tagger, tmp_path):
    folder = tmp_path / "lists"
    outcome = ask("playlist", "--all", folder, "--audio", corpus.audio)
    assert (outcome.status, outcome.out) == (0, "")
    decided = corpus_tagger.decide(library.scores)
    assert f"{folder}: {decided.any(axis=0).sum()} playlists of {decided.any(axis=1).sum()} tracks" in outcome.err
    sad = library.targets.index("sad")
    lines = (folder / "sad.m3u8").read_text(encoding="utf-8").splitlines()[3::2]
    best = np.argsort(-library.scores[:, sad], kind="stable")[: decided[:, sad].sum()]
    assert lines == [str(library.files[library.keys[row]]) for row in best]
    assert ask("playlist", "--all", folder, "--audio", corpus.audio, "--count", 2).status == 0
    assert (folder / "sad.m3u8").read_text(encoding="utf-8").splitlines()[3::2] == lines[:2]


def test_tracks_without_a_file_are_told(ask, corpus, tmp_path):
    for number in range(3):
        target = tmp_path / corpus.songs[number].path
        target.parent.mkdir(parents=True)
        shutil.copy(corpus.path(number), target)
    total = len(corpus.songs)
    outcome = ask("playlist", "--at", "0,0", "--count", total, "--audio", tmp_path, "--format", "m3u8")
    assert outcome.status == 0
    assert outcome.out.count("#EXTINF") == 3
    assert f"{total - 3} of {total} tracks have no file in {tmp_path} and are left out" in outcome.err


def test_tags_that_cannot_be_relied_on_are_told(run, corpus_store, corpus_tagger, tmp_path):
    replace(corpus_tagger, grades=("weak", *corpus_tagger.grades[1:])).save(tmp_path / "tagger")
    name = corpus_tagger.task.targets[0]
    outcome = run("playlist", "--mood", f"{name}=1", "--store", corpus_store.root, "--tagger", tmp_path / "tagger")
    assert outcome.status == 0
    assert f"{name} is graded weak" in outcome.err


def test_the_built_in_tagger_finds_music_by_its_moods_in_its_own_embeddings(run, corpus_store, tmp_path):
    outcome = run("playlist", "--mood", "happy=1", "--store", corpus_store.root)
    assert (outcome.status, outcome.out) == (2, "")
    assert "the built-in tagger does not know logmel" in outcome.err
    assert "--tagger DIR" in outcome.err
    tagger = model.load_builtin()
    store = EmbeddingStore(tmp_path / "store", tagger.spec)
    rng = np.random.default_rng(0)
    for number in range(6):
        store.add(f"t/{number}", rng.standard_normal((3, tagger.spec.dim), np.float32))
    library = open_library(store, tagger)
    usual = ("playlist", "--store", store.root, "--format", "json")
    assert run(*usual, "--mood", "happy=1").keys == keys(library.by_moods({"Happy music": 1}, 20))
    assert run(*usual, "--at", "0.5,0.5", "--count", 2).keys == keys(library.near(0.5, 0.5, 2))


# ---- no tagger named


@pytest.fixture
def song(corpus):
    return corpus.path(3)


@pytest.fixture
def no_vggish(monkeypatch, empty_cache, seeded_musicnn_wheel):
    """A machine without VGGish's weights and with musicnn's, here of a seed."""
    monkeypatch.setenv("JAMENDO_MOOD_MUSICNN", str(seeded_musicnn_wheel))


def test_without_vggish_the_moods_are_those_of_musicnn(run, song, no_vggish):
    outcome = run("tag", song, "--allow-untrained")
    assert outcome.status == 0
    assert "the tagger musicnn that comes with jamendo-mood, as VGGish's weights are not on this machine" in outcome.err
    rows = [line for line in outcome.out.splitlines() if "█" in line or "(unknown)" in line]
    assert len(rows) == 5
    assert "not calibrated" in outcome.out
    assert " * " not in outcome.out
    outcome = run("tag", song, "--allow-untrained", "--tagger", "musicnn", "--top", 8, "--format", "csv")
    assert "comes with" not in outcome.err, "who names it knows"
    assert [row["above_threshold"] for row in csv.DictReader(io.StringIO(outcome.out))] == ["0"] * 8


def test_scores_of_musicnn_are_its_last_layer_beside_a_typical_song(run, tmp_path, no_vggish, seeded_musicnn_wheel):
    variables = musicnn.read_weights(seeded_musicnn_wheel)
    store = EmbeddingStore(tmp_path / "s", musicnn.spec_of(variables))
    frames = np.random.default_rng(0).standard_normal((20, 200)).astype(np.float32)
    store.add("a/b", frames)
    outcome = run("tag", store.root, "--format", "csv", "--top", 50)
    assert "with the tagger musicnn that comes with jamendo-mood: " in outcome.err
    recipe = json.loads(model.RECIPE.read_text())
    found = {row["tag"]: float(row["score"]) for row in csv.DictReader(io.StringIO(outcome.out))}
    assert found.keys() == set(recipe["targets"])
    for tag, score in found.items():
        column = musicnn.TAGS.index(tag)
        sums = frames @ variables["dense_1/kernel"][:, column] + variables["dense_1/bias"][column]
        mean = np.mean(1 / (1 + np.exp(-sums)))
        slope, offset = recipe["calibration"][tag]
        assert score == pytest.approx(1 / (1 + np.exp(-(np.log(mean / (1 - mean)) * slope + offset))), abs=1e-5)


def test_a_folder_of_that_name_is_the_tagger(run, song, tagger_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tagger_folder, tmp_path / "musicnn")
    outcome = run("tag", song, "--tagger", "musicnn", "--format", "csv")
    assert (outcome.status, "dark" in outcome.out) == (0, True)


def test_the_tagger_says_which_embedder_it_needs(run, song, tagger_folder, seeded_yamnet_module):
    for options, message in (
        (("--tagger", tagger_folder, "--embedder", "yamnet"), "on logmel embeddings.*`extract --embedder yamnet`"),
        (("--tagger", "audioset", "--weights", seeded_yamnet_module), "this is YAMNet; vggish-pca is an embedder by"),
    ):
        run("tag", song, *options).check_error("tag", message)
    assert run("tag", song, "--tagger", tagger_folder, "--embedder", "logmel").status == 0


def test_weights_named_once_need_not_be_named_again(run, song, corpus, seeded_musicnn_wheel, tmp_path, empty_cache):
    named = ("--embedder", "musicnn", "--weights", seeded_musicnn_wheel, "--allow-untrained")
    first = run("extract", song.parent, "--store", tmp_path / "s", "--limit", 1, *named)
    assert "1 tracks embedded" in first.out
    again = run("extract", corpus.audio, "--store", tmp_path / "s", "--limit", 2, "--offline")
    assert again.status == 0, again.err
    assert EmbeddingStore(tmp_path / "s").spec.name == "musicnn"
