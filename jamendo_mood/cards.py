"""The model card: what a tagger is, how good it is, and what it must not be used for, in words.

References
----------
Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = {
    "PR-AUC-macro": "average precision, mean over the tags",
    "prior-macro": "what guessing would reach",
    "ROC-AUC-macro": "0.5 is guessing, mean over the tags",
    "F-score-macro": "of the decisions by thresholds, mean over the tags",
    "ECE": "how far scores above 0.1 are from the share that is right; lower is better",
}
"""The figures a card shows, and what they are."""

GRADES = {
    "good": "what it ranks highest is often right",
    "fair": "clearly better than guessing",
    "weak": "hardly better than guessing",
    "unknown": "too few examples to say",
}

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
    tested = record.get("tested")
    parts = [("validation part", tagger["scores"], tagger["intervals"])]
    if tested:
        parts.append((tested["part"], tested["figures"], tested["intervals"]))
    sections = [
        f"# Mood tagger: {task['name']}",
        f"{_what(tagger)}\n\n{_origin(record)}",
        f"## How good it is\n\n{_scores(parts)}",
        f"## Its tags\n\n{_tags(task['targets'], tagger['grades'], record)}",
        f"## What it is for\n\n{USES}",
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _what(tagger: Mapping[str, Any]) -> str:
    head, spec = tagger["head"], tagger["embedder"]
    members = len(tagger["record"].get("best_epochs", [])) or 1
    heads = f"One `{head['name']}` head" if members == 1 else f"The mean of {members} `{head['name']}` heads"
    return (
        f"{heads} for {len(tagger['task']['targets'])} tags, on {head['pooling']} of `{spec['name']}` embeddings "
        f"({spec['dim']} numbers every {spec['hop_s']:g} s). Scores are calibrated on the validation part. "
        f"Made with jamendo-mood {tagger['record'].get('version', '')}."
    )


def _origin(record: Mapping[str, Any]) -> str:
    lines = []
    if tracks := record.get("tracks"):
        lines.append(f"- Learned from {tracks['train']} tracks, calibrated on {tracks['validation']} others")
    for name, key in (("Data", "citation"), ("Licence of the data", "licence")):
        if record.get(key):
            lines.append(f"- {name}: {record[key]}")
    return "\n".join(lines)


def _scores(parts: Sequence[tuple[str, Mapping[str, float], Mapping[str, Sequence[float]]]]) -> str:
    rows = [["figure", *(name for name, _, _ in parts), "meaning"]]
    rows.append(["---"] * len(rows[0]))
    for name, meaning in FIGURES.items():
        cells = [_cell(figures.get(name), intervals.get(name)) for _, figures, intervals in parts]
        rows.append([name, *cells, meaning])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{table}\n\nIn brackets: 95 % intervals by a bootstrap over artists. Epochs, calibration and thresholds were "
        "chosen on the validation part, so its figures are on the kind side."
    )


def _cell(figure: float | None, interval: Sequence[float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def _tags(tags: Sequence[str], grades: Sequence[str], record: Mapping[str, Any]) -> str:
    positives = record.get("positives", {})
    lines = []
    for grade, meaning in GRADES.items():
        graded = [tag for tag, given in zip(tags, grades, strict=True) if given == grade]
        named = [f"{tag} ({positives[tag]})" if tag in positives else tag for tag in graded]
        if named:
            lines.append(f"- **{grade}** ({meaning}): {', '.join(named)}")
    graded_on = record.get("graded_on", "the validation part")
    return "\n".join([*lines, "", f"Graded on {graded_on}. In brackets: how many training tracks have the tag."])
