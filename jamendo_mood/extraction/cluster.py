"""Extraction on many machines, with Ray: actors that each load the network once and are given tracks in chunks.

Each actor works as one machine does (`streaming`), and writes every embedding to the store as soon as it is computed.
If a process or a machine dies, only the tracks that it was working on are lost; other actors get them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jamendo_mood.embedders.registry import Embedder, EmbedderSpec
from jamendo_mood.extraction.object_store import ObjectStore, PathOrUrl, fetched, open_store
from jamendo_mood.extraction.streaming import ExtractReport, StreamConfig, TrackResult, embed_files, select_pending
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import MoodError, UsageError
from jamendo_mood.util.files import remove_drafts
from jamendo_mood.util.untrusted import brief

CHUNK_TRACKS = 32  # at most, for an actor: an hour or two of music
MAX_CPUS = 4  # of an actor by default: more of them are better spent on more actors
MAX_DEATHS = 3  # of actors that worked on a track, before it counts as failed
CONNECT_S = 10.0
WARN_AFTER_S = 60.0  # without any actor at work
LOCAL_OBJECT_BYTES = 80_000_000  # Ray's own memory on this machine: results are a few hundred bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterConfig:
    """Where to run, and on how much of it.

    The address is ``local``, which starts Ray on this machine, ``auto``, which finds the cluster of this machine,
    ``HOST:PORT`` or ``ray://HOST:PORT``.
    """

    address: str
    actors: int | None = None  # None: as many as the cluster has room for now
    cpus: int | None = None  # cores of an actor; None: up to 4, if each node has them
    gpus: float = 0.0  # of an actor, such as 0.5 for two actors on each
    retry_failed: bool = False  # try tracks again that are in the store's list of failures
    stream: StreamConfig = field(default_factory=StreamConfig)  # of an actor; `prefetch` is raised to its cores


def extract_on_ray(
    tracks: Mapping[str, PathOrUrl],
    load: Callable[[], Embedder],
    store_root: PathOrUrl,
    config: ClusterConfig,
    *,
    on_start: Callable[[int], object] = lambda _: None,
    on_track: Callable[[TrackResult], object] = lambda _: None,
) -> ExtractReport:
    """Embed the tracks that a store does not have yet, on a Ray cluster.

    Parameters
    ----------
    tracks : mapping of key to path or URL
        Every machine must see the same file at a path.
    load : callable
        Returns the embedder; called once in each actor.
    store_root : Path or str
        A folder that all machines share, or a URL.
    config : ClusterConfig
    on_start, on_track : callable
        Called with the number of tracks that this run will try, and after each with its result, without its frames.

    Raises
    ------
    UsageError
        There is no such cluster, it has no room for an actor, or the store holds another embedder's embeddings.
    WeightsError, StoreError, DiskFullError
        As on one machine; what was done is kept.
    """
    started = time.perf_counter()
    with _connected(config.address) as ray:
        pool = _Pool(ray, _fit(config, ray), load, store_root)
        try:
            store = open_store(store_root, pool.spec())
            if isinstance(store_root, Path):
                remove_drafts(store_root)  # of runs that were killed
            pending, report = select_pending(tracks, store, set(store), retry_failed=config.retry_failed)
            on_start(len(pending))
            for result in pool.embed(pending):
                report.count(result, store)
                on_track(result)
        finally:
            pool.stop()
    report.wall_s = time.perf_counter() - started
    return report


class Worker:
    """What runs in an actor: an embedder, loaded once, puts chunks of tracks into the store."""

    def __init__(self, load: Callable[[], Embedder], store_root: PathOrUrl, config: ClusterConfig) -> None:
        self._load, self._store_root, self._config = load, store_root, config
        self._store: EmbeddingStore | ObjectStore | None = None

    def start(self) -> EmbedderSpec:
        """Load the embedder."""
        cpus = self._config.cpus or 1
        # By default TensorFlow takes all cores, and all memory of a GPU.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cpus))
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        self._embedder = self._load()
        return self._embedder.spec

    def embed(self, tracks: dict[str, PathOrUrl], *, tried: bool) -> list[TrackResult]:
        """Embed tracks into the store; with `tried`, those that are there already are not done again."""
        self._store = self._store or open_store(self._store_root, self._embedder.spec)
        there = [key for key in tracks if tried and key in self._store]
        results = [TrackResult(key, None, self._store.spec.duration_s(len(self._store[key]))) for key in there]
        missing = {key: source for key, source in tracks.items() if key not in there}
        stream = replace(self._config.stream, feed=lambda _, scratch: fetched(missing, scratch))
        with contextlib.closing(embed_files({}, self._embedder, stream)) as embedded:
            for result in embedded:
                if result.frames is not None:
                    self._store.add(result.key, result.frames)
                error = _rename(result.error, tracks[result.key])
                results.append(replace(result, frames=None, error=error, cause=None))
        return results


@dataclass(frozen=True)
class _Chunk:
    """Tracks for one actor, and how many actors died while they worked on them."""

    tracks: dict[str, PathOrUrl]
    deaths: int = 0


class _Pool:
    """Actors, and what each of them is doing: starting (None) or a chunk."""

    def __init__(self, ray: Any, config: ClusterConfig, load: Callable[[], Embedder], store_root: PathOrUrl) -> None:
        self._ray, self._config, self._arguments = ray, config, (load, store_root, config)
        self._kind = ray.remote(num_cpus=config.cpus, num_gpus=config.gpus, max_restarts=0)(Worker)
        self._running: dict[Any, tuple[Any, _Chunk | None]] = {}
        self._idle: list[Any] = []
        self._deaths = 0  # in a row, without anything done
        self._spec: EmbedderSpec | None = None
        for _ in range(config.actors or 1):
            self._start()

    def spec(self) -> EmbedderSpec:
        """The spec of the actors' embedder; waits for the first actor."""
        while self._spec is None:
            for _ in self._wait(deque()):
                pass
        return self._spec

    def embed(self, tracks: Mapping[str, PathOrUrl]) -> Iterator[TrackResult]:
        """Embed tracks; yields each once, without its frames, when its chunk is done."""
        items = list(tracks.items())
        size = max(1, min(CHUNK_TRACKS, len(items) // (4 * (self._config.actors or 1))))
        todo = deque(_Chunk(dict(items[start : start + size])) for start in range(0, len(items), size))
        while todo or any(chunk for _, chunk in self._running.values()):
            while todo and self._idle:
                actor, chunk = self._idle.pop(), todo.popleft()
                self._running[actor.embed.remote(chunk.tracks, tried=chunk.deaths > 0)] = (actor, chunk)
            yield from self._wait(todo)

    def stop(self) -> None:
        """End all actors."""
        for actor in [*self._idle, *(actor for actor, _ in self._running.values())]:
            with contextlib.suppress(Exception):  # it is gone, or the cluster is
                self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._kind.options(scheduling_strategy="SPREAD").remote(*self._arguments)
        self._running[actor.start.remote()] = (actor, None)

    def _wait(self, todo: deque[_Chunk]) -> Iterator[TrackResult]:
        """Wait until an actor has finished; chunks of dead actors go back to `todo`."""
        errors = self._ray.exceptions
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=WARN_AFTER_S)
        if not ready and not any(chunk for _, chunk in self._running.values()):
            log.warning("no actor is at work: waiting for a machine with %s", _describe(self._config))
        for reference in ready:
            actor, chunk = self._running.pop(reference)
            try:
                result = self._ray.get(reference)
            except errors.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, MoodError) else error) from None
            except errors.RayError as error:
                with contextlib.suppress(Exception):  # it may be out of reach, but alive
                    self._ray.kill(actor)
                yield from self._take_back(chunk, todo, error)
                self._start()
            else:
                self._deaths = 0
                self._idle.append(actor)
                if chunk is None:
                    self._agree(result)
                else:
                    yield from result

    def _take_back(self, chunk: _Chunk | None, todo: deque[_Chunk], error: Exception) -> Iterator[TrackResult]:
        """Give a dead actor's tracks to others, one by one: one of them may be what killed it."""
        self._deaths += 1
        if chunk is None:
            if self._deaths >= MAX_DEATHS * (self._config.actors or 1):
                raise UsageError(f"the actors die before they can work: {brief(error)}") from error
            return
        log.warning("an actor died, %d tracks go to others (%s)", len(chunk.tracks), brief(error))
        for key, source in chunk.tracks.items():
            if len(chunk.tracks) == 1 and chunk.deaths + 1 >= MAX_DEATHS:
                yield TrackResult(key, None, 0.0, f"{source}: {MAX_DEATHS} processes died while they worked on it")
            else:
                todo.append(_Chunk({key: source}, chunk.deaths + 1))

    def _agree(self, spec: EmbedderSpec) -> None:
        """All actors must make the same embeddings."""
        if self._spec not in (None, spec):
            raise UsageError(f"the machines do not agree: some make {self._spec}, some {spec}")
        self._spec = spec


