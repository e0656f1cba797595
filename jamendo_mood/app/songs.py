"""The songs of a page: uploads in a private folder, a queue that analyses them, and what is shown of each."""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.audio.decoding import AUDIO_SUFFIXES
from jamendo_mood.audio.spectrograms import png_bytes
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.library import similarity
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging import emotions
from jamendo_mood.tagging.analysis import Analysis, Limits, analyse, explain, explain_error
from jamendo_mood.tagging.prediction import SPREAD_PERCENT, Prediction, describe_mood, plot_song, to_csv, to_document
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import BusyError, CancelledError, DiskFullError, MoodError, UsageError
from jamendo_mood.util.files import Scratch, is_disk_full

MAX_WAITING = 1_000
MAX_AT_ONCE = 5  #: all uploads of a notebook together may be so many times as large as the largest file allowed

log = logging.getLogger(__name__)

Tell = Callable[..., None]
"""Is told how a song gets on: ``(song, kind, buffers=(), **content)``; the kinds are those that `session` lists."""


@dataclass(eq=False)
class Song:
    """A song in the queue, and the result of its analysis."""

    #: the page's name for it, and its file's name for people
    id: str
    name: str
    path: Path
    tell: Tell
    upload: Upload | None = None  #: whose file `path` is; None if that is the user's own
    detailed: bool = True  #: whether it gets ``details``, which take about as long as its moods
    #: set by the user, and by the analysing thread once `prediction` or `error` is there
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    prediction: Prediction | None = None
    error: Exception | None = None
    similar: list[Found] = field(default_factory=list)  #: tracks of the library, the most similar first
    #: what a view opened later must be told: kind, buffers and content of messages
    told: list[tuple[str, tuple[bytes, ...], dict[str, Any]]] = field(default_factory=list)
    removed: bool = False  #: whether the user has removed it, so that nothing more is shown
    finished: bool = False  #: whether no more messages follow

    def result(self) -> Prediction:
        """The prediction of a song that is done; raises why there is none."""
        if self.prediction is None:
            raise self.error or CancelledError(f"{self.name}: cancelled")
        return self.prediction


