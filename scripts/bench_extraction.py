"""How near extraction comes to what the machine can do, as ratios measured in one run; writes docs/benchmarks.md.

    python scripts/bench_extraction.py                # MP3s that it synthesises, weights from a seed
    python scripts/bench_extraction.py --audio music/ --weights vggish/
    python scripts/bench_extraction.py --quick --format json

- ``network_vs_matmul``: the network on batches as extraction runs it, against a large matrix product in float32.
- ``vs_onnxruntime``: the network against ONNX Runtime on the file that `engines.to_onnx` writes, where it is installed.
- ``engine_...``: the network by each engine, in patches a second.
- ``end_to_end_vs_ideal``: the CPU seconds of all stages, each measured alone, on all cores without a gap, against the
  time from MP3s to stored embeddings.
- ``vs_usual_recipe``: pydub to WAV, the module on the whole waveform, one file after the other, against extraction.
- ``vs_torchvggish``: the PyTorch port, likewise, where it is installed.
- ``vs_essentia``: Essentia's MonoLoader and TensorflowPredictVGGish on the same weights, likewise, by the Python that
  ``--essentia`` names, in which essentia-tensorflow is installed.
- ``decoding_...``: CPU milliseconds for a second of sound: MP3 decoded by the programs alone, decoded and resampled by
  ours, the log-mel patches.

Each for whole tracks, the default engine, precision and decoder; others have a suffix (``_float32``, ``_30s``,
``_fast_decoder``: libsndfile, where the extra ``fast`` is installed). Times are the best of some rounds, which take
turns, for the machine may have other work.
"""

import argparse
import functools
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydub import AudioSegment

from jamendo_mood.audio import decoding, spectrograms
from jamendo_mood.audio.ffmpeg import find_ffmpeg, probe
from jamendo_mood.embedders import engines, vggish
from jamendo_mood.embedders.registry import Embedder, EmbedderOptions, load_embedder
from jamendo_mood.extraction.streaming import StreamConfig, blocks_of, decode, extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.files import Scratch
from jamendo_mood.util.process import import_quietly

ROOT = Path(__file__).resolve().parents[1]
MATRIX = 4096
MULTIPLY_ADDS = 863_895_552  # of VGGish for one patch
Files = Mapping[str, Path]
KINDS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
TABLES = ("<!-- extraction -->", "<!-- end of extraction -->")


@dataclass(frozen=True)
class Setting:
    """What is measured: the files, the embedder and the name of the case."""

    files: Files
    embedder: Embedder
    suffix: str


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="folder of MP3s (default: synthesised)")
    parser.add_argument("--tracks", type=int, metavar="N", help="so many to synthesise (default: 6, quick 2)")
    parser.add_argument("--weights", type=Path, help="TF-Hub module's folder (default: drawn from a seed)")
    parser.add_argument("--essentia", metavar="PYTHON", help="a Python that has essentia-tensorflow")
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds: within a minute")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jamendo-mood-bench-") as name:
        folder = Path(name)
        tell("preparing files and weights")
        weights = arguments.weights or make_weights(folder)
        tracks, clips = find_files(arguments.audio, folder, arguments.tracks, quick=arguments.quick)
        figures = measure(tracks, clips, weights, folder, 1 if arguments.quick else 2, arguments.essentia)
    if arguments.format == "json":
        print(json.dumps(figures, indent=2))
    else:
        print("".join(f"{name:40} {value:10.3f}\n" for name, value in figures.items()), end="")
    if not arguments.quick:
        write_page(figures, len(tracks), len(clips), synthesised=arguments.audio is None)


