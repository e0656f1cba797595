"""`FindWidget` finds music by mood, in notebooks and on the web page: it asks a `Library` and shows the answer.

It receives ``hello``, ``query``, ``save`` (a download), ``piece`` (of a sound) and ``forget`` (remembered emotions). It
sends ``setup``, ``results``, ``failed``, ``file``, ``piece`` and ``history``.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import ipywidgets as widgets
import numpy as np

from jamendo_mood.app import songs
from jamendo_mood.app.widget import Buffers, Message, ScriptWidget, Sounds
from jamendo_mood.library import mood_log, similarity
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tagging.emotions import EMOTIONS, find_emotion

SCRIPTS = ("dom.js", "charts.js", "finding.js")
MAX_TRACKS = 200  # a query
MAX_POINTS = 1_500  # of the library, on the plane
MAX_WISHES = 60  # remembered emotions on the curve
MEDIA = {"csv": "text/csv", "m3u8": "audio/x-mpegurl"}


class FindWidget(widgets.VBox):  # type: ignore[misc]
    """Ask for moods by sliders, a point or a path on the plane, or an emotion, and get a playlist.

    Parameters
    ----------
    library : Library
        Where to search; if it has files, tracks can be played and playlists saved.
    limits : Limits or None
        `paths` says whether this is the user's own machine, so that playlists may name its files and emotions may be
        remembered on it; `page` whether this is a web page.

    Attributes
    ----------
    found : list of Found
        The result of the last query.
    """

    def __init__(self, library: Library, *, limits: Limits | None = None) -> None:
        self._library, self._limits = library, limits or Limits()
        self.found: list[Found] = []
        self._query = 0
        self._results: dict[str, Any] = {}
        self._reader = ThreadPoolExecutor(1, "jamendo-mood-names")
        self._named: dict[str, Found] = {}
        handlers = {
            "hello": self._on_hello,
            "query": self._on_query,
            "save": self._on_save,
            "piece": self._on_piece,
            "forget": self._on_forget,
        }
        self.browser = ScriptWidget(SCRIPTS, "renderFinding", handlers)
        self._sounds = Sounds(self.browser.send_piece, library.files)
        super().__init__([self.browser])

    def close(self) -> None:
        """End the widget."""
        if "_sounds" in self.__dict__:  # Python also closes a widget that could not be made
            self._reader.shutdown(cancel_futures=True)
            self._sounds.close()
        super().close()

    def _on_hello(self, message: Message, _: Buffers) -> None:
        view = str(message.get("view", ""))
        library = self._library
        grades = library.grades or ("",) * len(library.targets)
        moods = [{"tag": tag, "reliability": grade} for tag, grade in zip(library.targets, grades, strict=True)]
        plane = np.zeros((0, 2)) if library.plane is None else library.plane
        self.browser.tell(
            "setup",
            view=view,
            moods=sorted(moods, key=lambda mood: mood["tag"].lower()),
            emotions=[asdict(emotion) for emotion in EMOTIONS.values()],
            plane=library.plane is not None,
            points=plane[:: max(1, len(plane) // MAX_POINTS)].round(2).tolist(),
            tracks=len(library),
            page=[list(tab) for tab in self._limits.page],
            remembers=self._limits.paths,
        )
        if self._results:
            self.browser.tell("results", view=view, **self._results)

    def _on_query(self, message: Message, _: Buffers) -> None:
        started = time.perf_counter()
        title, self.found = self._find(message, min(MAX_TRACKS, max(1, int(message["count"]))))
        ms = 1000 * (time.perf_counter() - started)
        self._query += 1
        self._show(self._query, title, ms)
        self._reader.submit(self._name, self._query, self.found, title, ms)
        if message.get("remember") is True and self._limits.paths:
            emotion = find_emotion(str(message["emotion"]))
            mood_log.remember([mood_log.wish_for(emotion.place, "widget", mood_log.now(), emotion.name)])
            self._tell_history()

    def _tell_history(self) -> None:
        wishes = mood_log.read().wishes[-MAX_WISHES:]
        self.browser.tell("history", wishes=mood_log.as_rows(wishes))

    def _on_forget(self, _: Message, __: Buffers) -> None:
        if self._limits.paths:
            mood_log.forget()
            self._tell_history()

    def _name(self, query: int, found: list[Found], title: str, ms: float) -> None:
        """Read names from the files, which takes a while, and show them unless there is a newer query."""
        for track in found:
            if query != self._query:
                return
            if track.key not in self._named:
                (self._named[track.key],) = similarity.describe([track])
        if query == self._query:
            self.found = [replace(self._named[track.key], fit=track.fit) for track in found]
            self._show(query, title, ms)

    def _find(self, message: Message, count: int) -> tuple[str, list[Found]]:
        mode, library = message["mode"], self._library
        if mode == "moods":
            wanted = {str(tag): float(level) for tag, level in message["wanted"].items()}
            return ", ".join(f"{tag} {level:g}" for tag, level in wanted.items()), library.by_moods(wanted, count)
        if mode == "similar":
            (track,) = similarity.describe([replace(self._library_track(str(message["key"])))])
            return f"More like {similarity.name_of(track)}", library.similar(track.key, count)
        points = [(float(valence), float(arousal)) for valence, arousal in message["points"]]
        if len(points) == 1:
            return "Near a mood", library.near(*points[0], count)
        return "From mood to mood", library.along(points, count)

    def _library_track(self, key: str) -> Found:
        self._library.row(key)
        return Found(key, 1.0, self._library.files.get(key), ())

    def _show(self, number: int, title: str, ms: float) -> None:
        tracks = [songs.describe_track(track) for track in self.found]
        formats = list(MEDIA) if self._limits.paths else ["csv"]
        self._results = {"number": number, "title": title, "tracks": tracks, "ms": ms, "formats": formats}
        self.browser.tell("results", **self._results)

    def _on_save(self, message: Message, _: Buffers) -> None:
        form = str(message["format"])
        # On other people's machines paths are nobody's business.
        tracks = self.found if self._limits.paths else [replace(track, file=None) for track in self.found]
        content = similarity.FORMATS[form](tracks).encode()
        self.browser.tell(
            "file", (content,), view=str(message.get("view", "")), name=f"playlist.{form}", media=MEDIA[form]
        )

    def _on_piece(self, message: Message, _: Buffers) -> None:
        self._sounds.send(str(message["key"]), max(0, int(message["index"])))
