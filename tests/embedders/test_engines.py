import numpy as np
import pytest
import toy_tflite

from jamendo_mood.embedders import engines, vggish, yamnet
from jamendo_mood.util.errors import WeightsError


def test_constants_have_names_numbers_and_what_was_rounded():
    floats, rounded = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([2, 4, -6], np.int8)
    first, second = engines.read_constants(toy_tflite.build({"a;b": floats, "c": rounded}))
    assert (first.name, second.name) == ("a;b", "c")
    np.testing.assert_array_equal(first.values, floats)
    np.testing.assert_array_equal(first.dequantised(), floats)
    np.testing.assert_array_equal(second.values, rounded)
    np.testing.assert_array_equal(second.dequantised(), [0, 1, -4])


def test_kernels_rounded_channel_by_channel_get_their_own_scales_back():
    values = np.array([[[[1, 10]]], [[[2, 20]]]], np.int8)  # (2, 1, 1, 2)
    rounded = engines.Constant("kernel", values, np.array([0.5, 2], np.float32), np.array([0, 1]), 0)
    np.testing.assert_array_equal(rounded.dequantised().ravel(), [0.5, 5, 2, 38])
    exact = engines.Constant("kernel", values, np.zeros(0, np.float32), np.zeros(0, np.int64), 0)
    assert exact.dequantised().dtype == np.float32


def test_numbers_that_are_not_finite_are_refused():
    (constant,) = engines.read_constants(toy_tflite.build({"a": np.array([1, np.nan], np.float32)}))
    with pytest.raises(ValueError, match="'a' has numbers that are not finite"):
        constant.dequantised()


def test_many_offsets_to_one_tensor_are_refused():
    values = np.zeros(1, np.float32)
    assert len(engines.read_constants(toy_tflite.build({"a": values}, graphs=10, times=1_000))) == 10_000
    with pytest.raises(ValueError, match="more than 10000 tensors"):
        engines.read_constants(toy_tflite.build({"a": values}, graphs=11, times=1_000))


@pytest.mark.parametrize(("letters", "dimensions"), [(10_001, 1), (1, 9)])
def test_a_name_or_a_shape_that_goes_on_and_on_is_refused(letters, dimensions):
    content = toy_tflite.build({"a" * letters: np.zeros((1,) * dimensions, np.float32)})
    with pytest.raises(ValueError, match=f"damaged: a name of {letters} bytes, {dimensions} dimensions"):
        engines.read_constants(content)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0TFL3", b"Dear Google, where are the weights?"])
def test_what_is_no_tflite_file_is_refused(content):
    with pytest.raises(ValueError, match=r"begin|damaged"):
        engines.read_constants(content)


@pytest.mark.parametrize(
    ("network", "file", "advice"),
    [(vggish, "vggish_model.ckpt", "--embedder logmel"), (yamnet, "yamnet.tflite", "--weights FOLDER")],
)
def test_weights_are_looked_for_in_order_and_the_message_names_three_ways(network, file, advice, monkeypatch, tmp_path):
    tensorflow_hub = pytest.importorskip("tensorflow_hub")

    def refuse(handle):
        raise OSError(f"no network for {handle}")

    monkeypatch.setattr(tensorflow_hub, "resolve", refuse)
    monkeypatch.delenv(network.WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    given, from_environment = tmp_path / file, tmp_path / "environment"
    given.touch()
    from_environment.mkdir()
    cached = engines.cache_folder(network.HUB_HANDLE)
    assert cached.parent == tmp_path / "hub"
    with pytest.raises(WeightsError) as caught:
        network.find_weights()
    for hint in (network.HUB_HANDLE, "TFHUB_CACHE_DIR", "--weights FOLDER", network.WEIGHTS_VARIABLE, file, advice):
        assert hint in str(caught.value)
    cached.mkdir(parents=True)
    (cached / "saved_model.pb").touch()
    assert network.find_weights() == cached
    monkeypatch.setenv(network.WEIGHTS_VARIABLE, str(from_environment))
    assert network.find_weights() == from_environment
    assert network.find_weights(given) == given
    with pytest.raises(WeightsError, match="nowhere: no such file or folder"):
        network.find_weights(tmp_path / "nowhere")
