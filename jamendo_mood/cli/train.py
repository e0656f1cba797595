"""`tasks`, `artists`, `splits`, `train` and `cross-validate`: from data sets and stored embeddings to taggers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, Command
from jamendo_mood.datasets import DATASETS, find_source
from jamendo_mood.datasets.dataset import DataSource
from jamendo_mood.datasets.jamendo import BASE_URL, get_splits
from jamendo_mood.datasets.own import add_artists
from jamendo_mood.evaluation import experiment
from jamendo_mood.training.fit import Epoch, TrainConfig, choose
from jamendo_mood.training.heads import HEADS
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import write_output
from jamendo_mood.util.plaintext import note, say, to_json
from jamendo_mood.util.process import keep_memory


def _add_tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="?", metavar="TASK", help="tell all there is to know of this one")
    tables = "look for the data sets' tables there, at any depth (default data/)"
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR", help=tables)
    shared.add_format(parser, "table", "json")


def tasks(arguments: argparse.Namespace) -> int:
    """List the data sets and tasks: what each predicts, where to get it, what is missing here."""
    chosen = [arguments.task] if arguments.task is not None else list(DATASETS)
    described = {name: _describe(find_source(name), arguments.data) for name in chosen}
    if arguments.format == "json":
        print(to_json(described))
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


def _describe(source: DataSource, root: Path) -> dict[str, Any]:
    """What is to be known of a data set, and which of its files are not below `root`."""
    below = {form for path in root.rglob("*") for form in (path.name, path.stem)}  # a form may have a suffix
    official = "official parts" if source.splits == 1 else f"{source.splits} official splits"
    return {
        "predicts": source.predicts,
        "parts": official if source.official else f"{source.splits} folds",
        **{name: getattr(source, name) for name in ("annotations", "audio", "licence", "citation")},
        "files": list(source.files),
        "missing": [name for name in source.files if Path(name).name not in below],
    }


def _add_artists(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="TABLE", help="a table of your own, as for task own")
    parser.add_argument("audio", type=Path, metavar="AUDIO_DIR", help="the folder that its paths are below")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table with artists")


def artists(arguments: argparse.Namespace) -> int:
    """Add the artists that files name in their own tags to a table of yours."""
    text, remarks = add_artists(arguments.table, arguments.audio)
    write_output(arguments.out, text.encode("utf-8", "replace"))
    for remark in (*remarks, f"{arguments.out} written"):
        note(remark)
    return DONE


def _add_splits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("splits"), metavar="DIR", help="folder (default splits/)")
    parser.add_argument("--base-url", metavar="URL", help="a mirror of MTG's repository (default: at GitHub)")


def splits(arguments: argparse.Namespace) -> int:
    """Get MTG's official tables and splits, checked by SHA-256."""
    get_splits(
        arguments.out,
        arguments.base_url or BASE_URL,
        on_file=lambda path, fetched: print(f"{path}  {'fetched' if fetched else 'already there'}, SHA-256 right"),
    )
    return DONE


def _add_task(parser: argparse.ArgumentParser, which: str) -> None:
    parser.add_argument("--task", required=True, help=which)
    own = "with --task own: learn the moods that you wrote into the files of the folder --data, by any program"
    parser.add_argument("--from-files", action="store_true", help=own)


def find_task(arguments: argparse.Namespace) -> str:
    """The task that a command line names: one's own moods may be in a table, or in the files."""
    if arguments.from_files and arguments.task not in ("own", "own-files"):
        raise UsageError(f"--from-files: the labels of task {arguments.task!r} are in its tables; it is for --task own")
    return "own-files" if arguments.from_files else str(arguments.task)


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _add_task(parser, "such as jamendo; `jamendo-mood tasks` lists them")
    shared.add_data(parser)
    add("--split", type=int, default=0, metavar="N", help="official split, or the fold to test on (default 0)")
    add("--out", type=Path, required=True, metavar="TAGGER_DIR", help="folder for the tagger")
    shared.add_training(parser)
    alone = "learn the task's own tags alone, where its data has more to learn from (audioset-moods)"
    add("--single-task", action="store_true", help=alone)
    copies = "learn from altered copies of the training tracks too: a store that `extract --augment` wrote"
    add("--augmented", type=Path, metavar="DIR", help=copies)
    add(
        "--leaks",
        choices=experiment.LEAKS,
        default="refuse",
        help="tracks, artists or bit-identical audio that parts share: refuse to train (default), leave such tracks "
        "out of training and validation, or keep them",
    )


