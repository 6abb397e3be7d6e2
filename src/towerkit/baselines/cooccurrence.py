"""Co-occurrence: a candidate scores by how often queries met it together with what this query met."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from towerkit.baselines.base import BaselineSpec, Interactions, clean_interactions
from towerkit.core.errors import SpecError
from towerkit.index.ranker import Ranker, check_query_rows

_DENSE = 0.1
"""From this share of filled places on, the weights are held whole: a product with them is then faster."""
_BYTES = 12
"""Of an entry while the weights are made."""


class Cooccurrence(Ranker):
    """Scores a candidate by ``x W``, where ``W`` counts for each two candidates the queries that met both.

    With ``n`` the pairs of a query and ``m`` those of a candidate, the weight from ``i`` to ``j`` is
    ``m_i^-s sum_v n_v^-q m_j^-c`` over the queries ``v`` that met both, and 0 from a candidate to itself. All candidates that
    were ever met together count, not the nearest alone. With exponents 1, 1/2 and 1/2 it is the linear filter of a graph.

    Args:
        interactions: ``[queries, candidates]``; every pair counts once, whatever its weight.
        query_exponent: ``q``: how much less a query with many pairs says.
        source_exponent: ``s``: how much less a popular candidate says of the query that met it.
        candidate_exponent: ``c``: how much less a popular candidate is answered; 0 favors popular ones, as counts do.
        counts: What :func:`together` gave for these interactions and this ``query_exponent``, where it is at hand.

    Raises:
        DataError: If a weight is negative or not finite.
        SpecError: If an exponent is below 0 or above 4.

    Reference: Shen et al., How powerful is graph convolution for recommendation?, CIKM 2021 (arXiv 2108.07567), for the filter;
        Steck, Markov random fields for collaborative filtering, NeurIPS 2019 (arXiv 1910.09645), for exponents of popularity.
    """

    exact = True

    def __init__(
        self,
        interactions: csr_array,
        *,
        query_exponent: float = 0.7,
        source_exponent: float = 0.8,
        candidate_exponent: float = 0.2,
        counts: csr_array | None = None,
    ) -> None:
        exponents = {"query": query_exponent, "source": source_exponent, "candidate": candidate_exponent}
        for name, value in exponents.items():
            if not 0 <= value <= 4:
                raise SpecError(f"{name}_exponent must be in [0, 4]; received {value}. The usual range is 0 to 1.")
        matrix = clean_interactions(interactions)
        matrix.data[:] = 1.0
        self.num_queries, self.num_candidates = matrix.shape
        self._interactions = matrix.astype(np.float32)
        self._exponents, self._together = (query_exponent, source_exponent, candidate_exponent), counts

    @cached_property
    def weights(self) -> csr_array | NDArray[np.float32]:
        """Made when they are first needed: they are many times as large as the pairs."""
        query, source, candidate = self._exponents
        if self._together is None:
            self._together = together(self._interactions, query)
        found, self._together = self._together, None
        met = np.maximum(np.bincount(self._interactions.indices, minlength=self.num_candidates), 1.0)
        rows = np.repeat(np.arange(len(met)), np.diff(found.indptr))
        values = (met**-source).astype(np.float32)[rows]
        values *= (met**-candidate).astype(np.float32)[found.indices]
        values *= found.data
        values[rows == found.indices] = 0.0
        weighed = csr_array((values, found.indices, found.indptr), shape=found.shape)
        if found.nnz <= _DENSE * len(met) ** 2:
            return weighed
        return np.asarray(weighed.toarray(), np.float32)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows; one without interactions scores 0 everywhere.

        Raises:
            DataError: If a query row does not exist.
        """
        from towerkit.kernels.sparse import rows_of_product  # Numba takes half a second to import

        check_query_rows(queries, self.num_queries)
        own, weights = csr_array(self._interactions[queries]), self.weights
        if isinstance(weights, csr_array):
            return rows_of_product(own, weights)
        scores: NDArray[np.float32] = own @ weights
        return scores


def together(pairs: csr_array, query_exponent: float) -> csr_array:
    """How often two candidates were met by the same query, a query with many pairs counting less.

    Args:
        pairs: ``[queries, candidates]``; every stored entry counts once.
        query_exponent: A query of ``n`` pairs counts ``n ** -query_exponent``.

    Returns:
        ``[candidates, candidates]``.

    Example:
        >>> together(csr_array(np.array([[1.0, 1.0], [0.0, 1.0]])), 1.0).toarray().tolist()
        [[0.5, 0.5], [0.5, 1.5]]
    """
    own = np.diff(pairs.indptr)
    values = np.repeat(np.maximum(own, 1.0) ** -query_exponent, own).astype(np.float32)
    weighed = csr_array((values, pairs.indices, pairs.indptr), shape=pairs.shape)
    ones = csr_array((np.ones(pairs.nnz, np.float32), pairs.indices, pairs.indptr), shape=pairs.shape)
    return csr_array(csr_array(ones.T) @ weighed)


def too_many(interactions: csr_array, max_pairs: int, memory_gb: float) -> str | None:
    """Why there are too many pairs of candidates to count; None where there are not.

    Args:
        interactions: ``[queries, candidates]``.
        max_pairs: Pairs, query by query, that may be looked at.
        memory_gb: What the weights may take.

    Example:
        >>> too_many(csr_array(np.ones((2, 3))), 18, 4.0) is None
        True
        >>> too_many(csr_array(np.ones((2, 3))), 10, 4.0)
        'would count 18 pairs of candidates, more than max_pairs 10'
    """
    each = np.diff(interactions.indptr).astype(np.int64)
    pairs = int((each * each).sum())
    if pairs > max_pairs:
        return f"would count {pairs:,} pairs of candidates, more than max_pairs {max_pairs:,}"
    needed = _BYTES * min(pairs, interactions.shape[1] ** 2) / 1e9
    if needed > memory_gb:
        return (
            f"needs up to {needed:.1f} GB for the weights of its candidates, and may use {memory_gb:g} GB (memory_gb)"
        )
    return None


class CooccurrenceSpec(BaselineSpec):
    """All that was met together counts: the linear filter of the graph of pairs, with exponents of popularity."""

    kind: Literal["cooccurrence"] = "cooccurrence"
    query_exponent: float = Field(0.7, ge=0.0, le=4.0)
    """How much less a query with many pairs says of what goes together."""
    source_exponent: float = Field(0.8, ge=0.0, le=4.0)
    """How much less a popular candidate says of the query that met it."""
    candidate_exponent: float = Field(0.2, ge=0.0, le=4.0)
    """How much less a popular candidate is answered."""
    max_pairs: int = Field(3_000_000_000, ge=1)
    """Left out where more pairs than these would be counted: about a minute of work."""
    memory_gb: float = Field(4.0, gt=0.0)
    """What the weights may take; where that is too little it is left out."""

    def obstacle(self, interactions: Interactions) -> str | None:
        """Too many pairs, or too many candidates that go together."""
        return too_many(interactions.matrix, self.max_pairs, self.memory_gb)

    def build(self, interactions: Interactions) -> Cooccurrence:
        """Keep the pairs; they are counted when first asked."""
        return Cooccurrence(
            interactions.matrix,
            query_exponent=self.query_exponent,
            source_exponent=self.source_exponent,
            candidate_exponent=self.candidate_exponent,
        )
