"""Turkish Music Emotion: 400 clips of Turkish music as 50 acoustic features each, in four classes; no audio.

The features, made with MIRtoolbox, serve as embeddings: one row of 50 numbers a clip. Twelve rows are there twice, to
the last digit and with the same class: only the first of each pair is kept, or a clip could be in two parts.

References
----------
Er, Aydilek, "Music emotion recognition by using chroma spectrogram and deep visual features", International Journal of
Computational Intelligence Systems 12(2), 2019;
https://archive.ics.uci.edu/dataset/862/turkish+music+emotion.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jamendo_mood.datasets.dataset import (
    Dataset,
    DataSource,
    Features,
    Track,
    assign_folds,
    count_remarks,
    make_parts,
    to_one_hot,
)
from jamendo_mood.datasets.ratings import ANY, read_number
from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.tasks import Task
from jamendo_mood.util.files import read_columns

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
    *(f"_{_HARMONY}_{statistic}" for statistic in ("Mean", "Std", "Slope", "PeriodFreq", "PeriodAmp", "PeriodEntropy")),
)
CLIP_S = 30.0
SPEC = EmbedderSpec("mirtoolbox", "", 0, CLIP_S, CLIP_S, len(FEATURES))  # the sampling rate is not published


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the clips with their classes, in ten folds.

    A clip is named by its row in the file, from 001. Since no artists are known, each clip counts as an artist of its
    own.
    """
    path = root / TABLE_NAME
    rows = read_columns(path, ("Class", *FEATURES))
    first_row: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(rows):
        first_row.setdefault(tuple(row.values()), number)
    kept = list(first_row.values())
    names = [f"{number + 1:03d}" for number in kept]
    features = [
        [read_number(rows[number][name], ANY, f"{path}, line {number + 2}, {name}") for name in FEATURES]
        for number in kept
    ]
    return Dataset(
        task=Task("turkish", "classes", CLASSES),
        tracks=tuple(Track(name, name, None, name) for name in names),
        targets=to_one_hot([row["Class"] for row in rows], CLASSES, path)[kept],
        parts=make_parts(assign_folds(names, [rows[number]["Class"] for number in kept]), split),
        embeddings=Features(SPEC, zip(names, np.array(features, np.float32), strict=True)),
        remarks=(
            *count_remarks({"rows are equal to an earlier one and left out": len(rows) - len(kept)}),
            "no artists are known: clips of one artist may be in several parts",
        ),
    )


SOURCES = {
    "turkish": DataSource(
        load,
        predicts="4 classes of Turkish music",
        files=(TABLE_NAME,),
        annotations="https://archive.ics.uci.edu/dataset/862/turkish+music+emotion",
        audio="none is published: the 50 acoustic features serve as embeddings",
        licence="for research; not to be passed on",
        citation=(
            "M. B. Er, I. B. Aydilek: Music emotion recognition by using chroma spectrogram and deep visual features. "
            "International Journal of Computational Intelligence Systems 12(2), 2019"
        ),
    )
}
