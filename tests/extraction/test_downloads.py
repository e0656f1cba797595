import contextlib
import hashlib
import io
import os
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jamendo_mood.audio import decoding
from jamendo_mood.cli.main import main
from jamendo_mood.datasets.jamendo import QUALITIES
from jamendo_mood.extraction import downloads
from jamendo_mood.extraction.downloads import DownloadConfig, Downloads
from jamendo_mood.extraction.streaming import StreamConfig, embed_files, extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import DiskFullError, NetworkError, UsageError

pytest_plugins = ["flaky_server"]

LOW = QUALITIES["low"]
COUNT = 8  # two folders of four tracks


@pytest.fixture(scope="module")
def library(make_audio, noise, tmp_path_factory):
    """Eight MP3s in MTG's layout, of 60 to 80 kB, and the two tars that hold them."""
    root = tmp_path_factory.mktemp("library")
    keys = [f"{folder}/{number}{folder}" for folder in ("07", "48") for number in range(1, 5)]
    for number, key in enumerate(keys):
        path = root / "files" / LOW.path_of(key)
        make_audio(path, noise(10.0 + number / 2, seed=number), 16_000, ("-b:a", "48k"))
    for folder in ("07", "48"):
        with tarfile.open(root / LOW.tar_name.format(folder), "w") as tar:
            tar.add(root / "files" / folder, folder)
    checksums = {key: hashlib.sha256((root / "files" / LOW.path_of(key)).read_bytes()).hexdigest() for key in keys}
    return SimpleNamespace(root=root, keys=keys, checksums=checksums)


@pytest.fixture(scope="module")
def expected(library, stub_embedder):
    """The embeddings of the same files on disk."""
    results = embed_files(decoding.find_audio(library.root / "files"), stub_embedder, StreamConfig(batch=16))
    return {result.key: result.frames for result in results}


@pytest.fixture(params=["files", "tars"])
def form(request):
    return request.param


@pytest.fixture
def place(library, server):
    """Let the server have the library, as files or as tars."""

    def start(form):
        server.folder.rmdir()
        server.folder.mkdir()
        for path in (library.root / "files").iterdir() if form == "files" else library.root.glob("*.tar"):
            (server.folder / path.name).symlink_to(path)
        return LOW.tar_name if form == "tars" else ""

    return start


def feed_of(library, server, **options):
    """What downloads all of the library, and its tracks."""
    config = DownloadConfig(server.url, library.checksums, **options)
    return partial(Downloads, config), {key: LOW.path_of(key) for key in library.keys}


@pytest.fixture
def run(library, server, place, sleeper, stub_embedder, empty_scratch, tmp_path):
    """Extract from the server into one store; gives the report."""
    placed = []

    def start(form="files", keys=None, embedder=stub_embedder, prefetch=2, **options):
        if not placed:
            placed.append(place(form))
        fields = {"tar_name": placed[0], "max_scratch_bytes": 10**9, "sleep": sleeper, **options}
        feed, tracks = feed_of(library, server, **fields)
        if keys is not None:
            tracks = {key: LOW.path_of(key) for key in keys}
        stream = StreamConfig(batch=16, prefetch=prefetch, scratch=empty_scratch, feed=feed)
        return extract(tracks, embedder, EmbeddingStore(tmp_path / "store", embedder.spec), stream)

    return start


def name_in(form, key="48/348"):
    """What the server is asked for to get a track."""
    return LOW.path_of(key).as_posix() if form == "files" else LOW.tar_name.format(key[:2])


def offset_in(form, library, key="48/348"):
    """Where a track begins in that."""
    if form == "files":
        return 0
    with tarfile.open(library.root / name_in(form, key)) as tar:
        return tar.getmember(LOW.path_of(key).as_posix()).offset_data


def assert_stored(tmp_path, expected, missing=()):
    store = EmbeddingStore(tmp_path / "store")
    assert sorted({*store} | {*missing}) == sorted(expected)
    for key in store:
        assert np.array_equal(store[key], expected[key])


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("download", "decode"))]


def test_what_comes_from_the_web_is_embedded_as_if_it_had_been_on_disk(form, run, server, expected, tmp_path):
    report = run(form)
    assert (report.done, report.failed) == (COUNT, {})
    assert_stored(tmp_path, expected)
    assert sorted(server.asked) == sorted({name_in(form, key) for key in expected})
    assert server.busiest <= 3


