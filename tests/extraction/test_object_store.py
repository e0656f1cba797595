"""Places that are no folders, stood in for by fsspec's file system in memory."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from damaged_stores import SPEC

from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.extraction.cluster import ObjectStore, fetched, find_store, find_tracks, open_store
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import DiskFullError, StoreError, UsageError
from jamendo_mood.util.files import Scratch

fsspec = pytest.importorskip("fsspec", reason="needs the extra `ray`")

FRAMES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def store(memory):
    return ObjectStore("memory://bucket/store/", SPEC)


@pytest.fixture
def scratch(empty_scratch):
    with Scratch(empty_scratch) as made:
        yield made


@pytest.fixture
def fail(memory, monkeypatch):
    """Let the next reads fail with these errors; gives the list of what is asked for."""
    get_file, asked = memory.get_file, []

    def start(*errors, on_read=lambda: None):
        left = list(errors)

        def read(_, *arguments, **options):
            asked.append(arguments)
            on_read()
            if left:
                raise left.pop(0)
            return get_file(*arguments, **options)

        monkeypatch.setattr(type(memory), "get_file", read)
        return asked

    return start


# ---- Stores.


def test_what_is_added_is_there(store):
    assert list(store) == []
    store.add("48/948", FRAMES)
    store.add("a", FRAMES[:1])
    for opened in (store, ObjectStore("memory://bucket/store"), open_store("memory://bucket/store", SPEC)):
        assert opened.spec == SPEC
        assert list(opened) == ["48/948", "a"]
        assert "48/948" in opened
        assert "48" not in opened
    with pytest.raises(StoreError, match="cannot be the key"):
        store.add("../b", FRAMES)
    with pytest.raises(StoreError, match=r"memory://bucket/store/b\.npy: an embedding here is"):
        store.add("b", FRAMES[:0])


def test_a_copy_on_disk_is_a_store(store, memory, tmp_path):
    beside = EmbeddingStore(tmp_path / "beside", SPEC)
    for each in (store, beside):
        each.add("48/948", FRAMES, "6 of 12 s could be decoded")
    store.record_failure("a", "no sound")
    memory.get("/bucket/store", str(tmp_path / "copy"), recursive=True)
    copied = EmbeddingStore(tmp_path / "copy", SPEC)
    assert list(copied) == ["48/948"]
    for name in ("48/948.npy", "store.json"):
        assert (copied.root / name).read_bytes() == (beside.root / name).read_bytes()


def test_failures_are_kept_until_they_are_forgotten_or_done(store):
    assert store.failures() == {}
    for key in ("48/1", "48/2", "3"):
        store.record_failure(key, f"{key} has\nno sound")
    told = {key: f"{key} has no sound" for key in ("3", "48/1", "48/2")}
    assert ObjectStore("memory://bucket/store").failures() == told
    store.add("48/1", FRAMES)
    store.forget_failures({"48/2", "nosuch"})
    assert store.failures() == {"3": "3 has no sound"}
    assert list(store) == ["48/1"]


def test_embedders_are_not_mixed(store):
    with pytest.raises(UsageError, match="memory://bucket/store is a store of"):
        ObjectStore("memory://bucket/store", replace(SPEC, name="other"))


def test_a_place_without_a_store(memory, tmp_path):
    assert find_store("memory://bucket/nothing") is None
    assert find_store(tmp_path) is None
    with pytest.raises(UsageError, match=r"no embedding store there \(no store\.json\)"):
        ObjectStore("memory://bucket/nothing")
    assert memory.store == {}
    open_store("memory://bucket/store", SPEC)
    open_store(tmp_path / "store", SPEC)
    assert isinstance(find_store("memory://bucket/store"), ObjectStore)
    assert isinstance(find_store(tmp_path / "store"), EmbeddingStore)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 2, "embedder": {}}', b"\xff"])
@pytest.mark.usefixtures("store")
def test_a_damaged_store_is_named(memory, content):
    memory.pipe_file("/bucket/store/store.json", content)
    with pytest.raises(StoreError, match=r"memory://bucket/store/store\.json: "):
        ObjectStore("memory://bucket/store")


def test_what_cannot_be_written_is_named(store, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("access denied")

    monkeypatch.setattr(type(store._system), "pipe_file", refuse)
    with pytest.raises(StoreError, match=r"memory://.*bucket/store/a\.npy: cannot be written \(access denied\)"):
        store.add("a", FRAMES)


# ---- Audio.


def test_tracks_are_found_as_on_a_disk(memory, tmp_path):
    names = ["48/948.low.mp3", "48/949.MP3", "a b.flac", "notes.txt", ".hidden/1.mp3", "48/._949.mp3"]
    for name in names:
        memory.pipe_file(f"/bucket/audio/{name}", b"x")
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = find_tracks("memory://bucket/audio")
    assert list(found) == list(find_audio(tmp_path / "audio")) == ["48/948", "48/949", "a b"]
    assert found["48/948"] == "memory:///bucket/audio/48/948.low.mp3"
    assert find_tracks("memory://bucket/audio/") == found
    assert find_tracks("memory://bucket/nothing") == {}


def test_two_files_of_one_key_are_refused(memory):
    for name in ("a.mp3", "a.low.mp3"):
        memory.pipe_file(f"/bucket/{name}", b"x")
    with pytest.raises(UsageError, match=r"1 tracks have several files .*/a\.low\.mp3 and .*/a\.mp3"):
        find_tracks("memory://bucket")


@pytest.mark.parametrize(("failing", "asked"), [(0, 1), (2, 3), (9, 3)])
def test_what_fails_is_fetched_again(memory, scratch, fail, failing, asked):
    memory.pipe_file("/bucket/a.mp3", b"a")
    reads = fail(*[RuntimeError("slow\ndown")] * failing)
    with fetched({"a": "memory://bucket/a.mp3"}, scratch, waits_s=(0.0, 0.0)) as take:
        source = take(threading.Event())
    assert len(reads) == asked
    if failing < 3:
        assert source.path.read_bytes() == b"a"
    else:
        assert str(source.error) == "memory://bucket/a.mp3: cannot be fetched (slow down)"
    source.release()


def test_a_full_disk_is_no_fault_of_the_file(memory, scratch, fail):
    memory.pipe_file("/bucket/a.mp3", b"a")
    fail(OSError(28, "No space left on device"))
    with fetched({"a": "memory://bucket/a.mp3"}, scratch) as take:
        source = take(threading.Event())
    assert isinstance(source.error, DiskFullError)
    source.release()


def test_a_run_that_ends_waits_for_no_retry(memory, scratch, fail):
    stop = threading.Event()
    reads = fail(*[RuntimeError("slow down")] * 9, on_read=stop.set)
    with fetched({"a": "memory://bucket/a.mp3"}, scratch, waits_s=(3600.0,)) as take:
        assert take(stop) is None
    assert len(reads) == 1


def test_places_that_cannot_be_opened_are_named():
    with pytest.raises(UsageError, match=r"nosuch://bucket: cannot be opened \(.*nosuch"):
        find_tracks("nosuch://bucket")


def test_without_fsspec_it_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"s3://bucket.* needs fsspec: `pip install jamendo-mood\[ray\]` brings it"):
        find_tracks("s3://bucket/audio")
