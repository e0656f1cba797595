from dataclasses import replace

import numpy as np
import pytest
from toy_examples import (
    CLASSES,
    CURVES,
    DIM,
    SPEC,
    TASK,
    VALUES,
    ToyStore,
    label_anew,
    make_dataset,
    make_examples,
    make_tracks,
)

from jamendo_mood.audio.decoding import SILENT
from jamendo_mood.datasets.dataset import Curve, Dataset
from jamendo_mood.training import data
from jamendo_mood.util.errors import DataError, UsageError


def keys_of(examples):
    return [track.key for track in examples.tracks]


@pytest.fixture
def frames():
    return np.random.default_rng(0).standard_normal((23, DIM), dtype=np.float32)


@pytest.fixture
def toy_store():
    """Embeddings of six tracks, none as long as another."""
    rng = np.random.default_rng(1)
    return ToyStore({f"{n:02d}/{n}": rng.standard_normal((3 + n, DIM), dtype=np.float32) for n in range(6)})


def test_pooling_is_mean_and_standard_deviation_or_change_over_time():
    frames = np.array([[1, 5], [3, 5], [8, 5]], np.float32)
    rows = {
        "frames": frames,
        "mean": [[4, 5]],
        "mean+std": [[4, 5, (26 / 3) ** 0.5, 0]],
        "mean+change": [[4, 5, (0 + 2 + 5) / 3, 0]],
    }
    for pooling, pool in data.POOLINGS.items():
        assert pool(frames).dtype == np.float32
        np.testing.assert_allclose(pool(frames), rows[pooling], rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "dtype", "labels"), [(TASK, np.bool_, (9, 3)), (CLASSES, np.int64, (9,)), (VALUES, np.float32, (9, 2))]
)
def test_arrays_for_scikit_learn_are_by_the_kind_of_task(task, dtype, labels):
    examples = make_examples(9) if task is TASK else label_anew(make_examples(9), task)
    X, y, groups = examples.to_arrays()
    assert (X.dtype, X.shape, y.dtype, y.shape) == (np.float32, (9, 2 * DIM), dtype, labels)
    np.testing.assert_array_equal(np.eye(3)[y] if task is CLASSES else y, examples.Y)
    np.testing.assert_allclose(X[:, :DIM], [frames.mean(axis=0) for frames in examples.frames], atol=1e-6)
    np.testing.assert_allclose(X[:, DIM:], [frames.std(axis=0) for frames in examples.frames], atol=1e-6)
    np.testing.assert_array_equal(examples.to_arrays("mean")[0], X[:, :DIM])
    assert groups.tolist() == [track.artist for track in examples.tracks]
    for pooling in ("frames", "median"):
        with pytest.raises(UsageError, match=rf"'{pooling}' makes one row of a track: take mean, mean\+std, mean"):
            examples.to_arrays(pooling)


@pytest.mark.parametrize("pooling", data.POOLINGS)
def test_a_pooling_works_on_many_windows_at_once_and_tells_its_width(frames, pooling):
    pool, many = data.POOLINGS[pooling], np.stack([frames[:7], frames[7:14], frames[14:21]])
    assert pool(many).shape[-1] == data.width_of(pooling, DIM)
    np.testing.assert_allclose(pool(many), [pool(window) for window in many], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 10, 22, 23])
