"""Faults, load and hostile files: samples of them in `make test` and `make test-all`, all of them in `make test-slow`.

The latter sets `JAMENDO_MOOD_FAULTS` to the page whose list gets the figures, docs/reliability.md.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, configuration, settings

PAGE = os.environ.get("JAMENDO_MOOD_FAULTS")
ITEMS: dict[str, str] = {}

# A sample is the same every time. All of them are new ones; Hypothesis prints the seed of a test that fails.
common = {
    "deadline": None,
    "database": None,
    "phases": [phase for phase in Phase if phase is not Phase.explain],  # which traces every line, for minutes
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("sample", derandomize=True, **common)
settings.register_profile("full", derandomize=False, print_blob=True, **common)
settings.load_profile("full" if PAGE else "sample")
configuration.set_hypothesis_home_dir(Path(__file__).parents[2] / "build/hypothesis")


@pytest.fixture(scope="session")
def amount() -> Callable[[int, int], int]:
    """How much is tried: the first number in CI, the second in `make test-slow`."""
    return lambda sample, full: full if PAGE else sample


@pytest.fixture(scope="session")
def figure() -> Callable[[str, object, str], None]:
    """Note an item of the list: what was done, how often, and what was measured. The first names the item."""

    def note(done: str, times: object, result: str) -> None:
        ITEMS[done] = f"- **{done}** ({times}): {result}"

    return note


@pytest.fixture(scope="module")
def tried(request: pytest.FixtureRequest, figure: Callable[[str, object, str], None]) -> Iterator[Counter]:
    """What a module counts for its `FIGURES`, items of the list with the names of the counts in braces."""
    counts: Counter = Counter()
    yield counts
    for item in request.module.FIGURES:
        figure(*(part.format_map(counts) for part in item))


def update_list(text: str) -> str:
    """The page with the items: each in the place of the one it names, new ones before the first."""
    lines, new = text.splitlines(), dict(ITEMS)
    lines = [new.pop(line.split("** (")[0].removeprefix("- **"), line) for line in lines]
    start = next(number for number, line in enumerate(lines) if line.startswith("- **"))
    return "\n".join([*lines[:start], *new.values(), *lines[start:]]) + "\n"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    if ITEMS:
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(ITEMS.values()))
        if exitstatus == 0 and PAGE:
            page = Path(PAGE)
            page.write_text(update_list(page.read_text(encoding="utf-8")), encoding="utf-8")
