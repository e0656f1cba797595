import json
from dataclasses import replace

import pytest
from toy_examples import COURSES, QUADRANTS, SPEC, TASK, VALUES, make_examples, make_tagger

from jamendo_mood.tasks import KINDS
from jamendo_mood.tasks.metrics import GRADES
from jamendo_mood.training import model
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import HeadConfig


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """What is in the file of a tagger."""
    record = {"citation": "The Toys, 2024", "licence": "CC BY 4.0", "split": 0}
    config = TrainConfig(HeadConfig("linear"), ensemble=2, epochs=2, batch=16)
    folder = tmp_path_factory.mktemp("tagger")
    fit(make_examples(60), make_examples(40, seed=1), TASK, SPEC, config, record=record).save(folder)
    values = json.loads((folder / "tagger.json").read_text())
    assert (folder / "README.md").read_text() == model.describe(values)
    return values


def test_a_card_tells_data_licence_scores_and_uses(manifest):
    text = model.describe(manifest)
    assert text.startswith("# Mood tagger: toy\n")
    assert "The mean of 2 `linear` heads for 3 tags" in text
    assert "Learned from 60 tracks, validated on 40 others" in text
    assert "The Toys, 2024" in text
    assert "Licence of the data: CC BY 4.0" in text
    low, high = manifest["intervals"]["PR-AUC-macro"]
    assert f"| PR-AUC-macro | {manifest['scores']['PR-AUC-macro']:.4f} [{low:.4f}, {high:.4f}] |" in text
    assert "It must not be used" in text
    assert "| ECE |" in text
    fewer = {name: figure for name, figure in manifest["scores"].items() if name != "ECE"}
    assert "| ECE |" not in model.describe({**manifest, "scores": fewer})


def test_every_tag_is_listed_once_under_its_grade(manifest):
    text = model.describe({**manifest, "grades": ["good", "weak", "good"]})
    positives = manifest["record"]["positives"]
    assert f"- **good** (what it ranks highest is often right): red ({positives['red']}), blue" in text
    assert f"- **weak** (hardly better than guessing): green ({positives['green']})" in text
    assert "**fair**" not in text


def test_scores_on_a_test_part_stand_beside_those_on_the_validation_part(manifest):
    tested = {"part": "eval_public", "figures": {"PR-AUC-macro": 0.25}, "intervals": {"PR-AUC-macro": [0.2, 0.3]}}
    text = model.describe({**manifest, "record": {**manifest["record"], "tested": tested}})
    assert "| metric | validation part | eval_public | meaning |" in text
    assert "| 0.2500 [0.2000, 0.3000] |" in text
    assert "| - |" in text  # the figures it was not tested for


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
    for name, figure in figures.items():
        assert f"| {name} | {figure:.4f} |" in text
    assert "PR-AUC" not in text
    assert "calibrat" not in text
    assert "threshold" not in text
    assert "Learned from 7 tracks, validated on 3 others" in text
    ours, uses = text.split("## What it is for")
    assert "tag" not in ours.replace("tagger", "")
    assert model.USES.strip() in uses
    assert ("learned from 2 ratings a second" in text) == (task.rate_hz is not None)
