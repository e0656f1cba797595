import pytest
from toy_evaluations import make_class_evaluation, make_evaluation, make_value_evaluation

from jamendo_mood.cli.reports import SHOWN
from jamendo_mood.evaluation.report import COLUMNS, EXPLANATIONS
from jamendo_mood.tasks.kinds import KINDS

MADE = {
    "tags": lambda: make_evaluation(7),
    "classes": lambda: make_class_evaluation(4),
    "values": lambda: make_value_evaluation(rows=120, songs=8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_and_column_is_explained(kind):
    evaluation = MADE[kind]()
    assert evaluation.figures.keys() == EXPLANATIONS[kind].keys()
    assert {name for row in evaluation.per_target for name in row} <= COLUMNS[kind].keys()
    assert all(len(text) > 20 for text in EXPLANATIONS[kind].values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_begins_with_names_and_grades(kind):
    assert list(COLUMNS[kind])[:2] == [KINDS[kind].target, "grade"]
    assert {KINDS[kind].target, KINDS[kind].ranked_by} <= {*SHOWN}
