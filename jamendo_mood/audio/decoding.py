"""Any audio file -> a 16 kHz mono WAV in a scratch folder -> blocks of float32.

ffmpeg decodes and resamples, in a process of its own and within the bounds of `ffmpeg.run`; pydub takes what comes out
and writes the WAV. It holds the whole sound in memory, so files over 15 minutes are written by ffmpeg itself.
`DECODERS` names this way, ``pydub``, and another, which takes two thirds of the work: ``libsndfile`` decodes and
resamples in this process, without a WAV. What it does not read to the end, surround sound, and channels that cancel
each other out are left to ``pydub``.

What is wrong with a file that can be decoded all the same, such as that half of it is missing, is a remark.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import math
import os
import re
import shutil
import unicodedata
import warnings
import wave
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import ffmpeg
from jamendo_mood.audio.ffmpeg import AudioInfo, probe
from jamendo_mood.util.errors import AudioError, LimitError, MachineError, MoodError, NoSoundError, UsageError, need
from jamendo_mood.util.files import Scratch, scratch_full

SAMPLE_RATE_HZ = 16_000
PCM_SCALE = 32_768.0  # 16-bit PCM to [-1, 1)
MAX_PYDUB_S = 15 * 60.0

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

MAX_MIXED = 64  #: channels, as many as any recorder has
CANCELLING = 0.01  #: 40 dB: a mix that is so far below its louder channel is of channels that cancel each other out

SILENCE = 10 ** (-80 / 20)  #: peak amplitude, of 1, below which a file is called silent: under the noise of 14 bits
SILENT = "silent from beginning to end"
OUT_OF_PHASE = "its channels are out of phase and cancel each other out: one alone is taken"
IN_PART = "could be decoded"  #: what every remark on a missing part says
TOLERANCE_S = 1.0  #: by how much sound may be shorter than its container counts: what encoders add at the ends

MAX_LISTED = 10
MAX_NAME_LENGTH = 200  # in such a list: a path may have thousands
MAX_DEPTH = 100  # folders in folders that are searched: Python's own walk and `mkdir` end at some thousand
MAX_KEY_BYTES = 255 - len(".npy")

Wave = npt.NDArray[np.float32]
File = TypeVar("File")  # a path, or a URL

_AS_PCM = ("-map_metadata", "-1", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-c:a", "pcm_s16le")

Remark = Callable[[str], object]  #: called with what is wrong with a file that can be decoded all the same


def convert_to_wav(
    source: Path,
    wav: Path,
    start_s: float = 0.0,
    duration_s: float | None = None,
    info: AudioInfo | None = None,
    remark: Remark | None = None,
) -> None:
    """Write a file, or a stretch of it, as a 16 kHz mono 16-bit WAV.

    A stretch is the same samples as that part of the whole file; its length None is up to the end. Channels are mixed;
    where they cancel each other out, as two do if one is inverted, the loudest alone is taken. Of a damaged file, what
    can be decoded is written. `info` is what `probe` says of the file, None asks it; `remark` is called if a part is
    missing, or a channel, None logs that as a warning.

    Raises `AudioError` if the file is missing, cannot be decoded, or is longer than a day (see `ffmpeg.run` for its
    other bounds); `UsageError` if it ends before the stretch starts; `DiskFullError` if the scratch folder has no room.
    """
    info = info or probe(source)
    remark = remark or (lambda text: log.warning("%s: %s", source, text))
    trim = _trim_filters(start_s, duration_s)
    if info.channels > MAX_MIXED:
        raise AudioError(f"{source}: cannot be decoded (it has {info.channels:,} channels, more than {MAX_MIXED})")
    # Channels whose places nobody knows are mixed all alike.
    alike = "+".join(f"{1 / info.channels:.6f}*c{number}" for number in range(info.channels))
    report = _convert(source, wav, info, trim if info.placed else [f"pan=mono|c0={alike}", *trim])
    if not wav.is_file() or count_samples(wav) == 0:
        if start_s > 0:
            raise UsageError(f"{source}: it ends before {start_s:g} s")
        raise NoSoundError(f"{source}: there is no sound in it (0 samples after decoding)")
    end_s = start_s + count_samples(wav) / SAMPLE_RATE_HZ
    if duration_s is None or end_s < start_s + duration_s - TOLERANCE_S:
        _look_for_missing(end_s, info, report, remark)
    if info.channels > 1 and (mixed := _level(read_blocks(wav, 1 << 20))) < CANCELLING:
        # Only a mix as quiet as that can be 40 dB below a channel, so that hardly any song is decoded again.
        alone, loudest, level = wav.with_name("channel.wav"), wav.with_name("loudest.wav"), 0.0
        for number in range(info.channels):
            _convert(source, alone, info, [f"pan=mono|c0=c{number}", *trim])
            if (own := _level(read_blocks(alone, 1 << 20))) > level:
                level = own
                alone.replace(loudest)
        if level * CANCELLING >= mixed and level > SILENCE:
            remark(OUT_OF_PHASE)
            loudest.replace(wav)
        for path in (alone, loudest):
            path.unlink(missing_ok=True)


def _look_for_missing(end_s: float, info: AudioInfo, report: str, remark: Remark) -> None:
    """Remark on what is missing of a file that could be decoded up to `end_s`, with this report of ffmpeg's."""
    cut_off = _CUT_OFF.search(report) is not None
    counted_s = info.counted_s or (cut_off and info.duration_s) or 0.0
    if end_s < counted_s - TOLERANCE_S and counted_s < math.inf:
        remark(f"{end_s:.0f} of {counted_s:.0f} s {IN_PART}")
    elif cut_off or counted_s == math.inf:
        remark(f"{end_s:.0f} s {IN_PART}, the end of the file is missing")


