import gc
import threading

import pytest

from jamendo_mood.audio import ffmpeg, pydub_conversion
from jamendo_mood.audio.ffmpeg import find_ffmpeg
from jamendo_mood.util.errors import AudioError, CancelledError

CD = ("-ar", "44100", "-ac", "2", "-c:a", "pcm_s16le")
MOST_BYTES = 1_000_000


@pytest.fixture
def segment():
    return pydub_conversion.audio_segment(find_ffmpeg())


@pytest.fixture
def source(make_audio, noise, tmp_path):
    return str(make_audio(tmp_path / "noise.mp3", noise(2.0, channels=2, rate_hz=48_000), rate_hz=48_000))


def shape(sound):
    return sound.frame_rate, sound.channels, sound.sample_width


def test_ffmpeg_is_given_the_options_while_they_last(segment, source):
    for options, expected in ((("-ar", "16000", "-ac", "1"), (16_000, 1, 2)), (CD, (44_100, 2, 2))):
        with pydub_conversion.decoding_to(options, MOST_BYTES):
            sound = segment.from_file(source)
        assert shape(sound) == expected
        assert sound.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert shape(segment.from_file(source, codec="mp3")) == (48_000, 2, 2)


def test_another_thread_has_pydub_as_it_was(segment, source):
    shapes = []
    with pydub_conversion.decoding_to(CD, MOST_BYTES):
        thread = threading.Thread(target=lambda: shapes.append(shape(segment.from_file(source, codec="mp3"))))
        thread.start()
        thread.join()
    assert shapes == [(48_000, 2, 2)]


@pytest.mark.parametrize("error", [AudioError, ffmpeg.TooMuchError, CancelledError, OSError])
def test_what_ends_a_run_comes_through_pydub_which_leaves_no_file_open(error, segment, source, monkeypatch):
    def fail(*_, **__):
        raise error("why")

    monkeypatch.setattr(ffmpeg, "run", fail)
    with pytest.raises(error, match="why"), pydub_conversion.decoding_to(CD, MOST_BYTES):
        segment.from_file(source)
    gc.collect()  # an open file would be a warning now, and that an error


def test_no_more_comes_out_than_may(segment, source):
    with pytest.raises(ffmpeg.TooMuchError), pydub_conversion.decoding_to(CD, 100_000):
        segment.from_file(source)


def test_ffprobe_is_not_asked(segment, source, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pydub_conversion.decoding_to(CD, MOST_BYTES):
        assert shape(segment.from_file(source)) == (44_100, 2, 2)


def test_a_second_ffmpeg_does_not_wrap_the_first(segment, source):
    pydub_conversion.audio_segment.cache_clear()
    again = pydub_conversion.audio_segment(find_ffmpeg())
    import pydub.audio_segment as module

    assert again is segment
    assert not hasattr(module.mediainfo_json.asks, "asks")
