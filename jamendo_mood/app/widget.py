"""`TagWidget` shows the moods of songs, in notebooks and on the web page; and what it shares with `FindWidget`.

A widget has two halves: a script in the browser (``static/``) and an object here. They speak in messages and not by
traits, since traits are saved with a notebook, and an upload or a result must not be. `TagWidget` receives ``hello`` (a
view is there), ``begin`` and ``chunk`` (an upload), ``path``, ``cancel``, ``remove``, ``save`` (a download) and
``piece`` (of a sound). It sends ``setup``, ``ack``, ``progress``, ``tags``, ``details``, ``failed``, ``cancelled``,
``removed``, ``file`` and ``piece``.
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

from jamendo_mood.app import songs
from jamendo_mood.app.songs import Song, SongQueue, Uploads, fail
from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.audio.decoding import AUDIO_SUFFIXES
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.analysis import MEGABYTE, Limits
from jamendo_mood.tagging.prediction import Prediction, plot_song
from jamendo_mood.training.model import Tagger, load_builtin
from jamendo_mood.util.errors import AudioError, CancelledError, MoodError

Buffers = Sequence[bytes | memoryview]
Message = Mapping[str, Any]

PIECE_BYTES = 200_000
"""Of a sound, in one message: other messages get through between two pieces."""
EXCERPT_S = 30.0
KBPS = 64
"""Of an excerpt, in mono: 240 kB for 30 s, good enough to recognise a song."""
MAX_SOUND_BYTES = 10 * 3600 * KBPS * 1000 // 8  # ten hours: a sound is kept in memory
MAX_WAITING_PIECES = 64  # that the encoder has not sent yet: a browser asks for one at a time
MAX_KEPT_SOUNDS = 4  # the last ones: each is asked for in pieces
MAX_SONGS = 100
"""Of a visitor of the web page, until they are removed."""
MAX_NAME_LENGTH = 255
FALLBACK_AFTER_S = 8
LAST_MESSAGES = ("details", "failed", "cancelled")

SCRIPTS = ("dom.js", "upload.js", "charts.js", "song.js", "tagging.js")

log = logging.getLogger(__name__)

_Sent = tuple[str, tuple[bytes, ...], dict[str, Any]]


def read_static(*names: str) -> str:
    """Join files of ``static/`` into one text."""
    folder = resources.files("jamendo_mood.app") / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


class ScriptWidget(anywidget.AnyWidget):  # type: ignore[misc]
    """A widget drawn by scripts of ``static/``.

    Parameters
    ----------
    scripts : sequence of str
        Their names; they are joined into one module.
    render : str
        The function of theirs that draws the widget.
    handlers : mapping of str to callable (message, buffers)
        What to call for each type of message. Messages come from outside: one that makes no sense is logged and
        dropped. The browser gets a message ``failed`` if a handler raises a `MoodError`.
    """

    def __init__(
        self, scripts: Sequence[str], render: str, handlers: Mapping[str, Callable[[Message, Buffers], None]]
    ) -> None:
        self._esm = f"{read_static(*scripts)}export default {{ render: {render} }};"
        self._css = read_static("style.css")
        self._handlers = handlers
        super().__init__()
        self.on_msg(lambda _, message, buffers: self._receive(message, buffers))

    def _receive(self, message: Message, buffers: Buffers) -> None:
        try:
            self._handlers[message["type"]](message, buffers)
        except MoodError as error:
            self.tell("failed", sentence=f"{error}.")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            log.warning("a message that makes no sense was dropped (%s: %s)", type(error).__name__, error)

    def tell(self, kind: str, buffers: Buffers = (), **content: Any) -> None:
        """Send a message to every view, or to the one that `view` names."""
        self.send({"type": kind, **content}, buffers=list(buffers))

    def send_piece(self, key: str, index: int, sound: bytes | None) -> None:
        """Send a piece of a sound; the browser asks for one after the other. None means that there is no sound."""
        start = index * PIECE_BYTES
        piece = (sound or b"")[start : start + PIECE_BYTES]
        last = sound is None or start + PIECE_BYTES >= len(sound)
        self.tell("piece", [piece] if piece else [], key=key, index=index, last=last)


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
    duration_s = decoding.probe(path).duration_s
    span: tuple[str, ...] = ()
    if length_s is not None:
        start_s = 0.0 if duration_s is None else max(0.0, (duration_s - length_s) / 2)
        span = ("-ss", f"{start_s:.2f}", "-t", f"{length_s:.2f}")
    done = ffmpeg.run(
        *("-v", "error", *span, "-i", str(path.absolute()), "-vn", "-sn", "-dn"),
        *("-map_metadata", "-1", "-ac", "1", "-c:a", "libmp3lame", "-b:a", f"{KBPS}k", "-f", "mp3", "-"),
        max_bytes=MAX_SOUND_BYTES,
    )
    if done.status != 0 or not done.output:
        raise AudioError(f"{path}: no excerpt can be made of it ({done.reason(path) if done.report else 'no sound'})")
    return done.output


class Sounds:
    """Encodes sounds in a thread of its own and sends them in pieces, by their key; only these files can be asked for.

    Parameters
    ----------
    send_piece : callable (key, index, sound or None)
    library : mapping of str to Path
        Tracks that may be played as an excerpt.

    Attributes
    ----------
    own : dict of str to Path
        Songs that may be played whole.
    """

    def __init__(self, send_piece: Callable[[str, int, bytes | None], None], library: Mapping[str, Path]) -> None:
        self.own: dict[str, Path] = {}
        self._send_piece, self._library = send_piece, library
        self._encoder = ThreadPoolExecutor(1, "jamendo-mood-sounds")
        self._closed = threading.Event()
        self._room = threading.Semaphore(MAX_WAITING_PIECES)
        self._encoded: dict[str, bytes | None] = {}

    def send(self, key: str, index: int) -> None:
        """Send a piece of a sound, or that there is no sound; returns at once, and drops what is asked for too fast."""
        if self._room.acquire(blocking=False):
            self._encoder.submit(self._answer, key, index)

    def close(self) -> None:
        """End the thread, even while it is encoding."""
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
            self._encoded = dict([*self._encoded.items(), (key, sound)][-MAX_KEPT_SOUNDS:])
        return self._encoded[key]


class TagWidget(widgets.VBox):  # type: ignore[misc]
    """Upload songs, or name one on this machine, and see the moods of each, for the whole song and over time.

    Songs are analysed one after the other in a thread of the widget's own, so the notebook stays free. An upload is
    deleted when its moods are known. If a notebook cannot show the widget, a plain upload button takes its place.

    Parameters
    ----------
    tagger : Tagger or None
        None is the tagger that comes with the package.
    embedder : Embedder or None
        The one that the tagger was trained on; None loads it with the first song.
    library : Library or None
        Where to look for similar tracks.
    limits : Limits or None
        For files; None is 200 MB and two hours.

    Attributes
    ----------
    predictions : list of Prediction
        For the songs tagged so far, the newest last.

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
        self._sent: dict[str, list[_Sent]] = {}  # by song: the messages that a view opened later must get
        self._lock = threading.RLock()  # over messages: a view that opens meanwhile gets them in the same order
        self._uploads = Uploads(self._limits)
        self._queue = SongQueue(tagger, embedder, library, self._limits, self._tell)
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
        self.browser = ScriptWidget(SCRIPTS, "renderTagging", handlers)
        self._sounds = Sounds(self.browser.send_piece, {} if library is None else library.files)
        self.fallback = Fallback(self._add_bytes, self._add_path if self._limits.paths else None)
        super().__init__([self.browser, self.fallback])

    def tag_file(self, path: Path | str, name: str | None = None) -> Prediction:
        """Tag a file on this machine, show it under `name`, and return the prediction.

        Raises
        ------
        MoodError
            It could not be tagged; the widget shows that, too.
        """
        return self._queue.wait(self._add_path(path, name))

    def tag_bytes(self, name: str, content: bytes) -> Prediction:
        """Tag the content of a file; its copy on disk is deleted once it is shown. Raises as `tag_file` does."""
        return self._queue.wait(self._add_bytes(name, content))

    def ask_colab(self) -> list[Prediction]:
        """Open Google Colab's own upload dialog, wait for it, and tag what was chosen.

        For a Colab that does not show the widget; works in a cell that is run by hand. Raises as `tag_file` does.
        """
        from google.colab import files

        return [self.tag_bytes(name, content) for name, content in files.upload().items()]

    def close(self) -> None:
        """End the widget: cancel waiting songs and delete all uploads."""
        if "fallback" in self.__dict__:  # Python also closes a widget that could not be made
            for song in list(self._songs.values()):
                song.cancelled.set()
            self._queue.close()
            self._sounds.close()
            self._uploads.close()
        super().close()

    def _add_path(self, path: Path | str, name: str | None = None) -> Song:
        with contextlib.suppress(RuntimeError):  # ~nobody: reported as any other file that is not there
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

    # ---- to the browser

    def _tell(self, song: Song, kind: str, buffers: tuple[bytes, ...] = (), **content: Any) -> None:
        """Report what becomes of a song; also called from the thread that analyses."""
        content = {"id": song.id, "name": song.name, **content}
        if kind == "tags" and song.prediction is not None:
            self.predictions.append(song.prediction)
        with self._lock:
            if kind in LAST_MESSAGES:
                song.finished = True
                self._uploads.drop(song.id)
            sent = self._sent.setdefault(song.id, [])
            if kind != "details":
                sent.clear()
            sent.append((kind, buffers, content))
            if not song.removed:
                self.browser.tell(kind, buffers, **content)
            if song.finished and (song.removed or kind == "cancelled"):
                self._forget(song.id)
        if self.fallback.in_use:
            if kind == "failed":
                self.fallback.say(f"{content['sentence']} {content['advice']}")
            elif kind == "tags" and song.prediction is not None:
                self.fallback.show(song.name, song.prediction)

    def _forget(self, identity: str) -> None:
        self._songs.pop(identity, None)
        self._sent.pop(identity, None)
        self._uploads.drop(identity)
        self._sounds.own.pop(identity, None)

    # ---- from the browser

    def _on_hello(self, message: Message, _: Buffers) -> None:
        view = str(message.get("view", ""))
        self.fallback.put_away()
        self.browser.tell(
            "setup",
            hint=f"MP3, WAV, FLAC, Ogg and others, up to {self._limits.size_bytes / MEGABYTE:.0f} MB and "
            f"{self._limits.length_s / 60:.0f} minutes each; deleted once their moods are known.",
            accept=",".join(["audio/*", *sorted(AUDIO_SUFFIXES)]),
            view=view,
            paths=self._limits.paths,
            page=[list(tab) for tab in self._limits.page],
        )
        with self._lock:
            shown = [identity for identity, song in self._songs.items() if not song.removed]
            for kind, buffers, content in itertools.chain.from_iterable(self._sent.get(own, ()) for own in shown):
                self.browser.tell(kind, buffers, view=view, **content)
        self._queue.warm_up()

    def _on_begin(self, message: Message, _: Buffers) -> None:
        name = str(message["name"]).encode(errors="replace").decode()[:MAX_NAME_LENGTH]  # not half a character
        song = Song(str(message["id"]), name, Path(), uploaded=True)
        size_bytes = int(message["size"])
        if song.id in self._songs or len(song.id) > MAX_NAME_LENGTH:
            raise ValueError("this upload has already begun, or its id is too long")
        if len(self._songs) >= MAX_SONGS and not self._limits.paths:  # strangers must not fill the memory
            advice = "Remove some that are done, then upload this one again."
            self.browser.tell("failed", id=song.id, name=name, sentence="There are too many songs here.", advice=advice)
            return
        self._songs[song.id] = song
        try:
            self._uploads.begin(song.id, song.name, size_bytes)
        except MoodError as error:
            fail(song, error, self._limits, self._tell)
        else:
            song.path = self._uploads.path(song.id)
            self._acknowledge(song, 0)

    def _on_chunk(self, message: Message, buffers: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None or song.id not in self._uploads or self._uploads.is_complete(song.id):
            return  # cancelled while this piece was on its way, or more bytes than announced
        try:
            received = self._uploads.add(song.id, int(message["offset"]), buffers[0])
        except MoodError as error:
            fail(song, error, self._limits, self._tell)
        else:
            self._acknowledge(song, received)

    def _acknowledge(self, song: Song, received: int) -> None:
        complete = self._uploads.is_complete(song.id)
        self.browser.tell("ack", id=song.id, received=received, complete=complete)
        if complete:
            self._queue.put(song)

    def _on_path(self, message: Message, _: Buffers) -> None:
        if self._limits.paths:
            self._add_path(str(message["path"]))

    def _on_cancel(self, message: Message, _: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is not None and song.prediction is None:
            song.cancelled.set()
            if song.uploaded and song.id in self._uploads and not self._uploads.is_complete(song.id):
                self._tell(song, "cancelled")

    def _on_remove(self, message: Message, buffers: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None:
            return
        song.removed = True
        self._on_cancel(message, buffers)
        with self._lock:
            if song.finished:
                self._forget(song.id)
        self.browser.tell("removed", id=song.id)

    def _on_save(self, message: Message, _: Buffers) -> None:
        song = self._songs[str(message["id"])]
        if song.prediction is not None:
            name, media, content = songs.export(song.prediction, str(message["format"]), song.name)
            self.browser.tell("file", (content,), view=str(message.get("view", "")), name=name, media=media)

    def _on_piece(self, message: Message, _: Buffers) -> None:
        song = self._songs.get(str(message["key"]))
        if song is not None and not song.uploaded:
            self._sounds.own[song.id] = song.path
        self._sounds.send(str(message["key"]), max(0, int(message["index"])))


_LATE = f"""<style>
.jm-fallback {{ animation: jm-late 0s {FALLBACK_AFTER_S}s both; }}
@keyframes jm-late {{ from {{ visibility: hidden; }} to {{ visibility: visible; }} }}
</style>"""


class Fallback(widgets.VBox):  # type: ignore[misc]
    """A plain upload button that appears some seconds later, unless the browser shows the widget's script before.

    Parameters
    ----------
    add_bytes : callable (name, content)
        Called with an upload.
    add_path : callable (path) or None
        Called with a file on this machine; None does not offer that.
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
        """Whether people see it."""
        return bool(self.layout.display != "none")

    def put_away(self) -> None:
        """Hide this: the script works."""
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
            self.say(f"Analysing {name} ...")
            try:
                self._add_bytes(name, content)
            except MoodError as error:
                self.say(str(error))

    def _on_path(self, change: Mapping[str, Any]) -> None:
        path = change["new"].strip()
        if path and self._add_path is not None:
            self.say(f"Analysing {path} ...")
            self._add_path(path)
