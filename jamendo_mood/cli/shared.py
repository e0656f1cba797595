"""What commands share: types and groups of options, progress bars, tables of scores, exit statuses.

Nothing that `jamendo-mood --help` imports loads TensorFlow, pandas or matplotlib: the package imports them inside
functions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from jamendo_mood.audio import decoding
from jamendo_mood.embedders.engines import ENGINES
from jamendo_mood.embedders.registry import EmbedderOptions, EmbedderSpec, load_embedder
from jamendo_mood.evaluation.evaluate import Scores
from jamendo_mood.library import similarity
from jamendo_mood.library.similarity import Library
from jamendo_mood.store import hub
from jamendo_mood.store.embedding_store import MANIFEST_NAME, EmbeddingStore
from jamendo_mood.tagging import prediction
from jamendo_mood.tagging.emotions import Place, read_places
from jamendo_mood.tagging.prediction import Prediction
from jamendo_mood.tasks import KINDS
from jamendo_mood.tasks.metrics import ROUNDS
from jamendo_mood.training import model
from jamendo_mood.training.data import POOLINGS
from jamendo_mood.training.fit import SMALL
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import CountProgress, TrackProgress

DONE, SOME_FAILED, WRONG_USAGE = 0, 1, 2  # exit statuses

TAGGERS = {
    "audioset": "AudioSet's 7 music moods, on VGGish",
    "musicnn": "10 moods of Last.fm's tags, not calibrated, on musicnn",
}
"""What the package's own taggers know, in a line."""

DOUBTFUL = {
    "weak": "weak: hardly told from chance when the tagger was graded",
    "unknown": "unknown: never measured, or with too few examples to say",
}
"""Grades that are said beside a tag, and what they mean."""
SHOWN = (
    *("tag", "class", "value", "grade", "positives", "artists", "prior", "decided", "PR-AUC", "ROC-AUC"),
    *("precision", "recall", "F-score", "threshold", "ECE-all", "CCC", "Pearson", "R2", "RMSE", "mean", "sd"),
)
"""Columns of the table of targets that fit on a screen; JSON and CSV have all."""

T = TypeVar("T")


class Command(NamedTuple):
    """A command: what adds its options, and what runs it, whose docstring is its line in the help."""

    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  #: returns the exit status
    #: what it says of what is kept where it is interrupted, and of how to continue
    interrupted: str = "the same command starts again from the beginning"


def _type(read: Callable[[str], T], fits: Callable[[T], bool], wanted: str) -> Callable[[str], T]:
    """A type of options: what `read` makes of a text, if it fits; else an error that says what is wanted instead."""

    def parse(text: str) -> T:
        with suppress(TypeError, ValueError):
            value = read(text)
            if fits(value):
                return value
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not {wanted}")

    return parse


positive = _type(int, lambda number: number >= 1, "a whole number from 1 up")
whole = _type(int, lambda number: number >= 0, "a whole number from 0 up")
gigabytes = _type(float, lambda size: 0 < size < float("inf"), "a number of gigabytes, such as 2 or 0.5")
gpus = _type(
    float,
    lambda share: 0 < share < 1 or (share >= 1 and share.is_integer()),
    "a number of GPUs, such as 1 or 0.5",
)
shard = _type(
    lambda text: tuple(map(int, text.split("/"))),
    lambda part: len(part) == 2 and 1 <= part[0] <= part[1],
    "of the form I/N with I from 1 to N",
)
setting = _type(lambda text: text.partition("=")[::2], all, "of the form NAME=VALUE")
level = _type(
    lambda text: (setting(text)[0], float(setting(text)[1])),
    lambda pair: 0 <= pair[1] <= 1,
    "of the form NAME=LEVEL: a level is from 0, the least of all tracks, to 1, the most",
)
point = _type(
    lambda text: Place(*map(float, text.split(","))),
    lambda place: all(-1 <= number <= 1 for number in place),
    "valence and arousal, two numbers from -1 to 1 such as 0.8,-0.5",
)
repository = _type(str, lambda name: name.count("/") == 1, "of the form USER/NAME")


