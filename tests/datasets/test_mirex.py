"""MIREX-like, on a small folder in its format and on the real files."""

from collections import Counter

import numpy as np
import pytest
from test_loaders import check_conformance, spoil
from toy_class_sets import CLIPS, write_mirex

from jamendo_mood.datasets import load_dataset, mirex
from jamendo_mood.util.errors import DataError


def test_line_i_is_clip_i(tmp_path):
    clusters = [mirex.CLUSTERS[number] for number in np.random.default_rng(0).integers(0, 5, 40)]
    dataset = load_dataset("mirex", write_mirex(tmp_path, clusters))
    assert (dataset.task.kind, dataset.task.targets) == ("classes", mirex.CLUSTERS)
    assert [track.audio for track in dataset.tracks] == [f"{number:03d}.mp3" for number in range(1, 41)]
    assert dataset.tracks[8].key == dataset.tracks[8].id == "009"
    assert {track.duration_s for track in dataset.tracks} == {30.0}
    assert [mirex.CLUSTERS[number] for number in dataset.targets.argmax(axis=1)] == clusters


def test_artists_are_known_by_any_spelling_and_behind_any_title(tmp_path):
    dataset = load_dataset("mirex", write_mirex(tmp_path))
    artist = {track.id: track.artist for track in dataset.tracks}
    assert artist["004"] == artist["005"] == "anna blue & the greens"
    assert artist["006"] == artist["008"] == "reds"
    assert artist["010"] == artist["011"]
    assert artist["007"] == "artist 07"  # a semicolon is in its title
    assert artist["009"] == "009.mp3"  # none is given
    assert artist["012"] == "björk ünal"
    assert dataset.remarks == (
        "1 tracks have no artist: each counts as an artist of its own",
        "23 names stand for 20 artists, as some share a performer",
    )


def utf16(text):
    return text.encode("utf-16-le")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "clusters.txt",
            b"Cluster 4",
            b"Cluster 6",
            r"clusters\.txt, line 4: 'Cluster 6' is not one of the classes",
        ),
        ("clusters.txt", b"Cluster 4\n", b"", rf"clusters\.txt: {CLIPS - 1} lines for the {CLIPS} clips of dataset"),
        ("clusters.txt", b"Cluster 4", b"Cluster \xff", r"clusters\.txt: cannot be read"),
        ("dataset info.csv", utf16("005.mp3"), utf16("006.mp3"), r"csv, line 6: '006\.mp3' where 005\.mp3 was exp"),
        ("dataset info.csv", utf16(";30;"), utf16(";0:3;"), r"csv, line 2: '0:3' is not a length in seconds"),
        ("dataset info.csv", utf16("Song 2;"), utf16("Song 2"), r"csv, line 3: 9 cells, at least 10 are needed"),
        ("dataset info.csv", utf16("Title;"), utf16("Song;"), r"csv: not the expected table, its first line must be T"),
        ("dataset info.csv", b"\xff\xfe", b"", r"csv: cannot be read as a table"),
    ],
    ids=["cluster", "count", "text", "order", "length", "cells", "header", "no byte order mark"],
)
def test_damage_is_named_with_its_file_and_line(tmp_path, name, old, new, message):
    spoil(write_mirex(tmp_path) / name, old, new)
    with pytest.raises(DataError, match=message):
        load_dataset("mirex", tmp_path)


@pytest.fixture(scope="module")
def original(shared):
    return shared / "data" / "annotations" / "MIREX-like"


@pytest.mark.shared
@pytest.mark.parametrize("split", [0, 9])
def test_the_original_conforms(original, split):
    dataset = load_dataset("mirex", original, split=split)
    check_conformance(dataset)
    assert dataset.targets.sum(axis=0).tolist() == [170, 164, 215, 191, 163]
    assert [track.audio for track in dataset.tracks] == [f"{number:03d}.mp3" for number in range(1, 904)]
    test = dataset.targets[dataset.rows("test")]
    assert len(test) in (90, 91)
    assert (abs(test.sum(axis=0) - dataset.targets.sum(axis=0) / 10) <= 1).all()


@pytest.mark.shared
def test_the_original_has_632_artists_and_the_one_of_clip_782_is_among_them(original):
    dataset = load_dataset("mirex", original)
    artists = Counter(track.artist for track in dataset.tracks)
    assert len(artists) == 632 + 6
    assert artists.most_common(1)[0][1] == 8
    assert dataset.tracks[781].artist == "x [1]"
    assert dataset.tracks[41].artist == dataset.tracks[3].artist  # a slash and a hyphen
    assert dataset.remarks[0].startswith("6 tracks have no artist")
