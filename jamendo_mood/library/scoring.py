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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

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


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores and mean embeddings of the tracks of a store."""

    keys: tuple[str, ...]  #: the n tracks
    stamps: npt.NDArray[np.int64]  #: int64 (n,): when each embedding was written, in nanoseconds
    means: Array  #: float32 (n, dim): the mean of each embedding over its frames
    scores: Array  #: float32 (n, targets): range [0, 1], or on the scale of values; no columns without a tagger

    def select(self, rows: list[int]) -> Scored:
        """The tracks in these rows."""
        keys = tuple(self.keys[row] for row in rows)
        return Scored(keys, self.stamps[rows], self.means[rows], self.scores[rows])


def score_store(store: EmbeddingStore, tagger: Tagger | None, on_progress: OnProgress | None = None) -> Scored:
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
    empty = _nothing(store, tagger)
    kept = _read(path, empty) or empty
    current = [row for row, key in enumerate(kept.keys) if stamps.get(key) == kept.stamps[row]]
    parts = [kept.select(current)]
    todo = sorted(stamps.keys() - set(parts[0].keys))
    try:
        for start in range(0, len(todo), BATCH):
            keys = todo[start : start + BATCH]
            parts.append(_score(store, tagger, {key: stamps[key] for key in keys}))
            if on_progress is not None:
                on_progress(start + len(keys), len(todo))
    finally:  # an interruption keeps what was done
        scored = _join(parts)
        if len(parts) > 1 or len(current) < len(kept.keys):
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


def _nothing(store: EmbeddingStore, tagger: Tagger | None) -> Scored:
    targets = 0 if tagger is None else len(tagger.task.targets)
    none = np.zeros(0, np.int64)
    return Scored((), none, np.zeros((0, store.spec.dim), np.float32), np.zeros((0, targets), np.float32))


def _score(store: EmbeddingStore, tagger: Tagger | None, stamps: dict[str, int]) -> Scored:
    tracks = []
    for key in stamps:
        try:
            tracks.append(store[key])
        except KeyError:
            raise StoreError(f"{store.root}: track {key} was deleted while it was scored; start again") from None
        check_finite(key, tracks[-1])
    return Scored(
        tuple(stamps),
        np.array(list(stamps.values()), np.int64),
        np.stack([frames.mean(axis=0) for frames in tracks]),
        np.zeros((len(tracks), 0), np.float32) if tagger is None else tagger.score_tracks(tracks),
    )


def _join(parts: list[Scored]) -> Scored:
    """All of them, sorted by key."""
    joined = Scored(
        tuple(key for part in parts for key in part.keys),
        np.concatenate([part.stamps for part in parts]),
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )
    return joined.select(sorted(range(len(joined.keys)), key=joined.keys.__getitem__))


def _write(path: Path, scored: Scored) -> None:
    buffer = io.BytesIO()
    keys = np.array(scored.keys, np.str_)
    np.savez(buffer, format=FORMAT, keys=keys, stamps=scored.stamps, means=scored.means, scores=scored.scores)
    try:
        write_atomically(path, buffer.getvalue())
        remove_drafts(path.parent)  # of runs that were killed
    except (StoreError, DiskFullError) as error:
        log.warning("the scores cannot be kept, and will be computed again next time: %s", error)


def _read(path: Path, empty: Scored) -> Scored | None:
    """The kept scores, or None if there are none or they are damaged."""
    try:
        with files.open_file(path) as file:
            arrays = files.read_npz(file, os.fstat(file.fileno()).st_size)
        if arrays["format"] != FORMAT:
            return None
        keys = tuple(arrays["keys"].tolist())
        kept = Scored(keys, arrays["stamps"], arrays["means"], arrays["scores"])
        for name in ("stamps", "means", "scores"):
            array, like = getattr(kept, name), getattr(empty, name)
            if array.shape != (len(keys), *like.shape[1:]) or array.dtype != like.dtype:
                raise ValueError(f"{name} are {array.dtype} {array.shape}")
    except FileNotFoundError:
        return None
    except files.DAMAGES as error:
        log.warning("%s: damaged, computed again (%s)", path, files.brief(error))
        return None
    return kept
