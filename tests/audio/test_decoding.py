import dataclasses
import io
import pickle
import shutil
import struct
import subprocess
import tarfile
import tempfile
import wave
import zipfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest

from jamendo_mood.audio import decoding
from jamendo_mood.audio.ffmpeg import MAX_TITLE_LENGTH, _parse_tag, find_ffmpeg
from jamendo_mood.util.errors import (
    AudioError,
    CancelledError,
    DiskFullError,
    MachineError,
    NoSoundError,
    UsageError,
    WrongKindError,
)

MAX_PYDUB_S = {"pydub": decoding.MAX_PYDUB_S, "ffmpeg": 0.0}


@pytest.fixture(params=MAX_PYDUB_S)
def road(request, monkeypatch):
    """The WAV is written by pydub, or by ffmpeg itself."""
    monkeypatch.setattr(decoding, "MAX_PYDUB_S", MAX_PYDUB_S[request.param])


@pytest.fixture
def convert(tmp_path, read_wav):
    """Convert a file and read the samples back, range [-1, 1)."""

    def run(source):
        decoding.convert_to_wav(source, tmp_path / "out.wav")
        return read_wav(tmp_path / "out.wav")

    return run


@pytest.fixture
def without_programs(monkeypatch, tmp_path):
    """No program on the PATH, and nothing remembered of where ffmpeg was."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    find_ffmpeg.cache_clear()
    yield
    find_ffmpeg.cache_clear()


def ffmpeg(*arguments):
    subprocess.run([find_ffmpeg(), "-v", "error", "-nostdin", "-y", *arguments], check=True)


def assert_tone(samples, frequency_hz, amplitude):
    """Away from its ends the sound is a sine of this amplitude (to 5 %), and little else (-26 dB)."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    phase = 2 * np.pi * frequency_hz * np.arange(len(middle)) / decoding.SAMPLE_RATE_HZ
    waves = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    weights, *_ = np.linalg.lstsq(waves, middle, rcond=None)
    assert np.hypot(*weights) == pytest.approx(amplitude, rel=0.05)
    assert (middle - waves @ weights).std() < 0.05 * amplitude / np.sqrt(2)


def test_the_wav_is_16_khz_mono_16_bit(road, convert, make_audio, tone, tmp_path):
    convert(make_audio(tmp_path / "stereo.flac", np.stack([tone(), tone()], axis=1)))
    with wave.open(str(tmp_path / "out.wav")) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (16_000, 1, 2)
        assert reader.getnframes() == pytest.approx(2.0 * 16_000, abs=2)


def test_a_10_khz_tone_leaves_nothing_above_minus_60_db(road, convert, make_audio, tone, tmp_path):
    samples = convert(make_audio(tmp_path / "high.flac", tone(10_000, amplitude=0.9)))
    assert np.abs(samples).max() < 0.9 / 1000


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "opus", "m4a"])
def test_each_format_gives_the_sound_that_went_in(suffix, road, convert, make_audio, tone, tmp_path):
    both = np.stack([tone(440, 3.0, 0.6), tone(440, 3.0, 0.2)], axis=1)
    samples = convert(make_audio(tmp_path / f"tone.{suffix}", both))
    assert len(samples) / 16_000 == pytest.approx(3.0, abs=0.1)  # codecs add a little silence
    assert_tone(samples, 440, 0.4)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize(("rate_hz", "extensible"), [(44_100, False), (96_000, True)])
def test_each_kind_of_wav_gives_the_sound_that_went_in(codec, rate_hz, extensible, convert, make_audio, tone, tmp_path):
    source = make_audio(tmp_path / "tone.wav", tone(rate_hz=rate_hz), rate_hz, ("-c:a", codec))
    if extensible:  # the header of a float WAV that pydub takes for integers
        assert source.read_bytes()[20:22] == b"\xfe\xff"
    assert_tone(convert(source), 440, 0.5)


@pytest.mark.parametrize(
    "name",
    [
        *("-dash.mp3", "per%03dcent.mp3", "two  blanks.mp3", 'Mötley: "Crüe".mp3'),
        *("fake.txt", "fake.wav", "fake.RAW", "fake.pcm"),
    ],
)
def test_odd_names_and_wrong_suffixes_do_not_matter(name, road, convert, make_audio, tone, tmp_path, monkeypatch):
    make_audio(tmp_path / "plain.mp3", tone()).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert_tone(convert(Path(name)), 440, 0.5)


