"""Tags: any number of them for a track, each with a score of its own, a threshold, and a grade.

Metrics are those of the MediaEval "Emotion and Theme Recognition in Music" task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks import metrics
from jamendo_mood.tasks.calibration import SCORE_BINS, apply_platt, describe_reliability, fit_platt, score_calibration
from jamendo_mood.tasks.kind import BAR_LEGEND, Array, CardWords, Evaluated, Kind, PageWords, ReportWords, Section
from jamendo_mood.tasks.metrics import HIT_COUNTS, PerTag, Truth, rank_targets
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import (
    CONTRAST,
    DECIDED,
    GRADE_STYLES,
    PRIOR,
    ROW_HEIGHT,
    UNDECIDED,
    WIDTH,
    Picture,
    add_legend,
    empty_axes,
    make_panels,
    shorten,
)
from jamendo_mood.util.process import import_quietly

Floats = npt.NDArray[np.floating]

FOCUS = 2.0  #: how steeply the focal loss fades for what is already right (Lin et al., ICCV 2017)
ASYMMETRIC_FOCUS, SHIFT = 4.0, 0.05
"""The same for negatives in the asymmetric loss, whose easiest ones, below the shift, count nothing
(Ridnik et al., ICCV 2021)."""
_EPSILON = 1e-7
MOST_OF_THRESHOLD = 2.0
"""Scores count up to twice their threshold in `va_of_scores`, so that no one tag drowns all others."""
MOST_TAGS = 60  # so many rows can still be read, and MTG-Jamendo's 56 are all there
MOST_CHOSEN = 6
TAG_HEIGHT = 0.19  # inches a row where there are many
FEW_TAGS = 15
GAP_ROWS = 2  # left empty where tags are left out
CURVE_COLOURS = ("#0072b2", "#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00")
"""Those of Okabe and Ito, "Color Universal Design", 2008, which the colour-blind can tell apart."""


def _cross_entropy(ops: Any, probability: Any) -> tuple[Any, Any]:
    return -ops.log(probability), -ops.log(1 - probability)


def _focal(ops: Any, probability: Any) -> tuple[Any, Any]:
    hit, miss = _cross_entropy(ops, probability)
    return hit * (1 - probability) ** FOCUS, miss * probability**FOCUS


def _asymmetric(ops: Any, probability: Any) -> tuple[Any, Any]:
    shifted = ops.maximum(probability - SHIFT, 0.0)
    return -ops.log(probability), -ops.log(1 - shifted) * shifted**ASYMMETRIC_FOCUS


Costs = Callable[[Any, Any], tuple[Any, Any]]
TAG_LOSSES: dict[str, Costs] = {"bce": _cross_entropy, "focal": _focal, "asymmetric": _asymmetric}
"""What an example costs that has the tag, and one that has not: (keras.ops, probability) -> both costs."""


def make_tag_loss(name: str, Y: Array, balance: float) -> Callable[[Any, Any], Any]:
    """The loss of a batch: the mean over its examples and tags.

    `name` is a key of `TAG_LOSSES`, or empty for ``bce``, binary cross-entropy; `UsageError` if it is another one.
    Positives of a tag weigh (negatives / positives) in `Y`, the training targets (n, k), to the power of `balance`: 0
    weighs all alike.
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


def prior_log_odds(targets: Array) -> Array:
    """The log-odds of each tag's prior, as if each had been seen once more in each state."""
    positives = targets.sum(axis=0)
    return np.asarray(np.log((positives + 1) / (len(targets) - positives + 1)), np.float32)


def smooth_tags(targets: Array, share: float) -> Array:
    """Each tag on its own: that share of its certainty goes half and half to yes and no."""
    return np.asarray(targets * (1 - share) + share / 2, np.float32)


def score_tags(truth: Truth, scores: Array, decisions: Truth | None = None) -> dict[str, float]:
    """The headline metrics of a multi-label tagger, by their official names; all arrays are (n, k).

    ``prior-macro`` is the mean share of positives, the PR-AUC of chance; ``hit@3`` the share of the examples with a tag
    that have a right one among the three highest. Precision, recall and F-score are there with `decisions`. Raises
    `DataError` if shapes differ, a score is not a number, or no tag has both positives and negatives.
    """
    metrics.check(truth, scores, decisions)
    figures = {
        "PR-AUC-macro": metrics.mean_average_precision(truth, scores),
        "ROC-AUC-macro": metrics.mean_of_defined(metrics.roc_auc(truth, scores)),
        "PR-AUC-micro": float(metrics.sklearn_metrics().average_precision_score(truth.ravel(), scores.ravel())),
        "ROC-AUC-micro": float(metrics.sklearn_metrics().roc_auc_score(truth.ravel(), scores.ravel())),
        "prior-macro": float(truth.mean(axis=0)[metrics.is_defined(truth)].mean()),
    }
    tagged = truth.any(axis=1)
    figures |= {f"hit@{count}": float(metrics.hits_at(truth, scores, count)[tagged].mean()) for count in HIT_COUNTS}
    if decisions is not None:
        macro = metrics.decision_figures(truth, decisions)
        micro = metrics.decision_figures(truth.reshape(-1, 1), decisions.reshape(-1, 1))
        for average, values in (("macro", macro), ("micro", micro)):
            for name, value in zip(("precision", "recall", "F-score"), values, strict=True):
                figures[f"{name}-{average}"] = float(value.mean())
    return figures


def tag_rows(truth: Truth, scores: Array, decisions: Truth | None, thresholds: PerTag | None) -> dict[str, Any]:
    """Columns of the table of tags, each (k,); those of decisions and thresholds where these are known."""
    columns: dict[str, Any] = {
        "positives": truth.sum(axis=0),
        "prior": truth.mean(axis=0),
        "PR-AUC": metrics.average_precision(truth, scores),
        "ROC-AUC": metrics.roc_auc(truth, scores),
    }
    if decisions is not None:
        names = ("precision", "recall", "F-score")
        columns |= dict(zip(names, metrics.decision_figures(truth, decisions), strict=True))
    return columns if thresholds is None else {**columns, "threshold": thresholds}


def best_thresholds(truth: Truth, scores: Array) -> PerTag:
    """The threshold of each tag with the highest F-score on these examples, to be applied as ``score >= threshold``.

    It lies half-way between the lowest score that is to be decided and the next below, which decides the same here and
    leaves room on both sides elsewhere. A tag without positives has nothing to choose by: its threshold is infinite, so
    that it is never decided.
    """
    thresholds = np.full(truth.shape[1], np.inf)
    for tag in np.flatnonzero(truth.any(axis=0)):
        precision, recall, candidates = metrics.sklearn_metrics().precision_recall_curve(truth[:, tag], scores[:, tag])
        total = precision + recall
        f_score = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        best = int(np.argmax(f_score[:-1]))
        lowest, below = candidates[best], candidates[max(best - 1, 0)]
        halfway = below + (lowest - below) / 2  # in the precision of the scores, where it may not exist
        thresholds[tag] = halfway if halfway > below else lowest
    return thresholds


