"""Totals, ratios and means under many weightings at once.

Pinned here: each weighting of a block gives what a plain loop over its rows gives; a code that no row has is 0; where there is
nothing to divide by stands what was asked for, 0 when nothing was, and never a warning; undefined values count for no mean.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from towerkit.metrics.weighted import mean_of_defined, ratio, row_mean, totals

Rows = list[tuple[int, float, float]]
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.sampled_from([0.25, 2.0])),
    min_size=1,
    max_size=9,
)


@given(rows=ROWS, size=st.integers(4, 6))
def test_totals_are_a_loop_over_the_rows(rows: Rows, size: int) -> None:
    codes = np.array([code for code, _, _ in rows])
    found = totals(codes, np.array([[one for _, one, _ in rows], [other for _, _, other in rows]]), size)
    assert found.shape == (2, size) and found.dtype == np.float64
    for code in range(size):
        assert found[0, code] == sum(one for each, one, _ in rows if each == code)
        assert found[1, code] == sum(other for each, _, other in rows if each == code)


@given(rows=ROWS)
def test_a_row_mean_is_a_loop_over_the_rows(rows: Rows) -> None:
    values = np.array([code for code, _, _ in rows])
    found = row_mean(np.array([[w for _, _, w in rows], [1.0] * len(rows)]), values)
    expected = sum(code * w for code, _, w in rows) / sum(w for _, _, w in rows)
    np.testing.assert_allclose(found, [expected, values.mean()], rtol=1e-12)


def test_where_there_is_nothing_to_divide_by() -> None:
    numerator, denominator = np.array([3.0, 5.0, 0.0, 2.0]), np.array([2.0, 0.0, 0.0, -1.0])
    assert ratio(numerator, denominator).tolist() == [1.5, 0.0, 0.0, 0.0]
    assert ratio(numerator, denominator, 7.0).tolist() == [1.5, 7.0, 7.0, 7.0]


@given(arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 0.5, 2.0, math.nan])))
def test_undefined_values_count_for_no_mean(table: np.ndarray) -> None:
    for place, value in enumerate(mean_of_defined(list(table))):
        defined = [each for each in table[:, place].tolist() if not math.isnan(each)]
        assert math.isnan(value) if not defined else value == sum(defined) / len(defined)
