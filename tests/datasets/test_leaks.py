import pytest
from toy_examples import make_tracks

from jamendo_mood.datasets import load_dataset
from jamendo_mood.datasets.dataset import Track, check_leaks, drop_leaks, find_leaks
from jamendo_mood.util.errors import DataError


def track(number, artist=None, content=""):
    return Track(f"t{number}", f"00/{number}.mp3", None, artist or f"artist {number}", content)


def test_parts_without_anything_in_common_are_clean():
    tracks = make_tracks(9)
    leaks = find_leaks({"training": tracks[:3], "validation": tracks[3:6], "test": tracks[6:]})
    assert leaks == []
    check_leaks(leaks)


def test_tracks_artists_and_recordings_are_found_between_any_two_parts():
    parts = {
        "training": [track(1, "Ann"), track(2, content="f00d"), track(3)],
        "validation": [track(4, "Ann"), track(5)],
        "test": [track(3), track(6, content="f00d"), track(7, "Ann")],
    }
    found = {(leak.kind, leak.parts, leak.track.key, leak.other.key) for leak in find_leaks(parts)}
    assert found == {
        ("artist", ("training", "validation"), "00/1", "00/4"),
        ("artist", ("training", "test"), "00/1", "00/7"),
        ("artist", ("validation", "test"), "00/4", "00/7"),
        ("track", ("training", "test"), "00/3", "00/3"),
        ("artist", ("training", "test"), "00/3", "00/3"),
        ("bit-identical audio", ("training", "test"), "00/2", "00/6"),
    }


def test_recordings_of_unknown_content_match_nothing():
    assert find_leaks({"training": [track(1)], "test": [track(2)]}) == []


def test_what_is_shared_is_named_and_the_way_out():
    parts = {"training": [track(n, "Ann", "f00d") for n in range(5)], "test": [track(9, content="f00d")]}
    with pytest.raises(DataError) as failure:
        check_leaks(find_leaks(parts))
    assert str(failure.value) == (
        "the parts are not apart: bit-identical audio in training and test: '00/0' and '00/9'; bit-identical audio in "
        "training and test: '00/1' and '00/9'; bit-identical audio in training and test: '00/2' and '00/9'; and 2 "
        "more. Scores would be too good: leave such tracks out of training (--leaks drop), or keep them all the same "
        "(--leaks keep)"
    )


def test_dropping_leaves_clean_parts():
    train = [track(1, "Ann"), track(2, content="f00d"), track(3)]
    validation = [track(4, "Ann"), track(5, "Bob")]
    test = [track(6, content="f00d"), track(7, "Bob")]
    leaks = find_leaks({"training": train, "validation": validation, "test": test})
    assert drop_leaks("training", train, leaks).tolist() == [False, False, True]
    assert drop_leaks("validation", validation, leaks).tolist() == [True, False]
    assert drop_leaks("test", test, leaks).all()
    assert find_leaks({"training": [train[2]], "validation": [validation[0]], "test": test}) == []


@pytest.mark.shared
@pytest.mark.parametrize(("split", "count"), [(0, 4), (1, 1), (2, 10), (3, 10), (4, 6)])
def test_jamendos_official_splits_share_recordings_under_other_names(shared, split, count):
    dataset = load_dataset("jamendo", shared / "data" / "jamendo", split=split)
    leaks = find_leaks({part: [dataset.tracks[row] for row in rows] for part, rows in dataset.parts.items()})
    assert {leak.kind for leak in leaks} == {"bit-identical audio"}
    assert len({frozenset([leak.track.key, leak.other.key]) for leak in leaks}) == count


def test_a_track_that_comes_once_for_each_moment_leaks_once():
    track = make_tracks(1)[0]
    assert len(find_leaks({"training": [track] * 60, "test": [track] * 30})) == len(
        find_leaks({"training": [track], "test": [track]})
    )
