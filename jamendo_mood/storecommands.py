"""What each command about stores does: arguments -> calls of the package -> a report -> the exit status.

Imports are inside, so that `jamendo-mood --help` loads neither TensorFlow nor pandas.
"""

from __future__ import annotations

import argparse

from jamendo_mood import reports
from jamendo_mood.reports import DONE


def export(arguments: argparse.Namespace) -> int:
    """Write a store as Parquet files."""
    from jamendo_mood.parquet import export_parquet
    from jamendo_mood.store import EmbeddingStore

    report = export_parquet(
        EmbeddingStore(arguments.store),
        arguments.out,
        shard_rows=arguments.shard_rows,
        shard_mb=arguments.shard_mb,
        on_progress=reports.CountProgress("exporting"),
    )
    print(
        f"{arguments.out}: {reports.count(report.tracks, 'track')} exported, {report.skipped} were there already; "
        f"{reports.count(report.files, 'Parquet file')}"
    )
    return DONE


def import_(arguments: argparse.Namespace) -> int:
    """Put the embeddings of Parquet files into a store."""
    from jamendo_mood.parquet import import_parquet

    report = import_parquet(arguments.files, arguments.store, on_progress=reports.CountProgress("importing"))
    print(
        f"{arguments.store}: {reports.count(report.tracks, 'track')} imported, {report.skipped} were there already; "
        f"from {reports.count(report.files, 'Parquet file')}"
    )
    return DONE


def pack(arguments: argparse.Namespace) -> int:
    """Write all embeddings of a store into one file to be memory-mapped."""
    from jamendo_mood.store import INDEX_NAME, PACKED_NAME, EmbeddingStore

    packed = EmbeddingStore(arguments.store).pack()
    rows, dim = packed.frames.shape
    print(
        f"{arguments.store / PACKED_NAME}: {reports.count(len(packed), 'track')} in one array of {rows} x {dim}, "
        f"{packed.frames.nbytes / 1e6:.1f} MB; their keys and lengths are in {INDEX_NAME}"
    )
    return DONE
