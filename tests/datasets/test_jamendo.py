"""MTG's tables, lists and names of files: fetched, checked, found again."""

import hashlib
import socket

import pytest
from damaged_stores import state_of

from jamendo_mood.cli.main import main
from jamendo_mood.datasets import jamendo, load_dataset
from jamendo_mood.datasets.jamendo import QUALITIES, read_list
from jamendo_mood.util.errors import DataError, UsageError

pytest_plugins = ["flaky_server"]

COUNT = 20
SPOILED = "data/splits/split-3/autotagging_moodtheme-train.tsv"


@pytest.fixture
def mirror(server, monkeypatch):
    """A server of files of other contents in the layout of MTG's repository, and the checksums to match."""
    checksums = {}
    for path in jamendo.read_published_checksums():
        (server.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (server.folder / path).write_bytes(f"contents of {path}\r\n".encode())
        checksums[path] = hashlib.sha256((server.folder / path).read_bytes()).hexdigest()
    monkeypatch.setattr(jamendo, "read_published_checksums", lambda: checksums)
    return server


def test_the_checksums_are_of_five_lists_and_five_splits():
    checksums = jamendo.read_published_checksums()
    assert len(checksums) == COUNT == 20
    assert {len(bytes.fromhex(sha256)) for sha256 in checksums.values()} == {32}
    parts = {f"data/splits/split-{n}/autotagging_moodtheme-{part}.tsv" for n in range(5) for part in jamendo.PARTS}
    lists = {"data/autotagging_moodtheme.tsv", "data/tags/moodtheme.txt", "data/tags/moodtheme_split.txt"}
    lists |= {f"data/download/autotagging_moodtheme_{audio}_sha256_tracks.txt" for audio in ("audio", "audio-low")}
    assert set(checksums) == parts | lists


def test_all_files_are_written_in_the_layout_that_the_data_set_reads_and_fetched_if_they_are_wrong(mirror, tmp_path):
    seen, out = [], tmp_path / "out"
    jamendo.get_splits(out, mirror.url, on_file=lambda path, fetched: seen.append((path, fetched)))
    files = state_of(out)
    assert files["autotagging_moodtheme.tsv"] == b"contents of data/autotagging_moodtheme.tsv\r\n"
    assert files["moodtheme_split.txt"] == b"contents of data/tags/moodtheme_split.txt\r\n"
    assert files["splits/split-4/autotagging_moodtheme-test.tsv"].startswith(b"contents of data/splits/split-4")
    assert len(files) == len(mirror.asked) == COUNT
    assert {(path.relative_to(out).as_posix(), fetched) for path, fetched in seen} == {(name, True) for name in files}
    mirror.asked.clear()
    (out / "moodtheme.txt").write_text("edited by hand")
    jamendo.get_splits(out, mirror.url + "/", on_file=lambda path, fetched: seen.append((path, fetched)))
    assert mirror.asked == ["data/tags/moodtheme.txt"]
    assert [path.name for path, fetched in seen[COUNT:] if fetched] == ["moodtheme.txt"]
    assert state_of(out) == files


def test_a_wrong_byte_is_refused_naming_both_hashes_and_not_kept(mirror, tmp_path):
    mirror.always[SPOILED] = {"spoiled": 3}
    content = bytearray((mirror.folder / SPOILED).read_bytes())
    content[3] ^= 1
    got, expected = hashlib.sha256(content).hexdigest(), jamendo.read_published_checksums()[SPOILED]
    with pytest.raises(DataError, match=rf"{SPOILED}: not the official file \(SHA-256 {got}, expected {expected}\)"):
        jamendo.get_splits(tmp_path / "out", mirror.url)
    kept = state_of(tmp_path / "out")
    assert SPOILED.removeprefix("data/") not in kept
    assert kept
    assert bytes(content) not in kept.values()  # under no other name either


@pytest.mark.parametrize("case", ["404", "refused", "not an address"])
def test_what_cannot_be_fetched_is_one_clear_line(case, server, tmp_path, capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
        address = {"404": server.url, "refused": closed}.get(case, case)
        assert main(["splits", "--out", str(tmp_path / "out"), "--base-url", address]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"jamendo-mood splits: {address}/data/autotagging_moodtheme.tsv: cannot be fetched (")
    assert "--base-url names a mirror" in err
    assert case != "404" or "404" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.shared
def test_the_real_files_pass_and_load(shared, server, tmp_path, capsys, monkeypatch):
    # The list of the full quality is not among the shared data.
    published = jamendo.read_published_checksums().items()
    checksums = {path: sha256 for path, sha256 in published if "audio_sha256" not in path}
    monkeypatch.setattr(jamendo, "read_published_checksums", lambda: checksums)
    for path in checksums:
        own = path.removeprefix("data/").removeprefix("tags/").removeprefix("download/")
        (server.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (server.folder / path).symlink_to(shared / "data" / "jamendo" / own)
    for word in ("fetched", "already there"):
        assert main(["splits", "--out", str(tmp_path / "out"), "--base-url", server.url]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert [line.endswith(f"  {word}, SHA-256 right") for line in out.splitlines()] == [True] * (COUNT - 1)
    assert len(server.asked) == COUNT - 1
    dataset = load_dataset("jamendo", tmp_path / "out", split=4)
    assert dataset.targets.shape == (17_982, 56)
    assert load_dataset("jamendo-59", tmp_path / "out").targets.shape == (18_486, 59)


def test_names_and_addresses_are_mtgs():
    low, full = QUALITIES["low"], QUALITIES["full"]
    assert low.path_of("48/948").as_posix() == "48/948.low.mp3"
    assert full.path_of("48/948").as_posix() == "48/948.mp3"
    assert low.files_url == "https://cdn.freesound.org/mtg-jamendo/raw_30s/audio-low"
    assert full.tars_url == "https://cdn.freesound.org/mtg-jamendo/autotagging_moodtheme/audio"
    assert low.tar_name.format("48") == "autotagging_moodtheme_audio-low-48.tar"
    assert full.tar_name.format("48") == "autotagging_moodtheme_audio-48.tar"


@pytest.mark.parametrize("table", ["a.tsv", "splits/split-0/a.tsv"])
def test_the_list_is_found_beside_the_table_and_above_the_splits(table, tmp_path):
    (tmp_path / QUALITIES["full"].checksums_name).write_text("ab" * 32 + " 48/948.mp3\n")
    assert read_list(QUALITIES["full"], tmp_path / table) == {"48/948": "ab" * 32}
    with pytest.raises(
        UsageError, match=r"no autotagging_moodtheme_audio-low_sha256_tracks.txt beside it; `jamendo-mood"
    ):
        read_list(QUALITIES["low"], tmp_path / table)


@pytest.mark.shared
def test_the_real_list_fits_the_real_table_and_the_real_tars(shared):
    table = shared / "data" / "jamendo" / "autotagging_moodtheme.tsv"
    low = QUALITIES["low"]
    checksums = read_list(low, table)
    assert {track.key for track, _ in jamendo.read_tracks(table)} == checksums.keys()
    lines = (table.parent / "autotagging_moodtheme_audio-low_sha256_tars.txt").read_text().split("\n")
    assert {low.tar_name.format(key.split("/")[0]) for key in checksums} == {line.split()[1] for line in lines if line}
