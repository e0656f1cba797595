"""What `extract`, `train`, `splits` and `demo` do: arguments -> calls of the package -> a report -> the exit status.

Imports are inside, so that `jamendo-mood --help` loads neither TensorFlow nor pandas.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jamendo_mood.cli import copy_options, ray_options, reports
from jamendo_mood.cli.reports import DONE, SOME_FAILED
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError

if TYPE_CHECKING:
    from jamendo_mood.datasets.dataset import Dataset, Track
    from jamendo_mood.extraction.streaming import Feed
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.training.data import Examples
    from jamendo_mood.training.fit import TrainConfig


def extract(arguments: argparse.Namespace) -> int:
    """Embed audio files into a store."""
    from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
    from jamendo_mood.extraction.streaming import StreamConfig, extract
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.store.file_format import MANIFEST_NAME
    from jamendo_mood.util.files import remove_drafts

    ray_options.check_places(arguments)
    augmentation = copy_options.read_augmentation(arguments)
    feed = _choose_feed(arguments)
    tracks, missing = _select_tracks(arguments)
    config = StreamConfig(batch=arguments.batch, scratch=arguments.scratch, decoder=arguments.decoder, feed=feed)
    if arguments.ray is not None:
        return ray_options.extract_on_ray(arguments, tracks, missing, config)
    options = EmbedderOptions.of(arguments)
    if options.precision == "auto" and (arguments.store / MANIFEST_NAME).is_file():
        # What was begun, here or on another machine, is gone on with.
        options = replace(options, precision=EmbeddingStore(arguments.store).spec.precision)
    embedder = load_embedder(arguments.embedder, options)
    tracks, embedder, config = copy_options.turn_to_copies(tracks, embedder, config, augmentation)
    store = EmbeddingStore(arguments.store, embedder.spec)
    remove_drafts(store.root)  # of runs that were killed
    given_up = set() if arguments.retry_failed else set(store.failures())
    with reports.TrackProgress(sum(key not in store and key not in given_up for key in tracks)) as progress:
        report = extract(
            tracks,
            embedder,
            store,
            config,
            retry_failed=arguments.retry_failed,
            on_track=lambda result: progress.advance(result.duration_s, result.error),
        )
    reports.print_extraction(report, missing, arguments.store)
    return SOME_FAILED if report.failed or missing else DONE


def _choose_feed(arguments: argparse.Namespace) -> Feed:
    """Where the decoders get their files: from a folder, or from MTG."""
    from jamendo_mood.extraction.streaming import local_files

    given = {name: getattr(arguments, name) for name in ("base_url", "connections", "max_scratch_gb")}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.from_jamendo is None:
        for name in given or ["tars"] * arguments.tars:
            raise UsageError(f"--{name.replace('_', '-')} is about downloads: it goes with --from-jamendo")
        return local_files
    if arguments.tracks is None:
        raise UsageError("--from-jamendo needs --tracks, MTG's table of tracks; `jamendo-mood splits` gets it")

    from jamendo_mood.datasets.jamendo import QUALITIES, read_list
    from jamendo_mood.extraction.downloads import DownloadConfig, Downloads

    quality = QUALITIES[arguments.from_jamendo]
    if "max_scratch_gb" in given:
        given["max_scratch_bytes"] = round(given.pop("max_scratch_gb") * 1e9)
    base_url = given.pop("base_url", quality.tars_url if arguments.tars else quality.files_url)
    tar_name = quality.tar_name if arguments.tars else ""
    return partial(Downloads, DownloadConfig(base_url, read_list(quality, arguments.tracks), tar_name, **given))


def _select_tracks(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The files to embed, and the keys of the table that have none."""
    from jamendo_mood.audio import decoding
    from jamendo_mood.datasets.jamendo import QUALITIES, read_list, read_tracks
    from jamendo_mood.extraction.object_store import find_tracks
    from jamendo_mood.extraction.streaming import select_shard

    if arguments.from_jamendo is not None:
        quality = QUALITIES[arguments.from_jamendo]
        found: dict[str, Any] = {key: quality.path_of(key) for key in read_list(quality, arguments.tracks)}
    else:
        found = dict(find_tracks(arguments.audio_dir))
    if not found:
        raise UsageError(f"{arguments.audio_dir}: no audio files there ({', '.join(sorted(decoding.AUDIO_SUFFIXES))})")
    keys = list(found) if arguments.tracks is None else [track.key for track, _ in read_tracks(arguments.tracks)]
    if arguments.augment is not None:
        keys = copy_options.read_training_keys(arguments)
    if not any(key in found for key in keys):
        where = arguments.audio_dir or "MTG's list"
        raise UsageError(f"none of the {len(keys)} tracks of {arguments.tracks or arguments.data} is in {where}")
    if arguments.shard is not None:
        keys = select_shard(keys, *arguments.shard)
    keys = keys[: arguments.limit]
    if not keys:
        raise UsageError("no tracks are left to embed: this shard is empty")
    return {key: found[key] for key in keys if key in found}, [key for key in keys if key not in found]


