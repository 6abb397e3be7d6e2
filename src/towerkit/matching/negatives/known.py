"""Known pairs: which candidates are positives of which query."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_TABLE_CELLS = 1 << 25
"""Up to so many pairs, a byte each, the known ones stand in a table: a look-up costs less than a binary search."""


class KnownPairs:
    """Answers, for many pairs at once, whether a pair is a known positive.

    Args:
        pairs: ``[queries + 1, candidates + 1]`` by row, one entry of any value for each known pair; row 0 is the
            unknown query. Its arrays may lie on disk: they are looked at where they are.
    """

    def __init__(self, pairs: csr_array) -> None:
        self._pairs = pairs if pairs.has_sorted_indices else pairs.sorted_indices()
        self.width = pairs.shape[1]
        self.per_query: NDArray[np.int64] = np.diff(pairs.indptr).astype(np.int64)
        self.table: NDArray[np.bool_] | None = None
        if pairs.shape[0] * self.width <= _TABLE_CELLS:
            self.table = np.zeros(pairs.shape[0] * self.width, bool)
            self.table[self.sorted] = True

    @cached_property
    def matrix(self) -> csr_array:
        """``[queries + 1, candidates + 1]`` a one for each known pair."""
        own = self._pairs
        return csr_array((np.ones(own.nnz, np.float32), own.indices, own.indptr), shape=own.shape)

    @cached_property
    def sorted(self) -> NDArray[np.int64]:
        """``[pairs]`` each as one number, ascending."""
        rows = np.repeat(np.arange(self._pairs.shape[0], dtype=np.int64), self.per_query)
        return rows * self.width + self._pairs.indices

    def contains(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each pair of rows is known; the arrays may broadcast."""
        pairs = queries * self.width + candidates
        if self.table is not None:
            return self.table[pairs]
        if not len(self.sorted):
            return np.zeros(pairs.shape, bool)
        found = np.minimum(np.searchsorted(self.sorted, pairs), len(self.sorted) - 1)
        return np.asarray(self.sorted[found] == pairs)

    @cached_property
    def by_query(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
        """``[queries + 1]`` where the known candidates of each query begin; all of them, ascending for each query; and the
        same as a table ``[queries, candidates + 1]``, empty where it would be large."""
        table = np.empty((0, 0), np.bool_) if self.table is None else self.table.reshape(-1, self.width)
        narrow = self._pairs.indices.astype(np.int32, copy=False)  # one sort of array: kernels are compiled once
        return self._pairs.indptr.astype(np.int64), narrow, table

    def candidates_of(self, query: int) -> NDArray[np.int64]:
        """The known candidates of one query, ascending."""
        low, high = self._pairs.indptr[query : query + 2]
        return self._pairs.indices[low:high].astype(np.int64)

    def among(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some shared candidates each query knows.

        Args:
            queries: ``[batch]`` query rows.
            candidates: ``[n]`` candidate rows; one may stand several times.

        Returns:
            ``[batch, n]``.
        """
        if self.table is not None and len(candidates) <= 4 * self.per_query[queries].mean():
            return self.table.reshape(-1, self.width)[np.ix_(queries, candidates)]  # fewer look-ups than known pairs
        distinct, inverse = np.unique(candidates, return_inverse=True)
        place = np.full(self.width, -1, np.int64)
        place[distinct] = np.arange(len(distinct))
        slices = self.matrix[queries]
        owner = np.repeat(np.arange(len(queries)), np.diff(slices.indptr))
        where = place[slices.indices]
        known = np.zeros((len(queries), len(distinct)), bool)
        known[owner[where >= 0], where[where >= 0]] = True
        return known[:, inverse]
