"""The store to and from Parquet, for people who live in datasets, DuckDB or Spark.

One row a track: ``key`` (string), ``times_s`` (list of float32) and ``embedding`` (list of lists of `dim` float32), in
files of a bounded size. The schema's metadata has the embedder's spec, so embeddings that come back are known for what
they are. Numbers come back bit by bit.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders import EmbedderSpec
from jamendo_mood.errors import StoreError, UsageError
from jamendo_mood.files import remove_drafts, write_atomically
from jamendo_mood.store import EmbeddingStore
from jamendo_mood.untrusted import brief, parse_json

FORMAT = 1
METADATA_KEY = b"jamendo_mood"
"""Of the schema's metadata: JSON with ``format``, ``embedder``, and ``entries``, a hash of what the file is of."""

SHARD_MB = 256
"""Usual size of a file's embeddings, before compression."""

_ROW_GROUP_BYTES = 16_000_000  # what is held in memory at once, more or less
_READ_ROWS, _COLUMNS = 16, ["key", "times_s", "embedding"]
_SMALL_BYTES, _MOST_RATIO = 64_000_000, 50  # of a column in a row group: what it may hold at any rate, and a byte of it
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
    _pyarrow()
    shards = _plan(store, shard_rows, shard_mb * 1_000_000)
    if not shards:
        raise UsageError(f"{store.root}: there are no embeddings to export")
    _check_folder(folder, {shard.name for shard in shards})
    total, done, skipped = sum(len(shard.keys) for shard in shards), 0, 0
    for shard in shards:
        path = folder / shard.name
        if _entries_of(path, store.spec) == shard.entries:
            skipped += len(shard.keys)
        else:
            _write_shard(store, shard, path)
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
    headers = {file: _read_header(file) for file in files}
    first, (spec, _) = next(iter(headers.items()))
    for file, (other, _) in headers.items():
        if other != spec:
            raise UsageError(f"{first} has embeddings of {spec}, {file} of {other}: import each into its own store")
    store = EmbeddingStore(root, spec)
    total, done, skipped = sum(rows for _, rows in headers.values()), 0, 0
    for file in headers:
        for key, frames in _read_tracks(file, spec):
            skipped += not _add(store, key, frames, file)
            done += 1
            on_progress(done, total)
    return ParquetReport(done - skipped, skipped, len(headers))


def _plan(store: EmbeddingStore, rows: int | None, size: int) -> list[_Shard]:
    """Deal the tracks out to files, by what the file system says of them."""
    groups: list[list[str]] = []
    hashes: list[Any] = []
    filled = 0
    for key in store:
        entry = (store.root / f"{key}.npy").stat()
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
    arrow, parquet = _pyarrow()
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
    arrow, _ = _pyarrow()
    number = arrow.field("element", arrow.float32())
    frame = arrow.field("element", arrow.list_(number, dim))
    return arrow.schema([("key", arrow.string()), ("times_s", arrow.list_(number)), ("embedding", arrow.list_(frame))])


def _entries_of(path: Path, spec: EmbedderSpec) -> str | None:
    """What a file of an earlier run is of; None if it is not there, not whole, or of another embedder."""
    if not path.is_file():
        return None
    _, parquet = _pyarrow()
    try:
        about = parse_json(parquet.read_schema(path).metadata[METADATA_KEY])
        same = about["format"] == FORMAT and EmbedderSpec.from_json(about["embedder"]) == spec
        return str(about["entries"]) if same else None
    except _damages():
        return None


def _find_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.parquet"))
    if not files:
        raise UsageError(f"{path}: no Parquet files there (*.parquet)")
    return files


def _read_header(path: Path) -> tuple[EmbedderSpec, int]:
    """The spec and the number of tracks of a file."""
    _, parquet = _pyarrow()
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        about = parquet.read_metadata(path)
        schema = about.schema.to_arrow_schema()
    except _damages() as error:
        raise StoreError(f"{path}: not a Parquet file, or damaged ({brief(error)})") from error
    try:
        ours = parse_json(schema.metadata[METADATA_KEY])
        known, spec = ours["format"] == FORMAT, EmbedderSpec.from_json(ours["embedder"])
    except (KeyError, TypeError, ValueError):
        raise StoreError(
            f"{path}: does not say what its embeddings were made with, as files of `jamendo-mood export` do"
        ) from None
    if not known or not {"key", "embedding"} <= set(schema.names):
        raise StoreError(f"{path}: not of the format that this version writes (columns: {', '.join(schema.names)})")
    for group, column in itertools.product(range(about.num_row_groups), range(about.num_columns)):
        part = about.row_group(group).column(column)
        stored, size = part.total_compressed_size, max(4 * part.num_values, part.total_uncompressed_size)
        if size > max(_SMALL_BYTES, _MOST_RATIO * stored):  # such as run lengths and little else
            raise StoreError(f"{path}: too large for what it is ({stored:,} bytes of it would become {size:,})")
    return spec, int(about.num_rows)


def _read_tracks(path: Path, spec: EmbedderSpec) -> Iterator[tuple[str, Array]]:
    _, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            for batch in file.iter_batches(_READ_ROWS, columns=_COLUMNS, use_threads=False):  # those that are there
                for row in range(batch.num_rows):
                    yield _read_row(batch, row, spec)
    except _damages() as error:
        raise StoreError(f"{path}: damaged, or not what `jamendo-mood export` writes ({brief(error)})") from error


def _read_row(batch: Any, row: int, spec: EmbedderSpec) -> tuple[str, Array]:
    """One track of a batch; ValueError or the like if it is none."""
    key = batch.column("key")[row].as_py()
    column = batch.column("embedding").slice(row, 1)
    rows = column.flatten()
    numbers = rows.flatten().to_numpy(zero_copy_only=False)
    count = len(rows)
    whole = count and not rows.null_count and rows.value_lengths().unique().to_pylist() == [spec.dim]
    if not isinstance(key, str) or not whole or numbers.dtype != np.float32 or not np.isfinite(numbers).all():
        raise ValueError(f"track {key!r} has no embedding of float32 numbers, {spec.dim} a frame")
    if "times_s" in batch.schema.names:
        times_s = batch.column("times_s")[row].values.to_numpy(zero_copy_only=False)
        tolerance_s = (spec.hop_s or 0.0) / 2
        if len(times_s) != count or not np.allclose(times_s, spec.times_s(count), rtol=0, atol=tolerance_s):
            raise ValueError(f"track {key!r}: times_s are not those of {count} frames ({spec.rate})")
    return key, numbers.reshape(count, spec.dim)


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


def _pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("there is no pyarrow: `pip install jamendo-mood[parquet]` brings it") from None
    return pyarrow, pyarrow.parquet


def _damages() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    arrow, _ = _pyarrow()
    return (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError)