_CUT_OFF = re.compile(r"(partial file|File ended prematurely)$", re.MULTILINE)
"""What ffmpeg says of an MP4 whose tables name more than there is, and of a Matroska file cut in an element."""


def _convert(source: Path, wav: Path, info: AudioInfo, filters: list[str]) -> str:
    """Decode a file; returns ffmpeg's messages."""
    reading = ("-v", "error", "-y", "-i", str(source.absolute()), "-vn", "-sn", "-dn")
    reading += (*(("-af", ",".join(filters)) if filters else ()), *_AS_PCM)
    fits_in_memory = info.duration_s is not None and info.duration_s <= MAX_PYDUB_S and not filters
    try:
        done = _convert_with_pydub(reading, wav) if fits_in_memory else None
        # From the root on: `run:1/a.wav` would be a protocol to ffmpeg, and `-tmp/a.wav` an option.
        done = done or ffmpeg.run(*reading, "-f", "wav", str(wav.absolute()), writes=wav)
    except OSError as error:
        raise _decoding_error(source, wav, str(error), MachineError) from error
    if done.status != 0:
        ffmpeg.check_opens(source)
        raise _decoding_error(source, wav, done.reason(source))
    return done.report


def _convert_with_pydub(reading: tuple[str, ...], wav: Path) -> ffmpeg.Done | None:
    """Return None where the file is longer than its header says, and too long for memory."""
    try:
        done = ffmpeg.run(*reading, "-f", "s16le", "-", max_bytes=round(MAX_PYDUB_S * ffmpeg.BYTES_PER_S))
    except ffmpeg.TooMuchError:
        return None
    if done.status == 0:
        # Samples, not a WAV: where pydub cannot read a WAV it starts an ffmpeg of its own, without bounds.
        samples = {"format": "raw", "sample_width": 2, "frame_rate": SAMPLE_RATE_HZ, "channels": 1}
        sound = _audio_segment().from_file(io.BytesIO(done.output), **samples)
        wav.write_bytes(sound.export(io.BytesIO(), "wav").read())  # on a full disk pydub would leave the WAV open
    return done


