"""A store, and all that is done to stores to see whether `verification` finds it and `repair` mends it."""

import os
import shutil
import zipfile
from dataclasses import replace

import numpy as np

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import EmbeddingStore, format_manifest

SPEC = EmbedderSpec("stub", "", 16_000, 0.96, 0.5, 4)
OTHER_SPEC = replace(SPEC, name="other")
KEYS = ("14/2", "48/948", "48/949 (live)", "A. Band - Söng")


def state_of(folder):
    """What every file holds."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def frames_of(key, dim=SPEC.dim):
    return np.random.default_rng(len(key)).standard_normal((3 + len(key) % 3, dim), dtype=np.float32)


def make_store(root, spec=SPEC, keys=KEYS):
    store = EmbeddingStore(root, spec)
    for key in keys:
        store.add(key, frames_of(key))
    return store


def write_old_entry(store, key, frames):
    """As earlier versions wrote it."""
    path = store.root / f"{key}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, frames)


def swap(store, one, other):
    paths = [store.root / f"{key}.npy" for key in (one, other)]
    aside = store.root / "aside"
    paths[0].rename(aside)
    paths[1].rename(paths[0])
    aside.rename(paths[1])


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def add_stranger(store):
    other = make_store(store.root.parent / "other", OTHER_SPEC, ["14/2"])
    shutil.copy(other.root / "14/2.npy", store.root / "14/2.npy")


def replace_in(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def leave_draft(store):
    (store.root / f".14-{'a' * 16}.tmp").write_bytes(b"half")


def pack_and(damage):
    def pack_first(store):
        store.pack()
        damage(store)

    return pack_first


def touch_all(store, name, content):
    (store.root / name).write_bytes(content)


def link_out(store):
    path, outside = store.root / "14/2.npy", store.root.parent / "elsewhere.npy"
    path.rename(outside)
    path.symlink_to(outside)


def be_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def keep_scores(store):
    path = store.root / "library-none.npz"
    np.savez(path, keys=np.array(["a"] * 100))
    return path


def seem_encrypted(path):
    flip(path, path.read_bytes().index(b"PK\x01\x02") + 8)


def compress_otherwise(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("keys.npy", b"a" * 1000)
    flip(path, 60)


# What is done to a store -> the names that must be found, and the tracks that a repair cannot give back.
DAMAGE = {
    "entry cut short": (lambda s: os.truncate(s.root / "14/2.npy", 230), {"14/2"}, {"14/2"}),
    "entry without its checksum": (
        lambda s: os.truncate(s.root / "14/2.npy", 192 + frames_of("14/2").nbytes), {"14/2"}, {"14/2"}),
    "entry empty": (lambda s: os.truncate(s.root / "14/2.npy", 0), {"14/2"}, {"14/2"}),
    "bit of an entry flipped": (lambda s: flip(s.root / "14/2.npy", 200), {"14/2"}, {"14/2"}),
    "entry of another shape": (
        lambda s: write_old_entry(s, "14/2", np.ones((3, 9), np.float32)), {"14/2"}, {"14/2"}),
    "entry of another type": (lambda s: write_old_entry(s, "14/2", np.ones((3, 4))), {"14/2"}, {"14/2"}),
    "entry with NaN": (
        lambda s: s.add("14/2", np.full((3, 4), np.nan, np.float32)), {"14/2"}, {"14/2"}),
    "no entry but text": (lambda s: touch_all(s, "14/2.npy", b"text"), {"14/2"}, {"14/2"}),
    "no entry but a FIFO": (lambda s: os.mkfifo(s.root / "pipe.npy"), {"pipe"}, {"pipe"}),
    "link to nothing": (lambda s: (s.root / "gone.npy").symlink_to("nowhere"), {"gone"}, {"gone"}),
    "link out of the store": (link_out, {"14/2"}, set()),
    "entries swapped": (lambda s: swap(s, "14/2", "48/948"), {"14/2", "48/948"}, set()),
    "entry renamed": (lambda s: (s.root / "14/2.npy").rename(s.root / "new.npy"), {"new"}, {"new"}),
    "entry renamed to what is no key": (
        lambda s: (s.root / "14/2.npy").rename(s.root / "a\\b.npy"), {"a\\b"}, set()),
    "entry copied over another": (
        lambda s: shutil.copy(s.root / "14/2.npy", s.root / "48/948.npy"), {"48/948"}, {"48/948"}),
    "entry of another store": (add_stranger, {"14/2"}, {"14/2"}),
    "manifest missing": (lambda s: (s.root / "store.json").unlink(), {"store.json"}, set()),
    "manifest cut short": (lambda s: os.truncate(s.root / "store.json", 40), {"store.json"}, set()),
    "manifest a pipe": (lambda s: be_pipe(s.root / "store.json"), {"store.json"}, set()),
    "manifest edited": (lambda s: replace_in(s.root / "store.json", "0.5", "0.25"), {"store.json"}, set()),
    "manifest of another store": (
        lambda s: touch_all(s, "store.json", format_manifest(replace(SPEC, dim=5))), {"store.json"}, set()),
    "list of failures torn": (
        lambda s: touch_all(s, "failures.tsv", b"key\terror\na\tb\nhalf"), {"failures.tsv"}, set()),
    "list of failures without its heading": (
        lambda s: touch_all(s, "failures.tsv", b"a\tb\n"), {"failures.tsv"}, set()),
    "list of failures of noise": (lambda s: touch_all(s, "failures.tsv", b"\xff\0\n\n"), {"failures.tsv"}, set()),
    "list of failures a pipe": (lambda s: be_pipe(s.root / "failures.tsv"), {"failures.tsv"}, set()),
    "draft of a killed writer": (leave_draft, {f".14-{'a' * 16}.tmp"}, set()),
    "scores damaged": (lambda s: touch_all(s, "library-none.npz", b"PK"), {"library-none.npz"}, set()),
    "scores a pipe": (lambda s: be_pipe(s.root / "library-none.npz"), {"library-none.npz"}, set()),
    "scores that seem encrypted": (lambda s: seem_encrypted(keep_scores(s)), {"library-none.npz"}, set()),
    "scores of another compression": (lambda s: compress_otherwise(keep_scores(s)), {"library-none.npz"}, set()),
    "packed frames a pipe": (pack_and(lambda s: be_pipe(s.root / "frames.npy")), {"frames.npy"}, set()),
    "index a pipe": (pack_and(lambda s: be_pipe(s.root / "index.tsv")), {"frames.npy"}, set()),
    "packed frames flipped": (
        pack_and(lambda s: flip(s.root / "frames.npy", 200)), {"14/2"}, set()),
    "packed frames' header flipped": (pack_and(lambda s: flip(s.root / "frames.npy", 180)), {"frames.npy"}, set()),
    "packed frames cut short": (
        pack_and(lambda s: os.truncate(s.root / "frames.npy", 300)), {"frames.npy"}, set()),
    "index flipped": (pack_and(lambda s: flip(s.root / "index.tsv", 20)), {"frames.npy"}, set()),
    "index missing": (pack_and(lambda s: (s.root / "index.tsv").unlink()), {"frames.npy"}, set()),
    "packed, then replaced": (
        pack_and(lambda s: s.add("14/2", np.ones((1, 4), np.float32))), {"14/2"}, set()),
    "entry gone that is packed": (pack_and(lambda s: (s.root / "14/2.npy").unlink()), {"14/2"}, set()),
    "entry flipped that is packed": (pack_and(lambda s: flip(s.root / "14/2.npy", 200)), {"14/2"}, set()),
    "entry cut short that is packed": (pack_and(lambda s: os.truncate(s.root / "14/2.npy", 9)), {"14/2"}, set()),
    "entry flipped, packed frames too": (
        pack_and(lambda s: (flip(s.root / "14/2.npy", 200), flip(s.root / "frames.npy", 200))), {"14/2"}, {"14/2"}),
    "entries swapped that are packed": (pack_and(lambda s: swap(s, "14/2", "48/948")), {"14/2", "48/948"}, set()),
    "manifest edited, and packed": (
        pack_and(lambda s: replace_in(s.root / "store.json", '"stub"', '"stab"')), {"store.json"}, set()),
}  # fmt: skip
