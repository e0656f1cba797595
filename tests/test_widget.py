import io
import tempfile
import time
from dataclasses import replace

import ipywidgets
import pytest
from matplotlib import image
from toy_examples import OTHER_SPEC

from jamendo_mood import widget
from jamendo_mood.errors import UsageError
from jamendo_mood.widget import TagWidget

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, which must be empty again when the test is done."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.rglob("*")) == []


@pytest.fixture
def faces(corpus_tagger, logmel, temporary):
    return TagWidget(corpus_tagger, logmel, count=3)


def upload(faces, *files):
    """What the browser's side of FileUpload sends: for each file a dict with its bytes in a memoryview."""
    now = time.time() * 1000
    described = [
        {"name": name, "type": "audio/mpeg", "size": len(content), "content": memoryview(content), "last_modified": now}
        for name, content in files
    ]
    faces.upload.set_state({"value": described})


def shown(faces):
    """Heading and pictures of each result, the topmost first."""
    return [(box.children[0].value, box.children[1:]) for box in faces.results.children]


def test_an_uploaded_song_is_tagged_and_drawn(faces, corpus, temporary, monkeypatch):
    seen = []
    predict = widget.predict
    monkeypatch.setattr(widget, "predict", lambda path, *rest: seen.append(path) or predict(path, *rest))
    song = corpus.songs[-1]
    upload(faces, ("my song.MP3", corpus.path(-1).read_bytes()))
    ((heading, pictures),) = shown(faces)
    title = f"Synthetic artist {song.artist} - Study in {' and '.join(song.moods)} no. {song.id}"
    assert heading == f"<h3>{title} (0:12)</h3>"
    assert len(pictures) == 2
    for picture in pictures:
        assert isinstance(picture, ipywidgets.Image)
        height, width, _ = image.imread(io.BytesIO(picture.value)).shape
        assert width > height > 100
    assert faces.status.value == ""
    (prediction,) = faces.predictions
    expected = predict(corpus.path(-1), faces._tagger, faces._embedder)
    assert prediction.top(3) == expected.top(3)
    (path,) = seen  # it was on disk for a moment
    assert temporary in path.parents
    assert not path.exists()


def test_uploaded_bytes_are_dropped(faces, corpus):
    content = corpus.path(0).read_bytes()
    upload(faces, ("a.mp3", content))
    assert faces.upload.value == ()
    assert content not in [state for box in faces.results.children for state in box.get_state().values()]
    upload(faces, ("a.mp3", content))  # the very same file again is another upload
    assert len(faces.predictions) == 2


def test_uploaded_bytes_are_dropped_even_if_tagging_breaks(faces, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of order")

    monkeypatch.setattr(widget, "predict", broken)
    with pytest.raises(RuntimeError, match="out of order"):
        upload(faces, ("a.mp3", b"secret"))
    assert faces.upload.value == ()


def test_several_files_come_with_the_newest_on_top(faces, corpus):
    upload(faces, *((f"{number}.mp3", corpus.path(number).read_bytes()) for number in (0, 1)))
    assert [prediction.title.rpartition(" ")[2] for prediction in faces.predictions] == ["1000", "1001"]
    assert [heading.partition("no. ")[2][:4] for heading, _ in shown(faces)] == ["1001", "1000"]


def test_a_file_that_is_no_music_gives_a_message(faces, corpus):
    upload(faces, ("notes.mp3", b"just some text"), ("song.mp3", corpus.path(0).read_bytes()))
    assert len(faces.predictions) == 1  # the other file is tagged all the same
    upload(faces, ("notes.mp3", b"just some text"))
    assert faces.status.value.startswith("notes.mp3: this file: not a readable audio file")
    assert "upload" not in faces.status.value  # nothing of the temporary path
    assert len(faces.predictions) == 1
    assert faces.upload.value == ()


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>.mp3", "../../../etc/passwd", "x." + "y" * 300, "nul.\0", "", "con.", "a.mp3/../b"],
    ids=["tag", "folder", "long", "nul", "none", "dot", "parent"],
)
def test_a_hostile_name_does_no_harm(faces, corpus, name):
    upload(faces, (name, b"no music"))
    assert "not a readable audio file" in faces.status.value
    assert "<" not in faces.status.value
    upload(faces, (name, corpus.path(0).read_bytes()))
    assert len(faces.predictions) == 1


def test_hostile_metadata_is_shown_as_text(faces, make_audio, tone, tmp_path):
    hostile = "<script>alert('$_{$')</script>"
    path = make_audio(tmp_path / "song.mp3", tone(), options=("-metadata", f"title={hostile}"))
    upload(faces, ("song.mp3", path.read_bytes()))
    assert faces.predictions[0].title == hostile
    ((heading, _),) = shown(faces)
    assert "<script>" not in heading
    assert "&lt;script&gt;" in heading


def test_a_path_on_this_machine_is_tagged(faces, corpus, tmp_path):
    faces.path.value = f"  {corpus.path(2)} "
    assert [prediction.source for prediction in faces.predictions] == [str(corpus.path(2))]
    faces.path.value = str(tmp_path / "nothing.mp3")
    assert faces.status.value == "nothing.mp3: this file: no such file"
    faces.path.value = ""
    assert len(faces.predictions) == 1


def test_a_song_without_metadata_goes_by_the_files_name(faces, make_audio, tone, tmp_path):
    path = make_audio(tmp_path / "x.wav", tone(seconds=65.0, rate_hz=16_000), rate_hz=16_000)
    upload(faces, ("my & tape.wav", path.read_bytes()))
    assert shown(faces)[0][0] == "<h3>my &amp; tape.wav (1:05)</h3>"


def test_an_embedder_that_does_not_fit_is_refused_at_once(corpus_tagger, logmel):
    with pytest.raises(UsageError, match="this tagger needs embeddings of logmel"):
        TagWidget(corpus_tagger, replace(logmel, spec=OTHER_SPEC))
