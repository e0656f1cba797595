"""The tags inside audio files, by format: what a person wrote, the sound and all else stay."""

import contextlib
import os
import struct
import subprocess

import mutagen
import pytest
from mutagen import apev2, flac, id3, mp4

from jamendo_mood.audio import file_tags
from jamendo_mood.audio.ffmpeg import find_ffmpeg
from jamendo_mood.audio.file_tags import ELSEWHERE, MARK, MOOD, Mark, read_fields, read_moods, take_out
from jamendo_mood.util.errors import AudioError

PICTURE = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256)) * 40
SAID = '{"tagger": "toy", "moods": ["calm", "Überdreht"], "separator": "; "}'
OURS = {MOOD: ["mine", "calm", "Überdreht"], MARK: [SAID]}
NONE = {MOOD: [], MARK: []}


def tag_id3(path, version=4):
    audio = mutagen.File(path)
    if audio.tags is None:
        audio.add_tags()
    audio.tags.add(id3.TIT2(encoding=3, text="Ein Lied"))
    audio.tags.add(id3.TDRC(encoding=3, text="1999"))
    audio.tags.add(id3.TXXX(encoding=3, desc="REPLAYGAIN_TRACK_GAIN", text="-3 dB"))
    audio.tags.add(id3.POPM(email="a@b", rating=196, count=3))
    audio.tags.add(id3.APIC(encoding=0, mime="image/png", type=3, desc="front", data=PICTURE))
    if version == 3:
        audio.tags.update_to_v23()
    audio.save(path, v2_version=version)


def tag_flac(path):
    audio = mutagen.File(path)
    audio["title"], audio["moody"] = "Ein Lied", "not a mood"
    picture = flac.Picture()
    picture.data, picture.mime, picture.type = PICTURE, "image/png", 3
    audio.add_picture(picture)
    audio.save()


def tag_mp4(path):
    audio = mutagen.File(path)
    audio.tags["\xa9nam"] = "Ein Lied"
    audio.tags["covr"] = [mp4.MP4Cover(PICTURE, mp4.MP4Cover.FORMAT_PNG)]
    audio.tags["----:com.apple.iTunes:iTunSMPB"] = [mp4.MP4FreeForm(b" 00000000 00000840")]
    audio.save()


def tag_by_name(path):
    audio = mutagen.File(path)
    if audio.tags is None:
        audio.add_tags()
    audio["Title"] = "Ein Lied"
    audio["Artist"] = ["one", "another"]
    audio.save()


FORMATS = {
    "id3v24.mp3": tag_id3,
    "id3v23.mp3": lambda path: tag_id3(path, 3),
    "id3.wav": tag_id3,
    "id3.aiff": tag_id3,
    "id3.tta": tag_id3,
    "vorbis.flac": tag_flac,
    "vorbis.ogg": tag_by_name,
    "vorbis.opus": tag_by_name,
    "mp4.m4a": tag_mp4,
    "asf.wma": tag_by_name,
    "ape.wv": tag_by_name,
}
"""A file of each kind, and what gives it tags."""
SAMPLE = {"id3v23.mp3", "vorbis.flac"}


KINDS = [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.thorough) for name in FORMATS]


@pytest.fixture(scope="module", params=KINDS)
def given(request, make_audio, tone, tmp_path_factory):
    """A song with tags of a person."""
    path = make_audio(tmp_path_factory.mktemp("given") / request.param, tone(seconds=1.5))
    FORMATS[request.param](path)
    return path


@pytest.fixture
def mp3(make_audio, tone, tmp_path):
    """An MP3 without any tags."""
    options = ("-map_metadata", "-1", "-id3v2_version", "0")
    return make_audio(tmp_path / "song.mp3", tone(seconds=1.0), options=options)


