"""Extraction on many machines, with Ray, from and to shared folders or object stores (s3://, gs:// and others).

Each actor loads the network once and is given tracks in chunks. It works as one machine does (`streaming`), and writes
every embedding to the store as soon as it is computed. If a process or a machine dies, only the tracks that it was
working on are lost; other actors get them.

Object stores are whatever fsspec knows, which needs ``s3fs`` for S3, ``gcsfs`` for Google's storage, and so on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jamendo_mood.audio.decoding import AUDIO_SUFFIXES, by_key
from jamendo_mood.embedders.registry import Array, Embedder, EmbedderSpec
from jamendo_mood.extraction.streaming import (
    ExtractReport,
    Source,
    StreamConfig,
    Take,
    TrackResult,
    embed_files,
    select_pending,
)
from jamendo_mood.store import embedding_store
from jamendo_mood.store.embedding_store import MANIFEST_NAME, EmbeddingStore
from jamendo_mood.util.errors import AudioError, MoodError, NoFileError, StoreError, UsageError, need
from jamendo_mood.util.files import Scratch, brief, is_disk_full, remove_drafts, scratch_full

FAILURES_FOLDER = "_failures"
WAITS_S = (1.0, 5.0, 25.0)  # after a fetch that failed; fsspec's own file systems have retried before
CHUNK_TRACKS = 32  # at most, for an actor: an hour or two of music
MAX_CPUS = 4  # of an actor by default: more of them are better spent on more actors
MAX_DEATHS = 3  # of actors that worked on a track, before it counts as failed
CONNECT_S = 10.0
WARN_AFTER_S = 60.0  # without any actor at work
LOCAL_OBJECT_BYTES = 80_000_000  # Ray's own memory on this machine: results are a few hundred bytes

PathOrUrl = Path | str
log = logging.getLogger(__name__)


def find_store(root: PathOrUrl) -> EmbeddingStore | ObjectStore | None:
    """Open the store at a path or URL, if there is one."""
    if isinstance(root, Path):
        return EmbeddingStore(root) if (root / MANIFEST_NAME).is_file() else None
    system, path = _open(root)
    with _naming(root):
        return ObjectStore(root) if system.exists(f"{path}/{MANIFEST_NAME}") else None


def open_store(root: PathOrUrl, spec: EmbedderSpec) -> EmbeddingStore | ObjectStore:
    """Open or make the store at a path or URL; raises as the two classes do."""
    return EmbeddingStore(root, spec) if isinstance(root, Path) else ObjectStore(root, spec)


def find_tracks(root: str) -> dict[str, str]:
    """Find the audio files below a URL by key, as `audio.decoding.find_audio` does below a folder."""
    system, base = _open(root)
    with _naming(root):
        paths = system.find(base)
    below = {path: path.removeprefix(base).lstrip("/") for path in sorted(paths)}
    return by_key(
        (name, system.unstrip_protocol(path))
        for path, name in below.items()
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not any(part.startswith(".") for part in name.split("/"))
    )


@contextlib.contextmanager
def fetched(tracks: Mapping[str, PathOrUrl], scratch: Scratch, waits_s: tuple[float, ...] = WAITS_S) -> Iterator[Take]:
    """A feed for `streaming`: files from anywhere; those at URLs are copied into the scratch folder first.

    Each decoding thread copies its own file just before it decodes it, so there are never more copies than threads.
    """
    todo = iter(list(tracks.items()))

    def take(stop: threading.Event) -> Source | None:
        key, source = next(todo, ("", None))
        if source is None:
            return None
        if isinstance(source, Path):
            return Source(key, source)
        cleaning = contextlib.ExitStack()
        path = cleaning.enter_context(scratch.folder()) / source.rpartition("/")[2]
        error = _fetch(source, path, stop, waits_s)
        if stop.is_set():
            cleaning.close()
            return None
        return Source(key, path, error, cleaning.close)

    yield take


class ObjectStore:
    """Where embeddings are put in an object store, in the files of `EmbeddingStore`: a copy of it on disk is one.

    An object appears when it is whole. Failures are objects below ``_failures/``, as objects cannot be appended to.
    `url` is such as ``s3://bucket/embeddings/vggish``. UsageError if it cannot be read, if there is no store and no
    `spec`, or if it is a store of another embedder.
    """

    def __init__(self, url: str, spec: EmbedderSpec | None = None) -> None:
        self.url = url.rstrip("/")
        self._system, self._root = _open(self.url)
        manifest = f"{self._root}/{MANIFEST_NAME}"
        with _naming(self.url):
            content = self._system.cat_file(manifest) if self._system.exists(manifest) else None
        if content is None:
            if spec is None:
                raise UsageError(f"{self.url}: no embedding store there (no {MANIFEST_NAME})")
            content = embedding_store.format_manifest(spec)
            self._write(manifest, content)
        self.spec = embedding_store.parse_manifest(content, f"{self.url}/{MANIFEST_NAME}")
        if spec not in (None, self.spec):
            raise UsageError(f"{self.url} is a store of {self.spec}, not of {spec}: use another URL")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._system.exists(self._path(key)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._find(self._root, ".npy"))

    def add(self, key: str, frames: Array, remark: str = "") -> None:
        """Write the embedding of a track, as `EmbeddingStore.add` does."""
        embedding_store.check_frames(frames, self.spec.dim, f"{self.url}/{key}.npy")
        self._write(self._path(key), embedding_store.encode_entry(key, frames, self.spec, remark))

    def remarks(self, _: Iterable[str]) -> dict[str, str]:
        """None: each is in its object, and all of those would have to be fetched. A copy on disk tells them."""
        return {}

    def failures(self) -> dict[str, str]:
        """The tracks that could not be embedded, and why."""
        with _naming(self.url):
            keys = self._find(f"{self._root}/{FAILURES_FOLDER}", ".txt")
            texts = self._system.cat(list(keys.values())) if keys else {}
        return {key: texts[path].decode() for key, path in keys.items() if key not in self}

    def record_failure(self, key: str, error: str) -> None:
        """Add a failed track to the list."""
        self._write(self._failure_path(key), " ".join(error.split()).encode())

    def forget_failures(self, keys: set[str]) -> None:
        """Take tracks out of the list of failures."""
        paths = [path for key in keys if self._system.exists(path := self._failure_path(key))]
        if paths:
            self._system.rm(paths)

    def _find(self, folder: str, suffix: str) -> dict[str, str]:
        """The objects below a folder whose names end so, by the key of their track, sorted."""
        self._system.invalidate_cache()  # of listings: others write here too
        paths = [path for path in sorted(self._system.find(folder)) if path.endswith(suffix)]
        found = {path.removeprefix(folder).lstrip("/").removesuffix(suffix): path for path in paths}
        return {key: path for key, path in found.items() if embedding_store.is_key(key)}

    def _path(self, key: str) -> str:
        return f"{self._root}/{embedding_store.check_key(key)}.npy"

    def _failure_path(self, key: str) -> str:
        return f"{self._root}/{FAILURES_FOLDER}/{embedding_store.check_key(key)}.txt"

    def _write(self, path: str, content: bytes) -> None:
        try:
            self._system.pipe_file(path, content)
        except Exception as error:  # every kind of storage has errors of its own
            raise StoreError(f"{self._system.unstrip_protocol(path)}: cannot be written ({error})") from error


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    need(url, "ray", "fsspec")
    import fsspec

    with _naming(url):
        system, path = fsspec.core.url_to_fs(url)
    return system, path.rstrip("/")


@contextlib.contextmanager
def _naming(url: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line that names the URL."""
    try:
        yield
    except Exception as error:  # of many kinds: no credentials, no package, no bucket
        raise UsageError(f"{url}: cannot be opened ({brief(error)})") from error


