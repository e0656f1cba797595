"""The songs of a widget: uploads in a private folder, a queue that analyses them, and what is shown of each."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import AUDIO_SUFFIXES
from jamendo_mood.audio.spectrograms import png_bytes
from jamendo_mood.embedders.registry import Embedder, load_embedder
from jamendo_mood.library import similarity
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging import emotions
from jamendo_mood.tagging.analysis import Analysis, Limits, Progress, analyse, explain, explain_error
from jamendo_mood.tagging.prediction import SPREAD_PERCENT, Prediction, describe_mood, plot_song, to_csv, to_document
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import BusyError, CancelledError, MoodError, UsageError
from jamendo_mood.util.files import Scratch, is_disk_full, scratch_full

PROGRESS_EVERY_S = 0.1
MAX_WAITING = 1_000

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Song:
    """A song in the queue, and the result of its analysis."""

    #: the widget's name for it, and its file's name for people
    id: str
    name: str
    path: Path
    uploaded: bool  #: whether `path` is a copy that is deleted when the song is done
    tell: Tell  #: is told how it gets on
    #: set by the user, and by the analysing thread once `prediction` or `error` is there
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    prediction: Prediction | None = None
    error: Exception | None = None
    similar: list[Found] = field(default_factory=list)  #: tracks of the library, the most similar first
    removed: bool = False  #: whether the user has removed it, so that nothing more is shown
    finished: bool = False  #: whether no more messages follow, so that its file can be deleted
    detailed: bool = True  #: whether it gets ``details``, which take about as long as its moods


class Tell(Protocol):
    """A function that is told how songs get on."""

    def __call__(self, song: Song, kind: str, buffers: tuple[bytes, ...] = (), **content: Any) -> None:
        """Take a report on a song; its kind is ``progress``, ``tags``, ``details``, ``failed`` or ``cancelled``."""


class SongQueue:
    """Analyses songs in a thread of its own, which starts with the first song.

    Without an embedder, `load` makes it with the first song, by default as the tagger's spec says. The library is where
    to look for similar tracks; `max_waiting` is of songs in the queue.
    """

    def __init__(
        self,
        tagger: Tagger,
        embedder: Embedder | None,
        library: Library | None,
        limits: Limits,
        load: Callable[[], Embedder] | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.tagger, self._embedder, self._library, self._limits = tagger, embedder, library, limits
        self._load, self._max_waiting = load or (lambda: load_embedder(tagger.spec)), max_waiting
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self.load_error: Exception | None = None

    @property
    def waiting(self) -> int:
        """How many songs wait."""
        return self._waiting.qsize()

    @property
    def is_full(self) -> bool:
        """Whether another song would be one too many."""
        return self.waiting >= self._max_waiting

    def put(self, song: Song) -> None:
        """Queue a song; returns at once. One too many fails at once."""
        if self.is_full:
            fail(song, BusyError(f"{song.name} has to wait: there are too many songs here"), self._limits)
            song.done.set()
            return
        song.tell(song, "progress", stage="queue")
        self._put(lambda: self._try(song))

    def warm_up(self, on_failure: Callable[[], object] = lambda: None) -> None:
        """Load what the first song needs, unless it has come already; returns at once."""
        if self._worker is None:
            self._put(lambda: self._load_all(on_failure))

    def close(self, wait_s: float | None = None) -> None:
        """End the thread once it is done with the queued songs; it is waited for, by default as long as it takes."""
        if self._worker is not None:
            self._waiting.put(None)
            self._worker.join(wait_s)
            self._worker = None

    def wait(self, song: Song) -> Prediction:
        """Wait for the prediction of a song, or raise the error; Ctrl-C cancels the song."""
        try:
            song.done.wait()
        except KeyboardInterrupt:
            song.cancelled.set()
            raise
        if song.prediction is None:
            raise song.error or CancelledError(f"{song.name}: cancelled")
        return song.prediction

    def _put(self, task: Callable[[], None]) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="jamendo-mood-songs", daemon=True)
            self._worker.start()
        self._waiting.put(task)

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            try:
                task()
            except Exception as error:  # reporting failed: the thread continues with the next song
                log.error("a song could not be reported on: %s", error, exc_info=error)

    def _try(self, song: Song) -> None:
        try:
            self._analyse(song)
        except Exception as error:  # the one place that records a failed song: the thread continues with the next
            song.error = error
            if isinstance(error, CancelledError):
                song.tell(song, "cancelled")
            else:
                fail(song, error, self._limits)
        finally:
            song.done.set()

    def _analyse(self, song: Song) -> None:
        if song.cancelled.is_set():
            raise CancelledError(f"{song.name}: cancelled")
        if self._embedder is None:
            song.tell(song, "progress", stage="load")
        how = (self.tagger, self._load_embedder(), self._limits)
        told = _Throttled(lambda progress: song.tell(song, "progress", **asdict(progress)))
        analysis = analyse(song.path, *how, name=song.name, on_progress=told, is_cancelled=song.cancelled.is_set)
        if song.cancelled.is_set():
            raise CancelledError(f"{song.name}: cancelled")
        description, timeline = describe(analysis, self.tagger, song.name)
        song.prediction = analysis.prediction
        song.tell(song, "tags", (timeline,), playable=not song.uploaded, **description)
        song.done.set()  # `wait` returns now; what follows is only shown in the browser
        if song.detailed:
            self._describe(song, analysis)

    def _describe(self, song: Song, analysis: Analysis) -> None:
        try:
            same: dict[str, str] = {}
            if self._library is not None:
                mean = analysis.frames.mean(axis=0)
                same = self._library.find_same(mean, None if song.uploaded else song.path)
                song.similar = self._library.similar(mean, PLAYLIST, same)
            details, picture = describe_details(analysis, self.tagger, song.similar)
            details["left_out"] = similarity.describe_same(same)
        except Exception as error:  # the moods are known: a missing picture is not a failure
            log.warning("%s: no details (%s)", song.name, error)
            song.tell(song, "details", why={}, similar=[], left_out="")
        else:
            song.tell(song, "details", (picture,), **details)

    def _load_embedder(self) -> Embedder:
        if self._embedder is None:
            self._embedder = self._load()
            self.tagger.check_spec(self._embedder.spec)
        return self._embedder

    def _load_all(self, on_failure: Callable[[], object]) -> None:
        try:
            self._load_embedder()
            self.tagger.warm_up()
        except Exception as error:  # nobody waits for it yet: the first song reports it
            self.load_error = error
            log.info("not loaded yet: %s", error)
            on_failure()


def fail(song: Song, error: Exception, limits: Limits) -> None:
    """Report that a song failed; an error that is not the song's fault is logged with its traceback, too."""
    if not isinstance(error, MoodError):
        log.error("%s: %s", song.name, error, exc_info=error)
    sentence, advice = explain_error(error, song.name, limits)
    song.error = error
    song.tell(song, "failed", sentence=sentence, advice=advice)


