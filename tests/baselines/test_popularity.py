"""The popularity baseline.

Invariants:
- a score is the number of distinct queries: weights, repeated pairs and stored zeros do not add to it;
- the ranking is the same for all queries, unseen ones included, up to what is excluded;
- the interactions given are not changed; a bad weight is named with its row, column and value.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from towerkit.baselines.popularity import Popularity
from towerkit.core.errors import DataError


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_scores_are_distinct_queries(seed: int) -> None:
    weights = np.random.default_rng(seed).poisson(0.7, (12, 9)).astype(float)
    found = Popularity(csr_array(weights)).scores(np.arange(3))
    np.testing.assert_array_equal(found, np.tile((weights > 0).sum(axis=0), (3, 1)))


def test_repeated_pairs_and_stored_zeros_count_once_and_never() -> None:
    # Candidate 0: query 0 twice = 1; candidate 1: queries 0 and 1 = 2; candidate 2: a stored zero = 0.
    data, columns, pointers = np.array([1.0, 1.0, 9.0, 2.0, 0.0]), np.array([0, 0, 1, 1, 2]), np.array([0, 3, 5])
    interactions = csr_array((data, columns, pointers), shape=(2, 3))
    assert Popularity(interactions).counts.tolist() == [1, 2, 0]
    assert interactions.nnz == 5 and interactions.data.tolist() == [1.0, 1.0, 9.0, 2.0, 0.0]


def test_ranks_for_everyone_and_leaves_out_what_is_excluded() -> None:
    ranker = Popularity(csr_array(np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]])))  # counts 2, 3, 1
    seen = csr_array(np.array([[0, 0, 0], [0, 1, 0]]))
    hits = ranker.rank(np.array([-1, 1]), 3, exclude=seen)
    assert hits.rows.tolist() == [[1, 0, 2], [0, 2, -1]]
    assert ranker.rank(np.array([0]), 1).rows.tolist() == [[1]]  # the exclusion was not written into the counts


@pytest.mark.parametrize("value", [np.nan, np.inf, -2.0])
def test_bad_weights_are_refused(value: float) -> None:
    weights = np.eye(4)
    weights[2, 1] = value
    with pytest.raises(DataError, match=rf"query row 2 and candidate row 1 have {value}"):
        Popularity(csr_array(weights))
