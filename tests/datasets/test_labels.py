"""Labels as targets."""

from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.datasets.dataset import to_one_hot
from jamendo_mood.util.errors import DataError

CLASSES = ("low", "high", "none")


def test_each_row_has_one_1():
    targets = to_one_hot(["high", "low", "high"], CLASSES, Path("list.txt"))
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, [[0, 1, 0], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(("first_line", "line"), [(1, 3), (2, 4)])
def test_a_label_that_is_no_class_is_refused_with_its_line(first_line, line):
    with pytest.raises(DataError, match=rf"^list\.txt, line {line}: 'hihg' is none of the classes low, high, none$"):
        to_one_hot(["high", "low", "hihg"], CLASSES, Path("list.txt"), first_line=first_line)
