"""How much Hypothesis tries, and what every error must be like."""

import contextlib
from collections.abc import Iterator

from hypothesis import settings

from jamendo_mood.util.errors import MoodError


def tries(sample: int, full: int) -> settings:
    """So many examples in CI, and so many in `make test-slow`."""
    return settings(max_examples=full if settings.get_current_profile_name() == "full" else sample)


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
