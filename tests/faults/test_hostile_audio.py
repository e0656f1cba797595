"""Hostile audio: nothing crashes, hangs, swells, or leads anywhere else."""

import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import hostile_audio
import numpy as np
import pytest
from toy_examples import TASK, make_tagger

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import AudioError

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

    def run(*commands):
        outcome = tmp_path_factory.mktemp("outcome") / "cost.json"
        given = outcome.with_name("commands.json")
        given.write_text(json.dumps([[str(argument) for argument in command] for command in commands]))
        program = [sys.executable, Path(__file__).with_name("hostile_runs.py"), outcome, given]
        done = subprocess.run(program, capture_output=True, text=True, errors="replace", timeout=3_600, check=False)
        assert done.returncode == 0, done.stderr[-2_000:]  # below 0: a signal
        assert "Traceback" not in done.stderr
        cost = json.loads(outcome.read_text())
        assert cost["longest_s"] < LONGEST_S
        assert cost["more_mb"] < OWN_MB
        assert cost["ffmpeg_mb"] < FFMPEG_MB
        return cost, done.stdout, done.stderr

    return run


@pytest.fixture
def extract(start, tmp_path):
    """Embed a folder; what that cost, the store, and the files by key, each of them embedded or failed."""

    def run(music, *options, then=()):
        store, scratch = tmp_path / "store", tmp_path / "scratch"
        command = ("extract", music, "--embedder", "logmel", "--store", store, "--scratch", scratch, *options)
        outcome = start(command, *then)
        store, files = EmbeddingStore(store), decoding.find_audio(music)
        assert set(store) | store.failures().keys() == files.keys()
        assert not set(store) & store.failures().keys()
        assert list(scratch.iterdir()) == []
        return outcome, store, files

    return run


@pytest.fixture
def tag(tmp_path):
    """The arguments that tag files by a tagger that has learned nothing."""
    make_tagger(TASK, load_embedder("logmel").spec).save(tmp_path / "tagger")
    return lambda *files: ("tag", *files, "--tagger", tmp_path / "tagger", "--format", "json")


def parse_document(out):
    return json.loads(out[out.index('{\n  "schema"') :])


class Visit(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.came.append(self.client_address)


@pytest.fixture
def listener():
    """A port of this machine, and the list of who came."""
    with socketserver.TCPServer(("127.0.0.1", 0), Visit) as server:
        server.came = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1], server.came
        server.shutdown()
        thread.join()


