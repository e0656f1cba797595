"""`write`: the moods of songs into the songs' own tags, and back."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jamendo_mood.audio import decoding, file_tags
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.util import files, plaintext
from jamendo_mood.util.errors import AudioError, UsageError
from jamendo_mood.util.plaintext import CountProgress, TrackProgress, count

if TYPE_CHECKING:
    from jamendo_mood.library.writing import Change, Rules
    from jamendo_mood.training.model import Tagger

LAST = "the last one"  # of the journals

Scored = Iterator[tuple[Path, Any]]  # a file, and its scores, or an `AudioError`


def _add_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="audio files, or folders of them")
    parser.add_argument("--apply", action="store_true", help="change the files; without it, what would change is shown")
    parser.add_argument(
        "--undo",
        nargs="?",
        const=LAST,
        metavar="JOURNAL",
        help="put back what a run has changed (default: the last run), where it is still as we wrote it",
    )
    parser.add_argument("--journal", type=Path, metavar="FILE", help="where to note what was there, for --undo")
    shared.add_tagger(parser, "audioset if VGGish's weights are on this machine, else musicnn")
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="take scores from the embeddings of the folder; nothing is decoded"
    )
    parser.add_argument("--unmeasured", action="store_true", help="also moods of which nobody has measured how good")
    parser.add_argument("--most", type=shared.positive, metavar="N", help="moods of a song (default all; 3 if ranked)")
    for name, what in (("--only", "write this tag; several times, for several"), ("--exclude", "do not write it")):
        parser.add_argument(name, action="append", default=[], metavar="TAG", help=what)
    parser.add_argument(
        "--rename",
        type=Path,
        metavar="CSV",
        help="your words: a table with the columns tag and word (none: not written)",
    )
    parser.add_argument(
        "--valence-arousal", action="store_true", help="two numbers from -1 to 1 in fields of their own"
    )
    parser.add_argument("--field", type=_field, default=file_tags.MOOD, metavar="NAME", help="another than MOOD")
    parser.add_argument(
        "--separator", default="", metavar="TEXT", help='all moods as one value, with this between them, such as "; "'
    )
    parser.add_argument("--keep-times", action="store_true", help="leave the files' times of modification as they were")
    shared.add_weights(parser)


def _field(text: str) -> str:
    name = text.upper()
    if not (name.isascii() and name.isidentifier()) or name.startswith(file_tags.MARK.partition("_")[0]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of a field, such as MOOD or MY_MOODS")
    return name


def write(arguments: argparse.Namespace) -> int:
    """Write moods into the songs' own tags; without --apply, show what would change."""
    from jamendo_mood.library import writing

    file_tags.check_mutagen()
    if arguments.undo is not None:
        return _undo(arguments)
    paths = _list_files(arguments)
    tagger = shared.load_tagger(arguments, _specs(arguments))
    rules = _read_rules(arguments, tagger)
    _check_measured(tagger, rules)
    scored = _from_store(arguments, tagger, paths) if arguments.store else _from_sound(arguments, tagger, paths)
    changes, same, problems = [], 0, 0
    for path, scores in scored:
        try:
            if isinstance(scores, AudioError):
                raise scores
            moods = writing.choose_moods(tagger, scores, rules)
            place = writing.place_in(tagger, scores) if rules.place else None
            change = writing.plan(path, list(moods), tagger.task.name, rules, place)
        except AudioError as error:
            problems += 1
            plaintext.note(f"failed: {error}")
            continue
        same += not change.after
        if change.after:
            changes.append(change)
            _print_change(change, {mood: _doubt(tagger, grade) for mood, grade in moods.items()})
    if not arguments.apply:
        print(f"{_sum_up(len(changes), 'would change', same, problems)}; nothing is written without --apply")
        return SOME_FAILED if problems else DONE
    journal = arguments.journal or writing.new_journal()
    if changes:
        writing.keep_journal(journal, changes)
    left = _apply(changes, arguments)
    print(_sum_up(len(changes) - left, "changed", same, problems + left))
    if len(changes) > left:
        print(f"to undo it: jamendo-mood write --undo {journal}")
    return SOME_FAILED if problems or left else DONE


