"""MTG's official tables, fetched from their repository at one commit and checked by SHA-256."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from jamendo_mood import __version__
from jamendo_mood.util.errors import DataError
from jamendo_mood.util.files import write_atomically

COMMIT = "1b4fa8c32e076c73b5175c1703ae805b4109309d"
BASE_URL = f"https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/{COMMIT}"
TIMEOUT_S = 60.0
MOST_BYTES = 1 << 24  # of a file: the largest has 1.8 MB


def get_splits(
    out: Path, base_url: str = BASE_URL, on_file: Callable[[Path, bool], None] = lambda *_: None
) -> list[Path]:
    """Fetch the mood/theme tables, tag lists, five splits and audio checksums; files that are right already stay.

    Parameters
    ----------
    out : Path
        The folder; `registry.load_dataset` reads it.
    base_url : str
        Where MTG's repository is served: a mirror must have its layout (``data/...``).
    on_file : callable (path, fetched)
        Called after each file.

    Raises
    ------
    DataError
        A file cannot be fetched, or is not the official one. Those before it are kept.
    """
    paths = []
    for source, sha256 in read_checksums().items():
        path = out / source.removeprefix("data/").removeprefix("tags/").removeprefix("download/")
        fresh = not (path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256)
        if fresh:
            content = _fetch(f"{base_url.rstrip('/')}/{source}", sha256)
            write_atomically(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        paths.append(path)
        on_file(path, fresh)
    return paths


def read_checksums() -> dict[str, str]:
    """SHA-256 by path in MTG's repository, for the commit this version is pinned to."""
    text = resources.files("jamendo_mood.datasets").joinpath("jamendo.sha256").read_text(encoding="ascii")
    return {path: sha256 for sha256, path in (line.split() for line in text.splitlines())}


def _fetch(url: str, sha256: str) -> bytes:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"jamendo-mood/{__version__}"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise ValueError(f"it leads to {response.url}, which is not https")
            content: bytes = response.read(MOST_BYTES)
    except (urllib.error.URLError, http.client.HTTPException, ValueError, OSError) as error:
        raise DataError(f"{url}: cannot be fetched ({error}); --base-url names a mirror") from error
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        raise DataError(f"{url}: not the official file (SHA-256 {got}, expected {sha256})")
    return content
