"""`Embedder`: what turns sound into a row of numbers for each window, and `EMBEDDERS`, the registry of them.

An embedder works in two halves, so that a run can overlap them: `frontend` runs in the threads that decode, `network`
on batches that cross the borders of blocks and tracks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.embedders import features, vggish, yamnet
from jamendo_mood.util.errors import UsageError

PATCH_S = spectrograms.PATCH_FRAMES * spectrograms.HOP_S  # 0.96

RELEASED = "released"
"""`EmbedderSpec.weights_sha256` of embeddings released by Google: the true weights, whose hash is not told."""

UNTRAINED = "untrained"
"""`EmbedderSpec.variant` of weights that fail VGGish's smoke test."""

_PCA_CLIP = 2.0
_LONGEST_TEXT, _MOST_NUMBERS = 1_000, 1_000_000  # of a spec that somebody else wrote: characters, numbers a row
_SHORTEST_S, _LONGEST_S = 1e-4, 1e6  # the same of its windows and hops

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
    window_s, hop_s : float or None
        Length of the sound one row describes, and the step to the next row's; None: one row describes a whole track.
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
    window_s: float | None
    hop_s: float | None
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
        return f"{self.name} ({self.rate}{weights}{variant}{precision})"

    @property
    def rate(self) -> str:
        """How much of it there is, such as ``128 numbers every 0.96 s``."""
        return f"{self.dim} numbers " + ("a track" if self.hop_s is None else f"every {self.hop_s:g} s")

    def times_s(self, count: int) -> Array:
        """Start of each of `count` rows in seconds, float32 (count,)."""
        return (np.arange(count) * (self.hop_s or 0.0)).astype(np.float32)

    def duration_s(self, count: int) -> float:
        """About how long a track of `count` rows is; 0 where rows do not tell."""
        return count * (self.hop_s or 0.0)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EmbedderSpec:
        """Build from what `dataclasses.asdict` gave; TypeError or ValueError if it is none."""
        spec = cls(**values)
        for name in ("name", "weights_sha256", "variant", "precision"):
            text = getattr(spec, name)
            if not isinstance(text, str) or not text.isprintable() or len(text) > _LONGEST_TEXT:
                raise ValueError(f"{name} is no text of one line")
        for name, least, most in (("sample_rate_hz", 0, 10**6), ("dim", 1, _MOST_NUMBERS)):  # 0: it is not told
            if type(getattr(spec, name)) is not int or not least <= getattr(spec, name) <= most:
                raise ValueError(f"{name} is no whole number from {least} to {most:,}")
        for name in ("window_s", "hop_s"):
            seconds = getattr(spec, name)
            if seconds is not None and (type(seconds) not in (int, float) or not _SHORTEST_S <= seconds <= _LONGEST_S):
                raise ValueError(f"{name} is no number of seconds")
        return spec


