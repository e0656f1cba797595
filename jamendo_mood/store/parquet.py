"""The store to and from Parquet, for people who live in datasets, DuckDB or Spark.

One row a track: ``key`` (string), ``times_s`` (list of float32) and ``embedding`` (list of lists of `dim` float32), in
files of a bounded size. The schema's metadata has the embedder's spec, so embeddings that come back are known for what
they are. Numbers come back bit by bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.store.parquet_reader import FORMAT, METADATA_KEY, Footer, import_pyarrow, read_footers, read_tracks
from jamendo_mood.util.errors import StoreError, UsageError
from jamendo_mood.util.files import remove_drafts, write_atomically

SHARD_MB = 256
"""Usual size of a file's embeddings, before compression."""

_ROW_GROUP_BYTES = 16_000_000  # what is held in memory at once, more or less
_NUMBERS = "embedding.list.element.list.element"  # as Parquet calls the column

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ParquetReport:
    """What became of an export or an import.

    Attributes
    ----------
    tracks : int
        Tracks written in this run.
    skipped : int
        Tracks that were there already.
    files : int
        Files of the whole.
    """

    tracks: int
    skipped: int
    files: int


@dataclass(frozen=True)
class _Shard:
    """A file to be: its name, the tracks in it, and a hash that changes with what the store has of them."""

    name: str
    keys: tuple[str, ...]
    entries: str


