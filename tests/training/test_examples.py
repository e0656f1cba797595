"""A head and a kind of task of one's own: the examples of CONTRIBUTING.md, as they stand there."""

import re
from pathlib import Path

import numpy as np
import pytest
from toy_examples import SPEC, TASK, VALUES, label_anew, make_examples

from jamendo_mood.evaluation.evaluate import evaluate, save_report
from jamendo_mood.tasks import KINDS, Task
from jamendo_mood.training.fit import TrainConfig, fit
from jamendo_mood.training.heads import HEADS, register_head
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import DataError, UsageError

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def run_example(heading):
    """Run the first block of Python below a heading; the names it defines."""
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    names = {}
    exec(re.search("```python\n(.*?)```", section, re.DOTALL)[1], names)
    return names


@pytest.fixture
def own_head():
    yield lambda: run_example("A head from outside")
    HEADS.pop("highest", None)


def train(task, head, epochs):
    train, validation = (make_examples(40, seed) for seed in (0, 1))
    if task is not TASK:
        train, validation = (label_anew(part, VALUES) for part in (train, validation))
    return fit(train, validation, task, SPEC, TrainConfig.for_head(head).updated({"epochs": epochs, "ensemble": "1"}))


def test_a_head_from_outside_trains_and_is_loaded_again(own_head, tmp_path):
    own_head()
    tagger = train(TASK, "highest", "2")
    tagger.save(tmp_path)
    tracks = make_examples(10, 2).frames
    np.testing.assert_allclose(Tagger.load(tmp_path).score(tracks), tagger.score(tracks), atol=1e-6)
    HEADS.pop("highest")
    with pytest.raises(DataError, match=r"unknown head 'highest' .*import the package that registers it"):
        Tagger.load(tmp_path)


def test_a_head_keeps_its_name_for_itself_and_its_scores_have_a_shape(own_head):
    register_head("highest", lambda config, rows, weights, scores: scores(rows))
    with pytest.raises(UsageError, match="there is a head 'highest' already"):
        own_head()
    with pytest.raises(UsageError, match=r"'highest' makes scores of the shape \(None, None, 3\), not \(tracks, 3\)"):
        train(TASK, "highest", "2")


def test_a_kind_of_task_is_one_file_and_a_line(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, "robust", run_example("A kind of task")["KIND"])
    tagger = train(Task("toy", "robust", VALUES.targets, VALUES.scale), "linear", "30")
    tagger.save(tmp_path)
    found = evaluate(Tagger.load(tmp_path), label_anew(make_examples(30, 2), VALUES), rounds=10)
    assert found.metrics.keys() >= {"CCC", "R2"}
    assert (found.predictions >= 1).all()
    assert "2 robust values" in (tmp_path / "README.md").read_text()
    page = save_report(found, tmp_path, title="robust", facts={}).read_text("utf-8")
    assert "<h2>All robust values</h2>" in page
