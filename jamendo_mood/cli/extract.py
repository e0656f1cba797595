"""`extract`: audio files, from a folder, from MTG or on a cluster, into a store."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jamendo_mood.audio import decoding
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.datasets import load_dataset
from jamendo_mood.datasets.jamendo import QUALITIES, read_list, read_tracks
from jamendo_mood.embedders.engines import ENGINES
from jamendo_mood.embedders.registry import EmbedderOptions, EmbedderSpec, load_embedder
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import remove_drafts
from jamendo_mood.util.plaintext import TrackProgress, say

if TYPE_CHECKING:
    from jamendo_mood.extraction.streaming import ExtractReport, Feed, StreamConfig


def _add_extract(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "audio_dir", type=shared.path_or_url, nargs="?", metavar="AUDIO_DIR", help="folder of audio files, any depth"
    )
    source.add_argument(
        "--from-jamendo",
        nargs="?",
        const="low",
        choices=("low", "full"),
        help="fetch the MP3s of --tracks from MTG's server, in low quality (46 GB in all) or full (152 GB); each is "
        "deleted once it is embedded",
    )
    _add_download(parser)
    parser.add_argument(
        "--store", type=shared.path_or_url, required=True, metavar="DIR", help="store to write or to continue"
    )
    parser.add_argument(
        "--embedder",
        help="vggish (default, or what the store has), vggish-pca, yamnet, yamnet-scores, musicnn, without weights "
        "logmel, handcrafted, mel-patches, spectrogram-patches and mfcc-patches, or one that another package brings",
    )
    parser.add_argument("--hop", type=float, metavar="SECONDS", help="between windows (default: the embedder's own)")
    shared.add_weights(parser)
    parser.add_argument("--tracks", type=Path, metavar="TSV", help="only the tracks of this table (MTG's TSV)")
    parser.add_argument("--shard", type=shared.shard, metavar="I/N", help="only part I of N, the same on every machine")
    parser.add_argument("--limit", type=shared.positive, metavar="N", help="only the first N of these tracks")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed, or was there in part")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where WAVs live a moment (default: temp folder)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of VGGish: bfloat16 is about twice as fast where CPU or GPU has it; auto (default) takes it there",
    )
    parser.add_argument(
        "--mix-engines",
        action="store_true",
        help="add to a store whose rows another engine made, which is refused otherwise; they differ by some 1e-4 of "
        "their standard deviation in float32",
    )
    parser.add_argument(
        "--decoder",
        choices=("pydub", "libsndfile"),
        default="pydub",
        help="pydub (default) reads any usual format of sound; libsndfile, of the extra `fast`, takes less work for "
        "MP3, FLAC, Ogg and WAV, and leaves other files to pydub",
    )
    parser.add_argument("--batch", type=shared.positive, default=64, metavar="N", help="windows a batch (default 64)")
    _add_augment(parser)
    _add_ray(parser)


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tars", action="store_true", help="fetch MTG's 100 tars, a folder each, not single files")
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="a mirror: the folder that holds 48/948.low.mp3 (full: 48/948.mp3) and the others, or with --tars "
        "autotagging_moodtheme_audio-low-48.tar (full: autotagging_moodtheme_audio-48.tar)",
    )
    parser.add_argument("--connections", type=shared.positive, metavar="N", help="downloads at a time (default 3)")
    parser.add_argument(
        "--max-scratch-gb",
        type=shared.gigabytes,
        metavar="X",
        help="the most that downloads and WAVs may take on disk; downloads wait when it is full (default 2)",
    )


def _add_augment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--augment",
        type=shared.positive,
        metavar="COPIES",
        help="embed so many altered copies (noise, later start, gain, pitch) of each training track of --task and "
        "--data, into a store of their own for `train --augmented`",
    )
    parser.add_argument("--task", help="with --augment: the task whose training part is copied, see `train --help`")
    parser.add_argument("--data", type=Path, metavar="DIR", help="with --augment: the data set's tables")
    parser.add_argument("--split", type=int, metavar="N", help="with --augment: the split (default 0)")


def _add_ray(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; local starts Ray on this machine. AUDIO_DIR "
        "and --store are then folders that all its machines share, or URLs, such as s3://bucket/audio",
    )
    parser.add_argument("--ray-actors", type=shared.positive, metavar="N", help="processes (default: as many as fit)")
    parser.add_argument("--ray-cpus", type=shared.positive, metavar="N", help="cores a process (default: up to 4)")
    parser.add_argument("--ray-gpus", type=shared.share, metavar="X", help="GPUs a process, such as 0.5 (default 0)")


def extract(arguments: argparse.Namespace) -> int:
    """Embed audio files into a store, one .npy a track; continue where an earlier run stopped."""
    from jamendo_mood.extraction.streaming import StreamConfig, extract
    from jamendo_mood.store.embedding_store import MANIFEST_NAME, EmbeddingStore

    _check_places(arguments)
    _check_augment(arguments)
    feed = _choose_feed(arguments)
    tracks, missing = _select_tracks(arguments)
    config = StreamConfig(batch=arguments.batch, scratch=arguments.scratch, decoder=arguments.decoder, feed=feed)
    if arguments.ray is not None:
        return _extract_on_ray(arguments, tracks, missing, config)
    there = EmbeddingStore(arguments.store).spec if (arguments.store / MANIFEST_NAME).is_file() else None
    embedder = load_embedder(*_choose_embedder(arguments, there))
    if arguments.augment is not None:
        from jamendo_mood.training.augmentation import alter, list_copies, mark_embedder

        tracks, embedder = list_copies(tracks, arguments.augment), mark_embedder(embedder)
        config = replace(config, alter=alter)
    if arguments.mix_engines and there is not None and there.engine != embedder.spec.engine:
        EmbeddingStore(arguments.store).mix_engines()
    store = EmbeddingStore(arguments.store, embedder.spec)
    remove_drafts(store.root)  # of runs that were killed
    given_up = set() if arguments.retry_failed else set(store.failures())
    with TrackProgress(sum(key not in store and key not in given_up for key in tracks)) as progress:
        report = extract(
            tracks,
            embedder,
            store,
            config,
            retry_failed=arguments.retry_failed,
            on_track=lambda result: progress.advance(result.duration_s, result.error),
        )
    print_extraction(report, missing, arguments.store)
    return SOME_FAILED if report.failed or missing else DONE


def _choose_embedder(
    arguments: argparse.Namespace, there: EmbedderSpec | None
) -> tuple[str | EmbedderSpec, EmbedderOptions]:
    """What to load: what was asked for, else what made the embeddings that are there, on this or another machine."""
    options = EmbedderOptions.of(arguments)
    if there is None:
        return arguments.embedder or "vggish", options
    if options.precision == "auto":
        options = replace(options, precision=there.precision)
    if options.engine == "auto" and there.engine in ENGINES:
        options = replace(options, engine=there.engine)
    as_there = arguments.embedder in (None, there.name) and options.hop_s is None
    return there if as_there else arguments.embedder or there.name, options


def _choose_feed(arguments: argparse.Namespace) -> Feed:
    """Where the decoders get their files: from a folder, or from MTG."""
    from jamendo_mood.extraction.streaming import local_files

    given = {name: getattr(arguments, name) for name in ("base_url", "connections", "max_scratch_gb")}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.from_jamendo is None:
        for name in given or ["tars"] * arguments.tars:
            raise UsageError(f"--{name.replace('_', '-')} is about downloads: it goes with --from-jamendo")
        return local_files
    if arguments.offline:
        raise UsageError("--from-jamendo asks MTG's server: it does not go with --offline")
    if arguments.tracks is None:
        raise UsageError("--from-jamendo needs --tracks, MTG's table of tracks; `jamendo-mood splits` gets it")

    from jamendo_mood.extraction.downloads import DownloadConfig, Downloads

    quality = QUALITIES[arguments.from_jamendo]
    if "max_scratch_gb" in given:
        given["max_scratch_bytes"] = round(given.pop("max_scratch_gb") * 1e9)
    base_url = given.pop("base_url", quality.tars_url if arguments.tars else quality.files_url)
    tar_name = quality.tar_name if arguments.tars else ""
    return partial(Downloads, DownloadConfig(base_url, read_list(quality, arguments.tracks), tar_name, **given))


def _select_tracks(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The files to embed, and the keys of the table that have none."""
    from jamendo_mood.extraction.streaming import select_shard

    if arguments.from_jamendo is not None:
        quality = QUALITIES[arguments.from_jamendo]
        found: dict[str, Any] = {key: quality.path_of(key) for key in read_list(quality, arguments.tracks)}
    elif isinstance(arguments.audio_dir, Path):
        found = dict(decoding.find_audio(arguments.audio_dir))
    else:
        from jamendo_mood.extraction.cluster import find_tracks

        found = dict(find_tracks(arguments.audio_dir))
    if not found:
        raise UsageError(f"{arguments.audio_dir}: no audio files there ({', '.join(sorted(decoding.AUDIO_SUFFIXES))})")
    keys = list(found) if arguments.tracks is None else [track.key for track, _ in read_tracks(arguments.tracks)]
    if arguments.augment is not None:
        from jamendo_mood.training.augmentation import training_keys

        keys = training_keys(load_dataset(arguments.task, arguments.data, split=arguments.split or 0))
    if not any(key in found for key in keys):
        where = arguments.audio_dir or "MTG's list"
        raise UsageError(
            f"none of the {len(keys)} tracks of {arguments.tracks or arguments.data} is in {where}: it names such as "
            f"{keys[0]!r}, and there are such as {next(iter(found))!r}"
        )
    if arguments.shard is not None:
        keys = select_shard(keys, *arguments.shard)
    keys = keys[: arguments.limit]
    if not keys:
        raise UsageError("no tracks are left to embed: this shard is empty")
    return {key: found[key] for key in keys if key in found}, [key for key in keys if key not in found]


