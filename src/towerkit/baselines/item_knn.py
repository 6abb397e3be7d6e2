"""Item neighbors: a candidate scores by its cosine with what the query already had."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array, eye_array

from towerkit.baselines.base import BaselineSpec, Interactions, clean_interactions
from towerkit.core.errors import SpecError
from towerkit.index.ranker import Ranker, check_query_rows


class ItemKNN(Ranker):
    """Scores a candidate by the summed similarity to the query's candidates whose neighbor it is.

    Two candidates are as similar as the cosine of their columns of ``interactions``. Each keeps its most similar
    neighbors, never itself and never one without a common query. A candidate that is nobody's neighbor scores 0.

    Args:
        interactions: ``[queries, candidates]`` training counts or weights.
        neighbors: Neighbors kept per candidate; ties follow the fixed order of the ranker.
        shrink: Added to the product of the lengths; larger values trust rare pairs less.

    Attributes:
        similarity: ``[candidates, candidates]``; row ``j`` holds the neighbors of candidate ``j``.

    Raises:
        DataError: If a weight is negative or not finite.
        SpecError: If ``neighbors`` is below 1 or ``shrink`` is negative.

    Reference: Deshpande and Karypis, Item-based top-N recommendation algorithms, ACM TOIS 2004.
    """

    exact = True

    def __init__(self, interactions: csr_array, neighbors: int = 100, shrink: float = 0.0) -> None:
        if neighbors < 1:
            raise SpecError(f"neighbors must be at least 1; received {neighbors}. The usual range is 20 to 200.")
        if not 0 <= shrink < np.inf:
            raise SpecError(f"shrink must be finite and not negative; received {shrink}. 0 turns it off.")
        matrix = clean_interactions(interactions)
        self.num_queries, self.num_candidates = matrix.shape
        self._interactions = matrix.astype(np.float32)
        self.similarity = _nearest(_ColumnCosine(matrix, shrink), neighbors)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows.

        Raises:
            DataError: If a query row does not exist.
        """
        check_query_rows(queries, self.num_queries)
        scores: NDArray[np.float32] = (self._interactions[queries] @ self.similarity).toarray()
        return scores


class _ColumnCosine(Ranker):
    """Ranks columns by their cosine with a column: neighbors come from the exact ranker, with its chunks and ties."""

    exact = True

    def __init__(self, matrix: csr_array, shrink: float) -> None:
        self.num_candidates = matrix.shape[1]
        self._shrink = shrink
        lengths = np.sqrt(np.bincount(matrix.indices, matrix.data**2, minlength=self.num_candidates))
        self._lengths = np.maximum(lengths, np.finfo(np.float64).tiny)
        self._matrix = matrix
        self._columns = csr_array(matrix.T)  # one row per candidate

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosines; minus infinity where two columns share no row."""
        products = self._columns[queries] @ self._matrix
        positions = np.repeat(np.arange(len(queries)), np.diff(products.indptr))
        lengths = self._lengths[queries][positions] * self._lengths[products.indices]
        block = np.full((len(queries), self.num_candidates), -np.inf, dtype=np.float32)
        block[positions, products.indices] = products.data / (lengths + self._shrink)
        return block


def _nearest(cosine: _ColumnCosine, neighbors: int) -> csr_array:
    """The similarity matrix with the nearest ``neighbors`` of each row, itself left out."""
    num_candidates = cosine.num_candidates
    itself = csr_array(eye_array(num_candidates, format="csr"))
    hits = cosine.rank(np.arange(num_candidates), min(neighbors, max(num_candidates, 1)), exclude=itself)
    kept = hits.rows >= 0
    pointers = np.concatenate([[0], np.cumsum(hits.counts)])
    return csr_array((hits.scores[kept], hits.rows[kept], pointers), shape=(num_candidates, num_candidates))


class ItemKNNSpec(BaselineSpec):
    """Cosine neighbors of what the query had."""

    kind: Literal["item_knn"] = "item_knn"
    neighbors: int = Field(100, ge=1)
    """Kept per candidate."""
    shrink: float = Field(0.0, ge=0.0)
    """Added to the product of the lengths: larger values trust rare pairs less."""
    max_pairs: int = Field(5_000_000_000, ge=1)
    """Left out where more pairs than these would be compared: some minutes of work."""

    def obstacle(self, interactions: Interactions) -> str | None:
        """Too many pairs: of candidates with each other, or of what long queries had with itself."""
        each = np.diff(interactions.matrix.indptr).astype(np.int64)
        pairs = max(interactions.matrix.shape[1] ** 2, int((each * each).sum()))
        if pairs <= self.max_pairs:
            return None
        longest = f"the longest query has {int(each.max()):,} of the {interactions.matrix.shape[1]:,} candidates"
        return f"would compare {pairs:,} pairs ({longest}), more than max_pairs {self.max_pairs:,}"

    def build(self, interactions: Interactions) -> ItemKNN:
        """Find the neighbors."""
        return ItemKNN(interactions.matrix, self.neighbors, self.shrink)
