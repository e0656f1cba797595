"""What a kind of task must say of itself, `Kind`; and what several have in common: calibration, and pictures.

Calibrated scores mean what they say: of the tracks that score 0.3, three in ten have the tag. It is Platt scaling for
each tag, shrunk towards one scaling for all tags: a tag with many examples gets a slope and an offset of its own, a tag
with few follows the others. Within a tag the order of scores never changes, but that scores within 1e-6 of 0 or 1
become equal. How well it worked is the expected calibration error, drawn as a diagram.

References
----------
Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods", 1999.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jamendo_mood.tasks import metrics
from jamendo_mood.tasks.metrics import LOOKED_AT, Array, Bools, Floats, Truth
from jamendo_mood.util import plaintext
from jamendo_mood.util.plaintext import Picture, shorten

Scale = tuple[float, float] | None
Evaluated = Any  #: what a report is made of, an `evaluation.evaluate.Evaluation`, which a later room defines

Section = tuple[str, Sequence[Picture], Sequence[str]]
"""Of a report: a heading, pictures that belong together, and paragraphs that say what to look for in them."""

BAR_LEGEND = "Bar: {} of the song{}. Thin line: where it lies for 80 % of the time."


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of task: how its heads learn, how they are evaluated, and what is said of them."""

    #: what one of its targets is called, and several, such as ``tag`` and ``tags``
    target: str
    plural: str
    #: what JSON and CSV call a target's name, its score, and whether it is decided; None where nothing is
    columns: tuple[str, str, str | None]
    on_scale: bool = False  #: whether its targets are numbers on a scale; else they are yes or no
    has_thresholds: bool = False  #: whether decisions are made by thresholds that can be shown
    activation: str  #: Keras' name for the last activation of a head
    #: (name, training targets (n, k), balance) -> the loss that a head is trained on
    make_loss: Callable[[str, Array, float], Callable[[Any, Any], Any]]
    #: (n, k) -> (n, k): what scores are compared with, booleans or the values themselves
    to_truth: Callable[[Array], Truth] = lambda targets: targets > 0
    monitor: str  #: the metric of `score` that training watches; higher is better
    #: that metric alone: `score` computes many more, which takes as long as training
    watch: Callable[[Truth, Array], float]
    #: (targets (n, k), share) -> (n, k): targets that are not quite certain; values are refused
    smooth: Callable[[Array, float], Array]
    #: (n, k) -> (k,): the last layer's biases before training, which score the mean of the targets
    start: Callable[[Array], Array]
    #: (truth, scores, the task's scale) -> (k, m): what `calibrated` needs to know, chosen on the validation part
    calibrate: Callable[[Truth, Array, Scale], Floats]
    calibrated: Callable[[Array, Floats], Array]  #: (scores (..., k), what `calibrate` gave) -> (..., k)
    #: (truth, calibrated scores) -> (k,): what decisions need to know, chosen on what was held out
    choose_thresholds: Callable[[Truth, Array], Floats] = lambda _, scores: np.zeros(scores.shape[1])
    decide: Callable[[Array, Floats], Bools]  #: (scores (..., k), thresholds (k,)) -> (..., k)
    #: how far each target can be relied on: k keys of `grades`
    grade: Callable[[Truth, Array], tuple[str, ...]] = metrics.grade_tags
    #: the headline metrics, of (truth, scores, decisions)
    score: Callable[[Truth, Array, Bools | None], dict[str, float]]
    #: metrics that have a meaning for calibrated scores alone
    check_calibration: Callable[[Truth, Array], dict[str, float]] = lambda *arrays: score_calibration(*arrays)
    #: (truth, scores, decisions, thresholds) -> columns (k,) of the table of targets
    rows: Callable[[Truth, Array, Bools | None, Floats | None], dict[str, Any]]
    ranked_by: str  #: the column that it is sorted by
    bootstrap: Callable[..., metrics.Samples]  #: of (truth, scores, artists, decisions=, rounds=)
    #: (decisions (m, n, k), mean scores (n, k)) -> (n, k): what m taggers decide together
    vote: Callable[[Bools, Array], Bools]
    #: (task, thresholds, scores (..., k), places of tags, places of classes) -> (..., 2): valence and arousal, [-1, 1],
    #: by what is predicted; None where that says nothing of them
    place: Callable[..., Array | None]

    grades: Mapping[str, str] = field(default_factory=lambda: metrics.GRADES)  #: what each grade means
    meanings: Mapping[str, str]  #: the headline metrics, each in a sentence or two
    column_meanings: Mapping[str, str]  #: the columns of the table of targets, in order, each in a few words
    #: the pictures of an evaluation, with what to look for in them; one at a time, for pictures take memory
    sections: Callable[[Evaluated], Iterator[Section]]
    says: str  #: what a tagger's scores are
    card_metrics: tuple[str, ...]  #: those of the metrics that a card shows
    #: on a song's page: how to see the seconds that carried a target, what stands before them, and what where there are
    #: none; what its bars are; what a bar says where its target is decided, where not, and where it has no threshold
    choose: str
    carried: str = "was carried most by"
    nothing: str = "lies over the whole song, or hardly in it"
    legend: str
    states: tuple[str, str, str]
    #: what stands below a song's scores where something is decided, where nothing is, and where there are no thresholds
    footnotes: tuple[str, str]
    only_ranked: str = ""

    @property
    def one_of(self) -> bool:
        """Whether one target is right and the others are not: scores are then a distribution over them."""
        return self.activation == "softmax"


