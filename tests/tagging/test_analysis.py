from dataclasses import replace

import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg, spectrograms
from jamendo_mood.tagging.analysis import Limits, analyse, explain_error
from jamendo_mood.tagging.prediction import predict
from jamendo_mood.util import errors
from jamendo_mood.util.files import Scratch

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def limits(tmp_path):
    scratch = tmp_path / "scratch"
    yield Limits(scratch=scratch)
    assert not scratch.exists() or list(scratch.iterdir()) == []


def test_a_song_is_scored_as_on_the_command_line(corpus, corpus_tagger, logmel, limits):
    analysis = analyse(corpus.path(0), corpus_tagger, logmel, limits)
    expected = predict(corpus.path(0), corpus_tagger, logmel)
    assert np.array_equal(analysis.prediction.track_scores, expected.track_scores)
    assert np.array_equal(analysis.prediction.frame_scores, expected.frame_scores)
    assert analysis.prediction.title == expected.title
    assert analysis.frames.shape == (len(expected.times_s), logmel.spec.dim)


def test_progress_goes_through_the_stages(corpus, corpus_tagger, logmel, limits):
    seen = []
    analysis = analyse(corpus.path(0), corpus_tagger, logmel, limits, on_progress=lambda **step: seen.append(step))
    order = [("load", "decode", "embed", "score").index(progress["stage"]) for progress in seen]
    assert order == sorted(order)
    assert {progress["stage"] for progress in seen} == {"decode", "embed", "score"}
    done = [progress["done_s"] for progress in seen if progress["stage"] == "embed"]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(analysis.prediction.duration_s, abs=1.0)
    assert all(progress["speed"] > 0 for progress in seen if progress["done_s"])


def test_a_song_is_decoded_once_and_its_spectrogram_is_that_of_the_file(
    corpus, corpus_tagger, logmel, limits, monkeypatch, tmp_path
):
    run, runs = ffmpeg.run, []
    monkeypatch.setattr(ffmpeg, "run", lambda *given, **options: runs.append(given) or run(*given, **options))
    analysis = analyse(corpus.path(0), corpus_tagger, logmel, limits)
    assert len(runs) == 2  # to look at its header, and to decode it
    assert [given[-1] for given in runs] == [str(corpus.path(0)), "-"]
    with Scratch(tmp_path / "other") as scratch:
        expected = spectrograms.compute(corpus.path(0), scratch, columns=1_200)
    np.testing.assert_allclose(analysis.spectrogram.values, expected.values, rtol=0, atol=1e-4)
    assert analysis.spectrogram.frame_s == expected.frame_s
    assert analysis.spectrogram.duration_s == expected.duration_s


@pytest.mark.parametrize("after", [0, 1, 2], ids=["at once", "while decoding", "while embedding"])
def test_it_can_be_cancelled_at_any_time(make_audio, noise, corpus_tagger, logmel, limits, tmp_path, after):
    song = make_audio(tmp_path / "song.wav", noise(200.0), rate_hz=16_000)
    asked = []
    with pytest.raises(errors.CancelledError):
        analyse(song, corpus_tagger, logmel, limits, is_cancelled=lambda: asked.append(1) or len(asked) > after)
    assert len(asked) <= after + 4


def test_a_very_low_song_is_not_silence(make_audio, tone, corpus_tagger, logmel, limits, tmp_path):
    assert analyse(make_audio(tmp_path / "low.wav", tone(amplitude=0.001)), corpus_tagger, logmel, limits)


def test_a_file_too_long_is_refused_before_and_after_it_is_decoded(
    make_audio, noise, corpus_tagger, logmel, limits, tmp_path, monkeypatch
):
    path = make_audio(tmp_path / "x.mp3", noise(120.0), rate_hz=16_000)
    short = replace(limits, length_s=30.0)
    calls = []
    counted = replace(logmel, network=lambda inputs: calls.append(len(inputs)) or logmel.network(inputs))
    with pytest.raises(errors.LimitError, match=r"mix.mp3 is longer than 0:30, which is the limit here"):
        analyse(path, corpus_tagger, counted, short, name="mix.mp3")
    info = decoding.probe(path)
    monkeypatch.setattr(ffmpeg, "probe", lambda _: replace(info, duration_s=None))  # it does not know its length
    with pytest.raises(errors.LimitError, match="is longer than"):
        analyse(path, corpus_tagger, counted, short)
    assert calls == []


@pytest.mark.thorough
def test_a_file_that_lies_about_its_length_is_not_decoded_to_its_end(
    make_audio, noise, corpus_tagger, logmel, limits, tmp_path
):
    """FLAC says in 36 bits of its header how many samples there are: here 10 s of 300."""
    path = make_audio(tmp_path / "bomb.flac", noise(300.0, channels=1), rate_hz=16_000)
    content = bytearray(path.read_bytes())
    assert content[:4] == b"fLaC"
    content[21] &= 0xF0
    content[22:26] = (160_000).to_bytes(4, "big")
    path.write_bytes(content)
    assert decoding.probe(path).duration_s == pytest.approx(10, abs=0.1)
    strict = replace(limits, length_s=30.0, paths=False)
    sizes = []
    watched = replace(logmel, frontend=lambda wave: sizes.append(len(wave)) or logmel.frontend(wave))
    with pytest.raises(errors.LimitError, match=r"song.flac is longer than 0:30, which is the limit here"):
        analyse(path, corpus_tagger, watched, strict, name="song.flac")
    assert sizes == []  # not embedded; of its WAV there were 31 s
    with pytest.raises(errors.LimitError):  # one's own files, too, but their headers are believed
        analyse(path, corpus_tagger, logmel, replace(limits, length_s=30.0))


def test_files_of_strangers_sound_like_ones_own(corpus, corpus_tagger, logmel, limits):
    own = analyse(corpus.path(0), corpus_tagger, logmel, limits)
    theirs = analyse(corpus.path(0), corpus_tagger, logmel, replace(limits, paths=False))
    assert theirs.prediction.track_scores == pytest.approx(own.prediction.track_scores, abs=0.01)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.AudioError("/tmp/x/upload.mp3: not a readable audio file"), "It can't be read as music."),
        (errors.NoSoundError("whatever"), "There is no sound in it."),
        (errors.TooShortError("a.mp3 lasts 0.50 s; the least"), "It lasts 0.50 s; the least."),
        (errors.NoFileError("/music/a.mp3: no such file"), "There is no such file at this place."),
        (errors.BusyError("a.mp3 has to wait: there are"), "It has to wait: there are."),
        (errors.WrongKindError("/x.mp3", "a PDF document"), "It can't be read as music: it is a PDF document."),
        (errors.StoreError("/secret/x: damaged"), "It can't be analysed here."),
        (errors.LimitError("a.mp3 has 312 MB; the limit here is 200 MB"), "It has 312 MB; the limit here is 200 MB."),
        (errors.WeightsError("VGGish's weights are not here"), "The network that analyses songs is not"),
        (errors.DiskFullError("/tmp/secret: full"), "There is no room left on the machine"),
        (RuntimeError("/secret/path"), "Something broke that should not (RuntimeError)."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_are_told_in_plain_words(error, sentence):
    said, advice = explain_error(error, "a.mp3", Limits(paths=False))
    assert said.startswith(sentence)
    assert said.endswith(".")
    assert "a.mp3" not in said  # it stands above
    assert len(advice) > 10
    assert "/" not in said + advice.replace("kb/s", "")  # no path of this machine
    if isinstance(error, errors.StoreError):  # on one's own machine more is told
        assert explain_error(error, "a.mp3", Limits())[1] == str(error)
