"""How long a visitor of the web page waits for moods once a song is uploaded, against what `jamendo-mood tag` needs.

Both are measured in one run, one after the other, several times, with a page that is warm. It needs Chromium and the
extra ``dev``. A song of three minutes is synthesised unless one is given.

    python scripts/bench_page.py --tagger build/demo/tagger-logmel
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from jamendo_mood.audio.ffmpeg import find_ffmpeg

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAITED = """() => {
    const at = (name) => performance.getEntriesByName(name).at(-1).startTime;
    return (at("jm-tagged") - at("jm-uploaded")) / 1000;
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tagger", type=Path, required=True)
    parser.add_argument("--song", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", help="VGGish's weights, for a tagger that needs them")
    arguments = parser.parse_args()
    options = ["--tagger", str(arguments.tagger)]
    if arguments.weights:
        options += ["--weights", arguments.weights, "--allow-untrained"]
    with tempfile.TemporaryDirectory() as folder, serve(options) as address, open_page(address) as page:
        song = arguments.song or make_song(Path(folder) / "song.mp3")
        upload(page, song)  # the first song of a visitor is not what is measured
        waits, needs = [], []
        for _ in range(arguments.rounds):
            waits.append(upload(page, song))
            needs.append(tag(song, options))
            print(f"page {waits[-1]:.2f} s, command {needs[-1]:.2f} s", flush=True)
    ratio = statistics.median(waits) / statistics.median(needs)
    print(f"median: page {statistics.median(waits):.2f} s, command {statistics.median(needs):.2f} s, ratio {ratio:.2f}")


def make_song(path: Path) -> Path:
    """Three minutes of noise and a tone, as an MP3 of 320 kb/s."""
    source = "sine=330:duration=180[tone];anoisesrc=duration=180:amplitude=0.2[noise];[tone][noise]amix"
    command = [find_ffmpeg(), "-v", "error", "-filter_complex", source, "-b:a", "320k", str(path)]
    subprocess.run(command, check=True)
    return path


@contextmanager
def serve(options: list[str]) -> Iterator[str]:
    """The page, as the command serves it."""
    command = [sys.executable, "-m", "jamendo_mood", "web", "--port", "0", "--no-browser", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if found := re.search(r"http://\S+", line):
                yield found[0]
                break
        else:
            sys.exit("the page could not be served")
        server.terminate()


@contextmanager
def open_page(address: str) -> Iterator[Page]:
    """The page in a browser."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        sys.exit("needs Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page()
        page.goto(address)
        page.locator(".jm-drop").wait_for()
        yield page
        browser.close()


def upload(page: Page, song: Path) -> float:
    """Seconds from the last piece of the upload to the moods."""
    before = page.locator(".jm-spectrogram:not([hidden])").count()
    page.locator("input[type=file]").set_input_files(str(song))
    page.locator(".jm-spectrogram:not([hidden])").nth(before).wait_for(timeout=120_000)  # all is done
    return float(page.evaluate(WAITED))


def tag(song: Path, options: list[str]) -> float:
    """Seconds that the command reports for the same song, start-up excluded."""
    command = [sys.executable, "-m", "jamendo_mood", "tag", str(song), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"scored in ([\d.]+) s", done.stderr)
    assert found is not None
    return float(found[1])


if __name__ == "__main__":
    main()
