"""What a person sees who types the name of an object: one line, whatever is in it."""

from dataclasses import replace

import pytest

from jamendo_mood.tagging.prediction import score_embedding

pytest_plugins = ["demo_corpus"]


@pytest.fixture(scope="module")
def prediction(corpus, corpus_store, corpus_tagger):
    key = corpus.dataset.tracks[0].key
    return score_embedding((f"{key}.mp3", None, None, 12.4), corpus_store[key], corpus_tagger)


def test_a_tagger(corpus_tagger):
    figure = corpus_tagger.scores["PR-AUC-macro"]
    expected = f"<Tagger: 5 tags of jamendo from logmel, 1 x attention on frames, validation PR-AUC-macro {figure:.3f}>"
    assert repr(corpus_tagger) == expected
    assert repr(replace(corpus_tagger, scores={})) == "<Tagger: 5 tags of jamendo from logmel, 1 x attention on frames>"


def test_a_prediction(prediction):
    best = ", ".join(f"{tag} {score:.2f}" for tag, score, _ in prediction.top(3))
    assert repr(prediction) == f"<Prediction of {prediction.source} (12 s): {best}>"
    assert "\n" not in repr(replace(prediction, source="two\nlines.mp3"))


def test_a_store(corpus_store):
    assert repr(corpus_store) == f"<EmbeddingStore {corpus_store.root}: 48 tracks of {corpus_store.spec}>"


def test_a_data_set(corpus):
    assert repr(corpus.dataset) == "<Dataset jamendo: 48 tracks, 5 tags; train 24, validation 12, test 12>"