def _fetch(url: str, path: Path, stop: threading.Event, waits_s: tuple[float, ...]) -> Exception | None:
    """Copy a file to this machine, trying several times; returns the error of the last."""
    failure = ""
    for wait_s in (0.0, *waits_s):
        if stop.wait(wait_s):
            break
        try:
            system, source = _open(url)
            system.get_file(source, str(path))
            return None
        except FileNotFoundError:
            return NoFileError(f"{url}: no such file")
        except Exception as error:  # every kind of storage has errors of its own
            if is_disk_full(error):
                return scratch_full(path)
            failure = " ".join(str(error).split())
    return AudioError(f"{url}: cannot be fetched ({failure})")


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

    Every machine must see the same file at a path, and share the store if it is a folder. `load` is called for the
    embedder once in each actor; `on_start` with the number of tracks that this run will try, and `on_track` after each
    with its result, without its frames.

    Raises `UsageError` if there is no such cluster, it has no room for an actor, or the store holds another embedder's
    embeddings; else as on one machine. What was done is kept.
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
        # By default TensorFlow takes all cores, and all memory of a GPU.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(self._config.cpus or 1))
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        self._embedder = self._load()
        return self._embedder.spec

    def embed(self, tracks: dict[str, PathOrUrl], *, tried: bool) -> list[TrackResult]:
        """Embed tracks into the store; with `tried`, those that are there already are not done again."""
        self._store = self._store or open_store(self._store_root, self._embedder.spec)
        there = [key for key in tracks if tried and key in self._store]
        remarks = self._store.remarks(there)
        results = [TrackResult(key, None, 0.0, remark=remarks.get(key, "")) for key in there]
        missing = {key: source for key, source in tracks.items() if key not in there}
        stream = replace(self._config.stream, feed=lambda _, scratch: fetched(missing, scratch))
        with contextlib.closing(embed_files({}, self._embedder, stream)) as embedded:
            for result in embedded:
                if result.frames is not None:
                    self._store.add(result.key, result.frames, result.remark)
                source = str(tracks[result.key])  # the copy in the scratch folder, which the error may name, is gone
                _, named, reason = result.error.partition(f"/{source.rpartition('/')[2]}: ")
                error = f"{source}: {reason}" if named else result.error
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
        self._todo: deque[_Chunk] = deque()
        self._deaths = 0  # in a row, without anything done
        self._spec: EmbedderSpec | None = None
        self._size = config.actors or 1
        for _ in range(self._size):
            self._start()

    def spec(self) -> EmbedderSpec:
        """The spec of the actors' embedder; waits for the first actor."""
        while self._spec is None:
            list(self._wait())
        return self._spec

    def embed(self, tracks: Mapping[str, PathOrUrl]) -> Iterator[TrackResult]:
        """Embed tracks; yields each once, without its frames, when its chunk is done."""
        items = list(tracks.items())
        size = max(1, min(CHUNK_TRACKS, len(items) // (4 * self._size)))
        self._todo.extend(_Chunk(dict(items[start : start + size])) for start in range(0, len(items), size))
        while self._todo or any(chunk for _, chunk in self._running.values()):
            while self._todo and self._idle:
                actor, chunk = self._idle.pop(), self._todo.popleft()
                self._running[actor.embed.remote(chunk.tracks, tried=chunk.deaths > 0)] = (actor, chunk)
            yield from self._wait()

    def stop(self) -> None:
        """End all actors."""
        for actor in [*self._idle, *(actor for actor, _ in self._running.values())]:
            with contextlib.suppress(Exception):  # it is gone, or the cluster is
                self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._kind.options(scheduling_strategy="SPREAD").remote(*self._arguments)
        self._running[actor.start.remote()] = (actor, None)

    def _wait(self) -> Iterator[TrackResult]:
        """Wait until an actor has finished; the chunk of a dead one is to be done again."""
        errors = self._ray.exceptions
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=WARN_AFTER_S)
        if not ready:
            if not any(chunk for _, chunk in self._running.values()):
                log.warning("no actor is at work: waiting for a machine with %s", _describe(self._config))
            return
        actor, chunk = self._running.pop(ready[0])
        try:
            result = self._ray.get(ready[0])
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, MoodError) else error) from None
        except errors.RayError as error:
            with contextlib.suppress(Exception):  # it may be out of reach, but alive
                self._ray.kill(actor)
            yield from self._take_back(chunk, error)
            self._start()
            return
        self._deaths = 0
        self._idle.append(actor)
        if chunk is None:
            self._spec = self._spec or result  # of another one, the actor itself refuses the store
        else:
            yield from result

    def _take_back(self, chunk: _Chunk | None, error: Exception) -> Iterator[TrackResult]:
        """Give a dead actor's tracks to others, one by one: one of them may be what killed it."""
        self._deaths += 1
        if chunk is None:
            if self._deaths >= MAX_DEATHS * self._size:
                raise UsageError(f"the actors die before they can work: {brief(error)}") from error
            return
        log.warning("an actor died, %d tracks go to others (%s)", len(chunk.tracks), brief(error))
        for key, source in chunk.tracks.items():
            if len(chunk.tracks) == 1 and chunk.deaths + 1 >= MAX_DEATHS:
                yield TrackResult(key, None, 0.0, f"{source}: {MAX_DEATHS} processes died while they worked on it")
            else:
                self._todo.append(_Chunk({key: source}, chunk.deaths + 1))


