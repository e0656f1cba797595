"""Metrics, calibration and thresholds of any labels and scores: those of scikit-learn and scipy, and in their range."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from scipy import stats
from sklearn import metrics as theirs
from trying import tries

from jamendo_mood.tasks import KINDS, classes, kind, metrics, tags, values
from jamendo_mood.tasks.kind import MIN_SLOPE, apply_platt, fit_platt
from jamendo_mood.tasks.tags import reaches_threshold
from jamendo_mood.util.errors import DataError

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
FREE = frozenset({"Brier-skill-macro", "log-likelihood", "R2", "RMSE", "CCC", "Pearson"})  # not shares from 0 to 1

few = st.integers(0, 3).map(lambda thirds: thirds / 3)
edges = st.sampled_from((0.0, 1.0, 0.5, 1e-45, 1e-30, 1e-6, 1 - 2**-24, 0.1))
numbers = st.one_of(few, edges, st.floats(0, 1, width=32))
measured = st.one_of(st.integers(-3, 9), st.just(0.1), st.floats(-10, 10, width=32))


@st.composite
def tagged(draw):
    """Truth, scores and decisions (n, k): ties everywhere, tags that all have or none, best and worst scores."""
    shape = draw(st.tuples(st.integers(1, 4) | st.integers(6, 25), st.integers(1, 5)))
    truth = draw(nst.arrays(bool, shape, fill=st.nothing()))
    scores = draw(nst.arrays(np.float32, shape, elements=draw(st.sampled_from([few, numbers])), fill=st.nothing()))
    for column in draw(st.sets(st.integers(0, shape[1] - 1), max_size=2)):
        what = draw(st.sampled_from(["all", "none", "equal", "perfect", "wrong"]))
        if what in ("all", "none"):
            truth[:, column] = what == "all"
        elif what == "equal":
            scores[:, column] = scores[0, column]
        else:
            low, high = draw(st.sampled_from([(0.0, 1.0), (0.5, 0.5000001), (1e-6, 2e-6), (0.2, 0.8)]))
            scores[:, column] = np.where(truth[:, column] == (what == "perfect"), high, low)
    return truth, scores, scores >= draw(st.sampled_from([0.3, 0.5, 2.0]))


@st.composite
def valued(draw):
    """Truth and predictions float32 (n, k), some columns of them constant."""
    shape = draw(st.tuples(st.integers(2, 25), st.integers(1, 3)))
    pair = [draw(nst.arrays(np.float32, shape, elements=measured)) for _ in range(2)]
    for table in pair:
        for column in draw(st.sets(st.integers(0, shape[1] - 1), max_size=2)):
            table[:, column] = table[0, column]
    return pair


FIGURES = [
    (
        "Figures of any tags, classes and values: ties, constants, what none have, against scikit-learn and scipy",
        "{tables:,} tables",
        "{figures:,} figures are theirs, {undefined:,} are not defined and say so, {draws:,} samples of artists are "
        "those of so many copies",
    ),
    (
        "Calibration and thresholds on any labels and scores: ties, constants, no positives, certain scores",
        "{calibrations:,} tables, {tags:,} tags",
        "the order of scores never changed",
    ),
]


def of_scikit_learn(truth, scores, decisions):
    """The headline figures of tags, by scikit-learn and by hand."""
    usable = truth.any(axis=0) & ~truth.all(axis=0)
    some, flat = (truth[:, usable], scores[:, usable]), (truth.ravel(), scores.ravel())
    figures = {
        "PR-AUC-macro": theirs.average_precision_score(*some, average="macro"),
        "ROC-AUC-macro": theirs.roc_auc_score(*some, average="macro"),
        "PR-AUC-micro": theirs.average_precision_score(*flat),
        "ROC-AUC-micro": theirs.roc_auc_score(*flat),
        "prior-macro": truth[:, usable].mean(),
    }
    tagged = truth.any(axis=1)
    for count in (1, 3, 5):
        # Of equal scores the wrong ones come first.
        places = np.lexsort((truth, -scores), axis=1)[:, :count]
        figures[f"hit@{count}"] = np.take_along_axis(truth, places, axis=1).any(axis=1)[tagged].mean()
    per_tag = [
        theirs.precision_recall_fscore_support(true, chosen, average="binary", zero_division=0)[:3]
        for true, chosen in zip(truth.T, decisions.T, strict=True)
    ]
    micro = theirs.precision_recall_fscore_support(truth.ravel(), decisions.ravel(), average="binary", zero_division=0)
    for average, three in (("macro", np.mean(per_tag, axis=0)), ("micro", micro[:3])):
        figures |= {f"{name}-{average}": three[place] for place, name in enumerate(("precision", "recall", "F-score"))}
    return figures


@tries(30, 600)
@given(table=tagged(), seed=st.integers(0, 99))
def test_tags_are_scored_as_scikit_learn_does(tried, table, seed):
    truth, scores, decisions = table
    tried["tables"] += 1
    if not metrics.is_defined(truth).any():
        with pytest.raises(DataError, match="both positives and negatives"):
            tags.score_tags(truth, scores, decisions)
        assert np.isnan([metrics.mean_average_precision(truth, scores), *metrics.roc_auc(truth, scores)]).all()
        tried["undefined"] += 1
        return
    figures = tags.score_tags(truth, scores, decisions)
    expected = of_scikit_learn(truth, scores, decisions)
    assert figures.keys() == expected.keys()
    np.testing.assert_allclose(list(figures.values()), [expected[name] for name in figures], **CLOSE)
    assert all(0 <= figure <= 1 + 1e-9 for figure in figures.values())
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(truth)), rng.permutation(truth.shape[1])
    again = tags.score_tags(*(array[rows][:, columns] for array in table))
    np.testing.assert_allclose(list(again.values()), list(figures.values()), rtol=1e-9)
    tried["figures"] += len(figures)


@tries(25, 500)
@given(table=tagged(), data=st.data())
def test_a_draw_of_artists_is_so_many_copies_of_their_tracks(tried, table, data):
    truth, scores, decisions = table
    artists = [f"artist {data.draw(st.integers(0, 4))}" for _ in truth]
    _, group = np.unique(artists, return_inverse=True)
    of_artist = data.draw(st.lists(st.integers(0, 3), min_size=int(group.max()) + 1, max_size=int(group.max()) + 1))
    weights = np.array([of_artist], np.int64)[:, group]
    assume(weights.sum())
    assume(metrics.is_defined(truth).any())
    with mock.patch.object(metrics, "_sample_artists", return_value=weights):
        samples = metrics.bootstrap_tags(truth, scores, artists, decisions=decisions, rounds=1)
    copied = [np.repeat(array, weights[0], axis=0) for array in table]
    figures = {name: float(values[0]) for name, values in samples.metrics.items()}
    assert not {name for name, figure in figures.items() if not (name in FREE or np.isnan(figure) or 0 <= figure <= 1)}
    if metrics.is_defined(copied[0]).any():
        expected = tags.score_tags(*copied) | kind.score_calibration(*copied[:2])
        exact = [name for name in figures if name != "ECE"]  # the bins of which are those of all tracks
        np.testing.assert_allclose([figures[name] for name in exact], [expected[name] for name in exact], **CLOSE)
    else:
        assert np.isnan([figures["PR-AUC-macro"], figures["ROC-AUC-macro"], figures["Brier-skill-macro"]]).all()
    tried["draws"] += 1


@tries(15, 200)
@given(table=tagged(), data=st.data())
def test_intervals_hold_their_figures_and_stay_in_range(tried, table, data):
    truth, scores, decisions = table
    assume(metrics.is_defined(truth).any())
    artists = [f"artist {data.draw(st.integers(0, 6))}" for _ in truth]
    figures = tags.score_tags(truth, scores, decisions) | kind.score_calibration(truth, scores)
    samples = metrics.bootstrap_tags(truth, scores, artists, decisions=decisions, rounds=40)
    for name, (low, high) in samples.intervals(figures).items():
        assert np.isfinite([low, high]).all(), name
        assert low <= high, name
        assert name in FREE or 0 <= low <= high <= 1, name
    tried["draws"] += 40


@pytest.mark.filterwarnings("ignore::scipy.stats.NearConstantInputWarning")
@tries(30, 600)
@given(pair=valued(), seed=st.integers(0, 99))
def test_values_are_scored_as_scikit_learn_and_scipy_do(tried, pair, seed):
    truth, predictions = pair
    rows = values.value_rows(truth, predictions)
    varies = np.ptp(truth, axis=0) > 0
    tried["tables"] += 1
    tried["undefined"] += int((~varies).sum())
    for name in ("R2", "CCC", "Pearson"):
        assert (np.isfinite(rows[name]) == varies).all(), name
    pairs = zip(truth.T.astype(np.float64), predictions.T, strict=True)
    np.testing.assert_allclose(rows["RMSE"], [theirs.root_mean_squared_error(*both) for both in pairs], rtol=1e-6)
    for column in np.flatnonzero(varies):
        true, guessed = (table[:, column].astype(np.float64) for table in pair)
        assert rows["R2"][column] == pytest.approx(theirs.r2_score(true, guessed), rel=1e-6, abs=1e-6)
        covariance = np.cov(true, guessed, ddof=0)
        spread = covariance.trace() + (true.mean() - guessed.mean()) ** 2
        assert rows["CCC"][column] == pytest.approx(2 * covariance[0, 1] / spread, abs=1e-6)
        correlation = stats.pearsonr(true, guessed).statistic if np.ptp(guessed) else 0.0
        assert rows["Pearson"][column] == pytest.approx(correlation, abs=1e-4)
        tried["figures"] += 4
    order = np.random.default_rng(seed).permutation(len(truth))
    for name, figures in values.value_rows(truth[order], predictions[order]).items():
        np.testing.assert_allclose(figures, rows[name], rtol=1e-6, atol=1e-9, err_msg=name)


@tries(20, 400)
@given(pair=valued(), data=st.data())
def test_the_course_of_each_song_is_scipys_in_whatever_order_songs_come(tried, pair, data):
    truth, predictions = pair
    songs = [str(data.draw(st.integers(0, 3))) for _ in truth]
    taus = values.rank_correlations(truth, predictions, songs)
    assert taus.keys() == set(songs)
    for song, found in taus.items():
        of_song = [song == each for each in songs]
        for column, tau in enumerate(found):
            true, guessed = truth[of_song][:, column], predictions[of_song][:, column]
            expected = stats.kendalltau(true, guessed).statistic if len(set(guessed)) > 1 else 0.0
            assert tau == pytest.approx(expected if len(set(true)) > 1 else np.nan, nan_ok=True)
            tried["figures"] += 1
    order = np.argsort(songs, kind="stable")
    assert values.score_curves(truth, predictions, songs) == pytest.approx(
        values.score_curves(truth[order], predictions[order], [songs[row] for row in order])
    )


@tries(25, 500)
@given(data=st.data(), shape=st.tuples(st.integers(1, 25), st.integers(2, 5)))
def test_classes_are_scored_as_scikit_learn_does(tried, data, shape):
    scores = data.draw(nst.arrays(np.float32, shape, elements=numbers)) + np.float32(1e-3)
    scores /= scores.sum(axis=1, keepdims=True)
    labels = np.array(data.draw(st.lists(st.integers(0, shape[1] - 1), min_size=shape[0], max_size=shape[0])))
    truth, known = np.eye(shape[1], dtype=bool)[labels], range(shape[1])
    chosen = classes.choose_highest(scores)
    assert (chosen.sum(axis=1) == 1).all()
    decided = chosen.argmax(axis=1)
    tried["tables"] += 1
    if not metrics.is_defined(truth).any():
        with pytest.raises(DataError):
            classes.score_classes(truth, scores)
        tried["undefined"] += 1
        return
    figures = classes.score_classes(truth, scores)
    probabilities = scores / scores.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = {
        "accuracy": theirs.accuracy_score(labels, decided),
        "F-score-macro": theirs.f1_score(labels, decided, labels=known, average="macro", zero_division=0),
        "accuracy-prior": np.bincount(labels).max() / len(labels),
        "log-likelihood": -theirs.log_loss(labels, probabilities, labels=known),
    }
    assert figures == pytest.approx(expected, rel=1e-4, abs=1e-6)
    tried["figures"] += len(figures)


@tries(40, 600)
@given(table=tagged(), seed=st.integers(0, 9))
def test_calibrated_scores_rise_with_the_scores_and_stay_in_range(tried, table, seed):
    """And the order of examples and of tags does not matter."""
    truth, scores, _ = table
    params = fit_platt(truth, scores)
    assert np.isfinite(params).all()
    assert (params[:, 0] >= MIN_SLOPE).all()
    finer = np.linspace(0, 1, 501, dtype=np.float32)[:, None]
    everywhere = np.sort(np.concatenate([scores, np.tile(finer, scores.shape[1])]), axis=0)
    calibrated = apply_platt(everywhere, params)
    assert calibrated.dtype == np.float32
    assert 0 <= calibrated.min() <= calibrated.max() <= 1
    assert (np.diff(calibrated, axis=0) >= 0).all()
    assert (calibrated[-1] > calibrated[0]).all()  # a constant would rise nowhere
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(truth)), rng.permutation(truth.shape[1])
    again = fit_platt(truth[rows][:, columns], scores[rows][:, columns])
    np.testing.assert_allclose(again, params[columns], rtol=1e-6, atol=1e-6)
    tried["calibrations"] += 1
    tried["tags"] += scores.shape[1]


@tries(40, 600)
@given(table=tagged(), factor=st.sampled_from([1.0, 1e-6, 1e6]))
def test_a_threshold_has_the_best_f_score_and_decides_upwards(table, factor):
    truth, scores = table[0], table[1] * np.float32(factor)
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
@given(table=tagged())
def test_calibrated_tuned_decided_and_graded_all_is_in_its_range(table):
    truth, scores, _ = table
    rules = KINDS["tags"]
    calibrated = rules.calibrated(scores, rules.calibrate(truth, scores, None))
    assert 0 <= calibrated.min() <= calibrated.max() <= 1
    decided = rules.decide(calibrated, rules.choose_thresholds(truth, calibrated))
    assert (decided.any(axis=0) == truth.any(axis=0)).all()
    assert set(rules.grade(truth, calibrated)) <= set(metrics.GRADES)
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
