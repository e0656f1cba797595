"""A stand-in for the wheel of musicnn: a checkpoint of the same names and sizes inside, weights drawn from a seed.

The network is written here layer by layer as in the paper, on `tf.nn` alone, and shares no code with the package: the
tests compare the two. What it says means nothing.
"""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

KERNELS = [(7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51)]
KERNELS += [(7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]


def name(layer: str, number: int, part: str) -> str:
    """As TensorFlow 1 numbers layers."""
    return f"{layer}_{number}/{part}" if number else f"{layer}/{part}"


def draw_variables(seed: int) -> dict[str, np.ndarray]:
    """By their names in the checkpoint: He-normal kernels, and normalisations whose scales have both signs."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    variables = {}
    for number, shape in enumerate(KERNELS):
        variables[name("conv2d", number, "kernel")] = normal(*shape, scale=np.sqrt(2 / (shape[0] * shape[1])))
        variables[name("conv2d", number, "bias")] = normal(shape[3], scale=0.1)
    for number, channels in enumerate([1, *(shape[3] for shape in KERNELS), 1506, 200]):
        variables[name("batch_normalization", number, "gamma")] = normal(channels)
        variables[name("batch_normalization", number, "beta")] = normal(channels, scale=0.1)
        variables[name("batch_normalization", number, "moving_mean")] = normal(channels, scale=0.1)
        variance = generator.uniform(0.5, 1.5, channels).astype(np.float32)
        variables[name("batch_normalization", number, "moving_variance")] = variance
    for number, shape in enumerate([(1506, 200), (200, 50)]):
        variables[name("dense", number, "kernel")] = normal(*shape, scale=np.sqrt(2 / shape[0]))
        variables[name("dense", number, "bias")] = normal(shape[1], scale=0.1)
    return variables


def run_network(variables: dict[str, np.ndarray], patches: np.ndarray) -> np.ndarray:
    """The rows before the last layer: float32 (n, 187, 96) -> (n, 200)."""

    def normalise(x, number):
        gamma, beta, mean, variance = (
            variables[name("batch_normalization", number, part)]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)

    def convolve(x, number, padding):
        kernel, bias = variables[name("conv2d", number, "kernel")], variables[name("conv2d", number, "bias")]
        return normalise(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, padding) + bias), number + 1)

    image = normalise(tf.constant(patches)[..., tf.newaxis], 0)
    padded = tf.pad(image, [[0, 0], [3, 3], [0, 0], [0, 0]])
    maps = [convolve(padded, number, "VALID") for number in (0, 1)] + [
        convolve(image, number, "SAME") for number in (2, 3, 4)
    ]
    x = tf.concat([tf.reduce_max(found, axis=2) for found in maps], axis=2)
    layers = [x]
    for number in (5, 6, 7):
        wide = tf.pad(x[..., tf.newaxis], [[0, 0], [3, 3], [0, 0], [0, 0]])
        found = tf.squeeze(convolve(wide, number, "VALID"), 2)
        x = found if number == 5 else x + found
        layers.append(x)
    everything = tf.concat(layers, axis=2)
    pooled = tf.stack([tf.reduce_max(everything, axis=1), tf.reduce_mean(everything, axis=1)], axis=2)
    flat = normalise(tf.reshape(pooled, [len(patches), -1]), 9)
    return normalise(tf.nn.relu(flat @ variables["dense/kernel"] + variables["dense/bias"]), 10).numpy()


def write_wheel(path: Path, variables: dict[str, np.ndarray]) -> None:
    """A zip with the checkpoint where the true wheel has it."""
    with tempfile.TemporaryDirectory() as folder:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            for key, value in variables.items():
                tf.compat.v1.get_variable(key, initializer=value)
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, f"{folder}/model", write_meta_graph=False)
        with zipfile.ZipFile(path, "w") as archive:
            for suffix in (".index", ".data-00000-of-00001"):
                archive.write(f"{folder}/model{suffix}", f"musicnn/MSD_musicnn/{suffix}")
