"""Any audio file -> a 16 kHz mono WAV in a scratch folder -> blocks of float32.

ffmpeg decodes and resamples, in a process of its own and within the bounds of `ffmpeg.run`; pydub takes what comes out
and writes the WAV. It holds the whole sound in memory, so files over 15 minutes are written by ffmpeg itself.

`DECODERS` names this way, ``pydub``, and another: ``libsndfile`` decodes and resamples in one pass in this process,
without a WAV. That is two thirds of the work, so a run gains where decoding weighs most, in short clips. What it does
not read, and surround sound, is left to ``pydub``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import os
import re
import shutil
import unicodedata
import warnings
import wave
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import ffmpeg
from jamendo_mood.util import plaintext
from jamendo_mood.util.errors import (
    AudioError,
    DiskFullError,
    LimitError,
    NoFileError,
    NoSoundError,
    UsageError,
    WrongKindError,
)
from jamendo_mood.util.files import Scratch, scratch_full

SAMPLE_RATE_HZ = 16_000
PCM_SCALE = 32_768.0  # 16-bit PCM to [-1, 1)
MAX_PYDUB_S = 15 * 60.0
MAX_TITLE_LENGTH = 500

AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".dff", ".dsf", ".flac", ".m4a",
    ".m4b", ".mka", ".mp2", ".mp3", ".mp4", ".mpc", ".oga", ".ogg", ".opus", ".spx", ".tak", ".tta", ".w64", ".wav",
    ".wave", ".webm", ".wma", ".wv",
})  # fmt: skip
"""What a folder is searched for. A file named explicitly may have any suffix."""

COMPANIONS = frozenset({
    ".accurip", ".cue", ".csv", ".db", ".gif", ".htm", ".html", ".ini", ".jpeg", ".jpg", ".json", ".log", ".lrc",
    ".m3u", ".m3u8", ".md", ".nfo", ".npy", ".pdf", ".png", ".sfv", ".tsv", ".txt", ".url", ".webp", ".xml",
})  # fmt: skip
"""What lies beside music and is no news: not told of when it is passed over."""

log = logging.getLogger(__name__)

STEREO = 2
CANCELLING = 0.01
"""40 dB: a mix that is so far below its louder channel is of channels that cancel each other out."""

MAX_LISTED = 10
MAX_KEY_BYTES = 255 - len(".npy")

Wave = npt.NDArray[np.float32]

_AS_PCM = ("-map_metadata", "-1", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-c:a", "pcm_s16le")


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a file says.

    Attributes
    ----------
    codec : str
        ffmpeg's name of the audio codec, such as ``mp3`` or ``pcm_s16le``.
    duration_s : float or None
        Seconds: an estimate for some formats, None where the header does not say.
    title, artist : str or None
    channels : int
        0 where they stand for speakers of their own, such as 5.1, and ffmpeg knows how to mix them.
    """

    codec: str
    duration_s: float | None
    title: str | None
    artist: str | None
    channels: int = 0


