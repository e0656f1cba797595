"""A library at a glance: how its moods are spread, its duplicates, what no mood fits, and all its songs on one page.

The page is one file that asks no host for anything; Bokeh (BSD-3-Clause, the extra ``plots``) draws the plane in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.library.similarity import SAME, Array, Found, Library, name_of, spread_by_rank
from jamendo_mood.library.writing import decide_moods, location_of
from jamendo_mood.tagging.emotions import DIRECTIONS, QUADRANTS
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import count

MAX_GROUPS, MAX_UNSURE = 200, 30  #: listed on the page
REACHED = 128  #: added to the per cent of a mood, in the page's data, of a song that is of that mood
GREEN, ORANGE, GREY = "#2a9d84", "#e0731d", "#808c87"  # to be seen on a white page and on a dark one

BY_MOOD = "Each song lies where its moods do, compared with the others: 0 is the song in the middle of this library."
BY_SOUND = (
    "This tagger's moods say nothing of valence and arousal, so songs lie by sound: those that are alike are near."
)


@dataclass(frozen=True, eq=False)
class Overview:
    """What is to be seen of the n songs of a library."""

    moods: tuple[str, ...]  #: the m targets; of a tagger of values, the quadrants of the plane
    scores: Array  #: float32 (n, m): range [0, 1]
    decided: npt.NDArray[np.bool_]  #: bool (n, m): which song is of which mood, see `writing.decide_moods`
    plane: Array  #: float32 (n, 2): range [-1, 1]
    by_mood: bool  #: whether that is valence and arousal; else it is how songs sound
    duplicates: list[list[int]]  #: songs that are the same sound, by index; the most alike first
    unsure: list[int]  #: all songs, those first that no mood fits

    @property
    def counts(self) -> dict[str, int]:
        """How many songs are of each mood, most first."""
        counts = zip(self.moods, self.decided.sum(axis=0).tolist(), strict=True)
        return dict(sorted(counts, key=lambda pair: -pair[1]))

    @property
    def of_no_mood(self) -> int:
        """How many songs are of no mood at all."""
        return int((~self.decided.any(axis=1)).sum())

    def describe_duplicates(self) -> str:
        """How many songs are there more than once, in a sentence."""
        more = f"{count(len(self.duplicates), 'song')}, in {sum(map(len, self.duplicates))} files"
        return f"The same sound more than once: {more if self.duplicates else 'none'}."


def survey(library: Library, tagger: Tagger) -> Overview:
    """Look at a library that `open_library` scored with this tagger.

    A song fits no mood if none of its scores comes near its threshold, or is high where there are none. Raises
    `UsageError` for a tagger of values other than valence and arousal.
    """
    moods, scores, plane = tagger.task.targets, library.scores, library.plane
    if not tagger.task.rules.on_scale:
        decided = decide_moods(tagger, scores)
        relative = tagger.task.kind == "tags" and not tagger.ranks
        fit = (scores / np.maximum(tagger.thresholds, 1e-9) if relative else scores).max(axis=1)
    elif library.va is not None:
        moods = tuple(f"{'' if good else 'un'}pleasant, {'excited' if loud else 'calm'}" for good, loud in QUADRANTS)
        decided = np.stack([((library.va >= 0) == corner).all(axis=1) for corner in QUADRANTS], axis=1)
        scores, fit = decided.astype(np.float32), np.linalg.norm(library.va, axis=1)
    else:
        raise UsageError(f"this tagger predicts {', '.join(moods)}, which say nothing of moods")
    unsure, duplicates = np.argsort(fit, kind="stable").tolist(), _find_duplicates(library)
    if plane is None:  # the two directions in which songs sound most different
        _, axes = np.linalg.eigh(library.directions.T @ library.directions)
        plane = spread_by_rank(library.directions @ axes[:, :-3:-1]) * 2 - 1
    return Overview(moods, scores, decided, plane, library.plane is not None, duplicates, unsure)


def _find_duplicates(library: Library) -> list[list[int]]:
    """Groups of songs within `SAME` of each other."""
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors

    places = (library.means - library.means.mean(axis=0)) / library.unit / math.sqrt(library.means.shape[1])
    near = NearestNeighbors(radius=SAME, algorithm="brute").fit(places).radius_neighbors_graph()
    groups: dict[int, list[int]] = {}
    for row, group in enumerate(connected_components(near, directed=False)[1].tolist()):
        groups.setdefault(group, []).append(row)
    found = [rows for rows in groups.values() if len(rows) > 1]
    return sorted(found, key=lambda rows: float(np.linalg.norm(places[rows[1:]] - places[rows[0]], axis=1).min()))


def write_page(overview: Overview, songs: Sequence[Found], title: str) -> str:
    """The text of the page; `songs` are all of the library, in order, with titles and files where they are known."""
    from bokeh.resources import Resources

    own = resources.files(__package__)
    styles = resources.files("jamendo_mood.evaluation") / "report.css", own / "overview.css"
    bokeh = Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw
    scripts = [*bokeh, (own / "overview.js").read_text()]
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    sources = " ".join(f"'sha256-{one}'" for one in hashes)
    data = json.dumps({"plane": _draw(overview, songs), "moods": overview.moods, "reached": REACHED})
    lines = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        # These scripts and no others, even if a song's title were let through unescaped.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src 'unsafe-inline'; script-src {sources}\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>\n{''.join(style.read_text() for style in styles)}</style>",
        f"</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>",
        *_body(overview, songs),
        "</main>",
        f'<script type="application/json" id="data">{data.replace("<", chr(92) + "u003c")}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body>\n</html>\n",
    ]
    return "\n".join(lines)


def _draw(overview: Overview, songs: Sequence[Found]) -> Any:
    """The plane as JSON for Bokeh. Its canvas, unlike its WebGL, is as quick without a graphics card."""
    from bokeh.embed import json_item
    from bokeh.models import BoxSelectTool, ColumnDataSource, HoverTool, LassoSelectTool
    from bokeh.plotting import figure

    columns: dict[str, Any] = {"x": overview.plane[:, 0], "y": overview.plane[:, 1], "name": list(map(name_of, songs))}
    levels = np.rint(overview.scores * 100).astype(np.uint8) + REACHED * overview.decided.astype(np.uint8)
    columns |= {f"mood {mood}": level for mood, level in enumerate(levels.T.copy())}
    if any(song.file for song in songs):
        columns["file"] = [location_of(song.file) if song.file else "" for song in songs]
        columns["seconds"] = [-1 if song.duration_s is None else round(song.duration_s) for song in songs]
    lasso, box = LassoSelectTool(continuous=False), BoxSelectTool(continuous=False)
    plot = figure(
        name="plot",
        tools=[lasso, box, "tap", "pan", "wheel_zoom", "reset"],
        active_drag=lasso,
        x_range=(-1.35, 1.35),
        sizing_mode="stretch_both",
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
    )
    plot.toolbar.logo, plot.axis.visible = None, overview.by_mood
    plot.grid.grid_line_color, plot.grid.grid_line_alpha = GREY, 0.2
    plot.xaxis.axis_label, plot.yaxis.axis_label = "valence: unpleasant to pleasant", "arousal: calm to excited"
    dots = plot.scatter(
        "x",
        "y",
        source=ColumnDataSource(columns, name="songs"),
        size=min(max(400 / math.sqrt(len(songs)), 4), 10),
        line_color=None,
        fill_color=GREEN,
        fill_alpha=0.7,
        selection_fill_color=ORANGE,
        nonselection_fill_alpha=0.15,
    )
    plot.add_tools(HoverTool(renderers=[dots], tooltips=[("", "@name")], limit=4))
    if overview.by_mood:
        turns = np.arange(len(DIRECTIONS)) / len(DIRECTIONS) * 2 * np.pi
        ends = np.round([np.cos(turns), np.sin(turns)]) * 1.1  # around the square that the songs are in
        plot.text(*ends, text=list(DIRECTIONS), text_color=GREY, text_align="center", text_baseline="middle")
    return json_item(plot, "plane")


def _body(overview: Overview, songs: Sequence[Found]) -> Iterator[str]:
    yield f'<p>{count(len(songs), "song")}. A click on a mood selects its songs.</p>\n<table class="moods"><tbody>'
    for mood, number in overview.counts.items():
        button, share = f'<button data-mood="{overview.moods.index(mood)}">{escape(mood)}</button>', number / len(songs)
        bar = f'<td class="bar"><div style="width: {share:.1%}"></div></td>'
        yield f"<tr><th>{button}</th><td>{number:,}</td><td>{share:.1%}</td>{bar}</tr>"
    yield f"</tbody></table>\n<h2>All songs</h2>\n<p>{BY_MOOD if overview.by_mood else BY_SOUND}"
    yield "Draw around songs to select them, or click on one to see its moods.</p>"
    yield '<div class="split"><div id="plane"></div><section><h3 id="chosen" aria-live="polite"></h3>'
    yield '<div id="song"></div><button id="save">Save as a playlist (M3U8)</button><ol id="list"></ol></section></div>'
    more = f" The first {MAX_GROUPS}:" if len(overview.duplicates) > MAX_GROUPS else ""
    yield f"<h2>Duplicates</h2>\n<p>{overview.describe_duplicates()}{more}</p>\n<ul>"
    for group in overview.duplicates[:MAX_GROUPS]:
        yield f"<li>{' = '.join(_button(songs, row) for row in group)}</li>"
    yield f"</ul>\n<h2>Songs that no mood fits well</h2>\n<p>{count(overview.of_no_mood, 'song')} of no mood."
    yield "These are the ones that moods fit least, the least first:</p>\n<ol>"
    yield from (f"<li>{_button(songs, row)}</li>" for row in overview.unsure[:MAX_UNSURE])
    yield "</ol>"


def _button(songs: Sequence[Found], row: int) -> str:
    return f'<button data-row="{row}">{escape(name_of(songs[row]))}</button>'
