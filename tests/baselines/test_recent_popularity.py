"""The recent popularity baseline.

Invariants:
- a score is the sum over distinct queries of a weight of the age of their last time with the candidate;
- the unit and the origin of time do not matter, nor the order of the stored entries; a very long half-life is popularity;
- pairs without a time do not count; bad settings, shapes and data without any time are refused with their values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from towerkit.baselines.popularity import Popularity
from towerkit.baselines.recent_popularity import RecentPopularity
from towerkit.core.errors import DataError, ShapeError, SpecError

DECAYS: list[Any] = ["half_life", "window"]


@pytest.mark.parametrize("decay", DECAYS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.05, 0.3, 2.0]))
def test_equals_a_loop_over_pairs(decay: Any, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = csr_array(rng.poisson(0.7, (12, 9)).astype(float))
    pairs.data[rng.random(pairs.nnz) < 0.1] = 0.0
    times = np.where(rng.random(pairs.nnz) < 0.2, np.nan, rng.integers(0, 50, pairs.nnz).astype(float))
    counted = (pairs.data > 0) & ~np.isnan(times)
    expected = np.zeros(9)
    first, last = times[counted].min(), times[counted].max()
    for column, time in zip(pairs.indices[counted], times[counted], strict=True):
        age = (last - time) / max(last - first, 1)
        expected[column] += float(age <= share) if decay == "window" else 0.5 ** (age / share)
    ranker = RecentPopularity(pairs, times, decay=decay, share=share)
    np.testing.assert_allclose(ranker.scores(np.array([3, -1])), [expected, expected], rtol=1e-5)
    seconds = RecentPopularity(pairs, 86_400 * times + 1e9, decay=decay, share=share)
    np.testing.assert_allclose(seconds.weights, ranker.weights, rtol=1e-9)


def test_by_hand_with_a_pair_stored_twice() -> None:
    # Time runs from 0 to 8. Query 0 had candidate 0 at 0 and again at 8: age 0, weight 1. Candidate 1: at 4, age 1/2.
    # Query 1 had candidate 1 at 6, age 1/4. Half-life 1/4: candidate 1 has 2**-2 + 2**-1.
    pairs = csr_array((np.ones(4), np.array([0, 1, 0, 1]), np.array([0, 3, 4])), shape=(2, 2))
    times = np.array([0.0, 4.0, 8.0, 6.0])
    assert RecentPopularity(pairs, times, share=0.25).weights.tolist() == [1.0, 0.75]
    assert RecentPopularity(pairs, times, decay="window", share=0.25).weights.tolist() == [1.0, 1.0]
    assert RecentPopularity(pairs, times, decay="window", share=0.5).weights.tolist() == [1.0, 2.0]


def test_a_long_half_life_is_popularity_and_a_short_one_is_not() -> None:
    rng = np.random.default_rng(1)
    pairs = csr_array((rng.random((40, 10)) < 0.3).astype(float))
    times = rng.random(pairs.nnz)
    popular = Popularity(pairs).counts
    np.testing.assert_allclose(RecentPopularity(pairs, times, share=1e9).weights, popular)
    assert not np.allclose(RecentPopularity(pairs, times, share=0.01).weights, popular, atol=1.0)
    same = RecentPopularity(pairs, np.full(pairs.nnz, 7.0))
    np.testing.assert_array_equal(same.weights, popular)  # no time passed, so that nothing is older


def test_bad_input_is_refused() -> None:
    pairs, times = csr_array(np.eye(3)), np.arange(3.0)
    with pytest.raises(SpecError, match=r"share must be positive and finite; received 0\.0"):
        RecentPopularity(pairs, times, share=0.0)
    with pytest.raises(ShapeError, match=r"here \(3,\); received \(2,\)"):
        RecentPopularity(pairs, times[:2])
    with pytest.raises(DataError, match="none of 3 training pairs has one"):
        RecentPopularity(pairs, np.full(3, np.nan))
    with pytest.raises(DataError, match="query row 2 and candidate row 2 have -1"):
        RecentPopularity(csr_array(np.diag([1.0, 1.0, -1.0])), times)
