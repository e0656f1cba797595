import hashlib
import shutil
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import toy_tflite

from jamendo_mood.embedders import checkpoints, vggish, yamnet
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.util import remote
from jamendo_mood.util.errors import UsageError, WeightsError

pytest_plugins = ["flaky_server"]


def test_constants_have_names_numbers_and_what_was_rounded():
    floats, rounded = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([2, 4, -6], np.int8)
    first, second = checkpoints.read_constants(toy_tflite.build({"a;b": floats, "c": rounded}))
    assert (first.name, second.name) == ("a;b", "c")
    np.testing.assert_array_equal(first.values, floats)
    np.testing.assert_array_equal(first.dequantised(), floats)
    np.testing.assert_array_equal(second.values, rounded)
    np.testing.assert_array_equal(second.dequantised(), [0, 1, -4])


def test_kernels_rounded_channel_by_channel_get_their_own_scales_back():
    values = np.array([[[[1, 10]]], [[[2, 20]]]], np.int8)  # (2, 1, 1, 2)
    rounded = checkpoints.Constant("kernel", values, *(np.reshape(each, (2, 1, 1, 1)) for each in ([0.5, 2], [0, 1])))
    np.testing.assert_array_equal(rounded.dequantised().ravel(), [0.5, 5, 2, 38])


def test_numbers_that_are_not_finite_are_refused():
    (constant,) = checkpoints.read_constants(toy_tflite.build({"a": np.array([1, np.nan], np.float32)}))
    with pytest.raises(ValueError, match="'a' has numbers that are not finite"):
        constant.dequantised()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: toy_tflite.build({"a": np.zeros(1, np.float32)}, graphs=11, times=1_000), "more than 10000 tensors"),
        (lambda: toy_tflite.build({"a" * 10_001: np.zeros(1, np.float32)}), "damaged: a name of 10001 bytes"),
        (lambda: toy_tflite.build({"a": np.zeros((1,) * 9, np.float32)}), "damaged: .* 9 dimensions"),
        (lambda: b"TFL3", "begin"),
        (lambda: b"\x1c\0\0\0TFL3", "damaged"),
        (lambda: b"Dear Google, where are the weights?", "begin"),
    ],
)
def test_a_tflite_file_that_goes_on_and_on_or_is_none_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        checkpoints.read_constants(make())


def write_whole_module(folder):
    """The files that a module has, empty."""
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("network", [vggish, yamnet])
def test_weights_are_looked_for_in_order_and_the_message_names_three_ways(network, empty_cache, monkeypatch, tmp_path):
    weights, name = network.WEIGHTS, network.WEIGHTS.name.lower()
    hub, kaggle = (address.format(name) for address in (checkpoints.HUB, checkpoints.KAGGLE))
    given, from_environment, last = (tmp_path / name for name in ("given", "environment", "last"))
    with pytest.raises(WeightsError) as caught:
        weights.find(download=False)
    assert "\n" not in str(caught.value)
    for hint in (hub, "TFHUB_CACHE_DIR", "FOLDER", weights.variable, "--weights " + name, "--embedder logmel"):
        assert hint in str(caught.value)
    for cached in map(checkpoints.cache_folder, (kaggle, hub)):
        assert cached.parent == tmp_path / "hub"
        write_whole_module(cached)
        assert weights.find() == cached
        (cached / "saved_model.pb").unlink()
        with pytest.raises(WeightsError):
            weights.find(download=False)  # a module that is not whole
    for path in (empty_cache / name, last, from_environment, given):  # each comes before those before it
        write_whole_module(path)
        if path == last:
            checkpoints.remember(path, weights.name)
        if path == from_environment:
            monkeypatch.setenv(weights.variable, str(path))
        assert weights.find(given if path == given else None) == path
    with pytest.raises(WeightsError, match="nowhere: no such file or folder"):
        weights.find(tmp_path / "nowhere")


# ---- Downloads, from a server on this machine.


