"""How good a tagger is: `Scores`, the headline figures and a row for each tag."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        ``precision``, ``recall``, ``F-score`` and ``threshold``; of a tagger also ``grade``, ``artists`` (how many the
        positives are by), ``ECE-all`` (over all its scores), ``Brier-skill``, and the interval of its PR-AUC as
        ``PR-AUC-low`` and ``PR-AUC-high``. None where a figure is not defined.
    examples : int
    intervals : dict of (float, float)
        For each figure but the prior, the 95 % interval of a bootstrap over artists; empty where it was not made.
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


@dataclass(frozen=True)
class Evaluation(Scores):
    """Scores of a tagger, with the arrays they were made of.

    Attributes
    ----------
    truth, decisions : bool array (n, k)
    predictions : float32 array (n, k)
    """

    truth: Bools = field(kw_only=True, repr=False)
    predictions: Array = field(kw_only=True, repr=False)
    decisions: Bools = field(kw_only=True, repr=False)


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
        There is nothing to measure: no tag has positives and negatives.
    """
    predictions = tagger.score(examples.frames)
    decisions = tagger.decide(predictions)
    truth = examples.Y > 0
    scores = score_predictions(truth, predictions, tagger.task.targets, decisions=decisions, thresholds=tagger.tuned)
    figures = {**scores.figures, **metrics.score_calibration(truth, predictions)}
    artists = np.array([track.artist for track in examples.tracks])
    columns: dict[str, Sequence[Any]] = {
        "grade": tagger.task.rules.grade(truth, predictions),
        "artists": [len(set(artists[tagged])) for tagged in truth.T],
        "ECE-all": [metrics.calibration_error(truth[:, [tag]], predictions[:, [tag]]) for tag in range(truth.shape[1])],
        "Brier-skill": [_plain(value) for value in metrics.brier_skill(truth, predictions)],
    }
    intervals = {}
    if rounds:
        draws = _draw(examples, predictions, decisions, rounds)
        intervals = draws.intervals(figures)
        by_tag = draws.tag_intervals(metrics.average_precision(truth, predictions))
        low_and_high = [interval or (None, None) for interval in by_tag]
        columns |= {"PR-AUC-low": [low for low, _ in low_and_high], "PR-AUC-high": [high for _, high in low_and_high]}
    rows = tuple(
        {**row, **{name: values[number] for name, values in columns.items()}}
        for number, row in enumerate(scores.per_tag)
    )
    return Evaluation(figures, rows, len(truth), intervals, truth=truth, predictions=predictions, decisions=decisions)


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
    if [track.key for track in pair[0].tracks] != [track.key for track in pair[1].tracks]:
        raise UsageError("the two stores do not hold the same tracks of this part: extract the missing ones first")
    figures, draws = [], []
    for tagger, examples in zip((first, second), pair, strict=True):
        judged = evaluate(tagger, examples, rounds=0)
        figures.append(judged.figures)
        draws.append(_draw(examples, judged.predictions, judged.decisions, rounds))
    return draws[0].compare(draws[1], figures[0], figures[1])


def _draw(examples: Examples, predictions: Array, decisions: Bools, rounds: int) -> Draws:
    artists = [track.artist for track in examples.tracks]
    return draw_figures(examples.Y > 0, predictions, artists, decisions=decisions, rounds=rounds)


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


def _plain(value: Any) -> int | float | None:
    """A number that JSON knows: no NaN, no infinity."""
    number = value.item()
    return number if np.isfinite(number) else None