def _fit(config: ClusterConfig, ray: Any) -> ClusterConfig:
    """Fill in the actors and cores that were left open, by the machines of the cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    cpus = config.cpus or min([MAX_CPUS, *cores])
    wanted = {"CPU": cpus, "GPU": config.gpus} if config.gpus else {"CPU": cpus}
    room = sum(min(int(node.get(kind, 0) / amount) for kind, amount in wanted.items()) for node in nodes)
    stream = replace(config.stream, prefetch=max(config.stream.prefetch, cpus))
    fitted = replace(config, cpus=cpus, actors=config.actors or room, stream=stream)
    if not fitted.actors:
        raise UsageError(f"no machine of the Ray cluster has {_describe(fitted)} for an actor")
    return fitted


def _describe(config: ClusterConfig) -> str:
    return f"{config.cpus} CPUs" + (f" and {config.gpus:g} GPUs" if config.gpus else "")


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected; a connection that exists is used, and kept."""
    need("--ray", "ray", "ray")
    import ray

    if ray.is_initialized():
        yield ray
        return
    local: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local = {"include_dashboard": False, "object_store_memory": LOCAL_OBJECT_BYTES}
    try:
        host, colon, port = address.removeprefix("ray://").rpartition(":")
        if colon and port.isdecimal():  # where nothing listens, Ray itself would try for many minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # no cluster there, another version of Ray or Python, ...
        raise UsageError(f"cannot reach a Ray cluster at {address!r} ({brief(error)})") from error
    try:
        yield ray
    finally:
        ray.shutdown()
