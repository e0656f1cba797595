import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import psutil
import pytest

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store import parquet
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.store.parquet import METADATA_KEY, ParquetReport, export_parquet, import_parquet
from jamendo_mood.util.errors import StoreError, UsageError

pytest_plugins = ["toy_commands"]

arrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `parquet`")

SPEC = EmbedderSpec("stub", "ab" * 32, 16_000, 0.96, 0.48, 4, "a variant")
LENGTHS = {"14/2": 3, "48/948": 1, "48/949 (live)": 70, "Ångström - Ōkami 音楽": 2, "z": 5}
EXTREME = np.array([-0.0, 1e-45, np.finfo(np.float32).max, -np.finfo(np.float32).tiny], np.float32)
NOT_OURS = "not what `jamendo-mood export` writes"

PEAK = """
import resource
import sys
from pathlib import Path
from jamendo_mood.store import parquet
from jamendo_mood.store.embedding_store import EmbeddingStore

parquet.import_pyarrow()
parquet._ROW_GROUP_BYTES = 1_000_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # which is about what a reader begins with, too
what, source, target = sys.argv[1], *map(Path, sys.argv[2:])
if what == "export":
    parquet.export_parquet(EmbeddingStore(source), target)
else:
    parquet.import_parquet([source], target)
grown = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) - before
print(grown * (1 if sys.platform == "darwin" else 1024) // 1_000_000)
"""


@pytest.fixture
def store(tmp_path):
    made = EmbeddingStore(tmp_path / "store", SPEC)
    for number, (key, length) in enumerate(LENGTHS.items()):
        made.add(key, np.random.default_rng(number).standard_normal((length, SPEC.dim), dtype=np.float32))
    made.add("extreme", EXTREME.reshape(1, 4))
    return made


@pytest.fixture
def exported(store, tmp_path):
    export_parquet(store, tmp_path / "parquet", shard_rows=4)
    return tmp_path / "parquet"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def bits(store):
    return {key: store[key].tobytes() for key in store}


def rewrite(path, change):
    """Write a Parquet file anew, its table changed."""
    pq.write_table(change(pq.read_table(path)), path)


def with_rows(table, key=None, frames=None):
    """A table whose first row is another."""
    rows = table.to_pylist()
    rows[0] = {**rows[0], **({} if key is None else {"key": key})}
    if frames is not None:
        rows[0] |= {"embedding": frames, "times_s": [0.48 * number for number in range(len(frames))]}
    return arrow.Table.from_pylist(rows, schema=table.schema)


# ---- There and back.


@pytest.mark.parametrize(
    "size",
    [
        {"shard_rows": 4},
        *(
            pytest.param(size, marks=pytest.mark.thorough)
            for size in ({}, {"shard_rows": 1}, {"shard_rows": 6}, {"shard_mb": 1})
        ),
    ],
)
def test_the_round_trip_is_exact(store, tmp_path, size):
    told = []
    report = export_parquet(store, tmp_path / "parquet", **size, on_progress=lambda *counts: told.append(counts))
    assert (report.tracks, report.skipped, told[-1]) == (6, 0, (6, 6))
    assert len(names(tmp_path / "parquet")) == report.files == len(told)
    back = import_parquet([tmp_path / "parquet"], tmp_path / "back", on_progress=lambda *counts: told.append(counts))
    assert back == ParquetReport(6, 0, report.files)
    assert told[report.files :] == [(number, 6) for number in range(1, 7)]
    again = EmbeddingStore(tmp_path / "back")
    assert again.spec == SPEC
    assert bits(again) == bits(store)


def test_what_is_remarked_on_tracks_comes_along(store, tmp_path):
    remarks = {"z": "6 of 12 s could be decoded", "Ångström - Ōkami 音楽": "silent from beginning to end"}
    for key, remark in remarks.items():
        store.add(key, store[key], remark)
    export_parquet(store, tmp_path / "parquet", shard_rows=4)
    import_parquet([tmp_path / "parquet"], tmp_path / "again")
    again = EmbeddingStore(tmp_path / "again")
    assert again.remarks(again) == store.remarks(store) == remarks
    assert bits(again) == bits(store)


