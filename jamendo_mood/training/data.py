"""Store + data set + part -> arrays to train and evaluate on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import SILENT
from jamendo_mood.datasets.dataset import Curve, Dataset, Track
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tasks import KINDS, Task
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import DataError, UsageError

Array = npt.NDArray[np.float32]
CONTEXT_S = 10.0
"""Of sound around a point of a timeline, or a moment of a dynamic task: about the length of AudioSet's segments."""

log = logging.getLogger(__name__)


class Embeddings(Protocol):
    """Embeddings by track key, float32 (frames, dim): a store, a packed store, released embeddings."""

    spec: EmbedderSpec

    def __getitem__(self, key: str, /) -> Array: ...
    def __contains__(self, key: object, /) -> bool: ...


@dataclass(frozen=True, eq=False)
class Examples:
    """What a head trains on and is evaluated on."""

    #: float32 (frames, dim): the embeddings of each of the n tracks, at least one frame long. Of a dynamic
    #: task, each of the n is a moment of a track, with the frames around it.
    frames: tuple[Array, ...]
    Y: Array  #: float32 (n, targets)
    tracks: tuple[Track, ...]  #: the n tracks; those of a dynamic task come once for each moment
    targets: tuple[str, ...]  #: the names of the columns of `Y`
    times_s: Array | None = None  #: float32 (n,): of a dynamic task: where each moment is, from the start of its track
    held_out: tuple[Track, ...] = ()  #: of a training part, the tracks of the test part: what must not be learned from
    #: of a training part, how many of its tracks were left out because there is nothing to hear in them
    silent: int = 0
    kind: str = "tags"  #: a key of `tasks.KINDS`

    def __len__(self) -> int:
        return len(self.tracks)

    def select(self, keep: npt.NDArray[np.bool_]) -> Examples:
        """Those of the tracks where `keep`, bool (n,), is True."""
        rows = np.flatnonzero(keep)
        return replace(
            self,
            frames=tuple(self.frames[row] for row in rows),
            Y=self.Y[rows],
            tracks=tuple(self.tracks[row] for row in rows),
            times_s=None if self.times_s is None else self.times_s[rows],
        )

    def join(self, others: Examples) -> Examples:
        """These examples, and after them others of the same targets."""
        times_s = [own.times_s for own in (self, others) if own.times_s is not None]
        return replace(
            self,
            frames=self.frames + others.frames,
            Y=np.concatenate([self.Y, others.Y]),
            tracks=self.tracks + others.tracks,
            times_s=np.concatenate(times_s) if times_s else None,
        )

    def to_arrays(self, pooling: str = "mean+std") -> tuple[Array, npt.NDArray[Any], npt.NDArray[np.str_]]:
        """What scikit-learn learns from: X, y and groups; `UsageError` if `pooling` does not make one row of a track.

        X is float32 (n, width): with ``mean+std`` the mean of each track's frames over time, then their standard
        deviation; the others are in `POOLINGS`. y is bool (n, targets) for tags, the number of the class for classes,
        int (n,), and float32 (n, targets) for values. The groups (n,) are the artists.
        """
        if pooling not in TO_ONE_ROW:
            raise UsageError(f"no pooling {pooling!r} makes one row of a track: take {', '.join(TO_ONE_ROW)}")
        X, rules = np.concatenate([POOLINGS[pooling](frames) for frames in self.frames]), KINDS[self.kind]
        y = self.Y.argmax(axis=1) if rules.one_of else rules.to_truth(self.Y)
        return X, y, np.array([track.artist for track in self.tracks])


def _average_change(frames: Array) -> Array:
    before = np.concatenate([frames[..., :1, :], frames[..., :-1, :]], axis=-2)
    change: Array = np.abs(frames - before).mean(axis=-2, keepdims=True)
    return change


POOLINGS: dict[str, Callable[[Array], Array]] = {
    "frames": lambda frames: frames,
    "mean": lambda frames: frames.mean(axis=-2, keepdims=True),
    "mean+std": lambda frames: np.concatenate(
        [frames.mean(axis=-2, keepdims=True), frames.std(axis=-2, keepdims=True)], axis=-1
    ),
    "mean+change": lambda frames: np.concatenate(
        [frames.mean(axis=-2, keepdims=True), _average_change(frames)], axis=-1
    ),
}
"""What a head sees of a track: embeddings (..., frames, dim) -> (..., rows, width); pooled over time, it is one row.

The change is how far each number of a frame is from the one before, without a sign; of the first frame it is 0.
"""

