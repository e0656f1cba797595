"""Values: numbers on a scale, such as valence and arousal, of a whole track or of each moment of it.

A metric that is not defined, because the truth does not vary, is NaN and left out of the means.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks import kind, metrics
from jamendo_mood.tasks.kind import BAR_LEGEND, Evaluated, Kind, Scale, Section
from jamendo_mood.tasks.metrics import Floats, is_defined, mean_of_defined, ratio
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.process import import_quietly

Array = npt.NDArray[np.floating[Any]]
GOOD, FAIR = 0.6, 0.4  # concordance from which a value can be relied on
FEWEST = 5  # examples that tell anything
_EPSILON = 1e-7
GROUPS = 8  # of the truth, whose mean error is drawn
SOLID_POINTS = 150  # so many points are drawn as they are; of more, each is paler
MOST_SONGS = 5
AXES = ("valence", "arousal")


def make_value_loss(name: str, _Y: Array, _: float) -> Callable[[Any, Any], Any]:
    """The loss of a batch of values, the mean over its targets; `UsageError` if there is none of that name.

    ``mse``, or empty, is the squared error; ``ccc`` is 1 minus the concordance correlation of the batch.
    """
    if name not in ("", "mse", "ccc"):
        raise UsageError(f"unknown loss {name!r} for values (known: mse, ccc)")
    ops = import_quietly("keras").ops

    def concordance(truth: Any, scores: Any) -> Any:
        means = [ops.mean(table, axis=0) for table in (truth, scores)]
        apart = [table - mean for table, mean in zip((truth, scores), means, strict=True)]
        spread = ops.mean(ops.square(apart[0]) + ops.square(apart[1]), axis=0) + ops.square(means[0] - means[1])
        return 1 - ops.mean(2 * ops.mean(apart[0] * apart[1], axis=0) / (spread + _EPSILON))

    return concordance if name == "ccc" else lambda truth, scores: ops.mean(ops.square(truth - scores))


def smooth_values(targets: Array, share: float) -> Array:
    """Values are what they are; `UsageError` for any share but 0."""
    if share:
        raise UsageError("smoothing is for tags and classes; values have no certainty to take from")
    return targets


def r2(truth: Array, predictions: Array) -> Floats:
    """Share of the variance that is explained, as scikit-learn's ``r2_score``: 1 is perfect, 0 is the mean of these."""
    error = np.square(np.asarray(predictions, np.float64) - truth).mean(axis=0)
    return np.where(is_defined(truth), 1 - ratio(error, truth.var(axis=0, dtype=np.float64)), np.nan)


def ccc(truth: Array, predictions: Array) -> Floats:
    """Concordance correlation: 1 only where predictions equal the truth, in place and in spread.

    Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1), 1989.
    """
    return value_rows(truth, predictions)["CCC"]


def score_values(truth: Array, predictions: Array, _: object = None) -> dict[str, float]:
    """The headline metrics of predicted values, each the mean over the targets: ``CCC``, ``Pearson``, ``R2``, ``RMSE``.

    Raises `DataError` if shapes differ, a prediction is not a number, or no target varies.
    """
    metrics.check(truth, predictions)
    rows = value_rows(truth, predictions)
    return {name: mean_of_defined(rows[name]) for name in ("CCC", "Pearson", "R2", "RMSE")}


def value_rows(truth: Array, predictions: Array, _: object = None, __: object = None) -> dict[str, Floats]:
    """Columns of the table of targets: the four figures, and the truth's mean and standard deviation."""
    true, predicted = (np.asarray(table, np.float64) for table in (truth, predictions))
    means, spreads = true.mean(axis=0), true.var(axis=0) + predicted.var(axis=0)
    covariance = ((true - means) * (predicted - predicted.mean(axis=0))).mean(axis=0)
    concordance = ratio(2 * covariance, spreads + np.square(means - predicted.mean(axis=0)))
    # A prediction that alone is constant has no correlation, and where the truth is, there is none to have.
    pearson = np.where(is_defined(predicted), ratio(covariance, true.std(axis=0) * predicted.std(axis=0)), 0.0)
    return {
        "CCC": np.where(is_defined(truth), concordance, np.nan),
        "Pearson": np.where(is_defined(truth), pearson, np.nan),
        "R2": r2(truth, predictions),
        "RMSE": np.sqrt(np.square(predicted - true).mean(axis=0)),
        "mean": means,
        "sd": true.std(axis=0),
    }


