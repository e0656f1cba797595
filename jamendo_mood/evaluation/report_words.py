"""What the figures and the columns of an evaluation are, in a sentence each, by the kind of task."""

from __future__ import annotations

from jamendo_mood.tasks.metrics import HIT_COUNTS

EXPLANATIONS: dict[str, dict[str, str]] = {
    "tags": {
        "PR-AUC-macro": "Are a tag's tracks ranked above all others? Average precision, the mean over tags, rare or "
        "frequent. 1 is perfect; guessing reaches prior-macro.",
        "ROC-AUC-macro": "The chance that a track with a tag scores above one without it, the mean over tags. "
        "1 is perfect, 0.5 is guessing.",
        "PR-AUC-micro": "Average precision of all pairs of track and tag in one list: frequent tags weigh most.",
        "ROC-AUC-micro": "The chance that a right pair of track and tag scores above a wrong one.",
        "prior-macro": "The share of tracks that have a tag, the mean over tags: the PR-AUC-macro of guessing.",
        **{
            f"hit@{count}": f"Of the tracks that have a tag, the share with a right one among the {count} highest."
            if count > 1
            else "Of the tracks that have a tag, the share whose highest tag is right."
            for count in HIT_COUNTS
        },
        "precision-macro": "Of the tracks that are given a tag, the share that has it; the mean over tags.",
        "recall-macro": "Of the tracks that have a tag, the share that is given it; the mean over tags.",
        "F-score-macro": "Precision and recall in one, their harmonic mean for each tag; the mean over tags.",
        "precision-micro": "Of all tags that are given, the share that is right.",
        "recall-micro": "Of all tags that are right, the share that is given.",
        "F-score-micro": "The harmonic mean of precision-micro and recall-micro.",
        "ECE": "How far scores above 0.1 are, on average, from the share of them that is right. 0 is perfect, lower is "
        "better.",
        "Brier-skill-macro": "How much closer scores come to the truth, in squared error, than the prior as the score "
        "of every track; the mean over tags. 1 is perfect, 0 is no better than the prior, below 0 is worse.",
    },
    "classes": {
        "accuracy": "The share of tracks whose class is named right. Always naming the most frequent class reaches "
        "accuracy-prior.",
        "F-score-macro": "Precision and recall in one, their harmonic mean for each class; the mean over classes, rare "
        "or frequent. 1 is perfect.",
        "accuracy-prior": "The share of the most frequent class: the accuracy of naming it every time.",
        "log-likelihood": "The mean natural logarithm of the probability that the right class is given. 0 is perfect, "
        "lower is worse: -0.69 is one half, on average, and -1.39 a quarter.",
        "ECE": "How far probabilities above 0.1 are, on average, from the share of them that is right. 0 is perfect, "
        "lower is better.",
        "Brier-skill-macro": "How much closer probabilities come to the truth, in squared error, than the share of "
        "each class for every track; the mean over classes. 1 is perfect, 0 is no better than that, below 0 is worse.",
    },
    "values": {
        "CCC": "Concordance, the mean over the targets: how near points of truth and prediction lie to the line where "
        "both are equal. 1 is perfect, 0 tells nothing; predictions that keep to the middle lower it.",
        "Pearson": "Correlation, the mean over the targets: do predictions rise with the truth, on whatever scale? 1 "
        "is perfect, 0 is none, below 0 the wrong way round.",
        "R2": "The share of the truth's variance that is explained, the mean over the targets. 1 is perfect, 0 is no "
        "better than naming the mean of these examples every time, below 0 is worse.",
        "RMSE": "How far off a prediction is, in the units of the scale: the root of the mean squared error, the mean "
        "over the targets. 0 is perfect, lower is better.",
        "Kendall": "Is the course of a song followed, whatever its level? Take two moments of it: Kendall's tau is how "
        "much oftener both curves order them alike than not; the mean over songs and targets. 1 is perfect, 0 is "
        "guessing, below 0 the wrong way round.",
        "Kendall-sd": "The standard deviation of Kendall's tau over songs and targets: how much songs differ in it.",
        "constant-curves": "Annotated curves that never change, so that there is no course to follow: they are left "
        "out of Kendall. A prediction that never changes counts as 0 there.",
    },
}
"""The headline figures, each in a sentence or two."""

COLUMNS: dict[str, dict[str, str]] = {
    "tags": {
        "tag": "its name",
        "grade": "how far it can be relied on by these tracks, as explained at the top",
        "positives": "tracks that have it",
        "artists": "how many artists these are by",
        "prior": "the share of all tracks that have it: the PR-AUC of guessing",
        "PR-AUC": "average precision, 1 is perfect",
        "PR-AUC-low": "where its 95 % interval begins",
        "PR-AUC-high": "where its 95 % interval ends",
        "ROC-AUC": "the chance that a track with the tag scores above one without it, 0.5 is guessing",
        "precision": "of the tracks that are given it, the share that has it",
        "recall": "of the tracks that have it, the share that is given it",
        "F-score": "the harmonic mean of precision and recall",
        "threshold": "it is given from this score on, which was chosen on the validation part",
        "ECE-all": "how far its scores, all of them, are from the share that is right; lower is better",
        "Brier-skill": "how much better its scores are, in squared error, than its prior for every track; 0 is no "
        "better",
    },
    "classes": {
        "class": "its name",
        "grade": "how far it can be relied on by these tracks, as explained at the top",
        "positives": "tracks that are of it",
        "artists": "how many artists these are by",
        "prior": "the share of all tracks that are of it",
        "decided": "tracks that it is named for",
        "precision": "of the tracks that it is named for, the share that is of it",
        "recall": "of the tracks that are of it, the share that it is named for",
        "F-score": "the harmonic mean of precision and recall",
        "ECE-all": "how far its probabilities, all of them, are from the share that is right; lower is better",
        "Brier-skill": "how much better its probabilities are, in squared error, than its prior for every track; 0 is "
        "no better",
    },
    "values": {
        "value": "what is predicted",
        "grade": "how far it can be relied on by these examples, as explained at the top",
        "CCC": "concordance with the truth: 1 is perfect, 0 tells nothing",
        "Pearson": "correlation with the truth",
        "R2": "share of the truth's variance that is explained, 0 is naming the mean every time",
        "RMSE": "root of the mean squared error, in the units of the scale",
        "mean": "of the truth",
        "sd": "the truth's standard deviation: the RMSE of naming the mean every time",
    },
}
"""The columns of the table of targets, in order, each in a few words."""
