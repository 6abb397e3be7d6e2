"""Reading tables from files and from memory (`towerkit.data.readers`, `frames`, `json_lines`, `table`).

Pinned here:
- the same rows come back from pandas, Polars, DuckDB, Arrow, Parquet, JSON lines and dicts, in the same plain types;
- keys of any type are unchanged: text with leading zeros, blanks or accents, and integers beyond 2**53;
- whatever cannot be read is refused with its name, row, column and value;
- real public files, where they lie beside the checkout, read to their published sizes.
"""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.readers import SourceSpec, Table, read_table

KEYS = {"text": ["007", " a", "é"], "whole": [1, 2**53 + 1, 2**62], "part": [0.5, None, 2.0]}
MOMENT = dt.datetime(2024, 5, 31, 10, 0)


def rows_of(given: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(given).data.to_pylist()
    return found


def refusal(given: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_table(given, **options)
    return str(caught.value)


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ---- memory


def test_keys_survive_every_kind_of_table() -> None:
    arrow = pa.table(KEYS)
    expected = arrow.to_pylist()
    frames: list[Any] = [
        KEYS,
        expected,
        arrow,
        arrow.to_reader(),
        arrow.to_batches()[0],
        pd.DataFrame(KEYS),
        pl.DataFrame(KEYS),
        duckdb.sql("select * from arrow"),
    ]
    for frame in frames:
        table = read_table(frame)
        assert table.data.to_pylist() == expected, type(frame)
        assert table.data.schema.types == [pa.string(), pa.int64(), pa.float64()], type(frame)
        assert (table.name, table.first_row) == ("the given data frame", 0)


def test_a_table_is_taken_as_it_is() -> None:
    table = Table(pa.table({"a": [1]}), "mine", 7)
    assert read_table(table) is table


def test_categories_and_large_types_become_plain() -> None:
    polars = pl.DataFrame({"a": pl.Series(["x", "y", None], dtype=pl.Categorical), "b": [["u"], [], None]})
    assert read_table(polars).data.schema.types == [pa.string(), pa.list_(pa.string())]
    pandas = pd.DataFrame({"a": pd.Categorical(["x", None, "y"]), "b": pd.Categorical([3, 4, 3])})
    assert rows_of(pandas) == [{"a": "x", "b": 3}, {"a": None, "b": 4}, {"a": "y", "b": 3}]
    arrow = pa.table(
        {
            "dictionary": pa.array(["x"]).dictionary_encode(),
            "nested": pa.array([["x"]], pa.list_(pa.dictionary(pa.int8(), pa.large_string()))),
            "view": pa.array(["x"], pa.string_view()),
            "large": pa.array(["x"], pa.large_string()),
            "bytes": pa.array([b"x"], pa.large_binary()),
            "decimal": pa.array([decimal.Decimal("1.50")]),
            "half": pa.array([np.float16(0.5)], pa.float16()),
            "nothing": pa.nulls(1),
            "vector": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
            "uuid": pa.array([b"0123456789abcdef"], pa.uuid()),
        }
    )
    plain = read_table(arrow).data
    assert [str(kind) for kind in plain.schema.types] == [
        "string", "list<item: string>", "string", "string", "binary", "double", "float", "string",
        "fixed_size_list<item: float>[2]", "string",
    ]  # fmt: skip
    assert plain.column("decimal").to_pylist() == [1.5]
    assert plain.column("nested").to_pylist() == [["x"]]


def test_not_a_number_is_missing_everywhere() -> None:
    nan = float("nan")
    for frame in (
        {"a": [1.0, nan]},
        {"a": np.array([1.0, nan])},
        pd.DataFrame({"a": [1.0, nan]}),
        pl.DataFrame({"a": [1.0, nan]}),
    ):
        assert rows_of(frame) == [{"a": 1.0}, {"a": None}], type(frame)


def test_a_data_frame_leaves_its_index_behind() -> None:
    frame = pd.DataFrame({"a": [1, 2], 5: ["x", "y"]}, index=pd.Index(["p", "q"], name="key"))
    assert rows_of(frame) == [{"a": 1, "5": "x"}, {"a": 2, "5": "y"}]


def test_times_keep_their_moment() -> None:
    for frame in (pd.DataFrame({"t": [MOMENT]}), pl.DataFrame({"t": [MOMENT]}), {"t": [MOMENT]}):
        table = read_table(frame)
        assert pa.types.is_timestamp(table.data.column("t").type)
        assert table.data.column("t").cast(pa.timestamp("us")).to_pylist() == [MOMENT]


def test_records_become_columns_of_their_own() -> None:
    assert rows_of([{"user": {"id": "u1", "home": {"city": "Rome"}}}]) == [{"user.id": "u1", "user.home.city": "Rome"}]


def test_a_matrix_is_a_column_of_vectors() -> None:
    table = read_table({"v": np.arange(6, dtype=np.float32).reshape(2, 3)}).data
    assert table.column("v").type == pa.list_(pa.float32(), 3)
    assert table.to_pylist() == [{"v": [0, 1, 2]}, {"v": [3, 4, 5]}]


def test_rows_may_lack_keys() -> None:
    assert rows_of([{"a": 1}, {"b": "x"}]) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (pd.DataFrame({"a": [1, 2, "x"]}), r"row 3: column 'a' holds int values such as 1, but here str 'x'"),
        ({"a": ["x", 2]}, "row 2: column 'a' holds str values such as 'x', but here int 2"),
        ({"a": [2**70]}, "column 'a' cannot be read"),
        ({"a": [1, 2], "b": [1]}, "'a' has 2 values and 'b' has 1"),
        ({"a": "xyz"}, "column 'a' must be a list of values; received 'xyz'"),
        ({"a": []}, "the given data frame: has no rows (columns: 'a')"),
        ({}, "the given data frame: has no rows (columns: none)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column names must differ, but 'a' names columns 1 and 2"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "'a' names columns 1 and 2"),
        ({"a": [1], " ": [2]}, "every column needs a name, but that of column 2 (after 'a') is empty"),
        (7, "received int 7"),
        (pl.LazyFrame({"a": [1]}), "call .collect() on it first"),
        ([{"a": 1}, 5], "row 2: expected a dict of column and value; received 5"),
    ],
)
def test_what_is_not_a_table(given: Any, told: str) -> None:
    assert told in refusal(given)


