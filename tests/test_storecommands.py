"""`export`, `import` and `pack` as their users meet them."""

import numpy as np
import pytest
from test_store import SPEC

from jamendo_mood.store import EmbeddingStore, PackedEmbeddings

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
    assert outcome.status == 0
    assert outcome.out == f"{folder}: 3 tracks exported, 0 were there already; 2 Parquet files\n"
    outcome = run("import", folder, "--store", back)
    assert outcome.status == 0
    assert outcome.out == f"{back}: 3 tracks imported, 0 were there already; from 2 Parquet files\n"
    assert dict(EmbeddingStore(back)).keys() == dict(store).keys()
    one = sorted(folder.iterdir())[1]
    outcome = run("import", one, "--store", back)
    assert outcome.out == f"{back}: 0 tracks imported, 1 were there already; from 1 Parquet file\n"


def test_the_usual_export_is_one_file(run, store, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    outcome = run("export", store.root, tmp_path / "parquet")
    assert outcome.out.endswith("1 Parquet file\n")
    assert [path.name for path in (tmp_path / "parquet").iterdir()] == ["embeddings-00000-of-00001.parquet"]


@pytest.mark.parametrize("option", ["--shard-rows", "--shard-mb"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_sizes_of_files_are_whole_numbers(run, store, tmp_path, option, value):
    outcome = run("export", store.root, tmp_path / "parquet", f"{option}={value}")
    assert outcome.status == 2
    assert f"{value!r} is not a whole number from 1 up" in outcome.err
    assert not (tmp_path / "parquet").exists()


def test_only_one_size_is_given(run, store, tmp_path):
    outcome = run("export", store.root, tmp_path / "parquet", "--shard-rows", 1, "--shard-mb", 1)
    assert outcome.status == 2
    assert "not allowed with" in outcome.err


@pytest.mark.parametrize("command", [("export", "{}", "parquet"), ("pack", "{}")])
def test_a_folder_that_is_no_store_is_refused(run, tmp_path, command):
    outcome = run(*(word.format(tmp_path) for word in command))
    assert outcome.status == 2
    assert outcome.err == f"jamendo-mood {command[0]}: {tmp_path}: no embedding store there (no store.json)\n"


def test_pack_writes_what_training_maps(run, store):
    outcome = run("pack", store.root)
    assert outcome.status == 0
    assert outcome.out == (
        f"{store.root}/frames.npy: 3 tracks in one array of 15 x 4, 0.0 MB; their keys and lengths are in index.tsv\n"
    )
    packed = PackedEmbeddings(store.root)
    assert isinstance(packed.frames, np.memmap)
    np.testing.assert_array_equal(packed["48/948"], store["48/948"])
