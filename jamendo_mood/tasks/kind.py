"""What a kind of task must say of itself: `Kind`, its rules and its words; `tags`, `classes` and `values` are three."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.plaintext import Picture

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


Evaluated = Any  #: what a report is made of, an `evaluation.evaluate.Evaluation`, which a later room defines


class Section(NamedTuple):
    """Pictures that belong together, and paragraphs that say what to look for in them."""

    heading: str
    pictures: Sequence[Picture]
    caption: Sequence[str]


@dataclass(frozen=True)
class CardWords:
    """How a card speaks of taggers of one kind of task."""

    title: str  #: what such a tagger is called
    says: str  #: what its scores are
    #: what was chosen on the validation part, and what was done on it, in short
    chosen: str
    validated: str
    metrics: Mapping[str, str]  #: the metrics a card shows, and what they are
    grades: Mapping[str, str] = field(default_factory=lambda: GRADES)
    counted: str = ""  #: what the number in brackets behind a target is; empty where there is none


@dataclass(frozen=True)
class PageWords:
    """What the widget says of a song."""

    #: of the seconds that carried a target: how to see them, what stands before them, and what where there are none
    choose: str
    carried: str
    nothing: str
    legend: str  #: of the bars
    #: what a bar says of its target where it is decided, where it is not, and where it has no threshold
    states: tuple[str, str, str]
    thresholds: bool = False  #: whether there are any


@dataclass(frozen=True)
class ReportWords:
    """What the report of an evaluation says."""

    metrics: Mapping[str, str]  #: the headline metrics, each in a sentence or two
    columns: Mapping[str, str]  #: the columns of the table of targets, in order, each in a few words
    #: the pictures of an evaluation, with what to look for in them; one at a time, for pictures take memory
    sections: Callable[[Any], Iterator[Section]]


@dataclass(frozen=True)
class Kind:
    """One kind of task."""

    #: what one of its targets is called, and several, such as ``tag`` and ``tags``
    target: str
    plural: str
    #: what JSON and CSV call a target's name, its score, and whether it is decided; None where nothing is
    columns: tuple[str, str, str | None]
    on_scale: bool  #: whether its targets are numbers on a scale; else they are yes or no
    activation: str  #: Keras' name for the last activation of a head
    #: (name, training targets (n, k), balance) -> the loss that a head is trained on
    make_loss: Callable[[str, Array, float], Callable[[Any, Any], Any]]
    #: (n, k) -> (n, k): what scores are compared with, booleans or the values themselves
    to_truth: Callable[[Array], Truth]
    #: truth -> bool (k,): which targets can be evaluated on these examples
    is_defined: Callable[[Truth], npt.NDArray[np.bool_]]
    monitor: str  #: the metric of `score` that training watches; higher is better
    #: that metric alone: `score` computes many more, which takes as long as training
    watch: Callable[[Truth, Array], float]
    #: (targets (n, k), share) -> (n, k): targets that are not quite certain; values are refused
    smooth: Callable[[Array, float], Array]
    #: (n, k) -> (k,): the last layer's biases before training, which score the mean of the targets
    start: Callable[[Array], Array]
    #: (truth, scores, the task's scale) -> (k, m): what `calibrated` needs to know, chosen on the validation part
    calibrate: Callable[[Truth, Array, Scale], PerTarget]
    calibrated: Callable[[Array, PerTarget], Array]  #: (scores (..., k), what `calibrate` gave) -> (..., k)
    #: (truth, calibrated scores) -> (k,): what decisions need to know, chosen on the validation part
    choose_thresholds: Callable[[Truth, Array], PerTarget]
    decide: Callable[[Array, PerTarget], Truth]  #: (scores (..., k), thresholds (k,)) -> (..., k)
    #: how far each target can be relied on: k of `metrics.GRADES`
    grade: Callable[[Truth, Array], tuple[str, ...]]
    #: the headline metrics, of (truth, scores, decisions)
    score: Callable[[Truth, Array, Truth | None], dict[str, float]]
    #: metrics that have a meaning for calibrated scores alone
    check_calibration: Callable[[Truth, Array], dict[str, float]]
    #: (truth, scores, decisions, thresholds) -> columns (k,) of the table of targets
    rows: Callable[[Truth, Array, Truth | None, PerTarget | None], dict[str, npt.NDArray[Any]]]
    ranked_by: str  #: the column that it is sorted by
    bootstrap: Callable[..., Any]  #: (truth, scores, artists, decisions=, rounds=) -> metrics.Samples
    #: (decisions (m, n, k), mean scores (n, k)) -> (n, k): what m taggers decide together
    vote: Callable[[Truth, Array], Truth]
    #: (task, thresholds, scores (..., k), places of tags, places of classes) -> (..., 2): valence and arousal, [-1, 1],
    #: by what is predicted; None where that says nothing of them
    place: Callable[..., Array | None]
    place_source: str  #: where that comes from, in words
    card: CardWords
    page: PageWords
    report: ReportWords
    score_name: str  #: what a score is called
    #: what stands below a song's scores where something is decided, and where nothing is
    footnotes: tuple[str, str]
    only_ranked: str = ""  #: the same where a tagger has no thresholds
