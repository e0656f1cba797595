"""Write a store and taggers as this version writes them, with what they score: ``python tests/saved/make.py FOLDER``.

Later versions must read them and give the same scores, see ``tests/test_saved.py``. Only the public names are used, so
that this file runs with any version.
"""

import json
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from toy_examples import CLASSES, CURVES, DIM, SPEC, TASK, VALUES, label_anew, make_examples

from jamendo_mood import EmbeddingStore, Tagger, TrainConfig, extract, find_audio, fit, load_embedder

FRAMES = np.random.default_rng(5).standard_normal((14, DIM), dtype=np.float32)
"""What the taggers score."""

HEADS = {
    "linear": {"pooling": "mean+std"},
    "mlp": {"hidden": "4", "layers": "1", "pooling": "mean"},
    "attention": {"hidden": "4", "layers": "2"},
    "conv1d": {"hidden": "4", "layers": "1"},
    "gru": {"hidden": "4", "layers": "1"},
    "cnn": {"hidden": "4", "layers": "2"},
}


def write_sound(path, hz, seconds):
    time_s = np.arange(int(16_000 * seconds)) / 16_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((9_000 * np.sin(2 * np.pi * hz * time_s)).astype("<i2").tobytes())


def make_store(folder):
    sounds = folder / "sounds" / "07"
    sounds.mkdir(parents=True)
    for number, hz in ((1007, 220), (2007, 440), (3007, 880)):
        write_sound(sounds / f"{number}.wav", hz, 2.0)
    embedder = load_embedder("logmel")
    store = EmbeddingStore(folder / "store", embedder.spec)
    extract(find_audio(folder / "sounds"), embedder, store)
    for path in sounds.iterdir():
        path.unlink()
    sounds.rmdir()
    sounds.parent.rmdir()
    store.pack()
    np.savez_compressed(folder / "store.npz", **{key.replace("/", "-"): store[key] for key in sorted(store)})


def make_tagger(folder, name, task):
    settings = {**HEADS[name], "epochs": "2", "ensemble": "2" if name == "linear" else "1"}
    spec, examples = SPEC, [make_examples(40, seed) for seed in (0, 1)]
    if name == "cnn":  # which sees patches
        widen = np.random.default_rng(9).standard_normal((DIM, 96 * 4), dtype=np.float32)
        examples = [replace(part, frames=tuple(frames @ widen for frames in part.frames)) for part in examples]
        spec = replace(SPEC, dim=96 * 4)
    examples = [part if task is TASK else label_anew(part, task) for part in examples]
    if task.rate_hz is not None:
        examples = [replace(part, times_s=np.zeros(len(part), np.float32)) for part in examples]
    tagger = fit(*examples, task, spec, TrainConfig.for_head(name).updated(settings))
    tagger.save(folder)
    return tagger


def score(tagger):
    """Scores of the whole track, and of each moment of it."""
    frames = FRAMES
    if tagger.head.name == "cnn":
        frames = FRAMES @ np.random.default_rng(9).standard_normal((DIM, 96 * 4), dtype=np.float32)
    return {"track": tagger.score_track(frames).tolist(), "frames": tagger.score_frames(frames).tolist()}


def main(folder):
    folder.mkdir(parents=True)
    make_store(folder)
    wanted = [(name, TASK) for name in HEADS] + [("linear", CLASSES), ("mlp", VALUES), ("attention", CURVES)]
    scores = {}
    for name, task in wanted:
        tagger = f"{name}-{task.name.replace(' ', '-')}"
        make_tagger(folder / tagger, name, task)
        scores[tagger] = score(Tagger.load(folder / tagger))
    (folder / "scores.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
