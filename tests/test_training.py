from dataclasses import replace

import numpy as np
import pytest
from toy_examples import SPEC, TASK, make_examples

from jamendo_mood import metrics
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.model import HEADS, HeadConfig
from jamendo_mood.training import TrainConfig, fit

FEW = TrainConfig(HeadConfig("mlp", hidden=16), epochs=3)


def train(config, *, train=None, validation=None, on_epoch=lambda _: None):
    return fit(
        train or make_examples(120),
        validation or make_examples(80, seed=1),
        TASK,
        SPEC,
        config,
        record={"data": "toy"},
        on_epoch=on_epoch,
    )


def contents(tagger, folder):
    tagger.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    first, second = (contents(train(FEW), tmp_path / name) for name in ("first", "second"))
    assert first == second
    other = contents(train(replace(FEW, seed=1)), tmp_path / "other")
    assert other["weights.npz"] != first["weights.npz"]


@pytest.mark.parametrize("head", HEADS)
def test_an_easy_problem_is_learned(head):
    tagger = train(TrainConfig(HeadConfig(head, l2=0.001), epochs=15, learning_rate=0.02), train=make_examples(400))
    test = make_examples(200, seed=2)
    figures = metrics.score_tags(test.Y > 0, tagger.score(test.X), tagger.decide(tagger.score(test.X)))
    assert figures["PR-AUC-macro"] > 0.97
    assert figures["prior-macro"] < 0.4
    assert figures["F-score-macro"] > 0.9


def test_it_starts_from_the_share_of_each_tag():
    """Inputs that say nothing leave only the biases, and so small a step leaves those where they were."""
    examples = make_examples(98)
    positives = examples.Y.sum(axis=0)
    assert len({*positives}) > 1
    tagger = train(
        replace(FEW, head=HeadConfig("linear"), epochs=1, learning_rate=1e-9),
        train=replace(examples, X=np.zeros_like(examples.X)),
    )
    scores = tagger.score(np.zeros_like(examples.X[:1]))
    np.testing.assert_allclose(scores[0], (positives + 1) / 100, rtol=1e-4)


def noisy(count, seed):
    """Examples whose targets hang on their inputs by a thread: a head soon overfits."""
    examples = make_examples(count, seed)
    chance = np.random.default_rng(seed + 100).random(examples.Y.shape) < 0.3
    return replace(examples, Y=np.where(chance, 1 - examples.Y, examples.Y).astype(np.float32))


def test_the_best_epochs_weights_are_kept():
    epochs = []
    config = TrainConfig(HeadConfig("mlp", l2=0.0, hidden=64), epochs=60, patience=4, learning_rate=0.02)
    validation = noisy(100, 1)
    tagger = train(config, train=noisy(80, 0), validation=validation, on_epoch=epochs.append)
    figures = [epoch.figure for epoch in epochs]
    best = 1 + int(np.argmax(figures))
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert tagger.record["best_epoch"] == best < len(epochs) < 60  # it stopped early, some epochs past the best
    assert len(epochs) == best + config.patience
    assert [epoch.number for epoch in epochs if epoch.best][-1] == best
    assert tagger.scores["PR-AUC-macro"] == pytest.approx(max(figures), abs=1e-12)
    # The weights themselves are that epoch's, not only the figure.
    again = metrics.score_tags(validation.Y > 0, tagger.score(validation.X))
    assert again["PR-AUC-macro"] == pytest.approx(max(figures), abs=1e-6)
    assert figures[-1] < max(figures)


def test_each_epoch_is_reported():
    epochs = []
    tagger = train(replace(FEW, learning_rate=0.02), on_epoch=epochs.append)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert {epoch.monitor for epoch in epochs} == {"PR-AUC-macro"}
    assert epochs[0].best
    assert epochs[2].loss < epochs[0].loss
    assert tagger.record["config"]["epochs"] == 3


def test_the_tagger_tells_how_it_came_about():
    tagger = train(FEW)
    assert tagger.record["data"] == "toy"
    assert tagger.record["tracks"] == {"train": 120, "validation": 80}
    assert (tagger.task, tagger.spec, tagger.head) == (TASK, SPEC, FEW.head)


def test_thresholds_are_the_best_of_the_validation_part():
    validation = make_examples(80, seed=1)
    tagger = train(FEW, validation=validation)
    scores = tagger.score(validation.X)
    f_scores = metrics.decision_figures(validation.Y > 0, tagger.decide(scores))[2]
    for fixed in np.linspace(0.05, 0.95, 19):
        assert (f_scores >= metrics.decision_figures(validation.Y > 0, scores >= fixed)[2] - 1e-9).all()


@pytest.mark.parametrize("value", [0, 1])
def test_a_validation_part_that_tells_nothing_is_refused(value):
    validation = make_examples(20, seed=1)
    validation = replace(validation, Y=np.full_like(validation.Y, value))
    with pytest.raises(DataError, match="no tag has both positives and negatives in the validation part"):
        train(FEW, validation=validation)


def test_a_tag_that_validation_does_not_know_is_never_decided():
    validation = make_examples(80, seed=1)
    validation.Y[:, 1] = 0
    tagger = train(FEW, validation=validation)
    assert np.isinf(tagger.tuned).tolist() == [False, True, False]
    assert not tagger.decide(tagger.score(make_examples(50).X))[:, 1].any()


@pytest.mark.parametrize("values", [{"epochs": 0}, {"patience": 0}, {"batch": 0}, {"learning_rate": 0.0}])
def test_a_configuration_that_makes_no_sense_is_wrong_usage(values):
    with pytest.raises(UsageError, match="must be positive"):
        TrainConfig(**values)


def test_an_unknown_option_is_an_error():
    with pytest.raises(TypeError, match="epoch"):
        TrainConfig(epoch=3)