class SongQueue:
    """Analyses songs in a thread of its own, which starts with the first song; pages share it, and all that is here.

    `load` makes the tagger's embedder, in that thread. The library is where to look for similar tracks; no more than
    `max_waiting` songs wait.
    """

    def __init__(
        self,
        tagger: Tagger,
        load: Callable[[], Embedder],
        library: Library | None,
        limits: Limits,
        max_waiting: int = MAX_WAITING,
        uploads: Uploads | None = None,
    ) -> None:
        self.tagger, self.library, self.limits = tagger, library, limits
        self.uploads = uploads or Uploads(limits)
        self._load, self._max_waiting = functools.cache(load), max_waiting
        self._waiting: queue.SimpleQueue[Song | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many songs wait."""
        return self._waiting.qsize()

    def put(self, song: Song) -> None:
        """Queue a song; returns at once. One too many fails at once."""
        if self.waiting >= self._max_waiting:
            self.fail(song, BusyError(f"{song.name} has to wait: there are too many songs here"))
            return
        song.tell(song, "progress", stage="queue" if self._load.cache_info().currsize else "load")
        self.warm_up()
        self._waiting.put(song)

    def fail(self, song: Song, error: Exception) -> None:
        """Report that a song failed; an error that is not the song's fault is logged with its traceback, too."""
        if not isinstance(error, MoodError):
            log.error("%s: %s", song.name, error, exc_info=error)
        sentence, advice = explain_error(error, song.name, self.limits)
        song.error = error
        song.tell(song, "failed", sentence=sentence, advice=advice)
        song.done.set()

    def warm_up(self) -> None:
        """Start the thread, which loads what songs need; returns at once."""
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="jamendo-mood-songs", daemon=True)
            self._worker.start()

    def close(self, wait_s: float | None = None) -> None:
        """End the thread after the queued songs, if that takes no longer than `wait_s`, and delete all uploads."""
        if self._worker is not None:
            self._waiting.put(None)
            self._worker.join(wait_s)
            self._worker = None
        self.uploads.close()

    def wait(self, song: Song) -> Prediction:
        """Wait for the prediction of a song, or raise the error; Ctrl-C cancels the song."""
        try:
            song.done.wait()
        except KeyboardInterrupt:
            song.cancelled.set()
            raise
        return song.result()

    def _work(self) -> None:
        try:
            self._load()
            self.tagger.warm_up()
        except Exception as error:  # nobody waits for it yet: the first song reports it
            log.info("not loaded yet: %s", error)
        while (song := self._waiting.get()) is not None:
            try:
                self._try(song)
            except Exception as error:  # reporting failed: the thread continues with the next song
                log.error("a song could not be reported on: %s", error, exc_info=error)

    def _try(self, song: Song) -> None:
        try:
            self._analyse(song)
        except CancelledError as error:
            song.error = error
            song.tell(song, "cancelled")
        except Exception as error:  # the one place that records a failed song: the thread continues with the next
            self.fail(song, error)
        finally:
            song.done.set()

    def _analyse(self, song: Song) -> None:
        if song.cancelled.is_set():
            raise CancelledError(f"{song.name}: cancelled")
        analysis = analyse(
            song.path,
            self.tagger,
            self._load(),
            self.limits,
            name=song.name,
            on_progress=functools.partial(song.tell, song, "progress"),
            is_cancelled=song.cancelled.is_set,
        )
        description, timeline = describe(analysis, self.tagger)
        song.prediction = analysis.prediction
        song.tell(song, "tags", (timeline,), playable=song.upload is None, **description)
        song.done.set()  # `wait` returns now; what follows is only shown in the browser
        if song.detailed:
            self._describe(song, analysis)

    def _describe(self, song: Song, analysis: Analysis) -> None:
        try:
            same: dict[str, str] = {}
            if self.library is not None:
                mean = analysis.frames.mean(axis=0)
                same = self.library.find_same(mean, song.path if song.upload is None else None)
                song.similar = self.library.similar(mean, PLAYLIST, same)
            details, picture = describe_details(analysis, self.tagger, song.similar)
            song.tell(song, "details", (picture,), left_out=similarity.describe_same(same), **details)
        except Exception as error:  # the moods are known: a missing picture is not a failure
            log.warning("%s: no details (%s)", song.name, error)
            song.tell(song, "details", why={}, similar=[], left_out="")


@dataclass(eq=False)
class Upload:
    """A file that comes in pieces, in order."""

    path: Path
    name: str
    size_bytes: int
    take: Callable[[int], bool]  #: `Uploads.take`
    close: Callable[[], None]  #: deletes the file, complete or not; a second time does no harm
    received: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been received."""
        return self.received == self.size_bytes

    def add(self, offset: int, piece: bytes | memoryview) -> None:
        """Append a piece.

        Raises `UsageError` if it is not the next one, or cannot be stored; `BusyError` if too much of all uploads is
        there already; `DiskFullError` if the disk is full.
        """
        if offset != self.received or not 0 < len(piece) <= self.size_bytes - offset:
            raise UsageError("a piece of an upload came out of order; try the upload again")
        if not self.take(len(piece)):  # what was only announced takes no room from others
            raise BusyError(f"{self.name} has to wait: there are too many songs here")
        self.received += len(piece)
        with _stored(self.path), self.path.open("ab") as file:
            file.write(piece)


class Uploads:
    """All uploads that are there, of one page or of all visitors, in a private folder that is deleted with this object.

    All together may have `max_bytes`. What a killed process leaves is removed by the next one (see `Scratch`).
    """

    def __init__(self, limits: Limits, max_bytes: int | None = None) -> None:
        self._limits = limits
        self._left_bytes = MAX_AT_ONCE * limits.size_bytes if max_bytes is None else max_bytes
        self._lock = threading.Lock()
        stack = contextlib.ExitStack()
        self._scratch = stack.enter_context(Scratch(limits.scratch))
        self.close = weakref.finalize(self, stack.close)  #: deletes all

    def take(self, size_bytes: int) -> bool:
        """Take so many bytes, if they are left; a negative number gives them back."""
        with self._lock:
            if fits := size_bytes <= self._left_bytes:
                self._left_bytes -= size_bytes
            return fits

    def begin(self, name: str, size_bytes: int) -> Upload:
        """Expect a file; its name comes from outside: only the suffix gets into a path, if it is a known one.

        Raises `LimitError` if the file is too large, `UsageError` if it cannot be stored, and `DiskFullError` if the
        disk is full.
        """
        self._limits.check_size(name, size_bytes)
        suffix = Path(name.replace("\0", "")).suffix.lower()
        folder = contextlib.ExitStack()
        with _stored(self._scratch.path):
            path = folder.enter_context(self._scratch.folder()) / f"upload{suffix if suffix in AUDIO_SUFFIXES else ''}"
            path.touch()
        upload = Upload(path, name, size_bytes, self.take, folder.close)
        folder.callback(lambda: self.take(-upload.received))
        return upload


@contextlib.contextmanager
def _stored(path: Path) -> Iterator[None]:
    """Whatever goes wrong on the disk is told without a path of this machine; the log has it."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"no space left for {path}: free some, or name another scratch folder") from error
        log.error("uploads cannot be stored: %s", error)
        raise UsageError("uploads cannot be stored") from error


