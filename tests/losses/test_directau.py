"""Alignment and uniformity.

Invariants:
- value and gradient equal a double loop of NumPy over pairs and its finite differences;
- uniformity is 0 for one point or a single row, and lowest where vectors spread;
- a rotation of both sides and the order of rows change nothing;
- identical rows, and vectors far from length one, stay finite in float32.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from towerkit.losses import DirectAUSpec, directau
from towerkit.losses.alignment import uniformity

Array = NDArray[np.float64]


def spread(vectors: Array) -> float:
    pairs = list(itertools.combinations(vectors, 2))
    return float(np.log(np.mean([np.exp(-2 * np.sum((x - y) ** 2)) for x, y in pairs]))) if pairs else 0.0


def expected(query: Array, candidate: Array, gamma: float) -> Array:
    alignment = np.sum((query - candidate) ** 2, axis=1)
    return alignment + gamma * (spread(query) + spread(candidate)) / 2


def sides(seed: int, batch: int, dim: int = 3) -> tuple[Array, Array]:
    vectors = np.random.default_rng(seed).normal(size=(2, batch, dim))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors[0], vectors[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0.1, 5))
def test_the_value_is_that_of_numpy(seed: int, batch: int, gamma: float) -> None:
    query, candidate = sides(seed, batch)
    found = directau(torch.from_numpy(query), torch.from_numpy(candidate), gamma=gamma)
    np.testing.assert_allclose(found.numpy(), expected(query, candidate, gamma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_gradient_is_that_of_finite_differences(batch: int) -> None:
    arrays = sides(1, batch)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    directau(*tensors, gamma=1.7).mean().backward()
    for side, array in enumerate(arrays):
        for place in np.ndindex(array.shape):
            sums = []
            for step in (1e-6, -1e-6):
                moved = [each.copy() for each in arrays]
                moved[side][place] += step
                sums.append(expected(*moved, 1.7).mean())
            gradient = tensors[side].grad
            assert gradient is not None
            assert gradient[place].item() == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-5, abs=1e-7)
            assert batch == 1 or abs(gradient[place].item()) > 1e-6


def test_uniformity_of_simple_shapes() -> None:
    assert uniformity(torch.ones(1, 4)).item() == 0.0
    assert uniformity(torch.ones(3, 4)).item() == pytest.approx(0.0, abs=1e-5)
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert uniformity(square).item() == pytest.approx(np.log((4 * np.exp(-4) + 2 * np.exp(-8)) / 6))


def test_a_batch_of_one_is_alignment_alone() -> None:
    query = torch.tensor([[1.0, 0.0]], requires_grad=True)
    losses = directau(query, torch.tensor([[0.0, 1.0]]), gamma=3.0)
    losses.sum().backward()
    assert losses.tolist() == [2.0]
    assert query.grad is not None and query.grad.tolist() == [[2.0, -2.0]]


def test_rotations_and_the_order_of_rows_do_not_matter() -> None:
    query, candidate = (torch.from_numpy(side) for side in sides(2, 6))
    turn = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3))))[0]
    plain = directau(query, candidate, gamma=2.0)
    torch.testing.assert_close(directau(query @ turn, candidate @ turn, gamma=2.0), plain)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    torch.testing.assert_close(directau(query[order], candidate[order], gamma=2.0), plain[order])


def test_longer_vectors_lower_it_without_end() -> None:
    """Why only the cosine goes with it."""
    query = torch.from_numpy(sides(4, 5)[0])
    found = [directau(size * query, size * query).mean().item() for size in (1.0, 10.0, 100.0)]
    assert found == sorted(found, reverse=True) and found[-1] < -100


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_identical_and_long_vectors_stay_finite(size: float) -> None:
    query = (size * functional.normalize(torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, -1.0]]))).requires_grad_()
    candidate = (size * torch.ones(3, 2)).requires_grad_()
    losses = directau(query, candidate)
    losses.sum().backward()
    assert losses.dtype == torch.float32
    for found in (losses, query.grad, candidate.grad):
        assert found is not None and bool(found.isfinite().all())


def test_the_spec_builds_it_with_its_weight() -> None:
    query, candidate = (torch.from_numpy(side) for side in sides(3, 4))
    built = DirectAUSpec(gamma=5.0).build()
    assert torch.equal(built(query, candidate), directau(query, candidate, gamma=5.0))
