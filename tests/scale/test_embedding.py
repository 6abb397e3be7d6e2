"""A folder of Parquet files becomes one of vectors (`towerkit.scale.embedding`).

Invariants:
- the vectors are those that the Run gives for the whole table, under the same keys, files and partitions as they were;
- a call that was interrupted goes on, and the files are the same bytes; with other settings it is refused;
- what cannot be embedded is refused before anything is written, and a bad row is named with its file;
- the vectors of the files, a shard each, are searched as those of the whole table are.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towerkit.core.errors import DataError, RunError, SpecError
from towerkit.data.readers import read_table
from towerkit.index.exact import ExactIndex
from towerkit.index.sharded import ShardedIndex
from towerkit.recommend.notes import space_of
from towerkit.run import Run
from towerkit.scale import embedding
from towerkit.scale.embedding import embed_files
from towerkit.testing.by_workers import train_alone

CUTS = (slice(0, 50), slice(50, 51), slice(51, 51), slice(51, None))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_alone(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def products() -> pa.Table:
    """With a product that training never saw."""
    table = read_table("builtin:shop-small/products").data
    place = table.column_names.index("product_id")
    keys = table.column("product_id").to_pylist()
    return table.set_column(place, "product_id", pa.array([*keys[:-1], "never seen"]))


@pytest.fixture
def folder(tmp_path: Path, products: pa.Table) -> Path:
    """In four files below two partitions, one of them without rows."""
    for place, cut in enumerate(CUTS):
        target = tmp_path / "rows" / f"month={place % 2}" / f"part-{place}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(products.slice(cut.start, (cut.stop or len(products)) - cut.start), target)
    return tmp_path / "rows"


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_vectors_are_those_of_the_whole_table(run: Run, folder: Path, products: pa.Table, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    written = embed_files(run.path, folder, tmp_path / "out", side="candidate", tell=lambda *each: told.append(each))
    assert (written.files, written.rows, written.cold, written.went_on_after) == (3, len(products), 1, 0)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert set(contents(tmp_path / "out")) == set(contents(folder)) - {"month=0/part-2.parquet"}, "it has no rows"
    whole = run.embed(products, side="candidate")
    files = [tmp_path / "out" / f"month={place % 2}" / f"part-{place}.parquet" for place in (0, 1, 3)]
    parts = [pq.read_table(path, partitioning=None) for path in files]
    assert {space_of(part) for part in parts} == {run.space}
    found = pa.concat_tables(part.replace_schema_metadata(None) for part in parts)
    assert found.select(["product_id", "cold"]).equals(
        whole.select(["product_id", "cold"]).replace_schema_metadata(None)
    )
    vectors, right = (np.stack(table.column("vector").to_numpy()) for table in (found, whole))
    assert np.abs(vectors - right).max() < 1e-6

    keys = [part.column("product_id").to_pylist() for part in parts]
    own = [vectors[cut] for cut in CUTS if cut.start != cut.stop]
    queries = np.stack(run.embed(side="query").column("vector").to_numpy())[:20]
    shards = ShardedIndex.of(list(zip(keys, own, strict=True)), "dot", space=run.space)
    one = ExactIndex.of([key for each in keys for key in each], vectors, "dot", space=run.space)
    assert np.array_equal(shards.search(queries, 10).rows, one.search(queries, 10).rows)
    assert np.array_equal(shards.search(queries, 10).scores, one.search(queries, 10).scores)


def test_an_interrupted_call_goes_on(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed_files(run.path, folder, tmp_path / "whole", side="candidate")
    embed, calls = embedding.embed_file, 0

    def stopped(*arguments: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return embed(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(embedding, "embed_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed_files(run.path, folder, tmp_path / "out", side="candidate")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    with pytest.raises(RunError, match='interrupted answer with other settings: .*side was "candidate" and is "query"'):
        embed_files(run.path, _users(tmp_path), tmp_path / "out", side="query")
    written = embed_files(run.path, folder, tmp_path / "out", side="candidate")
    assert written.went_on_after == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    with pytest.raises(RunError, match="out already exists; vectors go into a new folder"):
        embed_files(run.path, folder, tmp_path / "out", side="candidate")


def _users(tmp_path: Path) -> Path:
    (tmp_path / "users").mkdir()
    pq.write_table(pa.table({"user_id": ["u0001"]}), tmp_path / "users" / "part.parquet")
    return tmp_path / "users"


def test_refusals(run: Run, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="say query or candidate"):
        embed_files(run.path, folder, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is a folder without a Parquet file"):
        embed_files(run.path, tmp_path / "empty", tmp_path / "out", side="candidate")
    (tmp_path / "rows.csv").write_text("product_id\n")
    with pytest.raises(DataError, match=r"give --out FILE\.parquet"):
        embed_files(run.path, tmp_path / "rows.csv", tmp_path / "out", side="candidate")
    assert not list(tmp_path.glob("out*"))
    pq.write_table(pa.table({"price": [1.0]}), folder / "month=1" / "part-3.parquet")
    with pytest.raises(DataError, match=r"rows/month=1/part-3\.parquet: .*product_id"):
        embed_files(run.path, folder, tmp_path / "out", side="candidate")
    shutil.rmtree(tmp_path / "out.parts")
