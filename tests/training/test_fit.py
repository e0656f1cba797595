import random
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import CLASSES, NETWORKS, SPEC, TASK, VALUES, label_anew, make_examples

from jamendo_mood.datasets.dataset import assign_folds
from jamendo_mood.tasks import kind, metrics, tags
from jamendo_mood.tasks.tags import TAG_LOSSES
from jamendo_mood.training.augmentation import Augmentation
from jamendo_mood.training.data import TO_ONE_ROW
from jamendo_mood.training.fit import DEFAULTS, TrainConfig, fit
from jamendo_mood.training.heads import HEADS, HeadConfig
from jamendo_mood.util.errors import DataError, UsageError

FEW = TrainConfig(HeadConfig("mlp", hidden=16, layers=1), ensemble=1, epochs=3, batch=32, learning_rate=0.02)
LONGER = replace(FEW, epochs=15, batch=16, learning_rate=0.01)


def train(config, *, train=None, validation=None, **options):
    parts = train or make_examples(120), validation or make_examples(80, seed=1)
    return fit(*parts, TASK, SPEC, config, record={"data": "toy"}, **options)


def uncalibrated(tagger):
    return replace(tagger, calibration=np.tile([1.0, 0.0], (3, 1)))


@pytest.fixture(scope="module")
def epochs():
    """What `few` reported while it was trained."""
    return []


@pytest.fixture(scope="module")
def few(epochs):
    """What FEW makes of the usual examples."""
    return train(FEW, on_epoch=epochs.append)


@pytest.fixture(scope="module")
def longer():
    """A head that was trained until it knows the easy problem."""
    return train(LONGER, train=make_examples(300))


def test_the_same_seed_gives_the_same_files_and_the_seed_of_the_process_stays(few, tmp_path):
    random.seed(4)
    before, contents = random.getstate(), []
    for name, tagger in (("first", few), ("second", train(FEW))):
        tagger.save(tmp_path / name)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert random.getstate() == before


def figures_of(tagger, examples=None):
    examples = examples or make_examples(200, seed=2)
    scores = tagger.score(examples.frames)
    return tags.score_tags(examples.Y > 0, scores, tagger.decide(scores))


IN_ORDER = ("conv1d", "gru")  # which see no order in one row
EASY = [(name, "frames") for name in NETWORKS if name != "cnn"]  # which wants patches: test_cnn
EASY += [(name, pooling) for name, _ in EASY for pooling in TO_ONE_ROW if name not in IN_ORDER]


@pytest.mark.parametrize(
    ("head", "pooling"),
    [pytest.param(*case, marks=() if case == ("linear", "mean") else pytest.mark.thorough) for case in EASY],
)
def test_an_easy_problem_is_learned(head, pooling):
    config = replace(LONGER, head=HeadConfig(head, pooling, hidden=64, layers=1), epochs=20)
    figures = figures_of(train(config, train=make_examples(400)))
    assert figures["PR-AUC-macro"] > 0.9
    assert figures["prior-macro"] < 0.4
    assert figures["F-score-macro"] > 0.75


@pytest.mark.thorough
@pytest.mark.parametrize(
    "values",
    [
        *({"loss": loss, "balance": 0.5} for loss in TAG_LOSSES),
        {"augment": Augmentation(mixup=0.0, frame_dropout=0.3, smoothing=0.1, crop=3)},
        {"average": 0.9},
        {"weight_decay": 0.01},
    ],
)
def test_each_loss_and_each_extra_learns_too_and_does_something(longer, values):
    test, extra = make_examples(200, seed=2), train(replace(LONGER, **values), train=make_examples(300))
    assert figures_of(extra, test)["PR-AUC-macro"] > 0.85
    assert np.abs(longer.score(test.frames) - extra.score(test.frames)).max() > 1e-4


