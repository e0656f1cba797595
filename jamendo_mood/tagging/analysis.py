"""A song decoded once: its prediction, its spectrogram, and why each tag was given.

A stretch carried a tag if the tag's score falls when the stretch is left out. That asks nothing of the tagger but
scores, so it works with any head and any pooling. Where moments are scored by themselves, the track's score is their
mean, and a stretch is left out of that mean.

References
----------
Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2: occlusion sensitivity.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import decoding, ffmpeg, spectrograms
from jamendo_mood.audio.spectrograms import Drawing, Spectrogram
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.extraction.streaming import apply_frontend, blocks_of, embed_chunks
from jamendo_mood.tagging.prediction import Prediction, clock, score_embedding
from jamendo_mood.tasks.kind import log_odds
from jamendo_mood.training.data import Array, context_of, thin
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import errors
from jamendo_mood.util.files import Scratch

MIN_S = 1.0  #: of sound, where an embedder's window is longer: the rest of the window is filled with silence

PICTURE_COLUMNS = 1_200  #: of the spectrogram: a song longer than 12 s has neighbouring frames averaged

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What a widget accepts."""

    size_bytes: int = 200 * MEGABYTE  #: of one uploaded file
    length_s: float = 2 * 3600.0  #: of its sound
    #: whether the browser may name files of the machine that runs Python: yes in one's own notebook, never on a page
    #: for others. Where it may not, files are taken for those of strangers.
    paths: bool = True
    #: where uploads live until they are tagged; None is the system's folder for temporary files
    scratch: Path | None = None
    #: on a web page of its own: name and address of each tab
    page: tuple[tuple[str, str], ...] = ()

    def check_size(self, name: str, size_bytes: int) -> None:
        """Raise `LimitError` for a file that is too large."""
        if size_bytes > self.size_bytes:
            # Not divided as floats: a browser may name a size that is too large for one.
            size, limit = size_bytes // MEGABYTE, self.size_bytes // MEGABYTE
            raise errors.LimitError(f"{name} has {size} MB; the limit here is {limit} MB")


@dataclass(frozen=True, eq=False)
class Analysis:
    """What is known of a song: its prediction, embeddings (frames, dim), and spectrogram, of at most 1,200 columns."""

    prediction: Prediction
    frames: Array
    spectrogram: Spectrogram


