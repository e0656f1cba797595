"""A pytest plugin: the command line as its users meet it.

A test file that runs commands says ``pytest_plugins = ["toy_commands"]``.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from jamendo_mood.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def start(*arguments: object) -> Outcome:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return Outcome(status, *capfd.readouterr())

    return start


@pytest.fixture
def run_apart() -> Callable[..., Outcome]:
    """Run a command in a process of its own, as a shell does."""

    def start(*arguments: object, **options: Any) -> Outcome:
        command = [sys.executable, "-m", "jamendo_mood", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return start
