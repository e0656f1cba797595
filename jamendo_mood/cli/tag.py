"""`tag`, `spectrogram` and `web`: songs in, moods out, in a terminal or on a page."""

from __future__ import annotations

import argparse
import functools
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jamendo_mood.audio import decoding, ffmpeg, spectrograms
from jamendo_mood.audio.spectrograms import Spectrogram
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, DOUBTFUL, SOME_FAILED, Command
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.tagging.emotions import Place, mood_in_words, place_of
from jamendo_mood.tasks import KINDS
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import AudioError, UsageError
from jamendo_mood.util.files import Scratch, write_output
from jamendo_mood.util.plaintext import TrackProgress, say

if TYPE_CHECKING:
    from jamendo_mood.tagging.prediction import Prediction

PICTURE_COLUMNS, PICTURE_DPI = 2_000, 150  # of a spectrogram with axes: more columns than pixels would not be seen
BAR_CELLS = 20  # of a score of 1
NUMBER_WIDTH = 5  # of a score over time, with a sign and two decimals


def _add_tag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="audio files, folders of them, or a store")
    shared.add_tagger(parser, "audioset if VGGish's weights are on this machine, else musicnn")
    shared.add_weights(parser)
    parser.add_argument("--embedder", metavar="NAME", help="not needed: the tagger knows what it was trained on")
    parser.add_argument("--top", type=shared.positive, metavar="N", help="tags to show (default 10; 5 if only ranked)")
    parser.add_argument("--timeline", action="store_true", help="scores over time, of each frame, too")
    shared.add_places(parser)
    shared.add_format(parser, "table", "json", "csv")


def tag(arguments: argparse.Namespace) -> int:
    """Tag audio files, folders of them, or a store."""
    from jamendo_mood.tagging.prediction import predict_stored

    files, stores = shared.sort_inputs(arguments.files)
    tagger = shared.load_tagger(arguments, [store.spec for store in stores])
    if arguments.embedder not in (None, tagger.spec.name):
        raise UsageError(
            f"this tagger was trained on {tagger.spec.name} embeddings, and knows no others: train one on a store that "
            f"`extract --embedder {arguments.embedder}` made, and name it with --tagger"
        )
    for store in stores:
        tagger.check_spec(store.spec)
    places = shared.read_tag_places(tagger, arguments.places)
    predictions = [prediction for store in stores for prediction in predict_stored(store, tagger)]
    results = shared.predict_files(files, tagger, arguments) if files else {}
    predictions += [result for path in files if not isinstance(result := results[path], str)]
    if arguments.places is not None:
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
        from jamendo_mood.tagging.prediction import to_document

        print(plaintext.to_json(to_document(predictions, errors, count, timeline=timeline)))
    elif form == "csv":
        from jamendo_mood.tagging.prediction import to_csv

        print(to_csv(predictions, count, timeline=timeline), end="")
    else:
        for prediction in predictions:
            _print_targets(prediction, count)
            if timeline:
                _print_timeline(prediction, count)
        for text in dict.fromkeys(text for prediction in predictions for text in _list_footnotes(prediction, count)):
            _print_wrapped(f"({text})", plaintext.FAINT)


def _print_targets(prediction: Prediction, count: int) -> None:
    named = " - ".join(text for text in (prediction.artist, prediction.title) if text)
    minutes, seconds = divmod(round(prediction.duration_s), 60)
    heading = f"{prediction.source}  {named}  ({minutes}:{seconds:02d})".replace("    ", "  ")
    _print_wrapped(plaintext.show(heading), plaintext.BOLD)
    if prediction.remark:
        _print_wrapped(plaintext.show(f"  ({prediction.remark})"))
    *_, decides = KINDS[prediction.kind].columns
    for target, score, decided in prediction.top(count):
        grade = prediction.grade(target)
        doubt = f"  ({grade})" if grade in DOUBTFUL else ""
        line = plaintext.show(f"  {target:20} {score:.3f} {'*' if decides and decided else ' '} ")
        cells = max(0, min(BAR_CELLS, plaintext.width() - len(line) - len(doubt)))
        bar = f"{line}{plaintext.block() * round(cells * prediction.share(score))}".rstrip()
        print(bar + (plaintext.style(doubt, plaintext.FAINT) if doubt else ""))
    none_decided = KINDS[prediction.kind].footnotes[1]
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
    lines = textwrap.wrap(text, plaintext.width(), subsequent_indent="  ", break_on_hyphens=False)
    print(plaintext.style("\n".join(lines), code) if code else "\n".join(lines))


