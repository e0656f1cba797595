"""TensorFlow, without the lines it logs at its start from C++, which neither its log level nor Python can stop."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def import_quietly(name: str) -> Any:
    """Import ``tensorflow``, ``keras`` or ``tensorflow_hub``; what the import writes to stderr goes nowhere.

    A log level that the user has set (``TF_CPP_MIN_LOG_LEVEL``) stays; else only fatal errors are logged.
    """
    if name in sys.modules:
        return sys.modules[name]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        return importlib.import_module(name)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
