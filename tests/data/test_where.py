"""Conditions on columns.

Invariants:
- any condition of the grammar holds for the rows that plain Python says, with "no value" as SQL has it: neither a comparison nor
  its opposite holds (an oracle that evaluates generated trees, not texts);
- a comparison is of values in the type of the column: a whole number with a fraction, a float32 with its nearest, times with dates;
- every text of random words is read or refused with a message that shows the place; nothing is evaluated and nothing crashes;
- a wrong column, a wrong type and each slip of the grammar is told with the column, the value and the place.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError, SpecError, TowerkitError
from towerkit.data.table import Table
from towerkit.data.where import parse_where

ROWS: list[dict[str, Any]] = [
    {"price": 3.5, "n": 1, "kind": "doll", "unit price": 1, "ok": True, "tags": ["a", "b"]},
    {"price": 30.0, "n": 2, "kind": "kite", "unit price": 2, "ok": False, "tags": []},
    {"price": None, "n": -3, "kind": None, "unit price": None, "ok": None, "tags": None},
    {"price": 20.0, "n": 40, "kind": "a 'kite'", "unit price": 3, "ok": None, "tags": ["b"]},
]
TABLE = Table(
    pa.Table.from_pylist(ROWS).append_column(
        "day", pa.array([datetime.date(2024, 1, 1), None, None, datetime.date(2025, 1, 1)])
    ),
    "toys.csv",
    2,
)

Truth = Callable[[dict[str, Any]], bool | None]
Condition = tuple[str, Truth]


def held(text: str) -> list[bool]:
    """Which rows hold a condition."""
    found: list[bool] = parse_where(text).holds(TABLE).tolist()
    return found


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def compared(column: str, operator: str, value: Any) -> Condition:
    name = f'"{column}"' if " " in column else column
    written = repr(value) if isinstance(value, str) else str(value).lower()
    return (
        f"{name} {operator} {written}",
        lambda row: None if row[column] is None else OPERATORS[operator](row[column], value),
    )


def within(values: list[str], negated: bool) -> Condition:
    text = f"kind {'not in' if negated else 'in'} {values!r}"
    return text, lambda row: None if row["kind"] is None else (row["kind"] in values) != negated


COMPARISONS = st.one_of(
    st.builds(
        compared,
        st.sampled_from(["price", "n", "unit price"]),
        st.sampled_from(list(OPERATORS)),
        st.sampled_from([1, 2, 2.5, 3.5, -3, 20, 30.0, 1000]),
    ),
    st.builds(compared, st.just("kind"), st.sampled_from(["==", "!="]), st.sampled_from(["doll", "kite", "x"])),
    st.builds(compared, st.just("ok"), st.sampled_from(["==", "!="]), st.booleans()),
    st.builds(within, st.lists(st.sampled_from(["doll", "kite", "y"]), min_size=1, max_size=3), st.booleans()),
    st.sampled_from(
        [
            ("'ki' in kind", lambda row: None if row["kind"] is None else "ki" in row["kind"]),
            ("'b' not in tags", lambda row: None if row["tags"] is None else "b" not in row["tags"]),
            ("price == null", lambda row: row["price"] is None),
            ("ok != null", lambda row: row["ok"] is not None),
        ]
    ),
)


def joined(word: str, one: Condition, other: Condition) -> Condition:
    def truth(row: dict[str, Any]) -> bool | None:
        values = one[1](row), other[1](row)
        decides = word == "or"
        return decides if decides in values else None if None in values else not decides

    return f"({one[0]}) {word} ({other[0]})", truth


def negated(one: Condition) -> Condition:
    return f"not ({one[0]})", lambda row: None if (value := one[1](row)) is None else not value


CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(st.builds(joined, st.sampled_from(["and", "or"]), inner, inner), st.builds(negated, inner)),
    max_leaves=6,
)


@given(CONDITIONS)
@settings(max_examples=60, deadline=None)
def test_a_condition_holds_where_python_says(condition: Condition) -> None:
    text, truth = condition
    assert held(text) == [truth(row) is True for row in ROWS]


def test_and_binds_closer_than_or_and_not_closest() -> None:
    assert held("n == 1 or n == 2 and price > 100") == [True, False, False, False]
    assert held("not n == 1 and price > 25") == [False, True, False, False]
    assert held("not (n == 1 and price > 25)") == [True, True, True, True]


def test_values_are_compared_in_the_type_of_the_column() -> None:
    assert held("n < 1.5") == [True, False, True, False]
    assert held("n in [1, 2.0]") == [True, True, False, False]
    assert held("n < 1e400") == [True] * 4
    small = Table(pa.table({"f": pa.array([0.1, 0.2], pa.float32()), "b": pa.array([1, 100], pa.int8())}), "small")
    assert parse_where("f == 0.1").holds(small).tolist() == [True, False]
    assert parse_where("b < 300").holds(small).tolist() == [True, True]
    large = Table(pa.table({"u": pa.array([2**63 + 5, 7], pa.uint64())}), "large")
    assert parse_where("u > -1").holds(large).tolist() == [True, True]
    assert parse_where("u == 7").holds(large).tolist() == [False, True]
    empty = Table(pa.table({"e": pa.nulls(2, pa.string())}), "empty")
    assert parse_where("e < 3 or not e == 'x'").holds(empty).tolist() == [False, False]


def test_times_are_compared_with_iso_texts() -> None:
    assert held("day >= '2024-06-01'") == [False, False, False, True]
    zoned = pa.array([datetime.datetime(2024, 1, 1, 23, tzinfo=datetime.UTC), None])
    table = Table(pa.table({"at": zoned, "iso": ["2024-01-01", "2024-02-01"]}), "times")
    assert parse_where("at < '2024-01-02T00:30:00+01:00'").holds(table).tolist() == [True, False]
    assert parse_where("iso > '2024-01-15'").holds(table).tolist() == [False, True]
    with pytest.raises(DataError, match=r"'day' holds times such as '2024-01-01'.*compared with 'soon'"):
        held("day > 'soon'")


WORDS = [
    "price",
    "and",
    "or",
    "not",
    "in",
    "(",
    ")",
    "[",
    "]",
    ",",
    "==",
    "<",
    "=",
    "'x'",
    '"n"',
    "3",
    "null",
    "&",
    "'",
]


@given(st.lists(st.sampled_from(WORDS), max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_words_are_read_or_refused_with_the_place(words: list[str]) -> None:
    text = " ".join(words)
    try:
        held(text)
    except TowerkitError as error:
        assert isinstance(error, SpecError | DataError)
        assert not text.strip() or str(error).startswith("where, character ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price 20", "character 7: expected a comparison (==, !=, <, <=, >, >=, in) after price; received 20."),
        ("price = 20", "character 7: two values are compared with ==; received =."),
        ("price <", "after <; received the end."),
        ("20 < price", "character 1: the column goes first, and 20 is a value."),
        ("price < 20 and", "character 15: expected a column; received the end."),
        ("(price < 20", "expected ) after a condition in parentheses; received the end."),
        ("price < 20 20", "character 12: expected and, or, or the end; received 20."),
        ("price in 3", "character 10: expected a list after in"),
        ("kind in ['a' 'b']", "character 14: expected a comma, or the end of the list; received 'b'."),
        ("kind in ['a', 2]", "the values of a list must be of one type"),
        ("kind == doll", "character 9: expected a value after == (a text goes in quotes: 'doll'); received doll."),
        ("price > 1 && n < 2", "character 11: conditions are joined with and, or, not; received &."),
        ("kind == 'doll", "this one never ends: 'doll."),
        ("n == --1", "character 6: received '--1', which is no column, operator or value"),
        ("ok < true", "true and false have no order; received <."),
        ("price > null", "null stands for no value and is compared with == or != only; received >."),
        ("not " * 60 + "n == 1", "parentheses and nots go at most 50 deep"),
        ("  ", "a condition is a text such as price < 20; received '  '."),
        ("n == 1 or " * 2000 + "n == 1", "has at most 10,000 characters; received 20,006."),
    ],
)
def test_a_slip_of_the_grammar_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_where(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "n == 1 and prise < 2",
            "character 12: there is no column 'prise'; did you mean 'price'? The columns are 'day', ",
        ),
        ("kind < 'x'", "'kind' holds texts such as 'doll', which have no order"),
        ("kind == 4", "'kind' holds texts such as 'doll', and is compared with 4. Write '4' in quotes."),
        ("price == 'a'", "'price' holds numbers such as 3.5, and is compared with 'a'. Compare with numbers."),
        ("ok == 1", "'ok' holds true and false such as True, and is compared with 1."),
        ("tags == 'a'", "'tags' holds lists such as ['a', 'b'], and is compared with 'a'. Ask for an element"),
        ("1 in tags", "'tags' holds lists such as ['a', 'b'], and is compared with 1."),
    ],
)
def test_a_wrong_column_or_type_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        held(text)
    assert message in str(caught.value)


def test_the_mark_stands_under_the_place() -> None:
    with pytest.raises(SpecError) as caught:
        parse_where("price < 20 and\nkind = 'x'")
    _, line, mark = str(caught.value).split("\n")
    assert line == "  price < 20 and kind = 'x'" and line[mark.index("^")] == "="
    with pytest.raises(SpecError) as caught:
        parse_where("n == 1 or " * 30 + "kind = 'x'")
    _, line, mark = str(caught.value).split("\n")
    assert len(line) <= 102 and line[mark.index("^")] == "="


def test_columns_of_bytes_are_refused() -> None:
    table = Table(pa.table({"picture": pa.array([b"x"])}), "t")
    with pytest.raises(DataError, match="'picture' holds binary such as b'x'"):
        parse_where("picture == 'x'").holds(table)
    assert math.isclose(np.mean(parse_where("picture != null").holds(table)), 1.0)
