import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.extraction import streaming
from jamendo_mood.extraction.streaming import StreamConfig, extract, select_shard
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import DiskFullError, StoreError, UsageError

EXTRACT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background is born deaf to it
import sys
from pathlib import Path
from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.extraction.streaming import extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.extraction.streaming import StreamConfig

audio, store, scratch = map(Path, sys.argv[1:])
embedder = load_embedder("logmel")
extract(
    find_audio(audio), embedder, EmbeddingStore(store, embedder.spec), StreamConfig(batch=4, scratch=scratch),
    on_track=lambda result: print("a track is done", flush=True),
)
"""


class MemoryStore(dict):
    """A store in memory: what `extract` needs of one, and no more."""

    def __init__(self, spec):
        self.spec, self.failed = spec, {}

    def add(self, key, frames):
        self[key] = frames

    def failures(self):
        return {key: error for key, error in self.failed.items() if key not in self}

    def record_failure(self, key, error):
        self.failed[key] = error

    def forget_failures(self, keys):
        for key in keys:
            del self.failed[key]


@pytest.fixture
def folder(make_audio, noise, tmp_path):
    for number in range(4):
        make_audio(tmp_path / "audio" / f"{number:02d}" / f"{number}.mp3", noise(1 + number, number), rate_hz=16_000)
    (tmp_path / "audio" / "02" / "2.mp3").write_bytes(b"not a song")
    return tmp_path / "audio"


@pytest.fixture(params=["disk", "memory"])
def store(request, stub_embedder, tmp_path):
    spec = stub_embedder.spec
    return EmbeddingStore(tmp_path / "store", spec) if request.param == "disk" else MemoryStore(spec)


@pytest.fixture
def config(empty_scratch):
    return StreamConfig(batch=16, scratch=empty_scratch)


def test_good_files_are_stored_and_bad_ones_listed(folder, store, stub_embedder, config):
    heard = []
    report = extract(find_audio(folder), stub_embedder, store, config, on_track=lambda result: heard.append(result.key))
    assert sorted(store) == ["00/0", "01/1", "03/3"]
    assert report.done == 3
    assert list(report.failed) == ["02/2"]
    assert "2.mp3" in store.failures()["02/2"]
    assert sorted(heard) == ["00/0", "01/1", "02/2", "03/3"]
    assert report.audio_s == pytest.approx(1 + 2 + 4, abs=0.3)


def test_a_second_run_skips_what_is_there_and_what_failed(folder, store, stub_embedder, config):
    extract(find_audio(folder), stub_embedder, store, config)
    before = {key: np.array(store[key]) for key in store}
    again = extract(find_audio(folder), stub_embedder, store, config, on_track=pytest.fail)
    assert (again.done, again.skipped, list(again.failed)) == (0, 3, ["02/2"])
    assert all(np.array_equal(store[key], frames) for key, frames in before.items())


def test_a_failed_track_is_tried_again_when_asked(folder, store, stub_embedder, config, make_audio, noise):
    extract(find_audio(folder), stub_embedder, store, config)
    make_audio(folder / "02" / "2.mp3", noise(2), rate_hz=16_000)
    report = extract(find_audio(folder), stub_embedder, store, config, retry_failed=True)
    assert (report.done, report.skipped, report.failed) == (1, 3, {})
    assert store.failures() == {}


def test_a_track_that_fails_again_stays_listed(folder, store, stub_embedder, config):
    for _ in range(2):
        report = extract(find_audio(folder), stub_embedder, store, config, retry_failed=True)
        assert list(store.failures()) == list(report.failed) == ["02/2"]
    if isinstance(store, EmbeddingStore):
        assert (store.root / "failures.tsv").read_text().count("\n02/2\t") == 1


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(folder, store, stub_embedder, config):
    whole = MemoryStore(stub_embedder.spec)
    extract(find_audio(folder), stub_embedder, whole, config)

    class StopError(Exception):
        pass

    def stop(result):
        raise StopError

    with pytest.raises(StopError):
        extract(find_audio(folder), stub_embedder, store, config, on_track=stop)
    assert len(store) < len(whole)
    extract(find_audio(folder), stub_embedder, store, config)
    assert sorted(store) == sorted(whole)
    assert all(np.array_equal(store[key], whole[key]) for key in whole)


def test_a_full_disk_stops_the_run_and_keeps_what_was_done(folder, stub_embedder, config):
    class SmallStore(MemoryStore):
        def add(self, key, frames):
            if self:
                raise DiskFullError("no space left")
            super().add(key, frames)

    store = SmallStore(stub_embedder.spec)
    with pytest.raises(DiskFullError):
        extract(find_audio(folder), stub_embedder, store, config)
    assert len(store) == 1
    assert store.failed.keys() <= {"02/2"}  # no good track is blamed


def test_a_full_scratch_folder_stops_the_run(store, stub_embedder, small_disk, make_audio, noise, tmp_path):
    # WAVs, because pydub, which does not convert them, leaves files open when the disk is full.
    for number in range(4):
        make_audio(tmp_path / "audio" / f"{number}.wav", noise(60.0), rate_hz=16_000)
    with pytest.raises(DiskFullError, match="scratch folder"):
        extract(find_audio(tmp_path / "audio"), stub_embedder, store, StreamConfig(scratch=small_disk))
    assert store.failures() == {}
    assert list(small_disk.iterdir()) == []


def test_ctrl_c_leaves_no_wav_and_no_half_written_track(make_audio, noise, empty_scratch, tmp_path):
    first = make_audio(tmp_path / "audio" / "0.flac", noise(30.0), rate_hz=16_000)
    for number in range(1, 30):
        shutil.copy(first, first.with_name(f"{number}.flac"))
    command = [
        sys.executable,
        "-c",
        EXTRACT,
        *(str(path) for path in (tmp_path / "audio", tmp_path / "store", empty_scratch)),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "a track is done\n"
        assert list(empty_scratch.rglob("owner.lock"))
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in complaint
    store = EmbeddingStore(tmp_path / "store")
    assert 1 <= len(store) < 30
    assert all(len(store[key]) for key in store)
    assert not list(store.root.rglob("*.tmp"))


def test_a_name_that_cannot_be_a_key_is_refused_before_anything_is_done(folder, stub_embedder, config, tmp_path):
    tracks = {"AC\\DC": folder / "00" / "0.mp3", **find_audio(folder)}
    store = EmbeddingStore(tmp_path / "store", stub_embedder.spec)
    with pytest.raises(StoreError, match="DC' cannot be the key"):
        extract(tracks, stub_embedder, store, config)
    assert len(store) == 0


def test_a_store_of_another_embedder_is_refused(folder, stub_embedder):
    from jamendo_mood.embedders.registry import load_embedder

    with pytest.raises(UsageError, match=r"the store is of logmel.*the embedder is stub"):
        extract(find_audio(folder), stub_embedder, MemoryStore(load_embedder("logmel").spec))


def test_shards_divide_the_tracks_and_each_decides_for_itself():
    keys = [f"{number % 100:02d}/{number}" for number in range(1000)]
    shards = [select_shard(keys, index, 4) for index in (1, 2, 3, 4)]
    assert sorted(key for shard in shards for key in shard) == sorted(keys)
    assert all(200 < len(shard) < 300 for shard in shards)
    assert select_shard(keys[::7], 2, 4) == [key for key in keys[::7] if key in set(shards[1])]
    # Pinned: another version must not divide them otherwise, or machines would do each other's work.
    assert select_shard(["48/948", "50/950", "51/951", "65/2165"], 1, 2) == ["50/950", "51/951", "65/2165"]


def test_a_name_that_is_no_unicode_falls_into_a_shard_too():
    key = b"01/caf\xe9".decode("utf-8", "surrogateescape")  # as the file system gives such a name
    assert sum(select_shard([key], index, 3) == [key] for index in (1, 2, 3)) == 1


@pytest.mark.parametrize(("index", "count"), [(0, 4), (5, 4), (1, 0)])
def test_a_shard_that_is_not_is_a_usage_error(index, count):
    with pytest.raises(UsageError, match=f"shard {index}/{count}"):
        select_shard(["a"], index, count)


def test_the_protocol_is_what_the_store_on_disk_has(stub_embedder, tmp_path):
    store: streaming.Store = EmbeddingStore(tmp_path, stub_embedder.spec)
    assert store.failures() == {}
