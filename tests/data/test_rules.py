"""Rules such as ``rating >= 4``.

Invariants:
- a rule holds for exactly the rows for which Python's comparison does; never for a row without a value;
- what is not of the grammar is refused with the text and how to write it, and is never run;
- a missing column, and a value of another type, are refused with file, row and value.
"""

from __future__ import annotations

import operator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError, SpecError
from towerkit.data.rules import parse_rule
from towerkit.data.table import Table

PYTHON = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
NUMBERS = st.integers(-5, 5) | st.sampled_from([-0.5, 0.25, 2.5, 1e3])


def holds(rule: str, values: Any, column: str = "x") -> list[bool]:
    return parse_rule(rule).holds(Table(pa.table({column: values}), "a.csv", 2)).tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS | st.none(), min_size=1, max_size=20), st.sampled_from(sorted(PYTHON)), NUMBERS)
def test_numbers_compare_as_in_python(values: list[Any], sign: str, bound: float) -> None:
    column = pa.array(values, pa.float64())
    expected = [value is not None and PYTHON[sign](value, bound) for value in values]
    assert holds(f"x{sign} {bound!r}", column) == expected


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ("x == 'buy'", ["buy", "view", None], [True, False, False]),
        ('x != "buy"', ["buy", "view", None], [False, True, False]),
        ("x in ['a', \"b c\",]", ["a", "b c", "c", None], [True, True, False, False]),
        ("x in (1, 2.5)", [1.0, 2.5, 2.0], [True, True, False]),
        ("x in [7]", [7, 8], [True, False]),
        ("x == true", [True, False, None], [True, False, False]),
        ("x >= 4", [None, None], [False, False]),
        ("x == 9007199254740993", [9007199254740993, 9007199254740992], [True, False]),
        ("x == 'a, b >= 4'", ["a, b >= 4"], [True]),
    ],
)
def test_texts_lists_and_booleans(rule: str, values: Any, expected: list[bool]) -> None:
    assert holds(rule, pa.array(values)) == expected


@pytest.mark.parametrize("column", ["a b", "in", "check in", "stars (1 to 5)", "Straße", "a.b"])
def test_any_column_can_be_named_in_quotes(column: str) -> None:
    assert holds(f'"{column}" >= 2', [1, 2], column) == [False, True]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "a rule is a column, a comparison and a value, as in rating >= 4; received ''"),
        ("rating", "received 'rating'"),
        ("rating = 4", "received 'rating = 4'"),
        ("rating => 4", "received 'rating => 4'"),
        ("__import__('os').system('true')", "a rule is a column"),
        ("rating >= four", "a value is a number, true, false, or a text in quotes; received four .*write 'four'"),
        ("rating >= 4 and age > 3", "Several rules cannot be joined"),
        ("rating >= __import__('os')", "a rule compares a column with one number"),
        ("kind in 3", r"'in' needs a list, as in kind in \['cart', 'buy'\]; received 'kind in 3'"),
        ("kind in []", "'in' needs a list"),
        ("kind in [1, 'b']", "must be of one type"),
        ("kind >= 'b'", "'>=' compares numbers, since texts have no order .* received \"kind >= 'b'\""),
        ("flag < true", "'<' compares numbers"),
    ],
)
def test_what_is_no_rule_is_refused(rule: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_rule(rule)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_no_text_breaks_the_grammar(text: str) -> None:
    try:
        assert parse_rule(text).values
    except SpecError as error:
        assert "received" in str(error)


@pytest.mark.parametrize(
    ("rule", "values", "message"),
    [
        (
            "x >= 4",
            ["5", "4", "four"],
            r"a\.csv, line 4: the rule \"x >= 4\" .* with numbers, but it holds 'four' \(string",
        ),
        ("x == '4'", [None, 4], r"a\.csv, line 3: .* with texts, but it holds 4 \(int64\)"),
        ("x == 1", [True], r"with numbers, but it holds True \(bool\)"),
        ("x >= 1", [[1]], r"a\.csv, line 2: .*with numbers, but it holds \[1\]"),
        ("y >= 4", [1], r"a\.csv: the rule \"y >= 4\": there is no column 'y'"),
    ],
)
def test_a_column_of_another_type_is_refused(rule: str, values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        holds(rule, values)
