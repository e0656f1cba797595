"""Scores that mean what they say: of the tracks that score 0.3, three in ten have the tag.

Platt scaling for each tag, shrunk towards one scaling for all tags: a tag with many examples gets a slope and an
offset of its own, a tag with few follows the others. Within a tag the order of scores never changes, but that scores
within 1e-6 of 0 or 1 become equal. How well it worked is the expected calibration error, drawn as a diagram.

References
----------
Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods", 1999.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks.kind import Array, Evaluated, Section
from jamendo_mood.tasks.metrics import LOOKED_AT, PerTag, Truth, brier_skill, mean_of_defined, score_bins
from jamendo_mood.util.plaintext import DECIDED, PRIOR, UNDECIDED, WIDTH, Picture, make_picture

Params = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

SLOPE_SPREAD, OFFSET_SPREAD = 0.2, 0.5
"""How far a tag's slope and offset stray from the common ones: standard deviations of normal priors."""
MIN_SLOPE = 0.05
IDENTITY = (1.0, 0.0)
_NEWTON_STEPS = 30
_CLIP = 1e-6  # scores of 0 and 1 have no log-odds
SCORE_BINS = 30
SCORE_TICKS = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def fit_platt(truth: Truth, scores: Array) -> Params:
    """Fit a slope (at least 0.05) and an offset on the log-odds for each tag: (n, k), scores in [0, 1] -> (k, 2).

    A tag without positives, or without negatives, is fitted too: it stays near what fits all tags.
    """
    odds = log_odds(scores)
    weak = np.array([1e-3, 1e-3])  # of the common fit: enough to keep it finite
    common = _newton(_soften(truth).reshape(-1, 1), odds.reshape(-1, 1), np.array([IDENTITY]), weak)[0]
    spread = 1 / np.square([SLOPE_SPREAD, OFFSET_SPREAD])
    return _newton(truth.astype(float), odds, np.tile(common, (truth.shape[1], 1)), spread)


def apply_platt(scores: Array, params: Params) -> Array:
    """Calibrate scores: float array (..., k) and what `fit_platt` gave -> float32 (..., k), range [0, 1]."""
    odds = log_odds(scores) * params[:, 0] + params[:, 1]
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def log_odds(scores: Array) -> npt.NDArray[np.float64]:
    """Log-odds of probabilities, finite even for 0 and 1."""
    clipped = np.clip(scores.astype(np.float64), _CLIP, 1 - _CLIP)
    odds: npt.NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return odds


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
        along, across = gradient.T
        step = np.stack([offset * along - mixed * across, slope * across - mixed * along], axis=1)
        step = np.clip(step / determinant[:, None], -1, 1)
        # A slope that would fall below its bound stays there, and its offset is fitted alone.
        bound = params[:, 0] - step[:, 0] <= MIN_SLOPE
        step[bound] = np.stack([params[:, 0] - MIN_SLOPE, np.clip(across / offset, -1, 1)], axis=1)[bound]
        params -= step
    return np.asarray(params)


def score_calibration(truth: Truth, scores: Array) -> dict[str, float]:
    """How far scores (n, k) in [0, 1] can be taken at their word; a metric that is not defined is left out.

    ``ECE`` is the `calibration_error` of all scores above 0.1, lower is better; ``Brier-skill-macro`` is the mean of
    `brier_skill`.
    """
    skill = mean_of_defined(brier_skill(truth, scores))
    figures = {"ECE": calibration_error(truth, scores, LOOKED_AT), "Brier-skill-macro": skill}
    return {name: figure for name, figure in figures.items() if np.isfinite(figure)}


