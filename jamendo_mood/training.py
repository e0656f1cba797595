"""Examples -> a trained `Tagger`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import __version__
from jamendo_mood.data import Examples
from jamendo_mood.embedders import EmbedderSpec
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.metrics import is_defined
from jamendo_mood.model import HeadConfig, Tagger, build_head
from jamendo_mood.quiet import import_quietly
from jamendo_mood.tasks import Task

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes
    ----------
    head : HeadConfig
    epochs : int
        At most so many passes over the training part.
    patience : int
        Stop after so many epochs without a better validation figure; the best epoch's weights are kept.
    batch : int
    learning_rate : float
    seed : int
        Same seed, same examples, same machine: same tagger.
    """

    head: HeadConfig = field(default_factory=HeadConfig)
    epochs: int = 100
    patience: int = 15
    batch: int = 64
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch) < 1 or self.learning_rate <= 0:
            raise UsageError("epochs, patience, batch and learning rate must be positive")


@dataclass(frozen=True)
class Epoch:
    """One line of progress: training loss, the figure watched on the validation part, whether it is the best so far."""

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
    record: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Tagger:
    """Train a head, stop early on the validation part, choose the thresholds there.

    Parameters
    ----------
    train, validation : Examples
    task : Task
    spec : EmbedderSpec
        What the embeddings were made with.
    config : TrainConfig or None
    record : mapping or None
        What else the tagger is to tell of its making.
    on_epoch : callable
        Called after each epoch.

    Raises
    ------
    DataError
        The validation part cannot tell a better head from a worse one: no target has positives and negatives.
    """
    config = config or TrainConfig()
    truth = validation.Y > 0
    if not is_defined(truth).any():
        raise DataError("no tag has both positives and negatives in the validation part: nothing to stop training by")
    keras = import_quietly("keras")
    keras.utils.set_random_seed(config.seed)
    model = build_head(config.head, train.X.shape[1], task)
    model.get_layer("standardise").adapt(train.X)
    model.layers[-1].bias.assign(task.rules.start(train.Y))
    model.compile(keras.optimizers.AdamW(config.learning_rate), loss=task.rules.loss)
    watcher = _make_watcher(validation, task, config.patience, on_epoch)
    model.fit(train.X, train.Y, batch_size=config.batch, epochs=config.epochs, callbacks=[watcher], verbose=0)
    model.set_weights(watcher.weights)
    scores = np.asarray(model.predict_on_batch(validation.X))
    tuned = task.rules.tune(truth, scores)
    return Tagger(
        task=task,
        spec=spec,
        head=config.head,
        weights=tuple(np.asarray(weight) for weight in watcher.weights),
        tuned=tuned,
        record={
            "version": __version__,
            "tracks": {"train": len(train.X), "validation": len(validation.X)},
            "best_epoch": watcher.best_epoch,
            "config": asdict(config),
            **(record or {}),
        },
        scores=task.rules.score(truth, scores, task.rules.decide(scores, tuned)),
    )


def _make_watcher(validation: Examples, task: Task, patience: int, on_epoch: Callable[[Epoch], None]) -> Any:
    """A Keras callback that judges each epoch by the task's own figure and stops when it no longer rises."""
    keras = import_quietly("keras")

    truth = validation.Y > 0

    class Watcher(keras.callbacks.Callback):  # type: ignore[name-defined,misc]
        best, best_epoch, weights = -np.inf, 0, None

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            scores = np.asarray(self.model.predict_on_batch(validation.X))
            figure = task.rules.score(truth, scores, None)[task.rules.monitor]
            better = figure > self.best
            if better:
                self.best, self.best_epoch, self.weights = figure, epoch + 1, self.model.get_weights()
            elif epoch + 1 - self.best_epoch >= patience:
                self.model.stop_training = True
            on_epoch(Epoch(epoch + 1, float((logs or {})["loss"]), task.rules.monitor, figure, better))

    return Watcher()
