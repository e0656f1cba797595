"""What `extract --ray` does: arguments -> a run on a cluster -> a report -> the exit status."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jamendo_mood.cli import argtypes, reports
from jamendo_mood.cli.reports import DONE, SOME_FAILED
from jamendo_mood.util.errors import UsageError

if TYPE_CHECKING:
    from jamendo_mood.extraction.streaming import StreamConfig


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `extract` about clusters."""
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; local starts Ray on this machine. AUDIO_DIR "
        "and --store are then folders that all its machines share, or URLs, such as s3://bucket/audio",
    )
    parser.add_argument(
        "--ray-actors", type=argtypes.positive, metavar="N", help="processes (default: as many as there is room for)"
    )
    parser.add_argument("--ray-cpus", type=argtypes.positive, metavar="N", help="cores a process (default: up to 4)")
    parser.add_argument(
        "--ray-gpus", type=argtypes.share, metavar="X", help="GPUs a process, 0.5 puts two on each (default 0)"
    )


def check_places(arguments: argparse.Namespace) -> None:
    """Refuse what only goes with `--ray`, and what does not.

    Raises
    ------
    UsageError
        URLs or other options of a cluster without `--ray`, or downloads with it.
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


def extract_on_ray(
    arguments: argparse.Namespace, tracks: Mapping[str, Path | str], missing: list[str], stream: StreamConfig
) -> int:
    """Embed tracks on a Ray cluster."""
    from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
    from jamendo_mood.extraction import cluster
    from jamendo_mood.extraction.object_store import find_store

    options = EmbedderOptions.of(arguments)
    there = find_store(arguments.store)
    if options.precision == "auto" and there is not None:
        options = replace(options, precision=there.spec.precision)
    config = cluster.ClusterConfig(
        address=arguments.ray,
        actors=arguments.ray_actors,
        cpus=arguments.ray_cpus,
        gpus=arguments.ray_gpus or 0.0,
        retry_failed=arguments.retry_failed,
        stream=stream,
    )
    bars: list[reports.TrackProgress] = []
    # Ray prints what it has to say of its machines to stdout.
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        report = cluster.extract_on_ray(
            {key: place.absolute() if isinstance(place, Path) else place for key, place in tracks.items()},
            partial(load_embedder, arguments.embedder, options),
            arguments.store.absolute() if isinstance(arguments.store, Path) else arguments.store,
            config,
            on_start=lambda total: bars.append(stack.enter_context(reports.TrackProgress(total))),
            on_track=lambda result: bars[0].advance(result.duration_s, result.error),
        )
    reports.print_extraction(report, missing, arguments.store)
    return SOME_FAILED if report.failed or missing else DONE
