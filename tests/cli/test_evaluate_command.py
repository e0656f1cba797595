"""What the commands that judge a tagger say of data that are no longer what it was trained with."""

import pytest

pytest_plugins = ["demo_corpus", "toy_commands"]


@pytest.fixture(scope="module")
def table(corpus, tmp_path_factory):
    """The corpus as a table of one's own."""
    path = tmp_path_factory.mktemp("own") / "own.csv"
    rows = [f"{song.path},artist {song.artist},{';'.join(song.moods)}\n" for song in corpus.songs]
    path.write_text("path,artist,tags\n" + "".join(rows))
    return path


def test_parts_that_changed_since_the_training_are_told(run, table, corpus_store, tmp_path, caplog):
    where = ["--data", table, "--store", corpus_store.root]
    tagger = tmp_path / "tagger"
    settings = ["--head", "linear", "--epochs", 2]
    assert run("train", "--task", "own", *where, "--out", tagger, *settings).status == 0
    assert run("evaluate", tagger, *where, "--rounds", 0).status == 0
    assert "has changed since" not in caplog.text
    text = table.read_text()
    table.write_text(text + "another.mp3,a new artist,happy\n")
    again = run("evaluate", tagger, *where, "--rounds", 0)
    assert again.status == 0
    assert caplog.text.count("has changed since") == 1
    table.write_text(text)
    assert "has changed since" not in run("evaluate", tagger, *where, "--rounds", 0, "--split", 1).err
