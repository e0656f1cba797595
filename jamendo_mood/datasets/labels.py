"""From the labels of a table to the targets of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import DataError


def to_one_hot(
    labels: Sequence[str], classes: Sequence[str], path: Path, *, first_line: int = 2
) -> npt.NDArray[np.float32]:
    """Targets of a choice between classes: a 1 for the class of each example, else 0.

    Parameters
    ----------
    labels : sequence of str (n,)
    classes : sequence of str (k,)
    path : Path
        The file that the labels are of, one a line.
    first_line : int
        The number of the line that the first of them stands on.

    Returns
    -------
    float32 array (n, k)

    Raises
    ------
    DataError
        A label is none of the classes; with the file and the line.
    """
    column = {name: number for number, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), np.float32)
    for row, label in enumerate(labels):
        if label not in column:
            raise DataError(f"{path}, line {first_line + row}: {label!r} is none of the classes {', '.join(classes)}")
        targets[row, column[label]] = 1
    return targets
