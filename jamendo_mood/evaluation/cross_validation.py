"""Every track is tested once: a tagger for each fold, that has heard neither its tracks nor their artists.

For data sets without official parts. The folds are those of the data set's splits: split 3 tests on fold 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import Dataset, assign_folds, drop_leaks, find_leaks, make_parts
from jamendo_mood.evaluation.evaluate import Evaluation, judge
from jamendo_mood.tasks.bootstrap import ROUNDS
from jamendo_mood.training import data
from jamendo_mood.training.data import Embeddings, Examples
from jamendo_mood.training.fit import Epoch, TrainConfig, fit
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError


@dataclass(frozen=True)
class CrossValidation:
    """What all folds found.

    Attributes
    ----------
    pooled : Evaluation
        Of the test examples of all folds together, each predicted by the tagger that did not know it.
    folds : tuple of dict of float
        The headline figures of each fold.
    """

    pooled: Evaluation
    folds: tuple[Mapping[str, float], ...]

    def spread(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the folds of each figure that all of them have."""
        names = [name for name in self.folds[0] if all(name in figures for figures in self.folds)]
        found = {name: np.array([figures[name] for figures in self.folds]) for name in names}
        return {name: (float(values.mean()), float(values.std(ddof=1))) for name, values in found.items()}

    def to_json(self) -> dict[str, Any]:
        """One object: the figures of all examples at its top level, those of the folds below ``folds``."""
        spread = {name: {"mean": mean, "sd": sd} for name, (mean, sd) in self.spread().items()}
        return {**self.pooled.to_json(), "folds": [dict(figures) for figures in self.folds], "over_folds": spread}


def cross_validate(
    load: Callable[[int], Dataset],
    splits: Sequence[int],
    embeddings: Callable[[Dataset], Embeddings],
    config: TrainConfig,
    *,
    validations: int = 1,
    rounds: int = ROUNDS,
    on_fold: Callable[[int, Mapping[str, float]], None] = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> CrossValidation:
    """Train and test a tagger for each fold.

    A recording that is in the data twice is left out of what a tagger learns from, if it is tested on it too.

    Parameters
    ----------
    load : callable
        Gives the data set whose test part is the fold of this number; after the last comes the first again.
    splits : sequence of int
        The folds, at least two.
    embeddings : callable
        Gives the embeddings for a data set, see `data.choose_embeddings`.
    config : TrainConfig
        The same for all folds; epochs, calibration and thresholds are chosen on each fold's own validation part.
    validations : int
        Taggers for each fold, each with another fold as its validation part, whose scores are averaged: so nearly all
        that is not tested is learned from, which counts where the data are few.
    rounds : int
        Of the bootstrap over artists that the pooled figures' intervals come from.
    on_fold : callable (split, its figures)
    on_epoch : callable

    Raises
    ------
    UsageError
        There are fewer than two folds, or fewer others than `validations`, or a track is tested twice: the parts are no
        folds.
    DataError
        As `training.fit.fit`.
    """
    if len(splits) < 2:
        raise UsageError("cross-validation needs two folds at least")
    parts: list[tuple[Examples, Evaluation]] = []
    for split in splits:
        dataset = load(split)
        source = embeddings(dataset)
        taggers = []
        for turned in _turn_validation(dataset, load, split, validations):
            train, validation, test = _part_cleanly(
                [data.load_part(turned, part, source) for part in (turned.train, turned.validation, turned.test)]
            )
            taggers.append(fit(train, validation, dataset.task, source.spec, config, on_epoch=on_epoch))
        found = _judge_together(taggers, test)
        on_fold(split, found.figures)
        parts.append((test, found))
    examples = _join([test for test, _ in parts])
    arrays = [np.concatenate([getattr(found, name) for _, found in parts]) for name in ("predictions", "decisions")]
    return CrossValidation(
        judge(dataset.task, examples, *arrays, rounds=rounds), tuple(found.figures for _, found in parts)
    )


def forget_artists(dataset: Dataset, split: int) -> Dataset:
    """The data as if every song were by an artist of its own, dealt out anew into as many folds as usual.

    Songs of one artist then lie on both sides of a split, which flatters. Equal recordings still stay together.
    """
    groups = [track.content or track.id for track in dataset.tracks]
    tracks = tuple(replace(track, artist=group) for track, group in zip(dataset.tracks, groups, strict=True))
    return replace(dataset, tracks=tracks, parts=make_parts(assign_folds(groups), split))


def _turn_validation(
    dataset: Dataset, load: Callable[[int], Dataset], split: int, validations: int
) -> Iterator[Dataset]:
    """The same test part with one validation part after another: its own, then the folds that come next."""
    yield dataset
    for step in range(1, validations):
        following = load(split + step)
        parts = {dataset.test: dataset.rows(dataset.test), dataset.validation: following.rows(following.validation)}
        if np.isin(parts[dataset.validation], parts[dataset.test]).any():
            raise UsageError(f"split {split} has fewer than {validations} other folds to stop training by")
        rest = np.setdiff1d(np.arange(len(dataset.tracks)), np.concatenate(list(parts.values())))
        yield replace(dataset, parts={dataset.train: rest, **parts})


def _judge_together(taggers: Sequence[Tagger], test: Examples) -> Evaluation:
    """Judge the mean of the taggers' scores, decided by the mean of what they decide by."""
    task = taggers[0].task
    scores = np.asarray(np.mean([tagger.score(test.frames) for tagger in taggers], axis=0), np.float32)
    tuned = _mean_of_finite(np.array([tagger.tuned for tagger in taggers]))
    return judge(task, test, scores, task.rules.decide(scores, tuned), tuned=tuned, rounds=0)


def _mean_of_finite(tuned: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the taggers, (m, k) -> (k,), of those that could tune; infinite where none could."""
    known = np.isfinite(tuned)
    total = np.where(known, tuned, 0).sum(axis=0)
    mean = np.divide(total, known.sum(axis=0), out=np.full(tuned.shape[1], np.inf), where=known.any(axis=0))
    return np.asarray(mean, np.float64)


def _part_cleanly(parts: Sequence[Examples]) -> list[Examples]:
    """Training, validation and test part, each without what a later one has too: a recording may be there twice."""
    named = dict(zip(("training", "validation", "test"), (part.tracks for part in parts), strict=True))
    found = find_leaks(named)
    pairs = zip(named.items(), parts, strict=True)
    return [part.select(drop_leaks(name, tracks, found)) if found else part for (name, tracks), part in pairs]


def _join(parts: Sequence[Examples]) -> Examples:
    keys = [{track.key for track in part.tracks} for part in parts]
    if sum(map(len, keys)) != len(set.union(*keys)):
        raise UsageError("some tracks are in several test parts: these splits are no folds to cross-validate over")
    frames = tuple(frames for part in parts for frames in part.frames)
    tracks = tuple(track for part in parts for track in part.tracks)
    times_s = [part.times_s for part in parts if part.times_s is not None]
    Y = np.concatenate([part.Y for part in parts])
    return Examples(frames, Y, tracks, parts[0].targets, np.concatenate(times_s) if times_s else None)
