"""An `Evaluation` -> a page to read: one HTML file with its figures inside. Needs matplotlib, as `scoreplots`.

The page asks the network for nothing and runs no script. No time is in it: the same evaluation gives the same file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import jamendo_mood
from jamendo_mood import cards, scoreplots
from jamendo_mood.evaluation import Evaluation
from jamendo_mood.metrics import HIT_COUNTS
from jamendo_mood.plots import Picture
from jamendo_mood.scoreplots import MOST_CHOSEN, MOST_TAGS
from jamendo_mood.store import write_atomically

REPORT_NAME = "report.html"
PICTURE_DPI, SCREEN_DPI = 144, 96
WIDE = 700  # pixels of a screen; a wider picture is scrolled on a phone, where its text would else be too small

EXPLANATIONS = {
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
    "Brier-skill-macro": "How much closer scores come to the truth, in squared error, than the prior as the score of "
    "every track; the mean over tags. 1 is perfect, 0 is no better than the prior, below 0 is worse.",
}
"""The headline figures, each in a sentence or two."""

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
"""The columns of the table of tags, in order, each in a few words."""

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
.tags { font-size: .85rem; font-variant-numeric: tabular-nums; border-collapse: separate; border-spacing: 0; }
.tags th, .tags td { padding: .25rem .35rem; text-align: right; border-bottom: 1px solid var(--line); }
.tags .word { text-align: left; }
.tags thead th { position: sticky; top: 0; background: var(--tint); vertical-align: bottom; z-index: 1; }
.tags tbody th { position: sticky; left: 0; background: var(--back); min-width: 8rem; font-weight: 600; }
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
  .scroll { overflow: visible; max-height: none; border: 0; } .tags { font-size: 6.5pt; }
  .tags th, .tags td { padding: .15rem .3rem; position: static; }
}
"""


class Section(NamedTuple):
    """Pictures that belong together, and paragraphs that say what to look for in them."""

    heading: str
    pictures: Sequence[Picture]
    caption: Sequence[str]


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
        *(part for section in _sections(evaluation) for part in _section(section)),
        *_tags(evaluation),
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
    """How many tags there are of each grade: the answer in short."""
    given = [row["grade"] for row in evaluation.per_tag]
    judged = f"<p>Judged by {evaluation.examples:,} tracks, how far can its tags be relied on?</p>"
    yield f"<h2>In short</h2>\n{judged}"
    yield _list({f"{given.count(grade)} {grade}": meaning for grade, meaning in cards.GRADES.items()})


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
        meaning = EXPLANATIONS.get(name, "")
        yield f'<tr><th>{escape(name)}</th><td class="number">{value}</td><td>{escape(meaning)}</td></tr>'
    yield "</tbody>\n</table>"


def _sections(evaluation: Evaluation) -> Iterator[Section]:
    """The figures, one at a time, for each takes memory."""
    n_tags = len(evaluation.per_tag)
    undefined = n_tags - len(scoreplots.rank_tags(evaluation))
    left_out = f" {undefined} without a PR-AUC (no track has the tag, or all do) are left out." if undefined else ""
    some = " Shown are the best tag by PR-AUC, the worst, and some between." if n_tags > MOST_CHOSEN else ""
    yield Section(
        "Which tags can it tell?",
        [scoreplots.plot_tag_precision(evaluation)],
        [
            "The further right a dot, the better the tag's tracks are ranked above all others. The orange mark is what "
            "guessing would reach, and the line the 95 % interval: a tag is told from chance where its whole line lies "
            "right of the mark, and a long line says that a few artists decide.",
            f"In brackets: how many tracks have the tag.{left_out}",
        ],
    )
    yield Section(
        "What a threshold buys",
        [scoreplots.plot_curves(evaluation)],
        [
            "Lower a tag's threshold, and you move right along its curve: more of its tracks are found (recall), while "
            "fewer of those found are right (precision). A good tag stays high far to the right.",
            "The dot is where the threshold in use puts it: low means many false alarms, far left that most are "
            f"missed; no dot, that the tag is never given.{some}",
        ],
    )
    yield Section(
        "Scores of tracks with a tag and without",
        [scoreplots.plot_score_histograms(evaluation)],
        [
            "The better the dark scores lie apart from the light ones, the better the tag is told. Dark left of the "
            "red threshold is missed, light right of it is a false alarm.",
            f"Each mark on the left is many times the one below it, so that a few tracks can be seen beside "
            f"thousands, and the axes at the bottom differ.{some}",
        ],
    )
    yield Section(
        "Can a score be taken at its word?",
        [scoreplots.plot_reliability(evaluation)],
        [
            "Of all tags with a score of 0.3, three in ten should be right: that is the orange line. Each dot is one "
            "of at most 15 groups of scores, equal in number. Above the line, more is right than scores say; below, "
            "they promise too much. The mean distance is the expected calibration error (ECE).",
            "Most scores are near 0, and right about it; those that are looked at are above 0.1. Below the diagrams: "
            "how many scores there are, in steps of ten times as many. The axes spread small scores out.",
        ],
    )
    if n_tags > 1:
        yield _together(evaluation)


def _together(evaluation: Evaluation) -> Section:
    n_tags = len(evaluation.per_tag)
    most = f" Of {n_tags} tags, the {MOST_TAGS} most frequent." if n_tags > MOST_TAGS else ""
    return Section(
        "Which tags go together",
        scoreplots.plot_cooccurrences(evaluation),
        [
            "Go along a row: of the tracks that have its tag, the colour says how many also have that of the column. "
            "What the tagger decides should look like the truth. Where it is darker all over, it gives too many tags "
            "at a time; a column that is darker from top to bottom is a tag that it gives to almost anything.",
            f"Grey: the tag itself, or one that no track has.{most}",
        ],
    )


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


def _tags(evaluation: Evaluation) -> Iterator[str]:
    """The whole table, best first, and what its columns are."""
    ranked = scoreplots.rank_tags(evaluation)
    order = ranked + [column for column in range(len(evaluation.per_tag)) if column not in ranked]
    there = {name: None for row in evaluation.per_tag for name in row}
    names = [name for name in COLUMNS if name in there] + [name for name in there if name not in COLUMNS]
    yield "<h2>All tags</h2>\n<p>The best PR-AUC first; “-” is what these tracks cannot tell.</p>"
    yield '<div class="scroll" tabindex="0">\n<table class="tags">'
    yield f"<thead><tr>{''.join(f'<th{_kind(name)}>{escape(name)}</th>' for name in names)}</tr></thead>\n<tbody>"
    for column in order:
        row = evaluation.per_tag[column]
        first, *others = ((_kind(name), escape(_cell(row.get(name)))) for name in names)
        cells = "".join(f"<td{kind}>{text}</td>" for kind, text in others)
        yield f"<tr><th{first[0]}>{first[1]}</th>{cells}</tr>"
    yield "</tbody>\n</table>\n</div>"
    yield _list({name: COLUMNS[name] for name in names if name in COLUMNS})


def _kind(column: str) -> str:
    return ' class="word"' if column in ("tag", "grade") else ""


def _list(entries: Mapping[str, str]) -> str:
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries.items())
    return f"<dl>\n{rows}\n</dl>"


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
