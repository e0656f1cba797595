import importlib
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from jamendo_mood.util.process import import_quietly


@pytest.mark.parametrize("fails", [False, True])
def test_an_import_is_silent_and_stderr_comes_back(monkeypatch, capfd, fails):
    def import_module(name):
        os.write(2, b"I0000 cpu_feature_guard.cc\n")
        if fails:
            raise ImportError(f"no {name}")
        return name

    monkeypatch.setattr(importlib, "import_module", import_module)
    if fails:
        with pytest.raises(ImportError, match="no not_there"):
            import_quietly("not_there")
    else:
        assert import_quietly("not_there") == "not_there"
    os.write(2, b"heard again\n")
    assert capfd.readouterr() == ("", "heard again\n")


def test_in_another_thread_stderr_is_left_alone(monkeypatch, capfd):
    """It is the process's: what others write meanwhile must not be lost."""
    monkeypatch.setattr(importlib, "import_module", lambda name: os.write(2, b"a line of C++\n") and name)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(import_quietly, "not_there").result() == "not_there"
    assert capfd.readouterr().err == "a line of C++\n"


def test_what_is_imported_already_is_given_as_it_is():
    assert import_quietly("math") is math is sys.modules["math"]


def test_a_log_level_of_the_users_own_stays(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: name)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    import_quietly("not_there")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    import_quietly("not_there")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
