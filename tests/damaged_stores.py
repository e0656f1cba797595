"""A store, and all that is done to stores to see whether `verification` finds it and `repair` mends it."""

import os
import shutil
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


def entry(store, key="14/2"):
    return store.root / f"{key}.npy"


def swap(store, one="14/2", other="48/948"):
    aside = store.root / "aside"
    entry(store, one).rename(aside)
    entry(store, other).rename(entry(store, one))
    aside.rename(entry(store, other))


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def add_stranger(store):
    other = make_store(store.root.parent / "other", OTHER_SPEC, ["14/2"])
    shutil.copy(entry(other), entry(store))


def replace_in(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def pack_and(damage):
    return lambda store: (store.pack(), damage(store))


def write(store, name, content):
    (store.root / name).write_bytes(content)


def link_out(store):
    outside = store.root.parent / "elsewhere.npy"
    entry(store).rename(outside)
    entry(store).symlink_to(outside)


def be_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def seem_encrypted(path):
    flip(path, path.read_bytes().index(b"PK\x01\x02") + 8)


DRAFT = f".14-{'a' * 16}.tmp"
ONE, NONE = {"14/2"}, set()
DAMAGE = {
    "entry cut short": (lambda s: os.truncate(entry(s), 230), ONE, ONE),
    "entry without its checksum": (lambda s: os.truncate(entry(s), 192 + frames_of("14/2").nbytes), ONE, ONE),
    "entry empty": (lambda s: os.truncate(entry(s), 0), ONE, ONE),
    "bit of an entry flipped": (lambda s: flip(entry(s), 200), ONE, ONE),
    "entry of another shape": (lambda s: write_old_entry(s, "14/2", np.ones((3, 9), np.float32)), ONE, ONE),
    "entry of another type": (lambda s: write_old_entry(s, "14/2", np.ones((3, 4))), ONE, ONE),
    "entry with NaN": (lambda s: s.add("14/2", np.full((3, 4), np.nan, np.float32)), ONE, ONE),
    "no entry but text": (lambda s: write(s, "14/2.npy", b"text"), ONE, ONE),
    "no entry but a FIFO": (lambda s: os.mkfifo(entry(s, "pipe")), {"pipe"}, {"pipe"}),
    "link to nothing": (lambda s: entry(s, "gone").symlink_to("nowhere"), {"gone"}, {"gone"}),
    "link to itself": (lambda s: entry(s, "gone").symlink_to("gone.npy"), {"gone"}, {"gone"}),
    "link out of the store": (link_out, ONE, NONE),
    "entries swapped": (swap, {"14/2", "48/948"}, NONE),
    "entry renamed": (lambda s: entry(s).rename(entry(s, "new")), {"new"}, {"new"}),
    "entry renamed to what is no key": (lambda s: entry(s).rename(entry(s, "a\\b")), {"a\\b"}, NONE),
    "entry copied over another": (lambda s: shutil.copy(entry(s), entry(s, "48/948")), {"48/948"}, {"48/948"}),
    "entry of another store": (add_stranger, ONE, ONE),
    "manifest missing": (lambda s: (s.root / "store.json").unlink(), {"store.json"}, NONE),
    "manifest cut short": (lambda s: os.truncate(s.root / "store.json", 40), {"store.json"}, NONE),
    "manifest a pipe": (lambda s: be_pipe(s.root / "store.json"), {"store.json"}, NONE),
    "manifest edited": (lambda s: replace_in(s.root / "store.json", "0.5", "0.25"), {"store.json"}, NONE),
    "manifest of another store": (
        lambda s: write(s, "store.json", format_manifest(replace(SPEC, dim=5))), {"store.json"}, NONE),
    "list of failures torn": (
        lambda s: write(s, "failures.tsv", b"key\terror\na\tb\nhalf"), {"failures.tsv"}, NONE),
    "list of failures without its heading": (lambda s: write(s, "failures.tsv", b"a\tb\n"), {"failures.tsv"}, NONE),
    "list of failures of noise": (lambda s: write(s, "failures.tsv", b"\xff\0\n\n"), {"failures.tsv"}, NONE),
    "list of failures a pipe": (lambda s: be_pipe(s.root / "failures.tsv"), {"failures.tsv"}, NONE),
    "draft of a killed writer": (lambda s: write(s, DRAFT, b"half"), {DRAFT}, NONE),
    "scores damaged": (lambda s: write(s, "library-none.npz", b"PK"), {"library-none.npz"}, NONE),
    "scores a pipe": (lambda s: be_pipe(s.root / "library-none.npz"), {"library-none.npz"}, NONE),
    "packed frames a pipe": (pack_and(lambda s: be_pipe(s.root / "frames.npy")), {"frames.npy"}, NONE),
    "index a pipe": (pack_and(lambda s: be_pipe(s.root / "index.tsv")), {"frames.npy"}, NONE),
    "packed frames flipped": (pack_and(lambda s: flip(s.root / "frames.npy", 200)), ONE, NONE),
    "packed frames' header flipped": (pack_and(lambda s: flip(s.root / "frames.npy", 180)), {"frames.npy"}, NONE),
    "packed frames cut short": (pack_and(lambda s: os.truncate(s.root / "frames.npy", 300)), {"frames.npy"}, NONE),
    "index flipped": (pack_and(lambda s: flip(s.root / "index.tsv", 20)), {"frames.npy"}, NONE),
    "index missing": (pack_and(lambda s: (s.root / "index.tsv").unlink()), {"frames.npy"}, NONE),
    "packed, then replaced": (pack_and(lambda s: s.add("14/2", np.ones((1, 4), np.float32))), ONE, NONE),
    "entry gone that is packed": (pack_and(lambda s: entry(s).unlink()), ONE, NONE),
    "entry flipped that is packed": (pack_and(lambda s: flip(entry(s), 200)), ONE, NONE),
    "entry cut short that is packed": (pack_and(lambda s: os.truncate(entry(s), 9)), ONE, NONE),
    "entry flipped, packed frames too": (
        pack_and(lambda s: (flip(entry(s), 200), flip(s.root / "frames.npy", 200))), ONE, ONE),
    "entries swapped that are packed": (pack_and(swap), {"14/2", "48/948"}, NONE),
    "manifest edited, and packed": (
        pack_and(lambda s: replace_in(s.root / "store.json", '"stub"', '"stab"')), {"store.json"}, NONE),
}  # fmt: skip
"""What is done to a store, the names that must be found, and the tracks that a repair cannot give back."""