def score_curves(truth: Array, predictions: Array, songs: Sequence[str]) -> dict[str, float]:
    """How well the course of each song is followed, whatever its level; (n, k) moments, those of a song in their order.

    ``Kendall`` and ``Kendall-sd`` are mean and standard deviation over songs and targets of Kendall's tau-b ("The
    treatment of ties in ranking problems", Biometrika 33 (3), 1945), ``constant-curves`` is how many annotated curves
    never change, and have none. Where only the prediction is constant tau is 0: it says nothing of the course.
    """
    taus = np.array(list(rank_correlations(truth, predictions, songs).values()))
    known = taus[np.isfinite(taus)]
    found = {"Kendall": float(known.mean()), "Kendall-sd": float(known.std())} if len(known) else {}
    return {**found, "constant-curves": int(np.isnan(taus).sum())}


def rank_correlations(truth: Array, predictions: Array, songs: Sequence[str]) -> dict[str, Floats]:
    """Kendall's tau-b of each song and target, (k,) by song, NaN where the truth never changes; see `score_curves`."""
    import pandas as pd

    rows_of: dict[str, npt.NDArray[np.intp]] = pd.Series(np.arange(len(songs))).groupby(np.asarray(songs)).indices
    return {
        str(song): np.array([_tau(*pair) for pair in zip(truth[rows].T, predictions[rows].T, strict=True)])
        for song, rows in rows_of.items()
    }


def _tau(true: Array, predicted: Array) -> float:
    from scipy.stats import kendalltau

    if np.ptp(true) == 0:
        return float("nan")
    return 0.0 if np.ptp(predicted) == 0 else float(kendalltau(true, predicted).statistic)


def grade_values(truth: Array, predictions: Array) -> tuple[str, ...]:
    """How far each target can be relied on, one of `metrics.GRADES`: good from a concordance of 0.6, fair from 0.4."""
    found = ccc(truth, predictions) if len(truth) >= FEWEST else np.full(truth.shape[1], np.nan)
    return tuple(np.select([np.isnan(found), found < FAIR, found < GOOD], ["unknown", "weak", "fair"], "good").tolist())


def place_values(targets: Sequence[str], scale: Scale, values: Array) -> Array | None:
    """Valence and arousal of tracks where these are the values: (..., k) -> (..., 2), from the scale to [-1, 1]."""
    if scale is None or not {*AXES} <= {*targets}:
        return None
    low, high = scale
    chosen = np.asarray(values)[..., [targets.index(axis) for axis in AXES]]
    return np.asarray(np.clip(2 * (chosen - low) / (high - low) - 1, -1, 1), np.float32)


def plot_scatter(evaluation: Evaluated) -> plaintext.Picture:
    """Predicted against true values, a panel a target; where they are equal is a line."""
    figure, panels = plaintext.make_panels(len(evaluation.per_target), 2.6)
    pairs = zip(evaluation.truth.T, evaluation.predictions.T, strict=True)
    for axes, row, (true, predicted) in zip(panels, evaluation.per_target, pairs, strict=True):
        low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
        margin = 0.04 * (high - low) or 0.5
        low, high = low - margin, high + margin
        axes.plot([low, high], [low, high], color=plaintext.PRIOR, linewidth=2, label="where both are equal")
        _draw_points(axes, true, predicted)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="true", ylabel="predicted", aspect="equal")
        says = f"CCC {row['CCC']:.2f}, R² {row['R2']:.2f}" if row["CCC"] is not None else "it does not vary"
        axes.set_title(f"{plaintext.shorten(row['value'])}: {says}", fontsize=9, parse_math=False)
    plaintext.add_legend(figure)
    return figure


def plot_residuals(evaluation: Evaluated) -> plaintext.Picture:
    """Errors, predicted less true, against the truth, with their mean in groups of equal number; a panel a target."""
    figure, panels = plaintext.make_panels(len(evaluation.per_target), 2.6)
    pairs = zip(evaluation.truth.T, evaluation.predictions.T, strict=True)
    for axes, row, (true, predicted) in zip(panels, evaluation.per_target, pairs, strict=True):
        errors = predicted - true
        _draw_points(axes, true, errors)
        axes.axhline(0, color=plaintext.PRIOR, linewidth=2, label="no error")
        order = np.array_split(np.argsort(true, kind="stable"), min(GROUPS, len(true)))
        means = [[values[group].mean() for group in order] for values in (true, errors)]
        axes.plot(*means, "o-", color=plaintext.CONTRAST, markersize=4, label="mean error of a group")
        most = 1.05 * max(float(np.abs(errors).max()), 1e-6)
        axes.set(ylim=(-most, most), xlabel="true", ylabel="predicted - true")
        axes.set_title(f"{plaintext.shorten(row['value'])}: RMSE {row['RMSE']:.3f}", fontsize=9, parse_math=False)
    plaintext.add_legend(figure)
    return figure


