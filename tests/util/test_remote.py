import email.utils
import io
import tarfile
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from jamendo_mood import __version__
from jamendo_mood.util import remote as remote_module
from jamendo_mood.util.errors import DownloadError
from jamendo_mood.util.remote import Link, RemoteFile, StoppedError, read_members

pytest_plugins = ["flaky_server"]


@pytest.fixture
def link(sleeper):
    with closing(Link(threading.Event(), sleep=sleeper)) as link:
        yield link


@pytest.fixture
def content(server):
    content = np.random.default_rng(3).bytes(300_000)
    (server.folder / "a.mp3").write_bytes(content)
    return content


def read(link, server, name="a.mp3", start=0):
    with closing(RemoteFile(link, f"{server.url}/{name}", start)) as file:
        return b"".join(file.read_blocks(10**9))


def test_a_file_is_read_whole_by_one_request_that_says_who_asks(link, server, content):
    with closing(RemoteFile(link, f"{server.url}/a.mp3")) as file:
        assert file.open() == len(content)
        assert b"".join(file.read_blocks(1000)) == content[:1000]
        assert file.offset == 1000
        assert b"".join(file.read_blocks(10**9)) == content[1000:]
        assert list(file.read_blocks(1)) == []
    assert server.asked == ["a.mp3"]
    (agent,) = server.agents
    assert agent.startswith(f"jamendo-mood/{__version__} (")
    assert "https://" in agent


def test_one_connection_serves_many_files(link, server, content):
    ports = set()
    answer = server.answer
    server.answer = lambda path: (ports.add(threading.get_ident()), answer(path))[1]  # a thread for each connection
    for _ in range(5):
        read(link, server)
    assert len(server.asked) == 5
    assert len(ports) == 1


def test_a_cut_is_taken_up_where_it_was(link, server, content, sleeper):
    server.plans["a.mp3"] = [{"cut": 100_000}, {"cut": 70_000}]
    assert read(link, server) == content
    first, second, third = server.starts
    assert (first, len(sleeper.waits_s)) == (0, 2)
    assert 100_000 - remote_module._BLOCK_BYTES < second <= 100_000
    assert second + 70_000 - remote_module._BLOCK_BYTES < third <= second + 70_000


def test_a_server_that_ignores_ranges_is_read_from_the_start_again(link, server, content):
    server.ranges = False
    server.plans["a.mp3"] = [{"cut": 100_000}, {"cut": 50_000}, {"cut": 200_000}]
    assert read(link, server) == content
    assert server.starts[0] == 0
    assert min(server.starts[1:]) > 60_000  # it was asked to
    assert read(link, server, start=1234) == content[1234:]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again_after_waits_that_double_with_a_jitter(
    link, server, content, sleeper, status
):
    server.plans["a.mp3"] = [{"status": status}] * 5
    assert read(link, server) == content
    assert sleeper.waits_s[0] == 1
    for number, wait in enumerate(sleeper.waits_s):
        assert 2**number <= wait <= 1.5 * 2**number
    assert sleeper.waits_s[1:] != [2, 4, 8, 16]


def test_retry_after_is_honoured_as_seconds_and_as_a_date(link, server, content, sleeper):
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    server.plans["a.mp3"] = [
        {"status": 503, "headers": {"Retry-After": "77"}},
        {"status": 429, "headers": {"Retry-After": date}},
        {"status": 503, "headers": {"Retry-After": "0"}},
        {"status": 503, "headers": {"Retry-After": "soon"}},
    ]
    assert read(link, server) == content
    assert sleeper.waits_s[0] == 77
    assert 80 < sleeper.waits_s[1] <= 90
    assert 4 <= sleeper.waits_s[2] <= 6  # never less than its own wait
    assert 8 <= sleeper.waits_s[3] <= 12


def test_a_server_that_asks_for_hours_is_given_up(link, server, content, sleeper):
    server.plans["a.mp3"] = [{"status": 503, "headers": {"Retry-After": "7200"}}]
    with pytest.raises(DownloadError, match=r"a\.mp3: HTTP 503 .* asks to wait 7200 s"):
        read(link, server)
    assert sleeper.waits_s == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_fails_for_good_is_not_asked_again(link, server, content, sleeper, status):
    server.always["a.mp3"] = {"status": status}
    with pytest.raises(DownloadError, match=rf"{server.url}/a\.mp3: HTTP {status} "):
        read(link, server)
    assert (len(server.asked), sleeper.waits_s) == (1, [])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [({"status": 503}, "HTTP 503 Service Unavailable"), ({"cut": 100_000}, "the connection broke off")],
)
def test_a_server_that_fails_in_the_same_way_six_times_is_given_up(link, server, content, sleeper, answer, reason):
    server.ranges, server.always["a.mp3"] = False, answer
    with pytest.raises(DownloadError, match=rf"a\.mp3: {reason}; tried 6 times"):
        read(link, server)
    assert (len(server.asked), len(sleeper.waits_s)) == (6, 5)


