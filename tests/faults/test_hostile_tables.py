"""Tables, Parquet files and TFLite files from a stranger, and names that lead out of a folder."""

import itertools
import json
import time

import numpy as np
import pytest
from toy_examples import SPEC
from trying import memory_below, refusing

from jamendo_mood.datasets import own
from jamendo_mood.datasets.dataset import Track
from jamendo_mood.datasets.jamendo import COLUMNS, QUALITIES, read_list, read_tracks
from jamendo_mood.embedders import checkpoints
from jamendo_mood.store.embedding_store import check_key
from jamendo_mood.store.parquet import METADATA_KEY, import_parquet, read_footers
from jamendo_mood.util.errors import DataError, StoreError
from jamendo_mood.util.plaintext import MAX_TABLE_BYTES, read_columns, read_table

pytest_plugins = ["toy_commands"]

OUTSIDE = ["/etc/passwd.mp3", "../../etc/passwd.mp3", "a/../../b.mp3", "..", "a\0b.mp3"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_track_lies_outside_the_folder(path):
    with pytest.raises(DataError, match="below the audio folder"):
        Track("1", path, None, "a")


@pytest.mark.parametrize("path", ["a/..b.mp3", "...mp3", "a b/c..d.mp3", "-rf.mp3", "~/a.mp3", "C:/a.mp3"])
def test_names_that_only_look_like_it_are_names(path):
    assert Track("1", path, None, "a").audio == path


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_out_of_mtgs_table_is_told_with_its_line(tmp_path, path):
    row = ["track_1", "artist_1", "album_1", path, "30.0", "mood/theme---happy"]
    (tmp_path / "tracks.tsv").write_text("\t".join(COLUMNS) + "\n" + "\t".join(row) + "\n")
    with refusing() as said:
        read_tracks(tmp_path / "tracks.tsv")
    assert "tracks.tsv, line 2" in said[0]


@pytest.mark.parametrize("path", [*OUTSIDE, r"..\..\a.mp3", r"C:\a.mp3", r"\\server\a.mp3", "a.exe"])
def test_a_path_that_leads_out_of_ones_own_table_is_told(tmp_path, path):
    (tmp_path / "own.csv").write_text(f"path,tags\n{path},happy\nb.mp3,sad\n")
    with refusing() as said:
        own.load(tmp_path / "own.csv")
    assert "own.csv, line 2" in said[0]


TABLES = {
    "NUL": b"a,b\n1,\0\n",
    "a field of a million letters": b"a,b\n1," + b"x" * 10**6 + b"\n",
    "a quote that is never closed": b'a,b\n1,"' + b"x\n" * 200_000,
    "a row of a million cells more": b"a,b\n1" + b"," * 10**6 + b"\n",
    "a row without cells": b"a,b\n1\n",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(100),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("read", [read_columns, read_table])
def test_a_table_of_any_bytes_is_read_or_one_line(tmp_path, name, read):
    path = tmp_path / "table.csv"
    path.write_bytes(TABLES[name])
    started = time.perf_counter()
    with refusing() as said:
        read(path, ("a", "b"))
    assert time.perf_counter() - started < 10
    assert all("table.csv" in message for message in said)
    assert said or name in ("a row of a million cells more", "a row without cells", "a program")


def test_a_table_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("wb") as file:
        file.truncate(100 * MAX_TABLE_BYTES)
    with memory_below(3 * MAX_TABLE_BYTES), refusing() as said:
        read_table(path, ("a",))
    assert "more than 64,000,000 bytes" in said[0]


def test_labels_that_would_fill_memory_are_refused(tmp_path):
    rows = "".join(f"{n}.mp3,tag{n}\n" for n in range(20_000))
    (tmp_path / "own.csv").write_text(f"path,tags\n{rows}")
    with refusing() as said:
        own.load(tmp_path / "own.csv")
    assert "too many" in said[0]


def test_checksums_name_no_place_outside(tmp_path):
    """What a list of MTG's names is flattened before it is a file in the scratch folder, and refused as a key."""
    (tmp_path / QUALITIES["low"].checksums_name).write_text(f"{'0' * 64} ../../etc/cron.d/x.low.mp3\n")
    ((key, _),) = read_list(QUALITIES["low"], tmp_path / "tracks.tsv").items()
    with refusing() as said:
        check_key(key)
    assert said


# ---- Parquet

arrow = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402


def about(**changes):
    values = {"format": 1, "embedder": {**SPEC.__dict__, **changes}, "entries": ""}
    return {METADATA_KEY: json.dumps(values).encode()}


def table(keys, rows, metadata=None, **more):
    times = [SPEC.times_s(len(frames)).tolist() for frames in rows]
    kind = arrow.list_(arrow.list_(arrow.float32(), 4))
    columns = {"key": arrow.array(keys), "times_s": arrow.array(times, arrow.list_(arrow.float32()))}
    made = arrow.table({**columns, "embedding": arrow.array(rows, kind), **more})
    return made.replace_schema_metadata(metadata or about())


KEYS = ("", "/a", "a//b", "..", "a/../b", "a/./b", ".a", "a\0b", "a\nb", r"a\b", "frames", "a" * 5000)
ONE = [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize("key", ["../a", *(pytest.param(key, marks=pytest.mark.thorough) for key in KEYS)])
def test_a_key_that_leads_out_of_a_store_is_not_imported(tmp_path, key, run):
    pq.write_table(table([key], [ONE]), tmp_path / "a.parquet")
    found = run("import", tmp_path / "a.parquet", "--store", tmp_path / "store")
    assert (found.status, found.err.count("\n")) == (2, 1)
    assert not list((tmp_path / "store").rglob("*.npy"))
    assert {path.name for path in tmp_path.iterdir()} <= {"a.parquet", "store"}


@pytest.mark.parametrize(
    "metadata",
    [
        *(about(**change) for change in ({"dim": 10**9}, {"hop_s": 0}, {"hop_s": "x"}, {"name": "\x1b[2J"})),
        *({METADATA_KEY: text} for text in (b"[" * 100_000, b"\x80\x04K\x01.")),
    ],
)
def test_metadata_that_make_no_sense_are_one_line(tmp_path, metadata):
    pq.write_table(table(["a"], [ONE], metadata), tmp_path / "a.parquet")
    with refusing() as said:
        import_parquet([tmp_path / "a.parquet"], tmp_path / "store")
    assert said
    assert not (tmp_path / "store").exists()


@pytest.mark.thorough
def test_a_row_of_zeros_that_takes_next_to_nothing_on_disk_is_not_inflated(tmp_path, figure):
    frames = arrow.FixedSizeListArray.from_arrays(arrow.array(np.zeros(20_000_000, np.float32)), 4)
    made = arrow.table({"key": ["a"], "embedding": arrow.ListArray.from_arrays([0, len(frames)], frames)})
    path = tmp_path / "bomb.parquet"
    pq.write_table(made.replace_schema_metadata(about()), path, compression="zstd")
    with refusing() as said:
        import_parquet([path], tmp_path / "store")
    assert "too large for what it is" in said[0]
    size = path.stat().st_size / 1e3
    figure(f"a Parquet file of {size:.0f} kB with one track of 80 MB is refused", 1, "before it is read")


def test_columns_that_are_not_ours_are_never_read(tmp_path):
    made = table(["a"], [ONE], extra=arrow.array(["x" * 1000]))
    pq.write_table(made, tmp_path / "a.parquet")
    assert import_parquet([tmp_path / "a.parquet"], tmp_path / "store").tracks == 1


@pytest.mark.thorough
def test_bits_of_a_parquet_file_that_are_flipped_are_one_line(tmp_path, amount, figure):
    """Where Arrow aborts at a footer, too: that ends its own process, and not this one."""
    pq.write_table(table(["a", "b"], [ONE * 3, ONE]), tmp_path / "a.parquet")
    content, rng = (tmp_path / "a.parquet").read_bytes(), np.random.default_rng(0)
    paths = [tmp_path / f"{number}.parquet" for number in range(amount(100, 20_000))]
    for path in paths:
        broken = bytearray(content)
        broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
    told = {path: str(e) for path, e in zip(paths, read_footers(paths), strict=True) if isinstance(e, StoreError)}
    assert all(str(path) in said and "\n" not in said for path, said in told.items())
    aborted = [path for path, said in told.items() if "its reader was ended" in said]
    for path in [*aborted[:20], *paths[: amount(10, 200)]]:
        with refusing():
            import_parquet([path], path.with_suffix(""))
    said = f"{len(told)} footers refused; at {len(aborted)} of them Arrow aborted its own process, and no other"
    figure("A bit of a Parquet file flipped", len(paths), said)


# ---- TFLite


@pytest.fixture(scope="module")
def tiny():
    """A TFLite file of one constant, by hand: what the places in it lead to is told behind each line."""
    from toy_tflite import build

    return build({"weights;more": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.arange(3, dtype=np.int8)})


def is_refused(content):
    try:
        for constant in checkpoints.read_constants(content):
            constant.dequantised()
    except ValueError:
        return True
    return False


def test_every_byte_of_a_tflite_file_changed_is_read_or_one_error(tiny, amount, figure):
    rng = np.random.default_rng(0)
    changes = itertools.product(range(len(tiny)), [0, 1, 127, 128, 255])
    wild = ((int(rng.integers(len(tiny))), int(rng.integers(256))) for _ in range(amount(500, 100_000)))
    changed = (tiny[:place] + bytes([value]) + tiny[place + 1 :] for place, value in itertools.chain(changes, wild))
    found = [is_refused(content) for content in itertools.chain(changed, (tiny[:end] for end in range(len(tiny))))]
    assert sum(found) > len(found) / 20
    figure("bytes of a TFLite file changed, and its end cut off", len(found), f"{sum(found)} refused, no crash")
