"""Why this tag, this class, this value: the seconds of a track that carried it.

A stretch carried a tag if the tag's score falls when the stretch is left out. That asks nothing of the tagger but
scores, so it works with any head and any pooling. Where moments are scored by themselves, the track's score is their
mean, and a stretch is left out of that mean.

References
----------
Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2: occlusion sensitivity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jamendo_mood.tasks.calibration import log_odds
from jamendo_mood.training.data import context_of, thin
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import UsageError

STRETCHES = 40
LONGEST_FRAMES = 1_200
"""Of a longer track (19 minutes of VGGish) only so many frames are listened to, evenly spread: it is heard 40 times."""

SCORED_FRAMES = 4_096  # of copies of a track that are scored together: more costs memory and gains little

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explanation:
    """How much each stretch of a track carried each tag.

    Attributes
    ----------
    starts_s, ends_s : float32 arrays (stretches,)
        The stretches, in order: together they are the whole track. There are none of a track too short to be cut.
    weights : float32 array (stretches, targets)
        By how much the log-odds of the track's score fall when the stretch is left out; 0.7 halves the odds. Of values
        by how much the value falls. Negative where the track scores higher without it.
    """

    starts_s: Array
    ends_s: Array
    weights: Array

    def carried(self, tag_index: int, count: int = 3) -> list[tuple[float, float, float]]:
        """The stretches that carried a tag most.

        Parameters
        ----------
        tag_index : int
            A column of `weights`.
        count : int
            Stretches to take; those that touch are merged, and their weights added.

        Returns
        -------
        list of (start_s, end_s, weight)
            The heaviest first; only stretches of weight above 0, so there may be none.
        """
        weights = self.weights[:, tag_index]
        best = [row for row in np.argsort(-weights, kind="stable")[: max(0, count)] if weights[row] > 0]
        runs: list[list[int]] = []
        for row in sorted(map(int, best)):
            if runs and runs[-1][-1] == row - 1:
                runs[-1].append(row)
            else:
                runs.append([row])
        merged = [
            (float(self.starts_s[run[0]]), float(self.ends_s[run[-1]]), float(weights[run].sum())) for run in runs
        ]
        return sorted(merged, key=lambda entry: -entry[2])


def explain(tagger: Tagger, frames: Array, *, stretches: int = STRETCHES) -> Explanation:
    """Find the stretches of a track that carried its tags, by leaving out one after the other.

    Parameters
    ----------
    tagger : Tagger
    frames : float32 array (frames, dim)
        The track's embeddings.
    stretches : int
        Cut the track into so many stretches, from 2 up; into fewer if they would be shorter than 10 s. A track
        of less than 20 s is not cut: what is left would be no track.

    Returns
    -------
    Explanation
        Of a track longer than 1,200 frames, by that many of its frames.

    Raises
    ------
    UsageError
        `stretches` is below 2, or `frames` are no embeddings of the tagger's.
    """
    if stretches < 2:
        raise UsageError(f"a track cannot be explained by {stretches} stretches: it takes 2 or more")
    if frames.ndim != 2 or frames.shape[1] != tagger.spec.dim:
        raise UsageError(f"embeddings of shape {frames.shape}: the tagger needs (frames, {tagger.spec.dim})")
    duration_s = tagger.spec.duration_s(len(frames))
    dynamic = tagger.task.rate_hz is not None
    heard = thin([frames], LONGEST_FRAMES)[0] if len(frames) > LONGEST_FRAMES and not dynamic else frames
    count = min(stretches, len(heard), len(frames) // context_of(tagger.spec))
    if count < 2:
        none = np.zeros(0, np.float32)
        return Explanation(none, none, np.zeros((0, len(tagger.task.targets)), np.float32))
    borders = np.linspace(0, len(heard), count + 1).round().astype(int)
    borders_s = (borders * (duration_s / len(heard))).astype(np.float32)
    leave_out = _leave_out_of_mean if dynamic else _leave_out
    return Explanation(borders_s[:-1], borders_s[1:], leave_out(tagger, heard, borders))


def _leave_out_of_mean(tagger: Tagger, frames: Array, borders: npt.NDArray[np.int_]) -> Array:
    """How far the mean over the moments falls without each stretch: float32 (stretches, targets)."""
    scores = tagger.score_frames(frames).astype(np.float64)
    total, sums = scores.sum(axis=0), np.add.reduceat(scores, borders[:-1], axis=0)
    left = len(scores) - np.diff(borders)[:, None]
    return np.asarray(total / len(scores) - (total - sums) / left, np.float32)


def _leave_out(tagger: Tagger, frames: Array, borders: npt.NDArray[np.int_]) -> Array:
    """How far the log-odds, or the values, fall without each stretch: float32 (stretches, targets)."""
    weigh = np.asarray if tagger.task.rules.on_scale else log_odds
    odds = []
    together = max(1, SCORED_FRAMES // len(frames))
    for first in range(0, len(borders) - 1, together):
        cuts = zip(borders[first:-1][:together], borders[first + 1 :], strict=False)
        without = [np.concatenate([frames[:start], frames[end:]]) for start, end in cuts]
        odds.append(weigh(tagger.score(without)))
    return np.asarray(weigh(tagger.score_track(frames)) - np.concatenate(odds), np.float32)
