"""`demo`: the real commands, one after the other, on a corpus that it makes itself.

The corpus stands in for MTG-Jamendo, which is 152 GB, wherever the whole way from MP3 to tags is to be shown or tested:
songs synthesised from a seed in five plainly different moods, in MTG's own layout. A song has one mood or two, each a
layer of its own; key, tempo, loudness and noise vary from song to song.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jamendo_mood.audio import decoding, ffmpeg
from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, SOME_FAILED, Command
from jamendo_mood.datasets.dataset import PARTS
from jamendo_mood.datasets.jamendo import ALL_TRACKS_NAME, COLUMNS, SPLIT_TAGS_NAME, TAG_PREFIX
from jamendo_mood.embedders import musicnn, vggish
from jamendo_mood.util.errors import UsageError, WeightsError
from jamendo_mood.util.files import write_atomically


def _add_demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--embedder", help="vggish, vggish-pca or logmel (default: vggish if its weights are at hand)")
    shared.add_weights(parser)
    add("--out", type=Path, default=Path("build/demo"), metavar="DIR", help="default build/demo")
    add("--seed", type=int, default=0, metavar="N", help="of the music and the training (default 0)")


def demo(arguments: argparse.Namespace) -> int:
    """Go the whole way in about a minute, with music made on the spot."""
    out, seed, name = arguments.out, arguments.seed, _choose(arguments.embedder, arguments.weights)
    store, tagger, report = out / f"embeddings-{name}", out / f"tagger-{name}", out / f"report-{name}"
    songs = make_corpus(out, seed)
    print(f"\n[1/6] Music: {len(songs)} songs of 12 s in {out / 'audio'}, each with one or two of the moods")
    print(f"      {', '.join(MOODS)}; tables and a split without shared artists beside it.")
    print(f"      They are synthesised from seed {seed}: nothing learned from them says anything about real music.")

    def run(*command: object) -> int:
        words = [*map(str, command)]
        print(f"$ jamendo-mood {shlex.join(words)}", flush=True)
        status: int = arguments.main(words)
        return status

    song = next(song for song in songs if song.part == "test" and len(song.moods) == 2)
    path, data = out / "audio" / song.path, ("--data", out, "--store", store)
    weights = [
        f"--{option.replace('_', '-')}" + ("" if value is True else f"={value}")
        for option in ("weights", "pca", "allow_untrained", "offline", "engine")
        if (value := getattr(arguments, option)) not in (None, False, "auto")
    ]
    embedding = ("extract", out / "audio", "--store", store, "--embedder", name, *weights)
    training = ("train", "--task", "jamendo", *data, "--out", tagger, "--seed", seed)
    mixed = f"Tagging a song it was not trained on, whose moods are: {', '.join(song.moods)}"
    steps: dict[str, tuple[object, ...]] = {
        "Embeddings: each MP3 to WAV, to numbers, to disk; the WAV is dropped": embedding,
        "Training a tagger on the stored embeddings": training,
        "How good it is, on artists it was not trained on": ("evaluate", tagger, *data, "--out", report),
        mixed: ("tag", path, "--tagger", tagger, *weights),
    }
    for number, (title, command) in enumerate(steps.items(), start=2):
        print(f"\n[{number}/6] {title}")
        if status := run(*command):
            return status
    print("\n[6/6] The same song to a network that learned from real music, which this is not")
    try:
        musicnn.WEIGHTS.find(download=not arguments.offline)
        run("tag", path, "--tagger", "musicnn")
        first = ""
    except WeightsError as error:
        print(f"      left out: {error}")
        first = f"; the first time pip fetches its weights ({musicnn.WHEEL_MB} MB)"
    figures = json.loads((report / "scores.json").read_text())
    ratio = figures["PR-AUC-macro"] / figures["prior-macro"]
    print(f"Test PR-AUC {figures['PR-AUC-macro']:.3f}, {ratio:.1f} times the prior {figures['prior-macro']:.3f}.")
    print(f"Files: embeddings in {store}, tagger in {tagger}, scores and pictures in {report}/report.html.")
    if ratio < 2:
        return SOME_FAILED
    # The command's name where the shell finds it, else the path that it was started by.
    found = shutil.which("jamendo-mood") or Path(sys.argv[0]).name != "jamendo-mood"
    program, own = "jamendo-mood" if found else sys.argv[0], shlex.quote(str(tagger))
    print("\nNext, a song of your own, from any audio file:")
    print(f"  {program} tag SONG.mp3")
    print(f"      moods of real music, by a network that learned from it{first}")
    print(f"  {program} tag SONG.mp3 --tagger {own}")
    print("      at once, by the tagger above, which knows synthesised music only")
    print(f"  {program} web --tagger {own} --examples {shlex.quote(str(out / 'audio'))}/0[0-2]/11*.mp3")
    print("      the same on a page in the browser: drop songs on it, or try one of three that are there")
    print("To learn your own tags from your own music: notebooks/02_train.ipynb, or `jamendo-mood train --help`.")
    return DONE


def _choose(embedder: str | None, weights: Path | None) -> str:
    """The embedder to use; the first line of the demo says which and why."""
    if embedder is not None:
        print(f"Demo with the embedder {embedder}, as asked.")
        return embedder
    try:
        found = vggish.WEIGHTS.find(weights, download=False)
    except WeightsError:
        print("Demo with the embedder logmel: VGGish's weights are not on this machine (README: how to get them).")
        return "logmel"
    print(f"Demo with the embedder vggish, weights from {found}.")
    return "vggish"


RATE_HZ = 22_050
SONG_S = 12.0
SONGS_PER_ARTIST = 3
ARTISTS = {"train": 24, "validation": 10, "test": 10}
MOODS = ("dark", "energetic", "happy", "relaxing", "sad")
PAIRS = (("energetic", "happy"), ("relaxing", "sad"), ("dark", "energetic"), ("dark", "sad"))
PAIR_SHARE = 0.35

Wave = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Song:
    """A song of the corpus: where it is, who made it, its moods, and the seed it is made from."""

    id: int
    artist: int
    part: str
    moods: tuple[str, ...]
    seed: tuple[int, int]

    @property
    def path(self) -> str:
        """As MTG names files: the last two digits of the id are the folder."""
        return f"{self.id % 100:02d}/{self.id}.mp3"


def make_corpus(root: Path, seed: int = 0) -> list[Song]:
    """Write ``audio/NN/ID.mp3`` and the TSVs, split and tag list of the corpus; songs that are there already stay.

    Same seed, same songs. Raises `UsageError` if ffmpeg cannot write MP3.
    """
    songs = plan_songs(seed)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda song: _write_song(root / "audio" / song.path, song), songs))
    write_table(root / ALL_TRACKS_NAME, songs)
    for part in PARTS:
        path = root / "splits" / "split-0" / f"autotagging_moodtheme-{part}.tsv"
        write_table(path, [song for song in songs if song.part == part])
    tags = "".join(f"{TAG_PREFIX}{mood}\n" for mood in MOODS)
    write_atomically(root / SPLIT_TAGS_NAME, tags.encode())
    return songs


def plan_songs(seed: int) -> list[Song]:
    """Decide moods, artists and parts; no artist is in two parts."""
    rng = np.random.default_rng(seed)
    songs: list[Song] = []
    for part, artists in ARTISTS.items():
        for _ in range(artists * SONGS_PER_ARTIST):
            number = len(songs)
            pair = rng.random() < PAIR_SHARE
            moods = PAIRS[rng.integers(len(PAIRS))] if pair else (MOODS[rng.integers(len(MOODS))],)
            songs.append(Song(1000 + number, number // SONGS_PER_ARTIST, part, moods, (seed, number)))
    return songs


def render(song: Song) -> Wave:
    """The sound of a song: float64 (samples,) at 22,050 Hz, range [-1, 1]."""
    rng = np.random.default_rng(song.seed)
    layers = [LAYERS[mood](rng) for mood in song.moods]
    mixed = sum(layer / np.abs(layer).max() * rng.uniform(0.6, 1.0) for layer in layers)
    noisy = mixed + rng.normal(0, rng.uniform(0.0005, 0.01), len(mixed))
    return np.asarray(noisy / np.abs(noisy).max() * rng.uniform(0.4, 0.95))


def write_table(path: Path, songs: list[Song]) -> None:
    """Write songs as one of MTG's TSVs, line ends and all."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for song in songs:
        names = (f"track_{song.id:07d}", f"artist_{song.artist:06d}", f"album_{song.artist:06d}")
        rows.append((*names, song.path, f"{SONG_S:.1f}", *(TAG_PREFIX + mood for mood in song.moods)))
    write_atomically(path, "".join("\t".join(row) + "\r\n" for row in rows).encode())


