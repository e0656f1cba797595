"""An `Evaluation` -> figures of how good a tagger is, and where. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.evaluation.data_plots import cooccurrence, similar_order
from jamendo_mood.evaluation.evaluate import Evaluation
from jamendo_mood.tasks import metrics
from jamendo_mood.tasks.kinds import KINDS
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.figures import (
    CONTRAST,
    DECIDED,
    GRADE_STYLES,
    PRIOR,
    ROW_HEIGHT,
    UNDECIDED,
    WIDTH,
    Picture,
    empty_axes,
    make_picture,
    shorten,
)

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

MOST_TAGS = 60  # so many rows can still be read, and MTG-Jamendo's 56 are all there
MOST_CHOSEN = 6
TAG_HEIGHT = 0.19  # inches a row where there are many
FEW_TAGS = 15
GAP_ROWS = 2  # left empty where tags are left out
SCORE_BINS = 30
CURVE_COLOURS = ("#0072b2", "#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00")
"""Those of Okabe and Ito, "Color Universal Design", 2008, which the colour-blind can tell apart."""
SCORE_TICKS = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def rank_tags(evaluation: Evaluation) -> list[int]:
    """The columns of the tags that have a PR-AUC, best first; equals stay in the order of the task.

    Of classes and values likewise, by the figure that their table is sorted by.
    """
    figures = [row[KINDS[evaluation.kind].ranked_by] for row in evaluation.per_target]
    return sorted((column for column, figure in enumerate(figures) if figure is not None), key=lambda n: -figures[n])


def choose_tags(evaluation: Evaluation, count: int = MOST_CHOSEN) -> tuple[str, ...]:
    """The best tag by PR-AUC, the worst, and some between at equal steps of rank, at most `count`; best first."""
    ranked = rank_tags(evaluation)
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return tuple(str(evaluation.per_target[ranked[place]]["tag"]) for place in places)


def plot_tag_precision(evaluation: Evaluation, count: int = MOST_TAGS) -> Picture:
    """PR-AUC of each tag with its 95 % interval, beside its prior; best first, coloured by grade.

    Tags without a PR-AUC are left out. Of more than `count`, only the best and the worst are drawn, half and half, and
    the title says so.
    """
    columns = rank_tags(evaluation)
    omitted = max(len(columns) - count, 0)
    n_best = len(columns) if not omitted else (count + 1) // 2
    rows = [evaluation.per_target[column] for column in columns[:n_best] + columns[n_best + omitted :]]
    places = np.arange(len(rows)) + GAP_ROWS * (np.arange(len(rows)) >= n_best)
    height = ROW_HEIGHT if len(rows) <= FEW_TAGS else TAG_HEIGHT
    figure, axes = empty_axes(WIDTH, 1.3 + height * (places[-1] + 1))
    _draw_intervals(axes, rows, places)
    names = [f"{shorten(row['tag'])} ({row['positives']})" for row in rows]
    axes.set_yticks(places, names, fontsize=9 if len(rows) <= FEW_TAGS else 8, parse_math=False)
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.set_xlim(0, min(1.0, 1.05 * max(_extremes(rows))))
    axes.set(xlabel="PR-AUC (line: 95 % interval)")
    axes.grid(axis="x", color="#e4e9e7")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=5, frameon=False, columnspacing=1.2, handletextpad=0.3)
    if omitted:
        axes.set_title(f"the {n_best} best and {len(rows) - n_best} worst of {len(columns)} tags", fontsize=10)
        note = f"{omitted} tags between are left out"
        axes.text(
            0.5,
            n_best + (GAP_ROWS - 1) / 2,
            note,
            ha="center",
            va="center",
            style="italic",
            transform=axes.get_yaxis_transform(),
        )
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


def _extremes(rows: Sequence[Any]) -> list[float]:
    return [row[name] for row in rows for name in ("prior", "PR-AUC", "PR-AUC-high") if row.get(name) is not None]


def plot_curves(evaluation: Evaluation, tags: Sequence[str] = ()) -> Picture:
    """Precision-recall curves, with a mark where each tag's threshold puts it; the area below a curve is the PR-AUC.

    Parameters
    ----------
    evaluation : Evaluation
    tags : sequence of str
        At most 6; those of `choose_tags` if there are none.

    Raises
    ------
    UsageError
        Too many tags, one that is not there, or one without a PR-AUC.
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


def plot_reliability(evaluation: Evaluation) -> Picture:
    """How often tags are right at each score, of all scores and of those above 0.1, over a histogram of the scores."""
    limits = [0.0, *([metrics.LOOKED_AT] if (evaluation.predictions > metrics.LOOKED_AT).any() else [])]
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


def _draw_reliability(axes: Any, evaluation: Evaluation, above: float) -> None:
    score, share, _ = metrics.reliability_curve(evaluation.truth, evaluation.predictions, above)
    error = metrics.calibration_error(evaluation.truth, evaluation.predictions, above)
    highest = min(1.0, 1.1 * float(max([*share, evaluation.predictions.max(), 1e-6])))
    which = f"scores above {above}" if above else "all scores"
    none = f" (none above {metrics.LOOKED_AT})" if evaluation.predictions.max() <= metrics.LOOKED_AT else ""
    axes.set_title(f"{which}{none}: ECE {error:.4f}", fontsize=10)
    # Most scores are small: by their root, those near 0 are told apart, and a diagonal stays one.
    for set_scale in (axes.set_xscale, axes.set_yscale):
        set_scale("function", functions=(_root, np.square))
    axes.set(xlim=(above, highest), ylim=(0, highest))
    axes.set_xticks(score_ticks(above, highest))
    axes.set_yticks(score_ticks(0.0, highest))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.plot([above, highest], [above, highest], color=PRIOR, linewidth=2, label="what scores promise")
    axes.plot(score, share, "o-", color=DECIDED, markersize=4, clip_on=False, label="what is true")


