"""That a run of the size of MTG-Jamendo costs no more for its last track than for its first."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.audio import decoding
from jamendo_mood.audio.ffmpeg import find_ffmpeg
from jamendo_mood.extraction.streaming import StreamConfig, extract
from jamendo_mood.store.embedding_store import EmbeddingStore

MOOD_TRACKS = 18_486
MEASURED = 1_000


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def cpu_s() -> float:
    return time.process_time()


@pytest.fixture
def instant_decoder(monkeypatch):
    """Three seconds of noise for whatever file, so that what is left is the cost of a track."""
    wave = np.random.default_rng(0).standard_normal(48_000).astype(np.float32)

    def decode(path, scratch, block, overlap) -> Iterator[np.ndarray]:
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
    clock, memory_mb = [cpu_s()], [resident_mb()]

    def note(_):
        clock.append(cpu_s())
        memory_mb.append(resident_mb())

    report = extract(tracks, stub_embedder, store, StreamConfig(scratch=empty_scratch), on_track=note)
    assert (report.done, report.failed) == (MOOD_TRACKS, {})
    first, last = clock[MEASURED] - clock[0], clock[-1] - clock[-1 - MEASURED]
    growth_mb = memory_mb[-1] - memory_mb[MEASURED]
    print(f"CPU: first {MEASURED} tracks {first:.2f} s, last {last:.2f} s; memory grew by {growth_mb:.1f} MB")
    assert last < 1.5 * first
    assert growth_mb < 20


@pytest.mark.slow
def test_a_mix_of_ten_hours_stays_below_2_gb(seeded_module, empty_scratch, tmp_path):
    mix = tmp_path / "mix.mp3"
    source = ("-f", "lavfi", "-i", "sine=440:duration=36000:sample_rate=16000")
    subprocess.run([find_ffmpeg(), "-v", "error", *source, "-b:a", "16k", str(mix)], check=True)
    command = [sys.executable, "-m", "jamendo_mood", "extract", tmp_path, "--scratch", empty_scratch]
    command += ["--store", tmp_path / "store", "--weights", seeded_module, "--allow-untrained"]
    program = (
        "import resource, subprocess, sys\n"
        "status = subprocess.run(sys.argv[1:]).returncode\n"
        "print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)], check=True, capture_output=True, text=True
    )
    status, peak_gb = done.stdout.splitlines()[-1].split()
    print(f"peak memory of the process and of any of its children: {float(peak_gb):.2f} GB")
    assert int(status) == 0, done.stderr
    assert len(EmbeddingStore(tmp_path / "store")["mix"]) == 37_499  # of the last, which the end cuts short, nothing
    assert float(peak_gb) < 2.0
