"""What the web page costs: its start, its first page, a song against `jamendo-mood tag`, a visitor's memory, a crowd.

All of it in one run, with `jamendo-mood web` as it is started by hand. Songs are timed in Chromium, one after the other
with what `tag` does, after one of each that is not counted. It needs the extra ``dev``. A song of three minutes is
synthesised unless one is given. ``--page docs/benchmarks.md`` writes the table into that page.

    python scripts/bench_page.py --tagger build/demo/tagger-logmel
"""

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from webclient import Served, Visitor, make_song, serve

from jamendo_mood import Tagger, load_embedder, predict
from jamendo_mood.audio.ffmpeg import find_ffmpeg
from jamendo_mood.embedders.registry import EmbedderOptions

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAITED = """() => {
    const at = (name) => performance.getEntriesByName(name).at(-1).startTime;
    return (at("jm-tagged") - at("jm-uploaded")) / 1000;
}"""
BEGIN, END = "<!-- page -->", "<!-- end of page -->"
STAYING, CROWD = 20, 200  # visitors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tagger", type=Path, required=True)
    parser.add_argument("--song", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="where the table goes, between its two comments")
    parser.add_argument("--weights", type=Path, help="VGGish's weights, for a tagger that needs them")
    arguments = parser.parse_args()
    options = ["--tagger", str(arguments.tagger)]
    if arguments.weights:
        options += ["--weights", str(arguments.weights), "--allow-untrained"]
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        song = arguments.song or write_song(Path(folder) / "song.mp3")
        starts = [measure_start(options, Path(folder) / f"start {number}") for number in range(arguments.rounds)]
        wall_s, cpu_s = map(statistics.median, zip(*starts, strict=True))
        add(rows, "from the start of the process to a page that answers", f"{wall_s:.2f} s")
        add(rows, "the same in processor time", f"{cpu_s:.2f} s")
        (Path(folder) / "served").mkdir()
        with serve(Path(folder) / "served", *options, "--visitors", "200") as served:
            shown, waits, needs = time_songs(served, song, make_tag(arguments), arguments.rounds)
            add(rows, "from the click to a page that is shown", f"{statistics.median(shown):.2f} s")
            wait, need = statistics.median(waits), statistics.median(needs)
            add(rows, "a song of 3 minutes, from the end of its upload to its moods", f"{wait:.2f} s")
            add(rows, "what `tag` needs for it, once it has started", f"{need:.2f} s (ratio {wait / need:.2f})")
            each_mb = asyncio.run(measure_memory(served))
            add(rows, "memory of a visitor who had such a song tagged and stays", f"{each_mb:.1f} MB")
            before_mb = served.server_mb()
            first_s, last_s, waited = asyncio.run(measure_crowd(served))
            add(
                rows,
                f"{CROWD} visitors at once, each with a song of 3 s",
                f"first done after {first_s:.1f} s, last after "
                f"{last_s:.1f} s; {waited} of them told to wait once or more",
            )
            add(rows, "memory of the server before and after them", f"{before_mb:.0f} MB, {served.server_mb():.0f} MB")
    if arguments.page is not None:
        write_table(arguments.page, rows)


def add(rows: list[tuple[str, str]], what: str, figure: str) -> None:
    """A row of the table."""
    rows.append((what, figure))
    print(f"{what}: {figure}", flush=True)


def write_table(page: Path, rows: list[tuple[str, str]]) -> None:
    """Put the table between the two comments of a page."""
    table = "\n".join(["| what | measured |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def write_song(path: Path) -> Path:
    """Three minutes of noise and a tone, as an MP3 of 320 kb/s."""
    source = "sine=330:duration=180[tone];anoisesrc=duration=180:amplitude=0.2[noise];[tone][noise]amix"
    command = [find_ffmpeg(), "-v", "error", "-filter_complex", source, "-b:a", "320k", str(path)]
    subprocess.run(command, check=True)
    return path


def measure_start(options: list[str], folder: Path) -> tuple[float, float]:
    """Seconds until the first page has come, and those that processors were at work for it."""
    folder.mkdir()
    started = time.perf_counter()
    with serve(folder, *options) as served:
        assert served.ask("/").status == 200
        used = psutil.Process(served.process.pid).cpu_times()
        return time.perf_counter() - started, used.user + used.system


def time_songs(served: Served, song: Path, tag: Callable[[Path], float], rounds: int) -> tuple[list[float], ...]:
    """Seconds until the page is shown, from the end of an upload to its moods, and of `tag`."""
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(served.url)
        page.locator(".jm-drop").wait_for()
        upload(page, song)  # the first one is not what is measured
        tag(song)
        shown, waits, needs = [], [], []
        for _ in range(rounds):
            started = time.perf_counter()
            page.goto(served.url)
            page.locator(".jm-drop").wait_for()
            shown.append(time.perf_counter() - started)
            waits.append(upload(page, song))
            needs.append(tag(song))
    return shown, waits, needs


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        sys.exit("needs Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        yield browser
        browser.close()


def upload(page: Page, song: Path) -> float:
    """Seconds from the last piece of the upload to the moods."""
    before = page.locator(".jm-spectrogram:not([hidden])").count()
    page.locator("input[type=file]").set_input_files(str(song))
    page.locator(".jm-spectrogram:not([hidden])").nth(before).wait_for(timeout=120_000)  # all is done
    return float(page.evaluate(WAITED))


def make_tag(arguments: argparse.Namespace) -> Callable[[Path], float]:
    """A function that does what `tag` does once it has started, and says how many seconds that took."""
    tagger = Tagger.load(arguments.tagger)
    options = EmbedderOptions(weights=arguments.weights, allow_untrained=True) if arguments.weights else None
    embedder = load_embedder(tagger.spec, options)

    def tag(song: Path) -> float:
        started = time.perf_counter()
        predict(song, tagger, embedder)
        return time.perf_counter() - started

    return tag


async def measure_memory(served: Served) -> float:
    """MB that each visitor adds who stays."""
    song, visitors = make_song(1, 180.0), [Visitor(served) for _ in range(STAYING + 3)]
    for number, visitor in enumerate(visitors):
        assert await visitor.come()
        assert (await visitor.upload("song.wav", song))["type"] == "tags"
        await visitor.wait(lambda told: told["type"] == "details")
        if number == 2:  # the first ones fill what all use
            before_mb = served.server_mb()
    each_mb = (served.server_mb() - before_mb) / STAYING
    for visitor in visitors:
        await visitor.leave()
    return each_mb


async def measure_crowd(served: Served) -> tuple[float, float, int]:
    """Seconds until the first and the last of many visitors had their moods, and how many of them were told to wait."""
    started, times, waited = time.perf_counter(), [], 0

    async def visit(number: int) -> None:
        nonlocal waited
        visitor, tries = Visitor(served), 1
        assert await visitor.come()
        while (await visitor.upload("song.wav", make_song(number)))["type"] == "failed":
            tries += 1
            await asyncio.sleep(1)
        times.append(time.perf_counter() - started)
        waited += tries > 1
        await visitor.leave()

    await asyncio.gather(*map(visit, range(CROWD)))
    return min(times), max(times), waited


if __name__ == "__main__":
    main()
