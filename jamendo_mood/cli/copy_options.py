"""What `extract --augment` and `train --augmented` add to these commands: altered copies of training tracks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jamendo_mood.cli import argtypes
from jamendo_mood.util.errors import UsageError

if TYPE_CHECKING:
    from jamendo_mood.datasets.dataset import Dataset
    from jamendo_mood.embedders.registry import Embedder, EmbedderSpec
    from jamendo_mood.extraction.streaming import StreamConfig
    from jamendo_mood.training.augmentation import WaveAugmentation
    from jamendo_mood.training.data import Examples

T = TypeVar("T")


def add_augment(parser: argparse.ArgumentParser) -> None:
    """Options of `extract` that make copies."""
    parser.add_argument(
        "--augment",
        type=argtypes.positive,
        metavar="COPIES",
        help="embed so many altered copies (noise, later start, gain, pitch) of each training track of --task and "
        "--data, into a store of their own for `train --augmented`",
    )
    parser.add_argument("--task", help="with --augment: the task whose training part is copied, see `train --help`")
    parser.add_argument("--data", type=Path, metavar="DIR", help="with --augment: the data set's tables")
    parser.add_argument("--split", type=int, metavar="N", help="with --augment: the split (default 0)")


def add_augmented(parser: argparse.ArgumentParser) -> None:
    """The option of `train` that takes copies."""
    parser.add_argument(
        "--augmented",
        type=Path,
        metavar="DIR",
        help="learn from altered copies of the training tracks too: a store that `extract --augment` wrote",
    )


def read_augmentation(arguments: argparse.Namespace) -> WaveAugmentation | None:
    """What copies `extract` is to make; None if none.

    Raises
    ------
    UsageError
        Options are missing, or do not go with each other.
    """
    given = [name for name in ("task", "data", "split") if getattr(arguments, name) is not None]
    if arguments.augment is None:
        for name in given:
            raise UsageError(f"--{name} says whose copies to make: it goes with --augment")
        return None
    if not {"task", "data"} <= set(given):
        raise UsageError("--augment needs --task and --data, which say what the training part is")
    for name in ("from_jamendo", "ray", "tracks"):
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} does not go with --augment, which takes the training part from AUDIO_DIR")
    from jamendo_mood.training.augmentation import WaveAugmentation

    return WaveAugmentation(copies=arguments.augment)


def read_training_keys(arguments: argparse.Namespace) -> list[str]:
    """The keys of the tracks that `extract --augment` may copy."""
    from jamendo_mood.datasets import load_dataset
    from jamendo_mood.training.augmentation import training_keys

    return training_keys(load_dataset(arguments.task, arguments.data, split=arguments.split or 0))


def turn_to_copies(
    tracks: Mapping[str, T], embedder: Embedder, config: StreamConfig, augmentation: WaveAugmentation | None
) -> tuple[dict[str, T], Embedder, StreamConfig]:
    """What to extract instead of the tracks: their copies; everything as it is if there are to be none."""
    if augmentation is None:
        return dict(tracks), embedder, config
    from jamendo_mood.training.augmentation import CopyMaker, list_copies, mark_embedder

    copies = list_copies(tracks, tracks, augmentation)
    return copies, mark_embedder(embedder, augmentation), replace(config, alter=CopyMaker(augmentation))


def add_stored_copies(train: Examples, dataset: Dataset, spec: EmbedderSpec, store: Path | None) -> Examples:
    """The training part with its copies in a store; as it is without one."""
    if store is None:
        return train
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.training.augmentation import add_copies, check_whole

    check_whole(dataset)
    return add_copies(train, spec, EmbeddingStore(store))
