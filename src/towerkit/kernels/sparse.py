"""A sparse matrix times a dense or a sparse one, both cores at it: rows of the first in parallel, those of the other read whole."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.kernels.compiled import compiled, torch_threads

_PARTS = 256
"""Stretches of rows with about as many stored entries each: a few popular rows shall not keep one thread waiting for another."""
_WORTH_IT = 2_000_000
"""Multiplications below which SciPy's loop is done before a kernel is even loaded."""


class SparseRows:
    """A sparse matrix laid out for products with wide dense ones.

    Args:
        matrix: ``[rows, columns]``; its values are taken as float32.
    """

    def __init__(self, matrix: csr_array) -> None:
        self.matrix = csr_array(matrix.astype(np.float32))
        shares = np.searchsorted(self.matrix.indptr, np.linspace(0, self.matrix.nnz, _PARTS + 1))
        shares[[0, -1]] = 0, matrix.shape[0]
        self._starts = shares.astype(np.int64)
        self._indptr, self._indices = self.matrix.indptr.astype(np.int64), self.matrix.indices.astype(np.int32)

    def times(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product.

        Args:
            dense: ``[columns, dim]``.

        Returns:
            ``[rows, dim]``; the same bits for any number of threads.
        """
        dense = np.ascontiguousarray(dense, np.float32)
        if self.matrix.nnz * dense.shape[1] < _WORTH_IT:
            return np.asarray(self.matrix @ dense)
        out = np.empty((self.matrix.shape[0], dense.shape[1]), np.float32)
        with torch_threads():
            rows_times_dense(self._starts, self._indptr, self._indices, self.matrix.data, dense, out)
        return out


@compiled(parallel=True)
def rows_times_dense(
    starts: NDArray[np.int64],
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    dense: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """``out[r] = sum_e values[e] * dense[indices[e]]`` over the entries ``e`` of row ``r``, in their stored order.

    Args:
        starts: ``[parts + 1]`` rows at which the parts begin, ascending; the last one is the number of rows.
        indptr: ``[rows + 1]`` where the entries of each row begin.
        indices: ``[entries]`` columns.
        values: ``[entries]``.
        dense: ``[columns, dim]``.
        out: ``[rows, dim]``, written.
    """
    for part in numba.prange(len(starts) - 1):
        for row in range(starts[part], starts[part + 1]):
            total = out[row]
            total[:] = 0
            for entry in range(indptr[row], indptr[row + 1]):
                value, vector = values[entry], dense[indices[entry]]
                for place in range(len(vector)):
                    total[place] += value * vector[place]


def rows_of_product(left: csr_array, right: csr_array) -> NDArray[np.float32]:
    """``left @ right`` as a dense array, without a sparse one in between.

    Args:
        left: ``[rows, inner]`` float32.
        right: ``[inner, columns]`` float32.

    Returns:
        ``[rows, columns]``; the same bits for any number of threads and any choice of rows.
    """
    out = np.zeros((left.shape[0], right.shape[1]), np.float32)
    work = int(np.diff(right.indptr)[left.indices].sum())
    multiply = rows_times_rows if work >= _WORTH_IT else _rows_times_rows
    with torch_threads():
        multiply(left.indptr, left.indices, left.data, right.indptr, right.indices, right.data, out)
    return out


def _rows_times_rows(
    indptr: NDArray[np.integer],
    indices: NDArray[np.integer],
    values: NDArray[np.float32],
    others: NDArray[np.integer],
    columns: NDArray[np.integer],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """:func:`rows_times_rows` for little work: each row of the right side is added at once, in the same order."""
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            its = slice(others[indices[entry]], others[indices[entry] + 1])
            out[row, columns[its]] += values[entry] * weights[its]  # a column stands once in a row


@compiled(parallel=True, exact=True)
def rows_times_rows(
    indptr: NDArray[np.integer],
    indices: NDArray[np.integer],
    values: NDArray[np.float32],
    others: NDArray[np.integer],
    columns: NDArray[np.integer],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """``out[r] += sum_e values[e] * W[indices[e]]`` over the entries ``e`` of row ``r``, in their stored order.

    Args:
        indptr: ``[rows + 1]`` where the entries of each row begin.
        indices: ``[entries]`` rows of ``W``.
        values: ``[entries]``.
        others: ``[inner + 1]`` where the entries of each row of ``W`` begin.
        columns: ``[entries of W]``.
        weights: ``[entries of W]``.
        out: ``[rows, columns]``, added to.
    """
    for row in numba.prange(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            value, inner = values[entry], indices[entry]
            for place in range(others[inner], others[inner + 1]):
                out[row, columns[place]] += value * weights[place]