def test_files_have_as_many_megabytes_as_asked_for(tmp_path):
    store = EmbeddingStore(tmp_path / "store", replace(SPEC, dim=128))
    for number in range(10):
        store.add(f"{number}", np.zeros((700, 128), np.float32))  # 358 kB
    store.add("a long one", np.zeros((7_000, 128), np.float32))
    export_parquet(store, tmp_path / "parquet", shard_mb=1)
    rows = [pq.read_metadata(tmp_path / "parquet" / name).num_rows for name in names(tmp_path / "parquet")]
    assert rows == [2, 2, 2, 2, 2, 1]


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_store(tmp_path):
    store = EmbeddingStore(tmp_path / "store", replace(SPEC, dim=128))
    for number in range(300):
        store.add(f"{number}", np.random.default_rng(number).standard_normal((1_000, 128), dtype=np.float32))
    for step in (("export", store.root, tmp_path / "parquet"), ("import", tmp_path / "parquet", tmp_path / "back")):
        done = subprocess.run([sys.executable, "-c", PEAK, *map(str, step)], capture_output=True, text=True, check=True)
        assert int(done.stdout) < 100  # MB; the store has 154
    assert bits(EmbeddingStore(tmp_path / "back")) == bits(store)


# ---- What others read.


def test_the_columns_say_what_they_hold(store, exported):
    dataset = pytest.importorskip("pyarrow.dataset").dataset(exported)
    number = arrow.float32()
    assert names(exported) == [f"embeddings-0000{number}-of-00002.parquet" for number in range(2)]
    assert [pq.read_metadata(exported / name).num_rows for name in names(exported)] == [4, 2]
    assert dataset.schema.names == ["key", "times_s", "embedding"]
    assert dataset.schema.types == [arrow.string(), arrow.list_(number), arrow.list_(arrow.list_(number, 4))]
    table = dataset.to_table(columns=["key", "times_s"])
    assert dict(zip(*table.to_pydict().values(), strict=True)) == {key: store.times(key).tolist() for key in store}
    about = json.loads(dataset.schema.metadata[METADATA_KEY])
    assert about["embedder"]["name"] == "stub"
    assert about["embedder"]["hop_s"] == 0.48


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: pytest.importorskip("duckdb").sql(f"from '{folder}/*.parquet'").df(),
        lambda folder: pytest.importorskip("pandas").read_parquet(folder),
    ],
)
def test_others_read_it(read, store, exported):
    table = read(exported)
    assert sorted(table.key) == [*store]
    for key, frames, times_s in zip(table.key, table.embedding, table.times_s, strict=True):
        np.testing.assert_array_equal(np.stack(frames), store[key])
        np.testing.assert_array_equal(times_s, store.times(key))


# ---- Stopped, and started again.


def test_an_export_goes_on_where_it_stopped(store, exported):
    (first, second) = (exported / name for name in names(exported))
    kept, lost = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    (exported / f".{second.name}-0123456789abcdef.tmp").write_bytes(lost[:100])  # what a killed run leaves
    assert export_parquet(store, exported, shard_rows=4) == ParquetReport(2, 4, 2)
    assert first.stat().st_mtime_ns == kept
    assert second.read_bytes() == lost
    assert names(exported) == [first.name, second.name]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 and something else PAR1"])
def test_a_torn_file_is_written_again_and_one_whose_tracks_changed(store, exported, content):
    first, second = (exported / name for name in names(exported))
    whole, before = first.read_bytes(), second.read_bytes()
    first.write_bytes(content)
    assert export_parquet(store, exported, shard_rows=4) == ParquetReport(4, 2, 2)
    assert first.read_bytes() == whole
    store.add("z", np.ones((5, SPEC.dim), np.float32))  # as long as before
    assert export_parquet(store, exported, shard_rows=4) == ParquetReport(2, 4, 2)
    assert (first.read_bytes() == whole, second.read_bytes() == before) == (True, False)


def test_a_file_of_another_embedder_is_written_again(store, exported, tmp_path):
    other = EmbeddingStore(tmp_path / "other", replace(SPEC, variant=""))
    for key in store:
        other.add(key, store[key])
        os.utime(other.root / f"{key}.npy", ns=(0, (store.root / f"{key}.npy").stat().st_mtime_ns))
    assert export_parquet(other, exported, shard_rows=4) == ParquetReport(6, 0, 2)


def test_files_that_readers_would_take_for_this_export_are_refused(store, exported):
    with pytest.raises(UsageError, match=r"not of this export, such as embeddings-00000-of-00002\.parquet"):
        export_parquet(store, exported)
    assert len(names(exported)) == 2


def test_an_import_goes_on_where_it_stopped(store, exported, tmp_path):
    first, second = (exported / name for name in names(exported))
    assert import_parquet([first], tmp_path / "back") == ParquetReport(4, 0, 1)
    assert import_parquet([first, second], tmp_path / "back") == ParquetReport(2, 4, 2)
    assert bits(EmbeddingStore(tmp_path / "back")) == bits(store)


