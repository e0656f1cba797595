"""How good a tagger is: `Scores` with intervals, comparison, votes, MediaEval's files, and the report.

The report is one HTML file with its pictures inside. It asks the network for nothing and runs no script. No time is in
it: the same evaluation gives the same file.
"""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import jamendo_mood
from jamendo_mood.tasks import KINDS, Task, metrics
from jamendo_mood.tasks.kind import bin_scores
from jamendo_mood.tasks.metrics import ROUNDS, Bools, Comparison, Floats, brier_skill, rank_targets
from jamendo_mood.tasks.values import score_curves
from jamendo_mood.training.data import Array, Examples
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import files, plaintext
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.plaintext import Picture

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Scores:
    """What an evaluation found."""

    metrics: Mapping[str, float]  #: the headline metrics by their official names, such as ``PR-AUC-macro``
    #: for each target its name, as ``tag``, ``class`` or ``value``, and its metrics: see the `column_meanings` of
    #: its kind. Some are there only where decisions are known, or of a tagger; None is not defined
    per_target: tuple[Mapping[str, Any], ...]
    examples: int  #: tracks; moments of tracks where the task is a dynamic one
    #: for each metric but the prior, the 95 % interval of a bootstrap over artists; empty where it was not made
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    kind: str = "tags"  #: a key of `tasks.KINDS`

    def to_json(self) -> dict[str, Any]:
        """One object, unrounded, headline metrics at its top level."""
        intervals = {"intervals": {name: list(interval) for name, interval in self.intervals.items()}}
        rows = [dict(row) for row in self.per_target]
        return {**self.metrics, **(intervals if self.intervals else {}), "examples": self.examples, "per_target": rows}

    def table(self) -> pd.DataFrame:
        """The rows per target, best first."""
        import pandas as pd

        rows = pd.DataFrame([dict(row) for row in self.per_target])
        best_first: pd.DataFrame = rows.sort_values(KINDS[self.kind].ranked_by, ascending=False, ignore_index=True)
        return best_first

    def save(self, folder: Path | str) -> None:
        """Write ``scores.json`` and ``per_target.csv``."""
        files.write_output(Path(folder) / "scores.json", f"{json.dumps(self.to_json(), indent=2)}\n".encode())
        table, names = self.table(), KINDS[self.kind].target
        rows = table.assign(**{names: table[names].map(plaintext.cell)}).to_csv(index=False)
        files.write_output(Path(folder) / "per_target.csv", rows.encode())


@dataclass(frozen=True)
class Evaluation(Scores):
    """Scores of a tagger, with the arrays they were made of."""

    truth: npt.NDArray[Any] = field(kw_only=True, repr=False)  #: bool (n, k), of values float32
    predictions: Array = field(kw_only=True, repr=False)  #: float32 (n, k)
    decisions: Bools = field(kw_only=True, repr=False)  #: bool (n, k)
    #: of a dynamic task, the key of the track that each moment is of, and where it is in its track, float32 (n,)
    songs: tuple[str, ...] = field(default=(), kw_only=True, repr=False)
    times_s: Array | None = field(default=None, kw_only=True, repr=False)


def evaluate(tagger: Tagger, examples: Examples, *, rounds: int = ROUNDS) -> Evaluation:
    """Evaluate a tagger on examples it was not trained on.

    Parameters
    ----------
    tagger : Tagger
    examples : Examples
    rounds : int
        Bootstrap samples of artists that the intervals come from; 0 makes none.

    Raises
    ------
    DataError
        There is nothing to measure: no tag has positives and negatives, no value varies.
    """
    predictions = tagger.score(examples.frames)
    return evaluate_predictions(
        tagger.task, examples, predictions, tagger.decide(predictions), thresholds=tagger.thresholds, rounds=rounds
    )


