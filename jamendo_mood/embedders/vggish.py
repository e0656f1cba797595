"""VGGish: log-mel patches -> embeddings of 128 numbers.

The network is defined here and filled from the 18 variables of Google's release, whichever form they come in: the
TF-Hub module, a local copy of it, or the original checkpoint.

References
----------
Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP 2017. Names, shapes and the smoke test
are those of the VGGish release (tensorflow/models, research/audioset/vggish).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ
from jamendo_mood.embedders import checkpoints, engines
from jamendo_mood.embedders.registry import UNTRAINED, Array, Embedder, EmbedderOptions, patch_embedder
from jamendo_mood.util import files
from jamendo_mood.util.errors import DownloadError, WeightsError

DIM = 128
CHECKPOINT_NAME = "vggish_model.ckpt"
CHECKPOINT_URL = f"https://storage.googleapis.com/audioset/{CHECKPOINT_NAME}"
CHECKPOINT_MD5 = "d1c7011e6366aa34176bb05c705e31a8"
PCA_SHA256 = "4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d"
PCA_NAME = "vggish_pca_params.npz"
PCA_URL = f"https://storage.googleapis.com/audioset/{PCA_NAME}"
_MAX_PCA_BYTES = 10_000_000  # Google's file has 73,020
_PCA_CLIP = 2.0

_LAYERS: dict[str, tuple[int, ...]] = {
    "conv1": (3, 3, 1, 64),  # frames, bands, channels in, channels out
    "conv2": (3, 3, 64, 128),
    "conv3/conv3_1": (3, 3, 128, 256),
    "conv3/conv3_2": (3, 3, 256, 256),
    "conv4/conv4_1": (3, 3, 256, 512),
    "conv4/conv4_2": (3, 3, 512, 512),
    "fc1/fc1_1": (6 * 4 * 512, 4096),  # of 96 frames and 64 bands, halved four times
    "fc1/fc1_2": (4096, 4096),
    "fc2": (4096, DIM),
}
_HALVING = {"conv1", "conv2", "conv3/conv3_2", "conv4/conv4_2"}  # max-pooling follows

SHAPES: dict[str, tuple[int, ...]] = {
    **{f"vggish/{name}/weights": shape for name, shape in _LAYERS.items()},
    **{f"vggish/{name}/biases": shape[-1:] for name, shape in _LAYERS.items()},
}
"""The 18 variables by their name in Google's slim code: 72,141,184 parameters."""


def load_vggish(options: EmbedderOptions) -> Embedder:
    """VGGish as TF-Hub gives it, before any activation; WeightsError if there are no weights that are allowed."""
    engine, precision = engines.choose(options.engine, options.precision)
    path = WEIGHTS.find(options.weights, download=not options.offline)
    variables = read_variables(path)
    # OpenVINO takes a second and a copy of the weights to be ready, MNN neither.
    network = engines.build(define(variables), "mnn" if precision != "float32" and engine == "openvino" else engine)
    trained = is_trained(network)  # in float32: the mean that it looks at is smaller than a step of bfloat16
    if not trained and not options.allow_untrained:
        raise WeightsError(
            f"{path}: these are not Google's VGGish weights (3 s of a 1 kHz sine do not give mean 0.000657 and "
            "standard deviation 0.343); use --allow-untrained to use them all the same"
        )
    if precision != "float32":
        network = engines.build(define(variables), engine, precision)
    about: dict[str, Any] = {"variant": "" if trained else UNTRAINED, "precision": precision, "engine": engine}
    embedder = patch_embedder("vggish", network, DIM, weights_sha256=checkpoints.fingerprint(variables), **about)
    return replace(embedder, define=lambda: define(read_variables(path)))


def load_vggish_pca(options: EmbedderOptions) -> Embedder:
    """VGGish as AudioSet has it (``vggish_postprocess.py``): whitened, clipped to [-2, 2], rounded to 0 ... 255."""
    plain = load_vggish(options)
    means, eigenvectors = read_pca(
        options.pca, options.weights, allow_untrained=options.allow_untrained, download=not options.offline
    )

    def network(patches: Array) -> Array:
        whitened = (plain.network(patches) - means) @ eigenvectors.T
        clipped = np.clip(whitened, -_PCA_CLIP, _PCA_CLIP)
        quantised = ((clipped + _PCA_CLIP) * (255 / (2 * _PCA_CLIP))).astype(np.uint8)
        return np.asarray(quantised, np.float32)

    return replace(plain, spec=replace(plain.spec, name="vggish-pca"), network=network, define=None)


