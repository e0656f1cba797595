"""Which moods are written into files, and what happens to files: changed whole, left as they are, put back."""

import json
import os
import shutil
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TMOO
from toy_examples import CLASSES
from toy_moods import LONG_AGO_S, make_tagger, put

from jamendo_mood.audio.file_tags import MARK, MOOD, Mark, read_fields, read_moods
from jamendo_mood.library import writing
from jamendo_mood.library.writing import AROUSAL, VALENCE, Rules, choose_moods, keep_journal, plan, plan_undo
from jamendo_mood.util.errors import AudioError, UsageError

SCORES = np.array([0.9, 0.6, 0.8, 0.7], np.float32)
WORDS = {"happy": "happy", "Sad music": "Sad", "calm": "calm", "dark": "dark"}
ALL = Rules(WORDS)
TAGGER = make_tagger()
RANKING = make_tagger(thresholds=np.inf)


# ---- Which moods.


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (ALL, {"happy": "good", "calm": "weak", "dark": "unknown", "Sad": "fair"}),  # the highest first
        (Rules(WORDS, most=2), {"happy": "good", "calm": "weak"}),
        (Rules({"calm": "still", "dark": ""}), {"still": "weak"}),
        (Rules({"happy": "up", "Sad music": "up"}), {"up": "good"}),
    ],
)
def test_what_is_reached_is_written_by_its_word(rules, expected):
    assert [*choose_moods(TAGGER, SCORES, rules).items()] == [*expected.items()]
    assert not choose_moods(TAGGER, SCORES / 10, rules)


def test_a_tagger_that_only_ranks_names_the_highest_above_a_typical_song():
    assert [*choose_moods(RANKING, SCORES, ALL)] == ["happy", "calm", "dark"]
    assert [*choose_moods(RANKING, SCORES - 0.25, ALL)] == ["happy", "calm"]


def test_a_class_is_a_mood():
    rules = Rules({name: name for name in CLASSES.targets})
    assert [*choose_moods(make_tagger(CLASSES), np.array([0.2, 0.5, 0.3], np.float32), rules)] == ["east"]


# ---- What would change.


@pytest.fixture(scope="module")
def made(make_audio, tone, tmp_path_factory):
    return [make_audio(tmp_path_factory.mktemp("made") / f"song.{kind}", tone(seconds=1.0)) for kind in ("mp3", "flac")]


@pytest.fixture(params=[0, pytest.param(1, marks=pytest.mark.thorough)], ids=["mp3", "flac"])
def song(request, made, tmp_path):
    """A song that nobody has written to for long."""
    return put(made[request.param], tmp_path / made[request.param].name)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(writing, "PAUSE_S", 0.0)


def age(path):
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path


def person_writes(path, *moods):
    """What another program does."""
    audio = FLAC(path) if path.suffix == ".flac" else ID3(path)
    if path.suffix == ".flac":
        audio["MOOD"] = list(moods)
    else:
        audio.setall("TMOO", [TMOO(encoding=3, text=list(moods))])
    audio.save()
    age(path)


def planned(path, *moods, rules=ALL, tagger=TAGGER):
    return plan(path, moods, tagger, SCORES, rules)


def write(path, *moods, rules=ALL, **options):
    """Plan and change; what was planned, and what went wrong."""
    change = planned(path, *moods, rules=rules)
    return change, "".join(writing.apply([change], **options)) if change.after else ""


def moods_in(path):
    return read_fields(path, [MOOD])[0][MOOD]


def test_what_a_person_wrote_stays_and_ours_are_replaced(song):
    person_writes(song, "road trip", "Happy", "a; b")
    write(song, "happy", "calm")
    assert moods_in(song) == ["road trip", "Happy", "a; b", "calm"]
    assert read_moods(song) == (("road trip", "Happy", "a", "b"), ("calm",))
    write(age(song), "dark")
    assert moods_in(song) == ["road trip", "Happy", "a; b", "dark"]
    write(age(song))
    assert moods_in(song) == ["road trip", "Happy", "a; b"]
    assert read_fields(song, [MARK])[0] == {MARK: []}


