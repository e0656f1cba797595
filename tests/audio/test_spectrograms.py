import io

import numpy as np
import PIL.Image
import pytest
from matplotlib import colormaps
from trying import memory_below

from jamendo_mood.audio import decoding, spectrograms
from jamendo_mood.audio.spectrograms import Spectrogram
from jamendo_mood.util.errors import TooShortError, UsageError
from jamendo_mood.util.files import Scratch


@pytest.fixture
def compute(empty_scratch):
    """Compute a spectrogram; nothing is left in the scratch folder."""

    def run(path, **stretch):
        with Scratch(empty_scratch) as scratch:
            return spectrograms.compute(path, scratch, **stretch)

    return run


@pytest.fixture
def whole(empty_scratch, read_wav):
    """The spectrogram of a file in one go, by the network's own front end."""

    def run(path):
        with Scratch(empty_scratch) as scratch, decoding.converted(path, scratch) as wav:
            return spectrograms.log_mel(read_wav(wav))

    return run


def make_spectrogram(columns=50, seed=0):
    values = np.random.default_rng(seed).uniform(-6, 6, (columns, 64)).astype(np.float32)
    return Spectrogram(values, 0.0, columns / 100, 0.01)


@pytest.mark.parametrize("samples", [400, 559, 560, 479_999, 480_240, 480_400, 1_100_000])
def test_blocks_are_the_whole(samples, compute, whole, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / "noise.wav", noise(samples / 16_000), rate_hz=16_000)
    shown = compute(path)
    # Matrix products of other sizes round otherwise.
    np.testing.assert_allclose(shown.values, whole(path), rtol=0, atol=1e-5)
    assert shown.values.dtype == np.float32
    assert (shown.start_s, shown.duration_s, shown.frame_s) == (0.0, samples / 16_000, 0.01)


def test_a_stretch_is_that_part_of_the_whole(compute, whole, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / "noise.mp3", noise(20.0, channels=2, rate_hz=44_100))
    shown = compute(path, start_s=7.131, duration_s=5.0)
    assert (shown.start_s, shown.duration_s) == (7.13, 5.0)
    # The whole goes through pydub, whose samples may differ by one 16-bit step, and by more where stereo was rounded.
    np.testing.assert_allclose(shown.values, whole(path)[713 : 713 + 498], rtol=0, atol=0.02)


