"""`extract`: audio files, from a folder, from MTG or on a cluster, into a store."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jamendo_mood.audio import decoding
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.datasets import load_dataset
from jamendo_mood.datasets.jamendo import QUALITIES, read_list, read_tracks
from jamendo_mood.embedders.engines import ENGINES
from jamendo_mood.embedders.registry import EmbedderOptions, EmbedderSpec, load_embedder
from jamendo_mood.extraction import cluster, streaming
from jamendo_mood.extraction.downloads import DownloadConfig, Downloads
from jamendo_mood.extraction.streaming import ExtractReport, Feed, StreamConfig
from jamendo_mood.store.embedding_store import MANIFEST_NAME, EmbeddingStore
from jamendo_mood.training.augmentation import alter, list_copies, mark_embedder, training_keys
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import remove_drafts
from jamendo_mood.util.plaintext import TrackProgress, say

LISTED = 10  # tracks named before "and N more"

NEEDED = {
    "from_jamendo": ("tracks", "MTG's table of tracks, which `jamendo-mood splits` gets"),
    **dict.fromkeys(("base_url", "connections", "max_scratch_gb", "tars"), ("from_jamendo", "it is about downloads")),
    **dict.fromkeys(("task", "data", "split"), ("augment", "it says whose copies to make")),
    **dict.fromkeys(("ray_actors", "ray_cpus", "ray_gpus"), ("ray", "it is about a cluster")),
}
"""Options that go with another one alone, and why."""
CLASHES = (
    ("from_jamendo", "offline", "it asks MTG's server"),
    ("from_jamendo", "ray", "it downloads to one machine"),
    *(("augment", other, "it takes the training part from AUDIO_DIR") for other in ("from_jamendo", "ray", "tracks")),
)
"""Options that do not go with another one, and why."""


def _add_extract(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    folder = "folder of audio files, any depth"
    source.add_argument("audio_dir", type=shared.path_or_url, nargs="?", metavar="AUDIO_DIR", help=folder)
    mtg = "fetch the MP3s of --tracks from MTG, in low (46 GB) or full quality (152 GB), and delete each once embedded"
    source.add_argument("--from-jamendo", nargs="?", const="low", choices=("low", "full"), help=mtg)
    add = parser.add_argument
    add("--tars", action="store_true", help="fetch MTG's 100 tars, a folder each, not single files")
    add(
        "--base-url",
        metavar="URL",
        help="a mirror: the folder that holds 48/948.low.mp3 (full: 48/948.mp3) and the others, or with --tars "
        "autotagging_moodtheme_audio-low-48.tar (full: autotagging_moodtheme_audio-48.tar)",
    )
    add("--connections", type=shared.positive, metavar="N", help="downloads at a time (default 3)")
    most = "the most that downloads and WAVs may take on disk; downloads wait when it is full (default 2)"
    add("--max-scratch-gb", type=shared.gigabytes, metavar="X", help=most)
    add("--store", type=shared.path_or_url, required=True, metavar="DIR", help="store to write or to continue")
    add(
        "--embedder",
        help="vggish (default, or what the store has), vggish-pca, yamnet, yamnet-scores, musicnn, without weights "
        "logmel, handcrafted, mel-patches, spectrogram-patches and mfcc-patches, or one that another package brings",
    )
    add("--hop", type=float, metavar="SECONDS", help="between windows (default: the embedder's own)")
    shared.add_weights(parser)
    add("--tracks", type=Path, metavar="TSV", help="only the tracks of this table (MTG's TSV)")
    add("--shard", type=shared.shard, metavar="I/N", help="only part I of N, the same on every machine")
    add("--limit", type=shared.positive, metavar="N", help="only the first N of these tracks")
    add("--retry-failed", action="store_true", help="try again what failed, or was there in part")
    add("--scratch", type=Path, metavar="DIR", help="where WAVs live a moment (default: temp folder)")
    fast = "of VGGish: bfloat16 is about twice as fast where CPU or GPU has it; auto (default) takes it there"
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help=fast)
    mixed = "add to a store of another engine, refused otherwise: in float32 rows differ by 1e-4 of their deviation"
    add("--mix-engines", action="store_true", help=mixed)
    less = "pydub (default); libsndfile (extra `fast`) takes less work for MP3, FLAC, Ogg and WAV; pydub does the rest"
    add("--decoder", choices=("pydub", "libsndfile"), default="pydub", help=less)
    add("--batch", type=shared.positive, default=64, metavar="N", help="windows a batch (default 64)")
    copies = "embed so many copies of each training track (noise, later start, gain, pitch), for `train --augmented`"
    add("--augment", type=shared.positive, metavar="COPIES", help=copies)
    add("--task", help="with --augment: the task whose training part is copied, see `train --help`")
    add("--data", type=Path, metavar="DIR", help="with --augment: the data set's tables")
    add("--split", type=int, metavar="N", help="with --augment: the split (default 0)")
    add(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; local starts Ray on this machine. AUDIO_DIR "
        "and --store are then folders that all its machines share, or URLs, such as s3://bucket/audio",
    )
    add("--ray-actors", type=shared.positive, metavar="N", help="processes (default: as many as fit)")
    add("--ray-cpus", type=shared.positive, metavar="N", help="cores a process (default: up to 4)")
    add("--ray-gpus", type=shared.gpus, metavar="X", help="GPUs a process, such as 0.5 (default 0)")


def extract(arguments: argparse.Namespace) -> int:
    """Embed audio files into a store, one .npy a track; continue where an earlier run stopped."""
    _check_options(arguments)
    found, feed = _find_audio(arguments)
    tracks, missing = _select_tracks(arguments, found)
    config = StreamConfig(batch=arguments.batch, scratch=arguments.scratch, decoder=arguments.decoder, feed=feed)
    if arguments.ray is None:
        report = _extract_here(arguments, tracks, config)
    else:
        report = _extract_on_ray(arguments, tracks, config)
    print_extraction(report, missing, arguments.store)
    return SOME_FAILED if report.failed or missing else DONE


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise `UsageError` for options that are missing, or do not go with each other."""

    def spell(name: str) -> str:
        return f"--{name.replace('_', '-')}"

    given = {name for name, value in vars(arguments).items() if value is not None and value is not False}
    for name, other, why in CLASHES:
        if {name, other} <= given:
            raise UsageError(f"{spell(name)} does not go with {spell(other)}: {why}")
    for name, (needed, why) in NEEDED.items():
        if name in given and needed not in given:
            raise UsageError(f"{spell(name)} goes with {spell(needed)}: {why}")
    if "augment" in given and not {"task", "data"} <= given:
        raise UsageError("--augment needs --task and --data, which say what the training part is")
    for place in (arguments.audio_dir, arguments.store):
        if isinstance(place, str) and "ray" not in given:
            raise UsageError(f"{place}: URLs go with --ray (--ray local runs on this machine alone)")


