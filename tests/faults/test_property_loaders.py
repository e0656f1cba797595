"""Data sets, stores, taggers and tables of any content: read, or refused in one line; and what is stored comes back."""

import functools
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from test_loaders import WRITERS
from toy_examples import TASK, make_tagger
from trying import refusing, tries

from jamendo_mood.audio.decoding import key_of
from jamendo_mood.datasets import DATASETS, load_dataset
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import EmbeddingStore, PackedEmbeddings
from jamendo_mood.store.parquet import export_parquet, import_parquet
from jamendo_mood.tasks.metrics import GRADES
from jamendo_mood.training.model import Tagger

LONGEST_S = 30  # of one load; they take milliseconds
JUNK = (
    *("", " ", "nan", "-nan", "inf", "-1", "0", "1e999", "1e-400", "0x1p3", "1_000", "²", "٣", "９", "None", "null"),
    *('"', '""', "'", ",", ";", "\t", "\r", "\n", "\0", "\ufeff", "\u2028", "[", "{", "[]", "{}", '"a', "true", "-0"),
    *("../../etc/passwd", "/etc/passwd", "C:\\x", "~", "a/../b", ".mp3", "9" * 400, "y" * 140_000, "[" * 100_000),
)


def write_store(root):
    store = make_store(root, 3)
    for number in range(3):
        store.add(f"{number}/a", np.full((number + 1, 3), number, np.float32))
    store.record_failure("9/z", "no sound in it")
    store.pack()
    return root


def read_store(root):
    store = EmbeddingStore(root)
    assert isinstance(store.spec.dim, int)
    assert store.spec.dim > 0
    assert str(store.spec)
    assert np.isfinite(store.spec.times_s(3)).all()
    for kind in (store, PackedEmbeddings(root)):
        for frames in kind.values():
            assert frames.dtype == np.float32
            assert frames.shape[1:] == (store.spec.dim,)
    for key, error in store.failures().items():
        assert key not in store
        assert isinstance(error, str)


def write_tagger(root):
    make_tagger(TASK).save(root / "tagger")
    (root / "tagger/README.md").unlink()  # which nothing reads
    return root


def read_tagger(root):
    tagger = Tagger.load(root / "tagger")
    count = len(tagger.task.targets)
    assert tagger.calibration.shape[0] == len(tagger.thresholds) == len(tagger.grades) == count
    assert set(tagger.grades) <= set(GRADES)
    assert str(tagger.spec)
    assert not np.isnan(tagger.thresholds).any()
    assert np.isfinite(tagger.calibration).all()
    for of_record in (tagger.record, tagger.scores, tagger.intervals):
        dict(of_record)


def read_data_set(name, root):
    dataset = load_dataset(name, root)
    assert len(dataset.tracks) == len(dataset.targets)
    assert np.isfinite(dataset.targets).all()
    low, high = dataset.task.scale or (0.0, 1.0)
    assert ((dataset.targets >= low) & (dataset.targets <= high)).all()
    rows = np.concatenate([dataset.rows(part) for part in dataset.parts])
    assert sorted(rows) == list(range(len(dataset.tracks)))
    if name in ("own", "own-files", "mirex"):  # whose keys are checked
        assert len({track.key for track in dataset.tracks}) == len(dataset.tracks)
    for remark in dataset.remarks:
        assert "\n" not in remark
    for track in dataset.tracks if dataset.embeddings is not None else ():
        if track.key in dataset.embeddings:
            assert dataset.embeddings[track.key].dtype == np.float32


CASES = {
    **{name: (WRITERS[name], functools.partial(read_data_set, name)) for name in DATASETS},
    "a store": (write_store, read_store),
    "a tagger": (write_tagger, read_tagger),
}


