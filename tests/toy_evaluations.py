"""Evaluations made by hand, for tests of figures and pages."""

import numpy as np

from jamendo_mood import metrics
from jamendo_mood.evaluation import Evaluation, score_predictions

NO_POSITIVES, NEVER_GIVEN = 2, 1


def make_evaluation(count, *, rows=200, seed=0, names=None, intervals=True):
    """Tags of falling frequency, told apart more or less well; of three or more, one is true of no example.

    One tag, where there are several, is never given: its threshold is infinite, as one that could not be tuned.
    """
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1, 1.5, (rows, count)) - np.linspace(0, 1, count)
    truth = rng.random((rows, count)) < 1 / (1 + np.exp(-odds))
    if count > NO_POSITIVES:
        truth[:, NO_POSITIVES] = False
    predictions = (1 / (1 + np.exp(-odds - rng.normal(0, rng.uniform(0.2, 3, count), odds.shape)))).astype(np.float32)
    thresholds = np.full(count, 0.4)
    if count > NEVER_GIVEN:
        thresholds[NEVER_GIVEN] = np.inf
    decisions = predictions >= thresholds
    tags = tuple(names or (f"tag {number}" for number in range(count)))
    scores = score_predictions(truth, predictions, tags, decisions=decisions, thresholds=thresholds)
    grades = metrics.grade_tags(truth, predictions)
    per_tag = [
        {**row, "grade": grade, "artists": row["positives"]} for row, grade in zip(scores.per_tag, grades, strict=True)
    ]
    if intervals:
        per_tag = [{**row, **make_interval(row["PR-AUC"])} for row in per_tag]
    figures = {**scores.figures, **metrics.score_calibration(truth, predictions)}
    ends = {"PR-AUC-macro": (0.25, 0.75)} if intervals else {}
    arrays = {"truth": truth, "predictions": predictions, "decisions": decisions}
    return Evaluation(figures, tuple(per_tag), rows, ends, **arrays)


def make_interval(figure):
    low, high = (None, None) if figure is None else (0.8 * figure, 0.1 + 0.9 * figure)
    return {"PR-AUC-low": low, "PR-AUC-high": high}
