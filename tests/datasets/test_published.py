import pytest

from jamendo_mood.audio.decoding import key_of
from jamendo_mood.datasets import jamendo
from jamendo_mood.datasets.jamendo import QUALITIES, read_list
from jamendo_mood.util.errors import DataError, UsageError


def test_names_and_addresses_are_mtgs():
    low, full = QUALITIES["low"], QUALITIES["full"]
    assert low.path_of("48/948").as_posix() == "48/948.low.mp3"
    assert full.path_of("48/948").as_posix() == "48/948.mp3"
    assert low.files_url == "https://cdn.freesound.org/mtg-jamendo/raw_30s/audio-low"
    assert full.tars_url == "https://cdn.freesound.org/mtg-jamendo/autotagging_moodtheme/audio"
    assert low.tar_name.format("48") == "autotagging_moodtheme_audio-low-48.tar"
    assert full.tar_name.format("48") == "autotagging_moodtheme_audio-48.tar"
    assert [key_of(quality.path_of("48/948").as_posix()) for quality in (low, full)] == ["48/948"] * 2


@pytest.mark.parametrize("table", ["a.tsv", "splits/split-0/a.tsv"])
def test_the_list_is_found_beside_the_table_and_above_the_splits(table, tmp_path):
    (tmp_path / QUALITIES["full"].checksums_name).write_text("abc 48/948.mp3\n")
    assert read_list(QUALITIES["full"], tmp_path / table) == {"48/948": "abc"}
    with pytest.raises(
        UsageError, match=r"no autotagging_moodtheme_audio-low_sha256_tracks.txt beside it; `jamendo-mood"
    ):
        read_list(QUALITIES["low"], tmp_path / table)


def test_a_damaged_list_is_named(tmp_path):
    (tmp_path / QUALITIES["low"].checksums_name).write_text("not a list at all\n")
    with pytest.raises(DataError, match="not a list of checksums"):
        read_list(QUALITIES["low"], tmp_path / "a.tsv")


@pytest.mark.shared
def test_the_real_list_fits_the_real_table_and_the_real_tars(shared):
    table = shared / "data" / "jamendo" / "autotagging_moodtheme.tsv"
    low = QUALITIES["low"]
    checksums = read_list(low, table)
    assert {track.key for track, _ in jamendo.read_tracks(table)} == checksums.keys()
    lines = (table.parent / "autotagging_moodtheme_audio-low_sha256_tars.txt").read_text().split("\n")
    assert {low.tar_name.format(key.split("/")[0]) for key in checksums} == {line.split()[1] for line in lines if line}
