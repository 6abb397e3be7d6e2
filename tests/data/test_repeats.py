"""Held-out rows that training has word for word.

Invariant: a held-out row counts if and only if some training row has the same value, or is missing too, in every column
that is compared, lists and bytes included; how often it stands in training does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.data.repeats import repeated_rows

ROWS = st.lists(st.tuples(st.sampled_from([1, 2, None]), st.sampled_from(["a", "", None])), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 40))
def test_repeats_are_counted_as_in_python(rows: list[tuple[Any, Any]], cut: int) -> None:
    data = pa.table({"n": pa.array([n for n, _ in rows], pa.int64()), "t": pa.array([t for _, t in rows], pa.string())})
    learned, held_out = np.arange(len(rows))[:cut], np.arange(len(rows))[cut:]
    expected = sum(row in rows[:cut] for row in rows[cut:])
    assert repeated_rows(data, ["n", "t"], learned, held_out) == expected


@pytest.mark.parametrize("values", [[[1, 2], [1], [1, 2], [2]], [b"x", b"y", b"x", b"z"], [0.5, 0.1, 0.5, 0.2]])
def test_any_type_can_be_compared(values: list[Any]) -> None:
    assert repeated_rows(pa.table({"v": values}), ["v"], np.array([0, 1]), np.array([2, 3])) == 1
