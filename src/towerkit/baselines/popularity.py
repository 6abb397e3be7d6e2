"""The same ranking for everyone: the candidates that most queries had."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError
from towerkit.index.ranker import Ranker


class Popularity(Ranker):
    """Scores a candidate by the number of distinct queries that it was seen with.

    The query rows are not looked at, so that queries without any interaction can be ranked for as well.

    Args:
        interactions: ``[queries, candidates]`` training counts or weights; a zero is no interaction.

    Attributes:
        counts: ``[candidates]`` distinct queries per candidate.

    Raises:
        DataError: If a weight is negative or not finite.

    Example:
        >>> ranker = Popularity(csr_array(np.array([[1, 0, 5], [0, 0, 2]])))
        >>> ranker.rank(np.array([0]), k=2).rows.tolist()
        [[2, 0]]
    """

    exact = True

    def __init__(self, interactions: csr_array) -> None:
        matrix = clean_interactions(interactions)
        self.num_candidates: int = matrix.shape[1]
        self.counts: NDArray[np.int64] = np.bincount(matrix.indices, minlength=self.num_candidates)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """The counts, once per query, as a read-only view."""
        return np.broadcast_to(self.counts.astype(np.float32), (len(queries), self.num_candidates))


def clean_interactions(interactions: csr_array) -> csr_array:
    """A float64 copy with one stored entry per pair and no stored zeros.

    Args:
        interactions: ``[queries, candidates]`` counts or weights; a pair that is stored twice is summed.

    Returns:
        The copy.

    Raises:
        DataError: If a weight is negative or not finite; the message names its row and column.
    """
    matrix: csr_array = csr_array(interactions).astype(np.float64)  # a copy
    wrong = np.flatnonzero(~(np.isfinite(matrix.data) & (matrix.data >= 0)))
    if len(wrong):
        row = int(np.searchsorted(matrix.indptr, wrong[0], side="right")) - 1
        raise DataError(
            f"Interaction weights must be finite and not negative; query row {row} and candidate row "
            f"{matrix.indices[wrong[0]]} have {matrix.data[wrong[0]]}. Drop the pair, or give it the weight 0."
        )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix
