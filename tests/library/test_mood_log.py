"""The emotions that were asked for: remembered, read, drawn and forgotten."""

import csv
import datetime
import io
import json
import stat

import pytest

from jamendo_mood.library import mood_log
from jamendo_mood.library.mood_log import FORMATS, Wish, default_path, forget, read, remember, wish_for
from jamendo_mood.tagging.emotions import EMOTIONS, Place
from jamendo_mood.util.errors import UsageError

TIME = datetime.datetime(2026, 11, 21, 8, 30, tzinfo=datetime.timezone.utc)
JOY = Wish(TIME, "joy", 0.8, 0.5, "emotion")
SADNESS = Wish(TIME + datetime.timedelta(hours=1), "sadness", -0.8, -0.4, "to-emotion")


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "jamendo-mood" / "emotions.jsonl"


def test_what_was_remembered_is_read_again_by_its_owner_until_it_is_forgotten(path):
    assert read() == ([], [])
    assert remember([JOY]) == default_path() == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    remember([SADNESS, JOY])
    assert read() == ([JOY, SADNESS, JOY], [])
    assert forget() is True
    assert not path.exists()
    assert forget() is False


def test_what_was_remembered_where_a_link_leads_is_forgotten_there(path, tmp_path):
    kept = tmp_path / "synced.jsonl"
    path.parent.mkdir(parents=True)
    path.symlink_to(kept)
    remember([JOY])
    assert forget() is True
    assert not kept.exists()
    remember([SADNESS])
    assert path.is_symlink()
    assert read()[0] == [SADNESS]


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_it_lies_in_the_users_data_folder(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", value)
    assert default_path() == tmp_path / "home" / ".local" / "share" / "jamendo-mood" / "emotions.jsonl"


@pytest.mark.parametrize("torn", [b'{"time": "2026-11-21T08', b"\xff\xfe", b"{}"])
def test_a_line_that_was_cut_short_is_passed_over_and_spoils_no_other(path, torn):
    remember([JOY])
    path.write_bytes(path.read_bytes() + torn)
    assert read() == ([JOY], [f"{path}, line 2 is skipped: it was cut short"])
    remember([SADNESS])
    wishes, (problem,) = read()
    assert wishes == [JOY, SADNESS]
    assert f"{path}, line 2" in problem


def line(**changes):
    return json.dumps({**mood_log.as_rows([JOY])[0], **changes})


WRONG = {"emotion": ["bliss", []], "valence": [1.5, float("nan")], "arousal": ["0.5"], "asked_by": [3], "more": [1]}
WRONG["time"] = ["yesterday", 5, "2026-11-21T08:30:00", "0001-01-01T00:00:00+23:00"]


@pytest.mark.parametrize(
    "wrong",
    ["hello", "[1, 2]", '{"time": 1}', *(line(**{name: value}) for name, values in WRONG.items() for value in values)],
)
def test_a_line_that_is_wrong_is_named_and_passed_over(path, wrong):
    path.parent.mkdir(parents=True)
    elsewhere = line(time="2026-11-21T09:30:00+01:00")  # in another zone
    path.write_text(f"{line()}\n\n{wrong}\n{elsewhere}\n", encoding="utf-8")
    assert read() == ([JOY, JOY], [f"{path}, line 3 is skipped: it is not an emotion that was asked for"])


def test_what_cannot_be_written_read_or_deleted_is_told(path):
    path.mkdir(parents=True)
    for call, message in ((lambda: remember([JOY]), "written"), (read, "read"), (forget, "deleted")):
        with pytest.raises(UsageError, match=f"cannot be {message}"):
            call()


def test_a_place_is_called_what_was_asked_for_or_what_lies_there():
    assert wish_for(EMOTIONS["grief"].place, "at", TIME) == Wish(TIME, "grief", -0.9, -0.2, "at")
    assert wish_for(Place(0.1, 0.1), "at", TIME).emotion == "neutral"
    assert wish_for(Place(0.1234567, 0.1), "emotion", TIME, "joy") == Wish(TIME, "joy", 0.123, 0.1, "emotion")


def test_a_history_is_written_down():
    one, other = FORMATS["table"]([JOY, SADNESS]).splitlines()
    assert one == f"{TIME.astimezone():%Y-%m-%d %H:%M}  joy            valence +0.80  arousal +0.50  emotion"
    assert other.endswith("  sadness        valence -0.80  arousal -0.40  to-emotion")
    row = {"time": "2026-11-21T08:30:00+00:00", "emotion": "joy", "valence": 0.8, "arousal": 0.5, "asked_by": "emotion"}
    assert json.loads(FORMATS["json"]([JOY])) == [row]
    assert list(csv.DictReader(io.StringIO(FORMATS["csv"]([JOY])))) == [{key: str(value) for key, value in row.items()}]
    empty = {name: write([]) for name, write in FORMATS.items()}
    assert empty == {"table": "", "json": "[]\n", "csv": "time,emotion,valence,arousal,asked_by\n"}


@pytest.mark.parametrize("count", [1, 2, 60])
def test_curves_are_drawn_and_the_ends_of_a_path_named_together(count, no_pyplot):
    hours = [TIME + datetime.timedelta(hours=n) for n in range(count)]
    wishes = [Wish(time, "joy", (n % 5) / 5, -(n % 7) / 7, "emotion") for n, time in enumerate(hours)]
    figure = mood_log.plot_history(wishes[::-1])
    (axes,) = figure.axes
    curves = {line.get_label(): [*line.get_ydata()] for line in axes.lines}
    for name in ("valence", "arousal"):
        assert curves[name] == [getattr(wish, name) for wish in wishes]  # in the order of time
    assert 0 < len(axes.texts) <= min(count, mood_log.MAX_NAMES + 1)
    assert figure._repr_png_().startswith(b"\x89PNG")
    ends = [Wish(TIME, "sadness", -0.8, -0.4, "emotion"), Wish(TIME, "joy", 0.8, 0.5, "to-emotion")]
    later = Wish(TIME + datetime.timedelta(days=1), "neutral", 0.0, 0.0, "emotion")
    (axes,) = mood_log.plot_history([*ends, later]).axes
    assert [text.get_text() for text in axes.texts] == ["sadness → joy", "neutral"]
