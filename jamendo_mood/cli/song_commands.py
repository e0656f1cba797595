"""What each command about songs does: arguments -> calls of the package -> a report -> the exit status.

Imports are inside, so that `jamendo-mood --help` loads neither TensorFlow nor pandas.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jamendo_mood.cli import mood_commands, reports
from jamendo_mood.cli.reports import DONE, SOME_FAILED
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError

if TYPE_CHECKING:
    from jamendo_mood.audio.spectrograms import Spectrogram
    from jamendo_mood.library.similarity import Array, Found, Library
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.training.model import Tagger
    from jamendo_mood.util.files import Scratch

PICTURE_COLUMNS, PICTURE_DPI = 2_000, 150  # of a spectrogram with axes: more columns than pixels would not be seen


def tag(arguments: argparse.Namespace) -> int:
    """Tag files, folders of them, or stores."""
    from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
    from jamendo_mood.tagging.prediction import predict_files, predict_stored

    tagger = _load_tagger(arguments)
    files, stores = _sort_inputs(arguments.files)
    for store in stores:
        tagger.check_spec(store.spec)
    places = mood_commands.read_tag_places(tagger, arguments.places)
    predictions = [prediction for store in stores for prediction in predict_stored(store, tagger)]
    failed = 0
    if files:
        embedder = load_embedder(tagger.spec, EmbedderOptions.of(arguments))
        tagger.warm_up()
        results = {}
        with reports.TrackProgress(len(files), "decoded, embedded and scored") as progress:
            for path, result in predict_files(files, tagger, embedder):
                results[path] = result
                if isinstance(result, str):
                    failed += 1
                    progress.advance(0.0, result)
                else:
                    progress.advance(result.duration_s)
        predictions += [result for path in files if not isinstance(result := results[path], str)]
    if arguments.places is not None:
        predictions = mood_commands.place_predictions(predictions, tagger, places)
    reports.print_predictions(predictions, arguments.format, arguments.top, timeline=arguments.timeline)
    return SOME_FAILED if failed else DONE


def _load_tagger(arguments: argparse.Namespace) -> Tagger:
    from jamendo_mood.training.model import Tagger, load_builtin

    if arguments.tagger is not None:
        return Tagger.load(arguments.tagger)
    plaintext.note("with the tagger that comes with jamendo-mood: AudioSet's 7 music moods (--tagger takes another)")
    return load_builtin()


def _sort_inputs(paths: list[Path]) -> tuple[list[Path], list[EmbeddingStore]]:
    """The audio files and the stores among the paths; folders are searched, and a path given twice counts once."""
    from jamendo_mood.audio import decoding
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.store.file_format import MANIFEST_NAME

    files: list[Path] = []
    stores = []
    for path in dict.fromkeys(paths):
        if (path / MANIFEST_NAME).is_file():
            stores.append(EmbeddingStore(path))
        elif path.is_dir():
            files += decoding.find_audio(path).values()
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: no such file, folder or store")
    if not files and not stores:
        raise UsageError(f"no audio files in {', '.join(map(str, paths))}")
    return list(dict.fromkeys(files)), stores


def spectrogram(arguments: argparse.Namespace) -> int:
    """Draw the spectrogram of a file, or of each file of a folder."""
    from jamendo_mood.audio import ffmpeg, spectrograms
    from jamendo_mood.util.errors import AudioError
    from jamendo_mood.util.files import Scratch

    source, target = arguments.source, arguments.target
    _check_matplotlib()
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
    from jamendo_mood.audio import decoding
    from jamendo_mood.util.errors import AudioError
    from jamendo_mood.util.files import Scratch

    folder = arguments.target
    if folder.is_file() or folder.suffix.lower() == ".png":
        raise UsageError(f"{folder}: {arguments.source} is a folder, so name a folder for its pictures")
    files = decoding.find_audio(arguments.source)
    if not files:
        raise UsageError(f"no audio files in {arguments.source}")
    pictures = {path: folder / f"{key}.png" for key, path in files.items()}
    missing = {path: picture for path, picture in pictures.items() if not picture.exists()}
    failed = 0
    with Scratch() as scratch, reports.TrackProgress(len(missing)) as progress:
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
    from jamendo_mood.audio import decoding, spectrograms
    from jamendo_mood.util.files import write_atomically

    info = decoding.probe(source)
    start_s, duration_s = arguments.start or 0.0, arguments.duration
    if arguments.start is None and duration_s is None:
        start_s, duration_s = spectrograms.default_stretch(info.duration_s)
    columns = None if arguments.bare else PICTURE_COLUMNS
    shown = spectrograms.compute(source, scratch, start_s=start_s, duration_s=duration_s, columns=columns, info=info)
    colour = not arguments.grey
    if arguments.bare:
        content = spectrograms.png_bytes(shown, colour)
    else:
        content = spectrograms.plot_spectrogram(shown, colour).to_png(PICTURE_DPI)
    write_atomically(target, lambda file: file.write(content))
    return shown


def _check_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"no {error.name} to draw with: `pip install jamendo-mood[notebook]` brings it") from error


def similar(arguments: argparse.Namespace) -> int:
    """Find the tracks of a store that sound like one."""
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.util.errors import AudioError

    form, store = _choose_format(arguments), EmbeddingStore(arguments.store)
    tagger = _choose_tagger(arguments, store)
    if tagger is None:
        plaintext.note("without tags, for no tagger is given that knows these embeddings (--tagger DIR)")
    try:
        track = arguments.track if _is_key(arguments.track, store) else _embed(Path(arguments.track), store, arguments)
    except AudioError as error:
        plaintext.note(f"failed: {error}")
        return SOME_FAILED
    library = _open_library(arguments, store, tagger)
    return _hand_out(library.similar(track, arguments.count), form, arguments)


def playlist(arguments: argparse.Namespace) -> int:
    """Find tracks by moods, by a place on the plane of valence and arousal, or along a path through it."""
    from jamendo_mood.library.similarity import find_target
    from jamendo_mood.store.embedding_store import EmbeddingStore

    form, store = _choose_format(arguments), EmbeddingStore(arguments.store)
    path = mood_commands.choose_path(arguments)
    tagger = _choose_tagger(arguments, store)
    if tagger is None:
        raise UsageError(f"the built-in tagger does not know {store.spec}: give one that does with --tagger DIR")
    wanted = {tagger.task.targets[find_target(name, tagger.task.targets)]: level for name, level in arguments.mood}
    for name in wanted:
        grade = tagger.grades[tagger.task.targets.index(name)]
        if grade in reports.DOUBTFUL:
            plaintext.note(f"{name} is graded {grade} (see `jamendo-mood tag`), so it counts less than other moods")
    tag_places = mood_commands.read_tag_places(tagger, arguments.places)
    library = _open_library(arguments, store, tagger)
    if arguments.places is not None:
        library = mood_commands.place_library(library, tagger, tag_places)
    places, given = [end.place_in(library) for end in path], {end.track for end in path if end.track}
    if wanted:
        found = library.by_moods(wanted, arguments.count)
    elif len(places) == 1:
        found = library.near(*places[0], arguments.count, given)
    else:
        found = library.along(places, arguments.count, given)
    status = _hand_out(found, form, arguments)
    if arguments.remember:
        mood_commands.remember(path, library)
    return status


def web(arguments: argparse.Namespace) -> int:
    """Serve the notebooks as a web page."""
    from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.tagging.analysis import MEGABYTE, Limits

    try:
        from jamendo_mood.app.web import WebConfig, run_web
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        raise UsageError(f"the web page needs {name}: `pip install jamendo-mood[web]` brings it") from error
    if arguments.audio is not None and arguments.store is None:
        raise UsageError("--audio is the music of a library: give its embeddings with --store DIR")
    tagger = _load_tagger(arguments)
    library = None
    if arguments.store is not None:
        store = EmbeddingStore(arguments.store)
        tagger.check_spec(store.spec)
        library = _open_library(arguments, store, tagger)
    config = WebConfig(
        host=arguments.host,
        port=arguments.port,
        kernels=arguments.kernels,
        warm=arguments.warm,
        idle_s=60.0 * arguments.idle_minutes,
        limits=Limits(arguments.max_mb * MEGABYTE, 60.0 * arguments.max_minutes, paths=False),
        browser=not arguments.no_browser,
    )
    run_web(tagger, load_embedder(tagger.spec, EmbedderOptions.of(arguments)), library, config)
    return DONE


def _choose_format(arguments: argparse.Namespace) -> str:
    """The format asked for, or that of --out's ending, or a table."""
    from jamendo_mood.library.similarity import FORMATS

    ending = "" if arguments.out is None else arguments.out.suffix.removeprefix(".").lower()
    form: str = arguments.format or (ending if ending in FORMATS else "table")
    if form == "m3u8" and arguments.audio is None:
        # A playlist of keys would open in a player and play nothing.
        raise UsageError("an m3u8 playlist names audio files: give the folder that was extracted with --audio DIR")
    return form


