"""What the commands that judge taggers do: `evaluate`, `compare` and `score`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jamendo_mood.cli import reports
from jamendo_mood.cli.reports import DONE
from jamendo_mood.training import model
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError

if TYPE_CHECKING:
    from jamendo_mood.evaluation.evaluate import Evaluation
    from jamendo_mood.training.data import Examples
    from jamendo_mood.training.model import Tagger


def evaluate(arguments: argparse.Namespace) -> int:
    """Judge a tagger by a part of its data."""
    from jamendo_mood.evaluation.evaluate import evaluate

    tagger, examples = load_examples(
        arguments.tagger, arguments, arguments.store, official=arguments.mediaeval is not None
    )
    scores = evaluate(tagger, examples, rounds=arguments.rounds)
    if arguments.mediaeval is not None:
        _save_mediaeval(arguments.mediaeval, tagger, scores)
    if arguments.out is not None:
        learned = (tagger.record.get("tracks") or {}).get("train", "an unknown number of")
        facts = {
            "Task": f"{tagger.task.name}: {model.describe_targets(asdict(tagger.task))}",
            "Part": arguments.part or "test",
            "Tagger": str(arguments.tagger),
            "Embeddings": str(tagger.spec),
            "Learned from": f"{learned} tracks",
        }
        save_scores(arguments.out, scores, f"How good is {arguments.tagger.resolve().name}?", facts)
    reports.print_scores(scores, arguments.format)
    return DONE


def save_scores(folder: Path, scores: Evaluation, title: str, facts: Mapping[str, str]) -> None:
    """Write scores, and the page with pictures if there is matplotlib to draw them with."""
    from jamendo_mood.evaluation.report import save_report

    scores.save(folder)
    try:
        plaintext.note(f"{save_report(scores, folder, title=title, facts=facts)} written")
    except ModuleNotFoundError as error:
        plaintext.warn(f"no {error.name}, no pictures: `pip install jamendo-mood[notebook]` brings it")


def _save_mediaeval(folder: Path, tagger: Tagger, scores: Evaluation) -> None:
    from jamendo_mood.datasets.jamendo import TAG_PREFIX
    from jamendo_mood.evaluation.evaluate import save_mediaeval

    arrays = {
        "predictions": scores.predictions,
        "decisions": scores.decisions,
        "groundtruth": scores.truth,
    }
    tags = tuple(TAG_PREFIX + tag for tag in tagger.task.targets)
    for path in save_mediaeval(folder, arrays, tags, tagger.tuned):
        plaintext.note(f"{path} written")


def compare(arguments: argparse.Namespace) -> int:
    """Say whether one tagger is better than another."""
    from jamendo_mood.evaluation.evaluate import compare

    first, examples = load_examples(arguments.first, arguments, arguments.store)
    second, others = load_examples(arguments.second, arguments, arguments.second_store or arguments.store, told=True)
    comparisons = compare(first, second, (examples, others), rounds=arguments.rounds)
    reports.print_comparison(comparisons, str(arguments.first), str(arguments.second), arguments.format)
    return DONE


def load_examples(
    folder: Path, arguments: argparse.Namespace, store: Path | None, *, official: bool = False, told: bool = False
) -> tuple[Tagger, Examples]:
    """A tagger, and the part of its data that it is to be judged by.

    `official` insists on the whole of MediaEval's; `told` says that what is remarkable in the data has been told.
    """
    from jamendo_mood.datasets import load_dataset
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.training import data
    from jamendo_mood.training.model import Tagger

    tagger = Tagger.load(folder)
    if official and tagger.task.name != "jamendo":
        raise UsageError(f"MediaEval's files are those of task jamendo; {folder} was trained for {tagger.task.name}")
    trained_on = int(tagger.record.get("split", 0))
    split = trained_on if arguments.split is None else arguments.split
    if split != trained_on:
        plaintext.warn(f"trained on split {trained_on}, whose training tracks may be in split {split}")
    dataset = load_dataset(tagger.task.name, arguments.data, split=split, part=arguments.part)
    if dataset.task != tagger.task:
        wanted, found = model.describe_targets(asdict(tagger.task)), dataset.task.rules.plural
        raise UsageError(f"{arguments.data}: its {found} are not those that {folder} was trained for, {wanted}")
    known = tagger.record.get("parts")
    if known is not None and split == trained_on and known != dataset.fingerprint_parts():
        plaintext.warn(
            f"{arguments.data} has changed since {folder} was trained, and with it who is in which part: "
            "what it is tested on may be what it has learned; train it anew"
        )
    plaintext.note_all(() if told else dataset.remarks)
    embeddings = data.choose_embeddings(dataset, None if store is None else EmbeddingStore(store))
    tagger.check_spec(embeddings.spec)
    part = arguments.part or dataset.test
    examples = data.load_part(dataset, part, embeddings)
    if official and len(examples) < len(dataset.rows(part)):
        raise UsageError(
            f"MediaEval's files need every track of part {part!r}, in order: extract the missing ones first"
        )
    return tagger, examples


def score(arguments: argparse.Namespace) -> int:
    """Score predictions that are in files."""
    from jamendo_mood.evaluation import evaluate
    from jamendo_mood.evaluation.evaluate import score_predictions
    from jamendo_mood.tasks.tags import reaches_threshold

    if arguments.official and not arguments.thresholds:
        raise UsageError("--official is about thresholds: give them with --thresholds")
    truth = evaluate.read_bools(arguments.truth)
    predictions = evaluate.read_array(arguments.predictions).astype(float)
    decisions = evaluate.read_bools(arguments.decisions) if arguments.decisions else None
    tags, thresholds = None, None
    if arguments.tags:
        tags = evaluate.read_tags(arguments.tags)
    if arguments.thresholds:
        named, thresholds = evaluate.read_thresholds(arguments.thresholds)
        if tags not in (None, named):
            raise UsageError(f"{arguments.tags} and {arguments.thresholds} name different tags, or in another order")
        tags = named
        if len(thresholds) != predictions.shape[1]:
            raise UsageError(f"{arguments.thresholds}: {len(thresholds)} thresholds for {predictions.shape[1]} tags")
        decisions = predictions > thresholds if arguments.official else reaches_threshold(predictions, thresholds)
    names = tags or tuple(f"tag {number}" for number in range(truth.shape[1]))
    scores = score_predictions(truth, predictions, names, decisions=decisions, tuned=thresholds)
    reports.print_scores(scores, arguments.format)
    if arguments.official:
        reports.print_quirks(evaluate.QUIRKS)
    return DONE
