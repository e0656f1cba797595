"""Set-up that tests of several commands share."""

import shutil

import pytest


@pytest.fixture
def ask(run, corpus_store, tagger_folder):
    """Run a command on the corpus's store and its tagger."""

    def start(command, *arguments):
        return run(command, *arguments, "--store", corpus_store.root, "--tagger", tagger_folder)

    return start


@pytest.fixture
def songs(corpus, tmp_path):
    """A folder of four songs to add to, to spoil, to take from."""
    folder = tmp_path / "songs"
    for number in range(4):
        target = folder / corpus.songs[number].path
        target.parent.mkdir(parents=True)
        shutil.copy(corpus.path(number), target)
    return folder