class _Throttled:
    """Passes on the first report of each stage, and then ten a second."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell, self._stage, self._last = tell, "", 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        if progress.stage != self._stage or now - self._last >= PROGRESS_EVERY_S:
            self._stage, self._last = progress.stage, now
            self._tell(progress)


MAX_AT_ONCE = 5  #: all uploads of a notebook together may be so many times as large as the largest file allowed
MAX_FILES = 100


class Room:
    """Bytes on disk, and files, that uploads take together, of one page or of all visitors."""

    def __init__(self, max_bytes: int, max_files: int = MAX_FILES) -> None:
        self._left = [max_bytes, max_files]
        self._lock = threading.Lock()

    def take(self, size_bytes: int, files: int = 1) -> bool:
        """Take so many bytes and files, if they are left."""
        with self._lock:
            if size_bytes > self._left[0] or files > self._left[1]:
                return False
            self._left = [self._left[0] - size_bytes, self._left[1] - files]
            return True

    def give_back(self, size_bytes: int, files: int = 1) -> None:
        """Others may have them now."""
        with self._lock:
            self._left = [self._left[0] + size_bytes, self._left[1] + files]


@dataclass
class _Upload:
    path: Path
    name: str
    size_bytes: int
    folder: contextlib.ExitStack  # closing it removes the file and its folder
    received: int = 0


class Uploads:
    """Uploads in a private folder, which is deleted with this object.

    Each upload comes in pieces, in order. The folder is made with the first file; that of a killed process is removed
    by the next process that makes one (see `Scratch`).
    """

    def __init__(self, limits: Limits, room: Room | None = None) -> None:
        self._limits = limits
        self._room = room or Room(MAX_AT_ONCE * limits.size_bytes)
        self._stack = contextlib.ExitStack()
        self._scratch: Scratch | None = None
        self._files: dict[str, _Upload] = {}
        self._delete = weakref.finalize(self, self._stack.close)

    def close(self) -> None:
        """Delete all."""
        for identity in list(self._files):
            self.drop(identity)
        self._delete()

    def begin(self, identity: str, name: str, size_bytes: int) -> None:
        """Expect a file, `identity` being the browser's id of this upload.

        Id and name come from outside: only the name's suffix gets into a path, if it is a known one. Raises
        `LimitError` if the file is too large, `BusyError` if too many are there already, and `UsageError` if its size
        is negative, this upload has already begun, or it cannot be stored; the log says why.
        """
        self._limits.check_size(name, size_bytes)
        if size_bytes < 0 or identity in self._files:
            raise UsageError(f"{name}: an upload of {size_bytes} bytes cannot begin")
        if not self._room.take(0):
            raise BusyError(f"{name} has to wait: there are too many songs here")
        try:
            self._files[identity] = self._make(name, size_bytes)
        except (OSError, UsageError) as error:
            self._room.give_back(0)
            log.error("uploads cannot be stored: %s", error)
            raise UsageError("uploads cannot be stored") from error

    def _make(self, name: str, size_bytes: int) -> _Upload:
        if self._scratch is None:
            self._scratch = self._stack.enter_context(Scratch(self._limits.scratch))
        folder = contextlib.ExitStack()
        suffix = Path(name.replace("\0", "")).suffix.lower()
        file_name = "upload" + (suffix if suffix in AUDIO_SUFFIXES else "")
        path = folder.enter_context(self._scratch.folder()) / file_name
        path.touch()
        return _Upload(path, name, size_bytes, folder)

    def add(self, identity: str, offset: int, piece: bytes | memoryview) -> int:
        """Append a piece; returns the number of bytes received so far.

        Raises `UsageError` if there is no such upload, or this is not its next piece; `BusyError` if too much is there
        already; `DiskFullError` if the disk is full.
        """
        upload = self._files.get(identity)
        fits = upload is not None and offset == upload.received and offset + len(piece) <= upload.size_bytes
        if upload is None or not fits or not len(piece):
            raise UsageError("a piece of an upload came out of order; try the upload again")
        if not self._room.take(len(piece), files=0):  # what was only announced takes no room from others
            raise BusyError(f"{upload.name} has to wait: there are too many songs here")
        upload.received += len(piece)
        try:
            with upload.path.open("ab") as file:
                file.write(piece)
        except OSError as error:
            if is_disk_full(error):
                raise scratch_full(upload.path) from error
            log.error("%s: %s", upload.path, error)
            raise UsageError("uploads cannot be stored") from error
        return upload.received

    def is_complete(self, identity: str) -> bool:
        """Whether all of a file has been received."""
        upload = self._files[identity]
        return upload.received == upload.size_bytes

    def path(self, identity: str) -> Path:
        """The path of a file."""
        return self._files[identity].path

    def drop(self, identity: str) -> None:
        """Delete a file, complete or not; does nothing if it is not there."""
        upload = self._files.pop(identity, None)
        if upload is not None:
            upload.folder.close()
            self._room.give_back(upload.received)

    def __contains__(self, identity: object) -> bool:
        return identity in self._files


SENT_TAGS = 60  #: tags sent to the browser: all of MTG-Jamendo's, the highest of AudioSet's 527

COURSE_POINTS = 60
CARRIED_STRETCHES = 4
SIMILAR, PLAYLIST = 6, 25  #: similar tracks that are shown, and in a playlist of them

Array = npt.NDArray[np.float32]


def describe(analysis: Analysis, tagger: Tagger, name: str) -> tuple[dict[str, Any], bytes]:
    """What the card of a song shows, as JSON, and the timeline.

    The targets are in `Prediction.order`; the timeline is uint8 (frames, columns), scores from 0, the low end of the
    scale, to 255, the high end.
    """
    prediction, words = analysis.prediction, tagger.task.rules
    best = prediction.order[:SENT_TAGS].tolist()
    scale = prediction.scale or (0.0, 1.0)
    low, high = np.percentile(prediction.frame_scores, SPREAD_PERCENT, axis=0)
    peaks = prediction.frame_scores.max(axis=0)
    tags = [
        {
            "tag": prediction.targets[tag],
            "score": float(prediction.track_scores[tag]),
            **_decision(prediction, tagger, tag),
            "reliability": prediction.grades[tag],
            "spread": [float(low[tag]), float(high[tag])],
            "peak": float(peaks[tag]),
            "column": column,
        }
        for column, tag in enumerate(best)
    ]
    timeline = np.rint(255 * np.clip(prediction.share(prediction.frame_scores[:, best]), 0, 1)).astype(np.uint8)
    description = {
        "name": name,
        "title": prediction.title,
        "artist": prediction.artist,
        "duration_s": prediction.duration_s,
        "remark": prediction.remark,
        "mood": describe_mood(prediction),
        "tags": tags,
        "scale": list(scale),
        "words": {
            "choose": words.choose,
            "carried": words.carried,
            "nothing": words.nothing,
            "legend": prediction.legend,
        },
        "frames": len(timeline),
        "columns": timeline.shape[1],
        **_on_plane(prediction, tagger),
    }
    return description, timeline.tobytes()


def _decision(prediction: Prediction, tagger: Tagger, target: int) -> dict[str, Any]:
    """Whether a target is decided, by which threshold, and that in words."""
    words, value = tagger.task.rules, float(tagger.thresholds[target])
    threshold = value if words.has_thresholds and np.isfinite(value) else None
    decided = tagger.task.rules.columns[2] is not None and bool(prediction.decided[target])
    state = words.states[0 if decided else 1 if threshold is not None else 2]
    said = state.format(value, *(prediction.scale or (0.0, 1.0)))
    return {"threshold": threshold, "above_threshold": decided, "state": said}


def describe_details(analysis: Analysis, tagger: Tagger, similar: Sequence[Found]) -> tuple[dict[str, Any], bytes]:
    """What takes longer than the tags: why each was given, similar tracks, and the spectrogram, a PNG without axes.

    ``why`` has for each tag at most 4 stretches that carried it, in order, start and end in seconds.
    """
    explanation = explain(tagger, analysis.frames)
    why = {
        tag: sorted([start_s, end_s] for start_s, end_s, _ in explanation.carried(column, CARRIED_STRETCHES))
        for column, tag in enumerate(analysis.prediction.targets)
    }
    found = similarity.describe(similar[:SIMILAR])
    return {"why": why, "similar": [describe_track(track) for track in found]}, png_bytes(analysis.spectrogram)


def describe_track(track: Found) -> dict[str, Any]:
    """A track of a library for the browser's lists."""
    return {
        "key": track.key,
        "title": track.title,
        "artist": track.artist,
        "playable": track.file is not None,
        "note": ", ".join(f"{tag} {score:.2f}" for tag, score in track.tags),
        "fit": track.fit,
    }


