"""`Embedder`: what turns sound into a row of numbers for each window, and `EMBEDDERS`, the registry of them.

An embedder works in two halves, so that a run can overlap them: `frontend` runs in the threads that decode, `network`
on batches that cross the borders of blocks and tracks. Those that need no more than a spectrogram are defined here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import spectrograms
from jamendo_mood.audio.decoding import SAMPLE_RATE_HZ, Wave
from jamendo_mood.audio.spectrograms import FFT_LENGTH, MEL_BANDS, PATCH_FRAMES
from jamendo_mood.embedders import checkpoints, engines
from jamendo_mood.util.errors import UsageError, WeightsError

GROUP = "jamendo_mood.embedders"  #: entry points of this group are embedders of other packages

EMBEDDERS = {
    "vggish": "jamendo_mood.embedders.vggish:load_vggish",
    "vggish-pca": "jamendo_mood.embedders.vggish:load_vggish_pca",
    "logmel": "jamendo_mood.embedders.registry:load_logmel",
    "yamnet": "jamendo_mood.embedders.yamnet:load_yamnet",
    "yamnet-scores": "jamendo_mood.embedders.yamnet:load_yamnet_scores",
    "musicnn": "jamendo_mood.embedders.musicnn:load_musicnn",
    "handcrafted": "jamendo_mood.embedders.handcrafted:load_handcrafted",
    "mel-patches": "jamendo_mood.embedders.registry:load_mel_patches",
    "spectrogram-patches": "jamendo_mood.embedders.registry:load_linear_patches",
    "mfcc-patches": "jamendo_mood.embedders.registry:load_mfcc_patches",
}
"""By name, the function that makes an embedder from its `EmbedderOptions`; imported when it is asked for."""

PATCH_S = PATCH_FRAMES * spectrograms.HOP_S  # 0.96

#: `EmbedderSpec.weights_sha256` of embeddings that Google released: of the true weights, whose hash is unknown
RELEASED = "released"
MIXED = "mixed"  #: `EmbedderSpec.engine` of a store whose rows are by several, as `extract --mix-engines` allows
UNTRAINED = "untrained"  #: `EmbedderSpec.variant` of weights that fail Google's own test

LINEAR_BANDS = 64
BAND_BINS = FFT_LENGTH // 2 // LINEAR_BANDS  # 4: a band is 125 Hz wide
COEFFICIENTS = 20  # of MFCC

_FITS: dict[Any, Callable[[Any], bool]] = {
    "str": lambda text: isinstance(text, str) and text.isprintable() and len(text) <= 1_000,
    "int": lambda number: type(number) is int and 0 <= number <= 1_000_000,
    "float | None": lambda seconds: seconds is None or (type(seconds) in (int, float) and 1e-4 <= seconds <= 1e6),
}
"""By the type of a field of `EmbedderSpec`, what may be in it where somebody else wrote it."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EmbedderSpec:
    """What an embedding was made with: written into every store and every tagger.

    A store has embeddings of one precision and one engine; a tagger takes any, as they differ by less than a tag score
    shows (cosine 0.9999 for bfloat16, 0.9999999 for engines).
    """

    name: str  # a key of `EMBEDDERS`, or an entry point of another package
    weights_sha256: str  # of the network; empty if it has no weights, ``released`` if Google made the embeddings
    sample_rate_hz: int
    window_s: float | None  # length of the sound that a row describes; None: a whole track
    hop_s: float | None  # step to the sound of the next row; None: a whole track
    dim: int  # numbers a row
    variant: str = ""  # what makes these embeddings other than the usual ones
    precision: str = "float32"  # of the network
    engine: str = ""  # that ran it, one of `engines.ENGINES`, or ``mixed``; empty if there is none

    def accepts(self, other: EmbedderSpec) -> bool:
        """Whether embeddings of `other` may stand where this spec's are expected."""
        same = replace(other, precision=self.precision, engine=self.engine)
        if RELEASED in (self.weights_sha256, other.weights_sha256):
            # True weights (those that pass the smoke test have no variant) are what Google used.
            same = replace(same, weights_sha256=self.weights_sha256)
        return self == same

    def holds(self, other: EmbedderSpec) -> bool:
        """Whether rows of `other` may lie in a store of this: all is the same, but for the engine if that is mixed."""
        return self == (replace(other, engine=MIXED) if self.engine == MIXED else other)

    def __str__(self) -> str:
        said = [self.rate, self.weights_sha256 and f"weights {self.weights_sha256[:12]}", self.variant]
        said += ["" if self.precision == "float32" else f"in {self.precision}", self.engine and f"by {self.engine}"]
        return f"{self.name} ({', '.join(filter(None, said))})"

    @property
    def rate(self) -> str:
        """How much of it there is, such as ``128 numbers every 0.96 s``."""
        return f"{self.dim} numbers " + ("a track" if self.hop_s is None else f"every {self.hop_s:g} s")

    def times_s(self, count: int) -> Array:
        """Start of each of `count` rows in seconds, float32 (count,)."""
        return (np.arange(count) * (self.hop_s or 0.0)).astype(np.float32)

    def duration_s(self, count: int) -> float:
        """About how long a track of `count` rows is; 0 if a row is a whole track."""
        return count * (self.hop_s or 0.0)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EmbedderSpec:
        """Build from what `dataclasses.asdict` gave; TypeError or ValueError if that is not what `values` is."""
        spec = cls(**values)
        if "engine" not in values and spec.weights_sha256:  # written when there was no other
            spec = replace(spec, engine="tensorflow")
        for own in fields(cls):
            if not _FITS[own.type](getattr(spec, own.name)):
                raise ValueError(f"{own.name} makes no sense")
        if not spec.dim:
            raise ValueError("dim is 0")
        return spec