def measure(
    tracks: Files, clips: Files, weights: Path, folder: Path, rounds: int, essentia: str | None
) -> dict[str, float]:
    """All figures by name."""
    precisions = {"": "auto", "_float32": "float32"}
    embedders = {
        suffix: load_embedder("vggish", EmbedderOptions(weights, allow_untrained=True, precision=precision))
        for suffix, precision in precisions.items()
    }
    settings = [
        Setting(files, embedder, kind + suffix)
        for kind, files in (("", tracks), ("_30s", clips))
        for suffix, embedder in embedders.items()
    ]
    figures: dict[str, float] = {"cores": float(os.cpu_count() or 1)}
    figures |= measure_networks(embedders, weights, rounds)
    recipes: dict[str, Callable[[Files], None]] = {"vs_usual_recipe": usual_recipe(weights, folder)}
    if importlib.util.find_spec("torchvggish"):
        recipes["vs_torchvggish"] = torch_recipe()
    else:
        tell("torchvggish is not installed: no vs_torchvggish")
    if essentia:
        recipes["vs_essentia"] = essentia_recipe(essentia, weights, folder)
    figures |= measure_decoding(tracks, embedders[""], folder)
    decoders = {"": "pydub", "_fast_decoder": "libsndfile"}
    if not (importlib.util.find_spec("soundfile") and importlib.util.find_spec("soxr")):
        tell("the extra `fast` is not installed: no figures of the fast decoder")
        del decoders["_fast_decoder"]
    for setting in settings:
        tell(f"extraction{setting.suffix or ' of whole tracks'}")
        runs = [functools.partial(run_extraction, setting, folder, decoder) for decoder in decoders.values()]
        runs += [functools.partial(recipe, setting.files) for recipe in recipes.values()]
        times = alternate(runs, rounds)
        walls, others = dict(zip(decoders, times, strict=False)), times[len(decoders) :]
        wall = walls[""]
        stages = {name: cpu_seconds(stage) for name, stage in stages_of(setting, folder).items()}
        figures[f"x_real_time{setting.suffix}"] = total_s(setting.files) / wall
        figures[f"end_to_end_vs_ideal{setting.suffix}"] = sum(stages.values()) / figures["cores"] / wall
        figures[f"share_of_decode_and_logmel{setting.suffix}"] = stages["decode"] / sum(stages.values())
        for name, other in zip(recipes, others, strict=True):
            figures |= {f"{name}{setting.suffix}{suffix}": other / own for suffix, own in walls.items()}
    return figures


def measure_networks(embedders: Mapping[str, Embedder], weights: Path, rounds: int) -> dict[str, float]:
    """The networks against a matrix product, ONNX Runtime, and the other engines, in turns."""
    network = vggish.define(vggish.read_variables(weights))
    runs: dict[str, Callable[[], object]] = {"matmul": multiply}
    runs |= {suffix: functools.partial(run_network, embedder.network) for suffix, embedder in embedders.items()}
    kinds = [("tensorflow", "float32"), ("tensorflow", "bfloat16"), ("mnn", "float32"), ("openvino", "float32")]
    for engine, precision in [*kinds, ("openvino", "bfloat16")]:
        name = f"engine_{engine}_{precision}"
        runs[name] = functools.partial(run_network, engines.build(network, engine, precision))
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(engines.to_onnx(network), providers=["CPUExecutionProvider"])
        runs["onnxruntime"] = functools.partial(run_network, lambda patches: session.run(["y"], {"x": patches})[0])
    tell(f"networks: {', '.join(filter(None, runs))}")
    times = dict(zip(runs, alternate(list(runs.values()), 3 * rounds), strict=True))
    per_s = {name: StreamConfig().batch / own for name, own in times.items()}
    products = MATRIX**3 / times["matmul"]
    figures = {"matmul_gmacs": products / 1e9}
    figures |= {f"{name}_patches_per_s": per_s[name] for name in times if name.startswith(("engine", "onnx"))}
    for suffix in embedders:
        figures[f"network_patches_per_s{suffix}"] = per_s[suffix]
        figures[f"network_vs_matmul{suffix}"] = per_s[suffix] * MULTIPLY_ADDS / products
        if "onnxruntime" in per_s:
            figures[f"vs_onnxruntime{suffix}"] = per_s[suffix] / per_s["onnxruntime"]
    return figures


def alternate(runs: list[Callable[[], object]], rounds: int) -> list[float]:
    """The best time of each, after one run that warms up; they take turns, so that a busy moment meets all."""
    best = [float("inf")] * len(runs)
    for turn in range(rounds + 1):
        for number, run in enumerate(runs):
            started = time.perf_counter()
            run()
            if turn:
                best[number] = min(best[number], time.perf_counter() - started)
    return best


def multiply() -> None:
    """One large matrix product in float32."""
    matrix = np.random.default_rng(0).standard_normal((MATRIX, MATRIX), dtype=np.float32) if not _kept else _kept[0]
    _kept[:] = [matrix]
    _kept[0] @ matrix


