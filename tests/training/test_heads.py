from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from toy_examples import DIM, NETWORKS

from jamendo_mood.training import data, heads
from jamendo_mood.training.heads import HeadConfig, build_head, call_head, list_shapes, run_heads
from jamendo_mood.util.errors import UsageError

RNG = np.random.default_rng(5)
TRACKS = [RNG.standard_normal((rows, DIM), dtype=np.float32) for rows in (3, 1, 14, 7, 2)]
PATCHES = [RNG.standard_normal((rows, 96 * 5), dtype=np.float32) for rows in (3, 1, 14, 7, 2)]
EVERY = [
    pytest.param(
        HeadConfig(name, pooling, hidden=8, layers=2),
        marks=() if pooling == "frames" else pytest.mark.thorough,
        id=f"{name} on {pooling}",
    )
    for pooling in data.POOLINGS
    for name in NETWORKS
]


def tracks_for(name):
    """Tracks of rows that a head can see: patches for the one that wants pictures."""
    return PATCHES if name == "cnn" else TRACKS


def build(config, targets=3, examples=1):
    """A head that has been nowhere, with its standardising layer set: to mean 0.1 and variance 2."""
    import keras

    keras.utils.set_random_seed(3)
    head = build_head(config, tracks_for(config.name)[0].shape[1], targets, "sigmoid", examples)
    layer = head.get_layer(heads.STANDARDISE)
    layer.adapt(np.array([0.1 - 2**0.5, 0.1 + 2**0.5], np.float32)[:, None, None] * np.ones(head.inputs[0].shape[-1]))
    return head


def rows_of(config):
    return [data.POOLINGS[config.pooling](frames) for frames in tracks_for(config.name)]


@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize("targets", [pytest.param(1, marks=pytest.mark.thorough), 7])
def test_a_head_maps_tracks_of_any_length_to_scores_and_padding_changes_nothing(config, targets):
    head, rows = build(config, targets), rows_of(config)
    scores = run_heads([head], rows)
    assert (scores.shape, scores.dtype) == ((len(TRACKS), targets), np.float32)
    assert ((scores > 0) & (scores < 1)).all()
    assert scores.std(axis=0).min() > 1e-4
    alone = np.concatenate([run_heads([head], [track]) for track in rows])
    np.testing.assert_allclose(scores, alone, rtol=1e-4)
    padded, mask = data.pad(rows)
    spoiled = np.where(mask[..., None] > 0, padded, np.float32(1e3))
    np.testing.assert_allclose(np.asarray(head.predict_on_batch((spoiled, mask))), alone, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_order_of_frames_counts_for_heads_that_follow_it_alone(name):
    head = build(HeadConfig(name, hidden=8))
    forth, back = (run_heads([head], [tracks_for(name)[2][::step]]) for step in (1, -1))
    if name in {"conv1d", "gru"}:
        assert np.abs(forth - back).max() > 1e-3
    else:
        np.testing.assert_allclose(forth, back, rtol=1e-4)


def test_tracks_come_back_in_their_order_however_they_were_batched(monkeypatch):
    head = build(HeadConfig("attention", hidden=8))
    expected, shapes, pad = run_heads([head], TRACKS), [], data.pad
    monkeypatch.setattr(data, "pad", lambda tracks: shapes.append([len(track) for track in tracks]) or pad(tracks))
    monkeypatch.setattr(heads, "BATCH_ROWS", 6)
    np.testing.assert_allclose(run_heads([head], TRACKS), expected, rtol=1e-4)
    assert sorted(shapes) == [[1, 2], [3], [7], [14]]


def test_a_linear_head_is_a_logistic_regression_on_standardised_rows():
    head = build(HeadConfig("linear", "mean+std"))
    *_, kernel, bias = head.get_weights()
    rows = np.concatenate(rows_of(HeadConfig("linear", "mean+std")))
    by_hand = 1 / (1 + np.exp(-((rows - 0.1) / 2**0.5 @ kernel + bias)))
    np.testing.assert_allclose(run_heads([head], rows[:, None]), by_hand, atol=1e-5)
    assert by_hand.std() > 0.05


def test_attention_can_look_at_one_frame_and_pass_over_another():
    """With gates that open for some features alone, a frame without them does not count."""
    head = build(HeadConfig("attention", hidden=8, layers=1))
    gate = [layer for layer in head.layers if layer.name.startswith("dense")][-1]
    loud, quiet = TRACKS[0][:1], TRACKS[0][1:2]
    before = run_heads([head], [np.concatenate([loud, quiet])])
    gate.kernel.assign(np.asarray(gate.kernel) * 0)
    even = run_heads([head], [np.concatenate([loud, quiet])])
    assert np.abs(before - even).max() > 1e-4


def test_numpy_computes_a_wide_layer_as_keras_does():
    config = HeadConfig("attention", hidden=8, layers=2, wide=5, dropout=0.9)
    head = build(config)
    assert [array.shape for array in head.get_weights()] == [*list_shapes(config, DIM, 3)]
    padded = data.pad(TRACKS)
    np.testing.assert_allclose(call_head(config, head, "sigmoid")(padded), np.asarray(head(padded)), atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_penalty_is_per_target_and_example(name):
    for targets in (2, 200):
        head = build(HeadConfig(name, hidden=8, l2=10.0), targets, examples=100)
        kernel = head.get_layer(heads.SCORES).get_weights()[0]
        assert float(sum(head.losses)) == pytest.approx(0.1 * np.square(kernel).sum() / targets, rel=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "hydra"}, r"unknown head 'hydra' \(known: linear, mlp, attention, conv1d, gru, cnn, svm; import"),
        ({"pooling": "max"}, r"unknown pooling 'max' \(known: frames, mean, mean\+std, mean\+change\)"),
        ({"hidden": 0}, "hidden and layers from 1 up"),
        ({"wide": -1}, "wide, l2 and clip from 0 up"),
        *(({name: value}, "from 0 up") for name, value in (("dropout", 1.0), ("l2", -1.0), ("clip", -1.0))),
    ],
)
def test_a_head_that_makes_no_sense_is_wrong_usage(values, message):
    with pytest.raises(UsageError, match=message):
        replace(HeadConfig(), **values)


def test_inputs_far_from_the_mean_are_clipped_where_that_is_wanted():
    plain, clipped = (build(HeadConfig("linear", "mean", clip=clip)) for clip in (0.0, 2.0))
    rows = [np.full((1, DIM), value, np.float32) for value in (0.1 + 2 * 2**0.5, 50)]
    near, far = run_heads([clipped], rows)
    np.testing.assert_allclose(near, far, rtol=1e-4)
    np.testing.assert_allclose(near, run_heads([plain], rows)[0], rtol=1e-4)
    assert np.abs(run_heads([plain], rows)[1] - near).max() > 1e-3


def test_each_batch_has_one_thread_of_blas_and_afterwards_it_has_as_many_as_before(monkeypatch):
    seen = []

    def head(batch):
        seen.append({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
        return batch[0].sum(axis=1)

    monkeypatch.setattr(heads, "BATCH_ROWS", 8)
    with threadpool_limits(3, "blas"):
        scores = run_heads([head], TRACKS)
        head(TRACKS)
    assert seen == [{1}] * (len(seen) - 1) + [{3}]
    np.testing.assert_allclose(scores, [track.sum(axis=0) for track in TRACKS], rtol=1e-5, atol=1e-5)
