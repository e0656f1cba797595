"""Hostile audio: nothing crashes, hangs, swells, or leads anywhere else."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import hostile_audio
import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import AudioError
from jamendo_mood.util.files import Scratch

SECRET_HZ = 3_000
LONGEST_S = 4 * ffmpeg.GRACE_S  # two runs of ffmpeg, and the wait for the network
OWN_MB, FFMPEG_MB = 400, 300
"""What a run may grow by, whatever it is given, and the most that ffmpeg may take."""


@pytest.fixture(scope="module")
def seeds(make_audio, noise, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    sound = noise(1.2, channels=2, rate_hz=44_100)
    paths = [make_audio(folder / f"seed.{name}", sound, 44_100, opts) for name, opts in hostile_audio.SEEDS.items()]
    return {path.suffix.strip("."): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Run commands in one process of its own; what it cost, and what it said."""

    def run(*commands, tagger=None, timeout_s=3_600):
        outcome = tmp_path_factory.mktemp("outcome") / "cost.json"
        given = outcome.with_name("commands.json")
        given.write_text(json.dumps([[str(argument) for argument in command] for command in commands]))
        program = Path(__file__).with_name("hostile_runs.py")
        arguments = [sys.executable, str(program), str(outcome), str(tagger or "none"), str(given)]
        done = subprocess.run(arguments, capture_output=True, timeout=timeout_s, check=False)
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, said[-2_000:]  # below 0: a signal
        assert "Traceback" not in said
        return json.loads(outcome.read_text()), done.stdout.decode(), said

    return run


