"""What is to be predicted, and `KINDS`: the one table of what differs between kinds of task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks import bootstrap, class_metrics, metrics, value_metrics
from jamendo_mood.tasks.calibration import apply_platt, fit_platt
from jamendo_mood.tasks.losses import make_class_loss, make_tag_loss, make_value_loss
from jamendo_mood.util.errors import UsageError

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[Any]
Scale = tuple[float, float] | None
PerTarget = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes
    ----------
    target, plural : str
        What one of its targets is called, and several, such as ``tag`` and ``tags``.
    columns : (str, str, str or None)
        What JSON and CSV call a target's name, its score, and whether it is decided; None where nothing is.
    on_scale : bool
        Whether its targets are numbers on a scale; else they are yes or no.
    activation : str
        Keras' name for the last activation of a head.
    make_loss : callable (name, training targets (n, k), balance) -> loss
        What a head is trained on; see `losses`.
    to_truth : callable (targets float32 (n, k)) -> (n, k)
        What scores are compared with: booleans, or the values themselves.
    is_defined : callable (truth) -> bool (k,)
        Which targets can be judged by these examples.
    monitor : str
        The figure of `score` that training watches; higher is better.
    watch : callable (truth, scores) -> float
        That figure alone: `score` computes many more, which takes as long as training.
    smooth : callable (targets (n, k), share s) -> (n, k)
        Targets that are not quite certain; values are refused.
    start : callable (targets (n, k)) -> (k,)
        The last layer's biases before training: what scores the mean of the targets.
    calibrate : callable (truth (n, k), scores (n, k), the task's scale) -> (k, m)
        What `calibrated` needs to know, chosen on the validation part.
    calibrated : callable (scores (..., k), what `calibrate` gave) -> (..., k)
    tune : callable (truth (n, k), calibrated scores (n, k)) -> (k,)
        What decisions need to know, chosen on the validation part.
    decide : callable (scores (..., k), tuned (k,)) -> (..., k)
    grade : callable (truth, scores) -> k of `metrics.GRADES`
        How far each target can be relied on.
    score : callable (truth, scores, decisions or None) -> dict of float
    check_calibration : callable (truth, scores) -> dict of float
        Figures that have a meaning for calibrated scores alone.
    rows : callable (truth, scores, decisions or None, tuned or None) -> dict of (k,)
        Columns of the table of targets, the first figure of which it is sorted by.
    ranked_by : str
        That column.
    draw : callable (truth, scores, artists, decisions=, rounds=) -> bootstrap.Draws
    vote : callable (decisions (m, n, k), mean scores (n, k)) -> (n, k)
        What m taggers decide together.
    """

    target: str
    plural: str
    columns: tuple[str, str, str | None]
    on_scale: bool
    activation: str
    make_loss: Callable[[str, Array, float], Callable[[Any, Any], Any]]
    to_truth: Callable[[Array], Truth]
    is_defined: Callable[[Truth], npt.NDArray[np.bool_]]
    monitor: str
    watch: Callable[[Truth, Array], float]
    smooth: Callable[[Array, float], Array]
    start: Callable[[Array], Array]
    calibrate: Callable[[Truth, Array, Scale], PerTarget]
    calibrated: Callable[[Array, PerTarget], Array]
    tune: Callable[[Truth, Array], PerTarget]
    decide: Callable[[Array, PerTarget], Truth]
    grade: Callable[[Truth, Array], tuple[str, ...]]
    score: Callable[[Truth, Array, Truth | None], dict[str, float]]
    check_calibration: Callable[[Truth, Array], dict[str, float]]
    rows: Callable[[Truth, Array, Truth | None, PerTarget | None], dict[str, npt.NDArray[Any]]]
    ranked_by: str
    draw: Callable[..., bootstrap.Draws]
    vote: Callable[[Truth, Array], Truth]


def prior_log_odds(targets: Array) -> Array:
    """The log-odds of each tag's prior, as if each had been seen once more in each state."""
    positives = targets.sum(axis=0)
    return np.asarray(np.log((positives + 1) / (len(targets) - positives + 1)), np.float32)


def smooth_tags(targets: Array, share: float) -> Array:
    """Each tag on its own: that share of its certainty goes half and half to yes and no."""
    return np.asarray(targets * (1 - share) + share / 2, np.float32)


def smooth_classes(targets: Array, share: float) -> Array:
    """That share of the certainty goes to all classes alike."""
    return np.asarray(targets * (1 - share) + share / targets.shape[1], np.float32)


def smooth_values(targets: Array, share: float) -> Array:
    """Values are what they are; `UsageError` for any share but 0."""
    if share:
        raise UsageError("smoothing is for tags and classes; values have no certainty to take from")
    return targets


