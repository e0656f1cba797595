"""What `extract` makes of a folder as people have them: each bad file is named, and the good ones are embedded."""

import os

import pytest

from jamendo_mood.store.embedding_store import EmbeddingStore

pytest_plugins = ["toy_commands"]


@pytest.fixture
def extract(run, tmp_path):
    """Embed a folder with `logmel`."""

    def start(folder, *options):
        arguments = ("--embedder", "logmel", "--scratch", tmp_path / "scratch", *options)
        return run("extract", folder, "--store", tmp_path / "store", *arguments)

    return start


@pytest.fixture
def music(make_audio, noise, tmp_path):
    """Good and bad files in one folder; which keys are good, and what is said of the bad."""
    folder = tmp_path / "music"

    def make(name, channels=2, rate_hz=44_100, options=()):
        return make_audio(folder / name, noise(3.0, channels=channels, rate_hz=rate_hz), rate_hz, options)

    whole = make("whole.mp3")
    make("telephone.wav", channels=1, rate_hz=8_000)
    make("cinema.wav", channels=8, rate_hz=48_000)
    make("studio.flac", rate_hz=96_000)
    (folder / "cut short.mp3").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "an mp3 in fact.wav").write_bytes(whole.read_bytes())
    video = ("-f", "lavfi", "-i", "color=size=64x64:rate=5:duration=3", "-shortest")
    make("film.mp4", options=video)
    make("silent film.mp4", options=(*video, "-map", "1:v"))
    bought = make("bought.m4a")
    bought.write_bytes(bought.read_bytes().replace(b"mp4a", b"drms"))
    (folder / "empty.mp3").touch()
    (folder / "a letter.mp3").write_text("Dear reader,\n" * 500)
    (folder / "in circles.mp3").symlink_to("in circles.mp3")
    (folder / "circle").symlink_to(".", target_is_directory=True)
    good = {"whole", "telephone", "cinema", "studio", "cut short", "an mp3 in fact", "film"}
    bad = {
        "silent film": "there is no sound in it",
        "bought": "bought.m4a",
        "empty": "the file is empty",
        "a letter": "not a readable audio file",
    }
    return folder, good, bad


@pytest.mark.parametrize("decoder", ["pydub", "libsndfile"])
def test_good_files_are_embedded_and_bad_ones_named(decoder, music, extract, tmp_path):
    folder, good, bad = music
    outcome = extract(folder, "--decoder", decoder)
    assert outcome.status == 1
    store = EmbeddingStore(tmp_path / "store")
    assert set(store) == good
    failures = store.failures()
    assert failures.keys() == bad.keys()
    for key, reason in bad.items():
        assert reason in failures[key]
        assert key in outcome.err + outcome.out
    assert "Traceback" not in outcome.err
    assert list((tmp_path / "scratch").iterdir()) == []


NAMES = {
    b"two\nlines": "two%0Alines",
    b"tab\tin it": "tab%09in it",
    b"back\\slash": "back%5Cslash",
    b"caf\xe9": "caf%E9",  # Latin-1, which is no UTF-8
    "naïve 音楽".encode(): "naïve 音楽",
    b"100 %": "100 %",
    b"-rf": "-rf",
    b"file:concat:x|y": "file:concat:x|y",
    b"%03d": "%03d",  # to ffmpeg, a sequence of pictures
}


@pytest.mark.parametrize("decoder", ["pydub", "libsndfile"])
def test_whatever_a_file_is_called_it_is_embedded(decoder, make_audio, noise, extract, tmp_path):
    plain = make_audio(tmp_path / "plain.mp3", noise(1.5), rate_hz=16_000)
    folder = tmp_path / "music"
    folder.mkdir()
    for name in NAMES:
        try:
            with open(os.path.join(os.fsencode(folder), name + b".mp3"), "wb") as file:  # noqa: PTH118, PTH123
                file.write(plain.read_bytes())
        except OSError:  # macOS has UTF-8 alone
            pytest.skip(f"needs a file system that takes the name {name!r}")
    outcome = extract(folder, "--decoder", decoder)
    assert outcome.status == 0, outcome.err
    assert set(EmbeddingStore(tmp_path / "store")) == set(NAMES.values())
    assert "9 were there" in extract(folder).out
