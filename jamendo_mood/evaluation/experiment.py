"""A whole experiment as one call: train a task, evaluate a tagger, cross-validate a task.

This is what a training really is: which targets are learned, what happens to tracks that parts share, what the record
says. The command line, the notebooks and the scripts call these functions and have no procedure of their own. What a
reader should know of the data (remarks, tracks without labels) goes to `note`; what may make the result wrong is logged
as a warning.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets import find_source, load_dataset, share_songs
from jamendo_mood.datasets.dataset import Dataset, Track, assign_folds, check_leaks, drop_leaks, find_leaks, make_parts
from jamendo_mood.datasets.jamendo import TAG_PREFIX
from jamendo_mood.evaluation.evaluate import Evaluation, evaluate_predictions, save_mediaeval, save_report
from jamendo_mood.evaluation.evaluate import evaluate as evaluate_examples
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tasks.metrics import ROUNDS, mean_over
from jamendo_mood.training import data
from jamendo_mood.training.augmentation import add_copies, check_whole
from jamendo_mood.training.data import Embeddings, Examples
from jamendo_mood.training.fit import Choice, Epoch, TrainConfig, choose, fit
from jamendo_mood.training.model import Tagger, check_tagger_folder, describe_targets
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError

Note = Callable[[str], None]
Store = Embeddings | Path | str | None

LEAKS = ("refuse", "drop", "keep")
"""What to do with tracks, artists or recordings that parts share: refuse to train, leave such tracks out of the earlier
part, or train all the same."""

log = logging.getLogger(__name__)


def train(
    task: str,
    folder: Path | str,
    store: Store = None,
    config: Choice = None,
    *,
    split: int = 0,
    leaks: str = "refuse",
    broader: bool = True,
    copies: Path | str | None = None,
    out: Path | str | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    note: Note = plaintext.note,
) -> Tagger:
    """Train a tagger for a task, calibrate and grade it on the validation part.

    Parameters
    ----------
    task : str
        A key of `datasets.DATASETS`, such as ``jamendo``.
    folder : Path
        The data set's tables, as published.
    store : Embeddings, Path or None
        The embeddings; None takes those released with the data.
    config : TrainConfig, function or None
        As for `fit`: None chooses by the number of examples.
    split : int
        The official split, or the fold that is kept for the test.
    leaks : str
        One of `LEAKS`: what to do with tracks of the training and validation part that have their match in a later one.
    broader : bool
        Learn the targets of a broader task too, where the data set has one (``audioset-moods``).
    copies : Path or None
        A store of altered copies of the training tracks, to be learned from as well.
    out : Path or None
        Where to save the tagger.
    on_epoch : callable
        Called after each epoch.
    note : callable (str)
        Called with what a reader should know of the data.

    Raises
    ------
    UsageError
        No such task, folder or split; there are no embeddings; `out` holds something else.
    DataError
        The data are damaged, the parts share tracks and `leaks` is ``refuse``, or nothing can be learned.
    """
    if leaks not in LEAKS:
        raise UsageError(f"unknown policy for leaks {leaks!r} (known: {', '.join(LEAKS)})")
    if out is not None:
        check_tagger_folder(Path(out))
    dataset = load_dataset(task, folder, split=split)
    learned = dataset.broader if dataset.broader is not None and broader else dataset
    embeddings = data.choose_embeddings(learned, store)
    for remark in dataset.remarks:
        note(remark)
    training, watched = (data.load_part(learned, part, embeddings) for part in (learned.train, learned.validation))
    training, watched = _apart(training, watched, training.held_out, leaks)
    _note_unlabelled(learned, embeddings, note)
    if copies is not None:
        check_whole(learned)
        training = add_copies(training, embeddings.spec, EmbeddingStore(copies))
    validation, of_task = watched, None
    if learned is not dataset:
        own = {dataset.tracks[row].key for row in dataset.rows(dataset.train)}
        of_task = np.array([track.key in own for track in training.tracks])
        kept = {track.key for track in watched.tracks}
        validation = data.load_part(dataset, dataset.validation, embeddings)
        validation = validation.select(np.array([track.key in kept for track in validation.tracks]))
    config = replace(choose(config, len(training) + len(validation)), allow_leaks=leaks == "keep")
    record = {"split": split, "licence": dataset.licence, "citation": dataset.citation}
    if not find_source(task).official:
        record["parts"] = dataset.fingerprint_parts()
    tagger = fit(
        *(training, validation, dataset.task, embeddings.spec, config),
        watched=watched,
        of_task=of_task,
        record=record,
        on_epoch=on_epoch,
    )
    if out is not None:
        tagger.save(out)
    return tagger


def evaluate(
    tagger: Tagger | Path | str,
    folder: Path | str,
    store: Store = None,
    *,
    split: int | None = None,
    part: str | None = None,
    rounds: int = ROUNDS,
    out: Path | str | None = None,
    mediaeval: Path | str | None = None,
    note: Note = plaintext.note,
) -> Evaluation:
    """Evaluate a tagger on a part of its data.

    Parameters
    ----------
    tagger : Tagger, or the folder of one
    folder, store, note
        As for `train`.
    split : int or None
        None: the one it was trained on.
    part : str or None
        None: the test part.
    rounds : int
        Bootstrap samples that the 95 % intervals come from; 0 for none.
    out : Path or None
        Where to write ``scores.json``, ``per_target.csv`` and, where matplotlib is installed, ``report.html``.
    mediaeval : Path or None
        Where to write MediaEval's files; task ``jamendo`` only.

    Raises
    ------
    UsageError
        No such folder, split or part; other embeddings or targets than the tagger was trained on; tracks are missing
        that MediaEval's files need.
    DataError
        The data are damaged, or there is nothing to measure.
    """
    name = tagger if isinstance(tagger, str | Path) else "this tagger"
    tagger = Tagger.load(tagger) if isinstance(tagger, str | Path) else tagger
    if mediaeval is not None and tagger.task.name != "jamendo":
        raise UsageError(f"MediaEval's files are those of task jamendo; {name} was trained for {tagger.task.name}")
    examples = load_examples(tagger, folder, store, split=split, part=part, whole=mediaeval is not None, note=note)
    found = evaluate_examples(tagger, examples, rounds=rounds)
    if mediaeval is not None:
        arrays = {"predictions": found.predictions, "decisions": found.decisions, "groundtruth": found.truth}
        tags = tuple(TAG_PREFIX + tag for tag in tagger.task.targets)
        for path in save_mediaeval(Path(mediaeval), arrays, tags, tagger.thresholds):
            note(f"{path} written")
    if out is not None:
        learned = (tagger.record.get("tracks") or {}).get("train", "an unknown number of")
        facts = {
            "Task": f"{tagger.task.name}: {describe_targets(asdict(tagger.task))}",
            "Part": part or "test",
            "Tagger": str(name),
            "Embeddings": str(tagger.spec),
            "Learned from": f"{learned} tracks",
        }
        title = f"How good is {Path(name).resolve().name if isinstance(name, str | Path) else name}?"
        _save_scores(Path(out), found, title, facts, note)
    return found


def evaluate_across(
    tagger: Tagger | Path | str,
    task: str,
    folder: Path | str,
    store: Store = None,
    *,
    rounds: int = ROUNDS,
    note: Note = plaintext.note,
) -> Evaluation:
    """Evaluate a tagger on all tracks of a data set that it was not trained for, by the targets that both have.

    Tags are matched by their names, in capitals or not; classes must be the same; values are taken from one scale to
    the other. Thresholds and calibration stay those of the tagger: what they are worth elsewhere is part of the answer.

    Parameters
    ----------
    task : str
        A key of `datasets.DATASETS`; the tagger is of another.
    tagger, folder, store, rounds, note
        As for `evaluate`.

    Raises
    ------
    UsageError
        The tagger was trained for these songs, for another kind of task, or for other targets.
    DataError
        As `evaluate`.
    """
    tagger = Tagger.load(tagger) if isinstance(tagger, str | Path) else tagger
    own, dataset = tagger.task, load_dataset(task, folder)
    theirs = dataset.task
    if share_songs(own.name, task):
        raise UsageError(f"the tagger was trained on songs of {own.name}, and {task} has the same: use `evaluate`")
    known, there = (describe_targets(asdict(one)) for one in (own, theirs))
    if (own.kind, own.rate_hz is None) != (theirs.kind, theirs.rate_hz is None):
        raise UsageError(f"the tagger knows {known}; {task} has {there}")
    place = {target.casefold(): column for column, target in enumerate(own.targets)}
    shared = [column for column, target in enumerate(theirs.targets) if target.casefold() in place]
    names = tuple(theirs.targets[column] for column in shared)
    columns = [place[name.casefold()] for name in names]
    if not shared or (own.rules.one_of and not len(own.targets) == len(shared) == len(theirs.targets)):
        raise UsageError(f"{task} has other {own.rules.plural} than the tagger, which knows {', '.join(own.targets)}")
    embeddings = data.choose_embeddings(dataset, store)
    tagger.check_spec(embeddings.spec)
    for remark in dataset.remarks:
        note(remark)
    note(f"{len(shared)} of {len(theirs.targets)} {own.rules.plural} compared: {', '.join(names)}")
    everything = replace(dataset, parts={"all": np.arange(len(dataset.tracks))})
    examples = data.load_part(everything, "all", embeddings)
    scores = tagger.score(examples.frames)
    decisions = tagger.decide(scores)[:, columns]
    scores = scores[:, columns]
    if own.scale is not None and theirs.scale is not None:
        (low, high), (least, most) = own.scale, theirs.scale
        scores = np.asarray(least + (scores - low) * ((most - least) / (high - low)), np.float32)
    return evaluate_predictions(
        replace(theirs, targets=names),
        replace(examples, Y=examples.Y[:, shared], targets=names),
        *(scores, decisions),
        thresholds=tagger.thresholds[columns],
        rounds=rounds,
    )


def load_examples(
    tagger: Tagger,
    folder: Path | str,
    store: Store = None,
    *,
    split: int | None = None,
    part: str | None = None,
    whole: bool = False,
    note: Note = plaintext.note,
) -> Examples:
    """The part of the data that a tagger is to be evaluated on; it warns of what the tagger may have learned from.

    All is as for `evaluate`; `whole` insists on every track of the part, in order.
    """
    trained_on = int(tagger.record.get("split", 0))
    split = trained_on if split is None else split
    if split != trained_on:
        log.warning("trained on split %d, whose training tracks may be in split %d", trained_on, split)
    dataset = load_dataset(tagger.task.name, folder, split=split, part=part)
    if dataset.task != tagger.task:
        wanted, found = describe_targets(asdict(tagger.task)), dataset.task.rules.plural
        raise UsageError(f"{folder}: its {found} are not those that the tagger was trained for, {wanted}")
    known = tagger.record.get("parts")
    if known is not None and split == trained_on and known != dataset.fingerprint_parts():
        log.warning(
            "%s has changed since the tagger was trained, and with it which track is in which part: it may be tested "
            "on what it has learned; train it again",
            folder,
        )
    for remark in dataset.remarks:
        note(remark)
    embeddings = data.choose_embeddings(dataset, store)
    tagger.check_spec(embeddings.spec)
    part = part or dataset.test
    if part == dataset.validation and (tagger.record.get("tracks") or {}).get("validation") == 0:
        log.warning("this tagger has learned from part %r, too: scores on it say nothing", part)
    examples = data.load_part(dataset, part, embeddings)
    if whole and len(examples) < len(dataset.rows(part)):
        raise UsageError(f"MediaEval's files need every track of part {part!r}: extract the missing ones first")
    return examples


def cross_validate(
    task: str,
    folder: Path | str,
    store: Store = None,
    config: Choice = None,
    *,
    folds: int | None = None,
    validations: int = 1,
    group: str = "artist",
    rounds: int = ROUNDS,
    out: Path | str | None = None,
    on_fold: Callable[[int, Mapping[str, float]], None] = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    note: Note = plaintext.note,
) -> CrossValidation:
    """Test every track once: a tagger for each fold, trained on the others.

    Epochs, calibration and thresholds are chosen on each fold's own validation part. A recording that is in the data
    twice is left out of what a tagger learns from, if it is tested on it too.

    Parameters
    ----------
    task, folder, store, config, on_epoch, note
        As for `train`.
    folds : int or None
        Only so many of the folds.
    validations : int
        Taggers a fold, each with another fold as its validation part, whose scores are averaged. With several nearly
        all that is not tested is learned from, which counts where the data are few.
    group : str
        What folds do not share: ``artist``, or ``song``, which flatters and is for comparison with published numbers.
    rounds : int
        Bootstrap samples, as for `evaluate`.
    out : Path or None
        As for `evaluate`.
    on_fold : callable (fold, its metrics)

    Raises
    ------
    UsageError
        The task has official parts, or fewer folds than asked for.
    DataError
        As `train`.
    """
    too_few = UsageError("cross-validation needs two folds at least")
    if folds is not None and folds < 2:
        raise too_few
    every, embeddings = _open_folds(task, folder, store, group, note)
    if len(every) < 2:
        raise too_few
    if validations >= len(every):
        raise UsageError(f"{validations} validations need more folds than that, and there are {len(every)}")
    curves, tested = every[0].curves, list[tuple[Examples, Evaluation, list[str]]]()
    config = choose(config, sum(len(own.times_s) for own in curves) if curves else len(every[0].tracks))
    for split in range(len(every[:folds])):
        watched = (every + every)[split : split + validations]
        tested.append(_test_fold(watched, embeddings, config, on_epoch))
        on_fold(split, tested[-1][1].metrics)
    examples, found, poolings = zip(*tested, strict=True)
    arrays = [np.concatenate([getattr(one, name) for one in found]) for name in ("predictions", "decisions")]
    pooled = evaluate_predictions(every[0].task, reduce(Examples.join, examples), *arrays, rounds=rounds)
    if out is not None:
        seen = Counter(name for own in poolings for name in own)  # `svm` may choose another in each fold
        on = ", ".join(f"{name} ({times} of {seen.total()})" for name, times in seen.most_common())
        facts = {
            "Task": task,
            "Tested": f"each track once, over {len(found)} folds that share no {group}",
            "Heads": f"{config.head.name}, trained on {on}",
            "Embeddings": "released with the data" if store is None else str(embeddings.spec),
        }
        _save_scores(Path(out), pooled, f"How well can {task} be learned?", facts, note)
    return CrossValidation(pooled, tuple(one.metrics for one in found))


def load_folds(
    task: str, folder: Path | str, store: Store = None, *, group: str = "artist", note: Note = plaintext.note
) -> tuple[Examples, list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]]:
    """All examples of a task, and the folds of `cross_validate` as rows of them, to learn from and to test on.

    The folds are what scikit-learn takes as ``cv``, with the arrays of `Examples.to_arrays`. Nothing is held back for
    validation. Silent tracks are left out, and from what is learned also recordings that are tested under another name.
    Parameters and errors are those of `cross_validate`.
    """
    every, embeddings = _open_folds(task, folder, store, group, note)
    whole = replace(every[0], parts={every[0].train: np.arange(len(every[0].tracks))})
    examples = data.load_part(whole, whole.train, embeddings)
    keys, contents = (np.array([getattr(track, name) for track in examples.tracks]) for name in ("key", "content"))
    folds = []
    for fold in every:
        tested = np.isin(keys, [fold.tracks[row].key for row in fold.rows(fold.test)])
        learned = ~np.isin(contents, contents[tested])
        folds.append((np.flatnonzero(learned), np.flatnonzero(tested)))
    return examples, folds


def _open_folds(
    task: str, folder: Path | str, store: Store, group: str, note: Note
) -> tuple[list[Dataset], Embeddings]:
    """The data once for each fold that is tested, and the embeddings. Parameters and errors: see `cross_validate`."""
    source = find_source(task)
    if source.official:
        kind = "splits" if source.splits > 1 else "parts"
        raise UsageError(f"task {task!r} has official {kind} and no folds: use `train` and `evaluate`")
    first = load_dataset(task, folder)
    embeddings = data.choose_embeddings(first, store)
    for remark in first.remarks:
        note(remark)
    _note_unlabelled(first, embeddings, note)
    load = partial(forget_artists, first) if group == "song" else partial(load_dataset, task, folder)
    folds, seen, whole = list[Dataset](), set[int](), load(split=0)
    for split in range(source.splits):
        fold = replace(whole, parts=load(split=split).parts)
        tested = set(fold.rows(fold.test).tolist())
        if tested & seen:  # few artists make fewer folds
            break
        seen |= tested
        folds.append(fold)
    return folds, embeddings


def _apart(training: Examples, validation: Examples, tested: Sequence[Track], leaks: str) -> tuple[Examples, Examples]:
    """Training and validation part without what they share with each other and with the test part, or an error."""
    found = find_leaks({"training": training.tracks, "validation": validation.tracks, "test": tested})
    if leaks == "refuse":
        check_leaks(found)
    elif leaks == "drop" and found:
        kept = drop_leaks("training", training.tracks, found), drop_leaks("validation", validation.tracks, found)
        left_out = {*training.select(~kept[0]).tracks, *validation.select(~kept[1]).tracks}
        log.warning("left out, as a later part has them too: %s", plaintext.count(len(left_out), "track"))
        return training.select(kept[0]), validation.select(kept[1])
    return training, validation


def _note_unlabelled(dataset: Dataset, embeddings: Embeddings, note: Note) -> None:
    """Say how many tracks of a store are not used, for want of labels."""
    known = {track.key for track in dataset.tracks}
    unused = sum(key not in known for key in embeddings) if isinstance(embeddings, EmbeddingStore) else 0
    if unused:
        note(f"{plaintext.count(unused, 'track')} of the store without a label for {dataset.task.name}: not used")


def _save_scores(folder: Path, scores: Evaluation, title: str, facts: Mapping[str, str], note: Note) -> None:
    """Write scores, and the page with pictures if there is matplotlib to draw them with."""
    scores.save(folder)
    try:
        note(f"{save_report(scores, folder, title=title, facts=facts)} written")
    except ModuleNotFoundError as error:
        log.warning("no %s, no pictures: `pip install jamendo-mood[notebook]` brings it", error.name)


@dataclass(frozen=True)
class CrossValidation:
    """What all folds found."""

    pooled: Evaluation  #: of the test examples of all folds together, each predicted by the tagger that did not know it
    folds: tuple[Mapping[str, float], ...]  #: the headline metrics of each fold

    def spread(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the folds of each metric that all of them have."""
        names = [name for name in self.folds[0] if all(name in figures for figures in self.folds)]
        found = {name: [figures[name] for figures in self.folds] for name in names}
        return {name: (float(np.mean(values)), float(np.std(values, ddof=1))) for name, values in found.items()}

    def to_json(self) -> dict[str, Any]:
        """One object: the metrics of all examples at its top level, those of the folds below ``folds``."""
        spread = {name: {"mean": mean, "sd": sd} for name, (mean, sd) in self.spread().items()}
        return {**self.pooled.to_json(), "folds": [dict(figures) for figures in self.folds], "over_folds": spread}


