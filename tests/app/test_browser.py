import shutil
import subprocess

import pytest

from jamendo_mood.app import finder, widget
from jamendo_mood.app.widget import PIECE_BYTES, ScriptWidget, read_static

SCRIPTS = {"tagging": widget, "finding": finder}


@pytest.fixture
def page(monkeypatch):
    sent = []
    page = ScriptWidget(("dom.js",), "draw", {})
    monkeypatch.setattr(page, "send", lambda content, buffers: sent.append((content, buffers)))
    page.sent = sent
    return page


def test_messages_go_both_ways():
    heard = []
    page = ScriptWidget(("dom.js",), "draw", {"hello": lambda message, buffers: heard.append((message, buffers))})
    page._handle_custom_msg({"type": "hello"}, [b"x"])
    assert heard == [({"type": "hello"}, [b"x"])]
    assert page._esm == read_static("dom.js") + "export default { render: draw };"
    assert page._css == read_static("style.css")


def test_what_is_told_has_a_kind(page):
    page.tell("tags", (b"x",), id="1")
    assert page.sent == [({"type": "tags", "id": "1"}, [b"x"])]


@pytest.mark.parametrize("length", [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_sound_comes_in_pieces(page, length):
    sound = bytes(range(256)) * (length // 256 + 1)
    index, together = 0, b""
    while True:
        page.send_piece("k", index, sound[:length])
        content, (piece,) = page.sent[-1]
        together += piece
        index += 1
        if content["last"]:
            break
    assert together == sound[:length]
    assert index == -(-length // PIECE_BYTES)


def test_no_sound_and_a_piece_past_the_end_are_empty(page):
    page.send_piece("k", 0, None)
    page.send_piece("k", 99, b"abc")
    assert [(content["index"], content["last"], buffers) for content, buffers in page.sent] == [
        (0, True, []),
        (99, True, []),
    ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_one_module_that_needs_no_other(name, tmp_path):
    module = SCRIPTS[name]
    script = ScriptWidget(module.SCRIPTS, "draw", {})._esm
    assert "innerHTML" not in script  # text from outside must stay text
    assert "http://" not in script.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in script + read_static("style.css")
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to check the syntax")
    path = tmp_path / "script.mjs"
    path.write_text(script)
    subprocess.run([node, "--check", path], check=True)
