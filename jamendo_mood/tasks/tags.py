"""Tags: any number of them for a track, each with a score of its own, a threshold, and a grade.

Metrics are those of the MediaEval "Emotion and Theme Recognition in Music" task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jamendo_mood.tasks import kind, metrics
from jamendo_mood.tasks.kind import BAR_LEGEND, Evaluated, Kind, Section
from jamendo_mood.tasks.metrics import HIT_COUNTS, Array, Bools, Floats, Truth, rank_targets, ratio
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import Picture, shorten
from jamendo_mood.util.process import import_quietly

FOCUS = 2.0  #: how steeply the focal loss fades for what is already right (Lin et al., ICCV 2017)
ASYMMETRIC_FOCUS, SHIFT = 4.0, 0.05
"""The same for negatives in the asymmetric loss, whose easiest ones, below the shift, count nothing
(Ridnik et al., ICCV 2021)."""
_EPSILON = 1e-7
MOST_OF_THRESHOLD = 2.0
"""Scores count up to twice their threshold in `place_tags`, so that no one tag drowns all others."""
MOST_TAGS = 60  # so many rows can still be read, and MTG-Jamendo's 56 are all there
MOST_CHOSEN = 6
CURVE_COLOURS = ("#0072b2", "#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00")
"""Those of Okabe and Ito, "Color Universal Design", 2008, which the colour-blind can tell apart."""


def _cost_shifted(ops: Any, probability: Any) -> Any:
    shifted = ops.maximum(probability - SHIFT, 0.0)
    return -ops.log(1 - shifted) * shifted**ASYMMETRIC_FOCUS


TAG_LOSSES: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "bce": lambda ops, p: (-ops.log(p), -ops.log(1 - p)),
    "focal": lambda ops, p: (-ops.log(p) * (1 - p) ** FOCUS, -ops.log(1 - p) * p**FOCUS),
    "asymmetric": lambda ops, p: (-ops.log(p), _cost_shifted(ops, p)),
}
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


def score_tags(truth: Truth, scores: Array, decisions: Truth | None = None) -> dict[str, float]:
    """The headline metrics of a multi-label tagger, by their official names; all arrays are (n, k).

    ``prior-macro`` is the mean share of positives, the PR-AUC of chance; ``hit@3`` the share of the examples with a tag
    that have a right one among the three highest. Precision, recall and F-score are there with `decisions`. Raises
    `DataError` if shapes differ, a score is not a number, or no tag has both positives and negatives.
    """
    metrics.check(truth, scores, decisions)
    found = {
        "PR-AUC-macro": metrics.mean_average_precision(truth, scores),
        "ROC-AUC-macro": metrics.mean_of_defined(metrics.roc_auc(truth, scores)),
        "PR-AUC-micro": float(metrics.sklearn_metrics().average_precision_score(truth.ravel(), scores.ravel())),
        "ROC-AUC-micro": float(metrics.sklearn_metrics().roc_auc_score(truth.ravel(), scores.ravel())),
        "prior-macro": float(truth.mean(axis=0)[metrics.is_defined(truth)].mean()),
    }
    tagged = truth.any(axis=1)
    found |= {f"hit@{count}": float(metrics.hits_at(truth, scores, count)[tagged].mean()) for count in HIT_COUNTS}
    if decisions is not None:
        for average, shape in (("macro", truth.shape), ("micro", (-1, 1))):
            decided = metrics.decision_figures(truth.reshape(shape), decisions.reshape(shape))
            found |= {f"{name}-{average}": float(values.mean()) for name, values in decided.items()}
    return found


def tag_rows(truth: Truth, scores: Array, decisions: Bools | None, thresholds: Floats | None) -> dict[str, Any]:
    """Columns of the table of tags, each (k,); those of decisions and thresholds where these are known."""
    return {
        "positives": truth.sum(axis=0),
        "prior": truth.mean(axis=0),
        "PR-AUC": metrics.average_precision(truth, scores),
        "ROC-AUC": metrics.roc_auc(truth, scores),
        **({} if decisions is None else metrics.decision_figures(truth, decisions)),
        **({} if thresholds is None else {"threshold": thresholds}),
    }


def best_thresholds(truth: Truth, scores: Array) -> Floats:
    """The threshold of each tag with the highest F-score on these examples, to be applied as ``score >= threshold``.

    It lies half-way between the lowest score that is to be decided and the next below, which decides the same here and
    leaves room on both sides elsewhere. A tag without positives has nothing to choose by: its threshold is infinite, so
    that it is never decided.
    """
    thresholds = np.full(truth.shape[1], np.inf)
    for tag in np.flatnonzero(truth.any(axis=0)):
        precision, recall, candidates = metrics.sklearn_metrics().precision_recall_curve(truth[:, tag], scores[:, tag])
        best = int(np.argmax(ratio(2 * precision * recall, precision + recall, 0.0)[:-1]))
        lowest, below = candidates[best], candidates[max(best - 1, 0)]
        halfway = below + (lowest - below) / 2  # in the precision of the scores, where it may not exist
        thresholds[tag] = halfway if halfway > below else lowest
    return thresholds


def reaches_threshold(scores: Array, thresholds: Floats) -> Bools:
    """Which tags are decided: those whose score is at least their threshold."""
    # In the precision of the scores: a threshold that was one of them must still be reached by it.
    return np.asarray(scores >= thresholds.astype(scores.dtype))


def place_tags(
    targets: Sequence[str], thresholds: Floats, scores: Array, places: Mapping[str, tuple[float, float]]
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


def plot_tag_precision(evaluation: Evaluated, count: int = MOST_TAGS) -> Picture:
    """PR-AUC of each tag with its 95 % interval, beside its prior; best first, coloured by grade.

    Tags without a PR-AUC are left out. Of more than `count`, only the best and the worst are drawn, half and half, and
    the title says so.
    """
    ranked = rank_targets(evaluation, "PR-AUC")
    n_worst = count // 2
    shown = ranked if len(ranked) <= count else ranked[: count - n_worst] + ranked[len(ranked) - n_worst :]
    rows, ends = [evaluation.per_target[column] for column in shown], {"PR-AUC-low": "", "PR-AUC-high": ""}
    picture, axes = kind.plot_targets(rows, "tag", "PR-AUC", ends, "PR-AUC (line: 95 % interval)")
    if len(shown) < len(ranked):
        axes.axhline(count - n_worst - 0.5, color=plaintext.UNDECIDED, linestyle=":")
        axes.set_title(f"the {count - n_worst} best and {n_worst} worst of {len(ranked)} tags", fontsize=10)
    return picture


def plot_curves(evaluation: Evaluated) -> Picture:
    """Precision-recall curves, with a mark where each tag's threshold puts it; the area below a curve is the PR-AUC.

    Of the best tag by PR-AUC, the worst, and some between at equal steps of rank, at most 6; best first.
    """
    from sklearn.metrics import precision_recall_curve

    columns = kind.spread_out(rank_targets(evaluation, "PR-AUC"), MOST_CHOSEN)
    picture, axes = plaintext.empty_axes(plaintext.WIDTH, 4.6 + 0.22 * len(columns))
    for column, colour in zip(columns, CURVE_COLOURS, strict=False):
        row = evaluation.per_target[column]
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
    legend = picture.legend(loc="outside lower left", frameon=False, title=title, alignment="left")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return picture


def plot_score_histograms(evaluation: Evaluated) -> Picture:
    """Scores of the examples that have a tag and of those that don't, on logarithmic counts, and the threshold.

    Of the tags as in `plot_curves`.
    """
    columns = kind.spread_out(rank_targets(evaluation, "PR-AUC"), MOST_CHOSEN)
    picture, panels = plaintext.make_panels(len(columns), 1.75)
    for axes, column in zip(panels, columns, strict=True):
        row, truth = evaluation.per_target[column], evaluation.truth[:, column]
        scores, threshold = evaluation.predictions[:, column], row.get("threshold")
        bins = np.linspace(0, 1.0001 * max(scores.max(), threshold or 0.0, 1e-6), kind.SCORE_BINS + 1)
        parts = (~truth, plaintext.UNDECIDED, "do not have the tag"), (truth, plaintext.DECIDED, "have the tag")
        for chosen, colour, label in parts:
            axes.hist(scores[chosen], bins, color=colour, label=label, alpha=0.85)
        if threshold is not None:
            axes.axvline(threshold, color=plaintext.CONTRAST, linewidth=2, label="threshold")
        axes.set(yscale="log", ylim=(0.5, None), xlim=(0, bins[-1]))
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(shorten(row["tag"]), fontsize=10, parse_math=False)
    picture.supxlabel("score", fontsize=10)
    picture.supylabel("tracks", fontsize=10)
    plaintext.add_legend(picture)
    return picture


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
    percent = 100 * np.where(np.eye(len(names), dtype=bool), np.nan, shares)
    labels = [shorten(name) for name in names]
    top = 100 * highest if highest else np.nanmax(percent, initial=1)
    # Most shares are small: the root tells 0 from 5 % and 10 %, and leaves the highest apart.
    picture, axes = kind.plot_shares(percent, labels, labels, top=top, power=0.5)
    axes.set_title(title, loc="left")  # which is what a phone shows of a wide picture
    axes.set(ylabel="Of the tracks with this tag ...", xlabel="... so many % also have this one")
    return picture


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
    yield "Which tags does it recognise?", [plot_tag_precision(evaluation)], caption
    caption = [
        "Lower a tag's threshold, and you move right along its curve: more of its tracks are found (recall), while "
        "fewer of those found are right (precision). A good tag stays high far to the right.",
        "The dot is where the threshold in use puts it: low means many false alarms, far left that most are "
        f"missed; no dot, that the tag is never given.{some}",
    ]
    yield "What a threshold buys", [plot_curves(evaluation)], caption
    caption = [
        "The better the dark scores lie apart from the light ones, the better the tag is recognised. Dark left of "
        "the red threshold is missed, light right of it is a false alarm.",
        f"Each mark on the left is many times the one below it, so that a few tracks can be seen beside "
        f"thousands, and the axes at the bottom differ.{some}",
    ]
    yield "Scores of tracks with a tag and without", [plot_score_histograms(evaluation)], caption
    yield kind.describe_reliability(evaluation, "tags")
    if n_tags < 2:
        return
    most = f" Of {n_tags} tags, the {MOST_TAGS} most frequent." if n_tags > MOST_TAGS else ""
    caption = [
        "Go along a row: of the tracks that have its tag, the colour says how many also have that of the column. "
        "What the tagger decides should look like the truth. Where it is darker all over, it gives too many tags "
        "at a time; a column that is darker from top to bottom is a tag that it gives to almost anything.",
        f"Grey: the tag itself, or one that no track has.{most}",
    ]
    yield "Which tags go together", plot_cooccurrences(evaluation), caption


KIND = Kind(
    target="tag",
    plural="tags",
    columns=("tag", "score", "above_threshold"),
    has_thresholds=True,
    activation="sigmoid",
    make_loss=make_tag_loss,
    monitor="PR-AUC-macro",
    watch=metrics.quick_mean_average_precision,
    # each tag on its own: that share of its certainty goes half and half to yes and no
    smooth=lambda targets, share: np.asarray(targets * (1 - share) + share / 2, np.float32),
    start=prior_log_odds,
    calibrate=lambda truth, scores, _: kind.fit_platt(truth, scores),
    calibrated=kind.apply_platt,
    choose_thresholds=best_thresholds,
    decide=reaches_threshold,
    score=score_tags,
    rows=tag_rows,
    ranked_by="PR-AUC",
    bootstrap=metrics.bootstrap_tags,
    vote=lambda decisions, _: np.asarray(decisions.sum(axis=0) * 2 > len(decisions)),  # more than half of the taggers
    place=lambda task, thresholds, scores, places, _: place_tags(task.targets, thresholds, scores, places),
    meanings={
        "PR-AUC-macro": "Are a tag's tracks ranked above all others? Average precision, the mean over tags, rare or "
        "frequent. 1 is perfect; guessing reaches prior-macro.",
        "ROC-AUC-macro": "The chance that a track with a tag scores above one without it, the mean over tags. "
        "1 is perfect, 0.5 is guessing.",
        "PR-AUC-micro": "Average precision of all pairs of track and tag in one list: frequent tags weigh most.",
        "ROC-AUC-micro": "The chance that a right pair of track and tag scores above a wrong one.",
        "prior-macro": "The share of tracks that have a tag, the mean over tags: the PR-AUC-macro of guessing.",
        **{f"hit@{n}": f"Of the tracks that have a tag, the share with one in its top {n}." for n in HIT_COUNTS},
        "precision-macro": "Of the tracks that are given a tag, the share that has it; the mean over tags.",
        "recall-macro": "Of the tracks that have a tag, the share that is given it; the mean over tags.",
        "F-score-macro": "Precision and recall in one, their harmonic mean for each tag; the mean over tags.",
        "precision-micro": "Of all tags that are given, the share that is right.",
        "recall-micro": "Of all tags that are right, the share that is given.",
        "F-score-micro": "The harmonic mean of precision-micro and recall-micro.",
        **kind.CALIBRATION_MEANINGS,
    },
    column_meanings={"tag": "its name", **kind.COLUMN_MEANINGS},
    sections=show,
    says="Scores are calibrated by held-out tracks.",
    card_metrics=("PR-AUC-macro", "prior-macro", "ROC-AUC-macro", "F-score-macro", "ECE", "ECE-luck"),
    choose="Choose a tag to see the seconds that carried it.",
    legend=BAR_LEGEND.format("score", "") + " Tick: the tag's threshold, ★ reached.",
    states=("threshold {0:.2f}, reached", "threshold {0:.2f}, not reached", "no threshold: it is never decided"),
    footnotes=(
        "* reaches the tag's threshold",
        "no tag reaches its threshold: nothing here is sure enough to be called this song's mood",
    ),
    only_ranked="not calibrated: ranked by how far the song stands out, none is decided; 0.5 is a typical song",
)
