"""`Library`: finds similar tracks, tracks by mood, and playlists along a path of moods, in a store of embeddings.

With as many tracks as MTG-Jamendo has, a query is one pass over small arrays; it needs no index. Scores of all tracks
are computed once and kept beside the embeddings, in ``STORE/library-<12 hex of the tagger>.npz``: keys, scores and mean
embeddings. That file may be deleted at any time. New tracks are added to it, deleted ones removed, and one that was
extracted again (its file has another time) is scored again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import place_of
from jamendo_mood.training.data import check_finite
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import DiskFullError, MoodError, StoreError, UsageError
from jamendo_mood.util.files import DAMAGES, brief, open_file, read_npz, remove_drafts, write_atomically

FORMAT = 1  # of the file with the scores
BATCH = 256  # tracks in memory at once
TOP_TAGS = 3
MAX_LISTED = 3
RELIANCE = {"good": 1.0, "fair": 1.0, "weak": 0.25, "unknown": 0.25}
"""How much a tag counts in a query, by its grade: little if the tagger hardly does better than guessing."""

_DIAGONAL = 2 * np.sqrt(2)  # of the plane
SAME = 0.03
"""How far the mean embeddings of one song may lie apart, in units of their spread over the library (root of the mean
square). Measured with logmel: a FLAC copy 0.0003, another decoder 0.02, the most alike of 132 synthetic songs 0.058, of
ten real ones 0.7."""
NEAR = 0.3  #: the same for another copy of a song

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]
Point = tuple[float, float]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Found:
    """A track that a query found."""

    key: str
    fit: float  #: in [0, 1]; 1 is exactly what was asked for
    file: Path | None
    #: its highest tags with their scores; values in the order of their task
    tags: tuple[tuple[str, float], ...]
    title: str | None = None
    artist: str | None = None
    #: of what was decoded; of the file's header where that is not known, once `describe` has read it
    duration_s: float | None = None


@dataclass(frozen=True, eq=False)
class Library:
    """All tracks of a store, ready to be searched."""

    keys: tuple[str, ...]  #: the n tracks
    targets: tuple[str, ...]  #: the tagger's k tags; empty without a tagger
    scores: Array  #: float32 (n, k): range [0, 1]
    means: Array  #: float32 (n, dim): the mean of each track's embedding
    #: float32 (n, 2): valence and arousal, see `tagging.emotions.place_of`; None if the targets say nothing about them
    va: Array | None = None
    grades: tuple[str, ...] = ()  #: how far each tag can be relied on: a value of `metrics.GRADES`
    files: Mapping[str, Path] = field(default_factory=dict)  #: the audio of tracks, as far as it is available
    scale: tuple[float, float] | None = None  #: of values; None for tags and classes
    #: how long a track is, by what was decoded of it, in seconds
    length_of: Callable[[str], float | None] = dict[str, float]().get

    def __len__(self) -> int:
        return len(self.keys)

    @functools.cached_property
    def levels(self) -> Array:
        """Each track's rank by each tag, float32 (n, k): 1 the most of all tracks, 0 the least; ties their mean."""
        return spread_by_rank(self.scores)

    @functools.cached_property
    def plane(self) -> Array | None:
        """Valence and arousal of each track, float32 (n, 2), each spread by rank over [-1, 1]; None as `va`.

        The means of tags crowd around the middle. Spread out, they use the whole plane, and are relative: valence 1 is
        the most pleasant track of this library, 0 the one in the middle.
        """
        return None if self.va is None else spread_by_rank(self.va) * 2 - 1

    @functools.cached_property
    def unit(self) -> Array:
        """How far mean embeddings lie apart in this library, float32 (dim,): what `SAME` counts in."""
        unit = np.maximum(self.means.std(axis=0), 1e-3 * np.abs(self.means.mean(axis=0)))
        return np.asarray(np.maximum(unit, 1e-12))

    @functools.cached_property
    def directions(self) -> Array:
        """The mean embeddings, standardised over the library and scaled to length 1; float32 (n, dim)."""
        return self._directions_of(self.means)

    def prepare(self) -> Library:
        """Compute what queries need, so that the first is as fast as the others; returns the library itself."""
        _ = self.levels, self.plane, self.directions, self._row_of
        return self

    def similar(self, track: str | Array, count: int, exclude: Collection[str] = ()) -> list[Found]:
        """The tracks that sound most like one, best first, but for those whose keys are in `exclude`.

        The one is a key of the library, or the mean embedding of any sound, float32 (dim,); a track here that is the
        sound itself (`find_same`) is not among the results. `fit` is the cosine of the standardised mean embeddings, 0
        where it is negative. Raises `UsageError` if there is no such track, or the embedding is of another embedder.
        """
        if isinstance(track, str):
            direction, exclude = self.directions[self.row(track)], {track, *exclude}
        else:
            if track.shape != self.means.shape[1:] or not np.isfinite(track).all():
                raise UsageError(f"a mean embedding here is {self.means.shape[1]} finite numbers, not {track.shape}")
            direction, exclude = self._directions_of(track[None])[0], {*self.find_same(track), *exclude}
        return self._best(_dot(self.directions, direction), count, exclude)

    def find_same(self, mean: Array, path: Path | None = None) -> dict[str, str]:
        """The tracks that are a song itself, and how that is known: by its file, or by its sound.

        `mean` is the mean embedding of the song, float32 (dim,): within `SAME` of it a track is the same sound.
        """
        apart = np.sqrt(np.square((self.means - mean) / self.unit).mean(axis=1))
        same = {self.keys[row]: "the same sound" for row in np.flatnonzero(apart <= SAME)}
        for key, file in self.files.items():
            with contextlib.suppress(OSError):
                if path is not None and file.name == path.name and file.samefile(path):
                    same[key] = "the same file"
        return same

    def by_moods(self, wanted: Mapping[str, float], count: int, exclude: Collection[str] = ()) -> list[Found]:
        """The tracks whose levels are closest to the wanted ones, best first.

        The levels of tags, see `find_target`, are from 0, the least of all tracks, to 1, the most. `fit` is 1 minus the
        root of the mean squared difference, with each tag weighted by its `RELIANCE`. Raises `UsageError` if there is
        no such tag, or a level is out of range.
        """
        if not wanted:
            raise UsageError(f"name at least one mood; there are {', '.join(self.targets)}")
        for name, level in wanted.items():
            if not 0 <= level <= 1:
                raise UsageError(f"{name}={level:g}: a level is from 0, the least of all tracks, to 1, the most")
        columns = [find_target(name, self.targets) for name in wanted]
        weights = np.array([RELIANCE[self.grades[column]] if self.grades else 1 for column in columns], np.float32)
        differences = self.levels.take(columns, axis=1) - np.array(list(wanted.values()), np.float32)
        return self._best(1 - np.sqrt(_dot(np.square(differences), weights / weights.sum())), count, exclude)

    def near(self, valence: float, arousal: float, count: int, exclude: Collection[str] = ()) -> list[Found]:
        """The tracks nearest to a point of `plane`, best first; valence and arousal in [-1, 1]. Raises as `along`."""
        return self._best(self._closeness(_walk([(valence, arousal)], 1)[0]), count, exclude)

    def along(self, points: Sequence[Point], count: int, exclude: Collection[str] = ()) -> list[Found]:
        """Tracks along a path through `plane`: a playlist that goes from mood to mood.

        The corners of the path are valence and arousal, range [-1, 1]. Each of `count` points at equal distances on it
        gets the nearest track that is not taken yet. Raises `UsageError` if the targets say nothing about valence and
        arousal, or a corner is out of range.
        """
        unwanted, found = self._rows(exclude), []
        for point in _walk(points, min(count, len(self) - len(unwanted))):
            closeness = self._closeness(point)
            closeness[unwanted] = -np.inf
            row = int(closeness.argmax())
            found.append(self.found(row, float(closeness[row])))
            unwanted.append(row)
        return found

    def row(self, key: str) -> int:
        """The index of a track in `keys`, in either Unicode form; `UsageError` if it is not there."""
        if _nfc(key) not in self._row_of:
            raise UsageError(f"{key}: no such track among the {len(self)} of the library")
        return self._row_of[_nfc(key)]

    def _closeness(self, point: npt.NDArray[np.float64]) -> Array:
        if self.plane is None:
            raise UsageError(
                "this tagger's moods say nothing about valence and arousal, so tracks cannot be found by them: "
                f"ask for moods; there are {', '.join(self.targets)}"
            )
        return np.asarray(1 - np.linalg.norm(self.plane - point, axis=1) / _DIAGONAL, np.float32)

    def _best(self, fit: Array, count: int, exclude: Collection[str]) -> list[Found]:
        unwanted = set(self._rows(exclude))
        order = np.argsort(-fit, kind="stable")[: count + len(unwanted)]
        return [self.found(row, float(fit[row])) for row in order.tolist() if row not in unwanted][:count]

    def _rows(self, keys: Collection[str]) -> list[int]:
        return list({self._row_of[key] for key in map(_nfc, keys) if key in self._row_of})

    def found(self, row: int, fit: float = 1.0) -> Found:
        """A track by its index in `keys`, as queries find it."""
        key, scores = self.keys[row], self.scores[row]
        order = range(len(scores)) if self.scale else np.argsort(-scores, kind="stable").tolist()
        tags = tuple((self.targets[tag], float(scores[tag])) for tag in order[:TOP_TAGS])
        return Found(key, min(max(fit, 0.0), 1.0), self.files.get(key), tags, duration_s=self.length_of(key))

    @functools.cached_property
    def _row_of(self) -> dict[str, int]:
        return {_nfc(key): row for row, key in enumerate(self.keys)}

    def _directions_of(self, means: Array) -> Array:
        centre, spread = self.means.mean(axis=0), self.means.std(axis=0)
        spread[spread <= 1e-6 * np.abs(centre)] = np.inf  # a constant says nothing
        standardised = (means - centre) / spread
        length = np.linalg.norm(standardised, axis=1, keepdims=True)
        return np.asarray(standardised / np.where(length > 0, length, 1), np.float32)