@dataclass(frozen=True)
class Embedder:
    """A spec and how to compute it."""

    spec: EmbedderSpec
    #: float32 (samples,) -> float32 (frames, ...): sound at ``spec.sample_rate_hz`` to one input for each
    #: window. One that can step by other than its own hop takes ``hop_frames`` too, in units of 10 ms.
    frontend: Callable[..., Array]
    #: float32 (batch, ...) -> float32 (batch, dim): each row depends on its own input alone
    network: Callable[[Array], Array]
    #: ``frames = 1 + (samples - window_samples) // hop_samples``. Where rows are of whole tracks, the least and the
    #: most that count of a track.
    window_samples: int
    hop_samples: int
    #: reads the network anew, to be written into a file, say; None where `network` is not one that `engines` runs
    define: Callable[[], engines.Network] | None = None

    def embed(self, wave: Wave) -> Array:
        """Embed a wave, padded with silence to a window: float32 (samples,), range [-1, 1] -> float32 (frames, dim)."""
        return self.network(self.frontend(pad_to_window(wave, self.window_samples)))


@dataclass(frozen=True)
class EmbedderOptions:
    """How to make an embedder."""

    weights: Path | None = None  #: see `checkpoints.Weights.find`
    pca: Path | None = None  #: Google's PCA parameters; None looks beside the weights, then downloads them
    allow_untrained: bool = False  #: take weights that are not the true ones
    precision: str = "auto"  #: what VGGish computes in: ``float32``, ``bfloat16``, or ``auto``, see `engines.choose`
    #: what runs the network, one of `engines.ENGINES`. A store takes embeddings of one precision and one engine alone:
    #: to add to one that was begun elsewhere, give those of its ``spec``.
    engine: str = "auto"
    hop_s: float | None = None  #: step from window to window, a multiple of 10 ms; None is the embedder's own
    offline: bool = False  #: ask no host for weights that are not here

    @classmethod
    def of(cls, arguments: Any) -> EmbedderOptions:
        """The options of a parsed command line."""
        given = {"hop_s": getattr(arguments, "hop", None), **vars(arguments)}
        return cls(**{own.name: given[own.name] for own in fields(cls) if own.name in given})