def evaluate_predictions(
    task: Task,
    examples: Examples,
    predictions: Array,
    decisions: Bools,
    *,
    thresholds: Floats | None = None,
    rounds: int = ROUNDS,
) -> Evaluation:
    """Evaluate calibrated predictions (n, k) of n examples, whoever made them.

    `thresholds` (k,) are what the decisions were made by, to be listed; `rounds` as for `evaluate`.
    """
    rules, truth = task.rules, task.rules.to_truth(examples.Y)
    artists = np.array([track.artist for track in examples.tracks])
    scores = score_predictions(
        truth, predictions, task.targets, kind=task.kind, decisions=decisions, thresholds=thresholds
    )
    figures = {**scores.metrics, **rules.check_calibration(truth, predictions)}
    songs = () if task.rate_hz is None else tuple(track.key for track in examples.tracks)
    if songs:
        figures |= score_curves(truth, predictions, songs)
    columns: dict[str, Sequence[Any]] = {"grade": rules.grade(truth, predictions)}
    if not rules.on_scale:
        columns["artists"] = [len(set(artists[positive])) for positive in truth.T]
        columns["ECE-all"] = [bin_scores(truth[:, [n]], predictions[:, [n]]).error for n in range(truth.shape[1])]
        columns["Brier-skill"] = [_plain(value) for value in brier_skill(truth, predictions)]
    intervals = {}
    if rounds:
        samples = rules.bootstrap(truth, predictions, artists, decisions=decisions, rounds=rounds)
        intervals = samples.intervals(figures)
        if rules.ranked_by == "PR-AUC":
            by_tag = samples.tag_intervals(metrics.average_precision(truth, predictions))
            for number, end in enumerate(("PR-AUC-low", "PR-AUC-high")):
                columns[end] = [interval[number] if interval else None for interval in by_tag]
    rows = tuple({**row, **{name: own[n] for name, own in columns.items()}} for n, row in enumerate(scores.per_target))
    arrays: dict[str, Any] = {"truth": truth, "predictions": predictions, "decisions": decisions}
    return Evaluation(
        *(figures, rows, len(truth), intervals, task.kind), **arrays, songs=songs, times_s=examples.times_s
    )


def compare(
    first: Tagger, second: Tagger, pair: tuple[Examples, Examples], *, rounds: int = ROUNDS
) -> list[Comparison]:
    """Is the first tagger better than the second? A bootstrap over artists, paired: both meet the same samples.

    `pair` has the same tracks twice, with the embeddings that each tagger needs. Raises `UsageError` if targets or
    tracks differ.
    """
    if first.task.targets != second.task.targets:
        raise UsageError(f"the two taggers are for different {first.task.rules.plural} and cannot be compared")
    if [track.key for track in pair[0].tracks] != [track.key for track in pair[1].tracks]:
        raise UsageError("the two stores do not hold the same tracks of this part: extract the missing ones first")
    artists = [track.artist for track in pair[0].tracks]
    found = [evaluate(tagger, examples, rounds=0) for tagger, examples in zip((first, second), pair, strict=True)]
    one, other = (
        tagger.task.rules.bootstrap(own.truth, own.predictions, artists, decisions=own.decisions, rounds=rounds)
        for tagger, own in zip((first, second), found, strict=True)
    )
    return one.compare(other, *(own.metrics for own in found))


def score_predictions(
    truth: npt.NDArray[Any],
    predictions: Array,
    targets: tuple[str, ...],
    *,
    kind: str = "tags",
    decisions: Bools | None = None,
    thresholds: Floats | None = None,
) -> Scores:
    """Score predictions (n, k) for k targets of a kind in `tasks.KINDS`, whoever made them.

    The truth is bool, of values float. Thresholds (k,) are listed in the table; it is `decisions` that is scored.
    Raises `DataError` if shapes differ, a prediction is not a number, or nothing can be measured.
    """
    rules = KINDS[kind]
    figures = rules.score(truth, predictions, decisions)
    if len(targets) != truth.shape[1]:
        raise DataError(f"{len(targets)} names of {rules.plural} for {truth.shape[1]} columns")
    columns = rules.rows(truth, predictions, decisions, thresholds)
    rows = [
        {rules.target: target, **{name: _plain(values[number]) for name, values in columns.items()}}
        for number, target in enumerate(targets)
    ]
    return Scores(figures, tuple(rows), len(truth), kind=kind)


def _plain(value: Any) -> int | float | None:
    """A number that JSON knows: no NaN, no infinity."""
    number = value.item()
    return number if np.isfinite(number) else None


VOTE = "vote"  #: what the taggers together are called in a table of results


