"""`similar`, `playlist` and `history`: music of a library by sound, by mood, by emotion, and what was asked for."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jamendo_mood.audio.decoding import SILENT
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.library import mood_log
from jamendo_mood.tagging import emotions
from jamendo_mood.tagging.emotions import Place, place_of
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import AudioError, NoSoundError, StoreError, UsageError
from jamendo_mood.util.files import write_output
from jamendo_mood.util.plaintext import CountProgress

if TYPE_CHECKING:
    from jamendo_mood.library.similarity import Array, Found, Library
    from jamendo_mood.library.writing import Locate
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.training.model import Tagger

COUNT = 20
MAX_BAR = 20  # characters
PICTURE_DPI = 150


def _add_similar(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("track", metavar="TRACK", help="a track of the store, such as 48/948, or any audio file")
    _add_library(parser)
    shared.add_weights(parser)
    parser.set_defaults(all=None)


def _add_library(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="embeddings of the library")
    shared.add_tagger(parser, "the one that knows the store's embeddings, if any")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to name the files")
    parser.add_argument("--count", type=shared.positive, metavar="N", help=f"tracks to find (default {COUNT})")
    parser.add_argument(
        "--format", choices=("table", "json", "csv", "m3u8"), help="of the output (default table, or as --out ends)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--relative",
        action=argparse.BooleanOptionalAction,
        help="name the files of an m3u8 from its folder on (default where that is in the audio's folder or beside it)",
    )


def similar(arguments: argparse.Namespace) -> int:
    """Find the tracks of a library that sound like one."""
    from jamendo_mood.library.similarity import describe_same
    from jamendo_mood.store.embedding_store import EmbeddingStore

    form, store = _choose_format(arguments), EmbeddingStore(arguments.store)
    tagger = _choose_tagger(arguments, store)
    if tagger is None:
        plaintext.note("without tags, for no tagger is given that knows these embeddings (--tagger DIR)")
    try:
        track = arguments.track if _is_key(arguments.track, store) else _embed(Path(arguments.track), store, arguments)
    except AudioError as error:
        plaintext.note(f"failed: {error}")
        return SOME_FAILED
    library = shared.open_library(arguments, store, tagger)
    same = {} if isinstance(track, str) else library.find_same(track, Path(arguments.track))
    if same:
        plaintext.note(describe_same(same))
    return _hand_out(library.similar(track, arguments.count or COUNT, same), form, arguments)


def _add_playlist(parser: argparse.ArgumentParser) -> None:
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--mood",
        type=shared.level,
        action="append",
        default=[],
        metavar="NAME=LEVEL",
        help="how much of a tag is wanted, from 0, the least of all tracks, to 1; may be given several times",
    )
    start.add_argument("--at", type=shared.point, metavar="V,A", help="valence and arousal wanted, each from -1 to 1")
    start.add_argument(
        "--emotion",
        metavar="NAME",
        help="the same by an emotion of Plutchik's wheel, such as serenity, or of a face, such as happy or neutral",
    )
    start.add_argument("--emotion-of", metavar="TRACK", help="the same by the place of a track of the store")
    start.add_argument(
        "--all",
        type=Path,
        metavar="DIR",
        help="write a playlist for each mood there, of the tracks that reach its threshold (--count: the highest N)",
    )
    parser.add_argument(
        "--remember",
        action="store_true",
        help="keep which emotion was asked for and when, on this machine; `jamendo-mood history` shows and deletes it",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--to", type=shared.point, metavar="V,A", help="go from there to this valence and arousal")
    end.add_argument("--to-emotion", metavar="NAME", help="go from there to this emotion")
    shared.add_places(parser)
    _add_library(parser)


def playlist(arguments: argparse.Namespace) -> int:
    """Find tracks by mood, by emotion, or on a path of moods."""
    from jamendo_mood.library.similarity import find_target
    from jamendo_mood.store.embedding_store import EmbeddingStore

    form, store, count = _choose_format(arguments), EmbeddingStore(arguments.store), arguments.count or COUNT
    path = _choose_path(arguments)
    tagger = _need_tagger(arguments, store)
    wanted = {tagger.task.targets[find_target(name, tagger.task.targets)]: level for name, level in arguments.mood}
    for name in wanted:
        grade = tagger.grades[tagger.task.targets.index(name)]
        if grade in shared.DOUBTFUL:
            plaintext.note(f"{name} is graded {grade} (see `jamendo-mood tag`), so it counts less than other moods")
    tag_places = shared.read_tag_places(tagger, arguments.places)
    library = shared.open_library(arguments, store, tagger)
    if arguments.places is not None:
        library = replace(library, va=place_of(tagger.task, tagger.thresholds, library.scores, tag_places)).prepare()
    if arguments.all is not None:
        return _write_all(library, tagger, arguments)
    places, given = [end.place_in(library) for end in path], {end.track for end in path if end.track}
    if wanted:
        found = library.by_moods(wanted, count)
    elif len(places) == 1:
        found = library.near(*places[0], count, given)
    else:
        found = library.along(places, count, given)
    status = _hand_out(found, form, arguments)
    if arguments.remember:
        _remember(path, library)
    return status


@dataclass(frozen=True)
class End:
    """Where a playlist's path through the plane begins or ends."""

    asked_by: str  #: the option's name
    place: Place | None = None  #: None: that of `track`, which only its library knows
    emotion: str | None = None  #: None: what the place is called
    track: str = ""

    def place_in(self, library: Library) -> Place:
        """Where it lies, in a library."""
        if self.place is not None:
            return self.place
        row = library.row(self.track)
        if library.plane is None:
            raise UsageError(
                f"{self.track}: this tagger's moods say nothing of valence and arousal, so it has no place"
            )
        valence, arousal = library.plane[row].tolist()
        return Place(valence, arousal)