@pytest.mark.parametrize("ranges", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_cuts_and_a_busy_server_change_nothing(form, ranges, run, server, expected, sleeper, tmp_path):
    server.ranges = ranges
    server.plans[name_in(form)] = [
        {"status": 503, "headers": {"Retry-After": "40"}},
        {"cut": 40_000},
        {"cut": 1000},
        {"status": 500},
    ]
    assert run(form).failed == {}
    assert_stored(tmp_path, expected)
    assert len(sleeper.waits_s) == 4
    assert sleeper.waits_s[0] >= 40
    assert len(server.asked) == len({name_in(form, key) for key in expected}) + 4
    assert max(server.starts) > 0


def test_a_wrong_byte_is_seen_and_the_file_fetched_again(form, run, server, library, expected, sleeper, tmp_path):
    offset = offset_in(form, library)
    server.plans[name_in(form)] = [{"spoiled": offset + 100}]
    assert run(form).failed == {}
    assert_stored(tmp_path, expected)
    assert len(sleeper.waits_s) == 1
    assert server.asked.count(name_in(form)) == 2
    # Of a tar, what was right is not fetched again.
    assert max(server.starts) == max(0, offset - 512)


def test_a_file_that_stays_wrong_is_a_failure_that_names_both_hashes(form, run, server, library, expected, tmp_path):
    offset = offset_in(form, library)
    name = LOW.path_of("48/348").as_posix()
    content = bytearray((library.root / "files" / name).read_bytes())
    content[100] ^= 1
    server.always[name_in(form)] = {"spoiled": offset + 100}
    report = run(form)
    got, right = hashlib.sha256(content).hexdigest(), library.checksums["48/348"]
    reason = f"{server.url}/{name_in(form)}: {name} is not MTG's (SHA-256 {got}, expected {right}); tried 3 times"
    assert report.failed == {"48/348": reason}
    assert EmbeddingStore(tmp_path / "store").failures() == report.failed
    assert_stored(tmp_path, expected, missing=["48/348"])
    assert server.asked.count(name_in(form)) == 3


def test_a_file_that_is_not_there_is_a_failure_and_the_others_go_on(run, server, expected, tmp_path):
    server.always["48/348.low.mp3"] = {"status": 404}
    report = run()
    assert report.failed == {"48/348": f"{server.url}/48/348.low.mp3: HTTP 404 Not Found"}
    assert_stored(tmp_path, expected, missing=["48/348"])
    # A second run leaves it alone, and asks for nothing at all.
    server.asked.clear()
    again = run()
    assert (again.done, again.skipped, list(again.failed)) == (0, COUNT - 1, ["48/348"])
    assert server.asked == []


def test_a_track_that_its_tar_lacks_is_a_failure(run, server, library, expected, tmp_path):
    report = run("tars", keys=[*library.keys, "48/5548"])
    assert report.failed == {"48/5548": f"{server.url}/{LOW.tar_name.format('48')}: 48/5548.low.mp3 is not in it"}
    assert_stored(tmp_path, expected)
    assert len(server.asked) == 2  # it is not fetched again for that


def test_a_right_file_that_cannot_be_decoded_is_a_failure(run, server, library, expected, tmp_path, monkeypatch):
    text = b"not a song" * 1000
    monkeypatch.setitem(library.checksums, "48/9948", hashlib.sha256(text).hexdigest())
    server.always["48/9948.low.mp3"] = {"content": text}
    report = run(keys=[*library.keys, "48/9948"])
    assert list(report.failed) == ["48/9948"]
    assert "48-9948.low.mp3: not a readable audio file" in report.failed["48/9948"]
    assert_stored(tmp_path, expected)


def test_a_server_that_gives_nothing_stops_the_run_and_blames_no_track(run, server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "GIVE_UP_AFTER", 4)
    server.url += "/elsewhere"
    with pytest.raises(NetworkError, match=r"elsewhere: all of the last 4 downloads failed, such as .*HTTP 404"):
        run()
    assert EmbeddingStore(tmp_path / "store").failures() == {}
    assert not running()


def test_a_server_that_is_away_blames_no_track_however_few_there_are(form, run, server, tmp_path):
    server.always = {name_in(form, key): {"status": 503} for key in ("07/107", "48/348")}
    with pytest.raises(
        NetworkError, match=r"all of the last 2 downloads failed, such as .* HTTP 503 .*; tried 6 times \("
    ):
        run(form, keys=["07/107", "48/348"])
    assert EmbeddingStore(tmp_path / "store").failures() == {}
    # But a server that answers, with a wrong file, is there.
    server.always[name_in(form)] = {"status": 404}
    assert sorted(run(form, keys=["07/107", "48/348"]).failed) == ["07/107", "48/348"]


def test_what_is_in_the_store_is_not_asked_for(form, run, server, expected, tmp_path):
    run(form, keys=[key for key in expected if key.startswith("07")] + ["48/148"])
    server.asked.clear()
    report = run(form)
    assert (report.done, report.skipped) == (3, 5)
    assert_stored(tmp_path, expected)
    assert sorted(server.asked) == sorted({name_in(form, f"48/{number}48") for number in (2, 3, 4)})


def test_no_track_to_fetch_is_no_fault(run, server):
    assert run(keys=[]).done == 0
    assert server.asked == []


@pytest.mark.parametrize("connections", [1, 2])
def test_connections_are_limited_and_used(connections, run, server, monkeypatch):
    answer, gate = server.answer, threading.Barrier(connections, timeout=10)

    def meet(path):
        gate.wait()
        return answer(path)

    server.answer = meet
    assert run(connections=connections).done == COUNT
    assert server.busiest == connections


def size_of(folder, suffix):
    """The bytes of the files below a folder whose names end so."""
    total = 0
    for root, _, names in os.walk(folder):  # which, unlike a glob, does not mind a folder that goes away
        for name in names:
            with contextlib.suppress(OSError):  # it has just gone
                total += (Path(root) / name).stat().st_size if name.endswith(suffix) else 0
    return total


@pytest.mark.thorough
def test_what_lies_on_disk_stays_below_the_stated_amount(form, run, expected, stub_embedder, empty_scratch, tmp_path):
    # The longest is 80 kB as MP3, and 432 kB as a WAV, of which decoding it makes three.
    limit, sizes = 1_550_000, []

    def frontend(wave):
        # One look may count a file that has gone and one that came for it: the lesser of two does not.
        sizes.append([min(size_of(empty_scratch, suffix) for _ in range(2)) for suffix in ("", ".mp3")])
        return stub_embedder.frontend(wave)

    slow = replace(
        stub_embedder, frontend=frontend, network=lambda rows: time.sleep(0.01) or stub_embedder.network(rows)
    )
    report = run(form, embedder=slow, max_scratch_bytes=limit, decoding_bytes=1_350_000, connections=4, prefetch=4)
    assert report.failed == {}
    assert_stored(tmp_path, expected)
    in_all, in_downloads = np.max(sizes, axis=0)
    assert 300_000 < in_all <= limit  # a long WAV at least
    assert 60_000 < in_downloads <= 200_000


def test_downloads_go_on_while_the_network_computes_until_there_is_no_room(run, library, server, stub_embedder):
    asked = []

    def network(rows):
        if not asked:
            deadline = time.monotonic() + 10
            while len(server.asked) < 6 and time.monotonic() < deadline:
                time.sleep(0.01)
            asked.append(len(server.asked))
        return stub_embedder.network(rows)

    run(embedder=replace(stub_embedder, network=network))
    assert asked[0] >= 6


def test_a_file_that_the_scratch_could_never_hold_is_a_failure(form, run, library, expected):
    report = run(form, max_scratch_bytes=1_070_000, decoding_bytes=1_000_000)
    sizes = {key: (library.root / "files" / LOW.path_of(key)).stat().st_size for key in expected}
    assert sorted(report.failed) == sorted(key for key, size in sizes.items() if size > 70_000)
    assert 0 < len(report.failed) < COUNT
    for key, error in report.failed.items():
        assert error.endswith(f"{key}.low.mp3 has {sizes[key]} bytes, more than the scratch allows (70000)")


def test_a_full_disk_stops_the_run_and_blames_no_track(
    library, server, place, stub_embedder, small_disk, tmp_path, monkeypatch
):
    monkeypatch.setattr(downloads, "GIVE_UP_AFTER", 1)
    place("files")
    feed, tracks = feed_of(library, server, connections=1)
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    store = EmbeddingStore(tmp_path / "store", stub_embedder.spec)
    with pytest.raises(DiskFullError, match="no space left in the scratch folder"):
        extract(tracks, stub_embedder, store, StreamConfig(scratch=small_disk, feed=feed))
    assert store.failures() == {}
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_stopping_early_ends_the_threads_even_where_a_server_is_silent(
    library, server, place, stub_embedder, empty_scratch
):
    place("files")
    silence = threading.Event()
    server.always["48/348.low.mp3"] = {"cut": 30_000, "stall": silence}
    feed, tracks = feed_of(library, server)
    stream = StreamConfig(batch=16, scratch=empty_scratch, feed=feed)
    with contextlib.closing(embed_files(tracks, stub_embedder, stream)) as results:
        for _ in range(COUNT - 2):  # the last of those that came waits for a full batch
            next(results)
        started = time.monotonic()
    assert time.monotonic() - started < 1.5
    assert not running()
    silence.set()


# ---- Tars that mean harm, and damaged ones.


def tar_of(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                tar.addfile(member)
    return file.getvalue()


def test_of_a_tar_only_the_expected_names_are_taken(run, server, library, expected, tmp_path):
    song = (library.root / "files" / "48" / "148.low.mp3").read_bytes()
    server.always[LOW.tar_name.format("48")] = {
        "content": tar_of(
            ("../../evil.mp3", song),
            ("/tmp/evil-jamendo-mood.mp3", song),
            ("48/148.low.mp3", (tarfile.SYMTYPE, "/etc/passwd")),
            ("48/148.low.mp3/evil.mp3", song),
            ("48/148.low.mp3", song),
            ("48/148.low.mp3", b"another of the same name"),
            ("48/777.low.mp3", song),
        )
    }
    report = run("tars", keys=["48/148"])
    assert (report.done, report.failed) == (1, {})
    assert_stored(tmp_path, {"48/148": expected["48/148"]})
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/evil-jamendo-mood.mp3").exists()


def test_a_damaged_header_is_read_again_and_a_tar_that_stays_so_is_a_failure(run, server, expected, library, tmp_path):
    offset = offset_in("tars", library) - 512
    server.plans[name_in("tars", "07/107")] = [{"spoiled": 5}]
    server.always[name_in("tars")] = {"spoiled": offset + 3}
    report = run("tars")
    assert sorted(report.failed) == ["48/348", "48/448"]
    assert (
        "autotagging_moodtheme_audio-low-48.tar: not a readable tar (bad checksum); tried 3 times"
        in (report.failed["48/348"])
    )
    assert_stored(tmp_path, expected, missing=report.failed)
    assert [server.asked.count(name_in("tars", key)) for key in ("07/107", "48/348")] == [2, 3]


# ---- Settings, and the command.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "ftp://mirror"}, "'ftp://mirror' is not the address of a web server"),
        ({"connections": 0}, "connections must be from 1 to 16, not 0"),
        ({"connections": 17}, "connections must be from 1 to 16, not 17"),
        ({"max_scratch_bytes": 10**8}, r"0\.1 GB of scratch is too little: decoding alone may take 0\.24 GB"),
    ],
)
def test_settings_that_make_no_sense_are_usage_errors(options, message):
    with pytest.raises(UsageError, match=message):
        DownloadConfig(**{"base_url": "http://mirror", "checksums": {}, **options})