def _fit(config: ClusterConfig, ray: Any) -> ClusterConfig:
    """Fill in the actors and cores that were left open, by the machines of the cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    cpus = config.cpus or min([MAX_CPUS, *cores])
    room = 0
    for node in nodes:
        by_cpu = int(node.get("CPU", 0) // cpus)
        room += min(by_cpu, int(node.get("GPU", 0) / config.gpus)) if config.gpus else by_cpu
    fitted = replace(
        config,
        cpus=cpus,
        actors=config.actors or room,
        stream=replace(config.stream, prefetch=max(config.stream.prefetch, cpus)),
    )
    if not fitted.actors:
        raise UsageError(f"no machine of the Ray cluster has {_describe(fitted)} for an actor")
    return fitted


def _describe(config: ClusterConfig) -> str:
    return f"{config.cpus} CPUs" + (f" and {config.gpus:g} GPUs" if config.gpus else "")


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected; a connection that exists is used, and kept."""
    try:
        import ray
    except ImportError:
        raise UsageError("ray is missing: pip install 'jamendo-mood[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    local: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local = {"include_dashboard": False, "object_store_memory": LOCAL_OBJECT_BYTES}
    try:
        _check_address(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # no cluster there, another version of Ray or Python, ...
        raise UsageError(f"cannot reach a Ray cluster at {address!r} ({brief(error)})") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """OSError if nothing listens there: Ray itself would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def _rename(error: str, source: PathOrUrl) -> str:
    """An error that names the source of a file instead of its copy in the scratch folder, which is gone."""
    name = str(source).rpartition("/")[2]
    _, found, reason = error.partition(f"/{name}: ")
    return f"{source}: {reason}" if found else error
