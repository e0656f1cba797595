"""What the commands about tasks do: `tasks`, which lists them, and `cross-validate`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jamendo_mood.cli import argtypes, options, reports
from jamendo_mood.cli.reports import DONE
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError

if TYPE_CHECKING:
    from jamendo_mood.datasets.dataset import Dataset, DataSource


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


def add_cross_validate(parser: argparse.ArgumentParser) -> None:
    """Options of `cross-validate`."""
    from jamendo_mood.tasks.bootstrap import ROUNDS

    parser.add_argument("--task", required=True, help="one with folds, such as mirex; `jamendo-mood tasks` lists them")
    options.add_data(parser)
    parser.add_argument("--folds", type=argtypes.positive, metavar="N", help="only the first N folds (default: all)")
    parser.add_argument(
        "--validations",
        type=argtypes.positive,
        default=1,
        metavar="N",
        help="taggers a fold, each with another fold to stop training by, that are averaged (default 1)",
    )
    parser.add_argument(
        "--group",
        choices=("artist", "song"),
        default="artist",
        help="what folds do not share; song, which flatters, is for figures beside published ones (default artist)",
    )
    options.add_training(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write a report with pictures there, JSON and CSV")
    parser.add_argument(
        "--rounds", type=argtypes.whole, default=ROUNDS, metavar="N", help=f"of the bootstrap over artists ({ROUNDS})"
    )
    options.add_format(parser, "table", "json")


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


def _count_folds(load: Callable[..., Dataset], most: int) -> int:
    """How many splits there are until a track is tested a second time: few artists make fewer folds."""
    seen: set[int] = set()
    for split in range(most):
        dataset = load(split=split)
        tested = set(dataset.rows(dataset.test).tolist())
        if tested & seen:
            return split
        seen |= tested
    return most


def _is_below(root: Path, name: str) -> bool:
    """Whether a file or folder of this name, or a form of it with a suffix, is somewhere below."""
    last = Path(name).name
    return any(path.name == last or path.stem == last for path in root.rglob(f"{last}*"))


def cross_validate(arguments: argparse.Namespace) -> int:
    """Train and test a tagger on each fold."""
    from jamendo_mood.cli.commands import read_training, tell_unlabelled
    from jamendo_mood.cli.evaluation_commands import save_scores
    from jamendo_mood.datasets import find_source, load_dataset
    from jamendo_mood.evaluation.cross_validation import cross_validate, forget_artists
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.training import data

    source = find_source(arguments.task)
    if source.official:
        kind = "splits" if source.splits > 1 else "parts"
        raise UsageError(f"task {arguments.task!r} has official {kind} and no folds: use `train` and `evaluate`")
    store = None if arguments.store is None else EmbeddingStore(arguments.store)
    config = read_training(arguments)
    load = partial(load_dataset, arguments.task, arguments.data)
    first = load()
    if arguments.group == "song":
        load = partial(forget_artists, first)
    plaintext.note_all(first.remarks)
    tell_unlabelled(first, store)

    def tell(split: int, figures: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {figure:.4f}" for name, figure in list(figures.items())[:3])
        plaintext.note(f"fold {split}: {shown}")

    count = _count_folds(load, source.splits)
    folds = range(min(arguments.folds or count, count))
    found = cross_validate(
        lambda split: load(split=split % count),
        folds,
        lambda dataset: data.choose_embeddings(dataset, store),
        config,
        validations=arguments.validations,
        rounds=arguments.rounds,
        on_fold=tell,
    )
    if arguments.out is not None:
        facts = {
            "Task": arguments.task,
            "Tested": f"each track once, over {len(found.folds)} folds that share no {arguments.group}",
            "Heads": f"{config.head.name}, trained on {config.head.pooling}",
            "Embeddings": "released with the data" if store is None else str(store.spec),
        }
        save_scores(arguments.out, found.pooled, f"How well can {arguments.task} be learned?", facts)
    reports.print_folds(found, arguments.format)
    return DONE
