"""YAMNet: log-mel patches -> embeddings of 1,024 numbers, or scores of 521 classes of sound.

The network is defined here and filled from the weights of Google's release, whichever form they come in: the TF-Hub
module, a local copy of it, or a TFLite file, whose weights may be rounded to 8 bits. Reading them runs no code of the
file. Everything is computed in float32: TFLite's own interpreter would round activations to 8 bits too, the mel bands
among them, differently from machine to machine (see docs/yamnet.md).

References
----------
Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017. Names, shapes
and the three tests are those of the YAMNet release (tensorflow/models, research/audioset/yamnet).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.embedders import checkpoints, engines
from jamendo_mood.embedders.registry import UNTRAINED, Embedder, EmbedderOptions, EmbedderSpec
from jamendo_mood.util import files
from jamendo_mood.util.errors import WeightsError

HUB_HANDLE = "https://tfhub.dev/google/yamnet/1"
KAGGLE_HANDLE = "https://www.kaggle.com/models/google/yamnet/TensorFlow2/yamnet/1"
KAGGLE_URL = "https://www.kaggle.com/api/v1/models/google/yamnet/tensorFlow2/yamnet/1/download"
TFLITE_ADDRESS = "https://tfhub.dev/google/lite-model/yamnet/classification/tflite/1"
WEIGHTS_VARIABLE = "JAMENDO_MOOD_YAMNET"
DIM, CLASSES = 1024, 521
MAX_TFLITE_BYTES = 200_000_000  # Google's file has 4 million, one of float32 15
WINDOW_S = 0.975  # of sound that a patch needs
HOP_FRAMES = 48
LOG_OFFSET = 0.001

INT8 = "int8"  #: variant of embeddings by weights that were rounded to 8 bits

_DEEP = (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)
_CHANNELS = (32, *(channels for channels, _ in _DEEP))
_STRIDES = (2, *(stride for _, stride in _DEEP))
_BATCHNORM_EPSILON = 1e-4


def _count_layers() -> dict[str, tuple[int, ...]]:
    layers: dict[str, tuple[int, ...]] = {"layer1/conv": (3, 3, 1, _CHANNELS[0])}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(_CHANNELS), start=2):
        layers[f"layer{number}/depthwise_conv"] = (3, 3, inputs, 1)
        layers[f"layer{number}/pointwise_conv"] = (1, 1, inputs, outputs)
    return layers


CONVOLUTIONS = _count_layers()  #: the 27 convolutions by their name in Google's code, and the shapes of their kernels

_TESTS = {"silence": 494, "noise": 514, "sine": 495}  # the classes Silence, White noise and Sine wave
_TEST_TOP = 10  # classes, among which the right one must be

Array = npt.NDArray[np.float32]
Network = Callable[[Array], Array]
Weights = dict[str, tuple[Array, Array]]
"""Of each convolution, batch normalisation folded in, and of ``dense``: kernel and bias."""


def load_yamnet(options: EmbedderOptions) -> Embedder:
    """YAMNet's embeddings: 1,024 numbers; WeightsError if there are no weights, or not Google's and not allowed."""
    return _load_embedder("yamnet", options, scores=False)


def load_yamnet_scores(options: EmbedderOptions) -> Embedder:
    """YAMNet's scores of 521 classes of sound, range [0, 1]; raises as `load_yamnet` does."""
    return _load_embedder("yamnet-scores", options, scores=True)


def _load_embedder(name: str, options: EmbedderOptions, *, scores: bool) -> Embedder:
    path = find_weights(options.weights, download=not options.offline)
    weights, sha256, rounded = read_weights(path)
    engine, _ = engines.choose(options.engine, "float32", fastest="openvino")
    classify = build_network(weights, scores=True, engine=engine)
    trained = is_trained(classify)
    if not trained and not options.allow_untrained:
        raise WeightsError(
            f"{path}: these are not Google's YAMNet weights (silence, white noise and a sine are not recognised as "
            "what they are); use --allow-untrained to use them all the same"
        )
    variant = ", ".join([INT8] * rounded + [UNTRAINED] * (not trained))
    dim, hop_s = CLASSES if scores else DIM, HOP_FRAMES * spectrograms.HOP_S
    return Embedder(
        spec=EmbedderSpec(name, sha256, SAMPLE_RATE_HZ, WINDOW_S, hop_s, dim, variant, engine=engine),
        frontend=patches,
        network=classify if scores else build_network(weights, engine=engine),
        window_samples=spectrograms.PATCH_SAMPLES,
        hop_samples=HOP_FRAMES * spectrograms.HOP_SAMPLES,
        define=lambda: define(read_weights(path)[0], scores=scores),
    )


