"""The web page, served by the real command, in a real browser."""

import csv
import io
import json
import re
import subprocess
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from webclient import serve

from jamendo_mood.audio.ffmpeg import find_ffmpeg

pytest_plugins = ["demo_corpus"]

pytestmark = pytest.mark.browser


@pytest.fixture
def sent():
    """How many bytes each message has that pages send to the server."""
    return []


@pytest.fixture
def tag_page(web, visitor, sent):
    """Makes a new visitor, who is on the page that tags, asks no other host, and whose browser refuses nothing."""
    asked, refused = [], []

    def come(**options):
        page = visitor(**options)
        page.on("console", lambda said: said.type == "error" and refused.append(said.text))
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(len(frame))))
        page.goto(web)
        page.locator(".jm-drop").wait_for()
        return page

    yield come
    assert len(asked) >= 3  # the page, its script and its style
    assert [url for url in asked if not url.startswith((web, "data:", "blob:"))] == []
    assert refused == []  # by the Content-Security-Policy, say


def give(page, *files):
    page.locator("input[type=file]").set_input_files([str(file) for file in files])


def wait_for_moods(page, count=1):
    page.locator(".jm-bars").nth(count - 1).wait_for()


def wait_for_details(page):
    page.locator(".jm-spectrogram:not([hidden])").first.wait_for()


def look(page, expression):
    """What a line of JavaScript says of the page, its first player and its first timeline."""
    names = "document.querySelector('audio'), document.querySelector('.jm-slider')"
    return page.evaluate(f"((audio, slider) => {expression})({names})")


def wait_until(page, expression):
    """Not by `wait_for_function`, whose `eval` the page's Content-Security-Policy forbids."""
    end = time.monotonic() + 30
    while not look(page, expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(100)


def download(page, word):
    with page.expect_download() as waited:
        page.locator("footer button", has_text=word).first.click()
    return waited.value.suggested_filename, waited.value.path().read_bytes()


def check_accessible(page):
    """axe-core finds nothing to complain of in the widget, contrast included."""
    found = Axe().run(page, context=".jm", options={"runOnly": ["wcag2a", "wcag2aa", "best-practice"]})
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found.response["violations"]] == []


def test_a_song_of_more_than_10_mb(tag_page, sent, long_song, keep):
    page = tag_page()
    keep(page, "page-empty")
    check_accessible(page)
    give(page, long_song)
    page.locator(".jm-progress").wait_for()
    wait_for_moods(page)
    assert sum(sent) > 10_000_000
    wait_for_details(page)
    rows = page.locator(".jm-bars .jm-bar-name").all_inner_texts()
    assert len(rows) == 5
    assert page.locator(".jm-card h2").first.inner_text() == "A long song"
    assert page.locator(".jm-similar .jm-track").count() == 6
    check_accessible(page)
    keep(page, "page-tagged")

    # A click on the timeline seeks: the cursor and the player go there.
    box = page.locator(".jm-slider").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 30)
    length = look(page, "audio.duration")
    wait_until(page, f"Math.abs(audio.currentTime - {length / 2}) < {length / 100}")
    assert int(page.locator(".jm-slider").get_attribute("aria-valuenow")) == pytest.approx(length / 2, rel=0.02)
    page.locator(".jm-slider").press("ArrowRight")
    wait_until(page, f"audio.currentTime > {length / 2 + 3}")
    # And the player moves the cursor.
    look(page, "audio.currentTime = 5")
    wait_until(page, "slider.ariaValueNow === '5'")

    # Why a tag, as seconds that can be played.
    page.locator(".jm-bar").first.click()
    assert page.locator(".jm-bar").first.get_attribute("aria-pressed") == "true"
    jump = page.locator(".jm-jump").first
    minutes, seconds = map(int, jump.inner_text().partition("–")[0].split(":"))
    jump.click()
    wait_until(page, f"Math.abs(audio.currentTime - {60 * minutes + seconds}) < 3")
    look(page, "audio.pause()")

    name, content = download(page, "CSV")
    assert name == "long song moods.csv"
    table = list(csv.DictReader(io.StringIO(content.decode())))
    assert all(row.startswith(line["tag"]) for line, row in zip(table, rows, strict=True))
    assert {row["file"] for row in table} == {"long song.mp3"}
    (result,) = json.loads(download(page, "JSON")[1])["results"]
    assert len(result["timeline"]["times_s"]) > 250
    assert download(page, "PNG")[1].startswith(b"\x89PNG")


