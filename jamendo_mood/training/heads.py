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
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from jamendo_mood.audio.spectrograms import PATCH_FRAMES
from jamendo_mood.training import data
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.process import count_cores, import_quietly

STANDARDISE, SCORES = "standardise", "scores"  #: names of a head's first and last layer

CONV_ROWS = 5
BATCH_ROWS = 4_096  # scored at once: 10 MB a layer, a third less time than 40 MB
BATCH_NUMBERS = 1 << 24  # the same for rows as wide as patches: 64 MB
ROWS_AT_ONCE = 256  # of these patches: the first block's pictures take 100 MB
LINEAR = np.float32(0.25)  # of the kernel of ``svm``: how much the products count
MOST_DROPPED = 0.9  # of the units of a wide layer
MOMENTUM = 0.9  # of the statistics that scoring normalises by: small data have few batches

Array = npt.NDArray[np.float32]
HeadCall = Callable[[Sequence[Array]], Array]  #: rows (n, rows, width) and their mask (n, rows) to scores (n, targets)


@dataclass(frozen=True)
class HeadConfig:
    """What a head is built from."""

    name: str = "attention"  #: a key of `HEADS`
    #: what it sees of a track, a key of `data.POOLINGS`; of ``frames``, ``svm`` takes the way to one row that is best
    pooling: str = "frames"
    #: units of a hidden layer, where there are any; channels of the last one of ``cnn``, support vectors of ``svm``
    hidden: int = 600
    layers: int = 3  #: hidden layers
    #: units of one more hidden layer of ``attention``, on the track as a whole; 0 for none
    wide: int = 0
    dropout: float = 0.2  #: share of hidden units dropped in training, in [0, 1)
    #: penalty on the squared weights that lead to one target: a linear head is then one logistic regression per tag
    #: with ``C = 1 / (2 * l2)``, whatever the number of tags and of examples; so is ``svm``, where 0 is C = 1
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
        if min(self.hidden, self.layers, self.wide + 1) < 1 or not fine:
            raise UsageError(
                "a head needs hidden and layers from 1 up, wide, l2 and clip from 0 up, and dropout in [0, 1)"
            )


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
    found = HEADS[config.name].build(config, x, weights, scores)  # type: ignore[misc] # svm is not built
    if found.shape != (None, targets):
        raise UsageError(f"the head {config.name!r} makes scores of the shape {found.shape}, not (tracks, {targets})")
    return keras.Model([rows, mask], found)


