"""The emotions that were asked for: remembered, read, drawn and forgotten."""

import csv
import datetime
import fcntl
import io
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jamendo_mood.library import mood_log
from jamendo_mood.library.mood_log import (
    FORMATS,
    MAX_NAMES,
    History,
    Wish,
    default_path,
    forget,
    plot_history,
    read,
    remember,
    wish_for,
)
from jamendo_mood.tagging.emotions import EMOTIONS, Place
from jamendo_mood.util.errors import DiskFullError, UsageError

TIME = datetime.datetime(2026, 11, 21, 8, 30, tzinfo=datetime.timezone.utc)
JOY = Wish(TIME, "joy", 0.8, 0.5, "emotion")
SADNESS = Wish(TIME + datetime.timedelta(hours=1), "sadness", -0.8, -0.4, "to-emotion")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "jamendo-mood" / "emotions.jsonl"


def test_what_was_remembered_is_read_again_by_its_owner_until_it_is_forgotten(path):
    assert read(path) == History(())
    assert remember([JOY], path) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    remember([SADNESS, JOY], path)
    assert read(path) == History((JOY, SADNESS, JOY))
    assert forget(path) is True
    assert not path.exists()
    assert forget(path) is False
    remember([SADNESS], path)
    assert read(path).wishes == (SADNESS,)


def test_what_was_remembered_where_a_link_leads_is_forgotten_there(path, tmp_path):
    kept = tmp_path / "synced.jsonl"
    path.parent.mkdir(parents=True)
    path.symlink_to(kept)
    remember([JOY], path)
    assert forget(path) is True
    assert not kept.exists()
    remember([SADNESS], path)
    assert path.is_symlink()
    assert read(path).wishes == (SADNESS,)
    path.write_text(line(time="2026-11-21T09:30:00+01:00") + "\n", encoding="utf-8")  # times of other zones
    assert read(path).wishes == (JOY,)
    now = mood_log.now()
    assert (now.utcoffset(), now.microsecond) == (datetime.timedelta(0), 0)


def test_it_lies_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "jamendo-mood" / "emotions.jsonl"
    remember([JOY])
    assert read().wishes == (JOY,)
    assert list(tmp_path.rglob("*.jsonl")) == [default_path()]
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_DATA_HOME", value)
        assert default_path() == tmp_path / "home" / ".local" / "share" / "jamendo-mood" / "emotions.jsonl"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_path().is_relative_to(tmp_path / "home")


@pytest.mark.parametrize("torn", [b'{"time": "2026-11-21T08', b"\xff\xfe", b"{}"])
def test_a_line_that_was_cut_short_is_passed_over_and_spoils_no_other(path, torn):
    remember([JOY], path)
    path.write_bytes(path.read_bytes() + torn)
    kept = read(path)
    assert kept.wishes == (JOY,)
    assert kept.problems == (f"{path}, line 2 is skipped: it was cut short",)
    remember([SADNESS], path)
    kept = read(path)
    assert kept.wishes == (JOY, SADNESS)
    assert len(kept.problems) == 1
    assert f"{path}, line 2" in kept.problems[0]


def line(**changes):
    return json.dumps({**mood_log.as_rows([JOY])[0], **changes})


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("hello", "not JSON"),
        ("[1, 2]", "not an object with time, emotion, valence, arousal, asked_by"),
        ('{"time": 1}', "not an object with"),
        (line(more=1), "not an object with"),
        (line(emotion="bliss"), "unknown emotion 'bliss'"),
        (line(emotion=[]), "unhashable"),
        (line(valence=1.5), "valence 1.5 is not a number from -1 to 1"),
        (line(arousal="0.5"), "arousal '0.5' is not a number"),
        (line(arousal=True), "arousal True is not a number"),
        (line(valence=float("nan")), "valence nan is not a number"),
        (line(time="yesterday"), "yesterday"),
        (line(time=5), "fromisoformat"),
        (line(time="2026-11-21T08:30:00"), "a time without its zone"),
        (line(asked_by=3), "asked_by is not text"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_passed_over(path, wrong, why):
    path.parent.mkdir(parents=True)
    path.write_text(f"{line()}\n\n{wrong}\n{line()}\n", encoding="utf-8")
    kept = read(path)
    assert kept.wishes == (JOY, JOY)
    (problem,) = kept.problems
    assert problem.startswith(f"{path}, line 3 is skipped: ")
    assert why in problem


APPEND = """
import sys
from pathlib import Path
from jamendo_mood.library import mood_log
wish = mood_log.wish_for(mood_log.Place(0.8, 0.5), sys.argv[2] * 200, mood_log.now())
for _ in range(100):
    mood_log.remember([wish, wish], Path(sys.argv[1]))
"""


def test_two_processes_write_whole_lines(path):
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), name]) for name in "ab"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    kept = read(path)
    assert kept.problems == ()
    names = [wish.asked_by for wish in kept.wishes]
    assert len(names) == 400
    assert set(names) == {"a" * 200, "b" * 200}
    assert all(one == other for one, other in zip(names[::2], names[1::2], strict=True))  # a call's lines stay together