def decode(path):
    command = [find_ffmpeg(), "-v", "error", "-i", str(path), "-map", "0:a", "-f", "md5", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def other_tags(path):
    """All that mutagen reads but our fields, in one text."""
    ours = ("MOOD", "TMOO", "TXXX:MOOD", MARK)
    audio = mutagen.File(path)
    tags = sorted(f"{key}={value!r}" for key, value in audio.tags.items() if not key.upper().endswith(ours))
    return [*tags, *(picture.write() for picture in getattr(audio, "pictures", []))]


def change(path, fields):
    """Set fields, as a writer does: in a copy, which then is the file."""
    copy = path.with_name(".draft.tmp")
    copy.write_bytes(path.read_bytes())
    file_tags.change(path, copy, fields)
    copy.replace(path)


def copy_of(path, tmp_path):
    (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / path.name


def test_each_format_takes_moods_and_nothing_else_changes(given, tmp_path):
    path = copy_of(given, tmp_path)
    one_value = read_fields(path, [])[1]
    assert one_value == ("v23" in path.name)
    fields = {**OURS, MOOD: ["; ".join(OURS[MOOD])]} if one_value else OURS
    change(path, fields)
    assert read_fields(path, [MOOD, MARK]) == (fields, one_value)
    assert read_moods(path) == (("mine",), ("calm", "Überdreht"))
    assert (decode(path), other_tags(path)) == (decode(given), other_tags(given))
    again = copy_of(path, path.parent.parent)
    change(again, fields)
    assert again.read_bytes() == path.read_bytes()
    change(path, NONE)
    assert read_moods(path) == ((), ())
    assert (decode(path), other_tags(path)) == (decode(given), other_tags(given))


def test_moods_lie_where_players_look_for_them(given, tmp_path):
    path = copy_of(given, tmp_path)
    change(path, {MOOD: ["calm"]})
    expected = {
        "id3v23.mp3": "TXXX:MOOD", "vorbis.flac": "mood", "vorbis.ogg": "mood", "vorbis.opus": "mood",
        "mp4.m4a": "----:com.apple.iTunes:MOOD", "asf.wma": "WM/Mood", "ape.wv": "Mood",
    }  # fmt: skip
    assert expected.get(path.name, "TMOO") in mutagen.File(path).tags.keys()  # noqa: SIM118


# ---- ID3, which has seen the most.


def test_an_older_version_of_id3_stays(mp3):
    tag_id3(mp3, 3)
    change(mp3, {MOOD: ["calm; happy"]})
    tags = id3.ID3(mp3, translate=False)
    assert tags.version == (2, 3, 0)
    assert tags["TYER"].text == ["1999"]  # what ID3v2.4 calls TDRC
    assert tags["TXXX:MOOD"].text == ["calm; happy"]


def test_what_stands_after_the_sound_stays_byte_by_byte(mp3):
    tag_id3(mp3)
    tags = apev2.APEv2()
    tags["Title"] = "Ein Lied"
    tags.save(mp3)
    v1 = b"TAG" + b"Ein Lied \xfcber ID3v1".ljust(124, b"\0") + b"\x11"
    mp3.write_bytes(mp3.read_bytes() + v1)
    after_tag = mp3.read_bytes()[id3.ID3(mp3).size :]
    for fields in (OURS, {MOOD: ["x" * 5000]}, NONE):
        change(mp3, fields)
        assert mp3.read_bytes()[id3.ID3(mp3).size :] == after_tag


def test_a_title_of_id3v1_alone_is_in_the_new_tag_too(mp3):
    v1 = b"TAG" + b"Ein Lied".ljust(30, b"\0") + b"jemand".ljust(30, b"\0") + bytes(65)
    mp3.write_bytes(mp3.read_bytes() + v1)
    change(mp3, {MOOD: ["calm"]})
    tags = id3.ID3(mp3, load_v1=False)
    assert (tags["TIT2"].text, tags["TPE1"].text, tags["TMOO"].text) == (["Ein Lied"], ["jemand"], ["calm"])
    assert mp3.read_bytes().endswith(v1)


def test_a_file_without_tags_is_the_same_bytes_after_there_and_back(mp3):
    before = mp3.read_bytes()
    change(mp3, {MOOD: ["calm"]})
    assert mp3.read_bytes() != before
    change(mp3, {MOOD: []})
    assert mp3.read_bytes() == before


def test_frames_that_nobody_knows_stay(mp3):
    frame = b"XYZZ" + struct.pack(">I", 200) + b"\0\0" + bytes(range(200))  # the size as in an old iTunes: no 7 bits
    later = b"TIT2" + struct.pack(">I", 9) + b"\0\0" + b"\x03Ein Lied"
    size = len(frame + later)
    header = b"ID3\x04\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    mp3.write_bytes(header + frame + later + mp3.read_bytes())
    change(mp3, {MOOD: ["calm"]})
    content = mp3.read_bytes()
    assert frame[10:] in content
    assert id3.ID3(mp3)["TMOO"].text == ["calm"]


def test_id3v22_is_left_alone(mp3):
    frame = b"TT2\0\0\x09\0Ein Lied"
    mp3.write_bytes(b"ID3\x02\0\0\0\0\0" + bytes([len(frame)]) + frame + mp3.read_bytes())
    before = mp3.read_bytes()
    with pytest.raises(AudioError, match=r"song\.mp3: left as it is: its tags are ID3v2\.2; save it"):
        change(mp3, {MOOD: ["calm"]})
    assert mp3.read_bytes() == before


def test_moods_are_read_wherever_a_program_wrote_them(mp3):
    tag_id3(mp3)
    tags = id3.ID3(mp3)
    tags.add(id3.TXXX(encoding=3, desc="Mood", text="bright; Warm"))
    tags.add(id3.TMOO(encoding=3, text=["calm", "bright"]))
    tags.save()
    assert read_moods(mp3) == (("calm", "bright", "Warm"), ())
    assert read_fields(mp3, [ELSEWHERE])[0] == {ELSEWHERE: ["bright; Warm"]}


# ---- Whose a mood is.


@pytest.mark.parametrize(
    ("values", "moods", "theirs", "removed"),
    [
        (["a", "b"], ["b"], ["a"], []),
        (["a;  b"], [], ["a;  b"], []),  # as a person wrote it
        (["a; b; c"], ["b"], ["a; c"], []),
        (["b", "b"], ["b"], ["b"], []),  # a person wrote it, too
        (["a"], ["b", "c"], ["a"], ["b", "c"]),
        (["x; y"], ["x; y"], [], []),  # one mood of ours with a separator in it
        ([], [], [], []),
    ],
)
def test_ours_are_taken_out(values, moods, theirs, removed):
    assert take_out(values, Mark("toy", tuple(moods))) == (theirs, removed)


@pytest.mark.parametrize("text", ["", "x", "[]", '{"moods": 3}', "[" * 100_000, '{"tagger": "t", "moods": ["a"]}'])
def test_a_mark_that_makes_no_sense_makes_nothing_ours(text):
    assert Mark.read([text]).moods == ()


# ---- What cannot be.


def test_a_copy_that_differs_in_anything_else_is_refused(given, tmp_path, monkeypatch):
    path, save = copy_of(given, tmp_path), file_tags._save

    def lose_the_title(audio, copy):
        title = next(key for key in audio.tags.keys() if "lied" in str(audio.tags[key]).lower())  # noqa: SIM118
        del audio.tags[title]
        save(audio, copy)

    def lose_the_moods(audio, copy):
        pass

    def spoil_the_sound(audio, copy):
        save(audio, copy)
        other = bytearray(copy.read_bytes())
        for place in range(len(other) // 2, len(other) // 2 + 40):
            other[place] ^= 255
        copy.write_bytes(other)

    faults = {lose_the_moods: "could not be read back", spoil_the_sound: "sound would have changed|cannot be read"}
    if not isinstance(mutagen.File(path).tags, id3.ID3):  # whose frames are kept as bytes
        faults[lose_the_title] = "other tags would have changed"
    before = path.read_bytes()
    for fault, message in faults.items():
        monkeypatch.setattr(file_tags, "_save", fault)
        with pytest.raises(AudioError, match=message):
            change(path, {MOOD: ["calm"]})
    assert path.read_bytes() == before


def test_what_is_no_song_is_told_in_a_line(tmp_path, mp3, make_audio, tone):
    other = make_audio(tmp_path / "film.mka", tone(), options=("-c:a", "flac"))
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "noise.flac").write_bytes(b"fLaC" + os.urandom(3000))
    (tmp_path / "cut.m4a").write_bytes(make_audio(tmp_path / "whole.m4a", tone()).read_bytes()[:600])
    for name in (other.name, "empty.mp3", "noise.flac", "cut.m4a"):
        with pytest.raises(AudioError) as caught:
            read_moods(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(AudioError, match=r"none\.mp3: .*No such file"):
        read_moods(tmp_path / "none.mp3")


@pytest.mark.thorough
def test_a_song_cut_anywhere_is_read_or_refused(given, tmp_path):
    content, path, refused = given.read_bytes(), tmp_path / given.name, 0
    for size in [*range(0, 400, 7), *range(400, len(content), max(1, len(content) // 60))]:
        path.write_bytes(content[:size])
        with contextlib.suppress(AudioError):
            read_moods(path)
            continue
        refused += 1
    assert refused
