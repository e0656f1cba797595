import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damaged_stores import SPEC, be_pipe

from jamendo_mood.store.embedding_store import EmbeddingStore, PackedEmbeddings, encode_header
from jamendo_mood.util.errors import StoreError, UsageError

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
for number in range(100):
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


def files_in(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("opened", [lambda store: store, lambda store: EmbeddingStore(store.root), EmbeddingStore.pack])
def test_every_storage_is_a_mapping(opened, filled):
    mapping = opened(filled)
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
    np.testing.assert_allclose(filled.times("48/948"), [0.0, 0.5, 1.0, 1.5, 2.0])
    assert len(filled) == len(TRACKS)


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
    ("shape", "dtype"),
    [((2, 4), "f8"), ((2, 4), "f2"), ((2, 5), "f4"), ((4,), "f4"), ((0, 4), "f4"), ((1, 2, 4), "f4")],
)
def test_an_array_that_is_no_embedding_of_the_store_is_refused(shape, dtype, store):
    with pytest.raises(StoreError, match=r"float32 \(frames, 4\).* not"):
        store.add("a", np.ones(shape, dtype))
    assert files_in(store.root) == ["store.json"]


def test_a_store_of_another_embedder_is_refused_naming_both(store):
    with pytest.raises(UsageError, match=r"is a store of stub \(.*\), not of stub \(.*weights abc\).*another folder"):
        EmbeddingStore(store.root, replace(SPEC, weights_sha256="abc"))
    assert EmbeddingStore(store.root).spec == SPEC


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 1}', '{"format": 2}', '{"format": 1, "embedder": {"nam": "x"}}', "\0"]
)
def test_a_damaged_manifest_is_a_store_error_that_names_it(content, store):
    (store.root / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store\.json: not the manifest"):
        EmbeddingStore(store.root, SPEC)


def test_where_there_is_no_store_but_other_things_none_is_opened_or_made(tmp_path):
    with pytest.raises(UsageError, match="no embedding store there"):
        EmbeddingStore(tmp_path / "nowhere")
    np.save(tmp_path / "mine.npy", np.ones(3))
    for path in (tmp_path, tmp_path / "mine.npy"):
        with pytest.raises(UsageError, match="not an embedding store"):
            EmbeddingStore(path, SPEC)
    assert files_in(tmp_path) == ["mine.npy"]


def test_a_torn_file_and_one_of_another_shape_are_store_errors_that_say_what_to_do(filled):
    path = filled.root / "48/949 (live).npy"
    os.truncate(path, 150)
    with pytest.raises(StoreError, match=r"949 \(live\).npy: damaged, delete it"):
        filled["48/949 (live)"]
    np.save(path, np.ones((3, 9), np.float32))
    with pytest.raises(StoreError, match=r"949 \(live\).npy.*\(3, 9\)"):
        filled["48/949 (live)"]


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


def test_two_processes_that_write_at_once_lose_nothing(store):
    with contextlib.ExitStack() as stack:
        writers = []
        for name in ("one", "two"):
            command = [sys.executable, "-c", WRITER, str(store.root), name]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": Path(__file__).parents[1]}
            writers.append(stack.enter_context(subprocess.Popen(command, **pipes)))
            assert writers[-1].stdout.readline() == b"ready\n"
        for writer in writers:
            writer.stdin.close()
        assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    keys = {f"{name}/{number}" for name in ("one", "two") for number in range(100)}
    assert set(store) == {*keys, "contested"}
    for key in keys:
        np.testing.assert_array_equal(store[key], np.full((200, SPEC.dim), int(key.split("/")[1]), np.float32))
    assert len(np.unique(store["contested"])) == 1
    assert set(store.failures()) == {key.replace("/", "/bad ") for key in keys}


def test_files_have_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        store = EmbeddingStore(tmp_path / "store", SPEC)
    finally:
        os.umask(before)
    assert (store.root / "store.json").stat().st_mode & 0o777 == 0o640


def test_packing_again_takes_in_what_is_new(filled):
    assert len(filled.pack()) == len(TRACKS)
    filled.add("later", np.ones((2, SPEC.dim), np.float32))
    packed = filled.pack()
    np.testing.assert_array_equal(packed["later"], np.ones((2, SPEC.dim), np.float32))
    assert isinstance(packed.frames, np.memmap)
    assert packed.spec == SPEC
    assert set(filled) == {*TRACKS, "later"}  # the packed file is no track
    assert len(EmbeddingStore(filled.root / "empty", SPEC).pack()) == 0


def test_an_index_may_be_as_large_as_there_are_frames_for(filled, monkeypatch):
    monkeypatch.setattr("jamendo_mood.util.plaintext.MAX_TABLE_BYTES", 100)
    assert len(filled.pack()) == len(TRACKS)
    with (filled.root / "index.tsv").open("ab") as file:
        file.truncate(200 * sum(TRACKS.values()) + 1)
    with pytest.raises(StoreError, match="it has more than 2,600 bytes"):
        PackedEmbeddings(filled.root)


DAMAGE = {
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


ENDLESS = 1 << 40


def make_endless(path, content=None):
    """A file with a hole, that takes no room on the disk."""
    if content is not None:
        path.write_bytes(content)
    os.truncate(path, ENDLESS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_endless, r"damaged.*\(too long: 1,099,511,627,776 bytes of at most 1,000,240\)"),
        (lambda path: make_endless(path, b"no array"), "damaged"),
        (lambda path: make_endless(path, encode_header(ENDLESS // 16, 4)), "Cannot allocate memory"),
        (be_pipe, "not a file"),
    ],
    ids=["too long", "no array", "honest", "pipe"],
)
def test_an_entry_takes_no_more_memory_than_its_header_tells_of(make, message, filled):
    make(filled.root / "14/2.npy")
    with pytest.raises(StoreError, match=rf"14/2\.npy: .*{message}"):
        filled["14/2"]


@pytest.mark.parametrize("make", [make_endless, be_pipe], ids=["endless", "pipe"])
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