# ---- Parquet and Arrow


def arrow_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


WRITERS: list[tuple[str, Callable[[pa.Table, Path], None]]] = [
    ("t.parquet", lambda table, path: pyarrow.parquet.write_table(table, path)),
    ("t.arrow", arrow_stream),
    ("t.feather", lambda table, path: pyarrow.feather.write_feather(table, str(path))),
    ("no_extension", lambda table, path: pyarrow.parquet.write_table(table, path)),
]


@pytest.mark.parametrize(("name", "writer"), WRITERS)
def test_binary_files_come_back(tmp_path: Path, name: str, writer: Callable[[pa.Table, Path], None]) -> None:
    table = pa.table({**KEYS, "group": pa.array(["a", "b", "a"]).dictionary_encode()})
    writer(table, tmp_path / name)
    found = read_table(name, base=tmp_path)
    assert found.data.to_pylist() == table.to_pylist()
    assert (found.name, found.first_row) == (name, 0)
    assert found.data.column("group").type == pa.string()
    some = read_table(SourceSpec(path=name, columns=("part", "text")), base=tmp_path)
    assert some.data.column_names == ["part", "text"]
    with pytest.raises(DataError, match="there is no column 'txt'; did you mean 'text'"):
        read_table(SourceSpec(path=name, columns=("txt",)), base=tmp_path)


def test_binary_files_inside_archives(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table(KEYS), tmp_path / "t.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "t.parquet", "t.parquet")
    assert read_table("a.zip", base=tmp_path).data.to_pylist() == pa.table(KEYS).to_pylist()


@pytest.mark.parametrize(("name", "kind"), [("t.parquet", "Parquet"), ("t.arrow", "Arrow")])
@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"", b"PAR1 but then nothing more PAR1"])
def test_not_what_the_extension_says(tmp_path: Path, name: str, kind: str, content: bytes) -> None:
    write(tmp_path / name, content)
    assert f"{name}: is not a usable {kind} file (" in refusal(name, base=tmp_path)


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    assert "t.parquet: has no rows (columns: 'a')" in refusal("t.parquet", base=tmp_path)


# ---- JSON lines


def test_json_lines_keep_the_types_of_json(tmp_path: Path) -> None:
    write(
        tmp_path / "t.jsonl",
        '{"id": "007", "day": "2024-05-31", "n": 1, "tags": ["2024-05-31 10:00:00"]}\n\n'
        '{"id": "é", "n": 2.5, "x": {"y": true}}\n',
    )
    table = read_table("t.jsonl", base=tmp_path)
    assert table.data.to_pylist() == [
        {"id": "007", "day": "2024-05-31", "n": 1.0, "tags": ["2024-05-31 10:00:00"], "x.y": None},
        {"id": "é", "day": None, "n": 2.5, "tags": None, "x.y": True},
    ]
    assert table.first_row == 1
    write(tmp_path / "t.jsonl.gz", gzip.compress(b'{"a": 1, "b": 2}\n'))
    assert read_table(SourceSpec(path="t.jsonl.gz", columns=("b",)), base=tmp_path).data.to_pylist() == [{"b": 2}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"a": 1}\n{"a": \n', "t.jsonl, line 2: is not a JSON object (Expecting value at character 6)"),
        ('{"a": 1}\n{"a": "x"}\n', "t.jsonl, line 2: column 'a' holds a number from line 1 on, but here text: 'x'"),
        ('[{"a": 1}]\n', "t.jsonl, line 1: begins with '[', a JSON list; write one object per line"),
        ("null\n", "t.jsonl, line 1: expected a JSON object, found None"),
        ('{"a": 1}\n \n  null\n', "t.jsonl, line 3: expected a JSON object, found None"),
        ('{\n"a": 1\n}\n', "t.jsonl, line 1: is not a JSON object"),
        ('{"a": 1}\n7\n', "t.jsonl, line 2: expected a JSON object, found 7"),
        (
            '{"a": 1}\n{"a": 9223372036854775809}\n',
            "line 2: column 'a' holds 9223372036854775809, which 64 bits cannot hold",
        ),
        ("", "t.jsonl: the file is empty (0 bytes of text)"),
        ('{"a": 1, "a": 2}\n', "t.jsonl: cannot be read as JSON lines: "),
    ],
)
def test_faults_of_json_lines(tmp_path: Path, content: str, told: str) -> None:
    write(tmp_path / "t.jsonl", content)
    assert told in refusal("t.jsonl", base=tmp_path)


