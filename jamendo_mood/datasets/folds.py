"""Parts for data sets whose authors published none: no group, such as an artist, is in two of them.

Who goes where depends on the names of the groups, how much there is of each, and the seed; not on the order of the
rows, and not on the version of a library, so that a tagger's test part stays what it was.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from jamendo_mood.util.errors import DataError, UsageError

FOLDS = 10
SEED = 0
PARTS = ("train", "validation", "test")


def assign_folds(
    groups: Sequence[str], labels: Sequence[str] | None = None, *, count: int = FOLDS, seed: int = SEED
) -> npt.NDArray[np.intp]:
    """Deal examples out to folds of about equal size; what is of one group stays together.

    The groups are dealt from the largest to the smallest, each to the fold that has least of what the group consists
    of; the seed shuffles groups of equal size.

    Parameters
    ----------
    groups : sequence of str (n,)
        The artist of each example, say.
    labels : sequence of str (n,), or None
        The class of each example: every fold then has about as many of each.
    count : int
    seed : int
        Same seed, same folds.

    Returns
    -------
    int array (n,)
        From 0 to `count` - 1.

    Raises
    ------
    DataError
        There are fewer groups than folds.
    """
    order = _shuffle_by_size(groups, seed)
    if len(order) < count:
        raise DataError(f"{count} folds need {count} artists at least, and there are {len(order)}")
    classes = [""] * len(groups) if labels is None else labels
    column = {label: number for number, label in enumerate(sorted(set(classes)))}
    of_group = {group: np.zeros(len(column), np.int64) for group in order}
    for group, label in zip(groups, classes, strict=True):
        of_group[group][column[label]] += 1
    # A class counts by its share in a fold, squared. Whole numbers: no rounding decides between folds.
    weights = (100 * len(groups) // sum(of_group.values())) ** 2
    folds = np.zeros((count, len(column)), np.int64)
    fold_of = {}
    for group in order:
        burdens = (folds * (weights * of_group[group])).sum(axis=1)
        fold_of[group] = fold = int(np.lexsort((folds.sum(axis=1), burdens))[0])
        folds[fold] += of_group[group]
    return np.array([fold_of[group] for group in groups], np.intp)


def make_parts(folds: npt.NDArray[np.intp], split: int) -> Mapping[str, npt.NDArray[np.intp]]:
    """Rows of each part: fold `split` is the test part, the next one the validation part, the others train.

    Raises
    ------
    UsageError
        There is no such fold.
    """
    count = int(folds.max()) + 1
    if not 0 <= split < count:
        raise UsageError(f"split {split}: these data have {count} folds, 0 to {count - 1}")
    test, validation = folds == split, folds == (split + 1) % count
    chosen = (~test & ~validation, validation, test)
    return {part: np.flatnonzero(rows) for part, rows in zip(PARTS, chosen, strict=True)}


def _shuffle_by_size(groups: Sequence[str], seed: int) -> list[str]:
    """The groups, the largest first, those of equal size in an order that is the seed's."""
    sizes = Counter(groups)
    hashes = {group: hashlib.sha256(f"{seed} {group}".encode(errors="surrogatepass")).digest() for group in sizes}
    return sorted(sizes, key=lambda group: (-sizes[group], hashes[group]))
