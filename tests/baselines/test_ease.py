"""The EASE baseline.

Invariants:
- weights and scores equal a dense reference of a few lines, in float64 and in float32, over several blocks too;
- the weights minimize the ridge loss among those with a diagonal of zeros;
- a query without interactions scores 0; what is too large, and bad settings, are refused with their values.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines import ease
from towerkit.baselines.base import Interactions
from towerkit.baselines.ease import EASE, EASESpec, too_large
from towerkit.core.errors import DataError, SpecError


def reference(weights: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
    inverse = np.linalg.inv(weights.T @ weights + l2 * np.eye(weights.shape[1]))
    found = -inverse / np.diag(inverse)
    np.fill_diagonal(found, 0)
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 10.0, 500.0]), st.sampled_from([0.1, 0.5, 2.0]))
def test_equals_the_dense_reference(seed: int, l2: float, density: float) -> None:
    weights = np.random.default_rng(seed).poisson(density, (15, 11)).astype(float)
    ranker = EASE(csr_array(weights), l2)
    np.testing.assert_allclose(ranker.similarity, reference(weights, l2), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        ranker.scores(np.array([3, 0])), weights[[3, 0]] @ reference(weights, l2), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("block", [1, 7, 40, 1024])
def test_blocks_and_float32_give_the_same(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "_BLOCK", block)
    weights = np.random.default_rng(0).poisson(0.3, (90, 40)).astype(float)
    # 40 x (40 + block) numbers: 12 bytes each fit the first limit, only 4 bytes each the second.
    numbers = 40 * (40 + min(block, 40))
    for limit, tolerance in ((12e-9, 1e-6), (4e-9, 1e-4)):
        ranker = EASE(csr_array(weights), 5.0, memory_gb=limit * numbers)
        np.testing.assert_allclose(ranker.similarity, reference(weights, 5.0), rtol=tolerance, atol=tolerance)
        assert ranker.similarity.dtype == np.float32 and ranker.similarity.flags.c_contiguous


def test_no_other_weights_with_a_zero_diagonal_are_better() -> None:
    rng = np.random.default_rng(1)
    weights = rng.poisson(0.5, (30, 8)).astype(float)
    best = EASE(csr_array(weights), 2.0).similarity.astype(np.float64)

    def loss(table: NDArray[np.float64]) -> float:
        return float(np.square(weights - weights @ table).sum() + 2.0 * np.square(table).sum())

    for _ in range(20):
        step = 0.05 * rng.standard_normal((8, 8)) * ~np.eye(8, dtype=bool)
        assert loss(best + step) > loss(best)


def test_by_hand() -> None:
    # X'X + I = [[2, 1], [1, 3]]; its inverse is [[3, -1], [-1, 2]] / 5; B_01 = 1/2 and B_10 = 1/3.
    ranker = EASE(csr_array(np.array([[1, 1], [0, 1], [0, 0]])), 1.0)
    np.testing.assert_allclose(ranker.similarity, [[0, 1 / 2], [1 / 3, 0]], rtol=1e-6)
    np.testing.assert_allclose(ranker.scores(np.array([1, 2, 0])), [[1 / 3, 0], [0, 0], [1 / 3, 1 / 2]], rtol=1e-6)


def test_candidates_without_interactions_score_nothing() -> None:
    ranker = EASE(csr_array(np.array([[1, 0, 1], [1, 0, 0]])), 1.0)
    assert (ranker.scores(np.array([0, 1]))[:, 1] == 0).all()
    assert EASE(csr_array((2, 0))).rank(np.array([0]), 3).counts.tolist() == [0]


def test_what_is_too_large_is_said_beforehand() -> None:
    assert too_large(18_000, 4.0) is None
    # 4 bytes x 40,000 x (40,000 + 1,024)
    message = r"needs 6\.6 GB for the 40,000 x 40,000 matrix of its candidates in float32, and may use 4 GB"
    large = csr_array((1, 40_000))
    obstacle = EASESpec().obstacle(Interactions(large))
    assert obstacle is not None
    with pytest.raises(SpecError, match=rf"^EASE {message} \(memory_gb\)\. Raise memory_gb"):
        EASE(large)
    assert EASESpec(memory_gb=7.0).obstacle(Interactions(large)) is None


def test_bad_input_is_refused() -> None:
    interactions = csr_array(np.eye(4))
    with pytest.raises(SpecError, match=r"l2 must be positive and finite; received 0\.0"):
        EASE(interactions, 0.0)
    with pytest.raises(DataError, match="query row 1 and candidate row 1 have nan"):
        EASE(csr_array(np.diag([1.0, np.nan])))
    with pytest.raises(DataError, match=r"\[0, 4\); received 4 at position 1"):
        EASE(interactions).rank(np.array([0, 4]), 1)
    with pytest.raises(SpecError, match=r"in float64 \(LAPACK stopped at column 2\): l2 is too small"):
        EASE(csr_array(np.full((3, 2), 1e12)), 1e-9)
