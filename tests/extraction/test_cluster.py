"""A Ray cluster that loses processes and machines: one of stand-ins, whose deaths are scripted, and real ones."""

import contextlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.extraction import cluster
from jamendo_mood.extraction.cluster import ClusterConfig, ObjectStore, Worker, extract_on_ray
from jamendo_mood.extraction.streaming import StreamConfig, extract
from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.util.errors import UsageError, WeightsError

pytest_plugins = ["toy_commands"]

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")

LOSE_A_NODE = """
import json, logging, os, sys
from functools import partial
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")

from ray.cluster_utils import Cluster
from jamendo_mood.extraction import cluster as package
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.audio.decoding import find_audio

audio, store, scratch = map(Path, sys.argv[1:])
small = {"object_store_memory": 80_000_000}
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
nodes = [machines.add_node(num_cpus=1, **small) for _ in range(3)]


def on_track(result):
    if len(nodes) == 3:
        machines.remove_node(nodes.pop(), allow_graceful=False)


report = package.extract_on_ray(
    find_audio(audio),
    partial(load_embedder, "logmel"),
    store,
    package.ClusterConfig(machines.address, stream=package.StreamConfig(scratch=scratch)),
    on_track=on_track,
)
print(json.dumps({"done": report.done, "failed": report.failed, "nodes": len(nodes)}))
machines.shutdown()
"""


# ---- A cluster of stand-ins.


class RayError(Exception):
    """Something died."""


class RayTaskError(RayError):
    """A call raised."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


@dataclass
class FakeRay:
    """As much of Ray as the pool uses, in this process; `dies` says which calls an actor does not survive."""

    dies: object = lambda *_: False
    nodes_there: tuple = ({"CPU": 2.0}, {"CPU": 8.0, "GPU": 1.0})

    def __post_init__(self):
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.started, self.killed, self.asked, self.options_of = 0, 0, [], None

    def nodes(self):
        gone = {"Alive": False, "Resources": {"CPU": 64.0}}
        return [gone, *({"Alive": True, "Resources": resources} for resources in self.nodes_there)]

    def remote(self, **options):
        self.options_of = options
        return lambda kind: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=partial(self._start, kind)))

    def _start(self, kind, *arguments):
        self.started += 1
        worker = kind(*arguments)
        return SimpleNamespace(
            start=SimpleNamespace(remote=lambda: partial(self._call, "start", worker.start)),
            embed=SimpleNamespace(
                remote=lambda tracks, *, tried: partial(self._call, tracks, partial(worker.embed, tracks, tried=tried))
            ),
        )

    def _call(self, what, run):
        if what != "start":
            self.asked.append(list(what))
        if self.dies(what, run):
            raise RayError("the actor died\nand much more is told of it")
        try:
            return run()
        except Exception as error:
            raise RayTaskError(error) from error

    def wait(self, references, **_):
        return references[:1], references[1:]

    def get(self, reference):
        return reference()

    def kill(self, _):
        self.killed += 1


@pytest.fixture
def start(monkeypatch):
    """Stand in for Ray."""

    def make(**options):
        made = FakeRay(**options)
        monkeypatch.setattr(cluster, "_connected", lambda _: contextlib.nullcontext(made))
        monkeypatch.setattr(os, "environ", dict(os.environ))
        return made

    return make


@pytest.fixture(scope="module")
def audio(make_audio, noise, tmp_path_factory):
    """Eight files, of which one is none; nobody writes to them."""
    folder = tmp_path_factory.mktemp("songs") / "audio"
    for number in range(8):
        make_audio(folder / f"{number}.mp3", noise(1 + number / 4, number), rate_hz=16_000)
    (folder / "5.mp3").write_bytes(b"not a song")
    return folder


@pytest.fixture(scope="module")
def alone(audio, stub_embedder, tmp_path_factory):
    """What one machine makes of them; nobody writes to it."""
    store = EmbeddingStore(tmp_path_factory.mktemp("alone") / "store", stub_embedder.spec)
    extract(find_audio(audio), stub_embedder, store)
    return store


@pytest.fixture
def run(audio, stub_embedder, tmp_path, empty_scratch):
    """Extract on the cluster."""

    def start(load=lambda: stub_embedder, place=tmp_path / "store", tracks=None, **options):
        config = ClusterConfig("a cluster", stream=StreamConfig(scratch=empty_scratch), **options)
        tried, seen = [], []
        report = extract_on_ray(
            find_audio(audio) if tracks is None else tracks, load, place, config,
            on_start=tried.append, on_track=lambda result: seen.append(result.key),
        )  # fmt: skip
        assert len(seen) == len(set(seen)) == tried[0]
        return report

    return start


def check_same(store, other):
    assert store.keys() == other.keys()
    for key in store:
        np.testing.assert_allclose(store[key], other[key], rtol=0, atol=1e-5)


def test_a_cluster_makes_what_one_machine_makes(run, start, alone, tmp_path):
    ray = start()
    report = run()
    store = EmbeddingStore(tmp_path / "store")
    assert (report.done, report.skipped, [*report.failed]) == (7, 0, ["5"])
    assert report.audio_s == pytest.approx(sum(1 + number / 4 for number in range(8) if number != 5), rel=0.1)
    assert store.spec == alone.spec
    assert store.failures() == report.failed
    check_same(store, alone)
    assert ray.started == ray.killed == 5  # 2 cores each: one on the first machine, four on the second


def test_what_is_done_is_not_done_again(run, start, tmp_path):
    ray = start()
    run()
    ray.asked.clear()
    report = run()
    assert (report.done, report.skipped, [*report.failed]) == (0, 7, ["5"])
    assert ray.asked == []
    (tmp_path / "store" / "3.npy").unlink()
    report = run(retry_failed=True)
    assert (report.done, report.skipped, [*report.failed]) == (1, 6, ["5"])
    assert ray.asked == [["3"], ["5"]]


@pytest.mark.parametrize(
    ("options", "cores", "actors"),
    [
        ({}, 2, 5),
        ({"cpus": 1}, 1, 10),
        ({"cpus": 8}, 8, 1),
        ({"actors": 3}, 2, 3),
        ({"cpus": 2, "gpus": 1.0}, 2, 1),
        ({"cpus": 2, "gpus": 0.25}, 2, 4),
    ],
)
def test_actors_fit_the_machines(run, start, options, cores, actors):
    ray = start()
    run(**options)
    assert ray.options_of == {"num_cpus": cores, "num_gpus": options.get("gpus", 0.0), "max_restarts": 0}
    assert ray.started == actors


@pytest.mark.parametrize("options", [{"cpus": 9}, {"gpus": 2.0}])
def test_a_cluster_without_room_is_refused(run, start, options):
    start()
    with pytest.raises(UsageError, match="no machine of the Ray cluster has"):
        run(**options)


def test_what_an_actor_had_in_hand_goes_to_others(run, start, alone, tmp_path, caplog):
    dead = []

    def dies(what, work):
        if what == "start" or dead:
            return False
        dead.append(what)
        work()  # it dies after the last of them was written, before it could tell
        return True

    ray = start(dies=dies)
    with caplog.at_level(logging.WARNING, "jamendo_mood.extraction.cluster"):
        report = run(actors=1)
    assert "an actor died, 2 tracks go to others (the actor died)" in caplog.text
    assert ray.asked == [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"], ["0"], ["1"]]
    assert (report.done, [*report.failed]) == (7, ["5"])
    assert ray.started == ray.killed == 2
    check_same(EmbeddingStore(tmp_path / "store"), alone)


def test_a_track_that_kills_is_given_up_and_the_others_are_done(run, start, audio, alone, tmp_path):
    ray = start(dies=lambda what, _: "3" in what)
    report = run(actors=1)
    assert (report.done, [*report.failed]) == (6, ["5", "3"])
    assert report.failed["3"] == f"{audio}/3.mp3: 3 processes died while they worked on it"
    assert [tracks for tracks in ray.asked if "3" in tracks] == [["2", "3"], ["3"], ["3"]]
    store = EmbeddingStore(tmp_path / "store")
    assert store.keys() == alone.keys() - {"3"}
    assert store.failures().keys() == {"3", "5"}


def test_actors_that_cannot_start_end_the_run(run, start):
    ray = start(dies=lambda what, _: what == "start")
    with pytest.raises(UsageError, match=r"the actors die before they can work: the actor died$"):
        run(actors=2)
    assert ray.started == 7
    assert ray.asked == []


def test_what_an_actor_says_is_said_here(run, start, tmp_path):
    def load():
        raise WeightsError("no weights on this machine")

    ray = start()
    with pytest.raises(WeightsError, match="no weights on this machine"):
        run(load)
    assert ray.killed == 4
    assert not (tmp_path / "store").exists()


def test_machines_must_agree(run, start, stub_embedder):
    kinds = iter(range(9))
    start()
    with pytest.raises(UsageError, match=r"is a store of stub .*, not of stub"):
        run(lambda: replace(stub_embedder, spec=replace(stub_embedder.spec, variant=f"kind {next(kinds)}")))


def test_a_run_without_machines_says_that_it_waits(run, start, monkeypatch, caplog):
    ray = start()
    waited = iter([True])
    wait = ray.wait
    monkeypatch.setattr(ray, "wait", lambda refs, **_: ([], refs) if next(waited, False) else wait(refs))
    with caplog.at_level(logging.WARNING, "jamendo_mood.extraction.cluster"):
        run(gpus=0.5)
    assert "no actor is at work: waiting for a machine with 2 CPUs and 0.5 GPUs" in caplog.text


def test_audio_and_store_may_be_urls(run, start, audio, alone, tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="needs the extra `ray`")
    system = fsspec.filesystem("memory")
    system.store.clear()
    start()
    tracks = {}
    for key, path in find_audio(audio).items():
        system.pipe_file(f"/bucket/{path.name}", path.read_bytes())
        tracks[key] = f"memory://bucket/{path.name}"
    report = run(place="memory://bucket/store", tracks={**tracks, "gone": "memory://bucket/gone.mp3"})
    assert (report.done, [*report.failed]) == (7, ["5", "gone"])
    assert report.failed["5"].startswith("memory://bucket/5.mp3: not a readable audio file")
    assert report.failed["gone"] == "memory://bucket/gone.mp3: no such file"
    assert ObjectStore("memory://bucket/store").failures() == report.failed
    system.get("/bucket/store", str(tmp_path / "copy"), recursive=True)
    check_same(EmbeddingStore(tmp_path / "copy"), alone)
    system.store.clear()


def test_an_actor_keeps_to_its_cores(stub_embedder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    assert Worker(lambda: stub_embedder, tmp_path, ClusterConfig("", cpus=3)).start() == stub_embedder.spec
    assert os.environ == {"TF_NUM_INTRAOP_THREADS": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def test_without_ray_it_says_what_brings_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"--ray needs ray: `pip install jamendo-mood\[ray\]` brings it"):
        run()


# ---- Real ones. In processes of their own: Ray leaves threads and handlers behind.


@pytest.fixture
def extract_apart(run_apart):
    return lambda *arguments: run_apart("extract", *arguments, "--embedder", "logmel", timeout=300)


@needs_ray
@pytest.mark.thorough
def test_ray_on_this_machine(extract_apart, audio, tmp_path, empty_scratch):
    size = ("--ray-actors", 1, "--ray-cpus", 1)
    done = extract_apart(audio, "--store", tmp_path / "store", "--ray", "local", *size, "--scratch", empty_scratch)
    assert done.status == 1, done.err
    assert done.out.startswith(f"{tmp_path}/store: 7 tracks embedded, 0 were there already, 1 failed; ")
    assert "5.mp3" in done.err
    embedder = load_embedder("logmel")
    alone = EmbeddingStore(tmp_path / "alone", embedder.spec)
    extract(find_audio(audio), embedder, alone)
    check_same(EmbeddingStore(tmp_path / "store", embedder.spec), alone)


@needs_ray
@pytest.mark.thorough
def test_a_cluster_that_is_not_there_is_told_in_one_line(extract_apart, audio, tmp_path):
    done = extract_apart(audio, "--store", tmp_path / "store", "--ray", "127.0.0.1:1")
    assert done.status == 2
    assert done.out == ""
    assert done.err.splitlines()[-1].startswith("jamendo-mood extract: cannot reach a Ray cluster at '127.0.0.1:1'")
    assert not (tmp_path / "store").exists()


@needs_ray
@pytest.mark.slow
def test_a_machine_that_is_lost_in_mid_run_loses_nothing(make_audio, noise, tmp_path):
    for number in range(48):
        make_audio(tmp_path / "audio" / f"{number:02d}.mp3", noise(20 + number % 7, number), rate_hz=16_000)
    scratch = tmp_path / "scratch"
    done = subprocess.run(
        [sys.executable, "-c", LOSE_A_NODE, tmp_path / "audio", tmp_path / "store", scratch],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"done": 48, "failed": {}, "nodes": 2}
    assert "an actor died" in done.stderr
    embedder = load_embedder("logmel")
    alone = EmbeddingStore(tmp_path / "alone", embedder.spec)
    extract(find_audio(tmp_path / "audio"), embedder, alone)
    check_same(EmbeddingStore(tmp_path / "store", embedder.spec), alone)
