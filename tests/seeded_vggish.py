"""A stand-in for Google's VGGish module: the same interface and size, weights drawn from a seed.

    python tests/seeded_vggish.py OUT

writes a SavedModel that is called, as the module on TF-Hub, on one 1-D waveform (16 kHz, float32, [-1, 1]) and returns
float32 (n, 128). Its front end and network are written here on `tf.signal` and `tf.nn` alone and share no code with the
package: the tests compare the two. Its embeddings mean nothing.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from jamendo_mood.embedders.vggish import SHAPES

CONVOLUTIONS = ["conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1", "conv4/conv4_2"]
POOLED = {"conv1", "conv2", "conv3/conv3_2", "conv4/conv4_2"}


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
        for layer in CONVOLUTIONS:
            weights, biases = self._parameters_of(layer)
            x = tf.nn.relu(tf.nn.conv2d(x, weights, 1, "SAME") + biases)
            x = tf.nn.max_pool2d(x, 2, 2, "VALID") if layer in POOLED else x
        x = tf.reshape(x, (tf.shape(x)[0], 12_288))
        for layer in ("fc1/fc1_1", "fc1/fc1_2", "fc2"):
            weights, biases = self._parameters_of(layer)
            x = tf.matmul(x, weights) + biases
            x = x if layer == "fc2" else tf.nn.relu(x)
        return x

    def _parameters_of(self, layer):
        return (self.parameters[f"vggish/{layer}/{kind}"] for kind in ("weights", "biases"))


def write_module(out: Path, seed: int = 0) -> None:
    """Write the SavedModel (288 MB) to the folder `out`."""
    tf.saved_model.save(SeededVggish(draw_variables(seed)), str(out))


if __name__ == "__main__":
    write_module(Path(sys.argv[1]))
