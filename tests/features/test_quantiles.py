"""Numbers by their place among the training values.

Invariants:
- each quantile bucket holds some training value and no more than were asked for; values above and below have a bucket;
- without ties the buckets are even; a value that fills several buckets has one of its own, so that none tells from some;
- the piecewise-linear encoding equals equation 1 of the paper, written out, at any number within the training values;
- it goes on beyond them, ten bins at most; constant, huge and tiny columns have one bin of width 1 at least.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.features.quantiles import PiecewiseSpec, QuantileSpec, bucket_edges, piecewise_linear

EIGHTHS = st.integers(-80, 80).map(lambda eighths: eighths / 8)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def table(values: list[Any]) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.float64())})


def codes(fitted: list[Any], asked: list[Any], buckets: int) -> list[int]:
    column = QuantileSpec(column="x", buckets=buckets).fit(table(fitted)).encode(table(asked))
    assert isinstance(column, torch.Tensor)
    return [int(code) for code in column]


def encoding(fitted: list[Any], asked: list[Any], bins: int) -> torch.Tensor:
    feature = PiecewiseSpec(column="x", bins=bins).fit(table(fitted))
    column = feature.encode(table(asked))
    assert isinstance(column, torch.Tensor)
    return piecewise_linear(column[:, 0], feature.num_bins)


@settings(max_examples=60, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=30), st.integers(2, 8))
def test_no_bucket_is_empty_or_too_many(values: list[float], buckets: int) -> None:
    found = codes(values, values, buckets)
    assert sorted(set(found)) == list(range(1, max(found) + 1))
    assert max(found) <= buckets
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_buckets_are_even_without_ties() -> None:
    assert codes(list(range(12)), list(range(12)), 4) == [1] * 2 + [2] * 3 + [3] * 3 + [4] * 4
    assert codes(list(range(12)), [-5, 100, None, 2.5], 4) == [1, 4, 0, 2]


def test_ties_are_merged_and_none_tells_from_some() -> None:
    assert codes([0.0] * 97 + [1.0] * 3, [0.0, 1.0, 0.5, -1.0], 4) == [1, 2, 1, 1]
    assert codes([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 16) == [1, 2, 3]
    assert codes([5.0] * 9, [5.0, 4.0, 6.0, None], 4) == [1, 1, 1, 0]
    assert codes([None], [1.0, None], 4) == [1, 0]
    assert bucket_edges(np.array([0.0, 0.0, 0.0, 5.0, 7.0, 7.0, 7.0, 7.0]), 4) == [5.0, 7.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(EIGHTHS, min_size=2, max_size=20), st.integers(1, 5), st.lists(EIGHTHS, min_size=1, max_size=8))
def test_the_encoding_is_that_of_the_paper(fitted: list[float], bins: int, asked: list[float]) -> None:
    feature = PiecewiseSpec(column="x", bins=bins).fit(table(fitted))
    edges = feature.edges
    assert edges[0] == min(fitted) and edges[-1] == max(fitted) and feature.num_bins <= bins
    inside = [value for value in asked if edges[0] <= value <= edges[-1]] or [edges[0]]
    if len(edges) == 1:
        return
    expected = np.zeros((len(inside), len(edges) - 1))
    for row, value in enumerate(inside):
        for t in range(1, len(edges)):  # equation 1: 0 below its bin, 1 above it, the share within it
            if value < edges[t - 1] and t > 1:
                continue
            above = value >= edges[t] and t < len(edges) - 1
            expected[row, t - 1] = 1.0 if above else (value - edges[t - 1]) / (edges[t] - edges[t - 1])
    np.testing.assert_allclose(encoding(fitted, inside, bins).numpy(), expected, atol=1e-5)


def test_the_encoding_goes_on_beyond_the_training_values() -> None:
    fitted = [0.0, 2.0, 6.0]
    assert encoding(fitted, [-1.0, 8.0, 1e300, -1e300], 2).tolist() == [
        [-0.5, 0.0],
        [1.0, 1.5],
        [1.0, 11.0],
        [-10.0, 0.0],
    ]


@pytest.mark.parametrize(
    ("fitted", "asked", "expected"),
    [
        ([3.0, 3.0], [3.0, 4.5], [[0.0], [1.5]]),
        ([None], [0.0, 2.0], [[0.0], [2.0]]),
        ([-1e308, 1e308], [0.0, 1e308], [[0.5], [1.0]]),
        ([0.0, 5e-324], [0.0, 1.0], [[0.0], [1.0]]),
    ],
)
def test_columns_without_a_width(fitted: list[Any], asked: list[Any], expected: list[list[float]]) -> None:
    assert encoding(fitted, asked, 1).tolist() == expected
