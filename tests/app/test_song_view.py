import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import image
from toy_examples import COURSES, QUADRANTS, VALUES, make_tagger

from jamendo_mood.app import songs
from jamendo_mood.audio.spectrograms import Spectrogram
from jamendo_mood.library.similarity import Found
from jamendo_mood.tagging.analysis import Analysis, Limits, analyse
from jamendo_mood.tagging.prediction import describe_mood, score_embedding

pytest_plugins = ["demo_corpus"]


@pytest.fixture(scope="module")
def analysis(corpus, corpus_tagger, logmel):
    return analyse(corpus.path(0), corpus_tagger, logmel, Limits())


def describe(analysis, tagger):
    """What a song is described by, which JSON can hold, and its scores over time as shares of the scale."""
    description, timeline = songs.describe(analysis, tagger)
    json.dumps(description, allow_nan=False)
    return description, np.frombuffer(timeline, np.uint8).reshape(description["frames"], -1) / 255


def test_a_song_is_described_for_the_browser(analysis, corpus_tagger):
    description, levels = describe(analysis, corpus_tagger)
    prediction = analysis.prediction
    assert description["mood"] == describe_mood(prediction)
    assert [target["name"] for target in description["targets"]] == [name for name, _, _ in prediction.top(5)]
    for target in description["targets"]:
        row = prediction.targets.index(target["name"])
        assert target["decided"] == (target["score"] >= corpus_tagger.thresholds[row])
        assert target["spread"] == pytest.approx(np.percentile(prediction.frame_scores[:, row], [10, 90]), abs=1e-6)
        assert target["spread"][1] <= target["peak"]
    assert levels.shape == prediction.frame_scores.shape
    assert (description["place"]["valence"], description["place"]["arousal"]) == prediction.place
    assert len(description["course"]) <= 60
    assert str(analysis.prediction.source) not in json.dumps(description)


def test_a_tag_that_is_never_decided_has_no_threshold(analysis, corpus_tagger, monkeypatch):
    tagger = replace(corpus_tagger, thresholds=np.full(5, np.inf))
    prediction = score_embedding(("a.mp3", None, None, 12.0), analysis.frames, tagger)
    description, _ = describe(replace(analysis, prediction=prediction), tagger)
    assert [target["threshold"] for target in description["targets"]] == [None] * 5
    assert {target["state"] for target in description["targets"]} == {"no threshold: it is never decided"}
    assert (description["place"], description["course"]) == (None, [])  # such tags say nothing of it
    monkeypatch.setattr(songs, "SENT_TARGETS", 2)  # of many tags only the highest are sent
    description, levels = describe(analysis, corpus_tagger)
    assert (len(description["targets"]), levels.shape[1]) == (2, 2)


def test_details_say_why_and_draw_the_sound(analysis, corpus_tagger):
    tracks = [Found(f"0{n}/{n}", 0.9, None, (("sad", 0.8125), ("dark", 0.1)), "T", "A") for n in range(9)]
    details, picture = songs.describe_details(analysis, corpus_tagger, tracks)
    assert [track["key"] for track in details["similar"]] == [track.key for track in tracks[:6]]
    about = {"title": "T", "artist": "A", "fit": 0.9, "note": "sad 0.81, dark 0.10", "playable": False}  # and no path
    assert details["similar"][0] == {"key": "00/0", **about}
    assert details["why"].keys() == set(analysis.prediction.targets)
    for stretches in details["why"].values():
        assert stretches == sorted(stretches)
        assert all(0 <= start < end <= analysis.prediction.duration_s + 1 for start, end in stretches)
    height, width, *_ = image.imread(io.BytesIO(picture)).shape
    assert height == 64
    assert width == pytest.approx(analysis.prediction.duration_s * 50, abs=5)  # two frames of 10 ms a column


@pytest.mark.parametrize("name", ["my song.mp3", "../x.mp3", ""])
def test_exports(analysis, name):
    prediction = analysis.prediction
    file, content = songs.export(prediction, "csv", name)
    assert "/" not in file
    assert file.endswith(" moods.csv")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [float(row["score"]) for row in rows] == pytest.approx([score for _, score, _ in prediction.top(5)])
    assert {row["file"] for row in rows} == {name}
    (values,) = json.loads(songs.export(prediction, "json", name)[1])["results"]
    assert (values["file"], len(values["targets"])) == (name, 5)
    assert len(values["timeline"]["times_s"]) == len(prediction.times_s)
    assert image.imread(io.BytesIO(songs.export(prediction, "png", name)[1])).shape[0] > 400
    with pytest.raises(KeyError):
        songs.export(prediction, "exe", name)


@pytest.mark.parametrize("task", [QUADRANTS, VALUES, COURSES], ids=["classes", "values", "courses"])
def test_classes_and_values_are_described_without_thresholds_and_lie_where_they_say(task):
    frames = np.random.default_rng(0).standard_normal((100, 4), dtype=np.float32)
    tagger = make_tagger(task)
    prediction = score_embedding(("a.mp3", None, None, 96.0), frames, tagger)
    analysis = Analysis(prediction, frames, Spectrogram(np.zeros((1, 64), np.float32), 0.0, 96.0, 96.0))
    description, levels = describe(analysis, tagger)
    low, high = task.scale or (0.0, 1.0)
    targets = description["targets"]
    assert description["scale"] == (None if task.scale is None else [low, high])
    assert [target["name"] for target in targets] == [name for name, _, _ in prediction.top(4)]
    assert {target["threshold"] for target in targets} == {None}
    chosen = [target["name"] for target in targets if target["decided"]]
    assert chosen == ([] if task.scale else [prediction.top(1)[0][0]])
    words = [description["words"][name] for name in ("choose", "carried", "nothing", "legend")]
    said = " ".join([*words, *(target["state"] for target in targets)])
    assert "threshold" not in said
    assert "{" not in said
    assert (f"from {low:g} to {high:g}" in said) == bool(task.scale)
    columns = [prediction.targets.index(target["name"]) for target in targets]
    np.testing.assert_allclose(
        levels * (high - low) + low, prediction.frame_scores[:, columns], atol=(high - low) / 500
    )
    assert description["place_source"] == {"classes": "from the classes", "values": "predicted"}[task.kind]
    assert len(description["course"]) == 60
    if task.scale:
        scores = {target["name"]: target["score"] for target in targets}
        for axis in ("valence", "arousal"):
            assert description["place"][axis] == pytest.approx(2 * (scores[axis] - low) / (high - low) - 1, abs=1e-5)
