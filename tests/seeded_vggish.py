"""A stand-in for Google's VGGish module: the same interface and size, weights drawn from a seed.

    python tests/seeded_vggish.py OUT [--seed N]

writes a SavedModel that is called, as the module on TF-Hub, on one 1-D waveform (16 kHz, float32, [-1, 1]) and returns
float32 (n, 128). Its front end and network are written here on `tf.signal` and `tf.nn` alone and share no code with the
package: the tests compare the two. Its embeddings mean nothing.
"""

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf

from jamendo_mood.embedders.vggish import SHAPES

LAYERS = [
    "conv1",
    "pool",
    "conv2",
    "pool",
    "conv3/conv3_1",
    "conv3/conv3_2",
    "pool",
    "conv4/conv4_1",
    "conv4/conv4_2",
    "pool",
    "flatten",
    "fc1/fc1_1",
    "fc1/fc1_2",
    "fc2",
]


def draw_variables(seed: int) -> dict[str, np.ndarray]:
    """The 18 variables by slim name: He-normal weights, and biases that are not zero, lest one be forgotten."""
    generator = np.random.default_rng(seed)
    variables = {}
    for name, shape in sorted(SHAPES.items()):
        values = generator.standard_normal(shape, dtype=np.float32)
        fan_in = np.prod(shape[:-1])
        variables[name] = values * np.float32(np.sqrt(2 / fan_in) if name.endswith("weights") else 0.1)
    return variables


class SeededVggish(tf.Module):
    """The interface of https://tfhub.dev/google/vggish/1."""

    def __init__(self, variables: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.parameters = {name: tf.Variable(value, name=name) for name, value in variables.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, waveform):
        magnitude = tf.abs(tf.signal.stft(waveform, frame_length=400, frame_step=160, fft_length=512))
        to_mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7_500.0)
        log_mel = tf.math.log(magnitude @ to_mel + 0.01)
        x = tf.signal.frame(log_mel, 96, 96, axis=0)[..., tf.newaxis]
        for layer in LAYERS:
            x = self._apply(layer, x)
        return x

    def _apply(self, layer: str, x: tf.Tensor) -> tf.Tensor:
        if layer == "pool":
            return tf.nn.max_pool2d(x, 2, 2, "VALID")
        if layer == "flatten":
            return tf.reshape(x, (tf.shape(x)[0], 12_288))
        weights, biases = (self.parameters[f"vggish/{layer}/{kind}"] for kind in ("weights", "biases"))
        if layer == "fc2":
            return tf.matmul(x, weights) + biases
        return tf.nn.relu(
            (tf.matmul(x, weights) if layer.startswith("fc") else tf.nn.conv2d(x, weights, 1, "SAME")) + biases
        )


def write_module(out: Path, seed: int = 0) -> None:
    """Write the SavedModel (288 MB) to the folder `out`."""
    tf.saved_model.save(SeededVggish(draw_variables(seed)), str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a VGGish module with weights drawn from a seed.")
    parser.add_argument("out", type=Path, help="folder to write the SavedModel to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_module(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