def read_variables(path: Path) -> dict[str, Array]:
    """Read the 18 variables, by slim name, from a TF-Hub module's folder or a checkpoint."""
    return checkpoints.keep(path, "VGGish", lambda: checkpoints.read_variables(path, "VGGish", SHAPES))


def _fetch_with_pca(fetch: Callable[[str], Path], address: str) -> Path:
    """Fetch weights and, while there is a network, the PCA parameters too, if that can be."""
    path = fetch(address)
    with contextlib.suppress(WeightsError):
        _find_pca(path, download=True)
    return path


_MODULE = checkpoints.hub_weights(
    "VGGish", "275 MB", read_variables, f"Google's checkpoint with --weights {CHECKPOINT_NAME} ({CHECKPOINT_URL})"
)
_SOURCES = {
    **_MODULE.sources,
    CHECKPOINT_URL: lambda url: checkpoints.fetch_file(url, files.cache_folder() / CHECKPOINT_NAME, CHECKPOINT_MD5),
}
WEIGHTS = replace(
    _MODULE,
    places=lambda: [*_MODULE.places(), files.cache_folder() / CHECKPOINT_NAME],
    sources={address: functools.partial(_fetch_with_pca, fetch) for address, fetch in _SOURCES.items()},
)


def define(variables: Mapping[str, Array]) -> engines.Network:
    """The network with these weights."""

    def parameters(layer: str) -> tuple[Array, Array]:
        return variables[f"vggish/{layer}/weights"], variables[f"vggish/{layer}/biases"]

    def trunk(ops: engines.Ops, x: Any) -> Any:
        for name in _LAYERS:
            if name.startswith("conv"):
                x = ops.relu(ops.convolve(x, *parameters(name)))
                x = ops.halve(x) if name in _HALVING else x
        return x

    def tail(ops: engines.Ops, x: Any) -> Any:
        x = ops.relu(ops.dense(x, *parameters("fc1/fc1_1")))
        x = ops.relu(ops.dense(x, *parameters("fc1/fc1_2")))
        return ops.dense(x, *parameters("fc2"))

    return engines.Network("vggish", (spectrograms.PATCH_FRAMES, spectrograms.MEL_BANDS), trunk, tail)


def is_trained(network: engines.Run) -> bool:
    """Google's smoke test: whether 3 s of a 1 kHz sine give the statistics that the true weights give."""
    time_s = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    embedding = network(spectrograms.patches(np.sin(2 * np.pi * 1000 * time_s).astype(np.float32)))
    return bool(np.allclose([embedding.mean(), embedding.std()], [0.000657, 0.343], rtol=0.1, atol=0))


def read_pca(
    path: Path | None, weights: Path | None = None, *, allow_untrained: bool = False, download: bool = True
) -> tuple[Array, Array]:
    """Read AudioSet's PCA parameters: means (128,) and eigenvectors (128, 128), one a row.

    Without a `path` they are looked for beside the weights and in the cache, then downloaded (`download`). WeightsError
    if they are missing, or not Google's and `allow_untrained` is False.
    """
    path = path or _find_pca(WEIGHTS.find(weights, download=download), download)
    try:
        content = files.read_bytes(path, _MAX_PCA_BYTES)
        arrays = files.read_npz(io.BytesIO(content), _MAX_PCA_BYTES)
        means = arrays["pca_means"].reshape(-1).astype(np.float32)
        eigenvectors = arrays["pca_eigen_vectors"].astype(np.float32)
    except files.DAMAGES as error:
        raise WeightsError(f"{path}: not VGGish's PCA parameters ({files.brief(error)})") from error
    if not allow_untrained and hashlib.sha256(content).hexdigest() != PCA_SHA256:
        raise WeightsError(f"{path}: not Google's PCA parameters, whose SHA-256 is {PCA_SHA256}")
    if means.shape != (DIM,) or eigenvectors.shape != (DIM, DIM):
        raise WeightsError(f"{path}: PCA parameters of the shapes {means.shape} and {eigenvectors.shape}")
    return means, eigenvectors


def _find_pca(weights: Path, download: bool) -> Path:
    """The PCA parameters beside the weights or in the cache, else downloaded."""
    kept = files.cache_folder() / PCA_NAME
    for place in (weights / PCA_NAME, weights.with_name(PCA_NAME), kept):
        if place.is_file():
            return place
    try:
        if not download:
            raise WeightsError("no host was asked")
        return checkpoints.fetch_file(PCA_URL, kept, PCA_SHA256)
    except (WeightsError, DownloadError) as error:
        raise WeightsError(
            f"VGGish's PCA parameters are neither beside the weights ({weights}) nor in {kept.parent} ({error}): "
            f"give Google's file, {PCA_URL}, with --pca"
        ) from error
