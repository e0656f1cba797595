"""An embedder of another package: the example of CONTRIBUTING.md, as it stands there."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError

pytest_plugins = ["demo_corpus", "toy_commands"]

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("\n## An embedder from outside\n")[2].partition("\n## ")[0]


def block(language):
    """The one block of code in that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a package importable, with its entry points, as pip does."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def add(module, code, entry_points):
        (folder / f"{module}.py").write_text(code, encoding="utf-8")
        about = folder / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = (f"{name} = {value}" for name, value in entry_points.items())
        (about / "entry_points.txt").write_text("\n".join(["[jamendo_mood.embedders]", *lines]) + "\n")
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, module, raising=False)

    return add


@pytest.fixture
def loudness(install):
    heading, line = block("toml").splitlines()
    assert heading == '[project.entry-points."jamendo_mood.embedders"]'
    name, value = re.fullmatch(r'(\w+) = "(\w+:\w+)"', line).groups()
    install("loudness", block("python"), {name: value})


def test_its_rows_are_as_its_spec_says(loudness, noise):
    embedder = load_embedder("loudness")
    frames = embedder.embed(noise(5.5))
    assert (frames.shape, frames.dtype) == ((5, embedder.spec.dim), np.float32)
    assert abs(frames[:, 0] - 20 * np.log10(0.1)).max() < 0.5  # noise of that deviation
    assert np.isfinite(embedder.embed(np.zeros(100, np.float32))).all()


def test_it_is_extracted_trained_on_and_found_again(loudness, corpus, run, tmp_path):
    places = {"build/demo/audio": corpus.audio, "build/demo": corpus.root, "song.mp3": corpus.path(0)}
    places |= {f"build/{name}": tmp_path / name for name in ("loudness", "tagger-loudness")}
    commands = [shlex.split(line) for line in re.findall(r"^    jamendo-mood (.+)$", SECTION, re.MULTILINE)]
    assert [words[0] for words in commands] == ["extract", "train", "tag"]
    for words in commands:
        quick = ["--head", "mlp", "--epochs", "2"] if words[0] == "train" else []
        outcome = run(*(places.get(word, word) for word in words), *quick)
        assert outcome.status == 0, outcome.err
    spec = load_embedder("loudness").spec
    assert EmbeddingStore(tmp_path / "loudness").spec == Tagger.load(tmp_path / "tagger-loudness").spec == spec
    assert str(corpus.path(0)) in outcome.out


def test_an_unknown_name_lists_what_there_is(loudness):
    with pytest.raises(UsageError, match=r"'loud' \(known: vggish, vggish-pca, logmel.*mfcc-patches, loudness\)"):
        load_embedder("loud")


def test_no_package_can_replace_an_embedder_of_ours(install):
    install("evil", "def load(options): raise AssertionError", {"logmel": "evil:load"})
    assert load_embedder("logmel").spec.dim == 128


def test_what_is_wrong_with_it_is_one_line(loudness, install):
    install("other", block("python").replace("import numpy", "import nosuch"), {"broken": "other:load"})
    install("third", block("python"), {"louder": "third:load", "lost": "third:nosuch"})
    for name, message in {
        "broken": r"'broken' \(other:load\) cannot be imported \(No module named 'nosuch'\)",
        "lost": r"'lost' \(third:nosuch\) cannot be imported",
        "louder": r"'louder' calls itself 'loudness'",
    }.items():
        with pytest.raises(UsageError, match=message):
            load_embedder(name)
    with pytest.raises(UsageError, match="loudness gives 2 numbers every 1 s: its hop cannot be set"):
        load_embedder("loudness", EmbedderOptions(hop_s=0.5))