@pytest.mark.thorough
def test_averaged_weights_are_those_that_are_kept():
    """With so long a memory the average hardly leaves the start, and nothing is learned."""
    config = replace(FEW, head=HeadConfig("linear", "mean"), epochs=5, learning_rate=0.05)
    plain, averaged = (train(settings) for settings in (config, replace(config, average=0.99999)))
    assert figures_of(averaged)["PR-AUC-macro"] < figures_of(plain)["PR-AUC-macro"] - 0.1


def test_it_starts_from_the_share_of_each_tag():
    """Inputs that say nothing leave only the biases, and so small a step leaves those where they were."""
    examples = make_examples(98)
    positives = examples.Y.sum(axis=0)
    assert len({*positives}) > 1
    silent = tuple(np.zeros_like(frames) for frames in examples.frames)
    config = replace(FEW, head=HeadConfig("linear"), epochs=1, learning_rate=1e-9)
    tagger = uncalibrated(train(config, train=replace(examples, frames=silent)))
    np.testing.assert_allclose(tagger.score(silent[:1])[0], (positives + 1) / 100, rtol=1e-4)


@pytest.mark.thorough
def test_more_targets_are_learned_than_kept():
    """The head learns the tags of a broader task, in another order, and keeps those of its own."""
    examples = make_examples(300)
    Y = np.stack([examples.Y[:, 2], examples.Y[:, 0] * 0, *examples.Y.T[1::-1]], axis=1)
    tagger = train(LONGER, train=replace(examples, Y=Y, targets=("blue", "odd", "green", "red")))
    assert tagger.weights[0][-1].shape == (3,)
    assert tagger.record["learned_targets"] == 4
    assert figures_of(tagger)["PR-AUC-macro"] > 0.9
    with pytest.raises(DataError, match="not labelled with the 3 targets of task 'toy'"):
        train(FEW, train=replace(examples, targets=("red", "green", "pink")))


def hold_out(both, member, turns, among=4):
    """Where the pieces are that a member of an ensemble holds out: two of so many folds."""
    folds = assign_folds([track.artist for track in both.tracks], count=among)
    return np.isin(folds, [member % turns, (member + 1) % turns])


@pytest.mark.parametrize("members", [3, 4])
def test_each_head_of_an_ensemble_holds_out_another_piece_and_they_are_calibrated_by_these(members):
    both, epochs = make_examples(120).join(make_examples(80, seed=1)), []
    tagger = train(replace(FEW, ensemble=members), on_epoch=epochs.append)
    assert [(epoch.member, epoch.number) for epoch in epochs] == [(m, e) for m in range(members) for e in (1, 2, 3)]
    sums, times = np.zeros((200, 3), np.float32), np.zeros((200, 1))
    for member in range(members):
        held_out = hold_out(both, member, members)
        alone = train(replace(FEW, seed=member), train=both.select(~held_out), validation=both.select(held_out))
        np.testing.assert_equal(tagger.weights[member], alone.weights[0])
        sums[held_out] += uncalibrated(alone).score(both.select(held_out).frames)
        times[held_out] += 1
    judged = times[:, 0] > 0
    assert set(times[judged, 0]) == {2}  # each of these was unknown to two heads
    expected = kind.fit_platt(both.Y[judged] > 0, (sums / np.maximum(times, 1))[judged].astype(np.float32))
    np.testing.assert_allclose(tagger.calibration, expected, rtol=1e-4)
    assert tagger.record["tracks"] == {"train": 200, "validation": 0}
    assert [*tagger.record["positives"].values()] == both.Y.sum(axis=0).tolist()