def forget_artists(dataset: Dataset, split: int) -> Dataset:
    """The data as if every song were by an artist of its own, divided again into as many folds as usual.

    Songs of one artist then lie on both sides of a split, which flatters. Equal recordings still stay together.
    """
    groups = [track.content or track.id for track in dataset.tracks]
    tracks = tuple(replace(track, artist=group) for track, group in zip(dataset.tracks, groups, strict=True))
    return replace(dataset, tracks=tracks, parts=make_parts(assign_folds(groups), split))


def _test_fold(
    folds: Sequence[Dataset], embeddings: Embeddings, config: TrainConfig, on_epoch: Callable[[Epoch], None]
) -> tuple[Examples, Evaluation, list[str]]:
    """Test the mean of several taggers, each watched on one of these folds, on the first; their poolings as well."""
    dataset, taggers = folds[0], []
    names = (dataset.train, dataset.validation, dataset.test)
    for fold in folds:
        parts = {dataset.validation: fold.rows(fold.validation), dataset.test: dataset.rows(dataset.test)}
        rest = np.setdiff1d(np.arange(len(dataset.tracks)), np.concatenate([*parts.values()]))
        turned = replace(dataset, parts={dataset.train: rest, **parts})
        train, validation, test = (data.load_part(turned, name, embeddings) for name in names)
        train, validation = _apart(train, validation, test.tracks, "drop")
        taggers.append(fit(train, validation, dataset.task, embeddings.spec, config, on_epoch=on_epoch))
    scores = np.asarray(np.mean([tagger.score(test.frames) for tagger in taggers], axis=0), np.float32)
    thresholds = mean_over(np.array([tagger.thresholds for tagger in taggers]), otherwise=np.inf)
    decisions = dataset.task.rules.decide(scores, thresholds)
    found = evaluate_predictions(dataset.task, test, scores, decisions, thresholds=thresholds, rounds=0)
    return test, found, [tagger.head.pooling for tagger in taggers]