@pytest.mark.parametrize("columns", [1, 7, 100, 2999, 3000, 10_000])
def test_columns_are_means_of_neighbouring_frames(columns, compute, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / "noise.wav", noise(62.3), rate_hz=16_000)
    frames, shown = compute(path).values, compute(path, columns=columns)
    width = round(shown.frame_s / 0.01)
    assert width == -(-len(frames) // columns)
    assert len(shown.values) <= columns
    expected = [frames[first : first + width].mean(axis=0) for first in range(0, len(frames), width)]
    np.testing.assert_allclose(shown.values, expected, rtol=0, atol=1e-4)


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_song(compute, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / "noise.flac", np.tile(noise(60.0, rate_hz=8_000), 30), rate_hz=8_000)
    with memory_below(35_000_000):  # its samples would take 115 MB, its frames 46 MB
        shown = compute(path, columns=500)
    assert (shown.duration_s, len(shown.values)) == (1800.0, 500)


@pytest.mark.parametrize(
    ("stretch", "message"),
    [
        ({"start_s": -1.0}, "not at -1 s"),
        ({"start_s": float("nan")}, "not at nan s"),
        ({"duration_s": 0.0}, "not 0 s"),
        ({"duration_s": float("inf")}, "not inf s"),
        ({"start_s": 5.0}, "ends before 5 s"),
    ],
)
def test_a_stretch_that_makes_no_sense_is_a_usage_error(stretch, message, compute, make_audio, tone, tmp_path):
    path = make_audio(tmp_path / "tone.mp3", tone())
    with pytest.raises(UsageError, match=message):
        compute(path, **stretch)


def test_less_than_a_window_of_sound_is_too_short(compute, make_audio, noise, tmp_path):
    path = make_audio(tmp_path / "click.wav", noise(399 / 16_000), rate_hz=16_000)
    with pytest.raises(TooShortError, match=r"click\.wav: 24\.9 ms"):
        compute(path)


@pytest.mark.parametrize(
    ("duration_s", "stretch"),
    [(None, (0.0, None)), (12.0, (0.0, None)), (119.9, (0.0, None)), (120.0, (60.0, 60.0)), (7200.0, (60.0, 60.0))],
)
def test_by_default_a_whole_minute_or_the_whole_song_is_shown(duration_s, stretch):
    assert spectrograms.default_stretch(duration_s) == stretch


@pytest.mark.parametrize("hz", [200, 440, 1000, 3000, 6500])
def test_a_tone_is_brightest_in_its_band(hz, compute, make_audio, tone, tmp_path):
    path = make_audio(tmp_path / "tone.wav", tone(hz))
    pixels = spectrograms.to_image(compute(path), colour=False)
    assert pixels.shape == (64, 198, 1)
    row = int(pixels[:, 99, 0].argmax())
    assert 63 - row == pytest.approx(spectrograms.band_of(hz), abs=1)


def test_silence_is_black_and_a_full_scale_tone_is_white(compute, make_audio, tone, tmp_path):
    silent = make_audio(tmp_path / "silence.wav", np.zeros(16_000, np.float32), rate_hz=16_000)
    assert spectrograms.to_image(compute(silent), colour=False).max() == 0
    loud = make_audio(tmp_path / "loud.wav", tone(1000, amplitude=0.999, rate_hz=16_000), rate_hz=16_000)
    assert spectrograms.to_image(compute(loud), colour=False).max() == 255


def test_colour_is_magma_and_grey_is_its_level():
    spectrogram = make_spectrogram()
    grey, colour = (spectrograms.to_image(spectrogram, colour) for colour in (False, True))
    assert grey.shape == (64, 50, 1)
    assert colour.shape == (64, 50, 3)
    assert grey.dtype == colour.dtype == np.uint8
    assert (grey.min(), grey.max()) == (0, 255)
    np.testing.assert_allclose(colour, 255 * colormaps["magma"](grey[:, :, 0])[:, :, :3], atol=0.5)


@pytest.mark.parametrize(("colour", "mode"), [(True, "RGB"), (False, "L")])
def test_the_png_holds_the_pixels(colour, mode):
    spectrogram = make_spectrogram()
    with PIL.Image.open(io.BytesIO(spectrograms.png_bytes(spectrogram, colour))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (50, 64))
        pixels = np.asarray(picture).reshape(64, 50, -1)
    np.testing.assert_array_equal(pixels, spectrograms.to_image(spectrogram, colour))


@pytest.mark.parametrize("offset", [0.01, 0.001])
def test_silence_is_the_logarithm_of_the_offset(offset):
    np.testing.assert_allclose(spectrograms.log_mel(np.zeros(1_000, np.float32), offset), np.log(offset), rtol=1e-6)


@pytest.mark.parametrize(
    ("samples", "count"),
    [(0, 0), (399, 0), (400, 0), (15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2), (16_000 * 60, 62)],
)
def test_the_number_of_patches(samples, count):
    patches = spectrograms.patches(np.zeros(samples, np.float32))
    assert patches.shape == (count, 96, 64)
    assert patches.dtype == np.float32
    assert count == max(0, (samples - 240) // 15_360)


@pytest.mark.parametrize("hop_frames", [1, 48, 50, spectrograms.PATCH_FRAMES, 130])
def test_patches_may_overlap_or_leave_gaps(hop_frames, noise):
    wave = noise(4.0)
    mel = spectrograms.log_mel(wave)
    patches = spectrograms.patches(wave, hop_frames)
    assert len(patches) == 1 + (len(wave) - 15_600) // (160 * hop_frames)
    for number, patch in enumerate(patches):
        np.testing.assert_array_equal(patch, mel[number * hop_frames :][:96])


@pytest.mark.parametrize(("colour", "colours"), [(True, "magma"), (False, "gray")])
@pytest.mark.usefixtures("no_pyplot")
def test_a_spectrogram_has_seconds_and_hertz_and_low_notes_at_the_bottom(colour, colours, tmp_path):
    values = np.tile(np.linspace(-4, 4, 64, dtype=np.float32), (100, 1))  # the higher the louder
    figure = spectrograms.plot_spectrogram(Spectrogram(values, 60.0, 2.98, 0.03), colour)
    axes, colour_bar = figure.axes
    (image,) = axes.get_images()
    np.testing.assert_array_equal(image.get_array(), values.T)
    assert image.origin == "lower"
    assert axes.get_ylim() == (-0.5, 63.5)
    assert tuple(image.get_extent())[:2] == (60.0, 63.0)
    assert axes.get_xlim() == (60.0, 62.98)  # the last column stands for less than 0.03 s
    assert image.get_cmap().name == colours
    assert image.get_clim() == (spectrograms.LOWEST_VALUE, spectrograms.HIGHEST_VALUE)
    marks = dict(zip((label.get_text() for label in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    assert marks["1,000"] == pytest.approx(spectrograms.band_of(1000))
    assert all(-0.5 < mark < 63.5 for mark in marks.values())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds", "Hz (mel scale)")
    assert colour_bar.get_ylabel() == "log(magnitude + 0.01)"
    figure.savefig(tmp_path / "spectrogram.png")