def run_heads(heads: Sequence[HeadCall], tracks: Sequence[Array]) -> Array:
    """Mean scores of several heads: n float32 arrays (rows, width) -> (n, targets).

    Tracks of about the same length are scored together, so that there is little padding.
    """
    most = min(BATCH_ROWS, BATCH_NUMBERS // tracks[0].shape[-1])
    order = sorted(range(len(tracks)), key=lambda row: len(tracks[row]))
    batches: list[list[Array]] = [[]]
    for row in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(tracks[row]) > most:
            batches.append([])
        batches[-1].append(tracks[row])

    def score(batch: Sequence[Array]) -> Array:
        padded = data.pad(batch)
        return np.asarray(np.mean([head(padded) for head in heads], axis=0))

    # Threads of OpenBLAS wait for each other in loops: on a machine that is busy otherwise, two of them took 16 times
    # the processor time of one. So each batch has one thread, and there are several batches at a time.
    with _alone, _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(count_cores()) as pool:
        scores = np.concatenate(list(pool.map(score, batches)))
    result = np.empty_like(scores, np.float32)
    result[order] = scores
    return result


_alone = threading.Lock()  # how many threads BLAS has is the whole process's setting
_blas = functools.cache(ThreadpoolController)


def _mean(x: Any, weights: Any) -> Any:
    """Weighted mean over the rows: (n, rows, width), (n, rows, 1 or width) -> (n, width)."""
    ops = import_quietly("keras").ops
    return ops.sum(weights * x, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1e-6)


def _hide(config: HeadConfig, x: Any, weights: Any = None) -> Any:
    """The hidden layers, on each row by itself; with the rows' `weights`, convolutions over five rows at a time."""
    layers = import_quietly("keras").layers
    for _ in range(config.layers):
        if weights is None:
            x = layers.Dense(config.hidden)(x)
        else:  # padding is made zero again before each layer, as what lies beyond the ends is
            x = layers.Conv1D(config.hidden, CONV_ROWS, padding="same")(x * weights)
        # Normalised for each row by itself: unlike batch statistics, that is the same in training and in use.
        x = layers.Activation("relu")(layers.LayerNormalization()(x))
        x = layers.SpatialDropout1D(config.dropout)(x)  # the same units in all of a track's rows
    return x


def _add_linear(_: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Score each row by itself; the track's score is the mean."""
    return _mean(scores(x), weights)


def _add_mlp(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Hidden layers on each row, their mean over the rows, scores of that."""
    return scores(_mean(_hide(config, x), weights))


def _add_attention(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Hidden layers on each row, and gates that weigh each feature of each row before the mean is taken.

    Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", TASLP 2019: the feature-level
    attention model.
    """
    layers, x = import_quietly("keras").layers, _hide(config, x)
    gates = layers.Dense(config.hidden, "sigmoid")(x)
    pooled, dropout = layers.LayerNormalization()(_mean(x, gates * weights)), config.dropout
    if config.wide:  # it learns most by heart, so it drops twice as much
        pooled = layers.LayerNormalization()(layers.Dense(config.wide)(layers.Dropout(dropout)(pooled)))
        dropout = min(2 * dropout, MOST_DROPPED)
    return scores(layers.Dropout(dropout)(layers.Activation("relu")(pooled)))


def _add_conv1d(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Convolutions over the rows, five at a time; scores of their mean. The order of the rows counts."""
    return scores(_mean(_hide(config, x, weights), weights))


def _add_gru(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Gated recurrent units in both directions; scores of where each ends. The order of the rows counts.

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014.
    """
    keras = import_quietly("keras")
    layers, heard = keras.layers, keras.ops.squeeze(weights, -1) > 0
    for left in reversed(range(config.layers)):
        x = layers.Bidirectional(layers.GRU(config.hidden, return_sequences=left > 0))(x, mask=heard)
        x = layers.Dropout(config.dropout)(x)
    return scores(x)


def _add_cnn(config: HeadConfig, x: Any, weights: Any, scores: Any) -> Any:
    """Convolutions over each row, which is a patch of sound; scores of the mean of their features over the rows.

    Each block is a 3 x 3 convolution, normalised over the batch, and halves the picture; what is left of it in the end
    is averaged. Raises `UsageError` if rows are not patches of 96 frames.
    """
    layers = import_quietly("keras").layers
    stacks, width = data.width_of(config.pooling, 1), x.shape[-1]  # a mean and a standard deviation are two pictures
    if width % (stacks * PATCH_FRAMES):
        raise UsageError(
            f"the head cnn sees patches of {PATCH_FRAMES} frames, and {width // stacks} numbers are none: extract with "
            "--embedder mel-patches, spectrogram-patches or mfcc-patches"
        )
    network = [layers.Reshape((stacks, PATCH_FRAMES, -1)), layers.Permute((2, 3, 1))]
    for channels in _list_channels(config):
        network += [layers.Conv2D(channels, 3, padding="same"), layers.BatchNormalization(momentum=MOMENTUM)]
        network += [layers.Activation("relu"), layers.MaxPooling2D(2, padding="same")]
    features = _row_by_row_type()([layers.Input((width,)), *network, layers.GlobalAveragePooling2D()])(x)
    return scores(layers.Dropout(config.dropout)(_mean(features, weights)))


def _list_channels(config: HeadConfig) -> list[int]:
    """Channels of each block of ``cnn``: of the last `hidden`, of each before it half as many."""
    return [max(1, config.hidden >> left) for left in reversed(range(config.layers))]


@functools.cache
def _row_by_row_type() -> Any:
    """The layer that gives each row of each track to a network of these layers; made when Keras is loaded."""
    keras = import_quietly("keras")

    class RowByRow(keras.layers.Layer):  # type: ignore[name-defined,misc]
        def __init__(self, layers: Sequence[Any]) -> None:
            super().__init__()
            self.network = keras.Sequential(layers)

        def call(self, rows: Any, training: bool = False) -> Any:
            shape = keras.ops.shape(rows)
            flat = keras.ops.reshape(rows, (-1, shape[-1]))
            # Batches to train on are small, and normalised as a whole.
            count = None if training else flat.shape[0]  # None, too, while Keras builds the head
            pieces = range(0, count or 1, ROWS_AT_ONCE)
            size = ROWS_AT_ONCE if count else None
            done = [self.network(flat[start : size and start + size]) for start in pieces]
            features = done[0] if len(done) == 1 else keras.ops.concatenate(done)
            return keras.ops.reshape(features, (*shape[:2], features.shape[-1]))

    return RowByRow


Shapes = tuple[tuple[int, ...], ...]
LastLayer = Callable[[Any], Any]


class Head(NamedTuple):
    """A head: what stands between the standardised rows and the scores, and how large it is."""

    #: (config, rows, weights, scores) -> Keras tensor (n, targets): `rows` are the standardised rows (n, rows, width),
    #: `weights` (n, rows, 1) are 0 where a row is padding, `scores` is the last layer, to be called once. None: it is
    #: not trained in epochs, see `svm`.
    build: Callable[[HeadConfig, Any, Any, Any], Any] | None
    #: (config, width) -> the shapes of its hidden layers' arrays for rows of this width, in Keras' order, and how many
    #: numbers the last layer sees: told before it is built, since building takes their memory, whoever asked for it.
    #: None: a tagger's word is taken.
    shapes: Callable[[HeadConfig, int], tuple[Shapes, int]] | None = None
    #: the same as `build`, by NumPy: (config, the hidden layers' arrays, rows, weights, scores) -> (n, targets). None:
    #: it is left to Keras.
    compute: Callable[[HeadConfig, Sequence[Array], Any, Any, LastLayer], Any] | None = None


def _shape_mlp(config: HeadConfig, width: int, *rows: int) -> tuple[Shapes, int]:
    """Of hidden layers one after the other: kernel, bias, and the scale and offset of their normalisation."""
    hidden, shapes = config.hidden, Shapes()
    for inputs in [width, *[hidden] * (config.layers - 1)]:
        shapes += ((*rows, inputs, hidden), (hidden,), (hidden,), (hidden,))
    return shapes, hidden


def _shape_attention(config: HeadConfig, width: int) -> tuple[Shapes, int]:
    shapes, seen = _shape_mlp(replace(config, layers=config.layers + 1), width)  # gates have the shapes of a layer more
    if not config.wide:
        return shapes, seen
    wide, seen = _shape_mlp(replace(config, hidden=config.wide, layers=1), seen)
    return shapes + wide, seen


def _shape_conv1d(config: HeadConfig, width: int) -> tuple[Shapes, int]:
    return _shape_mlp(config, width, CONV_ROWS)


def _shape_gru(config: HeadConfig, width: int) -> tuple[Shapes, int]:
    units, shapes = 3 * config.hidden, Shapes()  # of each direction: two gates and the candidate
    for inputs in [width, *[2 * config.hidden] * (config.layers - 1)]:
        shapes += ((inputs, units), (config.hidden, units), (2, units)) * 2
    return shapes, 2 * config.hidden


def _shape_cnn(config: HeadConfig, _: int) -> tuple[Shapes, int]:
    """3 x 3 kernels, biases, and four arrays of normalisation."""
    shapes = Shapes()
    for inputs, made in itertools.pairwise([data.width_of(config.pooling, 1), *_list_channels(config)]):
        shapes += ((3, 3, inputs, made), *[(made,)] * 5)
    return shapes, config.hidden


# By NumPy, of arrays, or of what stands for arrays where a head is written as ONNX: so these are Any.


def _compute_linear(_: HeadConfig, __: Sequence[Array], x: Any, weights: Any, scores: LastLayer) -> Any:
    return _average(scores(x), weights)


def _compute_mlp(_: HeadConfig, arrays: Sequence[Array], x: Any, weights: Any, scores: LastLayer) -> Any:
    return scores(_average(_compute_hidden(arrays, x), weights))


def _compute_attention(config: HeadConfig, arrays: Sequence[Array], x: Any, weights: Any, scores: LastLayer) -> Any:
    *hidden, kernel, bias, scale, offset = arrays[: 4 * (config.layers + 1)]
    x = _compute_hidden(hidden, x)
    gates = _sigmoid(x @ kernel + bias)
    pooled = _normalise(_average(x, gates * weights), scale, offset)
    return scores(_compute_hidden(arrays[-4:], pooled) if config.wide else np.maximum(pooled, 0))


def _compute_svm(_: HeadConfig, arrays: Sequence[Array], x: Any, weights: Any, scores: LastLayer) -> Any:
    vectors, gamma = arrays
    pieces = [np.abs(x - vector).sum(axis=-1, keepdims=True) for vector in vectors]
    near = np.exp(-gamma * np.concatenate(pieces, axis=-1)) + LINEAR * gamma * (x @ vectors.T)
    return scores(_average(near, weights))


def _compute_hidden(arrays: Sequence[Array], x: Any) -> Any:
    for kernel, bias, scale, offset in zip(*[iter(arrays)] * 4, strict=True):
        x = np.maximum(_normalise(x @ kernel + bias, scale, offset), 0)
    return x


def _normalise(x: Any, scale: Array, offset: Array) -> Any:
    """Keras' LayerNormalization."""
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(1e-3)) * scale + offset


def _average(x: Any, weights: Any) -> Any:
    """`_mean` by NumPy."""
    return (weights * x).sum(axis=1) / np.maximum(weights.sum(axis=1), np.float32(1e-6))


def _sigmoid(x: Any) -> Any:
    """Log-odds to probabilities; SciPy's takes a fifth of a second to import."""
    with np.errstate(over="ignore"):  # to infinity, and the probability to 0
        return 1 / (1 + np.exp(-x))


def _softmax(x: Any) -> Any:
    """Probabilities over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


ACTIVATIONS: dict[str, LastLayer] = {"sigmoid": _sigmoid, "softmax": _softmax, "linear": lambda sums: sums}

HEADS: dict[str, Head] = {
    "linear": Head(_add_linear, lambda _, width: ((), width), _compute_linear),
    "mlp": Head(_add_mlp, _shape_mlp, _compute_mlp),
    "attention": Head(_add_attention, _shape_attention, _compute_attention),
    "conv1d": Head(_add_conv1d, _shape_conv1d),
    "gru": Head(_add_gru, _shape_gru),
    "cnn": Head(_add_cnn, _shape_cnn),
    "svm": Head(None, lambda config, width: (((config.hidden, width), ()), config.hidden), _compute_svm),
}


def register_head(name: str, build: Callable[[HeadConfig, Any, Any, Any], Any]) -> None:
    """Add a head of your own, before it is trained or a tagger that has it is loaded; `build` is that of `Head`.

    `HeadConfig` and ``tagger.json`` call it by its name. Raises `UsageError` if there is one of that name already.
    """
    if name in HEADS:
        raise UsageError(f"there is a head {name!r} already")
    HEADS[name] = Head(build)


def list_shapes(config: HeadConfig, dim: int, targets: int) -> Shapes | None:
    """The shapes of a head's arrays, in Keras' order; None where it does not say before it is built."""
    if (list_hidden := HEADS[config.name].shapes) is None:
        return None
    width = data.width_of(config.pooling, 1) * dim
    hidden, seen = list_hidden(config, width)
    return (width,), (width,), (), *hidden, (seen, targets), (targets,)


def load_head(config: HeadConfig, dim: int, targets: int, activation: str, arrays: Sequence[Array]) -> HeadCall:
    """A trained head, ready to score: by NumPy where that is as good, and then TensorFlow is not imported.

    `arrays` are its weights, in Keras' order and of the shapes of `list_shapes`, the rest as for `build_head`. Raises
    `ValueError` if Keras finds that they are not of this head.
    """
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
    compute, decide = HEADS[config.name].compute, ACTIVATIONS[activation]
    assert compute is not None
    mean, variance, _, *hidden, kernel, bias = arrays
    with np.errstate(invalid="ignore"):  # of weights that are damaged: the scores show it
        deviation = np.maximum(np.sqrt(variance), np.float32(1e-7))

    def score(batch: Sequence[Array]) -> Any:
        x = (batch[0] - mean) / deviation
        x = np.clip(x, -config.clip, config.clip) if config.clip else x
        return compute(config, hidden, x, batch[1][..., np.newaxis], lambda seen: decide(seen @ kernel + bias))

    return score
