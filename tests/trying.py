"""How much Hypothesis tries, and what every error must be like."""

import contextlib
import tracemalloc
from collections.abc import Iterator

from hypothesis import settings

from jamendo_mood.util.errors import MoodError


def tries(sample: int, full: int) -> settings:
    """So many examples in CI, and so many in `make test-slow`."""
    return settings(max_examples=full if settings.get_current_profile_name() == "full" else sample)


@contextlib.contextmanager
def memory_below(most_bytes: int) -> Iterator[list[int]]:
    """See to it that what runs takes less memory at the peak; the list gets how much it took."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peak[0] < most_bytes


@contextlib.contextmanager
def refusing() -> Iterator[list[str]]:
    """Let an error of ours pass if it is one line, and give its message in the list; whatever else is raised fails."""
    messages: list[str] = []
    try:
        yield messages
    except MoodError as error:
        messages.append(str(error))
        assert messages[0].strip(), "an error that says nothing"
        assert len(messages[0].split("\n")) == len(messages[0].split("\r")) == 1, repr(messages[0])