def _choose_path(arguments: argparse.Namespace) -> list[End]:
    """The ends of `playlist`'s path through the plane: none for one by moods, one for a place.

    Raises `UsageError` if an emotion is unknown, or the options contradict each other.
    """
    path = []
    for option in ("at", "emotion", "emotion_of", "to", "to_emotion"):
        value, asked_by = getattr(arguments, option), option.replace("_", "-")
        if value is None:
            continue
        if option in ("emotion", "to_emotion"):
            emotion = emotions.find_emotion(value)
            path.append(End(asked_by, emotion.place, emotion.name))
        else:
            path.append(End(asked_by, track=value) if option == "emotion_of" else End(asked_by, Place(*value)))
    if (arguments.mood or arguments.all) and path:
        raise UsageError(
            "--to and --to-emotion end a path that --at or --emotion begins; --mood begins none, nor does --all"
        )
    if arguments.remember and not path:
        raise UsageError("--remember keeps emotions: ask with --emotion, --emotion-of or --at, not with --mood")
    return path


def _remember(path: Sequence[End], library: Library) -> None:
    """Keep what was asked for, and say where."""
    time = mood_log.now()
    places = [(end, end.place_in(library)) for end in path]
    wishes = [mood_log.wish_for(place, end.asked_by, time, end.emotion) for end, place in places]
    plaintext.note(f"{mood_log.remember(wishes)}: remembered (`jamendo-mood history --forget` deletes all of it)")


def _choose_format(arguments: argparse.Namespace) -> str:
    """The format asked for, or that of --out's ending, or a table."""
    from jamendo_mood.library.similarity import FORMATS

    ending = "" if arguments.out is None else arguments.out.suffix.removeprefix(".").lower()
    form: str = arguments.format or (ending if ending in FORMATS else "m3u8" if arguments.all else "table")
    if arguments.all and (form != "m3u8" or arguments.out):
        raise UsageError(f"--all writes m3u8 playlists into {arguments.all}, and takes no --out and no other --format")
    if arguments.relative is not None and (form != "m3u8" or not (arguments.all or arguments.out)):
        raise UsageError("--relative is about the files of an m3u8 playlist in a folder: name it with --out")
    if form == "m3u8" and arguments.audio is None:
        # A playlist of keys would open in a player and play nothing.
        raise UsageError("an m3u8 playlist names audio files: give the folder that was extracted with --audio DIR")
    return form