def _check_augment(arguments: argparse.Namespace) -> None:
    """`UsageError` if options of --augment are missing, or do not go with each other."""
    given = [name for name in ("task", "data", "split") if getattr(arguments, name) is not None]
    if arguments.augment is None:
        for name in given:
            raise UsageError(f"--{name} says whose copies to make: it goes with --augment")
    elif not {"task", "data"} <= set(given):
        raise UsageError("--augment needs --task and --data, which say what the training part is")
    for name in ("from_jamendo", "ray", "tracks"):
        if arguments.augment is not None and getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} does not go with --augment, which takes the training part from AUDIO_DIR")


def _check_places(arguments: argparse.Namespace) -> None:
    """Refuse what only goes with `--ray`, and what does not.

    Raises `UsageError` for URLs or other options of a cluster without `--ray`, and for downloads with it.
    """
    if arguments.ray is not None:
        if arguments.from_jamendo is not None:
            raise UsageError("--from-jamendo downloads to one machine: it does not go with --ray")
        return
    for place in (arguments.audio_dir, arguments.store):
        if isinstance(place, str):
            raise UsageError(f"{place}: URLs go with --ray (--ray local runs on this machine alone)")
    for name in ("ray_actors", "ray_cpus", "ray_gpus"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} goes with --ray")


