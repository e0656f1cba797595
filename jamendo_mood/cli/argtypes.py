"""What the command line's options hold: text -> value, or `ArgumentTypeError` with what it must be."""

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def setting(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def level(text: str) -> tuple[str, float]:
    """``NAME=LEVEL``, the level from 0 to 1."""
    name, level = setting(text)
    try:
        if 0 <= float(level) <= 1:
            return name, float(level)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: a level is a number from 0, the least of all tracks, to 1, the most")


def point(text: str) -> tuple[float, float]:
    """``V,A``, valence and arousal from -1 to 1."""
    try:
        valence, arousal = map(float, text.split(","))
        if -1 <= valence <= 1 and -1 <= arousal <= 1:
            return valence, arousal
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not valence and arousal, two numbers from -1 to 1 such as 0.8,-0.5")


def whole(text: str) -> int:
    """A whole number from 0 up."""
    return 0 if text == "0" else positive(text)


def shard(text: str) -> tuple[int, int]:
    """``I/N``, I from 1 to N."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N with I from 1 to N")
    return int(index), int(count)


def place(text: str) -> Path | str:
    """A path, or a URL as it is; ``file://`` is a path too."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return text if "://" in text else Path(text)


def share(text: str) -> float:
    """GPUs: a number above 0, whole from 1 up."""
    try:
        number = float(text)
        if 0 < number < 1 or (number >= 1 and number.is_integer()):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs, such as 1 or 0.5")


def gigabytes(text: str) -> float:
    """A number of gigabytes above 0."""
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of gigabytes, such as 2 or 0.5")