def _undo(arguments: argparse.Namespace) -> int:
    from jamendo_mood.library import writing

    if arguments.files or arguments.apply:
        raise UsageError("--undo goes by its journal alone: name no files, and leave --apply out")
    journal = writing.last_journal() if arguments.undo is LAST else Path(arguments.undo)
    changes, problems, same = writing.plan_undo(journal)
    for problem in problems:
        plaintext.note(f"failed: {problem}")
    for change in changes:
        _print_change(change, {})
    left = _apply(changes, arguments)
    print(f"{journal}: {_sum_up(len(changes) - left, 'put back', same, len(problems) + left)}")
    return SOME_FAILED if problems or left else DONE


def _apply(changes: Sequence[Change], arguments: argparse.Namespace) -> int:
    """Change the files; returns how many were left as they are, each of which is told."""
    from jamendo_mood.library import writing

    progress, left = CountProgress("writing"), 0
    for number, (_, problem) in enumerate(writing.apply(changes, keep_times=arguments.keep_times), start=1):
        if problem:
            left += 1
            plaintext.note(f"failed: {problem}")
        progress(number, len(changes))
    return left


def _sum_up(changed: int, verb: str, same: int, problems: int) -> str:
    parts = [f"{count(changed, 'file')} {verb}", f"{same} as {'it is' if same == 1 else 'they are'} already"]
    return ", ".join([*parts, *([f"{problems} failed"] if problems else [])])


def _print_change(change: Change, doubts: dict[str, str]) -> None:
    """The lines of a diff: moods that come and go, and what a person wrote."""
    print(plaintext.style(plaintext.show(str(change.path)), plaintext.BOLD))
    for name, values in change.after.items():
        if name.startswith(file_tags.MARK):
            continue
        own = name.startswith("JAMENDO_")
        old, new = (
            [mood for value in each for mood in file_tags.split(value)] for each in (change.before[name], values)
        )
        for sign, moods, colour in (
            (" ", [mood for mood in old if mood in new], plaintext.FAINT),
            ("-", [mood for mood in old if mood not in new], plaintext.RED),
            ("+", [mood for mood in new if mood not in old], plaintext.GREEN),
        ):
            for mood in moods:
                doubt = doubts.get(mood, "") if sign == "+" else ""
                print(plaintext.style(plaintext.show(f"  {sign} {f'{name} ' if own else ''}{mood}{doubt}"), colour))


def _doubt(tagger: Tagger, grade: str) -> str:
    if grade in shared.DOUBTFUL:
        return f"  ({grade})"
    return "  (only ranked)" if tagger.ranks else ""


def _list_files(arguments: argparse.Namespace) -> dict[str, Path]:
    """The files, each once, however it is named: by key where there is a store, for which a folder is needed."""
    if arguments.store is not None:
        if len(arguments.files) != 1 or not arguments.files[0].is_dir():
            raise UsageError("--store holds the embeddings of a folder: name that folder, and nothing else")
        return decoding.find_audio(arguments.files[0])
    found = [path for given in arguments.files for path in (decoding.list_audio(given) if given.is_dir() else [given])]
    if missing := [path for path in found if not path.exists()]:
        raise UsageError(f"{missing[0]}: no such file or folder")
    if not found:
        raise UsageError(
            f"no audio files in {', '.join(map(str, arguments.files))}"
            if arguments.files
            else "name songs, or folders of them"
        )
    by_place = {os.path.realpath(path): path for path in reversed(found)}
    return {str(path): path for path in reversed(by_place.values())}


def _specs(arguments: argparse.Namespace) -> list[Any]:
    from jamendo_mood.store.embedding_store import EmbeddingStore

    return [] if arguments.store is None else [EmbeddingStore(arguments.store).spec]


