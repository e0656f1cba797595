"""Heads: small networks from embeddings to scores, and `HEADS`, the registry of them.

A head sees rows: the frames of a track, or the one row that they are pooled to. It works on any number of rows; a mask
says which of them are padding.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio.spectrograms import PATCH_FRAMES
from jamendo_mood.training import data
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.process import count_cores, import_quietly

STANDARDISE, SCORES = "standardise", "scores"  #: names of a head's first and last layer

CONV_ROWS = 5
BATCH_ROWS = 16_384  # scored at once: some 40 MB a layer
BATCH_NUMBERS = 1 << 24  # the same for rows as wide as patches: 64 MB

Array = npt.NDArray[np.float32]
HeadCall = Callable[[Sequence[Array]], Array]  #: rows (n, rows, width) and their mask (n, rows) to scores (n, targets)


@dataclass(frozen=True)
class HeadConfig:
    """What a head is built from."""

    name: str = "attention"  #: a key of `HEADS`
    pooling: str = "frames"  #: what it sees of a track, a key of `train.POOLINGS`: ``frames``, ``mean`` or ``mean+std``
    hidden: int = 600  #: units of a hidden layer, where there are any; channels of the last one of ``cnn``
    layers: int = 3  #: hidden layers
    dropout: float = 0.2  #: share of hidden units dropped in training, in [0, 1)
    #: penalty on the squared weights that lead to one target: a linear head is then one logistic regression per tag
    #: with ``C = 1 / (2 * l2)``, whatever the number of tags and of examples
    l2: float = 0.0
    #: standardised inputs are kept within so many standard deviations; 0 leaves them as they are. For features with
    #: long tails, such as openSMILE's.
    clip: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in HEADS:
            known = ", ".join(HEADS)
            raise UsageError(f"unknown head {self.name!r} (known: {known}; import the package that registers it)")
        if self.pooling not in data.POOLINGS:
            raise UsageError(f"unknown pooling {self.pooling!r} (known: {', '.join(data.POOLINGS)})")
        fine = 0 <= self.dropout < 1 and 0 <= self.l2 < np.inf and 0 <= self.clip < np.inf
        if min(self.hidden, self.layers) < 1 or not fine:
            raise UsageError("a head needs hidden and layers from 1 up, dropout in [0, 1), l2 and clip from 0 up")


def build_head(config: HeadConfig, dim: int, targets: int, activation: str, examples: int = 1) -> Any:
    """Build an untrained head for frames of `dim` numbers, a Keras model.

    It maps rows (n, rows, width) and their mask (n, rows) to scores (n, targets). Its first layer standardises the
    rows and is to be adapted to the training part. `activation` is Keras' name for what turns the last layer's sums
    into scores, `examples` how many it is to be trained on, which the penalty goes by.
    """
    keras = import_quietly("keras")

    rows = keras.Input((None, data.width_of(config.pooling, dim)))
    mask = keras.Input((None,))
    weights = keras.ops.expand_dims(mask, -1)
    x = keras.layers.Normalization(name=STANDARDISE)(rows)
    if config.clip:
        x = keras.ops.clip(x, -config.clip, config.clip)
    # Keras' losses are means over examples and targets, a penalty is a sum over all weights.
    penalty = keras.regularizers.L2(config.l2 / targets / examples) if config.l2 else None
    scores = keras.layers.Dense(targets, activation, kernel_regularizer=penalty, name=SCORES)
    found = HEADS[config.name].build(config, x, weights, scores)
    if found.shape != (None, targets):
        raise UsageError(f"the head {config.name!r} makes scores of the shape {found.shape}, not (tracks, {targets})")
    return keras.Model([rows, mask], found)


def run_heads(heads: Sequence[HeadCall], tracks: Sequence[Array]) -> Array:
    """Mean scores of several heads: n float32 arrays (rows, width) -> (n, targets).

    Tracks of about the same length are scored together, so that there is little padding.
    """
    most = min(BATCH_ROWS, BATCH_NUMBERS // tracks[0].shape[-1])
    lengths = np.array([len(track) for track in tracks])
    order = np.argsort(lengths, kind="stable")
    batches: list[npt.NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        fit = np.flatnonzero(lengths[order[start:]] * np.arange(1, len(order) - start + 1) <= most)
        stop = start + (int(fit[-1]) + 1 if len(fit) else 1)
        batches.append(order[start:stop])
        start = stop

    def score(rows: npt.NDArray[np.intp]) -> Array:
        padded = data.pad([tracks[row] for row in rows])
        return np.asarray(np.mean([head(padded) for head in heads], axis=0))

    # Threads of OpenBLAS wait for each other in loops: on a machine that is busy otherwise, two of them took 16 times
    # the processor time of one. So each batch has one thread, and there are several batches at a time.
    with _alone, _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(count_cores()) as pool:
        scores = np.concatenate(list(pool.map(score, batches)))
    result = np.empty_like(scores, np.float32)
    result[order] = scores
    return result


_alone = threading.Lock()  # how many threads BLAS has is the whole process's setting


@functools.cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _mean(x: Any, weights: Any) -> Any:
    """Weighted mean over the rows: (n, rows, width), (n, rows, 1 or width) -> (n, width)."""
    ops = import_quietly("keras").ops
    return ops.sum(weights * x, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1e-6)


def _hide(config: HeadConfig, x: Any) -> Any:
    """One hidden layer."""
    layers = import_quietly("keras").layers
    # Normalised for each row by itself: unlike batch statistics, that is the same in training and in use.
    x = layers.LayerNormalization()(layers.Dense(config.hidden)(x))
    return layers.Dropout(config.dropout)(layers.Activation("relu")(x))


def _add_linear(_: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Score each row by itself; the track's score is the mean."""
    return _mean(scores(x), weights)


