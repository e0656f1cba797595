"""What is shown of a song: a `Prediction` -> what the browser draws, and the files to take away."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import affect, playlists, plots, reports, spectrograms
from jamendo_mood.explanations import explain
from jamendo_mood.listening import Heard
from jamendo_mood.model import Tagger
from jamendo_mood.prediction import Prediction
from jamendo_mood.scratch import Scratch
from jamendo_mood.similarity import Found, Library
from jamendo_mood.uploads import Limits

SENT_TAGS = 60
"""Tags sent to the browser: all of Jamendo's, the highest of AudioSet's 527."""

SPREAD_PERCENT = (10, 90)
PICTURE_COLUMNS = 1_200
COURSE_POINTS = 60
CARRIED_STRETCHES = 4
SIMILAR = 6

Array = npt.NDArray[np.float32]


def describe(heard: Heard, tagger: Tagger, name: str) -> tuple[dict[str, Any], bytes]:
    """What the card of a song shows, as JSON, and the timeline.

    Returns
    -------
    description : dict
        Names, tags (highest first: score, threshold or None, grade, spread over time, column of the timeline) and the
        place on the plane of valence and arousal.
    timeline : bytes
        uint8 (frames, columns): scores, 255 being 1.
    """
    prediction = heard.prediction
    best = np.argsort(-prediction.track_scores, kind="stable")[:SENT_TAGS]
    low, high = np.percentile(prediction.frame_scores, SPREAD_PERCENT, axis=0)
    peaks = prediction.frame_scores.max(axis=0)
    tags = [
        {
            "tag": prediction.targets[tag],
            "score": float(prediction.track_scores[tag]),
            "threshold": float(tagger.tuned[tag]) if np.isfinite(tagger.tuned[tag]) else None,
            "above_threshold": bool(prediction.decided[tag]),
            "reliability": prediction.grades[tag],
            "spread": [float(low[tag]), float(high[tag])],
            "peak": float(peaks[tag]),
            "column": column,
        }
        for column, tag in enumerate(best)
    ]
    timeline = np.rint(255 * np.clip(prediction.frame_scores[:, best], 0, 1)).astype(np.uint8)
    description = {
        "name": name,
        "title": prediction.title,
        "artist": prediction.artist,
        "duration_s": prediction.duration_s,
        "tags": tags,
        "frames": len(timeline),
        "columns": timeline.shape[1],
        **_on_plane(prediction, tagger),
    }
    return description, timeline.tobytes()


def describe_details(
    path: Path, heard: Heard, tagger: Tagger, library: Library | None, limits: Limits
) -> tuple[dict[str, Any], bytes]:
    """What takes longer than the tags: why each tag, and similar tracks; and the spectrogram.

    Returns
    -------
    details : dict
        ``why``: of each tag the stretches that carried it, at most 4 in their order, start and end in seconds;
        ``similar``: tracks of the library.
    spectrogram : bytes
        PNG of the whole file, without axes.
    """
    with Scratch(limits.scratch) as scratch:
        picture = spectrograms.png_bytes(spectrograms.compute(path, scratch, columns=PICTURE_COLUMNS))
    explanation = explain(tagger, heard.frames)
    why = {
        tag: sorted([start_s, end_s] for start_s, end_s, _ in explanation.carried(column, CARRIED_STRETCHES))
        for column, tag in enumerate(heard.prediction.targets)
    }
    found = [] if library is None else playlists.describe(library.similar(heard.frames.mean(axis=0), SIMILAR))
    return {"why": why, "similar": [describe_track(track) for track in found]}, picture


def describe_track(track: Found) -> dict[str, Any]:
    """A track of a library, as the browser lists it."""
    return {
        "key": track.key,
        "title": track.title,
        "artist": track.artist,
        "playable": track.file is not None,
        "note": ", ".join(f"{tag} {score:.2f}" for tag, score in track.tags),
        "fit": track.fit,
    }


def export(prediction: Prediction, form: str, name: str) -> tuple[str, str, bytes]:
    """A file to take away: its name, its media type and its content.

    Parameters
    ----------
    prediction : Prediction
    form : str
        ``csv`` (all tags, as `jamendo-mood tag --format csv` prints them), ``json`` (with the timeline) or ``png``.
    name : str
        What the song's owner calls its file.

    Raises
    ------
    KeyError
        There is no such form.
    """
    media, write = _EXPORTS[form]
    return f"{Path(name).stem or 'song'} moods.{form}", media, write(replace(prediction, source=name))


def _write_csv(prediction: Prediction) -> bytes:
    text = io.StringIO()
    reports.write_csv([prediction], len(prediction.targets), text, timeline=False)
    return text.getvalue().encode()


def _write_json(prediction: Prediction) -> bytes:
    values = prediction.to_json(len(prediction.targets), timeline=True)
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _write_png(prediction: Prediction) -> bytes:
    buffer = io.BytesIO()
    plots.plot_song(prediction).savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


_EXPORTS = {
    "csv": ("text/csv", _write_csv),
    "json": ("application/json", _write_json),
    "png": ("image/png", _write_png),
}


def _on_plane(prediction: Prediction, tagger: Tagger) -> dict[str, Any]:
    """Valence and arousal of the song and its course, if its tags say anything of them."""
    whole = affect.va_of_scores(prediction.track_scores, tagger.tuned, prediction.targets)
    if whole is None:
        return {"va": None}
    frames = affect.va_of_scores(prediction.frame_scores, tagger.tuned, prediction.targets)
    stretches = np.array_split(np.asarray(frames), min(COURSE_POINTS, len(prediction.frame_scores)))
    course = [stretch.mean(axis=0).round(3).tolist() for stretch in stretches]
    return {"va": whole.tolist(), "va_course": course, "va_source": "from the tags"}
