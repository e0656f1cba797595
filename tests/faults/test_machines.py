"""What people's own machines and files are like: programs that do not start, links, spellings, terminals."""

import errno
import os
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
from jamendo_mood.util.errors import MachineError, UsageError

pytest_plugins = ["demo_corpus"]


# ---- a fault of the machine is not a song's


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Puts a program of that text first on the PATH."""

    def put(text):
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        ffmpeg.find_ffmpeg.cache_clear()
        return str(program)

    yield put
    ffmpeg.find_ffmpeg.cache_clear()


DECODERS = ("mp3float", "libfdk_aac", "flac", "vorbis", "opus")


def listing(*decoders):
    return f"#!/bin/sh\necho '{' '.join(decoders)}'\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho 'libx264.so.5: cannot open' >&2; exit 127\n", "does not start"),
        ("#!/no/such/shell\n", "does not start"),
        ("not a program", "does not start"),
        (listing(*DECODERS[1:]), "cannot decode mp3"),
        (listing(*DECODERS[:-1]), "cannot decode opus"),
    ],
)
def test_an_ffmpeg_that_is_of_no_use_is_stood_in_for(text, said, on_path, caplog):
    broken = on_path(text)
    assert ffmpeg.find_ffmpeg() != broken
    assert f"{broken} {said}" in caplog.text


def test_an_ffmpeg_that_starts_is_taken(on_path):
    sound = on_path(listing(*DECODERS))
    assert ffmpeg.find_ffmpeg() == sound


def test_an_ffmpeg_that_lacks_decoders_is_better_than_none(on_path, monkeypatch):
    import imageio_ffmpeg

    poor = on_path(listing("flac"))
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


def test_a_file_that_goes_away_is_tried_again(one_song, monkeypatch):
    path, run = one_song
    away, probed = path.with_suffix(".away"), ffmpeg.probe(path)

    def probe_and_lose(path):
        path.rename(away)
        return probed

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "probe", probe_and_lose)
        run_in_vain(run)  # it goes while it is decoded
    assert "no such file" in run_in_vain(run)
    away.rename(path)
    assert run()[0].done == 1


@pytest.mark.parametrize("name", ["KILL", "TERM", "XFSZ", "ILL"])
def test_an_ffmpeg_killed_from_outside_is_no_fault_of_the_song(name, one_song, on_path):
    path, run = one_song
    on_path(f"{listing(*DECODERS)}case $2 in -decoders) ;; *) kill -{name} $$;; esac\n")
    assert f"ffmpeg was ended by SIG{name}" in run_in_vain(run)
    with pytest.raises(MachineError):
        ffmpeg.probe(path)


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        *((Path, "open", number) for number in (errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOENT)),
        (Path, "write_bytes", errno.EFBIG),  # a limit of `ulimit -f`
        (Path, "write_bytes", errno.EIO),
        (subprocess, "Popen", errno.EAGAIN),  # no more processes
        (subprocess, "Popen", errno.EMFILE),
    ],
)
def test_what_the_machine_refuses_is_no_fault_of_the_song(owner, name, number, one_song, monkeypatch):
    path, run = one_song
    real = getattr(owner, name)

    def refuse(what, *arguments, **options):
        if name == "open" and what != path:
            return real(what, *arguments, **options)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, refuse)
        assert os.strerror(number) in run_in_vain(run)
    assert run()[0].done == 1


def test_files_that_cannot_be_opened_do_not_end_the_run(make_audio, noise, logmel, tmp_path):
    music = {name: tmp_path / f"{name}.wav" for name in "abcdef"}
    make_audio(music["f"], noise(2.0), rate_hz=16_000)
    report = extract(music, logmel, EmbeddingStore(tmp_path / "store", logmel.spec))
    assert (report.done, report.unrecorded) == (1, set("abcde"))


# ---- the walk through a folder


@pytest.fixture
def music(tmp_path, corpus):
    """A folder with one song, and a way to put it elsewhere."""
    root = tmp_path / "music"

    def put(*names):
        for path in [root / name for name in names]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(corpus.path(0).read_bytes())

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


def test_what_is_passed_over_is_told_in_a_line(music, tmp_path, caplog):
    root, put = music
    put("x.weird", "y.weird", "cover.jpg", "z.exe", ".hidden.mp3")
    (root / "NAS").symlink_to(tmp_path / "not-mounted")
    (root / "ok" / "b.mp3").symlink_to(tmp_path / "not-mounted" / "b.mp3")
    os.mkfifo(root / "radio.mp3")
    assert len(list_audio(root)) == 1
    assert caplog.messages == [
        f"{root}: passed over: 3 files of other endings (.exe, .weird)",
        f"{root}: passed over: 3 links that lead nowhere, pipes and the like (NAS, b.mp3, radio.mp3)",
    ]


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


@pytest.mark.parametrize("names", [("x.mp3", "x.npy/y.mp3"), ["é" * 124 + letter * 3 + ".mp3" for letter in "xy"]])
def test_names_of_entries_and_names_without_room_for_an_ending_are_in_no_ones_way(names, music, logmel, tmp_path):
    root, put = music
    put(*names)
    report = extract(find_audio(root), logmel, EmbeddingStore(tmp_path / "store", logmel.spec))
    assert (report.done, report.failed) == (3, {})


def test_endings_that_ffmpeg_reads_are_found(music):
    root, put = music
    names = {f"b.{ending}" for ending in ("w64", "aifc", "wave", "dsf", "TAK", "spx")}
    put(*names)
    assert {path.name for path in list_audio(root)} == {"a.mp3", *names}


def test_two_formats_of_a_name_are_all_named_and_tag_needs_no_keys(music):
    root, put = music
    put("1.flac", "1.mp3", "2.flac", "2.mp3", "2.wav")
    with pytest.raises(UsageError, match=r"2 tracks have several files each.*1\.flac and .*1\.mp3; .*2\.flac"):
        find_audio(root)
    assert len(list_audio(root)) == 6


# ---- spellings


@pytest.mark.parametrize(("stored", "asked"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC")])
@pytest.mark.parametrize("name", ["Beyoncé", "Dvořák/Måns", "한국"])
def test_a_track_is_found_in_either_spelling(stored, asked, name, logmel, tmp_path):
    store = EmbeddingStore(tmp_path / "store", logmel.spec)
    for number, key in enumerate([unicodedata.normalize(stored, name), "b", "c"]):
        store.add(key, np.full((2, logmel.spec.dim), number, np.float32))
    key = unicodedata.normalize(asked, name)
    assert key in store
    assert (store[key] == 0).all()
    assert len(store) == 3
    assert {track.key for track in open_library(store, None).similar(key, count=3)} == {"b", "c"}


def test_two_files_of_one_name_in_two_spellings_are_told_apart(music):
    root, put = music
    put("Caf\u00e9.mp3", "Cafe\u0301.mp3")
    with pytest.raises(UsageError, match=r"Cafe\\u0301\.mp3' and .*Caf\\xe9\.mp3'"):
        find_audio(root)


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
    artists, forms = ["Zoé", "Ñu", "Étienne", "Café", "Björk"], ("NFC", "NFD")
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
def test_the_backend_of_another_project_does_not_matter():
    code = "from jamendo_mood.util.process import import_quietly; import os; k = import_quietly('keras'); "
    code += "print(k.backend.backend(), os.environ['KERAS_BACKEND'])"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["tensorflow", "torch"], done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_need_not_know_all_letters(encoding, corpus, tagger_folder):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "jamendo_mood", "tag", str(corpus.path(0)), "--tagger", str(tagger_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert (b"##" in done.stdout) == (encoding != "utf-8")


@pytest.mark.thorough
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_end_no_run(closed, music, tmp_path):
    root, _ = music
    options = f"--store '{tmp_path}/store' --embedder logmel"
    command = f"'{sys.executable}' -m jamendo_mood extract '{root}' {options} {closed}"
    assert subprocess.run(["sh", "-c", command]).returncode == 0
    assert [path.name for path in (tmp_path / "store").rglob("*.npy")] == ["a.npy"]
