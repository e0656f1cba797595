"""Faults, load and hostile files: samples of them in `make test` and `make test-all`, all of them in `make test-slow`.

The latter sets `JAMENDO_MOOD_FAULTS` to the page whose list gets the figures, docs/reliability.md.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, configuration, settings
from reliability_page import update_list, write_item

PAGE_VARIABLE = "JAMENDO_MOOD_FAULTS"
FIGURES = pytest.StashKey[dict[str, str]]()

# A sample is the same every time. All of them are new ones; Hypothesis prints the seed of a test that fails.
common = {
    "deadline": None,
    "database": None,
    "phases": [phase for phase in Phase if phase is not Phase.explain],  # which traces every line, for minutes
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("sample", derandomize=True, **common)
settings.register_profile("full", derandomize=False, print_blob=True, **common)
settings.load_profile("full" if PAGE_VARIABLE in os.environ else "sample")
configuration.set_hypothesis_home_dir(Path(__file__).parents[2] / "build/hypothesis")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = {}


@pytest.fixture(scope="session")
def amount() -> Callable[[int, int], int]:
    """How much is tried: the first number in CI, the second in `make test-slow`."""
    return lambda sample, full: full if PAGE_VARIABLE in os.environ else sample


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Callable[[str, object, str], None]:
    """Note an item of the list: what was done, how often, and what was measured. The first names the item."""

    def note(done: str, times: object, result: str) -> None:
        pytestconfig.stash[FIGURES][done] = write_item(done, times, result)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    items = config.stash.get(FIGURES, {})
    if items:
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(items.values()))
    if items and exitstatus == 0 and PAGE_VARIABLE in os.environ:
        page = Path(os.environ[PAGE_VARIABLE])
        page.write_text(update_list(page.read_text(encoding="utf-8"), items), encoding="utf-8")
