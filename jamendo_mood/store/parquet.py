"""The store to and from Parquet, for people who work with datasets, DuckDB or Spark.

One row a track: ``key`` (string), ``times_s`` (list of float32) and ``embedding`` (list of lists of `dim` float32), in
files of a bounded size. The schema's metadata has the embedder's spec, so an import knows what made the embeddings.
Numbers come back bit by bit.

Files are read in a child process: Arrow trusts a file, so that some damaged ones abort the process and others make it
ask for endless memory. The child has limits, and prints what it finds: one line of JSON for each footer or track, and a
track's numbers after its line. If it dies, the error names the file that it was reading.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import Array, EmbeddingStore
from jamendo_mood.util import process
from jamendo_mood.util.errors import StoreError, UsageError, need
from jamendo_mood.util.files import brief, parse_json, remove_drafts, write_atomically

FORMAT = 1
METADATA_KEY = b"jamendo_mood"
"""Of the schema's metadata: JSON with ``format``, ``embedder``, ``entries``, a hash of the exported entries, and, where
there are any, ``remarks`` on tracks by key."""

MEMORY_BYTES = 4 << 30  # of the child, on Linux
GRACE_S, BYTES_PER_S = 60.0, 1_000_000  # seconds of a processor for the child: some 100 MB take one

_MAX_REMARK_LENGTH = 300
_READ_ROWS, _COLUMNS = 16, ["key", "times_s", "embedding"]
_MIN_COLUMN_BYTES, _MAX_RATIO = 64_000_000, 50  # a column of a row group may hold this, or so much more than it takes

# Not `-m`, which would look for modules in the current folder before anything of ours runs.
_PROGRAM = """
import sys
sys.path[:] = sys.argv.pop().split("\\n")
from jamendo_mood.store import parquet
parquet.answer(sys.stdin.buffer, sys.stdout.buffer)
"""

SHARD_MB = 256  #: usual size of a file's embeddings, before compression

_ROW_GROUP_BYTES = 16_000_000  # what is held in memory at once, more or less
_NUMBERS = "embedding.list.element.list.element"  # as Parquet calls the column

Said = tuple[dict[str, Any], Array]
"""What the child says of a file or a track, and the numbers of the track, float32 (frames, dim)."""
_NO_FRAMES: Array = np.zeros(0, np.float32)


@dataclass(frozen=True)
class ParquetReport:
    """The result of an export or an import."""

    tracks: int  # written in this run
    skipped: int  # that were there already
    files: int  # all of them, also those of an earlier run


def export_parquet(
    store: EmbeddingStore,
    folder: Path,
    *,
    shard_rows: int | None = None,
    shard_mb: int = SHARD_MB,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ParquetReport:
    """Write a store as Parquet files, ``embeddings-00000-of-00009.parquet`` and so on; whole ones that are there stay.

    A file has `shard_rows` tracks, or `shard_mb` megabytes (10**6 bytes) of embeddings before compression.
    `on_progress` is called with the tracks done and all tracks, after each file. Raises `UsageError` if the store is
    empty, the folder has other Parquet files, or pyarrow is missing; `StoreError` or `DiskFullError` if a track cannot
    be read or a file written: the files that were finished are kept.
    """
    import_pyarrow()
    shards = _plan(store, shard_rows, shard_mb * 1_000_000)
    if not shards:
        raise UsageError(f"{store.root}: there are no embeddings to export")
    others = {path.name for path in folder.glob("*.parquet")} - shards.keys()
    if others:  # readers of the folder would find them too
        raise UsageError(f"{folder} has Parquet files that are not of this export, such as {min(others)}: use another")
    remove_drafts(folder)  # of a run that was killed
    entries = {name: hashlib.sha256("".join(shard.values()).encode()).hexdigest() for name, shard in shards.items()}
    there = [folder / name for name in shards if (folder / name).is_file()]
    written = {  # by an earlier run, whole, and of what the store has now
        path.name
        for path, footer in zip(there, read_footers(there), strict=True)
        if isinstance(footer, Footer) and (footer.spec, footer.entries) == (store.spec, entries[path.name])
    }
    total, done, skipped = sum(map(len, shards.values())), 0, sum(len(shards[name]) for name in written)
    for name, shard in shards.items():
        if name not in written:
            _write_shard(store, [*shard], entries[name], folder / name)
        done += len(shard)
        on_progress(done, total)
    return ParquetReport(total - skipped, skipped, len(shards))


def import_parquet(
    paths: Sequence[Path], root: Path, *, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> ParquetReport:
    """Put the tracks of Parquet files, or of folders of them, as `export_parquet` writes them, into a store.

    Tracks that the store has already, with the same numbers, are skipped: an interrupted import continues.
    `on_progress` is called with the tracks done and all tracks, after each. Raises `UsageError` if a file is of another
    embedder than the store or the other files, or the store has other numbers for a track; `StoreError` or
    `DiskFullError` if a file is damaged or of another kind, or the store cannot be written.
    """
    files = [file for path in paths for file in _find_files(path)]
    import_pyarrow()
    specs, total, remarks = list[EmbedderSpec](), 0, dict[str, str]()
    for file, footer in zip(files, read_footers(files), strict=True):
        if isinstance(footer, StoreError):
            raise footer
        specs.append(footer.spec)
        if footer.spec != specs[0]:
            raise UsageError(f"{files[0]} is of {specs[0]}, {file} of {footer.spec}: import each into its own store")
        total += footer.rows
        remarks |= footer.remarks
    spec, done, skipped = specs[0], 0, 0
    store = EmbeddingStore(root, spec)
    for done, (file, key, frames) in enumerate(read_tracks(files, spec), start=1):
        skipped += not _add(store, key, frames, file, remarks.get(key, ""))
        on_progress(done, total)
    return ParquetReport(done - skipped, skipped, len(files))


def _plan(store: EmbeddingStore, rows: int | None, size: int) -> dict[str, dict[str, str]]:
    """Distribute the tracks over files, by the sizes of their entries.

    By name of a file and key of a track: a line that changes when the store's entry does.
    """
    groups: list[dict[str, str]] = []
    filled = 0
    for key in store:
        entry = store.stat(key)
        filled += entry.st_size
        if not groups or (filled > size if rows is None else len(groups[-1]) == rows):
            groups.append({})
            filled = entry.st_size
        groups[-1][key] = f"{key}\t{entry.st_size}\t{entry.st_mtime_ns}\n"
    return {f"embeddings-{n:05d}-of-{len(groups):05d}.parquet": group for n, group in enumerate(groups)}


def _write_shard(store: EmbeddingStore, keys: Sequence[str], entries: str, path: Path) -> None:
    arrow, parquet = import_pyarrow()
    about: dict[str, Any] = {"format": FORMAT, "embedder": asdict(store.spec), "entries": entries}
    if remarks := store.remarks(keys):
        about["remarks"] = remarks
    number = arrow.field("element", arrow.float32())
    frame = arrow.field("element", arrow.list_(number, store.spec.dim))
    columns = [("key", arrow.string()), ("times_s", arrow.list_(number)), ("embedding", arrow.list_(frame))]
    schema = arrow.schema(columns, metadata={METADATA_KEY: json.dumps(about).encode()})

    def write(file: IO[bytes]) -> None:
        with parquet.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=False,
            column_encoding={_NUMBERS: "BYTE_STREAM_SPLIT"},  # a tenth smaller than without
            write_page_checksum=True,
        ) as writer:
            for rows in _row_groups(store, keys):
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


def _find_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    missing = next((file for file in files if not file.is_file()), None)
    if missing or not files:
        raise UsageError(f"{missing}: no such file" if missing else f"{path}: no Parquet files there (*.parquet)")
    return files


def _add(store: EmbeddingStore, key: str, frames: Array, path: Path, remark: str) -> bool:
    """Write a track unless it is there; False if it is."""
    try:
        if key not in store:
            store.add(key, frames, remark)
            return True
        if store[key].tobytes() == frames.tobytes():
            return False
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error
    raise UsageError(f"{store.root} has {key} already, with other numbers than {path}: use another folder")


@dataclass(frozen=True)
class Footer:
    """The end of a file: what made the embeddings, how many tracks; remarks on them by key."""

    spec: EmbedderSpec
    rows: int
    entries: str  # a hash that was another one if the store's entries had been others; empty if there is none
    remarks: Mapping[str, str]


def import_pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``; UsageError if they are not installed."""
    need("Parquet", "parquet", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet


def read_footers(paths: Sequence[Path]) -> list[Footer | StoreError]:
    """For each file, what its footer says or what is wrong with it."""
    found: list[Footer | StoreError] = []
    while len(found) < len(paths):  # a file that ends the child is the last of its answers
        left = paths[len(found) :]
        for path, (said, _) in zip(left, _ask(left), strict=False):
            if "error" in said:
                found.append(StoreError(f"{path}: {said['error']}"))
            else:
                found.append(Footer(**{**said, "spec": EmbedderSpec.from_json(said["spec"])}))
    return found


def read_tracks(paths: Sequence[Path], spec: EmbedderSpec) -> Iterator[tuple[Path, str, Array]]:
    """The tracks of files with sound footers: file, key, float32 (frames, dim); StoreError if one is damaged."""
    path = paths[0]
    for said, frames in _ask(paths, spec):
        if "error" in said:
            raise StoreError(f"{path}: {said['error']}")
        if "file" in said:
            path = paths[said["file"]]
        else:
            yield path, said["key"], frames


def _ask(paths: Sequence[Path], spec: EmbedderSpec | None = None) -> Iterator[Said]:
    """What a child says of the footers of files, or of their tracks, by `spec`; at last an ``error`` if it dies."""
    question = {"paths": [str(path) for path in paths], "spec": asdict(spec) if spec else None}
    command = [sys.executable, "-c", _PROGRAM, "\n".join(sys.path)]
    pipe, size = subprocess.PIPE, sum(path.stat().st_size for path in paths if path.is_file())
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            process.bound(child.pid, MEMORY_BYTES, GRACE_S + size / BYTES_PER_S)
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(question).encode())
            while (line := child.stdout.readline()).endswith(b"\n"):
                said, shape = json.loads(line)
                if not said:
                    return
                numbers = child.stdout.read(4 * math.prod(shape))
                if len(numbers) < 4 * math.prod(shape):
                    break
                yield said, np.frombuffer(numbers, np.float32).reshape(shape)
            status = child.wait()
            ended = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            yield {"error": f"cannot be read (its reader was ended {ended})"}, _NO_FRAMES
        finally:
            child.kill()