def choose_songs(evaluation: Evaluated, count: int = MOST_SONGS) -> list[str]:
    """The song that is followed best, the worst, and some between at equal steps of rank, at most `count`; best first.

    By the mean of Kendall's tau over the targets; songs whose curves never change are left out. Of a task that is no
    dynamic one there are none.
    """
    if not evaluation.songs:
        return []
    taus = rank_correlations(evaluation.truth, evaluation.predictions, evaluation.songs)
    means = {song: own[np.isfinite(own)].mean() for song, own in taus.items() if np.isfinite(own).any()}
    return kind.spread_out(sorted(means, key=lambda song: -means[song]), count)


def plot_courses(evaluation: Evaluated) -> plaintext.Picture:
    """The truth and the prediction over time of the songs of `choose_songs`, a row a song and a column a target."""
    chosen = choose_songs(evaluation)
    taus = rank_correlations(evaluation.truth, evaluation.predictions, evaluation.songs)
    names = np.array(evaluation.songs)
    figure = plaintext.make_picture(plaintext.WIDTH, 0.7 + 1.25 * len(chosen))
    grid = figure.subplots(len(chosen), len(evaluation.per_target), sharey="col", squeeze=False)
    for song, line in zip(chosen, grid, strict=True):
        rows = np.flatnonzero(names == song)
        times_s = evaluation.times_s[rows]
        for column, axes in enumerate(line):
            axes.plot(times_s, evaluation.truth[rows, column], color="#1d2623", linewidth=1.3, label="true")
            predicted = evaluation.predictions[rows, column]
            axes.plot(times_s, predicted, color=plaintext.DECIDED, linewidth=1.6, linestyle="--", label="predicted")
            tau = taus[song][column]
            says = f"tau {tau:.2f}" if np.isfinite(tau) else "never changes"
            axes.set_title(f"{plaintext.shorten(song, 16)}: {says}", fontsize=8, loc="left", parse_math=False)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, row in zip(grid[-1], evaluation.per_target, strict=True):
        axes.set_xlabel(f"seconds  ({plaintext.shorten(row['value'])})", fontsize=9, parse_math=False)
    plaintext.add_legend(figure)
    return figure


def plot_taus(evaluation: Evaluated) -> plaintext.Picture:
    """How many songs are followed how well: a histogram of Kendall's tau, a panel a target."""
    taus = np.array(list(rank_correlations(evaluation.truth, evaluation.predictions, evaluation.songs).values()))
    figure, panels = plaintext.make_panels(len(evaluation.per_target), 2.0)
    for axes, row, own in zip(panels, evaluation.per_target, taus.T, strict=True):
        known = own[np.isfinite(own)]
        axes.hist(known, np.linspace(-1, 1, 21), color=plaintext.DECIDED)
        axes.axvline(0, color=plaintext.PRIOR, linewidth=2, label="guessing")
        if len(known):
            axes.axvline(known.mean(), color=plaintext.CONTRAST, linewidth=2, linestyle="--", label="mean")
        axes.set(xlim=(-1, 1), xlabel="Kendall's tau of a song", ylabel="songs")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_title(plaintext.shorten(row["value"]), fontsize=9, parse_math=False)
    plaintext.add_legend(figure)
    return figure


def _draw_points(axes: Any, across: Array, up: Array) -> None:
    alpha = float(np.clip(0.8 * np.sqrt(SOLID_POINTS / len(across)), 0.06, 0.8))
    axes.plot(across, up, "o", color=plaintext.DECIDED, markersize=3.5, alpha=alpha, markeredgewidth=0)


