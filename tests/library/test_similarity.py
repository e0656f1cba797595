"""Tracks that sound alike, tracks by mood, playlists, and how they are written."""

import csv
import io
import json
import os
import pickle
import timeit
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlparse

import numpy as np
import pytest
from toy_examples import VALUES, make_tagger

from jamendo_mood.library.similarity import (
    NEAR,
    SAME,
    Found,
    Library,
    describe,
    describe_same,
    find_target,
    find_twins,
    name_of,
    open_library,
    spread_by_rank,
)
from jamendo_mood.library.writing import to_csv, to_json, to_m3u8, to_table
from jamendo_mood.tagging.emotions import PLACES
from jamendo_mood.training.model import load_builtin
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus"]

TARGETS = ("calm", "dark", "Happy music")


def make_library(count=40, seed=0, **changes):
    rng = np.random.default_rng(seed)
    arrays = {
        "scores": rng.random((count, len(TARGETS)), np.float32) / 50,
        "means": rng.standard_normal((count, 6), np.float32) * [1, 100, 1, 1, 1, 0] + 0.3,
        "va": (rng.random((count, 2), np.float32) - 0.5) / 10,
        "grades": ("good",) * len(TARGETS),
    }
    return Library(tuple(f"t/{n}" for n in range(count)), TARGETS, **{**arrays, **changes}).prepare()


def keys(found):
    return [track.key for track in found]


# ---- Ranks.


def test_ranks_are_even_and_ties_share_theirs():
    values = np.array([[0.3, 5], [0.1, 5], [0.3, 5], [0.9, 5], [0.2, 5]], np.float32)
    np.testing.assert_allclose(spread_by_rank(values)[:, 0], [0.625, 0, 0.625, 1, 0.25])
    np.testing.assert_allclose(spread_by_rank(values)[:, 1], 0.5)
    np.testing.assert_allclose(spread_by_rank(values[:1]), 0.5)


def test_levels_and_plane_use_their_whole_range():
    library = make_library()
    assert np.ptp(library.scores) < 0.02
    for column in range(3):
        np.testing.assert_allclose(sorted(library.levels[:, column]), np.linspace(0, 1, 40), atol=1e-6)
    for axis in (0, 1):
        np.testing.assert_allclose(sorted(library.plane[:, axis]), np.linspace(-1, 1, 40), atol=1e-6)
        np.testing.assert_array_equal(library.plane[:, axis].argsort(), library.va[:, axis].argsort())


# ---- Similar tracks.


def test_tracks_of_two_libraries_that_are_nearly_the_same_are_found():
    library = make_library()
    means = library.means[[4, 9, 20]].copy()
    means[1] += 0.1 * library.unit  # a copy that was encoded again, say
    other = make_library(20, seed=5)
    other = replace(other, means=np.concatenate([means, other.means[3:]]))
    first, second, third = find_twins(library, other)
    assert {first[:2], second[:2]} == {("t/4", "t/0"), ("t/20", "t/2")}
    assert max(first[2], second[2]) < SAME < third[2] < NEAR
    assert third[:2] == ("t/9", "t/1")
    assert find_twins(library, other, within=SAME) == [first, second]
    with pytest.raises(UsageError, match="6 and of 5 numbers can't be compared"):
        find_twins(library, replace(other, means=other.means[:, :5]))


