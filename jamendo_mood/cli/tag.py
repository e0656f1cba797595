"""`tag`, `spectrogram` and `web`: songs in, moods out, in a terminal or on a page."""

from __future__ import annotations

import argparse
import functools
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jamendo_mood.audio import decoding, ffmpeg, spectrograms
from jamendo_mood.audio.spectrograms import Spectrogram
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, DOUBTFUL, SOME_FAILED, Command
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.tagging.analysis import MEGABYTE, Limits
from jamendo_mood.tagging.emotions import Place, mood_in_words, place_of
from jamendo_mood.tagging.prediction import Prediction, clock, predict_stored, to_csv, to_document
from jamendo_mood.tasks import KINDS
from jamendo_mood.util.errors import AudioError, UsageError
from jamendo_mood.util.files import Scratch, write_output
from jamendo_mood.util.plaintext import BOLD, FAINT, TrackProgress, block, say, show, style, to_json, width

PICTURE_COLUMNS, PICTURE_DPI = 2_000, 150  # of a spectrogram with axes: more columns than pixels would not be seen
BAR_CELLS = 20  # of a score of 1
NUMBER_WIDTH = 5  # of a score over time, with a sign and two decimals


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
        print(to_json(to_document(predictions, errors, count, timeline=timeline)))
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
        cells = max(0, min(BAR_CELLS, width() - len(line) - len(doubt)))
        bar = f"{line}{block() * round(cells * prediction.share(score))}".rstrip()
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
    lines = "\n".join(textwrap.wrap(text, width(), subsequent_indent="  ", break_on_hyphens=False))
    print(style(lines, code) if code else lines)


def _print_timeline(prediction: Prediction, count: int) -> None:
    columns = prediction.order[:count]
    widths = {column: max(len(prediction.targets[column]), NUMBER_WIDTH) for column in columns}
    say("  seconds  " + "  ".join(f"{prediction.targets[column]:>{wide}}" for column, wide in widths.items()))
    for start_s, row in zip(prediction.times_s, prediction.frame_scores, strict=True):
        print(f"  {start_s:7.2f}  " + "  ".join(f"{row[column]:{wide}.2f}" for column, wide in widths.items()))
    print()


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
    shared.need("a picture", "matplotlib", "notebook")
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
    shared.need("the web page", "fastapi", "web")
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
    "spectrogram": Command(_add_spectrogram, spectrogram),
    "web": Command(_add_web, web),
}
