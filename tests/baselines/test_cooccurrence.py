"""The co-occurrence baseline.

Invariants:
- scores equal a dense reference of a few lines for any pairs and exponents, sparse or whole, compiled or not;
- with exponents 1, 1/2 and 1/2 the weights are those of the linear filter of a graph; a candidate says nothing of itself;
- weights of pairs, stored twice or not, change nothing; a query without pairs scores 0 everywhere;
- too many pairs, or too much memory, are an obstacle that says how many;
- bad exponents, weights and query rows are refused with the value in the message.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array, random_array

from towerkit.baselines import Cooccurrence, CooccurrenceSpec, Interactions
from towerkit.baselines.cooccurrence import together
from towerkit.core.errors import DataError, SpecError


def dense_scores(pairs: NDArray[np.bool_], query: float, source: float, candidate: float) -> NDArray[np.float64]:
    own, met = np.maximum(pairs.sum(axis=1), 1.0), np.maximum(pairs.sum(axis=0), 1.0)
    weights = np.zeros((pairs.shape[1],) * 2)
    for i in range(len(met)):
        for j in range(len(met)):
            both = pairs[:, i] & pairs[:, j]
            weights[i, j] = met[i] ** -source * met[j] ** -candidate * (own[both] ** -query).sum() if i != j else 0
    return pairs @ weights


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.05, 0.4, 0.9]),
    st.tuples(*[st.sampled_from([0.0, 0.3, 1.0, 1.7])] * 3),
)
def test_equals_the_dense_reference(seed: int, density: float, exponents: tuple[float, float, float]) -> None:
    pairs = np.random.default_rng(seed).random((14, 11)) < density
    query, source, candidate = exponents
    ranker = Cooccurrence(
        csr_array(pairs.astype(float)),
        query_exponent=query,
        source_exponent=source,
        candidate_exponent=candidate,
    )
    expected = dense_scores(pairs, *exponents)
    np.testing.assert_allclose(ranker.scores(np.arange(14)), expected, rtol=2e-5, atol=1e-6)
    again = Cooccurrence(
        csr_array(pairs * 3.0),
        query_exponent=query,
        source_exponent=source,
        candidate_exponent=candidate,
        counts=together(csr_array(pairs.astype(float)), query),
    )
    np.testing.assert_array_equal(again.scores(np.arange(14)), ranker.scores(np.arange(14)))


def test_large_enough_for_the_kernel_and_sparse() -> None:
    drawn = random_array((700, 900), density=0.01, format="csr", rng=np.random.default_rng(0))
    ranker = CooccurrenceSpec().build(Interactions(csr_array(drawn)))
    assert isinstance(ranker.weights, csr_array)
    everyone = ranker.scores(np.arange(700))
    np.testing.assert_allclose(everyone, dense_scores(drawn.toarray() > 0, 0.7, 0.8, 0.2), rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(ranker.scores(np.array([5, 699, 5])), everyone[[5, 699, 5]])  # alone or with all


def test_is_the_linear_filter_of_a_graph() -> None:
    pairs = np.random.default_rng(3).random((9, 6)) < 0.6
    own, met = np.maximum(pairs.sum(axis=1), 1), np.maximum(pairs.sum(axis=0), 1)
    normal = pairs / np.sqrt(np.outer(own, met))
    squares = normal.T @ normal
    np.fill_diagonal(squares, 0)
    ranker = Cooccurrence(csr_array(pairs * 1.0), query_exponent=1.0, source_exponent=0.5, candidate_exponent=0.5)
    np.testing.assert_allclose(ranker.weights, squares, rtol=1e-5, atol=1e-7)


def test_obstacles_and_refusals() -> None:
    matrix = csr_array(np.ones((3, 4)))
    assert CooccurrenceSpec().obstacle(Interactions(matrix)) is None
    found = CooccurrenceSpec(max_pairs=47).obstacle(Interactions(matrix))
    assert found == "would count 48 pairs of candidates, more than max_pairs 47"
    found = CooccurrenceSpec(memory_gb=1e-9).obstacle(Interactions(csr_array(np.ones((3000, 100)))))
    assert found is not None and "may use 1e-09 GB (memory_gb)" in found
    with pytest.raises(SpecError, match=r"source_exponent must be in \[0, 4\]; received -0.5"):
        Cooccurrence(matrix, source_exponent=-0.5)
    with pytest.raises(DataError, match="query row 0 and candidate row 1 have -2"):
        Cooccurrence(csr_array(np.array([[1.0, -2.0]])))
    with pytest.raises(DataError, match=r"\[0, 3\); received 3"):
        Cooccurrence(matrix).scores(np.array([3]))
    assert not Cooccurrence(csr_array((2, 4))).scores(np.array([0, 1])).any()
