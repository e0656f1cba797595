"""Same files, same seed: the same store and the same tagger, byte by byte, whatever else is different."""

import itertools
import shutil

import numpy as np
import pytest
from damaged_stores import state_of
from hypothesis import given
from hypothesis import strategies as st
from killing import finish
from trying import tries

from jamendo_mood.audio.decoding import find_audio
from jamendo_mood.datasets.dataset import assign_folds
from jamendo_mood.extraction.streaming import StreamConfig, extract, select_shard
from jamendo_mood.store.embedding_store import EmbeddingStore

pytest_plugins = ["demo_corpus"]

SONGS, RATE_HZ = 21, 22_050
HEADS = ("linear", "attention", "gru")


FIGURES = [
    (
        "The same again: other batches, threads, shards, interruptions, order on disk, hash seeds, processes",
        "{stores:,} stores, {trainings:,} trainings, {evaluations:,} evaluations",
        "{files:,} files, {bytes:,} bytes, all the same",
    )
]


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
    copy_backwards(songs, root)
    return root


def copy_backwards(folder, other):
    for name, content in sorted(state_of(folder).items(), reverse=True):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(content)


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
    extract(dict(itertools.islice(shuffled.items(), after)), logmel, again, config)
    for shard in range(count, 0, -1):
        chosen = select_shard(shuffled, shard, count)
        extract({key: shuffled[key] for key in chosen}, logmel, again, config)
    check_same(again.root, store.root, tried)
    again.pack()
    shutil.rmtree(again.root)
    tried["stores"] += 1


@pytest.mark.thorough
def test_a_tagger_is_the_same_in_another_process(songs, moved, store, amount, tried, tmp_path, monkeypatch):
    """With another hash seed, and a store whose files were written in another order; and not with another seed."""
    other = tmp_path / "store"
    copy_backwards(store.root, other)
    sources = {1: (songs, store.root), 2: (moved, other)}

    def run(seed, command, *arguments):
        data, where = sources[seed]
        monkeypatch.setenv("PYTHONHASHSEED", str(seed))
        return finish(command, *arguments, "--data", data, "--store", where)

    for head in HEADS[: amount(1, len(HEADS))]:
        folders = {seed: tmp_path / f"{head} {seed}" / "tagger" for seed in sources}
        options = ("--task", "own", "--head", head, "--epochs", amount(2, 8), "--ensemble", amount(1, 2))
        for seed, folder in folders.items():
            run(seed, "train", *options, "--seed", 5, "--out", folder)
        check_same(folders[1], folders[2], tried)
        tried["trainings"] += 2
        if amount(0, 1):
            first, second = (run(seed, "evaluate", folder, "--format", "json") for seed, folder in folders.items())
            assert first.replace(str(folders[1]), "") == second.replace(str(folders[2]), "")
            tried["evaluations"] += 2
            run(1, "train", *options, "--seed", 6, "--out", tmp_path / f"{head} of another seed")
            assert state_of(tmp_path / f"{head} of another seed").keys() != state_of(folders[1]).keys()  # of weights


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
