"""YAMNet: log-mel patches -> embeddings of 1,024 numbers, or scores of 521 classes of sound.

The network is defined here and filled from the weights of Google's release, whichever form they come in: the TF-Hub
module, a local copy of it, or a TFLite file, whose weights may be rounded to 8 bits. Everything is computed in float32:
TFLite's own interpreter would round activations to 8 bits too, differently from machine to machine (docs/yamnet.md).

References
----------
Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017. Names, shapes
and the three tests are those of the YAMNet release (tensorflow/models, research/audioset/yamnet).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.embedders import checkpoints, engines
from jamendo_mood.embedders.registry import UNTRAINED, Array, Embedder, EmbedderOptions, EmbedderSpec
from jamendo_mood.util import files
from jamendo_mood.util.errors import WeightsError

TFLITE_ADDRESS = "https://tfhub.dev/google/lite-model/yamnet/classification/tflite/1"
DIM, CLASSES = 1024, 521
MAX_TFLITE_BYTES = 200_000_000  # Google's file has 4 million, one of float32 15
WINDOW_S = 0.975  # of sound that a patch needs
HOP_FRAMES = 48
LOG_OFFSET = 0.001

INT8 = "int8"  #: variant of embeddings by weights that were rounded to 8 bits

_DEEP = (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)
_BATCHNORM_EPSILON = 1e-4


def _list_convolutions() -> dict[str, tuple[tuple[int, ...], int]]:
    found: dict[str, tuple[tuple[int, ...], int]] = {"layer1/conv": ((3, 3, 1, 32), 2)}
    inputs = 32
    for number, (outputs, stride) in enumerate(_DEEP, start=2):
        found[f"layer{number}/depthwise_conv"] = (3, 3, inputs, 1), stride
        found[f"layer{number}/pointwise_conv"] = (1, 1, inputs, outputs), 1
        inputs = outputs
    return found


CONVOLUTIONS = _list_convolutions()
"""The 27 convolutions by their name in Google's code: the shapes of their kernels, and the step in frames and bands."""

_TESTS = {"silence": 494, "noise": 514, "sine": 495}  # the classes Silence, White noise and Sine wave

Weights = dict[str, Array]
"""``NAME/kernel`` and ``NAME/bias`` of each convolution, batch normalisation folded in, and of ``dense``."""


def load_yamnet_scores(options: EmbedderOptions) -> Embedder:
    """YAMNet's scores of 521 classes of sound, range [0, 1]; raises as `load_yamnet` does."""
    return load_yamnet(options, scores=True)


def load_yamnet(options: EmbedderOptions, *, scores: bool = False) -> Embedder:
    """YAMNet's embeddings: 1,024 numbers; WeightsError if there are no weights, or not Google's and not allowed."""
    path = WEIGHTS.find(options.weights, download=not options.offline)
    weights, sha256, rounded = read_weights(path)
    engine, _ = engines.choose(options.engine, "float32", fastest="openvino")
    classify = engines.build(define(weights, scores=True), engine)
    trained = is_trained(classify)
    if not trained and not options.allow_untrained:
        raise WeightsError(
            f"{path}: these are not Google's YAMNet weights (silence, white noise and a sine are not recognised as "
            "what they are); use --allow-untrained to use them all the same"
        )
    variant = ", ".join([INT8] * rounded + [UNTRAINED] * (not trained))
    name, dim = ("yamnet-scores", CLASSES) if scores else ("yamnet", DIM)
    hop_s = HOP_FRAMES * spectrograms.HOP_S
    return Embedder(
        EmbedderSpec(name, sha256, SAMPLE_RATE_HZ, WINDOW_S, hop_s, dim, variant, engine=engine),
        frontend=patches,
        network=classify if scores else engines.build(define(weights), engine),
        window_samples=spectrograms.PATCH_SAMPLES,
        hop_samples=HOP_FRAMES * spectrograms.HOP_SAMPLES,
        define=lambda: define(read_weights(path)[0], scores=scores),
    )


def patches(wave: Wave, hop_frames: int = HOP_FRAMES) -> Array:
    """Cut the log-mel spectrogram of a wave into patches, by default one every 0.48 s: float32 (patches, 96, 64).

    As `spectrograms.patches`, but of ``log(magnitude + 0.001)``. What is left at the end is dropped; Google's module
    pads it with silence to one more patch.
    """
    return spectrograms.cut_patches(spectrograms.log_mel(wave, LOG_OFFSET), hop_frames)


def read_weights(path: Path) -> tuple[Weights, str, bool]:
    """Read the weights from a TF-Hub module's folder or a TFLite file; WeightsError if they are not YAMNet's.

    Returns them, the SHA-256 of the module's variables (`checkpoints.fingerprint`) or of the TFLite file, and whether
    some of them have 8 bits.
    """
    if path.is_dir() or checkpoints.is_archive(path):
        variables = checkpoints.keep(
            path, "YAMNet", lambda: checkpoints.read_variables(path, "YAMNet", variable_shapes())
        )
        return _fold(variables), checkpoints.fingerprint(variables), False
    try:
        content = files.read_bytes(path, MAX_TFLITE_BYTES)
        weights = checkpoints.keep(path, "YAMNet", lambda: _read_tflite(content))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: neither a TF-Hub module nor YAMNet as a TFLite file ({error})") from error
    return weights, hashlib.sha256(content).hexdigest(), bool(weights["rounded"])


