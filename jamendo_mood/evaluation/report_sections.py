"""The pictures of the report of an evaluation, with what to look for in them, by the kind of task. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from jamendo_mood.evaluation import class_plots, score_plots, value_plots
from jamendo_mood.evaluation.evaluate import Evaluation
from jamendo_mood.evaluation.score_plots import MOST_CHOSEN, MOST_TAGS
from jamendo_mood.util.figures import Picture


class Section(NamedTuple):
    """Pictures that belong together, and paragraphs that say what to look for in them."""

    heading: str
    pictures: Sequence[Picture]
    caption: Sequence[str]


def _show_tags(evaluation: Evaluation) -> Iterator[Section]:
    n_tags = len(evaluation.per_target)
    undefined = n_tags - len(score_plots.rank_tags(evaluation))
    left_out = f" {undefined} without a PR-AUC (no track has the tag, or all do) are left out." if undefined else ""
    some = " Shown are the best tag by PR-AUC, the worst, and some between." if n_tags > MOST_CHOSEN else ""
    yield Section(
        "Which tags can it tell?",
        [score_plots.plot_tag_precision(evaluation)],
        [
            "The further right a dot, the better the tag's tracks are ranked above all others. The orange mark is what "
            "guessing would reach, and the line the 95 % interval: a tag is told from chance where its whole line lies "
            "right of the mark, and a long line says that a few artists decide.",
            f"In brackets: how many tracks have the tag.{left_out}",
        ],
    )
    yield Section(
        "What a threshold buys",
        [score_plots.plot_curves(evaluation)],
        [
            "Lower a tag's threshold, and you move right along its curve: more of its tracks are found (recall), while "
            "fewer of those found are right (precision). A good tag stays high far to the right.",
            "The dot is where the threshold in use puts it: low means many false alarms, far left that most are "
            f"missed; no dot, that the tag is never given.{some}",
        ],
    )
    yield Section(
        "Scores of tracks with a tag and without",
        [score_plots.plot_score_histograms(evaluation)],
        [
            "The better the dark scores lie apart from the light ones, the better the tag is told. Dark left of the "
            "red threshold is missed, light right of it is a false alarm.",
            f"Each mark on the left is many times the one below it, so that a few tracks can be seen beside "
            f"thousands, and the axes at the bottom differ.{some}",
        ],
    )
    looked_at = "Most scores are near 0, and right about it; those that are looked at are above 0.1."
    yield _reliability(evaluation, "tags", looked_at)
    if n_tags > 1:
        yield _together(evaluation)


def _reliability(evaluation: Evaluation, plural: str, looked_at: str) -> Section:
    return Section(
        "Can a score be taken at its word?",
        [score_plots.plot_reliability(evaluation)],
        [
            f"Of all {plural} with a score of 0.3, three in ten should be right: that is the orange line. Each dot "
            "is one of at most 15 groups of scores, equal in number. Above the line, more is right than scores say; "
            "below, they promise too much. The mean distance is the expected calibration error (ECE).",
            f"{looked_at} Below the diagrams: how many scores there are, in steps of ten times as many. The axes "
            "spread small scores out.",
        ],
    )


def _together(evaluation: Evaluation) -> Section:
    n_tags = len(evaluation.per_target)
    most = f" Of {n_tags} tags, the {MOST_TAGS} most frequent." if n_tags > MOST_TAGS else ""
    return Section(
        "Which tags go together",
        score_plots.plot_cooccurrences(evaluation),
        [
            "Go along a row: of the tracks that have its tag, the colour says how many also have that of the column. "
            "What the tagger decides should look like the truth. Where it is darker all over, it gives too many tags "
            "at a time; a column that is darker from top to bottom is a tag that it gives to almost anything.",
            f"Grey: the tag itself, or one that no track has.{most}",
        ],
    )


def _show_classes(evaluation: Evaluation) -> Iterator[Section]:
    yield Section(
        "Which classes are taken for which",
        [class_plots.plot_confusion(evaluation)],
        [
            "Go along a row: of the examples that are of its class (how many is in brackets), so many, and so many %, "
            "were decided to be of the column's. On the diagonal they are right; a dark cell beside it is a class that "
            "is often taken for another, a column that is dark from top to bottom one that is named too often.",
            "Grey: no example is of the class.",
        ],
    )
    yield Section(
        "Which classes can it tell?",
        [class_plots.plot_classes(evaluation)],
        [
            "The further right a dot, the better the class is told. Precision is how many of those that are named are "
            "right, recall how many of those that are right are named: a class with little precision is named too "
            "often, one with little recall too seldom. The orange mark is the share of the class.",
        ],
    )
    looked_at = "On the right are those above 0.1 alone: of classes that come into question."
    yield _reliability(evaluation, "classes", looked_at)


def _show_values(evaluation: Evaluation) -> Iterator[Section]:
    what = "moment of a song" if evaluation.songs else "track"
    yield Section(
        "Predicted against true",
        [value_plots.plot_scatter(evaluation)],
        [
            f"Each dot is a {what}. On the orange line it is predicted as it was rated, above it too high, below too "
            "low. A cloud that lies flatter than the line keeps to the middle: the order is told better than the "
            "extremes.",
            "CCC, concordance, is 1 where all dots are on the line. R² is 1 there too, and 0 where naming the mean "
            "every time would come as near.",
        ],
    )
    yield Section(
        "Where it errs",
        [value_plots.plot_residuals(evaluation)],
        [
            "The same dots by their error. The red line is the mean error of groups of equal number: above 0 on the "
            "left and below it on the right means that low values are predicted too high and high ones too low, as a "
            "cautious prediction does.",
        ],
    )
    if value_plots.choose_songs(evaluation):
        yield from _show_courses(evaluation)


def _show_courses(evaluation: Evaluation) -> Iterator[Section]:
    yield Section(
        "Songs over time",
        [value_plots.plot_courses(evaluation)],
        [
            "The song that is followed best at the top, the worst at the bottom, and some between. Black is how the "
            "song was rated from moment to moment, green the prediction.",
            "Tau, Kendall's, says whether both rise and fall together: 1 is always, 0 no more than by chance, below 0 "
            "against each other. It does not see whether the level is right; the figures further up do.",
        ],
    )
    yield Section(
        "How many songs are followed how well",
        [value_plots.plot_taus(evaluation)],
        [
            "Kendall's tau of each song. Bars right of the orange line are songs whose course is followed better than "
            "by guessing. A song whose rating never changes has no course, and is not here.",
        ],
    )


_SECTIONS: dict[str, Callable[[Evaluation], Iterator[Section]]] = {
    "tags": _show_tags,
    "classes": _show_classes,
    "values": _show_values,
}


def make_sections(evaluation: Evaluation) -> Iterator[Section]:
    """The sections of an evaluation of any kind, one at a time, for pictures take memory."""
    return _SECTIONS[evaluation.kind](evaluation)
