"""The data sets: one file each, one line in `DATASETS` for each task they come with."""

from __future__ import annotations

from pathlib import Path

from jamendo_mood.datasets import audioset, deam, emomusic, jamendo, mirex, own, pmemo, quadrants, turkish
from jamendo_mood.datasets.dataset import Dataset, DataSource
from jamendo_mood.util.errors import UsageError

DATASETS: dict[str, DataSource] = {
    **jamendo.SOURCES,
    **audioset.SOURCES,
    **mirex.SOURCES,
    **quadrants.SOURCES,
    **turkish.SOURCES,
    **pmemo.SOURCES,
    **emomusic.SOURCES,
    **deam.SOURCES,
    **own.SOURCES,
}


def find_source(task: str) -> DataSource:
    """What is known of a task's data set; `UsageError` if there is no such task."""
    if task not in DATASETS:
        raise UsageError(f"unknown task {task!r} (known: {', '.join(DATASETS)})")
    return DATASETS[task]


def load_dataset(task: str, root: Path | str, *, split: int = 0, part: str | None = None) -> Dataset:
    """Load the data of a task.

    Parameters
    ----------
    task : str
        A key of `DATASETS`.
    root : Path
        Where its files are, in the layout its authors publish; of task ``own`` the table itself is enough.
    split : int
        Which division into parts, where there are several: official ones, or that whose test part is this fold.
    part : str or None
        A part that is wanted beyond the usual ones.

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
    return source.load(where, split, part)
