"""`TagWidget` and `FindWidget`: the pages of `session` in a notebook.

Their scripts and sessions speak in messages and not by traits, since traits are saved with a notebook, and an upload or
a result must not be.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
from IPython.display import DisplayHandle, display

from jamendo_mood.app.session import FIND_SCRIPTS, TAG_SCRIPTS, FindSession, Session, TagSession, read_static
from jamendo_mood.app.songs import SongQueue
from jamendo_mood.embedders.registry import Embedder, load_embedder
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.tagging.prediction import Prediction, plot_song
from jamendo_mood.training.model import Tagger, choose_builtin, load_builtin
from jamendo_mood.util.errors import MoodError

FALLBACK_AFTER_S = 8
SAVED_DPI = 80  # of the picture in a notebook: some 30 kB


class ScriptWidget(anywidget.AnyWidget):  # type: ignore[misc]
    """A widget drawn by the function `render` of scripts of ``static/``; its messages go to a session."""

    session: Session

    def __init__(self, scripts: Sequence[str], render: str) -> None:
        self._esm = f"{read_static(*scripts)}export default {{ render: {render} }};"
        self._css = read_static("style.css")
        super().__init__()
        self.on_msg(lambda _, message, buffers: self.session.receive(message, buffers))


class TagWidget(widgets.VBox):  # type: ignore[misc]
    """Upload songs, or name one on this machine, and see the moods of each, for the whole song and over time.

    Songs are analysed one after the other in a thread of the widget's own, so the notebook stays free. An upload is
    deleted when its moods are known. If a notebook cannot show the widget, a plain upload button takes its place. With
    the notebook a picture of the last song is saved, for those who read it where no widgets are shown.

    Parameters
    ----------
    tagger : Tagger or None
        None is the tagger that comes with the package.
    embedder : Embedder or None
        The one that the tagger was trained on; None loads it with the first song.
    library : Library or None
        Where to look for similar tracks.
    limits : Limits or None
        For files; None is 200 MB and two hours.

    Attributes
    ----------
    predictions : list of Prediction
        For the songs tagged so far, the newest last.

    Raises
    ------
    UsageError
        The tagger needs another embedder.
    """

    def __init__(
        self,
        tagger: Tagger | None = None,
        embedder: Embedder | None = None,
        *,
        library: Library | None = None,
        limits: Limits | None = None,
    ) -> None:
        tagger = load_builtin(choose_builtin()) if tagger is None else tagger
        if embedder is not None:
            tagger.check_spec(embedder.spec)
        self.predictions: list[Prediction] = []
        limits = limits or Limits()
        load = (lambda: embedder) if embedder else (lambda: load_embedder(tagger.spec))
        self._queue = SongQueue(tagger, load, library, limits)
        self.browser = ScriptWidget(TAG_SCRIPTS, "renderTagging")
        self.session = self.browser.session = TagSession(self.browser.send, self._queue)
        self.fallback = Fallback(self.session.add_bytes, self.session.add_path if limits.paths else None)
        self.session.on_hello, self.session.on_failure = self.fallback.put_away, self.fallback.say
        self.session.on_prediction = self._keep
        self._picture: DisplayHandle | None = None
        self._last: Prediction | None = None
        super().__init__([self.browser, self.fallback])

    def tag_file(self, path: Path | str, name: str | None = None) -> Prediction:
        """Tag a file on this machine, show it under `name`, and return the prediction.

        Raises `MoodError` if it could not be tagged; the widget shows that, too.
        """
        return self._queue.wait(self.session.add_path(path, name))

    def tag_bytes(self, name: str, content: bytes) -> Prediction:
        """Tag the content of a file; its copy on disk is deleted once it is shown. Raises as `tag_file` does."""
        return self._queue.wait(self.session.add_bytes(name, content))

    def ask_colab(self) -> list[Prediction]:
        """Open Google Colab's own upload dialog, wait for it, and tag what was chosen.

        For a Colab that does not show the widget; works in a cell that is run by hand. Raises as `tag_file` does.
        """
        from google.colab import files

        return [self.tag_bytes(name, content) for name, content in files.upload().items()]

    def close(self) -> None:
        """End the widget: cancel waiting songs and delete all uploads."""
        if "fallback" in self.__dict__:  # Python also closes a widget that could not be made
            self.session.close()
            self._queue.close()
        super().close()

    def _ipython_display_(self) -> None:
        # Two outputs: the widget, and below it the picture, which style.css hides as long as the widget is shown.
        display(self._repr_mimebundle_(), raw=True)
        self._picture = self._picture or DisplayHandle()
        self._picture.display(self._last_song(), raw=True)

    def _last_song(self) -> dict[str, str]:
        if self._last is None:
            return {"text/plain": ""}
        picture = plot_song(self._last).to_png(dpi=SAVED_DPI)
        return {"image/png": base64.b64encode(picture).decode(), "text/plain": repr(self._last)}

    def _keep(self, name: str, prediction: Prediction) -> None:
        self.predictions.append(prediction)
        self._last = replace(prediction, source=name)
        if self._picture is not None:
            self._picture.update(self._last_song(), raw=True)
        self.fallback.show(name, prediction)


_LATE = f"""<style>
.jm-fallback {{ animation: jm-late 0s {FALLBACK_AFTER_S}s both; }}
@keyframes jm-late {{ from {{ visibility: hidden; }} to {{ visibility: visible; }} }}
</style>"""


class Fallback(widgets.VBox):  # type: ignore[misc]
    """A plain upload button that appears some seconds later, unless the browser shows the widget's script before.

    `add_bytes` is called with name and content of an upload, `add_path` with a file on this machine; None offers none.
    Once it is put away, it shows nothing more: that would be saved with the notebook.
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
        self.in_use = True  #: whether people see it
        self.upload.observe(self._on_upload, names="value")
        self.path.observe(self._on_path, names="value")

    def put_away(self) -> None:
        """Hide this: the script works."""
        self.in_use, self.layout.display = False, "none"
        self.results.children = ()

    def say(self, text: str) -> None:
        """Show a line of text."""
        if self.in_use:
            self.status.value = html.escape(text)

    def show(self, name: str, prediction: Prediction) -> None:
        """Show the moods of a song as a picture, the newest on top."""
        if self.in_use:
            self.say("")
            heading = widgets.HTML(f"<h3>{html.escape(name)}</h3>")
            content, layout = plot_song(prediction).to_png(dpi=110), widgets.Layout(max_width="100%")
            song = widgets.VBox([heading, widgets.Image(value=content, format="png", layout=layout)])
            self.results.children = (song, *self.results.children)

    def _on_upload(self, change: Mapping[str, Any]) -> None:
        files = [(str(file["name"]), bytes(file["content"])) for file in change["new"]]
        if files:
            self.upload.value = ()  # uploaded bytes would be saved with the notebook
        for name, content in files:
            self.say(f"Analysing {name} ...")
            try:
                self._add_bytes(name, content)
            except MoodError as error:
                self.say(str(error))

    def _on_path(self, change: Mapping[str, Any]) -> None:
        path = change["new"].strip()
        if path and self._add_path is not None:
            self.say(f"Analysing {path} ...")
            self._add_path(path)


class FindWidget(widgets.VBox):  # type: ignore[misc]
    """Ask for moods by sliders, a point or a path on the plane, or an emotion, and get a playlist.

    If the library has files, tracks can be played and playlists saved; the `paths` of the limits says whether playlists
    may name files, and emotions may be remembered on this machine.
    """

    def __init__(self, library: Library, *, limits: Limits | None = None) -> None:
        self.browser = ScriptWidget(FIND_SCRIPTS, "renderFinding")
        self.session = self.browser.session = FindSession(self.browser.send, library, limits or Limits())
        super().__init__([self.browser])

    @property
    def found(self) -> list[Found]:
        """The result of the last query."""
        return self.session.found

    def close(self) -> None:
        """End the widget."""
        if "session" in self.__dict__:  # Python also closes a widget that could not be made
            self.session.close()
        super().close()
