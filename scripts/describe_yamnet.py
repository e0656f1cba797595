"""What YAMNet's 521 classes say of some songs, and what TFLite's interpreter makes of its embeddings: docs/yamnet.md.

    python scripts/describe_yamnet.py MUSIC_DIR --weights yamnet.tflite [--tracks tracks.tsv]

The class names are read from `yamnet_class_map.csv` beside the weights.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import DECODERS, DEFAULT_DECODER, cut, find_audio
from jamendo_mood.embedders import vggish, yamnet
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.extraction.streaming import StreamConfig, embed_files
from jamendo_mood.util.files import Scratch

SHOWN = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what YAMNet's classes say of some songs.")
    parser.add_argument("music", type=Path, help="folder of audio files")
    parser.add_argument("--weights", type=Path, help="see `jamendo-mood extract --help`")
    parser.add_argument("--tracks", type=Path, help="a table with the columns path, artist, title, genre and licence")
    arguments = parser.parse_args()
    titles = read_titles(arguments.tracks) if arguments.tracks else {}
    weights = yamnet.WEIGHTS.find(arguments.weights)
    names = read_class_names(weights)
    embedder = load_embedder("yamnet-scores", EmbedderOptions(weights))
    started = time.perf_counter()
    results = list(embed_files(find_audio(arguments.music), embedder, StreamConfig()))
    wall_s = time.perf_counter() - started
    print_songs({result.key: result.frames.mean(axis=0) for result in results}, names, titles)
    seconds, rows = sum(result.duration_s for result in results), sum(len(result.frames) for result in results)
    print(
        f"\n{rows} windows of {seconds / 60:.1f} min of sound in {wall_s:.1f} s: {seconds / wall_s:.0f}x real time.\n"
    )
    print_sizes()
    if weights.is_file():
        print_agreement(weights, list(find_audio(arguments.music).values()))


def read_class_names(weights: Path) -> tuple[str, ...]:
    folder = weights / "assets" if weights.is_dir() else weights.parent
    with (folder / "yamnet_class_map.csv").open(encoding="utf-8", newline="") as file:
        return tuple(row["display_name"] for row in csv.DictReader(file))


def read_titles(table: Path) -> dict[str, str]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {
        row["path"].removesuffix(".mp3"): f"{row['artist']}, *{row['title']}* ({row['genre']}; {row['licence']})"
        for row in rows
    }


def print_songs(means: dict[str, np.ndarray], names: tuple[str, ...], titles: dict[str, str]) -> None:
    moods = range(names.index("Happy music"), names.index("Scary music") + 1)
    genres = range(names.index("Pop music"), moods.start)
    groups = {"all classes": range(len(names)), "genres and uses": genres, "moods": moods}
    for key, scores in sorted(means.items()):
        print(f"- {titles.get(key, key)}")
        for name, group in groups.items():
            print(f"  - {name}: {list_highest(scores, names, group)}")


def list_highest(scores: np.ndarray, names: tuple[str, ...], group: range) -> str:
    best = sorted(group, key=lambda index: -scores[index])[:SHOWN]
    return ", ".join(f"{names[index]} {scores[index]:.3f}" for index in best)


def print_sizes() -> None:
    ours = sum(int(np.prod(shape)) for shape in yamnet.variable_shapes().values())
    theirs = sum(int(np.prod(shape)) for shape in vggish.SHAPES.values())
    print(f"Parameters: YAMNet {ours:,}, VGGish {theirs:,}.")
    print(f"Multiply-adds a patch: YAMNet {count_multiply_adds():,}, VGGish 863,895,552.")


def print_agreement(weights: Path, songs: list[Path]) -> None:
    """How near the embeddings of TFLite's interpreter are to ours, over a window every 10 s of each song."""
    network = load_embedder("yamnet", EmbedderOptions(weights)).network
    ours, theirs = [], []
    with Scratch() as scratch:
        for song in songs:
            for wave in cut(DECODERS[DEFAULT_DECODER](song, scratch), song, 160_000):
                if len(wave) >= spectrograms.PATCH_SAMPLES:
                    ours.append(network(yamnet.patches(wave[: spectrograms.PATCH_SAMPLES]))[0])
                    theirs.append(wave[: spectrograms.PATCH_SAMPLES])
    resolvers = tf.lite.experimental.OpResolverType
    kinds = {"with XNNPACK": resolvers.AUTO, "without": resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    found = {name: interpret(weights, theirs, kind) for name, kind in kinds.items()}
    for name, rows in found.items():
        print(f"- {name}, to ours: {describe_cosines(rows, np.array(ours))}")
    print(f"- one to the other: {describe_cosines(*found.values())}")


def interpret(weights: Path, waves: list[np.ndarray], kind: tf.lite.experimental.OpResolverType) -> np.ndarray:
    """The embeddings by TFLite's interpreter, a window at a time."""
    interpreter = tf.lite.Interpreter(
        str(weights), experimental_op_resolver_type=kind, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    (embedding,) = (
        tensor["index"]
        for tensor in interpreter.get_tensor_details()
        if tensor["name"].partition(";")[0] == "yamnet_frames/global_average_pooling2d/Mean"
    )
    rows = []
    for wave in waves:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], wave)
        interpreter.invoke()
        rows.append(interpreter.get_tensor(embedding)[0])
    return np.array(rows)


def describe_cosines(found: np.ndarray, expected: np.ndarray) -> str:
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    return f"cosine {np.median(cosines):.3f} in the median, {cosines.min():.3f} at least, of {len(cosines)} windows"


def count_multiply_adds() -> int:
    """Of one patch: a kernel's numbers times the places that it is laid on."""
    height, width, total = 96, 64, yamnet.DIM * yamnet.CLASSES
    for shape, stride in yamnet.CONVOLUTIONS.values():
        height, width = (-(-length // stride) for length in (height, width))
        total += int(np.prod(shape)) * height * width
    return total


if __name__ == "__main__":
    main()
