"""Audio files as nobody should send them: damaged, lying, swollen, and pointing at other files.

Everything is made from seeds. `damaged` gives as many as are asked for, `swollen` and `pointing` one of each kind.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

SEEDS = {
    "mp3": ("-b:a", "64k", "-id3v2_version", "3", "-metadata", "title=Seed"),
    **dict.fromkeys(("ogg", "opus", "flac", "wav", "m4a", "wma", "aac"), ()),
}
SILENT_MP3_FRAME = b"\xff\xe3\x18\xc0" + bytes(68)
"""72 ms of silence at 8 kHz (MPEG 2.5, layer III, 8 kb/s, mono)."""

Rng = np.random.Generator
Seeds = Mapping[str, bytes]


# ---- damaged: changes of honest files


def flip_bits(data: bytes, rng: Rng, most: int = 200) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    bits[rng.integers(len(bits), size=rng.integers(1, most))] ^= 1
    return np.packbits(bits).tobytes()


def leave_out(data: bytes, rng: Rng, _: Seeds) -> bytes:
    start, end = np.sort(rng.integers(len(data), size=2))
    return data[:start] + data[end:]


def repeat(data: bytes, rng: Rng, _: Seeds) -> bytes:
    start = rng.integers(len(data))
    return data[:start] + data[start : start + rng.integers(1, 2_000)] * int(rng.integers(2, 50)) + data[start:]


def overwrite(data: bytes, rng: Rng, _: Seeds) -> bytes:
    start = rng.integers(len(data))
    return (data[:start] + rng.bytes(rng.integers(1, 3_000)) + data[start + 3_000 :])[: len(data)]


def splice(data: bytes, rng: Rng, seeds: Seeds) -> bytes:
    other = seeds[rng.choice(list(seeds))]
    head = int(rng.choice([4, 12, 44, 128, 1_000]))
    return other[:head] + data[int(rng.choice([0, head])) :]


def lie(data: bytes, rng: Rng, _: Seeds, times: int = 1) -> bytes:
    """Some number near the beginning (a length, a rate, a size) becomes an extreme one."""
    for _ in range(times):
        extreme = rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
        place = rng.integers(4, min(len(data), 700) - 4)
        data = data[:place] + struct.pack(rng.choice([">I", "<I"]), int(extreme)) + data[place + 4 :]
    return data


DAMAGES: dict[str, Callable[[bytes, Rng, Seeds], bytes]] = {
    "flipped": lambda data, rng, _: flip_bits(data, rng),
    "flipped-header": lambda data, rng, _: flip_bits(data[:200], rng, 20) + data[200:],
    "cut": lambda data, rng, _: data[: rng.integers(1, len(data))],
    "headless": lambda data, rng, _: data[rng.integers(1, len(data)) :],
    "gap": leave_out,
    "repeated": repeat,
    "overwritten": overwrite,
    "spliced": splice,
    "lying": lie,
    "lying-much": lambda *given: lie(*given, times=8),
}


def damaged(seeds: Seeds, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Names and contents of `count` files: every damage of every seed in turn."""
    pairs = [(damage, suffix) for suffix in seeds for damage in DAMAGES]
    for number in range(count):
        damage, suffix = pairs[number % len(pairs)]
        rng = np.random.default_rng((seed, number))
        yield f"{damage}-{number:05d}.{suffix}", DAMAGES[damage](seeds[suffix], rng, seeds)


# ---- swollen: little that claims, or becomes, much