@pytest.fixture(scope="module")
def archive(seeded_yamnet_module, tmp_path_factory):
    """The seeded module as Kaggle packs it."""
    path = tmp_path_factory.mktemp("archive") / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(seeded_yamnet_module, ".")
    return path


@pytest.fixture
def weights(empty_cache, server, archive, monkeypatch):
    """YAMNet's, as if the server were tfhub.dev and Kaggle; both have the module."""
    (get,) = set(yamnet.WEIGHTS.sources.values())
    addresses = [f"{server.url}/{name}" for name in ("hub", "kaggle")]
    for name in ("hub", "kaggle"):
        (server.folder / name).symlink_to(archive)
    monkeypatch.setattr(remote, "Link", partial(remote.Link, sleep=lambda _: None))
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(empty_cache.parent))
    return replace(yamnet.WEIGHTS, sources=dict.fromkeys(addresses, get))


def test_of_two_that_start_together_one_downloads_a_whole_module(
    weights, server, seeded_yamnet_module, empty_cache, capsys
):
    with ThreadPoolExecutor() as pool:
        assert [*pool.map(lambda _: weights.find(), range(2))] == [empty_cache / "yamnet"] * 2
    assert yamnet.read_weights(empty_cache / "yamnet")[1] == yamnet.read_weights(seeded_yamnet_module)[1]
    assert server.asked == ["hub"]
    assert [place.name for place in empty_cache.iterdir() if place.suffix != ".safetensors"] == ["yamnet"]
    assert "/hub for YAMNet's weights (16 MB)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 403}, "HTTP 403 Forbidden"),
        ({"cut": 0}, "the connection broke off; tried 2 times"),
        ({"content": b" <!doctype html><p>Sign in"}, "damaged, cut short, or not a .tar.gz of a module"),
    ],
)
def test_an_address_that_fails_is_told_in_a_line_and_the_next_is_asked(answer, reason, weights, server, capsys):
    server.always["hub"] = answer
    path = weights.find()
    (told,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("  http"))
    assert told.startswith(f"  {server.url}/hub: ")
    assert reason in told
    assert server.asked[-1] == "kaggle"
    assert [place.name for place in path.parent.iterdir() if place.suffix != ".safetensors"] == ["yamnet"]