def test_a_picture_in_the_file_is_no_sound(road, convert, make_audio, tone, tmp_path):
    mp3 = make_audio(tmp_path / "tone.mp3", tone())
    ffmpeg("-f", "lavfi", "-i", "color=red:size=16x16", "-frames:v", "1", str(tmp_path / "cover.png"))
    both = ("-i", str(mp3), "-i", str(tmp_path / "cover.png"), "-map", "0:a", "-map", "1:v", "-c", "copy")
    ffmpeg(*both, "-disposition:v", "attached_pic", str(tmp_path / "covered.mp3"))
    assert_tone(convert(tmp_path / "covered.mp3"), 440, 0.5)


def write_video_without_sound(path):
    ffmpeg("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64", "-c:v", "mpeg4", str(path))


def write_wav_without_samples(path):
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 44_100, 0, "NONE", ""))


BROKEN = {
    "missing.mp3": lambda _: None,
    "empty.mp3": lambda path: path.touch(),
    "folder.mp3": lambda path: path.mkdir(),
    "text.mp3": lambda path: path.write_text("This is a letter, not a song.\n" * 100),
    "noise.mp3": lambda path: path.write_bytes(np.random.default_rng(0).bytes(50_000)),
    "silent.mp4": write_video_without_sound,
    "no samples.wav": write_wav_without_samples,
}


@pytest.mark.parametrize(
    "suffix", ["mp3", *(pytest.param(each, marks=pytest.mark.thorough) for each in ("flac", "m4a"))]
)
def test_both_roads_give_the_same_samples(suffix, monkeypatch, convert, make_audio, noise, tmp_path):
    source = make_audio(tmp_path / f"noise.{suffix}", 5 * noise(20.0, channels=2, rate_hz=44_100))  # some are clipped
    by_pydub = convert(source)
    monkeypatch.setattr(decoding, "MAX_PYDUB_S", 0.0)
    np.testing.assert_array_equal(convert(source), by_pydub)


@pytest.mark.parametrize(
    ("duration_s", "stretch", "road"),
    [(899.0, (), "pydub"), (901.0, (), "ffmpeg"), (None, (), "ffmpeg"), (2.0, (0.0, 2.0), "ffmpeg")],
)
def test_long_files_and_stretches_take_the_long_road(
    duration_s, stretch, road, monkeypatch, make_audio, tone, tmp_path
):
    source, taken, convert = make_audio(tmp_path / "tone.mp3", tone()), ["ffmpeg"], decoding._convert_with_pydub
    monkeypatch.setattr(decoding, "_convert_with_pydub", lambda *given: taken.append("pydub") or convert(*given))
    info = dataclasses.replace(decoding.probe(source), duration_s=duration_s)
    monkeypatch.setattr(decoding, "probe", lambda _: pytest.fail("probed again"))
    decoding.convert_to_wav(source, tmp_path / "out.wav", *stretch, info=info)
    assert taken[-1] == road
    assert decoding.count_samples(tmp_path / "out.wav") == pytest.approx(32_000, abs=10)


@pytest.mark.parametrize("stretch", [(0.0, 0.5), (0.51, 1.0), (1.25, None), (2.5, 60.0)])
@pytest.mark.parametrize(
    "suffix",
    ["wav", "mp3", *(pytest.param(each, marks=pytest.mark.thorough) for each in ("m4a", "ogg", "opus", "ac3", "wma"))],
)
def test_a_stretch_is_that_part_of_the_whole(suffix, stretch, convert, make_audio, noise, read_wav, tmp_path):
    source = make_audio(tmp_path / f"noise.{suffix}", noise(3.0, channels=2, rate_hz=48_000), rate_hz=48_000)
    whole = convert(source)
    decoding.convert_to_wav(source, tmp_path / "stretch.wav", *stretch)
    start_s, duration_s = stretch
    start = round(start_s * 16_000)
    expected = whole[start:] if duration_s is None else whole[start : start + round(duration_s * 16_000)]
    np.testing.assert_array_equal(read_wav(tmp_path / "stretch.wav"), expected)


