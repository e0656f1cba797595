"""The log-mel spectrogram of a song, as the network hears it, and pictures of it without axes.

64 mel bands from 125 to 7,500 Hz, one frame every 10 ms, ``log(magnitude + 0.01)``: what `melspec` makes and VGGish's
front end cuts into patches. With axes it is drawn by `tagging.song_plots.plot_spectrogram`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import conversion, melspec
from jamendo_mood.util.errors import TooShortError, UsageError
from jamendo_mood.util.scratch import Scratch

MINUTE_S = 60.0
"""Where the default stretch of a song starts, and how long it is: past the intro, and the same length for all songs."""

BLOCK_FRAMES = 3_000  # half a minute of sound at a time: 20 MB on the way to its bands
OVERLAP_SAMPLES = melspec.WINDOW_SAMPLES - melspec.HOP_SAMPLES  # 240: so that blocks give the frames of the whole

LOWEST_VALUE = math.log(melspec.LOG_OFFSET)
"""Digital silence: black."""

HIGHEST_VALUE = math.log(melspec.WINDOW_SAMPLES / 4)
"""A sine at full scale, whose peak has a magnitude of 100 in a Hann window of 400 samples: the brightest colour.

Nothing in ten loud songs of Jamendo came above 4.5; more than that is drawn as this is.
"""

COLOURS = "magma"  # evenly brighter from black up, and readable without colour vision, as viridis is

Array = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """The log-mel spectrogram of a song, or of a stretch of it.

    Attributes
    ----------
    values : float32 array (columns, 64)
        ``log(magnitude + 0.01)`` by mel band, the lowest first; -4.6 is silence.
    start_s : float
        Where in the song it starts, in seconds.
    duration_s : float
        Length of the sound it shows, in seconds: less than was asked for where the song ends before.
    frame_s : float
        Seconds from one column to the next: 0.01, or more where neighbouring frames were averaged.
    """

    values: Array
    start_s: float
    duration_s: float
    frame_s: float


def compute(
    path: Path, scratch: Scratch, *, start_s: float = 0.0, duration_s: float | None = None, columns: int | None = None
) -> Spectrogram:
    """Compute the log-mel spectrogram of a file, or of a stretch of it, in memory that does not grow with the file.

    Parameters
    ----------
    path : Path
        Of any usual format of sound.
    scratch : Scratch
        Where its WAV lives for the moment.
    start_s : float
        Where the stretch starts, in seconds from 0 up; rounded to 10 ms, so that its frames are frames of the whole.
    duration_s : float or None
        Its length in seconds, above 0; None is up to the end. Its frames are those that lie wholly within it.
    columns : int or None
        At most so many columns: the values of neighbouring frames are averaged, as many to each column but the last.
        None is a column for each frame.

    Raises
    ------
    AudioError
        It cannot be decoded; TooShortError where there are less than 25 ms of sound.
    UsageError
        The stretch or `columns` makes no sense, or the file ends before the stretch.
    """
    check_stretch(start_s, duration_s)
    if columns is not None and columns < 1:
        raise UsageError(f"a spectrogram of {columns} columns: it has at least one")
    start_s = round(start_s, 2)
    with conversion.converted(path, scratch, start_s, duration_s) as wav:
        samples = conversion.count_samples(wav)
        frames = 1 + (samples - melspec.WINDOW_SAMPLES) // melspec.HOP_SAMPLES
        if samples < melspec.WINDOW_SAMPLES:
            milliseconds = 1000 * samples / conversion.SAMPLE_RATE_HZ
            raise TooShortError(f"{path}: {milliseconds:.1f} ms of sound; a spectrogram needs {melspec.WINDOW_S} s")
        width = 1 if columns is None else math.ceil(frames / columns)
        values = _average(wav, frames, width)
    return Spectrogram(values, start_s, samples / conversion.SAMPLE_RATE_HZ, width * melspec.HOP_S)


def _average(wav: Path, frames: int, width: int) -> Array:
    """The spectrogram of a WAV, each `width` frames averaged to one column: float32 (columns, 64)."""
    sums = np.zeros((math.ceil(frames / width), melspec.MEL_BANDS), np.float32)
    block = OVERLAP_SAMPLES + BLOCK_FRAMES * melspec.HOP_SAMPLES
    for number, wave in enumerate(conversion.read_blocks(wav, block, overlap=OVERLAP_SAMPLES)):
        values = melspec.log_mel(wave)
        if not len(values):  # a rest at the end that fills no window
            break
        first = number * BLOCK_FRAMES
        column = np.arange(first, first + len(values)) // width
        starts = np.flatnonzero(np.diff(column, prepend=-1))
        sums[column[starts]] += np.add.reduceat(values, starts, axis=0)
    counts = np.minimum(width, frames - width * np.arange(len(sums)))
    return np.asarray(sums / counts[:, None], np.float32)


def check_stretch(start_s: float, duration_s: float | None) -> None:
    """Raise `UsageError` unless a stretch starts at 0 s or later and is longer than 0 s, or open (None)."""
    if not 0 <= start_s < math.inf:
        raise UsageError(f"a stretch of a song starts at 0 s or later, not at {start_s:g} s")
    if duration_s is not None and not 0 < duration_s < math.inf:
        raise UsageError(f"a stretch of a song is longer than 0 s, not {duration_s:g} s")


def default_stretch(duration_s: float | None) -> tuple[float, float | None]:
    """Start and length of what is shown of a file of that length: the minute from 1:00, if it lasts until 2:00.

    Else it is the whole, which is ``(0.0, None)``: so every picture is a whole minute or a whole song. A file that
    does not tell its length (None) is shown whole too.
    """
    whole = duration_s is None or duration_s < 2 * MINUTE_S
    return (0.0, None) if whole else (MINUTE_S, MINUTE_S)


def band_of(hz: float) -> float:
    """The mel band with this centre frequency, as a fraction of a band; 0 is the centre of the lowest."""
    lowest, highest, wanted = (
        float(melspec.hz_to_mel(np.float64(edge))) for edge in (melspec.LOWEST_HZ, melspec.HIGHEST_HZ, hz)
    )
    return (wanted - lowest) / (highest - lowest) * (melspec.MEL_BANDS + 1) - 1


def to_image(spectrogram: Spectrogram, colour: bool = True) -> Image:
    """Draw a spectrogram as pixels, one for each column and band, low frequencies at the bottom.

    The scale is the same for all songs, from silence to a sine at full scale (80 dB), so that pictures can be compared
    and a network that learns from them hears how loud a song is.

    Parameters
    ----------
    spectrogram : Spectrogram
    colour : bool
        In matplotlib's ``magma``, which needs matplotlib; else in greys, black being silence.

    Returns
    -------
    uint8 array (64, columns, 3), or (64, columns, 1) without colour
    """
    share = (spectrogram.values - LOWEST_VALUE) / (HIGHEST_VALUE - LOWEST_VALUE)
    levels: Image = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8).T[::-1]
    if not colour:
        return levels[:, :, None]
    from matplotlib import colormaps

    table = (255 * colormaps[COLOURS](np.arange(256))[:, :3]).round().astype(np.uint8)
    return np.asarray(table[levels])


def png_bytes(spectrogram: Spectrogram, colour: bool = True) -> bytes:
    """Encode what `to_image` draws as PNG. Needs Pillow, which comes with matplotlib, of the extra ``notebook``."""
    import PIL.Image

    pixels = to_image(spectrogram, colour)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels if colour else pixels[:, :, 0]).save(buffer, format="PNG")
    return buffer.getvalue()
