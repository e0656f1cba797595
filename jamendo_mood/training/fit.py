"""Examples -> a trained `Tagger`."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import __version__
from jamendo_mood.datasets.dataset import assign_folds, check_leaks, find_leaks
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks import Task, metrics
from jamendo_mood.tasks.metrics import Bools
from jamendo_mood.training.augmentation import Augmentation, draw_batches
from jamendo_mood.training.data import POOLINGS, TO_ONE_ROW, Array, Examples, thin
from jamendo_mood.training.heads import (
    HEADS,
    SCORES,
    STANDARDISE,
    HeadConfig,
    build_head,
    call_head,
    load_head,
    run_heads,
)
from jamendo_mood.training.model import Tagger, Weights
from jamendo_mood.training.svm import solve
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.process import import_quietly

Rows = npt.NDArray[np.intp]

log = logging.getLogger(__name__)

WATCHED_ROWS = 16  # of each validation track after each epoch; in the end all of them are scored
SMALLEST_BATCH = 8
ADAPTED_TO = 20_000  # examples that tell a head how its inputs spread
SMALL = 3_000  #: examples up to which ``svm`` is the default; ``docs/tasks.md`` has what was measured
WARM_UP = 0.05  # share of the steps in which the learning rate rises


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    head: HeadConfig = field(default_factory=lambda: HeadConfig(layers=1, wide=1024))
    ensemble: int = 4  #: heads to train, with the seeds `seed`, `seed` + 1, ...; their scores are averaged
    epochs: int = 12  #: passes over the training part; the learning rate falls to nothing over them (half a cosine)
    #: stop after so many epochs without a validation metric as good as the best; the best epoch's weights are kept, of
    #: equal ones the last
    patience: int = 15
    batch: int = 256  #: examples a step; fewer where the training part is small, so that a pass has ten steps or more
    learning_rate: float = 3e-3  #: at its peak
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
        owners = {"": self, "head": self.head, "augment": self.augment}
        # What is neither a number nor a name, such as `head` itself, is no setting.
        kinds = {name: type(value) for owner in owners.values() for name, value in vars(owner).items()}
        known = {name: kind for name, kind in kinds.items() if kind in (int, float, str)}
        changed = {}
        for name, text in settings.items():
            if name not in known:
                raise UsageError(f"there is no setting {name!r}; there are: {', '.join(sorted(known))}")
            try:
                changed[name] = known[name](text)
            except ValueError:
                kind = "a whole number" if known[name] is int else "a number"
                raise UsageError(f"{name} must be {kind}, not {text!r}") from None
        own, head, augment = (
            {name: value for name, value in changed.items() if name in vars(owner)} for owner in owners.values()
        )
        return replace(self, head=replace(self.head, **head), augment=replace(self.augment, **augment), **own)


_OTHERS = TrainConfig(ensemble=1, epochs=15, batch=128, learning_rate=2e-3)  # than attention
_MANY_ROWS = replace(_OTHERS, augment=Augmentation(crop=32))  # for heads that follow their order
DEFAULTS = {
    # Of one seed: another would end in nearly the same place.
    "linear": replace(_OTHERS, head=HeadConfig("linear", "mean+std", l2=100.0), epochs=30, batch=64),
    "mlp": replace(_OTHERS, head=HeadConfig("mlp", "mean+std", hidden=1024, layers=2, dropout=0.5), ensemble=2),
    "attention": TrainConfig(),
    "conv1d": replace(_MANY_ROWS, head=HeadConfig("conv1d", hidden=64, layers=2, dropout=0.3)),
    "gru": replace(_MANY_ROWS, head=HeadConfig("gru", hidden=32, layers=1, dropout=0.3)),
    "cnn": replace(
        _OTHERS, head=HeadConfig("cnn", hidden=128, layers=4, dropout=0.3), batch=16, augment=Augmentation(4)
    ),
    "svm": TrainConfig(HeadConfig("svm", clip=3.0), ensemble=1),
}
"""How each head is trained by default; ``docs/ablation.md`` says why, and ``docs/tasks.md`` of ``svm``."""


Choice = TrainConfig | Callable[[int], TrainConfig] | None
"""How to train, or what decides it by the number of examples."""


def choose(config: Choice, examples: int) -> TrainConfig:
    """How to train on so many examples, which are those of the validation part, too."""
    if config is None:
        return TrainConfig.for_head("svm" if examples <= SMALL else "attention")
    return config if isinstance(config, TrainConfig) else config(examples)


@dataclass(frozen=True)
class Epoch:
    """One line of progress: training loss, the metric watched on the validation part, whether it is the best so far."""

    member: int
    number: int
    loss: float
    monitor: str
    figure: float
    best: bool
    config: TrainConfig  #: of the whole training


def fit(
    train: Examples,
    validation: Examples,
    task: Task,
    spec: EmbedderSpec,
    config: Choice = None,
    *,
    watched: Examples | None = None,
    of_task: Bools | None = None,
    record: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Tagger:
    """Train heads, watch each on examples that it has not seen, calibrate scores and choose thresholds by these.

    One head, or two, are watched on the validation part. Three or more take turns: each holds out another piece of both
    parts, as large as the validation part, so that together they learn from everything. Each half of a piece is held
    out by two of them, whose mean it is scored by: one head alone is less sure than several. The head ``svm`` has folds
    of its own: see `svm`.

    Parameters
    ----------
    train : Examples
        Its targets may be more than the task's: the head learns them all, and those of the task are kept.
    validation : Examples
        Of the task's targets.
    task : Task
    spec : EmbedderSpec
        What the embeddings were made with.
    config : TrainConfig, function or None
        A function is given the number of examples of both parts; None takes the head
        ``svm`` up to `SMALL` of them, ``attention`` for more.
    watched : Examples or None
        What epochs are compared on, where there is more to compare on than the validation part: examples of a
        broader task, say. Its targets must be among those of `train`; where they are not the same, all heads hold out
        the validation part.
    of_task : bool (n,) or None
        Which training examples belong to the task, so that scores of them may be calibrated by; None for all.
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
    config = choose(config, len(train) + len(validation))
    watched = watched or validation
    _check(train, validation, watched, task, config)
    columns = [train.targets.index(target) for target in task.targets]
    if HEADS[config.head.name].build is None:
        head, weights, best_epochs, judged, raw = _solve(train, validation, task, config)
    else:
        judged, members = _hold_out(train, validation, watched, of_task, task, config.ensemble)
        weights, best_epochs, raw = _train_members(members, judged, task, config, on_epoch)
        head = config.head
    once = list({track: row for row, track in enumerate(train.tracks)}.values())  # copies of a track do not count
    positives = train.Y[once][:, columns].sum(axis=0).astype(int)
    tracks = {name: len(set(part.tracks)) for name, part in (("train", train), ("validation", validation))}
    if judged is not validation:  # it was learned from, too
        positives += validation.Y.sum(axis=0).astype(int)
        tracks = {"train": len({*train.tracks, *watched.tracks}), "validation": 0}
    rules, truth = task.rules, task.rules.to_truth(judged.Y)
    calibration = rules.calibrate(truth, raw, task.scale)
    scores = rules.calibrated(raw, calibration)
    thresholds = rules.choose_thresholds(truth, scores)
    decisions = rules.decide(scores, thresholds)
    figures = {**rules.score(truth, scores, decisions), **rules.check_calibration(truth, scores)}
    artists = [track.artist for track in judged.tracks]
    return Tagger(
        task=task,
        spec=spec,
        head=head,
        weights=weights,
        calibration=calibration,
        thresholds=thresholds,
        grades=rules.grade(truth, scores),
        record={
            "version": __version__,
            "tracks": tracks,
            "silent": train.silent,
            "learned_targets": len(train.targets),
            "positives": {} if rules.on_scale else dict(zip(task.targets, positives.tolist(), strict=True)),
            "best_epochs": best_epochs,
            "config": asdict(config),
            **(record or {}),
        },
        scores=figures,
        intervals=rules.bootstrap(truth, scores, artists, decisions=decisions).intervals(figures),
    )