_kept: list[np.ndarray] = []


def run_network(network: Callable[[np.ndarray], np.ndarray]) -> None:
    """The network on one batch of extraction."""
    generator = np.random.default_rng(0)
    shape = (StreamConfig().batch, spectrograms.PATCH_FRAMES, spectrograms.MEL_BANDS)
    network(generator.standard_normal(shape, dtype=np.float32) - 2)


def run_extraction(setting: Setting, folder: Path, decoder: str) -> None:
    """MP3s to a store."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        store = EmbeddingStore(Path(name) / "store", setting.embedder.spec)
        report = extract(setting.files, setting.embedder, store, StreamConfig(decoder=decoder))
    assert report.done == len(setting.files), report.failed


def stages_of(setting: Setting, folder: Path) -> dict[str, Callable[[], None]]:
    """The stages, each to be run alone."""
    embedder, kept = setting.embedder, []

    def decode_all() -> None:
        with Scratch(folder) as scratch:
            for key, path in setting.files.items():
                kept.extend(chunk.inputs for chunk in decode(key, path, embedder, scratch) if chunk.inputs is not None)

    def network() -> None:
        patches, batch = np.concatenate(kept), StreamConfig().batch
        for start in range(0, len(patches), batch):
            embedder.network(patches[start : start + batch])

    return {"decode": decode_all, "network": network}


def measure_decoding(files: Files, embedder: Embedder, folder: Path) -> dict[str, float]:
    """CPU milliseconds for a second of sound, of the steps before the network; soundfile must be installed."""
    import soundfile

    waves = []

    def by_ffmpeg() -> None:
        for path in files.values():
            ffmpeg("-i", str(path), "-f", "null", "-")

    def by_libsndfile() -> None:
        for path in files.values():
            soundfile.read(path, dtype="float32")

    def ours(decoder: str) -> None:
        waves.clear()
        with Scratch(folder) as scratch:
            for path in files.values():
                waves.extend(decoding.cut(decoding.DECODERS[decoder](path, scratch), path, *blocks_of(embedder)))

    stages = {
        "ffmpeg_alone": by_ffmpeg,
        "libsndfile_alone": by_libsndfile,
        "and_resampling_by_pydub": functools.partial(ours, "pydub"),
        "and_resampling_by_libsndfile": functools.partial(ours, "libsndfile"),
        "then_logmel": lambda: [embedder.frontend(wave) for wave in waves] and None,
    }
    return {f"decoding_{name}_ms": 1000 * cpu_seconds(stage) / total_s(files) for name, stage in stages.items()}


def cpu_seconds(stage: Callable[[], None]) -> float:
    """CPU seconds of a stage, those of its child processes included."""

    def used() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(own.ru_utime + own.ru_stime for own in map(resource.getrusage, who))

    before = used()
    stage()
    return used() - before


def usual_recipe(weights: Path, folder: Path) -> Callable[[Files], None]:
    """pydub to WAV, then the module on the whole waveform, one file after the other."""
    tf = import_quietly("tensorflow")
    module = tf.saved_model.load(str(weights))
    AudioSegment.converter = find_ffmpeg()

    def run(files: Files) -> None:
        for path in files.values():
            wav = folder / "usual.wav"
            segment = AudioSegment.from_file(path, format="mp3", codec="mp3")
            segment.export(wav, format="wav", parameters=["-ac", "1", "-ar", "16000"]).close()
            (wave,) = decoding.read_blocks(wav, decoding.count_samples(wav))
            np.save(folder / "usual.npy", module(wave).numpy())

    return run


def torch_recipe() -> Callable[[Files], None]:
    """The PyTorch port as its README runs it, with random weights of its own: the speed is the same."""
    import torch
    from torchvggish import vggish_input
    from torchvggish.torchvggish import VGG, make_layers

    model = VGG(make_layers(), postprocess=False).eval()

    def run(files: Files) -> None:
        for path in files.values():
            with Scratch() as scratch, decoding.converted(path, scratch) as wav:
                examples = vggish_input.wavfile_to_examples(str(wav))
            with torch.no_grad():
                model(examples)

    return run


ESSENTIA = """
import sys, essentia.standard as es
predict = es.TensorflowPredictVGGish(graphFilename=sys.argv[1], input="pictures", output="rows", patchHopSize=96)
for path in sys.stdin:
    print(len(predict(es.MonoLoader(filename=path.rstrip(), sampleRate=16000)())), flush=True)
