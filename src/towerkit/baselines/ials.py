"""iALS: matrix factorization of implicit feedback by alternating least squares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from towerkit.baselines.base import BaselineSpec, Interactions, clean_interactions
from towerkit.core.errors import SpecError
from towerkit.core.random import generator
from towerkit.index.ranker import Ranker, check_query_rows

_BLOCK_NUMBERS = 2**22
"""Numbers in the largest array of a block of rows that are solved together."""


class IALS(Ranker):
    """Scores a candidate by the product of two vectors, fitted to ones where there was an interaction and zeros elsewhere.

    It minimizes ``sum_ui w_ui (q_u c_i - 1)^2 + unobserved * sum_all (q_u c_i)^2`` plus for each row of either side
    ``l2 * (interactions + unobserved * rows of the other side) ** exponent * |vector|^2``. Each step solves one side exactly.

    Args:
        interactions: ``[queries, candidates]`` training counts or weights ``w``.
        dim: Width of the vectors.
        l2: Penalty; with ``exponent`` 1 it does not depend on the size of the data.
        unobserved: Weight of all pairs towards zero, beside the weight 1 of an interaction towards one. Many candidates
            with few interactions each want less of it.
        exponent: 1 penalizes frequent rows more, 0 all alike.
        epochs: Times that both sides are solved.
        seed: Of the start.

    Attributes:
        query_vectors: ``[queries, dim]``.
        candidate_vectors: ``[candidates, dim]``.

    Raises:
        DataError: If a weight is negative or not finite.
        SpecError: If a setting is out of range.

    Reference: Hu, Koren and Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008; the scaling of the
    penalty: Rendle et al., Revisiting the performance of iALS, RecSys 2022, arXiv 2110.14037.
    """

    exact = True

    def __init__(
        self,
        interactions: csr_array,
        dim: int = 64,
        *,
        l2: float = 0.01,
        unobserved: float = 0.1,
        exponent: float = 1.0,
        epochs: int = 16,
        seed: int = 0,
    ) -> None:
        _check_settings(dim=dim, epochs=epochs, l2=l2, unobserved=unobserved)
        matrix = clean_interactions(interactions)
        transposed = csr_array(matrix.T)
        self.num_queries, self.num_candidates = matrix.shape
        candidates = generator(seed, "ials").standard_normal((self.num_candidates, dim)) * (0.1 / np.sqrt(dim))
        queries = np.zeros((self.num_queries, dim))
        for _ in range(epochs):
            queries = solve_side(matrix, candidates, l2=l2, unobserved=unobserved, exponent=exponent)
            candidates = solve_side(transposed, queries, l2=l2, unobserved=unobserved, exponent=exponent)
        self.query_vectors, self.candidate_vectors = queries.astype(np.float32), candidates.astype(np.float32)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows; one without interactions scores 0 everywhere.

        Raises:
            DataError: If a query row does not exist.
        """
        check_query_rows(queries, self.num_queries)
        return self.query_vectors[queries] @ self.candidate_vectors.T


def solve_side(
    matrix: csr_array, other: NDArray[np.float64], *, l2: float, unobserved: float, exponent: float
) -> NDArray[np.float64]:
    """The best vectors of one side, given those of the other.

    Args:
        matrix: ``[rows, others]`` weights, one stored entry per pair.
        other: ``[others, dim]``.
        l2: As in :class:`IALS`.
        unobserved: As in :class:`IALS`.
        exponent: As in :class:`IALS`.

    Returns:
        ``[rows, dim]``; zeros for a row without interactions.
    """
    dim, counts = other.shape[1], np.diff(matrix.indptr)
    everything = unobserved * (other.T @ other)  # [dim, dim]
    penalty = l2 * (counts + unobserved * len(other)) ** exponent  # [rows]
    found = np.zeros((len(counts), dim))
    for rows in _blocks(counts, dim):
        places = matrix.indptr[rows][:, None] + np.arange(counts[rows[-1]])  # [block, longest]
        inside = places < matrix.indptr[rows + 1][:, None]
        places = np.where(inside, places, 0)
        weights = np.where(inside, matrix.data[places], 0.0)
        vectors = other[matrix.indices[places]]  # [block, longest, dim]
        weighted = vectors * weights[:, :, None]
        system = weighted.transpose(0, 2, 1) @ vectors + everything  # [block, dim, dim]
        system += penalty[rows][:, None, None] * np.eye(dim)
        found[rows] = np.linalg.solve(system, weighted.sum(axis=1)[:, :, None])[:, :, 0]
    return found


def _blocks(counts: NDArray[np.integer], dim: int) -> Iterator[NDArray[np.int64]]:
    """Rows with interactions, shortest first: rows of a block have like lengths, so that little is padded."""
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    start = 0
    while start < len(order):
        most = max(1, _BLOCK_NUMBERS // (dim * max(int(counts[order[start]]), dim)))
        rows = order[start : start + most]
        # A block ends where its longest row, the last one, would make it too large; one row always goes.
        sizes = np.maximum(counts[rows], dim) * dim * np.arange(1, len(rows) + 1)
        rows = rows[: max(1, int(np.searchsorted(sizes, _BLOCK_NUMBERS, side="right")))]
        yield rows
        start += len(rows)


def _check_settings(*, dim: int, epochs: int, l2: float, unobserved: float) -> None:
    for name, value in {"dim": dim, "epochs": epochs}.items():
        if value < 1:
            raise SpecError(f"{name} must be at least 1; received {value}. The defaults are dim 64 and epochs 16.")
    for name, weight in {"l2": l2, "unobserved": unobserved}.items():
        if not 0 < weight < np.inf:
            raise SpecError(f"{name} must be positive and finite; received {weight}. The usual range is 0.001 to 1.")


class IALSSpec(BaselineSpec):
    """Matrix factorization by alternating least squares, exact and without a learning rate."""

    kind: Literal["ials"] = "ials"
    dim: int = Field(64, ge=1, le=4096)
    l2: float = Field(0.01, gt=0.0)
    """Penalty, per interaction where ``exponent`` is 1."""
    unobserved: float = Field(0.1, gt=0.0)
    """Weight of all pairs towards zero, beside the weight 1 of an interaction."""
    exponent: float = Field(1.0, ge=0.0, le=2.0)
    """How the penalty grows with a row's interactions."""
    epochs: int = Field(16, ge=1)
    seed: int = Field(0, ge=0)

    def build(self, interactions: Interactions) -> IALS:
        """Alternate."""
        return IALS(
            interactions.matrix,
            self.dim,
            l2=self.l2,
            unobserved=self.unobserved,
            exponent=self.exponent,
            epochs=self.epochs,
            seed=self.seed,
        )