def test_similar_is_the_cosine_of_standardised_means():
    library = make_library()
    standardised = (library.means - library.means.mean(axis=0)) / np.maximum(library.means.std(axis=0), 1e-9)
    standardised[:, 5] = 0  # the same in all tracks: says nothing
    own = standardised[3]
    cosines = standardised @ own / (np.linalg.norm(standardised, axis=1) * np.linalg.norm(own))
    expected = [n for n in np.argsort(-cosines) if n != 3][:10]
    found = library.similar("t/3", 10)
    assert keys(found) == [f"t/{n}" for n in expected]
    np.testing.assert_allclose([track.fit for track in found], np.clip(cosines[expected], 0, 1), atol=1e-5)
    assert pickle.loads(pickle.dumps(library)).similar("t/3", 10) == found  # in another process, too
    assert library.similar(library.means[3], 10) == found  # a song that came as a file has its mean
    moved = library.means[3] + 0.05 * library.means.std(axis=0)  # one that is not in the library
    itself, *others = library.similar(moved, 11)
    assert (itself.key, itself.fit) == ("t/3", pytest.approx(1, abs=0.01))
    assert len({*keys(others)} & {*keys(found)}) >= 9


@pytest.mark.parametrize("change", [lambda mean: mean, lambda mean: mean * 1.000001, lambda mean: mean * 0.99999])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_song_that_is_in_the_library_is_known_by_its_sound(change, count):
    library = make_library(count)
    found = library.find_same(change(library.means[0]))
    assert found == {"t/0": "the same sound"}
    assert "t/0" not in keys(library.similar(change(library.means[0]), 40))
    assert library.find_same(library.means[0] + 0.1 * np.maximum(library.means.std(axis=0), 1)) == {}


def test_a_song_that_is_in_the_library_is_known_by_its_file(tmp_path):
    files = {f"t/{n}": tmp_path / str(n) / "song.mp3" for n in range(3)}
    for file in files.values():
        file.parent.mkdir()
        file.touch()
    (tmp_path / "linked").symlink_to(tmp_path / "1")
    library, other = make_library(3, files=files), np.full(6, 50, np.float32)
    for path in (files["t/1"], tmp_path / "linked" / "song.mp3", tmp_path / "2" / ".." / "1" / "song.mp3"):
        assert library.find_same(other, path) == {"t/1": "the same file"}
    assert library.find_same(other, tmp_path / "song.mp3") == {}  # there is none
    files["t/2"].unlink()
    assert library.find_same(library.means[2], files["t/1"]) == {"t/1": "the same file", "t/2": "the same sound"}


def test_what_is_left_out_is_told_in_a_line():
    assert describe_same({}) == ""
    assert describe_same({"a": "the same file"}) == "a is left out: it is the song itself (the same file)"
    several = {"a": "the same file", **dict.fromkeys("bcde", "the same sound")}
    line = "a, b, c and 2 more are left out: they are the song itself (the same file or the same sound)"
    assert describe_same(several) == line


def test_unwanted_tracks_are_left_out():
    library = make_library()
    first, second, *others = library.similar("t/3", 10)
    assert library.similar("t/3", 8, exclude=[first.key, second.key, "no such track"]) == others
    assert len(library.similar("t/3", 1000)) == 39
    assert first.key not in keys(library.by_moods({"calm": 1}, 40, exclude={first.key}))
    assert first.key not in keys(library.near(0, 0, 40, exclude={first.key}))
    assert first.key not in keys(library.along([(0, 0)], 40, exclude={first.key}))


def test_a_library_of_one_track_answers():
    library = make_library(1)
    assert library.similar("t/0", 3) == []
    for found in (
        library.similar(library.means[0] + 1, 3),
        library.along([(-1, -1), (1, 1)], 3),
        library.by_moods({"calm": 1}, 3),
    ):
        assert keys(found) == ["t/0"]


# ---- Moods.


def test_one_mood_gives_the_tracks_with_most_or_least_of_it():
    library = make_library()
    order = [f"t/{n}" for n in library.scores[:, 0].argsort()]
    assert keys(library.by_moods({"calm": 0}, 40)) == order
    most = library.by_moods({"calm": 1.0}, 40)
    assert keys(most) == order[::-1]
    assert [track.fit for track in most] == pytest.approx(np.linspace(1, 0, 40), abs=1e-6)
    for name in ("happy", "Happy music", " HAPPY MUSIC "):
        assert find_target(name, TARGETS) == 2


