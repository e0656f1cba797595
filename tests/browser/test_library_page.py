"""The page of a library in a real browser: hovering, drawing around songs, lists, and the playlist that it saves."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from jamendo_mood.library.overview import survey, write_page

pytest_plugins = ["demo_corpus"]

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=document.title='owned'></script><b>"


@pytest.fixture
def open_page(visitor, library, corpus_tagger, tmp_path):
    """Opens the page of the corpus; it asks for nothing else, and the browser refuses nothing."""
    said = []

    def start(title="{artist}", **options):
        page = visitor(**options)
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.on("request", lambda request: request.url.startswith("http") and said.append(request.url))
        found = [library.found(row) for row in range(len(library))]
        songs = [replace(song, title=title.format(artist=song.key), artist="Änne") for song in found]
        path = tmp_path / "page.html"
        path.write_text(write_page(survey(library, corpus_tagger), songs, "A library at a glance: corpus"), "utf-8")
        page.goto(path.as_uri())
        page.locator("body[data-ready]").wait_for()
        return page

    yield start
    assert said == []


def draw_around(page, radius=0.3):
    """Draw a circle with the mouse around the middle of the plane."""
    page.locator("#plane").scroll_into_view_if_needed()
    box = page.locator("#plane").bounding_box()
    x, y, r = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, min(box["width"], box["height"]) * radius
    page.mouse.move(x + r, y)
    page.mouse.down()
    for step in range(24):
        page.mouse.move(x + r * math.cos(step / 24 * math.tau), y + r * math.sin(step / 24 * math.tau))
    page.mouse.up()
    page.locator("#list li").first.wait_for()


def test_songs_are_selected_and_saved_as_a_playlist(open_page, library, corpus_tagger, keep):
    page = open_page("Song {artist}")
    assert page.locator("#chosen").inner_text() == "No song selected"
    assert page.locator("#save").is_hidden()
    draw_around(page)
    names = page.locator("#list li").all_inner_texts()
    assert page.locator("#chosen").inner_text() == f"{len(names)} selected"
    assert 0 < len(names) < len(library)
    keep(page, "library")
    with page.expect_download() as waited:
        page.locator("#save").click()
    first, *lines = waited.value.path().read_text("utf-8").splitlines()
    assert (waited.value.suggested_filename, first) == ("selected.m3u8", "#EXTM3U")
    assert lines[::2] == [f"#EXTINF:12,{name}" for name in names]
    assert [Path(line) for line in lines[1::2]] == [library.files[name.rpartition(" ")[2]] for name in names]

    # A mood selects its songs, the best of them first in the panel that shows a song's moods.
    page.locator("[data-mood]", has_text="sad").click()
    sad = corpus_tagger.decide(library.scores)[:, library.targets.index("sad")]
    page.locator("#chosen", has_text=f"{sad.sum()} selected").wait_for()
    page.locator("#list li button").last.click()
    assert page.locator("#song strong").inner_text() == page.locator("#list li").last.inner_text()
    assert page.locator("#song tr").count() == len(library.targets)
    assert "*" in page.locator("#song tr", has_text="sad").inner_text()
    page.locator("[data-row]").first.click()
    page.locator("#chosen", has_text="1 selected").wait_for()
    found = Axe().run(page, context="main", options={"runOnly": ["wcag2a", "wcag2aa", "best-practice"]})
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found.response["violations"]] == []


@pytest.mark.thorough
def test_hostile_titles_stay_text_in_lists_and_under_the_mouse(open_page):
    page = open_page(HOSTILE)
    draw_around(page)
    assert page.locator("#list li").first.inner_text() == f"Änne - {HOSTILE}"
    box = page.locator("#plane").bounding_box()
    tip = page.get_by_text(f"Änne - {HOSTILE}").locator("visible=true")
    shown = tip.count()
    for row, column in itertools.product(range(20), range(20)):  # over the plane, until there is a song
        across, down = 0.2 + 0.03 * column, 0.2 + 0.03 * row
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        if tip.count() > shown:
            break
    assert tip.count() > shown
    assert page.locator("main img").count() == 0
    assert page.title() == "A library at a glance: corpus"


@pytest.mark.thorough
def test_on_a_phone_in_the_dark(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, is_mobile=True)
    draw_around(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out
    assert page.locator("#plane").bounding_box()["width"] > 300
    ink = page.evaluate("Bokeh.documents[0].get_model_by_name('plot').below[0].axis_label_text_color")
    assert ink == page.evaluate("getComputedStyle(document.body).color") != "rgb(0, 0, 0)"
