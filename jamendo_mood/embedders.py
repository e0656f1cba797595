"""`Embedder`: what turns sound into a row of numbers for each window, and `EMBEDDERS`, the registry of them.

An embedder works in two halves, so that a run can overlap them: `frontend` runs in the threads that decode, `network`
on batches that cross the borders of blocks and tracks.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood import melspec, vggish
from jamendo_mood.audio import SAMPLE_RATE_HZ, Wave
from jamendo_mood.errors import UsageError, WeightsError
from jamendo_mood.quiet import import_quietly

PATCH_S = melspec.PATCH_FRAMES * melspec.HOP_S  # 0.96

RELEASED = "released"
"""`EmbedderSpec.weights_sha256` of embeddings released by Google: the true weights, whose hash is not told."""

UNTRAINED = "untrained"
"""`EmbedderSpec.variant` of weights that fail VGGish's smoke test."""

PCA_MD5 = "c80cae691033abe7c7ecd11ea39fc834"
PCA_NAME = "vggish_pca_params.npz"
PCA_URL = f"https://storage.googleapis.com/audioset/{PCA_NAME}"
_PCA_CLIP = 2.0

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EmbedderSpec:
    """What an embedding was made with: written into every store and every tagger.

    Attributes
    ----------
    name : str
        A key of `EMBEDDERS`.
    weights_sha256 : str
        Of the network's weights; empty where there are none, ``released`` where Google made the embeddings.
    sample_rate_hz : int
    window_s, hop_s : float
        Length of the sound one row describes, and the step to the next row's.
    dim : int
        Numbers a row.
    variant : str
        Empty, or what makes these embeddings other than the usual ones.
    precision : str
        What the network computed in: ``float32`` or ``bfloat16``. A store has embeddings of one precision; a tagger
        takes both, for they differ by less than a tag score shows (cosine 0.9999).
    """

    name: str
    weights_sha256: str
    sample_rate_hz: int
    window_s: float
    hop_s: float
    dim: int
    variant: str = ""
    precision: str = "float32"

    def accepts(self, other: EmbedderSpec) -> bool:
        """Whether embeddings of `other` may stand where this spec's are expected."""
        same = replace(other, precision=self.precision)
        if RELEASED in (self.weights_sha256, other.weights_sha256):
            # True weights (those that pass the smoke test have no variant) are what Google used.
            same = replace(same, weights_sha256=self.weights_sha256)
        return self == same

    def __str__(self) -> str:
        weights = f", weights {self.weights_sha256[:12]}" if self.weights_sha256 else ""
        variant = f", {self.variant}" if self.variant else ""
        precision = "" if self.precision == "float32" else f", in {self.precision}"
        return f"{self.name} ({self.dim} numbers every {self.hop_s:g} s{weights}{variant}{precision})"

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EmbedderSpec:
        """Build from what `dataclasses.asdict` gave; TypeError for unknown or missing fields."""
        return cls(**values)


@dataclass(frozen=True)
class Embedder:
    """A spec and how to compute it.

    Attributes
    ----------
    spec : EmbedderSpec
    frontend : callable, float32 (samples,) -> float32 (frames, ...)
        Sound at ``spec.sample_rate_hz`` to one input for each window.
    network : callable, float32 (batch, ...) -> float32 (batch, dim)
        Each row depends on its own input alone.
    window_samples, hop_samples : int
        ``frames = 1 + (samples - window_samples) // hop_samples``.
    """

    spec: EmbedderSpec
    frontend: Callable[[Wave], Array]
    network: Callable[[Array], Array]
    window_samples: int
    hop_samples: int

    def embed(self, wave: Wave) -> Array:
        """Embed a whole wave at once; a wave shorter than a window is padded with silence.

        Parameters
        ----------
        wave : float32 array (samples,)
            At ``spec.sample_rate_hz``, range [-1, 1].

        Returns
        -------
        float32 array (frames, dim)
            At least one frame.
        """
        return self.network(self.frontend(pad_to_window(wave, self.window_samples)))


@dataclass(frozen=True)
class EmbedderOptions:
    """Where an embedder finds its weights.

    Attributes
    ----------
    weights : Path or None
        See `vggish.find_weights`.
    pca : Path or None
        Google's PCA parameters; None looks beside the weights, then downloads them.
    allow_untrained : bool
        Take weights that are not the true ones.
    precision : str
        What VGGish computes in, see `vggish.choose_precision`.
    """

    weights: Path | None = None
    pca: Path | None = None
    allow_untrained: bool = False
    precision: str = "float32"

    @classmethod
    def of(cls, arguments: Any) -> EmbedderOptions:
        """Those that a parsed command line names; where it has no word for the precision, that is ``auto``."""
        precision = getattr(arguments, "precision", "auto")
        return cls(arguments.weights, arguments.pca, arguments.allow_untrained, precision)