def test_several_moods_are_met_together():
    library = make_library()
    found = library.by_moods({"calm": 0.8, "dark": 0.1}, 40)
    differences = library.levels[:, :2] - [0.8, 0.1]
    distances = np.sqrt((differences**2).mean(axis=1))
    assert keys(found) == [f"t/{n}" for n in distances.argsort()]
    assert found[0].fit == pytest.approx(1 - distances.min(), abs=1e-6)


@pytest.mark.parametrize(("grades", "last"), [(("weak", "good", "good"), "a"), (("good", "unknown", "good"), "b")])
def test_a_tag_that_cannot_be_relied_on_weighs_less(grades, last):
    scores = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], np.float32)
    library = Library(("a", "b", "c"), TARGETS, scores, np.eye(3, dtype=np.float32), grades=grades)
    assert keys(library.by_moods({"calm": 1.0, "dark": 1.0}, 3))[-1] == last


# ---- The plane.


def test_near_a_point_are_the_nearest():
    library = make_library()
    distances = np.linalg.norm(library.plane - [0.5, -0.25], axis=1)
    found = library.near(0.5, -0.25, 5)
    assert keys(found) == [f"t/{n}" for n in distances.argsort()[:5]]
    assert found[0].fit == pytest.approx(1 - distances.min() / np.sqrt(8), abs=1e-6)
    for path in ([(0.5, -0.25)], [(0.5, -0.25), (0.5, -0.25)]):  # of one point
        assert library.along(path, 5) == found


def test_a_path_goes_from_its_start_to_its_end():
    library = make_library(2000)
    corners = [(-0.6, -0.4), (0.0, 0.6), (0.8, 0.5)]
    found = library.along(corners, 21)
    assert len(set(keys(found))) == 21
    places = np.array([library.plane[library.row(key)] for key in keys(found)])
    legs = np.hypot(0.6, 1.0), np.hypot(0.8, 0.1)
    ways = np.linspace(0, sum(legs), 21)
    expected = [np.interp(ways, (0, legs[0], sum(legs)), axis) for axis in zip(*corners, strict=True)]
    assert np.linalg.norm(places - np.transpose(expected), axis=1).max() < 0.12


def test_each_place_takes_the_nearest_track_left():
    library = make_library(30)
    found = library.along([(-1, 0), (1, 0)], 30)
    assert sorted(keys(found)) == sorted(library.keys)
    places = np.linspace(-1, 1, 30)
    left = set(range(30))
    for place, key in zip(places, keys(found), strict=True):
        nearest = min(left, key=lambda row: np.linalg.norm(library.plane[row] - [place, 0]))
        assert key == f"t/{nearest}"
        left.remove(nearest)
    assert len(library.along([(-1, 0), (1, 0)], 31)) == 30


NO_MEANS = (np.zeros(5, np.float32), np.full(6, np.nan, np.float32), np.zeros((2, 6), np.float32))


@pytest.mark.parametrize(
    ("ask", "given", "message"),
    [
        ("similar", "t/40", "t/40: no such track among the 40"),
        *(("similar", mean, "a mean embedding here is 6 finite numbers") for mean in NO_MEANS),
        ("by_moods", {"hapy": 1}, "no mood 'hapy'; there are calm, dark, Happy music"),
        ("by_moods", {"calm": 1.5}, "calm=1.5: a level is from 0"),
        ("by_moods", {"calm": float("nan")}, "calm=nan: a level"),
        ("by_moods", {}, "name at least one mood; there are calm, dark"),
        *(("along", path, "from -1 to 1") for path in ([(0, 1.1)], [(0, 0), (float("nan"), 0)], [])),
    ],
)
def test_what_cannot_be_found_is_refused(ask, given, message):
    with pytest.raises(UsageError, match=message):
        getattr(make_library(), ask)(given, 3)


