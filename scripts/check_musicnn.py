"""Compare musicnn, from the sound on, with the graph that its authors released, fed by librosa with their parameters.

    python scripts/check_musicnn.py musicnn-0.1.0-py3-none-any.whl SONG...

prints for each song the largest difference of log-mel values and of rows, in standard deviations of the reference, and
last the reference for a sound that `tests/embedders/test_musicnn.py` makes. The wheel comes by
``pip download --no-deps musicnn==0.1.0``; the graph is built from its ``.meta``, and none of its code runs. Needs the
extra ``classical``.
"""

import argparse
import tempfile
import zipfile
from pathlib import Path

import librosa
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from jamendo_mood.audio import decoding
from jamendo_mood.embedders import engines, musicnn
from jamendo_mood.util.files import Scratch

INPUT, TRAINING = "model/Placeholder", "model/Placeholder_2"
ROWS, SCORES = "model/batch_normalization_10/batchnorm/add_1", "model/Sigmoid"
RATE_HZ = decoding.SAMPLE_RATE_HZ


def load_reference(wheel: Path) -> "callable":
    """The released graph: patches (n, 187, 96) -> rows (n, 200) and scores of all tags (n, 50)."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        for suffix in (".index", ".data-00000-of-00001"):
            Path(folder, f"released{suffix}").write_bytes(archive.read(f"musicnn/MSD_musicnn/{suffix}"))
        meta = MetaGraphDef.FromString(archive.read("musicnn/MSD_musicnn/.meta"))
        reader = tf.train.load_checkpoint(str(Path(folder, "released")))
        released = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    # What trained it has attributes that TensorFlow does not take any more.
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [ROWS, SCORES])
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    session = tf.compat.v1.Session(graph=graph)
    for op in graph.get_operations():
        if op.type in {"VariableV2", "Variable"}:
            assign = f"{op.name}/Assign"
            with graph.as_default():
                session.run(tf.compat.v1.assign(op.outputs[0], released[op.name], name=assign))

    def run(patches):
        feed = {f"{INPUT}:0": patches, f"{TRAINING}:0": False}
        return session.run([f"{ROWS}:0", f"{SCORES}:0"], feed)

    return run


def reference_patches(wave: np.ndarray) -> np.ndarray:
    """Log-mel patches by librosa with the wheel's parameters, each of its own 3 s of sound, one a second."""
    found = []
    for start in range(0, len(wave) - musicnn.PATCH_SAMPLES + 1, RATE_HZ):
        sound = wave[start : start + musicnn.PATCH_SAMPLES]
        mel = librosa.feature.melspectrogram(y=sound, sr=RATE_HZ, n_fft=512, hop_length=256, n_mels=96, center=False)
        found.append(np.log10(10000 * mel.T + 1))
    return np.array(found, np.float32)


def make_sound() -> np.ndarray:
    """Five seconds of a chord and a beat, as in the test."""
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in (220, 277.18, 329.63, 1760))
    return (0.1 * chord * (0.2 + (time_s % 0.5 < 0.1))).astype(np.float32)


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, in standard deviations."""
    return float(np.abs(ours - theirs).max() / theirs.std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("songs", type=Path, nargs="*", metavar="SONG")
    arguments = parser.parse_args()
    reference = load_reference(arguments.wheel)
    variables = musicnn.read_weights(arguments.wheel)
    network = engines.build(musicnn.define(variables))
    for song in arguments.songs:
        with Scratch() as scratch, decoding.converted(song, scratch) as wav:
            (wave,) = decoding.read_blocks(wav, decoding.count_samples(wav))
        ours, theirs = musicnn.patches(wave), reference_patches(wave)
        rows, scores = map(
            np.concatenate, zip(*(reference(theirs[at : at + 8]) for at in range(0, len(theirs), 8)), strict=True)
        )
        own = 1 / (1 + np.exp(-(network(ours) @ variables["dense_1/kernel"] + variables["dense_1/bias"])))
        print(
            f"{song.name}: {len(ours)} patches; log-mel {largest(ours, theirs):.1e}, rows "
            f"{largest(network(ours), rows):.1e} of a standard deviation, scores by {abs(own - scores).max():.1e}"
        )
        best = np.argsort(-scores.mean(axis=0))[:8]
        print("   ", ", ".join(f"{musicnn.TAGS[tag]} {scores[:, tag].mean():.2f}" for tag in best))
    rows, scores = reference(reference_patches(make_sound()))
    print(
        "test:",
        rows.shape,
        rows[:, :3].tolist(),
        rows.mean(axis=1).tolist(),
        rows.std(axis=1).tolist(),
        scores[0, :5].tolist(),
    )


if __name__ == "__main__":
    main()
