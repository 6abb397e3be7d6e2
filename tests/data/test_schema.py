"""The schema of a table (`towerkit.data.schema`, `column_types`, `times`).

Pinned here:
- each rule of the table of types, and that roles come from the caller;
- a schema survives JSON, and refuses what it does not know;
- served rows that lack a column or changed a type are refused with the row and the value; harmless changes are not.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError
from towerkit.data.readers import Table, read_table
from towerkit.data.schema import Schema, check_same_columns, infer_schema
from towerkit.data.times import parse_times

PNG, WAV = b"\x89PNG\r\n\x1a\n....", b"RIFF\x24\x00\x00\x00WAVEfmt "
SENTENCE = "a lamp of oak and brass"


def schema_of(columns: dict[str, Any], roles: dict[str, str] | None = None) -> Schema:
    return infer_schema(read_table(columns), roles or {})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "number"),
        ([0.5, None], "number"),
        ([dt.timedelta(seconds=1)], "number"),
        ([True, None], "bool"),
        ([dt.datetime(2024, 5, 31)], "time"),
        ([dt.date(2024, 5, 31)], "time"),
        (["2024-05-31", "2024-05-31T10:00:00Z", None], "time"),
        (["2024-05-31", "2024-13-31"], "category"),
        (["red", "blue"], "category"),
        (["a red lamp", "the blue lamp is here now"], "text"),
        ([SENTENCE] * 100, "category"),
        ([f"{i:030d}" for i in range(10)], "text"),
        ([f"{i:08d}" for i in range(10)], "category"),
        ([None, None], "category"),
        ([PNG, None], "image"),
        ([b"\xff\xd8\xff\xe0"], "image"),
        ([b"RIFF....WEBP"], "image"),
        ([WAV], "sound"),
        ([b"????"], "category"),
        ([[1.0, 2.0], [3.0, 4.0], None], "vector"),
        ([[1.0, 2.0], [3.0]], "list"),
        ([["a"], ["b"]], "list"),
    ],
)
def test_each_rule(values: list[Any], kind: str) -> None:
    assert schema_of({"a": values}).columns[0].type == kind


def test_a_fixed_size_list_of_numbers_is_a_vector() -> None:
    assert schema_of({"a": pa.array([[1, 2], None], pa.list_(pa.int8(), 2))}).columns[0].type == "vector"


@pytest.mark.parametrize("role", ["query", "candidate", "key"])
@pytest.mark.parametrize("values", [["u1", "u2"], [1, 2], ["2024-05-31"]])
def test_keys_are_keys_whatever_they_look_like(role: str, values: list[Any]) -> None:
    column = schema_of({"a": values}, {"a": role}).columns[0]
    assert (column.type, column.role) == ("key", role)


def test_roles_come_from_the_caller() -> None:
    schema = schema_of({"t": [1, 2], "y": [0, 1], "x": [5, 6]}, {"t": "time", "y": "label", "absent": "weight"})
    assert [(column.role, column.type) for column in schema.columns] == [
        ("time", "number"), ("label", "number"), ("feature", "number"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="column 't' is given the role 'tme'; did you mean 'time'"):
        schema_of({"t": [1]}, {"t": "tme"})


def test_what_is_counted() -> None:
    column = schema_of({"a": [None, "x", "y", "x"]}).columns[0]
    assert (column.missing, column.distinct, column.example) == (0.25, 2, "x")
    vector = schema_of({"a": [[1.0, 2.0], [1.0, 2.0]]}).columns[0]
    assert (vector.distinct, vector.example) == (0, "[1.0, 2.0]")
    assert schema_of({"a": ["x" * 99]}).columns[0].example == "x" * 59 + "…"


def test_values_that_begin_late_are_still_seen() -> None:
    late = pa.chunked_array([pa.nulls(100_001, pa.string()), ["x"]])
    column = infer_schema(Table(pa.table({"a": late}), "t"), {}).columns[0]
    assert (column.distinct, column.example) == (1, "x")


def test_rows_for_people() -> None:
    schema = schema_of({"user": ["u1", "u2"], "v": [[1.0], None]}, {"user": "query"})
    assert schema.rows() == [
        ("user", "query", "key", "0.0%", "2", "u1"),
        ("v", "feature", "vector", "50.0%", "", "[1.0]"),
    ]


def test_require_names_the_nearest() -> None:
    schema = schema_of({"price": [1], "color": ["red"]})
    assert schema.require("price", "t.csv").name == "price"
    with pytest.raises(
        DataError, match=r"t\.csv: there is no column 'colour'; did you mean 'color'\?.*'color', 'price'"
    ):
        schema.require("colour", "t.csv")


def test_a_schema_survives_json() -> None:
    schema = schema_of({"user": ["é", None], "image": [PNG, WAV], "n": [1, 2]}, {"user": "query"})
    assert Schema.from_json(schema.to_json()) == schema
    known = json.loads(schema.to_json())
    known["columns"][0]["type"] = "smell"
    with pytest.raises(DataError, match="column 'user' the type 'smell'"):
        Schema.from_json(json.dumps(known))
    for text in ("{", "{}", '{"columns": [{"name": "a"}]}', "[]"):
        with pytest.raises(DataError, match="not one that towerkit wrote"):
            Schema.from_json(text)


# ---- serving

TRAINED = {
    "user": ["u1", "u2"], "age": [31, 40], "city": ["Rome", "Oslo"], "joined": ["2024-05-31", "2024-06-01"],
    "paid": [True, False], "picture": [PNG, PNG], "vector": [[1.0, 2.0], [3.0, 4.0]], "bought": [0, 1],
}  # fmt: skip
SCHEMA = schema_of(TRAINED, {"user": "query", "bought": "label"})


def served(**changed: Any) -> Table:
    columns = {name: values for name, values in TRAINED.items() if name != "bought"} | changed
    return read_table({name: values for name, values in columns.items() if values is not None})


def test_harmless_differences() -> None:
    check_same_columns(SCHEMA, read_table(TRAINED))
    check_same_columns(SCHEMA, served(more=["x", "y"]))
    check_same_columns(SCHEMA, read_table(dict(reversed(served().data.to_pydict().items()))))
    check_same_columns(SCHEMA, served(age=[None, None], picture=[None, None]))
    check_same_columns(SCHEMA, served(age=[31.5, 40.0], user=[1, 2], city=[7, 8], joined=[dt.date(2024, 5, 31)] * 2))
    check_same_columns(SCHEMA, served(age=None), columns=["city"])


def test_missing_columns_are_all_named() -> None:
    with pytest.raises(DataError, match=r"lacks 2 of the 7 columns.*'age', 'city'; did you mean 'aged'\?"):
        check_same_columns(SCHEMA, served(age=None, city=None, aged=[1, 2]))


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        (
            "age",
            ["31", "old"],
            r"row 2: column 'age' held the type number in training \(for example '31'\).*holds 'old'",
        ),
        ("age", [None, "NA, not known"], "row 2: column 'age'.*'NA, not known'"),
        ("age", ["31", "40"], "row 1: column 'age'.*'31'"),
        ("age", [dt.date(2024, 5, 31)] * 2, "row 1: column 'age'.*2024"),
        ("joined", ["2024-05-31", "soon"], "row 2: column 'joined'.*'soon'"),
        ("joined", ["2024-05-31", "2024-13-31"], "row 1: column 'joined'"),
        ("joined", [1, 2], "row 1: column 'joined'.*1"),
        ("paid", ["true", "yes"], "row 2: column 'paid'.*'yes'"),
        ("picture", ["a.png", "b.png"], "row 1: column 'picture' held the type image.*'a.png'"),
        ("vector", [1.0, 2.0], "row 1: column 'vector' held the type vector"),
        ("city", [["Rome"], ["Oslo"]], r"row 1: column 'city' held the type category.*\['Rome'\]"),
    ],
)
def test_a_changed_type_is_told_with_row_and_value(column: str, values: list[Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        check_same_columns(SCHEMA, served(**{column: values}))


def test_rows_of_files_are_told_by_their_line(tmp_path: Any) -> None:
    (tmp_path / "t.csv").write_text("age,city\n31,Rome\nNA,Rome\nold,Oslo\n")
    with pytest.raises(DataError, match=r"^t\.csv, line 4: column 'age'.*'old'"):
        check_same_columns(SCHEMA, read_table("t.csv", base=tmp_path), columns=["age"])


# ---- times


def test_times_with_and_without_zones() -> None:
    texts = ["2024-05-31", "2024-05-31 10:00", "2024-05-31T10:00:00.5Z", "2024-05-31T10:00:00+0200", None]
    found = parse_times(pa.chunked_array([texts]))
    assert found is not None
    day = dt.datetime(2024, 5, 31)
    assert found.to_pylist() == [
        day, day.replace(hour=10), day.replace(hour=10, microsecond=500_000), day.replace(hour=8), None,
    ]  # fmt: skip


@given(st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_python_times_come_back(moments: list[dt.datetime]) -> None:
    found = parse_times(pa.array([moment.isoformat() for moment in moments]))
    assert found is not None
    assert found.to_pylist() == moments


def test_digits_below_a_microsecond_are_cut() -> None:
    found = parse_times(pa.array(["2024-05-31T10:00:00.123456789"]))
    assert found is not None
    assert found[0].as_py() == dt.datetime(2024, 5, 31, 10, 0, 0, 123456)


@pytest.mark.parametrize("text", ["20240531", "2024-05", "31/05/2024", "2024-02-30", "10:00", ""])
def test_what_is_not_a_time(text: str) -> None:
    assert parse_times(pa.array([text])) is None