def test_windows_are_those_of_a_plain_loop(frames, width):
    windows = data.windows(frames, width)
    assert windows.shape == (len(frames), width, DIM)
    for row in range(len(frames)):
        start = min(max(row - width // 2, 0), len(frames) - width)
        assert start <= row < start + width
        np.testing.assert_array_equal(windows[row], frames[start : start + width])
    for length in range(1, width):  # a track shorter than the window is one window
        np.testing.assert_array_equal(data.windows(frames[:length], width), np.tile(frames[:length], (length, 1, 1)))


def test_thinning_takes_one_row_of_each_stretch():
    track = np.arange(20, dtype=np.float32).reshape(20, 1)
    taken = np.concatenate([data.thin([track], 5, np.random.default_rng(seed)) for seed in range(40)])[..., 0]
    assert taken.shape == (40, 5)
    np.testing.assert_array_equal(taken // 4, np.tile(np.arange(5), (40, 1)))
    assert {*taken[:, 0]} == {0, 1, 2, 3}  # any of the stretch
    np.testing.assert_array_equal(data.thin([track], 5)[0, :, 0], [2, 6, 10, 14, 18])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(data.thin([track], 20, rng)[0], track)
    np.testing.assert_array_equal(data.thin([track[:2], track[:1]], 4, rng)[..., 0], [[0, 0, 1, 1], [0, 0, 0, 0]])


def test_padding_is_masked(frames):
    padded, mask = data.pad([frames[:3], frames[:1], frames[:4]])
    assert padded.shape == (3, 4, DIM)
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(padded[0], [*frames[:3], np.zeros(DIM)])
    assert padded.dtype == mask.dtype == np.float32


def test_a_part_is_its_tracks_in_the_order_of_its_rows_but_for_those_that_are_not_embedded(toy_store, caplog):
    dataset = make_dataset(toy_store, parts={"train": [4, 9, 0, 3, 8], "test": [5]})
    examples = data.load_part(dataset, "train", toy_store)
    assert caplog.messages == ["part train: 2 of 5 tracks are not in the store and are left out"]
    assert keys_of(examples) == ["04/4", "00/0", "03/3"]
    assert examples.targets == dataset.task.targets
    np.testing.assert_array_equal(examples.Y, dataset.targets[[4, 0, 3]])
    for key, frames in zip(keys_of(examples), examples.frames, strict=True):
        np.testing.assert_array_equal(frames, toy_store[key])
    some = examples.select(np.array([True, False, True]))
    assert keys_of(some) == ["04/4", "03/3"]
    np.testing.assert_array_equal(some.Y, examples.Y[[0, 2]])
    np.testing.assert_array_equal(some.frames[1], examples.frames[2])


def test_equal_embeddings_tell_equal_recordings_unless_the_data_set_knows(toy_store):
    toy_store["01/1"] = toy_store["04/4"].copy()
    dataset = make_dataset(toy_store, parts={"train": [4, 0], "test": [1, 7]})
    first, other = (track.content for track in data.load_part(dataset, "train", toy_store).tracks)
    tested, missing = data.identify_part(dataset, "test", toy_store)
    assert first == tested.content != other
    assert (missing.key, missing.content) == ("07/7", "")
    assert data.identify_part(dataset, "nosuch", toy_store) == []
    known = replace(dataset, tracks=tuple(replace(track, content=track.id) for track in dataset.tracks))
    assert [track.content for track in data.load_part(known, "train", toy_store).tracks] == ["track_4", "track_0"]


class RemarkingStore(ToyStore):
    def remarks(self, keys):
        half = "6 of 12 s could be decoded"
        noted = {"00/0": half, "01/1": SILENT, "02/2": f"{half}; {SILENT}", "03/3": SILENT}
        return {key: noted[key] for key in keys if key in noted}


@pytest.fixture
def remarking_store(toy_store):
    return RemarkingStore(toy_store)


def test_silence_is_not_learned_from_but_stays_in_the_parts_to_evaluate_on(remarking_store, caplog):
    dataset = make_dataset(remarking_store, parts={"train": [0, 1, 2], "validation": [3, 4], "test": [3, 1]})
    train = data.load_part(dataset, "train", remarking_store)
    assert keys_of(train) == ["00/0"]
    assert train.silent == train.select(np.array([True])).silent == 2
    assert caplog.messages == [
        "part train: 2 of 3 tracks are silent and are left out",
        "part train: 1 track with a remark, such as 00/0: 6 of 12 s could be decoded",
    ]
    for part in ("validation", "test"):
        examples = data.load_part(dataset, part, remarking_store)
        assert (len(examples), examples.silent) == (2, 0)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("train", "all tracks of part 'train' that are in the store are silent"),
        ("test", "none of the 3 tracks of part 'test' is in the store"),
        ("noon", "no part 'noon'"),
    ],
)
def test_a_part_with_nothing_in_it_or_of_no_such_name_is_wrong_usage(remarking_store, part, message):
    dataset = make_dataset(remarking_store, parts={"train": [1, 3], "test": [7, 8, 9]})
    with pytest.raises(UsageError, match=message):
        data.load_part(dataset, part, remarking_store)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_an_embedding_with_nan_or_infinity_is_refused_by_name(toy_store, value):
    toy_store["02/2"][1, 3] = value
    with pytest.raises(DataError, match="track '02/2' holds NaN or infinity"):
        data.load_part(make_dataset(toy_store, parts={"train": [0, 1, 2]}), "train", toy_store)


def test_a_store_goes_before_released_embeddings(toy_store):
    released, bare = ToyStore(), make_dataset(toy_store, parts={"train": [0]})
    dataset = replace(bare, embeddings=released)
    assert data.choose_embeddings(dataset, None) is released
    assert data.choose_embeddings(dataset, toy_store) is toy_store
    with pytest.raises(UsageError, match=r"'toy' comes without embeddings.*--store"):
        data.choose_embeddings(bare, None)


def test_centred_windows_are_centred_everywhere_and_share_memory(frames):
    around = data.centred_windows(frames, 5)
    assert around.shape == (len(frames), 5, frames.shape[1])
    for row in range(len(frames)):
        rows = np.clip(np.arange(row - 2, row + 3), 0, len(frames) - 1)
        np.testing.assert_array_equal(around[row], frames[rows])
    assert np.shares_memory(around[0], around[1])


@pytest.mark.parametrize("hop_s", [0.5, 0.96])
def test_a_moment_is_aligned_with_the_frame_whose_middle_is_nearest(hop_s):
    spec = replace(SPEC, hop_s=hop_s)
    times_s = np.arange(0, 30, 0.5, dtype=np.float32)
    middles = np.arange(60) * hop_s + 0.48
    nearest = np.abs(middles - times_s[:, None]).min(axis=1)
    chosen = data.align(times_s, 60, spec)
    assert np.abs(middles[chosen] - times_s) == pytest.approx(nearest, abs=1e-5)


def test_moments_a_little_after_the_end_belong_to_the_last_frame_and_far_after_it_to_another_recording():
    spec = replace(SPEC, hop_s=0.5)
    assert data.align(np.array([6.5], np.float32), 10, spec).tolist() == [9]
    with pytest.raises(DataError, match=r"labels at 20 s, but the embeddings end at 5\.46 s"):
        data.align(np.array([20.0], np.float32), 10, spec)
    with pytest.raises(UsageError, match="say nothing of single moments"):
        data.align(np.array([1.0], np.float32), 10, replace(spec, window_s=None, hop_s=None))


def test_a_dynamic_task_has_an_example_for_each_moment():
    times_s = [np.arange(2, 2 + n / 2, 0.5, dtype=np.float32) for n in (3, 5)]
    curves = tuple(Curve(times, np.full((len(times), 2), len(times) / 10, np.float32)) for times in times_s)
    tracks, plain = make_tracks(2), np.arange(20 * 4, dtype=np.float32).reshape(20, 4)
    store = ToyStore({track.key: plain + n for n, track in enumerate(tracks)})
    dataset = Dataset(CURVES, tracks, np.zeros((2, 2)), {"all": np.array([1, 0])}, "none", "none", curves=curves)
    examples = data.load_part(dataset, "all", store)
    assert [track.id for track in examples.tracks] == ["track_1"] * 5 + ["track_0"] * 3
    np.testing.assert_array_equal(examples.Y[:, 0], np.float32([0.5] * 5 + [0.3] * 3))
    assert examples.times_s.tolist() == [2, 2.5, 3, 3.5, 4, 2, 2.5, 3]
    late = examples.select(examples.times_s > 2.5)
    assert late.times_s.tolist() == [3, 3.5, 4, 3]
    assert [track.id for track in late.tracks] == ["track_1"] * 3 + ["track_0"]
    assert data.context_of(store.spec) == round(10 / 0.96)
    seen = np.stack([window[(len(window) - 1) // 2] for window in examples.frames])
    expected = [store[tracks[n].key][data.align(times_s[n], 20, store.spec)] for n in (1, 0)]
    np.testing.assert_array_equal(seen, np.concatenate(expected))
    beyond = (curves[0], Curve(times_s[1] + 90, curves[1].values))
    with pytest.raises(DataError, match="track '01/1': labels at 94 s"):
        data.load_part(replace(dataset, curves=beyond), "all", store)
