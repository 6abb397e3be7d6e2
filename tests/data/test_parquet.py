"""A folder of Parquet files as one table (`towerkit.data.parquet`).

Pinned here:
- rows come in the order of the sorted paths, at any depth; hidden files and those of an engine's own are left out;
- Hive partitions become columns, typed as text is, missing ones included;
- files that do not fit together are refused with the file and the column; widths of one kind of number are reconciled;
- an empty folder, a damaged file and a form that folders do not have are refused by name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from towerkit.core.errors import DataError
from towerkit.core.spec import parse
from towerkit.data.readers import SourceSpec, Table, read_table
from towerkit.doctor import examine


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Writes a file of columns below ``events``."""

    def write(name: str, **columns: Any) -> None:
        path = tmp_path / "events" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pa.table(columns), path)

    return write


def read(folder: Path, **options: Any) -> Table:
    return read_table(parse(SourceSpec, {"path": "events/", **options}), base=folder)


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, **options)
    return str(caught.value)


def test_files_in_the_order_of_their_paths(tmp_path: Path, put: Callable[..., None]) -> None:
    put("b.parquet", user=["3"], n=[3])
    put("a/z.parquet", user=["2"], n=[2])
    put("a/b/y.parquet", user=["001"], n=[1])
    for name in ("_temporary/x.parquet", ".hidden.parquet", "a/_metadata.parquet"):
        put(name, other=[1])
    (tmp_path / "events" / "_SUCCESS").touch()
    (tmp_path / "events" / "notes.csv").write_text("a\n1\n")
    table = read(tmp_path)
    assert table.data.to_pydict() == {"user": ["001", "2", "3"], "n": [1, 2, 3]}
    assert (table.name, table.where(2)) == ("events/", "events/, row 3")
    (tmp_path / "events").rename(tmp_path / "events.parquet")  # as Spark names a folder
    assert read_table("events.parquet", base=tmp_path).data.num_rows == 3


def test_partitions_become_columns(tmp_path: Path, put: Callable[..., None]) -> None:
    put("date=2024-01-01/shop=007/hour=1/a.parquet", item=[1, 2])
    put("date=2024-01-02/shop=8/hour=2/a.parquet", item=[3])
    put("date=__HIVE_DEFAULT_PARTITION__/shop=S%C3%A3o%20P/hour=10/a.parquet", item=[4])
    table = read(tmp_path).data
    assert table.to_pydict() == {
        "item": [1, 2, 3, 4],
        "date": ["2024-01-01", "2024-01-01", "2024-01-02", None],
        "shop": ["007", "007", "8", "São P"],
        "hour": [1, 1, 2, 10],
    }
    assert read(tmp_path, columns=["hour"]).data.to_pydict() == {"hour": [1, 1, 2, 10]}
    assert read(tmp_path, columns=["shop", "item"]).data.column_names == ["shop", "item"]
    assert "there is no column 'dat'; did you mean 'date'?" in refusal(tmp_path, columns=["dat"])


def test_widths_and_empty_columns_are_reconciled(tmp_path: Path, put: Callable[..., None]) -> None:
    nothing = pa.nulls(1)
    put("a.parquet", n=pa.array([1], pa.int32()), x=pa.array([0.5], pa.float32()), e=nothing, t=nothing, z=nothing)
    put("b.parquet", n=pa.array([2**40]), x=pa.array([0.1]), e=["x"], t=pa.array([dt.date(2024, 1, 1)]), z=nothing)
    put("c.parquet", n=pa.array([3], pa.int8()), x=pa.array([None], pa.float32()), e=nothing, t=nothing, z=nothing)
    table = read(tmp_path).data
    assert table.schema.types == [pa.int64(), pa.float64(), pa.string(), pa.date32(), pa.string()]
    assert table.column("n").to_pylist() == [1, 2**40, 3]
    assert table.column("e").to_pylist() == [None, "x", None]


