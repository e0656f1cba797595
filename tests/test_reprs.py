"""What a person sees who types the name of an object: one line, and in a notebook a small table."""

import re
from dataclasses import replace

import pytest

from jamendo_mood.tagging.prediction import score_embedding

pytest_plugins = ["demo_corpus"]


@pytest.fixture(scope="module")
def prediction(corpus, corpus_store, corpus_tagger):
    key = corpus.dataset.tracks[0].key
    return score_embedding((f"{key}.mp3", None, None, 12.4), corpus_store[key], corpus_tagger)


def test_what_is_shown_in_a_line(corpus, corpus_store, corpus_tagger, prediction):
    figure = corpus_tagger.scores["PR-AUC-macro"]
    tagger = "<Tagger: 5 tags of jamendo from logmel, 1 x attention on frames"
    assert repr(corpus_tagger) == f"{tagger}, validation PR-AUC-macro {figure:.3f}>"
    assert repr(replace(corpus_tagger, scores={})) == f"{tagger}>"
    best = ", ".join(f"{tag} {score:.2f}" for tag, score, _ in prediction.top(3))
    assert repr(prediction) == f"<Prediction of {prediction.source} (12 s): {best}>"
    assert "\n" not in repr(replace(prediction, source="two\nlines.mp3"))
    assert repr(corpus_store) == f"<EmbeddingStore {corpus_store.root}: 48 tracks of {corpus_store.spec}>"
    assert repr(corpus.dataset) == "<Dataset jamendo: 48 tracks, 5 tags; train 24, validation 12, test 12>"


def cells(shown):
    """The cells of a table by row, and its caption first."""
    (caption,) = re.findall(r"<caption[^>]*>(.*?)</caption>", shown)
    return [caption, *(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", shown))]


def test_the_table_of_a_tagger(corpus_tagger):
    caption, *rows = cells(corpus_tagger._repr_html_())
    rows = dict(rows)
    assert sum(map(int, re.findall(r"\d+", rows.pop("grades")))) == 5
    expected = {"task": "jamendo: 5 tags", "embedder": str(corpus_tagger.spec), "heads": "1 x attention on frames"}
    score = {"validation PR-AUC-macro": f"{corpus_tagger.scores['PR-AUC-macro']:.3f}"}
    assert caption == "Tagger"
    assert rows.items() >= {**expected, **score}.items()
    assert not score.keys() & dict(cells(replace(corpus_tagger, scores={})._repr_html_())[1:]).keys()


def test_the_table_of_a_prediction(prediction):
    caption, heading, *rows = cells(prediction._repr_html_())
    assert caption == f"{prediction.source} (0:12)"
    assert heading == ["tags", "score", "grade"]
    for row, (tag, score, decided) in zip(rows, prediction.top(10), strict=True):
        assert row == [tag, f"{score:.3f}{' *' if decided else ''}", prediction.grade(tag)]
    named = replace(prediction, title="Song", artist="Some & One")
    assert cells(named._repr_html_())[0] == "Some &amp; One - Song (0:12)"


def test_the_table_of_a_store(corpus_store):
    caption, *rows = cells(corpus_store._repr_html_())
    size = sum(path.stat().st_size for path in corpus_store.root.glob("*/*.npy"))
    expected = {"embedder": str(corpus_store.spec), "tracks": "48", "size on disk": f"{size / 1e3:,.1f} kB"}
    assert caption == f"Embedding store {corpus_store.root}"
    assert dict(rows).items() >= expected.items()


def test_the_table_of_a_data_set(corpus):
    caption, heading, *rows = cells(corpus.dataset._repr_html_())
    assert caption == "Data set jamendo: 5 tags"
    assert heading == ["part", "tracks", "artists"]
    assert [row[:2] for row in rows] == [["train", "24"], ["validation", "12"], ["test", "12"]]
    artists = {corpus.dataset.tracks[row].artist for row in corpus.dataset.rows("train")}
    assert rows[0][2] == str(len(artists))