def train(arguments: argparse.Namespace) -> int:
    """Train a tagger."""
    import numpy as np

    from jamendo_mood.datasets.registry import find_source, load_dataset
    from jamendo_mood.training import data
    from jamendo_mood.training.fit import fit
    from jamendo_mood.training.model import check_tagger_folder

    check_tagger_folder(arguments.out)
    config = read_training(arguments)
    dataset = load_dataset(arguments.task, arguments.data, split=arguments.split)
    plaintext.note_all(dataset.remarks)
    learned = dataset.broader if dataset.broader is not None and not arguments.single_task else dataset
    store = _open_store(arguments.store)
    embeddings = data.choose_embeddings(learned, store)
    train, watched = _part_cleanly(
        data.load_part(learned, learned.train, embeddings),
        data.load_part(learned, learned.validation, embeddings),
        data.identify_part(learned, learned.test, embeddings),
        arguments.leaks,
    )
    tell_unlabelled(learned, store)
    train = copy_options.add_stored_copies(train, learned, embeddings.spec, arguments.augmented)
    validation = watched
    if learned is not dataset:
        kept = {track.key for track in watched.tracks}
        validation = data.load_part(dataset, dataset.validation, embeddings)
        validation = validation.select(np.array([track.key in kept for track in validation.tracks]))
    record = {"split": arguments.split, "licence": dataset.licence, "citation": dataset.citation}
    if not find_source(arguments.task).official:
        record["parts"] = dataset.fingerprint_parts()
    tagger = fit(
        *(train, validation, dataset.task, embeddings.spec, config),
        watched=watched,
        record=record,
        on_epoch=reports.EpochLines(config),
    )
    tagger.save(arguments.out)
    reports.print_training(tagger, arguments.out)
    return DONE


def tell_unlabelled(dataset: Dataset, store: EmbeddingStore | None) -> None:
    """Say how many tracks of a store are not used, for want of labels."""
    from jamendo_mood.training.data import count_unlabelled

    unused = 0 if store is None else count_unlabelled(dataset, store)
    if unused:
        plaintext.note(
            f"{plaintext.count(unused, 'track')} of the store without a label for {dataset.task.name}: not used"
        )


def read_training(arguments: argparse.Namespace) -> TrainConfig:
    """The settings of training that a command line names."""
    from jamendo_mood.training.fit import TrainConfig

    settings = dict(arguments.set)
    for name in ("pooling", "ensemble", "epochs", "seed"):
        if getattr(arguments, name) is not None:
            settings[name] = str(getattr(arguments, name))
    config = TrainConfig.for_head(arguments.head).updated(settings)
    return replace(config, allow_leaks=getattr(arguments, "leaks", "refuse") == "keep")


def _part_cleanly(
    train: Examples, validation: Examples, test: Sequence[Track], leaks: str
) -> tuple[Examples, Examples]:
    """Training and validation part without what they share with each other and with the test part, or an error."""
    from jamendo_mood.datasets.parts import check_leaks, drop_leaks, find_leaks

    found = find_leaks({"training": train.tracks, "validation": validation.tracks, "test": test})
    if leaks == "refuse":
        check_leaks(found)
    elif leaks == "drop" and found:
        kept = [drop_leaks("training", train.tracks, found), drop_leaks("validation", validation.tracks, found)]
        left = {
            track.key
            for part, rows in zip((train, validation), kept, strict=True)
            for track in part.select(~rows).tracks
        }
        plaintext.warn(f"left out for --leaks drop: {len(left)} tracks")
        return train.select(kept[0]), validation.select(kept[1])
    return train, validation


def splits(arguments: argparse.Namespace) -> int:
    """Get MTG's official tables."""
    from jamendo_mood.datasets.jamendo import BASE_URL, get_splits

    get_splits(
        arguments.out,
        arguments.base_url or BASE_URL,
        on_file=lambda path, fetched: print(f"{path}  {'fetched' if fetched else 'already there'}, SHA-256 right"),
    )
    return DONE


def demo(arguments: argparse.Namespace, command: Callable[[list[str]], int]) -> int:
    """Go the whole way on music made on the spot, by the very commands that it prints."""
    from jamendo_mood.cli.demo import run_demo
    from jamendo_mood.embedders.registry import EmbedderOptions

    return run_demo(arguments.out, arguments.embedder, EmbedderOptions.of(arguments), arguments.seed, command)


def _open_store(path: Path | None) -> EmbeddingStore | None:
    from jamendo_mood.store.embedding_store import EmbeddingStore

    return None if path is None else EmbeddingStore(path)