def test_songs_to_try_are_compared_in_a_table(tag_page, corpus):
    page = tag_page()
    tries = page.get_by_role("group", name="Songs to try").get_by_role("button")
    titles = tries.all_inner_texts()
    assert titles == [f"Study in {' and '.join(song.moods)} no. {song.id}" for song in corpus.songs[:3]]
    tries.nth(0).click()
    wait_for_moods(page)
    assert page.locator(".jm-card .jm-mood").inner_text().split(", ")[0].lower() in corpus.songs[0].moods
    table = page.locator(".jm-compare")
    assert table.is_hidden()
    for number in (1, 2):
        tries.nth(number).click()
        wait_for_moods(page, number + 1)
    names, rows = table.locator("tbody th"), table.locator("tbody tr")
    assert names.all_inner_texts() == titles
    wait_for_details(page)
    check_accessible(page)

    # A heading sorts, down at first, and keeps the keyboard's focus.
    heading = table.locator("thead button").nth(1)

    def scores():
        return [float(row.locator("td").first.inner_text().split()[0]) for row in rows.all()]

    heading.press("Enter")
    assert scores() == sorted(scores(), reverse=True)
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert scores() == sorted(scores())
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    table.locator("thead button").first.press("Enter")
    assert names.all_inner_texts() == sorted(titles)

    # A song's name leads to its card; a removed song leaves the table.
    names.first.locator("button").press("Enter")
    assert page.evaluate("document.activeElement.textContent") == sorted(titles)[0]
    page.locator(".jm-close").first.click()
    assert rows.count() == 2
    page.locator(".jm-close").first.click()
    assert table.is_hidden()


def test_the_dot_on_the_plane_moves_as_the_song_plays(tag_page, corpus, tmp_path):
    # Two songs of other moods, one after the other: the place changes.
    pair = ("happy", "sad")
    paths = [str(corpus.path(next(n for n, song in enumerate(corpus.songs) if mood in song.moods))) for mood in pair]
    joined = tmp_path / "joined.mp3"
    inputs = [option for path in paths for option in ("-i", path)]
    command = [find_ffmpeg(), "-nostdin", "-v", "error", *inputs, "-filter_complex", "[0:a][1:a]concat=n=2:v=0:a=1"]
    subprocess.run([*command, str(joined)], check=True)
    page = tag_page()
    give(page, joined)
    wait_for_moods(page)
    look(page, "audio.currentTime = 1")
    wait_until(page, "slider.ariaValueNow === '1'")
    start = float(page.locator(".jm-now").get_attribute("cx"))
    look(page, "[audio.playbackRate = 8, audio.play()].length")
    wait_until(page, f"Number(document.querySelector('.jm-now').getAttribute('cx')) < {start - 20}")  # less pleasant