def id3(*frames: bytes, size: int | None = None, version: int = 3) -> bytes:
    body = b"".join(frames)
    size = len(body) if size is None else size
    return b"ID3" + bytes([version, 0, 0]) + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def id3_frame(name: bytes, content: bytes, flags: int = 0) -> bytes:
    return name + struct.pack(">IH", len(content), flags) + content


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    pixels = zlib.compress(bytes(4_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def wav(rate_hz: int, channels: int = 1, bits: int = 16, align: int = 2, tag: int = 1, data: int = 64_000) -> bytes:
    fmt = struct.pack("<HHIIHH", tag, channels, rate_hz & 0xFFFFFFFF, 0, align, bits)
    sound = np.random.default_rng(0).bytes(64_000)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", data) + sound


def xing(frames: int, length: int) -> bytes:
    """Silence whose header tells of so many frames."""
    info = b"Xing" + struct.pack(">II", 1, frames)
    return SILENT_MP3_FRAME[:13] + info + SILENT_MP3_FRAME[13 + len(info) :] + SILENT_MP3_FRAME * length


def nested_boxes(depth: int) -> bytes:
    boxes = b"".join(struct.pack(">I", 8 * (depth - level)) + b"moov" for level in range(depth))
    return struct.pack(">I", 16) + b"ftypM4A \0\0\0\0" + boxes


def swollen(seeds: Seeds) -> dict[str, bytes]:
    """Contents by name."""
    mp3 = seeds["mp3"]
    text = b"\0" + b"A" * 4_000_000
    deflated = zlib.compress(bytes(50_000_000), 9)
    many = [id3_frame(b"TXXX", b"\0key%d\0value" % number) for number in range(2_000)]
    forged = id3_frame(b"TIT2", b"\0Duration: 99:59:59.00, start: 0, bitrate: 1 kb/s\n  Duration: 99:00:00.00")
    key = id3_frame(b"TXXX", b"\0Stream #0:0: Audio: none\0x")
    picture = id3_frame(b"APIC", b"\0image/png\0\3\0" + png(30_000, 30_000))
    return {
        "id3-title-of-4-MB.mp3": id3(id3_frame(b"TIT2", text), id3_frame(b"TPE1", text)) + mp3,
        "id3-2000-frames.mp3": id3(*many) + mp3,
        "id3-deflated-50-MB.mp3": id3(id3_frame(b"TIT2", struct.pack(">I", 50_000_001) + deflated, 0x80)) + mp3,
        "id3-claims-256-MB.mp3": id3(size=0xFFFFFFF) + mp3,
        "id3-in-id3.mp3": id3() * 10_000 + mp3,
        "id3-forged-report.mp3": id3(forged, key) + mp3,
        "id3-escapes.mp3": id3(id3_frame(b"TIT2", b"\0\x1b]0;owned\x07\x1b[2J\ttitle")) + mp3,
        "id3-picture-of-3.6-GB.mp3": id3(picture) + mp3,
        "id3-alone.mp3": id3(forged),
        "wav-100-hz.wav": wav(100),
        "wav-0-hz.wav": wav(0),
        "wav-4-ghz.wav": wav(-1),
        "wav-no-channels.wav": wav(44_100, 0),
        "wav-65535-channels.wav": wav(44_100, 65_535, align=65_535),
        "wav-no-bits.wav": wav(44_100, bits=0, align=0),
        "wav-65535-bits.wav": wav(44_100, bits=65_535),
        "wav-of-4-GB.wav": wav(44_100, data=0xFFFFFFFF),
        "wav-of-nothing.wav": wav(44_100, data=0),
        "wav-unknown-codec.wav": wav(44_100, tag=0xFFFF),
        "mp3-in-wav-named-pcm.wav": wav(44_100, tag=0x55),
        "xing-no-frames.mp3": xing(0, 50),
        "xing-4-billion-frames.mp3": xing(0xFFFFFFFF, 50),
        "mp3-says-3-min-is-16.mp3": xing(2_500, 13_334),
        "boxes-in-boxes.m4a": nested_boxes(20_000),
        "box-of-no-size.m4a": struct.pack(">I", 16) + b"ftypM4A \0\0\0\0" + bytes(4) + b"moov" + bytes(1_000),
        "amr-of-nothing.amr": b"#!AMR\n" + b"\x7c" * 20_000,
        "nothing-but-zeros.mp3": bytes(200_000),
        "nothing-but-ones.mp3": b"\xff" * 200_000,
        "sync-everywhere.mp3": b"\xff\xfb" * 100_000,
        "ogg-pages-without-end.ogg": seeds["ogg"][:4_000] * 300,
        "flac-headers-without-end.flac": seeds["flac"][:42] * 20_000,
    }


# ---- pointing: at another file, or an address


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "m3u": "#EXTM3U\n#EXTINF:2,Title\n{target}\n",
    "pls": "[playlist]\nFile1={target}\nLength1=2\nNumberOfEntries=1\nVersion=2\n",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>\n',
    "xspf": '<playlist version="1"><trackList><track><location>{target}</location></track></trackList></playlist>\n',
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
    'bandwidth="1000"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>\n',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\na=x:{target}\n",
    "cue": 'FILE "{target}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "vtt": "WEBVTT\n\n00:00.000 --> 00:02.000\n{target}\n",
    "srt": "1\n00:00:00,000 --> 00:00:02,000\n{target}\n",
    "ass": "[Script Info]\nScriptType: v4.00+\nAudio URI: {target}\n[Events]\n"
    "Dialogue: 0,0:00:00.00,0:00:02.00,x,,0,0,0,,{target}\n",
    "xml": '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "{target}">]><CompositionPlaylist '
    'xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">&a;</CompositionPlaylist>\n',
}
"""Texts by what they are."""


def leading_to(movie: bytes, kind: bytes, where: bytes) -> bytes:
    """A movie whose sound is said to lie elsewhere: another data reference, and the sizes of all that it is in."""
    here = struct.pack(">I", 12) + b"url " + struct.pack(">I", 1)
    elsewhere = struct.pack(">I", 12 + len(where)) + kind + bytes(4) + where
    place, data = movie.index(here), bytearray(movie)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.rindex(name, 0, place) - 4
        (size,) = struct.unpack_from(">I", data, start)
        struct.pack_into(">I", data, start, size + len(elsewhere) - len(here))
    data[place : place + len(here)] = elsewhere
    return bytes(data)


def alias(target: str) -> bytes:
    """The record of a Macintosh alias, which ffmpeg reads."""
    name, path = Path(target).name.encode()[:27], target.encode()
    record = bytes(6) + struct.pack(">HH", 150, 2) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    record += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 0, 4) + bytes(16)
    for kind in (2, 18):
        record += struct.pack(">hH", kind, len(path)) + path + b"\0" * (len(path) % 2)
    return record + struct.pack(">hH", -1, 0)


def pointing(seeds: Seeds, targets: Mapping[str, str], port: int) -> dict[str, bytes]:
    """Contents by name: every playlist under its own suffix and as an MP3, and music that carries references.

    The names say which: ``bare-`` have no sound of their own.
    """
    found = {}
    for kind, target in targets.items():
        for suffix, text in PLAYLISTS.items():
            content = text.replace("{target}", target).replace("{port}", str(port)).encode()
            for ending in ("", ".mp3", ".wav"):
                found[f"bare-{suffix}-{kind}.{suffix}{ending}"] = content
        links = [id3_frame(name, target.encode()) for name in (b"WOAF", b"WOAS", b"WORS", b"WPUB")]
        links.append(id3_frame(b"LINK", b"APIC" + target.encode() + b"\0"))
        links.append(id3_frame(b"APIC", b"\0-->\0\3\0" + target.encode()))
        found[f"links-{kind}.mp3"] = id3(*links) + seeds["mp3"]
        found[f"reference-{kind}.m4a"] = leading_to(seeds["m4a"], b"url ", target.encode() + b"\0")
        found[f"alias-{kind}.m4a"] = leading_to(seeds["m4a"], b"alis", alias(target))
    return found
