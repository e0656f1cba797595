from dataclasses import replace

import pytest
from toy_examples import COURSES, QUADRANTS, TASK, VALUES, make_tagger

from jamendo_mood.tasks import KINDS
from jamendo_mood.tasks.metrics import GRADES
from jamendo_mood.training import model

PARTS = """\
# Mood tagger: toy
The mean of 2 `linear` heads for 3 tags
Learned from 60 tracks, validated on 40 others
The Toys, 2024
Licence of the data: CC BY 4.0
| metric | held-out tracks | eval_public | meaning |
| PR-AUC-macro | 0.5000 [0.2500, 0.7500] | 0.2500 [0.2000, 0.3000] |
| ECE | 0.1250 | - |
- **good** (what it ranks highest is often right): red (18), blue
- **weak** (hardly better than guessing): green (7)
It must not be used
"""


def test_a_card_tells_data_licence_scores_grades_and_uses(tmp_path):
    first, second = (make_tagger(TASK, seed=seed) for seed in (0, 1))
    record = {"citation": "The Toys, 2024", "licence": "CC BY 4.0", "tracks": {"train": 60, "validation": 40}}
    record |= {"best_epochs": (1, 2), "positives": {"red": 18, "green": 7}}
    figures, ends = {"PR-AUC-macro": 0.25}, {"PR-AUC-macro": [0.2, 0.3]}
    record["tested"] = {"part": "eval_public", "figures": figures, "intervals": ends}
    scores = {"scores": {"PR-AUC-macro": 0.5, "ECE": 0.125}, "intervals": {"PR-AUC-macro": (0.25, 0.75)}}
    tagger = replace(first, weights=(*first.weights, *second.weights), record=record, **scores)
    replace(tagger, grades=("good", "weak", "good")).save(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert [part for part in PARTS.splitlines() if part not in text] == []
    assert "**fair**" not in text
    assert "| F-score-macro |" not in text


def test_there_are_words_for_every_kind_and_grade():
    for kind in KINDS.values():
        assert kind.grades.keys() == set(GRADES)
        assert kind.monitor in kind.card_metrics
        assert kind.meanings.keys() >= {*kind.card_metrics}


@pytest.mark.parametrize(
    ("task", "says", "figures"),
    [
        (QUADRANTS, "for 4 classes, on mean", {"accuracy": 0.5, "F-score-macro": 0.25}),
        (VALUES, "for 2 values on a scale from 1 to 9, on mean", {"CCC": 0.5, "RMSE": 0.25}),
        (COURSES, "for 2 values on a scale from -1 to 1, each moment by itself", {"CCC": 0.5, "RMSE": 0.25}),
    ],
    ids=["classes", "values", "courses"],
)
def test_a_card_of_classes_or_values_does_not_speak_of_tags(task, says, figures, tmp_path):
    record = {"tracks": {"train": 7, "validation": 3}, "licence": "CC BY 4.0"}
    tagger = replace(make_tagger(task), scores=figures, intervals={}, record=record)
    tagger.save(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert says in text
    assert f"## Its {task.rules.plural}\n" in text
    assert all(f"| {name} | {figure:.4f} |" in text for name, figure in figures.items())
    assert not [word for word in ("PR-AUC", "calibrat", "threshold") if word in text]
    assert "Learned from 7 tracks, validated on 3 others" in text
    ours, uses = text.split("## What it is for")
    assert "tag" not in ours.replace("tagger", "")
    assert model.USES.strip() in uses
    assert ("learned from 2 ratings a second" in text) == (task.rate_hz is not None)
