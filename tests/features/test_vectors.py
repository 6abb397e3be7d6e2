"""Precomputed vectors.

Invariants:
- lists, lists of fixed size, and columns of numbers that hold the same give the same; so do slices and chunks of a table;
- ``unit`` gives length 1, ``standard`` mean 0 and deviation 1 over the training rows, ``none`` the numbers themselves;
- a missing row is zeros and a flag; nothing else raises the flag;
- another width, a null or a number that is not finite inside a vector, half a vector over columns: refused with row and value;
- nothing is learned from other rows; rebuilt from its state, the feature encodes alike.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.batch import dense
from towerkit.features.base import State
from towerkit.features.vectors import VectorFeature, VectorScale, VectorSpec

FLOATS = st.floats(-1e6, 1e6, width=32)
ROWS: list[list[float] | None] = [[3.0, 4.0], None, [0.0, 0.0], [6.0, -8.0]]


def table(rows: Any, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"x": pa.array(rows, kind or pa.list_(pa.float32()))})


def fitted(scale: VectorScale = "none", rows: Any = ROWS) -> VectorFeature:
    return VectorSpec(columns=("x",), scale=scale).fit(table(rows))


def encoded(feature: VectorFeature, asked: pa.Table) -> NDArray[np.float32]:
    column = feature.encode(asked)
    return dense({"x": column}, "x").numpy()


def test_scales() -> None:
    assert encoded(fitted("none"), table(ROWS)).tolist() == [[3, 4, 0], [0, 0, 1], [0, 0, 0], [6, -8, 0]]
    unit = encoded(fitted("unit"), table(ROWS))
    np.testing.assert_allclose(unit, [[0.6, 0.8, 0], [0, 0, 1], [0, 0, 0], [0.6, -0.8, 0]], rtol=1e-6)
    standard = encoded(fitted("standard"), table(ROWS))
    known = standard[[0, 2, 3], :2]
    np.testing.assert_allclose(known.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(known.std(axis=0), 1.0, rtol=1e-6)
    assert standard[1].tolist() == [0.0, 0.0, 1.0]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), width=st.integers(1, 5), rows=st.integers(1, 6))
def test_every_form_and_cut_of_the_same_numbers_gives_the_same(data: st.DataObject, width: int, rows: int) -> None:
    numbers = data.draw(arrays(np.float32, (rows, width), elements=FLOATS))
    scale: VectorScale = data.draw(st.sampled_from(["none", "unit", "standard"]))
    lists = table(numbers.tolist())
    names = tuple("abcde"[:width])
    apart = pa.table({name: numbers[:, place] for place, name in enumerate(names)})
    feature = VectorSpec(columns=("x",), scale=scale).fit(lists)
    wanted = encoded(feature, lists)
    assert np.isfinite(wanted).all() and not wanted[:, -1].any()
    fixed = table(numbers.tolist(), pa.list_(pa.float64(), width))
    np.testing.assert_array_equal(encoded(feature, fixed), wanted)
    np.testing.assert_allclose(encoded(VectorSpec(columns=names, scale=scale).fit(apart), apart), wanted, rtol=1e-6)
    cut = data.draw(st.integers(0, rows))
    np.testing.assert_array_equal(encoded(feature, pa.concat_tables([lists.slice(0, cut), lists.slice(cut)])), wanted)
    for row in range(rows):
        np.testing.assert_array_equal(encoded(feature, lists.slice(row, 1))[0], wanted[row])


@pytest.mark.parametrize("scale", ["none", "unit", "standard"])
def test_rebuilt_from_its_state(scale: VectorScale) -> None:
    feature = fitted(scale)
    state = feature.state()
    again = VectorSpec(columns=("x",), scale=scale).restore(State(json.loads(json.dumps(dict(state.values)))))
    assert again.name == feature.name
    np.testing.assert_array_equal(encoded(again, table(ROWS)), encoded(feature, table(ROWS)))
    assert encoded(again, table([None, None])).tolist() == [[0, 0, 1]] * 2
    assert encoded(again, pa.table({"x": pa.nulls(2)})).tolist() == [[0, 0, 1]] * 2
    assert encoded(again, pa.Table.from_pylist([dict(again.sample())])).shape == (1, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [[1.0, 2.0], None, [1.0, 2.0, 3.0]],
            r"'x' must hold vectors of one width, 2 numbers; row 3 has 3: \[1.0, 2.0, 3.0\]",
        ),
        ([[1.0, 2.0], []], r"one width, 2 numbers; row 2 has 0: \[\]"),
        ([[1.0, 2.0], None, [float("nan"), 2.0]], r"row 3 has nan at place 1 of 2"),
        ([[1.0, 2.0], [1.0, None]], r"row 2 has None at place 2 of 2"),
        ([[1.0, 2.0], [1.0, float("inf")]], r"row 2 has inf at place 2 of 2"),
        ([[1.0, 2.0], [1.0, 1e19]], r"up to 1e\+18; row 2 has 1e\+19"),
    ],
)
def test_what_is_no_vector_is_refused_with_its_row(rows: Any, message: str) -> None:
    bad = table(rows, pa.list_(pa.float64()))
    with pytest.raises(DataError, match=message):
        VectorSpec(columns=("x",)).fit(bad)
    with pytest.raises(DataError, match=message):
        VectorSpec(columns=("x",)).fit(bad.slice(0, 1)).encode(bad)


def test_lists_of_something_else_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="must hold lists of numbers; it holds list<element: string>|item: string"):
        VectorSpec(columns=("x",)).fit(table([["a", "b"]], pa.list_(pa.string())))
    with pytest.raises(DataError, match="hold no vector in any of the 2 training rows"):
        VectorSpec(columns=("x",)).fit(table([None, None]))


def test_columns_of_numbers_have_all_or_none() -> None:
    rows = pa.table({"a": [1.0, None, 3.0], "b": [2.0, None, None]})
    spec = VectorSpec(columns=("a", "b"))
    assert encoded(spec.fit(rows.slice(0, 2)), rows.slice(0, 2)).tolist() == [[1, 2, 0], [0, 0, 1]]
    with pytest.raises(DataError, match="row 3 has no number in 'b'"):
        spec.fit(rows)
    with pytest.raises(DataError, match=r"'b' .* row 1 has 1e\+30"):
        spec.fit(pa.table({"a": [1.0], "b": [1e30]}))
    with pytest.raises(DataError, match="give vectors of 2 numbers, and not of 3"):
        VectorSpec(columns=("a", "b")).restore(State({"width": 3})).encode(rows.slice(0, 1))


def test_a_state_that_no_fit_wrote_is_refused() -> None:
    for values in ({"width": "3"}, {"width": 0}, {"width": 2, "mean": [0.0]}, {"width": 1, "deviation": [0.0]}):
        with pytest.raises(ValueError, match="stored"):
            VectorSpec(columns=("x",)).restore(State(values))
