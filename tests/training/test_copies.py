"""Copies of training tracks: that they are the right ones, and that no other ever comes in."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import DIM, OTHER_SPEC, SPEC, TASK, ToyStore, make_tracks

from jamendo_mood.audio import decoding
from jamendo_mood.datasets.dataset import FOLDS, Curve, Dataset, assign_folds, find_leaks, make_parts
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.extraction.streaming import StreamConfig, extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.augmentation import (
    add_copies,
    alter,
    check_whole,
    list_copies,
    make_key,
    mark_embedder,
    plain_spec,
    split_key,
    training_keys,
)
from jamendo_mood.training.data import load_part
from jamendo_mood.util.errors import DataError, UsageError

COUNT = 60
ARTISTS = [f"artist {number % 23}" for number in range(COUNT)]


def mark(spec):
    return mark_embedder(Embedder(spec, abs, abs, 1, 1)).spec


class CopyStore(ToyStore):
    spec = mark(SPEC)


def frames_of(number, copy=0):
    """An embedding that says whose it is."""
    return np.full((2, DIM), number + copy / 10, np.float32)


TRACKS = tuple(replace(track, artist=artist) for track, artist in zip(make_tracks(COUNT), ARTISTS, strict=True))
STORE = ToyStore({track.key: frames_of(number) for number, track in enumerate(TRACKS)})
EVERYTHING = CopyStore(
    {make_key(track.key, copy): frames_of(n, copy) for n, track in enumerate(TRACKS) for copy in (1, 2, 3)}
)
"""Copies of every track: those of the validation and the test part too, as a store made for another split has them."""


def make_split(split):
    targets = np.arange(COUNT * len(TASK.targets)).reshape(COUNT, -1).astype(np.float32)
    return Dataset(TASK, TRACKS, targets, make_parts(assign_folds(ARTISTS), split), "none", "none")


@pytest.fixture
def train():
    return load_part(make_split(0), "train", STORE)


@pytest.mark.parametrize("split", range(FOLDS))
def test_no_copy_of_a_validation_or_test_track_is_ever_in_training(split):
    dataset = make_split(split)
    assert set(training_keys(dataset)) == {TRACKS[row].key for row in dataset.rows("train")}
    train, validation, test = (load_part(dataset, part, STORE) for part in ("train", "validation", "test"))
    augmented = add_copies(train, SPEC, EVERYTHING)
    # By what was heard, not by names: each embedding says which track it was made of.
    heard = {int(frames[0, 0]) for frames in augmented.frames}
    assert heard == set(dataset.rows("train").tolist())
    assert find_leaks({"training": augmented.tracks, "validation": validation.tracks, "test": test.tracks}) == []
    assert len(augmented) == 4 * len(train)


def test_each_copy_goes_by_the_targets_and_the_name_of_its_track(train):
    augmented = add_copies(train, SPEC, EVERYTHING)
    assert augmented.tracks[: len(train)] == train.tracks
    for frames, targets, track in zip(augmented.frames, augmented.Y, augmented.tracks, strict=True):
        row = train.tracks.index(track)
        assert int(frames[0, 0]) == int(train.frames[row][0, 0])
        assert np.array_equal(targets, train.Y[row])


def test_a_track_whose_name_looks_like_a_copys_is_no_copy():
    """``00/1~1`` may be a track of its own, in the test part: copies of ``00/1`` are looked up in the other store."""
    twin = replace(TRACKS[1], id="twin", audio="01/1~1.mp3", artist="somebody else")
    dataset = Dataset(TASK, (TRACKS[1], twin), np.eye(2, 3, dtype=np.float32), {"train": np.array([0])}, "", "")
    store = ToyStore({TRACKS[1].key: frames_of(1), twin.key: frames_of(2)})
    copies = CopyStore({make_key(TRACKS[1].key, 1): frames_of(1, 1), make_key(twin.key, 1): frames_of(2, 1)})
    found = add_copies(load_part(dataset, "train", store), SPEC, copies)
    assert [frames[0, 0] for frames in found.frames] == pytest.approx([1, 1.1])


def test_keys_of_copies_are_read_back_and_others_are_none():
    assert split_key(make_key("48/948", 2)) == ("48/948", 2)
    assert split_key("a~b~3") == ("a~b", 3)
    for other in ("48/948", "48/948~", "48/948~0", "48/948~x", "48/948~-1", "~1"):
        assert split_key(other) == ("", 0)


def test_copies_that_are_missing_are_told_and_if_all_are_it_is_wrong_usage(train, caplog):
    some = CopyStore({make_key(track.key, 2): frames_of(0) for track in train.tracks[:3]})
    with caplog.at_level(logging.WARNING):
        assert len(add_copies(train, SPEC, some)) == len(train) + 3
    assert f"{len(train) - 3} of {len(train)} training tracks have no copy" in caplog.text
    with pytest.raises(UsageError, match=f"none of the {len(train)} training tracks has a copy"):
        add_copies(train, SPEC, CopyStore())


def test_a_store_of_tracks_or_of_other_embeddings_and_a_spoiled_copy_are_refused(train):
    key = make_key(train.tracks[0].key, 1)
    spoiled = CopyStore({**EVERYTHING, key: np.full((1, DIM), np.nan, np.float32)})
    for spec, store, error, message in (
        (SPEC, STORE, UsageError, "these are not copies but embeddings of toy"),
        (OTHER_SPEC, EVERYTHING, UsageError, r"the tracks are embedded by other .*, their copies by toy"),
        (SPEC, spoiled, DataError, f"the embedding of track '{key}' holds NaN"),
    ):
        with pytest.raises(error, match=message):
            add_copies(train, spec, store)


def test_the_spec_of_copies_says_how_they_were_altered_and_leads_back_to_the_tracks():
    for spec in (SPEC, replace(SPEC, variant="untrained")):
        marked = mark(spec)
        assert plain_spec(marked) == spec
        assert not spec.accepts(marked)
        assert not marked.accepts(spec)
    assert str(marked).endswith(
        "augmented: snr_db 15 to 40, shift_s 0 to 5, gain_db -9 to 3, pitch_semitones -2 to 2, seed 0)"
    )


def test_labels_of_moments_are_refused():
    curves = tuple(Curve(np.zeros(1, np.float32), np.zeros((1, 3), np.float32)) for _ in TRACKS)
    with pytest.raises(UsageError, match="labels for moments, which a copy that starts later does not have"):
        check_whole(replace(make_split(0), curves=curves))


def test_a_copy_is_the_same_in_any_order_and_company(make_audio, noise, stub_embedder, tmp_path):
    for number in range(3):
        make_audio(tmp_path / "audio" / f"{number}.mp3", noise(4 + number, number), rate_hz=16_000)
    files = decoding.find_audio(tmp_path / "audio")
    embedder, copies = mark_embedder(stub_embedder), list_copies(files, 2)
    assert list(copies) == ["0~1", "1~1", "2~1", "0~2", "1~2", "2~2"]
    config, backwards = StreamConfig(batch=16, alter=alter), dict(reversed(copies.items()))
    whole, other, plain = (EmbeddingStore(tmp_path / name, embedder.spec) for name in ("whole", "other", "plain"))
    assert extract(copies, embedder, whole, config).done == 6
    assert extract(backwards, embedder, other, replace(config, prefetch=1, batch=7)).done == 6
    assert extract(files, embedder, plain).done == 3
    for key, frames in whole.items():
        np.testing.assert_array_equal(frames, other[key])
        track = plain[split_key(key)[0]]
        assert len(frames) <= len(track)
        assert not np.array_equal(frames[:10], track[:10])
    with pytest.raises(UsageError, match="use another folder for these"):
        EmbeddingStore(whole.root, stub_embedder.spec)


def test_long_sound_is_altered_in_stretches_of_a_minute_whatever_the_embedder(
    make_audio, noise, stub_embedder, tmp_path
):
    source, lengths = make_audio(tmp_path / "long.wav", noise(130), rate_hz=16_000), []

    def watch(key, waves):
        for wave in waves:
            lengths.append(len(wave))
            yield wave

    store, untouched = (EmbeddingStore(tmp_path / name, stub_embedder.spec) for name in ("store", "untouched"))
    extract({"long": source}, stub_embedder, store, StreamConfig(alter=watch))
    extract({"long": source}, stub_embedder, untouched)
    assert lengths == [960_000, 960_000, 160_000]
    np.testing.assert_array_equal(store["long"], untouched["long"])
