"""`extract --ray`, up to where the cluster begins; `test_cluster.py` goes on from there."""

from dataclasses import replace

import pytest
from damaged_stores import SPEC

from jamendo_mood.extraction import cluster
from jamendo_mood.extraction.streaming import ExtractReport, TrackResult
from jamendo_mood.store.embedding_store import EmbeddingStore

pytest_plugins = ["toy_commands"]


@pytest.fixture
def audio(tmp_path):
    for number in range(4):
        path = tmp_path / "audio" / f"{number}.mp3"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path / "audio"


@pytest.fixture
def calls(monkeypatch):
    """Stand in for the cluster: one track fails, and Ray talks."""
    made = []

    def extract(tracks, load, place, config, *, on_start, on_track):
        made.append((tracks, load, place, config))
        print("(raylet) something")
        on_start(len(tracks))
        for key in tracks:
            on_track(TrackResult(key, None, 60.0, "" if key != "3" else "3.mp3: no sound"))
        return ExtractReport(len(tracks) - 1, 0, {"3": "3.mp3: no sound"}, 180.0, 2.0)

    monkeypatch.setattr(cluster, "extract_on_ray", extract)
    return made


def test_options_reach_the_cluster(run, audio, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run(
        *("extract", "audio", "--store", "store", "--embedder", "logmel", "--batch", 7, "--scratch", "s"),
        *("--ray", "auto", "--ray-actors", 3, "--ray-cpus", 2, "--ray-gpus", 0.5, "--retry-failed"),
    )
    assert outcome.status == 1
    assert outcome.out.startswith("store: 3 tracks embedded, 0 were there already, 1 failed; 3.0 min of sound in 2.0 s")
    assert "3.mp3: no sound" in outcome.err
    assert "(raylet) something" in outcome.err
    ((tracks, load, place, config),) = calls
    assert tracks == {str(number): audio / f"{number}.mp3" for number in range(4)}  # from wherever an actor runs
    assert place == tmp_path / "store"
    assert load().spec.name == "logmel"
    assert (config.address, config.actors, config.cpus, config.gpus) == ("auto", 3, 2, 0.5)
    assert config.retry_failed
    assert config.stream.batch == 7


def test_limits_are_as_without_and_a_file_url_is_a_path(run, audio, calls, tmp_path):
    store = ("--store", f"file://{tmp_path}/store")
    run("extract", f"file://{audio}", *store, "--embedder", "logmel", "--ray", "auto", "--limit", 2)
    assert calls[0][::2] == ({"0": audio / "0.mp3", "1": audio / "1.mp3"}, tmp_path / "store")


def test_urls_reach_the_cluster(run, calls):
    fsspec = pytest.importorskip("fsspec", reason="needs the extra `ray`")
    system = fsspec.filesystem("memory")
    for number in range(4):
        system.pipe_file(f"/songs/{number}.mp3", b"")
    outcome = run("extract", "memory://songs", "--store", "memory://store", "--embedder", "logmel", "--ray", "auto")
    system.store.clear()
    assert calls[0][0] == {str(number): f"memory:///songs/{number}.mp3" for number in range(4)}
    assert calls[0][2] == "memory://store"
    assert "failed, see memory://store/_failures/; --retry-failed" in outcome.err


def test_a_store_that_was_begun_is_gone_on_with(run, audio, calls, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "jamendo_mood.embedders.registry.load_embedder", lambda _, options: asked.append(options.precision)
    )
    for precision in ("bfloat16", "float32"):
        EmbeddingStore(tmp_path / precision, replace(SPEC, precision=precision))
        run("extract", audio, "--store", tmp_path / precision, "--ray", "auto")
        calls[-1][1]()
    assert asked == ["bfloat16", "float32"]