def _choose_tagger(arguments: argparse.Namespace, store: EmbeddingStore) -> Tagger | None:
    """The tagger given, or the built-in one if it knows the store's embeddings."""
    from jamendo_mood.training.model import Tagger, load_builtin

    if arguments.tagger is not None:
        tagger = Tagger.load(arguments.tagger)
        tagger.check_spec(store.spec)
        return tagger
    builtin = load_builtin()
    return builtin if builtin.spec.accepts(store.spec) else None


def _is_key(track: str, store: EmbeddingStore) -> bool:
    """Whether this is a track of the store, and not an audio file."""
    from jamendo_mood.util.errors import StoreError

    try:
        if track in store:
            return True
    except StoreError:  # a path that can be no key, such as ../song.mp3
        pass
    if not Path(track).exists():
        raise UsageError(f"{track}: no track of {store.root}, and no audio file")
    return False


def _embed(path: Path, store: EmbeddingStore, arguments: argparse.Namespace) -> Array:
    """The mean embedding of an audio file, made as the store's were."""
    from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
    from jamendo_mood.extraction.streaming import embed_files
    from jamendo_mood.util.errors import AudioError

    embedder = load_embedder(store.spec, EmbedderOptions.of(arguments))
    if not store.spec.accepts(embedder.spec):
        raise UsageError(f"{store.root} holds embeddings of {store.spec}, which cannot be compared to {embedder.spec}")
    (result,) = embed_files({path.name: path}, embedder)
    if result.frames is None:
        raise AudioError(result.error)
    mean: Array = result.frames.mean(axis=0)
    return mean


def _open_library(arguments: argparse.Namespace, store: EmbeddingStore, tagger: Tagger | None) -> Library:
    from jamendo_mood.library.similarity import open_library

    library = open_library(store, tagger, arguments.audio, reports.CountProgress("scoring"))
    if arguments.audio is not None and not library.files:
        raise UsageError(f"{arguments.audio}: none of the {len(library)} tracks of {store.root} has its file there")
    return library


def _hand_out(found: list[Found], form: str, arguments: argparse.Namespace) -> int:
    """Print tracks, or write them to a file."""
    from jamendo_mood.library.similarity import FORMATS, describe
    from jamendo_mood.util.files import write_atomically

    silent = sum(track.file is None for track in found)
    if form == "m3u8" and silent:
        plaintext.warn(f"{silent} of {len(found)} tracks have no file in {arguments.audio} and are left out")
    text = FORMATS[form](describe(found))
    if arguments.out is None:
        print(text, end="")
    else:
        write_atomically(arguments.out, lambda file: file.write(text.encode()))
        plaintext.note(f"{arguments.out}: {len(found)} tracks written")
    return DONE
