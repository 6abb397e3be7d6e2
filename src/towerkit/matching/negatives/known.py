"""Known pairs: which candidates are positives of which query."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_TABLE_CELLS = 1 << 25
"""Up to so many pairs, a byte each, the known ones stand in a table: a look-up costs less than a binary search."""
_LINE = 16
"""Known candidates that fill a line of memory, as a signature does: where queries have fewer, signatures would take more."""


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

    @cached_property
    def signatures(self) -> NDArray[np.uint64]:
        """``[queries + 1, 8]`` 512 bits for each query, see :func:`towerkit.kernels.sampling.sign`; empty beside a table.

        They never take more memory than the pairs themselves, and are empty where they would.
        """
        num_queries = self._pairs.shape[0]
        if self.table is not None or self._pairs.nnz < _LINE * num_queries:
            return np.empty((0, 8), np.uint64)
        from towerkit.kernels.compiled import parts_of, torch_threads  # Numba takes half a second to import
        from towerkit.kernels.sampling import sign_in_parts

        found = np.zeros((num_queries, 8), np.uint64)
        with torch_threads():
            sign_in_parts(parts_of(num_queries), *self.by_query[:2], found)
        return found

    def candidates_of(self, query: int) -> NDArray[np.int64]:
        """The known candidates of one query, ascending."""
        low, high = self._pairs.indptr[query : query + 2]
        return self._pairs.indices[low:high].astype(np.int64)

    def among(
        self, queries: NDArray[np.int64], candidates: NDArray[np.int64], positives: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Which of some shared candidates each query knows.

        Args:
            queries: ``[batch]`` query rows.
            candidates: ``[n]`` candidate rows; one may stand several times.
            positives: ``[batch]`` a candidate row for each that counts as known beside the others.

        Returns:
            ``[batch, n]``.
        """
        if self.table is not None and len(candidates) <= 4 * self.per_query[queries].mean():
            found = self.table.reshape(-1, self.width)[np.ix_(queries, candidates)]  # fewer look-ups than known pairs
            return found if positives is None else found | (candidates == positives[:, None])
        lengths, batch = self.per_query[queries], np.arange(len(queries))
        owner, pairs = np.repeat(batch, lengths), self._pairs.indices[_ranges(self._pairs.indptr[queries], lengths)]
        if positives is not None:
            owner, pairs = np.concatenate([owner, batch]), np.concatenate([pairs, positives])
        order = np.argsort(candidates, kind="stable")
        distinct, starts, counts = np.unique(candidates[order], return_index=True, return_counts=True)
        place = np.zeros(self.width, np.int32)
        place[distinct] = np.arange(1, len(distinct) + 1)
        where = place[pairs]
        owner, where = owner[where > 0], where[where > 0] - 1
        known = np.zeros((len(queries), len(candidates)), bool)
        known[np.repeat(owner, counts[where]), order[_ranges(starts[where], counts[where])]] = True
        return known


def _ranges(starts: NDArray[np.integer], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """``starts[0], starts[0] + 1, …`` so many, then those of ``starts[1]`` and so on."""
    shifts = starts - np.cumsum(lengths) + lengths
    return np.asarray(np.repeat(shifts, lengths) + np.arange(lengths.sum()), np.int64)
