"""A pytest plugin: one small synthesised corpus, embedded once and trained on once, for all tests that need songs.

A test file that uses these fixtures says ``pytest_plugins = ["demo_corpus"]``.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from jamendo_mood.audio import decoding
from jamendo_mood.cli import demo
from jamendo_mood.datasets import load_dataset
from jamendo_mood.datasets.dataset import Dataset
from jamendo_mood.embedders.registry import Embedder, load_embedder
from jamendo_mood.extraction.streaming import extract
from jamendo_mood.library.similarity import Library, open_library
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.data import load_part
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.model import Tagger

ARTISTS = {"train": 8, "validation": 4, "test": 4}


@dataclass(frozen=True)
class Corpus:
    """A folder in Jamendo's layout, and what is in it; nobody writes to it."""

    root: Path
    songs: list[demo.Song]
    dataset: Dataset
    artists: dict[str, int]

    @property
    def audio(self) -> Path:
        return self.root / "audio"

    def path(self, number: int) -> Path:
        return self.audio / self.songs[number].path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "ARTISTS", ARTISTS)
        songs = demo.make_corpus(root, seed=7)
    return Corpus(root, songs, load_dataset("jamendo", root), ARTISTS)


@pytest.fixture(scope="session")
def logmel() -> Embedder:
    return load_embedder("logmel")


@pytest.fixture(scope="session")
def corpus_store(corpus: Corpus, logmel: Embedder, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path_factory.mktemp("store") / "logmel", logmel.spec)
    report = extract(decoding.find_audio(corpus.audio), logmel, store)
    assert report.done == len(corpus.songs)
    return store


@pytest.fixture(scope="session")
def corpus_tagger(corpus: Corpus, corpus_store: EmbeddingStore) -> Tagger:
    train, validation = (load_part(corpus.dataset, part, corpus_store) for part in ("train", "validation"))
    config = TrainConfig(epochs=8, ensemble=1)
    return fit(train, validation, corpus.dataset.task, corpus_store.spec, config, record={"split": 0})


@pytest.fixture(scope="session")
def tagger_folder(corpus_tagger: Tagger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taggers") / "corpus"
    corpus_tagger.save(folder)
    return folder


@pytest.fixture(scope="session")
def library(corpus: Corpus, corpus_store: EmbeddingStore, corpus_tagger: Tagger) -> Library:
    """The corpus by its store, its tagger and its files."""
    return open_library(corpus_store, corpus_tagger, corpus.audio)
