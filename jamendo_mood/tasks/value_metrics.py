"""What predicted values are judged by: pure functions on ``(n, k)`` arrays, n examples and k targets.

A figure that is not defined, because the truth does not vary, is NaN and left out of the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import DataError

Array = npt.NDArray[np.floating[Any]]
PerTarget = npt.NDArray[np.float64]

GOOD, FAIR = 0.6, 0.4  # concordance from which a value can be relied on
FEWEST = 5  # examples that tell anything


def rmse(truth: Array, predictions: Array) -> PerTarget:
    """Root of the mean squared error of each target, in the units of its scale."""
    return np.asarray(np.sqrt(np.square(_errors(truth, predictions)).mean(axis=0)))


def r2(truth: Array, predictions: Array) -> PerTarget:
    """Share of the variance that is explained: 1 is perfect, 0 is the mean of these examples, less is worse.

    References
    ----------
    scikit-learn's ``r2_score``.
    """
    error = np.square(_errors(truth, predictions)).mean(axis=0)
    return np.where(_vary(truth), 1 - _divide(error, truth.var(axis=0, dtype=np.float64)), np.nan)


def pearson(truth: Array, predictions: Array) -> PerTarget:
    """Pearson's correlation; 0 where only the prediction is constant."""
    spread = truth.std(axis=0, dtype=np.float64) * predictions.std(axis=0, dtype=np.float64)
    found = np.where(_vary(predictions), _divide(_covariance(truth, predictions), spread), 0.0)
    return np.where(_vary(truth), found, np.nan)


def ccc(truth: Array, predictions: Array) -> PerTarget:
    """Concordance correlation: 1 only where predictions equal the truth, in place and in spread.

    References
    ----------
    Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1), 1989.
    """
    apart = np.square(truth.mean(axis=0, dtype=np.float64) - predictions.mean(axis=0, dtype=np.float64))
    spread = truth.var(axis=0, dtype=np.float64) + predictions.var(axis=0, dtype=np.float64) + apart
    found = _divide(2 * _covariance(truth, predictions), spread)
    return np.where(_vary(truth), found, np.nan)


def mean_r2(truth: Array, predictions: Array) -> float:
    """The mean of `r2` over the targets that have one."""
    return _mean(r2(truth, predictions))


def score_values(truth: Array, predictions: Array, _: object = None) -> dict[str, float]:
    """The headline figures of predicted values, each the mean over the targets: ``CCC``, ``Pearson``, ``R2``, ``RMSE``.

    Raises
    ------
    DataError
        Shapes differ, a prediction is not a number, or no target varies.
    """
    check_values(truth, predictions)
    return {name: _mean(figures) for name, figures in value_rows(truth, predictions).items() if name in _HEADLINE}


def value_rows(
    truth: Array, predictions: Array, _decisions: object = None, _tuned: object = None
) -> dict[str, PerTarget]:
    """Columns of the table of targets: the four figures, and the truth's mean and standard deviation."""
    return {
        "CCC": ccc(truth, predictions),
        "Pearson": pearson(truth, predictions),
        "R2": r2(truth, predictions),
        "RMSE": rmse(truth, predictions),
        "mean": truth.mean(axis=0, dtype=np.float64),
        "sd": truth.std(axis=0, dtype=np.float64),
    }


_HEADLINE = ("CCC", "Pearson", "R2", "RMSE")


def score_curves(truth: Array, predictions: Array, songs: Sequence[str]) -> dict[str, float]:
    """How well the course of each song is followed, whatever its level.

    Parameters
    ----------
    truth, predictions : float arrays (n, k)
        Moments, those of a song in their order.
    songs : n names

    Returns
    -------
    dict of float
        ``Kendall`` and ``Kendall-sd``: mean and standard deviation over songs and targets of Kendall's tau-b;
        ``constant-curves``: how many annotated curves never change, and have none. Where only the prediction is
        constant tau is 0: it tells nothing of the course.

    References
    ----------
    Kendall, "The treatment of ties in ranking problems", Biometrika 33 (3), 1945.
    """
    taus = np.array(list(rank_correlations(truth, predictions, songs).values()))
    known = taus[np.isfinite(taus)]
    figures = {"Kendall": float(known.mean()), "Kendall-sd": float(known.std())} if len(known) else {}
    return {**figures, "constant-curves": int(np.isnan(taus).sum())}


def rank_correlations(truth: Array, predictions: Array, songs: Sequence[str]) -> dict[str, PerTarget]:
    """Kendall's tau-b of each song and target, (k,) by song, NaN where the truth never changes; see `score_curves`."""
    return {
        str(songs[rows[0]]): np.array([_tau(*pair) for pair in zip(truth[rows].T, predictions[rows].T, strict=True)])
        for rows in rows_of(songs)
    }


def _tau(true: Array, predicted: Array) -> float:
    from scipy.stats import kendalltau

    if np.ptp(true) == 0:
        return float("nan")
    return 0.0 if np.ptp(predicted) == 0 else float(kendalltau(true, predicted).statistic)


def grade_values(truth: Array, predictions: Array) -> tuple[str, ...]:
    """How far each target can be relied on, one of `metrics.GRADES`: good from a concordance of 0.6, fair from 0.4."""
    if len(truth) < FEWEST:
        return ("unknown",) * int(truth.shape[1])
    found = ccc(truth, predictions)
    chosen = [np.isnan(found), found < FAIR, found < GOOD]
    grades: list[str] = np.select(chosen, ["unknown", "weak", "fair"], "good").tolist()
    return tuple(grades)


def check_values(truth: Array, predictions: Array) -> None:
    """Raise `DataError` unless the arrays can be compared: same 2-D shape, finite, something that varies."""
    if truth.ndim != 2 or predictions.shape != truth.shape:
        raise DataError(f"predictions have the shape {predictions.shape}, the truth has {truth.shape}")
    for name, array in (("truth", truth), ("predictions", predictions)):
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if len(bad):
            raise DataError(f"{len(bad)} of {len(array)} rows of the {name} hold NaN or infinity, first row {bad[0]}")
    if not _vary(truth).any():
        raise DataError(f"no target among {truth.shape[1]} varies in {len(truth)} examples")


def rows_of(songs: Sequence[str]) -> list[npt.NDArray[np.intp]]:
    """The rows of each song, in the order of their names: n names -> an int array for each song."""
    _, numbers = np.unique(np.asarray(songs), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _vary(values: Array) -> npt.NDArray[np.bool_]:
    # By the values themselves: the standard deviation of equal ones is not always 0, their mean being rounded.
    return np.asarray(np.ptp(values, axis=0) > 0)


def _errors(truth: Array, predictions: Array) -> PerTarget:
    return np.asarray(predictions, np.float64) - truth


def _covariance(truth: Array, predictions: Array) -> PerTarget:
    true, predicted = (np.asarray(table, np.float64) for table in (truth, predictions))
    return np.asarray(((true - true.mean(axis=0)) * (predicted - predicted.mean(axis=0))).mean(axis=0))


def _divide(part: PerTarget, whole: PerTarget) -> PerTarget:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


def _mean(figures: PerTarget) -> float:
    return float(np.nanmean(figures)) if np.isfinite(figures).any() else float("nan")
