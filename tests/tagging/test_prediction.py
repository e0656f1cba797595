import json
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from matplotlib import colors
from toy_evaluations import labels
from toy_examples import (
    OTHER_SPEC,
    make_class_prediction,
    make_prediction,
    make_value_prediction,
)

from jamendo_mood.audio import decoding
from jamendo_mood.extraction.streaming import StreamConfig
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.tagging.emotions import Place, mood_words
from jamendo_mood.tagging.prediction import (
    Prediction,
    describe_mood,
    plot_song,
    predict,
    predict_files,
    predict_stored,
    to_document,
)
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import AudioError, DataError, UsageError

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.mp3"
    path.write_text("no music")
    return path


@pytest.fixture(scope="module")
def by_key(corpus_store, corpus_tagger):
    """The predictions of the whole corpus, from its store."""
    return {prediction.source: prediction for prediction in predict_stored(corpus_store, corpus_tagger)}


def test_a_file_and_its_stored_embedding_give_the_same_scores(corpus, corpus_store, corpus_tagger, logmel, by_key):
    assert list(by_key) == list(corpus_store)
    for number in (0, -1):
        song = corpus.songs[number]
        prediction = predict(corpus.path(number), corpus_tagger, logmel)
        from_store = by_key[song.path.removesuffix(".mp3")]
        np.testing.assert_array_equal(prediction.track_scores, from_store.track_scores)
        np.testing.assert_array_equal(prediction.frame_scores, from_store.frame_scores)
        frames = corpus_store[from_store.source]
        np.testing.assert_array_equal(from_store.frame_scores, corpus_tagger.score_frames(frames))
        np.testing.assert_array_equal(from_store.times_s, corpus_store.times(from_store.source))
        np.testing.assert_array_equal(from_store.decided, corpus_tagger.decide(from_store.track_scores))
        assert prediction.source == str(corpus.path(number))
        assert prediction.title == f"Study in {' and '.join(song.moods)} no. {song.id}"
        assert prediction.artist == f"Synthetic artist {song.artist}"
        assert prediction.duration_s == pytest.approx(12, abs=0.1)
        assert (from_store.title, from_store.artist) == (None, None)


def test_songs_the_tagger_has_not_heard_get_their_moods(corpus, by_key):
    """Most of them: two moods of one song may both come first."""
    songs = [song for song in corpus.songs if song.part == "test"]
    right = sum(by_key[song.path.removesuffix(".mp3")].top(1)[0][0] in song.moods for song in songs)
    assert right >= 0.75 * len(songs)


def test_an_unreadable_file_does_not_end_the_run(corpus, corpus_tagger, logmel, broken, empty_scratch):
    paths = [corpus.path(0), broken, corpus.path(1)]
    results = dict(predict_files(paths, corpus_tagger, logmel, StreamConfig(scratch=empty_scratch)))
    assert set(results) == set(paths)
    with pytest.raises(AudioError, match=re.escape(results[broken])):
        predict(broken, corpus_tagger, logmel)
    assert "broken.mp3: not a readable audio file" in results[broken]
    alone = predict(paths[2], corpus_tagger, logmel)
    np.testing.assert_array_equal(results[paths[2]].track_scores, alone.track_scores)


def test_another_embedder_is_refused_before_anything_is_read(corpus_tagger, logmel, corpus_store, tmp_path):
    other = replace(logmel, spec=replace(logmel.spec, name="other"))
    with pytest.raises(UsageError, match=r"needs embeddings of logmel .*; these are of other"):
        predict(tmp_path / "not there.mp3", corpus_tagger, other)
    with pytest.raises(UsageError, match="needs embeddings of other"):
        next(predict_stored(corpus_store, replace(corpus_tagger, spec=OTHER_SPEC)))


def test_a_stored_embedding_with_nan_is_refused_by_name(corpus_store, corpus_tagger, tmp_path):
    store = EmbeddingStore(tmp_path, corpus_store.spec)
    frames = corpus_store["00/1000"].copy()
    frames[3, 5] = np.nan
    store.add("48/948", frames)
    with pytest.raises(DataError, match="track '48/948' holds NaN or infinity"):
        next(predict_stored(store, corpus_tagger))


