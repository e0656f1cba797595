"""Support vector machines: a head that is solved at once, for sets of some hundred or thousand tracks.

It has one hidden layer, which tells how near a track is to each support vector, and is scored like every other head.
The kernel is exp(-d) + p / 4, where d is the mean over the standardised numbers of how far they are apart, and p the
mean of their products: on features with long tails that is far better than the usual Gaussian (``docs/tasks.md``).
Nothing is lost to validation: it learns from the training and the validation part, and is calibrated by folds of both,
in which no track is scored by a machine that has seen its artist. These folds also choose the pooling that makes one
row of a track, unless the configuration names one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import assign_folds
from jamendo_mood.tasks.kind import Kind, fit_platt
from jamendo_mood.tasks.metrics import Floats, Truth
from jamendo_mood.training.data import Array
from jamendo_mood.training.heads import ACTIVATIONS, LINEAR, HeadConfig
from jamendo_mood.util.errors import UsageError

PENALTY = 1.0  #: C, where the setting `l2` is 0
EPSILON = 0.4  # of the spread of a value: how far off a prediction may be at no cost
FOLDS = 5
MAX_EXAMPLES = 10_000  # the kernel of so many takes 800 MB
FACTORS = np.geomspace(0.25, 4, 33)  # what log-odds of each class are multiplied by before they are compared


def solve(
    rows: Array, Y: Array, artists: Sequence[str], config: HeadConfig, rules: Kind
) -> tuple[HeadConfig, tuple[npt.NDArray[Any], ...], Array]:
    """Train the machines for all targets: `rows` are float32 (n, width), `Y` (n, targets), and n artists.

    Returns the head, whose `hidden` is how many support vectors there are; its weights, in the order of
    `heads.list_shapes`; and the scores (n, targets) of all examples, each by machines that have not seen its artist.
    C is ``1 / (2 * l2)``, or `PENALTY` where that is 0. Raises `UsageError` for more than
    `MAX_EXAMPLES` examples, and for fewer than two artists.
    """
    from scipy.spatial.distance import cdist

    count = min(FOLDS, len(set(artists)))
    if count < 2:
        raise UsageError("the head svm needs two artists at least, to validate by")
    if len(rows) > MAX_EXAMPLES:
        raise UsageError(f"the head svm learns from {MAX_EXAMPLES:,} examples at most, and these are {len(rows):,}")
    mean, variance = rows.mean(axis=0), rows.var(axis=0)
    X = (rows - mean) / np.maximum(np.sqrt(variance), np.float32(1e-7))
    X = np.clip(X, -config.clip, config.clip) if config.clip else X
    middle, spread = (Y.mean(axis=0), np.maximum(Y.std(axis=0), 1e-6)) if rules.on_scale else (0.0, 1.0)
    targets = np.asarray((Y - middle) / spread, np.float64)
    gamma = np.float32(1 / max(1, int(np.count_nonzero(variance))))
    wide = X.astype(np.float64)
    kernel = np.exp(-gamma * cdist(wide, wide, "cityblock")) + LINEAR * gamma * (wide @ wide.T)
    folds, truth = assign_folds(artists, count=count), rules.to_truth(Y)
    penalty = 0.5 / config.l2 if config.l2 else PENALTY
    sums = np.empty(Y.shape)
    for fold in range(count):
        known, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        alphas, offsets = _fit(kernel[np.ix_(known, known)], targets[known], penalty, rules)
        sums[held_out] = kernel[np.ix_(held_out, known)] @ alphas + offsets
    slopes, shifts = _compare(sums, truth, rules) if rules.one_of else (spread, middle)
    raw = np.asarray(ACTIVATIONS[rules.activation](sums * slopes + shifts), np.float32)
    alphas, offsets = _fit(kernel, targets, penalty, rules)
    used = np.flatnonzero(alphas.any(axis=1))
    last = (alphas[used] * slopes, offsets * slopes + shifts)
    weights = (mean, variance, np.zeros((), np.int64), X[used], gamma, *(np.asarray(own, np.float32) for own in last))
    return replace(config, hidden=len(used)), weights, raw


def _fit(kernel: Floats, targets: Floats, penalty: float, rules: Kind) -> tuple[Floats, Floats]:
    """Weights of the examples (n, targets) and offsets (targets,): what the machines say is linear in these."""
    from sklearn.svm import SVC, SVR

    alphas, offsets = np.zeros(targets.shape), np.zeros(targets.shape[1])
    kind = functools.partial(SVR, epsilon=EPSILON) if rules.on_scale else SVC
    for rows, target, signs in _divide(targets, rules):
        if (target == target[:1]).all():  # nothing to learn
            offsets += signs * (0.0 if rules.on_scale else 1.0 if target.any() else -1.0)
            continue
        machine = kind(kernel="precomputed", C=penalty).fit(kernel[np.ix_(rows, rows)], target)
        alphas[rows[machine.support_]] += machine.dual_coef_[0][:, np.newaxis] * signs
        offsets += machine.intercept_[0] * signs
    return alphas, offsets


def _divide(targets: Floats, rules: Kind) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[Any], Floats]]:
    """For each machine: the examples it learns from, what of them, and for (1) or against (-1) which target it speaks.

    A value, or a tag, has a machine of its own. Classes have one for each pair, as in scikit-learn's `SVC`.
    """
    every, signs = np.arange(len(targets)), np.eye(targets.shape[1])
    if not rules.one_of:
        for column, target in enumerate(targets.T):
            yield every, target if rules.on_scale else target > 0, signs[column]
        return
    for one, other in combinations(range(targets.shape[1]), 2):
        rows = np.flatnonzero(targets[:, [one, other]].any(axis=1))
        yield rows, targets[rows, one] > 0, signs[one] - signs[other]


def _compare(sums: Floats, truth: Truth, rules: Kind) -> tuple[Floats, Floats]:
    """What turns the sums for classes (n, k) into logits of their probabilities: slopes and shifts (k,)."""
    slopes, shifts = fit_platt(truth, np.asarray(ACTIVATIONS["sigmoid"](sums), np.float32)).T
    logits = sums * slopes + shifts
    factor = max(FACTORS, key=lambda own: rules.watch(truth, np.asarray(ACTIVATIONS["softmax"](logits * own))))
    return slopes * factor, shifts * factor
