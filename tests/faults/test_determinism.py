"""Same files, same seed: the same store and the same tagger, byte by byte, whatever else is different."""

import os
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from damaged_stores import state_of
from hypothesis import given
from hypothesis import strategies as st
from trying import tries

from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.datasets.dataset import assign_folds
from jamendo_mood.embedders.registry import load_embedder
from jamendo_mood.extraction.streaming import StreamConfig, extract, select_shard
from jamendo_mood.store.embedding_store import EmbeddingStore

SONGS, RATE_HZ = 21, 22_050
HEADS = ("linear", "attention", "gru")


@pytest.fixture(scope="module")
def tried(figure):
    counts = Counter()
    yield counts
    figure(
        "The same again: other batches, threads, shards, interruptions, order on disk, hash seeds, processes",
        f"{counts['stores']:,} stores, {counts['trainings']:,} trainings, {counts['evaluations']:,} evaluations",
        f"{counts['files']:,} files, {counts['bytes']:,} bytes, all the same",
    )


@pytest.fixture(scope="module")
def songs(make_audio, tmp_path_factory):
    """A folder of songs of three artists a mood, and the table that says so."""
    root = tmp_path_factory.mktemp("songs")
    lines = ["path,artist,tags"]
    for number in range(SONGS):
        mood, rng = ("low", "high", "both")[number % 3], np.random.default_rng(number)
        time_s = np.arange(round((1.5 + number % 4) * RATE_HZ)) / RATE_HZ
        pitches_hz = {"low": [200], "high": [2_000], "both": [200, 2_000]}[mood]
        wave = sum(np.sin(2 * np.pi * (pitch + number) * time_s) for pitch in pitches_hz)
        path = f"{mood}/{number:02d}.{('wav', 'flac', 'mp3')[number // 3 % 3]}"
        make_audio(root / path, (0.2 * wave + 0.01 * rng.standard_normal(len(time_s))).astype(np.float32), RATE_HZ)
        tags = "low;high" if mood == "both" else mood
        lines.append(f"{path},artist {number // 2},{tags}")
    (root / "own.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def logmel():
    return load_embedder("logmel")


def check_same(one, other, tried):
    found, expected = state_of(one), state_of(other)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    tried["files"] += len(found)
    tried["bytes"] += sum(map(len, found.values()))


@pytest.fixture(scope="module")
def store(songs, logmel, tmp_path_factory):
    made = EmbeddingStore(tmp_path_factory.mktemp("first") / "store", logmel.spec)
    assert extract(find_audio(songs), logmel, made).done == SONGS
    return made


@pytest.fixture(scope="module")
def moved(songs, tmp_path_factory):
    """The same files elsewhere, written in the opposite order."""
    root = tmp_path_factory.mktemp("moved")
    for path in sorted(songs.rglob("*.*"), reverse=True):
        (root / path.relative_to(songs)).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, root / path.relative_to(songs))
    return root


@tries(3, 40)
@given(
    batch=st.integers(1, 100), prefetch=st.integers(1, 5), count=st.integers(1, 3), after=st.integers(0, SONGS),
    order=st.permutations(range(SONGS)),
)  # fmt: skip
@pytest.mark.thorough
def test_a_store_is_the_same_however_it_was_made(
    store, moved, logmel, tried, tmp_path_factory, batch, prefetch, count, after, order
):
    """In any shards, interrupted anywhere, tracks in any order, by any batches and threads."""
    again = EmbeddingStore(tmp_path_factory.mktemp("again") / "store", logmel.spec)
    tracks = [*find_audio(moved).items()]
    shuffled = dict(tracks[number] for number in order)
    config = StreamConfig(batch=batch, prefetch=prefetch)
    extract(dict([*shuffled.items()][:after]), logmel, again, config)
    for shard in range(count, 0, -1):
        chosen = select_shard(shuffled, shard, count)
        extract({key: shuffled[key] for key in chosen}, logmel, again, config)
    check_same(again.root, store.root, tried)
    again.pack()
    shutil.rmtree(again.root)
    tried["stores"] += 1


def start(*arguments, hash_seed):
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "jamendo_mood", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
    )


def finish(*processes):
    """What the commands print."""
    outcomes = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outcomes
    return [out for out, _ in outcomes]


@pytest.mark.thorough
def test_a_tagger_is_the_same_in_another_process(songs, moved, store, amount, tried, tmp_path):
    """With another hash seed, and a store whose files were written in another order."""
    other = tmp_path / "store"
    for name, content in sorted(state_of(store.root).items(), reverse=True):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(content)
    sources = {1: (songs, store.root), 2: (moved, other)}
    for head in HEADS[: amount(1, len(HEADS))]:
        folders = {seed: tmp_path / f"{head} {seed}" / "tagger" for seed in sources}
        options = ("--head", head, "--epochs", amount(2, 8), "--ensemble", amount(1, 2), "--seed", 5)
        finish(
            *(
                start("train", "--task", "own", "--data", data, "--store", where, "--out", folders[seed], *options,
                      hash_seed=seed)
                for seed, (data, where) in sources.items()
            )
        )  # fmt: skip
        check_same(folders[1], folders[2], tried)
        tried["trainings"] += 2
        if amount(0, 1):
            evaluated = [
                start("evaluate", folders[seed], "--data", data, "--store", where, "--format", "json", hash_seed=seed)
                for seed, (data, where) in sources.items()
            ]
            first, second = finish(*evaluated)
            assert first.replace(str(folders[1]), "") == second.replace(str(folders[2]), "")
            tried["evaluations"] += 2


@pytest.mark.thorough
def test_another_seed_is_another_tagger(songs, store, amount, tmp_path):
    """Or else the test above would prove nothing."""
    if not amount(0, 1):
        pytest.skip("is in `make test-slow`")
    folders = {seed: tmp_path / str(seed) for seed in (1, 2)}
    options = ("--task", "own", "--data", songs, "--store", store.root, "--epochs", 2)
    finish(*(start("train", *options, "--seed", n, "--out", folder, hash_seed=0) for n, folder in folders.items()))
    assert len({path.read_bytes() for path in tmp_path.glob("*/weights*.safetensors")}) == 2


@tries(20, 500)
@given(groups=st.lists(st.sampled_from("abcdefghijkl"), min_size=12, max_size=40), data=st.data())
def test_folds_do_not_depend_on_the_order_of_the_rows(groups, data):
    count = data.draw(st.integers(1, len(set(groups))))
    order = data.draw(st.permutations(range(len(groups))))
    labels = [data.draw(st.sampled_from("xy")) for _ in groups]
    folds = assign_folds(groups, labels, count=count)
    again = assign_folds([groups[row] for row in order], [labels[row] for row in order], count=count)
    assert [folds[row] for row in order] == again.tolist()
    assert len(set(zip(groups, folds.tolist(), strict=True))) == len(set(groups))