def test_what_a_store_remarks_on_is_said_and_silence_is_not_tagged(corpus_store, corpus_tagger, tmp_path, caplog):
    store = EmbeddingStore(tmp_path, corpus_store.spec)
    frames = corpus_store["00/1000"]
    for key, remark in {"half": "6 of 12 s could be decoded", "silent": decoding.SILENT, "sound": ""}.items():
        store.add(key, frames, remark)
    half, sound = predict_stored(store, corpus_tagger)
    assert (half.source, half.remark, half.to_json()["remark"]) == ("half", *2 * ("6 of 12 s could be decoded",))
    assert (sound.source, sound.remark, sound.to_json()["remark"]) == ("sound", "", None)
    assert caplog.messages == ["silent: silent from beginning to end"]


def test_the_top_is_the_highest_scores_in_order():
    prediction = make_prediction()
    assert prediction.top(2) == [("green", 0.75, True), ("red", pytest.approx(0.45), True)]
    assert [tag for tag, _, _ in prediction.top(10)] == ["green", "red", "blue"]
    assert [decided for _, _, decided in prediction.top(10)] == [True, True, False]
    tags = tuple(f"tag {number}" for number in range(100))
    scores = np.tile(np.array([0.25, 0.5], np.float32), 50)  # of equal ones, tags keep their order
    prediction = replace(prediction, targets=tags, track_scores=scores, decided=scores > 1)
    assert [tag for tag, _, _ in prediction.top(100)] == [*tags[1::2], *tags[::2]]


def test_the_json_of_a_prediction_is_json():
    prediction = make_prediction(artist=None)
    values = json.loads(json.dumps(prediction.to_json(2, timeline=True), allow_nan=False))
    described = [values[name] for name in ("file", "title", "artist", "duration_s", "kind", "scale")]
    assert described == ["songs/toy.mp3", "Blue & Green <live>", None, 61.5, "tags", None]
    assert values["targets"] == [
        {"name": "green", "score": 0.75, "decided": True, "threshold": 0.5, "reliability": "fair"},
        {"name": "red", "score": float(np.float32(0.45)), "decided": True, "threshold": 0.4, "reliability": "good"},
    ]
    timeline = values["timeline"]
    assert timeline["times_s"] == prediction.times_s.tolist()
    assert timeline["scores"] == dict(zip(("red", "green"), prediction.frame_scores.T.tolist(), strict=False))
    assert prediction.to_json(2)["timeline"] is None
    assert len(prediction.to_json()["targets"]) == 3


def test_classes_as_json_tell_the_one_that_is_chosen_and_values_have_their_scale_and_no_decisions():
    classes, values = make_class_prediction().to_json(2), make_value_prediction().to_json(timeline=True)
    names = ("name", "score", "decided", "threshold", "reliability")
    assert [tuple(map(target.get, names)) for target in classes["targets"] + values["targets"]] == [
        ("Q3", pytest.approx(0.6), True, None, "good"),
        ("Q4", pytest.approx(0.2), False, None, "unknown"),
        ("valence", 3.0, None, None, "weak"),
        ("arousal", 7.0, None, None, "good"),
    ]
    assert (classes["kind"], classes["scale"], values["kind"], values["scale"]) == ("classes", None, "values", [1, 9])
    assert values["timeline"]["scores"] == {"valence": [2.0, 4.0], "arousal": [6.0, 8.0]}
    assert (make_class_prediction().share(0.25), make_value_prediction().share(5.0)) == (0.25, 0.5)  # of its scale