def probe(path: Path) -> AudioInfo:
    """Read codec, length, title and artist of an audio file.

    This asks ffmpeg, since the ``imageio-ffmpeg`` wheel has no ffprobe.

    Raises
    ------
    AudioError
        The file is missing, empty or not an audio file; WrongKindError if it is known what it is instead.
    NoSoundError
        There is no sound in it.
    """
    path = Path(path)
    if not path.exists():
        raise NoFileError(f"{path}: no such file")
    if not path.is_file():
        raise AudioError(f"{path}: a folder, a device or a pipe, not a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    done = ffmpeg.run("-i", str(path.absolute()))
    # Metadata is indented by more, so no title is taken for this line.
    length = re.search(r"^  Duration: (?:(\d+):(\d\d):(\d\d(?:\.\d+)?))?", done.report, re.MULTILINE)
    streams = done.report[length.end() :] if length else ""
    stream = re.search(r"^\s*Stream #.*?: Audio: (\w+).*$", streams, re.MULTILINE)
    if stream is not None and re.search(r"\((drms|enca|aavd) /", stream[0]):
        raise AudioError(f"{path}: protected against copying (DRM): only its shop's player can decode it")
    if stream is None or stream[1] == "none":
        with path.open("rb") as file:
            kind = plaintext.kind_of(file.read(plaintext.HEAD_BYTES))
        if kind:
            raise WrongKindError(f"{path}: not a readable audio file (it is {kind})", kind)
        if "Stream #" in streams:
            raise NoSoundError(f"{path}: not a readable audio file (there is no sound in it)")
        reason = "there is nothing in it" if length else done.reason(path)
        raise AudioError(f"{path}: not a readable audio file ({reason})")
    return AudioInfo(
        codec=stream[1],
        duration_s=_parse_duration(length),
        title=_parse_tag(done.report, "title"),
        artist=_parse_tag(done.report, "artist"),
        channels=_count_channels(stream[0]),
    )


def convert_to_wav(
    source: Path,
    wav: Path,
    start_s: float = 0.0,
    duration_s: float | None = None,
    info: AudioInfo | None = None,
) -> None:
    """Write a file, or a stretch of it, as a 16 kHz mono 16-bit WAV.

    A stretch is the same samples as that part of the whole file. Channels are mixed; where two of them cancel each
    other out, as they do if one is inverted, the louder one alone is taken, and that is warned of.

    Parameters
    ----------
    source, wav : Path
    start_s : float
        Where the stretch starts, in seconds from 0 up.
    duration_s : float or None
        Its length in seconds, above 0; shorter where the file ends before. None is up to the end.
    info : AudioInfo or None
        What `probe` says of the file; None asks it.

    Raises
    ------
    AudioError
        The file is missing, cannot be decoded, or is longer than a day (see `ffmpeg.run` for its other bounds).
    UsageError
        The file ends before the stretch starts.
    DiskFullError
        The scratch folder has no room for the WAV.
    """
    info = info or probe(source)
    trim = _trim_filters(start_s, duration_s)
    # Of more than two that no layout names, ffmpeg does not know what they are.
    _convert(source, wav, info, [*([_take_all(info.channels)] if info.channels > STEREO else []), *trim])
    if not wav.is_file() or count_samples(wav) == 0:
        if start_s > 0:
            raise UsageError(f"{source}: it ends before {start_s:g} s")
        raise NoSoundError(f"{source}: there is no sound in it (0 samples after decoding)")
    if info.channels == STEREO and (mixed := _level(wav)) < CANCELLING:
        # Only a mix as quiet as that can be 40 dB below a channel, so that hardly any song is decoded again.
        alone = [wav.with_name(f"channel{number}.wav") for number in range(STEREO)]
        for number, path in enumerate(alone):
            _convert(source, path, info, [f"pan=mono|c0=c{number}", *trim])
        louder = max(alone, key=_level)
        if _level(louder) * CANCELLING >= mixed and _level(louder) > 0:
            log.warning("%s: its channels are out of phase and cancel each other out: one alone is taken", source)
            louder.replace(wav)
        for path in alone:
            path.unlink(missing_ok=True)


def _convert(source: Path, wav: Path, info: AudioInfo, filters: list[str]) -> None:
    reading = ("-v", "error", "-y", "-i", str(source.absolute()), "-vn", "-sn", "-dn")
    reading += (*(("-af", ",".join(filters)) if filters else ()), *_AS_PCM)
    try:
        fits_in_memory = info.duration_s is not None and info.duration_s <= MAX_PYDUB_S and not filters
        if not (fits_in_memory and _convert_with_pydub(source, reading, wav)):
            _convert_with_ffmpeg(source, reading, wav)
    except OSError as error:
        raise _decoding_error(source, wav, str(error)) from error


def _take_all(channels: int) -> str:
    """The filter that mixes channels whose places nobody knows, all alike."""
    return "pan=mono|c0=" + "+".join(f"{1 / channels:.6f}*c{number}" for number in range(channels))


def _level(wav: Path) -> float:
    """The root mean square of a WAV, of 1."""
    total, count = 0.0, 0
    for samples in read_blocks(wav, 1 << 20):
        total, count = total + float(np.square(samples, dtype=np.float64).sum()), count + len(samples)
    return float(np.sqrt(total / max(count, 1)))


def _count_channels(stream: str) -> int:
    """How many channels ffmpeg's line about a stream names, if it does not name what they stand for."""
    found = re.search(r", (mono|stereo|(\d+) channels)\b", stream)
    return 0 if found is None else int(found[2]) if found[2] else {"mono": 1, "stereo": STEREO}[found[1]]


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
def converted(
    source: Path,
    scratch: Scratch,
    start_s: float = 0.0,
    duration_s: float | None = None,
    info: AudioInfo | None = None,
) -> Iterator[Path]:
    """Give the WAV of a file, or of a stretch of it, in a folder of its own below `scratch`.

    Both are gone when the block ends. See `convert_to_wav`.
    """
    with scratch.folder() as folder:
        wav = folder / "track.wav"
        convert_to_wav(source, wav, start_s, duration_s, info)
        yield wav


def find_audio(root: Path) -> dict[str, Path]:
    """Find the audio files below `root`, by key, sorted by key; see `list_audio`.

    A file's key is its path below `root` without the suffix, and without MTG's ``.low``: ``48/948.low.mp3`` and
    ``48/948.mp3`` are the same track, ``48/948``.

    Raises
    ------
    UsageError
        `root` is not a folder, or several files have the same key; all of these are named.
    """
    files: dict[str, list[Path]] = {}
    for path in list_audio(root):
        files.setdefault(key_of(path.relative_to(root).as_posix()), []).append(path)
    if double := [paths for paths in files.values() if len(paths) > 1]:
        named = "; ".join(" and ".join(map(str, paths)) for paths in double[:MAX_LISTED])
        more = f"; and {len(double) - MAX_LISTED} more" if len(double) > MAX_LISTED else ""
        raise UsageError(f"{len(double)} tracks have several files each, keep one of them: {named}{more}")
    return {key: path for key, (path,) in sorted(files.items())}


def list_audio(root: Path) -> list[Path]:
    """The audio files below `root`, sorted; links are followed, and what is passed over is warned of in a line.

    Hidden files and folders, such as the ``._948.mp3`` that macOS leaves on foreign disks, do not count.

    Raises
    ------
    UsageError
        `root` is not a folder.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder of audio files")
    found: list[Path] = []
    others: list[str] = []
    unreadable: list[str] = []
    seen: set[tuple[int, int]] = set()
    walk = os.walk(root, followlinks=True, onerror=lambda error: unreadable.append(error.filename))
    for folder, below, names in walk:
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link leads to where the search has been
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        visible = (name for name in below if not name.startswith("."))
        below[:] = sorted(name for name in visible if not _leads_up(Path(folder, name), root))
        for path in (Path(folder, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
                found.append(path)
            elif path.suffix.lower() not in COMPANIONS:
                others.append(path.suffix or path.name)
    for count, what, named in (
        (len(unreadable), "folders that cannot be read", unreadable),
        (len(others), "files of other endings", sorted(set(others))),
    ):
        if count:
            log.warning("%s: passed over: %d %s (%s)", root, count, what, ", ".join(named[:MAX_LISTED]))
    return sorted(found)


def _leads_up(path: Path, root: Path) -> bool:
    """Whether a link leads to a folder that has the searched one in it, such as ``/``."""
    return path.is_symlink() and Path(os.path.realpath(root)).is_relative_to(os.path.realpath(path))


def key_of(relative_path: str) -> str:
    """The key of a track from its path below the audio folder: ``48/948.low.mp3`` -> ``48/948``.

    What has no place in a table or in another system's file names (control characters, backslashes, bytes that are not
    UTF-8) is written as in a URL: a line feed is ``%0A``. Accented letters are one character each (NFC), however the
    file's system spells them. A name that would leave no room for ``.npy`` is cut, and told from others by its hash.
    """
    folder, slash, name = relative_path.rpartition("/")
    stem = (name[: name.rindex(".")] if "." in name[1:] else name).removesuffix(".low")
    key = unicodedata.normalize("NFC", _UNFIT_FOR_KEYS.sub(_as_in_url, folder + slash + stem))
    folder, slash, name = key.rpartition("/")
    if len(name.encode()) > MAX_KEY_BYTES:
        short = name.encode()[: MAX_KEY_BYTES - 9].decode(errors="ignore")
        name = f"{short}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return folder + slash + name


_UNFIT_FOR_KEYS = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _as_in_url(unfit: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in unfit[0].encode("utf-8", "surrogateescape"))


def _convert_with_pydub(source: Path, reading: tuple[str, ...], wav: Path) -> bool:
    """Return False where the file is longer than its header says, and too long for memory."""
    try:
        done = ffmpeg.run(*reading, "-f", "s16le", "-", max_bytes=round(MAX_PYDUB_S * ffmpeg.BYTES_PER_S))
    except ffmpeg.TooMuchError:
        return False
    _check(done, source, wav)
    # Samples, not a WAV: where pydub cannot read a WAV it starts an ffmpeg of its own, without bounds.
    samples = {"format": "raw", "sample_width": 2, "frame_rate": SAMPLE_RATE_HZ, "channels": 1}
    # Into memory first: on a full disk pydub would leave the WAV open.
    wav.write_bytes(_audio_segment().from_file(io.BytesIO(done.output), **samples).export(io.BytesIO(), "wav").read())
    return True


@functools.cache
def _audio_segment() -> Any:
    """pydub's AudioSegment. Its import warns where no ffmpeg is on the PATH; here it does not start one anyway."""
    warnings.filterwarnings("ignore", module=r".*\bpydub\b")
    from pydub import AudioSegment

    return AudioSegment