def _choose_tagger(arguments: argparse.Namespace, store: EmbeddingStore) -> Tagger | None:
    """The tagger given, or the one of the package's own that knows the store's embeddings, if there is one."""
    from jamendo_mood.training.model import BUILTINS

    if arguments.tagger is None and store.spec.name not in BUILTINS.values():
        return None
    tagger = shared.load_tagger(arguments, [store.spec])
    if arguments.tagger is not None:
        tagger.check_spec(store.spec)
    return tagger if tagger.spec.accepts(store.spec) else None


def _need_tagger(arguments: argparse.Namespace, store: EmbeddingStore) -> Tagger:
    tagger = _choose_tagger(arguments, store)
    if tagger is None:
        raise UsageError(f"the built-in tagger does not know {store.spec}: give one that does with --tagger DIR")
    return tagger


def _is_key(track: str, store: EmbeddingStore) -> bool:
    """Whether this is a track of the store, and not an audio file."""
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
    from jamendo_mood.extraction.streaming import embed_files

    embedder = load_embedder(store.spec, EmbedderOptions.of(arguments))
    if not store.spec.accepts(embedder.spec):
        raise UsageError(f"{store.root} holds embeddings of {store.spec}, which cannot be compared to {embedder.spec}")
    (result,) = embed_files({path.name: path}, embedder)
    if result.frames is None:
        raise AudioError(result.error)
    if SILENT in result.remark:
        raise NoSoundError(f"{path}: {SILENT}, which is like nothing")
    mean: Array = result.frames.mean(axis=0)
    return mean


def _hand_out(found: list[Found], form: str, arguments: argparse.Namespace) -> int:
    """Print tracks, or write them to a file."""
    from jamendo_mood.library.similarity import FORMATS, describe, to_m3u8

    silent = sum(track.file is None for track in found)
    if form == "m3u8" and silent:
        plaintext.warn(f"{silent} of {len(found)} tracks have no file in {arguments.audio} and are left out")
    tracks = describe(found)
    if arguments.out is None:
        print(FORMATS[form](tracks), end="")
    else:
        text = to_m3u8(tracks, _locator(arguments, arguments.out)) if form == "m3u8" else FORMATS[form](tracks)
        write_output(arguments.out, text.encode())
        plaintext.note(f"{arguments.out}: {len(found)} tracks written")
    return DONE


def _write_all(library: Library, tagger: Tagger, arguments: argparse.Namespace) -> int:
    """Write a playlist for each mood that has tracks, those with the highest scores first."""
    from jamendo_mood.library import writing
    from jamendo_mood.library.similarity import describe

    decided = writing.decide_moods(tagger, library.scores)
    decided[[key not in library.files for key in library.keys]] = False
    rows = decided.any(axis=1).nonzero()[0].tolist()
    tracks = dict(
        zip(rows, describe([library.found(row) for row in rows], CountProgress("reading titles")), strict=True)
    )
    moods = {}
    for column, name in enumerate(tagger.task.targets):
        best = [row for row in (-library.scores[:, column]).argsort(kind="stable").tolist() if decided[row, column]]
        if best:
            moods[name] = [tracks[row] for row in best[: arguments.count]]
    if not moods:
        raise UsageError(f"{arguments.audio}: no track there reaches the threshold of any mood")
    removed = writing.write_playlists(arguments.all, moods, _locator(arguments, arguments.all))
    before = f"; {plaintext.count(removed, 'playlist')} of an earlier run deleted" if removed else ""
    plaintext.note(
        f"{arguments.all}: {plaintext.count(len(moods), 'playlist')} of {len(tracks)} tracks written{before}"
    )
    return DONE


def _locator(arguments: argparse.Namespace, out: Path) -> Locate | None:
    """How a playlist, or a folder of them, names its files: from there on if asked, or if it lies where they lie."""
    from jamendo_mood.library.writing import relative_to

    audio, there = arguments.audio.resolve(), out.resolve()
    near = there.parent == audio.parent or there.is_relative_to(audio)
    relative = near if arguments.relative is None else arguments.relative
    return relative_to(out if out == arguments.all else out.parent) if relative else None


