"""`tag`, `write`, `spectrogram` and `web`: songs in, moods out, in a terminal, in the songs' own tags, or on a page."""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import shlex
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.audio import decoding, ffmpeg, file_tags, spectrograms
from jamendo_mood.audio.spectrograms import Spectrogram
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, DOUBTFUL, SOME_FAILED, Command
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.library import writing
from jamendo_mood.library.similarity import find_target, score_store
from jamendo_mood.library.writing import Change, Rules
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.analysis import MEGABYTE, Limits
from jamendo_mood.tagging.emotions import Place, mood_in_words, place_of
from jamendo_mood.tagging.prediction import Prediction, clock, predict_stored, to_csv, to_document
from jamendo_mood.tasks import KINDS
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import AudioError, UsageError, need
from jamendo_mood.util.files import Scratch, write_output
from jamendo_mood.util.plaintext import BOLD, FAINT, GREEN, RED, CountProgress, TrackProgress, note, say, show, style

PICTURE_COLUMNS, PICTURE_DPI = 2_000, 150  # of a spectrogram with axes: more columns than pixels would not be seen
BAR_CELLS = 20  # of a score of 1
NUMBER_WIDTH = 5  # of a score over time, with a sign and two decimals
LAST = Path("the last journal")

Scored = Iterator[tuple[Path, Any, str]]  # files, each with its scores, None where that has failed, and its remark


def _add_tag(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="audio files, folders of them, or a store")
    shared.add_tagger(parser)
    shared.add_weights(parser)
    add("--embedder", metavar="NAME", help="not needed: the tagger knows what it was trained on")
    add("--top", type=shared.positive, metavar="N", help="tags to show (default 10; 5 if only ranked)")
    add("--timeline", action="store_true", help="scores over time, of each frame, too")
    shared.add_places(parser)
    shared.add_format(parser, "table", "json", "csv")


def tag(arguments: argparse.Namespace) -> int:
    """Tag audio files, folders of them, or a store."""
    files, stores = shared.sort_inputs(arguments.files)
    tagger = shared.load_tagger(arguments, stores[0].spec if stores else None)
    if arguments.embedder not in (None, tagger.spec.name):
        raise UsageError(
            f"this tagger was trained on {tagger.spec.name} embeddings, and knows no others: train one on a store that "
            f"`extract --embedder {arguments.embedder}` made, and name it with --tagger"
        )
    places = shared.read_tag_places(tagger, arguments.places)
    predictions = [prediction for store in stores for prediction in predict_stored(store, tagger)]
    results = shared.predict_files(files, tagger, arguments) if files else {}
    predictions += [result for result in results.values() if not isinstance(result, str)]
    if places is not None:
        for number, prediction in enumerate(predictions):
            va = place_of(tagger.task, tagger.thresholds, prediction.track_scores, places)
            predictions[number] = replace(prediction, place=None if va is None else Place(*va.tolist()))
    count = arguments.top or (5 if tagger.ranks else 10)
    errors = [(str(path), result) for path, result in results.items() if isinstance(result, str)]
    print_predictions(predictions, arguments.format, count, timeline=arguments.timeline, errors=errors)
    return SOME_FAILED if errors else DONE


def print_predictions(
    predictions: list[Prediction], form: str, count: int, *, timeline: bool, errors: Sequence[tuple[str, str]] = ()
) -> None:
    """Print the highest tags or classes of each track, or its values; with `timeline` over time too."""
    if form == "json":
        print(plaintext.to_json(to_document(predictions, errors, count, timeline=timeline)))
    elif form == "csv":
        print(to_csv(predictions, count, timeline=timeline), end="")
    else:
        for prediction in predictions:
            _print_targets(prediction, count)
            if timeline:
                _print_timeline(prediction, count)
        for text in dict.fromkeys(text for prediction in predictions for text in _list_footnotes(prediction, count)):
            _print_wrapped(f"({text})", FAINT)


def _print_targets(prediction: Prediction, count: int) -> None:
    named = " - ".join(filter(None, (prediction.artist, prediction.title)))
    heading = "  ".join(filter(None, (prediction.source, named, f"({clock(prediction.duration_s)})")))
    _print_wrapped(show(heading), BOLD)
    if prediction.remark:
        _print_wrapped(show(f"  ({prediction.remark})"))
    rules = KINDS[prediction.kind]
    for target, score, decided in prediction.top(count):
        grade = prediction.grade(target)
        doubt = f"  ({grade})" if grade in DOUBTFUL else ""
        line = show(f"  {target:20} {score:.3f} {'*' if rules.columns[2] and decided else ' '} ")
        cells = max(0, min(BAR_CELLS, plaintext.width() - len(line) - len(doubt)))
        bar = f"{line}{plaintext.block() * round(cells * prediction.share(score))}".rstrip()
        print(bar + (style(doubt, FAINT) if doubt else ""))
    none_decided = rules.footnotes[1]
    if none_decided and not prediction.ranks and not prediction.decided.any():
        _print_wrapped(f"  ({none_decided.format(*prediction.scale or ())})")
    if prediction.place is not None:
        _print_wrapped(f"  {mood_in_words(*prediction.place)}")
    print()


