"""What a page of this package says and does, whoever carries its messages: a notebook's widget, or a web page's socket.

A page has two halves: a script in the browser (``static/``) and a session here. They speak in messages. `TagSession`
receives ``hello`` (a view is there), ``begin`` and ``chunk`` (an upload), ``path``, ``example``, ``cancel``,
``remove``, ``save`` (a download), ``playlist`` (of similar tracks) and ``piece`` (of a sound). It sends ``setup``,
``ack``, ``progress``, ``tags``, ``details``, ``failed``, ``cancelled``, ``removed``, ``file`` and ``piece``.
`FindSession` receives ``hello``, ``query``, ``save``, ``piece`` and ``forget`` (remembered emotions). It sends
``setup``, ``results``, ``failed``, ``file``, ``piece`` and ``history``.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.app import songs
from jamendo_mood.app.songs import Room, Song, SongQueue, Uploads, fail
from jamendo_mood.audio import ffmpeg
from jamendo_mood.audio.decoding import AUDIO_SUFFIXES
from jamendo_mood.library import mood_log, similarity
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging.analysis import MEGABYTE, Limits
from jamendo_mood.tagging.emotions import EMOTIONS, find_emotion
from jamendo_mood.tagging.prediction import Prediction
from jamendo_mood.util.errors import AudioError, CancelledError, MachineError, MoodError

Buffers = Sequence[bytes | memoryview]
Message = Mapping[str, Any]
Send = Callable[[dict[str, Any], list[bytes]], None]
"""Carries a message, and its buffers, to the browser; called from several threads."""

TAG_SCRIPTS = ("dom.js", "upload.js", "charts.js", "song.js", "compare.js", "tagging.js")
FIND_SCRIPTS = ("dom.js", "charts.js", "finding.js")
PIECE_BYTES = 200_000  #: of a sound, in one message: other messages get through between two pieces
EXCERPT_S = 30.0
KBPS = 64  #: of an excerpt, in mono: 240 kB for 30 s, good enough to recognise a song
MAX_SOUND_BYTES = 10 * 3600 * KBPS * 1000 // 8  # ten hours: a sound is kept in memory
MAX_WAITING_PIECES = 64  # that the encoder has not sent yet: a browser asks for one at a time
NOT_HERE = "its audio is not here"
MAX_KEPT_SOUNDS = 4  # the last ones: each is asked for in pieces
MAX_ENCODERS = 2  # at the same time, of all sessions
MAX_SONGS = 100  #: of a visitor of the web page, until they are removed
MAX_UNFINISHED = 8  #: of them, in the queue or on their way: the page sends three ahead
MAX_NAME_LENGTH = 255
LAST_MESSAGES = ("details", "failed", "cancelled")

MAX_TRACKS = 200  # a query
MAX_POINTS = 1_500  # of the library, on the plane
MAX_WISHES = 60  # remembered emotions on the curve
MEDIA = {"csv": "text/csv", "m3u8": "audio/x-mpegurl"}

log = logging.getLogger(__name__)
_encoders = threading.BoundedSemaphore(MAX_ENCODERS)

_Sent = tuple[str, tuple[bytes, ...], dict[str, Any]]


@functools.cache
def _title_of(path: Path) -> str:
    try:
        return ffmpeg.probe(path).title or path.stem
    except (MoodError, OSError):  # the song itself will say so
        return path.stem


def _playlist_formats(limits: Limits) -> list[str]:
    return list(MEDIA) if limits.paths else ["csv"]


def read_static(*names: str) -> str:
    """Join files of ``static/`` into one text."""
    folder = resources.files("jamendo_mood.app") / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


class Session:
    """One half of a page; a method ``_on_NAME`` takes each type of message.

    Messages come from outside: one that makes no sense is logged and dropped. The browser gets a message ``failed`` if
    a method raises a `MoodError`.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def close(self) -> None:
        """End its threads, and delete what was uploaded."""

    def receive(self, message: Message, buffers: Buffers) -> None:
        """Take a message from the browser."""
        try:
            getattr(self, f"_on_{message['type']}")(message, buffers)
        except MoodError as error:
            self.tell("failed", sentence=f"{error}.")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            log.warning("a message that makes no sense was dropped (%s: %s)", type(error).__name__, error)

    def tell(self, kind: str, buffers: Buffers = (), **content: Any) -> None:
        """Send a message to every view, or to the one that `view` names."""
        self._send({"type": kind, **content}, list(map(bytes, buffers)))

    def send_piece(self, key: str, index: int, sound: bytes | str) -> None:
        """Send a piece of a sound; the browser asks for one after the other. Text says why there is no sound."""
        if isinstance(sound, str):
            self.tell("piece", key=key, index=index, last=True, why=sound)
            return
        start = index * PIECE_BYTES
        piece = sound[start : start + PIECE_BYTES]
        self.tell("piece", [piece] if piece else [], key=key, index=index, last=start + PIECE_BYTES >= len(sound))

    def send_playlist(self, tracks: Sequence[Found], form: str, name: str, view: str, *, paths: bool) -> None:
        """Send a playlist as a file; without `paths`, which are nobody's business on other people's machines."""
        content = similarity.FORMATS[form](tracks if paths else [replace(track, file=None) for track in tracks])
        self.tell("file", (content.encode(),), view=view, name=f"{name}.{form}", media=MEDIA[form])


