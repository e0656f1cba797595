"""Data sets: a loader each; `dataset` has what loaders share.

Only tables and files' tags are read here, no audio; no data set is part of the package. Where each is from, and the
paper on it, are in its `DataSource`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jamendo_mood.datasets import audioset, class_sets, jamendo, own, rated_sets
from jamendo_mood.datasets.dataset import Dataset, DataSource
from jamendo_mood.util.errors import UsageError

DATASETS: dict[str, DataSource] = {
    **jamendo.SOURCES,
    **audioset.SOURCES,
    **class_sets.SOURCES,
    **rated_sets.SOURCES,
    **own.SOURCES,
}
"""By task. A loader may have several tasks: `SOURCES` has an entry for each."""


def find_source(task: str) -> DataSource:
    """The data set of a task; `UsageError` if there is no such task."""
    if task not in DATASETS:
        raise UsageError(f"unknown task {task!r} (known: {', '.join(DATASETS)})")
    return DATASETS[task]


def share_songs(task: str, other: str) -> bool:
    """Whether two tasks are known to be about the same songs: of one family, or emoMusic within DEAM."""
    families = {name.partition("-")[0] for name in (task, other)}
    return families == {"deam", "emomusic"} or (len(families) == 1 and families != {"own"})


def load_dataset(task: str, root: Path | str, *, split: int = 0, part: str | None = None) -> Dataset:
    """Load the data of a task.

    Parameters
    ----------
    task : str
        A key of `DATASETS`.
    root : Path
        Where its files are, in the layout its authors publish; for task ``own`` it may be the table itself.
    split : int
        Which division into parts, if there are several: the number of the official split, or of the test fold.
    part : str or None
        A part to load in addition to the usual ones.

    Raises
    ------
    UsageError
        No such task, folder, split or part.
    DataError
        A file of it is missing or damaged.
    """
    source, where = find_source(task), Path(root)
    if not where.is_dir() and not (source.single_file and where.is_file()):
        raise UsageError(f"{root}: no such folder of data{', nor file,' * source.single_file} for task {task!r}")
    return replace(source.load(where, split, part), licence=source.licence, citation=source.citation)