def test_a_file_deleted_while_a_writer_waited_is_made_anew(path, monkeypatch):
    remember([JOY], path)
    lock = fcntl.flock
    calls = []

    def flock(file, how):
        if not calls:
            forget(path)
        calls.append(file)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    remember([SADNESS], path)
    assert len(calls) == 2
    assert read(path).wishes == (SADNESS,)


def test_a_disk_that_is_full_leaves_what_was_there(path, monkeypatch):
    remember([JOY], path)
    before = path.read_bytes()
    write = mood_log.os.write
    monkeypatch.setattr(mood_log.os, "write", lambda file, content: write(file, content[:10]))
    with pytest.raises(DiskFullError, match=r"emotions.jsonl: no space left on the disk"):
        remember([SADNESS], path)
    assert path.read_bytes() == before


def test_what_cannot_be_written_read_or_deleted_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        remember([JOY], tmp_path / "file" / "emotions.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "folder")
    with pytest.raises(UsageError, match="cannot be deleted"):
        forget(tmp_path / "folder")


def test_a_place_is_called_what_was_asked_for_or_what_lies_there():
    assert wish_for(EMOTIONS["grief"].place, "at", TIME) == Wish(TIME, "grief", -0.9, -0.2, "at")
    assert wish_for(Place(0.1, 0.1), "at", TIME).emotion == "neutral"
    assert wish_for(Place(0.1234567, 0.1), "emotion", TIME, "joy") == Wish(TIME, "joy", 0.123, 0.1, "emotion")


def test_a_history_is_written_down(monkeypatch):
    one, other = FORMATS["table"]([JOY, SADNESS]).splitlines()
    assert one == f"{TIME.astimezone():%Y-%m-%d %H:%M}  joy            valence +0.80  arousal +0.50  emotion"
    assert other.endswith("  sadness        valence -0.80  arousal -0.40  to-emotion")
    row = {"time": "2026-11-21T08:30:00+00:00", "emotion": "joy", "valence": 0.8, "arousal": 0.5, "asked_by": "emotion"}
    assert json.loads(FORMATS["json"]([JOY])) == [row]
    assert list(csv.DictReader(io.StringIO(FORMATS["csv"]([JOY])))) == [{key: str(value) for key, value in row.items()}]
    assert FORMATS["table"]([]) == ""
    assert json.loads(FORMATS["json"]([])) == []
    assert FORMATS["csv"]([]) == "time,emotion,valence,arousal,asked_by\n"


def test_nothing_of_it_is_loaded_or_written_by_importing(tmp_path):
    program = "import jamendo_mood.library.mood_log, jamendo_mood.cli.main"
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        env={"XDG_DATA_HOME": str(tmp_path), "PATH": "", "HOME": "/"},
        cwd=Path(mood_log.__file__).parents[2],
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2, 60])
def test_curves_are_drawn_and_the_ends_of_a_path_named_together(count, no_pyplot):
    wishes = [
        Wish(TIME + datetime.timedelta(hours=n), "joy", (n % 5) / 5, -(n % 7) / 7, "emotion") for n in range(count)
    ]
    figure = plot_history(wishes[::-1])
    (axes,) = figure.axes
    valence, arousal = (line for line in axes.lines if line.get_label() in ("valence", "arousal"))
    assert valence.get_ydata().tolist() == [wish.valence for wish in wishes]  # in the order of time
    assert arousal.get_ydata().tolist() == [wish.arousal for wish in wishes]
    assert 0 < len(axes.texts) <= min(count, MAX_NAMES + 1)
    assert figure._repr_png_().startswith(b"\x89PNG")
    ends = [Wish(TIME, "sadness", -0.8, -0.4, "emotion"), Wish(TIME, "joy", 0.8, 0.5, "to-emotion")]
    later = Wish(TIME + datetime.timedelta(days=1), "neutral", 0.0, 0.0, "emotion")
    (axes,) = plot_history([*ends, later]).axes
    assert [text.get_text() for text in axes.texts] == ["sadness → joy", "neutral"]