def path_or_url(text: str) -> Path | str:
    """A path, or a URL as it is; ``file://`` is a path too."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return text if "://" in text else Path(text)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Where an embedder's weights are, and what runs it."""
    add = parser.add_argument
    add("--weights", type=Path, metavar="PATH", help="a TF-Hub module, or Google's vggish_model.ckpt or yamnet.tflite")
    add("--pca", type=Path, metavar="FILE", help="Google's vggish_pca_params.npz, for vggish-pca")
    add("--allow-untrained", action="store_true", help="take weights that are not the released ones")
    add("--offline", action="store_true", help="ask no host for what is not here, such as weights")
    fastest = "what runs the network: auto (default) is the fastest here, on a GPU TensorFlow"
    add("--engine", choices=ENGINES, default="auto", help=fastest)


def add_tagger(parser: argparse.ArgumentParser, *, stored: bool = False) -> None:
    """The tagger to use; where it is for a store, that says which is the default."""
    at_hand = "audioset if VGGish's weights are on this machine, else musicnn"
    default = "the one that knows the store's embeddings, if any" if stored else at_hand
    taggers = f"folder `train` wrote, or hf://USER/NAME; or our own, {' or '.join(TAGGERS)} (default: {default})"
    parser.add_argument("--tagger", type=path_or_url, metavar="DIR", help=taggers)


def add_data(parser: argparse.ArgumentParser, *, store: bool = True) -> None:
    """Where the data set is, and the embeddings."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set's tables, as published")
    if store:
        embeddings = "embeddings (default: those released with the data)"
        parser.add_argument("--store", type=path_or_url, metavar="DIR", help=embeddings)


def add_format(parser: argparse.ArgumentParser, *formats: str) -> None:
    """The format of the output."""
    parser.add_argument("--format", choices=formats, default=formats[0], help=f"of the output (default {formats[0]})")


def add_training(parser: argparse.ArgumentParser) -> None:
    """How to train."""
    add = parser.add_argument
    heads = "attention, mlp, linear or svm; conv1d or gru, which follow the order; cnn, on patches"
    add("--head", help=f"{heads} (default: svm up to {SMALL:,} tracks, attention for more)")
    own = "(default: the head's own; svm takes the best of those that make one row)"
    add("--pooling", help=f"what it sees of a track: {', '.join(POOLINGS)} {own}")
    add("--ensemble", type=positive, metavar="N", help="heads to train and average")
    add("--epochs", type=positive, metavar="N", help="passes over the training part")
    add("--seed", type=int, metavar="N", help="same seed, same tagger (default 0)")
    others = "any other setting of TrainConfig, HeadConfig or Augmentation, such as dropout=0.3 or mixup=1"
    add("--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help=others)


def add_part(parser: argparse.ArgumentParser, rounds: Callable[[str], int] = whole) -> None:
    """The part to evaluate on, and how many bootstrap samples."""
    parser.add_argument("--split", type=int, metavar="N", help="official split (default: the one it was trained on)")
    parser.add_argument("--part", metavar="NAME", help="part to evaluate on (default: the test part)")
    add_rounds(parser, rounds)


def add_rounds(parser: argparse.ArgumentParser, kind: Callable[[str], int] = whole) -> None:
    """How many bootstrap samples."""
    samples = f"bootstrap samples of artists (default {ROUNDS})"
    parser.add_argument("--rounds", type=kind, default=ROUNDS, metavar="N", help=samples)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Another table of tags."""
    columns = "where tags lie: a table with the columns MoodTag, Valence and Arousal, 1 to 9 (default: our own)"
    parser.add_argument("--places", type=Path, metavar="CSV", help=columns)


def load_tagger(arguments: argparse.Namespace, spec: EmbedderSpec | None = None) -> Tagger:
    """The tagger that ``--tagger`` names, a folder or one of the package's own; without it one of those, and a note.

    `spec` is of the store that it is for, if it is for one: then the one that knows its embeddings is taken.
    """
    given, download = arguments.tagger, not getattr(arguments, "offline", False)
    if given is not None and (str(given) not in model.BUILTINS or Path(given).exists()):
        return Tagger.load(hub.locate(given, download=download))
    weights = getattr(arguments, "weights", None)  # `playlist` embeds nothing, and has no such options
    if given is not None:
        name = str(given)
    elif spec is not None:
        name = next((own for own, embedder in model.BUILTINS.items() if embedder == spec.name), "audioset")
    else:
        name = model.choose_builtin(weights)
    tagger = model.load_builtin(name, weights, download=download)
    if given is None:
        why = ", as VGGish's weights are not on this machine" if spec is None and name == "musicnn" else ""
        plaintext.note(f"with the tagger {name} that comes with jamendo-mood{why}: {TAGGERS[name]}")
    return tagger


