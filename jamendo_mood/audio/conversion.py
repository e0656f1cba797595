"""Any audio file -> a 16 kHz mono WAV in a scratch folder -> blocks of float32.

pydub converts, one file at a time (see `pydub_conversion`). It keeps the whole decoded track in memory, so files over
15 minutes go through one ffmpeg pass instead.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import ffmpeg, pydub_conversion
from jamendo_mood.util.errors import AudioError, DiskFullError, NoFileError, NoSoundError, UsageError
from jamendo_mood.util.files import Scratch

SAMPLE_RATE_HZ = 16_000
PCM_SCALE = 32_768.0  # 16-bit PCM to [-1, 1)
LONGEST_PYDUB_S = 15 * 60.0
LONGEST_TITLE = 500

AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mp2",
    ".mp3", ".mp4", ".mpc", ".oga", ".ogg", ".opus", ".tta", ".wav", ".webm", ".wma", ".wv",
})  # fmt: skip
"""What a folder is searched for. A file named explicitly may have any suffix."""

Wave = npt.NDArray[np.float32]

_READ_BY_PYDUB_ITSELF = frozenset({".wav", ".raw", ".pcm"})  # whatever is in them: without ffmpeg, the whole at once
_AS_WAV = ("-map_metadata", "-1", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-c:a", "pcm_s16le")


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself.

    Attributes
    ----------
    codec : str
        ffmpeg's name of the audio codec, such as ``mp3`` or ``pcm_s16le``.
    duration_s : float or None
        Seconds, from the header: an estimate for some formats, None where there is none.
    title, artist : str or None
        From the file's own metadata.
    """

    codec: str
    duration_s: float | None
    title: str | None
    artist: str | None