def _solve(
    train: Examples, validation: Examples, task: Task, config: TrainConfig
) -> tuple[HeadConfig, tuple[Weights, ...], list[int], Examples, Array]:
    """Solve a head that needs no epochs, on both parts, and score them by folds.

    It sees a track as one row. Where the configuration says ``frames``, it is solved for each pooling to one row, and
    the one that scores best is taken. Returns the head, its weights, no epochs, all examples, and the scores of these.
    """
    both = _narrow(train, task).join(validation)
    artists, truth = [track.artist for track in both.tracks], task.rules.to_truth(both.Y)
    poolings = TO_ONE_ROW if config.head.pooling == "frames" else (config.head.pooling,)
    if all(len(frames) == 1 for frames in both.frames):
        poolings = poolings[:1]  # the others would only add zeros
    found = []
    for pooling in poolings:
        rows = np.concatenate([POOLINGS[pooling](frames) for frames in both.frames])
        found.append(solve(rows, both.Y, artists, replace(config.head, pooling=pooling), task.rules))
    head, weights, raw = max(found, key=lambda own: task.rules.watch(truth, own[2]))
    return head, (weights,), [], both, raw


def _narrow(examples: Examples, task: Task) -> Examples:
    """Examples with the targets of the task alone."""
    columns = [examples.targets.index(target) for target in task.targets]
    return replace(examples, Y=examples.Y[:, columns], targets=task.targets)


