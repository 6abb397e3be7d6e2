"""Keys of any type come back unchanged, whatever they were kept in.

Pinned here, for whole numbers, text, truth values, UUIDs, dates and times, missing ones among them:
- Parquet, Arrow, a folder of Parquet, DuckDB, memory: the same values;
- text tables: what is read is written again as it stood, so no two keys become one;
- JSON lines: whole numbers and text;
- the column is a key to the schema.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.data.readers import SourceSpec, Table, read_table
from towerkit.data.schema import infer_schema
from towerkit.data.table import values_of

WHOLE = st.integers(-(2**63), 2**63 - 1)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    st.sampled_from(
        ["007", "7", " a", "a ", "+7", "-00", "1e5x", "NA", "nan", "é", "ＡＢ", "true!", "2024-05-31", '"', "'"]
    ),
    st.integers(0, 200).map(str),
)
MOMENT = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
DATE = st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1))
KINDS = (WHOLE, TEXT, st.booleans(), st.uuids(), DATE, MOMENT)


def columns(*kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists of keys of one type, with a missing one here and there, and one that is not."""
    return st.one_of(
        *(st.lists(st.one_of(kind, kind, kind, st.none()), min_size=1).filter(lambda keys: any(k is not None for k in keys))
          for kind in kinds)
    )  # fmt: skip


def keys_of(table: Table) -> list[Any]:
    assert infer_schema(table, {"key": "query"}).columns[0].type == "key"
    found: list[Any] = values_of(table.data, "key").to_pylist()
    return found


def plain(keys: list[Any]) -> list[Any]:
    """UUIDs are kept as the text that people write."""
    return [str(key) if isinstance(key, uuid.UUID) else key for key in keys]


@settings(max_examples=40)
@given(columns(*KINDS))
def test_binary_files_databases_and_memory(tmp_path_factory: pytest.TempPathFactory, keys: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("keys")
    table = pa.table({"key": keys})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    pyarrow.feather.write_feather(table, folder / "a.arrow", compression="uncompressed")
    (folder / "part" / "n=1").mkdir(parents=True)
    pyarrow.parquet.write_table(table, folder / "part" / "n=1" / "a.parquet")
    with duckdb.connect(str(folder / "a.db")) as connection:
        connection.register("given", table)
        connection.execute("CREATE TABLE kept AS SELECT * FROM given")
    for source in (
        {"key": keys},
        SourceSpec(path="a.parquet"),
        SourceSpec(path="a.arrow"),
        SourceSpec(path="part"),
        SourceSpec(path="duckdb:///a.db", sql="SELECT key FROM kept"),
    ):
        assert keys_of(read_table(source, base=folder)) == plain(keys), source


def written(keys: list[Any]) -> io.StringIO:
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerows([["key", "n"], *([("" if key is None else str(key)), "x"] for key in keys)])
    return stream


@given(columns(WHOLE, TEXT.filter(lambda text: not _has_a_value(text)), st.uuids(), DATE))
def test_text_tables(tmp_path_factory: pytest.TempPathFactory, keys: list[Any]) -> None:
    path = tmp_path_factory.mktemp("keys") / "a.csv"
    path.write_text(written(keys).getvalue(), encoding="utf-8", newline="")
    found = keys_of(read_table(path))
    assert [None if key is None else str(key) for key in found] == [None if key is None else str(key) for key in keys]


def _has_a_value(text: str) -> bool:
    """Decimal numbers, truth values and words for nothing: a text table reads them by their value, 1.50 as 1.5."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "na", "n/a", "null", "none")
    return text == "-0" or not text.lstrip("-").isdecimal()


@given(columns(WHOLE, TEXT))
def test_json_lines(tmp_path_factory: pytest.TempPathFactory, keys: list[Any]) -> None:
    path = tmp_path_factory.mktemp("keys") / "a.jsonl"
    path.write_text("".join(json.dumps({"key": key}, ensure_ascii=False) + "\n" for key in keys), encoding="utf-8")
    assert keys_of(read_table(path)) == keys