def test_a_stretch_past_the_end_is_a_usage_error_that_says_so(make_audio, tone, tmp_path):
    source = make_audio(tmp_path / "tone.mp3", tone())
    with pytest.raises(UsageError, match=r"tone\.mp3: it ends before 61\.5 s"):
        decoding.convert_to_wav(source, tmp_path / "out.wav", 61.5, 10.0)


def test_probe_tells_codec_length_title_and_artist(make_audio, tone, tmp_path):
    tags = ("-metadata", "title=Séculaire: nuit", "-metadata", "artist=LE NEZ TORDU")
    for suffix, codec in {"mp3": "mp3", "ogg": "vorbis", "flac": "flac", "m4a": "aac"}.items():
        info = decoding.probe(make_audio(tmp_path / f"tagged.{suffix}", tone(seconds=3.0), options=tags))
        assert (info.codec, info.title, info.artist) == (codec, "Séculaire: nuit", "LE NEZ TORDU")
        assert info.duration_s == pytest.approx(3.0, abs=0.1)
    info = decoding.probe(make_audio(tmp_path / "plain.wav", tone()))
    assert (info.codec, info.title, info.artist) == ("pcm_s16le", None, None)


def id3v1(title):
    """The last 128 bytes of an old MP3, in whatever encoding the writer's system had."""
    return b"TAG" + title[:30].ljust(30, b"\0") + bytes(94) + b"\x0c"


def id3v2(title):
    """The beginning of an MP3 that says of its title that it is Latin-1."""
    frame = b"TIT2" + struct.pack(">I", len(title) + 1) + bytes(3) + title
    return b"ID3\3\0\0" + bytes([0, 0, len(frame) >> 7, len(frame) & 127]) + frame


TITLES = [
    ("Déjà vu", "latin-1"), ("Voilà", "latin-1"), ("L’été … 5 €", "cp1252"), ("Déjà vu", "utf-8"), ("Voilà", "utf-8"),
    ("夜に駆ける", "utf-8"), ("L’été – …", "utf-8"), ("R&B ÷ 2", "latin-1"), ("plain", "ascii"),
]  # fmt: skip


@pytest.mark.parametrize(("title", "encoding"), TITLES)
def test_titles_are_shown_as_they_were_meant_in_whatever_encoding(title, encoding, make_audio, tone, tmp_path):
    mp3 = make_audio(tmp_path / "plain.mp3", tone(), options=("-map_metadata", "-1", "-id3v2_version", "0"))
    raw, sound = title.encode(encoding), mp3.read_bytes()
    for name, content in {"1.mp3": sound + id3v1(raw), "2.mp3": id3v2(raw) + sound}.items():
        (tmp_path / name).write_bytes(content)
        assert decoding.probe(tmp_path / name).title == title, name


def test_a_title_that_was_cut_within_a_letter_loses_that_letter_alone(make_audio, tone, tmp_path):
    mp3 = make_audio(tmp_path / "a.mp3", tone(), options=("-map_metadata", "-1", "-id3v2_version", "0"))
    mp3.write_bytes(mp3.read_bytes() + id3v1("Ébène, a ballad of some lengthé".encode()))
    assert decoding.probe(mp3).title == "Ébène, a ballad of some leng"


def packed(kind, *names):
    """A zip or a tar with files of these names in it."""
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as archive:
            for name in names:
                archive.writestr(name, "x" * 100)
    else:
        with tarfile.open(fileobj=content, mode=kind) as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
    return content.getvalue()


def picture(form):
    content = io.BytesIO()
    PIL.Image.new("RGB", (40, 40)).save(content, form)
    return content.getvalue()