def _convert_with_ffmpeg(source: Path, reading: tuple[str, ...], wav: Path) -> None:
    # From the root on: `run:1/a.wav` would be a protocol to ffmpeg, and `-tmp/a.wav` an option.
    _check(ffmpeg.run(*reading, "-f", "wav", str(wav.absolute()), writes=wav), source, wav)


def _trim_filters(start_s: float, duration_s: float | None) -> list[str]:
    """The filters with which ffmpeg writes a stretch: none for the whole.

    They count samples, after resampling: -ss and -t go by time stamps, which in AAC, Ogg and WMA differ from where the
    samples are. ffmpeg decodes from the start of the file, and stops at the end of the stretch.
    """
    if start_s == 0 and duration_s is None:
        return []
    start = round(start_s * SAMPLE_RATE_HZ)
    end = "" if duration_s is None else f":end_sample={start + max(1, round(duration_s * SAMPLE_RATE_HZ))}"
    same = f"aformat=sample_fmts=s16:sample_rates={SAMPLE_RATE_HZ}:channel_layouts=mono"
    return [same, f"atrim=start_sample={start}{end}"]


def _check(done: ffmpeg.Done, source: Path, wav: Path) -> None:
    if done.status != 0:
        raise _decoding_error(source, wav, done.reason(source))


