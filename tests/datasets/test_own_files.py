"""One's own music by the moods in its files' own tags: which of them are labels, and who is the artist."""

import json
import shutil

import pytest
from mutagen.id3 import ID3, TMOO, TPE1
from mutagen.wave import WAVE
from test_loaders import tags_by_id
from toy_class_sets import OWN_FILES, write_own, write_own_files, write_tagged

from jamendo_mood.audio.file_tags import MARK, Mark, read_artist
from jamendo_mood.datasets import load_dataset
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import DataError, UsageError

pytest_plugins = ["demo_corpus", "toy_commands"]

TAGGED = tuple(name for name, _, tags in OWN_FILES if tags)


def load(root):
    return load_dataset("own-files", root)


def write_three(root):
    """Enough to be divided into parts."""
    for name in "xyz":
        write_tagged(root / f"{name}.flac", artist=name, mood=name)
    return root


def mark(*moods):
    return json.dumps(Mark("a tagger", moods)._asdict())


def test_files_say_what_a_table_would(tmp_path):
    files, table = load(write_own_files(tmp_path / "music")), load_dataset("own", write_own(tmp_path))
    labelled = {key: tags for key, tags in tags_by_id(table).items() if tags}  # a file that says nothing is not known
    assert tags_by_id(files) == labelled
    assert {track.key: track.artist for track in files.tracks} == {
        track.key: track.artist for track in table.tracks if track.key in labelled
    }
    assert files.task.targets == table.task.targets
    assert files.remarks == ("too rare to learn, with fewer than 2 tracks each: calm",)


def test_what_we_wrote_is_no_label_and_a_persons_word_is(tmp_path):
    write_three(tmp_path)
    write_tagged(tmp_path / "ours.flac", artist="a", mood=["sad", "calm"], **{MARK: mark("sad", "calm")})
    write_tagged(tmp_path / "added.flac", artist="b", mood=["sad", "happy"], **{MARK: mark("sad")})
    write_tagged(tmp_path / "corrected.flac", artist="c", mood=["happy"], **{MARK: mark("sad", "calm")})
    write_tagged(tmp_path / "agreed.flac", artist="d", mood=["sad", "sad"], **{MARK: mark("sad")})
    dataset = load(tmp_path)
    found = tags_by_id(dataset)
    expected = {"ours": None, "added": {"happy"}, "corrected": {"happy"}, "agreed": {"sad"}}
    assert {key: found.get(key) for key in expected} == expected
    assert "1 files have no moods but those that jamendo-mood wrote: not learned from" in dataset.remarks


def test_spellings_are_one_tag_and_performers_one_artist(tmp_path):
    write_three(tmp_path)
    write_tagged(tmp_path / "a.flac", artist="Ann & Bob", mood=["Caf\u00e9", "calm"])
    write_tagged(tmp_path / "b.flac", artist="bob", mood="cafe\u0301; Calm")
    write_tagged(tmp_path / "c.flac", artist="Cid", mood="CALM ")
    write_tagged(tmp_path / "d.flac", artist="", mood=["Calm", "two\nlines"])
    dataset = load(tmp_path)
    expected = {"a": {"Caf\u00e9", "Calm"}, "b": {"Caf\u00e9", "Calm"}, "c": {"Calm"}, "d": {"Calm"}}
    assert expected.items() <= tags_by_id(dataset).items()
    artist_of = {track.key: track.artist for track in dataset.tracks}
    assert artist_of["a"] == artist_of["b"]
    assert artist_of["d"] == "d"
    assert "1 tracks have no artist: each counts as an artist of its own" in dataset.remarks


def test_a_table_gets_the_artists_of_its_files(run, tmp_path):
    music, table, out = tmp_path / "music", tmp_path / "own.csv", tmp_path / "with.csv"
    for name, artist in (("rock/a", "Ann & Bob"), ("b", "bob"), ("c", "=Cid"), ("d", ""), ("e", "Eve"), ("f", "Flo")):
        write_tagged(music / f"{name}.flac", artist=artist)
    (music / "junk.flac").write_bytes(b"no sound")
    rows = ("rock\\a.flac,,x;y", "b.flac,,x", "c.flac,,y", "d.flac,,x", "e.flac,,x", "f.flac,Ida,x", "junk.flac,,x")
    table.write_text("\n".join(["Path,artist,tags", *rows, "gone.mp3,,y"]))
    done = run("artists", table, music, "--out", out)
    assert done.status == 0, done.err
    unreadable, nameless, written = done.err.splitlines()
    assert written == f"{out} written"
    assert unreadable.startswith(f"2 files have tags that cannot be read, such as {music / 'junk.flac'}: ")
    assert nameless == "3 tracks have no artist: each counts as an artist of its own"
    assert out.read_text().splitlines()[:3] == ["path,artist,tags", "rock\\a.flac,ann & bob,x;y", "b.flac,ann & bob,x"]
    artists = ["ann & bob", "ann & bob", "'=cid", "d", "eve", "ida", "junk", "gone"]
    assert [track.artist for track in load_dataset("own", out).tracks] == artists
    table.write_text("path,class\nb.flac,x\nc.flac,y\n")
    assert run("artists", table, music, "--out", out).status == 0
    assert out.read_text() == "path,class,artist\nb.flac,x,bob\nc.flac,y,'=cid\n"


