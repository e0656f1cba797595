import threading

import numpy as np
import pytest

from jamendo_mood.app.widget import Sounds, encode_excerpt
from jamendo_mood.audio import decoding
from jamendo_mood.util.errors import AudioError


@pytest.fixture
def song(make_audio, tone, tmp_path):
    """40 s: 300 Hz, then 20 s of 3,000 Hz in its middle, then 300 Hz."""
    parts = [tone(300.0, 10.0), tone(3000.0, 20.0), tone(300.0, 10.0)]
    return make_audio(tmp_path / "song.flac", np.concatenate(parts))


def pitch_and_length(mp3, tmp_path, read_wav):
    path, wav = tmp_path / "excerpt.mp3", tmp_path / "excerpt.wav"
    path.write_bytes(mp3)
    decoding.convert_to_wav(path, wav)
    wave = read_wav(wav)
    spectrum = np.abs(np.fft.rfft(wave))
    return np.argmax(spectrum) * decoding.SAMPLE_RATE_HZ / len(wave), len(wave) / decoding.SAMPLE_RATE_HZ


def test_an_excerpt_is_the_middle_of_a_song(song, tmp_path, read_wav):
    mp3 = encode_excerpt(song, 12.0)
    hz, seconds = pitch_and_length(mp3, tmp_path, read_wav)
    assert hz == pytest.approx(3000, abs=5)
    assert seconds == pytest.approx(12, abs=0.2)
    assert len(mp3) < 12 * 64_000 / 8 * 1.1


def test_none_is_the_whole_song(song, tmp_path, read_wav):
    assert pitch_and_length(encode_excerpt(song, None), tmp_path, read_wav)[1] == pytest.approx(40, abs=0.2)


def test_what_is_no_music_gives_an_error(tmp_path):
    path = tmp_path / "x.mp3"
    path.write_text("text")
    with pytest.raises(AudioError, match="not a readable audio file"):
        encode_excerpt(path)


def test_sounds_come_by_key_and_nothing_else_does(song, tmp_path):
    sent, all_there = [], threading.Event()

    def send(key, index, sound):
        sent.append((key, index, sound))
        if len(sent) == 5:
            all_there.set()

    broken = tmp_path / "broken.mp3"
    broken.write_text("text")
    sounds = Sounds(send, {"48/948": song, "broken": broken})
    sounds.own["mine"] = song
    for key in ("48/948", "48/948", "mine", str(song), "broken"):
        sounds.send(key, 2)
    assert all_there.wait(60)
    keys, indices, content = zip(*sent, strict=True)
    assert keys == ("48/948", "48/948", "mine", str(song), "broken")
    assert set(indices) == {2}
    assert content[0] is content[1]  # encoded once
    assert len(content[2]) > len(content[0]) * 1.2  # one's own song is heard whole: 40 s, not 30
    assert content[3] is None  # no path opens anything
    assert content[4] is None