Member = tuple[Examples, Examples, Rows]
"""What a head learns from, what its epochs are compared on, and which of the examples that are judged by it scores."""


def _hold_out(
    train: Examples, validation: Examples, watched: Examples, of_task: Bools | None, task: Task, count: int
) -> tuple[Examples, list[Member]]:
    """The examples of the task to judge by, and what is held out from each of so many heads."""
    alike = [(train, watched, np.arange(len(validation)))] * count
    artists = {track.artist for track in train.tracks + watched.tracks}
    # Two folds are as large as the validation part.
    folds = min(2 * round(1 + len(train) / len(watched)), len(artists))
    if count < 3 or watched.targets != train.targets or folds < 3:
        return validation, alike
    both, members = train.join(watched), []
    fold_of = assign_folds([track.artist for track in both.tracks], count=folds)
    contents = np.array([track.content for track in both.tracks])
    firsts = {track: row for row, track in reversed([*enumerate(both.tracks)])}
    # A copy of a track is altered, and nothing to judge by; the moments of a track are no copies.
    once = np.array([train.times_s is not None or firsts[track] == row for row, track in enumerate(both.tracks)])
    known = {track.key for track in validation.tracks}
    in_task = np.ones(len(train), bool) if of_task is None else of_task
    in_task = once & np.concatenate([in_task, [track.key in known for track in watched.tracks]])
    turns = min(count, folds)
    in_turn = in_task & (fold_of < turns)
    judged = _narrow(both, task).select(in_turn)
    if not _can_compare(judged, task):  # too few positives to go round
        return validation, alike
    for member in range(count):
        apart = np.isin(fold_of, [member % turns, (member + 1) % turns])
        same = np.isin(contents, np.unique(contents[apart & (contents != "")]))
        held_out = both.select(apart & once)
        if not _can_compare(held_out, task):
            return validation, alike
        members.append((both.select(~apart & ~same), held_out, np.flatnonzero(apart[in_turn])))
    return judged, members


def _train_members(
    members: list[Member], judged: Examples, task: Task, config: TrainConfig, on_epoch: Callable[[Epoch], None]
) -> tuple[tuple[Weights, ...], list[int], Array]:
    """Train the members of an ensemble, one after the other; their weights, best epochs, and what they score."""
    columns = [members[0][0].targets.index(target) for target in task.targets]
    dim, targets, activation = judged.frames[0].shape[-1], len(task.targets), task.rules.activation
    rows = [POOLINGS[config.head.pooling](frames) for frames in judged.frames]
    every, best_epochs = list[Weights](), list[int]()
    sums, times = np.zeros((len(judged), targets), np.float32), np.zeros((len(judged), 1), np.float32)
    for number, (learned, watched, unseen) in enumerate(members):
        (*own, kernel, bias), best = _train_member(learned, watched, task, config, number, on_epoch)
        # In C's order, as when they are loaded: BLAS rounds otherwise in another one.
        every.append((*own, kernel[:, columns].copy("C"), bias[columns]))
        best_epochs.append(best)
        head = load_head(config.head, dim, targets, activation, every[-1])
        sums[unseen] += run_heads([head], [rows[row] for row in unseen])
        times[unseen] += 1
    return tuple(every), best_epochs, sums / times


def _check(train: Examples, validation: Examples, watched: Examples, task: Task, config: TrainConfig) -> None:
    """Raise what `fit` raises; warn of tracks that a later test on the data set's own test part would know already."""
    parts = {"training": train.tracks, "validation": validation.tracks + watched.tracks, "test": train.held_out}
    leaks = [] if config.allow_leaks else find_leaks(parts)
    check_leaks([leak for leak in leaks if leak.parts[1] == "validation"])
    if leaks:
        log.warning(
            "%d tracks have their match in the test part (first: %s), so its scores will be too good; "
            "`evaluation.experiment.train` with leaks='drop' leaves them out",
            *(len({leak.track.key for leak in leaks}), leaks[0]),
        )
    rules = task.rules
    if not _can_compare(validation, task) or not _can_compare(watched, task):
        what = "value varies" if rules.on_scale else f"{rules.target} has both positives and negatives"
        raise DataError(f"no {what} in the validation part, so nothing tells when to stop training")
    if validation.targets != task.targets or not {*task.targets, *watched.targets} <= set(train.targets):
        raise DataError(f"the examples are not labelled with the {len(task.targets)} targets of task {task.name!r}")


