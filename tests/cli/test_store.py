"""`export`, `import`, `pack`, `verify` and `weights` as their users meet them."""

from dataclasses import replace

import numpy as np
import pytest
from damaged_stores import SPEC
from toy_examples import TASK, make_tagger

from jamendo_mood.embedders import musicnn
from jamendo_mood.store.embedding_store import EmbeddingStore, PackedEmbeddings
from jamendo_mood.training.heads import HeadConfig

pytest_plugins = ["toy_commands"]


@pytest.fixture
def store(tmp_path):
    made = EmbeddingStore(tmp_path / "store", SPEC)
    for key in ("14/2", "48/948", "48/949"):
        made.add(key, np.full((5, SPEC.dim), len(key), np.float32))
    return made


def test_a_store_goes_to_parquet_and_back(run, store, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    folder, back = tmp_path / "parquet", tmp_path / "back"
    outcome = run("export", store.root, folder, "--shard-rows", 2)
    said = f"{folder}: 3 tracks exported, 0 were there already; 2 Parquet files\n"
    assert (outcome.status, outcome.out) == (0, said)
    outcome = run("import", folder, "--store", back)
    said = f"{back}: 3 tracks imported, 0 were there already; from 2 Parquet files\n"
    assert (outcome.status, outcome.out) == (0, said)
    assert dict(EmbeddingStore(back)).keys() == dict(store).keys()
    outcome = run("import", sorted(folder.iterdir())[1], "--store", back)
    assert outcome.out == f"{back}: 0 tracks imported, 1 were there already; from 1 Parquet file\n"
    assert run("export", store.root, tmp_path / "usual").out.endswith("1 Parquet file\n")
    assert [path.name for path in (tmp_path / "usual").iterdir()] == ["embeddings-00000-of-00001.parquet"]


def test_a_tagger_goes_to_onnx(run, seeded_musicnn_wheel, tmp_path):
    spec = musicnn.spec_of(musicnn.read_weights(seeded_musicnn_wheel))
    make_tagger(TASK, spec, HeadConfig("linear")).save(tmp_path / "tagger")
    arguments = ("export", tmp_path / "tagger", tmp_path / "onnx", "--onnx", "--weights", seeded_musicnn_wheel)
    outcome = run(*arguments, "--allow-untrained")
    assert (outcome.status, outcome.out) == (
        0,
        f"{tmp_path}/onnx/embedder.onnx: pictures of the sound to embeddings (n, 200)\n"
        f"{tmp_path}/onnx/tagger.onnx: a track's embeddings (frames, 200) to 3 scores\n",
    )
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["embedder.onnx", "tagger.onnx"]


def test_pack_writes_what_training_maps(run, store):
    outcome = run("pack", store.root)
    said = f"{store.root}/frames.npy: 3 tracks in one array of 15 x 4, 0.0 MB; their keys and lengths are in index.tsv"
    assert (outcome.status, outcome.out) == (0, f"{said}\n")
    packed = PackedEmbeddings(store.root)
    assert isinstance(packed.frames, np.memmap)
    np.testing.assert_array_equal(packed["48/948"], store["48/948"])


def test_a_sound_store_is_verified(run, store):
    np.save(store.root / "14" / "2.npy", store["14/2"])  # as earlier versions wrote it
    (store.root / "notes.txt").touch()
    outcome = run("verify", store.root)
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err.splitlines()[-2:] == [
        "note: files that are not the store's: 1",
        f"{store.root}: 3 embeddings sound, 1 of them without a checksum; 0 things wrong",
    ]


def test_each_bad_key_is_named_and_repaired_when_asked(run, store):
    whole = (store.root / "48/948.npy").read_bytes()
    (store.root / "48/948.npy").write_bytes(whole[:-1])
    (store.root / "48/949.npy").rename(store.root / "48/950\x1b[2J.npy")
    outcome = run("verify", store.root)
    expected = ["48/948\tits checksum does not fit", "48/950\\x1b[2J\tthe embedding of '48/949'"]
    assert (outcome.status, outcome.out.splitlines()) == (1, expected)
    last = f"{store.root}: 1 embedding sound; 2 things wrong (--repair mends what can be mended)"
    assert outcome.err.splitlines()[-1] == last
    outcome = run("verify", store.root, "--repair")
    done = ["set aside as 948.npy.bad", "moved to '48/949'"]
    mended = [f"{line}\t{how}" for line, how in zip(expected, done, strict=True)]
    assert (outcome.status, outcome.out.splitlines()) == (1, mended)
    assert outcome.err.splitlines()[-2:] == [
        f"{store.root}: 2 embeddings sound; 2 things mended, 0 things wrong",
        "without an embedding now: 1 of these; "
        f"`jamendo-mood extract AUDIO_DIR --store {store.root}` embeds those that are tracks",
    ]
    outcome = run("verify", store.root)
    assert (outcome.status, outcome.out) == (0, "")


def test_after_repair_and_extract_a_store_is_what_it_was(run, make_audio, noise, tmp_path):
    keys = [f"{number}/song" for number in range(4)]
    for number, key in enumerate(keys):
        make_audio(tmp_path / "songs" / f"{key}.flac", noise(1.5, seed=number), rate_hz=16_000)
    extract = ("extract", tmp_path / "songs", "--store", tmp_path / "s", "--embedder", "logmel")
    assert run(*extract).status == 0
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    paths = [tmp_path / "s" / f"{key}.npy" for key in keys]
    paths[0].write_bytes(before[paths[0]][:300])
    paths[1].write_bytes(before[paths[2]])
    paths[3].rename(tmp_path / "s" / "other.npy")
    (tmp_path / "s" / "store.json").write_text("{}")
    assert run(*extract).status == 2
    outcome = run("verify", tmp_path / "s", "--repair")
    assert {line.split("\t")[0] for line in outcome.out.splitlines()} == {"store.json", "0/song", "1/song", "other"}
    assert "2 tracks embedded, 2 were there already, 0 failed" in run(*extract).out
    assert {path: path.read_bytes() for path in before} == before
    assert run("verify", tmp_path / "s").status == 0


# ---- weights


def test_weights_lists_where_those_of_each_network_are(run, empty_cache, monkeypatch, seeded_musicnn_wheel):
    monkeypatch.setenv("JAMENDO_MOOD_MUSICNN", str(seeded_musicnn_wheel))
    outcome = run("weights")
    assert (outcome.status, outcome.err) == (0, "")
    vggish, yamnet, last = outcome.out.splitlines()
    assert vggish == "vggish   not here; `jamendo-mood weights vggish --get` downloads 275 MB"
    assert yamnet.startswith("yamnet   not here")
    assert last == f"musicnn  {seeded_musicnn_wheel}"


def test_weights_are_checked(run, empty_cache, monkeypatch, seeded_musicnn_wheel):
    monkeypatch.setenv("JAMENDO_MOOD_MUSICNN", str(seeded_musicnn_wheel))
    outcome = run("weights", "musicnn", "--check")
    assert (outcome.status, outcome.out) == (2, "")
    assert "these are not the released weights of musicnn" in outcome.err
    sha256 = musicnn.spec_of(musicnn.read_weights(seeded_musicnn_wheel)).weights_sha256
    monkeypatch.setattr(musicnn, "SHA256", sha256)
    outcome = run("weights", "musicnn", "--check")
    assert outcome.status == 0
    assert f"weights {sha256[:12]}" in outcome.out
    assert "): the released weights" in outcome.out
    outcome = run("weights", "vggish", "--check")
    assert outcome.status == 2
    assert "VGGish's weights are not here. Three ways to get them" in outcome.err


def test_weights_are_got_and_removed(run, empty_cache, monkeypatch):
    path = empty_cache / musicnn.WEIGHTS_NAME

    def fetch(_):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr(musicnn, "WEIGHTS", replace(musicnn.WEIGHTS, sources={"PyPI": fetch}))
    for said in ("asking PyPI for musicnn's weights (29 MB)\n", ""):
        outcome = run("weights", "musicnn", "--get")
        assert (outcome.status, outcome.out, outcome.err) == (0, f"musicnn  {path}\n", said)
    assert run("weights", "musicnn", "--remove").out == f"musicnn  removed: {path}\n"
    assert not path.exists()
