"""`beet jamendomood`: the moods of a beets library, in beets' own database; nothing is written into files.

Tagged items get these flexible fields:

- ``mood``: the moods that reach their thresholds, the highest first; of a tagger that only ranks, its three highest;
- ``valence`` and ``arousal``: where the song lies on the plane, from -1 to 1;
- ``moodscore_TAG``: the score of each tag, class or value, in small letters with ``_`` for what is no letter. Neither
  beets nor a plugin of its own has a field that begins so (``mood_happy``, for one, is AcousticBrainz').

Installed as ``beetsplug.jamendomood``, in the namespace package that beets looks for plugins in.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beets.dbcore import types
from beets.plugins import BeetsPlugin
from beets.ui import Subcommand, UserError  # type: ignore[attr-defined]

import jamendo_mood
from jamendo_mood.util.errors import MoodError
from jamendo_mood.util.plaintext import count, show

if TYPE_CHECKING:
    from beets.importer import ImportSession, ImportTask
    from beets.library import Item, Library

    from jamendo_mood.embedders.registry import Embedder
    from jamendo_mood.tagging.prediction import Prediction
    from jamendo_mood.training.model import Tagger

PREFIX = "moodscore_"
DIGITS = 3  # of a number, behind the point
NUMBER = types.Float(DIGITS)
FIELDS: dict[str, types.Type[Any, Any]] = {"mood": types.SEMICOLON_SPACE_DSV, "valence": NUMBER, "arousal": NUMBER}
OUR_TAGGERS = Path(jamendo_mood.__file__).parent / "training" / "taggers"

DEFAULTS = {
    "auto": True,  # tag what is imported
    "force": False,  # tag again what is tagged already, and replace what is in the fields
    "tagger": None,  # folder of a tagger, or audioset or musicnn; None is what `jamendo-mood tag` takes
    "threads": 2,  # that decode ahead of the network
}
"""Options in beets' configuration, below ``jamendomood``."""


class JamendoMoodPlugin(BeetsPlugin):
    """The command, the stage of an import, and the types of our fields."""

    def __init__(self) -> None:
        super().__init__()
        self.config.add(DEFAULTS)
        self.given_up = False  #: whether an import has found that its songs cannot be tagged
        if self.config["auto"].get(bool):
            self.import_stages = [self.imported]

    @property
    def item_types(self) -> dict[str, types.Type[Any, Any]]:
        """The types of our fields. Every `beet` command asks: targets are read as JSON, so nothing slow is imported."""
        files = [*OUR_TAGGERS.glob("*/*.json")]
        if (tagger := self._find_tagger()) is not None:
            files.append(tagger / "tagger.json")
        found = {**FIELDS}
        for file in files:
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # `tag` tells
                values = json.loads(file.read_bytes())
                found |= {name_field(target): NUMBER for target in values.get("task", values)["targets"]}
        return found

    def commands(self) -> list[Subcommand]:
        """The command ``jamendomood``."""
        command = Subcommand("jamendomood", help="tag songs with their moods, in beets' database")
        command.parser.add_option("-f", "--force", action="store_true", help="tag again what is tagged already")
        command.func = self.run
        return [command]

    def run(self, library: Library, options: Any, query: list[str]) -> None:
        """Tag the items that match a query."""
        self.config.set_args(options)
        items = library.items(query)
        try:
            failed = self.tag(items)
        except MoodError as error:
            raise UserError(show(f"jamendomood: {error}")) from error
        if failed:
            raise UserError(f"jamendomood: {count(failed, 'file')} of {len(items)} could not be tagged")

    def imported(self, _: ImportSession, task: ImportTask) -> None:
        """Tag what is imported; where that cannot be done, the import goes on without."""
        if self.given_up:
            return
        try:
            self.tag(task.imported_items())
        except MoodError as error:
            self.given_up = True
            self._log.warning("{} (so this import goes on without moods)", show(str(error)))

    def tag(self, items: Iterable[Item]) -> int:
        """Tag items that have no scores yet, or all; each is stored when it is done. Returns how many failed.

        Raises `MoodError` if the tagger or its embedder cannot be used.
        """
        from jamendo_mood.extraction.streaming import StreamConfig
        from jamendo_mood.tagging.prediction import predict_files

        force = self.config["force"].get(bool)
        todo = {
            Path(os.fsdecode(item.path)): item
            for item in items
            if force or not any(name.startswith(PREFIX) for name in item.keys(with_album=False))
        }
        if not todo:
            return 0
        failed, config = 0, StreamConfig(prefetch=self.config["threads"].get(int))
        with contextlib.closing(predict_files([*todo], *self._tools, config)) as results:
            for path, result in results:
                if isinstance(result, str):
                    failed += 1
                    self._log.warning("{}", show(result))
                    continue
                keep(todo[path], result, force=force)
                self._log.info("{}: {}", show(str(path)), "; ".join(todo[path].get("mood") or ["no mood"]))
        return failed

    @cached_property
    def _tools(self) -> tuple[Tagger, Embedder]:
        from jamendo_mood.cli.shared import load_tagger
        from jamendo_mood.embedders.registry import load_embedder

        tagger = load_tagger(argparse.Namespace(tagger=self._find_tagger()))
        return tagger, load_embedder(tagger.spec)

    def _find_tagger(self) -> Path | None:
        name = self.config["tagger"].get()
        if name is None or name in ("audioset", "musicnn"):
            return name and Path(name)
        return Path(self.config["tagger"].as_filename())  # seen from beets' folder, as its other paths are


def name_field(target: str) -> str:
    """The field of a target's score: ``moodscore_easy_listening``."""
    return PREFIX + re.sub(r"\W+", "_", target.lower()).strip("_")


def keep(item: Item, prediction: Prediction, *, force: bool) -> None:
    """Store a prediction in an item's fields; with `force` in place of what they say, else where nothing is yet."""
    from jamendo_mood.tagging.prediction import MAX_NAMED

    scores = zip(prediction.targets, prediction.track_scores.tolist(), strict=True)
    fields: dict[str, Any] = {name_field(target): round(score, DIGITS) for target, score in scores}
    best = prediction.top(MAX_NAMED if prediction.ranks else len(prediction.targets))
    if moods := [target for target, _, decided in best if (decided or prediction.ranks) and not prediction.scale]:
        fields["mood"] = moods
    if prediction.place is not None:
        fields["valence"], fields["arousal"] = (round(number, DIGITS) for number in prediction.place)
    there = {name for name in item.keys(with_album=False) if name in FIELDS or name.startswith(PREFIX)}
    for name in there - fields.keys() if force else ():
        del item[name]
    item.update({name: value for name, value in fields.items() if force or name not in there})
    item.store()