def open_store(arguments: argparse.Namespace) -> EmbeddingStore:
    """The store that a command reads, a folder or one on the Hugging Face Hub."""
    return EmbeddingStore(hub.locate(arguments.store, download=not getattr(arguments, "offline", False)))


def sort_inputs(paths: list[Path]) -> tuple[list[Path], list[EmbeddingStore]]:
    """The audio files and the stores among the paths; folders are searched, and a path given twice counts once."""
    files: dict[Path, None] = {}
    stores = []
    for path in dict.fromkeys(paths):
        if (path / MANIFEST_NAME).is_file():
            stores.append(EmbeddingStore(path))
        elif path.is_dir():
            files.update(dict.fromkeys(decoding.list_audio(path)))
        elif path.exists():
            files[path] = None
        else:
            raise UsageError(f"{path}: no such file, folder or store")
    if not files and not stores:
        raise UsageError(f"no audio files in {', '.join(map(str, paths))}")
    return [*files], stores


def predict_files(files: list[Path], tagger: Tagger, arguments: argparse.Namespace) -> dict[Path, Prediction | str]:
    """The prediction of each file, in order, or why there is none, which has been said; with a progress bar."""
    embedder = load_embedder(tagger.spec, EmbedderOptions.of(arguments))
    tagger.warm_up()
    results = {}
    with TrackProgress(len(files), "decoded, embedded and scored") as progress:
        for path, result in prediction.predict_files(files, tagger, embedder):
            results[path] = result
            if isinstance(result, str):
                progress.advance(0.0, result)
            else:
                progress.advance(result.duration_s)
    return {path: results[path] for path in files}


def print_scores(scores: Scores, form: str) -> None:
    """Print the headline metrics and the rows per target."""
    if form == "json":
        print(plaintext.to_json(scores.to_json()))
        return
    print(f"{scores.examples} examples, {len(scores.per_target)} {KINDS[scores.kind].plural}")
    for name, figure in scores.metrics.items():
        number = str(figure) if isinstance(figure, int) else f"{figure:.6f}"  # a count, or a figure
        print(f"{name:16} {number}{interval(scores.intervals.get(name))}")
    if scores.intervals:
        print("(in brackets: 95 % intervals by a bootstrap over artists)")
    print()
    table = scores.table()
    shown = [name for name in SHOWN if name in table]
    text = table[shown].to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4f}")
    print(*map(plaintext.show, text.split("\n")), sep="\n")


def interval(ends: tuple[float, float] | None) -> str:
    """An interval behind its figure; nothing where there is none."""
    return "" if ends is None else f"  [{ends[0]:.4f}, {ends[1]:.4f}]"


def read_tag_places(tagger: Tagger, file: Path | None) -> Mapping[str, Place] | None:
    """The table of tags that `--places` names, if it does.

    Raises `DataError` if the file is no such table; `UsageError` if it has none of the tagger's tags.
    """
    if file is None:
        return None
    places = read_places(file)
    if places.keys().isdisjoint(tagger.task.targets):
        raise UsageError(f"{file}: places none of the tagger's tags, which are {', '.join(tagger.task.targets)}")
    return places


def open_library(arguments: argparse.Namespace, store: EmbeddingStore, tagger: Tagger | None) -> Library:
    """The tracks of a store, scored, with their files where ``--audio`` names the folder."""
    library = similarity.open_library(store, tagger, arguments.audio, CountProgress("scoring"))
    if arguments.audio is not None and not library.files:
        raise UsageError(f"{arguments.audio}: none of the {len(library)} tracks of {store.root} has its file there")
    return library