def find_weights(path: Path | None = None, *, download: bool = True) -> Path:
    """Find the weights: the TF-Hub module's folder, or a TFLite file; see `checkpoints.Weights.find`."""
    return WEIGHTS.find(path, download=download)


def _fetch_module(address: str) -> Path:
    return checkpoints.fetch_module(address, checkpoints.module_folder("yamnet", HUB_HANDLE), read_weights)


def patches(wave: Wave, hop_frames: int = HOP_FRAMES) -> Array:
    """Cut the log-mel spectrogram of a wave into patches, by default one every 0.48 s: float32 (patches, 96, 64).

    As `spectrograms.patches`, but of ``log(magnitude + 0.001)``. What is left at the end is dropped; Google's module
    pads it with silence to one more patch.
    """
    return spectrograms.cut_patches(spectrograms.log_mel(wave, LOG_OFFSET), hop_frames)


def read_weights(path: Path) -> tuple[Weights, str, bool]:
    """Read the weights from a TF-Hub module's folder or a TFLite file; WeightsError if they are not YAMNet's.

    Returns
    -------
    weights : Weights
    sha256 : str
        Of the module's variables (`checkpoints.fingerprint`), or of the TFLite file.
    rounded : bool
        Whether some of them have 8 bits.
    """
    if path.is_dir() or checkpoints.is_archive(path):
        variables = checkpoints.keep(
            path, "YAMNet", lambda: checkpoints.read_variables(path, "YAMNet", variable_shapes())
        )
        return _fold(variables), checkpoints.fingerprint(variables), False
    try:
        content = files.read_bytes(path, MAX_TFLITE_BYTES)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a TF-Hub module, and not a TFLite file ({error})") from error
    arrays = checkpoints.keep(path, "YAMNet", lambda: _read_tflite(content, path))
    weights = {name: (arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in ("dense", *CONVOLUTIONS)}
    return weights, hashlib.sha256(content).hexdigest(), bool(arrays["rounded"])


def _check(path: Path) -> str:
    return str(load_yamnet(EmbedderOptions(path)).spec)


WEIGHTS = checkpoints.Weights(
    name="YAMNet",
    variable=WEIGHTS_VARIABLE,
    size="16 MB",
    places=lambda: checkpoints.hub_places("yamnet", HUB_HANDLE, KAGGLE_HANDLE),
    sources={f"{HUB_HANDLE}?tf-hub-format=compressed": _fetch_module, KAGGLE_URL: _fetch_module},
    read=read_weights,
    check=_check,
    remedy=checkpoints.describe_remedy(
        "YAMNet", HUB_HANDLE, WEIGHTS_VARIABLE, f"Google's TFLite file with --weights yamnet.tflite ({TFLITE_ADDRESS})"
    ),
)


def build_network(weights: Weights, *, scores: bool = False, engine: str = "tensorflow") -> Network:
    """Build the network: float32 (batch, 96, 64) -> embeddings (batch, 1024), or scores in [0, 1] (batch, 521)."""
    return engines.build(define(weights, scores=scores), engine)


def define(weights: Weights, *, scores: bool = False) -> engines.Network:
    """The network with these weights."""

    def trunk(ops: engines.Ops, x: Any) -> Any:
        for name in CONVOLUTIONS:
            convolve = ops.convolve_each if name.endswith("/depthwise_conv") else ops.convolve
            x = ops.relu(convolve(x, *weights[name], stride_of(name)))
        return ops.mean(x, 1, 2)

    def tail(ops: engines.TailOps, x: Any) -> Any:
        return ops.sigmoid(ops.dense(x, *weights["dense"])) if scores else x

    return engines.Network("yamnet", (spectrograms.PATCH_FRAMES, spectrograms.MEL_BANDS), trunk, tail)


def stride_of(name: str) -> int:
    """The step of a convolution in frames and bands: a key of `CONVOLUTIONS` -> 1 or 2."""
    layer, kind = name.split("/")
    return 1 if kind == "pointwise_conv" else _STRIDES[int(layer.removeprefix("layer")) - 1]


def is_trained(scores: Network) -> bool:
    """Google's three tests: whether silence, white noise and a sine are recognised as what they are."""
    time_s = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    waves = {
        "silence": np.zeros_like(time_s),
        "noise": np.random.default_rng(0).uniform(-1, 1, len(time_s)),
        "sine": np.sin(2 * np.pi * 440 * time_s),
    }
    means = {name: scores(patches(wave.astype(np.float32))).mean(axis=0) for name, wave in waves.items()}
    return all(right in np.argsort(-means[name], kind="stable")[:_TEST_TOP] for name, right in _TESTS.items())


def variable_shapes() -> dict[str, tuple[int, ...]]:
    """The variables of Google's release by their name there, and their shapes: 3.75 million numbers."""
    shapes: dict[str, tuple[int, ...]] = {"dense/kernel": (DIM, CLASSES), "dense/bias": (CLASSES,)}
    for name, shape in CONVOLUTIONS.items():
        channels = shape[2] if shape[3] == 1 else shape[3]
        shapes[f"{name}/{_kernel_of(name)}"] = shape
        shapes |= {f"{name}/bn/{part}": (channels,) for part in ("beta", "moving_mean", "moving_variance")}
    return shapes


def _kernel_of(name: str) -> str:
    return "depthwise_kernel" if name.endswith("/depthwise_conv") else "kernel"


def _fold(variables: Mapping[str, Array]) -> Weights:
    """Make batch normalisation, which has no scale of its own here, part of the convolutions."""
    weights = {"dense": (variables["dense/kernel"], variables["dense/bias"])}
    for name, shape in CONVOLUTIONS.items():
        mean, variance = variables[f"{name}/bn/moving_mean"], variables[f"{name}/bn/moving_variance"]
        scale = 1 / np.sqrt(variance + np.float32(_BATCHNORM_EPSILON))
        kernel = variables[f"{name}/{_kernel_of(name)}"] * (scale[:, np.newaxis] if shape[3] == 1 else scale)
        weights[name] = kernel, variables[f"{name}/bn/beta"] - mean * scale
    return weights


def _read_tflite(content: bytes, path: Path) -> dict[str, Array]:
    """Take the constants of a TFLite file by the names of the layers that they belong to; nothing is run.

    ``rounded`` says whether some have 8 bits.
    """
    try:
        constants = checkpoints.read_constants(content)
    except ValueError as error:
        raise WeightsError(f"{path}: not a TF-Hub module, and not a TFLite file ({error})") from error

    def read(prefix: str, shape: tuple[int, ...]) -> Array:
        for constant in constants:
            # The first of the names that the converter joined; biases of the last layer have lost theirs.
            name = constant.name.partition(";")[0].removeprefix("yamnet_frames/")
            if constant.values.shape == shape and name.startswith(prefix):
                return constant.dequantised()
        raise WeightsError(f"{path}: not YAMNet, {prefix!r} has no constant of the shape {shape}")

    try:
        weights = {"dense": (read("dense/", (CLASSES, DIM)).T.copy(), read("", (CLASSES,)))}
        for name, shape in CONVOLUTIONS.items():
            # TFLite has channels out first, and of depthwise kernels the multiplier.
            order = (3, 0, 1, 2)
            kernel = read(f"{name}/", tuple(shape[axis] for axis in order))
            bias = read(f"{name}/", (shape[2] if shape[3] == 1 else shape[3],))
            weights[name] = np.ascontiguousarray(kernel.transpose(np.argsort(order))), bias
    except ValueError as error:
        raise WeightsError(f"{path}: not YAMNet as Google converted it ({error})") from error
    arrays = {f"{name}/kernel": kernel for name, (kernel, _) in weights.items()}
    arrays |= {f"{name}/bias": bias for name, (_, bias) in weights.items()}
    return arrays | {"rounded": np.array([any(constant.values.dtype == np.int8 for constant in constants)], np.float32)}
