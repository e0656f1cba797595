"""An `Evaluation` -> a page to read: one HTML file with its figures inside. Needs matplotlib.

The page asks the network for nothing and runs no script. No time is in it: the same evaluation gives the same file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import jamendo_mood
from jamendo_mood.evaluation import class_plots, score_plots, value_plots
from jamendo_mood.evaluation.evaluate import Evaluation
from jamendo_mood.evaluation.score_plots import MOST_CHOSEN, MOST_TAGS
from jamendo_mood.tasks.kinds import KINDS
from jamendo_mood.tasks.metrics import HIT_COUNTS
from jamendo_mood.training import model
from jamendo_mood.util.figures import Picture
from jamendo_mood.util.files import write_atomically
from jamendo_mood.util.plaintext import count

REPORT_NAME = "report.html"
_WORDS = {"grade", *(rules.target for rules in KINDS.values())}  # columns of words; all others are numbers
PICTURE_DPI, SCREEN_DPI = 144, 96
WIDE = 700  # pixels of a screen; a wider picture is scrolled on a phone, where its text would else be too small

STYLE = """
:root { color-scheme: light dark; --ink: #1d2623; --soft: #55635d; --line: #d5deda; --back: #fff; --tint: #f1f5f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ecea; --soft: #a5b3ad; --line: #3a4642; --back: #151a18; --tint: #1f2623; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 66rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p, figcaption { max-width: 44rem; } .soft, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; } dd { margin: 0; }
table { border-collapse: collapse; } th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; }
tr { border-bottom: 1px solid var(--line); }
.figures .number { font-variant-numeric: tabular-nums; white-space: nowrap; } .figures th { white-space: nowrap; }
figure { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; }
.picture { max-width: 100%; overflow-x: auto; border-radius: .4rem; align-self: flex-start; }
.picture img { display: block; max-width: 100%; height: auto; background: #fff; }
figcaption { flex: 1 1 20rem; } figcaption p { margin: 0 0 .7rem; }
.scroll { overflow: auto; max-height: 85vh; border: 1px solid var(--line); border-radius: .4rem; }
.targets { font-size: .85rem; font-variant-numeric: tabular-nums; border-collapse: separate; border-spacing: 0; }
.targets th, .targets td { padding: .25rem .35rem; text-align: right; border-bottom: 1px solid var(--line); }
.targets .word { text-align: left; }
.targets thead th { position: sticky; top: 0; background: var(--tint); vertical-align: bottom; z-index: 1; }
.targets tbody th { position: sticky; left: 0; background: var(--back); min-width: 8rem; font-weight: 600; }
@media (max-width: 40rem) {
  .figures thead { display: none; } .figures, .figures tbody { display: block; }
  .figures tr { display: grid; grid-template-columns: auto 1fr; gap: 0 .8rem; padding: .4rem 0; }
  .figures th, .figures td { padding: 0; } .figures .number { text-align: right; white-space: normal; }
  .figures td:last-child { grid-column: 1 / -1; color: var(--soft); font-size: .9rem; }
  dl { display: block; } dd { margin-bottom: .5rem; }
  .wide img { max-width: none; }
}
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --tint: #eee; }
  body { max-width: none; padding: 0; font-size: 10pt; } h2, h2 + p { break-after: avoid; }
  figure { display: block; } .picture, tr { break-inside: avoid; }
  .picture img { max-height: 19cm; object-fit: contain; object-position: left top; }
  .scroll { overflow: visible; max-height: none; border: 0; } .targets { font-size: 6.5pt; }
  .targets th, .targets td { padding: .15rem .3rem; position: static; }
}
"""


def save_report(evaluation: Evaluation, folder: Path | str, *, title: str, facts: Mapping[str, str]) -> Path:
    """Write ``report.html``: the figures of an evaluation as a page with pictures, in one file.

    Parameters
    ----------
    evaluation : Evaluation
    folder : Path
        Made if it is not there.
    title : str
    facts : dict of str
        What was judged, and by what: task, data, part, tagger. Any text; it is escaped.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError, DiskFullError
        It cannot be written.
    """
    page = write_page(evaluation, title, facts)
    path = Path(folder) / REPORT_NAME
    # A folder's name may be no Unicode, which a page can't hold.
    write_atomically(path, lambda file: file.write(page.encode("utf-8", "replace")))
    return path


def write_page(evaluation: Evaluation, title: str, facts: Mapping[str, str]) -> str:
    """The text of ``report.html``; parameters as for `save_report`."""
    body = [
        f"<h1>{escape(title)}</h1>",
        _list(facts),
        *_grades(evaluation),
        *_headline(evaluation),
        *(part for section in make_sections(evaluation) for part in _section(section)),
        *_targets(evaluation),
        f'<p class="soft">Made by jamendo-mood {escape(jamendo_mood.__version__)}.</p>',
    ]
    head = [
        '<meta charset="utf-8">',
        # Nothing but what is in this file, even if a name of a tag were let through unescaped.
        '<meta http-equiv="Content-Security-Policy"',
        "  content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
    ]
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>"]
    return "\n".join(lines) + "\n"


def _grades(evaluation: Evaluation) -> Iterator[str]:
    """How many targets there are of each grade: the answer in short."""
    given = [row["grade"] for row in evaluation.per_target]
    songs = len(set(evaluation.songs))
    by = f"{evaluation.examples:,} moments of {count(songs, 'song')}" if songs else f"{evaluation.examples:,} tracks"
    judged = f"<p>Judged by {by}, how far can its {KINDS[evaluation.kind].plural} be relied on?</p>"
    yield f"<h2>In short</h2>\n{judged}"
    meanings = model.WORDS[evaluation.kind].grades
    yield _list({f"{given.count(grade)} {grade}": meaning for grade, meaning in meanings.items()})


def _headline(evaluation: Evaluation) -> Iterator[str]:
    yield "<h2>Figures</h2>"
    if evaluation.intervals:
        yield (
            "<p>In brackets: the 95 % interval, within which a figure would mostly stay had other artists been drawn "
            "to be judged by.</p>"
        )
    yield '<table class="figures">\n<thead><tr><th>figure</th><th>value</th><th>what it is</th></tr></thead>\n<tbody>'
    for name, figure in evaluation.figures.items():
        interval = evaluation.intervals.get(name)
        value = _cell(figure) + (f" [{_cell(interval[0])}, {_cell(interval[1])}]" if interval else "")
        meaning = EXPLANATIONS[evaluation.kind].get(name, "")
        yield f'<tr><th>{escape(name)}</th><td class="number">{value}</td><td>{escape(meaning)}</td></tr>'
    yield "</tbody>\n</table>"


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{escape(section.heading)}</h2>\n<figure>"
    for picture in section.pictures:
        yield _image(picture, section.heading)
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in section.caption)
    yield f"<figcaption>{paragraphs}</figcaption>\n</figure>"


def _image(picture: Picture, text: str) -> str:
    """A picture within the page, as wide on a screen as it was drawn."""
    buffer = io.BytesIO()
    # Without metadata, which name matplotlib's version.
    picture.savefig(buffer, format="png", dpi=PICTURE_DPI, bbox_inches="tight", metadata={"Software": None})
    png = buffer.getvalue()
    width, height = (int.from_bytes(png[at : at + 4], "big") * SCREEN_DPI // PICTURE_DPI for at in (16, 20))
    data = base64.b64encode(png).decode()
    kind = "picture wide" if width > WIDE else "picture"
    image = f'<img alt="{escape(text)}" width="{width}" height="{height}" src="data:image/png;base64,{data}">'
    return f'<div class="{kind}">{image}</div>'


def _targets(evaluation: Evaluation) -> Iterator[str]:
    """The whole table, best first, and what its columns are."""
    rules, columns = KINDS[evaluation.kind], COLUMNS[evaluation.kind]
    ranked = score_plots.rank_tags(evaluation)
    order = ranked + [column for column in range(len(evaluation.per_target)) if column not in ranked]
    there = {name: None for row in evaluation.per_target for name in row}
    names = [name for name in columns if name in there] + [name for name in there if name not in columns]
    best_first = f"The best {rules.ranked_by} first; “-” is what these tracks cannot tell."
    yield f"<h2>All {rules.plural}</h2>\n<p>{best_first}</p>"
    yield '<div class="scroll" tabindex="0">\n<table class="targets">'
    yield f"<thead><tr>{''.join(f'<th{_kind(name)}>{escape(name)}</th>' for name in names)}</tr></thead>\n<tbody>"
    for column in order:
        row = evaluation.per_target[column]
        first, *others = ((_kind(name), escape(_cell(row.get(name)))) for name in names)
        cells = "".join(f"<td{kind}>{text}</td>" for kind, text in others)
        yield f"<tr><th{first[0]}>{first[1]}</th>{cells}</tr>"
    yield "</tbody>\n</table>\n</div>"
    yield _list({name: columns[name] for name in names if name in columns})


def _kind(column: str) -> str:
    return ' class="word"' if column in _WORDS else ""


def _list(entries: Mapping[str, str]) -> str:
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries.items())
    return f"<dl>\n{rows}\n</dl>"


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


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


EXPLANATIONS: dict[str, dict[str, str]] = {
    "tags": {
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
    },
    "classes": {
        "accuracy": "The share of tracks whose class is named right. Always naming the most frequent class reaches "
        "accuracy-prior.",
        "F-score-macro": "Precision and recall in one, their harmonic mean for each class; the mean over classes, rare "
        "or frequent. 1 is perfect.",
        "accuracy-prior": "The share of the most frequent class: the accuracy of naming it every time.",
        "log-likelihood": "The mean natural logarithm of the probability that the right class is given. 0 is perfect, "
        "lower is worse: -0.69 is one half, on average, and -1.39 a quarter.",
        "ECE": "How far probabilities above 0.1 are, on average, from the share of them that is right. 0 is perfect, "
        "lower is better.",
        "Brier-skill-macro": "How much closer probabilities come to the truth, in squared error, than the share of "
        "each class for every track; the mean over classes. 1 is perfect, 0 is no better than that, below 0 is worse.",
    },
    "values": {
        "CCC": "Concordance, the mean over the targets: how near points of truth and prediction lie to the line where "
        "both are equal. 1 is perfect, 0 tells nothing; predictions that keep to the middle lower it.",
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
}
"""The headline figures, each in a sentence or two."""

COLUMNS: dict[str, dict[str, str]] = {
    "tags": {
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
        "Brier-skill": "how much better its scores are, in squared error, than its prior for every track; 0 is no "
        "better",
    },
    "classes": {
        "class": "its name",
        "grade": "how far it can be relied on by these tracks, as explained at the top",
        "positives": "tracks that are of it",
        "artists": "how many artists these are by",
        "prior": "the share of all tracks that are of it",
        "decided": "tracks that it is named for",
        "precision": "of the tracks that it is named for, the share that is of it",
        "recall": "of the tracks that are of it, the share that it is named for",
        "F-score": "the harmonic mean of precision and recall",
        "ECE-all": "how far its probabilities, all of them, are from the share that is right; lower is better",
        "Brier-skill": "how much better its probabilities are, in squared error, than its prior for every track; 0 is "
        "no better",
    },
    "values": {
        "value": "what is predicted",
        "grade": "how far it can be relied on by these examples, as explained at the top",
        "CCC": "concordance with the truth: 1 is perfect, 0 tells nothing",
        "Pearson": "correlation with the truth",
        "R2": "share of the truth's variance that is explained, 0 is naming the mean every time",
        "RMSE": "root of the mean squared error, in the units of the scale",
        "mean": "of the truth",
        "sd": "the truth's standard deviation: the RMSE of naming the mean every time",
    },
}
"""The columns of the table of targets, in order, each in a few words."""
