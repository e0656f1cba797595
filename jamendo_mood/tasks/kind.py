"""What a kind of task must say of itself: `Kind`, its rules and its words; `tags`, `classes` and `values` are three."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.figures import Picture

Array = npt.NDArray[np.float32]
Truth = npt.NDArray[Any]
Scale = tuple[float, float] | None
PerTarget = npt.NDArray[np.float64]

GRADES = {
    "good": "what it ranks highest is often right",
    "fair": "clearly better than guessing",
    "weak": "hardly better than guessing",
    "unknown": "too few examples to say",
}
"""How far a tag or class can be relied on, and what that means."""

BAR_LEGEND = "Bar: {} of the song{}. Thin line: where it lies for 80 % of the time."


Evaluated = Any
"""What a report is made of, an `evaluation.evaluate.Evaluation`, which a later room defines."""


class Section(NamedTuple):
    """Pictures that belong together, and paragraphs that say what to look for in them."""

    heading: str
    pictures: Sequence[Picture]
    caption: Sequence[str]


@dataclass(frozen=True)
class CardWords:
    """How a card speaks of taggers of one kind of task.

    Attributes
    ----------
    title : str
        What such a tagger is called.
    says : str
        What its scores are.
    chosen, validated : str
        What was chosen on the validation part, and what was done on it, in short.
    metrics : dict of str
        The metrics a card shows, and what they are.
    grades : dict of str
    counted : str
        What the number in brackets behind a target is; empty where there is none.
    """

    title: str
    says: str
    chosen: str
    validated: str
    metrics: Mapping[str, str]
    grades: Mapping[str, str]
    counted: str = ""


@dataclass(frozen=True)
class PageWords:
    """What the widget says of a song.

    Attributes
    ----------
    choose, carried, nothing : str
        Of the seconds that carried a target: how to see them, what stands before them, and what where there are none.
    legend : str
        Of the bars.
    states : (str, str, str)
        What a bar says of its target where it is decided, where it is not, and where it has no threshold.
    thresholds : bool
        Whether there are any.
    """

    choose: str
    carried: str
    nothing: str
    legend: str
    states: tuple[str, str, str]
    thresholds: bool = False


@dataclass(frozen=True)
class ReportWords:
    """What the report of an evaluation says.

    Attributes
    ----------
    metrics : dict of str
        The headline metrics, each in a sentence or two.
    columns : dict of str
        The columns of the table of targets, in order, each in a few words.
    sections : callable (evaluation) -> Sections
        The pictures, with what to look for in them; one at a time, for pictures take memory.
    """

    metrics: Mapping[str, str]
    columns: Mapping[str, str]
    sections: Callable[[Any], Iterator[Section]]


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes
    ----------
    target, plural : str
        What one of its targets is called, and several, such as ``tag`` and ``tags``.
    columns : (str, str, str or None)
        What JSON and CSV call a target's name, its score, and whether it is decided; None where nothing is.
    on_scale : bool
        Whether its targets are numbers on a scale; else they are yes or no.
    activation : str
        Keras' name for the last activation of a head.
    make_loss : callable (name, training targets (n, k), balance) -> loss
        What a head is trained on; see `losses`.
    to_truth : callable (targets float32 (n, k)) -> (n, k)
        What scores are compared with: booleans, or the values themselves.
    is_defined : callable (truth) -> bool (k,)
        Which targets can be evaluated on these examples.
    monitor : str
        The metric of `score` that training watches; higher is better.
    watch : callable (truth, scores) -> float
        That metric alone: `score` computes many more, which takes as long as training.
    smooth : callable (targets (n, k), share s) -> (n, k)
        Targets that are not quite certain; values are refused.
    start : callable (targets (n, k)) -> (k,)
        The last layer's biases before training: what scores the mean of the targets.
    calibrate : callable (truth (n, k), scores (n, k), the task's scale) -> (k, m)
        What `calibrated` needs to know, chosen on the validation part.
    calibrated : callable (scores (..., k), what `calibrate` gave) -> (..., k)
    choose_thresholds : callable (truth (n, k), calibrated scores (n, k)) -> (k,)
        What decisions need to know, chosen on the validation part.
    decide : callable (scores (..., k), thresholds (k,)) -> (..., k)
    grade : callable (truth, scores) -> k of `metrics.GRADES`
        How far each target can be relied on.
    score : callable (truth, scores, decisions or None) -> dict of float
    check_calibration : callable (truth, scores) -> dict of float
        Metrics that have a meaning for calibrated scores alone.
    rows : callable (truth, scores, decisions or None, thresholds or None) -> dict of (k,)
        Columns of the table of targets, the first metric of which it is sorted by.
    ranked_by : str
        That column.
    bootstrap : callable (truth, scores, artists, decisions=, rounds=) -> metrics.Samples
    vote : callable (decisions (m, n, k), mean scores (n, k)) -> (n, k)
        What m taggers decide together.
    place : callable (task, thresholds, scores (..., k), places of tags, places of classes) -> (..., 2) or None
        Valence and arousal in [-1, 1] by what is predicted; None where that says nothing of them.
    place_source : str
        Where that comes from, in words.
    card : CardWords
    page : PageWords
    report : ReportWords
    score_name : str
        What a score is called.
    footnotes : (str, str)
        What stands below a song's scores where something is decided, and where nothing is.
    only_ranked : str
        The same where a tagger has no thresholds.
    """

    target: str
    plural: str
    columns: tuple[str, str, str | None]
    on_scale: bool
    activation: str
    make_loss: Callable[[str, Array, float], Callable[[Any, Any], Any]]
    to_truth: Callable[[Array], Truth]
    is_defined: Callable[[Truth], npt.NDArray[np.bool_]]
    monitor: str
    watch: Callable[[Truth, Array], float]
    smooth: Callable[[Array, float], Array]
    start: Callable[[Array], Array]
    calibrate: Callable[[Truth, Array, Scale], PerTarget]
    calibrated: Callable[[Array, PerTarget], Array]
    choose_thresholds: Callable[[Truth, Array], PerTarget]
    decide: Callable[[Array, PerTarget], Truth]
    grade: Callable[[Truth, Array], tuple[str, ...]]
    score: Callable[[Truth, Array, Truth | None], dict[str, float]]
    check_calibration: Callable[[Truth, Array], dict[str, float]]
    rows: Callable[[Truth, Array, Truth | None, PerTarget | None], dict[str, npt.NDArray[Any]]]
    ranked_by: str
    bootstrap: Callable[..., Any]
    vote: Callable[[Truth, Array], Truth]
    place: Callable[..., Array | None]
    place_source: str
    card: CardWords
    page: PageWords
    report: ReportWords
    score_name: str
    footnotes: tuple[str, str]
    only_ranked: str = ""


def is_positive(targets: Array) -> npt.NDArray[np.bool_]:
    """Targets of tags and classes as booleans."""
    return np.asarray(targets > 0)


def rank_targets(evaluation: Evaluated, ranked_by: str) -> list[int]:
    """The columns of the targets for which this figure is defined, best first; equals stay in the order of the task."""
    figures = [row[ranked_by] for row in evaluation.per_target]
    return sorted((column for column, figure in enumerate(figures) if figure is not None), key=lambda n: -figures[n])