def test_a_document_has_the_songs_what_failed_and_a_version():
    document = to_document([make_prediction(), make_class_prediction()], [("b.mp3", "too short")], 1, timeline=True)
    assert (document["schema"], document["errors"]) == (1, [{"file": "b.mp3", "error": "too short"}])
    assert [len(result["targets"]) for result in document["results"]] == [1, 1]
    assert document["results"][0].keys() == document["results"][1].keys()
    assert all(len(result["timeline"]["scores"]) == 1 for result in document["results"])
    ranked = replace(make_prediction(), thresholds=(None, None, None)).to_json()["targets"]
    assert {(target["decided"], target["threshold"]) for target in ranked} == {(None, None)}


@pytest.mark.usefixtures("no_pyplot")
def test_a_song_is_drawn_as_on_the_page():
    thresholds = (0.4, 0.5, None)
    figure = plot_song(replace(make_prediction(), thresholds=thresholds, place=Place(-0.4, 0.6)))
    assert [text.get_text() for text in figure.texts] == [
        "Blue & Green <live>",
        "The Toys · 1:02 · toy.mp3",
        "Green, red",
    ]
    axes, place, course = figure.axes
    assert labels(axes.yaxis) == ["green", "red", "blue (weak)"]
    assert axes.get_ylim() == (2.5, -0.5)  # the highest on top
    drawn = [(pytest.approx(bar.get_width()), colors.to_hex(bar.get_facecolor())) for bar in axes.patches]
    assert drawn[:3] == [(1.0, plaintext.RAISED)] * 3
    assert drawn[3:] == [(0.75, plaintext.ACCENT), (0.45, plaintext.ACCENT), (0.3, plaintext.PALE)]
    assert [text.get_text() for text in axes.texts] == ["0.75 ★", "0.45 ★", "0.30"]
    ticks = [line.get_xdata()[0] for line in axes.lines if line.get_color() == plaintext.WARM]
    assert ticks == [0.5, 0.4]
    assert place.lines[-1].get_xydata().tolist() == [[-0.4, 0.6]]
    assert "Tick: the tag's threshold" in course.get_xlabel()
    assert figure._repr_png_().startswith(b"\x89PNG")  # a notebook shows it by itself


@pytest.mark.usefixtures("no_pyplot")
def test_a_track_without_a_title_is_drawn_too_and_one_in_dollars_is_no_formula(tmp_path):
    for title, shown in ((None, "toy.mp3"), ("Cash $^_{$", "Cash $^_{$")):
        figure = plot_song(make_prediction(title, None))
        figure.savefig(tmp_path / "song.png")
        assert figure.texts[0].get_text() == shown
    fewer = plot_song(make_value_prediction(), 1)
    fewer.savefig(tmp_path / "song.png")
    assert labels(fewer.axes[0].yaxis) == ["valence (weak)"]


@pytest.mark.usefixtures("no_pyplot")
def test_the_timeline_is_a_heat_map_of_the_highest_tags():
    shown = make_prediction()
    course = plot_song(shown, 2).axes[-1]
    (image,) = course.get_images()
    np.testing.assert_array_equal(image.get_array(), shown.frame_scores[:, [1, 0]].T)
    assert labels(course.yaxis) == ["green", "red"]
    assert labels(course.xaxis) == ["0:00", "0:15", "0:31", "0:46", "1:02"]
    assert image.get_clim() == (0, pytest.approx(0.9))  # the highest there is: differences show


def test_pictures_have_the_page_s_colours():
    style = (resources.files("jamendo_mood.app") / "static" / "style.css").read_text()
    light = style[: style.index("@supports")]
    names = ("text", "soft", "line", "raised", "pale", "accent", "warm")
    assert [f"--jm-{name}: {getattr(plaintext, name.upper())};" in light for name in names] == [True] * len(names)


SONG_S, FRAMES = 240.0, 240


def song(targets, frames, thresholds=(), **other):
    """A made-up song of four minutes, a frame a second: scores by target, each a number or (from, to) -> number."""
    scores = np.zeros((FRAMES, len(targets)), np.float32)
    for column, course in enumerate(frames):
        for (start, end), score in course.items() if isinstance(course, dict) else [((0, FRAMES), course)]:
            scores[start:end, column] = score
    whole = scores.mean(axis=0)
    limits = np.array([np.inf if limit is None else limit for limit in thresholds or [np.inf] * len(targets)])
    made = Prediction(
        *("song.mp3", None, None, SONG_S, tuple(targets), whole, whole >= limits),
        grades=("good",) * len(targets),
        times_s=np.arange(FRAMES, dtype=np.float32),
        frame_scores=scores,
        thresholds=tuple(thresholds),
    )
    return replace(made, **other)


