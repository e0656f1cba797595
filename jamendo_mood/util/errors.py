"""The errors that users see. Each message names the value, the file and what to do."""

from __future__ import annotations

import importlib.util


class MoodError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(MoodError):
    """The call itself is wrong: a missing folder, an unknown name, options that contradict each other."""


class AudioError(MoodError):
    """One audio file cannot be turned into sound. The run continues with the others."""


class NoFileError(AudioError):
    """There is no such file, or it cannot be opened: nothing is known of its sound."""


class WrongKindError(AudioError):
    """Another kind of file than sound, such as ``a JPEG picture``: its `kind`."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class NoSoundError(AudioError):
    """A file that can be read but has no sound: a video without a sound track, or silence."""


class TooShortError(AudioError):
    """A file whose sound is shorter than one window of the embedder."""


class LimitError(MoodError):
    """A file is larger or longer than accepted here."""


class MachineError(MoodError):
    """Something that this machine does or lacks stopped the work on a file. The file is not at fault."""


class BusyError(MoodError):
    """There is no room for another song just now."""


class CancelledError(MoodError):
    """The user cancelled it."""


class WeightsError(MoodError):
    """The weights of an embedder are missing, damaged, or not the expected ones."""


class StoreError(MoodError):
    """An embedding store or one of its entries is damaged or cannot be used."""


class DataError(MoodError):
    """A table, labels or embeddings are damaged or do not fit."""


class DiskFullError(MoodError):
    """The disk is full. That is no track's fault, so the run stops."""


class DownloadError(MoodError):
    """One file cannot be downloaded. The run continues with the others."""


class NetworkError(MoodError):
    """Nothing can be downloaded at all. That is no track's fault, so the run stops."""


def need(what: str, extra: str, *packages: str) -> None:
    """`UsageError` if a package of one of the extras is not installed, which says what needs it."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"{what} needs {package}: `pip install jamendo-mood[{extra}]` brings it")