def reaches_threshold(scores: Array, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which tags are decided: those whose score is at least their threshold."""
    # In the precision of the scores: a threshold that was one of them must still be reached by it.
    return np.asarray(scores >= thresholds.astype(scores.dtype))


def is_positive(targets: Array) -> npt.NDArray[np.bool_]:
    """Targets of tags and classes as booleans."""
    return np.asarray(targets > 0)


def vary(values: Array) -> npt.NDArray[np.bool_]:
    """Which values are not the same in all examples: (n, k) -> bool (k,)."""
    return np.asarray((values != values[:1]).any(axis=0))


def decide_by_majority(decisions: Truth, _: Array) -> Truth:
    """The tags that more than half of the taggers decide: bool (m, n, k) -> (n, k)."""
    return np.asarray(decisions.sum(axis=0) * 2 > len(decisions))


def decide_by_plurality(decisions: Truth, scores: Array) -> Truth:
    """The class that most taggers decide, of equals the one with the highest mean score: bool (m, n, k) -> (n, k)."""
    votes = decisions.sum(axis=0)
    leading = votes == votes.max(axis=-1, keepdims=True)
    return class_metrics.choose_highest(np.where(leading, scores, -np.inf))


def keep_to_scale(_truth: Truth, scores: Array, scale: Scale) -> PerTarget:
    """What `clip` needs: the ends of the scale for each target, (k, 2)."""
    return np.tile(np.array(scale or (-np.inf, np.inf), np.float64), (scores.shape[1], 1))


def clip(values: Array, ends: PerTarget) -> Array:
    """Values on their scale: (..., k) and (k, 2) -> (..., k)."""
    return np.asarray(np.clip(values, ends[:, 0], ends[:, 1]), np.float32)


KINDS: dict[str, Kind] = {
    "tags": Kind(
        target="tag",
        plural="tags",
        columns=("tag", "score", "above_threshold"),
        on_scale=False,
        activation="sigmoid",
        make_loss=make_tag_loss,
        to_truth=is_positive,
        is_defined=metrics.is_defined,
        monitor="PR-AUC-macro",
        watch=metrics.mean_average_precision,
        smooth=smooth_tags,
        start=prior_log_odds,
        calibrate=lambda truth, scores, _: fit_platt(truth, scores),
        calibrated=apply_platt,
        tune=metrics.best_thresholds,
        decide=reaches_threshold,
        grade=metrics.grade_tags,
        score=metrics.score_tags,
        check_calibration=metrics.score_calibration,
        rows=metrics.tag_rows,
        ranked_by="PR-AUC",
        draw=bootstrap.draw_figures,
        vote=decide_by_majority,
    ),
    "classes": Kind(
        target="class",
        plural="classes",
        columns=("class", "probability", "chosen"),
        on_scale=False,
        activation="softmax",
        make_loss=make_class_loss,
        to_truth=is_positive,
        is_defined=metrics.is_defined,
        monitor="log-likelihood",
        watch=class_metrics.log_likelihood,
        smooth=smooth_classes,
        start=lambda targets: np.asarray(np.log((targets.sum(axis=0) + 1) / (len(targets) + 1)), np.float32),
        calibrate=lambda _truth, scores, _scale: np.zeros((scores.shape[1], 0)),
        calibrated=lambda scores, _: scores,
        tune=lambda _, scores: np.zeros(scores.shape[1]),
        decide=class_metrics.choose_highest,
        grade=metrics.grade_tags,
        score=class_metrics.score_classes,
        check_calibration=metrics.score_calibration,
        rows=class_metrics.class_rows,
        ranked_by="F-score",
        draw=functools.partial(bootstrap.resample_figures, class_metrics.score_classes),
        vote=decide_by_plurality,
    ),
    "values": Kind(
        target="value",
        plural="values",
        columns=("name", "value", None),
        on_scale=True,
        activation="linear",
        make_loss=make_value_loss,
        to_truth=lambda targets: targets,
        is_defined=vary,
        monitor="R2",  # what the squared error aims at; concordance would prefer what spreads more than it knows
        watch=value_metrics.mean_r2,
        smooth=smooth_values,
        start=lambda targets: np.asarray(targets.mean(axis=0), np.float32),
        calibrate=keep_to_scale,
        calibrated=clip,
        tune=lambda _, scores: np.zeros(scores.shape[1]),
        decide=lambda scores, _: np.ones(scores.shape, bool),
        grade=value_metrics.grade_values,
        score=value_metrics.score_values,
        check_calibration=lambda _truth, _scores: {},
        rows=value_metrics.value_rows,
        ranked_by="CCC",
        draw=functools.partial(bootstrap.resample_figures, value_metrics.score_values),
        vote=lambda decisions, _: np.asarray(decisions.any(axis=0)),
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
        The names of the columns, in order: tags, classes, or what is measured, such as ``valence``.
    scale : (float, float) or None
        Of values: the least and the greatest that can be given.
    rate_hz : float or None
        Of a dynamic annotation: labels a second; None for one label a track.
    """

    name: str
    kind: str
    targets: tuple[str, ...]
    scale: tuple[float, float] | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"task {self.name!r}: unknown kind {self.kind!r} (known: {', '.join(KINDS)})")
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise UsageError(f"task {self.name!r}: its targets must be different names, at least one")
        if (self.scale is not None) != self.rules.on_scale or (self.scale and not self.scale[0] < self.scale[1]):
            raise UsageError(f"task {self.name!r}: values, and they alone, are on a scale from low to high")
        if self.rate_hz is not None and not (self.rules.on_scale and self.rate_hz > 0):
            raise UsageError(f"task {self.name!r}: values, and they alone, have a rate, which is positive")

    @property
    def rules(self) -> Kind:
        """The row of `KINDS` for this task."""
        return KINDS[self.kind]