SENT_TARGETS = 60  #: sent to the browser: all tags of MTG-Jamendo's, the highest of AudioSet's 527
COURSE_POINTS = 60
CARRIED_STRETCHES = 4
SIMILAR, PLAYLIST = 6, 25  #: similar tracks that are shown, and in a playlist of them


def describe(analysis: Analysis, tagger: Tagger) -> tuple[dict[str, Any], bytes]:
    """What the card of a song shows, as JSON, and the timeline.

    It is most of `Prediction.to_json`, and more: how each target lies over time, its state in words, the mood in a
    line, and the course on the plane of valence and arousal. The timeline is uint8 (frames, targets), scores from 0,
    the low end of the scale, to 255, the high end.
    """
    prediction, rules = analysis.prediction, tagger.task.rules
    best = prediction.order[:SENT_TARGETS].tolist()
    shown = prediction.to_json(SENT_TARGETS)
    spread = np.percentile(prediction.frame_scores, SPREAD_PERCENT, axis=0)
    peaks = prediction.frame_scores.max(axis=0)
    for column, target in zip(best, shown["targets"], strict=True):
        state = rules.states[0 if target["decided"] else 1 if target["threshold"] is not None else 2]
        target["state"] = state.format(target["threshold"], *(prediction.scale or (0.0, 1.0)))
        target["spread"], target["peak"] = spread[:, column].tolist(), float(peaks[column])
    course = emotions.place_of(tagger.task, tagger.thresholds, prediction.frame_scores)
    stretches = [] if course is None else np.array_split(course, min(COURSE_POINTS, len(course)))
    timeline = np.rint(255 * np.clip(prediction.share(prediction.frame_scores[:, best]), 0, 1)).astype(np.uint8)
    description = {
        **{key: shown[key] for key in ("title", "artist", "duration_s", "remark", "targets", "scale", "place")},
        "mood": describe_mood(prediction),
        "words": {
            **{name: getattr(rules, name) for name in ("choose", "carried", "nothing")},
            "legend": prediction.legend,
        },
        "course": [stretch.mean(axis=0).round(3).tolist() for stretch in stretches],
        "place_source": "predicted" if prediction.scale else f"from the {rules.plural}",
        "frames": len(timeline),
    }
    return description, timeline.tobytes()


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
    about = {name: getattr(track, name) for name in ("key", "title", "artist", "fit")}
    note = ", ".join(f"{tag} {score:.2f}" for tag, score in track.tags)
    return {**about, "playable": track.file is not None, "note": note}


def export(prediction: Prediction, form: str, name: str) -> tuple[str, bytes]:
    """A file to download: its name and its content; `name` is that of the song's file.

    The forms are ``csv`` (all tags, as `jamendo-mood tag --format csv` prints them), ``json`` (with the timeline) and
    ``png``; `KeyError` for any other.
    """
    one = replace(prediction, source=name)
    if form == "csv":
        content = to_csv([one], len(one.targets)).encode()
    elif form == "json":
        content = (plaintext.to_json(to_document([one], timeline=True), indent=1) + "\n").encode()
    elif form == "png":
        content = plot_song(one).to_png(dpi=150)
    else:
        raise KeyError(form)
    return f"{Path(name).stem or 'song'} moods.{form}", content
