"""musicnn: its front end against librosa, its network against one written from the paper, and where weights are."""

import zipfile

import librosa
import numpy as np
import pytest
import safetensors.numpy
import seeded_musicnn

from jamendo_mood.embedders import engines, musicnn
from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
from jamendo_mood.util.errors import WeightsError


@pytest.fixture(scope="module")
def variables():
    return seeded_musicnn.draw_variables(3)


@pytest.fixture(scope="module")
def released(musicnn_weights):
    """The released network."""
    return load_embedder("musicnn", EmbedderOptions(musicnn_weights))


def make_sound():
    """Five seconds of a chord and a beat, as `scripts/check_musicnn.py` makes them."""
    time_s = np.arange(5 * 16_000) / 16_000
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in (220, 277.18, 329.63, 1760))
    return (0.1 * chord * (0.2 + (time_s % 0.5 < 0.1))).astype(np.float32)


def test_mel_bands_are_those_of_librosa():
    expected = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=96)
    np.testing.assert_allclose(musicnn.mel_matrix().toarray().T, expected, rtol=0, atol=1e-7)


def test_a_patch_is_the_log_mel_spectrogram_of_its_own_three_seconds(noise):
    wave = noise(6.5)
    patches = musicnn.patches(wave)
    assert patches.shape == (4, 187, 96)
    for second in (0, 1, 3):
        sound = wave[16_000 * second :][: musicnn.PATCH_SAMPLES]
        mel = librosa.feature.melspectrogram(y=sound, sr=16_000, n_fft=512, hop_length=256, n_mels=96, center=False)
        expected = np.log10(10_000 * mel.T + 1)
        assert np.abs(patches[second] - expected).max() <= 1e-4 * expected.std()


def test_the_loudest_sound_has_finite_patches():
    square = np.sign(np.sin(2 * np.pi * 100 * np.arange(musicnn.PATCH_SAMPLES) / 16_000)).astype(np.float32)
    assert np.isfinite(musicnn.patches(square)).all()
    assert musicnn.patches(square).max() > np.log10(65_504), "as large as 16 bits cannot hold"


def test_the_network_is_the_one_of_the_paper(variables):
    patches = np.random.default_rng(0).uniform(0, 4, (11, 187, 96)).astype(np.float32)  # more than run at once
    expected = seeded_musicnn.run_network(variables, patches)
    found = engines.build(musicnn.define(variables))(patches)
    assert {name: array.shape for name, array in variables.items()} == musicnn.SHAPES
    assert found.shape == (11, 200)
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()


def test_the_released_network_gives_what_its_own_graph_gives(released):
    """The values are those of the released graph, printed by `scripts/check_musicnn.py`."""
    rows = released.embed(make_sound())
    assert rows.shape == (2, 200)
    scale = 0.82
    np.testing.assert_allclose(rows[0, :3], [-0.177176, -0.127029, -0.284826], rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(rows.mean(axis=1), [0.264635, 0.249530], rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(rows.std(axis=1), [0.822572, 0.808511], rtol=0, atol=1e-4 * scale)
    assert released.spec.variant == ""
    assert str(released.spec).startswith("musicnn (200 numbers every 1 s, weights 970c0065888f")


def test_the_wheel_and_the_file_in_the_cache_are_the_same_weights(variables, tmp_path):
    seeded_musicnn.write_wheel(tmp_path / musicnn.WHEEL, variables)
    found = musicnn.read_weights(tmp_path / musicnn.WHEEL)
    assert found.keys() == variables.keys()
    assert all(np.array_equal(found[name], variables[name]) for name in variables)
    path = tmp_path / musicnn.WEIGHTS_NAME
    path.write_bytes(safetensors.numpy.save(found))
    assert musicnn.spec_of(musicnn.read_weights(path)) == musicnn.spec_of(variables)
    with pytest.raises(WeightsError, match=f"{path}: these are not the released weights .*--allow-untrained"):
        load_embedder("musicnn", EmbedderOptions(path))
    assert load_embedder("musicnn", EmbedderOptions(path, allow_untrained=True)).spec.variant == "untrained"


def test_what_is_not_musicnn_is_refused(variables, tmp_path):
    wrong = {
        "text.safetensors": b"no weights at all",
        "other.safetensors": safetensors.numpy.save({"kernel": np.zeros(3, np.float32)}),
        "short.safetensors": safetensors.numpy.save(variables)[:-1000],
        "text.whl": b"no zip",
    }
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name}: not"):
            musicnn.read_weights(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("musicnn/__init__.py", "raise SystemExit")
    with pytest.raises(WeightsError, match=r"empty.whl: not the wheel of musicnn"):
        musicnn.read_weights(tmp_path / "empty.whl")
    with pytest.raises(WeightsError, match="no such file"):
        musicnn.WEIGHTS.find(tmp_path / "nothing.whl")


def test_pip_that_cannot_fetch_the_wheel_is_one_line_with_the_remedy(empty_cache, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(WeightsError) as raised:
        musicnn.WEIGHTS.find()
    message = str(raised.value)
    assert "\n" not in message
    assert f"--weights {musicnn.WHEEL}, which `pip download --no-deps musicnn==0.1.0` fetches" in message
    told = capsys.readouterr().err.splitlines()
    assert "29 MB" in told[0]
    assert f"  pip could not fetch {musicnn.WHEEL} (" in told[1]
    assert list(empty_cache.iterdir()) == []


def test_a_wheel_with_another_hash_is_refused_by_pip(empty_cache, variables, tmp_path, monkeypatch):
    links = tmp_path / "links"
    links.mkdir()
    seeded_musicnn.write_wheel(links / musicnn.WHEEL, variables)
    with zipfile.ZipFile(links / musicnn.WHEEL, "a") as archive:
        archive.writestr("musicnn-0.1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: musicnn\nVersion: 0.1.0\n")
        archive.writestr("musicnn-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(WeightsError, match=r"(?i)hash|do not match"):
        musicnn.fetch()
    assert not empty_cache.exists()


def test_nothing_is_fetched_where_weights_are(empty_cache, variables, tmp_path, monkeypatch):
    monkeypatch.setattr(musicnn, "fetch", lambda: pytest.fail("it was fetched"))
    with pytest.raises(WeightsError, match="not here"):
        musicnn.WEIGHTS.find(download=False)
    empty_cache.mkdir(parents=True)
    (empty_cache / musicnn.WEIGHTS_NAME).write_bytes(safetensors.numpy.save(variables))
    assert musicnn.WEIGHTS.find() == empty_cache / musicnn.WEIGHTS_NAME
    monkeypatch.setenv(musicnn.WEIGHTS.variable, str(tmp_path))
    assert musicnn.WEIGHTS.find() == tmp_path
