"""The data sets: one file each, one line in `DATASETS` for each task they come with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jamendo_mood.datasets import audioset, jamendo
from jamendo_mood.errors import UsageError
from jamendo_mood.tracks import Dataset

Loader = Callable[[Path, int, str | None], Dataset]

DATASETS: dict[str, Loader] = {
    "jamendo": jamendo.load,
    "jamendo-59": jamendo.load_all_tags,
    "audioset": audioset.load,
    "audioset-moods": audioset.load_moods,
}


def load_dataset(task: str, root: Path | str, *, split: int = 0, part: str | None = None) -> Dataset:
    """Load the data of a task.

    Parameters
    ----------
    task : str
        A key of `DATASETS`.
    root : Path
        Where its files are, in the layout its authors publish.
    split : int
        Which official division into parts, where there are several.
    part : str or None
        A part that is wanted beyond the usual ones.

    Raises
    ------
    UsageError
        No such task, folder, split or part.
    DataError
        A file of it is missing or damaged.
    """
    if task not in DATASETS:
        raise UsageError(f"unknown task {task!r} (known: {', '.join(DATASETS)})")
    if not Path(root).is_dir():
        raise UsageError(f"{root}: no such folder of data for task {task!r}")
    return DATASETS[task](Path(root), split, part)
