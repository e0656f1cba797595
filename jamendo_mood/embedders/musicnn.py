"""musicnn: log-mel patches of 3 s -> rows of 200 numbers, of which its last layer makes the scores of 50 tags.

The network is ``MSD_musicnn``, trained by its authors on the Million Song Dataset's tags. Its weights are in a package
on PyPI, which this one cannot depend on (it wants a NumPy of 2018): so pip fetches that wheel, checked by its SHA-256,
and the weights, 3 MB, are read out of it as data and kept in the user's cache. No code of the wheel runs.

References
----------
Pons, Nieto, Prockup, Schmidt, Ehmann, Serra, "End-to-end learning for music audio tagging at scale", ISMIR 2018; Pons,
Serra, "musicnn: Pre-trained convolutional neural networks for music audio tagging", ISMIR 2019 late-breaking demo.
Sizes are those of the released checkpoint; ``scripts/check_musicnn.py`` compares with its own graph.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.embedders import checkpoints, engines
from jamendo_mood.embedders.registry import UNTRAINED, Array, Embedder, EmbedderOptions, EmbedderSpec
from jamendo_mood.util import files
from jamendo_mood.util.errors import WeightsError

WHEEL = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
WHEEL_MB = 29
WEIGHTS_NAME = "MSD_musicnn.safetensors"
SUFFIXES = {".whl", ".safetensors"}  #: of files that its weights may be in
#: `checkpoints.fingerprint` of the released variables
SHA256 = "970c0065888f5a89d993ee798eb8bb294e0702f17e881e93997c771107ae147e"

DIM = 200
TAGS = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock"),
    *("jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow"),
    *("electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient"),
    *("acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening"),
    *("sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad"),
    *("House", "happy"),
)
"""The 50 tags, Last.fm's, in the order of the last layer."""

HOP_S = 1.0
FFT_HOP = 256  # samples, 16 ms
BANDS = 96
PATCH_FRAMES = 187  # 3 s
PATCH_SAMPLES = (PATCH_FRAMES - 1) * FFT_HOP + spectrograms.FFT_LENGTH  # 48,128

_HOP_SAMPLES = round(HOP_S * SAMPLE_RATE_HZ)
_GRID = 128  # samples: patches that start a whole second apart have frames on two grids of 256, this is both
_AT_ONCE = 8  # patches: the first layer of each takes 9 MB
_EPSILON = np.float32(1e-3)  # of batch normalisation
_MAX_BYTES = 50_000_000  # of a file of weights; the checkpoint, with what its training needed, has 9,465,596

_TIMBRAL, _TEMPORAL, _MIDDLE = 204, 51, 64  # channels
_FRONT = 2 * _TIMBRAL + 3 * _TEMPORAL  # 561
_POOLED = 2 * (_FRONT + 3 * _MIDDLE)  # 1,506: the maximum and the mean of each
_KERNELS = (
    *((7, 38, 1, _TIMBRAL), (7, 67, 1, _TIMBRAL)),  # frames, bands
    *((frames, 1, 1, _TEMPORAL) for frames in (128, 64, 32)),
    *((7, inputs, 1, _MIDDLE) for inputs in (_FRONT, _MIDDLE, _MIDDLE)),
)
_PARTS = ("beta", "gamma", "moving_mean", "moving_variance")
_NORMALISED = (1, *(shape[3] for shape in _KERNELS), _POOLED, DIM)


def _numbered(name: str, number: int) -> str:
    """A layer's name in TensorFlow 1: the first has no number."""
    return f"{name}_{number}" if number else name


SHAPES: dict[str, tuple[int, ...]] = {
    **{f"{_numbered('conv2d', number)}/kernel": shape for number, shape in enumerate(_KERNELS)},
    **{f"{_numbered('conv2d', number)}/bias": (shape[3],) for number, shape in enumerate(_KERNELS)},
    **{
        f"{_numbered('batch_normalization', number)}/{part}": (channels,)
        for number, channels in enumerate(_NORMALISED)
        for part in _PARTS
    },
    "dense/kernel": (_POOLED, DIM),
    "dense/bias": (DIM,),
    "dense_1/kernel": (DIM, len(TAGS)),
    "dense_1/bias": (len(TAGS),),
}
"""The variables by their name in the released checkpoint: 0.8 million numbers."""


