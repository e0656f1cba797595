"""Parquet files read in a process of their own.

Arrow takes a file at its word: at some that are damaged it aborts the process, and others make it ask for memory
without end. So a child reads them, within a bound, and tells what it finds: one line of JSON for each footer or track,
and a track's numbers behind its line. Whatever becomes of the child, the file at fault is named.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.util import process
from jamendo_mood.util.errors import StoreError, UsageError
from jamendo_mood.util.untrusted import brief, parse_json

FORMAT = 1
METADATA_KEY = b"jamendo_mood"
"""Of the schema's metadata: JSON with ``format``, ``embedder``, and ``entries``, a hash of what the file is of."""

MEMORY_BYTES = 4 << 30
GRACE_S, BYTES_PER_S = 60.0, 1_000_000
"""What the child may take, on Linux: memory, and seconds of a processor for its files; some 100 MB take one."""

_READ_ROWS, _COLUMNS = 16, ["key", "times_s", "embedding"]
_SMALL_BYTES, _MOST_RATIO = 64_000_000, 50  # of a column in a row group: what it may hold at any rate, and a byte of it

# Not `-m`, which would look for modules in the current folder before anything of ours runs.
_PROGRAM = """
import sys
sys.path[:] = sys.argv.pop().split("\\n")
from jamendo_mood.store import parquet_reader
parquet_reader.answer(sys.stdin.buffer, sys.stdout.buffer)
"""

Array = npt.NDArray[np.float32]
Tell = Callable[..., None]


@dataclass(frozen=True)
class Footer:
    """What the end of a file says.

    Attributes
    ----------
    spec : EmbedderSpec
    rows : int
        Tracks in the file.
    entries : str
        A hash of what the store had of them; empty if it is not told.
    """

    spec: EmbedderSpec
    rows: int
    entries: str


def import_pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises
    ------
    UsageError
        They are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("there is no pyarrow: `pip install jamendo-mood[parquet]` brings it") from None
    return pyarrow, pyarrow.parquet


def read_footers(paths: Sequence[Path]) -> list[Footer | StoreError]:
    """For each file what its footer says, or what is wrong with it."""
    found: list[Footer | StoreError] = []
    while len(found) < len(paths):  # a file that ends the child is the last of its answers
        for path, (said, _) in zip(paths[len(found) :], _ask("footers", paths[len(found) :]), strict=False):
            if "error" in said:
                found.append(StoreError(f"{path}: {said['error']}"))
            else:
                found.append(Footer(EmbedderSpec.from_json(said["embedder"]), said["rows"], said["entries"]))
    return found


def read_tracks(paths: Sequence[Path], spec: EmbedderSpec) -> Iterator[tuple[Path, str, Array]]:
    """The tracks of files whose footers were read: the file, the key, and float32 (frames, dim), finite.

    Raises
    ------
    StoreError
        A file is damaged.
    """
    path = paths[0]
    for said, numbers in _ask("tracks", paths, spec):
        if "error" in said:
            raise StoreError(f"{path}: {said['error']}")
        if "file" in said:
            path = paths[said["file"]]
        else:
            yield path, said["key"], np.frombuffer(numbers, np.float32).reshape(-1, spec.dim)


def _ask(what: str, paths: Sequence[Path], spec: EmbedderSpec | None = None) -> Iterator[tuple[dict[str, Any], bytes]]:
    """What a child says of files; the last of it is an ``error`` if it does not come to its end."""
    question = {"what": what, "paths": [str(path) for path in paths], "embedder": asdict(spec) if spec else None}
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
                said = json.loads(line)
                if "end" in said:
                    return
                numbers = child.stdout.read(said["bytes"])
                if len(numbers) < said["bytes"]:
                    break
                yield said, numbers
            status = child.wait()
            ended = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            yield {"error": f"cannot be read (its reader was ended {ended})"}, b""
        finally:
            child.kill()


# ---- The child's side.


def answer(question: IO[bytes], answers: IO[bytes]) -> None:
    """Answer what `_ask` asks: what the child does."""
    asked = json.loads(question.read())
    paths = [Path(path) for path in asked["paths"]]

    def tell(numbers: Array | None = None, **said: Any) -> None:
        size = 0 if numbers is None else numbers.nbytes
        answers.write(json.dumps({"bytes": size, **said}).encode() + b"\n")
        if numbers is not None:
            answers.write(np.ascontiguousarray(numbers).data)
        answers.flush()  # what is not flushed is lost if Arrow aborts

    if asked["what"] == "footers":
        _tell_footers(paths, tell)
    else:
        _tell_tracks(paths, EmbedderSpec.from_json(asked["embedder"]), tell)
    tell(end=True)


def _tell_footers(paths: Sequence[Path], tell: Tell) -> None:
    for path in paths:
        try:
            footer = _read_footer(path)
        except StoreError as error:
            tell(error=str(error))
        else:
            tell(embedder=asdict(footer.spec), rows=footer.rows, entries=footer.entries)


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
    except (KeyError, TypeError, ValueError):
        raise StoreError(
            "does not say what its embeddings were made with, as files of `jamendo-mood export` do"
        ) from None
    if not known or not {"key", "embedding"} <= set(schema.names):
        raise StoreError(f"not of the format that this version writes (columns: {', '.join(schema.names)})")
    for group, column in itertools.product(range(about.num_row_groups), range(about.num_columns)):
        part = about.row_group(group).column(column)
        stored, size = part.total_compressed_size, max(4 * part.num_values, part.total_uncompressed_size)
        if size > max(_SMALL_BYTES, _MOST_RATIO * stored):  # such as run lengths and little else
            raise StoreError(f"too large for what it is ({stored:,} bytes of it would become {size:,})")
    return Footer(spec, int(about.num_rows), str(ours.get("entries", "")))


def _tell_tracks(paths: Sequence[Path], spec: EmbedderSpec, tell: Tell) -> None:
    _, parquet = import_pyarrow()
    for number, path in enumerate(paths):
        tell(file=number)
        try:
            with parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
                for batch in file.iter_batches(_READ_ROWS, columns=_COLUMNS, use_threads=False):  # those that are there
                    for row in range(batch.num_rows):
                        key, frames = _read_row(batch, row, spec)
                        tell(frames, key=key)
        except _damages() as error:
            tell(error=f"damaged, or not what `jamendo-mood export` writes ({brief(error)})")


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


def _damages() -> tuple[type[BaseException], ...]:
    """What reading a damaged file raises."""
    arrow, _ = import_pyarrow()
    return (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError)
