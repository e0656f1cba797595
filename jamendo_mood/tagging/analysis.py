"""A song listened to once: its prediction, and why each tag was given.

A stretch carried a tag if the tag's score falls when the stretch is left out. That asks nothing of the tagger but
scores, so it works with any head and any pooling. Where moments are scored by themselves, the track's score is their
mean, and a stretch is left out of that mean.

References
----------
Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2: occlusion sensitivity.
"""

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
from jamendo_mood.tasks.calibration import log_odds
from jamendo_mood.training.data import context_of, thin
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
    UsageError,
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


STRETCHES = 40
LONGEST_FRAMES = 1_200
"""Of a longer track (19 minutes of VGGish) only so many frames are listened to, evenly spread: it is heard 40 times."""

SCORED_FRAMES = 4_096  # of copies of a track that are scored together: more costs memory and gains little


@dataclass(frozen=True, eq=False)
class Explanation:
    """How much each stretch of a track carried each tag.

    Attributes
    ----------
    starts_s, ends_s : float32 arrays (stretches,)
        The stretches, in order: together they are the whole track. There are none of a track too short to be cut.
    weights : float32 array (stretches, targets)
        By how much the log-odds of the track's score fall when the stretch is left out; 0.7 halves the odds. Of values
        by how much the value falls. Negative where the track scores higher without it.
    """

    starts_s: Array
    ends_s: Array
    weights: Array

    def carried(self, tag_index: int, count: int = 3) -> list[tuple[float, float, float]]:
        """The stretches that carried a tag most.

        Parameters
        ----------
        tag_index : int
            A column of `weights`.
        count : int
            Stretches to take; those that touch are merged, and their weights added.

        Returns
        -------
        list of (start_s, end_s, weight)
            The heaviest first; only stretches of weight above 0, so there may be none.
        """
        weights = self.weights[:, tag_index]
        best = [row for row in np.argsort(-weights, kind="stable")[: max(0, count)] if weights[row] > 0]
        runs: list[list[int]] = []
        for row in sorted(map(int, best)):
            if runs and runs[-1][-1] == row - 1:
                runs[-1].append(row)
            else:
                runs.append([row])
        merged = [
            (float(self.starts_s[run[0]]), float(self.ends_s[run[-1]]), float(weights[run].sum())) for run in runs
        ]
        return sorted(merged, key=lambda entry: -entry[2])


def explain(tagger: Tagger, frames: Array, *, stretches: int = STRETCHES) -> Explanation:
    """Find the stretches of a track that carried its tags, by leaving out one after the other.

    Parameters
    ----------
    tagger : Tagger
    frames : float32 array (frames, dim)
        The track's embeddings.
    stretches : int
        Cut the track into so many stretches, from 2 up; into fewer if they would be shorter than 10 s. A track
        of less than 20 s is not cut: what is left would be no track.

    Returns
    -------
    Explanation
        Of a track longer than 1,200 frames, by that many of its frames.

    Raises
    ------
    UsageError
        `stretches` is below 2, or `frames` are no embeddings of the tagger's.
    """
    if stretches < 2:
        raise UsageError(f"a track cannot be explained by {stretches} stretches: it takes 2 or more")
    if frames.ndim != 2 or frames.shape[1] != tagger.spec.dim:
        raise UsageError(f"embeddings of shape {frames.shape}: the tagger needs (frames, {tagger.spec.dim})")
    duration_s = tagger.spec.duration_s(len(frames))
    dynamic = tagger.task.rate_hz is not None
    heard = thin([frames], LONGEST_FRAMES)[0] if len(frames) > LONGEST_FRAMES and not dynamic else frames
    count = min(stretches, len(heard), len(frames) // context_of(tagger.spec))
    if count < 2:
        none = np.zeros(0, np.float32)
        return Explanation(none, none, np.zeros((0, len(tagger.task.targets)), np.float32))
    borders = np.linspace(0, len(heard), count + 1).round().astype(int)
    borders_s = (borders * (duration_s / len(heard))).astype(np.float32)
    leave_out = _leave_out_of_mean if dynamic else _leave_out
    return Explanation(borders_s[:-1], borders_s[1:], leave_out(tagger, heard, borders))


def _leave_out_of_mean(tagger: Tagger, frames: Array, borders: npt.NDArray[np.int_]) -> Array:
    """How far the mean over the moments falls without each stretch: float32 (stretches, targets)."""
    scores = tagger.score_frames(frames).astype(np.float64)
    total, sums = scores.sum(axis=0), np.add.reduceat(scores, borders[:-1], axis=0)
    left = len(scores) - np.diff(borders)[:, None]
    return np.asarray(total / len(scores) - (total - sums) / left, np.float32)


def _leave_out(tagger: Tagger, frames: Array, borders: npt.NDArray[np.int_]) -> Array:
    """How far the log-odds, or the values, fall without each stretch: float32 (stretches, targets)."""
    weigh = np.asarray if tagger.task.rules.on_scale else log_odds
    odds = []
    together = max(1, SCORED_FRAMES // len(frames))
    for first in range(0, len(borders) - 1, together):
        cuts = zip(borders[first:-1][:together], borders[first + 1 :], strict=False)
        without = [np.concatenate([frames[:start], frames[end:]]) for start, end in cuts]
        odds.append(weigh(tagger.score(without)))
    return np.asarray(weigh(tagger.score_track(frames)) - np.concatenate(odds), np.float32)