# ---- What cannot be done.


def test_an_empty_store_a_file_in_the_way_and_a_link_to_nothing_are_refused(store, tmp_path):
    with pytest.raises(UsageError, match="no embeddings to export"):
        export_parquet(EmbeddingStore(tmp_path / "empty", SPEC), tmp_path / "parquet")
    (tmp_path / "a file").touch()
    (store.root / "9.npy").symlink_to("/nowhere")
    with pytest.raises(StoreError, match=r"/9\.npy: cannot be read \(a link that leads nowhere\)"):
        export_parquet(store, tmp_path / "parquet")
    (store.root / "9.npy").unlink()
    with pytest.raises(StoreError, match="cannot be written"):
        export_parquet(store, tmp_path / "a file")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda store: (store.root / "z.npy").write_bytes(b"damaged"), r"z\.npy: .*delete it"),
        (lambda store: store.add("z", np.full((1, 4), np.nan, np.float32)), r"z\.npy: .*delete it"),
        (lambda store: (store.root / "z.npy").unlink(), "z went away"),
    ],
)
def test_a_track_that_cannot_be_read_stops_the_export(store, tmp_path, harm, message):
    with pytest.raises(StoreError, match=message):
        export_parquet(store, tmp_path / "parquet", shard_rows=4, on_progress=lambda *_: harm(store))
    assert names(tmp_path / "parquet") == ["embeddings-00000-of-00002.parquet"]