def test_records_and_categories_are_plain(tmp_path: Path, put: Callable[..., None]) -> None:
    put("a.parquet", who=[{"id": 1, "name": "x"}], kind=pa.array(["a"]).dictionary_encode())
    put("b.parquet", who=[{"id": 2, "name": "y"}], kind=["b"])
    assert read(tmp_path).data.to_pydict() == {"who.id": [1, 2], "who.name": ["x", "y"], "kind": ["a", "b"]}
    assert read(tmp_path, columns=["who.id"]).data.to_pydict() == {"who.id": [1, 2]}


def test_mixed_schemas_are_told_by_file_and_column(tmp_path: Path, put: Callable[..., None]) -> None:
    put("a.parquet", user=[1], n=[1])
    put("b.parquet", user=[2], n=[2])
    put("c/d.parquet", user=["x"], n=[3])
    message = refusal(tmp_path)
    assert "events/c/d.parquet: the column 'user' holds string, but in events/a.parquet it holds int64" in message
    assert "Write them alike" in message
    assert read(tmp_path, columns=["n"]).data.to_pydict() == {"n": [1, 2, 3]}
    put("c/d.parquet", n=[3])
    assert "events/c/d.parquet: there is no column 'user', which events/a.parquet has" in refusal(tmp_path)
    assert "events/c/d.parquet: there is no column 'user'" in refusal(tmp_path, columns=["user"])
    put("c/d.parquet", n=[3], user=[4], extra=[5])
    assert "events/a.parquet: there is no column 'extra', which events/c/d.parquet has" in refusal(tmp_path)
    put("c/d.parquet", n=[3], user=[4])
    assert read(tmp_path).data.to_pydict() == {"user": [1, 2, 4], "n": [1, 2, 3]}  # another order of columns is fine


def test_integers_and_floats_are_not_mixed(tmp_path: Path, put: Callable[..., None]) -> None:
    put("a.parquet", user=[2**53 + 1])
    put("b.parquet", user=[1.0])
    assert "events/b.parquet: the column 'user' holds double, but in events/a.parquet it holds int64" in refusal(
        tmp_path
    )


def test_partitions_that_do_not_fit(tmp_path: Path, put: Callable[..., None]) -> None:
    put("day=1/a.parquet", item=[1])
    put("hour=1/a.parquet", item=[2])
    message = refusal(tmp_path)
    assert "events/hour=1/a.parquet: its folders give it the partitions 'hour', but those of" in message
    assert "events/day=1/a.parquet are 'day'" in message
    put("hour=1/a.parquet", item=[2], hour=[3])
    (tmp_path / "events" / "day=1" / "a.parquet").unlink()
    assert "the column 'hour' stands in the file and in its folder's name (hour=1)" in refusal(tmp_path)


def test_empty_folders_and_other_files(tmp_path: Path, put: Callable[..., None]) -> None:
    (tmp_path / "events").mkdir()
    message = refusal(tmp_path)
    assert "events/: is a folder without a Parquet file (*.parquet) below it; name one file in it" in message
    assert message.endswith("Its files are none.")
    (tmp_path / "events" / "a.csv").write_text("a\n1\n")
    assert refusal(tmp_path).endswith("Its files are 'a.csv'.")
    put("a.parquet", n=pa.array([], pa.int64()))
    assert "events/: has no rows (columns: 'n'); give a table with rows." in refusal(tmp_path)
    put("b.parquet", n=[1])
    assert read(tmp_path).data.num_rows == 1
    message = refusal(tmp_path, format="jsonl")
    assert "events/: is a folder, which is read as Parquet (2 such files below it), not as jsonl" in message


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"user,item\n1,2\n"])
def test_a_damaged_file_is_named(tmp_path: Path, put: Callable[..., None], content: bytes) -> None:
    put("a.parquet", n=[1])
    (tmp_path / "events" / "b.parquet").write_bytes(content)
    assert "events/b.parquet: is not a usable Parquet file (" in refusal(tmp_path)


def test_the_first_look_takes_a_folder(tmp_path: Path, put: Callable[..., None]) -> None:
    put("day=1/a.parquet", user=["u1", "u2", "u1"])
    found = examine(str(tmp_path / "events"))
    assert (found["kind"], found["rows"]) == ("data", 3)
    assert [column["name"] for column in found["columns"]] == ["user", "day"]
