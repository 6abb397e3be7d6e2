"""The data sets that the page about data spells out are read as it says, each to its published size.

Blocks marked ``yaml data`` on docs/data.md are data specs; a block without a test here fails.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.spec import parse_yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
BLOCKS = re.findall(r"^```yaml data\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def documented(name: str) -> Dataset:
    """The data set of the one block that names this file."""
    (block,) = [block for block in BLOCKS if name in block]
    return read_dataset(parse(DataSpec, parse_yaml(block, name), name))


def distinct(dataset: Dataset) -> list[int]:
    return [len(dataset.examples.data.column(name).unique()) for name in ("user", "item")]


def test_every_block_has_a_test() -> None:
    names = ("u.data", "ratings.dat", "gowalla", "Beauty")
    assert [sum(name in block for name in names) for block in BLOCKS] == [1] * len(names)


def test_movielens_100k(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWERKIT_DATA", str(data_root))
    dataset = documented("u.data")
    assert (dataset.examples.data.num_rows, distinct(dataset)) == (100_000, [943, 1682])
    assert dataset.examples.data.schema.types == [pa.int64()] * 4
    items, users = dataset.entities["item"].table.data, dataset.entities["user"].table.data
    assert "Misérables, Les (1995)" in items.column("title").to_pylist()
    assert sum(items.column("western").to_pylist()) == 27
    assert {"T8H1N", "01375"} <= set(users.column("zip").to_pylist())
    assert users.column("age").type == pa.int64()


def test_movielens_1m(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read_table("ml-1m/ratings.csv.gz", base=data_root).data.slice(0, 20_000).to_pylist()
    folder = tmp_path / "ml-1m" / "raw"
    folder.mkdir(parents=True)
    for name in ("users.dat", "movies.dat"):
        shutil.copy(data_root / "ml-1m" / "raw" / name, folder)
    # ratings.dat itself is too large to be there; where its time is not known, the row's number stands in
    lines = [[str(n if value is None else value) for value in row.values()] for n, row in enumerate(known)]
    (folder / "ratings.dat").write_text("\n".join("::".join(line) for line in lines) + "\n")
    monkeypatch.setenv("TOWERKIT_DATA", str(tmp_path))
    dataset = documented("ratings.dat")
    assert dataset.examples.data.schema.types == [pa.int64()] * 4
    assert [list(map(str, row.values())) for row in dataset.examples.data.to_pylist()] == lines
    assert [entity.table.data.num_rows for entity in dataset.entities.values()] == [3883, 6040]
    assert dataset.entities["user"].table.data.column("zip").type == pa.string()


def test_gowalla(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWERKIT_DATA", str(data_root))
    dataset = documented("gowalla")
    assert (dataset.examples.data.num_rows, len(dataset.parts.test)) == (810_128 + 217_242, 217_242)
    assert distinct(dataset) == [29_858, 40_981]


def test_beauty(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWERKIT_DATA", str(data_root))
    dataset = documented("Beauty")
    assert (dataset.examples.data.num_rows, distinct(dataset)) == (198_502, [22_363, 12_101])
    assert dataset.schemas["example"].by_name["position"].role == "time"
