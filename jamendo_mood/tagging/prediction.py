"""A file or a stored track and a tagger -> `Prediction`, and its plots, which need matplotlib."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import decoding
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import Place, describe_place, place_of
from jamendo_mood.tasks import KINDS
from jamendo_mood.training.data import check_finite
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import AudioError
from jamendo_mood.util.figures import DECIDED, ROW_HEIGHT, UNDECIDED, Picture, bar_axes, make_picture

SILENCE = 10 ** (-80 / 20)
"""Peak amplitude, of 1, below which a file is called silent: -80 dBFS, under the noise of 14 bits."""

MAX_SHOWN_TARGETS = 10
SCHEMA = 1
"""The version of `to_document`: another one where a key changes its meaning or goes; keys may be added."""

Array = npt.NDArray[np.float32]
Number = TypeVar("Number", float, npt.NDArray[np.float32])


@dataclass(frozen=True, eq=False)
class Prediction:
    """The scores of one track.

    Attributes
    ----------
    source : str
        The file, or the key of a stored track.
    title, artist : str or None
        From the file's metadata.
    duration_s : float
    targets : tuple of str
    track_scores : float32 array (targets,)
        Of the whole track, range [0, 1]; values on their scale.
    decided : bool array (targets,)
        Whether the score reaches the tag's threshold; of classes, which one is chosen; without meaning for values.
    grades : tuple of str
        How far each target can be relied on: a value of `metrics.GRADES`.
    times_s : float32 array (frames,)
        Where each frame starts.
    frame_scores : float32 array (frames, targets)
        Of the 10 frames around each frame; of a dynamic task, of that moment.
    place : Place or None
        Valence and arousal of the track, see `emotions.place_of`; None if its targets do not determine them.
    kind : str
        A key of `tasks.KINDS`.
    scale : (float, float) or None
        Of values: the least and the greatest there can be.
    thresholds : tuple of (float or None)
        Of tags: where each is decided, None for one that never is. Empty for classes and values.
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
    place: Place | None = None
    kind: str = "tags"
    scale: tuple[float, float] | None = None
    thresholds: tuple[float | None, ...] = ()

    def __repr__(self) -> str:
        best = ", ".join(f"{target} {score:.2f}" for target, score, _ in self.top(3))
        return plaintext.show(f"<Prediction of {self.source} ({self.duration_s:.0f} s): {best}>")

    def _repr_html_(self) -> str:
        rules = KINDS[self.kind]
        rows = [
            (target, f"{score:.3f}{' *' if decided and rules.columns[2] else ''}", self.grade(target))
            for target, score, decided in self.top(MAX_SHOWN_TARGETS)
        ]
        name = " - ".join(filter(None, (self.artist, self.title))) or self.source
        minutes, seconds = divmod(round(self.duration_s), 60)
        return plaintext.to_html(f"{name} ({minutes}:{seconds:02d})", rows, (rules.plural, rules.score_name, "grade"))

    @property
    def ranks(self) -> bool:
        """Whether its tagger only ranks: none of its tags has a threshold."""
        return bool(self.thresholds) and all(threshold is None for threshold in self.thresholds)

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """The targets as they are shown: tags and classes the highest first, values as their task has them."""
        return np.argsort(np.zeros(len(self.targets)) if self.scale else -self.track_scores, kind="stable")

    def share(self, score: Number) -> Number:
        """How far a score is up its scale, from 0 to 1, or an array of them; of tags and classes the score itself."""
        low, high = self.scale or (0.0, 1.0)
        return (score - low) / (high - low)

    def top(self, count: int) -> list[tuple[str, float, bool]]:
        """The first `count` targets in `order`: name, score, whether it is decided."""
        best = self.order[:count]
        return [(self.targets[tag], float(self.track_scores[tag]), bool(self.decided[tag])) for tag in best]

    def grade(self, tag: str) -> str:
        """How far a tag can be relied on."""
        return self.grades[self.targets.index(tag)]

    def rows(self, count: int) -> list[dict[str, Any]]:
        """The first `count` targets with their scores, under the names of the columns of their kind."""
        name, score, decided = KINDS[self.kind].columns
        return [
            {name: row[0], score: row[1], **({decided: row[2]} if decided else {}), "reliability": self.grade(row[0])}
            for row in self.top(count)
        ]

    def to_json(self, count: int | None = None, *, timeline: bool = False) -> dict[str, Any]:
        """The first `count` targets, or all, unrounded, and with `timeline` their scores over time.

        The same keys for tags, classes and values; what a kind does not have is None.
        """
        columns = self.order[:count].tolist()
        decides = KINDS[self.kind].columns[2] is not None
        scores = {self.targets[column]: self.frame_scores[:, column].tolist() for column in columns}
        return {
            "file": self.source,
            "title": self.title,
            "artist": self.artist,
            "duration_s": self.duration_s,
            "kind": self.kind,
            "targets": [
                {
                    "name": self.targets[column],
                    "score": float(self.track_scores[column]),
                    "decided": bool(self.decided[column]) if decides and not self.ranks else None,
                    "threshold": self.thresholds[column] if self.thresholds else None,
                    "reliability": self.grades[column],
                }
                for column in columns
            ],
            "scale": None if self.scale is None else list(self.scale),
            "place": None if self.place is None else asdict(describe_place(*self.place)),
            "timeline": {"times_s": self.times_s.tolist(), "scores": scores} if timeline else None,
        }


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
    """Score audio files, decoding ahead of the network; yields each file with its prediction or its error.

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
            if result.peak < SILENCE:
                yield path, f"{path}: silent from beginning to end"
                continue
            info = decoding.probe(path)
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
        yield score_embedding((key, None, None, store.spec.duration_s(len(frames))), frames, tagger)


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
    va = place_of(tagger.task, tagger.thresholds, track_scores)
    return Prediction(
        *described,
        targets=tagger.task.targets,
        track_scores=track_scores,
        decided=tagger.decide(track_scores),
        grades=tagger.grades,
        times_s=tagger.spec.times_s(len(frames)),
        frame_scores=tagger.score_frames(frames),
        place=None if va is None else Place(*va.tolist()),
        kind=tagger.task.kind,
        scale=tagger.task.scale,
        thresholds=(
            tagger.task.rules.page.thresholds
            and tuple(float(value) if np.isfinite(value) else None for value in tagger.thresholds)
        )
        or (),
    )


def to_document(
    predictions: Sequence[Prediction],
    errors: Sequence[tuple[str, str]] = (),
    count: int | None = None,
    *,
    timeline: bool = False,
) -> dict[str, Any]:
    """What `tag --format json`, the API and the page's download say: `Prediction.to_json` of each, and what failed.

    Parameters
    ----------
    predictions : sequence of Prediction
    errors : sequence of (str, str)
        A file, and why it could not be tagged.
    count : int or None
        Of the targets of each; None is all.
    timeline : bool
    """
    results = [prediction.to_json(count, timeline=timeline) for prediction in predictions]
    failed = [{"file": file, "error": error} for file, error in errors]
    return {"schema": SCHEMA, "results": results, "errors": failed}


def write_csv(predictions: list[Prediction], count: int, file: IO[str], *, timeline: bool) -> None:
    """Write the targets of each track, or with `timeline` its scores over time, as a table for spreadsheets.

    All predictions are of one tagger. Values come with their scale.
    """
    writer = csv.writer(file, lineterminator="\n")
    kind = predictions[0].kind if predictions else "tags"
    named, scored, decided = KINDS[kind].columns
    if timeline:
        writer.writerow(["file", "time_s", named, scored])
        for prediction in predictions:
            for column in prediction.order[:count]:
                target, scores = prediction.targets[column], prediction.frame_scores[:, column]
                rows = zip(prediction.times_s.tolist(), scores.tolist(), strict=True)
                file_cell, target_cell = plaintext.cells((prediction.source, target))
                writer.writerows([file_cell, f"{start_s:.2f}", target_cell, score] for start_s, score in rows)
        return
    columns = [named, scored, *([decided] if decided else []), "reliability"]
    scale = ["scale_low", "scale_high"] if KINDS[kind].on_scale else []
    writer.writerow(["file", "title", "artist", "duration_s", *columns, *scale])
    for prediction in predictions:
        described = [prediction.source, prediction.title, prediction.artist, prediction.duration_s]
        for row in prediction.rows(count):
            cells = [int(cell) if isinstance(cell, bool) else cell for cell in row.values()]
            writer.writerow(plaintext.cells([*described, *cells, *(prediction.scale or ())]))


MARKED_HZ = (250, 500, 1000, 2000, 4000, 7000)  # on the axis of a spectrogram


def plot_tags(prediction: Prediction, count: int = 10) -> Picture:
    """The highest tags of a track as bars; those that reach their threshold are dark. Classes and values likewise.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    figure, axes = bar_axes(min(count, len(prediction.targets)))
    _draw_tags(axes, prediction, count)
    axes.set_title(plaintext.show(prediction.title or ""), parse_math=False)  # a dollar sign in it is no formula
    return figure


