"""Stores that are damaged at random or copied by half: all of it is found, and what is repaired is what it was."""

import os
import random
import shutil
from collections import Counter

import numpy as np
from damaged_stores import KEYS, frames_of, make_store, state_of
from trying import memory_below

from jamendo_mood.library.scoring import score_store
from jamendo_mood.store.embedding_store import HEADER_BYTES, SEAL_BYTES, EmbeddingStore
from jamendo_mood.store.verification import repair_store, verify_store


def test_a_store_that_was_copied_by_half_is_known_for_one(amount, figure, tmp_path):
    store = make_store(tmp_path / "whole")
    content = (store.root / "14/2.npy").read_bytes()
    middle = HEADER_BYTES + frames_of("14/2").nbytes
    edges = [0, 1, 6, 10, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, middle - 1, middle, middle + 1, middle + 2]
    lengths = amount([*edges, *(len(content) - n for n in (SEAL_BYTES + 1, SEAL_BYTES, 2, 1))], range(len(content)))
    found = 0
    for length in lengths:
        (store.root / "14/2.npy").write_bytes(content[:length])
        found += [finding.name for finding in verify_store(store.root).findings] == ["14/2"]
    assert found == len(lengths)
    figure(
        "An entry of a store cut short, at each of its bytes",
        f"{len(lengths):,} lengths of {len(content):,} bytes",
        f"{found:,} of {len(lengths):,} named by `verify`",
    )


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
    draw, counts = random.Random(7), Counter()
    whole = make_full(tmp_path / "whole").root
    content = state_of(whole)
    kept = [name for name in content if name not in HARMLESS]
    for number in range(count := amount(50, 2_000)):
        root = tmp_path / "store"
        shutil.copytree(whole, root)
        if packed := number % 2:
            name = draw.choice(sorted(content))
        else:
            (root / "index.tsv").unlink()
            (root / "frames.npy").unlink()
            name = draw.choice(sorted(content.keys() - PACKED))
        place, bit = draw.randrange(len(content[name])), 1 << draw.randrange(8)
        path = root / name
        path.write_bytes(content[name][:place] + bytes([content[name][place] ^ bit]) + content[name][place + 1 :])
        found = verify_store(root).findings
        counts["found" if found else "not found", name in HARMLESS] += 1
        if not found:
            assert name in HARMLESS, (name, place, bit)
            assert name == "failures.tsv" or same_arrays(path, whole / name)
        repair = repair_store(root)
        assert repair.left.findings == ()
        counts["restored"] += packed and name.endswith(".npy") and not repair.lost
        store = EmbeddingStore(root)
        for key in {*KEYS} - set(store):
            store.add(key, frames_of(key))  # what `extract` does: the same track gives the same bytes
        if name in PACKED:
            store.pack()
        now = state_of(root)
        counts["identical"] += all(now[name] == content[name] for name in kept if packed or name not in PACKED)
        shutil.rmtree(root)
    assert counts["identical"] == count
    assert not counts["not found", False]
    checked, others = counts["found", False], counts["found", True] + counts["not found", True]
    known = checked + counts["not found", False]
    figure(
        "A bit flipped somewhere in a store",
        f"{count:,} flips",
        f"{checked:,} of {known:,} in entries, manifest and packed files found by `verify`; "
        f"{counts['found', True]:,} of {others:,} in the list of failures and in kept scores (the others changed a "
        f"text or a date, and no number); after `verify --repair`, and `extract` or `pack`, {counts['identical']:,} of "
        f"{count:,} stores were what they had been, byte by byte",
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