def vote(members: Mapping[str, tuple[Tagger, Examples]], *, rounds: int = ROUNDS) -> dict[str, Evaluation]:
    """Evaluate taggers by name, and last what they decide together (``vote``), by the same tracks.

    The scores of the vote are the means of the members' scores; what it decides is by the kind of task: tags that more
    than half of the members decide; the class that most of them decide, of equals the one with the higher mean score.
    Each member has the tracks with the embeddings that it needs. Raises `UsageError` if there are fewer than two, or
    targets or tracks differ, and `DataError` if there is nothing to measure.
    """
    _check(members)
    found = {name: evaluate(tagger, examples, rounds=rounds) for name, (tagger, examples) in members.items()}
    tagger, examples = next(iter(members.values()))
    mean = np.asarray(np.mean([own.predictions for own in found.values()], axis=0), np.float32)
    together = tagger.task.rules.vote(np.stack([own.decisions for own in found.values()]), mean)
    return {**found, VOTE: evaluate_predictions(tagger.task, examples, mean, together, rounds=rounds)}


def _check(members: Mapping[str, tuple[Tagger, Examples]]) -> None:
    if len(members) < 2:
        raise UsageError("a vote needs two taggers or more")
    if VOTE in members:
        raise UsageError(f"no tagger can be called {VOTE!r} here: that is what they decide together")
    (name, (first, examples)), *others = members.items()
    for other, (tagger, own) in others:
        if tagger.task != first.task:
            raise UsageError(f"{name} and {other} are for different tasks and cannot vote together")
        if [track.key for track in own.tracks] != [track.key for track in examples.tracks]:
            raise UsageError(
                f"{name} and {other} are not evaluated on the same tracks: they were trained on different splits, "
                "or tracks are missing in a store"
            )


QUIRKS = (
    "a score counts above its threshold, not at it, where thresholds of a precision-recall curve mean it to count",
    "MTG's thresholds were chosen on the test part that they are then scored on",
    "a tag that is never decided has the precision 0",
)
"""In what MediaEval's published P/R/F-scores differ from those of `evaluate`."""


