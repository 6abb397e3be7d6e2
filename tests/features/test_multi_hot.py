"""Columns of several categories per row.

Invariants:
- each known member of a row counts once, whatever the order; unknown, rare, empty and missing ones are left out;
- spaces around a member of a text do not count, those inside do; in a list every character counts;
- lists of lists and records are refused.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError
from towerkit.data.batch import Bag
from towerkit.features.multi_hot import MultiHotSpec


def table(values: Any) -> pa.Table:
    return pa.table({"x": values})


def members(fitted: Any, asked: Any, **settings: Any) -> list[list[str]]:
    feature = MultiHotSpec(column="x", **settings).fit(table(fitted))
    bag = feature.encode(table(asked))
    assert isinstance(bag, Bag)
    assert bag.weights.tolist() == [1.0] * len(bag.codes)
    ends = bag.offsets.tolist()
    known = feature.vocabulary.values.to_pylist()
    return [[known[code - 1] for code in bag.codes[a:b].tolist()] for a, b in pairwise(ends)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c d", "é", ""]), max_size=5), min_size=1, max_size=8),
    st.lists(st.lists(st.sampled_from(["a", "b", "c d", "never"]), max_size=5), min_size=1, max_size=8),
)
def test_each_known_member_counts_once(fitted: list[list[str]], asked: list[list[str]]) -> None:
    known = {member for row in fitted for member in row if member}
    expected = [sorted(known & set(row)) for row in asked]
    lists = pa.array(asked, pa.list_(pa.string()))
    found = members(pa.array(fitted, pa.list_(pa.string())), lists, min_count=1)
    assert [sorted(row) for row in found] == expected
    texts = members(["|".join(row) for row in fitted], ["|".join(row) for row in asked], min_count=1)
    assert [sorted(row) for row in texts] == expected


def test_rare_members_are_unknown() -> None:
    assert members(["a|b", "a", "c"], ["a|b|c", "b", "a"]) == [["a"], [], ["a"]]


def test_separators_and_spaces() -> None:
    assert members([" a , b c,"], ["b c ,a", ",", None], separator=",", min_count=1) == [["a", "b c"], [], []]
    assert members(["x::y"], ["y::x", "x:y"], separator="::", min_count=1) == [["x", "y"], []]
    assert members(pa.array([[" a"]]), pa.array([[" a"], ["a"]]), min_count=1) == [[" a"], []]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([[["a"]]]), r"The column 'x' must hold lists of plain values; it holds list<.*list<.*string>>"),
        (pa.array([{"a": 1}]), r"The column 'x' must hold lists or texts; it holds struct<a: int64>"),
    ],
)
def test_what_holds_no_members_is_refused(values: pa.Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        MultiHotSpec(column="x").fit(table(values))