def test_tags_that_say_nothing_of_valence_have_no_plane():
    library = make_library(va=None)
    assert library.plane is None
    for ask in (lambda: library.near(0, 0, 3), lambda: library.along([(0, 0)], 3)):
        with pytest.raises(UsageError, match="ask for moods; there are calm, dark, Happy music"):
            ask()


# ---- Results, and real libraries.


def test_a_result_holds_its_file_and_highest_tags():
    scores, files = np.array([[0.1, 0.9, 0.5], [0, 0, 0]], np.float32), {"a": Path("music/a.mp3")}
    library = Library(("a", "b"), TARGETS, scores, np.eye(2, dtype=np.float32), files=files)
    (track,) = library.by_moods({"dark": 1}, 1)
    assert track == Found("a", 1.0, files["a"], (("dark", pytest.approx(0.9)), ("Happy music", 0.5), track.tags[2]))
    assert library.similar("a", 1)[0].file is None


def test_a_real_library_finds_what_it_should(corpus, corpus_store, corpus_tagger, library):
    assert library.keys == tuple(sorted(corpus_store))
    assert library.files.keys() == set(library.keys)
    tags = {song.path.removesuffix(".mp3"): set(song.moods) for song in corpus.songs}
    for mood in corpus_tagger.task.targets:
        found = library.by_moods({mood: 1.0}, 5)
        assert all(mood in tags[key] for key in keys(found)), mood
    for key in library.keys[:5]:
        assert tags[library.similar(key, 1)[0].key] & tags[key]
    pleasant, unpleasant = (library.near(valence, 0.0, 5) for valence in (1, -1))
    mean = [np.mean([PLACES[tag][0] for key in keys(one) for tag in tags[key]]) for one in (pleasant, unpleasant)]
    assert mean[0] > mean[1] + 0.5


def test_without_a_tagger_there_is_sound_alone(corpus_store):
    library = open_library(corpus_store, None)
    assert library.targets == ()
    assert library.similar(library.keys[0], 2)[0].tags == ()
    with pytest.raises(UsageError, match="tracks cannot be found by them"):
        library.near(0, 0, 1)
    with pytest.raises(UsageError, match="this tagger needs embeddings of vggish-pca"):
        open_library(corpus_store, load_builtin())


def test_a_query_takes_well_under_a_tenth_of_a_second():
    rng, count, targets = np.random.default_rng(0), 18_486, tuple(f"tag {n}" for n in range(56))
    scores, means, va = (rng.random((count, width), np.float32) for width in (56, 128, 2))
    library = Library(tuple(map(str, range(count))), targets, scores, means, va).prepare()
    queries = {
        "similar": lambda: library.similar("17", 20),
        "moods": lambda: library.by_moods(dict.fromkeys(targets, 0.5), 20),
        "near": lambda: library.near(0.1, 0.2, 20),
        "along": lambda: library.along([(-0.6, -0.4), (0.8, 0.5)], 20),
    }
    for name, ask in queries.items():
        assert min(timeit.repeat(ask, number=1)) < 0.1, name  # the least: other processes may be at work


def test_a_tagger_of_valence_and_arousal_says_where_its_tracks_lie(corpus_store, logmel):
    tagger = make_tagger(VALUES, logmel.spec)
    library = open_library(corpus_store, tagger)
    np.testing.assert_allclose(library.va, library.scores / 4 - 1.25, atol=1e-5)  # from 1 ... 9 to -1 ... 1
    best = library.near(1.0, 1.0, 1)[0].key
    assert library.plane[library.row(best)].sum() == library.plane.sum(axis=1).max()
    assert [[name for name, _ in found.tags] for found in library.near(0, 0, 9)] == [["valence", "arousal"]] * 9
    assert library.by_moods({"valence": 1.0}, 1)[0].key == library.keys[library.scores[:, 0].argmax()]


TAGS = (("calm", 0.75), ("dark", 0.125))