def show(evaluation: Evaluated) -> Iterator[Section]:
    """The sections of a report on values."""
    what = "moment of a song" if evaluation.songs else "track"
    caption = [
        f"Each dot is a {what}. On the orange line it is predicted as it was rated, above it too high, below too "
        "low. A cloud that lies flatter than the line keeps to the middle: the order is predicted better "
        "than the extremes.",
        "CCC, concordance, is 1 where all dots are on the line. R² is 1 there too, and 0 where naming the mean "
        "every time would come as near.",
    ]
    yield "Predicted against true", [plot_scatter(evaluation)], caption
    caption = [
        "The same dots by their error. The red line is the mean error of groups of equal number: above 0 on the "
        "left and below it on the right means that low values are predicted too high and high ones too low, as a "
        "cautious prediction does.",
    ]
    yield "Where it errs", [plot_residuals(evaluation)], caption
    if not choose_songs(evaluation):
        return
    caption = [
        "The song that is followed best at the top, the worst at the bottom, and some between. Black is how the "
        "song was rated from moment to moment, green the prediction.",
        "Tau, Kendall's, says whether both rise and fall together: 1 is always, 0 no more than by chance, below 0 "
        "against each other. It does not see whether the level is right; the figures further up do.",
    ]
    yield "Songs over time", [plot_courses(evaluation)], caption
    caption = [
        "Kendall's tau of each song. Bars right of the orange line are songs whose course is followed better than "
        "by guessing. A song whose rating never changes has no course, and is not here.",
    ]
    yield "How many songs are followed how well", [plot_taus(evaluation)], caption


KIND = Kind(
    target="value",
    plural="values",
    columns=("name", "value", None),
    on_scale=True,
    activation="linear",
    make_loss=make_value_loss,
    to_truth=lambda targets: targets,
    monitor="R2",  # what the squared error aims at; concordance would prefer what spreads more than it knows
    watch=lambda truth, predictions: mean_of_defined(r2(truth, predictions)),
    smooth=smooth_values,
    start=lambda targets: np.asarray(targets.mean(axis=0), np.float32),
    calibrate=lambda _, scores, scale: np.tile(np.array(scale, np.float64), (scores.shape[1], 1)),
    calibrated=lambda values, ends: np.clip(values, ends[:, 0], ends[:, 1]).astype(np.float32),  # kept to the scale
    decide=lambda scores, _: np.ones(scores.shape, bool),
    grade=grade_values,
    score=score_values,
    check_calibration=lambda _truth, _scores: {},
    rows=value_rows,
    ranked_by="CCC",
    bootstrap=functools.partial(metrics.bootstrap_any, score_values),
    vote=lambda decisions, _: np.asarray(decisions.any(axis=0)),
    place=lambda task, _thresholds, scores, *_: place_values(task.targets, task.scale, scores),
    grades={
        "good": "concordance (CCC) of 0.6 or more: near the truth",
        "fair": "concordance of 0.4 or more: the tendency is right",
        "weak": "concordance below 0.4: hardly better than naming the mean",
        "unknown": "too few examples, or all rated alike, to say",
    },
    meanings={
        "CCC": "Concordance, the mean over the targets: how near points of truth and prediction lie to the line where "
        "both are equal. 1 is perfect, 0 is no agreement; predictions that keep to the middle lower it.",
        "Pearson": "Correlation, the mean over the targets: do predictions rise with the truth, on whatever scale? 1 "
        "is perfect, 0 is none, below 0 the wrong way round.",
        "R2": "The share of the truth's variance that is explained, the mean over the targets. 1 is perfect, 0 is no "
        "better than naming the mean of these examples every time, below 0 is worse.",
        "RMSE": "How far off a prediction is, in the units of the scale: the root of the mean squared error, the mean "
        "over the targets. 0 is perfect, lower is better.",
        "Kendall": "Is the course of a song followed, whatever its level? Take two moments of it: Kendall's tau is how "
        "much oftener both curves order them alike than not; the mean over songs and targets. 1 is perfect, 0 is "
        "guessing, below 0 the wrong way round.",
        "Kendall-sd": "The standard deviation of Kendall's tau over songs and targets: how much songs differ in it.",
        "constant-curves": "Annotated curves that never change, so that there is no course to follow: they are left "
        "out of Kendall. A prediction that never changes counts as 0 there.",
    },
    column_meanings={
        "value": "what is predicted",
        "grade": "how far it can be relied on by these examples, as explained at the top",
        "CCC": "concordance with the truth: 1 is perfect, 0 is no agreement",
        "Pearson": "correlation with the truth",
        "R2": "share of the truth's variance that is explained, 0 is naming the mean every time",
        "RMSE": "root of the mean squared error, in the units of the scale",
        "mean": "of the truth",
        "sd": "the truth's standard deviation: the RMSE of naming the mean every time",
    },
    sections=show,
    says="Predictions are kept to the scale.",
    card_metrics=("CCC", "Pearson", "R2", "RMSE", "Kendall"),
    choose="Choose one to see the seconds that raised it.",
    carried="was raised most by",
    nothing="is much the same all through the song",
    legend=BAR_LEGEND.format("value", ", from {1:g} to {2:g}"),
    states=("", "", "on a scale from {1:g} to {2:g}"),
    footnotes=("on a scale from {0:g} to {1:g}", ""),
)