def load_musicnn(options: EmbedderOptions) -> Embedder:
    """The 200 numbers before the last layer, each second; WeightsError if there are no weights that are allowed."""
    path = WEIGHTS.find(options.weights, download=not options.offline)
    variables = read_weights(path)
    spec = spec_of(variables)
    if spec.variant and not options.allow_untrained:
        raise WeightsError(
            f"{path}: these are not the released weights of musicnn (SHA-256 {spec.weights_sha256[:12]}..., not "
            f"{SHA256[:12]}...); use --allow-untrained to use them all the same"
        )
    engine, _ = engines.choose(options.engine, "float32", fastest="openvino")
    spec, network = replace(spec, engine=engine), engines.build(define(variables), engine)
    return Embedder(spec, patches, network, PATCH_SAMPLES, _HOP_SAMPLES, define=lambda: define(read_weights(path)))


def spec_of(variables: Mapping[str, Array]) -> EmbedderSpec:
    """What embeddings of these weights are made with."""
    sha256 = checkpoints.fingerprint(variables)
    variant = "" if sha256 == SHA256 else UNTRAINED
    return EmbedderSpec("musicnn", sha256, SAMPLE_RATE_HZ, PATCH_SAMPLES / SAMPLE_RATE_HZ, HOP_S, DIM, variant)


