"""Small folders of the data sets of classes, and a table of one's own music, in the formats of the originals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from mutagen.flac import FLAC

from jamendo_mood.datasets import class_sets, own

CLIPS = 24
MIREX_TITLES = {3: 'The "Third" Song', 7: "Seven; It's a Semicolon"}
MIREX_ARTISTS = {
    4: "Blue, Anna", 5: "Anna Blue & the Greens", 6: "Reds [1]", 8: "REDS", 9: "", 10: "Ocker/Umbra", 11: "Ocker-Umbra",
    12: "Björk Ünal",
}  # fmt: skip
QUADRANT_ARTISTS = {2: "", 3: "Tan, Lee & his Orchestra", 4: "lee TAN"}
TURKISH_CLIPS = 30
TURKISH_DOUBLES = {5: 4, 29: 11}  # row: the one it is equal to
OWN_FILES = (
    ("rock/one.mp3", "Ann", "dark;fast"), ("rock/two.flac", "Ann", "dark"), ("three.wav", "Bob", "calm; happy"),
    ("four.mp3", "Cid", "happy"), ("five.ogg", "bob ", "fast;happy;fast"), ("six.mp3", "Dee", ""),
)  # fmt: skip


def write_mirex(root: Path, clusters: list[str] | None = None) -> Path:
    """A list with a line per clip, and a UTF-16 table with CRLF and semicolons, one of them in a title."""
    clusters = clusters or [class_sets.CLUSTERS[clip % 5] for clip in range(CLIPS)]
    (root / "clusters.txt").write_bytes("".join(f"{cluster}\n" for cluster in clusters).encode())
    rows = [class_sets.INFO_HEADER]
    for clip in range(1, len(clusters) + 1):
        title, artist = MIREX_TITLES.get(clip, f"Song {clip}"), MIREX_ARTISTS.get(clip, f"Artist {clip:02d}")
        rows.append(f"{title};{artist};Album [x];{clip};19{clip:02d};30;352,00 KB;09-09-2010;{clip:03d}.mp3;")
    (root / "dataset info.csv").write_bytes("".join(f"{row}\r\n" for row in rows).encode("utf-16"))
    return root


def quadrant_song(clip: int) -> str:
    return f"MT{clip * 7919:010d}"


def write_quadrants(root: Path) -> Path:
    """Two tables with CRLF; in the second, words are quoted and numbers are not."""
    annotations = ["Song,Quadrant"]
    metadata = ['"Song","Artist","Title","Quadrant","PQuad","MoodsTotal","MoodsStr","SampleURL"']
    for clip in range(CLIPS):
        song, quadrant = quadrant_song(clip), class_sets.QUADRANTS[clip * 3 % 4]
        artist = QUADRANT_ARTISTS.get(clip, f"Artist {clip:02d}")
        annotations.append(f"{song},{quadrant}")
        metadata.append(
            f'"{song}","{artist}","A, B and ""C""","{quadrant}",0.5,3,"Calm; Sad","http://x.example/?c={clip}="'
        )
    for name, lines in ((class_sets.ANNOTATIONS_NAME, annotations), (class_sets.METADATA_NAME, metadata)):
        (root / name).write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return root


def turkish_numbers() -> np.ndarray:
    """Features (clips, 50) with three decimals, two rows of them equal to earlier ones."""
    numbers = np.random.default_rng(4).normal(0, 100, (TURKISH_CLIPS, len(class_sets.FEATURES))).round(3)
    for row, earlier in TURKISH_DOUBLES.items():
        numbers[row] = numbers[earlier]
    return numbers


def turkish_class(row: int) -> str:
    return class_sets.TURKISH_CLASSES[TURKISH_DOUBLES.get(row, row) % 4]


def write_turkish(root: Path) -> Path:
    """A table whose header is bare, and whose cells, numbers too, are all quoted."""
    lines = [",".join(["Class", *class_sets.FEATURES])]
    for row, numbers in enumerate(turkish_numbers()):
        cells = [turkish_class(row), *(str(number) for number in numbers)]
        lines.append(",".join(f'"{cell}"' for cell in cells))
    (root / class_sets.FEATURES_NAME).write_bytes("".join(f"{line}\n" for line in lines).encode())
    return root


def write_own(root: Path) -> Path:
    """A table as a spreadsheet saves it: a byte order mark, CRLF, and an empty line at the end."""
    rows = ["path,artist,tags", *(",".join(cells) for cells in OWN_FILES), ""]
    (root / own.TABLE_NAME).write_bytes("".join(f"{row}\r\n" for row in rows).encode("utf-8-sig"))
    return root


def write_tagged(path: Path, **fields: str | list[str]) -> Path:
    """A FLAC file without sound, with these fields in its tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = b"\x10\0\x10\0" + bytes(6) + (16_000 << 12 | 15 << 4).to_bytes(4, "big") + bytes(20)
    path.write_bytes(b"fLaC\x80\0\0\x22" + info)
    audio = FLAC(path)
    audio.update(fields)
    audio.save()
    return path


def write_own_files(root: Path) -> Path:
    """The same songs, which say themselves what the table says."""
    for name, artist, tags in OWN_FILES:
        write_tagged((root / name).with_suffix(".flac"), artist=artist.strip().title(), mood=tags)
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "mirex": write_mirex,
    "quadrant": write_quadrants,
    "turkish": write_turkish,
    "own": write_own,
    "own-files": write_own_files,
}