def _list_footnotes(prediction: Prediction, count: int) -> list[str]:
    """What needs to be said of the scores of a song, and is said once of all songs."""
    rules, grades = KINDS[prediction.kind], {prediction.grade(tag) for tag, _, _ in prediction.top(count)}
    text = rules.only_ranked if prediction.ranks else rules.footnotes[0]
    texts = [text.format(*prediction.scale or ())] if prediction.ranks or prediction.decided.any() else []
    texts += [DOUBTFUL[grade] for grade in DOUBTFUL if grade in grades]
    if prediction.place is None and not prediction.ranks and not prediction.scale:
        texts.append(f"no place on the plane: our table has none of these {rules.plural}; --places CSV names yours")
    return texts


def _print_wrapped(text: str, code: int | None = None) -> None:
    """Print a line, in as many as the terminal needs."""
    lines = "\n".join(textwrap.wrap(text, plaintext.width(), subsequent_indent="  ", break_on_hyphens=False))
    print(style(lines, code) if code else lines)


def _print_timeline(prediction: Prediction, count: int) -> None:
    columns = prediction.order[:count]
    widths = {column: max(len(prediction.targets[column]), NUMBER_WIDTH) for column in columns}
    say("  seconds  " + "  ".join(f"{prediction.targets[column]:>{wide}}" for column, wide in widths.items()))
    for start_s, row in zip(prediction.times_s, prediction.frame_scores, strict=True):
        print(f"  {start_s:7.2f}  " + "  ".join(f"{row[column]:{wide}.2f}" for column, wide in widths.items()))
    print()


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
    need("writing moods", "files", "mutagen")
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
    changes, same, problems = _plan_changes(scored, tagger, _read_rules(arguments, tagger))
    if not arguments.apply:
        return _sum_up(len(changes), "would change", same, problems, "; nothing is written without --apply")
    if changes:
        journal = arguments.journal or writing.new_journal()
        writing.keep_journal(journal, changes)
        note(f"to undo it: jamendo-mood write --undo {shlex.quote(str(journal))}")
    return _apply_changes(changes, arguments, "changed", same, problems)


def _plan_changes(scored: Scored, tagger: Tagger, rules: Rules) -> tuple[list[Change], int, int]:
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
    return _apply_changes(changes, arguments, "put back", same, len(problems))


def _apply_changes(
    changes: Sequence[Change], arguments: argparse.Namespace, verb: str, same: int, problems: int
) -> int:
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
    print(f"{plaintext.count(changed, 'file')} {verb}, {same} need{'s' if same == 1 else ''} no change{failed}{end}")
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
        note(f"{plaintext.count(len(found), 'file')} of {folder} not in {store.root}: `extract` adds them")


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
    for row in plaintext.read_columns(table, ("tag", "word")):
        with suppress(UsageError):  # a tag of another tagger: the table may be for several
            words[targets[find_target(row["tag"].strip(), targets)]] = row["word"].strip()
    if not words:
        raise UsageError(f"{table}: renames none of the tagger's tags, which are {', '.join(targets)}")
    return words


def _add_spectrogram(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help="an audio file, or a folder of them")
    add("target", type=Path, metavar="OUT", help="a .png; a folder if IN is one: IN/a.mp3, OUT/a.png")
    start = "draw from second S on (default: the minute from 1:00, or a file that ends before 2:00 whole; 0: any whole)"
    add("--start", type=float, metavar="S", help=start)
    add("--duration", type=float, metavar="S", help="draw so many seconds (from the start, or --start)")
    add("--grey", action="store_true", help="in greys, not in colour")
    add("--bare", action="store_true", help="without axes: a pixel for each 10 ms and mel band, 64 pixels high")


def spectrogram(arguments: argparse.Namespace) -> int:
    """Draw what the network hears of a song."""
    source, target = arguments.source, arguments.target
    need("a picture", "notebook", "matplotlib")
    ffmpeg.find_ffmpeg()
    spectrograms.check_stretch(arguments.start or 0.0, arguments.duration)
    if source.is_dir():
        return _draw_folder(arguments)
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: spectrograms are written as PNG, so its name must end in .png")
    with Scratch() as scratch:
        shown = _draw(source, target, arguments, scratch)
    size = f"{len(shown.values)} columns of {shown.frame_s:g} s"
    print(f"{target}: {shown.duration_s:.1f} s of {source} from {shown.start_s:g} s on, {size}")
    return DONE