def _find_audio(arguments: argparse.Namespace) -> tuple[Mapping[str, Any], Feed]:
    """All audio files by key, and where the decoders get them: from a folder, a URL, or MTG."""
    if isinstance(arguments.audio_dir, Path):
        return decoding.find_audio(arguments.audio_dir), streaming.local_files
    if arguments.audio_dir is not None:
        return cluster.find_tracks(arguments.audio_dir), streaming.local_files
    quality = QUALITIES[arguments.from_jamendo]
    checksums = read_list(quality, arguments.tracks)
    config = DownloadConfig(
        arguments.base_url or (quality.tars_url if arguments.tars else quality.files_url),
        checksums,
        quality.tar_name if arguments.tars else "",
        connections=arguments.connections or DownloadConfig.connections,
        max_scratch_bytes=round((arguments.max_scratch_gb or 2) * 1e9),
    )
    return {key: quality.path_of(key) for key in checksums}, partial(Downloads, config)


def _select_tracks(arguments: argparse.Namespace, found: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The files to embed, and the keys of the table that have none."""
    if not found:
        raise UsageError(f"{arguments.audio_dir}: no audio files there ({', '.join(sorted(decoding.AUDIO_SUFFIXES))})")
    keys = list(found) if arguments.tracks is None else [track.key for track, _ in read_tracks(arguments.tracks)]
    if arguments.augment is not None:
        keys = training_keys(load_dataset(arguments.task, arguments.data, split=arguments.split or 0))
    if not any(key in found for key in keys):
        where = arguments.audio_dir or "MTG's list"
        raise UsageError(
            f"none of the {len(keys)} tracks of {arguments.tracks or arguments.data} is in {where}: it names such as "
            f"{keys[0]!r}, and there are such as {next(iter(found))!r}"
        )
    if arguments.shard is not None:
        keys = streaming.select_shard(keys, *arguments.shard)
    keys = keys[: arguments.limit]
    if not keys:
        raise UsageError("no tracks are left to embed: this shard is empty")
    return {key: found[key] for key in keys if key in found}, [key for key in keys if key not in found]


def _extract_here(arguments: argparse.Namespace, tracks: Mapping[str, Path], config: StreamConfig) -> ExtractReport:
    """Embed tracks, or their copies, on this machine."""
    there = EmbeddingStore(arguments.store).spec if (arguments.store / MANIFEST_NAME).is_file() else None
    embedder = load_embedder(*_choose_embedder(arguments, there))
    if arguments.augment is not None:
        tracks, embedder = list_copies(tracks, arguments.augment), mark_embedder(embedder)
        config = replace(config, alter=alter)
    if arguments.mix_engines and there is not None and there.engine != embedder.spec.engine:
        EmbeddingStore(arguments.store).mix_engines()
    store = EmbeddingStore(arguments.store, embedder.spec)
    remove_drafts(store.root)  # of runs that were killed
    given_up = set() if arguments.retry_failed else set(store.failures())
    with TrackProgress(sum(key not in store and key not in given_up for key in tracks)) as progress:
        return streaming.extract(
            tracks,
            embedder,
            store,
            config,
            retry_failed=arguments.retry_failed,
            on_track=lambda result: progress.advance(result.duration_s, result.error),
        )


def _extract_on_ray(
    arguments: argparse.Namespace, tracks: Mapping[str, Path | str], stream: StreamConfig
) -> ExtractReport:
    """Embed tracks on a Ray cluster."""
    there = cluster.find_store(arguments.store)
    size = (arguments.ray_actors, arguments.ray_cpus, arguments.ray_gpus or 0.0)
    config = cluster.ClusterConfig(arguments.ray, *size, retry_failed=arguments.retry_failed, stream=stream)
    # Ray prints what it has to say of its machines to stdout.
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        bars: list[TrackProgress] = []
        return cluster.extract_on_ray(
            {key: place.absolute() if isinstance(place, Path) else place for key, place in tracks.items()},
            partial(load_embedder, *_choose_embedder(arguments, None if there is None else there.spec)),
            arguments.store.absolute() if isinstance(arguments.store, Path) else arguments.store,
            config,
            on_start=lambda total: bars.append(stack.enter_context(TrackProgress(total))),
            on_track=lambda result: bars[0].advance(result.duration_s, result.error),
        )


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


def print_extraction(report: ExtractReport, missing: list[str], store: Path | str) -> None:
    """Say what became of a run, and list what failed."""
    speed = f" ({report.audio_s / report.wall_s:.0f}x real time)" if report.done else ""
    say(
        f"{store}: {report.done} tracks embedded, {report.skipped} were there already, {len(report.failed)} failed; "
        f"{report.audio_s / 60:.1f} min of sound in {report.wall_s:.1f} s{speed}"
    )
    for_good = {key: error for key, error in report.failed.items() if key not in report.unrecorded}
    for_now = {key: error for key, error in report.failed.items() if key in report.unrecorded}
    listed = store / "failures.tsv" if isinstance(store, Path) else f"{store}/_failures/"
    remarks = f"{plaintext.count(len(report.remarks), 'track')} with a remark"
    for heading, tracks in (
        (f"failed, see {listed}; --retry-failed tries them again:", for_good),
        ("failed for now; the same command tries them again:", for_now),
        (f"{remarks}; --retry-failed embeds those again of which a part is missing:", report.remarks),
        (f"{len(missing)} tracks of the table have no audio file:", dict.fromkeys(missing, "")),
    ):
        lines = [f"  {key}: {text}" if text else f"  {key}" for key, text in tracks.items()]
        more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        for line in [heading, *lines[:LISTED], *more] if lines else []:
            plaintext.note(line)


COMMANDS = {
    "extract": Command(
        _add_extract,
        extract,
        "what was finished is kept, the tracks in hand are not, and the same command continues from there",
    ),
}