FIGURES = [
    (
        f"Files of {len(CASES)} kinds, damaged anyhow: data sets, stores, taggers, tables",
        "{files:,} files",
        "{refused:,} refused in one line (of the others what was hit does not count, or makes sense), at most "
        "{slowest_s:.1f} s each",
    ),
    (
        "Stores of any keys and numbers, written and read: as files, packed, through Parquet",
        "{stores:,} stores, {keys:,} keys",
        "{numbers:,} numbers, {not_finite:,} of them NaN or infinite, came back bit by bit; {refused_keys:,} keys were "
        "refused in one line, and nothing was written for them",
    ),
]


def try_to_read(read, root, tried):
    """Soon it is read, or refused in one line."""
    started = time.perf_counter()
    with refusing() as refused:
        read(root)
    took_s = time.perf_counter() - started
    assert took_s < LONGEST_S
    tried["files"] += 1
    tried["refused"] += bool(refused)
    tried["slowest_s"] = max(tried["slowest_s"], took_s)


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A folder in order, what its files are, and what reads it."""
    write, read = CASES[request.param]
    root = write(tmp_path_factory.mktemp("case"))
    files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    read(root)
    return root, files, read


def damage(draw, content):
    """Something is wrong with a file: bits, bytes, lines, cells, its encoding, its end."""
    junk = st.sampled_from(JUNK).map(str.encode)
    kind = draw(st.sampled_from(["bytes", "piece", "encoding", "all of it"]))
    if kind == "bytes":
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, start + 8) | st.just(len(content)))
        return content[:start] + draw(st.binary(max_size=6) | junk) + content[end:]
    if kind == "piece":
        sign = draw(st.sampled_from([b",", b"\t", b";", b'"', b"\n"]))
        pieces = content.split(sign)
        number = draw(st.integers(0, len(pieces) - 1))
        pieces[number : number + 1] = draw(st.sampled_from([[], 2 * [pieces[number]]]) | junk.map(lambda one: [one]))
        return sign.join(pieces)
    if kind == "encoding":
        return content.decode("latin-1").encode(draw(st.sampled_from(["utf-16", "utf-8"])))
    return draw(st.just(content * 2) | st.binary(max_size=40))


# numpy tries a header again as one of Python 2, and warns of it.
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
@tries(12, 400)
@given(data=st.data())
def test_damaged_files_are_refused_in_one_line_or_make_sense(case, tried, data):
    root, files, read = case
    path = data.draw(st.sampled_from(list(files)))
    content = damage(data.draw, files[path])
    if data.draw(st.booleans()):
        content = damage(data.draw, content)
    path.write_bytes(content)
    try:
        try_to_read(read, root, tried)
    finally:
        path.write_bytes(files[path])


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
def test_what_was_found_once_is_refused_or_not_needed(case, tried):
    """Each file missing, a folder, empty, with a quote that is never closed, in UTF-16, with an endless first cell."""
    root, files, read = case
    for path, content in files.items():
        path.unlink()
        try_to_read(read, root, tried)
        path.mkdir()
        try_to_read(read, root, tried)
        path.rmdir()
        for damaged in (b"", b'"' + content, content.decode("latin-1").encode("utf-16"), b"y" * 140_000 + content):
            path.write_bytes(damaged)
            try_to_read(read, root, tried)
        path.write_bytes(content)


plain = st.sampled_from([None, True, False, 0, -1, 2**70, 1.5, float("nan"), float("inf"), "", "a\n", "vggish"])
inner = plain | st.lists(plain, max_size=3) | st.dictionaries(st.sampled_from(["a", "dim"]), plain, max_size=3)
values = inner | st.lists(inner, max_size=3)


@pytest.mark.parametrize(
    ("place", "write", "read"),
    [("store.json", write_store, read_store), ("tagger/tagger.json", write_tagger, read_tagger)],
)
def test_other_values_in_a_manifest_are_refused_or_make_sense(place, write, read, tried, tmp_path):
    """JSON that is fine as such, with one value in it replaced by any other, or left out."""
    write(tmp_path)
    path = tmp_path / place
    sound = json.loads(path.read_text())
    nested = [(name, each) for name, value in sound.items() if isinstance(value, dict) for each in value]
    places = [(name,) for name in sound] + nested

    @tries(60, 1_500)
    @given(where=st.sampled_from(places), value=values, gone=st.booleans())
    def check(where, value, gone):
        changed = json.loads(json.dumps(sound))
        inside = changed if len(where) == 1 else changed[where[0]]
        inside[where[-1]] = value
        if gone:
            del inside[where[-1]]
        path.write_text(json.dumps(changed))
        try_to_read(read, tmp_path, tried)

    check()


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


def make_store(folder, dim=1):
    return EmbeddingStore(folder, EmbedderSpec("toy", "", 16_000, 0.96, 0.5, dim))


def fill_store(folder, tracks, tried):
    store = make_store(folder, next(iter(tracks.values())).shape[1])
    for key, frames in tracks.items():
        store.add(key, frames)
    tried["stores"] += 1
    tried["numbers"] += sum(frames.size for frames in tracks.values())
    return store


def bits_of(mapping):
    return {key: (frames.shape, frames.dtype, frames.tobytes()) for key, frames in mapping.items()}


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@tries(12, 400)
@given(tracks=stores(any_bits))
def test_what_is_added_comes_out_bit_by_bit(tried, tracks):
    with tempfile.TemporaryDirectory() as folder:
        store, expected = fill_store(folder, tracks, tried), bits_of(tracks)
        assert bits_of(store) == bits_of(EmbeddingStore(folder)) == expected
        assert list(store) == sorted(tracks, key=lambda key: Path(folder, f"{key}.npy"))
        assert bits_of(store.pack()) == bits_of(PackedEmbeddings(folder)) == expected
        assert all(key in store for key in tracks)
    tried["not_finite"] += sum(int((~np.isfinite(frames)).sum()) for frames in tracks.values())


@tries(8, 150)
@given(tracks=stores(finite_bits))
@pytest.mark.thorough
def test_parquet_and_back_changes_no_bit(tried, tracks):
    with tempfile.TemporaryDirectory() as folder:
        store = fill_store(Path(folder, "store"), tracks, tried)
        export_parquet(store, Path(folder, "parquet"), shard_rows=2)
        import_parquet([Path(folder, "parquet")], Path(folder, "back"))
        back = EmbeddingStore(Path(folder, "back"))
        assert back.spec == store.spec
        assert bits_of(back) == bits_of(tracks)


@tries(20, 600)
@given(key=anything)
@example("a" * 226)
@example("a" * 252)
@example("x.npy/song")
@example("frames.npy/song")
def test_a_key_is_taken_or_refused_and_then_nothing_is_written(tried, key):
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder, "store"))
        before = tree(Path(folder))
        with refusing() as refused:
            assert key not in store
            store.add(key, np.ones((1, 1), np.float32))
        if refused:
            assert tree(Path(folder)) == before
        else:
            assert list(store) == list(store.pack()) == [key]
            assert not {part for part in tree(Path(folder)) if not part.startswith("store")}
    tried["refused_keys" if refused else "keys"] += 1


@tries(40, 1_000)
@given(folders=st.lists(file_names, max_size=2), name=file_names, suffix=st.sampled_from([b"", b".mp3", b".low.mp3"]))
@example(folders=[], name=b"\xc3" * 251, suffix=b".mp3")
def test_the_key_of_any_file_is_a_key_or_refused(tried, folders, name, suffix):
    names = [*folders, (name + suffix)[-255:]]
    path = "/".join(map(os.fsdecode, names))
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(folder)
        with refusing() as refused:
            key = key_of(path)
            assert key not in store
            store.record_failure(key, "a reason")
            assert store.failures() == {key: "a reason"}
            key.encode()  # it has a place in a table in UTF-8
    if refused:
        assert is_reserved(key) or any(part[0] == ord(".") or len(part) > LONGEST // 3 for part in names)
    tried["refused_keys" if refused else "keys"] += 1
