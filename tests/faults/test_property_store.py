"""Whatever a track is called and whatever its numbers are: what goes into a store comes out of it, or is refused."""

import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from trying import refusing, tries

from jamendo_mood.audio.decoding import key_of
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import EmbeddingStore, PackedEmbeddings
from jamendo_mood.store.parquet import export_parquet, import_parquet

LONGEST = 200  # bytes of a part of a key; file systems have room for 255
RESERVED = {"frames.npy", "index.tsv", "store.json", "failures.tsv"}  # below the root
ODD = ("..", ".", "", ".hidden", "frames", "store.json", "index.tsv", "a\\b", "C:", "~", "con", "nan", " ", "a\tb", "-")

letters = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/\\")
parts = st.text(letters, min_size=1, max_size=40).filter(
    lambda part: part[0] != "." and len(part.encode()) <= LONGEST and not part.endswith(".npy")
)
keys = st.lists(parts, min_size=1, max_size=3).map("/".join).filter(lambda key: not is_reserved(key))
anything = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=8), parts), max_size=4).map("/".join)
file_names = st.binary(min_size=1, max_size=255).filter(lambda name: not {*name} & {*b"/\0"})


def is_reserved(key):
    return f"{key}.npy".split("/")[0] in RESERVED


def stores(numbers):
    """What may be in a store: its embeddings by key, all of one width."""
    return st.integers(1, 5).flatmap(
        lambda dim: st.dictionaries(
            keys, nst.arrays(np.uint32, st.tuples(st.integers(1, 6), st.just(dim)), elements=numbers), min_size=1,
            max_size=3,
        )
    ).map(lambda found: {key: bits.view(np.float32) for key, bits in found.items()})  # fmt: skip


# -0.0, the least denormal, the greatest number, infinity, NaN of two payloads.
edges = st.sampled_from([0x8000_0000, 1, 0x7F7F_FFFF, 0xFF80_0000, 0x7FC0_0001, 0xFFFF_FFFF])
any_bits = st.one_of(edges, st.integers(0, 2**32 - 1))
finite_bits = any_bits.filter(lambda bits: bits & 0x7F80_0000 != 0x7F80_0000)


@pytest.fixture(scope="module")
def tried(figure):
    counts = Counter()
    yield counts
    figure(
        "Stores of any keys and numbers, written and read: as files, packed, through Parquet",
        f"{counts['stores']:,} stores, {counts['keys']:,} keys",
        f"{counts['numbers']:,} numbers, {counts['not finite']:,} of them NaN or infinite, came back bit by bit; "
        f"{counts['refused']:,} keys were refused in one line, and nothing was written for them",
    )


def make_store(folder, tracks):
    dim = next(iter(tracks.values())).shape[1]
    return EmbeddingStore(folder, EmbedderSpec("toy", "", 16_000, 0.96, 0.5, dim))


def bits_of(mapping):
    return {key: (frames.shape, frames.dtype, frames.tobytes()) for key, frames in mapping.items()}


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@tries(12, 400)
@given(tracks=stores(any_bits))
def test_what_is_added_comes_out_bit_by_bit(tried, tracks):
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(folder, tracks)
        for key, frames in tracks.items():
            store.add(key, frames[::-1] if key == "reversed" else frames)
        expected = bits_of(dict(tracks))
        assert bits_of(store) == bits_of(EmbeddingStore(folder)) == expected
        assert list(store) == sorted(tracks, key=lambda key: Path(folder, f"{key}.npy"))
        assert bits_of(store.pack()) == bits_of(PackedEmbeddings(folder)) == expected
        assert all(key in store for key in tracks)
    tried["stores"] += 1
    tried["numbers"] += sum(frames.size for frames in tracks.values())
    tried["not finite"] += sum(int((~np.isfinite(frames)).sum()) for frames in tracks.values())


@tries(8, 150)
@given(tracks=stores(finite_bits))
@pytest.mark.thorough
def test_parquet_and_back_changes_no_bit(tried, tracks):
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder, "store"), tracks)
        for key, frames in tracks.items():
            store.add(key, frames)
        export_parquet(store, Path(folder, "parquet"), shard_rows=2)
        import_parquet([Path(folder, "parquet")], Path(folder, "back"))
        back = EmbeddingStore(Path(folder, "back"))
        assert back.spec == store.spec
        assert bits_of(back) == bits_of(dict(tracks))
    tried["stores"] += 1
    tried["numbers"] += sum(frames.size for frames in tracks.values())


@tries(20, 600)
@given(key=anything)
@example("a" * 226)
@example("a" * 252)
@example("x.npy/song")
@example("frames.npy/song")
def test_a_key_is_taken_or_refused_and_then_nothing_is_written(tried, key):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "store")
        store = EmbeddingStore(root, EmbedderSpec("toy", "", 16_000, 0.96, 0.5, 1))
        before = tree(Path(folder))
        with refusing() as refused:
            assert key not in store
            store.add(key, np.ones((1, 1), np.float32))
        if refused:
            assert tree(Path(folder)) == before
            event("refused")
        else:
            assert list(store) == list(store.pack()) == [key]
            assert not {part for part in tree(Path(folder)) if not part.startswith("store")}
    tried["refused" if refused else "keys"] += 1


@tries(40, 1_000)
@given(folders=st.lists(file_names, max_size=2), name=file_names, suffix=st.sampled_from([b"", b".mp3", b".low.mp3"]))
@example(folders=[], name=b"\xc3" * 251, suffix=b".mp3")
def test_the_key_of_any_file_is_a_key_or_refused(tried, folders, name, suffix):
    names = [*folders, (name + suffix)[-255:]]
    path = "/".join(map(os.fsdecode, names))
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(folder, EmbedderSpec("toy", "", 16_000, 0.96, 0.5, 1))
        with refusing() as refused:
            key = key_of(path)
            assert key not in store
            store.record_failure(key, "a reason")
            assert store.failures() == {key: "a reason"}
            key.encode()  # it has a place in a table in UTF-8
    if refused:
        assert is_reserved(key) or any(part[0] == ord(".") or len(part) > LONGEST // 3 for part in names)
    tried["refused" if refused else "keys"] += 1