KINDS = {
    "a JPEG picture": lambda: picture("jpeg"),
    "a PNG picture": lambda: picture("png"),
    "a GIF picture": lambda: picture("gif"),
    "a BMP picture": lambda: picture("bmp"),
    "a TIFF picture": lambda: picture("tiff"),
    "a WebP picture": lambda: b"RIFF\x24\0\0\0WEBPVP8 " + bytes(24),
    "a HEIC picture": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
    "an SVG picture": lambda: b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a PDF document": lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "a Word document": lambda: packed("zip", "[Content_Types].xml", "word/document.xml"),
    "a zip archive": lambda: packed("zip", "album/a.txt"),
    "a packed archive": lambda: packed("w", "a.txt"),
    "a MIDI file (notes, no sound)": lambda: b"MThd\0\0\0\x06\0\0\0\x01\0`MTrk\0\0\0\x04\0\xff/\0",
    "a web page": lambda: b"<!doctype html><title>404</title>",
    "a playlist (names of songs, no sound)": lambda: b"#EXTM3U\n#EXTINF:3,A\na.mp3\n",
    "a text file": lambda: "Là-bas, je ne sais où\n".encode("latin-1"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["song.mp3", "as it was"])
def test_what_is_no_sound_is_called_what_it_is(kind, name, tmp_path):
    (tmp_path / name).write_bytes(KINDS[kind]())
    with pytest.raises(WrongKindError) as caught:
        decoding.probe(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: not a readable audio file (it is {kind})"
    again = pickle.loads(pickle.dumps(caught.value))  # it may come from another process
    assert (str(again), again.kind) == (str(caught.value), kind)


def test_a_damaged_song_or_a_film_is_not_called_something_else(make_audio, tone, tmp_path):
    wav = make_audio(tmp_path / "a.wav", tone()).read_bytes()
    write_video_without_sound(tmp_path / "film.mp4")
    for name, content in {"a.wav": wav[:30], "b.mp3": bytes(5000), "c.ogg": b"OggS" + bytes(range(256))}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("a.wav", "b.mp3", "c.ogg", "film.mp4"):
        with pytest.raises(AudioError) as caught:
            decoding.probe(tmp_path / name)
        assert type(caught.value) is (NoSoundError if name == "film.mp4" else AudioError)


@pytest.mark.parametrize(("stream", "chapter"), [(4, 4), (6, 6), (4, 6)])
def test_a_title_is_the_files_or_its_sounds_in_every_version_of_ffmpeg(stream, chapter):
    """Versions 4.2, 7.0 and 9.0 indent what they say of streams and chapters by so many blanks."""
    chapters = (
        f"    Chapter #0:0: start 0.0, end 1.0\n{' ' * chapter}Metadata:\n{' ' * chapter}  title           : Intro\n"
    )
    cover = "  Stream #0:1: Video: mjpeg, yuvj420p (attached pic)\n    Metadata:\n      title           : Front\n"
    said = f"Input #0, ogg, from 'a.ogg':\n  Duration: 00:00:01.00, start: 0.0\n  Chapters:\n{chapters}{cover}"
    assert _parse_tag(said, "title") is None
    sound = (
        f"  Stream #0:0[0x1](und): Audio: vorbis, mono\n{' ' * stream}Metadata:\n{' ' * stream}  TITLE       : Mine\n"
    )
    assert _parse_tag(said + sound, "title") == "Mine"
    assert (
        _parse_tag(said.replace("  Duration", "  Metadata:\n    title  : Ours\n  Duration") + sound, "title") == "Ours"
    )


def test_a_title_is_cut_and_is_not_taken_for_what_ffmpeg_says(make_audio, tone, tmp_path):
    tags = ("-metadata", "title=Duration: 99:00:00.00", "-metadata", "Stream #0:0: Audio: none=x")
    tags += ("-metadata", "artist=\n  Duration: 98:00:00.00\n" + "x" * 10_000)
    info = decoding.probe(make_audio(tmp_path / "forged.mp3", tone(), options=tags))
    assert (info.codec, info.title) == ("mp3", "Duration: 99:00:00.00")
    assert info.duration_s == pytest.approx(2.0, abs=0.1)
    info = decoding.probe(make_audio(tmp_path / "long.mp3", tone(), options=("-metadata", "title=" + "y" * 10_000)))
    assert info.title is not None
    assert set(info.title) == {"y"}
    assert 100 < len(info.title) <= MAX_TITLE_LENGTH


def test_a_file_longer_than_it_says_takes_the_long_road(monkeypatch, convert, make_audio, noise, tmp_path):
    source = make_audio(tmp_path / "noise.mp3", noise(6.0, channels=2, rate_hz=44_100))
    info, whole = dataclasses.replace(decoding.probe(source), duration_s=1.0), convert(source)
    monkeypatch.setattr(decoding, "MAX_PYDUB_S", 3.0)
    decoding.convert_to_wav(source, tmp_path / "lying.wav", info=info)
    assert decoding.count_samples(tmp_path / "lying.wav") == len(whole)


def test_ffmpeg_comes_from_the_wheel_where_the_path_has_none(without_programs, convert, make_audio, tone, tmp_path):
    assert shutil.which("ffmpeg") is None
    assert shutil.which("ffprobe") is None
    assert Path(find_ffmpeg()).is_relative_to(Path(imageio_ffmpeg.__file__).parent)
    assert_tone(convert(make_audio(tmp_path / "tone.mp3", tone())), 440, 0.5)


def test_no_ffmpeg_anywhere_is_a_usage_error_that_says_what_to_do(without_programs, monkeypatch):
    def nowhere():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nowhere)
    with pytest.raises(UsageError, match="install ffmpeg"):
        find_ffmpeg()


def test_an_mp3_becomes_a_wav_by_pydub_which_starts_and_writes_nothing_else(
    convert, monkeypatch, make_audio, noise, tmp_path
):
    import pydub

    source = make_audio(tmp_path / "noise.mp3", noise(2.0, channels=2, rate_hz=44_100))
    exported, export, converter = [], pydub.AudioSegment.export, pydub.AudioSegment.converter
    monkeypatch.setattr(
        pydub.AudioSegment,
        "export",
        lambda sound, *given, **named: exported.append(sound) or export(sound, *given, **named),
    )
    monkeypatch.setattr(pydub.audio_segment, "subprocess", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))  # whoever asks for the system's fails
    assert len(convert(source)) == pytest.approx(32_000, abs=10)
    (sound,) = exported
    assert (sound.frame_rate, sound.channels, sound.sample_width) == (16_000, 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noise.mp3", "out.wav"]
    assert pydub.AudioSegment.converter == converter  # untouched for others in the process


@pytest.mark.parametrize("error", [AudioError, CancelledError, OSError])
def test_what_ends_a_run_of_ffmpeg_is_the_error_of_the_file_or_the_machine(
    error, road, convert, make_audio, tone, monkeypatch, tmp_path
):
    source = make_audio(tmp_path / "tone.mp3", tone())
    info = decoding.probe(source)

    def fail(*_, **__):
        raise error("why")

    monkeypatch.setattr(decoding.ffmpeg, "run", fail)
    with pytest.raises(MachineError if error is OSError else error, match="why"):
        decoding.convert_to_wav(source, tmp_path / "out.wav", info=info)
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # pydub leaves its output open when it fails
def test_a_full_scratch_folder_is_a_disk_full_error(road, small_disk, make_audio, noise, tmp_path):
    source = make_audio(tmp_path / "noise.flac", noise(60.0), rate_hz=16_000)
    with pytest.raises(DiskFullError, match="no space left in the scratch folder"):
        decoding.convert_to_wav(source, small_disk / "out.wav")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("48/948.mp3", "48/948"),
        ("48/948.low.mp3", "48/948"),
        ("Band - Song (ft. X.Y.).flac", "Band - Song (ft. X.Y.)"),
        ("v1.0/no suffix", "v1.0/no suffix"),
        ("low.mp3", "low"),
        ("two\nlines.mp3", "two%0Alines"),
        ("caf\udce9 \\ 100 %.mp3", "caf%E9 %5C 100 %"),
        ("allow.mp3", "allow"),
    ],
)
def test_a_key_is_the_path_without_suffix_and_low(path, key):
    assert decoding.key_of(path) == key


def test_audio_is_found_by_key_in_order(tmp_path):
    names = ["48/948.low.mp3", "14/2.FLAC", "9.ogg", "48/notes.txt", "cover.jpg", "48/._948.mp3", ".trash/1.mp3"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp3").mkdir()
    assert list(decoding.find_audio(tmp_path).items()) == [
        ("14/2", tmp_path / "14/2.FLAC"),
        ("48/948", tmp_path / "48/948.low.mp3"),
        ("9", tmp_path / "9.ogg"),
    ]
