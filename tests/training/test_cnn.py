from dataclasses import replace

import numpy as np
import pytest
from toy_examples import make_tracks

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.evaluation.evaluate import evaluate
from jamendo_mood.tasks import Task
from jamendo_mood.training import heads
from jamendo_mood.training.data import Examples
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import STANDARDISE, HeadConfig, build_head, run_heads
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError

BANDS = 6
DIM = 96 * BANDS
SPEC = EmbedderSpec("toy-patches", "", 16_000, 0.96, 0.96, DIM)
TASK = Task("toy", "tags", ("rising", "falling"))


def build(config, dim=DIM, targets=2):
    import keras

    keras.utils.set_random_seed(4)
    head = build_head(config, dim, targets, "sigmoid")
    head.get_layer(STANDARDISE).adapt(np.random.default_rng(1).standard_normal((3, 4, head.inputs[0].shape[-1])))
    return head


def row_by_row(head):
    """The layer that sees each patch by itself."""
    (layer,) = (layer for layer in head.layers if layer.name.startswith("row_by_row"))
    return layer


def make_pictures(count, seed):
    """Patches with a line that goes up or down, somewhere, and on from the start where it meets the end.

    Every number is as bright in one half of the tracks as in the other: no head that weighs them one by one sees it.
    """
    rng = np.random.default_rng(seed)
    frames, rising = [], rng.random(count) < 0.5
    for upwards in rising:
        patches = 0.3 * rng.standard_normal((1 + rng.integers(3), 96, BANDS))
        for patch in patches:
            time, step = np.arange(96), 1 if upwards else -1
            patch[time, (rng.integers(BANDS) + step * (time // 4)) % BANDS] += 2
        frames.append(patches.reshape(len(patches), DIM).astype(np.float32))
    Y = np.stack([rising, ~rising], axis=1).astype(np.float32)
    return Examples(tuple(frames), Y, make_tracks(count, first=1000 * seed), TASK.targets)


@pytest.mark.parametrize(("dim", "pooling"), [(128, "frames"), (95, "frames"), (48, "mean+std")])
def test_rows_that_are_no_patches_are_wrong_usage(dim, pooling):
    with pytest.raises(UsageError, match=f"sees patches of 96 frames, and {dim} numbers are none: extract with --emb"):
        build_head(HeadConfig("cnn", pooling, hidden=8), dim, 2, "sigmoid")


def test_mean_and_deviation_are_two_pictures_of_one_size_and_each_block_has_twice_the_channels():
    head = build(HeadConfig("cnn", "mean+std", hidden=8, layers=2))
    assert row_by_row(head).network.layers[1].output.shape == (None, 96, BANDS, 2)
    layers = row_by_row(build(HeadConfig("cnn", hidden=32, layers=4))).network.layers
    assert [part.filters for part in layers if hasattr(part, "filters")] == [4, 8, 16, 32]


def test_a_long_track_is_scored_in_pieces_as_it_is_whole(monkeypatch):
    head = build(HeadConfig("cnn", hidden=8, layers=2))
    tracks = [np.random.default_rng(2).standard_normal((rows, DIM), dtype=np.float32) for rows in (1, 7, 12)]
    whole = run_heads([head], tracks)
    monkeypatch.setattr(heads, "ROWS_AT_ONCE", 5)
    layer, sizes = row_by_row(head), []
    network = layer.network
    object.__setattr__(layer, "network", lambda x: sizes.append(len(x)) or network(x))
    np.testing.assert_allclose(run_heads([head], tracks), whole, rtol=1e-4)
    assert max(sizes) == 5


def test_it_learns_what_no_head_on_single_numbers_can_see(tmp_path):
    train, validation = make_pictures(160, 1), make_pictures(60, 2)
    config = TrainConfig.for_head("cnn").updated({"hidden": "16", "layers": "2", "learning_rate": "0.01"})
    tagger = fit(train, validation, TASK, SPEC, replace(config, epochs=8))
    linear = fit(train, validation, TASK, SPEC, TrainConfig.for_head("linear"))
    figures = [evaluate(each, validation, rounds=0).metrics["ROC-AUC-macro"] for each in (tagger, linear)]
    assert figures[0] > 0.95
    assert figures[1] < 0.8
    tagger.save(tmp_path / "tagger")
    again = Tagger.load(tmp_path / "tagger").score(validation.frames)
    np.testing.assert_allclose(again, tagger.score(validation.frames), atol=1e-6)
