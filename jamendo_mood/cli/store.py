"""What is kept on this disk: stores (`export`, `import`, `pack`, `verify`) and the `weights` of networks."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.embedders.registry import NETWORKS, EmbedderOptions, check_weights, load_embedder, weights_of
from jamendo_mood.store.embedding_store import INDEX_NAME, PACKED_NAME, EmbeddingStore
from jamendo_mood.store.parquet import export_parquet, import_parquet
from jamendo_mood.store.verification import repair_store, verify_store
from jamendo_mood.training import onnx_files
from jamendo_mood.util.errors import UsageError, WeightsError
from jamendo_mood.util.files import remove_drafts
from jamendo_mood.util.plaintext import CountProgress, count, note, say, show


def _add_export(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, metavar="STORE", help="a store, or with --onnx a tagger, as for `tag`")
    add("out", type=Path, metavar="OUT_DIR", help="folder for the files")
    add("--onnx", action="store_true", help="write a tagger, and the network before it, as ONNX files")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--shard-rows", type=shared.positive, metavar="N", help="tracks a file (default: by --shard-mb)")
    megabytes = "megabytes a file, uncompressed (default 256)"
    size.add_argument("--shard-mb", type=shared.positive, default=256, metavar="N", help=megabytes)
    shared.add_weights(parser)


def export(arguments: argparse.Namespace) -> int:
    """Write a store as Parquet files, for datasets, DuckDB or Spark; or a tagger as ONNX files."""
    if arguments.onnx:
        return _export_onnx(arguments)
    size = {"shard_rows": arguments.shard_rows, "shard_mb": arguments.shard_mb}
    store = EmbeddingStore(arguments.source)
    report = export_parquet(store, arguments.out, **size, on_progress=CountProgress("exporting"))
    done = f"{count(report.tracks, 'track')} exported, {report.skipped} were there already"
    print(f"{arguments.out}: {done}; {count(report.files, 'Parquet file')}")
    return DONE


def _export_onnx(arguments: argparse.Namespace) -> int:
    tagger = shared.load_tagger(argparse.Namespace(**vars(arguments), tagger=arguments.source))
    embedder = load_embedder(tagger.spec, EmbedderOptions.of(arguments))
    onnx_files.export_onnx(tagger, embedder, arguments.out)
    dim, targets = tagger.spec.dim, len(tagger.task.targets)
    print(f"{arguments.out / onnx_files.EMBEDDER}: pictures of the sound to embeddings (n, {dim})")
    print(f"{arguments.out / onnx_files.TAGGER}: a track's embeddings (frames, {dim}) to {targets} scores")
    return DONE


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="PARQUET", help="files of `export`, or folders of them")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="store to write or to continue")


def import_(arguments: argparse.Namespace) -> int:
    """Put the embeddings of such Parquet files into a store."""
    remove_drafts(arguments.store)  # of runs that were killed
    report = import_parquet(arguments.files, arguments.store, on_progress=CountProgress("importing"))
    done = f"{count(report.tracks, 'track')} imported, {report.skipped} were there already"
    print(f"{arguments.store}: {done}; from {count(report.files, 'Parquet file')}")
    return DONE


def _add_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `extract` wrote")


def pack(arguments: argparse.Namespace) -> int:
    """Write a store into one file to be memory-mapped, for training."""
    store = EmbeddingStore(arguments.store)
    remove_drafts(store.root)  # of runs that were killed
    packed = store.pack()
    rows, dim = packed.frames.shape
    size = f"{count(len(packed), 'track')} in one array of {rows} x {dim}, {packed.frames.nbytes / 1e6:.1f} MB"
    print(f"{arguments.store / PACKED_NAME}: {size}; their keys and lengths are in {INDEX_NAME}")
    return DONE


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `extract` wrote")
    mend = "put right what is wrong; what is damaged stays as NAME.npy.bad, and `extract` embeds the track anew"
    parser.add_argument("--repair", action="store_true", help=mend)


def verify(arguments: argparse.Namespace) -> int:
    """Look at every file of a store for damage, and with --repair put it right."""
    store: Path = arguments.store
    if arguments.repair:
        repair = repair_store(store, lambda: CountProgress("verifying"))
        found, done, lost = repair.left, repair.done, repair.lost
    else:
        found, done, lost = verify_store(store, CountProgress("verifying")), (), ()
    for finding, remedy in [*done, *((finding, "") for finding in found.findings)]:
        print("\t".join(show(text) for text in (finding.name, finding.problem, remedy) if text))
    for text in found.notes:
        note(f"note: {text}")
    bare = f", {found.unchecked} of them without a checksum" if found.unchecked else ""
    mended = f"{len(done)} things mended, " if done else ""
    hint = " (--repair mends what can be mended)" if found.findings and not arguments.repair else ""
    note(f"{store}: {count(found.sound, 'embedding')} sound{bare}; {mended}{len(found.findings)} things wrong{hint}")
    if lost:
        again = f"`jamendo-mood extract AUDIO_DIR --store {store}` embeds those that are tracks"
        note(f"without an embedding now: {len(lost)} of these; {again}")
    return SOME_FAILED if done or found.findings else DONE


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", nargs="?", choices=NETWORKS, help="of this network (default: of all)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--get", action="store_true", help="download those not here; what broke off is continued")
    action.add_argument("--check", action="store_true", help="read and run them: are they the released ones?")
    action.add_argument("--remove", action="store_true", help="delete what was downloaded; not what you named yourself")


def weights(arguments: argparse.Namespace) -> int:
    """Where the weights of networks are; get them, check them, remove them."""
    if arguments.remove and arguments.network is None:
        raise UsageError(f"--remove needs the network's name: {', '.join(NETWORKS)}")
    status = DONE
    for network in [arguments.network] if arguments.network else NETWORKS:
        own = weights_of(network)
        if arguments.remove:
            removed = own.remove()
            say(f"{network:8} removed: {', '.join(map(str, removed)) or 'nothing, for nothing was there'}")
            continue
        try:
            path = own.find(download=arguments.get)
            checked = f"  {check_weights(network, path)}: the released weights" if arguments.check else ""
            say(f"{network:8} {path}{checked}")
        except WeightsError as error:
            if arguments.network and (arguments.get or arguments.check):
                raise
            if arguments.get or arguments.check or os.environ.get(own.variable):
                note(str(error))
                status = SOME_FAILED
            say(f"{network:8} not here; `jamendo-mood weights {network} --get` downloads {own.size}")
    return status


COMMANDS = {
    "export": Command(_add_export, export, "finished files are kept, and the same command continues from there"),
    "import": Command(_add_import, import_, "finished tracks are kept, and the same command continues from there"),
    "pack": Command(_add_pack, pack, "the embeddings are as they were, and the same command packs them again"),
    "verify": Command(_add_verify, verify),
    "weights": Command(_add_weights, weights, "what has arrived is kept, and the same command continues from there"),
}
