"""What each command about stores does: arguments -> calls of the package -> a report -> the exit status.

Imports are inside, so that `jamendo-mood --help` loads neither TensorFlow nor pandas.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from jamendo_mood.cli import reports
from jamendo_mood.cli.reports import DONE, SOME_FAILED
from jamendo_mood.util import plaintext


def export(arguments: argparse.Namespace) -> int:
    """Write a store as Parquet files."""
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.store.parquet import export_parquet

    report = export_parquet(
        EmbeddingStore(arguments.store),
        arguments.out,
        shard_rows=arguments.shard_rows,
        shard_mb=arguments.shard_mb,
        on_progress=reports.CountProgress("exporting"),
    )
    print(
        f"{arguments.out}: {plaintext.count(report.tracks, 'track')} exported, {report.skipped} were there already; "
        f"{plaintext.count(report.files, 'Parquet file')}"
    )
    return DONE


def import_(arguments: argparse.Namespace) -> int:
    """Put the embeddings of Parquet files into a store."""
    from jamendo_mood.store.parquet import import_parquet
    from jamendo_mood.util.files import remove_drafts

    remove_drafts(arguments.store)  # of runs that were killed
    report = import_parquet(arguments.files, arguments.store, on_progress=reports.CountProgress("importing"))
    print(
        f"{arguments.store}: {plaintext.count(report.tracks, 'track')} imported, {report.skipped} were there already; "
        f"from {plaintext.count(report.files, 'Parquet file')}"
    )
    return DONE


def pack(arguments: argparse.Namespace) -> int:
    """Write all embeddings of a store into one file to be memory-mapped."""
    from jamendo_mood.store.embedding_store import INDEX_NAME, PACKED_NAME, EmbeddingStore
    from jamendo_mood.util.files import remove_drafts

    store = EmbeddingStore(arguments.store)
    remove_drafts(store.root)  # of runs that were killed
    packed = store.pack()
    rows, dim = packed.frames.shape
    print(
        f"{arguments.store / PACKED_NAME}: {plaintext.count(len(packed), 'track')} in one array of {rows} x {dim}, "
        f"{packed.frames.nbytes / 1e6:.1f} MB; their keys and lengths are in {INDEX_NAME}"
    )
    return DONE


def verify(arguments: argparse.Namespace) -> int:
    """Look at every file of a store, and put right what is wrong if that is asked for."""
    from jamendo_mood.store.verification import repair_store, verify_store

    store: Path = arguments.store
    if arguments.repair:
        repair = repair_store(store, lambda: reports.CountProgress("verifying"))
        found, done, lost = repair.left, repair.done, repair.lost
    else:
        found, done, lost = verify_store(store, reports.CountProgress("verifying")), (), ()
    for finding, remedy in [*done, *((finding, "") for finding in found.findings)]:
        print("\t".join(plaintext.show(text) for text in (finding.name, finding.problem, remedy) if text))
    for text in found.notes:
        plaintext.note(f"note: {plaintext.show(text)}")
    bare = f", {found.unchecked} of them without a checksum" if found.unchecked else ""
    mended = f"{len(done)} things mended, " if done else ""
    plaintext.note(
        f"{store}: {plaintext.count(found.sound, 'embedding')} sound{bare}; {mended}{len(found.findings)} things wrong"
        + (" (--repair mends what can be mended)" if found.findings and not arguments.repair else "")
    )
    if lost:
        plaintext.note(
            f"without an embedding now: {len(lost)} of these; "
            f"`jamendo-mood extract AUDIO_DIR --store {store}` embeds those that are tracks"
        )
    return SOME_FAILED if done or found.findings else DONE
