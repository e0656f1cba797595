"""One song, from file to prediction, while somebody waits: progress, cancelling, errors that a musician understands."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import conversion, ffmpeg
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files
from jamendo_mood.tagging.prediction import Prediction, score_embedding
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import (
    AudioError,
    CancelledError,
    DiskFullError,
    LimitError,
    MoodError,
    NoFileError,
    NoSoundError,
    TooShortError,
    WeightsError,
)

STAGES = ("load", "decode", "embed", "score")
SILENCE = 10 ** (-80 / 20)
"""Peak amplitude, of 1, below which a file is called silent: -80 dBFS, under the noise of 14 bits."""

MEGABYTE = 1_000_000

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """What a widget accepts.

    Attributes
    ----------
    size_bytes : int
        Of one uploaded file.
    length_s : float
        Of its sound.
    paths : bool
        Whether the browser may name files of the machine that runs Python: yes in one's own notebook, never on a page
        for others. Where it may not, files are taken for those of strangers.
    scratch : Path or None
        Where uploads live until they are tagged; None is the system's folder for temporary files.
    page : tuple of (str, str)
        On a web page of its own: name and address of each tab.
    """

    size_bytes: int = 200 * MEGABYTE
    length_s: float = 2 * 3600.0
    paths: bool = True
    scratch: Path | None = None
    page: tuple[tuple[str, str], ...] = ()

    def check_size(self, name: str, size_bytes: int) -> None:
        """Raise `LimitError` for a file that is too large."""
        if size_bytes > self.size_bytes:
            # Not divided as floats: a browser may name a size that is too large for one.
            raise LimitError(
                f"{name} has {size_bytes // MEGABYTE} MB; the limit here is {self.size_bytes // MEGABYTE} MB"
            )

    def check_length(self, name: str, length_s: float | None) -> None:
        """Raise `LimitError` for sound that is too long; None is a length that is not known."""
        if length_s is not None and length_s > self.length_s:
            raise LimitError(f"{name} lasts {clock(length_s)}; the limit here is {clock(self.length_s)}")


def clock(length_s: float) -> str:
    """A length as people read it: ``2:31:00``, ``3:05``."""
    minutes, seconds = divmod(round(length_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@dataclass(frozen=True)
class Progress:
    """How far it is: a stage of `STAGES`, the seconds of sound embedded so far and in all, and times real time."""

    stage: str
    done_s: float = 0.0
    total_s: float | None = None
    speed: float | None = None


@dataclass(frozen=True, eq=False)
class Heard:
    """A song that was listened to: its prediction, and its embeddings (frames, dim)."""

    prediction: Prediction
    frames: Array


def listen(
    path: Path,
    tagger: Tagger,
    embedder: Embedder,
    limits: Limits,
    *,
    name: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Heard:
    """Score one audio file.

    Parameters
    ----------
    path : Path
    tagger : Tagger
    embedder : Embedder
        What the tagger was trained on.
    limits : Limits
        Of which only the length counts here.
    name : str or None
        What errors call the file; None is its own name.
    on_progress : callable
        Told of each stage, and of each batch of the network.
    is_cancelled : callable
        Asked before each batch, and while ffmpeg decodes; from several threads.

    Raises
    ------
    AudioError
        The file cannot be decoded, or is shorter than one window of the embedder.
    NoSoundError
        It is silent, or has no sound.
    LimitError
        It is too long.
    CancelledError
        `is_cancelled` said so.
    UsageError
        The tagger needs another embedder.
    """
    tagger.check_spec(embedder.spec)
    name = name or path.name
    on_progress(Progress("decode"))
    with ffmpeg.stopped_by(is_cancelled):
        info = conversion.probe(path)
    limits.check_length(name, info.duration_s)
    check_length = functools.partial(limits.check_length, name)  # also as it goes: some files don't know their length
    watch = _Watch(embedder.spec.duration_s(1), info.duration_s, on_progress, is_cancelled, check_length)
    watched = replace(embedder, frontend=watch.hearing(embedder.frontend), network=watch.counting(embedder.network))
    # A small file from a stranger may hold days of silence, and say in its header that it is short.
    longest_s = None if limits.paths else limits.length_s
    config = StreamConfig(prefetch=1, scratch=limits.scratch, longest_s=longest_s)
    with ffmpeg.stopped_by(is_cancelled), contextlib.closing(embed_files({name: path}, watched, config)) as results:
        result = next(results)
    if is_cancelled():
        raise CancelledError(f"{name}: cancelled")
    if isinstance(result.cause, LimitError):
        raise LimitError(f"{name} goes on after {clock(limits.length_s)}, which is the limit here")
    if result.frames is None:
        raise result.cause if isinstance(result.cause, MoodError) else AudioError(result.error)
    limits.check_length(name, result.duration_s)
    least_s = embedder.spec.window_s or embedder.window_samples / embedder.spec.sample_rate_hz
    if result.duration_s < least_s:
        raise TooShortError(f"{name} lasts {result.duration_s:.2f} s; the least to judge by is {least_s:g} s")
    if watch.peak < SILENCE:
        raise NoSoundError(f"{name} is silent from beginning to end")
    on_progress(Progress("score", result.duration_s, result.duration_s, watch.speed(result.duration_s)))
    described = (str(path), info.title, info.artist, result.duration_s)
    return Heard(score_embedding(described, result.frames, tagger), result.frames)


def explain_error(error: Exception, name: str, limits: Limits) -> tuple[str, str]:
    """What went wrong with a song, and what to do about it, in words that need no programmer.

    Where `limits` allow no paths, nothing is told of those of this machine.
    """
    what = str(error)
    if isinstance(error, LimitError):
        return what + ".", "Cut out the part that matters, or export it smaller (an MP3 of 128 kb/s will do)."
    if isinstance(error, NoSoundError):
        return f"There is no sound in {name}.", "Listen to it first: it may be a video without sound, or a muted track."
    if isinstance(error, TooShortError):
        return what + ".", "Moods need a moment of music: take ten seconds or more."
    if isinstance(error, NoFileError):
        return f"There is no file {name} at this place.", "Give its whole path on the machine that runs Python."
    if isinstance(error, AudioError):
        return (
            f"{name} can't be read as music.",
            "It may be damaged, cut off, or another kind of file under this name. "
            "Export it again as MP3, WAV or FLAC, and try that.",
        )
    if isinstance(error, WeightsError):
        return (
            "The network that does the listening is not on this machine.",
            "It is a download from Google, which did not work here; the README tells other ways to get it.",
        )
    if isinstance(error, DiskFullError):
        return "There is no room left on the machine that does the listening.", "Free some, and try again."
    if isinstance(error, MoodError) and limits.paths:
        return f"{name} can't be listened to here.", what
    if isinstance(error, MoodError):
        return f"{name} can't be listened to here.", "Try again later, or tell who runs this page."
    return (
        f"{name}: something broke that should not ({type(error).__name__}).",
        "Please report it, with the file's name.",
    )


@dataclass
class _Watch:
    """Looks on while a song goes through an embedder."""

    hop_s: float
    total_s: float | None
    on_progress: Callable[[Progress], None]
    is_cancelled: Callable[[], bool]
    check_length: Callable[[float], None]
    started: float = field(default_factory=time.perf_counter)
    inputs: int = 0
    peak: float = 0.0

    def hearing(self, frontend: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """The same front end, which notes how loud it gets, and stops early."""

        def heard(wave: Array) -> Array:
            self._stop_if_cancelled()
            self.peak = max(self.peak, float(np.abs(wave).max(initial=0)))
            return frontend(wave)

        return heard

    def counting(self, network: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """The same network, which tells of its progress, and stops early."""

        def counted(inputs: Array) -> Array:
            self._stop_if_cancelled()
            self._tell()
            outputs = network(inputs)
            self.inputs += len(inputs)
            self._tell()
            return outputs

        return counted

    def speed(self, done_s: float) -> float:
        """Times real time so far."""
        return done_s / max(time.perf_counter() - self.started, 1e-6)

    def _stop_if_cancelled(self) -> None:
        if self.is_cancelled():
            raise CancelledError

    def _tell(self) -> None:
        done_s = self.inputs * self.hop_s
        self.check_length(done_s)
        if self.total_s is not None:
            done_s = min(done_s, self.total_s)  # the last batch is filled up
        self.on_progress(Progress("embed", done_s, self.total_s, self.speed(done_s) if done_s else None))
