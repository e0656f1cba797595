"""What is to be predicted, and `KINDS`: the one table of what differs between kinds of task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import metrics
from jamendo_mood.calibration import apply_platt, fit_platt
from jamendo_mood.errors import UsageError
from jamendo_mood.losses import make_tag_loss

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
PerTarget = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes
    ----------
    activation : str
        Keras' name for the last activation of a head.
    make_loss : callable (name, training targets (n, k), balance) -> loss
        What a head is trained on; see `losses.make_tag_loss`.
    monitor : str
        The figure of `score` that training watches; higher is better.
    watch : callable (truth, scores) -> float
        That figure alone: `score` computes many more, which takes as long as training.
    start : callable (targets (n, k)) -> (k,)
        The last layer's biases before training: what scores the mean of the targets.
    calibrate : callable (truth (n, k), scores (n, k)) -> (k, m)
        What `calibrated` needs to know, chosen on the validation part.
    calibrated : callable (scores (..., k), what `calibrate` gave) -> (..., k)
    tune : callable (truth (n, k), calibrated scores (n, k)) -> (k,)
        What decisions need to know, chosen on the validation part.
    decide : callable (scores (..., k), tuned (k,)) -> (..., k)
    grade : callable (truth, scores) -> k of `metrics.GRADES`
        How far each target can be relied on.
    score : callable (truth, scores, decisions or None) -> dict of float
    """

    activation: str
    make_loss: Callable[[str, Array, float], Callable[[Any, Any], Any]]
    monitor: str
    watch: Callable[[Truth, Array], float]
    start: Callable[[Array], Array]
    calibrate: Callable[[Truth, Array], PerTarget]
    calibrated: Callable[[Array, PerTarget], Array]
    tune: Callable[[Truth, Array], PerTarget]
    decide: Callable[[Array, PerTarget], Truth]
    grade: Callable[[Truth, Array], tuple[str, ...]]
    score: Callable[[Truth, Array, Truth | None], dict[str, float]]


def prior_log_odds(targets: Array) -> Array:
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
        make_loss=make_tag_loss,
        monitor="PR-AUC-macro",
        watch=metrics.mean_average_precision,
        start=prior_log_odds,
        calibrate=fit_platt,
        calibrated=apply_platt,
        tune=metrics.best_thresholds,
        decide=reaches_threshold,
        grade=metrics.grade_tags,
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
