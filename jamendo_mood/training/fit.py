"""Examples -> a trained `Tagger`."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import __version__
from jamendo_mood.datasets.dataset import check_leaks, find_leaks
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks import Task, metrics
from jamendo_mood.training.augmentation import Augmentation, draw_batches
from jamendo_mood.training.data import POOLINGS, Array, Examples, thin
from jamendo_mood.training.heads import SCORES, STANDARDISE, HeadConfig, build_head, call_head, load_head, run_heads
from jamendo_mood.training.model import Tagger, Weights
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.process import import_quietly

log = logging.getLogger(__name__)

WATCHED_ROWS = 32  # of each validation track after each epoch; in the end all of them are scored
SMALLEST_BATCH = 8
ADAPTED_TO = 20_000  # examples that tell a head how its inputs spread
WARM_UP = 0.05  # share of the steps in which the learning rate rises


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    head: HeadConfig = field(default_factory=HeadConfig)
    ensemble: int = 2  #: heads to train, with the seeds `seed`, `seed` + 1, ...; their scores are averaged
    epochs: int = 15  #: passes over the training part; the learning rate falls to nothing over them (half a cosine)
    #: stop after so many epochs without a validation metric as good as the best; the best epoch's weights are kept, of
    #: equal ones the last
    patience: int = 15
    batch: int = 128  #: examples a step; fewer where the training part is small, so that a pass has ten steps or more
    learning_rate: float = 2e-3  #: at its peak
    weight_decay: float = 0.0
    average: float = 0.0  #: momentum of a moving average of the weights, in [0, 1); 0 takes the weights as they are
    loss: str = ""  #: one of the losses of the task's kind; empty for the first of them
    balance: float = 0.0  #: positives of rare tags are weighted by (negatives / positives) to this power, in [0, 1]
    augment: Augmentation = field(default_factory=Augmentation)
    seed: int = 0  #: same seed, same examples, same machine: same tagger
    #: train even if the validation part shares tracks, artists or recordings with the training part
    allow_leaks: bool = False

    def __post_init__(self) -> None:
        if min(self.ensemble, self.epochs, self.patience, self.batch) < 1 or not 0 < self.learning_rate < np.inf:
            raise UsageError("ensemble, epochs, patience, batch and learning rate must be positive")
        if not 0 <= self.weight_decay < np.inf or not 0 <= self.average < 1 or not 0 <= self.balance <= 1:
            raise UsageError("weight decay must be from 0 up, average in [0, 1) and balance in [0, 1]")

    @classmethod
    def for_head(cls, name: str) -> TrainConfig:
        """How to train a head of this name; `UsageError` if there is none."""
        return DEFAULTS.get(name) or cls(HeadConfig(name))

    def updated(self, settings: Mapping[str, str]) -> TrainConfig:
        """Change settings by their names, wherever they are: here, in `head` or in `augment`.

        Raises `UsageError` if there is no such setting, or its value is of another type.
        """
        config = self
        known = _settings(self) | _settings(self.head) | _settings(self.augment)
        for name, text in settings.items():
            for place in ("head", "augment", ""):
                owner = getattr(config, place) if place else config
                if name in _settings(owner):
                    break
            else:
                raise UsageError(f"there is no setting {name!r}; there are: {', '.join(sorted(known))}")
            kept = getattr(owner, name)
            try:
                changed = replace(owner, **dict[str, Any]([(name, type(kept)(text))]))
            except ValueError:
                raise UsageError(f"{name} needs a {type(kept).__name__}, not {text!r}") from None
            config = replace(config, **dict[str, Any]([(place, changed)])) if place else changed
        return config


DEFAULTS = {
    "linear": TrainConfig(
        head=HeadConfig("linear", "mean+std", l2=100.0),
        ensemble=1,  # another seed would end in nearly the same place
        epochs=30,
        batch=64,
        augment=Augmentation(mixup=0.0),
    ),
    "mlp": TrainConfig(HeadConfig("mlp", "mean+std", hidden=1024, layers=2, dropout=0.5), epochs=15),
    "attention": TrainConfig(),
    "conv1d": TrainConfig(
        HeadConfig("conv1d", hidden=64, layers=2, dropout=0.3), ensemble=1, augment=Augmentation(crop=32, mixup=0.0)
    ),
    "gru": TrainConfig(
        HeadConfig("gru", hidden=32, layers=1, dropout=0.3), ensemble=1, augment=Augmentation(crop=32, mixup=0.0)
    ),
    "cnn": TrainConfig(
        HeadConfig("cnn", hidden=128, layers=4, dropout=0.3), ensemble=1, batch=16, augment=Augmentation(4, mixup=0.0)
    ),
}
"""How each head is trained by default; ``docs/ablation.md`` says why."""


def _settings(owner: object) -> set[str]:
    """The numbers and names among the attributes."""
    return {name for name, value in vars(owner).items() if type(value) in (int, float, str)}


@dataclass(frozen=True)
class Epoch:
    """One line of progress: training loss, the metric watched on the validation part, whether it is the best so far."""

    member: int
    number: int
    loss: float
    monitor: str
    figure: float
    best: bool


def fit(
    train: Examples,
    validation: Examples,
    task: Task,
    spec: EmbedderSpec,
    config: TrainConfig | None = None,
    *,
    watched: Examples | None = None,
    record: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Tagger:
    """Train a head, watch it on the validation part, calibrate its scores and choose the thresholds there.

    Parameters
    ----------
    train : Examples
        Its targets may be more than the task's: the head learns them all, and those of the task are kept.
    validation : Examples
        Of the task's targets.
    task : Task
    spec : EmbedderSpec
        What the embeddings were made with.
    config : TrainConfig or None
    watched : Examples or None
        What epochs are compared on, where there is more to compare on than the validation part: examples of a
        broader task, say. Its targets must be among those of `train`.
    record : mapping or None
        What else the tagger is to tell of its making.
    on_epoch : callable
        Called after each epoch.

    Raises
    ------
    DataError
        The two parts share tracks, artists or recordings (what they share with the test part is logged as a warning),
        a target is not among the training targets, or the validation part cannot tell a better head from a worse one:
        no target has positives and negatives.
    """
    config = config or TrainConfig()
    watched = watched or validation
    _check(train, validation, watched, task, config)
    if not config.allow_leaks:
        _warn_of_the_test(train, validation)
    rules, truth = task.rules, task.rules.to_truth(validation.Y)
    columns = np.array([train.targets.index(target) for target in task.targets])
    rows = [POOLINGS[config.head.pooling](frames) for frames in validation.frames]
    trained = [_train_member(train, watched, task, config, member, on_epoch) for member in range(config.ensemble)]
    dim, targets, activation = train.frames[0].shape[-1], len(train.targets), rules.activation
    heads = [load_head(config.head, dim, targets, activation, weights) for weights, _ in trained]
    raw = run_heads(heads, rows)[:, columns]
    calibration = rules.calibrate(truth, raw, task.scale)
    scores = rules.calibrated(raw, calibration)
    thresholds = rules.choose_thresholds(truth, scores)
    decisions = rules.decide(scores, thresholds)
    figures = {**rules.score(truth, scores, decisions), **rules.check_calibration(truth, scores)}
    artists = [track.artist for track in validation.tracks]
    return Tagger(
        task=task,
        spec=spec,
        head=config.head,
        weights=tuple(_cut(weights, columns) for weights, _ in trained),
        calibration=calibration,
        thresholds=thresholds,
        grades=rules.grade(truth, scores),
        record={
            "version": __version__,
            "tracks": {name: len(set(part.tracks)) for name, part in (("train", train), ("validation", validation))},
            "silent": train.silent,
            "learned_targets": len(train.targets),
            "positives": {} if rules.on_scale else _count_positives(train, columns, task),
            "best_epochs": [best for _, best in trained],
            "config": asdict(config),
            **(record or {}),
        },
        scores=figures,
        intervals=rules.bootstrap(truth, scores, artists, decisions=decisions).intervals(figures),
    )


def _count_positives(train: Examples, columns: npt.NDArray[np.intp], task: Task) -> dict[str, int]:
    once = list({track: row for row, track in enumerate(train.tracks)}.values())  # copies of a track do not count
    return dict(zip(task.targets, train.Y[once][:, columns].sum(axis=0).astype(int).tolist(), strict=True))


def _check(train: Examples, validation: Examples, watched: Examples, task: Task, config: TrainConfig) -> None:
    for part in (validation, watched):
        if not config.allow_leaks:
            check_leaks(find_leaks({"training": train.tracks, "validation": part.tracks}))
        rules = task.rules
        if not metrics.is_defined(rules.to_truth(part.Y)).any():
            what = "value varies" if rules.on_scale else f"{rules.target} has both positives and negatives"
            raise DataError(f"no {what} in the validation part: nothing to stop training by")
    if validation.targets != task.targets or not {*task.targets, *watched.targets} <= set(train.targets):
        raise DataError(f"the examples are not labelled with the {len(task.targets)} targets of task {task.name!r}")


def _warn_of_the_test(train: Examples, validation: Examples) -> None:
    """Warn of tracks that a later test on the data set's own test part would know already."""
    leaks = find_leaks({"training": train.tracks, "validation": validation.tracks, "test": train.held_out})
    leaks = [leak for leak in leaks if leak.parts[1] == "test"]
    if leaks:
        log.warning(
            "%d tracks have their match in the test part (first: %s), so its scores will be too good; "
            "`evaluation.experiment.train` with leaks='drop' leaves them out",
            *(len({leak.track.key for leak in leaks}), leaks[0]),
        )


