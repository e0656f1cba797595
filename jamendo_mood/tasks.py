"""What is to be predicted, and `KINDS`: the one table of what differs between kinds of task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jamendo_mood import metrics
from jamendo_mood.errors import UsageError

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes
    ----------
    activation, loss : str
        Keras' names: the last activation of a head, and what it is trained on.
    monitor : str
        The figure of `score` that early stopping watches; higher is better.
    start : callable (targets (n, k)) -> (k,)
        The last layer's biases before training: what scores the mean of the targets.
    tune : callable (truth (n, k), scores (n, k)) -> (k,)
        What decisions need to know, chosen on the validation part.
    decide : callable (scores (..., k), tuned (k,)) -> (..., k)
    score : callable (truth, scores, decisions or None) -> dict of float
    """

    activation: str
    loss: str
    monitor: str
    start: Callable[[Array], Array]
    tune: Callable[[npt.NDArray[np.bool_], Array], npt.NDArray[np.float64]]
    decide: Callable[[Array, npt.NDArray[np.float64]], npt.NDArray[np.bool_]]
    score: Callable[[npt.NDArray[np.bool_], Array, npt.NDArray[np.bool_] | None], dict[str, float]]


def log_odds(targets: Array) -> Array:
    """The log-odds of each tag's prior, as if each had been seen once more in each state."""
    positives = targets.sum(axis=0)
    return np.asarray(np.log((positives + 1) / (len(targets) - positives + 1)), np.float32)


def reaches_threshold(scores: Array, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which tags are decided: those whose score is at least their threshold."""
    # In the precision of the scores: a threshold that was one of them must still be reached by it.
    return np.asarray(scores >= thresholds.astype(scores.dtype))


KINDS: dict[str, Kind] = {
    "tags": Kind(
        activation="sigmoid",
        loss="binary_crossentropy",
        monitor="PR-AUC-macro",
        start=log_odds,
        tune=metrics.best_thresholds,
        decide=reaches_threshold,
        score=metrics.score_tags,
    ),
}


@dataclass(frozen=True)
class Task:
    """What is to be predicted; it knows nothing of audio or networks.

    Attributes
    ----------
    name : str
    kind : str
        A key of `KINDS`.
    targets : tuple of str
        The names of the columns, in order: the tags.
    """

    name: str
    kind: str
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"task {self.name!r}: unknown kind {self.kind!r} (known: {', '.join(KINDS)})")
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise UsageError(f"task {self.name!r}: its targets must be different names, at least one")

    @property
    def rules(self) -> Kind:
        """The row of `KINDS` for this task."""
        return KINDS[self.kind]
