import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files, extract, select_shard
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import DiskFullError, StoreError, UsageError

PEAK = """
import sys
from pathlib import Path
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files

embedder = load_embedder(sys.argv[1], EmbedderOptions(Path(sys.argv[2]), allow_untrained=True, precision="float32"))
Path("/proc/self/clear_refs").write_text("5")  # the peak from here on: loading the weights needs more
files = {path: Path(path) for path in sys.argv[4:]}
frames = [len(result.frames) for result in embed_files(files, embedder, StreamConfig(scratch=Path(sys.argv[3])))]
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(sum(frames), int(status["VmHWM"].split()[0]) / 1024)
"""


@pytest.fixture
def songs(make_audio, noise, tmp_path):
    lengths = {"one": 3.0, "two": 0.02, "three": 5.5, "four": 1.0}
    return {
        key: make_audio(tmp_path / f"{key}.mp3", noise(length, seed=number), rate_hz=16_000)
        for number, (key, length) in enumerate(lengths.items())
    }


@pytest.fixture
def config(empty_scratch):
    return StreamConfig(batch=16, scratch=empty_scratch)


@pytest.mark.parametrize(("batch", "prefetch"), [(16, 2), (7, 1)])
def test_every_track_comes_out_as_if_it_were_alone(batch, prefetch, songs, stub_embedder, config, read_wav, tmp_path):
    config = replace(config, batch=batch, prefetch=prefetch)
    results = {result.key: result for result in embed_files(songs, stub_embedder, config)}
    assert results.keys() == songs.keys()
    for key, source in songs.items():
        wav = tmp_path / f"{key}.wav"
        decoding.convert_to_wav(source, wav)
        wave = read_wav(wav)
        assert results[key].duration_s == len(wave) / decoding.SAMPLE_RATE_HZ
        assert np.array_equal(results[key].frames, stub_embedder.embed(wave))


