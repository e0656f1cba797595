"""An `Evaluation` -> a page to read: one HTML file with its figures inside. Needs matplotlib.

The page asks the network for nothing and runs no script. No time is in it: the same evaluation gives the same file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import jamendo_mood
from jamendo_mood.evaluation.evaluate import Evaluation
from jamendo_mood.tasks.kind import Section, rank_targets
from jamendo_mood.tasks.task import KINDS
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
        *(part for section in KINDS[evaluation.kind].report.sections(evaluation) for part in _section(section)),
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
    meanings = KINDS[evaluation.kind].card.grades
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
        meaning = KINDS[evaluation.kind].report.figures.get(name, "")
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
    rules, columns = KINDS[evaluation.kind], KINDS[evaluation.kind].report.columns
    ranked = rank_targets(evaluation, rules.ranked_by)
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
