"""The errors users meet. Each message names the value, the file and what to do."""


class MoodError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(MoodError):
    """The call itself is wrong: a missing folder, an unknown name, options that contradict each other."""


class AudioError(MoodError):
    """One audio file cannot be turned into sound. The run goes on with the others."""


class NoFileError(AudioError):
    """There is no such file."""


class NoSoundError(AudioError):
    """A file that can be read, but has no sound in it: a video without a sound track, or silence."""


class TooShortError(AudioError):
    """A file whose sound does not fill one window of the embedder."""


class LimitError(MoodError):
    """A file is larger or longer than what is accepted here."""


class CancelledError(MoodError):
    """The user wanted no more of it."""


class WeightsError(MoodError):
    """The weights of an embedder are missing, damaged or not the ones they are said to be."""


class StoreError(MoodError):
    """An embedding store, or an entry of it, is not what it must be."""


class DataError(MoodError):
    """A table, a set of labels or a set of embeddings is not what it must be."""


class DiskFullError(MoodError):
    """There is no room left to write. Not any one track's fault, so the run stops."""


class DownloadError(MoodError):
    """One file cannot be had from the web. The run goes on with the others."""


class NetworkError(MoodError):
    """The web gives nothing at all. Not any one track's fault, so the run stops."""