@functools.cache
def _audio_segment() -> Any:
    """pydub's AudioSegment. Its import warns where no ffmpeg is on the PATH; here it does not start one anyway."""
    warnings.filterwarnings("ignore", module=r".*\bpydub\b")
    from pydub import AudioSegment

    return AudioSegment


def _trim_filters(start_s: float, duration_s: float | None) -> list[str]:
    """The filters with which ffmpeg writes a stretch: none for the whole.

    They count samples, after resampling: -ss and -t go by time stamps, which in AAC, Ogg and WMA differ from where the
    samples are.
    """
    if start_s == 0 and duration_s is None:
        return []
    start = round(start_s * SAMPLE_RATE_HZ)
    end = "" if duration_s is None else f":end_sample={start + max(1, round(duration_s * SAMPLE_RATE_HZ))}"
    same = f"aformat=sample_fmts=s16:sample_rates={SAMPLE_RATE_HZ}:channel_layouts=mono"
    return [same, f"atrim=start_sample={start}{end}"]


def _decoding_error(source: Path, wav: Path, reason: str, kind: type[MoodError] = AudioError) -> MoodError:
    """The error of the track, or of the disk if that is full."""
    if "No space left" in reason or shutil.disk_usage(wav.parent).free == 0:
        return scratch_full(wav)
    return kind(f"{source}: cannot be decoded ({reason})")


def _level(waves: Iterable[Wave]) -> float:
    """The root mean square of sound that comes in pieces, of 1."""
    total, count = 0.0, 0
    for samples in waves:
        total, count = total + float(np.square(samples, dtype=np.float64).sum()), count + len(samples)
    return math.sqrt(total / max(count, 1))


def count_samples(wav: Path) -> int:
    """Length of a WAV in samples."""
    with wave.open(str(wav), "rb") as reader:
        return reader.getnframes()


def read_blocks(wav: Path, block: int, overlap: int = 0) -> Iterator[Wave]:
    """Yield a 16 kHz mono WAV as blocks of `block` samples that overlap, float32 in [-1, 1); see `cut`."""
    with wave.open(str(wav), "rb") as reader:
        pieces = (np.frombuffer(piece, "<i2") for piece in iter(lambda: reader.readframes(block), b""))
        yield from cut((piece.astype(np.float32) / np.float32(PCM_SCALE) for piece in pieces), wav, block, overlap)


@contextlib.contextmanager
def converted(source: Path, scratch: Scratch, **options: Any) -> Iterator[Path]:
    """Give the WAV that `convert_to_wav` writes, with its options; the folder in `scratch` goes when the block ends."""
    with scratch.folder() as folder:
        wav = folder / "track.wav"
        convert_to_wav(source, wav, **options)
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
    return by_key((path.relative_to(root).as_posix(), path) for path in list_audio(root))


def by_key(found: Iterable[tuple[str, File]]) -> dict[str, File]:
    """Files by the keys of their paths below the audio folder, sorted; `UsageError` if several have one key."""
    files: dict[str, list[File]] = {}
    for path, file in found:
        files.setdefault(key_of(path), []).append(file)
    if double := [several for several in files.values() if len(several) > 1]:
        named = "; ".join(_name_all(several) for several in double[:MAX_LISTED])
        more = f"; and {len(double) - MAX_LISTED} more" if len(double) > MAX_LISTED else ""
        raise UsageError(f"{len(double)} tracks have several files each, keep one of them: {named}{more}")
    return {key: file for key, (file,) in sorted(files.items())}


def _name_all(files: Sequence[object]) -> str:
    names = [str(file) for file in files]
    if len({unicodedata.normalize("NFC", name) for name in names}) < len(names):
        names = [ascii(name) for name in names]  # they differ in how an accented letter is spelled: nobody could see it
    return " and ".join(names)


