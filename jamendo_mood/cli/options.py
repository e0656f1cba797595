"""The options of each command, and the help that teaches them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from jamendo_mood.cli import argtypes, copy_options, mood_commands, ray_options


def add_extract(parser: argparse.ArgumentParser) -> None:
    """Options of `extract`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "audio_dir", type=argtypes.place, nargs="?", metavar="AUDIO_DIR", help="folder of audio files, any depth"
    )
    source.add_argument(
        "--from-jamendo",
        nargs="?",
        const="low",
        choices=("low", "full"),
        help="fetch the MP3s of --tracks from MTG's server, in low quality (46 GB in all) or full (152 GB); each is "
        "deleted once it is embedded",
    )
    _add_download(parser)
    parser.add_argument(
        "--store", type=argtypes.place, required=True, metavar="DIR", help="store to write or go on with"
    )
    parser.add_argument(
        "--embedder",
        default="vggish",
        help="vggish (default), vggish-pca, yamnet, yamnet-scores, or without weights logmel, handcrafted, and "
        "mel-patches, spectrogram-patches, mfcc-patches",
    )
    parser.add_argument(
        "--hop", type=float, metavar="SECONDS", help="step from window to window, such as 0.5 (default: the embedder's)"
    )
    _add_weights(parser)
    parser.add_argument("--tracks", type=Path, metavar="TSV", help="only the tracks of this table (MTG's TSV)")
    parser.add_argument(
        "--shard", type=argtypes.shard, metavar="I/N", help="only part I of N, the same on every machine"
    )
    parser.add_argument("--limit", type=argtypes.positive, metavar="N", help="only the first N of these tracks")
    parser.add_argument("--retry-failed", action="store_true", help="try tracks again that failed in earlier runs")
    parser.add_argument(
        "--scratch", type=Path, metavar="DIR", help="where WAVs live for a moment (default: temp folder)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of VGGish: bfloat16 is about twice as fast where CPU or GPU has it; auto (default) takes it there",
    )
    parser.add_argument(
        "--decoder",
        choices=("pydub", "libsndfile"),
        default="pydub",
        help="pydub (default) reads any usual format of sound; libsndfile, of the extra `fast`, takes less work for "
        "MP3, FLAC, Ogg and WAV, and leaves other files to pydub",
    )
    parser.add_argument(
        "--batch", type=argtypes.positive, default=64, metavar="N", help="windows a network batch (default 64)"
    )
    copy_options.add_augment(parser)
    ray_options.add_options(parser)


