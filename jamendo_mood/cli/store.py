"""What is kept: stores (`export`, `import`, `pack`, `verify`), the `weights` of networks; and shared: `push`."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.datasets import own
from jamendo_mood.embedders.registry import NETWORKS, EmbedderOptions, check_weights, load_embedder, weights_of
from jamendo_mood.store import hub
from jamendo_mood.store.embedding_store import INDEX_NAME, MANIFEST_NAME, PACKED_NAME, EmbeddingStore
from jamendo_mood.store.parquet import export_parquet, import_parquet
from jamendo_mood.store.verification import repair_store, verify_store
from jamendo_mood.training import onnx_files
from jamendo_mood.training.model import CARD_NAME, Tagger
from jamendo_mood.util.errors import StoreError, UsageError, WeightsError
from jamendo_mood.util.files import remove_drafts
from jamendo_mood.util.plaintext import CountProgress, count, markdown, note, say, show

STORE_CARD = """\
# Embeddings of music

{tracks}, each embedded by {spec}: a `.npy` of float32 (frames, numbers), which ends in its SHA-256.

- Licence of the music: {licence}
"""


def _add_export(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=shared.path_or_url, metavar="STORE", help="a store, or with --onnx a tagger, as for `tag`")
    add("out", type=Path, metavar="OUT_DIR", help="folder for the files")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--onnx", action="store_true", help="write a tagger, and the network before it, as ONNX files")
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


def _add_push(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="a tagger that `train` wrote, or a store")
    add("repository", type=shared.repository, metavar="USER/NAME", help="where to; it is made if it is not there")
    add("--public", action="store_true", help="for everybody to see (default: a private repository)")
    licence = "of a store's music, or of your own labels, such as 'CC BY 4.0'; other taggers know theirs"
    add("--licence", metavar="NAME", help=licence)


def push(arguments: argparse.Namespace) -> int:
    """Share a tagger or a store on the Hugging Face Hub, in a private repository unless --public."""
    folder, is_store = arguments.folder, (arguments.folder / MANIFEST_NAME).is_file()
    tagger = None if is_store else Tagger.load(folder)
    licence = _choose_licence(arguments, None if tagger is None else tagger.record.get("licence"))
    with tempfile.TemporaryDirectory() as draft:
        card = Path(draft, CARD_NAME)
        if tagger is None:
            store = EmbeddingStore(folder)
            if found := verify_store(folder, CountProgress("verifying")).findings:
                first = f"`jamendo-mood verify {folder} --repair` first"
                raise StoreError(f"{folder}: {count(len(found), 'thing')} wrong in this store: {first}")
            names = [MANIFEST_NAME, *(f"{key}.npy" for key in store)]
            contents = {CARD_NAME: card, **{name: folder / name for name in names}}
            text = STORE_CARD.format(tracks=count(len(store), "track"), spec=store.spec, licence=markdown(licence))
            kind, use = "dataset", f"similar TRACK --store hf://datasets/{arguments.repository}"
        else:  # saved anew it is safetensors, whatever it was, and nothing else comes along
            replace(tagger, record={**tagger.record, "licence": licence}).save(draft)
            contents, text = {path.name: path for path in sorted(card.parent.iterdir())}, card.read_text("utf-8")
            kind, use = "model", f"tag song.mp3 --tagger hf://{arguments.repository}"
        text = f"{text}\n## How to use it\n\n    jamendo-mood {use}\n"
        card.write_text(hub.add_metadata(text, licence), "utf-8")
        for name, path in contents.items():
            say(f"{path.stat().st_size:>14,}  {name}")
        seen_by = "public" if arguments.public else "private"
        say(f"to the {seen_by} repository {arguments.repository}, under the licence {licence!r}")
        say(f"{hub.upload(contents, arguments.repository, kind, public=arguments.public)}: jamendo-mood {use}")
    return DONE


def _choose_licence(arguments: argparse.Namespace, known: str | None) -> str:
    """What may be done with what is shared, by what it comes from; `UsageError` if nobody says it."""
    known = None if known == own.SOURCES["own"].licence else known
    if known and arguments.licence not in (None, known):
        raise UsageError(f"{arguments.folder}: its data are under {known!r}, so --licence cannot be another")
    licence = str(known or arguments.licence or "")
    if not licence:
        raise UsageError(f"{arguments.folder}: the licence of what it comes from is unknown: give it with --licence")
    if arguments.public and "not to be passed on" in licence:
        raise UsageError(f"{arguments.folder}: its data are {licence!r}, so it can be shared without --public only")
    return licence


COMMANDS = {
    "export": Command(_add_export, export, "finished files are kept, and the same command continues from there"),
    "import": Command(_add_import, import_, "finished tracks are kept, and the same command continues from there"),
    "pack": Command(_add_pack, pack, "the embeddings are as they were, and the same command packs them again"),
    "verify": Command(_add_verify, verify),
    "weights": Command(_add_weights, weights, "what has arrived is kept, and the same command continues from there"),
    "push": Command(_add_push, push, "nothing is there before all of it is; the same command sends what is missing"),
}
