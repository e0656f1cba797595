import contextlib
import importlib
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jamendo_mood.util import process
from jamendo_mood.util.process import import_quietly

BOTH = [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]


@pytest.fixture
def hearing():
    """Signals as a program has that a terminal starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with process.caught():
        yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "word"), BOTH)
def test_a_signal_is_an_exception_that_tells_which_and_so_is_what_a_library_makes_of_it(hearing, number, word):
    """TensorFlow's contexts complain that they were not left in order."""
    process.announce("nothing is lost")
    assert not process.is_meant(AssertionError())
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert process.is_meant(AssertionError())
    assert process.describe() == (f"{word}; nothing is lost", 128 + number)


def test_python_s_own_is_told_as_one_from_the_keyboard(hearing):
    assert process.is_meant(KeyboardInterrupt())
    assert process.describe() == ("interrupted; nothing was begun", 130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_do_not_interrupt_the_clean_up_unless_it_hangs(hearing, number, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    now[0] += process.CLEAN_UP_S - 0.1
    signal.raise_signal(number)
    now[0] += 0.2
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_afterwards_signals_are_what_they_were():
    def state():
        return [signal.getsignal(number) for number, _ in BOTH], len(list(Path("/dev/fd").iterdir()))

    before = state()
    with process.caught():
        caught = state()
        with process.caught():  # a command that runs another
            pass
        assert state() == caught != before
    assert state() == before


def test_what_runs_in_the_background_stays_deaf_to_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with process.caught():
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from jamendo_mood.util import process
process.catch()
process.announce("all is well")
sys.path.insert(0, sys.argv[1])
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # as while TensorFlow is imported
import raises_a_signal
"""


@pytest.mark.parametrize(("number", "word"), BOTH)
def test_in_an_import_the_process_ends_with_that_line_alone(tmp_path, number, word):
    module = f"import signal\ntry:\n    signal.raise_signal({number:d})\nexcept BaseException:\n    print('lost')\n"
    (tmp_path / "raises_a_signal.py").write_text(module)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"{word}; all is well\n")


def test_when_all_is_done_signals_are_passed_over():
    program = "import signal; from jamendo_mood.util import process; process.ignore(); "
    program += "signal.raise_signal(signal.SIGTERM); signal.raise_signal(signal.SIGINT); print('still there')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "still there\n"


@pytest.mark.parametrize("fails", [False, True])
def test_an_import_is_silent_and_stderr_comes_back(monkeypatch, capfd, fails):
    def import_module(name):
        os.write(2, b"I0000 cpu_feature_guard.cc\n")
        if fails:
            raise ImportError(f"no {name}")
        return name

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(ImportError, match="no not_there") if fails else contextlib.nullcontext():
        assert import_quietly("not_there") == "not_there"
    os.write(2, b"heard again\n")
    assert capfd.readouterr() == ("", "heard again\n")


def test_in_another_thread_stderr_is_left_alone(monkeypatch, capfd):
    """It is the process's: what others write meanwhile must not be lost."""
    monkeypatch.setattr(importlib, "import_module", lambda name: os.write(2, b"a line of C++\n") and name)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(import_quietly, "not_there").result() == "not_there"
    assert capfd.readouterr().err == "a line of C++\n"


def test_a_log_level_of_the_users_own_stays_and_what_is_imported_already_is_given_as_it_is(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: name)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert import_quietly("math") is math
    import_quietly("not_there")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    import_quietly("not_there")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
