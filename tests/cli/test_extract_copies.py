"""`extract --augment` and `train --augmented` as their users meet them."""

import json

import numpy as np
import pytest

from jamendo_mood.cli.main import main
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.augmentation import make_key, split_key
from jamendo_mood.training.model import Tagger

pytest_plugins = ["demo_corpus", "toy_commands"]


@pytest.fixture(scope="module")
def copied(corpus, tmp_path_factory):
    """A store of two copies of each training track, as the command made it."""
    store = tmp_path_factory.mktemp("copies") / "logmel"
    what = ["--task", "jamendo", "--data", str(corpus.root), "--augment", "2"]
    assert main(["extract", str(corpus.audio), "--store", str(store), "--embedder", "logmel", *what]) == 0
    return EmbeddingStore(store)


def keys_of(corpus, part):
    return {corpus.dataset.tracks[row].key for row in corpus.dataset.rows(part)}


def extract(run, corpus, store, *options):
    return run("extract", corpus.audio, "--store", store, "--embedder", "logmel", *options)


def test_each_training_track_is_copied_and_no_two_copies_are_alike(corpus, corpus_store, copied):
    assert set(copied) == {make_key(key, number) for key in keys_of(corpus, "train") for number in (1, 2)}
    assert copied.spec.variant.startswith("augmented: snr_db 15 to 40")
    for key in sorted(copied)[:6]:
        original, number = split_key(key)
        twin = copied[make_key(original, 3 - number)]
        count = min(len(copied[key]), len(corpus_store[original]), len(twin))
        for other in (corpus_store[original], twin):
            assert np.abs(copied[key][:count] - other[:count]).mean() > 0.02


def test_it_goes_on_where_it_stopped_and_more_copies_may_follow(run, corpus, copied, tmp_path):
    what = ("--task", "jamendo", "--data", corpus.root, "--limit", 3)
    assert "3 tracks embedded" in extract(run, corpus, tmp_path / "s", *what, "--augment", 1).out
    outcome = extract(run, corpus, tmp_path / "s", *what, "--augment", 2)
    assert "3 tracks embedded, 3 were there already, 0 failed" in outcome.out
    for key, frames in EmbeddingStore(tmp_path / "s").items():
        np.testing.assert_array_equal(frames, copied[key])


def test_a_tagger_learns_from_copies_and_takes_tracks(run, corpus, corpus_store, copied, tmp_path):
    data = ("--data", corpus.root)
    usual = ("--task", "jamendo", *data, "--store", corpus_store.root, "--head", "linear", "--epochs", 4)
    for name, more in (("plain", ()), ("augmented", ("--augmented", copied.root))):
        outcome = run("train", *usual, "--out", tmp_path / name, *more)
        assert outcome.status == 0, outcome.err
    plain, augmented = (Tagger.load(tmp_path / name) for name in ("plain", "augmented"))
    assert augmented.spec == plain.spec == corpus_store.spec
    for name in ("tracks", "positives"):  # copies are no tracks
        assert augmented.record[name] == plain.record[name]
    assert any(not np.array_equal(*pair) for pair in zip(plain.weights[0], augmented.weights[0], strict=True))
    found = run("evaluate", tmp_path / "augmented", *data, "--store", corpus_store.root, "--format", "json")
    assert json.loads(found.out)["PR-AUC-macro"] > 0.5
    refused = run("evaluate", tmp_path / "augmented", *data, "--store", copied.root)
    assert refused.status == 2
    assert "this tagger needs embeddings of logmel" in refused.err


def test_copies_are_not_taken_for_tracks_nor_share_their_store(run, corpus, corpus_store, copied, tmp_path):
    before = set(corpus_store)
    task = ("--task", "jamendo", "--data", corpus.root)
    training = ("train", *task, "--out", tmp_path / "t")
    extracting = ("extract", corpus.audio, *task, "--embedder", "logmel", "--augment", 1)
    for arguments, message in (
        ((*training, "--store", copied.root), "tracks of part 'train' is in the store"),
        ((*training, "--store", corpus_store.root, "--augmented", corpus_store.root), "these are not copies"),
        ((*extracting, "--store", corpus_store.root), "use another folder for these"),
    ):
        run(*arguments).check_error(arguments[0], message)
    assert not (tmp_path / "t").exists()
    assert set(corpus_store) == before