def fetch() -> Path:
    """Let pip, as it is set up here, fetch the wheel, and keep its weights; returns where, or raises WeightsError."""
    kept = files.cache_folder() / WEIGHTS_NAME
    name, version, *_ = WHEEL.split("-")
    with tempfile.TemporaryDirectory(prefix="jamendo-mood-") as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(f"{name}=={version} --hash=sha256:{WHEEL_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command = [*pip, "--require-hashes", "--requirement", str(wanted), "--dest", folder]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.splitlines() or ["no reason given"]
            reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
            raise WeightsError(f"pip could not fetch {WHEEL} ({reason})")
        files.write_atomically(kept, safetensors.numpy.save(read_weights(Path(folder, WHEEL))))
    return kept


def read_weights(path: Path) -> dict[str, Array]:
    """Read the variables of `SHAPES` from the wheel, or from the file in the cache; WeightsError if that fails."""
    if path.suffix == ".whl":
        with tempfile.TemporaryDirectory(prefix="jamendo-mood-") as folder:
            try:
                with zipfile.ZipFile(path) as archive:
                    for suffix in (".index", ".data-00000-of-00001"):
                        with archive.open(f"musicnn/MSD_musicnn/{suffix}") as file:
                            Path(folder, f"MSD_musicnn{suffix}").write_bytes(file.read(_MAX_BYTES))
            except files.DAMAGES as error:
                raise WeightsError(f"{path}: not the wheel of musicnn ({files.brief(error)})") from error
            return checkpoints.read_variables(Path(folder, "MSD_musicnn"), "musicnn", SHAPES)
    try:
        content = files.read_bytes(path, _MAX_BYTES)
        variables = safetensors.numpy.load(content)
        found = {name: (array.shape, array.dtype.str) for name, array in variables.items()}
    except (safetensors.SafetensorError, *files.DAMAGES) as error:
        raise WeightsError(f"{path}: not musicnn's weights, and not its wheel ({files.brief(error)})") from error
    if found != {name: (shape, "<f4") for name, shape in SHAPES.items()}:
        raise WeightsError(f"{path}: not musicnn, its variables have other names or shapes")
    return variables


WEIGHTS = checkpoints.Weights(
    name="musicnn",
    size=f"{WHEEL_MB} MB",
    places=lambda: [files.cache_folder() / WEIGHTS_NAME],
    sources={f"PyPI for {WHEEL}, by pip": lambda _: fetch()},
    read=read_weights,
    remedy=f"Where there is a network, `jamendo-mood weights musicnn --get` fetches them; or give --weights {WHEEL}, "
    "which `pip download --no-deps musicnn==0.1.0` fetches on another machine.",
)


def patches(wave: Wave) -> Array:
    """Cut the log-mel spectrogram of a 16 kHz wave into patches of 3 s, one a second: float32 (patches, 187, 96).

    ``log10(1 + 10000 energy)`` in 96 mel bands, frames of 32 ms each 16 ms. The authors' code rounds energies to 16
    bits, where loud music overflows; here they have 32.
    """
    bands = spectrograms.band_sums(wave, mel_matrix(), spectrograms.hann_window(512), _GRID, power=2)
    bands = np.log10(1 + np.float32(10_000) * bands)
    step = FFT_HOP // _GRID
    width = step * (PATCH_FRAMES - 1) + 1
    if len(bands) < width:
        return np.zeros((0, PATCH_FRAMES, BANDS), np.float32)
    every = np.lib.stride_tricks.sliding_window_view(bands, width, axis=0)[:: _HOP_SAMPLES // _GRID, :, ::step]
    return np.ascontiguousarray(every.swapaxes(1, 2))


@functools.cache
def mel_matrix() -> Any:
    """Weights that turn an energy spectrum into mel bands, a sparse array (257, 96), from 0 Hz to 8 kHz.

    Slaney's mel scale, linear up to 1 kHz; triangles linear in hertz, each of area 1: the defaults of librosa.
    """
    import scipy.sparse

    top_hz = SAMPLE_RATE_HZ / 2
    bins_hz = np.linspace(0, top_hz, spectrograms.FFT_LENGTH // 2 + 1)[:, np.newaxis]
    edges_mel = np.linspace(0, 15 + 27 * np.log(top_hz / 1000) / np.log(6.4), BANDS + 2)
    edges_hz = np.where(edges_mel < 15, edges_mel * 200 / 3, 1000 * 6.4 ** ((edges_mel - 15) / 27))
    lower, centre, upper = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    weights = np.minimum((bins_hz - lower) / (centre - lower), (upper - bins_hz) / (upper - centre))
    return scipy.sparse.csc_array(np.asarray(np.maximum(0, weights) * 2 / (upper - lower), np.float32))


def define(variables: Mapping[str, Array]) -> engines.Network:
    """The network with these weights."""

    def convolution(number: int) -> tuple[Array, Array]:
        layer = _numbered("conv2d", number)
        return variables[f"{layer}/kernel"], variables[f"{layer}/bias"]

    def normalisation(number: int) -> tuple[Array, Array]:
        beta, gamma, mean, variance = (
            variables[f"{_numbered('batch_normalization', number)}/{part}"] for part in _PARTS
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        return scale, beta - mean * scale

    def front(ops: engines.Ops, x: Any, number: int) -> Any:
        (kernel, bias), (scale, shift) = convolution(number), normalisation(number + 1)
        # The maximum over the bands is taken before all else, which is the same and a fiftieth of the work: of the
        # negative where the scale, later, is negative.
        sign = np.where(scale < 0, np.float32(-1), np.float32(1))
        highest = ops.highest(ops.convolve(x, kernel * sign, pad_bands=False), axis=2)
        return ops.scale(ops.relu(ops.scale(highest, sign, bias)), scale, shift)

    def middle(ops: engines.Ops, x: Any, number: int) -> Any:
        (kernel, bias), (scale, shift) = convolution(number), normalisation(number + 1)
        return ops.scale(ops.relu(ops.convolve(x, kernel.swapaxes(1, 2), bias)), scale, shift)

    def trunk(ops: engines.Ops, x: Any) -> Any:
        x = ops.scale(x, *normalisation(0))
        x = ops.concatenate([front(ops, x, number) for number in range(5)])
        first = middle(ops, x, 5)
        second = ops.add(first, middle(ops, first, 6))
        third = ops.add(second, middle(ops, second, 7))
        x = ops.concatenate([x, first, second, third])
        return ops.concatenate([ops.highest(x, axis=1), ops.mean(x, 1)])

    def tail(ops: engines.Ops, x: Any) -> Any:
        # The checkpoint has maximum and mean of a channel side by side, the trunk all maxima and then all means.
        order = np.arange(_POOLED).reshape(-1, 2).T.reshape(-1)
        scale, shift = normalisation(9)
        x = ops.scale(x, scale[order], shift[order])
        x = ops.relu(ops.dense(x, variables["dense/kernel"][order], variables["dense/bias"]))
        return ops.scale(x, *normalisation(10))

    return engines.Network("musicnn", (PATCH_FRAMES, BANDS), trunk, tail, _AT_ONCE)