def write_all(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents:
        (folder / name).write_bytes(content)


@pytest.mark.thorough
def test_hostile_files_are_embedded_or_named(seeds, extract, tag, amount, figure, tmp_path):
    swollen, count, music = hostile_audio.swollen(seeds), amount(170, 2_000), tmp_path / "music"
    write_all(music, [*swollen.items(), *hostile_audio.damaged(seeds, count)])
    paths = set(list(decoding.find_audio(music).values())[:: amount(4, 1)])
    (cost, out, said), store, files = extract(music, then=[tag(*paths)])
    assert cost["statuses"] == [1, 1]
    assert len(files) == len(swollen) + count
    assert all(frames.dtype == np.float32 and np.isfinite(frames).all() for frames in store.values())
    failures = store.failures()
    for key, reason in failures.items():
        assert str(files[key]) in reason  # an error of ours: it names the file
        assert str(files[key]) in said
        assert len(reason) < 700
    assert len((store.root / "failures.tsv").read_text(encoding="utf-8").splitlines()) == 1 + len(failures)
    document = parse_document(out)
    tagged = {song["file"] for song in document["results"]}
    silent = {error["file"] for error in document["errors"] if "silent from beginning to end" in error["error"]}
    assert tagged | silent == {str(files[key]) for key in store if files[key] in paths}
    assert "\x1b" not in out
    figure(
        "damaged, lying and swollen audio files, through `extract` and `tag`",
        f"{len(files):,}",
        f"{len(store):,} embedded, {len(failures):,} refused with a reason, no crash; at most {cost['longest_s']:.1f} "
        f"s a track, {cost['ffmpeg_mb']:.0f} MB of ffmpeg, {cost['more_mb']:.0f} MB more of this process",
    )


@pytest.fixture
def hear(read_wav, tmp_path):
    """What comes out of a file: how loud the secret is in it, 0 to 1; None if it is refused."""

    def run(path):
        wav.unlink(missing_ok=True)
        try:
            decoding.convert_to_wav(path, wav)
        except AudioError:
            return None
        sound = read_wav(wav)
        power = np.abs(np.fft.rfft(sound)) ** 2
        hz = np.fft.rfftfreq(len(sound), 1 / decoding.SAMPLE_RATE_HZ)
        return float(power[np.abs(hz - SECRET_HZ) < 20].sum() / max(power.sum(), 1e-9))

    wav = tmp_path / "heard" / "track.wav"
    wav.parent.mkdir()
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
    contents = hostile_audio.pointing(seeds, targets, port)
    write_all(tmp_path, contents.items())
    return [tmp_path / name for name in sorted(contents)], came


def test_no_file_leads_to_another_or_to_an_address(pointing, hear, start, tag, amount, figure):
    paths, came = pointing
    loudness = {path: hear(path) for path in paths[:: amount(8, 1)]}
    embedded = {path: level for path, level in loudness.items() if level is not None}
    assert embedded
    assert max(embedded.values()) <= 0.05
    assert [path.name for path in embedded if path.name.startswith("bare")] == []
    if amount(0, 1):
        _, out, _ = start(tag(*loudness))
        assert len(parse_document(out)["results"]) == len(embedded)
    assert came == []
    figure(
        "files that name another file or an address (playlists, subtitles, movies, ID3 links)",
        f"{len(loudness):,}",
        f"{len(embedded)} embedded, with their own sound alone; {len(came)} connections, 0 other files heard",
    )


def test_without_the_lists_files_do_lead_elsewhere(pointing, hear, monkeypatch, tmp_path):
    """So the test above can fail."""
    _, came = pointing
    monkeypatch.setattr(ffmpeg, "_READING_A_FILE", ("-protocol_whitelist", "file,http,tcp"))
    assert hear(tmp_path / "bare-ffconcat-beside.ffconcat") > 0.9
    assert came == []
    assert hear(tmp_path / "bare-m3u8-http.m3u8") is None
    assert len(came) > 0


STRACE = shutil.which("strace")


@pytest.mark.slow
@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_ffmpeg_opens_no_other_file_and_no_socket(pointing, tmp_path, monkeypatch, amount, figure, hear):
    paths = pointing[0][:: amount(12, 1)]
    log, program = tmp_path / "calls", tmp_path / "traced"
    log.mkdir()
    trace = f"{STRACE} -f -qq -e trace=%network,open,openat,creat -o '{log}'/$$"
    program.write_text(f"#!/bin/sh\nexec {trace} '{ffmpeg.find_ffmpeg()}' \"$@\"\n")
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
    assert time.monotonic() - started < 5
    assert decoding.find_audio(tmp_path).keys() == {"memory"}


@pytest.mark.thorough
def test_hours_of_silence_in_a_small_file_do_not_fill_memory(extract, amount, figure, tmp_path):
    seconds, music = amount(1, 30) * 1200, tmp_path / "music"
    music.mkdir()
    source = ("-f", "lavfi", "-i", f"anullsrc=r=44100:cl=mono:d={seconds}", "-frame_size", "65535")
    subprocess.run([ffmpeg.find_ffmpeg(), "-v", "error", *source, music / "silence.flac"], check=True)  # 35 kB an hour
    (music / "lying.mp3").write_bytes(hostile_audio.xing(2_500, round(seconds / 0.072)))  # says 3 minutes
    size = (music / "silence.flac").stat().st_size
    (cost, _, said), store, _ = extract(music)
    assert cost["statuses"] == [0], said
    assert [len(frames) * 0.96 for frames in store.values()] == pytest.approx([seconds] * 2, abs=2)
    figure(
        f"{seconds / 3600:.2g} hours of silence in a small FLAC file, and in an MP3 that says 3 minutes",
        2,
        f"{size / 1e6:.2f} MB, embedded; {cost['more_mb']:.0f} MB more of this process, {cost['ffmpeg_mb']:.0f} MB of "
        f"ffmpeg, {cost['longest_s']:.0f} s a track",
    )


@pytest.mark.slow
def test_libsndfile_reads_hostile_files_in_this_process(seeds, extract, amount, figure, tmp_path):
    """It is not for strangers' files; this is what it does with them."""
    damaged = hostile_audio.damaged(seeds, amount(80, 2_000))
    write_all(tmp_path / "music", [*hostile_audio.swollen(seeds).items(), *damaged])
    (cost, _, _), store, files = extract(tmp_path / "music", "--decoder", "libsndfile")
    refused, more = len(files) - len(store), f"{cost['more_mb']:.0f} MB more of this process"
    result = f"{len(store):,} embedded, {refused:,} refused, no crash; {more}"
    figure("the same files with `--decoder libsndfile`", f"{len(files):,}", result)