SLOPE_SPREAD, OFFSET_SPREAD = 0.2, 0.5
"""How far a tag's slope and offset stray from the common ones: standard deviations of normal priors."""
MIN_SLOPE = 0.05
IDENTITY = (1.0, 0.0)
_NEWTON_STEPS = 30
_CLIP = 1e-6  # scores of 0 and 1 have no log-odds


def fit_platt(truth: Truth, scores: Array) -> Floats:
    """Fit a slope (at least 0.05) and an offset on the log-odds for each tag: (n, k), scores in [0, 1] -> (k, 2).

    A tag without positives, or without negatives, is fitted too: it stays near what fits all tags.
    """
    odds, positives = log_odds(scores), int(truth.sum())
    # Platt's targets: as if one more example of each kind had gone the other way, so that no score is certain.
    soft = np.where(truth, (positives + 1) / (positives + 2), 1 / (truth.size - positives + 2))
    weak = np.array([1e-3, 1e-3])  # of the common fit: enough to keep it finite
    common = _newton(soft.reshape(-1, 1), odds.reshape(-1, 1), np.array([IDENTITY]), weak)[0]
    spread = 1 / np.square([SLOPE_SPREAD, OFFSET_SPREAD])
    return _newton(truth.astype(float), odds, np.tile(common, (truth.shape[1], 1)), spread)


def apply_platt(scores: Array, params: Floats) -> Array:
    """Calibrate scores: float array (..., k) and what `fit_platt` gave -> float32 (..., k), range [0, 1]."""
    odds = log_odds(scores) * params[:, 0] + params[:, 1]
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def log_odds(scores: Array) -> Floats:
    """Log-odds of probabilities, finite even for 0 and 1."""
    clipped = np.clip(scores.astype(np.float64), _CLIP, 1 - _CLIP)
    odds: Floats = np.log(clipped) - np.log1p(-clipped)  # no np.asarray: ONNX files are traced through this
    return odds


def _newton(truth: Floats, odds: Floats, start: Floats, precision: Floats) -> Floats:
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


CALIBRATION_MEANINGS = {
    "ECE": "How far scores above 0.1 are, on average, from the share of them that is right. Lower is better; "
    "perfectly calibrated scores come to about ECE-luck.",
    "ECE-luck": "The ECE that luck alone would give, if each score were exactly the chance of being right: the fewer "
    "scores above 0.1, the higher.",
    "Brier-skill-macro": "How much closer scores come to the truth, in squared error, than the prior as the score of "
    "every track; the mean over the targets. 1 is perfect, 0 is no better than the prior, below 0 is worse.",
}
"""What `score_calibration` finds, in words."""


def score_calibration(truth: Truth, scores: Array) -> dict[str, float]:
    """How far scores (n, k) in [0, 1] can be taken at their word; a metric that is not defined is left out.

    ``ECE`` and ``ECE-luck`` are `Reliability.error` and `luck` of scores above 0.1; ``Brier-skill-macro`` is the mean
    of `brier_skill`.
    """
    skill = metrics.mean_of_defined(metrics.brier_skill(truth, scores))
    above = bin_scores(truth, scores, LOOKED_AT)
    found = {"ECE": above.error, "ECE-luck": above.luck, "Brier-skill-macro": skill}
    return {name: figure for name, figure in found.items() if np.isfinite(figure)}


@dataclass(frozen=True, eq=False)
class Reliability:
    """Of bins of scores, from low to high: the mean score, the share of positives, and how far that may stray."""

    score: Floats
    share: Floats
    spread: Floats  #: the standard deviation of the share, if each score were exactly the chance of being right
    count: Floats  #: scores in the bin

    @property
    def error(self) -> float:
        """Expected calibration error: how far scores lie from the share of positives, on average. NaN without scores.

        References
        ----------
        Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
        """
        return self._mean(np.abs(self.score - self.share))

    @property
    def luck(self) -> float:
        """What the error would be on average if each score were exactly the chance of being right.

        It takes the tags of a track for independent, and shares for normal: their mean distance from their own mean is
        then sqrt(2 / pi) standard deviations.
        """
        return self._mean(np.sqrt(2 / np.pi) * self.spread)

    def _mean(self, values: Floats) -> float:
        return float(np.average(values, weights=self.count)) if len(values) else np.nan