@pytest.fixture
def table(library, tmp_path):
    """MTG's table and list of checksums, of this library."""
    folder = tmp_path / "splits"
    folder.mkdir()
    lines = [f"{sha256} {LOW.path_of(key)}\n" for key, sha256 in library.checksums.items()]
    (folder / LOW.checksums_name).write_text("".join(lines))
    rows = [f"track_{key[3:]}\tartist_1\talbum_1\t{key}.mp3\t10.0\tmood/theme---calm\n" for key in library.keys]
    header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
    (folder / "autotagging_moodtheme.tsv").write_text(header + "".join(rows))
    return folder / "autotagging_moodtheme.tsv"


@pytest.fixture
def command(server, table, empty_scratch, tmp_path):
    options = ("--embedder", "logmel", "--batch", "4", "--scratch", empty_scratch, "--store", tmp_path / "store")
    return ["extract", *map(str, ("--from-jamendo", "low", "--tracks", table, "--base-url", server.url, *options))]


def test_the_command_fetches_and_embeds_and_leaves_nothing_behind(form, command, place, server, tmp_path, capsys):
    place(form)
    tars = ["--tars"] if form == "tars" else []
    assert main([*command, *tars, "--connections", "2", "--max-scratch-gb", "0.5"]) == 0
    out = capsys.readouterr().out
    assert f"{COUNT} tracks embedded, 0 were there already, 0 failed" in out
    assert len(EmbeddingStore(tmp_path / "store")) == COUNT
    assert main([*command, *tars, "--limit", "3"]) == 0
    assert "0 tracks embedded, 3 were there already, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["music", "--tars"], "--tars goes with --from-jamendo: it is about downloads"),
        (["music", "--connections", "2"], "--connections goes with --from-jamendo"),
        (["--from-jamendo"], "--from-jamendo goes with --tracks: MTG's table of tracks"),
        (["--from-jamendo", "full", "--tracks", "TABLE"], "no autotagging_moodtheme_audio_sha256_tracks.txt beside it"),
        (["--from-jamendo", "low", "--tracks", "TABLE", "--max-scratch-gb", "0.1"], "too little"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments, message, table, tmp_path, capsys):
    words = [str(table) if word == "TABLE" else word for word in arguments]
    assert main(["extract", *words, "--store", str(tmp_path / "store"), "--embedder", "logmel"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "store").exists()
