from dataclasses import replace

import pytest

from jamendo_mood.app.song_queue import Uploads
from jamendo_mood.tagging.analysis import Limits, clock
from jamendo_mood.util.errors import DiskFullError, LimitError, UsageError


@pytest.fixture
def limits(tmp_path):
    return Limits(size_bytes=1_000_000, length_s=60.0, scratch=tmp_path)


@pytest.fixture
def uploads(limits):
    uploads = Uploads(limits)
    yield uploads
    uploads.close()


def test_a_file_comes_in_pieces_and_goes(uploads, tmp_path):
    uploads.begin("one", "my song.MP3", 7)
    assert not uploads.is_complete("one")
    assert uploads.add("one", 0, b"abc") == 3
    assert uploads.add("one", 3, memoryview(b"defg")) == 7
    assert uploads.is_complete("one")
    path = uploads.path("one")
    assert path.read_bytes() == b"abcdefg"
    assert path.suffix == ".mp3"
    assert tmp_path in path.parents
    assert path.parent.parent.stat().st_mode & 0o077 == 0  # nobody else may look
    uploads.drop("one")
    assert "one" not in uploads
    assert not path.parent.exists()
    uploads.drop("one")  # a second time does no harm


def test_two_uploads_do_not_mix(uploads):
    for identity, content in (("a", b"first"), ("b", b"other")):
        uploads.begin(identity, "song.mp3", 5)
        uploads.add(identity, 0, content)
    assert [uploads.path(identity).read_bytes() for identity in "ab"] == [b"first", b"other"]


@pytest.mark.parametrize("name", ["../../etc/passwd.mp3", "a/b.mp3", "nul\0.mp3", "x" * 400 + ".mp3", "", ".."])
def test_of_the_name_only_a_known_ending_is_used(uploads, tmp_path, name):
    uploads.begin("../../up", name, 1)
    path = uploads.path("../../up")
    assert path.name in {"upload.mp3", "upload"}
    assert tmp_path in path.parents


@pytest.mark.parametrize(("offset", "piece"), [(1, b"a"), (0, b"too much"), (-1, b"a"), (0, b"")])
def test_a_piece_out_of_turn_is_refused(uploads, offset, piece):
    uploads.begin("one", "song.mp3", 3)
    with pytest.raises(UsageError, match="out of turn"):
        uploads.add("one", offset, piece)
    assert uploads.add("one", 0, b"abc") == 3
    with pytest.raises(UsageError, match="out of turn"):
        uploads.add("nobody", 0, b"abc")


def test_an_upload_cannot_begin_twice_or_with_no_size(uploads):
    uploads.begin("one", "song.mp3", 3)
    with pytest.raises(UsageError, match="cannot begin"):
        uploads.begin("one", "song.mp3", 3)
    with pytest.raises(UsageError, match="cannot begin"):
        uploads.begin("two", "song.mp3", -1)


def test_a_file_too_large_is_refused_before_it_comes(uploads, tmp_path):
    with pytest.raises(LimitError, match=r"big.wav has 312 MB; the limit here is 1 MB"):
        uploads.begin("one", "big.wav", 312_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_size_beyond_all_floats_is_refused_as_any_other(uploads):
    with pytest.raises(LimitError, match="the limit here is 1 MB"):
        uploads.begin("one", "big.wav", 10**400)
    assert "one" not in uploads


def test_all_uploads_together_have_a_bound(uploads):
    for number in range(5):
        uploads.begin(f"{number}", "song.mp3", 1_000_000)
    with pytest.raises(LimitError, match=r"song.mp3 has to wait: too many songs"):
        uploads.begin("6", "song.mp3", 1)
    uploads.drop("0")
    uploads.begin("6", "song.mp3", 1)


def test_many_small_uploads_have_one_too(uploads):
    for number in range(100):
        uploads.begin(f"{number}", "song.mp3", 0)
    with pytest.raises(LimitError, match="too many songs"):
        uploads.begin("more", "song.mp3", 0)


def test_no_place_for_uploads_is_told_without_its_path(tmp_path, caplog):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    uploads = Uploads(Limits(scratch=in_the_way))
    with pytest.raises(UsageError) as caught:
        uploads.begin("one", "song.mp3", 1)
    assert str(tmp_path) not in str(caught.value)
    assert str(in_the_way) in caplog.text
    uploads.close()


def test_sound_too_long_is_refused(limits):
    limits.check_length("song.mp3", 60.0)
    limits.check_length("song.mp3", None)
    with pytest.raises(LimitError, match=r"mix.mp3 lasts 2:31:00; the limit here is 1:00"):
        limits.check_length("mix.mp3", 9060.0)


@pytest.mark.parametrize(("length_s", "text"), [(0.4, "0:00"), (59.6, "1:00"), (185, "3:05"), (9060, "2:31:00")])
def test_lengths_are_read_like_a_clock(length_s, text):
    assert clock(length_s) == text


def test_nothing_is_left_when_the_owner_goes(limits, tmp_path):
    uploads = Uploads(limits)
    uploads.begin("one", "song.mp3", 3)
    uploads.add("one", 0, b"ab")
    assert list(tmp_path.iterdir())
    del uploads
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(limits, small_disk):
    uploads = Uploads(replace(limits, scratch=small_disk, size_bytes=10**9))
    uploads.begin("one", "song.mp3", 10**8)
    with pytest.raises(DiskFullError, match="no space left in the scratch folder"):
        uploads.add("one", 0, bytes(10**8))
    uploads.close()