def analyse(
    path: Path,
    tagger: Tagger,
    embedder: Embedder,
    limits: Limits,
    *,
    name: str | None = None,
    on_progress: Callable[..., object] = lambda **_: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Analysis:
    """Decode one audio file, embed it and score it, in memory that does not grow with it.

    Of the limits all but the size counts here. `name` is what errors call the file. `on_progress` is called at each
    stage, and before and after each batch of the network, with keywords: ``stage`` (decode, embed or score), ``done_s``
    and ``total_s``, the seconds of sound embedded so far and in all, and ``speed``, times real time; None is not known
    yet. `is_cancelled` is asked while ffmpeg decodes, before each block of sound and before each batch.

    Raises `AudioError` if the file cannot be decoded, or is shorter than one window of the embedder, or than a second;
    `NoSoundError` if it is silent, or has no sound; `LimitError` if it is too long; `CancelledError` if `is_cancelled`
    said so; `UsageError` if the tagger needs another embedder.
    """
    tagger.check_spec(embedder.spec)
    name = name or path.name
    watch = _Watch(name, embedder, on_progress, is_cancelled)
    watch.report("decode")
    with ffmpeg.stopped_by(is_cancelled), Scratch(limits.scratch) as scratch:
        info = ffmpeg.probe(path)
        # What is decoded counts: a stranger's header may call days of silence short, and one's own may say too much.
        bounded = not limits.paths or (info.duration_s or 0) > limits.length_s
        max_s = limits.length_s + 1 if bounded else None
        remarks: list[str] = []
        with decoding.converted(path, scratch, duration_s=max_s, info=info, remark=remarks.append) as wav:
            samples = decoding.count_samples(wav)
            watch.total_s = samples / decoding.SAMPLE_RATE_HZ
            if watch.total_s > limits.length_s:
                raise errors.LimitError(f"{name} is longer than {clock(limits.length_s)}, which is the limit here")
            min_s = min(MIN_S, embedder.spec.window_s or embedder.window_samples / embedder.spec.sample_rate_hz)
            if watch.total_s < min_s:
                raise errors.TooShortError(f"{name} lasts {watch.total_s:.2f} s; it takes {min_s:g} s at least")
            block, overlap = blocks_of(embedder)
            watch.drawing = drawing = Drawing(samples, PICTURE_COLUMNS)
            waves = watch.waves(decoding.read_blocks(wav, block, overlap), overlap)
            watched = replace(embedder, frontend=watch.frontend, network=watch.network)
            (result,) = embed_chunks(apply_frontend(name, waves, watched, remarks), watched)
    if result.frames is None:
        raise errors.AudioError(result.error) if result.cause is None else result.cause
    if decoding.SILENT in result.remark:
        raise errors.NoSoundError(f"{name} is {decoding.SILENT}")
    watch.report("score")
    described = (str(path), info.title, info.artist, result.duration_s)
    prediction = score_embedding(described, result.frames, tagger, result.remark)
    return Analysis(prediction, result.frames, drawing.spectrogram())


_EXPLANATIONS: tuple[tuple[type[Exception], str, str], ...] = (  # the first that fits
    (errors.LimitError, "{what}.", "Cut out the part that matters, or export it smaller (an MP3 of 128 kb/s will do)."),
    (errors.BusyError, "{what}.", "Try again in a minute."),
    (errors.NoSoundError, "There is no sound in it.", "Listen to it first: it may be muted, or a video without sound."),
    (errors.TooShortError, "{what}.", "Moods need a moment of music: take ten seconds or more."),
    (errors.NoFileError, "There is no such file at this place.", "Give its whole path on the machine running Python."),
    (errors.WrongKindError, "It can't be read as music: it is {kind}.", "Choose the song itself: an MP3 or WAV, say."),
    (
        errors.AudioError,
        "It can't be read as music.",
        "It may be damaged, cut off, or another kind of file under this name. "
        "Export it again as MP3, WAV or FLAC, and try that.",
    ),
    (
        errors.WeightsError,
        "The network that analyses songs is not on this machine.",
        "It is a download from Google, which did not work here; the README describes other ways to get it.",
    ),
    (errors.DiskFullError, "There is no room left on the machine that analyses songs.", "Free some, and try again."),
    (errors.MoodError, "It can't be analysed here.", "Try again later, or tell whoever runs this page."),
    (Exception, "Something broke that should not ({name}).", "Please report it, with the file's name."),
)


def explain_error(error: Exception, name: str, limits: Limits) -> tuple[str, str]:
    """What went wrong with a song, and what to do about it, in words that need no programmer.

    The sentence does not name the file, since its name stands above it. Where `limits` allow no paths, no path of this
    machine is mentioned.
    """
    said = str(error)
    what = f"It{said.removeprefix(name)}" if said.startswith(f"{name} ") else said
    base, sentence, advice = next(row for row in _EXPLANATIONS if isinstance(error, row[0]))
    if base is errors.MoodError and limits.paths:
        advice = said
    return sentence.format(what=what, kind=getattr(error, "kind", ""), name=type(error).__name__), advice


@dataclass
class _Watch:
    """Follows a song through an embedder, and stops it if it was cancelled."""

    name: str
    embedder: Embedder
    on_progress: Callable[..., object]
    is_cancelled: Callable[[], bool]
    total_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    inputs: int = 0
    drawing: Drawing = field(default_factory=lambda: Drawing(0, None))
    seen: int = 0  #: samples of a block whose bands the front end has computed

    def waves(self, blocks: Iterable[Array], overlap: int) -> Iterator[Array]:
        """The same blocks of sound; draws them, or what is left of the last where the network sees the same bands."""
        block = np.zeros(0, np.float32)
        for number, block in enumerate(blocks):
            self.stop_if_cancelled()
            if not self.sees_what_is_drawn:
                self.drawing.add(block[overlap:] if number else block)
            self.seen = 0
            yield block
        if self.sees_what_is_drawn:
            self.drawing.add(block[self.seen :])

    @property
    def sees_what_is_drawn(self) -> bool:
        """Whether the front end's patches are the picture's frames, one after the other."""
        return self.embedder.frontend is spectrograms.patches

    def frontend(self, wave: Array) -> Array:
        """The embedder's front end."""
        inputs = self.embedder.frontend(wave)
        if self.sees_what_is_drawn:
            self.drawing.add_bands(np.concatenate(inputs))
            self.seen = len(inputs) * self.embedder.hop_samples
        return inputs

    def network(self, inputs: Array) -> Array:
        """The embedder's network, with a report before and after."""
        self.report("embed")
        outputs = self.embedder.network(inputs)
        self.inputs += len(inputs)
        self.report("embed")
        return outputs

    def report(self, stage: str) -> None:
        """Say how far it is."""
        self.stop_if_cancelled()
        done_s = min(self.embedder.spec.duration_s(self.inputs), self.total_s)  # the last batch is filled up
        speed = done_s / max(time.perf_counter() - self.started, 1e-6)  # times real time so far
        self.on_progress(stage=stage, done_s=done_s, total_s=self.total_s or None, speed=speed or None)

    def stop_if_cancelled(self) -> None:
        """Raise `CancelledError` if the song was cancelled."""
        if self.is_cancelled():
            raise errors.CancelledError(f"{self.name}: cancelled")


STRETCHES = 40
MAX_EXPLAINED_FRAMES = 1_200
"""Of a longer track (19 minutes of VGGish) only so many frames count, evenly spread: it is scored 40 times."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """How much each stretch of a track carried each tag."""

    #: float32 (stretches,): in order, together the whole track; there are none of a track too short to be cut
    starts_s: Array
    ends_s: Array
    #: float32 (stretches, targets): by how much the log-odds of the track's score fall when the stretch is left out
    #: (0.7 halves the odds), of values by how much the value falls; negative where the track scores higher without it
    weights: Array

    def carried(self, tag_index: int, count: int = 3) -> list[tuple[float, float, float]]:
        """The stretches that carried a tag most, a column of `weights`: (start_s, end_s, weight), the heaviest first.

        Of the `count` stretches taken, those that touch are merged, and their weights added; only those of a weight
        above 0 are taken, so there may be none.
        """
        weights = self.weights[:, tag_index]
        best = [row for row in np.argsort(-weights, kind="stable")[: max(0, count)] if weights[row] > 0]
        rows = np.sort(np.array(best, int))
        runs = [run for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(run)]
        found = [(float(self.starts_s[run[0]]), float(self.ends_s[run[-1]]), float(weights[run].sum())) for run in runs]
        return sorted(found, key=lambda entry: -entry[2])


def explain(tagger: Tagger, frames: Array, *, stretches: int = STRETCHES) -> Explanation:
    """Find the stretches of a track, embeddings (frames, dim), that carried its tags, by leaving out each in turn.

    The track is cut into so many stretches, into fewer if they would be shorter than 10 s. A track of less than 20 s is
    not cut: what is left would be no track. One longer than 1,200 frames is explained by that many of its frames.
    """
    dynamic = tagger.task.rate_hz is not None
    kept = thin([frames], MAX_EXPLAINED_FRAMES)[0] if len(frames) > MAX_EXPLAINED_FRAMES and not dynamic else frames
    count = min(stretches, len(kept), len(frames) // context_of(tagger.spec))
    if count < 2:
        none = np.zeros(0, np.float32)
        return Explanation(none, none, np.zeros((0, len(tagger.task.targets)), np.float32))
    borders = np.linspace(0, len(kept), count + 1).round().astype(int)
    borders_s = (borders * (tagger.spec.duration_s(len(frames)) / len(kept))).astype(np.float32)
    leave_out = _leave_out_of_mean if dynamic else _leave_out
    return Explanation(borders_s[:-1], borders_s[1:], leave_out(tagger, kept, borders))


def _leave_out_of_mean(tagger: Tagger, frames: Array, borders: npt.NDArray[np.int_]) -> Array:
    """How far the mean over the moments falls without each stretch: float32 (stretches, targets)."""
    scores = tagger.score_frames(frames).astype(np.float64)
    total, sums = scores.sum(axis=0), np.add.reduceat(scores, borders[:-1], axis=0)
    left = len(scores) - np.diff(borders)[:, None]
    return np.asarray(total / len(scores) - (total - sums) / left, np.float32)


def _leave_out(tagger: Tagger, frames: Array, borders: npt.NDArray[np.int_]) -> Array:
    """How far the log-odds, or the values, fall without each stretch: float32 (stretches, targets)."""
    weigh = np.asarray if tagger.task.rules.on_scale else log_odds
    without = (np.concatenate([frames[:start], frames[end:]]) for start, end in itertools.pairwise(borders))
    scores = np.stack([tagger.score_track(copy) for copy in without])  # one at a time: patches take memory
    return np.asarray(weigh(tagger.score_track(frames)) - weigh(scores), np.float32)