"""


def essentia_recipe(python: str, weights: Path, folder: Path) -> Callable[[Files], None]:
    """Essentia as its documentation runs it, in a process of its own that has started; on our weights, frozen."""
    tf = import_quietly("tensorflow")
    network, ops = vggish.define(vggish.read_variables(weights)), engines.Ops("float32")
    with tf.Graph().as_default() as graph:
        ops._constant = tf.constant  # within the graph
        pictures = tf.compat.v1.placeholder(tf.float32, (None, *network.shape), name="pictures")
        picture = network.trunk(ops, pictures[..., tf.newaxis])
        tf.identity(network.tail(ops, tf.reshape(picture, (-1, np.prod(picture.shape[1:])))), name="rows")
    (folder / "vggish.pb").write_bytes(graph.as_graph_def().SerializeToString())
    command = [python, "-c", ESSENTIA, str(folder / "vggish.pb")]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def run(files: Files) -> None:
        for path in files.values():
            print(path, file=child.stdin, flush=True)
            int(child.stdout.readline())

    run({"first": synthesise(folder / "first.mp3", 5, 0)})
    return run


def find_files(given: Path | None, folder: Path, count: int | None, *, quick: bool) -> tuple[Files, Files]:
    """Whole tracks and clips of 30 s."""
    tracks = dict(decoding.find_audio(given)) if given else {}
    if not given:
        for number in range(count or (2 if quick else 6)):
            tracks[f"track{number}"] = synthesise(folder / f"track{number}.mp3", 60 if quick else 180, number)
    clips = {}
    for number, path in enumerate(list(tracks.values()) * (2 if quick else 4)):
        clip = folder / f"clip{number}.mp3"
        start = str(5 + 17 * (number % 4))
        ffmpeg("-ss", start, "-t", "30", "-i", str(path), "-vn", "-b:a", "192k", str(clip))
        clips[f"clip{number}"] = clip
    return tracks, clips


def synthesise(path: Path, seconds: int, seed: int) -> Path:
    """Noise and tones as a stereo MP3 of 192 kb/s."""
    noise = f"anoisesrc=duration={seconds}:seed={seed}:amplitude=0.2:sample_rate=44100"
    source = f"sine={220 + 40 * seed}:duration={seconds}:sample_rate=44100[tone];{noise}[noise];[tone][noise]amix"
    ffmpeg("-filter_complex", source, "-ac", "2", "-b:a", "192k", str(path))
    return path


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg."""
    subprocess.run([find_ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments], check=True)


def total_s(files: Files) -> float:
    """Seconds of sound."""
    return sum(probe(path).duration_s or 0.0 for path in files.values())


def make_weights(folder: Path) -> Path:
    """VGGish's module with weights from a seed: as fast as the true one, and good for nothing else."""
    out = folder / "seeded"
    command = [sys.executable, str(ROOT / "tests" / "seeded_vggish.py"), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


def write_page(figures: Mapping[str, float], tracks: int, clips: int, *, synthesised: bool) -> None:
    """Write this processor's table into docs/benchmarks.md, in place of an older one."""
    page = ROOT / "docs" / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "unknown")
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    kind = next((shown for flag, shown in KINDS.items() if flag in flags), "without AVX2")
    heading = f"## {name}, {figures['cores']:.0f} cores, {kind}"
    rows = "".join(f"| `{figure}` | {value:.3f} |\n" for figure, value in figures.items())
    origin = "synthesised" if synthesised else "given"
    table = f"{heading}\n\n{tracks} whole tracks and {clips} clips of 30 s, {origin}.\n\n"
    table += f"| figure | value |\n|---|---|\n{rows}\n"
    start, end = text.index(TABLES[0]) + len(TABLES[0]), text.index(TABLES[1])
    sections = ["## " + own for own in text[start:end].split("## ")[1:]]
    kept = [own for own in sections if not own.startswith(heading)]
    page.write_text(text[:start] + "\n\n" + "".join([*kept, table]) + text[end:], encoding="utf-8")
    tell("docs/benchmarks.md written")


def tell(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
