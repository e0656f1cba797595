"""Stores that are damaged at random or copied by half: all of it is found, and what is repaired is what it was."""

import os
import random
import shutil

import numpy as np
from damaged_stores import KEYS, frames_of, make_store, state_of
from trying import memory_below

from jamendo_mood.library.similarity import score_store
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.store.verification import repair_store, verify_store


def test_a_store_that_was_copied_by_half_is_known_for_one(amount, figure, tmp_path):
    store = make_store(tmp_path / "whole")
    content = (store.root / "14/2.npy").read_bytes()
    lengths = range(0, len(content), amount(17, 1))
    for length in lengths:
        (store.root / "14/2.npy").write_bytes(content[:length])
        assert [finding.name for finding in verify_store(store.root).findings] == ["14/2"], length
    figure("An entry of a store cut short, at each of its bytes", f"{len(lengths):,} lengths", "all named by `verify`")


def make_full(root):
    """A store with all that can be in it."""
    store = make_store(root)
    store.record_failure("no", "sound")
    store.record_failure("too", "short")
    score_store(store, None)
    store.pack()
    return store


PACKED = {"frames.npy", "index.tsv"}
HARMLESS = {"failures.tsv", "library-none.npz"}
"""What has no checksum of ours: a text for people, and a cache with zip's own checksums."""


def same_arrays(one, other):
    with np.load(one) as mine, np.load(other) as theirs:
        return mine.files == theirs.files and all(np.array_equal(mine[name], theirs[name]) for name in mine.files)


def test_random_damage_is_found_and_mended(amount, figure, tmp_path):
    draw, harmless, harmless_found = random.Random(7), 0, 0
    whole = make_full(tmp_path / "whole").root
    content = state_of(whole)
    kept = [name for name in content if name not in HARMLESS]
    count = amount(50, 2_000)
    for number in range(count):
        root = tmp_path / "store"
        shutil.copytree(whole, root)
        packed = number % 2
        for each in PACKED if not packed else ():
            (root / each).unlink()
        name = draw.choice(sorted(content if packed else content.keys() - PACKED))
        place, bit = draw.randrange(len(content[name])), 1 << draw.randrange(8)
        path = root / name
        path.write_bytes(content[name][:place] + bytes([content[name][place] ^ bit]) + content[name][place + 1 :])
        found = verify_store(root).findings
        harmless += name in HARMLESS
        harmless_found += bool(found) and name in HARMLESS
        if not found:
            assert name in HARMLESS, (name, place, bit)
            assert name == "failures.tsv" or same_arrays(path, whole / name)
        assert repair_store(root).left.findings == ()
        store = EmbeddingStore(root)
        for key in {*KEYS} - set(store):
            store.add(key, frames_of(key))  # what `extract` does: the same track gives the same bytes
        if name in PACKED:
            store.pack()
        now = state_of(root)
        assert [each for each in kept if (packed or each not in PACKED) and now[each] != content[each]] == []
        shutil.rmtree(root)
    figure(
        "A bit flipped somewhere in a store",
        f"{count:,} flips",
        f"all {count - harmless:,} in entries, manifest and packed files found by `verify`; {harmless_found:,} of "
        f"{harmless:,} in the list of failures and in kept scores (others changed a text or a date, and no number); "
        "after `verify --repair`, and `extract` or `pack`, all stores were what they had been, byte by byte",
    )


def test_files_without_end_are_found_and_set_aside(tmp_path):
    whole = make_full(tmp_path / "whole").root
    for name in state_of(whole):
        root = tmp_path / "store"
        shutil.copytree(whole, root)
        os.truncate(root / name, 1 << 40)  # a hole: it takes no room
        with memory_below(50_000_000):
            found, repair = verify_store(root).findings, repair_store(root)
        assert {finding.name for finding in found} == {
            "frames.npy" if name in PACKED else name.removesuffix(".npy") if name.endswith(".npy") else name
        }
        assert repair.left.findings == ()
        assert set(EmbeddingStore(root)) == {*KEYS}
        shutil.rmtree(root)