def _decoding_error(source: Path, wav: Path, reason: str) -> AudioError | DiskFullError:
    """The error of the track, or of the disk if that is full."""
    if "No space left" in reason or shutil.disk_usage(wav.parent).free == 0:
        return scratch_full(wav)
    return AudioError(f"{source}: cannot be decoded ({reason})")


def _parse_duration(match: re.Match[str] | None) -> float | None:
    if match is None or match[1] is None:
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _parse_tag(text: str, name: str) -> str | None:
    # Tags of the file or of its sound (in Ogg), not of a chapter or a cover. Each version of ffmpeg indents them
    # otherwise.
    parts = re.split(r"^(?= *(?:Input|Program|Chapter|Stream) #)", text, flags=re.MULTILINE)
    ours = "".join(part for part in parts if re.match(r"Input| *Stream #\S+ Audio:", part))
    match = re.search(rf"^ +{name}\s*: (.+)$", ours, re.MULTILINE | re.IGNORECASE)
    return None if match is None else plaintext.restore(match[1]).strip()[:MAX_TITLE_LENGTH]


DEFAULT_DECODER = "pydub"
_FRAMES_AT_ONCE = 1 << 18  # 6 s of CD sound, 2 MB
_MAX_CHANNELS = 2  # how more of them are mixed is ffmpeg's knowledge
_RATES_HZ = range(1_000, 1_000_000)  # from a header that says 1 Hz, 262,144 samples would become 17 GB

Blocks = Generator[Wave, None, None]
Decode = Callable[[Path, Scratch, int, int], Blocks]


