import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.audio import ffmpeg
from jamendo_mood.extraction.streaming import StreamConfig, embed_files
from jamendo_mood.util.errors import AudioError, CancelledError

PACKAGE = Path(ffmpeg.__file__).parents[1]


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """Put a shell script in ffmpeg's place; the file that a run is given there."""
    source = tmp_path / "song.mp3"
    source.write_bytes(b"anything")

    def start(script, **options):
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: str(program))
        return ffmpeg.run("-i", str(source), **options)

    return start


def test_nothing_else_in_the_package_starts_processes():
    starters = {path.name for path in PACKAGE.rglob("*.py") if "subprocess" in path.read_text(encoding="utf-8")}
    assert starters == {"ffmpeg.py", "engines.py", "musicnn.py", "parquet.py"}  # the last: pip, and Python


def test_every_input_is_read_with_the_lists_before_it(pretend):
    said = pretend('echo "$@"').output.decode().split()
    assert said[: said.index("-i")] == ["-hide_banner", "-nostdin", *ffmpeg._READING_A_FILE]
    assert "-protocol_whitelist file -format_whitelist aac," in " ".join(said)


def test_the_lists_are_of_what_this_ffmpeg_knows_and_of_nothing_that_opens_files():
    known = {}
    for kind in ("demuxers", "decoders"):
        command = [ffmpeg.find_ffmpeg(), "-hide_banner", f"-{kind}"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        known[kind] = {parts[1]: parts[0] for line in lines if len(parts := line.split()) > 1}
    names = {name for entry in known["demuxers"] for name in entry.split(",")}
    listed = set(ffmpeg.FORMATS.split(","))
    assert len(listed & names) > 0.9 * len(listed)
    assert not listed & {"concat", "hls", "dash", "imf", "image2", "lavfi", "sdp", "rtsp", "rtp"}
    assert not listed & {"vobsub", "webvtt", "srt", "ass"}
    decoders = set(ffmpeg.CODECS.split(","))
    assert {known["decoders"][name][0] for name in decoders & known["decoders"].keys()} == {"A"}  # sound


def test_what_goes_in_comes_out_whatever_its_size(pretend):
    fed = np.random.default_rng(0).bytes(3_000_000)
    done = pretend("cat", fed=fed)
    assert (done.status, done.output, done.report) == (0, fed, "")
    assert pretend("exit 3", fed=fed).status == 3  # which does not read
    assert pretend("sleep 0.5; cat", fed=fed).output == fed


def test_the_beginning_and_the_end_of_a_long_report_are_kept(pretend):
    report = pretend("echo first >&2; head -c 5000000 /dev/zero | tr '\\0' 'x' >&2; echo; echo last >&2").report
    assert report.startswith("first\n")
    assert report.endswith("last\n")
    assert len(report) == 2 * ffmpeg._KEPT_BYTES


@pytest.mark.parametrize("script", ["exec sleep 60", "exec sleep 60 >&- 2>&-", "while :; do echo x >&2; done"])
def test_a_run_that_gives_nothing_ends(script, pretend, monkeypatch):
    monkeypatch.setattr(ffmpeg, "GRACE_S", 0.5)
    started = time.monotonic()
    with pytest.raises(AudioError, match=r"song\.mp3: cannot be decoded \(stopped after \d s with 0 s\)"):
        pretend(script)
    assert time.monotonic() - started < 10


def test_a_slow_run_may_take_as_long_as_what_it_makes_plays(monkeypatch, pretend, tmp_path):
    monkeypatch.setattr(ffmpeg, "GRACE_S", 1.5)
    wav = tmp_path / "out.wav"
    slow = "for n in 1 2 3 4; do head -c 64000 /dev/zero {to}; sleep 0.5; done"
    assert len(pretend(slow.format(to="")).output) == 256_000
    assert pretend(slow.format(to=f">> '{wav}'"), writes=wav).status == 0


def test_more_than_may_come_out_is_too_much(pretend, tmp_path):
    with pytest.raises(ffmpeg.TooMuchError, match=r"song\.mp3: longer than 0\.01 hours; cut it into parts"):
        pretend("cat /dev/zero", max_bytes=ffmpeg.BYTES_PER_S * 36)
    wav = tmp_path / "out.wav"
    with pytest.raises(ffmpeg.TooMuchError):
        pretend(f"exec cat /dev/zero > '{wav}'", writes=wav, max_bytes=1_000_000)


def test_a_crash_is_told_by_its_signal(pretend, tmp_path):
    done = pretend("kill -SEGV $$")
    assert done.status == -signal.SIGSEGV
    assert done.reason(tmp_path / "song.mp3") == "ffmpeg was ended by SIGSEGV"


def test_reasons_are_one_short_line_without_control_characters(tmp_path):
    report = "Input #0\n[mp3 @ 0x1] \x1b[31mbad " + "x" * 10_000 + "\nConversion failed!\n"
    reason = ffmpeg.Done(1, b"", report).reason(tmp_path)
    assert reason.startswith("\\x1b[31mbad xx")
    assert len(reason) < 400


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="limits need Linux")
def test_memory_and_cores_are_limited(pretend):
    limits = pretend("sleep 0.2; ulimit -d; ulimit -c; ulimit -t").output.decode().split()
    assert limits == [str(ffmpeg.MEMORY_BYTES // 1024), "0", str(round(ffmpeg.GRACE_S + ffmpeg.MAX_S))]


def test_a_run_is_stopped_from_another_thread(pretend):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(CancelledError), ffmpeg.stopped_by(stop.is_set), ffmpeg.stopped_by(lambda: False):
        pretend("exec sleep 60")
    assert time.monotonic() - started < 5


def test_when_embedding_is_cancelled_so_is_ffmpeg(pretend, stub_embedder, empty_scratch, tmp_path):
    pretend("exit 0")  # from here on, a program that sleeps
    (tmp_path / "program").write_text("#!/bin/sh\nexec sleep 60\n")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with ffmpeg.stopped_by(stop.is_set):
        (result,) = embed_files({"song": tmp_path / "song.mp3"}, stub_embedder, StreamConfig(scratch=empty_scratch))
    assert time.monotonic() - started < 10
    assert isinstance(result.cause, CancelledError)
