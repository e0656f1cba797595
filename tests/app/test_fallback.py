import time

import pytest

from jamendo_mood.app.widget import Fallback
from jamendo_mood.tagging.prediction import predict
from jamendo_mood.util.errors import LimitError

pytest_plugins = ["demo_corpus"]


@pytest.fixture
def added():
    return []


@pytest.fixture
def fallback(added):
    return Fallback(lambda name, content: added.append((name, content)), added.append)


def upload(fallback, *files):
    """What the browser's side of FileUpload sends: for each file a dict with its bytes in a memoryview."""
    now = time.time() * 1000
    described = [
        {"name": name, "type": "audio/mpeg", "size": len(content), "content": memoryview(content), "last_modified": now}
        for name, content in files
    ]
    fallback.upload.set_state({"value": described})


def test_uploaded_bytes_are_handed_on_and_dropped(fallback, added):
    upload(fallback, ("a.mp3", b"one"), ("b.mp3", b"two"))
    assert added == [("a.mp3", b"one"), ("b.mp3", b"two")]
    assert fallback.upload.value == ()
    upload(fallback, ("a.mp3", b"one"))  # the very same file again is another upload
    assert len(added) == 3
    assert fallback.status.value == "Analysing a.mp3 ..."


def test_a_path_is_handed_on(fallback, added):
    fallback.path.value = "  /music/a.mp3 "
    fallback.path.value = ""
    assert added == ["/music/a.mp3"]


def test_without_paths_there_is_no_box_for_them():
    fallback = Fallback(lambda *_: None)
    assert fallback.path not in fallback.children[1].children
    fallback.path.value = "/etc/passwd"  # a browser that sends it all the same
    assert fallback.status.value == ""


def test_a_refusal_is_shown_as_text():
    def refuse(name, _):
        raise LimitError(f"{name} has 312 MB")

    fallback = Fallback(refuse)
    upload(fallback, ("<b>.mp3", b"one"))
    assert fallback.status.value == "&lt;b&gt;.mp3 has 312 MB"
    assert fallback.upload.value == ()


def test_songs_are_shown_as_pictures_the_newest_on_top(fallback, corpus, corpus_tagger, logmel, no_pyplot):
    prediction = predict(corpus.path(0), corpus_tagger, logmel)
    for name in ("one.mp3", "<two>.mp3"):
        fallback.show(name, prediction)
    headings = [box.children[0].value for box in fallback.results.children]
    assert headings == ["<h3>&lt;two&gt;.mp3</h3>", "<h3>one.mp3</h3>"]
    assert all(bytes(box.children[1].value).startswith(b"\x89PNG") for box in fallback.results.children)


def test_it_can_be_put_away(fallback, corpus, corpus_tagger, logmel):
    prediction = predict(corpus.path(0), corpus_tagger, logmel)
    fallback.show("a.mp3", prediction)
    assert fallback.in_use
    fallback.put_away()
    assert not fallback.in_use
    assert fallback.results.children == ()  # pictures would be saved with the notebook
