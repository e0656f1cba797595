"""A new data set: the example of CONTRIBUTING.md, as it stands there."""

import importlib
import re
from pathlib import Path

import pytest
from test_loaders import check_conformance

from jamendo_mood import datasets
from jamendo_mood.cli.main import main
from jamendo_mood.datasets import DATASETS, load_dataset
from jamendo_mood.util.errors import DataError

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("\n## A data set\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
(TABLE,) = (text for language, text in BLOCKS if language == "csv")
LOADER, LINE = (text for language, text in BLOCKS if language == "python")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with the table, of more artists; the loader is listed as the page says."""
    (tmp_path / "raindrops.py").write_text(LOADER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names = {"DATASETS": DATASETS, "raindrops": importlib.import_module("raindrops")}
    monkeypatch.setattr(datasets, "DATASETS", eval(f"{{**DATASETS, {LINE}}}", names))
    header, *lines = TABLE.splitlines()
    cells = [line.split(",") for line in lines]
    more = [f"{number}/{file},Artist {number},{tags}" for number in range(10) for file, _, tags in cells]
    (tmp_path / "raindrops.csv").write_text("\n".join([header, *lines, *more]) + "\n", encoding="utf-8")
    return tmp_path


def test_the_example_loads_and_conforms(root):
    dataset = load_dataset("raindrops", root)
    assert dataset.task.targets == ("calm", "grey", "happy", "loud")
    assert [track.key for track in dataset.tracks[:2]] == ["01/drizzle", "01/downpour"]
    assert dataset.targets[:3].tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    check_conformance(dataset)
    tested = [row for split in range(10) for row in load_dataset("raindrops", root, split=split).rows("test")]
    assert sorted(tested) == [*range(len(dataset.tracks))]


def test_the_commands_know_the_example(root, capsys):
    assert main(["tasks", "raindrops", "--data", str(root)]) == 0
    assert "https://example.org/raindrops" in capsys.readouterr().out


def test_what_is_wrong_with_its_table_is_named(root):
    (root / "raindrops.csv").write_text("file,tags\na.mp3,calm\n")
    with pytest.raises(DataError, match=r"raindrops\.csv: no column 'artist'"):
        load_dataset("raindrops", root)
