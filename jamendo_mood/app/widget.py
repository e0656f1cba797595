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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets

from jamendo_mood.app import song_view
from jamendo_mood.app.song_queue import Song, SongQueue, Uploads, fail
from jamendo_mood.audio import conversion, ffmpeg
from jamendo_mood.audio.conversion import AUDIO_SUFFIXES
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging import song_plots
from jamendo_mood.tagging.analysis import MEGABYTE, Limits
from jamendo_mood.tagging.prediction import Prediction
from jamendo_mood.training.model import Tagger, load_builtin
from jamendo_mood.util.errors import AudioError, CancelledError, MoodError

Buffers = Sequence[bytes | memoryview]
PIECE_BYTES = 200_000
"""Of a sound, what is sent at once: between two pieces other messages get through."""


def read_static(*names: str) -> str:
    """Join files of ``static/`` into one text."""
    folder = resources.files("jamendo_mood.app") / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


class ScriptWidget(anywidget.AnyWidget):  # type: ignore[misc]
    """A widget that shows what it is told, and tells what its user does.

    Parameters
    ----------
    script : str
        An ES module that exports what anywidget expects.
    style : str
    answer : callable
        Called with each message and its buffers.
    """

    def __init__(self, script: str, style: str, answer: Callable[[Mapping[str, Any], Buffers], None]) -> None:
        self._esm, self._css = script, style
        super().__init__()
        self.on_msg(lambda _, message, buffers: answer(message, buffers))

    def tell(self, kind: str, buffers: Buffers = (), **content: Any) -> None:
        """Send a message of a kind to every view; one with a `view` is for the view of that name alone."""
        self.send({"type": kind, **content}, buffers=list(buffers))

    def send_piece(self, key: str, index: int, sound: bytes | None) -> None:
        """Send a part of a sound; the browser asks for one after the other. None: there is no sound."""
        start = index * PIECE_BYTES
        piece = (sound or b"")[start : start + PIECE_BYTES]
        last = sound is None or start + PIECE_BYTES >= len(sound)
        self.tell("piece", [piece] if piece else [], key=key, index=index, last=last)


EXCERPT_S = 30.0
KBPS = 64
"""Of an excerpt, in mono: 240 kB for 30 s, good enough to recognise a song by."""
MAX_BYTES = 10 * 3600 * KBPS * 1000 // 8  # ten hours: it is kept in memory
MAX_ASKED = 64  # pieces that wait for the encoder: a page asks for one at a time
KEPT = 4  # sounds that were asked for last: each is asked for in pieces

log = logging.getLogger(__name__)


def encode_excerpt(path: Path, length_s: float | None = EXCERPT_S) -> bytes:
    """Encode the middle of an audio file, or all of it, as a mono MP3 of 64 kb/s.

    Parameters
    ----------
    path : Path
    length_s : float or None
        Seconds; None is the whole file.

    Raises
    ------
    AudioError
        It cannot be decoded, or this ffmpeg cannot write MP3.
    """
    duration_s = conversion.probe(path).duration_s
    span: tuple[str, ...] = ()
    if length_s is not None:
        start_s = 0.0 if duration_s is None else max(0.0, (duration_s - length_s) / 2)
        span = ("-ss", f"{start_s:.2f}", "-t", f"{length_s:.2f}")
    done = ffmpeg.run(
        *("-v", "error", *span, "-i", str(path.absolute()), "-vn", "-sn", "-dn"),
        *("-map_metadata", "-1", "-ac", "1", "-c:a", "libmp3lame", "-b:a", f"{KBPS}k", "-f", "mp3", "-"),
        most_bytes=MAX_BYTES,
    )
    if done.status != 0 or not done.output:
        raise AudioError(f"{path}: no excerpt can be made of it ({done.reason(path) if done.report else 'no sound'})")
    return done.output


