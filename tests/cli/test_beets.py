"""The plugin in the real beets, with its real database: what is imported has moods, and queries find it by them."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import beetsplug
import pytest
from beets.library import Album, Item
from beetsplug.jamendomood import FIELDS, PREFIX, name_field

from jamendo_mood.tagging.prediction import predict

pytest_plugins = ["demo_corpus"]

SONGS = range(0, 20, 4)


@dataclass(frozen=True)
class Home:
    """Somebody's beets, its configuration and database, and their music."""

    folder: Path
    music: Path

    def configure(self, **options):
        """Write the options of the plugin; JSON is YAML too."""
        named = {"plugins": ["jamendomood"], "directory": str(self.music), "library": str(self.folder / "library.db")}
        (self.folder / "config.yaml").write_text(json.dumps({**named, "jamendomood": options}))

    def beet(self, *arguments, status=0):
        """Run `beet`; what it printed, and the lines of the plugin."""
        done = subprocess.run(
            [sys.executable, "-m", "beets", *map(str, arguments)],
            env={**os.environ, "BEETSDIR": str(self.folder)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done.stdout, [line for line in done.stderr.splitlines() if "jamendomood" in line]

    def find(self, *query):
        """The names of the files that a query finds."""
        printed, said = self.beet("ls", "-f", "$path", *query)
        assert said == []
        return {Path(line).name for line in printed.splitlines()}

    def fields(self):
        """What the database has of each file beside beets' own columns, by the file's name."""
        query = "SELECT path, key, value FROM items JOIN item_attributes ON items.id = item_attributes.entity_id"
        found = defaultdict(dict)
        with closing(sqlite3.connect(self.folder / "library.db")) as database:
            for path, key, value in database.execute(query):
                found[Path(os.fsdecode(path)).name][key] = value
        return found

    def sounds(self):
        """What is in the files."""
        return {path: path.read_bytes() for path in self.music.rglob("*.mp3")}


def make_home(folder, corpus, **options):
    home = Home(folder / "beets", folder / "music")
    home.folder.mkdir(parents=True)
    home.configure(**options)
    for number in SONGS:
        target = home.music / corpus.songs[number].path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus.path(number), target)
    return home


def moods_of(fields):
    return fields["mood"].split("; ") if "mood" in fields else []


@pytest.fixture
def told(corpus, corpus_tagger, logmel):
    """What the tagger says of each song, by the file's name."""
    return {corpus.path(number).name: predict(corpus.path(number), corpus_tagger, logmel) for number in SONGS}


def test_what_is_imported_has_moods_and_is_found_by_them(tmp_path, corpus, tagger_folder, told):
    home = make_home(tmp_path, corpus, tagger=str(tagger_folder))
    before = home.sounds()
    home.beet("import", "--quiet", "-A", "-C", home.music)
    assert home.sounds() == before
    fields = home.fields()
    assert fields.keys() == told.keys()
    for name, prediction in told.items():
        best = prediction.top(len(prediction.targets))
        assert moods_of(fields[name]) == [target for target, _, decided in best if decided]
        numbers = {PREFIX + target: score for target, score, _ in best}
        if prediction.place is not None:
            numbers |= prediction.place._asdict()
        for field, number in numbers.items():
            assert float(fields[name][field]) == pytest.approx(number, abs=1e-3)
    mood = next(moods_of(own)[0] for own in fields.values() if moods_of(own))
    having = {name: own for name, own in fields.items() if mood in moods_of(own)}
    assert home.find(f"mood:{mood}") == {*having}
    lows = sorted(float(own["arousal"]) for own in having.values() if "arousal" in own)
    middle = lows[len(lows) // 2]
    calmer = {name for name, own in having.items() if float(own.get("arousal", 2)) <= middle}
    assert home.find(f"mood:{mood}", f"arousal:..{middle}") == calmer
    scores = {name: float(own[PREFIX + mood]) for name, own in fields.items()}
    highest = max(scores.values())
    assert home.find(f"{PREFIX}{mood}:{highest}..") == {name for name, score in scores.items() if score == highest}


@pytest.mark.thorough
def test_the_command_tags_what_has_no_moods_yet_and_goes_on_after_a_file_that_cannot_be_tagged(
    tmp_path, corpus, tagger_folder
):
    home = make_home(tmp_path, corpus, auto=False, tagger=str(tagger_folder))
    home.beet("import", "--quiet", "-A", "-C", home.music)
    assert not any(name.startswith(PREFIX) for fields in home.fields().values() for name in fields)
    damaged, gone, *sound = sorted(home.music.rglob("*.mp3"))
    damaged.write_bytes(b"\0" * 5000)
    gone.unlink()
    home.beet("modify", "--yes", "--nowrite", "--nomove", "mood=mine", f"path:{sound[0]}")
    before = home.sounds()
    _, said = home.beet("jamendomood", status=1)
    assert home.sounds() == before
    assert {*home.fields()} == {path.name for path in sound}
    for path in (damaged, gone):
        assert sum(str(path) in line for line in said) == 1
    assert said[-1] == f"error: jamendomood: 2 files of {len(SONGS)} could not be tagged"
    assert len(said) == len(SONGS) + 1
    assert moods_of(home.fields()[sound[0].name]) == ["mine"]  # what was there stays, until --force
    assert home.beet("jamendomood", f"path:{sound[0].parent}")[1] == []
    _, (said,) = home.beet("jamendomood", "--force", f"path:{sound[0]}")
    assert str(sound[0]) in said
    assert moods_of(home.fields()[sound[0].name]) != ["mine"]


@pytest.mark.thorough
def test_another_tagger_takes_the_place_of_the_first(tmp_path, corpus, tagger_folder, corpus_tagger):
    """Also: its folder may be named as seen from beets' own, and a tagger that ranks names its three highest."""
    home = make_home(tmp_path, corpus, tagger=str(tagger_folder))
    home.beet("import", "--quiet", "-A", "-C", home.music)
    count = len(corpus_tagger.task.targets)
    names = ("Easy listening", *(f"other {number}" for number in range(1, count)))
    task = replace(corpus_tagger.task, targets=names)
    ranking = replace(corpus_tagger, task=task, thresholds=corpus_tagger.thresholds + float("inf"))
    ranking.save(home.folder / "taggers" / "ranking")
    home.configure(tagger="taggers/ranking", threads=1)
    home.beet("jamendomood", "--force")
    for fields in home.fields().values():
        scores = {name: float(value) for name, value in fields.items() if name.startswith(PREFIX)}
        assert {*scores} == {name_field(name) for name in names}
        best = [scores[name_field(name)] for name in moods_of(fields)]
        assert best == sorted(scores.values(), reverse=True)[:3]
        assert not {"valence", "arousal"} & {*fields}  # no place on the plane is known for such names
    assert "moodscore_easy_listening" in scores
    everything = {path.name for path in home.music.rglob("*.mp3")}
    assert home.find("moodscore_easy_listening:0..1") == everything


@pytest.mark.thorough
def test_without_its_tagger_beets_works_and_says_so_once(tmp_path, corpus):
    home = make_home(tmp_path, corpus, tagger=str(tmp_path / "nowhere"))
    _, (said,) = home.beet("import", "--quiet", "-A", "-C", home.music)
    assert f"{tmp_path / 'nowhere'}: no tagger there" in said
    assert (len(home.find("arousal:..1")), len(home.find())) == (0, len(SONGS))
    _, (said,) = home.beet("jamendomood", status=1)
    assert said.startswith(f"error: jamendomood: {tmp_path / 'nowhere'}: no tagger there")


def test_our_fields_are_not_those_of_beets():
    assert not any(name.startswith(PREFIX) or name in FIELDS for name in {*Item.all_keys(), *Album.all_keys()})
    own = [path for folder in beetsplug.__path__ for path in Path(folder).rglob("*.py") if "jamendo" not in path.name]
    assert len(own) > 50
    for path in own:
        assert PREFIX not in path.read_text(encoding="utf-8"), path