def save_mediaeval(
    folder: Path, arrays: Mapping[str, npt.NDArray[Any]], tags: tuple[str, ...], thresholds: Floats
) -> list[Path]:
    """Write ``NAME.npy`` for each array (tracks, tags), and ``thresholds.txt``; the paths.

    A tag that is never decided has the threshold ``inf``.
    """
    lines = "".join(f"{tag}\t{threshold!r}\n" for tag, threshold in zip(tags, thresholds.tolist(), strict=True))
    written: dict[Path, files.Write] = {
        folder / f"{name}.npy": functools.partial(np.save, arr=array) for name, array in arrays.items()
    }
    written[folder / "thresholds.txt"] = lines.encode()
    for path, content in written.items():
        files.write_output(path, content)
    return list(written)


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a 2-D ``.npy`` file; `DataError` if it is missing, damaged or not 2-D."""
    try:
        array: npt.NDArray[Any] = files.read_array(path)
    except files.DAMAGES as error:
        raise DataError(f"{path}: cannot be read as a .npy file ({files.brief(error)})") from error
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(f"{path}: a table of numbers (tracks, tags) is needed, not {array.dtype} {array.shape}")
    return array


def read_bools(path: Path) -> Bools:
    """Read a 2-D ``.npy`` file of booleans, or of zeros and ones; `DataError` as `read_array`, or for other values."""
    array = read_array(path)
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"{path}: only zeros and ones (or booleans) are expected here")
    return array.astype(np.bool_)


def read_tags(path: Path) -> tuple[str, ...]:
    """Read names of tags, one a line; `DataError` if the file cannot be read."""
    return tuple(row[0] for row in plaintext.read_table(path, ()) if row)


def read_thresholds(path: Path) -> tuple[tuple[str, ...], Floats]:
    """Read the official form of thresholds: a tag and its threshold in each line, with a tab between.

    Raises `DataError` if it is not in that form.
    """
    rows = plaintext.read_table(path, ())
    try:
        return tuple(tag for tag, _ in rows), np.array([float(value) for _, value in rows])
    except ValueError as error:
        raise DataError(f"{path}: each line must be a tag, a tab and a number ({error})") from error


PICTURE_DPI, SCREEN_DPI = 144, 96
WIDE = 700  # pixels of a screen; a wider picture is scrolled on a phone, where its text would else be too small


def save_report(evaluation: Evaluation, folder: Path | str, *, title: str, facts: Mapping[str, str]) -> Path:
    """Write ``report.html``, the metrics of an evaluation as a page with pictures, into a folder; returns its path.

    `facts` say what was evaluated, and by what: task, data, part, tagger; any text, it is escaped. Raises `StoreError`
    or `DiskFullError` if it cannot be written.
    """
    style = resources.files("jamendo_mood.evaluation").joinpath("report.css").read_text()
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">\n<head>\n<meta charset="utf-8">',
        # Nothing but what is in this file, even if a name of a tag were let through unescaped.
        '<meta http-equiv="Content-Security-Policy"',
        "  content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>",
        _list(facts),
        *_grades(evaluation),
        *_headline(evaluation),
        *(part for section in KINDS[evaluation.kind].sections(evaluation) for part in _section(*section)),
        *_targets(evaluation),
        f'<p class="soft">Made by jamendo-mood {escape(jamendo_mood.__version__)}.</p>\n</body>\n</html>',
    ]
    path = Path(folder) / "report.html"
    # A folder's name may be no Unicode, which a page can't hold.
    files.write_output(path, ("\n".join(lines) + "\n").encode("utf-8", "replace"))
    return path


def _grades(evaluation: Evaluation) -> Iterator[str]:
    """How many targets there are of each grade: the answer in short."""
    rules, given = KINDS[evaluation.kind], [row["grade"] for row in evaluation.per_target]
    songs = len(set(evaluation.songs))
    by = f"{evaluation.examples:,} " + (f"moments of {plaintext.count(songs, 'song')}" if songs else "tracks")
    yield f"<h2>In short</h2>\n<p>Evaluated on {by}, how far can its {rules.plural} be relied on?</p>"
    yield _list({f"{given.count(grade)} {grade}": meaning for grade, meaning in rules.grades.items()})


def _headline(evaluation: Evaluation) -> Iterator[str]:
    yield "<h2>Metrics</h2>"
    if evaluation.intervals:
        yield "<p>In brackets: the 95 % interval, within which a metric would mostly stay with other artists.</p>"
    yield '<table class="figures">\n<thead><tr><th>metric</th><th>value</th><th>what it is</th></tr></thead>\n<tbody>'
    for name, figure in evaluation.metrics.items():
        interval = evaluation.intervals.get(name)
        value = _cell(figure) + (f" [{_cell(interval[0])}, {_cell(interval[1])}]" if interval else "")
        meaning = KINDS[evaluation.kind].meanings.get(name, "")
        yield f'<tr><th>{escape(name)}</th><td class="number">{value}</td><td>{escape(meaning)}</td></tr>'
    yield "</tbody>\n</table>"


def _section(heading: str, pictures: Sequence[Picture], caption: Sequence[str]) -> Iterator[str]:
    yield f"<h2>{escape(heading)}</h2>\n<figure>"
    for picture in pictures:
        yield _image(picture, heading)
    yield f"<figcaption>{''.join(f'<p>{escape(text)}</p>' for text in caption)}</figcaption>\n</figure>"


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
    rules, columns = KINDS[evaluation.kind], KINDS[evaluation.kind].column_meanings
    ranked = rank_targets(evaluation, rules.ranked_by)
    order = dict.fromkeys([*ranked, *range(len(evaluation.per_target))])
    there = {name: None for row in evaluation.per_target for name in row}
    names = [name for name in {**columns, **there} if name in there]
    best_first = f"The best {rules.ranked_by} first; “-” is what these tracks do not show."
    yield f"<h2>All {rules.plural}</h2>\n<p>{best_first}</p>"
    yield '<div class="scroll" tabindex="0">\n<table class="targets">'
    yield f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr></thead>\n<tbody>"
    for column in order:
        first, *others = (escape(_cell(evaluation.per_target[column].get(name))) for name in names)
        yield f"<tr><th>{first}</th>{''.join(f'<td>{text}</td>' for text in others)}</tr>"
    yield "</tbody>\n</table>\n</div>"
    yield _list({name: columns[name] for name in names if name in columns})


def _list(entries: Mapping[str, str]) -> str:
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries.items())
    return f"<dl>\n{rows}\n</dl>"


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