def test_what_a_head_holds_out_has_no_copy_among_what_it_learns_and_counts_for_the_task():
    known, validation = make_examples(120), make_examples(80, seed=1)
    both = known.join(validation)
    parts = [hold_out(both, member, 3) for member in range(3)]
    first, twin = np.flatnonzero(parts[0][:120])[0], np.flatnonzero(~parts[0][:120])[0]
    tracks = [*known.tracks]
    for row in (first, twin):  # two artists, one recording
        tracks[row] = replace(tracks[row], content="the same")
    of_task = np.arange(120) % 3 > 0
    tagger = train(replace(FEW, ensemble=3), train=replace(known, tracks=tuple(tracks)), of_task=of_task)
    judged, sums, times = [*of_task, *[True] * 80], np.zeros((200, 3), np.float32), np.zeros((200, 1), np.float32)
    for member, held_out in enumerate(parts):
        learned = ~held_out
        for row, other in ((first, twin), (twin, first)):
            learned[row] &= not held_out[other]
        head = train(replace(FEW, seed=member), train=both.select(learned), validation=both.select(held_out))
        np.testing.assert_equal(tagger.weights[member], head.weights[0])
        sums[held_out] += uncalibrated(head).score(both.select(held_out).frames)
        times[held_out] += 1
    judged &= times[:, 0] > 0
    expected = kind.fit_platt(both.Y[judged] > 0, (sums / np.maximum(times, 1))[judged])
    np.testing.assert_allclose(tagger.calibration, expected, rtol=1e-4)


def test_all_heads_hold_out_the_validation_part_where_that_cannot_be_learned_from():
    """It knows fewer tags than there are to learn."""
    known = make_examples(120)
    broader = replace(known, Y=known.Y[:, [0, 1, 2, 2]], targets=(*TASK.targets, "azure"))
    members = [train(replace(FEW, seed=seed), train=broader) for seed in (0, 1, 2)]
    both = train(replace(FEW, ensemble=3), train=broader)
    np.testing.assert_equal(both.weights, sum((member.weights for member in members), ()))
    assert not np.array_equal(both.weights[0][-1], both.weights[1][-1])
    assert both.record["tracks"] == {"train": 120, "validation": 80}


def noisy(count, seed):
    """Examples whose targets hang on their inputs by a thread: a head soon overfits."""
    examples = make_examples(count, seed)
    chance = np.random.default_rng(seed + 100).random(examples.Y.shape) < 0.3
    return replace(examples, Y=np.where(chance, 1 - examples.Y, examples.Y).astype(np.float32))


def test_the_best_epochs_weights_are_kept():
    head, augment = HeadConfig("mlp", hidden=64, layers=1, dropout=0.0), Augmentation(mixup=0.0)
    epochs, validation = [], noisy(100, 1)
    config = TrainConfig(head, ensemble=1, epochs=60, patience=4, learning_rate=0.02, batch=16, augment=augment)
    tagger = train(config, train=noisy(80, 0), validation=validation, on_epoch=epochs.append)
    figures = [epoch.figure for epoch in epochs]
    best = len(figures) - int(np.argmax(figures[::-1]))  # of equals the last
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert tagger.record["best_epochs"] == [best]
    assert len(epochs) == best + config.patience < 60  # it stopped early, some epochs past the best
    assert [epoch.number for epoch in epochs if epoch.best][-1] == best
    assert tagger.scores["PR-AUC-macro"] == pytest.approx(max(figures), abs=1e-6)
    # The weights themselves are that epoch's, not only the figure.
    assert figures_of(tagger, validation)["PR-AUC-macro"] == pytest.approx(max(figures), abs=1e-6)
    assert figures[-1] < max(figures)


def test_each_epoch_is_reported_and_the_tagger_tells_how_it_came_about(few, epochs):
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert {epoch.monitor for epoch in epochs} == {"PR-AUC-macro"}
    assert epochs[0].best
    assert epochs[2].loss < epochs[0].loss
    assert few.record["config"]["epochs"] == 3
    assert few.record["data"] == "toy"
    assert few.record["tracks"] == {"train": 120, "validation": 80}
    assert few.record["silent"] == 0
    assert (few.task, few.spec, few.head) == (TASK, SPEC, FEW.head)


def test_thresholds_are_the_best_of_the_validation_part(few):
    validation = make_examples(80, seed=1)
    scores = few.score(validation.frames)
    f_scores = metrics.decision_figures(validation.Y > 0, few.decide(scores))["F-score"]
    for fixed in np.linspace(0.05, 0.95, 19):
        assert (f_scores >= metrics.decision_figures(validation.Y > 0, scores >= fixed)["F-score"] - 1e-9).all()


