"""The same ranking for everyone: the candidates that most queries had."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines.base import BaselineSpec, Interactions, clean_interactions
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
        matrix = interactions if _is_plain(interactions) else clean_interactions(interactions)
        self.num_candidates: int = matrix.shape[1]
        self.counts: NDArray[np.int64] = np.zeros(self.num_candidates, np.int64)
        for start in range(0, matrix.nnz, _CHUNK):
            self.counts += np.bincount(matrix.indices[start : start + _CHUNK], minlength=self.num_candidates)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """The counts, once per query, as a read-only view."""
        return np.broadcast_to(self.counts.astype(np.float32), (len(queries), self.num_candidates))


_CHUNK = 1 << 22


def _is_plain(interactions: csr_array) -> bool:
    """Whether every stored pair stands once and counts, so that many pairs need not be copied to be counted."""
    data = interactions.data
    counts = all(np.all(np.isfinite(part) & (part > 0)) for part in np.array_split(data, 1 + len(data) // _CHUNK))
    return isinstance(interactions, csr_array) and counts and bool(interactions.has_canonical_format)


class PopularitySpec(BaselineSpec):
    """Candidates by the number of distinct queries that had them."""

    kind: Literal["popularity"] = "popularity"

    def build(self, interactions: Interactions) -> Popularity:
        """Count."""
        return Popularity(interactions.matrix)