TO_ONE_ROW = tuple(name for name in POOLINGS if name != "frames")  #: the poolings to one row a track


def width_of(pooling: str, dim: int) -> int:
    """Numbers a row, after pooling embeddings of `dim` numbers a frame."""
    return int(POOLINGS[pooling](np.zeros((1, dim), np.float32)).shape[-1])


def thin(tracks: Sequence[Array], count: int, rng: np.random.Generator | None = None) -> Array:
    """Take a row of each of `count` stretches of equal length: n float32 arrays (rows, width) -> (n, count, width).

    So the whole of a track is covered, whatever its length; a track with fewer rows repeats some. `rng` draws the rows,
    None takes the middle of each stretch.
    """
    where = np.full((len(tracks), count), 0.5) if rng is None else rng.random((len(tracks), count))
    lengths = np.array([len(track) for track in tracks])[:, None]
    rows = np.minimum((np.arange(count) + where) / count * lengths, lengths - 1).astype(np.intp)
    return np.stack([track[chosen] for track, chosen in zip(tracks, rows, strict=True)])


def pad(tracks: Sequence[Array]) -> tuple[Array, Array]:
    """Tracks of any lengths as one array, float32 (n, rows, width), and its mask (n, rows), 0 where it is padding."""
    lengths = np.array([len(track) for track in tracks])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.float32)
    padded = np.zeros((*mask.shape, tracks[0].shape[-1]), np.float32)
    padded[mask > 0] = np.concatenate(tracks)
    return padded, mask


def windows(frames: Array, width: int) -> Array:
    """A window of `width` frames around each frame, float32 (frames, dim) -> (frames, width, dim).

    At the ends the nearest whole window is taken, and a track with fewer frames is one window: so a score says
    something of as much sound everywhere. Where the very moment counts, see `centred_windows`.
    """
    width = min(width, len(frames))
    every = np.lib.stride_tricks.sliding_window_view(frames, width, axis=0).swapaxes(1, 2)
    nearest = np.clip(np.arange(len(frames)) - width // 2, 0, len(every) - 1)
    return np.asarray(every[nearest])


def centred_windows(frames: Array, width: int) -> Array:
    """A window of `width` frames with each frame in its middle, float32 (frames, dim) -> (frames, width, dim).

    It is a view, and beyond the ends the first and last frame go on.
    """
    before = (width - 1) // 2
    padded = np.pad(frames, ((before, width - 1 - before), (0, 0)), mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).swapaxes(1, 2))


def align(times_s: Array, frames: int, spec: EmbedderSpec) -> npt.NDArray[np.intp]:
    """The one of so many frames whose middle is nearest to each moment of the sound: float32 (n,) -> int (n,).

    Raises `DataError` if the moments are of another recording: one lies beyond the end by more than two windows.
    """
    window_s, hop_s = spec.window_s, spec.hop_s
    if window_s is None or hop_s is None:
        raise UsageError(f"{spec} say nothing of single moments: a dynamic task needs embeddings over time")
    end_s = (frames - 1) * hop_s + window_s
    if len(times_s) and times_s.max() > end_s + 2 * max(window_s, hop_s):
        raise DataError(f"labels at {times_s.max():g} s, but the embeddings end at {end_s:g} s: another recording?")
    return np.asarray(np.clip(np.rint((times_s - window_s / 2) / hop_s), 0, frames - 1), np.intp)


def check_finite(key: str, frames: Array) -> Array:
    """A stored embedding; `DataError` if it holds NaN or infinity, of which a head would make plausible scores."""
    if not np.isfinite(frames).all():
        raise DataError(f"the embedding of track {key!r} holds NaN or infinity: delete it and extract the track again")
    return frames


def choose_embeddings(dataset: Dataset, store: Embeddings | Path | str | None) -> Embeddings:
    """The store, or the one in a folder, or else the embeddings released with the data; `UsageError` without either."""
    opened = EmbeddingStore(store) if isinstance(store, str | Path) else store
    chosen = opened if opened is not None else dataset.embeddings
    if chosen is None:
        raise UsageError(f"task {dataset.task.name!r} comes without embeddings: extract them and give --store")
    return chosen  # type: ignore[return-value]


