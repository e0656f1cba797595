"""ffmpeg: where it is, the one place that starts it, and what it says of a file, or should.

A file decides what ffmpeg does with it, and anybody may have made it. So every run may read that file alone (no
playlist, no address, no movie whose sound lies elsewhere), only in formats and codecs of sound, and has limits on its
time, its memory, what it writes and how much of its messages is kept.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jamendo_mood.util import errors, plaintext, process

FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,g722,gsm,iff,loas,matroska,mlp,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,qcp,rm,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""Demuxers. None opens anything but the file it was given (mov does so when told to, with `enable_drefs`)."""

CODECS = (
    "aac,aac_fixed,aac_latm,libfdk_aac,ac3,ac3_fixed,eac3,alac,als,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,"
    "ape,atrac1,atrac3,atrac3al,atrac3plus,atrac3plusal,cook,dca,dolby_e,dsd_lsbf,dsd_lsbf_planar,dsd_msbf,"
    "dsd_msbf_planar,dst,flac,g722,g723_1,g726,g726le,g729,gsm,gsm_ms,libgsm,libgsm_ms,ilbc,libilbc,mace3,mace6,mlp,"
    "mp1,mp1float,mp2,mp2float,mp3,mp3float,mp3adu,mp3adufloat,mp3on4,mp3on4float,mpc7,mpc8,nellymoser,opus,libopus,"
    "qcelp,qdm2,qdmc,ralf,real_144,real_288,s302m,sipr,speex,libspeex,tak,truehd,truespeech,tta,twinvq,vorbis,"
    "libvorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice,8svx_exp,8svx_fib,"
    "adpcm_g722,adpcm_g726,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_sbpro_2,adpcm_sbpro_3,adpcm_sbpro_4,adpcm_swf,"
    "adpcm_yamaha,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f16le,pcm_f24le,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,"
    "pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,"
    "pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,"
    "pcm_u32le,pcm_u8"
)
"""Decoders, of sound alone: covers and films are parsed, never decoded."""

GRACE_S = 60.0
"""Seconds that ffmpeg has to start, on a busy machine and a slow disk. From then on it must decode as fast as the sound
plays: ten hours of music may take ten hours, a file without sound a minute, whatever its header says."""
BYTES_PER_S = 32_000  # of 16 kHz mono in 16 bits, as which nearly everything comes out
MAX_S = 24 * 3600.0
MAX_BYTES = round(MAX_S * BYTES_PER_S)  #: what one run may write: a day of sound, 2.8 GB; a WAV ends at 4
MEMORY_BYTES = 1 << 30  # decoding takes some 50 MB
_NEEDED = ("mp3", "aac", "flac", "vorbis", "opus")  # decoders, by a part of their names: some builds lack them
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGXFSZ, signal.SIGILL})
"""Signals that say something of the machine and not of a file: too little memory, a limit, another processor."""
_KEPT_BYTES = 1 << 17  # of ffmpeg's messages: so much of the beginning, and of the end
_MAX_MESSAGES_BYTES = 1 << 26  # one for each frame of hours
_MAX_REASON_LENGTH = 300
MAX_TITLE_LENGTH = 500
_POLL_S = 0.1

_READING_A_FILE = (*("-protocol_whitelist", "file", "-format_whitelist", FORMATS), *("-codec_whitelist", CODECS))
_READING_SAMPLES = ("-protocol_whitelist", "fd,pipe", "-format_whitelist", "s16le,f32le")
_SAYS_NOTHING = re.compile(
    r"$|At least one output file must be specified|Conversion failed|Terminating thread|Task finished|Input #"
)
_SPEAKERS = re.compile(r"^\s*(\[[^\]]*\]\s*)*")  # [mp3 @ 0x5f]

log = logging.getLogger(__name__)

_is_stopped: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar("_is_stopped", default=lambda: False)


class TooMuchError(errors.AudioError):
    """ffmpeg wrote more than it may."""


@dataclass(frozen=True)
class Done:
    """The result of a run."""

    status: int  #: 0, or ffmpeg's exit status; below 0 it is the signal that ended it
    output: bytes  #: what it wrote to its standard output
    report: str  #: the beginning and the end of its messages

    def reason(self, path: Path) -> str:
        """The last line of the report that says something, without the path, which the caller adds."""
        if self.status < 0:
            return f"ffmpeg was ended by {signal.Signals(-self.status).name}"
        lines = [_SPEAKERS.sub("", line).strip() for line in self.report.splitlines()]
        useful = [line for line in lines if not _SAYS_NOTHING.match(line)]
        if any("Format not on whitelist" in line for line in useful):
            return "not a format of sound that is read here"
        if any("moov atom not found" in line for line in useful):
            return "its end is missing, and with it the tables of what is where: fetch it again"
        last = useful[-1] if useful else "no reason given"
        last = last.removeprefix(f"Error opening input file {path.absolute()}").strip(". :")
        return plaintext.show(last[:_MAX_REASON_LENGTH]) or "unknown format"


