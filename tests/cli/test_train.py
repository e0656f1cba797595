"""Training, judging and using taggers of classes and of values, by the commands."""

import json
from contextlib import redirect_stderr
from io import StringIO

import pytest

from jamendo_mood.cli.main import main
from jamendo_mood.tagging.emotions import PLACES, describe_place

pytest_plugins = ["demo_corpus", "toy_commands"]


def place_of(song):
    """The mean of its moods' places."""
    return [round(sum(PLACES[mood][axis] for mood in song.moods) / len(song.moods), 3) for axis in (0, 1)]


LABELS = {
    "classes": (["class"], lambda song: [describe_place(*place_of(song)).quadrant]),
    "values": (["valence", "arousal"], place_of),
}


@pytest.fixture(scope="module", params=LABELS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def table(kind, corpus, tmp_path_factory):
    """The corpus as a table of one's own, with a column that nobody reads."""
    path = tmp_path_factory.mktemp(kind) / "own.csv"
    names, label = LABELS[kind]
    rows = [["path", "artist", *names, "notes"]]
    rows += [[song.path, f"artist {song.artist}", *map(str, label(song)), ""] for song in corpus.songs]
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def trained(table, corpus_store):
    """A tagger's folder, and what `train` said on stderr."""
    folder, said = table.parent / "tagger", StringIO()
    arguments = ["--data", str(table), "--store", str(corpus_store.root), "--out", str(folder), "--head", "linear"]
    with redirect_stderr(said):
        assert main(["train", "--task", "own", *arguments, "--set", "l2=1"]) == 0
    return folder, said.getvalue()


def test_what_is_remarkable_in_the_data_is_told(run, kind, table, corpus_store, trained):
    folder, said = trained
    remark = "unused columns: notes"
    assert said.count(remark) == 1
    for command in (("evaluate", folder), ("compare", folder, folder)):
        outcome = run(*command, "--data", table, "--store", corpus_store.root, "--rounds", 20)
        assert (outcome.status, outcome.err.count(remark), outcome.out.count(remark)) == (0, 1, 0)


def test_a_report_is_written(run, kind, table, corpus_store, trained, tmp_path):
    folder, _ = trained
    where = ["--data", table, "--store", corpus_store.root, "--rounds", 20, "--out", tmp_path, "--format", "json"]
    figures = json.loads(run("evaluate", folder, *where).out)
    headline, targets = {
        "classes": ("accuracy", "own: 4 classes"),
        "values": ("CCC", "own: 2 values on a scale from -1 to 1"),
    }[kind]
    page = (tmp_path / "report.html").read_text()
    assert f"{figures[headline]:.4f}" in page
    assert targets in page
    assert (folder / "README.md").read_text().startswith("# Mood tagger: own")


def test_songs_are_tagged_and_found_by_their_place(run, kind, corpus, corpus_store, trained):
    folder, _ = trained
    song = next(song for song in corpus.songs if song.moods == ("happy",))
    (values,) = json.loads(run("tag", corpus.audio / song.path, "--tagger", folder, "--format", "json").out)["results"]
    assert values["place"]["quadrant"] == "Q1"
    if kind == "values":
        named = {row["name"]: row["score"] for row in values["targets"]}
        assert values["place"]["valence"] == pytest.approx(named["valence"], abs=1e-5)  # its scale is the plane's
        assert values["place"]["arousal"] == pytest.approx(named["arousal"], abs=1e-5)
    else:
        assert values["targets"][0]["name"] == "Q1"
    done = run("playlist", "--store", corpus_store.root, "--tagger", folder, "--at", "1,1", "--format", "json")
    best = json.loads(done.out)[0]["key"]
    moods = {song.path.removesuffix(".mp3"): song.moods for song in corpus.songs}[best]
    assert {"happy", "energetic"} & {*moods}


def test_data_of_another_kind_are_refused(run, kind, table, corpus_store, trained, tmp_path):
    folder, _ = trained
    (tmp_path / "own.csv").write_text("path,tags\na.mp3,red\nb.mp3,green\nc.mp3,red\n")
    wanted = {"classes": "4 classes", "values": "2 values on a scale from -1 to 1"}[kind]
    outcome = run("evaluate", folder, "--data", tmp_path, "--store", corpus_store.root)
    outcome.check_error("evaluate", f"its tags are not those that the tagger was trained for, {wanted}")
