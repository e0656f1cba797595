"""What the browser shows of a song, and the files to download."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.spectrograms import png_bytes
from jamendo_mood.library import similarity
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging import emotions
from jamendo_mood.tagging.analysis import Analysis, explain
from jamendo_mood.tagging.prediction import Prediction, plot_song, write_csv
from jamendo_mood.training.model import Tagger
from jamendo_mood.util import plaintext

SENT_TAGS = 60
"""Tags sent to the browser: all of MTG-Jamendo's, the highest of AudioSet's 527."""

SPREAD_PERCENT = (10, 90)
COURSE_POINTS = 60
CARRIED_STRETCHES = 4
SIMILAR = 6

Array = npt.NDArray[np.float32]


def describe(analysis: Analysis, tagger: Tagger, name: str) -> tuple[dict[str, Any], bytes]:
    """What the card of a song shows, as JSON, and the timeline.

    Returns
    -------
    description : dict
        Names; tags, classes or values in `Prediction.order` (score, threshold or None, state in words, grade, spread
        over time, column of the timeline); the scale, texts, and valence and arousal.
    timeline : bytes
        uint8 (frames, columns): scores from 0, the low end of the scale, to 255, the high end.
    """
    prediction, words = analysis.prediction, tagger.task.rules.page
    best = prediction.order[:SENT_TAGS].tolist()
    scale = prediction.scale or (0.0, 1.0)
    low, high = np.percentile(prediction.frame_scores, SPREAD_PERCENT, axis=0)
    peaks = prediction.frame_scores.max(axis=0)
    tags = [
        {
            "tag": prediction.targets[tag],
            "score": float(prediction.track_scores[tag]),
            **_decision(prediction, tagger, tag),
            "reliability": prediction.grades[tag],
            "spread": [float(low[tag]), float(high[tag])],
            "peak": float(peaks[tag]),
            "column": column,
        }
        for column, tag in enumerate(best)
    ]
    timeline = np.rint(255 * np.clip(prediction.share(prediction.frame_scores[:, best]), 0, 1)).astype(np.uint8)
    said = {name: text.format(None, *scale) for name, text in asdict(words).items() if isinstance(text, str)}
    description = {
        "name": name,
        "title": prediction.title,
        "artist": prediction.artist,
        "duration_s": prediction.duration_s,
        "tags": tags,
        "scale": list(scale),
        "words": said,
        "frames": len(timeline),
        "columns": timeline.shape[1],
        **_on_plane(prediction, tagger),
    }
    return description, timeline.tobytes()


def _decision(prediction: Prediction, tagger: Tagger, target: int) -> dict[str, Any]:
    """Whether a target is decided, by which threshold, and that in words."""
    words, value = tagger.task.rules.page, float(tagger.thresholds[target])
    threshold = value if words.thresholds and np.isfinite(value) else None
    decided = tagger.task.rules.columns[2] is not None and bool(prediction.decided[target])
    state = words.states[0 if decided else 1 if threshold is not None else 2]
    return {
        "threshold": threshold,
        "above_threshold": decided,
        "state": state.format(value, *(prediction.scale or (0.0, 1.0))),
    }


def describe_details(analysis: Analysis, tagger: Tagger, library: Library | None) -> tuple[dict[str, Any], bytes]:
    """What takes longer than the tags: why each was given, similar tracks, and the spectrogram.

    Returns
    -------
    details : dict
        ``why``: for each tag at most 4 stretches that carried it, in order, start and end in seconds; ``similar``:
        tracks of the library.
    spectrogram : bytes
        PNG of the whole file, without axes.
    """
    explanation = explain(tagger, analysis.frames)
    why = {
        tag: sorted([start_s, end_s] for start_s, end_s, _ in explanation.carried(column, CARRIED_STRETCHES))
        for column, tag in enumerate(analysis.prediction.targets)
    }
    found = [] if library is None else similarity.describe(library.similar(analysis.frames.mean(axis=0), SIMILAR))
    return {"why": why, "similar": [describe_track(track) for track in found]}, png_bytes(analysis.spectrogram)


def describe_track(track: Found) -> dict[str, Any]:
    """A track of a library for the browser's lists."""
    return {
        "key": track.key,
        "title": track.title,
        "artist": track.artist,
        "playable": track.file is not None,
        "note": ", ".join(f"{tag} {score:.2f}" for tag, score in track.tags),
        "fit": track.fit,
    }


def export(prediction: Prediction, form: str, name: str) -> tuple[str, str, bytes]:
    """A file to download: its name, its media type and its content.

    Parameters
    ----------
    prediction : Prediction
    form : str
        ``csv`` (all tags, as `jamendo-mood tag --format csv` prints them), ``json`` (with the timeline) or ``png``.
    name : str
        The name of the song's file.

    Raises
    ------
    KeyError
        There is no such format.
    """
    media, write = _EXPORTS[form]
    return f"{Path(name).stem or 'song'} moods.{form}", media, write(replace(prediction, source=name))


def _write_csv(prediction: Prediction) -> bytes:
    text = io.StringIO()
    write_csv([prediction], len(prediction.targets), text, timeline=False)
    return text.getvalue().encode()


def _write_json(prediction: Prediction) -> bytes:
    values = prediction.to_json(len(prediction.targets), timeline=True)
    return (plaintext.to_json(values, indent=1) + "\n").encode()


def _write_png(prediction: Prediction) -> bytes:
    return plot_song(prediction).to_png(dpi=150)


_EXPORTS = {
    "csv": ("text/csv", _write_csv),
    "json": ("application/json", _write_json),
    "png": ("image/png", _write_png),
}


def _on_plane(prediction: Prediction, tagger: Tagger) -> dict[str, Any]:
    """Valence and arousal of the song, and their course over it; None if the targets say nothing about them."""
    whole = emotions.place_of(tagger.task, tagger.thresholds, prediction.track_scores)
    if whole is None:
        return {"va": None}
    frames = emotions.place_of(tagger.task, tagger.thresholds, prediction.frame_scores)
    stretches = np.array_split(np.asarray(frames), min(COURSE_POINTS, len(prediction.frame_scores)))
    course = [stretch.mean(axis=0).round(3).tolist() for stretch in stretches]
    return {"va": whole.tolist(), "va_course": course, "va_source": tagger.task.rules.place_source}
