"""How good a tagger is: `Scores`, the headline figures and a row for each target."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks import metrics
from jamendo_mood.tasks.bootstrap import ROUNDS, Comparison, Draws
from jamendo_mood.tasks.calibration import brier_skill, calibration_error
from jamendo_mood.tasks.task import KINDS, Task
from jamendo_mood.tasks.values import score_curves
from jamendo_mood.training.data import Examples
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext, untrusted
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.files import write_atomically
from jamendo_mood.util.untrusted import read_table

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """What an evaluation found.

    Attributes
    ----------
    figures : dict of float
        The headline figures by their official names, such as ``PR-AUC-macro``.
    per_target : tuple of dict
        For each class or value: its name, as ``class`` or ``value``, and the figures of its kind, see `task.KINDS`.
        For each tag: ``tag``, ``positives``, ``prior``, ``PR-AUC``, ``ROC-AUC`` and, where decisions are known,
        ``precision``, ``recall``, ``F-score`` and ``threshold``; of a tagger also ``grade``, ``artists`` (how many the
        positives are by), ``ECE-all`` (over all its scores), ``Brier-skill``, and the interval of its PR-AUC as
        ``PR-AUC-low`` and ``PR-AUC-high``. None where a figure is not defined.
    examples : int
        Tracks; moments of tracks where the task is a dynamic one.
    intervals : dict of (float, float)
        For each figure but the prior, the 95 % interval of a bootstrap over artists; empty where it was not made.
    kind : str
        A key of `task.KINDS`.
    """

    figures: Mapping[str, float]
    per_target: tuple[Mapping[str, Any], ...]
    examples: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    kind: str = "tags"

    def to_json(self) -> dict[str, Any]:
        """One object, unrounded, headline figures at its top level."""
        intervals = {"intervals": {name: list(interval) for name, interval in self.intervals.items()}}
        rows = [dict(row) for row in self.per_target]
        return {**self.figures, **(intervals if self.intervals else {}), "examples": self.examples, "per_target": rows}

    def table(self) -> pd.DataFrame:
        """The rows per target, best first."""
        import pandas as pd

        rows = pd.DataFrame([dict(row) for row in self.per_target])
        best_first: pd.DataFrame = rows.sort_values(KINDS[self.kind].ranked_by, ascending=False, ignore_index=True)
        return best_first

    def save(self, folder: Path | str) -> None:
        """Write ``scores.json`` and ``per_target.csv``."""
        text = json.dumps(self.to_json(), indent=2) + "\n"
        write_atomically(Path(folder) / "scores.json", lambda file: file.write(text.encode()))
        table, names = self.table(), KINDS[self.kind].target
        rows = table.assign(**{names: table[names].map(plaintext.cell)}).to_csv(index=False)
        write_atomically(Path(folder) / "per_target.csv", lambda file: file.write(rows.encode()))


@dataclass(frozen=True)
class Evaluation(Scores):
    """Scores of a tagger, with the arrays they were made of.

    Attributes
    ----------
    truth : bool array (n, k), of values float32
    decisions : bool array (n, k)
    predictions : float32 array (n, k)
    songs : tuple of n str
        Of a dynamic task, the key of the track that each moment is of; else empty.
    times_s : float32 array (n,) or None
        Of a dynamic task, where each moment is in its track.
    """

    truth: npt.NDArray[Any] = field(kw_only=True, repr=False)
    predictions: Array = field(kw_only=True, repr=False)
    decisions: Bools = field(kw_only=True, repr=False)
    songs: tuple[str, ...] = field(default=(), kw_only=True, repr=False)
    times_s: Array | None = field(default=None, kw_only=True, repr=False)


def evaluate(tagger: Tagger, examples: Examples, *, rounds: int = ROUNDS) -> Evaluation:
    """Judge a tagger by examples it was not trained on.

    Parameters
    ----------
    tagger : Tagger
    examples : Examples
    rounds : int
        Draws of the bootstrap over artists that the intervals come from; 0 makes none.

    Raises
    ------
    DataError
        There is nothing to measure: no tag has positives and negatives, no value varies.
    """
    predictions = tagger.score(examples.frames)
    return judge(tagger.task, examples, predictions, tagger.decide(predictions), tuned=tagger.tuned, rounds=rounds)


def judge(
    task: Task,
    examples: Examples,
    predictions: Array,
    decisions: Bools,
    *,
    tuned: npt.NDArray[np.float64] | None = None,
    rounds: int = ROUNDS,
) -> Evaluation:
    """Judge calibrated predictions of examples, whoever made them.

    Parameters
    ----------
    task : Task
    examples : n Examples
    predictions : float32 array (n, k)
    decisions : bool array (n, k)
    tuned : float64 array (k,) or None
        What the decisions were made by, to be listed.
    rounds : int
        As for `evaluate`.
    """
    rules, truth = task.rules, task.rules.to_truth(examples.Y)
    scores = score_predictions(truth, predictions, task.targets, kind=task.kind, decisions=decisions, tuned=tuned)
    figures = {**scores.figures, **rules.check_calibration(truth, predictions)}
    songs = () if task.rate_hz is None else tuple(track.key for track in examples.tracks)
    if songs:
        figures |= score_curves(truth, predictions, songs)
    columns: dict[str, Sequence[Any]] = {"grade": rules.grade(truth, predictions)}
    if not rules.on_scale:
        columns |= _columns_of_scores(truth, predictions, np.array([track.artist for track in examples.tracks]))
    intervals = {}
    if rounds:
        artists = [track.artist for track in examples.tracks]
        draws = rules.draw(truth, predictions, artists, decisions=decisions, rounds=rounds)
        intervals = draws.intervals(figures)
        if rules.ranked_by == "PR-AUC":
            by_tag = draws.tag_intervals(metrics.average_precision(truth, predictions))
            for number, end in enumerate(("PR-AUC-low", "PR-AUC-high")):
                columns[end] = [interval[number] if interval else None for interval in by_tag]
    rows = tuple(
        {**row, **{name: values[number] for name, values in columns.items()}}
        for number, row in enumerate(scores.per_target)
    )
    return Evaluation(
        *(figures, rows, len(truth), intervals, task.kind),
        truth=truth,
        predictions=predictions,
        decisions=decisions,
        songs=songs,
        times_s=examples.times_s,
    )


def _columns_of_scores(truth: Bools, scores: Array, artists: npt.NDArray[np.str_]) -> dict[str, Sequence[Any]]:
    """What else is told of tags and classes, whose scores are chances."""
    targets = range(truth.shape[1])
    return {
        "artists": [len(set(artists[positive])) for positive in truth.T],
        "ECE-all": [calibration_error(truth[:, [target]], scores[:, [target]]) for target in targets],
        "Brier-skill": [_plain(value) for value in brier_skill(truth, scores)],
    }


def compare(
    first: Tagger, second: Tagger, pair: tuple[Examples, Examples], *, rounds: int = ROUNDS
) -> list[Comparison]:
    """Is the first tagger better than the second? A bootstrap over artists, paired: both meet the same draws.

    Parameters
    ----------
    first, second : Tagger
        For the same targets.
    pair : (Examples, Examples)
        The same tracks with the embeddings that each tagger needs.
    rounds : int

    Raises
    ------
    UsageError
        Targets or tracks differ.
    """
    if first.task.targets != second.task.targets:
        raise UsageError(f"the two taggers are for different {first.task.rules.plural} and cannot be compared")
    if [track.key for track in pair[0].tracks] != [track.key for track in pair[1].tracks]:
        raise UsageError("the two stores do not hold the same tracks of this part: extract the missing ones first")
    figures, draws = [], []
    for tagger, examples in zip((first, second), pair, strict=True):
        judged = evaluate(tagger, examples, rounds=0)
        figures.append(judged.figures)
        draws.append(_draw(tagger.task, examples, judged, rounds))
    return draws[0].compare(draws[1], figures[0], figures[1])


def _draw(task: Task, examples: Examples, judged: Evaluation, rounds: int) -> Draws:
    artists = [track.artist for track in examples.tracks]
    draws: Draws = task.rules.draw(judged.truth, judged.predictions, artists, decisions=judged.decisions, rounds=rounds)
    return draws


def score_predictions(
    truth: npt.NDArray[Any],
    predictions: Array,
    targets: tuple[str, ...],
    *,
    kind: str = "tags",
    decisions: Bools | None = None,
    tuned: npt.NDArray[np.float64] | None = None,
) -> Scores:
    """Score predictions, whoever made them.

    Parameters
    ----------
    truth : bool array (n, k), of values float
    predictions : float array (n, k)
    targets : tuple of str
        The k names.
    kind : str
        A key of `task.KINDS`.
    decisions : bool array (n, k)
    tuned : float array (k,)
        The thresholds of tags, listed in the table; it is `decisions` that is scored.

    Raises
    ------
    DataError
        Shapes differ, a prediction is not a number, or nothing can be measured.
    """
    rules = KINDS[kind]
    figures = rules.score(truth, predictions, decisions)
    if len(targets) != truth.shape[1]:
        raise DataError(f"{len(targets)} names of {rules.plural} for {truth.shape[1]} columns")
    columns = rules.rows(truth, predictions, decisions, tuned)
    rows = [
        {rules.target: target, **{name: _plain(values[number]) for name, values in columns.items()}}
        for number, target in enumerate(targets)
    ]
    return Scores(figures, tuple(rows), len(truth), kind=kind)


def _plain(value: Any) -> int | float | None:
    """A number that JSON knows: no NaN, no infinity."""
    number = value.item()
    return number if np.isfinite(number) else None


VOTE = "vote"
"""What the taggers together are called in a table of results."""


def vote(members: Mapping[str, tuple[Tagger, Examples]], *, rounds: int = ROUNDS) -> dict[str, Evaluation]:
    """Judge taggers, and what they decide together, by the same tracks.

    The scores of the vote are the means of the members' scores; what it decides is by the kind of task: tags that more
    than half of the members decide; the class that most of them decide, of equals the one with the higher mean score.

    Parameters
    ----------
    members : mapping of str to (Tagger, Examples)
        Two or more, by any names: taggers for the same targets; the same tracks in the same order with the embeddings
        that each needs.
    rounds : int
        As for `evaluate.evaluate`.

    Returns
    -------
    dict of Evaluation
        By the members' names in their order, the last being ``vote``.

    Raises
    ------
    UsageError
        There are less than two members, or targets or tracks differ.
    DataError
        There is nothing to measure.
    """
    _check(list(members.values()), list(members))
    task = next(iter(members.values()))[0].task
    scores = [tagger.score(examples.frames) for tagger, examples in members.values()]
    decisions = [tagger.decide(own) for (tagger, _), own in zip(members.values(), scores, strict=True)]
    found = {
        name: judge(task, examples, own, decided, tuned=tagger.tuned, rounds=rounds)
        for (name, (tagger, examples)), own, decided in zip(members.items(), scores, decisions, strict=True)
    }
    mean = np.asarray(np.mean(scores, axis=0), np.float32)
    together = task.rules.vote(np.stack(decisions), mean)
    some = next(iter(members.values()))[1]
    return {**found, VOTE: judge(task, some, mean, together, rounds=rounds)}


def _check(members: Sequence[tuple[Tagger, Examples]], names: Sequence[str]) -> None:
    if len(members) < 2:
        raise UsageError("a vote needs two taggers or more")
    if VOTE in names:
        raise UsageError(f"no tagger can be called {VOTE!r} here: that is what they decide together")
    (first, examples), *others = members
    for name, (tagger, own) in zip(names[1:], others, strict=True):
        if tagger.task != first.task:
            raise UsageError(f"{names[0]} and {name} are for different tasks and cannot vote together")
        if [track.key for track in own.tracks] != [track.key for track in examples.tracks]:
            raise UsageError(
                f"{names[0]} and {name} are not judged by the same tracks: they were trained on different splits, or "
                "tracks are missing in a store"
            )


QUIRKS = (
    "a score counts above its threshold, not at it, where thresholds of a precision-recall curve mean it to count",
    "MTG's thresholds were chosen on the test part that they are then scored on",
    "a tag that is never decided has the precision 0",
)
"""In what MediaEval's published P/R/F-scores differ from those of `evaluate`."""