WEIGHTS = checkpoints.hub_weights(
    "YAMNet", "16 MB", read_weights, f"Google's TFLite file with --weights yamnet.tflite ({TFLITE_ADDRESS})"
)


def define(weights: Weights, *, scores: bool = False) -> engines.Network:
    """The network with these weights."""

    def trunk(ops: engines.Ops, x: Any) -> Any:
        for name, (_, stride) in CONVOLUTIONS.items():
            convolve = ops.convolve_each if name.endswith("/depthwise_conv") else ops.convolve
            x = ops.relu(convolve(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], stride))
        return ops.mean(x, 1, 2)

    def tail(ops: engines.Ops, x: Any) -> Any:
        return ops.sigmoid(ops.dense(x, weights["dense/kernel"], weights["dense/bias"])) if scores else x

    return engines.Network("yamnet", (spectrograms.PATCH_FRAMES, spectrograms.MEL_BANDS), trunk, tail)


def is_trained(scores: engines.Run) -> bool:
    """Google's three tests: whether silence, white noise and a sine are among the ten best classes of each."""
    time_s = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    waves = {
        "silence": np.zeros_like(time_s),
        "noise": np.random.default_rng(0).uniform(-1, 1, len(time_s)),
        "sine": np.sin(2 * np.pi * 440 * time_s),
    }
    means = {name: scores(patches(wave.astype(np.float32))).mean(axis=0) for name, wave in waves.items()}
    return all(right in np.argsort(-means[name], kind="stable")[:10] for name, right in _TESTS.items())


def variable_shapes() -> dict[str, tuple[int, ...]]:
    """The variables of Google's release by their name there, and their shapes: 3.75 million numbers."""
    shapes: dict[str, tuple[int, ...]] = {"dense/kernel": (DIM, CLASSES), "dense/bias": (CLASSES,)}
    for name, (shape, _) in CONVOLUTIONS.items():
        shapes[_kernel_of(name)] = shape
        shapes |= {f"{name}/bn/{part}": (_channels(shape),) for part in ("beta", "moving_mean", "moving_variance")}
    return shapes


def _kernel_of(name: str) -> str:
    return f"{name}/depthwise_kernel" if name.endswith("/depthwise_conv") else f"{name}/kernel"


def _channels(shape: tuple[int, ...]) -> int:
    """How many channels a kernel gives; that of each channel by itself has them third."""
    return shape[2] if shape[3] == 1 else shape[3]


def _fold(variables: Mapping[str, Array]) -> Weights:
    """Make batch normalisation, which has no scale of its own here, part of the convolutions."""
    weights = {name: variables[name] for name in ("dense/kernel", "dense/bias")}
    for name, (shape, _) in CONVOLUTIONS.items():
        mean, variance = variables[f"{name}/bn/moving_mean"], variables[f"{name}/bn/moving_variance"]
        scale = 1 / np.sqrt(variance + np.float32(_BATCHNORM_EPSILON))
        weights[f"{name}/kernel"] = variables[_kernel_of(name)] * (scale[:, np.newaxis] if shape[3] == 1 else scale)
        weights[f"{name}/bias"] = variables[f"{name}/bn/beta"] - mean * scale
    return weights


def _read_tflite(content: bytes) -> Weights:
    """Take the constants of a TFLite file by the names of the layers that they belong to; nothing is run.

    ``rounded`` says whether some have 8 bits. ValueError if it is another file, or lacks one of them.
    """
    constants = checkpoints.read_constants(content)

    def read(prefix: str, shape: tuple[int, ...]) -> Array:
        for constant in constants:
            # The first of the names that the converter joined; biases of the last layer have lost theirs.
            name = constant.name.partition(";")[0].removeprefix("yamnet_frames/")
            if constant.values.shape == shape and name.startswith(prefix):
                return constant.dequantised()
        raise ValueError(f"{prefix!r} has no constant of the shape {shape}")

    weights = {"dense/kernel": read("dense/", (CLASSES, DIM)).T, "dense/bias": read("", (CLASSES,))}
    for name, (shape, _) in CONVOLUTIONS.items():
        # TFLite has channels out first, and of depthwise kernels the multiplier.
        weights[f"{name}/kernel"] = read(f"{name}/", (shape[3], *shape[:3])).transpose(1, 2, 3, 0)
        weights[f"{name}/bias"] = read(f"{name}/", (_channels(shape),))
    rounded = any(constant.values.dtype == np.int8 for constant in constants)
    return weights | {"rounded": np.array([rounded], np.float32)}