def load_embedder(name: str, options: EmbedderOptions | None = None) -> Embedder:
    """Load an embedder by its name.

    Raises
    ------
    UsageError
        No embedder has this name.
    WeightsError
        Its weights are missing or wrong.
    """
    if name not in EMBEDDERS:
        raise UsageError(f"unknown embedder {name!r} (known: {', '.join(EMBEDDERS)})")
    return EMBEDDERS[name](options or EmbedderOptions())


def pad_to_window(wave: Wave, window_samples: int) -> Wave:
    """Lengthen a wave with silence until it fills one window."""
    return wave if len(wave) >= window_samples else np.pad(wave, (0, window_samples - len(wave)))


def load_vggish(options: EmbedderOptions) -> Embedder:
    """VGGish as TF-Hub gives it: 128 numbers, before any activation."""
    precision = vggish.choose_precision(options.precision)
    network, sha256, trained = vggish.load(
        options.weights, allow_untrained=options.allow_untrained, precision=precision
    )
    embedder = _patch_embedder("vggish", network, vggish.DIM, sha256, "" if trained else UNTRAINED)
    return replace(embedder, spec=replace(embedder.spec, precision=precision))


def load_vggish_pca(options: EmbedderOptions) -> Embedder:
    """VGGish as AudioSet released it: PCA-whitened, clipped to [-2, 2], quantised to 0 ... 255.

    References
    ----------
    ``vggish_postprocess.py`` of the VGGish release.
    """
    plain = load_vggish(options)
    means, eigenvectors = read_pca(options)

    def network(patches: Array) -> Array:
        whitened = (plain.network(patches) - means) @ eigenvectors.T
        clipped = np.clip(whitened, -_PCA_CLIP, _PCA_CLIP)
        quantised = ((clipped + _PCA_CLIP) * (255 / (2 * _PCA_CLIP))).astype(np.uint8)
        return np.asarray(quantised, np.float32)

    return replace(plain, spec=replace(plain.spec, name="vggish-pca"), network=network)


def load_logmel(_: EmbedderOptions) -> Embedder:
    """Mean and standard deviation over time of the 64 log-mel bands of each patch: a baseline without weights."""

    def network(patches: Array) -> Array:
        return np.concatenate([patches.mean(axis=1), patches.std(axis=1)], axis=1)

    return _patch_embedder("logmel", network, 2 * melspec.MEL_BANDS)


EMBEDDERS: dict[str, Callable[[EmbedderOptions], Embedder]] = {
    "vggish": load_vggish,
    "vggish-pca": load_vggish_pca,
    "logmel": load_logmel,
}


def read_pca(options: EmbedderOptions) -> tuple[Array, Array]:
    """Read AudioSet's PCA parameters: means (128,) and eigenvectors (128, 128), one a row.

    Raises
    ------
    WeightsError
        They are missing, or not Google's file while `allow_untrained` is False.
    """
    path = options.pca or _find_pca(vggish.find_weights(options.weights))
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            means = arrays["pca_means"].reshape(-1).astype(np.float32)
            eigenvectors = arrays["pca_eigen_vectors"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not VGGish's PCA parameters ({error})") from error
    if not options.allow_untrained and hashlib.md5(content).hexdigest() != PCA_MD5:
        raise WeightsError(f"{path}: not Google's PCA parameters, whose MD5 is {PCA_MD5}")
    if means.shape != (vggish.DIM,) or eigenvectors.shape != (vggish.DIM, vggish.DIM):
        raise WeightsError(f"{path}: PCA parameters of the shapes {means.shape} and {eigenvectors.shape}")
    return means, eigenvectors


def _find_pca(weights: Path) -> Path:
    """The PCA parameters beside the weights, else downloaded with TensorFlow's own checked download."""
    for folder in (weights, weights.parent):
        if (folder / PCA_NAME).is_file():
            return folder / PCA_NAME
    keras = import_quietly("keras")

    try:
        return Path(keras.utils.get_file(PCA_NAME, PCA_URL, file_hash=PCA_MD5, cache_subdir="jamendo-mood"))
    except Exception as error:  # Keras raises a bare Exception for a failed download
        raise WeightsError(
            f"VGGish's PCA parameters are not beside the weights ({weights}) and downloading {PCA_URL} failed: "
            "give the file with --pca"
        ) from error


def _patch_embedder(
    name: str, network: Callable[[Array], Array], dim: int, sha256: str = "", variant: str = ""
) -> Embedder:
    """An embedder on log-mel patches of 0.96 s."""
    return Embedder(
        spec=EmbedderSpec(name, sha256, SAMPLE_RATE_HZ, PATCH_S, PATCH_S, dim, variant),
        frontend=melspec.patches,
        network=network,
        window_samples=melspec.PATCH_SAMPLES,
        hop_samples=melspec.PATCH_HOP_SAMPLES,
    )
