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
from jamendo_mood.tagging.emotions import place_of
from jamendo_mood.tagging.prediction import describe_mood, score_embedding
from jamendo_mood.tasks import KINDS

pytest_plugins = ["demo_corpus"]


@pytest.fixture(scope="module")
def analysis(corpus, corpus_tagger, logmel):
    return analyse(corpus.path(0), corpus_tagger, logmel, Limits())


def test_a_song_is_described_for_the_browser(analysis, corpus_tagger):
    description, timeline = songs.describe(analysis, corpus_tagger, "a.mp3")
    json.dumps(description, allow_nan=False)
    prediction = analysis.prediction
    assert description["name"] == "a.mp3"
    assert description["mood"] == describe_mood(analysis.prediction)
    assert [tag["tag"] for tag in description["tags"]] == [name for name, _, _ in prediction.top(5)]
    for tag in description["tags"]:
        row = prediction.targets.index(tag["tag"])
        assert tag["above_threshold"] == (tag["score"] >= corpus_tagger.thresholds[row])
        assert tag["spread"][0] <= tag["spread"][1] <= tag["peak"]
    assert len(timeline) == description["frames"] * description["columns"]
    assert description["va"] == pytest.approx(
        place_of(corpus_tagger.task, corpus_tagger.thresholds, prediction.track_scores).tolist()
    )
    assert len(description["va_course"]) <= 60


def test_a_tag_that_is_never_decided_has_no_threshold(analysis, corpus_tagger, monkeypatch):
    tagger = replace(corpus_tagger, thresholds=np.full(5, np.inf))
    description, _ = songs.describe(analysis, tagger, "a.mp3")
    assert [tag["threshold"] for tag in description["tags"]] == [None] * 5
    assert description["va"] is None  # such tags say nothing of it
    json.dumps(description, allow_nan=False)
    monkeypatch.setattr(songs, "SENT_TAGS", 2)  # of many tags only the highest are sent
    description, timeline = songs.describe(analysis, corpus_tagger, "a.mp3")
    assert (len(description["tags"]), description["columns"]) == (2, 2)
    assert len(timeline) == 2 * len(analysis.prediction.times_s)


def test_details_say_why_and_draw_the_sound(analysis, corpus_tagger):
    tracks = [Found(f"0{n}/{n}", 0.9, None, ()) for n in range(9)]
    details, picture = songs.describe_details(analysis, corpus_tagger, tracks)
    assert [track["key"] for track in details["similar"]] == [track.key for track in tracks[:6]]
    assert songs.describe_details(analysis, corpus_tagger, [])[0]["similar"] == []
    assert details["why"].keys() == set(analysis.prediction.targets)
    for stretches in details["why"].values():
        assert stretches == sorted(stretches)
        assert all(0 <= start < end <= analysis.prediction.duration_s + 1 for start, end in stretches)
    pixels = image.imread(io.BytesIO(picture))
    assert pixels.shape[0] == 64
    assert pixels.shape[1] == pytest.approx(analysis.prediction.duration_s * 50, abs=5)  # two frames of 10 ms a column


def test_a_track_is_described_without_its_path():
    track = songs.describe_track(Found("48/948", 0.9, None, (("sad", 0.8125), ("dark", 0.1)), "T", "A"))
    assert track["note"] == "sad 0.81, dark 0.10"
    assert track["playable"] is False
    assert "file" not in track


@pytest.mark.parametrize("name", ["my song.mp3", "../x.mp3", ""])
def test_exports(analysis, name):
    prediction = analysis.prediction
    file, media, content = songs.export(prediction, "csv", name)
    assert "/" not in file
    assert file.endswith(" moods.csv")
    assert media == "text/csv"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [float(row["score"]) for row in rows] == pytest.approx([score for _, score, _ in prediction.top(5)])
    assert {row["file"] for row in rows} == {name}
    (values,) = json.loads(songs.export(prediction, "json", name)[2])["results"]
    assert (values["file"], len(values["targets"])) == (name, 5)
    assert len(values["timeline"]["times_s"]) == len(prediction.times_s)
    picture = image.imread(io.BytesIO(songs.export(prediction, "png", name)[2]))
    assert picture.shape[0] > 400
    with pytest.raises(KeyError):
        songs.export(prediction, "exe", name)


@pytest.fixture(params=[QUADRANTS, VALUES, COURSES], ids=["classes", "values", "courses"])
def other(request):
    """A tagger of another kind than tags, and a song that it analysed."""
    frames = np.random.default_rng(0).standard_normal((100, 4), dtype=np.float32)
    tagger = make_tagger(request.param)
    picture = Spectrogram(np.zeros((1, 64), np.float32), 0.0, 96.0, 96.0)
    return Analysis(score_embedding(("a.mp3", None, None, 96.0), frames, tagger), frames, picture), tagger


def test_there_are_words_for_every_kind():
    for kind in KINDS.values():
        for state in kind.states:
            state.format(0.5, 0.0, 1.0)


def test_classes_and_values_are_described_without_thresholds_and_lie_where_they_say(other):
    analysis, tagger = other
    description, timeline = songs.describe(analysis, tagger, "a.mp3")
    json.dumps(description, allow_nan=False)
    prediction, rules = analysis.prediction, tagger.task.rules
    low, high = tagger.task.scale or (0.0, 1.0)
    assert description["scale"] == [low, high]
    assert [tag["tag"] for tag in description["tags"]] == [name for name, _, _ in prediction.top(4)]
    assert {tag["threshold"] for tag in description["tags"]} == {None}
    chosen = [tag["tag"] for tag in description["tags"] if tag["above_threshold"]]
    assert chosen == ([] if rules.on_scale else [prediction.top(1)[0][0]])
    said = " ".join([*description["words"].values(), *(tag["state"] for tag in description["tags"])])
    assert "threshold" not in said
    assert "{" not in said
    assert (f"from {low:g} to {high:g}" in said) == rules.on_scale
    levels = np.frombuffer(timeline, np.uint8).reshape(description["frames"], description["columns"])
    columns = [prediction.targets.index(tag["tag"]) for tag in description["tags"]]
    np.testing.assert_allclose(
        levels / 255 * (high - low) + low, prediction.frame_scores[:, columns], atol=(high - low) / 500
    )
    assert description["va_source"] == {"classes": "from the classes", "values": "predicted"}[tagger.task.kind]
    assert len(description["va_course"]) == 60
    if tagger.task.scale is not None:
        scores = {tag["tag"]: tag["score"] for tag in description["tags"]}
        expected = [2 * (scores[name] - low) / (high - low) - 1 for name in ("valence", "arousal")]
        assert description["va"] == pytest.approx(expected, abs=1e-5)
    for form in ("csv", "json", "png"):
        assert songs.export(prediction, form, "a.mp3")[2]
