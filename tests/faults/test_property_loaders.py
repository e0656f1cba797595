import json
import os
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, example, given
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
from jamendo_mood.tasks.kind import IDENTITY
from jamendo_mood.tasks.metrics import GRADES
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.files import read_columns, read_table

LONGEST_S = 30  # of one load; they take milliseconds
JUNK = (
    *("", " ", "nan", "-nan", "inf", "-1", "0", "1e999", "1e-400", "0x1p3", "1_000", "²", "٣", "９", "None", "null"),
    *('"', '""', "'", ",", ";", "\t", "\r", "\n", "\0", "\ufeff", "\u2028", "[", "{", "[]", "{}", '"a', "true", "-0"),
    *("../../etc/passwd", "/etc/passwd", "C:\\x", "~", "a/../b", ".mp3", "9" * 400, "y" * 140_000, "[" * 100_000),
)


def write_store(root):
    store = EmbeddingStore(root, EmbedderSpec("toy", "", 16_000, 0.96, 0.5, 3))
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
    replace(make_tagger(TASK), calibration=np.tile(IDENTITY, (len(TASK.targets), 1))).save(root / "tagger")
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


def read_data_set(name):
    def read(root):
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

    return read


CASES = {
    **{name: (WRITERS[name], read_data_set(name)) for name in DATASETS},
    "a store": (write_store, read_store),
    "a tagger": (write_tagger, read_tagger),
}


@pytest.fixture(scope="module")
def tried(figure):
    counts = Counter()
    yield counts
    figure(
        f"Files of {len(CASES)} kinds, damaged anyhow: data sets, stores, taggers, tables",
        f"{counts['refused'] + counts['taken']:,} files",
        f"{counts['refused']:,} refused in one line, {counts['taken']:,} taken (what was hit does not count, or makes "
        f"sense), at most {counts['slowest ms'] / 1000:.1f} s each",
    )


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
    place = st.integers(0, len(content))
    kind = draw(st.sampled_from(["bytes", "cut", "junk in", "cell", "line", "encoding", "all of it", "twice"]))
    if kind == "bytes":
        start = draw(place)
        return content[:start] + draw(st.binary(min_size=1, max_size=6)) + content[start + draw(st.integers(0, 8)) :]
    if kind == "cut":
        return content[: draw(place)]
    if kind == "junk in":
        start = draw(place)
        return content[:start] + draw(st.sampled_from(JUNK)).encode() + content[start:]
    if kind == "cell":
        sign = draw(st.sampled_from([b",", b"\t", b";", b'"', b"\n"]))
        cells = content.split(sign)
        cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(JUNK)).encode()
        return sign.join(cells)
    if kind == "line":
        lines = content.splitlines(keepends=True) or [b""]
        number = draw(st.integers(0, len(lines) - 1))
        return b"".join(
            lines[:number] + draw(st.sampled_from([[], 2 * lines[number : number + 1]])) + lines[number + 1 :]
        )
    if kind == "encoding":
        text = content.decode("latin-1")
        return draw(
            st.sampled_from([text.encode("utf-16"), text.encode("utf-8"), text.swapcase().encode("latin-1", "replace")])
        )
    return content * 2 if kind == "twice" else draw(st.binary(max_size=40))


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
    started = time.perf_counter()
    try:
        with refusing() as refused:
            read(root)
    finally:
        path.write_bytes(files[path])
    took_s = time.perf_counter() - started
    assert took_s < LONGEST_S
    tried["refused" if refused else "taken"] += 1
    tried["slowest ms"] = max(tried["slowest ms"], int(took_s * 1000))


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
def test_what_was_found_once_is_refused_or_not_needed(case, tried):
    """Each file missing, a folder, empty, with a quote that is never closed, in UTF-16, with an endless first cell."""
    root, files, read = case
    for path, content in files.items():
        path.unlink()
        with refusing():
            read(root)
        path.mkdir()
        with refusing():
            read(root)
        path.rmdir()
        for damaged in (b"", b'"' + content, content.decode("latin-1").encode("utf-16"), b"y" * 140_000 + content):
            path.write_bytes(damaged)
            with refusing() as refused:
                read(root)
            tried["refused" if refused else "taken"] += 1
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
    places = [(name,) for name in sound] + [
        (name, inner) for name, values in sound.items() if isinstance(values, dict) for inner in values
    ]

    @tries(60, 1_500)
    @given(where=st.sampled_from(places), value=values, gone=st.booleans())
    def check(where, value, gone):
        changed = json.loads(json.dumps(sound))
        inside = changed if len(where) == 1 else changed[where[0]]
        inside[where[-1]] = value
        if gone:
            del inside[where[-1]]
        path.write_text(json.dumps(changed))
        with refusing() as refused:
            read(tmp_path)
        tried["refused" if refused else "taken"] += 1

    check()


@tries(50, 2_000)
@given(content=st.binary(max_size=200) | st.text(max_size=60).map(str.encode), suffix=st.sampled_from([".csv", ".tsv"]))
def test_any_bytes_are_a_table_or_none(tmp_path_factory, tried, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    for read in (
        lambda: read_table(path, ()),
        lambda: read_table(path, ("a", "b")),
        lambda: read_columns(path, ("a",)),
    ):
        with refusing() as refused:
            read()
        tried["refused" if refused else "taken"] += 1


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
def tried_stores(figure):
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
def test_what_is_added_comes_out_bit_by_bit(tried_stores, tracks):
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(folder, tracks)
        for key, frames in tracks.items():
            store.add(key, frames[::-1] if key == "reversed" else frames)
        expected = bits_of(dict(tracks))
        assert bits_of(store) == bits_of(EmbeddingStore(folder)) == expected
        assert list(store) == sorted(tracks, key=lambda key: Path(folder, f"{key}.npy"))
        assert bits_of(store.pack()) == bits_of(PackedEmbeddings(folder)) == expected
        assert all(key in store for key in tracks)
    tried_stores["stores"] += 1
    tried_stores["numbers"] += sum(frames.size for frames in tracks.values())
    tried_stores["not finite"] += sum(int((~np.isfinite(frames)).sum()) for frames in tracks.values())


@tries(8, 150)
@given(tracks=stores(finite_bits))
@pytest.mark.thorough
def test_parquet_and_back_changes_no_bit(tried_stores, tracks):
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder, "store"), tracks)
        for key, frames in tracks.items():
            store.add(key, frames)
        export_parquet(store, Path(folder, "parquet"), shard_rows=2)
        import_parquet([Path(folder, "parquet")], Path(folder, "back"))
        back = EmbeddingStore(Path(folder, "back"))
        assert back.spec == store.spec
        assert bits_of(back) == bits_of(dict(tracks))
    tried_stores["stores"] += 1
    tried_stores["numbers"] += sum(frames.size for frames in tracks.values())


@tries(20, 600)
@given(key=anything)
@example("a" * 226)
@example("a" * 252)
@example("x.npy/song")
@example("frames.npy/song")
def test_a_key_is_taken_or_refused_and_then_nothing_is_written(tried_stores, key):
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
    tried_stores["refused" if refused else "keys"] += 1


@tries(40, 1_000)
@given(folders=st.lists(file_names, max_size=2), name=file_names, suffix=st.sampled_from([b"", b".mp3", b".low.mp3"]))
@example(folders=[], name=b"\xc3" * 251, suffix=b".mp3")
def test_the_key_of_any_file_is_a_key_or_refused(tried_stores, folders, name, suffix):
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
    tried_stores["refused" if refused else "keys"] += 1
