"""The model card: what a tagger is, how good it is, and what it must not be used for, in words.

References
----------
Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jamendo_mood.util.plaintext import markdown

GRADES = {
    "good": "what it ranks highest is often right",
    "fair": "clearly better than guessing",
    "weak": "hardly better than guessing",
    "unknown": "too few examples to say",
}
"""Of tags and classes, and what they mean."""

VALUE_GRADES = {
    "good": "concordance (CCC) of 0.6 or more: near the truth",
    "fair": "concordance of 0.4 or more: the tendency is right",
    "weak": "concordance below 0.4: hardly better than naming the mean",
    "unknown": "too few examples, or all rated alike, to say",
}


@dataclass(frozen=True)
class Words:
    """How a card speaks of taggers of one kind of task.

    Attributes
    ----------
    title, plural : str
        What such a tagger is called, and its targets.
    says : str
        What its scores are.
    chosen, validated : str
        What was chosen on the validation part, and what was done on it, in short.
    figures : dict of str
        The figures a card shows, and what they are.
    grades : dict of str
    counted : str
        What the number in brackets behind a target is; empty where there is none.
    """

    title: str
    plural: str
    says: str
    chosen: str
    validated: str
    figures: Mapping[str, str]
    grades: Mapping[str, str]
    counted: str = ""


WORDS = {
    "tags": Words(
        title="Mood tagger",
        plural="tags",
        says="Scores are calibrated on the validation part.",
        chosen="Epochs, calibration and thresholds were",
        validated="calibrated on",
        figures={
            "PR-AUC-macro": "average precision, mean over the tags",
            "prior-macro": "what guessing would reach",
            "ROC-AUC-macro": "0.5 is guessing, mean over the tags",
            "F-score-macro": "of the decisions by thresholds, mean over the tags",
            "ECE": "how far scores above 0.1 are from the share that is right; lower is better",
        },
        grades=GRADES,
        counted="In brackets: how many training tracks have the tag.",
    ),
    "classes": Words(
        title="Mood classifier",
        plural="classes",
        says="It names the one class with the highest probability.",
        chosen="Epochs were",
        validated="its best epoch chosen on",
        figures={
            "accuracy": "share of tracks whose class is named right",
            "accuracy-prior": "what always naming the most frequent class would reach",
            "F-score-macro": "precision and recall in one, mean over the classes",
            "log-likelihood": "mean logarithm of the right class's probability; 0 is perfect",
            "ECE": "how far probabilities above 0.1 are from the share that is right; lower is better",
        },
        grades=GRADES,
        counted="In brackets: how many training tracks are of the class.",
    ),
    "values": Words(
        title="Predictor of values",
        plural="values",
        says="Predictions are kept to the scale.",
        chosen="Epochs were",
        validated="its best epoch chosen on",
        figures={
            "CCC": "concordance with the truth, mean over the values; 1 is perfect, 0 tells nothing",
            "Pearson": "correlation with the truth, mean over the values",
            "R2": "share of the variance that is explained; 0 is naming the mean every time",
            "RMSE": "root of the mean squared error, in units of the scale; lower is better",
            "Kendall": "how well the course of a song is followed, mean over songs; 0 is guessing",
        },
        grades=VALUE_GRADES,
    ),
}
"""By the kind of task."""

USES = """\
Meant for: finding and sorting music by mood, as a hint among others; research on music tagging.

It must not be used

- to conclude anything about a person: what they feel, their health, their character, who they are;
- to decide alone what is published, paid, removed or shown to children;
- as truth about music: tags are opinions of those who wrote them, mostly about Western popular and production music;
- beyond the licence of the data it learned from, given above.
"""


def describe(tagger: Mapping[str, Any]) -> str:
    """Write the model card of a tagger, Markdown, from what is in its ``tagger.json``."""
    task, record = tagger["task"], tagger["record"]
    words = WORDS[task["kind"]]
    tested = record.get("tested")
    parts = [("validation part", tagger["scores"], tagger["intervals"])]
    if tested:
        parts.append((tested["part"], tested["figures"], tested["intervals"]))
    sections = [
        f"# {words.title}: {markdown(task['name'])}",
        f"{_what(tagger)}\n\n{_origin(record, words)}",
        f"## How good it is\n\n{_scores(parts, words)}",
        f"## Its {words.plural}\n\n{_targets(task['targets'], tagger['grades'], record, words)}",
        f"## What it is for\n\n{USES}",
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _what(tagger: Mapping[str, Any]) -> str:
    head, spec, task = tagger["head"], tagger["embedder"], tagger["task"]
    words = WORDS[task["kind"]]
    members = len(tagger["record"].get("best_epochs", [])) or 1
    heads = f"One `{head['name']}` head" if members == 1 else f"The mean of {members} `{head['name']}` heads"
    step = "a track" if spec["hop_s"] is None else f"every {spec['hop_s']:g} s"
    return (
        f"{heads} for {describe_targets(task)}, on {head['pooling']} of `{markdown(spec['name'])}` "
        f"embeddings ({spec['dim']} numbers {step}). {words.says} "
        f"Made with jamendo-mood {markdown(str(tagger['record'].get('version', '')))}."
    )


def describe_targets(task: Mapping[str, Any]) -> str:
    """How many targets a task has: ``3 tags``; of values their scale too, and how often they were rated."""
    low_high, rate_hz = task.get("scale"), task.get("rate_hz")
    scale = f" on a scale from {low_high[0]:g} to {low_high[1]:g}" if low_high else ""
    rate = f", each moment by itself (learned from {rate_hz:g} ratings a second)" if rate_hz else ""
    return f"{len(task['targets'])} {WORDS[task['kind']].plural}{scale}{rate}"


def _origin(record: Mapping[str, Any], words: Words) -> str:
    lines = []
    if tracks := record.get("tracks"):
        lines.append(f"- Learned from {tracks['train']} tracks, {words.validated} {tracks['validation']} others")
    for name, key in (("Data", "citation"), ("Licence of the data", "licence")):
        if record.get(key):
            lines.append(f"- {name}: {markdown(str(record[key]))}")
    return "\n".join(lines)


def _scores(parts: Sequence[tuple[str, Mapping[str, float], Mapping[str, Sequence[float]]]], words: Words) -> str:
    rows = [["figure", *(markdown(name) for name, _, _ in parts), "meaning"]]
    rows.append(["---"] * len(rows[0]))
    for name, meaning in words.figures.items():
        if not any(name in figures for _, figures, _ in parts):
            continue
        cells = [_cell(figures.get(name), intervals.get(name)) for _, figures, intervals in parts]
        rows.append([name, *cells, meaning])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{table}\n\nIn brackets: 95 % intervals by a bootstrap over artists. {words.chosen} "
        "chosen on the validation part, so its figures are on the kind side."
    )


def _cell(figure: float | None, interval: Sequence[float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def _targets(targets: Sequence[str], grades: Sequence[str], record: Mapping[str, Any], words: Words) -> str:
    positives = record.get("positives", {})
    lines = []
    for grade, meaning in words.grades.items():
        graded = [target for target, given in zip(targets, grades, strict=True) if given == grade]
        named = [
            f"{markdown(target)} ({positives[target]:d})" if target in positives else markdown(target)
            for target in graded
        ]
        if named:
            lines.append(f"- **{grade}** ({meaning}): {', '.join(named)}")
    graded_on = markdown(record.get("graded_on", "the validation part"))
    return "\n".join([*lines, "", f"Graded on {graded_on}. {words.counted}".strip()])
