"""What `vote` does: several taggers, each with its embeddings, judged by themselves and together."""

from __future__ import annotations

import argparse
from pathlib import Path

from jamendo_mood.cli import argtypes, evaluation_commands, reports
from jamendo_mood.cli.reports import DONE
from jamendo_mood.util.errors import UsageError


def add_vote(parser: argparse.ArgumentParser) -> None:
    """Options of `vote`."""
    from jamendo_mood.tasks.bootstrap import ROUNDS

    parser.add_argument(
        "members",
        type=argtypes.setting,
        nargs="+",
        metavar="TAGGER_DIR=STORE",
        help="two taggers or more for one task, each with the embeddings that it needs",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set's tables, as published")
    parser.add_argument("--split", type=int, metavar="N", help="split (default: the one they were trained on)")
    parser.add_argument("--part", metavar="NAME", help="part to judge by (default: the test part)")
    parser.add_argument(
        "--rounds",
        type=argtypes.whole,
        default=ROUNDS,
        metavar="N",
        help=f"of the bootstrap over artists (default {ROUNDS})",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="of the output (default table)")


def vote(arguments: argparse.Namespace) -> int:
    """Judge taggers, and their majority."""
    from jamendo_mood.evaluation.evaluate import vote

    folders = [folder for folder, _ in arguments.members]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UsageError(f"{folder} has one vote, and was given {folders.count(folder)} times")
    members = {
        folder: evaluation_commands.load_examples(Path(folder), arguments, Path(store), told=number > 0)
        for number, (folder, store) in enumerate(arguments.members)
    }
    reports.print_vote(vote(members, rounds=arguments.rounds), arguments.format)
    return DONE
