"""The widget that tags songs, in notebooks and on the web page: it takes files and shows moods.

The page (``static/``) and this module speak in messages. From the page: ``hello`` (a view is there), ``begin`` and
``chunk`` (an upload), ``path``, ``cancel``, ``remove``, ``save`` (a download), ``piece`` (of a sound). To the page:
``setup``, ``ack``, ``progress``, ``tags``, ``details``, ``failed``, ``cancelled``, ``removed``, ``file``, ``piece``.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from jamendo_mood.app import browser, song_view
from jamendo_mood.app.browser import Sounds
from jamendo_mood.app.song_queue import Song, SongQueue, Uploads, fail
from jamendo_mood.audio.decoding import AUDIO_SUFFIXES
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.analysis import MEGABYTE, Limits
from jamendo_mood.tagging.prediction import Prediction, plot_song
from jamendo_mood.training.model import Tagger, load_builtin
from jamendo_mood.util.errors import MoodError

SCRIPTS = ("dom.js", "upload.js", "charts.js", "song.js", "tagging.js")
EXPORT = "export default { render: renderTagging };"
MAX_SONGS = 100
"""Kept for a visitor of the web page; what became of them counts, too, until it is closed."""
TOO_MANY = "Close some that are done, then drop this one again."
MAX_NAME_LENGTH = 255
LAST = ("details", "failed", "cancelled")  # after which there is no more of a song

log = logging.getLogger(__name__)

_Message = Mapping[str, Any]
_Told = tuple[str, tuple[bytes, ...], dict[str, Any]]


class TagWidget(widgets.VBox):  # type: ignore[misc]
    """Drop songs, or name one on this machine, and see the moods of each, on the whole and over time.

    Songs are taken one after the other by a thread of the widget's own, so the notebook stays free. An upload is
    deleted when its moods are there. Where a notebook cannot show the widget, a plain upload button takes its place.

    Parameters
    ----------
    tagger : Tagger or None
        None is the tagger that comes with the package.
    embedder : Embedder or None
        What the tagger was trained on; None loads it when the first song comes.
    library : Library or None
        Where similar tracks are looked for.
    limits : Limits or None
        Of files; None is 200 MB and two hours.

    Attributes
    ----------
    predictions : list of Prediction
        Of the songs tagged so far, the newest last.

    Raises
    ------
    UsageError
        The tagger needs another embedder.
    """

    def __init__(
        self,
        tagger: Tagger | None = None,
        embedder: Embedder | None = None,
        *,
        library: Library | None = None,
        limits: Limits | None = None,
    ) -> None:
        tagger = load_builtin() if tagger is None else tagger
        if embedder is not None:
            tagger.check_spec(embedder.spec)
        self.predictions: list[Prediction] = []
        self._limits = limits or Limits()
        self._songs: dict[str, Song] = {}
        self._told: dict[str, list[_Told]] = {}  # of each song, what a view that comes later must know
        self._lock = threading.RLock()  # over what is told: a view that comes meanwhile is told in the same order
        self._uploads = Uploads(self._limits)
        self._queue = SongQueue(tagger, embedder, library, self._limits, self._tell)
        self.page = browser.Page(browser.read_static(*SCRIPTS) + EXPORT, browser.read_static("style.css"), self._answer)
        self._sounds = Sounds(self.page.send_piece, {} if library is None else library.files)
        self.fallback = Fallback(self._add_bytes, self._add_path if self._limits.paths else None)
        super().__init__([self.page, self.fallback])

    def tag_file(self, path: Path | str, name: str | None = None) -> Prediction:
        """Tag a file of this machine, show it under `name`, and return what was found.

        Raises
        ------
        MoodError
            It could not be tagged; that is shown too.
        """
        return self._queue.wait(self._add_path(path, name))

    def tag_bytes(self, name: str, content: bytes) -> Prediction:
        """Tag the content of a file; its copy on disk goes when all of it is shown. Raises as `tag_file` does."""
        return self._queue.wait(self._add_bytes(name, content))

    def ask_colab(self) -> list[Prediction]:
        """Open Google Colab's own upload dialog, wait for it, and tag what was chosen.

        For a Colab that shows nothing of the widget; works in a cell that is run by hand. Raises as `tag_file` does.
        """
        from google.colab import files

        return [self.tag_bytes(name, content) for name, content in files.upload().items()]

    def close(self) -> None:
        """End the widget: songs that wait are cancelled, and nothing of an upload is left."""
        if "fallback" in self.__dict__:  # Python closes what could not be made, too
            for song in list(self._songs.values()):
                song.cancelled.set()
            self._queue.close()
            self._sounds.close()
            self._uploads.close()
        super().close()

    def _add_path(self, path: Path | str, name: str | None = None) -> Song:
        with contextlib.suppress(RuntimeError):  # ~nobody: there is no such file, which is told as of any other
            path = Path(path).expanduser()
        path = Path(path)
        return self._add(Song(uuid.uuid4().hex, name or path.name, path, uploaded=False))

    def _add_bytes(self, name: str, content: bytes) -> Song:
        identity = uuid.uuid4().hex
        self._uploads.begin(identity, name, len(content))
        self._uploads.add(identity, 0, content)
        return self._add(Song(identity, name, self._uploads.path(identity), uploaded=True))

    def _add(self, song: Song) -> Song:
        self._songs[song.id] = song
        self._queue.put(song)
        return song

    # ---- to the page

    def _tell(self, song: Song, kind: str, buffers: tuple[bytes, ...] = (), **content: Any) -> None:
        """Tell the page what becomes of a song; called from the thread that listens, too."""
        content = {"id": song.id, "name": song.name, **content}
        if kind == "tags" and song.prediction is not None:
            self.predictions.append(song.prediction)
        with self._lock:
            if kind in LAST:
                song.finished = True
                self._uploads.drop(song.id)
            told = self._told.setdefault(song.id, [])
            if kind != "details":
                told.clear()
            told.append((kind, buffers, content))
            if not song.removed:
                self.page.tell(kind, buffers, **content)
            if song.finished and (song.removed or kind == "cancelled"):
                self._forget(song.id)
        if self.fallback.in_use:
            if kind == "failed":
                self.fallback.say(f"{content['sentence']} {content['advice']}")
            elif kind == "tags" and song.prediction is not None:
                self.fallback.show(song.name, song.prediction)

    def _forget(self, identity: str) -> None:
        self._songs.pop(identity, None)
        self._told.pop(identity, None)
        self._uploads.drop(identity)
        self._sounds.own.pop(identity, None)

    # ---- from the page

    def _answer(self, message: _Message, buffers: browser.Buffers) -> None:
        """Act on a message of the page. It comes from outside: what makes no sense is noted and dropped."""
        handlers = {
            "hello": self._on_hello,
            "begin": self._on_begin,
            "chunk": self._on_chunk,
            "path": self._on_path,
            "cancel": self._on_cancel,
            "remove": self._on_remove,
            "save": self._on_save,
            "piece": self._on_piece,
        }
        try:
            handlers[message["type"]](message, buffers)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            log.warning("a message that makes no sense was dropped (%s: %s)", type(error).__name__, error)

    def _on_hello(self, message: _Message, _: browser.Buffers) -> None:
        view = str(message.get("view", ""))
        self.fallback.put_away()
        self.page.tell(
            "setup",
            hint=f"MP3, WAV, FLAC, Ogg and others, up to {self._limits.size_bytes / MEGABYTE:.0f} MB and "
            f"{self._limits.length_s / 60:.0f} minutes each; deleted when their moods are read.",
            accept=",".join(["audio/*", *sorted(AUDIO_SUFFIXES)]),
            view=view,
            paths=self._limits.paths,
            page=[list(tab) for tab in self._limits.page],
        )
        with self._lock:
            shown = [identity for identity, song in self._songs.items() if not song.removed]
            for kind, buffers, content in itertools.chain.from_iterable(self._told.get(own, ()) for own in shown):
                self.page.tell(kind, buffers, view=view, **content)
        self._queue.warm_up()

    def _on_begin(self, message: _Message, _: browser.Buffers) -> None:
        name = str(message["name"]).encode(errors="replace").decode()[:MAX_NAME_LENGTH]  # not half a character
        song = Song(str(message["id"]), name, Path(), uploaded=True)
        size_bytes = int(message["size"])
        if song.id in self._songs or len(song.id) > MAX_NAME_LENGTH:
            raise ValueError("an upload that has begun already, or has no name")
        if len(self._songs) >= MAX_SONGS and not self._limits.paths:  # songs of strangers, who may take no more memory
            self.page.tell("failed", id=song.id, name=name, sentence="There are too many songs here.", advice=TOO_MANY)
            return
        self._songs[song.id] = song
        try:
            self._uploads.begin(song.id, song.name, size_bytes)
        except MoodError as error:
            fail(song, error, self._limits, self._tell)
        else:
            song.path = self._uploads.path(song.id)
            self._acknowledge(song, 0)

    def _on_chunk(self, message: _Message, buffers: browser.Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None or song.id not in self._uploads or self._uploads.is_complete(song.id):
            return  # cancelled while this piece was on its way, or more than was said
        try:
            received = self._uploads.add(song.id, int(message["offset"]), buffers[0])
        except MoodError as error:
            fail(song, error, self._limits, self._tell)
        else:
            self._acknowledge(song, received)

    def _acknowledge(self, song: Song, received: int) -> None:
        complete = self._uploads.is_complete(song.id)
        self.page.tell("ack", id=song.id, received=received, complete=complete)
        if complete:
            self._queue.put(song)

    def _on_path(self, message: _Message, _: browser.Buffers) -> None:
        if self._limits.paths:
            self._add_path(str(message["path"]))

    def _on_cancel(self, message: _Message, _: browser.Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is not None and song.prediction is None:
            song.cancelled.set()
            if song.uploaded and song.id in self._uploads and not self._uploads.is_complete(song.id):
                self._tell(song, "cancelled")

    def _on_remove(self, message: _Message, buffers: browser.Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None:
            return
        song.removed = True
        self._on_cancel(message, buffers)
        with self._lock:
            if song.finished:
                self._forget(song.id)
        self.page.tell("removed", id=song.id)

    def _on_save(self, message: _Message, _: browser.Buffers) -> None:
        song = self._songs[str(message["id"])]
        if song.prediction is not None:
            name, media, content = song_view.export(song.prediction, str(message["format"]), song.name)
            self.page.tell("file", (content,), view=str(message.get("view", "")), name=name, media=media)

    def _on_piece(self, message: _Message, _: browser.Buffers) -> None:
        song = self._songs.get(str(message["key"]))
        if song is not None and not song.uploaded:
            self._sounds.own[song.id] = song.path
        self._sounds.send(str(message["key"]), max(0, int(message["index"])))


APPEARS_AFTER_S = 8
_LATE = f"""<style>
.jm-fallback {{ animation: jm-late 0s {APPEARS_AFTER_S}s both; }}
@keyframes jm-late {{ from {{ visibility: hidden; }} to {{ visibility: visible; }} }}
</style>"""


class Fallback(widgets.VBox):  # type: ignore[misc]
    """Comes into sight some seconds after it was shown, unless it was put away before, because the page is there.

    Parameters
    ----------
    add_bytes : callable (name, content)
        Takes an upload.
    add_path : callable (path) or None
        Takes a file of this machine; None offers no such thing.
    """

    def __init__(
        self, add_bytes: Callable[[str, bytes], object], add_path: Callable[[str], object] | None = None
    ) -> None:
        self._add_bytes, self._add_path = add_bytes, add_path
        self.upload = widgets.FileUpload(accept="audio/*", multiple=True, description="Upload audio")
        self.path = widgets.Text(placeholder="or a path on this machine, then Enter", continuous_update=False)
        self.status = widgets.HTML()
        self.results = widgets.VBox()
        controls = [self.upload] if add_path is None else [self.upload, self.path]
        super().__init__([widgets.HTML(_LATE), widgets.HBox(controls), self.status, self.results])
        self.add_class("jm-fallback")
        self.upload.observe(self._on_upload, names="value")
        self.path.observe(self._on_path, names="value")

    @property
    def in_use(self) -> bool:
        """Whether it is what people see."""
        return bool(self.layout.display != "none")

    def put_away(self) -> None:
        """The page is there: this is not needed."""
        self.layout.display = "none"
        self.results.children = ()  # pictures would be saved with the notebook

    def say(self, text: str) -> None:
        """Show a line of text."""
        self.status.value = html.escape(text)

    def show(self, name: str, prediction: Prediction) -> None:
        """Show the moods of a song as a picture, the newest on top."""
        self.say("")
        content = plot_song(prediction).to_png(dpi=110)
        heading = widgets.HTML(f"<h3>{html.escape(name)}</h3>")
        image = widgets.Image(value=content, format="png", layout=widgets.Layout(max_width="100%"))
        self.results.children = (widgets.VBox([heading, image]), *self.results.children)

    def _on_upload(self, change: Mapping[str, Any]) -> None:
        files = [(str(file["name"]), bytes(file["content"])) for file in change["new"]]
        if files:
            self.upload.value = ()  # uploaded bytes would be saved with the notebook
        for name, content in files:
            self.say(f"Listening to {name} ...")
            try:
                self._add_bytes(name, content)
            except MoodError as error:
                self.say(str(error))

    def _on_path(self, change: Mapping[str, Any]) -> None:
        path = change["new"].strip()
        if path and self._add_path is not None:
            self.say(f"Listening to {path} ...")
            self._add_path(path)