def decode_with_pydub(path: Path, scratch: Scratch, block: int, overlap: int = 0) -> Blocks:
    """Yield a file as blocks that overlap; the WAV they are read from is gone after the last.

    Parameters
    ----------
    path : Path
    scratch : Scratch
    block, overlap : int
        Samples, see `read_blocks`, which also says what the blocks are.

    Raises
    ------
    AudioError
        The file is missing or cannot be decoded.
    DiskFullError
        The scratch folder has no room for it.
    """
    with converted(path, scratch) as wav:
        yield from read_blocks(wav, block, overlap)


def decode_with_libsndfile(path: Path, scratch: Scratch, block: int, overlap: int = 0) -> Blocks:
    """Yield a file as blocks that overlap, decoded as they are asked for; see `decode_with_pydub`.

    A flaw of this decoder would be a flaw of this process: for files from strangers take the other.

    Raises
    ------
    UsageError
        The extra ``fast`` is not installed.
    LimitError
        The file is longer than a day.
    """
    soundfile, soxr = _libraries()
    if not path.is_file() or path.stat().st_size == 0:
        probe(path)  # says so
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(soundfile.SoundFile(os.fsencode(path)))
        except soundfile.LibsndfileError:
            file = None  # a format that it does not read, or not audio: the other decoder reads it or says why not
        if file is not None and file.channels <= _MAX_CHANNELS and file.samplerate in _RATES_HZ:
            try:
                yield from cut(_resample(file, soxr), path, block, overlap)
            except soundfile.LibsndfileError as error:
                raise AudioError(f"{path}: cannot be decoded ({error.error_string.strip('. ')})") from error
            return
    yield from decode_with_pydub(path, scratch, block, overlap)


DECODERS: dict[str, Decode] = {DEFAULT_DECODER: decode_with_pydub, "libsndfile": decode_with_libsndfile}


def check_decoder(name: str) -> None:
    """Check early that a decoder can be used.

    Raises
    ------
    UsageError
        It is not one of `DECODERS`, or a package that it needs is not installed.
    """
    if name not in DECODERS:
        raise UsageError(f"unknown decoder {name!r} (known: {', '.join(DECODERS)})")
    if DECODERS[name] is decode_with_libsndfile:
        _libraries()


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the decoder libsndfile needs the package {error.name}: pip install 'jamendo-mood[fast]'"
        ) from error
    return soundfile, soxr


def _resample(file: Any, soxr: Any) -> Iterator[Wave]:
    """The whole file at 16 kHz in one channel, as it comes."""
    resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE_HZ, 1, "float32", "HQ")
    last = False
    while not last:
        sound = file.read(_FRAMES_AT_ONCE, dtype="float32", always_2d=True)
        last = len(sound) < _FRAMES_AT_ONCE
        mono = sound[:, 0] if sound.shape[1] == 1 else sound.sum(axis=1) * np.float32(1 / sound.shape[1])
        # As with the 16 bits of the other decoder, what is louder than full scale is clipped. NaN would spread.
        yield np.clip(np.nan_to_num(resampler.resample_chunk(np.ascontiguousarray(mono), last=last)), -1, 1)


def cut(waves: Iterable[Wave], path: Path, block: int, overlap: int = 0, max_s: float = ffmpeg.MAX_S) -> Iterator[Wave]:
    """Cut waves of any length into blocks that overlap, as `read_blocks` gives them; errors name `path`.

    Raises
    ------
    NoSoundError
        There are no samples.
    LimitError
        There are more than `max_s` seconds.
    """
    kept, fresh = np.zeros(0, np.float32), 0
    for samples in waves:
        kept = np.concatenate([kept, samples])
        fresh += len(samples)
        if fresh > max_s * SAMPLE_RATE_HZ:
            raise LimitError(f"{path.name} is longer than {max_s / 60:g} minutes, which is the limit here")
        while len(kept) >= block:
            yield kept[:block]
            kept = kept[block - overlap :]
    if not fresh:
        raise NoSoundError(f"{path}: there is no sound in it (0 samples after decoding)")
    if len(kept) > (overlap if fresh >= block else 0):
        yield kept
