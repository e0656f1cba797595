"""A file or a stored track and a tagger -> `Prediction`."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import audio
from jamendo_mood.data import check_finite
from jamendo_mood.embedders import Embedder
from jamendo_mood.errors import AudioError
from jamendo_mood.model import Tagger
from jamendo_mood.store import EmbeddingStore
from jamendo_mood.streaming import StreamConfig, embed_files

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a tagger says of one track.

    Attributes
    ----------
    source : str
        The file, or the key of a stored track.
    title, artist : str or None
        From the file's metadata.
    duration_s : float
    targets : tuple of str
    track_scores : float32 array (targets,)
        Of the whole track, range [0, 1].
    decided : bool array (targets,)
        Whether the score reaches the tag's threshold.
    grades : tuple of str
        How far each tag can be relied on: a value of `metrics.GRADES`.
    times_s : float32 array (frames,)
        Where each frame starts.
    frame_scores : float32 array (frames, targets)
        Of the 10 frames around each frame.
    """

    source: str
    title: str | None
    artist: str | None
    duration_s: float
    targets: tuple[str, ...]
    track_scores: Array
    decided: npt.NDArray[np.bool_]
    grades: tuple[str, ...]
    times_s: Array
    frame_scores: Array

    def top(self, count: int) -> list[tuple[str, float, bool]]:
        """The `count` highest tags: name, score, whether it reaches its threshold."""
        best = np.argsort(-self.track_scores, kind="stable")[:count]
        return [(self.targets[tag], float(self.track_scores[tag]), bool(self.decided[tag])) for tag in best]

    def grade(self, tag: str) -> str:
        """How far a tag can be relied on."""
        return self.grades[self.targets.index(tag)]

    def to_json(self, count: int, *, timeline: bool = False) -> dict[str, Any]:
        """The `count` highest tags, unrounded, and with `timeline` their scores over time."""
        top = self.top(count)
        values: dict[str, Any] = {
            "file": self.source,
            "title": self.title,
            "artist": self.artist,
            "duration_s": self.duration_s,
            "tags": [
                {"tag": tag, "score": score, "above_threshold": decided, "reliability": self.grade(tag)}
                for tag, score, decided in top
            ],
        }
        if timeline:
            columns = [self.targets.index(tag) for tag, _, _ in top]
            scores = {self.targets[column]: self.frame_scores[:, column].tolist() for column in columns}
            values["timeline"] = {"times_s": self.times_s.tolist(), "scores": scores}
        return values


def predict(path: Path | str, tagger: Tagger, embedder: Embedder) -> Prediction:
    """Score one audio file.

    Raises
    ------
    AudioError
        It cannot be decoded.
    UsageError
        The tagger needs another embedder.
    """
    with contextlib.closing(predict_files([Path(path)], tagger, embedder)) as results:
        _, result = next(results)
    if isinstance(result, str):
        raise AudioError(result)
    return result


def predict_files(
    paths: list[Path], tagger: Tagger, embedder: Embedder, config: StreamConfig | None = None
) -> Generator[tuple[Path, Prediction | str], None, None]:
    """Score audio files, overlapped; yields each file with its prediction, or with what went wrong.

    Raises
    ------
    UsageError
        The tagger needs another embedder.
    """
    tagger.check_spec(embedder.spec)
    by_key: Mapping[str, Path] = {str(number): path for number, path in enumerate(paths)}
    with contextlib.closing(embed_files(by_key, embedder, config)) as results:
        for result in results:
            path = by_key[result.key]
            if result.frames is None:
                yield path, result.error
                continue
            info = audio.probe(path)
            described = (str(path), info.title, info.artist, result.duration_s)
            yield path, score_embedding(described, result.frames, tagger)


def predict_stored(store: EmbeddingStore, tagger: Tagger) -> Iterator[Prediction]:
    """Score every track of a store.

    Raises
    ------
    UsageError
        The tagger needs another embedder.
    DataError
        An embedding holds NaN or infinity.
    """
    tagger.check_spec(store.spec)
    for key in store:
        frames = store[key]
        check_finite(key, frames)
        yield score_embedding((key, None, None, len(frames) * store.spec.hop_s), frames, tagger)


def score_embedding(described: tuple[str, str | None, str | None, float], frames: Array, tagger: Tagger) -> Prediction:
    """Score a track that is embedded already.

    Parameters
    ----------
    described : tuple
        Source, title, artist and duration in seconds.
    frames : float32 array (frames, dim)
    tagger : Tagger
    """
    track_scores = tagger.score_track(frames)
    return Prediction(
        *described,
        targets=tagger.task.targets,
        track_scores=track_scores,
        decided=tagger.decide(track_scores),
        grades=tagger.grades,
        times_s=(np.arange(len(frames)) * tagger.spec.hop_s).astype(np.float32),
        frame_scores=tagger.score_frames(frames),
    )
