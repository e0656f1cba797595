"""What MTG publishes of the audio: two qualities, as single files and as tars, with lists of SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jamendo_mood.datasets import jamendo
from jamendo_mood.util.errors import UsageError

CDN = "https://cdn.freesound.org/mtg-jamendo"  # the default of MTG's own download script


@dataclass(frozen=True)
class Quality:
    """How one of the two qualities is named.

    Attributes
    ----------
    folder : str
        MTG's folder.
    suffix : str
        What its files end in.
    checksums_name : str
        Its list of SHA-256.
    """

    folder: str
    suffix: str
    checksums_name: str

    @property
    def files_url(self) -> str:
        """Where the single files are: those of all of MTG-Jamendo, of which the mood/theme tracks are a part."""
        return f"{CDN}/raw_30s/{self.folder}"

    @property
    def tars_url(self) -> str:
        """Where the 100 tars of the mood/theme tracks are."""
        return f"{CDN}/autotagging_moodtheme/{self.folder}"

    @property
    def tar_name(self) -> str:
        """Name of a tar, with ``{}`` for the folder of tracks that it holds, ``00`` to ``99``."""
        return f"autotagging_moodtheme_{self.folder}-{{}}.tar"

    def path_of(self, key: str) -> Path:
        """Name of a track's file, below the URL and in its tar: ``48/948`` -> ``48/948.low.mp3``."""
        return Path(key + self.suffix)


QUALITIES = {
    "low": Quality("audio-low", ".low.mp3", jamendo.CHECKSUMS_NAME),
    "full": Quality("audio", ".mp3", jamendo.FULL_CHECKSUMS_NAME),
}
"""46 GB and 152 GB."""


def read_list(quality: Quality, table: Path) -> dict[str, str]:
    """MTG's list of SHA-256 by key, from beside a table of tracks or from the two folders above.

    Raises
    ------
    UsageError
        It is not there.
    DataError
        It is damaged.
    """
    for folder in list(table.absolute().parents)[:3]:
        if checksums := jamendo.read_checksums(folder, quality.checksums_name):
            return checksums
    raise UsageError(f"{table}: no {quality.checksums_name} beside it; `jamendo-mood splits --out DIR` gets both")
