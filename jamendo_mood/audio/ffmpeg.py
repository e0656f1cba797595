"""ffmpeg: where it is, and the one place that starts it.

A file decides what ffmpeg does with it, and anybody may have made it. So every run may read that file alone (no
playlist, no address, no movie whose sound lies elsewhere), only in formats and codecs of sound, and has limits on its
time, its memory, what it writes and how much of its messages is kept.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jamendo_mood.util import plaintext, process
from jamendo_mood.util.errors import AudioError, CancelledError, UsageError

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
_KEPT_BYTES = 1 << 17  # of ffmpeg's messages: so much of the beginning, and of the end
_MAX_REASON_LENGTH = 300
_POLL_S = 0.1

_READING_A_FILE = (*("-protocol_whitelist", "file", "-format_whitelist", FORMATS), *("-codec_whitelist", CODECS))
_READING_SAMPLES = ("-protocol_whitelist", "fd,pipe", "-format_whitelist", "s16le,f32le")
_SAYS_NOTHING = re.compile(
    r"$|At least one output file must be specified|Conversion failed|Terminating thread|Task finished|Input #"
)
_SPEAKERS = re.compile(r"^\s*(\[[^\]]*\]\s*)*")  # [mp3 @ 0x5f]

log = logging.getLogger(__name__)

_is_stopped: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar("_is_stopped", default=lambda: False)


class TooMuchError(AudioError):
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
        last = useful[-1] if useful else "no reason given"
        last = last.removeprefix(f"Error opening input file {path.absolute()}").strip(". :")
        return plaintext.show(last[:_MAX_REASON_LENGTH]) or "unknown format"


@functools.cache
def find_ffmpeg() -> str:
    """Path of ffmpeg: the one on the PATH if it starts, else the binary of the ``imageio-ffmpeg`` wheel.

    Raises `UsageError` if neither is there, or starts.
    """
    on_path = shutil.which("ffmpeg")
    broken = _why_broken(on_path) if on_path else ""
    if on_path and not broken:
        return on_path
    import imageio_ffmpeg

    with contextlib.suppress(RuntimeError):
        own = str(imageio_ffmpeg.get_ffmpeg_exe())
        if not _why_broken(own):
            if broken:
                log.warning("%s does not start (%s): %s is used instead", on_path, broken, own)
            return own
    found = f"{on_path} does not start ({broken})" if broken else "no ffmpeg on the PATH"
    raise UsageError(
        f"{found}, and the imageio-ffmpeg package has none that does: install ffmpeg "
        "(apt-get install ffmpeg, brew install ffmpeg)"
    )


def _why_broken(program: str) -> str:
    """Why a program does not start; empty if it does."""
    try:
        done = subprocess.run(
            [program, "-version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=GRACE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return plaintext.show(str(error))
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    return plaintext.show(said[0][:_MAX_REASON_LENGTH]) if done.returncode else ""


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
    `AudioError` if it takes longer than it may (see `GRACE_S`), `TooMuchError` if it writes more, `CancelledError` (see
    `stopped_by`), and `UsageError` if there is no ffmpeg.
    """
    source = arguments[arguments.index("-i") + 1]
    command = [find_ffmpeg(), "-hide_banner", *_guard(arguments)]
    stdin = subprocess.PIPE if fed else subprocess.DEVNULL
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        talk = _Talk(child, fed, writes)
        try:
            # This limit on its time is for an ffmpeg whose parent was killed; `_check` is much stricter.
            process.bound(child.pid, MEMORY_BYTES, GRACE_S + MAX_S)
            talk.read_all(functools.partial(_check, talk, source, max_bytes, time.monotonic()))
        finally:
            child.kill()  # has no effect on one that has ended
    return Done(child.returncode, bytes(talk.output), talk.report())


def _guard(arguments: tuple[str, ...]) -> Iterator[str]:
    """The arguments, with the lists of what is allowed before each input."""
    yield "-nostdin"
    for argument, following in zip(arguments, (*arguments[1:], ""), strict=True):
        if argument == "-i":
            yield from _READING_SAMPLES if following == "-" else _READING_A_FILE
        yield argument


def _check(talk: _Talk, source: str, max_bytes: int, started: float) -> None:
    """Raise if a run must end now."""
    written, taken_s = talk.written(), time.monotonic() - started
    if _is_stopped.get()():
        raise CancelledError(f"{source}: cancelled")
    if written > max_bytes:
        raise TooMuchError(f"{source}: longer than {max_bytes / BYTES_PER_S / 3600:g} hours; cut it into parts")
    if taken_s > GRACE_S + written / BYTES_PER_S:
        raise AudioError(
            f"{source}: cannot be decoded (stopped after {taken_s:.0f} s and {written / BYTES_PER_S:.0f} s of sound)"
        )


class _Talk:
    """The pipes between this process and a child."""

    def __init__(self, child: subprocess.Popen[bytes], fed: bytes, writes: Path | None) -> None:
        self._child, self._fed, self._writes = child, memoryview(fed), writes
        self._first, self._last = b"", b""
        self.output = bytearray()

    def read_all(self, check: Callable[[], None]) -> None:
        """Read all that the child writes until it has ended, and call `check` several times a second."""
        child = self._child
        assert child.stdout is not None
        assert child.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ, self.output.extend)
            selector.register(child.stderr, selectors.EVENT_READ, self._keep)
            if child.stdin is not None:
                os.set_blocking(child.stdin.fileno(), False)
                selector.register(child.stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                for key, _ in selector.select(_POLL_S):
                    more = self._feed(key.fd) if key.data is None else self._take(key.fd, key.data)
                    if not more:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
                check()
        while True:
            try:
                child.wait(_POLL_S)
                return
            except subprocess.TimeoutExpired:
                check()

    def written(self) -> int:
        """Bytes that the child has written so far."""
        try:
            return len(self.output) + (self._writes.stat().st_size if self._writes else 0)
        except FileNotFoundError:
            return 0

    def report(self) -> str:
        """Its messages."""
        # Line by line: titles may be in the encoding of whoever wrote them.
        return "\n".join(map(plaintext.decode_line, (self._first + self._last).split(b"\n")))

    def _take(self, pipe: int, keep: Callable[[bytes], None]) -> bool:
        chunk = os.read(pipe, 1 << 16)
        keep(chunk)
        return bool(chunk)

    def _keep(self, chunk: bytes) -> None:
        room = _KEPT_BYTES - len(self._first)
        self._first += chunk[:room]
        self._last = (self._last + chunk[room:])[-_KEPT_BYTES:]

    def _feed(self, pipe: int) -> bool:
        try:
            self._fed = self._fed[os.write(pipe, self._fed) :]
        except BrokenPipeError:
            return False
        return len(self._fed) > 0