def found(key="48/948", file="music/48/948.mp3", **facts):
    return Found(key, 0.98765, None if file is None else Path(os.fsdecode(file)), TAGS, **facts)


NAMED = found(title="Gymnopédie", artist="Satie", duration_s=185.4)
NAMELESS = found("1/1", None)
FACTS = {"key": "48/948", "fit": 0.98765, "title": "Gymnopédie", "artist": "Satie", "duration_s": 185.4}
FACTS["file"] = "music/48/948.mp3"


def test_files_tell_their_names_and_lengths(make_audio, tone, tmp_path):
    facts = ("-metadata", "title=A study", "-metadata", "artist=The Toys")
    named = make_audio(tmp_path / "named.mp3", tone(seconds=2.0), options=facts)
    (tmp_path / "broken.mp3").write_bytes(b"no sound")
    files = [named, tmp_path / "broken.mp3", tmp_path / "gone.mp3", None]
    described = describe([found(str(number), file) for number, file in enumerate(files)])
    assert keys(described) == ["0", "1", "2", "3"]
    assert [track.file for track in described] == files
    assert [(track.artist, track.title) for track in described] == [("The Toys", "A study"), *[(None, None)] * 3]
    assert described[0].duration_s == pytest.approx(2, abs=0.1)
    assert describe([]) == []


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({}, "48/948"),
        ({"title": "T"}, "T"),
        ({"artist": "A", "title": "T"}, "A - T"),
        ({"artist": " \n", "title": "one\r\ntwo\u2028three\x1b[2J\tfour\xa0five"}, "one two three [2J four five"),
    ],
)
def test_names_are_one_line(facts, name):
    assert name_of(found(**facts)) == name


def test_a_table_is_for_eyes():
    lines = to_table([NAMED, *[NAMELESS] * 9]).splitlines()
    assert lines[0] == " 1  0.988  48/948  Satie - Gymnopédie  (3:05)  calm 0.75, dark 0.12"
    assert lines[9] == "10  0.988  1/1                                 calm 0.75, dark 0.12"
    assert to_table([NAMELESS]) == "1  0.988  1/1  calm 0.75, dark 0.12\n"
    assert to_table([]) == ""


def test_json_is_for_programs():
    one, other = json.loads(to_json([NAMED, NAMELESS]))
    tags = [{"tag": "calm", "score": 0.75}, {"tag": "dark", "score": 0.125}]
    assert [*one.items()] == [*FACTS.items(), ("tags", tags)]
    assert (other["file"], other["title"], other["duration_s"]) == (None, None, None)


def test_csv_is_for_spreadsheets():
    one, other = csv.DictReader(io.StringIO(to_csv([NAMED, NAMELESS])))
    assert one == {**FACTS, "fit": "0.9877", "duration_s": "185.4", "tags": "calm 0.750; dark 0.125"}
    assert (other["file"], other["title"], other["duration_s"]) == ("", "", "")


def test_m3u8_is_for_players():
    assert to_m3u8([NAMED, NAMELESS, found("2/2", "/music/2.mp3", title="a\n#EXTINF:1,b")]) == (
        f"#EXTM3U\n#EXTINF:185,Satie - Gymnopédie\n{Path('music/48/948.mp3').absolute()}\n"
        "#EXTINF:-1,a #EXTINF:1,b\n/music/2.mp3\n"
    )
    assert to_m3u8([]) == "#EXTM3U\n"


@pytest.mark.parametrize("name", [b"a\nb", b"caf\xe9", "a\u2028b".encode(), b"Why?", b"a%20b"])
def test_a_path_that_no_line_holds_or_vlc_would_decode_becomes_a_uri(name):
    text = to_m3u8([found(file=b"/music/" + name)])
    *_, line = text.splitlines()
    assert text.count("\n") == 3
    assert text.encode()
    assert line.startswith("file:///music/")
    assert unquote_to_bytes(urlparse(line).path) == b"/music/" + name