def encode_excerpt(path: Path, length_s: float | None = EXCERPT_S) -> bytes:
    """Encode the middle of an audio file, or with None all of it, as a mono MP3 of 64 kb/s.

    Raises `AudioError` if it cannot be decoded, or this ffmpeg cannot write MP3.
    """
    duration_s = ffmpeg.probe(path).duration_s
    span: tuple[str, ...] = ()
    if length_s is not None:
        start_s = 0.0 if duration_s is None else max(0.0, (duration_s - length_s) / 2)
        span = ("-ss", f"{start_s:.2f}", "-t", f"{length_s:.2f}")
    with _encoders:
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

    `send_piece` gets key, index, and the sound or why there is none. Tracks of the library are played as an excerpt.
    """

    def __init__(self, send_piece: Callable[[str, int, bytes | str], None], library: Mapping[str, Path]) -> None:
        self.own: dict[str, Path] = {}  #: songs that may be played whole
        self._send_piece, self._library = send_piece, library
        self._encoder = ThreadPoolExecutor(1, "jamendo-mood-sounds")
        self._closed = threading.Event()
        self._room = threading.Semaphore(MAX_WAITING_PIECES)
        self._encoded: dict[str, bytes | str] = {}

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

    def _encode(self, key: str) -> bytes | str:
        if key not in self._encoded:
            path = self.own.get(key) or self._library.get(key)
            try:
                with ffmpeg.stopped_by(self._closed.is_set):
                    sound = encode_excerpt(path, None if key in self.own else EXCERPT_S) if path else NOT_HERE
            except CancelledError:
                return NOT_HERE
            except (AudioError, MachineError, OSError) as error:
                log.warning("%s", error)
                sound = "no MP3 can be made of it here" if path and path.is_file() else "its file is gone"
            self._encoded = dict([*self._encoded.items(), (key, sound)][-MAX_KEPT_SOUNDS:])
        return self._encoded[key]


class TagSession(Session):
    """The page that tags songs: uploads, or files of this machine, and the moods of each.

    The queue, and the room for uploads, may be shared with other sessions; the library is where to look for similar
    tracks, and the examples are songs that may be tried by a click.
    """

    def __init__(
        self,
        send: Send,
        queue: SongQueue,
        library: Library | None,
        limits: Limits,
        room: Room | None = None,
        examples: Sequence[Path] = (),
    ) -> None:
        super().__init__(send)
        # Told of a view in a browser, of each song that was tagged (name, prediction), and of what failed.
        self.on_hello: Callable[[], None] = lambda: None
        self.on_prediction: Callable[[str, Prediction], None] = lambda *_: None
        self.on_failure: Callable[[str], None] = lambda *_: None
        self._limits, self._queue, self._examples = limits, queue, examples
        self._songs: dict[str, Song] = {}
        self._sent: dict[str, list[_Sent]] = {}  # by song: the messages that a view opened later must get
        self._lock = threading.RLock()  # over messages: a view that opens meanwhile gets them in the same order
        self._uploads = Uploads(limits, room)
        self._sounds = Sounds(self.send_piece, {} if library is None else library.files)

    def add_path(self, path: Path | str, name: str | None = None) -> Song:
        """Queue a file of this machine, shown under `name`."""
        with contextlib.suppress(RuntimeError):  # ~nobody: reported as any other file that is not there
            path = Path(path).expanduser()
        path = Path(path)
        return self._add(self._make(uuid.uuid4().hex, name or path.name, path, uploaded=False))

    def add_bytes(self, name: str, content: bytes) -> Song:
        """Queue the content of a file; its copy on disk is deleted once it is shown."""
        identity = uuid.uuid4().hex
        self._uploads.begin(identity, name, len(content))
        self._uploads.add(identity, 0, content)
        return self._add(self._make(identity, name, self._uploads.path(identity), uploaded=True))

    def close(self) -> None:
        """Cancel songs that wait or are being analysed, and delete all uploads."""
        for song in list(self._songs.values()):
            song.cancelled.set()
            song.removed = True
        self._sounds.close()
        self._uploads.close()

    def _make(self, identity: str, name: str, path: Path, *, uploaded: bool) -> Song:
        return Song(identity, name, path, uploaded, self._tell)

    def _add(self, song: Song) -> Song:
        self._songs[song.id] = song
        self._queue.put(song)
        return song

    # ---- to the browser

    def _tell(self, song: Song, kind: str, buffers: tuple[bytes, ...] = (), **content: Any) -> None:
        """Report what becomes of a song; also called from the thread that analyses."""
        content = {"id": song.id, "name": song.name, **content}
        if kind == "failed":
            self.on_failure(f"{song.name}: {content['sentence']} {content['advice']}")
        with self._lock:
            if kind in LAST_MESSAGES:
                song.finished = True
                self._uploads.drop(song.id)
            sent = self._sent.setdefault(song.id, [])
            if kind != "details":
                sent.clear()
            sent.append((kind, buffers, content))
            if not song.removed:
                self.tell(kind, buffers, **content)
            if song.finished and (song.removed or kind == "cancelled"):
                self._forget(song.id)
        if kind == "tags" and song.prediction is not None:
            self.on_prediction(song.name, song.prediction)

    def _forget(self, identity: str) -> None:
        self._songs.pop(identity, None)
        self._sent.pop(identity, None)
        self._uploads.drop(identity)
        self._sounds.own.pop(identity, None)

    # ---- from the browser

    def _on_hello(self, message: Message, _: Buffers) -> None:
        view = str(message.get("view", ""))
        self.on_hello()
        task = self._queue.tagger.task
        self.tell(
            "setup",
            hint=f"MP3, WAV, FLAC, Ogg and others, up to {self._limits.size_bytes / MEGABYTE:.0f} MB and "
            f"{self._limits.length_s / 60:.0f} minutes each; deleted once their moods are known. "
            f"Tagger: {task.name}, {len(task.targets)} {task.rules.plural}.",
            accept=",".join(["audio/*", *sorted(AUDIO_SUFFIXES)]),
            view=view,
            paths=self._limits.paths,
            page=[list(tab) for tab in self._limits.page],
            examples=[_title_of(path) for path in self._examples],
            formats=_playlist_formats(self._limits),
        )
        with self._lock:
            shown = [identity for identity, song in self._songs.items() if not song.removed]
            for kind, buffers, content in itertools.chain.from_iterable(self._sent.get(own, ()) for own in shown):
                self.tell(kind, buffers, view=view, **content)
        self._queue.warm_up()

    def _on_begin(self, message: Message, _: Buffers) -> None:
        name = str(message["name"]).encode(errors="replace").decode()[:MAX_NAME_LENGTH]  # not half a character
        song = self._make(str(message["id"]), name, Path(), uploaded=True)
        size_bytes = int(message["size"])
        if song.id in self._songs or len(song.id) > MAX_NAME_LENGTH:
            raise ValueError("this upload has already begun, or its id is too long")
        if self._is_full(song):
            return
        self._songs[song.id] = song
        try:
            self._uploads.begin(song.id, song.name, size_bytes)
        except MoodError as error:
            fail(song, error, self._limits)
        else:
            song.path = self._uploads.path(song.id)
            self._acknowledge(song, 0)

    def _is_full(self, song: Song) -> bool:
        """Whether a stranger has too many songs already, and is told so: nobody may fill the memory or the queue."""
        unfinished = sum(not each.finished for each in list(self._songs.values()))
        if self._limits.paths or (len(self._songs) < MAX_SONGS and unfinished < MAX_UNFINISHED):
            return False
        advice = "Remove some, or wait until some are done, then try this one again."
        self.tell("failed", id=song.id, name=song.name, sentence="There are too many songs here.", advice=advice)
        return True

    def _on_chunk(self, message: Message, buffers: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None or song.id not in self._uploads or self._uploads.is_complete(song.id):
            return  # cancelled while this piece was on its way, or more bytes than announced
        try:
            received = self._uploads.add(song.id, int(message["offset"]), buffers[0])
        except MoodError as error:
            fail(song, error, self._limits)
        else:
            self._acknowledge(song, received)

    def _acknowledge(self, song: Song, received: int) -> None:
        complete = self._uploads.is_complete(song.id)
        self.tell("ack", id=song.id, received=received, complete=complete)
        if complete:
            self._queue.put(song)

    def _on_path(self, message: Message, _: Buffers) -> None:
        if self._limits.paths:
            self.add_path(str(message["path"]))

    def _on_example(self, message: Message, _: Buffers) -> None:
        path = self._examples[int(message["number"])]
        song = self._make(uuid.uuid4().hex, path.name, path, uploaded=False)
        if not self._is_full(song):
            self._add(song)

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
        self.tell("removed", id=song.id)

    def _on_save(self, message: Message, _: Buffers) -> None:
        song = self._songs[str(message["id"])]
        if song.prediction is not None:
            name, media, content = songs.export(song.prediction, str(message["format"]), song.name)
            self.tell("file", (content,), view=str(message.get("view", "")), name=name, media=media)

    def _on_playlist(self, message: Message, _: Buffers) -> None:
        song, paths = self._songs[str(message["id"])], self._limits.paths
        name = f"like {Path(song.name).stem or 'song'}"
        tracks = similarity.describe(song.similar)
        self.send_playlist(tracks, str(message["format"]), name, str(message.get("view", "")), paths=paths)

    def _on_piece(self, message: Message, _: Buffers) -> None:
        song = self._songs.get(str(message["key"]))
        if song is not None and not song.uploaded:
            self._sounds.own[song.id] = song.path
        self._sounds.send(str(message["key"]), max(0, int(message["index"])))


class FindSession(Session):
    """The page that finds music by mood: by sliders, a point or a path on the plane, or an emotion.

    If the library has files, tracks can be played and playlists saved. `limits.paths` says whether this is the user's
    own machine, so that playlists may name its files and emotions may be remembered on it.
    """

    def __init__(self, send: Send, library: Library, limits: Limits) -> None:
        super().__init__(send)
        self._library, self._limits = library, limits
        self.found: list[Found] = []  #: the result of the last query
        self._query = 0
        self._results: dict[str, Any] = {}
        self._reader = ThreadPoolExecutor(1, "jamendo-mood-names")
        self._named: dict[str, Found] = {}
        self._sounds = Sounds(self.send_piece, library.files)

    def close(self) -> None:
        """End its threads."""
        self._reader.shutdown(cancel_futures=True)
        self._sounds.close()

    def _on_hello(self, message: Message, _: Buffers) -> None:
        view = str(message.get("view", ""))
        library = self._library
        grades = library.grades or ("",) * len(library.targets)
        moods = [{"tag": tag, "reliability": grade} for tag, grade in zip(library.targets, grades, strict=True)]
        plane = np.zeros((0, 2)) if library.plane is None else library.plane
        self.tell(
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
            self.tell("results", view=view, **self._results)

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
        wishes = mood_log.read()[0][-MAX_WISHES:]
        self.tell("history", wishes=mood_log.as_rows(wishes))

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
            key = str(message["key"])
            library.row(key)  # raises if there is none
            (track,) = similarity.describe([Found(key, 1.0, library.files.get(key), ())])
            return f"More like {similarity.name_of(track)}", library.similar(track.key, count)
        points = [(float(valence), float(arousal)) for valence, arousal in message["points"]]
        if len(points) == 1:
            return "Near a mood", library.near(*points[0], count)
        return "From mood to mood", library.along(points, count)

    def _show(self, number: int, title: str, ms: float) -> None:
        tracks = [songs.describe_track(track) for track in self.found]
        self._results = {"number": number, "title": title, "tracks": tracks, "ms": ms}
        self._results["formats"] = _playlist_formats(self._limits)
        self.tell("results", **self._results)

    def _on_save(self, message: Message, _: Buffers) -> None:
        form, view = str(message["format"]), str(message.get("view", ""))
        self.send_playlist(self.found, form, "playlist", view, paths=self._limits.paths)

    def _on_piece(self, message: Message, _: Buffers) -> None:
        self._sounds.send(str(message["key"]), max(0, int(message["index"])))