def add_train(parser: argparse.ArgumentParser) -> None:
    """Options of `train`."""
    parser.add_argument("--task", required=True, help="such as jamendo; `jamendo-mood tasks` lists them")
    add_data(parser)
    parser.add_argument(
        "--split", type=int, default=0, metavar="N", help="official split, or the fold to test on (default 0)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="TAGGER_DIR", help="folder for the tagger")
    add_training(parser)
    parser.add_argument(
        "--single-task",
        action="store_true",
        help="learn the task's own tags alone, where its data has more to learn from (audioset-moods)",
    )
    copy_options.add_augmented(parser)
    parser.add_argument(
        "--leaks",
        choices=("refuse", "drop", "keep"),
        default="refuse",
        help="tracks, artists or bit-identical audio that parts share: refuse to train (default), leave such tracks "
        "out of training and validation, or keep them",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """How to train."""
    parser.add_argument(
        "--head",
        default="attention",
        help="attention (default), mlp or linear; conv1d or gru, which follow the order; cnn, on patches",
    )
    parser.add_argument("--pooling", help="what it sees of a track: frames, mean or mean+std (default: the head's own)")
    parser.add_argument("--ensemble", type=argtypes.positive, metavar="N", help="heads to train and average")
    parser.add_argument("--epochs", type=argtypes.positive, metavar="N", help="passes over the training part")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same tagger (default 0)")
    parser.add_argument(
        "--set",
        type=argtypes.setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of TrainConfig, HeadConfig or Augmentation, such as dropout=0.3 or mixup=0",
    )


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate`."""
    parser.add_argument("tagger", type=Path, metavar="TAGGER_DIR", help="folder that `train` wrote")
    add_data(parser)
    _add_part(parser, argtypes.whole)
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write a report with pictures there, JSON and CSV")
    parser.add_argument("--mediaeval", type=Path, metavar="DIR", help="also write MediaEval's files (task jamendo)")
    add_format(parser, "table", "json")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Options of `compare`."""
    parser.add_argument("first", type=Path, metavar="A", help="folder of a tagger")
    parser.add_argument("second", type=Path, metavar="B", help="folder of another, for the same task")
    add_data(parser)
    parser.add_argument("--second-store", type=Path, metavar="DIR", help="embeddings for B (default: those for A)")
    _add_part(parser, argtypes.positive)
    add_format(parser, "table", "json")


def add_score(parser: argparse.ArgumentParser) -> None:
    """Options of `score`."""
    parser.add_argument("--truth", type=Path, required=True, metavar="T.npy", help="booleans (tracks, tags)")
    parser.add_argument("--predictions", type=Path, required=True, metavar="P.npy", help="scores (tracks, tags)")
    decided = parser.add_mutually_exclusive_group()
    decided.add_argument("--thresholds", type=Path, metavar="FILE", help="a tag and its threshold in each line")
    decided.add_argument("--decisions", type=Path, metavar="D.npy", help="booleans (tracks, tags)")
    parser.add_argument(
        "--official",
        action="store_true",
        help="reproduce MTG's published P/R/F, which count scores above their threshold, not at it",
    )
    parser.add_argument("--tags", type=Path, metavar="TAGS.txt", help="names of the tags, one a line")
    add_format(parser, "table", "json")


def add_tag(parser: argparse.ArgumentParser) -> None:
    """Options of `tag`."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="audio files, folders of them, or a store")
    parser.add_argument("--tagger", type=Path, metavar="DIR", help="folder `train` wrote (default: 7 moods, built in)")
    _add_weights(parser)
    parser.add_argument("--top", type=argtypes.positive, default=10, metavar="N", help="tags to show (default 10)")
    parser.add_argument("--timeline", action="store_true", help="scores over time, of each frame, too")
    mood_commands.add_places(parser)
    add_format(parser, "table", "json", "csv")


def add_spectrogram(parser: argparse.ArgumentParser) -> None:
    """Options of `spectrogram`."""
    parser.add_argument("source", type=Path, metavar="IN", help="an audio file, or a folder of them")
    parser.add_argument(
        "target", type=Path, metavar="OUT", help="a file .png; a folder if IN is one: IN/a.mp3, OUT/a.png"
    )
    parser.add_argument(
        "--start",
        type=float,
        metavar="S",
        help="draw from second S on (without --start and --duration: the minute from 1:00, and files that end before "
        "2:00 whole; --start 0 draws every file whole)",
    )
    parser.add_argument("--duration", type=float, metavar="S", help="draw so many seconds (from the start, or --start)")
    parser.add_argument("--grey", action="store_true", help="in greys, not in colour")
    parser.add_argument(
        "--bare", action="store_true", help="without axes: a pixel for each 10 ms and mel band, 64 pixels high"
    )


def add_similar(parser: argparse.ArgumentParser) -> None:
    """Options of `similar`."""
    parser.add_argument("track", metavar="TRACK", help="a track of the store, such as 48/948, or any audio file")
    _add_library(parser)
    _add_weights(parser)


def add_playlist(parser: argparse.ArgumentParser) -> None:
    """Options of `playlist`."""
    parser._negative_number_matcher = re.compile(r"-[\d.]")  # `--at -0.6,-0.4` is a point and no option
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--mood",
        type=argtypes.level,
        action="append",
        default=[],
        metavar="NAME=LEVEL",
        help="how much of a tag is wanted, from 0, the least of all tracks, to 1; may be given several times",
    )
    start.add_argument("--at", type=argtypes.point, metavar="V,A", help="valence and arousal wanted, each from -1 to 1")
    mood_commands.add_wishes(parser, start)
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--to", type=argtypes.point, metavar="V,A", help="go from there to this valence and arousal")
    end.add_argument("--to-emotion", metavar="NAME", help="go from there to this emotion")
    mood_commands.add_places(parser)
    _add_library(parser)


def add_web(parser: argparse.ArgumentParser) -> None:
    """Options of `web`."""
    parser.add_argument("--tagger", type=Path, metavar="DIR", help="folder `train` wrote (default: 7 moods, built in)")
    _add_weights(parser)
    parser.add_argument("--store", type=Path, metavar="DIR", help="embeddings of a library, to find music in")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to play its music")
    parser.add_argument("--port", type=argtypes.whole, default=8866, metavar="N", help="default 8866; 0: any free one")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1; 0.0.0.0 serves others too, with a token"
    )
    for name, default, what in (
        ("--kernels", 8, "visitors at the same time"),
        ("--max-mb", 200, "the largest upload"),
        ("--max-minutes", 120, "the longest song"),
        ("--idle-minutes", 20, "until the place of an idle visitor is given to others"),
    ):
        parser.add_argument(name, type=argtypes.positive, default=default, metavar="N", help=f"{what} ({default})")
    parser.add_argument(
        "--warm", type=argtypes.whole, default=1, metavar="N", help="kernels kept ready, of each page (default 1)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")


def _add_library(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="embeddings of the library")
    built_in = "7 moods, built in, on embeddings of vggish-pca"
    parser.add_argument("--tagger", type=Path, metavar="DIR", help=f"folder `train` wrote (default: {built_in})")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to name the files")
    parser.add_argument("--count", type=argtypes.positive, default=20, metavar="N", help="tracks to find (default 20)")
    parser.add_argument(
        "--format", choices=("table", "json", "csv", "m3u8"), help="of the output (default table, or as --out ends)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Options of `export`."""
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `extract` wrote")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="folder for the Parquet files")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--shard-rows", type=argtypes.positive, metavar="N", help="tracks a file (default: by --shard-mb)"
    )
    size.add_argument(
        "--shard-mb",
        type=argtypes.positive,
        default=256,
        metavar="N",
        help="megabytes of embeddings a file, before compression (default 256)",
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    """Options of `import`."""
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="PARQUET", help="files that `export` wrote, or folders of them"
    )
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="store to write or go on with")


def add_pack(parser: argparse.ArgumentParser) -> None:
    """Options of `pack`."""
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `extract` wrote")


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Options of `verify`."""
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `extract` wrote")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="put right what is wrong; what is damaged stays as NAME.npy.bad, and `extract` embeds the track anew",
    )


def add_splits(parser: argparse.ArgumentParser) -> None:
    """Options of `splits`."""
    parser.add_argument("--out", type=Path, default=Path("splits"), metavar="DIR", help="folder (default splits/)")
    parser.add_argument("--base-url", metavar="URL", help="a mirror of MTG's repository (default: at GitHub)")


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Options of `demo`."""
    parser.add_argument("--embedder", help="vggish, vggish-pca or logmel (default: vggish if its weights are at hand)")
    _add_weights(parser)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), metavar="DIR", help="default build/demo")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the music and the training (default 0)")


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tars", action="store_true", help="fetch MTG's 100 tars, of a folder of tracks each, instead of single files"
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="a mirror: the folder that holds 48/948.low.mp3 (full: 48/948.mp3) and the others, or with --tars "
        "autotagging_moodtheme_audio-low-48.tar (full: autotagging_moodtheme_audio-48.tar)",
    )
    parser.add_argument("--connections", type=argtypes.positive, metavar="N", help="downloads at a time (default 3)")
    parser.add_argument(
        "--max-scratch-gb",
        type=argtypes.gigabytes,
        metavar="X",
        help="the most that downloads and WAVs may take on disk; downloads wait when it is full (default 2)",
    )


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="TF-Hub module's folder; or Google's file: VGGish's vggish_model.ckpt, YAMNet's yamnet.tflite",
    )
    parser.add_argument("--pca", type=Path, metavar="FILE", help="Google's vggish_pca_params.npz, for vggish-pca")
    parser.add_argument("--allow-untrained", action="store_true", help="take weights that are not Google's")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where the data set and the embeddings are."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set's tables, as published")
    parser.add_argument("--store", type=Path, metavar="DIR", help="embeddings (default: those released with the data)")


def _add_part(parser: argparse.ArgumentParser, rounds: Callable[[str], int]) -> None:
    from jamendo_mood.tasks.bootstrap import ROUNDS

    parser.add_argument("--split", type=int, metavar="N", help="official split (default: the one it was trained on)")
    parser.add_argument("--part", metavar="NAME", help="part to judge by (default: the test part)")
    parser.add_argument(
        "--rounds", type=rounds, default=ROUNDS, metavar="N", help=f"of the bootstrap over artists (default {ROUNDS})"
    )


def add_format(parser: argparse.ArgumentParser, *formats: str) -> None:
    """The format of the output."""
    parser.add_argument("--format", choices=formats, default=formats[0], help=f"of the output (default {formats[0]})")