class Scored(NamedTuple):
    """Scores and mean embeddings of the tracks of a store."""

    keys: npt.NDArray[np.str_]  #: the n tracks
    stamps: npt.NDArray[np.int64]  #: int64 (n,): when each embedding was written, in nanoseconds
    #: float32 (n, dim): the mean of each embedding over its frames; NaN for a track that the store knows to be silent
    means: Array
    scores: Array  #: float32 (n, targets): range [0, 1], or on the scale of values; no columns without a tagger

    def select(self, rows: npt.NDArray[Any]) -> Scored:
        """The tracks in these rows."""
        return Scored(self.keys[rows], self.stamps[rows], self.means[rows], self.scores[rows])


def score_store(store: EmbeddingStore, tagger: Tagger | None, on_progress: OnProgress = lambda *_: None) -> Scored:
    """Scores and mean embeddings of all tracks of a store, sorted by key; only those not kept yet are computed.

    They are kept in the store; if it can't be written, that is logged. Without a tagger there are only the means.
    `on_progress` is called with tracks done and to do as they are scored, never if there is nothing to do.

    Raises `UsageError` if the store is empty, or its embedder is not the tagger's; `StoreError` if an embedding is
    damaged, or was deleted meanwhile; `DataError` if one holds NaN or infinity.
    """
    if tagger is not None:
        tagger.check_spec(store.spec)
    stamps = {key: store.stat(key).st_mtime_ns for key in store}
    if not stamps:
        raise UsageError(f"{store.root}: no tracks in this store; `jamendo-mood extract` embeds some")
    path = store.root / f"library-{identify_tagger(tagger)}.npz"
    kept = _read_scores(path, store.spec.dim, 0 if tagger is None else len(tagger.task.targets))
    current = kept.stamps == [stamps.get(key, -1) for key in kept.keys.tolist()]
    parts = [kept.select(current)]
    todo = sorted(stamps.keys() - set(parts[0].keys.tolist()))
    try:
        for start in range(0, len(todo), BATCH):
            keys = todo[start : start + BATCH]
            parts.append(_score(store, tagger, {key: stamps[key] for key in keys}))
            on_progress(start + len(keys), len(todo))
    finally:  # an interruption keeps what was done
        joined = Scored(*map(np.concatenate, zip(*parts, strict=True)))
        scored = joined.select(np.argsort(joined.keys))
        if len(parts) > 1 or not current.all():
            _keep_scores(path, scored)
    return scored