@pytest.fixture
def listener():
    """A port of this machine, and the list of who came."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append(connection.recv(100))
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def write_all(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents:
        (folder / name).write_bytes(content)


def check_store(store, files):
    """Each file is embedded, or named with its reason on one line; returns both sets of keys."""
    embedded, failures = set(store), store.failures()
    assert embedded | failures.keys() == files.keys()
    assert not embedded & failures.keys()
    for key in embedded:
        assert store[key].dtype == np.float32
        assert np.isfinite(store[key]).all()
    for key, reason in failures.items():
        assert str(files[key]) in reason  # an error of ours: it names the file
        assert len(reason) < 700
    lines = (store.root / "failures.tsv").read_text(encoding="utf-8").splitlines() if failures else [""]
    assert len(lines) == 1 + len(failures)
    return embedded, set(failures)


@pytest.mark.thorough
def test_hostile_files_are_embedded_or_named(seeds, start, amount, figure, tmp_path):
    swollen = hostile_audio.swollen(seeds)
    count = amount(170, 2_000)
    music, scratch, store = tmp_path / "music", tmp_path / "scratch", tmp_path / "store"
    write_all(music, [*swollen.items(), *hostile_audio.damaged(seeds, count)])
    files = decoding.find_audio(music)
    assert len(files) == len(swollen) + count
    extract = ("extract", music, "--embedder", "logmel", "--store", store, "--scratch", scratch)
    heard = set(list(files.values())[:: amount(4, 1)])
    tag = ("tag", *heard, "--tagger", tmp_path / "tagger", "--format", "json")
    cost, out, said = start(extract, tag, tagger=tmp_path / "tagger")
    assert cost["statuses"] == [1, 1]
    embedded, failed = check_store(EmbeddingStore(store), files)
    document = json.loads(out[out.index('{\n  "schema"') :])
    tagged = {song["file"] for song in document["results"]}
    silent = {error["file"] for error in document["errors"] if "silent from beginning to end" in error["error"]}
    assert tagged | silent == {str(files[key]) for key in embedded if files[key] in heard}
    assert all(str(files[key]) in said for key in failed)
    assert "\x1b" not in out
    assert cost["longest_s"] < LONGEST_S
    assert cost["own_mb"] - cost["before_mb"] < OWN_MB
    assert cost["ffmpeg_mb"] < FFMPEG_MB
    assert list(scratch.iterdir()) == []
    figure(
        "damaged, lying and swollen audio files, through `extract` and `tag`",
        f"{len(files):,}",
        f"{len(embedded):,} embedded, {len(failed):,} refused with a reason, no crash; at most "
        f"{cost['longest_s']:.1f} s a track, {cost['ffmpeg_mb']:.0f} MB of ffmpeg, "
        f"{cost['own_mb'] - cost['before_mb']:.0f} MB more of this process",
    )


@pytest.fixture
def hear(tmp_path):
    """What comes out of a file: how loud the secret is in it, 0 to 1; None if it is refused."""

    def run(path):
        with Scratch(tmp_path) as scratch:
            try:
                with decoding.converted(path, scratch) as wav:
                    sound = np.concatenate(list(decoding.read_blocks(wav, 1 << 16)))
            except AudioError:
                return None
        power = np.abs(np.fft.rfft(sound)) ** 2
        hz = np.fft.rfftfreq(len(sound), 1 / decoding.SAMPLE_RATE_HZ)
        return float(power[np.abs(hz - SECRET_HZ) < 20].sum() / max(power.sum(), 1e-9))

    return run


@pytest.fixture
def pointing(seeds, listener, make_audio, tone, tmp_path):
    """Files that name a secret file or an address, and how to tell whether they got it."""
    port, came = listener
    secret = make_audio(tmp_path / "secret" / "secret.wav", tone(SECRET_HZ))
    shutil.copy(secret, tmp_path / "secret.wav")
    targets = {
        "path": str(secret),
        "file-url": f"file://{secret}",
        "beside": "secret.wav",
        "http": f"http://127.0.0.1:{port}/x.wav",
        "tcp": f"tcp://127.0.0.1:{port}",
    }
    write_all(tmp_path, hostile_audio.pointing(seeds, targets, port).items())
    return sorted(path for path in tmp_path.iterdir() if path.is_file() and path.name != "secret.wav"), came


def test_no_file_leads_to_another_or_to_an_address(pointing, hear, start, amount, figure, tmp_path):
    paths, came = pointing
    chosen = paths[:: amount(8, 1)]
    loudness = {path: hear(path) for path in chosen}
    assert {path for path, level in loudness.items() if level is not None and level > 0.05} == set()
    assert [path.name for path, level in loudness.items() if level is not None and path.name.startswith("bare")] == []
    assert any(level is not None for level in loudness.values())
    tag = ("tag", *chosen, "--tagger", tmp_path / "tagger", "--format", "json")
    if amount(0, 1):
        _, out, _ = start(tag, tagger=tmp_path / "tagger")
        tagged = json.loads(out[out.index('{\n  "schema"') :])["results"]
        assert len(tagged) == sum(level is not None for level in loudness.values())
    assert came == []
    figure(
        "files that name another file or an address (playlists, subtitles, movies, ID3 links)",
        f"{len(chosen):,}",
        f"{sum(level is not None for level in loudness.values())} embedded, with their own sound alone; "
        f"{len(came)} connections, 0 other files heard",
    )


def test_without_the_lists_files_do_lead_elsewhere(pointing, hear, monkeypatch, tmp_path):
    """So the test above can fail."""
    paths, came = pointing
    monkeypatch.setattr(ffmpeg, "_READING_A_FILE", ("-protocol_whitelist", "file,http,tcp"))
    by_name = {path.name: path for path in paths}
    assert hear(by_name["bare-ffconcat-beside.ffconcat"]) > 0.9
    assert came == []
    assert hear(by_name["bare-m3u8-http.m3u8"]) is None
    assert len(came) > 0


STRACE = shutil.which("strace")


@pytest.mark.slow
@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_ffmpeg_opens_no_other_file_and_no_socket(pointing, tmp_path, monkeypatch, amount, figure, hear):
    paths = pointing[0][:: amount(12, 1)]
    log = tmp_path / "calls"
    log.mkdir()
    program = tmp_path / "traced"
    real = ffmpeg.find_ffmpeg()
    program.write_text(
        f"#!/bin/sh\nexec {STRACE} -f -qq -e trace=%network,open,openat,creat -o '{log}'/$$ '{real}' \"$@\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: str(program))
    for path in paths:
        hear(path)
    text = "".join(file.read_text(errors="replace") for file in log.iterdir())
    opened = set(re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)"', text))
    usual = ("/lib", "/usr/lib", "/etc/ld.so", "/proc/", "/sys/", "/dev/null", "/etc/localtime", "/usr/share/zoneinfo")
    ours = {str(path) for path in paths}
    assert len(opened & ours) == len(paths)
    others = {name for name in opened - ours if not name.startswith(usual) and not name.endswith("track.wav")}
    assert others == set()
    assert re.findall(r"(?:socket|connect|sendto)\(.*", text) == []
    figure("the same, under strace", f"{len(paths):,}", f"{len(others)} other files opened, 0 sockets")


def test_what_is_no_file_is_refused_at_once(hear, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp3")
    for name, target in {"zero.mp3": "/dev/zero", "memory.mp3": "/proc/self/mem", "folder.mp3": "/"}.items():
        (tmp_path / name).symlink_to(target)
    started = time.monotonic()
    for name in ("pipe.mp3", "zero.mp3", "memory.mp3", "folder.mp3"):
        with pytest.raises(AudioError, match=name):
            decoding.convert_to_wav(tmp_path / name, tmp_path / "out.wav")
        assert hear(tmp_path / name) is None
    assert time.monotonic() - started < 5
    assert decoding.find_audio(tmp_path).keys() == {"memory"}


def make_silence(path, hours):
    """A FLAC of silence, 35 kB an hour."""
    source = ("-f", "lavfi", "-i", f"anullsrc=r=44100:cl=mono:d={hours * 3600}")
    command = [ffmpeg.find_ffmpeg(), "-nostdin", "-v", "error", *source, "-frame_size", "65535", str(path)]
    subprocess.run(command, check=True)


@pytest.mark.thorough
def test_hours_of_silence_in_a_small_file_do_not_fill_memory(start, amount, figure, tmp_path):
    hours = amount(1, 30) / 3
    music = tmp_path / "music"
    music.mkdir()
    make_silence(music / "silence.flac", hours)
    frames = round(hours * 3600 / 0.072)
    (music / "lying.mp3").write_bytes(hostile_audio.xing(2_500, frames))  # says 3 minutes
    sizes = [path.stat().st_size for path in sorted(music.iterdir())]
    options = ("--embedder", "logmel", "--store", tmp_path / "store", "--scratch", tmp_path / "scratch")
    cost, _, said = start(("extract", music, *options))
    assert cost["statuses"] == [0], said
    store = EmbeddingStore(tmp_path / "store")
    assert [len(store[key]) * 0.96 for key in store] == pytest.approx([hours * 3600] * 2, abs=2)
    assert cost["own_mb"] - cost["before_mb"] < OWN_MB
    assert cost["ffmpeg_mb"] < FFMPEG_MB
    figure(
        f"{hours:.2g} hours of silence in a small FLAC file, and in an MP3 that says 3 minutes",
        2,
        f"{sizes[1] / 1e6:.2f} MB, embedded; {cost['own_mb'] - cost['before_mb']:.0f} MB more of this process, "
        f"{cost['ffmpeg_mb']:.0f} MB of ffmpeg, {cost['longest_s']:.0f} s a track",
    )


@pytest.mark.slow
def test_libsndfile_reads_hostile_files_in_this_process(seeds, start, amount, figure, tmp_path):
    """It is not for strangers' files; this is what it does with them."""
    count = amount(80, 2_000)
    music, store = tmp_path / "music", tmp_path / "store"
    write_all(music, [*hostile_audio.swollen(seeds).items(), *hostile_audio.damaged(seeds, count)])
    files = decoding.find_audio(music)
    options = ("--embedder", "logmel", "--store", store, "--scratch", tmp_path / "scratch")
    cost, _, _ = start(("extract", music, *options, "--decoder", "libsndfile"))
    embedded, failures = set(EmbeddingStore(store)), EmbeddingStore(store).failures()
    assert embedded | failures.keys() == files.keys()
    figure(
        "the same files with `--decoder libsndfile`",
        f"{len(files):,}",
        f"{len(embedded):,} embedded, {len(failures):,} refused, no crash; {cost['own_mb'] - cost['before_mb']:.0f} MB "
        "more of this process",
    )