def _draw_tags(axes: Any, prediction: Prediction, count: int) -> None:
    top = prediction.top(count)[::-1]
    names = [f"{tag} (weak)" if prediction.grade(tag) == "weak" else tag for tag, _, _ in top]
    low, high = scale = prediction.scale or (0.0, 1.0)
    places = range(len(names))
    axes.barh(places, [score - low for _, score, _ in top], left=low, color=[_colour(row[2]) for row in top])
    axes.set_yticks(places, names, parse_math=False)
    for row, (_, score, _) in enumerate(top):
        axes.text(score + 0.01 * (high - low), row, f"{score:.2f}", va="center", fontsize=9)
    axes.set(xlim=(low, high + 0.08 * (high - low)), xlabel=KINDS[prediction.kind].score_axis.format(*scale))


def plot_timeline(prediction: Prediction, count: int = 8) -> Picture:
    """The highest tags of a track over time, as a heat map.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    figure, axes = bar_axes(min(count, len(prediction.targets)))
    _draw_timeline(figure, axes, prediction, count)
    return figure


def _draw_timeline(figure: Picture, axes: Any, prediction: Prediction, count: int) -> None:
    columns = [prediction.targets.index(tag) for tag, _, _ in prediction.top(count)]
    extent = (0.0, prediction.duration_s, len(columns) - 0.5, -0.5)
    scores = prediction.frame_scores[:, columns].T
    low, high = prediction.scale or (0.0, 1.0)
    ends = {"vmin": low, "vmax": high}
    image = axes.imshow(scores, aspect="auto", extent=extent, cmap="viridis", interpolation="nearest", **ends)
    axes.set_yticks(range(len(columns)), [prediction.targets[column] for column in columns], parse_math=False)
    axes.set_xlabel("seconds")
    figure.colorbar(image, ax=axes, label=KINDS[prediction.kind].score_name)


def plot_song(prediction: Prediction, count: int = 10) -> Picture:
    """A song on one picture to take away: its highest tags as bars, and below them over time.

    Returns
    -------
    Picture
        A matplotlib figure.
    """
    count = min(count, len(prediction.targets))
    figure = make_picture(8, 2.2 + 2 * ROW_HEIGHT * count)
    upper, lower = figure.subplots(2, 1)
    upper.spines[["top", "right"]].set_visible(False)
    _draw_tags(upper, prediction, count)
    _draw_timeline(figure, lower, prediction, count)
    named = " - ".join(text for text in (prediction.artist, prediction.title) if text)
    upper.set_title(plaintext.show(named or prediction.source), parse_math=False, loc="left")
    return figure


def _colour(decided: bool) -> str:
    return DECIDED if decided else UNDECIDED