def _add_survey(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="embeddings of the library")
    shared.add_tagger(parser, "the one that knows the store's embeddings, if any")
    parser.add_argument(
        "--audio", type=Path, metavar="DIR", help="the folder that was extracted, to save playlists on the page"
    )
    parser.add_argument("--titles", action="store_true", help="read titles and artists from the files of --audio")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: STORE-library.html)")
    shared.add_format(parser, "table", "json")


def survey(arguments: argparse.Namespace) -> int:
    """Show a library at a glance: how its moods are spread, and a page with all its songs."""
    from jamendo_mood.library import overview
    from jamendo_mood.library.similarity import describe
    from jamendo_mood.store.embedding_store import EmbeddingStore

    if importlib.util.find_spec("bokeh") is None:
        raise UsageError("no bokeh to draw the page with: `pip install jamendo-mood[plots]` brings it")
    if arguments.titles and arguments.audio is None:
        raise UsageError("--titles reads audio files: give the folder that was extracted with --audio DIR")
    store = EmbeddingStore(arguments.store)
    tagger = _need_tagger(arguments, store)
    library = shared.open_library(arguments, store, tagger)
    seen = overview.survey(library, tagger)
    songs = [library.found(row) for row in range(len(library))]
    if arguments.titles:
        songs = describe(songs, CountProgress("reading titles"))
    root = store.root.resolve()
    path = arguments.out or root.with_name(f"{root.name}-library.html")
    write_output(
        path, overview.write_page(seen, songs, f"A library at a glance: {root.name}").encode("utf-8", "replace")
    )
    if arguments.format == "json":
        print(
            plaintext.to_json(
                {
                    "songs": len(songs),
                    "moods": [{"mood": mood, "songs": number} for mood, number in seen.counts.items()],
                    "of_no_mood": seen.of_no_mood,
                    "duplicates": [[library.keys[row] for row in group] for group in seen.duplicates],
                    "least_sure": [library.keys[row] for row in seen.unsure[: overview.MAX_UNSURE]],
                    "page": str(path),
                }
            )
        )
        return DONE
    widest = max(map(len, seen.moods))
    for mood, number in seen.counts.items():
        bar = plaintext.block() * round(MAX_BAR * number / len(songs))
        plaintext.say(f"  {mood:{widest}} {number:7,} {number / len(songs):6.1%} {bar}".rstrip())
    plaintext.say(
        f"Of no mood: {seen.of_no_mood:,} of {plaintext.count(len(songs), 'song')}. {seen.describe_duplicates()}"
    )
    plaintext.say(f"{path}: all songs on a page")
    return DONE


def _add_history(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--format", choices=tuple(mood_log.FORMATS), default="table", help="of the output (default table)"
    )
    what.add_argument("--plot", type=Path, metavar="PNG", help="draw valence and arousal over time there instead")
    what.add_argument("--forget", action="store_true", help="delete all that was kept")


def history(arguments: argparse.Namespace) -> int:
    """Show the emotions that you asked for and had remembered, draw them as curves, or delete them."""
    path = mood_log.default_path()
    if arguments.forget:
        print(f"{path}: deleted" if mood_log.forget() else f"{path}: there was nothing to delete")
        return DONE
    wishes, problems = mood_log.read()
    for problem in problems:
        plaintext.warn(problem)
    if arguments.plot is not None:
        return _draw_history(wishes, arguments.plot)
    if not wishes:
        plaintext.note(f"{path}: nothing is kept (`jamendo-mood playlist --remember` keeps the emotions asked for)")
    print(mood_log.FORMATS[arguments.format](wishes), end="")
    return DONE


def _draw_history(wishes: list[mood_log.Wish], target: Path) -> int:

    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: curves are drawn as PNG, so its name must end in .png")
    if not wishes:
        raise UsageError("nothing is kept, so there is nothing to draw")
    shared.check_matplotlib()
    write_output(target, mood_log.plot_history(wishes).to_png(PICTURE_DPI))
    first, last = (f"{edge(wish.time for wish in wishes):%Y-%m-%d}" for edge in (min, max))
    print(f"{target}: {plaintext.count(len(wishes), 'emotion')} from {first} to {last}")
    return DONE


COMMANDS = {
    "similar": Command(_add_similar, similar),
    "playlist": Command(_add_playlist, playlist),
    "library": Command(_add_survey, survey),
    "history": Command(_add_history, history),
}
