"""What a store has beside its embeddings: the names in it, ``store.json``, and ``failures.tsv``."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.util import untrusted
from jamendo_mood.util.errors import StoreError
from jamendo_mood.util.files import write_atomically

FORMAT = 1
MANIFEST_NAME = "store.json"
FAILURES_NAME = "failures.tsv"
FAILURES_HEADING = "key\terror\n"
PACKED_NAME, INDEX_NAME = "frames.npy", "index.tsv"

MOST_FAILURES_BYTES = 256_000_000
"""Of ``failures.tsv``: some two million tracks."""

NOT_FOUND = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_RESERVED = {MANIFEST_NAME, FAILURES_NAME, PACKED_NAME, INDEX_NAME}
_MOST_DAMAGED_LINES = 100  # that are told

# Windows' separator, what would break a line of a table, and what is left of file names that are no Unicode.
_UNFIT_FOR_KEYS = re.compile(r"[\\\x00-\x1f\ud800-\udfff]")


def is_key(key: str) -> bool:
    """Whether a text can be the key of a track."""
    parts = f"{key}.npy".split("/")
    plain = all(part and part[0] != "." for part in parts)
    return plain and parts[0] not in _RESERVED and not _UNFIT_FOR_KEYS.search(key)


def check_key(key: str) -> str:
    """Give a key back if it can be one; StoreError if not."""
    if not is_key(key):
        raise StoreError(f"{key!r} cannot be the key of a track: it must be a plain path, such as 48/948")
    return key


def format_manifest(spec: EmbedderSpec) -> bytes:
    """What ``store.json`` holds."""
    return (json.dumps({"format": FORMAT, "embedder": asdict(spec)}, indent=2) + "\n").encode()


def parse_manifest(content: bytes, place: Path | str) -> EmbedderSpec:
    """Read a ``store.json``; StoreError that names `place` if it is none."""
    try:
        manifest = untrusted.parse_json(content)
        if manifest["format"] != FORMAT:
            found = repr(manifest["format"])[:20]
            raise StoreError(f"{place}: a store of format {found}, this version reads format {FORMAT}")
        return EmbedderSpec.from_json(manifest["embedder"])
    except (ValueError, KeyError, TypeError) as error:
        raise _describe_damage(error, place) from error


def read_manifest(path: Path, place: Path | str) -> EmbedderSpec:
    """Read a ``store.json`` from its file, as `parse_manifest` does; OSError if the file cannot be read."""
    try:
        content = untrusted.read_bytes(path, untrusted.MOST_JSON_BYTES)
    except ValueError as error:
        raise _describe_damage(error, place) from error
    return parse_manifest(content, place)


def parse_failures(content: bytes) -> tuple[dict[str, str], list[int]]:
    """Read a ``failures.tsv``: errors by key, and the numbers of lines that are damaged, the first few of them.

    A line that was cut short, by a full disk or a crash, is passed over: its track will be tried again.
    """
    listed: dict[str, str] = {}
    damaged: list[int] = []
    for number, line in enumerate(io.BytesIO(content), start=1):
        if line == FAILURES_HEADING.encode():
            continue  # more than once where processes of earlier versions began the list at the same moment
        try:
            key, tab, error = line.decode().removesuffix("\n").partition("\t")
        except UnicodeDecodeError:
            key = tab = error = ""
        if tab and is_key(key):
            listed[key] = error
        wrong = not tab or not is_key(key) or number == 1 or not line.endswith(b"\n")
        if wrong and len(damaged) < _MOST_DAMAGED_LINES:
            damaged.append(number)
    return listed, damaged


def read_failures(path: Path) -> tuple[dict[str, str], list[int]]:
    """Read a ``failures.tsv`` from its file, if there is one; OSError or ValueError if it cannot be read."""
    try:
        return parse_failures(untrusted.read_bytes(path, MOST_FAILURES_BYTES))
    except NOT_FOUND:
        return {}, []


def write_failures(path: Path, listed: Mapping[str, str]) -> None:
    """Write a ``failures.tsv``; whoever does holds a lock on it."""
    text = "".join(f"{key}\t{error}\n" for key, error in listed.items())
    write_atomically(path, lambda file: file.write((FAILURES_HEADING + text).encode()))


def _describe_damage(error: Exception, place: Path | str) -> StoreError:
    return StoreError(f"{place}: not the manifest of a store ({error})")