def test_missing_files_are_named(exported, tmp_path):
    (exported / "zz.parquet").symlink_to("nowhere")
    for path, message in (
        (tmp_path / "nosuch", "nosuch: no such file"),
        (tmp_path, "no Parquet files there"),
        (exported, r"zz\.parquet: no such file"),
    ):
        with pytest.raises(UsageError, match=message):
            import_parquet([path], tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.thorough
def test_every_flipped_byte_is_found_or_does_no_harm(store, exported, tmp_path):
    whole, right = (exported / names(exported)[0]).read_bytes(), bits(store)
    flipped = []
    for place in range(0, len(whole), 7):
        flipped.append(tmp_path / f"{place}.parquet")
        flipped[-1].write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
    footers = dict(zip(flipped, parquet.read_footers(flipped), strict=True))
    found = [str(footer) for footer in footers.values() if isinstance(footer, StoreError)]
    sound = [path for path, footer in footers.items() if not isinstance(footer, StoreError)]
    for said, numbers in parquet._ask(sound, SPEC):  # one process for all of them
        if "key" in said:
            assert right[said["key"]] == numbers.tobytes()
        found += [said["error"]] if "error" in said else []
    assert not any("\n" in message or "ended" in message for message in found)
    # What is not found is in the footer: statistics, offsets nobody needs, the spec's own text.
    assert len(found) > len(flipped) / 2


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("import os; os.abort()", "by SIGABRT"),
        pytest.param("sys.exit(3)", "with status 3", marks=pytest.mark.thorough),
        pytest.param("print('half a line', end='')", "with status 0", marks=pytest.mark.thorough),
        pytest.param('print(\'[{"what": "said"}, [3, 3]]\')', "with status 0", marks=pytest.mark.thorough),
    ],
)
def test_a_file_at_which_the_reader_dies_is_named_and_the_others_are_read(
    exported, tmp_path, monkeypatch, program, ended
):
    bad, whole = tmp_path / "bad.parquet", exported / names(exported)[0]
    bad.write_bytes(b"PAR1")
    usual = parquet._PROGRAM.replace("sys.stdin.buffer", "__import__('io').BytesIO(question)")
    dies = f"question = sys.stdin.buffer.read()\nif b'bad.parquet' in question:\n    {program}\n    sys.exit()\n"
    monkeypatch.setattr(parquet, "_PROGRAM", f"import sys\n{dies}{usual}")
    failed, footer = parquet.read_footers([bad, whole])
    assert str(failed) == f"{bad}: cannot be read (its reader was ended {ended})"
    assert footer.rows == 4
    with pytest.raises(StoreError, match=rf"bad\.parquet: cannot be read \(its reader was ended {ended}\)$"):
        import_parquet([bad, whole], tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_reader_ends_with_who_asks(exported):
    before = set(psutil.Process().children())  # such as a server of other tests
    tracks = parquet.read_tracks([exported / name for name in names(exported)], SPEC)
    next(tracks)
    assert set(psutil.Process().children()) - before
    tracks.close()
    assert not set(psutil.Process().children()) - before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not bounded")
@pytest.mark.thorough
def test_a_reader_that_wants_too_much_memory_is_told_of(exported, monkeypatch):
    monkeypatch.setattr(parquet, "MEMORY_BYTES", 50_000_000)
    (failed,) = parquet.read_footers([exported / names(exported)[0]])
    assert isinstance(failed, StoreError)


def test_what_is_no_parquet_is_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1\0\0\0\0PAR1")
    with pytest.raises(StoreError, match=r"x\.parquet: not a Parquet file, or damaged"):
        import_parquet([tmp_path / "x.parquet"], tmp_path / "back")


BAD_ROWS = [
    (lambda table: with_rows(table, frames=[[1.0, 2.0, 3.0, float("nan")]]), "'14/2' has no embedding"),
    (lambda table: with_rows(table, key="../escaped"), "cannot be the key"),
    (lambda table: table.set_column(1, "times_s", arrow.array([[0.0]] * 4)), "'14/2': times_s are not"),
    (lambda table: table.replace_schema_metadata(None), "does not say what made its embeddings"),
    (lambda table: table.drop_columns("embedding"), "not of the format"),
    (lambda table: with_rows(table, frames=[]), "'14/2' has no embedding"),
    (lambda table: with_rows(table, frames=[[1.0, 2.0, 3.0, None]]), "'14/2' has no embedding"),
    (lambda table: with_rows(table, frames=[None]), f"('14/2' has no embedding|{NOT_OURS})"),
    (lambda table: table.set_column(0, "key", arrow.array([1, 2, 3, 4])), "1 has no embedding"),
    (lambda table: table.set_column(2, "embedding", arrow.array([["text"]] * 4)), NOT_OURS),
    (lambda table: table.set_column(1, "times_s", arrow.array([[0.0, 1.0, 2.0]] * 4)), "'14/2': times_s are not"),
    (lambda table: table.set_column(1, "times_s", arrow.nulls(4, arrow.list_(arrow.float32()))), NOT_OURS),
    (
        lambda table: table.replace_schema_metadata({METADATA_KEY: table.schema.metadata[METADATA_KEY].replace(
            b'"format": 1', b'"format": 2')}),
        "not of the format",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"), [*BAD_ROWS[:4], *(pytest.param(*each, marks=pytest.mark.thorough) for each in BAD_ROWS[4:])]
)
def test_rows_that_are_no_embeddings_are_refused(exported, tmp_path, change, message):
    path = exported / names(exported)[0]
    rewrite(path, change)
    with pytest.raises(StoreError, match=rf"{path.name}.*{message}"):
        import_parquet([path], tmp_path / "back")
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.thorough
def test_a_file_that_was_written_anew_with_its_metadata_is_taken(store, exported, tmp_path):
    large = arrow.list_(arrow.list_(arrow.float32()))
    for name in names(exported):
        rewrite(exported / name, lambda table: table.drop_columns("times_s").cast(
            arrow.schema([("key", arrow.large_string()), ("embedding", large)], table.schema.metadata)))  # fmt: skip
    import_parquet([exported], tmp_path / "back")
    assert bits(EmbeddingStore(tmp_path / "back")) == bits(store)


@pytest.mark.thorough
def test_embedders_are_not_mixed(store, exported, tmp_path):
    other = EmbeddingStore(tmp_path / "other", replace(SPEC, weights_sha256="cd" * 32))
    other.add("a", store["z"])
    with pytest.raises(UsageError, match="is a store of"):
        import_parquet([exported], other.root)
    export_parquet(other, tmp_path / "others")
    with pytest.raises(UsageError, match="each into its own store"):
        import_parquet([exported, tmp_path / "others"], tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert list(other) == ["a"]


def test_other_numbers_for_a_track_are_refused(store, exported):
    store.add("z", np.ones((5, SPEC.dim), np.float32))
    with pytest.raises(UsageError, match="has z already, with other numbers"):
        import_parquet([exported], store.root)
    np.testing.assert_array_equal(store["z"], 1)


def test_without_pyarrow_it_says_what_brings_it(run, store, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for command in (("export", store.root, tmp_path / "p"), ("import", exported, "--store", tmp_path / "back")):
        outcome = run(*command)
        assert outcome.status == 2
        needs = "Parquet needs pyarrow: `pip install jamendo-mood[parquet]` brings it"
        assert outcome.err == f"jamendo-mood {command[0]}: {needs}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"store", "parquet"}
