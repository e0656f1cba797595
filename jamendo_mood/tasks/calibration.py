"""Scores that mean what they say: of the tracks that score 0.3, three in ten have the tag.

Platt scaling for each tag, shrunk towards one scaling for all tags: a tag with many examples gets a slope and an
offset of its own, a tag with few follows the others. Within a tag the order of scores never changes, but that scores
within 1e-6 of 0 or 1 become equal.

References
----------
Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods", 1999.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]
Params = npt.NDArray[np.float64]

SLOPE_SPREAD, OFFSET_SPREAD = 0.2, 0.5
"""How far a tag's slope and offset stray from the common ones: standard deviations of normal priors."""

MIN_SLOPE = 0.05
IDENTITY = (1.0, 0.0)
_NEWTON_STEPS = 30
_CLIP = 1e-6  # scores of 0 and 1 have no log-odds


def fit_platt(truth: Truth, scores: Array) -> Params:
    """Fit a slope and an offset for each tag.

    Parameters
    ----------
    truth : bool array (n, k)
    scores : float array (n, k)
        Range [0, 1].

    Returns
    -------
    float64 array (k, 2)
        Slope (at least 0.05) and offset on the log-odds. A tag without positives, or without negatives, is fitted too:
        it stays near what fits all tags.
    """
    odds = log_odds(scores)
    weak = np.array([1e-3, 1e-3])  # of the common fit: enough to keep it finite
    common = _newton(_soften(truth).reshape(-1, 1), odds.reshape(-1, 1), np.array([IDENTITY]), weak)[0]
    spread = 1 / np.square([SLOPE_SPREAD, OFFSET_SPREAD])
    return _newton(truth.astype(float), odds, np.tile(common, (truth.shape[1], 1)), spread)


def apply_platt(scores: Array, params: Params) -> Array:
    """Calibrate scores: float array (..., k) and what `fit_platt` gave -> float32 (..., k), range [0, 1]."""
    odds = log_odds(scores) * params[:, 0] + params[:, 1]
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)


def log_odds(scores: Array) -> npt.NDArray[np.float64]:
    """Log-odds of probabilities, finite even for 0 and 1."""
    clipped = np.clip(np.asarray(scores, np.float64), _CLIP, 1 - _CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _soften(truth: Truth) -> npt.NDArray[np.float64]:
    """Platt's targets: as if one more example of each kind had gone the other way, so that no score is certain."""
    positives = int(truth.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (truth.size - positives + 2)
    return np.where(truth, high, low)


def _newton(truth: npt.NDArray[np.float64], odds: npt.NDArray[np.float64], start: Params, precision: Params) -> Params:
    """Maximum a posteriori slopes and offsets (k, 2) of k logistic regressions, with normal priors around `start`."""
    params = start.copy()
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-(odds * params[:, 0] + params[:, 1])))
        error, spread = probability - truth, probability * (1 - probability)
        gradient = np.stack([(error * odds).sum(axis=0), error.sum(axis=0)], axis=1) + precision * (params - start)
        slope, mixed, offset = ((spread * odds**power).sum(axis=0) for power in (2, 1, 0))
        slope, offset = slope + precision[0], offset + precision[1]
        determinant = slope * offset - mixed**2
        step = np.stack(
            [
                offset * gradient[:, 0] - mixed * gradient[:, 1],
                slope * gradient[:, 1] - mixed * gradient[:, 0],
            ],
            axis=1,
        )
        step = np.clip(step / determinant[:, None], -1, 1)
        # A slope that would fall below its bound stays there, and its offset is fitted alone.
        bound = params[:, 0] - step[:, 0] <= MIN_SLOPE
        step[bound] = np.stack([params[:, 0] - MIN_SLOPE, np.clip(gradient[:, 1] / offset, -1, 1)], axis=1)[bound]
        params -= step
    return np.asarray(params)