def answer(question: IO[bytes], answers: IO[bytes]) -> None:
    """Answer what `_ask` asks, in the child process."""
    asked = json.loads(question.read())
    paths, spec = [Path(path) for path in asked["paths"]], asked["spec"]
    every = _say_footers(paths) if spec is None else _say_tracks(paths, EmbedderSpec.from_json(spec))
    for said, frames in itertools.chain(every, [({}, _NO_FRAMES)]):
        answers.write(json.dumps([said, frames.shape]).encode() + b"\n" + frames.tobytes())
        answers.flush()  # what is not flushed is lost if Arrow aborts


def _say_footers(paths: Sequence[Path]) -> Iterator[Said]:
    for path in paths:
        try:
            yield asdict(_read_footer(path)), _NO_FRAMES
        except StoreError as error:
            yield {"error": str(error)}, _NO_FRAMES


def _read_footer(path: Path) -> Footer:
    _, parquet = import_pyarrow()
    try:
        about = parquet.read_metadata(path)
        schema = about.schema.to_arrow_schema()
    except _damages() as error:
        raise StoreError(f"not a Parquet file, or damaged ({brief(error)})") from error
    try:
        ours = parse_json(schema.metadata[METADATA_KEY])
        known, spec = ours["format"] == FORMAT, EmbedderSpec.from_json(ours["embedder"])
        remarks = {key: str(remark)[:_MAX_REMARK_LENGTH] for key, remark in dict(ours.get("remarks", {})).items()}
    except (KeyError, TypeError, ValueError):
        raise StoreError("does not say what made its embeddings, as files of `jamendo-mood export` do") from None
    if not known or not {"key", "embedding"} <= set(schema.names):
        raise StoreError(f"not of the format that this version writes (columns: {', '.join(schema.names)})")
    for group, column in itertools.product(range(about.num_row_groups), range(about.num_columns)):
        part = about.row_group(group).column(column)
        stored, size = part.total_compressed_size, max(4 * part.num_values, part.total_uncompressed_size)
        if size > max(_MIN_COLUMN_BYTES, _MAX_RATIO * stored):  # such as run lengths and hardly anything else
            raise StoreError(f"too large for what it is ({stored:,} bytes of it would become {size:,})")
    return Footer(spec, int(about.num_rows), str(ours.get("entries", "")), remarks)