def list_audio(root: Path) -> list[Path]:
    """The audio files below `root`, sorted; links are followed, and what is passed over is warned of in a line.

    Hidden files and folders, such as the ``._948.mp3`` that macOS leaves on foreign disks, do not count. Raises
    `UsageError` if `root` is not a folder.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder of audio files")
    found, passed_over = list[Path](), defaultdict[str, list[str]](list)
    for path in _walk(root, passed_over["folders that cannot be read"]):
        suffix = path.suffix.lower()
        if not os.path.isfile(path):  # noqa: PTH113 (`Path.is_file` raises where a path is too long)
            passed_over["links that lead nowhere, pipes and the like"].append(path.name)
        elif suffix in AUDIO_SUFFIXES:
            found.append(path)
        elif suffix not in COMPANIONS:
            passed_over["files of other endings"].append(path.suffix or path.name)
    for what, named in sorted(passed_over.items()):
        if named:
            listed = ", ".join(name[-MAX_NAME_LENGTH:] for name in sorted(set(named))[:MAX_LISTED])
            log.warning("%s: passed over: %d %s (%s)", root, len(named), what, listed)
    return sorted(found)


def _walk(root: Path, unreadable: list[str]) -> Iterator[Path]:
    """All that is below `root` but folders and what is hidden; adds folders that cannot be read to a list."""
    seen: set[tuple[int, int]] = set()
    for folder, below, names in os.walk(
        root, followlinks=True, onerror=lambda error: unreadable.append(error.filename)
    ):
        status, too_deep = Path(folder).stat(), len(Path(folder).relative_to(root).parts) > MAX_DEPTH
        if too_deep:
            unreadable.append(folder)
        if too_deep or (status.st_dev, status.st_ino) in seen:  # a link leads to where the search has been
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        visible = (name for name in below if not name.startswith("."))
        below[:] = sorted(name for name in visible if not _leads_up(os.path.join(folder, name), root))  # noqa: PTH118
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _leads_up(path: str, root: Path) -> bool:
    """Whether a link leads to a folder that has the searched one in it, such as ``/``."""
    return os.path.islink(path) and Path(os.path.realpath(root)).is_relative_to(os.path.realpath(path))  # noqa: PTH114


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


_UNFIT_FOR_KEYS = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\.(?=npy/)")  # x.npy is the entry of x


def _as_in_url(unfit: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in unfit[0].encode("utf-8", "surrogateescape"))


DEFAULT_DECODER = "pydub"
_FRAMES_AT_ONCE = 1 << 18  # 6 s of CD sound, 2 MB
_MAX_CHANNELS = 2  # how more of them are mixed is ffmpeg's knowledge
_MAX_TAG_BYTES = 4_096  # after the sound of an MP3; of one with more, the other decoder looks whether it is sound
_RATES_HZ = range(1_000, 1_000_000)  # from a header that says 1 Hz, 262,144 samples would become 17 GB

Sound = Generator[Wave, None, None]


def decode_with_pydub(path: Path, scratch: Scratch, remark: Remark | None = None) -> Sound:
    """Yield the sound of a file at 16 kHz in one channel, in pieces; the WAV they are read from is gone after the last.

    Raises `AudioError` if the file is missing or cannot be decoded; `DiskFullError` if the scratch folder has no room.
    `remark`, as for `convert_to_wav`, is called before the last piece.
    """
    with converted(path, scratch, remark=remark) as wav:
        yield from read_blocks(wav, _FRAMES_AT_ONCE)


def decode_with_libsndfile(path: Path, scratch: Scratch, remark: Remark | None = None) -> Sound:
    """Yield the sound of a file in pieces, decoded as they are asked for; see `decode_with_pydub`.

    What libsndfile does not read is left to the other decoder, which also remarks on it. A flaw of this decoder would
    be a flaw of this process: for files from strangers take the other. It needs the extra ``fast``: `check_decoder`.
    """
    import soundfile

    if not path.is_file() or path.stat().st_size == 0:
        probe(path)  # says so
    taken = 0
    with (
        contextlib.suppress(OSError, soundfile.LibsndfileError),
        path.open("rb") as raw,
        soundfile.SoundFile(raw.fileno(), closefd=False) as file,
    ):
        fits = file.channels <= _MAX_CHANNELS and file.samplerate in _RATES_HZ
        for wave in _resample(file, path, raw) if fits else (None,):
            if wave is None:
                break
            yield wave
            taken += len(wave)
        else:
            return
    for wave in decode_with_pydub(path, scratch, remark):
        yield wave[taken:]
        taken = max(0, taken - len(wave))


DECODERS = {DEFAULT_DECODER: decode_with_pydub, "libsndfile": decode_with_libsndfile}


def check_decoder(name: str) -> None:
    """Raise `UsageError` if a decoder is not one of `DECODERS`, or a package that it needs is not installed."""
    if name not in DECODERS:
        raise UsageError(f"unknown decoder {name!r} (known: {', '.join(DECODERS)})")
    if DECODERS[name] is decode_with_libsndfile:
        need("the decoder libsndfile", "fast", "soundfile", "soxr")


def _resample(file: Any, path: Path, raw: IO[bytes]) -> Iterator[Wave | None]:
    """The whole file at 16 kHz in one channel, as it comes; None, and no more, where it is not for libsndfile."""
    import soxr

    # Of a file that is shorter than its header says, libsndfile reads what is there and notes it in its log.
    expected_s = math.inf if "(should be " in file.extra_info else file.frames / file.samplerate
    if file.format == "OGG":
        expected_s = ffmpeg.count_pages(path)
    size = path.stat().st_size
    resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE_HZ, 1, "float32", "HQ")
    frames, last = 0, False
    while not last:
        sound = file.read(_FRAMES_AT_ONCE, dtype="float32", always_2d=True)
        frames, last = frames + len(sound), len(sound) < _FRAMES_AT_ONCE
        mono = sound[:, 0] if sound.shape[1] == 1 else sound.sum(axis=1) * np.float32(1 / sound.shape[1])
        # Of an MP3 it reads no more than it first guessed, or the first one's header says if there are several.
        left = size - os.lseek(raw.fileno(), 0, os.SEEK_CUR) if last and file.format == "MP3" else 0
        cut_off = last and frames / file.samplerate < expected_s - TOLERANCE_S
        if cut_off or left > _MAX_TAG_BYTES or _cancels(sound, mono):
            yield None
            return
        # As with the 16 bits of the other decoder, what is louder than full scale is clipped. NaN would spread.
        yield np.clip(np.nan_to_num(resampler.resample_chunk(np.ascontiguousarray(mono), last=last)), -1, 1)


def _cancels(sound: Wave, mono: Wave) -> bool:
    """Whether channels, (samples, channels), cancel each other out: those of a song do so only if a block's do."""
    mixed = _level([mono])
    if mixed >= CANCELLING:
        return False
    louder = max(_level([channel]) for channel in sound.T)
    return louder * CANCELLING >= mixed and louder > SILENCE


def cut(waves: Iterable[Wave], path: Path, block: int, overlap: int = 0, max_s: float = ffmpeg.MAX_S) -> Iterator[Wave]:
    """Cut waves of any length into blocks of `block` samples; errors name `path`.

    Each shares `overlap` samples, which are fewer, with the block before it. The last is shorter, and has more than
    `overlap`. Raises `NoSoundError` if there are no samples; `LimitError` if there are more than `max_s` seconds.
    """
    kept, fresh = np.zeros(0, np.float32), 0
    for samples in waves:
        kept = np.concatenate([kept, samples])
        fresh += len(samples)
        if fresh / SAMPLE_RATE_HZ > max_s:
            raise LimitError(f"{path.name} is longer than {max_s / 60:g} minutes, which is the limit here")
        while len(kept) >= block:
            yield kept[:block]
            kept = kept[block - overlap :]
    if not fresh:
        raise NoSoundError(f"{path}: there is no sound in it (0 samples after decoding)")
    if len(kept) > (overlap if fresh >= block else 0):
        yield kept