def _extract_on_ray(
    arguments: argparse.Namespace, tracks: Mapping[str, Path | str], missing: list[str], stream: StreamConfig
) -> int:
    """Embed tracks on a Ray cluster."""
    from jamendo_mood.extraction import cluster
    from jamendo_mood.extraction.cluster import find_store

    there = find_store(arguments.store)
    size = (arguments.ray_actors, arguments.ray_cpus, arguments.ray_gpus or 0.0)
    config = cluster.ClusterConfig(arguments.ray, *size, retry_failed=arguments.retry_failed, stream=stream)
    bars: list[TrackProgress] = []
    # Ray prints what it has to say of its machines to stdout.
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        report = cluster.extract_on_ray(
            {key: place.absolute() if isinstance(place, Path) else place for key, place in tracks.items()},
            partial(load_embedder, *_choose_embedder(arguments, None if there is None else there.spec)),
            arguments.store.absolute() if isinstance(arguments.store, Path) else arguments.store,
            config,
            on_start=lambda total: bars.append(stack.enter_context(TrackProgress(total))),
            on_track=lambda result: bars[0].advance(result.duration_s, result.error),
        )
    print_extraction(report, missing, arguments.store)
    return SOME_FAILED if report.failed or missing else DONE


def print_extraction(report: ExtractReport, missing: list[str], store: Path | str) -> None:
    """Say what became of a run, and list what failed."""
    speed = f" ({report.audio_s / report.wall_s:.0f}x real time)" if report.done else ""
    say(
        f"{store}: {report.done} tracks embedded, {report.skipped} were there already, {len(report.failed)} failed; "
        f"{report.audio_s / 60:.1f} min of sound in {report.wall_s:.1f} s{speed}"
    )
    listed = store / "failures.tsv" if isinstance(store, Path) else f"{store}/_failures/"
    for heading, for_now in (
        (f"failed, see {listed}; --retry-failed tries them again:", False),
        ("failed for now; the same command tries them again:", True),
    ):
        lines = [f"  {key}: {error}" for key, error in report.failed.items() if (key in report.unrecorded) == for_now]
        if lines:
            shared.print_list(heading, lines)
    if report.remarks:
        lines = [f"  {key}: {remark}" for key, remark in report.remarks.items()]
        said = f"{plaintext.count(len(lines), 'track')} with a remark"
        shared.print_list(f"{said}; --retry-failed embeds those again of which a part is missing:", lines)
    if missing:
        shared.print_list(f"{len(missing)} tracks of the table have no audio file:", [f"  {key}" for key in missing])


COMMANDS = {
    "extract": Command(
        _add_extract,
        extract,
        "what was finished is kept, the tracks in hand are not, and the same command continues from there",
    ),
}