def _can_compare(examples: Examples, task: Task) -> bool:
    """Whether examples can tell a better head from a worse one."""
    return bool(metrics.is_defined(task.rules.to_truth(examples.Y)).any())


def _train_member(
    train: Examples, watched: Examples, task: Task, config: TrainConfig, member: int, on_epoch: Callable[[Epoch], None]
) -> tuple[Weights, int]:
    """Train one head of the ensemble; the weights of its best epoch by the task's own metric, and that epoch."""
    import_quietly("keras")  # now: importing it draws from `random`, too
    rules, seed = task.rules, config.seed + member
    rng = np.random.default_rng(seed)
    rows, heard = ([POOLINGS[config.head.pooling](frames) for frames in part.frames] for part in (train, watched))
    heard = [track if len(track) <= WATCHED_ROWS else thin([track], WATCHED_ROWS)[0] for track in heard]
    count = min(config.augment.crop, max(map(len, rows)))
    dim, targets = train.frames[0].shape[-1], len(train.targets)
    with contextlib.ExitStack() as stack:  # Keras draws the seeds of new layers from Python's `random`
        stack.callback(random.setstate, random.getstate())
        random.seed(seed)
        head = build_head(config.head, dim, targets, rules.activation, len(rows))
    known = rows if len(rows) <= ADAPTED_TO else [rows[row] for row in rng.permutation(len(rows))[:ADAPTED_TO]]
    head.get_layer(STANDARDISE).adapt(thin(known, count))
    middle, spread = np.zeros(1, np.float32), np.ones(1, np.float32)
    if rules.on_scale:  # learned in units of their spread: a learning rate then means the same on every scale
        middle, spread = train.Y.mean(axis=0), train.Y.std(axis=0)
        spread[spread == 0] = 1
    Y = rules.smooth((train.Y - middle) / spread, config.augment.smoothing)
    head.get_layer(SCORES).bias.assign(rules.start(Y))
    batch = min(config.batch, max(SMALLEST_BATCH, len(rows) // 10))
    steps = -(-len(rows) // batch)
    head.compile(_optimizer(config, steps), loss=rules.make_loss(config.loss, Y, config.balance))
    head.optimizer.build(head.trainable_variables)  # or else Keras traces each step twice, to make these on the way
    columns, truth = [train.targets.index(target) for target in watched.targets], rules.to_truth(watched.Y)
    best, best_epoch, weights = -np.inf, 0, head.get_weights()

    batches = draw_batches(rows, Y, batch, config.augment, rng)
    for epoch in range(1, config.epochs + 1):
        # Keras' `fit` would read the batches through tf.data, which after the last one sleeps for up to a minute.
        losses = [head.train_on_batch(*next(batches)) for _ in range(steps)]
        as_trained = head.get_weights()
        if config.average:  # evaluate and keep the averaged weights, train on with the others
            head.optimizer.finalize_variable_values(head.trainable_variables)
        scores = run_heads([call_head(config.head, head, rules.activation)], heard) * spread + middle
        if not np.isfinite(scores).all():
            raise DataError(f"training went astray in epoch {epoch}: try a lower learning rate")
        figure = rules.watch(truth, scores[:, columns])
        better = figure >= best  # of equals the later, which has learned longer
        if better:
            best, best_epoch, weights = figure, epoch, head.get_weights()
        head.set_weights(as_trained)
        on_epoch(Epoch(member, epoch, float(np.mean(losses)), rules.monitor, figure, better, config))
        if epoch - best_epoch >= config.patience:
            break
    *others, kernel, bias = weights  # the last layer's last, which alone knows the units
    return (*others, kernel * spread, bias * spread + middle), best_epoch


def _optimizer(config: TrainConfig, steps: int) -> Any:
    keras = import_quietly("keras")
    total = steps * config.epochs
    warm_up = max(1, round(total * WARM_UP))
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 100, max(1, total - warm_up), warmup_target=config.learning_rate, warmup_steps=warm_up
    )
    averaging = {"use_ema": True, "ema_momentum": config.average} if config.average else {}
    # As AdamW, but without a pass over all weights to take nothing from them.
    return keras.optimizers.Adam(rate, weight_decay=config.weight_decay or None, **averaging)
