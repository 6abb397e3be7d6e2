"""Features of single columns.

Invariants:
- numbers are standardised by mean and deviation of the fitted values; missing is 0 beside a flag of 1, also for NaN;
- any finite column gives finite values, also constant, huge and tiny ones, and nothing beyond ten deviations;
- infinities and texts are refused with column, row and value; the row is that of the culprit;
- large integers, durations and times of day are numbers;
- a category is the same category as text, integer and whole float; rare and unknown ones share code 0;
- a feature rebuilt from its state encodes alike; a sample holds no one's id.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError, RunError
from towerkit.data.table import values_of
from towerkit.features.base import Feature, State, as_text
from towerkit.features.columns import CategorySpec, IdSpec, NumberSpec, numbers

HUGE = [-0.0, 1e12, -1e15, 1e300]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
OPTIONAL = st.one_of(st.none(), st.integers(-(10**6), 10**6).map(lambda eighths: eighths / 8))


def table(values: Any, type_: pa.DataType | None = None) -> pa.Table:
    return pa.table({"x": pa.array(values, type_)})


def encoded(feature: Feature, values: Any, type_: pa.DataType | None = None) -> np.ndarray[Any, Any]:
    return np.asarray(feature.encode(table(values, type_)))


# --- numbers ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(OPTIONAL, min_size=1, max_size=20), st.lists(OPTIONAL, min_size=1, max_size=20))
def test_numbers_are_standardised_by_the_fitted_values(fitted: list[float | None], asked: list[float | None]) -> None:
    feature = NumberSpec(column="x").fit(table(fitted, pa.float64()))
    known = np.array([value for value in fitted if value is not None])
    mean = known.mean() if len(known) else 0.0
    deviation = known.std() if len(set(known)) > 1 else 1.0
    found = encoded(feature, asked, pa.float64())
    assert found.dtype == np.float32
    for value, (standardised, missing) in zip(asked, found, strict=True):
        if value is None:
            assert (standardised, missing) == (0.0, 1.0)
        else:
            assert missing == 0.0
            assert standardised == pytest.approx(np.clip((value - mean) / deviation, -10, 10), abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=12), st.lists(FINITE, min_size=1, max_size=4))
def test_every_finite_column_gives_small_finite_values(fitted: list[float], asked: list[float]) -> None:
    feature = NumberSpec(column="x").fit(table(fitted))
    state = json.loads(json.dumps(feature.state().values, allow_nan=False))
    assert state["deviation"] > 0
    found = encoded(feature, fitted + asked)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 10.0


def test_a_deviation_too_small_to_write_counts_as_one() -> None:
    assert NumberSpec(column="x").fit(table([0.0, 5e-324])).deviation == 1.0


@pytest.mark.parametrize("value", [0.1, 0.0, -7.0, 1e300, 5e-324])
@pytest.mark.parametrize("count", [1, 3, 10, 1000])
def test_a_constant_column_has_deviation_one(value: float, count: int) -> None:
    feature = NumberSpec(column="x").fit(table([value] * count))
    assert (feature.mean, feature.deviation) == (value, 1.0)
    assert encoded(feature, [value]).tolist() == [[0.0, 0.0]]


def test_nan_is_missing() -> None:
    feature = NumberSpec(column="x").fit(table([1.0, float("nan"), 3.0, None]))
    assert (feature.mean, feature.deviation) == (2.0, 1.0)
    assert encoded(feature, [float("nan"), None, 3.0]).tolist() == [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]


def test_a_column_without_values_is_all_missing() -> None:
    feature = NumberSpec(column="x").fit(table([None, None]))
    assert encoded(feature, [None, 2.0]).tolist() == [[0.0, 1.0], [2.0, 0.0]]


@pytest.mark.parametrize(("value", "shown"), [(float("inf"), "inf"), (float("-inf"), "-inf")])
def test_an_infinity_is_refused_with_its_row(value: float, shown: str) -> None:
    message = rf"The column 'x' must hold finite numbers; row 3 has {shown}\."
    with pytest.raises(DataError, match=message):
        NumberSpec(column="x").fit(table([1.0, None, value, value]))
    with pytest.raises(DataError, match=message):
        NumberSpec(column="x").fit(table([1.0])).encode(table([1.0, None, value]))


@pytest.mark.parametrize(
    ("values", "row", "shown"),
    [
        (["1", "2", "two"], 3, "'two'"),
        (["1", None, "1_000", "two"], 3, "'1_000'"),
        (["1", ""], 2, "''"),
        ([[1.0], [2.0]], 1, r"\[1\.0\]"),
        ([b"1", b"x"], 2, r"b'x'"),
    ],
)
def test_what_is_no_number_is_refused_with_its_row(values: list[Any], row: int, shown: str) -> None:
    with pytest.raises(DataError, match=rf"The column 'x' must hold numbers; row {row} has {shown}\."):
        numbers(pa.array(values), "x")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, 2**53 + 1, -(2**63)]), [1.0, 2.0**53, -(2.0**63)]),
        (pa.array([2**64 - 1], pa.uint64()), [2.0**64]),
        (pa.array(["1", "-2.5", None, "1e3"]), [1.0, -2.5, np.nan, 1000.0]),
        (pa.array([True, None, False]), [1.0, np.nan, 0.0]),
        (pa.array([dt.timedelta(minutes=1, milliseconds=500), None]), [60.5, np.nan]),
        (pa.array([90], pa.duration("s")), [90.0]),
        (pa.array([dt.time(1, 0, 1), None]), [3601.0, np.nan]),
        (pa.array([61], pa.time32("s")), [61.0]),
    ],
)
def test_what_counts_as_a_number(values: pa.Array, expected: list[float]) -> None:
    np.testing.assert_array_equal(numbers(values, "x"), expected)


# --- categories and ids -------------------------------------------------------------------------------------------


def test_a_category_is_the_same_in_every_spelling() -> None:
    feature = CategorySpec(column="x", min_count=1).fit(table([3, 1, 3]))
    assert encoded(feature, ["3", "1", "2", None]).tolist() == [1, 2, 0, 0]
    assert encoded(feature, [3.0, 1.0, 2.5]).tolist() == [1, 2, 0]
    assert encoded(feature, [3.0]).tolist() == [1]
    assert encoded(feature, [3, 1]).tolist() == [1, 2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.integers(-99, 99), st.floats(-9, 9), st.sampled_from(HUGE)), min_size=2, max_size=12
    )
)
def test_a_number_is_one_category_alone_and_among_others(values: list[float | None]) -> None:
    floats = pa.array([None if value is None else float(value) for value in values], pa.float64())
    together = as_text(floats).to_pylist()
    alone = [as_text(floats.slice(row, 1)).to_pylist()[0] for row in range(len(floats))]
    assert together == alone


def test_rare_categories_share_the_unknown_code() -> None:
    values = ["a", "b", "a", "c", "c", None, None]
    feature = CategorySpec(column="x").fit(table(values))
    assert encoded(feature, ["a", "b", "c", "d", None]).tolist() == [1, 0, 2, 0, 0]


def test_booleans_are_categories() -> None:
    feature = CategorySpec(column="x").fit(table([True, False, True, False, None]))
    assert encoded(feature, [False, None, True]).tolist() == [2, 0, 1]


def test_ids_keep_their_type() -> None:
    texts = IdSpec(column="x").fit(table(["7", "007", None, "7"]))
    assert texts.name == "id"
    assert encoded(texts, ["007", "7", "0", None]).tolist() == [2, 1, 0, 0]
    integers = IdSpec(column="x").fit(table([2**53 + 1, 2**53]))
    assert encoded(integers, [2**53, 2**53 + 1, 2**53 + 2]).tolist() == [2, 1, 0]


# --- all of them --------------------------------------------------------------------------------------------------

SPECS = [IdSpec(column="x"), CategorySpec(column="x", min_count=1), NumberSpec(column="x")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_feature_rebuilt_from_its_state_encodes_alike(spec: IdSpec | CategorySpec | NumberSpec) -> None:
    feature = spec.fit(table([1.0, 2.5, None, 2.5]))
    restored = spec.restore(State(json.loads(json.dumps(dict(feature.state().values))), feature.state().vocabulary))
    asked = [2.5, 1.0, 7.0, None]
    np.testing.assert_array_equal(encoded(restored, asked), encoded(feature, asked))
    assert restored.name == feature.name
    assert spec.column_names() == ("x",)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_missing_column_is_refused_with_those_there(spec: IdSpec | CategorySpec | NumberSpec) -> None:
    with pytest.raises(DataError, match=r"The column 'x' is missing; the table has \['y', 'z'\]"):
        spec.fit(pa.table({"y": [1], "z": [2]}))


def test_samples_hold_a_usual_value_but_no_ones_id() -> None:
    assert IdSpec(column="x").fit(table(["ann"])).sample() == {"x": None}
    assert CategorySpec(column="x").fit(table(["red", "red"])).sample() == {"x": "red"}
    assert CategorySpec(column="x").fit(table(["red"])).sample() == {"x": None}
    assert NumberSpec(column="x").fit(table([1.0, 3.0])).sample() == {"x": 2.0}


def test_a_state_without_its_vocabulary_is_refused() -> None:
    with pytest.raises(RunError, match=r"A stored feature lacks its vocabulary \(\{'a': 1\}\)"):
        IdSpec(column="x").restore(State({"a": 1}))


def test_a_column_in_several_chunks_is_one_array() -> None:
    chunked = pa.table({"x": pa.chunked_array([[1, 2], [], [3]])})
    assert values_of(chunked, "x").to_pylist() == [1, 2, 3]
    assert values_of(chunked.slice(0, 0), "x").to_pylist() == []
