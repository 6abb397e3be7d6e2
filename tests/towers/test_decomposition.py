"""The truncated singular value decomposition (`towerkit.towers.decomposition`).

Pinned here:
- against its plain twin, the same iteration in float64 with Householder's method: values within 1e-4 of the largest, scores
  of the kept directions alike, on random pairs and on pairs with structure;
- more rounds give no smaller values; enough of them give the exact ones; both sides are orthonormal;
- a short side is decomposed exactly; ranks below the width, empty rows, one row and no entry at all are in order;
- dependent columns still give an orthonormal basis.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.random import generator
from towerkit.towers.decomposition import SPARE, orthonormal, truncated_svd


def plain_twin(
    matrix: csr_array, dim: int, rounds: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Each round by two orthonormal bases in float64, as the textbook has it."""
    start = generator(0, "spectral").standard_normal((matrix.shape[1], dim + SPARE), dtype=np.float32)
    basis = np.linalg.qr(matrix @ start.astype(np.float64))[0]
    for _ in range(rounds):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    right, values, inner = np.linalg.svd(matrix.T @ basis, full_matrices=False)
    return basis @ inner.T[:, :dim], values[:dim], right[:, :dim]


def pairs_with_tastes(rows: int = 500, columns: int = 700) -> csr_array:
    draw = np.random.default_rng(1)
    tastes = draw.standard_normal((rows, 6)) @ draw.standard_normal((6, columns))
    pairs = csr_array((tastes + draw.standard_normal((rows, columns)) > 3.5).astype(np.float64))
    pairs.data /= np.sqrt(np.bincount(pairs.indices, minlength=columns))[pairs.indices]
    return pairs


def random_pairs(rows: int, columns: int) -> csr_array:
    return csr_array((np.random.default_rng(2).random((rows, columns)) < 0.05).astype(np.float64))


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("pairs", [pairs_with_tastes(), random_pairs(400, 600), csr_array(pairs_with_tastes().T)])
def test_like_the_plain_twin(pairs: csr_array, rounds: int) -> None:
    turned = pairs.shape[0] > pairs.shape[1]
    expected = plain_twin(csr_array(pairs.T) if turned else pairs, 24, rounds)
    left, values, right = truncated_svd(pairs, 24, rounds)
    assert left.dtype == values.dtype == right.dtype == np.float32
    np.testing.assert_allclose(values, expected[1], atol=1e-4 * expected[1][0])
    found, wanted = (left * values) @ right.T, (expected[0] * expected[1]) @ expected[2].T
    np.testing.assert_allclose(found, wanted.T if turned else wanted, atol=2e-3 * np.abs(wanted).max())
    for side in (left, right):
        np.testing.assert_allclose(side.T @ side, np.eye(24), atol=2e-4)


def test_rounds_sharpen() -> None:
    pairs = pairs_with_tastes()
    exact = np.linalg.svd(pairs.toarray(), compute_uv=False)[:20]
    values = [truncated_svd(pairs, 20, rounds)[1] for rounds in (0, 1, 3, 20)]
    for few, more in pairwise(values):
        assert (more >= few * (1 - 1e-5)).all()
    assert (values[0] < 0.9 * exact).any()
    np.testing.assert_allclose(values[-1], exact, rtol=5e-3)
    np.testing.assert_allclose(values[-1][:6], exact[:6], rtol=1e-5)


def test_short_sides_are_exact() -> None:
    for pairs in (random_pairs(40, 900), random_pairs(900, 40)):
        exact = np.linalg.svd(pairs.toarray(), compute_uv=False)
        left, values, right = truncated_svd(pairs, 8, rounds=0)
        np.testing.assert_allclose(values, exact[:8], rtol=1e-5)
        np.testing.assert_allclose(pairs @ right, left * values, atol=1e-4)


def test_edges() -> None:
    few = csr_array(
        np.outer(np.r_[np.ones(300), np.zeros(20)], np.r_[np.zeros(30), np.ones(370)])
    )  # rank 1, empty rows
    left, values, right = truncated_svd(few, 12)
    assert left.shape == (320, 1) and right.shape == (400, 1)
    assert values == pytest.approx([np.sqrt(300 * 370)], rel=1e-5)
    assert not np.abs(left[300:]).max() > 1e-6
    one = truncated_svd(csr_array(np.array([[0.0, 3.0, 4.0]])), 5)
    assert one[1] == pytest.approx([5.0]) and one[2].ravel() * one[0][0] == pytest.approx([0, 0.6, 0.8])
    nothing = truncated_svd(csr_array((300, 400)), 5)
    assert nothing[0].shape == (300, 0) and nothing[2].shape == (400, 0)


def test_low_rank_on_the_way_of_the_iteration() -> None:
    draw = np.random.default_rng(4)
    low = csr_array((draw.random((300, 3)) < 0.3).astype(float) @ (draw.random((3, 500)) < 0.3).astype(float))
    left, values, right = truncated_svd(low, 20)
    assert len(values) == 3
    np.testing.assert_allclose((left * values) @ right.T, low.toarray(), atol=1e-3)


def test_dependent_columns_give_an_orthonormal_basis() -> None:
    draw = np.random.default_rng(5).standard_normal((200, 8)).astype(np.float32)
    for vectors in (
        draw,
        np.hstack([draw, draw[:, :2] + 1e-7 * draw[:, 2:4]]),
        draw * np.logspace(0, -6, 8, dtype="f4"),
    ):
        basis = orthonormal(vectors)
        np.testing.assert_allclose(basis.T @ basis, np.eye(vectors.shape[1]), atol=1e-5)
        np.testing.assert_allclose(basis @ (basis.T @ vectors), vectors, atol=1e-5)