def bin_scores(truth: Truth, scores: Array, above: float = 0.0) -> Reliability:
    """Scores (n, k) in at most 15 bins of equal counts, all tags together, but for those up to `above`.

    Most scores of rare tags are near 0 and right, while those above 0.1, say, are the ones that a user looks at.
    """
    bins = metrics.score_bins(scores, above)
    used = bins >= 0
    added = (np.ones_like(scores), scores, truth, scores * (1 - scores))
    sums = np.array([np.bincount(bins[used], each[used], minlength=1) for each in added])
    count, total, positive, variance = sums[:, sums[0] > 0]
    return Reliability(total / count, positive / count, np.sqrt(variance) / count, count)


SCORE_BINS = 30  # of a histogram
MOST_LABELLED = 12  # targets whose cells have numbers, and in a picture of all of them rows of the usual height
LOW_ROW_HEIGHT = 0.19  # inches, where there are more
COLUMN_MEANINGS = {
    "grade": "how far it can be relied on by these tracks, as explained at the top",
    "positives": "tracks that it is true of",
    "artists": "how many artists these are by",
    "prior": "the share of all tracks that it is true of: what guessing would reach",
    "PR-AUC": "average precision, 1 is perfect",
    "PR-AUC-low": "where its 95 % interval begins",
    "PR-AUC-high": "where its 95 % interval ends",
    "ROC-AUC": "the chance that a track it is true of scores above one it is not, 0.5 is guessing",
    "decided": "tracks that are given it",
    "precision": "of the tracks that are given it, the share that it is true of",
    "recall": "of the tracks that it is true of, the share that is given it",
    "F-score": "the harmonic mean of precision and recall",
    "threshold": "it is given from this score on, which was chosen by held-out tracks",
    "ECE-all": "how far its scores, all of them, are from the share that is right; lower is better",
    "Brier-skill": "how much better its scores are, in squared error, than its prior for every track; 0 is no better",
}
"""The columns of a table of tags or classes, but for its first: their names."""


def plot_reliability(evaluation: Evaluated) -> Picture:
    """How often tags are right at each score, of all scores and of those above 0.1, over a histogram of the scores."""
    highest = float(evaluation.predictions.max())
    limits = [0.0, LOOKED_AT] if highest > LOOKED_AT else [0.0]
    picture = plaintext.make_picture(plaintext.WIDTH, 4.4)
    pairs = picture.subplots(2, len(limits), sharex="col", height_ratios=(3, 1), squeeze=False).T
    for (axes, histogram), above in zip(pairs, limits, strict=True):
        for shown in (axes, histogram):
            shown.spines[["top", "right"]].set_visible(False)
        bins = bin_scores(evaluation.truth, evaluation.predictions, above)
        which = f"scores above {above}" if above else "all scores"
        none = f" (none above {LOOKED_AT})" if len(limits) == 1 else ""
        axes.set_title(f"{which}{none}\nECE {bins.error:.4f}, by luck {bins.luck:.4f}", fontsize=10)
        top = min(1.0, 1.1 * max([*bins.share, highest, 1e-6]))
        # Most scores are small: by their root, those near 0 can be told apart, and a diagonal stays one.
        for set_scale in (axes.set_xscale, axes.set_yscale):
            set_scale("function", functions=(lambda values: np.sqrt(np.maximum(values, 0)), np.square))
        axes.set(xlim=(above, top), ylim=(0, top), xticks=_even(above, top, 4), yticks=_even(0, top, 5))
        axes.xaxis.set_major_formatter("{x:.2g}")
        axes.yaxis.set_major_formatter("{x:.2g}")
        axes.plot([above, top], [above, top], color=plaintext.PRIOR, linewidth=2, label="what scores promise")
        ends = [np.clip(bins.score + sign * 1.96 * bins.spread, 0, 1) for sign in (-1, 1)]
        axes.fill_between(bins.score, *ends, color=plaintext.PRIOR, alpha=0.2, linewidth=0, label="what luck allows")
        axes.plot(
            bins.score, bins.share, "o-", color=plaintext.DECIDED, markersize=4, clip_on=False, label="what is true"
        )
        edges = _even(above, top, SCORE_BINS)
        counts, _ = np.histogram(evaluation.predictions[evaluation.predictions > above], edges)
        histogram.set(ylim=(0.5, max(20, 2 * counts.max())), yscale="log", xlabel="score")
        histogram.bar(edges[:-1], counts, np.diff(edges), align="edge", color=plaintext.UNDECIDED)
    pairs[0][0].set_ylabel("share that is right")
    pairs[0][1].set_ylabel("scores")
    plaintext.add_legend(picture)
    return picture


