"""`write`: the moods of songs into the songs' own tags, and back."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jamendo_mood.audio import decoding, file_tags
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, DOUBTFUL, SOME_FAILED, Command
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.tagging.emotions import place_of
from jamendo_mood.util import files, plaintext
from jamendo_mood.util.errors import AudioError, UsageError
from jamendo_mood.util.plaintext import CountProgress, TrackProgress, count

if TYPE_CHECKING:
    from jamendo_mood.library.writing import Change, Rules
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.training.model import Tagger

LAST = Path("the last journal")

Scored = Iterator[tuple[Path, Any]]  # files, each with its scores, or with why there are none


def _add_write(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", type=Path, nargs="*", metavar="FILE", help="audio files, or folders of them")
    add("--apply", action="store_true", help="change the files; without it, what would change is shown")
    undo = "put back what a run changed (default: the last run), where it is still as we wrote it"
    add("--undo", type=Path, nargs="?", const=LAST, metavar="JOURNAL", help=undo)
    add("--journal", type=Path, metavar="FILE", help="where to note what was there before, for --undo")
    shared.add_tagger(parser, "audioset if VGGish's weights are on this machine, else musicnn")
    add("--store", type=Path, metavar="DIR", help="embeddings of the folder, so that no song is decoded")
    add("--unmeasured", action="store_true", help="also moods that were never measured, or are weak")
    add("--most", type=shared.positive, metavar="N", help="moods of a song (default: all; 3 if they are only ranked)")
    add("--only", action="append", default=[], metavar="TAG", help="write this one; may be given several times")
    add("--exclude", action="append", default=[], metavar="TAG", help="leave this one out; may be given several times")
    add("--rename", type=Path, metavar="CSV", help="your words for tags: a table with the columns tag and word")
    add("--valence-arousal", action="store_true", help="these, too, from -1 to 1, in fields of their own")
    add("--field", type=_field, default=file_tags.MOOD, metavar="NAME", help="where moods are written (default MOOD)")
    add("--separator", default="", metavar="TEXT", help='write moods as one value with this between them, such as "; "')
    add("--keep-times", action="store_true", help="leave times of modification as they were")
    shared.add_weights(parser)


def _field(text: str) -> str:
    if not (text.isascii() and text.isidentifier()) or text.upper().startswith("JAMENDO_"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of a field, such as MOOD or MY_MOODS")
    return text.upper()


def write(arguments: argparse.Namespace) -> int:
    """Write moods into the songs' own tags; without --apply, show what would change."""
    from jamendo_mood.library import writing
    from jamendo_mood.store.embedding_store import EmbeddingStore

    file_tags.check_mutagen()
    if arguments.undo is not None:
        return _undo(arguments)
    store = None if arguments.store is None else EmbeddingStore(arguments.store)
    paths = _list_files(arguments.files, in_store=store is not None)
    tagger = shared.load_tagger(arguments, [] if store is None else [store.spec])
    rules = _read_rules(arguments, tagger)
    _check_measured(tagger, rules)
    changes: list[Change] = []
    same, problems, ranked = 0, 0, "  (only ranked)" if tagger.ranks else ""
    scored = _from_sound(arguments, tagger, paths) if store is None else _from_store(store, tagger, paths[0])
    for path, scores in scored:
        try:
            if isinstance(scores, AudioError):
                raise scores
            moods = writing.choose_moods(tagger, scores, rules)
            change = writing.plan(path, [*moods], tagger, scores, rules)
        except AudioError as error:
            problems += 1
            plaintext.note(f"failed: {error}")
            continue
        if change.after:
            changes.append(change)
            doubts = {mood: f"  ({grade})" if grade in DOUBTFUL else ranked for mood, grade in moods.items()}
            _print_change(change, doubts)
        else:
            same += 1
    if not arguments.apply:
        print(f"{_sum_up(len(changes), 'would change', same, problems)}; nothing is written without --apply")
        return SOME_FAILED if problems else DONE
    journal = arguments.journal or writing.new_journal()
    if changes:
        writing.keep_journal(journal, changes)
        plaintext.note(f"to undo it: jamendo-mood write --undo {shlex.quote(str(journal))}")
    return _apply(changes, arguments, "changed", same, problems)


def _undo(arguments: argparse.Namespace) -> int:
    from jamendo_mood.library import writing

    if arguments.files or arguments.apply:
        raise UsageError("--undo goes by a journal alone: name no songs, and leave out --apply")
    changes, problems, same = writing.plan_undo(writing.last_journal() if arguments.undo is LAST else arguments.undo)
    for problem in problems:
        plaintext.note(f"failed: {problem}")
    for change in changes:
        _print_change(change, {})
    return _apply(changes, arguments, "put back", same, len(problems))


def _apply(changes: Sequence[Change], arguments: argparse.Namespace, verb: str, same: int, problems: int) -> int:
    from jamendo_mood.library import writing

    progress, left = CountProgress("writing"), 0
    for number, problem in enumerate(writing.apply(changes, keep_times=arguments.keep_times), start=1):
        progress(number, len(changes))
        if problem:
            left += 1
            plaintext.note(f"failed: {problem}")
    print(_sum_up(len(changes) - left, verb, same, problems + left))
    return SOME_FAILED if problems or left else DONE


def _sum_up(changed: int, verb: str, same: int, problems: int) -> str:
    failed = f", {problems} failed" if problems else ""
    return f"{count(changed, 'file')} {verb}, {same} need{'s' if same == 1 else ''} no change{failed}"


