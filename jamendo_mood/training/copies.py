"""Altered copies of training tracks: a store of their own, and the way from it into the training part alone.

A store of copies holds copy 2 of track ``48/948`` under ``48/948~2``, and its spec says how they were altered, so that
nothing takes it for a store of tracks. Copies are looked up by the keys of the tracks that are trained on: whatever a
store holds, a copy of another track stays out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.augmentation import WaveAugmentation, alter
from jamendo_mood.audio.conversion import Wave
from jamendo_mood.datasets.tracks import Dataset
from jamendo_mood.embedders.registry import Embedder, EmbedderSpec
from jamendo_mood.training.data import Embeddings, Examples, check_finite
from jamendo_mood.util.errors import UsageError

MARK = "~"
AUGMENTED = "augmented: "

Array = npt.NDArray[np.float32]
T = TypeVar("T")
log = logging.getLogger(__name__)


class Copies(Embeddings, Protocol):
    """A store of copies; `EmbeddingStore` is one."""

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True)
class CopyMaker:
    """Alters the sound of a copy by its key: a `StreamConfig.alter` that other processes can be sent."""

    augmentation: WaveAugmentation

    def __call__(self, key: str, waves: Iterator[Wave]) -> Iterator[Wave]:
        """Alter the waves of the copy that has this key."""
        return alter(waves, *self.augmentation.draw(*split_key(key)))


def make_key(key: str, number: int) -> str:
    """The key of copy `number`, from 1, of a track."""
    return f"{key}{MARK}{number}"


def split_key(copy: str) -> tuple[str, int]:
    """The track's key and the copy's number; ``("", 0)`` if it is no key of a copy."""
    key, _, number = copy.rpartition(MARK)
    return (key, int(number)) if key and number.isdecimal() and number[0] != "0" else ("", 0)


def list_copies(files: Mapping[str, T], keys: Iterable[str], augmentation: WaveAugmentation) -> dict[str, T]:
    """The copies to make of the tracks that have these keys, with their files; first copy 1 of all."""
    there = [key for key in keys if key in files]
    return {make_key(key, number): files[key] for number in range(1, augmentation.copies + 1) for key in there}


def training_keys(dataset: Dataset) -> list[str]:
    """The keys of the tracks that copies may be made of: those of the training part.

    Raises: as `check_whole`.
    """
    check_whole(dataset)
    return [dataset.tracks[row].key for row in dataset.rows(dataset.train)]


def check_whole(dataset: Dataset) -> None:
    """Refuse data that know moments of their tracks: in a copy, these are elsewhere.

    Raises
    ------
    UsageError
        They do.
    """
    if dataset.curves is not None:
        raise UsageError(
            f"task {dataset.task.name!r} has labels for moments, which a copy that starts later does not have where "
            "the track has them: copies are for labels of whole tracks"
        )


def mark_embedder(embedder: Embedder, augmentation: WaveAugmentation) -> Embedder:
    """The embedder, with a spec that says that what it embeds are copies, and how they are altered."""
    variant = f"{AUGMENTED}{augmentation}"
    usual = embedder.spec.variant
    return replace(embedder, spec=replace(embedder.spec, variant=f"{usual}; {variant}" if usual else variant))


def plain_spec(spec: EmbedderSpec) -> EmbedderSpec:
    """The spec of the tracks that copies of this spec belong to.

    Raises
    ------
    UsageError
        It is not the spec of copies.
    """
    usual, marked, _ = spec.variant.partition(AUGMENTED)
    if not marked:
        raise UsageError(f"these are no copies, but embeddings of {spec}; `jamendo-mood extract --augment` makes some")
    return replace(spec, variant=usual.removesuffix("; "))


def add_copies(train: Examples, spec: EmbedderSpec, copies: Copies) -> Examples:
    """The training part, and after it the copies of its tracks; each goes by the name and artist of its track.

    Parameters
    ----------
    train : Examples
        Of whole tracks.
    spec : EmbedderSpec
        What its embeddings were made with.
    copies : store of copies

    Raises
    ------
    UsageError
        The store holds no copies, copies of other embeddings, or none of these tracks.
    DataError
        An embedding holds NaN or infinity.
    """
    if not spec.accepts(plain_spec(copies.spec)):
        raise UsageError(f"the tracks are embedded by {spec}, their copies by {copies.spec}")
    numbers: dict[str, list[int]] = {}
    for key, number in map(split_key, copies):
        numbers.setdefault(key, []).append(number)
    frames: list[Array] = []
    rows: list[int] = []
    for row, track in enumerate(train.tracks):
        for number in sorted(numbers.get(track.key, ())):
            key = make_key(track.key, number)
            frames.append(copies[key])
            check_finite(key, frames[-1])
            rows.append(row)
    if missing := len(train) - len(set(rows)):
        if not rows:
            raise UsageError(f"none of the {missing} training tracks has a copy in the store of copies")
        log.warning("%d of %d training tracks have no copy", missing, len(train))
    return replace(
        train,
        frames=(*train.frames, *frames),
        Y=np.concatenate([train.Y, train.Y[rows]]),
        tracks=(*train.tracks, *(train.tracks[row] for row in rows)),
    )