def test_a_validation_part_that_tells_nothing_is_refused():
    validation = make_examples(20, seed=1)
    for value in (0, 1):
        with pytest.raises(DataError, match="no tag has both positives and negatives in the validation part"):
            train(FEW, validation=replace(validation, Y=np.full_like(validation.Y, value)))
    for task in (CLASSES, VALUES):
        first, second = (label_anew(make_examples(60, seed), task) for seed in range(2))
        same = replace(second, Y=np.tile(second.Y[:1], (60, 1)))
        with pytest.raises(DataError, match="nothing tells when to stop training"):
            fit(first, same, task, SPEC, FEW)


@pytest.mark.thorough
def test_a_tag_that_no_training_track_has_scores_near_nothing():
    examples = make_examples(120)
    examples.Y[:, 1] = 0
    tagger = train(replace(FEW, epochs=8, batch=16), train=examples)
    assert tagger.record["positives"]["green"] == 0
    assert uncalibrated(tagger).score(make_examples(50, seed=2).frames)[:, 1].max() < 0.1
    assert tagger.grades[1] in {"weak", "fair", "unknown"}  # of what the network could not learn


@pytest.mark.parametrize(
    "values",
    [
        *({"epochs": 0}, {"patience": 0}, {"batch": 0}, {"ensemble": 0}, {"average": 1.0}, {"balance": 1.5}),
        *({name: value} for name in ("learning_rate", "weight_decay") for value in (-1.0, float("nan"))),
    ],
)
def test_a_configuration_that_makes_no_sense_is_wrong_usage(values):
    with pytest.raises(UsageError, match="must be"):
        TrainConfig(**values)


def test_parts_that_share_something_are_refused_unless_told():
    examples, validation = make_examples(120), make_examples(80, seed=1)
    shared = replace(validation, tracks=(*validation.tracks[:-1], examples.tracks[5]))
    with pytest.raises(DataError, match=r"track in training and validation: '05/5'.*--leaks drop"):
        train(FEW, validation=shared)
    assert train(replace(FEW, allow_leaks=True), validation=shared).record["config"]["allow_leaks"]


def test_what_the_test_part_has_too_is_warned_of(caplog):
    first = make_examples(120)
    train(replace(FEW, epochs=1), train=replace(first, held_out=(*first.tracks[:2], *make_examples(5, seed=2).tracks)))
    (message,) = caplog.messages
    assert message.startswith("2 tracks have their match in the test part (first: track in training and test: '00/0')")


@pytest.mark.thorough
def test_scores_are_calibrated_on_the_validation_part():
    config = replace(LONGER, balance=1.0)  # positives weigh too much
    tagger, test = train(config, train=noisy(300, 0), validation=noisy(990, 1)), noisy(990, 2)
    scores = uncalibrated(tagger).score(test.frames), tagger.score(test.frames)
    before, after = (kind.bin_scores(test.Y > 0, each).error for each in scores)
    assert after < 0.05 < before


def test_grades_come_from_the_validation_part():
    validation = make_examples(300, seed=1)
    validation.Y[:, 1] = np.random.default_rng(3).random(300) < 0.3
    validation.Y[:, 2] = 0
    validation.Y[:3, 2] = 1
    assert train(LONGER, validation=validation).grades == ("good", "weak", "unknown")
    validation.Y[:3, 2] = 0
    assert np.isinf(train(FEW, validation=validation).thresholds).tolist() == [False, False, True]  # never decided


def test_settings_are_changed_by_name_wherever_they_are():
    config = TrainConfig().updated({"dropout": "0.4", "mixup": "0", "epochs": "7", "pooling": "mean", "loss": "focal"})
    assert (config.head.dropout, config.augment.mixup, config.epochs) == (0.4, 0.0, 7)
    assert (config.head.pooling, config.loss) == ("mean", "focal")
    for name, value, message in (
        ("dropuot", "0.4", r"no setting 'dropuot'; there are: .*dropout.*mixup"),
        ("epochs", "many", "epochs must be a whole number, not 'many'"),
        ("pooling", "max", "unknown pooling 'max'"),
        *((name, "mlp", f"there is no setting '{name}'") for name in ("head", "allow_leaks", "__module__")),
    ):
        with pytest.raises(UsageError, match=message):
            TrainConfig().updated({name: value})


