"""What is wrong with a file that can be decoded all the same: half of it is missing, channels cancel out, silence."""

import json
import re
import wave

import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.extraction.streaming import StreamConfig, extract
from jamendo_mood.library.similarity import open_library
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.files import Scratch

pytest_plugins = ["demo_corpus", "toy_commands"]


# ---- half a track


@pytest.fixture(params=decoding.DECODERS)
def decode_sound(request, empty_scratch):
    """The sound that a decoder finds in a file, and what it remarks on."""

    def run(path):
        remarks = []
        with Scratch(empty_scratch) as scratch:
            blocks = decoding.DECODERS[request.param](path, scratch, remarks.append)
            return np.concatenate(list(blocks)), remarks

    return run


@pytest.fixture
def decode(decode_sound):
    """The same in seconds of sound."""

    def run(path):
        sound, remarks = decode_sound(path)
        return len(sound) / decoding.SAMPLE_RATE_HZ, remarks

    return run


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    return path


def thorough(case):
    return pytest.param(*case, marks=pytest.mark.thorough)


OF_SIX = r"[2-4] of 6 s could be decoded"
NO_END = r"[2-4] s could be decoded, the end of the file is missing"
ANNOUNCED = rf"{NO_END}|[2-4] of [45] s could be decoded"  # of fragments, each of which says how long it is


USUAL = [
    ("a.flac", (), OF_SIX),
    ("a.wav", (), OF_SIX),
    ("a.m4a", ("-movflags", "+faststart"), OF_SIX),
    ("a.mp3", (), OF_SIX),
    ("a.ogg", ("-c:a", "libvorbis"), NO_END),
]
OTHERS = [
    ("a.flac", ("-ac", "2", "-ar", "48000", "-sample_fmt", "s32"), OF_SIX),
    ("a.m4a", ("-c:a", "alac", "-movflags", "+faststart"), OF_SIX),
    ("a.m4a", ("-movflags", "frag_keyframe+empty_moov", "-frag_duration", "2000000"), ANNOUNCED),
    ("a.wav", ("-c:a", "pcm_f32le"), OF_SIX),
    ("a.mp3", ("-q:a", "2"), OF_SIX),
    ("a.mp3", ("-q:a", "5", "-id3v2_version", "0"), OF_SIX),
    *((f"a.{suffix}", (), OF_SIX) for suffix in ("aiff", "au", "mka", "tta", "webm", "wv")),
    ("a.opus", (), NO_END),
]


@pytest.mark.parametrize(("name", "options", "remark"), [*USUAL, *map(thorough, OTHERS)])
def test_of_half_a_file_the_rest_is_missed(name, options, remark, decode, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / name, noise(6.0), 16_000, options)
    assert decode(path) == (pytest.approx(6.0, abs=0.1), [])
    found_s, (said,) = decode(cut(path))
    assert found_s == pytest.approx(3.0, abs=1.2)  # pages of Opus last a second
    assert re.fullmatch(remark, said)


OTHER_CHAINS = [
    ((2, 48_000, "libvorbis"), (2, 48_000, "libopus")),
    ((2, 48_000, "libopus"), (1, 48_000, "libopus")),
    ((1, 16_000, "flac"), (1, 16_000, "flac")),
]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((1, 16_000, "libvorbis"), (2, 16_000, "libvorbis")),
        ((1, 22_050, "libvorbis"), (1, 44_100, "libvorbis")),
        ((2, 44_100, "libvorbis"), (2, 44_100, "libvorbis")),
        *map(thorough, OTHER_CHAINS),
    ],
)
def test_a_chain_of_ogg_streams_is_decoded_or_missed(first, then, decode, make_audio, noise, tmp_path):
    """ffmpeg 5 goes on where the next stream is another, ffmpeg 7 does not."""
    links = []
    for number, (channels, rate_hz, codec) in enumerate((first, then)):
        wave = noise(3.0, number, channels, rate_hz)
        links.append(make_audio(tmp_path / f"{number}.ogg", wave, rate_hz, ("-c:a", codec)).read_bytes())
    (tmp_path / "radio.ogg").write_bytes(b"".join(links))
    found_s, remarks = decode(tmp_path / "radio.ogg")
    missed = first != then and found_s < 5.0
    assert found_s == pytest.approx(3.0 if missed else 6.0, abs=0.1)
    assert remarks == (["3 of 6 s could be decoded"] if missed else [])