@functools.cache
def find_ffmpeg() -> str:
    """Path of ffmpeg: the one on the PATH, or the binary of the ``imageio-ffmpeg`` wheel.

    The wheel's stands in where the other does not start, or lacks decoders of usual formats. Raises `UsageError` if
    neither is there, or starts.
    """
    on_path = shutil.which("ffmpeg")
    fault, starts = _look_for_fault(on_path) if on_path else ("no ffmpeg on the PATH", False)
    if on_path and not fault:
        return on_path
    import imageio_ffmpeg

    with contextlib.suppress(RuntimeError):
        own = str(imageio_ffmpeg.get_ffmpeg_exe())
        if not _look_for_fault(own)[0]:
            if on_path:
                log.warning("%s: %s is used instead", fault, own)
            return own
    if on_path and starts:
        return on_path  # it can do something
    raise errors.UsageError(
        f"{fault}, and the imageio-ffmpeg package has none that does: install ffmpeg "
        "(apt-get install ffmpeg, brew install ffmpeg)"
    )


def _look_for_fault(program: str) -> tuple[str, bool]:
    """What is wrong with a program, empty if nothing is, and whether it starts."""
    command = [program, "-hide_banner", "-decoders"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=GRACE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    else:
        if done.returncode == 0:
            lacking = ", ".join(name for name in _NEEDED if name.encode() not in done.stdout)
            return f"{program} cannot decode {lacking}" if lacking else "", True
        said = done.stderr.decode(errors="replace").strip()
        why = said.rpartition("\n")[2] or f"exit status {done.returncode}"
    return f"{program} does not start ({plaintext.show(why[:_MAX_REASON_LENGTH])})", False


@contextlib.contextmanager
def stopped_by(is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Inside, runs end with a `CancelledError` soon after `is_stopped` returns True, or that of an outer block does.

    This holds for the current thread, and for threads that are given its context.
    """
    outer = _is_stopped.get()
    token = _is_stopped.set(lambda: outer() or is_stopped())
    try:
        yield
    finally:
        _is_stopped.reset(token)


def stoppable(work: Callable[[], None], is_stopped: Callable[[], bool]) -> Callable[[], None]:
    """Prepare work for another thread: its runs end when `is_stopped` returns True, or when the caller's end."""
    with stopped_by(is_stopped):
        return functools.partial(contextvars.copy_context().run, work)


def run(*arguments: str, fed: bytes = b"", writes: Path | None = None, max_bytes: int = MAX_BYTES) -> Done:
    """Run ffmpeg to its end; its input is ``-`` (the bytes `fed`, samples of ours) or the absolute path of a file.

    `writes` is the file that it writes, if it does; there and to its standard output go at most `max_bytes`. Raises
    `AudioError` if it takes longer than it may (see `GRACE_S`), `MachineError` if it was killed from outside,
    `TooMuchError` if it writes more, `CancelledError` (see `stopped_by`), and `UsageError` if there is no ffmpeg.
    """
    at = arguments.index("-i")
    source = arguments[at + 1]
    allowed = _READING_SAMPLES if source == "-" else _READING_A_FILE
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", *arguments[:at], *allowed, *arguments[at:]]
    stdin = subprocess.PIPE if fed else subprocess.DEVNULL
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            # This limit on its time is for an ffmpeg whose parent was killed; `_look_after` is much stricter.
            process.bound(child.pid, MEMORY_BYTES, GRACE_S + MAX_S)
            output, messages = _look_after(child, source, fed, writes, max_bytes)
        finally:
            child.kill()  # has no effect on one that has ended
    kept = messages[:_KEPT_BYTES] + messages[_KEPT_BYTES:][-_KEPT_BYTES:]
    # Line by line: titles may be in the encoding of whoever wrote them.
    done = Done(child.returncode, output, "\n".join(map(plaintext.decode_line, kept.split(b"\n"))))
    if -done.status in _FROM_OUTSIDE:
        raise errors.MachineError(f"{source}: {done.reason(Path(source))}: look for too little memory, or other limits")
    return done


def _look_after(
    child: subprocess.Popen[bytes], source: str, fed: bytes, writes: Path | None, max_bytes: int
) -> tuple[bytes, bytes]:
    """The output and the messages of a child that has ended; raises if it must end before."""
    started, ended = time.monotonic(), False
    while not ended:
        try:
            output, messages = child.communicate(fed, _POLL_S)
            ended = True
        except subprocess.TimeoutExpired as so_far:
            output, messages, fed = so_far.output or b"", so_far.stderr or b"", b""
        written, taken_s = len(output), time.monotonic() - started
        if writes is not None and writes.exists():
            written += writes.stat().st_size
        sound_s = written / BYTES_PER_S
        if _is_stopped.get()():
            raise errors.CancelledError(f"{source}: cancelled")
        if written > max_bytes:
            raise TooMuchError(f"{source}: longer than {max_bytes / BYTES_PER_S / 3600:g} hours; cut it into parts")
        if taken_s > GRACE_S + sound_s or len(messages) > _MAX_MESSAGES_BYTES:
            raise errors.AudioError(f"{source}: cannot be decoded (stopped after {taken_s:.0f} s with {sound_s:.0f} s)")
    return output, messages


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a file says."""

    codec: str  #: ffmpeg's name of the audio codec, such as ``mp3`` or ``pcm_s16le``
    duration_s: float | None  #: seconds: an estimate for some formats, None where the header does not say
    title: str | None
    artist: str | None
    channels: int = 0  #: how many; 0 if ffmpeg does not say
    placed: bool = True  #: whether they stand for speakers, such as 5.1, so that ffmpeg knows how to mix them
    #: seconds that the container counts, infinite where it breaks off without saying of how many; None where there is
    #: an estimate at best
    counted_s: float | None = None


def probe(path: Path) -> AudioInfo:
    """Read codec, length, title and artist of an audio file.

    This asks ffmpeg, since the ``imageio-ffmpeg`` wheel has no ffprobe. Raises `NoFileError` if the file is missing, or
    cannot be opened; `AudioError` if it is empty or not an audio file; WrongKindError if it is known what it is
    instead; `NoSoundError` if there is no sound in it.
    """
    if not path.exists():
        raise errors.NoFileError(f"{path}: no such file")
    if not path.is_file():
        raise errors.AudioError(f"{path}: a folder, a device or a pipe, not a file")
    if path.stat().st_size == 0:
        raise errors.AudioError(f"{path}: the file is empty (0 bytes)")
    check_opens(path)
    done = run("-i", str(path.absolute()))
    # Metadata is indented by more, so no title is taken for this line.
    length = re.search(r"^  Duration: (?:(\d+):(\d\d):(\d\d(?:\.\d+)?))?", done.report, re.MULTILINE)
    streams = done.report[length.end() :] if length else ""
    stream = re.search(r"^\s*Stream #.*?: Audio: (\w+).*$", streams, re.MULTILINE)
    if stream is not None and re.search(r"\((drms|enca|aavd) /", stream[0]):
        raise errors.AudioError(f"{path}: protected against copying (DRM): only its shop's player can decode it")
    if stream is None or stream[1] == "none":
        check_opens(path)
        with path.open("rb") as file:
            kind = plaintext.kind_of(file.read(plaintext.HEAD_BYTES))
        if kind:
            raise errors.WrongKindError(f"{path}: not a readable audio file (it is {kind})", kind)
        if "Stream #" in streams:
            raise errors.NoSoundError(f"{path}: not a readable audio file (there is no sound in it)")
        reason = "there is nothing in it" if length else done.reason(path)
        raise errors.AudioError(f"{path}: not a readable audio file ({reason})")
    duration_s = None
    if length is not None and length[1] is not None:
        duration_s = int(length[1]) * 3600 + int(length[2]) * 60 + float(length[3])
    channels, placed = _count_channels(stream[0])
    return AudioInfo(
        codec=stream[1],
        duration_s=duration_s,
        title=_parse_tag(done.report, "title"),
        artist=_parse_tag(done.report, "artist"),
        channels=channels,
        placed=placed,
        counted_s=_counted_s(path, done.report, streams, duration_s),
    )


def check_opens(path: Path) -> None:
    """Raise `NoFileError` if a file may not be read, or its disk has gone, be it meanwhile."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise errors.NoFileError(f"{path}: cannot be read ({error.strerror})") from error


def _counted_s(path: Path, report: str, streams: str, duration_s: float | None) -> float | None:
    """See `AudioInfo`; of what ffmpeg says in `probe`."""
    opened = re.search(r"^Input #0, (\w+)", report, re.MULTILINE)
    form = opened[1] if opened else ""
    if form in COUNTING:
        return COUNTING[form](path)
    film = re.search(r"Stream #\S+ Video: (?!.*\(attached pic\))", streams)  # which may last longer than its sound
    # Where an MP3 was cut, neither the frames nor the bytes are as many as its first frame says.
    counts = form in _COUNTED or (form == "mp3" and "filesize and duration do not match" in report)
    if duration_s is None or not counts or film or "Estimating duration" in report:
        return None
    start = re.search(r"^  Duration: .*, start: (\d+\.\d+)", report, re.MULTILINE)  # which Matroska counts as well
    return duration_s - (float(start[1]) if start else 0.0)


_COUNTED = frozenset({"aiff", "ape", "au", "flac", "matroska", "mov", "tak", "tta", "wv"})
"""Demuxers of containers that count their samples, or have tables of them."""


def _parse_tag(text: str, name: str) -> str | None:
    # Tags of the file or of its sound (in Ogg), not of a chapter or a cover. Each version of ffmpeg indents them
    # otherwise.
    parts = re.split(r"^(?= *(?:Input|Program|Chapter|Stream) #)", text, flags=re.MULTILINE)
    ours = "".join(part for part in parts if re.match(r"Input| *Stream #\S+ Audio:", part))
    match = re.search(rf"^ +{name}\s*: (.+)$", ours, re.MULTILINE | re.IGNORECASE)
    return None if match is None else plaintext.restore(match[1]).strip()[:MAX_TITLE_LENGTH]


def _count_channels(stream: str) -> tuple[int, bool]:
    """How many channels ffmpeg's line about a stream names, and whether it names what they stand for."""
    names = "|".join(_LAYOUTS)
    found = re.search(rf" Hz, (?:(\d+) channels|({names})|(\d+\.\d+(?:\.\d+)?))\b", stream)
    if found is None:
        return 0, True
    if found[1]:
        return int(found[1]), int(found[1]) <= 2
    return _LAYOUTS[found[2]] if found[2] else sum(map(int, found[3].split("."))), True


_LAYOUTS = {"mono": 1, "stereo": 2, "downmix": 2, "quad": 4, "hexagonal": 6, "cube": 8, "octagonal": 8}
"""Layouts of channels that are not a number of them, such as 5.1."""


MAX_PAGES = 1_000_000  # of an Ogg file: some five hours of the smallest
_MAX_CHUNKS = 1_000  # of a WAV
_UNKNOWN_BYTES = 0x7FFF_0000  # and more: what writers that cannot go back put into a WAV's header
_START_S = 2.0  # no page of sound lasts longer; a stream whose first one ends later was joined in its middle


def count_pages(path: Path) -> float:
    """Seconds of sound by the pages of an Ogg file; infinite if it ends within one.

    A chain, such as a recording of a radio, has one stream after the other, of which ffmpeg names the last and decodes
    those that are like the first. The pages: RFC 3533, section 6.
    """
    total_s, spans, size = 0.0, dict[bytes, tuple[int, int, int]](), path.stat().st_size
    end = 0
    with path.open("rb") as file:
        for _ in range(MAX_PAGES):
            file.seek(end)
            head = file.read(27).ljust(27, b"\0")
            if not head.startswith(b"OggS"):
                break
            length = sum(file.read(head[26]))
            end += 27 + head[26] + length
            if end > size:
                return math.inf
            serial, position = head[14:18], int.from_bytes(head[6:14], "little", signed=True)
            if head[5] & 2:  # it begins a stream, beside others or after them
                if any(last for _, _, last in spans.values()):
                    total_s, spans = total_s + _last_s(spans), {}
                if rate := _rate_of(file.read(length)):
                    spans[serial] = (rate, 0, 0)
            elif serial in spans and position > 0:
                rate, first, last = spans[serial]
                late = not last and position > _START_S * rate
                spans[serial] = (rate, position if late else first, position)
    return total_s + _last_s(spans)


def _last_s(spans: Mapping[bytes, tuple[int, int, int]]) -> float:
    """The longest of streams that last at the same time, each with its rate, first and last position."""
    return max(((last - first) / rate for rate, first, last in spans.values()), default=0.0)


def _rate_of(packet: bytes) -> int:
    """Positions a second of a stream that begins with this packet; 0 if it is not of sound, or unknown."""
    if packet.startswith(b"OpusHead"):
        return 48_000
    if packet.startswith(b"\x7fFLAC"):
        return int.from_bytes(packet[27:30], "big") >> 4
    if packet.startswith(b"\x01vorbis"):
        return int.from_bytes(packet[12:16], "little")
    return int.from_bytes(packet[36:40], "little") if packet.startswith(b"Speex   ") else 0


def count_chunk(path: Path) -> float | None:
    """Seconds of sound by the header of a WAV that is shorter than that, which ffmpeg does not say; else None."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return None
        rate = 0  # in bytes
        for _ in range(_MAX_CHUNKS):
            name, length = file.read(4), int.from_bytes(file.read(4), "little")
            if name == b"data":
                cut = size < file.tell() + length and length < _UNKNOWN_BYTES
                return length / rate if cut and rate else None
            body = file.read(16) if name == b"fmt " else b""
            rate = int.from_bytes(body[8:12], "little") if body else rate
            file.seek(length - len(body) + length % 2, os.SEEK_CUR)
    return None


COUNTING: dict[str, Callable[[Path], float | None]] = {"ogg": count_pages, "wav": count_chunk}  #: by demuxer