def identify_tagger(tagger: Tagger | None) -> str:
    """12 hex digits for everything that a tagger's scores depend on; ``none`` without a tagger."""
    if tagger is None:
        return "none"
    what = [asdict(tagger.task), asdict(tagger.spec), asdict(tagger.head), tagger.calibration.tolist()]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for array in (array for member in tagger.weights for array in member):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def _score(store: EmbeddingStore, tagger: Tagger | None, stamps: dict[str, int]) -> Scored:
    tracks, means = [], []
    for key in stamps:
        try:
            entry = store.read(key)
        except KeyError:
            raise StoreError(f"{store.root}: track {key} was deleted while it was scored; start again") from None
        tracks.append(check_finite(key, entry.frames))
        mean = entry.frames.mean(axis=0)
        means.append(np.full_like(mean, np.nan) if decoding.SILENT in entry.remark else mean)
    scores = np.zeros((len(tracks), 0), np.float32) if tagger is None else tagger.score_tracks(tracks)
    return Scored(np.array([*stamps]), np.array([*stamps.values()], np.int64), np.stack(means), scores)


def _keep_scores(path: Path, scored: Scored) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, format=FORMAT, **scored._asdict())
    try:
        write_atomically(path, buffer.getvalue())
        remove_drafts(path.parent)  # of runs that were killed
    except (StoreError, DiskFullError) as error:
        log.warning("the scores cannot be kept, and will be computed again next time: %s", error)