def _even(low: float, high: float, steps: int) -> Floats:
    """Scores from one to the other that are equally far apart on an axis of roots."""
    return np.asarray(np.linspace(np.sqrt(low), np.sqrt(high), steps + 1) ** 2)


def describe_reliability(evaluation: Evaluated, plural: str) -> Section:
    """The section of a report that shows the diagram."""
    caption = [
        f"Of all {plural} with a score of 0.3, three in ten should be right: that is the orange line. Each dot "
        "is one of at most 15 groups of scores, equal in number. Above the line, more is right than scores say; "
        "below, they promise too much. If every score were exactly the chance of being right, 19 of 20 dots "
        "would lie in the pale band. The mean distance is the expected calibration error (ECE); the figure by luck is "
        "what it would be then.",
        "Most scores are near 0, and right about it; those that are looked at are above 0.1. Below the diagrams: how "
        "many scores there are, in steps of ten times as many. The axes spread small scores out.",
    ]
    return "Are scores calibrated?", [plot_reliability(evaluation)], caption


def plot_targets(
    rows: Sequence[Mapping[str, Any]], target: str, metric: str, ends: Mapping[str, str], xlabel: str
) -> tuple[Picture, Any]:
    """A dot for each row of a table of targets at a metric, coloured by its grade, beside its prior; with the axes.

    Through it goes a line from one of two other columns to the other, each with a marker of its own, or an empty one.
    """
    few = len(rows) <= MOST_LABELLED
    height = plaintext.ROW_HEIGHT if few else LOW_ROW_HEIGHT
    picture, axes = plaintext.empty_axes(plaintext.WIDTH, 1.3 + height * len(rows))
    places = range(len(rows))
    for name, marker in ends.items():
        if marker:
            axes.plot([row[name] for row in rows], places, marker, color="#7d8984", clip_on=False, label=name)
    for grade, (colour, marker) in plaintext.GRADE_STYLES.items():
        of = [number for number in places if rows[number]["grade"] == grade]
        known = [number for number in of if rows[number].get(next(iter(ends))) is not None]
        axes.hlines(known, *([rows[number][name] for number in known] for name in ends), color=colour, linewidth=1.5)
        if of:
            axes.plot([rows[number][metric] for number in of], of, marker, color=colour, clip_on=False, label=grade)
    style = {"color": plaintext.PRIOR, "markersize": 10, "markeredgewidth": 2.5, "clip_on": False, "label": "prior"}
    axes.plot([row["prior"] for row in rows], places, "|", **style)
    names = [f"{shorten(row[target])} ({row['positives']})" for row in rows]
    axes.set_yticks(places, names, fontsize=9 if few else 8, parse_math=False)
    most = max(row[name] for row in rows for name in ("prior", metric, *ends) if row.get(name) is not None)
    axes.set(xlim=(0, min(1.0, 1.05 * most)), ylim=(len(rows) - 0.3, -0.7), xlabel=xlabel, axisbelow=True)
    axes.grid(axis="x", color="#e4e9e7")
    plaintext.add_legend(picture)
    return picture, axes


def plot_shares(
    percent: Floats, across: Sequence[str], down: Sequence[str], counts: Any = None, top: float = 100, power: float = 1
) -> tuple[Picture, Any]:
    """A table of percentages (k, k) as colours, and in its cells, below `counts`, where it is small; NaN is grey.

    The colours end at `top`, and rise as the percentages to that power. The names are of columns and of rows.
    """
    from matplotlib.colors import PowerNorm

    few = len(across) <= MOST_LABELLED
    side = len(across) * np.clip(5 / len(across), 0.15, 0.62)  # inches: the labels of 60 targets must not touch
    margin = 0.7 + 0.075 * max(map(len, down))
    # From one edge to the other it may be far, so that both have labels.
    picture, axes = plaintext.empty_axes(side + margin + 0.9 * (not few), side + margin * (2 - few) + 0.4)
    norm = PowerNorm(power, vmin=0, vmax=top)
    image = axes.imshow(percent, norm=norm, cmap="YlGnBu", interpolation="nearest")
    axes.set_facecolor("#cccccc")
    axes.set_xticks(range(len(across)), across, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(down)), down, fontsize=8, parse_math=False)
    axes.tick_params(top=not few, labeltop=not few)
    if not few:
        picture.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.015, label="%")
        return picture, axes
    for (row, column), share in np.ndenumerate(percent):
        if np.isfinite(share):
            text = f"{share:.0f}" if counts is None else f"{counts[row, column]}\n{share:.0f} %"
            colour = "white" if norm(share) > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    return picture, axes


def spread_out(ranked: Sequence[Any], count: int) -> list[Any]:
    """The first, the last, and some between at equal steps, at most `count`."""
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return [ranked[place] for place in places]