def test_files_that_cannot_be_read_are_told_and_the_others_learned(tmp_path):
    write_three(tmp_path)
    (tmp_path / "junk.flac").write_bytes(b"no sound")
    dataset = load(tmp_path)
    assert len(dataset.tracks) == 3
    (line,) = (remark for remark in dataset.remarks if "cannot be read" in remark)
    assert line.startswith(f"1 files have tags that cannot be read, such as {tmp_path / 'junk.flac'}: ")


def test_files_without_labels_are_refused_with_what_was_found(tmp_path):
    write_tagged(tmp_path / "a.flac", mood="sad", **{MARK: mark("sad")})
    write_tagged(tmp_path / "b.flac", artist="B")
    with pytest.raises(DataError, match=r"no file .* a mood that a person wrote \(2 audio files there; 1 files have"):
        load(tmp_path)
    with pytest.raises(UsageError, match="no such folder of data for task 'own-files'"):
        load(tmp_path / "a.flac")


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".opus", ".m4a", ".wma", ".wav", ".aiff", ".wv"])
def test_the_artist_is_read_from_each_kind_of_file(tmp_path, make_audio, tone, suffix):
    rate_hz = 48_000 if suffix == ".opus" else 44_100
    options = ("-metadata", "artist=Zoé", *(("-write_id3v2", "1") if suffix == ".aiff" else ()))
    path = make_audio(tmp_path / f"song{suffix}", tone(seconds=0.5, rate_hz=rate_hz), rate_hz, options)
    if suffix == ".wav":  # into these ffmpeg writes another kind of tags, which mutagen does not read
        audio = WAVE(path)
        audio.add_tags()
        audio.tags.add(TPE1(encoding=3, text=["Zoé"]))
        audio.save()
    assert read_artist(path) == "Zoé"
    assert read_artist(make_audio(tmp_path / f"nobody{suffix}", tone(seconds=0.5, rate_hz=rate_hz), rate_hz)) == ""


@pytest.mark.thorough
def test_a_person_s_moods_are_learned_from_mp3s_and_songs_tagged_with_them(run, corpus, tagger_folder, tmp_path):
    music, store, tagger = tmp_path / "music", tmp_path / "store", tmp_path / "tagger"
    shutil.copytree(corpus.audio, music)
    assert run("extract", music, "--store", store, "--embedder", "logmel").status == 0
    written = run("write", music, "--store", store, "--tagger", tagger_folder, "--unmeasured", "--apply")
    assert written.status == 0, written.err
    with pytest.raises(DataError, match=r"files have no moods but those that jamendo-mood wrote"):
        load(music)
    untouched, *corrected = corpus.songs
    for song in corrected:
        tags = ID3(music / song.path)
        ours = tags["TMOO"].text if "TMOO" in tags else []
        tags.add(TMOO(encoding=3, text=[*ours, *(f"my {mood}" for mood in song.moods)]))
        tags.save()
    data = ("--data", music, "--store", store)
    done = run("train", "--task", "own", "--from-files", *data, "--out", tagger, "--head", "mlp", "--epochs", 12)
    assert done.status == 0, done.err
    assert "1 track of the store without a label for own-files: not used" in done.err
    assert all(target.startswith("my ") for target in Tagger.load(tagger).task.targets)
    done = run("evaluate", tagger, *data, "--rounds", 0, "--format", "json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["ROC-AUC-macro"] > 0.8
    done = run("tag", music / untouched.path, "--tagger", tagger, "--format", "json")
    (result,) = json.loads(done.out)["results"]
    best = [target["name"] for target in result["targets"][: len(untouched.moods)]]
    assert {*best} == {f"my {mood}" for mood in untouched.moods}


@pytest.mark.parametrize("command", ["train", "cross-validate"])
def test_other_tasks_have_no_labels_in_files(run, tmp_path, command):
    out = () if command == "cross-validate" else ("--out", tmp_path / "tagger")
    done = run(command, "--task", "mirex", "--from-files", "--data", tmp_path, *out)
    assert done.status == 2
    assert "--from-files: the labels of task 'mirex' are in its tables; it is for --task own" in done.err
