"""The item neighbor baseline.

Invariants:
- similarities and scores equal a dense reference of a few lines, whatever the weights, neighbors and shrink;
- a candidate is never its own neighbor, and never one of a candidate it shares no query with;
- the result does not depend on the order of the stored entries;
- more pairs than allowed, of candidates or within one long query, are an obstacle that says how many;
- bad settings, weights and query rows are refused with the value in the message.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines.base import Interactions
from towerkit.baselines.item_knn import ItemKNN, ItemKNNSpec
from towerkit.core.errors import DataError, SpecError
from towerkit.index.ranker import candidate_tie_order


def dense_similarity(weights: NDArray[np.float64], neighbors: int, shrink: float) -> NDArray[np.float32]:
    lengths = np.linalg.norm(weights, axis=0)
    denominator = np.outer(lengths, lengths) + shrink
    similarity = np.divide(weights.T @ weights, denominator, out=np.zeros_like(denominator), where=denominator > 0)
    similarity = similarity.astype(np.float32)
    np.fill_diagonal(similarity, 0)
    ties = np.broadcast_to(candidate_tie_order(len(similarity)), similarity.shape)
    dropped = np.lexsort((ties, -similarity), axis=-1)[:, neighbors:]
    np.put_along_axis(similarity, dropped, 0, axis=1)
    return similarity


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([1, 3, 100]), st.sampled_from([0.0, 2.5]), st.sampled_from([0.1, 0.5, 2.0])
)
def test_equals_the_dense_reference(seed: int, neighbors: int, shrink: float, density: float) -> None:
    weights = np.random.default_rng(seed).poisson(density, (15, 11)).astype(float)
    ranker = ItemKNN(csr_array(weights), neighbors, shrink)
    expected = dense_similarity(weights, neighbors, shrink)
    # Equal cosines may differ in the last bit between the two, so kept neighbors are compared by value.
    found = ranker.similarity.toarray()
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected, axis=1), rtol=1e-6)
    np.testing.assert_allclose(ranker.scores(np.array([3, 0])), weights[[3, 0]] @ found, rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    # Columns: a = (1,1,0), b = (1,0,0), c = (0,1,1). cos(a,b) = 1/sqrt(2), cos(a,c) = 1/2, cos(b,c) = 0.
    ranker = ItemKNN(csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]])), neighbors=1)
    np.testing.assert_allclose(ranker.similarity.toarray(), [[0, 2**-0.5, 0], [2**-0.5, 0, 0], [0.5, 0, 0]], rtol=1e-6)
    assert ranker.similarity.nnz == 3
    # Query 1 had a and c: b scores cos(a,b); a scores cos(c,a).
    np.testing.assert_allclose(ranker.scores(np.array([1])), [[0.5, 2**-0.5, 0]], rtol=1e-6)
    assert ranker.rank(np.array([1]), 1).rows.tolist() == [[1]]


def test_entry_order_does_not_matter_and_rows_are_independent() -> None:
    weights = np.random.default_rng(0).poisson(0.5, (60, 40)).astype(float)
    entries = csr_array(weights).tocoo()
    order = np.random.default_rng(1).permutation(entries.nnz)
    shuffled = csr_array((entries.data[order], (entries.row[order], entries.col[order])), shape=weights.shape)
    first, second = ItemKNN(csr_array(weights), 5), ItemKNN(shuffled, 5)
    np.testing.assert_array_equal(first.similarity.toarray(), second.similarity.toarray())
    assert (np.diff(first.similarity.indptr) <= 5).all() and first.similarity.nnz > 150
    assert (first.similarity.diagonal() == 0).all()
    whole, single = first.rank(np.arange(60), 7), first.rank(np.arange(60), 7, chunk_rows=1)
    np.testing.assert_array_equal(whole.rows, single.rows)


def test_too_many_pairs_are_an_obstacle() -> None:
    wide, long = Interactions(csr_array(np.eye(20))), Interactions(csr_array(np.ones((30, 10))))
    assert ItemKNNSpec().obstacle(wide) is None and ItemKNNSpec(max_pairs=400).obstacle(wide) is None
    told = ItemKNNSpec(max_pairs=399).obstacle(wide)
    assert told is not None and "400 pairs" in told and "1 of the 20 candidates" in told and "max_pairs 399" in told
    assert ItemKNNSpec(max_pairs=3_000).obstacle(long) is None
    told = ItemKNNSpec(max_pairs=2_999).obstacle(long)
    assert told is not None and "3,000 pairs" in told and "10 of the 10 candidates" in told


def test_bad_input_is_refused() -> None:
    interactions = csr_array(np.eye(4))
    with pytest.raises(SpecError, match="neighbors must be at least 1; received 0"):
        ItemKNN(interactions, neighbors=0)
    with pytest.raises(SpecError, match=r"shrink .* received -1\.0"):
        ItemKNN(interactions, shrink=-1.0)
    with pytest.raises(DataError, match="query row 1 and candidate row 1 have nan"):
        ItemKNN(csr_array(np.diag([1.0, np.nan])))
    with pytest.raises(DataError, match=r"\[0, 4\); received 4 at position 1"):
        ItemKNN(interactions).rank(np.array([0, 4]), 1)