def export(prediction: Prediction, form: str, name: str) -> tuple[str, str, bytes]:
    """A file to download: its name, its media type and its content; `name` is that of the song's file.

    The forms are ``csv`` (all tags, as `jamendo-mood tag --format csv` prints them), ``json`` (with the timeline) and
    ``png``; `KeyError` for any other.
    """
    media, write = _EXPORTS[form]
    return f"{Path(name).stem or 'song'} moods.{form}", media, write(replace(prediction, source=name))


_EXPORTS: dict[str, tuple[str, Callable[[Prediction], bytes]]] = {
    "csv": ("text/csv", lambda one: to_csv([one], len(one.targets)).encode()),
    "json": (
        "application/json",
        lambda one: (plaintext.to_json(to_document([one], timeline=True), indent=1) + "\n").encode(),
    ),
    "png": ("image/png", lambda one: plot_song(one).to_png(dpi=150)),
}


def _on_plane(prediction: Prediction, tagger: Tagger) -> dict[str, Any]:
    """Valence and arousal of the song, and their course over it; None if the targets say nothing about them."""
    whole = emotions.place_of(tagger.task, tagger.thresholds, prediction.track_scores)
    if whole is None:
        return {"va": None}
    frames = emotions.place_of(tagger.task, tagger.thresholds, prediction.frame_scores)
    stretches = np.array_split(np.asarray(frames), min(COURSE_POINTS, len(prediction.frame_scores)))
    course = [stretch.mean(axis=0).round(3).tolist() for stretch in stretches]
    source = "predicted" if prediction.scale else f"from the {tagger.task.rules.plural}"
    return {"va": whole.tolist(), "va_course": course, "va_source": source}
