"""Tables and figures of what is in a `Dataset`: tags, artists, durations, parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.datasets.dataset import Dataset
from jamendo_mood.tasks import metrics
from jamendo_mood.tasks.tags import draw_cooccurrence
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.figures import DECIDED, PRIOR, UNDECIDED, Picture, bar_axes, empty_axes

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

MAX_TAGS = 60  # so many rows are still legible, and MTG-Jamendo has 59
TAG_HEIGHT = 0.19  # inches a row, of up to 60
PART_STYLES = ((DECIDED, "o"), (PRIOR, "D"), ("#5b4db0", "^"), ("#666666", "v"))
DURATION_TICKS_S: dict[float, str] = {
    **{seconds: f"{seconds} s" for seconds in (1, 2, 5, 10, 20, 30)},
    **{60 * minutes: f"{minutes} min" for minutes in (1, 2, 5, 10, 30)},
    **{3600 * hours: f"{hours} h" for hours in (1, 2, 5, 10)},
}
SHARE_TICKS = {tenth * digit: f"{tenth * digit:g}" for tenth in (0.01, 0.1, 1, 10) for digit in (1, 2, 3, 5)}


def tag_table(dataset: Dataset) -> pd.DataFrame:
    """A row per tag, the most frequent first.

    Returns
    -------
    DataFrame
        By tag: ``tracks``, ``artists``, and ``largest artist``, the share in [0, 1] of the tag's tracks by whoever has
        most of them (NaN for a tag without tracks): how much of the tag may be one artist's sound.
    """
    import pandas as pd

    artists = _artists(dataset)
    rows = []
    for has_tag in metrics.to_flags(dataset.targets).T:
        counts = np.unique(artists[has_tag], return_counts=True)[1]
        rows.append((int(has_tag.sum()), len(counts), counts.max() / counts.sum() if len(counts) else np.nan))
    index = pd.Index(dataset.task.targets, name="tag")
    table = pd.DataFrame(rows, index=index, columns=["tracks", "artists", "largest artist"])
    most_first: pd.DataFrame = table.sort_values("tracks", ascending=False, kind="stable")
    return most_first


def part_table(dataset: Dataset) -> pd.DataFrame:
    """A row per part, and one for all tracks.

    Returns
    -------
    DataFrame
        By part: ``tracks``, ``artists``, ``hours`` (NaN if a duration is not known) and ``tags a track``, a mean.
    """
    import pandas as pd

    artists, durations_s, flags = _artists(dataset), _durations_s(dataset), metrics.to_flags(dataset.targets)
    rows = {
        part: (len(of), len({*artists[of].tolist()}), durations_s[of].sum() / 3600, flags[of].sum() / max(len(of), 1))
        for part, of in {**dataset.parts, "all": np.arange(len(artists))}.items()
    }
    columns = ["tracks", "artists", "hours", "tags a track"]
    table: pd.DataFrame = pd.DataFrame([*rows.values()], index=pd.Index([*rows], name="part"), columns=columns)
    return table


def shared_artists(dataset: Dataset) -> pd.DataFrame:
    """How many artists any two parts share; the diagonal is the number of artists in a part, all else must be 0."""
    import pandas as pd

    artists = _artists(dataset)
    groups = {part: {*artists[of].tolist()} for part, of in dataset.parts.items()}
    counts = [[len(group & other) for other in groups.values()] for group in groups.values()]
    table: pd.DataFrame = pd.DataFrame(counts, index=[*groups], columns=[*groups])
    return table


def plot_tag_counts(dataset: Dataset, count: int = MAX_TAGS) -> Picture:
    """How many tracks and artists the most frequent tags have, as bars."""
    table = tag_table(dataset).head(count)[::-1]
    figure, axes = _tag_axes([*table.index])
    axes.barh(np.arange(len(table)), table["tracks"], color=UNDECIDED, label="tracks")
    axes.barh(np.arange(len(table)), table["artists"], color=DECIDED, label="artists")
    for row, (tracks, artists) in enumerate(zip(table["tracks"], table["artists"], strict=True)):
        axes.text(tracks, row, f" {tracks:,} / {artists:,}", va="center", fontsize=8)
    axes.margins(x=0.16)  # room for the numbers
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("tracks / artists with the tag")
    axes.legend(loc="lower right", frameon=False)
    return figure


def plot_tags_per_track(dataset: Dataset) -> Picture:
    """How many tracks have one tag, two, and so on."""
    counts = np.bincount(metrics.to_flags(dataset.targets).sum(axis=1))
    figure, axes = empty_axes(7, 2.8)
    bars = axes.bar(np.arange(len(counts)), counts, color=DECIDED)
    axes.bar_label(bars, [f"{tracks:,}" for tracks in counts], padding=2, fontsize=8)
    axes.set_xticks(np.arange(counts.nonzero()[0][0], len(counts)))
    axes.set_xlim(counts.nonzero()[0][0] - 0.6, len(counts) - 0.4)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="tags of a track", ylabel="tracks")
    return figure


def plot_artists(dataset: Dataset) -> Picture:
    """How many artists have how many tracks, in bins that double, and the share of all tracks in each bin."""
    tracks = np.array([*Counter(_artists(dataset).tolist()).values()])
    bins = np.ceil(np.log2(tracks)).astype(int)  # 1 | 2 | 3-4 | 5-8 | ...
    exponents = np.arange(bins.min(), bins.max() + 1)
    artists, made = (np.bincount(bins, weights)[exponents] for weights in (None, tracks))
    figure, axes = bar_axes(len(exponents), 0.4)
    who = f"{len(tracks):,} artists, half of them with at most {np.median(tracks):g} tracks"
    what = f"their {tracks.sum():,} tracks"
    for counts, side, colour, label in ((artists, -0.2, DECIDED, who), (made, 0.2, UNDECIDED, what)):
        bars = axes.barh(exponents + side, 100 * counts / counts.sum(), 0.4, color=colour, label=label)
        axes.bar_label(bars, [f"{number:,.0f}" for number in counts], padding=3, fontsize=8)
    axes.set_yticks(exponents, [_bin_name(exponent) for exponent in exponents])
    axes.set_ylim(exponents[-1] + 0.6, exponents[0] - 0.6)  # the most tracks at the bottom
    axes.set(xlabel="% of all artists, % of all tracks", ylabel="tracks of an artist")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def plot_durations(dataset: Dataset, bins: int = 51) -> Picture:
    """A histogram of durations on a logarithmic axis, with the median; tracks of unknown duration are left out.

    Raises
    ------
    UsageError
        No duration is known.
    """
    durations_s = _durations_s(dataset)
    known_s = durations_s[durations_s > 0]  # NaN is not
    if not len(known_s):
        raise UsageError(f"the data of task {dataset.task.name!r} has no durations: there is nothing to plot")
    median_s = float(np.median(known_s))
    minutes, seconds = divmod(round(median_s), 60)
    # At least an octave on either side: equal durations would leave no axis at all.
    low_s, high_s = min(known_s.min(), median_s / 2), max(known_s.max(), median_s * 2)
    figure, axes = empty_axes(7, 3.2)
    axes.hist(known_s, np.geomspace(low_s, high_s, bins + 1), color=DECIDED)
    axes.axvline(median_s, color=PRIOR, linewidth=2, label=f"median: {minutes}:{seconds:02d}")
    _scale_by_logarithm(axes, (low_s, high_s), DURATION_TICKS_S)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="duration (logarithmic)", ylabel="tracks")
    unknown = f"; {len(durations_s) - len(known_s):,} of unknown duration" if len(known_s) < len(durations_s) else ""
    axes.set_title(f"{len(known_s):,} tracks, {known_s.sum() / 3600:,.1f} hours{unknown}")
    axes.legend(loc="upper right", frameon=False)
    return figure


def plot_parts(dataset: Dataset, count: int = MAX_TAGS) -> Picture:
    """The share of each part's tracks that have a tag, for the most frequent tags: one mark per part."""
    flags, table = metrics.to_flags(dataset.targets), part_table(dataset)
    columns = np.argsort(-flags.sum(axis=0), kind="stable")[:count][::-1]
    shares = {part: 100 * flags[of][:, columns].sum(axis=0) / max(len(of), 1) for part, of in dataset.parts.items()}
    drawn = np.stack([*shares.values()])
    floor = drawn[drawn > 0].min(initial=100) / 1.3  # a logarithmic axis has no 0: there it is the left edge
    figure, axes = _tag_axes([dataset.task.targets[column] for column in columns])
    axes.hlines(
        np.arange(len(columns)), drawn.min(axis=0).clip(floor), drawn.max(axis=0), color=UNDECIDED, linewidth=1.5
    )
    for number, (part, values) in enumerate(shares.items()):
        colour, marker = PART_STYLES[number % len(PART_STYLES)]
        label = f"{part}: {table['tracks'][part]:,} tracks by {table['artists'][part]:,} artists"
        style = {"color": colour, "markersize": 5, "clip_on": False, "label": label}
        axes.plot(values.clip(floor), np.arange(len(columns)), marker, **style)
    _scale_by_logarithm(axes, (floor, 1.1 * drawn.max(initial=floor)), SHARE_TICKS)
    left_edge = "; left edge: none" if (drawn == 0).any() else ""
    axes.set_xlabel(f"% of the part's tracks that have the tag (logarithmic{left_edge})")
    axes.grid(axis="x", color="#e4e9e7")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def plot_cooccurrence(Y: npt.NDArray[Any], names: Sequence[str]) -> Picture:
    """`metrics.cooccurrence` as a heat map, in `metrics.similar_order`; the diagonal, always 1, is grey.

    Parameters
    ----------
    Y : bool or float array (n, k)
        As for `metrics.cooccurrence`: the targets of a data set, or a tagger's decisions.
    names : sequence of str
        The k tags.

    Raises
    ------
    DataError
        `Y` is not a table of 0 and 1, or `names` does not fit it.
    """
    if Y.ndim != 2 or Y.shape[1] != len(names):
        raise DataError(f"a table of the shape {Y.shape} does not fit {len(names)} names of tags")
    order = metrics.similar_order(Y)
    return draw_cooccurrence(metrics.cooccurrence(Y)[np.ix_(order, order)], [names[column] for column in order])


def _artists(dataset: Dataset) -> npt.NDArray[np.str_]:
    return np.array([track.artist for track in dataset.tracks], np.str_)


def _durations_s(dataset: Dataset) -> Floats:
    """NaN if not known."""
    return np.array([track.duration_s for track in dataset.tracks], np.float64)


def _tag_axes(names: Sequence[str]) -> tuple[Picture, Any]:
    """Axes with a row per tag, the last at the top; names are not read as formulas."""
    figure, axes = bar_axes(len(names), TAG_HEIGHT)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _scale_by_logarithm(axes: Any, limits: tuple[float, float], ticks: Mapping[float, str]) -> None:
    """Make the x axis logarithmic, with the ticks that are within its limits."""
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    within = {tick: name for tick, name in ticks.items() if limits[0] <= tick <= limits[1]}
    axes.set_xticks([*within], [*within.values()])
    axes.set_xticks([], minor=True)


def _bin_name(exponent: int) -> str:
    high = 2**exponent
    low = high // 2 + 1
    return f"{low}–{high}" if low < high else f"{high}"