@dataclass(frozen=True)
class Embedder:
    """A spec and how to compute it.

    Attributes
    ----------
    spec : EmbedderSpec
    frontend : callable, float32 (samples,) -> float32 (frames, ...)
        Sound at ``spec.sample_rate_hz`` to one input for each window. One that can step by other than its own hop takes
        ``hop_frames`` too, in units of 10 ms.
    network : callable, float32 (batch, ...) -> float32 (batch, dim)
        Each row depends on its own input alone.
    window_samples, hop_samples : int
        ``frames = 1 + (samples - window_samples) // hop_samples``. Where rows are of whole tracks, the least and the
        most that count of a track.
    """

    spec: EmbedderSpec
    frontend: Callable[..., Array]
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
        See `vggish.find_weights` and `yamnet.find_weights`.
    pca : Path or None
        Google's PCA parameters; None looks beside the weights, then downloads them.
    allow_untrained : bool
        Take weights that are not the true ones.
    precision : str
        What VGGish computes in, see `vggish.choose_precision`.
    hop_s : float or None
        Step from window to window, a multiple of 10 ms; None is the embedder's own.
    """

    weights: Path | None = None
    pca: Path | None = None
    allow_untrained: bool = False
    precision: str = "float32"
    hop_s: float | None = None

    @classmethod
    def of(cls, arguments: Any) -> EmbedderOptions:
        """Those that a parsed command line names; where it has no word for the precision, that is ``auto``."""
        precision = getattr(arguments, "precision", "auto")
        hop_s = getattr(arguments, "hop", None)
        return cls(arguments.weights, arguments.pca, arguments.allow_untrained, precision, hop_s)


def load_embedder(name: str | EmbedderSpec, options: EmbedderOptions | None = None) -> Embedder:
    """Load an embedder.

    Parameters
    ----------
    name : str or EmbedderSpec
        A key of `EMBEDDERS`; or what embeddings were made with, to make more of them: by that name, and with that hop.
    options : EmbedderOptions or None

    Raises
    ------
    UsageError
        No embedder has this name, or this one cannot step by that hop.
    WeightsError
        Its weights are missing or wrong.
    """
    options = options or EmbedderOptions()
    if isinstance(name, EmbedderSpec):
        return load_embedder(name.name, replace(options, hop_s=name.hop_s))
    if name not in EMBEDDERS:
        raise UsageError(f"unknown embedder {name!r} (known: {', '.join(EMBEDDERS)})")
    embedder = EMBEDDERS[name](options)
    return embedder if options.hop_s in (None, embedder.spec.hop_s) else _with_hop(embedder, options.hop_s)


def _with_hop(embedder: Embedder, hop_s: float) -> Embedder:
    """The same embedder with another step from window to window."""
    name = embedder.spec.name
    if embedder.spec.hop_s is None:
        raise UsageError(f"{name} gives one row a track: there is no hop to set")
    hop_frames = round(hop_s / spectrograms.HOP_S) if math.isfinite(hop_s) else 0
    if hop_frames < 1 or not math.isclose(hop_frames * spectrograms.HOP_S, hop_s, rel_tol=1e-9):
        raise UsageError(f"a hop of {hop_s:g} s: {name} steps by multiples of {spectrograms.HOP_S:g} s, such as 0.5")
    return replace(
        embedder,
        spec=replace(embedder.spec, hop_s=hop_frames / round(1 / spectrograms.HOP_S)),  # 0.57, where 57 x 0.01 is not
        frontend=functools.partial(embedder.frontend, hop_frames=hop_frames),
        hop_samples=hop_frames * spectrograms.HOP_SAMPLES,
    )


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
    means, eigenvectors = vggish.read_pca(options.pca, options.weights, allow_untrained=options.allow_untrained)

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

    return _patch_embedder("logmel", network, 2 * spectrograms.MEL_BANDS)


def load_linear_patches(_: EmbedderOptions) -> Embedder:
    """Patches of the spectrogram in bands of equal width."""
    embedder = _patch_embedder("spectrogram-patches", features.flatten, features.LINEAR_DIM)
    return replace(embedder, frontend=features.linear_patches)


def load_yamnet(options: EmbedderOptions, *, scores: bool = False) -> Embedder:
    """YAMNet's embeddings, or its scores of 521 classes of sound, range [0, 1]."""
    network, sha256, variant = yamnet.load(options.weights, allow_untrained=options.allow_untrained, scores=scores)
    name, dim = ("yamnet-scores", yamnet.CLASSES) if scores else ("yamnet", yamnet.DIM)
    hop_s = yamnet.HOP_FRAMES * spectrograms.HOP_S
    return Embedder(
        spec=EmbedderSpec(name, sha256, SAMPLE_RATE_HZ, yamnet.WINDOW_S, hop_s, dim, variant),
        frontend=yamnet.patches,
        network=network,
        window_samples=spectrograms.PATCH_SAMPLES,
        hop_samples=yamnet.HOP_FRAMES * spectrograms.HOP_SAMPLES,
    )


def load_handcrafted(_: EmbedderOptions) -> Embedder:
    """57 numbers a track that have names: `features.NAMES`."""
    features.check_librosa()
    return Embedder(
        spec=EmbedderSpec("handcrafted", "", SAMPLE_RATE_HZ, None, None, len(features.NAMES)),
        frontend=features.measure,
        network=np.asarray,
        window_samples=features.SHORTEST_SAMPLES,
        hop_samples=features.LONGEST_SAMPLES,
    )


EMBEDDERS: dict[str, Callable[[EmbedderOptions], Embedder]] = {
    "vggish": load_vggish,
    "vggish-pca": load_vggish_pca,
    "logmel": load_logmel,
    "yamnet": load_yamnet,
    "yamnet-scores": functools.partial(load_yamnet, scores=True),
    "handcrafted": load_handcrafted,
    "mel-patches": lambda _: _patch_embedder("mel-patches", features.flatten, features.MEL_DIM),
    "spectrogram-patches": load_linear_patches,
    "mfcc-patches": lambda _: _patch_embedder("mfcc-patches", features.mfcc, features.MFCC_DIM),
}


def _patch_embedder(
    name: str, network: Callable[[Array], Array], dim: int, sha256: str = "", variant: str = ""
) -> Embedder:
    """An embedder on log-mel patches of 0.96 s."""
    return Embedder(
        spec=EmbedderSpec(name, sha256, SAMPLE_RATE_HZ, PATCH_S, PATCH_S, dim, variant),
        frontend=spectrograms.patches,
        network=network,
        window_samples=spectrograms.PATCH_SAMPLES,
        hop_samples=spectrograms.PATCH_HOP_SAMPLES,
    )
