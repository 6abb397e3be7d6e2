"""What stands between the matrix products of a shared softmax, beside NumPy and the torch losses.

Invariants:
- the exponential is exact to 2e-7 for what a softmax asks of it, 0 far below, never a denormal;
- candidates are found wherever they stand among the shared, as often as they stand there.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.kernels.compiled import torch_threads
from towerkit.kernels.softmax import exponentials, gather, positions


def test_the_exponential_is_exact_and_never_a_denormal() -> None:
    values = np.concatenate([np.linspace(-80, 0, 50_001), [-80.1, -1e3, -np.inf, 0.0, -1e-30]]).astype(np.float32)
    with torch_threads():
        found = exponentials(values)
    wanted = np.where(values > -80, np.exp(values.astype(np.float64)), 0.0)
    np.testing.assert_allclose(found, wanted, rtol=2e-7, atol=0)
    assert not ((found > 0) & (found < np.finfo(np.float32).tiny)).any()
    assert found[-2] == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_positions_are_all_places_of_a_candidate(shared: list[int]) -> None:
    first = np.full(8, -1, np.int32)
    before = positions(np.array(shared), first)
    for candidate in range(8):
        found, place = [], int(first[candidate])
        while place >= 0:
            found.append(place)
            place = int(before[place])
        assert found[::-1] == [place for place, each in enumerate(shared) if each == candidate]


def test_gathered_rows_are_as_the_match_sees_them() -> None:
    table = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]], np.float32)
    rows = np.array([1, 0, 1], np.int32)
    for cosine, wanted in ((False, table[rows]), (True, [[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]])):
        vectors, lengths = np.empty((3, 2), np.float32), np.ones(3, np.float32)
        with torch_threads():
            gather(table, rows, cosine, vectors, lengths)
        np.testing.assert_allclose(vectors, wanted, rtol=1e-6)
        assert lengths[2] == 1.0 and lengths[1] == (5.0 if cosine else 1.0)