def save_mediaeval(
    folder: Path, arrays: Mapping[str, npt.NDArray[Any]], tags: tuple[str, ...], thresholds: npt.NDArray[np.float64]
) -> list[Path]:
    """Write ``NAME.npy`` for each array (tracks, tags), and ``thresholds.txt``; the paths.

    A tag that is never decided has the threshold ``inf``.
    """
    paths = []
    for name, array in arrays.items():
        paths.append(folder / f"{name}.npy")
        write_atomically(paths[-1], functools.partial(np.save, arr=array))
    lines = "".join(f"{tag}\t{threshold!r}\n" for tag, threshold in zip(tags, thresholds.tolist(), strict=True))
    paths.append(folder / "thresholds.txt")
    write_atomically(paths[-1], lambda file: file.write(lines.encode()))
    return paths


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a 2-D ``.npy`` file.

    Raises
    ------
    DataError
        It is missing, damaged or not 2-D.
    """
    try:
        array: npt.NDArray[Any] = untrusted.read_array(path)
    except untrusted.DAMAGES as error:
        raise DataError(f"{path}: cannot be read as a .npy file ({untrusted.brief(error)})") from error
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(f"{path}: a table of numbers (tracks, tags) is needed, not {array.dtype} {array.shape}")
    return array


def read_bools(path: Path) -> Bools:
    """Read a 2-D ``.npy`` file of booleans, or of zeros and ones.

    Raises
    ------
    DataError
        As `read_array`, or it has other values.
    """
    array = read_array(path)
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"{path}: only zeros and ones (or booleans) are expected here")
    return array.astype(np.bool_)


def read_tags(path: Path) -> tuple[str, ...]:
    """Read names of tags, one a line.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    return tuple(row[0] for row in read_table(path, ()) if row)


def read_thresholds(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Read the official form of thresholds: a tag and its threshold in each line, with a tab between.

    Raises
    ------
    DataError
        It is not in that form.
    """
    rows = read_table(path, ())
    try:
        return tuple(tag for tag, _ in rows), np.array([float(value) for _, value in rows])
    except ValueError as error:
        raise DataError(f"{path}: each line must be a tag, a tab and a number ({error})") from error
