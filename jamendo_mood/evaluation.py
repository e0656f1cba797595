"""How good a tagger is: `Scores`, the headline figures and a row for each tag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import metrics
from jamendo_mood.bootstrap import ROUNDS, Comparison, Draws, draw_figures
from jamendo_mood.data import Examples
from jamendo_mood.errors import DataError, UsageError
from jamendo_mood.model import Tagger
from jamendo_mood.store import write_atomically
from jamendo_mood.tracks import read_table

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
    per_tag : tuple of dict
        For each tag: ``tag``, ``positives``, ``prior``, ``PR-AUC``, ``ROC-AUC`` and, where decisions are known,
        ``precision``, ``recall``, ``F-score`` and ``threshold``. None where a figure is not defined.
    examples : int
    intervals : dict of (float, float)
        For the macro PR-AUC and ROC-AUC, the 95 % interval of a bootstrap over artists; empty where it was not made.
    """

    figures: Mapping[str, float]
    per_tag: tuple[Mapping[str, Any], ...]
    examples: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One object, unrounded, headline figures at its top level."""
        intervals = {"intervals": {name: list(interval) for name, interval in self.intervals.items()}}
        rows = [dict(row) for row in self.per_tag]
        return {**self.figures, **(intervals if self.intervals else {}), "examples": self.examples, "per_tag": rows}

    def table(self) -> pd.DataFrame:
        """The rows per tag, best PR-AUC first."""
        import pandas as pd

        rows = pd.DataFrame([dict(row) for row in self.per_tag])
        best_first: pd.DataFrame = rows.sort_values("PR-AUC", ascending=False, ignore_index=True)
        return best_first

    def save(self, folder: Path | str) -> None:
        """Write ``scores.json`` and ``per_tag.csv``."""
        text = json.dumps(self.to_json(), indent=2) + "\n"
        write_atomically(Path(folder) / "scores.json", lambda file: file.write(text.encode()))
        rows = self.table().to_csv(index=False)
        write_atomically(Path(folder) / "per_tag.csv", lambda file: file.write(rows.encode()))


def evaluate(tagger: Tagger, examples: Examples, *, rounds: int = ROUNDS) -> Scores:
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
        There is nothing to measure: no tag has positives and negatives.
    """
    predictions = tagger.score(examples.X)
    scores = score_predictions(
        examples.Y > 0,
        predictions,
        tagger.task.targets,
        decisions=tagger.decide(predictions),
        thresholds=tagger.tuned,
    )
    return replace(scores, intervals=_draw(examples, predictions, rounds).intervals()) if rounds else scores


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
        raise UsageError("the two taggers are for different tags and cannot be compared")
    if pair[0].tracks != pair[1].tracks:
        raise UsageError("the two stores do not hold the same tracks of this part: extract the missing ones first")
    scored = [tagger.score(examples.X) for tagger, examples in zip((first, second), pair, strict=True)]
    figures = [score_predictions(pair[0].Y > 0, scores, first.task.targets).figures for scores in scored]
    draws = [_draw(pair[0], scores, rounds) for scores in scored]
    return draws[0].compare(draws[1], figures[0], figures[1])


def _draw(examples: Examples, scores: Array, rounds: int) -> Draws:
    return draw_figures(examples.Y > 0, scores, [track.artist for track in examples.tracks], rounds=rounds)


def score_predictions(
    truth: Bools,
    predictions: Array,
    tags: tuple[str, ...],
    *,
    decisions: Bools | None = None,
    thresholds: npt.NDArray[np.float64] | None = None,
) -> Scores:
    """Score predictions, whoever made them.

    Parameters
    ----------
    truth, decisions : bool array (n, k)
    predictions : float array (n, k)
    tags : tuple of str
        The k names.
    thresholds : float array (k,)
        Listed in the table; it is `decisions` that is scored.

    Raises
    ------
    DataError
        Shapes differ, a prediction is not a number, or nothing can be measured.
    """
    metrics.check(truth, predictions, decisions)
    if len(tags) != truth.shape[1]:
        raise DataError(f"{len(tags)} names of tags for {truth.shape[1]} columns")
    columns: dict[str, npt.NDArray[Any]] = {
        "positives": truth.sum(axis=0),
        "prior": truth.mean(axis=0),
        "PR-AUC": metrics.average_precision(truth, predictions),
        "ROC-AUC": metrics.roc_auc(truth, predictions),
    }
    if decisions is not None:
        names = ("precision", "recall", "F-score")
        columns |= dict(zip(names, metrics.decision_figures(truth, decisions), strict=True))
    if thresholds is not None:
        columns["threshold"] = thresholds
    rows = [
        {"tag": tag, **{name: _plain(values[number]) for name, values in columns.items()}}
        for number, tag in enumerate(tags)
    ]
    return Scores(metrics.score_tags(truth, predictions, decisions), tuple(rows), len(truth))


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a 2-D ``.npy`` file.

    Raises
    ------
    DataError
        It is missing, damaged or not 2-D.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a .npy file ({error})") from error
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


def _plain(value: Any) -> int | float | None:
    """A number that JSON knows: no NaN, no infinity."""
    number = value.item()
    return number if np.isfinite(number) else None
