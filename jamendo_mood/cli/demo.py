"""The demo: the real commands, one after the other, on a corpus that it makes itself."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from jamendo_mood.cli import synthesis
from jamendo_mood.embedders import vggish
from jamendo_mood.embedders.registry import EmbedderOptions
from jamendo_mood.util.errors import WeightsError

Command = Callable[[list[str]], int]


def run_demo(out: Path, embedder: str | None, options: EmbedderOptions, seed: int, command: Command) -> int:
    """Make a corpus, then extract, train, evaluate and tag a song that was not trained on.

    Parameters
    ----------
    out : Path
        Folder for everything.
    embedder : str or None
        None takes VGGish if its weights are on this machine, else logmel.
    options : EmbedderOptions
    seed : int
        Of the music and of the training.
    command : callable
        The command line: arguments to exit status.

    Returns
    -------
    int
        Exit status: 0, or that of the step that failed; 1 if the tagger learned nothing.
    """
    name = _choose(embedder, options)
    store, tagger, report = out / f"embeddings-{name}", out / f"tagger-{name}", out / f"report-{name}"
    songs = synthesis.make_corpus(out, seed)
    print(f"\n[1/5] Music: {len(songs)} songs of 12 s in {out / 'audio'}, each with one or two of the moods")
    print(f"      {', '.join(synthesis.MOODS)}; tables and a split without shared artists beside it.")
    print(f"      They are synthesised from seed {seed}: nothing learned from them says anything about real music.")

    weights = ["--weights", str(options.weights)] if options.weights else []
    weights += ["--pca", str(options.pca)] if options.pca else []
    weights += ["--allow-untrained"] if options.allow_untrained else []
    data = ["--data", str(out), "--store", str(store)]
    song = next(song for song in songs if song.part == "test" and len(song.moods) == 2)
    steps = (
        ("Embeddings: each MP3 to WAV, to numbers, to disk; the WAV is dropped", [
            "extract", str(out / "audio"), "--store", str(store), "--embedder", name, *weights,
        ]),
        ("Training a tagger on the stored embeddings", [
            "train", "--task", "jamendo", *data, "--out", str(tagger), "--seed", str(seed),
        ]),
        ("How good it is, on artists it has not heard", [
            "evaluate", str(tagger), *data, "--out", str(report),
        ]),
        (f"Tagging a song it has not heard, whose moods are: {', '.join(song.moods)}", [
            "tag", str(out / "audio" / song.path), "--tagger", str(tagger), *weights,
        ]),
    )  # fmt: skip
    for number, (title, arguments) in enumerate(steps, start=2):
        print(f"\n[{number}/5] {title}\n$ jamendo-mood {shlex.join(arguments)}", flush=True)
        status = command(arguments)
        if status:
            return status
    figures = json.loads((report / "scores.json").read_text())
    ratio = figures["PR-AUC-macro"] / figures["prior-macro"]
    print(f"Test PR-AUC {figures['PR-AUC-macro']:.3f}, {ratio:.1f} times the prior {figures['prior-macro']:.3f}.")
    print(f"Files: embeddings in {store}, tagger in {tagger}, scores and pictures in {report}/report.html.")
    if ratio < 2:
        return 1
    program = _find_program()
    print("\nNext, a song of your own, from any audio file:")
    print(f"  {program} tag SONG.mp3")
    print("      seven moods of real music, by the tagger in the package; downloads VGGish's weights first (275 MB)")
    print(f"  {program} tag SONG.mp3 --tagger {shlex.quote(str(tagger))}")
    print("      at once, by the tagger above, which knows synthesised music only")
    print(f"  {program} web --tagger {shlex.quote(str(tagger))}")
    print("      the same on a page in the browser: drop songs on it")
    print("To learn your own tags from your own music: notebooks/02_train.ipynb, or `jamendo-mood train --help`.")
    return 0


def _find_program() -> str:
    """What to type for this very command: its name where the shell finds it, else the path it was started by."""
    name = "jamendo-mood"
    return name if shutil.which(name) or Path(sys.argv[0]).name != name else sys.argv[0]


def _choose(embedder: str | None, options: EmbedderOptions) -> str:
    """The embedder to use; the first line of the demo says which and why."""
    if embedder is not None:
        print(f"Demo with the embedder {embedder}, as asked.")
        return embedder
    try:
        weights = vggish.find_weights(options.weights, download=False)
    except WeightsError:
        print("Demo with the embedder logmel: VGGish's weights are not on this machine (README: how to get them).")
        return "logmel"
    print(f"Demo with the embedder vggish, weights from {weights}.")
    return "vggish"
