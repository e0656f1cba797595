"""A file or a stored track and a tagger -> `Prediction`, and its plots, which need matplotlib."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.embedders.registry import Embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import Place, describe_place, mood_words, place_of
from jamendo_mood.tasks import KINDS
from jamendo_mood.tasks.kind import BAR_LEGEND
from jamendo_mood.tasks.values import AXES
from jamendo_mood.training.data import Array, check_finite
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import AudioError
from jamendo_mood.util.plaintext import ROW_HEIGHT, Picture, make_picture, shorten

MAX_SHOWN_TARGETS = 10
SCHEMA = 1  #: the version of `to_document`: another one where a key changes its meaning or goes; keys may be added

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The scores of one track."""

    source: str  #: the file, or the key of a stored track
    #: from the file's metadata
    title: str | None
    artist: str | None
    duration_s: float
    targets: tuple[str, ...]
    track_scores: Array  #: float32 (targets,): of the whole track, range [0, 1]; values on their scale
    #: (targets,): whether the score reaches the tag's threshold; of classes, which one is chosen; of values nothing
    decided: npt.NDArray[np.bool_]
    grades: tuple[str, ...]  #: how far each target can be relied on: a value of `metrics.GRADES`
    times_s: Array  #: float32 (frames,): where each frame starts
    #: float32 (frames, targets): of the 10 frames around each frame; of a dynamic task, of that moment
    frame_scores: Array
    #: valence and arousal of the track, see `emotions.place_of`; None if its targets do not determine them
    place: Place | None = None
    kind: str = "tags"  #: a key of `tasks.KINDS`
    scale: tuple[float, float] | None = None  #: of values: the least and the greatest there can be
    #: of tags: where each is decided, None for one that never is; empty for classes and values
    thresholds: tuple[float | None, ...] = ()
    remark: str = ""  #: what is wrong with its sound, such as that only a part could be decoded; mostly empty

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
        return plaintext.to_html(f"{name} ({clock(self.duration_s)})", rows, (rules.plural, rules.columns[1], "grade"))

    @property
    def ranks(self) -> bool:
        """Whether its tagger only ranks: none of its tags has a threshold."""
        return bool(self.thresholds) and all(threshold is None for threshold in self.thresholds)

    @property
    def legend(self) -> str:
        """What the bars of its scores mean."""
        if self.ranks:
            return BAR_LEGEND.format("score", "")
        return KINDS[self.kind].legend.format(None, *(self.scale or (0, 1)))

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """The targets as they are shown: tags and classes the highest first, values as their task has them."""
        return np.argsort(np.zeros(len(self.targets)) if self.scale else -self.track_scores, kind="stable")

    def share(self, score: Any) -> Any:
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
            "remark": self.remark or None,
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

    Raises `UsageError` if the tagger needs another embedder.
    """
    tagger.check_spec(embedder.spec)
    by_key: Mapping[str, Path] = {str(number): path for number, path in enumerate(paths)}
    with contextlib.closing(embed_files(by_key, embedder, config)) as results:
        for result in results:
            path = by_key[result.key]
            if result.frames is None:
                yield path, result.error
            elif decoding.SILENT in result.remark:
                yield path, f"{path}: {decoding.SILENT}"
            else:
                info = ffmpeg.probe(path)
                described = (str(path), info.title, info.artist, result.duration_s)
                yield path, score_embedding(described, result.frames, tagger, result.remark)


def predict_stored(store: EmbeddingStore, tagger: Tagger) -> Iterator[Prediction]:
    """Score every track of a store; those that it knows to be silent are left out, which is logged.

    Raises `UsageError` if the tagger needs another embedder; `DataError` if an embedding holds NaN or infinity.
    """
    tagger.check_spec(store.spec)
    for key in store:
        entry = store.read(key)
        check_finite(key, entry.frames)
        if decoding.SILENT in entry.remark:
            log.warning("%s: %s", key, entry.remark)
            continue
        described = (key, None, None, store.spec.duration_s(len(entry.frames)))
        yield score_embedding(described, entry.frames, tagger, entry.remark)


def score_embedding(
    described: tuple[str, str | None, str | None, float], frames: Array, tagger: Tagger, remark: str = ""
) -> Prediction:
    """Score a track that is embedded already, given its source, title, artist and duration in seconds.

    `remark` is what is to be known of its sound, see `Prediction`.
    """
    track_scores = tagger.score_track(frames)
    va = place_of(tagger.task, tagger.thresholds, track_scores)
    thresholds = tagger.thresholds if tagger.task.rules.has_thresholds else ()
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
        thresholds=tuple(float(value) if np.isfinite(value) else None for value in thresholds),
        remark=remark,
    )


def to_document(
    predictions: Sequence[Prediction],
    errors: Sequence[tuple[str, str]] = (),
    count: int | None = None,
    *,
    timeline: bool = False,
) -> dict[str, Any]:
    """What `tag --format json`, the API and the page's download say: `Prediction.to_json` of each, and what failed.

    `errors` are files, each with why it could not be tagged.
    """
    results = [prediction.to_json(count, timeline=timeline) for prediction in predictions]
    failed = [{"file": file, "error": error} for file, error in errors]
    return {"schema": SCHEMA, "results": results, "errors": failed}


def to_csv(predictions: Sequence[Prediction], count: int, *, timeline: bool = False) -> str:
    """The targets of each track, or with `timeline` its scores over time, as a table for spreadsheets.

    All predictions are of one tagger. Values come with their scale.
    """
    rules = KINDS[predictions[0].kind if predictions else "tags"]
    named, scored, decided = rules.columns
    if timeline:
        moments = (
            (one.source, f"{start_s:.2f}", one.targets[column], score)
            for one in predictions
            for column in one.order[:count]
            for start_s, score in zip(one.times_s.tolist(), one.frame_scores[:, column].tolist(), strict=True)
        )
        return plaintext.to_csv(("file", "time_s", named, scored), moments)
    columns = ("file", "title", "artist", "duration_s", named, scored, *([decided] if decided else []), "reliability")
    scale = ("scale_low", "scale_high") if rules.on_scale else ()
    rows = (
        (
            *(one.source, one.title, one.artist, one.duration_s, target, score),
            *([int(reached)] if decided else []),
            *(one.grade(target), *(one.scale or ())),
        )
        for one in predictions
        for target, score, reached in one.top(count)
    )
    return plaintext.to_csv((*columns, *scale), rows)


MAX_NAMED, MAX_PASSING = 3, 2  #: tags in a line that says a mood: those of the whole song, and those of a part of it
MIN_STRETCH_S, MIN_STRETCH = 15.0, 0.1
"""What lasts less than this, in seconds or as a share of the song, is not worth a word."""

SPREAD_PERCENT = (10, 90)  #: between which percentiles over time a score's thin line lies
WIDTH_IN, HEAD_IN = 8.0, 1.05  # of a song's picture, and of what stands above its bars
MAX_LINE, FULL_LINE = 140, 850.0  # its letters in a line, and their number times their size that fill one
CORNERS = {(-1, 1): "tense", (1, 1): "excited", (-1, -1): "sad", (1, -1): "calm"}  # of the plane


def clock(length_s: float) -> str:
    """A length as people read it: ``2:31:00``, ``3:05``."""
    minutes, seconds = divmod(round(length_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def describe_mood(prediction: Prediction) -> str:
    """The mood of a song in a line, and how it changes: ``Energetic, a bit dark from 2:36``.

    Where tags have thresholds, those that the song reaches are named, the highest first; those that only a part of it
    reaches are "a bit" so, with the time. Otherwise it is what the tagger says first: the tags ranked highest, the
    class, or the place of the values. If a song falls into two parts that have none of that in common, the line says
    both.
    """
    line = _reached(prediction) if prediction.kind == "tags" and not prediction.ranks else _first(prediction)
    return line[:1].upper() + line[1:]


def _reached(prediction: Prediction) -> str:
    order, said, passing = prediction.order.tolist(), [], []
    for tag in order:
        threshold = prediction.thresholds[tag]
        if prediction.decided[tag]:
            said.append(_label(prediction, tag))
        elif threshold is not None and (when := _when(prediction, prediction.frame_scores[:, tag] >= threshold)):
            passing.append(f"a bit {_label(prediction, tag)} {when}")
    if said or passing:
        line = ", ".join([*said[:MAX_NAMED], *passing[:MAX_PASSING]])
        return line if said else f"{line}; no tag reaches its threshold over the whole song"
    nearest = mood_words(*prediction.place) if prediction.place else _label(prediction, order[0])
    return f"no tag reaches its threshold; the nearest is {nearest}"


def _label(prediction: Prediction, tag: int) -> str:
    return prediction.targets[tag] + (" (weak)" if prediction.grades[tag] == "weak" else "")


def _when(prediction: Prediction, reached: npt.NDArray[np.bool_]) -> str:
    """The longest stretch of a song in which a tag reaches its threshold, in words; empty if that is short."""
    times_s = np.append(prediction.times_s, prediction.duration_s)
    edges = times_s[np.flatnonzero(np.diff([False, *reached, False]))].reshape(-1, 2).tolist()
    start_s, end_s = max(edges, key=lambda edge: edge[1] - edge[0], default=(0.0, 0.0))
    least_s = max(MIN_STRETCH_S, MIN_STRETCH * prediction.duration_s)
    if end_s - start_s < least_s:
        return ""
    ends = end_s < prediction.duration_s - least_s / 2
    if start_s < least_s / 2:
        return f"until {clock(end_s)}" if ends else "most of the time"
    return f"from {clock(start_s)}" + (f" to {clock(end_s)}" if ends else "")


def _first(prediction: Prediction) -> str:
    """What a tagger without thresholds says first, of the song or of the two parts that it falls into."""
    prefix = "ranked highest, none decided: " if prediction.ranks else ""
    cut = _cut(prediction.frame_scores, max(MIN_STRETCH_S / prediction.duration_s, MIN_STRETCH))
    if cut:
        parts = np.split(prediction.frame_scores, [cut])
        (before, some), (after, others) = (_name(prediction, part.mean(axis=0)) for part in parts)
        if not some & others:
            return f"{prefix}{before}; from {clock(prediction.times_s[cut])} on {after}"
    return prefix + _name(prediction, prediction.track_scores)[0]


def _name(prediction: Prediction, scores: Array) -> tuple[str, set[str]]:
    """What scores say first, and the words that count in it."""
    targets = prediction.targets
    if prediction.scale is None:
        best = np.argsort(-scores, kind="stable")[: MAX_NAMED if prediction.ranks else 1].tolist()
        return ", ".join(_label(prediction, tag) for tag in best), {targets[tag] for tag in best}
    if prediction.place is None:
        return ", ".join(f"{name} {score:.1f}" for name, score in zip(targets, scores, strict=True)), set(targets)
    on_plane = np.clip(2 * prediction.share(scores) - 1, -1, 1)
    words = mood_words(*(float(on_plane[targets.index(axis)]) for axis in AXES))
    return words, set(words.split()) - {"and", "slightly"}


def _cut(scores: Array, least: float) -> int:
    """Where a song falls into the two parts that differ most, each `least` of it or longer; 0 if it is too short."""
    count = len(scores)
    cuts = np.arange(max(1, math.ceil(least * count)), math.floor((1 - least) * count) + 1)
    if not len(cuts):
        return 0
    sums = np.cumsum(scores, axis=0, dtype=np.float64)
    before, after = sums[cuts - 1] / cuts[:, None], (sums[-1] - sums[cuts - 1]) / (count - cuts)[:, None]
    return int(cuts[np.argmax(cuts * (count - cuts) * ((before - after) ** 2).sum(axis=1))])


def plot_song(prediction: Prediction, count: int = 10) -> Picture:
    """A song on one picture to share, drawn as the page draws it: its mood, its highest tags as bars, and over time."""
    top = prediction.order[:count].tolist()
    height = HEAD_IN + 2 * ROW_HEIGHT * max(3, len(top)) + 0.9
    figure = make_picture(WIDTH_IN, height)
    figure.get_layout_engine().set(rect=(0.01, 0.01, 0.98, 0.99 - HEAD_IN / height))
    name = Path(prediction.source).name
    about = (prediction.artist, clock(prediction.duration_s), name if prediction.title else None, prediction.remark)
    for down, size, weight, colour, text in (
        (0.28, 15, "bold", plaintext.TEXT, prediction.title or name),
        (0.56, 9, "normal", plaintext.SOFT, " · ".join(filter(None, about))),
        (0.88, 12, "normal", plaintext.TEXT, describe_mood(prediction)),
    ):
        shown = shorten(text, MAX_LINE)
        style = {"size": min(size, FULL_LINE / max(1, len(shown))), "weight": weight, "color": colour}
        figure.text(0.02, 1 - down / height, shown, parse_math=False, in_layout=False, **style)
    rows = [["bars"], ["course"]] if prediction.place is None else [["bars", "place"], ["course", "course"]]
    axes = figure.subplot_mosaic(rows, width_ratios=(3, 1)[: len(rows[0])])
    if prediction.place is not None:
        _draw_place(axes["place"], prediction.place)
    _draw_bars(axes["bars"], prediction, top)
    _draw_course(axes["course"], prediction, top)
    return figure


def _draw_bars(axes: Any, prediction: Prediction, top: list[int]) -> None:
    rules, shares = KINDS[prediction.kind], prediction.share(prediction.track_scores)
    spread = np.percentile(prediction.share(prediction.frame_scores), SPREAD_PERCENT, axis=0)
    axes.barh(range(len(top)), 1, 0.55, color=plaintext.RAISED)
    for row, tag in enumerate(top):
        reached = rules.columns[2] is not None and bool(prediction.decided[tag])
        axes.barh(row, shares[tag], 0.55, color=plaintext.ACCENT if reached else plaintext.PALE)
        axes.plot(spread[:, tag], (row, row), color=plaintext.TEXT, linewidth=1)
        if prediction.thresholds and prediction.thresholds[tag] is not None:
            axes.plot([prediction.thresholds[tag]] * 2, (row - 0.36, row + 0.36), color=plaintext.WARM, linewidth=1.8)
        score = f"{prediction.track_scores[tag]:.2f}{' ★' if reached else ''}"
        axes.text(1.02, row, score, va="center", size=9, color=plaintext.TEXT)
    _name_rows(axes, prediction, top)
    axes.set(xlim=(0, 1.14), xticks=[])


def _draw_course(axes: Any, prediction: Prediction, top: list[int]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shares, end_s = prediction.share(prediction.frame_scores[:, top]).T, prediction.duration_s
    colours = LinearSegmentedColormap.from_list("page", [plaintext.RAISED, plaintext.ACCENT])
    spans = {"extent": (0.0, end_s, len(top) - 0.5, -0.5), "vmin": 0, "vmax": max(0.02, shares.max())}
    axes.imshow(shares, aspect="auto", cmap=colours, interpolation="nearest", **spans)
    times_s = np.linspace(0, end_s, 5).tolist()
    axes.set_xticks(times_s, [clock(time_s) for time_s in times_s], size=8, color=plaintext.SOFT)
    axes.set_xlabel(prediction.legend, size=7.5, color=plaintext.SOFT, loc="left")
    _name_rows(axes, prediction, top)


def _name_rows(axes: Any, prediction: Prediction, top: list[int]) -> None:
    """Write the targets beside their rows, and take the frame away."""
    names = [shorten(_label(prediction, tag)) for tag in top]
    axes.set_yticks(range(len(top)), names, parse_math=False, size=9, color=plaintext.TEXT)
    axes.set_ylim(len(top) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_place(axes: Any, place: Place) -> None:
    """Draw the plane of valence and arousal, with the song as a point."""
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[], aspect="equal", facecolor=plaintext.RAISED, anchor="N")
    axes.spines[:].set_color(plaintext.LINE)
    axes.axhline(0, color=plaintext.LINE, linewidth=1)
    axes.axvline(0, color=plaintext.LINE, linewidth=1)
    for (x, y), word in CORNERS.items():
        axes.text(0.94 * x, 0.9 * y, word, size=8, color=plaintext.SOFT, ha="right" if x > 0 else "left", va="center")
    axes.plot(*place, "o", color=plaintext.ACCENT, markersize=9)
    axes.set_xlabel(f"valence {place.valence:.2f}, arousal {place.arousal:.2f}", size=7.5, color=plaintext.SOFT)
