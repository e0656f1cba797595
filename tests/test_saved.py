"""What earlier versions wrote is read by this one: stores and taggers in ``saved/``, made by ``saved/make.py``."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood import EmbeddingStore, Tagger

SAVED = Path(__file__).parent / "saved"
score = runpy.run_path(str(SAVED / "make.py"))["score"]
TAGGERS = sorted(path.parent for path in SAVED.glob("v*/*/tagger.json"))


@pytest.mark.parametrize("folder", TAGGERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_tagger_of_an_earlier_version_gives_the_same_scores(folder):
    expected = json.loads((folder.parent / "scores.json").read_text())[folder.name]
    found = score(Tagger.load(folder))
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, rtol=1e-4, atol=1e-5)  # processors round differently


@pytest.mark.parametrize("version", sorted(path.name for path in SAVED.glob("v*")))
def test_a_store_of_an_earlier_version_holds_the_same_embeddings(version):
    store = EmbeddingStore(SAVED / version / "store")
    with np.load(SAVED / version / "store.npz") as expected:
        assert {key.replace("/", "-") for key in store} == set(expected)
        for key in store:
            np.testing.assert_array_equal(store[key], expected[key.replace("/", "-")])
