"""Calibration and thresholds on any labels and any scores: nothing turns round, nothing leaves its range."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from trying import tries

from jamendo_mood.tasks import KINDS, kind, tags
from jamendo_mood.tasks.calibration import MIN_SLOPE, apply_platt, fit_platt
from jamendo_mood.tasks.tags import reaches_threshold

EDGES = (0.0, 1.0, 0.5, 1e-45, 1e-30, 1e-6, 1 - 2**-24, 0.1)
FINER = np.linspace(0, 1, 501, dtype=np.float32)

scores_of_any_kind = st.one_of(
    st.sampled_from(EDGES), st.floats(0, 1, width=32), st.integers(0, 4).map(lambda quarters: quarters / 4)
)


@st.composite
def scored(draw):
    """Truth bool (n, k) and scores float32 (n, k), range [0, 1]: ties, constants, columns of one kind only."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 5)))
    truth = draw(nst.arrays(bool, shape))
    scores = draw(nst.arrays(np.float32, shape, elements=scores_of_any_kind))
    for column in range(shape[1]):
        what = draw(st.sampled_from(["as it is"] * 4 + ["all", "none", "equal", "perfect", "wrong"]))
        if what in ("all", "none"):
            truth[:, column] = what == "all"
        elif what == "equal":
            scores[:, column] = scores[0, column]
        elif what in ("perfect", "wrong"):
            low, high = draw(st.sampled_from([(0.0, 1.0), (0.5, 0.5000001), (1e-6, 2e-6), (0.2, 0.8)]))
            scores[:, column] = np.where(truth[:, column] == (what == "perfect"), high, low)
    return truth, scores


@pytest.fixture(scope="module")
def tried(figure):
    counts = Counter()
    yield counts
    figure(
        "Calibration and thresholds on any labels and scores: ties, constants, no positives, certain scores",
        f"{counts['tables']:,} tables, {counts['tags']:,} tags",
        f"slopes from {counts['least slope'] / 1e6:.2g} to {counts['greatest slope'] / 1e6:.2g}; the order of scores "
        f"never changed, {counts['lowest'] / 1e6:.2g} to {counts['highest'] / 1e6:.2g} is where they fell",
    )


@tries(40, 600)
@given(table=scored())
def test_calibrated_scores_rise_with_the_scores_and_stay_in_range(tried, table):
    truth, scores = table
    params = fit_platt(truth, scores)
    assert np.isfinite(params).all()
    assert (params[:, 0] >= MIN_SLOPE).all()
    everywhere = np.sort(np.concatenate([scores, np.tile(FINER[:, None], scores.shape[1])]), axis=0)
    calibrated = apply_platt(everywhere, params)
    assert calibrated.dtype == np.float32
    assert np.isfinite(calibrated).all()
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1
    assert (np.diff(calibrated, axis=0) >= 0).all()
    assert (calibrated[-1] > calibrated[0]).all()  # a constant would rise nowhere
    slopes = (params[:, 0] * 1e6).astype(int).tolist()
    tried["least slope"] = min(tried["least slope"] or slopes[0], *slopes)
    tried["greatest slope"] = max(tried["greatest slope"], *slopes)
    tried["lowest"] = min(tried["lowest"] or 10**6, int(calibrated.min() * 1e6))
    tried["highest"] = max(tried["highest"], int(calibrated.max() * 1e6))
    tried["tables"] += 1
    tried["tags"] += scores.shape[1]


@tries(25, 400)
@given(table=scored(), seed=st.integers(0, 9))
def test_the_order_of_examples_and_of_tags_does_not_matter(table, seed):
    truth, scores = table
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(truth)), rng.permutation(truth.shape[1])
    params = fit_platt(truth, scores)
    again = fit_platt(truth[rows][:, columns], scores[rows][:, columns])
    np.testing.assert_allclose(again, params[columns], rtol=1e-6, atol=1e-6)


@tries(40, 600)
@given(table=scored(), factor=st.sampled_from([1.0, 1e-6, 1e6]))
def test_a_threshold_has_the_best_f_score_and_decides_upwards(table, factor):
    truth, scores = table
    scores = scores * np.float32(factor)
    thresholds = tags.best_thresholds(truth, scores)
    decided = reaches_threshold(scores, thresholds)
    assert not np.isnan(thresholds).any()
    for tag in range(truth.shape[1]):
        column, true, chosen = scores[:, tag], truth[:, tag], decided[:, tag]
        assert np.isfinite(thresholds[tag]) == true.any() == chosen.any()
        if true.any():
            assert column[chosen].min() > column[~chosen].max(initial=-np.inf)
            attempts = (column >= np.unique(column)[:, None]).astype(int)
            best = (2 * (attempts & true).sum(axis=1) / (attempts.sum(axis=1) + true.sum())).max()
            assert 2 * (chosen & true).sum() / (chosen.sum() + true.sum()) == pytest.approx(best)


@tries(25, 400)
@given(table=scored())
def test_calibrated_tuned_decided_and_graded_all_is_in_its_range(table):
    truth, scores = table
    rules = KINDS["tags"]
    calibrated = rules.calibrated(scores, rules.calibrate(truth, scores, None))
    assert 0 <= calibrated.min() <= calibrated.max() <= 1
    decided = rules.decide(calibrated, rules.choose_thresholds(truth, calibrated))
    assert (decided.any(axis=0) == truth.any(axis=0)).all()
    assert set(rules.grade(truth, calibrated)) <= set(kind.GRADES)
    figures = rules.check_calibration(truth, calibrated)
    assert 0 <= figures.get("ECE", 0) <= 1
    assert figures.get("Brier-skill-macro", 0) <= 1


@tries(25, 400)
@given(
    values=nst.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(2)), elements=st.floats(width=32)),
    scale=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (1.0, 9.0)]),
)
def test_values_are_kept_to_their_scale_whatever_they_are(values, scale):
    rules = KINDS["values"]
    kept = rules.calibrated(values, rules.calibrate(values, values, scale))
    assert kept.dtype == np.float32
    numbers = ~np.isnan(values)
    assert (np.isnan(kept) == ~numbers).all()  # no number is made of none
    assert ((kept[numbers] >= scale[0]) & (kept[numbers] <= scale[1])).all()