def test_writing_twice_changes_nothing_whatever_the_order_and_valence_and_arousal_have_fields(song):
    rules = Rules(WORDS, place=True)
    change, _ = write(song, "happy", "calm", rules=rules)
    assert change.after.keys() == {MOOD, MARK, VALENCE, AROUSAL}
    fields = read_fields(song, [VALENCE, AROUSAL])[0]
    assert all(-1 <= float(value) <= 1 and len(value.partition(".")[2]) == 2 for (value,) in fields.values())
    assert not planned(song, "calm", "happy", rules=rules).after
    person_writes(song, "calm", "mine", "happy")
    assert not planned(song, "happy", "calm").after


def test_a_mood_that_a_person_removed_is_not_written_again_and_one_that_a_person_writes_too_is_theirs(song):
    write(song, "happy", "calm")
    person_writes(song, "calm")
    assert not planned(song, "happy", "calm").after
    write(song, "happy", "dark")
    assert moods_in(song) == ["dark"]
    assert not planned(age(song), "HAPPY", "dark").after
    assert read_moods(song) == ((), ("dark",))
    person_writes(song, "dark", "Dark")
    write(song, "dark")
    assert (moods_in(song), read_moods(song)) == (["Dark"], (("Dark",), ()))


def test_moods_in_one_value_with_a_separator(song):
    person_writes(song, "mine")
    rules = Rules(WORDS, separator=" / ")
    write(song, "happy", "calm", rules=rules)
    assert moods_in(song) == ["mine / happy / calm"]
    assert read_moods(song) == (("mine",), ("calm", "happy"))
    assert not planned(song, "happy", "calm", rules=rules).after
    person_writes(song, "mine / calm / other")  # who removes one of ours
    write(song, "happy", "calm", "dark", rules=rules)
    assert moods_in(song) == ["mine / other / calm / dark"]


def test_a_field_of_another_name_is_apart(song):
    write(song, "happy")
    write(age(song), "calm", rules=Rules(WORDS, field="MY_MOODS"))
    assert read_moods(song) == ((), ("happy",))
    assert read_moods(song, "MY_MOODS") == ((), ("calm",))


# ---- Files that change, and files that must not.


def test_permissions_stay_and_times_if_asked(song):
    song.chmod(0o640)
    before = song.stat()
    assert write(song, "happy", keep_times=True)[1] == ""
    after = song.stat()
    assert (after.st_mtime_ns, after.st_mode, after.st_uid) == (before.st_mtime_ns, before.st_mode, before.st_uid)
    assert after.st_ino != before.st_ino
    write(song, "calm")
    assert time.time() - song.stat().st_mtime < 60
    assert stat.S_IMODE(song.stat().st_mode) == 0o640


def test_extended_attributes_stay(song):
    try:
        os.setxattr(song, "user.rating", b"5")
    except (AttributeError, OSError):
        pytest.skip("needs a file system with extended attributes")
    write(song, "happy")
    assert os.getxattr(song, "user.rating") == b"5"


def test_a_link_stays_and_leads_to_the_changed_file_and_drafts_of_killed_runs_go(song):
    link, draft = song.with_name("link"), song.with_name(f".{song.name}-{'0' * 16}.tmp")
    link.symlink_to(song)
    draft.touch()
    assert write(link, "happy")[1] == ""
    assert link.readlink() == song
    assert not song.is_symlink()
    assert not draft.exists()
    assert moods_in(song) == ["happy"]


def check_left(song, change, message):
    before = song.read_bytes(), song.stat().st_mtime_ns
    (problem,) = writing.apply([change])
    assert problem.startswith(f"{song}: ")
    assert message in problem
    assert "\n" not in problem
    assert (song.read_bytes(), song.stat().st_mtime_ns) == before
    assert [path.name for path in song.parent.iterdir() if path.name.endswith(".tmp")] == []


MAY_NOT = {
    "it is read-only": lambda song: song.chmod(0o444),
    "hard links": lambda song: os.link(song, song.with_name("other name")),
}


@pytest.mark.parametrize("message", MAY_NOT)
def test_a_file_that_may_not_be_replaced_is_left(song, message):
    change = planned(song, "happy")
    MAY_NOT[message](song)
    check_left(song, change, message)
    with pytest.raises(AudioError, match=message):
        planned(song, "happy")
    assert not planned(song).after  # with nothing to change, nothing is wrong


