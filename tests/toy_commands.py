"""A pytest plugin: the command line as its users meet it.

A test file that runs commands says ``pytest_plugins = ["toy_commands"]``.
"""

import json
import re
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

    def check_error(self, command: str, message: str) -> None:
        """That it was wrong use, and that one line says so; `message` is a regular expression."""
        assert (self.status, self.out, self.err.count("\n")) == (2, "", 1), self.err
        line = self.err.rpartition("\r")[2]  # a progress bar that was wiped out again may stand before it
        assert re.match(rf"jamendo-mood( {command})?: .*{message}", line), line

    @property
    def keys(self) -> list[str]:
        """Of the tracks in a list as JSON."""
        assert self.status == 0, self.err
        return [track["key"] for track in json.loads(self.out)]


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
