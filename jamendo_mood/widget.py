"""The notebook widget: upload a song, read its mood tags. It draws a `Prediction` and does nothing else."""

from __future__ import annotations

import html
import io
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from jamendo_mood import plots
from jamendo_mood.audio import AUDIO_SUFFIXES
from jamendo_mood.embedders import Embedder
from jamendo_mood.errors import MoodError
from jamendo_mood.model import Tagger
from jamendo_mood.prediction import Prediction, predict


class TagWidget(widgets.VBox):  # type: ignore[misc]
    """Upload audio files, or name one on this machine, and see the tags of each as bars and over time.

    Parameters
    ----------
    tagger : Tagger
    embedder : Embedder
        What the tagger was trained on.
    count : int
        Tags shown.

    Attributes
    ----------
    predictions : list of Prediction
        Of the songs tagged so far, the newest last.
    """

    def __init__(self, tagger: Tagger, embedder: Embedder, count: int = 10) -> None:
        tagger.check_spec(embedder.spec)
        self._tagger, self._embedder, self._count = tagger, embedder, count
        self.predictions: list[Prediction] = []
        self.upload = widgets.FileUpload(accept="audio/*", multiple=True, description="Upload audio")
        self.path = widgets.Text(placeholder="or a path on this machine, then Enter", continuous_update=False)
        self.status = widgets.HTML()
        self.results = widgets.VBox()
        super().__init__([widgets.HBox([self.upload, self.path]), self.status, self.results])
        self.upload.observe(self._on_upload, names="value")
        self.path.observe(self._on_path, names="value")

    def tag_bytes(self, name: str, content: bytes) -> None:
        """Tag an uploaded file; its copy on disk is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="jamendo-mood-upload-") as folder:
            # Of the name only a known ending is used: it comes from outside.
            suffix = Path(name).suffix.lower()
            path = Path(folder) / ("upload" + (suffix if suffix in AUDIO_SUFFIXES else ""))
            path.write_bytes(content)
            self.tag_file(path, name)

    def tag_file(self, path: Path, name: str) -> None:
        """Tag a file on this machine and show it under `name`; an error is shown in its place."""
        self.status.value = html.escape(f"Listening to {name} ...")
        try:
            prediction = predict(path, self._tagger, self._embedder)
        except MoodError as error:
            self.status.value = html.escape(f"{name}: {str(error).replace(str(path), 'this file')}")
            return
        self.predictions.append(prediction)
        self.status.value = ""
        figures = [plots.plot_tags(prediction, self._count), plots.plot_timeline(prediction, self._count)]
        heading = widgets.HTML(f"<h3>{html.escape(_headline(prediction, name))}</h3>")
        self.results.children = (widgets.VBox([heading, *map(_as_image, figures)]), *self.results.children)

    def _on_upload(self, change: Mapping[str, Any]) -> None:
        files: Iterable[Mapping[str, Any]] = change["new"]
        if files:
            self.upload.value = ()  # uploaded bytes would be saved with the notebook
        for file in files:
            self.tag_bytes(str(file["name"]), bytes(file["content"]))

    def _on_path(self, change: Mapping[str, Any]) -> None:
        if change["new"].strip():
            path = Path(change["new"].strip()).expanduser()
            self.tag_file(path, path.name)


def _headline(prediction: Prediction, name: str) -> str:
    named = " - ".join(text for text in (prediction.artist, prediction.title) if text)
    minutes, seconds = divmod(round(prediction.duration_s), 60)
    return f"{named or name} ({minutes}:{seconds:02d})"


def _as_image(figure: Any) -> widgets.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return widgets.Image(value=buffer.getvalue(), format="png", layout=widgets.Layout(max_width="100%"))