def _say_tracks(paths: Sequence[Path], spec: EmbedderSpec) -> Iterator[Said]:
    _, parquet = import_pyarrow()
    for number, path in enumerate(paths):
        yield {"file": number}, _NO_FRAMES
        try:
            with parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
                for batch in file.iter_batches(_READ_ROWS, columns=_COLUMNS, use_threads=False):  # those that are there
                    for row in range(batch.num_rows):
                        key, frames = _read_row(batch, row, spec)
                        yield {"key": key}, frames
        except _damages() as error:
            yield {"error": f"damaged, or not what `jamendo-mood export` writes ({brief(error)})"}, _NO_FRAMES


def _read_row(batch: Any, row: int, spec: EmbedderSpec) -> tuple[str, Array]:
    """One track of a batch; one of `_damages` if it is not what `export_parquet` writes."""
    key = batch.column("key")[row].as_py()
    rows = batch.column("embedding").slice(row, 1).flatten()
    numbers = rows.flatten().to_numpy(zero_copy_only=False)
    whole = len(rows) and not rows.null_count and rows.value_lengths().unique().to_pylist() == [spec.dim]
    if not isinstance(key, str) or not whole or numbers.dtype != np.float32 or not np.isfinite(numbers).all():
        raise ValueError(f"track {key!r} has no embedding of float32 numbers, {spec.dim} a frame")
    if "times_s" in batch.schema.names:
        times_s, tolerance_s = batch.column("times_s")[row].values.to_numpy(zero_copy_only=False), (spec.hop_s or 0) / 2
        if len(times_s) != len(rows) or not np.allclose(times_s, spec.times_s(len(rows)), rtol=0, atol=tolerance_s):
            raise ValueError(f"track {key!r}: times_s are not those of {len(rows)} frames ({spec.rate})")
    return key, numbers.reshape(-1, spec.dim)


def _damages() -> tuple[type[BaseException], ...]:
    """What reading a damaged file raises."""
    arrow, _ = import_pyarrow()
    return (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError)
