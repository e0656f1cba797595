"""A small convolutional network on patches of sound, learned from scratch: what the head ``cnn`` is made of.

References
----------
Choi et al., "Automatic Tagging Using Deep Convolutional Neural Networks", ISMIR 2016: pictures of sound, blocks of
3 x 3 convolutions, normalised over the batch, with pooling.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

from jamendo_mood.audio.melspec import PATCH_FRAMES
from jamendo_mood.util.errors import UsageError
from jamendo_mood.util.tf_logging import import_quietly

ROWS_AT_ONCE = 256  # when scoring: the first block's pictures take 100 MB
MOMENTUM = 0.9  # of the statistics that scoring normalises by: small data have few batches


def convolve(rows: Any, stacks: int, channels: int, blocks: int) -> Any:
    """Features of each row, which is one patch: (n, rows, stacks * 96 * bands) -> (n, rows, channels).

    Each block is a 3 x 3 convolution, normalised over the batch, and halves the picture; the last has `channels`
    channels, each before it half as many. What is left of the picture is averaged.

    Parameters
    ----------
    rows : Keras tensor
    stacks : int
        Pictures a row, one after the other: 2 where rows are a mean and a standard deviation.
    channels, blocks : int

    Raises
    ------
    UsageError
        The rows are no patches of 96 frames.
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


def count_weights(stacks: int, channels: int, blocks: int) -> int:
    """How many numbers `convolve` learns or measures: 3 x 3 kernels, biases, and four of normalisation a channel."""
    widths = [stacks, *(_width(channels, left) for left in reversed(range(blocks)))]
    return sum(9 * inputs * outputs + 5 * outputs for inputs, outputs in itertools.pairwise(widths))


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