@pytest.mark.thorough
def test_a_player_that_cannot_play_says_why(tag_page, corpus, make_audio, tone, tmp_path):
    page = tag_page()
    odd = make_audio(tmp_path / "odd.aiff", tone(seconds=5))
    give(page, odd)
    wait_for_moods(page)
    trouble = page.locator(".jm-player p")
    trouble.wait_for()
    said = "It can't be played: this browser has no way to decode it. Its moods are correct anyway."
    assert trouble.inner_text() == said
    assert page.locator(".jm-player audio").is_hidden()
    # A track of the library whose file is gone by now.
    wait_for_details(page)
    track = page.locator(".jm-track").first
    key = track.get_attribute("data-key")
    assert key in track.locator("small").first.inner_text()  # beside the title
    path = corpus.audio / f"{key}.mp3"
    away = path.rename(tmp_path / "away.mp3")
    try:
        track.get_by_role("button").click()
        track.locator(".jm-trouble", has_text="can't be played: its file is gone").wait_for()
    finally:
        away.rename(path)
    with page.expect_download() as waited:
        page.get_by_role("button", name="Playlist of similar tracks as CSV").click()
    assert waited.value.suggested_filename == "like odd.csv"
    check_accessible(page)


@pytest.mark.thorough
def test_one_background_on_a_wide_screen(tag_page):
    page = tag_page(viewport={"width": 2560, "height": 1000})
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    edges = {picture.getpixel((x, y)) for x in (0, 100, 2559) for y in (0, 500, 999)}
    assert edges == {(255, 255, 255)}


@pytest.mark.thorough
def test_what_is_no_music_is_told_in_plain_words(tag_page, sent, tmp_path, corpus, make_audio, tone, keep):
    page = tag_page()
    (tmp_path / "lyrics.mp3").write_text("just some text\n")
    blip = make_audio(tmp_path / "blip.wav", tone(seconds=0.4))
    silence = make_audio(tmp_path / "silence.wav", tone(amplitude=0.0))
    (tmp_path / "empty.mp3").touch()
    give(page, tmp_path / "lyrics.mp3", blip, silence, tmp_path / "empty.mp3", corpus.path(0))
    wait_for_moods(page)  # of the last one: the others are no obstacle
    cards = page.locator(".jm-failed").all()
    assert {card.locator("h2").inner_text(): card.locator("strong").inner_text() for card in cards} == {
        "lyrics.mp3": "It can't be read as music: it is a text file.",
        "blip.wav": "It lasts 0.40 s; it takes 0.96 s at least.",
        "silence.wav": "There is no sound in it.",
        "empty.mp3": "It can't be read as music.",
    }
    check_accessible(page)
    keep(page, "page-refused")
    page.locator(".jm-failed .jm-close").first.click()
    assert page.locator(".jm-failed").count() == 3

    # A file over the limit is not sent.
    huge = tmp_path / "huge.wav"
    with huge.open("wb") as file:
        file.truncate(200_000_001)  # takes no room
    before = sum(sent)
    give(page, huge)
    page.locator(".jm-failed strong", has_text="It has 200 MB; the limit here is 200 MB.").wait_for()
    assert before < sum(sent) < before + 100_000


@pytest.mark.thorough
def test_cancel_at_any_time(tag_page, long_song, corpus, keep):
    page = tag_page()
    give(page, long_song, corpus.path(0))
    cards = page.locator(".jm-card")
    keep(page, "page-working")
    long = cards.filter(has=page.locator("h2", has_text=re.compile("^long song.mp3$")))
    long.get_by_role("button", name="Cancel").click()
    assert long.locator("strong").inner_text() == "Cancelled."
    wait_for_moods(page)  # the other song goes on
    assert page.locator(".jm-card", has_text="Study in").count() >= 1
    give(page, corpus.path(1))
    wait_for_moods(page, 2)
    assert long.locator(".jm-bars").count() == 0