def _train_member(
    train: Examples, watched: Examples, task: Task, config: TrainConfig, member: int, on_epoch: Callable[[Epoch], None]
) -> tuple[Weights, int]:
    """Train one head of the ensemble; the weights of its best epoch, and that epoch."""
    seed = config.seed + member
    rng = np.random.default_rng(seed)
    rows = [POOLINGS[config.head.pooling](frames) for frames in train.frames]
    count = min(config.augment.crop, max(map(len, rows)))
    dim, targets = train.frames[0].shape[-1], len(train.targets)
    with _seeded(seed):
        head = build_head(config.head, dim, targets, task.rules.activation, len(rows))
    known = rows if len(rows) <= ADAPTED_TO else [rows[row] for row in rng.permutation(len(rows))[:ADAPTED_TO]]
    head.get_layer(STANDARDISE).adapt(thin(known, count))
    # Values are learned in units of their spread: a learning rate then means the same on every scale.
    middle, spread = units = _units(train.Y) if task.rules.on_scale else (0.0, 1.0)
    Y = task.rules.smooth((train.Y - middle) / spread, config.augment.smoothing)
    head.get_layer(SCORES).bias.assign(task.rules.start(Y))
    batch = min(config.batch, max(SMALLEST_BATCH, len(rows) // 10))
    steps = -(-len(rows) // batch)
    head.compile(_optimizer(config, steps), loss=task.rules.make_loss(config.loss, Y, config.balance))
    head.optimizer.build(head.trainable_variables)  # or else Keras traces each step twice, to make these on the way
    columns = np.array([train.targets.index(target) for target in watched.targets])
    watcher = _make_watcher(watched, columns, task, config, units, lambda *found: on_epoch(Epoch(member, *found)))
    head.fit(
        draw_batches(rows, Y, batch, config.augment, rng),
        steps_per_epoch=steps,
        epochs=config.epochs,
        callbacks=[watcher],
        shuffle=False,  # the batches are drawn at random
        verbose=0,
    )
    *weights, kernel, bias = watcher.weights  # the last layer's last, which alone knows the units
    last = (np.asarray(kernel * spread, np.float32), np.asarray(bias * spread + middle, np.float32))
    return (*weights, *last), watcher.best_epoch


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras draws the seeds of new layers from Python's `random`, whose state is put back."""
    import_quietly("keras")  # which draws from `random` as it is imported
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _units(Y: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each value; 1 where it does not vary."""
    spread = Y.std(axis=0)
    return Y.mean(axis=0), np.where(spread > 0, spread, np.float32(1))


def _optimizer(config: TrainConfig, steps: int) -> Any:
    keras = import_quietly("keras")
    total = steps * config.epochs
    warm_up = max(1, round(total * WARM_UP))
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 100, max(1, total - warm_up), warmup_target=config.learning_rate, warmup_steps=warm_up
    )
    averaging = {"use_ema": True, "ema_momentum": config.average} if config.average else {}
    return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **averaging)


def _cut(arrays: Weights, columns: npt.NDArray[np.intp]) -> Weights:
    """The weights of the head that scores these of its targets alone; the last two are its last layer's."""
    *weights, kernel, bias = arrays
    return (*weights, np.ascontiguousarray(kernel[:, columns]), bias[columns])


def _make_watcher(
    watched: Examples,
    columns: npt.NDArray[np.intp],
    task: Task,
    config: TrainConfig,
    units: tuple[Array | float, Array | float],
    on_epoch: Callable[[int, float, str, float, bool], None],
) -> Any:
    """A Keras callback that evaluates each epoch by the task's own metric and stops when it no longer rises."""
    keras = import_quietly("keras")

    rows = [POOLINGS[config.head.pooling](frames) for frames in watched.frames]
    heard = [track if len(track) <= WATCHED_ROWS else thin([track], WATCHED_ROWS)[0] for track in rows]

    class Watcher(keras.callbacks.Callback):  # type: ignore[name-defined,misc]
        best, best_epoch, weights = -np.inf, 0, None

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            as_trained = self.model.get_weights()
            if self.model.optimizer.use_ema:  # evaluate and keep the averaged weights, train on with the others
                self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
            score = call_head(config.head, self.model, task.rules.activation)
            scores = (run_heads([score], heard) * units[1] + units[0])[:, columns]
            if not np.isfinite(scores).all():
                raise DataError(f"training went astray in epoch {epoch + 1}: try a lower learning rate")
            figure = task.rules.watch(task.rules.to_truth(watched.Y), scores)
            better = figure >= self.best  # of equals the later, which has learned longer
            if better:
                self.best, self.best_epoch, self.weights = figure, epoch + 1, self.model.get_weights()
            elif epoch + 1 - self.best_epoch >= config.patience:
                self.model.stop_training = True
            self.model.set_weights(as_trained)
            on_epoch(epoch + 1, float((logs or {})["loss"]), task.rules.monitor, figure, better)

    return Watcher()
