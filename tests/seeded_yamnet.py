"""A stand-in for Google's YAMNet module: the same interface and size, weights drawn from a seed.

A SavedModel that is called, as the module on TF-Hub, on one 1-D waveform (16 kHz, float32, [-1, 1]) and returns scores
(n, 521), embeddings (n, 1024) and the log-mel spectrogram; and a TFLite file of it, called on 15,600 samples. Its front
end and network are written here on `tf.signal` and `tf.nn` alone and share no code with the package: the tests compare
the two. What it says means nothing.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

WIDTHS = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
HALVING = {1, 3, 5, 7, 13}  # the layers that halve frames and bands


def draw_variables(seed: int) -> dict[str, np.ndarray]:
    """By Google's names: He-normal kernels, and statistics of batch normalisation that change something."""
    generator = np.random.default_rng(seed)

    def normal(shape: tuple[int, ...], fan_in: int) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))

    variables = {}
    inputs = 1
    for number, outputs in enumerate(WIDTHS, start=1):
        if number == 1:
            parts = {"conv": ("kernel", (3, 3, 1, outputs), 9, outputs)}
        else:
            parts = {
                "depthwise_conv": ("depthwise_kernel", (3, 3, inputs, 1), 9, inputs),
                "pointwise_conv": ("kernel", (1, 1, inputs, outputs), inputs, outputs),
            }
        for part, (kernel, shape, fan_in, channels) in parts.items():
            name = f"layer{number}/{part}"
            variables[f"{name}/{kernel}"] = normal(shape, fan_in)
            variables[f"{name}/bn/beta"] = 0.1 * generator.standard_normal(channels, dtype=np.float32)
            variables[f"{name}/bn/moving_mean"] = 0.1 * generator.standard_normal(channels, dtype=np.float32)
            variables[f"{name}/bn/moving_variance"] = generator.uniform(0.5, 1.5, channels).astype(np.float32)
        inputs = outputs
    variables["dense/kernel"] = normal((1024, 521), 1024)
    variables["dense/bias"] = generator.standard_normal(521, dtype=np.float32)
    return variables


class SeededYamnet(tf.Module):
    """The interface of https://tfhub.dev/google/yamnet/1."""

    def __init__(self, variables: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.parameters = {name: tf.Variable(value, name=name) for name, value in variables.items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, waveform):
        magnitude = tf.abs(tf.signal.stft(waveform, frame_length=400, frame_step=160, fft_length=512))
        to_mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7_500.0)
        log_mel = tf.math.log(magnitude @ to_mel + 0.001)
        scores, embeddings = self.network(tf.signal.frame(log_mel, 96, 48, axis=0))
        return scores, embeddings, log_mel

    def network(self, patches):
        x = patches[..., tf.newaxis]
        for number in range(1, 15):
            for kind in ("conv",) if number == 1 else ("depthwise_conv", "pointwise_conv"):
                with tf.name_scope(f"yamnet_frames/layer{number}/{kind}"):
                    x = self._apply(number, kind, x)
        embeddings = tf.reduce_mean(x, (1, 2))
        with tf.name_scope("yamnet_frames/dense"):
            logits = tf.matmul(embeddings, self.parameters["dense/kernel"]) + self.parameters["dense/bias"]
        return tf.sigmoid(logits), embeddings

    def _apply(self, number, kind, x):
        stride = 2 if number in HALVING and kind != "pointwise_conv" else 1
        own = {name: value for name, value in self.parameters.items() if name.startswith(f"layer{number}/{kind}/")}
        kernel, beta, mean, variance = own.values()
        convolve = tf.nn.depthwise_conv2d if kind == "depthwise_conv" else tf.nn.conv2d
        x = convolve(x, kernel, (1, stride, stride, 1), "SAME")
        return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, None, 1e-4))


def write_module(out: Path, seed: int = 0) -> None:
    """Write the SavedModel (15 MB) to the folder `out`."""
    tf.saved_model.save(SeededYamnet(draw_variables(seed)), str(out))


def write_tflite(out: Path, seed: int = 0, *, rounded: bool = False) -> None:
    """Write the network, from patches on, as a TFLite file; `rounded` has weights of 8 bits."""
    module = SeededYamnet(draw_variables(seed))
    function = tf.function(module.network, input_signature=[tf.TensorSpec([1, 96, 64], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if rounded else []
    out.write_bytes(converter.convert())
