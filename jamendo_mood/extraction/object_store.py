"""Audio and embeddings that are not on a disk: s3://, gs:// and whatever else fsspec knows.

fsspec needs ``s3fs`` for S3, ``gcsfs`` for Google's storage, and so on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.decoding import AUDIO_SUFFIXES, key_of
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.extraction.streaming import Source, Take
from jamendo_mood.store.embedding_store import (
    MANIFEST_NAME,
    EmbeddingStore,
    check_entry,
    check_frames,
    check_key,
    describe_damage,
    encode_entry,
    format_manifest,
    is_key,
    parse_entry,
    parse_manifest,
)
from jamendo_mood.util.errors import AudioError, StoreError, UsageError
from jamendo_mood.util.files import Scratch, is_disk_full, scratch_full
from jamendo_mood.util.untrusted import brief

FAILURES_FOLDER = "_failures"
WAITS_S = (1.0, 5.0, 25.0)  # after a fetch that failed; fsspec's own file systems have retried before

Array = npt.NDArray[np.float32]
PathOrUrl = Path | str


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
    """Find the audio files below a URL by key, as `audio.decoding.find_audio` does below a folder.

    UsageError if the URL cannot be listed, or two files have one key.
    """
    system, base = _open(root)
    with _naming(root):
        paths = system.find(base)
    found: dict[str, str] = {}
    for path in sorted(paths):
        below = path.removeprefix(base).lstrip("/")
        suffix = Path(below).suffix.lower()
        if suffix not in AUDIO_SUFFIXES or any(part.startswith(".") for part in below.split("/")):
            continue
        key, url = key_of(below), system.unstrip_protocol(path)
        if key in found:
            raise UsageError(f"two files are the track {key!r}: {found[key]} and {url}; keep one of them")
        found[key] = url
    return dict(sorted(found.items()))


@contextlib.contextmanager
def fetched(tracks: Mapping[str, PathOrUrl], scratch: Scratch, waits_s: tuple[float, ...] = WAITS_S) -> Iterator[Take]:
    """A feed for `streaming`: files from anywhere; those at URLs are copied into the scratch folder first.

    Each decoding thread copies its own file just before it decodes it, so there are never more copies than threads.
    """
    todo: queue.SimpleQueue[tuple[str, PathOrUrl]] = queue.SimpleQueue()
    for item in tracks.items():
        todo.put(item)

    def take(stop: threading.Event) -> Source | None:
        try:
            key, source = todo.get_nowait()
        except queue.Empty:
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


class ObjectStore(Mapping[str, Array]):
    """Embeddings in an object store, by track key, in the files of `EmbeddingStore`: a copy of it on disk is one.

    An object appears when it is whole. Failures are objects below ``_failures/``, as objects cannot be appended to.
    `url` is such as ``s3://bucket/embeddings/vggish``. UsageError if it cannot be read, if there is no store and no
    `spec`, or if it is a store of another embedder.
    """

    def __init__(self, url: str, spec: EmbedderSpec | None = None) -> None:
        self.url = url.rstrip("/")
        self._system, self._root = _open(self.url)
        manifest = f"{self._root}/{MANIFEST_NAME}"
        with _naming(self.url):
            there = self._system.exists(manifest)
        if not there:
            if spec is None:
                raise UsageError(f"{self.url}: no embedding store there (no {MANIFEST_NAME})")
            self._write(manifest, format_manifest(spec))
        with _naming(self.url):
            content = self._system.cat_file(manifest)
        self.spec = parse_manifest(content, f"{self.url}/{MANIFEST_NAME}")
        if spec not in (None, self.spec):
            raise UsageError(f"{self.url} is a store of {self.spec}, not of {spec}: use another URL")

    def __getitem__(self, key: str) -> Array:
        where = f"{self.url}/{key}.npy"
        try:
            content = self._system.cat_file(self._path(key))
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise StoreError(f"{where}: cannot be read ({error})") from error
        try:
            entry = parse_entry(bytearray(content))
        except ValueError as error:
            raise describe_damage(error, where) from error
        return check_entry(entry, key, self.spec, where).frames

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._system.exists(self._path(key)))

    def __iter__(self) -> Iterator[str]:
        self._system.invalidate_cache()  # of listings: others write here too
        for path in sorted(self._system.find(self._root)):
            key = path.removeprefix(self._root).lstrip("/").removesuffix(".npy")
            if path.endswith(".npy") and is_key(key):
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, key: str, frames: Array) -> None:
        """Write the embedding of a track, as `EmbeddingStore.add` does."""
        check_frames(frames, self.spec.dim, f"{self.url}/{key}.npy")
        self._write(self._path(key), b"".join(encode_entry(key, frames, self.spec)))

    def failures(self) -> dict[str, str]:
        """The tracks that could not be embedded, and why."""
        folder = f"{self._root}/{FAILURES_FOLDER}"
        self._system.invalidate_cache()
        with _naming(self.url):
            texts = self._system.cat(self._system.find(folder)) if self._system.exists(folder) else {}
        keys = {path.removeprefix(folder).lstrip("/").removesuffix(".txt"): text for path, text in texts.items()}
        return {key: text.decode() for key, text in sorted(keys.items()) if key not in self}

    def record_failure(self, key: str, error: str) -> None:
        """Add a failed track to the list."""
        self._write(self._failure_path(key), " ".join(error.split()).encode())

    def forget_failures(self, keys: set[str]) -> None:
        """Take tracks out of the list of failures."""
        paths = [path for key in keys if self._system.exists(path := self._failure_path(key))]
        if paths:
            self._system.rm(paths)

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}.npy"

    def _failure_path(self, key: str) -> str:
        return f"{self._root}/{FAILURES_FOLDER}/{check_key(key)}.txt"

    def _write(self, path: str, content: bytes) -> None:
        try:
            self._system.pipe_file(path, content)
        except Exception as error:  # every kind of storage has errors of its own
            raise StoreError(f"{self._system.unstrip_protocol(path)}: cannot be written ({error})") from error


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise UsageError(f"{url}: fsspec is missing: pip install 'jamendo-mood[ray]'") from None
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
    for wait_s in (*waits_s, None):
        try:
            system, source = _open(url)
            system.get_file(source, str(path))
        except FileNotFoundError:
            return AudioError(f"{url}: no such file")
        except OSError as error:
            if is_disk_full(error):
                return scratch_full(path)
            failure: Exception = error
        except Exception as error:  # every kind of storage has errors of its own
            failure = error
        else:
            return None
        if wait_s is None or stop.wait(wait_s):
            break
    return AudioError(f"{url}: cannot be fetched ({' '.join(str(failure).split())})")
