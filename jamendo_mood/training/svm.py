"""Support vector machines: a head that is solved at once, for sets of some hundred or thousand tracks.

It has one hidden layer, a Gaussian around each support vector, and is scored like every other head. Nothing is lost to
validation: it learns from the training and the validation part, and what has to be chosen is chosen by folds of both,
in which no track is scored by a machine that has seen its artist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import assign_folds
from jamendo_mood.tasks.kind import Kind
from jamendo_mood.tasks.metrics import Truth
from jamendo_mood.training.data import Array
from jamendo_mood.training.heads import ACTIVATIONS, HeadConfig
from jamendo_mood.util.errors import UsageError

PENALTIES = (0.5, 1.0, 2.0, 4.0)  #: of which C is chosen, where the setting `l2` is 0
FOLDS = 5
MAX_EXAMPLES = 10_000  # the kernel of so many takes 800 MB
SHARPNESS = np.geomspace(0.25, 16, 49)  # what the machines' sums are multiplied by before they are probabilities


class Solved(NamedTuple):
    """A trained machine, and what it is calibrated by."""

    head: HeadConfig  #: `hidden` is how many support vectors there are
    weights: tuple[npt.NDArray[Any], ...]  #: in the order of `heads.list_shapes`
    raw: Array  #: float32 (n, targets): scores of all examples, each by machines that have not seen its artist


def solve(rows: Array, Y: Array, artists: Sequence[str], config: HeadConfig, rules: Kind) -> Solved:
    """Train a machine for each target, one against the rest, with a Gaussian kernel.

    `rows` are float32 (n, width), `Y` (n, targets). The kernel's width is scikit-learn's ``gamma="scale"``. C is
    ``1 / (2 * l2)``, or where that is 0 the best of `PENALTIES` by the folds. Raises `UsageError` for more than
    `MAX_EXAMPLES` examples, and for fewer than two artists.
    """
    if len(rows) > MAX_EXAMPLES:
        raise UsageError(f"the head svm learns from {MAX_EXAMPLES:,} examples at most, and these are {len(rows):,}")
    from sklearn.metrics.pairwise import rbf_kernel

    mean, variance = rows.mean(axis=0), rows.var(axis=0)
    X = (rows - mean) / np.maximum(np.sqrt(variance), np.float32(1e-7))
    X = np.clip(X, -config.clip, config.clip) if config.clip else X
    middle, spread = (Y.mean(axis=0), np.maximum(Y.std(axis=0), 1e-6)) if rules.on_scale else (0.0, 1.0)
    targets = np.asarray((Y - middle) / spread, np.float32)
    gamma = np.float32(1 / (X.shape[1] * max(float(X.var()), 1e-7)))
    kernel = rbf_kernel(X.astype(np.float64), gamma=float(gamma))
    count = min(FOLDS, len(set(artists)))
    if count < 2:
        raise UsageError("the head svm needs two artists at least, to validate by")
    folds = assign_folds(artists, count=count)
    activate, truth = ACTIVATIONS[rules.activation], rules.to_truth(Y)
    found = []
    for penalty in [1 / (2 * config.l2)] if config.l2 else PENALTIES:
        sums = np.empty_like(Y)
        for fold in range(count):
            known, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            alphas, offsets = _fit(kernel[np.ix_(known, known)], targets[known], penalty, rules)
            sums[held_out] = kernel[np.ix_(held_out, known)] @ alphas + offsets
        sharpness = _sharpen(sums, truth, rules) if rules.activation == "softmax" else 1.0
        raw = np.asarray(activate(sums * sharpness) * spread + middle, np.float32)
        found.append((rules.watch(truth, raw), -penalty, sharpness, raw))
    _, penalty, sharpness, raw = max(found, key=lambda one: one[:2])
    alphas, offsets = _fit(kernel, targets, -penalty, rules)
    used = np.flatnonzero((alphas != 0).any(axis=1))
    scale = np.float32(sharpness) * np.asarray(spread, np.float32)
    weights = (mean, variance, np.zeros((), np.int64), X[used], gamma)
    last = (alphas[used].astype(np.float32) * scale, offsets.astype(np.float32) * scale + np.float32(middle))
    return Solved(replace(config, hidden=len(used)), (*weights, *last), raw)


def _fit(kernel: npt.NDArray[np.float64], targets: Array, penalty: float, rules: Kind) -> tuple[Any, Any]:
    """A machine for each target: the weight of each example (n, targets), and the offset of each machine (targets,)."""
    from sklearn.svm import SVC, SVR

    alphas, offsets = np.zeros(targets.shape), np.zeros(targets.shape[1])
    for column, target in enumerate(targets.T):
        if rules.on_scale:
            machine = SVR(kernel="precomputed", C=penalty).fit(kernel, target)
        elif 0 < (target > 0).sum() < len(target):
            machine = SVC(kernel="precomputed", C=penalty).fit(kernel, target > 0)
        else:  # nothing to tell apart
            offsets[column] = 1.0 if target[0] > 0 else -1.0
            continue
        alphas[machine.support_, column] = machine.dual_coef_[0]
        offsets[column] = machine.intercept_[0]
    return alphas, offsets


def _sharpen(sums: Array, truth: Truth, rules: Kind) -> float:
    """The one of `SHARPNESS` with which these sums are the best probabilities: the machines' sums have no unit."""
    activate = ACTIVATIONS[rules.activation]
    return float(max(SHARPNESS, key=lambda factor: rules.watch(truth, np.asarray(activate(sums * factor), np.float32))))