def reaches_threshold(scores: Array, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which tags are decided: those whose score is at least their threshold."""
    # In the precision of the scores: a threshold that was one of them must still be reached by it.
    return np.asarray(scores >= thresholds.astype(scores.dtype))


def decide_by_majority(decisions: Truth, _: Array) -> Truth:
    """The tags that more than half of the taggers decide: bool (m, n, k) -> (n, k)."""
    return np.asarray(decisions.sum(axis=0) * 2 > len(decisions))


def place_tags(
    targets: Sequence[str], thresholds: PerTag, scores: Array, places: Mapping[str, tuple[float, float]]
) -> Array | None:
    """Valence and arousal of tracks: the mean of their tags' places, weighted by how far the tags are reached.

    A tag's weight is the square of its score divided by its threshold, at most `MOST_OF_THRESHOLD` squared. A tag that
    has no place, or an infinite threshold, has none; nor has a score that is NaN. From scores (..., k) to (..., 2) in
    [-1, 1]: (0, 0) for a track that no tag fits at all, None if not one of the tags has a place and a finite threshold.
    """
    found = [places.get(name, places.get(name.lower())) for name in targets]  # `Happy` lies where `happy` does
    known = [tag for tag, place in enumerate(found) if place is not None and np.isfinite(thresholds[tag])]
    if not known:
        return None
    least = np.maximum(np.asarray(thresholds)[known], 1e-9)
    reached = np.nan_to_num(np.asarray(scores, np.float64)[..., known]) / least
    weights = np.clip(reached, 0, MOST_OF_THRESHOLD) ** 2
    total = weights.sum(axis=-1, keepdims=True)
    sums = weights @ np.array([found[tag] for tag in known])
    return np.asarray(np.divide(sums, total, out=np.zeros_like(sums), where=total > 0), np.float32)


def choose_tags(evaluation: Evaluated, count: int = MOST_CHOSEN) -> tuple[str, ...]:
    """The best tag by PR-AUC, the worst, and some between at equal steps of rank, at most `count`; best first."""
    ranked = rank_targets(evaluation, "PR-AUC")
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return tuple(str(evaluation.per_target[ranked[place]]["tag"]) for place in places)


def plot_tag_precision(evaluation: Evaluated, count: int = MOST_TAGS) -> Picture:
    """PR-AUC of each tag with its 95 % interval, beside its prior; best first, coloured by grade.

    Tags without a PR-AUC are left out. Of more than `count`, only the best and the worst are drawn, half and half, and
    the title says so.
    """
    columns = rank_targets(evaluation, "PR-AUC")
    omitted = max(len(columns) - count, 0)
    n_best = len(columns) if not omitted else (count + 1) // 2
    rows = [evaluation.per_target[column] for column in columns[:n_best] + columns[n_best + omitted :]]
    places = np.arange(len(rows)) + GAP_ROWS * (np.arange(len(rows)) >= n_best)
    height = ROW_HEIGHT if len(rows) <= FEW_TAGS else TAG_HEIGHT
    figure, axes = empty_axes(WIDTH, 1.3 + height * (places[-1] + 1))
    _draw_intervals(axes, rows, places)
    names = [f"{shorten(row['tag'])} ({row['positives']})" for row in rows]
    axes.set_yticks(places, names, fontsize=9 if len(rows) <= FEW_TAGS else 8, parse_math=False)
    extremes = [row[name] for row in rows for name in ("prior", "PR-AUC", "PR-AUC-high") if row.get(name) is not None]
    axes.set(xlim=(0, min(1.0, 1.05 * max(extremes))), xlabel="PR-AUC (line: 95 % interval)")
    axes.set(ylim=(places[-1] + 0.7, -0.7), axisbelow=True)
    axes.grid(axis="x", color="#e4e9e7")
    figure.legend(loc="outside upper left", ncols=5, frameon=False, columnspacing=1.2, handletextpad=0.3)
    if omitted:
        axes.set_title(f"the {n_best} best and {len(rows) - n_best} worst of {len(columns)} tags", fontsize=10)
        style = {"ha": "center", "va": "center", "style": "italic", "transform": axes.get_yaxis_transform()}
        axes.text(0.5, n_best + (GAP_ROWS - 1) / 2, f"{omitted} tags between are left out", **style)
    return figure


def _draw_intervals(axes: Any, rows: Sequence[Any], places: npt.NDArray[np.intp]) -> None:
    """A dot, a whisker and the prior for each row; one entry of the legend for each grade that there is."""
    for grade, (colour, marker) in GRADE_STYLES.items():
        of = [number for number, row in enumerate(rows) if row["grade"] == grade]
        if of:
            known = [number for number in of if rows[number].get("PR-AUC-low") is not None]
            low, high = ([rows[number][name] for number in known] for name in ("PR-AUC-low", "PR-AUC-high"))
            axes.hlines(places[known], low, high, color=colour, linewidth=1.5)
            axes.plot([rows[number]["PR-AUC"] for number in of], places[of], marker, color=colour, label=grade)
    style = {"color": PRIOR, "markersize": 10, "markeredgewidth": 2.5, "clip_on": False, "label": "prior: chance"}
    axes.plot([row["prior"] for row in rows], places, "|", **style)


def plot_curves(evaluation: Evaluated, tags: Sequence[str] = ()) -> Picture:
    """Precision-recall curves, with a mark where each tag's threshold puts it; the area below a curve is the PR-AUC.

    Of the given tags, at most 6, or of those of `choose_tags`. Raises `UsageError` if there are too many, one is not
    there, or one has no PR-AUC.
    """
    from sklearn.metrics import precision_recall_curve

    columns = _columns(evaluation, tags)
    figure, axes = empty_axes(WIDTH, 4.6 + 0.22 * len(columns))
    for column, colour in zip(columns, CURVE_COLOURS, strict=False):
        row = evaluation.per_target[column]
        if row["PR-AUC"] is None:
            raise UsageError(f"tag {row['tag']!r} has no precision-recall curve: no example has it, or all do")
        precision, recall, _ = precision_recall_curve(evaluation.truth[:, column], evaluation.predictions[:, column])
        precision[-1] = precision[-2]  # scikit-learn's own point at recall 0 is no tagger's
        # Steps, not slopes: average precision takes each precision for the whole step in recall that leads to it.
        label = f"{row['PR-AUC']:.3f} (prior {row['prior']:.3f})  {shorten(row['tag'])}"
        axes.plot(recall, precision, drawstyle="steps-post", color=colour, linewidth=1.8, label=label)
        if evaluation.decisions[:, column].any():
            style = {"color": colour, "markersize": 9, "markeredgecolor": "black", "clip_on": False, "zorder": 3}
            axes.plot(row["recall"], row["precision"], "o", **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(color="#e4e9e7")
    title = "PR-AUC of each tag (dot: at its threshold)"
    legend = figure.legend(loc="outside lower left", frameon=False, title=title, alignment="left")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def plot_score_histograms(evaluation: Evaluated, tags: Sequence[str] = ()) -> Picture:
    """Scores of the examples that have a tag and of those that don't, on logarithmic counts, and the threshold.

    Of the tags as in `plot_curves`, but they need no PR-AUC.
    """
    columns = _columns(evaluation, tags)
    figure, panels = make_panels(len(columns), 1.75)
    for axes, column in zip(panels, columns, strict=True):
        _draw_histogram(axes, evaluation, column)
    figure.supxlabel("score", fontsize=10)
    figure.supylabel("tracks", fontsize=10)
    add_legend(figure)
    return figure


def _draw_histogram(axes: Any, evaluation: Evaluated, column: int) -> None:
    """One tag, as far as its scores and its threshold go."""
    row, truth = evaluation.per_target[column], evaluation.truth[:, column]
    scores, threshold = evaluation.predictions[:, column], row.get("threshold")
    highest = max(float(scores.max()), threshold or 0.0, 1e-6)
    bins = np.linspace(0, 1.0001 * highest, SCORE_BINS + 1)
    for chosen, colour, label in ((~truth, UNDECIDED, "do not have the tag"), (truth, DECIDED, "have the tag")):
        axes.hist(scores[chosen], bins, color=colour, label=label, alpha=0.85)
    if threshold is not None:
        axes.axvline(threshold, color=CONTRAST, linewidth=2, label="threshold")
    axes.set(yscale="log", ylim=(0.5, None), xlim=(0, bins[-1]))
    axes.locator_params(axis="x", nbins=4)
    axes.set_title(shorten(row["tag"]), fontsize=10, parse_math=False)


def _columns(evaluation: Evaluated, tags: Sequence[str]) -> list[int]:
    names = [row["tag"] for row in evaluation.per_target]
    chosen = tags or choose_tags(evaluation)
    missing = [tag for tag in chosen if tag not in names]
    if missing:
        raise UsageError(f"no tag {missing[0]!r} in this evaluation (there are {', '.join(names)})")
    if len(chosen) > MOST_CHOSEN:
        raise UsageError(f"{len(chosen)} tags are too many for one figure: choose at most {MOST_CHOSEN}")
    return [names.index(tag) for tag in chosen]


def plot_cooccurrences(evaluation: Evaluated, count: int = MOST_TAGS) -> tuple[Picture, Picture]:
    """Which tags go together: in truth, and as the tagger decides.

    Both in the order that puts those next to each other that go together in truth, and on one scale. Of more than
    `count` tags, the most frequent.
    """
    frequent = np.argsort(-evaluation.truth.sum(axis=0), kind="stable")[:count]
    columns = frequent[metrics.similar_order(evaluation.truth[:, frequent])]
    names = [evaluation.per_target[column]["tag"] for column in columns]
    true, decided = (metrics.cooccurrence(table[:, columns]) for table in (evaluation.truth, evaluation.decisions))
    off_diagonal = ~np.eye(len(columns), dtype=bool)
    highest = np.nanmax([true[off_diagonal], decided[off_diagonal]], initial=0.01)
    in_truth = draw_cooccurrence(true, names, "in truth", highest)
    return in_truth, draw_cooccurrence(decided, names, "as decided by the tagger", highest)


def draw_cooccurrence(shares: Floats, names: Sequence[str], title: str = "", highest: float | None = None) -> Picture:
    """`metrics.cooccurrence` (k, k) as a heat map; the diagonal, always 1, and what is not defined are grey.

    `highest` is the share at the end of the colour scale; None for the highest that is drawn.
    """
    from matplotlib.colors import PowerNorm

    percent = 100 * np.where(np.eye(len(names), dtype=bool), np.nan, shares)
    labels = [shorten(name) for name in names]
    side = len(labels) * np.clip(3 / len(labels), 0.15, 0.6)  # inches: the labels of 60 tags must not touch
    far = len(labels) > FEW_TAGS  # from one edge to the other, so that both have labels
    margin = 0.5 + 0.07 * max(map(len, labels))
    figure, axes = empty_axes(side + margin + 0.9 * far, side + margin * (1 + far) + 0.4)
    # Most shares are small: the root tells 0 from 5 % and 10 %, and leaves the highest apart.
    norm = PowerNorm(0.5, vmin=0, vmax=100 * highest if highest else np.nanmax(percent, initial=1))
    image = axes.imshow(percent, norm=norm, cmap="YlGnBu", interpolation="nearest")
    axes.set_facecolor("#cccccc")
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, fontsize=8, parse_math=False)
    axes.tick_params(top=far, labeltop=far)
    axes.set_title(title, loc="left")  # which is what a phone shows of a wide picture
    axes.set(ylabel="Of the tracks with this tag ...", xlabel="... so many % also have this one")
    if far:
        figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.015, label="%")
    else:
        for (row, column), share in np.ndenumerate(percent):
            if not np.isnan(share):
                colour = "white" if norm(share) > 0.6 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    return figure


def show(evaluation: Evaluated) -> Iterator[Section]:
    """The sections of a report on tags."""
    n_tags = len(evaluation.per_target)
    undefined = n_tags - len(rank_targets(evaluation, "PR-AUC"))
    left_out = f" {undefined} without a PR-AUC (no track has the tag, or all do) are left out." if undefined else ""
    some = " Shown are the best tag by PR-AUC, the worst, and some between." if n_tags > MOST_CHOSEN else ""
    caption = [
        "The further right a dot, the better the tag's tracks are ranked above all others. The orange mark is what "
        "guessing would reach, and the line the 95 % interval: a tag is better than chance where its whole line "
        "lies right of the mark, and a long line says that a few artists decide.",
        f"In brackets: how many tracks have the tag.{left_out}",
    ]
    yield Section("Which tags does it recognise?", [plot_tag_precision(evaluation)], caption)
    caption = [
        "Lower a tag's threshold, and you move right along its curve: more of its tracks are found (recall), while "
        "fewer of those found are right (precision). A good tag stays high far to the right.",
        "The dot is where the threshold in use puts it: low means many false alarms, far left that most are "
        f"missed; no dot, that the tag is never given.{some}",
    ]
    yield Section("What a threshold buys", [plot_curves(evaluation)], caption)
    caption = [
        "The better the dark scores lie apart from the light ones, the better the tag is recognised. Dark left of "
        "the red threshold is missed, light right of it is a false alarm.",
        f"Each mark on the left is many times the one below it, so that a few tracks can be seen beside "
        f"thousands, and the axes at the bottom differ.{some}",
    ]
    yield Section("Scores of tracks with a tag and without", [plot_score_histograms(evaluation)], caption)
    looked_at = "Most scores are near 0, and right about it; those that are looked at are above 0.1."
    yield describe_reliability(evaluation, "tags", looked_at)
    if n_tags < 2:
        return
    most = f" Of {n_tags} tags, the {MOST_TAGS} most frequent." if n_tags > MOST_TAGS else ""
    caption = [
        "Go along a row: of the tracks that have its tag, the colour says how many also have that of the column. "
        "What the tagger decides should look like the truth. Where it is darker all over, it gives too many tags "
        "at a time; a column that is darker from top to bottom is a tag that it gives to almost anything.",
        f"Grey: the tag itself, or one that no track has.{most}",
    ]
    yield Section("Which tags go together", plot_cooccurrences(evaluation), caption)


CARD = CardWords(
    title="Mood tagger",
    says="Scores are calibrated on the validation part.",
    chosen="Epochs, calibration and thresholds were",
    validated="calibrated on",
    metrics={
        "PR-AUC-macro": "average precision, mean over the tags",
        "prior-macro": "what guessing would reach",
        "ROC-AUC-macro": "0.5 is guessing, mean over the tags",
        "F-score-macro": "of the decisions by thresholds, mean over the tags",
        "ECE": "how far scores above 0.1 are from the share that is right; lower is better",
    },
    counted="In brackets: how many training tracks have the tag.",
)

PAGE = PageWords(
    choose="Choose a tag to see the seconds that carried it.",
    carried="was carried most by",
    nothing="lies over the whole song, or hardly in it",
    legend=BAR_LEGEND.format("score", "") + " Tick: the tag's threshold, ★ reached.",
    states=("threshold {0:.2f}, reached", "threshold {0:.2f}, not reached", "no threshold: it is never decided"),
    thresholds=True,
)

FIGURES = {
    "PR-AUC-macro": "Are a tag's tracks ranked above all others? Average precision, the mean over tags, rare or "
    "frequent. 1 is perfect; guessing reaches prior-macro.",
    "ROC-AUC-macro": "The chance that a track with a tag scores above one without it, the mean over tags. "
    "1 is perfect, 0.5 is guessing.",
    "PR-AUC-micro": "Average precision of all pairs of track and tag in one list: frequent tags weigh most.",
    "ROC-AUC-micro": "The chance that a right pair of track and tag scores above a wrong one.",
    "prior-macro": "The share of tracks that have a tag, the mean over tags: the PR-AUC-macro of guessing.",
    **{
        f"hit@{count}": f"Of the tracks that have a tag, the share with a right one among the {count} highest."
        if count > 1
        else "Of the tracks that have a tag, the share whose highest tag is right."
        for count in HIT_COUNTS
    },
    "precision-macro": "Of the tracks that are given a tag, the share that has it; the mean over tags.",
    "recall-macro": "Of the tracks that have a tag, the share that is given it; the mean over tags.",
    "F-score-macro": "Precision and recall in one, their harmonic mean for each tag; the mean over tags.",
    "precision-micro": "Of all tags that are given, the share that is right.",
    "recall-micro": "Of all tags that are right, the share that is given.",
    "F-score-micro": "The harmonic mean of precision-micro and recall-micro.",
    "ECE": "How far scores above 0.1 are, on average, from the share of them that is right. 0 is perfect, lower is "
    "better.",
    "Brier-skill-macro": "How much closer scores come to the truth, in squared error, than the prior as the score "
    "of every track; the mean over tags. 1 is perfect, 0 is no better than the prior, below 0 is worse.",
}
"""The headline metrics, each in a sentence or two."""

COLUMNS = {
    "tag": "its name",
    "grade": "how far it can be relied on by these tracks, as explained at the top",
    "positives": "tracks that have it",
    "artists": "how many artists these are by",
    "prior": "the share of all tracks that have it: the PR-AUC of guessing",
    "PR-AUC": "average precision, 1 is perfect",
    "PR-AUC-low": "where its 95 % interval begins",
    "PR-AUC-high": "where its 95 % interval ends",
    "ROC-AUC": "the chance that a track with the tag scores above one without it, 0.5 is guessing",
    "precision": "of the tracks that are given it, the share that has it",
    "recall": "of the tracks that have it, the share that is given it",
    "F-score": "the harmonic mean of precision and recall",
    "threshold": "it is given from this score on, which was chosen on the validation part",
    "ECE-all": "how far its scores, all of them, are from the share that is right; lower is better",
    "Brier-skill": "how much better its scores are, in squared error, than its prior for every track; 0 is no better",
}
"""The columns of the table of targets, in order, each in a few words."""

KIND = Kind(
    target="tag",
    plural="tags",
    columns=("tag", "score", "above_threshold"),
    on_scale=False,
    activation="sigmoid",
    make_loss=make_tag_loss,
    to_truth=metrics.is_positive,
    is_defined=metrics.is_defined,
    monitor="PR-AUC-macro",
    watch=metrics.mean_average_precision,
    smooth=smooth_tags,
    start=prior_log_odds,
    calibrate=lambda truth, scores, _: fit_platt(truth, scores),
    calibrated=apply_platt,
    choose_thresholds=best_thresholds,
    decide=reaches_threshold,
    grade=metrics.grade_tags,
    score=score_tags,
    check_calibration=score_calibration,
    rows=tag_rows,
    ranked_by="PR-AUC",
    bootstrap=metrics.bootstrap_tags,
    vote=decide_by_majority,
    place=lambda task, thresholds, scores, places, _: place_tags(task.targets, thresholds, scores, places),
    place_source="from the tags",
    card=CARD,
    page=PAGE,
    report=ReportWords(FIGURES, COLUMNS, show),
    score_name="score",
    footnotes=(
        "* reaches the tag's threshold",
        "no tag reaches its threshold: nothing here is sure enough to be called this song's mood",
    ),
    only_ranked="not calibrated: ranked by how far the song stands out, none is decided; 0.5 is a typical song",
)
