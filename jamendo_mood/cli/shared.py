"""What commands share: types and groups of options, progress bars, tables of scores, exit statuses.

What is slow to import is imported inside functions, here and in the commands, so that `jamendo-mood --help` loads
neither TensorFlow nor pandas.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jamendo_mood.audio import decoding
from jamendo_mood.embedders.registry import EmbedderOptions, EmbedderSpec, load_embedder
from jamendo_mood.tagging.emotions import PLACES, Place, read_places
from jamendo_mood.tasks import KINDS
from jamendo_mood.tasks.metrics import ROUNDS
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.plaintext import CountProgress, TrackProgress

if TYPE_CHECKING:
    from jamendo_mood.evaluation.evaluate import Scores
    from jamendo_mood.library.similarity import Library
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.tagging.prediction import Prediction
    from jamendo_mood.training.model import Tagger

DONE, SOME_FAILED = 0, 1  # exit statuses
WRONG_USAGE = 2

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
LISTED = 10  # tracks named before "and N more"


class Command(NamedTuple):
    """A command: what adds its options, and what runs it."""

    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  #: returns the exit status
    #: what it says of what is kept where it is interrupted, and of how to continue
    interrupted: str = "the same command starts again from the beginning"

    @property
    def summary(self) -> str:
        """Its line in the help."""
        return self.run.__doc__ or ""


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def setting(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _number(text: str) -> float:
    """A number; NaN, which lies in no range, if the text is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def level(text: str) -> tuple[str, float]:
    """``NAME=LEVEL``, the level from 0 to 1."""
    name, number = setting(text)
    if not 0 <= _number(number) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a level is from 0, the least of all tracks, to 1, the most")
    return name, float(number)


def point(text: str) -> tuple[float, float]:
    """``V,A``, valence and arousal from -1 to 1."""
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) != 2 or not all(-1 <= number <= 1 for number in numbers):
        says = "is not valence and arousal, two numbers from -1 to 1 such as 0.8,-0.5"
        raise argparse.ArgumentTypeError(f"{text!r} {says}")
    return numbers[0], numbers[1]


def whole(text: str) -> int:
    """A whole number from 0 up."""
    return 0 if text == "0" else positive(text)


def shard(text: str) -> tuple[int, int]:
    """``I/N``, I from 1 to N."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N with I from 1 to N")
    return int(index), int(count)


def path_or_url(text: str) -> Path | str:
    """A path, or a URL as it is; ``file://`` is a path too."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return text if "://" in text else Path(text)


def share(text: str) -> float:
    """GPUs: a number above 0, whole from 1 up."""
    number = _number(text)
    if not (0 < number < 1 or (number >= 1 and number.is_integer())):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs, such as 1 or 0.5")
    return number


def gigabytes(text: str) -> float:
    """A number of gigabytes above 0."""
    if not 0 < _number(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of gigabytes, such as 2 or 0.5")
    return float(text)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Where an embedder's weights are."""
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="TF-Hub module's folder; or Google's file: VGGish's vggish_model.ckpt, YAMNet's yamnet.tflite",
    )
    parser.add_argument("--pca", type=Path, metavar="FILE", help="Google's vggish_pca_params.npz, for vggish-pca")
    parser.add_argument("--allow-untrained", action="store_true", help="take weights that are not the released ones")
    parser.add_argument("--offline", action="store_true", help="ask no host for weights that are not here")
    parser.add_argument(
        "--engine",
        choices=("auto", "mnn", "openvino", "tensorflow"),
        default="auto",
        help="what runs the network: auto (default) is the fastest here, on a GPU TensorFlow",
    )


def add_tagger(parser: argparse.ArgumentParser, default: str) -> None:
    """The tagger to use."""
    own = " or ".join(TAGGERS)
    parser.add_argument(
        "--tagger", type=Path, metavar="DIR", help=f"folder `train` wrote; or our own, {own} (default: {default})"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where the data set and the embeddings are."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set's tables, as published")
    parser.add_argument("--store", type=Path, metavar="DIR", help="embeddings (default: those released with the data)")


def add_format(parser: argparse.ArgumentParser, *formats: str) -> None:
    """The format of the output."""
    parser.add_argument("--format", choices=formats, default=formats[0], help=f"of the output (default {formats[0]})")


def add_training(parser: argparse.ArgumentParser) -> None:
    """How to train."""
    parser.add_argument(
        "--head",
        default="attention",
        help="attention (default), mlp or linear; conv1d or gru, which follow the order; cnn, on patches",
    )
    parser.add_argument("--pooling", help="what it sees of a track: frames, mean or mean+std (default: the head's own)")
    parser.add_argument("--ensemble", type=positive, metavar="N", help="heads to train and average")
    parser.add_argument("--epochs", type=positive, metavar="N", help="passes over the training part")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same tagger (default 0)")
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of TrainConfig, HeadConfig or Augmentation, such as dropout=0.3 or mixup=0",
    )