@pytest.mark.parametrize(
    ("frames", "line"),
    [
        ((0.9, 0.1, 0.1), "Energetic"),
        ((0.6, 0.1, 0.9), "Happy, energetic"),
        ((0.9, {(156, 240): 0.6}, 0.1), "Energetic, a bit dark from 2:36"),
        ((0.9, {(0, 90): 0.6}, 0.1), "Energetic, a bit dark until 1:30"),
        ((0.9, {(60, 100): 0.6, (200, 210): 0.6}, 0.1), "Energetic, a bit dark from 1:00 to 1:40"),
        ((0.9, {(60, 80): 0.6}, 0.1), "Energetic"),  # 20 s of four minutes are not worth a word
        ((0.1, {(156, 240): 0.6}, 0.1), "A bit dark from 2:36; no tag reaches its threshold over the whole song"),
        ((0.1, 0.3, 0.2), "No tag reaches its threshold; the nearest is dark"),
    ],
)
def test_a_mood_is_said_by_what_reached_its_threshold_and_when(frames, line):
    assert describe_mood(song(("energetic", "dark", "happy"), frames, (0.5, 0.5, 0.5))) == line


def test_a_mood_names_three_tags_at_most_and_marks_those_that_are_weak():
    many = song(("a", "b", "c", "d"), (0.9, 0.8, 0.7, 0.6), (0.5,) * 4, grades=("good", "weak", "good", "good"))
    assert describe_mood(many) == "A, b (weak), c"
    never = song(("a", "b"), (0.9, 0.8), (0.5, None))  # has no threshold: never decided
    assert describe_mood(never) == "A"
    quiet = song(("a", "b"), (0.1, 0.1), (0.5, 0.5), place=Place(-0.4, 0.6))
    assert describe_mood(quiet) == f"No tag reaches its threshold; the nearest is {mood_words(-0.4, 0.6)}"


FIRST, LAST = (0, 120), (120, 240)


@pytest.mark.parametrize(
    ("frames", "line"),
    [
        ((0.9, 0.8, 0.7, 0.1, 0.1, 0.1), "a, b, c"),
        (
            (*({FIRST: s} for s in (0.9, 0.8, 0.7)), *({LAST: s} for s in (0.6, 0.7, 0.9))),
            "a, b, c; from 2:00 on f, e, d",
        ),
        ((0.9, {FIRST: 0.8}, {FIRST: 0.7}, {LAST: 0.8}, {LAST: 0.7}, 0), "a, b, d"),
    ],
)
def test_a_tagger_that_ranks_says_what_is_highest_and_when_all_of_it_changes(frames, line):
    assert describe_mood(song("abcdef", frames, (None,) * 6)) == f"Ranked highest, none decided: {line}"


def test_classes_and_values_say_what_they_are_and_where_they_change():
    values = {"kind": "values", "scale": (1, 9)}
    change = ({(0, 80): 8.0, (80, 240): 2.0}, 5.0)
    for prediction, line in (
        (make_class_prediction(), "Q3"),
        (song(("north", "south"), (0.8, 0.2), kind="classes"), "North"),
        (song(("north", "south"), ({(0, 60): 1.0}, {(60, 240): 1.0}), kind="classes"), "North; from 1:00 on south"),
        (song(("tension", "energy"), (3.0, 5.0), **values), "Tension 3.0, energy 5.0"),
        (song(("valence", "arousal"), (3.4, 7.4), place=Place(-0.4, 0.6), **values), "Tense and energetic"),
        (song(("arousal", "valence"), change, place=Place(0.0, -0.25), **values), "Energetic; from 1:20 on calm"),
    ):
        assert describe_mood(prediction) == line