def calibration_error(truth: Truth, scores: Array, above: float = 0.0) -> float:
    """Expected calibration error: how far scores lie from the share of positives among equal ones, on average.

    All tags are pooled, and the scores above `above` are put into at most 15 bins of equal counts: most scores of rare
    tags are near 0 and right, while those above 0.1, say, are the ones that a user looks at. NaN if there is none.

    References
    ----------
    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    mean_score, share, count = reliability_curve(truth, scores, above)
    return float(np.average(np.abs(mean_score - share), weights=count)) if len(count) else np.nan


def reliability_curve(truth: Truth, scores: Array, above: float = 0.0) -> tuple[PerTag, PerTag, PerTag]:
    """Mean score, share of positives and count of each bin of `calibration_error`, from low scores to high."""
    bins = score_bins(scores, above)
    used = bins >= 0
    count = np.bincount(bins[used], minlength=1).astype(float)
    filled = count > 0
    total, positive = (np.bincount(bins[used], values[used], minlength=1) for values in (scores, truth))
    return total[filled] / count[filled], positive[filled] / count[filled], count[filled]


def plot_reliability(evaluation: Evaluated) -> Picture:
    """How often tags are right at each score, of all scores and of those above 0.1, over a histogram of the scores."""
    limits = [0.0, *([LOOKED_AT] if (evaluation.predictions > LOOKED_AT).any() else [])]
    figure = make_picture(WIDTH, 4.4)
    pairs = figure.subplots(2, len(limits), sharex="col", height_ratios=(3, 1), squeeze=False).T
    for (axes, histogram), above in zip(pairs, limits, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        histogram.spines[["top", "right"]].set_visible(False)
        _draw_reliability(axes, evaluation, above)
        _draw_counts(histogram, evaluation.predictions[evaluation.predictions > above], axes.get_xlim())
    pairs[0][0].set_ylabel("share that is right")
    pairs[0][1].set_ylabel("scores")
    figure.legend(*pairs[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    return figure


def _draw_reliability(axes: Any, evaluation: Evaluated, above: float) -> None:
    score, share, _ = reliability_curve(evaluation.truth, evaluation.predictions, above)
    error = calibration_error(evaluation.truth, evaluation.predictions, above)
    highest = min(1.0, 1.1 * float(max([*share, evaluation.predictions.max(), 1e-6])))
    which = f"scores above {above}" if above else "all scores"
    none = f" (none above {LOOKED_AT})" if evaluation.predictions.max() <= LOOKED_AT else ""
    axes.set_title(f"{which}{none}: ECE {error:.4f}", fontsize=10)
    # Most scores are small: by their root, those near 0 can be told apart, and a diagonal stays one.
    for set_scale in (axes.set_xscale, axes.set_yscale):
        set_scale("function", functions=(_root, np.square))
    ticks = {"xticks": score_ticks(above, highest), "yticks": score_ticks(0.0, highest)}
    axes.set(xlim=(above, highest), ylim=(0, highest), **ticks)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.plot([above, highest], [above, highest], color=PRIOR, linewidth=2, label="what scores promise")
    axes.plot(score, share, "o-", color=DECIDED, markersize=4, clip_on=False, label="what is true")


def _draw_counts(axes: Any, scores: Floats, limits: tuple[float, float]) -> None:
    """A histogram on the axis of the diagram above it, in bins that look equally wide there."""
    bins = np.linspace(np.sqrt(limits[0]), np.sqrt(limits[1]), SCORE_BINS + 1) ** 2
    counts, _ = np.histogram(scores, bins)
    axes.set(ylim=(0.5, max(20, 2 * counts.max())), yscale="log", xlabel="score")
    axes.bar(bins[:-1], counts, np.diff(bins), align="edge", color=UNDECIDED)


def score_ticks(low: float, high: float) -> list[float]:
    """Round numbers, `low` among them, that do not touch on an axis of roots."""
    gap = 0.15 * (np.sqrt(high) - np.sqrt(low))
    ticks: list[float] = []
    for tick in reversed([tick for tick in SCORE_TICKS if low < tick <= high]):
        below = np.sqrt(ticks[-1]) - np.sqrt(tick) if ticks else gap
        if below >= gap and np.sqrt(tick) - np.sqrt(low) >= gap:
            ticks.append(tick)
    return [low, *reversed(ticks)]


def _root(values: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(values, 0)))


def describe_reliability(evaluation: Evaluated, plural: str, looked_at: str) -> Section:
    """The section of a report that shows the diagram."""
    caption = [
        f"Of all {plural} with a score of 0.3, three in ten should be right: that is the orange line. Each dot "
        "is one of at most 15 groups of scores, equal in number. Above the line, more is right than scores say; "
        "below, they promise too much. The mean distance is the expected calibration error (ECE).",
        f"{looked_at} Below the diagrams: how many scores there are, in steps of ten times as many. The axes "
        "spread small scores out.",
    ]
    return Section("Are scores calibrated?", [plot_reliability(evaluation)], caption)
