"""Losses for heads, and `TAG_LOSSES`, the registry of those for tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.process import import_quietly

Array = npt.NDArray[np.float32]

FOCUS = 2.0
"""How steeply the focal loss fades for what is already right (Lin et al., ICCV 2017)."""

ASYMMETRIC_FOCUS, SHIFT = 4.0, 0.05
"""The same for negatives in the asymmetric loss, whose easiest ones, below the shift, count nothing
(Ridnik et al., ICCV 2021)."""

_EPSILON = 1e-7


def _cross_entropy(ops: Any, probability: Any) -> tuple[Any, Any]:
    return -ops.log(probability), -ops.log(1 - probability)


def _focal(ops: Any, probability: Any) -> tuple[Any, Any]:
    hit, miss = _cross_entropy(ops, probability)
    return hit * (1 - probability) ** FOCUS, miss * probability**FOCUS


def _asymmetric(ops: Any, probability: Any) -> tuple[Any, Any]:
    shifted = ops.maximum(probability - SHIFT, 0.0)
    return -ops.log(probability), -ops.log(1 - shifted) * shifted**ASYMMETRIC_FOCUS


TAG_LOSSES: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "bce": _cross_entropy,
    "focal": _focal,
    "asymmetric": _asymmetric,
}
"""What an example costs that has the tag, and one that has not: (keras.ops, probability) -> both costs."""


def make_tag_loss(name: str, Y: Array, balance: float) -> Callable[[Any, Any], Any]:
    """The loss of a batch: the mean over its examples and tags.

    Parameters
    ----------
    name : str
        A key of `TAG_LOSSES`; empty for ``bce``, binary cross-entropy.
    Y : float32 array (n, k)
        The training targets, whose shares of positives `balance` goes by.
    balance : float
        Positives of a tag weigh (negatives / positives) to this power; 0 weighs all alike.

    Raises
    ------
    UsageError
        There is no such loss.
    """
    name = name or "bce"
    if name not in TAG_LOSSES:
        raise UsageError(f"unknown loss {name!r} for tags (known: {', '.join(TAG_LOSSES)})")
    ops = import_quietly("keras").ops
    positives = Y.sum(axis=0)
    weights = ((len(Y) - positives + 1) / (positives + 1)) ** np.float32(balance)

    def loss(truth: Any, scores: Any) -> Any:
        probability = ops.clip(scores, _EPSILON, 1 - _EPSILON)
        hit, miss = TAG_LOSSES[name](ops, probability)
        return ops.mean(truth * weights * hit + (1 - truth) * miss)

    return loss


def make_class_loss(name: str, Y: Array, balance: float) -> Callable[[Any, Any], Any]:
    """The loss of a batch of a choice between classes, cross-entropy: the mean over its examples and classes.

    Parameters
    ----------
    name : str
        ``cross-entropy``, or empty.
    Y : float32 array (n, k)
        The training targets, one 1 a row.
    balance : float
        An example of a class weighs (mean size of a class / size of this class) to this power.

    Raises
    ------
    UsageError
        There is no such loss.
    """
    if name not in ("", "cross-entropy"):
        raise UsageError(f"unknown loss {name!r} for classes (known: cross-entropy)")
    ops = import_quietly("keras").ops
    sizes = Y.sum(axis=0) + 1
    weights = (sizes.mean() / sizes) ** np.float32(balance)

    def loss(truth: Any, scores: Any) -> Any:
        return ops.mean(truth * weights * -ops.log(ops.clip(scores, _EPSILON, 1.0)))

    return loss


def make_value_loss(name: str, _Y: Array, _: float) -> Callable[[Any, Any], Any]:
    """The loss of a batch of values: the mean over its targets.

    Parameters
    ----------
    name : str
        ``mse`` (or empty), the squared error; or ``ccc``, 1 minus the concordance correlation of the batch.

    Raises
    ------
    UsageError
        There is no such loss.
    """
    if name not in ("", "mse", "ccc"):
        raise UsageError(f"unknown loss {name!r} for values (known: mse, ccc)")
    ops = import_quietly("keras").ops

    def mse(truth: Any, scores: Any) -> Any:
        return ops.mean(ops.square(truth - scores))

    def concordance(truth: Any, scores: Any) -> Any:
        means = [ops.mean(table, axis=0) for table in (truth, scores)]
        apart = [table - mean for table, mean in zip((truth, scores), means, strict=True)]
        spread = ops.mean(ops.square(apart[0]) + ops.square(apart[1]), axis=0) + ops.square(means[0] - means[1])
        return 1 - ops.mean(2 * ops.mean(apart[0] * apart[1], axis=0) / (spread + _EPSILON))

    return concordance if name == "ccc" else mse
