"""What a page of this package says and does, whoever carries its messages: a notebook's widget, or a web page's socket.

A page has two halves: a script in the browser (``static/``) and a session here. They speak in messages. `TagSession`
receives ``hello`` (a view is there), ``begin`` and ``chunk`` (an upload), ``path``, ``example``, ``cancel``,
``remove``, ``save`` (a download), ``playlist`` (of similar tracks) and ``piece`` (of a sound). It sends ``setup``,
``ack``, ``progress``, ``tags``, ``details``, ``failed``, ``cancelled``, ``removed``, ``file`` and ``piece``.
`FindSession` receives ``hello``, ``query``, ``save``, ``piece`` and ``forget`` (remembered emotions). It sends
``setup``, ``results``, ``failed``, ``file``, ``piece`` and ``history``.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

from jamendo_mood.app import songs
from jamendo_mood.app.songs import Song, SongQueue, Upload
from jamendo_mood.audio import ffmpeg
from jamendo_mood.audio.decoding import AUDIO_SUFFIXES
from jamendo_mood.library import mood_log, similarity, writing
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging.analysis import MEGABYTE, Limits
from jamendo_mood.tagging.emotions import EMOTIONS, find_emotion
from jamendo_mood.tagging.prediction import Prediction
from jamendo_mood.util.errors import AudioError, BusyError, CancelledError, MachineError, MoodError

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

MAX_TRACKS = 200  # a query
MAX_POINTS = 1_500  # of the library, on the plane
MAX_WISHES = 60  # remembered emotions on the curve

log = logging.getLogger(__name__)
_encoders = threading.BoundedSemaphore(MAX_ENCODERS)


@functools.cache
def _title_of(path: Path) -> str:
    (song,) = similarity.describe([Found(path.stem, 1.0, path, ())])
    return song.title or song.key


def read_static(*names: str) -> str:
    """Join files of ``static/`` into one text."""
    folder = resources.files("jamendo_mood.app") / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


class Session:
    """One half of a page; a method ``_on_NAME`` takes each type of message.

    Messages come from outside: one that makes no sense is logged and dropped. The browser gets a message ``failed`` if
    a method raises a `MoodError`.

    Sounds are encoded in a thread of the session's own, and only by their keys: `files` are tracks of the library, of
    which an excerpt can be played. Where `limits` allow no paths, none is told.
    """

    def __init__(self, send: Send, limits: Limits, files: Mapping[str, Path]) -> None:
        self._send, self._limits, self._files = send, limits, files
        self._formats = ["csv", "m3u8"] if limits.paths else ["csv"]  # of playlists
        self._encoder = ThreadPoolExecutor(1, "jamendo-mood-sounds")
        self._closed = threading.Event()
        self._pieces_left = threading.Semaphore(MAX_WAITING_PIECES)
        self._sound_of = functools.lru_cache(MAX_KEPT_SOUNDS)(self._encode)

    def close(self) -> None:
        """End the thread, even while it is encoding."""
        self._closed.set()
        self._encoder.shutdown(cancel_futures=True)

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

    def _send_file(self, asked: Message, name: str, content: bytes) -> None:
        self.tell("file", (content,), view=str(asked.get("view", "")), name=name)

    def _send_playlist(self, asked: Message, name: str, tracks: Sequence[Found]) -> None:
        form = str(asked["format"])
        shown = tracks if self._limits.paths else [replace(track, file=None) for track in tracks]
        self._send_file(asked, f"{name}.{form}", writing.FORMATS[form](shown).encode())

    def _on_piece(self, message: Message, _: Buffers) -> None:
        key, index = str(message["key"]), max(0, int(message["index"]))
        if self._pieces_left.acquire(blocking=False):  # what is asked for too fast is dropped
            self._encoder.submit(self._send_piece, key, index, *self._file_of(key))

    def _file_of(self, key: str) -> tuple[Path | None, float | None]:
        """What is played by a key, and how much of it: None is all."""
        return self._files.get(key), EXCERPT_S

    def _send_piece(self, key: str, index: int, path: Path | None, length_s: float | None) -> None:
        try:
            sound = NOT_HERE if path is None else self._sound_of(path, length_s)
            if isinstance(sound, str):
                self.tell("piece", key=key, index=index, last=True, why=sound)
                return
            start, end = index * PIECE_BYTES, (index + 1) * PIECE_BYTES
            piece = sound[start:end]
            self.tell("piece", [piece] if piece else [], key=key, index=index, last=end >= len(sound))
        finally:
            self._pieces_left.release()

    def _encode(self, path: Path, length_s: float | None) -> bytes | str:
        """The middle of an audio file, or with None all of it, as a mono MP3 of 64 kb/s; or why there is none."""
        try:
            with ffmpeg.stopped_by(self._closed.is_set), _encoders:
                start_s = max(0.0, ((ffmpeg.probe(path).duration_s or 0.0) - (length_s or 0.0)) / 2)
                span = () if length_s is None else ("-ss", f"{start_s:.2f}", "-t", f"{length_s:.2f}")
                done = ffmpeg.run(
                    *("-v", "error", *span, "-i", str(path.absolute()), "-vn", "-sn", "-dn", "-map_metadata", "-1"),
                    *("-ac", "1", "-c:a", "libmp3lame", "-b:a", f"{KBPS}k", "-f", "mp3", "-"),
                    max_bytes=MAX_SOUND_BYTES,
                )
            if done.status == 0 and done.output:
                return done.output
            raise AudioError(f"{path}: {done.reason(path) if done.report else 'no sound'}")
        except CancelledError:
            return NOT_HERE
        except (AudioError, MachineError, OSError) as error:
            log.warning("no MP3 can be made of a song: %s", error)
            return "no MP3 can be made of it here" if path.is_file() else "its file is gone"


class TagSession(Session):
    """The page that tags songs: uploads, or files of this machine, and the moods of each.

    The queue may be shared with other sessions; the examples are songs that may be tried by a click.
    """

    def __init__(self, send: Send, queue: SongQueue, examples: Sequence[Path] = ()) -> None:
        super().__init__(send, queue.limits, {} if queue.library is None else queue.library.files)
        # Told of a view in a browser, of each song that was tagged (name, prediction), and of what failed.
        self.on_hello: Callable[[], None] = lambda: None
        self.on_prediction: Callable[[str, Prediction], None] = lambda *_: None
        self.on_failure: Callable[[str], None] = lambda *_: None
        self._queue, self._examples = queue, examples
        self._songs: dict[str, Song] = {}
        self._lock = threading.RLock()  # over messages: a view that opens meanwhile gets them in the same order

    def add_path(self, path: Path | str, name: str | None = None) -> Song:
        """Queue a file of this machine, shown under `name`."""
        path = Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own raises for ~nobody)
        return self._add(Song(uuid.uuid4().hex, name or path.name, path, self._tell))

    def add_bytes(self, name: str, content: bytes) -> Song:
        """Queue the content of a file; its copy on disk is deleted once it is shown."""
        upload = self._queue.uploads.begin(name, len(content))
        upload.add(0, content)
        return self._add(Song(uuid.uuid4().hex, name, upload.path, self._tell, upload))

    def close(self) -> None:
        """Cancel songs that wait or are being analysed, and delete all uploads."""
        with self._lock:
            for song in self._songs.values():
                song.cancelled.set()
                song.removed = True
                if song.upload is not None:
                    song.upload.close()
        super().close()

    def _add(self, song: Song) -> Song:
        if not self._is_full(song):
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
            if kind in ("details", "failed", "cancelled"):
                song.finished = True
                if song.upload is not None:
                    song.upload.close()
            if kind != "details":
                song.told.clear()
            song.told.append((kind, buffers, content))
            if not song.removed:
                self.tell(kind, buffers, **content)
            if song.finished and (song.removed or kind == "cancelled"):
                self._songs.pop(song.id, None)
        if kind == "tags" and song.prediction is not None:
            self.on_prediction(song.name, song.prediction)

    def _file_of(self, key: str) -> tuple[Path | None, float | None]:
        song = self._songs.get(key)
        if song is not None and song.upload is None and song.prediction is not None:
            return song.path, None
        return super()._file_of(key)

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
            page=self._limits.page,
            examples=[_title_of(path) for path in self._examples],
            formats=self._formats,
        )
        with self._lock:
            for song in self._songs.values():
                for kind, buffers, content in [] if song.removed else song.told:
                    self.tell(kind, buffers, view=view, **content)
        self._queue.warm_up()

    def _on_begin(self, message: Message, _: Buffers) -> None:
        name = str(message["name"]).encode(errors="replace").decode()[:255]  # not half a character
        size_bytes, song = int(message["size"]), Song(str(message["id"]), name, Path(), self._tell)
        if song.id in self._songs:
            raise ValueError("this upload has already begun")
        if self._is_full(song):
            return
        self._songs[song.id] = song
        try:
            song.upload = upload = self._queue.uploads.begin(name, size_bytes)
        except MoodError as error:
            self._queue.fail(song, error)
        else:
            song.path = upload.path
            self._acknowledge(song, upload)

    def _is_full(self, song: Song) -> bool:
        """Whether a stranger has too many songs already, and is told so: nobody may fill the memory or the queue."""
        unfinished = sum(not each.finished for each in list(self._songs.values()))
        if self._limits.paths or (len(self._songs) < MAX_SONGS and unfinished < MAX_UNFINISHED):
            return False
        self._queue.fail(song, BusyError("There are too many songs here: remove some, or wait until some are done"))
        return True

    def _on_chunk(self, message: Message, buffers: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None or song.finished or song.upload is None or song.upload.is_complete:
            return  # cancelled while this piece was on its way, or more bytes than announced
        try:
            song.upload.add(int(message["offset"]), buffers[0])
        except MoodError as error:
            self._queue.fail(song, error)
        else:
            self._acknowledge(song, song.upload)

    def _acknowledge(self, song: Song, upload: Upload) -> None:
        self.tell("ack", id=song.id, received=upload.received, complete=upload.is_complete)
        if upload.is_complete:
            self._queue.put(song)

    def _on_path(self, message: Message, _: Buffers) -> None:
        if self._limits.paths:
            self.add_path(str(message["path"]))

    def _on_example(self, message: Message, _: Buffers) -> None:
        self.add_path(self._examples[int(message["number"])])

    def _on_cancel(self, message: Message, _: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is not None and song.prediction is None and not song.finished:
            song.cancelled.set()
            if song.upload is not None and not song.upload.is_complete:
                self._tell(song, "cancelled")

    def _on_remove(self, message: Message, buffers: Buffers) -> None:
        song = self._songs.get(str(message["id"]))
        if song is None:
            return
        song.removed = True
        self._on_cancel(message, buffers)
        if song.finished:
            self._songs.pop(song.id, None)
        self.tell("removed", id=song.id)

    def _on_save(self, message: Message, _: Buffers) -> None:
        song = self._songs[str(message["id"])]
        self._send_file(message, *songs.export(song.result(), str(message["format"]), song.name))

    def _on_playlist(self, message: Message, _: Buffers) -> None:
        song = self._songs[str(message["id"])]
        self._send_playlist(message, f"like {Path(song.name).stem or 'song'}", similarity.describe(song.similar))


class FindSession(Session):
    """The page that finds music by mood, see `FindWidget`."""

    def __init__(self, send: Send, library: Library, limits: Limits) -> None:
        super().__init__(send, limits, library.files)
        self._library = library
        self.found: list[Found] = []  #: the result of the last query
        self._results: dict[str, Any] = {}  # the same as the browser gets it
        self._reader = ThreadPoolExecutor(1, "jamendo-mood-names")
        self._named: dict[str, Found] = {}

    def close(self) -> None:
        """End its threads."""
        self._reader.shutdown(cancel_futures=True)
        super().close()

    def _on_hello(self, message: Message, _: Buffers) -> None:
        view = str(message.get("view", ""))
        library = self._library
        graded = itertools.zip_longest(library.targets, library.grades, fillvalue="")
        moods = [{"tag": tag, "reliability": grade} for tag, grade in graded]
        self.tell(
            "setup",
            view=view,
            moods=sorted(moods, key=lambda mood: mood["tag"].lower()),
            emotions=[asdict(emotion) for emotion in EMOTIONS.values()],
            plane=library.plane is not None,
            points=[] if library.plane is None else library.plane[:: 1 + len(library) // MAX_POINTS].round(2).tolist(),
            tracks=len(library),
            page=self._limits.page,
            remembers=self._limits.paths,
        )
        if self._results:
            self.tell("results", view=view, **self._results)

    def _on_query(self, message: Message, _: Buffers) -> None:
        started = time.perf_counter()
        title, found = self._find(message, min(MAX_TRACKS, max(1, int(message["count"]))))
        ms = 1000 * (time.perf_counter() - started)
        number = self._results.get("number", 0) + 1
        self._show(found, number=number, title=title, ms=ms, formats=self._formats)
        self._reader.submit(self._name, number, found)
        if message.get("remember") is True and self._limits.paths:
            emotion = find_emotion(str(message["emotion"]))
            mood_log.remember([mood_log.wish_for(emotion.place, "widget", mood_log.now(), emotion.name)])
            self._tell_history()

    def _show(self, found: list[Found], **about: Any) -> None:
        self.found = found
        self._results = {**self._results, **about, "tracks": list(map(songs.describe_track, found))}
        self.tell("results", **self._results)

    def _name(self, number: int, found: list[Found]) -> None:
        """Read names from the files, which takes a while, and show them unless there is a newer query."""
        if number == self._results["number"]:
            missing = [track for track in found if track.key not in self._named]
            self._named.update((track.key, track) for track in similarity.describe(missing))
        if number == self._results["number"]:
            self._show([replace(self._named[track.key], fit=track.fit) for track in found])

    def _tell_history(self) -> None:
        wishes = mood_log.read()[0][-MAX_WISHES:]
        self.tell("history", wishes=mood_log.as_rows(wishes))

    def _on_forget(self, _: Message, __: Buffers) -> None:
        if self._limits.paths:
            mood_log.forget()
            self._tell_history()

    def _find(self, message: Message, count: int) -> tuple[str, list[Found]]:
        mode, library = message["mode"], self._library
        if mode == "moods":
            wanted = {str(tag): float(level) for tag, level in message["wanted"].items()}
            return ", ".join(f"{tag} {level:g}" for tag, level in wanted.items()), library.by_moods(wanted, count)
        if mode == "similar":
            (track,) = similarity.describe([library.found(library.row(str(message["key"])))])
            return f"More like {similarity.name_of(track)}", library.similar(track.key, count)
        points = [(float(valence), float(arousal)) for valence, arousal in message["points"]]
        if len(points) == 1:
            return "Near a mood", library.near(*points[0], count)
        return "From mood to mood", library.along(points, count)

    def _on_save(self, message: Message, _: Buffers) -> None:
        self._send_playlist(message, "playlist", self.found)