class Sounds:
    """Hands out sounds by their key, in pieces, from a thread of its own; nothing else can be asked for.

    Parameters
    ----------
    send_piece : callable (key, index, sound or None)
        Sends one piece of a sound.
    library : mapping of str to Path
        Tracks of which an excerpt may be heard.

    Attributes
    ----------
    own : dict of str to Path
        Songs that may be heard whole.
    """

    def __init__(self, send_piece: Callable[[str, int, bytes | None], None], library: Mapping[str, Path]) -> None:
        self.own: dict[str, Path] = {}
        self._send_piece, self._library = send_piece, library
        self._encoder = ThreadPoolExecutor(1, "jamendo-mood-sounds")
        self._closed = threading.Event()
        self._room = threading.Semaphore(MAX_ASKED)
        self._encoded: dict[str, bytes | None] = {}

    def send(self, key: str, index: int) -> None:
        """Send a piece of a sound, or word that there is none; returns at once. Of too many requests some are lost."""
        if self._room.acquire(blocking=False):
            self._encoder.submit(self._answer, key, index)

    def close(self) -> None:
        """End the thread, and what it is encoding."""
        self._closed.set()
        self._encoder.shutdown(cancel_futures=True)

    def _answer(self, key: str, index: int) -> None:
        try:
            self._send_piece(key, index, self._encode(key))
        finally:
            self._room.release()

    def _encode(self, key: str) -> bytes | None:
        if key not in self._encoded:
            path = self.own.get(key) or self._library.get(key)
            try:
                with ffmpeg.stopped_by(self._closed.is_set):
                    sound = None if path is None else encode_excerpt(path, None if key in self.own else EXCERPT_S)
            except CancelledError:
                return None
            except (AudioError, OSError) as error:
                log.warning("%s", error)
                sound = None
            self._encoded = dict([*self._encoded.items(), (key, sound)][-KEPT:])
        return self._encoded[key]


SCRIPTS = ("dom.js", "upload.js", "charts.js", "song.js", "tagging.js")
EXPORT = "export default { render: renderTagging };"
MOST_SONGS = 100
"""Kept for a visitor of the web page; what became of them counts, too, until it is closed."""
TOO_MANY = "Close some that are done, then drop this one again."
LONGEST_NAME = 255
LAST = ("details", "failed", "cancelled")  # after which there is no more of a song


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
        self.page = ScriptWidget(read_static(*SCRIPTS) + EXPORT, read_static("style.css"), self._answer)
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
        if kind == "tags" and song.heard is not None:
            self.predictions.append(song.heard.prediction)
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
            elif kind == "tags" and song.heard is not None:
                self.fallback.show(song.name, song.heard.prediction)

    def _forget(self, identity: str) -> None:
        self._songs.pop(identity, None)
        self._told.pop(identity, None)
        self._uploads.drop(identity)
        self._sounds.own.pop(identity, None)

    # ---- from the page

    def _answer(self, message: _Message, buffers: Buffers) -> None:
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

    def _on_hello(self, message: _Message, _: Buffers) -> None:
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

    def _on_begin(self, message: _Message, _: Buffers) -> None:
        name = str(message["name"]).encode(errors="replace").decode()[:LONGEST_NAME]  # not half a character
        song = Song(str(message["id"]), name, Path(), uploaded=True)
        size_bytes = int(message["size"])
        if song.id in self._songs or len(song.id) > LONGEST_NAME:
            raise ValueError("an upload that has begun already, or has no name")
        if len(self._songs) >= MOST_SONGS and not self._limits.paths:  # songs of strangers, who may take no more memory
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

    def _on_chunk(self, message: _Message, buffers: Buffers) -> None:
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

    def _on_path(self, message: _Message, _: Buffers) -> None:
        if self._limits.paths:
            self._add_path(str(message["path"]))

    def _on_cancel(self, message: _Message, _: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is not None and song.heard is None:
            song.cancelled.set()
            if song.uploaded and song.id in self._uploads and not self._uploads.is_complete(song.id):
                self._tell(song, "cancelled")

    def _on_remove(self, message: _Message, buffers: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None:
            return
        song.removed = True
        self._on_cancel(message, buffers)
        with self._lock:
            if song.finished:
                self._forget(song.id)
        self.page.tell("removed", id=song.id)

    def _on_save(self, message: _Message, _: Buffers) -> None:
        song = self._songs[str(message["id"])]
        if song.heard is not None:
            name, media, content = song_view.export(song.heard.prediction, str(message["format"]), song.name)
            self.page.tell("file", (content,), view=str(message.get("view", "")), name=name, media=media)

    def _on_piece(self, message: _Message, _: Buffers) -> None:
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
        content = song_plots.plot_song(prediction).to_png(dpi=110)
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