def _write_song(path: Path, song: Song) -> None:
    if path.is_file():
        return
    done = ffmpeg.run(
        *("-v", "error", "-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "-"),
        *("-metadata", f"title=Study in {' and '.join(song.moods)} no. {song.id}"),
        *("-metadata", f"artist=Synthetic artist {song.artist}"),
        *("-c:a", "libmp3lame", "-b:a", "96k", "-f", "mp3", "-"),
        fed=(render(song) * (decoding.PCM_SCALE - 1)).astype("<i2").tobytes(),
    )
    if done.status != 0:
        raise UsageError(f"ffmpeg cannot write MP3 files: {done.report.strip()}")
    write_atomically(path, done.output)


def _seconds(length_s: float) -> Wave:
    return np.arange(round(length_s * RATE_HZ)) / RATE_HZ


def _hz(semitones: float, base_hz: float) -> float:
    return float(base_hz * 2.0 ** (semitones / 12))


def _place(notes: list[tuple[float, Wave]]) -> Wave:
    """Add notes up, each at its time in seconds."""
    song = np.zeros(round(SONG_S * RATE_HZ))
    for start_s, note in notes:
        room = song[round(start_s * RATE_HZ) :][: len(note)]
        room += note[: len(room)]
    return song


def _saw(time_s: Wave, hz: float) -> Wave:
    return 2 * (time_s * hz % 1) - 1


def _happy(rng: np.random.Generator) -> Wave:
    """Quick bright plucks up and down a major scale."""
    step_s = 60 / rng.uniform(110, 145) / 2
    base_hz, scale = rng.uniform(400, 650), np.array([0, 2, 4, 7, 9, 12, 16])
    time_s = _seconds(0.4)
    walk = np.abs(np.cumsum(rng.integers(-2, 3, round(SONG_S / step_s)))) % len(scale)
    decay = np.exp(-time_s * rng.uniform(8, 14))
    return _place([(i * step_s, _saw(time_s, _hz(scale[degree], base_hz)) * decay) for i, degree in enumerate(walk)])


def _sad(rng: np.random.Generator) -> Wave:
    """A slow soft line in minor with vibrato."""
    step_s = 60 / rng.uniform(50, 70)
    base_hz, scale = rng.uniform(180, 300), np.array([12, 10, 8, 7, 5, 3, 2, 0])
    time_s = _seconds(step_s * 1.6)
    vibrato = 0.004 * np.sin(2 * np.pi * 5 * time_s)
    envelope = np.minimum(time_s / 0.15, 1) * np.exp(-time_s * 1.2)
    line = [scale[(i + rng.integers(2)) % len(scale)] for i in range(round(SONG_S / step_s))]
    phases = [2 * np.pi * _hz(degree, base_hz) * (time_s + vibrato) for degree in line]
    tones = [(np.sin(phase) + 0.3 * np.sin(2 * phase)) * envelope for phase in phases]
    return _place([(i * step_s, tone) for i, tone in enumerate(tones)])


def _energetic(rng: np.random.Generator) -> Wave:
    """Drums and a driving distorted bass."""
    beat_s = 60 / rng.uniform(125, 160)
    short_s, base_hz = _seconds(0.2), rng.uniform(50, 75)
    kick = np.sin(2 * np.pi * 60 * short_s * (1 + 2 * np.exp(-short_s * 40))) * np.exp(-short_s * 18)
    hat = rng.normal(0, 0.5, len(short_s)) * np.exp(-short_s * 45)
    bass = np.tanh(4 * _saw(short_s, base_hz)) * np.exp(-short_s * 6)
    beat = [(0.0, 1.2 * kick), (0.5, hat), *((part / 4, 0.5 * bass) for part in range(4))]
    return _place([((i + at) * beat_s, sound) for i in range(round(SONG_S / beat_s)) for at, sound in beat])


def _relaxing(rng: np.random.Generator) -> Wave:
    """Slow warm chords over soft rain."""
    base_hz, time_s = rng.uniform(150, 230), _seconds(4.0)
    envelope = np.sin(np.pi * time_s / time_s[-1]) ** 2
    roots = [rng.choice([0, 5, 7, -3]) for _ in range(5)]
    chords = [sum(np.sin(2 * np.pi * _hz(root + tone, base_hz) * time_s) for tone in (0, 4, 7, 11)) for root in roots]
    rain = np.convolve(rng.normal(0, 1, round(SONG_S * RATE_HZ)), np.ones(6) / 6, mode="same")
    return _place([(i * 2.5, chord * envelope) for i, chord in enumerate(chords)]) + 0.1 * rain


def _dark(rng: np.random.Generator) -> Wave:
    """A low dissonant drone under swelling rumble."""
    time_s, base_hz = _seconds(SONG_S), rng.uniform(45, 75)
    drone = sum(np.tanh(2 * np.sin(2 * np.pi * _hz(tone, base_hz) * time_s)) for tone in (0, 0.15, 1, 6))
    rumble = np.convolve(rng.normal(0, 1, len(time_s)), np.hanning(200) / 100, mode="same")
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * time_s)
    return np.asarray(0.5 * drone + 3 * rumble * swell)


LAYERS = dict(zip(MOODS, (_dark, _energetic, _happy, _relaxing, _sad), strict=True))

COMMANDS = {"demo": Command(_add_demo, demo)}