def _read_scores(path: Path, dim: int, targets: int) -> Scored:
    """What is kept: nothing if there is no such file, or it is damaged."""
    means, scores = (np.zeros((0, width), np.float32) for width in (dim, targets))
    nothing = Scored(np.zeros(0, np.str_), np.zeros(0, np.int64), means, scores)
    try:
        with open_file(path) as file:
            arrays = read_npz(file, os.fstat(file.fileno()).st_size)
        if arrays["format"] != FORMAT:
            return nothing
        kept = Scored(*(arrays[name] for name in Scored._fields))
        for name, like in nothing._asdict().items():
            shape, dtype = arrays[name].shape, arrays[name].dtype
            if shape != (len(kept.keys), *like.shape[1:]) or dtype.type is not like.dtype.type:
                raise ValueError(f"{name} are {dtype} {shape}")
    except FileNotFoundError:
        return nothing
    except DAMAGES as error:
        log.warning("%s: damaged, computed again (%s)", path, brief(error))
        return nothing
    return kept


def open_library(
    store: EmbeddingStore,
    tagger: Tagger | None,
    audio_dir: Path | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Library:
    """Make the tracks of a store searchable; those that are not scored yet are scored first, see `score_store`.

    Without a tagger, tracks can only be found by their sound. `audio_dir` is the folder that was extracted, for
    `Library.files`. Raises `UsageError` if there is no such folder, or all tracks are silent; else as `score_store`.
    """
    found = {} if audio_dir is None else decoding.find_audio(audio_dir)
    scored = score_store(store, tagger, on_progress)
    silent = np.asarray(np.isnan(scored.means).any(axis=1))
    if silent.any():
        first = scored.keys[int(silent.argmax())]
        log.warning("%s: %s left out, such as %s", store.root, plaintext.count(silent.sum(), "silent track"), first)
        scored = scored.select(~silent)
    keys = tuple(scored.keys.tolist())
    if not keys:
        raise UsageError(f"{store.root}: all tracks are silent")
    files = {key: file for key in keys if (file := found.get(_nfc(key)))}
    library = Library(keys, (), scored.scores, scored.means, files=files, length_of=functools.partial(_measure, store))
    if tagger is not None:
        task, va = tagger.task, place_of(tagger.task, tagger.thresholds, scored.scores)
        library = replace(library, targets=task.targets, va=va, grades=tagger.grades, scale=task.scale)
    return library.prepare()


def _measure(store: EmbeddingStore, key: str) -> float | None:
    """How long a stored track is; None if its rows do not tell."""
    try:
        return store.spec.duration_s(len(store[key])) or None
    except (KeyError, MoodError):
        return None


def spread_by_rank(values: Array) -> Array:
    """Replace each column's values by their ranks, evenly over [0, 1]; equal values get their mean rank.

    From floats (n, k) to float32 (n, k): 0 for a column's lowest value and 1 for its highest, if no other is equal; 0.5
    if all are equal.
    """
    spread = np.full(values.shape, 0.5, np.float32)
    if len(values) > 1:
        for column, own in enumerate(values.T):
            _, index, counts = np.unique(own, return_inverse=True, return_counts=True)
            ranks = counts.cumsum() - (counts + 1) / 2
            spread[:, column] = ranks[index] / (len(values) - 1)
    return spread


def find_twins(library: Library, other: Library, within: float = NEAR) -> list[tuple[str, str, float]]:
    """Pairs of tracks, one of each library, that sound nearly the same: their keys, how far apart; the nearest first.

    Both are of one spec. The distance is that of mean embeddings, in units of their spread over both libraries (root of
    the mean square): up to `SAME` the sound is the same, up to `NEAR` it is most likely another copy of it. Raises
    `UsageError` if their embeddings are not of one width.
    """
    from sklearn.neighbors import NearestNeighbors

    if library.means.shape[1] != other.means.shape[1]:
        raise UsageError(
            f"embeddings of {library.means.shape[1]} and of {other.means.shape[1]} numbers can't be compared"
        )
    both = replace(library, means=np.concatenate([library.means, other.means]))
    one, another = (own.means / (both.unit * np.sqrt(len(both.unit))) for own in (library, other))
    found = NearestNeighbors(radius=within, algorithm="brute").fit(another).radius_neighbors(one)
    pairs = [
        (library.keys[row], other.keys[theirs], float(apart))
        for row, near in enumerate(zip(*found, strict=True))
        for apart, theirs in zip(*near, strict=True)
    ]
    return sorted(pairs, key=lambda pair: pair[2])


def find_target(name: str, targets: Sequence[str]) -> int:
    """The index of a tag in `targets`, ignoring case and AudioSet's "music" at its end.

    Raises `UsageError` if there is no such tag; the message lists all tags.
    """
    wanted, *known = (_nfc(each).strip().lower().removesuffix(" music") for each in (name, *targets))
    if wanted not in known:
        raise UsageError(f"no mood {name!r}; there are {', '.join(targets)}")
    return known.index(wanted)


def _nfc(name: str) -> str:
    """A name as it is compared: a Mac's file names spell an accented letter otherwise than its keyboard."""
    return unicodedata.normalize("NFC", name)


def _dot(table: Array, row: Array) -> Array:
    # Without BLAS, whose threads wait for each other: on busy processors 8 ms, while this takes 0.3.
    return np.asarray(np.einsum("ij,j->i", table, row))


def _walk(points: Sequence[Point], count: int) -> npt.NDArray[np.float64]:
    """`count` points at equal distances on the path from the first point to the last: (count, 2)."""
    corners = np.array(points, np.float64).reshape(-1, 2)
    for valence, arousal in corners[~(np.abs(corners) <= 1).all(axis=1)]:
        raise UsageError(f"({valence:g}, {arousal:g}): valence and arousal are from -1 to 1")
    if not len(corners):
        raise UsageError("a path needs at least one point: valence and arousal, from -1 to 1")
    passed = np.concatenate([[0.0], np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum()])
    at = np.linspace(0, passed[-1], count)
    return np.stack([np.interp(at, passed, axis) for axis in corners.T], axis=1)


def describe_same(same: Mapping[str, str]) -> str:
    """A line about the tracks that `Library.find_same` found; empty if there are none."""
    if not same:
        return ""
    keys, reasons = list(same), " or ".join(sorted(set(same.values())))
    more = f" and {len(keys) - MAX_LISTED} more" if len(keys) > MAX_LISTED else ""
    are = "are left out: they are" if len(keys) > 1 else "is left out: it is"
    return f"{', '.join(keys[:MAX_LISTED])}{more} {are} the song itself ({reasons})"


THREADS = 8


def describe(tracks: Sequence[Found], on_progress: OnProgress = lambda *_: None) -> list[Found]:
    """Add title, artist and duration from the tracks' files; tracks whose file can't be read stay as they are."""
    described: list[Found] = []
    with ThreadPoolExecutor(THREADS) as threads:
        for track in threads.map(_describe, tracks):
            described.append(track)
            on_progress(len(described), len(tracks))
    return described


def _describe(track: Found) -> Found:
    with contextlib.suppress(MoodError, OSError):  # a missing file must not hide the other tracks
        if track.file is not None:
            info = ffmpeg.probe(track.file)
            # What was decoded counts: a header's length may be an estimate.
            return replace(track, title=info.title, artist=info.artist, duration_s=track.duration_s or info.duration_s)
    return track


def name_of(track: Found) -> str:
    """Artist and title on one line, or the key if neither is known."""
    names = [  # without line breaks of any kind, and what would move a terminal's cursor
        " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        for text in (track.artist, track.title)
        if text
    ]
    return " - ".join(filter(None, names)) or track.key
