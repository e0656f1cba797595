import collections

import numpy as np
import pytest

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.cli import synthesis
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus"]


@pytest.fixture(scope="module")
def songs():
    return synthesis.plan_songs(0)


def test_the_same_seed_gives_the_same_songs_and_another_seed_others(songs):
    assert synthesis.plan_songs(0) == songs
    other = synthesis.plan_songs(1)
    assert [song.moods for song in other] != [song.moods for song in songs]
    for number in (0, 40, -1):
        sound = synthesis.render(songs[number])
        assert synthesis.render(songs[number]).tobytes() == sound.tobytes()
        assert synthesis.render(other[number]).tobytes() != sound.tobytes()


def test_no_two_songs_are_alike(songs):
    same_mood = [song for song in songs if song.moods == ("happy",)][:4]
    assert len({synthesis.render(song).tobytes() for song in same_mood}) == 4


@pytest.mark.parametrize("mood", synthesis.MOODS)
def test_each_mood_sounds(songs, mood):
    wave = synthesis.render(next(song for song in songs if song.moods == (mood,)))
    assert wave.shape == (round(synthesis.SONG_S * synthesis.RATE_HZ),)
    assert 0.4 <= np.abs(wave).max() <= 0.95
    seconds = wave.reshape(round(synthesis.SONG_S), -1)
    assert (seconds.std(axis=1) > 1e-3).all()  # no second of silence


def test_artists_are_of_one_part_each(songs):
    artists = collections.defaultdict(set)
    for song in songs:
        artists[song.artist].add(song.part)
    assert {part for parts in artists.values() for part in parts} == {"train", "validation", "test"}
    assert all(len(parts) == 1 for parts in artists.values())
    assert len({song.id for song in songs}) == len(songs)
    assert len({song.path for song in songs}) == len(songs)


@pytest.mark.parametrize("seed", range(5))
def test_each_mood_is_there_and_missing_in_each_part(seed):
    songs = synthesis.plan_songs(seed)
    for part in ("train", "validation", "test"):
        count = collections.Counter(mood for song in songs if song.part == part for mood in song.moods)
        size = sum(song.part == part for song in songs)
        assert set(count) == set(synthesis.MOODS)
        assert all(0 < number < size for number in count.values())


def test_a_corpus_is_a_jamendo_of_its_own(corpus):
    assert {part: len(rows) for part, rows in corpus.dataset.parts.items()} == {
        part: artists * synthesis.SONGS_PER_ARTIST for part, artists in corpus.artists.items()
    }
    assert corpus.dataset.task.targets == synthesis.MOODS
    by_path = {song.path: song for song in corpus.songs}
    for part, rows in corpus.dataset.parts.items():
        for row in rows:
            track, song = corpus.dataset.tracks[row], by_path[corpus.dataset.tracks[row].audio]
            assert song.part == part
            assert {synthesis.MOODS[tag] for tag in np.flatnonzero(corpus.dataset.targets[row])} == {*song.moods}
            assert track.duration_s == synthesis.SONG_S
    assert set(decoding.find_audio(corpus.audio)) == {track.key for track in corpus.dataset.tracks}


def test_the_tables_are_in_mtgs_own_format(corpus):
    lines = (corpus.root / "autotagging_moodtheme.tsv").read_bytes().split(b"\r\n")
    assert lines[0] == b"TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    assert lines[1].startswith(b"track_0001000\tartist_000000\talbum_000000\t00/1000.mp3\t12.0\tmood/theme---")
    assert lines[-1] == b""
    assert {line.count(b"\t") for line in lines[1:-1]} == {5, 6}  # as many columns as tags


def test_a_song_says_what_it_is(corpus):
    song = corpus.songs[0]
    info = decoding.probe(corpus.path(0))
    assert info.codec == "mp3"
    assert info.duration_s == pytest.approx(synthesis.SONG_S, abs=0.1)
    assert info.title == f"Study in {' and '.join(song.moods)} no. {song.id}"
    assert info.artist == f"Synthetic artist {song.artist}"


def test_the_mp3_is_the_song_that_was_rendered(corpus, read_wav, tmp_path):
    decoding.convert_to_wav(corpus.path(0), tmp_path / "song.wav")
    decoded = read_wav(tmp_path / "song.wav")
    rendered = synthesis.render(corpus.songs[0])
    assert len(decoded) / 16_000 == pytest.approx(len(rendered) / synthesis.RATE_HZ, abs=0.1)
    assert np.abs(decoded).max() == pytest.approx(np.abs(rendered).max(), rel=0.2)


def small_corpus(root, seed=0):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "ARTISTS", {"train": 1, "validation": 1, "test": 1})
        return synthesis.make_corpus(root, seed)


def test_songs_that_are_there_stay(tmp_path):
    songs = small_corpus(tmp_path)
    paths = [tmp_path / "audio" / song.path for song in songs]
    marked, lost = paths[0], paths[1]
    content = lost.read_bytes()
    marked.write_bytes(b"listened to")
    lost.unlink()
    assert small_corpus(tmp_path) == songs
    assert marked.read_bytes() == b"listened to"
    assert lost.read_bytes() == content


def test_an_ffmpeg_that_cannot_write_mp3_is_wrong_usage(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho 'Unknown encoder libmp3lame' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "find_ffmpeg", lambda: str(program))
    with pytest.raises(UsageError, match="ffmpeg cannot write MP3 files: Unknown encoder libmp3lame"):
        small_corpus(tmp_path / "corpus")
    assert [path for path in (tmp_path / "corpus").rglob("*") if path.is_file()] == []
