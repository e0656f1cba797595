"""What a notebook shows that cannot show the page: an upload button, a box for a path, and pictures."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from jamendo_mood.tagging import song_plots
from jamendo_mood.tagging.prediction import Prediction
from jamendo_mood.util.errors import MoodError

APPEARS_AFTER_S = 8
_LATE = f"""<style>
.jm-fallback {{ animation: jm-late 0s {APPEARS_AFTER_S}s both; }}
@keyframes jm-late {{ from {{ visibility: hidden; }} to {{ visibility: visible; }} }}
</style>"""


class Fallback(widgets.VBox):  # type: ignore[misc]
    """Comes into sight some seconds after it was shown, unless it was put away before, because the page is there.

    Parameters
    ----------
    add_bytes : callable (name, content)
        Takes an upload.
    add_path : callable (path) or None
        Takes a file of this machine; None offers no such thing.
    """

    def __init__(
        self, add_bytes: Callable[[str, bytes], object], add_path: Callable[[str], object] | None = None
    ) -> None:
        self._add_bytes, self._add_path = add_bytes, add_path
        self.upload = widgets.FileUpload(accept="audio/*", multiple=True, description="Upload audio")
        self.path = widgets.Text(placeholder="or a path on this machine, then Enter", continuous_update=False)
        self.status = widgets.HTML()
        self.results = widgets.VBox()
        controls = [self.upload] if add_path is None else [self.upload, self.path]
        super().__init__([widgets.HTML(_LATE), widgets.HBox(controls), self.status, self.results])
        self.add_class("jm-fallback")
        self.upload.observe(self._on_upload, names="value")
        self.path.observe(self._on_path, names="value")

    @property
    def in_use(self) -> bool:
        """Whether it is what people see."""
        return bool(self.layout.display != "none")

    def put_away(self) -> None:
        """The page is there: this is not needed."""
        self.layout.display = "none"
        self.results.children = ()  # pictures would be saved with the notebook

    def say(self, text: str) -> None:
        """Show a line of text."""
        self.status.value = html.escape(text)

    def show(self, name: str, prediction: Prediction) -> None:
        """Show the moods of a song as a picture, the newest on top."""
        self.say("")
        content = song_plots.plot_song(prediction).to_png(dpi=110)
        heading = widgets.HTML(f"<h3>{html.escape(name)}</h3>")
        image = widgets.Image(value=content, format="png", layout=widgets.Layout(max_width="100%"))
        self.results.children = (widgets.VBox([heading, image]), *self.results.children)

    def _on_upload(self, change: Mapping[str, Any]) -> None:
        files = [(str(file["name"]), bytes(file["content"])) for file in change["new"]]
        if files:
            self.upload.value = ()  # uploaded bytes would be saved with the notebook
        for name, content in files:
            self.say(f"Listening to {name} ...")
            try:
                self._add_bytes(name, content)
            except MoodError as error:
                self.say(str(error))

    def _on_path(self, change: Mapping[str, Any]) -> None:
        path = change["new"].strip()
        if path and self._add_path is not None:
            self.say(f"Listening to {path} ...")
            self._add_path(path)