@pytest.mark.thorough
def test_files_can_be_dropped_the_keyboard_is_enough_and_hostile_names_stay_text(tag_page, make_audio, tone, tmp_path):
    hostile = "<img src=x onerror=document.title='owned'>"
    named = ("-metadata", f"title={hostile}", "-metadata", f"artist={hostile}")
    song = make_audio(tmp_path / "x.mp3", tone(), options=named)
    page = tag_page()
    page.keyboard.press("Tab")
    reached = []
    for _ in range(12):
        reached.append(page.evaluate("document.activeElement.className + document.activeElement.type"))
        page.keyboard.press("Tab")
    assert any("file" in name for name in reached)
    page.evaluate(
        """([name, content]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(content)], name, { type: "audio/mpeg" }));
            const zone = document.querySelector(".jm-drop");
            for (const kind of ["dragenter", "dragover", "drop"])
                zone.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        [f"{hostile}.mp3", list(song.read_bytes())],
    )
    wait_for_moods(page)
    assert page.locator(".jm-card h2").first.inner_text() == hostile
    assert f"{hostile}.mp3" in page.locator(".jm-about").first.inner_text()
    assert page.locator(".jm-card img:not(.jm-spectrogram)").count() == 0
    assert page.title() != "owned"
    page.locator(".jm-bar").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator(".jm-bar").nth(1).get_attribute("aria-pressed") == "true"


@pytest.mark.thorough
def test_who_finds_no_place_gets_the_next_and_what_is_shown_stays_when_the_server_goes(
    visitor, tagger_folder, corpus, tmp_path, keep
):
    with serve(tmp_path, "--tagger", tagger_folder, "--visitors", "1") as served:
        first, second = visitor(), visitor()
        first.goto(served.url)
        first.locator(".jm-drop").wait_for()
        second.goto(served.url)
        second.locator(".jm-notice", has_text="All places are taken").wait_for()
        first.close()
        second.locator(".jm-drop").wait_for()  # it tries again by itself
        give(second, corpus.path(0))
        wait_for_moods(second)
    second.locator(".jm-notice", has_text="What was shown here stays").wait_for()
    assert second.locator(".jm-bars").count() == 1
    keep(second, "page-gone")


@pytest.mark.thorough
def test_on_a_phone_in_the_dark(tag_page, corpus, keep):
    page = tag_page(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, is_mobile=True)
    give(page, corpus.path(0))
    wait_for_moods(page)
    wait_for_details(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out
    colour = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert max(map(int, colour[:3])) < 60
    check_accessible(page)
    keep(page, "page-phone-dark")


@pytest.mark.thorough
def test_music_is_found_by_mood(tag_page, corpus, keep):
    page = tag_page()
    page.locator(".jm-head a", has_text="Find music").click()
    page.locator(".jm-modes").wait_for()
    page.locator(".jm-chips button", has_text="sad").click()
    tracks = page.locator(".jm-tracks .jm-track")
    page.locator(".jm-tracks small", has_text="sad").first.wait_for()
    assert tracks.count() == 20
    page.locator(".jm-tracks .jm-track-name", has_text="Study in").first.wait_for()
    assert "sad" in page.locator(".jm-track-name").first.inner_text()
    check_accessible(page)
    keep(page, "find-moods")

    page.locator(".jm-round").first.click()
    wait_until(page, "[...document.querySelectorAll('audio')].some((player) => !player.paused)")
    page.locator(".jm-round").first.click()

    page.get_by_role("tab", name="Valence and arousal").click()
    box = page.locator(".jm-plane").bounding_box()
    page.mouse.click(box["x"] + 0.1 * box["width"], box["y"] + 0.8 * box["height"])
    page.get_by_role("heading", name="Near a mood").wait_for()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 0.2 * box["height"])
    page.get_by_role("heading", name="From mood to mood").wait_for()
    check_accessible(page)
    keep(page, "find-plane")

    page.get_by_role("tab", name="Emotions").click()
    page.get_by_role("button", name="sadness").click()
    page.get_by_role("button", name="joy", exact=True).press("Enter")
    page.get_by_text("sadness → joy").wait_for()
    check_accessible(page)
    keep(page, "find-emotions")
    page.locator(".jm-more").first.click()
    page.get_by_role("heading", name=re.compile("More like")).wait_for()
    name, content = download(page, "CSV")
    assert name == "playlist.csv"
    assert str(corpus.root) not in content.decode()  # no path of the server
    page.locator(".jm-head a", has_text="Tag a song").click()
    page.locator(".jm-drop").wait_for()