def test_a_file_that_changed_meanwhile_is_left(song):
    change = planned(song, "happy")
    song.write_bytes(song.read_bytes() + bytes(100))
    check_left(song, change, "another program has changed it meanwhile")
    os.utime(song, (5, 5))
    check_left(song, change, "another program has changed it meanwhile")


def test_a_file_that_is_written_to_while_it_is_copied_is_left(song, monkeypatch):
    copyfileobj = shutil.copyfileobj

    def copy_and_grow(source, target, length=0):
        copyfileobj(source, target, length)
        song.write_bytes(song.read_bytes() + bytes(10))

    monkeypatch.setattr(shutil, "copyfileobj", copy_and_grow)
    (problem,) = writing.apply([planned(song, "happy")])
    assert "meanwhile" in problem
    assert read_moods(song) == ((), ())


def test_a_file_that_is_still_being_copied_gets_a_moment(song, monkeypatch):
    monkeypatch.setattr(writing, "PAUSE_S", 0.5)
    content = song.read_bytes()
    song.write_bytes(content)
    change = planned(song, "happy")
    thread = threading.Timer(0.25, lambda: song.write_bytes(content + bytes(10)))
    thread.start()
    (problem,) = writing.apply([change])
    thread.join()
    assert "meanwhile" in problem
    assert song.read_bytes() == content + bytes(10)


def test_of_two_runs_at_once_one_writes(song):
    changes = [planned(song, "happy"), planned(song, "calm")]
    with ThreadPoolExecutor() as pool:
        problems = pool.map(lambda each: "".join(writing.apply([each])), changes)
    assert sorted(map(bool, problems)) == [False, True]
    assert moods_in(song) in (["happy"], ["calm"])


# ---- The journal, and the way back.


@pytest.fixture
def journal(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return writing.new_journal()


def test_a_run_is_undone_but_for_what_changed_since(song, journal, tmp_path):
    songs = [put(song, tmp_path / f"{number}{song.suffix}") for number in range(4)]
    for path in songs:
        person_writes(path, "mine")
    changes = [planned(path, "happy", rules=Rules(WORDS, place=True)) for path in songs]
    keep_journal(journal, changes)
    assert list(writing.apply(changes[:3])) == [""] * 3  # as if it was killed before the fourth
    person_writes(songs[1], "mine", "other")
    songs[2].unlink()
    assert writing.last_journal() == journal
    undo, problems, same = plan_undo(journal)
    assert ([change.path for change in undo], same) == ([songs[0]], 1)
    assert problems == [
        f"{songs[1]}: left as it is: its moods were changed after we wrote them",
        f"{songs[2]}: No such file or directory",
    ]
    assert list(writing.apply(undo)) == [""]
    names = [MOOD, MARK, VALENCE, AROUSAL]
    assert read_fields(songs[0], names)[0] == {MOOD: ["mine"], MARK: [], VALENCE: [], AROUSAL: []}
    assert plan_undo(journal)[2] == 2


def test_a_journal_is_on_the_disk_before_and_never_replaced(song, journal, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino) or fsync(file))
    keep_journal(journal, [planned(song, "happy")])
    assert flushed == [journal.stat().st_ino, journal.parent.stat().st_ino]
    with pytest.raises(UsageError, match="there is such a file"):
        keep_journal(journal, [planned(song, "calm")])


@pytest.mark.parametrize("content", ["", "{}", "[]\n", '{"journal": "jamendo-mood write", "format": 1}\n3\n', "\xff"])
def test_what_is_no_journal_is_told(content, tmp_path):
    (tmp_path / "journal").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="not a journal of `jamendo-mood write`"):
        plan_undo(tmp_path / "journal")


def test_names_of_any_bytes_are_journaled(song, journal):
    odd = Path(os.fsdecode(os.fsencode(song.parent) + b"/na\xff\nme" + os.fsencode(song.suffix)))
    song.rename(odd)
    changes = [planned(odd, "happy")]
    keep_journal(journal, changes)
    list(writing.apply(changes))
    assert [change.path for change in plan_undo(journal)[0]] == [odd]
    assert len(journal.read_text().splitlines()) == 2


def test_the_mark_says_who_wrote(song):
    write(song, "happy")
    (said,) = read_fields(song, [MARK])[0][MARK]
    assert json.loads(said) == {"tagger": "toy", "moods": ["happy"], "separator": "; "}
    assert Mark.read([said]) == Mark("toy", ("happy",))