def _print_change(change: Change, doubts: Mapping[str, str]) -> None:
    """The lines of a diff: moods that stay, go and come, and what is to be said of those that come."""
    print(plaintext.style(plaintext.show(str(change.path)), plaintext.BOLD))
    for name, after in change.after.items():
        if name.startswith(file_tags.MARK):
            continue
        field = f"{name} " if name.startswith("JAMENDO_") else ""
        old, new = (list(itertools.chain(*map(file_tags.split, values))) for values in (change.before[name], after))
        lines = [("  ", mood, plaintext.FAINT) for mood in old if mood in new]
        lines += [("- ", mood, plaintext.RED) for mood in old if mood not in new]
        lines += [("+ ", mood + doubts.get(mood, ""), plaintext.GREEN) for mood in new if mood not in old]
        for sign, mood, colour in lines:
            print(plaintext.style(plaintext.show(f"  {sign}{field}{mood}"), colour))


def _list_files(paths: list[Path], *, in_store: bool) -> list[Path]:
    """The audio files, each once however it is named; or the folder that the embeddings are of."""
    if in_store and (len(paths) != 1 or not paths[0].is_dir()):
        raise UsageError("--store holds the embeddings of a folder: name that folder, and nothing else")
    if missing := [path for path in paths if not path.exists()]:
        raise UsageError(f"{missing[0]}: no such file or folder")
    if in_store:
        return paths
    found = [path for given in paths for path in (decoding.list_audio(given) if given.is_dir() else [given])]
    if not found:
        raise UsageError(f"no audio files in {', '.join(map(str, paths)) or 'nothing: name songs, or folders of them'}")
    return [*{os.path.realpath(path): path for path in found}.values()]


def _from_sound(arguments: argparse.Namespace, tagger: Tagger, paths: list[Path]) -> Scored:
    from jamendo_mood.tagging.prediction import predict_files

    embedder = load_embedder(tagger.spec, EmbedderOptions.of(arguments))
    tagger.warm_up()
    results: dict[Path, Any] = {}
    with TrackProgress(len(paths), "decoded, embedded and scored") as progress:
        for path, result in predict_files(paths, tagger, embedder):
            if isinstance(result, str):
                results[path] = AudioError(result)
                progress.advance(0.0)
            else:
                results[path] = _in_part(path, result.remark) or result.track_scores
                progress.advance(result.duration_s)
    yield from ((path, results[path]) for path in paths)


def _from_store(store: EmbeddingStore, tagger: Tagger, folder: Path) -> Scored:
    from jamendo_mood.library.similarity import open_library

    library = open_library(store, tagger, folder, CountProgress("scoring"))
    if missing := len(decoding.list_audio(folder)) - len(library.files):
        plaintext.note(f"{count(missing, 'file')} of {folder} not in {store.root}, or silent: `extract` adds them")
    remarks = store.remarks(library.files)
    for key, path in library.files.items():
        yield path, _in_part(path, remarks.get(key, "")) or library.scores[library.row(key)]


def _in_part(path: Path, remark: str) -> AudioError | None:
    why = f"{path}: left as it is: only {remark}; perhaps it is still being copied"
    return AudioError(why) if decoding.IN_PART in remark else None


def _read_rules(arguments: argparse.Namespace, tagger: Tagger) -> Rules:
    from jamendo_mood.library.similarity import find_target
    from jamendo_mood.library.writing import Rules

    targets, words = tagger.task.targets, {}
    named = arguments.only, arguments.exclude
    only, exclude = (frozenset(targets[find_target(name, targets)] for name in names) for names in named)
    for row in files.read_columns(arguments.rename, ("tag", "word")) if arguments.rename else []:
        with suppress(UsageError):  # a tag of another tagger: the table may be for several
            words[targets[find_target(row["tag"].strip(), targets)]] = row["word"].strip()
    if arguments.rename and not words:
        raise UsageError(f"{arguments.rename}: renames none of the tagger's tags, which are {', '.join(targets)}")
    given = arguments.field, arguments.separator, arguments.most, only, exclude
    return Rules(words, *given, arguments.unmeasured, arguments.valence_arousal)


def _check_measured(tagger: Tagger, rules: Rules) -> None:
    """`UsageError` if there is nothing that this tagger would ever write."""
    from jamendo_mood.library.writing import MEASURED

    name, says_moods = tagger.task.name, tagger.task.scale is None
    if rules.place:
        nothing = np.zeros(len(tagger.task.targets), np.float32)
        if place_of(tagger.task, tagger.thresholds, nothing) is None:
            raise UsageError(f"--valence-arousal: the tags of {name} say nothing of these")
    elif not says_moods:
        raise UsageError(f"nothing would be written: {name} says numbers; --valence-arousal writes its two")
    elif tagger.ranks and not rules.unmeasured:
        raise UsageError(
            f"nothing would be written: {name} ranks moods, and from where on a song has one was never measured. "
            "--unmeasured writes the three highest of each song all the same; --tagger audioset, or a tagger that you "
            "train, decides by what was measured"
        )
    elif MEASURED.isdisjoint(tagger.grades) and not rules.unmeasured:
        raise UsageError(f"nothing would be written: no tag of {name} was graded fair or better; see --unmeasured")


INTERRUPTED = "each file is as it was, or changed; `jamendo-mood write --undo` puts those back"

COMMANDS = {"write": Command(_add_write, write, INTERRUPTED)}