def test_json_lines_longer_than_a_block(tmp_path: Path) -> None:
    long = "x" * (17 << 20)
    write(tmp_path / "t.jsonl", f'{{"a": "{long}"}}\n{{"a": "y"}}\n')
    assert read_table("t.jsonl", base=tmp_path).data.column("a").to_pylist() == [long, "y"]


# ---- specs and bundled tables


def test_specs_refuse_what_they_do_not_know() -> None:
    with pytest.raises(SpecError, match="unknown key 'seperator'; did you mean 'separator'"):
        parse(SourceSpec, {"path": "a", "seperator": ";"})
    with pytest.raises(SpecError, match="path: string should have at least 1 character; received ''"):
        read_table("")


def test_the_bundled_shop() -> None:
    pytest.importorskip("towerkit.data.shop")
    table = read_table("builtin:shop-small/users")
    assert "user_id" in table.data.column_names
    assert table.name == "builtin:shop-small/users"
    with pytest.raises(DataError, match=r"'user'.*did you mean 'users'"):
        read_table("builtin:shop-small/user")
    with pytest.raises(
        DataError, match=r"bundled tables are 'builtin:shop/NAME' and 'builtin:shop-small/NAME'; did you mean"
    ):
        read_table("builtin:shops/users")


# ---- public files


def test_public_clothing_reviews(data_root: Path) -> None:
    archive = "mt-womens-clothing/womens-ecommerce-clothing-reviews.zip"
    member = "womens-ecommerce-clothing-reviews/Womens Clothing E-Commerce Reviews.csv"
    table = read_table(archive, base=data_root).data
    assert read_table(f"{archive}::{member}", base=data_root).data.equals(table)
    assert table.num_rows == 23_486
    assert table.column_names[:3] == ["Clothing ID", "Age", "Title"]
    assert table.column("Review Text").null_count == 845
    assert sorted(set(table.column("Recommended IND").to_pylist())) == [0, 1]


def test_public_movielens_100k(data_root: Path) -> None:
    names = ("user", "item", "rating", "time")
    ratings = read_table(SourceSpec(path="ml-100k/raw/u.data", names=names), base=data_root)
    assert (ratings.data.num_rows, ratings.first_row) == (100_000, 1)
    assert ratings.data.schema.types == [pa.int64()] * 4
    items = SourceSpec(path="ml-100k/raw/u.item", separator="|", header=False, encoding="latin-1")
    table = read_table(items, base=data_root).data
    assert (table.num_rows, table.num_columns) == (1682, 24)
    assert "Misérables, Les (1995)" in table.column("column_2").to_pylist()
    with pytest.raises(DataError, match=r"u\.item, line 543: byte 76,620 \(0xe9\) is not utf-8"):
        read_table(items.model_copy(update={"encoding": "utf-8"}), base=data_root)


def test_public_movielens_1m(data_root: Path) -> None:
    ratings = read_table("ml-1m/ratings.csv.gz", base=data_root).data
    assert ratings.num_rows == 1_000_209
    assert ratings.column("timestamp").type == pa.int64()
    movies = SourceSpec(path="ml-1m/raw/movies.dat", header=False, encoding="latin-1")
    assert read_table(movies, base=data_root).data.num_rows == 3883


def test_public_file_with_blanks_after_its_commas(data_root: Path) -> None:
    census = SourceSpec(
        path="mtl-census-income-kdd/census-income.test.gz", format="delimited", separator=", ", header=False
    )
    table = read_table(census, base=data_root).data
    assert (table.num_rows, table.num_columns) == (99_762, 42)
    assert table.column("column_25").type == pa.float64()


def test_uuids_are_read_as_people_write_them() -> None:
    keys = [uuid.UUID(int=7), None, uuid.UUID(int=8), uuid.UUID(int=7)]
    texts = [None if key is None else str(key) for key in keys]
    for given in (pd.DataFrame({"key": keys}), {"key": keys}, pa.table({"key": pa.array(keys, pa.uuid())})):
        assert [row["key"] for row in rows_of(given)] == texts