def export_parquet(
    store: EmbeddingStore,
    folder: Path,
    *,
    shard_rows: int | None = None,
    shard_mb: int = SHARD_MB,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ParquetReport:
    """Write a store as Parquet files; files of an earlier, interrupted run are kept.

    Parameters
    ----------
    store : EmbeddingStore
    folder : Path
        Gets ``embeddings-00000-of-00009.parquet`` and so on.
    shard_rows : int or None
        Tracks a file, from 1 up; None goes by `shard_mb`.
    shard_mb : int
        Megabytes (10**6 bytes) of embeddings a file before compression, from 1 up; a track is never cut.
    on_progress : callable
        Called with the tracks done and all tracks, after each file.

    Raises
    ------
    UsageError
        The store is empty, or the folder has other Parquet files; or there is no pyarrow.
    StoreError, DiskFullError
        A track cannot be read, or a file not be written; the files that were finished are kept.
    """
    import_pyarrow()
    shards = _plan(store, shard_rows, shard_mb * 1_000_000)
    if not shards:
        raise UsageError(f"{store.root}: there are no embeddings to export")
    _check_folder(folder, {shard.name for shard in shards})
    total, done, skipped = sum(len(shard.keys) for shard in shards), 0, 0
    written = _find_written(folder, shards, store.spec)
    for shard in shards:
        if shard.name in written:
            skipped += len(shard.keys)
        else:
            _write_shard(store, shard, folder / shard.name)
        done += len(shard.keys)
        on_progress(done, total)
    return ParquetReport(done - skipped, skipped, len(shards))


def import_parquet(
    paths: Sequence[Path], root: Path, *, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> ParquetReport:
    """Put the tracks of Parquet files, as `export_parquet` writes them, into a store.

    Tracks that the store has already, with the same numbers, are passed over: an interrupted import goes on.

    Parameters
    ----------
    paths : sequence of Path
        Files, or folders of ``*.parquet`` files.
    root : Path
        The store; a new one is made.
    on_progress : callable
        Called with the tracks done and all tracks, after each.

    Raises
    ------
    UsageError
        A file is of another embedder than the store or than the others, or the store has a track with other numbers.
    StoreError, DiskFullError
        A file is damaged or was not written by `export_parquet`; or the store cannot be written.
    """
    files = [file for path in paths for file in _find_files(path)]
    import_pyarrow()
    spec, total = _check_footers(files)
    store = EmbeddingStore(root, spec)
    done, skipped = 0, 0
    for file, key, frames in read_tracks(files, spec):
        skipped += not _add(store, key, frames, file)
        done += 1
        on_progress(done, total)
    return ParquetReport(done - skipped, skipped, len(files))


def _plan(store: EmbeddingStore, rows: int | None, size: int) -> list[_Shard]:
    """Deal the tracks out to files, by what the file system says of them."""
    groups: list[list[str]] = []
    hashes: list[Any] = []
    filled = 0
    for key in store:
        entry = store.stat(key)
        full = filled + entry.st_size > size if rows is None else bool(groups) and len(groups[-1]) == rows
        if not groups or full:
            groups.append([])
            hashes.append(hashlib.sha256())
            filled = 0
        groups[-1].append(key)
        hashes[-1].update(f"{key}\t{entry.st_size}\t{entry.st_mtime_ns}\n".encode())
        filled += entry.st_size
    return [
        _Shard(f"embeddings-{number:05d}-of-{len(groups):05d}.parquet", tuple(keys), entries.hexdigest())
        for number, (keys, entries) in enumerate(zip(groups, hashes, strict=True))
    ]


def _check_folder(folder: Path, names: set[str]) -> None:
    """Refuse a folder in which readers would find other embeddings too; sweep up after a run that was killed."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file is there, not a folder for Parquet files")
    others = sorted(path.name for path in folder.glob("*.parquet") if path.name not in names)
    if others:
        raise UsageError(f"{folder} has Parquet files that are not of this export, such as {others[0]}: use another")
    remove_drafts(folder)


def _write_shard(store: EmbeddingStore, shard: _Shard, path: Path) -> None:
    arrow, parquet = import_pyarrow()
    about = {"format": FORMAT, "embedder": asdict(store.spec), "entries": shard.entries}
    schema = _schema(store.spec.dim).with_metadata({METADATA_KEY: json.dumps(about).encode()})

    def write(file: IO[bytes]) -> None:
        with parquet.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=False,
            column_encoding={_NUMBERS: "BYTE_STREAM_SPLIT"},  # a tenth smaller than without
            write_page_checksum=True,
        ) as writer:
            for rows in _row_groups(store, shard.keys):
                writer.write_table(_table(arrow, schema, rows, store.spec))

    write_atomically(path, write)


def _row_groups(store: EmbeddingStore, keys: Iterable[str]) -> Iterator[dict[str, Array]]:
    rows: dict[str, Array] = {}
    size = 0
    for key in keys:
        try:
            rows[key] = store[key]
        except KeyError:
            raise StoreError(f"{store.root}: track {key} went away while it was exported; start again") from None
        if not np.isfinite(rows[key]).all():
            raise StoreError(f"{store.root / key}.npy: has numbers that are not finite, delete it and extract it again")
        size += rows[key].nbytes
        if size >= _ROW_GROUP_BYTES:
            yield rows
            rows, size = {}, 0
    if rows:
        yield rows


def _table(arrow: Any, schema: Any, rows: dict[str, Array], spec: EmbedderSpec) -> Any:
    ends = np.cumsum([0, *map(len, rows.values())], dtype=np.int32)
    times_s = np.concatenate([spec.times_s(len(frames)) for frames in rows.values()])
    numbers = arrow.array(np.concatenate([*rows.values()]).reshape(-1))
    frames = arrow.FixedSizeListArray.from_arrays(numbers, spec.dim)
    columns = [
        arrow.array(list(rows), arrow.string()),
        arrow.ListArray.from_arrays(ends, arrow.array(times_s)),
        arrow.ListArray.from_arrays(ends, frames),
    ]
    return arrow.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def _schema(dim: int) -> Any:
    arrow, _ = import_pyarrow()
    number = arrow.field("element", arrow.float32())
    frame = arrow.field("element", arrow.list_(number, dim))
    return arrow.schema([("key", arrow.string()), ("times_s", arrow.list_(number)), ("embedding", arrow.list_(frame))])


def _find_written(folder: Path, shards: Sequence[_Shard], spec: EmbedderSpec) -> set[str]:
    """The names of the files of an earlier run that are whole, and of what the store has now."""
    there = [shard for shard in shards if (folder / shard.name).is_file()]
    footers = read_footers([folder / shard.name for shard in there])
    return {
        shard.name
        for shard, footer in zip(there, footers, strict=True)
        if isinstance(footer, Footer) and footer.spec == spec and footer.entries == shard.entries
    }


def _check_footers(files: Sequence[Path]) -> tuple[EmbedderSpec, int]:
    """What all of the files were made with, and the tracks in them."""
    footers = []
    for footer in read_footers(files):
        if isinstance(footer, StoreError):
            raise footer
        footers.append(footer)
    spec = footers[0].spec
    for file, footer in zip(files, footers, strict=True):
        if footer.spec != spec:
            raise UsageError(
                f"{files[0]} has embeddings of {spec}, {file} of {footer.spec}: import each into its own store"
            )
    return spec, sum(footer.rows for footer in footers)


def _find_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path}: no Parquet files there (*.parquet)")
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
    return files


def _add(store: EmbeddingStore, key: str, frames: Array, path: Path) -> bool:
    """Write a track unless it is there; False if it is."""
    try:
        if key not in store:
            store.add(key, frames)
            return True
        if store[key].tobytes() == frames.tobytes():
            return False
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error
    raise UsageError(f"{store.root} has {key} already, with other numbers than {path}: use another folder")
