"""What `history` does, and what `playlist` and `tag` do with emotions and places."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jamendo_mood.cli.reports import DONE
from jamendo_mood.library import mood_log
from jamendo_mood.tagging import emotions
from jamendo_mood.tagging.emotions import PLACES, Place, place_of, read_places
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError

if TYPE_CHECKING:
    from jamendo_mood.library.similarity import Library
    from jamendo_mood.tagging.prediction import Prediction
    from jamendo_mood.training.model import Tagger

PICTURE_DPI = 150

Places = Mapping[str, tuple[float, float]]


def add_history(parser: argparse.ArgumentParser) -> None:
    """Options of `history`."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--format", choices=tuple(mood_log.FORMATS), default="table", help="of the output (default table)"
    )
    what.add_argument("--plot", type=Path, metavar="PNG", help="draw valence and arousal over time there instead")
    what.add_argument("--forget", action="store_true", help="delete all that was kept")


def add_places(parser: argparse.ArgumentParser) -> None:
    """The option of `tag` and `playlist` that names another table of tags."""
    parser.add_argument(
        "--places",
        type=Path,
        metavar="CSV",
        help="where tags lie: a table with the columns MoodTag, Valence and Arousal, 1 to 9 (default: our own)",
    )


def add_wishes(parser: argparse.ArgumentParser, start: argparse._MutuallyExclusiveGroup) -> None:
    """Options of `playlist` about emotions, `start` being the group of those that say where it starts."""
    start.add_argument(
        "--emotion",
        metavar="NAME",
        help="the same by an emotion of Plutchik's wheel, such as serenity, or of a face, such as happy or neutral",
    )
    start.add_argument("--emotion-of", metavar="TRACK", help="the same by the place of a track of the store")
    parser.add_argument(
        "--remember",
        action="store_true",
        help="keep which emotion was asked for and when, on this machine; `jamendo-mood history` shows and deletes it",
    )


def history(arguments: argparse.Namespace) -> int:
    """Show, draw or delete the emotions that were kept."""
    path = mood_log.default_path()
    if arguments.forget:
        print(f"{path}: deleted" if mood_log.forget(path) else f"{path}: there was nothing to delete")
        return DONE
    kept = mood_log.read(path)
    for problem in kept.problems:
        plaintext.warn(problem)
    if arguments.plot is not None:
        return _draw(kept.wishes, arguments.plot)
    if not kept.wishes:
        plaintext.note(f"{path}: nothing is kept (`jamendo-mood playlist --remember` keeps the emotions asked for)")
    print(mood_log.FORMATS[arguments.format](kept.wishes), end="")
    return DONE


def _draw(wishes: tuple[mood_log.Wish, ...], target: Path) -> int:
    from jamendo_mood.util.files import write_atomically

    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: curves are drawn as PNG, so its name must end in .png")
    if not wishes:
        raise UsageError("nothing is kept, so there is nothing to draw")
    try:
        from jamendo_mood.library.mood_log import plot_history
    except ModuleNotFoundError as error:
        raise UsageError(f"no {error.name} to draw with: `pip install jamendo-mood[notebook]` brings it") from error
    content = plot_history(wishes).to_png(PICTURE_DPI)
    write_atomically(target, lambda file: file.write(content))
    first, last = (f"{edge(wish.time for wish in wishes):%Y-%m-%d}" for edge in (min, max))
    print(f"{target}: {plaintext.count(len(wishes), 'emotion')} from {first} to {last}")
    return DONE


@dataclass(frozen=True)
class End:
    """Where a playlist's path through the plane begins or ends.

    Attributes
    ----------
    asked_by : str
        The option's name.
    place : Place or None
        None: that of `track`, which only its library knows.
    emotion : str or None
        None: what the place is called.
    track : str
    """

    asked_by: str
    place: Place | None = None
    emotion: str | None = None
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


def choose_path(arguments: argparse.Namespace) -> list[End]:
    """The ends of `playlist`'s path through the plane: none for one by moods, one for a place.

    Raises
    ------
    UsageError
        An emotion is unknown, or the options contradict each other.
    """
    path = []
    for option in ("at", "emotion", "emotion_of", "to", "to_emotion"):
        value = getattr(arguments, option)
        if value is not None:
            path.append(_END[option.removeprefix("to_")](option.replace("_", "-"), value))
    if arguments.mood and path:
        raise UsageError("--to and --to-emotion end a path that --at or --emotion begins; --mood begins none")
    if arguments.remember and not path:
        raise UsageError("--remember keeps emotions: ask with --emotion, --emotion-of or --at, not with --mood")
    return path


def _end_by_name(asked_by: str, name: str) -> End:
    emotion = emotions.find_emotion(name)
    return End(asked_by, emotion.place, emotion.name)


_END: dict[str, Callable[[str, Any], End]] = {
    "at": lambda asked_by, point: End(asked_by, Place(*point)),
    "to": lambda asked_by, point: End(asked_by, Place(*point)),
    "emotion": _end_by_name,
    "emotion_of": lambda asked_by, track: End(asked_by, track=track),
}


def remember(path: Sequence[End], library: Library) -> None:
    """Keep what was asked for, and say where."""
    time = mood_log.now()
    places = [(end, end.place_in(library)) for end in path]
    wishes = [mood_log.wish_for(place, end.asked_by, time, end.emotion) for end, place in places]
    plaintext.note(f"{mood_log.remember(wishes)}: remembered (`jamendo-mood history --forget` deletes all of it)")


def read_tag_places(tagger: Tagger, file: Path | None) -> Places:
    """The table of tags that `--places` names, or our own.

    Raises
    ------
    DataError
        The file is no such table.
    UsageError
        It has none of the tagger's tags.
    """
    if file is None:
        return PLACES
    places = read_places(file)
    if places.keys().isdisjoint(tagger.task.targets):
        raise UsageError(f"{file}: places none of the tagger's tags, which are {', '.join(tagger.task.targets)}")
    return places


def place_library(library: Library, tagger: Tagger, places: Places) -> Library:
    """The library with its tracks where a table of tags puts them."""
    return replace(library, va=place_of(tagger.task, tagger.tuned, library.scores, places)).prepare()


def place_predictions(predictions: Sequence[Prediction], tagger: Tagger, places: Places) -> list[Prediction]:
    """Predictions where a table of tags puts them."""
    placed = []
    for prediction in predictions:
        va = place_of(tagger.task, tagger.tuned, prediction.track_scores, places)
        placed.append(replace(prediction, place=None if va is None else Place(*va.tolist())))
    return placed
