"""Scores of all tracks of a store, computed once and kept beside the embeddings.

``STORE/library-<12 hex of the tagger>.npz`` holds keys, scores and mean embeddings. It may be deleted at any time. New
tracks are added to it, deleted ones removed, and one that was extracted again (its file has another time) is scored
again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import SILENT
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.data import check_finite
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import files
from jamendo_mood.util.errors import DiskFullError, StoreError, UsageError
from jamendo_mood.util.files import remove_drafts, write_atomically

FORMAT = 1
BATCH = 256  # tracks in memory at once

Array = npt.NDArray[np.float32]
OnProgress = Callable[[int, int], None]
log = logging.getLogger(__name__)


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
    kept = _read(path, store.spec.dim, 0 if tagger is None else len(tagger.task.targets))
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
            _write(path, scored)
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
        means.append(np.full_like(mean, np.nan) if SILENT in entry.remark else mean)
    scores = np.zeros((len(tracks), 0), np.float32) if tagger is None else tagger.score_tracks(tracks)
    return Scored(np.array([*stamps]), np.array([*stamps.values()], np.int64), np.stack(means), scores)


def _write(path: Path, scored: Scored) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, format=FORMAT, **scored._asdict())
    try:
        write_atomically(path, buffer.getvalue())
        remove_drafts(path.parent)  # of runs that were killed
    except (StoreError, DiskFullError) as error:
        log.warning("the scores cannot be kept, and will be computed again next time: %s", error)


def _read(path: Path, dim: int, targets: int) -> Scored:
    """What is kept: nothing if there is no such file, or it is damaged."""
    means, scores = (np.zeros((0, width), np.float32) for width in (dim, targets))
    nothing = Scored(np.zeros(0, np.str_), np.zeros(0, np.int64), means, scores)
    try:
        with files.open_file(path) as file:
            arrays = files.read_npz(file, os.fstat(file.fileno()).st_size)
        if arrays["format"] != FORMAT:
            return nothing
        kept = Scored(*(arrays[name] for name in Scored._fields))
        for name, like in nothing._asdict().items():
            shape, dtype = arrays[name].shape, arrays[name].dtype
            if shape != (len(kept.keys), *like.shape[1:]) or dtype.type is not like.dtype.type:
                raise ValueError(f"{name} are {dtype} {shape}")
    except FileNotFoundError:
        return nothing
    except files.DAMAGES as error:
        log.warning("%s: damaged, computed again (%s)", path, files.brief(error))
        return nothing
    return kept
