"""Set-up that several test files share."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from jamendo_mood.audio import decoding
from jamendo_mood.audio.ffmpeg import find_ffmpeg
from jamendo_mood.embedders.registry import NETWORKS, Embedder, EmbedderSpec, weights_of
from jamendo_mood.embedders.vggish import PCA_NAME, WEIGHTS
from jamendo_mood.util import files

SHARED = Path(__file__).resolve().parents[2] / "shared"
STUB_WINDOW, STUB_HOP = 1000, 800

Wave = np.ndarray


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared data folder; tests that use it are marked `shared`."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the project's shared data folder at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def true_weights() -> Path:
    """Google's VGGish weights; tests that use them are marked `weights`."""
    if not os.environ.get(WEIGHTS.variable):
        pytest.skip(f"needs Google's VGGish weights: set {WEIGHTS.variable} to the TF-Hub module or checkpoint")
    return Path(os.environ[WEIGHTS.variable])


USERS_CACHE = files.cache_folder()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_downloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test lets pip fetch what a user would, or writes into the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def musicnn_weights() -> Path:
    """The released weights of musicnn."""
    from jamendo_mood.embedders import musicnn

    path = Path(os.environ.get(musicnn.WEIGHTS.variable) or USERS_CACHE / musicnn.WEIGHTS_NAME)
    if not path.exists():
        pytest.skip(f"needs musicnn's weights, which `jamendo-mood weights musicnn --get` fetches ({path})")
    return path


@pytest.fixture(scope="session")
def seeded_musicnn_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of musicnn with weights from a seed."""
    import seeded_musicnn

    from jamendo_mood.embedders import musicnn

    path = tmp_path_factory.mktemp("seeded") / musicnn.WHEEL
    seeded_musicnn.write_wheel(path, seeded_musicnn.draw_variables(3))
    return path


@pytest.fixture(scope="session")
def seeded_module(pytestconfig: pytest.Config) -> Path:
    """A SavedModel of VGGish's interface and size with weights from a seed; nobody writes to it.

    It has 288 MB, so it is made once, for all processes and runs, in pytest's cache.
    """
    recipe = Path(__file__).with_name("seeded_vggish.py")
    folder = pytestconfig.cache.mkdir(f"seeded-vggish-{hashlib.sha256(recipe.read_bytes()).hexdigest()[:12]}")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "module").is_dir():
            from seeded_vggish import write_module

            write_module(folder / "draft")
            (folder / "draft").rename(folder / "module")
    return folder / "module"


@pytest.fixture(scope="session")
def seeded_pca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PCA parameters of Google's shapes, from a seed: an orthogonal matrix."""
    generator = np.random.default_rng(11)
    vectors, _ = np.linalg.qr(generator.standard_normal((128, 128)))
    path = tmp_path_factory.mktemp("pca") / PCA_NAME
    np.savez(path, pca_means=generator.standard_normal(128), pca_eigen_vectors=vectors * 0.3)
    return path


@pytest.fixture(scope="session")
def seeded_yamnet_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of YAMNet's interface and size with weights from a seed: 15 MB."""
    from seeded_yamnet import write_module

    folder = tmp_path_factory.mktemp("seeded") / "yamnet"
    write_module(folder)
    return folder


@pytest.fixture(scope="session")
def tone() -> Callable[..., Wave]:
    """Make a sine with soft ends, so that it has no energy away from its frequency."""

    def make(frequency_hz: float = 440.0, seconds: float = 2.0, amplitude: float = 0.5, rate_hz: int = 44_100) -> Wave:
        time_s = np.arange(round(seconds * rate_hz)) / rate_hz
        ramp = np.clip(np.minimum(time_s, seconds - time_s) / min(0.1, seconds / 4), 0, 1)
        ends = np.sin(ramp * np.pi / 2) ** 2
        return (amplitude * ends * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def noise() -> Callable[..., Wave]:
    """Make white noise from a seed: no two stretches of it are alike."""

    def make(seconds: float, seed: int = 0, channels: int = 1, rate_hz: int = 16_000) -> Wave:
        shape = (round(seconds * rate_hz), channels)
        samples = 0.1 * np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        return samples if channels > 1 else samples[:, 0]

    return make


@pytest.fixture(scope="session")
def make_audio() -> Callable[..., Path]:
    """Write a wave, (samples,) or (samples, channels), to an audio file of whatever format its suffix names."""

    def make(path: Path, wave: Wave, rate_hz: int = 44_100, options: tuple[str, ...] = ()) -> Path:
        channels = wave.shape[1] if wave.ndim == 2 else 1
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = ("-f", "f32le", "-ar", str(rate_hz), "-ac", str(channels), "-i", "pipe:0")
        subprocess.run(
            [find_ffmpeg(), "-v", "error", "-y", *raw, *options, str(path)],
            input=wave.astype("<f4").tobytes(),
            check=True,
        )
        return path

    return make


@pytest.fixture(scope="session")
def stub_embedder() -> Embedder:
    """A tiny embedder in numpy, with windows that overlap: three statistics of each window."""

    def frontend(wave: Wave) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(wave, STUB_WINDOW)[::STUB_HOP]

    def network(windows: np.ndarray) -> np.ndarray:
        return np.stack([windows.mean(axis=1), windows.std(axis=1), windows[:, 0]], axis=1)

    spec = EmbedderSpec("stub", "", decoding.SAMPLE_RATE_HZ, STUB_WINDOW / 16_000, STUB_HOP / 16_000, 3)
    return Embedder(spec, frontend, network, STUB_WINDOW, STUB_HOP)


@pytest.fixture(scope="session")
def read_wav() -> Callable[[Path], Wave]:
    """Read a 16 kHz mono WAV whole."""

    def read(wav: Path) -> Wave:
        return np.concatenate(list(decoding.read_blocks(wav, block=1 << 16)))

    return read


@pytest.fixture
def empty_scratch(tmp_path: Path) -> Iterator[Path]:
    """A base folder for scratch that must be as empty after the test as before."""
    base = tmp_path / "scratch"
    base.mkdir()
    yield base
    assert list(base.rglob("*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs (root on Linux)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def no_pyplot() -> Iterator[None]:
    """Whatever is drawn, pyplot's list of open figures, and pyplot itself, stay out of it."""
    before = "matplotlib.pyplot" in sys.modules
    yield
    assert ("matplotlib.pyplot" in sys.modules) == before
    if before:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """A user's cache on a machine without weights: the folder, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    for network in NETWORKS:
        monkeypatch.delenv(weights_of(network).variable, raising=False)
    return tmp_path / "cache" / "jamendo-mood"
