"""`similar`, `playlist` and `history`: music of a library by sound, by mood, by emotion, and what was asked for."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from jamendo_mood.audio.decoding import SILENT
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, Command
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.extraction.streaming import embed_files
from jamendo_mood.library import mood_log, overview, similarity, writing
from jamendo_mood.library.similarity import Array, Found, Library
from jamendo_mood.library.writing import FORMATS, Locate
from jamendo_mood.store.embedding_store import EmbeddingStore, is_key
from jamendo_mood.tagging.emotions import Emotion, Place, find_emotion, place_of
from jamendo_mood.training.model import BUILTINS, Tagger
from jamendo_mood.util.errors import AudioError, NoSoundError, UsageError, need
from jamendo_mood.util.files import write_output
from jamendo_mood.util.plaintext import CountProgress, block, count, note, say, show, to_csv, to_json, warn

COUNT = 20
MAX_BAR = 20  # characters
PICTURE_DPI = 150
PATH = ("at", "emotion", "emotion_of", "to", "to_emotion")  # options that name an end of a path through the plane


def _add_similar(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    track = "a track of the store, such as 48/948, or any audio file"
    what.add_argument("track", metavar="TRACK", nargs="?", help=track)
    twins = (
        "list the tracks that are in another store too, as the same sound or nearly: such as the songs of two data sets"
    )
    what.add_argument("--across", type=shared.path_or_url, metavar="DIR", help=twins)
    _add_library(parser)
    shared.add_weights(parser)
    parser.set_defaults(all=None)


def _add_library(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--store", type=shared.path_or_url, required=True, metavar="DIR", help="embeddings of the library")
    shared.add_tagger(parser, stored=True)
    add("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to name the files")
    add("--count", type=shared.positive, metavar="N", help=f"tracks to find (default {COUNT})")
    add("--format", choices=tuple(FORMATS), help="of the output (default table, or as --out ends)")
    add("--out", type=Path, metavar="FILE", help="write there instead of printing")
    start = "name the files of an m3u8 from its folder on (default where that is in the audio's folder or beside it)"
    add("--relative", action=argparse.BooleanOptionalAction, help=start)


def similar(arguments: argparse.Namespace) -> int:
    """Find the tracks of a library that sound like one."""
    form, store = _choose_format(arguments), shared.open_store(arguments)
    if arguments.across is not None:
        return _list_twins(store, EmbeddingStore(arguments.across), form, arguments)
    tagger = _choose_tagger(arguments, store)
    if tagger is None:
        note("without tags, for no tagger is given that knows these embeddings (--tagger DIR)")
    track, path = arguments.track, Path(arguments.track)
    if not (is_key(track) and track in store):
        if not path.exists():
            raise UsageError(f"{track}: no track of {store.root}, and no audio file")
        track = _embed(path, store, arguments)
    library = shared.open_library(arguments, store, tagger)
    same = {} if isinstance(track, str) else library.find_same(track, path)
    if same:
        note(similarity.describe_same(same))
    _hand_out(library.similar(track, arguments.count or COUNT, same), form, arguments)
    return DONE


def _list_twins(store: EmbeddingStore, other: EmbeddingStore, form: str, arguments: argparse.Namespace) -> int:
    """Hand out the pairs of tracks, one of each store, that sound nearly the same."""
    if form == "m3u8":
        raise UsageError("--across lists pairs of tracks, which are no playlist: take --format table, csv or json")
    if not store.spec.accepts(other.spec):
        raise UsageError(f"{store.root} holds embeddings of {store.spec}, {other.root} of {other.spec}")
    one, another = (similarity.open_library(own, None, None, CountProgress("reading")) for own in (store, other))
    pairs, out = similarity.find_twins(one, another)[: arguments.count], arguments.out
    if form == "json":
        text = to_json([{"track": mine, "other": theirs, "apart": apart} for mine, theirs, apart in pairs])
    elif form == "csv":
        text = to_csv(("track", "other", "apart"), ((mine, theirs, f"{apart:.4f}") for mine, theirs, apart in pairs))
    else:
        text = "".join(f"{apart:.3f}  {show(mine)}  {show(theirs)}\n" for mine, theirs, apart in pairs)
    if out is None:
        print(text.rstrip("\n"))
    else:
        write_output(out, text.encode())
    same = sum(apart <= similarity.SAME for _, _, apart in pairs)
    note(f"{count(len(pairs), 'pair')} of {len(one):,} x {len(another):,} tracks, {same} of them the same sound")
    return DONE


def _embed(path: Path, store: EmbeddingStore, arguments: argparse.Namespace) -> Array:
    """The mean embedding of an audio file, made as the store's were."""
    embedder = load_embedder(store.spec, EmbedderOptions.of(arguments))
    if not store.spec.accepts(embedder.spec):
        raise UsageError(f"{store.root} holds embeddings of {store.spec}, which cannot be compared to {embedder.spec}")
    (result,) = embed_files({path.name: path}, embedder)
    if result.frames is None:
        raise AudioError(result.error)
    if SILENT in result.remark:
        raise NoSoundError(f"{path}: {SILENT}, so nothing is similar to it")
    mean: Array = result.frames.mean(axis=0)
    return mean