def load_embedder(name: str | EmbedderSpec, options: EmbedderOptions | None = None) -> Embedder:
    """Load an embedder.

    Parameters
    ----------
    name : str or EmbedderSpec
        A key of `EMBEDDERS` or an entry point of another package; or the spec of existing embeddings, to make more like
        them: the same embedder at the same hop.
    options : EmbedderOptions or None

    Raises
    ------
    UsageError
        No embedder has this name, it cannot be imported, or it cannot use that hop.
    WeightsError
        Its weights are missing or wrong.
    """
    options = options or EmbedderOptions()
    if isinstance(name, EmbedderSpec):
        options = replace(options, hop_s=name.hop_s)
        return _load_again(name, options) or load_embedder(name.name, options)
    try:
        embedder = _find_factory(name)(options)
    except WeightsError as error:
        _say_whose(options.weights, name, error)
        raise
    if options.weights is not None and embedder.spec.weights_sha256:
        known = "" if embedder.spec.variant else _network_of(name)
        checkpoints.remember(options.weights, embedder.spec.weights_sha256, known)
    if embedder.spec.name != name:
        raise UsageError(f"the embedder {name!r} calls itself {embedder.spec.name!r}: a tagger could not find it again")
    return embedder if options.hop_s in (None, embedder.spec.hop_s) else _with_hop(embedder, options.hop_s)


NETWORKS = ("vggish", "yamnet", "musicnn")  #: the modules of this room that have `WEIGHTS`, a `checkpoints.Weights`


def weights_of(network: str) -> checkpoints.Weights:
    """The weights of a network of `NETWORKS`: where they are, how to get them."""
    weights: checkpoints.Weights = importlib.import_module(f"jamendo_mood.embedders.{network}").WEIGHTS
    return weights


def check_weights(network: str, path: Path) -> EmbedderSpec:
    """What embeddings by weights of a network are made with; WeightsError if they are not the released ones."""
    return _find_factory(network)(EmbedderOptions(path, precision="float32")).spec


def _network_of(name: str) -> str:
    """What the weights of an embedder of ours are called: ``VGGish`` for ``vggish-pca``; nothing for another's."""
    module = EMBEDDERS.get(name, "").partition(":")[0].rpartition(".")[2]
    return weights_of(module).name if module in NETWORKS else ""


def _load_again(spec: EmbedderSpec, options: EmbedderOptions) -> Embedder | None:
    """The embedder by the very weights that a spec has, from where they were named last; None if they are not there."""
    place = checkpoints.recall(spec.weights_sha256)
    if place and options.weights is None:
        with contextlib.suppress(WeightsError):  # the SHA-256 names them: they were allowed when the store was made
            embedder = load_embedder(spec.name, replace(options, weights=place, allow_untrained=bool(spec.variant)))
            return embedder if embedder.spec.weights_sha256 == spec.weights_sha256 else None
    return None


def _say_whose(path: Path | None, name: str, error: WeightsError) -> None:
    """Raise an error that says whose weights those are that could not be used, if they are of another network."""
    if path is None or not path.exists() or not (own := _network_of(name)):
        return
    for weights in map(weights_of, NETWORKS):
        if weights.name != own:
            with contextlib.suppress(WeightsError):
                weights.read(path)
                raise UsageError(
                    f"{path}: this is {weights.name}; {name} is an embedder by {own}, and --embedder "
                    f"{weights.name.lower()} one by these weights"
                ) from error


def _find_factory(name: str) -> Callable[[EmbedderOptions], Embedder]:
    """What makes the embedder of this name; no other package can replace one of ours."""
    from importlib.metadata import EntryPoint, entry_points  # here: the process that reads Parquet imports little

    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    known |= {own: EntryPoint(own, where, GROUP) for own, where in EMBEDDERS.items()}
    if name not in known:
        names = [*EMBEDDERS, *sorted(known.keys() - EMBEDDERS.keys())]
        raise UsageError(f"unknown embedder {name!r} (known: {', '.join(names)})")
    try:
        factory: Callable[[EmbedderOptions], Embedder] = known[name].load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the embedder {name!r} ({known[name].value}) cannot be imported ({error})") from error
    return factory


