"""Turkish Music Emotion: 400 clips of Turkish music as 50 acoustic features each, in four classes; no audio.

The features, made with MIRtoolbox, stand in for embeddings: one row of 50 numbers a clip. Twelve rows are there twice,
to the last digit and with the same class: the first of each pair is kept, or a clip could be in two parts.

References
----------
Er, Aydilek, "Music emotion recognition by using chroma spectrogram and deep visual features", International Journal of
Computational Intelligence Systems 12(2), 2019;
https://archive.ics.uci.edu/dataset/862/turkish+music+emotion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import FOLDS, Dataset, DataSource, Track, assign_folds, make_parts, to_one_hot
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks.kinds import Task
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.untrusted import read_columns

CLASSES = ("relax", "happy", "sad", "angry")
TABLE_NAME = "Acoustic Features.csv"
_HARMONY = "HarmonicChangeDetectionFunction"
FEATURES = (
    *("_RMSenergy_Mean", "_Lowenergy_Mean", "_Fluctuation_Mean", "_Tempo_Mean"),
    *(f"_MFCC_Mean_{number}" for number in range(1, 14)),
    *("_Roughness_Mean", "_Roughness_Slope", "_Zero-crossingrate_Mean", "_AttackTime_Mean", "_AttackTime_Slope"),
    *("_Rolloff_Mean", "_Eventdensity_Mean", "_Pulseclarity_Mean", "_Brightness_Mean"),
    *(f"_Spectral{shape}_Mean" for shape in ("centroid", "spread", "skewness", "kurtosis", "flatness")),
    "_EntropyofSpectrum_Mean",
    *(f"_Chromagram_Mean_{number}" for number in range(1, 13)),
    *(f"_{_HARMONY}_{figure}" for figure in ("Mean", "Std", "Slope", "PeriodFreq", "PeriodAmp", "PeriodEntropy")),
)
CLIP_S = 30.0
SPEC = EmbedderSpec("mirtoolbox", "", 0, CLIP_S, CLIP_S, len(FEATURES))  # the sampling rate is not told
LICENCE = "for research; not to be passed on"
CITATION = (
    "M. B. Er, I. B. Aydilek: Music emotion recognition by using chroma spectrogram and deep visual features. "
    "International Journal of Computational Intelligence Systems 12(2), 2019"
)

Array = npt.NDArray[np.float32]


class ReleasedFeatures(Mapping[str, Array]):
    """The released features by clip, float32 (1, 50), each in a unit of its own."""

    spec = SPEC

    def __init__(self, features: dict[str, Array]) -> None:
        self._features = features

    def __getitem__(self, key: str) -> Array:
        return self._features[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their classes, in ten folds.

    A clip is named by its row in the file, from 001. Since no artists are known, each counts as an artist of its own.

    Raises
    ------
    UsageError
        There is no fold `split`.
    DataError
        The file is missing or damaged.
    """
    path = root / TABLE_NAME
    classes, features, doubles = read_features(path)
    tracks = tuple(Track(name, name, None, name) for name in features)
    return Dataset(
        task=Task("turkish", "classes", CLASSES),
        tracks=tracks,
        targets=to_one_hot([classes[name] for name in features], CLASSES, path),
        parts=make_parts(assign_folds(list(features), list(classes.values())), split),
        licence=LICENCE,
        citation=CITATION,
        embeddings=ReleasedFeatures(features),
        remarks=(
            *((f"{doubles} rows are equal to an earlier one and left out",) if doubles else ()),
            "no artists are known: clips of one artist may be in several parts",
        ),
    )


def read_features(path: Path) -> tuple[dict[str, str], dict[str, Array], int]:
    """Class and features, float32 (1, 50), of each clip by its name, and the number of rows left out as doubles."""
    classes, features, seen = {}, {}, set()
    rows = read_columns(path, ("Class", *FEATURES))
    for number, row in enumerate(rows, start=1):
        if row["Class"] not in CLASSES:
            known = ", ".join(CLASSES)
            raise DataError(f"{path}, line {number + 1}: {row['Class']!r} is none of the classes {known}")
        cells = tuple(row.values())
        if cells in seen:
            continue
        seen.add(cells)
        name = f"{number:03d}"
        classes[name] = row["Class"]
        features[name] = _read_numbers(path, number + 1, row)
    return classes, features, len(rows) - len(features)


def _read_numbers(path: Path, line: int, row: dict[str, str]) -> Array:
    numbers = np.zeros((1, len(FEATURES)), np.float32)
    for place, column in enumerate(FEATURES):
        try:
            numbers[0, place] = float(row[column])
        except ValueError:
            numbers[0, place] = np.nan
        if not np.isfinite(numbers[0, place]):
            raise DataError(f"{path}, line {line}: {row[column]!r} in column {column!r} is no number")
    return numbers


SOURCES = {
    "turkish": DataSource(
        load,
        "4 classes of Turkish music",
        (TABLE_NAME,),
        "https://archive.ics.uci.edu/dataset/862/turkish+music+emotion",
        "none is published: the 50 acoustic features stand in for embeddings",
        LICENCE,
        CITATION,
        splits=FOLDS,
        official=False,
    )
}
