"""The way of an MP3 through the package, as docs/architecture.md tells it."""

import inspect
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import jamendo_mood
from jamendo_mood.cli import main as command_line
from jamendo_mood.store.embedding_store import EmbeddingStore

PACKAGE = Path(jamendo_mood.__file__).parent
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"
MAX_FILES = 8


def trace(run):
    """The files of the package whose functions a call enters, in order, in whatever thread, without ``util/``.

    Bodies of modules and classes, which run when something is imported, are not functions.
    """
    entered = {}

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(f"{PACKAGE}/"):
            entered.setdefault(Path(code.co_filename).relative_to(PACKAGE).as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return [name for name in entered if not name.startswith("util/")]


def test_an_mp3_becomes_an_embedding_in_few_files_which_the_docs_list(make_audio, noise, tmp_path, monkeypatch):
    make_audio(tmp_path / "music" / "song.mp3", noise(3), rate_hz=16_000)

    def extract(store):
        """Run the command, the parser's construction and its work left out: it knows the options of all commands."""
        words = ["extract", str(tmp_path / "music"), "--store", str(store), "--embedder", "logmel"]
        arguments = command_line.build_parser().parse_args(words)
        with monkeypatch.context() as patch:
            patch.setattr(command_line, "build_parser", lambda: SimpleNamespace(parse_args=lambda _: arguments))
            return trace(lambda: command_line.main(words))

    extract(tmp_path / "first")  # which imports what the command imports
    entered = extract(tmp_path / "store")
    assert EmbeddingStore(tmp_path / "store")["song"].shape == (3, 128)

    text = ARCHITECTURE.read_text(encoding="utf-8")
    section = text.partition("\n## From an MP3 to its .npy\n")[2].partition("\n## ")[0]
    assert entered == re.findall(r"^\d\. `(\S+\.py)`", section, re.MULTILINE)
    assert len(entered) <= MAX_FILES