def test_a_long_file_may_break_off_any_number_of_times(link, server, monkeypatch):
    monkeypatch.setattr(remote_module, "PROGRESS_BYTES", 50_000)
    content = np.random.default_rng(4).bytes(1_500_000)
    (server.folder / "long.tar").write_bytes(content)
    server.always["long.tar"] = {"cut": 120_000}
    assert read(link, server, "long.tar") == content
    assert len(server.asked) > 2 * remote_module.ATTEMPTS


def test_silence_is_told_as_such(link, server, content, monkeypatch):
    monkeypatch.setattr(remote_module, "TIMEOUTS_S", (0.05, 0.05))
    silence = threading.Event()
    server.always["a.mp3"] = {"cut": 1000, "stall": silence}
    with pytest.raises(DownloadError, match="no answer in time; tried 6 times"):
        read(link, server)
    silence.set()


@pytest.mark.parametrize(
    "answers",
    [
        [{"length_told": False}],
        [{"cut": 100_000}, {"content": b"x" * 200_000}],
        [{"cut": 100_000}, {"headers": {"Content-Range": "bytes 299000-299999/300000"}}],
        [{"cut": 100_000}, {"headers": {"Content-Range": "bytes */300000"}}],
    ],
    ids=["no length", "another length", "another place", "no place"],
)
def test_a_length_or_a_place_that_cannot_be_is_an_error(link, server, content, answers):
    server.plans["a.mp3"] = answers
    with pytest.raises(DownloadError, match=r"a\.mp3: its length is unknown, or has changed"):
        read(link, server)


def test_the_end_of_the_run_wakes_a_reader_and_a_sleeper(server, content):
    silence = threading.Event()
    server.plans["a.mp3"] = [{"cut": 100_000, "stall": silence}]
    server.plans["b.mp3"] = [{"status": 503, "headers": {"Retry-After": "600"}}]
    stop, ended, links = threading.Event(), [], []

    def work(name):
        with closing(Link(stop)) as link:
            links.append(link)
            try:
                read(link, server, name)
            except StoppedError:
                ended.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a.mp3", "b.mp3")]
    for thread in threads:
        thread.start()
    while server.sent < 100_000 or "b.mp3" not in server.asked:
        time.sleep(0.01)
    stop.set()
    for link in links:
        link.interrupt()
    for thread in threads:
        thread.join(10)
    silence.set()
    assert sorted(ended) == ["a.mp3", "b.mp3"]


def tar_of(**contents):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def test_members_of_a_tar_are_told_with_their_places_and_may_be_left_unread(link, server):
    alias = tarfile.TarInfo("alias")
    alias.type, alias.size = tarfile.LNKTYPE, 700  # of the file that it is a link to: nothing follows
    (server.folder / "a.tar").write_bytes(
        alias.tobuf() + tar_of(one=b"1" * 700, two=b"2" * 512, three=b"", four=b"4444")
    )
    seen, places, wanted = {}, {}, {"alias": 0, "one": 3, "two": 0, "three": 0, "four": 4}
    with closing(RemoteFile(link, f"{server.url}/a.tar")) as remote:
        for offset, member in read_members(remote):
            places[member.name] = offset
            seen[member.name] = b"".join(remote.read_blocks(wanted[member.name]))
    assert seen == {"alias": b"", "one": b"111", "two": b"", "three": b"", "four": b"4444"}
    assert places == {"alias": 0, "one": 512, "two": 4 * 512, "three": 6 * 512, "four": 7 * 512}
    with closing(RemoteFile(link, f"{server.url}/a.tar", places["two"])) as remote:
        assert [member.name for _, member in read_members(remote)] == ["two", "three", "four"]


def test_a_damaged_header_and_a_tar_cut_short_are_errors(link, server):
    whole = tar_of(one=b"1" * 700, two=b"2" * 512)
    for content in (whole[:1600] + b"?" + whole[1601:], whole[: 3 * 512 + 100], b"no tar" * 200):
        (server.folder / "a.tar").write_bytes(content)
        with closing(RemoteFile(link, f"{server.url}/a.tar")) as remote, pytest.raises(tarfile.TarError):
            list(read_members(remote))