@pytest.mark.thorough
def test_the_weights_of_another_network_are_refused(weights, server, empty_cache, capsys, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.other = tf.Variable([1.0])
    tf.saved_model.save(module, str(tmp_path / "other"))
    (server.folder / "hub").unlink()
    with tarfile.open(server.folder / "hub", "w:gz") as tar:
        tar.add(tmp_path / "other", ".")
    assert weights.find() == empty_cache / "yamnet"
    assert f"  {server.url}/hub: not YAMNet, the variable" in capsys.readouterr().err


def test_where_no_address_answers_the_message_is_the_remedy(weights, server, empty_cache, capsys):
    server.always |= {"hub": {"status": 403}, "kaggle": {"status": 404}}
    with pytest.raises(WeightsError, match=r"no address has them. Three ways to get them: .*--weights FOLDER"):
        weights.find()
    assert len(capsys.readouterr().err.splitlines()) == 4
    assert not empty_cache.exists() or list(empty_cache.iterdir()) == []


def test_a_download_that_broke_off_is_continued_by_the_next_run(weights, server, archive, empty_cache):
    size = archive.stat().st_size
    server.plans["hub"] = [{"cut": size // 2}, {"cut": 0}]
    server.always["kaggle"] = {"status": 404}
    with pytest.raises(WeightsError):
        weights.fetch()
    (part,) = empty_cache.iterdir()
    assert part.suffix == ".part"
    assert 0 < part.stat().st_size <= size // 2
    assert weights.fetch() == empty_cache / "yamnet"
    assert server.starts[-1] > 0
    assert server.sent < 1.2 * size


def test_what_was_downloaded_can_be_removed_and_nothing_else(weights, empty_cache, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    write_whole_module(mine)
    path = weights.fetch()
    checkpoints.remember(mine, "YAMNet")
    (empty_cache / f"{path.name}-12345678.tar.gz.part").touch()
    (read,) = empty_cache.glob("yamnet-*.safetensors")
    assert weights.remove() == [path, empty_cache / f"{path.name}-12345678.tar.gz.part", read]
    assert weights.remove() == []
    assert weights.find() == mine


def test_a_checkpoint_is_known_by_its_md5(empty_cache, server, monkeypatch):
    (server.folder / "a.ckpt").write_bytes(b"weights")
    md5 = hashlib.md5(b"weights").hexdigest()
    with pytest.raises(WeightsError, match=rf"a.ckpt: another file than expected \(md5 {md5}, not d1c7011e"):
        checkpoints.fetch_file(f"{server.url}/a.ckpt", empty_cache / "a.ckpt", vggish.CHECKPOINT_MD5)
    assert list(empty_cache.iterdir()) == []
    assert checkpoints.fetch_file(f"{server.url}/a.ckpt", empty_cache / "a.ckpt", md5).read_bytes() == b"weights"
    (get,) = {own for address, own in vggish.WEIGHTS.sources.items() if address.endswith(".ckpt")}
    monkeypatch.setattr(vggish, "CHECKPOINT_MD5", md5)
    monkeypatch.setattr(vggish, "PCA_URL", f"{server.url}/none")
    assert get(f"{server.url}/a.ckpt") == empty_cache / "vggish_model.ckpt" == vggish.WEIGHTS.find()


def test_an_archive_is_read_as_the_folder_is(archive, seeded_yamnet_module):
    assert yamnet.read_weights(archive)[1] == yamnet.read_weights(seeded_yamnet_module)[1]


@pytest.mark.parametrize("name", ["../evil", "/evil", "variables/../../evil"])
def test_an_archive_writes_into_its_own_folder_alone(name, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with (
        pytest.raises(WeightsError, match="has no place in a module"),
        checkpoints.unpacked(tmp_path / "a.tar.gz", tmp_path),
    ):
        pytest.fail("it was unpacked")


def test_a_module_that_is_not_whole_says_what_is_missing(tmp_path):
    write_whole_module(tmp_path / "module")
    (tmp_path / "module" / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"it has no variables/variables.data.*; was its download cut short"):
        vggish.read_variables(tmp_path / "module")


def test_weights_of_another_network_are_called_what_they_are(seeded_yamnet_module, seeded_musicnn_wheel):
    for name, own, path, whose in (
        ("vggish-pca", "VGGish", seeded_yamnet_module, "YAMNet"),
        ("yamnet", "YAMNet", seeded_musicnn_wheel, "musicnn"),
    ):
        said = f"{path.name}: this is {whose}; {name} is an embedder by {own}, and --embedder {whose.lower()}"
        with pytest.raises(UsageError, match=said):
            load_embedder(name, EmbedderOptions(path))


def test_weights_that_were_named_are_found_again_by_their_hash(seeded_musicnn_wheel, empty_cache, tmp_path):
    named = tmp_path / seeded_musicnn_wheel.name
    shutil.copy(seeded_musicnn_wheel, named)
    spec = load_embedder("musicnn", EmbedderOptions(named, allow_untrained=True)).spec
    assert load_embedder(spec).spec == spec
    with pytest.raises(WeightsError):
        load_embedder("musicnn", EmbedderOptions(offline=True)), "others than the released are not the network's"
    named.rename(tmp_path / f"moved-{named.name}")
    with pytest.raises(WeightsError, match="not here"):
        load_embedder(spec, EmbedderOptions(offline=True))
    named.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="not here"):
        load_embedder(spec, EmbedderOptions(offline=True))
    (empty_cache / "weights.json").write_text("[")
    assert checkpoints.recall(spec.weights_sha256) is None