def _draw_counts(axes: Any, scores: Floats, limits: tuple[float, float]) -> None:
    """A histogram on the axis of the diagram above it, in bins that look equally wide there."""
    bins = np.linspace(np.sqrt(limits[0]), np.sqrt(limits[1]), SCORE_BINS + 1) ** 2
    counts, _ = np.histogram(scores, bins)
    axes.set_ylim(0.5, max(20, 2 * counts.max()))
    axes.set_yscale("log")
    axes.bar(bins[:-1], counts, np.diff(bins), align="edge", color=UNDECIDED)
    axes.set_xlabel("score")


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


def plot_score_histograms(evaluation: Evaluation, tags: Sequence[str] = ()) -> Picture:
    """Scores of the examples that have a tag and of those that don't, on logarithmic counts, and the threshold.

    Parameters, Raises: as `plot_curves`, but the tags need no PR-AUC.
    """
    columns = _columns(evaluation, tags)
    across = min(len(columns), 2)
    down = -(-len(columns) // across)
    figure = make_picture(WIDTH, 0.8 + 1.75 * down)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, column in zip(grid, columns, strict=False):
        _draw_histogram(axes, evaluation, column)
    for axes in grid[len(columns) :]:
        axes.remove()
    figure.supxlabel("score", fontsize=10)
    figure.supylabel("tracks", fontsize=10)
    handles = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {label: handle for pair in handles for handle, label in zip(*pair, strict=True)}
    figure.legend(by_label.values(), by_label.keys(), loc="outside upper left", ncols=3, frameon=False)
    return figure


def _draw_histogram(axes: Any, evaluation: Evaluation, column: int) -> None:
    """One tag, as far as its scores and its threshold go."""
    row, truth = evaluation.per_target[column], evaluation.truth[:, column]
    scores, threshold = evaluation.predictions[:, column], row.get("threshold")
    highest = max(float(scores.max()), threshold or 0.0, 1e-6)
    bins = np.linspace(0, 1.0001 * highest, SCORE_BINS + 1)
    for chosen, colour, label in ((~truth, UNDECIDED, "do not have the tag"), (truth, DECIDED, "have the tag")):
        axes.hist(scores[chosen], bins, color=colour, label=label, alpha=0.85)
    if threshold is not None:
        axes.axvline(threshold, color=CONTRAST, linewidth=2, label="threshold")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.set_xlim(0, bins[-1])
    axes.locator_params(axis="x", nbins=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(shorten(row["tag"]), fontsize=10, parse_math=False)


def plot_cooccurrences(evaluation: Evaluation, count: int = MOST_TAGS) -> tuple[Picture, Picture]:
    """Which tags go together: in truth, and as the tagger decides.

    Both in the order that puts those next to each other that go together in truth, and on one scale. Of more than
    `count` tags, the most frequent.
    """
    from matplotlib.colors import PowerNorm

    frequent = np.argsort(-evaluation.truth.sum(axis=0), kind="stable")[:count]
    columns = frequent[similar_order(evaluation.truth[:, frequent])]
    tables = {
        "in truth": 100 * cooccurrence(evaluation.truth[:, columns]),
        "as decided by the tagger": 100 * cooccurrence(evaluation.decisions[:, columns]),
    }
    for table in tables.values():
        np.fill_diagonal(table, np.nan)  # always 100
    norm = PowerNorm(0.5, vmin=0, vmax=np.nanmax([*tables.values()], initial=1))
    names = [shorten(evaluation.per_target[column]["tag"]) for column in columns]
    first, second = (_draw_shares(title, table, names, norm) for title, table in tables.items())
    return first, second


def _draw_shares(title: str, shares: Floats, names: Sequence[str], norm: Any) -> Picture:
    """Percentages as a heat map, grey where they are not defined."""
    side = len(names) * np.clip(3 / len(names), 0.15, 0.6)  # inches: the labels of 60 tags must not touch
    far = len(names) > FEW_TAGS  # from one edge to the other, so that both have labels
    margin = 0.5 + 0.07 * max(map(len, names))
    figure, axes = empty_axes(side + margin + 0.9 * far, side + margin * (1 + far) + 0.4)
    image = axes.imshow(shares, norm=norm, cmap="YlGnBu", interpolation="nearest")
    axes.set_facecolor("#cccccc")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.tick_params(top=far, labeltop=far)
    axes.set_title(title, loc="left")  # which is what a phone shows of a wide picture
    axes.set(ylabel="Of the tracks with this tag ...", xlabel="... so many % also have this one")
    if far:
        figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.015, label="%")
    else:
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                colour = "white" if norm(share) > 0.6 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    return figure


def _columns(evaluation: Evaluation, tags: Sequence[str]) -> list[int]:
    names = [row["tag"] for row in evaluation.per_target]
    chosen = tags or choose_tags(evaluation)
    missing = [tag for tag in chosen if tag not in names]
    if missing:
        raise UsageError(f"no tag {missing[0]!r} in this evaluation (there are {', '.join(names)})")
    if len(chosen) > MOST_CHOSEN:
        raise UsageError(f"{len(chosen)} tags are too many for one figure: choose at most {MOST_CHOSEN}")
    return [names.index(tag) for tag in chosen]
