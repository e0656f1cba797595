"""What options take, and what they say of the rest."""

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from jamendo_mood.cli import shared


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("positive", "3", 3),
        ("whole", "0", 0),
        ("setting", "dropout=0.3", ("dropout", "0.3")),
        ("shard", "2/4", (2, 4)),
        ("level", "calm=0.8", ("calm", 0.8)),
        ("level", "Happy music=1", ("Happy music", 1.0)),
        ("point", "-0.6,.4", (-0.6, 0.4)),
        ("point", "1, -1", (1.0, -1.0)),
        ("gigabytes", "0.5", 0.5),
        ("gpus", "0.5", 0.5),
        ("gpus", "2", 2.0),
        ("path_or_url", "s3://bucket/audio", "s3://bucket/audio"),
        ("path_or_url", "file:///a/b", Path("/a/b")),
        ("path_or_url", "a//b", Path("a/b")),
    ],
)
def test_what_is_right_is_read(name, text, value):
    assert getattr(shared, name)(text) == value


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("positive", ["0", "-1", "x", "", "1.5"]),
        ("whole", ["-1", "x"]),
        ("setting", ["dropout", "=3", "dropout="]),
        ("shard", ["0/4", "5/4", "2", "a/b"]),
        ("level", ["calm", "calm=2", "calm=-0.1", "calm=nan", "calm=much"]),
        ("point", ["0.5", "0,0,0", "2,0", "nan,0", "a,b", ""]),
        ("gigabytes", ["0", "-1", "nan", "inf", "2GB", ""]),
        ("gpus", ["0", "-1", "1.5", "nan", "inf", "one"]),
    ],
)
def test_what_is_wrong_is_named(name, texts):
    for text in texts:
        with pytest.raises(ArgumentTypeError) as error:
            getattr(shared, name)(text)
        assert repr(text) in str(error.value)
