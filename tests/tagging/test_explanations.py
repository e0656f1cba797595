import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from toy_examples import COURSES, DIM, NETWORKS, QUADRANTS, SPEC, TASK, VALUES, make_tagger

from jamendo_mood.cli import demo
from jamendo_mood.extraction.streaming import embed_files
from jamendo_mood.tagging.analysis import Explanation, explain
from jamendo_mood.tasks.kind import log_odds
from jamendo_mood.training.data import POOLINGS
from jamendo_mood.training.heads import HeadConfig

pytest_plugins = ["demo_corpus"]


def make_frames(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)


def stretches_of(found):
    """First row, and row after the last, of each stretch."""
    borders = np.round(np.append(found.starts_s, found.ends_s[-1]) / SPEC.hop_s).astype(int)
    return itertools.pairwise(borders.tolist())


@pytest.fixture(scope="module")
def linear():
    return make_tagger(TASK, config=HeadConfig("linear"))


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        pytest.param(name, pooling, marks=() if pooling == "frames" and name != "gru" else pytest.mark.thorough)
        for name in NETWORKS
        if name != "cnn"  # whose frames are patches
        for pooling in POOLINGS
    ],
)
def test_a_weight_is_the_fall_of_the_log_odds_without_the_stretch(name, pooling):
    tagger = make_tagger(TASK, config=HeadConfig(name, pooling, hidden=8, layers=1))
    frames = make_frames(77)
    found = explain(tagger, frames, stretches=5)
    assert found.weights.shape == (5, 3)
    assert found.weights.dtype == np.float32
    whole = log_odds(tagger.score_track(frames))
    for row, (start, end) in enumerate(stretches_of(found)):
        without = log_odds(tagger.score_track(np.delete(frames, np.s_[start:end], axis=0)))
        np.testing.assert_allclose(found.weights[row], whole - without, rtol=0, atol=1e-4)
    assert np.abs(found.weights).max() > 0.01


@pytest.mark.parametrize("task", [QUADRANTS, VALUES], ids=["classes", "values"])
def test_of_classes_too_it_is_the_log_odds_and_of_values_the_value(task):
    tagger, frames = make_tagger(task), make_frames(77)
    found = explain(tagger, frames, stretches=5)
    weigh = np.asarray if task.scale else log_odds
    start, end = next(stretches_of(found))
    without = tagger.score_track(np.delete(frames, np.s_[start:end], axis=0))
    np.testing.assert_allclose(found.weights[0], weigh(tagger.score_track(frames)) - weigh(without), atol=1e-4)
    assert np.abs(found.weights).max() > 0.01


def test_where_moments_are_scored_by_themselves_those_of_the_stretch_are_left_out_of_the_mean():
    tagger, frames = make_tagger(COURSES), make_frames(2_000)  # of which none is left out for being many
    found = explain(tagger, frames, stretches=7)
    scores = tagger.score_frames(frames)
    assert found.ends_s[-1] == pytest.approx(2_000 * SPEC.hop_s)
    for row, (start, end) in enumerate(stretches_of(found)):
        without = np.delete(scores, np.s_[start:end], axis=0).mean(axis=0)
        np.testing.assert_allclose(found.weights[row], scores.mean(axis=0) - without, atol=1e-5)
    assert np.abs(found.weights).max() > 1e-3


@pytest.mark.parametrize(("frames", "stretches", "count"), [(20, 40, 2), (45, 40, 4), (400, 40, 40), (999, 7, 7)])
def test_stretches_are_the_whole_track_and_have_10_frames_or_more(linear, frames, stretches, count):
    found = explain(linear, make_frames(frames), stretches=stretches)
    assert len(found.starts_s) == len(found.ends_s) == len(found.weights) == count
    assert found.starts_s[0] == 0
    assert found.ends_s[-1] == pytest.approx(frames * SPEC.hop_s)
    np.testing.assert_array_equal(found.starts_s[1:], found.ends_s[:-1])
    assert (found.ends_s - found.starts_s).min() >= 10 * SPEC.hop_s - 1e-3


def test_of_a_long_track_evenly_spread_frames_tell_where(linear):
    """One tag's evidence lies in one stretch of two hours."""
    frames = np.zeros((7_500, DIM), np.float32)
    column = np.argmax(np.abs(linear.weights[0][-2][:, 0]))
    frames[3_000:3_375, column] = 5 * np.sign(linear.weights[0][-2][column, 0])
    found = explain(linear, frames)
    ((start_s, end_s, weight),) = found.carried(0)
    assert (start_s, end_s) == (pytest.approx(3_000 * SPEC.hop_s), pytest.approx(3_375 * SPEC.hop_s))
    assert weight > 0


@pytest.mark.thorough
def test_two_hours_are_explained_in_seconds():
    tagger = make_tagger(TASK, config=HeadConfig())
    started = time.process_time()
    explain(tagger, make_frames(7_500))
    assert time.process_time() - started < 20  # takes 3


def test_the_stretches_that_carried_a_tag_are_merged_and_the_heaviest_comes_first():
    borders = np.arange(7, dtype=np.float32)
    weights = np.array([[0.1], [0.4], [0.5], [-0.2], [0.0], [0.7]], np.float32)
    found = Explanation(borders[:-1], borders[1:], weights)
    assert found.carried(0, 1) == [(5.0, 6.0, pytest.approx(0.7))]
    assert found.carried(0) == [(1.0, 3.0, pytest.approx(0.9)), (5.0, 6.0, pytest.approx(0.7))]
    assert found.carried(0, 10) == [(0.0, 3.0, pytest.approx(1.0)), (5.0, 6.0, pytest.approx(0.7))]
    assert found.carried(0, 0) == []
    assert replace(found, weights=-np.abs(weights)).carried(0) == []


def test_a_track_too_short_to_be_cut_has_no_stretches(linear):
    for frames in (0, 1, 19):
        found = explain(linear, make_frames(frames))
        assert len(found.starts_s) == len(found.ends_s) == 0
        assert found.weights.shape == (0, 3)
        assert found.carried(0) == []


def test_the_happy_seconds_of_a_song_carry_happy(corpus_tagger, logmel, make_audio, tmp_path):
    """Sad, happy, sad: four songs each."""

    def render(mood, number):
        return demo.render(demo.Song(number, 0, "test", (mood,), (99, number)))

    moods = ["sad"] * 4 + ["happy"] * 4 + ["sad"] * 4
    wave = np.concatenate([render(mood, number) for number, mood in enumerate(moods)]).astype(np.float32)
    path = make_audio(tmp_path / "spliced.mp3", wave, rate_hz=demo.RATE_HZ)
    (result,) = embed_files({"spliced": path}, logmel)
    found = explain(corpus_tagger, result.frames)
    happy, sad = (corpus_tagger.task.targets.index(mood) for mood in ("happy", "sad"))
    starts_in, ends_in = (np.abs(times_s - 72) <= 24 for times_s in (found.starts_s, found.ends_s))
    inside, outside = starts_in & ends_in, ~starts_in & ~ends_in
    assert inside.sum() >= 3
    assert outside.sum() >= 7
    assert found.weights[inside, happy].min() > max(0, found.weights[outside, happy].max())
    assert found.weights[inside, sad].max() < min(0, found.weights[outside, sad].min())
    start_s, end_s, _ = found.carried(happy)[0]
    assert 47 <= start_s < end_s <= 97
