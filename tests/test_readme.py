"""The commands of the README, one after the other and as they stand, in a folder that has what they name."""

import shlex
import shutil
from pathlib import Path

import pytest
from test_docs import ROOT, read_commands
from webclient import Visitor, serve

from jamendo_mood.embedders import checkpoints, musicnn, vggish
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.training.model import Tagger

pytest_plugins = ["demo_corpus", "toy_commands", "webplugin"]

README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = {
    "splits": "asks GitHub for MTG's tables: here they are those of the corpus",
    "web": "serves until it is stopped: below",
}
"""Commands that are not run here, and why."""


@pytest.fixture
def folder(corpus, tagger_folder, corpus_store, seeded_musicnn_wheel, empty_cache, tmp_path, monkeypatch):
    """Songs, tables, the demo's results; musicnn's weights in the user's cache, VGGish's beside, both of a seed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(musicnn.WEIGHTS.variable, str(seeded_musicnn_wheel))
    variables = musicnn.read_weights(seeded_musicnn_wheel)
    monkeypatch.setattr(musicnn, "SHA256", checkpoints.fingerprint(variables))  # as if they were the released ones
    monkeypatch.setattr(vggish, "is_trained", lambda _: True)
    shutil.copy(corpus.path(3), "song.mp3")
    for name in ("music", "audio"):
        shutil.copytree(corpus.audio, name)
    shutil.copytree(corpus.root, "splits", ignore=shutil.ignore_patterns("audio"))
    Path("build/demo").mkdir(parents=True)
    Path("build/demo/audio").symlink_to(corpus.audio)
    shutil.copytree(tagger_folder, "build/demo/tagger-logmel")
    shutil.copytree(corpus_store.root, "build/demo/embeddings-logmel")
    rows = (f"{song.path},artist {song.artist},{';'.join(song.moods)}\n" for song in corpus.songs)
    Path("own.csv").write_text("path,artist,tags\n" + "".join(rows))
    return tmp_path


@pytest.mark.thorough
def test_the_commands_of_the_readme_do_what_it_says(folder, seeded_module, run, monkeypatch):
    ran = []
    for command in map(shlex.split, read_commands(README)):
        if command[0] in ELSEWHERE:
            continue
        if command[0] == "extract":  # from here on VGGish is there
            monkeypatch.setenv(vggish.WEIGHTS.variable, str(seeded_module))
        outcome = run(*command)
        assert outcome.status == 0, (command, outcome.err)
        ran.append(command[0])
        if ran == ["tag"]:
            assert "with the tagger musicnn that comes with jamendo-mood" in outcome.err
            assert "not calibrated" in outcome.out
    assert ran == ["tag", "extract", "train", "tag", "extract", "train", "evaluate"]
    assert EmbeddingStore("embeddings/mine").spec.name == "vggish"
    assert set(Tagger.load("taggers/mine").task.targets) == {"dark", "energetic", "happy", "relaxing", "sad"}
    assert Path("reports/jamendo/report.html").is_file()


@pytest.mark.thorough
def test_the_page_of_a_tutorial_has_titles_and_sound(folder, tmp_path, finish):
    """Its folders are named from where it is started."""
    text = (ROOT / "docs" / "tutorials" / "own-songs.md").read_text(encoding="utf-8")
    (command,) = (command for command in map(shlex.split, read_commands(text)) if command[0] == "web")
    (tmp_path / "page").mkdir()
    with serve(tmp_path / "page", *command[1:], cwd=folder) as served:

        async def find():
            visitor = Visitor(served)
            assert await visitor.come("find")
            await visitor.tell("query", mode="moods", wanted={"sad": 1.0}, count=3)
            named = await visitor.wait(lambda told: told["type"] == "results" and told["tracks"][0]["title"])
            await visitor.tell("piece", key=named["tracks"][0]["key"], index=0)
            piece = await visitor.wait(lambda told: told["type"] == "piece")
            await visitor.leave()
            return named["tracks"][0]["title"], piece["buffers"][0]

        title, size_bytes = finish(find())
    assert title.startswith("Study in")
    assert size_bytes > 50_000


@pytest.mark.thorough
def test_the_page_of_the_readme_is_served(folder, tmp_path, musicnn_weights):
    (command,) = (command for command in map(shlex.split, read_commands(README)) if command[0] == "web")
    (tmp_path / "page").mkdir()
    with serve(tmp_path / "page", *command[1:], cwd=folder, **{musicnn.WEIGHTS.variable: str(musicnn_weights)}) as page:
        answer, document = page.tag(Path("song.mp3").read_bytes(), "song.mp3")
        assert (answer.status, document["results"][0]["file"]) == (200, "song.mp3")
        assert "musicnn" in page.log.read_text().splitlines()[0]


def test_the_python_of_the_readme_runs(folder):
    (code,) = (block.partition("```")[0] for block in README.split("```python\n")[1:])
    song = next(Path("build/demo/audio").rglob("*.mp3"))
    code = code.replace("build/demo/audio/06/1106.mp3", str(song))  # the small corpus of the tests has other numbers
    *_, last = code.rstrip().splitlines()
    names = {}
    exec(code, names)
    top = eval(last, names)
    assert len(top) == 3
    assert all(0 <= score <= 1 for _, score, _ in top)


@pytest.mark.thorough
def test_the_python_of_the_tutorial_runs(folder, corpus, capsys):
    shutil.copytree(corpus.root, "build/demo", ignore=shutil.ignore_patterns("audio"), dirs_exist_ok=True)
    text = (ROOT / "docs" / "tutorials" / "python.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    names = {}
    for code in blocks:
        exec(code.replace("06/1106", corpus.path(0).relative_to(corpus.audio).with_suffix("").as_posix()), names)
    assert len(blocks) == 7
    assert names["report"].done == len(names["store"]) == len(corpus.songs)
    assert "README.md: no such file" in capsys.readouterr().out