def test_a_training_that_goes_astray_says_so():
    with pytest.raises(DataError, match="training went astray in epoch 1: try a lower learning rate"):
        train(replace(FEW, head=HeadConfig("linear"), learning_rate=3e38))


def test_every_head_has_its_way_of_training():
    assert DEFAULTS.keys() == HEADS.keys()
    assert {TrainConfig.for_head(name).head.name for name in HEADS} == set(HEADS)
    with pytest.raises(UsageError, match="unknown head 'hydra'"):
        TrainConfig.for_head("hydra")


@pytest.mark.thorough
def test_epochs_can_be_judged_by_other_examples_than_the_validation_part():
    """Of a broader task, and of more tracks."""
    examples, more, validation = make_examples(200), make_examples(150, seed=4), make_examples(80, seed=1)
    names = ("blue", "green", "red")
    train_part, watched = (replace(part, Y=part.Y[:, ::-1].copy(), targets=names) for part in (examples, more))
    config, epochs = replace(FEW, epochs=2, learning_rate=2e-3), []
    tagger = fit(train_part, validation, TASK, SPEC, config, watched=watched, on_epoch=epochs.append)
    assert tagger.record["tracks"] == {"train": 200, "validation": 80}
    again = metrics.mean_average_precision(more.Y > 0, tagger.score(more.frames))
    assert again == pytest.approx(max(epoch.figure for epoch in epochs), abs=1e-3)
    shared = replace(watched, tracks=(*watched.tracks[:-1], examples.tracks[0]))
    with pytest.raises(DataError, match="track in training and validation"):
        fit(train_part, validation, TASK, SPEC, config, watched=shared)


@pytest.mark.parametrize(("task", "figure", "least"), [(CLASSES, "accuracy", 0.85), (VALUES, "CCC", 0.9)])
@pytest.mark.parametrize(
    "head",
    ["linear", pytest.param("mlp", marks=pytest.mark.thorough), pytest.param("gru", marks=pytest.mark.slow)],
)
def test_classes_and_values_are_learned_too(task, figure, least, head):
    config = replace(LONGER, head=HeadConfig(head, hidden=32, layers=1), epochs=25, learning_rate=0.02)
    config = replace(config, augment=Augmentation(mixup=0.0))
    parts = [label_anew(make_examples(count, seed), task) for seed, count in enumerate((400, 100, 100))]
    tagger = fit(*parts[:2], task, SPEC, config)
    scores = tagger.score(parts[2].frames)
    assert task.rules.score(task.rules.to_truth(parts[2].Y), scores, tagger.decide(scores))[figure] > least
    if task.scale is not None:
        assert task.scale[0] <= scores.min() <= scores.max() <= task.scale[1]


@pytest.mark.thorough
@pytest.mark.parametrize("head", ["linear", "attention"])
def test_a_scale_does_not_matter(head):
    """The same ratings from 0 to 1, and from 1 to 9."""
    config = TrainConfig(HeadConfig(head, hidden=16, layers=1), ensemble=1, epochs=10, batch=16)
    wide = [label_anew(make_examples(count, seed), VALUES) for seed, count in enumerate((200, 80))]
    narrow = [replace(part, Y=(part.Y - 1) / 8) for part in wide]
    taggers = [fit(*wide, VALUES, SPEC, config), fit(*narrow, replace(VALUES, scale=(0.0, 1.0)), SPEC, config)]
    first, second = (tagger.score(wide[1].frames) for tagger in taggers)
    np.testing.assert_allclose((first - 1) / 8, second, atol=2e-3)
    assert taggers[0].scores["R2"] == pytest.approx(taggers[1].scores["R2"], abs=0.01)