NO_XING = ("-write_xing", "0", "-q:a", "0")
ESTIMATES = [
    ((), 0.0, lambda content: bytes(1_500_000) + content, 6.0),
    ((), 0.0, lambda content: 2 * content, 12.0),
    (NO_XING, 26.0, lambda content: content, 32.0),  # whose first seconds promise few more
]


@pytest.mark.parametrize(
    ("options", "silence_s", "change", "expected_s"),
    [*ESTIMATES, thorough((NO_XING, 0.0, lambda content: content[: len(content) // 2], 3.0))],
)
def test_an_mp3_that_only_estimates_its_length_is_decoded_whole_and_not_remarked_on(
    options, silence_s, change, expected_s, decode, make_audio, noise, tmp_path
):
    wave = np.concatenate([noise(6.0), np.zeros(round(silence_s * 16_000), np.float32)])
    path = make_audio(tmp_path / "a.mp3", wave, 16_000, options)
    path.write_bytes(change(path.read_bytes()))
    assert decode(path) == (pytest.approx(expected_s, abs=0.2), [])


def test_what_lies_beside_the_sound_is_no_missing_sound(decode, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / "a.wav", noise(3.0), 16_000)
    path.write_bytes(path.read_bytes() + bytes(50_000))  # behind the sound
    assert decode(path) == (3.0, [])
    piped = path.read_bytes().replace((96_000).to_bytes(4, "little"), b"\xff" * 4, 1)  # by a writer that cannot go back
    path.write_bytes(piped[:-50_000])
    assert decode(path) == (3.0, [])
    film = ("-f", "lavfi", "-i", "testsrc=d=9:s=32x32:r=5", "-map", "0:a", "-map", "1:v")  # longer than its sound
    assert decode(make_audio(tmp_path / "a.mkv", noise(3.0), 16_000, film)) == (pytest.approx(3.0, abs=0.1), [])
    later = make_audio(tmp_path / "a.mka", noise(3.0), 16_000, ("-output_ts_offset", "5"))
    assert decode(later) == (pytest.approx(3.0, abs=0.1), [])


def test_a_station_that_was_joined_late_has_no_missing_beginning(decode, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / "a.ogg", noise(20.0), 16_000, ("-c:a", "libvorbis", "-page_duration", "500000"))
    pages = path.read_bytes().split(b"OggS")
    path.write_bytes(b"OggS".join([*pages[:3], *pages[-8:]]))  # the headers, and the last seconds
    found_s, remarks = decode(path)
    assert 2 < found_s < 5
    assert remarks == []


@pytest.mark.parametrize("decoder", decoding.DECODERS)
def test_a_run_says_which_tracks_it_has_in_part_and_later_ones_know(decoder, make_audio, noise, tmp_path, run):
    music, store = tmp_path / "music", tmp_path / "store"
    make_audio(music / "whole.flac", noise(6.0), 16_000)
    half = cut(make_audio(music / "half.flac", noise(6.0, seed=1), 16_000))
    extract = ("extract", music, "--store", store, "--embedder", "logmel", "--decoder", decoder)
    for embedded in (2, 0):
        outcome = run(*extract)
        assert f"{embedded} tracks embedded" in outcome.out
        assert "  half: 3 of 6 s could be decoded" in outcome.err
        assert "  whole" not in outcome.err
    assert "half: 3 of 6 s could be decoded" in run("verify", store).err
    make_audio(half, noise(6.0, seed=1), 16_000)
    outcome = run(*extract, "--retry-failed")
    assert "1 tracks embedded, 1 were there already, 0 failed" in outcome.out
    assert "half" not in outcome.err
    assert len(EmbeddingStore(store)["half"]) == len(EmbeddingStore(store)["whole"]) == 6


def test_half_a_song_is_tagged_with_a_remark(make_audio, noise, tagger_folder, tmp_path, run):
    path = cut(make_audio(tmp_path / "half.flac", noise(6.0), 16_000))
    assert "  (3 of 6 s could be decoded)" in run("tag", path, "--tagger", tagger_folder).out
    (result,) = json.loads(run("tag", path, "--tagger", tagger_folder, "--format", "json").out)["results"]
    assert result["remark"] == "3 of 6 s could be decoded"


# ---- channels and silence


@pytest.mark.parametrize("channels", [9, 32, 60])
def test_channels_without_places_are_mixed(channels, read_wav, tmp_path):
    samples = (0.3 * np.sin(np.arange(32_000) / 8) * 32_767).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.repeat(samples[:, None], channels, 1).tobytes())
    decoding.convert_to_wav(tmp_path / "a.wav", tmp_path / "b.wav")
    assert np.abs(read_wav(tmp_path / "b.wav") - samples / 32_768).max() < 0.01


@pytest.mark.parametrize(
    ("name", "gains", "silence_s"),
    [
        ("a.wav", (1, -1), 0.0),
        ("a.flac", (1, -0.995), 0.0),
        ("a.mp3", (1, -0.999), 0.0),
        ("late.wav", (1, -0.999), 8.0),
        ("quad.wav", (1, -0.999, 0, 0), 0.0),
        ("5.1.flac", (1, -0.999, 0, 0, 0.5, -0.5), 0.0),
        ("9.wav", (0, 1, -0.999, 0.9, -0.9, 0.5, -0.5, 0, 0), 0.0),
    ],
)
def test_of_channels_that_cancel_each_other_out_one_is_taken(
    name, gains, silence_s, decode_sound, make_audio, noise, tmp_path
):
    loudest = np.concatenate([np.zeros(round(silence_s * 16_000), np.float32), 0.5 * noise(4.0)])
    options = ("-b:a", "320k") if name == "a.mp3" else ()
    path = make_audio(tmp_path / name, np.stack([gain * loudest for gain in gains], axis=1), 16_000, options)
    sound, remarks = decode_sound(path)
    assert remarks == [decoding.OUT_OF_PHASE]
    assert len(sound) == pytest.approx(len(loudest), abs=2_000)
    assert sound.std() == pytest.approx(loudest.std(), rel=0.1)  # MP3 drops what is highest
    assert name == "a.mp3" or np.abs(sound - loudest[: len(sound)]).max() < 0.001


def test_both_decoders_mix_a_song_of_which_a_moment_cancels_out(decode_sound, make_audio, noise, tmp_path):
    left = noise(20.0)
    right = np.where(np.arange(len(left)) < 7 * 16_000, -left, left)
    path = make_audio(tmp_path / "a.flac", np.stack([left, right], axis=1), 16_000)
    sound, remarks = decode_sound(path)
    assert remarks == []
    assert np.abs(sound - (left + right) / 2).max() < 0.01


def test_channels_are_counted():
    placed = {"mono": 1, "stereo": 2, "quad": 4, "5.1(side)": 6, "7.1.4": 12, "an unknown one": 0}
    for layout, channels in placed.items():
        assert ffmpeg._count_channels(f"  Stream #0:0(und): Audio: flac, 44100 Hz, {layout}, s16") == (channels, True)
    assert ffmpeg._count_channels("  Stream #0:0(und): Audio: flac, 44100 Hz, 9 channels, s16") == (9, False)


def test_ordinary_songs_and_silence_are_mixed_as_ever(make_audio, noise, read_wav, tmp_path, caplog):
    song = noise(2.0)
    for left, right in ((song, song), (song, -0.5 * song), (song, 0 * song), (0 * song, 0 * song)):
        path = make_audio(tmp_path / "a.wav", np.stack([left, right], axis=1), rate_hz=16_000)
        decoding.convert_to_wav(path, tmp_path / "b.wav")
        assert np.abs(read_wav(tmp_path / "b.wav") - (left + right) / 2).max() < 0.001
    assert caplog.text == ""
    make_audio(path, np.stack([song, -song], axis=1), rate_hz=16_000)
    decoding.convert_to_wav(path, tmp_path / "b.wav")
    assert "out of phase" in caplog.text  # whoever asks for no remarks is warned


@pytest.mark.parametrize("decoder", decoding.DECODERS)
def test_a_store_knows_silence_and_channels_that_cancel_out(decoder, make_audio, noise, logmel, tmp_path):
    left = noise(2.0)
    constant = np.ones_like(left)
    silence = {"silent": 0 * left, "faint": 1e-5 * left, "constant": 0.09 * constant, "below": -0.5 * constant}
    waves = {"inverted": [left, -left], "sound": [left, left], **{name: [wave, wave] for name, wave in silence.items()}}
    for name, channels in waves.items():
        make_audio(tmp_path / "music" / f"{name}.flac", np.stack(channels, axis=1), 16_000, ("-sample_fmt", "s32"))
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    report = extract(find_audio(tmp_path / "music"), logmel, store, StreamConfig(decoder=decoder))
    assert report.remarks == {"inverted": decoding.OUT_OF_PHASE, **dict.fromkeys(silence, decoding.SILENT)}
    assert store.remarks(store) == report.remarks


@pytest.mark.thorough
def test_silence_is_not_learned_from(make_audio, noise, tmp_path, run, caplog):
    rows = ["path,artist,tags"]
    for number in range(60):
        loud = number % 10 > 0
        make_audio(tmp_path / "music" / f"{number}.wav", (0.2 + number % 2) * loud * noise(3.0, seed=number), 16_000)
        rows.append(f"{number}.wav,artist {number},{('quiet', 'loud')[number % 2]}")
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
    store = ("--store", tmp_path / "store")
    extracted = run("extract", tmp_path / "music", *store, "--embedder", "logmel")
    assert "0: silent from beginning to end" in extracted.err
    own = ("--task", "own", "--data", tmp_path / "own.csv", *store)
    outcome = run("train", *own, "--out", tmp_path / "tagger")
    assert outcome.status == 0, outcome.err
    (left_out,) = re.findall(r"part train: (\d) of \d+ tracks are silent and are left out", caplog.text)
    record = json.loads((tmp_path / "tagger" / "tagger.json").read_text())["record"]
    assert 0 < record["silent"] == int(left_out) <= 6
    assert f"({left_out} silent ones left out)" in (tmp_path / "tagger" / "README.md").read_text()


@pytest.fixture
def library(make_audio, noise, logmel, tmp_path):
    """A store with two tracks of noise and a silent one."""
    music = {key: make_audio(tmp_path / f"{key}.wav", noise(2.0), rate_hz=16_000) for key in ("a", "b")}
    music["silent"] = make_audio(tmp_path / "silent.wav", np.zeros(32_000), rate_hz=16_000)
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    extract(music, logmel, store)
    return store


@pytest.mark.parametrize("tags", [True, False])
def test_silence_is_not_found(tags, library, tagger_folder, caplog):
    tagger = Tagger.load(tagger_folder) if tags else None
    for _ in range(2):  # the second time from the scores that are kept
        caplog.clear()
        assert open_library(library, tagger).keys == ("a", "b")
        assert caplog.messages == [f"{library.root}: 1 silent track left out, such as silent"]


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_silence_gets_no_moods_and_nothing_sounds_like_it(
    level, library, make_audio, noise, tagger_folder, tmp_path, run
):
    path = make_audio(tmp_path / "silence.wav", level * noise(3.0), rate_hz=16_000)
    for command in (("tag", path, "--tagger", tagger_folder), ("similar", path, "--store", library.root)):
        outcome = run(*command)
        assert (outcome.status, outcome.out) == (1, "")
        assert "silence.wav: silent from beginning to end" in outcome.err


def test_a_library_of_silence_is_refused(logmel, tmp_path):
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    store.add("a", np.ones((2, logmel.spec.dim), np.float32), decoding.SILENT)
    with pytest.raises(UsageError, match="all tracks are silent"):
        open_library(store, None)
