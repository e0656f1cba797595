"""Commands that embed and score, on a machine where TensorFlow and Keras cannot be imported."""

import json
import os
import shutil

import numpy as np
import pytest
from toy_examples import TASK, make_tagger
from webclient import make_song, serve

from jamendo_mood.embedders import musicnn, vggish
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.heads import HeadConfig

pytest_plugins = ["toy_commands"]

BLOCK = """
import sys
for name in ("tensorflow", "tensorflow_hub", "keras"):
    sys.modules[name] = None
"""


@pytest.fixture
def blocked(tmp_path):
    """An environment in which each Python finds no TensorFlow."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCK)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    for number in range(3):
        (folder / f"song{number}.wav").write_bytes(make_song(number, 5.0))
    return folder


@pytest.fixture(params=["musicnn", pytest.param("vggish", marks=pytest.mark.thorough)])
def case(request, songs, tmp_path, monkeypatch):
    """A store and a tagger on an embedder whose weights were read before: from then on that needs no TensorFlow."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = {"musicnn": "seeded_musicnn_wheel", "vggish": "seeded_module"}[request.param]
    weights = request.getfixturevalue(source)
    if request.param == "musicnn":  # as `weights musicnn --get` keeps it
        import safetensors.numpy

        kept = tmp_path / "cache" / "jamendo-mood" / musicnn.WEIGHTS_NAME
        kept.parent.mkdir(parents=True)
        kept.write_bytes(safetensors.numpy.save(musicnn.read_weights(weights)))
        weights = kept
    else:
        vggish.read_variables(weights)
    embedder = load_embedder(request.param, EmbedderOptions(weights, allow_untrained=True))
    tagger = make_tagger(TASK, embedder.spec, HeadConfig("attention", hidden=8, layers=1))
    tagger.save(tmp_path / "tagger")
    options = ["--weights", weights, "--allow-untrained", "--offline"]
    return request.param, tagger, tmp_path / "tagger", options


def test_songs_are_embedded_tagged_found_and_listed(case, songs, run_apart, blocked, tmp_path):
    name, tagger, folder, options = case
    store, songs = tmp_path / "store", shutil.copytree(songs, tmp_path / "songs")

    def run(*arguments):
        done = run_apart(*arguments, env=blocked)
        assert done.status == 0, done.err
        return done.out

    run("extract", songs, "--store", store, "--embedder", name, *options)
    rows = EmbeddingStore(store)["song1"]
    (result,) = json.loads(run("tag", songs / "song1.wav", "--tagger", folder, "--format", "json", *options))["results"]
    scores = {target["name"]: target["score"] for target in result["targets"]}
    expected = dict(zip(tagger.task.targets, tagger.score_track(rows).tolist(), strict=True))
    assert scores == pytest.approx(expected, abs=1e-3)
    run("similar", songs / "song1.wav", "--store", store, *options)
    run("playlist", "--store", store, "--tagger", folder, "--mood", f"{tagger.task.targets[0]}=1")


def test_the_page_is_served(case, songs, blocked, tmp_path):
    _, tagger, folder, options = case
    (tmp_path / "web").mkdir()
    with serve(tmp_path / "web", "--tagger", folder, *options, PYTHONPATH=blocked["PYTHONPATH"]) as served:
        answer, document = served.tag((songs / "song2.wav").read_bytes())
        assert answer.status == 200, document
        assert len(document["results"][0]["targets"]) == len(tagger.task.targets)
        assert np.isfinite([target["score"] for target in document["results"][0]["targets"]]).all()
