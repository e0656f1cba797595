"""`tasks` and `splits`: which data sets there are, and MTG's official tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jamendo_mood.cli.shared import DONE, Command

if TYPE_CHECKING:
    from jamendo_mood.datasets.dataset import DataSource


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Options of `tasks`."""
    parser.add_argument("task", nargs="?", metavar="TASK", help="tell all there is to know of this one")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="look for the data sets' tables there, at any depth (default data/)",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="of the output (default table)")


def tasks(arguments: argparse.Namespace) -> int:
    """List every task: what it predicts, where its data come from, what of them is missing here."""
    from jamendo_mood.datasets import DATASETS, find_source

    chosen = [arguments.task] if arguments.task is not None else list(DATASETS)
    described = {name: describe(find_source(name), arguments.data) for name in chosen}
    if arguments.format == "json":
        print(json.dumps(described, indent=2, ensure_ascii=False))
    elif arguments.task is not None:
        for name, value in described[arguments.task].items():
            print(f"{name:12} {', '.join(value) or '-' if isinstance(value, list) else value}")
    else:
        width = max(map(len, described))
        for name, facts in described.items():
            missing = facts["missing"]
            here = "all tables here" if not missing else f"missing: {', '.join(missing)}"
            print(f"{name:{width}}  {facts['predicts']}; {facts['parts']}; {here}")
        print(f"\n(tables were looked for below {arguments.data}/; `jamendo-mood tasks TASK` tells where to get them)")
    return DONE


def describe(source: DataSource, root: Path) -> dict[str, Any]:
    """What is to be known of a data set, and which of its files are not below `root`."""
    folds = f"{source.splits} folds"
    official = "official parts" if source.splits == 1 else f"{source.splits} official splits"
    return {
        "predicts": source.predicts,
        "parts": official if source.official else folds,
        "annotations": source.annotations,
        "audio": source.audio,
        "licence": source.licence,
        "citation": source.citation,
        "files": list(source.files),
        "missing": [name for name in source.files if not _is_below(root, name)],
    }


def _is_below(root: Path, name: str) -> bool:
    """Whether a file or folder of this name, or a form of it with a suffix, is somewhere below."""
    last = Path(name).name
    return any(path.name == last or path.stem == last for path in root.rglob(f"{last}*"))


def add_splits(parser: argparse.ArgumentParser) -> None:
    """Options of `splits`."""
    parser.add_argument("--out", type=Path, default=Path("splits"), metavar="DIR", help="folder (default splits/)")
    parser.add_argument("--base-url", metavar="URL", help="a mirror of MTG's repository (default: at GitHub)")


def splits(arguments: argparse.Namespace) -> int:
    """Get MTG's official tables."""
    from jamendo_mood.datasets.jamendo import BASE_URL, get_splits

    get_splits(
        arguments.out,
        arguments.base_url or BASE_URL,
        on_file=lambda path, fetched: print(f"{path}  {'fetched' if fetched else 'already there'}, SHA-256 right"),
    )
    return DONE


COMMANDS = {
    "tasks": Command(
        add_tasks, tasks, "List the data sets and tasks: what each predicts, where to get it, what is missing here."
    ),
    "splits": Command(
        add_splits,
        splits,
        "Get MTG's official tables and splits, checked by SHA-256.",
        "the files that were finished are kept, and the same command continues from there",
    ),
}