def train(arguments: argparse.Namespace) -> int:
    """Train a tagger on stored embeddings, and calibrate and grade it by tracks that are held out."""
    keep_memory()
    tagger = experiment.train(
        *(find_task(arguments), arguments.data, arguments.store, read_training(arguments)),
        split=arguments.split,
        leaks=arguments.leaks,
        broader=not arguments.single_task,
        copies=arguments.augmented,
        out=arguments.out,
        on_epoch=epoch_lines(),
    )
    rules, count = tagger.task.rules, len(tagger.weights)
    heads = f"{tagger.head.name} head" if count == 1 else f"{count} {tagger.head.name} heads"
    epochs = tagger.record["best_epochs"]
    best = f"best epoch {', '.join(map(str, epochs))}, " if epochs else ""
    say(
        f"{arguments.out}: {heads} for {len(tagger.task.targets)} {rules.plural}, on {tagger.head.pooling} of "
        f"{tagger.spec}; {best}validation {rules.monitor} {tagger.scores[rules.monitor]:.4f}"
    )
    return DONE


def read_training(arguments: argparse.Namespace) -> Callable[[int], TrainConfig]:
    """The settings of training that a command line names; the head may depend on how many examples there are."""
    settings = dict(arguments.set)
    for name in ("pooling", "ensemble", "epochs", "seed"):
        if getattr(arguments, name) is not None:
            settings[name] = str(getattr(arguments, name))

    def configure(examples: int) -> TrainConfig:
        config = choose(TrainConfig.for_head(arguments.head) if arguments.head else None, examples)
        named_or_known = arguments.head or examples  # before the data are read, the default is not known yet
        if named_or_known and HEADS[config.head.name].build is None and settings.keys() & {"ensemble", "epochs"}:
            why = "" if arguments.head else f", the default for {examples:,} examples,"
            raise UsageError(f"the head {config.head.name}{why} has neither epochs nor an ensemble: name another one")
        return config.updated(settings)

    configure(0)  # so that a setting that is not one is told before data are read
    return configure


def epoch_lines() -> Callable[[Epoch], None]:
    """Make what prints a line of training progress for each epoch, from now on."""
    started = time.perf_counter()

    def show(epoch: Epoch) -> None:
        members, epochs = epoch.config.ensemble, epoch.config.epochs
        head = f"head {epoch.member + 1}/{members}, " if members > 1 else ""
        done = epoch.member * epochs + epoch.number
        left_s = (time.perf_counter() - started) / done * (members * epochs - done)
        mark = "  best so far" if epoch.best else ""
        print(
            f"{head}epoch {epoch.number:2d}/{epochs}  loss {epoch.loss:.4f}  "
            f"validation {epoch.monitor} {epoch.figure:.4f}  {left_s:.0f} s left{mark}",
            file=sys.stderr,
        )

    return show


def _add_cross_validate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _add_task(parser, "one with folds, such as mirex; `jamendo-mood tasks` lists them")
    shared.add_data(parser)
    add("--folds", type=shared.positive, metavar="N", help="only the first N folds (default: all)")
    several = "taggers a fold, each with another fold to stop training by, that are averaged (default 1)"
    add("--validations", type=shared.positive, default=1, metavar="N", help=several)
    group = "what folds do not share; song, which flatters, is for figures beside published ones (default artist)"
    add("--group", choices=("artist", "song"), default="artist", help=group)
    shared.add_training(parser)
    add("--out", type=Path, metavar="DIR", help="also write a report with pictures there, JSON and CSV")
    shared.add_rounds(parser)
    shared.add_format(parser, "table", "json")


def cross_validate(arguments: argparse.Namespace) -> int:
    """Test every track once, on folds by artist: for data sets without official parts."""
    keep_memory()

    def tell(split: int, figures: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {figure:.4f}" for name, figure in list(figures.items())[:3])
        note(f"fold {split}: {shown}")

    found = experiment.cross_validate(
        *(find_task(arguments), arguments.data, arguments.store, read_training(arguments)),
        folds=arguments.folds,
        validations=arguments.validations,
        group=arguments.group,
        rounds=arguments.rounds,
        out=arguments.out,
        on_fold=tell,
    )
    if arguments.format == "json":
        print(to_json(found.to_json()))
        return DONE
    shared.print_scores(found.pooled, "table")
    print(f"\nover {len(found.folds)} folds, mean and standard deviation:")
    for name, (mean, sd) in found.spread().items():
        print(f"{name:16} {mean:.6f}  {sd:.6f}")
    print("(to quote: PR-AUC and ROC-AUC from here, as a list of all tracks mixes several taggers; others from above)")
    return DONE


COMMANDS = {
    "tasks": Command(_add_tasks, tasks),
    "artists": Command(_add_artists, artists),
    "splits": Command(_add_splits, splits, "finished files are kept, and the same command continues from there"),
    "train": Command(_add_train, train, "a tagger that was there before still is, and the same command trains again"),
    "cross-validate": Command(_add_cross_validate, cross_validate),
}
