"""`write`: the moods of songs into the songs' own tags, and back."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.audio import decoding, file_tags
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, DOUBTFUL, SOME_FAILED, Command
from jamendo_mood.library import writing
from jamendo_mood.library.scoring import score_store
from jamendo_mood.library.similarity import find_target
from jamendo_mood.library.writing import Change, Rules
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import place_of
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import AudioError, UsageError
from jamendo_mood.util.plaintext import BOLD, FAINT, GREEN, RED, CountProgress, count, note, read_columns, show, style

LAST = Path("the last journal")

Scored = Iterator[tuple[Path, Any, str]]  # files, each with its scores, None where that has failed, and its remark


def _add_write(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", type=Path, nargs="*", metavar="FILE", help="audio files, or folders of them")
    add("--apply", action="store_true", help="change the files; without it, what would change is shown")
    undo = "put back what a run changed (default: the last run), where it is still as we wrote it"
    add("--undo", type=Path, nargs="?", const=LAST, metavar="JOURNAL", help=undo)
    add("--journal", type=Path, metavar="FILE", help="where to note what was there before, for --undo")
    shared.add_tagger(parser)
    songs = "embeddings of the folder, so that no song is decoded"
    add("--store", type=shared.path_or_url, metavar="DIR", help=songs)
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
    file_tags.check_mutagen()
    if arguments.undo is not None:
        return _undo(arguments)
    if not arguments.files:
        raise UsageError("name songs, or folders of them")
    if arguments.store is None:
        paths, _ = shared.sort_inputs(arguments.files)
        tagger = shared.load_tagger(arguments)
        scored = _from_sound(arguments, tagger, paths)
    elif len(arguments.files) > 1 or not arguments.files[0].is_dir():
        raise UsageError("--store holds the embeddings of a folder: name that folder, and nothing else")
    else:
        store = shared.open_store(arguments)
        tagger = shared.load_tagger(arguments, store.spec)
        scored = _from_store(store, tagger, arguments.files[0])
    changes, same, problems = _plan(scored, tagger, _read_rules(arguments, tagger))
    if not arguments.apply:
        return _sum_up(len(changes), "would change", same, problems, "; nothing is written without --apply")
    if changes:
        journal = arguments.journal or writing.new_journal()
        writing.keep_journal(journal, changes)
        note(f"to undo it: jamendo-mood write --undo {shlex.quote(str(journal))}")
    return _apply(changes, arguments, "changed", same, problems)


def _plan(scored: Scored, tagger: Tagger, rules: Rules) -> tuple[list[Change], int, int]:
    """What would change, which is shown; how many files need no change, and of how many that cannot be said."""
    changes: list[Change] = []
    same, problems, ranked = 0, 0, "  (only ranked)" if tagger.ranks else ""
    for path, scores, remark in scored:
        if scores is None:  # which has been told
            problems += 1
            continue
        try:
            if decoding.IN_PART in remark:
                raise AudioError(f"{path}: left as it is: only {remark}; perhaps it is still being copied")
            moods = writing.choose_moods(tagger, scores, rules)
            change = writing.plan(path, [*moods], tagger, scores, rules)
        except AudioError as error:
            problems += 1
            note(f"failed: {error}")
            continue
        if change.after:
            changes.append(change)
            _print_change(change, {mood: f"  ({own})" if own in DOUBTFUL else ranked for mood, own in moods.items()})
        else:
            same += 1
    return changes, same, problems


def _undo(arguments: argparse.Namespace) -> int:
    if arguments.files or arguments.apply:
        raise UsageError("--undo goes by a journal alone: name no songs, and leave out --apply")
    changes, problems, same = writing.plan_undo(writing.last_journal() if arguments.undo is LAST else arguments.undo)
    for problem in problems:
        note(f"failed: {problem}")
    for change in changes:
        _print_change(change, {})
    return _apply(changes, arguments, "put back", same, len(problems))


def _apply(changes: Sequence[Change], arguments: argparse.Namespace, verb: str, same: int, problems: int) -> int:
    progress, done = CountProgress("writing"), 0
    for number, problem in enumerate(writing.apply(changes, keep_times=arguments.keep_times), start=1):
        progress(number, len(changes))
        if problem:
            note(f"failed: {problem}")
        else:
            done += 1
    return _sum_up(done, verb, same, problems + len(changes) - done)


def _sum_up(changed: int, verb: str, same: int, problems: int, end: str = "") -> int:
    failed = f", {problems} failed" if problems else ""
    print(f"{count(changed, 'file')} {verb}, {same} need{'s' if same == 1 else ''} no change{failed}{end}")
    return SOME_FAILED if problems else DONE


def _print_change(change: Change, doubts: Mapping[str, str]) -> None:
    """The lines of a diff: moods that stay, go and come, and what is to be said of those that come."""
    print(style(show(str(change.path)), BOLD))
    for name, after in change.after.items():
        if name.startswith(file_tags.MARK):
            continue
        field = f"{name} " if name.startswith("JAMENDO_") else ""
        old, new = (list(itertools.chain(*map(file_tags.split, values))) for values in (change.before[name], after))
        lines = [("  ", mood, FAINT) for mood in old if mood in new]
        lines += [("- ", mood, RED) for mood in old if mood not in new]
        lines += [("+ ", mood + doubts.get(mood, ""), GREEN) for mood in new if mood not in old]
        for sign, mood, colour in lines:
            print(style(show(f"  {sign}{field}{mood}"), colour))


def _from_sound(arguments: argparse.Namespace, tagger: Tagger, paths: list[Path]) -> Scored:
    each_once = [*{os.path.realpath(path): path for path in paths}.values()]
    for path, result in shared.predict_files(each_once, tagger, arguments).items():
        yield (path, None, "") if isinstance(result, str) else (path, result.track_scores, result.remark)


def _from_store(store: EmbeddingStore, tagger: Tagger, folder: Path) -> Scored:
    found = decoding.find_audio(folder)
    scored = score_store(store, tagger, CountProgress("scoring"))
    keys = scored.keys.tolist()
    remarks = store.remarks(keys)
    for key, scores in zip(keys, scored.scores, strict=True):
        path, remark = found.pop(unicodedata.normalize("NFC", key), None), remarks.get(key, "")
        if path is not None and decoding.SILENT not in remark:
            yield path, scores, remark
    if found:
        note(f"{count(len(found), 'file')} of {folder} not in {store.root}: `extract` adds them")


def _read_rules(arguments: argparse.Namespace, tagger: Tagger) -> Rules:
    """Which tags are written, and how; `UsageError` if none ever would be."""
    task = tagger.task
    words = {tag: tag.removesuffix(" music") for tag in task.targets}  # as AudioSet calls them
    if arguments.rename:
        words |= _read_words(arguments.rename, task.targets)
    named = arguments.only or task.targets, arguments.exclude
    only, exclude = ({task.targets[find_target(tag, task.targets)] for tag in tags} for tags in named)
    allowed = only - exclude
    if not arguments.unmeasured:
        grades = zip(task.targets, tagger.grades, strict=True)
        allowed &= set() if tagger.ranks else {tag for tag, grade in grades if grade not in DOUBTFUL}
    why = ""
    if arguments.valence_arousal:
        if place_of(task, tagger.thresholds, np.zeros(len(words), np.float32)) is None:
            why = "its tags say nothing of valence and arousal"
    elif task.scale is not None:
        why = "it says numbers and no moods; --valence-arousal writes valence and arousal"
    elif tagger.ranks and not allowed:
        why = (
            "it only ranks moods: nobody has measured the score from which a song has one. --unmeasured writes the "
            "highest three of each song nevertheless; --tagger audioset, or one that you train, goes by thresholds"
        )
    elif not allowed:
        why = "no tag that you allow was graded fair or better; see --unmeasured"
    if why:
        raise UsageError(f"nothing would be written by {task.name}: {why}")
    words = {tag: word for tag, word in words.items() if tag in allowed and task.scale is None}
    return Rules(words, arguments.most, arguments.field, arguments.separator, arguments.valence_arousal)


def _read_words(table: Path, targets: Sequence[str]) -> dict[str, str]:
    """The words of a table by the tags that they are for; `UsageError` if none of them is one of the targets."""
    words = {}
    for row in read_columns(table, ("tag", "word")):
        with suppress(UsageError):  # a tag of another tagger: the table may be for several
            words[targets[find_target(row["tag"].strip(), targets)]] = row["word"].strip()
    if not words:
        raise UsageError(f"{table}: renames none of the tagger's tags, which are {', '.join(targets)}")
    return words


INTERRUPTED = "each file is as it was, or changed; `jamendo-mood write --undo` puts those back"

COMMANDS = {"write": Command(_add_write, write, INTERRUPTED)}