def _draw_folder(arguments: argparse.Namespace) -> int:
    """Draw each file of a folder that has no picture yet, and list what failed."""
    folder = arguments.target
    if folder.is_file() or folder.suffix.lower() == ".png":
        raise UsageError(f"{folder}: {arguments.source} is a folder, so name a folder for its pictures")
    files = decoding.find_audio(arguments.source)
    if not files:
        raise UsageError(f"no audio files in {arguments.source}")
    pictures = {path: folder / f"{key}.png" for key, path in files.items()}
    missing = {path: picture for path, picture in pictures.items() if not picture.exists()}
    failed = 0
    with Scratch() as scratch, TrackProgress(len(missing)) as progress:
        for path, picture in missing.items():
            try:
                progress.advance(_draw(path, picture, arguments, scratch).duration_s)
            except (AudioError, UsageError) as error:  # UsageError: this one ends before the stretch
                failed += 1
                progress.advance(0.0, str(error))
    there = len(pictures) - len(missing)
    print(f"{folder}: {len(missing) - failed} pictures drawn, {there} were there already, {failed} failed")
    return SOME_FAILED if failed else DONE


def _draw(source: Path, target: Path, arguments: argparse.Namespace, scratch: Scratch) -> Spectrogram:
    """Write the picture of one file, and return what it shows."""
    info = ffmpeg.probe(source)
    start_s, duration_s = arguments.start or 0.0, arguments.duration
    if arguments.start is None and duration_s is None:
        start_s, duration_s = spectrograms.default_stretch(info.duration_s)
    columns = None if arguments.bare else PICTURE_COLUMNS
    compute = functools.partial(spectrograms.compute, source, scratch, columns=columns, info=info)
    try:
        shown = compute(start_s=start_s, duration_s=duration_s)
    except UsageError:
        if arguments.start is not None or duration_s is None:
            raise
        shown = compute()  # the header says that it is longer than it is
    colour = not arguments.grey
    if arguments.bare:
        content = spectrograms.png_bytes(shown, colour)
    else:
        content = spectrograms.plot_spectrogram(shown, colour).to_png(PICTURE_DPI)
    write_output(target, content)
    return shown


def _add_web(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    shared.add_tagger(parser)
    shared.add_weights(parser)
    add("--store", type=shared.path_or_url, metavar="DIR", help="embeddings of a library, to find music in")
    add("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to play its music")
    add("--port", type=shared.whole, default=8866, metavar="N", help="default 8866; 0: any free one")
    add("--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1; 0.0.0.0 serves others too, with a token")
    for name, default, what in (
        ("--visitors", 200, "visitors at the same time"),
        ("--max-mb", 200, "the largest upload"),
        ("--max-minutes", 120, "the longest song"),
        ("--idle-minutes", 20, "until the place of an idle visitor is given to others"),
    ):
        add(name, type=shared.positive, default=default, metavar="N", help=f"{what} ({default})")
    add("--examples", type=Path, nargs="+", default=[], metavar="SONG", help="songs to try by a click")
    for name, dest, what in (
        ("--kernels", "visitors", "what --visitors was called before"),
        ("--warm", "warm", "without effect: there are no kernels to keep ready any more"),
    ):
        add(name, dest=dest, type=shared.whole, default=argparse.SUPPRESS, metavar="N", help=what)
    add("--no-browser", action="store_true", help="do not open the page in a browser")


def web(arguments: argparse.Namespace) -> int:
    """Serve a page where anybody can upload a song and see its moods."""
    need("the web page", "web", "fastapi")
    from jamendo_mood.app.server import WebConfig, run_web

    if arguments.audio is not None and arguments.store is None:
        raise UsageError("--audio is the music of a library: give its embeddings with --store DIR")
    for song in arguments.examples:
        if not song.is_file():
            raise UsageError(f"{song}: no such file, to be an example")
    store = None if arguments.store is None else shared.open_store(arguments)
    tagger = shared.load_tagger(arguments, None if store is None else store.spec)
    library = None if store is None else shared.open_library(arguments, store, tagger)
    config = WebConfig(
        host=arguments.host,
        port=arguments.port,
        visitors=arguments.visitors,
        idle_s=60.0 * arguments.idle_minutes,
        limits=Limits(arguments.max_mb * MEGABYTE, 60.0 * arguments.max_minutes, paths=False),
        browser=not arguments.no_browser,
        examples=tuple(arguments.examples),
    )
    options = EmbedderOptions.of(arguments)
    run_web(tagger, lambda: load_embedder(tagger.spec, options), library, config)
    return DONE


COMMANDS = {
    "tag": Command(_add_tag, tag, "the same command starts again; scores that a store has kept are not computed again"),
    "write": Command(
        _add_write, write, "each file is as it was, or changed; `jamendo-mood write --undo` puts those back"
    ),
    "spectrogram": Command(_add_spectrogram, spectrogram),
    "web": Command(_add_web, web),
}