def _add_mlp(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Hidden layers on each row, their mean over the rows, scores of that."""
    for _ in range(config.layers):
        x = _hide(config, x)
    return scores(_mean(x, weights))


def _add_attention(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Hidden layers on each row, and gates that weigh each feature of each row before the mean is taken.

    Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", TASLP 2019: the feature-level
    attention model.
    """
    layers = import_quietly("keras").layers
    for _ in range(config.layers):
        x = _hide(config, x)
    gates = layers.Dense(config.hidden, "sigmoid")(x)
    pooled = layers.LayerNormalization()(_mean(x, gates * weights))
    return scores(layers.Dropout(config.dropout)(layers.Activation("relu")(pooled)))


def _add_conv1d(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Convolutions over the rows, five at a time; scores of their mean. The order of the rows counts."""
    layers = import_quietly("keras").layers
    for _ in range(config.layers):
        # Padding is made zero again after each layer, as what lies beyond the ends is.
        x = layers.LayerNormalization()(layers.Conv1D(config.hidden, CONV_ROWS, padding="same")(x * weights))
        x = layers.Dropout(config.dropout)(layers.Activation("relu")(x))
    return scores(_mean(x, weights))


def _add_gru(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Gated recurrent units in both directions; scores of where each ends. The order of the rows counts.

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014.
    """
    keras = import_quietly("keras")
    layers, heard = keras.layers, keras.ops.squeeze(weights, -1) > 0
    for number in range(config.layers):
        last = number == config.layers - 1
        x = layers.Bidirectional(layers.GRU(config.hidden, return_sequences=not last))(x, mask=heard)
        x = layers.Dropout(config.dropout)(x)
    return scores(x)


def _add_cnn(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Convolutions over each row, which is a patch of sound; scores of the mean of their features over the rows."""
    stacks = data.width_of(config.pooling, 1)  # rows that are a mean and a standard deviation hold two pictures
    features = convolve(x, stacks, config.hidden, config.layers)
    return scores(import_quietly("keras").layers.Dropout(config.dropout)(_mean(features, weights)))


Shape = tuple[int, ...]
LastLayer = Callable[[Array], Array]


class Head(NamedTuple):
    """A head: what stands between the standardised rows and the scores, and how large it is."""

    #: (config, rows, weights, scores) -> Keras tensor (n, targets): `rows` are the standardised rows (n, rows, width),
    #: `weights` (n, rows, 1) are 0 where a row is padding, `scores` is the last layer, to be called once
    build: Callable[[HeadConfig, Any, Any, Any], Any]
    #: (config, width) -> the shapes of its hidden layers' arrays for rows of this width, in Keras' order, and how many
    #: numbers the last layer sees: told before it is built, since building takes their memory, whoever asked for it.
    #: None: a tagger's word is taken.
    shapes: Callable[[HeadConfig, int], tuple[list[Shape], int]] | None = None
    #: the same as `build`, by NumPy: (config, the hidden layers' arrays, rows, weights, scores) -> (n, targets). None:
    #: it is left to Keras.
    compute: Callable[[HeadConfig, Sequence[Array], Array, Array, LastLayer], Array] | None = None


def _hidden(inputs: int, config: HeadConfig) -> list[Shape]:
    """Of hidden layers one after the other: kernel, bias, and the scale and offset of their normalisation."""
    widths = [inputs, *[config.hidden] * config.layers]
    layers = [[(own, hidden), (hidden,), (hidden,), (hidden,)] for own, hidden in itertools.pairwise(widths)]
    return list(itertools.chain.from_iterable(layers))


def _shape_attention(config: HeadConfig, width: int) -> tuple[list[Shape], int]:
    gates: list[Shape] = [(config.hidden, config.hidden), *[(config.hidden,)] * 3]
    return [*_hidden(width, config), *gates], config.hidden


def _shape_conv1d(config: HeadConfig, width: int) -> tuple[list[Shape], int]:
    return [(CONV_ROWS, *shape) if len(shape) == 2 else shape for shape in _hidden(width, config)], config.hidden


def _shape_gru(config: HeadConfig, width: int) -> tuple[list[Shape], int]:
    units = 3 * config.hidden  # of each direction: two gates and the candidate
    widths = [width, *[2 * config.hidden] * (config.layers - 1)]
    both = [[(own, units), (config.hidden, units), (2, units)] * 2 for own in widths]
    return list(itertools.chain.from_iterable(both)), 2 * config.hidden


def _shape_cnn(config: HeadConfig, _: int) -> tuple[list[Shape], int]:
    """3 x 3 kernels, biases, and four arrays of normalisation."""
    widths = [data.width_of(config.pooling, 1), *(_width(config.hidden, n) for n in reversed(range(config.layers)))]
    blocks = [[(3, 3, own, made), *[(made,)] * 5] for own, made in itertools.pairwise(widths)]
    return list(itertools.chain.from_iterable(blocks)), config.hidden


def _compute_linear(_: HeadConfig, __: Sequence[Array], x: Array, weights: Array, scores: LastLayer) -> Array:
    return _average(scores(x), weights)


def _compute_mlp(_: HeadConfig, arrays: Sequence[Array], x: Array, weights: Array, scores: LastLayer) -> Array:
    return scores(_average(_compute_hidden(arrays, x), weights))


def _compute_attention(_: HeadConfig, arrays: Sequence[Array], x: Array, weights: Array, scores: LastLayer) -> Array:
    *hidden, kernel, bias, scale, offset = arrays
    x = _compute_hidden(hidden, x)
    gates = _sigmoid(x @ kernel + bias)
    return scores(np.maximum(_normalise(_average(x, gates * weights), scale, offset), 0))


def _compute_hidden(arrays: Sequence[Array], x: Array) -> Array:
    for kernel, bias, scale, offset in zip(*[iter(arrays)] * 4, strict=True):
        x = np.maximum(_normalise(x @ kernel + bias, scale, offset), 0)
    return x


def _normalise(x: Array, scale: Array, offset: Array) -> Array:
    """Keras' LayerNormalization."""
    x = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(1e-3))
    normalised: Array = x / deviation * scale + offset
    return normalised


def _sigmoid(x: Array) -> Array:
    """Log-odds to probabilities."""
    from scipy.special import expit  # takes half a second to import

    probabilities: Array = expit(x)
    return probabilities


def _softmax(x: Array) -> Array:
    """Probabilities over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _average(x: Array, weights: Array) -> Array:
    """`_mean` by NumPy."""
    mean: Array = (weights * x).sum(axis=1) / np.maximum(weights.sum(axis=1), np.float32(1e-6))
    return mean


HEADS: dict[str, Head] = {
    "linear": Head(_add_linear, lambda _, width: ([], width), _compute_linear),
    "mlp": Head(_add_mlp, lambda config, width: (_hidden(width, config), config.hidden), _compute_mlp),
    "attention": Head(_add_attention, _shape_attention, _compute_attention),
    "conv1d": Head(_add_conv1d, _shape_conv1d),
    "gru": Head(_add_gru, _shape_gru),
    "cnn": Head(_add_cnn, _shape_cnn),
}


def register_head(name: str, build: Callable[[HeadConfig, Any, Any, Any], Any]) -> None:
    """Add a head of your own, before it is trained or a tagger that has it is loaded; `build` is that of `Head`.

    `HeadConfig` and ``tagger.json`` call it by its name. Raises `UsageError` if there is one of that name already.
    """
    if name in HEADS:
        raise UsageError(f"there is a head {name!r} already")
    HEADS[name] = Head(build)


def list_shapes(config: HeadConfig, dim: int, targets: int) -> list[Shape] | None:
    """The shapes of a head's arrays, in Keras' order; None where it does not say before it is built."""
    shapes = HEADS[config.name].shapes
    if shapes is None:
        return None
    width = data.width_of(config.pooling, 1) * dim
    hidden, seen = shapes(config, width)
    return [(width,), (width,), (), *hidden, (seen, targets), (targets,)]


def load_head(config: HeadConfig, dim: int, targets: int, activation: str, arrays: Sequence[Array]) -> HeadCall:
    """A trained head, ready to score: by NumPy where that is as good, and then TensorFlow is not imported.

    `arrays` are its weights, in Keras' order, the rest as for `build_head`. Raises `ValueError` if they are not of this
    head.
    """
    shapes = list_shapes(config, dim, targets)
    found = [array.shape for array in arrays]
    if shapes is not None and found != shapes:
        raise ValueError(f"arrays of the shapes {found} instead of {shapes}")
    if HEADS[config.name].compute is not None:
        return _by_numpy(config, activation, arrays)
    head = build_head(config, dim, targets, activation)
    head.set_weights(list(arrays))
    head.get_layer(STANDARDISE).finalize_state()  # it computes with copies of its weights
    return call_head(config, head, activation)


def call_head(config: HeadConfig, head: Any, activation: str) -> HeadCall:
    """What `build_head` built, as its weights are now, ready to score."""
    if HEADS[config.name].compute is not None:
        return _by_numpy(config, activation, head.get_weights())
    alone = threading.Lock()  # it has threads of its own

    def score(batch: Sequence[Array]) -> Array:
        with alone:  # called as it is: Keras' predict would build a graph for each new length
            return np.asarray(head(batch, training=False))

    return score


def _by_numpy(config: HeadConfig, activation: str, arrays: Sequence[Array]) -> HeadCall:
    compute = HEADS[config.name].compute
    assert compute is not None
    mean, variance, _, *hidden, kernel, bias = arrays
    with np.errstate(invalid="ignore"):  # of weights that are damaged: the scores show it
        deviation = np.maximum(np.sqrt(variance), np.float32(1e-7))
    activations: dict[str, LastLayer] = {"sigmoid": _sigmoid, "softmax": _softmax, "linear": lambda sums: sums}
    decide = activations[activation]

    def score(batch: Sequence[Array]) -> Array:
        x = (batch[0] - mean) / deviation
        x = np.clip(x, -config.clip, config.clip) if config.clip else x
        return compute(config, hidden, x, batch[1][..., np.newaxis], lambda seen: decide(seen @ kernel + bias))

    return score


ROWS_AT_ONCE = 256  # when scoring: the first block's pictures take 100 MB
MOMENTUM = 0.9  # of the statistics that scoring normalises by: small data have few batches


def convolve(rows: Any, stacks: int, channels: int, blocks: int) -> Any:
    """Features of each row, which is one patch: (n, rows, stacks * 96 * bands) -> (n, rows, channels).

    Each block is a 3 x 3 convolution, normalised over the batch, and halves the picture; the last has `channels`
    channels, each before it half as many. What is left of the picture is averaged. A row has `stacks` pictures, one
    after the other: 2 if it is a mean and a standard deviation. Raises `UsageError` if rows are not patches of 96
    frames.
    """
    width = rows.shape[-1]
    if width % (stacks * PATCH_FRAMES):
        raise UsageError(
            f"the head cnn sees patches of {PATCH_FRAMES} frames, and {width // stacks} numbers are none: extract with "
            "--embedder mel-patches, spectrogram-patches or mfcc-patches"
        )
    return _row_by_row_type()(_build(stacks, width // stacks // PATCH_FRAMES, channels, blocks))(rows)


def _build(stacks: int, bands: int, channels: int, blocks: int) -> Any:
    """The network of one patch: (patches, stacks * 96 * bands) -> (patches, channels)."""
    keras = import_quietly("keras")
    layers = keras.layers
    steps = [keras.Input((stacks * PATCH_FRAMES * bands,)), layers.Reshape((stacks, PATCH_FRAMES, bands))]
    steps.append(layers.Permute((2, 3, 1)))
    for block in range(blocks):
        width = _width(channels, blocks - 1 - block)
        steps.append(layers.Conv2D(width, 3, padding="same"))
        steps.append(layers.BatchNormalization(momentum=MOMENTUM))
        steps.append(layers.Activation("relu"))
        steps.append(layers.MaxPooling2D(2, padding="same"))
    return keras.Sequential([*steps, layers.GlobalAveragePooling2D()])


def _width(channels: int, left: int) -> int:
    """Channels of a block after which so many are left."""
    return max(1, channels >> left)


@functools.cache
def _row_by_row_type() -> Any:
    """The layer that gives each row of each track to a network; made when Keras is loaded."""
    keras = import_quietly("keras")

    class RowByRow(keras.layers.Layer):  # type: ignore[name-defined,misc]
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def call(self, rows: Any) -> Any:
            shape = keras.ops.shape(rows)
            flat = keras.ops.reshape(rows, (-1, shape[-1]))
            count = flat.shape[0]  # None while Keras traces a graph, to train on batches, which are small
            pieces = range(0, count or 1, ROWS_AT_ONCE)
            size = ROWS_AT_ONCE if count else None
            done = [self.network(flat[start : size and start + size]) for start in pieces]
            features = done[0] if len(done) == 1 else keras.ops.concatenate(done)
            return keras.ops.reshape(features, (*shape[:2], features.shape[-1]))

    return RowByRow