def add_part(parser: argparse.ArgumentParser, rounds: Callable[[str], int]) -> None:
    """The part to evaluate on."""
    parser.add_argument("--split", type=int, metavar="N", help="official split (default: the one it was trained on)")
    parser.add_argument("--part", metavar="NAME", help="part to evaluate on (default: the test part)")
    add_rounds(parser, rounds)


def add_rounds(parser: argparse.ArgumentParser, kind: Callable[[str], int]) -> None:
    """How many bootstrap samples."""
    parser.add_argument(
        "--rounds", type=kind, default=ROUNDS, metavar="N", help=f"bootstrap samples of artists (default {ROUNDS})"
    )


def load_tagger(arguments: argparse.Namespace, specs: Sequence[EmbedderSpec] = ()) -> Tagger:
    """The tagger that ``--tagger`` names, a folder or one of the package's own; without it one of those, and a note.

    `specs` are of the stores that it is for: one of the package's own that knows the first of them is taken.
    """
    from jamendo_mood.training import model

    given = arguments.tagger
    if given is not None and (str(given) not in model.BUILTINS or given.exists()):
        return model.Tagger.load(given)
    name = str(given) if given is not None else None
    if name is None and specs:
        name = next((own for own, embedder in model.BUILTINS.items() if embedder == specs[0].name), "audioset")
    missing = name is None
    weights = getattr(arguments, "weights", None)  # `playlist` embeds nothing, and has no such options
    name = name or model.choose_builtin(weights)
    download = not getattr(arguments, "offline", False)
    tagger = model.load_builtin(name, weights if name == "musicnn" else None, download=download)
    if given is None:
        why = ", as VGGish's weights are not on this machine" if missing and name == "musicnn" else ""
        plaintext.note(f"with the tagger {name} that comes with jamendo-mood{why}: {TAGGERS[name]}")
    return tagger


def sort_inputs(paths: list[Path]) -> tuple[list[Path], list[EmbeddingStore]]:
    """The audio files and the stores among the paths; folders are searched, and a path given twice counts once."""
    from jamendo_mood.store.embedding_store import MANIFEST_NAME, EmbeddingStore

    files: list[Path] = []
    stores = []
    for path in dict.fromkeys(paths):
        if (path / MANIFEST_NAME).is_file():
            stores.append(EmbeddingStore(path))
        elif path.is_dir():
            files += decoding.list_audio(path)
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: no such file, folder or store")
    if not files and not stores:
        raise UsageError(f"no audio files in {', '.join(map(str, paths))}")
    return list(dict.fromkeys(files)), stores


def predict_files(files: list[Path], tagger: Tagger, arguments: argparse.Namespace) -> dict[Path, Prediction | str]:
    """The prediction of each file, or why there is none, which has been said; with a progress bar."""
    from jamendo_mood.tagging.prediction import predict_files

    embedder = load_embedder(tagger.spec, EmbedderOptions.of(arguments))
    tagger.warm_up()
    results: dict[Path, Prediction | str] = {}
    with TrackProgress(len(files), "decoded, embedded and scored") as progress:
        for path, result in predict_files(files, tagger, embedder):
            results[path] = result
            if isinstance(result, str):
                progress.advance(0.0, result)
            else:
                progress.advance(result.duration_s)
    return results


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
    print(plaintext.show_lines(text))


def interval(ends: tuple[float, float] | None) -> str:
    """An interval behind its figure; nothing where there is none."""
    return "" if ends is None else f"  [{ends[0]:.4f}, {ends[1]:.4f}]"


def print_list(heading: str, lines: list[str]) -> None:
    """Lines below a heading, the first few."""
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    for line in (heading, *lines[:LISTED], *more):
        plaintext.note(line)


def check_matplotlib() -> None:
    """`UsageError` if there is nothing to draw with."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"no {error.name} to draw with: `pip install jamendo-mood[notebook]` brings it") from error


def add_places(parser: argparse.ArgumentParser) -> None:
    """The option of `tag` and `playlist` that names another table of tags."""
    parser.add_argument(
        "--places",
        type=Path,
        metavar="CSV",
        help="where tags lie: a table with the columns MoodTag, Valence and Arousal, 1 to 9 (default: our own)",
    )


def read_tag_places(tagger: Tagger, file: Path | None) -> Mapping[str, Place]:
    """The table of tags that `--places` names, or our own.

    Raises `DataError` if the file is no such table; `UsageError` if it has none of the tagger's tags.
    """
    if file is None:
        return PLACES
    places = read_places(file)
    if places.keys().isdisjoint(tagger.task.targets):
        raise UsageError(f"{file}: places none of the tagger's tags, which are {', '.join(tagger.task.targets)}")
    return places


def open_library(arguments: argparse.Namespace, store: EmbeddingStore, tagger: Tagger | None) -> Library:
    """The tracks of a store, scored, with their files where ``--audio`` names the folder."""
    from jamendo_mood.library.similarity import open_library

    library = open_library(store, tagger, arguments.audio, CountProgress("scoring"))
    if arguments.audio is not None and not library.files:
        raise UsageError(f"{arguments.audio}: none of the {len(library)} tracks of {store.root} has its file there")
    return library
