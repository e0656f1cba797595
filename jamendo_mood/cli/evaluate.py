"""`evaluate`, `across`, `compare`, `vote` and `score`: how good taggers are, or predictions in files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, Command
from jamendo_mood.evaluation import evaluate as evaluation
from jamendo_mood.evaluation import experiment
from jamendo_mood.evaluation.evaluate import Scores
from jamendo_mood.tasks import KINDS
from jamendo_mood.tasks.metrics import LOWER_IS_BETTER
from jamendo_mood.tasks.tags import reaches_threshold
from jamendo_mood.training.data import Examples
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import note, say


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("tagger", type=shared.path_or_url, metavar="TAGGER_DIR", help="folder that `train` wrote, or hf://USER/NAME")
    shared.add_data(parser)
    shared.add_part(parser)
    add("--out", type=Path, metavar="DIR", help="also write a report with pictures there, JSON and CSV")
    add("--mediaeval", type=Path, metavar="DIR", help="also write MediaEval's files (task jamendo)")
    shared.add_format(parser, "table", "json")


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a tagger on a part of its data: headline metrics and a row for each tag."""
    options = {name: getattr(arguments, name) for name in ("split", "part", "rounds", "out", "mediaeval")}
    scores = experiment.evaluate(arguments.tagger, arguments.data, arguments.store, **options)
    shared.print_scores(scores, arguments.format)
    return DONE