def _with_hop(embedder: Embedder, hop_s: float) -> Embedder:
    """The same embedder with another step from window to window."""
    name = embedder.spec.name
    if "hop_frames" not in inspect.signature(embedder.frontend).parameters:
        raise UsageError(f"{name} gives {embedder.spec.rate}: its hop cannot be set")
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


def patch_embedder(
    name: str,
    network: Callable[[Array], Array],
    dim: int,
    *,
    frontend: Callable[..., Array] = spectrograms.patches,
    weights_sha256: str = "",
    **about: str,
) -> Embedder:
    """An embedder on patches of 0.96 s that do not overlap; `about` is what else its spec has, such as the engine."""
    spec = EmbedderSpec(name, weights_sha256, SAMPLE_RATE_HZ, PATCH_S, PATCH_S, dim, **about)
    return Embedder(spec, frontend, network, spectrograms.PATCH_SAMPLES, spectrograms.PATCH_HOP_SAMPLES)


def load_logmel(_: EmbedderOptions) -> Embedder:
    """Mean and standard deviation over time of the 64 log-mel bands of each patch: a baseline without weights."""

    def network(patches: Array) -> Array:
        return np.concatenate([patches.mean(axis=1), patches.std(axis=1)], axis=1)

    return patch_embedder("logmel", network, 2 * MEL_BANDS)


def flatten(patches: Array) -> Array:
    """Each patch as one row, frame after frame: (patches, 96, bands) -> (patches, 96 * bands)."""
    return patches.reshape(len(patches), -1)


def linear_patches(wave: Wave, hop_frames: int = PATCH_FRAMES) -> Array:
    """Patches of the spectrogram in bands of equal width, cut as by `spectrograms.patches`: float32 (patches, 96, 64).

    They are ``log(magnitude + 0.01)``, where a magnitude is the mean of four bins; the bin at 0 Hz is left out.
    """
    return spectrograms.cut_patches(spectrograms.log_bands(wave, _linear_matrix()), hop_frames)


def mfcc(patches: Array) -> Array:
    """Mel-frequency cepstral coefficients of each frame: float32 (patches, 96, 64) -> (patches, 96 * 20).

    The first 20 of an orthonormal DCT-II over the log-mel bands (Davis and Mermelstein, "Comparison of parametric
    representations for monosyllabic word recognition in continuously spoken sentences", IEEE TASSP 28(4), 1980).
    """
    import scipy.fft

    coefficients = scipy.fft.dct(patches, type=2, norm="ortho", axis=-1)[..., :COEFFICIENTS]
    return flatten(np.asarray(coefficients, np.float32))


def _of_patches(name: str, columns: int, network: Callable[[Array], Array], **options: Any) -> Any:
    """What loads an embedder whose rows are the patches themselves, with so many numbers a frame."""
    return lambda _: patch_embedder(name, network, PATCH_FRAMES * columns, **options)


load_mel_patches = _of_patches("mel-patches", MEL_BANDS, flatten)
load_linear_patches = _of_patches("spectrogram-patches", LINEAR_BANDS, flatten, frontend=linear_patches)
load_mfcc_patches = _of_patches("mfcc-patches", COEFFICIENTS, mfcc)


@functools.cache
def _linear_matrix() -> Any:
    import scipy.sparse

    matrix = np.repeat(np.eye(LINEAR_BANDS, dtype=np.float32), BAND_BINS, axis=0) / BAND_BINS
    return scipy.sparse.csc_array(np.pad(matrix, ((1, 0), (0, 0))))  # the bin at 0 Hz is in none