def probe(path: Path) -> AudioInfo:
    """Read codec, length, title and artist of an audio file.

    ffmpeg itself is asked, not ffprobe, which the ``imageio-ffmpeg`` wheel does not have.

    Raises
    ------
    AudioError
        The file is missing, empty or no audio file.
    NoSoundError
        There is no sound in it.
    """
    path = Path(path)
    if not path.exists():
        raise NoFileError(f"{path}: no such file")
    if not path.is_file():
        raise AudioError(f"{path}: a folder, a device or a pipe, and no file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    done = ffmpeg.run("-i", str(path.absolute()))
    # What it says of the file is indented by more, so that no title is taken for this.
    length = re.search(r"^  Duration: (?:(\d+):(\d\d):(\d\d(?:\.\d+)?))?", done.report, re.MULTILINE)
    streams = done.report[length.end() :] if length else ""
    stream = re.search(r"^\s*Stream #.*?: Audio: (\w+).*$", streams, re.MULTILINE)
    if stream is not None and re.search(r"\((drms|enca|aavd) /", stream[0]):
        raise AudioError(f"{path}: protected against copying (DRM), nobody but its shop's player can decode it")
    if stream is None or stream[1] == "none":
        if "Stream #" in streams:
            raise NoSoundError(f"{path}: not a readable audio file (there is no sound in it)")
        reason = "there is nothing in it" if length else done.reason(path)
        raise AudioError(f"{path}: not a readable audio file ({reason})")
    return AudioInfo(
        codec=stream[1],
        duration_s=_parse_duration(length),
        title=_parse_tag(done.report, "title"),
        artist=_parse_tag(done.report, "artist"),
    )


def convert_to_wav(source: Path, wav: Path, start_s: float = 0.0, duration_s: float | None = None) -> None:
    """Write `source`, or a stretch of it, as a 16 kHz mono 16-bit WAV; temporary files go into the folder of `wav`.

    pydub converts whatever it can hold in memory and reads right. Files longer than 15 minutes (or of unknown length,
    or that turn out to be longer than they say), uncompressed ones (pydub reads float WAVs wrong, silently, and leaves
    WAVs open) and stretches go through one ffmpeg pass. A stretch is, sample by sample, that part of the whole file's.

    Parameters
    ----------
    source, wav : Path
    start_s : float
        Where the stretch starts, in seconds from 0 up.
    duration_s : float or None
        Its length in seconds, above 0; shorter where the file ends before. None is up to the end.

    Raises
    ------
    AudioError
        The file is missing, cannot be decoded, or goes on for more than a day (see `ffmpeg.run` for what it may take).
    UsageError
        The file ends before the stretch starts.
    DiskFullError
        The scratch folder has no room for it.
    """
    info = probe(source)
    short = info.duration_s is not None and info.duration_s <= LONGEST_PYDUB_S
    compressed = not info.codec.startswith("pcm_") and source.suffix.lower() not in _READ_BY_PYDUB_ITSELF
    trim = _trim_options(start_s, duration_s)
    try:
        if not (short and compressed and not trim and _convert_with_pydub(source, wav)):
            _convert_with_ffmpeg(source, wav, trim)
    except OSError as error:
        raise _as_audio_error(source, wav, str(error)) from error
    if not wav.is_file() or count_samples(wav) == 0:
        if start_s > 0:
            raise UsageError(f"{source}: it ends before {start_s:g} s")
        raise NoSoundError(f"{source}: there is no sound in it (0 samples after decoding)")


def count_samples(wav: Path) -> int:
    """Length of a WAV in samples."""
    with wave.open(str(wav), "rb") as reader:
        return reader.getnframes()


def read_blocks(wav: Path, block: int, overlap: int = 0) -> Iterator[Wave]:
    """Yield a 16 kHz mono WAV as consecutive blocks that overlap.

    Parameters
    ----------
    wav : Path
        As `convert_to_wav` writes it.
    block, overlap : int
        Samples a block has, and how many of them it shares with the block before it; ``overlap < block``.

    Yields
    ------
    float32 array (n,)
        Range [-1, 1). ``n == block`` but for the last, which is shorter and has more than `overlap` samples.
    """
    kept = np.zeros(0, np.float32)
    with wave.open(str(wav), "rb") as reader:
        while True:
            fresh = np.frombuffer(reader.readframes(block - len(kept)), "<i2")
            if not len(fresh):
                return
            samples = np.concatenate([kept, fresh.astype(np.float32) / np.float32(PCM_SCALE)])
            yield samples
            kept = samples[len(samples) - overlap :] if overlap else samples[:0]


@contextlib.contextmanager
def converted(source: Path, scratch: Scratch, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[Path]:
    """Give the WAV of `source`, or of a stretch of it, in a folder of its own below `scratch`.

    Both are gone when the block ends. See `convert_to_wav`.
    """
    with scratch.folder() as folder:
        wav = folder / "track.wav"
        convert_to_wav(source, wav, start_s, duration_s)
        yield wav


def find_audio(root: Path) -> dict[str, Path]:
    """Find the audio files below `root`, by key, sorted by key.

    A file's key is its path below `root` without the suffix, and without MTG's ``.low``: ``48/948.low.mp3`` and
    ``48/948.mp3`` are the same track, ``48/948``. Hidden files and folders, such as the ``._948.mp3`` that macOS leaves
    on foreign disks, are passed over.

    Raises
    ------
    UsageError
        `root` is no folder, or two files have one key.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder of audio files")
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root)
        hidden = any(part.startswith(".") for part in below.parts)
        if hidden or path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
            continue
        key = key_of(below.as_posix())
        if key in found:
            raise UsageError(f"two files are the track {key!r}: {found[key]} and {path}; keep one of them")
        found[key] = path
    return dict(sorted(found.items()))


def key_of(relative_path: str) -> str:
    """The key of a track from its path below the audio folder: ``48/948.low.mp3`` -> ``48/948``.

    What has no place in a table or in another system's file names (control characters, backslashes, bytes that are no
    UTF-8) is written as in a URL: a line feed is ``%0A``.
    """
    folder, slash, name = relative_path.rpartition("/")
    stem = name[: name.rindex(".")] if "." in name[1:] else name
    return _UNFIT_FOR_KEYS.sub(_as_in_url, folder + slash + stem.removesuffix(".low"))


_UNFIT_FOR_KEYS = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _as_in_url(unfit: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in unfit[0].encode("utf-8", "surrogateescape"))


def _convert_with_pydub(source: Path, wav: Path) -> bool:
    """Return whether it was done: a file that is longer than it says is not."""
    segment = pydub_conversion.audio_segment(ffmpeg.find_ffmpeg())
    from pydub.exceptions import CouldntDecodeError

    most_bytes = round(LONGEST_PYDUB_S * ffmpeg.BYTES_PER_S)
    try:
        with pydub_conversion.decoding_to(_AS_WAV, most_bytes) as decoding:
            audio = segment.from_file(str(source.absolute()))
    except ffmpeg.TooMuchError:
        return False
    except CouldntDecodeError as error:
        done = decoding.done
        raise _as_audio_error(source, wav, done.reason(source) if done and done.status else str(error)) from error
    audio.export(str(wav), format="wav").close()
    return True


def _trim_options(start_s: float, duration_s: float | None) -> tuple[str, ...]:
    """What tells ffmpeg to write a stretch: nothing for the whole.

    Samples are counted, after resampling: -ss and -t go by time stamps, which in AAC, Ogg and WMA are not where the
    samples are. ffmpeg decodes from the start of the file, and stops at the end of the stretch.
    """
    if start_s == 0 and duration_s is None:
        return ()
    start = round(start_s * SAMPLE_RATE_HZ)
    end = "" if duration_s is None else f":end_sample={start + max(1, round(duration_s * SAMPLE_RATE_HZ))}"
    same = f"aformat=sample_fmts=s16:sample_rates={SAMPLE_RATE_HZ}:channel_layouts=mono"
    return ("-af", f"{same},atrim=start_sample={start}{end}")


def _convert_with_ffmpeg(source: Path, wav: Path, trim: tuple[str, ...]) -> None:
    reading = ("-v", "error", "-y", "-i", str(source.absolute()), "-vn", "-sn", "-dn")
    done = ffmpeg.run(*reading, *trim, *_AS_WAV, "-f", "wav", str(wav), writes=wav)
    if done.status != 0:
        raise _as_audio_error(source, wav, done.reason(source))


def _as_audio_error(source: Path, wav: Path, reason: str) -> AudioError | DiskFullError:
    """The error for the track, or for the disk when that is what was in the way."""
    if "No space left" in reason or shutil.disk_usage(wav.parent).free == 0:
        return DiskFullError(f"no space left in the scratch folder {wav.parent.parent}: free some, or name another")
    return AudioError(f"{source}: cannot be decoded ({reason})")


def _parse_duration(match: re.Match[str] | None) -> float | None:
    if match is None or match[1] is None:
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _parse_tag(text: str, name: str) -> str | None:
    # What is said of the file or of its sound (Ogg's tags), not of a chapter or a cover. How far each is indented is
    # another matter in every version of ffmpeg.
    parts = re.split(r"^(?= *(?:Input|Program|Chapter|Stream) #)", text, flags=re.MULTILINE)
    ours = "".join(part for part in parts if re.match(r"Input| *Stream #\S+ Audio:", part))
    match = re.search(rf"^ +{name}\s*: (.+)$", ours, re.MULTILINE | re.IGNORECASE)
    return None if match is None else match[1].strip()[:LONGEST_TITLE]