def _from_sound(arguments: argparse.Namespace, tagger: Tagger, paths: dict[str, Path]) -> Scored:
    from jamendo_mood.tagging.prediction import predict_files

    embedder = load_embedder(tagger.spec, EmbedderOptions.of(arguments))
    tagger.warm_up()
    results: dict[Path, Any] = {}
    with TrackProgress(len(paths), "decoded, embedded and scored") as progress:
        for path, result in predict_files(list(paths.values()), tagger, embedder):
            if isinstance(result, str):
                results[path] = AudioError(result)
                progress.advance(0.0)
            else:
                results[path] = _in_part(path, result.remark) or result.track_scores
                progress.advance(result.duration_s)
    for path in paths.values():
        yield path, results[path]


def _from_store(arguments: argparse.Namespace, tagger: Tagger, paths: dict[str, Path]) -> Scored:
    from jamendo_mood.library.similarity import open_library
    from jamendo_mood.store.embedding_store import EmbeddingStore

    store = EmbeddingStore(arguments.store)
    library = open_library(store, tagger, arguments.files[0], CountProgress("scoring"))
    if not library.files:
        raise UsageError(f"{arguments.files[0]}: none of the {len(library)} tracks of {store.root} has its file there")
    remarks = store.remarks(library.files)
    if missing := len(paths) - len(library.files):
        plaintext.note(f"{count(missing, 'file')} of {arguments.files[0]} not in {store.root}: `extract` adds them")
    for key, path in library.files.items():
        yield path, _in_part(path, remarks.get(key, "")) or library.scores[library.row(key)]


def _in_part(path: Path, remark: str) -> AudioError | None:
    if decoding.IN_PART not in remark:
        return None
    return AudioError(f"{path}: left as it is: only {remark}; perhaps it is still being copied")


def _read_rules(arguments: argparse.Namespace, tagger: Tagger) -> Rules:
    from jamendo_mood.library.similarity import find_target
    from jamendo_mood.library.writing import Rules

    targets = tagger.task.targets
    only, exclude = (
        frozenset(targets[find_target(name, targets)] for name in names)
        for names in (arguments.only, arguments.exclude)
    )
    words = {}
    for row in files.read_columns(arguments.rename, ("tag", "word")) if arguments.rename else []:
        try:
            words[targets[find_target(row["tag"].strip(), targets)]] = row["word"].strip()
        except UsageError:  # of another tagger: the table may be for several
            continue
    if arguments.rename and not words:
        raise UsageError(f"{arguments.rename}: none of the tagger's tags, which are {', '.join(targets)}")
    return Rules(
        words=words,
        field=arguments.field,
        separator=arguments.separator,
        most=arguments.most,
        only=only,
        exclude=exclude,
        unmeasured=arguments.unmeasured,
        place=arguments.valence_arousal,
    )


def _check_measured(tagger: Tagger, rules: Rules) -> None:
    """`UsageError` if this tagger has nothing that these rules would write."""
    from jamendo_mood.library.writing import MEASURED

    if rules.place:
        return
    if tagger.task.scale is not None:
        raise UsageError(f"{tagger.task.name} says numbers and no moods: --valence-arousal writes valence and arousal")
    if rules.unmeasured:
        return
    name, rest = tagger.task.name, "--unmeasured writes them all the same"
    if tagger.ranks:
        raise UsageError(
            f"nothing would be written: {name} ranks moods, and nobody has measured from where on a song has one. "
            "--unmeasured writes the highest three of each song all the same. --tagger audioset, and taggers that you "
            "train, decide by what was measured"
        )
    if MEASURED.isdisjoint(tagger.grades):
        raise UsageError(f"nothing would be written: no tag of {name} was graded fair or better; {rest}")


COMMANDS = {
    "write": Command(
        _add_write,
        write,
        "each file is as it was, or changed; `jamendo-mood write --undo` puts back what was changed",
    )
}
