"""What a library shows at a glance, and the page that shows it."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_examples import make_tagger

from jamendo_mood.library.overview import REACHED, survey, write_page
from jamendo_mood.library.similarity import Library
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import UsageError

MOODS = ("calm", "dark", "odd")
SCORES = np.array([[0.9, 0.1, 0.5], [0.2, 0.6, 0.1], [0.4, 0.1, 0.1], [0.1, 0.2, 0.1]], np.float32)
SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)
VA = np.array([[0.5, -0.5], [-0.5, 0.1], [0.4, -0.1], [-0.2, -0.6]], np.float32)


def make_library(count=4, seed=0, **changes):
    means = np.random.default_rng(seed).standard_normal((count, 8), np.float32)
    arrays = {"scores": SCORES, "means": means, "va": VA, "files": {"t/0": Path("/music/t/0.mp3")}}
    return Library(tuple(f"t/{n}" for n in range(count)), MOODS, **{**arrays, **changes}).prepare()


def tags_tagger(thresholds=(0.5, 0.5, 0.25)):
    return replace(make_tagger(Task("moods", "tags", MOODS)), thresholds=np.array(thresholds))


def songs_of(library, **changes):
    return [replace(library.found(row), **changes) for row in range(len(library))]


def columns_of(node):
    """The table of songs, wherever it is in what Bokeh reads."""
    if isinstance(node, dict) and any(entry[0] == "name" for entry in node.get("entries", ())):
        return dict(node["entries"])
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next(filter(None, map(columns_of, inner)), None)


def test_shares_and_songs_that_no_mood_fits_go_by_thresholds():
    seen = survey(make_library(), tags_tagger())
    assert seen.counts == {"calm": 1, "dark": 1, "odd": 1}
    assert seen.of_no_mood == 2
    assert seen.unsure == [3, 2, 1, 0]  # 0.4, 0.8, 1.2 and 2 times the threshold that is nearest
    assert survey(make_library(), tags_tagger((1.0, 0.2, np.inf))).unsure == [2, 0, 3, 1]
    np.testing.assert_allclose(seen.plane, make_library().plane)
    assert seen.by_mood


def test_where_a_tagger_only_ranks_a_song_is_of_its_highest_mood():
    seen = survey(make_library(va=None), tags_tagger((np.inf,) * 3))
    assert seen.counts == {"calm": 2, "dark": 2, "odd": 0}
    assert seen.of_no_mood == 0
    assert seen.unsure == [3, 2, 1, 0]


def test_classes_and_values():
    classes = survey(make_library(), make_tagger(Task("moods", "classes", MOODS)))
    assert classes.counts == {"calm": 2, "dark": 2, "odd": 0}
    task = Task("va", "values", ("valence", "arousal"), (-1.0, 1.0))
    values = survey(make_library(scores=VA), make_tagger(task))
    assert values.counts == {
        "pleasant, calm": 2, "unpleasant, excited": 1, "unpleasant, calm": 1, "pleasant, excited": 0
    }  # fmt: skip
    assert values.unsure[0] == 2  # the one nearest to the middle
    with pytest.raises(UsageError, match="tempo, which say nothing of moods"):
        survey(make_library(scores=VA[:, :1], va=None), make_tagger(Task("t", "values", ("tempo",), (0.0, 9.0))))


def test_without_valence_and_arousal_songs_that_sound_alike_are_near():
    rng = np.random.default_rng(1)
    means = np.repeat(rng.standard_normal((3, 8)) * 5, 10, axis=0) + rng.standard_normal((30, 8)) / 5
    library = make_library(30, means=means.astype(np.float32), scores=rng.random((30, 3), np.float32), va=None)
    seen = survey(library, tags_tagger())
    assert not seen.by_mood
    assert seen.plane.shape == (30, 2)
    assert np.abs(seen.plane).max() == 1
    apart = np.linalg.norm(seen.plane[:, None] - seen.plane[None], axis=2)
    own = np.kron(np.eye(3, dtype=bool), np.ones((10, 10), bool))
    assert apart[own].mean() < apart[~own].mean() / 1.5


def test_duplicates_are_what_find_same_finds():
    rng = np.random.default_rng(2)
    means = rng.standard_normal((300, 8), np.float32) * [1, 100, 1, 1, 1, 0.01, 3, 1] + 50
    means[[7, 123]] = means[20] + [[0.001], [0.002]]  # three copies
    means[200] = means[100]
    library = make_library(300, means=means.astype(np.float32), scores=rng.random((300, 3), np.float32), va=None)
    found = survey(library, tags_tagger())
    assert found.duplicates == [[100, 200], [7, 20, 123]]  # the most alike first
    for group in found.duplicates:
        assert {*library.find_same(library.means[group[0]])} == {library.keys[row] for row in group}
    assert found.describe_duplicates() == "The same sound more than once: 2 songs, in 5 files."
    one = make_library(1, scores=SCORES[:1], va=VA[:1])
    assert survey(one, tags_tagger()).describe_duplicates() == "The same sound more than once: none."


def test_a_page_has_all_songs_and_asks_no_host():
    library = make_library()
    text = write_page(survey(library, tags_tagger()), songs_of(library, title="A & B", duration_s=61.4), "Mine <3")
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert "<title>Mine &lt;3</title>" in text
    assert not re.findall(r"<[^>]*\s(?:src|href)=", SCRIPT.sub("", text))
    data, *programs = SCRIPT.findall(text)
    for program in programs:  # the policy lets these run, and no others
        digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    assert policy.count("sha256-") == len(programs) == 3
    assert json.loads(data)["moods"] == list(MOODS)
    columns = columns_of(json.loads(data))
    assert columns["name"] == ["A & B"] * 4
    assert columns["file"] == ["/music/t/0.mp3", "", "", ""]
    assert columns["seconds"] == [61] * 4
    levels = gzip.decompress(base64.b64decode(columns["mood 0"]["array"]["data"]))
    assert [*levels] == [90 + REACHED, 20, 40, 10]
    library = make_library(files={})
    text = write_page(survey(library, tags_tagger()), songs_of(library), "mine")
    columns = columns_of(json.loads(SCRIPT.search(text)[1]))
    assert columns.keys() == {"x", "y", "name", "mood 0", "mood 1", "mood 2"}  # no paths
    assert columns["name"] == list(library.keys)
