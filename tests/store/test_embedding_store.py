import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store.embedding_store import EmbeddingStore, Entry, PackedEmbeddings
from jamendo_mood.util.errors import DiskFullError, StoreError, UsageError
from jamendo_mood.util.plaintext import MAX_TABLE_BYTES

SPEC = EmbedderSpec("stub", "", 16_000, 0.96, 0.5, 4)
ABSOLUTE_OR_NOT_PLAIN = ["", "/a", "../a", "a/../b", "a/./b", "a//b", "a/", ".", "..", "/"]
HIDDEN_OR_UNFIT = [".a", "a/.b", "a\\b", "a\0", "a\tb", "a\nb", "\udcff", "frames"]
TRACKS = {"14/2": 3, "48/948": 1, "48/949 (live)": 7, "A. Band - Song": 2}

WRITER = """
import sys
import numpy as np
from damaged_stores import SPEC
from jamendo_mood.store.embedding_store import EmbeddingStore

store, name = EmbeddingStore(sys.argv[1], SPEC), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    store.add(f"{name}/{number}", np.full((200, SPEC.dim), number, np.float32))
    store.add("contested", np.full((200, SPEC.dim), number, np.float32))
    store.record_failure(f"{name}/bad {number}", "a reason " * 20)
"""


def frames_of(key):
    return np.random.default_rng(len(key)).standard_normal((TRACKS[key], SPEC.dim), dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return EmbeddingStore(tmp_path / "store", SPEC)


@pytest.fixture
def filled(store):
    for key in reversed(TRACKS):
        store.add(key, frames_of(key))
    return store


@pytest.fixture(params=["dict", "on disk", "reopened", "packed"])
def mapping(request, filled):
    made = {
        "dict": lambda: {key: frames_of(key) for key in TRACKS},
        "on disk": lambda: filled,
        "reopened": lambda: EmbeddingStore(filled.root),
        "packed": filled.pack,
    }
    return made[request.param]()


@pytest.fixture
def start_writer(store):
    """Start a process that writes to the store; it waits for a line before it begins."""
    running = []

    def start(name, count):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def files_in(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_every_storage_is_a_mapping(mapping):
    assert sorted(mapping) == sorted(TRACKS)
    assert len(mapping) == len(TRACKS)
    for key, frames in mapping.items():
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, frames_of(key))
    assert "48/948" in mapping
    assert "48/9" not in mapping
    assert mapping.get("48/9") is None
    with pytest.raises(KeyError, match="48/9"):
        mapping["48/9"]


def test_a_track_is_one_npy_file_that_anyone_can_read(filled):
    np.testing.assert_array_equal(np.load(filled.root / "48/948.npy"), frames_of("48/948"))
    assert files_in(filled.root) == sorted([*(f"{key}.npy" for key in TRACKS), "store.json"])


def test_adding_again_replaces(filled):
    filled.add("48/948", np.ones((5, SPEC.dim), np.float32))
    assert filled["48/948"].shape == (5, SPEC.dim)
    assert len(filled) == len(TRACKS)


def test_times_are_the_starts_of_the_frames(filled):
    np.testing.assert_allclose(filled.times("14/2"), [0.0, 0.5, 1.0])


@pytest.mark.parametrize("key", ABSOLUTE_OR_NOT_PLAIN + HIDDEN_OR_UNFIT)
@pytest.mark.parametrize("use", ["add", "get", "in"])
def test_a_key_that_is_no_plain_path_is_refused(key, use, filled):
    before = files_in(filled.root.parent)
    actions = {
        "add": lambda: filled.add(key, np.ones((1, SPEC.dim), np.float32)),
        "get": lambda: filled[key],
        "in": lambda: key in filled,
    }
    with pytest.raises(StoreError, match="cannot be the key of a track"):
        actions[use]()
    assert files_in(filled.root.parent) == before


@pytest.mark.parametrize(
    "key", ["Mötley  Crüe - ¿Qué?", "a\u00a0b", "%s {x} *", "frames/1", " a", "x" * 200, "日本/語"]
)
def test_whatever_else_a_file_may_be_called_is_a_key(key, store):
    store.add(key, np.ones((2, SPEC.dim), np.float32))
    assert list(store) == [key]
    np.testing.assert_array_equal(store.pack()[key], np.ones((2, SPEC.dim), np.float32))


@pytest.mark.parametrize(
    "frames",
    [
        np.ones((2, 4)),
        np.ones((2, 4), np.float16),
        np.ones((2, 5), np.float32),
        np.ones(4, np.float32),
        np.ones((0, 4), np.float32),
        np.ones((1, 2, 4), np.float32),
    ],
    ids=lambda frames: f"{frames.dtype} {frames.shape}",
)
def test_an_array_that_is_no_embedding_of_the_store_is_refused(frames, store):
    with pytest.raises(StoreError, match=r"float32 \(frames, 4\).* not"):
        store.add("a", frames)
    assert files_in(store.root) == ["store.json"]


def test_a_store_of_another_embedder_is_refused_naming_both(store):
    with pytest.raises(UsageError, match=r"is a store of stub \(.*\), not of stub \(.*weights abc\).*another folder"):
        EmbeddingStore(store.root, replace(SPEC, weights_sha256="abc"))
    assert EmbeddingStore(store.root).spec == SPEC


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "embedder": {"nam": "x"}}', "\0"])
def test_a_damaged_manifest_is_a_store_error_that_names_it(content, store):
    (store.root / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store\.json: not the manifest"):
        EmbeddingStore(store.root, SPEC)


def test_a_store_of_a_later_format_is_refused(store):
    manifest = store.root / "store.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StoreError, match="format 2"):
        EmbeddingStore(store.root)


def test_no_store_and_nothing_to_make_one_of_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no embedding store there"):
        EmbeddingStore(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_other_arrays_or_a_file_is_not_made_a_store(tmp_path):
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "mine.npy", np.ones(3))
    for path in (tmp_path / "arrays", tmp_path / "arrays" / "mine.npy"):
        with pytest.raises(UsageError, match="not an embedding store"):
            EmbeddingStore(path, SPEC)


@pytest.mark.parametrize("kept", [0, 20, 150])
def test_a_torn_file_is_a_store_error_that_says_what_to_do(kept, filled):
    path = filled.root / "48/949 (live).npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"949 \(live\).npy: damaged, delete it"):
        filled["48/949 (live)"]


def test_a_file_of_another_shape_is_a_store_error(filled):
    np.save(filled.root / "14/2.npy", np.ones((3, 9), np.float32))
    with pytest.raises(StoreError, match=r"14/2.npy.*\(3, 9\)"):
        filled["14/2"]


def test_a_pickle_is_not_opened(filled, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(filled.root / "14/2.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(StoreError, match="damaged"):
        filled["14/2"]
    assert not (tmp_path / "sprung").exists()


def test_failures_are_kept_until_they_are_done_or_forgotten(store):
    assert store.failures() == {}
    store.record_failure("a  b", "first\n\tline")
    store.record_failure("c", "torn")
    store.record_failure("c", "still torn")
    store.record_failure("d", "gone")
    expected = {"a  b": "first line", "c": "still torn", "d": "gone"}
    assert store.failures() == EmbeddingStore(store.root).failures() == expected
    store.add("d", np.ones((1, SPEC.dim), np.float32))
    assert set(store.failures()) == {"a  b", "c"}
    store.forget_failures({"a  b", "unheard of"})
    assert store.failures() == {"c": "still torn"}
    assert (store.root / "failures.tsv").read_text() == "key\terror\nc\tstill torn\n"


def test_a_header_written_twice_is_no_failure(store):
    store.record_failure("a", "torn")
    with (store.root / "failures.tsv").open("a") as file:
        file.write("key\terror\nb\tgone\n")
    assert store.failures() == {"a": "torn", "b": "gone"}


def test_two_processes_that_write_at_once_lose_nothing(start_writer, store):
    writers = [start_writer(name, 100) for name in ("one", "two")]
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    keys = {f"{name}/{number}" for name in ("one", "two") for number in range(100)}
    assert set(store) == {*keys, "contested"}
    for key in keys:
        np.testing.assert_array_equal(store[key], np.full((200, SPEC.dim), int(key.split("/")[1]), np.float32))
    assert len(np.unique(store["contested"])) == 1
    assert set(store.failures()) == {key.replace("/", "/bad ") for key in keys}


def test_a_killed_writer_leaves_only_whole_files(start_writer, store):
    for delay, name in enumerate("abc"):
        writer = start_writer(name, 100_000)
        writer.stdin.write("\n")
        writer.stdin.flush()
        while sum(1 for _ in store.root.glob(f"{name}/*.npy")) < 5 * delay + 1:
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=60)
    for key in store:
        assert store[key].shape == (200, SPEC.dim)
        assert len(np.unique(store[key])) == 1
    assert len(store) >= sum(5 * delay + 1 for delay in range(3))


def test_a_full_disk_keeps_what_was_written_before(small_disk):
    store = EmbeddingStore(small_disk / "store", SPEC)
    frames = np.ones((10_000, SPEC.dim), np.float32)  # 160 kB, on a disk of 1 MB
    with pytest.raises(DiskFullError, match=r"\.npy: no space left"):
        any(store.add(f"{number}", frames) for number in range(20))
    assert len(store) >= 4
    assert all(np.array_equal(store[key], frames) for key in store)
    assert not [name for name in files_in(store.root) if name.endswith(".tmp")]


def test_what_cannot_be_written_is_a_store_error_that_names_it(filled):
    (filled.root / "occupied").touch()  # a file where a folder is needed
    with pytest.raises(StoreError, match=r"occupied/1.npy: cannot be written"):
        filled.add("occupied/1", np.ones((1, SPEC.dim), np.float32))


def test_files_have_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        store = EmbeddingStore(tmp_path / "store", SPEC)
        store.add("a", np.ones((1, SPEC.dim), np.float32))
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((store.root / name).stat().st_mode) for name in files_in(store.root)}
    assert modes == {0o640}


def test_packing_again_takes_in_what_is_new(filled):
    assert len(filled.pack()) == len(TRACKS)
    filled.add("later", np.ones((2, SPEC.dim), np.float32))
    packed = filled.pack()
    np.testing.assert_array_equal(packed["later"], np.ones((2, SPEC.dim), np.float32))
    assert isinstance(packed.frames, np.memmap)
    assert packed.spec == SPEC
    assert set(filled) == {*TRACKS, "later"}  # the packed file is no track


def test_an_index_may_be_as_large_as_there_are_frames_for(filled, monkeypatch):
    monkeypatch.setattr("jamendo_mood.util.plaintext.MAX_TABLE_BYTES", 100)
    monkeypatch.setattr("jamendo_mood.store.embedding_store.MAX_TABLE_BYTES", 100, raising=False)
    assert len(filled.pack()) == len(TRACKS)
    with (filled.root / "index.tsv").open("ab") as file:
        file.truncate(200 * sum(TRACKS.values()) + 1)
    with pytest.raises(StoreError, match="it has more than 2,600 bytes"):
        PackedEmbeddings(filled.root)


class Million(EmbeddingStore):
    """A store of as many tracks of a frame each, as MTG calls its own."""

    def __iter__(self):
        return (f"{number % 100:02d}/{number}" for number in range(1_000_000))

    def read(self, key):
        return Entry(np.full((1, self.spec.dim), int(key[3:]), np.float32), sha256="0" * 64)


@pytest.mark.slow
def test_a_million_tracks_can_be_packed(tmp_path):
    packed = Million(tmp_path, SPEC).pack()
    assert (tmp_path / "index.tsv").stat().st_size > MAX_TABLE_BYTES  # of any other table
    assert len(packed) == 1_000_000
    assert packed["21/654321"].tolist() == [[654_321.0] * SPEC.dim]


def test_an_empty_store_packs_to_nothing(store):
    assert len(store.pack()) == 0


DAMAGE = {
    "never packed": lambda root: [(root / name).unlink() for name in ("index.tsv", "frames.npy")],
    "no index": lambda root: (root / "index.tsv").unlink(),
    "no frames": lambda root: (root / "frames.npy").unlink(),
    "index of an older pack": lambda root: (root / "index.tsv").write_text("key\tframes\n14/2\t3\n"),
    "index without numbers": lambda root: (root / "index.tsv").write_text("key\tframes\n14/2\tthree\n"),
    "torn frames": lambda root: os.truncate(root / "frames.npy", 200),
    "frames of another width": lambda root: np.save(root / "frames.npy", np.ones((13, 5), np.float32)),
    "frames of another type": lambda root: np.save(root / "frames.npy", np.ones((13, 4))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_packed_files_that_do_not_fit_are_a_store_error(damage, filled):
    filled.pack()
    DAMAGE[damage](filled.root)
    with pytest.raises(StoreError, match=r"pack the store again"):
        PackedEmbeddings(filled.root)
    assert len(filled.pack()) == len(TRACKS)


@pytest.mark.parametrize("name", ["frames.npy", "index.tsv"])
def test_packing_that_is_interrupted_leaves_what_was_packed_before(name, filled, monkeypatch):
    filled.pack()
    real = os.fsync

    def fail(descriptor):
        if f".{name}-" in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise KeyboardInterrupt
        real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc/self/fd (Linux)")
    monkeypatch.setattr(os, "fsync", fail)
    filled.add("14/2", np.ones((2, SPEC.dim), np.float32))
    before = files_in(filled.root)
    with pytest.raises(KeyboardInterrupt):
        filled.pack()
    np.testing.assert_array_equal(PackedEmbeddings(filled.root)["14/2"], frames_of("14/2"))
    assert files_in(filled.root) == before


@pytest.mark.parametrize("older", ["frames.npy", "index.tsv"])
def test_an_index_beside_the_frames_of_another_pack_is_noticed(older, filled):
    filled.pack()
    kept = (filled.root / older).read_bytes()
    for key, length in (("14/2", TRACKS["48/948"]), ("48/948", TRACKS["14/2"])):  # as many frames as before
        filled.add(key, np.ones((length, SPEC.dim), np.float32))
    filled.pack()
    (filled.root / older).write_bytes(kept)
    with pytest.raises(StoreError, match="pack the store again"):
        PackedEmbeddings(filled.root)


def test_an_empty_list_of_failures_is_one(store):
    (store.root / "failures.tsv").touch()  # what a full disk left of earlier versions' first line
    assert store.failures() == {}
    store.record_failure("a", "b")
    assert (store.root / "failures.tsv").read_text() == "key\terror\na\tb\n"


ENDLESS = 1 << 40
TAKES_TOO_MUCH = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 4), }" % (ENDLESS // 16)


def make_endless(path, content=None):
    """A file with a hole, that takes no room on the disk."""
    if content is not None:
        path.write_bytes(content)
    os.truncate(path, ENDLESS)


def make_honest(path):
    """One whose header tells of as much."""
    path.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + TAKES_TOO_MUCH.ljust(0x75) + b"\n")
    os.truncate(path, 128 + ENDLESS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_endless, r"damaged.*\(too long: 1,099,511,627,776 bytes of at most 1,000,240\)"),
        (lambda path: make_endless(path, b"no array"), "damaged"),
        (make_honest, "Cannot allocate memory"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a file"),
    ],
    ids=["too long", "no array", "honest", "pipe"],
)
def test_an_entry_takes_no_more_memory_than_its_header_tells_of(make, message, filled):
    make(filled.root / "14/2.npy")
    with pytest.raises(StoreError, match=rf"14/2\.npy: .*{message}"):
        filled["14/2"]


@pytest.mark.parametrize("make", [make_endless, lambda path: (path.unlink(), os.mkfifo(path))], ids=["endless", "pipe"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("store.json", EmbeddingStore),
        ("failures.tsv", lambda root: EmbeddingStore(root).failures()),
        ("index.tsv", PackedEmbeddings),
        ("frames.npy", PackedEmbeddings),
    ],
)
def test_a_file_of_a_store_that_is_endless_or_none_is_a_store_error(make, name, read, filled):
    filled.record_failure("a", "b")
    filled.pack()
    make(filled.root / name)
    with pytest.raises(StoreError, match=rf"{name}.*(more than|not a file)|pack the store again"):
        read(filled.root)
