"""The iALS baseline.

Invariants:
- a step equals a dense reference of a few lines, with weights and whatever the blocks; no other vectors are better;
- the whole alternation equals the package ``implicit`` (skipped without it), whose loss is the same up to a scale;
- the loss falls with every epoch; the result is a function of the seed;
- rows without interactions get zeros; bad settings are refused with their values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix

from towerkit.baselines import ials
from towerkit.baselines.ials import IALS, solve_side
from towerkit.core.errors import DataError, SpecError
from towerkit.core.random import generator


def penalty(counts: NDArray[Any], others: int, l2: float, unobserved: float, exponent: float) -> NDArray[np.float64]:
    return np.asarray(l2 * (counts + unobserved * others) ** exponent)


def dense_step(
    weights: NDArray[np.float64], other: NDArray[np.float64], l2: float, unobserved: float, exponent: float
) -> NDArray[np.float64]:
    ridge = penalty((weights > 0).sum(axis=1), len(other), l2, unobserved, exponent)
    rows = []
    for row, strength in zip(weights, ridge, strict=True):
        system = other.T @ np.diag(row + unobserved) @ other + strength * np.eye(other.shape[1])
        rows.append(np.linalg.solve(system, other.T @ row))
    return np.array(rows)


def loss(
    weights: NDArray[np.float64], q: NDArray[Any], c: NDArray[Any], l2: float, unobserved: float, exponent: float
) -> float:
    scores = q.astype(np.float64) @ c.astype(np.float64).T
    fit = (weights * np.square(scores - 1)).sum() + unobserved * np.square(scores).sum()
    for vectors, table in ((q, weights), (c, weights.T)):
        ridge = penalty((table > 0).sum(axis=1), table.shape[1], l2, unobserved, exponent)
        fit += ridge @ np.square(vectors.astype(np.float64)).sum(axis=1)
    return float(fit)


@pytest.mark.parametrize("block", [1, 60, 2**22])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), exponent=st.sampled_from([0.0, 0.5, 1.0]), density=st.sampled_from([0.1, 0.8]))
def test_a_step_equals_the_dense_reference(block: int, seed: int, exponent: float, density: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.poisson(density, (14, 9)) * rng.choice([0.5, 1.0, 3.0], (14, 9))
    other = rng.standard_normal((9, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ials, "_BLOCK_NUMBERS", block)
        found = solve_side(csr_array(weights), other, l2=0.3, unobserved=0.2, exponent=exponent)
    np.testing.assert_allclose(found, dense_step(weights, other, 0.3, 0.2, exponent), rtol=1e-8, atol=1e-10)


def test_no_other_query_vectors_are_better_and_epochs_lower_the_loss() -> None:
    rng = np.random.default_rng(0)
    weights = rng.poisson(0.4, (40, 25)).astype(float)
    chosen = {"l2": 0.05, "unobserved": 0.2, "exponent": 1.0}
    losses = []
    for epochs in (1, 2, 4, 8):
        model = IALS(csr_array(weights), 4, epochs=epochs, **chosen)
        losses.append(loss(weights, model.query_vectors, model.candidate_vectors, **chosen))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * losses[0]
    queries = solve_side(csr_array(weights), model.candidate_vectors.astype(float), **chosen)
    best = loss(weights, queries, model.candidate_vectors, **chosen)
    for _ in range(20):
        step = 0.02 * rng.standard_normal(queries.shape)
        assert loss(weights, queries + step, model.candidate_vectors, **chosen) > best


def test_the_alternation_equals_implicit() -> None:
    """With a constant penalty the two losses are one, up to a scale.

    An interaction towards 1 with weight 1 beside all pairs towards 0 with weight ``a`` is one towards ``t = 1 / (1 + a)`` with
    weight ``1 + a``. In units of ``sqrt(t)`` for both sides and divided by ``a t^2``, that is Hu's loss with the
    confidence ``1 + 1 / a`` and the penalty ``l2 / (a t)``.
    """
    implicit = pytest.importorskip("implicit")
    threads = pytest.importorskip("threadpoolctl")
    pairs = csr_array((np.random.default_rng(3).random((60, 35)) < 0.15).astype(float))
    unobserved, l2, dim, epochs = 0.25, 0.2, 5, 7
    target = 1 / (1 + unobserved)
    ours = IALS(pairs, dim, l2=l2, unobserved=unobserved, exponent=0.0, epochs=epochs, seed=9)
    start = generator(9, "ials").standard_normal((35, dim)) * (0.1 / np.sqrt(dim))
    with threads.threadpool_limits(1, "blas"):
        oracle = implicit.als.AlternatingLeastSquares(
            factors=dim,
            regularization=l2 / (unobserved * target),
            alpha=1.0,
            dtype=np.float64,
            use_cg=False,
            use_gpu=False,
            iterations=epochs,
            num_threads=1,
            random_state=0,
        )
        oracle.item_factors = start / np.sqrt(target)
        oracle.user_factors = np.zeros((60, dim))
        oracle.fit(csr_matrix(pairs * (1 + 1 / unobserved)), show_progress=False)
    expected = target * oracle.user_factors @ oracle.item_factors.T
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(ours.scores(np.arange(60)), expected, atol=1e-5)


def test_the_seed_decides_and_empty_rows_are_zero() -> None:
    weights = np.random.default_rng(2).poisson(0.5, (30, 20)).astype(float)
    weights[4], weights[:, 7] = 0, 0
    pairs = csr_array(weights)
    first, again, other = (IALS(pairs, 3, seed=seed, epochs=2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.query_vectors, again.query_vectors)
    assert not np.allclose(first.scores(np.arange(30)), other.scores(np.arange(30)))
    assert (first.scores(np.array([4])) == 0).all() and (first.scores(np.arange(30))[:, 7] == 0).all()


def test_bad_input_is_refused() -> None:
    pairs = csr_array(np.eye(4))
    for wrong, message in (
        ({"dim": 0}, "dim must be at least 1; received 0"),
        ({"epochs": 0}, "epochs must be at least 1; received 0"),
        ({"l2": 0.0}, r"l2 must be positive and finite; received 0\.0"),
        ({"unobserved": -1.0}, r"unobserved must be positive and finite; received -1\.0"),
    ):
        with pytest.raises(SpecError, match=message):
            IALS(pairs, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="query row 1 and candidate row 1 have nan"):
        IALS(csr_array(np.diag([1.0, np.nan])))
    with pytest.raises(DataError, match=r"\[0, 4\); received 4 at position 1"):
        IALS(pairs, 2).rank(np.array([0, 4]), 1)
