"""What is kept on this disk: stores (`export`, `import`, `pack`, `verify`) and the `weights` of networks."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.embedders.registry import NETWORKS, check_weights, weights_of
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import UsageError, WeightsError
from jamendo_mood.util.files import remove_drafts
from jamendo_mood.util.plaintext import CountProgress


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="STORE", help="a store, or with --onnx a tagger, as for `tag`")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="folder for the files")
    parser.add_argument("--onnx", action="store_true", help="write a tagger, and the network before it, as ONNX files")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--shard-rows", type=shared.positive, metavar="N", help="tracks a file (default: by --shard-mb)")
    size.add_argument(
        "--shard-mb",
        type=shared.positive,
        default=256,
        metavar="N",
        help="megabytes a file, uncompressed (default 256)",
    )
    shared.add_weights(parser)


def export(arguments: argparse.Namespace) -> int:
    """Write a store as Parquet files, for datasets, DuckDB or Spark; or a tagger as ONNX files."""
    if arguments.onnx:
        return _export_onnx(arguments)
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.store.parquet import export_parquet

    size = {"shard_rows": arguments.shard_rows, "shard_mb": arguments.shard_mb}
    store = EmbeddingStore(arguments.source)
    report = export_parquet(store, arguments.out, **size, on_progress=CountProgress("exporting"))
    print(
        f"{arguments.out}: {plaintext.count(report.tracks, 'track')} exported, {report.skipped} were there already; "
        f"{plaintext.count(report.files, 'Parquet file')}"
    )
    return DONE


def _export_onnx(arguments: argparse.Namespace) -> int:
    from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
    from jamendo_mood.training import onnx_files

    tagger = shared.load_tagger(argparse.Namespace(**vars(arguments), tagger=arguments.source))
    embedder = load_embedder(tagger.spec, EmbedderOptions.of(arguments))
    onnx_files.export_onnx(tagger, embedder, arguments.out)
    dim, count = tagger.spec.dim, len(tagger.task.targets)
    print(f"{arguments.out / onnx_files.EMBEDDER}: pictures of the sound to embeddings (n, {dim})")
    print(f"{arguments.out / onnx_files.TAGGER}: a track's embeddings (frames, {dim}) to {count} scores")
    return DONE


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="PARQUET", help="files of `export`, or folders of them")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="store to write or to continue")


def import_(arguments: argparse.Namespace) -> int:
    """Put the embeddings of such Parquet files into a store."""
    from jamendo_mood.store.parquet import import_parquet

    remove_drafts(arguments.store)  # of runs that were killed
    report = import_parquet(arguments.files, arguments.store, on_progress=CountProgress("importing"))
    print(
        f"{arguments.store}: {plaintext.count(report.tracks, 'track')} imported, {report.skipped} were there already; "
        f"from {plaintext.count(report.files, 'Parquet file')}"
    )
    return DONE


def _add_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `extract` wrote")


def pack(arguments: argparse.Namespace) -> int:
    """Write a store into one file to be memory-mapped, for training."""
    from jamendo_mood.store.embedding_store import INDEX_NAME, PACKED_NAME, EmbeddingStore

    store = EmbeddingStore(arguments.store)
    remove_drafts(store.root)  # of runs that were killed
    packed = store.pack()
    rows, dim = packed.frames.shape
    print(
        f"{arguments.store / PACKED_NAME}: {plaintext.count(len(packed), 'track')} in one array of {rows} x {dim}, "
        f"{packed.frames.nbytes / 1e6:.1f} MB; their keys and lengths are in {INDEX_NAME}"
    )
    return DONE


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `extract` wrote")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="put right what is wrong; what is damaged stays as NAME.npy.bad, and `extract` embeds the track anew",
    )


def verify(arguments: argparse.Namespace) -> int:
    """Look at every file of a store for damage, and with --repair put it right."""
    from jamendo_mood.store.verification import repair_store, verify_store

    store: Path = arguments.store
    if arguments.repair:
        repair = repair_store(store, lambda: CountProgress("verifying"))
        found, done, lost = repair.left, repair.done, repair.lost
    else:
        found, done, lost = verify_store(store, CountProgress("verifying")), (), ()
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
            plaintext.say(f"{network:8} removed: {', '.join(map(str, removed)) or 'nothing, for nothing was there'}")
            continue
        try:
            path = own.find(download=arguments.get)
            checked = f"  {check_weights(network, path)}: the released weights" if arguments.check else ""
            plaintext.say(f"{network:8} {path}{checked}")
        except WeightsError as error:
            if arguments.network and (arguments.get or arguments.check):
                raise
            if arguments.get or arguments.check or os.environ.get(own.variable):
                plaintext.note(str(error))
                status = SOME_FAILED
            plaintext.say(f"{network:8} not here; `jamendo-mood weights {network} --get` downloads {own.size}")
    return status


COMMANDS = {
    "export": Command(
        _add_export, export, "the files that were finished are kept, and the same command continues from there"
    ),
    "import": Command(
        _add_import, import_, "the tracks that were finished are kept, and the same command continues from there"
    ),
    "pack": Command(_add_pack, pack, "the embeddings are as they were, and the same command packs them again"),
    "verify": Command(_add_verify, verify),
    "weights": Command(_add_weights, weights, "what has arrived is kept, and the same command continues from there"),
}
