"""What people's own machines and files are like: programs that do not start, links, spellings, terminals, channels."""

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.audio.decoding import find_audio, list_audio
from jamendo_mood.datasets import own
from jamendo_mood.extraction.streaming import MAX_UNEXPECTED, StreamConfig, extract
from jamendo_mood.library.similarity import find_target, open_library
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import read_places
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import MachineError, NoFileError, NoSoundError, UsageError
from jamendo_mood.util.files import Scratch

pytest_plugins = ["demo_corpus", "toy_commands"]


# ---- a fault of the machine is not a song's


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Puts a program of that text first on the PATH."""

    def put(text, mode=0o755):
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(mode)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        ffmpeg.find_ffmpeg.cache_clear()
        return str(program)

    yield put
    ffmpeg.find_ffmpeg.cache_clear()


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\necho 'libx264.so.5: cannot open' >&2; exit 127\n", "#!/no/such/shell\n", "not a program"]
)
def test_a_broken_ffmpeg_is_stood_in_for(text, on_path, caplog):
    broken = on_path(text)
    assert ffmpeg.find_ffmpeg() != broken
    assert f"{broken} does not start" in caplog.text


DECODERS = ("mp3float", "libfdk_aac", "flac", "vorbis", "opus")


def test_an_ffmpeg_that_starts_is_taken(on_path):
    sound = on_path(f"#!/bin/sh\necho '{' '.join(DECODERS)}'\n")
    assert ffmpeg.find_ffmpeg() == sound


@pytest.mark.parametrize("lacking", ["mp3", "aac", "opus"])
def test_an_ffmpeg_without_a_usual_decoder_is_stood_in_for(lacking, on_path, caplog):
    poor = on_path(f"#!/bin/sh\necho '{' '.join(name for name in DECODERS if lacking not in name)}'\n")
    assert ffmpeg.find_ffmpeg() != poor
    assert f"{poor} cannot decode {lacking}" in caplog.text


def test_an_ffmpeg_that_lacks_decoders_is_better_than_none(on_path, monkeypatch):
    import imageio_ffmpeg

    poor = on_path("#!/bin/sh\necho flac\n")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "/no/such/ffmpeg")
    assert ffmpeg.find_ffmpeg() == poor


@pytest.mark.parametrize("name", ["run:1", "-tmp", "a b'%d"])
def test_a_scratch_folder_may_have_any_name(name, make_audio, noise, logmel, tmp_path, monkeypatch):
    make_audio(tmp_path / "music" / "a.mp3", noise(3.0), rate_hz=16_000)
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / name
    scratch.mkdir()
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    config = StreamConfig(scratch=scratch.relative_to(tmp_path))
    monkeypatch.setattr(decoding, "MAX_PYDUB_S", 0.0)  # so that ffmpeg writes the file itself
    assert extract(find_audio(tmp_path / "music"), logmel, store, config).failed == {}


def test_what_is_no_fault_of_a_file_is_not_recorded(make_audio, noise, logmel, tmp_path):
    for name in "abcde":
        make_audio(tmp_path / "music" / f"{name}.wav", noise(2.0), rate_hz=16_000)
    store = EmbeddingStore(tmp_path / "store", logmel.spec)

    def broken(_):
        raise RuntimeError("no locator available")

    with pytest.raises(UsageError, match=rf"{MAX_UNEXPECTED} tracks in a row .*RuntimeError: no locator"):
        extract(find_audio(tmp_path / "music"), replace(logmel, frontend=broken), store)
    assert store.failures() == {}
    assert extract(find_audio(tmp_path / "music"), logmel, store).done == 5


@pytest.fixture
def one_song(make_audio, noise, logmel, tmp_path):
    """A path with sound, and a function that extracts it: the report, and what the store has as failed."""
    path = make_audio(tmp_path / "music" / "a.wav", noise(2.0), rate_hz=16_000)
    store = EmbeddingStore(tmp_path / "store", logmel.spec)

    def run():
        return extract({"a": path}, logmel, store), store.failures()

    return path, run


def run_in_vain(run):
    """Run where the song fails by no fault of its own; returns the error, which must not be recorded."""
    report, failures = run()
    assert (report.failed.keys(), report.unrecorded, failures) == ({"a"}, {"a"}, {})
    return report.failed["a"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOENT])
def test_a_file_that_cannot_be_opened_is_tried_again(number, one_song, monkeypatch):
    path, run = one_song
    open_any = Path.open

    def refuse(self, *arguments, **options):
        if self == path:
            raise OSError(number, os.strerror(number))
        return open_any(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert os.strerror(number) in run_in_vain(run)
    assert run()[0].done == 1


def test_a_file_that_goes_away_is_tried_again(one_song):
    path, run = one_song
    path.rename(path.with_suffix(".away"))
    assert "no such file" in run_in_vain(run)
    path.with_suffix(".away").rename(path)
    assert run()[0].done == 1


def test_a_file_that_goes_away_while_it_is_decoded_is_tried_again(one_song, monkeypatch):
    path, run = one_song
    probed = ffmpeg.probe(path)

    def probe_and_lose(path):
        path.rename(path.with_suffix(".away"))
        return probed

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "probe", probe_and_lose)
        run_in_vain(run)
    path.with_suffix(".away").rename(path)
    assert run()[0].done == 1


@pytest.mark.parametrize("name", ["KILL", "TERM", "XFSZ", "ILL"])
def test_an_ffmpeg_killed_from_outside_is_no_fault_of_the_song(name, one_song, on_path):
    path, run = one_song
    on_path(f"#!/bin/sh\ncase $2 in -decoders) echo '{' '.join(DECODERS)}';; *) kill -{name} $$;; esac\n")
    assert f"ffmpeg was ended by SIG{name}" in run_in_vain(run)
    with pytest.raises(MachineError):
        ffmpeg.probe(path)


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ((Path, "write_bytes"), errno.EFBIG),  # a limit of `ulimit -f`
        ((Path, "write_bytes"), errno.EIO),
        ((subprocess, "Popen"), errno.EAGAIN),  # no more processes
        ((subprocess, "Popen"), errno.EMFILE),
    ],
)
def test_what_the_machine_refuses_is_no_fault_of_the_song(what, number, one_song, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    _, run = one_song
    with monkeypatch.context() as patch:
        patch.setattr(*what, refuse)
        assert os.strerror(number) in run_in_vain(run)
    assert run()[0].done == 1


def test_files_that_cannot_be_opened_do_not_end_the_run(make_audio, noise, logmel, tmp_path):
    music = {name: tmp_path / f"{name}.wav" for name in "abcdef"}
    make_audio(music["f"], noise(2.0), rate_hz=16_000)
    report = extract(music, logmel, EmbeddingStore(tmp_path / "store", logmel.spec))
    assert (report.done, report.unrecorded) == (1, set("abcde"))
    with pytest.raises(NoFileError):
        ffmpeg.probe(music["a"])


# ---- the walk through a folder


@pytest.fixture
def music(tmp_path, corpus):
    """A folder with one song, and a way to put it elsewhere."""
    root = tmp_path / "music"

    def put(name):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(corpus.path(0).read_bytes())
        return path

    put("ok/a.mp3")
    return root, put


def test_linked_folders_are_searched_and_loops_end(music, tmp_path):
    root, put = music
    (tmp_path / "nas").mkdir()
    put("../nas/b.mp3")
    (root / "album").symlink_to(tmp_path / "nas")
    (root / "again").symlink_to(tmp_path / "nas")
    (root / "ok" / "up").symlink_to(root)
    assert sorted(path.name for path in list_audio(root)) == ["a.mp3", "b.mp3"]


def test_what_is_passed_over_is_told_in_a_line(music, caplog):
    root, put = music
    for name in ("x.weird", "y.weird", "cover.jpg", "z.exe", ".hidden.mp3"):
        put(name)
    assert len(list_audio(root)) == 1
    (line,) = caplog.messages
    assert line == f"{root}: passed over: 3 files of other endings (.exe, .weird)"


def test_links_that_lead_nowhere_and_pipes_are_told(music, tmp_path, caplog):
    root, _ = music
    (root / "NAS").symlink_to(tmp_path / "not-mounted")
    (root / "ok" / "b.mp3").symlink_to(tmp_path / "not-mounted" / "b.mp3")
    os.mkfifo(root / "radio.mp3")
    assert len(list_audio(root)) == 1
    (line,) = caplog.messages
    assert line.endswith("passed over: 3 links that lead nowhere, pipes and the like (NAS, b.mp3, radio.mp3)")


@pytest.mark.parametrize(("name", "times"), [("d" * 200, 30), ("e", 1200), ("f", decoding.MAX_DEPTH + 1)])
def test_folders_beyond_any_path_are_told(name, times, music, caplog):
    root, put = music
    put("zz/b.mp3")
    here = os.open(root, os.O_RDONLY)
    for _ in range(times):  # one by one, as no call takes such a path
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    try:
        assert [path.name for path in list_audio(root)] == ["a.mp3", "b.mp3"]
        (line,) = caplog.messages
        assert "1 folders that cannot be read" in line
        assert len(line) < 500
    finally:
        subprocess.run(["rm", "-rf", root / name], check=True)


def test_a_folder_named_as_an_entry_is_in_no_ones_way(music, logmel, tmp_path):
    root, put = music
    put("x.mp3")
    put("x.npy/y.mp3")
    report = extract(find_audio(root), logmel, EmbeddingStore(tmp_path / "store", logmel.spec))
    assert (report.done, report.failed) == (3, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user who may not read everything")
def test_an_unreadable_folder_is_told(music, caplog):
    root, put = music
    put("secret/b.mp3").parent.chmod(0)
    assert len(list_audio(root)) == 1
    assert "1 folders that cannot be read" in caplog.text
    (root / "secret").chmod(0o755)


@pytest.mark.parametrize("ending", ["w64", "aifc", "wave", "dsf", "TAK", "spx"])
def test_endings_that_ffmpeg_reads_are_found(ending, music):
    root, put = music
    put(f"b.{ending}")
    assert len(list_audio(root)) == 2


def test_two_formats_of_a_name_are_all_named_and_tag_needs_no_keys(music):
    root, put = music
    for name in ("1.flac", "1.mp3", "2.flac", "2.mp3", "2.wav"):
        put(name)
    with pytest.raises(UsageError, match=r"2 tracks have several files each.*1\.flac and .*1\.mp3; .*2\.flac"):
        find_audio(root)
    assert len(list_audio(root)) == 6


def test_a_name_without_room_for_an_ending_has_a_shorter_key(music, logmel, tmp_path):
    root, put = music
    for letter in "xy":
        put("é" * 124 + letter * 3 + ".mp3")
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    report = extract(find_audio(root), logmel, store)
    assert (report.done, report.failed) == (3, {})


# ---- spellings


@pytest.mark.parametrize(("stored", "asked"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC")])
@pytest.mark.parametrize("name", ["Beyoncé", "Dvořák/Måns", "한국"])
def test_a_key_is_found_in_either_spelling(stored, asked, name, logmel, tmp_path):
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    frames = np.ones((2, logmel.spec.dim), np.float32)
    store.add(unicodedata.normalize(stored, name), frames)
    assert unicodedata.normalize(asked, name) in store
    np.testing.assert_array_equal(store[unicodedata.normalize(asked, name)], frames)
    assert len(store) == 1


def test_two_files_of_one_name_in_two_spellings_are_told_apart(music):
    root, put = music
    put("Caf\u00e9.mp3")
    put("Cafe\u0301.mp3")
    with pytest.raises(UsageError, match=r"Cafe\\u0301\.mp3' and .*Caf\\xe9\.mp3'"):
        find_audio(root)


@pytest.mark.parametrize(("stored", "asked"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
@pytest.mark.parametrize("name", ["Beyoncé", "한국"])
def test_a_library_finds_a_track_in_either_spelling(stored, asked, name, logmel, tmp_path):
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    for number, key in enumerate([unicodedata.normalize(stored, name), "b", "c"]):
        store.add(key, np.full((2, logmel.spec.dim), number, np.float32))
    found = open_library(store, None).similar(unicodedata.normalize(asked, name), count=3)
    assert {track.key for track in found} == {"b", "c"}


@pytest.mark.parametrize("header", ["path,tags", "path,class", "path,Fière,Été"])
def test_a_label_in_two_spellings_is_one(header, tmp_path):
    cells = {"path,tags": ("Fière;été", "été"), "path,class": ("Fière", "été")}.get(header, ("1,0", "0,1"))
    rows = [unicodedata.normalize(("NFC", "NFD")[number // 2 % 2], cells[number % 2]) for number in range(40)]
    lines = [unicodedata.normalize("NFD", header), *(f"{number}.mp3,{row}" for number, row in enumerate(rows))]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    targets = own.load(tmp_path).task.targets
    assert len(targets) == 2
    assert all(unicodedata.is_normalized("NFC", target) for target in targets)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_mood_is_found_and_placed_in_either_spelling(form, tmp_path):
    tag = unicodedata.normalize(form, "fière")
    assert find_target(tag.upper(), ["triste", "fière"]) == find_target("fière", ["triste", tag]) == 1
    (tmp_path / "places.csv").write_text(f"MoodTag,Valence,Arousal\n{tag},9,9\n", encoding="utf-8")
    assert read_places(tmp_path / "places.csv")["fière"] == (1, 1)


def test_an_artist_in_two_spellings_is_in_one_part(tmp_path):
    artists = ["Zoé", "Ñu", "Étienne", "Café", "Björk"]
    forms = ("NFC", "NFD")
    rows = [
        f"{number}.mp3,{unicodedata.normalize(forms[number % 2], artists[number // 2 % 5])},{'ab'[number % 2]}"
        for number in range(40)
    ]
    (tmp_path / "own.csv").write_text("path,artist,tags\n" + "\n".join(rows) + "\n", encoding="utf-8")
    dataset = own.load(tmp_path)
    parts = [{dataset.tracks[row].artist for row in rows} for rows in dataset.parts.values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 5


# ---- surroundings


@pytest.mark.thorough
@pytest.mark.parametrize("environment", [{"KERAS_BACKEND": "torch"}, {"KERAS_BACKEND": "jax"}, {"KERAS_BACKEND": "no"}])
def test_the_backend_of_another_project_does_not_matter(environment):
    code = "from jamendo_mood.util.process import import_quietly; import os; k = import_quietly('keras'); "
    code += "print(k.backend.backend(), os.environ['KERAS_BACKEND'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["tensorflow", environment["KERAS_BACKEND"]], done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_need_not_know_all_letters(encoding, corpus, tagger_folder, run_apart):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "jamendo_mood", "tag", str(corpus.path(0)), "--tagger", str(tagger_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert (b"##" in done.stdout) == (encoding != "utf-8")


@pytest.mark.thorough
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_end_no_run(closed, music, tmp_path):
    root, _ = music
    command = (
        f"'{sys.executable}' -m jamendo_mood extract '{root}' --store '{tmp_path}/store' --embedder logmel {closed}"
    )
    assert subprocess.run(["sh", "-c", command]).returncode == 0
    assert [path.name for path in (tmp_path / "store").rglob("*.npy")] == ["a.npy"]


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
    """Seconds of sound that a decoder finds in a file, and what it remarks on."""

    def run(path):
        sound, remarks = decode_sound(path)
        return len(sound) / decoding.SAMPLE_RATE_HZ, remarks

    return run


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    return path


OF_SIX = r"[2-4] of 6 s could be decoded"
NO_END = r"[2-4] s could be decoded, the end of the file is missing"
ANNOUNCED = rf"{NO_END}|[2-4] of [45] s could be decoded"  # of fragments, each of which says how long it is


@pytest.mark.parametrize(
    ("name", "options", "remark"),
    [
        ("a.flac", (), OF_SIX),
        ("a.wav", (), OF_SIX),
        ("a.m4a", ("-movflags", "+faststart"), OF_SIX),
        ("a.mp3", (), OF_SIX),
        ("a.ogg", ("-c:a", "libvorbis"), NO_END),
        *(
            pytest.param(*case, marks=pytest.mark.thorough)
            for case in [
                ("a.flac", ("-ac", "2", "-ar", "48000", "-sample_fmt", "s32"), OF_SIX),
                ("a.m4a", ("-c:a", "alac", "-movflags", "+faststart"), OF_SIX),
                ("a.m4a", ("-movflags", "frag_keyframe+empty_moov", "-frag_duration", "2000000"), ANNOUNCED),
                ("a.wav", ("-c:a", "pcm_f32le"), OF_SIX),
                ("a.mp3", ("-q:a", "2"), OF_SIX),
                ("a.mp3", ("-q:a", "5", "-id3v2_version", "0"), OF_SIX),
                *((f"a.{suffix}", (), OF_SIX) for suffix in ("aiff", "au", "mka", "tta", "webm", "wv")),
                ("a.opus", (), NO_END),
            ]
        ),
    ],
)
def test_of_half_a_file_the_rest_is_missed(name, options, remark, decode, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / name, noise(6.0), 16_000, options)
    assert decode(path) == (pytest.approx(6.0, abs=0.1), [])
    found_s, (said,) = decode(cut(path))
    assert found_s == pytest.approx(3.0, abs=1.2)  # pages of Opus last a second
    assert re.fullmatch(remark, said)


@pytest.mark.parametrize(
    ("first", "then", "may_miss"),
    [
        ((1, 16_000, "libvorbis"), (2, 16_000, "libvorbis"), True),
        ((1, 22_050, "libvorbis"), (1, 44_100, "libvorbis"), True),
        ((2, 44_100, "libvorbis"), (2, 44_100, "libvorbis"), False),
        *(
            pytest.param(*case, marks=pytest.mark.thorough)
            for case in [
                ((2, 48_000, "libvorbis"), (2, 48_000, "libopus"), True),
                ((2, 48_000, "libopus"), (1, 48_000, "libopus"), True),
                ((1, 16_000, "flac"), (1, 16_000, "flac"), False),
            ]
        ),
    ],
)
def test_a_chain_of_ogg_streams_is_decoded_or_missed(first, then, may_miss, decode, make_audio, noise, tmp_path):
    """ffmpeg 5 goes on where the next stream is another, ffmpeg 7 does not."""
    links = []
    for number, (channels, rate_hz, codec) in enumerate((first, then)):
        wave = noise(3.0, seed=number, channels=channels, rate_hz=rate_hz)
        links.append(make_audio(tmp_path / f"{number}.ogg", wave, rate_hz, ("-c:a", codec)).read_bytes())
    (tmp_path / "radio.ogg").write_bytes(b"".join(links))
    found_s, remarks = decode(tmp_path / "radio.ogg")
    missed = may_miss and found_s < 5.0
    assert found_s == pytest.approx(3.0 if missed else 6.0, abs=0.1)
    assert remarks == (["3 of 6 s could be decoded"] if missed else [])


@pytest.mark.parametrize(
    "name",
    [
        *("padded", "two in one", "quiet end"),
        *(pytest.param(n, marks=pytest.mark.thorough) for n in ("no Xing", "cut")),
    ],
)
def test_an_mp3_that_only_estimates_its_length_is_decoded_whole_and_not_remarked_on(
    name, decode, make_audio, noise, tmp_path
):
    wave, expected_s = noise(6.0), 6.0
    if name == "quiet end":  # so that the first seconds promise few more
        wave, expected_s = np.concatenate([noise(2.0), np.zeros(30 * 16_000, np.float32)]), 32.0
    options = () if name in ("padded", "two in one") else ("-write_xing", "0", "-q:a", "0")
    path = make_audio(tmp_path / "a.mp3", wave, 16_000, options)
    content = path.read_bytes()
    if name == "padded":
        path.write_bytes(bytes(1_500_000) + content)
    elif name == "two in one":
        path.write_bytes(2 * content)
        expected_s = 12.0
    elif name == "cut":
        cut(path)
        expected_s = 3.0
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
    whole = make_audio(music / "whole.flac", noise(6.0), 16_000)
    half = cut(make_audio(music / "half.flac", noise(6.0, seed=1), 16_000))
    extract = ("extract", music, "--store", store, "--embedder", "logmel", "--decoder", decoder)
    for embedded in (2, 0):
        outcome = run(*extract)
        assert outcome.status == 0
        assert f"{embedded} tracks embedded" in outcome.out
        assert "  half: 3 of 6 s could be decoded" in outcome.err
        assert "  whole" not in outcome.err
    assert "half: 3 of 6 s could be decoded" in run("verify", store).err
    make_audio(half, noise(6.0, seed=1), 16_000)
    outcome = run(*extract, "--retry-failed")
    assert "1 tracks embedded, 1 were there already, 0 failed" in outcome.out
    assert "half" not in outcome.err
    assert len(EmbeddingStore(store)["half"]) == len(EmbeddingStore(store)["whole"]) == 6
    assert whole.is_file()


def test_half_a_song_is_tagged_with_a_remark(make_audio, noise, tagger_folder, tmp_path, run):
    path = cut(make_audio(tmp_path / "half.flac", noise(6.0), 16_000))
    assert "  (3 of 6 s could be decoded)" in run("tag", path, "--tagger", tagger_folder).out
    (result,) = json.loads(run("tag", path, "--tagger", tagger_folder, "--format", "json").out)["results"]
    assert result["remark"] == "3 of 6 s could be decoded"


# ---- channels and silence


@pytest.mark.parametrize("channels", [9, 32, 60])
def test_channels_without_places_are_mixed(channels, tmp_path):
    import wave

    samples = (0.3 * np.sin(np.arange(32_000) / 8) * 32_767).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.repeat(samples[:, None], channels, 1).tobytes())
    decoding.convert_to_wav(tmp_path / "a.wav", tmp_path / "b.wav")
    (found,) = decoding.read_blocks(tmp_path / "b.wav", 40_000)
    assert np.abs(found - samples / 32_768).max() < 0.01


@pytest.mark.parametrize("quieter", [1.0, 0.995])
def test_channels_that_cancel_each_other_out_are_not_mixed(quieter, make_audio, noise, tmp_path, caplog):
    left = noise(2.0, channels=1).reshape(-1)
    path = make_audio(tmp_path / "a.wav", np.stack([left, -quieter * left], axis=1), rate_hz=16_000)
    decoding.convert_to_wav(path, tmp_path / "b.wav")
    (found,) = decoding.read_blocks(tmp_path / "b.wav", 40_000)
    assert np.abs(found - left[: len(found)]).max() < 0.001
    assert "out of phase" in caplog.text


@pytest.mark.parametrize(("name", "beginning_s"), [("a.wav", 0.0), ("a.flac", 0.0), ("a.mp3", 0.0), ("b.wav", 8.0)])
def test_both_decoders_take_one_of_channels_that_cancel_each_other_out(
    name, beginning_s, decode_sound, make_audio, noise, tmp_path
):
    left = np.concatenate([np.zeros(round(beginning_s * 16_000), np.float32), noise(4.0)])
    path = make_audio(
        tmp_path / name, np.stack([left, -0.999 * left], axis=1), 16_000, () if "3" not in name else ("-b:a", "320k")
    )
    sound, remarks = decode_sound(path)
    assert remarks == [decoding.OUT_OF_PHASE]
    assert len(sound) == pytest.approx(len(left), abs=2_000)
    assert sound.std() == pytest.approx(left.std(), rel=0.1)  # MP3 drops what is highest


def test_both_decoders_mix_a_song_of_which_a_moment_cancels_out(decode_sound, make_audio, noise, tmp_path):
    left = noise(20.0)
    right = np.where(np.arange(len(left)) < 7 * 16_000, -left, left)
    path = make_audio(tmp_path / "a.flac", np.stack([left, right], axis=1), 16_000)
    sound, remarks = decode_sound(path)
    assert remarks == []
    assert np.abs(sound - (left + right) / 2).max() < 0.01


@pytest.mark.parametrize(
    ("name", "gains"),
    [
        ("quad.wav", (1, -0.999, 0, 0)),
        ("5.1.flac", (1, -0.999, 0, 0, 0.5, -0.5)),
        ("9.wav", (0, 1, -0.999, 0.9, -0.9, 0.5, -0.5, 0, 0)),
    ],
)
def test_surround_sound_that_cancels_itself_out_is_not_mixed(name, gains, make_audio, noise, tmp_path, caplog):
    left = 0.5 * noise(2.0, channels=1).reshape(-1)
    path = make_audio(tmp_path / name, np.stack([gain * left for gain in gains], axis=1), rate_hz=16_000)
    decoding.convert_to_wav(path, tmp_path / "b.wav")
    (found,) = decoding.read_blocks(tmp_path / "b.wav", 40_000)
    assert np.abs(found - left[: len(found)]).max() < 0.001
    assert "out of phase" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {name, "b.wav"}


@pytest.mark.parametrize(
    ("layout", "channels", "placed"),
    [
        ("mono", 1, True),
        ("stereo", 2, True),
        ("quad", 4, True),
        ("5.1(side)", 6, True),
        ("7.1.4", 12, True),
        ("9 channels", 9, False),
        ("an unknown one", 0, True),
    ],
)
def test_channels_are_counted(layout, channels, placed):
    stream = f"  Stream #0:0(und): Audio: flac, 44100 Hz, {layout}, s16, 705 kb/s"
    assert ffmpeg._count_channels(stream) == (channels, placed)


def test_ordinary_songs_and_silence_are_mixed_as_ever(make_audio, noise, tmp_path, caplog):
    left = noise(2.0, channels=1).reshape(-1)
    for name, right in {"alike": left, "half": -0.5 * left, "one": 0 * left}.items():
        path = make_audio(tmp_path / f"{name}.wav", np.stack([left, right], axis=1), rate_hz=16_000)
        decoding.convert_to_wav(path, tmp_path / "b.wav")
        (found,) = decoding.read_blocks(tmp_path / "b.wav", 40_000)
        assert np.abs(found - ((left + right) / 2)[: len(found)]).max() < 0.001
    path = make_audio(tmp_path / "silence.wav", np.zeros((32_000, 2)), rate_hz=16_000)
    with contextlib.suppress(NoSoundError):
        decoding.convert_to_wav(path, tmp_path / "b.wav")
    assert caplog.text == ""


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_silence_gets_no_moods(level, make_audio, noise, tagger_folder, tmp_path, run):
    path = make_audio(tmp_path / "silence.wav", level * noise(3.0), rate_hz=16_000)
    outcome = run("tag", path, "--tagger", tagger_folder)
    assert (outcome.status, outcome.out) == (1, "")
    assert "silence.wav: silent from beginning to end" in outcome.err


@pytest.mark.parametrize("decoder", decoding.DECODERS)
def test_a_store_knows_silence_and_channels_that_cancel_out(decoder, make_audio, noise, logmel, tmp_path):
    left = noise(2.0)
    waves = {
        "inverted": [left, -left],
        "silent": [0 * left, 0 * left],
        "sound": [left, left],
        "faint": [1e-5 * left] * 2,
    }
    for name, channels in waves.items():
        make_audio(tmp_path / "music" / f"{name}.flac", np.stack(channels, axis=1), 16_000, ("-sample_fmt", "s32"))
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    report = extract(find_audio(tmp_path / "music"), logmel, store, StreamConfig(decoder=decoder))
    silent = decoding.SILENT
    assert report.remarks == {"faint": silent, "inverted": decoding.OUT_OF_PHASE, "silent": silent}
    assert store.remarks(store) == report.remarks


@pytest.mark.thorough
@pytest.mark.parametrize("decoder", decoding.DECODERS)
def test_silence_is_not_learned_from(decoder, make_audio, noise, tmp_path, run, caplog):
    rows = ["path,artist,tags"]
    for number in range(60):
        loud = number % 10 > 0
        make_audio(tmp_path / "music" / f"{number}.wav", (0.2 + number % 2) * loud * noise(3.0, seed=number), 16_000)
        rows.append(f"{number}.wav,artist {number},{('quiet', 'loud')[number % 2]}")
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
    store = ("--store", tmp_path / "store")
    how = ("--embedder", "logmel", "--decoder", decoder)
    assert "0: silent from beginning to end" in run("extract", tmp_path / "music", *store, *how).err
    own = ("--task", "own", "--data", tmp_path / "own.csv", *store)
    outcome = run("train", *own, "--out", tmp_path / "tagger", "--epochs", "1")
    assert outcome.status == 0, outcome.err
    (left_out,) = re.findall(r"part train: (\d) of \d+ tracks are silent and are left out", caplog.text)
    record = json.loads((tmp_path / "tagger" / "tagger.json").read_text())["record"]
    assert 0 < record["silent"] == int(left_out) <= 6
    assert f"({left_out} silent ones left out)" in (tmp_path / "tagger" / "README.md").read_text()


@pytest.mark.parametrize("decoder", decoding.DECODERS)
@pytest.mark.parametrize("level", [-0.5, 0.0, 0.09])
def test_a_constant_is_silence(level, decoder, make_audio, logmel, tmp_path):
    path = make_audio(tmp_path / "a.wav", np.full(48_000, level), rate_hz=16_000)
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    assert extract({"a": path}, logmel, store, StreamConfig(decoder=decoder)).remarks == {"a": decoding.SILENT}


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


def test_nothing_sounds_like_silence(library, tmp_path, run):
    outcome = run("similar", tmp_path / "silent.wav", "--store", library.root)
    assert (outcome.status, outcome.out) == (1, "")
    assert "silent.wav: silent from beginning to end" in outcome.err


def test_a_library_of_silence_is_refused(logmel, tmp_path):
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    store.add("a", np.ones((2, logmel.spec.dim), np.float32), decoding.SILENT)
    with pytest.raises(UsageError, match="all tracks are silent"):
        open_library(store, None)