def _print_timeline(prediction: Prediction, count: int) -> None:
    columns = prediction.order[:count]
    widths = [max(len(prediction.targets[column]), NUMBER_WIDTH) for column in columns]
    named = zip(columns, widths, strict=True)
    say("  seconds  " + "  ".join(f"{prediction.targets[column]:>{width}}" for column, width in named))
    for start_s, row in zip(prediction.times_s, prediction.frame_scores[:, columns], strict=True):
        cells = (f"{score:{width}.2f}" for width, score in zip(widths, row, strict=True))
        print(f"  {start_s:7.2f}  " + "  ".join(cells))
    print()


def _add_spectrogram(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="an audio file, or a folder of them")
    parser.add_argument("target", type=Path, metavar="OUT", help="a .png; a folder if IN is one: IN/a.mp3, OUT/a.png")
    parser.add_argument(
        "--start",
        type=float,
        metavar="S",
        help="draw from second S on (without --start and --duration: the minute from 1:00, and files that end before "
        "2:00 whole; --start 0 draws every file whole)",
    )
    parser.add_argument("--duration", type=float, metavar="S", help="draw so many seconds (from the start, or --start)")
    parser.add_argument("--grey", action="store_true", help="in greys, not in colour")
    parser.add_argument(
        "--bare", action="store_true", help="without axes: a pixel for each 10 ms and mel band, 64 pixels high"
    )


def spectrogram(arguments: argparse.Namespace) -> int:
    """Draw what the network hears of a song."""
    source, target = arguments.source, arguments.target
    shared.check_matplotlib()
    ffmpeg.find_ffmpeg()
    spectrograms.check_stretch(arguments.start or 0.0, arguments.duration)
    if source.is_dir():
        return _draw_folder(arguments)
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: spectrograms are written as PNG, so its name must end in .png")
    try:
        with Scratch() as scratch:
            shown = _draw(source, target, arguments, scratch)
    except AudioError as error:
        plaintext.note(f"failed: {error}")
        return SOME_FAILED
    print(
        f"{target}: {shown.duration_s:.1f} s of {source} from {shown.start_s:g} s on, "
        f"{len(shown.values)} columns of {shown.frame_s:g} s"
    )
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
    shared.add_tagger(parser, "audioset if VGGish's weights are on this machine, else musicnn")
    shared.add_weights(parser)
    parser.add_argument("--store", type=Path, metavar="DIR", help="embeddings of a library, to find music in")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to play its music")
    parser.add_argument("--port", type=shared.whole, default=8866, metavar="N", help="default 8866; 0: any free one")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1; 0.0.0.0 serves others too, with a token"
    )
    for name, default, what in (
        ("--visitors", 200, "visitors at the same time"),
        ("--max-mb", 200, "the largest upload"),
        ("--max-minutes", 120, "the longest song"),
        ("--idle-minutes", 20, "until the place of an idle visitor is given to others"),
    ):
        parser.add_argument(name, type=shared.positive, default=default, metavar="N", help=f"{what} ({default})")
    parser.add_argument("--examples", type=Path, nargs="+", default=[], metavar="SONG", help="songs to try by a click")
    for name, dest, what in (
        ("--kernels", "visitors", "what --visitors was called before"),
        ("--warm", "warm", "without effect: there are no kernels to keep ready any more"),
    ):
        parser.add_argument(name, dest=dest, type=shared.whole, default=argparse.SUPPRESS, metavar="N", help=what)
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")


def web(arguments: argparse.Namespace) -> int:
    """Serve a page where anybody can upload a song and see its moods."""
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.tagging.analysis import MEGABYTE, Limits

    try:
        from jamendo_mood.app.server import WebConfig, run_web
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        raise UsageError(f"the web page needs {name}: `pip install jamendo-mood[web]` brings it") from error
    if arguments.audio is not None and arguments.store is None:
        raise UsageError("--audio is the music of a library: give its embeddings with --store DIR")
    for song in arguments.examples:
        if not song.is_file():
            raise UsageError(f"{song}: no such file, to be an example")
    store = None if arguments.store is None else EmbeddingStore(arguments.store)
    tagger = shared.load_tagger(arguments, [] if store is None else [store.spec])
    library = None
    if store is not None:
        tagger.check_spec(store.spec)
        library = shared.open_library(arguments, store, tagger)
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
