"""MTG-Jamendo's mood/theme subset: 18,486 tracks, 59 tags, 56 of them in the five official splits."""

from __future__ import annotations

import hashlib
import http.client
import math
import re
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jamendo_mood import __version__
from jamendo_mood.audio.decoding import key_of
from jamendo_mood.datasets.dataset import PARTS, Dataset, DataSource, Track, consecutive_parts, read_number
from jamendo_mood.tasks import Task
from jamendo_mood.util.errors import DataError, UsageError
from jamendo_mood.util.files import write_atomically
from jamendo_mood.util.plaintext import read_lines, read_table, read_text

COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
TAG_PREFIX = "mood/theme---"
ALL_TRACKS_NAME = "autotagging_moodtheme.tsv"
SPLIT_TAGS_NAME = "moodtheme_split.txt"
CHECKSUMS_NAME = "autotagging_moodtheme_audio-low_sha256_tracks.txt"
FULL_CHECKSUMS_NAME = "autotagging_moodtheme_audio_sha256_tracks.txt"

TaggedTrack = tuple[Track, tuple[str, ...]]


def load(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load an official split with its 56 tags (those of ``moodtheme_split.txt``, in that order)."""
    tags = tuple(line.removeprefix(TAG_PREFIX) for line in read_text(root / SPLIT_TAGS_NAME).split())
    tagged = {}
    for part in PARTS:
        path = split_path(root, split, part)
        tagged[part] = read_tracks(path)
        for line, (_track, names) in enumerate(tagged[part], start=2):
            if unknown := [tag for tag in names if tag not in tags]:
                known = f"the {len(tags)} of {SPLIT_TAGS_NAME}"
                raise DataError(f"{path}, line {line}: the tag {unknown[0]!r} is not among {known}")
    return _assemble("jamendo", tags, tagged, root)


def load_all_tags(root: Path, split: int = 0, _: str | None = None) -> Dataset:
    """Load the full list with its 59 tags.

    Tracks keep their official part. The others (504, whose tags the splits leave out) go to the part of their artist,
    or, if the artist has none, to one that depends on the artist's id alone: six tenths to train, two to validation,
    two to test.
    """
    everything = read_tracks(root / ALL_TRACKS_NAME)
    part_of_artist = {track.artist: part for part in PARTS for track, _ in read_tracks(split_path(root, split, part))}
    tagged: dict[str, list[TaggedTrack]] = {part: [] for part in PARTS}
    for track, names in everything:
        tagged[part_of_artist.get(track.artist) or _choose_part(track.artist)].append((track, names))
    tags = tuple(sorted({tag for _track, names in everything for tag in names}))
    return _assemble("jamendo-59", tags, tagged, root)


def split_path(root: Path, split: int, part: str) -> Path:
    """The table of an official part; `UsageError` if there is no such split."""
    folder = root / "splits" / f"split-{split}"
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such split; `jamendo-mood splits --out {root}` gets MTG's five (0 to 4)")
    return folder / f"autotagging_moodtheme-{part}.tsv"


def read_tracks(path: Path) -> list[TaggedTrack]:
    """Read one of MTG's TSVs: each track and its tags, in the file's order; `DataError` if it is damaged."""
    rows = read_table(path, COLUMNS)
    if not rows:
        raise DataError(f"{path}: the table has no tracks")
    tagged = []
    for number, (track_id, artist, _album, audio, duration, *tags) in enumerate(rows, start=2):
        duration_s = read_number(duration, (0.0, math.inf), f"{path}, line {number}, {COLUMNS[4]}")
        names = tuple(tag.removeprefix(TAG_PREFIX) for tag in tags if tag)
        try:
            tagged.append((Track(track_id, audio, duration_s, artist), names))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return tagged


def read_checksums(root: Path, name: str = CHECKSUMS_NAME) -> dict[str, str]:
    """SHA-256 of each track's MP3 by the track's key, from MTG's list; empty if the list is not there.

    117 groups of tracks, 243 in all, are identical bit by bit, and some are in different parts of a split.
    """
    path, checksums = root / name, {}
    for number, line in enumerate(read_lines(path) if path.exists() else (), start=1):
        sha256, _, audio = line.partition(" ")
        if not (re.fullmatch("[0-9a-fA-F]{64}", sha256) and audio):
            raise DataError(f"{path}, line {number}: not a list of checksums (a SHA-256 and a path are expected)")
        checksums[key_of(audio.strip())] = sha256.lower()
    return checksums


def _choose_part(artist: str) -> str:
    tenth = zlib.crc32(artist.encode()) % 10
    return "train" if tenth < 6 else "validation" if tenth < 8 else "test"


def _assemble(name: str, tags: tuple[str, ...], tagged: dict[str, list[TaggedTrack]], root: Path) -> Dataset:
    rows, checksums = [row for part in PARTS for row in tagged[part]], read_checksums(root)
    return Dataset(
        task=Task(name, "tags", tags),
        tracks=tuple(replace(track, content=checksums.get(track.key, "")) for track, _names in rows),
        targets=np.array([[tag in names for tag in tags] for _track, names in rows], np.float32),
        parts=consecutive_parts({part: len(tagged[part]) for part in PARTS}),
    )


_JAMENDO = DataSource(
    load,
    predicts="56 mood and theme tags",
    files=(SPLIT_TAGS_NAME, "splits/"),
    annotations="`jamendo-mood splits`, or https://github.com/MTG/mtg-jamendo-dataset",
    audio="`jamendo-mood extract --from-jamendo` fetches it track by track (46 GB low, 152 GB full quality)",
    licence="metadata CC BY-NC-SA 4.0; audio: each track's own Creative Commons licence",
    citation="D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra: The MTG-Jamendo Dataset for Automatic Music "
    "Tagging. Machine Learning for Music Discovery Workshop, ICML 2019",
    splits=5,
    official=True,
)
_ALL_TAGS = replace(_JAMENDO, load=load_all_tags, predicts="59 mood and theme tags", files=(ALL_TRACKS_NAME, "splits/"))
SOURCES = {"jamendo": _JAMENDO, "jamendo-59": _ALL_TAGS}


CDN = "https://cdn.freesound.org/mtg-jamendo"  # the default of MTG's own download script


class Quality(NamedTuple):
    """How MTG names one of its two qualities, and where it is."""

    suffix: str  #: of its files
    checksums_name: str  #: its list of SHA-256
    files_url: str  #: URL of the single files, those of all of MTG-Jamendo; the mood/theme tracks are among them
    tars_url: str  #: URL of the 100 tars of the mood/theme tracks
    tar_name: str  #: name of a tar, with ``{}`` for its folder of tracks, ``00`` to ``99``

    def path_of(self, key: str) -> Path:
        """Path of a track's file, below the URL and in its tar: ``48/948`` -> ``48/948.low.mp3``."""
        return Path(key + self.suffix)


def _make_quality(folder: str, suffix: str, checksums_name: str) -> Quality:
    urls = f"{CDN}/raw_30s/{folder}", f"{CDN}/autotagging_moodtheme/{folder}"
    return Quality(suffix, checksums_name, *urls, f"autotagging_moodtheme_{folder}-{{}}.tar")


QUALITIES = {
    "low": _make_quality("audio-low", ".low.mp3", CHECKSUMS_NAME),
    "full": _make_quality("audio", ".mp3", FULL_CHECKSUMS_NAME),
}
"""46 GB and 152 GB."""


def read_list(quality: Quality, table: Path) -> dict[str, str]:
    """MTG's list of SHA-256 by key; it is beside the table of tracks, or in one of the two folders above.

    Raises `UsageError` if the list is not there; `DataError` if the list is damaged.
    """
    for folder in list(table.absolute().parents)[:3]:
        if checksums := read_checksums(folder, quality.checksums_name):
            return checksums
    raise UsageError(f"{table}: no {quality.checksums_name} beside it; `jamendo-mood splits --out DIR` gets both")


COMMIT = "1b4fa8c32e076c73b5175c1703ae805b4109309d"
BASE_URL = f"https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/{COMMIT}"
TIMEOUT_S = 60.0
MAX_BYTES = 1 << 24  # of a file; the largest has 1.8 MB


def get_splits(
    out: Path, base_url: str = BASE_URL, on_file: Callable[[Path, bool], None] = lambda *_: None
) -> list[Path]:
    """Fetch the mood/theme tables, tag lists, five splits and audio checksums; skip files that are already correct.

    The URL is that of MTG's repository, or of a mirror with its layout (``data/...``); `on_file` is called with each
    path, and whether it was fetched. Raises `DataError` if a file cannot be fetched, or is not the official one; files
    fetched before it are kept.
    """
    paths = []
    for source, sha256 in read_published_checksums().items():
        path = out / source.removeprefix("data/").removeprefix("tags/").removeprefix("download/")
        fresh = not (path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256)
        if fresh:
            content = _fetch(f"{base_url.rstrip('/')}/{source}", sha256)
            write_atomically(path, content)
        paths.append(path)
        on_file(path, fresh)
    return paths


def read_published_checksums() -> dict[str, str]:
    """SHA-256 by path in MTG's repository, for the commit this version is pinned to."""
    text = resources.files("jamendo_mood.datasets").joinpath("jamendo.sha256").read_text(encoding="ascii")
    return {path: sha256 for sha256, path in (line.split() for line in text.splitlines())}


def _fetch(url: str, sha256: str) -> bytes:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"jamendo-mood/{__version__}"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise ValueError(f"it leads to {response.url}, which is not https")
            content: bytes = response.read(MAX_BYTES)
    except (urllib.error.URLError, http.client.HTTPException, ValueError, OSError) as error:
        raise DataError(f"{url}: cannot be fetched ({error}); --base-url names a mirror") from error
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        raise DataError(f"{url}: not the official file (SHA-256 {got}, expected {sha256})")
    return content
