import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.extraction.streaming import BLOCK_FRAMES, Chunk, StreamConfig, embed_chunks, embed_files
from jamendo_mood.util.errors import AudioError, DiskFullError, UsageError

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


@pytest.fixture
def watched(stub_embedder):
    """The stub embedder, and the shapes of the batches it was given."""
    shapes = []

    def network(inputs):
        shapes.append(inputs.shape)
        return stub_embedder.network(inputs)

    return replace(stub_embedder, network=network), shapes


def test_every_track_comes_out_as_if_it_were_alone(songs, stub_embedder, config, read_wav, tmp_path):
    results = {result.key: result for result in embed_files(songs, stub_embedder, config)}
    assert results.keys() == songs.keys()
    for key, source in songs.items():
        wav = tmp_path / f"{key}.wav"
        decoding.convert_to_wav(source, wav)
        wave = read_wav(wav)
        assert results[key].duration_s == len(wave) / decoding.SAMPLE_RATE_HZ
        assert np.array_equal(results[key].frames, stub_embedder.embed(wave))


def test_all_batches_have_one_shape_and_cross_the_borders_of_tracks(songs, watched, config):
    embedder, shapes = watched
    total = sum(len(result.frames) for result in embed_files(songs, embedder, config))
    assert set(shapes) == {(config.batch, embedder.window_samples)}
    assert len(shapes) == -(-total // config.batch)


def test_an_embedding_does_not_depend_on_batch_threads_or_company(songs, stub_embedder, config):
    together = {result.key: result.frames for result in embed_files(songs, stub_embedder, config)}
    other = replace(config, batch=7, prefetch=1)
    for key, source in songs.items():
        (alone,) = embed_files({key: source}, stub_embedder, other)
        assert np.array_equal(alone.frames, together[key])


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


def test_windows_with_gaps_are_those_of_the_whole(stub_embedder, config, make_audio, noise, read_wav, tmp_path):
    hop = 3 * stub_embedder.window_samples // 2
    gappy = replace(
        stub_embedder,
        hop_samples=hop,
        frontend=lambda wave: np.lib.stride_tricks.sliding_window_view(wave, stub_embedder.window_samples)[::hop],
    )
    source = make_audio(tmp_path / "long.wav", noise(15.0), rate_hz=16_000)
    (result,) = embed_files({"long": source}, gappy, config)
    assert len(result.frames) == 1 + (15 * 16_000 - stub_embedder.window_samples) // hop > 2 * BLOCK_FRAMES
    assert np.array_equal(result.frames, gappy.embed(read_wav(source)))


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


def test_an_error_in_the_middle_of_a_track_drops_what_came_before(stub_embedder):
    rows = np.ones((3, stub_embedder.window_samples), np.float32)
    chunks = [
        Chunk("good", rows),
        Chunk("bad", rows * 2),
        Chunk("bad", error=AudioError("bad.mp3: torn")),
        Chunk("good", rows * 3, duration_s=1.0),
        Chunk("good", last=True, duration_s=1.0),
    ]
    results = {result.key: result for result in embed_chunks(chunks, stub_embedder, batch=4)}
    assert results["bad"].frames is None
    assert results["bad"].error == "bad.mp3: torn"
    assert results["good"].frames[:, 0].tolist() == [1, 1, 1, 3, 3, 3]


def test_a_full_disk_stops_the_run(songs, stub_embedder, config, monkeypatch):
    def fill(*_):
        raise DiskFullError("no space left in the scratch folder")

    monkeypatch.setattr(decoding, "convert_to_wav", fill)
    with pytest.raises(DiskFullError):
        list(embed_files(songs, stub_embedder, config))


def test_no_ffmpeg_anywhere_stops_the_run_rather_than_fail_every_track(songs, stub_embedder, config, monkeypatch):
    def nowhere():
        raise UsageError("no ffmpeg on the PATH")

    monkeypatch.setattr(ffmpeg, "find_ffmpeg", nowhere)
    with pytest.raises(UsageError, match="no ffmpeg"):
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
    counts, met = [], set()
    meeting = threading.Barrier(prefetch, timeout=60)

    def count():
        # os.walk, unlike a glob, does not mind a folder that goes away under its eyes.
        counts.append(sum("track.wav" in files for _, _, files in os.walk(empty_scratch)))

    def frontend(wave):
        if threading.get_ident() not in met:  # each thread waits once until all have a WAV in hand
            met.add(threading.get_ident())
            meeting.wait()
        count()
        return stub_embedder.frontend(wave)

    def network(inputs):
        count()
        return stub_embedder.network(inputs)

    embedder = replace(stub_embedder, frontend=frontend, network=network)
    many = {f"{key} {number}": path for number in range(5) for key, path in songs.items()}
    results = list(embed_files(many, embedder, StreamConfig(batch=4, prefetch=prefetch, scratch=empty_scratch)))
    assert [result.error for result in results] == [""] * len(many)
    assert prefetch <= max(counts) <= prefetch + 1


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
def test_65_minutes_need_the_memory_of_5(measure_peak_mb, tmp_path):
    (_, short_mb), (frames, long_mb) = (measure_peak_mb("logmel", tmp_path, minutes) for minutes in (5, 65))
    assert frames == 65 * 60 // 0.96
    assert long_mb - short_mb < 40  # the samples alone would be 250 MB


@pytest.mark.slow
def test_65_minutes_of_vggish_need_the_memory_of_5(measure_peak_mb, seeded_module):
    short, long = (measure_peak_mb("vggish", seeded_module, minutes) for minutes in (5, 65))
    print(f"peak memory: {short[1]:.0f} MB for {short[0]} frames, {long[1]:.0f} MB for {long[0]} frames")
    assert long[1] - short[1] < 80
