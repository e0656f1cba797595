"""Scores of a store, computed once: what is kept, what is added, what is made anew."""

import os
from dataclasses import replace

import numpy as np
import pytest
from damaged_stores import seem_encrypted
from toy_examples import OTHER_SPEC

from jamendo_mood.library import similarity
from jamendo_mood.library.similarity import identify_tagger, score_store
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.model import load_builtin
from jamendo_mood.util.errors import DataError, StoreError, UsageError


@pytest.fixture(scope="module")
def tagger():
    return load_builtin()


@pytest.fixture
def store(tagger, tmp_path):
    store = EmbeddingStore(tmp_path / "store", tagger.spec)
    for number in range(7):
        add(store, f"{number % 3:02d}/{number}", seed=number)
    return store


def add(store, key, seed):
    store.add(key, np.random.default_rng(seed).standard_normal((1 + seed % 4, store.spec.dim), dtype=np.float32))


@pytest.fixture
def scored_tracks(monkeypatch):
    """Which tracks were really scored, two at a time."""
    monkeypatch.setattr(similarity, "BATCH", 2)
    seen = []
    score = similarity._score
    monkeypatch.setattr(
        similarity, "_score", lambda store, tagger, keys: seen.extend(keys) or score(store, tagger, keys)
    )
    return seen


def cache_of(store):
    (path,) = store.root.glob("library-*")
    return path


def check_right(scored, store, tagger):
    assert scored.keys.tolist() == sorted(store)
    for row, key in enumerate(sorted(store)):
        np.testing.assert_allclose(scored.means[row], store[key].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(scored.scores[row], tagger.score_track(store[key]), atol=1e-5)


def test_every_track_is_scored_once(store, tagger, scored_tracks):
    before, progress = list(store), []
    first = score_store(store, tagger, lambda *counts: progress.append(counts))
    check_right(first, store, tagger)
    assert progress == [(2, 7), (4, 7), (6, 7), (7, 7)]
    assert cache_of(store).name == f"library-{identify_tagger(tagger)}.npz"
    assert list(store) == list(EmbeddingStore(store.root)) == before  # the cache is no track
    again = score_store(store, tagger, lambda *counts: progress.append(counts))
    assert len(progress) == 4
    assert len(scored_tracks) == 7
    np.testing.assert_equal(again, first)


def test_tracks_that_come_go_or_change_are_followed(store, tagger, scored_tracks, monkeypatch):
    score_store(store, tagger)
    scored_tracks.clear()
    add(store, "00/00", seed=20)
    (store.root / "01" / "1.npy").unlink()
    add(store, "02/2", seed=21)
    os.utime(store.root / "02" / "2.npy", ns=(1, 1))
    check_right(score_store(store, tagger), store, tagger)
    assert scored_tracks == ["00/00", "02/2"]
    scored_tracks.clear()
    check_right(score_store(store, tagger), store, tagger)
    assert scored_tracks == []
    monkeypatch.setattr(similarity, "FORMAT", similarity.FORMAT + 1)  # a cache of another format is made anew
    check_right(score_store(store, tagger), store, tagger)
    assert len(scored_tracks) == 7


def test_what_was_done_before_an_interruption_is_kept(store, tagger, scored_tracks):
    def interrupt(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_store(store, tagger, interrupt)
    scored_tracks.clear()
    check_right(score_store(store, tagger), store, tagger)
    assert len(scored_tracks) == 3


def pack(path, **arrays):
    np.savez(path, format=similarity.FORMAT, **arrays)


DAMAGES = {
    "flipped": lambda path: path.write_bytes(path.read_bytes().replace(b"NUMPY", b"NUMPX", 1)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "no zip": lambda path: path.write_bytes(b"no zip"),
    "other arrays": pack,
    "no letters": lambda path: pack(path, keys=np.array([0xFFFFFFFF], "u4").view("U1")),
    "other shape": lambda path: pack(path, keys=["a"], stamps=[0], means=np.zeros(3), scores=np.zeros(3)),
    "encrypted": seem_encrypted,
}


@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=() if name == "flipped" else pytest.mark.thorough) for name in DAMAGES]
)
def test_a_damaged_cache_is_made_anew(store, tagger, caplog, damage):
    score_store(store, tagger)
    path = cache_of(store)
    DAMAGES[damage](path)
    check_right(score_store(store, tagger), store, tagger)
    assert f"{path}: damaged, computed again" in caplog.text
    caplog.clear()
    check_right(score_store(store, tagger), store, tagger)
    assert not caplog.text


def test_a_store_that_cannot_be_written_is_read_all_the_same(store, tagger, caplog):
    (store.root / f"library-{identify_tagger(tagger)}.npz").mkdir()  # in the way; permissions do not stop root
    check_right(score_store(store, tagger), store, tagger)
    assert "the scores cannot be kept" in caplog.text
    assert not list(store.root.glob(".*.tmp"))


def test_taggers_are_kept_apart(store, tagger):
    other = replace(tagger, calibration=tagger.calibration * 0.5)
    retrained = replace(tagger, weights=tuple(tuple(array * 1.5 for array in own) for own in tagger.weights))
    assert len({identify_tagger(one) for one in (tagger, other, retrained, None)}) == 4
    assert identify_tagger(replace(tagger, scores={})) == identify_tagger(tagger)  # how good it is changes no score
    for one in (tagger, other):
        check_right(score_store(store, one), store, one)
    assert len(list(store.root.glob("library-*.npz"))) == 2


def test_a_link_that_leads_nowhere_and_a_track_that_went_away_are_one_line(store, tagger, monkeypatch):
    (store.root / "9.npy").symlink_to("/nowhere")
    with pytest.raises(StoreError, match=r"/9\.npy: cannot be read \(a link that leads nowhere\)"):
        score_store(store, tagger)
    (store.root / "9.npy").unlink()
    real = EmbeddingStore.read

    def go(store, key):
        (store.root / f"{key}.npy").unlink(missing_ok=True)
        return real(store, key)

    monkeypatch.setattr(EmbeddingStore, "read", go)
    with pytest.raises(StoreError, match="track 00/0 was deleted while it was scored; start again"):
        score_store(store, tagger)


def test_what_cannot_be_scored_is_refused(store, tagger, tmp_path):
    with pytest.raises(UsageError, match="no tracks in this store"):
        score_store(EmbeddingStore(tmp_path / "empty", tagger.spec), tagger)
    with pytest.raises(UsageError, match="this tagger needs embeddings of vggish-pca"):
        score_store(EmbeddingStore(tmp_path / "other", OTHER_SPEC), tagger)
    store.add("bad", np.full((2, 128), np.nan, np.float32))
    with pytest.raises(DataError, match="'bad' holds NaN"):
        score_store(store, tagger)