def test_all_batches_have_one_shape_and_cross_the_borders_of_tracks(songs, stub_embedder, config):
    shapes, network = [], stub_embedder.network
    embedder = replace(stub_embedder, network=lambda rows: shapes.append(rows.shape) or network(rows))
    total = sum(len(result.frames) for result in embed_files(songs, embedder, config))
    assert set(shapes) == {(config.batch, embedder.window_samples)}
    assert len(shapes) == -(-total // config.batch)


def test_a_track_shorter_than_a_window_is_padded_and_said(songs, stub_embedder, config, caplog):
    # MP3s come in blocks of 0.07 s: a WAV keeps its 0.02 s.
    short = songs["two"].with_suffix(".wav")
    decoding.convert_to_wav(songs["two"], short)
    wide = replace(
        stub_embedder, window_samples=decoding.count_samples(short) + 1, hop_samples=decoding.count_samples(short)
    )
    wide = replace(wide, frontend=lambda wave: wave[np.newaxis])
    (result,) = embed_files({"short": short}, wide, config)
    assert len(result.frames) == 1
    assert "short: shorter than 0.02 s" in caplog.text


def test_a_bad_file_ends_its_own_track_only(songs, stub_embedder, config):
    alone = {result.key: result.frames for result in embed_files(songs, stub_embedder, config)}
    songs["one"].write_bytes(b"no sound at all" * 100)
    songs["missing"] = songs["one"].with_name("missing.mp3")
    results = {result.key: result for result in embed_files(songs, stub_embedder, config)}
    assert results["one"].frames is None
    assert "one.mp3" in results["one"].error
    assert "missing.mp3: no such file" in results["missing"].error
    for key in ("two", "three", "four"):
        assert np.array_equal(results[key].frames, alone[key])


@pytest.mark.parametrize("error", [DiskFullError("no space left"), UsageError("no ffmpeg on the PATH")])
def test_what_would_fail_every_track_stops_the_run(error, songs, stub_embedder, config, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(decoding, "convert_to_wav", fail)
    with pytest.raises(type(error), match=str(error)):
        list(embed_files(songs, stub_embedder, config))


def test_an_error_of_the_network_is_no_tracks_fault_and_ends_the_threads(songs, stub_embedder, config):
    def broken(_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(embed_files(songs, replace(stub_embedder, network=broken), config))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_stopping_early_ends_the_threads_and_removes_the_scratch_folder(songs, stub_embedder, config):
    many = {f"{key} {number}": path for number in range(20) for key, path in songs.items()}
    before = threading.active_count()
    with contextlib.closing(embed_files(many, stub_embedder, config)) as results:
        next(results)
        assert threading.active_count() == before + config.prefetch
    assert threading.active_count() == before
    assert list(config.scratch.iterdir()) == []


@pytest.mark.parametrize("prefetch", [1, 3])
def test_at_most_prefetch_plus_one_wavs_exist_at_any_time(prefetch, songs, stub_embedder, empty_scratch):
    counts = []

    def count():
        # os.walk, unlike a glob, does not mind a folder that goes away under its eyes.
        counts.append(sum("track.wav" in files for _, _, files in os.walk(empty_scratch)))

    def frontend(wave):
        count()
        return stub_embedder.frontend(wave)

    def network(inputs):
        count()
        return stub_embedder.network(inputs)

    embedder = replace(stub_embedder, frontend=frontend, network=network)
    many = {f"{key} {number}": path for number in range(5) for key, path in songs.items()}
    results = list(embed_files(many, embedder, StreamConfig(batch=4, prefetch=prefetch, scratch=empty_scratch)))
    assert [result.error for result in results] == [""] * len(many)
    assert 0 < max(counts) <= prefetch + 1


def test_decoding_waits_for_a_slow_network(stub_embedder, config, make_audio, noise, tmp_path):
    blocks, blocks_at_first_batch = [], []

    def frontend(wave):
        blocks.append(len(wave))
        return stub_embedder.frontend(wave)

    def network(inputs):
        if not blocks_at_first_batch:
            time.sleep(1)  # in which the stub's front end could go through all of the file
            blocks_at_first_batch.append(len(blocks))
        return stub_embedder.network(inputs)

    source = make_audio(tmp_path / "long.wav", noise(100.0), rate_hz=16_000)
    embedder = replace(stub_embedder, frontend=frontend, network=network)
    list(embed_files({"long": source}, embedder, replace(config, prefetch=1)))
    # One is being embedded, two are in the queue, one is in the hand of the thread.
    assert blocks_at_first_batch[0] <= 4
    assert len(blocks) > 20


@pytest.mark.parametrize("options", [{"batch": 0}, {"prefetch": 0}])
def test_a_config_that_makes_no_sense_is_a_usage_error(options):
    with pytest.raises(UsageError, match="must be at least 1"):
        StreamConfig(**options)


@pytest.fixture
def measure_peak_mb(empty_scratch, tmp_path):
    """Embed one track of this length in a fresh process; its number of frames, and its peak of resident memory."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("needs /proc/self (Linux)")  # getrusage would count the memory of the parent process

    def measure(embedder, weights, minutes):
        source = tmp_path / f"{minutes}.mp3"
        quiet = ("-f", "lavfi", "-i", f"anoisesrc=r=16000:a=0.05:d={60 * minutes}", "-b:a", "32k")
        subprocess.run([ffmpeg.find_ffmpeg(), "-v", "error", "-y", *quiet, str(source)], check=True)
        command = [sys.executable, "-c", PEAK, embedder, str(weights), str(empty_scratch), str(source)]
        frames, peak_mb = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return int(frames), float(peak_mb)

    return measure


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "most_mb"),
    [("logmel", "tmp_path", 40), ("vggish", "seeded_module", 80), ("musicnn", "seeded_musicnn_wheel", 80)],
)
def test_65_minutes_need_the_memory_of_5(name, weights, most_mb, measure_peak_mb, request):
    short, long = (measure_peak_mb(name, request.getfixturevalue(weights), minutes) for minutes in (5, 65))
    print(f"peak memory: {short[1]:.0f} MB for {short[0]} frames, {long[1]:.0f} MB for {long[0]} frames")
    assert long[0] > 12 * short[0]
    assert long[1] - short[1] < most_mb  # the samples alone would be 250 MB


class MemoryStore(dict):
    """A store in memory: what `extract` needs of one, and no more."""

    def __init__(self, spec):
        self.spec, self.failed, self.noted = spec, {}, {}

    def add(self, key, frames, remark=""):
        self[key] = frames
        self.noted[key] = remark

    def remarks(self, keys):
        return {key: self.noted[key] for key in keys if self.noted[key]}

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
    for _ in range(2):
        report = extract(find_audio(folder), stub_embedder, store, config, retry_failed=True)
        assert list(store.failures()) == list(report.failed) == ["02/2"]
    if isinstance(store, EmbeddingStore):
        assert (store.root / "failures.tsv").read_text().count("\n02/2\t") == 1
    make_audio(folder / "02" / "2.mp3", noise(2), rate_hz=16_000)
    report = extract(find_audio(folder), stub_embedder, store, config, retry_failed=True)
    assert (report.done, report.skipped, report.failed) == (1, 3, {})
    assert store.failures() == {}


def test_a_full_disk_stops_the_run_and_keeps_what_was_done(folder, stub_embedder, config):
    class SmallStore(MemoryStore):
        def add(self, key, frames, remark=""):
            if self:
                raise DiskFullError("no space left")
            super().add(key, frames, remark)

    store = SmallStore(stub_embedder.spec)
    with pytest.raises(DiskFullError):
        extract(find_audio(folder), stub_embedder, store, config)
    assert len(store) == 1
    assert store.failed.keys() <= {"02/2"}  # no good track is blamed


def test_a_name_that_cannot_be_a_key_is_refused_before_anything_is_done(folder, stub_embedder, config, tmp_path):
    tracks = {"AC\\DC": folder / "00" / "0.mp3", **find_audio(folder)}
    store = EmbeddingStore(tmp_path / "store", stub_embedder.spec)
    with pytest.raises(StoreError, match="DC' cannot be the key"):
        extract(tracks, stub_embedder, store, config)
    assert len(store) == 0


def test_a_store_of_another_embedder_is_refused(folder, stub_embedder):
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
    key = b"01/caf\xe9".decode("utf-8", "surrogateescape")  # as the file system gives a name that is no Unicode
    assert sum(select_shard([key], index, 3) == [key] for index in (1, 2, 3)) == 1


@pytest.mark.parametrize(("index", "count"), [(0, 4), (5, 4), (1, 0)])
def test_a_shard_that_is_not_is_a_usage_error(index, count):
    with pytest.raises(UsageError, match=f"shard {index}/{count}"):
        select_shard(["a"], index, count)


MOOD_TRACKS = 18_486
MEASURED = 1_000


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@pytest.fixture
def instant_decoder(monkeypatch):
    """Three seconds of noise for whatever file, so that what is left is the cost of a track."""
    wave = np.random.default_rng(0).standard_normal(48_000).astype(np.float32)

    def decode(path, scratch, remark) -> Iterator[np.ndarray]:
        with scratch.folder():
            yield wave

    monkeypatch.setitem(decoding.DECODERS, decoding.DEFAULT_DECODER, decode)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc/self (Linux)")
def test_the_last_thousand_of_all_tracks_are_as_fast_as_the_first(
    instant_decoder, stub_embedder, empty_scratch, tmp_path
):
    tracks = {f"{number % 100:02d}/{number}": Path(f"{number}.mp3") for number in range(MOOD_TRACKS)}
    store = EmbeddingStore(tmp_path / "store", stub_embedder.spec)
    clock, memory_mb = [time.process_time()], [resident_mb()]

    def note(_):
        clock.append(time.process_time())
        memory_mb.append(resident_mb())

    report = extract(tracks, stub_embedder, store, StreamConfig(scratch=empty_scratch), on_track=note)
    assert (report.done, report.failed) == (MOOD_TRACKS, {})
    first, last = clock[MEASURED] - clock[0], clock[-1] - clock[-1 - MEASURED]
    growth_mb = memory_mb[-1] - memory_mb[MEASURED]
    print(f"CPU: first {MEASURED} tracks {first:.2f} s, last {last:.2f} s; memory grew by {growth_mb:.1f} MB")
    assert last < 1.5 * first
    assert growth_mb < 20
