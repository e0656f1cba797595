"""`evaluate`, `compare`, `vote` and `score`: how good taggers are, or predictions in files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, Command
from jamendo_mood.tasks import KINDS
from jamendo_mood.tasks.metrics import LOWER_IS_BETTER, Comparison
from jamendo_mood.tasks.tags import reaches_threshold
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import note, say

if TYPE_CHECKING:
    from jamendo_mood.evaluation.evaluate import Scores


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tagger", type=Path, metavar="TAGGER_DIR", help="folder that `train` wrote")
    shared.add_data(parser)
    shared.add_part(parser, shared.whole)
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write a report with pictures there, JSON and CSV")
    parser.add_argument("--mediaeval", type=Path, metavar="DIR", help="also write MediaEval's files (task jamendo)")
    shared.add_format(parser, "table", "json")


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a tagger on a part of its data: headline metrics and a row for each tag."""
    from jamendo_mood.evaluation import experiment

    options = {name: getattr(arguments, name) for name in ("split", "part", "rounds", "out", "mediaeval")}
    scores = experiment.evaluate(arguments.tagger, arguments.data, arguments.store, **options)
    shared.print_scores(scores, arguments.format)
    return DONE


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="A", help="folder of a tagger")
    parser.add_argument("second", type=Path, metavar="B", help="folder of another, for the same task")
    shared.add_data(parser)
    parser.add_argument("--second-store", type=Path, metavar="DIR", help="embeddings for B (default: those for A)")
    shared.add_part(parser, shared.positive)
    shared.add_format(parser, "table", "json")


def compare(arguments: argparse.Namespace) -> int:
    """Say whether tagger A is better than B, by a paired bootstrap."""
    from jamendo_mood.evaluation.evaluate import compare
    from jamendo_mood.evaluation.experiment import load_examples
    from jamendo_mood.training.model import Tagger

    first, second = Tagger.load(arguments.first), Tagger.load(arguments.second)
    stores = (arguments.store, arguments.second_store or arguments.store)
    which = {"split": arguments.split, "part": arguments.part}
    pair = (
        load_examples(first, arguments.data, stores[0], **which),
        load_examples(second, arguments.data, stores[1], **which, note=lambda _: None),  # said already
    )
    found = compare(first, second, pair, rounds=arguments.rounds)
    print_comparison(found, str(arguments.first), str(arguments.second), arguments.format)
    return DONE


def print_comparison(comparisons: list[Comparison], first: str, second: str, form: str) -> None:
    """Print for each metric by how much the first tagger is better, and how sure that is."""
    if form == "json":
        print(plaintext.to_json({row.figure: asdict(row) for row in comparisons}))
        return
    say(f"A = {first}, B = {second}: A - B, with the 95 % interval of a paired bootstrap over artists")
    for row in comparisons:
        low, high = row.interval
        low, high = (-high, -low) if row.figure in LOWER_IS_BETTER else (low, high)
        verdict = "A is better" if low > 0 else "B is better" if high < 0 else "no clear difference"
        difference = f"{row.difference:+.6f}{shared.interval(row.interval)}"
        print(f"{row.figure:16} {difference}  A higher in {row.ahead:.0%}: {verdict}")


def _add_vote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "members",
        type=shared.setting,
        nargs="+",
        metavar="TAGGER_DIR=STORE",
        help="two taggers or more for one task, each with the embeddings that it needs",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set's tables, as published")
    shared.add_part(parser, shared.whole)
    shared.add_format(parser, "table", "json")


def vote(arguments: argparse.Namespace) -> int:
    """Evaluate several taggers on different inputs, and what the majority of them decides."""
    from jamendo_mood.evaluation.evaluate import vote
    from jamendo_mood.evaluation.experiment import load_examples
    from jamendo_mood.training.model import Tagger

    folders = [folder for folder, _ in arguments.members]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UsageError(f"{folder} has one vote, and was given {folders.count(folder)} times")
    members, which = {}, {"split": arguments.split, "part": arguments.part}
    for number, (folder, store) in enumerate(arguments.members):
        tagger = Tagger.load(folder)
        said = (lambda _: None) if number else note
        members[folder] = (tagger, load_examples(tagger, arguments.data, Path(store), **which, note=said))
    print_vote(vote(members, rounds=arguments.rounds), arguments.format)
    return DONE


def print_vote(found: Mapping[str, Scores], form: str) -> None:
    """Print the metrics of several taggers, and of what they decide together, side by side."""
    if form == "json":
        print(plaintext.to_json({name: scores.to_json() for name, scores in found.items()}))
        return
    *members, together = found
    letters = [chr(ord("A") + number) for number in range(len(members))]
    for letter, name in zip(letters, members, strict=True):
        say(f"{letter} = {name}")
    scores = found[together]
    print(f"{scores.examples} examples, {len(scores.per_target)} {KINDS[scores.kind].plural}")
    print(" " * 17 + "".join(f"{name:>10}" for name in [*letters, together]))
    for name in scores.metrics:
        figures = [own.metrics.get(name) for own in found.values()]  # one that is not defined is not there
        print(f"{name:17}" + "".join("         -" if figure is None else f"{figure:10.4f}" for figure in figures))


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--truth", type=Path, required=True, metavar="T.npy", help="booleans (tracks, tags)")
    parser.add_argument("--predictions", type=Path, required=True, metavar="P.npy", help="scores (tracks, tags)")
    decided = parser.add_mutually_exclusive_group()
    decided.add_argument("--thresholds", type=Path, metavar="FILE", help="a tag and its threshold in each line")
    decided.add_argument("--decisions", type=Path, metavar="D.npy", help="booleans (tracks, tags)")
    parser.add_argument(
        "--official", action="store_true", help="MTG's published P/R/F: of scores above their threshold, not at it"
    )
    parser.add_argument("--tags", type=Path, metavar="TAGS.txt", help="names of the tags, one a line")
    shared.add_format(parser, "table", "json")


def score(arguments: argparse.Namespace) -> int:
    """Score predictions in .npy files, whoever made them, by the official metrics."""
    from jamendo_mood.evaluation import evaluate
    from jamendo_mood.evaluation.evaluate import score_predictions

    if arguments.official and not arguments.thresholds:
        raise UsageError("--official is about thresholds: give them with --thresholds")
    truth = evaluate.read_bools(arguments.truth)
    predictions = evaluate.read_array(arguments.predictions).astype(float)
    decisions = evaluate.read_bools(arguments.decisions) if arguments.decisions else None
    tags, thresholds = evaluate.read_tags(arguments.tags) if arguments.tags else None, None
    if arguments.thresholds:
        named, thresholds = evaluate.read_thresholds(arguments.thresholds)
        if tags not in (None, named):
            raise UsageError(f"{arguments.tags} and {arguments.thresholds} name different tags, or in another order")
        tags = named
        if len(thresholds) != predictions.shape[1]:
            raise UsageError(f"{arguments.thresholds}: {len(thresholds)} thresholds for {predictions.shape[1]} tags")
        decisions = predictions > thresholds if arguments.official else reaches_threshold(predictions, thresholds)
    names = tags or tuple(f"tag {number}" for number in range(truth.shape[1]))
    scores = score_predictions(truth, predictions, names, decisions=decisions, thresholds=thresholds)
    shared.print_scores(scores, arguments.format)
    for quirk in evaluate.QUIRKS if arguments.official else ():
        note(f"as published: {quirk}")
    return DONE


COMMANDS = {
    "evaluate": Command(_add_evaluate, evaluate),
    "compare": Command(_add_compare, compare),
    "vote": Command(_add_vote, vote),
    "score": Command(_add_score, score),
}
