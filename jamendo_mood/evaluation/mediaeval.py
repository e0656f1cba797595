"""The files of MediaEval's "Emotion and Theme Recognition in Music" task: predictions, decisions, thresholds.

Rows are the tracks in the order of the official TSV, columns the tags in the order of ``moodtheme_split.txt``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.util import untrusted
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.files import write_atomically
from jamendo_mood.util.tables import read_table

Bools = npt.NDArray[np.bool_]

QUIRKS = (
    "a score counts above its threshold, not at it, where thresholds of a precision-recall curve mean it to count",
    "MTG's thresholds were chosen on the test part that they are then scored on",
    "a tag that is never decided has the precision 0",
)
"""In what MediaEval's published P/R/F-scores differ from those of `evaluate`."""


def save_mediaeval(
    folder: Path, arrays: Mapping[str, npt.NDArray[Any]], tags: tuple[str, ...], thresholds: npt.NDArray[np.float64]
) -> list[Path]:
    """Write ``NAME.npy`` for each array (tracks, tags), and ``thresholds.txt``; the paths.

    A tag that is never decided has the threshold ``inf``.
    """
    paths = []
    for name, array in arrays.items():
        paths.append(folder / f"{name}.npy")
        write_atomically(paths[-1], functools.partial(np.save, arr=array))
    lines = "".join(f"{tag}\t{threshold!r}\n" for tag, threshold in zip(tags, thresholds.tolist(), strict=True))
    paths.append(folder / "thresholds.txt")
    write_atomically(paths[-1], lambda file: file.write(lines.encode()))
    return paths


def read_array(path: Path) -> npt.NDArray[Any]:
    """Read a 2-D ``.npy`` file.

    Raises
    ------
    DataError
        It is missing, damaged or not 2-D.
    """
    try:
        array: npt.NDArray[Any] = untrusted.read_array(path)
    except untrusted.DAMAGES as error:
        raise DataError(f"{path}: cannot be read as a .npy file ({untrusted.brief(error)})") from error
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(f"{path}: a table of numbers (tracks, tags) is needed, not {array.dtype} {array.shape}")
    return array


def read_bools(path: Path) -> Bools:
    """Read a 2-D ``.npy`` file of booleans, or of zeros and ones.

    Raises
    ------
    DataError
        As `read_array`, or it has other values.
    """
    array = read_array(path)
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"{path}: only zeros and ones (or booleans) are expected here")
    return array.astype(np.bool_)


def read_tags(path: Path) -> tuple[str, ...]:
    """Read names of tags, one a line.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    return tuple(row[0] for row in read_table(path, ()) if row)


def read_thresholds(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Read the official form of thresholds: a tag and its threshold in each line, with a tab between.

    Raises
    ------
    DataError
        It is not in that form.
    """
    rows = read_table(path, ())
    try:
        return tuple(tag for tag, _ in rows), np.array([float(value) for _, value in rows])
    except ValueError as error:
        raise DataError(f"{path}: each line must be a tag, a tab and a number ({error})") from error
