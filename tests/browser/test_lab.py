"""The notebooks in JupyterLab, in a real browser."""

import base64
import contextlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"

pytest_plugins = ["demo_corpus"]

pytestmark = [pytest.mark.browser, pytest.mark.thorough]


@pytest.fixture
def open_notebook(lab, visitor, corpus, corpus_store, tagger_folder):
    """Opens a notebook on the tests' corpus and runs all its cells."""
    address, folder = lab

    def start(name):
        text = (NOTEBOOKS / name).read_text(encoding="utf-8")
        places = {
            'Path(\\"../build/demo\\")': f'Path(\\"{corpus.root}\\")',
            'corpus / \\"embeddings-logmel\\"': f'Path(\\"{corpus_store.root}\\")',
            'corpus / \\"tagger-logmel\\"': f'Path(\\"{tagger_folder}\\")',
        }
        for old, new in places.items():
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
        page = visitor(viewport={"width": 1300, "height": 1400})
        page.goto(f"{address}/lab/tree/{name}?reset")
        page.locator(".jp-Notebook").wait_for()
        page.locator("#jp-main-statusbar", has_text="(ipykernel) | Idle").wait_for()  # the kernel is there
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        return page, folder / name

    return start


def test_a_song_of_more_than_10_mb_in_a_notebook(open_notebook, long_song, keep):
    page, path = open_notebook("04_tag_a_track.ipynb")
    page.locator(".jm-drop").wait_for()
    assert page.locator(".jm-fallback").is_hidden()
    page.locator(".jm input[type=file]").set_input_files(str(long_song))
    page.get_by_role("heading", name="A long song").wait_for()
    page.locator(".jm-spectrogram:not([hidden])").first.wait_for()
    keep(page, "lab")
    # The song named by its path in a cell below is there too, and Python sends its sound.
    page.wait_for_function(
        "[...document.querySelectorAll('.jm-player audio')].filter((player) => player.src).length === 2"
    )
    # The picture below the widget is for those who read the notebook without widgets.
    picture = page.locator(".jp-CodeCell:has(.jm) .jp-RenderedImage")
    picture.wait_for(state="attached")
    assert picture.is_hidden()
    page.keyboard.press("Control+s")
    for _ in range(100):
        page.wait_for_timeout(100)
        with contextlib.suppress(ValueError):  # it is being written
            saved = json.loads(path.read_text(encoding="utf-8"))
            if any(cell.get("outputs") for cell in saved["cells"]):
                break
    assert path.stat().st_size < 500_000
    assert "A long song" not in json.dumps(saved.get("metadata", {}))
    (outputs,) = (cell["outputs"] for cell in saved["cells"] if "widget-view" in json.dumps(cell.get("outputs", [])))
    kinds = [sorted(output["data"]) for output in outputs]
    assert kinds == [["application/vnd.jupyter.widget-view+json", "text/plain"], ["image/png", "text/plain"]]
    picture = Image.open(io.BytesIO(base64.b64decode(outputs[1]["data"]["image/png"])))
    assert picture.width == 640
    assert "<Prediction of " in "".join(outputs[1]["data"]["text/plain"])


def test_music_is_found_in_a_notebook_and_emotions_are_remembered_if_the_box_is_ticked(open_notebook, keep):
    page, _ = open_notebook("05_find_music.ipynb")
    page.locator(".jm-chips button", has_text="sad").click()
    page.locator(".jm-track-name", has_text="Study in").first.wait_for()
    assert page.locator("footer button").all_inner_texts() == ["CSV", "M3U8"]

    page.get_by_role("tab", name="Emotions").click()
    box = page.get_by_label("remember what I ask for")
    assert not box.is_checked()
    page.get_by_role("button", name="joy", exact=True).click()
    page.get_by_role("heading", name="Near a mood").wait_for()
    assert page.locator(".jm-curve").count() == 0
    box.check()
    page.get_by_role("button", name="grief", exact=True).click()
    page.get_by_role("img", name="the last 1 emotions you asked for; the latest is grief").wait_for()
    page.get_by_role("button", name="serenity", exact=True).click()
    page.get_by_role("img", name="the last 2 emotions you asked for; the latest is serenity").wait_for()
    assert page.locator(".jm-curve path").count() == 2
    keep(page, "find-remembered")
    page.get_by_role("button", name="Forget all of it").click()
    page.locator(".jm-curve").wait_for(state="detached")