def load_part(dataset: Dataset, part: str, embeddings: Embeddings) -> Examples:
    """Read the embeddings of a part. Tracks that are not embedded are left out, and their number is logged.

    So are, of the training part alone, those of which the store says that they are silent: there is nothing to learn
    from them, but whoever evaluates takes the official tracks as they are.

    Raises
    ------
    UsageError
        There is no such part, none of its tracks is embedded, or all that are to be learned from are silent.
    DataError
        An embedding holds NaN or infinity.
    """
    all_rows = dataset.rows(part)
    rows = [row for row in all_rows if dataset.tracks[row].key in embeddings]
    missing = len(all_rows) - len(rows)
    if not rows:
        raise UsageError(f"none of the {missing} tracks of part {part!r} is in the store")
    if missing:
        log.warning("part %s: %d of %d tracks are not in the store and are left out", part, missing, len(all_rows))
    read_remarks: Callable[[Sequence[str]], Mapping[str, str]] = getattr(embeddings, "remarks", lambda _: {})
    remarks = read_remarks([dataset.tracks[row].key for row in rows])  # those released with data have none
    silent = {key for key, remark in remarks.items() if SILENT in remark and part == dataset.train}
    rows = [row for row in rows if dataset.tracks[row].key not in silent]
    if silent:
        log.warning("part %s: %d of %d tracks are silent and are left out", part, len(silent), len(silent) + len(rows))
        if not rows:
            raise UsageError(f"all tracks of part {part!r} that are in the store are silent")
    if others := {key: remark for key, remark in remarks.items() if key not in silent}:
        remarked = plaintext.count(len(others), "track")
        log.warning("part %s: %s with a remark, such as %s: %s", part, remarked, *min(others.items()))
    keys = [dataset.tracks[row].key for row in rows]
    frames = [check_finite(key, embeddings[key]) for key in keys]
    tracks = tuple(_identify(dataset.tracks[row], embedding) for row, embedding in zip(rows, frames, strict=True))
    if dataset.curves is None:
        examples = Examples(tuple(frames), dataset.targets[rows], tracks, dataset.task.targets)
    else:
        curves = [dataset.curves[row] for row in rows]
        examples = _to_moments(tracks, frames, curves, dataset.task, embeddings.spec)
    held_out = identify_part(dataset, dataset.test, embeddings) if part == dataset.train else ()
    return replace(examples, held_out=tuple(held_out), silent=len(silent), kind=dataset.task.kind)


def _to_moments(
    tracks: Sequence[Track], embeddings: Sequence[Array], curves: Sequence[Curve], task: Task, spec: EmbedderSpec
) -> Examples:
    """An example for each labelled moment: the window around it, and what is known of it."""
    heard, owners = list[Array](), list[Track]()
    for track, frames, curve in zip(tracks, embeddings, curves, strict=True):
        around = centred_windows(frames, context_of(spec))
        try:
            heard += [around[frame] for frame in align(curve.times_s, len(frames), spec)]  # views, no copies
        except DataError as error:
            raise DataError(f"track {track.key!r}: {error}") from error
        owners += [track] * len(curve.times_s)
    values, times_s = (np.concatenate([getattr(curve, name) for curve in curves]) for name in ("values", "times_s"))
    return Examples(tuple(heard), values, tuple(owners), task.targets, times_s)


def context_of(spec: EmbedderSpec) -> int:
    """Frames pooled around a point of a timeline, or seen around a moment of a dynamic task: those of `CONTEXT_S`."""
    return max(1, round(CONTEXT_S / (spec.hop_s or CONTEXT_S)))


def identify_part(dataset: Dataset, part: str, embeddings: Embeddings) -> list[Track]:
    """The tracks of a part, embedded or not, with `Track.content` where it can be known; nothing is kept in memory."""
    tracks = [dataset.tracks[row] for row in dataset.parts.get(part, ())]
    unknown = {track.key for track in tracks if not track.content and track.key in embeddings}
    return [_identify(track, embeddings[track.key]) if track.key in unknown else track for track in tracks]


def _identify(track: Track, embedding: Array) -> Track:
    """Equal recordings have equal embeddings."""
    return track if track.content else replace(track, content=hashlib.sha256(embedding.tobytes()).hexdigest())