def _add_across(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("tagger", type=shared.path_or_url, metavar="TAGGER_DIR", help="folder that `train` wrote, or hf://USER/NAME")
    add("--task", required=True, help="the data set to test on, such as pmemo; `jamendo-mood tasks` lists them")
    shared.add_data(parser)
    shared.add_rounds(parser)
    shared.add_format(parser, "table", "json")


def across(arguments: argparse.Namespace) -> int:
    """Evaluate a tagger on all tracks of another data set than its own, by the targets that both have."""
    where = (arguments.tagger, arguments.task, arguments.data, arguments.store)
    scores = experiment.evaluate_across(*where, rounds=arguments.rounds)
    shared.print_scores(scores, arguments.format)
    return DONE


def _add_compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("first", type=shared.path_or_url, metavar="A", help="folder of a tagger, or hf://USER/NAME")
    add("second", type=shared.path_or_url, metavar="B", help="another, for the same task")
    shared.add_data(parser)
    add("--second-store", type=shared.path_or_url, metavar="DIR", help="embeddings for B (default: those for A)")
    shared.add_part(parser, shared.positive)
    shared.add_format(parser, "table", "json")


def compare(arguments: argparse.Namespace) -> int:
    """Say whether tagger A is better than B, by a paired bootstrap."""
    first, second = Tagger.load(arguments.first), Tagger.load(arguments.second)
    which = {"split": arguments.split, "part": arguments.part}
    mine = experiment.load_examples(first, arguments.data, arguments.store, **which)
    store = arguments.second_store or arguments.store
    theirs = experiment.load_examples(second, arguments.data, store, **which, note=lambda _: None)  # said already
    found = evaluation.compare(first, second, (mine, theirs), rounds=arguments.rounds)
    if arguments.format == "json":
        print(plaintext.to_json({row.figure: asdict(row) for row in found}))
        return DONE
    names = f"A = {arguments.first}, B = {arguments.second}"
    say(f"{names}: A - B, with the 95 % interval of a paired bootstrap over artists")
    for row in found:
        low, high = row.interval
        low, high = (-high, -low) if row.figure in LOWER_IS_BETTER else (low, high)
        verdict = "A is better" if low > 0 else "B is better" if high < 0 else "no clear difference"
        difference = f"{row.difference:+.6f}{shared.interval(row.interval)}"
        print(f"{row.figure:16} {difference}  A higher in {row.ahead:.0%}: {verdict}")
    return DONE


def _add_vote(parser: argparse.ArgumentParser) -> None:
    members = "two taggers or more for one task, each with the embeddings that it needs"
    parser.add_argument("members", type=shared.setting, nargs="+", metavar="TAGGER_DIR=STORE", help=members)
    shared.add_data(parser, store=False)
    shared.add_part(parser)
    shared.add_format(parser, "table", "json")


def vote(arguments: argparse.Namespace) -> int:
    """Evaluate several taggers on different inputs, and what the majority of them decides."""
    members: dict[str, tuple[Tagger, Examples]] = {}
    for folder, store in arguments.members:
        if folder in members:
            raise UsageError(f"{folder} was given twice: each tagger has one vote")
        which = {"split": arguments.split, "part": arguments.part, "note": (lambda _: None) if members else note}
        tagger = Tagger.load(folder)
        members[folder] = tagger, experiment.load_examples(tagger, arguments.data, store, **which)
    found: Mapping[str, Scores] = evaluation.vote(members, rounds=arguments.rounds)
    if arguments.format == "json":
        print(plaintext.to_json({name: scores.to_json() for name, scores in found.items()}))
        return DONE
    letters = [chr(ord("A") + number) for number in range(len(members))]
    for letter, name in zip(letters, members, strict=True):
        say(f"{letter} = {name}")
    together, scores = list(found.items())[-1]
    print(f"{scores.examples} examples, {len(scores.per_target)} {KINDS[scores.kind].plural}")
    print(" " * 17 + "".join(f"{name:>10}" for name in [*letters, together]))
    for name in scores.metrics:
        figures = [own.metrics.get(name) for own in found.values()]  # one that is not defined is not there
        print(f"{name:17}" + "".join("         -" if figure is None else f"{figure:10.4f}" for figure in figures))
    return DONE


def _add_score(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--truth", type=Path, required=True, metavar="T.npy", help="booleans (tracks, tags)")
    add("--predictions", type=Path, required=True, metavar="P.npy", help="scores (tracks, tags)")
    decided = parser.add_mutually_exclusive_group()
    decided.add_argument("--thresholds", type=Path, metavar="FILE", help="a tag and its threshold in each line")
    decided.add_argument("--decisions", type=Path, metavar="D.npy", help="booleans (tracks, tags)")
    add("--official", action="store_true", help="MTG's published P/R/F: of scores above their threshold, not at it")
    add("--tags", type=Path, metavar="TAGS.txt", help="names of the tags, one a line")
    shared.add_format(parser, "table", "json")


def score(arguments: argparse.Namespace) -> int:
    """Score predictions in .npy files, whoever made them, by the official metrics."""
    if arguments.official and not arguments.thresholds:
        raise UsageError("--official is about thresholds: give them with --thresholds")
    truth = evaluation.read_bools(arguments.truth)
    predictions = evaluation.read_array(arguments.predictions).astype(float)
    decisions = evaluation.read_bools(arguments.decisions) if arguments.decisions else None
    tags, thresholds = evaluation.read_tags(arguments.tags) if arguments.tags else None, None
    if arguments.thresholds:
        named, thresholds = evaluation.read_thresholds(arguments.thresholds)
        if tags not in (None, named):
            raise UsageError(f"{arguments.tags} and {arguments.thresholds} name different tags, or in another order")
        tags = named
        if len(thresholds) != predictions.shape[1]:
            raise UsageError(f"{arguments.thresholds}: {len(thresholds)} thresholds for {predictions.shape[1]} tags")
        decisions = predictions > thresholds if arguments.official else reaches_threshold(predictions, thresholds)
    names = tags or tuple(f"tag {number}" for number in range(truth.shape[1]))
    scores = evaluation.score_predictions(truth, predictions, names, decisions=decisions, thresholds=thresholds)
    shared.print_scores(scores, arguments.format)
    for quirk in evaluation.QUIRKS if arguments.official else ():
        note(f"as published: {quirk}")
    return DONE


COMMANDS = {
    "evaluate": Command(_add_evaluate, evaluate),
    "across": Command(_add_across, across),
    "compare": Command(_add_compare, compare),
    "vote": Command(_add_vote, vote),
    "score": Command(_add_score, score),
}