def _add_playlist(parser: argparse.ArgumentParser) -> None:
    start = parser.add_mutually_exclusive_group(required=True)
    much = "how much of a tag is wanted, from 0, the least of all tracks, to 1; may be given several times"
    start.add_argument("--mood", type=shared.level, action="append", default=[], metavar="NAME=LEVEL", help=much)
    start.add_argument("--at", type=shared.point, metavar="V,A", help="valence and arousal wanted, each from -1 to 1")
    emotion = "the same by an emotion of Plutchik's wheel, such as serenity, or of a face, such as happy or neutral"
    start.add_argument("--emotion", type=_emotion, metavar="NAME", help=emotion)
    start.add_argument("--emotion-of", metavar="TRACK", help="the same by the place of a track of the store")
    every = "write a playlist for each mood there, of the tracks that reach its threshold (--count: the highest N)"
    start.add_argument("--all", type=Path, metavar="DIR", help=every)
    kept = "keep which emotion was asked for and when, on this machine; `jamendo-mood history` shows and deletes it"
    parser.add_argument("--remember", action="store_true", help=kept)
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--to", type=shared.point, metavar="V,A", help="go from there to this valence and arousal")
    end.add_argument("--to-emotion", type=_emotion, metavar="NAME", help="go from there to this emotion")
    shared.add_places(parser)
    _add_library(parser)


def _emotion(text: str) -> Emotion:
    """An emotion by its name."""
    try:
        return find_emotion(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def playlist(arguments: argparse.Namespace) -> int:
    """Find tracks by mood, by emotion, or on a path of moods."""
    form, store, most = _choose_format(arguments), shared.open_store(arguments), arguments.count or COUNT
    path = {option: value for option in PATH if (value := getattr(arguments, option)) is not None}
    if (arguments.mood or arguments.all) and path:
        raise UsageError(
            "--to is the end of a path: give its start with --at or --emotion, and neither --mood nor --all"
        )
    if arguments.remember and not path:
        raise UsageError("--remember keeps emotions: ask with --emotion, --emotion-of or --at, not with --mood")
    tagger = _need_tagger(arguments, store)
    for name, _ in arguments.mood:
        grade = tagger.grades[similarity.find_target(name, tagger.task.targets)]
        if grade in shared.DOUBTFUL:
            note(f"{name} is graded {grade} (see `jamendo-mood tag`), so it counts less than other moods")
    tag_places = shared.read_tag_places(tagger, arguments.places)
    library = shared.open_library(arguments, store, tagger)
    if tag_places is not None:
        library = replace(library, va=place_of(tagger.task, tagger.thresholds, library.scores, tag_places)).prepare()
    if arguments.all is not None:
        return _write_all(library, tagger, arguments)
    places = {option: _find_place(value, library) for option, value in path.items()}
    given = {value for value in path.values() if isinstance(value, str)}
    if arguments.mood:
        found = library.by_moods(dict(arguments.mood), most)
    elif len(places) == 1:
        found = library.near(*next(iter(places.values())), most, given)
    else:
        found = library.along([*places.values()], most, given)
    _hand_out(found, form, arguments)
    if arguments.remember:
        time = mood_log.now()
        names = {option: getattr(value, "name", None) for option, value in path.items()}
        wishes = [mood_log.wish_for(places[end], end.replace("_", "-"), time, name) for end, name in names.items()]
        note(f"{mood_log.remember(wishes)}: remembered (`jamendo-mood history --forget` deletes all of it)")
    return DONE


def _find_place(asked: Place | Emotion | str, library: Library) -> Place:
    """Where an end of a path lies: a place, an emotion, or a track of the library."""
    if not isinstance(asked, str):
        return asked if isinstance(asked, Place) else asked.place
    row = library.row(asked)
    if library.plane is None:
        raise UsageError(f"{asked}: this tagger's moods say nothing of valence and arousal, so it has no place")
    return Place(*library.plane[row].tolist())


def _choose_format(arguments: argparse.Namespace) -> str:
    """The format asked for, or that of --out's ending, or a table."""
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
    if arguments.tagger is None and store.spec.name not in BUILTINS.values():
        return None
    tagger = shared.load_tagger(arguments, store.spec)
    return tagger if arguments.tagger is not None or tagger.spec.accepts(store.spec) else None


def _need_tagger(arguments: argparse.Namespace, store: EmbeddingStore) -> Tagger:
    tagger = _choose_tagger(arguments, store)
    if tagger is None:
        raise UsageError(f"the built-in tagger does not know {store.spec}: give one that does with --tagger DIR")
    return tagger


def _hand_out(found: list[Found], form: str, arguments: argparse.Namespace) -> None:
    """Print tracks, or write them to a file."""
    silent = sum(track.file is None for track in found)
    if form == "m3u8" and silent:
        warn(f"{silent} of {len(found)} tracks have no file in {arguments.audio} and are left out")
    tracks, out = similarity.describe(found), arguments.out
    if out is None:
        print(FORMATS[form](tracks), end="")
    else:
        text = writing.to_m3u8(tracks, _locator(arguments, out)) if form == "m3u8" else FORMATS[form](tracks)
        write_output(out, text.encode())
        note(f"{out}: {len(found)} tracks written")


def _write_all(library: Library, tagger: Tagger, arguments: argparse.Namespace) -> int:
    """Write a playlist for each mood that has tracks, those with the highest scores first."""
    decided = writing.decide_moods(tagger, library.scores)
    decided[[key not in library.files for key in library.keys]] = False
    rows = decided.any(axis=1).nonzero()[0].tolist()
    named = similarity.describe([library.found(row) for row in rows], CountProgress("reading titles"))
    tracks = dict(zip(rows, named, strict=True))
    moods = {}
    for column, name in enumerate(tagger.task.targets):
        best = [row for row in (-library.scores[:, column]).argsort(kind="stable").tolist() if decided[row, column]]
        if best:
            moods[name] = [tracks[row] for row in best[: arguments.count]]
    if not moods:
        raise UsageError(f"{arguments.audio}: no track there reaches the threshold of any mood")
    removed = writing.write_playlists(arguments.all, moods, _locator(arguments, arguments.all))
    before = f"; {count(removed, 'playlist')} of an earlier run deleted" if removed else ""
    note(f"{arguments.all}: {count(len(moods), 'playlist')} of {len(tracks)} tracks written{before}")
    return DONE


def _locator(arguments: argparse.Namespace, out: Path) -> Locate | None:
    """How a playlist, or a folder of them, names its files: from there on if asked, or if it lies where they lie."""
    audio, there = arguments.audio.resolve(), out.resolve()
    near = there.parent == audio.parent or there.is_relative_to(audio)
    relative = near if arguments.relative is None else arguments.relative
    return writing.relative_to(out if out == arguments.all else out.parent) if relative else None


def _add_survey(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("store", type=shared.path_or_url, metavar="STORE", help="embeddings of the library")
    shared.add_tagger(parser, stored=True)
    add("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to save playlists on the page")
    add("--titles", action="store_true", help="read titles and artists from the files of --audio")
    add("--out", type=Path, metavar="FILE", help="the page (default: STORE-library.html)")
    shared.add_format(parser, "table", "json")


def survey(arguments: argparse.Namespace) -> int:
    """Show a library at a glance: how its moods are spread, and a page with all its songs."""
    need("the page", "plots", "bokeh")
    if arguments.titles and arguments.audio is None:
        raise UsageError("--titles reads audio files: give the folder that was extracted with --audio DIR")
    store = shared.open_store(arguments)
    tagger = _need_tagger(arguments, store)
    library = shared.open_library(arguments, store, tagger)
    seen = overview.survey(library, tagger)
    songs = [library.found(row) for row in range(len(library))]
    if arguments.titles:
        songs = similarity.describe(songs, CountProgress("reading titles"))
    # The page of a store on the Hub is not for the folder that it was fetched to.
    root = Path(arguments.store if isinstance(arguments.store, Path) else Path(arguments.store).name).resolve()
    path = arguments.out or root.with_name(f"{root.name}-library.html")
    page = overview.write_page(seen, songs, f"A library at a glance: {root.name}")
    write_output(path, page.encode("utf-8", "replace"))
    if arguments.format == "json":
        document = {
            "songs": len(songs),
            "moods": [{"mood": mood, "songs": number} for mood, number in seen.counts.items()],
            "of_no_mood": seen.of_no_mood,
            "duplicates": [[library.keys[row] for row in group] for group in seen.duplicates],
            "least_sure": [library.keys[row] for row in seen.unsure[: overview.MAX_UNSURE]],
            "page": str(path),
        }
        print(to_json(document))
        return DONE
    widest = max(map(len, seen.moods))
    for mood, number in seen.counts.items():
        bar = block() * round(MAX_BAR * number / len(songs))
        say(f"  {mood:{widest}} {number:7,} {number / len(songs):6.1%} {bar}".rstrip())
    say(f"Of no mood: {seen.of_no_mood:,} of {count(len(songs), 'song')}. {seen.describe_duplicates()}")
    say(f"{path}: all songs on a page")
    return DONE


def _add_history(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    forms = tuple(mood_log.FORMATS)
    what.add_argument("--format", choices=forms, default="table", help="of the output (default table)")
    what.add_argument("--plot", type=Path, metavar="PNG", help="draw valence and arousal over time there instead")
    what.add_argument("--forget", action="store_true", help="delete all that was kept")


def history(arguments: argparse.Namespace) -> int:
    """Show the emotions that you asked for and had remembered, draw them as curves, or delete them."""
    path = mood_log.default_path()
    if arguments.forget:
        print(f"{path}: deleted" if mood_log.forget() else f"{path}: there was nothing to delete")
        return DONE
    (wishes, problems), target = mood_log.read(), arguments.plot
    for problem in problems:
        warn(problem)
    if target is None:
        if not wishes:
            note(f"{path}: nothing is kept (`jamendo-mood playlist --remember` keeps the emotions asked for)")
        print(mood_log.FORMATS[arguments.format](wishes), end="")
        return DONE
    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: curves are drawn as PNG, so its name must end in .png")
    if not wishes:
        raise UsageError("nothing is kept, so there is nothing to draw")
    need("a picture", "notebook", "matplotlib")
    write_output(target, mood_log.plot_history(wishes).to_png(PICTURE_DPI))
    first, last = (f"{edge(wish.time for wish in wishes):%Y-%m-%d}" for edge in (min, max))
    print(f"{target}: {count(len(wishes), 'emotion')} from {first} to {last}")
    return DONE


COMMANDS = {
    "similar": Command(_add_similar, similar),
    "playlist": Command(_add_playlist, playlist),
    "library": Command(_add_survey, survey),
    "history": Command(_add_history, history),
}
